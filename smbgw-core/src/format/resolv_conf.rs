// SPDX-License-Identifier: MIT OR Apache-2.0
//! `/etc/resolv.conf` as resolv.conf(5) describes it: who is asked for names. It knows `nameserver`, `search` and `domain`; options are
//! not for us.

use std::net::IpAddr;

/// The C library asks no more than these.
const MOST: usize = 3;

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// Name servers in the order in which they are asked, at most three. A link-local address with its zone (`fe80::1%eth0`) is left out:
    /// without the zone it leads nowhere.
    pub nameservers: Vec<IpAddr>,
    /// Domains that are tried behind a short name: those of the last `search` or `domain`.
    pub search: Vec<String>,
}

/// Reads the file; what it does not know it passes over.
pub fn parse(text: &str) -> ResolvConf {
    let mut out = ResolvConf::default();
    for line in text.lines().filter(|l| !l.starts_with(['#', ';'])) {
        // The C library wants the word at the beginning of the line.
        let Some((word, rest)) = line.split_once([' ', '\t']) else { continue };
        let mut values = rest.split_whitespace();
        match word {
            "nameserver" if out.nameservers.len() < MOST => {
                out.nameservers.extend(values.next().and_then(|v| v.parse::<IpAddr>().ok()));
            }
            "search" => out.search = values.map(str::to_owned).collect(),
            "domain" => out.search = values.take(1).map(str::to_owned).collect(),
            _ => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn servers_and_domains() {
        let text = "# made by hand\ndomain old.test\nsearch example.test  lab.test\nnameserver 10.99.1.10\n;nameserver 10.0.0.9\n\
                    nameserver\t fe80::1%eth0\nnameserver 2001:db8::53 # second\nnameserver nonsense\n nameserver 10.0.0.8\n\
                    options timeout:1\nnameserver 127.0.0.53\nnameserver 10.0.0.4\nnameserver";
        let all = parse(text);
        let shown: Vec<String> = all.nameservers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.99.1.10", "2001:db8::53", "127.0.0.53"]);
        assert_eq!(all.search, ["example.test", "lab.test"]);
        assert_eq!(parse("search a.test b.test\ndomain c.test d.test\r\n").search, ["c.test"]);
        assert_eq!(parse(""), ResolvConf::default());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>(), lines in "((nameserver|search|domain)[ .:%0-9a-f\\n]{0,12}\\n){0,9}") {
            let _ = parse(&text);
            prop_assert!(parse(&lines).nameservers.len() <= MOST);
        }
    }
}
