// SPDX-License-Identifier: MIT OR Apache-2.0
//! `smbgw-access`: who may do what, as text and as data. It knows the format and that the strongest word wins; it must not
//! know whether the named users exist.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::types::{DomainAccount, GroupName, UserName, shorten};

/// What somebody may do in a share; later ones include the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Read.
    Ro,
    /// Read and write.
    Rw,
    /// Read, write, and change permissions (full control in Windows' words; never Samba's `admin users`).
    Full,
}

impl Level {
    /// As written in the property.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Ro => "ro",
            Level::Rw => "rw",
            Level::Full => "full",
        }
    }
}

/// A user or group: the gateway's own, or one of its domain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// A user.
    User(UserName),
    /// A group.
    Group(GroupName),
    /// A user of the domain.
    #[serde(rename = "domain-user")]
    DomainUser(DomainAccount),
    /// A group of the domain.
    #[serde(rename = "domain-group")]
    DomainGroup(DomainAccount),
}

impl Who {
    /// The account of the domain, if it is one.
    pub fn account(&self) -> Option<&DomainAccount> {
        match self {
            Who::DomainUser(a) | Who::DomainGroup(a) => Some(a),
            Who::User(_) | Who::Group(_) => None,
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::User(u) => write!(f, "{u}"),
            Who::Group(g) => write!(f, "@{g}"),
            Who::DomainUser(a) => write!(f, "{a}"),
            Who::DomainGroup(a) => write!(f, "@{a}"),
        }
    }
}

/// The whole list; each name once, with its strongest level.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access(BTreeMap<Who, Level>);

impl Access {
    /// Parses `rw:@staff,ro:anna,full:petra`: comma-separated, blanks around an entry are ignored. All complaints at once.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let mut access = Self::default();
        let mut wrong = Vec::new();
        for entry in text.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            match parse_entry(entry) {
                Ok((who, level)) => access.grant(who, level),
                Err(why) => wrong.push(why),
            }
        }
        if wrong.is_empty() { Ok(access) } else { Err(wrong) }
    }

    /// Gives `who` at least `level`.
    pub fn grant(&mut self, who: Who, level: Level) {
        let at = self.0.entry(who).or_insert(level);
        *at = (*at).max(level);
    }

    /// All entries, users before groups, each sorted by name.
    pub fn entries(&self) -> impl Iterator<Item = (&Who, Level)> {
        self.0.iter().map(|(w, l)| (w, *l))
    }

    /// Whether nobody is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether somebody may change permissions.
    pub fn has_full(&self) -> bool {
        self.0.values().any(|l| *l == Level::Full)
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (who, level)) in self.entries().enumerate() {
            write!(f, "{}{}:{who}", if i == 0 { "" } else { "," }, level.as_str())?;
        }
        Ok(())
    }
}

fn parse_entry(entry: &str) -> Result<(Who, Level), String> {
    let shown = shorten(entry);
    let Some((level, name)) = entry.split_once(':') else {
        return Err(format!("{shown:?} has no level; write ro:NAME, rw:NAME or full:NAME"));
    };
    let level = match level.trim() {
        "ro" => Level::Ro,
        "rw" => Level::Rw,
        "full" => Level::Full,
        _ => return Err(format!("{shown:?} must start with ro:, rw: or full:")),
    };
    let name = name.trim();
    if name.contains('\\') {
        return match name.strip_prefix('@') {
            Some(group) => DomainAccount::parse(group).map(|a| (Who::DomainGroup(a), level)),
            None => DomainAccount::parse(name).map(|a| (Who::DomainUser(a), level)),
        }
        .map_err(|e| e.to_string());
    }
    match name.strip_prefix('@') {
        Some(group) => GroupName::new(group).map(|g| (Who::Group(g), level)),
        None => UserName::new(name).map(|u| (Who::User(u), level)),
    }
    .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn strongest_level_wins_and_order_is_stable() {
        let a = Access::parse(" rw:@staff, ro:anna ,full:petra,rw:anna").expect("valid");
        assert_eq!(a.to_string(), "rw:anna,full:petra,rw:@staff");
        assert!(a.has_full());
    }

    #[test]
    fn all_complaints_at_once() {
        let e = Access::parse("anna,xx:ben,rw:B@d,rw:EXAMPLE\\,ro:ok").expect_err("four are wrong");
        assert_eq!(e.len(), 4, "{e:?}");
    }

    #[test]
    fn accounts_of_a_domain() {
        let a = Access::parse("rw:@example\\Domain Users, full:EXAMPLE\\petra,ro:anna").expect("valid");
        assert_eq!(a.to_string(), "ro:anna,full:EXAMPLE\\petra,rw:@EXAMPLE\\Domain Users");
        assert_eq!(Access::parse(&a.to_string()).expect("own output"), a);
    }

    proptest! {
        #[test]
        fn printed_lists_parse_to_themselves(s in "((ro|rw|full):@?[a-z][a-z0-9]{0,5},?){0,6}") {
            if let Ok(a) = Access::parse(&s) {
                prop_assert_eq!(Access::parse(&a.to_string()).expect("own output"), a);
            }
        }

        #[test]
        fn hostile_text_never_panics(s in "\\PC{0,200}") {
            let _ = Access::parse(&s);
        }
    }
}
