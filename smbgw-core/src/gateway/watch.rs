// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions about figures, and alerts: what is asked for by name and range, the exports, the report, and the record of alerts. It knows where
//! store, rules and the record of alerts lie; what they mean is in [`crate::metrics`] and [`crate::series`].
//!
//! The record of alerts is on disk, because what was told is not told again after a restart. It is changed under a lock of its own, by the look
//! of the agent and by whoever silences something.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::figures::{EVERY_MS, Trends};
use super::params::{required, text};
use super::{Context, no_gateway};
use crate::effect::FileSpec;
use crate::error::{Error, Kind, Result, chain};
use crate::host::Lock;
use crate::metrics::alert::state::{Due, Outcome, Wanted};
use crate::metrics::alert::{self, Config, Seen, State};
use crate::metrics::export::{self, Answer};
use crate::metrics::openmetrics::{self, Form};
use crate::metrics::report::{self, Report};
use crate::metrics::when::{self, Zone};
use crate::metrics::{self, Key, METRICS, Metric, Scope, Scrape, chart};
use crate::series::{Detail, Settings, Store};
use crate::spec::record::Record;
use crate::types::shorten;

/// A follower waits at most so long for the next look.
const FOLLOW_MS: u64 = 25_000;
/// Columns of a sparkline.
const WIDTH: usize = 60;
/// A report is about so much, unless asked.
const WEEK_MS: i64 = 7 * 86_400_000;

/// What a question is about: objects, and the metrics of one scope where a series is meant.
struct About {
    scope: Scope,
    object: String,
}

impl Context {
    pub(super) fn store_file(&self) -> PathBuf {
        self.native.state_dir.join("metrics.db")
    }

    fn figures_of(&self, params: &Value) -> Result<Option<About>> {
        if let Some(id) = text(params, "id")? {
            let known = self.gateway_of(&id)?.is_some_and(|(_, r)| r.node == self.node);
            if !known {
                return Err(Error::new(Kind::NotFound, format!("there is no share {} on node {}", shorten(&id), self.node))
                    .remedy("pve-smbgateway list"));
            }
            return Ok(Some(About { scope: Scope::Share, object: id }));
        }
        match text(params, "gateway")? {
            Some(g) if self.gateways()?.iter().any(|(p, _)| p.gateway.as_str() == g) => {
                Ok(Some(About { scope: Scope::Gateway, object: g }))
            }
            Some(g) => Err(no_gateway(&g)),
            None => Ok(None),
        }
    }

    /// `metrics`: what is known now, or what became of one series.
    pub(super) fn metrics(&self, params: &Value) -> Result<Value> {
        if text(params, "metric")?.is_some() {
            let answer = self.answer(params)?;
            let mut doc = export::json(&answer);
            doc["node"] = json!(self.node);
            doc["sparkline"] = json!(chart::sparkline(&answer, WIDTH, false));
            return Ok(doc);
        }
        for name in ["from", "to", "points"] {
            if text_or_number(params, name).is_some() {
                return Err(Error::property("metric", format!("is needed with {name}: a range is of one series"))
                    .remedy(format!("one of: {}", names(Scope::Share))));
            }
        }
        let about = self.figures_of(params)?;
        if let Some(after) = super::params::number(params, "after")? {
            let began = self.host.monotonic_ms();
            while self.last_scrape()?.is_none_or(|s| s.at <= after) && self.host.monotonic_ms() - began < FOLLOW_MS {
                self.host.pause(Duration::from_millis(500));
            }
        }
        let Some(scrape) = self.last_scrape()? else {
            return Err(Error::new(Kind::Service, "there are no figures: nobody has looked since this node started")
                .remedy("systemctl start pve-smbgateway-agent"));
        };
        let ours = |object: &str, scope: Scope| match &about {
            None => true,
            Some(a) if a.scope == Scope::Share => scope == Scope::Share && a.object == object,
            Some(a) => {
                (scope == Scope::Gateway && a.object == object)
                    || (scope == Scope::Share && scrape.shares.get(object) == Some(&a.object))
            }
        };
        let rates: BTreeMap<&Key, f64> = scrape.rates.iter().map(|s| (&s.key, s.value)).collect();
        let figure = |s: &metrics::Sample| {
            let m = metrics::by_number(s.key.metric)?;
            ours(&s.key.object, m.scope).then(|| {
                json!({
                    "scope": m.scope, "object": s.key.object, "metric": m.name, "kind": m.kind, "unit": m.unit, "value": s.value,
                    "rate": rates.get(&s.key),
                })
            })
        };
        let figures: Vec<Value> = scrape.samples.iter().filter_map(figure).collect();
        let gateway = match &about {
            Some(a) if a.scope == Scope::Share => scrape.shares.get(&a.object).cloned(),
            Some(a) => Some(a.object.clone()),
            None => None,
        };
        let sources: Vec<_> = scrape.sources.iter().filter(|s| gateway.is_none() || s.gateway == gateway).collect();
        let age = self.host.now_ms() - scrape.at;
        let stale = (age > openmetrics::STALE_MS)
            .then(|| format!("these figures are {} s old: does the agent pve-smbgateway-agent run?", age / 1000));
        Ok(json!({
            "node": self.node, "at": scrape.at, "age-ms": age, "took-ms": scrape.took_ms, "figures": figures, "sources": sources,
            "warnings": stale.into_iter().collect::<Vec<_>>(),
        }))
    }

    /// The series that a question names, in its range.
    fn answer(&self, params: &Value) -> Result<Answer> {
        let about = self.figures_of(params)?.unwrap_or(About { scope: Scope::Node, object: self.node.clone() });
        let name = required(params, "metric")?;
        let metric = metrics::by_name(about.scope, &name).ok_or_else(|| {
            Error::property("metric", format!("a {} has no metric {}", about.scope.name(), shorten(&name)))
                .remedy(format!("one of: {}", names(about.scope)))
        })?;
        let now = self.host.now_ms();
        let range = when::range(params, now)?;
        let found = self.stored(metric, &about.object, (range.from, range.to), Detail::Points(range.points.max(2)))?;
        Ok(found.unwrap_or_else(|| Answer::new(metric, &about.object, (range.from, range.to), EVERY_MS, Vec::new())))
    }

    fn stored(&self, metric: &Metric, object: &str, range: (i64, i64), detail: Detail) -> Result<Option<Answer>> {
        self.open_store()?.map(|store| self.of_series(&store, metric, object, range, detail)).transpose()
    }

    /// The store to read from, if there is one yet.
    pub(super) fn open_store(&self) -> Result<Option<Store>> {
        Store::open_to_read(&*self.host, &self.store_file(), self.store_settings().0)
    }

    fn of_series(&self, store: &Store, metric: &Metric, object: &str, (from, to): (i64, i64), detail: Detail) -> Result<Answer> {
        let found = store.query(&Key::new(metric, object), from, to, detail, self.host.now_ms())?;
        Ok(Answer::new(metric, object, (from, to), found.resolution_ms, found.buckets))
    }

    /// `metrics.export`: a series as CSV or JSON.
    pub(super) fn metrics_export(&self, params: &Value) -> Result<Value> {
        let answer = self.answer(params)?;
        Ok(match text(params, "form")?.as_deref() {
            Some("json") => json!({"content-type": "application/json", "text": export::json(&answer).to_string()}),
            _ => json!({"content-type": "text/csv; charset=utf-8", "text": export::csv(&answer)}),
        })
    }

    /// `openmetrics`: what Prometheus reads.
    pub(super) fn openmetrics(&self, params: &Value) -> Result<Value> {
        let form = match text(params, "form")?.as_deref() {
            Some("node-exporter") => Form::Text,
            _ => Form::OpenMetrics,
        };
        let scrape = self.last_scrape()?.unwrap_or_else(|| Scrape { node: self.node.clone(), ..Scrape::default() });
        let kind = if form == Form::Text { openmetrics::CONTENT_TYPE_TEXT } else { openmetrics::CONTENT_TYPE };
        Ok(json!({"content-type": kind, "text": openmetrics::text(&scrape, self.host.now_ms() - scrape.at, form)}))
    }

    // ---- alerts --------------------------------------------------------------------------------------------------------

    /// Where an administrator writes rules: with Proxmox for the whole cluster, and root's alone, because they can name a command.
    pub(super) fn rules_file(&self) -> PathBuf {
        self.settings_dir().join("alerts.json")
    }

    /// Where such documents are.
    pub(super) fn settings_dir(&self) -> PathBuf {
        let cluster = self.record_dir.parent().filter(|_| self.record_dir.starts_with("/etc/pve"));
        cluster.unwrap_or(Path::new("/etc/smbgw")).to_owned()
    }

    fn alerts_file(&self) -> PathBuf {
        self.native.state_dir.join("alerts.json")
    }

    fn lock_alerts(&self, wait: Duration) -> Result<Box<dyn Lock>> {
        let dir = self.metrics_dir();
        self.host.make_dir(&dir, 0o700)?;
        self.host.lock(&dir.join("alerts.lock"), &format!("pid {} alerts", self.host.own_process().pid), wait)
    }

    /// The record, from the disk or, if that could not be written, from beside the figures: whichever is newer.
    fn alerts_state(&self) -> Result<(State, Option<String>)> {
        let read = |path: &Path| -> Result<Option<String>> {
            Ok(self.host.read(path, 16 << 20)?.map(|f| String::from_utf8_lossy(&f.content).into_owned()))
        };
        let at = |text: &Option<String>| {
            let doc: Value = text.as_deref().and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default();
            doc["at"].as_i64().unwrap_or(i64::MIN)
        };
        let (kept, spare) = (read(&self.alerts_file())?, read(&self.spare_file()).unwrap_or_default());
        let newer = spare.is_some() && at(&spare) > at(&kept);
        Ok(State::read(if newer { spare } else { kept }.as_deref()))
    }

    fn spare_file(&self) -> PathBuf {
        self.metrics_dir().join("alerts.json")
    }

    fn keep_alerts(&self, state: &State) -> Result<()> {
        let (uid, gid) = self.host.own_ids();
        let file = FileSpec { path: self.alerts_file(), content: state.to_json(), mode: 0o600, uid, gid };
        let same = |f: crate::host::FileSeen| f.content == file.content.as_bytes();
        if self.host.read(&file.path, 16 << 20)?.is_some_and(same) {
            return Ok(());
        }
        match self.host.write_private(&file) {
            Ok(()) => self.host.remove(&self.spare_file()),
            // A full disk keeps nobody from being told; what was told is remembered as long as the machine runs.
            Err(_) => self.host.write_private(&FileSpec { path: self.spare_file(), ..file }),
        }
    }

    /// The rules in effect, and what is wrong with what was written.
    fn rules(&self, records: &[&Record]) -> Result<(Config, Vec<String>)> {
        let file = self.rules_file();
        let said = self.host.read_text(&file);
        let unread = said.as_ref().err().map(|e| format!("the defaults hold, because {}", chain(e)));
        let (mut config, problems) = said.ok().flatten().as_deref().map_or_else(Default::default, Config::read);
        let mut notes: Vec<String> =
            problems.iter().map(|p| format!("{}: {}: {}", file.display(), p.property, p.message)).chain(unread).collect();
        for (id, e) in records.iter().flat_map(|r| &r.shares) {
            let text = e.section.get("smbgw-alerts").map_or("", String::as_str);
            notes.extend(config.property(id, text).iter().map(|p| format!("share {id}: {}: {}", p.property, p.message)));
        }
        Ok((config, notes))
    }

    /// Judges a look; what is to be told now, and what is worth a line in the log.
    pub(super) fn judge(
        &self,
        scrape: &Scrape,
        records: &[&Record],
        trends: &Trends,
        reasons: &BTreeMap<String, String>,
    ) -> Result<(Vec<Due>, Config, Vec<String>)> {
        let _held = self.lock_alerts(Duration::from_secs(2))?;
        let (state, damage) = self.alerts_state()?;
        let (config, mut notes) = self.rules(records)?;
        notes.extend(damage);
        let now = self.host.now_ms();
        let seen = Seen { scrape, trends: &trends.shares, reasons };
        let (mut state, _) = alert::judge(&config, &seen, &state, now);
        let due = state.take(now);
        // Before anything is told: what was told and could not be noted would be told again.
        self.keep_alerts(&state)?;
        Ok((due, config, notes))
    }

    /// `alert.delivered`: what came of telling.
    pub(super) fn alerts_delivered(&self, params: &Value) -> Result<Value> {
        let outcomes: Vec<Outcome> = serde_json::from_value(params["outcomes"].clone())
            .map_err(|e| Error::new(Kind::Argument, "outcomes cannot be read").caused_by(e))?;
        let _held = self.lock_alerts(Duration::from_secs(10))?;
        let (mut state, _) = self.alerts_state()?;
        let notes = state.delivered(&outcomes, self.host.now_ms());
        self.keep_alerts(&state)?;
        Ok(json!({"notes": notes}))
    }

    /// `alerts`: what there is, what is silenced, how the ways to people do, and the rules.
    pub(super) fn alerts(&self) -> Result<Value> {
        let (state, damage) = self.alerts_state()?;
        let gateways = self.gateways()?;
        let ours: Vec<&Record> = gateways.iter().map(|(_, r)| r).filter(|r| r.node == self.node).collect();
        let (config, mut notes) = self.rules(&ours)?;
        notes.extend(damage);
        let now = self.host.now_ms();
        let mut doc = state.document(now);
        let at = self.last_scrape()?.map(|s| s.at);
        if let (Some(stale), Some(list)) = (alert::agent_stale(&config, &self.node, at, now), doc["alerts"].as_array_mut()) {
            list.insert(0, stale);
        }
        doc["node"] = json!(self.node);
        doc["rules"] = config.document();
        // Its arguments may be a secret, and the file is root's alone.
        if let Some(argv) = doc["rules"]["sinks"]["command"]["argv"].as_array_mut() {
            argv.truncate(1);
        }
        doc["rules-file"] = json!(self.rules_file());
        doc["warnings"] = json!(notes);
        Ok(doc)
    }

    /// `alert.silence`
    pub(super) fn alert_silence(&self, params: &Value) -> Result<Value> {
        let now = self.host.now_ms();
        let until = required(params, "until")?;
        // `2h` is a time from now on; a moment is one.
        let at = when::moment_of(&until, now, true).map(|at| if is_stretch(&until) { 2 * now - at } else { at });
        let until = at.ok_or_else(|| {
            Error::property("until", format!("{} is no moment", shorten(&until)))
                .remedy("a time from now on as 30m, 2h, 7d, or a date as 2026-12-24")
        })?;
        let wanted = Wanted {
            code: text(params, "code")?,
            object: text(params, "object")?,
            until,
            by: text(params, "actor")?.unwrap_or_else(|| "root".into()),
            comment: text(params, "comment")?.unwrap_or_default(),
        };
        let _held = self.lock_alerts(Duration::from_secs(10))?;
        let (mut state, _) = self.alerts_state()?;
        let silence = state.silence(&wanted, now)?;
        self.keep_alerts(&state)?;
        Ok(json!({"node": self.node, "silence": silence}))
    }

    /// `alert.unsilence`
    pub(super) fn alert_unsilence(&self, params: &Value) -> Result<Value> {
        let id = required(params, "silence")?;
        let _held = self.lock_alerts(Duration::from_secs(10))?;
        let (mut state, _) = self.alerts_state()?;
        let silence = state.unsilence(&id)?;
        self.keep_alerts(&state)?;
        Ok(json!({"node": self.node, "silence": silence}))
    }

    /// `alert.rules`: other rules. What is told by a command stays as it is: that is root's to write, into the file.
    pub(super) fn alert_rules(&self, params: &Value) -> Result<Value> {
        let said = required(params, "rules")?;
        let bad = |why: String| Error::property("rules", why).remedy("docs/ALERTS.md says how rules are written");
        let mut doc: Value = serde_json::from_str(&said).map_err(|e| bad(format!("is no JSON: {e}")))?;
        if doc["sinks"].get("command").is_some() {
            return Err(bad(format!("a command is run as root, and is set in {} alone", self.rules_file().display())));
        }
        self.cluster_is_there()?;
        let _held = self.lock_alerts(Duration::from_secs(10))?;
        let file = self.rules_file();
        let old: Value = self.host.read_text(&file)?.and_then(|t| serde_json::from_str(&t).ok()).unwrap_or_default();
        if let (Some(command), Some(o)) = (old["sinks"].get("command"), doc.as_object_mut()) {
            let sinks = o.entry("sinks").or_insert_with(|| json!({}));
            if let Some(s) = sinks.as_object_mut() {
                s.insert("command".into(), command.clone());
            }
        }
        let (_, problems) = Config::from_document(&doc);
        if !problems.is_empty() {
            return Err(Error::invalid("rules of alerts", problems));
        }
        let text = serde_json::to_string_pretty(&doc).map_err(|e| bad(e.to_string()))?;
        let (uid, gid) = self.host.own_ids();
        self.host.write_private(&FileSpec { path: file.clone(), content: text + "\n", mode: 0o600, uid, gid })?;
        Ok(json!({"node": self.node, "rules-file": file}))
    }

    // ---- the report ----------------------------------------------------------------------------------------------------

    /// `report`: a week, or what is asked for, of this node.
    pub(super) fn report(&self, params: &Value) -> Result<Value> {
        let now = self.host.now_ms();
        let mut asked = params.clone();
        if text_or_number(params, "from").is_none() {
            asked["from"] = json!(now - WEEK_MS);
        }
        let range = when::range(&asked, now)?;
        let store = Store::open_to_read(&*self.host, &self.store_file(), self.store_settings().0)?.ok_or_else(|| {
            Error::new(Kind::NotFound, "there are no figures yet").remedy("systemctl start pve-smbgateway-agent")
        })?;
        let zone = Zone::default();
        let all = |scope: Scope, object: &str, (from, to): (i64, i64)| -> Result<Vec<Answer>> {
            let of_scope = METRICS.iter().filter(|m| m.scope == scope);
            of_scope
                .map(|m| {
                    let found = store.query(&Key::new(m, object), from, to, Detail::Length(3_600_000), now)?;
                    Ok(Answer::new(m, object, (from, to), found.resolution_ms, found.buckets))
                })
                .collect()
        };
        let (this, before) = ((range.from, range.to), (2 * range.from - range.to, range.from));
        let trends = self.trends();
        let (mut shares, mut gateways) = (Vec::new(), Vec::new());
        for (paths, record) in self.gateways()?.into_iter().filter(|(_, r)| r.node == self.node) {
            let name = paths.gateway.to_string();
            for id in record.shares.keys() {
                let (a, b) = (all(Scope::Share, id, this)?, all(Scope::Share, id, before)?);
                let mut share = report::Share::from_series(id, Some(&name), &a, &b, EVERY_MS, zone);
                if let Some(t) = trends.shares.get(id) {
                    (share.growth_per_day, share.full_at) = (t.per_day, t.full_at);
                }
                shares.push(share);
            }
            let (a, b) = (all(Scope::Gateway, &name, this)?, all(Scope::Gateway, &name, before)?);
            gateways.push(report::Gateway::from_series(&name, &a, &b, EVERY_MS));
        }
        let doc = self.alerts_state()?.0.document(now);
        let word = |v: &Value, k: &str| v[k].as_str().unwrap_or_default().to_owned();
        let told = |v: &Value, cleared: Option<i64>| report::Alert {
            severity: word(v, "severity"),
            code: word(v, "code"),
            object: word(v, "object"),
            text: word(v, "text"),
            raised: v["since"].as_i64().unwrap_or_default(),
            cleared,
        };
        let list = |k: &str| doc[k].as_array().cloned().unwrap_or_default();
        let alerts: Vec<report::Alert> = list("alerts")
            .iter()
            .map(|v| told(v, None))
            .chain(list("ended").iter().map(|v| told(v, v["until"].as_i64())))
            .filter(|a| a.raised < range.to && a.cleared.is_none_or(|c| c >= range.from))
            .collect();
        let missing = self
            .last_scrape()?
            .map(|s| s.sources)
            .unwrap_or_default()
            .into_iter()
            .filter(|s| s.why.is_some())
            .map(|s| report::Missing {
                gateway: s.gateway,
                source: s.source,
                missing_ms: s.at.map_or(range.to - range.from, |at| (now - at).clamp(0, range.to - range.from)),
                why: s.why,
            })
            .collect();
        let report = Report {
            schema: report::SCHEMA,
            node: self.node.clone(),
            from: range.from,
            to: range.to,
            made_at: now,
            utc_offset_minutes: zone,
            shares,
            gateways,
            alerts,
            missing,
        };
        Ok(match text(params, "form")?.as_deref() {
            Some("json") => json!({"content-type": "application/json", "text": report::json(&report).to_string()}),
            Some("html") => json!({"content-type": "text/html; charset=utf-8", "text": report::html(&report)}),
            _ => json!({"content-type": "text/plain; charset=utf-8", "text": report::text(&report)}),
        })
    }

    /// Takes a look into the store, and does a part of its upkeep. A damaged store is set aside and begun anew.
    pub(super) fn store_scrape(&self, scrape: &Scrape, settings: Settings) -> Result<u64> {
        let (host, file) = (&*self.host, self.store_file());
        let put = || -> Result<u64> {
            let opened = Store::open(host, &file, Settings { busy: Duration::from_secs(1), ..settings }, scrape.at)?;
            if let Some((path, why)) = &opened.set_aside {
                tracing::warn!(path = %path.display(), why, "the store of figures could not be used and was set aside");
            }
            let mut store = opened.store;
            store.ingest(scrape)?;
            let _ = store.keep_up(scrape.at, 10)?;
            Ok(store.size()?.bytes)
        };
        match put() {
            Err(e) if e.kind() == Kind::Corrupt => {
                let path = Store::set_aside(host, &file, scrape.at)?;
                tracing::warn!(path = %path.display(), why = %chain(&e), "the store of figures was damaged and is set aside");
                put()
            }
            other => other,
        }
    }

    /// How one share grows, from the store.
    pub(super) fn trend(&self, store: &Store, id: &str, scrape: &Scrape) -> Result<metrics::forecast::Forecast> {
        const DAYS: i64 = 60 * 86_400_000;
        let of = |name: &str| metrics::by_name(Scope::Share, name);
        let used = of("used_bytes").ok_or_else(|| Error::new(Kind::Internal, "there is no metric used_bytes"))?;
        let answer = self.of_series(store, used, id, (scrape.at - DAYS, scrape.at), Detail::Length(3_600_000))?;
        let value = |name: &str| of(name).and_then(|m| scrape.value(m, id));
        let room = metrics::forecast::room(value("used_bytes"), value("available_bytes"), value("limit_bytes"));
        Ok(metrics::forecast::forecast(&answer.buckets, value("used_bytes"), room, scrape.at))
    }
}

/// A time as `2h` or `-7d`, and no moment.
fn is_stretch(text: &str) -> bool {
    text.chars().last().is_some_and(|c| c.is_ascii_alphabetic())
        && text.chars().any(|c| c.is_ascii_digit())
        && !text.contains('T')
}

fn text_or_number<'a>(params: &'a Value, name: &str) -> Option<&'a Value> {
    params.get(name).filter(|v| !v.is_null())
}

fn names(scope: Scope) -> String {
    METRICS.iter().filter(|m| m.scope == scope).map(|m| m.name).collect::<Vec<_>>().join(", ")
}
