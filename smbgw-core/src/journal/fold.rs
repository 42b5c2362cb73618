// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state of an operation as a fold over its events. Pure. An order that cannot have happened is `Corrupt`.

use serde_json::Value;

use super::event::{Event, Line, Outcome};
use crate::error::{Error, ErrorDoc, Kind, Result};
use crate::host::ProcessId;
use crate::plan::step::{Effect, Seen, Step, Undo};

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Not begun.
    Waiting,
    /// Begun; whether it acted is not known.
    InDoubt,
    /// Done.
    Done,
    /// It failed; whether it acted is not known.
    Failed,
    /// Its undo has begun; whether that acted is not known.
    Undoing,
    /// Undone.
    Undone,
    /// Its undo failed.
    UndoFailed,
}

/// A step and what happened to it.
#[derive(Debug, Clone, PartialEq)]
pub struct StepState {
    /// Its phase.
    pub phase: String,
    /// The step.
    pub step: Step,
    /// How far it is.
    pub progress: Progress,
    /// What was seen just before it first acted.
    pub before: Option<Seen>,
    /// What was seen just after.
    pub after: Option<Seen>,
    /// The last process started for it.
    pub child: Option<ProcessId>,
    /// Its undo was not tried because somebody else had changed the thing.
    pub drifted: bool,
}

/// An operation.
#[derive(Debug, Clone, PartialEq)]
pub struct OpState {
    /// Its id.
    pub opid: String,
    /// What it does.
    pub op: String,
    /// Gateway.
    pub gateway: String,
    /// Share or account.
    pub target: String,
    /// Who asked.
    pub actor: String,
    /// Parameters.
    pub params: Value,
    /// When it was opened, milliseconds since the epoch.
    pub opened: i64,
    /// When the last event was written.
    pub last: i64,
    /// The process that runs it.
    pub process: ProcessId,
    /// All steps so far.
    pub steps: Vec<StepState>,
    /// Phases planned so far, in order.
    pub phases: Vec<String>,
    /// Why it failed.
    pub error: Option<ErrorDoc>,
    /// Why undo failed.
    pub undo_errors: Vec<ErrorDoc>,
    /// It is being undone.
    pub unwinding: bool,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What it gave.
    pub result: Value,
}

impl OpState {
    /// Folds the events of one operation, in order.
    pub fn fold<'a>(lines: impl IntoIterator<Item = &'a Line>) -> Result<Self> {
        let mut lines = lines.into_iter();
        let first = lines.next().ok_or_else(|| bad("it is empty"))?;
        let Event::Opened { opid, op, gateway, target, actor, params, process } = &first.event else {
            return Err(bad("it does not begin with the opening of an operation"));
        };
        let mut state = Self {
            opid: opid.clone(),
            op: op.clone(),
            gateway: gateway.clone(),
            target: target.clone(),
            actor: actor.clone(),
            params: params.clone(),
            opened: first.at,
            last: first.at,
            process: *process,
            steps: Vec::new(),
            phases: Vec::new(),
            error: None,
            undo_errors: Vec::new(),
            unwinding: false,
            outcome: None,
            result: Value::Null,
        };
        for line in lines {
            state.apply(line)?;
        }
        Ok(state)
    }

    /// Takes one more event.
    pub fn apply(&mut self, line: &Line) -> Result<()> {
        self.last = line.at;
        let taken_up = matches!(line.event, Event::Resumed { .. }) && self.outcome == Some(Outcome::Stuck);
        if self.outcome.is_some() && !taken_up {
            return Err(bad("it goes on after its end"));
        }
        match &line.event {
            Event::Opened { .. } => return Err(bad("it is opened twice")),
            Event::Planned { phase, first, steps } => self.planned(phase, *first, steps)?,
            Event::Begun { step, seen } => {
                let s = self.step_mut(*step, &[Progress::Waiting, Progress::InDoubt])?;
                s.progress = Progress::InDoubt;
                if s.before.is_none() {
                    s.before = Some(seen.clone());
                }
            }
            Event::Child { step, process } => {
                let s = self.step_mut(*step, &[Progress::InDoubt, Progress::Undoing, Progress::Failed])?;
                s.child = Some(*process);
            }
            Event::Done { step, seen, .. } => {
                let s = self.step_mut(*step, &[Progress::InDoubt])?;
                s.progress = Progress::Done;
                s.after = Some(seen.clone());
            }
            Event::Failed { step, error } => {
                if let Some(step) = step {
                    self.step_mut(*step, &[Progress::Waiting, Progress::InDoubt])?.progress = Progress::Failed;
                }
                self.error = Some(error.clone());
                self.unwinding = true;
            }
            Event::UndoBegun { step } => {
                let from = [Progress::InDoubt, Progress::Done, Progress::Failed, Progress::Undoing, Progress::UndoFailed];
                self.step_mut(*step, &from)?.progress = Progress::Undoing;
                self.unwinding = true;
            }
            Event::UndoDone { step, .. } => self.step_mut(*step, &[Progress::Undoing])?.progress = Progress::Undone,
            Event::UndoFailed { step, error } => {
                let from = [Progress::InDoubt, Progress::Done, Progress::Failed, Progress::Undoing, Progress::UndoFailed];
                let s = self.step_mut(*step, &from)?;
                // Found out before the undo began, or while it went on.
                s.drifted = s.progress != Progress::Undoing && (s.progress != Progress::UndoFailed || s.drifted);
                s.progress = Progress::UndoFailed;
                self.undo_errors.push(error.clone());
            }
            Event::Interrupted { .. } => {}
            Event::Resumed { process, unwind, .. } => {
                self.process = *process;
                self.unwinding |= *unwind;
                self.outcome = None;
                self.undo_errors.clear();
            }
            Event::Finished { outcome, result } => {
                self.outcome = Some(*outcome);
                self.result = result.clone();
            }
        }
        Ok(())
    }

    fn planned(&mut self, phase: &str, first: usize, steps: &[Step]) -> Result<()> {
        let again = self.phases.last().is_some_and(|p| p == phase);
        if again {
            while self.steps.last().is_some_and(|s| s.phase == phase && s.progress == Progress::Waiting) {
                self.steps.pop();
            }
        } else {
            if self.steps.iter().any(|s| s.progress != Progress::Done) {
                return Err(bad("a phase begins before the one before it is done"));
            }
            self.phases.push(phase.to_owned());
        }
        if first != self.steps.len() {
            return Err(bad("the steps of a plan are counted wrongly"));
        }
        self.steps.extend(steps.iter().map(|step| StepState {
            phase: phase.to_owned(),
            step: step.clone(),
            progress: Progress::Waiting,
            before: None,
            after: None,
            child: None,
            drifted: false,
        }));
        Ok(())
    }

    fn step_mut(&mut self, n: usize, allowed: &[Progress]) -> Result<&mut StepState> {
        let s = self.steps.get_mut(n).ok_or_else(|| bad(format!("it names step {n}, which was never planned")))?;
        if !allowed.contains(&s.progress) {
            return Err(bad(format!("step {} ({n}) cannot go on from {:?}", s.step.id, s.progress)));
        }
        Ok(s)
    }

    /// The next step to do, if the phase has one.
    pub fn next_step(&self) -> Option<usize> {
        self.steps.iter().position(|s| matches!(s.progress, Progress::Waiting | Progress::InDoubt))
    }

    /// It failed and could not be undone.
    pub fn is_stuck(&self) -> bool {
        self.outcome == Some(Outcome::Stuck)
    }
}

fn bad(why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Corrupt, format!("the journal cannot be right: {why}"))
}

/// The undo items that failed, with both errors.
pub fn left_over(state: &OpState) -> Vec<String> {
    state.undo_errors.iter().map(|e| format!("not undone: {}", e.message)).collect()
}

/// The command that finishes a stuck operation, and whose password it takes.
pub fn repair(state: &OpState) -> String {
    let mut failed = state.steps.iter().filter(|s| s.progress == Progress::UndoFailed);
    let account = failed.find_map(|s| match &s.step.undo {
        Undo::Do(effects) => effects.iter().find_map(Effect::account_of_undo),
        _ => None,
    });
    let how = account.map(|a| format!(" --password-stdin, with the password of {a}")).unwrap_or_default();
    format!("pve-smbgateway repair {}{how}", state.target)
}

/// What an administrator would type to finish the undo of a stuck operation, without us.
pub fn by_hand(state: &OpState) -> Vec<String> {
    let failed = state.steps.iter().rev().filter(|s| s.progress == Progress::UndoFailed);
    failed
        .flat_map(|s| match (&s.step.undo, &s.before) {
            (Undo::Do(effects), _) => effects.iter().map(ToString::to_string).collect::<Vec<_>>(),
            (Undo::Restore | Undo::RestoreThen(_), Some(b)) => {
                s.step.watch.restore(b).map(|e| vec![e.to_string()]).unwrap_or_default()
            }
            _ => Vec::new(),
        })
        .map(|t| t.strip_prefix("run ").map_or(t.clone(), str::to_owned))
        .collect()
}
