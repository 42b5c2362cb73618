// SPDX-License-Identifier: MIT OR Apache-2.0
//! [`RealHost`]: the [`Host`] that is Linux. It knows how to act on a machine safely from inside somebody else's process; it
//! must not know why anything is done. The only file of the product that writes files or starts processes.
//!
//! Rules it keeps: no shell and no `PATH`, no threads, no signal handlers, no change of the process's own directory,
//! environment, umask or dispositions; a child only ever of our own is waited for; every descriptor is close-on-exec; what
//! a forked copy of the embedding process drops frees memory and closes descriptors, but neither kills nor unlocks.
//!
//! What may block: file operations on a dead network mount. No call of the C library can be timed out, so the trees of
//! shares are only looked at by hooks and workers that run under a deadline of their own; the hot path never comes here.
#![allow(clippy::disallowed_methods)]

mod net;
mod quota;
mod walk;

pub use quota::disk_free;

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, OFlag, fcntl, openat, renameat};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, send, shutdown, socketpair};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fdatasync, fsync, pipe2, unlinkat};

use super::sys::{self, Ended, OpenError, Spawn, Spawned, retry};
use super::{
    FileSeen, Host, Job, Lock, Output, ProcessId, Secrets, Space, Survey, TailSeen, Talk, TreeSeen, Walk, programs, wipe,
};
use crate::effect::{Cmd, FileSpec, Program, Stdin};
use crate::error::{Error, Kind, Result};
use crate::format::mountinfo;
use crate::format::smb_profile::{self, Counters};
use crate::format::tdb;
use crate::net::{DnsAnswer, DnsAsk, Reach};
use crate::quota::{Figures, Means, QuotaSeen, Tag};

/// Standard output that is kept, from its beginning.
const STDOUT_LIMIT: usize = 4 << 20;
/// Standard error that is kept, from its end.
const STDERR_LIMIT: usize = 64 << 10;
/// How long a killed process may take to disappear before it is given up as stuck in the kernel.
const GRACE: Duration = Duration::from_secs(2);
/// Standard input is written before the child exists, so it must fit into a pipe.
const STDIN_LIMIT: usize = 32 << 10;
/// The whole environment of a child.
const ENVIRONMENT: [&CStr; 3] = [c"PATH=/usr/sbin:/usr/bin:/sbin:/bin", c"LC_ALL=C.UTF-8", c"HOME=/"];
/// The longest answer in a conversation.
const ANSWER_LIMIT: usize = 32 << 20;
/// Samba's profile: four and a half kilobytes for each smbd, ten thousand of them.
const COUNTERS_LIMIT: u64 = 64 << 20;
/// Levels of directories a survey goes down; each holds two descriptors.
const SURVEY_DEPTH: usize = 128;

/// The machine we run on.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealHost;

impl RealHost {
    /// Nothing is opened or started.
    pub fn new() -> Self {
        Self
    }
}

/// An operating system error about `path`, with the remedy where there is an obvious one.
fn os(doing: &str, path: &Path, source: impl Into<io::Error>) -> Error {
    let source = source.into();
    let code = source.raw_os_error();
    let e = Error::io(format!("cannot {doing} {}", path.display()), source);
    match code {
        Some(libc::ENOSPC | libc::EDQUOT) => e.remedy(format!("free space on the file system of {}", path.display())),
        Some(libc::EROFS) => e.remedy("the file system is read-only: find out why (dmesg), then remount it"),
        Some(libc::EACCES | libc::EPERM) if path.starts_with("/etc/pve") => {
            e.remedy("/etc/pve cannot be written without quorum: see `pvecm status`")
        }
        Some(libc::EACCES | libc::EPERM) if !Uid::effective().is_root() => e.remedy("run it as root"),
        _ => e,
    }
}

/// Where a program of the table is installed, if it is.
fn locate(program: Program) -> Option<&'static Path> {
    let runnable = |p: &&Path| p.metadata().is_ok_and(|m| m.is_file() && m.mode() & 0o111 != 0);
    programs::entry_of(program).paths.iter().map(Path::new).find(runnable)
}

/// Directory and name of a path that must have both.
fn split(path: &Path) -> Result<(&Path, &OsStr)> {
    match (path.is_absolute(), path.parent(), path.file_name()) {
        (true, Some(dir), Some(name)) => Ok((dir, name)),
        _ => Err(Error::new(Kind::Internal, format!("{} is not an absolute path of a file", path.display()))),
    }
}

fn open_dir(dir: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(dir)
}

/// Syncs a directory; file systems that cannot (some FUSE ones) have nothing to sync.
fn sync_dir(dir: impl AsFd) -> nix::Result<()> {
    match retry(|| fsync(dir.as_fd())) {
        Err(Errno::EINVAL | Errno::ENOSYS) => Ok(()),
        other => other,
    }
}

fn sync_parent(path: &Path) -> Result<()> {
    let (dir, _) = split(path)?;
    let fd = open_dir(dir).map_err(|e| os("open", dir, e))?;
    sync_dir(&fd).map_err(|e| os("sync", dir, e))
}

fn kind_of(st: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(st.st_mode & SFlag::S_IFMT.bits())
}

fn absent(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound
}

/// Gives an open file its owner and mode, where these differ. Owner first: `chown` clears set-id bits.
fn set_owner_mode(fd: impl AsFd, uid: u32, gid: u32, mode: u32) -> nix::Result<()> {
    let fd = fd.as_fd();
    let st = fstat(fd)?;
    // pmxcfs has one owner and mode for everything and refuses others; what it gives is right for it (root, 0600 in priv).
    let fixed = |r: nix::Result<()>| match r {
        Err(Errno::EPERM | Errno::EACCES | Errno::ENOSYS | Errno::EOPNOTSUPP) if sys::is_fuse(fd) => Ok(()),
        other => other,
    };
    if (st.st_uid, st.st_gid) != (uid, gid) {
        fixed(retry(|| fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))))?;
    }
    if fstat(fd)?.st_mode & 0o7777 != mode & 0o7777 {
        fixed(retry(|| fchmod(fd, Mode::from_bits_truncate(mode & 0o7777))))?;
    }
    Ok(())
}

/// Where a chain of symlinks at `path` ends; the end need not exist.
fn link_target(path: &Path) -> Result<PathBuf> {
    let mut at = path.to_owned();
    for _ in 0..40 {
        match fs::read_link(&at) {
            Ok(to) => at = split(&at)?.0.join(to),
            // EINVAL: there, and no symlink.
            Err(e) if absent(&e) || e.raw_os_error() == Some(libc::EINVAL) => return Ok(at),
            Err(e) => return Err(os("read the link", &at, e)),
        }
    }
    Err(os("follow the links at", path, Errno::ELOOP))
}

/// A temporary file that disappears unless it was renamed.
struct Temp<'a> {
    dir: &'a File,
    name: OsString,
    file: File,
    kept: bool,
}

impl<'a> Temp<'a> {
    fn beside(dir: &'a File, target: &OsStr) -> io::Result<Self> {
        const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        for _ in 0..16 {
            let mut random = [0; 6];
            sys::getrandom(&mut random)?;
            // `.` + name + `.smbgw-` + 6 letters, within NAME_MAX.
            let stem = &target.as_bytes()[..target.len().min(255 - 14)];
            let mut name = [b".", stem, b".smbgw-"].concat();
            name.extend(random.iter().map(|b| LETTERS[usize::from(b & 31)]));
            let name = OsString::from_vec(name);
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            match retry(|| openat(dir, name.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)) {
                Ok(fd) => return Ok(Self { dir, name, file: fd.into(), kept: false }),
                Err(Errno::EEXIST) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(Errno::EEXIST.into())
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // Nothing more can be done about a temporary file that cannot be removed.
            let _ = unlinkat(self.dir, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// Appends all of it or, as far as we can, nothing. Tells whether the file is new.
fn append(path: &Path, bytes: &[u8]) -> Result<(File, bool)> {
    split(path)?;
    let open = |new: bool| {
        OpenOptions::new()
            .append(true)
            .create_new(new)
            .mode(0o600)
            // Ours alone, so never through a link; O_NONBLOCK keeps a planted FIFO from hanging us.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
    };
    let failed = |e: io::Error| os("append to", path, e);
    let (mut file, new) = match open(false) {
        Ok(f) => (f, false),
        Err(e) if absent(&e) => match open(true) {
            Ok(f) => (f, true),
            // Somebody else made it just now.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => (open(false).map_err(failed)?, false),
            Err(e) => return Err(failed(e)),
        },
        Err(e) => return Err(failed(e)),
    };
    let before = file.metadata().map_err(failed)?;
    if !before.is_file() {
        return Err(not_regular(path));
    }
    if let Err(e) = file.write_all(bytes) {
        // A torn line helps nobody.
        let _ = file.set_len(before.len());
        return Err(failed(e));
    }
    Ok((file, new))
}

fn not_regular(path: &Path) -> Error {
    Error::new(Kind::Conflict, format!("{} is not a regular file", path.display())).remedy("move it out of the way")
}

/// Opens the root of a tree, or anything on the way to it, without following a symlink.
fn open_tree(path: &Path, flags: OFlag) -> Result<OwnedFd> {
    if !path.is_absolute() || path.components().any(|c| c == Component::ParentDir) {
        return Err(Error::new(Kind::Invalid, format!("{} is not an absolute path without `..`", path.display())));
    }
    sys::open_no_symlinks(path, flags).map_err(|e| match e {
        OpenError::Symlink(link) if link == path => {
            Error::new(Kind::Invalid, format!("{} is a symlink", path.display())).remedy("name the directory it leads to")
        }
        OpenError::Symlink(link) => {
            Error::new(Kind::Invalid, format!("{} leads through the symlink {}", path.display(), link.display()))
                .remedy("name the directory without any symlink on the way")
        }
        OpenError::Os(e) => match e.raw_os_error() {
            Some(libc::ENOENT) => Error::new(Kind::NotFound, format!("{} does not exist", path.display())),
            Some(libc::ENOTDIR) => Error::new(Kind::Invalid, format!("{} is not a directory", path.display())),
            _ => os("open", path, e),
        },
    })
}

fn mounts() -> Result<Vec<mountinfo::Mount>> {
    let path = Path::new("/proc/self/mountinfo");
    let bytes = fs::read(path).map_err(|e| os("read", path, e))?;
    Ok(mountinfo::parse(&String::from_utf8_lossy(&bytes)))
}

/// The root of a tree. The table of mounts is read if it does not have the tree's, and is left for the next tree.
fn look_at_tree(path: &Path, table: &mut Vec<mountinfo::Mount>) -> Result<TreeSeen> {
    let fd = open_tree(path, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
    let failed = |e: io::Error| os("look at", path, e);
    let st = fstat(&fd).map_err(|e| failed(e.into()))?;
    let fs = sys::fstatfs(fd.as_fd()).map_err(failed)?;
    let id = sys::mount_id(fd.as_fd()).map_err(failed)?;
    // By the descriptor's own mount and not by its path: what the path means may have changed since it was opened.
    let own = |m: &&mountinfo::Mount| u64::from(m.id) == id;
    if !table.iter().any(|m| own(&m)) {
        *table = mounts()?;
    }
    let (fs_type, mount_point) = table.iter().find(own).map(|m| (m.fstype.clone(), m.mount_point.clone())).unwrap_or_default();
    // By bytes and not by names: hundreds of trees are held against dozens of mounts.
    let clean: PathBuf = path.components().collect();
    let clean = clean.as_os_str().as_bytes().strip_suffix(b"/").unwrap_or(clean.as_os_str().as_bytes());
    let below = |p: &&PathBuf| p.as_os_str().as_bytes().strip_prefix(clean).is_some_and(|rest| rest.len() > 1 && rest[0] == b'/');
    let inside = table.iter().map(|m| &m.mount_point).filter(below);
    let mut mounts_inside: Vec<PathBuf> = inside.cloned().collect();
    mounts_inside.sort();
    mounts_inside.dedup();
    Ok(TreeSeen {
        dev: st.st_dev,
        ino: st.st_ino,
        mode: st.st_mode & 0o7777,
        uid: st.st_uid,
        gid: st.st_gid,
        fsid: lasting_fsid(&fs),
        is_mount: mount_point == path,
        fs_type,
        mount_point,
        mounts_inside,
        read_only: fs.read_only,
    })
}

/// `f_fsid` where it comes from the file system's own identity. XFS and others make it from the device number, tmpfs from
/// chance: these change when disks are renumbered or mounted again, so for them it is 0.
fn lasting_fsid(fs: &sys::Statfs) -> u64 {
    // linux/magic.h; Ceph, ZFS and bcachefs keep theirs to themselves.
    const LASTING: [i64; 5] = [0xEF53, 0x9123_683E, 0x2FC1_2FC1, 0x00C3_6400, 0xCA45_1A4E];
    if LASTING.contains(&fs.magic) { fs.fsid } else { 0 }
}

impl Host for RealHost {
    fn read(&self, path: &Path, limit: u64) -> Result<Option<FileSeen>> {
        // O_NONBLOCK: a FIFO opens at once and is then refused.
        let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path) {
            Ok(f) => f,
            Err(e) if absent(&e) => return Ok(None),
            // A socket.
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => return Err(not_regular(path)),
            Err(e) => return Err(os("open", path, e)),
        };
        let meta = file.metadata().map_err(|e| os("look at", path, e))?;
        if !meta.is_file() {
            return Err(not_regular(path));
        }
        let too_large = || Error::new(Kind::Unsupported, format!("{} is larger than {limit} bytes", path.display()));
        if meta.len() > limit {
            return Err(too_large());
        }
        let mut content = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0) + 1);
        // It may grow while we read, and files of /proc and /sys have no size, or one that is not true. The usual one is read at once.
        let mut all = file.take(limit.saturating_add(1));
        (&mut all).take(meta.len()).read_to_end(&mut content).map_err(|e| os("read", path, e))?;
        if meta.len() == 0 || content.len() as u64 != meta.len() {
            all.read_to_end(&mut content).map_err(|e| os("read", path, e))?;
        }
        if content.len() as u64 > limit {
            return Err(too_large());
        }
        Ok(Some(FileSeen { content, mode: meta.mode() & 0o7777, uid: meta.uid(), gid: meta.gid() }))
    }

    /// Extended attributes and ACLs of an old file are not carried over; neither is a further hard link to it.
    fn write(&self, file: &FileSpec) -> Result<()> {
        let path = link_target(&file.path)?;
        let (dir_path, name) = split(&path)?;
        let failed = |e: io::Error| os("write", &path, e);
        let dir = open_dir(dir_path).map_err(|e| os("open", dir_path, e))?;
        match fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(st) if kind_of(&st) != SFlag::S_IFREG => return Err(not_regular(&path)),
            Ok(_) | Err(Errno::ENOENT) => {}
            Err(e) => return Err(failed(e.into())),
        }
        let mut temp = Temp::beside(&dir, name).map_err(failed)?;
        temp.file.write_all(file.content.as_bytes()).map_err(failed)?;
        set_owner_mode(&temp.file, file.uid, file.gid, file.mode).map_err(|e| failed(e.into()))?;
        temp.file.sync_all().map_err(failed)?;
        retry(|| renameat(&dir, temp.name.as_os_str(), &dir, name)).map_err(|e| failed(e.into()))?;
        temp.kept = true;
        sync_dir(&dir).map_err(|e| os("sync", dir_path, e))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Ok(()) => sync_parent(path),
            Err(e) if absent(&e) => Ok(()),
            Err(e) => Err(os("remove", path, e)),
        }
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let (file, new) = append(path, bytes)?;
        retry(|| fdatasync(&file)).map_err(|e| os("sync", path, e))?;
        if new { sync_parent(path) } else { Ok(()) }
    }

    fn append_lazily(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        append(path, bytes).map(drop)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        if split(from)?.0 != split(to)?.0 {
            return Err(Error::new(Kind::Internal, format!("{} and {} are in two directories", from.display(), to.display())));
        }
        fs::rename(from, to).map_err(|e| os(&format!("rename {} to", from.display()), to, e))?;
        sync_parent(to)
    }

    fn make_dir(&self, path: &Path, mode: u32) -> Result<()> {
        if path.metadata().is_ok_and(|m| m.is_dir()) {
            return Ok(());
        }
        let mut missing: Vec<&Path> = path.ancestors().take_while(|p| !p.is_dir()).collect();
        while let Some(dir) = missing.pop() {
            let failed = |e: io::Error| os("make the directory", dir, e);
            // Only for us until its mode is set: the umask is the embedding process's own and is left alone.
            match fs::DirBuilder::new().mode(mode & 0o700).create(dir) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => continue,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(Error::new(Kind::Conflict, format!("{} is not a directory", dir.display()))
                        .remedy("move it out of the way"));
                }
                Err(e) => return Err(failed(e)),
            }
            let fd =
                OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(dir).map_err(failed)?;
            let st = fstat(&fd).map_err(|e| failed(e.into()))?;
            set_owner_mode(&fd, st.st_uid, st.st_gid, mode).map_err(|e| failed(e.into()))?;
            sync_parent(dir)?;
        }
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> Result<bool> {
        match fs::remove_dir(path) {
            Ok(()) => sync_parent(path).map(|()| true),
            Err(e) if absent(&e) => Ok(true),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTEMPTY | libc::EEXIST)) => Ok(false),
            Err(e) => Err(os("remove the directory", path, e)),
        }
    }

    fn list(&self, path: &Path) -> Result<Vec<String>> {
        let entries = match fs::read_dir(path) {
            Ok(d) => d,
            Err(e) if absent(&e) => return Ok(Vec::new()),
            Err(e) => return Err(os("list", path, e)),
        };
        let name = |e: io::Result<fs::DirEntry>| e.map(|e| e.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = entries.map(name).collect::<io::Result<_>>().map_err(|e| os("list", path, e))?;
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        match fs::symlink_metadata(path) {
            Ok(_) => Ok(true),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(false),
            Err(e) => Err(os("look at", path, e)),
        }
    }

    fn tree(&self, path: &Path) -> Result<TreeSeen> {
        look_at_tree(path, &mut Vec::new())
    }

    fn trees(&self, paths: &[PathBuf]) -> Vec<Result<TreeSeen>> {
        let mut table = Vec::new();
        paths.iter().map(|p| look_at_tree(p, &mut table)).collect()
    }

    /// A directory may have a great many entries, and the first one will do.
    fn populated(&self, path: &Path) -> Result<bool> {
        let failed = |e: io::Error| os("list", path, e);
        match fs::read_dir(path) {
            Ok(mut entries) => entries
                .find_map(|e| e.map(|e| (e.file_name() != "lost+found").then_some(true)).transpose())
                .unwrap_or(Ok(false))
                .map_err(failed),
            Err(e) if absent(&e) => Ok(false),
            Err(e) => Err(failed(e)),
        }
    }

    fn set_tree(&self, path: &Path, fsid: u64, ino: u64, uid: u32, gid: u32, mode: u32) -> Result<()> {
        let fd = open_tree(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let failed = |e: Errno| os("set owner and mode of", path, e);
        let st = fstat(&fd).map_err(failed)?;
        walk::must_be(path, &fd, fsid, ino)?;
        let set = |uid, gid, mode: u32| {
            retry(|| fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))))?;
            retry(|| fchmod(&fd, Mode::from_bits_truncate(mode & 0o7777)))
        };
        set(uid, gid, mode).map_err(|e| {
            // All or nothing, as far as the file system lets us.
            let _ = set(st.st_uid, st.st_gid, st.st_mode);
            failed(e)
        })
    }

    /// The root itself is not counted, nor what is on other file systems (or other btrfs subvolumes) mounted inside.
    fn survey(&self, path: &Path, uids: &[u32], gids: &[u32], budget: Duration) -> Result<Survey> {
        let until = Instant::now() + budget;
        let failed = |e: io::Error| os("survey", path, e);
        let down = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let root = open_tree(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let dev = fstat(&root).map_err(|e| failed(e.into()))?.st_dev;
        let mut seen = Survey { complete: true, ..Survey::default() };
        let mut levels = vec![walk::level(root).map_err(failed)?];
        loop {
            let depth = levels.len();
            let Some(here) = levels.last_mut() else { break };
            let entry = match here.entries.next() {
                None => {
                    levels.pop();
                    continue;
                }
                Some(Ok(entry)) => entry,
                Some(Err(_)) => {
                    seen.complete = false;
                    levels.pop();
                    continue;
                }
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let st = match fstatat(&here.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(st) => st,
                // Gone between the two looks.
                Err(Errno::ENOENT) => continue,
                Err(_) => {
                    seen.complete = false;
                    continue;
                }
            };
            if st.st_dev != dev {
                continue;
            }
            seen.entries += 1;
            if uids.contains(&st.st_uid) {
                *seen.by_uid.entry(st.st_uid).or_default() += 1;
            }
            if gids.contains(&st.st_gid) {
                *seen.by_gid.entry(st.st_gid).or_default() += 1;
            }
            let directory = kind_of(&st) == SFlag::S_IFDIR;
            if (directory || seen.entries % 256 == 0) && Instant::now() >= until {
                seen.complete = false;
                break;
            }
            if !directory {
                continue;
            }
            if depth >= SURVEY_DEPTH {
                seen.complete = false;
                continue;
            }
            match openat(&here.fd, name, down, Mode::empty()) {
                Ok(fd) => match (fstat(&fd), walk::level(fd)) {
                    (Ok(now), Ok(next)) if now.st_dev == dev => levels.push(next),
                    _ => seen.complete = false,
                },
                // Gone, or replaced by something else, between the two looks.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                Err(_) => seen.complete = false,
            }
        }
        Ok(seen)
    }

    fn shift(&self, path: &Path, up: bool) -> Result<Box<dyn Walk>> {
        Ok(Box::new(walk::begin(path, None, walk::Deed::Shift { up })?))
    }

    fn quota(&self, path: &Path) -> Result<QuotaSeen> {
        quota::look(self, path)
    }

    fn figures(&self, path: &Path, means: &Means) -> Result<Figures> {
        quota::figures(path, means)
    }

    fn used(&self, path: &Path, means: &Means) -> Result<u64> {
        quota::used(path, means)
    }

    fn set_quota(&self, path: &Path, fsid: u64, ino: u64, means: &Means, limit: Option<u64>) -> Result<()> {
        quota::set(path, (fsid, ino), means, limit)
    }

    fn user_figures(&self, path: &Path, uid: u32) -> Result<Figures> {
        quota::user_figures(path, uid)
    }

    fn set_user_quota(&self, path: &Path, fsid: u64, ino: u64, uid: u32, limit: Option<u64>) -> Result<()> {
        quota::set_user(path, (fsid, ino), uid, limit)
    }

    fn tag(&self, path: &Path, fsid: u64, ino: u64, tag: &Tag) -> Result<Box<dyn Walk>> {
        Ok(Box::new(walk::begin(path, Some((fsid, ino)), walk::Deed::Tag(*tag))?))
    }

    fn remove_in_tree(&self, path: &Path, name: &str) -> Result<()> {
        if name.is_empty() || name == "." || name == ".." || name.contains('/') {
            return Err(Error::new(Kind::Internal, format!("{name:?} is not a file name")));
        }
        let fd = open_tree(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let file = path.join(name);
        match fstatat(&fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(st) if kind_of(&st) != SFlag::S_IFREG => return Err(not_regular(&file)),
            Ok(_) => {}
            Err(Errno::ENOENT) => return Ok(()),
            Err(e) => return Err(os("look at", &file, e)),
        }
        match unlinkat(&fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(os("remove", &file, e)),
        }
    }

    fn publish(&self, dir: &Path, name: &str, content: &str) -> Result<()> {
        let fd = File::from(open_tree(dir, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?);
        let file = dir.join(name);
        let failed = |e: io::Error| os("write", &file, e);
        let st = fstat(&fd).map_err(|e| os("look at", dir, e))?;
        super::root_alone(dir, st.st_uid, st.st_mode)?;
        match fstatat(&fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(st) if kind_of(&st) != SFlag::S_IFREG => return Err(not_regular(&file)),
            Ok(_) | Err(Errno::ENOENT) => {}
            Err(e) => return Err(failed(e.into())),
        }
        let mut temp = Temp::beside(&fd, OsStr::new(name)).map_err(failed)?;
        temp.file.write_all(content.as_bytes()).map_err(failed)?;
        set_owner_mode(&temp.file, 0, 0, 0o644).map_err(|e| failed(e.into()))?;
        // Not synced: it is a few seconds old or worthless.
        retry(|| renameat(&fd, temp.name.as_os_str(), &fd, name)).map_err(|e| failed(e.into()))?;
        temp.kept = true;
        Ok(())
    }

    fn space(&self, path: &Path) -> Result<Space> {
        let fs = sys::statfs(path).map_err(|e| os("ask for the space of", path, e))?;
        let used = fs.total.saturating_sub(fs.free);
        Ok(Space { total: fs.total, avail: fs.avail, used, fsid: lasting_fsid(&fs) })
    }

    fn start(&self, cmd: &Cmd, secrets: &Secrets) -> Result<Box<dyn Job>> {
        let program = locate(cmd.program).ok_or_else(|| programs::missing(cmd.program))?;
        let mut input = stdin_of(cmd, secrets)?;
        let job = spawn(&Start {
            path: program,
            args: &cmd.args,
            input: input.as_deref(),
            rereads: matches!(cmd.stdin, Stdin::Text(_)),
            timeout: Duration::from_millis(cmd.timeout_ms),
            daemon: cmd.daemon,
            krb5: [("KRB5_CONFIG=", cmd.krb5_config.as_deref()), ("KRB5CCNAME=FILE:", cmd.krb5_ccache.as_deref())],
        });
        if let Some(secret) = &mut input {
            wipe(secret);
        }
        job.map(|job| Box::new(job) as Box<dyn Job>).map_err(|e| e.story(|s| s.command = Some(cmd.to_string())))
    }

    fn converse(&self, cmd: &Cmd) -> Result<Box<dyn Talk>> {
        let program = locate(cmd.program).ok_or_else(|| programs::missing(cmd.program))?;
        let talk = talk(program, &cmd.args, Duration::from_millis(cmd.timeout_ms));
        talk.map(|t| Box::new(t) as Box<dyn Talk>).map_err(|e| e.story(|s| s.command = Some(cmd.to_string())))
    }

    fn alive(&self, process: ProcessId) -> Result<bool> {
        Ok(sys::proc_stat(process.pid).is_some_and(|p| !p.dead() && p.start == process.start))
    }

    fn process(&self, pid: i32, program: &str) -> Result<Option<ProcessId>> {
        let Some(stat) = sys::proc_stat(pid).filter(|p| !p.dead()) else { return Ok(None) };
        // The executable decides; `comm` can be set to anything, but is all there is where /proc/PID/exe is not ours to read.
        let same = match fs::read_link(format!("/proc/{pid}/exe")) {
            Ok(exe) => {
                let name = exe.file_name().unwrap_or_default().as_bytes();
                // An upgrade replaced the file below the running process.
                name.strip_suffix(b" (deleted)").unwrap_or(name) == program.as_bytes()
            }
            Err(_) => stat.comm.as_bytes() == &program.as_bytes()[..program.len().min(15)],
        };
        Ok(same.then_some(ProcessId { pid, start: stat.start }))
    }

    fn end(&self, process: ProcessId) -> Result<()> {
        let failed = |e: io::Error| Error::io(format!("cannot end process {}", process.pid), e);
        if process.pid <= 1 {
            return Ok(());
        }
        if !self.alive(process)? {
            if sys::proc_stat(process.pid).is_none() {
                sweep_locks(Path::new("/etc"), process.pid);
            }
            return Ok(());
        }
        let until = Instant::now() + GRACE;
        match sys::pidfd_open(process.pid) {
            // Looked at again through the descriptor's eyes: the number cannot be reused while its process has not ended.
            Ok(fd) if self.alive(process)? => {
                sys::pidfd_kill(fd.as_fd()).map_err(failed)?;
                sys::wait_pidfd(fd.as_fd(), GRACE);
            }
            Ok(_) => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
            Err(_) => sys::kill_number(process.pid),
        }
        while self.alive(process)? {
            if Instant::now() >= until {
                return Err(Error::new(Kind::Timeout, format!("process {} does not end after SIGKILL", process.pid))
                    .remedy("it is stuck in the kernel, usually on a dead mount: bring that back or reboot"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        sweep_locks(Path::new("/etc"), process.pid);
        Ok(())
    }

    fn has_systemd(&self) -> Result<bool> {
        // The test of sd_booted(3).
        Ok(fs::symlink_metadata("/run/systemd/system").is_ok_and(|m| m.is_dir()))
    }

    fn installed(&self, program: Program) -> Result<bool> {
        Ok(locate(program).is_some())
    }

    fn dns(&self, ask: &DnsAsk, within: Duration) -> Result<DnsAnswer> {
        let servers = match ask.server {
            Some(server) => vec![server],
            None => net::nameservers(self)?,
        };
        let servers: Vec<SocketAddr> = servers.into_iter().map(|s| SocketAddr::new(s, net::DNS_PORT)).collect();
        net::dns(&servers, ask, within)
    }

    fn reach(&self, to: SocketAddr, within: Duration) -> Result<Reach> {
        net::reach(to, within)
    }

    fn lock(&self, path: &Path, note: &str, wait: Duration) -> Result<Box<dyn Lock>> {
        let failed = |e: io::Error| os("lock", path, e);
        let until = Instant::now() + wait;
        // /run is empty after a reboot.
        self.make_dir(split(path)?.0, 0o700)?;
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(path)
                .map_err(failed)?;
            if sys::try_lock(file.as_fd()).map_err(failed)? {
                let ours = file.metadata().map_err(failed)?;
                // Somebody may have removed the file that we opened: then another one could be locked by another process.
                if fs::symlink_metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == (ours.dev(), ours.ino())) {
                    let held = RealLock { file: file.try_clone().map_err(failed)?, owner: std::process::id() };
                    file.set_len(0).and_then(|()| file.write_all(note.as_bytes())).map_err(failed)?;
                    return Ok(Box::new(held));
                }
                continue;
            }
            let now = Instant::now();
            if now >= until {
                let mut holder = Vec::new();
                let _ = file.take(512).read_to_end(&mut holder);
                let holder = String::from_utf8_lossy(&holder).trim().to_owned();
                let holder = if holder.is_empty() { "another process".to_owned() } else { holder };
                return Err(Error::new(Kind::Busy, format!("{} is held by {holder}", path.display()))
                    .remedy("try again when that has finished"));
            }
            std::thread::sleep(Duration::from_millis(50).min(until - now));
        }
    }

    fn tail(&self, path: &Path, from: u64, limit: u64) -> Result<Option<TailSeen>> {
        let mut file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path) {
            Ok(f) => f,
            Err(e) if absent(&e) => return Ok(None),
            Err(e) => return Err(os("open", path, e)),
        };
        let meta = file.metadata().map_err(|e| os("look at", path, e))?;
        if !meta.is_file() {
            return Err(not_regular(path));
        }
        let mut content = Vec::new();
        if from < meta.len() {
            file.seek(io::SeekFrom::Start(from)).map_err(|e| os("read", path, e))?;
            file.take(limit).read_to_end(&mut content).map_err(|e| os("read", path, e))?;
        }
        Ok(Some(TailSeen { ino: meta.ino(), size: meta.len(), content }))
    }

    fn records(&self, path: &Path) -> Result<Option<usize>> {
        let Some(seen) = self.read(path, COUNTERS_LIMIT)? else { return Ok(None) };
        Ok(Some(tdb::records(&seen.content)?.len()))
    }

    fn counters(&self, path: &Path, wanted: &[usize]) -> Result<Option<Counters>> {
        let Some(seen) = self.read(path, COUNTERS_LIMIT)? else { return Ok(None) };
        Ok(Some(smb_profile::parse_file(&seen.content, wanted)?))
    }

    fn own_cpu_us(&self) -> u64 {
        sys::own_cpu_us()
    }

    fn now_ms(&self) -> i64 {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or_else(|before| -(before.duration().as_millis() as i64), |since| since.as_millis() as i64)
    }

    fn monotonic_ms(&self) -> u64 {
        sys::monotonic_ms()
    }

    fn own_ids(&self) -> (u32, u32) {
        (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
    }

    fn node_name(&self) -> Result<String> {
        let name = nix::unistd::gethostname().map_err(|e| Error::io("cannot read the host name", e.into()))?;
        let name = name.to_string_lossy().into_owned();
        Ok(name.split('.').next().unwrap_or_default().to_owned())
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time.min(Duration::from_secs(1)));
    }

    fn random(&self, bytes: &mut [u8]) -> Result<()> {
        sys::getrandom(bytes).map_err(|e| Error::io("cannot get random bytes from the kernel", e))
    }

    fn own_process(&self) -> ProcessId {
        let pid = std::process::id() as i32;
        ProcessId { pid, start: sys::proc_stat(pid).map_or(0, |p| p.start) }
    }
}

/// A lock: given back by the process that took it. A forked copy only closes its descriptor, which gives nothing back.
struct RealLock {
    file: File,
    owner: u32,
}

impl Lock for RealLock {}

impl Drop for RealLock {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            let _ = self.file.set_len(0);
            sys::unlock(self.file.as_fd());
        }
    }
}

/// What programs that change accounts leave when they are killed while they take or hold a lock: a file named by their number, and the lock with
/// that number in it. The next of them takes the lock away, and nobody the other file.
fn sweep_locks(dir: &Path, pid: i32) {
    for accounts in ["passwd", "group", "shadow", "gshadow", "subuid", "subgid"] {
        let lock = dir.join(format!("{accounts}.lock"));
        let holder = fs::read(&lock).ok();
        let holder = holder.as_deref().map(|h| h.strip_suffix(b"\0").unwrap_or(h));
        if holder == Some(pid.to_string().as_bytes()) {
            let _ = fs::remove_file(&lock);
        }
        let _ = fs::remove_file(dir.join(format!("{accounts}.{pid}")));
    }
}

/// What a command reads: a text, or the secret, each time with a line feed.
fn stdin_of(cmd: &Cmd, secrets: &Secrets) -> Result<Option<Vec<u8>>> {
    let (name, times) = match &cmd.stdin {
        Stdin::Null => return Ok(None),
        Stdin::Text(text) => return Ok(Some(text.clone().into_bytes())),
        Stdin::Secret { name, times } => (name, times),
    };
    let Some(secret) = secrets.get(name) else {
        return Err(Error::new(
            Kind::Invalid,
            format!("the secret {name} is needed for {} and was not given", cmd.program.name()),
        )
        .remedy(format!("give {name} again")));
    };
    if *times > 0 && secret.iter().any(|b| matches!(b, b'\n' | 0)) {
        return Err(Error::property(name, "must not contain a line feed or a NUL byte"));
    }
    let size = if *times == 0 { secret.len() } else { (secret.len() + 1) * usize::from(*times) };
    if size > STDIN_LIMIT {
        return Err(Error::property(name, format!("is too long: {} bytes", secret.len())));
    }
    // The exact size at once: a vector that grows leaves copies behind.
    let mut bytes = Vec::with_capacity(size);
    if *times == 0 {
        bytes.extend_from_slice(secret);
    }
    for _ in 0..*times {
        bytes.extend_from_slice(secret);
        bytes.push(b'\n');
    }
    Ok(Some(bytes))
}

/// A program to start. Only [`Host::start`], which takes the path from the table, makes one outside of tests.
struct Start<'a> {
    path: &'a Path,
    args: &'a [String],
    input: Option<&'a [u8]>,
    /// It opens `/dev/stdin`, and may do so more than once.
    rereads: bool,
    timeout: Duration,
    daemon: bool,
    /// Further variables of the environment, by what stands before the path.
    krb5: [(&'static str, Option<&'a Path>); 2],
}

fn spawn(start: &Start<'_>) -> Result<RealJob> {
    let deadline = Instant::now() + start.timeout;
    let name = start.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let failed = |e: io::Error| match e.kind() {
        io::ErrorKind::TimedOut => Error::new(Kind::Timeout, format!("{} did not start in time", start.path.display())),
        _ => Error::io(format!("cannot start {}", start.path.display()), e),
    };
    let pipe = || pipe2(OFlag::O_CLOEXEC);
    let nonblocking = |fd: &OwnedFd| retry(|| fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)));
    let stdin: OwnedFd = match start.input {
        None => File::open("/dev/null").map_err(failed)?.into(),
        // Each opening begins anew; no secret, which would stay there to be read.
        Some(bytes) if start.rereads => {
            let mut file = File::from(memfd_create(c"input", MFdFlags::MFD_CLOEXEC).map_err(|e| failed(e.into()))?);
            file.write_all(bytes).and_then(|()| file.rewind()).map_err(failed)?;
            file.into()
        }
        Some(bytes) => {
            // Written before there is a child, while we hold the reading end: it cannot block, nor raise SIGPIPE if the
            // child closes its input or dies. A pipe and not a socket, because programs open /dev/stdin.
            let (read, write) = pipe().map_err(|e| failed(e.into()))?;
            nonblocking(&write).map_err(|e| failed(e.into()))?;
            File::from(write).write_all(bytes).map_err(failed)?;
            read
        }
    };
    let (out, child_out) = pipe().map_err(|e| failed(e.into()))?;
    let (err, child_err) = pipe().map_err(|e| failed(e.into()))?;
    nonblocking(&out).and_then(|_| nonblocking(&err)).map_err(|e| failed(e.into()))?;
    let mut krb5 = Vec::new();
    for (name, path) in start.krb5.iter().filter_map(|(n, p)| Some((n, (*p)?))) {
        let variable = CString::new([name.as_bytes(), path.as_os_str().as_bytes()].concat());
        krb5.push(variable.map_err(|_| failed(io::Error::new(io::ErrorKind::InvalidInput, "a variable contains a NUL byte")))?);
    }
    let env: Vec<&CStr> = ENVIRONMENT.into_iter().chain(krb5.iter().map(CString::as_c_str)).collect();
    let child = sys::spawn(&Spawn {
        program: start.path,
        args: start.args,
        env: &env,
        stdio: [stdin.as_fd(), child_out.as_fd(), child_err.as_fd()],
        daemon: start.daemon,
        deadline,
    })
    .map_err(failed)?;
    Ok(RealJob {
        child,
        name,
        owner: std::process::id(),
        deadline,
        daemon: start.daemon,
        out: Stream { pipe: Some(out.into()), data: Vec::new(), keep: Keep::Beginning(STDOUT_LIMIT) },
        err: Stream { pipe: Some(err.into()), data: Vec::new(), keep: Keep::End(STDERR_LIMIT) },
        end: None,
    })
}

enum Keep {
    Beginning(usize),
    End(usize),
}

/// One output of a child.
struct Stream {
    pipe: Option<File>,
    data: Vec<u8>,
    keep: Keep,
}

impl Stream {
    /// Takes what is there, without waiting; at most `limit` bytes, so that an endless writer cannot hold us here.
    fn pump(&mut self, limit: usize) {
        let mut chunk = [0; 16 << 10];
        let mut taken = 0;
        while let Some(pipe) = self.pipe.as_mut().filter(|_| taken < limit) {
            match pipe.read(&mut chunk) {
                Ok(0) => self.pipe = None,
                Ok(n) => {
                    taken += n;
                    self.take(&chunk[..n]);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        match self.keep {
            Keep::Beginning(limit) => {
                let room = limit.saturating_sub(self.data.len()).min(bytes.len());
                self.data.extend_from_slice(&bytes[..room]);
            }
            Keep::End(limit) => {
                self.data.extend_from_slice(bytes);
                if self.data.len() > 2 * limit {
                    self.data.drain(..self.data.len() - limit);
                }
            }
        }
    }

    /// The last of it: a grandchild that keeps the pipe open is not waited for.
    fn finish(&mut self) -> Vec<u8> {
        // A pipe holds at most 1 MiB, so this is all that was written before the end.
        self.pump(1 << 20);
        self.pipe = None;
        let mut data = std::mem::take(&mut self.data);
        if let Keep::End(limit) = self.keep {
            data.drain(..data.len().saturating_sub(limit));
        }
        data
    }
}

/// How a job ended; asked again, it says the same again.
enum End {
    Known(Output),
    Lost,
}

struct RealJob {
    child: Spawned,
    name: String,
    owner: u32,
    deadline: Instant,
    daemon: bool,
    out: Stream,
    err: Stream,
    end: Option<End>,
}

impl RealJob {
    fn finish(&mut self, ended: Ended, timed_out: bool) {
        let (stdout, stderr) = (self.out.finish(), self.err.finish());
        if matches!(ended, Ended::Status(status) if status < 0) {
            sweep_locks(Path::new("/etc"), self.child.pid);
        }
        self.end = Some(match ended {
            Ended::Status(status) => End::Known(Output { status, stdout, stderr, timed_out }),
            // Killed by us, whether it obeys (Lost: somebody else reaped it) or is stuck in the kernel and abandoned.
            Ended::Lost | Ended::Running if timed_out => End::Known(Output { status: -libc::SIGKILL, stdout, stderr, timed_out }),
            Ended::Lost | Ended::Running => End::Lost,
        });
    }

    fn answer(&self) -> Result<Option<Output>> {
        match &self.end {
            None => Ok(None),
            Some(End::Known(output)) => Ok(Some(output.clone())),
            // Not guessed from the output: most programs are silent when they succeed, and so is one that was killed.
            Some(End::Lost) => {
                Err(Error::new(Kind::Service, format!("cannot tell how {} ended: its exit status was taken away", self.name))
                    .remedy(
                        "the calling process ignores SIGCHLD or waits for children it did not start: set SIGCHLD to its default",
                    )
                    .story(|s| s.exit = Some("unknown".to_owned())))
            }
        }
    }

    fn forked(&self) -> bool {
        self.owner != std::process::id()
    }

    /// Kills it, and waits a little until it is gone.
    fn slay(&mut self) -> Ended {
        match self.child.reap() {
            Ok(Ended::Running) => {}
            Ok(ended) => return ended,
            Err(_) => return Ended::Lost,
        }
        if self.daemon {
            // It has its own process group, which is not reused while its leader has not been reaped.
            sys::kill_number(-self.child.pid);
        }
        self.child.kill();
        self.child.reap_within(GRACE)
    }

    /// Sleeps until there is output or an end, at most for `wait`.
    fn nap(&self, wait: Duration) {
        let pidfd = self.child.pidfd.as_ref().map(AsFd::as_fd);
        let pipes = [&self.out, &self.err].into_iter().filter_map(|s| s.pipe.as_ref()).map(AsFd::as_fd);
        let mut fds: Vec<PollFd<'_>> = pipes.chain(pidfd).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        // Without a pidfd the end is only seen by looking.
        let wait = if pidfd.is_some() { wait } else { wait.min(Duration::from_millis(10)) };
        // A signal ends the wait early, which the caller's loop does not mind.
        let _ = poll(&mut fds, sys::poll_timeout(wait));
    }
}

impl Job for RealJob {
    fn process(&self) -> ProcessId {
        ProcessId { pid: self.child.pid, start: self.child.start }
    }

    fn poll(&mut self, wait: Duration) -> Result<Option<Output>> {
        if self.end.is_some() {
            return self.answer();
        }
        if self.forked() {
            return Err(Error::new(Kind::Forked, format!("{} was started by another process", self.name)));
        }
        let until = Instant::now() + wait.min(Duration::from_secs(3600));
        loop {
            self.out.pump(1 << 20);
            self.err.pump(1 << 20);
            match self.child.reap() {
                Ok(Ended::Running) => {}
                Ok(ended) => {
                    self.finish(ended, false);
                    return self.answer();
                }
                Err(e) => {
                    self.kill();
                    return Err(Error::io(format!("cannot wait for {}", self.name), e));
                }
            }
            let now = Instant::now();
            if now >= self.deadline {
                let ended = self.slay();
                // It may have ended by itself at the very last moment.
                let by_itself = matches!(ended, Ended::Status(s) if s != -libc::SIGKILL);
                self.finish(ended, !by_itself);
                return self.answer();
            }
            if now >= until {
                return Ok(None);
            }
            self.nap(until.min(self.deadline) - now);
        }
    }

    fn kill(&mut self) {
        if self.end.is_none() && !self.forked() {
            let ended = match self.slay() {
                // Killed for good or stuck: either way it will not answer any more.
                Ended::Lost | Ended::Running => Ended::Status(-libc::SIGKILL),
                ended => ended,
            };
            self.finish(ended, false);
        }
    }
}

impl Drop for RealJob {
    /// No child outlives its job, except a daemon.
    fn drop(&mut self) {
        if !self.daemon {
            self.kill();
        }
    }
}

/// Starts a program whose input we write and whose output we read as the conversation goes.
fn talk(program: &Path, args: &[String], timeout: Duration) -> Result<RealTalk> {
    let failed = |e: io::Error| Error::io(format!("cannot start {}", program.display()), e);
    let nonblocking = |fd: &OwnedFd| retry(|| fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)));
    // A socket, because a write into a pipe whose reader is gone raises SIGPIPE in the process that we are a guest of.
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).map_err(|e| failed(e.into()))?;
    let (out, child_out) = pipe2(OFlag::O_CLOEXEC).map_err(|e| failed(e.into()))?;
    let (err, child_err) = pipe2(OFlag::O_CLOEXEC).map_err(|e| failed(e.into()))?;
    nonblocking(&ours).and_then(|_| nonblocking(&out)).and_then(|_| nonblocking(&err)).map_err(|e| failed(e.into()))?;
    let child = sys::spawn(&Spawn {
        program,
        args,
        env: &ENVIRONMENT,
        stdio: [theirs.as_fd(), child_out.as_fd(), child_err.as_fd()],
        daemon: false,
        deadline: Instant::now() + timeout,
    })
    .map_err(failed)?;
    Ok(RealTalk {
        name: program.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        child,
        owner: std::process::id(),
        to: ours,
        out: Stream { pipe: Some(out.into()), data: Vec::new(), keep: Keep::Beginning(ANSWER_LIMIT) },
        err: Stream { pipe: Some(err.into()), data: Vec::new(), keep: Keep::End(STDERR_LIMIT) },
    })
}

/// A conversation with a child of ours.
struct RealTalk {
    name: String,
    child: Spawned,
    owner: u32,
    to: OwnedFd,
    out: Stream,
    err: Stream,
}

impl RealTalk {
    /// It ended, or broke its word: what it said on standard error tells why.
    fn broken(&mut self, what: &str) -> Error {
        self.child.kill();
        let _ = self.child.reap_within(GRACE);
        let said = String::from_utf8_lossy(&self.err.finish()).trim().to_owned();
        let last = said.lines().last().unwrap_or_default();
        let why = if last.is_empty() { format!("{} {what}", self.name) } else { format!("{} {what}: {last}", self.name) };
        Error::new(Kind::Service, why).story(|s| s.stderr = (!said.is_empty()).then_some(said))
    }
}

impl Talk for RealTalk {
    fn process(&self) -> ProcessId {
        ProcessId { pid: self.child.pid, start: self.child.start }
    }

    fn ask(&mut self, line: &[u8], wait: Duration) -> Result<Vec<u8>> {
        if self.owner != std::process::id() {
            return Err(Error::new(Kind::Forked, format!("{} was started by another process", self.name)));
        }
        let until = Instant::now() + wait;
        let mut left = [line, b"\n"].concat();
        let mut sent = 0;
        let answer = loop {
            while sent < left.len() {
                match retry(|| send(self.to.as_raw_fd(), &left[sent..], MsgFlags::MSG_NOSIGNAL)) {
                    Ok(n) => sent += n,
                    Err(Errno::EAGAIN) => break,
                    // Its end is seen below, with what it said.
                    Err(_) => break,
                }
            }
            self.out.pump(1 << 20);
            self.err.pump(1 << 20);
            if let Some(at) = self.out.data.iter().position(|b| *b == b'\n') {
                let rest = self.out.data.split_off(at + 1);
                let mut answer = std::mem::replace(&mut self.out.data, rest);
                answer.pop();
                break Ok(answer);
            }
            if self.out.data.len() >= ANSWER_LIMIT {
                break Err(self.broken("gives an answer without an end"));
            }
            if self.out.pipe.is_none() {
                break Err(self.broken("has ended"));
            }
            let now = Instant::now();
            if now >= until {
                let mut e = self.broken(&format!("did not answer within {} s", wait.as_secs()));
                e = e.as_kind(Kind::Timeout);
                break Err(e);
            }
            let mut fds: Vec<PollFd<'_>> = [&self.out, &self.err]
                .into_iter()
                .filter_map(|s| s.pipe.as_ref())
                .map(|f| PollFd::new(f.as_fd(), PollFlags::POLLIN))
                .collect();
            if sent < left.len() {
                fds.push(PollFd::new(self.to.as_fd(), PollFlags::POLLOUT));
            }
            let _ = poll(&mut fds, sys::poll_timeout((until - now).min(Duration::from_secs(1))));
        };
        wipe(&mut left);
        answer
    }
}

impl Drop for RealTalk {
    /// Hanging up is the end of its input; a forked copy only closes its descriptors.
    fn drop(&mut self) {
        if self.owner != std::process::id() {
            return;
        }
        let _ = shutdown(self.to.as_raw_fd(), Shutdown::Write);
        if matches!(self.child.reap_within(GRACE), Ended::Running) {
            self.child.kill();
            let _ = self.child.reap_within(GRACE);
        }
    }
}

#[cfg(test)]
mod tests;
