// SPDX-License-Identifier: MIT OR Apache-2.0
//! Going through a whole tree and changing each entry: owners ([`Deed::Shift`]) or projects ([`Deed::Tag`]). It knows how not to leave the
//! tree: no symlink is followed, no other file system entered, every name is looked up below a descriptor of its directory. A walk that
//! was cut short is begun anew: entries that are as they shall be already cost a look and no more.
//!
//! Whoever may write in the tree meets the walk with whatever he likes: any depth, moved directories, leases, names that change what they
//! are. None of that may make it fail for good, since giving a tree back is part of taking an operation back.

use std::collections::VecDeque;
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::dir::{Dir, OwningIter};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{Gid, Uid, fchownat};

use super::super::sys::{self, retry};
use super::super::{SHIFT, Walk};
use super::{kind_of, lasting_fsid, open_tree, os};
use crate::error::{Error, Kind, Result};
use crate::quota::{Project, Tag};

/// What is done to each entry.
#[derive(Debug, Clone, Copy)]
pub enum Deed {
    /// Numbers of owners and groups that are 100000 higher, or lower.
    Shift {
        /// Higher.
        up: bool,
    },
    /// Another project.
    Tag(Tag),
}

/// One directory that is being read, by who keeps it open.
pub struct Level {
    /// It.
    pub fd: OwnedFd,
    /// What is left of it.
    pub entries: OwningIter,
}

/// Begins with a directory.
pub fn level(fd: OwnedFd) -> io::Result<Level> {
    let entries = Dir::from_fd(fd.try_clone()?)?.into_iter();
    Ok(Level { fd, entries })
}

const DOWN: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK);

/// Directories that are kept open on the way down; the others are opened again on the way up. Users can make trees deeper than a process may
/// have descriptors.
const OPEN: usize = 64;
/// How often a walk begins anew because a directory that it is in was moved.
const RESTARTS: u32 = 100;
/// How long an entry may be held by somebody's lease; the kernel breaks it after `/proc/sys/fs/lease-break-time` (45 s).
const LEASE: Duration = Duration::from_secs(90);

/// One directory on the way down.
struct Here {
    /// It; `None`: closed to save descriptors.
    fd: Option<OwnedFd>,
    /// Which it is.
    id: (u64, u64),
    /// What is left of it.
    names: VecDeque<CString>,
    /// Its own name.
    name: CString,
    /// How many names in a row were held by a lease.
    held: usize,
}

/// Reads a whole directory, so that it costs one descriptor and no more.
fn here(fd: OwnedFd, name: CString) -> io::Result<Here> {
    let st = fstat(&fd)?;
    let mut names = VecDeque::new();
    for entry in Dir::from_fd(fd.try_clone()?)?.into_iter() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push_back(name);
        }
    }
    Ok(Here { fd: Some(fd), id: (st.st_dev, st.st_ino), names, name, held: 0 })
}

/// A walk that goes on.
pub struct Walking {
    path: PathBuf,
    root: OwnedFd,
    levels: Vec<Here>,
    dev: u64,
    deed: Deed,
    looked: u64,
    changed: u64,
    restarts: u32,
    /// Since when something is held by a lease.
    held_since: Option<Instant>,
}

/// What became of an entry.
enum Met {
    /// It is as it shall be, or not there any more.
    Done,
    /// A directory, to be gone into.
    Into(OwnedFd),
    /// Held by a lease: later.
    Held,
}

/// Begins a walk; nothing is changed yet, but for the root where projects are changed. What is made in the tree meanwhile has to inherit the
/// number that it gets, and must not inherit one that is taken back.
pub fn begin(path: &Path, only: Option<(u64, u64)>, deed: Deed) -> Result<Walking> {
    let failed = |e: io::Error| os("go through", path, e);
    let root = open_tree(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    let st = fstat(&root).map_err(|e| failed(e.into()))?;
    if let Some((fsid, ino)) = only {
        must_be(path, &root, fsid, ino)?;
    }
    let levels = vec![here(root.try_clone().map_err(failed)?, CString::default()).map_err(failed)?];
    let mut walk = Walking {
        path: path.to_owned(),
        root,
        levels,
        dev: st.st_dev,
        deed,
        looked: 0,
        changed: 0,
        restarts: 0,
        held_since: None,
    };
    if let Deed::Tag(tag) = deed {
        let now = sys::quota::get_project(walk.root.as_fd()).map_err(failed)?;
        match tag.back {
            // For as long as anything in the tree carries the number, the root does: forward it comes first, back it goes last.
            false => walk.tag_root(tag.to)?,
            true if now.id == tag.from.id => walk.tag_root(Project { id: now.id, inherit: false })?,
            true => {}
        }
    }
    Ok(walk)
}

/// Refuses a tree that is not the one that was planned for. Device numbers do not count: many file systems get another one with each mount.
pub fn must_be(path: &Path, fd: &OwnedFd, fsid: u64, ino: u64) -> Result<()> {
    let failed = |e: io::Error| os("look at", path, e);
    let st = fstat(fd).map_err(|e| failed(e.into()))?;
    let now = lasting_fsid(&sys::fstatfs(fd.as_fd()).map_err(failed)?);
    if st.st_ino != ino || (fsid != 0 && now != 0 && now != fsid) {
        return Err(another(path));
    }
    Ok(())
}

/// The tree is not the one that was planned for.
pub fn another(path: &Path) -> Error {
    Error::new(Kind::Drift, format!("{} is another directory than it was a moment ago", path.display()))
        .remedy("find out who replaced or mounted it, then try again")
}

impl Walking {
    /// The number to be; one that is not of the range, or there already, stays.
    fn number(id: u32, up: bool) -> u32 {
        match up {
            true if id < 65_536 => id + SHIFT,
            false if (SHIFT..SHIFT + 65_536).contains(&id) => id - SHIFT,
            _ => id,
        }
    }

    fn chown(&mut self, dir: &OwnedFd, name: &CStr, st: &FileStat, up: bool) -> Result<()> {
        let (uid, gid) = (Self::number(st.st_uid, up), Self::number(st.st_gid, up));
        if (uid, gid) == (st.st_uid, st.st_gid) {
            return Ok(());
        }
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_EMPTY_PATH;
        match retry(|| fchownat(dir, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), flags)) {
            Ok(()) => {
                self.changed += 1;
                Ok(())
            }
            Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(os("change the owner of", &self.path_of(name), e)),
        }
    }

    /// Where an entry of the directory that is being read lies.
    fn path_of(&self, name: &CStr) -> PathBuf {
        let parts = self.levels.iter().skip(1).map(|l| l.name.as_c_str()).chain([name]);
        parts.filter(|n| !n.is_empty()).fold(self.path.clone(), |at, n| at.join(OsStr::from_bytes(n.to_bytes())))
    }

    /// Whether an entry has to be given another project.
    fn is_to_tag(&self, name: &CStr, now: u32, tag: &Tag) -> Result<bool> {
        if now == tag.to.id || (tag.back && now != tag.from.id) {
            return Ok(false);
        }
        if now != tag.from.id {
            let at = self.path_of(name);
            let why = match now {
                0 => format!("{} is in no project, unlike the tree ({})", at.display(), tag.from.id),
                _ => format!("{} belongs to project {now}, which somebody else limits", at.display()),
            };
            return Err(Error::new(Kind::Conflict, why).remedy(format!(
                "give it the project of the tree first: chattr -R -p {} {}; or leave the quota out",
                tag.from.id,
                at.display()
            )));
        }
        Ok(true)
    }

    fn tag_root(&mut self, to: Project) -> Result<()> {
        let failed = |e: io::Error| os("give a project to", &self.path, e);
        if sys::quota::get_project(self.root.as_fd()).map_err(failed)? != to {
            sys::quota::set_project(self.root.as_fd(), to).map_err(failed)?;
            self.changed += 1;
        }
        Ok(())
    }

    /// What cannot be opened: a symlink, socket, FIFO, device node. Without the project of its directory it could not be renamed within the tree
    /// any more (EXDEV), so it gets it where the kernel can give it. It has no blocks to speak of, and is nobody's limit.
    fn tag_special(&mut self, dir: &OwnedFd, name: &CStr, tag: &Tag) -> Result<()> {
        let cannot =
            |e: &io::Error| matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::ENOTTY | libc::ENOENT));
        let set = sys::quota::get_project_at(dir.as_fd(), name).and_then(|now| {
            let due = now.id == tag.from.id && now.id != tag.to.id;
            if due { sys::quota::set_project_at(dir.as_fd(), name, tag.to.id).map(|()| true) } else { Ok(false) }
        });
        match set {
            Ok(changed) => self.changed += u64::from(changed),
            Err(e) if cannot(&e) => {}
            Err(e) => return Err(os("give a project to", &self.path_of(name), e)),
        }
        Ok(())
    }

    fn tag_open(&mut self, fd: &OwnedFd, name: &CStr, directory: bool, tag: &Tag) -> Result<()> {
        let now = match sys::quota::get_project(fd.as_fd()) {
            Ok(now) => now,
            Err(e) => return Err(os("ask for the project of", &self.path_of(name), e)),
        };
        let wanted = Project { id: tag.to.id, inherit: directory && tag.to.inherit };
        if self.is_to_tag(name, now.id, tag)? || (now.id == tag.to.id && now.inherit != wanted.inherit) {
            sys::quota::set_project(fd.as_fd(), wanted).map_err(|e| {
                let at = self.path_of(name);
                match e.raw_os_error() {
                    Some(libc::EPERM) => os("give a project to", &at, e)
                        .remedy(format!("if it is immutable (lsattr -d), allow changes: chattr -i {}", at.display())),
                    _ => os("give a project to", &at, e),
                }
            })?;
            self.changed += 1;
        }
        Ok(())
    }

    /// One entry, before what is in it.
    fn meet(&mut self, dir: &OwnedFd, name: &CStr) -> Result<Met> {
        let st = match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(st) if st.st_dev == self.dev => st,
            Ok(_) | Err(Errno::ENOENT) => return Ok(Met::Done),
            Err(e) => return Err(os("look at", &self.path_of(name), e)),
        };
        let kind = kind_of(&st);
        let directory = kind == SFlag::S_IFDIR;
        match self.deed {
            Deed::Shift { up } => self.chown(dir, name, &st, up)?,
            Deed::Tag(tag) if !directory && kind != SFlag::S_IFREG => self.tag_special(dir, name, &tag)?,
            Deed::Tag(_) => {}
        }
        let tag = if let Deed::Tag(tag) = self.deed { Some(tag) } else { None };
        if !directory && (tag.is_none() || kind != SFlag::S_IFREG) {
            return Ok(Met::Done);
        }
        let flags = if directory { DOWN } else { DOWN.difference(OFlag::O_DIRECTORY) };
        let fd = match retry(|| openat(dir, name, flags, Mode::empty())) {
            Ok(fd) => fd,
            Err(Errno::EAGAIN) => return Ok(Met::Held),
            // Gone, or replaced, between the two looks.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO) => return Ok(Met::Done),
            Err(e) => return Err(os("open", &self.path_of(name), e)),
        };
        // What was opened may be something else: a FIFO, or the root of what was mounted there just now.
        let now = fstat(&fd).map_err(|e| os("look at", &self.path_of(name), e))?;
        if (now.st_dev, kind_of(&now)) != (self.dev, kind) {
            return Ok(Met::Done);
        }
        if let Some(tag) = tag {
            self.tag_open(&fd, name, directory, &tag)?;
        }
        Ok(if directory { Met::Into(fd) } else { Met::Done })
    }

    /// Goes into a directory, and closes one further up if too many are open.
    fn down(&mut self, fd: OwnedFd, name: CString) -> Result<()> {
        let level = here(fd, name.clone()).map_err(|e| os("read", &self.path_of(&name), e))?;
        self.levels.push(level);
        // The root is kept.
        let above = self.levels.len().saturating_sub(OPEN);
        if above > 0 {
            self.levels[above].fd = None;
        }
        Ok(())
    }

    /// Goes back up; the directory there is opened again if it was closed. False: it was moved away meanwhile.
    fn up(&mut self) -> Result<bool> {
        let Some(left) = self.levels.pop() else { return Ok(true) };
        let (Some(above), Some(child)) = (self.levels.last_mut(), left.fd) else { return Ok(true) };
        if above.fd.is_some() {
            return Ok(true);
        }
        let opened = retry(|| openat(&child, "..", DOWN, Mode::empty())).map_err(|e| os("go back up in", &self.path, e))?;
        let st = fstat(&opened).map_err(|e| os("go back up in", &self.path, e))?;
        let same = (st.st_dev, st.st_ino) == above.id;
        above.fd = same.then_some(opened);
        Ok(same)
    }

    /// From the root again: what is done already costs a look.
    fn restart(&mut self) -> Result<()> {
        self.restarts += 1;
        if self.restarts > RESTARTS {
            let why = format!("directories in {} are moved about all the time", self.path.display());
            return Err(Error::new(Kind::Busy, why).remedy("try again when that has ended"));
        }
        let failed = |e: io::Error| os("go through", &self.path, e);
        self.levels = vec![here(self.root.try_clone().map_err(failed)?, CString::default()).map_err(failed)?];
        Ok(())
    }

    /// An entry that somebody holds by a lease comes last of its directory. True if there is nothing to do but to wait.
    fn put_off(&mut self, name: CString) -> Result<bool> {
        let since = *self.held_since.get_or_insert_with(Instant::now);
        if since.elapsed() > LEASE {
            let why = format!("{} is held open by a lease", self.path_of(&name).display());
            return Err(Error::new(Kind::Busy, why).remedy("end the program that holds it (/proc/locks), or its NFS delegation"));
        }
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        level.names.push_back(name);
        level.held += 1;
        Ok(level.held >= level.names.len())
    }
}

impl Walk for Walking {
    fn go(&mut self, budget: Duration) -> Result<Option<u64>> {
        let until = Instant::now() + budget;
        let mut turns = 0_u32;
        while let Some(level) = self.levels.last_mut() {
            turns += 1;
            if turns % 256 == 0 && Instant::now() >= until {
                return Ok(None);
            }
            let Some(name) = level.names.pop_front() else {
                if !self.up()? {
                    self.restart()?;
                }
                continue;
            };
            self.looked += 1;
            let dir = match &level.fd {
                Some(fd) => fd.try_clone().map_err(|e| os("go through", &self.path, e))?,
                None => {
                    self.restart()?;
                    continue;
                }
            };
            match self.meet(&dir, &name)? {
                Met::Held => {
                    if self.put_off(name)? {
                        std::thread::sleep(Duration::from_millis(50));
                        return Ok(None);
                    }
                    continue;
                }
                Met::Into(fd) => self.down(fd, name)?,
                Met::Done => {}
            }
            self.held_since = None;
            if let Some(level) = self.levels.last_mut() {
                level.held = 0;
            }
        }
        // The root last: what it carries tells that the tree is done.
        match self.deed {
            Deed::Shift { up } => {
                let root = self.root.try_clone().map_err(|e| os("go through", &self.path, e))?;
                let st = fstat(&root).map_err(|e| os("look at", &self.path, e))?;
                self.chown(&root, c"", &st, up)?;
            }
            Deed::Tag(tag) => self.tag_root(tag.to)?,
        }
        Ok(Some(self.changed))
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
