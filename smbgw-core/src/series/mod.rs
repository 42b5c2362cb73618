// SPDX-License-Identifier: MIT OR Apache-2.0
//! The store of figures: an SQLite file on the node in which scrapes become series. It keeps each value for days, minutes for a month and
//! hours for years, and answers for any range at the resolution that fits. It is the only user of SQLite, and knows its tables
//! (docs/METRICS-STORE.md); it must not know how figures are got or drawn, and has no clock: the time is a parameter.
//!
//! A [`Store`] is made for one call of ours and dropped at its end: SQLite's handles do not survive a fork, and its locks belong to
//! the process. Nothing of SQLite is configured for the whole process, which is not ours.
//!
//! **Time.** A scrape is taken if its time is new, the ten minutes after it are empty and its hour is not packed yet; otherwise it is refused
//! ([`Kind::Conflict`]). So a clock that is put back a little costs figures until it is where it was; a clock that was wrong by more leaves
//! its figures where it put them, and what comes later goes on beside them. Nothing is removed because of a clock: upkeep works up to the
//! last moment of a run of scrapes that has lasted ten minutes without a break (an hour, before it removes).

mod blocks;
mod file;
mod head;
mod read;
mod retention;
mod upkeep;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

#[cfg(doc)]
use crate::error::Kind;
use crate::error::Result;
use crate::host::Host;
use crate::metrics::{Bucket, Key, Scrape};
pub use retention::{NAMES, Retention, words};

/// How a store is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long to wait for somebody else's lock.
    pub busy: Duration,
    /// What is kept.
    pub retention: Retention,
    /// Bytes that the file may have at most. Where that is too little for the retention, new scrapes are refused until older ones have gone.
    pub limit: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { busy: Duration::from_secs(2), retention: Retention::default(), limit: None }
    }
}

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// Each value.
    Raw,
    /// Minutes.
    Minute,
    /// Hours.
    Hour,
}

/// How fine an answer shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// At most so many buckets (two at least).
    Points(u32),
    /// Buckets of so many milliseconds; where values of that age are kept only by the minute or hour, the next multiple of that.
    Length(i64),
}

/// What a query found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Answer {
    /// The length of the buckets, in milliseconds.
    pub resolution_ms: i64,
    /// What they were made from.
    pub tier: Tier,
    /// In the order of time; a stretch without values has none.
    pub buckets: Vec<Bucket>,
    /// Chunks that could not be read and are missing in the buckets.
    pub damaged: u32,
}

/// What upkeep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Upkeep {
    /// Chunks of raw values that were made.
    pub packed: u32,
    /// Chunks of minutes and hours that were made.
    pub rolled: u32,
    /// Rows that were removed because of their age.
    pub removed: u32,
    /// Chunks that could not be read when they were due for a roll-up.
    pub damaged: u32,
    /// There is more to do.
    pub more: bool,
}

/// How large a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Size {
    /// Bytes of the file, without the log of changes beside it.
    pub bytes: u64,
    /// Bytes in it that are free and will be used next.
    pub free: u64,
    /// Series.
    pub series: u64,
}

/// A store, for one call.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    path: PathBuf,
    settings: Settings,
}

/// A store that was opened for writing.
#[derive(Debug)]
pub struct Opened {
    /// It.
    pub store: Store,
    /// Where a file that was there and could not be used was put, with the reason.
    pub set_aside: Option<(PathBuf, String)>,
}

impl Store {
    /// Opens the store for writing; makes it (0600, its directory 0700) where it is not there, and brings an older one up to date. A file that is
    /// damaged or not ours is set aside as `NAME.corrupt-TIME`, and a new one begun. Errors: `Unsupported` where a newer version made it.
    pub fn open(host: &dyn Host, path: &Path, settings: Settings, now: i64) -> Result<Opened> {
        file::open(host, path, settings, now)
    }

    /// Opens the store for reading; none if it is not there yet.
    pub fn open_to_read(host: &dyn Host, path: &Path, settings: Settings) -> Result<Option<Store>> {
        file::open_to_read(host, path, settings)
    }

    /// Sets the file aside after a call said [`Kind::Corrupt`]: the next [`Store::open`] begins a new one. Drop the store first.
    pub fn set_aside(host: &dyn Host, path: &Path, now: i64) -> Result<PathBuf> {
        file::set_aside(host, path, now)
    }

    /// Takes the samples of a scrape: all of them or, on an error, none. A value that is not finite is left out. Errors: `Conflict` where its
    /// time cannot be (see the head of this file).
    pub fn ingest(&mut self, scrape: &Scrape) -> Result<()> {
        self.write(|store| head::ingest(store, scrape))
    }

    /// Packs, rolls up and removes what is due at `now`, in steps of about ten milliseconds, at most `steps` of them. Each step is a transaction.
    pub fn keep_up(&mut self, now: i64, steps: u32) -> Result<Upkeep> {
        upkeep::keep_up(self, now, steps)
    }

    /// What became of a series in `from..to` (milliseconds since the epoch), as far as it is kept at `now`: of a gauge its values, of a counter
    /// its rates per second. Both ends are widened to whole buckets of the tier that is read.
    pub fn query(&self, key: &Key, from: i64, to: i64, detail: Detail, now: i64) -> Result<Answer> {
        read::query(self, key, from, to, detail, now)
    }

    /// The values of a series in `from..to` as they were taken, as far as they are kept at `now`.
    pub fn raw(&self, key: &Key, from: i64, to: i64, now: i64) -> Result<Vec<(i64, f64)>> {
        read::raw(self, key, from, to, now)
    }

    /// The series that the store has, sorted.
    pub fn keys(&self) -> Result<Vec<Key>> {
        read::keys(self)
    }

    /// How large it is.
    pub fn size(&self) -> Result<Size> {
        read::size(self)
    }

    /// Looks for damage in the whole file, which takes about a second for each gigabyte. Upkeep does it once a week, of up to 2 GiB. Errors: `Corrupt`.
    pub fn check(&self) -> Result<()> {
        file::check(self)
    }

    /// One transaction for writing.
    fn write<T>(&mut self, act: impl FnOnce(&Store) -> Result<T>) -> Result<T> {
        self.run("BEGIN IMMEDIATE")?;
        // An error, and a panic of ours too, leaves the transaction to be rolled back: by the statement here or by the end of the connection.
        match act(self).and_then(|done| self.run("COMMIT").map(|()| done)) {
            Ok(done) => Ok(done),
            Err(e) => {
                if !self.db.is_autocommit() {
                    // What SQLite says about this is less than what happened before.
                    let _ = self.db.execute_batch("ROLLBACK");
                }
                Err(e)
            }
        }
    }

    fn run(&self, sql: &str) -> Result<()> {
        self.sql(|db| db.execute_batch(sql))
    }

    /// Something with SQLite; what it says against it names the file and what to do.
    fn sql<T>(&self, act: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        act(&self.db).map_err(|e| file::error(&self.path, e))
    }

    /// A number of the table `state`.
    fn state(&self, name: &str) -> Result<Option<i64>> {
        self.sql(|db| {
            let mut s = db.prepare("SELECT value FROM state WHERE name = ?1")?;
            let mut rows = s.query([name])?;
            rows.next()?.map(|r| r.get(0)).transpose()
        })
    }

    fn set_state(&self, name: &str, value: i64) -> Result<()> {
        let sql = "INSERT INTO state (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.sql(|db| db.execute(sql, rusqlite::params![name, value]).map(drop))
    }
}
