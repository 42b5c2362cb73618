// SPDX-License-Identifier: MIT OR Apache-2.0
//! A run as callers have it: begun, stepped, given up. It knows which gateway's lock an operation needs; what happens under the lock is in
//! `one`, and a reconcile goes through the gateways in `many`.

use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use super::many::{Many, Turns};
use super::one::{Goal, Held, One, Todo};
use super::params::{check_params, flag, number, reload_later, required, text, without_secrets};
use super::{Context, NODE, Progress, no_gateway};
use crate::error::{Error, Kind, Result};
use crate::facts::Paths;
use crate::host::Lock;
use crate::observe;
use crate::spec::ops;
use crate::spec::section::{self, Mode, NATIVE};
use crate::types::{GatewayId, shorten};

/// A run: one operation, or all that a reconcile finds to do. Holds the lock of the gateway it is at until that is over, or it is dropped.
pub struct Run(Kinds);

enum Kinds {
    One(Box<One>),
    Many(Box<Many>),
    /// Nothing but its result is left.
    Noted(Option<Value>),
}

impl Run {
    /// Hands a secret over, before the first step.
    pub fn secret(&mut self, name: &str, data: &[u8]) -> Result<()> {
        match &mut self.0 {
            Kinds::One(r) => r.secret(name, data),
            Kinds::Many(r) => r.secret(name, data),
            // Nothing is begun, so nothing needs it.
            Kinds::Noted(_) => Err(Error::property("secret", format!("{} is no secret this operation takes", shorten(name)))),
        }
    }

    /// Goes on for at most about a second.
    pub fn step(&mut self) -> Result<Progress> {
        match &mut self.0 {
            Kinds::One(r) => r.step(),
            Kinds::Many(r) => r.step(),
            Kinds::Noted(result) => {
                let result = result.take().ok_or_else(|| Error::new(Kind::Argument, "the run is over"))?;
                Ok(Progress::Done(json!({"events": [], "result": result})))
            }
        }
    }

    /// Stops and takes everything back; the next steps do it.
    pub fn unwind(&mut self) -> Result<()> {
        match &mut self.0 {
            Kinds::One(r) => r.unwind(),
            Kinds::Many(r) => r.unwind(),
            Kinds::Noted(_) => Ok(()),
        }
    }

    /// Stops; a reconcile or a resume goes on later.
    pub fn interrupt(&mut self) -> Result<()> {
        match &mut self.0 {
            Kinds::One(r) => r.interrupt(),
            Kinds::Many(r) => r.interrupt(),
            Kinds::Noted(_) => Ok(()),
        }
    }

    /// The id of the operation that runs now.
    pub fn opid(&self) -> Option<&str> {
        match &self.0 {
            Kinds::One(r) => r.opid(),
            Kinds::Many(r) => r.opid(),
            Kinds::Noted(_) => None,
        }
    }
}

impl Context {
    /// Begins a run: takes the lock, and opens the journal at its first step.
    pub fn begin(&self, op: &str, params: &Value) -> Result<Run> {
        check_params(op, params, ops::Effect::Run)?;
        if op == "share.create" || op == "share.update" {
            // All that is wrong with a request is said before anything is locked or written.
            self.checked(params)?;
        }
        if op == "tree.shift" {
            self.refuse_served(&required(params, "path")?)?;
        }
        let actor = text(params, "actor")?.unwrap_or_else(|| "root".into());
        let wait = number(params, "lock-wait-ms")?;
        if op == "reconcile" {
            let ids = params.get("ids").and_then(Value::as_array);
            let only = ids.map(|l| l.iter().filter_map(Value::as_str).map(str::to_owned).collect());
            let sections = section::sections_from_json(params.get("sections").unwrap_or(&Value::Null))?;
            let turn = self.only_gateway(params)?;
            let asked = Turns { only, turn, later: reload_later(params)? };
            return Ok(Run(Kinds::Many(Box::new(Many::begin(self, &actor, wait, sections, asked)?))));
        }
        if op == "refresh" {
            return Ok(Run(Kinds::Noted(Some(self.keep_snapshots(params, wait)?))));
        }
        let paths = self.paths_for(op, params)?;
        if op == "gateway.reload" && !self.is_reload_due(&paths)? {
            return Ok(Run(Kinds::Noted(Some(json!({"gateway": paths.gateway, "reloaded": false, "warnings": []})))));
        }
        let defer = flag(params, "defer")?;
        let mut run = match self.one(&paths, op, &actor, wait) {
            // A build may take minutes, and a removal need not wait for it: whoever builds gives it up.
            Err(e) if e.kind() == Kind::Busy && defer && op == "share.delete" => {
                let id = required(params, "id")?;
                self.ask_gone(&id, &actor)?;
                let why = format!("{}; it is removed as soon as that has stopped", crate::error::chain(&e));
                return Ok(Run(Kinds::Noted(Some(json!({"id": id, "state": "deleting", "kept": {}, "warnings": [why]})))));
            }
            run => run?,
        };
        run.recover = true;
        run.defer = defer;
        run.goal = match op {
            "share.repair" => {
                let target = text(params, "id")?.filter(|t| t != paths.gateway.as_str());
                Goal::Repair { target, overwrite: flag(params, "overwrite")? }
            }
            _ => Goal::Operation { op: op.to_owned(), params: without_secrets(params) },
        };
        Ok(Run(Kinds::One(Box::new(run))))
    }

    /// Goes on with an operation that was interrupted; what was being undone is undone further.
    pub fn resume(&self, opid: &str) -> Result<Run> {
        let found = self.store().read(&*self.host, opid)?;
        let state = found.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no operation {}", shorten(opid))))?.state?;
        if state.outcome.is_some() && !state.is_stuck() {
            return Err(Error::new(Kind::Conflict, format!("operation {opid} is over")));
        }
        let paths = self.paths_of(&GatewayId::new(&state.gateway)?);
        let mut run = self.one(&paths, "resume", "root", None)?;
        run.tasks.push_back(Todo::Resume { opid: opid.to_owned(), unwind: false, settle: false });
        run.tasks.push_back(Todo::Refresh);
        Ok(Run(Kinds::One(Box::new(run))))
    }

    /// Whether shares left it to somebody else to have smbd read its configuration.
    fn is_reload_due(&self, paths: &Paths) -> Result<bool> {
        let record = observe::record(&*self.host, paths)?;
        record.map(|r| r.reload_due.is_some()).ok_or_else(|| no_gateway(paths.gateway.as_str()))
    }

    /// A tree that a share of any gateway is in, or that is in one, keeps its numbers.
    fn refuse_served(&self, path: &str) -> Result<()> {
        let path = Path::new(path);
        let touches = |other: &Path| path.starts_with(other) || other.starts_with(path);
        for (paths, r) in self.gateways()? {
            if let Some((id, e)) = r.shares.iter().find(|(_, e)| touches(&e.tree.path)) {
                let why =
                    format!("{} is the tree of share {id} of gateway {}, which is served", e.tree.path.display(), paths.gateway);
                return Err(Error::new(Kind::Conflict, why).remedy("remove the share first; its data stays"));
            }
        }
        Ok(())
    }

    /// The gateway whose lock an operation needs.
    fn paths_for(&self, op: &str, params: &Value) -> Result<Paths> {
        match op {
            "share.create" | "share.update" => {
                let (_, _, checked) = self.checked(params)?;
                Ok(self.paths_of(&checked.spec.gateway))
            }
            "share.delete" => Ok(self.gateway_of(&required(params, "id")?)?.map_or_else(|| self.native.clone(), |(p, _)| p)),
            "share.repair" => self.here(self.to_repair(params)?),
            _ if op.starts_with("gateway.") => {
                Ok(self
                    .paths_of(&GatewayId::new(&required(params, "name")?).map_err(|e| Error::property("name", e.to_string()))?))
            }
            _ if op.starts_with("template.") || op.starts_with("tree.") => self.node_paths(),
            _ => self.here(self.named(params)?),
        }
    }

    /// A repair names a gateway, a share, or nothing, which is the gateway that there is.
    fn to_repair(&self, params: &Value) -> Result<Paths> {
        let Some(id) = text(params, "id")? else { return self.named(params) };
        if id == NATIVE {
            return Ok(self.native.clone());
        }
        if let Some((paths, _)) = self.gateway_of(&id)? {
            return Ok(paths);
        }
        if let Some((paths, _)) = self.gateways()?.into_iter().find(|(p, _)| p.gateway.as_str() == id) {
            return Ok(paths);
        }
        // What never came into a record may still have an open operation.
        let open = self.store().all_open(&*self.host)?.into_iter().find(|o| o.target == id);
        Ok(match open {
            Some(o) => self.paths_of(&GatewayId::new(&o.gateway)?),
            None => self.native.clone(),
        })
    }

    /// A run on one gateway, with its lock.
    pub(super) fn one(&self, paths: &Paths, op: &str, actor: &str, wait: Option<i64>) -> Result<One> {
        let note = format!("pid {} {op} by {actor}", self.host.own_process().pid);
        let locks = self.locks(paths, &note, wait)?;
        Ok(One::new(self.clone(), Rc::clone(&self.machines()), paths.clone(), actor, Held { note, locks }))
    }

    /// What must be held while a gateway is changed.
    pub(super) fn locks(&self, paths: &Paths, note: &str, wait: Option<i64>) -> Result<Vec<Box<dyn Lock>>> {
        let wait = Duration::from_millis(u64::try_from(wait.unwrap_or(10_000)).unwrap_or(0).min(60_000));
        let dir = &paths.lock_dir;
        let mut locks = vec![self.host.lock(&dir.join(paths.gateway.as_str()), note, wait)?];
        // The node's own accounts and smb.conf are nobody's but the native gateway's; a container has its own.
        if paths.mode == Mode::Native {
            locks.push(self.host.lock(&dir.join(NODE), note, wait)?);
        }
        Ok(locks)
    }

    /// The gateways that a reconcile goes through: those with a record, with sections of theirs, or with something open; where only some
    /// shares are asked for, theirs alone. What has to be built, which takes long, comes last.
    pub(super) fn to_reconcile(&self, sections: &section::Sections, only: Option<&[String]>) -> Result<VecDeque<Paths>> {
        // That of the native gateway, which may be large, is of no use here: it has its turn anyway.
        let mut records = Vec::new();
        for paths in self.recorded()?.into_iter().filter(|p| only.is_some() || p.mode == Mode::Lxc) {
            records.extend(observe::record(&*self.host, &paths)?.map(|r| (paths, r)));
        }
        let wanted = |id: &str| only.is_none_or(|list| list.iter().any(|i| i == id));
        let mut ids: Vec<GatewayId> = Vec::new();
        if only.is_none() {
            ids.push(GatewayId::new(NATIVE)?);
        }
        let mut built: Vec<&GatewayId> = Vec::new();
        for (paths, r) in &records {
            if only.is_none() || r.shares.keys().any(|id| wanted(id)) {
                ids.push(paths.gateway.clone());
            }
            built.extend(r.vmid.is_some().then_some(&paths.gateway));
        }
        let ours = |s: &section::Section| s.get("type").is_none_or(|t| t == "smbgateway");
        for (id, s) in sections.iter().filter(|(id, s)| ours(s) && wanted(id)) {
            ids.extend(match crate::run::reconcile::section_mode(s) {
                Some(Mode::Lxc) => GatewayId::new(s.get("smbgw-gateway").unwrap_or(id)).ok(),
                Some(Mode::Native) => Some(GatewayId::new(NATIVE)?),
                None => None,
            });
        }
        for o in self.store().all_open(&*self.host)?.into_iter().filter(|o| wanted(&o.target)) {
            ids.extend(GatewayId::new(&o.gateway).ok());
        }
        if only.is_none() {
            // What was cut short before it was open, or after it was no more.
            ids.extend(self.store().marked(&*self.host)?.iter().filter_map(|g| GatewayId::new(g).ok()));
        }
        if ids.is_empty() {
            ids.push(GatewayId::new(NATIVE)?);
        }
        let mut once: Vec<GatewayId> = Vec::new();
        for g in ids {
            if !once.contains(&g) {
                once.push(g);
            }
        }
        once.sort_by_key(|g| g.as_str() != NATIVE && !built.contains(&g));
        Ok(once.iter().map(|g| self.paths_of(g)).collect())
    }
}

/// What a reconcile says of itself when it is over.
pub(super) fn summary(results: &[Value], warnings: &[String], busy: &[String]) -> Value {
    json!({"shares": results, "warnings": warnings, "busy": busy})
}
