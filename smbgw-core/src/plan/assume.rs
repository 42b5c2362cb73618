// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looking ahead: facts as if a step had been done, so that the next phase can be planned without doing it.

use super::common::record_or_new;
use super::step::{Effect, Joining, Seen, Step, Watch};
use super::{samba, template};
use crate::effect::{Cmd, Daemon, Place, Program};
use crate::error::Result;
use crate::facts::{ConfFile, Facts, GuestSeen, PassdbUser, UnixGroup, UnixUser};
use crate::format::guest_conf::GuestConf;
use crate::spec::Security;
use crate::spec::record::{Key, KnownAccount, MemberState};
use crate::types::{DomainAccount, VmId, sha256_hex};

/// Changes facts as if a step had been done.
pub fn assume(facts: &mut Facts, step: &Step) -> Result<()> {
    match &step.effect {
        Effect::NewRecord => facts.record = Some(record_or_new(facts)),
        Effect::Record(key, value) => {
            if let Some(r) = facts.record.as_mut() {
                r.set_part(key, value.as_ref())?;
                if let (Key::Vmid, Some(v)) = (key, r.vmid) {
                    facts.place = Place::Ct(v);
                }
            }
        }
        Effect::CreateGuest { vmid, cmd } => {
            let mut conf = GuestConf::default();
            for pair in cmd.args[2..].chunks(2) {
                if let (Some(key), Some(value)) = (pair[0].strip_prefix("--"), pair.get(1)) {
                    conf.values.insert(key.to_owned(), value.clone());
                }
            }
            let node = facts.node.clone();
            if let Some(g) = facts.guest.as_mut() {
                g.used.insert(*vmid, node);
                g.here.insert(*vmid, GuestSeen { conf, running: false, hand: Ok(()) });
            }
            // Nothing of what was seen in the one before is in it.
            (facts.main, facts.own, facts.reachable, facts.smbd_running) = (None, None, false, false);
            (facts.users, facts.groups, facts.passdb) = Default::default();
            (facts.acls, facts.effective) = Default::default();
        }
        Effect::OnGuest { vmid, cmd, .. } => on_guest(facts, *vmid, cmd),
        Effect::AwaitBoot => booted(facts),
        Effect::Write(file) => {
            let conf = ConfFile {
                text: file.content.clone(),
                sha256: sha256_hex(file.content.as_bytes()),
                mode: file.mode,
                uid: file.uid,
                gid: file.gid,
            };
            if file.path == facts.paths.own_conf {
                facts.own = Some(conf);
            } else if file.path == facts.paths.smb_conf {
                facts.main = Some(conf);
            }
        }
        Effect::Remove(path) if *path == facts.paths.own_conf => facts.own = None,
        Effect::StartDaemon { daemon, .. } => daemon_runs(facts, *daemon, true),
        Effect::StopDaemon { daemon, .. } => daemon_runs(facts, *daemon, false),
        Effect::SetTree { path, uid, gid, mode, .. } => {
            if let Some(Ok(t)) = facts.trees.get_mut(path) {
                t.owner = crate::spec::record::TreeOwner { uid: *uid, gid: *gid, mode: *mode };
            }
        }
        Effect::SetQuota { path, limit, .. } => {
            if let Some(q) = facts.trees.get_mut(path).and_then(|t| t.as_mut().ok()).and_then(|t| t.quota.as_mut()) {
                q.limit = *limit;
            }
        }
        Effect::FindDomain(j) => found(facts, j)?,
        Effect::Join(_) => {
            if let Some(m) = facts.record.as_mut().and_then(|r| r.member.as_mut()) {
                (m.state, m.sid) = (MemberState::Joined, Some(ANY_SID.to_owned()));
            }
        }
        Effect::KnowAccounts(list) => {
            let known = |(account, group): &(DomainAccount, bool)| {
                (account.folded(), KnownAccount { account: account.clone(), sid: ANY_SID.to_owned(), group: *group })
            };
            facts.record.iter_mut().for_each(|r| r.accounts.extend(list.iter().map(known)));
        }
        _ => assume_account(facts, step),
    }
    Ok(())
}

/// Stands for SIDs that only the domain knows.
const ANY_SID: &str = "S-1-5-21-0-0-0-0";

/// A domain with the NetBIOS name that most have, in which the computer has no account.
fn found(facts: &mut Facts, j: &Joining) -> Result<()> {
    let name: String = j.domain.domain.realm().split('.').next().unwrap_or_default().chars().take(15).collect();
    let member = serde_json::json!({
        "domain": j.domain.domain, "workgroup": name, "computer": j.domain.computer, "range": j.domain.range, "state": MemberState::Found,
    });
    if let Some(r) = facts.record.as_mut() {
        r.set_part(&Key::Member, Some(&member))?;
    }
    Ok(())
}

fn daemon_runs(facts: &mut Facts, daemon: Daemon, runs: bool) {
    match daemon {
        Daemon::Smbd => facts.smbd_running = runs,
        Daemon::Winbindd => facts.directory.get_or_insert_default().winbindd_running = runs,
    }
}

fn assume_account(facts: &mut Facts, step: &Step) {
    match (&step.watch, &step.want) {
        (Watch::UnixUser(n), Some(Seen::UnixUser { uid, gid, comment })) => {
            facts.users.insert(n.clone(), UnixUser { uid: *uid, gid: *gid, comment: comment.clone() });
        }
        (Watch::UnixUser(n), Some(Seen::Absent)) => drop(facts.users.remove(n)),
        (Watch::UnixGroup(n), Some(Seen::UnixGroup { gid, members })) => {
            facts.groups.insert(n.clone(), UnixGroup { gid: *gid, members: members.clone() });
        }
        (Watch::UnixGroup(n), Some(Seen::Absent)) => drop(facts.groups.remove(n)),
        (Watch::SambaUser(n), Some(Seen::Absent)) => drop(facts.passdb.remove(n)),
        (Watch::SambaUser(n), None) => {
            facts.passdb.insert(n.clone(), PassdbUser { disabled: false, changed: String::new() });
        }
        (Watch::ShareAcl(n), Some(Seen::ShareAcl(list))) => drop(facts.acls.insert(n.clone(), list.clone())),
        (Watch::ShareAcl(n), Some(Seen::Absent)) => drop(facts.acls.remove(n)),
        _ => {}
    }
}

/// What `pct` and the HA manager do to a container.
fn on_guest(facts: &mut Facts, vmid: VmId, cmd: &Cmd) {
    let Some(guest) = facts.guest.as_mut() else { return };
    let word = |n: usize| cmd.args.get(n).map_or("", String::as_str);
    match (cmd.program, word(0)) {
        (Program::Pct, "destroy") => {
            guest.here.remove(&vmid);
            guest.used.remove(&vmid);
        }
        (Program::Pct, "start" | "shutdown") | (Program::HaManager, _) => {
            if let Some(g) = guest.here.get_mut(&vmid) {
                g.running = word(0) == "start" || word(3) == "started";
            }
        }
        (Program::Pct, "set") => {
            let Some(g) = guest.here.get_mut(&vmid) else { return };
            match word(2) {
                "--delete" => _ = g.conf.values.remove(word(3)),
                option => _ = g.conf.values.insert(option.trim_start_matches('-').to_owned(), word(3).to_owned()),
            }
        }
        _ => {}
    }
}

/// A container that has just come up for the first time is as its template is.
fn booted(facts: &mut Facts) {
    facts.reachable = true;
    if facts.main.is_none() {
        let text = template::smb_conf();
        let sha256 = sha256_hex(text.as_bytes());
        facts.main = Some(ConfFile { text, sha256, mode: 0o644, uid: 0, gid: 0 });
        let globals = samba::globals(Security::Standard).into_iter().chain(samba::OBSERVED.iter().copied());
        let globals = globals.map(|(k, v)| (k.to_lowercase(), v.to_owned()));
        facts.effective.global.extend(globals);
        facts.smbd_running = true;
    }
}
