// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a node has to do to come to its wanted state, as a list. Pure: record, sections and open operations in, tasks out. It knows that
//! a section that vanished is not a deletion.

use crate::journal::OpState;
use crate::spec::record::{Record, ShareState};
use crate::spec::section::{NATIVE, Section, Sections, parse_bool};

/// A create whose section does not appear in storage.cfg within this time is taken back.
pub const UNCOMMITTED_MS: i64 = 180_000;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Go on with an interrupted operation, or take it back.
    Resume {
        /// Which.
        opid: String,
        /// Take it back.
        unwind: bool,
    },
    /// Note that storage.cfg has the section.
    Commit(String),
    /// Build a share whose section is there.
    Create(String),
    /// Bring a share to its changed section.
    Update(String),
    /// The section of a removed share is gone at last.
    Gone(String),
    /// The section of a removed share is still there: nothing is built from it.
    StillThere(String),
    /// Remove a share; why, for the journal.
    Delete(String, String),
}

/// Whether a section is a native share of this node.
pub fn is_ours(section: &Section, node: &str) -> bool {
    section.get("type").is_none_or(|t| t == "smbgateway")
        && section.get("smbgw-mode").is_some_and(|m| m == NATIVE)
        && section.get("nodes").is_some_and(|n| n.split([',', ' ', ';']).any(|x| x == node))
}

/// Whether two sections ask for the same share. What Proxmox keeps for itself does not count.
pub fn same_section(a: &Section, b: &Section) -> bool {
    // Properties that change nothing about how the share is served.
    let idle =
        |k: &str, v: &str| matches!(k, "content" | "content-dirs" | "shared") || (k == "disable" && parse_bool(v) == Some(false));
    let part = |s: &Section| -> Section {
        s.iter()
            .filter(|(k, v)| crate::spec::schema::property(k).is_some_and(|p| !p.sensitive) && !idle(k, v))
            .map(|(k, v)| (k.clone(), if k == "disable" { "1".to_owned() } else { v.clone() }))
            .collect()
    };
    part(a) == part(b)
}

/// The tasks for one node. The caller holds the gateway's lock, so whoever ran an operation that is still open is gone.
pub fn tasks(
    record: Option<&Record>,
    open: &[OpState],
    sections: &Sections,
    node: &str,
    now_ms: i64,
    only: Option<&[String]>,
) -> Vec<Task> {
    let mut tasks = Vec::new();
    let wanted = |id: &str| only.is_none_or(|list| list.iter().any(|i| i == id));
    let section = |id: &str| sections.get(id).filter(|s| is_ours(s, node));
    let mut busy = Vec::new();
    for o in open {
        busy.push(o.target.clone());
        if !o.is_stuck() {
            // What nobody committed was never promised to anybody.
            let unwind = o.op == "share.create" && section(&o.target).is_none();
            tasks.push(Task::Resume { opid: o.opid.clone(), unwind });
        }
    }
    for (id, entry) in record.iter().flat_map(|r| &r.shares).filter(|(id, _)| wanted(id) && !busy.contains(id)) {
        match (sections.get(id), entry.state) {
            (_, ShareState::Deleting) => tasks.push(Task::Delete(id.clone(), "the recorded removal".into())),
            (Some(s), state) => {
                if !entry.committed {
                    tasks.push(Task::Commit(id.clone()));
                }
                if !same_section(s, &entry.section) || state == ShareState::Building {
                    tasks.push(Task::Update(id.clone()));
                }
            }
            (None, _) if !entry.committed && now_ms - entry.since_ms > UNCOMMITTED_MS => {
                tasks.push(Task::Delete(id.clone(), "its section never appeared in the storage configuration".into()));
            }
            (None, _) => {}
        }
    }
    for (id, s) in sections.iter().filter(|(id, s)| wanted(id) && is_ours(s, node) && !busy.contains(id)) {
        if record.is_some_and(|r| r.removed.contains_key(id)) {
            tasks.push(Task::StillThere(id.clone()));
        } else if record.is_none_or(|r| !r.shares.contains_key(id))
            && s.get("disable").is_none_or(|d| parse_bool(d) != Some(true))
        {
            tasks.push(Task::Create(id.clone()));
        }
    }
    for id in record.iter().flat_map(|r| r.removed.keys()).filter(|id| wanted(id) && !sections.contains_key(*id)) {
        tasks.push(Task::Gone(id.clone()));
    }
    tasks
}
