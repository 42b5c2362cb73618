// SPDX-License-Identifier: MIT OR Apache-2.0
//! Acts on a container from outside. It looks for the gateway's mark just before each, so that nobody else's container is ever touched, and
//! waits until what was asked for is so.

use std::time::Duration;

use super::{Flow, Tools};
use crate::effect::{Cmd, FileSpec, Program};
use crate::error::{Error, Kind, Result};
use crate::facts::Limits;
use crate::format::guest_conf::with_raw;
use crate::host::Secrets;
use crate::observe::guests;
use crate::plan::substrate::lxc::mark;
use crate::types::VmId;

/// How long somebody else's making of a container is waited for.
const MAKING_MS: u64 = 60_000;
/// How long a container may take to come up.
const BOOT_MS: u64 = 90_000;

/// How long changed limits may take to be in effect.
const LIMITS_MS: u64 = 15_000;

/// Whose a container is.
enum Whose {
    Ours,
    Nobodys,
    /// It is being made: the mark is put on at the end.
    InTheMaking,
}

fn whose(tools: &Tools<'_>, vmid: VmId, uuid: &str) -> Result<Whose> {
    match guests::conf(tools.on_node(), vmid)? {
        None => Ok(Whose::Nobodys),
        Some(c) if c.has_tag(&mark(uuid)) => Ok(Whose::Ours),
        Some(c) if c.get("lock") == Some("create") => Ok(Whose::InTheMaking),
        Some(_) => {
            Err(Error::new(Kind::Drift, format!("container {vmid} does not carry the mark of this gateway; it is not touched"))
                .remedy(format!("the mark is the tag {}; find out whose container {vmid} is", mark(uuid))))
        }
    }
}

/// Runs a command on a container that is ours.
pub(super) fn act(tools: &Tools<'_>, vmid: VmId, uuid: &str, cmd: &Cmd, gone_ok: bool) -> Result<Flow> {
    match whose(tools, vmid, uuid)? {
        Whose::Ours => on_ours(tools, vmid, cmd, gone_ok),
        Whose::Nobodys if gone_ok => Ok(Flow::Finished),
        Whose::Nobodys => Err(Error::new(Kind::Drift, format!("container {vmid} is not there any more"))),
        Whose::InTheMaking => {
            let (uuid, cmd, again) = (uuid.to_owned(), cmd.clone(), uuid.to_owned());
            Ok(Flow::Wait {
                what: format!(
                    "the end of the making of container {vmid} (if nothing makes it any more: pct unlock {vmid} && pct destroy {vmid})"
                ),
                limit_ms: MAKING_MS,
                check: Box::new(move |t| Ok(!matches!(whose(t, vmid, &uuid)?, Whose::InTheMaking))),
                next: Box::new(move |t| act(t, vmid, &again, &cmd, gone_ok)),
            })
        }
    }
}

fn on_ours(tools: &Tools<'_>, vmid: VmId, cmd: &Cmd, undo: bool) -> Result<Flow> {
    let word = |n: usize| cmd.args.get(n).map_or("", String::as_str);
    // What shall be so afterwards: running, not running, or nothing in particular.
    let wanted = match (cmd.program, word(0), word(3)) {
        (Program::Pct, "start", _) | (Program::HaManager, _, "started") => Some(true),
        (Program::Pct, "shutdown", _) | (Program::HaManager, _, "stopped") => Some(false),
        _ => None,
    };
    if wanted.is_some() || matches!(word(0), "destroy" | "push") {
        tools.machines.hang_up(vmid);
    }
    if let Some(running) = wanted.filter(|_| undo) {
        if guests::init(tools.on_node(), vmid)?.is_some() == running {
            return Ok(Flow::Finished);
        }
    }
    Ok(Flow::Run(
        cmd.clone(),
        Box::new(move |_, _| match wanted {
            None => Ok(Flow::Finished),
            Some(running) => Ok(Flow::Wait {
                what: format!("the {} of container {vmid}", if running { "start" } else { "end" }),
                limit_ms: BOOT_MS,
                check: Box::new(move |t| Ok(guests::init(t.on_node(), vmid)?.is_some() == running)),
                next: Box::new(|_| Ok(Flow::Finished)),
            }),
        }),
    ))
}

/// Sets a raw line in a configuration, or takes it out.
pub(super) fn set_line(tools: &Tools<'_>, vmid: VmId, uuid: &str, key: &str, value: Option<&str>) -> Result<()> {
    if !matches!(whose(tools, vmid, uuid)?, Whose::Ours) {
        // Gone, and the line with it: an undo is done with that, and a step finds out when it looks at what it has done.
        return Ok(());
    }
    let path = guests::conf_path(vmid);
    let text = tools.on_node().read_text(&path)?.unwrap_or_default();
    let Some(file) = tools.on_node().read(&path, 1 << 20)? else { return Ok(()) };
    let content = with_raw(&text, key, value);
    tools.on_node().write(&FileSpec { path, content, mode: file.mode, uid: file.uid, gid: file.gid })
}

/// Compares the limits in effect with those that must be. Processors of a running container are given by pvestatd, which comes by every ten
/// seconds.
pub(super) fn compare_limits(tools: &Tools<'_>, vmid: VmId, wanted: &Limits) -> Flow {
    let (until, wanted) = (tools.on_node().monotonic_ms() + LIMITS_MS, wanted.clone());
    Flow::Wait {
        what: format!("the limits of container {vmid}"),
        limit_ms: 2 * LIMITS_MS,
        check: Box::new(move |t| match in_effect(t, vmid, &wanted) {
            Err(e) if e.kind() == Kind::Unsafe && t.on_node().monotonic_ms() < until => {
                t.host.pause(Duration::from_millis(200));
                Ok(false)
            }
            other => other.map(|()| true),
        }),
        next: Box::new(|_| Ok(Flow::Finished)),
    }
}

fn in_effect(tools: &Tools<'_>, vmid: VmId, wanted: &Limits) -> Result<()> {
    let wrong = guests::limits(tools.on_node(), vmid)?.differences(wanted);
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::Unsafe, format!("limits of container {vmid} are not in effect: {}", wrong.join("; ")))
        .remedy(format!("see pct config {vmid} and /sys/fs/cgroup/lxc/{vmid}")))
}

/// Until the init system of a guest is up; single units that failed are none of ours.
pub(super) fn await_boot() -> Flow {
    Flow::Wait {
        what: "the end of the container's boot (systemctl is-system-running)".into(),
        limit_ms: BOOT_MS,
        check: Box::new(|tools| {
            let cmd = Cmd::new(Program::Systemctl, ["is-system-running"]).within_ms(5_000);
            // In its first moments it cannot even be asked.
            let state = tools.host.run(&cmd, &Secrets::default()).map(|o| o.out().trim().to_owned()).unwrap_or_default();
            let up = matches!(state.as_str(), "running" | "degraded");
            if !up {
                tools.host.pause(Duration::from_millis(80));
            }
            Ok(up)
        }),
        next: Box::new(|_| Ok(Flow::Finished)),
    }
}
