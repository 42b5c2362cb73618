// SPDX-License-Identifier: MIT OR Apache-2.0
//! `krb5.conf` of MIT Kerberos for a machine that is ours alone (a gateway): written whole, never changed. It knows what a member of one domain
//! needs. Encryption types are left to the library, whose default are the strong ones: a list here would be out of date first.

use super::{FormatError, show};

/// The first line; a file without it is not ours.
pub const MARK: &str = "# smbgw: managed";

/// What the file has to say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Krb5Conf {
    /// The realm: `EXAMPLE.TEST`. Written in capitals.
    pub realm: String,
    /// The DNS domain whose hosts belong to it: `example.test`. Written in small letters.
    pub dns_domain: String,
    /// Domain controllers to use instead of what DNS says: names or addresses, each with `:PORT` if need be (an IPv6 address in brackets
    /// then). Empty: DNS tells.
    pub kdcs: Vec<String>,
}

fn part(what: &str, text: &str, more: &[u8]) -> Result<(), FormatError> {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_') || more.contains(&b);
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || (b == b'[' || b == b':') && more.contains(&b));
    if !first || !text.bytes().all(fine) {
        return Err(FormatError::unprintable(
            format!("{what} {}", show(text)),
            "it has a character that krb5.conf gives a meaning to",
        ));
    }
    Ok(())
}

/// Writes the file.
pub fn print(conf: &Krb5Conf) -> Result<String, FormatError> {
    part("realm", &conf.realm, &[])?;
    part("domain", &conf.dns_domain, &[])?;
    for kdc in &conf.kdcs {
        part("domain controller", kdc, b":[]")?;
    }
    let (realm, domain) = (conf.realm.to_ascii_uppercase(), conf.dns_domain.to_ascii_lowercase());
    let mut out = format!(
        "{MARK}\n\
         [libdefaults]\n\
         \tdefault_realm = {realm}\n\
         \tdns_lookup_realm = false\n\
         \tdns_lookup_kdc = true\n\
         \trdns = false\n\
         \tticket_lifetime = 10h\n\
         \trenew_lifetime = 7d\n"
    );
    if !conf.kdcs.is_empty() {
        out += &format!("\n[realms]\n\t{realm} = {{\n");
        for kdc in &conf.kdcs {
            out += &format!("\t\tkdc = {kdc}\n");
        }
        out += "\t}\n";
    }
    out += &format!("\n[domain_realm]\n\t{domain} = {realm}\n\t.{domain} = {realm}\n");
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn conf(kdcs: &[&str]) -> Krb5Conf {
        let kdcs = kdcs.iter().map(|k| (*k).to_owned()).collect();
        Krb5Conf { realm: "EXAMPLE.TEST".into(), dns_domain: "Example.test".into(), kdcs }
    }

    #[test]
    fn with_and_without_named_controllers() {
        let text = print(&conf(&[])).expect("harmless");
        let expected = "# smbgw: managed\n[libdefaults]\n\tdefault_realm = EXAMPLE.TEST\n\tdns_lookup_realm = false\n\tdns_lookup_kdc = true\n\
                        \trdns = false\n\tticket_lifetime = 10h\n\trenew_lifetime = 7d\n\n[domain_realm]\n\texample.test = EXAMPLE.TEST\n\
                        \t.example.test = EXAMPLE.TEST\n";
        assert_eq!(text, expected);
        let text = print(&conf(&["dc1.example.test", "10.0.0.1:88", "[2001:db8::1]:88", "::1"])).expect("harmless");
        assert!(text.contains("[realms]\n\tEXAMPLE.TEST = {\n\t\tkdc = dc1.example.test\n\t\tkdc = 10.0.0.1:88\n"), "{text}");
        assert!(text.contains("\t\tkdc = ::1\n\t}\n\n[domain_realm]"), "{text}");
    }

    #[test]
    fn nothing_with_a_meaning_of_its_own() {
        for bad in ["", "A\nB", "A B", "A{", "}", "#A", "A;", "A=B", "[x]", "-A", "Ä", "A\0", "A\t"] {
            assert!(print(&Krb5Conf { realm: bad.into(), ..conf(&[]) }).is_err(), "{bad:?}");
            assert!(print(&Krb5Conf { dns_domain: bad.into(), ..conf(&[]) }).is_err(), "{bad:?}");
        }
        for bad in ["", "dc1\n", "dc1 dc2", "-dc1", "}", "/etc"] {
            assert!(print(&conf(&[bad])).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_value_stays_on_its_line(realm in any::<String>(), kdc in "[ -~\\n]{0,8}") {
            let lines = |c: &Krb5Conf| print(c).map(|t| t.lines().count());
            if let Ok(n) = lines(&Krb5Conf { realm, ..conf(&[]) }) {
                prop_assert_eq!(n, 12);
            }
            if let Ok(n) = lines(&conf(&[&kdc])) {
                prop_assert_eq!(n, 17);
            }
        }
    }
}
