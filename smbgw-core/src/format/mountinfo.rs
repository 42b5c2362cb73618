// SPDX-License-Identifier: MIT OR Apache-2.0
//! /proc/self/mountinfo (proc(5)): what is mounted, and on which mount a path lies. It must not look at the machine: the path
//! has to be canonical already.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Id of the mount.
    pub id: u32,
    /// Id of the mount it is mounted on; the root's is not in the list, or its own.
    pub parent: u32,
    /// Device number as `st_dev` shows it: major.
    pub major: u32,
    /// Device number: minor.
    pub minor: u32,
    /// Which directory of the file system is mounted; not `/` for bind mounts and btrfs subvolumes.
    pub root: PathBuf,
    /// Where.
    pub mount_point: PathBuf,
    /// Options of this mount (`rw,noexec`).
    pub options: Vec<String>,
    /// Tags such as `shared:1`.
    pub optional: Vec<String>,
    /// File system type, with subtype (`ext4`, `fuse.sshfs`).
    pub fstype: String,
    /// Source: device, `server:/path`, dataset.
    pub source: String,
    /// Options of the file system (`rw,prjquota`).
    pub super_options: Vec<String>,
}

impl Mount {
    /// Whether an option is set, of the mount or of the file system.
    pub fn has_option(&self, option: &str) -> bool {
        self.options.iter().chain(&self.super_options).any(|o| o == option)
    }

    /// Whether nothing can be written through it.
    pub fn is_read_only(&self) -> bool {
        self.has_option("ro")
    }
}

/// `\040` and its like back to bytes; other backslashes stay.
fn unescape(text: &str) -> Vec<u8> {
    let b = text.as_bytes();
    let mut out = Vec::with_capacity(b.len());
    let mut i = 0;
    while i < b.len() {
        let value = match b.get(i..i + 4) {
            Some([b'\\', x @ b'0'..=b'3', y @ b'0'..=b'7', z @ b'0'..=b'7']) => {
                Some((x - b'0') * 64 + (y - b'0') * 8 + (z - b'0'))
            }
            _ => None,
        };
        match value {
            Some(v) => {
                out.push(v);
                i += 4;
            }
            None => {
                out.push(b[i]);
                i += 1;
            }
        }
    }
    out
}

fn path(text: &str) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(text)))
}

fn word(text: &str) -> String {
    String::from_utf8_lossy(&unescape(text)).into_owned()
}

fn options(text: &str) -> Vec<String> {
    text.split(',').filter(|o| !o.is_empty()).map(word).collect()
}

fn mount(line: &str) -> Option<Mount> {
    let mut f = line.split(' ');
    let id = f.next()?.parse().ok()?;
    let parent = f.next()?.parse().ok()?;
    let (major, minor) = f.next()?.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    let root = path(f.next()?);
    let mount_point = path(f.next()?);
    let own = options(f.next()?);
    let mut optional = Vec::new();
    loop {
        match f.next()? {
            "-" => break,
            tag => optional.push(word(tag)),
        }
    }
    let fstype = word(f.next()?);
    // The source may be empty; then there are two blanks.
    let source = word(f.next()?);
    let super_options = options(f.next().unwrap_or_default());
    Some(Mount { id, parent, major, minor, root, mount_point, options: own, optional, fstype, source, super_options })
}

/// Reads the file, in its order (later mounts later). Lines that make no sense are left out.
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(mount).collect()
}

/// The mount on which a canonical absolute path lies.
///
/// Follows the mounts as the kernel does: from the root along the path, onto whatever is mounted on the way, the last one
/// where several are stacked. So a mount that a later one on a parent directory hides is not found. Without a root in the
/// list (a chroot) the longest mount point that is a prefix by components counts, and the last one of these.
pub fn mount_of<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    if !path.is_absolute() {
        return None;
    }
    let on_the_way = |m: &&Mount| path.starts_with(&m.mount_point);
    let length = |m: &Mount| m.mount_point.components().count();
    let listed = |id: u32| mounts.iter().any(|m| m.id == id);
    let root = mounts.iter().rfind(|m| m.mount_point == Path::new("/") && (m.parent == m.id || !listed(m.parent)));
    let Some(mut current) = root else {
        return mounts.iter().filter(on_the_way).max_by_key(|m| length(m));
    };
    // A tree has no more steps than members; a forged list cannot make us walk for ever.
    for _ in 0..mounts.len() {
        let children = mounts.iter().filter(|m| m.parent == current.id && m.id != current.id);
        let beyond = children.filter(on_the_way).filter(|m| m.mount_point.starts_with(&current.mount_point));
        // Of equal ones the last: `min_by_key` gives the first, hence from the end.
        match beyond.rev().min_by_key(|m| length(m)) {
            Some(next) => current = next,
            None => break,
        }
    }
    Some(current)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
30 22 0:40 / /srv rw,relatime shared:5 master:2 - xfs /dev/sdb1 rw,prjquota
31 30 0:41 /@data /srv/a\\040b\\134c rw - btrfs /dev/sdc rw,subvol=/@data
32 22 0:42 / /mnt/x rw - nfs4 host:/e rw
33 22 0:43 / /mnt rw - tmpfs tmpfs ro
34 33 0:44 / /mnt/x/y rw - tmpfs  rw
35 22 0:45 / /dup rw - tmpfs one rw
36 35 0:46 / /dup rw - tmpfs two rw
bad line
37 22 0:47 / /cut rw
";

    fn at(path: &str) -> u32 {
        mount_of(&parse(TEXT), Path::new(path)).expect("there is a root").id
    }

    #[test]
    fn fields_and_escapes() {
        let all = parse(TEXT);
        assert_eq!(all.len(), 9);
        assert_eq!(all[3].mount_point, Path::new("/srv/a b\\c"));
        assert_eq!(all[3].root, Path::new("/@data"));
        assert_eq!((all[2].major, all[2].minor, all[2].fstype.as_str()), (0, 40, "xfs"));
        assert_eq!(all[2].optional, ["shared:5", "master:2"]);
        assert!(all[2].has_option("prjquota") && !all[2].is_read_only() && all[5].is_read_only());
        assert_eq!((all[6].source.as_str(), all[6].super_options.join(",")), ("", "rw".to_owned()));
        assert_eq!(unescape("\\04\\400\\0"), b"\\04\\400\\0");
    }

    #[test]
    fn the_mount_of_a_path() {
        assert_eq!(at("/"), 22);
        assert_eq!(at("/srvx"), 22);
        assert_eq!(at("/srv"), 30);
        assert_eq!(at("/srv/a"), 30);
        assert_eq!(at("/srv/a b\\c/d"), 31);
        // The tmpfs on /mnt came later and hides the NFS mount under it.
        assert_eq!(at("/mnt/x"), 33);
        assert_eq!(at("/mnt/x/y/z"), 34);
        assert_eq!(at("/dup/x"), 36);
        assert!(mount_of(&parse(TEXT), Path::new("srv")).is_none());
        assert!(mount_of(&[], Path::new("/")).is_none());
        let no_root: Vec<Mount> = parse(TEXT).into_iter().filter(|m| m.id != 22).collect();
        assert_eq!(mount_of(&no_root, Path::new("/srv/q")).map(|m| m.id), Some(30));
        assert_eq!(mount_of(&no_root, Path::new("/dup")).map(|m| m.id), Some(36));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>(), path in "/[a-c/]{0,8}", rows in proptest::collection::vec((0u32..6, 0u32..6, "(/|/a|/a/b|/c)"), 0..8)) {
            let _ = parse(&text);
            let text: String = rows.iter().map(|(i, p, m)| format!("{i} {p} 0:1 / {m} rw - t s rw\n")).collect();
            let mounts = parse(&text);
            prop_assert_eq!(mounts.len(), rows.len());
            if let Some(m) = mount_of(&mounts, Path::new(&path)) {
                prop_assert!(Path::new(&path).starts_with(&m.mount_point));
            }
        }
    }
}
