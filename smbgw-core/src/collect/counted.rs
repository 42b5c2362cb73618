// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Samba's profile counters say, of the gateway and of its shares. It knows which counters are worth something and how a reset looks;
//! it must not know where their file comes from.
//!
//! Samba counts per process, and a process serves one connection of one client. From 4.23 on each process counts by share, too, and that is
//! taken where it is there. Up to 4.22 what a process did is a share's where the process has tree connects to that share alone; of the others
//! nobody can tell, and they are in the gateway's figures only. When a process ends, Samba adds its record to that of the first smbd, and when a
//! client leaves a share, that record is gone: what was done since the last look is in the gateway's figures only, too.
//! Where the Samba serves one share and nothing else, all of it is that share's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Look, Memory, as_f64, seconds};
use crate::error::{Error, Kind, Result};
use crate::format::smb_profile::{Counters, Layout, parse_text};
use crate::metrics::Scope;

/// `cache directory` of Debian's Samba.
const FILE: &str = "/var/cache/samba/smbprofile.tdb";
/// A Samba whose counters could not be understood is asked again after so long.
const LEARN_EVERY_MS: i64 = 300_000;
/// More processes than any Samba has: the answer of a container is not believed.
const MOST_ROWS: usize = 50_000;

/// The counters that make up each figure, in the order of [`Figures`].
const FIGURES: [&[&str]; 10] = [
    &["syscall_pread_bytes", "syscall_asys_pread_bytes", "syscall_sendfile_bytes"],
    &["syscall_pwrite_bytes", "syscall_asys_pwrite_bytes", "syscall_recvfile_bytes"],
    &["smb2_read_count"],
    &["smb2_write_count"],
    // Not request_count: that is of the connection, and no share has it.
    &[
        "smb2_negprot_count",
        "smb2_sesssetup_count",
        "smb2_logoff_count",
        "smb2_tcon_count",
        "smb2_tdis_count",
        "smb2_create_count",
        "smb2_close_count",
        "smb2_flush_count",
        "smb2_read_count",
        "smb2_write_count",
        "smb2_lock_count",
        "smb2_ioctl_count",
        "smb2_cancel_count",
        "smb2_keepalive_count",
        "smb2_find_count",
        "smb2_notify_count",
        "smb2_getinfo_count",
        "smb2_setinfo_count",
        "smb2_break_count",
    ],
    &["smb2_read_time"],
    &["smb2_write_time"],
    &["connect_count"],
    &["cpu_user_time", "cpu_system_time"],
    // From 4.23 on. What a client tries in vain (opens what is not there) is everyday life; that it cannot read, write or flush is none.
    &["smb2_read_failed_count", "smb2_write_failed_count", "smb2_flush_failed_count"],
];
/// The place of the one that not all Sambas have; the last.
const FAILED: usize = FIGURES.len() - 1;

/// Bytes read and written, READs, WRITEs, requests, microseconds of READs and WRITEs, connections, microseconds of processor, and READs, WRITEs
/// and FLUSHes that failed.
type Figures = [u64; FIGURES.len()];

/// What is remembered of the counters.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counted {
    layout: Option<Layout>,
    tried: Option<i64>,
    /// The highest sums over all records so far.
    sums: Option<Figures>,
    /// Records when they were last seen, with whose they were.
    rows: BTreeMap<u32, (Figures, Whose)>,
    /// Records of shares when they were last seen, by key.
    of_shares: BTreeMap<String, Figures>,
    /// Counted since the first look.
    gateway: Figures,
    shares: BTreeMap<String, Figures>,
}

/// To which share a process belonged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Whose {
    /// It had no tree connect.
    Nobodys,
    /// One share of the gateway.
    Share(String),
    /// Several, or a foreign one.
    Mixed,
}

fn whose(tcons: Option<&BTreeSet<Option<String>>>) -> Whose {
    match tcons.map(|t| (t.len(), t.first())) {
        None | Some((0, _)) => Whose::Nobodys,
        Some((1, Some(Some(id)))) => Whose::Share(id.clone()),
        Some(_) => Whose::Mixed,
    }
}

/// What a process counted between two looks; one whose counters became smaller is another one, or was told to begin anew.
fn growth(before: &Figures, now: &Figures) -> Figures {
    if is_anew(before, now) {
        return *now;
    }
    std::array::from_fn(|i| now[i] - before[i])
}

fn is_anew(before: &Figures, now: &Figures) -> bool {
    before.iter().zip(now).any(|(b, n)| n < b)
}

fn add(to: &mut Figures, what: &Figures) {
    to.iter_mut().zip(what).for_each(|(t, w)| *t = t.saturating_add(*w));
}

/// The look.
pub(super) fn look(l: &mut Look<'_>, memory: &mut Memory) -> Result<()> {
    let counted = &mut memory.counted;
    let seen = read(l, counted)?;
    let layout = counted.layout.as_ref().map(|l| (l.magic, l.words));
    if seen.rows.is_empty() || layout != Some((seen.magic, seen.words)) {
        return Err(off());
    }
    if seen.rows.len() > MOST_ROWS {
        return Err(Error::new(Kind::Unsupported, format!("there are counters of {} processes", seen.rows.len())));
    }
    let rows = seen.rows.iter().map(|(pid, words)| (*pid, combine(words))).collect();
    let own = seen.shares.iter().map(|s| Own { key: &s.key, pid: s.pid, share: l.share(&s.service), figures: combine(&s.words) });
    let own: Vec<Own<'_>> = own.collect();
    let shares: Vec<&str> = l.target.shares.values().map(|(id, _)| id.as_str()).collect();
    let (grown, parts) = counted.count(rows, &own, &memory.tcons, &shares, l.target.alone);
    let gateway = l.target.paths.gateway.to_string();
    let fails = counted.layout.as_ref().is_some_and(|l| FIGURES[FAILED].iter().all(|n| l.at.contains_key(*n)));
    put(l, Scope::Gateway, &gateway, &counted.gateway, &grown, fails);
    l.gateway("connections", as_f64(counted.gateway[7]));
    l.gateway("smbd_cpu", seconds(counted.gateway[8]));
    for (id, part) in parts {
        put(l, Scope::Share, &id, &counted.shares[&id], &part, fails);
    }
    Ok(())
}

/// What a process counted of one share.
struct Own<'a> {
    key: &'a str,
    pid: u32,
    /// Ours; of a foreign one: none.
    share: Option<&'a str>,
    figures: Figures,
}

impl Counted {
    /// Takes in the records of all processes; what was counted since the last look, in all and by share.
    fn count(
        &mut self,
        rows: BTreeMap<u32, Figures>,
        own: &[Own<'_>],
        tcons: &BTreeMap<u32, BTreeSet<Option<String>>>,
        shares: &[&str],
        alone: bool,
    ) -> (Figures, BTreeMap<String, Figures>) {
        let mut sums = Figures::default();
        rows.values().for_each(|r| add(&mut sums, r));
        let both = || self.rows.iter().filter_map(|(pid, (before, _))| Some((before, rows.get(pid)?)));
        // The first smbd lives as long as Samba does, and its record only grows; a single pid that was given away again proves nothing.
        let anew = both().all(|(before, now)| is_anew(before, now) || *before == Figures::default());
        let grown = match &self.sums {
            None => Figures::default(),
            Some(_) if anew => sums,
            Some(most) => std::array::from_fn(|i| sums[i].saturating_sub(most[i])),
        };
        // The record of a process that ends is taken out before it is added to the first one's: a sum that is smaller for a moment is none.
        let most = match &self.sums {
            Some(most) if !anew => std::array::from_fn(|i| sums[i].max(most[i])),
            _ => sums,
        };
        add(&mut self.gateway, &grown);

        let mut parts: BTreeMap<String, Figures> = shares.iter().map(|id| ((*id).to_owned(), Figures::default())).collect();
        // A share that a process counts itself is not guessed at.
        let counts: BTreeSet<(u32, &str)> = own.iter().filter_map(|o| Some((o.pid, o.share?))).collect();
        for o in own {
            let grown = match self.of_shares.get(o.key) {
                Some(before) => growth(before, &o.figures),
                None if self.sums.is_none() => Figures::default(),
                None => o.figures,
            };
            if let Some(p) = o.share.and_then(|id| parts.get_mut(id)) {
                add(p, &grown);
            }
        }
        self.of_shares = own.iter().map(|o| (o.key.to_owned(), o.figures)).collect();
        let mut now = BTreeMap::new();
        for (pid, row) in rows {
            let is = whose(tcons.get(&pid));
            let before = self.rows.get(&pid);
            let grown = match before {
                Some((b, _)) => growth(b, &row),
                // At the first look nobody knows since when.
                None if self.sums.is_none() => Figures::default(),
                None => row,
            };
            let was = before.map(|(_, w)| w);
            match &is {
                Whose::Share(id) if counts.contains(&(pid, id)) => {}
                Whose::Share(id) if was.is_none_or(|w| *w == is || *w == Whose::Nobodys) => {
                    if let Some(p) = parts.get_mut(id) {
                        add(p, &grown);
                    }
                }
                _ => {}
            }
            now.insert(pid, (row, is));
        }
        if let (true, [only]) = (alone, shares) {
            parts.insert((*only).to_owned(), grown);
        }
        (self.rows, self.sums) = (now, Some(most));
        self.shares.retain(|id, _| parts.contains_key(id));
        for (id, part) in &parts {
            add(self.shares.entry(id.clone()).or_default(), part);
        }
        (grown, parts)
    }
}

/// The figures that shares and gateways have.
fn put(l: &mut Look<'_>, scope: Scope, object: &str, all: &Figures, grown: &Figures, fails: bool) {
    for (i, name) in ["read_bytes", "written_bytes", "read_operations", "write_operations", "operations"].iter().enumerate() {
        l.put(scope, name, object, as_f64(all[i]));
    }
    if fails {
        l.put(scope, "failed_operations", object, as_f64(all[FAILED]));
    }
    for (name, count, time) in [("read_latency", 2, 5), ("write_latency", 3, 6)] {
        if grown[count] > 0 {
            // To the nanosecond, which is more than it means, and small in the store.
            let nanos = (seconds(grown[time]) / as_f64(grown[count]) * 1e9).round();
            l.put(scope, name, object, nanos / 1e9);
        }
    }
}

/// The words of a record as figures. A Samba that does not count the last one has no words for it.
fn combine(words: &[u64]) -> Figures {
    let mut words = words.iter();
    FIGURES.map(|parts| parts.iter().filter_map(|_| words.next()).fold(0_u64, |a, b| a.saturating_add(*b)))
}

fn off() -> Error {
    Error::new(Kind::Service, "smbd counts nothing").remedy(
        "it does with \"smbd profiling level = on\" in [global] of smb.conf, from its next start; now: smbcontrol all profile on",
    )
}

/// The records, after having learnt once what is where in them.
fn read(l: &Look<'_>, counted: &mut Counted) -> Result<Counters> {
    let file = Path::new(FILE);
    let absent = || Error::new(Kind::NotFound, format!("{FILE} is not there: this Samba counts nothing"));
    // A record may have moved while it was read.
    let read = |wanted: &[usize]| l.host.counters(file, wanted).or_else(|_| l.host.counters(file, wanted))?.ok_or_else(absent);
    if let Some(layout) = &counted.layout {
        if let Some(wanted) = places(layout) {
            let seen = read(&wanted)?;
            if seen.rows.is_empty() || (seen.magic, seen.words) == (layout.magic, layout.words) {
                return Ok(seen);
            }
        }
        // Another Samba.
        (counted.layout, counted.sums) = (None, None);
        counted.rows.clear();
        counted.of_shares.clear();
        counted.tried = None;
    }
    let unknown = || {
        Error::new(Kind::Unsupported, "the counters of this Samba are not as smbstatus -P prints them")
            .remedy("report the version of Samba")
    };
    if counted.tried.is_some_and(|t| l.now - t < LEARN_EVERY_MS && l.now >= t) {
        return Err(unknown());
    }
    let before = read(&[])?;
    if before.rows.get(&0).is_none_or(|sums| sums.iter().filter(|s| **s > 0).count() < 5) {
        return Err(off());
    }
    let text = parse_text(&l.smbstatus(&["-P"])?);
    let after = read(&[])?;
    counted.layout = Layout::learn(&before, &text, &after);
    // What is remembered is what is used.
    if let Some(l) = &mut counted.layout {
        l.at.retain(|name, _| FIGURES.iter().any(|f| f.contains(&name.as_str())));
    }
    let Some(wanted) = counted.layout.as_ref().and_then(places) else {
        (counted.layout, counted.tried) = (None, Some(l.now));
        return Err(unknown());
    };
    read(&wanted)
}

/// Where the counters are of which figures are made, in the order of [`FIGURES`]; `None` if one is not there that every Samba has.
fn places(layout: &Layout) -> Option<Vec<usize>> {
    let at = |n: &&str| layout.at.get(*n).copied();
    let mut all: Vec<usize> = FIGURES[..FAILED].iter().flat_map(|f| f.iter()).map(at).collect::<Option<_>>()?;
    all.extend(FIGURES[FAILED].iter().map(at).collect::<Option<Vec<_>>>().unwrap_or_default());
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record with so many bytes read and so many requests.
    fn row(bytes: u64, requests: u64) -> Figures {
        [bytes, 0, 0, 0, requests, 0, 0, 0, 0, 0]
    }

    fn tcons(list: &[(u32, &[Option<&str>])]) -> BTreeMap<u32, BTreeSet<Option<String>>> {
        list.iter().map(|(pid, s)| (*pid, s.iter().map(|s| s.map(str::to_owned)).collect())).collect()
    }

    fn bytes(c: &Counted) -> (u64, Vec<u64>) {
        (c.gateway[0], c.shares.values().map(|s| s[0]).collect())
    }

    #[test]
    fn what_a_process_did_is_its_shares_if_it_has_one() {
        let (mut c, shares) = (Counted::default(), ["a", "b"]);
        let both = tcons(&[(2, &[Some("a")]), (3, &[Some("b")]), (4, &[Some("a"), Some("b")]), (5, &[None])]);
        c.count([(1, row(7, 1)), (2, row(1000, 1))].into(), &[], &both, &shares, false);
        assert_eq!(bytes(&c), (0, vec![0, 0]), "nobody knows since when");
        c.count(
            [(1, row(7, 1)), (2, row(1500, 2)), (3, row(30, 1)), (4, row(4, 1)), (5, row(5, 1))].into(),
            &[],
            &both,
            &shares,
            false,
        );
        assert_eq!(bytes(&c), (539, vec![500, 30]), "several, and a foreign one, are nobody's");
        // The one of b ends: its 30 and 9 more are now in the record of the first.
        c.count([(1, row(46, 3)), (2, row(1600, 3)), (4, row(4, 1)), (5, row(5, 1))].into(), &[], &both, &shares, false);
        assert_eq!(bytes(&c), (648, vec![600, 30]));
        // It goes from one share to the other: what it did between nobody knows.
        c.count([(1, row(46, 3)), (2, row(1700, 4))].into(), &[], &tcons(&[(2, &[Some("b")])]), &shares, false);
        assert_eq!(c.shares["b"][0], 30);
        c.count([(1, row(46, 3)), (2, row(1701, 4))].into(), &[], &tcons(&[(2, &[Some("b")])]), &shares, false);
        assert_eq!(c.shares["b"][0], 31);
    }

    #[test]
    fn what_samba_counts_by_share_is_taken() {
        let (mut c, shares) = (Counted::default(), ["a", "b"]);
        let own = |key: &'static str, pid, share, bytes| Own { key, pid, share, figures: row(bytes, 1) };
        let both = tcons(&[(2, &[Some("a"), Some("b")]), (3, &[Some("b")]), (4, &[Some("a")])]);
        let rows = |two, three| [(1, row(0, 1)), (2, row(two, 1)), (3, row(three, 1)), (4, row(50, 1))].into();
        let before = [own("a:2.0[x]", 2, Some("a"), 600), own("b:2.1[x]", 2, Some("b"), 400), own("b:3.1[y]", 3, Some("b"), 70)];
        c.count(rows(1000, 70), &before, &both, &shares, false);
        assert_eq!(bytes(&c), (0, vec![0, 0]), "nobody knows since when");
        // One client on both shares, and one that left b and came again, whose record begins anew.
        let after = [
            own("a:2.0[x]", 2, Some("a"), 605),
            own("b:2.1[x]", 2, Some("b"), 430),
            own("b:3.1[y]", 3, Some("b"), 9),
            own("foreign:2.2[x]", 2, None, 1),
        ];
        c.count(rows(1036, 82), &after, &both, &shares, false);
        assert_eq!(bytes(&c), (48, vec![5, 39]), "what is foreign, and what was between, is the gateway's alone");
        // One that came before its share was counted: it is alone on it.
        c.count([(1, row(0, 1)), (4, row(53, 1))].into(), &[], &both, &shares, false);
        assert_eq!(bytes(&c).1, vec![8, 39]);
    }

    #[test]
    fn a_record_on_its_way_is_no_new_beginning() {
        let (mut c, none) = (Counted::default(), BTreeMap::new());
        c.count([(1, row(10, 1)), (2, row(1_000_000, 1))].into(), &[], &none, &[], false);
        c.count([(1, row(11, 1))].into(), &[], &none, &[], false);
        assert_eq!(c.gateway[0], 0, "the second one's record has gone and not yet come");
        c.count([(1, row(1_000_021, 2))].into(), &[], &none, &[], false);
        assert_eq!(c.gateway[0], 11);
    }

    #[test]
    fn a_restart_or_a_flush_begins_at_nothing() {
        let (mut c, none) = (Counted::default(), BTreeMap::new());
        c.count([(1, row(100, 1))].into(), &[], &none, &["a"], true);
        c.count([(1, row(150, 2))].into(), &[], &none, &["a"], true);
        assert_eq!(bytes(&c), (50, vec![50]), "a gateway with one share and nothing else");
        c.count([(9, row(30, 1))].into(), &[], &none, &["a"], true);
        assert_eq!(bytes(&c), (80, vec![80]), "restarted");
        c.count([(9, row(5, 0))].into(), &[], &none, &["a"], true);
        assert_eq!(bytes(&c), (85, vec![85]), "flushed");
        c.count([(9, row(6, 0))].into(), &[], &none, &[], true);
        assert_eq!(bytes(&c), (86, vec![]), "a share that is gone is forgotten");
    }
}
