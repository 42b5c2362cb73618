// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a node has to do to come to its wanted state, as a list. Pure: record, sections and open operations in, tasks out. It knows that
//! a section that vanished is not a deletion, and that a recorded removal waits until the section is gone.

use crate::journal::OpState;
use crate::spec::record::{Record, ShareState};
use crate::spec::section::{Mode, Section, Sections, parse_bool};

/// A create whose section does not appear in storage.cfg within this time is taken back, and a recorded removal whose section does not
/// disappear within it is carried out: whoever was to write storage.cfg is long gone.
pub const UNCOMMITTED_MS: i64 = 180_000;

/// How long a storage configuration may lag behind a removal without a word about it.
const UNWRITTEN_MS: i64 = 60_000;

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
    /// The section of a removed share is still there: nothing is built from it. Whether that is worth a word: a hook removes the share just
    /// before Proxmox writes the section out.
    StillThere(String, bool),
    /// Remove a share; why, for the journal.
    Delete(String, String),
}

/// One gateway on one node.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// This node.
    pub node: &'a str,
    /// The gateway.
    pub gateway: &'a str,
    /// Where its Samba runs.
    pub mode: Mode,
}

impl Site<'_> {
    /// Whether a section is a share of this gateway that this node serves. A container has one owner, which its record names; without a
    /// record it is the first of the section's nodes.
    pub fn serves(&self, id: &str, section: &Section, record: Option<&Record>) -> bool {
        if section.get("type").is_some_and(|t| t != "smbgateway") || section_mode(section) != Some(self.mode) {
            return false;
        }
        let mut nodes = section.get("nodes").map_or("", String::as_str).split([',', ' ', ';']).filter(|n| !n.is_empty());
        match self.mode {
            Mode::Native => nodes.any(|n| n == self.node),
            Mode::Lxc => {
                let gateway = section.get("smbgw-gateway").map_or(id, String::as_str);
                let owner = record.map(|r| r.node.as_str()).or(nodes.next()).unwrap_or_default();
                gateway == self.gateway && owner == self.node
            }
        }
    }
}

/// The mode of a section, as far as this build knows it.
pub fn section_mode(section: &Section) -> Option<Mode> {
    match section.get("smbgw-mode").map(String::as_str) {
        Some("native") => Some(Mode::Native),
        Some("lxc") | None => Some(Mode::Lxc),
        Some(_) => None,
    }
}

/// Whether two sections ask for the same share. What Proxmox keeps for itself does not count.
pub fn same_section(a: &Section, b: &Section) -> bool {
    // Properties that change nothing about how the share is served.
    let part = |s: &Section| -> Section {
        let native = section_mode(s) == Some(Mode::Native);
        let idle = |k: &str, v: &str| {
            matches!(k, "content" | "content-dirs")
                || (k == "shared" && native)
                || (k == "disable" && parse_bool(v) == Some(false))
        };
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
    site: Site<'_>,
    now_ms: i64,
    only: Option<&[String]>,
) -> Vec<Task> {
    let mut tasks = Vec::new();
    let wanted = |id: &str| only.is_none_or(|list| list.iter().any(|i| i == id));
    let section = |id: &str| sections.get(id).filter(|s| site.serves(id, s, record));
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
            // The hook that recorded it runs before storage.cfg is written; what was destroyed by then could not be kept any more if that failed.
            (Some(_), ShareState::Deleting) if now_ms - entry.since_ms <= UNCOMMITTED_MS => {}
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
    for (id, s) in sections.iter().filter(|(id, s)| wanted(id) && site.serves(id, s, record) && !busy.contains(id)) {
        if let Some(at) = record.and_then(|r| r.removed.get(id)) {
            tasks.push(Task::StillThere(id.clone(), now_ms - at > UNWRITTEN_MS));
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
