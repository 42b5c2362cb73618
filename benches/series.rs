// SPDX-License-Identifier: MIT OR Apache-2.0
//! The store of figures with 500 shares of 12 series each: what a scrape, an hour of upkeep and an answer take, and how many bytes a value
//! has on disk beside plain rows; and the codec beside two others. The figures are made up, as those of offices are (`figures/`).
#![allow(clippy::disallowed_methods)]

#[path = "figures/candidates.rs"]
mod candidates;
mod figures;

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::Criterion;
use figures::{METRICS, MIX, Share, Use};
use rusqlite::{Connection, params};
use smbgw_core::host::real::RealHost;
use smbgw_core::metrics::{Key, Sample, Scrape, chunk};
use smbgw_core::series::{Detail, Settings, Store};

/// A Monday, 00:00 UTC.
const T0: i64 = 1_790_553_600_000;
const STEP: i64 = 10_000;
const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// The scrapes of a node with so many shares.
struct Node {
    shares: Vec<Share>,
    scrape: Scrape,
}

impl Node {
    fn new(count: usize) -> Self {
        let shares = (0..count).map(|i| Share::new(i as u64, MIX[i % MIX.len()])).collect();
        Self { shares, scrape: Scrape { node: "pve1".into(), at: T0 - STEP, ..Scrape::default() } }
    }

    fn next(&mut self, step: i64) -> &Scrape {
        self.scrape.at += step;
        let at = self.scrape.at;
        self.scrape.samples.clear();
        for (i, share) in self.shares.iter_mut().enumerate() {
            let values = METRICS.iter().zip(share.next(at));
            let sample = |(metric, value): (&u16, Option<f64>)| Some(Sample { key: key(*metric, i), value: value? });
            self.scrape.samples.extend(values.filter_map(sample));
        }
        &self.scrape
    }
}

fn key(metric: u16, share: usize) -> Key {
    Key { metric, object: format!("office{share}") }
}

fn open(path: &Path) -> Store {
    Store::open(&RealHost, path, Settings::default(), T0).expect("opens").store
}

/// Peak of our resident memory, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn bytes_of(path: &Path) -> u64 {
    let db = Connection::open(path).expect("opens");
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("written back");
    std::fs::metadata(path).expect("there").len()
}

/// Some hours of 500 shares: times of scrapes and upkeep, bytes, and the same in plain rows.
fn hours(dir: &Path, shares: usize, hours: i64) {
    let (path, plain) = (dir.join("series.db"), dir.join("plain.db"));
    let mut node = Node::new(shares);
    // An office day begins at seven.
    node.scrape.at += 7 * HOUR;
    let rows = Connection::open(&plain).expect("opens");
    rows.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
         CREATE TABLE value (series INTEGER, t INTEGER, value REAL, PRIMARY KEY (series, t)) WITHOUT ROWID",
    )
    .expect("made");
    let (mut ingest, mut upkeep, mut as_rows, mut values) = (Vec::new(), Duration::ZERO, Duration::ZERO, 0);
    let (mut steps, mut longest) = (0, Duration::ZERO);
    // The hours, and what has to pass until the last of them is packed.
    for i in 0..hours * 360 + 14 {
        let scrape = node.next(STEP);
        let begun = Instant::now();
        let mut store = open(&path);
        store.ingest(scrape).expect("taken");
        drop(store);
        ingest.push(begun.elapsed());
        let begun = Instant::now();
        let mut store = open(&path);
        loop {
            let one = Instant::now();
            let done = store.keep_up(scrape.at, 1).expect("kept up");
            longest = longest.max(one.elapsed());
            steps += 1;
            if !done.more {
                break;
            }
        }
        upkeep += begun.elapsed();
        if i >= hours * 360 {
            continue;
        }
        values += scrape.samples.len() as u64;
        let begun = Instant::now();
        rows.execute_batch("BEGIN").expect("begun");
        let mut add = rows.prepare("INSERT INTO value VALUES (?1, ?2, ?3)").expect("prepared");
        for (n, s) in scrape.samples.iter().enumerate() {
            add.execute(params![n as i64, scrape.at, s.value]).expect("added");
        }
        drop(add);
        rows.execute_batch("COMMIT").expect("ended");
        as_rows += begun.elapsed();
    }
    drop(rows);
    ingest.sort();
    let (ours, theirs) = (bytes_of(&path), bytes_of(&plain));
    let db = Connection::open(&path).expect("opens");
    let free: u64 = 4096 * db.query_row("PRAGMA freelist_count", [], |r| r.get::<_, u32>(0)).map(u64::from).expect("read");
    let tier = |t: i64| -> (i64, i64) {
        db.query_row("SELECT count(*), ifnull(sum(length(data)), 0) FROM chunks WHERE tier = ?1", [t], |r| {
            Ok((r.get(0)?, r.get(1)?))
        })
        .expect("a view")
    };
    let median = ingest[ingest.len() / 2];
    println!("series: {shares} shares x 12, {hours} office hours, {values} values");
    println!(
        "  a scrape, opening included: median {median:?}, longest {:?}; plain rows {:?}",
        ingest[ingest.len() - 1],
        as_rows / (hours * 360) as u32
    );
    println!("  upkeep for an hour of figures: {:?}; its longest step {longest:?}; {steps} steps", upkeep / hours as u32);
    let (raw, minutes) = (tier(0), tier(1));
    println!("  chunks of raw values: {} with {} bytes; of minutes: {} with {} bytes", raw.0, raw.1, minutes.0, minutes.1);
    let used = ours - free;
    println!(
        "  bytes per value on disk, minutes included: {:.3}; plain rows {:.3}: 1 : {:.0}",
        used as f64 / values as f64,
        theirs as f64 / values as f64,
        theirs as f64 / used as f64
    );
    println!("  peak of memory: {} KiB", peak());
}

/// Thirty days of a few shares with raw values by the minute, which is what their age leaves of them anyway; then the answers.
fn answers(c: &mut Criterion, dir: &Path) {
    let path = dir.join("month.db");
    let mut node = Node::new(10);
    let mut store = open(&path);
    for _ in 0..33 * 24 * 60 {
        let scrape = node.next(60_000);
        store.ingest(scrape).expect("taken");
        if scrape.at % HOUR < 60_000 {
            store.keep_up(scrape.at, u32::MAX).expect("kept up");
        }
    }
    drop(store);
    let now = node.scrape.at;
    let mut group = c.benchmark_group("series: answers, opening included");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    for (name, days, metric) in
        [("30 days, gauge", 30, 1), ("30 days, counter", 30, 6), ("7 days, counter", 7, 6), ("1 hour, counter", 0, 6)]
    {
        let from = if days == 0 { now - HOUR } else { now - days * DAY };
        group.bench_function(format!("{name}, 300 points"), |b| {
            b.iter(|| {
                let store = Store::open_to_read(&RealHost, &path, Settings::default()).expect("opens").expect("there");
                black_box(store.query(&key(metric, 0), from, now, Detail::Points(300), now).expect("answer"))
            });
        });
    }
    group.finish();
}

/// The three codecs on the same chunks.
fn codecs(dir: &Path) {
    for (name, how) in [("idle", Use::Idle), ("some", Use::Some), ("office", Use::Office)] {
        let mut shares: Vec<Share> = (0..10).map(|i| Share::new(i, how)).collect();
        let (mut values, mut ours, mut gorilla, mut packing, mut unpacking) = (0usize, 0, 0, Duration::ZERO, Duration::ZERO);
        let mut differences = Vec::new();
        for hour in 0..24 {
            for share in &mut shares {
                let mut columns = vec![Vec::with_capacity(360); METRICS.len()];
                for i in 0..360 {
                    let next = share.next(T0 + hour * HOUR + i * STEP);
                    columns.iter_mut().zip(next).for_each(|(c, v)| c.push(v));
                }
                for column in columns {
                    let there: Vec<f64> = column.iter().copied().flatten().collect();
                    if there.is_empty() {
                        continue;
                    }
                    values += there.len();
                    let begun = Instant::now();
                    let packed = chunk::encode(black_box(&column));
                    packing += begun.elapsed();
                    let begun = Instant::now();
                    black_box(chunk::decode(black_box(&packed), column.len()).expect("own chunk"));
                    unpacking += begun.elapsed();
                    ours += packed.len();
                    gorilla += candidates::gorilla_bits(&there).div_ceil(8);
                    differences.push(candidates::differences(&there));
                }
            }
        }
        let per = |bytes: u64| bytes as f64 / values as f64;
        let zstd = candidates::zstd_bytes(dir, &differences, "-19").map_or("no program".to_owned(), |b| format!("{:.3}", per(b)));
        let each = |t: Duration| t.as_nanos() / values as u128;
        println!(
            "codec, {name}: bytes per value {:.3}, Gorilla {:.3}, differences under zstd -19 {zstd}; {} ns to pack, {} to unpack a value",
            per(ours as u64),
            per(gorilla),
            each(packing),
            each(unpacking)
        );
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let dir = tempfile::tempdir().expect("temp dir");
    let count = |name: &str, default: usize| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    codecs(dir.path());
    hours(dir.path(), count("SMBGW_BENCH_SHARES", 500), count("SMBGW_BENCH_HOURS", 6) as i64);
    answers(&mut criterion, dir.path());
    criterion.final_summary();
}
