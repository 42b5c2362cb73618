// SPDX-License-Identifier: MIT OR Apache-2.0
//! The real host on real files, trees, locks and processes; as root and as anybody else. What needs a file system of its own
//! runs in a mount namespace of its own, and says so where that cannot be made. Children are tested in `src/host/real/tests.rs`.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::BufRead;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};
use smbgw_core::effect::{Cmd, FileSpec, Program};
use smbgw_core::error::{Error, Kind};
use smbgw_core::host::real::RealHost;
use smbgw_core::host::{Host, ProcessId, Secrets};

/// Set in a process of this test binary that was started by one of its tests.
const INNER: &str = "SMBGW_TEST_INNER";

/// A directory whose own path has no symlink in it; removed with everything in it.
struct Scratch {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().canonicalize().expect("canonical");
        Self { _dir: dir, path }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn spec(path: &Path, content: &str, mode: u32) -> FileSpec {
    let (uid, gid) = (Uid::effective().as_raw(), Gid::effective().as_raw());
    FileSpec { path: path.to_owned(), content: content.to_owned(), mode, uid, gid }
}

fn names(dir: &Path) -> Vec<String> {
    RealHost.list(dir).expect("can list")
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).expect("can be read")
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("is there").mode() & 0o7777
}

fn root() -> bool {
    Uid::effective().is_root()
}

fn kind<T>(r: Result<T, Error>) -> Kind {
    r.map(drop).expect_err("must fail").kind()
}

fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).expect("makes a FIFO");
}

// ------------------------------------------------------------------------------------------------------------------ files

#[test]
fn files_are_read_whole_or_not_at_all() {
    let s = Scratch::new();
    assert_eq!(RealHost.read(&s.at("absent"), 10).expect("no error"), None);
    fs::write(s.at("f"), b"12345\xff").expect("writes");
    chmod(&s.at("f"), 0o640);
    let seen = RealHost.read(&s.at("f"), 6).expect("reads").expect("there");
    assert_eq!((seen.content.as_slice(), seen.mode, seen.uid), (&b"12345\xff"[..], 0o640, Uid::effective().as_raw()));
    assert_eq!(kind(RealHost.read(&s.at("f"), 5)), Kind::Unsupported);
    symlink("f", s.at("link")).expect("link");
    assert_eq!(RealHost.read(&s.at("link"), 6).expect("follows"), Some(seen));
    symlink("nowhere", s.at("dangling")).expect("link");
    assert_eq!(RealHost.read(&s.at("dangling"), 6).expect("no error"), None);
    // A file of /proc says it is empty and is not.
    assert!(!RealHost.read(Path::new("/proc/self/stat"), 4096).expect("reads").expect("there").content.is_empty());
}

#[test]
fn what_is_no_regular_file_is_refused_and_never_hangs() {
    let s = Scratch::new();
    fifo(&s.at("fifo"));
    let _socket = std::os::unix::net::UnixListener::bind(s.at("socket")).expect("binds");
    fs::create_dir(s.at("dir")).expect("mkdir");
    for name in ["fifo", "socket", "dir"] {
        let path = s.at(name);
        assert_eq!(kind(RealHost.read(&path, 10)), Kind::Conflict, "{name}");
        assert_eq!(kind(RealHost.write(&spec(&path, "x", 0o600))), Kind::Conflict, "{name}");
        assert!(RealHost.append(&path, b"x").is_err(), "{name}");
    }
    assert_eq!(kind(RealHost.read(Path::new("/dev/null"), 10)), Kind::Conflict);
    assert_eq!(names(&s.path), ["dir", "fifo", "socket"]);
}

#[test]
fn a_write_replaces_and_leaves_nothing_else() {
    let s = Scratch::new();
    let f = s.at("f");
    RealHost.write(&spec(&f, "one", 0o644)).expect("writes");
    let first = fs::metadata(&f).expect("there");
    assert_eq!((mode(&f), text(&f).as_str()), (0o644, "one"));
    let old = fs::File::open(&f).expect("opens");
    RealHost.write(&spec(&f, "two", 0o600)).expect("replaces");
    assert_eq!(old.metadata().expect("open").ino(), first.ino(), "a reader keeps what it opened");
    assert_ne!(fs::metadata(&f).expect("there").ino(), first.ino());
    assert_eq!((mode(&f), text(&f).as_str()), (0o600, "two"));
    assert_eq!(names(&s.path), ["f"]);
    // As long as a name can be.
    RealHost.write(&spec(&s.at(&"n".repeat(255)), "x", 0o600)).expect("writes");
    assert_eq!(names(&s.path).len(), 2);
}

#[test]
fn a_write_through_a_symlink_keeps_the_link() {
    let s = Scratch::new();
    fs::create_dir(s.at("real")).expect("mkdir");
    fs::write(s.at("real/smb.conf"), "old").expect("writes");
    symlink("real/smb.conf", s.at("first")).expect("link");
    symlink(s.at("first"), s.at("second")).expect("link");
    RealHost.write(&spec(&s.at("second"), "new", 0o644)).expect("writes");
    assert_eq!(text(&s.at("real/smb.conf")), "new");
    assert!(s.at("second").is_symlink() && s.at("first").is_symlink());
    assert_eq!(names(&s.at("real")), ["smb.conf"]);
    symlink("real/made", s.at("dangling")).expect("link");
    RealHost.write(&spec(&s.at("dangling"), "made", 0o644)).expect("writes");
    assert_eq!(text(&s.at("real/made")), "made");
    symlink("loop", s.at("loop")).expect("link");
    assert_eq!(kind(RealHost.write(&spec(&s.at("loop"), "x", 0o644))), Kind::Io);
}

#[test]
fn a_failed_write_leaves_the_old_file_and_no_temporary_one() {
    if root() {
        return println!("skipped as root: needs a user whom permissions stop (the full disk below covers root)");
    }
    let s = Scratch::new();
    let f = s.at("f");
    let untouched = || assert_eq!((text(&f), names(&s.path)), ("old".into(), vec!["f".to_owned()]));
    fs::write(&f, "old").expect("writes");
    // An owner that we cannot give away: fails after the temporary file was written.
    let e = RealHost.write(&FileSpec { uid: 0, gid: 0, ..spec(&f, "new", 0o600) }).expect_err("not root");
    assert_eq!((e.kind(), e.remedy_text()), (Kind::Io, Some("run it as root")));
    untouched();
    chmod(&s.path, 0o555);
    assert_eq!(kind(RealHost.write(&spec(&f, "new", 0o600))), Kind::Io);
    assert_eq!(kind(RealHost.remove(&f)), Kind::Io);
    chmod(&s.path, 0o755);
    untouched();
}

#[test]
fn appending_makes_a_private_file_and_keeps_order() {
    let s = Scratch::new();
    let f = s.at("journal");
    RealHost.append(&f, b"one\n").expect("appends");
    RealHost.append_lazily(&f, b"two\n").expect("appends");
    RealHost.append(&f, b"three\n").expect("appends");
    assert_eq!((text(&f).as_str(), mode(&f)), ("one\ntwo\nthree\n", 0o600));
    assert_eq!(kind(RealHost.append(&s.at("no/journal"), b"x")), Kind::Io);
    fs::write(s.at("victim"), "").expect("writes");
    symlink("victim", s.at("link")).expect("link");
    assert_eq!(kind(RealHost.append(&s.at("link"), b"x")), Kind::Io, "our own files are never reached by a link");
}

#[test]
fn directories_names_and_renames() {
    let s = Scratch::new();
    RealHost.make_dir(&s.at("a/b/c"), 0o750).expect("makes");
    RealHost.make_dir(&s.at("a/b/c"), 0o700).expect("is there already");
    for p in ["a", "a/b", "a/b/c"] {
        assert_eq!(mode(&s.at(p)), 0o750, "{p}");
    }
    fs::write(s.at("a/file"), "").expect("writes");
    assert_eq!(kind(RealHost.make_dir(&s.at("a/file"), 0o700)), Kind::Conflict);
    assert!(RealHost.make_dir(&s.at("a/file/x"), 0o700).is_err());
    assert!(!RealHost.remove_dir(&s.at("a")).expect("not empty"));
    assert!(RealHost.remove_dir(&s.at("a/b/c")).expect("empty"));
    RealHost.rename(&s.at("a/file"), &s.at("a/other")).expect("renames");
    assert_eq!(kind(RealHost.rename(&s.at("a/other"), &s.at("other"))), Kind::Internal);
    assert_eq!(names(&s.at("a")), ["b", "other"]);
    assert!(names(&s.at("absent")).is_empty());
    RealHost.remove(&s.at("a/other")).expect("removes");
    RealHost.remove(&s.at("a/other")).expect("is gone already");
    symlink("nowhere", s.at("dangling")).expect("link");
    let exists = |p: &str| RealHost.exists(&s.at(p)).expect("can look");
    assert_eq!([exists("dangling"), exists("a"), exists("absent"), exists("dangling/x")], [true, true, false, false]);
}

// ------------------------------------------------------------------------------------------------------------------ trees

#[test]
fn a_tree_is_seen_as_it_is() {
    let s = Scratch::new();
    let t = s.at("tree");
    fs::create_dir(&t).expect("mkdir");
    chmod(&t, 0o2770);
    let (seen, meta) = (RealHost.tree(&t).expect("a tree"), fs::metadata(&t).expect("there"));
    assert_eq!((seen.dev, seen.ino, seen.mode, seen.uid, seen.gid), (meta.dev(), meta.ino(), 0o2770, meta.uid(), meta.gid()));
    assert!(!seen.fs_type.is_empty() && t.starts_with(&seen.mount_point), "{seen:?}");
    assert!(!seen.is_mount && !seen.read_only && seen.mounts_inside.is_empty(), "{seen:?}");
    let top = RealHost.tree(Path::new("/")).expect("a tree");
    assert!(top.is_mount && top.mounts_inside.contains(&PathBuf::from("/proc")), "{top:?}");
}

#[test]
fn a_symlink_at_any_depth_is_refused_and_named() {
    let s = Scratch::new();
    let parts = ["one", "two", "three", "four"];
    for at in 0..parts.len() {
        let base = s.at(&format!("case{at}"));
        fs::create_dir(&base).expect("mkdir");
        let (mut path, mut link) = (base.clone(), PathBuf::new());
        for (i, part) in parts.iter().enumerate() {
            path.push(part);
            if i == at {
                fs::create_dir(base.join("real")).expect("mkdir");
                symlink(base.join("real"), &path).expect("link");
                link = path.clone();
            } else {
                fs::create_dir(&path).expect("mkdir");
            }
        }
        let looks: [(&str, Result<(), Error>); 5] = [
            ("tree", RealHost.tree(&path).map(drop)),
            ("set_tree", RealHost.set_tree(&path, 0, 0, 0, 0, 0o755)),
            ("survey", RealHost.survey(&path, &[], &[], Duration::from_secs(1)).map(drop)),
            ("remove_in_tree", RealHost.remove_in_tree(&path, "x")),
            ("publish", RealHost.publish(&path, "x", "")),
        ];
        for (what, r) in looks {
            let e = r.expect_err(what);
            assert_eq!(e.kind(), Kind::Invalid, "{what}: {e}");
            assert!(e.to_string().contains(&link.display().to_string()), "{what}: {e}");
        }
    }
}

#[test]
fn what_is_no_tree_says_what_it_is() {
    let s = Scratch::new();
    fs::write(s.at("file"), "").expect("writes");
    fifo(&s.at("fifo"));
    assert_eq!(kind(RealHost.tree(&s.at("absent"))), Kind::NotFound);
    assert_eq!(kind(RealHost.tree(&s.at("file"))), Kind::Invalid);
    assert_eq!(kind(RealHost.tree(&s.at("fifo"))), Kind::Invalid);
    assert_eq!(kind(RealHost.survey(&s.at("fifo"), &[], &[], Duration::from_secs(1))), Kind::Invalid);
    assert_eq!(kind(RealHost.tree(Path::new("relative"))), Kind::Invalid);
    assert_eq!(kind(RealHost.tree(&s.at("x/../y"))), Kind::Invalid);
    assert!(RealHost.tree(Path::new("/tmp/a\0b")).is_err());
    assert!(RealHost.tree(&s.at(&"n".repeat(4096))).is_err());
}

/// A component that changes between a directory and a symlink all the time: what is seen is the directory or an error, never
/// what the link leads to.
#[test]
fn a_component_swapped_during_the_look_never_leads_elsewhere() {
    let s = Scratch::new();
    fs::create_dir_all(s.at("mine/share")).expect("mkdir");
    fs::create_dir_all(s.at("secret/share")).expect("mkdir");
    symlink(s.at("secret"), s.at("other")).expect("link");
    let secret = fs::metadata(s.at("secret/share")).expect("there");
    let (stop, path) = (AtomicBool::new(false), s.at("mine/share"));
    let (mut seen, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat2(AT_FDCWD, &s.at("mine"), AT_FDCWD, &s.at("other"), RenameFlags::RENAME_EXCHANGE).expect("swaps");
            }
        });
        let mut wrong = None;
        for _ in 0..100_000 {
            match RealHost.tree(&path) {
                Ok(t) if t.ino == secret.ino() => wrong = Some("looked through the symlink".to_owned()),
                Ok(_) => seen += 1,
                Err(e) if e.kind() == Kind::Invalid => refused += 1,
                Err(e) => wrong = Some(format!("{e:?}")),
            }
            if RealHost.set_tree(&path, 0, secret.ino(), 12345, 12345, 0o777).is_ok() {
                wrong = Some("changed through the symlink".to_owned());
            }
            if wrong.is_some() || (seen > 200 && refused > 200) {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(wrong, None);
    });
    assert!(seen > 0 && refused > 0, "seen {seen}, refused {refused}");
    assert_eq!(mode(&s.at("secret/share")), secret.mode() & 0o7777);
}

#[test]
fn only_the_very_tree_that_was_seen_gets_a_new_owner_and_mode() {
    let s = Scratch::new();
    fs::create_dir_all(s.at("tree/inside")).expect("mkdir");
    let inside = mode(&s.at("tree/inside"));
    let (uid, gid) = (Uid::effective().as_raw(), Gid::effective().as_raw());
    let t = RealHost.tree(&s.at("tree")).expect("a tree");
    RealHost.set_tree(&s.at("tree"), t.fsid, t.ino, uid, gid, 0o2770).expect("sets");
    assert_eq!(mode(&s.at("tree")), 0o2770);
    assert_eq!(mode(&s.at("tree/inside")), inside, "only the root");
    fs::rename(s.at("tree"), s.at("old")).expect("renames");
    fs::create_dir(s.at("tree")).expect("mkdir");
    assert_eq!(kind(RealHost.set_tree(&s.at("tree"), t.fsid, t.ino, uid, gid, 0o777)), Kind::Drift);
    if root() {
        RealHost.set_tree(&s.at("old"), t.fsid, t.ino, 4711, 4712, 0o6775).expect("sets");
        let now = RealHost.tree(&s.at("old")).expect("a tree");
        assert_eq!((now.uid, now.gid, now.mode), (4711, 4712, 0o6775));
    } else {
        assert_eq!(kind(RealHost.set_tree(&s.at("old"), t.fsid, t.ino, 0, gid, 0o700)), Kind::Io);
        assert_eq!(mode(&s.at("old")), 0o2770, "nothing half done");
    }
}

#[test]
fn a_survey_counts_without_following_links_and_within_its_budget() {
    let s = Scratch::new();
    let t = s.at("tree");
    fs::create_dir_all(t.join("d/e")).expect("mkdir");
    for i in 0..700 {
        fs::write(t.join(format!("d/e/{i}")), "").expect("writes");
    }
    fs::create_dir(s.at("outside")).expect("mkdir");
    fs::write(s.at("outside/f"), "").expect("writes");
    symlink(s.at("outside"), t.join("out")).expect("link");
    symlink(&t, t.join("d/loop")).expect("link");
    fifo(&t.join("fifo"));
    let (uid, gid) = (Uid::effective().as_raw(), Gid::effective().as_raw());
    let survey = |budget| RealHost.survey(&t, &[uid, 4711], &[gid, 4712], budget).expect("surveys");
    let all = survey(Duration::from_secs(60));
    // d, e, 700 files, two links, a FIFO.
    assert_eq!((all.entries, all.complete), (705, true));
    assert_eq!((all.by_uid.get(&uid), all.by_gid.get(&gid)), (Some(&705), Some(&705)));
    assert_eq!((all.by_uid.get(&4711), all.by_gid.get(&4712)), (None, None));
    let some = survey(Duration::ZERO);
    assert!(!some.complete && some.entries < 705, "{some:?}");
    if root() {
        std::os::unix::fs::lchown(t.join("d/loop"), Some(4711), Some(4712)).expect("chown");
        std::os::unix::fs::chown(t.join("d/e/5"), Some(4711), None).expect("chown");
        let all = survey(Duration::from_secs(60));
        assert_eq!((all.by_uid.get(&4711), all.by_gid.get(&4712)), (Some(&2), Some(&1)));
    } else {
        chmod(&t.join("d/e"), 0);
        assert!(!survey(Duration::from_secs(60)).complete, "what cannot be read is not complete");
        chmod(&t.join("d/e"), 0o700);
    }
}

#[test]
fn a_survey_of_a_very_deep_tree_ends_and_says_that_it_is_not_complete() {
    let s = Scratch::new();
    let mut at = s.at("tree");
    for _ in 0..200 {
        fs::create_dir(&at).expect("mkdir");
        at.push("d");
    }
    let seen = RealHost.survey(&s.at("tree"), &[], &[], Duration::from_secs(60)).expect("surveys");
    assert!(!seen.complete && seen.entries > 100, "{seen:?}");
}

#[test]
fn the_probe_file_is_removed_and_nothing_else() {
    let s = Scratch::new();
    fs::create_dir_all(s.at("tree/dir")).expect("mkdir");
    fs::write(s.at("tree/probe"), "").expect("writes");
    fs::write(s.at("outside"), "").expect("writes");
    symlink("../outside", s.at("tree/link")).expect("link");
    let remove = |name: &str| RealHost.remove_in_tree(&s.at("tree"), name);
    remove("probe").expect("removes");
    remove("probe").expect("is gone already");
    for name in ["dir", "link"] {
        assert_eq!(kind(remove(name)), Kind::Conflict, "{name}");
    }
    for name in ["", ".", "..", "../outside", "dir/x"] {
        assert_eq!(kind(remove(name)), Kind::Internal, "{name}");
    }
    assert_eq!(names(&s.at("tree")), ["dir", "link"]);
    assert!(s.at("outside").exists());
}

#[test]
fn what_is_published_is_whole_readable_and_only_where_root_alone_can_write() {
    if !root() {
        return;
    }
    let s = Scratch::new();
    let (above, dir) = (s.at("above"), s.at("above/dir"));
    fs::create_dir_all(&dir).expect("mkdir");
    chmod(&dir, 0o755);
    // Whose the one above is does not matter.
    std::os::unix::fs::chown(&above, Some(4711), Some(4711)).expect("chown");
    let file = dir.join("x.prom");
    RealHost.publish(&dir, "x.prom", "one\n").expect("written");
    let first = fs::metadata(&file).expect("there");
    assert_eq!((text(&file), mode(&file), first.uid()), ("one\n".to_owned(), 0o644, 0));
    // A reader goes on with what he opened.
    let mut reader = fs::File::open(&file).expect("opens");
    RealHost.publish(&dir, "x.prom", "two\n").expect("written");
    let mut seen = String::new();
    std::io::Read::read_to_string(&mut reader, &mut seen).expect("reads");
    assert_eq!((seen.as_str(), text(&file).as_str()), ("one\n", "two\n"));
    assert_eq!(names(&dir), ["x.prom"], "and nothing beside it");
    symlink("/etc/passwd", dir.join("link")).expect("link");
    assert_eq!(kind(RealHost.publish(&dir, "link", "x")), Kind::Conflict);
    for bits in [0o775, 0o757, 0o1777] {
        chmod(&dir, bits);
        assert_eq!(kind(RealHost.publish(&dir, "x.prom", "three\n")), Kind::Unsafe, "{bits:o}");
    }
    chmod(&dir, 0o755);
    std::os::unix::fs::chown(&dir, Some(4711), None).expect("chown");
    let e = RealHost.publish(&dir, "x.prom", "three\n").expect_err("not root's");
    assert!(e.kind() == Kind::Unsafe && e.to_string().contains("owner 4711, mode 0755") && e.remedy_text().is_some(), "{e}");
    assert_eq!(text(&file), "two\n");
}

#[test]
fn space_adds_up() {
    let s = Scratch::new();
    let space = RealHost.space(&s.path).expect("tells");
    assert!(space.total > 0 && space.used <= space.total && space.avail <= space.total, "{space:?}");
    assert_eq!(space.fsid, RealHost.tree(&s.path).expect("a tree").fsid, "comparable");
    assert!(RealHost.space(&s.at("absent")).is_err());
}

/// A full disk, a read-only one, and mounts in and below a tree: on a tmpfs of 64 KiB in a mount namespace of its own.
#[test]
fn full_and_foreign_file_systems() {
    const MOUNT: &str = r#"mount -t tmpfs -o size=64k none "$1" && mkdir "$1/t" "$1/t/below" && mount -t tmpfs none "$1/t/below" || exit 99
        shift; exec "$@""#;
    if let Some(dir) = std::env::var_os(INNER).map(PathBuf::from) {
        return on_a_small_file_system(&dir);
    }
    let s = Scratch::new();
    fs::create_dir(s.at("small")).expect("mkdir");
    let o = Command::new("unshare")
        .args(["-m", "--propagation", "private", "/bin/sh", "-c", MOUNT, "sh"])
        .arg(s.at("small"))
        .arg(std::env::current_exe().expect("own path"))
        .args(["--exact", "full_and_foreign_file_systems", "--nocapture"])
        .env(INNER, s.at("small"))
        .output()
        .expect("unshare is part of util-linux");
    // 101 is the test runner's "a test failed"; anything else means that there was no mount namespace.
    let said = format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr));
    match o.status.code() {
        Some(0) => {}
        Some(101) => panic!("{said}"),
        _ if std::env::var_os("CI").is_some() => panic!("no mount namespace here: {said}"),
        _ => println!("SKIPPED full_and_foreign_file_systems: no mount namespace here (needs root): {said}"),
    }
}

fn on_a_small_file_system(dir: &Path) {
    let f = dir.join("f");
    RealHost.write(&spec(&f, "old", 0o600)).expect("writes");
    let e = RealHost.write(&spec(&f, &"x".repeat(1 << 20), 0o600)).expect_err("full");
    assert_eq!(e.kind(), Kind::Io);
    assert!(e.remedy_text().is_some_and(|r| r.contains("free space")), "{e:?}");
    assert_eq!((text(&f), names(dir)), ("old".into(), vec!["f".to_owned(), "t".to_owned()]));
    let j = dir.join("journal");
    RealHost.append(&j, b"one\n").expect("appends");
    assert_eq!(kind(RealHost.append(&j, &[b'x'; 1 << 20])), Kind::Io);
    assert_eq!(text(&j), "one\n", "no torn line");

    let t = RealHost.tree(dir).expect("a tree");
    assert_eq!((t.fs_type.as_str(), t.mount_point.as_path(), t.is_mount), ("tmpfs", dir, true));
    assert_eq!(t.mounts_inside, [dir.join("t/below")]);
    assert_eq!(t.fsid, 0, "made by chance at each mount");
    assert!(!t.read_only);
    let inner = RealHost.tree(&dir.join("t")).expect("a tree");
    assert_eq!((inner.is_mount, inner.mount_point.as_path()), (false, dir));
    fs::write(dir.join("t/below/foreign"), "").expect("writes");
    let seen = RealHost.survey(&dir.join("t"), &[], &[], Duration::from_secs(10)).expect("surveys");
    assert_eq!((seen.entries, seen.complete), (0, true), "what is mounted there is not ours");
    assert!(RealHost.space(dir).expect("tells").total <= 64 << 10);

    assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(dir).status().expect("mount runs").success());
    assert!(RealHost.tree(dir).expect("a tree").read_only);
    let e = RealHost.write(&spec(&f, "new", 0o600)).expect_err("read-only");
    assert!(e.remedy_text().is_some_and(|r| r.contains("read-only")), "{e:?}");
}

// ------------------------------------------------------------------------------------------------------------------ locks

#[test]
fn a_lock_excludes_within_and_between_processes() {
    if let Some(path) = std::env::var_os(INNER).map(PathBuf::from) {
        let held = RealHost.lock(&path, "pid 7 share.create office", Duration::ZERO).expect("free");
        println!("LOCKED");
        // Until the other side closes our input.
        std::io::stdin().read_line(&mut String::new()).expect("reads");
        return drop(held);
    }
    let s = Scratch::new();
    let path = s.at("run/lock/native");
    let mine = RealHost.lock(&path, "mine", Duration::ZERO).expect("free");
    assert_eq!(mode(&s.at("run/lock")), 0o700);
    let e = RealHost.lock(&path, "again", Duration::from_millis(120)).map(drop).expect_err("held by us");
    assert!(e.kind() == Kind::Busy && e.to_string().contains("mine"), "{e}");
    drop(mine);

    let hold = || -> Child {
        let mut other = Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", "a_lock_excludes_within_and_between_processes", "--nocapture"])
            .env(INNER, &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("runs");
        let mut out = std::io::BufReader::new(other.stdout.take().expect("piped"));
        let mut line = String::new();
        while !line.contains("LOCKED") {
            line.clear();
            assert!(out.read_line(&mut line).expect("reads") > 0, "ended before it had the lock");
        }
        // Read on, so that it does not die of a closed pipe.
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        other
    };
    let mut other = hold();
    let e = RealHost.lock(&path, "mine", Duration::ZERO).map(drop).expect_err("held by the other");
    assert!(e.kind() == Kind::Busy && e.to_string().contains("pid 7 share.create office"), "{e}");
    drop(other.stdin.take());
    let mine = RealHost.lock(&path, "mine", Duration::from_secs(20)).expect("given back in time");
    assert!(other.wait().expect("ends").success());
    drop(mine);

    // A holder that is killed gives it back too, and its note does not confuse the next one.
    let mut other = hold();
    other.kill().expect("kills");
    other.wait().expect("ends");
    let _mine = RealHost.lock(&path, "short", Duration::ZERO).expect("free");
    assert_eq!(text(&path), "short");
}

#[test]
fn a_lock_file_that_was_replaced_locks_nobody_out() {
    let s = Scratch::new();
    let path = s.at("lock");
    let old = RealHost.lock(&path, "old", Duration::ZERO).expect("free");
    fs::remove_file(&path).expect("removes");
    let new = RealHost.lock(&path, "new", Duration::ZERO).expect("another file");
    drop(old);
    assert_eq!(kind(RealHost.lock(&path, "third", Duration::ZERO).map(drop)), Kind::Busy);
    drop(new);
    RealHost.lock(&path, "third", Duration::ZERO).map(drop).expect("free");
}

// -------------------------------------------------------------------------------------------------------------- processes

#[test]
fn a_process_is_known_by_pid_and_start_time() {
    let mut child = Command::new("/bin/sleep").arg("1000").spawn().expect("runs");
    let pid = i32::try_from(child.id()).expect("small");
    let id = RealHost.process(pid, "sleep").expect("known").expect("runs: spawn returns after the exec");
    assert_eq!(RealHost.process(pid, "smbd").expect("known"), None);
    assert_eq!(RealHost.process(0, "sleep").expect("known"), None);
    assert!(RealHost.alive(id).expect("known"));
    let stranger = ProcessId { start: id.start + 1, ..id };
    assert!(!RealHost.alive(stranger).expect("known"));
    RealHost.end(stranger).expect("nothing to do");
    assert!(RealHost.alive(id).expect("known"), "another process of that number is left alone");
    RealHost.end(id).expect("ends");
    assert!(!RealHost.alive(id).expect("known"), "a zombie does not run");
    assert_eq!(RealHost.process(pid, "sleep").expect("known"), None);
    child.wait().expect("reaped");
    RealHost.end(id).expect("is gone already");
    let me = RealHost.own_process();
    assert!(RealHost.alive(me).expect("known") && me.pid == std::process::id() as i32 && me.start > 0);
}

#[test]
fn clocks_and_chance() {
    let (wall, mono) = (RealHost.now_ms(), RealHost.monotonic_ms());
    assert!(wall > 1_600_000_000_000 && mono > 0);
    assert!(RealHost.monotonic_ms() >= mono);
    let (mut a, mut b) = ([0; 300], [0; 300]);
    RealHost.random(&mut a).expect("random");
    RealHost.random(&mut b).expect("random");
    assert_ne!(a, b);
    assert_ne!(a[280..], [0; 20]);
}

#[test]
fn programs_of_the_table_run_or_name_their_package() {
    for program in Program::ALL {
        let started = RealHost.start(&Cmd::new(program, ["--help"]).within_ms(20_000), &Secrets::default());
        match started {
            // Not every program knows --help; that it ran and said something is what counts here.
            Ok(mut job) => {
                assert!(RealHost.installed(program).expect("known"));
                let output = loop {
                    if let Some(o) = job.poll(Duration::from_secs(1)).expect("can be waited for") {
                        break o;
                    }
                };
                assert!(!output.timed_out, "{}", program.name());
                assert!(output.stdout.len() + output.stderr.len() > 0, "{}", program.name());
            }
            Err(e) => {
                assert!(!RealHost.installed(program).expect("known"));
                assert_eq!(e.kind(), Kind::Unsupported);
                assert!(e.remedy_text().is_some_and(|r| r.starts_with("apt install ")), "{e:?}");
            }
        }
    }
    let host: &dyn Host = &RealHost;
    let e = host.run(&Cmd::new(Program::Useradd, Vec::<String>::new()).secret("password", 1), &Secrets::default());
    assert!(e.is_err(), "a missing secret starts nothing");
}
