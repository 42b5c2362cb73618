// SPDX-License-Identifier: MIT OR Apache-2.0
//! The simulated disks: directories, files, symlinks and mounts, and which part of them would survive a power cut.
//! It knows what a file system promises; it must not know what the files mean.
//!
//! Lost when the power goes: bytes that were appended without a sync, a file that was only ever appended to that way, what a
//! client wrote, and every tmpfs. A sync of a file makes its name and its parents durable too, as a journalling file system does.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Bound;
use std::path::{Component, Path, PathBuf};

use super::guests::Bind;
use super::quotas::Limits;
use crate::effect::FileSpec;
use crate::error::{Error, Kind, Result};
use crate::host::{FileSeen, Space, Survey, TreeSeen};
use crate::quota::Project;

/// What a name stands for.
#[derive(Clone)]
pub enum Thing {
    /// A regular file and how many of its bytes are on stable storage.
    File {
        /// All of it.
        content: Vec<u8>,
        /// Bytes from its start that survive a power cut.
        synced: usize,
    },
    /// A directory; what is in it is told by the paths of the map.
    Dir,
    /// A symlink and where it points.
    Link(PathBuf),
}

/// One name of the file system. Two are equal if a user cannot tell them apart: inode and sync state do not count.
#[derive(Clone)]
pub struct Node {
    /// What it is.
    pub thing: Thing,
    /// Permission bits (07777).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Project.
    pub project: Project,
    ino: u64,
    durable: bool,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.thing, &other.thing) {
            (Thing::File { content: a, .. }, Thing::File { content: b, .. }) => a == b,
            (Thing::Dir, Thing::Dir) => true,
            (Thing::Link(a), Thing::Link(b)) => a == b,
            _ => false,
        };
        same && (self.mode, self.uid, self.gid, self.project) == (other.mode, other.uid, other.gid, other.project)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.thing {
            Thing::File { content, synced } => {
                write!(f, "file {:?}", String::from_utf8_lossy(content))?;
                if *synced < content.len() {
                    write!(f, " ({synced} of {} bytes synced)", content.len())?;
                }
            }
            Thing::Dir => f.write_str("directory")?,
            Thing::Link(to) => write!(f, "link to {}", to.display())?,
        }
        write!(f, " {:o} {}:{}", self.mode, self.uid, self.gid)?;
        if self.project != Project::NONE {
            write!(f, " project {}{}", self.project.id, if self.project.inherit { " (inherited)" } else { "" })?;
        }
        Ok(())
    }
}

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Device number.
    pub dev: u64,
    /// Type as in mountinfo. `tmpfs` loses everything at a power cut.
    pub fs_type: String,
    /// What `statfs.f_fsid` tells.
    pub fsid: u64,
    /// Mounted read-only.
    pub read_only: bool,
    /// Its space.
    pub space: Space,
    /// What it limits.
    pub limits: Limits,
    /// What single users may own, in bytes, where it is mounted with user quota.
    pub users: Option<BTreeMap<u32, u64>>,
}

impl Mount {
    /// A writable file system of 100 GiB, 40 of them used.
    pub fn new(dev: u64, fs_type: &str) -> Self {
        let gib = 1 << 30;
        let space = Space { total: 100 * gib, avail: 60 * gib, used: 40 * gib, fsid: 0 };
        Self { dev, fs_type: fs_type.to_owned(), fsid: 0xf500 + dev, read_only: false, space, limits: Limits::None, users: None }
    }
}

/// A file system that was taken out; [`Files::attach`] puts it back.
#[derive(Debug, Clone)]
pub struct Detached {
    at: PathBuf,
    mount: Mount,
    nodes: BTreeMap<PathBuf, Node>,
}

/// All names there are, and the mounts.
#[derive(Clone, Default)]
pub struct Files {
    pub(super) nodes: BTreeMap<PathBuf, Node>,
    pub(super) mounts: BTreeMap<PathBuf, Mount>,
    next_ino: u64,
}

impl PartialEq for Files {
    fn eq(&self, other: &Self) -> bool {
        self.nodes == other.nodes && self.mounts == other.mounts
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.nodes).finish()?;
        f.debug_map().entries(&self.mounts).finish()
    }
}

pub(super) fn errno(what: &str, path: &Path, number: i32) -> Error {
    Error::io(format!("cannot {what} {}", path.display()), io::Error::from_raw_os_error(number))
}

fn not_regular(path: &Path) -> Error {
    Error::new(Kind::Conflict, format!("{} is not a regular file", path.display())).remedy("move it out of the way")
}

impl Files {
    /// An ext4 root and a tmpfs on /run.
    pub fn new() -> Self {
        let mut files = Self { next_ino: 2, ..Self::default() };
        files.mounts.insert("/".into(), Mount::new(0xfe01, "ext4"));
        files.nodes.insert(
            "/".into(),
            Node { thing: Thing::Dir, mode: 0o755, uid: 0, gid: 0, project: Project::NONE, ino: 2, durable: true },
        );
        files.mount(Path::new("/run"), Mount::new(0x18, "tmpfs"));
        files
    }

    /// Makes a name. It is in the project of its directory if that says so.
    fn add(&mut self, path: &Path, thing: Thing, mode: u32, uid: u32, gid: u32) {
        self.next_ino += 1;
        let above = path.parent().and_then(|p| self.nodes.get(p)).map(|n| n.project).unwrap_or_default();
        let inherited = Project { id: above.id, inherit: matches!(thing, Thing::Dir) };
        let project = if above.inherit { inherited } else { Project::NONE };
        self.nodes.insert(path.to_owned(), Node { thing, mode, uid, gid, project, ino: self.next_ino, durable: false });
    }

    // ---- setting the scene: these never fail and are durable ----

    /// Puts a file there, with its parents; replaces what is there.
    pub fn put(&mut self, path: impl AsRef<Path>, content: impl AsRef<[u8]>, mode: u32, uid: u32, gid: u32) {
        let (path, content) = (path.as_ref(), content.as_ref().to_vec());
        self.put_dir(path.parent().unwrap_or(Path::new("/")), 0o755, 0, 0);
        let synced = content.len();
        self.add(path, Thing::File { content, synced }, mode, uid, gid);
        self.sync(path);
    }

    /// Puts a directory there, with its parents (root's, 0755); one that exists stays as it is.
    pub fn put_dir(&mut self, path: impl AsRef<Path>, mode: u32, uid: u32, gid: u32) {
        let path = path.as_ref();
        if self.nodes.contains_key(path) {
            return;
        }
        if let Some(parent) = path.parent() {
            self.put_dir(parent, 0o755, 0, 0);
        }
        self.add(path, Thing::Dir, mode, uid, gid);
        self.sync(path);
    }

    /// Puts a symlink there.
    pub fn put_link(&mut self, path: impl AsRef<Path>, to: impl AsRef<Path>) {
        let path = path.as_ref();
        self.put_dir(path.parent().unwrap_or(Path::new("/")), 0o755, 0, 0);
        self.add(path, Thing::Link(to.as_ref().to_owned()), 0o777, 0, 0);
        self.sync(path);
    }

    /// Takes a name away, with everything below it.
    pub fn take(&mut self, path: impl AsRef<Path>) {
        let path = path.as_ref();
        let gone: Vec<PathBuf> = self.below(path).map(|(p, _)| p.clone()).collect();
        for p in gone {
            self.nodes.remove(&p);
        }
    }

    /// Gives everything below a path numbers that are 100000 higher or lower.
    pub fn shift(&mut self, path: &Path, up: bool) -> Result<u64> {
        self.tree(path)?;
        let to = |id: u32| match up {
            true if id < 65_536 => id + 100_000,
            false if (100_000..165_536).contains(&id) => id - 100_000,
            _ => id,
        };
        let mut changed = 0;
        for (_, n) in self.nodes.iter_mut().filter(|(p, _)| p.starts_with(path)) {
            let was = (n.uid, n.gid);
            (n.uid, n.gid) = (to(n.uid), to(n.gid));
            changed += u64::from(was != (n.uid, n.gid));
        }
        Ok(changed)
    }

    /// Mounts an empty file system.
    pub fn mount(&mut self, at: impl AsRef<Path>, mount: Mount) {
        let at = at.as_ref();
        self.take(at);
        self.put_dir(at, 0o755, 0, 0);
        self.mounts.insert(at.to_owned(), mount);
    }

    /// The mount at exactly this path, to change it.
    pub fn mount_mut(&mut self, at: impl AsRef<Path>) -> Option<&mut Mount> {
        self.mounts.get_mut(at.as_ref())
    }

    /// Unmounts a file system: an empty directory is left.
    pub fn detach(&mut self, at: impl AsRef<Path>) -> Option<Detached> {
        let at = at.as_ref();
        let mount = self.mounts.remove(at)?;
        let nodes = self.nodes.iter().filter(|(p, _)| p.starts_with(at)).map(|(p, n)| (p.clone(), n.clone())).collect();
        self.take(at);
        self.put_dir(at, 0o755, 0, 0);
        Some(Detached { at: at.to_owned(), mount, nodes })
    }

    /// Mounts again what was taken out.
    pub fn attach(&mut self, detached: Detached) {
        self.take(&detached.at);
        self.nodes.extend(detached.nodes);
        self.mounts.insert(detached.at, detached.mount);
    }

    // ---- one tree in two worlds ----

    /// Everything at and below a path.
    fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = (&'a PathBuf, &'a Node)> {
        // Paths are ordered by their parts, so a tree is one stretch of the map.
        self.nodes.range::<Path, _>((Bound::Included(path), Bound::Unbounded)).take_while(move |(p, _)| p.starts_with(path))
    }

    /// Shows a tree of another world here, as a bind mount with mapped numbers does. File systems mounted inside it stay hidden.
    pub(super) fn bind(&mut self, source: &Files, b: &Bind) {
        let moved: Vec<(PathBuf, Node)> = source
            .below(&b.source)
            .filter(|(p, _)| !source.hidden(p, &b.source))
            .map(|(p, n)| {
                (moved(p, &b.source, &b.target), Node { uid: b.ids.inside(n.uid), gid: b.ids.inside(n.gid), ..n.clone() })
            })
            .collect();
        let mount = source.mount_of(&b.source).1.clone();
        self.take(&b.target);
        self.nodes.extend(moved);
        self.mounts.insert(b.target.clone(), Mount { read_only: mount.read_only || b.read_only, ..mount });
        self.next_ino = self.next_ino.max(source.next_ino);
    }

    /// Takes what was done in a bound tree over into the world it comes from. Owners that were not changed stay the numbers they were, even
    /// if they have no name on the other side.
    pub(super) fn unbind(&mut self, inner: &mut Files, b: &Bind) {
        let mut fresh = BTreeMap::new();
        for (p, n) in inner.below(&b.target) {
            let at = moved(p, &b.target, &b.source);
            let old = self.nodes.get(&at).filter(|o| o.ino == n.ino);
            let keep = |was: Option<u32>, now: u32| was.filter(|w| b.ids.inside(*w) == now).unwrap_or_else(|| b.ids.outside(now));
            let (uid, gid) = (keep(old.map(|o| o.uid), n.uid), keep(old.map(|o| o.gid), n.gid));
            fresh.insert(at, Node { uid, gid, ..n.clone() });
        }
        let gone: Vec<PathBuf> = self
            .below(&b.source)
            .map(|(p, _)| p)
            .filter(|p| !self.hidden(p, &b.source) && !fresh.contains_key(*p))
            .cloned()
            .collect();
        for path in gone {
            self.nodes.remove(&path);
        }
        self.nodes.extend(fresh);
        self.next_ino = self.next_ino.max(inner.next_ino);
        inner.mounts.remove(&b.target);
        inner.take(&b.target);
        inner.put_dir(&b.target, 0o755, 0, 0);
    }

    /// Whether a path below a tree lies on another file system that is mounted inside the tree.
    fn hidden(&self, path: &Path, tree: &Path) -> bool {
        let at = self.mount_of(path).0;
        at != path && at.starts_with(tree) && at != tree
    }

    /// What kind of file system a directory is on; `None` if it is no directory.
    pub(super) fn fs_type(&self, dir: &Path) -> Option<String> {
        let real = self.resolve(dir).ok()?;
        matches!(self.nodes.get(&real)?.thing, Thing::Dir).then(|| self.mount_of(&real).1.fs_type.clone())
    }

    /// The names below a directory, relative to it, with what they are: what an archive of it holds.
    pub(super) fn pack(&self, dir: &Path) -> BTreeMap<PathBuf, Node> {
        self.below(dir).filter_map(|(p, n)| Some((p.strip_prefix(dir).ok()?.to_owned(), n.clone()))).collect()
    }

    /// What is mounted at and below a path.
    pub(super) fn mounted_below(&self, path: &Path) -> Vec<PathBuf> {
        self.mounts.keys().filter(|p| p.starts_with(path)).cloned().collect()
    }

    // ---- looking ----

    /// The node at a path, without following a symlink.
    pub fn get(&self, path: impl AsRef<Path>) -> Option<&Node> {
        self.nodes.get(path.as_ref())
    }

    /// A file's content as text, symlinks followed; empty if there is none.
    pub fn text(&self, path: impl AsRef<Path>) -> String {
        self.bytes(path.as_ref()).map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default()
    }

    /// A file's content, symlinks followed.
    pub fn bytes(&self, path: impl AsRef<Path>) -> Option<&[u8]> {
        match &self.nodes.get(&self.resolve(path.as_ref()).ok()?)?.thing {
            Thing::File { content, .. } => Some(content),
            _ => None,
        }
    }

    pub(super) fn mount_of(&self, path: &Path) -> (&Path, &Mount) {
        let mut at = path;
        loop {
            if let Some((p, m)) = self.mounts.get_key_value(at) {
                return (p, m);
            }
            at = at.parent().unwrap_or(Path::new("/"));
        }
    }

    /// Follows every symlink on the way; the last name need not exist.
    fn resolve(&self, path: &Path) -> Result<PathBuf, i32> {
        let mut done = PathBuf::from("/");
        let mut todo: Vec<std::ffi::OsString> = parts(path);
        let mut links = 0;
        while let Some(name) = todo.pop() {
            if name == ".." {
                done.pop();
                continue;
            }
            let next = done.join(&name);
            match self.nodes.get(&next).map(|n| &n.thing) {
                Some(Thing::Link(to)) => {
                    links += 1;
                    if links > 40 {
                        return Err(libc::ELOOP);
                    }
                    if to.is_absolute() {
                        done = PathBuf::from("/");
                    }
                    todo.extend(parts(to));
                }
                Some(Thing::File { .. }) if !todo.is_empty() => return Err(libc::ENOTDIR),
                None if !todo.is_empty() => return Err(libc::ENOENT),
                _ => done = next,
            }
        }
        Ok(done)
    }

    /// Where a name really lives: its directory resolved, the last part as given.
    fn place(&self, path: &Path) -> Result<PathBuf, i32> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(libc::EBUSY) };
        let parent = self.resolve(parent)?;
        match self.nodes.get(&parent).map(|n| &n.thing) {
            Some(Thing::Dir) => Ok(parent.join(name)),
            Some(_) => Err(libc::ENOTDIR),
            None => Err(libc::ENOENT),
        }
    }

    /// Where something can be written.
    fn writable(&self, path: &Path, follow: bool) -> Result<PathBuf, i32> {
        let path = if follow { self.place(&self.resolve(path)?)? } else { self.place(path)? };
        if self.mount_of(&path).1.read_only { Err(libc::EROFS) } else { Ok(path) }
    }

    pub(super) fn read(&self, path: &Path, limit: u64) -> Result<Option<FileSeen>> {
        let real = match self.resolve(path) {
            Ok(real) => real,
            Err(libc::ENOENT) => return Ok(None),
            Err(e) => return Err(errno("read", path, e)),
        };
        match self.nodes.get(&real) {
            None => Ok(None),
            Some(Node { thing: Thing::File { content, .. }, mode, uid, gid, .. }) if content.len() as u64 <= limit => {
                Ok(Some(FileSeen { content: content.clone(), mode: *mode, uid: *uid, gid: *gid }))
            }
            Some(Node { thing: Thing::File { .. }, .. }) => {
                Err(Error::new(Kind::Unsupported, format!("{} is larger than {limit} bytes", path.display())))
            }
            Some(_) => Err(not_regular(path)),
        }
    }

    pub(super) fn list(&self, path: &Path) -> Result<Vec<String>> {
        let real = match self.resolve(path) {
            Ok(real) => real,
            Err(libc::ENOENT) => return Ok(Vec::new()),
            Err(e) => return Err(errno("list", path, e)),
        };
        match self.nodes.get(&real).map(|n| &n.thing) {
            None => Ok(Vec::new()),
            Some(Thing::Dir) => Ok(self.children(&real).map(|n| n.to_string_lossy().into_owned()).collect()),
            Some(_) => Err(errno("list", path, libc::ENOTDIR)),
        }
    }

    fn children<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = &'a std::ffi::OsStr> {
        self.nodes.keys().filter(move |p| p.parent() == Some(dir)).filter_map(|p| p.file_name())
    }

    pub(super) fn exists(&self, path: &Path) -> bool {
        path == Path::new("/") || self.place(path).is_ok_and(|p| self.nodes.contains_key(&p))
    }

    pub(super) fn space(&self, path: &Path) -> Result<Space> {
        let real = self.resolve(path).map_err(|e| errno("look at", path, e))?;
        if !self.nodes.contains_key(&real) {
            return Err(errno("look at", path, libc::ENOENT));
        }
        let mount = self.mount_of(&real).1;
        Ok(Space { fsid: mount.fsid, ..mount.space })
    }

    /// The path of a directory that no symlink leads to.
    fn straight(&self, path: &Path) -> Result<()> {
        let mut at = PathBuf::from("/");
        for name in parts(path).into_iter().rev() {
            at.push(name);
            match self.nodes.get(&at).map(|n| &n.thing) {
                Some(Thing::Dir) => {}
                Some(Thing::Link(_)) => {
                    return Err(Error::new(
                        Kind::Invalid,
                        format!("{} leads through the symlink {}", path.display(), at.display()),
                    ));
                }
                Some(Thing::File { .. }) => {
                    return Err(Error::new(Kind::Invalid, format!("{} is not a directory", at.display())));
                }
                None => return Err(Error::new(Kind::NotFound, format!("{} does not exist", at.display()))),
            }
        }
        Ok(())
    }

    pub(super) fn tree(&self, path: &Path) -> Result<TreeSeen> {
        self.straight(path)?;
        let node = &self.nodes[path];
        let (mount_point, mount) = self.mount_of(path);
        Ok(TreeSeen {
            dev: mount.dev,
            ino: node.ino,
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            fs_type: mount.fs_type.clone(),
            mount_point: mount_point.to_owned(),
            fsid: mount.fsid,
            is_mount: mount_point == path,
            mounts_inside: self.mounts.keys().filter(|p| p.starts_with(path) && *p != path).cloned().collect(),
            read_only: mount.read_only,
        })
    }

    pub(super) fn survey(&self, path: &Path, uids: &[u32], gids: &[u32]) -> Result<Survey> {
        self.straight(path)?;
        let dev = self.mount_of(path).1.dev;
        let mut survey = Survey { complete: true, ..Survey::default() };
        for (_, node) in self.nodes.iter().filter(|(p, _)| p.starts_with(path) && self.mount_of(p).1.dev == dev) {
            survey.entries += 1;
            if uids.contains(&node.uid) {
                *survey.by_uid.entry(node.uid).or_default() += 1;
            }
            if gids.contains(&node.gid) {
                *survey.by_gid.entry(node.gid).or_default() += 1;
            }
        }
        Ok(survey)
    }

    // ---- changing ----

    /// Makes a name, all bytes of it and the directories above it durable.
    fn sync(&mut self, path: &Path) {
        if let Some(Node { thing: Thing::File { content, synced }, .. }) = self.nodes.get_mut(path) {
            *synced = content.len();
        }
        for at in path.ancestors() {
            if let Some(node) = self.nodes.get_mut(at) {
                node.durable = true;
            }
        }
    }

    pub(super) fn write(&mut self, file: &FileSpec) -> Result<()> {
        let real = self.writable(&file.path, true).map_err(|e| errno("write", &file.path, e))?;
        if matches!(self.nodes.get(&real), Some(Node { thing: Thing::Dir, .. })) {
            return Err(errno("write", &file.path, libc::EISDIR));
        }
        self.put(&real, &file.content, file.mode & 0o7777, file.uid, file.gid);
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> Result<()> {
        let real = match self.writable(path, false) {
            Ok(real) => real,
            Err(libc::ENOENT) => return Ok(()),
            Err(e) => return Err(errno("remove", path, e)),
        };
        if matches!(self.nodes.get(&real), Some(Node { thing: Thing::Dir, .. })) {
            return Err(errno("remove", path, libc::EISDIR));
        }
        self.nodes.remove(&real);
        Ok(())
    }

    /// Appends; of what is new, `lazily` syncs nothing.
    pub(super) fn append(&mut self, path: &Path, bytes: &[u8], lazily: bool) -> Result<()> {
        let real = self.writable(path, true).map_err(|e| errno("append to", path, e))?;
        if !self.nodes.contains_key(&real) {
            self.add(&real, Thing::File { content: Vec::new(), synced: 0 }, 0o600, 0, 0);
        }
        match self.nodes.get_mut(&real) {
            Some(Node { thing: Thing::File { content, .. }, .. }) => content.extend_from_slice(bytes),
            _ => return Err(errno("append to", path, libc::EISDIR)),
        }
        if !lazily {
            self.sync(&real);
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Result<()> {
        let (old, new) = match (self.writable(from, false), self.writable(to, false)) {
            (Ok(old), Ok(new)) => (old, new),
            (Err(e), _) | (_, Err(e)) => return Err(errno("rename", from, e)),
        };
        if old.parent() != new.parent() {
            return Err(Error::new(Kind::Internal, format!("{} and {} are in two directories", from.display(), to.display())));
        }
        let Some(mut node) = self.nodes.remove(&old) else { return Err(errno("rename", from, libc::ENOENT)) };
        node.durable = true;
        let below: Vec<PathBuf> = self.nodes.keys().filter(|p| p.starts_with(&old)).cloned().collect();
        for path in below {
            if let (Some(n), Ok(tail)) = (self.nodes.remove(&path), path.strip_prefix(&old)) {
                self.nodes.insert(new.join(tail), n);
            }
        }
        for at in new.ancestors().skip(1) {
            if let Some(n) = self.nodes.get_mut(at) {
                n.durable = true;
            }
        }
        self.nodes.insert(new, node);
        Ok(())
    }

    pub(super) fn make_dir(&mut self, path: &Path, mode: u32) -> Result<()> {
        match self.resolve(path).map(|p| self.nodes.get(&p).map(|n| matches!(n.thing, Thing::Dir))) {
            Ok(Some(true)) => return Ok(()),
            Ok(Some(false)) => {
                return Err(
                    Error::new(Kind::Conflict, format!("{} is not a directory", path.display())).remedy("move it out of the way")
                );
            }
            Ok(None) | Err(libc::ENOENT) => {}
            Err(e) => return Err(errno("make", path, e)),
        }
        if let Some(parent) = path.parent() {
            self.make_dir(parent, mode)?;
        }
        let real = self.writable(path, true).map_err(|e| errno("make", path, e))?;
        self.add(&real, Thing::Dir, mode & 0o7777, 0, 0);
        self.sync(&real);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> Result<bool> {
        let real = match self.writable(path, false) {
            Ok(real) => real,
            Err(libc::ENOENT) => return Ok(true),
            Err(e) => return Err(errno("remove", path, e)),
        };
        match self.nodes.get(&real).map(|n| &n.thing) {
            None => Ok(true),
            Some(Thing::Dir) if self.mounts.contains_key(&real) => Err(errno("remove", path, libc::EBUSY)),
            Some(Thing::Dir) => {
                let empty = self.children(&real).next().is_none();
                if empty {
                    self.nodes.remove(&real);
                }
                Ok(empty)
            }
            Some(_) => Err(errno("remove", path, libc::ENOTDIR)),
        }
    }

    pub(super) fn set_tree(&mut self, path: &Path, fsid: u64, ino: u64, uid: u32, gid: u32, mode: u32) -> Result<()> {
        let seen = self.tree(path)?;
        if (seen.fsid, seen.ino) != (fsid, ino) {
            return Err(Error::new(Kind::Drift, format!("{} is another directory than it was a moment ago", path.display())));
        }
        if seen.read_only {
            return Err(errno("change", path, libc::EROFS));
        }
        if let Some(node) = self.nodes.get_mut(path) {
            (node.uid, node.gid, node.mode) = (uid, gid, mode & 0o7777);
        }
        Ok(())
    }

    pub(super) fn remove_in_tree(&mut self, path: &Path, name: &str) -> Result<()> {
        self.straight(path)?;
        if name.is_empty() || name == "." || name == ".." || name.contains('/') {
            return Err(Error::new(Kind::Internal, format!("{name:?} is not a file name")));
        }
        let at = path.join(name);
        match self.nodes.get(&at).map(|n| &n.thing) {
            None => Ok(()),
            Some(Thing::File { .. }) if self.mount_of(path).1.read_only => Err(errno("remove", &at, libc::EROFS)),
            Some(Thing::File { .. }) => {
                self.nodes.remove(&at);
                Ok(())
            }
            Some(_) => Err(not_regular(&at)),
        }
    }

    pub(super) fn publish(&mut self, dir: &Path, name: &str, content: &str) -> Result<()> {
        self.straight(dir)?;
        let (uid, mode) = self.nodes.get(dir).map(|n| (n.uid, n.mode)).unwrap_or_default();
        crate::host::root_alone(dir, uid, mode)?;
        let at = dir.join(name);
        match self.nodes.get(&at).map(|n| &n.thing) {
            None | Some(Thing::File { .. }) => {}
            Some(_) => return Err(not_regular(&at)),
        }
        if self.mount_of(dir).1.read_only {
            return Err(errno("write", &at, libc::EROFS));
        }
        self.put(&at, content, 0o644, 0, 0);
        Ok(())
    }

    /// Marks a file as written but not synced, as a client's data is.
    pub(super) fn unsync(&mut self, path: &Path) {
        if let Some(node) = self.nodes.get_mut(path) {
            node.durable = false;
            if let Thing::File { synced, .. } = &mut node.thing {
                *synced = 0;
            }
        }
    }

    /// The power goes: what is not on stable storage is lost, and a tmpfs is empty afterwards.
    pub(super) fn power_cut(&mut self) {
        let lost: Vec<PathBuf> = self
            .nodes
            .iter()
            .filter(|(p, n)| !n.durable || (self.mount_of(p).1.fs_type == "tmpfs" && !self.mounts.contains_key(*p)))
            .map(|(p, _)| p.clone())
            .collect();
        for path in lost {
            self.take(path);
        }
        for node in self.nodes.values_mut() {
            if let Thing::File { content, synced } = &mut node.thing {
                content.truncate(*synced);
            }
        }
    }
}

/// The same place below another directory.
fn moved(path: &Path, from: &Path, to: &Path) -> PathBuf {
    match path.strip_prefix(from) {
        Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
        Ok(rest) => to.join(rest),
        Err(_) => path.to_owned(),
    }
}

/// The parts of a path, last first.
fn parts(path: &Path) -> Vec<std::ffi::OsString> {
    path.components()
        .rev()
        .filter_map(|c| match c {
            Component::Normal(n) => Some(n.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}
