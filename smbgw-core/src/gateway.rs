// SPDX-License-Identifier: MIT OR Apache-2.0
//! TEMPORARY facade with the agreed signatures; replaced by the real one.
use crate::error::{Error, Kind, Result};
use serde::Deserialize;
use serde_json::{Value, json};

/// Options.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Options {
    /// State.
    pub state_dir: Option<String>,
    /// Run.
    pub run_dir: Option<String>,
    /// Records.
    pub record_dir: Option<String>,
    /// smb.conf.
    pub smb_conf: Option<String>,
    /// Ours.
    pub own_conf: Option<String>,
    /// Node.
    pub node: Option<String>,
}

impl Options {
    /// From JSON.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|e| Error::new(Kind::Invalid, format!("options: {e}")))
    }
}

/// Context.
#[derive(Debug)]
pub struct Context(Options);

/// Run.
#[derive(Debug)]
pub struct Run(u32);

/// Progress.
#[derive(Debug)]
pub enum Progress {
    /// More to do.
    Working(Value),
    /// Over.
    Done(Value),
    /// Unwound.
    Failed(Value, Error),
}

/// Usage.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Bytes.
    pub total: u64,
    /// Bytes.
    pub avail: u64,
    /// Bytes.
    pub used: u64,
    /// Age.
    pub age_ms: i64,
    /// Reachable.
    pub active: bool,
}

impl Context {
    /// New.
    pub fn new(options: Options) -> Result<Self> {
        tracing::info!(node = options.node.as_deref(), "context made");
        Ok(Self(options))
    }
    /// Query.
    pub fn query(&self, op: &str, params: &Value) -> Result<Value> {
        match op {
            "schema" => Ok(json!({"properties": [], "operations": []})),
            "list" => Ok(json!({"shares": [], "node": self.0.node})),
            "check" => Ok(json!({"problems": [], "warnings": [], "effective": params.get("section")})),
            "render" | "plan" | "users" | "groups" | "audit" => Ok(json!({})),
            "status" => Err(Error::new(Kind::NotFound, format!("there is no share {}", params["id"].as_str().unwrap_or("?")))),
            _ => Err(Error::new(Kind::Invalid, format!("there is no query {op}"))),
        }
    }
    /// Usage.
    pub fn usage(&self, id: &str) -> Result<Usage> {
        if id == "office" {
            return Ok(Usage { total: 5_000_000_000_000, avail: 2, used: 3, age_ms: 7, active: true });
        }
        Err(Error::new(Kind::NotFound, format!("there is no share {id}")))
    }
    /// Begin.
    pub fn begin(&self, op: &str, _params: &Value) -> Result<Run> {
        match op {
            "share.create" => Ok(Run(0)),
            _ => Err(Error::new(Kind::Invalid, format!("there is no operation {op}"))),
        }
    }
    /// Resume.
    pub fn resume(&self, opid: &str) -> Result<Run> {
        Err(Error::new(Kind::NotFound, format!("there is no operation {opid}")))
    }
}

impl Run {
    /// Secret.
    pub fn secret(&mut self, _name: &str, _data: &[u8]) -> Result<()> {
        Ok(())
    }
    /// Step.
    pub fn step(&mut self) -> Result<Progress> {
        self.0 += 1;
        match self.0 {
            1 => Ok(Progress::Working(json!({"events": [{"event": "planned", "phase": "files", "steps": 1}]}))),
            _ => Ok(Progress::Failed(json!({"events": []}), Error::property("path", "is not there"))),
        }
    }
    /// Unwind.
    pub fn unwind(&mut self) -> Result<()> {
        Ok(())
    }
    /// Interrupt.
    pub fn interrupt(&mut self) -> Result<()> {
        Ok(())
    }
}
