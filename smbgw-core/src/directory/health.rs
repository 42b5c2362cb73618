// SPDX-License-Identifier: MIT OR Apache-2.0
//! The health of a membership over time, as a state machine. Pure: what was known, what was found, and the time go in; what is known now and
//! what may be done about it come out. It knows how often a repair is tried and how long an outage must last before it counts; it must not know how
//! anything is found out or repaired.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Finding, Reason};
use crate::plan::Repair;
use crate::spec::record::Fallback;

/// How often everything is looked at while all is well; between these only the one cheap look is taken.
const THOROUGH_MS: i64 = 900_000;
/// How often a repair of one and the same trouble is tried.
const ATTEMPTS: u32 = 3;
/// The pause after the first attempt; each is four times the one before.
const PAUSE_MS: i64 = 60_000;
/// How long no domain controller must have answered before local users are let in, and how long one must have answered before they are let
/// out again: a restart is no outage, and one answer no return.
pub const OUTAGE_MS: i64 = 120_000;
/// See [`OUTAGE_MS`].
pub const RETURN_MS: i64 = 120_000;

/// What is known of a membership.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Health {
    /// The code of what is wrong; `None`: nothing, or nobody has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was seen of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub evidence: String,
    /// Since when it is so, milliseconds since the epoch.
    pub since_ms: i64,
    /// When somebody looked last.
    pub looked_ms: i64,
    /// When everything was looked at last.
    pub thorough_ms: i64,
    /// Repairs that were tried since all was well last, by code.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attempts: BTreeMap<String, Attempts>,
    /// What is worth a word and no trouble: accounts that were renamed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

/// Tries of one repair.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Attempts {
    /// How many.
    pub times: u32,
    /// When the last was.
    pub last_ms: i64,
}

/// The repair of a trouble, if there is one beside those that a reconcile does anyway (winbindd is started by it).
fn repair_of(reason: Reason) -> Option<Repair> {
    match reason {
        Reason::KeytabMissing => Some(Repair::Keytab),
        Reason::RotationOverdue => Some(Repair::Rotate),
        Reason::SpnLost => Some(Repair::Names),
        _ => None,
    }
}

impl Health {
    /// Whether it is time to look at everything.
    pub fn wants_all(&self, now: i64) -> bool {
        self.reason.is_some() || now - self.thorough_ms >= THOROUGH_MS || now < self.thorough_ms
    }

    /// The reason, by its code.
    pub fn trouble(&self) -> Option<Reason> {
        let code = self.reason.as_deref()?;
        Reason::ALL.into_iter().find(|r| r.code() == code)
    }

    /// No domain controller answered when somebody looked last.
    pub fn is_outage(&self) -> bool {
        self.trouble().is_some_and(Reason::is_outage)
    }

    /// What is known after a look. `verdict`: the worst that was found.
    #[must_use]
    pub fn after(&self, verdict: Option<&Finding>, remarks: Vec<String>, thorough: bool, now: i64) -> Self {
        let reason = verdict.and_then(|f| f.reason).map(|r| r.code().to_owned());
        // A cheap look that found nothing says nothing about what only a thorough one can see.
        let same = reason == self.reason;
        Self {
            since_ms: if same && self.since_ms > 0 { self.since_ms } else { now },
            looked_ms: now,
            thorough_ms: if thorough { now } else { self.thorough_ms },
            attempts: if reason.is_none() && thorough { BTreeMap::new() } else { self.attempts.clone() },
            remarks: if thorough { remarks } else { self.remarks.clone() },
            evidence: verdict.map(|f| f.saw.clone()).unwrap_or_default(),
            reason,
        }
    }

    /// What may be tried now. A repair that did not help is tried again a few times with growing pauses, and then left to the administrator.
    pub fn repair(&self, now: i64) -> Option<Repair> {
        let reason = self.trouble()?;
        let repair = repair_of(reason)?;
        let a = self.attempts.get(reason.code()).cloned().unwrap_or_default();
        let pause = PAUSE_MS << (2 * a.times.min(10)) >> 2;
        (a.times < ATTEMPTS && (a.times == 0 || now - a.last_ms >= pause)).then_some(repair)
    }

    /// A repair is being tried.
    pub fn tried(&mut self, now: i64) {
        if let Some(code) = self.reason.clone() {
            let a = self.attempts.entry(code).or_default();
            (a.times, a.last_ms) = (a.times + 1, now);
        }
    }

    /// Whether local users are let in or out: true, false, or as it is.
    pub fn fallback(&self, allowed: bool, now: Option<Fallback>, at: i64) -> Option<bool> {
        let outage = self.is_outage();
        match now {
            None if allowed && outage && at - self.since_ms >= OUTAGE_MS => Some(true),
            Some(f) if !f.forced && !allowed => Some(false),
            // A trouble that is none of the domain controllers' is no reason to go on either.
            Some(f) if !f.forced && !outage && at - self.since_ms >= RETURN_MS => Some(false),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(reason: Reason) -> Finding {
        Finding { check: "x", did: String::new(), saw: "seen".into(), reason: Some(reason), harmless: false }
    }

    fn look(h: &Health, reason: Option<Reason>, now: i64) -> Health {
        let f = reason.map(found);
        h.after(f.as_ref(), Vec::new(), true, now)
    }

    #[test]
    fn an_outage_has_to_last_and_so_has_the_return() {
        let h = look(&Health::default(), Some(Reason::PortSilent), 1_000);
        assert_eq!(h.fallback(true, None, 1_000), None);
        let h = look(&h, Some(Reason::PortSilent), 1_000 + OUTAGE_MS);
        assert_eq!(h.fallback(false, None, 1_000 + OUTAGE_MS), None, "not unless it is allowed");
        assert_eq!(h.fallback(true, None, 1_000 + OUTAGE_MS), Some(true));
        let on = Some(Fallback { since_ms: 1, forced: false });
        let back = look(&h, None, 500_000);
        assert_eq!(back.fallback(true, on, 500_000), None);
        let flap = look(&back, Some(Reason::PortRefused), 510_000);
        let back = look(&flap, None, 520_000);
        assert_eq!(back.fallback(true, on, 520_000 + RETURN_MS - 1), None, "it begins anew after each outage");
        assert_eq!(back.fallback(true, on, 520_000 + RETURN_MS), Some(false));
        let forced = Some(Fallback { since_ms: 1, forced: true });
        assert_eq!(back.fallback(true, forced, i64::MAX), None, "who forced it ends it");
    }

    #[test]
    fn a_lost_secret_lets_nobody_in() {
        for reason in [Reason::MachineAccountGone, Reason::MachineSecretInvalid, Reason::ClockSkew, Reason::WinbinddDown] {
            let h = look(&Health::default(), Some(reason), 1);
            assert_eq!(h.fallback(true, None, 10 * OUTAGE_MS), None, "{reason:?}");
        }
    }

    #[test]
    fn one_repair_is_tried_a_few_times_with_growing_pauses() {
        let mut h = look(&Health::default(), Some(Reason::KeytabMissing), 0);
        let mut tried = Vec::new();
        for now in (0..100 * PAUSE_MS).step_by(10_000) {
            if h.repair(now).is_some() {
                tried.push(now);
                h.tried(now);
            }
            h = look(&h, Some(Reason::KeytabMissing), now);
        }
        assert_eq!(tried, [0, PAUSE_MS, 5 * PAUSE_MS]);
        let well = look(&h, None, 1);
        assert!(look(&well, Some(Reason::KeytabMissing), 2).repair(2).is_some(), "once all was well it counts anew");
        assert!(look(&Health::default(), Some(Reason::MachineAccountGone), 2).repair(2).is_none());
    }
}
