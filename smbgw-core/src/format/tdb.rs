// SPDX-License-Identifier: MIT OR Apache-2.0
//! The records of a TDB file (`lib/tdb/common/tdb_private.h` of Samba), for reading one that others write to at the same time: without a lock, by
//! going over the file from its first record to its end, each record being followed by the next. It knows where records are; it must not know
//! what is in them.
//!
//! What is read may be half of an old and half of a new state. Who reads numbers of eight bytes that only grow can live with that; an error
//! means: try once more.

use super::FormatError;

const FORMAT: &str = "TDB file";
/// `TDB_VERSION`
const VERSION: u32 = 0x2601_1967 + 6;
/// `TDB_FEATURE_FLAG_MAGIC`, in the place where the number of read-write locks was.
const FEATURES: u32 = 0x0bad_1a52;
/// `TDB_FEATURE_FLAG_MUTEX`: locks are in the file, before everything but the header.
const MUTEX: u32 = 1;
/// `sizeof(struct tdb_header)`
const HEADER: usize = 168;
/// `sizeof(struct tdb_record)`
const RECORD: usize = 24;
/// `TDB_MAGIC`, `TDB_FREE_MAGIC`, `TDB_DEAD_MAGIC`, `TDB_RECOVERY_MAGIC`, `TDB_RECOVERY_INVALID_MAGIC`
const USED: u32 = 0x2601_1999;
const UNUSED: [u32; 4] = [!USED, 0xFEE1_DEAD, 0xf53b_c0e7, 0];

fn bad(why: impl Into<String>) -> FormatError {
    FormatError::Unreadable { format: FORMAT, line: 0, why: why.into() }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Keys and values.
pub type Records<'a> = Vec<(&'a [u8], &'a [u8])>;

/// Keys and values of all records, in the order of the file. Only for files of machines that are little-endian, as all are that Proxmox runs on.
pub fn records(file: &[u8]) -> Result<Records<'_>, FormatError> {
    if !file.starts_with(b"TDB file\n") || file.len() < HEADER {
        return Err(bad("it does not begin as one"));
    }
    if word(file, 32) != Some(VERSION) {
        return Err(bad("it is of another version, or of another byte order"));
    }
    let size = |at: usize| word(file, at).and_then(|w| usize::try_from(w).ok()).unwrap_or(usize::MAX);
    let buckets = size(36);
    let locks = if word(file, 40) == Some(FEATURES) && word(file, 60).is_some_and(|f| f & MUTEX != 0) { size(64) } else { 0 };
    let first = buckets.checked_add(1).and_then(|b| b.checked_mul(4)).and_then(|b| b.checked_add(HEADER)?.checked_add(locks));
    let mut at = first.filter(|f| *f <= file.len()).ok_or_else(|| bad("its table is larger than the file"))?;
    let mut found = Vec::new();
    while at + RECORD <= file.len() {
        let (length, key, data) = (size(at + 4), size(at + 8), size(at + 12));
        let magic = word(file, at + 20).unwrap_or_default();
        let begin = at + RECORD;
        let end = begin.checked_add(length).filter(|e| *e <= file.len());
        if magic == USED {
            let both = key.checked_add(data).filter(|b| *b <= length && end.is_some());
            let Some(both) = both else { return Err(bad(format!("the record at {at} is longer than its place"))) };
            found.push((&file[begin..begin + key], &file[begin + key..begin + both]));
        } else if !UNUSED.contains(&magic) {
            return Err(bad(format!("there is no record at {at}")));
        } else if magic == 0 && length == 0 {
            break;
        }
        // The last one may be growing.
        let Some(end) = end else { break };
        at = end;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file with these records, one unused place between each two.
    pub fn file(list: &[(&[u8], &[u8])], mutex: bool) -> Vec<u8> {
        let mut f = b"TDB file\n".to_vec();
        f.resize(HEADER, 0);
        let mut put = |at: usize, v: u32| f[at..at + 4].copy_from_slice(&v.to_le_bytes());
        put(32, VERSION);
        put(36, 3);
        if mutex {
            put(40, FEATURES);
            put(60, MUTEX);
            put(64, 64);
        }
        f.resize(HEADER + 16 + if mutex { 64 } else { 0 }, 0);
        for (k, v) in list {
            for (magic, key, data, spare) in [(USED, *k, *v, 8_usize), (!USED, &b""[..], &b""[..], 16)] {
                let n = |x: usize| u32::try_from(x).expect("small").to_le_bytes();
                f.extend(
                    [[0; 4], n(key.len() + data.len() + spare), n(key.len()), n(data.len()), [0; 4], magic.to_le_bytes()]
                        .concat(),
                );
                f.extend(key.iter().chain(data));
                f.resize(f.len() + spare, 7);
            }
        }
        f
    }

    #[test]
    fn records_are_found_in_both_forms() {
        let list: &[(&[u8], &[u8])] = &[(b"a", b"12345678"), (b"bc", b"")];
        for mutex in [false, true] {
            assert_eq!(records(&file(list, mutex)).expect("good"), list);
        }
        assert_eq!(records(&file(&[], true)).expect("good"), []);
    }

    #[test]
    fn what_is_none_is_refused() {
        assert!(records(b"").is_err() && records(b"TDB file\n").is_err());
        let good = file(&[(b"a", b"b")], false);
        let with = |at: usize, v: u8| {
            let mut f = good.clone();
            f[at] = v;
            records(&f).map(|r| r.len()).map_err(|e| e.to_string())
        };
        assert!(with(32, 1).is_err_and(|e| e.contains("version")));
        assert!(with(39, 0xff).is_err_and(|e| e.contains("table")));
        let first = HEADER + 16;
        assert!(with(first + 12, 200).is_err_and(|e| e.contains("longer")));
        assert!(with(first + 20, 1).is_err_and(|e| e.contains("no record")));
    }

    proptest! {
        #[test]
        fn nothing_panics(tail in proptest::collection::vec(any::<u8>(), 0..400), at in 0usize..260, v in any::<u8>(), mutex in any::<bool>()) {
            let mut f = file(&[(b"abcd", b"0123456789"), (b"x", b"y")], mutex);
            if let Some(b) = f.get_mut(at) { *b = v }
            let _ = records(&f);
            f.extend(&tail);
            let _ = records(&f);
            let _ = records(&tail);
        }
    }
}
