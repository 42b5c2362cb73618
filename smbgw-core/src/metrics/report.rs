// SPDX-License-Identifier: MIT OR Apache-2.0
//! The report of a node over a period: how its shares grew, what went through them, what went wrong. It knows how figures become a report, and
//! its forms: text of 80 columns, JSON, and a page of HTML that needs nothing but itself. It must not know where figures, forecasts and
//! alerts are from.
//!
//! What is not known is said to be so, and the report tells for how long figures are missing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use super::chart::{self, Look, escape};
use super::export::Answer;
use super::quantity::{bytes, count, percent, seconds};
use super::when::{DAY, HOUR, Zone, stretch};
use super::{Bucket, Scope, Source, by_name};

/// Version of the JSON form. Keys may be added; a known key keeps its meaning.
pub const SCHEMA: u32 = 1;
/// Columns of the text form.
pub const COLUMNS: usize = 80;

/// The report of a node: what is known, as data.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The node.
    pub node: String,
    /// Beginning of the period, in milliseconds since the epoch.
    pub from: i64,
    /// Its end.
    pub to: i64,
    /// When the report was made.
    pub made_at: i64,
    /// The zone of the moments in text and HTML, in minutes east of UTC.
    pub utc_offset_minutes: Zone,
    /// Its shares, in the order in which they are told.
    pub shares: Vec<Share>,
    /// Its gateways.
    pub gateways: Vec<Gateway>,
    /// Alerts that were raised in the period, or still stood in it.
    pub alerts: Vec<Alert>,
    /// Sources that failed.
    pub missing: Vec<Missing>,
}

/// A share in the period. What is `None` is not known.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Share {
    /// Storage id.
    pub id: String,
    /// Its gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Bytes used at the end of the period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<f64>,
    /// Its hard limit; `None` is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// What can still be written, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<f64>,
    /// By how many bytes it grows in a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth_per_day: Option<f64>,
    /// The estimated moment when it is full, in milliseconds since the epoch; `None` where none can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_at: Option<i64>,
    /// Bytes that clients read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Total>,
    /// Bytes that clients wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<Total>,
    /// Operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<Total>,
    /// Most sessions at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Peak>,
    /// How long reads took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_latency: Option<Latency>,
    /// How long writes took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_latency: Option<Latency>,
    /// Its busiest hours, the busiest first.
    pub busiest: Vec<Busy>,
    /// Series that the HTML form has charts of.
    #[serde(skip)]
    pub charts: Vec<Answer>,
}

/// A gateway in the period. What is `None` is not known.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gateway {
    /// Its name.
    pub name: String,
    /// The part of the time, of that for which it is known, in which smbd ran: 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up: Option<f64>,
    /// Most sessions at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Peak>,
    /// Most sessions at a time by an old dialect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legacy_sessions: Option<Peak>,
    /// Log-ins that were refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_logins: Option<Total>,
    /// Bytes that clients read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Total>,
    /// Bytes that clients wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<Total>,
    /// Series that the HTML form has charts of.
    #[serde(skip)]
    pub charts: Vec<Answer>,
}

/// What came together in the period.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Total {
    /// In the period, as far as there are figures.
    pub total: f64,
    /// In the period of the same length before; `None` is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<f64>,
}

/// The highest value, and when.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Peak {
    /// The value.
    pub value: f64,
    /// The beginning of the stretch in which it was, in milliseconds since the epoch.
    pub at: i64,
}

/// How long operations took, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// In 95 of 100 scrapes with operations the mean of the bucket was at most that.
    pub p95: f64,
    /// The longest mean of a scrape.
    pub max: f64,
}

/// A busy hour.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Busy {
    /// Its beginning, in milliseconds since the epoch.
    pub from: i64,
    /// Its end.
    pub to: i64,
    /// Bytes that were read and written in it.
    pub bytes: f64,
}

/// An alert of the period.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Alert {
    /// How bad it is, a word.
    pub severity: String,
    /// Its code.
    pub code: String,
    /// What it is about, a name.
    pub object: String,
    /// What it says.
    pub text: String,
    /// When it was raised.
    pub raised: i64,
    /// When it was cleared; `None`: it still stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cleared: Option<i64>,
}

/// A source that failed in the period.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Missing {
    /// Of which gateway; of the node: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Which.
    pub source: Source,
    /// For how long its figures are missing, in milliseconds.
    pub missing_ms: i64,
    /// Why, by its last word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

// ---- from series to figures --------------------------------------------------------------------------------------------------

/// What a counter counted. A bucket stands for the time that its samples cover, one each `interval_ms`, not for the whole of its length: what
/// was not seen is not guessed. `None` without any figure.
pub fn total(answer: &Answer, interval_ms: i64) -> Option<f64> {
    let each = |b: &Bucket| b.mean * covered(answer, b, interval_ms) as f64 / 1e3;
    if answer.buckets.is_empty() { None } else { Some(answer.buckets.iter().map(each).sum()) }
}

fn covered(answer: &Answer, b: &Bucket, interval_ms: i64) -> i64 {
    interval_ms.max(1).saturating_mul(i64::from(b.count)).min(answer.resolution_ms.max(1))
}

/// The highest value.
pub fn peak(answer: &Answer) -> Option<Peak> {
    let highest = answer.buckets.iter().max_by(|a, b| a.max.total_cmp(&b.max).then(b.start.cmp(&a.start)))?;
    Some(Peak { value: highest.max, at: highest.start })
}

/// Of a series of mean times.
pub fn latency(answer: &Answer) -> Option<Latency> {
    let mut means: Vec<(f64, u64)> = answer.buckets.iter().map(|b| (b.mean, u64::from(b.count))).collect();
    means.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all: u64 = means.iter().map(|m| m.1).sum();
    // The rank is rounded up: of one value it is that one.
    let rank = (all * 95).div_ceil(100).max(1);
    let mut seen = 0;
    let p95 = means.iter().find(|m| {
        seen += m.1;
        seen >= rank
    })?;
    Some(Latency { p95: p95.0, max: peak(answer)?.value })
}

/// The part of the known time in which a state was 1.
pub fn part_of_time(answer: &Answer) -> Option<f64> {
    let (sum, n) = answer.buckets.iter().fold((0.0, 0.0), |(s, n), b| (s + b.mean * f64::from(b.count), n + f64::from(b.count)));
    (n > 0.0).then(|| sum / n)
}

/// The last known value.
pub fn last(answer: &Answer) -> Option<f64> {
    answer.buckets.last().map(|b| b.mean)
}

/// For how long a series is without figures.
pub fn missing_ms(answer: &Answer) -> i64 {
    chart::gaps(answer, &answer.buckets).iter().map(|(from, to)| to - from).sum()
}

/// The hours in which most bytes went through, at most `most`; hours without any are none. Answers longer than an hour give their own stretches.
pub fn busiest(answers: &[&Answer], interval_ms: i64, zone: Zone, most: usize) -> Vec<Busy> {
    let mut hours: BTreeMap<(i64, i64), f64> = BTreeMap::new();
    for a in answers {
        for b in &a.buckets {
            let hour = if a.resolution_ms >= HOUR {
                (b.start, b.start.saturating_add(a.resolution_ms))
            } else {
                // Hours of the clock on the wall.
                let from = b.start.saturating_add(zone.offset()).div_euclid(HOUR) * HOUR - zone.offset();
                (from, from + HOUR)
            };
            *hours.entry(hour).or_default() += b.mean * covered(a, b, interval_ms) as f64 / 1e3;
        }
    }
    let mut all: Vec<Busy> =
        hours.into_iter().map(|((from, to), bytes)| Busy { from, to, bytes }).filter(|b| b.bytes >= 1.0).collect();
    all.sort_by(|a, b| b.bytes.total_cmp(&a.bytes).then(a.from.cmp(&b.from)));
    all.truncate(most);
    all
}

/// Series of one object over a period, and over the period of the same length before.
struct Series<'a> {
    scope: Scope,
    object: &'a str,
    now: &'a [Answer],
    before: &'a [Answer],
    interval_ms: i64,
}

impl<'a> Series<'a> {
    fn among(&self, answers: &'a [Answer], name: &str) -> Option<&'a Answer> {
        answers.iter().find(|a| a.scope == self.scope && a.object == self.object && a.metric == name)
    }

    fn get(&self, name: &str) -> Option<&'a Answer> {
        self.among(self.now, name)
    }

    fn total(&self, name: &str) -> Option<Total> {
        let of = |answers| self.among(answers, name).and_then(|a| total(a, self.interval_ms));
        of(self.now).map(|total| Total { total, before: of(self.before) })
    }

    fn charts(&self, names: &[&str]) -> Vec<Answer> {
        names.iter().filter_map(|n| self.get(n)).filter(|a| !a.buckets.is_empty()).cloned().collect()
    }
}

impl Share {
    /// A share from its series in the period (`now`) and in the one before; scrapes were made each `interval_ms`. Growth and the day when it is
    /// full are for the caller to set.
    pub fn from_series(id: &str, gateway: Option<&str>, now: &[Answer], before: &[Answer], interval_ms: i64, zone: Zone) -> Self {
        let s = Series { scope: Scope::Share, object: id, now, before, interval_ms };
        let traffic: Vec<&Answer> = ["read_bytes", "written_bytes"].into_iter().filter_map(|n| s.get(n)).collect();
        Self {
            id: id.to_owned(),
            gateway: gateway.map(str::to_owned),
            used: s.get("used_bytes").and_then(last),
            limit: s.get("limit_bytes").and_then(last),
            available: s.get("available_bytes").and_then(last),
            growth_per_day: None,
            full_at: None,
            read: s.total("read_bytes"),
            written: s.total("written_bytes"),
            operations: s.total("operations"),
            sessions: s.get("sessions").and_then(peak),
            read_latency: s.get("read_latency").and_then(latency),
            write_latency: s.get("write_latency").and_then(latency),
            busiest: busiest(&traffic, interval_ms, zone, 3),
            charts: s.charts(&["used_bytes", "read_bytes", "written_bytes", "sessions", "read_latency", "write_latency"]),
        }
    }
}

impl Gateway {
    /// A gateway from its series, as [`Share::from_series`].
    pub fn from_series(name: &str, now: &[Answer], before: &[Answer], interval_ms: i64) -> Self {
        let s = Series { scope: Scope::Gateway, object: name, now, before, interval_ms };
        Self {
            name: name.to_owned(),
            up: s.get("up").and_then(part_of_time),
            sessions: s.get("sessions").and_then(peak),
            legacy_sessions: s.get("legacy_sessions").and_then(peak),
            failed_logins: s.total("failed_logins"),
            read: s.total("read_bytes"),
            written: s.total("written_bytes"),
            charts: s.charts(&["sessions", "smbd_cpu", "failed_logins"]),
        }
    }
}

// ---- words -------------------------------------------------------------------------------------------------------------------

const UNKNOWN: &str = "not known";

impl Report {
    /// `Weekly report of node pve1`.
    pub fn title(&self) -> String {
        let days = self.to.saturating_sub(self.from) / DAY;
        let what = match days {
            7 => "Weekly report".to_owned(),
            1 => "Daily report".to_owned(),
            0 => format!("Report over {}", stretch(self.to.saturating_sub(self.from))),
            n => format!("Report over {n} days"),
        };
        format!("{what} of node {}", self.node)
    }

    fn period(&self) -> String {
        let zone = self.utc_offset_minutes;
        format!("{} to {} {}", zone.minute(self.from), zone.minute(self.to), zone.name())
    }

    /// Shares whose end is near first, then those that hold most.
    fn by_trend(&self) -> Vec<&Share> {
        let mut shares: Vec<&Share> = self.shares.iter().collect();
        shares.sort_by(|a, b| {
            let near = |s: &Share| s.full_at.unwrap_or(i64::MAX);
            near(a).cmp(&near(b)).then(b.used.unwrap_or(-1.0).total_cmp(&a.used.unwrap_or(-1.0))).then(a.id.cmp(&b.id))
        });
        shares
    }
}

fn known(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| UNKNOWN.to_owned(), show)
}

/// `+12 %`, against the period before.
fn change(t: &Total) -> Option<String> {
    let before = t.before?;
    if before <= 0.0 {
        return (t.total > 0.0).then(|| "none before".to_owned());
    }
    let part = (t.total / before - 1.0) * 100.0;
    Some(format!("{}{} %", if part > 0.0 { "+" } else { "" }, count(part.round())))
}

fn amount(t: Option<Total>, show: impl Fn(f64) -> String) -> String {
    match t {
        None => UNKNOWN.to_owned(),
        Some(t) => change(&t).map_or_else(|| show(t.total), |c| format!("{} ({c})", show(t.total))),
    }
}

fn growth(value: f64) -> String {
    if value > 0.0 { format!("+{}", bytes(value)) } else { bytes(value) }
}

impl Share {
    fn usage(&self) -> String {
        match (self.used, self.limit) {
            (Some(u), Some(l)) if l > 0.0 => {
                format!("{} of {} ({})", bytes(u), bytes(l), percent((u / l * 100.0).round() / 100.0))
            }
            (u, _) => known(u, bytes),
        }
    }

    /// What is read and written together, if both are known.
    fn traffic(&self) -> Option<Total> {
        let (r, w) = (self.read?, self.written?);
        Some(Total { total: r.total + w.total, before: r.before.zip(w.before).map(|(r, w)| r + w) })
    }

    fn full(&self, zone: Zone) -> String {
        match (self.growth_per_day, self.full_at) {
            (_, Some(at)) => zone.date(at),
            (Some(_), None) => "not foreseen".to_owned(),
            (None, None) => UNKNOWN.to_owned(),
        }
    }

    /// What is told about it, in pairs of word and text.
    fn lines(&self, zone: Zone) -> Vec<(&'static str, String)> {
        let took = |l: Option<Latency>| known_latency(l);
        let mut lines = vec![("used", self.usage())];
        lines.push(("available", known(self.available, bytes)));
        lines.push(("growth", known(self.growth_per_day, |v| format!("{} a day", growth(v)))));
        lines.push(("full", self.full(zone)));
        lines.push(("read", amount(self.read, bytes)));
        lines.push(("written", amount(self.written, bytes)));
        lines.push(("operations", amount(self.operations, count)));
        lines.push(("sessions", at_most(self.sessions, zone)));
        lines.push(("read time", took(self.read_latency)));
        lines.push(("write time", took(self.write_latency)));
        let busy: Vec<String> = self.busiest.iter().map(|b| format!("{} ({})", hour(b, zone), bytes(b.bytes))).collect();
        if !busy.is_empty() {
            lines.push(("busiest", busy.join(", ")));
        }
        lines
    }
}

impl Gateway {
    fn lines(&self, zone: Zone) -> Vec<(&'static str, String)> {
        let part = |v: f64| format!("{} of the time", percent((v * 10_000.0).floor() / 10_000.0));
        let mut lines = vec![("smbd ran", known(self.up, part))];
        lines.push(("sessions", at_most(self.sessions, zone)));
        if let Some(p) = self.legacy_sessions.filter(|p| p.value > 0.0) {
            lines.push(("old dialect", at_most(Some(p), zone)));
        }
        lines.push(("failed log-ins", amount(self.failed_logins, |v| count(v.round()))));
        lines.push(("read", amount(self.read, bytes)));
        lines.push(("written", amount(self.written, bytes)));
        lines
    }
}

fn known_latency(l: Option<Latency>) -> String {
    l.map_or_else(|| UNKNOWN.to_owned(), |l| format!("95 % within {}, at most {}", seconds(l.p95), seconds(l.max)))
}

fn at_most(p: Option<Peak>, zone: Zone) -> String {
    match p {
        None => UNKNOWN.to_owned(),
        Some(p) if p.value <= 0.0 => "none".to_owned(),
        Some(p) => format!("at most {}, {} {}", count(p.value), zone.civil(p.at).weekday_name(), zone.minute(p.at)),
    }
}

fn hour(b: &Busy, zone: Zone) -> String {
    let (from, to) = (zone.civil(b.from), zone.civil(b.to));
    format!("{} {} {:02}:{:02}-{:02}:{:02}", from.weekday_name(), zone.date(b.from), from.hour, from.minute, to.hour, to.minute)
}

impl Alert {
    fn when(&self, zone: Zone) -> String {
        match self.cleared {
            Some(at) => format!("{}, cleared {}", zone.minute(self.raised), zone.minute(at)),
            None => format!("{}, still raised", zone.minute(self.raised)),
        }
    }
}

impl Missing {
    fn of(&self) -> String {
        format!("{}{}", self.gateway.as_ref().map_or(String::new(), |g| format!("{g}, ")), self.source.name())
    }
}

// ---- JSON --------------------------------------------------------------------------------------------------------------------

/// As a document.
pub fn json(report: &Report) -> Value {
    serde_json::to_value(report).unwrap_or_default()
}

// ---- text --------------------------------------------------------------------------------------------------------------------

/// As text of at most [`COLUMNS`] columns.
pub fn text(report: &Report) -> String {
    let zone = report.utc_offset_minutes;
    let mut out = String::new();
    wrap(&mut out, "", &report.title());
    wrap(&mut out, "", &report.period());
    wrap(&mut out, "", &format!("Made {} {}", zone.minute(report.made_at), zone.name()));
    let head = |out: &mut String, text: &str| {
        let _ = write!(out, "\n{text}\n{}\n", "-".repeat(text.chars().count()));
    };
    head(&mut out, "Trend");
    if report.shares.is_empty() {
        out.push_str("No shares.\n");
    } else {
        row(&mut out, ["share", "used", "limit", "growth a day", "full", "traffic"].map(str::to_owned));
        for s in report.by_trend() {
            let limit = s.limit.map_or_else(|| "none".to_owned(), bytes);
            let traffic = s.traffic().map_or_else(|| UNKNOWN.to_owned(), |t| change(&t).unwrap_or_else(|| bytes(t.total)));
            row(&mut out, [s.id.clone(), known(s.used, bytes), limit, known(s.growth_per_day, growth), s.full(zone), traffic]);
        }
    }
    head(&mut out, "Alerts");
    for a in &report.alerts {
        wrap(&mut out, "  ", &format!("{}  {}  {}: {}", a.when(zone), a.severity, a.object, a.text));
    }
    if report.alerts.is_empty() {
        out.push_str("None.\n");
    }
    head(&mut out, "Missing figures");
    for m in &report.missing {
        let why = m.why.as_ref().map_or(String::new(), |w| format!(" ({w})"));
        wrap(&mut out, "  ", &format!("{}: for {}{why}", m.of(), stretch(m.missing_ms)));
    }
    if report.missing.is_empty() {
        out.push_str("None.\n");
    }
    for s in &report.shares {
        let of = s.gateway.as_ref().map_or(String::new(), |g| format!(" (gateway {g})"));
        head(&mut out, &clip(&format!("Share {}{of}", s.id), COLUMNS));
        s.lines(zone).into_iter().for_each(|(word, text)| wrap(&mut out, &format!("{word:<14}  "), &text));
    }
    for g in &report.gateways {
        head(&mut out, &clip(&format!("Gateway {}", g.name), COLUMNS));
        g.lines(zone).into_iter().for_each(|(word, text)| wrap(&mut out, &format!("{word:<14}  "), &text));
    }
    out
}

fn row(out: &mut String, cells: [String; 6]) {
    let [id, used, limit, growth, full, traffic] = cells;
    let line = format!(
        "{:<18} {:>11} {:>10} {:>12}  {:<12} {:>11}",
        clip(&id, 18),
        clip(&used, 11),
        clip(&limit, 10),
        clip(&growth, 12),
        clip(&full, 12),
        clip(&traffic, 11)
    );
    out.push_str(line.trim_end());
    out.push('\n');
}

/// At most so many characters, none of them a control character.
fn clip(text: &str, most: usize) -> String {
    let mut out: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(most + 1).collect();
    if out.chars().count() > most {
        out = out.chars().take(most.saturating_sub(1)).collect();
        out.push('…');
    }
    out
}

/// A paragraph of at most [`COLUMNS`] columns: `lead`, then the text; further lines are indented as wide as `lead`.
fn wrap(out: &mut String, lead: &str, text: &str) {
    let indent = lead.chars().count();
    let room = COLUMNS - indent.min(COLUMNS / 2);
    let mut line = String::new();
    let mut first = true;
    let mut flush = |line: &mut String| {
        let begin = if first { lead.to_owned() } else { " ".repeat(indent) };
        first = false;
        out.push_str(format!("{begin}{line}").trim_end());
        out.push('\n');
        line.clear();
    };
    // Two blanks stand between the parts of a line, and stay within one.
    for word in text.split(' ') {
        let mut word: String = clip(word, usize::MAX - 1);
        if line.chars().count() + 1 + word.chars().count() > room && !line.trim().is_empty() {
            flush(&mut line);
        } else if !line.is_empty() {
            line.push(' ');
        }
        // A word that is longer than a line is cut.
        while line.chars().count() + word.chars().count() > room {
            let fits = room.saturating_sub(line.chars().count());
            line.extend(word.chars().take(fits));
            word = word.chars().skip(fits).collect();
            flush(&mut line);
        }
        line.push_str(&word);
    }
    flush(&mut line);
}

// ---- HTML --------------------------------------------------------------------------------------------------------------------

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1f2933;--paper:#fff;--faint:#616e7c;--rule:#d5dbe1;--bad:#b3261e}
@media (prefers-color-scheme:dark){:root{--ink:#e4e7eb;--paper:#1a1f24;--faint:#9aa5b1;--rule:#3e4c59;--bad:#ff8a80}}
body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}
p.period{color:var(--faint);margin:.2rem 0 0}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--rule);vertical-align:top}
td.n,th.n{text-align:right;white-space:nowrap}
table.about th{font-weight:normal;color:var(--faint);width:9rem}
.unknown{color:var(--faint)}.raised{color:var(--bad);font-weight:600}
figure{margin:.8rem 0}figcaption,footer{color:var(--faint);font-size:.85rem}
@media print{:root{--ink:#000;--paper:#fff;--faint:#333;--rule:#bbb;--bad:#000}body{max-width:none;margin:0}
section,figure,tr{break-inside:avoid}h2{break-after:avoid}}
";

/// As a page that loads nothing and runs nothing; it is well-formed XML, too.
pub fn html(report: &Report) -> String {
    let zone = report.utc_offset_minutes;
    let title = escape(&report.title());
    let mut out = format!(
        "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<meta name=\"referrer\" content=\"no-referrer\"/>\n\
         <title>{title}</title>\n<style>{STYLE}{}</style>\n</head>\n<body>\n<header><h1>{title}</h1>\n<p class=\"period\">{}</p></header>\n",
        chart::STYLE,
        escape(&report.period())
    );
    out.push_str("<main>\n<section><h2>Trend</h2>\n");
    if report.shares.is_empty() {
        out.push_str("<p>No shares.</p>\n");
    } else {
        out.push_str("<table>\n<thead><tr><th>share</th><th class=\"n\">used</th><th class=\"n\">limit</th><th class=\"n\">growth a day</th><th class=\"n\">full</th><th class=\"n\">traffic</th></tr></thead>\n<tbody>\n");
        for s in report.by_trend() {
            let limit = s.limit.map_or_else(|| "none".to_owned(), bytes);
            let cells = [known(s.used, bytes), limit, known(s.growth_per_day, growth), s.full(zone), amount(s.traffic(), bytes)];
            let cells: String = cells.iter().map(|c| cell("td class=\"n", c)).collect();
            let _ = writeln!(out, "<tr><td>{}</td>{cells}</tr>", escape(&s.id));
        }
        out.push_str("</tbody>\n</table>\n");
    }
    out.push_str("</section>\n<section><h2>Alerts</h2>\n");
    if report.alerts.is_empty() {
        out.push_str("<p>None.</p>\n");
    } else {
        out.push_str("<table>\n<thead><tr><th>raised</th><th>cleared</th><th>severity</th><th>what</th></tr></thead>\n<tbody>\n");
        for a in &report.alerts {
            let cleared = match a.cleared {
                Some(at) => format!("<td>{}</td>", zone.minute(at)),
                None => "<td class=\"raised\">still raised</td>".to_owned(),
            };
            let _ = writeln!(
                out,
                "<tr><td>{}</td>{cleared}<td>{}</td><td>{}: {}</td></tr>",
                zone.minute(a.raised),
                escape(&a.severity),
                escape(&a.object),
                escape(&a.text)
            );
        }
        out.push_str("</tbody>\n</table>\n");
    }
    out.push_str("</section>\n<section><h2>Missing figures</h2>\n");
    if report.missing.is_empty() {
        out.push_str("<p>None.</p>\n");
    } else {
        out.push_str("<table>\n<thead><tr><th>source</th><th>for</th><th>why</th></tr></thead>\n<tbody>\n");
        for m in &report.missing {
            let why = m.why.as_deref().unwrap_or(UNKNOWN);
            let _ = writeln!(
                out,
                "<tr><td>{}</td><td>{}</td>{}</tr>",
                escape(&m.of()),
                stretch(m.missing_ms),
                cell("td class=\"", why)
            );
        }
        out.push_str("</tbody>\n</table>\n");
    }
    out.push_str("</section>\n");
    let mut charts = 0;
    for s in &report.shares {
        let of = s.gateway.as_ref().map_or(String::new(), |g| format!(" (gateway {})", escape(g)));
        let _ = writeln!(out, "<section><h2>Share {}{of}</h2>", escape(&s.id));
        about(&mut out, &s.lines(zone));
        figures(&mut out, &s.charts, s.limit, zone, &mut charts);
        out.push_str("</section>\n");
    }
    for g in &report.gateways {
        let _ = writeln!(out, "<section><h2>Gateway {}</h2>", escape(&g.name));
        about(&mut out, &g.lines(zone));
        figures(&mut out, &g.charts, None, zone, &mut charts);
        out.push_str("</section>\n");
    }
    let _ = write!(
        out,
        "</main>\n<footer><p>Made {} {}. Charts: the line is the mean, the band reaches from the lowest to the highest value, grey is \
         without figures.</p></footer>\n</body>\n</html>\n",
        zone.minute(report.made_at),
        zone.name()
    );
    out
}

/// A cell; what is not known looks so. `open` is its tag up to inside the class.
fn cell(open: &str, text: &str) -> String {
    let class = if text == UNKNOWN { " unknown" } else { "" };
    format!("<{open}{class}\">{}</td>", escape(text))
}

fn about(out: &mut String, lines: &[(&'static str, String)]) {
    out.push_str("<table class=\"about\"><tbody>\n");
    for (word, text) in lines {
        let _ = writeln!(out, "<tr><th scope=\"row\">{word}</th>{}</tr>", cell("td class=\"", text));
    }
    out.push_str("</tbody></table>\n");
}

fn figures(out: &mut String, charts: &[Answer], limit: Option<f64>, zone: Zone, number: &mut usize) {
    for a in charts {
        *number += 1;
        let title = by_name(a.scope, &a.metric).map_or(a.metric.as_str(), |m| m.text.trim_end_matches('.'));
        let title = format!("{}: {title}", a.object);
        let marks: Vec<_> = limit.filter(|_| a.metric == "used_bytes").map(|l| chart::mark(a, "limit", l)).into_iter().collect();
        let id = format!("chart-{number}");
        let look = Look { id: &id, title: &title, zone, width: 860, height: 200, marks: &marks, standalone: false };
        let _ = writeln!(out, "<figure>{}</figure>", chart::svg(a, &look));
    }
}

#[cfg(test)]
mod tests;
