// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `wbinfo` prints on stdout: names, numbers and SIDs of a domain as winbindd sees them. It knows the lines; why a call failed is in
//! [`super::ad_error`]. A name is `DOMAIN\name`, and either part may have blanks in it.

/// What a SID stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SidKind {
    /// A user.
    User,
    /// A group of the domain.
    Group,
    /// A local group: of the domain controllers, of this machine, or built in.
    Alias,
    /// Well known: Everyone, Authenticated Users …
    WellKnown,
    /// A computer's account. winbindd mostly calls it a user.
    Computer,
    /// A domain, a deleted or unknown account, a label.
    Other,
}

impl SidKind {
    fn of(number: u32) -> Self {
        match number {
            1 => Self::User,
            2 => Self::Group,
            4 => Self::Alias,
            5 => Self::WellKnown,
            9 => Self::Computer,
            _ => Self::Other,
        }
    }
}

/// A user as the name service of this machine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// With its domain, as printed.
    pub name: String,
    /// Unix number.
    pub uid: u32,
    /// Number of the primary group.
    pub gid: u32,
}

/// Whether a text is a SID: `S-1-` and numbers.
pub fn is_sid(text: &str) -> bool {
    let number = |n: &str| !n.is_empty() && n.len() <= 15 && n.bytes().all(|b| b.is_ascii_digit());
    text.strip_prefix("S-1-").is_some_and(|rest| rest.split('-').count() <= 16 && rest.split('-').all(number))
}

/// Reads `wbinfo --name-to-sid`: `S-1-5-21-… SID_USER (1)`.
pub fn parse_sid(text: &str) -> Option<(String, SidKind)> {
    text.lines().find_map(|line| {
        let (sid, rest) = line.trim().split_once(' ')?;
        let number = rest.rsplit_once('(')?.1.strip_suffix(')')?.parse().ok()?;
        is_sid(sid).then(|| (sid.to_owned(), SidKind::of(number)))
    })
}

/// Reads `wbinfo --sid-to-name`: `EXAMPLE\alice 1`.
pub fn parse_name(text: &str) -> Option<(String, SidKind)> {
    text.lines().find_map(|line| {
        let (name, number) = line.trim_end().rsplit_once(' ')?;
        let kind = SidKind::of(number.parse().ok()?);
        (!name.is_empty()).then(|| (name.to_owned(), kind))
    })
}

/// Reads `wbinfo --user-info`: a line of `passwd`.
pub fn parse_user(text: &str) -> Option<User> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(5, ':');
        let (name, _password) = (parts.next()?, parts.next()?);
        let (uid, gid) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next()?;
        (!name.is_empty()).then(|| User { name: name.to_owned(), uid, gid })
    })
}

/// Reads `wbinfo --domain-users` and `--domain-groups`: a name a line, in the order of the domain controller.
pub fn parse_lines(text: &str) -> Vec<String> {
    text.lines().map(|l| l.trim_end_matches('\r')).filter(|l| !l.trim().is_empty()).map(str::to_owned).collect()
}

/// Reads `wbinfo --user-groups`: a number a line.
pub fn parse_gids(text: &str) -> Vec<u32> {
    text.lines().filter_map(|l| l.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!("../../../tests/fixtures/samba-4.17/wbinfo_", $name, ".txt"))
        };
    }

    #[test]
    fn real_outputs() {
        let sid = "S-1-5-21-2151400053-4012562773-3824366742-1103";
        assert_eq!(parse_sid(fixture!("-n_alice")), Some((sid.to_owned(), SidKind::User)));
        let alice = User { name: "EXAMPLE\\alice".into(), uid: 101_103, gid: 100_513 };
        assert_eq!(parse_user(fixture!("-i_alice")), Some(alice));
        assert_eq!(parse_user(fixture!("-i_nosuch")), None);
        assert_eq!(parse_gids(fixture!("-r_alice")), [101_103, 100_513, 3001]);
        let users = parse_lines(fixture!("-u"));
        assert_eq!((users.len(), users[3].as_str()), (5, "EXAMPLE\\alice"));
        let groups = parse_lines(fixture!("-g"));
        assert_eq!((groups.len(), groups[0].as_str()), (17, "EXAMPLE\\protected users"));
        assert_eq!(parse_lines(fixture!("-m")), ["BUILTIN", "M1", "EXAMPLE"]);
    }

    #[test]
    fn kinds_and_odd_lines() {
        let kind = |n: u32| parse_name(&format!("EXAMPLE\\domain users {n}\n")).map(|(name, k)| (name.len(), k));
        for (n, k) in [
            (1, SidKind::User),
            (2, SidKind::Group),
            (3, SidKind::Other),
            (4, SidKind::Alias),
            (5, SidKind::WellKnown),
            (8, SidKind::Other),
            (9, SidKind::Computer),
        ] {
            assert_eq!(kind(n), Some((20, k)));
        }
        assert_eq!(parse_sid("S-1-1-0 SID_WKN_GROUP (5)"), Some(("S-1-1-0".into(), SidKind::WellKnown)));
        for bad in ["", "S-1-1-0", "S-1-1-0 SID_USER", "S-1-x SID_USER (1)", "S-1- SID_USER (1)", "x SID_USER (1)", "S-1-1-0 (x)"]
        {
            assert_eq!(parse_sid(bad), None, "{bad}");
        }
        for bad in ["", "alice", "alice x", " 1"] {
            assert_eq!(parse_name(bad), None, "{bad}");
        }
        for bad in ["a:*:1:2", ":*:1:2:::", "a:*:-1:2:::", "a:*:4294967296:2:::"] {
            assert_eq!(parse_user(bad), None, "{bad}");
        }
        assert!(parse_user("E\\a:*:1:2:a:b:/home/x:/bin/sh").is_some());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>(), line in "S-1[-0-9 SID_()]{0,30}|[a-z\\\\:*0-9 ]{0,30}") {
            for t in [&text, &line] {
                prop_assert!(parse_sid(t).is_none_or(|(s, _)| is_sid(&s)));
                let _ = (parse_name(t), parse_user(t), parse_lines(t), parse_gids(t));
            }
        }
    }
}
