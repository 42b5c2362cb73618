// SPDX-License-Identifier: MIT OR Apache-2.0
//! The worker's care for a gateway's membership of a domain: it asks, remembers what it found, repairs what it may, lets local users in and
//! out. It knows when each is due from [`crate::directory::health`]; it must not know how any of it is done.

use serde_json::json;

use super::one::{One, Todo};
use crate::directory::health::Health;
use crate::directory::{Asking, Notes, prove};
use crate::error::Result;
use crate::observe;
use crate::spec::record::{Member, Record};

/// A look that is going on.
pub(super) struct Care {
    asking: Asking,
    place: crate::effect::Place,
    thorough: bool,
    /// The membership that is looked at.
    member: Member,
}

impl One {
    /// Begins to look, where there is a membership to look at.
    pub(super) fn begin_care(&mut self) -> Result<()> {
        let c = self.context.clone();
        let facts = observe::quick(&self.machines, &c.node, &self.paths)?;
        let Some(r) = facts.record.as_ref().filter(|r| r.node == c.node) else { return Ok(()) };
        let Some(member) = r.member.as_ref().filter(|m| m.is_joined()) else {
            return c.forget_health(&self.paths.gateway);
        };
        // A container that does not run is told of elsewhere.
        if !facts.reachable {
            return Ok(());
        }
        // What can be seen without asking anybody is seen at once.
        let keytab = self.machines.at(facts.place).exists(std::path::Path::new(crate::plan::samba::KEYTAB))?;
        let thorough = !keytab || c.membership_health(&self.paths.gateway).wants_all(c.host.now_ms());
        self.care = Some(self.look(r, member, facts.place, thorough));
        // Domain controllers that do not answer take their time. Nothing is changed meanwhile, nobody kept waiting, and no snapshot grows old.
        self.refresh();
        self.drift = None;
        self.let_go();
        Ok(())
    }

    fn look(&self, r: &Record, member: &Member, place: crate::effect::Place, thorough: bool) -> Care {
        let inquiry = if thorough {
            let outage = self.context.membership_health(&self.paths.gateway).is_outage();
            prove::whole(&self.paths, member, &r.accounts, outage)
        } else {
            prove::quick(&self.paths)
        };
        Care { asking: Asking::new(inquiry), place, thorough, member: member.clone() }
    }

    /// Goes on for at most about a second.
    pub(super) fn go_on_caring(&mut self) -> Result<()> {
        let Some(mut care) = self.care.take() else { return Ok(()) };
        let host = self.machines.at(care.place);
        let asked = care.asking.poll(&*host, &crate::host::Secrets::default());
        if let Ok(None) = asked {
            self.care = Some(care);
            return Ok(());
        }
        if !self.take_back()? {
            // Somebody changes it now: what was seen is of yesterday, and the rest is theirs.
            self.tasks.clear();
            return Ok(());
        }
        let c = self.context.clone();
        let facts = observe::quick(&self.machines, &c.node, &self.paths)?;
        let Some(r) = facts.record.as_ref().filter(|r| facts.place == care.place && r.member.as_ref() == Some(&care.member))
        else {
            return Ok(());
        };
        let Some(notes) = asked? else { return Ok(()) };
        if notes.trouble().is_some() && !care.thorough {
            // The cheap look only says that something is wrong.
            self.care = Some(self.look(r, &care.member, care.place, true));
            self.let_go();
            return Ok(());
        }
        self.learnt(r, &notes, care.thorough)
    }

    fn learnt(&mut self, r: &Record, notes: &Notes, thorough: bool) -> Result<()> {
        let c = self.context.clone();
        let (gateway, now) = (self.paths.gateway.clone(), c.host.now_ms());
        let before = c.membership_health(&gateway);
        let remarks = notes.findings.iter().filter(|f| f.harmless && f.reason.is_some()).map(|f| f.saw.clone()).collect();
        let mut health = before.after(notes.trouble(), remarks, thorough, now);
        tell(&gateway.to_string(), &before, &health);
        let Some(m) = r.member.as_ref() else { return Ok(()) };
        if let Some(on) = health.fallback(!r.fallback_users().is_empty(), m.fallback, now) {
            let params = json!({"gateway": gateway, "on": on, "worker": true});
            self.tasks.push_front(Todo::Begin { op: "ad.fallback".into(), params });
        }
        if let Some(repair) = health.repair(now) {
            // Whether it helped is seen by the next look; that it was tried is known now, even if we die over it.
            health.tried(now);
            let params = json!({"gateway": gateway, "what": repair.as_str()});
            self.tasks.push_front(Todo::Begin { op: "ad.repair".into(), params });
        }
        c.keep_health(&gateway, &health)
    }
}

/// Says in the log when a trouble begins and when it is over.
fn tell(gateway: &str, before: &Health, now: &Health) {
    if before.reason == now.reason {
        return;
    }
    match (now.trouble(), &now.reason) {
        (Some(reason), Some(code)) => {
            tracing::warn!(gateway, reason = %code, evidence = %now.evidence, "{}; {}", reason.means(), reason.remedy());
        }
        _ => tracing::warn!(gateway, "the membership of the domain is good again"),
    }
}
