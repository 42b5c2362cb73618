// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state machine. Each threshold of a rule is told over when the value has been over it for the rule's time, and well again when the
//! value has been better than it by the rule's margin for the rule's other time. An alert is there while it is over any; that it comes, that
//! it goes over a further threshold and that it ends are one event each.
//!
//! - **Unknown** values change nothing, and time without a value does not count. That a source has no figures is an alert of its own.
//! - **Time** is what passed between two scrapes that both had the value, and never much more than usual passes between two: a clock that
//!   jumps, or a stop of the collector, counts as one ordinary step; one that goes back as nothing.
//! - **What is gone** for two minutes ends its alert without an event, and is remembered as gone. Two minutes, because a scrape that could not
//!   read the list of shares must not end all alerts.
//! - **A silence** keeps events back. What is still there at its end is told then; what ended under it never was.
//! - The end of something that was told is told, also under a silence, so that nobody waits for it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::forecast::Forecast;
use super::super::{Scope, Scrape};
use super::code::{Code, Measure, Severity};
use super::config::{Config, MOST_STEPS, Rule};
use super::reading::{Look, Reading, Subject, number};
use super::state::{Alert, Event, Happening, State, Track};

/// What is judged.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The scrape.
    pub scrape: &'a Scrape,
    /// Forecasts by share.
    pub trends: &'a BTreeMap<String, Forecast>,
    /// By gateway why its membership does not work, as its status says: the reason's code and the evidence.
    pub reasons: &'a BTreeMap<String, String>,
}

/// The usual time between two scrapes, until it is known.
const STEP_MS: i64 = 10_000;

/// What is missing for so long is gone.
const GONE_MS: i64 = 120_000;

/// Refused log-ins come in bursts: their rate is smoothed by so many milliseconds.
const SMOOTH_MS: f64 = 60_000.0;

/// Judges a scrape: the new state, and what is to be told. Events wait in the state for their delivery. A scrape that was judged already
/// changes nothing.
pub fn judge(config: &Config, seen: &Seen<'_>, state: &State, now_ms: i64) -> (State, Vec<Event>) {
    let mut new = state.clone();
    if state.scrape == Some(seen.scrape.at) && state.at.is_some() {
        return (new, Vec::new());
    }
    let passed = passed(&mut new, now_ms);
    new.scrape = Some(seen.scrape.at);
    let look = Look::new(seen, now_ms);
    let mut machine =
        Machine { config, look: &look, node: &seen.scrape.node, passed, now_ms, old: state, new, events: Vec::new() };
    let mut tracks = std::mem::take(&mut machine.new.tracks);
    let mut kept = BTreeMap::new();
    for (subject, reading) in look.subjects() {
        let track = tracks.remove(&subject).unwrap_or_default();
        if let Some(track) = machine.one(&subject, reading, track) {
            kept.insert(subject, track);
        }
    }
    for (subject, track) in tracks {
        if let Some(track) = machine.gone(&subject, track) {
            kept.insert(subject, track);
        }
    }
    machine.new.tracks = kept;
    machine.settle();
    (machine.new, machine.events)
}

/// How much time counts.
fn passed(state: &mut State, now_ms: i64) -> i64 {
    let Some(before) = state.at.replace(now_ms) else {
        state.step = STEP_MS;
        return 0;
    };
    let dt = now_ms.saturating_sub(before);
    if dt <= 0 {
        return 0;
    }
    let most = (2 * state.step).max(STEP_MS);
    state.step = dt;
    if dt > most { most / 2 } else { dt }
}

struct Machine<'a> {
    config: &'a Config,
    look: &'a Look<'a>,
    node: &'a str,
    passed: i64,
    now_ms: i64,
    /// Silences are those of before; judging adds none.
    old: &'a State,
    new: State,
    events: Vec<Event>,
}

impl Machine<'_> {
    /// Judges one subject; nothing worth keeping: `None`.
    fn one(&mut self, subject: &Subject, reading: Reading, mut track: Track) -> Option<Track> {
        let rule = self.config.rule(subject.code, subject.scope, &subject.object);
        track.gone = None;
        if !rule.on {
            if let Some(alert) = track.alert {
                self.new.end(subject, &alert, "off", self.now_ms);
            }
            return None;
        }
        let value = match reading {
            Reading::Unknown => {
                track.blind = true;
                return is_worth_it(&track).then_some(track);
            }
            Reading::Well => None,
            Reading::Value(v) => Some(round(if subject.code == Code::Logins { self.smooth(&mut track, v) } else { v })),
        };
        // What was unknown between is no time that held.
        let passed = if std::mem::take(&mut track.blind) { 0 } else { self.passed };
        let before = track.alert.as_ref().map_or(0, |a| a.level);
        let level = advance(subject.code, &rule, value, before, passed, &mut track.held);
        self.settle_level(subject, &rule, value, level, &mut track);
        is_worth_it(&track).then_some(track)
    }

    fn smooth(&self, track: &mut Track, value: f64) -> f64 {
        let old = track.smooth.unwrap_or_default() as f64 / 1000.0;
        // At the first look an ordinary step has passed.
        let passed = if self.passed > 0 { self.passed } else { STEP_MS };
        let new = old + (value - old) * (1.0 - (-(passed as f64) / SMOOTH_MS).exp());
        let thousandths = (new * 1000.0).round() as i64;
        track.smooth = Some(thousandths).filter(|t| *t > 0);
        thousandths as f64 / 1000.0
    }

    /// From the level that is, the alert and its events.
    fn settle_level(&mut self, subject: &Subject, rule: &Rule, value: Option<f64>, level: usize, track: &mut Track) {
        let Some(severity) = level.checked_sub(1).and_then(|i| rule.steps.get(i)).map(|s| s.1) else {
            if let Some(alert) = track.alert.take() {
                self.new.end(subject, &alert, "cleared", self.now_ms);
                if alert.told > 0 {
                    self.tell(subject, Happening::Clear, &Alert { value, severity: alert.worst, ..alert }, None);
                }
            }
            return;
        };
        let text = self.look.text(subject, value);
        let mut alert = match track.alert.take() {
            Some(a) => Alert { level, severity, seen: self.now_ms, value, text, told: a.told.min(level), ..a },
            None => Alert { level, told: 0, severity, worst: severity, since: self.now_ms, seen: self.now_ms, value, text },
        };
        alert.worst = alert.worst.max(severity);
        if alert.told < level && self.new.settle.is_none() && !self.old.is_silenced(subject, self.now_ms) {
            let happening = if alert.told == 0 { Happening::Raise } else { Happening::Rise };
            self.tell(subject, happening, &alert, rule.steps.get(level - 1).map(|s| s.0));
            alert.told = level;
        }
        track.alert = Some(alert);
    }

    /// What was there and is not in this scrape.
    fn gone(&mut self, subject: &Subject, mut track: Track) -> Option<Track> {
        let alert = track.alert.as_ref()?;
        let gone = track.gone.map_or(0, |g| g + self.passed);
        if gone >= GONE_MS {
            self.new.end(subject, alert, "gone", self.now_ms);
            return None;
        }
        track.gone = Some(gone);
        track.blind = true;
        Some(track)
    }

    fn tell(&mut self, subject: &Subject, happening: Happening, alert: &Alert, threshold: Option<f64>) {
        let text = match happening {
            Happening::Clear => self.look.text(subject, alert.value),
            _ => alert.text.clone(),
        };
        let measure = subject.code.measure();
        let is_state = measure == Measure::State;
        let word = if happening == Happening::Clear { "well again" } else { alert.severity.as_str() };
        let event = Event {
            id: format!("{}-{}-{}", subject.code.word(), self.now_ms, self.new.next()),
            event: happening,
            code: subject.code,
            severity: alert.severity,
            scope: subject.scope,
            object: subject.object.clone(),
            node: self.node.to_owned(),
            at: self.now_ms,
            since: alert.since,
            value: alert.value.filter(|_| !is_state),
            threshold: threshold.filter(|_| !is_state),
            unit: measure.unit().into(),
            title: format!("{word}: {} {}: {text}", subject.scope.name(), subject.object),
            text,
            means: subject.code.means().into(),
            remedy: subject.code.remedy().replace("{}", &subject.object),
        };
        self.new.post(&event, &self.config.sinks_for(alert.worst));
        self.events.push(event);
    }

    /// After damage: at the end of the quiet time one event names all that is there.
    fn settle(&mut self) {
        let Some(left) = self.new.settle.map(|s| s - self.passed) else { return };
        self.new.settle = Some(left).filter(|l| *l > 0);
        if left > 0 {
            return;
        }
        let mut active = Vec::new();
        let mut worst = Severity::Warning;
        for (subject, track) in &mut self.new.tracks {
            let Some(alert) = track.alert.as_mut() else { continue };
            if self.old.is_silenced(subject, self.now_ms) {
                continue;
            }
            alert.told = alert.level;
            worst = worst.max(alert.severity);
            active.push(format!("{} {} ({}): {}", subject.scope.name(), subject.object, subject.code.word(), alert.text));
        }
        let subject = Subject { scope: Scope::Node, object: self.node.to_owned(), code: Code::AlertsLost };
        let text = match active.len() {
            0 => "the record of alerts was begun anew; none is active".to_owned(),
            n => format!("the record of alerts was begun anew; {n} active: {}", active.join("; ")),
        };
        let alert = Alert { level: 1, told: 1, severity: worst, worst, since: self.now_ms, seen: self.now_ms, value: None, text };
        self.tell(&subject, Happening::Raise, &alert, None);
    }
}

/// Nothing is kept of what is well, nor of what was never known.
fn is_worth_it(track: &Track) -> bool {
    track.alert.is_some() || track.smooth.is_some() || track.held.iter().any(Option::is_some)
}

/// Three decimals, so that a value is the same after it was written down and read.
fn round(value: f64) -> f64 {
    (value.clamp(-1e12, 1e12) * 1000.0).round() / 1000.0
}

/// Counts time, and says which threshold the subject is over: 0 is none. `value`: `None` is well.
fn advance(
    code: Code,
    rule: &Rule,
    value: Option<f64>,
    before: usize,
    passed: i64,
    held: &mut [Option<i64>; MOST_STEPS],
) -> usize {
    let less = code.measure().less_is_worse();
    let over = |at: f64| value.is_some_and(|v| if less { v <= at } else { v >= at });
    let well = |at: f64| match value {
        None => true,
        Some(v) if rule.margin == 0.0 => !over(at) && v.is_finite(),
        Some(v) if less => v > at + rule.margin,
        Some(v) => v < at - rule.margin,
    };
    let mut level = 0;
    for (i, held) in held.iter_mut().enumerate() {
        let Some((at, _)) = rule.steps.get(i) else {
            *held = None;
            continue;
        };
        let was = i < before;
        let (turns, needed) = if was { (well(*at), rule.clear_ms) } else { (over(*at), rule.hold_ms) };
        *held = turns.then(|| held.map_or(0, |h| h.saturating_add(passed)));
        let turned = held.is_some_and(|h| h >= needed);
        if turned {
            *held = None;
        }
        if was != turned {
            level = i + 1;
        }
    }
    level
}

/// For readers of the document of current values: whether the node's agent has stopped to write it. Judged from the document's age alone.
/// `document_at`: none is there.
pub fn agent_stale(config: &Config, node: &str, document_at: Option<i64>, now_ms: i64) -> Option<Value> {
    let rule = config.rule(Code::AgentStale, Scope::Node, node);
    let age = document_at.map(|at| (now_ms - at) as f64 / 1000.0);
    // One from the future is as little about now as one from the past.
    let (_, severity) = rule.steps.iter().rev().find(|(at, _)| age.is_none_or(|a| a.abs() >= *at)).filter(|_| rule.on)?;
    let text = match age {
        None => "there are no figures of the node".to_owned(),
        Some(a) if a < 0.0 => format!("the newest figures are {} s in the future: the clock was put back", number(-a)),
        Some(a) => format!("the newest figures are {} s old", number(a)),
    };
    let code = Code::AgentStale;
    Some(json!({
        "code": code, "scope": Scope::Node, "object": node, "severity": severity, "since": document_at, "seen": now_ms, "value": age,
        "unit": code.measure().unit(), "text": text, "silenced": false, "told": false, "means": code.means(), "remedy": code.remedy(),
    }))
}
