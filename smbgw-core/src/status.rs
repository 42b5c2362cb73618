// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state of a share as a document. Pure: facts and journals in, document out. The same document is the snapshot that the hot path
//! reads, so it also holds what that needs: space, file system, time.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::directory::health::Health;
use crate::error::{Error, ErrorDoc, Kind};
use crate::facts::{Facts, Space};
use crate::journal::{OpState, fold};
use crate::plan::live::hand_edited;
use crate::plan::quota;
use crate::plan::samba::{self, access_list};
use crate::quota::{Figures, Means};
use crate::spec::record::{Member, MemberState, Record, ShareEntry, ShareState};
use crate::spec::section::Mode;
use crate::types::human;

/// Version of the document.
pub const SCHEMA: u32 = 1;

/// A snapshot older than this says nothing any more.
pub const STALE_MS: i64 = 60_000;

/// Space in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceDoc {
    /// Size.
    pub total: u64,
    /// Free for users.
    pub avail: u64,
    /// Written.
    pub used: u64,
}

/// The part of a snapshot that the hot path reads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Hot {
    /// When it was made, milliseconds since the epoch.
    pub at: i64,
    /// The tree can be reached and is the recorded one.
    pub active: bool,
    /// The tree.
    pub path: String,
    /// Local file system: `statfs` on it cannot block.
    pub local: bool,
    /// `f_fsid` of the file system in hex, `0` where there is none that lasts. Text, because not every reader of JSON has 64-bit numbers.
    pub fsid: String,
    /// Space at that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub space: Option<SpaceDoc>,
    /// Its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited: Option<HotQuota>,
    /// The gateway that serves it.
    #[serde(default)]
    pub gateway: String,
    /// `ready`, `disabled`, or what is wrong with it.
    #[serde(default)]
    pub state: String,
}

impl Hot {
    /// Until when it held: `well` is when the agent last saw that nothing of the gateway had changed and all was in order there.
    pub fn held_at(&self, well: Option<i64>) -> i64 {
        well.filter(|_| is_in_order(&self.state)).map_or(self.at, |well| well.max(self.at))
    }
}

/// Whether a share is in the state that is wanted of it.
pub fn is_in_order(state: &str) -> bool {
    matches!(state, "ready" | "disabled")
}

/// What the hot path has to know of a limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HotQuota {
    /// How it is enforced.
    pub means: Means,
    /// Bytes.
    pub limit: u64,
}

/// Space as clients see it: a tree with a limit is as large as that, and has no more room than its file system.
pub fn room(quota: &HotQuota, used: Option<u64>, space: Space) -> Space {
    let HotQuota { means, limit } = quota;
    let used = match (means, used) {
        // Where files and blocks of the tree alone are counted, the file system's own answer is about the tree.
        (Means::Volume, _) | (_, None) => return space,
        (_, Some(used)) => used,
    };
    Space { total: *limit, used, avail: limit.saturating_sub(used).min(space.avail), ..space }
}

/// What a document is made from.
pub struct Look<'a> {
    /// Facts, the quick ones at least.
    pub facts: &'a Facts,
    /// Shares that our configuration file has ([`samba::own_sections`]); read once for all documents of a gateway.
    pub ours: &'a [String],
    /// Open and stuck operations of the gateway.
    pub open: &'a [OpState],
    /// Journals that were set aside.
    pub damaged: &'a [String],
    /// Space of the tree, where it could be asked for.
    pub space: Option<Space>,
    /// What it uses of its limit, where it has one and that could be asked for.
    pub figures: Option<Figures>,
    /// The section is in storage.cfg, where that is known.
    pub in_config: Option<bool>,
    /// What a check of the effective configuration found.
    pub drift: &'a [String],
    /// What is known of the membership of a domain.
    pub health: &'a Health,
}

/// File systems on which `statfs` and `stat` answer from memory.
pub fn is_local(fs_type: &str) -> bool {
    matches!(fs_type, "ext4" | "xfs" | "btrfs")
}

/// The document of one share.
pub fn document(id: &str, entry: &ShareEntry, look: &Look<'_>) -> Value {
    let facts = look.facts;
    let record = facts.record.as_ref();
    let node = record.map_or(facts.node.as_str(), |r| r.node.as_str());
    let spec =
        record.ok_or_else(|| Error::new(Kind::NotFound, "there is no gateway record")).and_then(|r| samba::spec_of(id, entry, r));
    let (mode, gateway) = (facts.paths.mode, facts.paths.gateway.as_str());
    // A user may have the name of a share.
    let about_it = |o: &&OpState| o.target == id && o.op.starts_with("share.");
    let stuck = look.open.iter().filter(about_it).find(|o| o.is_stuck());
    let running = look.open.iter().filter(about_it).find(|o| !o.is_stuck());
    let (mut warnings, mut drift): (Vec<String>, Vec<String>) = (Vec::new(), look.drift.to_vec());
    let tree = spec.as_ref().map_err(|e| e.to_string()).and_then(|s| samba::tree_holds(s, &entry.tree, facts));
    let disabled = spec.as_ref().is_ok_and(|s| s.disabled);
    let elsewhere = spec.as_ref().is_ok_and(|s| s.node.as_str() != facts.node);

    let vanished = entry.committed && entry.delete_intent.is_none() && look.in_config == Some(false);
    if vanished {
        warnings.push(format!(
            "the section of {id} is gone from the storage configuration without having been removed; it is still served. Put it back with: pve-smbgateway repair {id} --restore"
        ));
    }
    // While an operation is on its way, the record may be one step ahead of the file.
    let settled = look.open.iter().all(OpState::is_stuck);
    drift
        .extend(hand_edited(facts).filter(|_| settled).map(|w| format!("{w}; it is kept. See: pve-smbgateway repair {gateway}")));
    drift.extend(quota::drift(entry, facts).into_iter().filter(|_| settled));
    let served_name = spec.as_ref().map(|s| s.share.to_string()).unwrap_or_default();
    let served = look.ours.contains(&served_name);
    if let Err(why) = &tree {
        warnings.push(why.clone());
    }
    if served && !facts.smbd_running {
        warnings.push("smbd does not run".into());
    }
    if mode == Mode::Lxc {
        warnings.extend(container_warnings(facts, gateway));
    }
    if let Ok(s) = &spec {
        if s.access.is_empty() {
            warnings.push("nobody may use the share: set smbgw-access".into());
        }
    }
    let member = record.and_then(|r| r.member.as_ref());
    warnings.extend(member.into_iter().flat_map(|m| membership_warnings(m, record, look.health, gateway)));
    if let (Some(q), Some(f)) = (&entry.quota, look.figures) {
        if f.used >= q.limit && q.means != Means::Volume {
            warnings.push(format!("the share is full: it uses {} of {}", human(f.used), human(q.limit)));
        }
    }
    warnings.extend(look.damaged.iter().map(|d| format!("a journal is damaged and was set aside: {d}")));

    let state = if stuck.is_some() {
        "stuck"
    } else if entry.state == ShareState::Deleting {
        "deleting"
    } else if entry.state == ShareState::Building {
        if mode == Mode::Lxc { "provisioning" } else { "building" }
    } else if vanished {
        "vanished"
    } else if disabled || elsewhere {
        "disabled"
    } else if tree.is_err() {
        "offline"
    } else if !served || !facts.smbd_running || member.is_some_and(|m| is_ill(m, look.health)) {
        "degraded"
    } else {
        "ready"
    };
    let hot = Hot {
        at: facts.now_ms,
        active: tree.is_ok() && entry.state != ShareState::Deleting,
        path: entry.tree.path.display().to_string(),
        local: is_local(&entry.tree.fs_type),
        fsid: format!("{:x}", entry.tree.fsid),
        space: look.space.map(|s| SpaceDoc { total: s.total, avail: s.avail, used: s.used }),
        limited: limited(entry),
        gateway: gateway.to_owned(),
        state: state.to_owned(),
    };
    let mut doc = serde_json::to_value(hot).unwrap_or_default();
    let more = json!({
        "schema": SCHEMA, "id": id, "share": served_name, "mode": mode, "node": node,
        "served": served, "smbd": {"running": facts.smbd_running},
        "security": spec.as_ref().ok().map(|s| s.security), "profile": spec.as_ref().ok().map(|s| s.profile),
        "access": spec.as_ref().map(access_list).unwrap_or_default(),
        "committed": entry.committed, "warnings": warnings, "drift": drift,
        "operation": running.map(operation_document),
        "stuck": stuck.map(stuck_document),
    });
    if let (Some(d), Some(m)) = (doc.as_object_mut(), more.as_object()) {
        d.extend(m.clone());
    }
    doc["directory"] = member.map_or(Value::Null, |m| membership_document(m, look.health));
    doc["quota"] = quota_document(entry, look.space, look.figures, facts.now_ms);
    if mode == Mode::Lxc {
        doc["container"] = container(facts);
        doc["mount"] = json!(entry.mount);
    }
    doc
}

/// The membership of a gateway for documents. `state`: `joined`, `left`, or `found` while it joins; `healthy`: `null` while nobody has looked.
pub fn membership_document(m: &Member, health: &Health) -> Value {
    let healthy = (health.looked_ms > 0).then_some(health.reason.is_none());
    json!({
        "domain": m.domain, "workgroup": m.workgroup, "computer": m.computer, "range": m.range.to_string(), "state": m.state, "healthy": healthy,
        "reason": health.reason, "evidence": health.evidence, "since": health.since_ms, "looked": health.looked_ms, "attempts": health.attempts,
        "remarks": health.remarks, "fallback": m.fallback,
    })
}

/// Users of the domain cannot log in, or soon cannot.
fn is_ill(m: &Member, health: &Health) -> bool {
    m.state == MemberState::Left || (m.is_joined() && health.trouble().is_some_and(|r| r.rank() <= 8))
}

fn membership_warnings(m: &Member, record: Option<&Record>, health: &Health, gateway: &str) -> Vec<String> {
    let mut list = Vec::new();
    if m.state == MemberState::Left {
        list.push(format!(
            "the gateway has left the domain {}: its users cannot log in until pve-smbgateway ad join {gateway}",
            m.domain
        ));
    }
    if let (true, Some(reason)) = (m.is_joined(), health.trouble()) {
        list.push(format!(
            "domain {}: {} ({}): {}; {}",
            m.domain,
            reason.means(),
            reason.code(),
            health.evidence,
            reason.remedy()
        ));
    }
    if m.fallback.is_some() {
        let users = record.map(|r| r.fallback_users().join(", ")).unwrap_or_default();
        let why =
            if m.fallback.is_some_and(|f| f.forced) { "an administrator ordered it" } else { "no domain controller answers" };
        list.push(format!(
            "local users may log in ({users}), because {why}; it ends with: pve-smbgateway ad fallback off {gateway}"
        ));
    }
    list.extend(health.remarks.iter().cloned());
    list
}

/// The limit of a share, as far as the hot path needs it.
pub fn limited(entry: &ShareEntry) -> Option<HotQuota> {
    entry.quota.as_ref().map(|q| HotQuota { means: q.means.clone(), limit: q.limit })
}

/// The limit of a share and what is used of it: `null` without a limit. `free` is what clients can still write, `lag-ms` how much older than `at`
/// the figures may be.
pub fn quota_document(entry: &ShareEntry, space: Option<Space>, figures: Option<Figures>, at: i64) -> Value {
    let Some(q) = &entry.quota else { return Value::Null };
    json!({
        "limit": q.limit, "means": q.means.name(), "object": q.means.to_string(), "used": figures.map(|f| f.used), "free": space.map(|s| s.avail),
        "files": figures.and_then(|f| f.files), "at": at, "lag-ms": q.means.lag_ms(),
    })
}

/// The container of a gateway for documents.
pub fn container(facts: &Facts) -> Value {
    let seen = facts.container().map(|(_, g)| g);
    let record = facts.record.as_ref();
    json!({
        "vmid": record.and_then(|r| r.vmid), "running": seen.is_some_and(|g| g.running), "template": record.and_then(|r| r.template.clone()),
        "stopped": record.is_some_and(|r| r.stopped), "unprivileged": seen.and_then(|g| g.conf.get("unprivileged")) == Some("1"),
        "memory": seen.and_then(|g| g.conf.get("memory")), "cores": seen.and_then(|g| g.conf.get("cores")),
        "net": seen.and_then(|g| g.conf.get("net0")), "hostname": seen.and_then(|g| g.conf.get("hostname")),
        "pending": seen.map(|g| g.conf.pending_delete.iter().chain(g.conf.pending.keys()).cloned().collect::<Vec<_>>()).unwrap_or_default(),
    })
}

fn container_warnings(facts: &Facts, gateway: &str) -> Vec<String> {
    let Some(r) = facts.record.as_ref() else { return Vec::new() };
    let mut list = Vec::new();
    match (facts.container(), r.vmid) {
        (None, Some(v)) => list.push(format!("container {v} of gateway {gateway} is not on this node")),
        (None, None) => {}
        (Some((v, g)), _) if !g.running => {
            let why = if r.stopped {
                format!(": it was stopped; start it with: pve-smbgateway gateway start {gateway}")
            } else {
                String::new()
            };
            list.push(format!("container {v} does not run{why}"));
        }
        (Some((v, g)), _) => {
            if let Err(why) = &g.hand {
                list.push(format!("container {v} cannot be looked into: {why}"));
            }
            if !g.conf.pending_delete.is_empty() || !g.conf.pending.is_empty() {
                list.push(format!("changes of container {v} wait for its next start: pve-smbgateway gateway restart {gateway}"));
            }
        }
    }
    list
}

/// What is open: which operation, since when, and the step that comes next or is at work.
pub fn operation_document(o: &OpState) -> Value {
    let step = o.next_step().and_then(|n| o.steps.get(n)).map(|s| &s.step.title);
    json!({"opid": o.opid, "op": o.op, "since": o.opened, "step": step})
}

/// What is stuck: both errors, what finishes it, and by hand.
pub fn stuck_document(o: &OpState) -> Value {
    let errors: Vec<&ErrorDoc> = o.undo_errors.iter().collect();
    json!({
        "opid": o.opid, "op": o.op, "since": o.last, "error": o.error, "undo-errors": errors,
        "commands": fold::by_hand(o),
        "remedy": fold::repair(o),
    })
}
