// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the doctor looks at: the node, and the gateways on it. It knows where to look; what it means is in [`crate::doctor`]. Nothing is changed
//! and no lock is taken; what cannot be seen becomes a reason, not an error of the whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::params::text;
use super::{Context, sessions};
use crate::doctor::{self, Gateway, Machine, Place, Pmxcfs, Severity};
use crate::error::{Result, chain};
use crate::facts::{Facts, Paths};
use crate::format::{resolv_conf, smbstatus};
use crate::host::Machines;
use crate::net::{DnsAsk, DnsKind};
use crate::observe::{self, Need, guests};
use crate::plan;
use crate::plan::step::Watch;
use crate::run::reconcile::section_mode;
use crate::spec::record::Record;
use crate::spec::section::{self, NATIVE};
use crate::types::VmId;

const CLUSTER: &str = "/etc/pve";
/// What systemd-timesyncd makes when the clock is right.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

impl Context {
    /// `doctor`: everything that shares of this node need.
    pub(super) fn doctor(&self, params: &Value) -> Result<Value> {
        let host = &*self.host;
        let asked: Option<Paths> = match text(params, "gateway")? {
            Some(_) => Some(self.here(self.named(params)?)?),
            None => None,
        };
        let records: Vec<(Paths, Record)> = self.gateways()?.into_iter().filter(|(_, r)| r.node == self.node).collect();
        let machines = self.machines();
        let gateways = records
            .iter()
            .filter(|(p, _)| asked.as_ref().is_none_or(|a| a.gateway == p.gateway))
            .map(|(p, r)| self.examine(&machines, p, r))
            .collect();
        let resolver = host.read_text(Path::new("/etc/resolv.conf")).ok().flatten().unwrap_or_default();
        let name_servers = resolv_conf::parse(&resolver).nameservers.len();
        let dns = match name_servers {
            0 => Ok(false),
            // Any answer will do, also that nobody has that name.
            _ => host
                .dns(&DnsAsk::new(self.node.as_str(), DnsKind::A), Duration::from_secs(2))
                .map(|a| a.said.heard())
                .map_err(|e| chain(&e)),
        };
        let kernel = match host.read_text(Path::new("/proc/sys/kernel/osrelease")) {
            Ok(Some(k)) => Ok(k.trim().to_owned()),
            Ok(None) => Err("/proc/sys/kernel/osrelease is not there".to_owned()),
            Err(e) => Err(chain(&e)),
        };
        let open = self.store().all_open(host)?;
        let open = open
            .into_iter()
            .filter(|o| o.is_stuck() || !host.alive(o.process).unwrap_or(true))
            .map(|o| (o.opid.clone(), format!("{} of {}", o.op, o.target), o.is_stuck()))
            .collect();
        let machine = Machine {
            kernel,
            name_servers,
            dns,
            synchronised: host.exists(Path::new(SYNCHRONISED)).unwrap_or(false),
            pmxcfs: self.pmxcfs(),
            uid: host.own_ids().0,
            places: self.places()?,
            unrecorded: self.unrecorded()?,
            temporary: self.half_written(),
            damaged: self.store().open_operations(host, NATIVE)?.1,
            open,
            pending: self.waiting_secrets(),
            own_conf: host.exists(&self.native.own_conf).unwrap_or(false),
            sections: self.sections_beside(params, &records)?,
            gateways,
        };
        let findings = doctor::judge(&machine);
        let ok = findings.iter().all(|f| f.severity <= Severity::Note);
        Ok(json!({"node": self.node, "ok": ok, "findings": findings.iter().map(doctor::Finding::document).collect::<Vec<_>>()}))
    }

    fn examine(&self, machines: &Machines, paths: &Paths, record: &Record) -> Gateway {
        let name = paths.gateway.to_string();
        let trees = record.shares.values().map(|e| e.tree.path.clone()).collect();
        let need = Need { trees, quota: true, owned: false, ..Need::default() };
        let facts = match observe::facts(machines, &self.node, paths, &need) {
            Ok(facts) => facts,
            Err(e) => {
                let why = chain(&e);
                return Gateway { name, facts: Err(why.clone()), samba: Err(why.clone()), repair: Err((why, None)) };
            }
        };
        let samba = match facts.reachable {
            false => Err("the container cannot be looked into".to_owned()),
            true => match Self::smbstatus(machines, paths, facts.place, &["-p", "-j"], sessions::SESSIONS_MS) {
                Ok(said) => smbstatus::parse_version(&said).ok_or_else(|| "smbstatus names none".to_owned()),
                Err(e) => Err(chain(&e)),
            },
        };
        let repair = Self::repair_due(&facts);
        Gateway { name, facts: Ok(Box::new(facts)), samba, repair }
    }

    /// What a repair would change: the steps that make something other than it is seen.
    fn repair_due(facts: &Facts) -> std::result::Result<Vec<String>, (String, Option<String>)> {
        let plan = plan::drift(facts).map_err(|e| (chain(&e), e.remedy_text().map(str::to_owned)))?;
        Ok(plan.phases.iter().flat_map(|p| &p.steps).filter(|s| s.watch != Watch::Nothing).map(|s| s.title.clone()).collect())
    }

    fn pmxcfs(&self) -> Option<Pmxcfs> {
        let host = &*self.host;
        if !self.record_dir.starts_with(CLUSTER) {
            return None;
        }
        let root = host.tree(Path::new(CLUSTER)).ok();
        let quorate = match host.read_text(&Path::new(CLUSTER).join(".members")) {
            Ok(Some(text)) => match serde_json::from_str::<Value>(&text) {
                // A node without a cluster needs no quorum, and its file names none.
                Ok(doc) => Ok(doc.get("cluster").is_none_or(|c| c["quorate"] == 1)),
                Err(e) => Err(format!("/etc/pve/.members: {e}")),
            },
            Ok(None) => Err("/etc/pve/.members is not there".to_owned()),
            Err(e) => Err(chain(&e)),
        };
        Some(Pmxcfs {
            mounted: root.as_ref().is_some_and(|t| t.is_mount),
            writable: root.as_ref().is_some_and(|t| t.mode & 0o200 != 0 && !t.read_only),
            quorate,
        })
    }

    /// Directories and files that root acts by, as far as they are there.
    fn places(&self) -> Result<Vec<Place>> {
        let host = &*self.host;
        let run = &self.native.run_dir;
        let secret = [self.record_dir.clone(), run.join("pending"), self.native.state_dir.join("ops")];
        let open = [self.native.state_dir.clone(), run.clone(), PathBuf::from("/etc/smbgw")];
        let dirs = secret.into_iter().map(|d| (d, 0o077)).chain(open.into_iter().map(|d| (d, 0o022)));
        let mut places: Vec<Place> = dirs
            .filter_map(|(path, never)| {
                let t = host.tree(&path).ok()?;
                Some(Place { path, mode: t.mode, uid: t.uid, never })
            })
            .collect();
        for dir in [&self.record_dir, &run.join("pending")] {
            for name in host.list(dir)? {
                let path = dir.join(name);
                if let Ok(Some(seen)) = host.read(&path, 16 << 20) {
                    places.push(Place { path, mode: seen.mode, uid: seen.uid, never: 0o077 });
                }
            }
        }
        Ok(places)
    }

    /// Containers of this node with a mark of ours that no record has under that number.
    fn unrecorded(&self) -> Result<Vec<String>> {
        let host = &*self.host;
        let known: Vec<Record> = self.gateways()?.into_iter().map(|(_, r)| r).collect();
        let mut found = Vec::new();
        for file in host.list(&Path::new(CLUSTER).join("lxc"))? {
            let Some(vmid) = file.strip_suffix(".conf").and_then(|v| VmId::parse(v).ok()) else { continue };
            let Some(conf) = guests::conf(host, vmid)? else { continue };
            let tags = conf.get("tags").unwrap_or_default();
            // The one that every container of ours has besides is just `smbgw`.
            for tag in tags.split([';', ',', ' ']).filter(|t| t.starts_with("smbgw-")) {
                let ours =
                    |r: &Record| tag.strip_prefix("smbgw-") == Some(r.uuid.as_str()) && [r.vmid, r.retired].contains(&Some(vmid));
                if !known.iter().any(ours) {
                    found.push(format!("{vmid} with the tag {tag}"));
                }
            }
        }
        Ok(found)
    }

    /// Files that were being written when the machine stopped: `.NAME.smbgw-XXXXXX`.
    fn half_written(&self) -> Vec<String> {
        let (run, state) = (&self.native.run_dir, &self.native.state_dir);
        let beside = [&self.native.smb_conf, &self.native.own_conf].into_iter().filter_map(|p| p.parent()).map(Path::to_path_buf);
        let mut dirs: Vec<PathBuf> = ["status", "pending", "failed"].iter().map(|d| run.join(d)).collect();
        dirs.extend([self.record_dir.clone(), state.join("ops"), state.clone()]);
        dirs.extend(beside);
        dirs.sort();
        dirs.dedup();
        let of = |dir: &PathBuf| {
            let names = self.host.list(dir).unwrap_or_default();
            let left =
                names.into_iter().filter(|n| n.starts_with('.') && n.rsplit_once(".smbgw-").is_some_and(|(_, x)| x.len() == 6));
            left.map(|n| dir.join(n).display().to_string()).collect::<Vec<_>>()
        };
        dirs.iter().flat_map(of).collect()
    }

    /// Passwords that hooks left for the worker: for which share, and since how many seconds.
    fn waiting_secrets(&self) -> Vec<(String, i64)> {
        let dir = self.native.run_dir.join("pending");
        let now = self.host.now_ms();
        let age = |id: &String| {
            let seen = self.host.read(&dir.join(id), 1 << 16).ok()??;
            // Only its first line, which is a time; the secret is on the last.
            let since: i64 = std::str::from_utf8(seen.content.split(|b| *b == b'\n').next()?).ok()?.parse().ok()?;
            Some((now - since) / 1000)
        };
        let names = self.host.list(&dir).unwrap_or_default();
        names.into_iter().filter(|n| !n.starts_with('.')).filter_map(|id| age(&id).map(|s| (id, s))).collect()
    }

    /// Shares without a section, and sections of this node without a share.
    fn sections_beside(&self, params: &Value, records: &[(Paths, Record)]) -> Result<Option<(Vec<String>, Vec<String>)>> {
        let Some(given) = params.get("sections").filter(|v| !v.is_null()) else { return Ok(None) };
        let sections = section::sections_from_json(given)?;
        let shares = || records.iter().flat_map(|(_, r)| &r.shares);
        let gone = shares().filter(|(id, e)| e.committed && e.delete_intent.is_none() && !sections.contains_key(*id));
        let here = |s: &section::Section| s.get("nodes").is_none_or(|n| n.split(',').any(|n| n.trim() == self.node));
        let typed = sections.iter().filter(|(_, s)| s.get("type").is_none_or(|t| t == "smbgateway"));
        let unserved = typed.filter(|(id, s)| here(s) && section_mode(s).is_some() && !shares().any(|(i, _)| i == *id));
        Ok(Some((gone.map(|(id, _)| id.clone()).collect(), unserved.map(|(id, _)| id.clone()).collect())))
    }
}
