// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the container of a gateway shall be: its network, its limits, where its disk lies. These belong to the gateway and not to one
//! share, so each is written in one section or, alike, in several. It knows how they are written and their bounds; it must not know
//! Proxmox's commands.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::section::Section;
use crate::error::Problem;
use crate::types::{GatewayId, VmId, shorten};

/// The properties that belong to a gateway, in the order of the table.
pub const PROPERTIES: [&str; 8] =
    ["smbgw-net", "smbgw-rootfs", "smbgw-template", "smbgw-memory", "smbgw-swap", "smbgw-cores", "smbgw-processes", "smbgw-vmid"];

/// Those that cannot be changed while the container exists, with what to do instead.
pub const FIXED: [(&str, &str); 3] = [
    ("smbgw-vmid", "the container exists and keeps its number"),
    ("smbgw-rootfs", "the container exists; its disk is moved with: pct move-volume"),
    ("smbgw-template", "the container exists; another image comes with: pve-smbgateway gateway upgrade"),
];

/// IPv4 of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ip4 {
    /// By DHCP.
    Dhcp,
    /// None.
    None,
    /// Address, prefix length, gateway.
    Static(Ipv4Addr, u8, Option<Ipv4Addr>),
}

/// IPv6 of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ip6 {
    /// Stateless auto-configuration.
    Auto,
    /// By DHCPv6.
    Dhcp,
    /// None beyond the link-local address.
    None,
    /// Address, prefix length, gateway.
    Static(Ipv6Addr, u8, Option<Ipv6Addr>),
}

/// The one network interface of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Net {
    /// Bridge of the node.
    pub bridge: String,
    /// IPv4.
    pub ip: Ip4,
    /// IPv6.
    pub ip6: Ip6,
    /// VLAN.
    pub tag: Option<u16>,
    /// Bytes.
    pub mtu: Option<u16>,
    /// Proxmox's firewall watches the interface.
    pub firewall: bool,
    /// Name servers; empty: those of the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
}

impl Default for Net {
    fn default() -> Self {
        Self { bridge: "vmbr0".into(), ip: Ip4::Dhcp, ip6: Ip6::Auto, tag: None, mtu: None, firewall: false, dns: Vec::new() }
    }
}

fn cidr<A: std::str::FromStr>(text: &str, bits: u8) -> Option<(A, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let prefix: u8 = prefix.parse().ok().filter(|p| (1..=bits).contains(p))?;
    Some((address.parse().ok()?, prefix))
}

/// Whether two addresses lie in one network of that prefix length.
fn same_network(a: IpAddr, b: IpAddr, prefix: u8) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(v) => (u128::from(u32::from(v)) << 96, 32),
        IpAddr::V6(v) => (u128::from(v), 128),
    };
    let ((a, wide), (b, other)) = (bits(a), bits(b));
    wide == other && (prefix == 0 || (a ^ b) >> (128 - u32::from(prefix)) == 0)
}

impl Net {
    /// Reads `bridge=vmbr0,ip=192.0.2.10/24,gw=192.0.2.1,ip6=auto,dns=192.0.2.53,tag=12,mtu=1400,firewall=1`, in any order; what is missing has its
    /// default: `vmbr0`, DHCP, IPv6 by auto-configuration.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut net = Self::default();
        let (mut gw, mut gw6, mut seen) = (None, None, Vec::new());
        for pair in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("{:?} is not of the form key=value", shorten(pair)))?;
            if seen.contains(&key) {
                return Err(format!("{key} is given twice"));
            }
            seen.push(key);
            let bad = |what: &str| format!("{key}={} is {what}", shorten(value));
            match key {
                "bridge" => {
                    let fine = (1..=15).contains(&value.len())
                        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                        && value.starts_with(|c: char| c.is_ascii_alphabetic());
                    if !fine {
                        return Err(bad("no name of a bridge"));
                    }
                    net.bridge = value.to_owned();
                }
                "ip" => {
                    net.ip = match value {
                        "dhcp" => Ip4::Dhcp,
                        "none" | "manual" => Ip4::None,
                        _ => {
                            let (a, p) = cidr(value, 32).ok_or_else(|| {
                                bad("neither dhcp, none nor an address with its prefix length like 192.0.2.10/24")
                            })?;
                            Ip4::Static(a, p, None)
                        }
                    }
                }
                "ip6" => {
                    net.ip6 = match value {
                        "auto" => Ip6::Auto,
                        "dhcp" => Ip6::Dhcp,
                        "none" | "manual" => Ip6::None,
                        _ => {
                            let (a, p) = cidr(value, 128).ok_or_else(|| {
                                bad("neither auto, dhcp, none nor an address with its prefix length like 2001:db8::10/64")
                            })?;
                            Ip6::Static(a, p, None)
                        }
                    }
                }
                "gw" => gw = Some(value.parse::<Ipv4Addr>().map_err(|_| bad("no IPv4 address"))?),
                "gw6" => gw6 = Some(value.parse::<Ipv6Addr>().map_err(|_| bad("no IPv6 address"))?),
                "tag" => {
                    net.tag =
                        Some(value.parse().ok().filter(|t| (1..=4094).contains(t)).ok_or_else(|| bad("no VLAN: 1 to 4094"))?)
                }
                "mtu" => {
                    net.mtu = Some(
                        value.parse().ok().filter(|m| (576..=65535).contains(m)).ok_or_else(|| bad("no MTU: 576 to 65535"))?,
                    );
                }
                "dns" => {
                    for server in value.split([';', ' ']).filter(|t| !t.is_empty()) {
                        net.dns.push(server.parse().map_err(|_| bad("no list of addresses like 192.0.2.53;192.0.2.54"))?);
                    }
                    if net.dns.is_empty() || net.dns.len() > 3 {
                        return Err(bad("no list of 1 to 3 name servers"));
                    }
                }
                "firewall" => {
                    net.firewall = super::section::parse_bool(value).ok_or_else(|| bad("neither 1 nor 0"))?;
                }
                other => {
                    return Err(format!("{:?} is none of bridge, ip, gw, ip6, gw6, dns, tag, mtu, firewall", shorten(other)));
                }
            }
        }
        if net.mtu.is_some_and(|m| m < 1280) && net.ip6 != Ip6::None {
            return Err("mtu: IPv6 needs at least 1280; give ip6=none with a smaller one".into());
        }
        match (&mut net.ip, gw) {
            (_, None) => {}
            (Ip4::Static(a, p, to), Some(g)) if same_network(IpAddr::V4(*a), IpAddr::V4(g), *p) && *a != g => *to = Some(g),
            (Ip4::Static(a, p, _), Some(g)) => return Err(format!("gw={g} is not another address of the network of {a}/{p}")),
            (_, Some(_)) => return Err("gw needs a static ip".into()),
        }
        match (&mut net.ip6, gw6) {
            (_, None) => {}
            (Ip6::Static(a, p, to), Some(g))
                if g.segments()[0] & 0xffc0 == 0xfe80 || (same_network(IpAddr::V6(*a), IpAddr::V6(g), *p) && *a != g) =>
            {
                *to = Some(g);
            }
            (Ip6::Static(a, p, _), Some(g)) => {
                return Err(format!("gw6={g} is neither link-local nor another address of the network of {a}/{p}"));
            }
            (_, Some(_)) => return Err("gw6 needs a static ip6".into()),
        }
        if net.ip == Ip4::None && net.ip6 == Ip6::None {
            return Err("without ip and ip6 nobody can reach the gateway".into());
        }
        Ok(net)
    }
}

/// Where the container's own disk is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Storage.
    pub storage: String,
    /// Size.
    pub gib: u32,
}

impl RootFs {
    /// Reads `STORAGE` or `STORAGE:GIB`.
    fn parse(text: &str) -> Result<Self, String> {
        let (storage, gib) = text.split_once(':').map_or((text, None), |(s, g)| (s, Some(g)));
        let storage = crate::types::StoreId::new(storage).map_err(|e| e.to_string())?;
        let gib = match gib {
            None => DISK_GIB,
            Some(g) => g
                .parse()
                .ok()
                .filter(|g| (1..=1024).contains(g))
                .ok_or_else(|| format!("{:?} is no size: whole GiB, 1 to 1024", shorten(g)))?,
        };
        Ok(Self { storage: storage.to_string(), gib })
    }
}

/// The system inside is 0.4 GiB; the rest is for logs and Samba's databases.
const DISK_GIB: u32 = 2;

/// The container of a gateway as it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestSpec {
    /// Name of the machine, derived from the gateway's.
    pub hostname: String,
    /// Network.
    pub net: Net,
    /// Its disk; `None`: the plan chooses a storage.
    pub rootfs: Option<RootFs>,
    /// Template by its name; `None`: the newest.
    pub template: Option<String>,
    /// MiB.
    pub memory: u32,
    /// MiB.
    pub swap: u32,
    /// Processors.
    pub cores: u32,
    /// Most processes and threads.
    pub processes: u32,
    /// Its number; `None`: the next free one.
    pub vmid: Option<VmId>,
}

fn within(text: &str, from: u32, to: u32, unit: &str) -> Result<u32, String> {
    let n = text.parse().ok().filter(|n| (from..=to).contains(n));
    n.ok_or_else(|| format!("{:?} is no number of {unit} from {from} to {to}", shorten(text)))
}

impl GuestSpec {
    /// Reads the gateway's settings; every problem at once, by property.
    pub fn read(gateway: &GatewayId, settings: &Section) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let get = |name: &str| settings.get(name).map(String::as_str).filter(|t| !t.is_empty());
        let mut keep = |name: &str, why: String| problems.push(Problem::new(name, why));
        let number = |name: &str, default, from, to, unit: &str, keep: &mut dyn FnMut(&str, String)| match get(name)
            .map(|t| within(t, from, to, unit))
        {
            None => default,
            Some(Ok(n)) => n,
            Some(Err(why)) => {
                keep(name, why);
                default
            }
        };
        let memory = number("smbgw-memory", 256, 128, 1 << 20, "MiB", &mut keep);
        let swap = number("smbgw-swap", 256, 0, 1 << 20, "MiB", &mut keep);
        let cores = number("smbgw-cores", 1, 1, 512, "processors", &mut keep);
        let processes = number("smbgw-processes", 1000, 100, 1 << 20, "processes", &mut keep);
        let typed = |name: &str| get(name).map(str::to_owned);
        let net = typed("smbgw-net").map_or_else(|| Ok(Net::default()), |t| Net::parse(&t)).unwrap_or_else(|why| {
            keep("smbgw-net", why);
            Net::default()
        });
        let rootfs = typed("smbgw-rootfs").and_then(|t| RootFs::parse(&t).map_err(|why| keep("smbgw-rootfs", why)).ok());
        let vmid = typed("smbgw-vmid").and_then(|t| VmId::parse(&t).map_err(|e| keep("smbgw-vmid", e.to_string())).ok());
        let template = typed("smbgw-template");
        if let Some(t) = &template {
            if t.len() > 128 || !t.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+~".contains(&b)) {
                keep("smbgw-template", format!("{:?} is no name of a template; see: pve-smbgateway template list", shorten(t)));
            }
        }
        (Self { hostname: hostname(gateway), net, rootfs, template, memory, swap, cores, processes, vmid }, problems)
    }
}

/// A host name from a gateway's name: letters, digits and inner `-`, at most 15 characters, so that it is a NetBIOS name too.
pub fn hostname(gateway: &GatewayId) -> String {
    let name: String =
        gateway.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let short: String = name.chars().take(15).collect();
    short.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        assert_eq!(Net::parse(""), Ok(Net::default()));
        let net = Net::parse("bridge=vmbr1,ip=192.0.2.10/24,gw=192.0.2.1,ip6=none,tag=12,mtu=9000").expect("fine");
        assert_eq!(net.ip, Ip4::Static([192, 0, 2, 10].into(), 24, Some([192, 0, 2, 1].into())));
        assert_eq!((net.tag, net.mtu, net.bridge.as_str()), (Some(12), Some(9000), "vmbr1"));
        assert!(Net::parse("ip6=2001:db8::10/64,gw6=fe80::1").is_ok());
        assert_eq!(Net::parse("dns=192.0.2.53;2001:db8::53").expect("fine").dns.len(), 2);
        for bad in [
            "dns=",
            "dns=dc1",
            "dns=192.0.2.1;192.0.2.2;192.0.2.3;192.0.2.4",
            "ip=192.0.2.10",
            "ip=192.0.2.300/24",
            "ip=192.0.2.10/24,gw=198.51.100.1",
            "gw=192.0.2.1",
            "ip=none,ip6=none",
            "tag=0",
            "tag=4095",
            "mtu=10",
            "mtu=1000",
            "bridge=",
            "bridge=a/b",
            "hwaddr=1",
            "ip",
            "ip=dhcp,ip=dhcp",
            "ip=192.0.2.10/24,gw=192.0.2.10",
            "ip6=2001:db8::10/64,gw6=2001:db9::1",
        ] {
            assert!(Net::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let settings = [
            ("smbgw-memory", "64"),
            ("smbgw-cores", "x"),
            ("smbgw-vmid", "99"),
            ("smbgw-rootfs", "local:0"),
            ("smbgw-template", "../x"),
        ];
        let settings = settings.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let (_, wrong) = GuestSpec::read(&GatewayId::new("files").expect("a name"), &settings);
        let names: Vec<&str> = wrong.iter().map(|p| p.property.as_str()).collect();
        assert_eq!(names, ["smbgw-memory", "smbgw-cores", "smbgw-rootfs", "smbgw-vmid", "smbgw-template"]);
    }

    #[test]
    fn host_names_fit_netbios() {
        for (gateway, host) in [
            ("files", "files"),
            ("Büro".trim_start_matches("Bü"), "ro"),
            ("My_Files.A", "my-files-a"),
            ("a-very-long-gateway-name", "a-very-long-gat"),
        ] {
            assert_eq!(hostname(&GatewayId::new(gateway).expect("a name")), host);
        }
    }
}
