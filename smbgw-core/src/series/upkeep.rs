// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is done from time to time, in small steps: the newest scrapes become chunks, chunks become chunks of minutes and hours, what is too old
//! goes. A step is about 256 series of one block and one transaction; a death between two loses nothing, and answers are the same before,
//! between and after. It must not know how answers are put together.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::blocks::{self, Block, start_of};
use super::{Store, Tier, Upkeep, file, head, read};
use crate::error::Result;
use crate::metrics::chunk::{self, PART};
use crate::metrics::rollup::{self, buckets, merge};
use crate::metrics::{Bucket, Kind};

/// After its end a block stays open for so long.
const GRACE_MS: i64 = 120_000;
/// Scrapes that are farther apart belong to different runs.
const BREAK_MS: i64 = 900_000;
/// The clock of a run that lasted so long is good enough to pack and roll up by,
const SURE_MS: i64 = 600_000;
/// and of one that lasted so long to remove by.
const SAFE_MS: i64 = 3_600_000;
/// Rows that are removed in a step.
const REMOVE: usize = 2_000;
/// Pages that are given back to the file system in a step.
const GIVE_BACK: u64 = 1_000;
/// How often the whole file is looked at.
const CHECK_MS: i64 = 7 * 86_400_000;
/// A larger file is not looked at as a whole: whoever waits for it would wait for too long.
const CHECK_BYTES: u64 = 2 << 30;
/// How often series without values are looked for.
const SWEEP_MS: i64 = 86_400_000;

/// Remembers a scrape for what the clock is worth.
pub(super) fn note(store: &Store, at: i64) -> Result<()> {
    let run = match (store.state("last")?, store.state("run")?) {
        (Some(last), Some(run)) if at > last && at.saturating_sub(last) <= BREAK_MS => run,
        _ => {
            store.set_state("run", at)?;
            at
        }
    };
    store.set_state("last", at)?;
    if at.saturating_sub(run) >= SURE_MS {
        store.set_state("sure", at)?;
    }
    if at.saturating_sub(run) >= SAFE_MS {
        store.set_state("safe", at)?;
    }
    Ok(())
}

/// What a step found to do.
enum Step {
    Pack(Block),
    /// A block to make from what is below it.
    Roll(Block),
    Remove(Block),
    Sweep,
    Check,
    GiveBack,
}

pub(super) fn keep_up(store: &mut Store, now: i64, steps: u32) -> Result<Upkeep> {
    let mut done = Upkeep::default();
    for _ in 0..steps {
        match next(store, now)? {
            Some(Step::Check) => {
                // Not in a transaction: it takes longer than others should wait for a lock.
                file::check(store)?;
                store.write(|s| s.set_state("checked", now))?;
            }
            // A page is given back with each row that is asked for.
            Some(Step::GiveBack) => store.sql(|db| {
                let mut s = db.prepare(&format!("PRAGMA incremental_vacuum({GIVE_BACK})"))?;
                let mut rows = s.query([])?;
                while rows.next()?.is_some() {}
                Ok(())
            })?,
            // Once more: from now on nobody else can be at it too.
            Some(_) => store.write(|s| match next(s, now)? {
                Some(Step::Pack(block)) => pack(s, block, &mut done),
                Some(Step::Roll(block)) => roll(s, block, &mut done),
                Some(Step::Remove(block)) => remove(s, block, &mut done),
                Some(Step::Sweep) => sweep(s, now),
                _ => Ok(()),
            })?,
            None => return Ok(done),
        }
    }
    done.more = next(store, now)?.is_some();
    Ok(done)
}

/// The time of the oldest scrape that is not packed.
fn oldest(store: &Store) -> Result<Option<i64>> {
    store.sql(|db| db.query_row("SELECT min(at) FROM scrape WHERE at BETWEEN 0 AND ?1", [head::LATEST], |r| r.get(0)))
}

fn next(store: &Store, now: i64) -> Result<Option<Step>> {
    let Some(sure) = store.state("sure")?.map(|s| s.min(now)) else { return Ok(None) };
    let due = |start: &i64| start + Tier::Raw.block() + GRACE_MS <= sure;
    if let Some(start) = oldest(store)?.map(|at| start_of(Tier::Raw, at)).filter(due) {
        let begun = blocks::at(store, Tier::Raw, start)?;
        return Ok(Some(Step::Pack(begun.unwrap_or(Block { tier: Tier::Raw, start, upto: Some(0) }))));
    }
    for tier in [Tier::Minute, Tier::Hour] {
        if let Some(block) = to_roll(store, tier, sure)? {
            return Ok(Some(Step::Roll(block)));
        }
    }
    let Some(safe) = store.state("safe")?.map(|s| s.min(now)) else { return Ok(None) };
    let retention = &store.settings.retention;
    let is_old = |b: &Block| b.end() <= safe.saturating_sub(b.tier.keep(retention)) && is_rolled(b, sure);
    for tier in [Tier::Raw, Tier::Minute, Tier::Hour] {
        // If the first one is not, none is.
        if let Some(block) = blocks::oldest(store, tier)?.filter(is_old) {
            return Ok(Some(Step::Remove(block)));
        }
    }
    let is_due = |last: Option<i64>, every: i64| last.is_none_or(|t| now.saturating_sub(t) >= every || t > now);
    if is_due(store.state("swept")?, SWEEP_MS) {
        return Ok(Some(Step::Sweep));
    }
    let size = read::size(store)?;
    if size.free > size.bytes / 4 && size.free > GIVE_BACK * 4096 {
        return Ok(Some(Step::GiveBack));
    }
    let checks = size.bytes <= CHECK_BYTES && is_due(store.state("checked")?, CHECK_MS);
    Ok(checks.then_some(Step::Check))
}

/// The first block of a tier that is due and not made, or not to its end. Only what lies behind the last one that was made is looked at: of years
/// of raw values there are many blocks.
fn to_roll(store: &Store, tier: Tier, sure: i64) -> Result<Option<Block>> {
    let Some(below) = tier.below() else { return Ok(None) };
    let mut last = None;
    for from in blocks::since(store, below, store.state(tier.made())?.unwrap_or(0))? {
        let start = start_of(tier, from.start);
        if start + tier.block() + GRACE_MS > sure {
            break;
        }
        if last == Some(start) {
            continue;
        }
        last = Some(start);
        match blocks::at(store, tier, start)? {
            Some(made) if made.is_complete() => {}
            Some(begun) => return Ok(Some(begun)),
            None => return Ok(Some(Block { tier, start, upto: Some(0) })),
        }
    }
    Ok(None)
}

/// Whether nothing above needs a block any more; asked when nothing is due to be rolled up.
fn is_rolled(block: &Block, sure: i64) -> bool {
    let Some(above) = block.tier.above() else { return true };
    // The first rate of the next block needs the last value of this one.
    let needed = if block.tier == Tier::Raw { block.end() } else { block.end() - 1 };
    start_of(above, needed) + above.block() + GRACE_MS <= sure
}

/// The end of the numbers of series.
fn end_of_numbers(store: &Store) -> Result<u32> {
    let end: u32 = store.sql(|db| db.query_row("SELECT ifnull(max(number) + 1, 0) FROM series", [], |r| r.get(0)))?;
    Ok(end.min(head::SERIES))
}

/// Writes down how far a block is made.
fn progress(store: &Store, block: &Block, times: Option<Vec<u8>>, upto: u32, end: u32) -> Result<()> {
    let upto = if upto >= end { None } else { Some(upto) };
    // It was the first one that was due.
    if block.tier != Tier::Raw && upto.is_none() {
        store.set_state(block.tier.made(), block.end())?;
    }
    // By a clock that was wrong, values can come where all was made already.
    if let Some(above) = block.tier.above() {
        let start = start_of(above, block.start);
        if store.state(above.made())?.is_some_and(|made| made > start) {
            store.set_state(above.made(), start)?;
        }
    }
    let sql = "INSERT INTO block (id, times, upto) VALUES (?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET upto = excluded.upto";
    store.sql(|db| db.execute(sql, params![block.key(), times, upto]).map(drop))
}

/// The newest values of 256 series in a block, by series; they are taken out.
fn take(db: &Connection, times: &[i64], part: u32) -> rusqlite::Result<BTreeMap<u32, Vec<Option<f64>>>> {
    let mut columns: BTreeMap<u32, Vec<Option<f64>>> = BTreeMap::new();
    let mut select = db.prepare("SELECT data FROM head WHERE id = ?1")?;
    let mut delete = db.prepare("DELETE FROM head WHERE id = ?1")?;
    for (slot, at) in times.iter().enumerate() {
        let id = head::id(*at, part);
        let row = {
            let mut rows = select.query([id])?;
            match rows.next()? {
                // A row that is no row: its values are missing, as those of a scrape that was not made.
                Some(row) => chunk::row_values(row.get_ref(0)?.as_blob()?).unwrap_or_default(),
                None => continue,
            }
        };
        for (series, value) in row {
            let number = part * PART as u32 + series as u32;
            columns.entry(number).or_insert_with(|| vec![None; times.len()])[slot] = Some(value);
        }
        delete.execute([id])?;
    }
    Ok(columns)
}

/// Makes the chunks of the next 256 series of a block out of the newest scrapes.
fn pack(store: &Store, block: Block, done: &mut Upkeep) -> Result<()> {
    let end = end_of_numbers(store)?;
    let mut part = block.upto.unwrap_or(0) / PART as u32;
    let times = store.sql(|db| {
        let mut s = db.prepare("SELECT at FROM scrape WHERE at >= ?1 AND at < ?2 ORDER BY at LIMIT ?3")?;
        let rows = s.query_map(params![block.start, block.end(), chunk::LIMIT as i64], |r| r.get(0))?;
        rows.collect::<rusqlite::Result<Vec<i64>>>()
    })?;
    store.sql(|db| {
        let mut columns = BTreeMap::new();
        // Parts without values cost a look each: series of long ago.
        while columns.is_empty() && part * (PART as u32) < end {
            columns = take(db, &times, part)?;
            part += 1;
        }
        let mut add = db.prepare("INSERT OR REPLACE INTO chunk (id, data) VALUES (?1, ?2)")?;
        let mut seen = db.prepare("UPDATE series SET seen = ?2 WHERE number = ?1 AND seen < ?2")?;
        for (number, values) in &columns {
            add.execute(params![block.key() | i64::from(*number), chunk::encode(values)])?;
            seen.execute(params![number, block.end()])?;
            done.packed += 1;
        }
        Ok(())
    })?;
    progress(store, &block, Some(chunk::encode_times(&times)), part * PART as u32, end)?;
    if part * PART as u32 >= end {
        store.sql(|db| db.execute("DELETE FROM scrape WHERE at >= ?1 AND at < ?2", [block.start, block.end()]).map(drop))?;
    }
    Ok(())
}

/// What 256 series have in the blocks below a block, by series.
#[derive(Default)]
struct Below {
    kinds: BTreeMap<u32, Kind>,
    /// Raw values, of counters with those of the block before: the first rate begins there.
    samples: BTreeMap<u32, Vec<(i64, f64)>>,
    buckets: BTreeMap<u32, Vec<Bucket>>,
    damaged: u32,
}

impl Below {
    fn kind(&self, number: u32) -> Kind {
        self.kinds.get(&number).copied().unwrap_or(Kind::Gauge)
    }

    fn read(db: &Connection, block: &Block, tier: Tier, first: u32, end: u32) -> rusqlite::Result<Self> {
        let mut found = Self::default();
        let mut s = db.prepare("SELECT number, metric FROM series WHERE number >= ?1 AND number < ?2")?;
        let mut rows = s.query([first, end])?;
        while let Some(row) = rows.next()? {
            found.kinds.insert(row.get(0)?, read::kind_of(row.get(1)?));
        }
        let from = if tier == Tier::Raw { block.start - tier.block() } else { block.start };
        let mut parts = db.prepare("SELECT id, times FROM block WHERE id >= ?1 AND id < ?2 ORDER BY id")?;
        let mut chunks = db.prepare("SELECT id, data FROM chunk WHERE id >= ?1 AND id < ?2")?;
        let mut part_rows = parts.query(blocks::keys(tier, from, block.end()))?;
        while let Some(part) = part_rows.next()? {
            let id: i64 = part.get(0)?;
            let start = blocks::block(id, None).start;
            let times = part.get_ref(1)?.as_blob_or_null()?.and_then(chunk::decode_times).unwrap_or_default();
            let mut rows = chunks.query([id | i64::from(first), id | i64::from(end)])?;
            while let Some(row) = rows.next()? {
                let number = (row.get::<_, i64>(0)? - id) as u32;
                let data = row.get_ref(1)?.as_blob()?;
                if start < block.start && found.kind(number) != Kind::Counter {
                    continue;
                }
                let good = match tier {
                    Tier::Raw => chunk::decode(data, times.len()).map(|values| {
                        let values = times.iter().zip(values).filter_map(|(t, v)| Some((*t, v?)));
                        found.samples.entry(number).or_default().extend(values);
                    }),
                    _ => chunk::decode_buckets(data, tier.slots(), start, tier.unit())
                        .map(|buckets| found.buckets.entry(number).or_default().extend(buckets)),
                };
                found.damaged += u32::from(good.is_none());
            }
        }
        Ok(found)
    }
}

/// Makes the chunks of the next 256 series of a block out of those of the tier below.
fn roll(store: &Store, block: Block, done: &mut Upkeep) -> Result<()> {
    let Some(tier) = block.tier.below() else { return Ok(()) };
    let (first, unit) = (block.upto.unwrap_or(0), block.tier.unit());
    let end = first + PART as u32;
    let mut below = store.sql(|db| Below::read(db, &block, tier, first, end))?;
    done.damaged += below.damaged;
    for (number, samples) in std::mem::take(&mut below.samples) {
        let points = rollup::points(below.kind(number), &samples, store.settings.retention.gap_ms);
        let inside = points.partition_point(|p| p.0 < block.start);
        below.buckets.insert(number, buckets(&points[inside..], unit));
    }
    store.sql(|db| {
        let mut add = db.prepare("INSERT OR REPLACE INTO chunk (id, data) VALUES (?1, ?2)")?;
        for (number, shorter) in below.buckets.iter().filter(|(_, b)| !b.is_empty()) {
            let mut slots = vec![None; block.tier.slots()];
            for b in merge(shorter, unit) {
                if let Some(slot) = slots.get_mut((b.start.saturating_sub(block.start) / unit) as usize) {
                    *slot = Some(b);
                }
            }
            let data = chunk::encode_buckets(&slots, below.kind(*number) == Kind::Counter);
            add.execute(params![block.key() | i64::from(*number), data])?;
            done.rolled += 1;
        }
        Ok(())
    })?;
    progress(store, &block, None, end, end_of_numbers(store)?)
}

/// Removes the next rows of a block, and the block after the last one.
fn remove(store: &Store, block: Block, done: &mut Upkeep) -> Result<()> {
    let key = block.key();
    store.sql(|db| {
        let rows = "DELETE FROM chunk WHERE id IN (SELECT id FROM chunk WHERE id >= ?1 AND id < ?2 LIMIT ?3)";
        let removed = db.execute(rows, params![key, key + (1 << 24), REMOVE as i64])?;
        done.removed += removed as u32;
        if removed < REMOVE {
            db.execute("DELETE FROM block WHERE id = ?1", [key])?;
        }
        Ok(())
    })?;
    // Where the rest of a block that is being removed is still there, nobody reads it: it is too old.
    let gone = store.state(block.tier.gone())?.unwrap_or(0);
    store.set_state(block.tier.gone(), gone.max(block.end()))
}

/// Removes series of which nothing is left.
fn sweep(store: &Store, now: i64) -> Result<()> {
    let retention = &store.settings.retention;
    let safe = store.state("safe")?.unwrap_or(0).min(now);
    let longest = [Tier::Raw, Tier::Minute, Tier::Hour].map(|t| t.keep(retention)).into_iter().max().unwrap_or_default();
    // The last block with a value has gone when it is older than the longest retention with all of its length, and one more for the tier above.
    let before = safe.saturating_sub(longest).saturating_sub(2 * Tier::Hour.block());
    // Scrapes that old, of a clock that was wrong, wait to be packed: not now.
    if oldest(store)?.is_none_or(|at| start_of(Tier::Raw, at) > before) {
        store.sql(|db| db.execute("DELETE FROM series WHERE seen < ?1", [before]).map(drop))?;
    }
    store.set_state("swept", now)
}
