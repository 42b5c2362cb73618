// SPDX-License-Identifier: MIT OR Apache-2.0
//! Systems in directories and archives on the simulated machine: `debootstrap`, `tar`, `install`, `rm`, `sha256sum`, and `systemctl --root`. It
//! knows what these programs leave on a disk; it must not know what they are used for. An archive is text here, of names and what they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::files::{Files, Node, Thing};
use super::{Machine, Said, World, args, world};
use crate::effect::Program;

/// Runs one of the programs.
pub(super) fn run(m: &mut Machine, program: Program, words: &[String]) -> Said {
    let files = &mut m.world.files;
    match program {
        Program::Debootstrap => debootstrap(files, words),
        Program::Tar => tar(files, words),
        Program::Install => install(files, words),
        Program::Rm => rm(files, words),
        _ => sha256sum(files, words),
    }
}

fn usage(program: &str, option: &str) -> Said {
    Said::err(2, format!("{program}: unrecognized option '{option}'\n"))
}

/// The version of a package by dpkg's status file.
pub(super) fn version_of(status: &str, package: &str) -> Option<String> {
    let entry = status.split("\n\n").find(|e| e.lines().any(|l| l == format!("Package: {package}")))?;
    entry.lines().find_map(|l| l.strip_prefix("Version: ")).map(str::to_owned)
}

/// dpkg's status file for some packages.
pub(super) fn status_of<'a>(packages: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    packages.into_iter().map(|(p, v)| format!("Package: {p}\nStatus: install ok installed\nVersion: {v}\n\n")).collect()
}

/// What every Debian has, of the packages that matter here.
const SMALLEST: &[&str] = &["base-files", "coreutils", "dpkg", "passwd", "tar"];
/// What comes with a package.
const DEPENDS: &[(&str, &[&str])] = &[("samba", &["samba-common-bin"]), ("systemd-sysv", &["systemd"])];
/// Units of packages, all of which are enabled when they are installed.
const UNITS: &[(&str, &[&str])] = &[
    ("samba", &["nmbd.service", "samba-ad-dc.service", "smbd.service"]),
    ("winbind", &["winbind.service"]),
    ("ctdb", &["ctdb.service"]),
    ("ifupdown", &["networking.service"]),
    ("systemd", &["systemd-networkd.service", "systemd-udevd.service"]),
];
const WANTS: &str = "etc/systemd/system/multi-user.target.wants";
const RELEASES: &[(&str, &str, &str)] =
    &[("bookworm", "12.12", "2:4.17.12+dfsg-0+deb12u1"), ("trixie", "13.1", "2:4.22.4+dfsg-1~deb13u1")];

fn debootstrap(files: &mut Files, words: &[String]) -> Said {
    let known = [("variant", '\0', true), ("arch", '\0', true), ("include", '\0', true)];
    let given = match args::parse(words, &known) {
        Ok(g) if (2..=3).contains(&g.words.len()) => g,
        Ok(_) => return Said::err(1, "I: usage: [OPTION]... <suite> <target> [<mirror>]\n"),
        Err(option) => return Said::err(1, format!("E: unrecognized or invalid option {option}\n")),
    };
    let Some((_, release, samba)) = RELEASES.iter().find(|r| r.0 == given.word(0)) else {
        return Said::err(1, format!("E: No such script: /usr/share/debootstrap/scripts/{}\n", given.word(0)));
    };
    if given.value("variant") != Some("minbase") || !matches!(given.value("arch"), Some("amd64" | "arm64")) {
        return Said::err(1, "E: this variant or architecture is not simulated\n");
    }
    let mut packages: Vec<&str> = SMALLEST.to_vec();
    packages.extend(given.value("include").unwrap_or_default().split(',').filter(|p| !p.is_empty()));
    for (package, more) in DEPENDS.iter().filter(|(p, _)| packages.clone().contains(p)).collect::<Vec<_>>() {
        packages.extend(more.iter().filter(|m| !packages.contains(m)).collect::<Vec<_>>());
        debug_assert!(packages.contains(package));
    }
    packages.sort_unstable();
    let root = PathBuf::from(given.word(1));
    let put = |files: &mut Files, path: &str, text: &str| files.put(root.join(path), text, 0o644, 0, 0);
    for dir in [
        "dev",
        "proc",
        "sys",
        "run",
        "root",
        "srv",
        "usr/local/lib",
        "var/cache/apt/archives",
        "etc/systemd/system",
        "usr/lib/systemd/system",
    ] {
        files.put_dir(root.join(dir), 0o755, 0, 0);
    }
    for dir in ["tmp", "var/tmp"] {
        files.put_dir(root.join(dir), 0o1777, 0, 0);
    }
    put(files, "etc/debian_version", &format!("{release}\n"));
    put(files, "var/cache/apt/archives/samba.deb", "an archive");
    let versions = packages.iter().map(|p| (*p, if p.starts_with("samba") || *p == "smbclient" { *samba } else { "1.0-1" }));
    put(files, "var/lib/dpkg/status", &status_of(versions));
    for (path, text, mode, gid) in world::ACCOUNTS {
        files.put(root.join(path.trim_start_matches('/')), text, *mode, 0, *gid);
    }
    let has = |p: &str| packages.contains(&p);
    if has("systemd-sysv") {
        files.put_link(root.join("sbin/init"), "/lib/systemd/systemd");
    }
    for unit in UNITS.iter().filter(|(p, _)| has(p)).flat_map(|(_, units)| *units) {
        put(files, &format!("usr/lib/systemd/system/{unit}"), "[Unit]\n");
        files.put_link(root.join(WANTS).join(unit), Path::new("/usr/lib/systemd/system").join(unit));
    }
    put(files, "etc/nsswitch.conf", world::NSSWITCH);
    if has("ifupdown") {
        files.put_dir(root.join("etc/network"), 0o755, 0, 0);
    }
    if has("samba") {
        put(files, "etc/samba/smb.conf", world::STOCK_SMB_CONF);
        files.put_dir(root.join("var/lib/samba/private"), 0o755, 0, 0);
    }
    if has("samba-vfs-modules") {
        for module in world::VFS_MODULES {
            put(files, &format!("usr/lib/x86_64-linux-gnu/samba/vfs/{module}.so"), "ELF");
        }
    }
    Said::ok("I: Base system installed successfully.\n")
}

fn tar(files: &mut Files, words: &[String]) -> Said {
    let known = [
        ("zstd", '\0', false),
        ("numeric-owner", '\0', false),
        ("xattrs", '\0', false),
        ("acls", '\0', false),
        ("sort", '\0', true),
        ("exclude", '\0', true),
        ("create", 'c', false),
        ("file", 'f', true),
        ("directory", 'C', true),
    ];
    let given = match args::parse(words, &known) {
        Ok(g) => g,
        Err(option) => return usage("tar", &option),
    };
    let (Some(file), Some(dir)) = (given.value("file"), given.value("directory")) else {
        return Said::err(2, "tar: You must specify one of the '-Acdtrux' options\n");
    };
    if !given.has("create") || given.words != ["."] {
        return Said::err(2, "tar: this use is not simulated\n");
    }
    if files.fs_type(Path::new(dir)).is_none() {
        return Said::err(2, format!("tar: {dir}: Cannot open: No such file or directory\n"));
    }
    if Path::new(file).parent().is_none_or(|d| files.fs_type(d).is_none()) {
        return Said::err(2, format!("tar (child): {file}: Cannot open: No such file or directory\n"));
    }
    let left_out: Vec<&str> = words.iter().filter_map(|w| w.strip_prefix("--exclude=")).collect();
    let mut packed = files.pack(Path::new(dir));
    packed.retain(|p, _| !left_out.iter().any(|pattern| matches(pattern, &format!("./{}", p.display()))));
    files.put(file, write_archive(&packed), 0o644, 0, 0);
    Said::ok("")
}

/// A pattern of tar's against a name: `*` stands for anything, and what lies below a match matches too.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return name == pattern || name.starts_with(&format!("{pattern}/")) };
    let Some(rest) = name.strip_prefix(head) else { return false };
    if tail.is_empty() {
        return !rest.is_empty();
    }
    (0..=rest.len()).filter(|n| rest.is_char_boundary(*n)).any(|n| matches(tail, &rest[n..]))
}

const MAGIC: &str = "an archive\n";

fn write_archive(packed: &BTreeMap<PathBuf, Node>) -> String {
    let mut text = MAGIC.to_owned();
    for (path, n) in packed.iter().filter(|(p, _)| !p.as_os_str().is_empty()) {
        let (kind, content) = match &n.thing {
            Thing::Dir => ("d", String::new()),
            Thing::Link(to) => ("l", to.display().to_string()),
            Thing::File { content, .. } => ("f", String::from_utf8_lossy(content).into_owned()),
        };
        let line = serde_json::json!([path, kind, content, n.mode, n.uid, n.gid]);
        text.push_str(&format!("{line}\n"));
    }
    text
}

/// What an archive holds as a disk of its own; `None` if it is no archive.
pub(super) fn unpack(bytes: &[u8]) -> Option<Files> {
    let text = std::str::from_utf8(bytes).ok()?.strip_prefix(MAGIC)?;
    let mut files = Files::new();
    for line in text.lines() {
        let (path, kind, content, mode, uid, gid): (String, String, String, u32, u32, u32) = serde_json::from_str(line).ok()?;
        let at = Path::new("/").join(path);
        match kind.as_str() {
            "d" => {
                files.take(&at);
                files.put_dir(&at, mode, uid, gid);
            }
            "l" => files.put_link(&at, content),
            _ => files.put(&at, content, mode, uid, gid),
        }
    }
    Some(files)
}

fn install(files: &mut Files, words: &[String]) -> Said {
    let given = match args::parse(words, &[("parents", 'D', false), ("mode", 'm', true)]) {
        Ok(g) if g.words.len() == 2 => g,
        Ok(_) => return Said::err(1, "install: missing destination file operand\n"),
        Err(option) => return usage("install", &option),
    };
    let Some(content) = files.bytes(given.word(0)).map(<[u8]>::to_vec) else {
        return Said::err(1, format!("install: cannot stat '{}': No such file or directory\n", given.word(0)));
    };
    if !given.has("parents") && Path::new(given.word(1)).parent().is_none_or(|d| files.fs_type(d).is_none()) {
        return Said::err(1, format!("install: cannot create regular file '{}': No such file or directory\n", given.word(1)));
    }
    let mode = given.value("mode").map_or(Some(0o755), |m| u32::from_str_radix(m, 8).ok());
    let Some(mode) = mode else { return Said::err(1, "install: invalid mode\n") };
    files.put(given.word(1), content, mode, 0, 0);
    Said::ok("")
}

fn rm(files: &mut Files, words: &[String]) -> Said {
    let known = [("recursive", 'r', false), ("force", 'f', false), ("one-file-system", '\0', false)];
    let given = match args::parse(words, &known) {
        Ok(g) => g,
        Err(option) => return usage("rm", &option),
    };
    let (mut err, force) = (String::new(), given.has("force"));
    for word in &given.words {
        let path = Path::new(word);
        if !files.exists(path) {
            if !force {
                err.push_str(&format!("rm: cannot remove '{word}': No such file or directory\n"));
            }
            continue;
        }
        if !given.has("recursive") && matches!(files.get(path).map(|n| &n.thing), Some(Thing::Dir)) {
            err.push_str(&format!("rm: cannot remove '{word}': Is a directory\n"));
            continue;
        }
        let mounts = files.mounted_below(path);
        if mounts.is_empty() {
            files.take(path);
            continue;
        }
        // What is mounted inside stays, and with it the directories that lead there.
        for gone in files.pack(path).into_keys().map(|p| path.join(p)) {
            if !mounts.iter().any(|m| gone.starts_with(m) || m.starts_with(&gone)) {
                files.take(&gone);
            }
        }
        for m in mounts {
            err.push_str(&format!("rm: skipping '{}', since it's on a different device\n", m.display()));
        }
    }
    Said::both(i32::from(!err.is_empty()), "", err)
}

fn sha256sum(files: &Files, words: &[String]) -> Said {
    let given = match args::parse(words, &[("binary", 'b', false)]) {
        Ok(g) => g,
        Err(option) => return usage("sha256sum", &option),
    };
    let (mut out, mut err) = (String::new(), String::new());
    for word in &given.words {
        match files.bytes(word) {
            Some(bytes) => {
                let sum: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
                out.push_str(&format!("{sum} *{word}\n"));
            }
            None => err.push_str(&format!("sha256sum: {word}: No such file or directory\n")),
        }
    }
    Said::both(i32::from(!err.is_empty()), out, err)
}

/// `systemctl --root=DIR …`: changes the links of a system that does not run.
pub(super) fn units(world: &mut World, root: &str, verb: &str, names: &[String]) -> Said {
    let (files, root) = (&mut world.files, Path::new(root));
    if files.fs_type(root).is_none() {
        return Said::err(1, format!("Failed to set up root directory {}: No such file or directory\n", root.display()));
    }
    let system = root.join("etc/systemd/system");
    let unit = |name: &str| Path::new("/usr/lib/systemd/system").join(name);
    let mut err = String::new();
    if verb == "preset-all" && names.is_empty() {
        preset_all(files, root);
        return Said::ok("");
    }
    for name in names {
        let there = files.exists(&root.join(unit(name).strip_prefix("/").unwrap_or(Path::new(""))));
        match verb {
            "enable" if !there => return Said::err(1, format!("Failed to enable unit, unit {name} does not exist.\n")),
            "enable" => files.put_link(root.join(WANTS).join(name), unit(name)),
            "disable" => files.take(root.join(WANTS).join(name)),
            "mask" => {
                if !there {
                    err.push_str(&format!("Unit {name} does not exist, proceeding anyway.\n"));
                }
                files.put_link(system.join(name), "/dev/null");
            }
            "set-default" => files.put_link(system.join("default.target"), unit(name)),
            _ => return Said::err(1, format!("Unknown command verb {verb}.\n")),
        }
    }
    Said::both(0, "", err)
}

/// Enables and disables every unit as the first line of the presets says that fits it.
fn preset_all(files: &mut Files, root: &Path) {
    let dir = root.join("etc/systemd/system-preset");
    let lines: Vec<String> = files
        .list(&dir)
        .unwrap_or_default()
        .iter()
        .flat_map(|f| files.text(dir.join(f)).lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    for unit in files.list(&root.join("usr/lib/systemd/system")).unwrap_or_default() {
        let said = lines.iter().filter_map(|l| l.split_once(' ')).find(|(_, p)| matches(p.trim(), &unit));
        let link = root.join(WANTS).join(&unit);
        files.take(&link);
        if said.is_none_or(|(verb, _)| verb == "enable") {
            files.put_link(link, Path::new("/usr/lib/systemd/system").join(&unit));
        }
    }
}
