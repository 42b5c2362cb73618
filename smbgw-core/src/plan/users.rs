// SPDX-License-Identifier: MIT OR Apache-2.0
//! Users and groups of a gateway: made, changed, removed, brought back. The steps themselves are in `accounts`; the order of things and the
//! record are here. The same in every place.
use super::accounts::{self, GATEWAY_GROUP, USER_COMMENT};
use super::common::{Steps, entry, group, is_last, make_record, must_have, record, record_or_new, user};
use super::quota;
use super::samba;
use super::step::{Effect, Step, Undo, Watch};
use crate::effect::Program;
use crate::error::{Error, Kind, Result};
use crate::facts::{Facts, UnixGroup};
use crate::spec::ShareSpec;
use crate::spec::access::Who;
use crate::spec::record::{GroupEntry, Key, UserEntry};
use crate::types::{GroupName, UserName};

/// Name of the secret that holds a user's password.
pub const PASSWORD: &str = "password";

/// The Unix groups of a share, and its first user.
pub fn of_share(spec: &ShareSpec, password: bool, facts: &Facts) -> Steps {
    let e = entry(facts, spec.id.as_str())?;
    let mut steps = Vec::new();
    steps.extend(gateway_group(facts)?);
    let title = format!("make the Unix group of share {}", spec.id);
    steps.extend(accounts::add_group(facts, "identity/group", title, &e.unix_group, e.gid)?);
    let mut later = facts.clone();
    if let Some(s) = steps.first().filter(|s| s.watch == Watch::UnixGroup(GATEWAY_GROUP.into())) {
        super::assume::assume(&mut later, s)?;
    }
    let (more, mut warnings) = first_user(spec, password, &later)?;
    steps.extend(more);
    steps.extend(gate(&later));
    let (limits, words) = quota::of_users(spec, password && spec.domain.is_none(), facts)?;
    steps.extend(limits);
    warnings.extend(words);
    Ok((steps, warnings))
}

/// Who may not log in now, and who may again: what is said of each user, and what a domain makes of it.
pub fn gate(facts: &Facts) -> Vec<Step> {
    let Some(r) = facts.record.as_ref() else { return Vec::new() };
    let mut steps = Vec::new();
    for name in r.users.keys() {
        let Ok(user) = UserName::new(name) else { continue };
        let off = r.is_shut_out(name);
        let title = if off { format!("{name} may not log in") } else { format!("{name} may log in again") };
        let Some(step) = accounts::switch_samba_user(facts, &format!("identity/gate.{name}"), title, &user, off) else {
            continue;
        };
        steps.push(step);
        if off && facts.smbd_running {
            let (id, title) = (format!("identity/sessions.{name}"), format!("end the sessions of {name}"));
            steps.push(Step::new(id, title, Watch::Nothing, Effect::EndSessions(name.clone())));
        }
    }
    steps
}

fn gateway_group(facts: &Facts) -> Result<Option<Step>> {
    let title = "make the gateway's Unix group".into();
    accounts::add_group(facts, "identity/gateway-group", title, GATEWAY_GROUP, record_or_new(facts).gateway_gid())
}

fn first_user(spec: &ShareSpec, password: bool, facts: &Facts) -> Steps {
    let (mut steps, mut warnings) = (Vec::new(), Vec::new());
    if let Some(name) = &spec.first_user {
        let known = record(facts)?.users.contains_key(name.as_str());
        if password && known && facts.passdb.contains_key(name.as_str()) {
            steps = user_password(name, facts)?.0;
        } else if password {
            steps = create_user(name, facts)?.0;
        } else if !known {
            warnings.push(format!("user {name} has no password yet and cannot log in: pve-smbgateway user create {name}"));
        }
    }
    for (who, _) in spec.access.entries() {
        let r = record(facts)?;
        match who {
            Who::User(u) if Some(u) != spec.first_user.as_ref() && !r.users.contains_key(u.as_str()) => {
                warnings.push(format!("there is no user {u} yet: pve-smbgateway user create {u}"));
            }
            Who::Group(g) if !r.groups.contains_key(g.as_str()) => {
                warnings.push(format!("there is no group {g} yet: pve-smbgateway group create {g}"));
            }
            _ => {}
        }
    }
    Ok((steps, warnings))
}

/// The accounts that go with a share: its own group; with the last share the users and groups of the gateway.
pub fn drop_accounts(id: &str, facts: &Facts) -> Steps {
    let (r, e) = (record(facts)?, entry(facts, id)?);
    let (mut steps, mut warnings) = (Vec::new(), Vec::new());
    let last = is_last(id, r);
    // With its last share a container goes, and all accounts in it.
    let inside = !(last && facts.guest.is_some());
    let mut later = facts.clone();
    if last {
        for (name, u) in &r.users {
            if !inside {
                steps.push(forget_user(name));
                continue;
            }
            let before = steps.len();
            drop_user(name, u, facts, &mut steps, &mut warnings)?;
            // A user that goes leaves its groups: the undo of the user brings that back, not the undo of the group, which comes first.
            if steps[before..].iter().any(|s| s.watch == Watch::UnixUser(name.clone())) {
                later.groups.values_mut().for_each(|g| g.members.retain(|m| m != name));
                later.users.remove(name);
            }
        }
        for (name, g) in &r.groups {
            let title = format!("remove group {name}");
            let unix = accounts::remove_group(&later, &format!("identity/group.{name}"), title, &g.unix, g.gid);
            steps.extend(unix.filter(|_| inside));
            steps.push(accounts::record(
                format!("identity/forget-group.{name}"),
                format!("forget group {name}"),
                Key::Group(name.clone()),
                None,
            ));
        }
    }
    if inside {
        let title = format!("remove the Unix group of share {id}");
        steps.extend(accounts::remove_group(facts, "identity/share-group", title, &e.unix_group, e.gid));
        if last && later.users.values().all(|u| u.gid != r.gateway_gid()) {
            let title = "remove the gateway's Unix group".into();
            steps.extend(accounts::remove_group(facts, "identity/gateway-group", title, GATEWAY_GROUP, r.gateway_gid()));
        }
    }
    Ok((steps, warnings))
}

fn forget_user(name: &str) -> Step {
    let title = format!("forget user {name}");
    accounts::record(format!("identity/forget.{name}"), title, Key::User(name.to_owned()), None)
}

/// Takes a user out: sessions, passdb, Unix account (unless it owns files), record.
fn drop_user(name: &str, entry: &UserEntry, facts: &Facts, steps: &mut Vec<Step>, warnings: &mut Vec<String>) -> Result<()> {
    if facts.smbd_running && facts.passdb.contains_key(name) {
        let effect = Effect::EndSessions(name.to_owned());
        steps.push(Step::new(format!("identity/sessions.{name}"), format!("end the sessions of {name}"), Watch::Nothing, effect));
    }
    steps.extend(accounts::remove_samba_user(
        facts,
        &format!("identity/passdb.{name}"),
        format!("remove {name} from passdb"),
        name,
    ));
    let owned = facts.owned.as_ref().ok_or_else(|| Error::new(Kind::Internal, "nobody looked whom the files belong to"))?;
    let files = owned.by_uid.get(&entry.uid).copied().unwrap_or(0);
    if files > 0 {
        warnings
            .push(format!("the account {name} (uid {}) stays, unable to log in: it owns {files} files in the tree", entry.uid));
    } else if !owned.complete {
        warnings.push(format!(
            "the account {name} (uid {}) stays, unable to log in: the tree is too large to tell quickly whether it owns files",
            entry.uid
        ));
    } else {
        steps.extend(accounts::remove_user(
            facts,
            &format!("identity/unix.{name}"),
            format!("remove the Unix account {name}"),
            name,
            entry.uid,
        ));
    }
    steps.push(forget_user(name));
    Ok(())
}

/// See the name.
pub fn create_user(name: &UserName, facts: &Facts) -> Steps {
    must_have(facts, &[Program::Pdbedit, Program::Useradd, Program::Groupadd])?;
    if let Some(u) = facts.users.get(name.as_str()) {
        if !u.comment.starts_with("smbgw ") {
            return Err(accounts::foreign_account(name.as_str(), u.uid));
        }
    }
    if facts.record.as_ref().is_some_and(|r| r.users.contains_key(name.as_str())) && facts.passdb.contains_key(name.as_str()) {
        return Err(Error::new(Kind::Conflict, format!("the gateway has a user {name} already"))
            .remedy(format!("give it another password with: pve-smbgateway user password {name}")));
    }
    let mut steps = Vec::new();
    make_record(facts, &mut steps);
    let mut numbers = record_or_new(facts);
    let uid = numbers.number(&format!("user/{name}"), |n| facts.number_taken(n))?;
    steps.extend(gateway_group(facts)?);
    let entry = UserEntry { uid, rid: accounts::rid(uid), disabled: false };
    let key = Key::User(name.to_string());
    if numbers.users.get(name.as_str()) != Some(&entry) {
        steps.push(accounts::record("identity/record", format!("record user {name}"), key, serde_json::to_value(&entry).ok()));
    }
    let title = format!("make the Unix account {name}, without shell, home and password");
    steps.extend(accounts::add_user(
        facts,
        "identity/unix",
        title,
        name.as_str(),
        uid,
        record_or_new(facts).gateway_gid(),
        USER_COMMENT,
    )?);
    steps.push(accounts::add_samba_user(
        facts,
        "identity/passdb",
        format!("give {name} its password"),
        name.as_str(),
        uid,
        PASSWORD,
    ));
    steps.push(keep_hash(name));
    let mut warnings = Vec::new();
    if record_or_new(facts).is_shut_out(name.as_str()) {
        let cmd = accounts::samba(facts, Program::Smbpasswd, &["-d", name.as_str()]);
        let title = format!("{name} may not log in: the gateway is in a domain");
        steps.push(
            Step::new("identity/gate", title, Watch::SambaUser(name.to_string()), Effect::Run(cmd))
                .undo(Undo::None("the account goes".into())),
        );
        warnings.push(if record_or_new(facts).fallback_users().contains(&name.as_str()) {
            format!("{name} can log in while no domain controller answers, and only then")
        } else {
            format!("{name} cannot log in: the gateway is in a domain, and smbgw-ad-fallback does not name {name}")
        });
    }
    Ok((steps, warnings))
}

fn keep_hash(name: &UserName) -> Step {
    let watch = Watch::SameHash(name.to_string());
    Step::new("identity/hash", format!("keep the NT hash of {name} in the record"), watch, Effect::KeepHash(name.to_string()))
        .undo(Undo::Do(vec![Effect::TakeHashBack(name.to_string())]))
}

/// See the name.
pub fn user_password(name: &UserName, facts: &Facts) -> Steps {
    user(facts, name)?;
    if !facts.passdb.contains_key(name.as_str()) {
        return Err(Error::new(Kind::Drift, format!("user {name} is in the gateway record but not in passdb"))
            .remedy(format!("pve-smbgateway repair {}", facts.paths.gateway)));
    }
    let cmd = accounts::samba(facts, Program::Smbpasswd, &["-s", name.as_str()]).secret(PASSWORD, 2).within_ms(20_000);
    let undo = Effect::ImportHash { user: name.to_string(), scratch: facts.paths.run_dir.join("import") };
    // When the password is undone, the record has its former hash again.
    let by = Step::new(
        "identity/former",
        format!("put the former NT hash of {name} by"),
        Watch::Nothing,
        Effect::PutHashBy(name.to_string()),
    );
    let mut steps = vec![
        by.undo(Undo::None("it is dropped when the operation is over".into())),
        Step::new(
            "identity/passdb",
            format!("give {name} another password"),
            Watch::SambaUser(name.to_string()),
            Effect::Run(cmd),
        )
        .undo(Undo::Do(vec![undo])),
        keep_hash(name),
    ];
    // A new password by root enables the account (measured, 4.17).
    if record(facts)?.is_shut_out(name.as_str()) {
        let cmd = accounts::samba(facts, Program::Smbpasswd, &["-d", name.as_str()]);
        let (title, watch) = (format!("{name} may not log in"), Watch::SambaUser(name.to_string()));
        steps.push(
            Step::new("identity/gate", title, watch, Effect::Run(cmd))
                .undo(Undo::None("the account is as it was, with its flags".into())),
        );
    }
    Ok((steps, Vec::new()))
}

/// See the name.
pub fn user_disable(name: &UserName, off: bool, facts: &Facts) -> Steps {
    let mut entry = user(facts, name)?.clone();
    let mut steps = Vec::new();
    let word = if off { "disable" } else { "enable" };
    if entry.disabled != off {
        entry.disabled = off;
        steps.push(accounts::record(
            "identity/record",
            format!("record: {word} {name}"),
            Key::User(name.to_string()),
            serde_json::to_value(&entry).ok(),
        ));
    }
    let mut later = record(facts)?.clone();
    later.users.insert(name.to_string(), entry);
    let shut = later.is_shut_out(name.as_str());
    steps.extend(accounts::switch_samba_user(facts, "identity/passdb", format!("{word} {name}"), name, shut));
    if off && facts.smbd_running {
        let effect = Effect::EndSessions(name.to_string());
        steps.push(Step::new("identity/sessions", format!("end the sessions of {name}"), Watch::Nothing, effect));
    }
    Ok((steps, Vec::new()))
}

/// Ends sessions of a user, or one.
pub fn close_sessions(user: Option<&str>, id: Option<&str>, facts: &Facts) -> Steps {
    let mut steps = Vec::new();
    let why = || Undo::None("a client connects again by itself if it may".into());
    if let Some(user) = user.filter(|_| facts.smbd_running) {
        let effect = Effect::EndSessions(user.to_owned());
        steps.push(Step::new("sessions/user", format!("end the sessions of {user}"), Watch::Nothing, effect).undo(why()));
    }
    if let Some(id) = id.filter(|_| facts.smbd_running) {
        let effect = Effect::EndSession(id.to_owned());
        steps.push(Step::new("sessions/id", format!("end session {id}"), Watch::Nothing, effect).undo(why()));
    }
    Ok((steps, Vec::new()))
}

/// First the lists: groups lose the member, so that our file names it no more when it goes live.
pub fn forget_membership(name: &UserName, facts: &Facts) -> Steps {
    user(facts, name)?;
    let mut steps = Vec::new();
    for (g, e) in &record(facts)?.groups {
        if e.members.iter().any(|m| m == name.as_str()) {
            let mut e = e.clone();
            e.members.retain(|m| m != name.as_str());
            steps.push(accounts::record(
                format!("intent/group.{g}"),
                format!("take {name} out of group {g}"),
                Key::Group(g.clone()),
                serde_json::to_value(&e).ok(),
            ));
            steps.extend(accounts::membership(
                facts,
                &format!("intent/member.{g}"),
                format!("take {name} out of {}", e.unix),
                &e.unix,
                name.as_str(),
                false,
            ));
        }
    }
    Ok((steps, Vec::new()))
}

/// See the name.
pub fn remove_user(name: &UserName, facts: &Facts) -> Steps {
    let (mut steps, mut warnings) = (Vec::new(), Vec::new());
    let entry = user(facts, name)?.clone();
    drop_user(name.as_str(), &entry, facts, &mut steps, &mut warnings)?;
    Ok((steps, warnings))
}

/// See the name.
pub fn create_group(name: &GroupName, facts: &Facts) -> Steps {
    must_have(facts, &[Program::Groupadd])?;
    if facts.record.as_ref().is_some_and(|r| r.groups.contains_key(name.as_str())) {
        return Err(Error::new(Kind::Conflict, format!("the gateway has a group {name} already")));
    }
    let mut steps = Vec::new();
    make_record(facts, &mut steps);
    let gid = record_or_new(facts).number(&format!("group/{name}"), |n| facts.number_taken(n))?;
    let unix = accounts::unix_group("g", name.as_str(), gid);
    let entry = GroupEntry { unix: unix.clone(), gid, members: Vec::new() };
    steps.push(accounts::record(
        "identity/record",
        format!("record group {name}"),
        Key::Group(name.to_string()),
        serde_json::to_value(&entry).ok(),
    ));
    steps.extend(accounts::add_group(facts, "identity/unix", format!("make the Unix group {unix}"), &unix, gid)?);
    Ok((steps, Vec::new()))
}

/// See the name.
pub fn group_unused(name: &GroupName, facts: &Facts) -> Steps {
    group(facts, name)?;
    let r = record(facts)?;
    for (id, e) in &r.shares {
        let spec = samba::spec_of(id, e, r)?;
        if spec.access.entries().any(|(w, _)| *w == Who::Group(name.clone())) {
            return Err(Error::new(Kind::Conflict, format!("group {name} is named in smbgw-access of share {id}"))
                .remedy(format!("take it out there first: pve-smbgateway set {id} --smbgw-access …")));
        }
    }
    Ok((Vec::new(), Vec::new()))
}

/// See the name.
pub fn remove_group(name: &GroupName, facts: &Facts) -> Steps {
    let e = group(facts, name)?;
    let mut steps = Vec::new();
    steps.extend(accounts::remove_group(facts, "identity/unix", format!("remove the Unix group {}", e.unix), &e.unix, e.gid));
    steps.push(accounts::record("identity/forget", format!("forget group {name}"), Key::Group(name.to_string()), None));
    Ok((steps, Vec::new()))
}

/// See the name.
pub fn change_group(name: &GroupName, member: &UserName, add: bool, facts: &Facts) -> Steps {
    user(facts, member)?;
    let mut e = group(facts, name)?.clone();
    let there = e.members.iter().any(|m| m == member.as_str());
    let mut steps = Vec::new();
    if there != add {
        e.members.retain(|m| m != member.as_str());
        if add {
            e.members.push(member.to_string());
            e.members.sort();
        }
        let title = format!("record: {member} {} group {name}", if add { "joins" } else { "leaves" });
        steps.push(accounts::record("identity/record", title, Key::Group(name.to_string()), serde_json::to_value(&e).ok()));
    }
    let title = format!("{} {member} {} {}", if add { "put" } else { "take" }, if add { "into" } else { "out of" }, e.unix);
    steps.extend(accounts::membership(facts, "identity/unix", title, &e.unix, member.as_str(), add));
    // A running session keeps the groups it logged in with.
    if facts.smbd_running && there != add {
        let effect = Effect::EndSessions(member.to_string());
        steps.push(Step::new("identity/sessions", format!("end the sessions of {member}"), Watch::Nothing, effect));
    }
    Ok((steps, Vec::new()))
}

/// Accounts that the record knows and the machine lost come back with their numbers, RIDs and hashes.
pub fn restore_accounts(facts: &Facts) -> Steps {
    let Some(r) = facts.record.as_ref() else { return Ok((Vec::new(), Vec::new())) };
    let (mut steps, mut warnings) = (Vec::new(), Vec::new());
    if !r.shares.is_empty() || !r.users.is_empty() {
        steps.extend(gateway_group(facts)?);
    }
    for (id, e) in &r.shares {
        steps.extend(accounts::add_group(
            facts,
            &format!("identity/share.{id}"),
            format!("make the Unix group of share {id}"),
            &e.unix_group,
            e.gid,
        )?);
    }
    for (name, g) in &r.groups {
        steps.extend(accounts::add_group(
            facts,
            &format!("identity/group.{name}"),
            format!("make the Unix group {}", g.unix),
            &g.unix,
            g.gid,
        )?);
    }
    for (name, u) in &r.users {
        let title = format!("make the Unix account {name}");
        steps.extend(accounts::add_user(
            facts,
            &format!("identity/unix.{name}"),
            title,
            name,
            u.uid,
            record_or_new(facts).gateway_gid(),
            USER_COMMENT,
        )?);
        if facts.passdb.contains_key(name) {
            continue;
        }
        if r.hashes.contains_key(name) {
            let effect = Effect::ImportHash { user: name.clone(), scratch: facts.paths.run_dir.join("import") };
            let title = format!("bring {name} back into passdb");
            let undo = accounts::samba(facts, Program::Pdbedit, &["-x", "-u", name]).also_ok(&[255]);
            steps.push(
                Step::new(format!("identity/passdb.{name}"), title, Watch::SambaUser(name.clone()), effect)
                    .undo(Undo::Do(vec![Effect::Run(undo)])),
            );
        } else {
            warnings.push(format!("user {name} has no password: pve-smbgateway user password {name}"));
        }
    }
    steps.extend(gate(facts));
    for (name, g) in &r.groups {
        for m in &g.members {
            // The group may be made by a step above: then its members are not known yet, and it has none.
            let mut later = facts.clone();
            later.groups.entry(g.unix.clone()).or_insert(UnixGroup { gid: g.gid, members: Vec::new() });
            let title = format!("put {m} into {}", g.unix);
            steps.extend(accounts::membership(&later, &format!("identity/member.{name}.{m}"), title, &g.unix, m, true).map(
                |mut s| {
                    // Several members join one after the other.
                    s.want = None;
                    s
                },
            ));
        }
    }
    Ok((steps, warnings))
}
