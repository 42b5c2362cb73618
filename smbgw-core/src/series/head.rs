// SPDX-License-Identifier: MIT OR Apache-2.0
//! The newest scrapes: one row for each and each 256 series, in the order of time, so that taking a scrape writes a few pages at the end. It
//! knows when a scrape is taken and which number a series has; it must not know how values are kept later.

use std::collections::BTreeMap;

use rusqlite::params;

use super::{Store, blocks, upkeep};
use crate::error::{Error, Kind, Result};
use crate::metrics::chunk::{self, PART};
use crate::metrics::{Key, Sample, Scrape};

/// Series that a store can have at a time.
pub(super) const SERIES: u32 = 1 << 22;
/// Times from here on cannot be: the year 9999.
pub(super) const LATEST: i64 = 253_402_300_800_000;
/// Nothing may be stored so shortly after a scrape that is taken.
const EMPTY_AFTER_MS: i64 = 600_000;

/// The key of a row.
pub(super) fn id(at: i64, part: u32) -> i64 {
    at << 14 | i64::from(part)
}

fn takes(store: &Store, at: i64) -> Result<()> {
    if !(0..LATEST).contains(&at) {
        return Err(Error::new(Kind::Invalid, format!("the time of a scrape is {at} ms")).remedy("set the machine's clock"));
    }
    let sql = "SELECT max(at) FROM scrape WHERE at BETWEEN ?1 AND ?2";
    let after: Option<i64> = store.sql(|db| db.query_row(sql, [at, at + EMPTY_AFTER_MS], |r| r.get(0)))?;
    if let Some(after) = after {
        return Err(Error::new(Kind::Conflict, format!("a scrape of {at} ms comes after one of {after} ms"))
            .remedy("the clock was put back; figures are taken again as soon as it is where it was"));
    }
    if blocks::is_closed(store, at)? {
        return Err(Error::new(Kind::Conflict, format!("a scrape of {at} ms is older than what is packed already"))
            .remedy("the clock was put back; figures are taken again with the next hour that has none, or move the store away to begin a new one"));
    }
    Ok(())
}

/// The numbers of the samples' series; a new one gets the lowest that is free, so that numbers stay dense.
fn numbers(store: &Store, scrape: &Scrape) -> Result<Vec<u32>> {
    let mut wanted: Vec<(u16, &str, Option<u32>)> =
        scrape.samples.iter().map(|s| (s.key.metric, s.key.object.as_str(), None)).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let find = |wanted: &[(u16, &str, Option<u32>)], metric: u16, object: &str| {
        wanted.binary_search_by(|w| (w.0, w.1).cmp(&(metric, object))).ok()
    };
    let used = store.sql(|db| {
        let mut used = Vec::new();
        let mut known = db.prepare("SELECT number, metric, object FROM series ORDER BY number")?;
        let mut rows = known.query([])?;
        while let Some(row) = rows.next()? {
            let number = row.get(0)?;
            used.push(number);
            if let Some(i) = find(&wanted, row.get(1)?, row.get_ref(2)?.as_str()?) {
                wanted[i].2 = Some(number);
            }
        }
        Ok(used)
    })?;
    let new: Vec<_> = wanted.iter_mut().filter(|w| w.2.is_none()).collect();
    let free: Vec<u32> = (0..SERIES).filter(|n| used.binary_search(n).is_err()).take(new.len()).collect();
    if free.len() < new.len() {
        return Err(Error::new(Kind::Io, format!("{}: no number for another series", store.path.display()))
            .remedy("move the store away to begin a new one"));
    }
    store.sql(|db| {
        let mut add = db.prepare("INSERT INTO series (number, metric, object, seen) VALUES (?1, ?2, ?3, ?4)")?;
        for ((metric, object, number), next) in new.into_iter().zip(free) {
            add.execute(params![next, *metric, *object, scrape.at])?;
            *number = Some(next);
        }
        Ok(())
    })?;
    let number = |s: &Sample| wanted[find(&wanted, s.key.metric, &s.key.object)?].2;
    Ok(scrape.samples.iter().filter_map(number).collect())
}

pub(super) fn ingest(store: &Store, scrape: &Scrape) -> Result<()> {
    takes(store, scrape.at)?;
    let mut parts: BTreeMap<u32, Box<[Option<f64>; PART]>> = BTreeMap::new();
    for (number, sample) in numbers(store, scrape)?.into_iter().zip(&scrape.samples) {
        if sample.value.is_finite() {
            let part = parts.entry(number / PART as u32).or_insert_with(|| Box::new([None; PART]));
            part[number as usize % PART] = Some(sample.value);
        }
    }
    store.sql(|db| {
        db.execute("INSERT INTO scrape (at) VALUES (?1)", [scrape.at])?;
        let mut add = db.prepare("INSERT INTO head (id, data) VALUES (?1, ?2)")?;
        for (part, values) in parts {
            add.execute(params![id(scrape.at, part), chunk::encode_row(&values[..])])?;
        }
        Ok(())
    })?;
    upkeep::note(store, scrape.at)
}

/// The number of a series.
pub(super) fn number(store: &Store, key: &Key) -> Result<Option<u32>> {
    store.sql(|db| {
        let mut s = db.prepare("SELECT number FROM series WHERE metric = ?1 AND object = ?2")?;
        let mut rows = s.query(params![key.metric, key.object])?;
        rows.next()?.map(|r| r.get(0)).transpose()
    })
}

/// The values of a series among the newest scrapes in `from..to`.
pub(super) fn values(store: &Store, number: u32, from: i64, to: i64) -> Result<Vec<(i64, f64)>> {
    store.sql(|db| {
        let mut found = Vec::new();
        let mut s =
            db.prepare("SELECT at, data FROM scrape JOIN head ON id = (at << 14 | ?3) WHERE at >= ?1 AND at < ?2 ORDER BY at")?;
        let mut rows = s.query(params![from, to, number / PART as u32])?;
        while let Some(row) = rows.next()? {
            let data = row.get_ref(1)?.as_blob()?;
            if let Some(value) = chunk::row_value(data, number as usize % PART) {
                found.push((row.get(0)?, value));
            }
        }
        Ok(found)
    })
}
