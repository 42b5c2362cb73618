// SPDX-License-Identifier: MIT OR Apache-2.0
//! A gateway's container: made from a template, limited, given the trees, started and stopped, replaced, destroyed. It knows `pct`'s words
//! (pve-container 5 and 6) and whose a container is; it must not know Samba.
//!
//! Ours is a container whose tag carries the gateway's uuid and whose number the record names. Everything that is done to a container looks
//! for that tag just before; a number alone never suffices.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::Intent;
use super::super::accounts;
use super::super::common::{Steps, is_last, nothing, record};
use super::super::directory::SECRETS;
use super::super::samba;
use super::super::step::{Effect, Seen, Step, Undo, Watch};
use crate::effect::{Cmd, HAND, HAND_INSIDE, HAND_VERSION, Place, Program};
use crate::error::{Error, Kind, Result};
use crate::facts::{Facts, GuestFacts, GuestSeen, Limits, TemplateFact, TreeFact};
use crate::format::guest_conf::{MountPoint, pairs, slot};
use crate::spec::guest::{Ip4, Ip6, Net};
use crate::spec::record::{Ids, Key, Member, Mount, Record, ShareEntry, ShareState};
use crate::spec::{GuestSpec, ShareSpec};
use crate::types::{VmId, sha256_hex};

/// The raw line that limits the number of processes.
const PROCESSES: &str = "lxc.cgroup2.pids.max";
/// Where secrets are on their way.
const CARRIED: &str = "/run/smbgw/carried";
/// Where they are inside, for a moment.
const SECRETS_CARRIED: &str = "/var/lib/samba/private/smbgw-carried.tdb";
/// How long a graceful stop may take.
const SHUTDOWN_S: u64 = 60;
/// File systems on which the kernel maps ids of a mount (as of Linux 6.8: ext4, XFS, btrfs 5.12 and later, ZFS 2.2, tmpfs 6.3).
const MAPPABLE: [&str; 5] = ["ext4", "xfs", "btrfs", "zfs", "tmpfs"];

/// The mark of a gateway's containers.
pub fn mark(uuid: &str) -> String {
    format!("smbgw-{uuid}")
}

fn seen(facts: &Facts) -> Result<&GuestFacts> {
    facts.guest.as_ref().ok_or_else(|| Error::new(Kind::Internal, "nobody looked at the containers"))
}

fn settings(facts: &Facts, record: &Record) -> GuestSpec {
    GuestSpec::read(&facts.paths.gateway, &record.settings).0
}

// ---- trees -------------------------------------------------------------------------------------------------------------

/// Slot and numbers of a share's tree in the container. What a share has it keeps; a new one gets mapped ids where `pct`, the file system
/// and the container can do that, else shifted ones, and those only on a tree that is empty or shifted already.
pub fn mount_of(spec: &ShareSpec, facts: &Facts, old: Option<&ShareEntry>, tree: &TreeFact) -> Result<Mount> {
    if let Some(m) = old.and_then(|e| e.mount) {
        return Ok(m);
    }
    let guest = seen(facts)?;
    if !tree.mounts_inside.is_empty() {
        let list: Vec<String> = tree.mounts_inside.iter().map(|p| p.display().to_string()).collect();
        let why = format!(
            "other file systems are mounted inside the tree, and a container would see empty directories there: {}",
            list.join(", ")
        );
        let remedy = "make each of them a share of its own, with the same --smbgw-gateway, or use --smbgw-mode native";
        return Err(Error::property("path", format!("{why}; {remedy}")));
    }
    let ids = if guest.idmap && MAPPABLE.contains(&tree.fs_type.as_str()) { Ids::Same } else { Ids::Shifted };
    let shift = Ids::Shifted.shift();
    if ids == Ids::Shifted && tree.populated && !(shift..shift + 65536).contains(&tree.owner.uid) {
        let why = format!(
            "{} is not empty, and {} has no mapped ids for containers: what is in it would belong to nobody",
            spec.path.display(),
            if guest.idmap { format!("the file system {}", tree.fs_type) } else { "this version of pve-container".into() }
        );
        // Proxmox shows the message of a property and nothing else.
        return Err(Error::property(
            "path",
            format!(
                "{why}; give everything in it the container's numbers: pve-smbgateway shift {0} (and later back: pve-smbgateway shift {0} --back)",
                spec.path.display()
            ),
        ));
    }
    Ok(Mount { slot: free_slot(facts)?, ids })
}

fn free_slot(facts: &Facts) -> Result<u8> {
    let mut taken: Vec<u8> =
        facts.record.iter().flat_map(|r| r.shares.values()).filter_map(|e| e.mount).map(|m| m.slot).collect();
    if let Some((_, g)) = facts.container() {
        taken.extend(g.conf.values.keys().chain(g.conf.pending.keys()).filter_map(|k| slot(k)));
    }
    // `pct` knows mp0 to mp255.
    (0..=255)
        .find(|n| !taken.contains(n))
        .ok_or_else(|| Error::new(Kind::Unsupported, "the container has no mount point left (256 at most)"))
}

/// What is worth a word about a share in a container.
pub fn warnings(spec: &ShareSpec, guest: &GuestSpec, facts: &Facts) -> Vec<String> {
    let mut list = Vec::new();
    let reached = facts.guest.as_ref().and_then(|g| g.reached.get(&spec.path)).cloned().unwrap_or_default();
    if spec.access.has_full() && !reached.is_empty() {
        list.push(format!(
            "{} can be reached by {} as well: whoever writes there can change the Windows ACLs of the share, which are kept in user.NTACL",
            spec.path.display(),
            reached.join(", ")
        ));
    }
    if spec.nodes.len() > 1 && !spec.shared {
        list.push("several nodes are named, but the tree is not marked shared: the container cannot be migrated between them (--shared 1, if the tree is the same on all)".into());
    }
    if guest.net.ip == Ip4::Dhcp && facts.container().is_none() {
        list.push(format!("the container gets its address by DHCP under the name {}", guest.hostname));
    }
    list
}

/// A tree as a mount point of the container.
fn mount_point(spec: &ShareSpec, mount: Mount) -> MountPoint {
    // Nothing in a share is ever a device or runs with its owner's rights.
    let mut options =
        BTreeMap::from([("mountoptions".to_owned(), "nodev;nosuid".to_owned()), ("backup".to_owned(), "0".to_owned())]);
    if mount.ids == Ids::Same {
        options.insert("idmap".to_owned(), "passthrough".to_owned());
    }
    if spec.shared {
        options.insert("shared".to_owned(), "1".to_owned());
    }
    MountPoint { source: spec.path.display().to_string(), mp: samba::served_path(spec).display().to_string(), options }
}

/// The same mount point, however its options are written.
fn same_mount(a: &MountPoint, b: &MountPoint) -> bool {
    let plain = |m: &MountPoint| {
        let mut m = m.clone();
        // What is false by default need not be there.
        m.options.retain(|k, v| !(matches!(k.as_str(), "backup" | "shared" | "ro" | "quota" | "keepattrs") && v == "0"));
        if let Some(o) = m.options.get_mut("mountoptions") {
            let mut words: Vec<&str> = o.split(';').collect();
            words.sort_unstable();
            *o = words.join(";");
        }
        m
    };
    plain(a) == plain(b)
}

/// Mount points as they shall be: the trees of all shares that are in place, by slot.
fn wanted_mounts(facts: &Facts, record: &Record) -> Result<(BTreeMap<u8, MountPoint>, Vec<String>)> {
    let (mut wanted, mut warnings) = (BTreeMap::new(), Vec::new());
    for (id, e) in record.shares.iter().filter(|(_, e)| e.state != ShareState::Deleting) {
        let (spec, Some(mount)) = (samba::spec_of(id, e, record)?, e.mount) else { continue };
        match samba::tree_holds(&spec, &e.tree, facts) {
            Ok(()) => _ = wanted.insert(mount.slot, mount_point(&spec, mount)),
            Err(why) => warnings.push(format!("share {id} is not in the container: {why}")),
        }
    }
    Ok((wanted, warnings))
}

// ---- the container -----------------------------------------------------------------------------------------------------

/// The phases of the container itself.
pub fn phase(phase: &str, intent: &Intent, facts: &Facts) -> Steps {
    match (phase, intent) {
        ("guest", Intent::Create { .. } | Intent::Update { .. } | Intent::Repair { .. }) => {
            let stopped = facts.record.as_ref().is_some_and(|r| r.stopped);
            let start = if matches!(intent, Intent::Create { .. }) || !stopped { Start::IfStopped } else { Start::No };
            keep_right(facts, start)
        }
        ("guest", Intent::Delete { id, .. }) => without(id, facts),
        ("guest", Intent::GatewayStart) => keep_right(facts, Start::IfStopped),
        ("guest", Intent::GatewayRestart) => keep_right(facts, Start::Anew),
        ("guest", Intent::GatewayStop) => stop_for_good(facts),
        ("guest", Intent::GatewayAdopt(vmid)) => adopt(*vmid, facts),
        ("guest", Intent::GatewayUpgrade(template)) => replace(template.as_deref(), facts),
        ("retire", Intent::GatewayUpgrade(_)) => retire(facts),
        _ => Err(Error::new(Kind::Internal, format!("there is no phase {phase} of a container for this intent"))),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    No,
    IfStopped,
    Anew,
}

/// A container as the planner goes through it.
struct Ct<'a> {
    guest: &'a GuestFacts,
    spec: GuestSpec,
    vmid: VmId,
    uuid: String,
    steps: Vec<Step>,
}

impl Ct<'_> {
    fn pct(&self, words: &[&str]) -> Cmd {
        let vmid = self.vmid.to_string();
        let mut args = vec![words[0].to_owned(), vmid];
        args.extend(words[1..].iter().map(|w| (*w).to_owned()));
        Cmd::new(Program::Pct, args).within_ms(60_000)
    }

    fn on(&self, cmd: Cmd) -> Effect {
        Effect::OnGuest { vmid: self.vmid, uuid: self.uuid.clone(), cmd, gone_ok: false }
    }

    /// For an undo: the container may have gone since.
    fn back(&self, cmd: Cmd) -> Effect {
        Effect::OnGuest { vmid: self.vmid, uuid: self.uuid.clone(), cmd, gone_ok: true }
    }

    fn there(&self, running: bool) -> Seen {
        Seen::Guest { marks: vec![mark(&self.uuid)], running }
    }

    /// Started and stopped through the HA manager where that looks after it.
    fn start_cmd(&self) -> Cmd {
        if self.guest.ha.contains(&self.vmid) { self.ha("started") } else { self.pct(&["start"]).within_ms(120_000) }
    }

    fn stop_cmd(&self) -> Cmd {
        if self.guest.ha.contains(&self.vmid) {
            return self.ha("stopped");
        }
        let timeout = SHUTDOWN_S.to_string();
        self.pct(&["shutdown", "--timeout", &timeout, "--forceStop", "1"]).within_ms((SHUTDOWN_S + 30) * 1000)
    }

    fn ha(&self, state: &str) -> Cmd {
        Cmd::new(Program::HaManager, ["set", &format!("ct:{}", self.vmid), "--state", state]).within_ms(60_000)
    }

    fn stop(&mut self, id: &str) {
        let title = format!("shut container {} down", self.vmid);
        let (effect, undo) = (self.on(self.stop_cmd()), self.back(self.start_cmd()));
        let step = Step::new(id, title, Watch::Guest(self.vmid), effect).want(self.there(false));
        self.steps.push(step.undo(Undo::Do(vec![undo])).long());
    }

    fn destroy_cmd(&self) -> Cmd {
        // What else names it (backup jobs, HA, firewall) goes with it; trees are bind mounts, which are not volumes, and with other volumes it is not `disposable`.
        self.pct(&["destroy", "--purge", "1"]).within_ms(120_000)
    }

    fn destroy(&mut self, id: &str) {
        let title = format!("destroy container {}; the trees are not part of it", self.vmid);
        let step = Step::new(id, title, Watch::Guest(self.vmid), self.on(self.destroy_cmd())).want(Seen::Absent);
        self.steps.push(step.undo(Undo::None("the worker builds it anew from the gateway record".into())).long());
    }

    /// Made, limited, with its trees, not started.
    fn create(&mut self, template: &TemplateFact, hwaddr: Option<&str>, mounts: &BTreeMap<u8, MountPoint>) -> Result<()> {
        let rootfs = self.rootfs()?;
        self.steps.push(
            Step::new(
                "guest/template",
                format!("check the template {}", template.marker.name),
                Watch::Nothing,
                Effect::Checksum { path: template.path.clone(), sha256: template.marker.sha256.clone() },
            )
            .long(),
        );
        let s = &self.spec;
        let volume = format!("{}:vztmpl/{}", template.storage, template.marker.archive);
        let (memory, swap, cores) = (s.memory.to_string(), s.swap.to_string(), s.cores.to_string());
        let tags = format!("smbgw;{}", mark(&self.uuid));
        let net = print_net(&s.net, hwaddr);
        let mut cmd = self.pct(&[
            "create",
            &volume,
            "--hostname",
            &s.hostname,
            "--ostype",
            "debian",
            "--arch",
            &template.marker.arch,
            "--unprivileged",
            "1",
            "--memory",
            &memory,
            "--swap",
            &swap,
            "--cores",
            &cores,
            "--rootfs",
            &rootfs,
            "--net0",
            &net,
            "--onboot",
            "0",
            "--tags",
            &tags,
        ]);
        if !s.net.dns.is_empty() {
            cmd.args.extend(["--nameserver".to_owned(), print_dns(&s.net)]);
        }
        let undo =
            Effect::OnGuest { vmid: self.vmid, uuid: self.uuid.clone(), cmd: self.destroy_cmd().also_force(), gone_ok: true };
        self.steps.push(
            Step::new(
                "guest/create",
                format!("make container {} from {}", self.vmid, template.marker.name),
                Watch::Guest(self.vmid),
                Effect::CreateGuest { vmid: self.vmid, cmd: cmd.within_ms(600_000) },
            )
            .before(Seen::Absent)
            .want(self.there(false))
            .undo(Undo::Do(vec![undo]))
            .long(),
        );
        self.limit_processes(None);
        for (n, m) in mounts {
            self.mount(*n, m, None);
        }
        Ok(())
    }

    fn rootfs(&self) -> Result<String> {
        match (&self.spec.rootfs, self.guest.storages.first()) {
            (Some(r), _) if !self.guest.storages.contains(&r.storage) => {
                Err(Error::property("smbgw-rootfs", format!("storage {} takes no containers on this node", r.storage)).remedy(
                    format!(
                        "use one of: {}; or allow it: pvesm set {} --content …,rootdir",
                        self.guest.storages.join(", "),
                        r.storage
                    ),
                ))
            }
            (Some(r), _) => Ok(format!("{}:{}", r.storage, r.gib)),
            (None, Some(first)) => Ok(format!("{first}:2")),
            (None, None) => Err(Error::property("smbgw-rootfs", "no storage of this node takes containers")
                .remedy("allow one to: pvesm set STORAGE --content …,rootdir")),
        }
    }

    fn limit_processes(&mut self, old: Option<&str>) {
        let value = self.spec.processes.to_string();
        let effect = |value| Effect::GuestLine { vmid: self.vmid, uuid: self.uuid.clone(), key: PROCESSES.into(), value };
        let (step, undo) = (effect(Some(value.clone())), effect(old.map(str::to_owned)));
        self.steps.push(
            Step::new("guest/processes", "limit its processes", Watch::GuestLine(self.vmid, PROCESSES.into()), step)
                .want(Seen::Line(value))
                .undo(Undo::Do(vec![undo])),
        );
    }

    /// Sets one property, with what it was before as its undo.
    fn set(&mut self, id: String, title: String, key: &str, value: &str, old: Option<&str>) {
        let option = format!("--{key}");
        let undo = match old {
            Some(old) => self.pct(&["set", &option, old]),
            None => self.pct(&["set", "--delete", key]),
        };
        let effect = self.on(self.pct(&["set", &option, value]));
        self.steps
            .push(Step::new(id, title, Watch::GuestLine(self.vmid, key.into()), effect).undo(Undo::Do(vec![self.back(undo)])));
    }

    fn mount(&mut self, n: u8, m: &MountPoint, old: Option<&str>) {
        self.set(format!("guest/mount.{n}"), format!("put {} into the container", m.source), &format!("mp{n}"), &m.print(), old);
    }

    fn unmount(&mut self, n: u8, old: &str) {
        let key = format!("mp{n}");
        let effect = self.on(self.pct(&["set", "--delete", &key]));
        // A deletion that waits for the next start is taken back by setting the same again.
        let undo = self.back(self.pct(&["set", &format!("--{key}"), old]));
        let title = format!("take mp{n} out of the container");
        self.steps.push(
            Step::new(format!("guest/unmount.{n}"), title, Watch::GuestLine(self.vmid, key), effect).undo(Undo::Do(vec![undo])),
        );
    }

    fn start(&mut self, id: &str) {
        let title = format!("start container {}", self.vmid);
        let (effect, undo) = (self.on(self.start_cmd()), self.back(self.stop_cmd()));
        let step = Step::new(id, title, Watch::Guest(self.vmid), effect).want(self.there(true));
        self.steps.push(step.undo(Undo::Do(vec![undo])).long());
    }

    /// The product's hand inside, of our own version.
    fn hand(&mut self) {
        let cmd = self.pct(&["push", HAND, HAND_INSIDE, "--perms", "0755", "--user", "0", "--group", "0"]);
        let undo = Undo::None("it is of use as long as the container is".into());
        self.steps.push(Step::new("guest/hand", "bring smbgw-guest into the container", Watch::Nothing, self.on(cmd)).undo(undo));
    }

    fn booted(&mut self) {
        let step = Step::new("guest/boot", "wait until the container is up", Watch::Nothing, Effect::AwaitBoot);
        self.steps.push(step.at(Place::Ct(self.vmid)));
    }

    fn read_back(&mut self) {
        let wanted = limits(&self.spec);
        let effect = Effect::GuestLimits { vmid: self.vmid, wanted };
        self.steps.push(Step::new("guest/limits", "read its limits back from the kernel", Watch::Nothing, effect));
    }

    /// Takes Samba's secrets out of a container, with the password of the computer account: an upgraded one is the same computer.
    fn take_out(&mut self, to: &Path) {
        let dir = to.parent().unwrap_or(to).to_owned();
        let effect = Effect::MakeDir { path: dir, mode: 0o700 };
        self.steps.push(Step::new("guest/secrets-room", "make room for the secrets", Watch::Nothing, effect));
        let cmd = self.pct(&["pull", SECRETS, &to.display().to_string(), "--perms", "0600", "--user", "0", "--group", "0"]);
        self.steps.push(
            Step::new("guest/secrets-out", "take Samba's secrets out of it", Watch::Exists(to.to_owned()), self.on(cmd))
                .undo(Undo::Do(vec![Effect::Remove(to.to_owned())])),
        );
    }

    /// Brings them into the new one. Its Samba has a database open, so they are put beside it and take its place.
    fn bring_in(&mut self, from: &Path) {
        let cmd =
            self.pct(&["push", &from.display().to_string(), SECRETS_CARRIED, "--perms", "0600", "--user", "0", "--group", "0"]);
        let gone = Undo::None("the container goes".into());
        self.steps
            .push(Step::new("guest/secrets-in", "bring them into the new one", Watch::Nothing, self.on(cmd)).undo(gone.clone()));
        let effect = Effect::Rename(SECRETS_CARRIED.into(), SECRETS.into());
        self.steps.push(
            Step::new("guest/secrets", "let its Samba have them", Watch::Nothing, effect).at(Place::Ct(self.vmid)).undo(gone),
        );
        let forget = Effect::Remove(from.to_owned());
        self.steps.push(
            Step::new("guest/secrets-gone", "remove them from the node", Watch::Exists(from.to_owned()), forget)
                .want(Seen::Absent)
                .undo(Undo::None("the old container still has them".into())),
        );
    }

    /// The machine SID: kept, or given again to a container that was built anew.
    fn sid(&mut self, record: &Record) {
        let place = Place::Ct(self.vmid);
        let step = match &record.sid {
            None => {
                Step::new("guest/sid", "keep the SID of its Samba", Watch::Record(Key::Sid), Effect::KeepSid).undo(Undo::Restore)
            }
            Some(sid) => {
                let cmd = Cmd::new(Program::Net, ["setlocalsid", sid]);
                Step::new("guest/sid", "give its Samba the gateway's SID", Watch::Nothing, Effect::Run(cmd))
            }
        };
        self.steps.push(step.at(place));
    }
}

impl Cmd {
    fn also_force(mut self) -> Self {
        self.args.extend(["--force".to_owned(), "1".to_owned()]);
        self
    }
}

/// The limits that must be in effect.
pub fn limits(spec: &GuestSpec) -> Limits {
    let mib = |n: u32| u64::from(n) << 20;
    Limits {
        memory: Some(mib(spec.memory)),
        swap: Some(mib(spec.swap)),
        cores: Some(u64::from(spec.cores)),
        processes: Some(u64::from(spec.processes)),
        unprivileged: true,
        apparmor: true,
    }
}

/// `net0` as `pct` takes it.
fn print_net(net: &Net, hwaddr: Option<&str>) -> String {
    let mut text = format!("name=eth0,bridge={}", net.bridge);
    let mut add = |key: &str, value: String| text.push_str(&format!(",{key}={value}"));
    if net.firewall {
        add("firewall", "1".into());
    }
    match &net.ip {
        Ip4::Dhcp => add("ip", "dhcp".into()),
        Ip4::None => add("ip", "manual".into()),
        Ip4::Static(a, p, gw) => {
            gw.iter().for_each(|g| add("gw", g.to_string()));
            add("ip", format!("{a}/{p}"));
        }
    }
    match &net.ip6 {
        Ip6::Auto => add("ip6", "auto".into()),
        Ip6::Dhcp => add("ip6", "dhcp".into()),
        Ip6::None => add("ip6", "manual".into()),
        Ip6::Static(a, p, gw) => {
            gw.iter().for_each(|g| add("gw6", g.to_string()));
            add("ip6", format!("{a}/{p}"));
        }
    }
    hwaddr.iter().for_each(|h| add("hwaddr", (*h).to_owned()));
    net.mtu.iter().for_each(|m| add("mtu", m.to_string()));
    net.tag.iter().for_each(|t| add("tag", t.to_string()));
    text
}

/// Name servers as `pct` takes them.
fn print_dns(net: &Net) -> String {
    net.dns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// The same interface, whatever the order, and whoever chose the hardware address.
fn same_net(a: &str, b: &str) -> bool {
    let plain = |t: &str| -> BTreeMap<String, String> {
        pairs(t, "name")
            .into_iter()
            .filter(|(k, _)| !matches!(*k, "hwaddr" | "type"))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    };
    plain(a) == plain(b)
}

/// The hardware address of a gateway, from its uuid: a container that is made anew is the same machine to the network, and to whoever gives
/// it its address.
fn own_hwaddr(uuid: &str, prefix: Option<&str>) -> String {
    let sum = sha256_hex(uuid.as_bytes()).to_uppercase();
    // Proxmox's own prefix, unless the data centre has another.
    format!("{}:{}:{}:{}", prefix.unwrap_or("BC:24:11"), &sum[0..2], &sum[2..4], &sum[4..6])
}

fn hwaddr(conf: &GuestSeen) -> Option<String> {
    let net = conf.conf.get("net0")?;
    pairs(net, "name").into_iter().find(|(k, _)| *k == "hwaddr").map(|(_, v)| v.to_owned())
}

/// The number for a new container: the one that was asked for, the one it had, or the next free one.
fn number(facts: &Facts, guest: &GuestFacts, spec: &GuestSpec, had: Option<VmId>) -> Result<VmId> {
    let taken = |v: &VmId| guest.used.contains_key(v) || guest.claimed.contains(v);
    if let Some(v) = spec.vmid {
        let whose = match guest.used.get(&v) {
            None if !taken(&v) => return Ok(v),
            None => "of another gateway's container, which is being made or is gone".to_owned(),
            Some(node) => format!("of another guest, on node {node}"),
        };
        return Err(Error::property("smbgw-vmid", format!("{v} is the number {whose}")).remedy("choose another number, or none"));
    }
    if let Some(v) = had.filter(|v| !taken(v)) {
        return Ok(v);
    }
    let (from, to) = guest.next_id.unwrap_or((VmId::FIRST, 1_000_000));
    let free = (from..to).filter_map(|n| VmId::new(n).ok()).find(|v| !taken(v));
    free.ok_or_else(|| Error::new(Kind::Unsupported, format!("node {}: no guest id is free from {from} to {to}", facts.node)))
}

/// The template to build from.
fn template<'a>(guest: &'a GuestFacts, wanted: Option<&str>) -> Result<&'a TemplateFact> {
    let build = "pve-smbgateway template build";
    let found = match wanted {
        Some(name) => guest.templates.iter().find(|t| t.marker.name == name),
        None => guest.templates.iter().filter(|t| t.present).max_by_key(|t| t.marker.built_ms),
    };
    match (found, wanted) {
        (Some(t), _) if t.present => Ok(t),
        (Some(t), _) => {
            Err(Error::new(Kind::NotFound, format!("the archive of template {} is gone: {}", t.marker.name, t.path.display()))
                .remedy(format!("put it back, or build another: {build}")))
        }
        (None, Some(name)) => Err(Error::property("smbgw-template", format!("there is no template {name} on this node"))
            .remedy("see: pve-smbgateway template list")),
        (None, None) => Err(Error::new(Kind::NotFound, "there is no template to make the container from").remedy(format!(
            "{build}   (needs debootstrap; takes a minute; an archive with its marker may also be copied from another node)"
        ))),
    }
}

fn ct<'a>(facts: &'a Facts, vmid: VmId) -> Result<Ct<'a>> {
    let r = facts.record.as_ref();
    let spec = r.map_or_else(|| GuestSpec::read(&facts.paths.gateway, &Default::default()).0, |r| settings(facts, r));
    let uuid = r.map(|r| r.uuid.clone()).unwrap_or_default();
    Ok(Ct { guest: seen(facts)?, spec, vmid, uuid, steps: Vec::new() })
}

/// Whether the container that the record names is still ours.
fn ours<'a>(facts: &'a Facts, r: &Record) -> Result<Option<(VmId, &'a GuestSeen)>> {
    let guest = seen(facts)?;
    let Some(vmid) = r.vmid else { return Ok(None) };
    match guest.here.get(&vmid) {
        Some(g) if g.conf.has_tag(&mark(&r.uuid)) => Ok(Some((vmid, g))),
        Some(g) if g.conf.get("lock") == Some("create") => Err(Error::new(
            Kind::Busy,
            format!("container {vmid} is being made, or its making was cut short: it is locked (create) and carries no mark of ours yet"),
        )
        .remedy(format!("wait; if nothing makes it any more: pct unlock {vmid} && pct destroy {vmid}"))),
        // Somebody else's by now: ours is gone, and its number with it.
        Some(_) => missing(guest, r).map(|()| None),
        None => match guest.used.get(&vmid) {
            Some(node) if *node != facts.node && guest.marked.get(&vmid) == Some(node) => Err(moved(vmid, node, r)),
            _ => missing(guest, r).map(|()| None),
        },
    }
}

fn moved(vmid: VmId, node: &str, r: &Record) -> Error {
    Error::new(Kind::Drift, format!("container {vmid} of gateway {} was moved to node {node}", r.id))
        .remedy(format!("if it shall stay there, name that node in `nodes` of its shares; else: pct migrate {vmid} {}", r.node))
}

/// Ours is not where the record says. One that carries our mark under another number must be told apart from a copy by a human; a second
/// one is never built beside it.
fn missing(guest: &GuestFacts, r: &Record) -> Result<()> {
    match guest.marked.iter().next() {
        None => Ok(()),
        Some((vmid, node)) => Err(Error::new(
            Kind::Drift,
            format!("the container of gateway {} is gone, but container {vmid} on node {node} carries its mark: it was renumbered, copied or restored", r.id),
        )
        .remedy(format!("if it is the gateway: pve-smbgateway gateway adopt {} {vmid}; if it is a copy, take the tag off or destroy it", r.id))),
    }
}

/// The container as it shall be: made where it is not, corrected where it differs, running if it should.
fn keep_right(facts: &Facts, start: Start) -> Steps {
    let r = record(facts)?;
    if start == Start::IfStopped && r.shares.values().all(|e| e.state == ShareState::Deleting) && r.vmid.is_none() {
        return nothing();
    }
    let (mounts, mut warnings) = wanted_mounts(facts, r)?;
    let found = ours(facts, r)?;
    let Some((vmid, g)) = found else {
        let guest = seen(facts)?;
        let spec = settings(facts, r);
        let t = template(guest, spec.template.as_deref())?.clone();
        confining(facts, guest)?;
        let mut c = ct(facts, number(facts, guest, &spec, r.vmid)?)?;
        claim(&mut c, r);
        c.steps.push(accounts::record(
            "guest/image",
            format!("record its template {}", t.marker.name),
            Key::Template,
            Some(Value::String(t.marker.name.clone())),
        ));
        let address = r.hwaddr.clone().unwrap_or_else(|| own_hwaddr(&r.uuid, guest.mac_prefix.as_deref()));
        if r.hwaddr.is_none() {
            c.steps.push(accounts::record(
                "guest/hwaddr",
                "record its hardware address",
                Key::Hwaddr,
                Some(Value::String(address.clone())),
            ));
        }
        c.create(&t, Some(&address), &mounts)?;
        wake(&mut c, r, true, t.marker.hand != HAND_VERSION);
        return Ok((c.steps, warnings));
    };
    let mut c = ct(facts, vmid)?;
    // A mount point of a running container goes and changes only with its next start.
    let restart = g.running && start == Start::Anew;
    if restart {
        c.stop("guest/stop");
    }
    let running = g.running && !restart;
    correct(&mut c, g, &mounts, running, &mut warnings);
    if start != Start::No {
        unstop(&mut c, r);
    }
    if !running && start != Start::No {
        wake(&mut c, r, false, g.hand.is_err());
    } else if running {
        if g.hand.is_err() {
            c.hand();
            c.booted();
        }
        // What changes with the next start only is as it was until then.
        if let Some(n) = g.conf.get(PROCESSES).and_then(|n| n.parse().ok()) {
            c.spec.processes = n;
        }
        c.read_back();
    }
    if matches!(start, Start::IfStopped) && g.running {
        let (more, words) = retire(facts)?;
        c.steps.extend(more);
        warnings.extend(words);
    }
    Ok((c.steps, warnings))
}

/// The node can confine what is made on it.
fn confining(facts: &Facts, guest: &GuestFacts) -> Result<()> {
    if guest.apparmor {
        return Ok(());
    }
    Err(Error::new(Kind::Unsupported, format!("AppArmor is off on node {}, and a container without it is not made", facts.node))
        .remedy("start the node with a kernel of Proxmox VE, without apparmor=0"))
}

/// Records that the container shall run, where it was stopped on purpose.
fn unstop(c: &mut Ct<'_>, r: &Record) {
    if r.stopped {
        c.steps.push(accounts::record("guest/wanted", "record that it shall run", Key::Stopped, None));
    }
}

/// Records a number before the first command that uses it.
fn claim(c: &mut Ct<'_>, r: &Record) {
    if r.vmid != Some(c.vmid) {
        let value = Some(Value::from(c.vmid.number()));
        c.steps.push(accounts::record("guest/claim", format!("record container {}", c.vmid), Key::Vmid, value));
    }
}

/// Started, with our hand in it, up, limited as ordered.
fn wake(c: &mut Ct<'_>, r: &Record, new: bool, hand: bool) {
    c.start("guest/start");
    if hand {
        c.hand();
    }
    c.booted();
    c.read_back();
    if new {
        c.sid(r);
    }
}

/// What differs from the wanted configuration is put right.
fn correct(c: &mut Ct<'_>, g: &GuestSeen, mounts: &BTreeMap<u8, MountPoint>, running: bool, warnings: &mut Vec<String>) {
    let s = c.spec.clone();
    for (key, value) in
        [("memory", s.memory.to_string()), ("swap", s.swap.to_string()), ("cores", s.cores.to_string()), ("onboot", "0".into())]
    {
        let now = g.conf.coming(key);
        if now.unwrap_or(if key == "onboot" { "0" } else { "" }) != value {
            c.set(format!("guest/{key}"), format!("set {key} to {value}"), key, &value, g.conf.get(key));
        }
    }
    let net = print_net(&s.net, None);
    if !g.conf.coming("net0").is_some_and(|now| same_net(now, &net)) {
        let net = print_net(&s.net, hwaddr(g).as_deref());
        c.set("guest/net".into(), "set its network".into(), "net0", &net, g.conf.get("net0"));
    }
    // What an administrator set stays where the settings name none.
    if !s.net.dns.is_empty() && g.conf.coming("nameserver") != Some(print_dns(&s.net).as_str()) {
        c.set("guest/dns".into(), "set its name servers".into(), "nameserver", &print_dns(&s.net), g.conf.get("nameserver"));
    }
    if g.conf.get(PROCESSES) != Some(s.processes.to_string().as_str()) {
        if running {
            warnings.push(
                "the limit of processes changes with the next start of the container: pve-smbgateway gateway restart".into(),
            );
        } else {
            c.limit_processes(g.conf.get(PROCESSES));
        }
    }
    let now = g.conf.mounts();
    for (n, m) in mounts {
        let old = g.conf.coming(&format!("mp{n}")).and_then(MountPoint::parse);
        match (&old, now.get(n)) {
            (Some(o), _) if same_mount(o, m) => {}
            (_, was) => {
                if was.is_some() && running {
                    warnings.push(format!(
                        "mount point mp{n} of the container changes with its next start: pve-smbgateway gateway restart"
                    ));
                }
                let was = g.conf.get(&format!("mp{n}")).map(str::to_owned);
                c.mount(*n, m, was.as_deref());
            }
        }
    }
    for (n, m) in &now {
        let key = format!("mp{n}");
        // What an administrator mounted elsewhere is left alone.
        if !mounts.contains_key(n) && g.conf.coming(&key).is_some() && Path::new(&m.mp).starts_with(samba::TREES) {
            c.unmount(*n, g.conf.get(&key).unwrap_or_default());
            if running {
                warnings.push(format!("mount point mp{n} ({}) stays in the container until its next start", m.source));
            }
        }
    }
}

/// Nothing of an administrator's goes with the container: `pct destroy` takes all volumes along, also those that are not ours.
fn disposable(vmid: VmId, g: &GuestSeen) -> Result<()> {
    if g.conf.get("protection").is_some_and(|p| p == "1") {
        return Err(
            Error::new(Kind::Conflict, format!("container {vmid} is protected")).remedy(format!("pct set {vmid} --protection 0"))
        );
    }
    if let Some((key, value)) = g.conf.volumes().into_iter().next() {
        return Err(Error::new(
            Kind::Conflict,
            format!("container {vmid} has a volume that is not ours, and would be destroyed with it: {key}: {value}"),
        )
        .remedy(format!(
            "move it to another guest (pct move-volume {vmid} {key} --target-vmid VMID), or remove it if nobody needs it"
        )));
    }
    Ok(())
}

// ---- removal -----------------------------------------------------------------------------------------------------------

/// A share leaves the container; with the last one it goes.
fn without(id: &str, facts: &Facts) -> Steps {
    let r = record(facts)?;
    let found = ours(facts, r)?;
    let mut warnings = Vec::new();
    if !is_last(id, r) {
        let Some((vmid, g)) = found else { return nothing() };
        let mut c = ct(facts, vmid)?;
        if let Some(m) = r.shares.get(id).and_then(|e| e.mount) {
            let key = format!("mp{}", m.slot);
            if let Some(old) = g.conf.get(&key).filter(|_| g.conf.coming(&key).is_some()) {
                c.unmount(m.slot, old);
                if g.running {
                    warnings.push(format!(
                        "mount point mp{} of container {vmid} goes with its next start: pve-smbgateway gateway restart {}",
                        m.slot, r.id
                    ));
                }
            }
        }
        return Ok((c.steps, warnings));
    }
    let mut steps = Vec::new();
    if let Some((vmid, g)) = found {
        let mut c = ct(facts, vmid)?;
        disposable(vmid, g)?;
        if g.running {
            c.stop("guest/stop");
        }
        c.destroy("guest/destroy");
        steps = c.steps;
    }
    let (old, _) = retire(facts)?;
    steps.extend(old);
    for (key, there, title) in [
        (Key::Vmid, r.vmid.is_some(), "forget the container"),
        (Key::Template, r.template.is_some(), "forget its template"),
        (Key::Settings, !r.settings.is_empty(), "forget its settings"),
        (Key::Stopped, r.stopped, "forget that it was stopped"),
        // What was in it is gone with it.
        (Key::ConfSha256, !r.conf_sha256.is_empty(), "forget its configuration file"),
        (Key::StartedSmbd, r.started_smbd, "forget that smbd did not run"),
    ] {
        if there {
            steps.push(accounts::record(format!("guest/forget-{}", key.to_string().replace(' ', "-")), title, key, None));
        }
    }
    Ok((steps, warnings))
}

fn stop_for_good(facts: &Facts) -> Steps {
    let r = record(facts)?;
    let Some((vmid, g)) = ours(facts, r)? else {
        return Err(Error::new(Kind::NotFound, format!("gateway {} has no container", r.id)));
    };
    let mut c = ct(facts, vmid)?;
    if !r.stopped {
        let value = Some(Value::Bool(true));
        c.steps.push(accounts::record("guest/wanted", "record that it shall not run", Key::Stopped, value));
    }
    if g.running {
        c.stop("guest/stop");
    }
    Ok((c.steps, Vec::new()))
}

fn adopt(vmid: VmId, facts: &Facts) -> Steps {
    let r = record(facts)?;
    let guest = seen(facts)?;
    if ours(facts, r).is_ok_and(|found| found.is_some()) {
        return Err(Error::new(
            Kind::Conflict,
            format!("gateway {} has its container {}", r.id, r.vmid.map(|v| v.to_string()).unwrap_or_default()),
        )
        .remedy("a second one cannot be adopted beside it"));
    }
    match guest.marked.get(&vmid) {
        Some(node) if *node == facts.node => {
            let value = Some(Value::from(vmid.number()));
            Ok((vec![accounts::record("guest/claim", format!("record container {vmid}"), Key::Vmid, value)], Vec::new()))
        }
        Some(node) => Err(Error::new(Kind::Conflict, format!("container {vmid} is on node {node}"))
            .remedy(format!("run the command there, or: pct migrate {vmid} {}", facts.node))),
        None => Err(Error::new(
            Kind::Conflict,
            format!("container {vmid} does not carry the mark of gateway {}; it is not touched", r.id),
        )
        .remedy(format!("the mark is the tag {}", mark(&r.uuid)))),
    }
}

// ---- upgrade -----------------------------------------------------------------------------------------------------------

/// Another container from another template takes over: same network, trees, users and SID.
fn replace(wanted: Option<&str>, facts: &Facts) -> Steps {
    let r = record(facts)?;
    let guest = seen(facts)?;
    let Some((old, g)) = ours(facts, r)? else {
        return Err(Error::new(Kind::NotFound, format!("gateway {} has no container to replace", r.id))
            .remedy("pve-smbgateway reconcile builds it"));
    };
    // One that is the gateway's still was written down a moment ago, by this very upgrade, whose number for the new one was taken meanwhile.
    if let Some(v) = r.retired.filter(|v| *v != old) {
        return Err(Error::new(Kind::Conflict, format!("an earlier upgrade left container {v}"))
            .remedy(format!("pve-smbgateway repair {}", r.id)));
    }
    let t = template(guest, wanted)?.clone();
    if r.template.as_deref() == Some(t.marker.name.as_str()) {
        return Err(Error::new(Kind::Conflict, format!("gateway {} is made from template {} already", r.id, t.marker.name))
            .remedy("build a newer one: pve-smbgateway template build"));
    }
    if guest.ha.contains(&old) {
        return Err(Error::new(Kind::Conflict, format!("container {old} is under the HA manager, which would start it again"))
            .remedy(format!("take it out for the upgrade: ha-manager remove ct:{old}; then add the new one")));
    }
    confining(facts, guest)?;
    disposable(old, g)?;
    let (mounts, warnings) = wanted_mounts(facts, r)?;
    let mut spec = settings(facts, r);
    // The number that was asked for is taken, by the old one.
    spec.vmid = None;
    let mut new = ct(facts, number(facts, guest, &spec, None)?)?;
    let was = ct(facts, old)?;
    let address = r.hwaddr.clone().or_else(|| hwaddr(g));
    // Both numbers are written down before anything is made: whatever happens, nothing of ours is forgotten.
    new.steps.push(accounts::record(
        "guest/retire",
        format!("record that container {old} is to be replaced"),
        Key::Retired,
        Some(Value::from(old.number())),
    ));
    claim(&mut new, r);
    new.steps.push(accounts::record(
        "guest/image",
        format!("record its template {}", t.marker.name),
        Key::Template,
        Some(Value::String(t.marker.name.clone())),
    ));
    if !r.conf_sha256.is_empty() {
        new.steps.push(accounts::record("guest/conf", "the new one has no configuration of ours yet", Key::ConfSha256, None));
    }
    let member = r.member.as_ref().is_some_and(Member::is_joined);
    if member && !g.running {
        return Err(Error::new(
            Kind::Conflict,
            format!("container {old} does not run, and the password of its computer account has to be taken along"),
        )
        .remedy(format!("start it first: pve-smbgateway gateway start {}", r.id)));
    }
    new.create(&t, address.as_deref(), &mounts)?;
    let carried = carried(facts);
    if g.running {
        let mut steps = std::mem::take(&mut new.steps);
        let mut was = was;
        if member {
            was.take_out(&carried);
        }
        was.stop("guest/stop-old");
        steps.extend(was.steps);
        new.steps = steps;
    }
    // The proof needs a running container, and what was proven is left running, as by a restart.
    unstop(&mut new, r);
    wake(&mut new, r, true, t.marker.hand != HAND_VERSION);
    if member {
        new.bring_in(&carried);
    }
    Ok((new.steps, warnings))
}

/// Where a computer account's password is on its way from one container to the next: memory of the node, root's alone.
fn carried(facts: &Facts) -> PathBuf {
    Path::new(CARRIED).join(format!("{}.tdb", facts.paths.gateway))
}

/// The replaced container goes, now that the new one is proven. Its end is the last thing that is done: after it there is no way back, and
/// nothing that could want one.
fn retire(facts: &Facts) -> Steps {
    let r = record(facts)?;
    let guest = seen(facts)?;
    let Some(old) = r.retired else { return nothing() };
    let mut c = ct(facts, old)?;
    c.steps.push(accounts::record("retire/forget", format!("forget container {old}"), Key::Retired, None));
    // Of an upgrade that had not come to take a number yet, and is lost: it is the one that serves.
    if r.vmid == Some(old) {
        return Ok((c.steps, Vec::new()));
    }
    // One that somebody removed, or took the mark off, is not ours to remove.
    if let Some(g) = guest.here.get(&old).filter(|g| g.conf.has_tag(&mark(&r.uuid))) {
        disposable(old, g)?;
        if g.running {
            c.stop("retire/stop");
        }
        c.destroy("retire/destroy");
    }
    Ok((c.steps, Vec::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_printed_as_pct_takes_them() {
        let print = |t: &str, h| print_net(&Net::parse(t).expect("fine"), h);
        assert_eq!(print("", None), "name=eth0,bridge=vmbr0,ip=dhcp,ip6=auto");
        assert_eq!(
            print("bridge=vmbr1,ip=192.0.2.10/24,gw=192.0.2.1,ip6=none,tag=12,mtu=1400,firewall=1", Some("BC:24:11:00:00:01")),
            "name=eth0,bridge=vmbr1,firewall=1,gw=192.0.2.1,ip=192.0.2.10/24,ip6=manual,hwaddr=BC:24:11:00:00:01,mtu=1400,tag=12"
        );
        assert!(same_net("ip=dhcp,bridge=vmbr0,name=eth0,hwaddr=X,type=veth,ip6=auto", &print("", None)));
        assert!(!same_net("name=eth0,bridge=vmbr0,ip=dhcp,ip6=auto,tag=3", &print("", None)));
    }
}
