// SPDX-License-Identifier: MIT OR Apache-2.0
//! How long figures are kept on this node: a document for the node, one for all nodes beside it, or neither. It knows where they lie and
//! who may be at them; what is in one is in [`crate::series`], which also does what it says.
//!
//! Each document is whole: that of the node stands in place of the one for all nodes, so that no change of the one makes the other wrong. That of a
//! node has one writer, because there is no lock over all nodes: the store is a node's own, and so is what it keeps. The one for all nodes is
//! written by whichever node is asked; of two that change it at once the last one's is there, whole.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::Context;
use super::params::{flag, text};
use crate::effect::FileSpec;
use crate::error::{Error, Kind, Result, chain, chain_with_remedy};
use crate::host::Lock;
use crate::metrics::forecast;
use crate::metrics::when::DAY;
use crate::series::{NAMES, Retention, Settings, Store, words};
use crate::types::human;

/// Whose word counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Default,
    AllNodes,
    Node,
}

impl From {
    fn name(self) -> &'static str {
        match self {
            From::Default => "default",
            From::AllNodes => "all-nodes",
            From::Node => "node",
        }
    }
}

/// What helps where a document cannot be used.
fn mended(from: From) -> String {
    let whose = if from == From::AllNodes { " --all-nodes" } else { "" };
    format!(
        "correct the file, set all three lengths (pve-smbgateway retention set{whose} --raw … --minutes … --hours …), or go back with pve-smbgateway retention reset{whose}"
    )
}

impl Context {
    fn retention_file(&self, from: From) -> PathBuf {
        let name = if from == From::Node { format!("retention@{}.json", self.node) } else { "retention.json".to_owned() };
        self.settings_dir().join(name)
    }

    /// What one of the documents says, if it is there.
    fn retention_said(&self, from: From) -> Result<Option<Retention>> {
        let file = self.retention_file(from);
        let Some(said) = self.host.read_text(&file)? else { return Ok(None) };
        let wrong = |problems| Error::invalid(file.display(), problems).remedy(mended(from));
        Retention::read(&said).map(Some).map_err(wrong)
    }

    /// What is to be kept on this node.
    fn retention_wanted(&self) -> Result<(Retention, From)> {
        self.cluster_is_there()?;
        for from in [From::Node, From::AllNodes] {
            if let Some(said) = self.retention_said(from)? {
                return Ok((said, from));
            }
        }
        Ok((Retention::default(), From::Default))
    }

    /// How the store is used, and why nothing is removed from it where that is so: what is removed by a mistake does not come back.
    pub(super) fn store_settings(&self) -> (Settings, Option<String>) {
        let (retention, why) = match self.retention_wanted() {
            Ok((r, _)) => (r, None),
            Err(e) => (Retention::longest(), Some(format!("no figures are removed: {}", chain_with_remedy(&e)))),
        };
        (Settings { retention, ..Settings::default() }, why)
    }

    /// `retention`: what is kept for how long, and who said so.
    pub(super) fn retention(&self) -> Result<Value> {
        let mut doc = json!({"node": self.node});
        let mut warnings = Vec::new();
        match self.retention_wanted() {
            Ok((r, from)) => {
                for (name, ms) in NAMES.into_iter().zip(r.lengths()) {
                    doc[name] = json!(words(ms));
                }
                doc["from"] = json!(from.name());
                if from != From::Default {
                    doc["file"] = json!(self.retention_file(from));
                }
                let (least, all) = (forecast::LEAST_DAYS as i64 * DAY, forecast::MOST_DAYS as i64 * DAY);
                if r.hour_ms < least {
                    warnings.push(format!(
                        "hours are kept for {}: how shares grow is not known below {}",
                        words(r.hour_ms),
                        words(least)
                    ));
                } else if r.hour_ms < all {
                    warnings.push(format!(
                        "hours are kept for {}: how shares grow is best known from {}",
                        words(r.hour_ms),
                        words(all)
                    ));
                }
            }
            Err(e) => warnings.push(format!("no figures are removed: {}", chain_with_remedy(&e))),
        }
        // A store that cannot be read is no reason not to tell what it should keep.
        let store = Store::open_to_read(&*self.host, &self.store_file(), Settings::default()).ok().flatten();
        if let Some(size) = store.and_then(|s| s.size().ok()) {
            doc["bytes"] = json!(size.bytes);
        }
        doc["warnings"] = json!(warnings);
        Ok(doc)
    }

    fn lock_retention(&self) -> Result<Box<dyn Lock>> {
        self.cluster_is_there()?;
        let dir = self.metrics_dir();
        self.host.make_dir(&dir, 0o700)?;
        let holder = format!("pid {} retention", self.host.own_process().pid);
        self.host.lock(&dir.join("retention.lock"), &holder, Duration::from_secs(10))
    }

    fn retention_of_whom(params: &Value) -> Result<From> {
        Ok(if flag(params, "all-nodes")? { From::AllNodes } else { From::Node })
    }

    /// `retention.set`
    pub(super) fn retention_set(&self, params: &Value) -> Result<Value> {
        let whose = Self::retention_of_whom(params)?;
        let mut said = Vec::new();
        for name in NAMES {
            said.extend(text(params, name)?.map(|t| (name, t)));
        }
        if said.is_empty() {
            return Err(Error::property("raw", "nothing is said")
                .remedy("one or more of raw, minutes, hours, each a length of time as 12h, 7d, 6w, 2y"));
        }
        let _held = self.lock_retention()?;
        let before = self.retention_wanted();
        let base = if said.len() == NAMES.len() {
            Retention::default()
        } else if whose == From::AllNodes {
            self.retention_said(whose)?.unwrap_or_default()
        } else {
            match &before {
                Ok((r, _)) => *r,
                Err(e) => {
                    let why = format!("what is not said stays as it is, and that is not known: {}", chain(e));
                    return Err(Error::new(e.kind(), why).remedy(mended(whose)));
                }
            }
        };
        let wanted = base.with(&said).map_err(|problems| {
            Error::invalid("retention", problems)
                .remedy("minutes at least as long as raw, hours as minutes, each from 1h to 10y; docs/METRICS-STORE.md says what each costs")
        })?;
        self.write_retention(whose, &wanted)?;
        let actor = text(params, "actor")?.unwrap_or_else(|| "root".into());
        tracing::info!(actor, retention = %wanted.document(), whose = whose.name(), "figures are kept for other lengths of time");
        self.retention_changed(whose, before)
    }

    fn write_retention(&self, whose: From, wanted: &Retention) -> Result<()> {
        let text = serde_json::to_string_pretty(&wanted.document())
            .map_err(|e| Error::new(Kind::Internal, "the retention cannot be written down").caused_by(e))?;
        let (uid, gid) = self.host.own_ids();
        self.host.write_private(&FileSpec { path: self.retention_file(whose), content: text + "\n", mode: 0o600, uid, gid })
    }

    /// `retention.reset`
    pub(super) fn retention_reset(&self, params: &Value) -> Result<Value> {
        let whose = Self::retention_of_whom(params)?;
        let _held = self.lock_retention()?;
        let before = self.retention_wanted();
        self.host.remove(&self.retention_file(whose))?;
        let actor = text(params, "actor")?.unwrap_or_else(|| "root".into());
        tracing::info!(actor, whose = whose.name(), "figures are kept as nobody had said for how long");
        self.retention_changed(whose, before)
    }

    /// What holds now, and what that means for what is there.
    fn retention_changed(&self, whose: From, before: Result<(Retention, From)>) -> Result<Value> {
        let mut doc = self.retention()?;
        let mut warnings = Vec::new();
        if let (Ok((old, _)), Ok((new, from))) = (before, self.retention_wanted()) {
            for (i, name) in NAMES.into_iter().enumerate() {
                let (old, new) = (old.lengths()[i], new.lengths()[i]);
                if new < old {
                    warnings.push(format!(
                        "{name}: what is older than {} goes with the next looks, and does not come back",
                        words(new)
                    ));
                }
            }
            warnings.extend(self.too_much(&new));
            if whose == From::AllNodes && from == From::Node {
                let own = self.retention_file(From::Node);
                warnings.push(format!("this node keeps to its own, {}; pve-smbgateway retention reset ends that", own.display()));
            }
        }
        if let Some(list) = doc["warnings"].as_array_mut() {
            list.extend(warnings.into_iter().map(Value::from));
        }
        Ok(doc)
    }

    /// Whether the file system would be full before the oldest figures are old enough to go.
    fn too_much(&self, wanted: &Retention) -> Option<String> {
        let gateways = self.gateways().ok()?;
        let shares = gateways.iter().filter(|(_, r)| r.node == self.node).map(|(_, r)| r.shares.len()).sum();
        let free = self.host.space(&self.native.state_dir).ok()?.avail;
        let takes = wanted.estimate(shares);
        (takes > free).then(|| {
            let dir = self.native.state_dir.display();
            format!("{shares} shares take about {} then, and the file system of {dir} has {} left", human(takes), human(free))
        })
    }
}
