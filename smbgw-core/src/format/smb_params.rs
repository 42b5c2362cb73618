// SPDX-License-Identifier: MIT OR Apache-2.0
//! The names of smb.conf(5): which parameters exist, which kind of value each takes, which are other spellings of which, and
//! which spellings of a value mean the same. It knows Samba 4.17 (Debian 12) to 4.24 (backports of Debian 13), from their
//! manual pages and checked against `testparm -v`; it must not know files, sections or what we set.
//!
//! A parameter that is not in the table is no error here: Samba ignores it with a warning, and newer versions know more.

use std::borrow::Cow;
use std::cmp::Ordering;

/// Where a parameter may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Only in `[global]`; in another section Samba ignores it with a warning.
    Global,
    /// In a share; in `[global]` it is the default of the shares that follow.
    Share,
}

/// What kind of value a parameter takes; it decides how two spellings are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// Yes or no; anything else makes Samba refuse the whole file.
    Bool,
    /// Names separated by blanks, commas or semicolons, quoted with `"`.
    List,
    /// One of a fixed set of words; anything else makes Samba refuse the whole file.
    Enum,
    /// An octal number (`create mask`).
    Octal,
    /// A size with an optional K, M, G, T, P.
    Bytes,
    /// A whole number as C reads it (0x.., 0..).
    Integer,
    /// Text; one pair of surrounding quotes is not part of it.
    Text,
    /// Text that Samba turns into capitals (`workgroup`).
    Upper,
}

use Class::{Global, Share};
use Type::{Bool, Bytes, Enum, Integer, List, Octal, Text, Upper};

/// A parameter name as Samba sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The name that testparm prints (`read only`), or for names that the table does not have, small letters without blanks
    /// (`fruit:model`).
    pub name: Cow<'static, str>,
    /// True if the spelling means the opposite (`writeable` for `read only`).
    pub inverted: bool,
}

/// The key of a parameter name in any spelling: case and blanks do not count, synonyms are resolved.
pub fn key(name: &str) -> Key {
    if let Ok(at) = SYNONYMS.binary_search_by(|(label, ..)| compare(label, name)) {
        let (_, canonical, inverted) = SYNONYMS[at];
        return Key { name: Cow::Borrowed(canonical), inverted };
    }
    match entry(name) {
        Some((label, ..)) => Key { name: Cow::Borrowed(label), inverted: false },
        None => Key { name: Cow::Owned(squash(name)), inverted: false },
    }
}

/// Class and type of a parameter, in any spelling; `None` for what Samba does not know and for parametric ones (`fruit:model`).
pub fn lookup(name: &str) -> Option<(Class, Type)> {
    entry(&key(name).name).map(|(_, class, kind)| (*class, *kind))
}

/// Whether the name is neither in the table nor parametric, so that Samba would ignore the line with a warning.
pub fn is_unknown(name: &str) -> bool {
    !name.contains(':') && lookup(name).is_none()
}

/// Whether the name is a parametric option (`fruit:model`), which only its module knows.
pub fn is_parametric(name: &str) -> bool {
    name.contains(':') && lookup(name).is_none()
}

fn entry(name: &str) -> Option<&'static (&'static str, Class, Type)> {
    PARAMETERS.binary_search_by(|(label, ..)| compare(label, name)).ok().map(|at| &PARAMETERS[at])
}

/// What C's `isspace` says in the C locale.
pub(crate) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

fn folded(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().filter(|c| !is_space(*c)).map(|c| c.to_ascii_lowercase())
}

/// By bytes, which order as their characters do: this is the inner loop of every parse.
fn compare(a: &str, b: &str) -> Ordering {
    small(a).cmp(small(b))
}

fn small(text: &str) -> impl Iterator<Item = u8> + '_ {
    text.bytes().filter(|b| !is_space(char::from(*b))).map(|b| b.to_ascii_lowercase())
}

/// Whether two words are the same to Samba: blanks anywhere and case do not count.
pub fn same_word(a: &str, b: &str) -> bool {
    compare(a, b) == Ordering::Equal
}

/// Small letters without blanks.
pub(crate) fn squash(text: &str) -> String {
    folded(text).collect()
}

/// A boolean as Samba reads it: yes/true/on/1 and no/false/off/0 in any case; `None` for everything else.
pub fn bool_value(text: &str) -> Option<bool> {
    match squash(text).as_str() {
        "yes" | "true" | "on" | "1" => Some(true),
        "no" | "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Text as Samba reads it: surrounding quotes go, unless others are left inside.
pub fn text_value(text: &str) -> &str {
    let inner = text.trim_matches('"');
    if inner.contains('"') { text } else { inner }
}

/// Splits a list value: separators are blank, tab, comma, semicolon and line ends; between `"` they count as text. Quotes
/// themselves are dropped, also in the middle of a word. An empty `""` is an empty name, as for Samba.
pub fn parse_list(text: &str) -> Vec<String> {
    let separator = |c: char| matches!(c, ' ' | '\t' | ',' | ';' | '\n' | '\r');
    let mut out = Vec::new();
    let mut rest = text.trim_start_matches(separator);
    while !rest.is_empty() {
        let mut word = String::new();
        let mut quoted = false;
        let mut end = rest.len();
        for (at, c) in rest.char_indices() {
            if c == '"' {
                quoted = !quoted;
            } else if separator(c) && !quoted {
                end = at;
                break;
            } else {
                word.push(c);
            }
        }
        out.push(word);
        rest = rest[end..].trim_start_matches(separator);
    }
    out
}

/// Whether two values of a parameter mean the same to Samba. `a` and `b` are both written under the name `param`.
///
/// Booleans in any spelling, octal and other numbers by value, sizes with suffix, words of a fixed set by meaning
/// (`mandatory` = `required`, `SMB3` = `SMB3_11`), lists as written whatever the separators, text without its quotes.
/// Parametric options have no type: there, two booleans are compared as such, everything else as text.
pub fn same_value(param: &str, a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    let Some((_, kind)) = lookup(param) else {
        return match (bool_value(a), bool_value(b)) {
            // 0 and 1 may as well be numbers there, but then they are equal only to themselves.
            (Some(x), Some(y)) => x == y,
            _ => text_value(a) == text_value(b),
        };
    };
    match kind {
        Bool => bool_value(a).is_some() && bool_value(a) == bool_value(b),
        Octal => octal(a).is_some() && octal(a) == octal(b),
        Integer => integer(a) == integer(b),
        Bytes => size(a).is_some() && size(a) == size(b),
        // An empty name in a list means nobody, and testparm prints nothing for it.
        List => parse_list(a).iter().filter(|n| !n.is_empty()).eq(parse_list(b).iter().filter(|n| !n.is_empty())),
        Upper => text_value(a).to_uppercase() == text_value(b).to_uppercase(),
        Text => text_value(a) == text_value(b),
        Enum => {
            let groups = words(&key(param).name);
            match (group_of(groups, a), group_of(groups, b)) {
                (Some(x), Some(y)) => x == y,
                (None, None) => same_word(a, b),
                _ => false,
            }
        }
    }
}

/// Whether Samba takes the value at all; another one makes it refuse the whole file. Words of a fixed set are not judged.
pub fn fits(kind: Type, value: &str) -> bool {
    match kind {
        Bool => bool_value(value).is_some(),
        Octal => {
            value.trim_start().strip_prefix(['+', '-']).unwrap_or(value.trim_start()).starts_with(|c| ('0'..='7').contains(&c))
        }
        Bytes => size(value).is_some_and(|n| n <= i32::MAX as u64),
        List | Enum | Integer | Text | Upper => true,
    }
}

fn group_of(groups: &[&[&str]], value: &str) -> Option<usize> {
    groups.iter().position(|g| g.iter().any(|w| same_word(w, value)))
}

/// As C's scanf does: a sign, then octal digits; what follows is ignored, without digits there is no value.
fn octal(text: &str) -> Option<i64> {
    let (value, rest) = digits(sign(text).1, 8);
    (rest.len() < sign(text).1.len()).then(|| if sign(text).0 { -value } else { value })
}

/// As C's strtol does with any base: what follows the digits is ignored, without digits it is 0.
fn integer(text: &str) -> i64 {
    let (negative, text) = sign(text);
    let (value, _) = any_base(text);
    if negative { -value } else { value }
}

fn sign(text: &str) -> (bool, &str) {
    let text = text.trim_start_matches(is_space);
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

fn any_base(text: &str) -> (i64, &str) {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if hex.starts_with(|c: char| c.is_ascii_hexdigit()) => digits(hex, 16),
        _ if text.starts_with('0') => digits(text, 8),
        _ => digits(text, 10),
    }
}

/// The number at the start, at most the largest there is, and what follows.
fn digits(text: &str, base: u32) -> (i64, &str) {
    let end = text.find(|c: char| !c.is_digit(base)).unwrap_or(text.len());
    let value = text[..end].chars().filter_map(|c| c.to_digit(base));
    let value = value.fold(0i64, |v, d| v.saturating_mul(i64::from(base)).saturating_add(i64::from(d)));
    (value, &text[end..])
}

/// A number with an optional K, M, G, T, P and nothing else.
fn size(text: &str) -> Option<u64> {
    let (negative, text) = sign(text);
    let (value, rest) = any_base(text);
    if negative || rest.len() == text.len() {
        return None;
    }
    let shift = match squash(rest).as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return None,
    };
    u64::try_from(value).ok()?.checked_mul(1 << shift)
}

/// The words of an enum parameter, one inner list per meaning. Parameters whose words have no second spelling have no list.
fn words(name: &str) -> &'static [&'static [&'static str]] {
    const AUTO: &[&[&str]] = &[&["no", "false", "0"], &["yes", "true", "1"], &["auto"], &["default"]];
    const PROTECT: &[&[&str]] = &[
        &["default"],
        &["no", "false", "0", "off", "disabled"],
        &["if_required", "yes", "true", "1", "on", "enabled", "auto"],
        &["desired"],
        &["required", "mandatory", "force", "forced", "enforced"],
    ];
    match name {
        "server signing" | "client signing" | "client ipc signing" | "server smb encrypt" | "client smb encrypt" => PROTECT,
        "server max protocol"
        | "server min protocol"
        | "client max protocol"
        | "client min protocol"
        | "client ipc max protocol"
        | "client ipc min protocol" => &[&["SMB3", "SMB3_11"], &["SMB2", "SMB2_10"], &["COREPLUS", "CORE+"]],
        "server role" => &[
            &["standalone server", "standalone"],
            &["member server", "member"],
            &["active directory domain controller", "domain controller", "dc"],
        ],
        "client use kerberos" => &[&["desired", "auto"], &["yes", "required"], &["no", "disabled", "off"]],
        "allow dns updates" => &[
            &["disabled", "no", "false", "0", "off"],
            &["nonsecure and secure", "nonsecure"],
            &["secure only", "secure", "signed"],
        ],
        "kerberos method" => &[&["default", "secrets only"]],
        "ldap server require strong auth" => &[&["no", "false", "0"], &["yes", "true", "1"]],
        "ldap ssl" => &[&["no", "off"], &["start tls", "start_tls"]],
        "ldap passwd sync" => &[&["no", "off"], &["yes", "on"]],
        "map readonly" => &[&["no", "false", "0"], &["yes", "true", "1"], &["permissions", "perms"]],
        "inherit owner" => &[&["windows and unix", "yes"]],
        "mangled names" => &[&["no", "false", "0"], &["yes", "true", "1"]],
        "ntlm auth" => &[&["ntlmv2-only", "no", "false", "0"], &["ntlmv1-permitted", "yes", "true", "1"]],
        "debug syslog format" => &[&["no", "false", "0"], &["in_logs", "yes", "true", "1"]],
        _ => AUTO,
    }
}

// Sorted by the name without blanks. Where 4.17 and a later one differ the older kind of value, and the older name, is given.
#[rustfmt::skip]
const PARAMETERS: &[(&str, Class, Type)] = &[
    ("-valid", Share, Bool),
    ("abort shutdown script", Global, Text),
    ("access based share enum", Share, Bool),
    ("acl allow execute always", Share, Bool),
    ("acl check permissions", Share, Bool),
    ("acl claims evaluation", Global, Enum),
    ("acl flag inherited canonicalization", Share, Bool),
    ("acl group control", Share, Bool),
    ("acl map full control", Share, Bool),
    ("ad dc functional level", Global, Enum),
    ("add group script", Global, Text),
    ("additional dns hostnames", Global, List),
    ("add machine script", Global, Text),
    ("addport command", Global, Text),
    ("addprinter command", Global, Text),
    ("add share command", Global, Text),
    ("add user script", Global, Text),
    ("add user to group script", Global, Text),
    ("administrative share", Share, Bool),
    ("admin users", Share, List),
    ("afs share", Share, Bool),
    ("afs token lifetime", Global, Integer),
    ("afs username map", Global, Text),
    ("aio max threads", Global, Integer),
    ("aio read size", Share, Bytes),
    ("aio write behind", Share, Text),
    ("aio write size", Share, Bytes),
    ("algorithmic rid base", Global, Integer),
    ("allocation roundup size", Share, Bytes),
    ("allow dcerpc auth level connect", Global, Bool),
    ("allow dns updates", Global, Enum),
    ("allow insecure wide links", Global, Bool),
    ("allow nt4 crypto", Global, Bool),
    ("allow trusted domains", Global, Bool),
    ("allow unsafe cluster upgrade", Global, Bool),
    ("apply group policies", Global, Bool),
    ("async dns timeout", Global, Integer),
    ("async smb echo handler", Global, Bool),
    ("auth event notification", Global, Bool),
    ("automount fs types", Global, List),
    ("auto services", Global, Text),
    ("available", Share, Bool),
    ("binddns dir", Global, Text),
    ("bind interfaces only", Global, Bool),
    ("blocking locks", Share, Bool),
    ("block size", Share, Bytes),
    ("browseable", Share, Bool),
    ("browse list", Global, Bool),
    ("cache directory", Global, Text),
    ("case sensitive", Share, Enum),
    ("certificate backdating compensation", Global, Integer),
    ("change notify", Global, Bool),
    ("change share command", Global, Text),
    ("check parent directory delete on close", Share, Bool),
    ("check password script", Global, Text),
    ("cldap port", Global, Integer),
    ("client ipc max protocol", Global, Enum),
    ("client ipc min protocol", Global, Enum),
    ("client ipc signing", Global, Enum),
    ("client lanman auth", Global, Bool),
    ("client ldap sasl wrapping", Global, Enum),
    ("client max protocol", Global, Enum),
    ("client min protocol", Global, Enum),
    ("client netlogon ping protocol", Global, Enum),
    ("client NTLMv2 auth", Global, Bool),
    ("client plaintext auth", Global, Bool),
    ("client protection", Global, Enum),
    ("client schannel", Global, Enum),
    ("client signing", Global, Enum),
    ("client smb3 encryption algorithms", Global, List),
    ("client smb3 signing algorithms", Global, List),
    ("client smb encrypt", Global, Enum),
    ("client smb encryption over quic", Global, Bool),
    ("client smb transports", Global, List),
    ("client use kerberos", Global, Enum),
    ("client use krb5 netlogon", Global, Enum),
    ("client use spnego", Global, Bool),
    ("client use spnego principal", Global, Bool),
    ("cluster addresses", Global, List),
    ("clustering", Global, Bool),
    ("comment", Share, Text),
    ("config backend", Global, Enum),
    ("config file", Global, Text),
    ("copy", Share, Text),
    ("create krb5 conf", Global, Bool),
    ("create mask", Share, Octal),
    ("csc policy", Share, Enum),
    ("ctdbd socket", Global, Text),
    ("ctdb locktime warn threshold", Global, Integer),
    ("ctdb timeout", Global, Integer),
    ("cups connection timeout", Global, Integer),
    ("cups encrypt", Global, Enum),
    ("cups options", Share, Text),
    ("cups server", Global, Text),
    ("dcerpc endpoint servers", Global, List),
    ("deadtime", Global, Integer),
    ("debug class", Global, Bool),
    ("debug encryption", Global, Bool),
    ("debug hires timestamp", Global, Bool),
    ("debug pid", Global, Bool),
    ("debug prefix timestamp", Global, Bool),
    ("debug syslog format", Global, Bool),
    ("debug uid", Global, Bool),
    ("dedicated keytab file", Global, Text),
    ("default case", Share, Enum),
    ("default devmode", Share, Bool),
    ("default service", Global, Text),
    ("defer sharing violations", Global, Bool),
    ("delete group script", Global, Text),
    ("deleteprinter command", Global, Text),
    ("delete readonly", Share, Bool),
    ("delete share command", Global, Text),
    ("delete user from group script", Global, Text),
    ("delete user script", Global, Text),
    ("delete veto files", Share, Bool),
    ("dfree cache time", Share, Integer),
    ("dfree command", Share, Text),
    ("dgram port", Global, Integer),
    ("directory mask", Share, Octal),
    ("directory name cache size", Share, Integer),
    ("directory security mask", Share, Text),
    ("disable netbios", Global, Bool),
    ("disable spoolss", Global, Bool),
    ("dmapi support", Share, Bool),
    ("dns forwarder", Global, List),
    ("dns hostname", Global, Text),
    ("dns port", Global, Integer),
    ("dns proxy", Global, Bool),
    ("dns update command", Global, List),
    ("dns zone scavenging", Global, Bool),
    ("dns zone transfer clients allow", Global, List),
    ("dns zone transfer clients deny", Global, List),
    ("domain logons", Global, Bool),
    ("domain master", Global, Enum),
    ("dont descend", Share, Text),
    ("dos charset", Global, Text),
    ("dos filemode", Share, Bool),
    ("dos filetime resolution", Share, Bool),
    ("dos filetimes", Share, Bool),
    ("dsdb event notification", Global, Bool),
    ("dsdb group change notification", Global, Bool),
    ("dsdb password event notification", Global, Bool),
    ("durable handles", Share, Bool),
    ("ea support", Share, Bool),
    ("enable asu support", Global, Bool),
    ("enable core files", Global, Bool),
    ("enable privileges", Global, Bool),
    ("encrypt passwords", Global, Bool),
    ("enhanced browsing", Global, Bool),
    ("enumports command", Global, Text),
    ("eventlog list", Global, List),
    ("fake directory create times", Share, Bool),
    ("fake oplocks", Share, Bool),
    ("follow symlinks", Share, Bool),
    ("force create mode", Share, Octal),
    ("force directory mode", Share, Octal),
    ("force directory security mode", Share, Text),
    ("force group", Share, Text),
    ("force printername", Share, Bool),
    ("force security mode", Share, Text),
    ("force unknown acl user", Share, Bool),
    ("force user", Share, Text),
    ("fstype", Share, Text),
    ("get quota command", Global, Text),
    ("getwd cache", Global, Bool),
    ("gpo update command", Global, List),
    ("guest account", Global, Text),
    ("guest ok", Share, Bool),
    ("guest only", Share, Bool),
    ("hide dot files", Share, Bool),
    ("hide files", Share, Text),
    ("hide new files timeout", Share, Integer),
    ("hide special files", Share, Bool),
    ("hide unreadable", Share, Bool),
    ("hide unwriteable files", Share, Bool),
    ("himmelblaud hello enabled", Global, Bool),
    ("himmelblaud hsm pin path", Global, Text),
    ("himmelblaud sfa fallback", Global, Bool),
    ("honor change notify privilege", Share, Bool),
    ("host msdfs", Global, Bool),
    ("hostname lookups", Global, Bool),
    ("hosts allow", Share, List),
    ("hosts deny", Share, List),
    ("idmap backend", Global, Text),
    ("idmap cache time", Global, Integer),
    ("idmap gid", Global, Text),
    ("idmap negative cache time", Global, Integer),
    ("idmap uid", Global, Text),
    ("include", Share, Text),
    ("include system krb5 conf", Global, Bool),
    ("inherit acls", Share, Bool),
    ("inherit owner", Share, Enum),
    ("inherit permissions", Share, Bool),
    ("init logon delay", Global, Integer),
    ("init logon delayed hosts", Global, List),
    ("interfaces", Global, List),
    ("invalid users", Share, List),
    ("iprint server", Global, Text),
    ("kdc always include pac", Global, Bool),
    ("kdc default domain supported enctypes", Global, Text),
    ("kdc enable fast", Global, Bool),
    ("kdc force enable rc4 weak session keys", Global, Bool),
    ("kdc name match implicit dollar without canonicalization", Global, Bool),
    ("kdc require canonicalization", Global, Bool),
    ("kdc supported enctypes", Global, Text),
    ("keepalive", Global, Integer),
    ("kerberos encryption types", Global, Enum),
    ("kerberos method", Global, Enum),
    ("kernel change notify", Global, Bool),
    ("kernel oplocks", Share, Bool),
    ("kernel share modes", Share, Bool),
    ("kpasswd port", Global, Integer),
    ("krb5 acceptor report canonical client name", Global, Bool),
    ("krb5 port", Global, Integer),
    ("lanman auth", Global, Bool),
    ("large readwrite", Global, Bool),
    ("ldap admin dn", Global, Text),
    ("ldap connection timeout", Global, Integer),
    ("ldap debug level", Global, Integer),
    ("ldap debug threshold", Global, Integer),
    ("ldap delete dn", Global, Bool),
    ("ldap deref", Global, Enum),
    ("ldap follow referral", Global, Enum),
    ("ldap group suffix", Global, Text),
    ("ldap idmap suffix", Global, Text),
    ("ldap machine suffix", Global, Text),
    ("ldap max anonymous request size", Global, Integer),
    ("ldap max authenticated request size", Global, Integer),
    ("ldap max search request size", Global, Integer),
    ("ldap page size", Global, Integer),
    ("ldap passwd sync", Global, Enum),
    ("ldap replication sleep", Global, Integer),
    ("ldap server require strong auth", Global, Enum),
    ("ldap ssl", Global, Enum),
    ("ldap suffix", Global, Text),
    ("ldap timeout", Global, Integer),
    ("ldap user suffix", Global, Text),
    ("level2 oplocks", Share, Bool),
    ("lm announce", Global, Enum),
    ("lm interval", Global, Integer),
    ("load printers", Global, Bool),
    ("local master", Global, Bool),
    ("lock directory", Global, Text),
    ("locking", Share, Bool),
    ("lock spin time", Global, Integer),
    ("log file", Global, Text),
    ("logging", Global, Text),
    ("log level", Global, Text),
    ("log nt token command", Global, Text),
    ("logon drive", Global, Text),
    ("logon home", Global, Text),
    ("logon path", Global, Text),
    ("logon script", Global, Text),
    ("log writeable files on exit", Global, Bool),
    ("lppause command", Share, Text),
    ("lpq cache time", Global, Integer),
    ("lpq command", Share, Text),
    ("lpresume command", Share, Text),
    ("lprm command", Share, Text),
    ("lsa over netlogon", Global, Bool),
    ("machine password timeout", Global, Integer),
    ("magic output", Share, Text),
    ("magic script", Share, Text),
    ("mangled names", Share, Enum),
    ("mangle prefix", Global, Integer),
    ("mangling char", Share, Text),
    ("mangling method", Global, Text),
    ("map acl inherit", Share, Bool),
    ("map archive", Share, Bool),
    ("map hidden", Share, Bool),
    ("map readonly", Share, Enum),
    ("map system", Share, Bool),
    ("map to guest", Global, Enum),
    ("max connections", Share, Integer),
    ("max disk size", Global, Bytes),
    ("max log size", Global, Bytes),
    ("max mux", Global, Integer),
    ("max open files", Global, Integer),
    ("max print jobs", Share, Integer),
    ("max reported print jobs", Share, Integer),
    ("max smbd processes", Global, Integer),
    ("max stat cache size", Global, Integer),
    ("max ttl", Global, Integer),
    ("max wins ttl", Global, Integer),
    ("max xmit", Global, Bytes),
    ("mdns name", Global, Enum),
    ("message command", Global, Text),
    ("min domain uid", Global, Integer),
    ("min print space", Share, Integer),
    ("min receivefile size", Global, Bytes),
    ("min wins ttl", Global, Integer),
    ("mit kdc command", Global, List),
    ("msdfs proxy", Share, Text),
    ("msdfs root", Share, Bool),
    ("msdfs shuffle referrals", Share, Bool),
    ("multicast dns register", Global, Bool),
    ("name cache timeout", Global, Integer),
    ("name resolve order", Global, List),
    ("nbt client socket address", Global, Text),
    ("nbt port", Global, Integer),
    ("ncalrpc dir", Global, Text),
    ("netbios aliases", Global, List),
    ("netbios name", Global, Upper),
    ("netbios scope", Global, Upper),
    ("neutralize nt4 emulation", Global, Bool),
    ("nmbd bind explicit broadcast", Global, Bool),
    ("nsupdate command", Global, List),
    ("nt acl support", Share, Bool),
    ("nt hash store", Global, Enum),
    ("ntlm auth", Global, Enum),
    ("nt pipe support", Global, Bool),
    ("ntp signd socket directory", Global, Text),
    ("nt status support", Global, Bool),
    ("ntvfs handler", Share, List),
    ("null passwords", Global, Bool),
    ("obey pam restrictions", Global, Bool),
    ("old password allowed period", Global, Integer),
    ("oplock break wait time", Global, Integer),
    ("oplocks", Share, Bool),
    ("os2 driver map", Global, Text),
    ("os level", Global, Integer),
    ("pam password change", Global, Bool),
    ("panic action", Global, Text),
    ("passdb backend", Global, Text),
    ("passdb expand explicit", Global, Bool),
    ("passwd chat", Global, Text),
    ("passwd chat debug", Global, Bool),
    ("passwd chat timeout", Global, Integer),
    ("passwd program", Global, Text),
    ("password hash gpg key ids", Global, List),
    ("password hash userPassword schemes", Global, List),
    ("password server", Global, Text),
    ("path", Share, Text),
    ("perfcount module", Global, Text),
    ("pid directory", Global, Text),
    ("posix locking", Share, Bool),
    ("postexec", Share, Text),
    ("preexec", Share, Text),
    ("preexec close", Share, Bool),
    ("preferred master", Global, Enum),
    ("prefork backoff increment", Global, Integer),
    ("prefork children", Global, Integer),
    ("prefork maximum backoff", Global, Integer),
    ("preload modules", Global, List),
    ("preserve case", Share, Bool),
    ("printable", Share, Bool),
    ("printcap cache time", Global, Integer),
    ("printcap name", Global, Text),
    ("print command", Share, Text),
    ("printer name", Share, Text),
    ("printing", Share, Enum),
    ("printjob username", Share, Text),
    ("print notify backchannel", Share, Bool),
    ("private dir", Global, Text),
    ("queuepause command", Share, Text),
    ("queueresume command", Share, Text),
    ("raw NTLMv2 auth", Global, Bool),
    ("read list", Share, List),
    ("read only", Share, Bool),
    ("read raw", Global, Bool),
    ("realm", Global, Text),
    ("registry shares", Global, Bool),
    ("reject aes netlogon servers", Global, Bool),
    ("reject md5 clients", Global, Bool),
    ("reject md5 servers", Global, Bool),
    ("remote announce", Global, Text),
    ("remote browse sync", Global, Text),
    ("rename user script", Global, Text),
    ("require strong key", Global, Bool),
    ("reset on zero vc", Global, Bool),
    ("restrict anonymous", Global, Integer),
    ("root directory", Global, Text),
    ("root postexec", Share, Text),
    ("root preexec", Share, Text),
    ("root preexec close", Share, Bool),
    ("rpc big endian", Global, Bool),
    ("rpc server dynamic port range", Global, Text),
    ("rpc server port", Global, Integer),
    ("rpc start on demand helpers", Global, Bool),
    ("samba kcc command", Global, List),
    ("security", Global, Enum),
    ("security mask", Share, Text),
    ("server addresses", Share, List),
    ("server max protocol", Global, Enum),
    ("server min protocol", Global, Enum),
    ("server multi channel support", Global, Bool),
    ("server reject aes schannel", Global, Bool),
    ("server role", Global, Enum),
    ("server schannel", Global, Enum),
    ("server schannel require seal", Global, Bool),
    ("server services", Global, List),
    ("server signing", Global, Enum),
    ("server smb3 encryption algorithms", Global, List),
    ("server smb3 signing algorithms", Global, List),
    ("server smb encrypt", Share, Enum),
    ("server smb encryption over quic", Global, Bool),
    ("server string", Global, Text),
    ("server support krb5 netlogon", Global, Bool),
    ("set primary group script", Global, Text),
    ("set quota command", Global, Text),
    ("short preserve case", Share, Bool),
    ("show add printer wizard", Global, Bool),
    ("shutdown script", Global, Text),
    ("smb1 unix extensions", Global, Bool),
    ("smb2 disable lock sequence checking", Global, Bool),
    ("smb2 disable oplock break retry", Global, Bool),
    ("smb2 leases", Global, Bool),
    ("smb2 max credits", Global, Integer),
    ("smb2 max read", Global, Bytes),
    ("smb2 max trans", Global, Bytes),
    ("smb2 max write", Global, Bytes),
    ("smb3 directory leases", Global, Enum),
    ("smb3 unix extensions", Share, Bool),
    ("smbd async dosmode", Share, Bool),
    ("smbd force process locks", Share, Bool),
    ("smbd getinfo ask sharemode", Share, Bool),
    ("smbd max async dosmode", Share, Integer),
    ("smbd max xattr size", Share, Integer),
    ("smbd profiling level", Global, Enum),
    ("smbd profiling share", Share, Bool),
    ("smbd search ask sharemode", Share, Bool),
    ("smb passwd file", Global, Text),
    ("smb ports", Global, List),
    ("socket options", Global, Text),
    ("spn update command", Global, List),
    ("spotlight", Share, Bool),
    ("spotlight backend", Share, Enum),
    ("stat cache", Global, Bool),
    ("state directory", Global, Text),
    ("store dos attributes", Share, Bool),
    ("strict allocate", Share, Bool),
    ("strict locking", Share, Enum),
    ("strict rename", Share, Bool),
    ("strict sync", Share, Bool),
    ("strong certificate binding enforcement", Global, Enum),
    ("svcctl list", Global, List),
    ("sync always", Share, Bool),
    ("sync machine password script", Global, Text),
    ("sync machine password to keytab", Global, List),
    ("syslog", Global, Integer),
    ("syslog only", Global, Bool),
    ("template homedir", Global, Text),
    ("template shell", Global, Text),
    ("time server", Global, Bool),
    ("timestamp logs", Global, Bool),
    ("tls ca directories", Global, List),
    ("tls cafile", Global, Text),
    ("tls certfile", Global, Text),
    ("tls crlfile", Global, Text),
    ("tls dh params file", Global, Text),
    ("tls enabled", Global, Bool),
    ("tls keyfile", Global, Text),
    ("tls priority", Global, Text),
    ("tls trust system cas", Global, Bool),
    ("tls verify peer", Global, Enum),
    ("unicode", Global, Bool),
    ("unix charset", Global, Text),
    ("unix password sync", Global, Bool),
    ("use client driver", Share, Bool),
    ("use mmap", Global, Bool),
    ("username level", Global, Integer),
    ("username map", Global, Text),
    ("username map cache time", Global, Integer),
    ("username map script", Global, Text),
    ("usershare allow guests", Global, Bool),
    ("usershare max shares", Global, Integer),
    ("usershare owner only", Global, Bool),
    ("usershare path", Global, Text),
    ("usershare prefix allow list", Global, List),
    ("usershare prefix deny list", Global, List),
    ("usershare template share", Global, Text),
    ("use sendfile", Share, Bool),
    ("utmp", Global, Bool),
    ("utmp directory", Global, Text),
    ("valid users", Share, List),
    ("veto files", Share, Text),
    ("veto oplock files", Share, Text),
    ("vfs mkdir use tmp name", Share, Enum),
    ("vfs objects", Share, List),
    ("volume", Share, Text),
    ("volume serial number", Share, Integer),
    ("wide links", Share, Bool),
    ("winbind cache time", Global, Integer),
    ("winbind debug traceid", Global, Bool),
    ("winbindd socket directory", Global, Text),
    ("winbind enum groups", Global, Bool),
    ("winbind enum users", Global, Bool),
    ("winbind expand groups", Global, Integer),
    ("winbind max clients", Global, Integer),
    ("winbind max domain connections", Global, Integer),
    ("winbind nested groups", Global, Bool),
    ("winbind normalize names", Global, Bool),
    ("winbind nss info", Global, List),
    ("winbind offline logon", Global, Bool),
    ("winbind reconnect delay", Global, Integer),
    ("winbind refresh tickets", Global, Bool),
    ("winbind request timeout", Global, Integer),
    ("winbind rpc only", Global, Bool),
    ("winbind scan trusted domains", Global, Bool),
    ("winbind sealed pipes", Global, Bool),
    ("winbind separator", Global, Text),
    ("winbind use default domain", Global, Bool),
    ("winbind use krb5 enterprise principals", Global, Bool),
    ("winbind varlink service", Global, Bool),
    ("wins hook", Global, Text),
    ("wins proxy", Global, Bool),
    ("wins server", Global, List),
    ("wins support", Global, Bool),
    ("workgroup", Global, Upper),
    ("write list", Share, List),
    ("write raw", Global, Bool),
    ("wsp property file", Global, Text),
    ("wtmp directory", Global, Text),
];

#[rustfmt::skip]
const SYNONYMS: &[(&str, &str, bool)] = &[
    ("allow hosts", "hosts allow", false),
    ("bind dns directory", "binddns dir", false),
    ("browsable", "browseable", false),
    ("casesignames", "case sensitive", false),
    ("create mode", "create mask", false),
    ("debuglevel", "log level", false),
    ("debug timestamp", "timestamp logs", false),
    ("default", "default service", false),
    ("deny hosts", "hosts deny", false),
    ("directory", "path", false),
    ("directory mode", "directory mask", false),
    ("enable spoolss", "disable spoolss", true),
    ("exec", "preexec", false),
    ("group", "force group", false),
    ("ldap password sync", "ldap passwd sync", false),
    ("lock dir", "lock directory", false),
    ("max protocol", "server max protocol", false),
    ("min protocol", "server min protocol", false),
    ("only guest", "guest only", false),
    ("prefered master", "preferred master", false),
    ("preload", "auto services", false),
    ("printcap", "printcap name", false),
    ("printer", "printer name", false),
    ("print ok", "printable", false),
    ("private directory", "private dir", false),
    ("protocol", "server max protocol", false),
    ("public", "guest ok", false),
    ("root", "root directory", false),
    ("root dir", "root directory", false),
    ("server smb transports", "smb ports", false),
    ("smb encrypt", "server smb encrypt", false),
    ("socket address", "nbt client socket address", false),
    ("unix extensions", "smb1 unix extensions", false),
    ("vfs object", "vfs objects", false),
    ("winbind gid", "idmap gid", false),
    ("winbind uid", "idmap uid", false),
    ("writable", "read only", true),
    ("writeable", "read only", true),
    ("write ok", "read only", true),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_tables_are_sorted_and_synonyms_lead_to_a_parameter() {
        assert!(PARAMETERS.windows(2).all(|w| compare(w[0].0, w[1].0) == Ordering::Less));
        assert!(SYNONYMS.windows(2).all(|w| compare(w[0].0, w[1].0) == Ordering::Less));
        for (label, canonical, inverted) in SYNONYMS {
            let (name, _, kind) = entry(canonical).unwrap_or_else(|| panic!("{label} -> {canonical}"));
            assert_eq!(name, canonical);
            assert!(entry(label).is_none(), "{label} is both");
            assert!(!inverted || *kind == Bool, "{label}");
        }
    }

    #[test]
    fn names_are_compared_as_samba_does() {
        assert_eq!(key("Read Only"), Key { name: "read only".into(), inverted: false });
        assert_eq!(key("READONLY"), key("read only"));
        for s in ["writeable", "writable", "write ok", "WriteOk"] {
            assert_eq!(key(s), Key { name: "read only".into(), inverted: true });
        }
        for (other, name) in [
            ("public", "guest ok"),
            ("browsable", "browseable"),
            ("directory", "path"),
            ("group", "force group"),
            ("smb encrypt", "server smb encrypt"),
            ("min protocol", "server min protocol"),
            ("protocol", "server max protocol"),
            ("max protocol", "server max protocol"),
            ("allow hosts", "hosts allow"),
            ("deny hosts", "hosts deny"),
            ("create mode", "create mask"),
            ("directory mode", "directory mask"),
            ("print ok", "printable"),
            ("exec", "preexec"),
            ("default", "default service"),
            ("vfs object", "vfs objects"),
            ("lock dir", "lock directory"),
            ("only guest", "guest only"),
            ("casesignames", "case sensitive"),
        ] {
            assert_eq!(key(other), Key { name: name.into(), inverted: false });
        }
        assert_eq!(key("Fruit : Model").name, "fruit:model");
        assert!(is_unknown("foo bar") && !is_unknown("fruit:model") && !is_unknown("pa th"));
        assert_eq!(lookup("public"), Some((Share, Bool)));
    }

    #[test]
    fn values_are_compared_by_meaning() {
        for (p, a, b) in [
            ("read only", "Yes", "true"),
            ("guest ok", "0", "oFF"),
            ("create mask", "0660", "660"),
            ("server signing", "mandatory", "required"),
            ("server signing", "auto", "yes"),
            ("smb encrypt", "desired", "Desired"),
            ("server min protocol", "SMB3", "smb3_11"),
            ("map to guest", "bad user", "Bad User"),
            ("ntlm auth", "no", "ntlmv2-only"),
            ("valid users", "anna, \"@x y\"", "anna \"@x y\""),
            ("path", "\"/srv/a b\"", "/srv/a b"),
            ("max log size", "0x10", "16"),
            ("server role", "standalone", "STANDALONE SERVER"),
            ("workgroup", "office", "OFFICE"),
            ("min receivefile size", "1M", "1048576"),
            ("fruit:aapl", "yes", "true"),
            ("case sensitive", "False", "no"),
        ] {
            assert!(same_value(p, a, b), "{p}: {a} = {b}");
            assert!(same_value(p, b, a), "{p}: {b} = {a}");
        }
        for (p, a, b) in [
            ("read only", "yes", "no"),
            ("read only", "maybe", "Maybe"),
            ("create mask", "0660", "0600"),
            ("server signing", "desired", "required"),
            ("server min protocol", "SMB3", "SMB3_00"),
            ("valid users", "anna bob", "bob anna"),
            ("path", "/srv/A", "/srv/a"),
            ("case sensitive", "auto", "yes"),
            ("fruit:model", "MacSamba", "macsamba"),
        ] {
            assert!(!same_value(p, a, b), "{p}: {a} = {b}");
        }
    }

    #[test]
    fn lists_are_split_as_samba_does() {
        assert_eq!(parse_list("anna, \"a b\"  \"@x y\";z"), ["anna", "a b", "@x y", "z"]);
        assert_eq!(parse_list("@\"EX\\Domain Users\" b"), ["@EX\\Domain Users", "b"]);
        assert_eq!(parse_list("\"open end, x"), ["open end, x"]);
        assert_eq!(parse_list(" ,; "), Vec::<String>::new());
        assert_eq!(parse_list("a \"\" b"), ["a", "", "b"]);
    }

    proptest! {
        #[test]
        fn nothing_panics_and_equal_is_equal(p in ".{0,20}", a in ".{0,20}", b in ".{0,20}") {
            let _ = same_value(&p, &a, &b);
            let _ = same_value("min receivefile size", &a, &b);
            let _ = same_value("max log size", &a, &b);
            prop_assert!(same_value(&p, &a, &a));
            prop_assert_eq!(same_value(&p, &a, &b), same_value(&p, &b, &a));
            let _ = parse_list(&a);
            let k = key(&p);
            prop_assert_eq!(key(&k.name).name, k.name);
        }
    }
}
