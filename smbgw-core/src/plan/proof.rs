// SPDX-License-Identifier: MIT OR Apache-2.0
//! The proof: a throw-away account logs in inside the place, over loopback, and makes a file round trip. It must not know how the share
//! came about.
use super::accounts::{self, PROBE_COMMENT, PROBE_USER};
use super::common::{Steps, entry, record};
use super::directory::krb5_conf;
use super::samba;
use super::step::{Effect, Seen, Step, Undo, Watch};
use crate::effect::{FileSpec, Program};
use crate::error::Result;
use crate::facts::{Facts, PassdbUser, UnixUser};
use crate::spec::ShareSpec;
use crate::spec::record::{Key, Member, ShareState};

/// Name of the file that the proof writes into the share.
pub const PROBE_FILE: &str = ".smbgw-probe";
/// Name of the secret that holds the probe account's password.
pub const PROBE_SECRET: &str = "probe";

/// Proves a share, and records that it is ready.
///
/// In a domain it needs a domain controller. With `serves` the share was proven before, and one that is away stops no change.
pub fn proof(spec: &ShareSpec, serves: bool, facts: &Facts) -> Steps {
    let id = spec.id.as_str();
    let mut entry = entry(facts, id)?.clone();
    let mut steps = Vec::new();
    // A share that left this node is not served here: there is nothing to prove.
    let served = !spec.disabled && spec.node.as_str() == facts.node && samba::tree_holds(spec, &entry.tree, facts).is_ok();
    if served {
        steps.extend(match record(facts)?.member.as_ref().filter(|m| m.is_joined()) {
            Some(m) => by_ticket(spec, m, serves, facts),
            None => by_account(spec, entry.gid, facts)?,
        });
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

/// The file round trip of a client that says by `words` who it is.
fn round_trip(spec: &ShareSpec, server: &str, words: &[&str], may_wait: bool, facts: &Facts) -> Step {
    let dir = facts.paths.run_dir.join("probe");
    let (source, copy) = (dir.join("source"), dir.join("copy"));
    let port = facts.effective.global.get("smb ports").and_then(|p| p.split([' ', ',']).find(|w| !w.is_empty())).unwrap_or("445");
    let commands =
        format!("put \"{}\" {PROBE_FILE}; get {PROBE_FILE} \"{}\"; del {PROBE_FILE}", source.display(), copy.display());
    let unc = format!("//{server}/{}", spec.share);
    let words = [&[unc.as_str()], words, &["-m", "SMB3_11", "-p", port, "-t", "10", "-c", &commands]].concat();
    // 1: a refusal, which the check words better.
    let client = accounts::samba(facts, Program::Smbclient, &words).within_ms(15_000).also_ok(&[1]);
    let client = if facts.directory.is_some() { client.krb5_config(krb5_conf(&facts.paths)) } else { client };
    let client = if may_wait { client.may_be_silent() } else { client };
    let content = format!("smbgw proof of share {}\n", spec.id);
    let source = FileSpec { path: source, content, mode: 0o600, uid: 0, gid: 0 };
    Step::new(
        "proof/round-trip",
        format!("log in to [{}], write, read back, remove", spec.share),
        Watch::InTree(samba::served_path(spec), PROBE_FILE.into()),
        Effect::RoundTrip { client, source, copy, may_wait },
    )
    .undo(Undo::Restore)
}

/// In a domain the gateway's own computer account logs in to it, with a ticket: no account is made, and Kerberos is proven too.
fn by_ticket(spec: &ShareSpec, member: &Member, serves: bool, facts: &Facts) -> Vec<Step> {
    vec![round_trip(spec, &member.host(), &["-I", "127.0.0.1", "--machine-pass", "--use-kerberos=required"], serves, facts)]
}

/// A throw-away local account logs in.
fn by_account(spec: &ShareSpec, gid: u32, facts: &Facts) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let probe = record(facts)?.probe_uid();
    let auth = facts.paths.run_dir.join("probe").join("auth");
    let title = "make the probe account".into();
    steps.extend(accounts::add_user(facts, "proof/account", title, PROBE_USER, probe, gid, PROBE_COMMENT)?);
    if !facts.passdb.contains_key(PROBE_USER) {
        let title = "give it a random password".into();
        steps.push(accounts::add_samba_user(facts, "proof/password", title, PROBE_USER, probe, PROBE_SECRET));
    }
    let credentials = Effect::WriteCredentials { path: auth.clone(), user: PROBE_USER.into(), secret: PROBE_SECRET.into() };
    steps.push(
        Step::new("proof/credentials", "write its credentials for the client", Watch::File(auth.clone()), credentials)
            .undo(Undo::Do(vec![Effect::Remove(auth.clone())])),
    );
    steps.push(round_trip(spec, "127.0.0.1", &["-A", &auth.display().to_string()], false, facts));
    steps.push(
        Step::new("proof/forget", "remove the credentials", Watch::File(auth.clone()), Effect::Remove(auth))
            .want(Seen::Absent)
            .undo(Undo::None("the credentials are of no use".into())),
    );
    // The account is there by now, whatever the facts of this phase's begin say.
    let mut later = facts.clone();
    later.users.insert(PROBE_USER.into(), UnixUser { uid: probe, gid, comment: PROBE_COMMENT.into() });
    later.passdb.insert(PROBE_USER.into(), PassdbUser { disabled: false, changed: String::new() });
    let gone = Undo::None("the probe account is not wanted back".into());
    let title = "remove the probe account from passdb".into();
    steps.extend(accounts::remove_samba_user(&later, "proof/password-gone", title, PROBE_USER).map(|s| s.undo(gone.clone())));
    let title = "remove the probe account".into();
    steps.extend(accounts::remove_user(&later, "proof/account-gone", title, PROBE_USER, probe).map(|s| s.undo(gone)));
    Ok(steps)
}

/// Proves every share of a gateway, whose place was just replaced.
pub fn all(facts: &Facts) -> Steps {
    let r = record(facts)?;
    let (mut steps, mut warnings) = (Vec::new(), Vec::new());
    for (id, e) in r.shares.iter().filter(|(_, e)| e.state != ShareState::Deleting) {
        let (more, words) = proof(&samba::spec_of(id, e, r)?, false, facts)?;
        steps.extend(more.into_iter().map(|mut s| {
            s.id = format!("{}.{id}", s.id);
            s
        }));
        warnings.extend(words);
    }
    Ok((steps, warnings))
}
