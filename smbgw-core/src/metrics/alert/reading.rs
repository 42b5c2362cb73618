// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a scrape says of each rule: a number, well without a number, or that nobody knows. It knows metrics and sources; it must not know
//! thresholds or what was before.
//!
//! One cause is one alert. While smbd of a gateway does not run, or its domain does not work, what follows from that is not judged (unknown).
//! A gateway with a single share is judged by that share.

use std::collections::{BTreeMap, HashMap};

use super::super::forecast::{Forecast, Why};
use super::super::{METRICS, Scope, Scrape, Source, SourceState};
use super::code::Code;
use super::judge::Seen;
use crate::types::human;

/// What is said of one rule for one object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading {
    /// Nobody knows.
    Unknown,
    /// All is well, whatever the thresholds are.
    Well,
    /// The value that thresholds are about.
    Value(f64),
}

/// What is judged: a code for an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// What it is about.
    pub scope: Scope,
    /// Storage id, gateway, node.
    pub object: String,
    /// Which rule.
    pub code: Code,
}

/// A source that did not ask for so long has stopped; the slowest asks each minute, the membership is looked at each five.
const OLD_MS: i64 = 600_000;

/// A scrape by name.
pub struct Look<'a> {
    scrape: &'a Scrape,
    trends: &'a BTreeMap<String, Forecast>,
    reasons: &'a BTreeMap<String, String>,
    values: HashMap<(Scope, &'static str, &'a str), f64>,
    rates: HashMap<(Scope, &'static str, &'a str), f64>,
    /// Shares of each gateway.
    gateways: BTreeMap<&'a str, u32>,
    now_ms: i64,
}

impl<'a> Look<'a> {
    /// By name what was seen.
    pub fn new(seen: &Seen<'a>, now_ms: i64) -> Self {
        let index = |samples: &'a [super::super::Sample]| {
            let found = samples.iter().filter(|s| s.value.is_finite()).filter_map(|s| {
                let i = METRICS.binary_search_by_key(&s.key.metric, |m| m.number).ok()?;
                Some(((METRICS[i].scope, METRICS[i].name, s.key.object.as_str()), s.value))
            });
            found.collect()
        };
        let mut gateways: BTreeMap<&str, u32> = BTreeMap::new();
        for g in seen.scrape.shares.values() {
            *gateways.entry(g).or_default() += 1;
        }
        for g in seen.scrape.sources.iter().filter_map(|s| s.gateway.as_deref()) {
            gateways.entry(g).or_default();
        }
        Self {
            scrape: seen.scrape,
            trends: seen.trends,
            reasons: seen.reasons,
            values: index(&seen.scrape.samples),
            rates: index(&seen.scrape.rates),
            gateways,
            now_ms,
        }
    }

    fn value(&self, scope: Scope, metric: &'static str, object: &str) -> Option<f64> {
        self.values.get(&(scope, metric, object)).copied()
    }

    fn rate(&self, scope: Scope, metric: &'static str, object: &str) -> Option<f64> {
        self.rates.get(&(scope, metric, object)).copied()
    }

    fn source(&self, source: Source, gateway: &str) -> Option<&SourceState> {
        self.scrape.sources.iter().find(|s| s.source == source && s.gateway.as_deref() == Some(gateway))
    }

    /// Whether a source answered in this scrape, so that what it did not say is not there.
    fn answered(&self, source: Source, gateway: &str) -> bool {
        self.source(source, gateway).is_some_and(|s| s.why.is_none())
    }

    /// Everything there is to judge, in a stable order.
    pub fn subjects(&self) -> Vec<(Subject, Reading)> {
        let mut all = Vec::new();
        for (share, gateway) in &self.scrape.shares {
            for code in Code::ALL.iter().filter(|c| c.scopes().contains(&Scope::Share)) {
                all.extend(self.of_share(*code, share, gateway).map(|r| (subject(Scope::Share, share, *code), r)));
            }
        }
        for (gateway, shares) in &self.gateways {
            for code in Code::ALL.iter().filter(|c| c.scopes().contains(&Scope::Gateway)) {
                all.extend(self.of_gateway(*code, gateway, *shares).map(|r| (subject(Scope::Gateway, gateway, *code), r)));
            }
        }
        let node = &self.scrape.node;
        for code in Code::ALL.iter().filter(|c| c.scopes().contains(&Scope::Node)) {
            all.extend(self.of_node(*code, node).map(|r| (subject(Scope::Node, node, *code), r)));
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    fn of_share(&self, code: Code, share: &str, gateway: &str) -> Option<Reading> {
        let get = |metric| self.value(Scope::Share, metric, share);
        let (used, available, limit) = (get("used_bytes"), get("available_bytes"), get("limit_bytes"));
        let percent = |part: f64, whole: f64| Reading::Value(if whole > 0.0 { 100.0 * part / whole } else { 100.0 });
        Some(match code {
            Code::Usage => match (used, limit) {
                (Some(u), Some(l)) => percent(u, l),
                // What is used is known, and no limit: it has none.
                (Some(_), None) => return None,
                (None, _) => Reading::Unknown,
            },
            Code::Space => match (used, available, limit) {
                // The limit is nearer than the end of the file system; a hundredth is their delay against each other.
                (Some(u), Some(a), Some(l)) if a >= (l - u).max(0.0) - l / 100.0 => Reading::Well,
                (Some(u), Some(a), _) => percent(u, u + a),
                _ => Reading::Unknown,
            },
            Code::Growth => match self.trends.get(share) {
                Some(Forecast { full_in_days: Some(days), .. }) => Reading::Value(*days),
                Some(Forecast { why: Some(Why::Flat | Why::Far), .. }) => Reading::Well,
                _ => Reading::Unknown,
            },
            Code::Sessions => get("sessions").map_or(Reading::Unknown, Reading::Value),
            Code::Latency => self.latency(Scope::Share, share),
            Code::Errors => self.per_minute(Scope::Share, "failed_operations", share),
            Code::NotReady if self.is_down(gateway) || self.domain_fails(gateway) => Reading::Unknown,
            Code::NotReady => bad(get("ready")),
            _ => return None,
        })
    }

    fn of_gateway(&self, code: Code, gateway: &str, shares: u32) -> Option<Reading> {
        let get = |metric| self.value(Scope::Gateway, metric, gateway);
        // Without a domain there is neither winbindd nor membership.
        let of_domain = |metric| match get(metric) {
            None if self.answered(Source::Service, gateway) => None,
            _ if self.is_down(gateway) => Some(Reading::Unknown),
            value => Some(bad(value)),
        };
        Some(match code {
            Code::Sessions | Code::Latency | Code::Errors if shares < 2 => return None,
            Code::Sessions => get("sessions").map_or(Reading::Unknown, Reading::Value),
            Code::Latency => self.latency(Scope::Gateway, gateway),
            Code::Errors => self.per_minute(Scope::Gateway, "failed_operations", gateway),
            Code::Logins => self.per_minute(Scope::Gateway, "failed_logins", gateway),
            Code::Legacy => get("legacy_sessions").map_or(Reading::Unknown, Reading::Value),
            Code::GatewayDown => bad(get("up")),
            Code::WinbindDown => return of_domain("winbind_up"),
            Code::Domain => return of_domain("domain_ok"),
            Code::Memory => match (get("guest_memory_bytes"), get("guest_memory_limit_bytes")) {
                (Some(used), Some(limit)) if limit > 0.0 => Reading::Value(100.0 * used / limit),
                _ => Reading::Unknown,
            },
            Code::SourceStale | Code::SourceAbsent if self.is_down(gateway) => Reading::Unknown,
            Code::SourceStale => state(!self.stale(Some(gateway)).is_empty()),
            Code::SourceAbsent => state(!self.absent(Some(gateway)).is_empty()),
            _ => return None,
        })
    }

    fn of_node(&self, code: Code, node: &str) -> Option<Reading> {
        Some(match code {
            Code::SourceStale => state(!self.stale(None).is_empty()),
            Code::SourceAbsent => state(!self.absent(None).is_empty()),
            Code::StoreFailing => self.per_minute(Scope::Node, "store_failures", node),
            _ => return None,
        })
    }

    fn per_minute(&self, scope: Scope, counter: &'static str, object: &str) -> Reading {
        self.rate(scope, counter, object).map_or(Reading::Unknown, |r| Reading::Value(r * 60.0))
    }

    /// The worse of reading and writing. Where nobody read or wrote, nobody waited.
    fn latency(&self, scope: Scope, object: &str) -> Reading {
        let one = |latency, operations| match (self.value(scope, latency, object), self.rate(scope, operations, object)) {
            (Some(v), _) => Reading::Value(v * 1000.0),
            (None, Some(0.0)) => Reading::Well,
            (None, _) => Reading::Unknown,
        };
        match (one("read_latency", "read_operations"), one("write_latency", "write_operations")) {
            (Reading::Value(a), Reading::Value(b)) => Reading::Value(a.max(b)),
            (v @ Reading::Value(_), _) | (_, v @ Reading::Value(_)) => v,
            (Reading::Well, Reading::Well) => Reading::Well,
            _ => Reading::Unknown,
        }
    }

    fn is_down(&self, gateway: &str) -> bool {
        self.value(Scope::Gateway, "up", gateway) == Some(0.0)
    }

    fn domain_fails(&self, gateway: &str) -> bool {
        [self.value(Scope::Gateway, "domain_ok", gateway), self.value(Scope::Gateway, "winbind_up", gateway)].contains(&Some(0.0))
    }

    /// Sources that answered once and do not now.
    fn stale(&self, gateway: Option<&str>) -> Vec<&SourceState> {
        // A time in the future is that of a clock that was put back: it says nothing.
        let old = |s: &SourceState| s.at.is_some_and(|at| s.why.is_some() || self.now_ms - at > OLD_MS);
        self.scrape.sources.iter().filter(|s| s.gateway.as_deref() == gateway && old(s)).collect()
    }

    /// Sources that never answered.
    fn absent(&self, gateway: Option<&str>) -> Vec<&SourceState> {
        self.scrape.sources.iter().filter(|s| s.gateway.as_deref() == gateway && s.at.is_none() && s.why.is_some()).collect()
    }

    /// In words what a subject's value is; of one that is well, without a value.
    pub fn text(&self, subject: &Subject, value: Option<f64>) -> String {
        let object = subject.object.as_str();
        let get = |metric| self.value(subject.scope, metric, object);
        let bytes = |v: Option<f64>| v.map_or("?".into(), |v| human(v.max(0.0) as u64));
        let n = value.map_or("?".into(), number);
        match (subject.code, value) {
            (Code::Usage, Some(_)) => {
                format!("{n} % of the limit is used ({} of {})", bytes(get("used_bytes")), bytes(get("limit_bytes")))
            }
            (Code::Space, Some(_)) => {
                format!("{n} % of the room of its file system is used, {} can still be written", bytes(get("available_bytes")))
            }
            (Code::Growth, Some(_)) => {
                let speed = self.trends.get(object).and_then(|f| f.per_day);
                format!("it is full in {n} days: it grows by {} a day", bytes(speed))
            }
            (Code::Growth, None) => "it does not grow towards its end any more".into(),
            (Code::Sessions, Some(_)) => format!("{n} sessions"),
            (Code::Latency, Some(_)) => {
                let ms = |metric| get(metric).map_or("unknown".into(), |s| format!("{} ms", number(s * 1000.0)));
                format!("a read takes {}, a write {}", ms("read_latency"), ms("write_latency"))
            }
            (Code::Latency, None) => "nobody reads or writes".into(),
            (Code::Errors, Some(_)) => format!("{n} reads, writes and flushes fail in a minute"),
            (Code::Logins, Some(_)) => format!("{n} log-ins are refused in a minute"),
            (Code::Legacy, Some(_)) => format!("{n} sessions are older than SMB 3.1.1"),
            (Code::GatewayDown, Some(v)) => (if v > 0.0 { "smbd does not run" } else { "smbd runs" }).into(),
            (Code::WinbindDown, Some(v)) => (if v > 0.0 { "winbindd does not run" } else { "winbindd runs" }).into(),
            (Code::Domain, Some(v)) if v > 0.0 => match self.reasons.get(object) {
                Some(reason) => format!("the membership of the domain does not work: {reason}"),
                None => "the membership of the domain does not work".into(),
            },
            (Code::Domain, Some(_)) => "the membership of the domain works".into(),
            (Code::NotReady, Some(v)) => (if v > 0.0 { "it is not served" } else { "it is served" }).into(),
            (Code::StoreFailing, Some(v)) if v > 0.0 => format!("{n} scrapes in a minute are not kept"),
            (Code::StoreFailing, Some(_)) => "scrapes are kept".into(),
            (Code::Memory, Some(_)) => format!(
                "{n} % of its memory is used ({} of {})",
                bytes(get("guest_memory_bytes")),
                bytes(get("guest_memory_limit_bytes"))
            ),
            (Code::SourceStale | Code::SourceAbsent, Some(v)) if v > 0.0 => {
                let gateway = (subject.scope == Scope::Gateway).then_some(object);
                let absent = subject.code == Code::SourceAbsent;
                let list = if absent { self.absent(gateway) } else { self.stale(gateway) };
                list.into_iter().map(|s| self.source_text(s)).collect::<Vec<_>>().join("; ")
            }
            (Code::SourceStale | Code::SourceAbsent, Some(_)) => "all sources answer".into(),
            _ => "it is well".into(),
        }
    }

    fn source_text(&self, s: &SourceState) -> String {
        let since = s.at.map(|at| (self.now_ms - at) / 1000).filter(|s| *s > 0);
        let how = match since {
            Some(seconds) => format!("{} has not answered for {seconds} s", s.source.name()),
            None => format!("{} has not answered", s.source.name()),
        };
        match &s.why {
            Some(why) => format!("{how}: {why}"),
            None => how,
        }
    }
}

fn subject(scope: Scope, object: &str, code: Code) -> Subject {
    Subject { scope, object: object.to_owned(), code }
}

/// Of what is 1 when it is well.
fn bad(value: Option<f64>) -> Reading {
    value.map_or(Reading::Unknown, |v| state(v == 0.0))
}

fn state(bad: bool) -> Reading {
    Reading::Value(if bad { 1.0 } else { 0.0 })
}

/// A number for people: a tenth where that says something.
pub fn number(v: f64) -> String {
    let tenths = (v * 10.0).round() / 10.0;
    if tenths.fract() == 0.0 || tenths.abs() >= 1000.0 { format!("{tenths:.0}") } else { format!("{tenths:.1}") }
}
