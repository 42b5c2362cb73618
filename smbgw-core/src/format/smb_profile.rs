// SPDX-License-Identifier: MIT OR Apache-2.0
//! Samba's profile counters: the text of `smbstatus -P`, and the records of `smbprofile.tdb` (`source3/include/smbprofile.h`). It knows their
//! form, and how one is found in the other; it must not know what is made of the counters.
//!
//! The file has one record for each smbd, with its pid as key: a magic number that stands for the names and kinds of all counters, from 4.23 on
//! a word that says what kind of record it is, then the counters, eight bytes each. In which order, only the Samba that wrote it knows; its own
//! text has the same order, and that is proven before it is believed ([`Layout::learn`]).
//!
//! From 4.23 on there is one more record for each share that a smbd serves and that has `smbd profiling share`, of the same form but without the
//! magic number. Its key is text: `SHARE:PID.NUMBER[CLIENT]`. It goes when the client leaves the share, and counts from its coming.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FormatError, tdb};

/// Names and values of `smbstatus -P`, in its order. From 4.23 on some lines have several values, joined by commas (a histogram of times):
/// those are named by their place, `smb2_read_buckets.0`.
pub fn parse_text(text: &str) -> Vec<(String, u64)> {
    let line = |l: &str| -> Option<Vec<(String, u64)>> {
        let (name, value) = l.split_once(':')?;
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return None;
        }
        let values: Vec<u64> = value.split(',').map(|v| v.trim().parse().ok()).collect::<Option<_>>()?;
        Some(match values[..] {
            [only] => vec![(name.to_owned(), only)],
            _ => values.into_iter().enumerate().map(|(i, v)| (format!("{name}.{i}"), v)).collect(),
        })
    };
    text.lines().filter_map(line).flatten().collect()
}

/// Records of some smbd processes, by pid: the words asked for, in the order asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// What stands for the form of the records.
    pub magic: u64,
    /// How many counters a record has.
    pub words: usize,
    /// By pid.
    pub rows: BTreeMap<u32, Vec<u64>>,
    /// What those processes counted by share, where the Samba does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<OfShare>,
}

/// What one process counted for one share, since its client came to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfShare {
    /// The record's key, which no other client's has.
    pub key: String,
    /// The share's name.
    pub service: String,
    /// The process.
    pub pid: u32,
    /// The words asked for, in the order asked for.
    pub words: Vec<u64>,
}

/// Share and pid of a key `SHARE:PID.NUMBER[CLIENT]`. The name may have anything in it.
fn key_of_share(key: &str) -> Option<(&str, u32)> {
    let (rest, _client) = key.strip_suffix(']')?.rsplit_once('[')?;
    let (service, numbers) = rest.rsplit_once(':')?;
    let (pid, number) = numbers.split_once('.')?;
    number.parse::<u32>().ok()?;
    Some((service, pid.parse().ok()?))
}

/// The records of a file. Without `wanted` there is one row, 0: the sums of all counters of processes.
pub fn parse_file(file: &[u8], wanted: &[usize]) -> Result<Counters, FormatError> {
    let mut found = Counters::default();
    let pick = |counters: &[u64]| wanted.iter().map(|w| counters.get(*w).copied().unwrap_or_default()).collect();
    for (key, data) in tdb::records(file)? {
        let pid = <[u8; 4]>::try_from(key).map(u32::from_le_bytes).ok();
        let words: Vec<u64> = data.chunks_exact(8).filter_map(|w| w.try_into().ok().map(u64::from_le_bytes)).collect();
        let Some((magic, counters)) = words.split_first() else { continue };
        let Some(pid) = pid else {
            let key = std::str::from_utf8(key).ok();
            if let (false, Some((key, (service, pid)))) = (wanted.is_empty(), key.and_then(|k| Some((k, key_of_share(k)?)))) {
                let (key, service) = (key.to_owned(), service.to_owned());
                found.shares.push(OfShare { key, service, pid, words: pick(counters) });
            }
            continue;
        };
        if found.words == 0 {
            (found.magic, found.words) = (*magic, counters.len());
        }
        if (found.magic, found.words) != (*magic, counters.len()) {
            return Err(FormatError::Unreadable {
                format: "smbprofile.tdb",
                line: 0,
                why: "its records have different forms".into(),
            });
        }
        if wanted.is_empty() {
            let sums = found.rows.entry(0).or_insert_with(|| vec![0; counters.len()]);
            sums.iter_mut().zip(counters).for_each(|(s, c)| *s = s.wrapping_add(*c));
        } else {
            found.rows.insert(pid, pick(counters));
        }
    }
    // One that a dead process left behind tells of nobody.
    let rows = &found.rows;
    found.shares.retain(|s| rows.contains_key(&s.pid));
    Ok(found)
}

/// Which counter is where, in the records of one Samba.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Of the records that it is for.
    pub magic: u64,
    /// Counters of a record.
    pub words: usize,
    /// Places of counters, by name.
    pub at: BTreeMap<String, usize>,
}

impl Layout {
    /// From the sums in the file before and after Samba told its own: each of its figures must lie between those in the same place, and there
    /// must be as many, the kind of the record apart. `None` if the text is of another order, or nothing was counted yet that could show it.
    pub fn learn(before: &Counters, text: &[(String, u64)], after: &Counters) -> Option<Self> {
        let (a, b) = (before.rows.get(&0)?, after.rows.get(&0)?);
        let kind = a.len().checked_sub(text.len()).filter(|k| *k <= 1)?;
        let same = before.magic == after.magic && a.len() == b.len();
        let between = a.iter().zip(b).skip(kind);
        // `num_sessions` and the like are no counters: they go down, too.
        let fits = same && text.iter().zip(between).all(|((n, t), (a, b))| n.starts_with("num_") || (a <= t && t <= b));
        // With next to nothing counted everything fits.
        let telling = text.iter().filter(|(_, v)| *v > 0).count() >= 5;
        (fits && telling).then(|| Self {
            magic: before.magic,
            words: before.words,
            at: text.iter().enumerate().map(|(i, (name, _))| (name.clone(), kind + i)).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../../../tests/fixtures/samba-4.17/smbstatus_-P.txt");
    const FILE: &[u8] = include_bytes!("../../../tests/fixtures/samba-4.17/smbprofile.tdb");

    #[test]
    fn the_real_text_and_the_real_file_agree() {
        let text = parse_text(TEXT);
        assert_eq!(text.len(), 443);
        assert_eq!((text[0].0.as_str(), text[0].1), ("connect_count", 4));
        let sums = parse_file(FILE, &[]).expect("real");
        let layout = Layout::learn(&sums, &text, &sums).expect("they were made together");
        assert_eq!((layout.words, layout.at.len()), (443, 443));
        let wanted = ["smb2_write_count", "syscall_asys_pwrite_bytes"].map(|n| layout.at[n]);
        let rows = parse_file(FILE, &wanted).expect("real").rows;
        assert_eq!(rows.values().filter(|r| r[..] == [8, 64 << 20]).count(), 2, "two clients wrote 64 MiB each");
        assert_eq!(rows.len(), 3);
    }

    #[test]
    fn from_4_23_on_there_are_records_of_shares() {
        let text = parse_text(include_str!("../../../tests/fixtures/samba-4.24/smbstatus_-P.txt"));
        let file: &[u8] = include_bytes!("../../../tests/fixtures/samba-4.24/smbprofile.tdb");
        let sums = parse_file(file, &[]).expect("real");
        assert_eq!(sums.words, text.len() + 1, "the kind of a record is one word more");
        let layout = Layout::learn(&sums, &text, &sums).expect("they were made together");
        let wanted = ["smb2_write_count", "smb2_create_failed_count", "smb2_write_buckets.9"].map(|n| layout.at[n]);
        let seen = parse_file(file, &wanted).expect("real");
        let of = |share: &str| {
            let all: Vec<&OfShare> = seen.shares.iter().filter(|s| s.service == share).collect();
            assert_eq!(all.len(), 1, "{share}");
            all[0]
        };
        // Each client is on one share, so the process counted as much; the one before them, which asked for a file that is not there, has gone.
        for share in ["a", "b"] {
            assert_eq!((&of(share).words, of(share).words[0]), (&seen.rows[&of(share).pid], 1), "{share}: 8 MiB are one WRITE");
        }
        let failed: u64 = seen.rows.values().map(|r| r[1]).sum();
        assert_eq!(failed, 1, "a file that is not there");
    }

    #[test]
    fn keys_of_shares() {
        assert_eq!(key_of_share("b:26.1[127.0.0.1]"), Some(("b", 26)));
        assert_eq!(key_of_share("a:1.2[x]: 3[]:41.7[fd00::1]"), Some(("a:1.2[x]: 3[]", 41)));
        for bad in ["", "b", "b:26[x]", "b:26.1", "b:.1[x]", "26.1[x]", "b:-2.1[x]"] {
            assert_eq!(key_of_share(bad), None, "{bad}");
        }
    }

    #[test]
    fn another_order_is_not_believed() {
        let sums = parse_file(FILE, &[]).expect("real");
        let mut text = parse_text(TEXT);
        text.swap(0, 5);
        assert_eq!(Layout::learn(&sums, &text, &sums), None);
        text.pop();
        assert_eq!(Layout::learn(&sums, &text, &sums), None);
        let nothing = Counters { magic: 1, words: 2, rows: [(0, vec![0, 0])].into(), shares: Vec::new() };
        assert_eq!(Layout::learn(&nothing, &[("a".into(), 0), ("b".into(), 0)], &nothing), None);
        assert_eq!(parse_text("**** X ***\na: 1\nb c: 2\nd:\n: 3\n"), [("a".to_owned(), 1)]);
    }
}
