// SPDX-License-Identifier: MIT OR Apache-2.0
//! The store of figures on real files: what is taken is answered, whatever upkeep did in between, and what is too old is gone. Files that
//! are damaged, foreign, locked or full, clocks that jump, and deaths while writing cost no figure that was taken.
#![allow(clippy::disallowed_methods)]
#![cfg(feature = "series")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use smbgw_core::error::{Error, Kind};
use smbgw_core::host::real::RealHost;
use smbgw_core::metrics::{Bucket, Key, Sample, Scope, Scrape, by_name};
use smbgw_core::series::{Answer, Detail, Retention, Settings, Store, Tier};

/// A Monday, 00:00 UTC, in the middle of a week of the store.
const T0: i64 = 1_790_553_600_000;
const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// Steps that are more than there is to do.
const ALL: u32 = 100_000;

struct Place {
    _dir: tempfile::TempDir,
    path: PathBuf,
    settings: Settings,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("metrics/series.db");
        Self { _dir: dir, path, settings: Settings::default() }
    }

    fn open(&self) -> Store {
        let opened = Store::open(&RealHost, &self.path, self.settings, T0).expect("opens");
        assert_eq!(opened.set_aside, None);
        opened.store
    }

    fn reader(&self) -> Store {
        Store::open_to_read(&RealHost, &self.path, self.settings).expect("opens").expect("is there")
    }

    /// The same file through SQLite alone, as anybody may read it.
    fn plain(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(&self.path).expect("opens")
    }

    fn beside(&self) -> Vec<String> {
        let dir = self.path.parent().expect("has one");
        let mut names: Vec<String> =
            std::fs::read_dir(dir).expect("lists").map(|e| e.expect("entry").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }
}

fn key(name: &str, object: &str) -> Key {
    Key::new(by_name(Scope::Share, name).expect("in the table"), object)
}

fn scrape(at: i64, samples: &[(&Key, f64)]) -> Scrape {
    let samples = samples.iter().map(|(k, v)| Sample { key: (*k).clone(), value: *v }).collect();
    Scrape { node: "pve1".into(), at, samples, ..Scrape::default() }
}

fn near(a: f64, b: f64) -> bool {
    // Roll-ups keep 14 bits of rates and of means; a mean of means has the error of both.
    (a - b).abs() <= b.abs() / 8000.0 + 1e-9
}

// ------------------------------------------------------------------------------------------------------------- taking

#[test]
fn what_is_taken_is_answered() {
    let p = Place::new();
    assert!(Store::open_to_read(&RealHost, &p.path, p.settings).expect("no error").is_none());
    let (sessions, bytes) = (key("sessions", "office"), key("read_bytes", "office"));
    let count = 900;
    for i in 0..count {
        let at = T0 + i * 10 * SECOND;
        let mut store = p.open();
        store.ingest(&scrape(at, &[(&sessions, (i % 7) as f64), (&bytes, (i * 1000) as f64)])).expect("taken");
        store.keep_up(at, 2).expect("kept up");
    }
    let now = T0 + count * 10 * SECOND;
    let store = p.reader();
    assert_eq!(store.keys().expect("keys"), [sessions.clone(), bytes.clone()]);
    assert!(store.size().expect("size").series == 2);
    let raw = store.raw(&sessions, T0, now, now).expect("raw");
    assert_eq!(raw, (0..count).map(|i| (T0 + i * 10 * SECOND, (i % 7) as f64)).collect::<Vec<_>>());
    let packed: i64 = p.plain().query_row("SELECT count(*) FROM chunks WHERE tier = 0", [], |r| r.get(0)).expect("a view");
    assert_eq!(packed, 4, "two series of two hours");
    let answer = store.query(&bytes, T0, now, Detail::Points(100), now).expect("answer");
    assert_eq!((answer.tier, answer.damaged), (Tier::Minute, 0));
    assert!(answer.buckets.len() <= 100 && answer.buckets.iter().all(|b| b.min == 100.0 && b.max == 100.0 && b.mean == 100.0));
    assert_eq!(i64::from(answer.buckets.iter().map(|b| b.count).sum::<u32>()), count - 1);
    assert!(store.query(&key("sessions", "other"), T0, now, Detail::Points(9), now).expect("answer").buckets.is_empty());
    // The log is written back from time to time, and nobody else may read any of it.
    for (name, most) in [("series.db", 1 << 20), ("series.db-wal", 2 << 20), ("series.db-shm", 1 << 16)] {
        let meta = std::fs::metadata(p.path.with_file_name(name)).expect(name);
        assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{name}");
        assert!(meta.len() < most, "{name} has {} bytes", meta.len());
    }
    assert_eq!(std::fs::metadata(p.path.parent().expect("one")).expect("there").permissions().mode() & 0o777, 0o700);
}

#[test]
fn what_is_no_number_is_left_out_and_a_name_can_be_anything() {
    let p = Place::new();
    let (a, b) = (key("sessions", "a'); DROP TABLE series; -- ä"), key("users", "b"));
    let mut store = p.open();
    store.ingest(&scrape(T0, &[(&a, f64::NAN), (&b, f64::INFINITY)])).expect("taken");
    store.ingest(&scrape(T0 + 1, &[(&a, 1e300), (&b, -0.5)])).expect("taken");
    assert_eq!(store.raw(&a, 0, i64::MAX, T0 + 9).expect("raw"), [(T0 + 1, 1e300)]);
    assert_eq!(store.raw(&b, i64::MIN, i64::MAX, T0 + 9).expect("raw"), [(T0 + 1, -0.5)]);
    assert_eq!(store.ingest(&scrape(-1, &[])).expect_err("no such time").kind(), Kind::Invalid);
    assert_eq!(store.ingest(&scrape(i64::MAX, &[])).expect_err("no such time").kind(), Kind::Invalid);
}

#[test]
fn a_clock_that_jumps_costs_no_figure_that_was_taken() {
    let p = Place::new();
    let k = key("sessions", "office");
    let mut store = p.open();
    let mut taken = Vec::new();
    let mut go = |store: &mut Store, from: i64, count: i64| {
        for i in 0..count {
            let at = from + i * 10 * SECOND;
            store.ingest(&scrape(at, &[(&k, i as f64)])).expect("taken");
            store.keep_up(at, ALL).expect("kept up");
            taken.push((at, i as f64));
        }
        from + count * 10 * SECOND
    };
    let now = go(&mut store, T0, 400);
    // Back by a minute: refused until it is where it was.
    for back in [10 * SECOND, MINUTE, 9 * MINUTE] {
        let e = store.ingest(&scrape(now - back, &[(&k, 1.0)])).expect_err("was before");
        assert_eq!(e.kind(), Kind::Conflict);
        assert!(e.remedy_text().is_some());
    }
    // Years ahead for nine minutes, as after a start without a good clock: nothing is removed or packed because of it.
    go(&mut store, now + 3 * 365 * DAY, 54);
    // And into an hour that is packed: refused.
    assert_eq!(store.ingest(&scrape(T0 + 5, &[(&k, 1.0)])).expect_err("packed").kind(), Kind::Conflict);
    let now = go(&mut store, now, 400);
    let raw = store.raw(&k, T0, now, now).expect("raw");
    assert_eq!(raw.len(), 800);
    taken.sort_by_key(|s| s.0);
    assert_eq!(raw, taken[..800]);
    // What the wrong clock left is not in any answer of today.
    let all = store.query(&k, T0, i64::MAX, Detail::Points(1000), now).expect("answer");
    assert_eq!(all.buckets.iter().map(|b| b.count).sum::<u32>(), 800);
}

// ------------------------------------------------------------------------------------------------------------ answers

/// A plain list of samples, and what should be answered from it.
#[derive(Default)]
struct Model(BTreeMap<Key, Vec<(i64, f64)>>);

impl Model {
    /// A scrape, into the store and into the list.
    fn take(&mut self, store: &mut Store, at: i64, samples: &[(&Key, f64)]) {
        store.ingest(&scrape(at, samples)).expect("taken");
        for (k, v) in samples {
            self.0.entry((*k).clone()).or_default().push((at, *v));
        }
    }

    fn buckets(&self, key: &Key, counter: bool, from: i64, to: i64, length: i64, gap: i64) -> Vec<Bucket> {
        let samples = self.0.get(key).map_or(&[][..], Vec::as_slice);
        let mut found: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
        for (i, (at, value)) in samples.iter().enumerate() {
            let value = if counter {
                let Some((t, v)) = i.checked_sub(1).map(|i| samples[i]) else { continue };
                if at - t > gap || *value < v {
                    continue;
                }
                (value - v) / ((at - t) as f64 / 1000.0)
            } else {
                *value
            };
            if (from..to).contains(at) {
                found.entry(at.div_euclid(length) * length).or_default().push(value);
            }
        }
        let bucket = |(start, v): (i64, Vec<f64>)| Bucket {
            start,
            min: v.iter().copied().fold(f64::INFINITY, f64::min),
            max: v.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            mean: v.iter().sum::<f64>() / v.len() as f64,
            count: v.len() as u32,
        };
        found.into_iter().map(bucket).collect()
    }

    fn agrees(&self, key: &Key, answer: &Answer, from: i64, to: i64) {
        self.agrees_from(key, answer, from, to, i64::MIN);
    }

    /// The same where the tier of the answer does not go back beyond a time.
    fn agrees_from(&self, key: &Key, answer: &Answer, from: i64, to: i64, reach: i64) {
        let counter = by_name(Scope::Share, "read_bytes").is_some_and(|m| m.number == key.metric);
        let unit = match answer.tier {
            Tier::Raw => 1,
            Tier::Minute => MINUTE,
            Tier::Hour => HOUR,
        };
        let (from, to) = (from.div_euclid(unit) * unit, (to + unit - 1).div_euclid(unit) * unit);
        let from = from.max(if reach == i64::MIN { reach } else { (reach + unit - 1).div_euclid(unit) * unit });
        let wanted = self.buckets(key, counter, from, to, answer.resolution_ms, Retention::default().gap_ms);
        let starts = |b: &[Bucket]| b.iter().map(|b| (b.start, b.count)).collect::<Vec<_>>();
        assert_eq!(starts(&answer.buckets), starts(&wanted), "{key:?} {:?} {}", answer.tier, answer.resolution_ms);
        for (a, w) in answer.buckets.iter().zip(&wanted) {
            let same = if counter { near(a.min, w.min) && near(a.max, w.max) } else { (a.min, a.max) == (w.min, w.max) };
            assert!(same && (near(a.mean, w.mean) || (a.mean - w.mean).abs() <= (w.max - w.min) / 8000.0), "{a:?} {w:?}");
        }
    }
}

#[derive(Debug, Clone)]
struct Act {
    /// After the scrape before, in milliseconds.
    after: i64,
    /// Of the two gauges and the counter; a decrease begins anew.
    values: [Option<f64>; 3],
    steps: u32,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let after = prop_oneof![
        6 => Just(10 * SECOND),
        4 => (1i64..30).prop_map(|s| s * SECOND + 7),
        4 => Just(5 * MINUTE),
        2 => Just(14 * MINUTE),
        1 => (1i64..10).prop_map(|h| h * HOUR),
        1 => (1i64..5).prop_map(|d| d * DAY),
    ];
    let gauge = || prop::option::weighted(0.8, prop_oneof![(0i64..20).prop_map(|v| v as f64), -1e6f64..1e6]);
    let counter = prop::option::weighted(0.9, (0u32..1_000_000).prop_map(f64::from));
    let act = (after, gauge(), gauge(), counter, prop_oneof![3 => Just(0u32), 1 => 1u32..4, 1 => Just(ALL)])
        .prop_map(|(after, a, b, c, steps)| Act { after, values: [a, b, c], steps });
    prop::collection::vec(act, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn answers_are_those_of_a_plain_list(acts in acts(), asks in prop::collection::vec((0.0f64..1.0, 0.0f64..1.0, 2u32..400, any::<bool>()), 6)) {
        let mut p = Place::new();
        const YEAR: i64 = 365 * DAY;
        p.settings.retention = Retention { raw_ms: 20 * YEAR, minute_ms: 20 * YEAR, hour_ms: 20 * YEAR, ..Retention::default() };
        let keys = [key("sessions", "a"), key("used_bytes", "a"), key("read_bytes", "a")];
        let mut model = Model::default();
        let mut store = p.open();
        let (mut at, mut count) = (T0, 0.0);
        // At the end a run that makes the clock sure of itself.
        let end = (0..4).map(|_| Act { after: 5 * MINUTE, values: [Some(1.0), None, Some(5.0)], steps: 0 });
        for act in acts.into_iter().chain(end) {
            at += act.after;
            let mut values = act.values;
            // Mostly it grows.
            values[2] = values[2].map(|v| { count = if v < 20_000.0 { v } else { count + v }; count });
            let samples: Vec<(&Key, f64)> = keys.iter().zip(values).filter_map(|(k, v)| Some((k, v?))).collect();
            model.take(&mut store, at, &samples);
            store.keep_up(at, act.steps).expect("kept up");
        }
        for upkeep in [0, 3, ALL] {
            let done = store.keep_up(at, upkeep).expect("kept up");
            assert!(done.damaged == 0 && (upkeep < ALL || !done.more));
            for k in &keys {
                let wanted = model.0.get(k).cloned().unwrap_or_default();
                prop_assert_eq!(store.raw(k, 0, at + 1, at).expect("raw"), wanted);
                for (a, b, points, exact) in &asks {
                    let place = |part: f64| T0 + (part * (at - T0) as f64) as i64;
                    let (from, to) = (place(a.min(*b)), place(a.max(*b)) + 1);
                    let detail = if *exact { Detail::Length(i64::from(*points) * MINUTE / if *points % 2 == 0 { 1 } else { 60 }) } else { Detail::Points(*points) };
                    let answer = store.query(k, from, to, detail, at).expect("answer");
                    assert!(*exact || answer.buckets.len() <= *points as usize);
                    model.agrees(k, &answer, from, to);
                }
            }
        }
        store.check().expect("whole");
    }
}

// ---------------------------------------------------------------------------------------------------------- retention

/// A machine that runs for two hours a day, for 800 days.
#[test]
fn two_years_go_by_and_what_is_too_old_is_gone() {
    let p = Place::new();
    let (k, old) = (key("sessions", "office"), key("sessions", "gone"));
    let mut store = p.open();
    let (mut now, mut largest) = (T0, 0);
    for day in 0..800 {
        for i in 0..13 {
            now = T0 + day * DAY + i * 10 * MINUTE;
            let both = [(&k, (day * 13 + i) as f64), (&old, 1.0)];
            store.ingest(&scrape(now, if day < 10 { &both } else { &both[..1] })).expect("taken");
        }
        let done = store.keep_up(now, ALL).expect("kept up");
        assert!(!done.more && done.damaged == 0);
        largest = largest.max(store.size().expect("size").bytes);
    }
    let keep = p.settings.retention;
    let oldest = |tier: i64| -> (i64, i64) {
        let sql = "SELECT (SELECT min(start) FROM blocks WHERE tier = ?1), (SELECT min(start) FROM chunks WHERE tier = ?1)";
        p.plain().query_row(sql, [tier], |r| Ok((r.get(0)?, r.get(1)?))).expect("views")
    };
    // On disk: to the block; blocks of raw values also until the next day's are rolled up.
    for (tier, keep, block) in [(0, keep.raw_ms, HOUR), (1, keep.minute_ms, 6 * HOUR), (2, keep.hour_ms, 7 * DAY)] {
        let (blocks, chunks) = oldest(tier);
        assert!(
            blocks == chunks && blocks + block > now - keep && blocks < now - keep + DAY + block,
            "tier {tier}: {}",
            now - blocks
        );
    }
    // In answers: to the moment.
    let first = |from: i64, length: i64| store.query(&k, from, now, Detail::Length(length), now).expect("answer");
    let raw = store.raw(&k, 0, now + 1, now).expect("raw");
    assert_eq!(raw.first().map(|s| s.0), Some(now - keep.raw_ms));
    assert_eq!(raw.len(), 7 * 13 + 1);
    let minutes = first(0, MINUTE);
    assert_eq!((minutes.tier, minutes.resolution_ms), (Tier::Hour, HOUR), "only hours go back so far");
    let minutes = first(now - 20 * DAY, MINUTE);
    assert_eq!((minutes.tier, minutes.buckets.len()), (Tier::Minute, 20 * 13));
    let hours = first(0, HOUR);
    let start = hours.buckets.first().expect("some").start;
    assert!(start >= now - keep.hour_ms && start < now - keep.hour_ms + DAY);
    for b in &hours.buckets {
        let (day, hour) = ((b.start - T0) / DAY, (b.start - T0) % DAY / HOUR);
        let (least, count) = ((day * 13 + hour * 6) as f64, if hour == 2 { 1 } else { 6 });
        assert_eq!((b.min, b.max, b.count), (least, least + f64::from(count) - 1.0, count));
        assert!(near(b.mean, (b.min + b.max) / 2.0));
    }
    assert_eq!(store.keys().expect("keys"), [k]);
    assert!(store.query(&old, 0, now, Detail::Points(10), now).expect("answer").buckets.is_empty());
    // The file has not grown since: pages are used again.
    assert!(largest < 1 << 20, "{largest} bytes");
    store.check().expect("whole");
}

/// How long a tier is kept.
fn keep_of(r: &Retention, tier: Tier) -> i64 {
    match tier {
        Tier::Raw => r.raw_ms,
        Tier::Minute => r.minute_ms,
        Tier::Hour => r.hour_ms,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever retention there is, and whatever upkeep did: answers are those of a plain list of what is not too old, to the moment.
    #[test]
    fn answers_are_exact_with_any_retention(
        lengths in prop::array::uniform3(1i64..40 * 24),
        same in 0..4,
        acts in acts(),
        asks in prop::collection::vec((0.0f64..1.0, 0.0f64..1.0, 2u32..400, any::<bool>()), 6),
    ) {
        let mut lengths = lengths;
        lengths.sort_unstable();
        // Two of the same length are no seldom choice.
        match same {
            0 => lengths[1] = lengths[0],
            1 => lengths[1] = lengths[2],
            _ => {}
        }
        let mut p = Place::new();
        let [raw_ms, minute_ms, hour_ms] = lengths.map(|h| h * HOUR);
        p.settings.retention = Retention { raw_ms, minute_ms, hour_ms, ..Retention::default() };
        let keys = [key("sessions", "a"), key("used_bytes", "a")];
        let mut model = Model::default();
        let mut store = p.open();
        let mut at = T0;
        // At the end a run that makes the clock sure enough to remove by it.
        let end = (0..15).map(|_| Act { after: 5 * MINUTE, values: [Some(1.0), Some(2.5), None], steps: 0 });
        for act in acts.into_iter().chain(end) {
            at += act.after;
            let samples: Vec<(&Key, f64)> = keys.iter().zip(act.values).filter_map(|(k, v)| Some((k, v?))).collect();
            model.take(&mut store, at, &samples);
            store.keep_up(at, act.steps).expect("kept up");
        }
        for upkeep in [0, 3, ALL] {
            let done = store.keep_up(at, upkeep).expect("kept up");
            assert!(done.damaged == 0 && (upkeep < ALL || !done.more));
            for k in &keys {
                let all = model.0.get(k).cloned().unwrap_or_default();
                let wanted: Vec<_> = all.into_iter().filter(|s| s.0 >= at - raw_ms).collect();
                prop_assert_eq!(store.raw(k, 0, at + 1, at).expect("raw"), wanted);
                for (a, b, points, exact) in &asks {
                    let place = |part: f64| T0 + (part * (at - T0) as f64) as i64;
                    let (from, to) = (place(a.min(*b)), place(a.max(*b)) + 1);
                    let detail = if *exact { Detail::Length(i64::from(*points) * MINUTE) } else { Detail::Points(*points) };
                    let answer = store.query(k, from, to, detail, at).expect("answer");
                    let begins = |t: Tier| at - keep_of(&p.settings.retention, t);
                    model.agrees_from(k, &answer, from, to, begins(answer.tier));
                    // Nothing that is kept is left out, however coarse it is.
                    let furthest = [Tier::Raw, Tier::Minute, Tier::Hour].map(begins).into_iter().min().unwrap_or_default();
                    prop_assert!(from >= begins(answer.tier) || begins(answer.tier) == furthest, "{answer:?}");
                }
            }
        }
        store.check().expect("whole");
    }
}

/// A machine that is looked at every ten minutes, and whose administrator changes his mind.
#[test]
fn a_changed_retention_takes_effect_at_once_and_brings_nothing_back() {
    let mut p = Place::new();
    let k = key("sessions", "office");
    let mut count = 0;
    let mut at = T0;
    let mut live = |p: &Place, days: i64| {
        for _ in 0..days * 144 {
            at += 10 * MINUTE;
            count += 1;
            let mut store = p.open();
            store.ingest(&scrape(at, &[(&k, f64::from(count))])).expect("taken");
            store.keep_up(at, ALL).expect("kept up");
        }
        at
    };
    let keep = |raw, minute, hour| Retention { raw_ms: raw, minute_ms: minute, hour_ms: hour, ..Retention::default() };
    // The beginnings of the oldest block of each tier, as anybody sees them.
    let oldest = |p: &Place, tier: i64| -> i64 {
        p.plain().query_row("SELECT min(start) FROM blocks WHERE tier = ?1", [tier], |r| r.get(0)).expect("a view")
    };
    p.settings.retention = keep(4 * DAY, 15 * DAY, 60 * DAY);
    let now = live(&p, 30);
    let first_raw = |p: &Place, now: i64| p.reader().raw(&k, 0, now + 1, now).expect("raw").first().expect("some").0;
    assert_eq!(first_raw(&p, now), now - 4 * DAY);

    // Shorter: not in any answer from that moment on, before upkeep has done anything.
    let before = [0, 1, 2].map(|t| oldest(&p, t));
    p.settings.retention = keep(6 * HOUR, 2 * DAY, 20 * DAY);
    assert_eq!(first_raw(&p, now), now - 6 * HOUR);
    let hours = |p: &Place, now: i64, from: i64| p.reader().query(&k, from, now, Detail::Length(HOUR), now).expect("answer");
    assert_eq!(hours(&p, now, 0).buckets.first().expect("some").start, now - 20 * DAY);
    let minutes = |p: &Place, now: i64, from: i64| p.reader().query(&k, from, now, Detail::Length(MINUTE), now).expect("answer");
    assert_eq!(minutes(&p, now, now - 2 * DAY).tier, Tier::Minute);
    assert_eq!(minutes(&p, now, now - 2 * DAY - MINUTE).tier, Tier::Hour, "minutes do not go back so far any more");
    assert_eq!([0, 1, 2].map(|t| oldest(&p, t)), before, "on disk it still is");
    // Gone with the next upkeep, to the block; minutes wait for the end of the week that they are made into.
    let done = p.open().keep_up(now, ALL).expect("kept up");
    assert!(done.removed > 0 && !done.more);
    let week = 7 * DAY;
    for (tier, kept, block, wait) in [(0, 6 * HOUR, HOUR, 6 * HOUR), (1, 2 * DAY, 6 * HOUR, week), (2, 20 * DAY, week, 0)] {
        let start = oldest(&p, tier);
        assert!(
            start > before[tier as usize] && start + block > now - kept - wait - HOUR,
            "tier {tier}: {} h",
            (now - start) / HOUR
        );
        assert!(start <= now - kept + block, "tier {tier}: no more than that: {} h", (now - start) / HOUR);
    }
    let held = p.reader().query(&k, now - 10 * DAY, now, Detail::Length(HOUR), now).expect("answer");
    assert_eq!(held.buckets.iter().map(|b| b.count).sum::<u32>(), 10 * 144, "what is kept is whole");

    // Longer: from now on. What was removed does not come back, and is answered by what is coarser.
    p.settings.retention = keep(20 * DAY, 40 * DAY, 100 * DAY);
    let changed = now;
    assert!(first_raw(&p, now) >= changed - 13 * HOUR);
    let fine =
        |p: &Place, now: i64, from: i64| p.reader().query(&k, from, now, Detail::Length(10 * SECOND), now).expect("answer");
    let answer = fine(&p, now, now - 10 * DAY);
    assert_eq!(answer.tier, Tier::Hour, "neither values nor minutes go back so far");
    assert_eq!(answer.buckets.iter().map(|b| b.count).sum::<u32>(), 10 * 144);
    let now = live(&p, 10);
    let since = first_raw(&p, now);
    assert!(since >= changed - 13 * HOUR && since <= changed - 6 * HOUR, "{} h", (changed - since) / HOUR);
    let answer = fine(&p, now, changed);
    assert_eq!((answer.tier, answer.buckets.len()), (Tier::Raw, 10 * 144));
    let answer = fine(&p, now, changed - DAY);
    assert_eq!((answer.tier, answer.buckets.iter().map(|b| b.count).sum::<u32>()), (Tier::Minute, 11 * 144));
    let answer = hours(&p, now, 0);
    assert!(answer.buckets.first().expect("some").start >= changed - 20 * DAY - week, "nothing comes back");
    p.open().check().expect("whole");
}

/// A clock that goes back into a time when the machine was off: what comes there is rolled up as well, though what comes later was before.
#[test]
fn what_comes_late_is_rolled_up_before_it_goes() {
    let mut p = Place::new();
    let k = key("sessions", "office");
    let live = |p: &Place, from: i64, days: i64| {
        for i in 0..days * 144 {
            let at = from + i * 10 * MINUTE;
            let mut store = p.open();
            store.ingest(&scrape(at, &[(&k, 1.0)])).expect("taken");
            store.keep_up(at, ALL).expect("kept up");
        }
        from + days * DAY
    };
    live(&p, T0, 1);
    live(&p, T0 + 20 * DAY, 10);
    live(&p, T0 + 9 * DAY, 1);
    p.settings.retention = Retention { raw_ms: HOUR, minute_ms: HOUR, ..Retention::default() };
    let now = live(&p, T0 + 30 * DAY, 1);
    let answer = p.reader().query(&k, T0, now, Detail::Length(HOUR), now).expect("answer");
    assert_eq!(answer.buckets.iter().map(|b| b.count).sum::<u32>(), 13 * 144);
    let tiers: Vec<i64> = {
        let db = p.plain();
        let (from, to) = (T0 + 9 * DAY, T0 + 10 * DAY);
        let mut s = db.prepare("SELECT DISTINCT tier FROM chunks WHERE start >= ?1 - 604800000 AND start < ?2").expect("a view");
        s.query_map([from, to], |r| r.get(0)).expect("rows").collect::<Result<_, _>>().expect("numbers")
    };
    assert_eq!(tiers, [2], "only hours are left");
}

/// Years of values are many blocks: upkeep that has nothing to do may not go through them.
#[test]
fn upkeep_of_a_long_retention_is_as_quick_as_of_a_short_one() {
    let mut p = Place::new();
    p.settings.retention = Retention::longest();
    let now = filled(&p);
    const BLOCKS: i64 = 80_000;
    let db = p.plain();
    let key = |tier: i64, start: i64| tier << 58 | (start / MINUTE) << 24;
    db.execute_batch("BEGIN").expect("begun");
    for i in 1..BLOCKS {
        // Whole ones without a chunk, as of a machine without shares, in each tier.
        let add = |tier: i64, start: i64| {
            db.execute("INSERT OR IGNORE INTO block (id, times, upto) VALUES (?1, zeroblob(100), NULL)", [key(tier, start)])
                .expect("added");
        };
        let start = T0 - i * HOUR;
        add(0, start);
        add(1, start.div_euclid(6 * HOUR) * 6 * HOUR);
        add(2, start.div_euclid(7 * DAY) * 7 * DAY);
    }
    // As the making of the last of those weeks leaves it.
    db.execute("INSERT INTO state (name, value) VALUES ('made-hour', ?1)", [T0.div_euclid(7 * DAY) * 7 * DAY]).expect("noted");
    db.execute_batch("COMMIT").expect("done");
    p.open().keep_up(now, ALL).expect("kept up");
    let mut store = p.open();
    let times = (0..20).map(|_| {
        let began = Instant::now();
        let done = store.keep_up(now, 10).expect("kept up");
        assert!(done == smbgw_core::series::Upkeep::default(), "{done:?}");
        began.elapsed()
    });
    let best = times.min().expect("some");
    assert!(best < Duration::from_millis(5), "{best:?} with {BLOCKS} blocks");
}

// ------------------------------------------------------------------------------------------------------------- damage

/// What a collector does: takes a scrape, keeps up, and sets aside what is damaged.
fn collect(p: &Place, at: i64) -> Option<PathBuf> {
    let go = || -> Result<Option<PathBuf>, Error> {
        let mut opened = Store::open(&RealHost, &p.path, p.settings, at)?;
        opened.store.ingest(&scrape(at, &[(&key("sessions", "office"), 1.0)]))?;
        opened.store.keep_up(at, 8)?;
        opened.store.check()?;
        Ok(opened.set_aside.map(|(path, why)| {
            assert!(!why.is_empty());
            path
        }))
    };
    match go() {
        Ok(aside) => aside,
        Err(e) => {
            assert_eq!(e.kind(), Kind::Corrupt, "{e:?}");
            let aside = Store::set_aside(&RealHost, &p.path, at).expect("set aside");
            assert_eq!(go().expect("goes on"), None);
            Some(aside)
        }
    }
}

/// A store with packed hours, closed and written back.
fn filled(p: &Place) -> i64 {
    let k = key("sessions", "office");
    let mut store = p.open();
    let mut now = T0;
    for i in 0..120 {
        now = T0 + i * 5 * MINUTE;
        store.ingest(&scrape(now, &[(&k, i as f64), (&key("used_bytes", "office"), 0.1 * i as f64)])).expect("taken");
    }
    store.keep_up(now, ALL).expect("kept up");
    drop(store);
    p.plain().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("written back");
    now
}

#[test]
fn a_damaged_file_is_set_aside_and_a_new_one_begun() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("garbage", |path| std::fs::write(path, [0xa5; 20_000]).expect("written")),
        ("truncated", |path| {
            let all = std::fs::read(path).expect("read");
            std::fs::write(path, &all[..all.len() / 2 + 100]).expect("written");
        }),
        ("a page of zeros", |path| {
            let mut all = std::fs::read(path).expect("read");
            all[4096 * 2..4096 * 3].fill(0);
            std::fs::write(path, all).expect("written");
        }),
        ("another program's", |path| {
            std::fs::remove_file(path).expect("removed");
            let other = rusqlite::Connection::open(path).expect("opens");
            other.execute_batch("CREATE TABLE series (a); PRAGMA user_version = 1").expect("made");
        }),
    ];
    for (name, damage) in damages {
        let p = Place::new();
        let now = filled(&p);
        damage(&p.path);
        let before = std::fs::read(&p.path).expect("read");
        let aside = collect(&p, now + 10 * SECOND).unwrap_or_else(|| panic!("{name}: not noticed"));
        assert_eq!(std::fs::read(&aside).expect("kept").len(), before.len(), "{name}");
        assert_eq!(p.reader().raw(&key("sessions", "office"), 0, i64::MAX - 1, now + MINUTE).expect("raw").len(), 1, "{name}");
        // The next one goes on with the new file.
        assert_eq!(collect(&p, now + 20 * SECOND), None, "{name}");
    }
}

#[test]
fn a_flipped_bit_is_noticed_or_does_no_harm() {
    let p = Place::new();
    let now = filled(&p);
    let good = std::fs::read(&p.path).expect("read");
    let mut noticed = 0;
    for i in 0..40usize {
        let _ = std::fs::remove_file(p.path.with_file_name("series.db-wal"));
        let _ = std::fs::remove_file(p.path.with_file_name("series.db-shm"));
        let mut bad = good.clone();
        let at = (i * 2_654_435_761) % bad.len();
        bad[at] ^= 1 << (i % 8);
        std::fs::write(&p.path, bad).expect("written");
        // Reading says what it can, or that it is damaged.
        if let Ok(Some(store)) = Store::open_to_read(&RealHost, &p.path, p.settings) {
            let answer = store.query(&key("sessions", "office"), T0, now, Detail::Points(50), now);
            noticed += usize::from(answer.is_ok_and(|a| a.damaged > 0));
        }
        noticed += usize::from(collect(&p, now + 10 * SECOND).is_some());
    }
    assert!(noticed > 0);
    let asides =
        p.beside().into_iter().filter(|n| n.contains(".corrupt-") && !n.ends_with("-wal") && !n.ends_with("-shm")).count();
    assert!(asides <= 2, "old ones go: {:?}", p.beside());
}

#[test]
fn a_chunk_that_cannot_be_read_is_a_gap() {
    let p = Place::new();
    let now = filled(&p);
    let changed =
        p.plain().execute("UPDATE chunk SET data = x'00112233' WHERE id >> 58 = 0 AND id % 2 = 0", []).expect("changed");
    assert!(changed > 0);
    let answer = p.reader().query(&key("sessions", "office"), now - 3 * HOUR, now, Detail::Length(SECOND), now).expect("answer");
    assert!(answer.damaged > 0 && !answer.buckets.is_empty());
    assert_eq!(collect(&p, now + 10 * SECOND), None);
}

#[test]
fn a_newer_store_is_refused_and_left_alone() {
    let p = Place::new();
    filled(&p);
    p.plain().execute_batch("PRAGMA user_version = 99").expect("set");
    let refused = |r: Result<(), Error>| {
        let e = r.expect_err("is newer");
        assert_eq!(e.kind(), Kind::Unsupported);
        assert!(e.remedy_text().is_some());
    };
    refused(Store::open(&RealHost, &p.path, p.settings, T0).map(drop));
    refused(Store::open_to_read(&RealHost, &p.path, p.settings).map(drop));
    assert!(p.beside().iter().all(|n| !n.contains("corrupt")));
}

#[test]
fn a_lock_of_somebody_else_is_waited_for_but_not_for_long() {
    let mut p = Place::new();
    p.settings.busy = Duration::from_millis(200);
    let now = filled(&p);
    let mut store = p.open();
    let other = p.plain();
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let begun = Instant::now();
    let e = store.ingest(&scrape(now + SECOND, &[])).expect_err("locked");
    assert_eq!(e.kind(), Kind::Busy);
    assert!(e.remedy_text().is_some() && begun.elapsed() < Duration::from_secs(20));
    // Reading goes on meanwhile.
    assert_eq!(p.reader().keys().expect("keys").len(), 2);
    other.execute_batch("ROLLBACK").expect("unlocked");
    store.ingest(&scrape(now + SECOND, &[])).expect("taken");
}

#[test]
fn a_full_store_refuses_and_keeps_what_it_has() {
    let mut p = Place::new();
    p.settings.limit = Some(150_000);
    let keys: Vec<Key> = (0..300).map(|i| key("used_bytes", &format!("share{i}"))).collect();
    let full = |store: &mut Store, from: i64| -> (i64, Error) {
        for i in from..from + 2000 {
            let samples: Vec<(&Key, f64)> = keys.iter().map(|k| (k, 0.1 + i as f64)).collect();
            if let Err(e) = store.ingest(&scrape(T0 + i * 10 * SECOND, &samples)) {
                return (i, e);
            }
        }
        panic!("never full");
    };
    let (taken, e) = full(&mut p.open(), 0);
    assert!(taken > 5 && e.kind() == Kind::Io && e.remedy_text().is_some(), "{taken} {e:?}");
    let now = T0 + taken * 10 * SECOND;
    assert_eq!(p.reader().raw(&keys[7], 0, now, now).expect("raw").len() as i64, taken);
    p.settings.limit = Some(400_000);
    let (more, e) = full(&mut p.open(), taken);
    assert!(more > taken && e.kind() == Kind::Io);
    let store = p.open();
    store.check().expect("whole");
    let now = T0 + more * 10 * SECOND;
    assert_eq!(store.raw(&keys[299], 0, now, now).expect("raw").len() as i64, more);
}

// -------------------------------------------------------------------------------------------------------------- death

/// Set in the process that is going to be killed.
const INNER: &str = "SMBGW_TEST_SERIES";

/// Takes scrapes and keeps up as fast as it can, each in a call of its own, and says what is done; only as a child of the test below.
#[test]
fn inner_collector() {
    let Some(path) = std::env::var_os(INNER) else { return };
    let (path, mut settings) = (PathBuf::from(path), Settings::default());
    settings.retention.raw_ms = 3650 * DAY;
    let k = key("sessions", "office");
    for i in 0.. {
        let mut store = Store::open(&RealHost, &path, settings, T0).expect("opens").store;
        let last = store.raw(&k, 0, T0 + 3000 * DAY, T0 + 3000 * DAY).expect("raw").last().map_or(T0, |s| s.0);
        let at = last.max(T0 + i) + 5 * MINUTE;
        store.ingest(&scrape(at, &[(&k, at as f64), (&key("users", "office"), 1.0)])).expect("taken");
        println!("\ntaken {at}");
        store.keep_up(at, 4).expect("kept up");
    }
}

#[test]
fn a_death_at_any_moment_loses_nothing_that_was_taken() {
    let mut p = Place::new();
    p.settings.retention.raw_ms = 3650 * DAY;
    let k = key("sessions", "office");
    let mut taken: Vec<i64> = Vec::new();
    for round in 0..8u64 {
        let mut child = Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", "inner_collector", "--nocapture", "--test-threads=1"])
            .env(INNER, &p.path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let mut seen = lines.filter_map(|l| l.strip_prefix("taken ").and_then(|t| t.parse::<i64>().ok()));
        // From the first word on, a time that differs each round; then it is dead in the middle of something.
        taken.extend(seen.by_ref().take(3));
        std::thread::sleep(Duration::from_micros(1000 + round * round * 2717 % 40_000));
        child.kill().expect("killed");
        taken.extend(seen);
        child.wait().expect("ended");
        let store = p.open();
        store.check().expect("whole");
        let now = taken.last().copied().expect("some") + DAY;
        let times: Vec<i64> = store.raw(&k, 0, now, now).expect("raw").into_iter().map(|s| s.0).collect();
        assert!(taken.iter().all(|t| times.binary_search(t).is_ok()), "round {round}");
        assert!(times.len() <= taken.len() + round as usize + 1, "what was not said is at most one a round");
    }
    assert!(taken.len() > 24);
}
