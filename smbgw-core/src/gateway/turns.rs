// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the node agent needs to be cheap: which gateways have a turn, whether anything of one could have changed since somebody looked at
//! everything and found nothing to do, and that its snapshots still hold, without that look. It knows what can be seen without a program of
//! Samba's; when a thorough look is due all the same is the agent's to decide.
//!
//! That snapshots hold is noted once for a gateway (`well/GATEWAY.json` in the run directory: when), not in each of them. It is renewed only while
//! all is in order: whoever writes a snapshot that says otherwise first notes that this is over. Until when it was true stays, for the other shares.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::params::{required, text};
use super::{Context, no_gateway};
use crate::effect::{Daemon, FileSpec};
use crate::error::{Error, Result};
use crate::facts::{ConfFile, Facts, Paths, TreeFact};
use crate::host::{Machines, ProcessId};
use crate::observe;
use crate::spec::record::{Record, ShareEntry, ShareState};
use crate::spec::section::{self, Mode, NATIVE};
use crate::status::{self, STALE_MS};
use crate::types::{GatewayId, sha256_hex};

/// The agent's sign of life, in the run directory.
const HEARTBEAT: &str = "agent.json";

/// That all was in order at a gateway, when, and whether it was seen since that this is over.
#[derive(Serialize, Deserialize)]
struct Well {
    at: i64,
    #[serde(default)]
    over: bool,
}

impl Context {
    /// The gateways that a reconcile of everything on this node goes through, in its order; no program is started and no container asked.
    pub(super) fn turns(&self, params: &Value) -> Result<Value> {
        let sections = section::sections_from_json(params.get("sections").unwrap_or(&Value::Null))?;
        let mut names = Vec::new();
        for paths in self.to_reconcile(&sections, None)? {
            let record = if paths.mode == Mode::Native { None } else { observe::record(&*self.host, &paths)? };
            let ours = match &record {
                Some(r) => r.node == self.node || self.moved_here(r)?,
                None => true,
            };
            if ours {
                names.push(paths.gateway.to_string());
            }
        }
        Ok(json!({"node": self.node, "gateways": names}))
    }

    /// The gateway that a reconcile was asked for alone.
    pub(super) fn only_gateway(&self, params: &Value) -> Result<Option<Paths>> {
        let Some(name) = text(params, "gateway")? else { return Ok(None) };
        if params.get("ids").is_some_and(|v| !v.is_null()) {
            return Err(Error::property("gateway", "cannot be given together with ids"));
        }
        let gateway = GatewayId::new(&name).map_err(|e| Error::property("gateway", e.to_string()))?;
        Ok(Some(self.paths_of(&gateway)))
    }

    /// Everything of a gateway that can be seen without a program of Samba's, as one number. What changes by use (space, content of trees) is
    /// not in it.
    pub(super) fn mark(&self, machines: &Machines, facts: &Facts) -> Result<String> {
        let place = machines.at(facts.place);
        let pid = place.read(&facts.effective.pid_file(Daemon::Smbd), 64)?.map(|f| f.content);
        let record = self.host.read_text(&facts.paths.record_file)?;
        let conf = |f: &Option<ConfFile>| f.as_ref().map(|f| (f.sha256.clone(), f.mode, f.uid, f.gid));
        let mut seen = format!("{} {:?}\n", env!("CARGO_PKG_VERSION"), (facts.reachable, facts.smbd_running, facts.systemd, pid));
        let guests = facts.guest.as_ref().map(|g| &g.here);
        let _ = write!(seen, "{record:?}\n{:?}\n{guests:?}\n", (conf(&facts.main), conf(&facts.own), &facts.missing));
        let _ = writeln!(seen, "{:?}", (&facts.users, &facts.groups, &facts.sub_ids));
        for (path, t) in &facts.trees {
            let _ = writeln!(seen, "{path:?} {}", tree(t));
        }
        Ok(sha256_hex(seen.as_bytes()))
    }

    /// Whether nothing waits at a gateway for time to pass or for another try: otherwise it has to be gone through even if nothing changes.
    pub(super) fn quiet(&self, paths: &Paths) -> Result<bool> {
        let record = observe::record(&*self.host, paths)?;
        let none = BTreeMap::new();
        let shares = record.as_ref().map_or(&none, |r| &r.shares);
        // One that was announced and is not built yet.
        let announced = |id: &str| !shares.contains_key(id) && self.last_known(id, "gateway") == paths.gateway.as_str();
        let names = self.host.list(&self.native.run_dir.join("status"))?;
        let awaited = names.iter().filter_map(|n| n.strip_suffix(".json")).any(announced);
        Ok(!awaited && self.at_rest(paths, record.as_ref())? && shares.keys().all(|id| is_well(&self.last(id))))
    }

    /// Whether a look at a gateway asks nothing that might not answer: no container, and no file system of another machine.
    pub(super) fn is_local(&self, paths: &Paths) -> Result<bool> {
        let trees = |r: Record| r.shares.values().all(|e| status::is_local(&e.tree.fs_type));
        Ok(paths.mode == Mode::Native && observe::record(&*self.host, paths)?.is_none_or(trees))
    }

    /// The same, but for what the snapshots say.
    fn at_rest(&self, paths: &Paths, record: Option<&Record>) -> Result<bool> {
        let host = &*self.host;
        for dir in [self.native.run_dir.join("pending"), self.native.run_dir.join("failed"), self.native.state_dir.join("gone")] {
            if !host.list(&dir)?.is_empty() {
                return Ok(false);
            }
        }
        let (open, damaged) = self.open(paths)?;
        if !(open.is_empty() && damaged.is_empty() && self.store().marked(host)?.is_empty()) {
            return Ok(false);
        }
        Ok(record.map_or(paths.mode == Mode::Native, settled))
    }

    /// Fresh snapshots of a gateway of which nothing has changed since its mark was made.
    pub(super) fn keep_snapshots(&self, params: &Value, wait: Option<i64>) -> Result<Value> {
        let gateway = GatewayId::new(&required(params, "gateway")?).map_err(|e| Error::property("gateway", e.to_string()))?;
        let (paths, mark) = (self.paths_of(&gateway), required(params, "mark")?);
        let note = format!("pid {} refresh", self.host.own_process().pid);
        let _held = self.locks(&paths, &note, wait)?;
        let machines = self.machines();
        let facts = observe::quick(&machines, &self.node, &paths)?;
        if paths.gateway.as_str() != NATIVE && facts.record.is_none() {
            return Err(no_gateway(gateway.as_str()));
        }
        let shares = facts.record.as_ref().is_some_and(|r| !r.shares.is_empty());
        let same = (!shares || self.is_well(gateway.as_str()) && self.all_have_snapshots(facts.record.as_ref())?)
            && self.mark(&machines, &facts)? == mark
            && self.at_rest(&paths, facts.record.as_ref())?;
        let changed = !(same && self.touch_snapshots(&facts)?);
        if shares && !changed {
            self.note_well(&gateway, facts.now_ms)?;
        }
        Ok(json!({"gateway": gateway, "changed": changed}))
    }

    /// New snapshots of those shares whose old ones do not hold though nothing has changed: what a limit counts may be worth a word, and nobody asks
    /// a file system for its space that might not answer. False if one of them is not as it should be.
    fn touch_snapshots(&self, facts: &Facts) -> Result<bool> {
        let none = BTreeMap::new();
        let shares = facts.record.as_ref().map_or(&none, |r| &r.shares);
        if !shares.values().any(moves) {
            return Ok(true);
        }
        let seen = self.seen(facts)?;
        for (id, entry) in shares.iter().filter(|(_, e)| moves(e)) {
            let doc = self.document(&seen, id, entry, None, None);
            self.put_snapshot(id, &doc)?;
            if !is_well(&doc) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a snapshot is there that says the same, so that the gateway's note is enough.
    pub(super) fn still_holds(&self, id: &str, entry: &ShareEntry, doc: &Value) -> bool {
        let lasting = |doc: &Value| {
            let mut doc = doc.clone();
            if let Some(d) = doc.as_object_mut() {
                d.retain(|k, _| !matches!(k.as_str(), "at" | "space"));
            }
            doc
        };
        let last = self.last(id);
        // One of a clock that was ahead would hold for too long.
        !moves(entry) && last["at"].as_i64() <= doc["at"].as_i64() && lasting(doc) == lasting(&last)
    }

    fn well_file(&self, gateway: &GatewayId) -> PathBuf {
        self.native.run_dir.join("well").join(format!("{gateway}.json"))
    }

    fn all_have_snapshots(&self, record: Option<&Record>) -> Result<bool> {
        let there: BTreeSet<String> = self.host.list(&self.native.run_dir.join("status"))?.into_iter().collect();
        Ok(record.is_none_or(|r| r.shares.keys().all(|id| there.contains(&format!("{id}.json")))))
    }

    fn well(&self, gateway: &str) -> Option<Well> {
        let file = self.host.read(&self.well_file(&GatewayId::new(gateway).ok()?), 1 << 10).ok()??;
        serde_json::from_slice(&file.content).ok()
    }

    /// When the agent last saw that all was in order at a gateway and its snapshots held.
    pub(super) fn well_at(&self, gateway: &str) -> Option<i64> {
        self.well(gateway).map(|w| w.at)
    }

    /// Whether nobody has seen otherwise since.
    pub(super) fn is_well(&self, gateway: &str) -> bool {
        self.well(gateway).is_some_and(|w| !w.over)
    }

    pub(super) fn note_well(&self, gateway: &GatewayId, at: i64) -> Result<()> {
        self.host.make_dir(&self.native.run_dir.join("well"), 0o700)?;
        self.put_well(gateway, &Well { at, over: false })
    }

    fn put_well(&self, gateway: &GatewayId, well: &Well) -> Result<()> {
        let ((uid, gid), content) = (self.host.own_ids(), serde_json::to_string(well).unwrap_or_default());
        self.host.write(&FileSpec { path: self.well_file(gateway), content, mode: 0o600, uid, gid })
    }

    /// A reconcile found nothing to do and nothing that waits.
    pub(super) fn note_all_well(&self, paths: &Paths) -> Result<()> {
        match observe::record(&*self.host, paths)?.filter(|r| !r.shares.is_empty()) {
            Some(_) => self.note_well(&paths.gateway, self.host.now_ms()),
            None => Ok(()),
        }
    }

    /// There are no snapshots to speak of.
    pub(super) fn drop_well(&self, gateway: &GatewayId) -> Result<()> {
        self.host.remove(&self.well_file(gateway))
    }

    /// Before a snapshot is written: the note says that it is over before there is one that it is not true of.
    pub(super) fn end_well(&self, snapshot: &Value) -> Result<()> {
        let named = snapshot["gateway"].as_str().filter(|_| !is_well(snapshot)).and_then(|g| GatewayId::new(g).ok());
        let Some(gateway) = named else { return Ok(()) };
        match self.well(gateway.as_str()).filter(|w| !w.over) {
            Some(w) => self.put_well(&gateway, &Well { over: true, ..w }),
            None => Ok(()),
        }
    }

    /// What there is to say of the agent, for whoever reads a status. Without systemd nobody but the administrator knows what runs the worker.
    pub(super) fn agent_trouble(&self) -> Option<String> {
        let text = self.host.read_text(&self.native.run_dir.join(HEARTBEAT)).ok().flatten();
        let why = match text {
            None if !self.host.has_systemd().unwrap_or(false) => return None,
            None => "does not run".to_owned(),
            Some(text) => {
                let doc: Value = serde_json::from_str(&text).unwrap_or_default();
                let number = |k: &str| doc[k].as_i64().unwrap_or_default();
                let process = ProcessId { pid: i32::try_from(number("pid")).unwrap_or(0), start: number("ticks").unsigned_abs() };
                let age = (self.host.now_ms() - number("at")).max(0);
                if !self.host.alive(process).unwrap_or(false) {
                    "does not run".to_owned()
                } else if age > STALE_MS {
                    format!("has given no sign of life for {} s", age / 1000)
                } else {
                    return None;
                }
            }
        };
        Some(format!(
            "the agent of this node {why}: nothing repairs itself and figures are not fresh; systemctl restart pve-smbgateway-agent"
        ))
    }
}

/// Whether a snapshot has more of a share than its state that has to be asked for, and that a reader does not ask for himself.
fn moves(e: &ShareEntry) -> bool {
    e.is_limited() || !status::is_local(&e.tree.fs_type)
}

/// What is not as it should be is looked at each time, so that it is told when it is over.
pub(super) fn is_well(doc: &Value) -> bool {
    let drift = ["drift", "effective-drift"].iter().any(|k| doc[*k].as_array().is_some_and(|l| !l.is_empty()));
    doc["state"].as_str().is_some_and(status::is_in_order) && !drift
}

/// Nothing of it waits for its section, for smbd to be told of it, for the end of a removal, or for a domain controller.
fn settled(r: &Record) -> bool {
    let done = r.shares.values().all(|e| e.committed && e.state == ShareState::Ready && e.delete_intent.is_none());
    let told = r.reload_due.is_none() || r.shares.is_empty();
    done && told && r.removed.is_empty() && r.former.is_empty() && r.member.is_none() && !r.settings.contains_key("domain")
}

/// What of a tree does not change by use.
fn tree(t: &std::result::Result<TreeFact, String>) -> String {
    let t = match t {
        Ok(t) => t,
        Err(why) => return why.clone(),
    };
    let limits = t.quota.as_ref().map(|q| (&q.means, &q.project, q.limit, &q.user_limits));
    let place: &Path = &t.mount_point;
    format!("{:?} {:?}", (t.dev, t.ino, t.fsid, place, &t.mounts_inside, t.read_only, &t.owner), limits)
}
