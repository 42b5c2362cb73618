// SPDX-License-Identifier: MIT OR Apache-2.0
//! The permissions of a share as `sharesec SHARE --view` prints them and `sharesec SHARE --replace ACES` takes them. It
//! knows the text only; an unset share shows one entry, S-1-1-0 with FULL.
//!
//! `--viewsddl` is not read: `--view` says the same in one word per entry. Names are not resolved by a tool that is not
//! asking smbd's own name service, so write SIDs. `sharesec --add` returns 0 when it could not parse an entry: read back.

use super::{FormatError, show};

/// One access rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ace {
    /// SID, or a name where the tool printed one.
    pub trustee: String,
    /// Allowed or denied.
    pub allow: bool,
    /// Inheritance flags; 0 for a share.
    pub flags: u8,
    /// `FULL`, `CHANGE`, `READ`, letters of `RWXDPO`, or `0x…`, as printed.
    pub rights: String,
}

/// Reads `--view`: the entries in order, and how many `ACL:` lines were not understood.
pub fn parse_view(text: &str) -> (Vec<Ace>, usize) {
    let mut out = Vec::new();
    let mut bad = 0;
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("ACL:") else { continue };
        match ace(rest) {
            Some(a) => out.push(a),
            None => bad += 1,
        }
    }
    (out, bad)
}

fn ace(text: &str) -> Option<Ace> {
    let (trustee, rule) = text.rsplit_once(':')?;
    let mut parts = rule.splitn(3, '/');
    let allow = match parts.next()? {
        "ALLOWED" => true,
        "DENIED" => false,
        _ => return None,
    };
    let flags = parts.next()?;
    let flags = match flags.strip_prefix("0x") {
        Some(hex) => u8::from_str_radix(hex, 16).ok()?,
        None => flags.parse().ok()?,
    };
    let rights = parts.next()?.to_owned();
    (!trustee.is_empty() && !rights.is_empty()).then(|| Ace { trustee: trustee.to_owned(), allow, flags, rights })
}

/// The argument of `--replace`: entries joined by commas. Trustees must be SIDs (names depend on who resolves them).
pub fn print_aces(aces: &[Ace]) -> Result<String, FormatError> {
    let mut out = Vec::new();
    for a in aces {
        let sid = a.trustee.strip_prefix("S-1-").is_some_and(|r| r.bytes().all(|b| b.is_ascii_digit() || b == b'-'));
        if !sid {
            return Err(FormatError::unprintable(format!("trustee {}", show(&a.trustee)), "it is no SID"));
        }
        if a.rights.is_empty() || !a.rights.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(FormatError::unprintable(format!("rights {}", show(&a.rights)), "they are neither a word nor a number"));
        }
        out.push(format!("{}:{}/0x{:x}/{}", a.trustee, if a.allow { "ALLOWED" } else { "DENIED" }, a.flags, a.rights));
    }
    Ok(out.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_real_output() {
        let (aces, bad) = parse_view(include_str!("../../../tests/fixtures/samba-4.17/sharesec_--view.txt"));
        assert_eq!((aces.len(), bad), (2, 0));
        assert_eq!((aces[0].trustee.as_str(), aces[0].allow, aces[0].rights.as_str()), ("S-1-5-32-545", false, "READ"));
        let text = print_aces(&aces).expect("SIDs");
        assert_eq!(text, "S-1-5-32-545:DENIED/0x0/READ,S-1-1-0:ALLOWED/0x0/0x000001ff");
        assert_eq!(parse_view("ACL:\nACL:x:MAYBE/0/FULL\nACL:S-1-1-0:ALLOWED/0/FULL\n").1, 2);
        for trustee in ["anna", "S-1-1-0,x", "--delete", ""] {
            assert!(print_aces(&[Ace { trustee: trustee.into(), allow: true, flags: 0, rights: "FULL".into() }]).is_err());
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>(), line in "ACL:[S:/0-9xALOWED-]{0,30}") {
            let _ = parse_view(&text);
            let (aces, _) = parse_view(&line);
            if let Ok(p) = print_aces(&aces) {
                let back: Vec<Ace> = p.split(',').filter_map(ace).collect();
                prop_assert_eq!(back, aces);
            }
        }
    }
}
