// SPDX-License-Identifier: MIT OR Apache-2.0
//! The Active Directory domain of a gateway, as its settings order it. It knows the properties and the rules that need no look at anything;
//! it must not know a domain controller, nor Samba's words for any of it.

use serde::{Deserialize, Serialize};

use super::section::{Mode, Section};
use crate::error::Problem;
use crate::types::{DnsDomain, NodeName, UserName, shorten};

/// The properties, in the order of the table.
pub const PROPERTIES: [&str; 5] = ["domain", "smbgw-ad-ou", "smbgw-idmap", "smbgw-ad-fallback", "smbgw-ad-dns"];

/// Those that cannot be changed while the gateway is in a domain, with what to do instead.
pub const FIXED: [(&str, &str); 3] = [
    ("domain", "the gateway is a member of a domain; it leaves with: pve-smbgateway ad leave"),
    ("smbgw-ad-ou", "the gateway's computer account exists; move it with the tools of the domain"),
    (
        "smbgw-idmap",
        "files and ACLs on the disk carry numbers of the range in use, and another would give them to others; it can be chosen before the gateway joins",
    ),
];

/// Numbers of accounts: first and last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

impl IdRange {
    /// Numbers of a domain's accounts unless the administrator says otherwise: the same in every gateway of a mode, since they lie on disks.
    ///
    /// In a container everything is below 65536. On a node they are above Debian's and systemd's ranges, ours, and the subordinate ids of
    /// containers (`/etc/subuid`: 100000 to 165535), which are compared with what is really there.
    pub const fn of_domain(mode: Mode) -> Self {
        match mode {
            Mode::Native => Self { first: 1_000_000, last: 1_999_999 },
            Mode::Lxc => Self { first: 10_000, last: 65_533 },
        }
    }

    /// Numbers of what is in no domain: the groups that Windows is born with.
    pub const fn of_builtin(mode: Mode) -> Self {
        match mode {
            Mode::Native => Self { first: 90_000, last: 99_999 },
            Mode::Lxc => Self { first: 3_000, last: 7_999 },
        }
    }

    /// Reads `10000-65533`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{:?} is no range of numbers like 10000-65533", shorten(text));
        let (first, last) = text.split_once('-').ok_or_else(wrong)?;
        let number = |t: &str| {
            let t = t.trim();
            (t.len() <= 10 && !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse::<u32>().ok()).flatten()
        };
        let (first, last) = (number(first).ok_or_else(wrong)?, number(last).ok_or_else(wrong)?);
        if last < first || last - first < 2_000 {
            return Err(format!(
                "{} has room for less than 2000 accounts; a domain gives its first user the number 1000",
                shorten(text)
            ));
        }
        Ok(Self { first, last })
    }

    /// Whether two ranges have a number in common.
    pub fn meets(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// How many numbers it has.
    pub fn len(self) -> u32 {
        self.last - self.first + 1
    }

    /// A range has numbers.
    pub fn is_empty(self) -> bool {
        false
    }
}

impl std::fmt::Display for IdRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// What a gateway shall be in a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DomainSpec {
    /// The domain.
    pub domain: DnsDomain,
    /// Name of the gateway's computer account: a NetBIOS name.
    pub computer: String,
    /// Where the account is made, as names of organizational units from the top, separated by `/`; `None`: the domain's own choice.
    pub ou: Option<String>,
    /// Numbers of the domain's accounts.
    pub range: IdRange,
    /// Local users who may log in while no domain controller answers.
    pub fallback: Vec<UserName>,
    /// It registers its addresses in the domain's DNS.
    pub dns: bool,
}

/// A computer's name from a host name: what Samba would take too, if it is a name that a domain accepts.
pub fn computer_name(host: &NodeName) -> Result<String, String> {
    let name = host.as_str().to_ascii_uppercase();
    if name.len() > 15 {
        return Err(format!(
            "the name {} has more than 15 characters, so it can be no computer of a domain; serve the share from a container (--smbgw-mode lxc)",
            shorten(host.as_str())
        ));
    }
    if name.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("the name {name} has digits only, and a domain accepts no such computer"));
    }
    Ok(name)
}

impl DomainSpec {
    /// Reads the settings of a gateway; every problem at once, by property. `None`: it is in no domain.
    pub fn read(host: &NodeName, mode: Mode, settings: &Section) -> (Option<Self>, Vec<Problem>) {
        let mut problems = Vec::new();
        let get = |name: &str| settings.get(name).map(String::as_str).filter(|t| !t.is_empty());
        let Some(text) = get("domain") else {
            for name in PROPERTIES.into_iter().filter(|n| *n != "domain" && get(n).is_some()) {
                problems.push(Problem::new(name, "has a meaning in a domain only; give --domain too"));
            }
            return (None, problems);
        };
        let mut keep = |name: &str, why: String| problems.push(Problem::new(name, why));
        let domain = DnsDomain::typed(text).map_err(|e| keep("domain", e.to_string())).ok();
        let computer = computer_name(host).map_err(|why| keep("domain", why)).ok();
        let ou = get("smbgw-ad-ou").and_then(|t| check_ou(t).map_err(|why| keep("smbgw-ad-ou", why)).ok());
        let mut range = IdRange::of_domain(mode);
        if let Some(t) = get("smbgw-idmap") {
            match IdRange::parse(t).and_then(|r| fits(r, mode)) {
                Ok(r) => range = r,
                Err(why) => keep("smbgw-idmap", why),
            }
        }
        let mut fallback = Vec::new();
        for name in get("smbgw-ad-fallback").unwrap_or_default().split([',', ' ', ';']).filter(|n| !n.is_empty()) {
            match UserName::new(name) {
                Ok(u) if !fallback.contains(&u) => fallback.push(u),
                Ok(_) => {}
                Err(e) => keep("smbgw-ad-fallback", e.to_string()),
            }
        }
        let dns = get("smbgw-ad-dns").is_none_or(|t| match super::section::parse_bool(t) {
            Some(b) => b,
            None => {
                keep("smbgw-ad-dns", format!("{:?} is neither yes nor no", shorten(t)));
                true
            }
        });
        let spec = domain.zip(computer).map(|(domain, computer)| Self { domain, computer, ou, range, fallback, dns });
        (spec, problems)
    }

    /// The gateway's full name in DNS.
    pub fn host(&self) -> String {
        format!("{}.{}", self.computer.to_ascii_lowercase(), self.domain)
    }

    /// The name of its account to Kerberos.
    pub fn principal(&self) -> String {
        format!("{}$@{}", self.computer, self.domain.realm())
    }
}

fn check_ou(text: &str) -> Result<String, String> {
    if text.contains('=') {
        return Err(format!(
            "{:?} looks like a distinguished name; write the names of the units from the top: Servers/Files",
            shorten(text)
        ));
    }
    let parts: Vec<&str> = text.split('/').map(str::trim).collect();
    let plain =
        |p: &&str| !p.is_empty() && p.chars().count() <= 64 && !p.chars().any(|c| c.is_control() || "\\,+\"<>;#".contains(c));
    if parts.iter().all(plain) {
        Ok(parts.join("/"))
    } else {
        Err(format!("{:?} is no path of organizational units like Servers/Files", shorten(text)))
    }
}

/// Whether a range keeps clear of what a mode needs for itself.
fn fits(range: IdRange, mode: Mode) -> Result<IdRange, String> {
    let (first, end) = super::record::numbers_of(mode);
    let ours = IdRange { first, last: end - 1 };
    for (other, what) in [(ours, "the gateway's own accounts"), (IdRange::of_builtin(mode), "groups of no domain")] {
        if range.meets(other) {
            return Err(format!("{range} meets {other}, which are the numbers of {what}"));
        }
    }
    match mode {
        Mode::Lxc if range.first < 10_000 || range.last > 65_533 => {
            Err(format!("{range} is not within 10000-65533, the numbers that a container has for a domain"))
        }
        Mode::Native if range.first < 65_536 => {
            Err(format!("{range} begins among the numbers of Debian and systemd; begin at 100000 or later"))
        }
        Mode::Native if range.last > i32::MAX as u32 => Err(format!("{range} ends above 2147483647")),
        _ => Ok(range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)], mode: Mode) -> (Option<DomainSpec>, Vec<Problem>) {
        let settings = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        DomainSpec::read(&NodeName::new("files").expect("a name"), mode, &settings)
    }

    #[test]
    fn settings_make_a_domain() {
        let (d, wrong) =
            read(&[("domain", "Example.Test"), ("smbgw-ad-ou", "Servers/Files"), ("smbgw-ad-fallback", "anna,ben")], Mode::Lxc);
        let d = d.expect("a domain");
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!((d.host().as_str(), d.principal().as_str()), ("files.example.test", "FILES$@EXAMPLE.TEST"));
        assert_eq!((d.range.first, d.fallback.len()), (10_000, 2));
        assert_eq!(read(&[], Mode::Lxc).0, None);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let (_, wrong) = read(
            &[("domain", "x"), ("smbgw-ad-ou", "OU=a,DC=b"), ("smbgw-idmap", "1-2"), ("smbgw-ad-fallback", "A b")],
            Mode::Lxc,
        );
        let names: Vec<&str> = wrong.iter().map(|p| p.property.as_str()).collect();
        assert_eq!(names, ["domain", "smbgw-ad-ou", "smbgw-idmap", "smbgw-ad-fallback"]);
        assert_eq!(read(&[("smbgw-ad-ou", "a")], Mode::Lxc).1.len(), 1);
    }

    #[test]
    fn ranges_keep_clear_of_other_numbers() {
        for (mode, text, fine) in [
            (Mode::Lxc, "10000-65533", true),
            (Mode::Lxc, "9000-20000", false),
            (Mode::Lxc, "10000-70000", false),
            (Mode::Lxc, "20000-20010", false),
            (Mode::Native, "200000-900000", true),
            (Mode::Native, "60000-90000", false),
            (Mode::Native, "70000-200000", false),
            (Mode::Native, "200000-4294967295", false),
        ] {
            assert_eq!(IdRange::parse(text).and_then(|r| fits(r, mode)).is_ok(), fine, "{mode:?} {text}");
        }
        for bad in ["", "a-b", "1000", "2000-1000", "-5-10000", "99999999999-999999999999"] {
            assert!(IdRange::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_of_computers() {
        let name = |n: &str| computer_name(&NodeName::new(n).expect("a name"));
        assert_eq!(name("pve1").as_deref(), Ok("PVE1"));
        assert!(name("a-very-long-node-name").is_err());
        assert!(name("12345").is_err());
    }
}
