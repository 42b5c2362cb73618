// SPDX-License-Identifier: MIT OR Apache-2.0
//! Samba's account database as `pdbedit` shows it: the lines of smbpasswd(5) (`pdbedit -L -w`, and back through
//! `pdbedit -i smbpasswd:FILE`) and the report of `pdbedit -L -v`. It must not know which accounts are ours.
//!
//! The NT hash is as good as the password for logging in: it is never shown by `Debug` and overwritten when dropped.

use std::fmt;

use super::{FormatError, show};

/// An NT hash. `Debug` does not show it, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct NtHash([u8; 16]);

impl NtHash {
    /// From its bytes.
    pub fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// From 32 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let b = text.as_bytes();
        if b.len() != 32 || !b.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let mut out = [0; 16];
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
        }
        Some(Self(out))
    }

    /// 32 capital hex digits: a secret, for the gateway record and for pdbedit's input only.
    pub fn expose_hex(&self) -> String {
        self.0.iter().map(|b| format!("{b:02X}")).collect()
    }
}

impl fmt::Debug for NtHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NtHash(..)")
    }
}

impl Drop for NtHash {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

/// The account flags between the brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u16);

/// The letters in the order in which Samba prints them.
const LETTERS: &[u8] = b"NDHTUMWSLXI";

impl Flags {
    /// A normal user.
    pub const NORMAL: Flags = Flags(1 << 4);

    /// Reads `[DU         ]` or `DU`; letters nobody knows are skipped.
    pub fn parse(text: &str) -> Self {
        let inner = text.trim_start_matches('[');
        let inner = inner.split(']').next().unwrap_or_default();
        Self(inner.bytes().filter_map(|b| LETTERS.iter().position(|l| *l == b)).fold(0, |f, bit| f | 1 << bit))
    }

    fn has(self, letter: u8) -> bool {
        LETTERS.iter().position(|l| *l == letter).is_some_and(|bit| self.0 & (1 << bit) != 0)
    }

    /// The same with the letter (one of `NDHTUMWSLXI`) set or cleared; unknown letters change nothing.
    #[must_use]
    pub fn with(self, letter: char, on: bool) -> Self {
        match LETTERS.iter().position(|l| char::from(*l) == letter) {
            Some(bit) if on => Self(self.0 | 1 << bit),
            Some(bit) => Self(self.0 & !(1 << bit)),
            None => self,
        }
    }

    /// `D`: cannot log in.
    pub fn is_disabled(self) -> bool {
        self.has(b'D')
    }

    /// `U`: a user.
    pub fn is_user(self) -> bool {
        self.has(b'U')
    }

    /// `W`, `S` or `I`: a machine, a server or a trusted domain.
    pub fn is_machine(self) -> bool {
        self.has(b'W') || self.has(b'S') || self.has(b'I')
    }

    /// `N`: no password needed.
    pub fn no_password(self) -> bool {
        self.has(b'N')
    }

    /// `L`: locked after too many bad passwords.
    pub fn is_locked(self) -> bool {
        self.has(b'L')
    }

    /// `X`: the password does not expire.
    pub fn never_expires(self) -> bool {
        self.has(b'X')
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters: String = LETTERS.iter().filter(|l| self.has(**l)).map(|l| char::from(*l)).collect();
        write!(f, "[{letters:<11}]")
    }
}

/// One line of smbpasswd(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// Unix user number; pdbedit writes 4294967295 if the account has no Unix user.
    pub uid: u32,
    /// The NT hash; `None` if there is no password, or none that works.
    pub nt_hash: Option<NtHash>,
    /// Account flags; a normal user if the line has none.
    pub flags: Flags,
    /// When the password was set: seconds since 1970, 0 = never.
    pub changed: u32,
}

/// Reads the output of `pdbedit -L -w`; the second value counts lines that are neither accounts nor comments.
pub fn parse(text: &str) -> (Vec<Account>, usize) {
    let mut out = Vec::new();
    let mut bad = 0;
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match account(line) {
            Some(a) => out.push(a),
            None => bad += 1,
        }
    }
    (out, bad)
}

fn account(line: &str) -> Option<Account> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, uid, lm, nt, rest @ ..] = &fields[..] else { return None };
    if name.is_empty() || lm.len() != 32 || nt.len() != 32 || !uid.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut flags = Flags::NORMAL;
    let mut changed = 0;
    for field in rest {
        if field.starts_with('[') {
            flags = Flags::parse(field);
            if flags == Flags::default() {
                flags = Flags::NORMAL;
            }
        } else if let Some(hex) = field.strip_prefix("LCT-") {
            changed = u32::from_str_radix(hex.trim(), 16).unwrap_or(0);
        }
    }
    if lm.starts_with("NO PASSWORD") {
        flags = flags.with('N', true);
    }
    Some(Account { name: (*name).to_owned(), uid: uid.parse().ok()?, nt_hash: NtHash::from_hex(nt), flags, changed })
}

/// Prints one line with its line end, for the file that `pdbedit -i smbpasswd:FILE` reads: that file is a secret.
///
/// Refused: a name with `:`, a control character, `#` at its start, or empty; Samba reads at most 255 bytes of a line.
pub fn print(account: &Account) -> Result<String, FormatError> {
    let name = &account.name;
    if name.is_empty() || name.starts_with('#') || name.contains(|c: char| c == ':' || c.is_control()) || name.len() > 128 {
        let why = "it is empty, too long, starts with '#', or has a ':' or a control character";
        return Err(FormatError::unprintable(format!("account name {}", show(name)), why));
    }
    let nothing = "X".repeat(32);
    let nt = account.nt_hash.as_ref().map_or_else(|| nothing.clone(), NtHash::expose_hex);
    let lm = if account.flags.no_password() { format!("{:X<32}", "NO PASSWORD") } else { nothing };
    Ok(format!("{name}:{}:{lm}:{nt}:{}:LCT-{:08X}:\n", account.uid, account.flags, account.changed))
}

/// One account of `pdbedit -L -v`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verbose {
    /// Login name.
    pub name: String,
    /// SID of the account.
    pub sid: String,
    /// The last part of the SID.
    pub rid: Option<u32>,
    /// SID of the primary group.
    pub group_sid: String,
    /// Account flags.
    pub flags: Flags,
    /// Full name.
    pub full_name: String,
    /// Free description (`pdbedit -N`).
    pub description: String,
}

/// Reads the output of `pdbedit -L -v`, also for one account; other lines are skipped.
pub fn parse_verbose(text: &str) -> Vec<Verbose> {
    let mut out: Vec<Verbose> = Vec::new();
    for line in text.lines() {
        let Some((label, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if label.trim() == "Unix username" {
            out.push(Verbose {
                name: value.to_owned(),
                sid: String::new(),
                rid: None,
                group_sid: String::new(),
                flags: Flags::default(),
                full_name: String::new(),
                description: String::new(),
            });
            continue;
        }
        let Some(last) = out.last_mut() else { continue };
        match label.trim() {
            "User SID" => {
                last.sid = value.to_owned();
                last.rid = value.rsplit_once('-').and_then(|(_, r)| r.parse().ok());
            }
            "Primary Group SID" => last.group_sid = value.to_owned(),
            "Account Flags" => last.flags = Flags::parse(value),
            "Full Name" => last.full_name = value.to_owned(),
            "Account desc" => last.description = value.to_owned(),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "0123456789ABCDEF0123456789ABCDEF";

    fn none() -> String {
        "X".repeat(32)
    }

    #[test]
    fn lines_of_pdbedit() {
        let text = format!(
            "# c\nanna:1001:{x}:{HASH}:[DU         ]:LCT-6B0355AF:\nm$:1002:{x}:{HASH}:[W          ]:LCT-00000000:\nbob:4294967295:NO PASSWORDXXXXXXXXXXXXXXXXXXXXX:{x}:[NU         ]:LCT-0:\nodd\nx:-1:{x}:{x}:\n",
            x = none()
        );
        let (all, bad) = parse(&text);
        assert_eq!(bad, 2);
        assert_eq!((all[0].name.as_str(), all[0].uid, all[0].changed), ("anna", 1001, 0x6B03_55AF));
        assert!(all[0].flags.is_disabled() && all[0].flags.is_user() && !all[0].flags.is_machine());
        assert_eq!(all[0].nt_hash.as_ref().map(NtHash::expose_hex).as_deref(), Some(HASH));
        assert!(all[1].flags.is_machine());
        assert!(all[2].nt_hash.is_none() && all[2].flags.no_password() && all[2].uid == u32::MAX);
        for line in text.lines().skip(1).take(2) {
            let (one, _) = parse(line);
            assert_eq!(print(&one[0]).expect("fine").trim_end(), line);
        }
    }

    #[test]
    fn the_hash_is_not_shown() {
        let (all, _) = parse(&format!("anna:1:{}:{HASH}:[U          ]:LCT-00000000:\n", none()));
        let shown = format!("{all:?} {:#?}", all[0]);
        assert!(!shown.contains("0123") && !shown.contains("[1, 35") && shown.contains("NtHash(..)"), "{shown}");
    }

    #[test]
    fn hostile_names_are_not_printed() {
        for name in ["", "a:b", "a\nb", "#a", "a\0", &"x".repeat(200)] {
            let a = Account { name: name.to_owned(), uid: 1, nt_hash: None, flags: Flags::NORMAL, changed: 0 };
            assert!(print(&a).is_err(), "{name:?}");
        }
    }

    #[test]
    fn the_long_report() {
        let all = parse_verbose(include_str!("../../../tests/fixtures/samba-4.17/pdbedit_-L_-v.txt"));
        assert_eq!(all.len(), 2);
        assert_eq!(all[1].name, "backup");
        assert_eq!(all[1].rid, Some(1000));
        assert!(all[1].sid.starts_with("S-1-5-21-") && all[1].group_sid.ends_with("-513"));
        assert_eq!(all[1].full_name, "Anna: the first");
        assert!(all[1].flags.is_disabled() && all[1].flags.is_user());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>(), line in "[a1:XU\\[\\]ä-]{0,90}") {
            for t in [&text, &line] {
                let _ = parse(t);
                let _ = parse_verbose(t);
                let _ = NtHash::from_hex(t);
                let _ = Flags::parse(t);
            }
        }

        #[test]
        fn printed_lines_are_read_again(
            name in "[a-z][a-z0-9._$ä-]{0,20}", uid in any::<u32>(), hash in proptest::option::of(any::<[u8; 16]>()),
            letters in "[NDHTUMWSLXI]{1,4}", changed in any::<u32>()
        ) {
            let a = Account { name, uid, nt_hash: hash.map(NtHash::new), flags: Flags::parse(&letters), changed };
            let (back, bad) = parse(&print(&a).expect("a fine name"));
            prop_assert_eq!(bad, 0);
            prop_assert_eq!(back, vec![a]);
        }
    }
}
