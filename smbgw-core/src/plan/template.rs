// SPDX-License-Identifier: MIT OR Apache-2.0
//! Templates of containers: a small Debian with Samba in it, built once on a node, packed, and described by a marker beside the archive. It
//! knows what is in a template; it must not know gateways. Nothing is installed when a container is made from it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::common::{Steps, must_have};
use super::samba;
use super::step::{Effect, Seen, Step, Undo, Watch};
use crate::effect::{Cmd, FileSpec, HAND, HAND_INSIDE, HAND_VERSION, Program};
use crate::error::{Error, Kind, Problem, Result};
use crate::facts::{Facts, Template};
use crate::spec::Security;
use crate::types::shorten;

/// Version of the marker's form.
pub const SCHEMA: u32 = 1;
/// What the marker's file name adds to the archive's. Proxmox lists archives by their ending and passes this by.
pub const MARKER: &str = ".smbgw.json";

/// What is put into a template besides Debian's smallest system. No D-Bus, no login manager: they would take as much memory as Samba.
/// winbind and CTDB lie idle until a domain or a cluster asks for them.
const PACKAGES: &str =
    "systemd-sysv,ifupdown,isc-dhcp-client,iproute2,samba,samba-vfs-modules,smbclient,winbind,libnss-winbind,ctdb,acl,attr";

/// A template to be built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Build {
    /// Its name.
    pub name: String,
    /// Debian release.
    pub suite: String,
    /// Architecture, as Debian calls it.
    pub arch: String,
    /// Where packages come from; `None`: debootstrap's own choice.
    pub mirror: Option<String>,
    /// The storage that keeps it; `None`: the first that can.
    pub storage: Option<String>,
}

impl Build {
    /// Checks what somebody typed.
    pub fn check(&self) -> Result<()> {
        let mut wrong = Vec::new();
        let plain = |n: &str| {
            n.bytes().all(|b| b.is_ascii_alphanumeric() || b"-+.~".contains(&b))
                && n.starts_with(|c: char| c.is_ascii_alphanumeric())
        };
        if self.name.len() > 64 || !plain(&self.name) {
            let why = "is no name of a template: letters, digits, '-', '+', '.' and '~', the first a letter or digit, at most 64";
            wrong.push(Problem::new("name", format!("{:?} {why}", shorten(&self.name))));
        }
        if !["bookworm", "trixie"].contains(&self.suite.as_str()) {
            wrong.push(Problem::new("suite", format!("{:?} is neither bookworm nor trixie", shorten(&self.suite))));
        }
        if let Some(m) = &self.mirror {
            let plain = m.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/@%".contains(&b));
            if !plain || !["http://", "https://", "file:///"].iter().any(|s| m.starts_with(s)) {
                wrong.push(Problem::new("mirror", format!("{:?} is no http, https or file URL", shorten(m))));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(Error::invalid("template", wrong)) }
    }
}

/// smb.conf of a template: what a gateway demands of its globals, so that smbd never has to be restarted for them, and no share.
pub fn smb_conf() -> String {
    let mut text = String::from(
        "# Samba of a gateway of smbgw. Its shares are in smbgw.conf, which is included at the end.\n[global]\n   workgroup = WORKGROUP\n   server role = standalone server\n   printing = bsd\n   logging = file\n   log file = /var/log/samba/log.smbd\n   max log size = 1000\n",
    );
    for (name, value) in samba::globals(Security::Standard).into_iter().chain(samba::OBSERVED.iter().copied()) {
        text.push_str(&format!("   {name} = {value}\n"));
    }
    text
}

/// Files of a template: path, content. Proxmox writes host name, hosts, resolv.conf and interfaces before each start.
fn files(build: &Build) -> Vec<(&'static str, String)> {
    let units = ENABLED.iter().map(|u| format!("enable {u}\n")).collect::<String>() + "disable *\n";
    vec![
        ("etc/samba/smb.conf", smb_conf()),
        ("etc/hostname", "smbgw\n".into()),
        ("etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost\n".into()),
        ("etc/fstab", String::new()),
        ("etc/network/interfaces", "auto lo\niface lo inet loopback\n".into()),
        // A container that Proxmox has just made boots for the first time, and systemd then enables what presets say.
        ("etc/systemd/system-preset/10-smbgw.preset", units),
        (
            "etc/systemd/journald.conf.d/smbgw.conf",
            "[Journal]\nStorage=volatile\nRuntimeMaxUse=4M\nForwardToSyslog=no\nForwardToConsole=no\nForwardToWall=no\nAudit=no\n".into(),
        ),
        (
            "etc/systemd/system.conf.d/smbgw.conf",
            "[Manager]\nDefaultTimeoutStartSec=60s\nDefaultTimeoutStopSec=15s\n".into(),
        ),
        ("etc/smbgw-template", format!("{}\n", build.name)),
    ]
}

/// Directories that files of ours need and Debian does not have.
const DIRECTORIES: &[&str] = &[
    "etc/systemd/system-preset",
    "etc/systemd/journald.conf.d",
    "etc/systemd/system.conf.d",
    "usr/local/lib/smbgw",
    "srv/smbgw",
];

/// Units that start with the container.
const ENABLED: &[&str] = &["smbd.service", "networking.service"];
/// Units that never start: what an unprivileged container cannot do, and what would only cost memory.
const MASKED: &[&str] = &[
    "nmbd.service",
    "samba-ad-dc.service",
    "console-getty.service",
    "container-getty@.service",
    "getty@.service",
    "serial-getty@.service",
    "systemd-logind.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "sys-kernel-config.mount",
    "sys-fs-fuse-connections.mount",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "proc-sys-fs-binfmt_misc.automount",
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-modules-load.service",
    "systemd-pstore.service",
    "systemd-binfmt.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-networkd-wait-online.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-firstboot.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
];
/// What does not go into the archive: made anew, or of use to nobody. Samba's databases hold a SID, which every gateway has to make itself.
const LEFT_OUT: &[&str] = &[
    "dev/*",
    "proc/*",
    "sys/*",
    "run/*",
    "tmp/*",
    "etc/machine-id",
    "var/lib/dbus/machine-id",
    "var/cache/apt/*",
    "var/lib/apt/lists/*",
    "var/cache/debconf/*-old",
    "var/log/*.log",
    "var/log/apt/*",
    "var/lib/samba/*.tdb",
    "var/lib/samba/private/*.tdb",
    "var/cache/samba/*",
    "usr/share/man/*",
    "usr/share/info/*",
    "usr/share/locale/*",
    "usr/share/doc/*/*.gz",
];

/// Builds a template.
pub fn build(build: &Build, facts: &Facts) -> Steps {
    build.check()?;
    must_have(facts, &[Program::Debootstrap, Program::Tar, Program::Zstd, Program::Install])?;
    let guest = facts.guest.as_ref().ok_or_else(|| Error::new(Kind::Internal, "nobody looked at the storages"))?;
    let target = match &build.storage {
        Some(id) => guest.template_dirs.iter().find(|(s, _)| s == id).ok_or_else(|| {
            Error::property("storage", format!("storage {id} keeps no templates on this node"))
                .remedy(format!("allow it: pvesm set {id} --content …,vztmpl"))
        })?,
        None => guest.template_dirs.first().ok_or_else(|| {
            Error::property("storage", "no storage of this node keeps templates")
                .remedy("allow one: pvesm set local --content …,vztmpl")
        })?,
    };
    if guest.templates.iter().any(|t| t.marker.name == build.name) {
        return Err(Error::new(Kind::Conflict, format!("there is a template {} already", build.name))
            .remedy("choose another name, or none"));
    }
    let root = build_dir(&facts.paths.state_dir).join(&build.name);
    let archive = target.1.join(format!("smbgw-gateway-{}_{}_{}.tar.zst", build.suite, build.name, build.arch));
    let part = archive.with_extension("zst.part");
    let mut steps = vec![
        Step::new(
            "template/directory",
            "make a directory to build in",
            Watch::Exists(root.clone()),
            Effect::MakeDir { path: root.clone(), mode: 0o755 },
        )
        .before(Seen::Absent)
        .want(Seen::Present)
        .undo(Undo::Do(vec![Effect::RemoveBuild(root.clone())])),
        debootstrap(build, &root),
    ];
    for (n, dir) in DIRECTORIES.iter().enumerate() {
        let path = root.join(dir);
        let title = format!("make {}", path.display());
        steps.push(within(Step::new(format!("template/make.{n}"), title, Watch::Nothing, Effect::MakeDir { path, mode: 0o755 })));
    }
    for (n, (path, content)) in files(build).into_iter().enumerate() {
        let path = root.join(path);
        let title = format!("write {}", path.display());
        let effect = Effect::Write(FileSpec { path, content, mode: 0o644, uid: 0, gid: 0 });
        steps.push(within(Step::new(format!("template/file.{n}"), title, Watch::Nothing, effect)));
    }
    for (id, title, words) in [
        ("template/units", "enable what starts with the container, and nothing else", &["preset-all"][..]),
        ("template/target", "let it come up without a display", &["set-default", "multi-user.target"]),
        ("template/mask", "mask what never starts in it", &["mask"]),
    ] {
        let mut args = vec![format!("--root={}", root.display())];
        args.extend(words.iter().chain(if words[0] == "mask" { MASKED } else { &[] }).map(|w| (*w).to_owned()));
        let cmd = Cmd::new(Program::Systemctl, args).within_ms(60_000);
        steps.push(within(Step::new(id, title, Watch::Nothing, Effect::Run(cmd))));
    }
    let inside = root.join(HAND_INSIDE.trim_start_matches('/'));
    let cmd = Cmd::new(Program::Install, ["-D", "-m", "0755", HAND, &inside.display().to_string()]);
    steps.push(within(Step::new("template/hand", "put smbgw-guest into it", Watch::Nothing, Effect::Run(cmd))));
    steps.push(
        Step::new(
            "template/place",
            format!("make {}", target.1.display()),
            Watch::Nothing,
            Effect::MakeDir { path: target.1.clone(), mode: 0o755 },
        )
        .undo(Undo::None("a directory of the storage".into())),
    );
    steps.push(pack(&root, &part));
    let marker = Template {
        schema: SCHEMA,
        name: build.name.clone(),
        archive: archive.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        sha256: String::new(),
        version: env!("CARGO_PKG_VERSION").into(),
        hand: HAND_VERSION.into(),
        suite: build.suite.clone(),
        arch: build.arch.clone(),
        samba: String::new(),
        built_ms: facts.now_ms,
        built_on: facts.node.clone(),
    };
    let undo = vec![Effect::Remove(marker_of(&archive)), Effect::Remove(archive.clone())];
    steps.push(
        Step::new(
            "template/mark",
            "describe it beside the archive",
            Watch::Exists(archive.clone()),
            Effect::MarkTemplate { archive, marker: Box::new(marker) },
        )
        .undo(Undo::Do(undo))
        .long(),
    );
    steps.push(
        Step::new("template/clean", "remove the directory", Watch::Exists(root.clone()), Effect::RemoveBuild(root))
            .want(Seen::Absent)
            .undo(Undo::None("it is built anew".into()))
            .long(),
    );
    Ok((steps, Vec::new()))
}

/// The directory of all builds.
pub fn build_dir(state: &Path) -> PathBuf {
    state.join("build")
}

/// The marker of an archive.
pub fn marker_of(archive: &Path) -> PathBuf {
    let mut name = archive.as_os_str().to_owned();
    name.push(MARKER);
    PathBuf::from(name)
}

fn within(step: Step) -> Step {
    step.undo(Undo::None("it goes with the directory".into()))
}

fn debootstrap(build: &Build, root: &Path) -> Step {
    let mut args = vec![
        "--variant=minbase".to_owned(),
        format!("--arch={}", build.arch),
        format!("--include={PACKAGES}"),
        build.suite.clone(),
        root.display().to_string(),
    ];
    args.extend(build.mirror.clone());
    let cmd = Cmd::new(Program::Debootstrap, args).within_ms(1_800_000);
    within(Step::new(
        "template/debian",
        format!("install Debian {} with Samba into it", build.suite),
        Watch::Nothing,
        Effect::Run(cmd),
    ))
    .long()
}

fn pack(root: &Path, part: &Path) -> Step {
    let mut args: Vec<String> = ["--zstd", "--numeric-owner", "--xattrs", "--acls", "--sort=name"].map(str::to_owned).into();
    args.extend(LEFT_OUT.iter().map(|p| format!("--exclude=./{p}")));
    args.extend(["-cf".to_owned(), part.display().to_string(), "-C".to_owned(), root.display().to_string(), ".".to_owned()]);
    let cmd = Cmd::new(Program::Tar, args).within_ms(600_000);
    Step::new("template/pack", format!("pack it as {}", part.display()), Watch::Exists(part.to_owned()), Effect::Run(cmd))
        .undo(Undo::Do(vec![Effect::Remove(part.to_owned())]))
        .long()
}

/// Removes templates that nobody uses, the newest excepted.
pub fn prune(keep: usize, facts: &Facts) -> Steps {
    let guest = facts.guest.as_ref().ok_or_else(|| Error::new(Kind::Internal, "nobody looked at the templates"))?;
    let mut all: Vec<_> = guest.templates.iter().collect();
    // A marker without its archive is no template to keep instead of one that can be used.
    all.sort_by_key(|t| std::cmp::Reverse((t.present, t.marker.built_ms)));
    let mut steps = Vec::new();
    for t in all.into_iter().skip(keep.max(1)).filter(|t| !guest.used_templates.contains(&t.marker.name)) {
        for (what, path) in [("marker", marker_of(&t.path)), ("archive", t.path.clone())] {
            let title = format!("remove the {what} of template {}", t.marker.name);
            let step = Step::new(format!("template/{what}.{}", t.marker.name), title, Watch::Nothing, Effect::Remove(path));
            steps.push(step.undo(Undo::None("it can be built anew".into())));
        }
    }
    Ok((steps, Vec::new()))
}
