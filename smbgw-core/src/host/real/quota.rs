// SPDX-License-Identifier: MIT OR Apache-2.0
//! Limits of trees on the file systems that have them. It knows which file system offers what, how it is asked, and what an administrator has
//! to do where it is switched off; it must not know why a tree is limited.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};

use super::super::sys::quota::{self as kernel, Kind as Whose, SUBVOLUME_ROOT};
use super::super::sys::{self, retry};
use super::super::{Host, TreeSeen};
use super::walk::{another, must_be};
use super::{RealHost, mounts, open_tree, os};
use crate::error::{Error, Kind, Result};
use crate::format::mountinfo::Mount;
use crate::quota::{Figures, Means, PROJECTS, QuotaSeen, Unlimited, UserMeans};

const MAX_BYTES: &CStr = c"ceph.quota.max_bytes";
const RECURSIVE_BYTES: &CStr = c"ceph.dir.rbytes";
const RECURSIVE_ENTRIES: &CStr = c"ceph.dir.rentries";

fn open(path: &Path) -> Result<OwnedFd> {
    open_tree(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
}

/// What can limit a tree, and what does.
pub fn look(host: &RealHost, path: &Path) -> Result<QuotaSeen> {
    let tree = host.tree(path)?;
    let fd = open(path)?;
    let id = sys::mount_id(fd.as_fd()).map_err(|e| os("look at", path, e))?;
    let Some(mount) = mounts()?.into_iter().find(|m| u64::from(m.id) == id) else {
        return Ok(QuotaSeen::unlimited(
            format!("{} is on no mount that can be seen", path.display()),
            "find out what is mounted there",
        ));
    };
    let mut seen = match mount.fstype.as_str() {
        "ext4" | "xfs" => project(&fd, path, &tree, &mount)?,
        "btrfs" => qgroup(&fd, path, &tree, &mount)?,
        "zfs" => dataset(path, &tree, &mount),
        t if t == "ceph" || t.starts_with("fuse.ceph") => ceph(&fd, path)?,
        other => volume(path, &tree, &mount).unwrap_or_else(|| {
            QuotaSeen::unlimited(
                format!("{other}, the file system of {}, cannot limit a single directory", path.display()),
                "put the share on ext4 or XFS with project quota, btrfs, ZFS, CephFS, or a block device of its own",
            )
        }),
    };
    if matches!(mount.fstype.as_str(), "ext4" | "xfs") {
        seen.users = users(&fd, path, &tree, &mount)?;
    }
    // A CephFS that is mounted at the directory tells of its quota, as a dataset does.
    let own_size = mount.fstype == "zfs" || (matches!(seen.means, Ok(Means::Ceph)) && tree.is_mount);
    if seen.size == 0 && !own_size {
        seen.size = host.space(&mount.mount_point)?.total;
    }
    Ok(seen)
}

// ---- ext4 and XFS ------------------------------------------------------------------------------------------------------

fn project(fd: &OwnedFd, path: &Path, tree: &TreeSeen, mount: &Mount) -> Result<QuotaSeen> {
    let failed = |e: io::Error| os("ask for the quota of", path, e);
    if !kernel::enforced(fd.as_fd(), Whose::Project).map_err(failed)? {
        return Ok(volume(path, tree, mount).unwrap_or_else(|| switched_off(mount)));
    }
    let project = kernel::get_project(fd.as_fd()).map_err(failed)?;
    let mut seen = QuotaSeen::unlimited("", "");
    seen.means = Ok(Means::Project { id: project.id });
    seen.project = Some(project);
    if project.id != 0 {
        let counted = kernel::get_quota(fd.as_fd(), Whose::Project, project.id).map_err(failed)?;
        seen.limit = (counted.limit_kib > 0).then_some(counted.limit_kib << 10);
        seen.used = Some(counted.used);
    }
    let mut next = PROJECTS.start;
    while let Some(id) = kernel::next_quota(fd.as_fd(), Whose::Project, next).map_err(failed)?.filter(|id| PROJECTS.contains(id))
    {
        seen.taken.insert(id);
        next = id + 1;
    }
    // `statfs` of a root with a project tells of that; the device tells how much there is at most.
    if tree.is_mount && project.id != 0 {
        seen.size = device_size(mount).unwrap_or(0);
    }
    Ok(seen)
}

fn switched_off(mount: &Mount) -> QuotaSeen {
    let at = mount.mount_point.display();
    let why = format!("{at} is mounted without project quota");
    let fstab = format!("add prjquota to the options of {at} in /etc/fstab");
    let root = mount.mount_point == Path::new("/");
    let remedy = match (mount.fstype.as_str(), root) {
        ("xfs", false) => format!("{fstab}, then umount {at} and mount {at} (XFS takes the option only when it is mounted)"),
        ("xfs", true) => "add rootflags=prjquota to the kernel's command line and reboot".to_owned(),
        (_, false) => {
            format!("{fstab}, then: umount {at}; tune2fs -O project,quota -Q prjquota {}; mount {at}", mount.source)
        }
        (_, true) => format!(
            "from a rescue system: tune2fs -O project,quota -Q prjquota {}; {fstab}; or put the share on a file system of its own",
            mount.source
        ),
    };
    QuotaSeen::unlimited(why, remedy)
}

/// User quota is of a whole file system: it limits the share and nothing else only where both are the same.
fn users(fd: &OwnedFd, path: &Path, tree: &TreeSeen, mount: &Mount) -> Result<std::result::Result<UserMeans, Unlimited>> {
    let (shown, at) = (path.display(), mount.mount_point.display());
    if !tree.is_mount || mount.root != Path::new("/") {
        return Ok(Err(Unlimited {
            why: format!("{} limits users on the whole of {at}, of which {shown} is a part only", mount.fstype),
            remedy: "give the share a file system of its own".into(),
        }));
    }
    if !kernel::enforced(fd.as_fd(), Whose::User).map_err(|e| os("ask for the quota of", path, e))? {
        return Ok(Err(Unlimited {
            why: format!("{at} is mounted without user quota"),
            remedy: format!(
                "add usrquota to the options of {at} in /etc/fstab and mount it anew (ext4 needs the feature first: tune2fs -O quota -Q usrquota {})",
                mount.source
            ),
        }));
    }
    Ok(Ok(UserMeans::FileSystem))
}

/// A file system that is the share's alone and has a block device: RBD, LVM, a disk.
fn volume(path: &Path, tree: &TreeSeen, mount: &Mount) -> Option<QuotaSeen> {
    let size = device_size(mount).filter(|_| tree.is_mount && mount.root == Path::new("/"))?;
    let fs = RealHost.space(path).ok()?;
    let mut seen = QuotaSeen::unlimited("", "");
    seen.means = Ok(Means::Volume);
    seen.limit = Some(fs.total);
    seen.used = Some(fs.used);
    seen.size = size;
    if matches!(mount.fstype.as_str(), "ext4" | "xfs") {
        seen.notes.extend(switched_off(mount).means.err().map(|u| u.to_string()));
    }
    Some(seen)
}

/// Size of the block device of a mount in bytes.
fn device_size(mount: &Mount) -> Option<u64> {
    let file = format!("/sys/dev/block/{}:{}/size", mount.major, mount.minor);
    let sectors: u64 = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
    Some(sectors * 512)
}

// ---- btrfs -------------------------------------------------------------------------------------------------------------

fn qgroup(fd: &OwnedFd, path: &Path, tree: &TreeSeen, mount: &Mount) -> Result<QuotaSeen> {
    let failed = |e: io::Error| os("ask for the quota of", path, e);
    let (shown, at) = (path.display(), mount.mount_point.display());
    if tree.ino != SUBVOLUME_ROOT {
        return Ok(QuotaSeen::unlimited(
            format!("{shown} is a directory of btrfs and no subvolume, and only subvolumes can be limited"),
            format!(
                "make it one: mv {shown} {shown}.old && btrfs subvolume create {shown} && cp -a --reflink=always {shown}.old/. {shown}/"
            ),
        ));
    }
    let filesystem = kernel::btrfs_uuid(fd.as_fd()).map_err(failed)?;
    let subvolume = kernel::btrfs_subvolume(fd.as_fd()).map_err(failed)?;
    let group = Group { filesystem: &filesystem, subvolume };
    if !group.directory().is_dir() {
        return Ok(QuotaSeen::unlimited(
            format!("quota is not enabled on {at}"),
            format!(
                "btrfs quota enable {at} (it counts for the whole file system, which costs time where there are many snapshots)"
            ),
        ));
    }
    // Before Linux 6.7 there is no such file, and only one kind.
    if group.word("mode").is_some_and(|m| m == "squota") {
        return Ok(QuotaSeen::unlimited(
            format!(
                "{at} counts by simple quota (squota): a deleted file counts for as long as a snapshot holds it, so a full share stays full"
            ),
            format!("btrfs quota disable {at} && btrfs quota enable {at}"),
        ));
    }
    if group.number("referenced").is_none() {
        return Ok(QuotaSeen::unlimited(
            format!("subvolume {subvolume} ({shown}) has no qgroup"),
            format!("btrfs qgroup create 0/{subvolume} {at} && btrfs quota rescan -w {at}"),
        ));
    }
    let mut seen = QuotaSeen::unlimited("", "");
    let figures = group.figures().ok_or_else(|| gone(path, &group))?;
    seen.limit = (figures.limit > 0).then_some(figures.limit);
    seen.used = Some(figures.used);
    if group.word("inconsistent").is_some_and(|w| w == "1") {
        seen.notes.push(format!("btrfs says that its counts are not right: btrfs quota rescan -w {at}"));
    }
    if kernel::btrfs_has_children(fd.as_fd()).map_err(failed)? {
        seen.notes.push(format!(
            "there are subvolumes inside {shown}; what is in them does not count, and has qgroups of its own (a snapshot has the limit of what it was made from)"
        ));
    }
    seen.means = Ok(Means::Qgroup { filesystem, subvolume });
    Ok(seen)
}

/// A qgroup in sysfs.
struct Group<'a> {
    filesystem: &'a str,
    subvolume: u64,
}

impl Group<'_> {
    fn directory(&self) -> std::path::PathBuf {
        Path::new("/sys/fs/btrfs").join(self.filesystem).join("qgroups")
    }

    /// Of all groups.
    fn word(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.directory().join(name)).ok().map(|t| t.trim().to_owned())
    }

    /// Of this one.
    fn number(&self, name: &str) -> Option<u64> {
        self.word(&format!("0_{}/{name}", self.subvolume))?.parse().ok()
    }

    fn figures(&self) -> Option<Figures> {
        let limited = self.number("limit_flags")? & 1 != 0;
        let limit = if limited { self.number("max_referenced")? } else { 0 };
        Some(Figures { limit, used: self.number("referenced")?, files: None })
    }
}

fn gone(path: &Path, group: &Group<'_>) -> Error {
    Error::new(Kind::Drift, format!("the qgroup 0/{} of {} is gone", group.subvolume, path.display()))
        .remedy("was quota disabled? btrfs quota enable, then pve-smbgateway repair")
}

// ---- ZFS and CephFS ----------------------------------------------------------------------------------------------------

fn dataset(path: &Path, tree: &TreeSeen, mount: &Mount) -> QuotaSeen {
    if !tree.is_mount || mount.root != Path::new("/") {
        return QuotaSeen::unlimited(
            format!("{} is a directory of the dataset {}, and only datasets can be limited", path.display(), mount.source),
            format!("make it one: zfs create -o mountpoint={} {}/NAME, with its content moved in", path.display(), mount.source),
        );
    }
    QuotaSeen {
        means: Ok(Means::Dataset { name: mount.source.clone() }),
        users: Ok(UserMeans::Dataset { name: mount.source.clone() }),
        ..QuotaSeen::unlimited("", "")
    }
}

fn ceph(fd: &OwnedFd, path: &Path) -> Result<QuotaSeen> {
    let figures = ceph_figures(fd, path)?;
    Ok(QuotaSeen {
        means: Ok(Means::Ceph),
        limit: (figures.limit > 0).then_some(figures.limit),
        used: Some(figures.used),
        ..QuotaSeen::unlimited("", "")
    })
}

fn ceph_figures(fd: &OwnedFd, path: &Path) -> Result<Figures> {
    let number = |name: &CStr| -> Result<u64> {
        let value = kernel::get_xattr(fd.as_fd(), name).map_err(|e| os("ask for the quota of", path, e))?;
        let text = String::from_utf8(value.unwrap_or_default()).unwrap_or_default();
        Ok(text.trim_end_matches('\0').trim().parse().unwrap_or(0))
    };
    Ok(Figures { limit: number(MAX_BYTES)?, used: number(RECURSIVE_BYTES)?, files: Some(number(RECURSIVE_ENTRIES)?) })
}

// ---- all of them -------------------------------------------------------------------------------------------------------

/// What a tree uses.
pub fn figures(path: &Path, means: &Means) -> Result<Figures> {
    match means {
        Means::Project { id } => {
            let fd = open(path)?;
            let counted = kernel::get_quota(fd.as_fd(), Whose::Project, *id).map_err(|e| os("ask for the quota of", path, e))?;
            Ok(Figures { limit: counted.limit_kib << 10, used: counted.used, files: Some(counted.inodes) })
        }
        Means::Qgroup { filesystem, subvolume } => {
            let group = Group { filesystem, subvolume: *subvolume };
            let asked = open(path).ok().and_then(|fd| {
                let used = kernel::btrfs_referenced(fd.as_fd(), *subvolume).ok()??;
                Some(Figures { limit: kernel::btrfs_limit_of(fd.as_fd(), *subvolume).ok()?, used, files: None })
            });
            // Who may not ask reads what sysfs says.
            asked.or_else(|| group.figures()).ok_or_else(|| gone(path, &group))
        }
        Means::Ceph => ceph_figures(&open(path)?, path),
        Means::Dataset { .. } | Means::Volume => {
            let space = RealHost.space(path)?;
            let limit = if *means == Means::Volume { space.total } else { 0 };
            Ok(Figures { limit, used: space.used, files: None })
        }
    }
}

/// Only what is used: on btrfs one system call and the opening of the tree, where `figures` asks twice.
pub fn used(path: &Path, means: &Means) -> Result<u64> {
    if let Means::Qgroup { subvolume, .. } = means {
        let asked = kernel::btrfs_referenced(open(path)?.as_fd(), *subvolume);
        if let Ok(Some(used)) = asked {
            return Ok(used);
        }
    }
    figures(path, means).map(|f| f.used)
}

/// What a user owns on the file system of a tree.
pub fn user_figures(path: &Path, uid: u32) -> Result<Figures> {
    let counted =
        kernel::get_quota(open(path)?.as_fd(), Whose::User, uid).map_err(|e| os("ask for a user's quota on", path, e))?;
    Ok(Figures { limit: counted.limit_kib << 10, used: counted.used, files: Some(counted.inodes) })
}

/// Limits that.
pub fn set_user(path: &Path, only: (u64, u64), uid: u32, limit: Option<u64>) -> Result<()> {
    let failed = |e: io::Error| os("set a user's quota on", path, e);
    let fd = open(path)?;
    must_be(path, &fd, only.0, only.1)?;
    kernel::set_quota(fd.as_fd(), Whose::User, uid, limit.map_or(0, |b| b.div_ceil(1024))).map_err(failed)
}

/// Bytes in all and bytes that are free, of a directory in a share, as clients shall see them: what limits the tree counts, else the file system.
/// It needs no privilege and looks up from the directory to where the limit is, as far as the file system goes.
pub fn disk_free(path: &Path) -> io::Result<(u64, u64)> {
    let fd = retry(|| nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()))?;
    let fs = sys::fstatfs(fd.as_fd())?;
    let (total, free) = (fs.total, fs.avail);
    Ok(match disk_figures(fd) {
        Some(f) if f.limit > 0 => (f.limit, f.limit.saturating_sub(f.used).min(free)),
        _ => (total, free),
    })
}

/// What limits an open directory, on btrfs and CephFS.
fn disk_figures(fd: OwnedFd) -> Option<Figures> {
    if let Ok(filesystem) = kernel::btrfs_uuid(fd.as_fd()) {
        let subvolume = kernel::btrfs_subvolume(fd.as_fd()).ok()?;
        return Group { filesystem: &filesystem, subvolume }.figures();
    }
    let dev = fstat(&fd).ok()?.st_dev;
    let mut here = fd;
    loop {
        if fstat(&here).ok()?.st_dev != dev {
            return None;
        }
        let figures = ceph_figures(&here, Path::new(".")).ok()?;
        if figures.limit > 0 {
            return Some(figures);
        }
        let above = openat(&here, "..", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
        if fstat(&above).ok()?.st_ino == fstat(&here).ok()?.st_ino {
            return None;
        }
        here = above;
    }
}

/// Changing a limit writes to a subvolume, that of the descriptor: with the full one itself it would fail with EDQUOT. So it is done through
/// another one of the same file system, wherever one can be seen.
fn limit_subvolume(fd: &OwnedFd, filesystem: &str, subvolume: u64, limit: Option<u64>) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let other = |fd: &OwnedFd| {
        kernel::btrfs_uuid(fd.as_fd()).is_ok_and(|u| u == filesystem)
            && kernel::btrfs_subvolume(fd.as_fd()).is_ok_and(|s| s != subvolume)
    };
    let above = openat(fd, "..", flags, Mode::empty()).ok().filter(other);
    let mounted = || {
        let all = mounts().unwrap_or_default();
        all.into_iter()
            .filter(|m| m.fstype == "btrfs")
            .find_map(|m| nix::fcntl::open(&m.mount_point, flags, Mode::empty()).ok().filter(other))
    };
    let through = above.or_else(mounted);
    kernel::btrfs_limit(through.as_ref().unwrap_or(fd).as_fd(), subvolume, limit)
}

/// Sets or lifts a limit.
pub fn set(path: &Path, only: (u64, u64), means: &Means, limit: Option<u64>) -> Result<()> {
    let failed = |e: io::Error| os("set the quota of", path, e);
    let fd = open(path)?;
    must_be(path, &fd, only.0, only.1)?;
    match means {
        Means::Project { id } if *id != 0 => {
            // A part of a KiB counts as one: a limit is never lower than it was asked for.
            kernel::set_quota(fd.as_fd(), Whose::Project, *id, limit.map_or(0, |b| b.div_ceil(1024))).map_err(failed)
        }
        Means::Qgroup { filesystem, subvolume } => {
            let now = (kernel::btrfs_uuid(fd.as_fd()).map_err(failed)?, kernel::btrfs_subvolume(fd.as_fd()).map_err(failed)?);
            if now != (filesystem.clone(), *subvolume) {
                return Err(another(path));
            }
            limit_subvolume(&fd, filesystem, *subvolume, limit).map_err(|e| match e.raw_os_error() {
                Some(libc::EDQUOT) => failed(e).remedy(format!(
                    "the subvolume is full, and nothing else of its file system is mounted through which its limit could be changed: remove some data, or mount the top (mount -o subvolid=5 …), and try again; {} is the subvolume",
                    path.display()
                )),
                _ => failed(e),
            })
        }
        Means::Ceph => kernel::set_xattr(fd.as_fd(), MAX_BYTES, limit.unwrap_or(0).to_string().as_bytes()).map_err(failed),
        Means::Project { .. } | Means::Dataset { .. } | Means::Volume => {
            Err(Error::new(Kind::Internal, format!("{means} is not set by a system call")))
        }
    }
}
