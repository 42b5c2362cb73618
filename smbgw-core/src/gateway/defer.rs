// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a hook accepts and the worker does later: the note that a share is to be built, the password that it needs once, why it could not be
//! built, and that one which is being built at this moment is to go. All but the last lies in the run directory, root's alone, and does not
//! outlive a boot; the wanted state itself is the section.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::Context;
use crate::effect::FileSpec;
use crate::error::{Error, Kind, Result};
use crate::host::Secrets;
use crate::plan::Intent;
use crate::run::reconcile::UNCOMMITTED_MS;
use crate::spec::ShareSpec;
use crate::spec::section::Sections;
use crate::status;
use crate::types::StoreId;

/// How long a password waits for the worker.
const PENDING_MS: i64 = 3_600_000;
/// The first pause after a build that failed, and the longest; each is twice the one before.
const PAUSES_MS: (i64, i64) = (60_000, 1_800_000);

impl Context {
    fn pending(&self, id: &str) -> PathBuf {
        self.native.run_dir.join("pending").join(id)
    }

    fn failed(&self, id: &str) -> PathBuf {
        self.native.run_dir.join("failed").join(format!("{id}.json"))
    }

    fn gone(&self, id: &str) -> PathBuf {
        self.native.state_dir.join("gone").join(id)
    }

    /// Notes that a share is to go whose gateway somebody else works on at this moment.
    pub(super) fn ask_gone(&self, id: &str, actor: &str) -> Result<()> {
        StoreId::new(id)?;
        self.put_private(self.gone(id), actor.to_owned())?;
        self.drop_deferred(id)
    }

    /// Whether a share is to go, and who asked for it.
    pub(super) fn asked_gone(&self, id: &str) -> Result<Option<String>> {
        self.host.read_text(&self.gone(id))
    }

    /// The removal was taken up; nothing waits for it any more.
    pub(super) fn taken_up(&self, id: &str) -> Result<()> {
        self.drop_deferred(id)?;
        self.host.remove(&self.gone(id))
    }

    /// Removals that were asked for.
    pub(super) fn all_asked_gone(&self) -> Result<Vec<String>> {
        let ids = self.host.list(&self.native.state_dir.join("gone"))?;
        Ok(ids.into_iter().filter(|id| StoreId::new(id).is_ok()).collect())
    }

    fn put_private(&self, path: PathBuf, content: String) -> Result<()> {
        if let Some(dir) = path.parent() {
            self.host.make_dir(dir, 0o700)?;
        }
        let (uid, gid) = self.host.own_ids();
        self.host.write(&FileSpec { path, content, mode: 0o600, uid, gid })
    }

    /// Keeps the password of a share's first user, or of the account that joins a domain and its name, for the worker: root's alone, an hour
    /// at most.
    pub(super) fn keep_password(&self, id: &str, account: Option<&str>, secrets: &Secrets) -> Result<()> {
        let Some(value) = secrets.get("password") else { return Ok(()) };
        let value = std::str::from_utf8(value).map_err(|_| Error::property("password", "is not UTF-8 text"))?;
        self.put_private(self.pending(id), format!("{}\n{}\n{value}", self.host.now_ms(), account.unwrap_or_default()))
    }

    /// The password that waits for a share, and the account that it is of, if that is not in the section.
    pub(super) fn kept_password(&self, id: &str) -> Result<Option<(Option<String>, Vec<u8>)>> {
        let Some(text) = self.host.read_text(&self.pending(id))? else { return Ok(None) };
        let (at, rest) = text.split_once('\n').unwrap_or_default();
        let (account, value) = rest.split_once('\n').unwrap_or_default();
        let age = self.host.now_ms() - at.parse::<i64>().unwrap_or(0);
        if value.is_empty() || !(0..=PENDING_MS).contains(&age) {
            self.host.remove(&self.pending(id))?;
            return Ok(None);
        }
        Ok(Some(((!account.is_empty()).then(|| account.to_owned()), value.as_bytes().to_vec())))
    }

    /// Nothing of a share waits any more: it was built, or is to go.
    pub(super) fn drop_deferred(&self, id: &str) -> Result<()> {
        StoreId::new(id)?;
        self.host.remove(&self.pending(id))?;
        self.host.remove(&self.failed(id))
    }

    /// A share that was accepted and never begun is forgotten.
    pub(super) fn unannounce(&self, id: &str) -> Result<()> {
        match self.last_known(id, "state").as_str() {
            Some("provisioning" | "failed") => self.host.remove(&self.snapshot(id)),
            _ => Ok(()),
        }
    }

    /// Takes away passwords that nobody fetched in time.
    pub(super) fn expire_passwords(&self) -> Result<()> {
        for id in self.host.list(&self.native.run_dir.join("pending"))? {
            if StoreId::new(&id).is_ok() {
                drop(self.kept_password(&id)?);
            }
        }
        Ok(())
    }

    /// The snapshot of a share that is accepted and not begun.
    pub(super) fn announce(&self, spec: &ShareSpec, warnings: &[String]) -> Result<()> {
        let dir = self.native.run_dir.join("status");
        self.host.make_dir(&dir, 0o700)?;
        let mut doc = json!({
            "schema": status::SCHEMA, "at": self.host.now_ms(), "since": self.host.now_ms(), "id": spec.id, "share": spec.share, "state": "provisioning",
            "mode": spec.mode, "gateway": spec.gateway, "node": spec.node, "active": self.host.tree(&spec.path).is_ok(), "path": spec.path,
            "local": false, "fsid": "0", "served": false, "warnings": warnings, "drift": [], "operation": Value::Null, "stuck": Value::Null,
        });
        if let Ok(s) = self.host.space(&spec.path) {
            doc["space"] = json!({"total": s.total, "avail": s.avail, "used": s.used});
        }
        self.put_snapshot(spec.id.as_str(), &doc)
    }

    /// Says in the snapshot how far the building is.
    pub(super) fn note_step(&self, id: &str, operation: Value) -> Result<()> {
        let path = self.snapshot(id);
        let Some(f) = self.host.read(&path, 1 << 20)? else { return Ok(()) };
        let Ok(mut doc) = serde_json::from_slice::<Value>(&f.content) else { return Ok(()) };
        doc["at"] = json!(self.host.now_ms());
        doc["operation"] = operation;
        if doc["state"] == "failed" {
            doc["state"] = json!("provisioning");
        }
        self.put_snapshot(id, &doc)
    }

    /// Notes that a share could not be built, and why.
    pub(super) fn note_failure(&self, id: &str, error: &Error) -> Result<()> {
        let before = self.failure(id);
        let doc = json!({"at": self.host.now_ms(), "times": before["times"].as_i64().unwrap_or(0) + 1, "error": error.to_doc()});
        self.put_private(self.failed(id), doc.to_string())?;
        let path = self.snapshot(id);
        let Some(f) = self.host.read(&path, 1 << 20)? else { return Ok(()) };
        let Ok(mut shot) = serde_json::from_slice::<Value>(&f.content) else { return Ok(()) };
        for (key, value) in [
            ("at", json!(self.host.now_ms())),
            ("state", json!("failed")),
            ("active", json!(false)),
            ("operation", Value::Null),
            ("error", doc["error"].clone()),
        ] {
            shot[key] = value;
        }
        shot["warnings"] = json!([format!("it could not be built: {}", doc["error"]["message"].as_str().unwrap_or_default())]);
        self.put_snapshot(id, &shot)
    }

    /// Notes that a share that is there could not be changed, and why; its status says so until a change succeeds.
    pub(super) fn note_trouble(&self, id: &str, error: &Error) -> Result<()> {
        let before = self.failure(id);
        let doc = json!({"at": self.host.now_ms(), "times": before["times"].as_i64().unwrap_or(0) + 1, "error": error.to_doc()});
        self.put_private(self.failed(id), doc.to_string())
    }

    /// That trouble is over.
    pub(super) fn forget_trouble(&self, id: &str) -> Result<()> {
        self.host.remove(&self.failed(id))
    }

    /// What the status of a share says of a change that could not be made.
    pub(super) fn trouble(&self, id: &str) -> Option<String> {
        let doc = self.failure(id);
        let why = doc["error"]["message"].as_str()?;
        Some(format!(
            "its section could not be carried out, and is tried again: {why}; at once: pve-smbgateway reconcile --once {id}"
        ))
    }

    fn failure(&self, id: &str) -> Value {
        let text = self.host.read_text(&self.failed(id)).ok().flatten().unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Whether a share that could not be built is left alone for now.
    pub(super) fn too_soon(&self, id: &str) -> bool {
        let doc = self.failure(id);
        let (Some(at), times) = (doc["at"].as_i64(), doc["times"].as_i64().unwrap_or(1)) else { return false };
        let pause = (PAUSES_MS.0 << (times - 1).clamp(0, 10)).min(PAUSES_MS.1);
        (0..pause).contains(&(self.host.now_ms() - at))
    }

    /// Whether a snapshot is kept although no record knows the share: it was accepted a moment ago, or its section is there and it could not
    /// be built. In the second case it stays fresh.
    pub(super) fn still_expected(&self, id: &str, sections: Option<&Sections>) -> bool {
        let state = self.last_known(id, "state");
        if !matches!(state.as_str(), Some("provisioning" | "failed")) {
            return false;
        }
        let since = self.last_known(id, "since").as_i64().unwrap_or(0);
        if sections.is_some_and(|s| s.contains_key(id)) {
            if let Err(e) = self.note_still(id) {
                tracing::warn!(id, error = %crate::error::chain(&e), "the snapshot cannot be refreshed");
            }
            return true;
        }
        sections.is_none() || self.host.now_ms() - since < UNCOMMITTED_MS
    }

    /// Only the time of a snapshot.
    pub(super) fn note_still(&self, id: &str) -> Result<()> {
        let path = self.snapshot(id);
        let Some(f) = self.host.read(&path, 1 << 20)? else { return Ok(()) };
        let Ok(mut doc) = serde_json::from_slice::<Value>(&f.content) else { return Ok(()) };
        doc["at"] = json!(self.host.now_ms());
        self.put_snapshot(id, &doc)
    }
}

/// The share that an intent builds, if it builds one.
pub(super) fn built(intent: &Intent) -> Option<&ShareSpec> {
    match intent {
        Intent::Create { spec, .. } => Some(spec),
        _ => None,
    }
}

/// A hook cannot leave this to the worker.
pub(super) fn too_long(op: &str) -> Error {
    Error::new(Kind::Unsupported, format!("{op} takes longer than a hook may")).remedy("run it with pve-smbgateway")
}
