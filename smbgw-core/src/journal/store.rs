// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where journals are kept: `<state>/ops/<opid>.jsonl`, one file an operation, root only. It appends and syncs, reads back, sets damaged
//! files aside, and retires old ones. The audit trail is a reading of the same files.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::event::{Event, Line, Outcome};
use super::fold::{OpState, Progress};
use crate::error::{Error, Kind, Result};
use crate::host::Host;

/// Largest journal file that is read.
const LIMIT: u64 = 64 << 20;
/// Finished operations are kept this long (the audit trail), in milliseconds: 400 days.
const KEEP_MS: i64 = 400 * 86_400_000;
/// And at most so many.
const KEEP_FILES: usize = 20_000;

/// The directory of journals.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// One operation's journal, open for appending.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    state: OpState,
    /// Bytes of the file that hold the state.
    good: usize,
    /// An append failed: more than the good bytes may be in the file.
    suspect: bool,
}

/// A journal as found.
#[derive(Debug)]
pub struct Found {
    /// Operation id, from the file name.
    pub opid: String,
    /// All good lines.
    pub lines: Vec<Line>,
    /// What they mean, or why they cannot be trusted.
    pub state: Result<OpState>,
    /// It has a whole first line, good or not.
    pub began: bool,
    /// Bytes of all good lines, if no line is damaged.
    pub good: usize,
    /// Bytes of an unfinished last line.
    pub torn: usize,
}

impl Store {
    /// The store below a state directory. Touches nothing.
    pub fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("ops") }
    }

    fn path(&self, opid: &str) -> PathBuf {
        self.dir.join(format!("{opid}.jsonl"))
    }

    /// Begins a journal.
    pub fn open(&self, host: &dyn Host, event: Event) -> Result<Journal> {
        let Event::Opened { opid, .. } = &event else {
            return Err(Error::new(Kind::Internal, "a journal must begin with the opening of an operation"));
        };
        host.make_dir(&self.dir, 0o700)?;
        let path = self.path(opid);
        let line = Line { at: host.now_ms(), event };
        let bytes = line.encode();
        host.append(&path, bytes.as_bytes())?;
        Ok(Journal { path, state: OpState::fold([&line])?, good: bytes.len(), suspect: false })
    }

    /// Reopens the journal of an operation that is not over (or is stuck). A torn last line is cut off and kept beside the file.
    pub fn reopen(&self, host: &dyn Host, opid: &str) -> Result<Journal> {
        let found = self.read(host, opid)?.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no operation {opid}")))?;
        let state = match found.state {
            Ok(s) => s,
            Err(e) => {
                let aside = self.set_aside(host, opid)?;
                return Err(e.while_doing(format!("journal of operation {opid} (set aside as {})", aside.display())));
            }
        };
        if found.torn > 0 {
            self.cut_torn_tail(host, opid, found.good)?;
        }
        Ok(Journal { path: self.path(opid), state, good: found.good, suspect: false })
    }

    fn cut_torn_tail(&self, host: &dyn Host, opid: &str, good: usize) -> Result<()> {
        let path = self.path(opid);
        let Some(seen) = host.read(&path, LIMIT)? else { return Ok(()) };
        tracing::warn!(opid, bytes = seen.content.len() - good, "the last line of the journal is torn; it is set aside");
        host.append(&self.dir.join(format!("{opid}.torn")), &seen.content[good..])?;
        cut(host, path, good)
    }

    /// Renames a damaged journal so that it is never taken for a good one, and never lost.
    fn set_aside(&self, host: &dyn Host, opid: &str) -> Result<PathBuf> {
        let aside = self.dir.join(format!("{opid}.corrupt"));
        host.rename(&self.path(opid), &aside)?;
        tracing::error!(opid, path = %aside.display(), "a journal is damaged; it is set aside");
        Ok(aside)
    }

    /// Reads one journal.
    pub fn read(&self, host: &dyn Host, opid: &str) -> Result<Option<Found>> {
        if opid.is_empty() || opid.contains(['/', '.', '\0']) {
            return Err(Error::new(Kind::Invalid, format!("{:?} is no operation id", crate::types::shorten(opid))));
        }
        let Some(seen) = host.read(&self.path(opid), LIMIT)? else { return Ok(None) };
        Ok(Some(parse(opid, &seen.content)))
    }

    /// All operations, oldest first; the ids sort by time.
    pub fn ids(&self, host: &dyn Host) -> Result<Vec<String>> {
        Ok(host.list(&self.dir)?.iter().filter_map(|n| n.strip_suffix(".jsonl").map(str::to_owned)).collect())
    }

    /// Operations of a gateway that are not over, or are stuck, oldest first; and the damaged journals, in words. It only looks: whoever asks
    /// need not hold the gateway's lock, so an operation that is just beginning must not be disturbed.
    pub fn open_operations(&self, host: &dyn Host, gateway: &str) -> Result<(Vec<OpState>, Vec<String>)> {
        let (mut open, damaged) = self.look(host)?;
        open.retain(|o| o.gateway == gateway);
        Ok((open, damaged))
    }

    /// Open and stuck operations of all gateways.
    pub fn all_open(&self, host: &dyn Host) -> Result<Vec<OpState>> {
        Ok(self.look(host)?.0)
    }

    fn look(&self, host: &dyn Host) -> Result<(Vec<OpState>, Vec<String>)> {
        let (mut open, mut damaged) = (Vec::new(), Vec::new());
        // The mark of an open operation is a file of its own, so that this costs nothing when there are 20,000 finished ones.
        for name in host.list(&self.dir)? {
            if name.ends_with(".corrupt") {
                damaged.push(self.dir.join(&name).display().to_string());
            }
            let Some(opid) = name.strip_suffix(".open") else { continue };
            let Some(found) = self.read(host, opid)? else { continue };
            match found.state {
                Ok(s) if s.outcome.is_none() || s.is_stuck() => open.push(s),
                Err(e) if found.began => damaged.push(format!("{} ({e})", self.path(opid).display())),
                _ => {}
            }
        }
        Ok((open, damaged))
    }

    /// The gateways that have marks, of whatever worth.
    pub fn marked(&self, host: &dyn Host) -> Result<Vec<String>> {
        let marks = host.list(&self.dir)?.into_iter().filter(|n| n.ends_with(".open"));
        marks.map(|n| Ok(host.read_text(&self.dir.join(n))?.unwrap_or_default())).collect()
    }

    /// Sets damaged journals aside and takes marks away that mean nothing any more. Only for whoever holds the gateway's lock.
    pub fn tidy(&self, host: &dyn Host, gateway: &str) -> Result<()> {
        for name in host.list(&self.dir)? {
            let Some(opid) = name.strip_suffix(".open") else { continue };
            // Another gateway's may be just about to begin.
            let whose = host.read_text(&self.dir.join(&name))?.unwrap_or_default();
            if !whose.is_empty() && whose != gateway {
                continue;
            }
            match self.read(host, opid)? {
                Some(Found { state: Ok(s), .. }) if s.outcome.is_none() || s.is_stuck() => continue,
                Some(Found { state: Err(_), began: true, .. }) => drop(self.set_aside(host, opid)?),
                // Death in the very first line: nothing was done under it.
                Some(Found { state: Err(_), .. }) => host.remove(&self.path(opid))?,
                _ => {}
            }
            self.mark_closed(host, opid)?;
        }
        Ok(())
    }

    /// Gives up a journal that could not be begun; what cannot be removed is found by [`Store::tidy`].
    pub fn discard(&self, host: &dyn Host, opid: &str) {
        let removed = host.remove(&self.path(opid)).and_then(|()| self.mark_closed(host, opid));
        if let Err(e) = removed {
            tracing::warn!(opid, error = %e, "a journal that was never begun cannot be removed");
        }
    }

    /// Marks an operation of a gateway as open; done before its journal is begun, so that none is overlooked.
    pub fn mark_open(&self, host: &dyn Host, opid: &str, gateway: &str) -> Result<()> {
        host.make_dir(&self.dir, 0o700)?;
        host.append(&self.dir.join(format!("{opid}.open")), gateway.as_bytes())
    }

    /// Takes the mark away.
    pub fn mark_closed(&self, host: &dyn Host, opid: &str) -> Result<()> {
        host.remove(&self.dir.join(format!("{opid}.open")))
    }

    /// Removes finished operations that are older than the retention. Open ones stay for ever.
    pub fn retire(&self, host: &dyn Host) -> Result<usize> {
        let names = host.list(&self.dir)?;
        let ids: Vec<&str> = names.iter().filter_map(|n| n.strip_suffix(".jsonl")).collect();
        let surplus = ids.len().saturating_sub(KEEP_FILES);
        let oldest = host.now_ms() - KEEP_MS;
        let mut retired = 0;
        for (i, opid) in ids.iter().enumerate() {
            let old = time_of(opid).is_some_and(|at| at < oldest);
            if !(old || i < surplus) {
                break;
            }
            if !names.iter().any(|n| n.strip_suffix(".open") == Some(opid)) {
                host.remove(&self.path(opid))?;
                retired += 1;
            }
        }
        Ok(retired)
    }

    /// The audit trail, newest first: who asked for what, when, and what came of it, each undo included.
    pub fn audit(&self, host: &dyn Host, target: Option<&str>, since: i64, limit: usize) -> Result<Value> {
        let mut entries = Vec::new();
        for opid in self.ids(host)?.iter().rev() {
            if entries.len() >= limit || time_of(opid).is_some_and(|at| at < since) {
                break;
            }
            let Some(found) = self.read(host, opid)? else { continue };
            match found.state {
                Err(e) => entries.push(json!({"opid": opid, "result": "damaged", "error": e.to_string()})),
                Ok(s) => {
                    if target.is_none_or(|t| t == s.target) {
                        entries.push(audit_entry(&s, &found.lines));
                    }
                }
            }
        }
        Ok(Value::Array(entries))
    }
}

/// The time in an operation id (hex milliseconds before the dash).
fn time_of(opid: &str) -> Option<i64> {
    i64::from_str_radix(opid.split('-').next()?, 16).ok()
}

/// A new operation id: sorts by time.
pub fn new_opid(host: &dyn Host) -> Result<String> {
    let mut random = [0_u8; 4];
    host.random(&mut random)?;
    let tail: String = random.iter().map(|b| format!("{b:02x}")).collect();
    Ok(format!("{:012x}-{tail}", host.now_ms()))
}

fn audit_entry(s: &OpState, lines: &[Line]) -> Value {
    let result = match s.outcome {
        Some(Outcome::Done) => "done",
        Some(Outcome::Undone) => "undone",
        Some(Outcome::Stuck) => "stuck",
        None => "open",
    };
    let name = |n: &usize| s.steps.get(*n).map(|st| st.step.id.clone());
    let undone: Vec<Value> = lines
        .iter()
        .filter_map(|l| match &l.event {
            Event::UndoDone { step, changed } => {
                Some(json!({"at": l.at, "step": name(step), "result": if *changed { "undone" } else { "nothing to undo" }}))
            }
            Event::UndoFailed { step, error } => {
                Some(json!({"at": l.at, "step": name(step), "result": "failed", "error": error.message}))
            }
            _ => None,
        })
        .collect();
    let actors: Vec<Value> = lines
        .iter()
        .filter_map(|l| match &l.event {
            Event::Resumed { actor, unwind, .. } => {
                Some(json!({"at": l.at, "actor": actor, "what": if *unwind { "undo" } else { "resume" }}))
            }
            Event::Interrupted { why } => Some(json!({"at": l.at, "what": "interrupted", "why": why})),
            _ => None,
        })
        .collect();
    json!({
        "opid": s.opid, "at": s.opened, "until": s.last, "actor": s.actor, "op": s.op, "target": s.target, "gateway": s.gateway,
        "result": result, "error": s.error.as_ref().map(|e| e.message.clone()),
        "changed": s.steps.iter().filter(|st| st.progress == Progress::Done && st.before != st.after).map(|st| st.step.id.clone()).collect::<Vec<_>>(),
        "undo": undone, "resumed": actors,
    })
}

/// Keeps the first `good` bytes of a journal.
fn cut(host: &dyn Host, path: PathBuf, good: usize) -> Result<()> {
    let Some(seen) = host.read(&path, LIMIT)? else { return Ok(()) };
    if seen.content.len() <= good {
        return Ok(());
    }
    let content = String::from_utf8_lossy(&seen.content[..good]).into_owned();
    host.write(&crate::effect::FileSpec { path, content, mode: 0o600, uid: seen.uid, gid: seen.gid })
}

fn parse(opid: &str, bytes: &[u8]) -> Found {
    let end = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |p| p + 1);
    let (whole, tail) = bytes.split_at(end);
    let mut lines = Vec::new();
    let mut damage = None;
    for (n, raw) in whole.split(|b| *b == b'\n').enumerate() {
        if raw.is_empty() && n + 1 == whole.split(|b| *b == b'\n').count() {
            continue;
        }
        match std::str::from_utf8(raw).ok().and_then(Line::decode) {
            Some(l) => lines.push(l),
            None => {
                damage = Some(Error::new(Kind::Corrupt, format!("line {} of the journal is damaged", n + 1)));
                break;
            }
        }
    }
    let state = damage.map_or_else(|| OpState::fold(&lines), Err);
    Found { opid: opid.to_owned(), lines, state, began: !whole.is_empty(), good: whole.len(), torn: tail.len() }
}

impl Journal {
    /// The state so far.
    pub fn state(&self) -> &OpState {
        &self.state
    }

    /// Writes an event down; when it returns, the event is on stable storage and in the state.
    pub fn write(&mut self, host: &dyn Host, event: Event) -> Result<()> {
        self.put(host, event, true)
    }

    /// Writes an event that only matters if we die and the machine does not.
    pub fn note(&mut self, host: &dyn Host, event: Event) -> Result<()> {
        self.put(host, event, false)
    }

    fn put(&mut self, host: &dyn Host, event: Event, sync: bool) -> Result<()> {
        let line = Line { at: host.now_ms(), event };
        // First on a copy: an event that cannot be right must not reach the file.
        let mut next = self.state.clone();
        next.apply(&line).map_err(|e| e.as_kind(Kind::Internal))?;
        let bytes = line.encode();
        if self.suspect {
            // The line that failed may be there in part or whole; it did not happen.
            cut(host, self.path.clone(), self.good)?;
            self.suspect = false;
        }
        let written =
            if sync { host.append(&self.path, bytes.as_bytes()) } else { host.append_lazily(&self.path, bytes.as_bytes()) };
        if let Err(e) = written {
            self.suspect = true;
            return Err(e);
        }
        self.good += bytes.len();
        self.state = next;
        Ok(())
    }
}
