// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a share is on its node: its entry in the record, its tree, the intent to remove it. Written once for all modes. It must not know
//! how Samba is told, nor what a container is made of.
use serde_json::Value;

use super::accounts;
use super::common::{Steps, entry, make_record, record_or_new};
use super::quota;
use super::samba;
use super::step::{Effect, Seen, Step, Undo, Watch};
use super::substrate;
use crate::error::{Error, Kind, Problem, Result};
use crate::facts::{Facts, TreeFact};
use crate::spec::access::Who;
use crate::spec::record::{Ids, Key, Mount, ShareEntry, ShareState, TreeId, TreeOwner};
use crate::spec::section::Section;
use crate::spec::{Security, ShareSpec, settings};

/// The entry in the record and the tree, for a create or an update.
pub fn files(spec: &ShareSpec, section: &Section, facts: &Facts, create: bool) -> Steps {
    substrate::must_have(facts)?;
    let id = spec.id.as_str();
    let (mut steps, mut warnings) = (Vec::new(), Vec::new());
    let old = facts.record.as_ref().and_then(|r| r.shares.get(id));
    match (create, old) {
        // One that nobody committed is what a killed create left behind: it is built anew, with the same numbers.
        (true, Some(e)) if e.state == ShareState::Ready && e.committed => {
            return Err(Error::new(Kind::Conflict, format!("share {id} exists already on node {}", facts.node))
                .remedy(format!("change it with: pve-smbgateway set {id} …")));
        }
        (true, Some(e)) if e.state == ShareState::Deleting => {
            return Err(Error::new(Kind::Conflict, format!("share {id} is being removed on node {}", facts.node))
                .remedy("wait for the removal, or finish it: pve-smbgateway reconcile"));
        }
        (false, None) => return Err(Error::new(Kind::NotFound, format!("there is no share {id} on node {}", facts.node))),
        _ => {}
    }
    for (who, _) in spec.access.entries() {
        refuse_system_account(who, facts)?;
    }
    let tree = usable_tree(spec, facts, old, &mut warnings)?;
    let mount = substrate::mount_of(spec, facts, old, tree)?;
    let (limit, limiting) = quota::of_share(spec, tree, old.and_then(|e| e.quota.as_ref()), facts, &mut warnings)?;
    for (record, other_id, other) in
        facts.record.iter().flat_map(|r| r.shares.iter().map(move |(i, e)| (r, i, e))).filter(|(_, o, _)| *o != id)
    {
        if samba::spec_of(other_id, other, record).is_ok_and(|o| o.share.folded() == spec.share.folded()) {
            return Err(Error::property(
                "share",
                format!("share {other_id} of this gateway has the name {} already", spec.share),
            ));
        }
    }
    let foreign = samba::foreign_shares(facts);
    samba::refuse_taken_name(spec, &foreign)?;
    refuse_weak_globals(spec.security, facts, &foreign)?;

    make_record(facts, &mut steps);
    let mut numbers = record_or_new(facts);
    let gid = numbers.number(&format!("share/{id}"), |n| facts.number_taken(n))?;
    let unix_group = old.map_or_else(|| accounts::unix_group("s", id, gid), |e| e.unix_group.clone());
    let tree_id = TreeId { path: spec.path.clone(), ino: tree.ino, fsid: tree.fsid, fs_type: tree.fs_type.clone() };
    let new = ShareEntry {
        section: section.clone(),
        state: old.map_or(ShareState::Building, |e| e.state),
        committed: old.is_some_and(|e| e.committed),
        since_ms: old.map_or(facts.now_ms, |e| e.since_ms),
        unix_group: unix_group.clone(),
        gid,
        tree: tree_id,
        tree_before: old.map_or(tree.owner, |e| e.tree_before),
        mount,
        quota: limit,
        user_limits: old.map(|e| e.user_limits.clone()).unwrap_or_default(),
        delete_intent: None,
    };
    if old != Some(&new) {
        steps.push(accounts::record(
            "files/share",
            format!("record share {id}"),
            Key::Share(id.into()),
            serde_json::to_value(&new).ok(),
        ));
    }
    steps.extend(limiting);
    if facts.record.as_ref().is_some_and(|r| r.removed.contains_key(id)) {
        steps.push(accounts::record("files/removed", format!("share {id} is wanted again"), Key::Removed(id.into()), None));
    }
    let settings = settings_to_be(id, section, facts);
    if spec.domain.is_some() {
        local_users_stay_named(spec, &settings, facts)?;
    }
    keep_settings(settings, facts, &mut steps);
    if let Some(guest) = &spec.guest {
        warnings.extend(substrate::warnings(spec, guest, facts));
    }
    let wanted = owner_to_be(tree.owner, gid, mount);
    if tree.owner != wanted {
        let (fsid, ino) = (tree.fsid, tree.ino);
        let TreeOwner { uid, gid, mode } = wanted;
        let effect = Effect::SetTree { path: spec.path.clone(), fsid, ino, uid, gid, mode };
        steps.push(
            Step::new(
                "files/tree",
                format!("give {} to the share's group", spec.path.display()),
                Watch::Tree(spec.path.clone()),
                effect,
            )
            .want(Seen::Tree { fsid, ino, uid, gid, mode })
            .undo(Undo::Restore),
        );
        if tree.populated && create {
            warnings.push(format!(
                "{} is not empty: what is in it keeps its owners and modes, so users may be unable to change it (chgrp -R {} and chmod -R g+rwX give it to them)",
                spec.path.display(),
                wanted.gid
            ));
        }
    }
    Ok((steps, warnings))
}

/// Owner and mode of a served tree's root: the group may do everything, and what is made in it belongs to the group. Where numbers inside
/// the container are others on the disk, the owner has to be one that the container knows.
fn owner_to_be(now: TreeOwner, gid: u32, mount: Option<Mount>) -> TreeOwner {
    let mode = now.mode | 0o2770;
    match mount.map(|m| m.ids) {
        Some(Ids::Shifted) => {
            let shift = Ids::Shifted.shift();
            let known = (shift..shift + 65536).contains(&now.uid);
            TreeOwner { uid: if known { now.uid } else { shift }, gid: gid + shift, mode }
        }
        _ => TreeOwner { uid: now.uid, gid, mode },
    }
}

/// The gateway's settings: what the section states over what was there. Whom a domain's gateway lets in besides counts only as long as a
/// section says so.
fn settings_to_be(id: &str, section: &Section, facts: &Facts) -> Section {
    let mut all = facts.record.as_ref().map(|r| r.settings.clone()).unwrap_or_default();
    let others = facts.record.iter().flat_map(|r| &r.shares).filter(|(o, e)| *o != id && e.state != ShareState::Deleting);
    if others.map(|(_, e)| &e.section).all(|s| !s.contains_key(FALLBACK)) {
        all.remove(FALLBACK);
    }
    all.extend(settings::stated(section));
    all
}

/// Local users of a gateway in a domain are named by its sections, or by no share.
fn local_users_stay_named(spec: &ShareSpec, settings: &Section, facts: &Facts) -> Result<()> {
    let list = settings.get(FALLBACK).map_or("", String::as_str);
    let named: Vec<&str> = list.split([',', ' ', ';']).collect();
    let mut all = vec![(spec.id.to_string(), spec.access.clone())];
    for (id, e) in facts
        .record
        .iter()
        .flat_map(|r| r.shares.iter())
        .filter(|(i, e)| *i != spec.id.as_str() && e.state != ShareState::Deleting)
    {
        if let Some(r) = &facts.record {
            all.push((id.clone(), samba::spec_of(id, e, r)?.access));
        }
    }
    for (id, access) in all {
        for (who, _) in access.entries() {
            let why = match who {
                Who::User(u) if !named.contains(&u.as_str()) => format!(
                    "share {id} names the local user {u}, who cannot log in to a gateway of a domain unless {FALLBACK} names {u}"
                ),
                Who::Group(g) if list.is_empty() => {
                    format!(
                        "share {id} names the local group {g}, and local users cannot log in to a gateway of a domain unless {FALLBACK} names them"
                    )
                }
                _ => continue,
            };
            return Err(Error::property("smbgw-access", why));
        }
    }
    Ok(())
}

/// Local users who may log in while no domain controller answers.
const FALLBACK: &str = "smbgw-ad-fallback";

/// The gateway's settings, where they differ from those in the record.
pub fn keep_settings(settings: Section, facts: &Facts, steps: &mut Vec<Step>) {
    if facts.record.as_ref().map_or(!settings.is_empty(), |r| r.settings != settings) {
        let value = (!settings.is_empty()).then(|| serde_json::json!(settings));
        steps.push(accounts::record("files/settings", "record the gateway's settings", Key::Settings, value));
    }
}

fn refuse_system_account(who: &Who, facts: &Facts) -> Result<()> {
    let Who::User(name) = who else { return Ok(()) };
    if facts.guest.is_some() && !facts.reachable && accounts::SYSTEM_ACCOUNTS.contains(&name.as_str()) {
        let why = format!("{name} is an account of the container's own system; choose another user name");
        return Err(Error::property("smbgw-access", why));
    }
    match facts.users.get(name.as_str()) {
        Some(u) if !u.comment.starts_with("smbgw ") => {
            let e = accounts::foreign_account(name.as_str(), u.uid);
            let problem = Problem::new("smbgw-access", e.to_string());
            Err(e.with_problems(vec![problem]).as_kind(Kind::Conflict))
        }
        _ => Ok(()),
    }
}

fn usable_tree<'a>(
    spec: &ShareSpec,
    facts: &'a Facts,
    old: Option<&ShareEntry>,
    warnings: &mut Vec<String>,
) -> Result<&'a TreeFact> {
    let wrong = |why: String| Error::property("path", why);
    let tree = facts.tree(&spec.path).map_err(wrong)?;
    if tree.read_only {
        return Err(wrong(format!("{} is on a file system that is mounted read-only", spec.path.display())));
    }
    samba::mount_holds(spec, &tree.mount_point).map_err(wrong)?;
    if let Some(e) = old {
        samba::tree_holds(spec, &e.tree, facts).map_err(wrong)?;
    }
    const NO_FILES: &[&str] = &["proc", "sysfs", "devpts", "cgroup", "cgroup2", "securityfs", "debugfs", "tracefs", "fuse.lxcfs"];
    if NO_FILES.contains(&tree.fs_type.as_str()) || tree.mount_point == std::path::Path::new("/etc/pve") {
        return Err(wrong(format!("{} is on a {} file system, which holds no user data", spec.path.display(), tree.fs_type)));
    }
    if !tree.mounts_inside.is_empty() && spec.guest.is_none() {
        let list: Vec<String> = tree.mounts_inside.iter().map(|p| p.display().to_string()).collect();
        warnings.push(format!("other file systems are mounted inside the tree and are served with it: {}", list.join(", ")));
    }
    Ok(tree)
}

/// Beside foreign shares we set no globals, so those in effect must satisfy the profile.
fn refuse_weak_globals(security: Security, facts: &Facts, foreign: &[String]) -> Result<()> {
    if foreign.is_empty() || facts.own.as_ref().is_some_and(|f| samba::own_sets_globals(&f.text)) {
        return Ok(());
    }
    let weak = samba::unsatisfied(security, &facts.effective);
    if weak.is_empty() {
        return Ok(());
    }
    let e = Error::new(
        Kind::Unsafe,
        format!(
            "the node's Samba serves other shares ({}), so its [global] settings stay as they are, and they do not satisfy profile {}: {}",
            foreign.join(", "),
            security.as_str(),
            weak.join("; ")
        ),
    );
    Err(e.remedy(format!(
        "set these in [global] of {} yourself, or serve the share from a container with --smbgw-mode lxc",
        facts.paths.smb_conf.display()
    )))
}

/// The tree gets its owner back, and the share is forgotten.
pub fn drop_files(id: &str, facts: &Facts) -> Steps {
    let e = entry(facts, id)?;
    let (mut steps, mut warnings) = (Vec::new(), Vec::new());
    let path = &e.tree.path;
    match facts.tree(path) {
        Ok(t) if samba::same_tree(t, &e.tree) => {
            steps.extend(quota::forget(e, t, &mut warnings));
            let before = e.tree_before;
            if t.owner == owner_to_be(before, e.gid, e.mount) {
                let effect = Effect::SetTree {
                    path: path.clone(),
                    fsid: t.fsid,
                    ino: t.ino,
                    uid: before.uid,
                    gid: before.gid,
                    mode: before.mode,
                };
                steps.push(
                    Step::new(
                        "files/tree",
                        format!("give {} back its group and mode", path.display()),
                        Watch::Tree(path.clone()),
                        effect,
                    )
                    .want(Seen::Tree { fsid: t.fsid, ino: t.ino, uid: before.uid, gid: before.gid, mode: before.mode })
                    .undo(Undo::Restore),
                );
            } else if t.owner != before {
                warnings.push(format!("owner or mode of {} was changed by somebody else and is left as it is", path.display()));
            }
        }
        Ok(_) => {
            let why = format!("{} is not the tree that was recorded", path.display());
            quota::out_of_reach(e, &why, &mut warnings);
            warnings.push(format!("{why}; it is left alone"));
        }
        Err(why) => {
            quota::out_of_reach(e, &why, &mut warnings);
            warnings.push(format!("{} is left alone: {why}", path.display()));
        }
    }
    let at = Some(Value::from(facts.now_ms));
    steps.push(accounts::record("files/removed", format!("record that share {id} was removed"), Key::Removed(id.into()), at));
    steps.push(accounts::record("files/forget", format!("forget share {id}"), Key::Share(id.into()), None));
    Ok((steps, warnings))
}

/// The removal is asked for: from now on it is finished, whoever does it.
pub fn delete_intent(id: &str, actor: &str, facts: &Facts) -> Steps {
    let mut e = entry(facts, id)?.clone();
    if e.state != ShareState::Deleting {
        e.state = ShareState::Deleting;
        e.delete_intent = Some(actor.to_owned());
        let step = accounts::record(
            "intent/share",
            format!("record that share {id} is to go"),
            Key::Share(id.into()),
            serde_json::to_value(&e).ok(),
        );
        return Ok((vec![step], Vec::new()));
    }
    Ok((Vec::new(), Vec::new()))
}
