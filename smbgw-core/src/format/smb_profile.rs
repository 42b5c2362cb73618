// SPDX-License-Identifier: MIT OR Apache-2.0
//! Samba's profile counters: the text of `smbstatus -P`, and the records of `smbprofile.tdb` (`source3/include/smbprofile.h`). It knows their
//! form, and how one is found in the other; it must not know what is made of the counters.
//!
//! The file has one record for each smbd, with its pid as key: a magic number that stands for the names and kinds of all counters, then the
//! counters, eight bytes each. In which order, only the Samba that wrote it knows; its own text has the same order, and that is proven before it
//! is believed ([`Layout::learn`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{FormatError, tdb};

/// Names and values of `smbstatus -P`, in its order.
pub fn parse_text(text: &str) -> Vec<(String, u64)> {
    let line = |l: &str| {
        let (name, value) = l.split_once(':')?;
        let name = name.trim();
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        Some((name.to_owned(), value.trim().parse().ok().filter(|_| plain)?))
    };
    text.lines().filter_map(line).collect()
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
}

/// The records of a file. Without `wanted` there is one row, 0: the sums of all counters.
pub fn parse_file(file: &[u8], wanted: &[usize]) -> Result<Counters, FormatError> {
    let mut found = Counters::default();
    for (key, data) in tdb::records(file)? {
        let Ok(pid) = <[u8; 4]>::try_from(key).map(u32::from_le_bytes) else { continue };
        let words: Vec<u64> = data.chunks_exact(8).filter_map(|w| w.try_into().ok().map(u64::from_le_bytes)).collect();
        let Some((magic, counters)) = words.split_first() else { continue };
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
            let row = wanted.iter().map(|w| counters.get(*w).copied().unwrap_or_default()).collect();
            found.rows.insert(pid, row);
        }
    }
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
    /// must be as many. `None` if the text is of another order, or nothing was counted yet that could show it.
    pub fn learn(before: &Counters, text: &[(String, u64)], after: &Counters) -> Option<Self> {
        let (a, b) = (before.rows.get(&0)?, after.rows.get(&0)?);
        let same = before.magic == after.magic && a.len() == text.len() && b.len() == text.len();
        let fits = same && text.iter().zip(a.iter().zip(b)).all(|((_, t), (a, b))| a <= t && t <= b);
        // With next to nothing counted everything fits.
        let telling = text.iter().filter(|(_, v)| *v > 0).count() >= 5;
        (fits && telling).then(|| Self {
            magic: before.magic,
            words: before.words,
            at: text.iter().enumerate().map(|(i, (name, _))| (name.clone(), i)).collect(),
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
    fn another_order_is_not_believed() {
        let sums = parse_file(FILE, &[]).expect("real");
        let mut text = parse_text(TEXT);
        text.swap(0, 5);
        assert_eq!(Layout::learn(&sums, &text, &sums), None);
        text.pop();
        assert_eq!(Layout::learn(&sums, &text, &sums), None);
        let nothing = Counters { magic: 1, words: 2, rows: [(0, vec![0, 0])].into() };
        assert_eq!(Layout::learn(&nothing, &[("a".into(), 0), ("b".into(), 0)], &nothing), None);
        assert_eq!(parse_text("**** X ***\na: 1\nb c: 2\nd:\n: 3\n"), [("a".to_owned(), 1)]);
    }
}
