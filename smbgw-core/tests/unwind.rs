// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every plan kind, broken at every place: after a failure the machine is as before, after a death it is as before or complete, never
//! half. Undo and steps are repeated, too. A new operation is covered the day it is in `common::cases`.
//!
//! `SMBGW_ALL=1` tries every combination; otherwise long lists are sampled with fixed seeds (`SMBGW_SEED=n`: with others). `SMBGW_CASE=text`
//! takes the cases with that text in their name.
//!
//! Two things about a container come back a little later than the rest, and are waited for here: what changed in a running one takes effect at its
//! next start, and one that was destroyed is built anew by the worker.
#![allow(clippy::disallowed_methods)]

mod common;

use std::time::Duration;

use common::{Case, cases, lxc_cases, open_marks, outcome, run, sample, scratch_left, sections, type_in, visible, waiting_cases};
use serde_json::{Value, json};
use smbgw_core::effect::{Cmd, Program};
use smbgw_core::error::{Error, Kind};
use smbgw_core::host::sim::{Death, Fault, SECRETS, SimHost, World};
use smbgw_core::host::{Host, Secrets};

/// What a case is compared with.
struct Scene {
    case: Case,
    start: SimHost,
    /// After the operation, without any fault.
    done: SimHost,
    before: World,
    after: World,
    /// Complete as well: with the container started since, so that nothing waits for that any more; or with smbd told since.
    also: Vec<World>,
    /// Complete, but without the password: for somebody who died nobody can say it again. An attempt that is given it must use it.
    unsaid: Option<World>,
    /// Acting calls and journal writes of the whole operation.
    calls: u64,
    writes: u64,
}

fn scenes() -> Vec<Scene> {
    let make = |case: Case| {
        let start = case.machine();
        let done = start.snapshot();
        case.run(&done).unwrap_or_else(|e| panic!("{}: {:#?}", case.name, e.to_doc()));
        let (calls, writes) = (done.calls() - start.calls(), done.journal_writes() - start.journal_writes());
        let unsaid = start.snapshot();
        let unsaid_done = case.password && run(&unsaid, case.op, case.params.clone(), None).is_ok();
        let unsaid = unsaid_done.then(|| outcome(&unsaid));
        let mut also = Vec::new();
        let started = done.snapshot();
        if case.is_lxc() && waits(&started) && run(&started, "gateway.restart", json!({"name": "office"}), None).is_ok() {
            also.push(outcome(&started));
        }
        if case.params["reload"] == "later" {
            // Complete as well: somebody told smbd since.
            let told = done.snapshot();
            let gateway = if case.is_lxc() { "office" } else { "native" };
            run(&told, "gateway.reload", json!({"name": gateway}), None).unwrap_or_else(|e| panic!("tell: {:#?}", e.to_doc()));
            also.push(outcome(&told));
        }
        Scene { before: visible(&start), after: outcome(&done), also, unsaid, case, start, done, calls, writes }
    };
    let chosen = std::env::var("SMBGW_CASE").unwrap_or_default();
    cases().into_iter().chain(lxc_cases()).chain(waiting_cases()).filter(|c| c.name.contains(&chosen)).map(make).collect()
}

impl Scene {
    fn as_before(&self, host: &SimHost) -> Vec<String> {
        let mut now = visible(host);
        if self.case.name == "domain: delete the last" && self.before.winbindd.is_some() && now.winbindd.is_some() {
            // Known: an undone removal starts winbindd before smb.conf is back, and it is told of the domain at its next start only.
            now.winbindd.clone_from(&self.before.winbindd);
        }
        if self.case.op == "gateway.reload" {
            // What smbd has read it has read; it may be told twice.
            let read = |w: &mut World, by: &World| {
                if let (Some(now), Some(before)) = (&mut w.smbd, &by.smbd) {
                    now.config = before.config.clone();
                }
            };
            read(&mut now, &self.before);
            for (vmid, g) in &self.before.guests {
                now.guests.get_mut(vmid).into_iter().for_each(|n| read(&mut n.world, &g.world));
            }
        }
        self.before.differences(&now)
    }

    fn as_after(&self, host: &SimHost) -> Vec<String> {
        let now = outcome(host);
        if self.also.contains(&now) {
            return Vec::new();
        }
        self.after.differences(&now)
    }

    /// Complete, by somebody who may not know the password.
    fn as_completed(&self, host: &SimHost) -> Vec<String> {
        if self.unsaid.as_ref().is_some_and(|w| *w == outcome(host)) {
            return Vec::new();
        }
        self.as_after(host)
    }

    /// As before, or complete where that is allowed, and nothing of ours lying about.
    fn settled(&self, host: &SimHost, complete: bool) -> Result<(), String> {
        nothing(open_marks(host))?;
        let rebuilt = self.heal(host)?;
        // Other numbers in a tree are taken back by a command of their own.
        let complete = complete || self.case.op == "tree.shift";
        let (mut before, after) = (self.as_before(host), self.as_completed(host));
        if rebuilt || (self.case.op == "gateway.upgrade" && host.world().guests.len() == 1) {
            // A container that was lost is built from the newest template.
            let (mut old, mut new) = (self.before.clone(), visible(host));
            [&mut old, &mut new].into_iter().for_each(common::without_template);
            before = old.differences(&new);
        }
        let settled = before.is_empty() || (complete && after.is_empty());
        if !settled && self.parted(host) && after.len() > 1 {
            return self.comes_back(host);
        }
        if !settled {
            let after =
                if complete { format!("\n  or, against the complete one:\n    {}", after.join("\n    ")) } else { String::new() };
            return Err(format!("not as before:\n    {}{after}", before.join("\n    ")));
        }
        nothing(scratch_left(host))?;
        nothing(open_marks(host))
    }

    /// Once more without a fault: a failure must not stand in the way of the next attempt.
    fn works_now(&self, host: &SimHost) -> Result<(), String> {
        release_locks(host);
        self.case.run(host).map_err(|e| format!("the next attempt: {}", story(&e)))?;
        nothing(self.as_after(host)).map_err(|e| format!("after the next attempt: {e}"))?;
        nothing(open_marks(host))
    }
}

/// Whether something waits for the next start of a container.
fn waits(host: &SimHost) -> bool {
    let conf = |n: &String| host.world().files.text(format!("/etc/pve/nodes/pve1/lxc/{n}"));
    common::names(&host.world(), "/etc/pve/nodes/pve1/lxc").iter().any(|n| conf(n).contains("[pve:pending]"))
}

/// A lock that was got in a call that failed goes with its descriptor.
fn release_locks(host: &SimHost) {
    for name in common::names(&host.world(), "/run/smbgw/lock") {
        host.release_lock(format!("/run/smbgw/lock/{name}"));
    }
}

impl Scene {
    /// What takes effect with a container's next start does, and the worker builds what was destroyed.
    fn heal(&self, host: &SimHost) -> Result<bool, String> {
        if !self.case.is_lxc() || self.as_before(host).is_empty() || self.as_after(host).is_empty() {
            return Ok(false);
        }
        release_locks(host);
        if waits(host) && self.start.world().guests.values().any(|g| g.running()) {
            run(host, "gateway.restart", json!({"name": "office"}), None).map_err(|e| format!("restart: {}", story(&e)))?;
        }
        let destroys = matches!(self.case.op, "share.delete" | "gateway.upgrade");
        if self.case.op == "share.repair" && self.start.world().guests.is_empty() {
            // It was lost before: whoever repairs again may finish it.
            return Ok(false);
        }
        if destroys && host.world().guests.is_empty() && !self.start.world().guests.is_empty() {
            let done = run(host, "reconcile", json!({"sections": sections(&self.start)}), None);
            done.map_err(|e| format!("the worker: {}", story(&e)))?;
            return Ok(true);
        }
        Ok(false)
    }
}

impl Scene {
    /// The password of the computer account is gone for good, by an operation that ends a membership: no undo brings that back.
    fn parted(&self, host: &SimHost) -> bool {
        let ends = self.case.name.contains("domain") && matches!(self.case.op, "ad.leave" | "share.delete");
        let joined = |h: &SimHost| {
            let w = h.world();
            let all = std::iter::once(&w).chain(w.guests.values().map(|g| &*g.world));
            all.map(|w| w.files.text(SECRETS)).any(|t| t.contains("\nmember "))
        };
        ends && joined(&self.start) && !joined(host)
    }

    /// Known: whoever died had the password of the account that joined, and without it nobody can delete a computer account. The operation
    /// stays stuck and says what is left to be done by hand.
    fn beyond_reach(&self, host: &SimHost) -> bool {
        let computers = |h: &SimHost| h.world().domain.map(|d| d.computers()).unwrap_or_default();
        self.joins() && computers(host) != computers(&self.start)
    }

    /// It needs an account of a domain.
    fn joins(&self) -> bool {
        self.case.name.contains("domain") && matches!(self.case.op, "share.create" | "ad.join")
    }

    /// Such a gateway becomes a member again when it is told to, as if nothing had been.
    fn comes_back(&self, host: &SimHost) -> Result<(), String> {
        if self.case.is_lxc() && host.world().guests.is_empty() {
            // That the worker builds it anew, and that it can join then, is tested in directory.rs.
            return Ok(());
        }
        release_locks(host);
        let params = json!({"gateway": if self.case.is_lxc() { "office" } else { "native" }, "username": "joiner"});
        run(host, "ad.join", params, Some(common::PASSWORD)).map_err(|e| format!("joining again: {}", story(&e)))?;
        let (before, mut now) = (outcome(&self.start), outcome(host));
        // The account that a removal left in the domain was there before this join.
        let record = if self.case.is_lxc() { common::OFFICE } else { common::RECORD };
        let text = now.files.text(record);
        if self.case.op == "share.delete" {
            now.files.put(record, text.replace("\"account-before\": true", "\"account-before\": false"), 0o600, 0, 0);
        }
        nothing(before.differences(&now)).map_err(|e| format!("joined again: {e}"))?;
        nothing(open_marks(host))
    }
}

fn nothing(found: Vec<String>) -> Result<(), String> {
    if found.is_empty() { Ok(()) } else { Err(found.join("\n    ")) }
}

fn story(e: &Error) -> String {
    let doc = e.to_doc();
    format!("{:?}: {} {:?} {:?}", doc.kind, doc.message, doc.remedy, doc.story.undone)
}

/// What went wrong in a loop over many places: all of it is told, not the first only.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn note(&mut self, scene: &Scene, what: &str, result: Result<(), String>) {
        if let Err(why) = result {
            self.0.push(format!("{}: {what}: {why}", scene.case.name));
        }
    }
}

impl Drop for Wrong {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let some: Vec<&str> = self.0.iter().take(12).map(String::as_str).collect();
            assert!(self.0.is_empty(), "{} went wrong, among them:\n{}", self.0.len(), some.join("\n"));
        }
    }
}

fn every_call(fault: Fault) {
    let mut wrong = Wrong::default();
    for (seed, scene) in scenes().iter().enumerate() {
        let again = sample(scene.calls, 6, seed as u64);
        // Failing without having acted is tried everywhere, the rest where there is time for it; around a container every call costs more.
        let places = match (fault, scene.case.is_lxc()) {
            (Fault::Fails, false) => (1..=scene.calls).collect(),
            (Fault::Fails, true) => sample(scene.calls, 50, seed as u64),
            (_, false) => sample(scene.calls, 30, seed as u64),
            (_, true) => sample(scene.calls, 20, seed as u64),
        };
        for n in places {
            let host = scene.start.snapshot();
            host.arm_call(n, fault);
            let result = scene.case.run(&host);
            let what = format!(
                "{fault:?} at call {n} of {} (last command: {})",
                scene.calls,
                host.commands().last().cloned().unwrap_or_default()
            );
            assert_eq!(host.armed(), 0, "{}: {what}: never came", scene.case.name);
            let judged = match result {
                // What only shows the state may fail without harm.
                Ok(_) => nothing(scene.as_after(&host)).map_err(|e| format!("said to be done: {e}")),
                Err(e) if e.kind() == Kind::Stuck => Err(format!("stuck by one failure alone: {}", story(&e))),
                Err(e) => scene.settled(&host, false).map_err(|w| format!("{w}\n  after {}", story(&e))),
            };
            let judged = if again.contains(&n) && scene.as_before(&host).is_empty() {
                judged.and_then(|()| scene.works_now(&host))
            } else {
                judged
            };
            wrong.note(scene, &what, judged);
        }
    }
}

#[test]
fn a_failing_call_leaves_the_machine_as_before() {
    every_call(Fault::Fails);
}

#[test]
fn a_call_that_works_and_fails_leaves_the_machine_as_before() {
    every_call(Fault::FailsAfter);
}

/// The call at which a failure makes for the longest undo, and how many calls and journal writes there are then.
fn long_undo(scene: &Scene, n: u64) -> Option<(SimHost, u64, u64)> {
    let host = scene.start.snapshot();
    host.fail_call(n);
    let (calls, writes) = (host.calls(), host.journal_writes());
    scene.case.run(&host).err()?;
    let all = (host.calls() - calls, host.journal_writes() - writes);
    Some((host, all.0, all.1))
}

/// Failures from which there is much to undo: the last ones, and some in between.
fn failures(scene: &Scene, seed: u64) -> Vec<(u64, u64, u64)> {
    let last = (1..=scene.calls).rev().find(|n| long_undo(scene, *n).is_some()).expect("something can fail");
    let mut all = sample(last, 3, seed);
    all.retain(|n| *n > 3);
    all.into_iter().filter_map(|n| long_undo(scene, n).map(|(_, calls, writes)| (n, calls, writes))).collect()
}

fn repair(host: &SimHost, case: &Case) -> Result<(), String> {
    run(host, "share.repair", case.to_repair(), None).map_err(|e| format!("repair: {}", story(&e)))?;
    if case.is_lxc() && !open_marks(host).is_empty() {
        // What is left of a gateway that is no more, or is about no gateway, is tidied up by the worker.
        run(host, "reconcile", json!({"sections": {}}), None).map_err(|e| format!("the worker: {}", story(&e)))?;
    }
    Ok(())
}

#[test]
fn a_failing_undo_is_stuck_and_repair_finishes_it() {
    let (mut stuck, mut wrong) = (0, Wrong::default());
    for (seed, scene) in scenes().iter().enumerate() {
        for (n, calls, _) in failures(scene, seed as u64) {
            for m in sample(calls - n, 5, seed as u64 + n) {
                let host = scene.start.snapshot();
                host.fail_call(n);
                host.fail_call(n + m);
                let what = format!("calls {n} and {} fail", n + m);
                let e = scene.case.run(&host).expect_err("it cannot succeed");
                let mut judged = Ok(());
                if e.kind() == Kind::Stuck {
                    stuck += 1;
                    if scene.case.op != "share.repair" {
                        judged = judged.and(stays_stuck(scene, &host, &e));
                    }
                }
                // Scratch files that could not be removed go with whatever is done next.
                let left = !open_marks(&host).is_empty() || !scratch_left(&host).is_empty();
                if left || !scene.as_before(&host).is_empty() {
                    let repaired = repair(&host, &scene.case);
                    if scene.beyond_reach(&host) {
                        continue;
                    }
                    judged = judged.and(repaired);
                }
                // Where not even the failure could be written down, a repair finds an operation that was interrupted.
                // And a repair has smbd told of everything by itself.
                let repairs = matches!(scene.case.op, "share.repair" | "gateway.reload");
                let forward = (e.kind() != Kind::Stuck && is_forward(scene)) || repairs;
                // A reload that failed is only noted: smbd looks at its files by itself before the next client.
                let reload = Cmd::new(Program::Smbcontrol, ["all", "reload-config"]);
                let _ = (&host as &dyn Host).run(&reload, &Secrets::default());
                host.reload_guests();
                let judged = judged.and_then(|()| scene.settled(&host, forward));
                wrong.note(scene, &what, judged.map_err(|w| format!("{w}\n  after {}", story(&e))));
            }
        }
    }
    assert!(stuck > 10, "hardly an undo failed: {stuck}");
}

fn stays_stuck(scene: &Scene, host: &SimHost, e: &Error) -> Result<(), String> {
    if !e.remedy_text().is_some_and(|r| r.contains("pve-smbgateway repair")) {
        return Err("no remedy is named".into());
    }
    let world = host.world();
    let untouched = || nothing(world.without(&["/run/smbgw"]).differences(&host.world().without(&["/run/smbgw"])));
    match scene.case.run(host) {
        Err(refused) if refused.kind() == Kind::Stuck => untouched(),
        // The record does not say any more that there is something to tell, so there is nothing to refuse.
        Ok(done) if done["reloaded"] == false => untouched(),
        other => Err(format!("not refused: {other:?}")),
    }
}

#[test]
fn death_during_undo_at_each_journal_write() {
    let mut wrong = Wrong::default();
    for (seed, scene) in scenes().iter().enumerate() {
        for (n, _, writes) in failures(scene, seed as u64 + 7) {
            for w in sample(writes, 4, seed as u64 + n) {
                for fault in [Fault::Dies(Death::Kill), Fault::DiesAfter(Death::PowerCut)] {
                    let host = scene.start.snapshot();
                    host.fail_call(n);
                    host.arm_append(w, fault);
                    let _ = scene.case.run(&host);
                    let complete = host.armed() > 0;
                    let winbindd = host.world().winbindd.is_some();
                    host.reboot();
                    power_on(&host, scene, winbindd);
                    let repaired = repair(&host, &scene.case);
                    if scene.beyond_reach(&host) {
                        continue;
                    }
                    let judged = repaired.and_then(|()| scene.settled(&host, complete || is_forward(scene)));
                    wrong.note(scene, &format!("call {n} fails, {fault:?} at journal write {w} of {writes}"), judged);
                }
            }
        }
    }
}

/// An operation that a repair finishes rather than takes back, if it died on its way forward.
fn is_forward(scene: &Scene) -> bool {
    scene.case.op != "share.create" && !scene.case.op.starts_with("user.")
}

/// Without systemd nobody starts smbd at boot; where it ran before, the administrator does.
fn power_on(host: &SimHost, scene: &Scene, winbindd: bool) {
    if scene.start.world().smbd.is_some() && host.world().smbd.is_none() {
        host.start_smbd();
    }
    if winbindd && host.world().winbindd.is_none() {
        host.start_winbindd();
    }
    // Containers of ours do not start at boot; here the administrator, who knows which was stopped on purpose, is faster than the worker.
    let record: Value = serde_json::from_str(&host.world().files.text(common::OFFICE)).unwrap_or_default();
    if record["stopped"] == true {
        return;
    }
    for (vmid, _) in scene.start.world().guests.iter().filter(|(_, g)| g.running()) {
        if host.world().guests.get(vmid).is_some_and(|g| !g.running()) {
            let _ = type_in(host, Program::Pct, &["start", &vmid.to_string()]);
        }
    }
}

/// The ways in which a node comes back to its senses.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Recovery {
    /// The worker, and the section was committed.
    Committed,
    /// The worker, and storage.cfg is as it was.
    NotCommitted,
    /// Somebody does something else.
    NextCall,
    /// `repair`.
    Repair,
}

fn recover(scene: &Scene, host: &SimHost, how: Recovery) -> Result<(), String> {
    let done = |r: Result<Value, Error>| r.map(drop).map_err(|e| format!("{how:?}: {}", story(&e)));
    let password = None;
    match how {
        Recovery::Committed => {
            for _ in 0..2 {
                done(run(host, "reconcile", json!({"sections": sections(&scene.done)}), password))?;
            }
        }
        Recovery::NotCommitted => {
            for _ in 0..3 {
                done(run(host, "reconcile", json!({"sections": sections(&scene.start)}), None))?;
                host.pass(Duration::from_secs(200));
            }
        }
        Recovery::NextCall => {
            // A gateway that was not recorded yet has nothing but its own creation.
            if scene.case.is_lxc() && host.world().files.get(common::OFFICE).is_none() || scene.case.is_of_node() {
                return repair(host, &scene.case);
            }
            let first = run(host, "group.create", json!({"name": "passing"}), None);
            // What there was of the gateway was taken back, or it has no container that runs now; then the worker comes by.
            let refused = |kind| first.as_ref().is_err_and(|e| e.kind() == kind) && scene.case.is_lxc();
            if refused(Kind::NotFound) && scene.case.op == "share.create" {
                return Ok(());
            }
            if refused(Kind::Service) {
                return done(run(host, "reconcile", json!({"sections": sections(host)}), None));
            }
            done(first)?;
            done(run(host, "group.remove", json!({"name": "passing"}), None))?;
        }
        Recovery::Repair => repair(host, &scene.case)?,
    }
    Ok(())
}

fn every_journal_write(fault: impl Fn(Death) -> Fault, how: &[Recovery]) {
    let mut wrong = Wrong::default();
    for (seed, scene) in scenes().iter().enumerate() {
        for w in sample(scene.writes, if scene.case.is_lxc() { 4 } else { 6 }, seed as u64) {
            for death in [Death::Kill, Death::PowerCut] {
                let start = scene.start.snapshot();
                start.arm_append(w, fault(death));
                let _ = scene.case.run(&start);
                assert!(start.is_dead(), "{}: write {w}", scene.case.name);
                let winbindd = start.world().winbindd.is_some();
                start.reboot();
                power_on(&start, scene, winbindd);
                for how in how {
                    // A removal that is finished although the section stayed is followed by a new create: another story. What a section
                    // once said about a container stays when it is silent again.
                    let another = scene.case.op == "share.delete" || scene.case.name == "lxc: change memory";
                    if *how == Recovery::NotCommitted && another {
                        continue;
                    }
                    let host = start.snapshot();
                    let what = format!("{:?} at journal write {w} of {}, {how:?}", fault(death), scene.writes);
                    let mut judged = recover(scene, &host, *how);
                    if scene.beyond_reach(&host) && !scene.as_after(&host).is_empty() {
                        continue;
                    }
                    // Numbers are never taken back; a gateway without anything else is as good as none.
                    common::forget_empty_record(&scene.start, &host);
                    judged = judged.and_then(|()| scene.settled(&host, true));
                    let case = &scene.case;
                    judged = judged.and_then(|()| match how {
                        Recovery::Committed if matches!(case.op, "share.create" | "share.update") && !scene.joins() => {
                            nothing(scene.as_completed(&host)).map_err(|e| format!("committed, not complete: {e}"))
                        }
                        Recovery::NotCommitted if case.op == "share.create" => {
                            nothing(scene.as_before(&host)).map_err(|e| format!("never committed: {e}"))
                        }
                        _ => Ok(()),
                    });
                    wrong.note(scene, &what, judged);
                }
            }
        }
    }
}

#[test]
fn death_before_each_journal_write_is_recovered_by_the_worker() {
    every_journal_write(Fault::Dies, &[Recovery::Committed, Recovery::NotCommitted]);
}

#[test]
fn death_after_each_journal_write_is_recovered_by_the_worker() {
    every_journal_write(Fault::DiesAfter, &[Recovery::Committed, Recovery::NotCommitted]);
}

#[test]
fn death_at_each_journal_write_is_recovered_by_the_next_call() {
    every_journal_write(Fault::Dies, &[Recovery::NextCall, Recovery::Repair]);
}

#[test]
fn torn_journal_writes_are_recovered() {
    every_journal_write(|death| Fault::DiesTorn(death, 25), &[Recovery::Committed, Recovery::Repair]);
}
