// SPDX-License-Identifier: MIT OR Apache-2.0
//! The network around the simulated machine: name servers with what they know, and ports that are open or not. It knows hosts by their addresses; it
//! must not know what a domain is. At first there is nothing, and no way to anything.
//!
//! ```
//! use std::time::Duration;
//! use smbgw_core::host::{Host, sim::SimHost};
//! use smbgw_core::net::{DnsAsk, DnsKind, DnsSaid, Reach};
//!
//! let sim = SimHost::debian();
//! let dc = "10.99.1.10".parse().unwrap();
//! sim.change(|w| {
//!     w.files.put("/etc/resolv.conf", "nameserver 10.99.1.10\n", 0o644, 0, 0);
//!     w.net.server(dc).srv("_ldap._tcp.example.test", 0, 100, 389, "dc1.example.test").address("dc1.example.test", dc);
//!     w.net.open(dc, &[88, 389, 445]);
//! });
//! let within = Duration::from_secs(1);
//! let answer = sim.dns(&DnsAsk::new("_ldap._tcp.example.test", DnsKind::Srv), within).unwrap();
//! assert_eq!((answer.said, answer.srv[0].target.as_str()), (DnsSaid::Answer, "dc1.example.test"));
//! assert_eq!(sim.reach((dc, 389).into(), within).unwrap(), Reach::Open);
//! assert_eq!(sim.reach((dc, 636).into(), within).unwrap(), Reach::Refused);
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Files, Machine};
use crate::error::{Error, Kind, Result};
use crate::format::{dns as wire, resolv_conf};
use crate::net::{DnsAnswer, DnsAsk, DnsKind, DnsSaid, Reach, SrvRecord, reverse_name};

/// Where it says who is asked for names.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const NO_WAY: &str = "Network is unreachable";

/// How a name server behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    #[default]
    Answers,
    /// It says nothing to anything.
    Silent,
    /// It answers that it does not want to.
    Refuses,
    /// It answers that it cannot.
    Fails,
    /// Nothing listens on its port.
    Closed,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SimRecord {
    /// Of [`DnsKind::Srv`].
    Srv(SrvRecord),
    /// Of [`DnsKind::A`] and [`DnsKind::Aaaa`].
    Address(IpAddr),
    /// Of [`DnsKind::Ptr`] and [`DnsKind::Soa`].
    Name(String),
}

/// A name server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SimDns {
    /// How it behaves.
    pub mood: Mood,
    /// What it knows, by name (lower case, no dot at its end) and kind.
    pub records: BTreeMap<(String, DnsKind), Vec<SimRecord>>,
}

fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

impl SimDns {
    fn add(&mut self, name: &str, kind: DnsKind, record: SimRecord) -> &mut Self {
        let all = self.records.entry((plain(name), kind)).or_default();
        if !all.contains(&record) {
            all.push(record);
        }
        self
    }

    /// It knows a host that offers a service.
    pub fn srv(&mut self, name: &str, priority: u16, weight: u16, port: u16, target: &str) -> &mut Self {
        self.add(name, DnsKind::Srv, SimRecord::Srv(SrvRecord { priority, weight, port, target: plain(target) }))
    }

    /// It knows an address of a name.
    pub fn address(&mut self, name: &str, address: IpAddr) -> &mut Self {
        let kind = if address.is_ipv4() { DnsKind::A } else { DnsKind::Aaaa };
        self.add(name, kind, SimRecord::Address(address))
    }

    /// It knows the name of an address.
    pub fn name(&mut self, address: IpAddr, name: &str) -> &mut Self {
        self.add(&reverse_name(address), DnsKind::Ptr, SimRecord::Name(plain(name)))
    }

    /// It knows the primary name server of a zone.
    pub fn zone(&mut self, zone: &str, primary: &str) -> &mut Self {
        self.add(zone, DnsKind::Soa, SimRecord::Name(plain(primary)))
    }

    /// It forgets a name, with every kind of record of it.
    pub fn forget(&mut self, name: &str) -> &mut Self {
        let name = plain(name);
        self.records.retain(|(n, _), _| *n != name);
        self
    }

    fn answer(&self, ask: &DnsAsk) -> DnsAnswer {
        let name = plain(&ask.name);
        let mut answer = DnsAnswer::empty(None, DnsSaid::Answer);
        match self.mood {
            Mood::Answers => {}
            Mood::Silent => answer.said = DnsSaid::Silent,
            Mood::Refuses => answer.said = DnsSaid::Refused,
            Mood::Fails => answer.said = DnsSaid::ServFail,
            Mood::Closed => answer.said = DnsSaid::Unreachable("Connection refused".into()),
        }
        if answer.said != DnsSaid::Answer {
            return answer;
        }
        for record in self.records.get(&(name.clone(), ask.kind)).into_iter().flatten() {
            match record {
                SimRecord::Srv(s) => answer.srv.push(s.clone()),
                SimRecord::Address(a) => answer.addresses.push(*a),
                SimRecord::Name(n) => answer.names.push(n.clone()),
            }
        }
        if answer.srv.is_empty() && answer.addresses.is_empty() && answer.names.is_empty() {
            let below = format!(".{name}");
            let there = self.records.iter().any(|((n, _), all)| !all.is_empty() && (*n == name || n.ends_with(&below)));
            answer.said = if there { DnsSaid::NoData } else { DnsSaid::NoName };
        }
        answer.sort();
        answer
    }
}

/// The network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SimNet {
    /// Name servers by address.
    pub servers: BTreeMap<IpAddr, SimDns>,
    /// What a connection to a port comes to. The other ports of an address that has one here, or is a name server, are refused; of
    /// other addresses there is no way to any.
    pub ports: BTreeMap<(IpAddr, u16), Reach>,
}

impl SimNet {
    /// A name server, which is there from now on.
    pub fn server(&mut self, address: IpAddr) -> &mut SimDns {
        self.servers.entry(address).or_default()
    }

    /// Somebody listens on these ports.
    pub fn open(&mut self, address: IpAddr, ports: &[u16]) {
        self.set(address, ports, &Reach::Open);
    }

    /// What connections to these ports come to.
    pub fn set(&mut self, address: IpAddr, ports: &[u16], reach: &Reach) {
        self.ports.extend(ports.iter().map(|p| ((address, *p), reach.clone())));
    }

    fn is_there(&self, address: IpAddr) -> bool {
        self.servers.contains_key(&address) || self.ports.keys().any(|(a, _)| *a == address)
    }

    fn reach(&self, to: SocketAddr) -> Reach {
        match self.ports.get(&(to.ip(), to.port())) {
            Some(reach) => reach.clone(),
            None if self.is_there(to.ip()) => Reach::Refused,
            None => Reach::Unreachable(NO_WAY.into()),
        }
    }

    fn dns(&self, server: IpAddr, ask: &DnsAsk) -> DnsAnswer {
        let mut answer = match self.servers.get(&server) {
            Some(s) => s.answer(ask),
            None => {
                let why = if self.is_there(server) { "Connection refused" } else { NO_WAY };
                DnsAnswer::empty(None, DnsSaid::Unreachable(why.into()))
            }
        };
        answer.server = Some(server);
        answer
    }
}

/// Who is asked, if the machine (or container) says so itself.
pub(super) fn nameservers(files: &Files) -> Option<Vec<IpAddr>> {
    let file = files.bytes(RESOLV_CONF)?;
    Some(resolv_conf::parse(&String::from_utf8_lossy(file)).nameservers)
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// As the real host asks. A container that says nothing of its own has what its node has: Proxmox VE writes it so at each start.
pub(super) fn dns(m: &mut Machine, own: Option<Vec<IpAddr>>, ask: &DnsAsk, within: Duration) -> Result<DnsAnswer> {
    wire::print(ask, 0).map_err(|e| Error::new(Kind::Invalid, e))?;
    let configured = || own.or_else(|| nameservers(&m.world.files)).unwrap_or_default();
    let servers = ask.server.map_or_else(configured, |s| vec![s]);
    let (started, until) = (m.uptime_ms, m.uptime_ms.saturating_add(ms(within)));
    let mut best: Option<DnsAnswer> = None;
    for (at, server) in servers.iter().enumerate() {
        let answer = m.world.net.dns(*server, ask);
        if answer.said == DnsSaid::Silent {
            let left = until.saturating_sub(m.uptime_ms);
            m.wait(left / u64::try_from(servers.len() - at).unwrap_or(1));
        }
        let better = match best {
            Some(b) => b.or_better(answer),
            None => answer,
        };
        let decided = better.said.decides();
        best = Some(better);
        if decided {
            break;
        }
    }
    let mut answer = best.unwrap_or_else(|| DnsAnswer::empty(None, DnsSaid::NoServer));
    answer.ms = m.uptime_ms - started;
    Ok(answer)
}

pub(super) fn reach(m: &mut Machine, to: SocketAddr, within: Duration) -> Reach {
    let reach = m.world.net.reach(to);
    if reach == Reach::Silent {
        m.wait(ms(within));
    }
    reach
}
