// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was observed of a machine, as data: what a plan is made from. It must not know how it was observed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::spec::record::{Record, TreeOwner};

/// Where things lie; the same for all observations of a context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Paths {
    /// The node's smb.conf.
    pub smb_conf: PathBuf,
    /// Our own file beside it.
    pub own_conf: PathBuf,
    /// What does not outlive a boot: snapshots, locks, scratch files.
    pub run_dir: PathBuf,
    /// What does: journals.
    pub state_dir: PathBuf,
    /// The gateway record.
    pub record_file: PathBuf,
}

/// Space of a file system, in bytes, as `statfs(2)` tells it to a user who is not root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
        let folded = name.to_lowercase();
        self.shares.iter().find(|(n, _)| n.to_lowercase() == folded).map(|(_, p)| p)
    }

    /// The value in effect: the section's own, else the default that `[global]` gives.
    pub fn value(&self, section: &str, name: &str) -> Option<&str> {
        let global = self.global.get(name).map(String::as_str);
        if section == "global" {
            return global;
        }
        self.share(section).map(|p| p.get(name).map(String::as_str).or(global).unwrap_or_default())
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
    /// It holds something already.
    pub populated: bool,
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

/// Everything a plan of a native gateway is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Facts {
    /// This node.
    pub node: String,
    /// Milliseconds since the epoch.
    pub now_ms: i64,
    /// Where things lie.
    pub paths: Paths,
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
    /// Programs of the table that are missing, and what installs them.
    pub missing: BTreeMap<String, String>,
    /// systemd is the init system.
    pub systemd: bool,
}

impl Facts {
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

    /// Where smbd writes its pid.
    pub fn smbd_pid_file(&self) -> PathBuf {
        let dir = self.effective.global.get("pid directory").map_or("/run/samba", String::as_str);
        Path::new(dir).join("smbd.pid")
    }
}
