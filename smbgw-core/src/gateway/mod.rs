// SPDX-License-Identifier: MIT OR Apache-2.0
//! The facade: everything a caller can ask for, by the table of operations. It knows parameters, locks, and which planner serves which
//! operation; it must not know C, Perl, nor how a step is done. `smbgw-ffi` imports this module and [`crate::error`], nothing else.

mod defer;
mod doctor;
mod domain;
mod figures;
mod many;
mod membership;
mod one;
mod params;
mod retention;
mod run;
mod sessions;
mod turns;
mod watch;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::effect::FileSpec;
use crate::error::{Error, Kind, Problem, Result, chain};
use crate::facts::{Effective, Facts, Paths, Space};
use crate::host::real::RealHost;
use crate::host::{Host, Machines};
use crate::journal::OpState;
use crate::journal::store::Store;
use crate::metrics::alert;
use crate::observe::{self, Need};
use crate::plan::step::JoinBy;
use crate::plan::{self, Intent, samba, template};
use crate::quota::Figures;
use crate::run::reconcile::section_mode;
use crate::spec::record::{Member, Record, ShareEntry, ShareState, TreeId, TreeOwner};
use crate::spec::section::{self, Checked, JoinAccount, Known, Mode, NATIVE, Section, Sections, Surroundings};
use crate::spec::{DomainSpec, ShareSpec, ops, routes, schema};
use crate::status::{self, Hot, Look, STALE_MS};
use crate::types::{DomainAccount, GatewayId, GroupName, NodeName, StoreId, UserName, VmId, shorten};

use params::{check_params, flag, number, reload_later, required, text};
pub use run::Run;

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
    /// The limit of the share in bytes; 0: it has none.
    pub limit: u64,
    /// How much older than `age_ms` says the figures may be, in milliseconds: what the file system counts late.
    pub lag_ms: u64,
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
#[derive(Clone)]
pub struct Context {
    host: Rc<dyn Host>,
    node: String,
    /// Of the native gateway; those of the others are made from them.
    native: Paths,
    record_dir: PathBuf,
    /// The directory of records is where Proxmox is or is not, and was not said.
    finds_cluster: bool,
}

/// The lock of the node's own accounts and smb.conf.
const NODE: &str = "node";

/// What was seen of a gateway, once for all documents of its shares.
struct Seen<'a> {
    facts: &'a Facts,
    /// Shares that our configuration file has.
    ours: Vec<String>,
    open: (Vec<OpState>, Vec<String>),
}

/// What somebody asked for, understood.
struct Asked {
    intent: Intent,
    /// Of the gateway that it is about.
    paths: Paths,
    target: String,
    warnings: Vec<String>,
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
        let finds_cluster = options.record_dir.is_none();
        let record_dir = match options.record_dir {
            Some(d) => d,
            None if host.exists(Path::new("/etc/pve/priv"))? => "/etc/pve/priv/smbgw/gateways".into(),
            None => options.state_dir.join("gateways"),
        };
        let native = Paths {
            smb_conf: options.smb_conf,
            own_conf: options.own_conf,
            lock_dir: options.run_dir.join("lock"),
            run_dir: options.run_dir,
            state_dir: options.state_dir,
            record_file: record_dir.join(format!("native@{node}.json")),
            gateway: GatewayId::new(NATIVE)?,
            mode: Mode::Native,
        };
        Ok(Self { host, node, native, record_dir, finds_cluster })
    }

    fn store(&self) -> Store {
        Store::new(&self.native.state_dir)
    }

    fn machines(&self) -> Rc<Machines> {
        Rc::new(Machines::new(Rc::clone(&self.host)))
    }

    // ---- gateways ------------------------------------------------------------------------------------------------------

    /// Where the things of a gateway lie. Inside a container they are where Samba and the system have them.
    fn paths_of(&self, gateway: &GatewayId) -> Paths {
        if gateway.as_str() == NATIVE {
            return self.native.clone();
        }
        Paths {
            smb_conf: "/etc/samba/smb.conf".into(),
            own_conf: "/etc/samba/smbgw.conf".into(),
            run_dir: "/run/smbgw".into(),
            lock_dir: self.native.lock_dir.clone(),
            state_dir: self.native.state_dir.clone(),
            record_file: self.record_dir.join(format!("{gateway}.json")),
            gateway: gateway.clone(),
            mode: Mode::Lxc,
        }
    }

    /// What is about the node and no gateway.
    fn node_paths(&self) -> Result<Paths> {
        Ok(self.paths_of(&GatewayId::new(section::NODE_WORK)?))
    }

    /// Where the things of each gateway lie that has a record.
    fn recorded(&self) -> Result<Vec<Paths>> {
        let of = |name: String| {
            let id = if self.record_dir.join(&name) == self.native.record_file { NATIVE } else { name.strip_suffix(".json")? };
            // `native@OTHER` is no name of a gateway: that of another node.
            GatewayId::new(id).ok().map(|g| self.paths_of(&g))
        };
        Ok(self.host.list(&self.record_dir)?.into_iter().filter_map(of).collect())
    }

    /// Nothing is read or written where Proxmox's cluster file system should be and is not, or has come or gone since this context was made: what is
    /// read then is not so, and what is written would be lost, or lie below the mount.
    fn cluster_is_there(&self) -> Result<()> {
        let (cluster, private) = (Path::new("/etc/pve"), Path::new("/etc/pve/priv"));
        let away = |why: &str| Error::new(Kind::Service, why.to_owned()).remedy("systemctl status pve-cluster; then once more");
        if self.host.exists(cluster)? && self.host.list(cluster)?.is_empty() {
            return Err(away("/etc/pve is empty: the cluster file system is not mounted"));
        }
        if self.host.exists(private)? != self.record_dir.starts_with(cluster) && self.finds_cluster {
            return Err(away("/etc/pve has just come or gone"));
        }
        Ok(())
    }

    /// The gateways that have a record: the native one of this node, and those with a container, whichever node owns them.
    fn gateways(&self) -> Result<Vec<(Paths, Record)>> {
        let mut found = Vec::new();
        for paths in self.recorded()? {
            if let Some(r) = observe::record(&*self.host, &paths)? {
                found.push((paths, r));
            }
        }
        Ok(found)
    }

    /// The gateway that a share belongs to, by the records.
    fn gateway_of(&self, share: &str) -> Result<Option<(Paths, Record)>> {
        Ok(self.gateways()?.into_iter().find(|(_, r)| r.shares.contains_key(share)))
    }

    /// The gateway that somebody named; if nobody did, the native one, or the only one that this node owns.
    fn named(&self, params: &Value) -> Result<Paths> {
        if let Some(g) = text(params, "gateway")? {
            let gateway = GatewayId::new(&g).map_err(|e| Error::property("gateway", e.to_string()))?;
            let paths = self.paths_of(&gateway);
            let known = gateway.as_str() == NATIVE || observe::record(&*self.host, &paths)?.is_some();
            return if known { Ok(paths) } else { Err(no_gateway(&g)) };
        }
        let mut ours: Vec<Paths> = self.gateways()?.into_iter().filter(|(_, r)| r.node == self.node).map(|(p, _)| p).collect();
        match ours.len() {
            1 => Ok(ours.remove(0)),
            _ if ours.is_empty() || ours.iter().any(|p| p.mode == Mode::Native) => Ok(self.native.clone()),
            _ => {
                let names: Vec<&str> = ours.iter().map(|p| p.gateway.as_str()).collect();
                Err(Error::property("gateway", format!("this node has several gateways: {}", names.join(", ")))
                    .remedy("name one with --gateway"))
            }
        }
    }

    fn around(&self, params: &Value) -> Result<Surroundings> {
        let mut around = Surroundings::alone(NodeName::new(&self.node)?);
        if let Some(v) = params.get("sections").filter(|v| !v.is_null()) {
            around.sections = section::sections_from_json(v)?;
        }
        // What the records serve counts too: a caller may not know every section, and one may have vanished.
        for (paths, r) in self.gateways()? {
            for (id, e) in r.shares {
                around.sections.entry(id).or_insert_with(|| {
                    let mut s = e.section;
                    s.insert("type".into(), "smbgateway".into());
                    s
                });
            }
            let joined = r.member.as_ref().is_some_and(Member::is_joined);
            let known = Known { node: r.node, settings: r.settings, built: r.vmid.is_some(), joined };
            around.gateways.insert(paths.gateway.to_string(), known);
        }
        Ok(around)
    }

    // ---- the hot path --------------------------------------------------------------------------------------------------

    /// Space and state of a share from its snapshot: no process, no network, no lock; one small file, and one `statfs` where that is
    /// known not to block. A share without a snapshot is inactive, not an error.
    pub fn usage(&self, id: &str) -> Result<Usage> {
        let id = StoreId::new(id)?;
        let none = Usage { age_ms: -1, ..Usage::default() };
        let path = self.snapshot(id.as_str());
        let Some(file) = self.host.read(&path, 1 << 20)? else { return Ok(none) };
        Ok(serde_json::from_slice::<Hot>(&file.content).map_or(none, |hot| self.usage_of(&hot, self.well_at(&hot.gateway))))
    }

    /// The same, of a snapshot that was read already.
    fn usage_of(&self, hot: &Hot, well: Option<i64>) -> Usage {
        let age_ms = (self.host.now_ms() - hot.held_at(well)).max(0);
        let mut usage = Usage { age_ms, active: hot.active && age_ms <= STALE_MS, ..Usage::default() };
        if let Some(l) = &hot.limited {
            (usage.limit, usage.lag_ms) = (l.limit, l.means.lag_ms());
        }
        if let Some(s) = hot.space {
            (usage.total, usage.avail, usage.used) = (s.total, s.avail, s.used);
        }
        if usage.active && hot.local {
            match self.host.space(Path::new(&hot.path)) {
                Ok(s) if hot.fsid == "0" || format!("{:x}", s.fsid) == hot.fsid => {
                    // Project quota is what `statfs` tells.
                    let counted = hot.limited.as_ref().filter(|l| l.means.is_local() && !l.means.shows_in_statfs());
                    let s = counted.map_or(s, |l| status::room(l, self.host.used(Path::new(&hot.path), &l.means).ok(), s));
                    (usage.total, usage.avail, usage.used) = (s.total, s.avail, s.used);
                    usage.age_ms = 0;
                }
                // Another file system is there now: the tree was unmounted.
                _ => usage.active = false,
            }
        }
        usage
    }

    fn snapshot(&self, id: &str) -> PathBuf {
        self.native.run_dir.join("status").join(format!("{id}.json"))
    }

    // ---- queries -------------------------------------------------------------------------------------------------------

    /// Answers a query of the table of operations.
    pub fn query(&self, op: &str, params: &Value) -> Result<Value> {
        check_params(op, params, ops::Effect::Query)?;
        match op {
            "schema" => Ok(json!({
                "properties": schema::document(), "operations": ops::document(), "parameters": routes::document(),
                "assembled": routes::ASSEMBLED, "metrics": crate::metrics::document(), "alerts": alert::code::document(),
            })),
            "check" => self.check(params),
            "plan" => self.plan(params),
            "render" => self.render(params),
            "status" => self.status(params),
            "list" => self.list(),
            "quota" => self.quota(params),
            "users" => self.users(params),
            "groups" => self.groups(params),
            "doctor" => self.doctor(params),
            "sessions" => self.sessions(params),
            "files" => self.files(params),
            "gateways" => self.gateway_list(),
            "turns" => self.turns(params),
            "scrape" => self.scrape(),
            "metrics" | "metrics.share" => self.metrics(params),
            "metrics.export" => self.metrics_export(params),
            "openmetrics" => self.openmetrics(params),
            "report" => self.report(params),
            "retention" => self.retention(),
            "retention.set" => self.retention_set(params),
            "retention.reset" => self.retention_reset(params),
            "alerts" => self.alerts(),
            "alert.silence" => self.alert_silence(params),
            "alert.rules" => self.alert_rules(params),
            "alert.unsilence" => self.alert_unsilence(params),
            "alert.delivered" => self.alerts_delivered(params),
            "templates" => self.templates(),
            "ad.check" => self.ad_check(params),
            "ad.users" => self.ad_accounts(params, false),
            "ad.groups" => self.ad_accounts(params, true),
            "ad.whoami" => self.ad_whoami(params),
            "ad.report" => self.ad_report(params),
            "audit" => {
                let id = text(params, "id")?;
                let since = number(params, "since")?.unwrap_or(0);
                let limit = number(params, "limit")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(AUDIT_LIMIT);
                Ok(json!({"entries": self.store().audit(&*self.host, id.as_deref(), since, limit)?}))
            }
            "sections" => {
                let records = self.gateways()?;
                let all: serde_json::Map<String, Value> = records
                    .iter()
                    .flat_map(|(_, r)| &r.shares)
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
        if checked.spec.domain.is_some() {
            // It joins the domain, once.
            effective.remove("username");
        }
        effective.extend(checked.effective.clone());
        Ok((id, effective, checked))
    }

    fn check(&self, params: &Value) -> Result<Value> {
        let (whole, checked) = match self.checked(params) {
            Ok((_, section, c)) => (section, c),
            Err(e) if !e.problems().is_empty() => return Ok(json!({"problems": e.problems(), "warnings": [], "effective": {}})),
            Err(e) => return Err(e),
        };
        let (mut problems, mut warnings) = (Vec::new(), checked.warnings.clone());
        if flag(params, "create")? {
            let intent = Intent::Create { spec: Box::new(checked.spec.clone()), section: whole, password: false, later: false };
            let paths = self.paths_of(&checked.spec.gateway);
            let outside = paths.mode == Mode::Lxc;
            let quota = checked.spec.is_limited();
            let need = Need { trees: vec![checked.spec.path.clone()], quota, without_passdb: true, outside, ..Need::default() };
            let planned = observe::facts(&self.machines(), &self.node, &paths, &need).and_then(|f| plan::ahead(&intent, &f));
            match planned {
                Ok(plan) => warnings.extend(plan.warnings),
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
        let Some(mut asked) = self.intent(&op, inner, true)? else {
            return Ok(json!({"op": op, "phases": [], "warnings": ["another node does it"], "text": "another node does it\n"}));
        };
        self.look_at_sessions(&mut asked)?;
        let plan = self.ahead(&asked)?;
        asked.warnings.extend(plan.warnings.iter().cloned());
        Ok(plan::Plan { warnings: asked.warnings, ..plan }.document(&op, &asked.target))
    }

    /// All phases, planned on what is seen now.
    fn ahead(&self, asked: &Asked) -> Result<plan::Plan> {
        let trees = match &asked.intent {
            Intent::Create { spec, .. } | Intent::Update { spec, .. } => vec![spec.path.clone()],
            Intent::TreeShift { path, .. } => vec![path.clone()],
            _ => Vec::new(),
        };
        let quota = asked.intent.spec().is_some_and(ShareSpec::is_limited);
        let limit_of = asked.intent.share_id().map(str::to_owned).filter(|_| matches!(asked.intent, Intent::Create { .. }));
        let need = Need { trees, quota, limit_of, owned: true, ..Need::default() };
        let facts = observe::facts(&self.machines(), &self.node, &asked.paths, &need)?;
        plan::ahead(&asked.intent, &facts)
    }

    fn render(&self, params: &Value) -> Result<Value> {
        let sections = section::sections_from_json(params.get("sections").unwrap_or(&Value::Null))?;
        let paths = self.named(params)?;
        let make = || Record::new(paths.gateway.as_str(), &self.node, paths.mode, "not made yet");
        let mut record = observe::record(&*self.host, &paths)?.unwrap_or_else(make);
        let around = self.around(params)?;
        let (mut shares, mut security) = (Vec::new(), crate::spec::Security::Standard);
        let ours = |id: &String, s: &Section| {
            let named = s.get("smbgw-gateway").unwrap_or(id);
            section_mode(s) == Some(paths.mode) && (paths.mode == Mode::Native || named.as_str() == paths.gateway.as_str())
        };
        let typed = sections.iter().filter(|(_, s)| s.get("type").is_none_or(|t| t == "smbgateway"));
        for (id, s) in typed.filter(|(id, s)| ours(id, s)) {
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
                mount: None,
                quota: None,
                user_limits: Default::default(),
                delete_intent: None,
            };
            security = checked.spec.security;
            if !checked.spec.disabled {
                shares.push((checked.spec, entry));
            }
        }
        Ok(json!({"text": samba::own_conf(&record, &shares, Some(security), &Effective::default(), "")?}))
    }

    fn open(&self, paths: &Paths) -> Result<(Vec<OpState>, Vec<String>)> {
        self.store().open_operations(&*self.host, paths.gateway.as_str())
    }

    /// What the documents of a gateway's shares are made from.
    fn seen<'a>(&self, facts: &'a Facts) -> Result<Seen<'a>> {
        let ours = samba::own_sections(facts.own.as_ref().map_or("", |f| f.text.as_str()));
        Ok(Seen { facts, ours, open: self.open(&facts.paths)? })
    }

    /// `drift`: of the effective configuration. Without it or the sections at hand, what the last reconcile knew still holds.
    fn document(
        &self,
        seen: &Seen<'_>,
        id: &str,
        entry: &ShareEntry,
        sections: Option<&Sections>,
        drift: Option<&[String]>,
    ) -> Value {
        let Seen { facts, ours, open } = seen;
        let (space, figures) = if facts.tree(&entry.tree.path).is_ok() { self.measure(entry) } else { (None, None) };
        let last = if sections.is_none() || drift.is_none() { self.last(id) } else { Value::Null };
        let in_config = sections.map_or_else(|| last["in-config"].as_bool(), |s| Some(s.contains_key(id)));
        let kept: Vec<String> = serde_json::from_value(last["effective-drift"].clone()).unwrap_or_default();
        let drift = drift.unwrap_or(&kept);
        let health = self.membership_health(&facts.paths.gateway);
        let look = Look { facts, ours, open: &open.0, damaged: &open.1, space, figures, in_config, drift, health: &health };
        let mut doc = status::document(id, entry, &look);
        if let (Some(why), Some(list)) = (self.trouble(id), doc["warnings"].as_array_mut()) {
            list.push(json!(why));
        }
        doc["in-config"] = json!(in_config);
        doc["effective-drift"] = json!(drift);
        doc
    }

    /// Space of a share's tree, and what it uses of its limit.
    fn measure(&self, entry: &ShareEntry) -> (Option<Space>, Option<Figures>) {
        let space = self.host.space(&entry.tree.path).ok();
        let Some(limited) = status::limited(entry) else { return (space, None) };
        let figures = self.host.figures(&entry.tree.path, &limited.means).ok();
        (space.map(|s| status::room(&limited, figures.map(|f| f.used), s)), figures)
    }

    /// The last snapshot of a share, `null` without a good one.
    fn last(&self, id: &str) -> Value {
        let file = self.host.read(&self.snapshot(id), 1 << 20).ok().flatten();
        file.and_then(|f| serde_json::from_slice(&f.content).ok()).unwrap_or_default()
    }

    fn last_known(&self, id: &str, key: &str) -> Value {
        self.last(id).get(key).cloned().unwrap_or_default()
    }

    fn status(&self, params: &Value) -> Result<Value> {
        let id = required(params, "id")?;
        StoreId::new(&id)?;
        if flag(params, "fresh")? {
            if let Some((paths, r)) = self.gateway_of(&id)?.filter(|(_, r)| r.node == self.node) {
                let facts = observe::quick(&self.machines(), &self.node, &paths)?;
                if let Some(e) = r.shares.get(&id) {
                    let mut doc = self.document(&self.seen(&facts)?, &id, e, None, None);
                    self.warn_of_agent(&mut doc);
                    doc["growth"] = json!(self.trends().shares.get(&id));
                    return Ok(doc);
                }
            }
        }
        // Not from the snapshot: whoever made that may have been killed since.
        let about_it = |o: &OpState| o.target == id && o.op.starts_with("share.");
        let open = self.store().all_open(&*self.host)?.into_iter().find(about_it);
        if let Some(f) = self.host.read(&self.snapshot(&id), 1 << 20)? {
            let unread = |e| {
                Error::new(Kind::Corrupt, format!("the snapshot of {id} cannot be read"))
                    .caused_by(e)
                    .remedy("pve-smbgateway reconcile")
            };
            let mut doc: Value = serde_json::from_slice(&f.content).map_err(unread)?;
            let hot: Hot = serde_json::from_slice(&f.content).map_err(unread)?;
            let well = self.well_at(&hot.gateway);
            let usage = self.usage_of(&hot, well);
            if hot.local && usage.active {
                doc["space"] = json!({"total": usage.total, "avail": usage.avail, "used": usage.used});
            } else if hot.local {
                doc["active"] = json!(false);
            }
            doc["at"] = json!(hot.held_at(well));
            let age = (self.host.now_ms() - hot.held_at(well)).max(0);
            doc["age-ms"] = json!(age);
            if age > STALE_MS {
                doc["active"] = json!(false);
                if let Some(w) = doc["warnings"].as_array_mut() {
                    w.push(json!(format!("these figures are {} s old: does the agent pve-smbgateway-agent run?", age / 1000)));
                }
            }
            if let Some(o) = open.filter(|o| !o.is_stuck()) {
                doc["operation"] = status::operation_document(&o);
            }
            self.warn_of_agent(&mut doc);
            doc["growth"] = json!(self.trends().shares.get(&id));
            return Ok(doc);
        }
        if let Some(o) = open {
            return Ok(orphan_document(&o, &self.node));
        }
        Err(Error::new(Kind::NotFound, format!("there is no share {id} on node {}", self.node)).remedy("pve-smbgateway list"))
    }

    fn warn_of_agent(&self, doc: &mut Value) {
        if let (Some(why), Some(list)) = (self.agent_trouble(), doc["warnings"].as_array_mut()) {
            list.push(json!(why));
        }
    }

    fn list(&self) -> Result<Value> {
        let (mut shares, mut damaged, mut known) = (Vec::new(), Vec::new(), Vec::new());
        for (paths, r) in self.gateways()?.into_iter().filter(|(_, r)| r.node == self.node) {
            let facts = observe::quick(&self.machines(), &self.node, &paths)?;
            let seen = self.seen(&facts)?;
            shares.extend(r.shares.iter().map(|(id, e)| self.document(&seen, id, e, None, None)));
            known.extend(r.shares.into_keys());
            damaged = seen.open.1;
        }
        // What a hook accepted and the worker has not begun, or could not do.
        for name in self.host.list(&self.native.run_dir.join("status"))? {
            let Some(id) = name.strip_suffix(".json").filter(|id| !known.iter().any(|k| k == id)) else { continue };
            if let Ok(doc) = self.status(&json!({"id": id})) {
                if matches!(doc["state"].as_str(), Some("provisioning" | "failed")) {
                    known.push(id.to_owned());
                    shares.push(doc);
                }
            }
        }
        let open = self.store().all_open(&*self.host)?;
        let orphans = open.iter().filter(|o| o.op.starts_with("share.") && o.op != "share.repair" && !known.contains(&o.target));
        shares.extend(orphans.map(|o| orphan_document(o, &self.node)));
        let warnings: Vec<String> = self.agent_trouble().into_iter().collect();
        Ok(json!({"node": self.node, "shares": shares, "damaged": damaged, "warnings": warnings}))
    }

    /// The limits of all shares of this node, or of one, with what is used now. Of datasets only `statfs` is asked, so no process is started.
    fn quota(&self, params: &Value) -> Result<Value> {
        let only = text(params, "id")?;
        let mut shares = Vec::new();
        for (paths, r) in self.gateways()?.into_iter().filter(|(_, r)| r.node == self.node) {
            for (id, e) in r.shares.iter().filter(|(id, _)| only.as_ref().is_none_or(|o| o == *id)) {
                // One that is not in place has no figures; what lies at its path is something else.
                let there = self.host.tree(&e.tree.path).is_ok_and(|t| {
                    t.ino == e.tree.ino && t.fs_type == e.tree.fs_type && (e.tree.fsid == 0 || t.fsid == e.tree.fsid)
                });
                let (space, figures) = if there { self.measure(e) } else { (None, None) };
                let mut doc = status::quota_document(e, space, figures, self.host.now_ms());
                if doc.is_null() {
                    // Without a limit: what the file system has.
                    doc = json!({
                        "limit": null, "means": null, "object": null, "used": space.map(|s| s.used), "free": space.map(|s| s.avail),
                        "files": null, "at": self.host.now_ms(), "lag-ms": 0,
                    });
                }
                // Of users in a dataset only `zfs` could tell what they own.
                let owned = |uid| if there { self.host.user_figures(&e.tree.path, uid).ok().map(|f| f.used) } else { None };
                let users: Vec<Value> = e
                    .user_limits
                    .iter()
                    .map(|(n, l)| json!({"name": n, "uid": l.uid, "limit": l.limit, "used": owned(l.uid)}))
                    .collect();
                doc["users"] = json!(users);
                doc["id"] = json!(id);
                doc["gateway"] = json!(paths.gateway);
                doc["path"] = json!(e.tree.path);
                doc["file-system"] = json!(e.tree.fs_type);
                doc["reachable"] = json!(there);
                shares.push(doc);
            }
        }
        if let Some(id) = only.filter(|_| shares.is_empty()) {
            return Err(Error::new(Kind::NotFound, format!("there is no share {} on node {}", shorten(&id), self.node))
                .remedy("pve-smbgateway list"));
        }
        Ok(json!({"node": self.node, "shares": shares}))
    }

    fn users(&self, params: &Value) -> Result<Value> {
        let paths = self.named(params)?;
        let record = observe::record(&*self.host, &paths)?;
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
        Ok(json!({"gateway": paths.gateway, "node": self.node, "users": users}))
    }

    fn groups(&self, params: &Value) -> Result<Value> {
        let paths = self.named(params)?;
        let record = observe::record(&*self.host, &paths)?;
        let groups: Vec<Value> = record
            .iter()
            .flat_map(|r| &r.groups)
            .map(|(n, g)| json!({"name": n, "unix": g.unix, "gid": g.gid, "members": g.members}))
            .collect();
        Ok(json!({"gateway": paths.gateway, "node": self.node, "groups": groups}))
    }

    fn gateway_list(&self) -> Result<Value> {
        let mut list = Vec::new();
        for (paths, r) in self.gateways()? {
            let mut doc = json!({
                "gateway": paths.gateway, "mode": paths.mode, "node": r.node, "uuid": r.uuid, "shares": r.shares.keys().collect::<Vec<_>>(),
                "users": r.users.len(),
            });
            if paths.mode == Mode::Lxc && r.node == self.node {
                let facts = observe::quick(&self.machines(), &self.node, &paths)?;
                doc["container"] = status::container(&facts);
                doc["samba-running"] = json!(facts.smbd_running);
            }
            list.push(doc);
        }
        Ok(json!({"node": self.node, "gateways": list}))
    }

    fn templates(&self) -> Result<Value> {
        let facts =
            observe::facts(&self.machines(), &self.node, &self.node_paths()?, &Need { outside: true, ..Need::default() })?;
        let guest = facts.guest.unwrap_or_default();
        let list: Vec<Value> = guest
            .templates
            .iter()
            .map(|t| {
                let mut doc = json!(t.marker);
                doc["storage"] = json!(t.storage);
                doc["path"] = json!(t.path);
                doc["present"] = json!(t.present);
                doc["in-use"] = json!(guest.used_templates.contains(&t.marker.name));
                doc
            })
            .collect();
        Ok(json!({"node": self.node, "templates": list}))
    }

    // ---- intents -------------------------------------------------------------------------------------------------------

    /// What changes a gateway is done by the node that owns it: two nodes must never work on one record and container.
    fn here(&self, paths: Paths) -> Result<Paths> {
        match observe::record(&*self.host, &paths)? {
            Some(r) if r.node != self.node => {
                Err(Error::new(Kind::Conflict, format!("gateway {} is on node {}", paths.gateway, r.node))
                    .remedy("run the command there"))
            }
            _ => Ok(paths),
        }
    }

    /// What a run's parameters mean; `None` if another node has to do it.
    fn intent(&self, op: &str, params: &Value, password: bool) -> Result<Option<Asked>> {
        let name = |key: &str| required(params, key);
        let user = || UserName::new(&name("name")?);
        let group = || GroupName::new(&name("name")?);
        let (intent, paths, target) = match op {
            "share.create" | "share.update" => return self.share_intent(op, params, password),
            "share.delete" => {
                let id = name("id")?;
                let actor = text(params, "actor")?.unwrap_or_else(|| "root".into());
                let paths = self.gateway_of(&id)?.map_or_else(|| self.native.clone(), |(p, _)| p);
                (Intent::Delete { id: id.clone(), actor }, paths, id)
            }
            "share.limits" => {
                let id = name("id")?;
                let found = self.gateway_of(&id)?.map(|(p, _)| p);
                let paths = found.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no share {}", shorten(&id))))?;
                (Intent::Limits(id.clone()), self.here(paths)?, id)
            }
            "share.repair" => {
                let paths = self.here(self.named(params)?)?;
                let gateway = paths.gateway.to_string();
                (Intent::Repair { overwrite: flag(params, "overwrite")? }, paths, gateway)
            }
            "template.build" => {
                let build = self.build(params)?;
                let target = build.name.clone();
                (Intent::TemplateBuild(build), self.node_paths()?, target)
            }
            "template.prune" => {
                let keep = number(params, "keep")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
                (Intent::TemplatePrune { keep }, self.node_paths()?, "templates".into())
            }
            "tree.shift" => {
                let typed = name("path")?;
                let path = self.shiftable(&typed)?;
                (Intent::TreeShift { path, back: flag(params, "back")? }, self.node_paths()?, typed)
            }
            "ad.join" => {
                let paths = self.here(self.named(params)?)?;
                let gateway = paths.gateway.to_string();
                (self.join_intent(&paths, params, password)?, paths, gateway)
            }
            "ad.test-user" => {
                let paths = self.here(self.named(params)?)?;
                let given = name("name")?;
                let member = observe::record(&*self.host, &paths)?.and_then(|r| r.member);
                let full = match member {
                    Some(m) if !given.contains('\\') => format!("{}\\{given}", m.workgroup),
                    _ => given,
                };
                let account = DomainAccount::parse(&full).map_err(|e| Error::property("name", e.to_string()))?;
                let gateway = paths.gateway.to_string();
                (Intent::AdTestUser { account, share: text(params, "share")?, ntlm: flag(params, "ntlm")? }, paths, gateway)
            }
            "ad.repair" => {
                let what = name("what")?;
                let what = plan::Repair::parse(&what)
                    .ok_or_else(|| Error::property("what", format!("{} is none of keytab, rotate, names", shorten(&what))))?;
                let paths = self.here(self.named(params)?)?;
                let gateway = paths.gateway.to_string();
                (Intent::AdRepair(what), paths, gateway)
            }
            "ad.fallback" => {
                let paths = self.here(self.named(params)?)?;
                let gateway = paths.gateway.to_string();
                (Intent::AdFallback { on: flag(params, "on")?, forced: !flag(params, "worker")? }, paths, gateway)
            }
            "ad.leave" => {
                let paths = self.here(self.named(params)?)?;
                let gateway = paths.gateway.to_string();
                (
                    Intent::AdLeave { keep: flag(params, "keep-account")?, join: join_account(params)?, by: join_by(params)? },
                    paths,
                    gateway,
                )
            }
            "session.close" => {
                let paths = self.here(self.named(params)?)?;
                let (id, user) = sessions::which(params)?;
                let user = match user {
                    Some(u) => Some(self.session_user(&paths, u)?),
                    None => None,
                };
                let target = user.clone().or_else(|| id.clone()).unwrap_or_default();
                (Intent::SessionClose { user, id, ends: Vec::new() }, paths, target)
            }
            _ if op.starts_with("gateway.") => {
                let gateway = GatewayId::new(&name("name")?).map_err(|e| Error::property("name", e.to_string()))?;
                let paths = self.paths_of(&gateway);
                observe::record(&*self.host, &paths)?.ok_or_else(|| no_gateway(gateway.as_str()))?;
                let paths = if op == "gateway.adopt" { paths } else { self.here(paths)? };
                let intent = match op {
                    "gateway.start" => Intent::GatewayStart,
                    "gateway.stop" => Intent::GatewayStop,
                    "gateway.restart" => Intent::GatewayRestart,
                    "gateway.reload" => Intent::GatewayReload,
                    "gateway.upgrade" => Intent::GatewayUpgrade(text(params, "template")?),
                    "gateway.adopt" => {
                        Intent::GatewayAdopt(VmId::parse(&name("vmid")?).map_err(|e| Error::property("vmid", e.to_string()))?)
                    }
                    _ => return Err(Error::property("op", format!("{} cannot be planned", shorten(op)))),
                };
                (intent, paths, gateway.to_string())
            }
            _ => {
                let intent = match op {
                    "user.create" => Intent::UserCreate { name: user()?, later: reload_later(params)? },
                    "user.password" => Intent::UserPassword(user()?),
                    "user.disable" => Intent::UserDisable(user()?, true),
                    "user.enable" => Intent::UserDisable(user()?, false),
                    "user.remove" => Intent::UserRemove(user()?),
                    "group.create" => Intent::GroupCreate { name: group()?, later: reload_later(params)? },
                    "group.remove" => Intent::GroupRemove(group()?),
                    "group.add-member" => Intent::GroupAdd(group()?, UserName::new(&name("user")?)?),
                    "group.remove-member" => Intent::GroupDrop(group()?, UserName::new(&name("user")?)?),
                    _ => return Err(Error::property("op", format!("{} cannot be planned", shorten(op)))),
                };
                (intent, self.here(self.named(params)?)?, name("name")?)
            }
        };
        Ok(Some(Asked { intent, paths, target, warnings: Vec::new() }))
    }

    /// What a gateway shall be in a domain: what its settings say, and what was given now.
    fn join_intent(&self, paths: &Paths, params: &Value, secret: bool) -> Result<Intent> {
        let record = observe::record(&*self.host, paths)?.ok_or_else(|| no_gateway(paths.gateway.as_str()))?;
        let mut settings = record.settings;
        let mut given = Section::new();
        for name in ["domain", "smbgw-ad-ou", "smbgw-idmap", "smbgw-ad-dns"] {
            if let Some(v) = text(params, name)? {
                given.insert(name.to_owned(), v);
            }
        }
        let member = record.member.filter(|m| m.is_joined());
        let mut known = Known { joined: member.is_some(), settings: settings.clone(), ..Known::default() };
        // Half way back to where it was the settings may be gone already, and the membership not.
        if let Some(m) = member.filter(|_| !settings.contains_key("domain")) {
            known.settings.extend(given.clone());
            known.settings.insert("domain".into(), m.domain.to_string());
            known.settings.insert("smbgw-idmap".into(), m.range.to_string());
        }
        let frozen = crate::spec::settings::frozen(&given, &known);
        settings.extend(given);
        let host = match paths.mode {
            Mode::Native => NodeName::new(&self.node)?,
            Mode::Lxc => NodeName::new(&crate::spec::guest::hostname(&paths.gateway))?,
        };
        let (domain, mut problems) = DomainSpec::read(&host, paths.mode, &settings);
        problems.extend(frozen);
        if !problems.is_empty() {
            return Err(Error::invalid(format!("gateway {}", paths.gateway), problems));
        }
        let domain = domain.ok_or_else(|| Error::property("domain", "no section of the gateway names one; give --domain"))?;
        Ok(Intent::AdJoin {
            domain: Box::new(domain),
            settings,
            join: join_account(params)?,
            by: secret.then_some(join_by(params)?),
        })
    }

    fn share_intent(&self, op: &str, params: &Value, password: bool) -> Result<Option<Asked>> {
        let (id, section, checked) = self.checked(params)?;
        let paths = self.paths_of(&checked.spec.gateway);
        let record = observe::record(&*self.host, &paths)?;
        let known = record.as_ref().and_then(|r| r.shares.get(&id));
        // A container is built and changed by its owner alone; a native share that moves away is still taken down here.
        let elsewhere = checked.spec.node.as_str() != self.node;
        if elsewhere && (known.is_none() || paths.mode == Mode::Lxc) {
            return Ok(None);
        }
        let password = password && (checked.spec.first_user.is_some() || checked.spec.join.is_some());
        let (spec, warnings) = (Box::new(checked.spec), checked.warnings);
        if let Some(e) = known {
            self.refuse_fixed(&id, &section, e)?;
        }
        let later = reload_later(params)?;
        let intent = if op == "share.create" || known.is_none() {
            Intent::Create { spec, section, password, later }
        } else {
            Intent::Update { spec, section, password, later }
        };
        Ok(Some(Asked { intent, paths, target: id, warnings }))
    }

    /// A tree whose numbers may be changed: none of the system's, and none that is or holds or lies in the tree of a share.
    fn shiftable(&self, typed: &str) -> Result<PathBuf> {
        let path = section::clean_path(typed).map_err(|why| Error::property("path", why))?;
        if let Some(why) = section::system_tree(&path) {
            return Err(Error::property("path", why));
        }
        for (id, e) in self.gateways()?.into_iter().flat_map(|(_, r)| r.shares) {
            if path.starts_with(&e.tree.path) || e.tree.path.starts_with(&path) {
                let why = format!("{} is, holds or lies in the tree of share {id}", path.display());
                return Err(Error::property("path", why)
                    .as_kind(Kind::Conflict)
                    .remedy("remove the share first; its data stays"));
            }
        }
        Ok(path)
    }

    /// A template as somebody asked for it. Its name tells what is in it and when it was built.
    fn build(&self, params: &Value) -> Result<template::Build> {
        let release = self.host.read_text(Path::new("/etc/os-release"))?.unwrap_or_default();
        let codename = release.lines().find_map(|l| l.strip_prefix("VERSION_CODENAME=")).unwrap_or("bookworm").trim_matches('"');
        let suite = text(params, "suite")?.unwrap_or_else(|| codename.to_owned());
        let name = match text(params, "name")? {
            Some(n) => n,
            None => format!("{}.{}", env!("CARGO_PKG_VERSION"), stamp(self.host.now_ms())),
        };
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        Ok(template::Build { name, suite, arch: arch.into(), mirror: text(params, "mirror")?, storage: text(params, "storage")? })
    }

    /// The recorded tree of the share that an intent is about.
    fn tree_of(&self, asked: &Asked) -> Result<Option<PathBuf>> {
        let record = observe::record(&*self.host, &asked.paths)?;
        Ok(record.and_then(|r| Some(r.shares.get(asked.intent.share_id()?)?.tree.path.clone())))
    }

    fn refuse_fixed(&self, id: &str, section: &Section, entry: &ShareEntry) -> Result<()> {
        let changed: Vec<Problem> = schema::PROPERTIES
            .iter()
            .filter(|p| p.fixed && section.get(p.name) != entry.section.get(p.name))
            .map(|p| Problem::new(p.name, "cannot be changed after create; remove the storage (its data stays) and add it anew"))
            .collect();
        if changed.is_empty() { Ok(()) } else { Err(Error::invalid(format!("section '{id}'"), changed)) }
    }

    /// Writes the snapshots of a gateway's shares, and removes those of shares that are gone.
    fn refresh(&self, machines: &Machines, paths: &Paths, sections: Option<&Sections>, drift: Option<&[String]>) -> Result<()> {
        self.write_snapshots(&observe::quick(machines, &self.node, paths)?, sections, drift)
    }

    /// The same from what was seen already.
    fn write_snapshots(&self, facts: &Facts, sections: Option<&Sections>, drift: Option<&[String]>) -> Result<()> {
        let paths = &facts.paths;
        let seen = self.seen(facts)?;
        let dir = self.native.run_dir.join("status");
        self.host.make_dir(&dir, 0o700)?;
        let none = std::collections::BTreeMap::new();
        let shares = facts.record.as_ref().map_or(&none, |r| &r.shares);
        let docs: Vec<_> = shares.iter().map(|(id, e)| (id, e, self.document(&seen, id, e, sections, drift))).collect();
        let well = self.is_well(paths.gateway.as_str()) && docs.iter().all(|(.., doc)| turns::is_well(doc));
        for (id, entry, doc) in docs {
            if !(well && self.still_holds(id, entry, &doc)) {
                self.put_snapshot(id, &doc)?;
            }
        }
        if shares.is_empty() {
            self.drop_well(&paths.gateway)?;
        } else if well {
            self.note_well(&paths.gateway, facts.now_ms)?;
        }
        for name in self.host.list(&dir)? {
            let Some(id) = name.strip_suffix(".json").filter(|id| !shares.contains_key(*id)) else { continue };
            let gateway = self.last_known(id, "gateway");
            let ours = gateway.as_str().is_none_or(|g| g == paths.gateway.as_str());
            if ours && !self.still_expected(id, sections) {
                self.host.remove(&dir.join(name))?;
            }
        }
        Ok(())
    }

    fn put_snapshot(&self, id: &str, doc: &Value) -> Result<()> {
        self.end_well(doc)?;
        let (content, ids) = (serde_json::to_string(doc).unwrap_or_default(), self.host.own_ids());
        self.host.write(&FileSpec { path: self.snapshot(id), content, mode: 0o600, uid: ids.0, gid: ids.1 })
    }
}

/// The account that joins or leaves.
fn join_account(params: &Value) -> Result<Option<JoinAccount>> {
    let account = text(params, "username")?;
    account.map(|a| JoinAccount::new(&a).map_err(|e| Error::property("username", e.to_string()))).transpose()
}

/// By what.
fn join_by(params: &Value) -> Result<JoinBy> {
    let Some(by) = text(params, "by")? else { return Ok(JoinBy::Password) };
    JoinBy::parse(&by).ok_or_else(|| Error::property("by", format!("{} is none of password, ticket, offline-join", shorten(&by))))
}

fn no_gateway(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("there is no gateway {}", shorten(name))).remedy("pve-smbgateway gateway list")
}

/// A moment as digits, in UTC: 20261124.2214.
fn stamp(ms: i64) -> String {
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) / 60_000);
    // Days since 1970 as a date (proleptic Gregorian; eras of 400 years, years that begin in March).
    let z = days + 719_468;
    let (era, doe) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}.{:02}{:02}", rest / 60, rest % 60)
}

fn orphan_document(o: &OpState, node: &str) -> Value {
    json!({
        "schema": status::SCHEMA, "id": o.target, "state": if o.is_stuck() { "stuck" } else { "building" }, "node": node, "active": false,
        "operation": status::operation_document(o), "warnings": [], "drift": [],
        "stuck": if o.is_stuck() { status::stuck_document(o) } else { Value::Null },
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn moments() {
        assert_eq!(super::stamp(0), "19700101.0000");
        assert_eq!(super::stamp(1_767_225_600_000 + 61 * 60_000), "20260101.0101");
        assert_eq!(super::stamp(1_709_164_800_000), "20240229.0000");
    }
}
