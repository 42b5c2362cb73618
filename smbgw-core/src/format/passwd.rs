// SPDX-License-Identifier: MIT OR Apache-2.0
//! passwd(5), group(5), subuid(5): who exists on a machine and which numbers are taken. Reads leniently and says how many
//! lines it could not use; it must not know which accounts are ours.

/// One account of /etc/passwd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User number.
    pub uid: u32,
    /// Primary group number.
    pub gid: u32,
    /// Comment field.
    pub gecos: String,
    /// Home directory.
    pub home: String,
    /// Login shell; empty means /bin/sh.
    pub shell: String,
}

/// One group of /etc/group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Group name.
    pub name: String,
    /// Group number.
    pub gid: u32,
    /// Members beside those who have it as primary group.
    pub members: Vec<String>,
}

/// One range of /etc/subuid or /etc/subgid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubIds {
    /// Owner: a login name, or a number as text.
    pub owner: String,
    /// First number.
    pub start: u32,
    /// How many.
    pub count: u32,
}

impl SubIds {
    /// Whether a number lies in the range.
    pub fn contains(&self, id: u32) -> bool {
        id.checked_sub(self.start).is_some_and(|n| n < self.count)
    }
}

/// The lines of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries<T> {
    /// What could be read, in order; of two with one name the system takes the first.
    pub entries: Vec<T>,
    /// Lines of NIS compatibility (`+`, `-`), skipped: accounts may exist that are not in the file.
    pub nis: usize,
    /// Numbers of the lines that make no sense, from 1.
    pub bad: Vec<usize>,
}

fn lines<T>(text: &str, read: impl Fn(&[&str]) -> Option<T>) -> Entries<T> {
    let mut out = Entries { entries: Vec::new(), nis: 0, bad: Vec::new() };
    for (n, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with(['+', '-']) {
            out.nis += 1;
            continue;
        }
        let fields: Vec<&str> = line.split(':').collect();
        match read(&fields).filter(|_| !fields[0].is_empty()) {
            Some(entry) => out.entries.push(entry),
            None => out.bad.push(n + 1),
        }
    }
    out
}

/// Digits only: no sign, no blanks.
fn number(text: &str) -> Option<u32> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Reads /etc/passwd (or `getent passwd`). The password field is not kept.
pub fn parse_passwd(text: &str) -> Entries<User> {
    lines(text, |f| match f {
        [name, _, uid, gid, gecos, home, shell] => Some(User {
            name: (*name).to_owned(),
            uid: number(uid)?,
            gid: number(gid)?,
            gecos: (*gecos).to_owned(),
            home: (*home).to_owned(),
            shell: (*shell).to_owned(),
        }),
        _ => None,
    })
}

/// Reads /etc/group (or `getent group`).
pub fn parse_group(text: &str) -> Entries<Group> {
    lines(text, |f| match f {
        [name, _, gid, members] => Some(Group {
            name: (*name).to_owned(),
            gid: number(gid)?,
            members: members.split(',').map(str::trim).filter(|m| !m.is_empty()).map(str::to_owned).collect(),
        }),
        _ => None,
    })
}

/// Reads /etc/subuid or /etc/subgid.
pub fn parse_subids(text: &str) -> Entries<SubIds> {
    lines(text, |f| match f {
        [owner, start, count] => {
            Some(SubIds { owner: (*owner).to_owned(), start: number(start)?, count: number(count.trim_end())? })
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accounts_and_groups() {
        let p = parse_passwd(
            "root:x:0:0:root:/root:/bin/bash\n+@staff::::::\n\n# c\nanna:x:1001:100:Anna,,,:/nonexistent:\nbad:x:-1:0:::\n:x:1:1:::\nshort:x:1\n",
        );
        assert_eq!(
            p.entries.iter().map(|u| (u.name.as_str(), u.uid, u.gid)).collect::<Vec<_>>(),
            [("root", 0, 0), ("anna", 1001, 100)]
        );
        assert_eq!(p.entries[1].home, "/nonexistent");
        assert_eq!((p.nis, p.bad), (1, vec![6, 7, 8]));
        let g = parse_group("users:x:100:\nstaff:!:1002:anna,bob, \nx:x:99999999999:\n");
        assert_eq!(g.entries[1].members, ["anna", "bob"]);
        assert_eq!(g.bad, [3]);
    }

    #[test]
    fn ranges() {
        let s = parse_subids("root:100000:65536\n1000:165536:65536\n");
        assert_eq!(s.entries.len(), 2);
        let r = &s.entries[0];
        assert!(r.contains(100000) && r.contains(165535) && !r.contains(165536) && !r.contains(0));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>(), line in "[a:0-9+,\n]{0,60}") {
            for t in [&text, &line] {
                let p = parse_passwd(t);
                prop_assert!(p.entries.len() + p.nis + p.bad.len() <= t.lines().count());
                let _ = parse_group(t);
                for r in parse_subids(t).entries {
                    let _ = r.contains(u32::MAX);
                }
            }
        }
    }
}
