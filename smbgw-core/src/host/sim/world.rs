// SPDX-License-Identifier: MIT OR Apache-2.0
//! The state of the simulated machine that an administrator can see, and how two such states are compared. It knows what is
//! there; it must not know how it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use crate::effect::{DISK_FREE, HAND, HAND_VERSION, Program};
use crate::host::programs::entry_of;

use super::config;
use super::domain::{self, SimDomain, Winbindd};
use super::files::{Files, Node, Thing};
use super::guests::Guest;
use super::images;
use super::net::SimNet;
use super::samba::{Account, Ace, SMB_CONF, Smbd};

/// Everything an administrator can see of the machine. Equal worlds cannot be told apart.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// The disks.
    pub files: Files,
    /// Samba's accounts by name.
    pub passdb: BTreeMap<String, Account>,
    /// Share ACLs that were set, by share name in lower case.
    pub share_acls: BTreeMap<String, Vec<Ace>>,
    /// The machine's SID.
    pub local_sid: String,
    /// The running smbd, if it runs.
    pub smbd: Option<Smbd>,
    /// The running winbindd, if it runs.
    pub winbindd: Option<Winbindd>,
    /// systemd is the init system.
    pub systemd: bool,
    /// systemd starts smbd at boot.
    pub smbd_enabled: bool,
    /// Programs of the table that are there.
    pub installed: BTreeSet<Program>,
    /// Containers by number. Their configuration is in `/etc/pve`.
    pub guests: BTreeMap<u32, Guest>,
    /// What is around the machine. A container is in the same network: that of its own world counts for nothing.
    pub net: SimNet,
    /// The domain in that network. A container is in the same.
    pub domain: Option<SimDomain>,
}

/// Debian 12's account files, cut to what matters.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n\
                      nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const SHADOW: &str = "root:*:20000:0:99999:7:::\nwww-data:*:20000:0:99999:7:::\nnobody:*:20000:0:99999:7:::\n";
const GROUP: &str = "root:x:0:\nshadow:x:42:\nwww-data:x:33:\nusers:x:100:\nnogroup:x:65534:\n";
const GSHADOW: &str = "root:*::\nshadow:*::\nwww-data:*::\nusers:*::\nnogroup:*::\n";

/// Debian's list of name sources, cut to what matters.
pub(super) const NSSWITCH: &str = "passwd:         files\ngroup:          files\nhosts:          files dns\n";

/// Debian 12's smb.conf without its comments.
pub const STOCK_SMB_CONF: &str = "\
[global]
   workgroup = WORKGROUP
   log file = /var/log/samba/log.%m
   max log size = 1000
   logging = file
   panic action = /usr/share/samba/panic-action %d
   server role = standalone server
   obey pam restrictions = yes
   unix password sync = yes
   passwd program = /usr/bin/passwd %u
   passwd chat = *Enter\\snew\\s*\\spassword:* %n\\n *Retype\\snew\\s*\\spassword:* %n\\n *password\\supdated\\ssuccessfully* .
   pam password change = yes
   map to guest = bad user
   usershare allow guests = yes

[homes]
   comment = Home Directories
   browseable = no
   read only = yes
   create mask = 0700
   directory mask = 0700
   valid users = %S

[printers]
   comment = All Printers
   browseable = no
   path = /var/tmp
   printable = yes
   guest ok = no
   read only = yes
   create mask = 0700

[print$]
   comment = Printer Drivers
   path = /var/lib/samba/printers
   browseable = yes
   read only = yes
   guest ok = no
";

/// Account files of a fresh system: path, content, mode, group.
pub(super) const ACCOUNTS: &[(&str, &str, u32, u32)] = &[
    ("/etc/passwd", PASSWD, 0o644, 0),
    ("/etc/shadow", SHADOW, 0o640, 42),
    ("/etc/group", GROUP, 0o644, 0),
    ("/etc/gshadow", GSHADOW, 0o640, 42),
];
/// Samba's modules for file systems that matter here.
pub(super) const VFS_MODULES: &[&str] = &["acl_xattr", "catia", "fruit", "recycle", "shadow_copy2", "streams_xattr"];

/// What a plain Debian does not have.
const PROXMOX: [Program; 5] = [Program::Pct, Program::LxcInfo, Program::HaManager, Program::Debootstrap, Program::Zfs];

/// Proxmox VE's storages after an installation on LVM.
const STORAGES: &str = "dir: local\n\tpath /var/lib/vz\n\tcontent iso,vztmpl,backup\n\n\
                        lvmthin: local-lvm\n\tthinpool data\n\tvgname pve\n\tcontent rootdir,images\n";

impl World {
    /// A fresh Debian node: stock smb.conf, Samba installed but not running, no systemd, `/srv/office` (root, 0755) to share.
    pub fn debian() -> Self {
        let mut files = Files::new();
        let more = [
            ("/etc/hostname", "node\n", 0o644, 0),
            ("/etc/nsswitch.conf", NSSWITCH, 0o644, 0),
            (SMB_CONF, STOCK_SMB_CONF, 0o644, 0),
        ];
        for (path, text, mode, gid) in ACCOUNTS.iter().chain(&more) {
            files.put(path, text, *mode, 0, *gid);
        }
        for dir in ["/srv/office", "/var/lib/samba/private", "/run/samba", "/usr/lib/x86_64-linux-gnu/samba/vfs", "/root"] {
            files.put_dir(dir, 0o755, 0, 0);
        }
        domain::first_secrets(&mut files);
        files.put(DISK_FREE, format!("{HAND_VERSION}\n"), 0o755, 0, 0);
        files.put_dir("/tmp", 0o1777, 0, 0);
        files.put_dir("/var/tmp", 0o1777, 0, 0);
        for module in VFS_MODULES {
            files.put(format!("/usr/lib/x86_64-linux-gnu/samba/vfs/{module}.so"), "ELF", 0o644, 0, 0);
        }
        Self {
            files,
            passdb: BTreeMap::new(),
            share_acls: BTreeMap::new(),
            local_sid: "S-1-5-21-1000000001-2000000002-3000000003".into(),
            smbd: None,
            winbindd: None,
            systemd: false,
            smbd_enabled: false,
            installed: Program::ALL.into_iter().filter(|p| !PROXMOX.contains(p)).collect(),
            guests: BTreeMap::new(),
            net: SimNet::default(),
            domain: None,
        }
    }

    /// A fresh node of Proxmox VE: pve1, alone in its cluster, with systemd, AppArmor, a bridge, the usual storages, and no Samba at all.
    pub fn proxmox() -> Self {
        let mut world = Self::debian();
        for gone in [SMB_CONF, "/etc/samba", "/var/lib/samba", "/run/samba", "/usr/lib/x86_64-linux-gnu/samba"] {
            world.files.take(gone);
        }
        let tools =
            ["passwd", "systemd", "tar", "coreutils", "pve-container", "lxc", "pve-ha-manager", "debootstrap", "zfsutils-linux"];
        world.installed = Program::ALL.into_iter().filter(|p| tools.contains(&entry_of(*p).package)).collect();
        world.systemd = true;
        let versions = tools.into_iter().map(|t| (t, if t == "pve-container" { "6.1.6" } else { "1.0-1" }));
        for (path, text, mode, gid) in [
            ("/etc/hostname", "pve1\n", 0o644, 0),
            ("/etc/os-release", "ID=debian\nVERSION_CODENAME=trixie\n", 0o644, 0),
            ("/var/lib/dpkg/status", &images::status_of(versions), 0o644, 0),
            ("/etc/subuid", "root:100000:65536\n", 0o644, 0),
            ("/etc/subgid", "root:100000:65536\n", 0o644, 0),
            ("/etc/pve/storage.cfg", STORAGES, 0o640, 33),
            ("/etc/pve/datacenter.cfg", "keyboard: de\n", 0o640, 33),
            ("/sys/module/apparmor/parameters/enabled", "Y\n", 0o444, 0),
            ("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory hugetlb pids rdma misc\n", 0o444, 0),
            ("/proc/cmdline", "BOOT_IMAGE=/boot/vmlinuz-6.14 root=/dev/mapper/pve-root ro quiet\n", 0o444, 0),
            (HAND, &format!("{HAND_VERSION}\n"), 0o755, 0),
        ] {
            world.files.put(path, text, mode, 0, gid);
        }
        for dir in ["lxc", "qemu-server"] {
            world.files.put_dir(format!("/etc/pve/nodes/pve1/{dir}"), 0o750, 0, 33);
            world.files.put_link(format!("/etc/pve/{dir}"), format!("nodes/pve1/{dir}"));
        }
        world.files.put_dir("/etc/pve/priv", 0o700, 0, 33);
        world.files.put_dir("/etc/pve/ha", 0o750, 0, 33);
        world.files.put_dir("/sys/class/net/vmbr0/bridge", 0o755, 0, 0);
        world.files.put_dir("/sys/fs/cgroup/lxc", 0o755, 0, 0);
        world.files.put_dir("/var/lib/vz/template/cache", 0o755, 0, 0);
        world
    }

    /// This world without what lives under some paths: for comparisons that leave our own state aside.
    #[must_use]
    pub fn without(&self, paths: &[&str]) -> Self {
        let mut rest = self.clone();
        for path in paths {
            rest.files.take(path);
        }
        rest
    }

    /// What is different in `other`, a line each, for people; empty exactly if the two are equal.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let names: BTreeSet<&PathBuf> = self.files.nodes.keys().chain(other.files.nodes.keys()).collect();
        for path in names {
            let at = path.display();
            match (self.files.nodes.get(path), other.files.nodes.get(path)) {
                (Some(old), None) => lines.push(format!("{at}: gone, was {old:?}")),
                (None, Some(new)) => lines.push(format!("{at}: new {new:?}")),
                (Some(old), Some(new)) if old != new => node_difference(&at.to_string(), old, new, &mut lines),
                _ => {}
            }
        }
        map_differences("passdb", &self.passdb, &other.passdb, &mut lines);
        map_differences("share acl", &self.share_acls, &other.share_acls, &mut lines);
        let mut field = |what: &str, old: String, new: String| {
            if old != new {
                lines.push(format!("{what}: {old} became {new}"));
            }
        };
        for at in self.files.mounts.keys().chain(other.files.mounts.keys()).collect::<BTreeSet<_>>() {
            let limits = |w: &Self| w.files.mounts.get(at).map(|m| format!("{:?}", m.limits)).unwrap_or_default();
            field(&format!("limits of {}", at.display()), limits(self), limits(other));
        }
        field("sid", self.local_sid.clone(), other.local_sid.clone());
        if let (Some(old), Some(new)) = (&self.domain, &other.domain) {
            map_differences("account of the domain", &old.accounts, &new.accounts, &mut lines);
        }
        let mut field = |what: &str, old: String, new: String| {
            if old != new {
                lines.push(format!("{what}: {old} became {new}"));
            }
        };
        let domain = |w: &Self| w.domain.as_ref().map(|d| SimDomain { accounts: BTreeMap::new(), ..d.clone() });
        field("domain", format!("{:?}", domain(self)), format!("{:?}", domain(other)));
        field("winbindd", format!("{:?}", self.winbindd), format!("{:?}", other.winbindd));
        field("network", format!("{:?}", self.net), format!("{:?}", other.net));
        field("systemd", self.systemd.to_string(), other.systemd.to_string());
        field("smbd.service enabled", self.smbd_enabled.to_string(), other.smbd_enabled.to_string());
        field("installed", format!("{:?}", self.installed), format!("{:?}", other.installed));
        let running = |s: &Option<Smbd>| s.as_ref().map_or("not running".into(), |s| format!("pid {}", s.pid));
        field("smbd", running(&self.smbd), running(&other.smbd));
        if let (Some(old), Some(new)) = (&self.smbd, &other.smbd) {
            field("sessions", format!("{:?}", old.sessions), format!("{:?}", new.sessions));
            field("loaded configuration", config::print(&old.config, false), config::print(&new.config, false));
        }
        for vmid in self.guests.keys().chain(other.guests.keys()).collect::<BTreeSet<_>>() {
            match (self.guests.get(vmid), other.guests.get(vmid)) {
                (Some(_), None) => lines.push(format!("container {vmid}: gone")),
                (None, Some(_)) => lines.push(format!("container {vmid}: new")),
                (Some(old), Some(new)) => {
                    if old.running() != new.running() || old.mounts != new.mounts {
                        lines.push(format!(
                            "container {vmid}: running {} {:?} became {} {:?}",
                            old.running(),
                            old.mounts,
                            new.running(),
                            new.mounts
                        ));
                    }
                    lines.extend(old.world.differences(&new.world).into_iter().map(|l| format!("container {vmid}: {l}")));
                }
                (None, None) => {}
            }
        }
        if lines.is_empty() && self != other {
            lines.push("the worlds differ in something that has no words: mounts or unprinted settings".into());
        }
        lines
    }
}

fn map_differences<V: PartialEq + fmt::Debug>(
    what: &str,
    a: &BTreeMap<String, V>,
    b: &BTreeMap<String, V>,
    lines: &mut Vec<String>,
) {
    for name in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
        match (a.get(name), b.get(name)) {
            (Some(old), None) => lines.push(format!("{what} {name}: gone, was {old:?}")),
            (None, Some(new)) => lines.push(format!("{what} {name}: new {new:?}")),
            (Some(old), Some(new)) if old != new => lines.push(format!("{what} {name}: {old:?} became {new:?}")),
            _ => {}
        }
    }
}

/// Line by line for text files.
fn node_difference(at: &str, old: &Node, new: &Node, lines: &mut Vec<String>) {
    let before = lines.len();
    if let (Thing::File { content: a, .. }, Thing::File { content: b, .. }) = (&old.thing, &new.thing) {
        let (a, b) = (String::from_utf8_lossy(a), String::from_utf8_lossy(b));
        lines.extend(a.lines().filter(|l| !b.lines().any(|m| m == *l)).map(|l| format!("{at}: - {l}")));
        lines.extend(b.lines().filter(|l| !a.lines().any(|m| m == *l)).map(|l| format!("{at}: + {l}")));
    }
    if (old.mode, old.uid, old.gid, old.project) != (new.mode, new.uid, new.gid, new.project) || lines.len() == before {
        lines.push(format!("{at}: {old:?} became {new:?}"));
    }
}
