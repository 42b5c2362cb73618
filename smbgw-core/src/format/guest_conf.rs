// SPDX-License-Identifier: MIT OR Apache-2.0
//! The configuration of a container as Proxmox VE keeps it (`/etc/pve/lxc/VMID.conf`; pve-container 5 and 6). It knows the form of the
//! file and of a mount point; it must not know which values a gateway wants.
//!
//! A file is lines `key: value`, raw lines `lxc.…: value`, comments (the description), then a section `[pve:pending]` with what waits for
//! the next start, then one section for each snapshot.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What holds now, and what waits for the next start. Snapshots are skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GuestConf {
    /// Values by key.
    pub values: BTreeMap<String, String>,
    /// Raw lines in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub raw: Vec<(String, String)>,
    /// Values that wait for the next start.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pending: BTreeMap<String, String>,
    /// Keys that go with the next start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending_delete: Vec<String>,
}

impl GuestConf {
    /// Reads a file. Lines of another form are passed over, as Proxmox does.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        let mut pending = false;
        for line in text.lines() {
            let line = line.trim_end();
            if line.starts_with('#') || line.is_empty() {
                continue;
            }
            if let Some(section) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                pending = section.eq_ignore_ascii_case("pve:pending");
                if !pending {
                    // Snapshots follow, to the end of the file.
                    break;
                }
                continue;
            }
            let Some((key, value)) = line.split_once(':').or_else(|| line.split_once('=')) else { continue };
            let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
            match (pending, key.as_str()) {
                (true, "delete") => {
                    conf.pending_delete = value
                        .split([',', ' ', ';'])
                        .filter(|k| !k.is_empty())
                        .map(|k| k.trim_start_matches('!').to_owned())
                        .collect()
                }
                (true, _) => _ = conf.pending.insert(key, value),
                (false, k) if k.starts_with("lxc.") => conf.raw.push((key, value)),
                (false, _) => _ = conf.values.insert(key, value),
            }
        }
        conf
    }

    /// A value that holds now.
    pub fn get(&self, key: &str) -> Option<&str> {
        if key.starts_with("lxc.") {
            return self.raw.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
        }
        self.values.get(key).map(String::as_str)
    }

    /// A value as it is, or will be with the next start; `None` if it goes.
    pub fn coming(&self, key: &str) -> Option<&str> {
        if let Some(v) = self.pending.get(key) {
            return Some(v);
        }
        self.get(key).filter(|_| !self.pending_delete.iter().any(|k| k == key))
    }

    /// Whether one of its tags is this one.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.get("tags").unwrap_or_default().split([';', ',', ' ']).any(|t| t == tag)
    }

    /// Mount points by slot, as they are now.
    pub fn mounts(&self) -> BTreeMap<u8, MountPoint> {
        self.values.iter().filter_map(|(k, v)| Some((slot(k)?, MountPoint::parse(v)?))).collect()
    }

    /// Volumes beside its root, by key: mounted ones, coming ones and unused ones. `pct destroy` destroys them with the container.
    pub fn volumes(&self) -> BTreeMap<&str, &str> {
        let source = |k: &str, v: &str| -> Option<String> {
            match slot(k) {
                Some(_) => MountPoint::parse(v).map(|m| m.source),
                None => k.strip_prefix("unused").map(|_| v.to_owned()),
            }
        };
        let all = self.values.iter().chain(&self.pending);
        all.filter(|(k, v)| source(k, v).is_some_and(|s| !s.starts_with('/'))).map(|(k, v)| (k.as_str(), v.as_str())).collect()
    }
}

/// The number of `mpN`.
pub fn slot(key: &str) -> Option<u8> {
    key.strip_prefix("mp").filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())).and_then(|n| n.parse().ok())
}

/// The text of a file with one raw line set or taken out; everything else stays as it is.
pub fn with_raw(text: &str, key: &str, value: Option<&str>) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let end = lines.iter().position(|l| l.starts_with('[')).unwrap_or(lines.len());
    let named = |l: &&&str| l.split_once([':', '=']).is_some_and(|(k, _)| k.trim() == key);
    let mut all: Vec<String> = lines[..end].iter().filter(|l| !named(l)).map(|l| (*l).to_owned()).collect();
    if let Some(v) = value {
        let at = all.iter().rposition(|l| !l.trim().is_empty()).map_or(0, |n| n + 1);
        all.insert(at, format!("{key}: {v}"));
    }
    all.extend(lines[end..].iter().map(|l| (*l).to_owned()));
    all.iter().flat_map(|l| [l.as_str(), "\n"]).collect()
}

/// A property string, `a,b=c,…`: the first word without a key stands under `first`.
pub fn pairs<'a>(text: &'a str, first: &'a str) -> Vec<(&'a str, &'a str)> {
    text.split(',').map(str::trim).filter(|p| !p.is_empty()).map(|p| p.split_once('=').unwrap_or((first, p))).collect()
}

/// A mount point: a directory of the node inside the container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// The directory of the node, or a volume.
    pub source: String,
    /// Where it is inside.
    pub mp: String,
    /// Other options, sorted.
    pub options: BTreeMap<String, String>,
}

impl MountPoint {
    /// Reads `SOURCE,mp=PATH,…`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut point = Self::default();
        for (key, value) in pairs(text, "volume") {
            match key {
                "volume" => value.clone_into(&mut point.source),
                "mp" => value.clone_into(&mut point.mp),
                _ => _ = point.options.insert(key.to_owned(), value.to_owned()),
            }
        }
        (!point.source.is_empty() && !point.mp.is_empty()).then_some(point)
    }

    /// Writes it.
    pub fn print(&self) -> String {
        let options: String = self.options.iter().map(|(k, v)| format!(",{k}={v}")).collect();
        format!("{},mp={}{options}", self.source, self.mp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "#a note\narch: amd64\ncores: 1\nmp0: /tank/office,mp=/srv/smbgw/office,idmap=passthrough\nmp1: local:100/vm-100-disk-1.raw,mp=/x,size=2G\n\
                        tags: smbgw;smbgw-u1\nunprivileged: 1\nlxc.cgroup2.pids.max: 1000\n\n[pve:pending]\ndelete: mp1\nmemory: 512\n\n[before]\nmemory: 1\ntags: other\n";

    #[test]
    fn now_pending_and_snapshots_are_told_apart() {
        let c = GuestConf::parse(FILE);
        assert_eq!((c.get("cores"), c.get("memory"), c.coming("memory"), c.coming("mp1")), (Some("1"), None, Some("512"), None));
        assert_eq!(c.get("lxc.cgroup2.pids.max"), Some("1000"));
        assert!(c.has_tag("smbgw-u1") && !c.has_tag("smbgw-u") && !c.has_tag("other"));
        let mounts = c.mounts();
        assert_eq!(mounts[&0].mp, "/srv/smbgw/office");
        assert_eq!(mounts[&0].print(), "/tank/office,mp=/srv/smbgw/office,idmap=passthrough");
        assert_eq!(mounts.len(), 2);
    }

    #[test]
    fn a_raw_line_is_set_in_the_first_section_only() {
        let set = with_raw(FILE, "lxc.cgroup2.pids.max", Some("50"));
        assert_eq!(GuestConf::parse(&set).raw, [("lxc.cgroup2.pids.max".to_owned(), "50".to_owned())]);
        assert_eq!(set.replace("max: 50", "max: 1000"), FILE);
        let gone = with_raw(&set, "lxc.cgroup2.pids.max", None);
        assert!(GuestConf::parse(&gone).raw.is_empty());
        assert_eq!(with_raw("a: b", "lxc.x", Some("1")), "a: b\nlxc.x: 1\n");
    }

    proptest! {
        #[test]
        fn nothing_panics_and_setting_sets(text in "[ -~\n]{0,200}", value in "[a-z0-9]{1,9}") {
            let set = with_raw(&text, "lxc.test", Some(&value));
            let conf = GuestConf::parse(&set);
            prop_assert_eq!(conf.get("lxc.test"), Some(value.as_str()));
        }
    }
}
