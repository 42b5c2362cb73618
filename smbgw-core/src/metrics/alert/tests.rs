// SPDX-License-Identifier: MIT OR Apache-2.0
//! Alerts over recorded and random series: what is told when, never twice, over restarts, jumps of the clock, damage and failing sinks.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::forecast::{Forecast, Why};
use super::super::{Key, Sample, Scope, Scrape, Source, SourceState, by_name};
use super::state::{MOST_ATTEMPTS, MOST_WAITING, Outcome, SETTLE_MS, Wanted};
use super::*;

const T0: i64 = 1_790_000_000_000;
const STEP: i64 = 10_000;

/// A node with its state, judged again and again.
struct World {
    config: Config,
    trends: BTreeMap<String, Forecast>,
    reasons: BTreeMap<String, String>,
    state: State,
    now: i64,
    scrape: Scrape,
    /// Writes the state down and reads it after each scrape, as restarts do.
    restarts: bool,
    told: Vec<Event>,
}

impl World {
    fn new(rules: Value) -> Self {
        let (config, wrong) = Config::from_document(&rules);
        assert_eq!(wrong, []);
        let scrape = Scrape {
            node: "pve1".into(),
            shares: [("office".to_owned(), "native".to_owned())].into(),
            sources: Source::ALL
                .into_iter()
                .filter(|s| *s != Source::Collector)
                .map(|source| SourceState { source, gateway: Some("native".into()), at: Some(T0), took_ms: 1, why: None })
                .collect(),
            ..Scrape::default()
        };
        Self {
            config,
            trends: BTreeMap::new(),
            reasons: BTreeMap::new(),
            state: State::default(),
            now: T0,
            scrape,
            restarts: true,
            told: Vec::new(),
        }
    }

    fn put(list: &mut Vec<Sample>, scope: Scope, metric: &str, object: &str, value: Option<f64>) {
        let key = Key::new(by_name(scope, metric).expect("a metric"), object);
        list.retain(|s| s.key != key);
        list.extend(value.map(|value| Sample { key, value }));
        list.sort_by(|a, b| a.key.cmp(&b.key));
    }

    fn set(&mut self, scope: Scope, metric: &str, object: &str, value: impl Into<Option<f64>>) -> &mut Self {
        Self::put(&mut self.scrape.samples, scope, metric, object, value.into());
        self
    }

    fn rate(&mut self, scope: Scope, metric: &str, object: &str, value: impl Into<Option<f64>>) -> &mut Self {
        Self::put(&mut self.scrape.rates, scope, metric, object, value.into());
        self
    }

    /// Percent of the limit; unknown: nothing of the source.
    fn usage(&mut self, percent: Option<f64>) -> &mut Self {
        self.set(Scope::Share, "used_bytes", "office", percent.map(|p| p * 1e9));
        self.set(Scope::Share, "limit_bytes", "office", percent.map(|_| 100e9));
        self.set(Scope::Share, "available_bytes", "office", percent.map(|p| (100.0 - p).max(0.0) * 1e9))
    }

    fn source(&mut self, source: Source, why: Option<&str>) -> &mut Self {
        let now = self.now;
        let s = self.scrape.sources.iter_mut().find(|s| s.source == source).expect("there");
        s.why = why.map(str::to_owned);
        if why.is_none() {
            s.at = Some(now);
        }
        self
    }

    fn judge(&mut self) -> Vec<Event> {
        self.scrape.at = self.now;
        for s in self.scrape.sources.iter_mut().filter(|s| s.why.is_none()) {
            s.at = Some(self.now);
        }
        let seen = Seen { scrape: &self.scrape, trends: &self.trends, reasons: &self.reasons };
        let (state, events) = judge(&self.config, &seen, &self.state, self.now);
        self.state = if self.restarts { reread(&state) } else { state };
        self.told.extend(events.iter().cloned());
        events
    }

    /// So many seconds, a scrape each ten.
    fn run(&mut self, seconds: i64) -> Vec<Event> {
        let mut all = Vec::new();
        for _ in 0..seconds * 1000 / STEP {
            self.now += STEP;
            all.extend(self.judge());
        }
        all
    }
}

fn reread(state: &State) -> State {
    let (again, wrong) = State::read(Some(&state.to_json()));
    assert_eq!(wrong, None);
    assert_eq!(&again, state);
    again
}

fn brief(events: &[Event]) -> Vec<(&'static str, Happening, Severity)> {
    events.iter().map(|e| (e.code.word(), e.event, e.severity)).collect()
}

use Happening::{Clear, Raise, Rise};
use Severity::{Critical, Info, Warning};

#[test]
fn one_alert_rises_through_its_thresholds_and_ends_once() {
    let mut w = World::new(json!({}));
    w.usage(Some(70.0));
    assert_eq!(w.run(600), []);
    w.usage(Some(81.0));
    assert_eq!(w.run(60), [], "it has to hold for a minute from the first look on");
    assert_eq!(brief(&w.run(10)), [("usage", Raise, Warning)]);
    assert_eq!(w.run(3600), []);
    w.usage(Some(91.0));
    assert_eq!(brief(&w.run(70)), [("usage", Rise, Warning)]);
    w.usage(Some(96.0));
    assert_eq!(brief(&w.run(70)), [("usage", Rise, Critical)]);
    // Within the margin it is neither better nor worse.
    w.usage(Some(92.5));
    assert_eq!(w.run(3600), []);
    assert_eq!(w.state.alerts()[0].1.severity, Critical);
    w.usage(Some(85.0));
    assert_eq!(w.run(3600), [], "it gets better without a word");
    assert_eq!(w.state.alerts()[0].1.severity, Warning);
    w.usage(Some(77.5));
    assert_eq!(w.run(3600), [], "80 less the margin is 77");
    w.usage(Some(76.0));
    assert_eq!(w.run(300), []);
    let events = w.run(10);
    assert_eq!(brief(&events), [("usage", Clear, Critical)]);
    assert!(w.state.alerts().is_empty());
    let e = &events[0];
    assert_eq!((e.value, e.threshold, e.unit.as_str(), e.object.as_str()), (Some(76.0), None, "%", "office"));
    assert!(e.title.starts_with("well again: share office: 76 % of the limit is used ("), "{}", e.title);
    assert_eq!(w.told[2].threshold, Some(95.0));
    assert!(w.told[0].remedy.contains("pve-smbgateway set office"), "{}", w.told[0].remedy);
    let ids: std::collections::BTreeSet<_> = w.told.iter().map(|e| &e.id).collect();
    assert_eq!(ids.len(), 4);
}

#[test]
fn straight_to_the_worst_is_one_event() {
    let mut w = World::new(json!({}));
    w.usage(Some(99.0));
    assert_eq!(brief(&w.run(90)), [("usage", Raise, Critical)]);
}

#[test]
fn what_does_not_hold_is_not_told_and_flapping_does_not_end_it() {
    let mut w = World::new(json!({}));
    for _ in 0..50 {
        w.usage(Some(82.0)).run(50);
        w.usage(Some(79.0)).run(10);
    }
    assert_eq!(w.told, []);
    w.usage(Some(82.0)).run(80);
    for _ in 0..50 {
        w.usage(Some(70.0)).run(290);
        w.usage(Some(78.0)).run(10);
    }
    assert_eq!(brief(&w.told), [("usage", Raise, Warning)]);
}

#[test]
fn the_unknown_changes_nothing_and_its_time_does_not_count() {
    let mut w = World::new(json!({"rules": {"source-stale": "off"}}));
    w.usage(Some(82.0)).run(40);
    w.usage(None).source(Source::Space, Some("quota program hangs")).run(3600);
    assert_eq!(w.told, []);
    w.usage(Some(82.0)).source(Source::Space, None).run(30);
    assert_eq!(w.told, [], "30 s before and 20 s after");
    w.run(20);
    assert_eq!(brief(&w.told), [("usage", Raise, Warning)]);
    w.usage(None).source(Source::Space, Some("quota program hangs")).run(7200);
    assert_eq!(w.told.len(), 1, "nobody knows that it is well");
    assert_eq!(w.state.alerts()[0].1.value, Some(82.0));
    w.usage(Some(10.0)).source(Source::Space, None).run(300);
    assert_eq!(w.told.len(), 1);
    w.run(10);
    assert_eq!(w.told[1].event, Clear);
}

#[test]
fn a_source_that_fails_speaks_for_itself() {
    let mut w = World::new(json!({}));
    w.usage(Some(50.0)).run(60);
    w.source(Source::Space, Some("no answer within 5 s")).run(310);
    assert_eq!(brief(&w.told), [("source-stale", Raise, Warning)]);
    assert!(w.told[0].text.contains("space has not answered for 310 s: no answer within 5 s"), "{}", w.told[0].text);
    w.source(Source::Files, Some("gone")).run(600);
    assert_eq!(w.told.len(), 1, "one alert for all sources of a gateway");
    assert!(w.state.alerts()[0].1.text.contains("files has not answered"));
    w.source(Source::Files, None).source(Source::Space, None).run(70);
    assert_eq!(w.told[1].event, Clear);
    // One that never answered is absent: that is worth knowing, and no fault.
    let mut w = World::new(json!({}));
    w.source(Source::Profile, Some("smbd profiling level is off"));
    w.scrape.sources[2].at = None;
    assert_eq!(brief(&w.run(3600)), [("source-absent", Raise, Info)]);
}

#[test]
fn one_cause_is_one_alert() {
    let mut w = World::new(json!({}));
    let healthy = |w: &mut World, v: f64| {
        w.set(Scope::Gateway, "up", "native", v).set(Scope::Gateway, "winbind_up", "native", v);
        w.set(Scope::Gateway, "domain_ok", "native", v).set(Scope::Share, "ready", "office", v);
    };
    healthy(&mut w, 1.0);
    w.run(60);
    healthy(&mut w, 0.0);
    w.source(Source::Sessions, Some("no smbd")).run(3600);
    assert_eq!(brief(&w.told), [("gateway-down", Raise, Critical)]);
    // smbd is back, the domain is not: the share that waits for it is no alert of its own.
    w.set(Scope::Gateway, "up", "native", 1.0).set(Scope::Gateway, "winbind_up", "native", 1.0);
    w.source(Source::Sessions, None);
    w.reasons.insert("native".into(), "dc-unreachable: no answer from 10.0.0.1".into());
    w.run(600);
    assert_eq!(brief(&w.told[1..]), [("gateway-down", Clear, Critical), ("domain", Raise, Critical)]);
    assert!(w.told[2].text.contains("dc-unreachable: no answer from 10.0.0.1"));
    healthy(&mut w, 1.0);
    w.run(600);
    w.set(Scope::Share, "ready", "office", 0.0).run(600);
    assert_eq!(brief(&w.told[3..]), [("domain", Clear, Critical), ("not-ready", Raise, Critical)]);
}

#[test]
fn a_domain_that_was_left_ends_its_alerts_quietly() {
    let mut w = World::new(json!({}));
    w.set(Scope::Gateway, "up", "native", 1.0).set(Scope::Gateway, "winbind_up", "native", 0.0).run(90);
    assert_eq!(brief(&w.told), [("winbind-down", Raise, Critical)]);
    w.set(Scope::Gateway, "winbind_up", "native", None).run(600);
    assert_eq!(w.told.len(), 1);
    assert!(w.state.alerts().is_empty());
    let doc = w.state.document(w.now);
    assert_eq!((doc["ended"][0]["how"].as_str(), doc["ended"][0]["code"].as_str()), (Some("gone"), Some("winbind-down")));
}

#[test]
fn what_is_gone_ends_quietly_and_an_empty_scrape_ends_nothing() {
    let mut w = World::new(json!({}));
    w.usage(Some(99.0)).run(90);
    let shares = std::mem::take(&mut w.scrape.shares);
    w.run(110);
    w.scrape.shares = shares;
    w.run(600);
    assert_eq!(brief(&w.told), [("usage", Raise, Critical)], "it was only not seen");
    w.scrape.shares.clear();
    w.run(600);
    assert_eq!(w.told.len(), 1);
    assert_eq!(w.state.document(w.now)["ended"][0]["how"], "gone");
    assert_eq!(w.state.document(w.now)["alerts"], json!([]));
}

#[test]
fn a_rule_that_is_switched_off_ends_its_alert_quietly() {
    let mut w = World::new(json!({}));
    w.usage(Some(99.0)).run(90);
    assert_eq!(w.config.property("office", "usage=off"), []);
    assert_eq!(w.run(60), []);
    assert_eq!(w.state.document(w.now)["ended"][0]["how"], "off");
    // And thresholds that change do not tell it anew.
    let mut w = World::new(json!({}));
    w.usage(Some(91.0)).run(90);
    w.config.property("office", "usage=50");
    assert_eq!(w.run(600), []);
    w.config.property("office", "usage=50/60/70");
    assert_eq!(brief(&w.run(600)), [("usage", Rise, Critical)]);
}

#[test]
fn a_silence_keeps_back_and_what_remains_is_told_at_its_end() {
    let mut w = World::new(json!({}));
    let until = w.now + 1_800_000;
    let wanted = Wanted {
        code: Some("us*".into()),
        object: Some("share:off?ce".into()),
        until,
        by: "root@pam".into(),
        comment: "new disks".into(),
    };
    let silence = w.state.silence(&wanted, w.now).expect("right");
    w.usage(Some(99.0)).run(1700);
    assert_eq!(w.told, []);
    let doc = w.state.document(w.now);
    assert_eq!((doc["alerts"][0]["silenced"].as_bool(), doc["alerts"][0]["told"].as_bool()), (Some(true), Some(false)));
    assert_eq!(doc["silences"][0]["comment"], "new disks");
    w.run(200);
    assert_eq!(brief(&w.told), [("usage", Raise, Critical)]);
    // What comes and goes under one is never told; what was told ends aloud.
    let again = w.state.silence(&Wanted { until: w.now + 36_000_000, ..Wanted::default() }, w.now).expect("right");
    assert_ne!(again.id, silence.id);
    w.usage(Some(10.0)).run(400);
    assert_eq!(brief(&w.told[1..]), [("usage", Clear, Critical)]);
    w.usage(Some(99.0)).run(400);
    w.usage(Some(10.0)).run(400);
    assert_eq!(w.told.len(), 2);
    assert_eq!(w.state.unsilence(&again.id).expect("there").id, again.id);
    assert!(w.state.unsilence(&again.id).is_err());
    w.usage(Some(99.0)).run(400);
    assert_eq!(w.told.len(), 3);
}

#[test]
fn a_wrong_silence_is_refused_with_every_reason() {
    let mut state = State::default();
    let wanted = Wanted {
        code: Some("nonsense".into()),
        object: Some("disk:a b".into()),
        until: T0 - 1,
        by: String::new(),
        comment: "a\nb".into(),
    };
    let e = state.silence(&wanted, T0).expect_err("wrong");
    let keys: Vec<_> = e.problems().iter().map(|p| p.property.as_str()).collect();
    assert_eq!(keys, ["code", "object", "object", "until", "comment"]);
    let e = state.silence(&Wanted { until: T0 + 400 * 86_400_000, ..Wanted::default() }, T0).expect_err("too long");
    assert_eq!(e.problems()[0].property, "until");
    assert!(state.silences(T0).is_empty());
    for _ in 0..200 {
        state.silence(&Wanted { until: T0 + 1000, ..Wanted::default() }, T0).expect("there is room");
    }
    assert!(state.silence(&Wanted { until: T0 + 1000, ..Wanted::default() }, T0).is_err());
    assert!(state.silence(&Wanted { until: T0 + 9000, ..Wanted::default() }, T0 + 2000).is_ok(), "those are over");
}

#[test]
fn jumps_of_the_clock_neither_hold_nor_end_anything() {
    for jump in [86_400_000, -86_400_000, 400 * 86_400_000, 3_600_000] {
        let mut w = World::new(json!({}));
        w.usage(Some(70.0)).run(60);
        w.usage(Some(99.0)).run(20);
        w.now += jump;
        assert_eq!(w.run(30), [], "{jump}: only 20 s more have passed");
        assert_eq!(brief(&w.run(60)), [("usage", Raise, Critical)], "{jump}");
        w.usage(Some(10.0)).run(200);
        w.now -= jump;
        assert_eq!(w.run(50), [], "{jump}");
        assert_eq!(brief(&w.run(120)), [("usage", Clear, Critical)], "{jump}");
    }
}

#[test]
fn a_slow_collector_still_gets_to_its_alerts() {
    let mut w = World::new(json!({}));
    w.usage(Some(99.0));
    for _ in 0..3 {
        w.now += 300_000;
        w.judge();
    }
    assert_eq!(brief(&w.told), [("usage", Raise, Critical)]);
    // After a stop of an hour one step counts.
    let mut w = World::new(json!({}));
    w.usage(Some(99.0)).run(20);
    w.now += 3_600_000;
    assert_eq!(w.run(20), []);
    assert_eq!(w.run(60).len(), 1);
}

#[test]
fn the_same_scrape_is_judged_once() {
    let mut w = World::new(json!({}));
    w.usage(Some(99.0)).run(60);
    let (at, mut now) = (w.scrape.at, w.now);
    for _ in 0..100 {
        now += STEP;
        let seen = Seen { scrape: &w.scrape, trends: &w.trends, reasons: &w.reasons };
        let (state, events) = judge(&w.config, &seen, &w.state, now);
        assert_eq!((state, events), (w.state.clone(), Vec::new()));
    }
    assert_eq!(w.scrape.at, at);
}

#[test]
fn a_damaged_record_is_begun_anew_without_a_storm() {
    for damage in ["", "{", "[]", "{\"version\": 7}", "\u{0}"] {
        let mut w = World::new(json!({"rules": {"sessions": {"at": 3, "margin": 0}}}));
        w.usage(Some(99.0)).set(Scope::Gateway, "up", "native", 0.0).set(Scope::Share, "sessions", "office", 7.0).run(120);
        assert_eq!(w.told.len(), 3);
        let (state, wrong) = State::read(Some(damage));
        assert!(wrong.is_some(), "{damage}");
        w.state = state;
        assert_eq!(w.run(SETTLE_MS / 1000 - 10), [], "{damage}");
        let events = w.run(3600);
        assert_eq!(brief(&events), [("alerts-lost", Raise, Critical)], "{damage}");
        for part in ["3 active", "share office (usage)", "gateway native (gateway-down)", "share office (sessions)"] {
            assert!(events[0].text.contains(part), "{}", events[0].text);
        }
        // Those that it named end as others do.
        w.usage(Some(10.0));
        assert_eq!(brief(&w.run(600)), [("usage", Clear, Critical)]);
    }
    assert_eq!(State::read(None), (State::default(), None), "none at all is the first start");
}

#[test]
fn of_a_half_damaged_record_the_rest_counts() {
    let mut w = World::new(json!({}));
    w.usage(Some(99.0)).set(Scope::Gateway, "up", "native", 0.0).run(120);
    w.state
        .silence(&Wanted { until: w.now + 9_000_000, object: Some("other".into()), ..Wanted::default() }, w.now)
        .expect("right");
    let mut doc: Value = serde_json::from_str(&w.state.to_json()).expect("json");
    let tracks = doc["tracks"].as_array_mut().expect("a list");
    let usage = tracks.iter_mut().find(|t| t["code"] == "usage").expect("there");
    usage["alert"]["since"] = json!("yesterday");
    tracks.push(json!({"scope": "share", "object": "x", "code": "from-a-newer-version"}));
    let (state, wrong) = State::read(Some(&doc.to_string()));
    assert!(wrong.expect("said").starts_with("2 entries"));
    assert_eq!((state.alerts().len(), state.silences(w.now).len()), (1, 1));
    w.state = state;
    assert_eq!(brief(&w.run(3600)), [("alerts-lost", Raise, Critical)]);
    assert_eq!(w.state.alerts().len(), 2);
}

#[test]
fn each_rule_reads_what_it_says() {
    let mut w = World::new(json!({"rules": {"memory": "on", "sessions": 5, "legacy-dialect": {"for": 0}}}));
    w.scrape.shares.insert("plans".into(), "native".into());
    // The file system has less room than the limit promises.
    w.set(Scope::Share, "used_bytes", "office", 50e9).set(Scope::Share, "limit_bytes", "office", 100e9);
    w.set(Scope::Share, "available_bytes", "office", 4e9);
    w.set(Scope::Share, "used_bytes", "plans", 96e9).set(Scope::Share, "available_bytes", "plans", 4e9);
    w.set(Scope::Share, "read_latency", "office", 0.7).rate(Scope::Share, "write_operations", "office", 0.0);
    w.set(Scope::Gateway, "write_latency", "native", 2.5);
    w.set(Scope::Share, "sessions", "office", 4.0).set(Scope::Gateway, "sessions", "native", 6.0);
    w.rate(Scope::Gateway, "failed_logins", "native", 1.0).set(Scope::Gateway, "legacy_sessions", "native", 2.0);
    w.set(Scope::Gateway, "guest_memory_bytes", "native", 99.0).set(Scope::Gateway, "guest_memory_limit_bytes", "native", 100.0);
    w.rate(Scope::Node, "store_failures", "pve1", 0.1).rate(Scope::Share, "failed_operations", "plans", 0.3);
    w.rate(Scope::Gateway, "failed_operations", "native", 2.0);
    let days = |d| Forecast { full_in_days: Some(d), per_day: Some(1e9), ..Forecast::default() };
    w.trends = [("office".to_owned(), days(2.0)), ("plans".to_owned(), days(10.0))].into();
    w.run(7200);
    let mut told: Vec<_> = w.told.iter().map(|e| (e.code.word(), e.object.as_str(), e.event, e.severity)).collect();
    told.sort_by_key(|t| (t.0, t.1));
    assert_eq!(
        told,
        [
            ("errors", "native", Raise, Critical),
            ("errors", "plans", Raise, Warning),
            ("growth", "office", Raise, Critical),
            ("growth", "plans", Raise, Warning),
            ("latency", "native", Raise, Critical),
            ("latency", "office", Raise, Warning),
            ("legacy-dialect", "native", Raise, Warning),
            ("logins", "native", Raise, Warning),
            ("memory", "native", Raise, Warning),
            ("sessions", "native", Raise, Warning),
            ("space", "office", Raise, Warning),
            ("space", "plans", Raise, Critical),
            ("store-failing", "pve1", Raise, Warning),
        ]
    );
    // Nobody reads any more: that is no latency. A share without growth is not full some day.
    w.told.clear();
    w.set(Scope::Share, "read_latency", "office", None).rate(Scope::Share, "read_operations", "office", 0.0);
    w.trends.insert("plans".into(), Forecast { why: Some(Why::Flat), ..Forecast::default() });
    w.trends.insert("office".into(), Forecast { why: Some(Why::History), ..Forecast::default() });
    w.rate(Scope::Gateway, "failed_logins", "native", 0.0).run(7200);
    let mut told: Vec<_> = w.told.iter().map(|e| (e.code.word(), e.object.as_str(), e.event)).collect();
    told.sort_by_key(|t| (t.0, t.1));
    assert_eq!(told, [("growth", "plans", Clear), ("latency", "office", Clear), ("logins", "native", Clear)]);
}

#[test]
fn a_gateway_with_one_share_is_judged_by_that() {
    let mut w = World::new(json!({"rules": {"sessions": 5}}));
    w.set(Scope::Share, "sessions", "office", 9.0).set(Scope::Gateway, "sessions", "native", 9.0).run(600);
    assert_eq!(w.told.iter().map(|e| e.scope).collect::<Vec<_>>(), [Scope::Share]);
}

#[test]
fn bursts_of_refused_log_ins_are_smoothed() {
    let mut w = World::new(json!({}));
    for _ in 0..60 {
        // A client with an old password: three in ten seconds, once in two minutes.
        w.rate(Scope::Gateway, "failed_logins", "native", 0.3).run(10);
        w.rate(Scope::Gateway, "failed_logins", "native", 0.0).run(110);
    }
    assert_eq!(w.told, []);
    for _ in 0..30 {
        // Twelve, then a pause of ten seconds: 36 a minute.
        w.rate(Scope::Gateway, "failed_logins", "native", 1.2).run(10);
        w.rate(Scope::Gateway, "failed_logins", "native", 0.0).run(10);
    }
    assert_eq!(brief(&w.told), [("logins", Raise, Warning)]);
}

#[test]
fn a_reader_sees_that_the_agent_is_silent() {
    let c = Config::default();
    assert_eq!(agent_stale(&c, "pve1", Some(T0), T0 + 119_000), None);
    let a = agent_stale(&c, "pve1", Some(T0), T0 + 120_000).expect("stale");
    assert_eq!(
        (a["code"].as_str(), a["severity"].as_str(), a["value"].as_f64()),
        (Some("agent-stale"), Some("critical"), Some(120.0))
    );
    assert!(agent_stale(&c, "pve1", None, T0).is_some());
    assert!(
        agent_stale(&c, "pve1", Some(T0 + 999_000), T0).expect("the clock")["text"].as_str().expect("text").contains("future")
    );
    let (off, _) = Config::from_document(&json!({"rules": {"agent-stale": "off"}}));
    assert_eq!(agent_stale(&off, "pve1", None, T0), None);
}

/// A deliverer: which sinks fail.
fn deliver(w: &mut World, fails: &[&str], got: &mut Vec<(String, String)>) -> Vec<String> {
    let due = w.state.take(w.now);
    w.state = reread(&w.state);
    let mut outcomes = Vec::new();
    let mut down: Vec<&str> = Vec::new();
    for d in &due {
        for sink in &d.sinks {
            let untried = down.contains(sink);
            let sent = !untried && !fails.contains(sink);
            if sent {
                got.push(((*sink).to_owned(), d.event.id.clone()));
            } else if !untried {
                down.push(sink);
            }
            let why = if sent { String::new() } else { "no route".into() };
            outcomes.push(Outcome { id: d.event.id.clone(), sink: (*sink).to_owned(), sent, untried, absent: false, why });
        }
    }
    let notes = w.state.delivered(&outcomes, w.now);
    w.state = reread(&w.state);
    notes
}

#[test]
fn each_sink_gets_each_event_once_and_in_order() {
    let rules = json!({"sinks": {"command": {"argv": ["/bin/tell"], "severity": "critical"}}});
    let mut w = World::new(rules);
    let mut got = Vec::new();
    let mut notes = Vec::new();
    for percent in [81.0, 91.0, 99.0, 10.0] {
        w.usage(Some(percent));
        for _ in 0..40 {
            w.run(10);
            // Mail is away until the last.
            notes.extend(deliver(&mut w, if percent > 50.0 { &["notify"] } else { &[] }, &mut got));
        }
    }
    for _ in 0..400 {
        w.run(10);
        notes.extend(deliver(&mut w, &[], &mut got));
    }
    let ids: Vec<String> = w.told.iter().map(|e| e.id.clone()).collect();
    assert_eq!(ids.len(), 4);
    let of = |sink: &str| got.iter().filter(|g| g.0 == sink).map(|g| g.1.clone()).collect::<Vec<_>>();
    assert_eq!(of("notify"), ids);
    assert_eq!(of("syslog"), ids);
    assert_eq!(of("command"), ids[2..], "from critical on, and its end");
    assert_eq!(notes, ["notify: an alert could not be told, it is tried again: no route", "notify: alerts can be told again"]);
    let doc = w.state.document(w.now);
    assert_eq!((doc["waiting"].as_u64(), doc["sinks"]["notify"]["sent"].as_u64()), (Some(0), Some(4)));
}

#[test]
fn a_sink_that_never_works_is_given_up_and_counted() {
    let mut w = World::new(json!({"sinks": {"syslog": "off"}}));
    w.usage(Some(99.0)).run(90);
    let (mut got, mut attempts, mut notes) = (Vec::new(), 0, Vec::new());
    for _ in 0..12 * 360 {
        w.run(10);
        let due = w.state.clone().take(w.now);
        attempts += due.len();
        notes.extend(deliver(&mut w, &["notify"], &mut got));
    }
    assert_eq!((attempts as u32, got.len()), (MOST_ATTEMPTS, 0), "{:?}", brief(&w.told));
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[1].starts_with("notify: given up after 12 attempts: critical: share office"));
    assert_eq!(w.state.document(w.now)["sinks"]["notify"]["lost"], 1);
    // A deliverer that dies each time is as bounded.
    let mut w = World::new(json!({"sinks": {"syslog": "off"}}));
    w.usage(Some(99.0)).run(90);
    let mut attempts = 0;
    for _ in 0..12 * 360 {
        w.run(10);
        attempts += w.state.take(w.now).len();
        w.state.delivered(&[], w.now);
    }
    assert_eq!(attempts as u32, MOST_ATTEMPTS);
    assert_eq!(w.state.document(w.now)["waiting"], 0);
}

#[test]
fn a_sink_that_is_not_here_is_neither_told_nor_missed() {
    let mut w = World::new(json!({"sinks": {"syslog": "off"}}));
    w.usage(Some(99.0)).run(90);
    let due = w.state.take(w.now);
    let outcome = Outcome {
        id: due[0].event.id.clone(),
        sink: "notify".into(),
        sent: false,
        untried: false,
        absent: true,
        why: "PVE::Notify is not here".into(),
    };
    assert_eq!(w.state.delivered(&[outcome], w.now), [] as [&str; 0]);
    let doc = w.state.document(w.now);
    assert_eq!((doc["waiting"].as_u64(), doc["sinks"]["notify"]["lost"].as_u64()), (Some(0), Some(0)));
    assert_eq!(doc["sinks"]["notify"]["why"], "PVE::Notify is not here");
}

#[test]
fn a_clock_that_was_put_back_does_not_hold_deliveries_up() {
    let mut w = World::new(json!({"sinks": {"syslog": "off"}}));
    w.usage(Some(99.0)).run(90);
    let mut got = Vec::new();
    deliver(&mut w, &["notify"], &mut got);
    w.now -= 10 * 86_400_000;
    deliver(&mut w, &[], &mut got);
    assert_eq!(got.len(), 1);
}

#[test]
fn what_waits_is_bounded() {
    let mut w = World::new(json!({"sinks": {"syslog": "off"}}));
    for i in 0..MOST_WAITING + 7 {
        w.scrape.shares.insert(format!("s{i}"), "native".into());
        w.set(Scope::Share, "used_bytes", &format!("s{i}"), 99.0).set(Scope::Share, "limit_bytes", &format!("s{i}"), 100.0);
    }
    w.restarts = false;
    w.run(90);
    assert_eq!(w.told.len(), MOST_WAITING + 7);
    let doc = w.state.document(w.now);
    assert_eq!((doc["waiting"].as_u64(), doc["sinks"]["notify"]["lost"].as_u64()), (Some(MOST_WAITING as u64), Some(7)));
}

/// A share that fills, as it was recorded: percent at each minute, with a hole where the quota program hung.
const RECORDED: &str = "71.2 74.9 78.8 79.9 80.1 80.0 79.9 80.3 80.6 80.9 84.0 88.8 89.9 90.2 91.0 - - - 93.9 94.8 95.2 95.2 95.1 94.6 91.7 \
     88.4 84.0 79.0 77.3 76.9 76.4 76.1 75.0 74.0 77.9 76.8 76.1 75.5 75.1 74.8 74.8 74.6";

#[test]
fn a_recorded_series_tells_the_same_with_and_without_restarts() {
    let tell = |restarts: bool| {
        let mut w = World::new(json!({}));
        w.restarts = restarts;
        for minute in RECORDED.split_whitespace() {
            let percent = minute.parse::<f64>().ok();
            w.usage(percent).source(Source::Space, percent.is_none().then_some("hangs")).run(60);
        }
        w.told
    };
    let told = tell(true);
    let at = |e: &Event| ((e.at - T0) / 60_000, e.event, e.severity);
    assert_eq!(
        told.iter().map(at).collect::<Vec<_>>(),
        [(5, Raise, Warning), (14, Rise, Warning), (21, Rise, Critical), (40, Clear, Critical)]
    );
    assert_eq!(told, tell(false));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Against a second, plain reading of the rule: no event twice, durations kept, hysteresis kept, restarts without effect.
    #[test]
    fn random_series(
        series in prop::collection::vec((prop_oneof![4 => (60u32..100).prop_map(Some), 1 => Just(None)], 1u8..30), 1..40),
        margin in 0u32..6, hold in 0u32..200, clear in 0u32..300,
    ) {
        let rules = json!({"rules": {"usage": {"margin": margin, "for": hold, "clear-for": clear}, "source-stale": "off", "space": "off"}});
        let run = |restarts: bool| {
            let mut w = World::new(rules.clone());
            w.restarts = restarts;
            let mut seen: Vec<(i64, Option<f64>)> = Vec::new();
            for (value, steps) in &series {
                let percent = value.map(f64::from);
                w.usage(percent).source(Source::Space, percent.is_none().then_some("hangs"));
                for _ in 0..*steps {
                    w.run(10);
                    seen.push((w.now, percent));
                }
            }
            (w.told, seen)
        };
        let (told, seen) = run(true);
        prop_assert_eq!(&told, &run(false).0);
        let rule = super::config::Rule { ..Config::from_document(&rules).0.rule(Code::Usage, Scope::Share, "office") };
        // For how long up to a moment something held, over known looks only; None: it does not hold at it.
        let held = |at: i64, holds: &dyn Fn(f64) -> bool| {
            let mut total: Option<i64> = None;
            let mut before: Option<i64> = None;
            for (t, v) in seen.iter().filter(|(t, _)| *t <= at) {
                match v {
                    None => before = None,
                    Some(v) if holds(*v) => {
                        total = Some(total.map_or(0, |s| s + before.map_or(0, |b| t - b)));
                        before = Some(*t);
                    }
                    Some(_) => (total, before) = (None, Some(*t)),
                }
            }
            total
        };
        let mut open: Option<f64> = None;
        for e in &told {
            match e.event {
                Raise => {
                    prop_assert!(open.is_none(), "raised twice");
                    open = e.threshold;
                }
                Rise => prop_assert!(open.is_some()),
                Clear => {
                    prop_assert!(open.take().is_some(), "ended without a beginning");
                    let well = held(e.at, &|v| if rule.margin == 0.0 { v < 80.0 } else { v < 80.0 - rule.margin });
                    prop_assert!(well.is_some_and(|h| h >= rule.clear_ms), "{:?}", well);
                }
            }
            if let Some(at) = e.threshold {
                let over = held(e.at, &|v| v >= at);
                prop_assert!(over.is_some_and(|h| h >= rule.hold_ms), "{:?}", over);
            }
        }
        // And nothing that held long enough was kept back.
        let last = seen.last().expect("one").0;
        if held(last, &|v| v >= 80.0).is_some_and(|h| h >= rule.hold_ms) {
            prop_assert!(open.is_some());
        }
    }

    #[test]
    fn hostile_records_never_panic(text in "\\PC{0,200}", n in -1_000_000i64..1_000_000) {
        let _ = State::read(Some(&text));
        let doc = json!({"version": 1, "seq": n, "at": n, "step": n, "settle": n, "tracks": [{"scope": "share", "object": text, "code": "usage",
            "held": [n, n, n], "gone": n, "smooth": n, "alert": {"level": n.unsigned_abs(), "told": n.unsigned_abs(), "severity": "info", "worst": "info",
            "since": n, "seen": n, "text": ""}}], "sinks": {"x": {"sent": 1}}});
        let (state, _) = State::read(Some(&doc.to_string()));
        let mut w = World::new(json!({}));
        w.restarts = false;
        w.state = state;
        w.scrape.shares.insert(text, "native".into());
        w.usage(Some(99.0)).run(600);
    }
}
