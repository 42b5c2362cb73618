// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is kept between two scrapes: which alerts there are and how long others have been on their way, silences, what was told and what
//! waits for its delivery. It is a small JSON document. It must not know how anything is judged, nor where it lies.
//!
//! **Damage.** What can be read of a damaged document is kept. What cannot is reported by [`State::read`], and for ten minutes nothing new is
//! told singly: then one event (`alerts-lost`) names everything that is active, so that a lost record does not raise each alert once more.
//!
//! **Delivery.** An event that has to be told waits here with a mark for each sink. [`State::take`] hands out what is due and counts the
//! attempt, so that something that ends its deliverer is not tried for ever; [`State::delivered`] takes the marks off. Events of one sink
//! stay in order. After [`MOST_ATTEMPTS`] attempts (about seven hours) one is given up, and counted.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::Scope;
use super::code::{Code, Severity};
use super::config::{MOST_STEPS, Sink};
use super::reading::Subject;
use crate::error::{Error, Kind, Problem, Result};
use crate::types::shorten;

/// Attempts to deliver one event to one sink.
pub const MOST_ATTEMPTS: u32 = 12;

/// The longest pause between two attempts.
pub const LONGEST_PAUSE_MS: i64 = 3_600_000;

/// Events that wait at most; the oldest are given up.
pub const MOST_WAITING: usize = 500;

/// Events that are handed out at once.
const MOST_DUE: usize = 50;

/// Alerts that ended and are remembered.
const MOST_ENDED: usize = 100;

/// Silences at most, and how long one may last.
const MOST_SILENCES: usize = 200;
const LONGEST_SILENCE_MS: i64 = 366 * 86_400_000;

/// How long nothing is told singly after damage.
pub const SETTLE_MS: i64 = 600_000;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Happening {
    /// There is an alert.
    Raise,
    /// It went over the next threshold.
    Rise,
    /// It is well again.
    Clear,
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Unique; one that comes twice is the same.
    pub id: String,
    /// What happened.
    pub event: Happening,
    /// The code.
    pub code: Code,
    /// How bad it is; of a clear, how bad it was.
    pub severity: Severity,
    /// What it is about.
    pub scope: Scope,
    /// Storage id, gateway, node.
    pub object: String,
    /// The node.
    pub node: String,
    /// When it was seen, in milliseconds since the epoch.
    pub at: i64,
    /// Since when there is the alert.
    pub since: i64,
    /// The value, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The threshold that it went over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// What both count.
    #[serde(default)]
    pub unit: String,
    /// One line.
    pub title: String,
    /// What was seen.
    pub text: String,
    /// What it means.
    pub means: String,
    /// What helps.
    pub remedy: String,
}

/// An alert that is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Thresholds that it is over.
    pub level: usize,
    /// Those that were told; less than `level` while a silence holds.
    pub told: usize,
    /// How bad it is.
    pub severity: Severity,
    /// The worst that was told.
    pub worst: Severity,
    /// Since when, in milliseconds since the epoch.
    pub since: i64,
    /// When it was last judged by a known value.
    pub seen: i64,
    /// The last known value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// What was seen.
    pub text: String,
}

/// What is known of a subject. Times are counted, not noted, so that a clock that jumps changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Track {
    /// For how long, in milliseconds, the value has been over each threshold, or, of those that it was told over, well below it.
    #[serde(default)]
    pub held: [Option<i64>; MOST_STEPS],
    /// Nobody knew the value at the last scrape.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub blind: bool,
    /// For how long the subject has been missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<i64>,
    /// A rate, smoothed, in thousandths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smooth: Option<i64>,
    /// The alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<Alert>,
}

/// Nothing of some alerts is told for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Its name.
    pub id: String,
    /// Which codes: a code, or a pattern with `*` and `?`.
    pub code: String,
    /// Which objects: a name or pattern, with `share:`, `gateway:` or `node:` in front to mean one kind.
    pub object: String,
    /// From when, in milliseconds since the epoch.
    pub from: i64,
    /// Until when.
    pub until: i64,
    /// Who wanted it.
    #[serde(default)]
    pub by: String,
    /// Why.
    #[serde(default)]
    pub comment: String,
}

impl Silence {
    fn covers(&self, subject: &Subject, now_ms: i64) -> bool {
        let (kind, object) = self.object.split_once(':').map_or((None, self.object.as_str()), |(k, o)| (Some(k), o));
        now_ms < self.until
            && kind.is_none_or(|k| k == subject.scope.name())
            && matches(&self.code, subject.code.word())
            && matches(object, &subject.object)
    }
}

/// An alert that is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Which.
    pub code: Code,
    /// Of what.
    pub scope: Scope,
    /// Of what.
    pub object: String,
    /// From when, in milliseconds since the epoch.
    pub since: i64,
    /// Until when.
    pub until: i64,
    /// The worst that it was.
    pub severity: Severity,
    /// How it ended: `cleared`, `gone` (what it was about is not there any more), `off` (it is not judged any more).
    pub how: String,
}

/// An event on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Waiting {
    pub event: Event,
    /// Of each sink that has not got it: attempts, and when the next is due.
    pub to: BTreeMap<String, (u32, i64)>,
}

/// How a sink does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Events that it got.
    #[serde(default)]
    pub sent: u64,
    /// Events that were given up.
    #[serde(default)]
    pub lost: u64,
    /// Why the last attempt failed; it worked: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Since when it fails, in milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
}

/// What is to be delivered now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Due {
    /// The event.
    pub event: Event,
    /// To whom.
    pub sinks: Vec<&'static str>,
}

/// How a delivery came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The event's id.
    pub id: String,
    /// The sink.
    pub sink: String,
    /// It was told.
    pub sent: bool,
    /// Nothing was tried, because an earlier event to the same sink failed: the attempt does not count.
    #[serde(default)]
    pub untried: bool,
    /// This machine has no such sink (Proxmox's notifications on plain Debian): it need not be told.
    #[serde(default)]
    pub absent: bool,
    /// Why it was not told.
    #[serde(default)]
    pub why: String,
}

/// What is asked of a new silence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Codes; none: all.
    pub code: Option<String>,
    /// Objects; none: all.
    pub object: Option<String>,
    /// Until when, in milliseconds since the epoch.
    pub until: i64,
    /// Who.
    pub by: String,
    /// Why.
    pub comment: String,
}

/// Everything that is kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    pub(super) seq: u64,
    /// When it was last judged, by whatever clock there was.
    pub(super) at: Option<i64>,
    /// The scrape that was judged.
    pub(super) scrape: Option<i64>,
    /// The usual time between two.
    pub(super) step: i64,
    pub(super) tracks: BTreeMap<Subject, Track>,
    pub(super) silences: Vec<Silence>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) sinks: BTreeMap<String, Health>,
    pub(super) ended: Vec<Ended>,
    /// After damage: for how long nothing is told singly yet.
    pub(super) settle: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    scope: Scope,
    object: String,
    code: Code,
    #[serde(flatten)]
    track: Track,
}

impl State {
    /// Reads what was kept; nothing was kept: `None`. The second is what is wrong with it; see the head.
    pub fn read(text: Option<&str>) -> (Self, Option<String>) {
        let Some(text) = text else { return (Self::default(), None) };
        let lost = |why: String| (Self { settle: Some(SETTLE_MS), ..Self::default() }, Some(why));
        let doc = match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(doc)) => doc,
            Ok(_) => return lost("the record of alerts is no object; it is begun anew".into()),
            Err(e) => return lost(format!("the record of alerts is no JSON ({e}); it is begun anew")),
        };
        if doc.get("version").and_then(Value::as_u64) != Some(1) {
            return lost("the record of alerts has an unknown version; it is begun anew".into());
        }
        let mut bad = 0usize;
        let lines: Vec<Line> = list(doc.get("tracks"), &mut bad);
        let mut state = Self {
            seq: doc.get("seq").and_then(Value::as_u64).unwrap_or_default(),
            at: doc.get("at").and_then(Value::as_i64),
            scrape: doc.get("scrape").and_then(Value::as_i64),
            step: doc.get("step").and_then(Value::as_i64).unwrap_or_default(),
            tracks: lines.into_iter().map(|l| (Subject { scope: l.scope, object: l.object, code: l.code }, l.track)).collect(),
            silences: list(doc.get("silences"), &mut bad),
            waiting: list(doc.get("waiting"), &mut bad),
            sinks: doc.get("sinks").and_then(|s| serde_json::from_value(s.clone()).ok()).unwrap_or_default(),
            ended: list(doc.get("ended"), &mut bad),
            settle: doc.get("settle").and_then(Value::as_i64),
        };
        if bad == 0 {
            return (state, None);
        }
        state.settle = Some(SETTLE_MS);
        (state, Some(format!("{bad} entries of the record of alerts cannot be read and are left out")))
    }

    /// What is to be kept.
    pub fn to_json(&self) -> String {
        let line = |(s, t): (&Subject, &Track)| Line { scope: s.scope, object: s.object.clone(), code: s.code, track: t.clone() };
        let doc = json!({
            "version": 1, "seq": self.seq, "at": self.at, "scrape": self.scrape, "step": self.step, "settle": self.settle,
            "tracks": self.tracks.iter().map(line).collect::<Vec<_>>(), "silences": self.silences, "waiting": self.waiting,
            "sinks": self.sinks, "ended": self.ended,
        });
        doc.to_string()
    }

    /// Alerts that are there, the worst first.
    pub fn alerts(&self) -> Vec<(&Subject, &Alert)> {
        let mut all: Vec<_> = self.tracks.iter().filter_map(|(s, t)| Some((s, t.alert.as_ref()?))).collect();
        all.sort_by_key(|(s, a)| (std::cmp::Reverse(a.severity), *s));
        all
    }

    /// Silences that hold, and those that ended not long ago are not among them.
    pub fn silences(&self, now_ms: i64) -> Vec<&Silence> {
        self.silences.iter().filter(|s| now_ms < s.until).collect()
    }

    /// Whether nothing is told of a subject.
    pub(super) fn is_silenced(&self, subject: &Subject, now_ms: i64) -> bool {
        self.silences.iter().any(|s| s.covers(subject, now_ms))
    }

    /// For people and programs: `{at, settling, alerts, silences, waiting, sinks, ended}`.
    pub fn document(&self, now_ms: i64) -> Value {
        let alerts = self.alerts().into_iter().map(|(s, a)| {
            json!({
                "code": s.code, "scope": s.scope, "object": s.object, "severity": a.severity, "since": a.since, "seen": a.seen,
                "value": a.value, "unit": s.code.measure().unit(), "text": a.text, "silenced": self.is_silenced(s, now_ms),
                "told": a.told == a.level, "means": s.code.means(), "remedy": s.code.remedy().replace("{}", &s.object),
            })
        });
        json!({
            "at": self.at, "settling": self.settle.is_some(), "alerts": alerts.collect::<Vec<_>>(), "silences": self.silences(now_ms),
            "waiting": self.waiting.len(), "sinks": self.sinks, "ended": self.ended,
        })
    }

    /// Adds a silence. Everything that is wrong with it at once.
    pub fn silence(&mut self, wanted: &Wanted, now_ms: i64) -> Result<Silence> {
        let code = wanted.code.clone().filter(|c| !c.is_empty()).unwrap_or_else(|| "*".into());
        let object = wanted.object.clone().filter(|o| !o.is_empty()).unwrap_or_else(|| "*".into());
        let mut wrong = Vec::new();
        if !Code::ALL.iter().any(|c| matches(&code, c.word())) {
            wrong.push(Problem::new("code", format!("{:?} is no code of an alert, and no pattern of any", shorten(&code))));
        }
        if object.len() > 128 || object.chars().any(|c| c.is_control() || c.is_whitespace()) {
            wrong.push(Problem::new("object", "a name or pattern of up to 128 characters without blanks"));
        }
        if let Some((kind, _)) = object.split_once(':').filter(|(k, _)| !["share", "gateway", "node"].contains(k)) {
            wrong.push(Problem::new("object", format!("{:?} is none of share, gateway, node", shorten(kind))));
        }
        if wanted.until <= now_ms {
            wrong.push(Problem::new("until", "is over already"));
        } else if wanted.until - now_ms > LONGEST_SILENCE_MS {
            wrong.push(Problem::new("until", "is more than a year away; what is never to be told is switched off in the rules"));
        }
        for (name, text) in [("comment", &wanted.comment), ("by", &wanted.by)] {
            if text.chars().count() > 256 || text.chars().any(char::is_control) {
                wrong.push(Problem::new(name, "one line of up to 256 characters"));
            }
        }
        // What ended makes room.
        self.silences.retain(|s| now_ms < s.until);
        if self.silences.len() >= MOST_SILENCES {
            wrong.push(Problem::new("silence", format!("there are {MOST_SILENCES} already; end some, or use a pattern")));
        }
        if !wrong.is_empty() {
            return Err(Error::invalid("silence", wrong));
        }
        let id = format!("s{}", self.next());
        let silence = Silence {
            id,
            code,
            object,
            from: now_ms,
            until: wanted.until,
            by: wanted.by.clone(),
            comment: wanted.comment.clone(),
        };
        self.silences.push(silence.clone());
        Ok(silence)
    }

    /// Ends a silence before its time.
    pub fn unsilence(&mut self, id: &str) -> Result<Silence> {
        let at = self.silences.iter().position(|s| s.id == id);
        let at = at.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no silence {:?}", shorten(id))))?;
        Ok(self.silences.remove(at))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Notes that an event has to be told.
    pub(super) fn post(&mut self, event: &Event, sinks: &[Sink]) {
        if sinks.is_empty() {
            return;
        }
        let to = sinks.iter().map(|s| (s.name().to_owned(), (0, 0))).collect();
        self.waiting.push(Waiting { event: event.clone(), to });
        let over = self.waiting.len().saturating_sub(MOST_WAITING);
        for w in self.waiting.drain(..over).collect::<Vec<_>>() {
            for sink in w.to.keys() {
                self.sinks.entry(sink.clone()).or_default().lost += 1;
            }
        }
    }

    /// Hands out what is due, oldest first, and counts the attempt: keep the state before anything is delivered.
    pub fn take(&mut self, now_ms: i64) -> Vec<Due> {
        let mut all: Vec<Due> = Vec::new();
        // What an earlier event still waits for is not overtaken.
        let mut behind: BTreeSet<String> = BTreeSet::new();
        for w in &mut self.waiting {
            let mut sinks = Vec::new();
            for (name, (attempts, next)) in &mut w.to {
                let Some(sink) = Sink::parse(name) else { continue };
                // A time that is further away than any pause is that of a clock that was put back.
                let due = *next <= now_ms || *next - now_ms > LONGEST_PAUSE_MS;
                if !due || all.len() >= MOST_DUE {
                    behind.insert(name.clone());
                }
                // One whose attempts are used up is given up by `delivered`.
                if !behind.contains(name) && *attempts < MOST_ATTEMPTS {
                    *attempts += 1;
                    *next = now_ms + pause(*attempts);
                    sinks.push(sink.name());
                }
            }
            if !sinks.is_empty() {
                all.push(Due { event: w.event.clone(), sinks });
            }
        }
        all
    }

    /// Takes in how deliveries came out. Answers with what is worth a line in the log: a sink that fails is told once, and once when it works
    /// again.
    pub fn delivered(&mut self, outcomes: &[Outcome], now_ms: i64) -> Vec<String> {
        let mut notes = Vec::new();
        for o in outcomes {
            let Some(w) = self.waiting.iter_mut().find(|w| w.event.id == o.id) else { continue };
            let Some((attempts, next)) = w.to.get_mut(&o.sink) else { continue };
            if o.untried {
                *attempts = attempts.saturating_sub(1);
                *next = now_ms;
                continue;
            }
            let health = self.sinks.entry(o.sink.clone()).or_default();
            if o.absent {
                w.to.remove(&o.sink);
                *health = Health { sent: health.sent, lost: health.lost, why: Some(o.why.clone()), since: None };
                continue;
            }
            if o.sent {
                w.to.remove(&o.sink);
                health.sent += 1;
                health.why = None;
                if health.since.take().is_some() {
                    notes.push(format!("{}: alerts can be told again", o.sink));
                }
                continue;
            }
            if health.since.is_none() {
                health.since = Some(now_ms);
                notes.push(format!("{}: an alert could not be told, it is tried again: {}", o.sink, o.why));
            }
            health.why = Some(o.why.clone());
            if *attempts >= MOST_ATTEMPTS {
                w.to.remove(&o.sink);
                health.lost += 1;
                notes.push(format!("{}: given up after {MOST_ATTEMPTS} attempts: {}", o.sink, w.event.title));
            }
        }
        // Whoever never says how it came out has had its attempts as well.
        for w in &mut self.waiting {
            let given_up: Vec<String> =
                w.to.iter().filter(|(_, (n, next))| *n >= MOST_ATTEMPTS && *next <= now_ms).map(|(s, _)| s.clone()).collect();
            for sink in given_up {
                w.to.remove(&sink);
                self.sinks.entry(sink.clone()).or_default().lost += 1;
                notes.push(format!("{sink}: given up after {MOST_ATTEMPTS} attempts: {}", w.event.title));
            }
        }
        self.waiting.retain(|w| !w.to.is_empty());
        notes
    }

    pub(super) fn end(&mut self, subject: &Subject, alert: &Alert, how: &str, now_ms: i64) {
        self.ended.push(Ended {
            code: subject.code,
            scope: subject.scope,
            object: subject.object.clone(),
            since: alert.since,
            until: now_ms,
            severity: alert.worst,
            how: how.into(),
        });
        let over = self.ended.len().saturating_sub(MOST_ENDED);
        self.ended.drain(..over);
    }
}

/// Each of a list that can be read; others are counted.
fn list<T: serde::de::DeserializeOwned>(value: Option<&Value>, bad: &mut usize) -> Vec<T> {
    let all = match value {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Array(all)) => all,
        Some(_) => {
            *bad += 1;
            return Vec::new();
        }
    };
    let read: Vec<T> = all.iter().filter_map(|v| T::deserialize(v).ok()).collect();
    *bad += all.len() - read.len();
    read
}

/// The pause after so many attempts: a minute, twice as long each time.
fn pause(attempts: u32) -> i64 {
    (60_000i64 << attempts.saturating_sub(1).min(10)).min(LONGEST_PAUSE_MS)
}

/// Whether a text is as a pattern with `*` and `?` says.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                // Give the last star one character more.
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                t = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}
