// SPDX-License-Identifier: MIT OR Apache-2.0
//! The events of an operation and their line form. A line is the first eight hex digits of the SHA-256 of the JSON, a blank, the
//! JSON, a line feed: a torn or changed line cannot pass for a good one. It must not know where lines are kept.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::ErrorDoc;
use crate::host::ProcessId;
use crate::plan::step::{Seen, Step};
use crate::types::sha256_hex;

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Everything was done.
    Done,
    /// It failed or was given up, and everything it had done was undone.
    Undone,
    /// It failed, and undoing failed as well.
    Stuck,
}

/// Something that happened. Steps are counted through the whole operation, over all phases and plans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The operation was accepted.
    Opened {
        /// Its id: time and a random part, sortable.
        opid: String,
        /// `share.create` and so on.
        op: String,
        /// Gateway.
        gateway: String,
        /// Share or account.
        target: String,
        /// Who asked.
        actor: String,
        /// All parameters, without secrets.
        params: Value,
        /// The process that runs it.
        process: ProcessId,
    },
    /// A phase was planned. Planned again, the new steps replace those of this phase that were not begun.
    Planned {
        /// Name of the phase.
        phase: String,
        /// Number of the first of these steps.
        first: usize,
        /// The steps.
        steps: Vec<Step>,
    },
    /// A step is about to act.
    Begun {
        /// Which.
        step: usize,
        /// What was seen just before. A repeat keeps the first one.
        seen: Seen,
    },
    /// A process was started for the step.
    Child {
        /// Which.
        step: usize,
        /// The process.
        process: ProcessId,
    },
    /// A step is done.
    Done {
        /// Which.
        step: usize,
        /// What is seen now.
        seen: Seen,
        /// How long it took.
        ms: u64,
    },
    /// A step failed.
    Failed {
        /// Which; `None`: planning the phase failed.
        step: Option<usize>,
        /// Why.
        error: ErrorDoc,
    },
    /// The undo of a step is about to act.
    UndoBegun {
        /// Which.
        step: usize,
    },
    /// The undo of a step is done.
    UndoDone {
        /// Which.
        step: usize,
        /// Whether anything had to be done.
        changed: bool,
    },
    /// The undo of a step failed.
    UndoFailed {
        /// Which.
        step: usize,
        /// Why.
        error: ErrorDoc,
    },
    /// The process that ran it gave up its place; somebody else will go on.
    Interrupted {
        /// Why.
        why: String,
    },
    /// Somebody goes on with it.
    Resumed {
        /// The process that does.
        process: ProcessId,
        /// Who asked.
        actor: String,
        /// Everything is being undone rather than finished.
        unwind: bool,
    },
    /// It is over.
    Finished {
        /// How.
        outcome: Outcome,
        /// What it gave.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        result: Value,
    },
}

/// An event with its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Milliseconds since the epoch.
    pub at: i64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl Line {
    /// The bytes of the line, line feed included.
    pub fn encode(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{} {json}\n", &sha256_hex(json.as_bytes())[..8])
    }

    /// Reads one line without its line feed; `None` if it is damaged.
    pub fn decode(text: &str) -> Option<Self> {
        let (sum, json) = text.split_at_checked(8)?;
        let json = json.strip_prefix(' ')?;
        if sha256_hex(json.as_bytes())[..8] != *sum {
            return None;
        }
        serde_json::from_str(json).ok()
    }
}
