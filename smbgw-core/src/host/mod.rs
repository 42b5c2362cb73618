// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one door to the machine. [`Host`] is everything the product can ask of it; [`real`] is Linux, [`sim`] a small
//! machine in memory that can fail or die at any call. It knows how to look and how to act; it must not know what a share is.
//!
//! All paths are absolute. Methods that change something leave either the old state or the new one, and what returns `Ok` from
//! [`Host::append`], [`Host::write`] and [`Host::remove`] is on stable storage.

pub mod guest;
pub mod programs;
pub mod real;
pub mod sim;
pub mod sys;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::effect::{Cmd, FileSpec, Place};
use crate::error::Result;
pub use crate::facts::Space;
use crate::format::smb_profile::Counters;
use crate::net::{DnsAnswer, DnsAsk, Reach};
use crate::quota::{Figures, Means, QuotaSeen, Tag};
use crate::types::VmId;

/// Secrets by name, for one run. Never printed; overwritten when dropped.
#[derive(Default)]
pub struct Secrets(BTreeMap<String, Vec<u8>>);

impl Secrets {
    /// Puts one in.
    pub fn put(&mut self, name: &str, value: Vec<u8>) {
        if let Some(mut old) = self.0.insert(name.to_owned(), value) {
            wipe(&mut old);
        }
    }

    /// Takes a look.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        self.0.values_mut().for_each(|v| wipe(v));
    }
}

fn wipe(bytes: &mut [u8]) {
    for b in bytes.iter_mut() {
        *b = 0;
    }
    // Keeps the stores above from being dropped as dead.
    std::hint::black_box(bytes);
}

/// A file as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSeen {
    /// All of it, as bytes: a foreign file need not be UTF-8.
    #[serde(with = "guest::hex")]
    pub content: Vec<u8>,
    /// Permission bits (07777).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A directory tree's root as it was seen, through one descriptor opened without following a symlink anywhere on the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeSeen {
    /// Device number of the file system (`st_dev`).
    pub dev: u64,
    /// Inode number of the root.
    pub ino: u64,
    /// Permission bits (07777).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// File system type as in mountinfo, for example `ext4`; empty where unknown.
    pub fs_type: String,
    /// Where that file system is mounted.
    pub mount_point: PathBuf,
    /// A number that survives a remount and a reboot where the file system has one (`statfs.f_fsid` of ext4, btrfs, ZFS, Ceph), else
    /// 0: XFS makes its from the device number, tmpfs by chance.
    pub fsid: u64,
    /// `path` itself is a mount point.
    pub is_mount: bool,
    /// Mount points strictly inside the tree.
    pub mounts_inside: Vec<PathBuf>,
    /// The file system is mounted read-only.
    pub read_only: bool,
}

/// How much of a tree belongs to some owners; see [`Host::survey`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// Entries found by owner uid, only for the uids asked for.
    pub by_uid: BTreeMap<u32, u64>,
    /// Entries found by group, only for the gids asked for.
    pub by_gid: BTreeMap<u32, u64>,
    /// Entries looked at.
    pub entries: u64,
    /// The whole tree was seen; otherwise the counts are lower bounds.
    pub complete: bool,
}

/// What was added to a log since somebody looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailSeen {
    /// Which file it is: another one after a rotation.
    pub ino: u64,
    /// How long it is now.
    pub size: u64,
    /// From the place asked for, at most as much as asked for.
    #[serde(with = "guest::hex")]
    pub content: Vec<u8>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Exit status, or the signal as a negative number.
    pub status: i32,
    /// Standard output, at most 4 MiB.
    #[serde(with = "guest::hex")]
    pub stdout: Vec<u8>,
    /// Standard error, at most 64 KiB (the end of it).
    #[serde(with = "guest::hex")]
    pub stderr: Vec<u8>,
    /// It was ended because its time was up.
    pub timed_out: bool,
}

impl Output {
    /// Standard output as text; what is not UTF-8 is replaced.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// A process by pid and start time, so that a reused pid is not mistaken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start: u64,
}

/// A command that runs.
pub trait Job {
    /// Which process it is.
    fn process(&self) -> ProcessId;
    /// Waits at most `wait`; the result when it ended or was ended at its deadline.
    fn poll(&mut self, wait: Duration) -> Result<Option<Output>>;
    /// Ends it now (SIGKILL to the child, and to its whole process group if it is a daemon: others are in ours) and reaps it,
    /// unless it is stuck in the kernel: then it is abandoned. A job that is dropped is ended too, except a daemon.
    fn kill(&mut self);
}

/// What the numbers of an unprivileged container are higher by on the disk of its node (Proxmox VE's `lxc.idmap = u 0 100000 65536`).
pub const SHIFT: u32 = 100_000;

/// A walk through a tree that is going on.
pub trait Walk {
    /// Goes on for at most `budget`; the number of entries that were changed when it is over.
    fn go(&mut self, budget: Duration) -> Result<Option<u64>>;
    /// The number of entries that were looked at so far.
    fn looked(&self) -> u64;
}

/// A conversation with a program that answers each line with a line, as [`guest::serve`] does.
pub trait Talk {
    /// Which process it is on this machine.
    fn process(&self) -> ProcessId;
    /// Sends a line and waits for the answer, at most `wait`; the line feed is not part of either. Errors: the program ended (with what
    /// it said on standard error), the time is up, or the answer is longer than 32 MiB. After an error it is of no use any more.
    fn ask(&mut self, line: &[u8], wait: Duration) -> Result<Vec<u8>>;
}

/// A lock that is held until dropped.
pub trait Lock {}

/// The machine.
pub trait Host {
    /// The file, or `None` if it is not there. A symlink is followed (an administrator may have linked smb.conf); anything that is
    /// not a regular file after that, or is larger than `limit` bytes, is an error.
    fn read(&self, path: &Path, limit: u64) -> Result<Option<FileSeen>>;
    /// A log from a place on, or `None` if it is not there; nothing if it is shorter than that.
    fn tail(&self, path: &Path, from: u64, limit: u64) -> Result<Option<TailSeen>>;
    /// How many records a TDB has, or `None` if it is not there. Not which: what is in most of Samba's is its own affair.
    fn records(&self, path: &Path) -> Result<Option<usize>>;
    /// Samba's profile counters by pid, or `None` if the file is not there: those at the places `wanted`, or without any the sums of all, as
    /// [`smb_profile::parse_file`]. Not the file itself: it is large where many are connected.
    fn counters(&self, path: &Path, wanted: &[usize]) -> Result<Option<Counters>>;
    /// Replaces a file atomically (temporary file in the same directory, fsync, rename, fsync of the directory). A symlink at
    /// `path` is followed and its target replaced, so that the link stays.
    fn write(&self, file: &FileSpec) -> Result<()>;
    /// Removes a file; it is no error if it is not there.
    fn remove(&self, path: &Path) -> Result<()>;
    /// Appends and syncs; makes the file 0600 if it is new (its directory must exist).
    fn append(&self, path: &Path, bytes: &[u8]) -> Result<()>;
    /// Appends without waiting for the disk: survives our death, not the machine's.
    fn append_lazily(&self, path: &Path, bytes: &[u8]) -> Result<()>;
    /// Renames within a directory and syncs it.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Makes a directory and its parents, each new one with `mode`, owned by us.
    fn make_dir(&self, path: &Path, mode: u32) -> Result<()>;
    /// Removes a directory if it is empty; `false` if it was not.
    fn remove_dir(&self, path: &Path) -> Result<bool>;
    /// Names in a directory, sorted; empty if it is not there.
    fn list(&self, path: &Path) -> Result<Vec<String>>;
    /// Whether anything is at `path` (a symlink counts, wherever it points).
    fn exists(&self, path: &Path) -> Result<bool>;

    /// The root of a tree, opened with `openat2(RESOLVE_NO_SYMLINKS)`. Errors: `NotFound` if nothing is there, `Invalid` if a symlink
    /// is on the way (naming it) or it is no directory.
    fn tree(&self, path: &Path) -> Result<TreeSeen>;
    /// Several trees, by one look at the table of mounts.
    fn trees(&self, paths: &[PathBuf]) -> Vec<Result<TreeSeen>> {
        paths.iter().map(|p| self.tree(p)).collect()
    }
    /// Whether anything is in a directory, but for the `lost+found` of a file system.
    fn populated(&self, path: &Path) -> Result<bool> {
        Ok(self.list(path)?.iter().any(|n| n != "lost+found"))
    }
    /// Gives the root of a tree (and only the root) another owner, group and mode, through a descriptor that still is `fsid`/`ino`.
    fn set_tree(&self, path: &Path, fsid: u64, ino: u64, uid: u32, gid: u32, mode: u32) -> Result<()>;
    /// Counts the entries of a tree that belong to one of `uids` or `gids`, without following symlinks or leaving the file system; stops after
    /// `budget`.
    fn survey(&self, path: &Path, uids: &[u32], gids: &[u32], budget: Duration) -> Result<Survey>;
    /// Gives every entry of a tree, the root last, numbers that are [`SHIFT`] higher or lower, without following symlinks or leaving the file
    /// system. Numbers that are there already stay, so a walk that was cut short can be begun again.
    fn shift(&self, path: &Path, up: bool) -> Result<Box<dyn Walk>>;
    /// What can limit a tree, and what does. Errors: as [`Host::tree`]; that nothing can is an answer. Of ZFS only the dataset is told: its
    /// properties are `zfs`'s to tell.
    fn quota(&self, path: &Path) -> Result<QuotaSeen>;
    /// What a tree uses, by its means. No process is started; only on [`Means::is_local`] it cannot block.
    fn figures(&self, path: &Path, means: &Means) -> Result<Figures>;
    /// Only what is used, in bytes: what the hot path asks.
    fn used(&self, path: &Path, means: &Means) -> Result<u64>;
    /// Limits a tree to a number of bytes, or lifts its limit, through a descriptor that still is the tree: [`TreeSeen::fsid`] and `ino`, since device
    /// numbers change with each mount. Not for a dataset, which `zfs`
    /// sets, nor for a volume, which is as large as it is.
    fn set_quota(&self, path: &Path, fsid: u64, ino: u64, means: &Means, limit: Option<u64>) -> Result<()>;
    /// What a user owns on the file system of a tree, and the limit of that; not for a dataset, which `zfs` tells.
    fn user_figures(&self, path: &Path, uid: u32) -> Result<Figures>;
    /// Limits what a user may own on the file system of a tree that still is `fsid`/`ino`, or lifts that limit.
    fn set_user_quota(&self, path: &Path, fsid: u64, ino: u64, uid: u32, limit: Option<u64>) -> Result<()>;
    /// Gives everything in a tree another project, without following symlinks or leaving the file system. Entries that are in it already
    /// stay, so a walk that was cut short can be begun again.
    fn tag(&self, path: &Path, fsid: u64, ino: u64, tag: &Tag) -> Result<Box<dyn Walk>>;
    /// Removes one regular file directly under the root of a tree (our probe file), without following symlinks; no error if absent.
    fn remove_in_tree(&self, path: &Path, name: &str) -> Result<()>;
    /// Replaces a file directly in a directory, for everybody to read: 0644, root's. Through a descriptor of the directory, without following
    /// symlinks, and only where nobody but root can put something there: who owns a directory on the way to it cannot have root write
    /// elsewhere. Errors: as [`Host::tree`]; `Unsafe` if somebody else can change the directory.
    fn publish(&self, dir: &Path, name: &str, content: &str) -> Result<()>;
    /// Space of the file system at `path`. Callers ask only where it cannot block.
    fn space(&self, path: &Path) -> Result<Space>;

    /// Starts a command. An error if its program is not installed (`Unsupported`, with the package to install).
    fn start(&self, cmd: &Cmd, secrets: &Secrets) -> Result<Box<dyn Job>>;
    /// Starts a command to talk with; it is ended when the conversation is dropped. Errors as for [`Host::start`]; its deadline is that of
    /// each question.
    fn converse(&self, cmd: &Cmd) -> Result<Box<dyn Talk>>;
    /// Whether that very process still runs (a zombie does not).
    fn alive(&self, process: ProcessId) -> Result<bool>;
    /// The process behind a pid, if it runs and its program's file name is `program`.
    fn process(&self, pid: i32, program: &str) -> Result<Option<ProcessId>>;
    /// Ends that very process with SIGKILL, if it still runs and is a child we recorded; what such a one leaves when it is killed goes too.
    fn end(&self, process: ProcessId) -> Result<()>;
    /// Whether systemd is the init system here.
    fn has_systemd(&self) -> Result<bool>;
    /// Whether a program of the table is installed.
    fn installed(&self, program: crate::effect::Program) -> Result<bool>;

    /// Asks a name server, over UDP and, if the answer does not fit, over TCP; never by the C library's resolver. Where the question names no
    /// server, those of `/etc/resolv.conf` are asked one after the other, each for its part of the time, until one knows. It takes no
    /// longer than `within` in all. Errors: `Invalid` if the name cannot be asked for, `Io` if this machine has no means to ask (no
    /// descriptors left); everything else is an answer. Who asks for what an untrusted machine decides must not believe it: anybody can lie in DNS.
    fn dns(&self, ask: &DnsAsk, within: Duration) -> Result<DnsAnswer>;
    /// Whether anybody listens: a TCP connection that is closed at once, in no longer than `within`. Errors: only that this machine has no
    /// means to try.
    fn reach(&self, to: SocketAddr, within: Duration) -> Result<Reach>;

    /// Takes an exclusive lock on `path` (flock), waiting at most `wait`; `note` (pid and operation) is put into the file.
    /// `Busy`, with the holder's note, when the time is up.
    fn lock(&self, path: &Path, note: &str, wait: Duration) -> Result<Box<dyn Lock>>;
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64;
    /// Milliseconds of a clock that never goes back, for measuring.
    fn monotonic_ms(&self) -> u64;
    /// Processor time of our own process so far, in microseconds, without its children's.
    fn own_cpu_us(&self) -> u64;
    /// Waits; never longer than a second.
    fn pause(&self, time: Duration);
    /// Unpredictable bytes.
    fn random(&self, bytes: &mut [u8]) -> Result<()>;
    /// Our own process.
    fn own_process(&self) -> ProcessId;
    /// Our effective user and group: who owns the files that are ours alone.
    fn own_ids(&self) -> (u32, u32);
    /// The host name up to the first dot.
    fn node_name(&self) -> Result<String>;
}

/// The machines of an operation: the node, and the guests on it that were looked into.
pub struct Machines {
    node: Rc<dyn Host>,
    guests: RefCell<BTreeMap<VmId, Rc<guest::Guest>>>,
}

impl Machines {
    /// The node alone; a guest is added when it is asked for.
    pub fn new(node: Rc<dyn Host>) -> Self {
        Self { node, guests: RefCell::default() }
    }

    /// The node.
    pub fn node(&self) -> &dyn Host {
        &*self.node
    }

    /// The node, to keep.
    pub fn shared_node(&self) -> Rc<dyn Host> {
        Rc::clone(&self.node)
    }

    /// The machine at a place. Nothing is started before it is asked something.
    pub fn at(&self, place: Place) -> Rc<dyn Host> {
        match place {
            Place::Node => Rc::clone(&self.node),
            Place::Ct(vmid) => {
                let mut guests = self.guests.borrow_mut();
                let made = guests.entry(vmid).or_insert_with(|| Rc::new(guest::Guest::new(Rc::clone(&self.node), vmid)));
                Rc::<guest::Guest>::clone(made)
            }
        }
    }

    /// Ends the conversation with a guest, which is about to stop, or was started anew.
    pub fn hang_up(&self, vmid: VmId) {
        if let Some(g) = self.guests.borrow().get(&vmid) {
            g.hang_up();
        }
    }

    /// The guests that are being talked to.
    pub fn talking(&self) -> Vec<Place> {
        self.guests.borrow().iter().filter(|(_, g)| g.talking()).map(|(v, _)| Place::Ct(*v)).collect()
    }
}

/// Whether nobody but root can put something into a directory.
pub(super) fn root_alone(dir: &Path, uid: u32, mode: u32) -> Result<()> {
    if uid == 0 && mode & 0o022 == 0 {
        return Ok(());
    }
    let why = format!("{} can be changed by others than root (owner {uid}, mode {:04o})", dir.display(), mode & 0o7777);
    Err(crate::error::Error::new(crate::error::Kind::Unsafe, why)
        .remedy(format!("chown root: {0}; chmod go-w {0}", dir.display())))
}

impl dyn Host + '_ {
    /// Runs a command to its end.
    pub fn run(&self, cmd: &Cmd, secrets: &Secrets) -> Result<Output> {
        let mut job = self.start(cmd, secrets)?;
        loop {
            if let Some(output) = job.poll(Duration::from_secs(1))? {
                return Ok(output);
            }
        }
    }

    /// Writes a file into a directory that is root's alone, which is made.
    pub fn write_private(&self, file: &FileSpec) -> Result<()> {
        if let Some(dir) = file.path.parent() {
            self.make_dir(dir, 0o700)?;
        }
        self.write(file)
    }

    /// A file as text; what is not UTF-8 is an error that names the file.
    pub fn read_text(&self, path: &Path) -> Result<Option<String>> {
        match self.read(path, 16 << 20)? {
            None => Ok(None),
            Some(seen) => String::from_utf8(seen.content).map(Some).map_err(|e| {
                crate::error::Error::new(crate::error::Kind::Unsupported, format!("{} is not UTF-8 text", path.display()))
                    .remedy("convert the file to UTF-8; Samba expects that too (unix charset)")
                    .caused_by(e)
            }),
        }
    }
}
