// SPDX-License-Identifier: MIT OR Apache-2.0
//! Templates of containers: a small Debian with Samba in it, built once on a node, packed, and described by a marker beside the archive. It
//! knows what is in a template; it must not know gateways. Nothing is installed when a container is made from it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::common::{Steps, must_have};
use super::samba;
use super::step::{Effect, Seen, Step, Undo, Watch};
use crate::effect::{Cmd, FileSpec, HAND, HAND_INSIDE, Program};
use crate::error::{Error, Kind, Problem, Result};
use crate::facts::{Facts, Template};
use crate::spec::Security;
use crate::types::shorten;

/// Version of the marker's form.
pub const SCHEMA: u32 = 1;
/// What the marker's file name adds to the archive's. Proxmox lists archives by their ending and passes this by.
pub const MARKER: &str = ".smbgw.json";

/// What is put into a template besides Debian's smallest system.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,ifupdown,isc-dhcp-client,iproute2,ca-certificates,samba,samba-common-bin,samba-vfs-modules,smbclient,winbind,libnss-winbind,libpam-winbind,krb5-user,ctdb,acl,attr";

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
        "# Samba of a gateway of smbgw. Shares are in smbgw.conf, which is included below.\n[global]\n   workgroup = WORKGROUP\n   server role = standalone server\n   logging = systemd\n   log level = 1\n   passdb backend = tdbsam\n   unix extensions = yes\n",
    );
    for (name, value) in samba::globals(Security::Standard) {
        text.push_str(&format!("   {name} = {value}\n"));
    }
    text
}

/// Files of a template: path, content, mode.
fn files(build: &Build) -> Vec<(&'static str, String, u32)> {
    vec![
        ("etc/samba/smb.conf", smb_conf(), 0o644),
        ("etc/hostname", "smbgw\n".into(), 0o644),
        ("etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost\n".into(), 0o644),
        ("etc/machine-id", String::new(), 0o444),
        ("etc/systemd/journald.conf.d/smbgw.conf", "[Journal]\nStorage=volatile\nRuntimeMaxUse=8M\n".into(), 0o644),
        ("etc/smbgw-template", format!("{}\n", build.name), 0o644),
    ]
}

/// Units that start with the container, and those that never do.
const ENABLED: &[&str] = &["smbd.service"];
const MASKED: &[&str] = &[
    "nmbd.service",
    "winbind.service",
    "ctdb.service",
    "samba-ad-dc.service",
    "systemd-logind.service",
    "console-getty.service",
    "container-getty@1.service",
    "container-getty@2.service",
    "getty@tty1.service",
    "systemd-journald-audit.socket",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
];

/// Builds a template.
pub fn build(build: &Build, facts: &Facts) -> Steps {
    must_have(facts, &[Program::Debootstrap, Program::Tar, Program::Systemctl])?;
    build.check()?;
    let guest = facts.guest.as_ref().ok_or_else(|| Error::new(Kind::Internal, "nobody looked at the storages"))?;
    let target = match &build.storage {
        Some(id) => guest.template_dirs.iter().find(|(s, _)| s == id).ok_or_else(|| {
            Error::property("storage", format!("storage {id} keeps no templates on this node"))
                .remedy(format!("allow it: pvesm set {id} --content …,vztmpl"))
        })?,
        None => guest.template_dirs.first().ok_or_else(|| {
            Error::property("storage", "no storage of this node keeps templates").remedy("allow one: pvesm set local --content …,vztmpl")
        })?,
    };
    let root = build_dir(&facts.paths.state_dir).join(&build.name);
    let archive = target.1.join(format!("smbgw-gateway-{}_{}_{}.tar.zst", build.suite, build.name, build.arch));
    let part = archive.with_extension("zst.part");
    let mut steps = vec![
        Step::new("template/directory", "make a directory to build in", Watch::Dir(root.clone()), Effect::MakeDir { path: root.clone(), mode: 0o755 })
            .before(Seen::Absent)
            .want(Seen::Present)
            .undo(Undo::Do(vec![Effect::RemoveBuild(root.clone())])),
        debootstrap(build, &root),
    ];
    for (n, (path, content, mode)) in files(build).into_iter().enumerate() {
        let path = root.join(path);
        if let Some(dir) = path.parent().filter(|d| d.ends_with("journald.conf.d")) {
            steps.push(within(Step::new(format!("template/make.{n}"), format!("make {}", dir.display()), Watch::Nothing, Effect::MakeDir { path: dir.to_owned(), mode: 0o755 })));
        }
        let effect = Effect::Write(FileSpec { path: path.clone(), content, mode, uid: 0, gid: 0 });
        steps.push(within(Step::new(format!("template/file.{n}"), format!("write {}", path.display()), Watch::Nothing, effect)));
    }
    for (id, verb, units) in [("template/enable", "enable", ENABLED), ("template/mask", "mask", MASKED)] {
        let mut args = vec![format!("--root={}", root.display()), verb.to_owned()];
        args.extend(units.iter().map(|u| (*u).to_owned()));
        let cmd = Cmd::new(Program::Systemctl, args).within_ms(30_000);
        steps.push(within(Step::new(id, format!("{verb} units of the template"), Watch::Nothing, Effect::Run(cmd))));
    }
    let mut args = vec![format!("--root={}", root.display()), "set-default".to_owned(), "multi-user.target".to_owned()];
    steps.push(within(Step::new("template/target", "let it come up without a display", Watch::Nothing, Effect::Run(Cmd::new(Program::Systemctl, std::mem::take(&mut args)).within_ms(30_000)))));
    let inside = root.join(HAND_INSIDE.trim_start_matches('/'));
    let cmd = Cmd::new(Program::Install, ["-D", "-m", "0755", HAND, &inside.display().to_string()]);
    steps.push(within(Step::new("template/hand", "put smbgw-guest into it", Watch::Nothing, Effect::Run(cmd))));
    steps.push(
        Step::new("template/place", format!("make {}", target.1.display()), Watch::Nothing, Effect::MakeDir { path: target.1.clone(), mode: 0o755 })
            .undo(Undo::None("a directory of the storage".into())),
    );
    steps.push(pack(&root, &part));
    let marker = Template {
        schema: SCHEMA,
        name: build.name.clone(),
        archive: archive.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        sha256: String::new(),
        version: env!("CARGO_PKG_VERSION").into(),
        suite: build.suite.clone(),
        arch: build.arch.clone(),
        samba: String::new(),
        built_ms: facts.now_ms,
        built_on: facts.node.clone(),
    };
    let undo = vec![Effect::Remove(marker_of(&archive)), Effect::Remove(archive.clone())];
    steps.push(
        Step::new("template/mark", "describe it beside the archive", Watch::File(marker_of(&archive)), Effect::MarkTemplate { archive, marker: Box::new(marker) })
            .undo(Undo::Do(undo))
            .long(),
    );
    steps.push(
        Step::new("template/clean", "remove the directory", Watch::Dir(root.clone()), Effect::RemoveBuild(root))
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
    within(Step::new("template/debian", format!("install Debian {} with Samba into it", build.suite), Watch::Nothing, Effect::Run(cmd))).long()
}

fn pack(root: &Path, part: &Path) -> Step {
    let mut args: Vec<String> = ["--zstd", "--numeric-owner", "--xattrs", "--acls", "--sort=name"].map(str::to_owned).into();
    for dir in ["var/cache/apt/archives", "var/lib/apt/lists", "var/cache/debconf", "usr/share/doc", "usr/share/man", "usr/share/locale", "dev", "proc", "sys", "run", "tmp"] {
        // The directory itself stays.
        args.push(format!("--exclude=./{dir}/*"));
    }
    args.extend(["-cf".to_owned(), part.display().to_string(), "-C".to_owned(), root.display().to_string(), ".".to_owned()]);
    let cmd = Cmd::new(Program::Tar, args).within_ms(600_000);
    Step::new("template/pack", format!("pack it as {}", part.display()), Watch::File(part.to_owned()), Effect::Run(cmd))
        .undo(Undo::Do(vec![Effect::Remove(part.to_owned())]))
        .long()
}

/// Removes templates that nobody uses, the newest excepted.
pub fn prune(keep: usize, facts: &Facts) -> Steps {
    let guest = facts.guest.as_ref().ok_or_else(|| Error::new(Kind::Internal, "nobody looked at the templates"))?;
    let mut all: Vec<_> = guest.templates.iter().collect();
    all.sort_by_key(|t| std::cmp::Reverse(t.marker.built_ms));
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
