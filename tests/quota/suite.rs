// SPDX-License-Identifier: MIT OR Apache-2.0
//! What every mechanism that limits a tree has to do, on the real file systems that `SMBGW_QUOTA_TREES` names: `NAME=DIRECTORY`, separated by blanks.
//! The name says what is there: `ext4`, `xfs`, `btrfs`, `zfs`, `ceph`; with `-off` it is switched off, with `-sub` no tree of its own. It
//! runs as root, inside emulated machines and namespaces too, so it is built without shared libraries and prints TAP. It knows `Host` and
//! effects, and must not need Samba.
#![allow(clippy::disallowed_methods)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use smbgw_core::effect::Place;
use smbgw_core::error::{Error, Kind, chain};
use smbgw_core::facts::Paths;
use smbgw_core::gateway::{Context, Options};
use smbgw_core::host::real::{RealHost, disk_free};
use smbgw_core::host::{Host, Machines};
use smbgw_core::observe;
use smbgw_core::plan::step::{Seen, Watch};
use smbgw_core::quota::{Means, PROJECTS, Project, Tag};
use smbgw_core::run::act::{Acting, Step as Acted, Tools};
use smbgw_core::spec::Mode;

const MIB: u64 = 1 << 20;

thread_local! {
    static RESULTS: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
}

/// One result, in TAP.
fn ok(good: bool, what: &str) -> bool {
    let (n, bad) = RESULTS.get();
    RESULTS.set((n + 1, bad + u32::from(!good)));
    println!("{}ok {} - {what}", if good { "" } else { "not " }, n + 1);
    good
}

fn same<T: PartialEq + std::fmt::Debug>(is: T, wanted: T, what: &str) {
    if !ok(is == wanted, what) {
        println!("#      is: {is:?}\n#  wanted: {wanted:?}");
    }
}

/// Within a tenth or 64 KiB: directories and metadata count differently everywhere.
fn near(is: u64, wanted: u64, what: &str) {
    if !ok(is.abs_diff(wanted) <= (wanted / 10).max(64 << 10), what) {
        println!("#      is: {is}\n#  wanted: about {wanted}");
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    if let [_, word, path, bytes] = &args[..] {
        if word == "--write" {
            return fill(Path::new(path), bytes.parse().unwrap_or(0));
        }
        if word == "--lease" {
            return hold(Path::new(path), bytes.parse().unwrap_or(1));
        }
        if word == "--time" {
            return time(path, bytes.parse().unwrap_or(1));
        }
    }
    let trees = std::env::var("SMBGW_QUOTA_TREES").unwrap_or_default();
    for pair in trees.split_whitespace() {
        let Some((name, path)) = pair.split_once('=') else { continue };
        let tree = Tree { name: name.to_owned(), path: path.into(), host: RealHost::new() };
        println!("# {name}");
        let tested = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match name {
            "ext4" | "xfs" => tree.project(),
            "btrfs" | "ceph" => tree.whole(),
            "zfs" => {
                tree.whole();
                tree.users();
            }
            "ext4-users" => tree.users(),
            "ext4-off" | "xfs-off" => {
                tree.volume();
                tree.refused(&tree.dir("sub"));
            }
            "xfs-ids" => tree.ids(),
            "btrfs-off" | "btrfs-sub" | "btrfs-squota" | "zfs-sub" | "tmpfs-off" => tree.refused(&tree.path),
            other => _ = ok(false, &format!("nobody knows what to test on {other}")),
        }));
        ok(tested.is_ok(), &format!("{name}: the tests came to their end"));
    }
    let (n, bad) = RESULTS.get();
    println!("1..{n}");
    if n > 0 && bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes until it is done or the file system says no; the error's number is the exit status.
fn fill(path: &Path, bytes: u64) -> ExitCode {
    let block = vec![7_u8; 64 << 10];
    let written = File::options().create(true).append(true).open(path).and_then(|mut f| {
        let mut left = bytes;
        while left > 0 {
            let n = left.min(block.len() as u64);
            f.write_all(&block[..usize::try_from(n).unwrap_or(0)])?;
            left -= n;
        }
        f.sync_all()
    });
    let code = written.err().map_or(0, |e| e.raw_os_error().unwrap_or(255));
    ExitCode::from(u8::try_from(code).unwrap_or(255))
}

/// Holds a file by a write lease (fcntl(2), F_SETLEASE) for so many seconds, whoever wants to open it.
fn hold(path: &Path, seconds: u64) -> ExitCode {
    use std::os::fd::AsRawFd;
    let Ok(file) = File::options().read(true).write(true).open(path) else { return ExitCode::FAILURE };
    // SAFETY: no pointers; the descriptor is open. The signal that asks for the lease must not end us.
    let held = unsafe {
        libc::signal(libc::SIGIO, libc::SIG_IGN);
        libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) == 0
    };
    std::thread::sleep(Duration::from_secs(seconds));
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How long a look at the use of a share takes, in nanoseconds: for benches/table.
fn time(id: &str, count: u32) -> ExitCode {
    let context = step(Context::new(Options::default()));
    let begin = Instant::now();
    for _ in 0..count {
        if !step(context.usage(id)).active {
            return ExitCode::FAILURE;
        }
    }
    println!("{}", begin.elapsed().as_nanos() / u128::from(count));
    ExitCode::SUCCESS
}

struct Tree {
    name: String,
    path: PathBuf,
    host: RealHost,
}

fn step<T>(result: Result<T, Error>) -> T {
    result.unwrap_or_else(|e| panic!("{} {:?}", chain(&e), e.remedy_text()))
}

impl Tree {
    fn says(&self, what: &str) -> String {
        format!("{}: {what}", self.name)
    }

    /// Somebody writes; 0, or the number of the error.
    fn writes(&self, uid: u32, file: &Path, bytes: u64) -> i32 {
        let own = std::env::current_exe().expect("our own path");
        let mut command = Command::new(own);
        command.args(["--write", &file.display().to_string(), &bytes.to_string()]).uid(uid).gid(uid);
        command.status().expect("it starts").code().unwrap_or(-1)
    }

    fn is_full(code: i32) -> bool {
        matches!(code, libc::EDQUOT | libc::ENOSPC)
    }

    fn seen(&self, path: &Path) -> smbgw_core::quota::QuotaSeen {
        step(self.host.quota(path))
    }

    fn set(&self, path: &Path, means: &Means, limit: Option<u64>) {
        let t = step(self.host.tree(path));
        // As a step of a plan does it, ZFS through its program.
        let effect = smbgw_core::plan::step::Effect::SetQuota {
            path: path.to_owned(),
            fsid: t.fsid,
            ino: t.ino,
            means: means.clone(),
            limit,
        };
        step(self.acts(&effect));
    }

    fn acts(&self, effect: &smbgw_core::plan::step::Effect) -> Result<(), Error> {
        let machines = Machines::new(Rc::new(RealHost::new()));
        let (paths, secrets) = (paths(), Default::default());
        let tools = Tools { machines: &machines, host: machines.at(Place::Node), node: "test", paths: &paths, secrets: &secrets };
        let mut acting = Acting::begin(&tools, effect)?;
        while acting.poll(&tools)? != Acted::Finished {}
        Ok(())
    }

    /// The limit as a step sees it.
    fn limit(&self, path: &Path, means: &Means) -> Option<u64> {
        let machines = Machines::new(Rc::new(RealHost::new()));
        match observe::see(&machines, Place::Node, &paths(), &Watch::Quota(path.to_owned(), means.clone()), false) {
            Ok(Seen::Limit { bytes, .. }) => bytes,
            other => panic!("{other:?}"),
        }
    }

    /// What counts, when the file system has got round to it.
    fn used(&self, path: &Path, means: &Means, wanted: u64) -> u64 {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            self.settle();
            let used = step(self.host.figures(path, means)).used;
            if used.abs_diff(wanted) <= (wanted / 10).max(64 << 10) || Instant::now() > until {
                return used;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What was written is on the disk.
    fn settle(&self) {
        if let Ok(f) = File::open(&self.path) {
            use std::os::fd::AsRawFd;
            // SAFETY: the descriptor is open.
            unsafe { libc::syncfs(f.as_raw_fd()) };
        }
    }

    fn dir(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        fs::create_dir(&path).expect("a directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("its mode");
        path
    }

    fn project_at(&self, path: &Path) -> Project {
        self.seen(path).project.expect("files have a project here")
    }

    fn tag(&self, path: &Path, tag: Tag) -> Result<u64, Error> {
        let t = step(self.host.tree(path));
        let mut walk = self.host.tag(path, t.fsid, t.ino, &tag)?;
        loop {
            // The smallest budget: it has to come to its end in slices, too.
            if let Some(changed) = walk.go(Duration::ZERO)? {
                return Ok(changed);
            }
        }
    }

    /// The part that all mechanisms share: `path` is a tree that `means` limits, empty at first.
    fn limited(&self, path: &Path, means: &Means, beside: &Path) {
        let (limit, anna) = (8 * MIB, 1000);
        same(self.limit(path, means), None, &self.says("no limit at first"));
        self.set(path, means, Some(limit));
        same(self.limit(path, means), Some(limit), &self.says("the limit is as set"));
        same(self.writes(anna, &path.join("a"), 3 * MIB), 0, &self.says("a user writes below the limit"));
        near(self.used(path, means, 3 * MIB), 3 * MIB, &self.says("and it counts"));
        let mut total = 3 * MIB;
        if !matches!(means, Means::Ceph) {
            let code = self.writes(anna, &path.join("b"), 20 * MIB);
            ok(Self::is_full(code), &self.says(&format!("more than the limit ends with an error ({code})")));
            let b = fs::metadata(path.join("b")).map_or(0, |m| m.len());
            near(3 * MIB + b, limit, &self.says("at the limit"));
            total += b;
        } else {
            // Enforced by the client when it has heard of what counts.
            let mut code = 0;
            for _ in 0..40 {
                code = self.writes(anna, &path.join("b"), MIB);
                if code != 0 {
                    break;
                }
                std::thread::sleep(Duration::from_millis(500));
            }
            same(code, libc::EDQUOT, &self.says("more than the limit ends with EDQUOT"));
            total += fs::metadata(path.join("b")).map_or(0, |m| m.len());
            ok(total < 2 * limit, &self.says(&format!("not far above the limit ({total} of {limit})")));
        }
        same(self.writes(anna, beside, 12 * MIB), 0, &self.says("nothing else is limited"));
        let root = self.writes(0, &path.join("root"), MIB);
        // ext4 lets CAP_SYS_RESOURCE pass.
        let bypass = self.name == "ext4";
        ok(if bypass { root == 0 } else { Self::is_full(root) }, &self.says(&format!("root writes into a full tree: {root}")));
        if bypass {
            total += MIB;
        }

        let (size, free) = disk_free(path).expect("figures for a client");
        near(size, limit, &self.says("a client is told the limit as the size"));
        ok(free <= 512 << 10, &self.says(&format!("and no room ({free})")));
        let shown = step(self.host.space(path)).total;
        let in_statfs = shown.abs_diff(limit) <= limit / 10;
        same(in_statfs, means.shows_in_statfs(), &self.says("statfs shows the limit where that is said"));
        near(self.used(path, means, total), total, &self.says("what is used when it is full"));

        if matches!(means, Means::Dataset { .. }) {
            let t = step(self.host.tree(path));
            let effect = smbgw_core::plan::step::Effect::SetQuota {
                path: path.to_owned(),
                fsid: t.fsid,
                ino: t.ino,
                means: means.clone(),
                limit: Some(4 * MIB),
            };
            let said = self.acts(&effect).map_err(|e| chain(&e));
            ok(
                said.as_ref().is_err_and(|s| s.contains("less than current used")),
                &self.says(&format!("ZFS refuses a limit below what is used: {said:?}")),
            );
            same(self.limit(path, means), Some(limit), &self.says("and the limit stays"));
        } else {
            self.set(path, means, Some(4 * MIB));
            same(self.limit(path, means), Some(4 * MIB), &self.says("a limit below what is used is taken"));
            let code = self.writes(anna, &path.join("c"), 2 * MIB);
            ok(Self::is_full(code), &self.says(&format!("and nobody can write ({code})")));
            self.set(path, means, Some(2 * limit));
            same(self.limit(path, means), Some(2 * limit), &self.says("and can be raised although the tree is over it"));
            self.set(path, means, Some(4 * MIB));
        }
        fs::remove_file(path.join("b")).expect("it can be deleted although it is full");
        let _ = fs::remove_file(path.join("c"));
        let _ = fs::remove_file(path.join("root"));
        near(self.used(path, means, 3 * MIB), 3 * MIB, &self.says("what was deleted does not count any more"));
        self.set(path, means, Some(24 * MIB));
        same(self.writes(anna, &path.join("b"), 9 * MIB), 0, &self.says("a larger limit lets in more"));
        self.set(path, means, None);
        same(self.limit(path, means), None, &self.says("the limit is lifted"));
        same(self.writes(anna, &path.join("b"), 20 * MIB), 0, &self.says("and nothing limits any more"));

        let t = step(self.host.tree(path));
        let e = self.host.set_quota(path, t.fsid, t.ino + 1, means, Some(limit));
        same(e.map_err(|e| e.kind()), Err(Kind::Drift), &self.says("another tree at the same path is left alone"));
        for file in ["a", "b"] {
            fs::remove_file(path.join(file)).expect("removed");
        }
        fs::remove_file(beside).expect("removed");
    }

    fn whole(&self) {
        let seen = self.seen(&self.path);
        let Ok(means) = seen.means.clone() else { panic!("{:?}", seen.means) };
        same(
            means.name(),
            match self.name.as_str() {
                "btrfs" => "qgroup",
                "ceph" => "cephfs",
                _ => "refquota",
            },
            &self.says("by its own means"),
        );
        let beside = match self.name.as_str() {
            // The tree is a subvolume or dataset; its neighbour lies above it.
            "btrfs" => self.path.parent().expect("a parent").join("beside"),
            "ceph" => self.path.join("beside"),
            _ => self.path.parent().expect("a parent").join("beside"),
        };
        let tree = if self.name == "ceph" { self.dir("office") } else { self.path.clone() };
        fs::set_permissions(&tree, fs::Permissions::from_mode(0o777)).expect("its mode");
        if let Some(parent) = beside.parent() {
            fs::set_permissions(parent, fs::Permissions::from_mode(0o777)).expect("its mode");
        }
        self.limited(&tree, &means, &beside);
        if self.name == "ceph" {
            self.set(&tree, &means, Some(1));
            same(self.limit(&tree, &means), Some(1), &self.says("any number of bytes is taken"));
            fs::remove_dir(&tree).expect("removed");
        }
    }

    fn refused(&self, path: &Path) {
        let seen = self.seen(path);
        let why = seen.means.expect_err("nothing limits this tree");
        println!("# {why}");
        let words: &[&str] = match self.name.as_str() {
            "ext4-off" => &["without project quota", "tune2fs -O project,quota -Q prjquota", "/etc/fstab"],
            "xfs-off" => &["without project quota", "prjquota", "umount"],
            "btrfs-sub" => &["no subvolume", "btrfs subvolume create"],
            "btrfs-off" => &["not enabled", "btrfs quota enable"],
            "btrfs-squota" => &["squota", "btrfs quota disable"],
            "zfs-sub" => &["only datasets", "zfs create"],
            "tmpfs-off" => &["tmpfs", "cannot limit"],
            other => panic!("nobody knows what {other} should say"),
        };
        for w in words {
            ok(why.to_string().contains(w), &self.says(&format!("says {w:?}")));
        }
    }

    /// What single users may own.
    fn users(&self) {
        let seen = self.seen(&self.path);
        let Ok(means) = seen.users else { panic!("{:?}", seen.users) };
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o777)).expect("its mode");
        let (anna, ben, limit) = (1000, 1001, 4 * MIB);
        let watch = Watch::UserQuota(self.path.clone(), means.clone(), anna);
        let machines = Machines::new(Rc::new(RealHost::new()));
        let limited = || match observe::see(&machines, Place::Node, &paths(), &watch, false) {
            Ok(Seen::Limit { bytes, .. }) => bytes,
            other => panic!("{other:?}"),
        };
        if self.name == "zfs" {
            // What was deleted a moment ago still counts for its owner.
            self.settle();
            std::thread::sleep(Duration::from_secs(6));
        }
        let t = step(self.host.tree(&self.path));
        let set = |limit| {
            let effect = smbgw_core::plan::step::Effect::SetUserQuota {
                path: self.path.clone(),
                fsid: t.fsid,
                ino: t.ino,
                means: means.clone(),
                uid: anna,
                limit,
            };
            step(self.acts(&effect));
        };
        same(limited(), None, &self.says("no limit of a user at first"));
        set(Some(limit));
        same(limited(), Some(limit), &self.says("a user is limited"));
        same(self.writes(anna, &self.path.join("anna"), 2 * MIB), 0, &self.says("and writes below that"));
        // ZFS counts what users own when it writes.
        self.settle();
        std::thread::sleep(Duration::from_millis(if self.name == "zfs" { 6000 } else { 0 }));
        let mut code = self.writes(anna, &self.path.join("anna2"), 8 * MIB);
        if self.name == "zfs" && code == 0 {
            std::thread::sleep(Duration::from_secs(6));
            code = self.writes(anna, &self.path.join("anna3"), MIB);
        }
        ok(Self::is_full(code), &self.says(&format!("not above it ({code})")));
        same(self.writes(ben, &self.path.join("ben"), 8 * MIB), 0, &self.says("another user is not limited"));
        if self.name != "zfs" {
            let used = step(self.host.user_figures(&self.path, anna)).used;
            near(used, limit, &self.says("what the user owns is counted"));
        }
        set(None);
        same(limited(), None, &self.says("the limit of a user is lifted"));
        for name in ["anna", "anna2", "anna3", "ben"] {
            let _ = fs::remove_file(self.path.join(name));
        }
    }

    /// A file system that is the tree's alone, without project quota.
    fn volume(&self) {
        let seen = self.seen(&self.path);
        same(seen.means.as_ref().map(Means::name), Ok("volume"), &self.says("its size is the limit"));
        let total = step(self.host.space(&self.path)).total;
        same(seen.limit, Some(total), &self.says("as statfs tells it"));
        ok(seen.size >= total, &self.says(&format!("and the device is not smaller ({} {total})", seen.size)));
        ok(seen.notes.iter().any(|n| n.contains("prjquota")), &self.says("and what would allow less"));
    }

    /// Project ids alone, which XFS has without quota too: what cannot be opened gets one where the kernel can give it (`file_setattr`, Linux 6.17).
    fn ids(&self) {
        let office = self.dir("office");
        let deep = office.join("deep");
        fs::create_dir(&deep).expect("a directory");
        symlink("nowhere", deep.join("link")).expect("a symlink");
        drop(UnixListener::bind(deep.join("sock")));
        let fifo = std::ffi::CString::new(deep.join("fifo").display().to_string()).expect("no NUL");
        // SAFETY: the path is live.
        ok(unsafe { libc::mkfifo(fifo.as_ptr(), 0o644) } == 0, &self.says("a FIFO, which would hang who opens it"));
        let id = PROJECTS.start + 9;
        let forward = Tag { from: Project::NONE, to: Project::of(id), back: false };
        step(self.tag(&office, forward));
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mut parts = release.split('.').map(|p| p.parse::<u32>().unwrap_or(0));
        let new = (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (6, 17);
        for name in ["link", "sock", "fifo"] {
            let moved = fs::rename(deep.join(name), office.join(name)).map_err(|e| e.raw_os_error());
            let wanted = if new { Ok(()) } else { Err(Some(libc::EXDEV)) };
            same(moved, wanted, &self.says(&format!("a {name} can be renamed within the tree from Linux 6.17 on")));
        }
        same(step(self.tag(&office, forward)), 0, &self.says("again: nothing is left to do"));
        step(self.tag(&office, Tag { from: Project::of(id), to: Project::NONE, back: true }));
        let out = fs::rename(office.join("link"), self.path.join("link")).map_err(|e| e.raw_os_error());
        same(out, Ok(()), &self.says("given back, it can be moved out"));
        let _ = fs::remove_file(self.path.join("link"));
        fs::remove_dir_all(&office).expect("removed");
    }

    fn project(&self) {
        let (office, other) = (self.dir("office"), self.dir("other"));
        let seen = self.seen(&office);
        same(seen.means.clone(), Ok(Means::Project { id: 0 }), &self.says("project quota, not used yet"));
        same(seen.project, Some(Project::NONE), &self.says("no project yet"));
        ok(seen.size > 30 * MIB, &self.says(&format!("the size of the file system is known ({})", seen.size)));
        let id = PROJECTS.start + 7;
        let means = Means::Project { id };
        let forward = Tag { from: Project::NONE, to: Project::of(id), back: false };
        same(step(self.tag(&office, forward)), 1, &self.says("an empty tree is tagged"));
        same(self.project_at(&office), Project::of(id), &self.says("the root carries it"));
        self.limited(&office, &means, &other.join("beside"));
        ok(self.seen(&office).taken.contains(&id), &self.says("the number is known to be taken"));

        // Everything that a tree can hold.
        let back = Tag { from: Project::of(id), to: Project::NONE, back: true };
        same(self.tag(&office, back).is_ok(), true, &self.says("the tree is given back"));
        same(self.project_at(&office), Project::NONE, &self.says("to no project"));
        let deep = office.join("x/y/z");
        fs::create_dir_all(&deep).expect("directories");
        for (i, dir) in [&office, &office.join("x"), &deep].into_iter().enumerate() {
            fs::write(dir.join("file"), vec![1; 100 << 10]).expect("a file");
            symlink("file", dir.join("link")).expect("a symlink");
            fs::hard_link(dir.join("file"), self.path.join(format!("outside{i}"))).expect("a hard link");
            drop(UnixListener::bind(dir.join("sock")));
        }
        symlink(&other, office.join("away")).expect("a symlink");
        fs::write(other.join("file"), "other").expect("a file");
        // Cut short, begun anew.
        let t = step(self.host.tree(&office));
        let mut walk = step(self.host.tag(&office, t.fsid, t.ino, &forward));
        let _ = walk.go(Duration::ZERO);
        drop(walk);
        same(self.project_at(&office), Project::of(id), &self.says("a walk that was cut short is seen at the root"));
        step(self.tag(&office, forward));
        for dir in [&office.join("x"), &deep] {
            same(self.project_at(dir), Project::of(id), &self.says("directories inherit"));
        }
        near(self.used(&office, &means, 300 << 10), 300 << 10, &self.says("existing files count, each once"));
        same(self.project_at(&other), Project::NONE, &self.says("no symlink is followed"));
        same(step(self.tag(&office, forward)), 0, &self.says("again: nothing is left to do"));
        fs::write(deep.join("new"), vec![1; 100 << 10]).expect("a file");
        near(self.used(&office, &means, 400 << 10), 400 << 10, &self.says("new files count"));
        let moved = fs::rename(other.join("file"), office.join("moved")).map_err(|e| e.raw_os_error());
        same(moved, Err(Some(libc::EXDEV)), &self.says("files are moved in by copying (EXDEV)"));
        same(fs::rename(deep.join("file"), office.join("renamed")).is_ok(), true, &self.says("within the tree by renaming"));
        // Symlinks and sockets: only Linux 6.17 and newer can give them a project.
        let special = fs::rename(deep.join("link"), office.join("renamed-link"));
        println!("# renaming a symlink within the tree: {special:?}");

        // As deep as a user can make it, more than a process may have descriptors; and a file that somebody holds by a lease.
        let mut very = office.clone();
        for _ in 0..900 {
            very.push("d");
        }
        fs::create_dir_all(&very).expect("a deep tree");
        fs::write(very.join("f"), "deep").expect("a file");
        let own = std::env::current_exe().expect("our own path");
        let mut holder = Command::new(own);
        let mut holder = holder.args(["--lease", &deep.join("new").display().to_string(), "2"]).spawn().expect("it starts");
        std::thread::sleep(Duration::from_millis(500));
        step(self.tag(&office, back));
        same(holder.wait().map(|s| s.success()).ok(), Some(true), &self.says("somebody held a file by a lease"));
        same(self.project_at(&deep), Project::NONE, &self.says("and the tree is given back"));
        step(self.tag(&office, forward));
        same(self.project_at(&very), Project::of(id), &self.says("as deep as it is"));
        self.set(&office, &means, Some(means.whole(9_000_001)));
        same(self.limit(&office, &means), Some(means.whole(9_000_001)), &self.says("a limit that is no round number"));
        self.set(&office, &means, None);

        // Somebody else's project inside.
        let inner = office.join("x/theirs");
        step(self.tag(&office, back));
        fs::create_dir(&inner).expect("a directory");
        fs::write(inner.join("file"), "theirs").expect("a file");
        step(self.tag(&inner, Tag { from: Project::NONE, to: Project::of(4711), back: false }));
        let e = self.tag(&office, forward).expect_err("somebody else's");
        same(e.kind(), Kind::Conflict, &self.says("a project inside is somebody's"));
        ok(e.to_string().contains("4711") && e.to_string().contains("theirs"), &self.says(&e.to_string()));
        step(self.tag(&office, back));
        same(self.project_at(&inner), Project::of(4711), &self.says("and stays when the tree is given back"));
        same(self.project_at(&office.join("x")), Project::NONE, &self.says("what had none has none"));

        // A tree that was in a project before us.
        let before = Project { id: 99, inherit: true };
        fs::remove_dir_all(&inner).expect("removed");
        step(self.tag(&office, Tag { from: Project::NONE, to: before, back: false }));
        let ours = Tag { from: before, to: Project::of(id), back: false };
        step(self.tag(&office, ours));
        same(self.project_at(&deep), Project::of(id), &self.says("a tree of another project is taken over"));
        step(self.tag(&office, Tag { from: Project::of(id), to: before, back: true }));
        same(self.project_at(&deep), before, &self.says("and given back to it"));
        let t = step(self.host.tree(&office));
        let e = self.host.tag(&office, t.fsid, t.ino + 1, &forward).map(|_| ()).map_err(|e| e.kind());
        same(e, Err(Kind::Drift), &self.says("another tree is left alone"));
        let at = fs::metadata(&office).expect("there");
        ok(at.ino() == t.ino, &self.says("and this one is still the same"));
        for i in 0..3 {
            let _ = fs::remove_file(self.path.join(format!("outside{i}")));
        }
        fs::remove_dir_all(&office).expect("removed");
        fs::remove_dir_all(&other).expect("removed");
    }
}

fn paths() -> Paths {
    let text: BTreeMap<&str, Value> = BTreeMap::from([
        ("smb-conf", json!("/etc/samba/smb.conf")),
        ("own-conf", json!("/etc/samba/smbgw.conf")),
        ("run-dir", json!("/run/smbgw")),
        ("lock-dir", json!("/run/smbgw/lock")),
        ("state-dir", json!("/var/lib/smbgw")),
        ("record-file", json!("/var/lib/smbgw/gateways/native@test.json")),
        ("gateway", json!("native")),
        ("mode", json!(Mode::Native)),
    ]);
    serde_json::from_value(json!(text)).expect("paths")
}
