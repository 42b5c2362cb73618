// SPDX-License-Identifier: MIT OR Apache-2.0
//! A run on one gateway: what has to be taken up first, the operation itself, and the snapshots afterwards. It knows the order of these; it must
//! not know how a step is done.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::{Value, json};

use super::params::{params_target, required, slim};
use super::{Asked, Context, Progress, defer};
use crate::effect::FileSpec;
use crate::error::{Error, Kind, Result, chain, chain_with_remedy};
use crate::facts::{Facts, Paths};
use crate::host::{Lock, Machines, Secrets};
use crate::journal::event::Event;
use crate::journal::fold;
use crate::journal::store::new_opid;
use crate::observe::{self, Need};
use crate::plan::live::hand_edited;
use crate::plan::substrate::lxc;
use crate::plan::{self, Intent, samba};
use crate::run::exec::{IntentPlanner, OpRun, Progress as OpProgress, Resume};
use crate::run::reconcile::{self, Site, Task};
use crate::spec::GuestSpec;
use crate::spec::record::{Record, ShareEntry, ShareState};
use crate::spec::section::{self, JoinAccount, Mode, Sections};
use crate::status;
use crate::types::{StoreId, shorten};

/// How often a long run makes new snapshots; they count as stale after [`status::STALE_MS`].
const FRESH_MS: i64 = 20_000;

/// How long whoever adds one share after the other is left to tell smbd of all of them. smbd itself looks at its files each minute.
const RELOAD_WAIT_MS: i64 = 30_000;

/// What a run is for.
pub(super) enum Goal {
    Nothing,
    Operation { op: String, params: Value },
    Reconcile { sections: Sections, only: Option<Vec<String>> },
    Repair { target: Option<String>, overwrite: bool },
}

/// Something a run still has to do.
pub(super) enum Todo {
    Resume { opid: String, unwind: bool, settle: bool },
    Begin { op: String, params: Value },
    Commit(String),
    Gone(String),
    PutBack { overwrite: bool },
    Limits,
    Care,
    Refresh,
    Health,
}

/// A run on one gateway: one operation, or all that a reconcile finds to do there. Holds the gateway's lock until it is over or dropped.
pub(super) struct One {
    pub(super) context: Context,
    pub(super) machines: Rc<Machines>,
    pub(super) paths: Paths,
    pub(super) actor: String,
    /// What takes long is recorded and left to the worker.
    pub(super) defer: bool,
    /// Whoever asked for a reconcile tells smbd of the shares that it builds.
    pub(super) later: bool,
    /// The reconcile builds several shares, and tells smbd of all of them at its end.
    together: bool,
    pub(super) goal: Goal,
    pub(super) recover: bool,
    pub(super) tasks: VecDeque<Todo>,
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
    /// The operation that runs now is this run's own, not one that somebody else left.
    own: bool,
    /// What the operation that runs now is about.
    target: Value,
    failed: Option<Error>,
    /// The share that the operation builds.
    building: Option<String>,
    /// The share that the operation changes.
    changing: Option<String>,
    /// The password is one that a hook left for a share.
    fetched: bool,
    /// Its removal was asked for meanwhile.
    giving_way: bool,
    /// The look at its membership of a domain that is going on.
    pub(super) care: Option<super::membership::Care>,
    /// When the snapshots were kept fresh last.
    kept_fresh: i64,
    /// What this run found in the effective configuration.
    pub(super) drift: Option<Vec<String>>,
    over: bool,
    held: Held,
}

/// The locks of a gateway, and what they say of who holds them.
pub(super) struct Held {
    pub(super) note: String,
    pub(super) locks: Vec<Box<dyn Lock>>,
}

impl One {
    pub(super) fn new(context: Context, machines: Rc<Machines>, paths: Paths, actor: &str, held: Held) -> Self {
        Self {
            kept_fresh: context.host.now_ms(),
            drift: None,
            context,
            machines,
            paths,
            actor: actor.to_owned(),
            defer: false,
            later: false,
            together: false,
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
            own: false,
            target: Value::Null,
            failed: None,
            building: None,
            changing: None,
            fetched: false,
            giving_way: false,
            care: None,
            over: false,
            held,
        }
    }

    /// Lets others work at the gateway for as long as nothing is changed.
    pub(super) fn let_go(&mut self) {
        self.held.locks.clear();
    }

    /// Takes the locks back, if nobody works at the gateway now.
    pub(super) fn take_back(&mut self) -> Result<bool> {
        match self.context.locks(&self.paths, &self.held.note, Some(0)) {
            Ok(locks) => self.held.locks = locks,
            Err(e) if e.kind() == Kind::Busy => return Ok(false),
            Err(e) => return Err(e),
        }
        Ok(true)
    }

    /// A hook has seconds. What takes longer is written down, and true is returned: the worker does it.
    fn leave_to_worker(&mut self, op: &str, params: &Value, asked: &Asked) -> Result<bool> {
        let c = self.context.clone();
        let plan = c.ahead(asked)?;
        if !plan.is_long() {
            return Ok(false);
        }
        let mut warnings = asked.warnings.clone();
        warnings.extend(plan.warnings);
        match (op, defer::built(&asked.intent)) {
            ("share.create", Some(spec)) => {
                // The owner is decided now, while the storage configuration is locked for the whole cluster.
                self.make_record()?;
                // One of that name that was removed before has nothing to do with it.
                self.note(|r| _ = r.removed.remove(&asked.target))?;
                c.drop_deferred(&asked.target)?;
                c.keep_password(&asked.target, spec.join.as_ref().map(JoinAccount::as_str), &self.secrets)?;
                c.announce(spec, &warnings)?;
                let (_, section, _) = c.checked(params)?;
                self.last = json!({"id": asked.target, "state": "provisioning", "section": section, "warnings": warnings});
            }
            ("share.update", _) => {
                let join = asked.intent.spec().and_then(|s| s.join.as_ref());
                if join.is_some() {
                    c.keep_password(&asked.target, join.map(JoinAccount::as_str), &self.secrets)?;
                }
                let (_, section, _) = c.checked(params)?;
                self.last = json!({"id": asked.target, "state": "recorded", "section": section, "warnings": warnings});
            }
            ("share.delete", _) => {
                let (id, actor) = (asked.target.clone(), self.actor.clone());
                let now = c.host.now_ms();
                self.note(|r| _ = mark_deleted(r, &id, &actor, now))?;
                self.refresh();
                self.last = json!({"id": asked.target, "state": "deleting", "kept": {}, "warnings": warnings});
            }
            _ => return Err(defer::too_long(op)),
        }
        Ok(true)
    }

    /// The gateway's record, where there is none.
    fn make_record(&self) -> Result<()> {
        let c = &self.context;
        if observe::record(&*c.host, &self.paths)?.is_some() {
            return Ok(());
        }
        if let Some(dir) = self.paths.record_file.parent() {
            c.host.make_dir(dir, 0o700)?;
        }
        let uuid = crate::run::act::new_uuid(&*c.host)?;
        save_record(c, &self.paths.record_file, &Record::new(self.paths.gateway.as_str(), &c.node, self.paths.mode, &uuid))
    }

    /// Hands a secret over, before the first step.
    pub(super) fn secret(&mut self, name: &str, data: &[u8]) -> Result<()> {
        if ["ticket", "offline-join"].contains(&name) {
            if data.is_empty() || data.len() > 30_000 {
                return Err(Error::property(name, "must be a file of 1 to 30000 bytes"));
            }
            self.secrets.put(name, data.to_vec());
            self.password = true;
            return Ok(());
        }
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
    pub(super) fn step(&mut self) -> Result<Progress> {
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
        self.care = None;
        self.current = None;
        self.let_go();
    }

    /// Stops and takes everything back; the next steps do it.
    pub(super) fn unwind(&mut self) -> Result<()> {
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
    pub(super) fn interrupt(&mut self) -> Result<()> {
        if let Some(mut op) = self.current.take() {
            op.interrupt("a signal, or the caller's deadline")?;
        }
        self.finish();
        Ok(())
    }

    /// The id of the operation that runs now.
    pub(super) fn opid(&self) -> Option<&str> {
        self.current.as_ref().map(OpRun::opid)
    }

    fn advance(&mut self) -> Result<Progress> {
        if self.given_up {
            return Err(Error::new(Kind::Interrupted, "the request was given up before anything was done"));
        }
        if self.current.is_some() {
            return self.drive();
        }
        if self.care.is_some() {
            self.go_on_caring()?;
            return Ok(working());
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
                self.tasks.push_back(Todo::Limits);
                self.tasks.push_back(Todo::Care);
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
            Ok(OpProgress::Working(v)) => {
                self.tell(&v);
                self.keep_fresh();
                self.give_way()?;
                Ok(Progress::Working(v))
            }
            Ok(OpProgress::Done(mut v)) => {
                self.current = None;
                self.settle_build(None);
                self.settle_change(None);
                self.last = v["result"].take();
                self.results.push(self.last.clone());
                self.forget_former();
                self.forget_membership();
                Ok(Progress::Working(json!({"events": v["events"]})))
            }
            Ok(OpProgress::Failed(v, e)) => {
                self.current = None;
                let stuck = v["outcome"] == "stuck";
                self.forget_former();
                self.settle_change(Some(&e));
                // One that was resumed and is taken back now is begun anew at once, so no failure is noted.
                if self.own || self.giving_way {
                    self.settle_build(Some(&e));
                }
                self.building = None;
                self.refresh();
                if (stuck || self.own || !self.repairs) && self.is_only_task() {
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

    /// Says in the snapshot of a share that is being built how far it is.
    fn tell(&self, v: &Value) {
        let Some(id) = self.building.as_deref() else { return };
        let begun =
            v["events"].as_array().into_iter().flatten().rev().find(|e| e["event"] == "begun" || e["event"] == "undo-begun");
        let (Some(event), Some(op)) = (begun, self.current.as_ref()) else { return };
        let operation =
            json!({"opid": op.opid(), "op": "share.create", "step": event["title"], "undoing": event["event"] == "undo-begun"});
        if let Err(e) = self.context.note_step(id, operation) {
            tracing::warn!(id, error = %chain(&e), "the snapshot cannot say how far the building is");
        }
    }

    /// A run that takes minutes keeps the worker from its other shares: their snapshots must not grow old meanwhile.
    fn keep_fresh(&mut self) {
        let c = &self.context;
        let now = c.host.now_ms();
        if now - self.kept_fresh < FRESH_MS {
            return;
        }
        self.kept_fresh = now;
        let all = || -> Result<()> {
            if let Some(id) = &self.building {
                c.note_still(id)?;
            }
            for (paths, _) in c.gateways()?.into_iter().filter(|(_, r)| self.owns(r)) {
                let drift = self.drift.as_deref().filter(|_| paths.gateway == self.paths.gateway);
                c.refresh(&self.machines, &paths, self.sections.as_ref(), drift)?;
            }
            Ok(())
        };
        if let Err(e) = all() {
            tracing::warn!(error = %chain(&e), "the status snapshots grow old during a long run");
        }
    }

    /// A share that is being built and is to go is not built any further.
    fn give_way(&mut self) -> Result<()> {
        let Some(id) = self.building.as_deref().filter(|_| !self.giving_way) else { return Ok(()) };
        if self.context.asked_gone(id)?.is_some() {
            self.giving_way = true;
            if let Some(op) = self.current.as_mut() {
                op.unwind()?;
            }
        }
        Ok(())
    }

    /// A share was built, or could not be: what waited for that goes, or says why.
    fn settle_build(&mut self, failed: Option<&Error>) {
        let Some(id) = self.building.take() else { return };
        let noted = match failed {
            None => self.context.drop_deferred(&id),
            Some(_) if std::mem::take(&mut self.giving_way) => {
                self.context.taken_up(&id).and_then(|()| self.context.host.remove(&self.context.snapshot(&id)))
            }
            // Whoever asked for it himself is told, and nobody tries again.
            Some(_) if self.sections.is_none() => Ok(()),
            Some(e) => self.context.note_failure(&id, e),
        };
        if let Err(e) = noted {
            tracing::warn!(id, error = %chain(&e), "the outcome of a building cannot be noted");
        }
    }

    /// A change that the worker made, or could not: it is said in the share's status, and tried again with growing pauses.
    fn settle_change(&mut self, failed: Option<&Error>) {
        let Some(id) = self.changing.take().filter(|_| self.building.is_none()) else { return };
        let noted = match failed {
            None => self.context.forget_trouble(&id),
            // Whoever asked for it himself is told, and nobody tries again.
            Some(_) if self.sections.is_none() => Ok(()),
            Some(e) => self.context.note_trouble(&id, e),
        };
        if let Err(e) = noted {
            tracing::warn!(id, error = %chain(&e), "the outcome of a change cannot be noted");
        }
    }

    /// Nothing was to do but this operation and a refresh.
    fn is_only_task(&self) -> bool {
        self.sections.is_none()
            && matches!(self.goal, Goal::Nothing)
            && self.tasks.iter().all(|t| matches!(t, Todo::Limits | Todo::Refresh))
    }

    /// Snapshots are made anew by the next reconcile; what was done is done without them.
    pub(super) fn refresh(&mut self) {
        if let Err(e) = self.context.refresh(&self.machines, &self.paths, self.sections.as_ref(), self.drift.as_deref()) {
            tracing::warn!(error = %chain(&e), "the status snapshots could not be written");
            self.warnings.push(chain(&e.while_doing("status snapshots")));
        }
    }

    /// Drops the hashes that were kept for an undo, once there is none left to come.
    fn forget_former(&self) {
        let (c, paths) = (&self.context, &self.paths);
        let forget = || -> Result<()> {
            let Some(mut r) = observe::record(&*c.host, paths)?.filter(|r| !r.former.is_empty()) else { return Ok(()) };
            if c.open(paths)?.0.is_empty() {
                r.former.clear();
                save_record(c, &paths.record_file, &r)?;
            }
            Ok(())
        };
        if let Err(e) = forget() {
            tracing::warn!(error = %chain(&e), "former hashes stay in the gateway record until the next reconcile");
        }
    }

    /// What is known of the health of a membership goes with it.
    fn forget_membership(&self) {
        let member = |r: &Record| r.member.as_ref().is_some_and(|m| m.is_joined());
        match observe::record(&*self.context.host, &self.paths) {
            Ok(r) if !r.as_ref().is_some_and(member) => {
                if let Err(e) = self.context.forget_health(&self.paths.gateway) {
                    tracing::warn!(error = %chain(&e), "what was known of a former membership stays until the next start of the node");
                }
            }
            _ => {}
        }
    }

    /// Refuses to touch what is stuck.
    fn refuse_stuck(&self, op: &str, params: &Value) -> Result<()> {
        let target = match op.starts_with("ad.") {
            true => self.paths.gateway.as_str(),
            false => params.get("id").or(params.get("name")).and_then(Value::as_str).unwrap_or_default(),
        };
        let family = |op: &str| op.split('.').next().unwrap_or_default().to_owned();
        let (open, _) = self.context.open(&self.paths)?;
        let Some(o) = open.iter().find(|o| o.is_stuck() && o.target == target && family(&o.op) == family(op)) else {
            return Ok(());
        };
        let why = o.undo_errors.first().map(|e| e.message.clone()).unwrap_or_default();
        Err(Error::new(Kind::Stuck, format!("{target} is stuck since {} ({op} is refused): {why}", o.op)).remedy(fold::repair(o)))
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
        self.context.store().tidy(&*self.context.host, self.paths.gateway.as_str())?;
        let (open, damaged) = self.context.open(&self.paths)?;
        if open.is_empty() {
            crate::run::act::sweep(&self.machines, &self.paths);
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
        self.take_up_removals()?;
        let c = &self.context;
        let record = observe::record(&*c.host, &self.paths)?;
        let (open, _) = c.open(&self.paths)?;
        let site = Site { node: &c.node, gateway: self.paths.gateway.as_str(), mode: self.paths.mode };
        let tasks = reconcile::tasks(record.as_ref(), &open, sections, site, c.host.now_ms(), only);
        let all: serde_json::Map<String, Value> = sections.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        let built = |t: &&Task| matches!(t, Task::Create(_) | Task::Update(_));
        self.together = self.later || tasks.iter().filter(built).count() > 1;
        let asked = |id: &str| {
            let mut params = json!({"id": id, "section": sections[id], "sections": all});
            if self.together {
                params["reload"] = json!("later");
            }
            params
        };
        for t in tasks {
            self.tasks.push_back(match t {
                Task::Resume { opid, unwind } => Todo::Resume { opid, unwind, settle: false },
                Task::Commit(id) => Todo::Commit(id),
                Task::Gone(id) => Todo::Gone(id),
                Task::StillThere(id, tell) => {
                    let why = format!(
                        "share {id} was removed, but the storage configuration still has its section: remove it there too"
                    );
                    let words: Vec<String> = if tell { vec![why] } else { Vec::new() };
                    self.results.push(json!({"id": id, "state": "removed", "warnings": words}));
                    self.warnings.extend(words);
                    continue;
                }
                // One that failed a moment ago would fail again.
                Task::Create(id) | Task::Update(id) if only.is_none() && c.too_soon(&id) => continue,
                Task::Create(id) => Todo::Begin { op: "share.create".into(), params: asked(&id) },
                Task::Update(id) => Todo::Begin { op: "share.update".into(), params: asked(&id) },
                Task::Delete(id, why) => {
                    Todo::Begin { op: "share.delete".into(), params: json!({"id": id, "actor": format!("worker: {why}")}) }
                }
            });
        }
        c.store().retire(&*c.host)?;
        Ok(())
    }

    /// Removals that were asked for while the gateway was busy.
    fn take_up_removals(&self) -> Result<()> {
        let c = &self.context;
        for id in c.all_asked_gone()? {
            let known = observe::record(&*c.host, &self.paths)?.is_some_and(|r| r.shares.contains_key(&id));
            if let Some(actor) = c.asked_gone(&id)?.filter(|_| known) {
                let now = c.host.now_ms();
                self.note(|r| _ = mark_deleted(r, &id, &actor, now))?;
                c.taken_up(&id)?;
            }
        }
        Ok(())
    }

    fn plan_repair(&mut self, target: Option<&str>, overwrite: bool) -> Result<()> {
        let c = &self.context;
        let (open, _) = c.open(&self.paths)?;
        for o in open.iter().filter(|o| target.is_none_or(|t| t == o.target)) {
            let unwind = o.is_stuck() || o.op == "share.create" || o.op.starts_with("user.");
            self.tasks.push_back(Todo::Resume { opid: o.opid.clone(), unwind, settle: overwrite });
        }
        self.repairs = true;
        self.tasks.push_back(Todo::PutBack { overwrite });
        self.tasks.push_back(Todo::Limits);
        self.tasks.push_back(Todo::Refresh);
        Ok(())
    }

    /// Drift, looked for when nothing is half done any more.
    fn put_back(&mut self, overwrite: bool) -> Result<()> {
        let c = &self.context;
        let facts = observe::quick(&self.machines, &c.node, &self.paths)?;
        if let (Some(why), false) = (hand_edited(&facts), overwrite) {
            let wanted = self.wanted_conf(&facts)?;
            let actual = facts.own.as_ref().map(|f| f.text.clone()).unwrap_or_default();
            let diff = similar::TextDiff::from_lines(&wanted, &actual)
                .unified_diff()
                .context_radius(2)
                .header("as smbgw would write it", "as it is")
                .to_string();
            self.last = json!({"repaired": false, "why": why, "diff": diff, "remedy": format!("pve-smbgateway repair {} --overwrite", self.paths.gateway)});
            return Ok(());
        }
        self.last = json!({"repaired": true});
        if facts.record.is_some() {
            self.begin("share.repair", json!({"overwrite": overwrite, "gateway": self.paths.gateway}))?;
        }
        Ok(())
    }

    fn start(&mut self, todo: Todo) -> Result<()> {
        match todo {
            Todo::Resume { opid, unwind, settle } => {
                let state = self.context.store().read(&*self.context.host, &opid)?;
                let Some(Ok(state)) = state.map(|f| f.state) else { return Ok(()) };
                if state.op == "share.create" && !self.password {
                    self.fetch_password(&mut state.params.clone())?;
                }
                let planner = self.planner(&state.op, &state.params)?;
                self.target = json!(state.target);
                self.taking_back = unwind || state.unwinding;
                self.own = false;
                // As for one that is begun here: what waited for it goes once it is built.
                let goes_on = state.op == "share.create" && !self.taking_back;
                self.building = goes_on.then(|| state.target.clone());
                let how = Resume { opid, actor: self.actor.clone(), unwind, settle };
                let (node, secrets) = (&self.context.node, self.hand_over());
                self.current = Some(OpRun::resume(Rc::clone(&self.machines), node, &self.paths, &how, planner, secrets)?);
            }
            Todo::Begin { op, mut params } => {
                if matches!(op.as_str(), "share.create" | "share.update") {
                    self.fetch_password(&mut params)?;
                }
                if let Err(e) = self.begin(&op, params.clone()) {
                    if let (Some(id), "share.create") = (params["id"].as_str(), op.as_str()) {
                        self.building = Some(id.to_owned());
                        self.settle_build(Some(&e));
                    } else if let (Some(id), "share.update") = (params["id"].as_str(), op.as_str()) {
                        self.changing = Some(id.to_owned());
                        self.settle_change(Some(&e));
                    }
                    self.warnings.push(chain(&e));
                    self.results.push(json!({"id": params_target(&params), "error": e.to_doc()}));
                    // Who asked for a repair is told that it was none.
                    if self.repairs {
                        self.failed.get_or_insert(e);
                    }
                }
            }
            Todo::Commit(id) => self.note(|r| {
                if let Some(e) = r.shares.get_mut(&id) {
                    e.committed = true;
                }
            })?,
            Todo::Gone(id) => self.note(|r| _ = r.removed.remove(&id))?,
            Todo::PutBack { overwrite } => self.put_back(overwrite)?,
            Todo::Limits => self.limits()?,
            Todo::Care => self.begin_care()?,
            Todo::Refresh => self.refresh(),
            Todo::Health => {
                self.forget_former();
                self.context.expire_passwords()?;
                self.health()?;
            }
        }
        Ok(())
    }

    /// The password that a hook left for the share, for this operation alone.
    fn fetch_password(&mut self, params: &mut Value) -> Result<()> {
        let kept = params["id"].as_str().map(|id| self.context.kept_password(id)).transpose()?.flatten();
        if let Some((account, p)) = kept {
            if let (Some(account), Some(section)) = (account, params["section"].as_object_mut()) {
                section.insert("username".into(), json!(account));
            }
            self.secrets.put("password", p);
            self.password = true;
            self.fetched = true;
        } else if std::mem::take(&mut self.fetched) {
            // That of the share before is none of this one's.
            self.secrets = Secrets::default();
            self.password = false;
        }
        Ok(())
    }

    fn hand_over(&self) -> Secrets {
        let mut secrets = Secrets::default();
        for name in ["password", "ticket", "offline-join"] {
            if let Some(p) = self.secrets.get(name) {
                secrets.put(name, p.to_vec());
            }
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
        let asked = match c.intent(op, &alone, password) {
            Ok(Some(a)) => a,
            Ok(None) => return Err(Error::new(Kind::Internal, "an operation of another node is open here")),
            Err(e) => return Err(e),
        };
        self.planner_of(asked)
    }

    fn begin(&mut self, op: &str, params: Value) -> Result<()> {
        let needs_password = matches!(op, "user.create" | "user.password" | "ad.join" | "ad.leave" | "ad.test-user");
        if needs_password && !self.password {
            return Err(Error::property("password", "is needed; give it on standard input"));
        }
        if op == "share.delete" && self.deleted_elsewhere(&params)? {
            return Ok(());
        }
        let c = self.context.clone();
        let Some(mut asked) = c.intent(op, &params, self.password)? else {
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
        if asked.paths.gateway != self.paths.gateway {
            if observe::record(&*c.host, &self.paths)?.is_none() {
                let why = format!("gateway {} is gone: what was left open of its creation was taken back", self.paths.gateway);
                return Err(Error::new(Kind::NotFound, why));
            }
            let why = format!("{op} is about gateway {}, and this run holds {}", asked.paths.gateway, self.paths.gateway);
            return Err(Error::new(Kind::Internal, why));
        }
        c.look_at_sessions(&mut asked)?;
        if self.defer && self.leave_to_worker(op, &params, &asked)? {
            return Ok(());
        }
        self.target = json!(asked.target);
        self.taking_back = false;
        self.own = true;
        self.building = defer::built(&asked.intent).map(|s| s.id.to_string());
        let changes = matches!(asked.intent, Intent::Update { .. } | Intent::Limits(_));
        self.changing = asked.intent.share_id().filter(|_| changes).map(str::to_owned);
        let mut params = params;
        params["password-given"] = json!(self.password && matches!(op, "share.create" | "share.update" | "ad.join"));
        let opened = Event::Opened {
            opid: new_opid(&*c.host)?,
            op: op.to_owned(),
            gateway: self.paths.gateway.to_string(),
            target: asked.target.clone(),
            actor: params.get("actor").and_then(Value::as_str).unwrap_or(&self.actor).to_owned(),
            params: slim(&params),
            process: c.host.own_process(),
        };
        let warnings = asked.warnings.clone();
        let planner = self.planner_of(asked)?;
        let mut run = OpRun::begin(Rc::clone(&self.machines), &c.node, &self.paths, opened, planner, self.hand_over())?;
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
        c.drop_deferred(&id)?;
        if observe::record(&*c.host, &self.paths)?.is_some_and(|r| r.shares.contains_key(&id) && self.owns(&r)) {
            return Ok(false);
        }
        for name in c.host.list(&c.record_dir)? {
            let paths = Paths { record_file: c.record_dir.join(&name), ..self.paths.clone() };
            if !name.ends_with(".json") {
                continue;
            }
            let Some(mut r) = observe::record(&*c.host, &paths)?.filter(|r| !self.owns(r)) else { continue };
            if let Some(node) = mark_deleted(&mut r, &id, &self.actor, c.host.now_ms()) {
                save_record(c, &paths.record_file, &r)?;
                self.last =
                    json!({"id": id, "state": "recorded", "kept": {}, "warnings": [format!("node {node} removes the share")]});
                return Ok(true);
            }
        }
        c.unannounce(&id)?;
        self.last = json!({"id": id, "state": "removed", "kept": {}, "warnings": [format!("no share {id} was recorded; there was nothing to remove")]});
        Ok(true)
    }

    /// Changes what the record notes about the storage configuration; nothing on the machine depends on it.
    fn note(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        let c = &self.context;
        if let Some(mut r) = observe::record(&*c.host, &self.paths)? {
            change(&mut r);
            save_record(c, &self.paths.record_file, &r)?;
        }
        Ok(())
    }

    /// Looks whether everything is still as it was left, and puts back what can be put back without asking.
    fn health(&mut self) -> Result<()> {
        let c = &self.context;
        let facts = match observe::facts(&self.machines, &c.node, &self.paths, &Need::default()) {
            Ok(f) => f,
            Err(e) => {
                c.refresh(&self.machines, &self.paths, self.sections.as_ref(), Some(&[chain_with_remedy(&e)]))?;
                self.warnings.push(chain_with_remedy(&e));
                return Ok(());
            }
        };
        // A gateway without shares has no container that could have drifted.
        let idle = |r: &Record| r.shares.is_empty() && self.paths.mode == Mode::Lxc;
        if facts.record.as_ref().is_none_or(idle) || hand_edited(&facts).is_some() {
            return Ok(());
        }
        match plan::drift(&facts) {
            Ok(p) => {
                let only_looks = |s: &plan::step::Step| {
                    matches!(s.effect, plan::step::Effect::Effective(_) | plan::step::Effect::GuestLimits { .. })
                };
                let checks: Vec<_> = p.phases.iter().flat_map(|ph| &ph.steps).collect();
                if checks.iter().all(|s| only_looks(s)) {
                    let mut drift = Vec::new();
                    for s in checks {
                        if let plan::step::Effect::Effective(settings) = &s.effect {
                            drift = samba::compare(settings, &facts.effective);
                        }
                    }
                    drift.extend(self.limits_off());
                    // The snapshots say it, which are written when all else was looked at.
                    self.drift = Some(drift);
                    // A repair would have brought it along.
                    if self.is_reload_ripe(&facts) {
                        let params = json!({"name": self.paths.gateway});
                        self.tasks.push_front(Todo::Begin { op: "gateway.reload".into(), params });
                    }
                } else {
                    self.tasks.push_front(Todo::Begin {
                        op: "share.repair".into(),
                        params: json!({"overwrite": false, "gateway": self.paths.gateway}),
                    });
                }
            }
            Err(e) => {
                c.refresh(&self.machines, &self.paths, self.sections.as_ref(), Some(&[chain_with_remedy(&e)]))?;
                self.warnings.push(chain_with_remedy(&e));
            }
        }
        Ok(())
    }

    /// Whether nobody who adds shares is going to tell smbd of them any more, or it is this run that does.
    fn is_reload_ripe(&self, facts: &Facts) -> bool {
        let Some(at) = facts.record.as_ref().and_then(|r| r.reload_due).filter(|_| facts.reachable) else { return false };
        // A clock that was set back makes nobody wait.
        let waits = (0..RELOAD_WAIT_MS).contains(&(facts.now_ms - at));
        !self.later && (self.together || !waits)
    }

    /// Limits that are not as they must be: each share for itself, so that what one cannot have keeps nothing else from being put right.
    fn limits(&mut self) -> Result<()> {
        let c = self.context.clone();
        let Some(r) = observe::record(&*c.host, &self.paths)?.filter(|r| self.owns(r)) else { return Ok(()) };
        if !r.shares.values().any(ShareEntry::is_limited) {
            return Ok(());
        }
        let need = Need { without_passdb: true, outside: true, ..Need::default() };
        let facts = observe::facts(&self.machines, &c.node, &self.paths, &need)?;
        let open = c.open(&self.paths)?.0;
        for (id, _) in r.shares.iter().filter(|(id, e)| e.is_limited() && !open.iter().any(|o| o.target == **id)) {
            match plan::phase("quota", &Intent::Limits(id.clone()), &facts) {
                Ok((steps, _)) if !(steps.is_empty() || self.sections.is_some() && c.too_soon(id)) => {
                    self.tasks.push_front(Todo::Begin { op: "share.limits".into(), params: json!({"id": id}) });
                }
                Ok(_) => {}
                // The worker leaves it to the status to tell; who asked for a repair is told.
                Err(e) if self.sections.is_none() => _ = self.failed.get_or_insert(e),
                Err(e) => tracing::debug!(id, error = %chain(&e), "the limit of a share cannot be set again"),
            }
        }
        Ok(())
    }

    /// Our file as it would be written now.
    fn wanted_conf(&self, facts: &Facts) -> Result<String> {
        let full = observe::facts(&self.machines, &self.context.node, &self.paths, &Need::default())?;
        let Some(record) = &full.record else { return Ok(String::new()) };
        let (shares, _) = samba::serving(record, &full)?;
        let security = shares.first().map(|(s, _)| s.security);
        let globals =
            facts.own.as_ref().is_some_and(|f| samba::own_sets_globals(&f.text)) || samba::foreign_shares(&full).is_empty();
        samba::own_conf(
            record,
            &shares,
            security.filter(|_| globals),
            &full.effective,
            full.main.as_ref().map_or("", |m| m.text.as_str()),
        )
    }

    /// Limits of the container that are not as ordered.
    fn limits_off(&self) -> Vec<String> {
        let Ok(Some(r)) = observe::record(&*self.context.host, &self.paths) else { return Vec::new() };
        let Some(vmid) = r.vmid.filter(|_| self.paths.mode == Mode::Lxc) else { return Vec::new() };
        let wanted = lxc::limits(&GuestSpec::read(&self.paths.gateway, &r.settings).0);
        match observe::guests::limits(&*self.context.host, vmid) {
            Ok(l) => l.differences(&wanted).into_iter().map(|d| format!("container {vmid}: {d}")).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Whether this node acts for a gateway.
    fn owns(&self, r: &Record) -> bool {
        r.node == self.context.node
    }

    fn planner_of(&self, asked: Asked) -> Result<Box<dyn crate::run::exec::Planner>> {
        let tree = self.context.tree_of(&asked)?;
        let member = observe::record(&*self.context.host, &asked.paths)?.is_some_and(|r| r.member.is_some());
        Ok(Box::new(IntentPlanner {
            member,
            intent: asked.intent.clone(),
            node: self.context.node.clone(),
            paths: asked.paths,
            finish: finish(asked.intent, tree),
        }))
    }
}

/// Notes that a share is to go; the node that has to do it.
pub(super) fn mark_deleted(r: &mut Record, id: &str, actor: &str, now_ms: i64) -> Option<String> {
    let e = r.shares.get_mut(id)?;
    if e.state != ShareState::Deleting {
        e.since_ms = now_ms;
    }
    e.state = ShareState::Deleting;
    e.delete_intent = Some(actor.to_owned());
    Some(r.node.clone())
}

pub(super) fn working() -> Progress {
    Progress::Working(json!({"events": []}))
}

pub(super) fn save_record(c: &Context, path: &Path, record: &Record) -> Result<()> {
    let (uid, gid) = c.host.own_ids();
    c.host.write(&FileSpec { path: path.to_owned(), content: record.print(), mode: 0o600, uid, gid })
}

/// The result of an operation, from the facts at its end.
fn finish(intent: Intent, tree: Option<PathBuf>) -> crate::run::exec::Finish {
    Box::new(move |facts, warnings| {
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
            Intent::Limits(id) => json!({"id": id, "state": "limited", "warnings": warnings}),
            Intent::UserCreate { name: n, .. } | Intent::UserPassword(n) | Intent::UserDisable(n, _) | Intent::UserRemove(n) => {
                json!({"name": n, "warnings": warnings})
            }
            Intent::GroupCreate { name: n, .. } | Intent::GroupRemove(n) => json!({"name": n, "warnings": warnings}),
            Intent::GroupAdd(g, u) | Intent::GroupDrop(g, u) => json!({"name": g, "user": u, "warnings": warnings}),
            Intent::SessionClose { ends, .. } => {
                json!({"gateway": facts.paths.gateway, "ended": ends, "warnings": warnings})
            }
            Intent::GatewayReload => json!({"gateway": facts.paths.gateway, "reloaded": true, "warnings": warnings}),
            Intent::GatewayStart
            | Intent::GatewayStop
            | Intent::GatewayRestart
            | Intent::GatewayUpgrade(_)
            | Intent::GatewayAdopt(_) => {
                json!({"gateway": facts.paths.gateway, "container": status::container(facts), "warnings": warnings})
            }
            Intent::AdJoin { .. } | Intent::AdLeave { .. } | Intent::AdRepair(_) | Intent::AdFallback { .. } => {
                let member = facts.record.as_ref().and_then(|r| r.member.as_ref());
                json!({"gateway": facts.paths.gateway, "member": member, "warnings": warnings})
            }
            Intent::AdTestUser { account, share, ntlm } => {
                json!({"gateway": facts.paths.gateway, "name": account, "share": share, "by": if *ntlm { "ntlm" } else { "kerberos" }, "ok": true, "warnings": warnings})
            }
            Intent::TreeShift { path, back } => json!({"path": path, "back": back, "warnings": warnings}),
            Intent::TemplateBuild(b) => json!({"template": b.name, "suite": b.suite, "warnings": warnings}),
            Intent::TemplatePrune { .. } => json!({"warnings": warnings}),
        })
    })
}
