// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's words for limits: `quotactl_fd(2)`, the ioctls for project ids and btrfs, extended attributes. It knows numbers and structs,
//! with the header that each is from; it must not know what is limited. Units are the kernel's own: the callers convert.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;
use crate::quota::Project;

// ---- project ids (linux/fs.h) ------------------------------------------------------------------------------------------

const FS_XFLAG_PROJINHERIT: u32 = 0x200;

/// `struct fsxattr`, 28 bytes.
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct Fsxattr {
    xflags: u32,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

/// `struct file_attr`, 24 bytes (Linux 6.17).
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct FileAttr {
    xflags: u64,
    extsize: u32,
    nextents: u32,
    projid: u32,
    cowextsize: u32,
}

const fn ioc(direction: u64, kind: u8, number: u8, size: usize) -> u64 {
    direction << 30 | (size as u64) << 16 | (kind as u64) << 8 | number as u64
}
const FS_IOC_FSGETXATTR: u64 = ioc(2, b'X', 31, size_of::<Fsxattr>());
const FS_IOC_FSSETXATTR: u64 = ioc(1, b'X', 32, size_of::<Fsxattr>());
/// The same numbers on all architectures (asm-generic/unistd.h).
const SYS_FILE_GETATTR: libc::c_long = 468;
const SYS_FILE_SETATTR: libc::c_long = 469;

fn get_fsxattr(fd: BorrowedFd<'_>) -> io::Result<Fsxattr> {
    let mut x = Fsxattr::default();
    // SAFETY: the request carries the size of the struct that the pointer leads to; the kernel writes no more.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_FSGETXATTR as _, &mut x) })?;
    Ok(x)
}

fn project(xflags: u64, projid: u32) -> Project {
    Project { id: projid, inherit: xflags & u64::from(FS_XFLAG_PROJINHERIT) != 0 }
}

/// The project of an open file or directory. `ENOTTY` or `EOPNOTSUPP` where the file system has none.
pub fn get_project(fd: BorrowedFd<'_>) -> io::Result<Project> {
    get_fsxattr(fd).map(|x| project(x.xflags.into(), x.projid))
}

/// Gives an open file or directory a project; its other attributes stay.
pub fn set_project(fd: BorrowedFd<'_>, to: Project) -> io::Result<()> {
    let mut x = get_fsxattr(fd)?;
    x.projid = to.id;
    x.xflags = if to.inherit { x.xflags | FS_XFLAG_PROJINHERIT } else { x.xflags & !FS_XFLAG_PROJINHERIT };
    // SAFETY: as above; the kernel only reads.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_FSSETXATTR as _, &x) })?;
    Ok(())
}

/// Project of a name that cannot be opened: a symlink, socket, FIFO or device node. `ENOSYS` before Linux 6.17.
pub fn get_project_at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Project> {
    get_file_attr(dir, name).map(|a| project(a.xflags, a.projid))
}

fn get_file_attr(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<FileAttr> {
    let mut a = FileAttr::default();
    // SAFETY: name and struct are live; the kernel writes at most the size that is passed.
    let r = unsafe {
        libc::syscall(SYS_FILE_GETATTR, dir.as_raw_fd(), name.as_ptr(), &mut a, size_of::<FileAttr>(), libc::AT_SYMLINK_NOFOLLOW)
    };
    if r == -1 { Err(io::Error::last_os_error()) } else { Ok(a) }
}

/// Gives such a name a project; nothing on it can be inherited.
pub fn set_project_at(dir: BorrowedFd<'_>, name: &CStr, id: u32) -> io::Result<()> {
    let mut a = get_file_attr(dir, name)?;
    a.projid = id;
    // SAFETY: as above; the kernel only reads.
    let r = unsafe {
        libc::syscall(SYS_FILE_SETATTR, dir.as_raw_fd(), name.as_ptr(), &a, size_of::<FileAttr>(), libc::AT_SYMLINK_NOFOLLOW)
    };
    if r == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

// ---- quotactl_fd (linux/quota.h, linux/dqblk_xfs.h) --------------------------------------------------------------------

/// Whose quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A user's.
    User = 0,
    /// A group's.
    Group = 1,
    /// A project's.
    Project = 2,
}

const Q_GETQUOTA: u32 = 0x80_0007;
const Q_SETQUOTA: u32 = 0x80_0008;
const Q_GETNEXTQUOTA: u32 = 0x80_0009;
const Q_XGETQSTATV: u32 = (b'X' as u32) << 8 | 8;
const QIF_BLIMITS: u32 = 1;

/// `struct if_dqblk`: limits in KiB, usage in bytes.
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct IfDqblk {
    bhardlimit: u64,
    bsoftlimit: u64,
    curspace: u64,
    ihardlimit: u64,
    isoftlimit: u64,
    curinodes: u64,
    btime: u64,
    itime: u64,
    valid: u32,
    /// `dqb_id` of `struct if_nextdqblk`; padding of the other.
    id: u32,
}

/// `struct fs_quota_statv`, version 1; only the head is looked at.
#[repr(C)]
#[derive(Clone, Copy)]
struct Statv {
    version: i8,
    pad1: u8,
    flags: u16,
    rest: [u64; 24],
}

/// What is counted and limited for one id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Hard limit in KiB, 0 for none.
    pub limit_kib: u64,
    /// Bytes used.
    pub used: u64,
    /// Inodes used.
    pub inodes: u64,
}

fn quotactl(fd: BorrowedFd<'_>, command: u32, kind: Kind, id: u32, addr: *mut libc::c_void) -> io::Result<()> {
    // QCMD of linux/quota.h.
    let command = command << 8 | kind as u32;
    // SAFETY: `addr` leads to a live struct of the kind that the command reads or writes: all callers are below.
    let r = unsafe { libc::syscall(libc::SYS_quotactl_fd, fd.as_raw_fd(), command, id, addr) };
    if r == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether limits of a kind are enforced on the file system of a descriptor. A file system without quota says `false`; `ENOSYS` before
/// Linux 5.14.
pub fn enforced(fd: BorrowedFd<'_>, kind: Kind) -> io::Result<bool> {
    let mut s = Statv { version: 1, pad1: 0, flags: 0, rest: [0; 24] };
    match quotactl(fd, Q_XGETQSTATV, kind, 0, (&raw mut s).cast()) {
        // FS_QUOTA_UDQ_ENFD, _GDQ_ENFD, _PDQ_ENFD.
        Ok(()) => Ok(s.flags & (2 << (2 * kind as u16)) != 0),
        // Every file system without quota operations answers ENOSYS as well, so a kernel without the call is told apart by the command.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::ESRCH | libc::EOPNOTSUPP)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// What is counted for an id; nothing yet is zeros.
pub fn get_quota(fd: BorrowedFd<'_>, kind: Kind, id: u32) -> io::Result<Counted> {
    let mut d = IfDqblk::default();
    match quotactl(fd, Q_GETQUOTA, kind, id, (&raw mut d).cast()) {
        Ok(()) => Ok(Counted { limit_kib: d.bhardlimit, used: d.curspace, inodes: d.curinodes }),
        // XFS: nobody ever had the number.
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(Counted::default()),
        Err(e) => Err(e),
    }
}

/// Sets the hard limit of an id in KiB; 0 takes it away. No soft limit is left: it would turn into a hard one after a while.
pub fn set_quota(fd: BorrowedFd<'_>, kind: Kind, id: u32, limit_kib: u64) -> io::Result<()> {
    let mut d = IfDqblk { bhardlimit: limit_kib, valid: QIF_BLIMITS, ..IfDqblk::default() };
    quotactl(fd, Q_SETQUOTA, kind, id, (&raw mut d).cast())
}

/// The first id from `from` on that the file system knows.
pub fn next_quota(fd: BorrowedFd<'_>, kind: Kind, from: u32) -> io::Result<Option<u32>> {
    let mut d = IfDqblk::default();
    match quotactl(fd, Q_GETNEXTQUOTA, kind, from, (&raw mut d).cast()) {
        Ok(()) => Ok(Some(d.id)),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
        Err(e) => Err(e),
    }
}

// ---- btrfs (linux/btrfs.h) ---------------------------------------------------------------------------------------------

const BTRFS: u8 = 0x94;
/// Inode number of a subvolume's root (`BTRFS_FIRST_FREE_OBJECTID`).
pub const SUBVOLUME_ROOT: u64 = 256;
const BTRFS_QGROUP_LIMIT_MAX_RFER: u64 = 1;

/// `struct btrfs_ioctl_fs_info_args`, 1024 bytes.
#[repr(C)]
struct FsInfo {
    max_id: u64,
    num_devices: u64,
    fsid: [u8; 16],
    rest: [u8; 992],
}

/// `struct btrfs_ioctl_ino_lookup_args`, 4096 bytes.
#[repr(C)]
struct InoLookup {
    treeid: u64,
    objectid: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_qgroup_limit_args`, 48 bytes.
#[repr(C)]
struct QgroupLimit {
    qgroupid: u64,
    flags: u64,
    max_rfer: u64,
    max_excl: u64,
    rsv_rfer: u64,
    rsv_excl: u64,
}

/// `struct btrfs_ioctl_get_subvol_rootref_args`, 4096 bytes.
#[repr(C)]
struct RootRefs {
    min_treeid: u64,
    refs: [[u64; 2]; 255],
    num_items: u8,
    align: [u8; 7],
}

/// UUID of a btrfs file system as text, as `/sys/fs/btrfs` names its directory.
pub fn btrfs_uuid(fd: BorrowedFd<'_>) -> io::Result<String> {
    let mut info = MaybeUninit::<FsInfo>::zeroed();
    let request = ioc(2, BTRFS, 31, size_of::<FsInfo>());
    // SAFETY: the request carries the struct's size; zeroed bytes are a valid struct whatever the kernel writes of it.
    let id = unsafe {
        check(libc::ioctl(fd.as_raw_fd(), request as _, info.as_mut_ptr()))?;
        info.assume_init_ref().fsid
    };
    let hex: String = id.iter().map(|b| format!("{b:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

/// Id of the subvolume that a directory lies in; needs no privilege.
pub fn btrfs_subvolume(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut look = MaybeUninit::<InoLookup>::zeroed();
    let request = ioc(3, BTRFS, 18, size_of::<InoLookup>());
    // SAFETY: as above. Tree 0 means the tree of the descriptor; the id of its root directory is asked, which has no name to be looked up.
    unsafe {
        (*look.as_mut_ptr()).objectid = SUBVOLUME_ROOT;
        check(libc::ioctl(fd.as_raw_fd(), request as _, look.as_mut_ptr()))?;
        Ok(look.assume_init_ref().treeid)
    }
}

/// Sets what a subvolume may refer to in bytes; `None` takes the limit away. Other limits of its qgroup stay.
pub fn btrfs_limit(fd: BorrowedFd<'_>, subvolume: u64, limit: Option<u64>) -> io::Result<()> {
    let args = QgroupLimit {
        qgroupid: subvolume,
        flags: BTRFS_QGROUP_LIMIT_MAX_RFER,
        // All ones: no limit (CLEAR_VALUE of fs/btrfs/qgroup.c).
        max_rfer: limit.unwrap_or(u64::MAX),
        max_excl: 0,
        rsv_rfer: 0,
        rsv_excl: 0,
    };
    let request = ioc(2, BTRFS, 43, size_of::<QgroupLimit>());
    // SAFETY: as above; the kernel only reads.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, &args) })?;
    Ok(())
}

/// `struct btrfs_ioctl_search_args`, 4096 bytes: key, answer.
#[repr(C)]
struct Search {
    tree_id: u64,
    min_objectid: u64,
    max_objectid: u64,
    min_offset: u64,
    max_offset: u64,
    min_transid: u64,
    max_transid: u64,
    min_type: u32,
    max_type: u32,
    nr_items: u32,
    unused: u32,
    unused1: [u64; 4],
    buf: [u8; 3992],
}

/// One item of the quota tree: two numbers after its first eight bytes are all that is wanted of it. `None`: there is no such item.
fn quota_item(fd: BorrowedFd<'_>, kind: u32, subvolume: u64) -> io::Result<Option<[u64; 2]>> {
    const QUOTA_TREE: u64 = 8;
    /// `struct btrfs_ioctl_search_header`: transid, objectid, offset (64 bits), type, length (32 bits).
    const HEADER: usize = 32;
    let mut search = MaybeUninit::<Search>::zeroed();
    let request = ioc(3, BTRFS, 17, size_of::<Search>());
    // SAFETY: zeroed bytes are a valid struct, and the request carries its size.
    let (items, head) = unsafe {
        let s = &mut *search.as_mut_ptr();
        (s.tree_id, s.min_type, s.max_type, s.nr_items) = (QUOTA_TREE, kind, kind, 1);
        (s.min_offset, s.max_offset, s.max_transid) = (subvolume, subvolume, u64::MAX);
        check(libc::ioctl(fd.as_raw_fd(), request as _, search.as_mut_ptr()))?;
        let s = search.assume_init_ref();
        (s.nr_items, &s.buf[..HEADER + 24])
    };
    // On the disk, and so in the item, numbers are little endian.
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[HEADER + at + i]));
    Ok((items > 0).then(|| [number(0), number(8)]))
}

/// What a subvolume refers to, in bytes, as of the last commit (`BTRFS_QGROUP_INFO_KEY`: generation, rfer). Needs privilege; costs a third of
/// a look into sysfs.
pub fn btrfs_referenced(fd: BorrowedFd<'_>, subvolume: u64) -> io::Result<Option<u64>> {
    Ok(quota_item(fd, 242, subvolume)?.map(|[_, rfer]| rfer))
}

/// The most that it may refer to; 0 if there is no limit (`BTRFS_QGROUP_LIMIT_KEY`: flags, max_rfer).
pub fn btrfs_limit_of(fd: BorrowedFd<'_>, subvolume: u64) -> io::Result<u64> {
    let item = quota_item(fd, 244, subvolume)?;
    Ok(item.map_or(0, |[flags, max_rfer]| if flags & BTRFS_QGROUP_LIMIT_MAX_RFER != 0 { max_rfer } else { 0 }))
}

/// Whether subvolumes lie inside the one of a directory.
pub fn btrfs_has_children(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut refs = MaybeUninit::<RootRefs>::zeroed();
    let request = ioc(3, BTRFS, 61, size_of::<RootRefs>());
    // SAFETY: as above.
    unsafe {
        match check(libc::ioctl(fd.as_raw_fd(), request as _, refs.as_mut_ptr())) {
            Ok(_) => Ok(refs.assume_init_ref().num_items > 0),
            // More than fit.
            Err(e) if e.raw_os_error() == Some(libc::EOVERFLOW) => Ok(true),
            Err(e) => Err(e),
        }
    }
}

// ---- extended attributes (xattr(7)) ------------------------------------------------------------------------------------

/// A short attribute of an open directory; `None` if it has none of that name.
pub fn get_xattr(fd: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0_u8; 256];
    // SAFETY: name and buffer are live, and the kernel writes no more than the length that is passed.
    let n = unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match usize::try_from(n) {
        Ok(n) => {
            value.truncate(n);
            Ok(Some(value))
        }
        Err(_) => match io::Error::last_os_error() {
            e if matches!(e.raw_os_error(), Some(libc::ENODATA)) => Ok(None),
            e => Err(e),
        },
    }
}

/// Sets an attribute of an open directory.
pub fn set_xattr(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: name and value are live.
    check(unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_are_as_large_as_the_kernel_has_them() {
        let sizes = [
            (size_of::<Fsxattr>(), 28),
            (size_of::<FileAttr>(), 24),
            (size_of::<IfDqblk>(), 72),
            (size_of::<FsInfo>(), 1024),
            (size_of::<InoLookup>(), 4096),
            (size_of::<QgroupLimit>(), 48),
            (size_of::<RootRefs>(), 4096),
            (size_of::<Search>(), 4096),
        ];
        for (ours, theirs) in sizes {
            assert_eq!(ours, theirs);
        }
        // What strace prints for them.
        assert_eq!((FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR), (0x801c_581f, 0x401c_5820));
    }
}
