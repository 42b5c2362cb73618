// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can limit a tree, and what is known of such a limit, as data. It knows what the mechanisms promise; it must not know how a
//! kernel is asked ([`crate::host`]) nor what somebody wants ([`crate::plan`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// The project id of a file and whether what is made in it inherits that (`fsx_projid`, `FS_XFLAG_PROJINHERIT`; linux/fs.h).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Number; 0 is the project of everything that is in none.
    pub id: u32,
    /// Of a directory: new entries get the same.
    pub inherit: bool,
}

impl Project {
    /// Nothing's project.
    pub const NONE: Project = Project { id: 0, inherit: false };

    /// The one that limits a tree.
    pub fn of(id: u32) -> Self {
        Self { id, inherit: true }
    }
}

/// What a walk does that gives a tree another project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// What the entries are in now.
    pub from: Project,
    /// What they shall be in; of other things than directories only the number counts.
    pub to: Project,
    /// It takes one back: entries of a third project stay as they are, where otherwise they are an error (`Conflict`, with the entries before
    /// them changed). The root is the last then and the first otherwise, so it carries the number for as long as anything in the tree does.
    pub back: bool,
}

/// Project ids that smbgw gives lie here: far above what people choose in `/etc/projid`.
pub const PROJECTS: std::ops::Range<u32> = 0x4000_0000..0x8000_0000;

/// A mechanism that limits one tree and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Means {
    /// Project quota of ext4 and XFS: the tree's files carry the number.
    Project {
        /// It.
        id: u32,
    },
    /// The qgroup `0/SUBVOLUME` of btrfs.
    Qgroup {
        /// UUID of the file system, as `/sys/fs/btrfs` has it.
        filesystem: String,
        /// Id of the subvolume.
        subvolume: u64,
    },
    /// `refquota` of a ZFS dataset.
    Dataset {
        /// Its name.
        name: String,
    },
    /// `ceph.quota.max_bytes` of a directory of CephFS.
    Ceph,
    /// Nothing but the size of the file system, which has a block device of its own.
    Volume,
}

impl Means {
    /// One word, for documents and people.
    pub fn name(&self) -> &'static str {
        match self {
            Means::Project { .. } => "project",
            Means::Qgroup { .. } => "qgroup",
            Means::Dataset { .. } => "refquota",
            Means::Ceph => "cephfs",
            Means::Volume => "volume",
        }
    }

    /// How old a figure may be although it was read just now, in milliseconds: btrfs counts when a transaction is committed (every 30 s, `commit=`
    /// in btrfs(5)), ZFS when a transaction group is written (`zfs_txg_timeout`, 5 s), CephFS when clients have told (`mds_dirstat_min_interval`,
    /// a few seconds, longer under load).
    pub fn lag_ms(&self) -> u64 {
        match self {
            Means::Project { .. } | Means::Volume => 0,
            Means::Qgroup { .. } => 30_000,
            Means::Dataset { .. } => 5_000,
            Means::Ceph => 10_000,
        }
    }

    /// A limit as the mechanism keeps it, never less than asked for: XFS rounds project quota to its blocks, of 64 KiB at most; the others take
    /// any number of bytes (CephFS: seen with 16.2 and 18.2).
    pub fn whole(&self, bytes: u64) -> u64 {
        if matches!(self, Means::Project { .. }) { to_blocks(bytes) } else { bytes }
    }

    /// Whether asking for figures can neither block nor needs a process.
    pub fn is_local(&self) -> bool {
        matches!(self, Means::Project { .. } | Means::Qgroup { .. } | Means::Volume)
    }

    /// Whether `statfs` of the tree shows the limit as the size.
    pub fn shows_in_statfs(&self) -> bool {
        !matches!(self, Means::Qgroup { .. } | Means::Ceph)
    }
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Means::Project { id } => write!(f, "project {id}"),
            Means::Qgroup { subvolume, .. } => write!(f, "qgroup 0/{subvolume}"),
            Means::Dataset { name } => write!(f, "refquota of {name}"),
            Means::Ceph => f.write_str("ceph.quota.max_bytes"),
            Means::Volume => f.write_str("the size of the file system"),
        }
    }
}

/// A mechanism that limits what single users own in a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum UserMeans {
    /// User quota of ext4 and XFS: of the whole file system, so it has to be the share's alone.
    FileSystem,
    /// `userquota@UID` of a ZFS dataset.
    Dataset {
        /// Its name.
        name: String,
    },
}

impl UserMeans {
    /// As [`Means::whole`].
    pub fn whole(&self, bytes: u64) -> u64 {
        if *self == UserMeans::FileSystem { to_blocks(bytes) } else { bytes }
    }
}

/// The next multiple of the largest block of a file system.
fn to_blocks(bytes: u64) -> u64 {
    const BLOCK: u64 = 64 << 10;
    bytes.div_ceil(BLOCK).saturating_mul(BLOCK)
}

impl fmt::Display for UserMeans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserMeans::FileSystem => f.write_str("user quota of the file system"),
            UserMeans::Dataset { name } => write!(f, "userquota of {name}"),
        }
    }
}

/// Why nothing limits a tree, and what would change that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unlimited {
    /// Cause.
    pub why: String,
    /// Remedy.
    pub remedy: String,
}

impl fmt::Display for Unlimited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.why, self.remedy)
    }
}

/// A tree's limit as found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct QuotaSeen {
    /// What can limit the tree. A project's number is the one that the root carries now, 0 if none.
    pub means: Result<Means, Unlimited>,
    /// The root's project, where files have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Project>,
    /// The limit in effect, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// What counts against it, in bytes; of a project that the root does not carry yet: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// Project ids of [`PROJECTS`] that the file system knows.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub taken: BTreeSet<u32>,
    /// Size of the whole file system in bytes; 0 where unknown.
    #[serde(default)]
    pub size: u64,
    /// What can limit single users in the tree.
    pub users: Result<UserMeans, Unlimited>,
    /// What limits the users that were asked for, by their numbers on the disk; 0: nothing. Not of a dataset.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub user_limits: BTreeMap<u32, u64>,
    /// What is worth a word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl QuotaSeen {
    /// Nothing limits the tree.
    pub fn unlimited(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        let none = Unlimited { why: why.into(), remedy: remedy.into() };
        let users = Unlimited {
            why: "the file system of the tree cannot limit single users in it".into(),
            remedy: "put the share on a ZFS dataset, or on an ext4 or XFS of its own that is mounted with usrquota".into(),
        };
        Self {
            users: Err(users),
            user_limits: BTreeMap::new(),
            means: Err(none),
            project: None,
            limit: None,
            used: None,
            taken: BTreeSet::new(),
            size: 0,
            notes: Vec::new(),
        }
    }
}

/// What a share uses, in bytes, as its mechanism counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Figures {
    /// The limit in effect; 0: none.
    pub limit: u64,
    /// Used.
    pub used: u64,
    /// Inodes (files, directories and the like), where the mechanism counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
}
