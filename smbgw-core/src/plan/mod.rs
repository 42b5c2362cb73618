// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decisions: what is wanted and what is there become ordered steps. Pure: the same input gives the same plan. It must not know
//! the host. Each mode has its own file of substrate; what all modes share is written once.

pub mod accounts;
pub mod native;
pub mod samba;
pub mod step;

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::Result;
use crate::facts::Facts;
use crate::spec::ShareSpec;
use crate::spec::section::Section;
use crate::types::{GroupName, UserName};
use step::Step;

/// What somebody wants to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    /// Create a share.
    Create {
        /// What is wanted.
        spec: Box<ShareSpec>,
        /// The section with the effective properties.
        section: Section,
        /// A password for the first user is at hand.
        password: bool,
    },
    /// Bring a share to a changed section.
    Update {
        /// What is wanted.
        spec: Box<ShareSpec>,
        /// The section with the effective properties.
        section: Section,
        /// A password for the first user is at hand.
        password: bool,
    },
    /// Remove a share, never its data.
    Delete {
        /// Which.
        id: String,
        /// Who asked, for the record.
        actor: String,
    },
    /// Put back what drifted.
    Repair {
        /// Also a managed file that somebody edited.
        overwrite: bool,
    },
    /// Create a user.
    UserCreate(UserName),
    /// Give a user another password.
    UserPassword(UserName),
    /// Disable or enable a user.
    UserDisable(UserName, bool),
    /// Remove a user.
    UserRemove(UserName),
    /// Create a group.
    GroupCreate(GroupName),
    /// Remove a group.
    GroupRemove(GroupName),
    /// Put a user into a group.
    GroupAdd(GroupName, UserName),
    /// Take a user out of a group.
    GroupDrop(GroupName, UserName),
}

impl Intent {
    /// Its phases, in order. Each is observed and planned anew.
    pub fn phases(&self) -> &'static [&'static str] {
        match self {
            Intent::Create { .. } | Intent::Update { .. } => &["files", "identity", "samba", "proof"],
            Intent::Delete { .. } => &["intent", "samba", "identity", "files"],
            Intent::Repair { .. } => &["identity", "samba"],
            Intent::UserCreate(_) | Intent::GroupCreate(_) => &["identity", "samba"],
            // Our file is written when the record no longer names who goes.
            Intent::UserRemove(_) | Intent::GroupRemove(_) => &["intent", "identity", "samba"],
            Intent::UserPassword(_) | Intent::UserDisable(..) | Intent::GroupAdd(..) | Intent::GroupDrop(..) => &["identity"],
        }
    }

    /// The share it is about, if it is about one.
    pub fn share_id(&self) -> Option<&str> {
        match self {
            Intent::Create { spec, .. } | Intent::Update { spec, .. } => Some(spec.id.as_str()),
            Intent::Delete { id, .. } => Some(id),
            _ => None,
        }
    }
}

/// The steps of one phase.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// Its steps, in order.
    pub steps: Vec<Step>,
}

/// All phases, each planned on the assumption that the ones before it went well.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// The phases, in order.
    pub phases: Vec<Phase>,
    /// What is worth a word.
    pub warnings: Vec<String>,
}

/// Plans one phase.
pub fn phase(name: &str, intent: &Intent, facts: &Facts) -> Result<(Vec<Step>, Vec<String>)> {
    native::phase(name, intent, facts)
}

/// Plans everything ahead, for people: each phase on the facts that the phases before it would leave behind.
pub fn ahead(intent: &Intent, facts: &Facts) -> Result<Plan> {
    let mut facts = facts.clone();
    let mut plan = Plan { phases: Vec::new(), warnings: Vec::new() };
    for name in intent.phases() {
        let (steps, warnings) = phase(name, intent, &facts)?;
        for s in &steps {
            native::assume(&mut facts, s)?;
        }
        plan.phases.push(Phase { name: (*name).to_owned(), steps });
        for w in warnings {
            if !plan.warnings.contains(&w) {
                plan.warnings.push(w);
            }
        }
    }
    Ok(plan)
}

impl Plan {
    /// As text: a line a step, with what undoes it.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for p in &self.phases {
            let _ = writeln!(out, "phase {}", p.name);
            for s in &p.steps {
                let effect = s.effect.to_string();
                let _ = writeln!(out, "  {:<26} {}", s.id, s.title);
                if effect != s.title {
                    let _ = writeln!(out, "  {:<26}   {effect}", "");
                }
                let _ = writeln!(out, "  {:<26}   undo: {}", "", s.undo);
            }
        }
        for w in &self.warnings {
            let _ = writeln!(out, "warning: {w}");
        }
        out
    }

    /// As a document.
    pub fn document(&self, op: &str, target: &str) -> Value {
        let phases: Vec<Value> = self
            .phases
            .iter()
            .map(|p| {
                let steps: Vec<Value> = p
                    .steps
                    .iter()
                    .map(|s| {
                        json!({"id": s.id, "title": s.title, "place": s.place, "class": s.class, "effect": s.effect.to_string(), "undo": s.undo.to_string()})
                    })
                    .collect();
                json!({"name": p.name, "steps": steps})
            })
            .collect();
        json!({"op": op, "target": target, "phases": phases, "warnings": self.warnings, "text": self.text()})
    }
}
