// SPDX-License-Identifier: MIT OR Apache-2.0
//! Figures of this node: one look at all gateways for everybody who wants figures, what is kept of it, and the questions that are answered from
//! what was kept. It knows whose turn it is and how much time there is; how one gateway is looked at is in [`crate::collect`].
//!
//! Everything of a look is under the run directory (`metrics/`), so that it costs no disk: `current.json`, which is what readers get, `memory.json`,
//! which the next look needs, and `at-work`, the gateway that is being looked at: if the look never comes back, that one is left out for a while.
//! The store is on disk, and a look is good without it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Context;
use crate::collect::{self, Memory, Target};
use crate::effect::{FileSpec, Place};
use crate::error::{Error, Kind, Result, chain, chain_with_remedy};
use crate::facts::Paths;
use crate::metrics::alert::Sink;
use crate::metrics::forecast::Forecast;
use crate::metrics::openmetrics::{self, Form};
use crate::metrics::{self, Key, Sample, Scope, Scrape, Source, SourceState, by_name};
use crate::observe;
use crate::plan::samba;
use crate::spec::record::{Member, Record, ShareState};
use crate::spec::section::Mode;
use crate::status::Hot;

/// How often the agent looks.
pub(super) const EVERY_MS: i64 = 10_000;
/// What a look may take in all; gateways that are left then have their turn first the next time.
const BUDGET_MS: u64 = 8_000;
/// A gateway that could not be looked into is left out for so long, each time twice as long.
const FIRST_PAUSE_MS: i64 = 20_000;
const LONGEST_PAUSE_MS: i64 = 600_000;
/// How a share grows is worked out so often, for so many shares in one look.
const TREND_EVERY_MS: i64 = 3_600_000;
const TRENDS_AT_ONCE: usize = 5;

/// Where Debian's prometheus-node-exporter looks for files.
const TEXTFILES: &str = "/var/lib/prometheus/node-exporter";

/// What is remembered from one look to the next.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Remembered {
    gateways: BTreeMap<String, Turn>,
    /// Counters of the node.
    failures: u64,
    store_failures: u64,
    cpu_us: u64,
    /// Size of the store, and when it last took figures.
    store_bytes: Option<u64>,
    stored: Option<i64>,
}

/// A gateway, as the collector sees it.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Turn {
    memory: Memory,
    /// When it was last looked at.
    at: i64,
    /// Not before this, and after how many failures.
    next: i64,
    failures: u32,
    why: Option<String>,
}

/// How shares grow, by storage id; each is made anew once an hour.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Trends {
    pub(super) shares: BTreeMap<String, Forecast>,
    made: BTreeMap<String, i64>,
}

/// What a member's snapshot has besides the hot path's part.
#[derive(Deserialize)]
struct Membership {
    directory: Directory,
}

#[derive(Default, Deserialize)]
struct Directory {
    #[serde(default)]
    healthy: Option<bool>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    evidence: Option<String>,
}

impl Context {
    pub(super) fn metrics_dir(&self) -> PathBuf {
        self.native.run_dir.join("metrics")
    }

    /// The last look, if there was one since the machine started.
    pub(super) fn last_scrape(&self) -> Result<Option<Scrape>> {
        // A damaged one, or one of absurd size, is as none: the next look is seconds away.
        let file = self.host.read(&self.metrics_dir().join("current.json"), 64 << 20).ok().flatten();
        Ok(file.and_then(|f| serde_json::from_slice(&f.content).ok()))
    }

    fn keep(&self, name: &str, doc: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(doc);
        self.keep_text(name, text.map_err(|e| Error::new(Kind::Internal, "figures cannot be written down").caused_by(e))?)
    }

    fn keep_text(&self, name: &str, content: String) -> Result<()> {
        let (uid, gid) = self.host.own_ids();
        self.host.write_private(&FileSpec { path: self.metrics_dir().join(name), content, mode: 0o600, uid, gid })
    }

    /// The gateways of this node whose record can be read; of the others the look says so.
    fn readable_gateways(&self, scrape: &mut Scrape) -> Result<Vec<(Paths, Record)>> {
        // With nothing read everything would be forgotten.
        self.cluster_is_there()?;
        let mut found = Vec::new();
        for paths in self.recorded()? {
            match observe::record(&*self.host, &paths) {
                Ok(Some(r)) if r.node == self.node => found.push((paths, r)),
                Ok(_) => {}
                Err(e) => scrape.sources.push(SourceState {
                    source: Source::Collector,
                    gateway: Some(paths.gateway.to_string()),
                    at: None,
                    took_ms: 0,
                    why: Some(chain(&e)),
                }),
            }
        }
        Ok(found)
    }

    /// `scrape`: looks at all gateways of this node. For the agent.
    pub(super) fn scrape(&self) -> Result<Value> {
        let host = &*self.host;
        let dir = self.metrics_dir();
        host.make_dir(&dir, 0o700)?;
        let _held = host.lock(&dir.join("lock"), &format!("pid {} scrape", host.own_process().pid), Duration::ZERO)?;
        let (now, began, cpu) = (host.now_ms(), host.monotonic_ms(), host.own_cpu_us());
        let before = self.last_scrape()?;
        let memory = host.read(&dir.join("memory.json"), 64 << 20).ok().flatten();
        let mut memory: Remembered = memory.and_then(|f| serde_json::from_slice(&f.content).ok()).unwrap_or_default();
        let mut scrape = Scrape { node: self.node.clone(), at: now, ..Scrape::default() };
        let mut reasons = BTreeMap::new();

        let hung = host.read_text(&dir.join("at-work"))?;
        let mut gateways = self.readable_gateways(&mut scrape)?;
        memory.gateways.retain(|name, _| gateways.iter().any(|(p, _)| p.gateway.as_str() == name));
        // Whoever makes trouble is last, and of the others whoever has waited longest is first.
        gateways.sort_by_key(|(p, _)| memory.gateways.get(p.gateway.as_str()).map_or((0, 0), |t| (t.failures, t.at)));
        for (paths, record) in &gateways {
            let name = paths.gateway.to_string();
            let turn = memory.gateways.entry(name.clone()).or_default();
            if hung.as_deref() == Some(name.as_str()) {
                turn.fail(now, "the last look at it never came back");
            }
            scrape.shares.extend(record.shares.keys().map(|id| (id.clone(), name.clone())));
            let paused = turn.next > now && turn.next - now <= LONGEST_PAUSE_MS;
            if !paused {
                self.keep_text("at-work", name.clone())?;
                self.space_figures(record, &name, &mut scrape, &mut reasons);
            }
            if record.stopped {
                // An administrator stopped it: there is nothing to see, and nothing to be told.
                continue;
            }
            let left_out = if paused {
                Some(turn.why.clone().unwrap_or_default())
            } else if host.monotonic_ms() - began > BUDGET_MS {
                Some("the other gateways took all the time there is".to_owned())
            } else {
                None
            };
            match left_out {
                Some(why) => scrape.sources.push(SourceState {
                    source: Source::Service,
                    gateway: Some(name.clone()),
                    at: Some(turn.at).filter(|at| *at > 0),
                    took_ms: 0,
                    why: Some(why),
                }),
                None => self.look_at(paths, record, turn, now, &mut scrape)?,
            }
        }
        host.remove(&dir.join("at-work"))?;

        let failed = scrape.sources.iter().filter(|s| s.why.is_some()).count() as u64;
        memory.failures += failed;
        memory.cpu_us += host.own_cpu_us() - cpu;
        scrape.took_ms = host.monotonic_ms() - began;
        let node = self.node.clone();
        let put = |scrape: &mut Scrape, name: &str, value: f64| {
            scrape.samples.extend(by_name(Scope::Node, name).map(|m| Sample { key: Key::new(m, &node), value }));
        };
        let seconds = number(scrape.took_ms) / 1000.0;
        put(&mut scrape, "scrape_seconds", seconds);
        put(&mut scrape, "scrape_failures", number(memory.failures));
        put(&mut scrape, "store_failures", number(memory.store_failures));
        put(&mut scrape, "collector_cpu", number(memory.cpu_us) / 1e6);
        scrape.samples.extend(
            memory
                .store_bytes
                .and_then(|b| by_name(Scope::Node, "store_bytes").map(|m| Sample { key: Key::new(m, &node), value: number(b) })),
        );
        scrape.samples.sort_by(|a, b| a.key.cmp(&b.key));
        scrape.rates = before.as_ref().map(|b| rates(b, &scrape)).unwrap_or_default();

        // A look is good without the store.
        let (settings, unknown) = self.store_settings();
        let stored = self.store_scrape(&scrape, settings);
        let took_ms = host.monotonic_ms() - began - scrape.took_ms;
        let why = stored.as_ref().err().map(|e| format!("the store did not take the figures: {}", chain(e)));
        match &stored {
            Ok(bytes) => (memory.store_bytes, memory.stored) = (Some(*bytes), Some(now)),
            Err(_) => memory.store_failures += 1,
        }
        scrape.sources.push(SourceState { source: Source::Collector, gateway: None, at: memory.stored, took_ms, why });
        self.keep("current.json", &scrape)?;
        self.keep("memory.json", &memory)?;
        let unwritten = self.textfile(&scrape).err();
        let unwritten = unwritten.map(|e| format!("the file for node_exporter is not written: {}", chain_with_remedy(&e)));
        let trends = self.make_trends(&scrape).unwrap_or_else(|_| self.trends());
        let records: Vec<&Record> = gateways.iter().map(|(_, r)| r).collect();
        let judged = self.judge(&scrape, &records, &trends, &reasons);
        let (due, command, mut notes) = match judged {
            Ok((due, config, notes)) => {
                let command = config.sink(Sink::Command);
                (json!(due), json!({"argv": command.argv, "deadline": command.deadline}), notes)
            }
            Err(e) => (json!([]), Value::Null, vec![format!("alerts were not judged: {}", chain(&e))]),
        };
        notes.extend(unknown.into_iter().chain(unwritten));
        Ok(json!({
            "at": now, "took-ms": scrape.took_ms, "gateways": gateways.len(), "samples": scrape.samples.len(),
            "failed": scrape.sources.iter().filter(|s| s.why.is_some()).collect::<Vec<_>>(), "due": due, "command": command, "notes": notes,
        }))
    }

    /// For the textfile collector of Prometheus' node exporter, where that is installed.
    fn textfile(&self, scrape: &Scrape) -> Result<()> {
        let dir = Path::new(TEXTFILES);
        if !self.host.exists(dir)? {
            return Ok(());
        }
        self.host.publish(dir, "smbgw.prom", &openmetrics::text(scrape, 0, Form::Text))
    }

    pub(super) fn trends(&self) -> Trends {
        let file = self.host.read(&self.metrics_dir().join("trends.json"), 16 << 20).ok().flatten();
        file.and_then(|f| serde_json::from_slice(&f.content).ok()).unwrap_or_default()
    }

    /// Works out how some shares grow, those first for whom it was done longest ago.
    fn make_trends(&self, scrape: &Scrape) -> Result<Trends> {
        let mut trends = self.trends();
        let known = trends.shares.len();
        trends.shares.retain(|id, _| scrape.shares.contains_key(id));
        trends.made.retain(|id, _| scrape.shares.contains_key(id));
        let fresh = |made: Option<&i64>| made.is_some_and(|at| (0..TREND_EVERY_MS).contains(&(scrape.at - at)));
        let mut due: Vec<String> = scrape.shares.keys().filter(|id| !fresh(trends.made.get(*id))).cloned().collect();
        due.sort_by_key(|id| trends.made.get(id).copied().unwrap_or(0));
        due.truncate(TRENDS_AT_ONCE);
        let store = if due.is_empty() { None } else { self.open_store().unwrap_or_default() };
        for id in &due {
            if let Some(Ok(trend)) = store.as_ref().map(|s| self.trend(s, id, scrape)) {
                trends.shares.insert(id.clone(), trend);
            }
            trends.made.insert(id.clone(), scrape.at);
        }
        if !due.is_empty() || known != trends.shares.len() {
            self.keep("trends.json", &trends)?;
        }
        Ok(trends)
    }

    fn look_at(&self, paths: &Paths, record: &Record, turn: &mut Turn, now: i64, scrape: &mut Scrape) -> Result<()> {
        let place = match (paths.mode, record.vmid) {
            (Mode::Native, _) => Place::Node,
            (Mode::Lxc, Some(vmid)) => Place::Ct(vmid),
            // It is being built.
            (Mode::Lxc, None) => return Ok(()),
        };
        let mut shares = BTreeMap::new();
        for (id, e) in record.shares.iter().filter(|(_, e)| e.state != ShareState::Deleting) {
            let name = e.section.get("share").unwrap_or(id).to_lowercase();
            let tree = if paths.mode == Mode::Lxc { PathBuf::from(samba::TREES).join(id) } else { e.tree.path.clone() };
            shares.insert(name, (id.clone(), tree));
        }
        // Whoever sets the globals of a Samba has it for himself.
        let own = || self.host.read_text(&paths.own_conf).map(|t| t.is_some_and(|t| samba::own_sets_globals(&t)));
        let alone = paths.mode == Mode::Lxc || (shares.len() == 1 && own()?);
        let member = record.member.as_ref().is_some_and(Member::is_joined);
        let target = Target { paths, place, shares: &shares, alone, member };
        let found = collect::gateway(&self.machines(), &target, &mut turn.memory, now);
        let lost = found.sources.iter().find(|s| s.source == Source::Service).and_then(|s| s.why.clone());
        match lost {
            Some(why) if place != Place::Node => turn.fail(now, &why),
            None if found.timed_out && place != Place::Node => turn.fail(now, "it took too long to answer"),
            _ => (turn.next, turn.failures, turn.why) = (0, 0, None),
        }
        turn.at = now;
        scrape.samples.extend(found.samples);
        scrape.sources.extend(found.sources);
        Ok(())
    }

    /// What the snapshots say: space, limits, whether a share is served, and the health of a membership.
    fn space_figures(&self, record: &Record, gateway: &str, scrape: &mut Scrape, reasons: &mut BTreeMap<String, String>) {
        let began = self.host.monotonic_ms();
        let (mut missing, mut healthy, mut newest) = (0_usize, None, None);
        let well = self.well_at(gateway);
        for id in record.shares.keys() {
            let file = self.host.read(&self.snapshot(id), 1 << 20).ok().flatten();
            let Some((file, seen)) = file.and_then(|f| serde_json::from_slice::<Hot>(&f.content).ok().map(|hot| (f, hot))) else {
                missing += 1;
                continue;
            };
            newest = newest.max(Some(seen.held_at(well)));
            if record.member.is_some() {
                let d = serde_json::from_slice::<Membership>(&file.content).map(|m| m.directory).unwrap_or_default();
                healthy = healthy.or(d.healthy);
                if let Some(reason) = d.reason {
                    reasons.insert(gateway.to_owned(), format!("{reason}: {}", d.evidence.unwrap_or_default()));
                }
            }
            let usage = self.usage_of(&seen, well);
            let mut put = |name: &str, value: f64| {
                scrape.samples.extend(by_name(Scope::Share, name).map(|m| Sample { key: Key::new(m, id), value }));
            };
            // What is switched off on purpose is neither ready nor not.
            if seen.state != "disabled" && !record.stopped {
                put("ready", f64::from(u8::from(usage.active && seen.state == "ready")));
            }
            if usage.active && usage.total > 0 {
                put("used_bytes", number(usage.used));
                put("available_bytes", number(usage.avail));
            }
            if usage.limit > 0 {
                put("limit_bytes", number(usage.limit));
            }
        }
        if let (Some(well), Some(m)) = (healthy, by_name(Scope::Gateway, "domain_ok")) {
            scrape.samples.push(Sample { key: Key::new(m, gateway), value: f64::from(u8::from(well)) });
        }
        // Without names: who may look at one share need not know the others.
        let why = (missing > 0).then(|| format!("of {missing} shares there is no snapshot yet; pve-smbgateway reconcile"));
        let took_ms = self.host.monotonic_ms() - began;
        scrape.sources.push(SourceState { source: Source::Space, gateway: Some(gateway.to_owned()), at: newest, took_ms, why });
    }
}

impl Turn {
    fn fail(&mut self, now: i64, why: &str) {
        let pause = FIRST_PAUSE_MS.saturating_mul(1 << self.failures.min(6)).min(LONGEST_PAUSE_MS);
        (self.failures, self.next, self.why) = (self.failures + 1, now + pause, Some(why.chars().take(400).collect()));
    }
}

/// Rates of counters between two looks. A smaller value is a new beginning, and a look long ago is none to compare with.
fn rates(before: &Scrape, now: &Scrape) -> Vec<Sample> {
    let passed = now.at - before.at;
    if passed <= 0 || passed > 6 * EVERY_MS {
        return Vec::new();
    }
    let old: BTreeMap<&Key, f64> = before.samples.iter().map(|s| (&s.key, s.value)).collect();
    let rate = |s: &Sample| {
        let counter = metrics::by_number(s.key.metric).is_some_and(|m| m.kind == metrics::Kind::Counter);
        let was = old.get(&s.key).filter(|was| counter && **was <= s.value)?;
        Some(Sample { key: s.key.clone(), value: (s.value - was) * 1000.0 / number(passed.unsigned_abs()) })
    };
    now.samples.iter().filter_map(rate).collect()
}

/// Exact up to 2⁵³.
#[allow(clippy::cast_precision_loss)]
fn number(n: u64) -> f64 {
    n as f64
}
