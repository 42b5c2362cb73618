// SPDX-License-Identifier: MIT OR Apache-2.0
//! A reconcile: one gateway after the other, each under its own lock. One that is busy or broken keeps none of the others waiting.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::one::{Goal, One, save_record};
use super::run::summary;
use super::{Context, Progress};
use crate::error::{Error, Kind, Result, chain};
use crate::facts::Paths;
use crate::observe;
use crate::plan::substrate::lxc::mark;
use crate::spec::record::Record;
use crate::spec::section::{Mode, Sections};

/// A reconcile that is going on.
pub(super) struct Many {
    context: Context,
    actor: String,
    wait: Option<i64>,
    sections: Sections,
    only: Option<Vec<String>>,
    /// Somebody else tells smbd of the shares that are built.
    later: bool,
    left: VecDeque<Paths>,
    current: Option<One>,
    results: Vec<Value>,
    warnings: Vec<String>,
    /// Gateways at which somebody else works: their turn is the next reconcile's.
    busy: Vec<String>,
    /// The first gateway whose turn failed as a whole.
    failed: Option<Error>,
    /// Of the only gateway, as it was before its turn.
    mark: Option<(Paths, String)>,
    over: bool,
}

/// What a reconcile goes through.
pub(super) struct Turns {
    /// Only these shares.
    pub(super) only: Option<Vec<String>>,
    /// Only this gateway.
    pub(super) turn: Option<Paths>,
    /// Whoever asks tells smbd of the shares that are built.
    pub(super) later: bool,
}

impl Many {
    pub(super) fn begin(context: &Context, actor: &str, wait: Option<i64>, sections: Sections, asked: Turns) -> Result<Self> {
        let Turns { only, turn, later } = asked;
        // What belongs to no gateway is in the turn of the native one, which every node has.
        if turn.as_ref().is_none_or(|p| p.mode == Mode::Native) {
            forget_strangers(context)?;
        }
        let alone = turn.is_some();
        let mut left = match turn {
            Some(paths) => VecDeque::from([paths]),
            None => context.to_reconcile(&sections, only.as_deref())?,
        };
        let mut this = Self {
            context: context.clone(),
            actor: actor.to_owned(),
            wait,
            sections,
            only,
            later,
            current: None,
            results: Vec::new(),
            warnings: Vec::new(),
            busy: Vec::new(),
            failed: None,
            mark: None,
            over: false,
            left: VecDeque::new(),
        };
        // With a single gateway a caller hears at once that it is busy.
        if left.len() == 1 {
            if let Some(paths) = left.pop_front() {
                this.current = this.turn_if_ours(&paths)?;
                if alone && this.current.is_some() {
                    this.mark = this.marked(paths);
                }
            }
        }
        this.left = left;
        Ok(this)
    }

    /// What was seen before anything was looked at closer: whatever changes from then on, its next mark is another.
    fn marked(&self, paths: Paths) -> Option<(Paths, String)> {
        let machines = self.context.machines();
        let facts = observe::quick(&machines, &self.context.node, &paths).ok()?;
        let mark = self.context.mark(&machines, &facts).ok()?;
        Some((paths, mark))
    }

    /// The turn of one gateway.
    fn turn(&self, paths: &Paths) -> Result<One> {
        let mut one = self.context.one(paths, "reconcile", &self.actor, self.wait)?;
        one.recover = true;
        one.goal = Goal::Reconcile { sections: self.sections.clone(), only: self.only.clone() };
        one.later = self.later;
        Ok(one)
    }

    fn turn_if_ours(&self, paths: &Paths) -> Result<Option<One>> {
        if self.acts_for(paths)? { self.turn(paths).map(Some) } else { Ok(None) }
    }

    /// For what is taken up on the way: an operation that was interrupted may need it again.
    pub(super) fn secret(&mut self, name: &str, data: &[u8]) -> Result<()> {
        match self.current.as_mut() {
            Some(one) => one.secret(name, data),
            None => Err(Error::property(
                "secret",
                format!("{} cannot be given to several gateways at once", crate::types::shorten(name)),
            )),
        }
    }

    pub(super) fn step(&mut self) -> Result<Progress> {
        if self.over {
            return Err(Error::new(Kind::Argument, "the run is over"));
        }
        let Some(one) = self.current.as_mut() else { return self.next() };
        let gateway = one.paths.gateway.to_string();
        let progress = one.step();
        match progress {
            Ok(Progress::Working(v)) => Ok(Progress::Working(v)),
            Ok(Progress::Done(v)) => {
                self.current = None;
                let result = &v["result"];
                self.results.extend(result["shares"].as_array().cloned().unwrap_or_default());
                self.warnings
                    .extend(result["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
                self.go_on(v)
            }
            Ok(Progress::Failed(v, e)) => {
                self.current = None;
                self.warnings.push(format!("gateway {gateway}: {}", chain(&e)));
                self.failed.get_or_insert(e);
                self.go_on(v)
            }
            Err(e) => {
                self.current = None;
                self.over = true;
                Err(e)
            }
        }
    }

    fn go_on(&mut self, v: Value) -> Result<Progress> {
        if self.left.is_empty() { self.end(&v["events"]) } else { Ok(Progress::Working(json!({"events": v["events"]}))) }
    }

    fn end(&mut self, events: &Value) -> Result<Progress> {
        self.over = true;
        let mut result = summary(&self.results, &self.warnings, &self.busy);
        let idle = self.results.is_empty() && self.warnings.is_empty() && self.busy.is_empty() && self.failed.is_none();
        if let Some((paths, mark)) = self.mark.take().filter(|_| idle) {
            if self.context.quiet(&paths)? {
                self.context.note_all_well(&paths)?;
                result["mark"] = json!(mark);
                result["local"] = json!(self.context.is_local(&paths)?);
            }
        }
        match self.failed.take() {
            Some(e) => {
                Ok(Progress::Failed(json!({"events": events, "outcome": "refused", "error": e.to_doc(), "result": result}), e))
            }
            None => Ok(Progress::Done(json!({"events": events, "result": result}))),
        }
    }

    fn next(&mut self) -> Result<Progress> {
        let Some(paths) = self.left.pop_front() else { return self.end(&json!([])) };
        match self.turn_if_ours(&paths) {
            Ok(one) => self.current = one,
            // Somebody works on it at this moment; the next reconcile comes soon.
            Err(e) if e.kind() == Kind::Busy => {
                self.warnings.push(format!("gateway {}: {}", paths.gateway, chain(&e)));
                self.busy.push(paths.gateway.to_string());
            }
            Err(e) => {
                self.warnings.push(format!("gateway {}: {}", paths.gateway, chain(&e)));
                self.failed.get_or_insert(e);
            }
        }
        Ok(Progress::Working(json!({"events": []})))
    }

    /// Whether this node acts for a gateway. One whose container was moved here by an administrator, to a node that its shares name, is this
    /// node's from now on.
    fn acts_for(&self, paths: &Paths) -> Result<bool> {
        let c = &self.context;
        if paths.mode == Mode::Native {
            return Ok(true);
        }
        let Some(mut r) = observe::record(&*c.host, paths)? else { return Ok(true) };
        if r.node == c.node {
            return Ok(true);
        }
        if c.moved_here(&r)? {
            r.node.clone_from(&c.node);
            save_record(c, &paths.record_file, &r)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Nothing of a reconcile is taken back; it stops.
    pub(super) fn unwind(&mut self) -> Result<()> {
        self.left.clear();
        match self.current.as_mut() {
            Some(one) => one.unwind(),
            None => Ok(()),
        }
    }

    pub(super) fn interrupt(&mut self) -> Result<()> {
        self.left.clear();
        self.over = true;
        match self.current.take() {
            Some(mut one) => one.interrupt(),
            None => Ok(()),
        }
    }

    pub(super) fn opid(&self) -> Option<&str> {
        self.current.as_ref().and_then(One::opid)
    }
}

impl Context {
    /// Whether the container of another node's gateway lies here now, and all its shares name this node.
    pub(super) fn moved_here(&self, r: &Record) -> Result<bool> {
        let Some(vmid) = r.vmid else { return Ok(false) };
        let here = observe::guests::conf(&*self.host, vmid)?.is_some_and(|conf| conf.has_tag(&mark(&r.uuid)));
        let named = |n: &String| n.split([',', ' ', ';']).any(|x| x == self.node);
        Ok(here && r.shares.values().all(|e| e.section.get("nodes").is_some_and(named)))
    }
}

/// Removals of shares that no gateway knows (any more) are done.
fn forget_strangers(context: &Context) -> Result<()> {
    for id in context.all_asked_gone()? {
        let open = context.store().all_open(&*context.host)?;
        if context.gateway_of(&id)?.is_none() && open.iter().all(|o| o.target != id) {
            context.taken_up(&id)?;
            context.host.remove(&context.snapshot(&id))?;
        }
    }
    Ok(())
}
