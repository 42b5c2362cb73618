// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the network can be asked, and what it said, as data. It knows no message on the wire (that is `format/dns.rs`) and no socket
//! (that is the host); what an answer means for a share or a domain it must not know.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The kinds of record that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DnsKind {
    /// Which hosts offer a service.
    Srv,
    /// IPv4 addresses of a name.
    A,
    /// IPv6 addresses of a name.
    Aaaa,
    /// Names of an address; see [`reverse_name`].
    Ptr,
    /// The primary name server of a zone.
    Soa,
}

/// A question to a name server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DnsAsk {
    /// The whole name; no search list is tried. A dot at its end means nothing.
    pub name: String,
    /// What is wanted of it.
    pub kind: DnsKind,
    /// Who is asked; `None` are the name servers of the machine, one after the other.
    pub server: Option<IpAddr>,
}

impl DnsAsk {
    /// A question to the name servers of the machine.
    pub fn new(name: impl Into<String>, kind: DnsKind) -> Self {
        Self { name: name.into(), kind, server: None }
    }

    /// The same question to one server.
    #[must_use]
    pub fn to(mut self, server: IpAddr) -> Self {
        self.server = Some(server);
        self
    }
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DnsSaid {
    /// There are records.
    Answer,
    /// There is no such name (NXDOMAIN).
    NoName,
    /// The name is there, but has no record of that kind.
    NoData,
    /// The server cannot tell (SERVFAIL, or another code that is no answer).
    ServFail,
    /// The server does not want to tell us.
    Refused,
    /// No answer in time.
    Silent,
    /// The server cannot be asked, and why: `Connection refused` where nothing listens, `Network is unreachable` …
    Unreachable(String),
    /// No server was named and none is configured.
    NoServer,
    /// Something came, but nothing that answers the question.
    Garbled,
}

impl DnsSaid {
    /// Another server need not be asked: this one knows.
    pub fn decides(&self) -> bool {
        matches!(self, Self::Answer | Self::NoName | Self::NoData)
    }

    /// A name server spoke, whatever it said.
    pub fn heard(&self) -> bool {
        self.decides() || matches!(self, Self::ServFail | Self::Refused)
    }
}

/// One host that offers a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SrvRecord {
    /// The lowest is tried first.
    pub priority: u16,
    /// Share of the clients among those of one priority.
    pub weight: u16,
    /// Port of the service.
    pub port: u16,
    /// The host: lower case, no dot at its end.
    pub target: String,
}

/// What came of a question, with its records. Names are host names of ASCII letters, digits, `-`, `_` and dots, in lower case and without
/// a dot at their end; records with other names are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DnsAnswer {
    /// Who said it; `None` if nobody was asked.
    pub server: Option<IpAddr>,
    /// What it said.
    pub said: DnsSaid,
    /// Of [`DnsKind::Srv`], by priority, then the greatest weight first.
    pub srv: Vec<SrvRecord>,
    /// Of [`DnsKind::A`] and [`DnsKind::Aaaa`].
    pub addresses: Vec<IpAddr>,
    /// Of [`DnsKind::Ptr`]; of [`DnsKind::Soa`] the primary name server.
    pub names: Vec<String>,
    /// How long it took, all servers together.
    pub ms: u64,
}

impl DnsAnswer {
    /// An answer without records.
    pub fn empty(server: Option<IpAddr>, said: DnsSaid) -> Self {
        Self { server, said, srv: Vec::new(), addresses: Vec::new(), names: Vec::new(), ms: 0 }
    }

    /// Puts the records into the order that is promised.
    pub fn sort(&mut self) {
        self.srv.sort_by(|a, b| {
            let key = |r: &SrvRecord| (r.priority, std::cmp::Reverse(r.weight));
            key(a).cmp(&key(b)).then_with(|| a.target.cmp(&b.target)).then_with(|| a.port.cmp(&b.port))
        });
    }

    /// Which of two failed attempts tells more: that of a server that spoke, else the first.
    #[must_use]
    pub fn or_better(self, later: Self) -> Self {
        if later.said.decides() || (later.said.heard() && !self.said.heard()) { later } else { self }
    }
}

/// What came of a TCP connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// Somebody listens.
    Open,
    /// The host is there and nothing listens, or something on the way says no.
    Refused,
    /// No answer in time: a packet filter, or the host is off.
    Silent,
    /// There is no way to it, and why: `Network is unreachable`, `No route to host` …
    Unreachable(String),
}

/// The name whose PTR records are the names of an address.
pub fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().map(|o| format!("{:x}.{:x}.", o & 15, o >> 4));
            nibbles.collect::<String>() + "ip6.arpa"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_addresses() {
        let name = |s: &str| reverse_name(s.parse().expect("an address"));
        assert_eq!(name("10.99.1.10"), "10.1.99.10.in-addr.arpa");
        assert_eq!(name("2001:db8::1"), "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa");
    }

    #[test]
    fn order_of_services_and_of_failures() {
        let one = |priority, weight, target: &str| SrvRecord { priority, weight, port: 88, target: target.into() };
        let mut a = DnsAnswer::empty(None, DnsSaid::Answer);
        a.srv = vec![one(10, 5, "d"), one(0, 1, "c"), one(0, 9, "b"), one(0, 9, "a")];
        a.sort();
        assert_eq!(a.srv.iter().map(|r| r.target.as_str()).collect::<String>(), "abcd");
        let said = |first: DnsSaid, later: DnsSaid| DnsAnswer::empty(None, first).or_better(DnsAnswer::empty(None, later)).said;
        assert_eq!(said(DnsSaid::Silent, DnsSaid::Refused), DnsSaid::Refused);
        assert_eq!(said(DnsSaid::ServFail, DnsSaid::Silent), DnsSaid::ServFail);
        assert_eq!(said(DnsSaid::Silent, DnsSaid::Garbled), DnsSaid::Silent);
        assert_eq!(said(DnsSaid::ServFail, DnsSaid::NoName), DnsSaid::NoName);
    }

    #[test]
    fn the_written_form() {
        let ask = DnsAsk::new("_ldap._tcp.example.test", DnsKind::Srv).to("10.0.0.1".parse().expect("an address"));
        let text = serde_json::to_string(&ask).expect("plain data");
        assert_eq!(text, r#"{"name":"_ldap._tcp.example.test","kind":"srv","server":"10.0.0.1"}"#);
        assert_eq!(serde_json::to_string(&DnsSaid::NoName).expect("plain data"), r#""no-name""#);
        assert_eq!(serde_json::to_string(&Reach::Unreachable("x".into())).expect("plain data"), r#"{"unreachable":"x"}"#);
    }
}
