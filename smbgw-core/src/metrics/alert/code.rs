// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one table of alerts: their codes, what they are about, what they mean, what helps, and how they are judged unless somebody says
//! otherwise. docs/ALERTS.md is written from it. It must not know how a value is got.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::Scope;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing has to be done.
    Info,
    /// Something will go wrong, or goes slowly.
    Warning,
    /// Shares are not served, or soon are not.
    Critical,
}

impl Severity {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }

    /// The severity of a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Severity::Info, Severity::Warning, Severity::Critical].into_iter().find(|s| s.as_str() == word)
    }
}

/// How a code is judged where nobody says otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Defaults {
    /// Thresholds with their severities, from the first to the worst. One that is off by default has those that are good when it is on.
    pub steps: &'static [(f64, Severity)],
    /// How far on the good side of a threshold the value has to be to count as well.
    pub margin: f64,
    /// Seconds that it must hold before it is told.
    pub hold: u32,
    /// Seconds that it must be well before that is told.
    pub clear: u32,
    /// Whether it is judged at all.
    pub on: bool,
}

/// What a threshold counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// It is so, or not: there is no threshold to choose.
    State,
    /// Percent.
    Percent,
    /// Days; less is worse.
    Days,
    /// Things.
    Count,
    /// Milliseconds.
    Milliseconds,
    /// Things in a minute.
    PerMinute,
    /// Seconds.
    Seconds,
}

impl Measure {
    /// Behind a number, for people and documents.
    pub fn unit(self) -> &'static str {
        match self {
            Measure::State => "",
            Measure::Percent => "%",
            Measure::Days => "days",
            Measure::Count => "",
            Measure::Milliseconds => "ms",
            Measure::PerMinute => "per minute",
            Measure::Seconds => "s",
        }
    }

    /// A smaller value is worse.
    pub fn less_is_worse(self) -> bool {
        self == Measure::Days
    }
}

macro_rules! codes {
    ($($name:ident $word:literal [$($scope:ident),*] $measure:ident $defaults:expr, $means:literal, $remedy:literal;)*) => {
        /// What can be told.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $(#[doc = $means] $name,)* }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];
            /// The word, which does not change.
            pub fn word(self) -> &'static str { match self { $(Code::$name => $word,)* } }
            /// What it is about.
            pub fn scopes(self) -> &'static [Scope] { match self { $(Code::$name => &[$(Scope::$scope),*],)* } }
            /// What its thresholds count.
            pub fn measure(self) -> Measure { match self { $(Code::$name => Measure::$measure,)* } }
            /// How it is judged where nobody says otherwise.
            pub fn defaults(self) -> Defaults { match self { $(Code::$name => $defaults,)* } }
            /// What it means.
            pub fn means(self) -> &'static str { match self { $(Code::$name => $means,)* } }
            /// What helps; `{}` stands for the object.
            pub fn remedy(self) -> &'static str { match self { $(Code::$name => $remedy,)* } }
        }
    };
}

use Severity::{Critical, Info, Warning};

const fn on(steps: &'static [(f64, Severity)], margin: f64, hold: u32, clear: u32) -> Defaults {
    Defaults { steps, margin, hold, clear, on: true }
}

const fn off(steps: &'static [(f64, Severity)], margin: f64, hold: u32, clear: u32) -> Defaults {
    Defaults { on: false, ..on(steps, margin, hold, clear) }
}

const fn state(severity: &'static [(f64, Severity)], hold: u32, clear: u32) -> Defaults {
    on(severity, 0.0, hold, clear)
}

codes! {
    Usage "usage" [Share] Percent on(&[(80.0, Warning), (90.0, Warning), (95.0, Critical)], 3.0, 60, 300),
        "so much of the share's limit is used",
        "remove what is not needed, or raise smbgw-quota: pve-smbgateway set {} --smbgw-quota SIZE";
    Space "space" [Share] Percent on(&[(90.0, Warning), (95.0, Critical)], 2.0, 60, 300),
        "the file system of the share is nearly full: of what the share could hold with it, so much is used",
        "give the file system more room, or remove what is not needed; other data on it counts too";
    Growth "growth" [Share] Days on(&[(14.0, Warning), (3.0, Critical)], 2.0, 3600, 3600),
        "at the growth of the last weeks the share is full in so many days",
        "see what grows: pve-smbgateway quota report; raise the limit or the room in time";
    Sessions "sessions" [Share, Gateway] Count off(&[(200.0, Warning)], 10.0, 60, 300),
        "so many sessions use it",
        "pve-smbgateway session list; each session is a process: see smbgw-processes and smbgw-memory";
    Latency "latency" [Share, Gateway] Milliseconds on(&[(500.0, Warning), (2000.0, Critical)], 100.0, 300, 300),
        "smbd takes so long for a read or a write, in the mean",
        "look at the disks below the share (iostat, zpool iostat, ceph osd perf) and at the load of the node";
    Errors "errors" [Share, Gateway] PerMinute on(&[(10.0, Warning), (100.0, Critical)], 5.0, 60, 600),
        "so many reads, writes and flushes fail: the disk has errors, the share is full, or clients stand in each other's way with locks",
        "look for errors of the disk (journalctl -k), and at limits: pve-smbgateway quota report";
    Logins "logins" [Gateway] PerMinute on(&[(20.0, Warning), (200.0, Critical)], 10.0, 60, 600),
        "so many log-ins are refused: somebody guesses passwords, or a client has an old one",
        "the log of Samba names accounts and addresses: journalctl -u smbd, or log.smbd; pve-smbgateway session list";
    Legacy "legacy-dialect" [Gateway] Count on(&[(1.0, Warning)], 0.0, 30, 300),
        "so many sessions use a dialect older than SMB 3.1.1",
        "pve-smbgateway session list shows them; upgrade those clients";
    GatewayDown "gateway-down" [Gateway] State state(&[(1.0, Critical)], 60, 60),
        "smbd does not run, so nothing of the gateway is served",
        "pve-smbgateway doctor --gateway {}; pve-smbgateway repair {}";
    WinbindDown "winbind-down" [Gateway] State state(&[(1.0, Critical)], 60, 60),
        "winbindd does not run, so no account of the domain can log in",
        "pve-smbgateway repair {}; pve-smbgateway ad check {}";
    Domain "domain" [Gateway] State state(&[(1.0, Critical)], 300, 60),
        "the membership of the domain does not work: accounts of the domain cannot log in, or soon cannot",
        "pve-smbgateway ad check {}";
    NotReady "not-ready" [Share] State state(&[(1.0, Critical)], 120, 60),
        "the share is not served",
        "pve-smbgateway status {}; pve-smbgateway doctor";
    SourceStale "source-stale" [Gateway, Node] State state(&[(1.0, Warning)], 300, 60),
        "a source of figures does not answer any more: what it told is old, and its alerts wait",
        "the text names source and reason; pve-smbgateway doctor --gateway {}";
    SourceAbsent "source-absent" [Gateway, Node] State state(&[(1.0, Info)], 900, 60),
        "a source of figures has never answered: those figures are absent, and what needs them is not judged",
        "the text names source and reason; docs/MONITORING.md says what each source needs";
    AgentStale "agent-stale" [Node] Seconds on(&[(120.0, Critical)], 0.0, 0, 0),
        "there are no new figures of the node: its agent does not run, or hangs; nothing is judged meanwhile",
        "systemctl status pve-smbgateway-agent";
    StoreFailing "store-failing" [Node] PerMinute on(&[(1.0, Warning)], 0.5, 120, 300),
        "the store of figures does not take them: history has a gap",
        "look for room on the file system of /var/lib/smbgw; pve-smbgateway doctor";
    Memory "memory" [Gateway] Percent off(&[(95.0, Warning)], 5.0, 900, 300),
        "so much of the container's memory is used, its caches included",
        "pve-smbgateway set ID --smbgw-memory MIB, of any share of the gateway";
    AlertsLost "alerts-lost" [Node] State state(&[(1.0, Warning)], 0, 0),
        "the record of alerts could not be read and was begun anew: silences are gone, and what is active is told once, in one message",
        "set silences again; the damaged record was set aside";
}

impl Code {
    /// The code of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|c| c.word() == word)
    }

    /// Whether a rule can be set for it: what stands for the record itself is only told.
    pub fn has_rule(self) -> bool {
        self != Code::AlertsLost
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let word = String::deserialize(d)?;
        Self::parse(&word).ok_or_else(|| serde::de::Error::custom(format!("{word:?} is no code of an alert")))
    }
}

/// The table as a document: `[{code, scopes, unit, on, at, severity, margin, for, clear-for, means, remedy}]`.
pub fn document() -> Value {
    let line = |c: &Code| {
        let d = c.defaults();
        let (at, severity): (Vec<f64>, Vec<Severity>) = d.steps.iter().copied().unzip();
        json!({
            "code": c.word(), "scopes": c.scopes(), "unit": c.measure().unit(), "on": d.on,
            "at": if c.measure() == Measure::State { Vec::new() } else { at }, "severity": severity, "margin": d.margin, "for": d.hold,
            "clear-for": d.clear, "means": c.means(), "remedy": c.remedy(),
        })
    };
    Value::Array(Code::ALL.iter().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_its_own_rules() {
        for (i, c) in Code::ALL.iter().enumerate() {
            assert_eq!(Code::parse(c.word()), Some(*c));
            assert!(Code::ALL[i + 1..].iter().all(|o| o.word() != c.word()), "{}", c.word());
            assert!(c.word().bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", c.word());
            let d = c.defaults();
            assert!(!d.steps.is_empty() && d.steps.len() <= super::super::config::MOST_STEPS && d.margin >= 0.0);
            let worse = |a: f64, b: f64| if c.measure().less_is_worse() { a > b } else { a < b };
            assert!(d.steps.windows(2).all(|w| worse(w[0].0, w[1].0) && w[0].1 <= w[1].1), "{}", c.word());
            assert!(!c.means().ends_with('.') && !c.remedy().is_empty());
        }
        assert_eq!(Code::parse("Usage"), None);
    }
}
