// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every plan kind, broken at every place: after a failure the machine is as before, after a death it is as before or complete, never
//! half. Undo and steps are repeated, too. A new operation is covered the day it is in `common::cases`.
//!
//! `SMBGW_ALL=1` tries every combination; otherwise long lists are sampled with fixed seeds.
#![allow(clippy::disallowed_methods)]

mod common;

use std::time::Duration;

use common::{Case, PASSWORD, cases, open_marks, outcome, run, sample, scratch_left, sections, visible};
use serde_json::{Value, json};
use smbgw_core::error::Kind;
use smbgw_core::host::sim::{Death, Fault, SimHost, World};

/// What a case is compared with.
struct Scene {
    case: Case,
    start: SimHost,
    /// After the operation, without any fault.
    done: SimHost,
    before: World,
    after: World,
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
        Scene { before: visible(&start), after: outcome(&done), case, start, done, calls, writes }
    };
    cases().into_iter().map(make).collect()
}

impl Scene {
    fn as_before(&self, host: &SimHost) -> Vec<String> {
        self.before.differences(&visible(host))
    }

    fn as_after(&self, host: &SimHost) -> Vec<String> {
        self.after.differences(&outcome(host))
    }

    /// Fails unless the machine is as before, or complete where that is allowed.
    fn settled(&self, host: &SimHost, complete: bool, what: &str) {
        let before = self.as_before(host);
        let after = self.as_after(host);
        if !before.is_empty() && !(complete && after.is_empty()) {
            let after = if complete { format!("\nor, against the complete one:\n  {}", after.join("\n  ")) } else { String::new() };
            panic!("{}: {what}: not as before:\n  {}{after}", self.case.name, before.join("\n  "));
        }
        let left = scratch_left(host);
        assert!(left.is_empty(), "{}: {what}: left behind: {left:?}", self.case.name);
    }

    /// Once more without a fault: a failure must not stand in the way of the next attempt.
    fn works_now(&self, host: &SimHost, what: &str) {
        self.case.run(host).unwrap_or_else(|e| panic!("{}: {what}: the next attempt: {:#?}", self.case.name, e.to_doc()));
        let wrong = self.as_after(host);
        assert!(wrong.is_empty(), "{}: {what}: after the next attempt:\n  {}", self.case.name, wrong.join("\n  "));
        assert_eq!(open_marks(host), Vec::<String>::new(), "{}: {what}", self.case.name);
    }
}

fn every_call(fault: Fault) {
    for (seed, scene) in scenes().iter().enumerate() {
        let again = sample(scene.calls, 6, seed as u64);
        for n in 1..=scene.calls {
            let host = scene.start.snapshot();
            host.arm_call(n, fault);
            let result = scene.case.run(&host);
            let what = format!("{fault:?} at call {n} of {}: {}", scene.calls, host.commands().last().cloned().unwrap_or_default());
            assert_eq!(host.armed(), 0, "{}: {what}: never came", scene.case.name);
            match result {
                // What only shows the state may fail without harm.
                Ok(_) => {
                    let wrong = scene.as_after(&host);
                    assert!(wrong.is_empty(), "{}: {what}: said to be done:\n  {}", scene.case.name, wrong.join("\n  "));
                }
                Err(e) => {
                    assert_ne!(e.kind(), Kind::Stuck, "{}: {what}: one failure alone: {:#?}", scene.case.name, e.to_doc());
                    scene.settled(&host, false, &what);
                    if again.contains(&n) {
                        scene.works_now(&host, &what);
                    }
                }
            }
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

fn repair(host: &SimHost, scene: &Scene, what: &str) {
    run(host, "share.repair", json!({}), None).unwrap_or_else(|e| panic!("{}: {what}: repair: {:#?}", scene.case.name, e.to_doc()));
}

#[test]
fn a_failing_undo_is_stuck_and_repair_finishes_it() {
    let mut stuck = 0;
    for (seed, scene) in scenes().iter().enumerate() {
        for (n, calls, _) in failures(scene, seed as u64) {
            for m in sample(calls - n, 12, seed as u64 + n) {
                let host = scene.start.snapshot();
                host.fail_call(n);
                host.fail_call(n + m);
                let what = format!("calls {n} and {} fail", n + m);
                let e = scene.case.run(&host).expect_err("it cannot succeed");
                if e.kind() == Kind::Stuck {
                    stuck += 1;
                    assert!(e.remedy_text().is_some_and(|r| r.contains("pve-smbgateway repair")), "{}: {what}: {:#?}", scene.case.name, e.to_doc());
                    let refused = scene.case.run(&host).expect_err("stuck");
                    assert_eq!(refused.kind(), Kind::Stuck, "{}: {what}: {:#?}", scene.case.name, refused.to_doc());
                }
                if !scene.as_before(&host).is_empty() || !open_marks(&host).is_empty() {
                    repair(&host, scene, &what);
                }
                scene.settled(&host, false, &what);
                assert_eq!(open_marks(&host), Vec::<String>::new(), "{}: {what}", scene.case.name);
            }
        }
    }
    assert!(stuck > 20, "hardly an undo failed: {stuck}");
}

#[test]
fn death_during_undo_at_each_journal_write() {
    for (seed, scene) in scenes().iter().enumerate() {
        for (n, _, writes) in failures(scene, seed as u64 + 7) {
            for w in sample(writes, 14, seed as u64 + n) {
                for fault in [Fault::Dies(Death::Kill), Fault::DiesAfter(Death::PowerCut)] {
                    let host = scene.start.snapshot();
                    host.fail_call(n);
                    host.arm_append(w, fault);
                    let _ = scene.case.run(&host);
                    let what = format!("call {n} fails, {fault:?} at journal write {w}");
                    host.reboot();
                    power_on(&host, scene);
                    // The next thing that anybody does finds the open operation.
                    repair(&host, scene, &what);
                    scene.settled(&host, w < n, &what);
                    assert_eq!(open_marks(&host), Vec::<String>::new(), "{}: {what}", scene.case.name);
                }
            }
        }
    }
}

/// Without systemd nobody starts smbd at boot; where it ran before, the administrator does.
fn power_on(host: &SimHost, scene: &Scene) {
    if scene.start.world().smbd.is_some() && host.world().smbd.is_none() {
        host.start_smbd();
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

fn recover(scene: &Scene, host: &SimHost, how: Recovery, what: &str) {
    let done = |r: Result<Value, smbgw_core::error::Error>| {
        r.unwrap_or_else(|e| panic!("{}: {what}: {how:?}: {:#?}", scene.case.name, e.to_doc()));
    };
    let password = Some(PASSWORD);
    match how {
        Recovery::Committed => {
            for _ in 0..2 {
                done(run(host, "reconcile", json!({"sections": sections(&scene.done)}), password));
            }
        }
        Recovery::NotCommitted => {
            for _ in 0..3 {
                done(run(host, "reconcile", json!({"sections": sections(&scene.start)}), None));
                host.pass(Duration::from_secs(200));
            }
        }
        Recovery::NextCall => {
            done(run(host, "group.create", json!({"name": "passing"}), None));
            done(run(host, "group.remove", json!({"name": "passing"}), None));
        }
        Recovery::Repair => done(run(host, "share.repair", json!({}), None)),
    }
}

fn every_journal_write(fault: impl Fn(Death) -> Fault, how: &[Recovery]) {
    for (seed, scene) in scenes().iter().enumerate() {
        for w in sample(scene.writes, 24, seed as u64) {
            for death in [Death::Kill, Death::PowerCut] {
                let start = scene.start.snapshot();
                start.arm_append(w, fault(death));
                let _ = scene.case.run(&start);
                assert!(start.is_dead(), "{}: write {w}", scene.case.name);
                start.reboot();
                power_on(&start, scene);
                for how in how {
                    let host = start.snapshot();
                    let what = format!("{:?} at journal write {w} of {}, {how:?}", fault(death), scene.writes);
                    recover(scene, &host, *how, &what);
                    // A record that a passing call made on an empty machine is not the case's doing.
                    if *how == Recovery::NextCall && !scene.before.files.text(common::RECORD).contains("uuid") && host.world().files.text(OWN).is_empty() {
                        common::forget_record(&host);
                    }
                    scene.settled(&host, true, &what);
                    assert_eq!(open_marks(&host), Vec::<String>::new(), "{}: {what}", scene.case.name);
                    match how {
                        Recovery::Committed if scene.case.op.starts_with("share.") && scene.case.op != "share.delete" => {
                            let wrong = scene.as_after(&host);
                            assert!(wrong.is_empty(), "{}: {what}: committed, not complete:\n  {}", scene.case.name, wrong.join("\n  "));
                        }
                        Recovery::NotCommitted if scene.case.op == "share.create" => {
                            let wrong = scene.as_before(&host);
                            assert!(wrong.is_empty(), "{}: {what}: never committed:\n  {}", scene.case.name, wrong.join("\n  "));
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

const OWN: &str = common::OWN_CONF;

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
