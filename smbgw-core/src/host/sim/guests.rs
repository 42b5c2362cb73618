// SPDX-License-Identifier: MIT OR Apache-2.0
//! Containers of the simulated machine: each is a world of its own, with trees of the node mounted into it. It knows how Proxmox VE's
//! tools change them; it must not know what a gateway is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files::Files;
use super::{Machine, Said, World};
use crate::effect::{Cmd, HAND_INSIDE, HAND_VERSION, Program};
use crate::error::{Error, Kind, Result};

/// A tree of the node inside a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// The tree on the node.
    pub source: PathBuf,
    /// Where it is inside.
    pub target: PathBuf,
    /// What is added to a number inside to get the one on the disk.
    pub shift: u32,
}

/// A container.
#[derive(Debug, Clone, PartialEq)]
pub struct Guest {
    /// It runs.
    pub running: bool,
    /// What is in it.
    pub world: Box<World>,
    /// Trees that are mounted into it now, by slot.
    pub mounts: BTreeMap<String, Bind>,
}

/// Works inside a container: its world stands in for that of the node, and the mounted trees are in both.
pub(super) fn inside<T>(m: &mut Machine, vmid: Option<u32>, work: impl FnOnce(&mut Machine) -> Result<T>) -> Result<T> {
    let Some(vmid) = vmid else { return work(m) };
    let Some(guest) = m.world.guests.get(&vmid).filter(|g| g.running) else {
        return Err(Error::new(Kind::Service, format!("container '{vmid}' not running!")));
    };
    let (mut world, binds) = (guest.world.clone(), guest.mounts.clone());
    for b in binds.values() {
        copy(&m.world.files, &b.source, &mut world.files, &b.target, |id| id.checked_sub(b.shift).unwrap_or(65534));
    }
    std::mem::swap(&mut m.world, &mut world);
    let done = work(m);
    std::mem::swap(&mut m.world, &mut world);
    for b in binds.values() {
        copy(&world.files, &b.target, &mut m.world.files, &b.source, |id| id + b.shift);
        world.files.take(&b.target);
        world.files.put_dir(&b.target, 0o755, 0, 0);
    }
    if let Some(guest) = m.world.guests.get_mut(&vmid) {
        guest.world = world;
    }
    done
}

/// Makes `to` in one world what `from` is in the other.
fn copy(source: &Files, from: &Path, target: &mut Files, to: &Path, id: impl Fn(u32) -> u32) {
    let moved: BTreeMap<_, _> = source
        .nodes
        .iter()
        .filter_map(|(p, n)| {
            let mut n = n.clone();
            (n.uid, n.gid) = (id(n.uid), id(n.gid));
            Some((to.join(p.strip_prefix(from).ok()?), n))
        })
        .map(|(p, n)| if p.as_os_str().is_empty() { (to.to_owned(), n) } else { (p, n) })
        .collect();
    target.take(to);
    target.nodes.extend(moved);
}

/// Where `pct exec VMID … -- smbgw-guest` leads, or why it leads nowhere.
pub(super) fn entrance(world: &World, cmd: &Cmd) -> Result<u32> {
    let failed = |why: String| Err(Error::new(Kind::Service, format!("pct has ended: {why}")));
    let vmid = cmd.args.get(1).and_then(|v| v.parse::<u32>().ok()).unwrap_or_default();
    let Some(g) = world.guests.get(&vmid) else {
        return failed(format!("Configuration file 'nodes/pve1/lxc/{vmid}.conf' does not exist"));
    };
    if !g.running {
        return failed(format!("container '{vmid}' not running!"));
    }
    if cmd.args.first().is_none_or(|a| a != "exec") || cmd.args.last().is_none_or(|a| a != HAND_INSIDE) {
        return failed("that is no conversation".into());
    }
    if g.world.files.bytes(HAND_INSIDE).is_none() {
        return failed("lxc-attach: No such file or directory".into());
    }
    Ok(vmid)
}

/// The version of the hand in a container, where it is not ours. The file holds it as text here.
pub(super) fn other_version(world: &World, vmid: u32) -> Option<String> {
    let text = world.guests.get(&vmid)?.world.files.text(HAND_INSIDE);
    (text.trim() != HAND_VERSION).then(|| text.trim().to_owned())
}

/// `pct`, `lxc-info`, `ha-manager`.
pub(super) fn run(_m: &mut Machine, program: Program, _args: &[String]) -> Said {
    Said::err(1, format!("{} is not simulated yet", program.name()))
}

/// `debootstrap` and `tar`.
pub(super) fn build(_m: &mut Machine, program: Program, _args: &[String]) -> Said {
    Said::err(1, format!("{} is not simulated yet", program.name()))
}
