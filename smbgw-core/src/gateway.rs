// SPDX-License-Identifier: MIT OR Apache-2.0
//! The facade: everything a caller can ask for, by the table of operations. It knows parameters, locks, and which planner serves which
//! operation; it must not know C, Perl, nor how a step is done. `smbgw-ffi` imports this module and [`crate::error`], nothing else.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::effect::FileSpec;
use crate::error::{Error, Kind, Problem, Result, chain};
use crate::facts::{Facts, Paths};
use crate::host::real::RealHost;
use crate::host::{Host, Lock, Secrets};
use crate::journal::OpState;
use crate::journal::event::Event;
use crate::journal::store::{Store, new_opid};
use crate::observe::{self, Need};
use crate::plan::native::hand_edited;
use crate::plan::{self, Intent, samba};
use crate::run::exec::{IntentPlanner, OpRun, Progress as OpProgress, Resume};
use crate::run::reconcile::{self, Task};
use crate::spec::record::{Record, ShareEntry, ShareState, TreeId, TreeOwner};
use crate::spec::section::{self, Checked, NATIVE, Section, Sections, Surroundings};
use crate::spec::{ops, schema};
use crate::status::{self, Hot, Look, STALE_MS};
use crate::types::{GroupName, NodeName, StoreId, UserName, shorten};

/// Where a context keeps things and what it works on. Keys are kebab-case in JSON; all have defaults.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Options {
    /// Journals and, without Proxmox, the gateway record.
    pub state_dir: PathBuf,
    /// Snapshots, locks, scratch files; gone after a boot.
    pub run_dir: PathBuf,
    /// Gateway records; default `/etc/pve/priv/smbgw/gateways` where `/etc/pve/priv` is, else below `state-dir`.
    pub record_dir: Option<PathBuf>,
    /// The node's smb.conf.
    pub smb_conf: PathBuf,
    /// Our own file.
    pub own_conf: PathBuf,
    /// This node; default: the host name up to the first dot.
    pub node: Option<String>,
    /// Where the log goes; read by the C boundary.
    pub log: Value,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/smbgw".into(),
            run_dir: "/run/smbgw".into(),
            record_dir: None,
            smb_conf: "/etc/samba/smb.conf".into(),
            own_conf: "/etc/samba/smbgw.conf".into(),
            node: None,
            log: Value::Null,
        }
    }
}

impl Options {
    /// Reads options; an unknown key is an error that names it.
    pub fn from_json(text: &str) -> Result<Self> {
        let text = if text.trim().is_empty() { "{}" } else { text };
        let options: Self =
            serde_json::from_str(text).map_err(|e| Error::new(Kind::Invalid, "the options are not valid").caused_by(e))?;
        let paths = [&options.state_dir, &options.run_dir, &options.smb_conf, &options.own_conf];
        for p in paths.into_iter().chain(options.record_dir.as_ref()) {
            section::clean_path(p.to_str().unwrap_or_default())
                .map_err(|why| Error::new(Kind::Invalid, format!("option path {}: {why}", p.display())))?;
        }
        Ok(options)
    }
}

/// Space of a share for the hot path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that users can still write.
    pub avail: u64,
    /// Bytes written.
    pub used: u64,
    /// Age of the figures in milliseconds; -1 if there are none.
    pub age_ms: i64,
    /// The tree can be reached.
    pub active: bool,
}

/// How far a run is.
#[derive(Debug)]
pub enum Progress {
    /// It goes on: `{events}`.
    Working(Value),
    /// It is done: `{events, result}`.
    Done(Value),
    /// It failed; what was done is undone, or it is stuck: `{events, outcome, error}`.
    Failed(Value, Error),
}

/// A context: where things are. Holds no lock, no open file and no process.
pub struct Context {
    host: Rc<dyn Host>,
    node: String,
    paths: Paths,
    record_dir: PathBuf,
}

/// Events older than this are not looked for unless asked: none; the audit trail is bounded by its retention.
const AUDIT_LIMIT: usize = 200;

impl Context {
    /// A context on this machine. Looks for the host name and whether Proxmox is here; nothing else.
    pub fn new(options: Options) -> Result<Self> {
        Self::with_host(options, Rc::new(RealHost::new()))
    }

    /// A context on a given host.
    pub fn with_host(options: Options, host: Rc<dyn Host>) -> Result<Self> {
        let node = match &options.node {
            Some(n) => n.clone(),
            None => host.node_name()?,
        };
        NodeName::new(&node)?;
        let record_dir = match options.record_dir {
            Some(d) => d,
            None if host.exists(Path::new("/etc/pve/priv"))? => "/etc/pve/priv/smbgw/gateways".into(),
            None => options.state_dir.join("gateways"),
        };
        let paths = Paths {
            smb_conf: options.smb_conf,
            own_conf: options.own_conf,
            run_dir: options.run_dir,
            state_dir: options.state_dir,
            record_file: record_dir.join(format!("native@{node}.json")),
        };
        Ok(Self { host, node, paths, record_dir })
    }

    fn store(&self) -> Store {
        Store::new(&self.paths.state_dir)
    }

    fn around(&self, params: &Value) -> Result<Surroundings> {
        let mut sections = match params.get("sections") {
            Some(v) if !v.is_null() => section::sections_from_json(v)?,
            _ => Sections::new(),
        };
        // What the record serves counts too: a caller may not know every section, and one may have vanished.
        if let Some(r) = observe::record(&*self.host, &self.paths)? {
            for (id, e) in r.shares {
                sections.entry(id).or_insert_with(|| {
                    let mut s = e.section;
                    s.insert("type".into(), "smbgateway".into());
                    s
                });
            }
        }
        Ok(Surroundings { node: NodeName::new(&self.node)?, sections })
    }

    // ---- the hot path --------------------------------------------------------------------------------------------------

    /// Space and state of a share from its snapshot: no process, no network, no lock; one small file, and one `statfs` where that is
    /// known not to block. A share without a snapshot is inactive, not an error.
    pub fn usage(&self, id: &str) -> Result<Usage> {
        let id = StoreId::new(id)?;
        let none = Usage { age_ms: -1, ..Usage::default() };
        let path = self.snapshot(id.as_str());
        let Some(file) = self.host.read(&path, 1 << 20)? else { return Ok(none) };
        let Ok(hot) = serde_json::from_slice::<Hot>(&file.content) else { return Ok(none) };
        let age_ms = (self.host.now_ms() - hot.at).max(0);
        let mut usage = Usage { age_ms, active: hot.active && age_ms <= STALE_MS, ..Usage::default() };
        if let Some(s) = hot.space {
            (usage.total, usage.avail, usage.used) = (s.total, s.avail, s.used);
        }
        if usage.active && hot.local {
            match self.host.space(Path::new(&hot.path)) {
                Ok(s) if hot.fsid == "0" || format!("{:x}", s.fsid) == hot.fsid => {
                    (usage.total, usage.avail, usage.used) = (s.total, s.avail, s.used);
                    usage.age_ms = 0;
                }
                // Another file system is there now: the tree was unmounted.
                _ => usage.active = false,
            }
        }
        Ok(usage)
    }

    fn snapshot(&self, id: &str) -> PathBuf {
        self.paths.run_dir.join("status").join(format!("{id}.json"))
    }

    // ---- queries -------------------------------------------------------------------------------------------------------

    /// Answers a query of the table of operations.
    pub fn query(&self, op: &str, params: &Value) -> Result<Value> {
        check_params(op, params, ops::Effect::Query)?;
        match op {
            "schema" => Ok(json!({"properties": schema::document(), "operations": ops::document()})),
            "check" => self.check(params),
            "plan" => self.plan(params),
            "render" => self.render(params),
            "status" => self.status(params),
            "list" => self.list(),
            "users" => self.users(),
            "groups" => self.groups(),
            "audit" => {
                let id = text(params, "id")?;
                let since = number(params, "since")?.unwrap_or(0);
                let limit = number(params, "limit")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(AUDIT_LIMIT);
                Ok(json!({"entries": self.store().audit(&*self.host, id.as_deref(), since, limit)?}))
            }
            "sections" => {
                let record = observe::record(&*self.host, &self.paths)?;
                let all: serde_json::Map<String, Value> = record
                    .iter()
                    .flat_map(|r| &r.shares)
                    .filter(|(_, e)| e.delete_intent.is_none())
                    .map(|(id, e)| (id.clone(), json!(e.section)))
                    .collect();
                Ok(json!({"sections": all}))
            }
            _ => Err(Error::new(Kind::Internal, format!("operation {op} is in the table and nobody answers it"))),
        }
    }

    fn checked(&self, params: &Value) -> Result<(String, Section, Checked)> {
        let id = required(params, "id")?;
        let section = section::section_from_json(params.get("section").unwrap_or(&Value::Null))?;
        let checked = section::check(&id, &section, &self.around(params)?)?;
        let mut effective = section;
        effective.retain(|k, _| schema::property(k).is_none_or(|p| !p.sensitive));
        effective.extend(checked.effective.clone());
        Ok((id, effective, checked))
    }

    fn check(&self, params: &Value) -> Result<Value> {
        let checked = match self.checked(params) {
            Ok((_, _, c)) => c,
            Err(e) if !e.problems().is_empty() => return Ok(json!({"problems": e.problems(), "warnings": [], "effective": {}})),
            Err(e) => return Err(e),
        };
        let (mut problems, mut warnings) = (Vec::new(), checked.warnings.clone());
        if flag(params, "create")? {
            let intent =
                Intent::Create { spec: Box::new(checked.spec.clone()), section: checked.effective.clone(), password: false };
            let need = Need { trees: vec![checked.spec.path.clone()], without_passdb: true, ..Need::default() };
            let planned =
                observe::facts(&*self.host, &self.node, &self.paths, &need).and_then(|f| plan::phase("files", &intent, &f));
            match planned {
                Ok((_, more)) => warnings.extend(more),
                Err(e) if !e.problems().is_empty() => problems.extend(e.problems().iter().cloned()),
                Err(e) => problems.push(Problem::new("storage", chain(&e))),
            }
        }
        Ok(json!({"problems": problems, "warnings": warnings, "effective": checked.effective}))
    }

    fn plan(&self, params: &Value) -> Result<Value> {
        let op = required(params, "op")?;
        let empty = json!({});
        let inner = params.get("params").unwrap_or(&empty);
        check_params(&op, inner, ops::Effect::Run)?;
        let Some((intent, target, mut warnings)) = self.intent(&op, inner, true)? else {
            return Ok(json!({"op": op, "phases": [], "warnings": ["another node does it"], "text": "another node does it\n"}));
        };
        let trees = match &intent {
            Intent::Create { spec, .. } | Intent::Update { spec, .. } => vec![spec.path.clone()],
            _ => Vec::new(),
        };
        let facts = observe::facts(&*self.host, &self.node, &self.paths, &Need { trees, owned: true, ..Need::default() })?;
        let mut plan = plan::ahead(&intent, &facts)?;
        warnings.append(&mut plan.warnings);
        plan.warnings = warnings;
        Ok(plan.document(&op, &target))
    }

    fn render(&self, params: &Value) -> Result<Value> {
        let sections = section::sections_from_json(params.get("sections").unwrap_or(&Value::Null))?;
        let mut record =
            observe::record(&*self.host, &self.paths)?.unwrap_or_else(|| Record::new(NATIVE, &self.node, "not made yet"));
        let around = Surroundings { node: NodeName::new(&self.node)?, sections: sections.clone() };
        let (mut shares, mut security) = (Vec::new(), crate::spec::Security::Standard);
        for (id, s) in sections.iter().filter(|(_, s)| s.get("type").is_none_or(|t| t == "smbgateway")) {
            let checked = section::check(id, s, &around)?;
            let gid = record.number(&format!("share/{id}"), |_| false)?;
            let tree = TreeId { path: checked.spec.path.clone(), ino: 0, fsid: 0, fs_type: String::new() };
            let entry = ShareEntry {
                section: s.clone(),
                state: ShareState::Building,
                committed: false,
                since_ms: 0,
                unix_group: plan::accounts::unix_group("s", id, gid),
                gid,
                tree,
                tree_before: TreeOwner { uid: 0, gid: 0, mode: 0o755 },
                delete_intent: None,
            };
            security = checked.spec.security;
            if !checked.spec.disabled {
                shares.push((checked.spec, entry));
            }
        }
        Ok(json!({"text": samba::own_conf(&record, &shares, Some(security))?}))
    }

    fn open(&self) -> Result<(Vec<OpState>, Vec<String>)> {
        self.store().open_operations(&*self.host, NATIVE)
    }

    fn document(
        &self,
        facts: &Facts,
        id: &str,
        entry: &ShareEntry,
        open: &(Vec<OpState>, Vec<String>),
        sections: Option<&Sections>,
        drift: &[String],
    ) -> Value {
        let reachable = facts.tree(&entry.tree.path).is_ok();
        let space = if reachable { self.host.space(&entry.tree.path).ok() } else { None };
        // Without the sections at hand, what the last reconcile knew still holds.
        let in_config = match sections {
            Some(s) => Some(s.contains_key(id)),
            None => self.last_known(id, "in-config").as_bool(),
        };
        let look = Look { facts, open: &open.0, damaged: &open.1, space, in_config, drift };
        let mut doc = status::document(id, entry, &look);
        doc["in-config"] = json!(in_config);
        doc
    }

    fn last_known(&self, id: &str, key: &str) -> Value {
        let file = self.host.read(&self.snapshot(id), 1 << 20).ok().flatten();
        let doc: Value = file.and_then(|f| serde_json::from_slice(&f.content).ok()).unwrap_or_default();
        doc.get(key).cloned().unwrap_or_default()
    }

    fn status(&self, params: &Value) -> Result<Value> {
        let id = required(params, "id")?;
        StoreId::new(&id)?;
        if flag(params, "fresh")? {
            let facts = observe::quick(&*self.host, &self.node, &self.paths)?;
            let open = self.open()?;
            if let Some(e) = facts.record.as_ref().and_then(|r| r.shares.get(&id)) {
                let drift: Vec<String> = serde_json::from_value(self.last_known(&id, "effective-drift")).unwrap_or_default();
                return Ok(self.document(&facts, &id, e, &open, None, &drift));
            }
            if let Some(o) = open.0.iter().find(|o| o.target == id) {
                return Ok(orphan_document(o, &self.node));
            }
        } else if let Some(f) = self.host.read(&self.snapshot(&id), 1 << 20)? {
            let mut doc: Value = serde_json::from_slice(&f.content).map_err(|e| {
                Error::new(Kind::Corrupt, format!("the snapshot of {id} cannot be read"))
                    .caused_by(e)
                    .remedy("pve-smbgateway reconcile")
            })?;
            let age = (self.host.now_ms() - doc["at"].as_i64().unwrap_or(0)).max(0);
            doc["age-ms"] = json!(age);
            if age > STALE_MS {
                doc["active"] = json!(false);
                if let Some(w) = doc["warnings"].as_array_mut() {
                    w.push(json!(format!(
                        "these figures are {} s old: does the timer pve-smbgateway-reconcile.timer run?",
                        age / 1000
                    )));
                }
            }
            return Ok(doc);
        }
        Err(Error::new(Kind::NotFound, format!("there is no share {id} on node {}", self.node)).remedy("pve-smbgateway list"))
    }

    fn list(&self) -> Result<Value> {
        let facts = observe::quick(&*self.host, &self.node, &self.paths)?;
        let open = self.open()?;
        let mut shares: Vec<Value> =
            facts.record.iter().flat_map(|r| &r.shares).map(|(id, e)| self.document(&facts, id, e, &open, None, &[])).collect();
        let known = |id: &str| facts.record.as_ref().is_some_and(|r| r.shares.contains_key(id));
        shares.extend(
            open.0.iter().filter(|o| o.op.starts_with("share.") && !known(&o.target)).map(|o| orphan_document(o, &self.node)),
        );
        Ok(json!({"node": self.node, "shares": shares, "damaged": open.1}))
    }

    fn users(&self) -> Result<Value> {
        let record = observe::record(&*self.host, &self.paths)?;
        let groups = |name: &str| -> Vec<String> {
            record
                .iter()
                .flat_map(|r| &r.groups)
                .filter(|(_, g)| g.members.iter().any(|m| m == name))
                .map(|(n, _)| n.clone())
                .collect()
        };
        let users: Vec<Value> = record
            .iter()
            .flat_map(|r| r.users.iter().map(move |(n, u)| (n, u, r.hashes.contains_key(n))))
            .map(|(n, u, hash)| json!({"name": n, "uid": u.uid, "rid": u.rid, "disabled": u.disabled, "password": hash, "groups": groups(n)}))
            .collect();
        Ok(json!({"gateway": NATIVE, "node": self.node, "users": users}))
    }

    fn groups(&self) -> Result<Value> {
        let record = observe::record(&*self.host, &self.paths)?;
        let groups: Vec<Value> = record
            .iter()
            .flat_map(|r| &r.groups)
            .map(|(n, g)| json!({"name": n, "unix": g.unix, "gid": g.gid, "members": g.members}))
            .collect();
        Ok(json!({"gateway": NATIVE, "node": self.node, "groups": groups}))
    }

    // ---- intents -------------------------------------------------------------------------------------------------------

    /// What a run's parameters mean: intent, target, warnings; `None` if another node has to do it.
    fn intent(&self, op: &str, params: &Value, password: bool) -> Result<Option<(Intent, String, Vec<String>)>> {
        let name = |key: &str| required(params, key);
        if let Some(g) = text(params, "gateway")? {
            if g != NATIVE {
                return Err(Error::property("gateway", format!("this build knows the gateway native, not {}", shorten(&g))));
            }
        }
        let user = || UserName::new(&name("name")?);
        let group = || GroupName::new(&name("name")?);
        let record = observe::record(&*self.host, &self.paths)?;
        let intent = match op {
            "share.create" | "share.update" => {
                let (id, section, checked) = self.checked(params)?;
                let known = record.as_ref().and_then(|r| r.shares.get(&id));
                if checked.spec.node.as_str() != self.node && known.is_none() {
                    return Ok(None);
                }
                let password = password && checked.spec.first_user.is_some();
                let (spec, warnings) = (Box::new(checked.spec), checked.warnings);
                if let Some(e) = known {
                    self.refuse_fixed(&id, &section, e)?;
                }
                let intent = if op == "share.create" || known.is_none() {
                    Intent::Create { spec, section, password }
                } else {
                    Intent::Update { spec, section, password }
                };
                return Ok(Some((intent, id, warnings)));
            }
            "share.delete" => {
                let id = name("id")?;
                let actor = text(params, "actor")?.unwrap_or_else(|| "root".into());
                return Ok(Some((Intent::Delete { id: id.clone(), actor }, id, Vec::new())));
            }
            "share.repair" => Intent::Repair { overwrite: flag(params, "overwrite")? },
            "user.create" => Intent::UserCreate(user()?),
            "user.password" => Intent::UserPassword(user()?),
            "user.disable" => Intent::UserDisable(user()?, true),
            "user.enable" => Intent::UserDisable(user()?, false),
            "user.remove" => Intent::UserRemove(user()?),
            "group.create" => Intent::GroupCreate(group()?),
            "group.remove" => Intent::GroupRemove(group()?),
            "group.add-member" => Intent::GroupAdd(group()?, UserName::new(&name("user")?)?),
            "group.remove-member" => Intent::GroupDrop(group()?, UserName::new(&name("user")?)?),
            _ => return Err(Error::property("op", format!("{} cannot be planned", shorten(op)))),
        };
        let target = match op {
            "share.repair" => NATIVE.to_owned(),
            _ => name("name")?,
        };
        Ok(Some((intent, target, Vec::new())))
    }

    /// The recorded tree of the share that an intent is about.
    fn tree_of(&self, intent: &Intent) -> Result<Option<PathBuf>> {
        let record = observe::record(&*self.host, &self.paths)?;
        Ok(record.and_then(|r| Some(r.shares.get(intent.share_id()?)?.tree.path.clone())))
    }

    fn refuse_fixed(&self, id: &str, section: &Section, entry: &ShareEntry) -> Result<()> {
        let changed: Vec<Problem> = schema::PROPERTIES
            .iter()
            .filter(|p| p.fixed && section.get(p.name) != entry.section.get(p.name))
            .map(|p| Problem::new(p.name, "cannot be changed after create; remove the storage (its data stays) and add it anew"))
            .collect();
        if changed.is_empty() { Ok(()) } else { Err(Error::invalid(format!("section '{id}'"), changed)) }
    }

    // ---- runs ----------------------------------------------------------------------------------------------------------

    /// Begins a run: takes the locks, and opens the journal at its first step.
    pub fn begin(&self, op: &str, params: &Value) -> Result<Run> {
        check_params(op, params, ops::Effect::Run)?;
        if op == "share.create" || op == "share.update" {
            // All that is wrong with a request is said before anything is locked or written.
            self.checked(params)?;
        }
        let actor = text(params, "actor")?.unwrap_or_else(|| "root".into());
        let mut run = self.run(op, &actor, number(params, "lock-wait-ms")?)?;
        run.recover = true;
        run.goal = match op {
            "reconcile" => {
                let ids = params.get("ids").and_then(Value::as_array);
                let only = ids.map(|l| l.iter().filter_map(Value::as_str).map(str::to_owned).collect());
                Goal::Reconcile { sections: section::sections_from_json(params.get("sections").unwrap_or(&Value::Null))?, only }
            }
            "share.repair" => {
                let target = text(params, "id")?.filter(|t| t != NATIVE);
                Goal::Repair { target, overwrite: flag(params, "overwrite")? }
            }
            _ => Goal::Operation { op: op.to_owned(), params: without_secrets(params) },
        };
        Ok(run)
    }

    /// Goes on with an operation that was interrupted; what was being undone is undone further.
    pub fn resume(&self, opid: &str) -> Result<Run> {
        let found = self.store().read(&*self.host, opid)?;
        let state = found.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no operation {}", shorten(opid))))?.state?;
        if state.outcome.is_some() && !state.is_stuck() {
            return Err(Error::new(Kind::Conflict, format!("operation {opid} is over")));
        }
        let mut run = self.run("resume", "root", None)?;
        run.tasks.push_back(Todo::Resume { opid: opid.to_owned(), unwind: false, settle: false });
        run.tasks.push_back(Todo::Refresh);
        Ok(run)
    }

    fn run(&self, op: &str, actor: &str, wait: Option<i64>) -> Result<Run> {
        let wait = Duration::from_millis(u64::try_from(wait.unwrap_or(10_000)).unwrap_or(0).min(60_000));
        let dir = self.paths.run_dir.join("lock");
        self.host.make_dir(&dir, 0o700)?;
        let note = format!("pid {} {op} by {actor}", self.host.own_process().pid);
        let locks = vec![self.host.lock(&dir.join(NATIVE), &note, wait)?, self.host.lock(&dir.join("node"), &note, wait)?];
        Ok(Run {
            context: Self {
                host: Rc::clone(&self.host),
                node: self.node.clone(),
                paths: self.paths.clone(),
                record_dir: self.record_dir.clone(),
            },
            actor: actor.to_owned(),
            goal: Goal::Nothing,
            recover: false,
            tasks: VecDeque::new(),
            current: None,
            secrets: Secrets::default(),
            password: false,
            results: Vec::new(),
            warnings: Vec::new(),
            last: Value::Null,
            sections: None,
            repairs: false,
            given_up: false,
            taking_back: false,
            target: Value::Null,
            failed: None,
            over: false,
            locks,
        })
    }

    /// Writes the snapshots of all shares, and removes those of shares that are gone.
    fn refresh(&self, sections: Option<&Sections>, drift: Option<&[String]>) -> Result<()> {
        let facts = observe::quick(&*self.host, &self.node, &self.paths)?;
        let open = self.open()?;
        let dir = self.paths.run_dir.join("status");
        self.host.make_dir(&dir, 0o700)?;
        let none = std::collections::BTreeMap::new();
        let shares = facts.record.as_ref().map_or(&none, |r| &r.shares);
        for (id, entry) in shares {
            let kept: Vec<String>;
            let drift = match drift {
                Some(d) => d,
                None => {
                    kept = serde_json::from_value(self.last_known(id, "effective-drift")).unwrap_or_default();
                    &kept
                }
            };
            let mut doc = self.document(&facts, id, entry, &open, sections, drift);
            doc["effective-drift"] = json!(drift);
            let (content, ids) = (serde_json::to_string(&doc).unwrap_or_default(), self.host.own_ids());
            self.host.write(&FileSpec { path: self.snapshot(id), content, mode: 0o600, uid: ids.0, gid: ids.1 })?;
        }
        for name in self.host.list(&dir)? {
            if name.strip_suffix(".json").is_some_and(|id| !shares.contains_key(id)) {
                self.host.remove(&dir.join(name))?;
            }
        }
        Ok(())
    }
}

fn orphan_document(o: &OpState, node: &str) -> Value {
    json!({
        "schema": status::SCHEMA, "id": o.target, "state": if o.is_stuck() { "stuck" } else { "building" }, "node": node, "active": false,
        "operation": {"opid": o.opid, "op": o.op, "since": o.opened}, "warnings": [], "drift": [],
        "stuck": if o.is_stuck() { status::stuck_document(o) } else { Value::Null },
    })
}

// ---- a run -------------------------------------------------------------------------------------------------------------

enum Goal {
    Nothing,
    Operation { op: String, params: Value },
    Reconcile { sections: Sections, only: Option<Vec<String>> },
    Repair { target: Option<String>, overwrite: bool },
}

/// Something a run still has to do.
enum Todo {
    Resume { opid: String, unwind: bool, settle: bool },
    Begin { op: String, params: Value },
    Commit(String),
    Gone(String),
    PutBack { overwrite: bool },
    Refresh,
    Health,
}

/// A run: one operation, or all that a reconcile finds to do. Holds the gateway's and the node's lock until it is over or dropped.
pub struct Run {
    context: Context,
    actor: String,
    goal: Goal,
    recover: bool,
    tasks: VecDeque<Todo>,
    current: Option<OpRun>,
    secrets: Secrets,
    password: bool,
    results: Vec<Value>,
    warnings: Vec<String>,
    last: Value,
    sections: Option<Sections>,
    /// A repair: what it finishes or takes back had failed before, which is no failure of its own.
    repairs: bool,
    /// It was given up before its own operation began.
    given_up: bool,
    /// The operation that runs now was resumed to be taken back.
    taking_back: bool,
    /// What the operation that runs now is about.
    target: Value,
    failed: Option<Error>,
    over: bool,
    locks: Vec<Box<dyn Lock>>,
}

impl Run {
    /// Hands a secret over, before the first step.
    pub fn secret(&mut self, name: &str, data: &[u8]) -> Result<()> {
        if name != "password" {
            return Err(Error::property("secret", format!("{} is no secret this operation takes", shorten(name))));
        }
        if data.is_empty() {
            return Err(Error::property("password", "is empty; Samba would let everybody in"));
        }
        if data.len() > 1024 || std::str::from_utf8(data).is_err() || data.iter().any(|b| matches!(b, 0 | b'\n' | b'\r')) {
            return Err(Error::property("password", "must be one line of UTF-8 text of at most 1024 bytes"));
        }
        self.secrets.put(name, data.to_vec());
        self.password = true;
        Ok(())
    }

    /// Goes on for at most about a second.
    pub fn step(&mut self) -> Result<Progress> {
        if self.over {
            return Err(Error::new(Kind::Argument, "the run is over"));
        }
        match self.advance() {
            Ok(p) => {
                if !matches!(p, Progress::Working(_)) {
                    self.finish();
                }
                Ok(p)
            }
            Err(e) => {
                // Refused before or outside an operation: nothing is open, so this is the end.
                self.finish();
                Ok(Progress::Failed(
                    json!({"events": [{"event": "failed", "error": e.to_doc()}], "outcome": "refused", "error": e.to_doc()}),
                    e,
                ))
            }
        }
    }

    fn finish(&mut self) {
        self.over = true;
        self.current = None;
        self.locks.clear();
    }

    /// Stops and takes everything back; the next steps do it.
    pub fn unwind(&mut self) -> Result<()> {
        self.tasks.clear();
        if !matches!(std::mem::replace(&mut self.goal, Goal::Nothing), Goal::Nothing) {
            // Nothing of this run has begun: what may be going on is somebody else's operation, which another run takes up.
            self.given_up = true;
            if let Some(mut op) = self.current.take() {
                op.interrupt("the run that had taken it up was given up")?;
            }
            return Ok(());
        }
        match self.current.as_mut() {
            Some(op) => op.unwind(),
            None => Ok(()),
        }
    }

    /// Stops; a reconcile or a resume goes on later.
    pub fn interrupt(&mut self) -> Result<()> {
        if let Some(mut op) = self.current.take() {
            op.interrupt("a signal, or the caller's deadline")?;
        }
        self.finish();
        Ok(())
    }

    /// The id of the operation that runs now.
    pub fn opid(&self) -> Option<&str> {
        self.current.as_ref().map(OpRun::opid)
    }

    fn advance(&mut self) -> Result<Progress> {
        if self.given_up {
            return Err(Error::new(Kind::Interrupted, "the request was given up before anything was done"));
        }
        if self.current.is_some() {
            return self.drive();
        }
        if self.recover {
            self.recover = false;
            self.plan_recovery()?;
        }
        if let Some(todo) = self.tasks.pop_front() {
            self.start(todo)?;
            return Ok(working());
        }
        match std::mem::replace(&mut self.goal, Goal::Nothing) {
            Goal::Nothing => self.result(),
            Goal::Operation { op, params } => {
                // Again after the recovery, which may have ended stuck.
                self.refuse_stuck(&op, &params)?;
                self.begin(&op, params)?;
                self.tasks.push_back(Todo::Refresh);
                Ok(working())
            }
            Goal::Reconcile { sections, only } => {
                self.plan_reconcile(&sections, only.as_deref())?;
                self.sections = Some(sections);
                self.tasks.push_back(Todo::Health);
                self.tasks.push_back(Todo::Refresh);
                Ok(working())
            }
            Goal::Repair { target, overwrite } => {
                self.plan_repair(target.as_deref(), overwrite)?;
                Ok(working())
            }
        }
    }

    fn drive(&mut self) -> Result<Progress> {
        let Some(op) = self.current.as_mut() else { return Ok(working()) };
        match op.step() {
            Ok(OpProgress::Working(v)) => Ok(Progress::Working(v)),
            Ok(OpProgress::Done(mut v)) => {
                self.current = None;
                self.last = v["result"].take();
                self.results.push(self.last.clone());
                self.forget_former();
                Ok(Progress::Working(json!({"events": v["events"]})))
            }
            Ok(OpProgress::Failed(v, e)) => {
                self.current = None;
                let stuck = v["outcome"] == "stuck";
                self.forget_former();
                self.refresh();
                if (stuck || !self.repairs) && self.is_only_task() {
                    self.finish();
                    return Ok(Progress::Failed(v, e));
                }
                self.warnings.push(if stuck { chain(&e) } else { format!("taken back: {}", chain(&e)) });
                // What was resumed to be taken back, and was, is no failure of this run.
                self.results.push(if std::mem::take(&mut self.taking_back) && !stuck {
                    json!({"id": self.target, "state": "undone", "warnings": [chain(&e)]})
                } else {
                    json!({"id": self.target, "error": e.to_doc()})
                });
                if self.repairs && stuck {
                    self.failed.get_or_insert(e);
                }
                Ok(Progress::Working(json!({"events": v["events"]})))
            }
            Err(e) => {
                // The journal or the machine failed; the operation stays open.
                self.current = None;
                Err(e)
            }
        }
    }

    /// Nothing was to do but this operation and a refresh.
    fn is_only_task(&self) -> bool {
        self.sections.is_none() && matches!(self.goal, Goal::Nothing) && self.tasks.iter().all(|t| matches!(t, Todo::Refresh))
    }

    /// Snapshots are made anew by the next reconcile; what was done is done without them.
    fn refresh(&mut self) {
        if let Err(e) = self.context.refresh(self.sections.as_ref(), None) {
            tracing::warn!(error = %chain(&e), "the status snapshots could not be written");
            self.warnings.push(chain(&e.while_doing("status snapshots")));
        }
    }

    /// Drops the hashes that were kept for an undo, once there is none left to come.
    fn forget_former(&self) {
        let c = &self.context;
        let forget = || -> Result<()> {
            let Some(mut r) = observe::record(&*c.host, &c.paths)?.filter(|r| !r.former.is_empty()) else { return Ok(()) };
            if c.open()?.0.is_empty() {
                r.former.clear();
                save_record(c, &c.paths.record_file, &r)?;
            }
            Ok(())
        };
        if let Err(e) = forget() {
            tracing::warn!(error = %chain(&e), "former hashes stay in the gateway record until the next reconcile");
        }
    }

    /// Refuses to touch what is stuck.
    fn refuse_stuck(&self, op: &str, params: &Value) -> Result<()> {
        let target = params.get("id").or(params.get("name")).and_then(Value::as_str).unwrap_or_default();
        let family = |op: &str| op.split('.').next().unwrap_or_default().to_owned();
        let (open, _) = self.context.open()?;
        let Some(o) = open.iter().find(|o| o.is_stuck() && o.target == target && family(&o.op) == family(op)) else {
            return Ok(());
        };
        let why = o.undo_errors.first().map(|e| e.message.clone()).unwrap_or_default();
        Err(Error::new(Kind::Stuck, format!("{target} is stuck since {} ({op} is refused): {why}", o.op))
            .remedy(format!("pve-smbgateway repair {target}")))
    }

    fn result(&mut self) -> Result<Progress> {
        if let Some(e) = self.failed.take() {
            return Ok(Progress::Failed(json!({"events": [], "outcome": "stuck", "error": e.to_doc()}), e));
        }
        let result =
            if self.sections.is_some() { json!({"shares": self.results, "warnings": self.warnings}) } else { self.last.take() };
        Ok(Progress::Done(json!({"events": [], "result": result})))
    }

    /// Operations that were left open by a process that is gone come first.
    fn plan_recovery(&mut self) -> Result<()> {
        // We hold the lock, so an operation that is open is nobody's, whether or not its process lives.
        self.context.store().tidy(&*self.context.host)?;
        let (open, damaged) = self.context.open()?;
        if open.is_empty() {
            crate::run::act::sweep(&*self.context.host, &self.context.paths);
        }
        self.warnings.extend(damaged.iter().map(|d| format!("a journal is damaged and was set aside: {d}")));
        if matches!(self.goal, Goal::Reconcile { .. } | Goal::Repair { .. }) {
            return Ok(());
        }
        if let Goal::Operation { op, params } = &self.goal {
            self.refuse_stuck(op, params)?;
        }
        for o in open.iter().filter(|o| !o.is_stuck()) {
            // Whoever asked for that is gone; what it made so far is taken back, except for what was promised before.
            let unwind = o.op == "share.create" || o.op.starts_with("user.");
            self.tasks.push_back(Todo::Resume { opid: o.opid.clone(), unwind, settle: false });
        }
        Ok(())
    }

    fn plan_reconcile(&mut self, sections: &Sections, only: Option<&[String]>) -> Result<()> {
        let c = &self.context;
        let record = observe::record(&*c.host, &c.paths)?;
        let (open, _) = c.open()?;
        let tasks = reconcile::tasks(record.as_ref(), &open, sections, &c.node, c.host.now_ms(), only);
        let all: serde_json::Map<String, Value> = sections.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        for t in tasks {
            self.tasks.push_back(match t {
                Task::Resume { opid, unwind } => Todo::Resume { opid, unwind, settle: false },
                Task::Commit(id) => Todo::Commit(id),
                Task::Gone(id) => Todo::Gone(id),
                Task::StillThere(id) => {
                    let why = format!(
                        "share {id} was removed, but the storage configuration still has its section: remove it there too"
                    );
                    self.results.push(json!({"id": id, "state": "removed", "warnings": [why]}));
                    self.warnings.push(why);
                    continue;
                }
                Task::Create(id) => Todo::Begin {
                    op: "share.create".into(),
                    params: json!({"id": id, "section": sections[&id], "sections": all}),
                },
                Task::Update(id) => Todo::Begin {
                    op: "share.update".into(),
                    params: json!({"id": id, "section": sections[&id], "sections": all}),
                },
                Task::Delete(id, why) => {
                    Todo::Begin { op: "share.delete".into(), params: json!({"id": id, "actor": format!("worker: {why}")}) }
                }
            });
        }
        c.store().retire(&*c.host)?;
        Ok(())
    }

    fn plan_repair(&mut self, target: Option<&str>, overwrite: bool) -> Result<()> {
        let c = &self.context;
        let (open, _) = c.open()?;
        for o in open.iter().filter(|o| target.is_none_or(|t| t == o.target)) {
            let unwind = o.is_stuck() || o.op == "share.create" || o.op.starts_with("user.");
            self.tasks.push_back(Todo::Resume { opid: o.opid.clone(), unwind, settle: overwrite });
        }
        self.repairs = true;
        self.tasks.push_back(Todo::PutBack { overwrite });
        self.tasks.push_back(Todo::Refresh);
        Ok(())
    }

    /// Drift, looked for when nothing is half done any more.
    fn put_back(&mut self, overwrite: bool) -> Result<()> {
        let c = &self.context;
        let facts = observe::quick(&*c.host, &c.node, &c.paths)?;
        if let (Some(why), false) = (hand_edited(&facts), overwrite) {
            let wanted = wanted_conf(c, &facts)?;
            let actual = facts.own.as_ref().map(|f| f.text.clone()).unwrap_or_default();
            let diff = similar::TextDiff::from_lines(&wanted, &actual)
                .unified_diff()
                .context_radius(2)
                .header("as smbgw would write it", "as it is")
                .to_string();
            self.last =
                json!({"repaired": false, "why": why, "diff": diff, "remedy": "pve-smbgateway repair native --overwrite"});
            return Ok(());
        }
        self.last = json!({"repaired": true});
        if facts.record.is_some() {
            self.begin("share.repair", json!({"overwrite": overwrite}))?;
        }
        Ok(())
    }

    fn start(&mut self, todo: Todo) -> Result<()> {
        match todo {
            Todo::Resume { opid, unwind, settle } => {
                let state = self.context.store().read(&*self.context.host, &opid)?;
                let Some(Ok(state)) = state.map(|f| f.state) else { return Ok(()) };
                let planner = self.planner(&state.op, &state.params)?;
                self.target = json!(state.target);
                self.taking_back = unwind || state.unwinding;
                let how = Resume { opid, actor: self.actor.clone(), unwind, settle };
                let c = &self.context;
                self.current = Some(OpRun::resume(Rc::clone(&c.host), &c.node, &c.paths, &how, planner, self.hand_over())?);
            }
            Todo::Begin { op, params } => {
                if let Err(e) = self.begin(&op, params.clone()) {
                    self.warnings.push(chain(&e));
                    self.results.push(json!({"id": params_target(&params), "error": e.to_doc()}));
                }
            }
            Todo::Commit(id) => self.note(|r| {
                if let Some(e) = r.shares.get_mut(&id) {
                    e.committed = true;
                }
            })?,
            Todo::Gone(id) => self.note(|r| _ = r.removed.remove(&id))?,
            Todo::PutBack { overwrite } => self.put_back(overwrite)?,
            Todo::Refresh => self.refresh(),
            Todo::Health => {
                self.forget_former();
                self.health()?;
            }
        }
        Ok(())
    }

    fn hand_over(&self) -> Secrets {
        let mut secrets = Secrets::default();
        if let Some(p) = self.secrets.get("password") {
            secrets.put("password", p.to_vec());
        }
        secrets
    }

    fn planner(&self, op: &str, params: &Value) -> Result<Box<dyn crate::run::exec::Planner>> {
        let c = &self.context;
        let password = params.get("password-given").and_then(Value::as_bool).unwrap_or(self.password);
        // The intent of an operation that was accepted is rebuilt from its own words, not judged again beside today's sections.
        let mut alone = params.clone();
        if let Some(m) = alone.as_object_mut() {
            m.remove("sections");
            m.remove("password-given");
        }
        let intent = match c.intent(op, &alone, password) {
            Ok(Some((i, _, _))) => i,
            Ok(None) => return Err(Error::new(Kind::Internal, "an operation of another node is open here")),
            Err(e) => return Err(e),
        };
        let tree = c.tree_of(&intent)?;
        Ok(Box::new(IntentPlanner {
            intent: intent.clone(),
            node: c.node.clone(),
            paths: c.paths.clone(),
            finish: finish(intent, tree),
        }))
    }

    fn begin(&mut self, op: &str, params: Value) -> Result<()> {
        let needs_password = matches!(op, "user.create" | "user.password");
        if needs_password && !self.password {
            return Err(Error::property("password", "is needed; give it on standard input"));
        }
        if op == "share.delete" && self.deleted_elsewhere(&params)? {
            return Ok(());
        }
        let c = &self.context;
        let Some((intent, target, warnings)) = c.intent(op, &params, self.password)? else {
            let node = section::section_from_json(&params["section"])?.get("nodes").cloned().unwrap_or_default();
            if self.password {
                return Err(Error::property(
                    "password",
                    format!("is used once and not kept, so add the storage on node {node} itself"),
                ));
            }
            let (_, section, _) = c.checked(&params)?;
            self.last = json!({"id": params["id"], "state": "recorded", "section": section, "warnings": [format!("node {node} builds the share")]});
            return Ok(());
        };
        self.target = json!(target);
        self.taking_back = false;
        let mut params = params;
        params["password-given"] = json!(self.password && matches!(op, "share.create" | "share.update"));
        let opened = Event::Opened {
            opid: new_opid(&*c.host)?,
            op: op.to_owned(),
            gateway: NATIVE.to_owned(),
            target,
            actor: params.get("actor").and_then(Value::as_str).unwrap_or(&self.actor).to_owned(),
            params: slim(&params),
            process: c.host.own_process(),
        };
        let tree = c.tree_of(&intent)?;
        let planner = Box::new(IntentPlanner {
            intent: intent.clone(),
            node: c.node.clone(),
            paths: c.paths.clone(),
            finish: finish(intent, tree),
        });
        let mut run = OpRun::begin(Rc::clone(&c.host), &c.node, &c.paths, opened, planner, self.hand_over())?;
        for w in warnings {
            run.warn(w);
        }
        self.current = Some(run);
        Ok(())
    }

    /// A share that this node does not know: its removal is recorded where it is known. True if there is nothing to run here.
    fn deleted_elsewhere(&mut self, params: &Value) -> Result<bool> {
        let c = &self.context;
        let id = required(params, "id")?;
        StoreId::new(&id)?;
        if observe::record(&*c.host, &c.paths)?.is_some_and(|r| r.shares.contains_key(&id)) {
            return Ok(false);
        }
        for name in c.host.list(&c.record_dir)? {
            let paths = Paths { record_file: c.record_dir.join(&name), ..c.paths.clone() };
            if !name.starts_with("native@") || paths.record_file == c.paths.record_file {
                continue;
            }
            let Some(mut r) = observe::record(&*c.host, &paths)? else { continue };
            if let Some(e) = r.shares.get_mut(&id) {
                e.state = ShareState::Deleting;
                e.delete_intent = Some(self.actor.clone());
                let node = r.node.clone();
                save_record(c, &paths.record_file, &r)?;
                self.last =
                    json!({"id": id, "state": "recorded", "kept": {}, "warnings": [format!("node {node} removes the share")]});
                return Ok(true);
            }
        }
        self.last = json!({"id": id, "state": "removed", "kept": {}, "warnings": [format!("no share {id} was recorded; there was nothing to remove")]});
        Ok(true)
    }

    /// Changes what the record notes about the storage configuration; nothing on the machine depends on it.
    fn note(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        let c = &self.context;
        if let Some(mut r) = observe::record(&*c.host, &c.paths)? {
            change(&mut r);
            save_record(c, &c.paths.record_file, &r)?;
        }
        Ok(())
    }

    /// Looks whether everything is still as it was left, and puts back what can be put back without asking.
    fn health(&mut self) -> Result<()> {
        let c = &self.context;
        let facts = match observe::facts(&*c.host, &c.node, &c.paths, &Need::default()) {
            Ok(f) => f,
            Err(e) => {
                self.context.refresh(self.sections.as_ref(), Some(&[chain(&e)]))?;
                self.warnings.push(chain(&e));
                return Ok(());
            }
        };
        if facts.record.is_none() || hand_edited(&facts).is_some() {
            return Ok(());
        }
        let intent = Intent::Repair { overwrite: false };
        let planned = plan::ahead(&intent, &facts);
        match planned {
            Ok(p) => {
                let only_looks = |s: &plan::step::Step| matches!(s.effect, plan::step::Effect::Effective(_));
                let checks: Vec<_> = p.phases.iter().flat_map(|ph| &ph.steps).collect();
                if checks.iter().all(|s| only_looks(s)) {
                    let mut drift = Vec::new();
                    for s in checks {
                        if let plan::step::Effect::Effective(settings) = &s.effect {
                            drift = samba::compare(settings, &facts.effective);
                        }
                    }
                    self.context.refresh(self.sections.as_ref(), Some(&drift))?;
                } else {
                    self.tasks.push_front(Todo::Begin { op: "share.repair".into(), params: json!({"overwrite": false}) });
                }
            }
            Err(e) => {
                self.context.refresh(self.sections.as_ref(), Some(&[chain(&e)]))?;
                self.warnings.push(chain(&e));
            }
        }
        Ok(())
    }
}

fn working() -> Progress {
    Progress::Working(json!({"events": []}))
}

fn save_record(c: &Context, path: &Path, record: &Record) -> Result<()> {
    let (uid, gid) = c.host.own_ids();
    c.host.write(&FileSpec { path: path.to_owned(), content: record.print(), mode: 0o600, uid, gid })
}

/// Our file as it would be written now.
fn wanted_conf(c: &Context, facts: &Facts) -> Result<String> {
    let full = observe::facts(&*c.host, &c.node, &c.paths, &Need::default())?;
    let Some(record) = &full.record else { return Ok(String::new()) };
    let (shares, _) = samba::serving(record, &full)?;
    let security = shares.first().map(|(s, _)| s.security);
    let globals = facts.own.as_ref().is_some_and(|f| samba::own_sets_globals(&f.text)) || samba::foreign_shares(&full).is_empty();
    samba::own_conf(record, &shares, security.filter(|_| globals))
}

/// The result of an operation, from the facts at its end.
fn finish(intent: Intent, tree: Option<PathBuf>) -> crate::run::exec::Finish {
    Box::new(move |_, facts, warnings| {
        Ok(match &intent {
            Intent::Create { spec, section, .. } | Intent::Update { spec, section, .. } => json!({
                "id": spec.id, "share": spec.share, "state": if spec.disabled { "disabled" } else { "ready" }, "section": section, "warnings": warnings,
            }),
            Intent::Delete { id, .. } => {
                let kept: Vec<&String> =
                    facts.users.iter().filter(|(_, u)| u.comment.starts_with("smbgw ")).map(|(n, _)| n).collect();
                let users = facts.record.as_ref().map(|r| r.users.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
                let left: Vec<&&String> = kept.iter().filter(|n| !users.contains(n)).collect();
                json!({"id": id, "state": "removed", "kept": {"tree": tree, "accounts": left}, "warnings": warnings})
            }
            Intent::Repair { .. } => json!({"repaired": true, "warnings": warnings}),
            Intent::UserCreate(n) | Intent::UserPassword(n) | Intent::UserDisable(n, _) | Intent::UserRemove(n) => {
                json!({"name": n, "warnings": warnings})
            }
            Intent::GroupCreate(n) | Intent::GroupRemove(n) => json!({"name": n, "warnings": warnings}),
            Intent::GroupAdd(g, u) | Intent::GroupDrop(g, u) => json!({"name": g, "user": u, "warnings": warnings}),
        })
    })
}

// ---- parameters --------------------------------------------------------------------------------------------------------

fn check_params(op: &str, params: &Value, effect: ops::Effect) -> Result<()> {
    let operation = ops::operation(op).filter(|o| o.effect == effect);
    let operation = operation.ok_or_else(|| {
        let kind = if effect == ops::Effect::Query { "query" } else { "run" };
        Error::property("op", format!("{:?} is no {kind} of this build", shorten(op)))
    })?;
    let Some(map) = params.as_object() else { return Err(Error::property("params", "is no object")) };
    let mut problems = Vec::new();
    for name in operation.required {
        if map.get(*name).is_none_or(Value::is_null) {
            problems.push(Problem::new(*name, "is missing"));
        }
    }
    let common: &[&str] = if effect == ops::Effect::Run { &["actor", "lock-wait-ms"] } else { &[] };
    for name in map.keys() {
        let known = operation.required.iter().chain(operation.optional).chain(common).any(|n| n == name);
        if !known {
            let why = if operation.secrets.contains(&name.as_str()) {
                "is a secret and is handed over separately, never as a parameter"
            } else {
                "is unknown"
            };
            problems.push(Problem::new(shorten(name), why));
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::invalid(format!("request {op}"), problems)) }
}

/// What a request is about: a share or an account.
fn params_target(params: &Value) -> Value {
    params.get("id").or(params.get("name")).cloned().unwrap_or_default()
}

fn text(params: &Value, name: &str) -> Result<Option<String>> {
    match params.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(s)) => Ok(Some(s.clone())),
        Some(Value::Number(n)) => Ok(Some(n.to_string())),
        Some(_) => Err(Error::property(name, "must be text")),
    }
}

fn required(params: &Value, name: &str) -> Result<String> {
    text(params, name)?.filter(|t| !t.is_empty()).ok_or_else(|| Error::property(name, "is missing"))
}

fn number(params: &Value, name: &str) -> Result<Option<i64>> {
    match text(params, name)? {
        None => Ok(None),
        Some(t) => t.parse().map(Some).map_err(|_| Error::property(name, "must be a whole number")),
    }
}

fn flag(params: &Value, name: &str) -> Result<bool> {
    match params.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(b)) => Ok(*b),
        Some(v) => {
            let t = v.as_str().map(str::to_owned).unwrap_or_else(|| v.to_string());
            section::parse_bool(&t).ok_or_else(|| Error::property(name, "must be yes or no"))
        }
    }
}

/// Parameters as they may be written down: a sensitive property in a section is taken out, whoever put it there.
fn without_secrets(params: &Value) -> Value {
    let mut p = params.clone();
    if let Some(s) = p.get_mut("section").and_then(Value::as_object_mut) {
        s.retain(|k, _| schema::property(k).is_none_or(|p| !p.sensitive));
    }
    p
}

/// What the journal keeps: the sections of everybody else are not this operation's.
fn slim(params: &Value) -> Value {
    let mut p = without_secrets(params);
    if let Some(m) = p.as_object_mut() {
        m.remove("sections");
        m.remove("lock-wait-ms");
        m.remove("actor");
    }
    p
}
