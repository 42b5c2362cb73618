// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decisions: what is wanted and what is there become ordered steps. Pure: the same input gives the same plan. It must not know
//! the host. `substrate` alone knows what a mode needs around Samba; everything else is written once and acts in whatever place
//! the facts name.

pub mod accounts;
pub mod assume;
mod common;
pub mod directory;
pub mod live;
pub mod proof;
pub mod quota;
pub mod samba;
mod share;
pub mod step;
pub mod substrate;
pub mod template;
mod users;

pub use users::PASSWORD;

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::effect::Place;
use crate::error::{Error, Kind, Result};
use crate::facts::Facts;
use crate::spec::section::{JoinAccount, Mode, Section};
use crate::spec::{DomainSpec, ShareSpec};
use crate::types::{DomainAccount, GroupName, UserName, VmId};
pub use directory::Repair;
use step::{JoinBy, Step};

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
        /// Whoever asks has smbd read its configuration when more is done.
        later: bool,
    },
    /// Bring a share to a changed section.
    Update {
        /// What is wanted.
        spec: Box<ShareSpec>,
        /// The section with the effective properties.
        section: Section,
        /// A password for the first user is at hand.
        password: bool,
        /// Whoever asks has smbd read its configuration when more is done.
        later: bool,
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
    /// Put back what drifted of the limits of a share.
    Limits(String),
    /// Create a user.
    UserCreate {
        /// Who.
        name: UserName,
        /// Whoever asks has smbd read its configuration when more is done.
        later: bool,
    },
    /// Give a user another password.
    UserPassword(UserName),
    /// Disable or enable a user.
    UserDisable(UserName, bool),
    /// Remove a user.
    UserRemove(UserName),
    /// Create a group.
    GroupCreate {
        /// Which.
        name: GroupName,
        /// Whoever asks has smbd read its configuration when more is done.
        later: bool,
    },
    /// Remove a group.
    GroupRemove(GroupName),
    /// Put a user into a group.
    GroupAdd(GroupName, UserName),
    /// Take a user out of a group.
    GroupDrop(GroupName, UserName),
    /// End sessions.
    SessionClose {
        /// Of that user, as Samba names him.
        user: Option<String>,
        /// That one.
        id: Option<String>,
        /// Those that were seen when it was asked for, as documents.
        ends: Vec<Value>,
    },
    /// Start the gateway's container, after looking at its trees.
    GatewayStart,
    /// Stop it, until somebody starts it.
    GatewayStop,
    /// Stop and start it: what waits for the next start takes effect.
    GatewayRestart,
    /// Make smbd read its configuration, which shares left to this.
    GatewayReload,
    /// Replace it by one from another template, the newest unless named.
    GatewayUpgrade(Option<String>),
    /// Take another number for it, which an administrator gave it.
    GatewayAdopt(VmId),
    /// Give everything in a tree the numbers that a container without mapped mounts has, or take them back.
    TreeShift {
        /// The tree.
        path: PathBuf,
        /// Back to the numbers of the node.
        back: bool,
    },
    /// Make a gateway a member of a domain, or one again.
    AdJoin {
        /// The domain.
        domain: Box<DomainSpec>,
        /// The gateway's settings that say so.
        settings: Section,
        /// The account that joins.
        join: Option<JoinAccount>,
        /// What is at hand for it.
        by: Option<JoinBy>,
    },
    /// Let a user of the domain log in, to see whether he can.
    AdTestUser {
        /// Who.
        account: DomainAccount,
        /// To which share; all of the gateway unless named.
        share: Option<String>,
        /// By NTLM instead of Kerberos.
        ntlm: bool,
    },
    /// Put a part of a membership right again.
    AdRepair(Repair),
    /// Let the local users in who are named for it, although the gateway is in a domain, or out again.
    AdFallback {
        /// In.
        on: bool,
        /// An administrator orders it, not the worker.
        forced: bool,
    },
    /// Take a gateway out of its domain.
    AdLeave {
        /// The computer account stays, disabled.
        keep: bool,
        /// The account that may do it.
        join: Option<JoinAccount>,
        /// What is at hand for it.
        by: JoinBy,
    },
    /// Build a template.
    TemplateBuild(template::Build),
    /// Remove templates that no gateway uses, except for the newest.
    TemplatePrune {
        /// How many are kept at least.
        keep: usize,
    },
}

impl Intent {
    /// The phases, in order. Each is observed and planned anew. `member`: the gateway is, or shall be, in a domain.
    pub fn phases(&self, mode: Mode, member: bool) -> Vec<&'static str> {
        let all: &[&str] = match self {
            Intent::Create { .. } | Intent::Update { .. } => {
                &["files", "guest", "domain", "directory", "identity", "samba", "member", "proof"]
            }
            // The tree is given back when nothing serves it any more.
            Intent::Delete { .. } => &["intent", "samba", "directory", "identity", "guest", "files"],
            Intent::Repair { .. } | Intent::GatewayStart | Intent::GatewayRestart => &["guest", "directory", "identity", "samba"],
            Intent::Limits(_) => &["quota"],
            Intent::UserCreate { .. } | Intent::GroupCreate { .. } => &["identity", "samba"],
            // Our file is written when the record no longer names who goes.
            Intent::UserRemove(_) | Intent::GroupRemove(_) => &["intent", "identity", "samba"],
            Intent::UserPassword(_) | Intent::UserDisable(..) | Intent::GroupAdd(..) | Intent::GroupDrop(..) => &["identity"],
            Intent::SessionClose { .. } => &["sessions"],
            Intent::GatewayStop | Intent::GatewayAdopt(_) => &["guest"],
            Intent::GatewayReload => &["samba"],
            Intent::GatewayUpgrade(_) => &["guest", "directory", "identity", "samba", "proof", "retire"],
            Intent::AdJoin { .. } => &["domain", "directory", "identity", "samba", "member"],
            Intent::AdLeave { .. } => &["directory", "samba"],
            Intent::AdRepair(_) => &["directory"],
            Intent::AdTestUser { .. } => &["member"],
            Intent::AdFallback { .. } => &["intent", "identity"],
            Intent::TreeShift { .. } => &["tree"],
            Intent::TemplateBuild(_) | Intent::TemplatePrune { .. } => &["template"],
        };
        let gateways = matches!(self, Intent::GatewayStop | Intent::GatewayAdopt(_));
        let applies = |phase: &&str| match *phase {
            "guest" => mode == Mode::Lxc || gateways,
            "domain" | "directory" | "member" => {
                member || matches!(self, Intent::AdJoin { .. } | Intent::AdLeave { .. } | Intent::AdRepair(_))
            }
            _ => true,
        };
        all.iter().copied().filter(applies).collect()
    }

    /// The share that it builds or changes, as it shall be.
    pub fn spec(&self) -> Option<&ShareSpec> {
        match self {
            Intent::Create { spec, .. } | Intent::Update { spec, .. } => Some(spec),
            _ => None,
        }
    }

    /// Whether what it adds may wait for smbd to be told.
    pub fn may_wait(&self) -> bool {
        match self {
            Intent::Create { later, .. }
            | Intent::Update { later, .. }
            | Intent::UserCreate { later, .. }
            | Intent::GroupCreate { later, .. } => *later,
            _ => false,
        }
    }

    /// The share it is about, if it is about one.
    pub fn share_id(&self) -> Option<&str> {
        match self {
            Intent::Create { spec, .. } | Intent::Update { spec, .. } => Some(spec.id.as_str()),
            Intent::Delete { id, .. } | Intent::Limits(id) => Some(id),
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

/// Whether a phase looks at, and acts on, the place where Samba is.
pub fn is_inside(phase: &str) -> bool {
    matches!(phase, "domain" | "directory" | "identity" | "sessions" | "samba" | "member" | "proof")
}

/// Plans one phase.
pub fn phase(name: &str, intent: &Intent, facts: &Facts) -> Result<(Vec<Step>, Vec<String>)> {
    let inside = is_inside(name);
    if inside && !facts.reachable && !matches!(intent, Intent::Delete { .. }) {
        return substrate::out_of_reach(intent, facts);
    }
    let mut early = Vec::new();
    let planned = match (name, intent) {
        ("files", Intent::Create { spec, section, .. }) => share::files(spec, section, facts, true),
        ("files", Intent::Update { spec, section, .. }) => share::files(spec, section, facts, false),
        ("identity", Intent::Create { spec, password, .. } | Intent::Update { spec, password, .. }) => {
            users::of_share(spec, *password, facts)
        }
        // With its last share a container goes, and one that does not run is told when it starts.
        ("samba", Intent::Delete { id, .. }) if substrate::goes_with(id, facts) || !facts.reachable => common::nothing(),
        ("samba", _) => live::go_live(intent, facts),
        ("proof", Intent::Create { spec, .. }) => proof::proof(spec, false, facts),
        ("proof", Intent::Update { spec, .. }) => proof::proof(spec, spec.join.is_none(), facts),
        ("proof", Intent::GatewayUpgrade(_)) => proof::all(facts),
        ("intent", Intent::Delete { id, actor }) => share::delete_intent(id, actor, facts),
        ("identity", Intent::Delete { id, .. }) => users::drop_accounts(id, facts),
        ("files", Intent::Delete { id, .. }) => share::drop_files(id, facts),
        ("identity", Intent::Repair { .. } | Intent::GatewayStart | Intent::GatewayRestart | Intent::GatewayUpgrade(_)) => {
            users::restore_accounts(facts)
        }
        ("identity", Intent::UserCreate { name, .. }) => users::create_user(name, facts),
        ("identity", Intent::UserPassword(name)) => users::user_password(name, facts),
        ("identity", Intent::UserDisable(name, off)) => users::user_disable(name, *off, facts),
        ("intent", Intent::UserRemove(name)) => users::forget_membership(name, facts),
        ("identity", Intent::UserRemove(name)) => users::remove_user(name, facts),
        ("identity", Intent::GroupCreate { name, .. }) => users::create_group(name, facts),
        ("intent", Intent::GroupRemove(name)) => users::group_unused(name, facts),
        ("identity", Intent::GroupRemove(name)) => users::remove_group(name, facts),
        ("identity", Intent::GroupAdd(group, user)) => users::change_group(group, user, true, facts),
        ("identity", Intent::GroupDrop(group, user)) => users::change_group(group, user, false, facts),
        ("sessions", Intent::SessionClose { user, id, .. }) => users::close_sessions(user.as_deref(), id.as_deref(), facts),
        ("domain", Intent::Create { spec, password, .. } | Intent::Update { spec, password, .. }) => {
            directory::find(spec, *password, facts)
        }
        ("domain", Intent::AdJoin { domain, settings, join, by }) => {
            share::keep_settings(settings.clone(), facts, &mut early);
            directory::find_again(domain, join.as_ref(), *by, facts)
        }
        ("directory", Intent::Delete { .. }) if !facts.reachable => common::nothing(),
        ("directory", Intent::Delete { id, .. }) => directory::forget(id, facts),
        ("directory", Intent::AdRepair(what)) => directory::repair(*what, facts),
        ("intent", Intent::AdFallback { on, forced }) => directory::fallback(*on, *forced, facts),
        ("identity", Intent::AdFallback { .. }) => Ok((users::gate(facts), Vec::new())),
        ("directory", Intent::AdLeave { keep, join, by }) => directory::leave(*keep, join.as_ref(), *by, facts),
        ("directory", _) => directory::become_member(intent, facts),
        ("identity", Intent::AdJoin { .. }) => users::restore_accounts(facts),
        ("member", Intent::AdTestUser { account, share, ntlm }) => directory::test_user(account, share.as_deref(), *ntlm, facts),
        ("member", _) => directory::prove(intent, facts),
        ("quota", Intent::Limits(id)) => quota::restore(id, facts),
        ("guest" | "retire", _) => substrate::guest(name, intent, facts),
        ("tree", Intent::TreeShift { path, back }) => substrate::shift(path, *back, facts),
        ("template", Intent::TemplateBuild(build)) => template::build(build, facts),
        ("template", Intent::TemplatePrune { keep }) => template::prune(*keep, facts),
        (phase, _) => Err(Error::new(Kind::Internal, format!("there is no phase {phase} for this intent"))),
    };
    let (steps, warnings) = planned?;
    let mut steps = [early, steps].concat();
    if inside || name == "intent" {
        // What belongs to the record and the trees stays with the node; the rest happens where Samba is.
        steps.iter_mut().filter(|s| !s.effect.is_of_the_node()).for_each(|s| s.place = facts.place);
    }
    Ok((steps, warnings))
}

/// Plans everything ahead, for people: each phase on the facts that the phases before it would leave behind.
pub fn ahead(intent: &Intent, facts: &Facts) -> Result<Plan> {
    let mut facts = facts.clone();
    let mut plan = Plan { phases: Vec::new(), warnings: Vec::new() };
    let member = intent.spec().is_some_and(|s| s.domain.is_some()) || facts.record.as_ref().is_some_and(|r| r.member.is_some());
    for name in intent.phases(facts.paths.mode, member) {
        let (steps, warnings) = phase(name, intent, &facts)?;
        for s in &steps {
            assume::assume(&mut facts, s)?;
        }
        plan.phases.push(Phase { name: name.to_owned(), steps });
        for w in warnings {
            if !plan.warnings.contains(&w) {
                plan.warnings.push(w);
            }
        }
    }
    Ok(plan)
}

/// What differs from the record, as the plan of a repair. That open sessions are still to be told of something new is nothing that drifted:
/// others leave that to the end of what they do.
pub fn drift(facts: &Facts) -> Result<Plan> {
    let mut as_told = facts.clone();
    as_told.record.iter_mut().for_each(|r| r.reload_due = None);
    ahead(&Intent::Repair { overwrite: false }, &as_told)
}

impl Plan {
    /// Whether it takes longer than a hook has.
    pub fn is_long(&self) -> bool {
        self.phases.iter().flat_map(|p| &p.steps).any(|s| s.class == step::Class::Long)
    }

    /// As text: a line a step, with what undoes it.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for p in &self.phases {
            let _ = writeln!(out, "phase {}", p.name);
            for s in &p.steps {
                let effect = s.effect.to_string();
                let place = if s.place == Place::Node { String::new() } else { format!("[{}] ", s.place) };
                let _ = writeln!(out, "  {:<26} {place}{}", s.id, s.title);
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
