// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the planners of all phases share: finding things in the record, or saying that they are not there.

use super::step::{Effect, Seen, Step, Undo, Watch};
use crate::effect::Program;
use crate::error::{Error, Kind, Result};
use crate::facts::Facts;
use crate::spec::record::{GroupEntry, Key, Record, ShareEntry, UserEntry};
use crate::types::{GroupName, UserName};

/// Steps and what is worth a word.
pub type Steps = Result<(Vec<Step>, Vec<String>)>;

/// No steps.
pub fn nothing() -> Steps {
    Ok((Vec::new(), Vec::new()))
}

/// Whether a share is the only one that the record knows.
pub fn is_last(id: &str, record: &Record) -> bool {
    record.shares.keys().all(|k| k == id)
}

/// The gateway record.
pub fn record(facts: &Facts) -> Result<&Record> {
    facts.record.as_ref().ok_or_else(|| {
        Error::new(Kind::NotFound, format!("the gateway {} does not exist on node {}", facts.paths.gateway, facts.node))
            .remedy("create a share first")
    })
}

/// A share in the record.
pub fn entry<'a>(facts: &'a Facts, id: &str) -> Result<&'a ShareEntry> {
    facts
        .record
        .as_ref()
        .and_then(|r| r.shares.get(id))
        .ok_or_else(|| Error::new(Kind::NotFound, format!("there is no share {id} on node {}", facts.node)))
}

/// A user in the record.
pub fn user<'a>(facts: &'a Facts, name: &UserName) -> Result<&'a UserEntry> {
    record(facts)?.users.get(name.as_str()).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("the gateway has no user {name}")).remedy(format!("pve-smbgateway user create {name}"))
    })
}

/// A group in the record.
pub fn group<'a>(facts: &'a Facts, name: &GroupName) -> Result<&'a GroupEntry> {
    record(facts)?.groups.get(name.as_str()).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("the gateway has no group {name}"))
            .remedy(format!("pve-smbgateway group create {name}"))
    })
}

/// The record as it is, or a new one whose uuid is not drawn yet; its numbers are those that will be given.
pub fn record_or_new(facts: &Facts) -> Record {
    facts.record.clone().unwrap_or_else(|| Record::new(facts.paths.gateway.as_str(), &facts.node, facts.paths.mode, "new"))
}

/// Makes the record where there is none.
pub fn make_record(facts: &Facts, steps: &mut Vec<Step>) {
    if facts.record.is_none() {
        let effect = Effect::NewRecord;
        steps.push(
            Step::new("files/record", "make the gateway record", Watch::Record(Key::Gateway), effect)
                .before(Seen::Absent)
                .undo(Undo::Restore),
        );
    }
}

/// Refuses to begin without these programs.
pub fn must_have(facts: &Facts, programs: &[Program]) -> Result<()> {
    for p in programs {
        if let Some(remedy) = facts.missing.get(p.name()) {
            return Err(Error::new(Kind::Unsupported, format!("{} is not installed", p.name())).remedy(remedy.clone()));
        }
    }
    Ok(())
}
