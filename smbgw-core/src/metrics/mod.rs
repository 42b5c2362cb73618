// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is measured, as data: the one table of metrics, samples, and the results of one scrape. Everything that stores, exports, judges or
//! draws figures reads this table. It knows names, units and where a figure comes from; it must not know how a figure is got at, nor the
//! machine (pure: no clock, no files, no processes).
//!
//! A figure that cannot be known is absent, never zero: a scrape says for each source whether it answered and, if not, why.

pub mod alert;
pub mod chart;
pub mod chunk;
pub mod export;
pub mod forecast;
pub mod openmetrics;
pub mod quantity;
pub mod report;
pub mod rollup;
pub mod when;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What a metric is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// One share; the object is its storage id.
    Share,
    /// One gateway: the Samba that serves its shares; the object is its name.
    Gateway,
    /// The node; the object is its name.
    Node,
}

impl Scope {
    /// As in documents.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Share => "share",
            Scope::Gateway => "gateway",
            Scope::Node => "node",
        }
    }
}

/// Whether a value stands for itself or grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The value at a moment.
    Gauge,
    /// What was counted since the collector first looked. It only grows; a smaller value is a new beginning (the collector's state was lost). Read
    /// as rate per second.
    Counter,
}

/// What a value counts, in OpenMetrics' base units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// Things: sessions, files, operations.
    Count,
    /// 1 or 0.
    State,
}

/// Where figures come from. Each has a deadline of its own and fails for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// `smbstatus -p` and `-S`, as text: linear in sessions.
    Sessions,
    /// `smbstatus -L -B -n`, as text: linear in open files; asked for seldom.
    Files,
    /// Samba's profile counters, one record for each smbd in `smbprofile.tdb`.
    Profile,
    /// Samba's log of refused log-ins.
    Logins,
    /// The limit of a share and what is used of it; the space of its file system.
    Space,
    /// Whether smbd and winbindd run, and the membership's health.
    Service,
    /// The container: its control groups.
    Guest,
    /// The collector itself.
    Collector,
}

impl Source {
    /// All of them.
    pub const ALL: [Source; 8] = [
        Source::Sessions,
        Source::Files,
        Source::Profile,
        Source::Logins,
        Source::Space,
        Source::Service,
        Source::Guest,
        Source::Collector,
    ];

    /// As in documents.
    pub fn name(self) -> &'static str {
        match self {
            Source::Sessions => "sessions",
            Source::Files => "files",
            Source::Profile => "profile",
            Source::Logins => "logins",
            Source::Space => "space",
            Source::Service => "service",
            Source::Guest => "guest",
            Source::Collector => "collector",
        }
    }
}

/// A line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Stable number in the store. Never given to another metric.
    pub number: u16,
    /// What it is about.
    pub scope: Scope,
    /// Its name, unique within a scope; words joined by `_`.
    pub name: &'static str,
    /// Whether it grows.
    pub kind: Kind,
    /// What it counts.
    pub unit: Unit,
    /// Where it comes from.
    pub source: Source,
    /// What it means, for people: HELP of OpenMetrics and the reference.
    pub text: &'static str,
    /// How wrong it may be, and when it is absent.
    pub error: &'static str,
}

// A line of the table, in the order of its columns.
#[allow(clippy::too_many_arguments)]
const fn metric(
    number: u16,
    scope: Scope,
    name: &'static str,
    kind: Kind,
    unit: Unit,
    source: Source,
    text: &'static str,
    error: &'static str,
) -> Metric {
    Metric { number, scope, name, kind, unit, source, text, error }
}

const EXACT: &str = "exact at the moment of the scrape";
const BY_CLIENT: &str = "exact, but for what a client did between the last look and its leaving the share; before Samba 4.23 only where a client's \
     connection uses one share: of one that uses several, the part is absent here and only in the gateway's figure; absent where the Samba does \
     not count (smbd profiling level)";
const BY_SAMBA: &str = "exact, smbd writes its counters at most half a second late; all shares of that Samba, foreign ones too; absent where the \
     Samba does not count (smbd profiling level)";

const FAILED: &str = "as operations; absent with Samba before 4.23, which does not count it";

/// All metrics, by number: 1–39 of shares, 40–79 of gateways, 80–99 of nodes. 65–79 are kept for CTDB: state of the node, addresses that it
/// holds, recoveries and the like.
pub const METRICS: &[Metric] = {
    use Kind::{Counter, Gauge};
    use Scope::{Gateway, Node, Share};
    use Source::{Collector, Files, Guest, Logins, Profile, Service, Sessions, Space};
    use Unit::{Bytes, Count, Seconds, State};
    &[
        metric(
            1,
            Share,
            "sessions",
            Gauge,
            Count,
            Sessions,
            "Sessions of connections that use the share, at most one for each tree connect.",
            EXACT,
        ),
        metric(2, Share, "tree_connects", Gauge, Count, Sessions, "Tree connects to the share.", EXACT),
        metric(3, Share, "users", Gauge, Count, Sessions, "Different users on connections that use the share.", EXACT),
        metric(
            4,
            Share,
            "open_files",
            Gauge,
            Count,
            Files,
            "Open files and directories of the share.",
            "exact, up to a minute old",
        ),
        metric(5, Share, "locks", Gauge, Count, Files, "Byte-range locks on files of the share.", "exact, up to a minute old"),
        metric(6, Share, "read_bytes", Counter, Bytes, Profile, "Bytes that clients read from the share.", BY_CLIENT),
        metric(7, Share, "written_bytes", Counter, Bytes, Profile, "Bytes that clients wrote to the share.", BY_CLIENT),
        metric(8, Share, "read_operations", Counter, Count, Profile, "SMB2 READ requests to the share.", BY_CLIENT),
        metric(9, Share, "write_operations", Counter, Count, Profile, "SMB2 WRITE requests to the share.", BY_CLIENT),
        metric(
            10,
            Share,
            "operations",
            Counter,
            Count,
            Profile,
            "SMB2 requests to the share, of all kinds; before Samba 4.23 with those by which its clients come and go.",
            BY_CLIENT,
        ),
        metric(
            11,
            Share,
            "read_latency",
            Gauge,
            Seconds,
            Profile,
            "Mean time that smbd took for a READ since the scrape before; absent without one.",
            BY_CLIENT,
        ),
        metric(
            12,
            Share,
            "write_latency",
            Gauge,
            Seconds,
            Profile,
            "Mean time that smbd took for a WRITE since the scrape before; absent without one.",
            BY_CLIENT,
        ),
        metric(
            13,
            Share,
            "used_bytes",
            Gauge,
            Bytes,
            Space,
            "What is used: of the share where a limit counts it, else of its file system.",
            "exact, late by what the file system counts late (quota command: lag-ms)",
        ),
        metric(14, Share, "available_bytes", Gauge, Bytes, Space, "What can still be written.", "as used_bytes"),
        metric(15, Share, "limit_bytes", Gauge, Bytes, Space, "The share's hard limit; absent without one.", "exact"),
        metric(16, Share, "ready", Gauge, State, Service, "The share is served: 1, or 0.", "as the status document"),
        metric(
            17,
            Share,
            "failed_operations",
            Counter,
            Count,
            Profile,
            "SMB2 READ, WRITE and FLUSH requests that failed; the end of a file is no failure.",
            FAILED,
        ),
        metric(40, Gateway, "up", Gauge, State, Service, "smbd runs: 1, or 0.", EXACT),
        metric(41, Gateway, "winbind_up", Gauge, State, Service, "winbindd runs; absent without a domain.", EXACT),
        metric(
            42,
            Gateway,
            "domain_ok",
            Gauge,
            State,
            Service,
            "The membership works, by the last look; absent without a domain.",
            "up to five minutes old",
        ),
        metric(43, Gateway, "sessions", Gauge, Count, Sessions, "Sessions.", EXACT),
        metric(44, Gateway, "tree_connects", Gauge, Count, Sessions, "Tree connects, without IPC$.", EXACT),
        metric(45, Gateway, "users", Gauge, Count, Sessions, "Different users with a session.", EXACT),
        metric(46, Gateway, "encrypted_sessions", Gauge, Count, Sessions, "Sessions of which something is encrypted.", EXACT),
        metric(
            47,
            Gateway,
            "signed_sessions",
            Gauge,
            Count,
            Sessions,
            "Sessions of which something is signed or encrypted.",
            EXACT,
        ),
        metric(48, Gateway, "legacy_sessions", Gauge, Count, Sessions, "Sessions by a dialect older than SMB 3.1.1.", EXACT),
        metric(49, Gateway, "open_files", Gauge, Count, Files, "Open files and directories.", "exact, up to a minute old"),
        metric(50, Gateway, "locks", Gauge, Count, Files, "Byte-range locks.", "exact, up to a minute old"),
        metric(51, Gateway, "read_bytes", Counter, Bytes, Profile, "Bytes that clients read.", BY_SAMBA),
        metric(52, Gateway, "written_bytes", Counter, Bytes, Profile, "Bytes that clients wrote.", BY_SAMBA),
        metric(53, Gateway, "read_operations", Counter, Count, Profile, "SMB2 READ requests.", BY_SAMBA),
        metric(54, Gateway, "write_operations", Counter, Count, Profile, "SMB2 WRITE requests.", BY_SAMBA),
        metric(55, Gateway, "operations", Counter, Count, Profile, "SMB2 requests of all kinds.", BY_SAMBA),
        metric(
            56,
            Gateway,
            "read_latency",
            Gauge,
            Seconds,
            Profile,
            "Mean time of a READ since the scrape before; absent without one.",
            BY_SAMBA,
        ),
        metric(
            57,
            Gateway,
            "write_latency",
            Gauge,
            Seconds,
            Profile,
            "Mean time of a WRITE since the scrape before; absent without one.",
            BY_SAMBA,
        ),
        metric(58, Gateway, "connections", Counter, Count, Profile, "Connections that were accepted.", BY_SAMBA),
        metric(59, Gateway, "smbd_cpu", Counter, Seconds, Profile, "Processor time of smbd.", BY_SAMBA),
        metric(
            60,
            Gateway,
            "failed_logins",
            Counter,
            Count,
            Logins,
            "Log-ins that Samba refused.",
            "exact while Samba's log has them; absent where it does not log them",
        ),
        metric(
            61,
            Gateway,
            "guest_cpu",
            Counter,
            Seconds,
            Guest,
            "Processor time of the container.",
            "exact; absent in mode native",
        ),
        metric(
            62,
            Gateway,
            "guest_memory_bytes",
            Gauge,
            Bytes,
            Guest,
            "Memory of the container, with its caches.",
            "exact; absent in mode native",
        ),
        metric(
            63,
            Gateway,
            "guest_memory_limit_bytes",
            Gauge,
            Bytes,
            Guest,
            "Limit of the container's memory.",
            "exact; absent in mode native",
        ),
        metric(
            64,
            Gateway,
            "failed_operations",
            Counter,
            Count,
            Profile,
            "SMB2 READ, WRITE and FLUSH requests that failed; the end of a file is no failure.",
            FAILED,
        ),
        metric(80, Node, "scrape_seconds", Gauge, Seconds, Collector, "How long the last scrape of all gateways took.", EXACT),
        metric(81, Node, "scrape_failures", Counter, Count, Collector, "Sources that did not answer.", EXACT),
        metric(82, Node, "store_bytes", Gauge, Bytes, Collector, "Size of the store of figures.", EXACT),
        metric(83, Node, "store_failures", Counter, Count, Collector, "Scrapes that the store did not take.", EXACT),
        metric(
            84,
            Node,
            "collector_cpu",
            Counter,
            Seconds,
            Collector,
            "Processor time of the collector, without Samba's programs.",
            EXACT,
        ),
    ]
};

/// A metric by its number.
pub fn by_number(number: u16) -> Option<&'static Metric> {
    METRICS.binary_search_by_key(&number, |m| m.number).ok().map(|i| &METRICS[i])
}

/// A metric by scope and name.
pub fn by_name(scope: Scope, name: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|m| m.scope == scope && m.name == name)
}

/// The table as a document: `[{number, scope, name, kind, unit, source, prometheus, description, error}]`.
pub fn document() -> Value {
    let row = |m: &Metric| {
        json!({
            "number": m.number, "scope": m.scope, "name": m.name, "kind": m.kind, "unit": m.unit, "source": m.source,
            "prometheus": openmetrics::sample_name(m), "description": m.text, "error": m.error,
        })
    };
    Value::Array(METRICS.iter().map(row).collect())
}

/// Which series: a metric of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Its number in [`METRICS`]; the scope is the metric's.
    pub metric: u16,
    /// Storage id, gateway or node.
    pub object: String,
}

impl Key {
    /// A key of a metric of the table.
    pub fn new(metric: &Metric, object: &str) -> Self {
        Self { metric: metric.number, object: object.to_owned() }
    }
}

/// One value of one series; the time is that of the scrape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Which series.
    #[serde(flatten)]
    pub key: Key,
    /// A finite number.
    pub value: f64,
}

/// Whether a source of a gateway (or of the node) answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SourceState {
    /// Which.
    pub source: Source,
    /// Of which gateway; of the node: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// When it last answered, in milliseconds since the epoch; never: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Why it did not answer, or does not have its figures; an answer: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What one scrape of a node found: also the document of current values, in the run directory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Scrape {
    /// The node.
    pub node: String,
    /// When, in milliseconds since the epoch: the time of all its samples.
    pub at: i64,
    /// How long it took in all, in milliseconds.
    pub took_ms: u64,
    /// The gateway of each share, by storage id.
    pub shares: std::collections::BTreeMap<String, String>,
    /// Values, sorted by key.
    pub samples: Vec<Sample>,
    /// Of counters the rate per second since the scrape before, sorted by key; absent where there is none to compare with.
    pub rates: Vec<Sample>,
    /// How the sources did.
    pub sources: Vec<SourceState>,
}

impl Scrape {
    /// A value, if it is known.
    pub fn value(&self, metric: &Metric, object: &str) -> Option<f64> {
        self.samples.iter().find(|s| s.key.metric == metric.number && s.key.object == object).map(|s| s.value)
    }
}

/// What became of a stretch of time of one series: of a gauge its values, of a counter its rates per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its beginning, in milliseconds since the epoch, a multiple of its length.
    pub start: i64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Mean of the values.
    pub mean: f64,
    /// How many values; never 0: a stretch without any has no bucket.
    pub count: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_unique_and_in_order() {
        assert!(METRICS.windows(2).all(|w| w[0].number < w[1].number));
        let mut names: Vec<_> = METRICS.iter().map(|m| (m.scope, m.name)).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
        for m in METRICS {
            assert_eq!(by_number(m.number).map(|f| f.name), Some(m.name));
            assert!(m.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && m.text.ends_with('.'), "{}", m.name);
        }
        assert!(by_number(0).is_none());
    }

    #[test]
    fn a_scrape_survives_json() {
        let m = by_name(Scope::Share, "sessions").expect("there");
        let scrape = Scrape {
            node: "pve1".into(),
            at: 1_790_000_000_000,
            took_ms: 12,
            shares: [("office".to_owned(), "native".to_owned())].into(),
            samples: vec![Sample { key: Key::new(m, "office"), value: 3.0 }],
            rates: Vec::new(),
            sources: vec![SourceState {
                source: Source::Profile,
                gateway: Some("native".into()),
                at: None,
                took_ms: 1,
                why: Some("off".into()),
            }],
        };
        let text = serde_json::to_string(&scrape).expect("json");
        assert_eq!(serde_json::from_str::<Scrape>(&text).expect("json"), scrape);
        assert_eq!(scrape.value(m, "office"), Some(3.0));
        assert_eq!(scrape.value(m, "other"), None);
    }
}
