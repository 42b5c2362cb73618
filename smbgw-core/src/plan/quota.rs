// SPDX-License-Identifier: MIT OR Apache-2.0
//! The limit of a share's tree: set, changed, lifted, put back. Written once for all modes, because the tree is the node's whoever serves it.
//! It knows what each mechanism can promise and refuses what none can; it must not know Samba.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::accounts;
use super::common::{Steps, entry, nothing, record};
use super::samba;
use super::step::{Effect, Seen, Step, Undo, Watch};
use crate::effect::{Cmd, Program};
use crate::error::{Error, Kind, Result};
use crate::facts::{Facts, TreeFact};
use crate::quota::{Means, PROJECTS, Project, QuotaSeen, Tag};
use crate::spec::ShareSpec;
use crate::spec::record::{Key, QuotaEntry, ShareEntry, ShareState, UserLimit};
use crate::types::human;

/// What the record shall say, and the steps to it.
type Planned = Result<(Option<QuotaEntry>, Vec<Step>)>;

fn wrong(why: impl Into<String>) -> Error {
    Error::property("smbgw-quota", why)
}

/// Numbers of datasets.
pub fn zfs_get(properties: &str, names: impl IntoIterator<Item = String>) -> Cmd {
    let words = ["get", "-Hp", "-o", "name,property,value", properties];
    Cmd::new(Program::Zfs, words.into_iter().map(str::to_owned).chain(names))
}

/// Sets or lifts `userquota@UID`.
pub fn set_userquota(name: &str, uid: u32, limit: Option<u64>) -> Cmd {
    let value = limit.map_or("none".to_owned(), |l| l.to_string());
    Cmd::new(Program::Zfs, ["set".to_owned(), format!("userquota@{uid}={value}"), name.to_owned()])
}

/// Sets or lifts `refquota`.
pub fn set_refquota(name: &str, limit: Option<u64>) -> Cmd {
    let value = limit.map_or("none".to_owned(), |l| l.to_string());
    Cmd::new(Program::Zfs, ["set".to_owned(), format!("refquota={value}"), name.to_owned()])
}

/// The limit of a share that is created or changed. `old` is its entry so far.
pub fn of_share(
    spec: &ShareSpec,
    tree: &TreeFact,
    old: Option<&QuotaEntry>,
    facts: &Facts,
    warnings: &mut Vec<String>,
) -> Planned {
    if !spec.user_quotas.is_empty() {
        if let Some(Err(u)) = tree.quota.as_ref().map(|q| &q.users) {
            return Err(wrong_users(u.to_string()));
        }
    }
    match (spec.quota, old) {
        (None, None) => Ok((None, Vec::new())),
        (None, Some(q)) => Ok((None, lift(&spec.path, tree, q, warnings))),
        // What else changes does not depend on whether the limit can be enforced at this moment.
        (Some(size), Some(q)) if q.limit == size.0 && tree.quota.as_ref().is_none_or(|s| not_by(s, q).is_some()) => {
            let why = tree.quota.as_ref().and_then(|s| not_by(s, q)).unwrap_or_else(|| "it cannot be seen".into());
            warnings.push(format!("the limit is not enforced: {why}"));
            Ok((Some(q.clone()), Vec::new()))
        }
        (Some(size), old) => {
            let seen = possible(&spec.path, tree, size.0, old, warnings)?;
            let entry = match old {
                Some(q) => QuotaEntry { limit: size.0, ..same_means(&spec.path, seen, q)?.clone() },
                None => first(spec, seen, facts, size.0)?,
            };
            let mut steps = Vec::new();
            // What somebody did to the project of a tree since is put back by the worker.
            if let (Means::Project { id }, None) = (&entry.means, old) {
                let from = seen.project.unwrap_or_default();
                steps.push(tag(&spec.path, tree, Tag { from, to: Project::of(*id), back: false }));
            }
            steps.extend(reach(&spec.path, tree, seen, &entry));
            Ok((Some(entry), steps))
        }
    }
}

/// What was looked at, if it can limit the tree to that many bytes; otherwise why not, and what would help.
fn possible<'a>(
    path: &Path,
    tree: &'a TreeFact,
    bytes: u64,
    old: Option<&QuotaEntry>,
    warnings: &mut Vec<String>,
) -> Result<&'a QuotaSeen> {
    let seen = tree.quota.as_ref().ok_or_else(|| Error::new(Kind::Internal, "nobody looked at the quota of the tree"))?;
    let means = seen.means.as_ref().map_err(|u| wrong(u.to_string()))?;
    // One that stays is not judged anew: a share that is full, or whose file system has grown, can be changed all the same.
    if old.is_some_and(|q| q.limit == bytes) {
        return Ok(seen);
    }
    // Snapshots that ZFS shows on demand are mounts, too.
    let inside: Vec<String> = tree
        .mounts_inside
        .iter()
        .filter(|p| !p.components().any(|c| c.as_os_str() == ".zfs"))
        .map(|p| p.display().to_string())
        .collect();
    if !inside.is_empty() {
        return Err(wrong(format!(
            "other file systems are mounted inside the tree, and no limit of it counts what is in them: {}; make each a share of its own",
            inside.join(", ")
        )));
    }
    let (size, limit) = (human(seen.size), human(bytes));
    if *means == Means::Volume {
        let fs = seen.limit.unwrap_or(0);
        if bytes < fs {
            let other = seen.notes.first().map(|n| format!("; {n}")).unwrap_or_default();
            let why = format!(
                "the file system of {} has a block device of its own, so its size, {}, is the limit, and {limit} is less{other}",
                path.display(),
                human(fs)
            );
            return Err(wrong(why));
        }
        if bytes > seen.size {
            let how = "grow the device and then the file system (resize2fs, xfs_growfs)";
            return Err(wrong(format!("{limit} is more than the device of {} has ({size}); {how}", path.display())));
        }
        return Ok(seen);
    }
    if seen.size > 0 && bytes > seen.size {
        let why =
            format!("{limit} is more than the file system of {} has ({size}): the limit would never be reached", path.display());
        return Err(wrong(why));
    }
    // Of a project that is not ours yet others may be a part.
    let counted = !matches!(means, Means::Project { .. }) || old.is_some_and(|q| q.means == *means);
    if let Some(used) = seen.used.filter(|u| counted && *u > bytes) {
        let why = format!("{} uses {} already, and the limit is {limit}", path.display(), human(used));
        if matches!(means, Means::Dataset { .. }) {
            return Err(wrong(format!(
                "{why}; ZFS refuses a refquota below what is used: remove data first, or take a larger one"
            )));
        }
        warnings.push(format!("{why}: nobody can write until enough was removed"));
    }
    if matches!(means, Means::Ceph) {
        warnings.push("CephFS is limited by its clients: what is written within about ten seconds counts late, so a fast writer gets over the limit".into());
    }
    warnings.extend(seen.notes.iter().cloned());
    Ok(seen)
}

/// A quota that is there stays with the means it was set by.
fn same_means<'a>(path: &Path, seen: &QuotaSeen, q: &'a QuotaEntry) -> Result<&'a QuotaEntry> {
    let same = match (&seen.means, &q.means) {
        (Ok(Means::Project { .. }), Means::Project { .. }) => true,
        (Ok(now), then) => now == then,
        (Err(_), _) => false,
    };
    if same {
        return Ok(q);
    }
    let now = seen.means.as_ref().map_or("nothing that can".to_owned(), Means::to_string);
    Err(wrong(format!(
        "{} was limited by {}, and now there is {now}: was another file system mounted there? Bring the former one back, or remove the quota first and set it anew",
        path.display(),
        q.means
    )))
}

/// The entry of a tree that gets its first limit from us.
fn first(spec: &ShareSpec, seen: &QuotaSeen, facts: &Facts, limit: u64) -> Result<QuotaEntry> {
    let means = seen.means.clone().map_err(|u| wrong(u.to_string()))?;
    Ok(match means {
        Means::Project { .. } => {
            let id = free_project(spec, seen, facts)?;
            // A number of ours that is left from an earlier share is nobody's.
            let before = seen.project.map(|p| if PROJECTS.contains(&p.id) { Project::NONE } else { p });
            QuotaEntry { limit, means: Means::Project { id }, limit_before: None, project_before: before, unfinished: false }
        }
        means => {
            let before = seen.limit.filter(|_| means != Means::Volume);
            QuotaEntry { limit, means, limit_before: before, project_before: None, unfinished: false }
        }
    })
}

/// A project id that nobody has: made from the share and its gateway, so that two nodes or two runs hardly ever meet, then the next that the
/// file system, `/etc/projects`, `/etc/projid` and the record do not know.
fn free_project(spec: &ShareSpec, seen: &QuotaSeen, facts: &Facts) -> Result<u32> {
    let uuid = facts.record.as_ref().map_or("", |r| r.uuid.as_str());
    let digest = Sha256::digest(format!("{uuid} {} {} {}", facts.node, spec.gateway, spec.id));
    let hash = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    let count = PROJECTS.end - PROJECTS.start;
    let ours = |id: u32| {
        let entries = facts.record.iter().flat_map(|r| r.shares.values()).filter_map(|e| e.quota.as_ref());
        entries.filter(|q| q.means == Means::Project { id }).count() > 0
    };
    (0..count)
        .map(|n| PROJECTS.start + hash.wrapping_add(n) % count)
        .find(|id| !seen.taken.contains(id) && !facts.projects.contains(id) && !ours(*id))
        .ok_or_else(|| Error::new(Kind::Unsupported, "no project id is left"))
}

/// The step to the limit of an entry, if it is not there.
fn reach(path: &Path, tree: &TreeFact, seen: &QuotaSeen, entry: &QuotaEntry) -> Option<Step> {
    let there = matches!(&seen.means, Ok(m) if *m == entry.means) && seen.limit == Some(entry.means.whole(entry.limit));
    (entry.means != Means::Volume && !there).then(|| limit(path, tree, &entry.means, Some(entry.limit)))
}

fn limit(path: &Path, tree: &TreeFact, means: &Means, bytes: Option<u64>) -> Step {
    let (fsid, ino) = (tree.fsid, tree.ino);
    let title = match bytes {
        Some(b) => format!("limit {} to {}", path.display(), human(b)),
        None => format!("lift the limit of {}", path.display()),
    };
    let bytes = bytes.map(|b| means.whole(b));
    let effect = Effect::SetQuota { path: path.to_owned(), fsid, ino, means: means.clone(), limit: bytes };
    Step::new("quota/limit", title, Watch::Quota(path.to_owned(), means.clone()), effect)
        .want(Seen::Limit { fsid, ino, bytes })
        .undo(Undo::Restore)
}

/// A walk is long where there is something to walk through.
fn tag(path: &Path, tree: &TreeFact, tag: Tag) -> Step {
    let title = match tag.back {
        false => format!("count everything in {} as project {}", path.display(), tag.to.id),
        true => format!("give everything in {} back to project {}", path.display(), tag.to.id),
    };
    let effect = |tag| Effect::Tag { path: path.to_owned(), fsid: tree.fsid, ino: tree.ino, tag };
    let back = Tag { from: tag.to, to: tag.from, back: !tag.back };
    // Nothing is said about what is seen afterwards: the root, which is looked at, carries the number before everything does.
    let step = Step::new("quota/project", title, Watch::Project(path.to_owned()), effect(tag)).undo(Undo::Do(vec![effect(back)]));
    if tree.populated { step.long() } else { step }
}

/// The steps that lift a limit of ours and put back what was there before.
fn lift(path: &Path, tree: &TreeFact, q: &QuotaEntry, warnings: &mut Vec<String>) -> Vec<Step> {
    let Some(seen) = &tree.quota else { return Vec::new() };
    let ours = match (&seen.means, &q.means) {
        // The number is ours, whatever somebody made of its limit; with another number somebody else has taken the tree over.
        (Ok(now), Means::Project { .. }) => *now == q.means,
        (Ok(now), then) => now == then && seen.limit == Some(then.whole(q.limit)),
        (Err(_), _) => false,
    };
    if q.means == Means::Volume {
        return Vec::new();
    }
    if !ours {
        warnings.push(left_behind(
            path,
            q,
            seen.means.as_ref().map_or_else(ToString::to_string, |m| format!("now there is {m}")),
        ));
        return Vec::new();
    }
    let mut steps = vec![limit(path, tree, &q.means, q.limit_before)];
    if let Means::Project { id } = q.means {
        let to = q.project_before.unwrap_or_default();
        steps.push(tag(path, tree, Tag { from: Project::of(id), to, back: true }));
    }
    steps
}

/// A limit that cannot be lifted now, and how that is done by hand.
fn left_behind(path: &Path, q: &QuotaEntry, why: impl std::fmt::Display) -> String {
    let path = path.display();
    let by_hand = match &q.means {
        Means::Project { .. } => format!("chattr -R -p 0 -P {path}"),
        Means::Qgroup { .. } => format!("btrfs qgroup limit none {path}"),
        Means::Dataset { name } => format!("zfs set refquota=none {name}"),
        Means::Ceph => format!("setfattr -n ceph.quota.max_bytes -v 0 {path}"),
        Means::Volume => return format!("{path} is left as it is: {why}"),
    };
    format!("the limit of {path} ({}, {}) is left as it is: {why}. To lift it by hand: {by_hand}", human(q.limit), q.means)
}

/// A share that goes: its tree is left as it was found.
pub fn forget(entry: &ShareEntry, tree: &TreeFact, warnings: &mut Vec<String>) -> Vec<Step> {
    let mut steps = user_steps(entry, tree, &BTreeMap::new(), warnings).unwrap_or_default();
    steps.extend(entry.quota.iter().flat_map(|q| lift(&entry.tree.path, tree, q, warnings)));
    steps
}

/// The same where the tree cannot be reached.
pub fn out_of_reach(entry: &ShareEntry, why: &str, warnings: &mut Vec<String>) {
    warnings.extend(entry.quota.iter().map(|q| left_behind(&entry.tree.path, q, why)));
    if !entry.user_limits.is_empty() {
        warnings.push(format!("limits of users in {} are left as they are: {why}", entry.tree.path.display()));
    }
}

// ---- single users ------------------------------------------------------------------------------------------------------

/// The limits of single users, once their accounts are planned. Who has none gets the limit from the worker when it has.
pub fn of_users(spec: &ShareSpec, password: bool, facts: &Facts) -> Steps {
    let (record, e) = (record(facts)?, entry(facts, spec.id.as_str())?);
    if spec.user_quotas.is_empty() && e.user_limits.is_empty() {
        return nothing();
    }
    let tree = facts.tree(&spec.path).map_err(wrong_users)?;
    let seen = |uid: u32| tree.quota.as_ref().and_then(|q| q.user_limits.get(&uid)).copied().filter(|l| *l > 0);
    let (mut wanted, mut warnings) = (BTreeMap::new(), Vec::new());
    let shift = e.mount.map_or(0, |m| m.ids.shift());
    for (name, size) in &spec.user_quotas {
        let mut uid = record.users.get(name.as_str()).map(|u| u.uid);
        if uid.is_none() && password && spec.first_user.as_ref() == Some(name) {
            // The number that this very phase gives it.
            uid = Some(record.clone().number(&format!("user/{name}"), |n| facts.number_taken(n))?);
        }
        let Some(uid) = uid.map(|u| u + shift) else {
            warnings.push(format!("there is no user {name} yet, so nothing limits it: pve-smbgateway user create {name}"));
            continue;
        };
        let known = e.user_limits.get(name.as_str()).filter(|l| l.uid == uid);
        let before = known.map_or_else(|| seen(uid), |l| l.before);
        wanted.insert(name.to_string(), UserLimit { uid, limit: size.0, before });
    }
    // Where nothing can be set, nothing is recorded either: the worker tries again.
    let Some(mut steps) = user_steps(e, tree, &wanted, &mut warnings) else { return Ok((Vec::new(), warnings)) };
    if wanted != e.user_limits {
        let new = ShareEntry { user_limits: wanted, ..e.clone() };
        let (title, key) = (format!("record the limits of users in share {}", spec.id), Key::Share(spec.id.to_string()));
        steps.push(accounts::record("quota/users", title, key, serde_json::to_value(&new).ok()));
    }
    Ok((steps, warnings))
}

fn wrong_users(why: impl Into<String>) -> Error {
    Error::property("smbgw-user-quota", why)
}

/// The steps from what is recorded and seen to other limits of users; `None`: nothing can be set now. Who leaves the list gets back what was there
/// before, unless somebody changed it since.
fn user_steps(
    e: &ShareEntry,
    tree: &TreeFact,
    wanted: &BTreeMap<String, UserLimit>,
    warnings: &mut Vec<String>,
) -> Option<Vec<Step>> {
    if wanted.is_empty() && e.user_limits.is_empty() {
        return Some(Vec::new());
    }
    let Some(QuotaSeen { users: Ok(means), user_limits: seen, .. }) = &tree.quota else {
        let why = tree.quota.as_ref().and_then(|q| q.users.as_ref().err()).map(|u| format!(": {u}")).unwrap_or_default();
        warnings.push(format!("the limits of users in {} are left as they are{why}", e.tree.path.display()));
        return None;
    };
    let mut all: Vec<(&str, u32, Option<u64>)> = Vec::new();
    for (name, l) in e.user_limits.iter().filter(|(_, l)| !wanted.values().any(|w| w.uid == l.uid)) {
        match seen.get(&l.uid) {
            Some(now) if *now != means.whole(l.limit) => {
                let now = if *now == 0 { "none".to_owned() } else { human(*now) };
                warnings.push(format!("the limit of user {name} was changed by somebody else and is left as it is ({now})"));
            }
            _ => all.push((name, l.uid, l.before)),
        }
    }
    for (name, l) in wanted {
        let recorded = e.user_limits.get(name).is_some_and(|r| (r.uid, r.limit) == (l.uid, l.limit));
        if !recorded || seen.get(&l.uid).is_some_and(|now| *now != means.whole(l.limit)) {
            all.push((name, l.uid, Some(l.limit)));
        }
    }
    let (path, fsid, ino) = (&e.tree.path, tree.fsid, tree.ino);
    let step = |(name, uid, limit): (&str, u32, Option<u64>)| {
        let limit = limit.map(|b| means.whole(b));
        let title = match limit {
            Some(b) => format!("limit user {name} in {} to {}", path.display(), human(b)),
            None => format!("lift the limit of user {name} in {}", path.display()),
        };
        let effect = Effect::SetUserQuota { path: path.clone(), fsid, ino, means: means.clone(), uid, limit };
        Step::new(format!("quota/user.{name}"), title, Watch::UserQuota(path.clone(), means.clone(), uid), effect)
            .want(Seen::Limit { fsid, ino, bytes: limit })
            .undo(Undo::Restore)
    };
    Some(all.into_iter().map(step).collect())
}

// ---- drift -------------------------------------------------------------------------------------------------------------

/// The limits of a share that somebody changed are set again; a user whose account is new gets its limit.
pub fn restore(id: &str, facts: &Facts) -> Steps {
    let e = entry(facts, id)?;
    if e.state == ShareState::Deleting {
        return nothing();
    }
    let spec = samba::spec_of(id, e, record(facts)?)?;
    let missing = |why: String| Error::new(Kind::Drift, format!("the limits of share {id} cannot be looked at: {why}"));
    let tree = samba::tree_holds(&spec, &e.tree, facts).and_then(|()| facts.tree(&e.tree.path)).map_err(missing)?;
    let seen = tree.quota.as_ref().ok_or_else(|| missing("nobody looked".into()))?;
    let (mut steps, mut warnings) = of_users(&spec, false, facts)?;
    if let Some(q) = &e.quota {
        let mut limits = Vec::new();
        match (not_by(seen, q), &seen.means, &q.means) {
            (_, Ok(Means::Project { .. }), Means::Project { id }) => {
                limits.extend(retag(*id, &spec, e, q, tree, seen));
                limits.extend(reach(&e.tree.path, tree, seen, q));
            }
            (None, ..) => limits.extend(reach(&e.tree.path, tree, seen, q)),
            (Some(why), ..) => {
                let why = format!("share {id} is not limited to {}: {why}", human(q.limit));
                return Err(Error::new(Kind::Unsupported, why));
            }
        }
        steps.splice(0..0, limits).for_each(drop);
    }
    // ZFS takes no limit below what is used.
    if let (Some(QuotaEntry { means: Means::Dataset { .. }, limit, .. }), Some(used)) = (&e.quota, seen.used) {
        if used > *limit && seen.limit != Some(*limit) {
            steps.retain(|s| s.id != "quota/limit");
            warnings.push(format!(
                "share {id} uses {} and cannot be limited to {} again before enough was removed",
                human(used),
                human(*limit)
            ));
        }
    }
    Ok((steps, warnings))
}

/// Puts the project of a tree back. Nothing of it is undone: files that were ours before must stay so, and a walk that was cut short is gone on
/// with. The record says for how long it is not done, since the root carries the number from the first moment on.
fn retag(id: u32, spec: &ShareSpec, e: &ShareEntry, q: &QuotaEntry, tree: &TreeFact, seen: &QuotaSeen) -> Vec<Step> {
    let now = seen.project.unwrap_or_default();
    if now == Project::of(id) && !q.unfinished {
        return Vec::new();
    }
    let stays = || Undo::None("the tree is the share's; the worker goes on".into());
    let note = |word: &str, unfinished: bool| {
        let entry = ShareEntry { quota: Some(QuotaEntry { unfinished, ..q.clone() }), ..e.clone() };
        let title = format!("record that the project of {} is {word}", spec.path.display());
        accounts::record(format!("quota/{word}"), title, Key::Share(spec.id.to_string()), serde_json::to_value(&entry).ok())
            .undo(stays())
    };
    let from = if now.id == id { q.project_before.unwrap_or_default() } else { now };
    let walk = tag(&spec.path, tree, Tag { from, to: Project::of(id), back: false }).undo(stays());
    vec![note("unfinished", true), walk, note("finished", false)]
}

/// Why a tree is not limited by the means of its entry.
fn not_by(seen: &QuotaSeen, q: &QuotaEntry) -> Option<String> {
    match &seen.means {
        Err(u) => Some(format!("nothing limits the share as far as can be seen: {u}")),
        Ok(now) if *now != q.means => {
            let notes: String = seen.notes.iter().map(|n| format!("; {n}")).collect();
            Some(format!("the tree is limited by {now} instead of {}{notes}", q.means))
        }
        Ok(_) => None,
    }
}

/// What is not as the record says about the limits of a share, for people.
pub fn drift(entry: &ShareEntry, facts: &Facts) -> Vec<String> {
    let tree = facts.tree(&entry.tree.path).ok().and_then(|t| t.quota.as_ref());
    let Some(seen) = tree else { return Vec::new() };
    let mut list = Vec::new();
    if let Some(q) = &entry.quota {
        let wanted = q.means.whole(q.limit);
        match (not_by(seen, q), seen.limit) {
            (Some(why), _) => list.push(why),
            // As large as it is. A dataset's is told by `zfs` alone, which not every look asks.
            (None, limit) if q.means == Means::Volume || limit == Some(wanted) => {}
            (None, None) if matches!(q.means, Means::Dataset { .. }) => {}
            (None, limit) => {
                let is = limit.map_or("none".to_owned(), human);
                list.push(format!("the limit is {is} instead of {}", human(wanted)));
            }
        }
    }
    for (name, l) in &entry.user_limits {
        match (&seen.users, seen.user_limits.get(&l.uid)) {
            (Err(u), _) => list.push(format!("user {name} is not limited: {u}")),
            (Ok(means), Some(now)) if *now != means.whole(l.limit) => {
                let is = if *now == 0 { "none".to_owned() } else { human(*now) };
                list.push(format!("the limit of user {name} is {is} instead of {}", human(l.limit)));
            }
            _ => {}
        }
    }
    list
}
