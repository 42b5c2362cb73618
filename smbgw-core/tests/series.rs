// SPDX-License-Identifier: MIT OR Apache-2.0
//! The store of figures on real files: what is taken is answered, whatever upkeep did in between.
#![allow(clippy::disallowed_methods)]
#![cfg(feature = "series")]

use std::path::PathBuf;

use smbgw_core::error::Kind;
use smbgw_core::host::real::RealHost;
use smbgw_core::metrics::{Key, Sample, Scope, Scrape, by_name};
use smbgw_core::series::{Detail, Settings, Store, Tier};

/// A Monday, 00:00 UTC.
const T0: i64 = 1_790_553_600_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

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
}

fn key(name: &str, object: &str) -> Key {
    Key::new(by_name(Scope::Share, name).expect("in the table"), object)
}

fn scrape(at: i64, samples: &[(&Key, f64)]) -> Scrape {
    let samples = samples.iter().map(|(k, v)| Sample { key: (*k).clone(), value: *v }).collect();
    Scrape { node: "pve1".into(), at, samples, ..Scrape::default() }
}

#[test]
fn what_is_taken_is_answered() {
    let p = Place::new();
    assert!(Store::open_to_read(&RealHost, &p.path, p.settings).expect("no error").is_none());
    let (sessions, bytes) = (key("sessions", "office"), key("read_bytes", "office"));
    for i in 0..2000 {
        let at = T0 + i * 10_000;
        let mut store = p.open();
        store.ingest(&scrape(at, &[(&sessions, (i % 7) as f64), (&bytes, (i * 1000) as f64)])).expect("taken");
        store.keep_up(at, 4).expect("kept up");
    }
    let now = T0 + 2000 * 10_000;
    let store = p.reader();
    assert_eq!(store.keys().expect("keys"), [sessions.clone(), bytes.clone()]);
    let raw = store.raw(&sessions, T0, now, now).expect("raw");
    assert_eq!(raw, (0..2000).map(|i| (T0 + i * 10_000, (i % 7) as f64)).collect::<Vec<_>>());
    let answer = store.query(&bytes, T0, now, Detail::Points(100), now).expect("answer");
    assert_eq!((answer.tier, answer.damaged), (Tier::Minute, 0));
    assert!(answer.buckets.len() <= 100 && answer.buckets.iter().all(|b| (b.mean - 100.0).abs() < 0.01 && b.count > 0));
    assert_eq!(answer.buckets.iter().map(|b| b.count).sum::<u32>(), 1999);
    let mut again = p.open();
    assert_eq!(again.ingest(&scrape(now - 10_000, &[])).expect_err("not new").kind(), Kind::Conflict);
    assert_eq!(again.ingest(&scrape(T0 + HOUR + 1, &[])).expect_err("packed").kind(), Kind::Conflict);
}
