// SPDX-License-Identifier: MIT OR Apache-2.0
//! The file of the store: made, opened, brought up to date, checked, set aside. It knows the version of the tables and what SQLite's errors
//! mean for an administrator; it must not know what is in the tables.

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::hooks::{CheckpointMode, Wal};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{Opened, Settings, Store};
use crate::error::{Error, Kind, Result};
use crate::host::Host;

/// "smbg", so that `file` and we know whose it is.
const APPLICATION: i64 = 0x736d_6267;
/// The statements that lead from each version of the tables to the next one. Only ever added to.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE series (
        number INTEGER PRIMARY KEY,
        metric INTEGER NOT NULL,
        object TEXT NOT NULL,
        seen INTEGER NOT NULL,
        UNIQUE (metric, object)
    ) STRICT;
    CREATE TABLE scrape (at INTEGER PRIMARY KEY) STRICT;
    CREATE TABLE head (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
    CREATE TABLE block (id INTEGER PRIMARY KEY, times BLOB, upto INTEGER) STRICT;
    CREATE TABLE chunk (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
    CREATE TABLE state (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    CREATE VIEW heads AS SELECT id >> 14 AS at, id & 16383 AS part, data FROM head;
    CREATE VIEW blocks AS SELECT id >> 58 AS tier, ((id >> 24) & 17179869183) * 60000 AS start, times, upto FROM block;
    CREATE VIEW chunks AS SELECT id >> 58 AS tier, ((id >> 24) & 17179869183) * 60000 AS start, id & 16777215 AS series, data FROM chunk;
"];
/// Files that were set aside and are kept; the oldest go.
const KEEP_ASIDE: usize = 2;
/// What lies beside the file, in the order in which it is moved away: a log that stayed behind would be played into the next file.
const BESIDE: [&str; 3] = ["-wal", "-shm", ""];

/// What happens to a file that cannot be used.
const ASIDE: &str = "it is set aside and a new one begun; nothing is to be done";
/// Bytes of a page.
const PAGE: u64 = 4096;
/// Pages of the log from which on it is written back. Each open reads the log, so it is kept short.
const LOG_PAGES: i32 = 256;

/// After a commit: writes a long log back into the file and empties it. SQLite's own way would not do here: it empties a log only with the
/// next change of the same connection, and we have a new one for each call.
fn write_back(log: &Wal, pages: i32) -> rusqlite::Result<()> {
    if pages >= LOG_PAGES {
        // Somebody reads, or there is no space: what was committed is safe in the log, and the next call tries again.
        let _ = log.checkpoint_v2(CheckpointMode::TRUNCATE);
    }
    Ok(())
}

/// What SQLite says, as an error.
pub(super) fn error(path: &Path, e: rusqlite::Error) -> Error {
    let code = e.sqlite_error_code();
    let name = path.display();
    let made = match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            Error::new(Kind::Busy, format!("{name} is locked by another process"))
                .remedy(format!("it is tried again; if it stays so, `fuser -v {name}` tells who has it open"))
        }
        Some(ErrorCode::DiskFull) => Error::new(Kind::Io, format!("no space for {name}")).remedy(
            "free space on its file system, or raise its limit; older figures stay, new ones are taken as soon as there is space",
        ),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::new(Kind::Corrupt, format!("{name} is damaged")).remedy(ASIDE)
        }
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            Error::new(Kind::Io, format!("{name} cannot be read or written")).remedy(
                "look at its file system (`dmesg`, `df`, `mount`) and at the owner and mode of the file, which is root's alone",
            )
        }
        Some(ErrorCode::OutOfMemory) => Error::new(Kind::Io, format!("no memory for {name}")),
        // Our statements fit the tables that we made, and what we read is of the type that we wrote: then these are not those.
        None | Some(ErrorCode::Unknown | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) => {
            Error::new(Kind::Corrupt, format!("{name} has other tables than were made")).remedy(ASIDE)
        }
        _ => Error::new(Kind::Internal, format!("{name}: SQLite refused what we asked")),
    };
    made.caused_by(e)
}

fn connect(path: &Path, settings: Settings, flags: OpenFlags) -> Result<Store> {
    let wrong = |e| error(path, e);
    // No mutex: a store is used by one thread, for one call. No URI: a path is a path.
    let db = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(wrong)?;
    db.busy_timeout(settings.busy).map_err(wrong)?;
    // A file of a stranger must not make us do anything: views and triggers of its schema get no functions with side effects.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).map_err(wrong)?;
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(wrong)?;
    // The end of a call is not the end of the work: without this each close would write and sync the whole log.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(wrong)?;
    Ok(Store { db, path: path.to_owned(), settings })
}

fn pragma(store: &Store, name: &str) -> Result<i64> {
    store.sql(|db| db.query_row(&format!("PRAGMA {name}"), [], |r| r.get(0)))
}

/// Whether the file is ours, and which version; an empty one is of version 0.
fn version(store: &Store) -> Result<i64> {
    let (application, version) = (pragma(store, "application_id")?, pragma(store, "user_version")?);
    let tables: i64 = store.sql(|db| db.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)))?;
    match (application, version) {
        (0, 0) if tables == 0 => Ok(0),
        (APPLICATION, v) if v > MIGRATIONS.len() as i64 => {
            Err(Error::new(Kind::Unsupported, format!("{} was made by a newer version of smbgw", store.path.display()))
                .remedy("install that version, or move the file away to begin a new one"))
        }
        (APPLICATION, v) if v > 0 && tables > 0 => Ok(v),
        _ => Err(Error::new(Kind::Corrupt, format!("{} is not a store of figures of smbgw", store.path.display()))),
    }
}

fn migrate(store: &mut Store) -> Result<()> {
    let latest = MIGRATIONS.len() as i64;
    if version(store)? == latest {
        return Ok(());
    }
    if version(store)? == 0 {
        // Both only work before the first table is made. Pages that become free are used again; a file that has become small is cut by upkeep.
        store.run(&format!("PRAGMA page_size = {PAGE}; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL"))?;
    }
    store.write(|store| {
        // Again, now that nobody else can change it.
        for from in version(store)?..latest {
            store.run(MIGRATIONS[from as usize])?;
        }
        store.run(&format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {latest}"))
    })
}

fn try_open(path: &Path, settings: Settings) -> Result<Store> {
    let mut store = connect(path, settings, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    migrate(&mut store)?;
    // With a log a commit needs no sync: a death of ours loses nothing, a power cut the last minutes, and neither leaves a damaged file.
    store.run("PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY")?;
    if let Some(limit) = settings.limit {
        store.run(&format!("PRAGMA max_page_count = {}", (limit / PAGE).max(1)))?;
    }
    store.db.wal_hook(Some(write_back));
    Ok(store)
}

pub(super) fn open(host: &dyn Host, path: &Path, settings: Settings, now: i64) -> Result<Opened> {
    if !host.exists(path)? {
        if let Some(dir) = path.parent() {
            host.make_dir(dir, 0o700)?;
        }
        // SQLite would make it readable by everybody; what lies beside it gets the mode of the file.
        host.append(path, b"")?;
    }
    match try_open(path, settings) {
        Err(e) if e.kind() == Kind::Corrupt => {
            let aside = set_aside(host, path, now)?;
            host.append(path, b"")?;
            let store = try_open(path, settings)?;
            Ok(Opened { store, set_aside: Some((aside, crate::error::chain(&e))) })
        }
        other => Ok(Opened { store: other?, set_aside: None }),
    }
}

pub(super) fn open_to_read(host: &dyn Host, path: &Path, settings: Settings) -> Result<Option<Store>> {
    if !host.exists(path)? {
        return Ok(None);
    }
    let store = connect(path, settings, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    // Empty: somebody is about to make it.
    Ok(if version(&store)? == 0 { None } else { Some(store) })
}

pub(super) fn set_aside(host: &dyn Host, path: &Path, now: i64) -> Result<PathBuf> {
    let with = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let aside = format!(".corrupt-{now}");
    for end in BESIDE {
        let from = with(end);
        if host.exists(&from)? {
            host.rename(&from, &with(&format!("{aside}{end}")))?;
        }
    }
    if let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) {
        let start = format!("{name}.corrupt-");
        let mut old: Vec<(i64, String)> = host
            .list(dir)?
            .into_iter()
            .filter_map(|n| Some((n.strip_prefix(&start)?.split('-').next()?.parse().ok()?, n)))
            .collect();
        old.sort();
        let mut times: Vec<i64> = old.iter().map(|o| o.0).collect();
        times.dedup();
        let keep = times.len().saturating_sub(KEEP_ASIDE);
        for (_, n) in old.iter().filter(|(t, _)| times[..keep].contains(t)) {
            host.remove(&dir.join(n))?;
        }
    }
    Ok(with(&aside))
}

pub(super) fn check(store: &Store) -> Result<()> {
    let found: String = store.sql(|db| db.query_row("PRAGMA quick_check(1)", [], |r| r.get(0)))?;
    if found == "ok" {
        return Ok(());
    }
    Err(Error::new(Kind::Corrupt, format!("{} is damaged: {found}", store.path.display())).remedy(ASIDE))
}
