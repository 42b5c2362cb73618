// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looking at containers from the node: configurations under `/etc/pve`, the kernel's limits under `/proc` and `/sys`, templates and their
//! markers. It knows where Proxmox VE keeps what; it changes nothing, and never looks through a container's root directory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::effect::{Cmd, Place, Program};
use crate::error::{Error, Kind, Result, chain};
use crate::facts::{Facts, GuestFacts, GuestSeen, Limits, Paths, Template, TemplateFact};
use crate::format::guest_conf::GuestConf;
use crate::format::storage_cfg;
use crate::host::{Host, Machines};
use crate::plan::step::Seen;
use crate::plan::substrate::lxc::mark;
use crate::plan::template::{MARKER, SCHEMA};
use crate::spec::record::Record;
use crate::spec::section::{Sections, container_storages, template_directories};
use crate::types::VmId;

const NODES: &str = "/etc/pve/nodes";
/// Proxmox's own link to this node's containers.
const HERE: &str = "/etc/pve/lxc";
/// Where the control groups are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The configuration file of a container of this node.
pub fn conf_path(vmid: VmId) -> PathBuf {
    Path::new(HERE).join(format!("{vmid}.conf"))
}

/// The configuration of a container of this node.
pub fn conf(node: &dyn Host, vmid: VmId) -> Result<Option<GuestConf>> {
    Ok(node.read_text(&conf_path(vmid))?.map(|t| GuestConf::parse(&t)))
}

fn marks(conf: &GuestConf) -> Vec<String> {
    let tags = conf.get("tags").unwrap_or_default().split([';', ',', ' ']);
    let mut marks: Vec<String> = tags.filter(|t| t.starts_with("smbgw-")).map(str::to_owned).collect();
    marks.sort();
    marks
}

/// What a step sees of a container.
pub fn see(node: &dyn Host, vmid: VmId) -> Result<Seen> {
    match conf(node, vmid)? {
        None => Ok(Seen::Absent),
        Some(c) => Ok(Seen::Guest { marks: marks(&c), running: init(node, vmid)?.is_some() }),
    }
}

/// The first process of a running container; `None` if it does not run.
pub fn init(node: &dyn Host, vmid: VmId) -> Result<Option<i32>> {
    if !node.installed(Program::LxcInfo)? {
        return Ok(None);
    }
    let cmd = Cmd::new(Program::LxcInfo, ["-n", &vmid.to_string(), "-p", "-H"]);
    // It fails for one that was never started.
    let out = super::ask(node, &cmd)?;
    if out.status < 0 {
        return Err(cut_short(&cmd, out.status));
    }
    Ok(out.out().trim().parse().ok().filter(|p| *p > 0 && out.status == 0))
}

/// A program that was ended by somebody else has told nothing.
fn cut_short(cmd: &Cmd, status: i32) -> Error {
    Error::new(Kind::Service, format!("{} was ended before it answered", cmd.program.name())).story(|s| {
        s.command = Some(cmd.to_string());
        s.exit = Some(format!("signal {}", -status));
    })
}

/// Every guest of the cluster, and what there is of this gateway's containers.
pub fn look(m: &Machines, name: &str, record: Option<&Record>) -> Result<GuestFacts> {
    let node = m.node();
    let mut facts = GuestFacts::default();
    for n in node.list(Path::new(NODES))? {
        for kind in ["lxc", "qemu-server"] {
            for file in node.list(&Path::new(NODES).join(&n).join(kind))? {
                let Some(vmid) = file.strip_suffix(".conf").and_then(|v| VmId::parse(v).ok()) else { continue };
                facts.used.insert(vmid, n.clone());
            }
        }
    }
    let Some(r) = record else { return Ok(facts) };
    for vmid in [r.vmid, r.retired].into_iter().flatten() {
        if facts.used.get(&vmid).is_none_or(|n| n != name) {
            continue;
        }
        let Some(conf) = conf(node, vmid)? else { continue };
        let running = init(node, vmid)?.is_some();
        let ours = conf.has_tag(&mark(&r.uuid));
        let hand = match (ours, running) {
            (false, _) => Err("it is not ours".to_owned()),
            (true, false) => Err("it does not run".to_owned()),
            // The first call tells whether there is a hand, and whether it is of our version.
            (true, true) if r.vmid == Some(vmid) => m.at(Place::Ct(vmid)).exists(Path::new("/")).map(drop).map_err(|e| chain(&e)),
            (true, true) => Ok(()),
        };
        facts.here.insert(vmid, GuestSeen { conf, running, hand });
    }
    Ok(facts)
}

/// What a plan needs to know besides; what `pct` itself can do only where a tree is to be mounted, since asking costs a process.
pub fn look_closer(node: &dyn Host, name: &str, facts: &Facts, mounting: bool, guest: &mut GuestFacts) -> Result<()> {
    let text = |p: &str| node.read_text(Path::new(p)).map(Option::unwrap_or_default);
    let sections: Sections = storage_cfg::parse(&text("/etc/pve/storage.cfg")?);
    guest.storages = container_storages(&sections, name);
    guest.template_dirs = template_directories(&sections, name);
    for (storage, dir) in &guest.template_dirs {
        for file in node.list(dir)?.into_iter().filter(|f| f.ends_with(MARKER)) {
            guest.templates.extend(template(node, storage, &dir.join(file))?);
        }
    }
    let center = text("/etc/pve/datacenter.cfg")?;
    guest.next_id = next_id(&center);
    // `mac_prefix` may be longer than three bytes; then Proxmox alone knows what to make of it.
    let prefix = center.lines().find_map(|l| l.strip_prefix("mac_prefix:")).map(|p| p.trim().to_uppercase());
    guest.mac_prefix = prefix.filter(|p| p.len() == 8 && p.split(':').all(|b| b.len() == 2));
    guest.apparmor = text("/sys/module/apparmor/parameters/enabled")?.trim() == "Y";
    guest.ha = storage_cfg::parse(&text("/etc/pve/ha/resources.cfg")?)
        .into_iter()
        .filter(|(_, s)| s.get("type").is_some_and(|t| t == "ct"))
        .filter_map(|(id, _)| VmId::parse(&id).ok())
        .collect();
    guest.idmap = mounting && maps_ids(node)?;
    others(node, facts, guest)?;
    Ok(())
}

/// `next-id: lower=…,upper=…` of datacenter.cfg.
fn next_id(text: &str) -> Option<(u32, u32)> {
    let value = text.lines().find_map(|l| l.strip_prefix("next-id:"))?;
    let get = |key: &str| {
        crate::format::guest_conf::pairs(value, "").into_iter().find(|(k, _)| *k == key).and_then(|(_, v)| v.parse().ok())
    };
    Some((get("lower").unwrap_or(VmId::FIRST), get("upper").unwrap_or(1_000_000)))
}

/// Whether this version of `pct` takes `idmap=` at a mount point (pve-container 6.1.6 and later): its own help tells.
fn maps_ids(node: &dyn Host) -> Result<bool> {
    if !node.installed(Program::Pct)? {
        return Ok(false);
    }
    let cmd = Cmd::new(Program::Pct, ["help", "set", "--verbose", "1"]).within_ms(20_000);
    let out = super::ask(node, &cmd)?;
    if out.status < 0 {
        return Err(cut_short(&cmd, out.status));
    }
    Ok(out.out().contains("idmap=") || out.err().contains("idmap="))
}

/// A template by its marker; one that cannot be read is passed over with a word in the log.
fn template(node: &dyn Host, storage: &str, marker: &Path) -> Result<Option<TemplateFact>> {
    let Some(text) = node.read_text(marker)? else { return Ok(None) };
    let fine = |t: &Template| t.schema == SCHEMA && !t.archive.contains('/') && t.sha256.len() == 64;
    match serde_json::from_str::<Template>(&text) {
        Ok(t) if fine(&t) => {
            let path = marker.with_file_name(&t.archive);
            let present = node.exists(&path)?;
            Ok(Some(TemplateFact { marker: t, storage: storage.to_owned(), path, present }))
        }
        _ => {
            tracing::warn!(marker = %marker.display(), "no marker of a template that this version knows");
            Ok(None)
        }
    }
}

/// Marks of this gateway where the record does not know of any; who else reaches its trees; templates in use.
fn others(node: &dyn Host, facts: &Facts, guest: &mut GuestFacts) -> Result<()> {
    let ours = facts.record.as_ref().map(|r| mark(&r.uuid));
    let known: BTreeSet<VmId> = facts.record.iter().flat_map(|r| [r.vmid, r.retired]).flatten().collect();
    let trees: Vec<&PathBuf> = facts.trees.keys().collect();
    let mut reached: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    let touch = |tree: &Path, other: &Path| tree.starts_with(other) || other.starts_with(tree);
    for (vmid, n) in guest.used.clone() {
        let path = Path::new(NODES).join(&n).join("lxc").join(format!("{vmid}.conf"));
        let Some(text) = node.read_text(&path)? else { continue };
        let conf = GuestConf::parse(&text);
        let elsewhere = !known.contains(&vmid) || n != facts.node;
        if ours.as_ref().is_some_and(|m| conf.has_tag(m)) && elsewhere {
            guest.marked.insert(vmid, n.clone());
        }
        if n == facts.node && !known.contains(&vmid) {
            for m in conf.mounts().values() {
                for tree in trees.iter().filter(|t| touch(t, Path::new(&m.source))) {
                    reached.entry((*tree).clone()).or_default().push(format!("container {vmid}"));
                }
            }
        }
    }
    for line in node.read_text(Path::new("/etc/exports"))?.unwrap_or_default().lines().filter(|l| l.starts_with('/')) {
        let path = line.split_whitespace().next().unwrap_or_default();
        for tree in trees.iter().filter(|t| touch(t, Path::new(path))) {
            reached.entry((*tree).clone()).or_default().push(format!("the NFS export {path}"));
        }
    }
    guest.reached = reached;
    for r in records(node, &facts.paths)? {
        if r.id != facts.paths.gateway.as_str() {
            guest.claimed.extend(r.vmid);
        }
        // One that is named for a container that has yet to be built, or built again, is needed as well.
        guest.used_templates.extend(r.settings.get("smbgw-template").cloned());
        guest.used_templates.extend(r.template);
    }
    Ok(())
}

/// The records of all gateways that the cluster knows, as far as they can be read.
fn records(node: &dyn Host, paths: &Paths) -> Result<Vec<Record>> {
    let Some(dir) = paths.record_file.parent() else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    for file in node.list(dir)?.into_iter().filter(|f| f.ends_with(".json")) {
        all.extend(node.read_text(&dir.join(file))?.and_then(|t| Record::parse(&t).ok()));
    }
    Ok(all)
}

/// Whether another gateway's record names a number.
pub fn is_claimed(node: &dyn Host, paths: &Paths, vmid: VmId) -> Result<bool> {
    Ok(records(node, paths)?.iter().any(|r| r.id != paths.gateway.as_str() && r.vmid == Some(vmid)))
}

// ---- limits ------------------------------------------------------------------------------------------------------------

/// The limits of a running container as the kernel has them: of its first process, and of every control group above it.
pub fn limits(node: &dyn Host, vmid: VmId) -> Result<Limits> {
    let pid = init(node, vmid)?.ok_or_else(|| Error::new(Kind::Service, format!("container {vmid} does not run")))?;
    let proc = |name: &str| {
        node.read(&PathBuf::from(format!("/proc/{pid}/{name}")), 1 << 16)
            .map(|f| f.map(|f| String::from_utf8_lossy(&f.content).into_owned()).unwrap_or_default())
    };
    let groups = proc("cgroup")?;
    let map = proc("uid_map")?;
    let root = map.lines().find_map(|l| {
        let mut words = l.split_whitespace();
        (words.next() == Some("0")).then(|| words.next().unwrap_or("0").to_owned())
    });
    let confined = proc("attr/current")?;
    let memory = tightest(node, &groups, "memory", &["memory.max", "memory.limit_in_bytes"])?;
    let both = tightest(node, &groups, "memory", &["memory.memsw.limit_in_bytes"])?;
    let swap = tightest(node, &groups, "memory", &["memory.swap.max"])?;
    Ok(Limits {
        memory,
        // The older kind counts memory and swap together.
        swap: swap.or_else(|| Some(both?.saturating_sub(memory?))),
        cores: cpus(node, &groups)?,
        processes: tightest(node, &groups, "pids", &["pids.max"])?,
        unprivileged: root.is_some_and(|r| r != "0"),
        apparmor: confined.starts_with(&format!("lxc-{vmid}_")) && confined.contains("(enforce)"),
    })
}

/// The directories of a process's control groups with that controller, from its own up to the top.
fn ladder(groups: &str, controller: &str) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let base = if number == "0" && controllers.is_empty() {
            PathBuf::from(CGROUPS)
        } else if controllers.split(',').any(|c| c == controller) {
            Path::new(CGROUPS).join(controllers)
        } else {
            continue;
        };
        let mut at = base.join(path.trim_start_matches('/'));
        while at.starts_with(&base) {
            dirs.push(at.clone());
            // The second tree of a machine that has both lies below the first.
            dirs.extend(
                at.strip_prefix(CGROUPS).ok().filter(|_| number == "0").map(|rest| Path::new(CGROUPS).join("unified").join(rest)),
            );
            if !at.pop() {
                break;
            }
        }
    }
    dirs
}

/// The smallest limit on the way up; `None` if there is none. What the kernel calls unlimited counts as none.
fn tightest(node: &dyn Host, groups: &str, controller: &str, names: &[&str]) -> Result<Option<u64>> {
    let mut least = None;
    for dir in ladder(groups, controller) {
        for name in names {
            let Some(f) = node.read(&dir.join(name), 4096)? else { continue };
            let value = String::from_utf8_lossy(&f.content).trim().parse::<u64>().ok().filter(|v| *v < 1 << 60);
            least = match (least, value) {
                (Some(a), Some(b)) => Some(std::cmp::min::<u64>(a, b)),
                (a, b) => a.or(b),
            };
        }
    }
    Ok(least)
}

/// How many processors it may use: the set of its control group, and the quota.
fn cpus(node: &dyn Host, groups: &str) -> Result<Option<u64>> {
    for dir in ladder(groups, "cpuset") {
        for name in ["cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"] {
            let Some(f) = node.read(&dir.join(name), 4096)? else { continue };
            let text = String::from_utf8_lossy(&f.content).trim().to_owned();
            if !text.is_empty() {
                return Ok(count(&text));
            }
        }
    }
    Ok(None)
}

/// The size of a set like `0-2,5`.
fn count(set: &str) -> Option<u64> {
    set.split(',').try_fold(0_u64, |n, part| {
        let (a, b) = part.split_once('-').unwrap_or((part, part));
        let (a, b): (u64, u64) = (a.trim().parse().ok()?, b.trim().parse().ok()?);
        Some(n + (b.checked_sub(a)? + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_and_ladders() {
        assert_eq!((count("0-2,5"), count("3"), count("x"), count("2-1")), (Some(4), Some(1), None, None));
        let v2 = ladder("0::/lxc/105/ns\n", "memory");
        assert!(v2.contains(&PathBuf::from("/sys/fs/cgroup/lxc/105")) && v2.contains(&PathBuf::from("/sys/fs/cgroup")));
        let v1 = ladder("8:pids:/lxc.payload.105\n4:cpu,cpuacct:/x\n0::/y\n", "pids");
        assert_eq!(v1[0], PathBuf::from("/sys/fs/cgroup/pids/lxc.payload.105"));
        assert_eq!(next_id("keyboard: de\nnext-id: lower=200,upper=300\n"), Some((200, 300)));
    }
}
