// SPDX-License-Identifier: MIT OR Apache-2.0
//! One operation under its journal: phases are observed and planned one after the other, each step is written down before and after it
//! acts, a failure takes back what was done, in reverse order and only what is still as this run left it. It knows nothing of shares.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use super::act::{self, Acting, Tools};
use crate::effect::{Cmd, Daemon, Place, Program};
use crate::error::{Error, Kind, Result, chain};
use crate::facts::{Facts, Paths};
use crate::host::{Host, Lock, Machines, Secrets};
use crate::journal::event::{Event, Outcome};
use crate::journal::fold::{self, Progress as StepProgress, StepState};
use crate::journal::store::{Journal, Store};
use crate::observe;
use crate::plan::proof::PROBE_SECRET;
use crate::plan::step::{Effect, Seen, Step, Undo, Watch};
use crate::plan::substrate::lxc::mark;
use crate::spec::record::Key;
use crate::spec::section::Mode;
use crate::types::{VmId, sha256_hex};

/// Where plans come from, and what is told at the end: the part of an operation that knows what it is about.
pub trait Planner {
    /// The phases, in order.
    fn phases(&self) -> Vec<String>;
    /// Looks and plans one phase. Warnings are told to the caller.
    fn plan(&mut self, machines: &Machines, phase: &str) -> Result<(Vec<Step>, Vec<String>)>;
    /// The result of an operation that was done; everything is in place by now.
    fn result(&mut self, machines: &Machines, warnings: &[String]) -> Result<Value>;
}

/// How far a run is after a step of it.
#[derive(Debug)]
pub enum Progress {
    /// It goes on; `{events: […]}`.
    Working(Value),
    /// It is done; `{events: […], result: …}`.
    Done(Value),
    /// It failed; what it did was undone, or it is stuck.
    Failed(Value, Error),
}

/// How often a phase whose preconditions fail is planned anew.
const REPLANS: u32 = 3;

/// The lock of this node's numbers for containers; no gateway has such a name.
const NUMBERS: &str = "@numbers";

/// How long to wait for others that take a number for a container, in all and at a time: each of them needs no longer than a plan takes.
const NUMBERS_WAIT_MS: u64 = 60_000;
const NUMBERS_TRY: Duration = Duration::from_millis(900);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Back,
    Over,
}

/// How it stands with the number that a step takes for a container.
enum Number {
    Free,
    /// Somebody else is just taking one.
    Awaited,
    Taken,
}

/// How to go on with an operation.
#[derive(Debug, Clone)]
pub struct Resume {
    /// Which.
    pub opid: String,
    /// Who asked.
    pub actor: String,
    /// Take it back rather than finish it. What was being taken back already is taken back in any case.
    pub unwind: bool,
    /// Accept what somebody else changed since.
    pub settle: bool,
}

/// An operation that runs.
pub struct OpRun {
    host: Rc<dyn Host>,
    machines: Rc<Machines>,
    node: String,
    paths: Paths,
    store: Store,
    journal: Journal,
    planner: Box<dyn Planner>,
    secrets: Secrets,
    direction: Direction,
    acting: Option<Acting>,
    /// What has to be so before a resumed operation can go on: containers that a power cut ended.
    preparing: Vec<(Place, Effect)>,
    /// Effects of the undo of a step that are still to do; `bool`: a failure is only noted.
    undoing: Vec<(Effect, bool)>,
    began: u64,
    replans: u32,
    /// Held while a number for a container is taken, which other gateways' operations look for at the same time.
    numbers: Option<Box<dyn Lock>>,
    /// Since when it waits for that.
    waits_since: Option<u64>,
    events: Vec<Value>,
    warnings: Vec<String>,
    /// What somebody else changed since is left as it is, without counting as a failed undo.
    settle: bool,
}

impl OpRun {
    /// Begins an operation: its journal is opened; nothing else is done yet.
    pub fn begin(
        machines: Rc<Machines>,
        node: &str,
        paths: &Paths,
        opened: Event,
        planner: Box<dyn Planner>,
        secrets: Secrets,
    ) -> Result<Self> {
        let (store, host) = (Store::new(&paths.state_dir), machines.shared_node());
        let opid = if let Event::Opened { opid, .. } = &opened { opid.clone() } else { String::new() };
        let begun = store.mark_open(&*host, &opid, paths.gateway.as_str()).and_then(|()| store.open(&*host, opened));
        let journal = begun.inspect_err(|e| {
            // Whoever asked is told that it failed, so nobody may carry it out later.
            if !fatal(e) {
                store.discard(&*host, &opid);
            }
        })?;
        Ok(Self::new(machines, node, paths, store, journal, planner, secrets, Direction::Forward, false))
    }

    /// Goes on with an operation that was interrupted, forward or back.
    pub fn resume(
        machines: Rc<Machines>,
        node: &str,
        paths: &Paths,
        how: &Resume,
        planner: Box<dyn Planner>,
        secrets: Secrets,
    ) -> Result<Self> {
        let (store, host) = (Store::new(&paths.state_dir), machines.shared_node());
        let mut journal = store.reopen(&*host, &how.opid)?;
        let state = journal.state();
        let unwind = how.unwind || state.unwinding;
        // First the process that was running for it: two of them would be one too many.
        for child in state.steps.iter().filter_map(|s| s.child).collect::<Vec<_>>() {
            host.end(child)?;
        }
        journal.write(&*host, Event::Resumed { process: host.own_process(), actor: how.actor.clone(), unwind })?;
        let direction = if unwind { Direction::Back } else { Direction::Forward };
        let mut run = Self::new(machines, node, paths, store, journal, planner, secrets, direction, how.settle);
        run.prepare()?;
        run.prepare_probe()?;
        Ok(run)
    }

    /// The password of the probe account went with whoever drew it: where the account has it already and the client not yet, it gets another.
    fn prepare_probe(&mut self) -> Result<()> {
        let state = self.journal.state();
        let Some(next) = state.next_step().filter(|_| self.direction == Direction::Forward) else { return Ok(()) };
        let of_probe = |s: &StepState| uses_secret(&s.step.effect, PROBE_SECRET);
        let writes = of_probe(&state.steps[next]) && matches!(state.steps[next].step.effect, Effect::WriteCredentials { .. });
        let set = state.steps[..next].iter().rev().find(|s| of_probe(s) && matches!(s.step.effect, Effect::Run(_)));
        if let Some(s) = set.filter(|s| writes && s.progress == StepProgress::Done) {
            // The last is done first: a container has to run by then.
            self.preparing.insert(0, (s.step.place, s.step.effect.clone()));
            self.draw_probe_password()?;
        }
        Ok(())
    }

    /// Containers in which there is something to do or to take back must run; after a power cut they do not.
    fn prepare(&mut self) -> Result<()> {
        let state = self.journal.state();
        let next = state.next_step();
        let back = self.direction == Direction::Back;
        let due = state.steps.iter().enumerate().filter(|(n, s)| if back { self.is_to_undo(s) } else { next == Some(*n) });
        let mut vmids: Vec<VmId> =
            due.filter_map(|(_, s)| if let Place::Ct(v) = s.step.place { Some(v) } else { None }).collect();
        vmids.dedup();
        let Some(record) = observe::record(&*self.host, &self.paths)?.filter(|_| !vmids.is_empty()) else { return Ok(()) };
        for vmid in vmids {
            let ours = observe::guests::conf(&*self.host, vmid)?.is_some_and(|c| c.has_tag(&mark(&record.uuid)));
            if ours && observe::guests::init(&*self.host, vmid)?.is_none() {
                let cmd = Cmd::new(Program::Pct, ["start", &vmid.to_string()]).within_ms(120_000);
                // The last is done first.
                self.preparing.push((Place::Ct(vmid), Effect::AwaitBoot));
                self.preparing.push((Place::Node, Effect::OnGuest { vmid, uuid: record.uuid.clone(), cmd, gone_ok: true }));
            }
        }
        Ok(())
    }

    /// True if that is going on. What cannot be prepared is seen by the step that needs it.
    fn go_on_preparing(&mut self) -> Result<bool> {
        let Some((place, effect)) = self.preparing.last().cloned() else { return Ok(false) };
        let polled = match self.acting.take() {
            None => Acting::begin(&self.tools(place), &effect).map(|a| (Some(a), false)),
            Some(mut a) => a.poll(&self.tools(place)).map(|s| (Some(a), s == act::Step::Finished)),
        };
        match polled {
            Ok((acting, false)) => self.acting = acting,
            Ok((_, true)) => _ = self.preparing.pop(),
            Err(e) if fatal(&e) => return Err(e),
            Err(e) => {
                self.warn(chain(&e));
                self.preparing.clear();
            }
        }
        Ok(true)
    }

    /// Whether a step changed something that has to be taken back where it acted. What it changed in a container that this very operation made
    /// goes with that.
    fn is_to_undo(&self, s: &StepState) -> bool {
        use StepProgress::{Done, Failed, InDoubt, UndoFailed, Undoing};
        matches!(s.progress, Done | InDoubt | Failed | Undoing | UndoFailed)
            && !matches!(s.step.undo, Undo::None(_))
            && !self.goes_with_its_place(s)
    }

    fn goes_with_its_place(&self, s: &StepState) -> bool {
        // These are the node's, whatever place they are about; and the computer account of a member is the domain's.
        let outside = matches!(s.step.watch, Watch::Record(_) | Watch::SameHash(_) | Watch::Tree(_) | Watch::Member(_));
        let Place::Ct(vmid) = s.step.place else { return false };
        let makes = |o: &StepState| matches!(o.step.effect, Effect::CreateGuest { vmid: v, .. } if v == vmid);
        !outside && self.journal.state().steps.iter().any(|o| makes(o) && o.before == Some(Seen::Absent))
    }

    #[allow(clippy::too_many_arguments)] // all of them are kept
    fn new(
        machines: Rc<Machines>,
        node: &str,
        paths: &Paths,
        store: Store,
        journal: Journal,
        planner: Box<dyn Planner>,
        secrets: Secrets,
        direction: Direction,
        settle: bool,
    ) -> Self {
        Self {
            host: machines.shared_node(),
            machines,
            node: node.to_owned(),
            paths: paths.clone(),
            store,
            journal,
            planner,
            secrets,
            direction,
            acting: None,
            preparing: Vec::new(),
            undoing: Vec::new(),
            began: 0,
            replans: 0,
            numbers: None,
            waits_since: None,
            events: Vec::new(),
            warnings: Vec::new(),
            settle,
        }
    }

    /// The operation's id.
    pub fn opid(&self) -> &str {
        &self.journal.state().opid
    }

    /// Hands a secret over; it is never written down.
    pub fn secret(&mut self, name: &str, value: &[u8]) {
        self.secrets.put(name, value.to_vec());
    }

    /// What it is, for the result.
    pub fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.events.push(json!({"event": "warning", "text": warning}));
            self.warnings.push(warning);
        }
    }

    /// Goes on for at most about a second. An `Err` means that the journal could not be written or the machine could not be looked at; the
    /// operation stays open and can be resumed.
    pub fn step(&mut self) -> Result<Progress> {
        if self.direction != Direction::Over && self.go_on_preparing()? {
            return self.report();
        }
        match self.direction {
            Direction::Over => return Err(Error::new(Kind::Argument, format!("operation {} is over", self.opid()))),
            Direction::Forward => {
                if let Err(e) = self.forward() {
                    if fatal(&e) {
                        return Err(e);
                    }
                    self.fail(e)?;
                }
            }
            Direction::Back => {
                self.back()?;
            }
        }
        self.report()
    }

    fn report(&mut self) -> Result<Progress> {
        let events = Value::Array(std::mem::take(&mut self.events));
        let state = self.journal.state();
        match state.outcome {
            None => Ok(Progress::Working(json!({ "events": events }))),
            Some(Outcome::Done) => Ok(Progress::Done(json!({"events": events, "result": state.result}))),
            Some(outcome) => {
                let error = self.final_error(outcome);
                Ok(Progress::Failed(json!({"events": events, "outcome": outcome, "error": error.to_doc()}), error))
            }
        }
    }

    /// Stops and takes everything back; the following steps do it.
    pub fn unwind(&mut self) -> Result<()> {
        if self.direction == Direction::Forward {
            self.stop_acting();
            let why = Error::new(Kind::Interrupted, format!("operation {} was given up on request", self.opid()));
            self.fail(why)?;
        }
        Ok(())
    }

    /// Stops and leaves the rest to a resume.
    pub fn interrupt(&mut self, why: &str) -> Result<()> {
        if self.direction != Direction::Over {
            self.stop_acting();
            self.journal.write(&*self.host, Event::Interrupted { why: why.to_owned() })?;
            self.direction = Direction::Over;
        }
        Ok(())
    }

    fn stop_acting(&mut self) {
        if let Some(mut a) = self.acting.take() {
            a.kill();
        }
        self.numbers = None;
        self.undoing.clear();
        self.preparing.clear();
    }

    fn see(&self, step: &Step, keep: bool) -> Result<Seen> {
        observe::see(&self.machines, step.place, &self.paths, &step.watch, keep)
    }

    // ---- forward -------------------------------------------------------------------------------------------------------

    fn forward(&mut self) -> Result<()> {
        if self.acting.is_some() {
            return self.go_on_acting();
        }
        match self.journal.state().next_step() {
            Some(n) => self.begin_step(n),
            None => self.next_phase(),
        }
    }

    fn next_phase(&mut self) -> Result<()> {
        let done = &self.journal.state().phases;
        let phases = self.planner.phases();
        // By name: of an operation that is resumed there may be fewer than when it began, since what it did (end a membership) made one needless.
        let from = phases.iter().rposition(|p| done.contains(p)).map_or(0, |last| last + 1);
        match phases.get(from) {
            None => self.finish_well(),
            Some(phase) => {
                self.replans = 0;
                self.plan_phase(phase)
            }
        }
    }

    fn plan_phase(&mut self, phase: &str) -> Result<()> {
        let (steps, warnings) = self.planner.plan(&self.machines, phase).map_err(|e| e.while_doing(format!("phase {phase}")))?;
        for w in warnings {
            self.warn(w);
        }
        let state = self.journal.state();
        let waiting = state.steps.iter().filter(|s| s.progress == StepProgress::Waiting).count();
        let first = state.steps.len() - waiting;
        let steps = distinct(&state.steps[..first].iter().map(|s| s.step.id.clone()).collect::<Vec<_>>(), steps);
        if !steps.iter().any(|s| s.records_number().is_some()) {
            self.numbers = None;
        }
        self.events.push(json!({"event": "planned", "phase": phase, "steps": steps.len()}));
        self.journal.write(&*self.host, Event::Planned { phase: phase.to_owned(), first, steps })
    }

    fn begin_step(&mut self, n: usize) -> Result<()> {
        let state = &self.journal.state().steps[n];
        let (step, phase, in_doubt) = (state.step.clone(), state.phase.clone(), state.progress == StepProgress::InDoubt);
        self.began = self.host.monotonic_ms();
        let keep = matches!(step.undo, Undo::Restore | Undo::RestoreThen(_));
        let seen = self.see(&step, keep)?;
        let satisfied = step.want.as_ref().is_some_and(|w| w.same(&seen));
        if !satisfied {
            match self.look_for_number(&step)? {
                Number::Free => {}
                Number::Awaited => return Ok(()),
                Number::Taken if !in_doubt => return self.replan(&phase, &step),
                // A step that may have been done is taken back before anything is planned anew.
                Number::Taken => {
                    return Err(Error::new(Kind::Conflict, format!("{}: another gateway took the number meanwhile", step.title))
                        .remedy("try again: the next attempt takes another one"));
                }
            }
        }
        if !in_doubt && !satisfied {
            if let Some(before) = &step.before {
                if !before.same(&seen) {
                    return self.replan(&phase, &step);
                }
            }
        }
        if satisfied {
            // Nothing to do, so nothing is lost if the machine dies between the two.
            self.journal.note(&*self.host, Event::Begun { step: n, seen: seen.clone() })?;
            return self.step_done(n, seen, false);
        }
        self.journal.write(&*self.host, Event::Begun { step: n, seen })?;
        self.events.push(json!({"event": "begun", "step": step.id, "title": step.title}));
        if uses_secret(&step.effect, PROBE_SECRET) && self.secrets.get(PROBE_SECRET).is_none() {
            self.draw_probe_password()?;
        }
        self.acting = Some(Acting::begin(&self.tools(step.place), &step.effect)?);
        self.go_on_acting()
    }

    /// Whether the number that a step takes for a new container was taken by another gateway since it was planned. Whoever has to plan again
    /// does so alone, so that nobody loses twice.
    fn look_for_number(&mut self, step: &Step) -> Result<Number> {
        let Some(vmid) = step.records_number().filter(|v| self.makes(*v)) else { return Ok(Number::Free) };
        if self.numbers.is_none() {
            let note = format!("pid {} gateway {}", self.host.own_process().pid, self.paths.gateway);
            let now = self.host.monotonic_ms();
            let since = *self.waits_since.get_or_insert(now);
            match self.host.lock(&self.paths.lock_dir.join(NUMBERS), &note, NUMBERS_TRY) {
                Ok(lock) => self.numbers = Some(lock),
                Err(e) if e.kind() == Kind::Busy && now.saturating_sub(since) < NUMBERS_WAIT_MS => return Ok(Number::Awaited),
                Err(e) => return Err(e),
            }
            self.waits_since = None;
        }
        let taken = observe::guests::is_claimed(&*self.host, &self.paths, vmid)?;
        Ok(if taken { Number::Taken } else { Number::Free })
    }

    /// Whether a container of that number is about to be made.
    fn makes(&self, vmid: VmId) -> bool {
        let ahead = |s: &StepState| matches!(s.progress, StepProgress::Waiting | StepProgress::InDoubt);
        let makes = |s: &StepState| matches!(s.step.effect, Effect::CreateGuest { vmid: v, .. } if v == vmid);
        self.journal.state().steps.iter().any(|s| ahead(s) && makes(s))
    }

    /// Somebody changed what the step starts from: look and plan again, a few times.
    fn replan(&mut self, phase: &str, step: &Step) -> Result<()> {
        self.replans += 1;
        if self.replans > REPLANS {
            let why = format!("{} keeps changing while we work", step.watch);
            return Err(Error::new(Kind::Drift, why).remedy("find out what else changes it, then try again"));
        }
        self.events.push(json!({"event": "replanned", "phase": phase, "because": step.id}));
        self.plan_phase(phase)
    }

    fn go_on_acting(&mut self) -> Result<()> {
        let Some(mut acting) = self.acting.take() else { return Ok(()) };
        let n = self.current()?;
        let place = self.journal.state().steps[n].step.place;
        match acting.poll(&self.tools(place))? {
            act::Step::Finished => {
                let step = &self.journal.state().steps[n].step;
                let seen = self.see(step, false)?;
                if let Some(want) = &step.want {
                    if !want.same(&seen) {
                        let why = format!("{} is not as it must be after the step", step.watch);
                        return Err(Error::new(Kind::Service, why).story(|s| s.stderr = Some(format!("seen: {seen:?}"))));
                    }
                }
                self.step_done(n, seen, true)
            }
            act::Step::Started(process) => {
                self.acting = Some(acting);
                self.journal.note(&*self.host, Event::Child { step: n, process })
            }
            act::Step::Working => {
                self.acting = Some(acting);
                Ok(())
            }
            act::Step::Walked(entries) => {
                self.acting = Some(acting);
                self.tell_walk(n, entries);
                Ok(())
            }
        }
    }

    /// How far a walk through a tree is: an event about each second.
    fn tell_walk(&mut self, n: usize, entries: u64) {
        let step = &self.journal.state().steps[n].step;
        self.events.push(json!({"event": "progress", "step": step.id, "title": step.title, "entries": entries}));
    }

    fn current(&self) -> Result<usize> {
        let doing = [StepProgress::InDoubt, StepProgress::Undoing];
        self.journal
            .state()
            .steps
            .iter()
            .position(|s| doing.contains(&s.progress))
            .ok_or_else(|| Error::new(Kind::Internal, "an act goes on without a step"))
    }

    fn step_done(&mut self, n: usize, seen: Seen, acted: bool) -> Result<()> {
        let ms = self.host.monotonic_ms().saturating_sub(self.began);
        let s = &self.journal.state().steps[n];
        if s.step.records_number().is_some() {
            self.numbers = None;
        }
        self.events.push(json!({"event": "done", "step": s.step.id, "title": s.step.title, "changed": acted, "ms": ms}));
        self.journal.write(&*self.host, Event::Done { step: n, seen, ms })
    }

    fn finish_well(&mut self) -> Result<()> {
        let warnings = self.warnings.clone();
        let result = self.planner.result(&self.machines, &warnings)?;
        self.events.push(json!({"event": "finished", "result": result}));
        self.close(Outcome::Done, result)
    }

    fn close(&mut self, outcome: Outcome, result: Value) -> Result<()> {
        self.journal.write(&*self.host, Event::Finished { outcome, result })?;
        self.direction = Direction::Over;
        act::sweep(&self.machines, &self.paths);
        if outcome != Outcome::Stuck {
            let opid = self.opid().to_owned();
            // It is over whether or not the mark goes; whoever holds the lock next takes it away.
            if let Err(e) = self.store.mark_closed(&*self.host, &opid) {
                tracing::warn!(opid, error = %e, "the mark of an operation that is over stays for now");
            }
        }
        Ok(())
    }

    // ---- back ----------------------------------------------------------------------------------------------------------

    /// Writes a failure down and turns round.
    fn fail(&mut self, error: Error) -> Result<()> {
        self.stop_acting();
        let step = self.journal.state().next_step().filter(|n| self.journal.state().steps[*n].progress == StepProgress::InDoubt);
        let state = self.journal.state();
        let (op, id) = (state.op.clone(), step.map(|n| state.steps[n].step.id.clone()));
        let error = match &id {
            Some(id) => error.while_doing(format!("step {id}")),
            None => error,
        };
        let error = error.story(|s| {
            s.op = Some(op);
            s.step.clone_from(&id);
        });
        let doc = error.to_doc();
        tracing::warn!(op = %self.journal.state().op, target_ = %self.journal.state().target, error = %doc.message, "operation failed; it is undone");
        self.events.push(json!({"event": "failed", "step": id, "error": doc}));
        self.journal.write(&*self.host, Event::Failed { step, error: doc })?;
        self.direction = Direction::Back;
        Ok(())
    }

    fn back(&mut self) -> Result<()> {
        if self.acting.is_some() || !self.undoing.is_empty() {
            return self.go_on_undoing();
        }
        let state = self.journal.state();
        // What failed in this attempt is not tried again in it; a resume clears the errors.
        let retry = state.undo_errors.is_empty();
        let next = state.steps.iter().rposition(|s| {
            use StepProgress::{Done, Failed, InDoubt, UndoFailed, Undoing};
            matches!(s.progress, Done | InDoubt | Failed | Undoing) || (s.progress == UndoFailed && retry)
        });
        match next {
            Some(n) => self.begin_undo(n),
            None => self.finish_badly(),
        }
    }

    fn finish_badly(&mut self) -> Result<()> {
        let stuck = self.journal.state().steps.iter().any(|s| s.progress == StepProgress::UndoFailed);
        self.close(if stuck { Outcome::Stuck } else { Outcome::Undone }, Value::Null)
    }

    fn begin_undo(&mut self, n: usize) -> Result<()> {
        let s = &self.journal.state().steps[n];
        let step = s.step.clone();
        self.began = self.host.monotonic_ms();
        // Judged before the undo is said to have begun: after that, a half-way state would count as our own doing.
        match self.undo_effects(s) {
            Ok(effects) if effects.is_empty() => {
                self.journal.write(&*self.host, Event::UndoBegun { step: n })?;
                self.undo_done(n, false)
            }
            Ok(mut effects) => {
                self.journal.write(&*self.host, Event::UndoBegun { step: n })?;
                effects.reverse();
                self.events.push(json!({"event": "undo-begun", "step": step.id, "title": step.title}));
                self.undoing = effects;
                self.go_on_undoing()
            }
            Err(e) if fatal(&e) => Err(e),
            Err(e) => self.undo_failed(n, e),
        }
    }

    /// What takes a step back, if it changed something and that is still as this run left it.
    fn undo_effects(&self, s: &StepState) -> Result<Vec<(Effect, bool)>> {
        let (step, Some(before)) = (&s.step, &s.before) else { return Ok(Vec::new()) };
        if matches!(step.undo, Undo::None(_)) {
            return Ok(Vec::new());
        }
        if self.goes_with_its_place(s) || self.place_is_gone(step)? {
            return Ok(Vec::new());
        }
        // What was noted in a record went with it.
        if matches!(step.watch, Watch::Record(_)) && observe::record(&*self.host, &self.paths)?.is_none() {
            return Ok(Vec::new());
        }
        let (undone_before, failed_after) = self.beside(s);
        // Who was undone since has put back what was there even before this step.
        if undone_before {
            return Ok(Vec::new());
        }
        if let Some(later) = self.needed_by(s) {
            return Err(Error::new(Kind::Conflict, format!("{} stays: it is needed to undo step {later}", step.watch)));
        }
        let now = self.see(step, false)?;
        // A container that is gone, whoever destroyed it, can be neither started nor stopped: the worker builds it anew.
        if matches!((&step.watch, &now), (Watch::Guest(_), Seen::Absent)) {
            return Ok(Vec::new());
        }
        // Once the undo has begun, a half-way state is our own doing.
        let half_way = s.progress == StepProgress::Undoing || (s.progress == StepProgress::UndoFailed && !s.drifted);
        // A walk changes the root first or last: for as long as it is not done, that says nothing about what lies below.
        let untold = failed_after || (matches!(step.watch, Watch::Project(_)) && (s.after.is_none() || half_way));
        if now.same(before) && !untold {
            // What is watched is back, but the undo may have ended before the rest of it: a reload, a membership. That is done again.
            return Ok(match &step.undo {
                Undo::RestoreThen(then) if half_way => then.iter().map(|e| (e.clone(), may_fail(e))).collect(),
                Undo::Do(effects) if half_way && effects.len() > 1 => effects.iter().map(|e| (e.clone(), false)).collect(),
                _ => Vec::new(),
            });
        }
        let ours = match (&s.after, &step.want) {
            (Some(after), _) => now.same(after),
            (None, Some(want)) => now.same(want),
            // It was begun and not finished, and what it makes is not known beforehand: what differs is its doing.
            (None, None) => true,
        };
        // The probe account is ours alone, and gets another password when an operation is resumed.
        let ours = ours || uses_secret(&step.effect, PROBE_SECRET);
        if !ours && !half_way && !untold {
            if self.settle {
                tracing::warn!(what = %step.watch, "changed by somebody else since; accepted as it is");
                return Ok(Vec::new());
            }
            return Err(Error::new(
                Kind::Drift,
                format!("{} was changed by somebody else since; it is left as it is", step.watch),
            )
            .remedy("compare it with the journal, put it right by hand, then: pve-smbgateway repair"));
        }
        Ok(match &step.undo {
            Undo::None(_) => Vec::new(),
            Undo::Do(effects) => effects.iter().map(|e| (e.clone(), comes_back_by_itself(e))).collect(),
            Undo::Restore => vec![(step.watch.restore(before)?, false)],
            Undo::RestoreThen(then) => {
                let mut all = vec![(step.watch.restore(before)?, false)];
                all.extend(then.iter().map(|e| (e.clone(), may_fail(e))));
                all
            }
        })
    }

    /// The later step whose undo failed and, tried again, needs what this one made.
    fn needed_by(&self, s: &StepState) -> Option<&str> {
        let Watch::Exists(path) = &s.step.watch else { return None };
        let needs = |o: &&StepState| match &o.step.undo {
            Undo::Do(effects) => effects.iter().any(|e| e.undoes_with() == Some(path)),
            _ => false,
        };
        let failed = |o: &&StepState| o.progress == StepProgress::UndoFailed && !std::ptr::eq(*o, s);
        self.journal.state().steps.iter().filter(failed).find(needs).map(|o| o.step.id.as_str())
    }

    /// Of the other steps that wrote the same part of the record (a join writes the membership, too): whether an earlier one is undone
    /// already, and whether the undo of a later one failed, so that what stands there now is that one's.
    fn beside(&self, s: &StepState) -> (bool, bool) {
        let Watch::Record(key) = &s.step.watch else { return (false, false) };
        let same = |o: &&StepState| match &o.step.watch {
            Watch::Record(k) => k == key,
            Watch::Member(_) => *key == Key::Member,
            _ => false,
        };
        let steps = &self.journal.state().steps;
        let at = steps.iter().position(|o| std::ptr::eq(o, s)).unwrap_or_default();
        let undone =
            |o: &StepState| o.progress == StepProgress::Undone && matches!(o.step.watch, Watch::Record(_)) && o.before.is_some();
        let failed = |o: &StepState| o.progress == StepProgress::UndoFailed;
        (steps[..at].iter().filter(same).any(undone), steps[at..].iter().skip(1).filter(same).any(failed))
    }

    /// Whether a step acted in a container that is not there any more.
    fn place_is_gone(&self, step: &Step) -> Result<bool> {
        let outside = matches!(step.watch, Watch::Record(_) | Watch::SameHash(_) | Watch::Tree(_));
        match step.place {
            Place::Ct(vmid) if !outside => Ok(observe::guests::conf(&*self.host, vmid)?.is_none()),
            _ => Ok(false),
        }
    }

    fn go_on_undoing(&mut self) -> Result<()> {
        let n = self.current()?;
        let result = self.poll_undo();
        match result {
            Ok(false) => Ok(()),
            Ok(true) => self.undo_done(n, true),
            Err(e) if fatal(&e) => Err(e),
            Err(e) => {
                self.stop_acting();
                self.undo_failed(n, e)
            }
        }
    }

    /// True when all effects of this undo are done.
    fn poll_undo(&mut self) -> Result<bool> {
        let noted = self.undoing.last().is_some_and(|(_, noted)| *noted);
        let place = self.journal.state().steps[self.current()?].step.place;
        let polled = match self.acting.take() {
            None => {
                let Some((effect, _)) = self.undoing.last() else { return Ok(true) };
                Acting::begin(&self.tools(place), effect).map(|a| {
                    self.acting = Some(a);
                    act::Step::Working
                })
            }
            Some(mut a) => a.poll(&self.tools(place)).inspect(|step| {
                if *step != act::Step::Finished {
                    self.acting = Some(a);
                }
            }),
        };
        match polled {
            Ok(act::Step::Working) => Ok(false),
            Ok(act::Step::Walked(entries)) => {
                self.tell_walk(self.current()?, entries);
                Ok(false)
            }
            Ok(act::Step::Started(process)) => {
                let n = self.current()?;
                self.journal.note(&*self.host, Event::Child { step: n, process })?;
                Ok(false)
            }
            Ok(act::Step::Finished) => {
                self.undoing.pop();
                Ok(self.undoing.is_empty())
            }
            Err(e) if noted && !fatal(&e) => {
                self.warn(format!("while undoing: {}", chain(&e)));
                self.undoing.pop();
                Ok(self.undoing.is_empty())
            }
            Err(e) => Err(e),
        }
    }

    fn undo_done(&mut self, n: usize, changed: bool) -> Result<()> {
        let s = &self.journal.state().steps[n];
        if changed {
            let ms = self.host.monotonic_ms().saturating_sub(self.began);
            self.events.push(json!({"event": "undo-done", "step": s.step.id, "title": s.step.title, "ms": ms}));
        }
        self.journal.write(&*self.host, Event::UndoDone { step: n, changed })
    }

    fn undo_failed(&mut self, n: usize, error: Error) -> Result<()> {
        let id = self.journal.state().steps[n].step.id.clone();
        let doc = error.while_doing(format!("undo of step {id}")).story(|s| s.step = Some(id.clone())).to_doc();
        tracing::error!(step = %id, error = %doc.message, "undo failed; the share is stuck until repair");
        self.events.push(json!({"event": "undo-failed", "step": id, "error": doc}));
        self.journal.write(&*self.host, Event::UndoFailed { step: n, error: doc })
    }

    fn final_error(&self, outcome: Outcome) -> Error {
        let state = self.journal.state();
        let error = state.error.clone().map(Error::from).unwrap_or_else(|| {
            let why = format!("operation {} was undone", state.opid);
            Error::new(Kind::Interrupted, why)
        });
        let undone = state.steps.iter().filter(|s| s.progress == StepProgress::Undone && s.before.is_some());
        let mut list: Vec<String> = undone.map(|s| format!("undone: {}", s.step.title)).collect();
        if outcome == Outcome::Stuck {
            list.extend(fold::left_over(state));
            let remedy = format!("finish it with: {}; by hand: {}", fold::repair(state), fold::by_hand(state).join("; "));
            return error.as_kind(Kind::Stuck).remedy(remedy).story(|s| s.undone = list);
        }
        error.story(|s| s.undone = list)
    }

    fn tools(&self, place: Place) -> Tools<'_> {
        Tools {
            machines: &self.machines,
            host: self.machines.at(place),
            node: &self.node,
            paths: &self.paths,
            secrets: &self.secrets,
        }
    }

    fn draw_probe_password(&mut self) -> Result<()> {
        let mut bytes = [0_u8; 32];
        self.host.random(&mut bytes)?;
        let password = sha256_hex(&bytes);
        self.secrets.put(PROBE_SECRET, password.into_bytes());
        Ok(())
    }
}

/// Errors after which nothing more can be written down: the machine or the journal is gone.
fn fatal(e: &Error) -> bool {
    matches!(e.kind(), Kind::Interrupted | Kind::Internal | Kind::Corrupt | Kind::Forked)
}

/// Whether the failure of what follows an undo is only noted. A reload that is missing is made up by the next one; an smbd that was stopped and
/// does not come back serves nobody any more.
fn may_fail(effect: &Effect) -> bool {
    !matches!(effect, Effect::StartDaemon { .. })
}

/// Whether what an undo starts is started by the worker as well, at its next look; it may also be what cannot start any more, if the password of
/// the computer account went meanwhile.
fn comes_back_by_itself(effect: &Effect) -> bool {
    matches!(effect, Effect::StartDaemon { daemon: Daemon::Winbindd, .. })
}

fn uses_secret(effect: &Effect, name: &str) -> bool {
    match effect {
        Effect::Run(cmd) => matches!(&cmd.stdin, crate::effect::Stdin::Secret { name: n, .. } if n == name),
        Effect::WriteCredentials { secret, .. } => secret == name,
        _ => false,
    }
}

/// Makes the ids of new steps differ from those that were already done in this operation.
fn distinct(taken: &[String], mut steps: Vec<Step>) -> Vec<Step> {
    for s in &mut steps {
        let mut n = 2;
        let base = s.id.clone();
        while taken.contains(&s.id) {
            s.id = format!("{base}#{n}");
            n += 1;
        }
    }
    steps
}

/// Plans an [`crate::plan::Intent`], looking anew for each phase.
pub struct IntentPlanner {
    /// What is wanted.
    pub intent: crate::plan::Intent,
    /// This node.
    pub node: String,
    /// Where things lie.
    pub paths: Paths,
    /// The gateway is a member of a domain.
    pub member: bool,
    /// Makes the result.
    pub finish: Finish,
}

/// Makes the result of an operation from the facts at its end.
pub type Finish = Box<dyn FnMut(&Facts, &[String]) -> Result<Value>>;

impl IntentPlanner {
    fn need(&self) -> observe::Need {
        use crate::plan::Intent;
        let trees = match &self.intent {
            Intent::Create { spec, .. } | Intent::Update { spec, .. } => vec![spec.path.clone()],
            Intent::TreeShift { path, .. } => vec![path.clone()],
            _ => Vec::new(),
        };
        let quota = self.intent.spec().is_some_and(crate::spec::ShareSpec::is_limited);
        // One that goes must not leave its limit behind because nobody could be asked for a moment.
        let must = matches!(&self.intent, Intent::Create { .. } | Intent::Delete { .. });
        let limit_of = self.intent.share_id().filter(|_| must).map(str::to_owned);
        observe::Need { trees, quota, limit_of, ..observe::Need::default() }
    }
}

impl Planner for IntentPlanner {
    fn phases(&self) -> Vec<String> {
        let member = self.member || self.intent.spec().is_some_and(|s| s.domain.is_some());
        self.intent.phases(self.paths.mode, member).into_iter().map(str::to_owned).collect()
    }

    fn plan(&mut self, machines: &Machines, phase: &str) -> Result<(Vec<Step>, Vec<String>)> {
        use crate::plan::Intent;
        let removes_accounts = phase == "identity" && matches!(self.intent, Intent::Delete { .. } | Intent::UserRemove(_));
        let need = observe::Need {
            owned: removes_accounts,
            without_passdb: !matches!(phase, "domain" | "identity" | "proof"),
            // In native mode the node is the place.
            outside: self.paths.mode == Mode::Lxc && !crate::plan::is_inside(phase),
            ..self.need()
        };
        let facts = observe::facts(machines, &self.node, &self.paths, &need)?;
        crate::plan::phase(phase, &self.intent, &facts)
    }

    fn result(&mut self, machines: &Machines, warnings: &[String]) -> Result<Value> {
        let facts = observe::quick(machines, &self.node, &self.paths)?;
        (self.finish)(&facts, warnings)
    }
}
