// SPDX-License-Identifier: MIT OR Apache-2.0
//! Proxmox VE's `pct`, `lxc-info` and `ha-manager` (pve-container 6.1) on the simulated machine: strict about their words, and with the rules that
//! matter to whoever calls them. It knows Proxmox's grammar, files and rules; it must not know what a gateway is. What Proxmox has and this does
//! not play is refused as such.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::guests::{self, Bind, Bounds, Guest, Numbers};
use super::{Machine, Said, World, images};
use crate::effect::Program;
use crate::format::storage_cfg;

const NODES: &str = "/etc/pve/nodes";
const HERE: &str = "/etc/pve/nodes/pve1/lxc";
const RESOURCES: &str = "/etc/pve/ha/resources.cfg";
/// How often the HA manager looks at its resources.
pub(super) const LOOK_MS: u64 = 10_000;

type Result<T> = std::result::Result<T, String>;

/// Runs one of the programs.
pub(super) fn run(m: &mut Machine, program: Program, words: &[String]) -> Said {
    let done = match program {
        Program::LxcInfo => return lxc_info(&m.world, words),
        Program::HaManager => ha_manager(m, words),
        _ => pct(m, words),
    };
    match done {
        Ok(out) => Said::ok(out),
        Err(why) => Said::err(255, why),
    }
}

// ---- grammar -----------------------------------------------------------------------------------------------------------

/// What a value must be.
#[derive(Clone, Copy)]
enum Is {
    Bool,
    Int(i64, i64),
    Number,
    Text,
    Word,
    Of(&'static [&'static str]),
    Dns,
    Tags,
    Path,
    Mac,
    Ip4Config,
    Ip6Config,
    Ip4,
    Ip6,
    Mounting,
    IdMap,
    Properties(&'static [Property]),
}

/// A property in a property string: key, form, whether it may be missing.
struct Property(&'static str, Is, bool);

/// The one whose key may be left out stands first.
const ROOTFS: &[Property] = &[
    Property("volume", Is::Path, false),
    Property("acl", Is::Bool, true),
    Property("idmap", Is::IdMap, true),
    Property("mountoptions", Is::Mounting, true),
    Property("quota", Is::Bool, true),
    Property("replicate", Is::Bool, true),
    Property("ro", Is::Bool, true),
    Property("shared", Is::Bool, true),
    Property("size", Is::Word, true),
];
const MP: &[Property] = &[
    Property("volume", Is::Path, false),
    Property("mp", Is::Path, false),
    Property("acl", Is::Bool, true),
    Property("backup", Is::Bool, true),
    Property("idmap", Is::IdMap, true),
    Property("keepattrs", Is::Bool, true),
    Property("mountoptions", Is::Mounting, true),
    Property("quota", Is::Bool, true),
    Property("replicate", Is::Bool, true),
    Property("ro", Is::Bool, true),
    Property("shared", Is::Bool, true),
    Property("size", Is::Word, true),
];
const NET: &[Property] = &[
    Property("name", Is::Word, false),
    Property("bridge", Is::Word, true),
    Property("firewall", Is::Bool, true),
    Property("gw", Is::Ip4, true),
    Property("gw6", Is::Ip6, true),
    Property("host-managed", Is::Bool, true),
    Property("hwaddr", Is::Mac, true),
    Property("ip", Is::Ip4Config, true),
    Property("ip6", Is::Ip6Config, true),
    Property("link_down", Is::Bool, true),
    Property("mtu", Is::Int(64, 65_535), true),
    Property("rate", Is::Number, true),
    Property("tag", Is::Int(1, 4094), true),
    Property("trunks", Is::Word, true),
    Property("type", Is::Of(&["veth"]), true),
];
const FEATURES: &[Property] = &[
    Property("force_rw_sys", Is::Bool, true),
    Property("fuse", Is::Bool, true),
    Property("keyctl", Is::Bool, true),
    Property("mknod", Is::Bool, true),
    Property("mount", Is::Text, true),
    Property("nesting", Is::Bool, true),
];

/// Whether this version maps the numbers of a mount point (6.1.6 and later).
fn maps_ids(world: &World) -> bool {
    let status = world.files.text("/var/lib/dpkg/status");
    let version = images::version_of(&status, "pve-container").unwrap_or_default();
    let numbers: Vec<u32> = version.split(['.', '-', '+', '~']).map_while(|n| n.parse().ok()).collect();
    numbers.as_slice() >= &[6, 1, 6][..]
}

fn numbered(key: &str, name: &str, last: u32) -> bool {
    key.strip_prefix(name).is_some_and(|n| n.parse::<u32>().is_ok_and(|v| v <= last && v.to_string() == n))
}

/// The form of an option of the configuration; `Err` names what is real and not played.
fn option(key: &str) -> Option<Result<Is>> {
    Some(Ok(match key {
        "onboot" | "console" | "debug" | "protection" | "template" | "unprivileged" => Is::Bool,
        "arch" => Is::Of(&["amd64", "i386", "arm64", "armhf", "riscv32", "riscv64"]),
        "cmode" => Is::Of(&["shell", "console", "tty"]),
        "cores" => Is::Int(1, 8192),
        "cpulimit" => Is::Number,
        "cpuunits" => Is::Int(0, 500_000),
        "description" | "startup" | "nameserver" | "searchdomain" => Is::Text,
        "features" => Is::Properties(FEATURES),
        "hostname" => Is::Dns,
        "lock" => Is::Of(&[
            "backup",
            "create",
            "destroyed",
            "disk",
            "fstrim",
            "migrate",
            "mounted",
            "rollback",
            "snapshot",
            "snapshot-delete",
        ]),
        "memory" => Is::Int(16, i64::MAX),
        "swap" => Is::Int(0, i64::MAX),
        "ostype" => Is::Of(&[
            "debian",
            "devuan",
            "ubuntu",
            "centos",
            "fedora",
            "opensuse",
            "archlinux",
            "alpine",
            "gentoo",
            "nixos",
            "unmanaged",
        ]),
        "rootfs" => Is::Properties(ROOTFS),
        "tags" => Is::Tags,
        "tty" => Is::Int(0, 6),
        "entrypoint" | "env" | "hookscript" | "timezone" => return Some(Err(format!("the option '{key}' is not simulated\n"))),
        _ if numbered(key, "mp", 255) => Is::Properties(MP),
        _ if numbered(key, "net", 31) => Is::Properties(NET),
        _ if numbered(key, "dev", 255) || numbered(key, "unused", 255) => {
            return Some(Err(format!("the option '{key}' is not simulated\n")));
        }
        _ => return None,
    }))
}

fn no_dots(path: &str) -> bool {
    !path.starts_with("../")
        && !Path::new(path).components().any(|c| c.as_os_str() == "..")
        && !path.contains("/./")
        && !path.ends_with("/.")
}

fn cidr(value: &str, v6: bool) -> bool {
    let Some((a, p)) = value.split_once('/') else { return false };
    let prefix: u8 = p.parse().unwrap_or(0);
    if v6 {
        a.parse::<std::net::Ipv6Addr>().is_ok() && (8..=128).contains(&prefix)
    } else {
        a.parse::<std::net::Ipv4Addr>().is_ok() && (8..=32).contains(&prefix)
    }
}

fn label(l: &str) -> bool {
    !l.is_empty() && !l.starts_with('-') && !l.ends_with('-') && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn mac(v: &str) -> bool {
    let parts: Vec<&str> = v.split(':').collect();
    parts.len() == 6
        && parts.iter().all(|p| p.len() == 2 && u8::from_str_radix(p, 16).is_ok())
        && u8::from_str_radix(parts[0], 16).is_ok_and(|b| b & 1 == 0)
}

/// A value as it is kept, or what is wrong with it.
fn check(name: &str, is: Is, value: &str, idmap: bool) -> Result<String> {
    let said = |why: &str| Err(why.to_owned());
    let kept = value.to_owned();
    let fine = match is {
        Is::Bool => {
            return match value.to_lowercase().as_str() {
                "" | "1" | "on" | "yes" | "true" => Ok("1".into()),
                "0" | "off" | "no" | "false" => Ok("0".into()),
                _ => Err(format!("type check ('boolean') failed - got '{value}'")),
            };
        }
        Is::Int(from, to) => {
            let Ok(n) = value.parse::<i64>() else { return Err(format!("type check ('integer') failed - got '{value}'")) };
            if n < from {
                return Err(format!("value must have a minimum value of {from}"));
            }
            if n > to {
                return Err(format!("value must have a maximum value of {to}"));
            }
            return Ok(n.to_string());
        }
        Is::Number => value.parse::<f64>().is_ok_and(|n| n >= 0.0),
        Is::Text => true,
        Is::Word => !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.;".contains(&b)),
        Is::Of(list) => {
            if !list.contains(&value) {
                return Err(format!("value '{value}' does not have a value in the enumeration '{}'", list.join(", ")));
            }
            true
        }
        Is::Dns if !(value.len() <= 255 && value.split('.').all(label)) => {
            return said("invalid format - value does not look like a valid DNS name");
        }
        Is::Tags => {
            let list: BTreeSet<String> = words(value).iter().map(|t| t.to_lowercase()).collect();
            let good = |t: &String| {
                t.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                    && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-+.".contains(&b))
            };
            if !list.iter().all(good) {
                return said("invalid format - invalid characters in tag");
            }
            return Ok(list.into_iter().collect::<Vec<_>>().join(";"));
        }
        Is::Path if !no_dots(value) => return Err(format!("{value} contains illegal character sequences")),
        Is::Dns | Is::Path => true,
        Is::Mac => mac(value),
        Is::Ip4 => value.parse::<std::net::Ipv4Addr>().is_ok(),
        Is::Ip6 => value.parse::<std::net::Ipv6Addr>().is_ok(),
        Is::Ip4Config => matches!(value, "dhcp" | "manual") || cidr(value, false),
        Is::Ip6Config => matches!(value, "auto" | "dhcp" | "manual") || cidr(value, true),
        Is::Mounting => value.split(';').all(|o| ["discard", "lazytime", "noatime", "nodev", "noexec", "nosuid"].contains(&o)),
        Is::IdMap => {
            value == "passthrough"
                || value.split(';').all(|e| {
                    let f: Vec<&str> = e.split(':').collect();
                    f.len() == 4 && matches!(f[0], "u" | "g") && f[1..].iter().all(|n| n.parse::<u32>().is_ok()) && f[3] != "0"
                })
        }
        Is::Properties(format) => {
            let parsed = properties(format, value, idmap).map_err(|why| {
                why.into_iter().fold("invalid format - format error".to_owned(), |t, (k, w)| format!("{t}\n{name}.{k}: {w}"))
            })?;
            return Ok(print_properties(format, &parsed));
        }
    };
    if fine { Ok(kept) } else { said("value does not match the regex pattern") }
}

type Pairs = BTreeMap<String, String>;

/// A property string, or what is wrong with it, by key.
fn properties(format: &[Property], text: &str, idmap: bool) -> std::result::Result<Pairs, BTreeMap<String, String>> {
    let (mut found, mut wrong) = (Pairs::new(), BTreeMap::new());
    for part in text.split(',').filter(|p| !p.trim().is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((format[0].0, part));
        if !part.contains('=') && format[0].0 != "volume" {
            wrong.insert(String::new(), "value without key, but schema does not define a default key".to_owned());
            continue;
        }
        if found.contains_key(key) {
            wrong.insert(String::new(), format!("duplicate key in comma-separated list property: {key}"));
            continue;
        }
        // Both came together.
        let known = format.iter().find(|p| p.0 == key && (idmap || !matches!(key, "idmap" | "keepattrs")));
        match known.map(|p| check(key, p.1, value, idmap)) {
            None => {
                _ = wrong.insert(
                    key.to_owned(),
                    "property is not defined in schema and the schema does not allow additional properties".to_owned(),
                )
            }
            Some(Err(why)) => _ = wrong.insert(key.to_owned(), why),
            Some(Ok(v)) => _ = found.insert(key.to_owned(), v),
        }
    }
    for p in format.iter().filter(|p| !p.2 && !found.contains_key(p.0)) {
        wrong.entry(p.0.to_owned()).or_insert_with(|| "property is missing and it is not optional".to_owned());
    }
    if wrong.is_empty() { Ok(found) } else { Err(wrong) }
}

/// As Proxmox writes it: the value without a key, what is required, then the rest by name.
fn print_properties(format: &[Property], values: &Pairs) -> String {
    let part = |p: &Property| values.get(p.0).map(|v| if p.0 == "volume" { v.clone() } else { format!("{}={v}", p.0) });
    format.iter().filter_map(part).collect::<Vec<_>>().join(",")
}

fn words(text: &str) -> Vec<&str> {
    text.split([',', ';', ' ', '\t', '\0']).filter(|w| !w.is_empty()).collect()
}

/// What a command was given: options by name, and its arguments.
struct Given {
    options: BTreeMap<String, String>,
    args: Vec<String>,
}

fn refused(wrong: &BTreeMap<String, String>) -> String {
    wrong.iter().fold("400 Parameter verification failed.\n".to_owned(), |t, (k, w)| format!("{t}{k}: {w}\n"))
}

/// Reads the words of a command. `more` are its options besides those of the configuration, which it takes if `config` says so.
fn given(command: &str, all: &[String], arguments: usize, config: bool, more: &[(&str, Is)], idmap: bool) -> Result<Given> {
    let mut g = Given { options: BTreeMap::new(), args: Vec::new() };
    let (mut wrong, mut rest) = (BTreeMap::new(), all.iter().peekable());
    while let Some(word) = rest.next() {
        let Some(name) = word
            .strip_prefix("--")
            .or_else(|| word.strip_prefix('-'))
            .filter(|n| n.starts_with(|c: char| c.is_ascii_alphabetic()))
        else {
            g.args.push(word.clone());
            continue;
        };
        let (name, inline) = name.split_once('=').map_or((name, None), |(n, v)| (n, Some(v.to_owned())));
        let own = more.iter().find(|(n, _)| *n == name).map(|(_, is)| Ok(*is));
        let Some(is) = own.or_else(|| option(name).filter(|_| config)) else {
            return Err(format!("Unknown option: {name}\n400 unable to parse option\npct {command} <vmid> [OPTIONS]\n"));
        };
        let is = is?;
        let alone = rest.peek().is_none_or(|w| w.starts_with('-'));
        let value = match (inline, is) {
            (Some(v), _) => v,
            (None, Is::Bool) if alone => String::new(),
            (None, _) => {
                rest.next().cloned().ok_or_else(|| format!("Option {name} requires an argument\n400 unable to parse option\n"))?
            }
        };
        match check(name, is, &value, idmap) {
            Ok(v) => {
                if g.options.insert(name.to_owned(), v).is_some() {
                    wrong.insert(name.to_owned(), "duplicate parameter".to_owned());
                }
            }
            Err(why) => _ = wrong.insert(name.to_owned(), why),
        }
    }
    match g.args.len().cmp(&arguments) {
        std::cmp::Ordering::Less => return Err("400 not enough arguments\n".into()),
        std::cmp::Ordering::Greater => return Err("400 too many arguments\n".into()),
        std::cmp::Ordering::Equal => {}
    }
    if !g.args[0].parse::<u32>().is_ok_and(|n| (100..=999_999_999).contains(&n)) {
        wrong.insert("vmid".into(), "invalid format - value does not look like a valid VM ID".to_owned());
    }
    if wrong.is_empty() { Ok(g) } else { Err(refused(&wrong)) }
}

// ---- configurations ----------------------------------------------------------------------------------------------------

/// A configuration as Proxmox keeps it.
#[derive(Default)]
struct Conf {
    notes: Vec<String>,
    values: Pairs,
    raw: Vec<(String, String)>,
    pending: Pairs,
    deletes: BTreeSet<String>,
}

impl Conf {
    fn parse(text: &str) -> Result<Self> {
        let (mut conf, mut pending) = (Self::default(), false);
        for line in text.lines().filter(|l| !l.trim().is_empty()) {
            if line.starts_with('[') {
                if !line.eq_ignore_ascii_case("[pve:pending]") {
                    return Err("snapshots are not simulated\n".into());
                }
                pending = true;
            } else if line.starts_with('#') {
                conf.notes.push(line.to_owned());
            } else if let Some((key, value)) = line.split_once(':') {
                let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
                match (pending, key.as_str()) {
                    (true, "delete") => conf.deletes.extend(words(&value).iter().map(|w| w.trim_start_matches('!').to_owned())),
                    (true, _) => _ = conf.pending.insert(key, value),
                    (false, k) if k.starts_with("lxc.") => conf.raw.push((key, value)),
                    (false, _) => _ = conf.values.insert(key, value),
                }
            }
        }
        Ok(conf)
    }

    fn print(&self) -> String {
        let mut text: String = self.notes.iter().flat_map(|n| [n, "\n"]).collect();
        let line = |t: &mut String, k: &str, v: &str| {
            let _ = writeln!(t, "{k}: {v}");
        };
        self.values.iter().for_each(|(k, v)| line(&mut text, k, v));
        self.raw.iter().for_each(|(k, v)| line(&mut text, k, v));
        if !self.pending.is_empty() || !self.deletes.is_empty() {
            text.push_str("\n[pve:pending]\n");
            let mut all = self.pending.clone();
            if !self.deletes.is_empty() {
                all.insert("delete".into(), self.deletes.iter().cloned().collect::<Vec<_>>().join(","));
            }
            all.iter().for_each(|(k, v)| line(&mut text, k, v));
        }
        text
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    fn is(&self, key: &str) -> bool {
        self.get(key) == Some("1")
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(|v| v.parse().ok())
    }

    fn refuse_locked(&self) -> Result<()> {
        self.get("lock").map_or(Ok(()), |l| Err(format!("CT is locked ({l})\n")))
    }

    /// What is so already waits for nothing.
    fn tidy(&mut self) {
        let values = &self.values;
        self.pending.retain(|k, v| values.get(k) != Some(v));
        self.deletes.retain(|k| values.contains_key(k));
    }

    /// Takes over what waits, of these keys.
    fn apply(&mut self, chosen: impl Fn(&str) -> bool) {
        for key in self.deletes.iter().filter(|k| chosen(k)).cloned().collect::<Vec<_>>() {
            self.deletes.remove(&key);
            self.values.remove(&key);
        }
        for key in self.pending.keys().filter(|k| chosen(k)).cloned().collect::<Vec<_>>() {
            if let Some(v) = self.pending.remove(&key) {
                self.values.insert(key, v);
            }
        }
    }
}

fn path(vmid: u32) -> PathBuf {
    Path::new(HERE).join(format!("{vmid}.conf"))
}

fn load(world: &World, vmid: u32) -> Result<Conf> {
    match world.files.bytes(path(vmid)) {
        Some(b) => Conf::parse(&String::from_utf8_lossy(b)),
        None => Err(format!("Configuration file 'nodes/pve1/lxc/{vmid}.conf' does not exist\n")),
    }
}

fn save(world: &mut World, vmid: u32, conf: &Conf) {
    world.files.put(path(vmid), conf.print(), 0o640, 0, 33);
}

fn running(world: &World, vmid: u32) -> bool {
    world.guests.get(&vmid).is_some_and(Guest::running)
}

/// Which node has a guest of that number, and of which kind.
fn taken(world: &World, vmid: u32) -> Option<String> {
    for node in world.files.list(Path::new(NODES)).unwrap_or_default() {
        for (dir, kind) in [("lxc", "CT"), ("qemu-server", "VM")] {
            if world.files.exists(&Path::new(NODES).join(&node).join(dir).join(format!("{vmid}.conf"))) {
                return Some(format!("{kind} {vmid} already exists on node '{node}'\n"));
            }
        }
    }
    None
}

// ---- pct ---------------------------------------------------------------------------------------------------------------

fn pct(m: &mut Machine, all: &[String]) -> Result<String> {
    let Some((command, rest)) = all.split_first() else { return Err("ERROR: no command specified\n".into()) };
    let idmap = maps_ids(&m.world);
    let read = |arguments, config, more: &[(&str, Is)]| given(command, rest, arguments, config, more, idmap);
    let id = |g: &Given| g.args[0].parse::<u32>().unwrap_or_default();
    let skip = ("skiplock", Is::Bool);
    match command.as_str() {
        "create" => {
            let more = [("storage", Is::Text), ("start", Is::Bool), ("force", Is::Bool), ("password", Is::Text)];
            create(m, &read(2, true, &more)?)
        }
        "set" => set(m, &read(1, true, &[("delete", Is::Text), ("revert", Is::Text)])?),
        "start" => {
            let g = read(1, false, &[skip, ("debug", Is::Bool)])?;
            start(m, id(&g))
        }
        "shutdown" => {
            let g = read(1, false, &[("timeout", Is::Int(0, i64::MAX)), ("forceStop", Is::Bool)])?;
            stop(m, id(&g))
        }
        "stop" => {
            let g = read(1, false, &[skip, ("overrule-shutdown", Is::Bool)])?;
            stop(m, id(&g))
        }
        "destroy" => {
            destroy(m, &read(1, false, &[("force", Is::Bool), ("purge", Is::Bool), ("destroy-unreferenced-disks", Is::Bool)])?)
        }
        "push" => push(m, &read(3, false, &[("perms", Is::Text), ("user", Is::Text), ("group", Is::Text)])?),
        "unlock" => {
            let vmid = id(&read(1, false, &[])?);
            let mut conf = load(&m.world, vmid)?;
            conf.values.remove("lock").ok_or("no lock found\n")?;
            save(&mut m.world, vmid, &conf);
            Ok(String::new())
        }
        "status" => {
            let vmid = id(&read(1, false, &[("verbose", Is::Bool)])?);
            load(&m.world, vmid)?;
            Ok(format!("status: {}\n", if running(&m.world, vmid) { "running" } else { "stopped" }))
        }
        "help" => help(rest, idmap),
        "exec" => Err("a conversation is begun otherwise\n".into()),
        "clone" | "config" | "list" | "migrate" | "restore" | "snapshot" | "rollback" | "move-volume" | "pull" | "reboot"
        | "resize" | "template" => Err(format!("the command 'pct {command}' is not simulated\n")),
        _ => Err(format!("ERROR: unknown command 'pct {command}'\n")),
    }
}

fn help(rest: &[String], idmap: bool) -> Result<String> {
    let what = rest.first().map_or("", String::as_str);
    if !matches!(what, "set" | "create") {
        return Err(format!("no such command '{what}'\n"));
    }
    if !matches!(rest.get(1..), Some([]) | None) && rest[1..] != ["--verbose", "1"] {
        return Err(format!("Unknown option: {}\n", rest[1]));
    }
    let hint = |p: &Property| format!("{}={}", p.0, if matches!(p.1, Is::Bool) { "<1|0>" } else { "<string>" });
    let line = |format: &[Property]| {
        let known = format.iter().filter(|p| idmap || !matches!(p.0, "idmap" | "keepattrs"));
        known.map(|p| if p.2 { format!("[,{}]", hint(p)) } else { hint(p) }).collect::<Vec<_>>().join(" ")
    };
    Ok(format!(
        "USAGE: pct {what} <vmid> [OPTIONS]\n\n  -mp[n]     {}\n\n  -net[n]    {}\n\n  -rootfs    {}\n",
        line(MP),
        line(NET),
        line(ROOTFS)
    ))
}

/// An archive as `STORAGE:vztmpl/NAME` names it.
fn archive(world: &World, volume: &str) -> Result<PathBuf> {
    let (id, name) = volume.split_once(":vztmpl/").ok_or_else(|| format!("unable to parse volume ID '{volume}'\n"))?;
    let all = storage_cfg::parse(&world.files.text("/etc/pve/storage.cfg"));
    let s = all.get(id).ok_or_else(|| format!("storage '{id}' does not exist\n"))?;
    if !s.get("content").is_some_and(|c| words(c).contains(&"vztmpl")) {
        return Err(format!("storage '{id}' does not support content-type 'vztmpl'\n"));
    }
    let root = s
        .get("path")
        .ok_or_else(|| format!("storages of type '{}' are not simulated\n", s.get("type").map_or("", String::as_str)))?;
    if name.contains('/') || ![".tar.gz", ".tar.xz", ".tar.zst", ".tar.bz2"].iter().any(|e| name.ends_with(e)) {
        return Err(format!("unable to parse directory volume name 'vztmpl/{name}'\n"));
    }
    Ok(Path::new(root).join("template/cache").join(name))
}

fn complete_net(m: &Machine, text: &str, vmid: u32) -> String {
    let mut p = properties(NET, text, true).unwrap_or_default();
    p.insert("type".into(), "veth".into());
    // By chance in reality; here by number and time.
    let n = u64::from(vmid).wrapping_mul(0x9e37_79b9) ^ m.uptime_ms;
    p.entry("hwaddr".into()).or_insert_with(|| format!("BC:24:11:{:02X}:{:02X}:{:02X}", n >> 16 & 255, n >> 8 & 255, n & 255));
    print_properties(NET, &p)
}

fn create(m: &mut Machine, g: &Given) -> Result<String> {
    let (vmid, volume) = (g.args[0].parse::<u32>().unwrap_or_default(), &g.args[1]);
    if let Some(why) = taken(&m.world, vmid) {
        return Err(why);
    }
    let fail = |why: String| Err(format!("unable to create CT {vmid} - {why}"));
    for unplayed in ["force", "password"] {
        if g.options.contains_key(unplayed) {
            return Err(format!("the option '{unplayed}' is not simulated\n"));
        }
    }
    let mut options = g.options.clone();
    let start_now = options.remove("start").is_some_and(|s| s == "1");
    let storage = options.remove("storage").unwrap_or_else(|| "local".into());
    let unprivileged = options.remove("unprivileged").is_none_or(|u| u == "1");
    let rootfs = options.remove("rootfs").unwrap_or_else(|| format!("{storage}:4"));
    let mut root = properties(ROOTFS, &rootfs, true).unwrap_or_default();
    let (sid, gib) = match root["volume"].split_once(':') {
        Some((s, n)) if n.parse::<f64>().is_ok() => (s.to_owned(), n.to_owned()),
        _ => return Err("existing volumes as 'rootfs' are not simulated\n".into()),
    };
    let from = archive(&m.world, volume)?;
    let all = storage_cfg::parse(&m.world.files.text("/etc/pve/storage.cfg"));
    let s = all.get(&sid).ok_or_else(|| format!("storage '{sid}' does not exist\n"))?;
    if s.get("content").is_some_and(|c| !words(c).contains(&"rootdir")) {
        return Err(refused(&BTreeMap::from([(
            "storage".to_owned(),
            format!("storage '{sid}' does not support container directories"),
        )])));
    }
    let Some(bytes) = m.world.files.bytes(&from).map(<[u8]>::to_vec) else {
        return fail(format!("volume '{volume}' does not exist\n"));
    };
    let sid_inside = format!("S-1-5-21-{}-{}-{}", 1_000_000_000 + vmid, m.clock_ms / 1000, m.uptime_ms);
    let mut world = match images::unpack(&bytes) {
        Some(files) => guests::installed_system(files, sid_inside),
        None => return fail(format!("command 'tar xpf {}' failed: exit code 2\n", from.display())),
    };
    if world.files.text("/etc/debian_version").is_empty() && options.get("ostype").is_none_or(|o| o == "debian") {
        return fail("unable to read version info\n".into());
    }
    root.insert("volume".into(), format!("{sid}:vm-{vmid}-disk-0"));
    root.insert("size".into(), format!("{gib}G"));
    let mut conf = Conf::default();
    for (key, value) in options {
        let value = if key.starts_with("net") { complete_net(m, &value, vmid) } else { value };
        conf.values.insert(key, value);
    }
    for (key, value) in [("ostype", "debian"), ("arch", "amd64"), ("memory", "512"), ("swap", "512")] {
        conf.values.entry(key.into()).or_insert_with(|| value.into());
    }
    let hostname = conf.values.entry("hostname".into()).or_insert_with(|| format!("CT{vmid}")).clone();
    conf.values.insert("rootfs".into(), print_properties(ROOTFS, &root));
    if unprivileged {
        conf.values.insert("unprivileged".into(), "1".into());
    }
    world.files.put("/etc/hostname", format!("{hostname}\n"), 0o644, 0, 0);
    save(&mut m.world, vmid, &conf);
    m.guest_rids.remove(&vmid);
    m.world.guests.insert(vmid, Guest { init: None, world: Box::new(world), mounts: BTreeMap::new() });
    let mut out = format!("extracting archive '{}'\n", from.display());
    if start_now {
        out.push_str(&start(m, vmid)?);
    }
    Ok(out)
}

/// What is set while a container runs takes effect at once for these.
fn at_once(key: &str) -> bool {
    matches!(
        key,
        "description"
            | "onboot"
            | "startup"
            | "protection"
            | "hostname"
            | "cores"
            | "tags"
            | "lock"
            | "memory"
            | "swap"
            | "cpulimit"
            | "cpuunits"
    ) || numbered(key, "net", 31)
}

fn set(m: &mut Machine, g: &Given) -> Result<String> {
    let vmid = g.args[0].parse::<u32>().unwrap_or_default();
    if g.options.is_empty() {
        return Err("no options specified\n".into());
    }
    let mut conf = load(&m.world, vmid)?;
    conf.refuse_locked()?;
    let mut options = g.options.clone();
    let list = |o: Option<String>| o.map(|t| words(&t).iter().map(|w| (*w).to_owned()).collect::<Vec<_>>()).unwrap_or_default();
    let (delete, revert) = (list(options.remove("delete")), list(options.remove("revert")));
    let mut wrong = BTreeMap::new();
    for (what, keys) in [("delete", &delete), ("revert", &revert)] {
        for key in keys {
            if option(key).is_none() {
                wrong.insert(what.to_owned(), format!("unknown option '{key}'"));
            } else if options.contains_key(key) {
                wrong.insert(what.to_owned(), format!("you can't use '-{key}' and -{what} {key}' at the same time"));
            }
        }
    }
    if !wrong.is_empty() {
        return Err(refused(&wrong));
    }
    let protected = |conf: &Conf, key: &str, what: &str| match conf.is("protection") && (key.starts_with("mp") || key == "rootfs")
    {
        true => Err(format!("can't {what} CT {vmid} drive '{key}' - protection mode enabled\n")),
        false => Ok(()),
    };
    let mut said = String::new();
    for key in &revert {
        conf.pending.remove(key);
        conf.deletes.remove(key);
    }
    for key in &delete {
        if !conf.values.contains_key(key) && !conf.pending.contains_key(key) {
            let _ = writeln!(said, "cannot delete '{key}' - not set in current configuration!");
            continue;
        }
        if matches!(key.as_str(), "memory" | "rootfs" | "ostype" | "unprivileged") {
            return Err(format!("unable to delete required option '{key}'\n"));
        }
        protected(&conf, key, "remove")?;
        conf.pending.remove(key);
        conf.deletes.insert(key.clone());
    }
    for (key, value) in &options {
        if key == "unprivileged" {
            return Err("unable to modify read-only option: 'unprivileged'\n".into());
        }
        protected(&conf, key, "update")?;
        let mut value = value.clone();
        if numbered(key, "net", 31) {
            value = complete_net(m, &value, vmid);
        }
        conf.pending.insert(key.clone(), value);
        conf.deletes.remove(key);
    }
    conf.tidy();
    let touched: Vec<String> = delete.into_iter().chain(options.into_keys()).collect();
    if !running(&m.world, vmid) {
        conf.apply(|k| touched.iter().any(|t| t == k));
        save(&mut m.world, vmid, &conf);
        return Ok(said);
    }
    let mut now: Vec<String> = touched.iter().filter(|k| at_once(k)).cloned().collect();
    for key in touched.iter().filter(|k| numbered(k, "mp", 255) && !conf.values.contains_key(*k)) {
        let Some(text) = conf.pending.get(key) else { continue };
        let bind = bind_of(&m.world, &conf, key, text)
            .map_err(|why| refused(&BTreeMap::from([(key.clone(), format!("unable to hotplug {key}: {why}"))])))?;
        if let Some(guest) = m.world.guests.get_mut(&vmid) {
            guest.world.files.put_dir(&bind.target, 0o755, 0, 0);
            guest.mounts.insert(key.clone(), bind);
        }
        now.push(key.clone());
    }
    conf.apply(|k| now.iter().any(|t| t == k));
    let bounds = bounds(&conf, true);
    if let Some(pids) = bounds_in_force(&m.world, vmid) {
        guests::hold(&mut m.world, vmid, &Bounds { processes: pids, ..bounds });
    }
    save(&mut m.world, vmid, &conf);
    Ok(said)
}

/// What the kernel holds a running container to in processes: a raw line takes effect at a start alone.
fn bounds_in_force(world: &World, vmid: u32) -> Option<Option<u64>> {
    running(world, vmid).then(|| world.files.text(format!("/sys/fs/cgroup/lxc/{vmid}/pids.max")).trim().parse().ok())
}

fn bounds(conf: &Conf, running: bool) -> Bounds {
    let raw = |key: &str| conf.raw.iter().rev().find(|(k, _)| k == key).and_then(|(_, v)| v.parse().ok()).filter(|_| !running);
    Bounds {
        memory: Some(raw("lxc.cgroup2.memory.max").unwrap_or(conf.number("memory").unwrap_or(512) << 20)),
        swap: Some(raw("lxc.cgroup2.memory.swap.max").unwrap_or(conf.number("swap").unwrap_or(0) << 20)),
        cores: conf.number("cores"),
        processes: raw("lxc.cgroup2.pids.max"),
    }
}

/// A mount point as the kernel gets it.
fn bind_of(world: &World, conf: &Conf, key: &str, text: &str) -> Result<Bind> {
    let p = properties(MP, text, true).map_err(|w| format!("{key}: {w:?}\n"))?;
    let source = PathBuf::from(&p["volume"]);
    if !source.is_absolute() {
        return Err("volumes as mount points are not simulated\n".into());
    }
    let Some(kind) = world.files.fs_type(&source) else {
        return Err(format!("directory '{}' does not exist\n", source.display()));
    };
    let ids = match p.get("idmap").map(String::as_str) {
        _ if !conf.is("unprivileged") => Numbers::Same,
        None => Numbers::Shifted,
        Some("passthrough") if ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay"].contains(&kind.as_str()) => Numbers::Same,
        Some("passthrough") => return Err(format!("mount_setattr: Invalid argument ({kind})\n")),
        Some(_) => return Err("single maps of numbers are not simulated\n".into()),
    };
    if p.get("quota").is_some_and(|q| q == "1") && conf.is("unprivileged") {
        return Err("Quotas are not supported by unprivileged containers.\n".into());
    }
    Ok(Bind {
        source,
        target: Path::new("/").join(p["mp"].trim_start_matches('/')),
        ids,
        read_only: p.get("ro").is_some_and(|r| r == "1"),
    })
}

/// The state in which the HA manager shall keep a container, if it looks after it.
fn wanted(world: &World, vmid: u32) -> Option<String> {
    let all = storage_cfg::parse(&world.files.text(RESOURCES));
    let r = all.get(&vmid.to_string()).filter(|r| r.get("type").is_some_and(|t| t == "ct"))?;
    Some(r.get("state").cloned().unwrap_or_else(|| "started".into()))
}

fn start(m: &mut Machine, vmid: u32) -> Result<String> {
    let conf = load(&m.world, vmid)?;
    if running(&m.world, vmid) {
        return Err(format!("CT {vmid} already running\n"));
    }
    if wanted(&m.world, vmid).is_some_and(|s| s != "ignored") {
        request(&mut m.world, vmid, "started")?;
        return Ok(format!("Requesting HA start for CT {vmid}\n"));
    }
    conf.refuse_locked()?;
    bring_up(m, vmid).map(|()| String::new())
}

fn bring_up(m: &mut Machine, vmid: u32) -> Result<()> {
    let mut conf = load(&m.world, vmid)?;
    let failed = |why: String| Err(format!("{why}startup for container '{vmid}' failed\n"));
    if conf.is("template") {
        return Err("you can't start a CT if it's a template\n".into());
    }
    if !conf.pending.is_empty() || !conf.deletes.is_empty() {
        conf.apply(|_| true);
        save(&mut m.world, vmid, &conf);
    }
    match m.world.guests.get(&vmid) {
        None => return failed(format!("volume of container {vmid} does not exist\n")),
        Some(g) if !g.world.systemd => return failed("lxc_init: No such file or directory - /sbin/init\n".into()),
        Some(_) => {}
    }
    for (key, text) in conf.values.iter().filter(|(k, _)| numbered(k, "net", 31)) {
        let net = properties(NET, text, true).unwrap_or_default();
        let bridge = net.get("bridge").cloned().unwrap_or_default();
        if !m.world.files.exists(Path::new(&format!("/sys/class/net/{bridge}/bridge"))) {
            return failed(format!("{key}: bridge '{bridge}' does not exist\n"));
        }
    }
    let mut mounts = BTreeMap::new();
    for (key, text) in conf.values.iter().filter(|(k, _)| numbered(k, "mp", 255)) {
        match bind_of(&m.world, &conf, key, text) {
            Ok(b) => _ = mounts.insert(key.clone(), b),
            Err(why) => return failed(why),
        }
    }
    let own = conf.raw.iter().find(|(k, _)| k == "lxc.apparmor.profile").map(|(_, v)| v.as_str());
    let confined = m.world.files.text("/sys/module/apparmor/parameters/enabled").trim() == "Y" && own != Some("unconfined");
    let label = if confined { format!("lxc-{vmid}_</var/lib/lxc> (enforce)") } else { "unconfined".to_owned() };
    let hostname = conf.get("hostname").unwrap_or_default().to_owned();
    if let Some(g) = m.world.guests.get_mut(&vmid) {
        g.world.files.put("/etc/hostname", format!("{hostname}\n"), 0o644, 0, 0);
    }
    guests::boot(m, vmid, &bounds(&conf, false), conf.is("unprivileged"), &label, mounts);
    Ok(())
}

fn stop(m: &mut Machine, vmid: u32) -> Result<String> {
    let conf = load(&m.world, vmid)?;
    if !running(&m.world, vmid) {
        return Err(format!("CT {vmid} not running\n"));
    }
    if wanted(&m.world, vmid).is_some_and(|s| s != "ignored") {
        request(&mut m.world, vmid, "stopped")?;
        return Ok(format!("Requesting HA stop for CT {vmid}\n"));
    }
    conf.refuse_locked()?;
    guests::halt(m, vmid);
    Ok(String::new())
}

fn destroy(m: &mut Machine, g: &Given) -> Result<String> {
    let vmid = g.args[0].parse::<u32>().unwrap_or_default();
    let yes = |o: &str| g.options.get(o).is_some_and(|v| v == "1");
    let conf = load(&m.world, vmid)?;
    if conf.is("protection") {
        return Err(format!("can't remove CT {vmid} - protection mode enabled\n"));
    }
    conf.refuse_locked()?;
    let ha = wanted(&m.world, vmid).is_some();
    if ha && !yes("purge") {
        return Err(format!("unable to remove CT {vmid} - used in HA resources and purge parameter not set.\n"));
    }
    let mut out = String::new();
    if running(&m.world, vmid) {
        if !yes("force") {
            return Err(format!("unable to destroy CT {vmid} - container is running\n"));
        }
        guests::halt(m, vmid);
    }
    if ha {
        let mut all = storage_cfg::parse(&m.world.files.text(RESOURCES));
        all.remove(&vmid.to_string());
        keep_resources(&mut m.world, &all);
        let _ = writeln!(out, "NOTE: removed CT {vmid} from HA resource configuration.");
    }
    m.world.guests.remove(&vmid);
    m.world.files.take(path(vmid));
    Ok(out)
}

fn push(m: &mut Machine, g: &Given) -> Result<String> {
    let vmid = g.args[0].parse::<u32>().unwrap_or_default();
    load(&m.world, vmid)?;
    if !running(&m.world, vmid) {
        return Err("can only push files to a running CT\n".into());
    }
    let (from, to) = (&g.args[1], Path::new(&g.args[2]));
    let Some(bytes) = m.world.files.bytes(from).map(<[u8]>::to_vec) else {
        return Err(format!("failed to open {from} for reading\n"));
    };
    let number = |o: &str| g.options.get(o).map_or(Ok(0), |v| v.parse::<u32>().map_err(|_| format!("no such {o}: '{v}'\n")));
    let (uid, gid) = (number("user")?, number("group")?);
    let mode = g.options.get("perms").map_or(Ok(0o644), |p| {
        u32::from_str_radix(p, 8).map_err(|_| refused(&BTreeMap::from([("perms".to_owned(), format!("invalid mode '{p}'"))])))
    })?;
    guests::inside(m, Some(vmid), |m| {
        let there = to.parent().is_some_and(|d| m.world.files.fs_type(d).is_some());
        if there {
            m.world.files.put(to, &bytes, mode, uid, gid);
        }
        Ok(there)
    })
    .map_err(|e| crate::error::chain(&e))?
    .then(String::new)
    .ok_or_else(|| "failed to create file: No such file or directory\n".to_owned())
}

// ---- others ------------------------------------------------------------------------------------------------------------

fn lxc_info(world: &World, words: &[String]) -> Said {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ["-n", name, "-p", "-H"] = words[..] else { return Said::err(1, "lxc-info: these options are not simulated\n") };
    match name.parse::<u32>().ok().and_then(|v| world.guests.get(&v)) {
        None => Said::err(1, format!("{name} doesn't exist\n")),
        Some(Guest { init: Some(pid), .. }) => Said::ok(format!("{pid}\n")),
        Some(_) => Said::ok(""),
    }
}

fn keep_resources(world: &mut World, all: &BTreeMap<String, Pairs>) {
    let mut text = String::new();
    for (id, r) in all {
        let _ = writeln!(text, "{}: {id}", r.get("type").map_or("ct", String::as_str));
        r.iter().filter(|(k, _)| *k != "type").for_each(|(k, v)| _ = writeln!(text, "\t{k} {v}"));
        text.push('\n');
    }
    world.files.put(RESOURCES, text, 0o640, 0, 33);
}

/// Asks the HA manager for a state; it comes about when it looks next.
fn request(world: &mut World, vmid: u32, state: &str) -> Result<()> {
    let mut all = storage_cfg::parse(&world.files.text(RESOURCES));
    let r = all.get_mut(&vmid.to_string()).filter(|r| r.get("type").is_some_and(|t| t == "ct"));
    r.ok_or_else(|| format!("no such resource 'ct:{vmid}'\n"))?.insert("state".into(), state.into());
    keep_resources(world, &all);
    Ok(())
}

fn ha_manager(m: &mut Machine, all: &[String]) -> Result<String> {
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let number = |sid: &str| {
        sid.strip_prefix("ct:").and_then(|v| v.parse::<u32>().ok()).ok_or_else(|| {
            "400 Parameter verification failed.\nsid: invalid format - value does not look like a valid HA resource ID\n"
                .to_owned()
        })
    };
    match all[..] {
        ["set", sid, "--state", state @ ("started" | "stopped" | "enabled" | "disabled" | "ignored")] => {
            request(&mut m.world, number(sid)?, state)?
        }
        ["set", _, "--state", state] => {
            return Err(format!(
                "400 Parameter verification failed.\nstate: value '{state}' does not have a value in the enumeration 'started, stopped, enabled, disabled, ignored'\n"
            ));
        }
        ["add", sid] => {
            let vmid = number(sid)?;
            load(&m.world, vmid).map_err(|_| format!("unable to add resource '{sid}': container does not exist\n"))?;
            let mut resources = storage_cfg::parse(&m.world.files.text(RESOURCES));
            resources.insert(vmid.to_string(), Pairs::from([("type".into(), "ct".into()), ("state".into(), "started".into())]));
            keep_resources(&mut m.world, &resources);
        }
        _ => return Err(format!("'ha-manager {}' is not simulated\n", all.join(" "))),
    }
    Ok(String::new())
}

/// What the HA manager does each time it looks: containers are brought into the state that was asked for, however they left it.
pub(super) fn look_after(m: &mut Machine) {
    for (id, r) in storage_cfg::parse(&m.world.files.text(RESOURCES)) {
        let (Ok(vmid), state) = (id.parse::<u32>(), r.get("state").map_or("started", String::as_str)) else { continue };
        match (state, running(&m.world, vmid)) {
            // What does not start stays down; the manager tries again when it looks next.
            ("started" | "enabled", false) => _ = bring_up(m, vmid),
            ("stopped" | "disabled", true) => guests::halt(m, vmid),
            _ => {}
        }
    }
}

/// The node has booted: what shall start with it does.
pub(super) fn node_booted(m: &mut Machine) {
    let on: Vec<u32> = m.world.guests.keys().copied().filter(|v| load(&m.world, *v).is_ok_and(|c| c.is("onboot"))).collect();
    for vmid in on {
        let _ = bring_up(m, vmid);
    }
}
