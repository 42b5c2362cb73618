// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was observed of a machine, as data: what a plan is made from. It must not know how it was observed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::effect::{Daemon, Place};
use crate::format::guest_conf::GuestConf;
use crate::quota::QuotaSeen;
use crate::spec::record::{Record, TreeOwner};
use crate::spec::section::Mode;
use crate::types::{GatewayId, VmId};

/// Where things lie; the same for all observations of a context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Paths {
    /// The node's smb.conf.
    pub smb_conf: PathBuf,
    /// Our own file beside it.
    pub own_conf: PathBuf,
    /// What does not outlive a boot: snapshots, scratch files.
    pub run_dir: PathBuf,
    /// Locks: the node's, wherever Samba runs.
    pub lock_dir: PathBuf,
    /// What outlives a boot: journals.
    pub state_dir: PathBuf,
    /// The gateway record.
    pub record_file: PathBuf,
    /// The gateway.
    pub gateway: GatewayId,
    /// Where its Samba runs. With a container smb.conf, our file and the run directory are those inside.
    #[serde(default)]
    pub mode: Mode,
}

/// Space of a file system, in bytes, as `statfs(2)` tells it to a user who is not root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Space {
    /// Size.
    pub total: u64,
    /// What a user can still write.
    pub avail: u64,
    /// What is written.
    pub used: u64,
    /// Which file system it is: the same number as [`TreeSeen::fsid`], so 0 where there is none that lasts.
    pub fsid: u64,
}

/// A Unix user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixUser {
    /// Number.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// GECOS field.
    pub comment: String,
}

/// A Unix group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixGroup {
    /// Number.
    pub gid: u32,
    /// Members, in the order of the file.
    pub members: Vec<String>,
}

/// A passdb user, without the hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassdbUser {
    /// May not log in.
    pub disabled: bool,
    /// Last change of the password, as Samba prints it.
    pub changed: String,
}

/// A configuration file as found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfFile {
    /// Its text.
    pub text: String,
    /// SHA-256 of the text, hex.
    pub sha256: String,
    /// Mode bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The configuration as Samba reads it: parameter names lower case as `testparm` prints them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effective {
    /// `[global]`, defaults included (`testparm -v`); share-level defaults are in it too.
    pub global: BTreeMap<String, String>,
    /// The other sections in file order, without defaults.
    pub shares: Vec<(String, BTreeMap<String, String>)>,
    /// What `testparm` or our own checks had to say, one line each.
    pub findings: Vec<String>,
}

impl Effective {
    /// A section's own parameters; names are compared as Samba does.
    pub fn share(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        let same = |n: &str| {
            // Each share of hundreds is looked for among hundreds.
            n.eq_ignore_ascii_case(name) || !(n.is_ascii() && name.is_ascii()) && n.to_lowercase() == name.to_lowercase()
        };
        self.shares.iter().find(|(n, _)| same(n)).map(|(_, p)| p)
    }

    /// Where a daemon of Samba writes its pid.
    pub fn pid_file(&self, daemon: Daemon) -> PathBuf {
        let dir = self.global.get("pid directory").map_or("/run/samba", String::as_str);
        Path::new(dir).join(format!("{}.pid", daemon.name()))
    }

    /// The value in effect: the section's own, else the default that `[global]` gives.
    pub fn value(&self, section: &str, name: &str) -> Option<&str> {
        self.value_in(section, self.share(section), name)
    }

    /// The same of a section whose own parameters ([`Self::share`]) are at hand.
    pub fn value_in<'a>(&'a self, section: &str, own: Option<&'a BTreeMap<String, String>>, name: &str) -> Option<&'a str> {
        let global = self.global.get(name).map(String::as_str);
        if section == "global" {
            return global;
        }
        own.map(|p| p.get(name).map(String::as_str).or(global).unwrap_or_default())
    }
}

/// The root of a tree as found, or why it cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TreeFact {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Stable number of the file system, or 0.
    pub fsid: u64,
    /// File system type.
    pub fs_type: String,
    /// Where that is mounted.
    pub mount_point: PathBuf,
    /// Owner and mode.
    pub owner: TreeOwner,
    /// Mount points inside.
    pub mounts_inside: Vec<PathBuf>,
    /// Mounted read-only.
    pub read_only: bool,
    /// It holds something already, or nobody can tell. Only where a plan is made: nobody else asks.
    pub populated: bool,
    /// What can limit it, and what does; only where a plan or a document is about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaSeen>,
}

/// How many files belong to our accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Owned {
    /// Entries by owner, over all trees looked at.
    pub by_uid: BTreeMap<u32, u64>,
    /// All trees were seen to the end.
    pub complete: bool,
}

/// Limits of a container as they must be, or are, in effect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Limits {
    /// Memory in bytes; `None`: no limit.
    pub memory: Option<u64>,
    /// Swap in bytes.
    pub swap: Option<u64>,
    /// Processors.
    pub cores: Option<u64>,
    /// Processes.
    pub processes: Option<u64>,
    /// Root inside is nobody special on the node.
    pub unprivileged: bool,
    /// AppArmor confines it.
    pub apparmor: bool,
}

impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |n: Option<u64>| n.map_or("unlimited".to_owned(), |n| n.to_string());
        write!(
            f,
            "memory {}, swap {}, processors {}, processes {}, {}, {}",
            number(self.memory),
            number(self.swap),
            number(self.cores),
            number(self.processes),
            if self.unprivileged { "unprivileged" } else { "privileged" },
            if self.apparmor { "AppArmor" } else { "no AppArmor" }
        )
    }
}

impl Limits {
    /// What is not as wanted; a limit that is tighter than asked for counts too, since the guest would not be what was ordered.
    pub fn differences(&self, wanted: &Limits) -> Vec<String> {
        let mut wrong = Vec::new();
        // The kernel counts memory in pages.
        let same = |a: Option<u64>, b: Option<u64>| a == b || matches!((a, b), (Some(a), Some(b)) if a / 4096 == b / 4096);
        let text = |n: Option<u64>| n.map_or("unlimited".to_owned(), |n| n.to_string());
        for (name, is, must) in [("memory", self.memory, wanted.memory), ("swap", self.swap, wanted.swap)] {
            if !same(is, must) {
                wrong.push(format!("{name} is {} bytes instead of {}", text(is), text(must)));
            }
        }
        for (name, is, must) in [("processors", self.cores, wanted.cores), ("processes", self.processes, wanted.processes)] {
            if is != must {
                wrong.push(format!("{name}: {} instead of {}", text(is), text(must)));
            }
        }
        if wanted.unprivileged && !self.unprivileged {
            wrong.push("its root is the node's root".into());
        }
        if wanted.apparmor && !self.apparmor {
            wrong.push("AppArmor does not confine it".into());
        }
        wrong
    }
}

/// A template as the marker beside its archive describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Template {
    /// Version of the marker's form.
    pub schema: u32,
    /// Its name, by which it is chosen.
    pub name: String,
    /// File name of the archive beside the marker.
    pub archive: String,
    /// SHA-256 of the archive, hex.
    pub sha256: String,
    /// Version of smbgw that built it.
    pub version: String,
    /// Version of `smbgw-guest` in it.
    pub hand: String,
    /// Debian release in it.
    pub suite: String,
    /// Architecture.
    pub arch: String,
    /// Version of Samba in it.
    pub samba: String,
    /// When it was built, milliseconds since the epoch.
    pub built_ms: i64,
    /// Where.
    pub built_on: String,
}

/// A template that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TemplateFact {
    /// What its marker says.
    pub marker: Template,
    /// The storage that holds it.
    pub storage: String,
    /// The archive.
    pub path: PathBuf,
    /// The archive is there.
    pub present: bool,
}

/// A container of this node as found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestSeen {
    /// Its configuration.
    pub conf: GuestConf,
    /// It runs.
    pub running: bool,
    /// The hand inside answers and is of our version; otherwise why not.
    pub hand: Result<(), String>,
}

/// What a gateway's container is planned from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestFacts {
    /// Every guest of the cluster and its node.
    pub used: BTreeMap<VmId, String>,
    /// Numbers that records of other gateways name: theirs, even where there is no container yet.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub claimed: BTreeSet<VmId>,
    /// The lower and upper bound that the data centre sets for new guests.
    pub next_id: Option<(u32, u32)>,
    /// What hardware addresses of guests begin with, if the data centre says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_prefix: Option<String>,
    /// The containers of this node that the record names, as far as they are here.
    pub here: BTreeMap<VmId, GuestSeen>,
    /// Containers that carry the gateway's mark although the record does not name them, and their nodes.
    pub marked: BTreeMap<VmId, String>,
    /// `pct` can map ids at a mount point.
    pub idmap: bool,
    /// AppArmor is there.
    pub apparmor: bool,
    /// Containers under the care of the HA manager.
    pub ha: BTreeSet<VmId>,
    /// Templates.
    pub templates: Vec<TemplateFact>,
    /// Names of templates that gateways are made from.
    pub used_templates: BTreeSet<String>,
    /// Storages that can hold a container's disk, the usual ones first.
    pub storages: Vec<String>,
    /// Storages that can hold a template, and where.
    pub template_dirs: Vec<(String, PathBuf)>,
    /// Who else reaches a tree besides the gateway: exports, other guests. By tree.
    pub reached: BTreeMap<PathBuf, Vec<String>>,
}

/// What makes a machine a member of a domain, besides smb.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DirectoryFacts {
    /// Our Kerberos configuration.
    pub krb5: Option<ConfFile>,
    /// `/etc/nsswitch.conf`.
    pub nsswitch: Option<ConfFile>,
    /// Our drop-ins for the units, as far as they are there.
    pub drop_ins: BTreeMap<PathBuf, ConfFile>,
    /// Directories of such drop-ins that are there.
    pub drop_in_dirs: BTreeSet<PathBuf>,
    /// winbindd runs.
    pub winbindd_running: bool,
    /// It starts with the machine.
    pub winbindd_at_boot: bool,
    /// Samba has a database of secrets.
    pub secrets: bool,
    /// The one from before the join was put by.
    pub secrets_before: bool,
    /// The keytab is there.
    pub keytab: bool,
    /// The gateway is a member by its record, and Samba has no secret of its computer account: winbindd does not start like that.
    #[serde(default)]
    pub lost: bool,
}

/// Everything a plan is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Facts {
    /// This node.
    pub node: String,
    /// Milliseconds since the epoch.
    pub now_ms: i64,
    /// Where things lie.
    pub paths: Paths,
    /// Where Samba runs.
    #[serde(default)]
    pub place: Place,
    /// The place could be looked into; otherwise what belongs to it below is empty.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub reachable: bool,
    /// Containers; `None` in native mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestFacts>,
    /// The gateway record.
    pub record: Option<Record>,
    /// `/etc/passwd`.
    pub users: BTreeMap<String, UnixUser>,
    /// `/etc/group`.
    pub groups: BTreeMap<String, UnixGroup>,
    /// Ranges of `/etc/subuid` and `/etc/subgid`: first, count.
    pub sub_ids: Vec<(u32, u32)>,
    /// passdb.
    pub passdb: BTreeMap<String, PassdbUser>,
    /// smb.conf.
    pub main: Option<ConfFile>,
    /// Our file.
    pub own: Option<ConfFile>,
    /// What Samba makes of smb.conf as it is.
    pub effective: Effective,
    /// Shares that are not in files: registry and usershares, by name.
    pub other_shares: BTreeSet<String>,
    /// Trees by path.
    pub trees: BTreeMap<PathBuf, Result<TreeFact, String>>,
    /// Share ACLs by share name, for shares that have one of their own.
    pub acls: BTreeMap<String, Vec<String>>,
    /// What our accounts own in the trees; only where a plan may remove accounts.
    pub owned: Option<Owned>,
    /// smbd runs.
    pub smbd_running: bool,
    /// What a member of a domain has beside smb.conf; only where the gateway is or shall be one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<DirectoryFacts>,
    /// Project ids that `/etc/projects` and `/etc/projid` name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub projects: BTreeSet<u32>,
    /// Programs of the table that are missing, and what installs them.
    pub missing: BTreeMap<String, String>,
    /// systemd is the init system.
    pub systemd: bool,
}

fn yes() -> bool {
    true
}

impl Facts {
    /// The container that the record names, if it is on this node.
    pub fn container(&self) -> Option<(VmId, &GuestSeen)> {
        let vmid = self.record.as_ref()?.vmid?;
        Some((vmid, self.guest.as_ref()?.here.get(&vmid)?))
    }

    /// Whether a number is used by an account or lies in a subordinate range.
    pub fn number_taken(&self, n: u32) -> bool {
        self.users.values().any(|u| u.uid == n || u.gid == n)
            || self.groups.values().any(|g| g.gid == n)
            || self.sub_ids.iter().any(|(first, count)| n >= *first && n - *first < *count)
    }

    /// The tree at `path`, or why not.
    pub fn tree(&self, path: &Path) -> Result<&TreeFact, String> {
        match self.trees.get(path) {
            Some(Ok(t)) => Ok(t),
            Some(Err(why)) => Err(why.clone()),
            None => Err(format!("{} was not looked at", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_that_differs_is_named() {
        let wanted = Limits {
            memory: Some(256 << 20),
            swap: Some(0),
            cores: Some(1),
            processes: Some(1000),
            unprivileged: true,
            apparmor: true,
        };
        assert_eq!(wanted.differences(&wanted), Vec::<String>::new());
        type Change = fn(&mut Limits);
        let changes: [(&str, Change); 8] = [
            ("memory is", |l| l.memory = Some(512 << 20)),
            ("memory is unlimited", |l| l.memory = None),
            ("swap is", |l| l.swap = Some(4096)),
            ("processors", |l| l.cores = Some(2)),
            ("processes: unlimited", |l| l.processes = None),
            ("processes", |l| l.processes = Some(999)),
            ("root is the node's root", |l| l.unprivileged = false),
            ("AppArmor", |l| l.apparmor = false),
        ];
        for (name, change) in changes {
            let mut is = wanted.clone();
            change(&mut is);
            let said = is.differences(&wanted);
            assert!(said.len() == 1 && said[0].contains(name), "{name}: {said:?}");
        }
    }
}
