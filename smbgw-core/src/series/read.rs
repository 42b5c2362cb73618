// SPDX-License-Identifier: MIT OR Apache-2.0
//! Answers: the tier that fits, the newest part filled from the tier below, and what is too old left out, whether it is still on disk or not. It
//! must not change anything.

use rusqlite::params;

use super::blocks::{self, start_of};
use super::{Answer, Detail, Size, Store, Tier, head};
use crate::error::Result;
use crate::metrics::rollup::{ceil, floor, length_for, merge, points};
use crate::metrics::{Bucket, Key, Kind, by_number, chunk};

/// Raw values have no unit; whole seconds are fine enough for buckets of them.
const SECOND_MS: i64 = 1000;

/// One series, while it is read.
struct Reading<'a> {
    store: &'a Store,
    number: u32,
    kind: Kind,
    damaged: u32,
}

/// All reads of one answer see the same moment.
fn snapshot<T>(store: &Store, act: impl FnOnce() -> Result<T>) -> Result<T> {
    store.run("BEGIN")?;
    let done = act();
    // It only read.
    let ended = store.run("COMMIT");
    let done = done?;
    ended.map(|()| done)
}

/// Unknown to this version: the value as it is.
pub(super) fn kind_of(metric: u16) -> Kind {
    by_number(metric).map_or(Kind::Gauge, |m| m.kind)
}

/// How far back a tier goes: as long as it is kept, and not into what was removed while it was kept for a shorter time.
fn reach(store: &Store, tier: Tier, now: i64) -> Result<i64> {
    // A mark in times to come is that of a clock that was wrong.
    let gone = store.state(tier.gone())?.filter(|g| *g <= now).unwrap_or(0);
    Ok(now.saturating_sub(tier.keep(&store.settings.retention)).max(gone))
}

/// The coarsest tier whose unit is in the length, or the first coarser one that reaches further back if that does not reach back so far.
fn tier_for(store: &Store, length: i64, exact: bool, from: i64, now: i64) -> Result<Tier> {
    let fits = |t: Tier| t.unit() <= length && (!exact || length % t.unit() == 0);
    let mut tier = [Tier::Hour, Tier::Minute].into_iter().find(|t| fits(*t)).unwrap_or(Tier::Raw);
    let (mut begins, mut above) = (reach(store, tier, now)?, tier.above());
    while let Some(coarser) = above.filter(|_| from < begins) {
        let further = reach(store, coarser, now)?;
        if further < begins {
            (tier, begins) = (coarser, further);
        }
        above = coarser.above();
    }
    Ok(tier)
}

pub(super) fn query(store: &Store, key: &Key, from: i64, to: i64, detail: Detail, now: i64) -> Result<Answer> {
    let retention = &store.settings.retention;
    let oldest = [Tier::Raw, Tier::Minute, Tier::Hour].map(|t| t.keep(retention)).into_iter().max().unwrap_or_default();
    // Nothing is known of times to come: what lies there was put there by a clock that was wrong.
    let to = to.clamp(0, head::LATEST).min(now.saturating_add(1));
    let from = from.clamp(0, head::LATEST).max(now.saturating_sub(oldest));
    let tier = match detail {
        Detail::Points(n) => tier_for(store, to.saturating_sub(from) / i64::from(n.max(1)), false, from, now)?,
        Detail::Length(length) => tier_for(store, length, true, from, now)?,
    };
    let unit = tier.unit();
    let from = floor(from, unit).max(ceil(now.saturating_sub(tier.keep(retention)), unit));
    let to = ceil(to, unit);
    let resolution_ms = match detail {
        Detail::Points(n) => length_for(from, to, n.max(2), unit.max(SECOND_MS)),
        Detail::Length(length) => ceil(length.max(1), unit),
    };
    let empty = Answer { resolution_ms, tier, buckets: Vec::new(), damaged: 0 };
    if from >= to {
        return Ok(empty);
    }
    snapshot(store, || {
        let Some(number) = head::number(store, key)? else { return Ok(empty) };
        let mut reading = Reading { store, number, kind: kind_of(key.metric), damaged: 0 };
        let found = reading.fetch(tier, from, to)?;
        Ok(Answer { buckets: merge(&found, resolution_ms), damaged: reading.damaged, ..empty })
    })
}

pub(super) fn raw(store: &Store, key: &Key, from: i64, to: i64, now: i64) -> Result<Vec<(i64, f64)>> {
    let from = from.max(now.saturating_sub(store.settings.retention.raw_ms)).clamp(0, head::LATEST);
    let to = to.min(now.saturating_add(1)).clamp(0, head::LATEST);
    snapshot(store, || match head::number(store, key)? {
        Some(number) => Reading { store, number, kind: Kind::Gauge, damaged: 0 }.samples(from, to),
        None => Ok(Vec::new()),
    })
}

impl Reading<'_> {
    /// Buckets of a tier's unit (of raw values: points) that begin in a stretch.
    fn fetch(&mut self, tier: Tier, from: i64, to: i64) -> Result<Vec<Bucket>> {
        let Some(below) = tier.below() else { return self.points(from, to) };
        let mut found = Vec::new();
        let mut done = from;
        for (start, chunk) in self.packed(tier, from, to)? {
            if start > done {
                found.extend(merge(&self.fetch(below, done, start)?, tier.unit()));
            }
            if let Some(data) = chunk {
                match chunk::decode_buckets(&data, tier.slots(), start, tier.unit()) {
                    Some(buckets) => found.extend(buckets.into_iter().filter(|b| b.start >= from && b.start < to)),
                    None => self.damaged += 1,
                }
            }
            done = done.max(start + tier.block());
        }
        if done < to {
            found.extend(merge(&self.fetch(below, done, to)?, tier.unit()));
        }
        Ok(found)
    }

    /// The blocks of a tier that have this series, or would have it if there were values, with its chunk.
    fn packed(&self, tier: Tier, from: i64, to: i64) -> Result<Vec<(i64, Option<Vec<u8>>)>> {
        self.store.sql(|db| {
            let [first, end] = blocks::keys(tier, start_of(tier, from), to);
            let mut s = db.prepare(
                "SELECT block.id, data FROM block LEFT JOIN chunk ON chunk.id = (block.id | ?3)
                 WHERE block.id >= ?1 AND block.id < ?2 AND (upto IS NULL OR upto > ?3) ORDER BY block.id",
            )?;
            let rows =
                s.query_map(params![first, end, self.number], |r| Ok((blocks::block(r.get(0)?, None).start, r.get(1)?)))?;
            rows.collect()
        })
    }

    fn points(&mut self, from: i64, to: i64) -> Result<Vec<Bucket>> {
        let gap = self.store.settings.retention.gap_ms;
        // The first rate needs the sample before.
        let first = if self.kind == Kind::Counter { from.saturating_sub(gap).max(0) } else { from };
        let points = points(self.kind, &self.samples(first, to)?, gap);
        let bucket = |(start, v): (i64, f64)| Bucket { start, min: v, max: v, mean: v, count: 1 };
        Ok(points.into_iter().filter(|p| p.0 >= from).map(bucket).collect())
    }

    /// Values as they were taken, packed or not.
    fn samples(&mut self, from: i64, to: i64) -> Result<Vec<(i64, f64)>> {
        let mut found = head::values(self.store, self.number, from, to)?;
        let newest = found.len();
        let mut damaged = 0;
        self.store.sql(|db| {
            let [first, end] = blocks::keys(Tier::Raw, start_of(Tier::Raw, from), to);
            let mut s = db.prepare(
                "SELECT times, data FROM block JOIN chunk ON chunk.id = (block.id | ?3)
                 WHERE block.id >= ?1 AND block.id < ?2 ORDER BY block.id",
            )?;
            let mut rows = s.query(params![first, end, self.number])?;
            while let Some(row) = rows.next()? {
                let times = row.get_ref(0)?.as_blob_or_null()?.and_then(chunk::decode_times);
                match times.and_then(|t| Some((chunk::decode(row.get_ref(1).ok()?.as_blob().ok()?, t.len())?, t))) {
                    Some((values, times)) => found.extend(
                        times.into_iter().zip(values).filter_map(|(t, v)| Some((t, v?))).filter(|(t, _)| *t >= from && *t < to),
                    ),
                    None => damaged += 1,
                }
            }
            Ok(())
        })?;
        self.damaged += damaged;
        if newest > 0 {
            found.sort_by_key(|s| s.0);
        }
        Ok(found)
    }
}

pub(super) fn keys(store: &Store) -> Result<Vec<Key>> {
    store.sql(|db| {
        let mut s = db.prepare("SELECT metric, object FROM series ORDER BY metric, object")?;
        let rows = s.query_map([], |r| Ok(Key { metric: r.get(0)?, object: r.get(1)? }))?;
        rows.collect()
    })
}

pub(super) fn size(store: &Store) -> Result<Size> {
    let number = |sql: &str| store.sql(|db| db.query_row(sql, [], |r| r.get::<_, i64>(0))).map(i64::unsigned_abs);
    let page = number("PRAGMA page_size")?;
    Ok(Size {
        bytes: number("PRAGMA page_count")? * page,
        free: number("PRAGMA freelist_count")? * page,
        series: number("SELECT count(*) FROM series")?,
    })
}
