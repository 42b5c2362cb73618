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
use crate::quota::{Means, PROJECTS, Project, QuotaSeen, Tag, UserMeans};
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
        (Some(size), old) => {
            let seen = possible(&spec.path, tree, size.0, warnings)?;
            let entry = match old {
                Some(q) => QuotaEntry { limit: size.0, ..same_means(&spec.path, seen, q)?.clone() },
                None => first(spec, seen, facts, size.0)?,
            };
            let steps = reach(&spec.path, tree, seen, &entry, "");
            Ok((Some(entry), steps))
        }
    }
}

/// What was looked at, if it can limit the tree to that many bytes; otherwise why not, and what would help.
fn possible<'a>(path: &Path, tree: &'a TreeFact, bytes: u64, warnings: &mut Vec<String>) -> Result<&'a QuotaSeen> {
    let seen = tree.quota.as_ref().ok_or_else(|| Error::new(Kind::Internal, "nobody looked at the quota of the tree"))?;
    let means = seen.means.as_ref().map_err(|u| wrong(u.to_string()))?;
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
            let other = seen.notes.first().map(|n| format!("; for a smaller one: {n}")).unwrap_or_default();
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
    if let Some(used) = seen.used.filter(|u| *u > bytes) {
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
            QuotaEntry { limit, means: Means::Project { id }, limit_before: None, project_before: seen.project }
        }
        means => {
            let before = seen.limit.filter(|_| means != Means::Volume);
            QuotaEntry { limit, means, limit_before: before, project_before: None }
        }
    })
}

/// A project id that nobody has: made from the share and its gateway, so that two nodes or two runs hardly ever meet, then the next that the
/// file system, `/etc/projects`, `/etc/projid` and the record do not know.
fn free_project(spec: &ShareSpec, seen: &QuotaSeen, facts: &Facts) -> Result<u32> {
    let uuid = facts.record.as_ref().map_or("", |r| r.uuid.as_str());
    let digest = Sha256::digest(format!("{uuid} {} {}", spec.gateway, spec.id));
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

/// The steps from what is seen to an entry. `suffix` tells shares apart where several are in one plan.
fn reach(path: &Path, tree: &TreeFact, seen: &QuotaSeen, entry: &QuotaEntry, suffix: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Means::Project { id } = entry.means {
        let now = seen.project.unwrap_or_default();
        if now != Project::of(id) {
            steps.push(tag(path, tree, Tag { from: now, to: Project::of(id), back: false }, suffix));
        }
    }
    let there = matches!(&seen.means, Ok(m) if *m == entry.means);
    if entry.means != Means::Volume && !(there && seen.limit == Some(entry.means.whole(entry.limit))) {
        steps.push(limit(path, tree, &entry.means, Some(entry.limit), suffix));
    }
    steps
}

fn limit(path: &Path, tree: &TreeFact, means: &Means, bytes: Option<u64>, suffix: &str) -> Step {
    let (dev, ino) = (tree.dev, tree.ino);
    let title = match bytes {
        Some(b) => format!("limit {} to {}", path.display(), human(b)),
        None => format!("lift the limit of {}", path.display()),
    };
    let bytes = bytes.map(|b| means.whole(b));
    let effect = Effect::SetQuota { path: path.to_owned(), dev, ino, means: means.clone(), limit: bytes };
    Step::new(format!("quota/limit{suffix}"), title, Watch::Quota(path.to_owned(), means.clone()), effect)
        .want(Seen::Limit { dev, ino, bytes })
        .undo(Undo::Restore)
}

/// A walk is long where there is something to walk through.
fn tag(path: &Path, tree: &TreeFact, tag: Tag, suffix: &str) -> Step {
    let title = match tag.back {
        false => format!("count everything in {} as project {}", path.display(), tag.to.id),
        true => format!("give everything in {} back to project {}", path.display(), tag.to.id),
    };
    let effect = |tag| Effect::Tag { path: path.to_owned(), dev: tree.dev, ino: tree.ino, tag };
    let back = Tag { from: tag.to, to: tag.from, back: !tag.back };
    // Nothing is said about what is seen afterwards: the root, which is looked at, carries the number before everything does.
    let step = Step::new(format!("quota/project{suffix}"), title, Watch::Project(path.to_owned()), effect(tag))
        .undo(Undo::Do(vec![effect(back)]));
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
        warnings.push(format!("the limit of {} was changed by somebody else and is left as it is", path.display()));
        return Vec::new();
    }
    let mut steps = vec![limit(path, tree, &q.means, q.limit_before, "")];
    if let Means::Project { id } = q.means {
        let to = q.project_before.unwrap_or_default();
        steps.push(tag(path, tree, Tag { from: Project::of(id), to, back: true }, ""));
    }
    steps
}

/// A share that goes: its tree is left as it was found.
pub fn forget(entry: &ShareEntry, tree: &TreeFact, warnings: &mut Vec<String>) -> Vec<Step> {
    let mut steps = user_steps(entry, tree, &BTreeMap::new(), warnings);
    steps.extend(entry.quota.iter().flat_map(|q| lift(&entry.tree.path, tree, q, warnings)));
    steps
}

// ---- single users ------------------------------------------------------------------------------------------------------

/// The limits of single users, once their accounts are planned. Who has none gets the limit from the worker when it has.
pub fn of_users(spec: &ShareSpec, password: bool, facts: &Facts, suffix: &str) -> Steps {
    let (record, e) = (record(facts)?, entry(facts, spec.id.as_str())?);
    if spec.user_quotas.is_empty() && e.user_limits.is_empty() {
        return nothing();
    }
    let tree = facts.tree(&spec.path).map_err(wrong_users)?;
    let (mut wanted, mut warnings) = (BTreeMap::new(), Vec::new());
    let shift = e.mount.map_or(0, |m| m.ids.shift());
    for (name, size) in &spec.user_quotas {
        let mut uid = record.users.get(name.as_str()).map(|u| u.uid);
        if uid.is_none() && password && spec.first_user.as_ref() == Some(name) {
            // The number that this very phase gives it.
            uid = Some(record.clone().number(&format!("user/{name}"), |n| facts.number_taken(n))?);
        }
        match uid {
            Some(uid) => _ = wanted.insert(name.to_string(), UserLimit { uid: uid + shift, limit: size.0 }),
            None => {
                warnings.push(format!("there is no user {name} yet, so nothing limits it: pve-smbgateway user create {name}"))
            }
        }
    }
    let mut steps = user_steps(e, tree, &wanted, &mut warnings);
    steps.iter_mut().for_each(|s| s.id.push_str(suffix));
    if wanted != e.user_limits {
        let new = ShareEntry { user_limits: wanted, ..e.clone() };
        let (title, key) = (format!("record the limits of users in share {}", spec.id), Key::Share(spec.id.to_string()));
        steps.push(accounts::record(format!("quota/users{suffix}"), title, key, serde_json::to_value(&new).ok()));
    }
    Ok((steps, warnings))
}

fn wrong_users(why: impl Into<String>) -> Error {
    Error::property("smbgw-user-quota", why)
}

/// The steps from the recorded limits of users to others. A user that leaves the list has no limit any more.
fn user_steps(e: &ShareEntry, tree: &TreeFact, wanted: &BTreeMap<String, UserLimit>, warnings: &mut Vec<String>) -> Vec<Step> {
    let gone = e.user_limits.iter().filter(|(n, _)| !wanted.contains_key(*n)).map(|(n, l)| (n, l.uid, None));
    let new = wanted.iter().filter(|(n, l)| e.user_limits.get(*n) != Some(l)).map(|(n, l)| (n, l.uid, Some(l.limit)));
    let all: Vec<_> = gone.chain(new).collect();
    let means = match tree.quota.as_ref().map(|q| &q.users) {
        Some(Ok(means)) => means,
        _ if all.is_empty() => return Vec::new(),
        _ => {
            warnings.push(format!(
                "the limits of users in {} are left as they are: nothing tells of them now",
                e.tree.path.display()
            ));
            return Vec::new();
        }
    };
    let (path, dev, ino) = (&e.tree.path, tree.dev, tree.ino);
    all.into_iter()
        .map(|(name, uid, limit)| {
            let limit = limit.map(|b| if *means == UserMeans::FileSystem { b.div_ceil(1024) << 10 } else { b });
            let title = match limit {
                Some(b) => format!("limit user {name} in {} to {}", path.display(), human(b)),
                None => format!("lift the limit of user {name} in {}", path.display()),
            };
            let effect = Effect::SetUserQuota { path: path.clone(), dev, ino, means: means.clone(), uid, limit };
            Step::new(format!("quota/user.{name}"), title, Watch::UserQuota(path.clone(), means.clone(), uid), effect)
                .want(Seen::Limit { dev, ino, bytes: limit })
                .undo(Undo::Restore)
        })
        .collect()
}

/// Limits that somebody changed are set again.
pub fn restore(facts: &Facts) -> Steps {
    let (mut steps, mut warnings) = (Vec::new(), Vec::new());
    for (id, e) in facts.record.iter().flat_map(|r| &r.shares) {
        let Some(record) = facts.record.as_ref().filter(|_| e.state != ShareState::Deleting) else { continue };
        let spec = samba::spec_of(id, e, record)?;
        // One that is not in place is told by the planner of the entries.
        let Ok(tree) = samba::tree_holds(&spec, &e.tree, facts).and_then(|()| facts.tree(&e.tree.path)) else { continue };
        let Some(seen) = &tree.quota else { continue };
        // Whose account is new gets its limit now.
        let (users, words) = of_users(&spec, false, facts, &format!(".{id}"))?;
        steps.extend(users);
        warnings.extend(words);
        let Some(q) = &e.quota else { continue };
        match same_means(&e.tree.path, seen, q) {
            Ok(_) => steps.extend(reach(&e.tree.path, tree, seen, q, &format!(".{id}"))),
            Err(why) => warnings.push(format!("share {id} is not limited: {why}")),
        }
    }
    Ok((steps, warnings))
}

/// What is not as the record says about the limit of a share, for people.
pub fn drift(entry: &ShareEntry, facts: &Facts) -> Option<String> {
    let q = entry.quota.as_ref()?;
    let tree = facts.tree(&entry.tree.path).ok()?;
    let seen = tree.quota.as_ref()?;
    let wanted = q.means.whole(q.limit);
    match &seen.means {
        Err(u) => Some(format!("the share is not limited any more: {u}")),
        Ok(Means::Volume) => None,
        Ok(now) if *now != q.means => Some(format!("the tree is limited by {now} instead of {}", q.means)),
        // A dataset's is told by `zfs` alone, which not every look asks.
        Ok(Means::Dataset { .. }) if seen.limit.is_none() => None,
        Ok(_) if seen.limit == Some(wanted) => None,
        Ok(_) => {
            let is = seen.limit.map_or("none".to_owned(), human);
            Some(format!("the limit is {is} instead of {}", human(wanted)))
        }
    }
}
