// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tiers, their blocks of time, and the keys of blocks and chunks: all chunks of a block lie side by side, so that making and removing a block
//! touches few pages. It must not know what is in a chunk.

use super::head::SERIES;
use super::{Retention, Store, Tier};
use crate::error::Result;
use crate::metrics::rollup::{HOUR_MS, MINUTE_MS, floor};

/// A block of a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub tier: Tier,
    pub start: i64,
    /// Series with smaller numbers are in it; none: all of them.
    pub upto: Option<u32>,
}

impl Tier {
    /// The length of what a slot of a chunk stands for.
    pub(super) fn unit(self) -> i64 {
        match self {
            Tier::Raw => 1,
            Tier::Minute => MINUTE_MS,
            Tier::Hour => HOUR_MS,
        }
    }

    /// The length of a block.
    pub(super) fn block(self) -> i64 {
        match self {
            Tier::Raw => HOUR_MS,
            Tier::Minute => 6 * HOUR_MS,
            Tier::Hour => 168 * HOUR_MS,
        }
    }

    /// Slots of a chunk; of raw values the block's times say it.
    pub(super) fn slots(self) -> usize {
        (self.block() / self.unit()) as usize
    }

    /// How long it is kept.
    pub(super) fn keep(self, r: &Retention) -> i64 {
        match self {
            Tier::Raw => r.raw_ms,
            Tier::Minute => r.minute_ms,
            Tier::Hour => r.hour_ms,
        }
    }

    /// The name of the state that says up to where its blocks were removed.
    pub(super) fn gone(self) -> &'static str {
        match self {
            Tier::Raw => "gone-raw",
            Tier::Minute => "gone-minute",
            Tier::Hour => "gone-hour",
        }
    }

    /// The name of the state that says up to where it was made from the tier below; all blocks below that end before are in it.
    pub(super) fn made(self) -> &'static str {
        match self {
            Tier::Raw => "made-raw",
            Tier::Minute => "made-minute",
            Tier::Hour => "made-hour",
        }
    }

    /// What it is made from.
    pub(super) fn below(self) -> Option<Tier> {
        match self {
            Tier::Raw => None,
            Tier::Minute => Some(Tier::Raw),
            Tier::Hour => Some(Tier::Minute),
        }
    }

    /// What is made from it.
    pub(super) fn above(self) -> Option<Tier> {
        match self {
            Tier::Raw => Some(Tier::Minute),
            Tier::Minute => Some(Tier::Hour),
            Tier::Hour => None,
        }
    }
}

/// The key of a block: its chunks have the keys from it on, by the number of the series.
pub(super) fn key(tier: Tier, start: i64) -> i64 {
    (tier as i64) << 58 | (start / MINUTE_MS) << 24
}

/// Keys of the blocks of a tier that begin in `from..to`, as a range.
pub(super) fn keys(tier: Tier, from: i64, to: i64) -> [i64; 2] {
    // No block begins between two minutes, and none before the epoch.
    let minute = |at: i64| (at.max(0) + MINUTE_MS - 1) / MINUTE_MS * MINUTE_MS;
    [key(tier, minute(from)), key(tier, minute(to.min(super::head::LATEST)))]
}

/// The block of a tier that a time is in.
pub(super) fn start_of(tier: Tier, at: i64) -> i64 {
    floor(at, tier.block())
}

/// Reads a key back.
pub(super) fn block(id: i64, upto: Option<u32>) -> Block {
    let tier = match id >> 58 {
        0 => Tier::Raw,
        1 => Tier::Minute,
        _ => Tier::Hour,
    };
    Block { tier, start: (id >> 24 & 0x3_ffff_ffff) * MINUTE_MS, upto: upto.map(|u| u.min(SERIES)) }
}

impl Block {
    pub(super) fn end(&self) -> i64 {
        self.start + self.tier.block()
    }

    pub(super) fn key(&self) -> i64 {
        key(self.tier, self.start)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.upto.is_none()
    }
}

/// The blocks of a tier that begin at a time or later, in order: whoever asks does so for few.
pub(super) fn since(store: &Store, tier: Tier, from: i64) -> Result<Vec<Block>> {
    select(store, [keys(tier, from, from)[0], end_of_keys(tier)], -1)
}

/// The first block of a tier.
pub(super) fn oldest(store: &Store, tier: Tier) -> Result<Option<Block>> {
    Ok(select(store, [key(tier, 0), end_of_keys(tier)], 1)?.into_iter().next())
}

/// The block of a tier that begins at a time.
pub(super) fn at(store: &Store, tier: Tier, start: i64) -> Result<Option<Block>> {
    let key = key(tier, start);
    Ok(select(store, [key, key + 1], 1)?.into_iter().next())
}

fn select(store: &Store, [from, to]: [i64; 2], most: i64) -> Result<Vec<Block>> {
    store.sql(|db| {
        let mut s = db.prepare("SELECT id, upto FROM block WHERE id >= ?1 AND id < ?2 ORDER BY id LIMIT ?3")?;
        let rows = s.query_map([from, to, most], |r| Ok(block(r.get(0)?, r.get(1)?)))?;
        rows.collect()
    })
}

/// The first key that is behind those of a tier.
fn end_of_keys(tier: Tier) -> i64 {
    (tier as i64 + 1) << 58
}

/// Whether a block of any tier has been made, in part at least, of the stretch that a time is in.
pub(super) fn is_closed(store: &Store, at: i64) -> Result<bool> {
    let key_of = |tier| key(tier, start_of(tier, at));
    let keys = [key_of(Tier::Raw), key_of(Tier::Minute), key_of(Tier::Hour)];
    store.sql(|db| db.query_row("SELECT count(*) > 0 FROM block WHERE id IN (?1, ?2, ?3)", keys, |r| r.get(0)))
}
