// SPDX-License-Identifier: MIT OR Apache-2.0
//! Unix and passdb accounts: the steps that make and remove them, and whose they are. Written once for all places. It knows the tools'
//! arguments (shadow 4.13, Samba 4.17); it must not know shares or phases.

use crate::effect::{Cmd, Program};
use crate::error::{Error, Kind, Result};
use crate::facts::{Facts, Paths};
use crate::spec::record::Key;
use crate::types::UserName;

use super::step::{Effect, Seen, Step, Undo, Watch};

/// The gateway's own Unix group: primary group of its users.
pub const GATEWAY_GROUP: &str = "smbgw";
/// The throw-away account of the proof.
pub const PROBE_USER: &str = "smbgw-probe";
/// Accounts that a fresh Debian with Samba has: refused before there is a container to ask.
pub const SYSTEM_ACCOUNTS: &[&str] = &[
    "root",
    "daemon",
    "bin",
    "sys",
    "sync",
    "games",
    "man",
    "lp",
    "mail",
    "news",
    "uucp",
    "proxy",
    "www-data",
    "backup",
    "list",
    "irc",
    "gnats",
    "_apt",
    "nobody",
    "systemd-network",
    "systemd-timesync",
    "systemd-resolve",
    "messagebus",
];
/// GECOS field of our users: the mark.
pub const USER_COMMENT: &str = "smbgw user";
/// GECOS field of the probe account.
pub const PROBE_COMMENT: &str = "smbgw probe";

/// The RID of a user: Samba's own algorithm for unmapped accounts (`algorithmic rid base` 1000), so that a restore from the
/// record gives the same SID and Samba's counter for other accounts is never met.
pub fn rid(uid: u32) -> u32 {
    uid * 2 + 1000
}

/// The Unix group behind a share (`kind` "s") or a gateway group ("g"): readable where it can be, always a valid name.
pub fn unix_group(kind: &str, name: &str, number: u32) -> String {
    let plain = name.len() <= 23 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
    if plain {
        return format!("smbgw-{kind}-{name}");
    }
    let slug: String = name.chars().map(|c| c.to_ascii_lowercase()).filter(|c| c.is_ascii_alphanumeric()).take(16).collect();
    format!("smbgw-{kind}-{slug}.{number}")
}

/// A Samba command that reads the node's smb.conf.
pub fn samba(facts: &Facts, program: Program, args: &[&str]) -> Cmd {
    samba_at(&facts.paths, program, args)
}

/// The same where only the paths are known: smb.conf is named when it is not the one that Samba was built with.
pub fn samba_at(paths: &Paths, program: Program, args: &[&str]) -> Cmd {
    let mut all: Vec<String> = Vec::with_capacity(args.len() + 1);
    if paths.smb_conf != std::path::Path::new("/etc/samba/smb.conf") {
        all.push(format!("--configfile={}", paths.smb_conf.display()));
    }
    all.extend(args.iter().map(|a| (*a).to_owned()));
    Cmd::new(program, all)
}

/// A `sharesec` command about a share. It refuses those that its configuration does not have (`Invalid sharename`), and from Samba 4.22 on
/// does not see those of included files (measured with 4.22.11); an ACL may have to go when the share has gone already. So it is handed a
/// configuration of that share alone. The database is that of the default `state directory`; another one is refused by the plan.
pub fn sharesec(share: &str, args: &[&str]) -> Cmd {
    let args = ["--configfile=/dev/stdin", share].into_iter().chain(args.iter().copied());
    Cmd::new(Program::Sharesec, args).text(format!("[{share}]\npath = /\n"))
}

/// Makes a Unix group if it is not there.
pub fn add_group(facts: &Facts, id: &str, title: String, name: &str, gid: u32) -> Result<Option<Step>> {
    match facts.groups.get(name) {
        Some(g) if g.gid == gid => return Ok(None),
        Some(g) => {
            return Err(Error::new(Kind::Conflict, format!("the Unix group {name} exists with number {}, not {gid}", g.gid))
                .remedy(format!("find out who made it; if nobody needs it: groupdel {name}")));
        }
        None => {}
    }
    if facts.number_taken(gid) && !facts.groups.values().any(|g| g.gid == gid) {
        return Err(Error::new(
            Kind::Conflict,
            format!("number {gid} for the Unix group {name} is taken by an account or a subordinate range"),
        )
        .remedy("free the number; see /etc/passwd, /etc/subuid and /etc/subgid"));
    }
    let step = Step::new(
        id,
        title,
        Watch::UnixGroup(name.to_owned()),
        Effect::Run(Cmd::new(Program::Groupadd, ["--gid", &gid.to_string(), name]).within_ms(20_000)),
    )
    .before(Seen::Absent)
    .want(Seen::UnixGroup { gid, members: Vec::new() })
    .undo(Undo::Do(vec![Effect::Run(groupdel(name))]));
    Ok(Some(step))
}

fn groupdel(name: &str) -> Cmd {
    // 6: it is gone already.
    Cmd::new(Program::Groupdel, [name]).also_ok(&[6]).within_ms(20_000)
}

/// Removes a Unix group that is ours.
pub fn remove_group(facts: &Facts, id: &str, title: String, name: &str, gid: u32) -> Option<Step> {
    let group = facts.groups.get(name).filter(|g| g.gid == gid)?;
    // 9: it is back already; an undo may be repeated.
    let mut undo =
        vec![Effect::Run(Cmd::new(Program::Groupadd, ["--gid", &gid.to_string(), name]).also_ok(&[9]).within_ms(20_000))];
    undo.extend(group.members.iter().map(|m| Effect::Run(member(true, m, name))));
    Some(
        Step::new(id, title, Watch::UnixGroup(name.to_owned()), Effect::Run(groupdel(name)))
            .want(Seen::Absent)
            .undo(Undo::Do(undo)),
    )
}

fn member(add: bool, user: &str, group: &str) -> Cmd {
    Cmd::new(Program::Gpasswd, [if add { "--add" } else { "--delete" }, user, group]).within_ms(20_000)
}

/// Puts a user into a Unix group or takes it out.
pub fn membership(facts: &Facts, id: &str, title: String, group: &str, user: &str, add: bool) -> Option<Step> {
    let now = facts.groups.get(group)?;
    let there = now.members.iter().any(|m| m == user);
    if there == add {
        return None;
    }
    let mut members = now.members.clone();
    if add {
        members.push(user.to_owned());
    } else {
        members.retain(|m| m != user);
    }
    Some(
        Step::new(id, title, Watch::UnixGroup(group.to_owned()), Effect::Run(member(add, user, group)))
            .want(Seen::UnixGroup { gid: now.gid, members })
            .undo(Undo::Do(vec![Effect::Run(member(!add, user, group))])),
    )
}

fn useradd(name: &str, uid: u32, gid: u32, comment: &str) -> Cmd {
    let (uid, gid) = (uid.to_string(), gid.to_string());
    Cmd::new(
        Program::Useradd,
        [
            "--system",
            "--no-create-home",
            "--home-dir",
            "/nonexistent",
            "--shell",
            "/usr/sbin/nologin",
            "--uid",
            &uid,
            "--gid",
            &gid,
            "--comment",
            comment,
            name,
        ],
    )
    .within_ms(20_000)
}

/// Makes a Unix user without shell, home and password, marked as ours. An account of that name that is not ours is refused.
pub fn add_user(facts: &Facts, id: &str, title: String, name: &str, uid: u32, gid: u32, comment: &str) -> Result<Option<Step>> {
    match facts.users.get(name) {
        Some(u) if u.uid == uid && u.comment == comment => return Ok(None),
        Some(u) => return Err(foreign_account(name, u.uid)),
        None => {}
    }
    if facts.number_taken(uid) {
        return Err(Error::new(
            Kind::Conflict,
            format!("number {uid} for the user {name} is taken by an account or a subordinate range"),
        )
        .remedy("free the number; see /etc/passwd, /etc/subuid and /etc/subgid"));
    }
    // -f removes the account although a process of it may just be ending; its files, had it any, stay (no -r).
    let gone = Cmd::new(Program::Userdel, ["--force", name]).also_ok(&[6]).within_ms(20_000);
    let step = Step::new(id, title, Watch::UnixUser(name.to_owned()), Effect::Run(useradd(name, uid, gid, comment)))
        .before(Seen::Absent)
        .want(Seen::UnixUser { uid, gid, comment: comment.to_owned() })
        .undo(Undo::Do(vec![Effect::Run(gone)]));
    Ok(Some(step))
}

/// The refusal of a name that belongs to the system.
pub fn foreign_account(name: &str, uid: u32) -> Error {
    Error::new(Kind::Conflict, format!("the account {name} (uid {uid}) exists on this machine and is not one of the gateway"))
        .remedy("choose another user name; accounts of the system are never used for shares")
}

/// Removes a Unix user that is ours; nothing of its files.
pub fn remove_user(facts: &Facts, id: &str, title: String, name: &str, uid: u32) -> Option<Step> {
    let user = facts.users.get(name).filter(|u| u.uid == uid && u.comment.starts_with("smbgw "))?;
    let mut undo = vec![Effect::Run(useradd(name, uid, user.gid, &user.comment).also_ok(&[9]))];
    let groups = facts.groups.iter().filter(|(_, g)| g.members.iter().any(|m| m == name));
    undo.extend(groups.map(|(g, _)| Effect::Run(member(true, name, g))));
    let cmd = Cmd::new(Program::Userdel, ["--force", name]).also_ok(&[6]).within_ms(20_000);
    Some(Step::new(id, title, Watch::UnixUser(name.to_owned()), Effect::Run(cmd)).want(Seen::Absent).undo(Undo::Do(undo)))
}

/// Makes a passdb user with a fixed RID and a password from the secret.
pub fn add_samba_user(facts: &Facts, id: &str, title: String, name: &str, uid: u32, secret: &str) -> Step {
    let rid = rid(uid).to_string();
    let cmd = samba(facts, Program::Pdbedit, &["-a", "-u", name, "-U", &rid, "-t"]).secret(secret, 2).within_ms(20_000);
    Step::new(id, title, Watch::SambaUser(name.to_owned()), Effect::Run(cmd))
        .before(Seen::Absent)
        .undo(Undo::Do(vec![Effect::Run(pdb_remove(facts, name))]))
}

fn pdb_remove(facts: &Facts, name: &str) -> Cmd {
    // 255: it is gone already. `smbpasswd -x` would fail where the Unix account is gone.
    samba(facts, Program::Pdbedit, &["-x", "-u", name]).also_ok(&[255]).within_ms(20_000)
}

/// Removes a passdb user; undo brings it back from the record, with the same RID and hash.
pub fn remove_samba_user(facts: &Facts, id: &str, title: String, name: &str) -> Option<Step> {
    facts.passdb.get(name)?;
    Some(
        Step::new(id, title, Watch::SambaUser(name.to_owned()), Effect::Run(pdb_remove(facts, name)))
            .want(Seen::Absent)
            .undo(Undo::Do(vec![Effect::ImportHash { user: name.to_owned(), scratch: facts.paths.run_dir.join("import") }])),
    )
}

/// Disables or enables a passdb user.
pub fn switch_samba_user(facts: &Facts, id: &str, title: String, name: &UserName, disable: bool) -> Option<Step> {
    let now = facts.passdb.get(name.as_str())?;
    if now.disabled == disable {
        return None;
    }
    let flag = |off: bool| samba(facts, Program::Smbpasswd, &[if off { "-d" } else { "-e" }, name.as_str()]);
    Some(
        Step::new(id, title, Watch::SambaUser(name.to_string()), Effect::Run(flag(disable)))
            .undo(Undo::Do(vec![Effect::Run(flag(!disable))])),
    )
}

/// Keeps a part of the record.
pub fn record(id: impl Into<String>, title: impl Into<String>, key: Key, value: Option<serde_json::Value>) -> Step {
    let want = value.clone().map_or(Seen::Absent, Seen::Record);
    Step::new(id, title, Watch::Record(key.clone()), Effect::Record(key, value)).want(want).undo(Undo::Restore)
}
