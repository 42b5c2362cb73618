// SPDX-License-Identifier: MIT OR Apache-2.0
//! A scrape as text for Prometheus: OpenMetrics 1.0, and the text format 0.0.4 for the textfile collector of node_exporter. It knows the two
//! formats and how names and labels are made from the table; it must not know how a scrape came to be, or who asks.
//!
//! Labels are bounded by the configuration: node, gateway, share, source. Users and clients are never in one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Kind, METRICS, Metric, Scope, Scrape, Unit};

/// Content type of [`Form::OpenMetrics`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Content type of [`Form::Text`].
pub const CONTENT_TYPE_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// A scrape of that age, in milliseconds, is history: its values are not given as those of now.
pub const STALE_MS: i64 = 60_000;

/// Which of the two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// OpenMetrics 1.0: what Prometheus asks for.
    OpenMetrics,
    /// Prometheus' text format 0.0.4: what node_exporter's textfile collector reads. It refuses timestamps.
    Text,
}

/// What is told about the scrape itself, beside the table: name, kind, unit, help.
const ABOUT: [(&str, Kind, Unit, &str); 6] = [
    ("smbgw_up", Kind::Gauge, Unit::State, "The collector of the node scrapes: 1, or 0. At 0 no other figure is given."),
    ("smbgw_source_up", Kind::Gauge, Unit::State, "The source of figures answered: 1, or 0. At 0 its figures are absent."),
    ("smbgw_source_duration_seconds", Kind::Gauge, Unit::Seconds, "How long the source took to answer."),
    ("smbgw_source_answer_timestamp_seconds", Kind::Gauge, Unit::Seconds, "When the source last answered, since the epoch."),
    ("smbgw_scrape_timestamp_seconds", Kind::Gauge, Unit::Seconds, "When the figures were taken, since the epoch."),
    ("smbgw_scrape_duration_seconds", Kind::Gauge, Unit::Seconds, "How long it took to take them."),
];

/// The name of a metric's family: scope, name and unit, without `_total`.
pub fn family(metric: &Metric) -> String {
    let unit = suffix(metric.unit).filter(|u| !metric.name.ends_with(u)).unwrap_or("");
    format!("smbgw_{}_{}{unit}", metric.scope.name(), metric.name)
}

/// The name of a metric's samples, by which one asks for it: that of a counter ends in `_total`.
pub fn sample_name(metric: &Metric) -> String {
    match metric.kind {
        Kind::Gauge => family(metric),
        Kind::Counter => family(metric) + "_total",
    }
}

/// All names that can be asked for, those about the scrape first.
pub fn names() -> Vec<String> {
    ABOUT.iter().map(|a| a.0.to_owned()).chain(METRICS.iter().map(sample_name)).collect()
}

fn suffix(unit: Unit) -> Option<&'static str> {
    match unit {
        Unit::Bytes => Some("_bytes"),
        Unit::Seconds => Some("_seconds"),
        Unit::Count | Unit::State => None,
    }
}

/// The text of a scrape that is `age_ms` old. One that is stale, from the future, or was never made (without a time) says that the collector and all sources
/// are down, and gives no values.
pub fn text(scrape: &Scrape, age_ms: i64, form: Form) -> String {
    let mut out = Text { form, out: String::new() };
    // A clock that was set back makes a scrape of the future: nobody knows how old it is.
    let fresh = scrape.at > 0 && age_ms > -STALE_MS && age_ms < STALE_MS;
    let node = [("node", scrape.node.as_str())];
    let [up, source_up, took, answered, at, duration] = ABOUT;
    out.about(up, [(labels(&node), flag(fresh))]);
    let sources = || {
        let mut seen = BTreeSet::new();
        scrape.sources.iter().filter_map(move |s| {
            let gateway = s.gateway.as_deref().unwrap_or("");
            let labels = labels(&[("node", &scrape.node), ("gateway", gateway), ("source", s.source.name())]);
            seen.insert(labels.clone()).then_some((labels, s))
        })
    };
    out.about(source_up, sources().map(|(l, s)| (l, flag(fresh && s.why.is_none()))));
    if fresh {
        out.about(took, sources().map(|(l, s)| (l, s.took_ms as f64 / 1e3)));
    }
    out.about(answered, sources().filter_map(|(l, s)| s.at.map(|at| (l, at as f64 / 1e3))));
    if scrape.at > 0 {
        out.about(at, [(labels(&node), scrape.at as f64 / 1e3)]);
    }
    if fresh {
        out.about(duration, [(labels(&node), scrape.took_ms as f64 / 1e3)]);
        let mut by_metric: BTreeMap<u16, Vec<(&str, f64)>> = BTreeMap::new();
        for s in &scrape.samples {
            by_metric.entry(s.key.metric).or_default().push((&s.key.object, s.value));
        }
        for metric in METRICS {
            let samples = by_metric.get(&metric.number).map(Vec::as_slice).unwrap_or_default();
            // A counter that is negative or no number is no counter.
            let sane = samples.iter().filter(|(_, v)| v.is_finite() && (metric.kind == Kind::Gauge || *v >= 0.0));
            let mut seen = BTreeSet::new();
            let lines = sane.filter_map(|(object, value)| {
                let labels = object_labels(metric.scope, object, scrape);
                seen.insert(labels.clone()).then_some((labels, *value))
            });
            out.family(&family(metric), metric.kind, metric.unit, metric.text, lines);
        }
    }
    if form == Form::OpenMetrics {
        out.out.push_str("# EOF\n");
    }
    out.out
}

fn flag(yes: bool) -> f64 {
    if yes { 1.0 } else { 0.0 }
}

fn object_labels(scope: Scope, object: &str, scrape: &Scrape) -> String {
    match scope {
        Scope::Share => {
            let gateway = scrape.shares.get(object).map_or("", String::as_str);
            labels(&[("node", &scrape.node), ("gateway", gateway), ("share", object)])
        }
        Scope::Gateway => labels(&[("node", &scrape.node), ("gateway", object)]),
        Scope::Node => labels(&[("node", object)]),
    }
}

/// `{node="pve1",share="office"}`. An empty label and none are the same to Prometheus: it is left out.
fn labels(pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, value) in pairs.iter().filter(|(_, v)| !v.is_empty()) {
        let _ = write!(out, "{}{name}=\"{}\"", if out.is_empty() { '{' } else { ',' }, escape(value, true));
    }
    if !out.is_empty() {
        out.push('}');
    }
    out
}

/// What both formats escape. Other control characters are in no name that Proxmox allows; some readers end a line or a text at one.
fn escape(text: &str, quotes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

struct Text {
    form: Form,
    out: String,
}

impl Text {
    fn about(&mut self, (name, kind, unit, help): (&str, Kind, Unit, &str), lines: impl IntoIterator<Item = (String, f64)>) {
        self.family(name, kind, unit, help, lines);
    }

    /// One family with its samples; without samples nothing.
    fn family(&mut self, family: &str, kind: Kind, unit: Unit, help: &str, lines: impl IntoIterator<Item = (String, f64)>) {
        let (total, word) = match kind {
            Kind::Gauge => ("", "gauge"),
            Kind::Counter => ("_total", "counter"),
        };
        // In the older format the family of a counter has the name of its samples.
        let (head, quotes) = match self.form {
            Form::OpenMetrics => (family.to_owned(), true),
            Form::Text => (format!("{family}{total}"), false),
        };
        let mut headed = false;
        for (labels, value) in lines {
            if !headed {
                headed = true;
                let _ = writeln!(self.out, "# HELP {head} {}\n# TYPE {head} {word}", escape(help, quotes));
                if let (Form::OpenMetrics, Some(unit)) = (self.form, suffix(unit)) {
                    let _ = writeln!(self.out, "# UNIT {head} {}", &unit[1..]);
                }
            }
            let _ = writeln!(self.out, "{family}{total}{labels} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Key, Sample, Source, SourceState, by_name};

    fn sample(scope: Scope, name: &str, object: &str, value: f64) -> Sample {
        Sample { key: Key::new(by_name(scope, name).expect("in the table"), object), value }
    }

    fn scrape() -> Scrape {
        let source = |source, gateway: Option<&str>, why: Option<&str>| SourceState {
            source,
            gateway: gateway.map(str::to_owned),
            at: why.is_none().then_some(1_795_841_135_250),
            took_ms: 12,
            why: why.map(str::to_owned),
        };
        Scrape {
            node: "pve1".into(),
            at: 1_795_841_135_250,
            took_ms: 45,
            shares: [("office".to_owned(), "native".to_owned())].into(),
            samples: vec![
                sample(Scope::Share, "sessions", "office", 3.0),
                sample(Scope::Share, "sessions", "a\"b\\c\nd", 1.0),
                sample(Scope::Share, "read_bytes", "office", 1e15),
                sample(Scope::Share, "read_latency", "office", 0.0012),
                sample(Scope::Gateway, "smbd_cpu", "native", 1.5),
                sample(Scope::Gateway, "failed_logins", "native", f64::NAN),
                sample(Scope::Node, "store_bytes", "pve1", 4096.0),
            ],
            rates: Vec::new(),
            sources: vec![
                source(Source::Sessions, Some("native"), None),
                source(Source::Profile, Some("native"), Some("smbd profiling level is off")),
                source(Source::Collector, None, None),
            ],
        }
    }

    const GOLDEN: &str = r#"# HELP smbgw_up The collector of the node scrapes: 1, or 0. At 0 no other figure is given.
# TYPE smbgw_up gauge
smbgw_up{node="pve1"} 1
# HELP smbgw_source_up The source of figures answered: 1, or 0. At 0 its figures are absent.
# TYPE smbgw_source_up gauge
smbgw_source_up{node="pve1",gateway="native",source="sessions"} 1
smbgw_source_up{node="pve1",gateway="native",source="profile"} 0
smbgw_source_up{node="pve1",source="collector"} 1
# HELP smbgw_source_duration_seconds How long the source took to answer.
# TYPE smbgw_source_duration_seconds gauge
# UNIT smbgw_source_duration_seconds seconds
smbgw_source_duration_seconds{node="pve1",gateway="native",source="sessions"} 0.012
smbgw_source_duration_seconds{node="pve1",gateway="native",source="profile"} 0.012
smbgw_source_duration_seconds{node="pve1",source="collector"} 0.012
# HELP smbgw_source_answer_timestamp_seconds When the source last answered, since the epoch.
# TYPE smbgw_source_answer_timestamp_seconds gauge
# UNIT smbgw_source_answer_timestamp_seconds seconds
smbgw_source_answer_timestamp_seconds{node="pve1",gateway="native",source="sessions"} 1795841135.25
smbgw_source_answer_timestamp_seconds{node="pve1",source="collector"} 1795841135.25
# HELP smbgw_scrape_timestamp_seconds When the figures were taken, since the epoch.
# TYPE smbgw_scrape_timestamp_seconds gauge
# UNIT smbgw_scrape_timestamp_seconds seconds
smbgw_scrape_timestamp_seconds{node="pve1"} 1795841135.25
# HELP smbgw_scrape_duration_seconds How long it took to take them.
# TYPE smbgw_scrape_duration_seconds gauge
# UNIT smbgw_scrape_duration_seconds seconds
smbgw_scrape_duration_seconds{node="pve1"} 0.045
# HELP smbgw_share_sessions Sessions of connections that use the share, at most one for each tree connect.
# TYPE smbgw_share_sessions gauge
smbgw_share_sessions{node="pve1",gateway="native",share="office"} 3
smbgw_share_sessions{node="pve1",share="a\"b\\c\nd"} 1
# HELP smbgw_share_read_bytes Bytes that clients read from the share.
# TYPE smbgw_share_read_bytes counter
# UNIT smbgw_share_read_bytes bytes
smbgw_share_read_bytes_total{node="pve1",gateway="native",share="office"} 1000000000000000
# HELP smbgw_share_read_latency_seconds Mean time that smbd took for a READ since the scrape before; absent without one.
# TYPE smbgw_share_read_latency_seconds gauge
# UNIT smbgw_share_read_latency_seconds seconds
smbgw_share_read_latency_seconds{node="pve1",gateway="native",share="office"} 0.0012
# HELP smbgw_gateway_smbd_cpu_seconds Processor time of smbd.
# TYPE smbgw_gateway_smbd_cpu_seconds counter
# UNIT smbgw_gateway_smbd_cpu_seconds seconds
smbgw_gateway_smbd_cpu_seconds_total{node="pve1",gateway="native"} 1.5
# HELP smbgw_node_store_bytes Size of the store of figures.
# TYPE smbgw_node_store_bytes gauge
# UNIT smbgw_node_store_bytes bytes
smbgw_node_store_bytes{node="pve1"} 4096
# EOF
"#;

    #[test]
    fn golden() {
        assert_eq!(text(&scrape(), 5000, Form::OpenMetrics), GOLDEN);
    }

    #[test]
    fn the_older_format_has_no_units_and_no_end() {
        let want: String =
            GOLDEN.lines().filter(|l| !l.starts_with("# UNIT") && *l != "# EOF").fold(String::new(), |mut s, l| {
                let counter = ["smbgw_share_read_bytes", "smbgw_gateway_smbd_cpu_seconds"]
                    .iter()
                    .find(|c| l.starts_with('#') && l.contains(**c));
                s.push_str(&counter.map_or(l.to_owned(), |c| l.replace(c, &format!("{c}_total"))));
                s.push('\n');
                s
            });
        assert_eq!(text(&scrape(), 5000, Form::Text), want);
    }

    #[test]
    fn what_is_stale_has_no_values() {
        for age in [STALE_MS, i64::MAX, -STALE_MS, i64::MIN] {
            let t = text(&scrape(), age, Form::OpenMetrics);
            assert!(t.contains("smbgw_up{node=\"pve1\"} 0\n"), "{t}");
            assert!(t.contains("smbgw_scrape_timestamp_seconds{node=\"pve1\"} 1795841135.25\n"));
            assert!(t.lines().filter(|l| l.starts_with("smbgw_source_up")).all(|l| l.ends_with(" 0")), "{t}");
            assert!(!t.contains("smbgw_share") && !t.contains("duration"), "{t}");
        }
        // There was never one.
        let t = text(&Scrape { node: "pve1".into(), ..Scrape::default() }, 0, Form::OpenMetrics);
        assert!(t.ends_with("smbgw_up{node=\"pve1\"} 0\n# EOF\n") && t.lines().count() == 4, "{t}");
    }

    #[test]
    fn names_follow_the_rules() {
        let all = names();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        for m in METRICS {
            let (family, name) = (family(m), sample_name(m));
            assert_eq!(name.ends_with("_total"), m.kind == Kind::Counter, "{name}");
            assert!(suffix(m.unit).is_none_or(|u| family.ends_with(u)), "{family}");
            assert!(!family.ends_with("_total") && !family.ends_with("_count") && !family.ends_with("_info"), "{family}");
        }
        assert!(all.iter().any(|n| n == "smbgw_share_read_bytes_total"));
        assert!(all.iter().any(|n| n == "smbgw_node_scrape_seconds"));
    }

    #[test]
    fn nothing_is_said_twice() {
        let mut s = scrape();
        s.samples.push(sample(Scope::Share, "sessions", "office", 9.0));
        s.samples.push(sample(Scope::Share, "written_bytes", "office", -1.0));
        s.sources.push(s.sources[0].clone());
        assert_eq!(text(&s, 0, Form::OpenMetrics), GOLDEN);
    }
}
