// SPDX-License-Identifier: MIT OR Apache-2.0
//! What others read is read by them: OpenMetrics by the reference parser (python3-prometheus-client) and by Prometheus' own, the text for
//! node_exporter by `promtool check metrics`, CSV, SVG and HTML by Python's parsers; whatever the names are. The Grafana dashboard and the
//! table in docs/MONITORING.md name the metrics that there are.
//!
//! `promtool` is looked for in the path and in `.cache/tools`, where `.ci/deps` puts it: Debian's package would start a server.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use smbgw_core::metrics::chart::{self, Look};
use smbgw_core::metrics::export::{self, Answer};
use smbgw_core::metrics::openmetrics::{self, Form};
use smbgw_core::metrics::report::{Alert, Gateway, Missing, Report, SCHEMA, Share, html};
use smbgw_core::metrics::when::Zone;
use smbgw_core::metrics::{Bucket, Key, Kind, METRICS, Sample, Scope, Scrape, Source, SourceState, Unit, by_name};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The tool, or nothing, said loudly; in CI its absence is a failure.
fn tool<T>(found: Option<T>, what: &str) -> Option<T> {
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{what} is missing: run .ci/deps");
        eprintln!("SKIPPED: {what} is not installed, what is written for others was not read by it");
    }
    found
}

fn run(program: &Path, args: &[&str], input: Option<&Path>) -> Output {
    let stdin = input.map_or_else(Stdio::null, |f| fs::File::open(f).expect("own file").into());
    Command::new(program).args(args).env("LC_ALL", "C.UTF-8").stdin(stdin).output().expect("it runs")
}

fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// Debian's first: its packages are not seen by another.
fn python(module: &str) -> Option<PathBuf> {
    let has = |p: &PathBuf| Command::new(p).args(["-c", &format!("import {module}")]).output().is_ok_and(|o| o.status.success());
    tool(["/usr/bin/python3", "python3"].map(PathBuf::from).into_iter().find(has), &format!("python3 with {module}"))
}

fn promtool() -> Option<PathBuf> {
    let own = top().join(".cache/tools/promtool");
    let found = [own, PathBuf::from("promtool")]
        .into_iter()
        .find(|p| Command::new(p).arg("--version").output().is_ok_and(|o| o.status.success()));
    tool(found, "promtool")
}

/// Any name, also one that no node or share can have.
fn names() -> impl Strategy<Value = String> {
    prop_oneof![Just("office".to_owned()), "[a-z\"\\\\\n{}=, #]{0,6}", ".{0,12}", any::<String>()]
}

fn scrapes() -> impl Strategy<Value = Scrape> {
    let sample = (0..METRICS.len(), names(), prop_oneof![0.0..1e18, proptest::num::f64::ANY])
        .prop_map(|(i, object, value)| Sample { key: Key::new(&METRICS[i], &object), value });
    let source = (0..Source::ALL.len(), proptest::option::of(names()), any::<bool>()).prop_map(|(i, gateway, up)| SourceState {
        source: Source::ALL[i],
        gateway,
        at: up.then_some(1_790_000_000_123),
        took_ms: 3,
        why: (!up).then(|| "why".to_owned()),
    });
    let shares = proptest::collection::btree_map(names(), names(), 0..4);
    let lists = (proptest::collection::vec(sample, 0..40), proptest::collection::vec(source, 0..6));
    (names(), shares, lists).prop_map(|(node, shares, (samples, sources))| Scrape {
        node,
        at: 1_790_000_000_123,
        took_ms: 7,
        shares,
        samples,
        rates: Vec::new(),
        sources,
    })
}

/// A value for each metric of the table.
fn full() -> Scrape {
    let object = |m: Scope| match m {
        Scope::Share => "office",
        Scope::Gateway => "native",
        Scope::Node => "pve1",
    };
    let state =
        |source| SourceState { source, gateway: Some("native".into()), at: Some(1_790_000_000_000), took_ms: 3, why: None };
    Scrape {
        node: "pve1".into(),
        at: 1_790_000_000_000,
        took_ms: 7,
        shares: [("office".to_owned(), "native".to_owned())].into(),
        samples: METRICS.iter().map(|m| Sample { key: Key::new(m, object(m.scope)), value: 1.5 }).collect(),
        rates: Vec::new(),
        sources: Source::ALL.map(state).into(),
    }
}

/// The full scrape first, then hostile ones, in one run of a program each: a start takes longer than its work.
fn corpus() -> Vec<Scrape> {
    let mut runner = TestRunner::deterministic();
    let strategy = scrapes();
    std::iter::once(full()).chain((0..100).map(|_| strategy.new_tree(&mut runner).expect("a scrape").current())).collect()
}

#[test]
fn openmetrics_is_read_by_the_reference_parser() {
    let Some(python) = python("prometheus_client.openmetrics.parser") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let texts: Vec<String> = corpus().iter().map(|s| openmetrics::text(s, 0, Form::OpenMetrics)).collect();
    for (i, t) in texts.iter().enumerate() {
        fs::write(dir.path().join(format!("{i}.txt")), t).expect("own directory");
    }
    // Names, kinds, units and values of the first come back; the others only have to be read.
    let script = r#"
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read
for i in range(int(sys.argv[2])):
    text = open(f"{sys.argv[1]}/{i}.txt", encoding="utf-8", newline="").read()
    try:
        families = list(read(text))
    except Exception as e:
        sys.exit(f"{e!r} in text {i}:\n{text}")
    if i == 0:
        print(json.dumps([[f.name, f.type, f.unit, [[s.name, s.labels, s.value] for s in f.samples]] for f in families]))
"#;
    let out = run(&python, &["-c", script, &dir.path().to_string_lossy(), &texts.len().to_string()], None);
    assert!(out.status.success(), "{}", said(&out));
    // Name, kind, unit, and samples: name, labels, value.
    type Family = (String, String, String, Vec<(String, Value, f64)>);
    let families: Vec<Family> = serde_json::from_slice(&out.stdout).expect("what was read");
    for m in METRICS {
        let name = openmetrics::family(m);
        let f = families.iter().find(|f| f.0 == name).unwrap_or_else(|| panic!("{name} was not read"));
        assert_eq!(f.1, if m.kind == Kind::Counter { "counter" } else { "gauge" }, "{name}");
        let unit = match m.unit {
            Unit::Bytes => "bytes",
            Unit::Seconds => "seconds",
            Unit::Count | Unit::State => "",
        };
        assert_eq!(f.2, unit, "{name}");
        assert_eq!((f.3.len(), f.3[0].0.as_str(), f.3[0].2), (1, openmetrics::sample_name(m).as_str(), 1.5), "{name}");
        assert_eq!(f.3[0].1["node"], "pve1", "{name}");
    }
    assert_eq!(families.len(), METRICS.len() + 6);
}

/// The parser of Prometheus itself has no command that checks OpenMetrics, but one that imports it: it wants a time with each value.
#[test]
fn openmetrics_is_read_by_prometheus() {
    let Some(promtool) = promtool() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    for (i, scrape) in corpus().iter().take(20).enumerate() {
        let text: String = openmetrics::text(scrape, 0, Form::OpenMetrics)
            .split_inclusive('\n')
            .map(|l| if l.starts_with('#') { l.to_owned() } else { format!("{} 1790000000\n", l.trim_end_matches('\n')) })
            .collect();
        let (file, blocks) = (dir.path().join("in.txt"), dir.path().join(i.to_string()));
        fs::write(&file, &text).expect("own directory");
        let out = run(
            &promtool,
            &["tsdb", "create-blocks-from", "openmetrics", &file.to_string_lossy(), &blocks.to_string_lossy()],
            None,
        );
        assert!(out.status.success(), "{}\n{text}", said(&out));
    }
    // It can say no.
    let file = dir.path().join("bad.txt");
    fs::write(&file, "a{b=\"c} 1 1790000000\n# EOF\n").expect("own directory");
    let blocks = dir.path().join("bad");
    let args = ["tsdb", "create-blocks-from", "openmetrics", &file.to_string_lossy(), &blocks.to_string_lossy()];
    assert!(!run(&promtool, &args, None).status.success());
}

#[test]
fn text_for_node_exporter_passes_promtool() {
    let Some(promtool) = promtool() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("smbgw.prom");
    let check = |text: &str| {
        fs::write(&file, text).expect("own directory");
        run(&promtool, &["check", "metrics"], Some(&file))
    };
    for scrape in corpus().iter().take(40) {
        let text = openmetrics::text(scrape, 0, Form::Text);
        let out = check(&text);
        assert!(out.status.success() && said(&out).is_empty(), "{}\n{text}", said(&out));
    }
    // The linter finds what we take care of.
    assert!(!check("# HELP a_total x.\n# TYPE a_total gauge\na_total 1\n").status.success());
}

fn bucket(start: i64, v: f64) -> Bucket {
    Bucket { start, min: v / 2.0, max: v * 2.0, mean: v, count: 6 }
}

#[test]
fn csv_comes_back() {
    let Some(python) = python("csv") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("answer.csv");
    let metric = by_name(Scope::Share, "read_latency").expect("in the table");
    let object = "a,\"b\"\r\nc";
    let answer = Answer::new(metric, object, (0, 20_000), 10_000, vec![bucket(0, 1.0 / 3.0), bucket(10_000, 1e-9)]);
    fs::write(&file, export::csv(&answer)).expect("own directory");
    let script =
        "import csv,json,sys\nprint(json.dumps(list(csv.reader(open(sys.argv[1],newline='',encoding='utf-8'),strict=True))))";
    let out = run(&python, &["-c", script, &file.to_string_lossy()], None);
    assert!(out.status.success(), "{}", said(&out));
    let rows: Vec<Vec<String>> = serde_json::from_slice(&out.stdout).expect("rows");
    assert_eq!(rows[0], ["time", "scope", "object", "metric", "min_seconds", "max_seconds", "mean_seconds", "samples"]);
    assert_eq!((rows.len(), rows[1][2].as_str(), rows[1][0].as_str()), (3, object, "1970-01-01T00:00:00Z"));
    assert_eq!(rows[1][6].parse(), Ok(1.0 / 3.0));
    assert_eq!(rows[2][6].parse(), Ok(1e-9));
}

#[test]
fn charts_and_reports_are_well_formed() {
    let Some(python) = python("xml.etree.ElementTree") else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let metric = by_name(Scope::Share, "used_bytes").expect("in the table");
    let mut runner = TestRunner::deterministic();
    let (names, values) = (names(), proptest::collection::vec(proptest::option::of(0.0..1e15), 0..40));
    let mut next = || {
        let name = names.new_tree(&mut runner).expect("a name").current();
        let values: Vec<Option<f64>> = values.new_tree(&mut runner).expect("values").current();
        let buckets = values.iter().zip(0..).filter_map(|(v, i)| v.map(|v| bucket(i * 60_000, v)));
        (name.clone(), Answer::new(metric, &name, (0, 40 * 60_000), 60_000, buckets.collect()))
    };
    let count = 40;
    for i in 0..count {
        let (name, answer) = next();
        let look = Look { id: &name, title: &name, zone: Zone(90), width: 640, height: 200, marks: &[], standalone: true };
        fs::write(dir.path().join(format!("{i}.svg")), chart::svg(&answer, &look)).expect("own directory");
        let mut share = Share::from_series(&name, Some(&name), &[answer], &[], 10_000, Zone(90));
        share.limit = Some(1e14);
        let report = Report {
            schema: SCHEMA,
            node: name.clone(),
            from: 0,
            to: 40 * 60_000,
            made_at: 0,
            utc_offset_minutes: Zone(90),
            shares: vec![share],
            gateways: vec![Gateway { name: name.clone(), ..Gateway::default() }],
            alerts: vec![Alert {
                severity: name.clone(),
                code: name.clone(),
                object: name.clone(),
                text: name.clone(),
                raised: 0,
                cleared: None,
            }],
            missing: vec![Missing { gateway: None, source: Source::Files, missing_ms: 5, why: Some(name) }],
        };
        fs::write(dir.path().join(format!("{i}.html")), html(&report)).expect("own directory");
    }
    // Nothing in it is fetched or run; each id is there once, and each reference to one leads somewhere.
    let script = r#"
import sys, xml.etree.ElementTree as E
for i in range(int(sys.argv[2])):
    for kind in ("svg", "html"):
        root = E.parse(f"{sys.argv[1]}/{i}.{kind}").getroot()
        ids = [e.get("id") for e in root.iter() if e.get("id")]
        assert len(ids) == len(set(ids)), ids
        for e in root.iter():
            tag = e.tag.split("}")[1]
            assert tag not in ("script", "link", "img", "image", "iframe", "object", "foreignObject", "use", "a"), tag
            assert not any("href" in a or a.startswith("on") or a == "src" for a in e.attrib), e.attrib
            for ref in e.get("aria-labelledby", "").split():
                assert ref in ids, ref
            for n in ("x", "y", "x1", "y1", "x2", "y2", "width", "height", "cx", "cy"):
                if tag != "meta" and e.get(n):
                    assert 0 <= float(e.get(n)) <= 4000, (n, e.attrib)
        if kind == "html":
            assert root.tag.endswith("}html") and len(root) == 2
"#;
    let out = run(&python, &["-c", script, &dir.path().to_string_lossy(), &count.to_string()], None);
    assert!(out.status.success(), "{}", said(&out));
}

/// Words of a query of Prometheus that are ours.
fn ours(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| w.starts_with("smbgw_")).map(str::to_owned).collect()
}

fn text_of<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

/// Panels with their queries.
fn dashboard() -> (Value, Vec<(Value, Vec<String>)>) {
    let text = fs::read_to_string(top().join("docs/grafana/smbgw.json")).expect("the dashboard");
    let doc: Value = serde_json::from_str(&text).expect("JSON");
    let panels = doc["panels"].as_array().expect("panels").iter().filter(|p| p["type"] != "row");
    let queries = |p: &Value| p["targets"].as_array().expect("targets").iter().map(|t| text_of(t, "/expr").to_owned()).collect();
    let found = panels.map(|p| (p.clone(), queries(p))).collect();
    (doc, found)
}

#[test]
fn the_dashboard_shows_every_metric_by_its_name() {
    let (doc, panels) = dashboard();
    assert!(doc["schemaVersion"].as_u64() >= Some(38));
    let known: BTreeSet<String> = openmetrics::names().into_iter().collect();
    let mut shown = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for (panel, queries) in &panels {
        let title = text_of(panel, "/title");
        assert!(ids.insert(panel["id"].as_u64()), "{title}: its number is another panel's");
        assert_eq!(text_of(panel, "/datasource/uid"), "${datasource}", "{title}");
        let place = |what: &str| panel["gridPos"][what].as_u64().expect("a place");
        assert!(place("x") + place("w") <= 24, "{title}");
        let unit = panel.pointer("/fieldConfig/defaults/unit").and_then(Value::as_str);
        for query in queries {
            for name in ours(query) {
                assert!(known.contains(&name), "{title}: there is no {name}");
                let before: Vec<&str> = query.split(&format!("{name}{{")).collect();
                assert!(before.len() > 1, "{title}: {name} without the variables");
                for b in &before[..before.len() - 1] {
                    let counted = b.ends_with("rate(") || b.ends_with("increase(");
                    assert_eq!(counted, name.ends_with("_total"), "{title}: {query}");
                }
                // A quotient has a unit of its own, and so has what was counted in a stretch.
                let metric = METRICS.iter().find(|m| openmetrics::sample_name(m) == name);
                if let Some(m) =
                    metric.filter(|_| !query.contains(" / ") && !query.contains("count(") && !query.contains("increase("))
                {
                    let want: &[&str] = match (m.unit, m.kind) {
                        (Unit::Bytes, Kind::Gauge) => &["bytes"],
                        (Unit::Bytes, Kind::Counter) => &["binBps"],
                        (Unit::Seconds, Kind::Gauge) => &["s"],
                        (Unit::Seconds, Kind::Counter) => &["percentunit"],
                        (Unit::Count, Kind::Gauge) => &["short"],
                        (Unit::Count, Kind::Counter) => &["ops", "cps"],
                        (Unit::State, _) => &[],
                    };
                    assert!(want.is_empty() || want.contains(&unit.unwrap_or("")), "{title}: {unit:?} for {name}");
                }
                shown.insert(name);
            }
        }
    }
    assert_eq!(known.difference(&shown).collect::<Vec<_>>(), Vec::<&String>::new(), "not in the dashboard");
    let variables: Vec<&Value> = doc["templating"]["list"].as_array().expect("variables").iter().collect();
    assert_eq!(variables.iter().map(|v| text_of(v, "/name")).collect::<Vec<_>>(), ["datasource", "node", "gateway", "share"]);
    for v in &variables[1..] {
        assert!(ours(text_of(v, "/definition")).is_subset(&known), "{v}");
    }
}

/// Queries of the dashboard and rules in the documents are those of Prometheus.
#[test]
fn queries_are_read_by_promtool() {
    let Some(promtool) = promtool() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let check = |name: &str, text: &str| {
        let file = dir.path().join(name);
        fs::write(&file, text).expect("own directory");
        let out = run(&promtool, &["check", "rules", &file.to_string_lossy()], None);
        (out.status.success(), said(&out))
    };
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    for (i, query) in dashboard().1.iter().flat_map(|(_, q)| q).enumerate() {
        let query = query.replace("$__rate_interval", "5m");
        rules.push_str(&format!("  - record: q:{i}\n    expr: {}\n", Value::from(query)));
    }
    let (good, said) = check("dashboard.yml", &rules);
    assert!(good, "{said}");
    assert!(!check("bad.yml", "groups:\n- name: a\n  rules:\n  - record: b\n    expr: rate(c\n").0);
    // Rules in the document for administrators.
    let doc = fs::read_to_string(top().join("docs/MONITORING.md")).expect("the document");
    let example = |begin: &str| {
        let mut examples = doc.split("```yaml\n").skip(1).filter_map(|e| e.split("```").next());
        examples.find(|e| e.starts_with(begin)).unwrap_or_else(|| panic!("no {begin} in MONITORING.md"))
    };
    let (good, said) = check("document.yml", example("groups:"));
    assert!(good, "{said}");
    // And its configuration; files that it names are not here.
    let file = dir.path().join("prometheus.yml");
    fs::write(&file, example("scrape_configs:")).expect("own directory");
    let out = run(&promtool, &["check", "config", "--syntax-only", &file.to_string_lossy()], None);
    assert!(out.status.success(), "{}", self::said(&out));
}

#[test]
fn the_document_names_what_there_is() {
    let doc = fs::read_to_string(top().join("docs/MONITORING.md")).expect("the document");
    let known: BTreeSet<String> = openmetrics::names().into_iter().collect();
    let mut named = ours(&doc);
    // The file of node_exporter, and a part of a name.
    named.retain(|n| !n.ends_with('_'));
    assert_eq!(named.symmetric_difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
}
