// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a test can let go wrong: each fault is armed once, hits once, and is gone. It knows when; it must not know what the
//! calls are for.

use crate::effect::{Cmd, Program};

/// How a machine, or our process on it, comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// The power goes: unsynced bytes, /run and every process are lost.
    PowerCut,
    /// Our process gets SIGKILL: everything else goes on, our children die with us.
    Kill,
}

/// What goes wrong at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails and has done nothing: an I/O error, for a command the end by SIGKILL before its first instruction.
    Fails,
    /// It has done its work and fails then: the nasty case.
    FailsAfter,
    /// Death before it did anything.
    Dies(Death),
    /// Death right after it did its work: nobody could write that down.
    DiesAfter(Death),
    /// Death within it: of the bytes of an append only so many were written. Other calls did nothing.
    DiesTorn(Death, usize),
}

/// What happens to a command that a test picked by its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It ends with this status and text and has done nothing.
    Exits(i32, String),
    /// It does its work and ends with this status and text all the same.
    ExitsAfter(i32, String),
    /// It hangs until it is ended, and does nothing.
    Hangs,
    /// It does its work, then hangs until it is ended.
    HangsAfter,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    /// By number of the acting call.
    calls: Vec<(u64, Fault)>,
    /// By number of the append.
    appends: Vec<(u64, Fault)>,
    /// The n-th command from now whose printed form contains the text.
    commands: Vec<(Program, String, u64, Trouble)>,
    /// Programs that always hang.
    pub hanging: Vec<Program>,
    /// What a container says instead of the answer to a question: container, how many questions later, the line.
    lies: Vec<(u32, u64, Vec<u8>)>,
}

impl Faults {
    pub fn at_call(&mut self, n: u64, fault: Fault) {
        self.calls.push((n, fault));
    }

    pub fn at_append(&mut self, n: u64, fault: Fault) {
        self.appends.push((n, fault));
    }

    pub fn at_command(&mut self, program: Program, text: &str, n: u64, trouble: Trouble) {
        self.commands.push((program, text.to_owned(), n, trouble));
    }

    pub fn lie(&mut self, vmid: u32, n: u64, line: Vec<u8>) {
        self.lies.push((vmid, n, line));
    }

    /// What a container says to this question, if it lies; used up.
    pub fn lie_due(&mut self, vmid: u32) -> Option<Vec<u8>> {
        let mut found = None;
        for (at, (who, left, _)) in self.lies.iter_mut().enumerate().filter(|(_, l)| l.0 == vmid) {
            debug_assert_eq!(*who, vmid);
            *left = left.saturating_sub(1);
            if *left == 0 && found.is_none() {
                found = Some(at);
            }
        }
        found.map(|at| self.lies.remove(at).2)
    }

    /// The fault of this call, if there is one; it is used up.
    pub fn due(&mut self, call: u64, append: Option<u64>) -> Option<Fault> {
        let take = |list: &mut Vec<(u64, Fault)>, n: u64| {
            let at = list.iter().position(|(when, _)| *when == n)?;
            Some(list.remove(at).1)
        };
        take(&mut self.calls, call).or_else(|| append.and_then(|n| take(&mut self.appends, n)))
    }

    /// The trouble of this command, if there is one; it is used up.
    pub fn command(&mut self, cmd: &Cmd) -> Option<Trouble> {
        let printed = cmd.to_string();
        let mut found = None;
        for (at, (program, text, left, _)) in self.commands.iter_mut().enumerate() {
            if *program == cmd.program && printed.contains(text.as_str()) {
                *left = left.saturating_sub(1);
                if *left == 0 && found.is_none() {
                    found = Some(at);
                }
            }
        }
        if let Some(at) = found {
            return Some(self.commands.remove(at).3);
        }
        self.hanging.contains(&cmd.program).then_some(Trouble::Hangs)
    }

    /// How many are armed and have not hit.
    pub fn armed(&self) -> usize {
        self.calls.len() + self.appends.len() + self.commands.len() + self.lies.len()
    }
}
