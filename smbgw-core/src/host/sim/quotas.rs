// SPDX-License-Identifier: MIT OR Apache-2.0
//! Limits on the simulated disks: project quota, qgroups, datasets, CephFS, devices. It knows what each kind of file system promises, as it
//! was seen on real ones; it must not know how the product uses it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::files::{Files, Thing, errno};
use super::{Machine, Said};
use crate::error::{Error, Kind, Result};
use crate::quota::{Figures, Means, PROJECTS, Project, QuotaSeen, Tag, UserMeans};

/// What a mounted file system can limit, and what it does limit: bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Limits {
    /// Nothing.
    #[default]
    None,
    /// Mounted with project quota; limits by number.
    Projects(BTreeMap<u32, u64>),
    /// btrfs with quota enabled; subvolumes by path with their limits.
    Subvolumes(BTreeMap<PathBuf, Option<u64>>),
    /// A ZFS dataset.
    Dataset {
        /// Its name.
        name: String,
        /// Its `refquota`.
        refquota: Option<u64>,
    },
    /// CephFS; limits by directory.
    Ceph(BTreeMap<PathBuf, u64>),
    /// A block device of its own of that size.
    Device(u64),
}

impl Files {
    /// Bytes and names at and below a path, as far as they are on its file system and `counts` says so.
    fn sum(&self, path: &Path, counts: impl Fn(&super::Node) -> bool) -> (u64, u64) {
        let (mut bytes, mut names) = (0, 0);
        for (_, n) in
            self.nodes.iter().filter(|(p, n)| p.starts_with(path) && self.mount_of(p).0 == self.mount_of(path).0 && counts(n))
        {
            names += 1;
            if let Thing::File { content, .. } = &n.thing {
                bytes += content.len() as u64;
            }
        }
        (bytes, names)
    }

    fn project_of(&self, path: &Path) -> Project {
        self.nodes.get(path).map(|n| n.project).unwrap_or_default()
    }

    /// Gives one name a project, as `chattr -p` does.
    pub fn put_project(&mut self, path: impl AsRef<Path>, project: Project) {
        if let Some(n) = self.nodes.get_mut(path.as_ref()) {
            n.project = project;
        }
    }

    pub(super) fn quota(&self, path: &Path) -> Result<QuotaSeen> {
        let tree = self.tree(path)?;
        let (at, mount) = self.mount_of(path);
        let mut seen = QuotaSeen { size: mount.space.total, ..QuotaSeen::unlimited("", "") };
        let means = match &mount.limits {
            Limits::None if matches!(mount.fs_type.as_str(), "ext4" | "xfs") => {
                let why = format!("{} is mounted without project quota", at.display());
                return Ok(QuotaSeen::unlimited(why, "mount it with prjquota"));
            }
            Limits::None => {
                let why = format!("{}, the file system of {}, cannot limit a single directory", mount.fs_type, path.display());
                return Ok(QuotaSeen::unlimited(why, "put the share on another file system"));
            }
            Limits::Projects(_) => {
                let project = self.project_of(path);
                seen.project = Some(project);
                seen.taken = self.projects(at).into_iter().filter(|id| PROJECTS.contains(id)).collect();
                Means::Project { id: project.id }
            }
            Limits::Subvolumes(groups) if groups.contains_key(path) => {
                Means::Qgroup { filesystem: format!("{:036x}", mount.dev), subvolume: tree.ino }
            }
            Limits::Subvolumes(_) => {
                let why = format!("{} is a directory of btrfs and no subvolume", path.display());
                return Ok(QuotaSeen::unlimited(why, "btrfs subvolume create"));
            }
            Limits::Dataset { name, .. } if at == path => Means::Dataset { name: name.clone() },
            Limits::Dataset { name, .. } => {
                let why = format!("{} is a directory of the dataset {name}", path.display());
                return Ok(QuotaSeen::unlimited(why, "zfs create"));
            }
            Limits::Ceph(_) => Means::Ceph,
            Limits::Device(size) if at == path => {
                seen.size = *size;
                Means::Volume
            }
            Limits::Device(_) => {
                let why = format!("{} is mounted without project quota", at.display());
                return Ok(QuotaSeen::unlimited(why, "mount it with prjquota"));
            }
        };
        if !matches!(means, Means::Dataset { .. } | Means::Project { id: 0 }) {
            let now = self.figures(path, &means)?;
            seen.limit = (now.limit > 0).then_some(now.limit);
            seen.used = Some(now.used);
        }
        seen.users = match (&means, &mount.users) {
            (Means::Dataset { name }, Some(_)) => Ok(UserMeans::Dataset { name: name.clone() }),
            (_, Some(_)) if at == path => Ok(UserMeans::FileSystem),
            _ => seen.users,
        };
        seen.means = Ok(means);
        Ok(seen)
    }

    fn owned_by(&self, at: &Path, uid: u32) -> u64 {
        self.sum(at, |n| n.uid == uid).0
    }

    pub(super) fn user_figures(&self, path: &Path, uid: u32) -> Result<Figures> {
        self.tree(path)?;
        let (at, mount) = self.mount_of(path);
        let limits = mount.users.as_ref().ok_or_else(|| errno("ask for a user's quota on", path, libc::ESRCH))?;
        Ok(Figures { limit: limits.get(&uid).copied().unwrap_or(0), used: self.owned_by(at, uid), files: None })
    }

    pub(super) fn set_user_quota(&mut self, path: &Path, only: (u64, u64), uid: u32, limit: Option<u64>) -> Result<()> {
        let tree = self.tree(path)?;
        if (tree.fsid, tree.ino) != only {
            return Err(Error::new(Kind::Drift, format!("{} is another directory than it was a moment ago", path.display())));
        }
        let at = self.mount_of(path).0.to_owned();
        let Some(limits) = self.mount_mut(at).and_then(|m| m.users.as_mut()) else {
            return Err(errno("set a user's quota on", path, libc::ESRCH));
        };
        match limit {
            Some(l) => _ = limits.insert(uid, l.div_ceil(1024) << 10),
            None => _ = limits.remove(&uid),
        }
        Ok(())
    }

    /// Every project that a file of a mount is in, or that has a limit.
    fn projects(&self, at: &Path) -> BTreeSet<u32> {
        let mut ids: BTreeSet<u32> = match &self.mount_of(at).1.limits {
            Limits::Projects(limits) => limits.keys().copied().collect(),
            _ => BTreeSet::new(),
        };
        ids.extend(self.nodes.iter().filter(|(p, _)| self.mount_of(p).0 == at).map(|(_, n)| n.project.id));
        ids
    }

    pub(super) fn figures(&self, path: &Path, means: &Means) -> Result<Figures> {
        self.tree(path)?;
        let (at, mount) = self.mount_of(path);
        let wrong = || errno("ask for the quota of", path, libc::ESRCH);
        Ok(match (means, &mount.limits) {
            (Means::Project { id }, Limits::Projects(limits)) => {
                let (used, files) = self.sum(at, |n| n.project.id == *id);
                Figures { limit: limits.get(id).copied().unwrap_or(0), used, files: Some(files) }
            }
            (Means::Qgroup { .. }, Limits::Subvolumes(groups)) => {
                let limit = groups.get(path).ok_or_else(wrong)?.unwrap_or(0);
                Figures { limit, used: self.sum(path, |_| true).0, files: None }
            }
            (Means::Dataset { .. }, Limits::Dataset { .. }) => {
                Figures { limit: 0, used: self.sum(path, |_| true).0, files: None }
            }
            (Means::Ceph, Limits::Ceph(limits)) => {
                let (used, files) = self.sum(path, |_| true);
                Figures { limit: limits.get(path).copied().unwrap_or(0), used, files: Some(files) }
            }
            (Means::Volume, Limits::Device(_)) => Figures { limit: mount.space.total, used: mount.space.used, files: None },
            _ => return Err(wrong()),
        })
    }

    pub(super) fn set_quota(&mut self, path: &Path, only: (u64, u64), means: &Means, limit: Option<u64>) -> Result<()> {
        let tree = self.tree(path)?;
        if (tree.fsid, tree.ino) != only {
            return Err(Error::new(Kind::Drift, format!("{} is another directory than it was a moment ago", path.display())));
        }
        if tree.read_only {
            return Err(errno("set the quota of", path, libc::EROFS));
        }
        let at = self.mount_of(path).0.to_owned();
        let Some(mount) = self.mount_mut(at) else { return Err(errno("set the quota of", path, libc::ESRCH)) };
        match (means, &mut mount.limits, limit) {
            (Means::Project { id }, Limits::Projects(limits), Some(l)) if *id != 0 => {
                _ = limits.insert(*id, l.div_ceil(1024) << 10)
            }
            (Means::Project { id }, Limits::Projects(limits), None) if *id != 0 => _ = limits.remove(id),
            (Means::Qgroup { .. }, Limits::Subvolumes(groups), l) if groups.contains_key(path) => {
                groups.insert(path.to_owned(), l);
            }
            (Means::Ceph, Limits::Ceph(limits), Some(l)) => _ = limits.insert(path.to_owned(), l),
            (Means::Ceph, Limits::Ceph(limits), None) => _ = limits.remove(path),
            _ => return Err(errno("set the quota of", path, libc::ESRCH)),
        }
        Ok(())
    }

    /// A walk begins: the root gets its number first, or loses what others inherit.
    pub(super) fn begin_tag(&mut self, path: &Path, only: (u64, u64), tag: &Tag) -> Result<()> {
        let tree = self.tree(path)?;
        if (tree.fsid, tree.ino) != only {
            return Err(Error::new(Kind::Drift, format!("{} is another directory than it was a moment ago", path.display())));
        }
        if let Some(n) = self.nodes.get_mut(path) {
            if !tag.back {
                n.project = tag.to;
            } else if n.project.id == tag.from.id {
                n.project.inherit = false;
            }
        }
        Ok(())
    }

    /// The n-th entry, the root as the last; `None`: there are no more. Whether it was changed.
    pub(super) fn tag_one(&mut self, path: &Path, tag: &Tag, n: usize) -> Result<Option<bool>> {
        let at = self.mount_of(path).0.to_owned();
        let mut below: Vec<PathBuf> =
            self.nodes.keys().filter(|p| p.starts_with(path) && *p != path && self.mount_of(p).0 == at).cloned().collect();
        below.push(path.to_owned());
        let Some(p) = below.get(n) else { return Ok(None) };
        let Some(node) = self.nodes.get_mut(p) else { return Ok(Some(false)) };
        let (now, to) = (node.project, tag.to);
        if now.id != to.id && now.id != tag.from.id {
            if tag.back {
                return Ok(Some(false));
            }
            let why = format!("{} belongs to project {}, which somebody else limits", p.display(), now.id);
            return Err(Error::new(Kind::Conflict, why).remedy("chattr -R -p"));
        }
        node.project = Project { id: to.id, inherit: to.inherit && matches!(node.thing, Thing::Dir) };
        Ok(Some(node.project != now))
    }

    /// Whether a file system has no room for a file any more, because of the limit of the directory that it is made in.
    pub(super) fn is_full(&self, path: &Path, more: u64, uid: u32) -> bool {
        let (at, mount) = self.mount_of(path);
        if mount.users.as_ref().and_then(|u| u.get(&uid)).is_some_and(|l| self.owned_by(at, uid) + more > *l) {
            return true;
        }
        let over = |limit: u64, used: u64| used + more > limit;
        match &mount.limits {
            Limits::Projects(limits) => {
                let project = path.parent().map(|p| self.project_of(p)).unwrap_or_default();
                let used = self.sum(at, |n| n.project.id == project.id).0;
                project.inherit && limits.get(&project.id).is_some_and(|l| over(*l, used))
            }
            Limits::Subvolumes(groups) => {
                let near = groups.iter().filter(|(p, _)| path.starts_with(p)).max_by_key(|(p, _)| p.components().count());
                near.is_some_and(|(p, l)| l.is_some_and(|l| over(l, self.sum(p, |_| true).0)))
            }
            Limits::Dataset { refquota, .. } => refquota.is_some_and(|l| over(l, self.sum(at, |_| true).0)),
            Limits::Ceph(limits) => limits.iter().any(|(p, l)| path.starts_with(p) && over(*l, self.sum(p, |_| true).0)),
            Limits::None | Limits::Device(_) => false,
        }
    }
}

/// `zfs get` and `zfs set` of a dataset's `refquota`.
pub fn zfs(m: &mut Machine, args: &[String]) -> Said {
    let word = |n: usize| args.get(n).map_or("", String::as_str);
    let files = &mut m.world.files;
    let named = |files: &Files, name: &str| {
        let found = files.datasets().find(|(_, n)| n == name).map(|(p, _)| p);
        found.ok_or_else(|| Said::err(1, format!("cannot open '{name}': dataset does not exist\n")))
    };
    match (word(0), args.get(4..)) {
        // zfs get -Hp -o name,property,value PROPERTIES NAME…
        ("get", Some([properties, names @ ..])) if args[1..4] == ["-Hp", "-o", "name,property,value"] => {
            let mut out = String::new();
            for name in names {
                let (at, limit, used) = match named(files, name) {
                    Ok(at) => (Some(at.clone()), files.refquota(&at), files.sum(&at, |_| true).0),
                    // The pool itself.
                    Err(_) if !name.contains('/') => (None, None, 40 << 30),
                    Err(said) => return said,
                };
                let of_user = |property: &str, prefix: &str| {
                    let uid = property.strip_prefix(prefix)?.parse::<u32>().ok()?;
                    let figures = files.user_figures(at.as_ref()?, uid).ok()?;
                    Some(if prefix.starts_with("userquota") { figures.limit } else { figures.used })
                };
                for property in properties.split(',') {
                    let value = match property {
                        "refquota" => limit.unwrap_or(0),
                        "referenced" | "used" => used,
                        "available" => limit.map_or(60 << 30, |l: u64| l.saturating_sub(used)),
                        p if of_user(p, "userquota@").is_some() => of_user(p, "userquota@").unwrap_or(0),
                        p if of_user(p, "userused@").is_some() => of_user(p, "userused@").unwrap_or(0),
                        other => return Said::err(2, format!("bad property list: invalid property '{other}'\n")),
                    };
                    out += &format!("{name}\t{property}\t{value}\n");
                }
            }
            Said::ok(out)
        }
        ("set", _) => {
            let (Some((property, value)), name) = (word(1).split_once('='), word(2)) else {
                return Said::err(2, "missing property=value argument(s)\n");
            };
            if let (Some(Ok(uid)), Ok(at)) = (property.strip_prefix("userquota@").map(str::parse), named(files, name)) {
                let limits = files.mount_mut(&at).and_then(|m| m.users.as_mut());
                match (limits, value.parse::<u64>().ok().filter(|l| *l > 0)) {
                    (Some(limits), Some(l)) => _ = limits.insert(uid, l),
                    (Some(limits), None) => _ = limits.remove(&uid),
                    (None, _) => return Said::err(1, format!("cannot set property for '{name}': out of space\n")),
                }
                return Said::ok("");
            }
            if property != "refquota" {
                return Said::err(2, format!("cannot set property for '{name}': invalid property '{property}'\n"));
            }
            let at = match named(files, name) {
                Ok(at) => at,
                Err(said) => return said,
            };
            let limit = value.parse::<u64>().ok().filter(|l| *l > 0);
            let used = files.sum(&at, |_| true).0;
            if limit.is_some_and(|l| l < used) {
                let why = "size is less than current used or reserved space";
                return Said::err(1, format!("cannot set property for '{name}': {why}\n"));
            }
            files.set_refquota(&at, limit);
            Said::ok("")
        }
        _ => Said::err(2, "missing command or options\n"),
    }
}

impl Files {
    fn datasets(&self) -> impl Iterator<Item = (PathBuf, String)> {
        self.mounts.iter().filter_map(|(p, m)| match &m.limits {
            Limits::Dataset { name, .. } => Some((p.clone(), name.clone())),
            _ => None,
        })
    }

    fn refquota(&self, at: &Path) -> Option<u64> {
        match &self.mounts.get(at)?.limits {
            Limits::Dataset { refquota, .. } => *refquota,
            _ => None,
        }
    }

    fn set_refquota(&mut self, at: &Path, limit: Option<u64>) {
        if let Some(Limits::Dataset { refquota, .. }) = self.mounts.get_mut(at).map(|m| &mut m.limits) {
            *refquota = limit;
        }
    }
}
