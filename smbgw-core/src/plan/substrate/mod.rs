// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a mode needs around Samba: the one place that tells modes apart. `native` needs programs on the node, `lxc` a container with the
//! trees in it. It must not know how Samba is configured.

pub mod lxc;

use std::path::Path;

use super::Intent;
use super::common::{Steps, must_have as need, nothing};
use super::step::{Effect, Step, Undo, Watch};
use crate::effect::Program;
use crate::error::{Error, Kind, Result};
use crate::facts::{Facts, TreeFact};
use crate::spec::record::{Mount, ShareEntry, ShareState};
use crate::spec::{GuestSpec, Mode, ShareSpec};

/// Refuses to begin where programs are missing.
pub fn must_have(facts: &Facts) -> Result<()> {
    use Program::{Groupadd, LxcInfo, Pct, Pdbedit, Smbclient, Smbcontrol, Smbd, Testparm, Useradd};
    match facts.paths.mode {
        Mode::Native => need(facts, &[Smbd, Testparm, Pdbedit, Smbcontrol, Smbclient, Useradd, Groupadd]),
        Mode::Lxc => need(facts, &[Pct, LxcInfo])
            .map_err(|e| e.remedy("mode lxc needs a node of Proxmox VE; on plain Debian use --smbgw-mode native")),
    }
}

/// How a share's tree gets to the Samba that serves it.
pub fn mount_of(spec: &ShareSpec, facts: &Facts, old: Option<&ShareEntry>, tree: &TreeFact) -> Result<Option<Mount>> {
    match spec.mode {
        Mode::Native => Ok(None),
        Mode::Lxc => lxc::mount_of(spec, facts, old, tree).map(Some),
    }
}

/// What is worth a word about a share in a container.
pub fn warnings(spec: &ShareSpec, guest: &GuestSpec, facts: &Facts) -> Vec<String> {
    lxc::warnings(spec, guest, facts)
}

/// Whether the place that serves a share goes with it.
pub fn goes_with(id: &str, facts: &Facts) -> bool {
    facts.paths.mode == Mode::Lxc && facts.record.as_ref().is_some_and(|r| super::common::is_last(id, r))
}

/// The phases of the place itself.
pub fn guest(phase: &str, intent: &Intent, facts: &Facts) -> Steps {
    match facts.paths.mode {
        Mode::Native => Err(Error::new(Kind::Unsupported, "the native gateway has no container; it is the node's own Samba")
            .remedy("name a gateway of mode lxc; see: pve-smbgateway gateway list")),
        Mode::Lxc => lxc::phase(phase, intent, facts),
    }
}

/// A phase inside a place that cannot be looked into.
pub fn out_of_reach(intent: &Intent, facts: &Facts) -> Steps {
    let stopped = facts.record.as_ref().is_some_and(|r| r.stopped);
    let gateway = &facts.paths.gateway;
    // Without a share that stays there is nothing to serve, and no container for it.
    let idle = facts.record.as_ref().is_none_or(|r| r.shares.values().all(|e| e.state == ShareState::Deleting));
    match intent {
        Intent::Repair { .. } if idle && facts.container().is_none() => nothing(),
        Intent::Update { .. } | Intent::Repair { .. } if stopped => Ok((
            Vec::new(),
            vec![format!(
                "gateway {gateway} is stopped; this takes effect when it is started: pve-smbgateway gateway start {gateway}"
            )],
        )),
        Intent::GatewayStart | Intent::GatewayRestart if facts.container().is_none() => nothing(),
        _ => {
            let why = match facts.container() {
                None => format!("the container of gateway {gateway} is not on this node"),
                Some((vmid, g)) if !g.running => format!("container {vmid} of gateway {gateway} does not run"),
                Some((vmid, g)) => format!(
                    "container {vmid} of gateway {gateway} cannot be looked into: {}",
                    g.hand.as_ref().err().map_or("it does not answer", String::as_str)
                ),
            };
            Err(Error::new(Kind::Service, why)
                .remedy(format!("pve-smbgateway gateway start {gateway}, or let the worker repair it: pve-smbgateway reconcile")))
        }
    }
}

/// Other numbers for everything in a tree.
pub fn shift(path: &Path, back: bool, facts: &Facts) -> Steps {
    facts.tree(path).map_err(|why| Error::property("path", why))?;
    let title = format!("{} the numbers of owners in {}", if back { "take back" } else { "shift" }, path.display());
    // Not undone by itself: it goes on where it was cut short, and back is a command of its own.
    let undo = Undo::None("pve-smbgateway shift takes it back, or goes on".into());
    let step = Step::new("tree/shift", title, Watch::Tree(path.to_owned()), Effect::Shift { path: path.to_owned(), up: !back });
    Ok((vec![step.undo(undo).long()], Vec::new()))
}
