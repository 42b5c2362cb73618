// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `net ads info`, `lookup`, `search` and `testjoin` print on stdout. It knows the lines of 4.17 (fixtures) to 4.22; why a call
//! failed is in [`super::ad_error`], and what the values are good for it must not know. All of it comes from a domain controller that
//! answered without proof of who it is: hints, not facts.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// `net ads info`: which domain controller answers, and how far its clock is from ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info {
    /// Address of the domain controller.
    pub server: Option<IpAddr>,
    /// Its name.
    pub server_name: Option<String>,
    /// The realm, in capitals.
    pub realm: Option<String>,
    /// The top of the directory: `dc=EXAMPLE,dc=TEST`.
    pub bind_path: Option<String>,
    /// Its clock less ours, in seconds: negative where ours is ahead.
    pub offset_s: Option<i64>,
    /// When the password of our machine account was changed, as printed; `None` where we have none (the year 1970).
    pub machine_password_changed: Option<String>,
}

/// `net ads lookup`: what a domain controller says of itself and of us (CLDAP).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lookup {
    /// Address of the domain controller.
    pub address: Option<IpAddr>,
    /// DNS name of the forest.
    pub forest: Option<String>,
    /// DNS name of the domain.
    pub domain: Option<String>,
    /// DNS name of the domain controller.
    pub domain_controller: Option<String>,
    /// The domain's short name, which is the `workgroup` of a member.
    pub workgroup: Option<String>,
    /// The site it is in.
    pub server_site: Option<String>,
    /// The site we are in by our address; none where no subnet of the directory fits.
    pub client_site: Option<String>,
    /// It can be written: no read-only domain controller.
    pub is_writable: Option<bool>,
    /// All flags by the text before the colon, for example `Is a PDC`.
    pub flags: BTreeMap<String, bool>,
}

/// `Name: value`, both without blanks around.
fn pair(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    Some((name.trim(), value.trim()))
}

fn some(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

/// Reads `net ads info`.
pub fn parse_info(text: &str) -> Info {
    let mut out = Info::default();
    for (name, value) in text.lines().filter_map(pair) {
        match name {
            "LDAP server" => out.server = value.parse().ok(),
            "LDAP server name" => out.server_name = some(value),
            "Realm" => out.realm = some(value),
            "Bind Path" => out.bind_path = some(value),
            "Server time offset" => out.offset_s = value.parse().ok(),
            "Last machine account password change" => {
                out.machine_password_changed = some(value).filter(|v| !v.contains(" 1970 00:00:00"));
            }
            _ => {}
        }
    }
    out
}

/// Reads `net ads lookup`.
pub fn parse_lookup(text: &str) -> Lookup {
    let mut out = Lookup::default();
    for line in text.lines() {
        let Some((name, value)) = pair(line) else { continue };
        if line.starts_with([' ', '\t']) {
            let set = match value {
                "yes" => true,
                "no" => false,
                _ => continue,
            };
            if name == "Is writable" {
                out.is_writable = Some(set);
            }
            out.flags.insert(name.to_owned(), set);
            continue;
        }
        match name {
            "Information for Domain Controller" => out.address = value.parse().ok(),
            "Forest" => out.forest = some(value),
            "Domain" => out.domain = some(value),
            "Domain Controller" => out.domain_controller = some(value),
            "Pre-Win2k Domain" => out.workgroup = some(value),
            "Server Site Name" => out.server_site = some(value),
            "Client Site Name" => out.client_site = some(value),
            _ => {}
        }
    }
    out
}

/// An attribute's name: letters, digits, `-` and `;` (options such as `;range=0-1499` too).
fn attribute(name: &str) -> bool {
    name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b';' | b'='))
}

/// Reads `net ads search`: the entries in order, each with its attributes, spelt as printed, and their values in order. A line that begins
/// no value goes on with the one before; a value with a line `name: …` in it cannot be told from another attribute, so ask only for
/// attributes in which a user cannot write lines.
pub fn parse_search(text: &str) -> Vec<BTreeMap<String, Vec<String>>> {
    let mut out = Vec::new();
    let mut entry: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut last: Option<String> = None;
    for line in text.lines() {
        if line.trim().is_empty() {
            last = None;
            if !entry.is_empty() {
                out.push(std::mem::take(&mut entry));
            }
            continue;
        }
        if let Some((name, value)) = line.split_once(':').filter(|(n, v)| attribute(n) && (v.is_empty() || v.starts_with(' '))) {
            entry.entry(name.to_owned()).or_default().push(value.strip_prefix(' ').unwrap_or(value).to_owned());
            last = Some(name.to_owned());
        } else if let Some(value) = last.as_ref().and_then(|n| entry.get_mut(n)).and_then(|v| v.last_mut()) {
            value.push('\n');
            value.push_str(line);
        }
    }
    if !entry.is_empty() {
        out.push(entry);
    }
    out
}

/// How many replies `net ads search` announces.
pub fn announced(text: &str) -> Option<usize> {
    text.lines().find_map(|l| l.strip_prefix("Got ")?.strip_suffix(" replies")?.parse().ok())
}

/// Reads `net primarytrust dumpinfo`: the name of the computer account whose secret Samba holds, and the SID of its domain. `None`: there is
/// none.
pub fn parse_trust(text: &str) -> Option<(String, String)> {
    let value = |l: &str| l.split_once(':').map(|(n, v)| (n.trim().to_owned(), v.trim().trim_matches('\'').to_owned()));
    let pairs: Vec<(String, String)> = text.lines().filter_map(value).collect();
    let account = pairs.iter().find(|(n, v)| n == "account_name" && !v.is_empty())?.1.clone();
    let sid = pairs.iter().find(|(n, v)| n == "sid" && v.starts_with("S-1-5-21-"))?.1.clone();
    Some((account, sid))
}

/// Whether `net ads testjoin` says that the join holds.
pub fn parse_testjoin(text: &str) -> bool {
    text.lines().any(|l| l.trim() == "Join is OK")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!("../../../tests/fixtures/samba-4.17/net_ads_", $name, ".txt"))
        };
    }

    #[test]
    fn real_info() {
        let joined = parse_info(fixture!("info"));
        let expected = Info {
            server: "10.99.1.10".parse().ok(),
            server_name: Some("dc1.example.test".into()),
            realm: Some("EXAMPLE.TEST".into()),
            bind_path: Some("dc=EXAMPLE,dc=TEST".into()),
            offset_s: Some(0),
            machine_password_changed: Some("Sun, 22 Nov 2026 19:06:50 UTC".into()),
        };
        assert_eq!(joined, expected);
        assert_eq!(parse_info(fixture!("info.unjoined")), Info { machine_password_changed: None, ..expected });
        assert_eq!(parse_info(fixture!("info.clock-skew")).offset_s, Some(-600));
        assert_eq!(parse_info(fixture!("info.dc-not-found")), Info::default());
    }

    #[test]
    fn real_lookup() {
        let l = parse_lookup(fixture!("lookup"));
        assert_eq!(l.address, "10.99.1.10".parse().ok());
        assert_eq!((l.forest.as_deref(), l.domain.as_deref()), (Some("example.test"), Some("example.test")));
        assert_eq!((l.domain_controller.as_deref(), l.workgroup.as_deref()), (Some("dc1.example.test"), Some("EXAMPLE")));
        assert_eq!(l.server_site.as_deref(), Some("Default-First-Site-Name"));
        assert_eq!(l.client_site.as_deref(), Some("Default-First-Site-Name"));
        assert_eq!((l.is_writable, l.flags.len()), (Some(true), 14));
        assert!(l.flags["Is a PDC"] && !l.flags["Runs on Windows 2012 or later"]);
        assert_eq!(parse_lookup("Client Site Name:\t\t\nForest:\n"), Lookup::default());
    }

    #[test]
    fn entries() {
        let text = "Got 2 replies\n\nobjectClass: top\nobjectClass: computer\ncn: M1\ndescription: Büro: links\n\
                    servicePrincipalName: HOST/M1\nmember;range=0-1499: CN=a\ninfo: one\ntwo:three\n  four\n\n\
                    cn: M2\ndescription:\ndescription:  two blanks\n\n";
        let all = parse_search(text);
        assert_eq!((all.len(), announced(text)), (2, Some(2)));
        assert_eq!(all[0]["objectClass"], ["top", "computer"]);
        assert_eq!(all[0]["description"], ["Büro: links"]);
        assert_eq!(all[0]["member;range=0-1499"], ["CN=a"]);
        assert_eq!(all[0]["info"], ["one\ntwo:three\n  four"]);
        assert_eq!(all[1]["description"], ["", " two blanks"]);
        assert_eq!(parse_search("Got 0 replies\n\n"), []);
        assert_eq!(parse_search("cn: last").len(), 1, "no blank line at the end");
    }

    #[test]
    fn real_testjoin() {
        assert!(parse_testjoin(fixture!("testjoin.ok")));
        assert!(!parse_testjoin(fixture!("testjoin.unjoined")));
        assert!(!parse_testjoin(fixture!("testjoin.account-deleted")));
        assert!(!parse_testjoin(include_str!("../../../tests/fixtures/samba-4.17/net_ads_testjoin.unjoined.txt.stderr")));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>(), cut in 0usize..900) {
            for t in [text.as_str(), fixture!("lookup").get(..cut).unwrap_or_default()] {
                let _ = parse_info(t);
                let _ = parse_lookup(t);
                let _ = parse_testjoin(t);
                let _ = announced(t);
            }
            prop_assert!(parse_search(&text).iter().all(|e| !e.is_empty()));
        }
    }
}
