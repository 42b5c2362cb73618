// SPDX-License-Identifier: MIT OR Apache-2.0
//! Acts on templates: check sums, the marker, the removal of what was built. It removes nothing outside the directory of builds.

use std::path::{Path, PathBuf};

use super::{Flow, Tools, run};
use crate::effect::{Cmd, FileSpec, Program};
use crate::error::{Error, Kind, Result};
use crate::facts::Template;
use crate::host::Output;
use crate::plan::template::{build_dir, marker_of};

fn sha256sum(path: &Path) -> Cmd {
    Cmd::new(Program::Sha256sum, ["--binary", "--", &path.display().to_string()]).within_ms(600_000)
}

fn sum_of(out: &Output) -> Result<String> {
    // A backslash stands before the sum of a file whose name has odd characters.
    let text = out.out();
    let sum = text.split_whitespace().next().unwrap_or_default().trim_start_matches('\\').to_owned();
    if sum.len() == 64 { Ok(sum) } else { Err(Error::new(Kind::Service, "sha256sum tells no check sum")) }
}

/// Compares a file with its check sum.
pub(super) fn checksum(path: PathBuf, sha256: String) -> Flow {
    Flow::Run(
        sha256sum(&path),
        Box::new(move |_, out| {
            let sum = sum_of(&out)?;
            if sum == sha256 {
                return Ok(Flow::Finished);
            }
            Err(Error::new(
                Kind::Corrupt,
                format!("{} is not the archive that its marker describes: SHA-256 {sum} instead of {sha256}", path.display()),
            )
            .as_kind(Kind::Unsafe)
            .remedy("copy it again, or remove it and its marker and build another: pve-smbgateway template build"))
        }),
    )
}

/// Removes a directory in which a template was built.
pub(super) fn remove_build(tools: &Tools<'_>, path: &Path) -> Result<Flow> {
    let builds = build_dir(&tools.paths.state_dir);
    let below = path.strip_prefix(&builds).is_ok_and(|rest| rest.components().count() == 1);
    if !below {
        return Err(Error::new(Kind::Internal, format!("{} is no directory of a build", path.display())));
    }
    // One file system: what a killed debootstrap left mounted in it (/proc) is not gone through.
    let args = ["--recursive", "--force", "--one-file-system", "--", &path.display().to_string()];
    Ok(run(Cmd::new(Program::Rm, args).within_ms(300_000)))
}

/// Gives a packed template its name and its marker.
pub(super) fn mark(archive: PathBuf, marker: Template) -> Flow {
    let part = archive.with_extension("zst.part");
    let source = part.clone();
    Flow::Run(
        sha256sum(&part),
        Box::new(move |tools, out| {
            let host = &*tools.host;
            let root = build_dir(&tools.paths.state_dir).join(&marker.name);
            let status = host.read_text(&root.join("var/lib/dpkg/status"))?.unwrap_or_default();
            let samba = installed(&status, "samba").ok_or_else(|| {
                Error::new(Kind::Service, "Samba is not installed in the template").remedy("see what debootstrap said")
            })?;
            let marker = Template { sha256: sum_of(&out)?, samba, ..marker };
            // The archive first: a marker without it says so, an archive without a marker is passed by.
            host.rename(&source, &archive)?;
            let mut content = serde_json::to_string_pretty(&marker).unwrap_or_default();
            content.push('\n');
            host.write(&FileSpec { path: marker_of(&archive), content, mode: 0o644, uid: 0, gid: 0 })?;
            Ok(Flow::Finished)
        }),
    )
}

/// The version of a package by dpkg's status file.
fn installed(status: &str, package: &str) -> Option<String> {
    let mut ours = false;
    for line in status.lines() {
        if let Some(name) = line.strip_prefix("Package: ") {
            ours = name == package;
        } else if let Some(version) = line.strip_prefix("Version: ").filter(|_| ours) {
            return Some(version.to_owned());
        }
    }
    None
}
