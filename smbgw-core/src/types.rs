// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names and numbers that have a rule. A value of one of these types is valid; nothing else in the crate checks names
//! again. This file knows the rules and their sources; it must not know what the names are used for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind};

/// Lower-case hex of the SHA-256 of some bytes: how contents are compared.
pub fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` and wraps it.
            pub fn new(text: &str) -> Result<Self, Error> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.to_owned())),
                    Err(why) => Err(Error::new(Kind::Invalid, format!("{:?} is no {}: {why}", shorten(text), $name::WHAT))),
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(s: &str) -> Result<Self, Error> {
                Self::new(s)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(s: String) -> Result<Self, Error> {
                Self::new(&s)
            }
        }

        impl From<$name> for String {
            fn from(n: $name) -> String {
                n.0
            }
        }
    };
}

/// The number of a guest: 100 to 999999999 (`pve-vmid` of pve-common). It is no process id, and nothing but a guest has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct VmId(u32);

impl VmId {
    /// The smallest that Proxmox VE gives.
    pub const FIRST: u32 = 100;
    /// The largest that it knows.
    pub const LAST: u32 = 999_999_999;

    /// Checks a number and wraps it.
    pub fn new(number: u32) -> Result<Self, Error> {
        if (Self::FIRST..=Self::LAST).contains(&number) {
            Ok(Self(number))
        } else {
            Err(Error::new(Kind::Invalid, format!("{number} is no guest id: it must be {} to {}", Self::FIRST, Self::LAST)))
        }
    }

    /// Reads a guest id as people write it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let digits = !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(n) if digits => Self::new(n),
            _ => Err(Error::new(Kind::Invalid, format!("{:?} is no guest id: it must be a number from 100 on", shorten(text)))),
        }
    }

    /// The number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u32> for VmId {
    type Error = Error;
    fn try_from(n: u32) -> Result<Self, Error> {
        Self::new(n)
    }
}

impl From<VmId> for u32 {
    fn from(v: VmId) -> u32 {
        v.0
    }
}

/// A number of bytes as people write it: digits with an optional fraction, then nothing (bytes) or one of `K M G T P`, each 1024 times the one
/// before, as in Proxmox's sizes. `KiB`, `GiB` … mean the same; `KB`, `GB` … are refused, because they mean another number elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// Reads a size; the error says what a right one looks like.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let shown = shorten(text);
        let wrong = |why: &str| Error::new(Kind::Invalid, format!("{shown:?} is no size: {why}"));
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        if text.starts_with('-') {
            return Err(wrong("it cannot be negative"));
        }
        let power = match unit.to_ascii_uppercase().as_str() {
            "" => 0,
            "K" | "KIB" => 1,
            "M" | "MIB" => 2,
            "G" | "GIB" => 3,
            "T" | "TIB" => 4,
            "P" | "PIB" => 5,
            u @ ("KB" | "MB" | "GB" | "TB" | "PB") => {
                return Err(wrong(&format!("{unit} means 1000 to some and 1024 to others; write {number}{} (1024)", &u[..1])));
            }
            _ => return Err(wrong("write a number and one of K, M, G, T, P (1024 each), for example 500G")),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let fraction = fraction.trim_end_matches('0');
        let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
            return Err(wrong("write a number and one of K, M, G, T, P (1024 each), for example 500G"));
        }
        let factor = 1_u128 << (10 * power);
        let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        let parts = format!("{whole}{fraction}").parse::<u128>().map_err(|_| wrong("it is too large"))?;
        // Beyond this no file system counts, and nothing below can overflow.
        const MOST: u128 = i64::MAX as u128;
        if parts > MOST * scale / factor {
            return Err(wrong("it is too large"));
        }
        // What is left of a byte is nobody's.
        Ok(Self(u64::try_from(parts * factor / scale).unwrap_or(u64::MAX)))
    }
}

/// The shortest exact form, as [`ByteSize::parse`] reads it.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (power, unit) in [(50, "P"), (40, "T"), (30, "G"), (20, "M"), (10, "K")] {
            if self.0 != 0 && self.0 % (1 << power) == 0 {
                return write!(f, "{}{unit}", self.0 >> power);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// A number of bytes for a sentence: three figures are enough.
pub fn human(bytes: u64) -> String {
    for (power, unit) in [(50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << power {
            // Tenths, rounded down; whole numbers without.
            let tenths = (u128::from(bytes) * 10) >> power;
            return if tenths % 10 == 0 || tenths >= 1000 {
                format!("{} {unit}", tenths / 10)
            } else {
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            };
        }
    }
    format!("{bytes} bytes")
}

/// At most 64 characters of a hostile text, for messages.
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

name_type!(
    /// A storage id: at least 2 characters, a letter first, then letters, digits, `-`, `_`, `.`, the last a letter or digit
    /// (`pve-storage-id` of pve-common).
    StoreId, check_store_id
);
name_type!(
    /// A gateway name: the rule of a storage id.
    GatewayId, check_store_id
);
name_type!(
    /// A node name: a DNS label (`pve-node` of pve-common).
    NodeName, check_node
);
name_type!(
    /// A share name that Windows accepts and that can be nothing but a section name in smb.conf: 1 to 80 characters, none of
    /// `" / \ [ ] : | < > + = ; , * ? %`, no control or direction-changing character, no blank at either end or doubled
    /// (Samba folds blanks), and not one of Samba's or Windows' own names.
    ShareName, check_share
);
name_type!(
    /// A local user of a gateway: a small Unix login name, at most 32 bytes (`useradd(8)`).
    UserName, check_user
);
name_type!(
    /// A local group of a gateway; the Unix group behind it has a prefixed name, so any name of the user's rule is free.
    GroupName, check_user
);
name_type!(
    /// The DNS name of an Active Directory domain, in lower case: two labels at least, each of letters, digits and inner `-`, 1 to 63
    /// characters, 255 in all (RFC 1035, 2.3.1).
    DnsDomain, check_domain
);
name_type!(
    /// The NetBIOS name of a domain, in upper case: 1 to 15 characters, none of `\ / : * ? " < > |` and no dot (KB909264).
    Workgroup, check_workgroup
);

impl DnsDomain {
    const WHAT: &'static str = "DNS name of a domain";

    /// The name however it was typed: case and a final dot do not matter.
    pub fn typed(text: &str) -> Result<Self, Error> {
        Self::new(text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase().as_str())
    }

    /// The Kerberos realm: the same name in upper case.
    pub fn realm(&self) -> String {
        self.0.to_ascii_uppercase()
    }
}
impl Workgroup {
    const WHAT: &'static str = "NetBIOS name of a domain";
}

/// An account of a domain, as `EXAMPLE\Domain Users`. Names are compared without regard to case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DomainAccount {
    domain: Workgroup,
    name: String,
}

impl DomainAccount {
    /// Reads `DOMAIN\name`. The name is a `sAMAccountName`: at most 256 characters, none of `" / \ [ ] : ; | = , + * ? < >` and no control
    /// character ([MS-ADTS] 3.1.1.6).
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::new(Kind::Invalid, format!("{:?} is no account of a domain: {why}", shorten(text)));
        let (domain, name) = text.split_once('\\').ok_or_else(|| wrong("write DOMAIN\\name"))?;
        let domain = Workgroup::new(&domain.to_uppercase())?;
        if name.is_empty() || name.chars().count() > 256 || name.trim() != name {
            return Err(wrong("a name has 1 to 256 characters, and no blank at its ends"));
        }
        if let Some(c) = name.chars().find(|c| "\"/\\[]:;|=,+*?<>".contains(*c) || c.is_control() || is_deceptive(*c)) {
            return Err(wrong(&format!("a name cannot have {c:?}")));
        }
        Ok(Self { domain, name: name.to_owned() })
    }

    /// The NetBIOS name of its domain.
    pub fn domain(&self) -> &Workgroup {
        &self.domain
    }

    /// The name within the domain.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The form by which accounts are compared.
    pub fn folded(&self) -> String {
        self.to_string().to_lowercase()
    }
}

impl fmt::Display for DomainAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\\{}", self.domain, self.name)
    }
}

impl TryFrom<String> for DomainAccount {
    type Error = Error;
    fn try_from(s: String) -> Result<Self, Error> {
        Self::parse(&s)
    }
}

impl From<DomainAccount> for String {
    fn from(a: DomainAccount) -> String {
        a.to_string()
    }
}

fn check_domain(s: &str) -> Result<(), &'static str> {
    if s.len() > 255 {
        return Err("it is longer than 255 characters");
    }
    if s.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("it is written in lower case");
    }
    if s.split('.').count() < 2 {
        return Err("it needs two labels at least, like example.test");
    }
    let label = |l: &str| check_node(l).is_ok();
    if !s.split('.').all(label) {
        return Err("labels have letters, digits and inner '-', 1 to 63 of them");
    }
    Ok(())
}

fn check_workgroup(s: &str) -> Result<(), &'static str> {
    if s.is_empty() || s.chars().count() > 15 {
        return Err("it needs 1 to 15 characters");
    }
    if s.chars().any(|c| "\\/:*?\"<>|.,@ ".contains(c) || c.is_control() || is_deceptive(c)) {
        return Err("it has a character that NetBIOS names of domains cannot have");
    }
    if s.to_uppercase() != s {
        return Err("it is written in upper case");
    }
    Ok(())
}

impl StoreId {
    const WHAT: &'static str = "storage id";
}
impl GatewayId {
    const WHAT: &'static str = "gateway name";
}
impl NodeName {
    const WHAT: &'static str = "node name";
}
impl ShareName {
    const WHAT: &'static str = "share name";

    /// The form by which Samba and Windows compare share names.
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }
}
impl UserName {
    const WHAT: &'static str = "user name";
}
impl GroupName {
    const WHAT: &'static str = "group name";
}

fn check_store_id(s: &str) -> Result<(), &'static str> {
    let b = s.as_bytes();
    if b.len() < 2 || b.len() > 100 {
        return Err("it needs 2 to 100 characters");
    }
    if !b[0].is_ascii_alphabetic() {
        return Err("it must start with a letter");
    }
    if !b[b.len() - 1].is_ascii_alphanumeric() {
        return Err("it must end with a letter or digit");
    }
    if !b.iter().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(c)) {
        return Err("only letters, digits, '-', '_' and '.' are allowed");
    }
    Ok(())
}

fn check_node(s: &str) -> Result<(), &'static str> {
    let b = s.as_bytes();
    if b.is_empty() || b.len() > 63 {
        return Err("it needs 1 to 63 characters");
    }
    if !b.iter().all(|c| c.is_ascii_alphanumeric() || *c == b'-') || b[0] == b'-' || b[b.len() - 1] == b'-' {
        return Err("only letters, digits and inner '-' are allowed");
    }
    Ok(())
}

/// Characters that change the direction of the text around them or are invisible: they make one name look like another.
fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}' | '\u{00AD}' | '\u{061C}')
}

fn check_share(s: &str) -> Result<(), &'static str> {
    const RESERVED: [&str; 12] =
        ["global", "homes", "printers", "ipc$", "print$", "admin$", "netlogon", "sysvol", "pipe", "mailslot", "con", "nul"];
    let n = s.chars().count();
    if n == 0 || n > 80 {
        return Err("it needs 1 to 80 characters");
    }
    // Windows counts UTF-16 units, Samba bytes of UTF-8 in a 256-byte buffer.
    if s.len() > 240 {
        return Err("it is longer than 240 bytes in UTF-8");
    }
    if s.chars().any(char::is_control) {
        return Err("control characters are not allowed");
    }
    if s.chars().any(is_deceptive) {
        return Err("invisible and direction-changing characters are not allowed");
    }
    if s.chars().any(|c| "\"/\\[]:|<>+=;,*?".contains(c)) {
        return Err("none of \" / \\ [ ] : | < > + = ; , * ? is allowed (Windows)");
    }
    if s.contains('%') {
        return Err("'%' is not allowed (Samba would expand it)");
    }
    if s.starts_with(['#', '-', '.', '@', '&']) {
        return Err("it must not start with '#', '-', '.', '@' or '&'");
    }
    if s.trim() != s || s.ends_with('.') {
        return Err("blanks at either end and a dot at the end are not allowed");
    }
    if s.chars().any(|c| c.is_whitespace() && c != ' ') || s.contains("  ") {
        return Err("only single blanks are allowed (Samba folds others)");
    }
    let folded = s.to_lowercase();
    let drive = folded.len() == 2 && folded.ends_with('$') && folded.as_bytes()[0].is_ascii_alphabetic();
    if drive || RESERVED.contains(&folded.as_str()) || folded.starts_with("smbgw-") {
        return Err("the name is reserved");
    }
    Ok(())
}

fn check_user(s: &str) -> Result<(), &'static str> {
    let b = s.as_bytes();
    if b.is_empty() || b.len() > 32 {
        return Err("it needs 1 to 32 characters");
    }
    if !(b[0].is_ascii_lowercase() || b[0] == b'_') {
        return Err("it must start with a small letter or '_'");
    }
    if !b.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_.".contains(c)) {
        return Err("only small letters, digits, '-', '_' and '.' are allowed");
    }
    if b[b.len() - 1] == b'.' || b[b.len() - 1] == b'-' {
        return Err("it must not end with '.' or '-'");
    }
    if s.starts_with("smbgw-") {
        return Err("names that start with smbgw- are ours");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn domains_and_their_accounts() {
        assert_eq!(DnsDomain::typed("Example.TEST.").expect("fine").realm(), "EXAMPLE.TEST");
        for bad in ["", "example", "a..b", "-a.b", "a.b_c", "a.b c", "exämple.test"] {
            assert!(DnsDomain::typed(bad).is_err(), "{bad:?}");
        }
        let a = DomainAccount::parse("example\\Domain Users").expect("fine");
        assert_eq!((a.to_string().as_str(), a.name()), ("EXAMPLE\\Domain Users", "Domain Users"));
        assert_eq!(a.folded(), DomainAccount::parse("EXAMPLE\\domain users").expect("fine").folded());
        for bad in [
            "",
            "alice",
            "EX\\",
            "\\alice",
            "EX\\a\\b",
            "EX\\a,b",
            "EX\\a\nb",
            "EX\\ a",
            "EX.AMPLE\\a",
            "A-NAME-THAT-IS-TOO-LONG\\a",
        ] {
            assert!(DomainAccount::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn share_names_windows_accepts() {
        for good in ["office", "Büro Süd", "Daten 2026", "日本", "projects$", "a", "été", "R&D", "o'brien", "📁 files"] {
            assert!(ShareName::new(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn hostile_share_names_are_refused() {
        let long = "x".repeat(4096);
        for bad in [
            "",
            " a",
            "a ",
            "a  b",
            "a\nb",
            "a\0b",
            "a]b",
            "[a",
            "a=b",
            "a%Ub",
            "a;b",
            "a\"b",
            "a/b",
            "a\\b",
            "GLOBAL",
            "Homes",
            "ipc$",
            "c$",
            "-Nroot",
            "#x",
            "a\u{202E}b",
            "a\u{200B}b",
            "a.",
            "a\tb",
            "a\u{00A0}b",
            &long,
        ] {
            let e = ShareName::new(bad).expect_err(bad);
            assert!(e.to_string().len() < 400, "message repeats a hostile name in full");
        }
    }

    #[test]
    fn hostile_users_are_refused() {
        for bad in ["", "-x", "Anna", "a b", "a:b", "a\nb", "a,b", "root;", "a%b", "ä", "smbgw-probe", "x.", &"u".repeat(33)] {
            assert!(UserName::new(bad).is_err(), "{bad:?}");
        }
        assert!(UserName::new("anna.k-2").is_ok());
    }

    #[test]
    fn sizes_are_those_of_proxmox() {
        let gib = 1 << 30;
        for (text, bytes) in [
            ("500G", 500 * gib),
            ("500GiB", 500 * gib),
            (" 1.5t ", 1536 * gib),
            ("0.5G", gib / 2),
            ("1.10G", 1_181_116_006),
            ("4096", 4096),
            ("0", 0),
            ("8191P", 8191 << 50),
        ] {
            assert_eq!(ByteSize::parse(text).expect(text).0, bytes, "{text}");
        }
        for (bad, why) in [
            ("", "write a number"),
            ("G", "write a number"),
            (".5G", "write a number"),
            ("500GB", "write 500G"),
            ("500 gigs", "write a number"),
            ("500X", "write a number"),
            ("-5G", "negative"),
            ("5e3", "write a number"),
            ("1.2.3G", "write a number"),
            ("8192P", "too large"),
            ("999999999999999999999999999999999999999999", "too large"),
            ("١G", "write a number"),
        ] {
            let said = ByteSize::parse(bad).expect_err(bad).to_string();
            assert!(said.contains(why), "{bad}: {said}");
        }
    }

    #[test]
    fn sizes_for_people() {
        let said: Vec<String> = [0, 1023, 1024, 1536, 1 << 20, (1 << 30) + (1 << 29), 999 << 30, 1 << 40].map(human).into();
        assert_eq!(said, ["0 bytes", "1023 bytes", "1 KiB", "1.5 KiB", "1 MiB", "1.5 GiB", "999 GiB", "1 TiB"]);
    }

    proptest! {
        #[test]
        fn sizes_print_as_they_are_read(bytes in 0..i64::MAX as u64, unit in 0_u32..6) {
            let bytes = bytes >> (10 * unit) << (10 * unit);
            prop_assert_eq!(ByteSize::parse(&ByteSize(bytes).to_string()).expect("its own form").0, bytes);
        }

        #[test]
        fn no_text_is_a_size_by_accident(text in "\\PC{0,24}") {
            if let Ok(size) = ByteSize::parse(&text) {
                prop_assert!(size.0 <= i64::MAX as u64 && text.trim().starts_with(|c: char| c.is_ascii_digit()));
            }
        }
    }

    proptest! {
        #[test]
        fn a_valid_share_name_is_one_harmless_section_line(s in "\\PC{0,90}") {
            if let Ok(n) = ShareName::new(&s) {
                prop_assert!(!n.as_str().contains(['\n', '\r', ']', '[', '%', '\0']));
                prop_assert_eq!(n.as_str().split_whitespace().collect::<Vec<_>>().join(" "), n.as_str());
            }
        }

        #[test]
        fn store_ids_never_leave_their_directory(s in ".{0,20}") {
            if let Ok(id) = StoreId::new(&s) {
                prop_assert!(!id.as_str().contains('/') && !id.as_str().starts_with('.'));
            }
        }
    }
}
