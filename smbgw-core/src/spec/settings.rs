// SPDX-License-Identifier: MIT OR Apache-2.0
//! What belongs to a gateway and not to one of its shares: its container and its domain. It may be stated in any of its sections; those that
//! state it must agree, and what no section states any more stays as it is. It knows which properties these are; what they mean is in `guest`
//! and `domain`.

use super::section::{Known, Section, Sections};
use super::{domain, guest};
use crate::error::Problem;
use crate::types::shorten;

/// All of them, in the order of the table.
pub fn properties() -> impl Iterator<Item = &'static str> {
    domain::PROPERTIES.into_iter().chain(guest::PROPERTIES)
}

/// The gateway's settings that a section states.
pub fn stated(section: &Section) -> Section {
    properties()
        .filter_map(|p| section.get_key_value(p))
        .filter(|(_, v)| !v.is_empty())
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// Complaints about settings that sections of one gateway state differently: each names both.
pub fn disagreements(id: &str, section: &Section, siblings: &Sections) -> Vec<Problem> {
    let mut wrong = Vec::new();
    for (name, mine) in stated(section) {
        for (other, theirs) in siblings.iter().filter(|(o, _)| *o != id) {
            if let Some(value) = theirs.get(&name).filter(|v| !v.is_empty() && **v != mine) {
                let why = format!(
                    "'{id}' says {} but '{other}' says {}; shares of one gateway must agree: state it in one of them",
                    shorten(&mine),
                    shorten(value)
                );
                wrong.push(Problem::new(name.clone(), why));
            }
        }
    }
    wrong
}

/// Complaints about settings that can be chosen once: those of a container that exists, and of a computer that is in a domain.
pub fn frozen(stated: &Section, known: &Known) -> Vec<Problem> {
    let fixed = [(known.built, &guest::FIXED[..]), (known.joined, &domain::FIXED[..])];
    let names = fixed.into_iter().filter(|(is, _)| *is).flat_map(|(_, list)| list);
    names
        .filter(|(name, _)| stated.get(*name).is_some_and(|v| known.settings.get(*name) != Some(v)))
        .map(|(name, why)| Problem::new(*name, *why))
        .collect()
}
