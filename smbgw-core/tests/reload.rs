// SPDX-License-Identifier: MIT OR Apache-2.0
//! Several shares, one reload: a share that only comes in addition is served to whoever connects, and sessions that are open are told of all such
//! shares together; what takes something away never waits. Shown on the simulated machine, as behaviour.
#![allow(clippy::disallowed_methods)]

mod common;

use std::time::Duration;

use common::{PASSWORD, RECORD, context, furnished, furnished_lxc, lxc, machine, proxmox, reconcile, run, section, sections};
use serde_json::{Value, json};
use smbgw_core::error::Error;
use smbgw_core::host::sim::SimHost;

/// How often smbd was told to read its configuration.
fn reloads(host: &SimHost) -> usize {
    host.commands().iter().filter(|c| c.contains("smbcontrol all reload-config")).count()
}

fn due(host: &SimHost) -> bool {
    let record: Value = serde_json::from_str(&host.world().files.text(RECORD)).expect("a record");
    record.get("reload-due").is_some()
}

/// Whether sessions that are open know of a share.
fn known(host: &SimHost, share: &str) -> bool {
    host.world().smbd.is_some_and(|s| s.config.share(share).is_some())
}

fn later(host: &SimHost, op: &str, id: &str, more: &[(&str, &str)]) -> Result<Value, Error> {
    run(host, op, json!({"id": id, "section": section(&format!("/srv/{id}"), more), "reload": "later"}), None)
}

const ANNA: (&str, &str) = ("smbgw-access", "rw:anna");

/// Two shares of which smbd was not told, on a gateway whose other sections the storage configuration has.
fn untold() -> (SimHost, usize) {
    let host = machine();
    furnished(&host);
    reconcile(&host, &sections(&host)).expect("noted");
    let before = reloads(&host);
    for id in ["lab", "third"] {
        later(&host, "share.create", id, &[ANNA]).unwrap_or_else(|e| panic!("{id}: {:#?}", e.to_doc()));
    }
    reconcile(&host, &sections(&host)).expect("noted");
    (host, before)
}

#[test]
fn shares_that_are_added_wait_for_one_reload() {
    let (host, before) = untold();
    assert_eq!(reloads(&host), before, "not even the worker tells, while more may come");
    for id in ["lab", "third"] {
        assert!(host.connect("anna", PASSWORD, id).is_ok(), "{id}: who connects now is served");
        assert!(!known(&host, id), "{id}: who was there before does not know it");
    }
    assert!(due(&host));
    let doctor = context(&host).query("doctor", &json!({})).expect("looked").to_string();
    assert!(!doctor.contains("repair-due"), "nothing drifted: {doctor}");
    let said = run(&host, "gateway.reload", json!({"name": "native"}), None).expect("told");
    assert_eq!(said["reloaded"], true);
    assert_eq!(reloads(&host), before + 1);
    assert!(known(&host, "lab") && known(&host, "third") && !due(&host));
    let audit =
        |host: &SimHost| context(host).query("audit", &json!({})).expect("audit")["entries"].as_array().map_or(0, Vec::len);
    let entries = audit(&host);
    let said = run(&host, "gateway.reload", json!({"name": "native"}), None).expect("told");
    assert_eq!(said["reloaded"], false, "there is nothing left to tell");
    assert_eq!((reloads(&host), audit(&host)), (before + 1, entries));
}

#[test]
fn who_died_before_the_reload_is_made_up_for_by_the_worker() {
    let (host, before) = untold();
    let all = sections(&host);
    let turn = |host: &SimHost| run(host, "reconcile", json!({"gateway": "native", "sections": all}), None).expect("reconciled");
    assert_eq!(turn(&host).get("mark"), None, "it waits for somebody, so it is not at rest");
    assert_eq!(reloads(&host), before);
    host.pass(Duration::from_secs(31));
    assert_eq!(turn(&host)["shares"][0]["reloaded"], true);
    assert_eq!(reloads(&host), before + 1);
    assert!(known(&host, "lab") && known(&host, "third") && !due(&host));
    assert!(turn(&host)["mark"].is_string(), "then it is at rest");
    assert_eq!(reloads(&host), before + 1);
}

#[test]
fn a_repair_tells_at_once() {
    let (host, before) = untold();
    run(&host, "share.repair", json!({}), None).expect("repaired");
    assert_eq!(reloads(&host), before + 1);
    assert!(known(&host, "lab") && !due(&host));
}

#[test]
fn what_takes_something_away_is_in_effect_at_once_and_brings_the_rest_along() {
    for (what, change) in [
        ("access", &[("smbgw-access", "ro:anna")][..]),
        ("name", &[ANNA, ("share", "Labor")]),
        ("disabled", &[ANNA, ("disable", "1")]),
    ] {
        let (host, before) = untold();
        let session = host.connect("anna", PASSWORD, "lab").expect("a session");
        later(&host, "share.update", "lab", change).unwrap_or_else(|e| panic!("{what}: {:#?}", e.to_doc()));
        assert_eq!(reloads(&host), before + 1, "{what}");
        assert!(known(&host, "third") && !due(&host), "{what}");
        let smbd = host.world().smbd.expect("it runs");
        let open = smbd.sessions.iter().any(|s| s.pid == session && !s.shares.is_empty());
        assert!(!open, "{what}: the session goes on");
    }
    let (host, before) = untold();
    run(&host, "share.delete", json!({"id": "lab"}), None).expect("removed");
    assert_eq!(reloads(&host), before + 1);
    assert!(!known(&host, "lab") && known(&host, "third") && !due(&host));
}

#[test]
fn what_changes_nothing_for_anybody_tells_nobody() {
    let (host, before) = untold();
    later(&host, "share.update", "lab", &[ANNA, ("disable", "1")]).expect("disabled");
    assert_eq!(reloads(&host), before + 1);
    later(&host, "share.update", "lab", &[ANNA]).expect("enabled: it comes in addition");
    assert_eq!(reloads(&host), before + 1);
    assert!(due(&host) && host.connect("anna", PASSWORD, "lab").is_ok());
}

#[test]
fn more_people_in_a_share_can_wait_and_fewer_cannot() {
    for (from, to, waits) in [
        ("rw:anna", "rw:anna,rw:ben", true),
        ("rw:anna", "rw:anna,ro:ben", true),
        ("rw:anna,ro:ben", "rw:anna,rw:ben", true),
        ("rw:anna", "rw:anna,rw:@staff", true),
        ("rw:anna,rw:ben", "rw:anna,ro:ben", false),
        ("rw:anna,ro:ben", "rw:anna", false),
        ("rw:anna", "rw:ben", false),
        ("rw:anna", "full:anna", false),
    ] {
        let host = machine();
        furnished(&host);
        later(&host, "share.create", "lab", &[("smbgw-access", from)]).expect("lab");
        run(&host, "gateway.reload", json!({"name": "native"}), None).expect("told");
        let before = reloads(&host);
        later(&host, "share.update", "lab", &[("smbgw-access", to)]).unwrap_or_else(|e| panic!("{to}: {:#?}", e.to_doc()));
        assert_eq!((reloads(&host) == before, due(&host)), (waits, waits), "{from} to {to}");
    }
}

#[test]
fn accounts_that_shares_wait_for_can_wait_too() {
    let host = machine();
    furnished(&host);
    let access = ("smbgw-access", "rw:anna,rw:carl,ro:@guests");
    later(&host, "share.create", "lab", &[access]).expect("lab");
    let before = reloads(&host);
    run(&host, "user.create", json!({"name": "carl", "reload": "later"}), Some(PASSWORD)).expect("carl");
    run(&host, "group.create", json!({"name": "guests", "reload": "later"}), None).expect("guests");
    assert_eq!(reloads(&host), before);
    assert!(due(&host) && host.connect("carl", PASSWORD, "lab").is_ok());
    run(&host, "gateway.reload", json!({"name": "native"}), None).expect("told");
    assert_eq!(reloads(&host), before + 1);
}

#[test]
fn the_first_share_is_told_at_once() {
    let host = machine();
    let params = json!({"id": "office", "section": section("/srv/office", &[("username", "anna")]), "reload": "later"});
    run(&host, "share.create", params, Some(PASSWORD)).expect("created");
    assert!(known(&host, "office") && !due(&host), "our settings must be in effect for whoever is connected");

    let host = machine();
    host.change(|w| w.smbd = None);
    let params = json!({"id": "office", "section": section("/srv/office", &[("username", "anna")]), "reload": "later"});
    run(&host, "share.create", params, Some(PASSWORD)).expect("created");
    assert!(known(&host, "office") && !due(&host), "smbd was started with it");
    assert_eq!(reloads(&host), 0);
}

#[test]
fn one_that_fails_is_taken_back_alone() {
    let (calls, writes) = {
        let host = machine();
        furnished(&host);
        later(&host, "share.create", "lab", &[ANNA]).expect("lab");
        let before = (host.calls(), host.journal_writes());
        later(&host, "share.create", "third", &[ANNA]).expect("third");
        (host.calls() - before.0, host.journal_writes() - before.1)
    };
    assert!(calls > 20 && writes > 20);
    for n in (1..=calls).step_by(3) {
        let host = machine();
        furnished(&host);
        later(&host, "share.create", "lab", &[ANNA]).expect("lab");
        host.fail_call(n);
        let failed = later(&host, "share.create", "third", &[ANNA]).is_err();
        let record: Value = serde_json::from_str(&host.world().files.text(RECORD)).expect("a record");
        assert_eq!(record["shares"].get("third").is_none(), failed, "call {n}");
        assert_eq!(host.connect("anna", PASSWORD, "third").is_err(), failed, "call {n}");
        assert!(host.connect("anna", PASSWORD, "lab").is_ok() && due(&host), "call {n}: the other stands");
        run(&host, "gateway.reload", json!({"name": "native"}), None).expect("told");
        assert!(known(&host, "lab") && !due(&host), "call {n}");
        assert_eq!(known(&host, "third"), !failed, "call {n}");
    }
}

#[test]
fn what_one_reconcile_builds_has_one_reload() {
    let host = machine();
    furnished(&host);
    let mut all = sections(&host);
    reconcile(&host, &all).expect("noted");
    for id in ["lab", "third"] {
        all[id] = section(&format!("/srv/{id}"), &[ANNA, ("nodes", "pve1")]);
        all[id]["type"] = json!("smbgateway");
    }
    let start = host.snapshot();
    let before = reloads(&host);
    reconcile(&host, &all).expect("built");
    assert_eq!(reloads(&host), before + 1);
    assert!(known(&host, "lab") && known(&host, "third") && !due(&host));

    let host = start.snapshot();
    run(&host, "reconcile", json!({"sections": all, "reload": "later"}), None).expect("built");
    assert_eq!(reloads(&host), before, "whoever asks tells");
    assert!(due(&host));

    let host = start;
    all.as_object_mut().expect("an object").remove("third");
    reconcile(&host, &all).expect("built");
    assert_eq!(reloads(&host), before + 1, "a single one as ever");
    let ops = context(&host).query("audit", &json!({})).expect("audit");
    assert!(!ops.to_string().contains("gateway.reload"), "by its own operation");
}

#[test]
fn in_a_container_it_is_the_same() {
    let host = proxmox();
    furnished_lxc(&host);
    let told = |host: &SimHost| {
        host.world().guests.values().filter_map(|g| g.world.smbd.clone()).any(|s| s.config.share("lab").is_some())
    };
    let more = [("smbgw-gateway", "office"), ANNA];
    let params = json!({"id": "lab", "section": lxc("/srv/lab", &more), "reload": "later"});
    run(&host, "share.create", params, None).unwrap_or_else(|e| panic!("lab: {:#?}", e.to_doc()));
    assert!(!told(&host));
    assert_eq!(run(&host, "gateway.reload", json!({"name": "office"}), None).expect("told")["reloaded"], true);
    assert!(told(&host));
}

#[test]
fn only_later_is_a_time() {
    let host = machine();
    furnished(&host);
    let params = json!({"id": "lab", "section": section("/srv/lab", &[ANNA]), "reload": "never"});
    let e = run(&host, "share.create", params, None).expect_err("refused");
    assert_eq!(e.problems()[0].property, "reload");
    assert_eq!(
        run(&host, "gateway.reload", json!({"name": "nosuch"}), None).expect_err("none").kind(),
        smbgw_core::error::Kind::NotFound
    );
}
