// SPDX-License-Identifier: MIT OR Apache-2.0
//! Going through a whole tree and changing each entry: owners ([`Deed::Shift`]) or projects ([`Deed::Tag`]). It knows how not to leave the
//! tree: no symlink is followed, no other file system entered, every name is looked up below a descriptor of its directory. A walk that
//! was cut short is begun anew: entries that are as they shall be already cost a look and no more.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::dir::{Dir, OwningIter};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{Gid, Uid, fchownat};

use super::super::sys::{self, retry};
use super::super::{SHIFT, Walk};
use super::{SURVEY_DEPTH, kind_of, open_tree, os};
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

/// One directory that is being read.
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

/// A walk that goes on.
pub struct Walking {
    path: PathBuf,
    root: OwnedFd,
    levels: Vec<Level>,
    dev: u64,
    deed: Deed,
    looked: u64,
    changed: u64,
}

/// Begins a walk; nothing is changed yet, but for the project of the root where a limit is to come: what is made in the tree meanwhile has to
/// inherit it.
pub fn begin(path: &Path, only: Option<(u64, u64)>, deed: Deed) -> Result<Walking> {
    let failed = |e: io::Error| os("go through", path, e);
    let root = open_tree(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    let st = fstat(&root).map_err(|e| failed(e.into()))?;
    if only.is_some_and(|o| o != (st.st_dev, st.st_ino)) {
        return Err(another(path));
    }
    let keep = root.try_clone().map_err(failed)?;
    let levels = vec![level(root).map_err(failed)?];
    let mut walk = Walking { path: path.to_owned(), root: keep, levels, dev: st.st_dev, deed, looked: 0, changed: 0 };
    // For as long as anything in the tree carries the number, the root does: forward it comes first, back it goes last.
    if matches!(deed, Deed::Tag(tag) if !tag.back) {
        walk.tag_root()?;
    }
    Ok(walk)
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
            Err(e) => Err(os(&format!("change the owner of {} in", name.to_string_lossy()), &self.path, e)),
        }
    }

    /// Whether an entry has to be given another project.
    fn is_to_tag(&self, name: &str, now: u32, tag: &Tag) -> Result<bool> {
        if now == tag.to.id || (tag.back && now != tag.from.id) {
            return Ok(false);
        }
        if now != tag.from.id {
            let why = format!("{name} in {} belongs to project {now}, which somebody else limits", self.path.display());
            return Err(Error::new(Kind::Conflict, why).remedy(format!(
                "give it the project of the tree first: chattr -R -p {} {}/{name}, or leave the quota out",
                tag.from.id,
                self.path.display()
            )));
        }
        Ok(true)
    }

    fn tag_root(&mut self) -> Result<()> {
        let Deed::Tag(Tag { to, .. }) = self.deed else { return Ok(()) };
        let failed = |e: io::Error| os("give a project to", &self.path, e);
        if sys::quota::get_project(self.root.as_fd()).map_err(failed)? != to {
            sys::quota::set_project(self.root.as_fd(), to).map_err(failed)?;
            self.changed += 1;
        }
        Ok(())
    }

    fn tag(&mut self, dir: &OwnedFd, name: &CStr, st: &FileStat, tag: &Tag) -> Result<()> {
        let to = tag.to;
        let shown = name.to_string_lossy().into_owned();
        let path = self.path.clone();
        let failed = |e: io::Error| os(&format!("give a project to {shown} in"), &path, e);
        let kind = kind_of(st);
        if kind != SFlag::S_IFDIR && kind != SFlag::S_IFREG {
            // Cannot be opened. Without a project it could not be renamed within the tree any more (EXDEV), so it gets one where the kernel can.
            let now = match sys::quota::get_project_at(dir.as_fd(), name) {
                Ok(p) => p.id,
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP | libc::ENOTTY | libc::ENOENT)) => {
                    return Ok(());
                }
                Err(e) => return Err(failed(e)),
            };
            if self.is_to_tag(&shown, now, tag)? {
                match sys::quota::set_project_at(dir.as_fd(), name, to.id) {
                    Ok(()) => self.changed += 1,
                    Err(e) if matches!(e.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::ENOENT)) => {}
                    Err(e) => return Err(failed(e)),
                }
            }
            return Ok(());
        }
        let directory = kind == SFlag::S_IFDIR;
        let flags = if directory { DOWN } else { DOWN.difference(OFlag::O_DIRECTORY) };
        let fd = match openat(dir, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            // Gone, or replaced, between the two looks.
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO) => return Ok(()),
            Err(e) => return Err(failed(e.into())),
        };
        let now = sys::quota::get_project(fd.as_fd()).map_err(failed)?;
        let wanted = Project { id: to.id, inherit: directory && to.inherit };
        if self.is_to_tag(&shown, now.id, tag)? || (now.id == to.id && now.inherit != wanted.inherit) {
            sys::quota::set_project(fd.as_fd(), wanted).map_err(failed)?;
            self.changed += 1;
        }
        Ok(())
    }

    /// One entry, before what is in it.
    fn act(&mut self, dir: &OwnedFd, name: &CStr, st: &FileStat) -> Result<()> {
        match self.deed {
            Deed::Shift { up } => self.chown(dir, name, st, up),
            Deed::Tag(tag) => self.tag(dir, name, st, &tag),
        }
    }
}

impl Walk for Walking {
    fn go(&mut self, budget: Duration) -> Result<Option<u64>> {
        let until = Instant::now() + budget;
        while let Some(here) = self.levels.last_mut() {
            self.looked += 1;
            if self.looked % 256 == 0 && Instant::now() >= until {
                return Ok(None);
            }
            let entry = match here.entries.next() {
                None => {
                    self.levels.pop();
                    continue;
                }
                Some(entry) => entry.map_err(|e| os("read a directory in", &self.path, e))?,
            };
            let name = entry.file_name().to_owned();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let dir = here.fd.try_clone().map_err(|e| os("go through", &self.path, e))?;
            let st = match fstatat(&dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(st) if st.st_dev == self.dev => st,
                Ok(_) | Err(Errno::ENOENT) => continue,
                Err(e) => return Err(os(&format!("look at {} in", name.to_string_lossy()), &self.path, e)),
            };
            self.act(&dir, &name, &st)?;
            if kind_of(&st) == SFlag::S_IFDIR {
                if self.levels.len() >= SURVEY_DEPTH * 4 {
                    return Err(Error::new(Kind::Unsupported, format!("{} is too deep", self.path.display())));
                }
                match openat(&dir, name.as_c_str(), DOWN, Mode::empty()) {
                    Ok(fd) => self.levels.push(level(fd).map_err(|e| os("go through", &self.path, e))?),
                    Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                    Err(e) => return Err(os(&format!("open {} in", name.to_string_lossy()), &self.path, e)),
                }
            }
        }
        // The root last: what it carries tells that the tree is done.
        match self.deed {
            Deed::Shift { up } => {
                let root = self.root.try_clone().map_err(|e| os("go through", &self.path, e))?;
                let st = fstat(&root).map_err(|e| os("look at", &self.path, e))?;
                self.chown(&root, c"", &st, up)?;
            }
            Deed::Tag(_) => self.tag_root()?,
        }
        Ok(Some(self.changed))
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
