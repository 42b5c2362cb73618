// SPDX-License-Identifier: MIT OR Apache-2.0
//! Containers of the simulated machine: each is a world of its own, with trees of the node mounted into it. It knows what a container is to
//! the kernel of its node: mounts, mapped numbers, control groups, its first process. It must not know what a gateway is, nor Proxmox VE's
//! commands, which are in `pct.rs`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Machine, World, domain, samba};
use crate::effect::{Cmd, DISK_FREE_INSIDE, HAND_INSIDE, HAND_VERSION};
use crate::error::{Error, Kind, Result};
use crate::host::SHIFT;

/// How many numbers a container has.
const COUNT: u32 = 65_536;
/// What a number without a counterpart is shown as.
const NOBODY: u32 = 65_534;
/// Where the kernel shows control groups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Which numbers on the disk are those inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// The same: the mount is id-mapped.
    Same,
    /// Those of an unprivileged container's processes.
    Shifted,
}

impl Numbers {
    fn first(self) -> u32 {
        if self == Numbers::Shifted { SHIFT } else { 0 }
    }

    /// A number on the disk as the container sees it.
    pub(super) fn inside(self, id: u32) -> u32 {
        id.checked_sub(self.first()).filter(|n| *n < COUNT).unwrap_or(NOBODY)
    }

    /// A number of the container as it comes to the disk.
    pub(super) fn outside(self, id: u32) -> u32 {
        id + self.first()
    }
}

/// A tree of the node inside a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// The tree on the node.
    pub source: PathBuf,
    /// Where it is inside.
    pub target: PathBuf,
    /// Whose numbers are on the disk.
    pub ids: Numbers,
    /// Nothing can be written through it.
    pub read_only: bool,
}

/// A container.
#[derive(Debug, Clone, PartialEq)]
pub struct Guest {
    /// Its first process as the node numbers it, if it runs.
    pub init: Option<i32>,
    /// What is in it.
    pub world: Box<World>,
    /// Trees that are mounted into it now, by slot.
    pub mounts: BTreeMap<String, Bind>,
}

impl Guest {
    /// Whether it runs.
    pub fn running(&self) -> bool {
        self.init.is_some()
    }
}

/// Works inside a container: its world stands in for that of the node, and the mounted trees are in both.
pub(super) fn inside<T>(m: &mut Machine, vmid: Option<u32>, work: impl FnOnce(&mut Machine) -> Result<T>) -> Result<T> {
    let Some(vmid) = vmid else { return work(m) };
    let Some(mut guest) = m.world.guests.remove(&vmid) else {
        return Err(Error::new(Kind::Service, format!("Configuration file 'nodes/pve1/lxc/{vmid}.conf' does not exist")));
    };
    if !guest.running() {
        m.world.guests.insert(vmid, guest);
        return Err(Error::new(Kind::Service, format!("container '{vmid}' not running!")));
    }
    for b in guest.mounts.values() {
        guest.world.files.bind(&m.world.files, b);
    }
    // Locks and Samba's counter of RIDs are the container's own.
    let locks = std::mem::take(&mut m.locks);
    let node_rid = std::mem::replace(&mut m.next_rid, m.guest_rids.get(&vmid).copied().unwrap_or(1000));
    std::mem::swap(&mut m.world, &mut guest.world);
    // The network around is the same.
    let around = |m: &mut Machine, g: &mut Guest| {
        std::mem::swap(&mut m.world.net, &mut g.world.net);
        std::mem::swap(&mut m.world.domain, &mut g.world.domain);
    };
    around(m, &mut guest);
    let done = work(m);
    around(m, &mut guest);
    std::mem::swap(&mut m.world, &mut guest.world);
    m.guest_rids.insert(vmid, std::mem::replace(&mut m.next_rid, node_rid));
    m.locks = locks;
    for b in guest.mounts.values() {
        m.world.files.unbind(&mut guest.world.files, b);
    }
    m.world.guests.insert(vmid, guest);
    done
}

/// Where `pct exec VMID … -- smbgw-guest` leads, or why it leads nowhere.
pub(super) fn entrance(world: &World, cmd: &Cmd) -> Result<u32> {
    let failed = |why: String| Err(Error::new(Kind::Service, format!("pct has ended: {why}")));
    let words: Vec<&str> = cmd.args.iter().map(String::as_str).collect();
    let ["exec", vmid, "--keep-env", "0", "--", program] = words[..] else { return failed("that is no conversation".into()) };
    let vmid = vmid.parse::<u32>().unwrap_or_default();
    let Some(g) = world.guests.get(&vmid) else {
        return failed(format!("Configuration file 'nodes/pve1/lxc/{vmid}.conf' does not exist"));
    };
    if !g.running() {
        return failed(format!("container '{vmid}' not running!"));
    }
    if program != HAND_INSIDE || g.world.files.bytes(program).is_none() {
        return failed("lxc-attach: No such file or directory".into());
    }
    Ok(vmid)
}

/// What the hand does when it starts.
pub(super) fn begin(world: &mut World, vmid: u32) {
    if let Some(g) = world.guests.get_mut(&vmid).filter(|g| g.world.files.get(DISK_FREE_INSIDE).is_none()) {
        g.world.files.put_link(DISK_FREE_INSIDE, "smbgw-guest");
    }
}

/// The version of the hand in a container, where it is not ours. The file holds it as text here.
pub(super) fn other_version(world: &World, vmid: u32) -> Option<String> {
    let text = world.guests.get(&vmid)?.world.files.text(HAND_INSIDE);
    (text.trim() != HAND_VERSION).then(|| text.trim().to_owned())
}

/// What the kernel is told to hold a container to.
#[derive(Debug, Clone, Default)]
pub(super) struct Bounds {
    pub memory: Option<u64>,
    pub swap: Option<u64>,
    pub cores: Option<u64>,
    pub processes: Option<u64>,
}

/// How many processors the node has.
const PROCESSORS: u64 = 4;

/// Writes the limits into the control group, as far as the kernel has the controllers for them: a file whose controller is missing is not
/// there, and without swap accounting neither is that one.
pub(super) fn hold(world: &mut World, vmid: u32, b: &Bounds) {
    let has = |name: &str| world.files.text("/sys/fs/cgroup/cgroup.controllers").split_whitespace().any(|c| c == name);
    let swap = !world.files.text("/proc/cmdline").split_whitespace().any(|w| w == "swapaccount=0");
    let number = |n: Option<u64>| n.map_or("max".to_owned(), |n| n.to_string());
    let cpus = match b.cores.filter(|n| *n < PROCESSORS).unwrap_or(PROCESSORS) {
        1 => "0".to_owned(),
        n => format!("0-{}", n - 1),
    };
    let (memory, pids, cpuset) = (has("memory"), has("pids"), has("cpuset"));
    let files = [
        (memory, "memory.max", number(b.memory), "max".to_owned()),
        (memory && swap, "memory.swap.max", number(b.swap), "max".to_owned()),
        (pids, "pids.max", number(b.processes), "max".to_owned()),
        (cpuset, "cpuset.cpus.effective", cpus.clone(), cpus),
    ];
    for (there, name, value, below) in files.into_iter().filter(|f| f.0) {
        debug_assert!(there);
        // Its processes are in a group below, which has no limits of its own.
        for (dir, text) in [(vmid.to_string(), value), (format!("{vmid}/ns"), below)] {
            world.files.put(Path::new(CGROUPS).join("lxc").join(dir).join(name), text + "\n", 0o644, 0, 0);
        }
    }
}

/// A container comes up: its processes, what the node shows of them, its mounts, its services.
pub(super) fn boot(m: &mut Machine, vmid: u32, b: &Bounds, unprivileged: bool, label: &str, mounts: BTreeMap<String, Bind>) {
    let pid = m.new_pid();
    let Some(guest) = m.world.guests.get_mut(&vmid) else { return };
    guest.init = Some(pid);
    for bind in mounts.values() {
        guest.world.files.put_dir(&bind.target, 0o755, 0, 0);
    }
    guest.mounts = mounts;
    guest.world.files.take("/run");
    guest.world.files.put_dir("/run/samba", 0o755, 0, 0);
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let first = if unprivileged { SHIFT } else { 0 };
    let count = if unprivileged { COUNT } else { u32::MAX };
    for (name, text) in [
        ("cgroup", format!("0::/lxc/{vmid}/ns\n")),
        ("uid_map", format!("         0 {first:>10} {count:>10}\n")),
        ("attr/current", format!("{label}\n")),
    ] {
        m.world.files.put(proc.join(name), text, 0o444, 0, 0);
    }
    hold(&mut m.world, vmid, b);
    let _ = inside(m, Some(vmid), |m| {
        if m.world.smbd_enabled {
            samba::start_smbd(m);
        }
        domain::boot(m);
        Ok(())
    });
}

/// A container ends, with every process in it and every conversation with one.
pub(super) fn halt(m: &mut Machine, vmid: u32) {
    let Some(guest) = m.world.guests.get_mut(&vmid) else { return };
    if let Some(pid) = guest.init.take() {
        m.world.files.take(format!("/proc/{pid}"));
    }
    samba::stop_smbd(&mut guest.world);
    domain::stop_winbindd(&mut guest.world);
    guest.world.files.take("/run");
    guest.world.files.put_dir("/run", 0o755, 0, 0);
    guest.mounts.clear();
    m.world.files.take(Path::new(CGROUPS).join("lxc").join(vmid.to_string()));
    m.processes.retain(|_, p| p.guest != Some(vmid));
}

/// A world from the tree of an installed system: which programs it has is told by its packages, what starts by its units.
pub(super) fn installed_system(files: super::Files, sid: String) -> World {
    use crate::host::programs::entry_of;
    let status = files.text("/var/lib/dpkg/status");
    let packages: Vec<&str> = status.lines().filter_map(|l| l.strip_prefix("Package: ")).collect();
    let enabled = files.exists(Path::new("/etc/systemd/system/multi-user.target.wants/smbd.service"));
    let masked = files.exists(Path::new("/etc/systemd/system/smbd.service"));
    World {
        installed: crate::effect::Program::ALL.into_iter().filter(|p| packages.contains(&entry_of(*p).package)).collect(),
        systemd: packages.contains(&"systemd-sysv"),
        smbd_enabled: enabled && !masked,
        passdb: BTreeMap::new(),
        share_acls: BTreeMap::new(),
        local_sid: sid,
        smbd: None,
        winbindd: None,
        guests: BTreeMap::new(),
        net: super::SimNet::default(),
        domain: None,
        files,
    }
}
