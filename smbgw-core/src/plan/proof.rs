// SPDX-License-Identifier: MIT OR Apache-2.0
//! The proof: a throw-away account logs in inside the place, over loopback, and makes a file round trip. It must not know how the share
//! came about.
use super::accounts::{self, PROBE_COMMENT, PROBE_USER};
use super::common::{Steps, entry, record};
use super::samba;
use super::step::{Effect, Seen, Step, Undo, Watch};
use crate::effect::{FileSpec, Program};
use crate::facts::{Facts, PassdbUser, UnixUser};
use crate::spec::ShareSpec;
use crate::spec::record::{Key, ShareState};

/// Name of the file that the proof writes into the share.
pub const PROBE_FILE: &str = ".smbgw-probe";
/// Name of the secret that holds the probe account's password.
pub const PROBE_SECRET: &str = "probe";

/// Proves a share, and records that it is ready.
pub fn proof(spec: &ShareSpec, facts: &Facts) -> Steps {
    let id = spec.id.as_str();
    let mut entry = entry(facts, id)?.clone();
    let mut steps = Vec::new();
    let probe = record(facts)?.probe_uid();
    // A share that left this node is not served here: there is nothing to prove.
    let served = !spec.disabled && spec.node.as_str() == facts.node && samba::tree_holds(spec, &entry.tree, facts).is_ok();
    if served {
        let dir = facts.paths.run_dir.join("probe");
        let (auth, source, copy) = (dir.join("auth"), dir.join("source"), dir.join("copy"));
        steps.extend(accounts::add_user(
            facts,
            "proof/account",
            "make the probe account".into(),
            PROBE_USER,
            probe,
            entry.gid,
            PROBE_COMMENT,
        )?);
        if !facts.passdb.contains_key(PROBE_USER) {
            steps.push(accounts::add_samba_user(
                facts,
                "proof/password",
                "give it a random password".into(),
                PROBE_USER,
                probe,
                PROBE_SECRET,
            ));
        }
        let credentials = Effect::WriteCredentials { path: auth.clone(), user: PROBE_USER.into(), secret: PROBE_SECRET.into() };
        steps.push(
            Step::new("proof/credentials", "write its credentials for the client", Watch::File(auth.clone()), credentials)
                .undo(Undo::Do(vec![Effect::Remove(auth.clone())])),
        );
        let port =
            facts.effective.global.get("smb ports").and_then(|p| p.split([' ', ',']).find(|w| !w.is_empty())).unwrap_or("445");
        let commands =
            format!("put \"{}\" {PROBE_FILE}; get {PROBE_FILE} \"{}\"; del {PROBE_FILE}", source.display(), copy.display());
        let unc = format!("//127.0.0.1/{}", spec.share);
        let client = accounts::samba(
            facts,
            Program::Smbclient,
            &[&unc, "-A", &auth.display().to_string(), "-m", "SMB3_11", "-p", port, "-t", "10", "-c", &commands],
        )
        .within_ms(15_000)
        // 1: a refusal, which the check words better.
        .also_ok(&[1]);
        let source = FileSpec { path: source, content: format!("smbgw proof of share {id}\n"), mode: 0o600, uid: 0, gid: 0 };
        steps.push(
            Step::new(
                "proof/round-trip",
                format!("log in to [{}], write, read back, remove", spec.share),
                Watch::InTree(samba::served_path(spec), PROBE_FILE.into()),
                Effect::RoundTrip { client, source, copy },
            )
            .undo(Undo::Restore),
        );
        steps.push(
            Step::new("proof/forget", "remove the credentials", Watch::File(auth.clone()), Effect::Remove(auth))
                .want(Seen::Absent)
                .undo(Undo::None("the credentials are of no use".into())),
        );
        // The account is there by now, whatever the facts of this phase's begin say.
        let mut later = facts.clone();
        later.users.insert(PROBE_USER.into(), UnixUser { uid: probe, gid: entry.gid, comment: PROBE_COMMENT.into() });
        later.passdb.insert(PROBE_USER.into(), PassdbUser { disabled: false, changed: String::new() });
        let gone = Undo::None("the probe account is not wanted back".into());
        steps.extend(
            accounts::remove_samba_user(&later, "proof/password-gone", "remove the probe account from passdb".into(), PROBE_USER)
                .map(|s| s.undo(gone.clone())),
        );
        steps.extend(
            accounts::remove_user(&later, "proof/account-gone", "remove the probe account".into(), PROBE_USER, probe)
                .map(|s| s.undo(gone)),
        );
    }
    entry.state = ShareState::Ready;
    steps.push(accounts::record(
        "proof/ready",
        format!("record that share {id} is ready"),
        Key::Share(id.into()),
        serde_json::to_value(&entry).ok(),
    ));
    Ok((steps, Vec::new()))
}

/// Proves every share of a gateway, whose place was just replaced.
pub fn all(facts: &Facts) -> Steps {
    let r = record(facts)?;
    let (mut steps, mut warnings) = (Vec::new(), Vec::new());
    for (id, e) in r.shares.iter().filter(|(_, e)| e.state != ShareState::Deleting) {
        let (more, words) = proof(&samba::spec_of(id, e, r)?, facts)?;
        steps.extend(more.into_iter().map(|mut s| {
            s.id = format!("{}.{id}", s.id);
            s
        }));
        warnings.extend(words);
    }
    Ok((steps, warnings))
}
