// SPDX-License-Identifier: MIT OR Apache-2.0
//! The worker brings a node to its wanted state: a vanished section is no deletion, an uncommitted create is none of anybody's, what was
//! lost comes back, what somebody edited is kept. Shown on the simulated machine, as behaviour.
#![allow(clippy::disallowed_methods)]

mod common;

use std::time::Duration;

use common::{
    PASSWORD, SMB_CONF, context, create, differences, forget_empty_record, furnished, is_death, machine, on_node, open_marks,
    reconcile, run, section, sections, status,
};
use serde_json::{Value, json};
use smbgw_core::error::Kind;
use smbgw_core::gateway::Usage;
use smbgw_core::host::sim::{Death, SimHost};

fn committed() -> (SimHost, Value) {
    let host = machine();
    furnished(&host);
    let all = sections(&host);
    reconcile(&host, &all).expect("noted");
    (host, all)
}

fn warnings(doc: &Value) -> String {
    doc["warnings"].to_string()
}

fn usage(host: &SimHost, id: &str) -> Usage {
    context(host).usage(id).expect("usage never fails for a share that is there")
}

#[test]
fn a_vanished_section_keeps_serving_and_can_be_put_back() {
    let (host, all) = committed();
    for _ in 0..3 {
        host.pass(Duration::from_secs(3600));
        reconcile(&host, &json!({})).expect("reconciled");
    }
    assert!(host.connect("anna", PASSWORD, "office").is_ok());
    let doc = status(&host, "office");
    assert_eq!(doc["state"], "vanished", "{doc}");
    assert!(warnings(&doc).contains("--restore"), "{doc}");
    assert_eq!(doc["active"], true, "the tree can still be reached");
    let kept = context(&host).query("sections", &json!({})).expect("sections");
    assert_eq!(kept["sections"]["office"]["path"], "/srv/office");
    reconcile(&host, &all).expect("back again");
    assert_eq!(status(&host, "office")["state"], "ready");
}

#[test]
fn an_uncommitted_create_is_taken_back_after_three_minutes() {
    let host = machine();
    let before = host.snapshot();
    create(&host, "office", "/srv/office", &[("username", "anna")]).expect("created");
    host.pass(Duration::from_secs(150));
    reconcile(&host, &json!({})).expect("early");
    assert!(host.connect("anna", PASSWORD, "office").is_ok(), "not yet");
    host.pass(Duration::from_secs(60));
    reconcile(&host, &json!({})).expect("late");
    forget_empty_record(&before, &host);
    assert_eq!(differences(&before, &host), Vec::<String>::new());
}

#[test]
fn a_committed_create_is_noted_and_stays() {
    let (host, all) = committed();
    assert_eq!(status(&host, "office")["committed"], true);
    host.pass(Duration::from_secs(1000));
    let before = host.snapshot();
    let result = reconcile(&host, &all).expect("reconciled");
    assert_eq!(differences(&before, &host), Vec::<String>::new());
    assert_eq!(result["warnings"], json!([]));
}

#[test]
fn a_removal_asked_for_on_another_node_is_carried_out_by_the_owner() {
    let (host, all) = committed();
    let said = on_node(&host, "pve2", "share.delete", json!({"id": "office", "actor": "root@pam"})).expect("recorded");
    assert_eq!(said["state"], "recorded", "{said}");
    assert!(host.connect("anna", PASSWORD, "office").is_ok(), "the other node does nothing itself");
    assert!(
        !context(&host).query("sections", &json!({})).expect("sections")["sections"]
            .as_object()
            .expect("an object")
            .contains_key("office")
    );
    reconcile(&host, &all).expect("nothing to do yet");
    assert_eq!(status(&host, "office")["state"], "deleting", "its section is still there: not served, and kept");
    reconcile(&host, &json!({})).expect("reconciled");
    assert!(host.connect("anna", PASSWORD, "office").is_err());
    assert_eq!(context(&host).query("status", &json!({"id": "office"})).expect_err("gone").kind(), Kind::NotFound);
}

#[test]
fn a_recorded_removal_whose_section_stays_is_carried_out_after_three_minutes() {
    let (host, all) = committed();
    host.pass(Duration::from_secs(1000));
    on_node(&host, "pve2", "share.delete", json!({"id": "office", "actor": "root@pam"})).expect("recorded");
    host.pass(Duration::from_secs(170));
    reconcile(&host, &all).expect("early");
    assert_eq!(status(&host, "office")["state"], "deleting");
    host.pass(Duration::from_secs(20));
    reconcile(&host, &all).expect("late");
    assert_eq!(context(&host).query("status", &json!({"id": "office"})).expect_err("gone").kind(), Kind::NotFound);
    host.pass(Duration::from_secs(61));
    let said = reconcile(&host, &all).expect("again");
    assert!(host.connect("anna", PASSWORD, "office").is_err(), "and it is not built again");
    assert!(said["warnings"][0].as_str().is_some_and(|w| w.contains("still has its section")), "{said}");
}

#[test]
fn disable_and_leaving_the_nodes_stop_serving_and_keep_data_and_users() {
    for (key, value) in [("disable", "1"), ("nodes", "pve2")] {
        let (host, mut all) = committed();
        host.change(|w| w.files.put("/srv/office/report.txt", "data", 0o660, 70003, 70002));
        let session = host.connect("anna", PASSWORD, "office").expect("connected");
        all["office"][key] = json!(value);
        reconcile(&host, &all).expect("reconciled");
        let w = host.world();
        assert!(host.connect("anna", PASSWORD, "office").is_err(), "{key}");
        assert!(
            w.smbd.as_ref().is_none_or(|s| s.sessions.iter().all(|x| x.pid != session || x.shares.is_empty())),
            "{key}: the session ended"
        );
        assert_eq!(w.files.text("/srv/office/report.txt"), "data");
        assert!(w.passdb.contains_key("anna"), "{key}");
        assert_eq!(status(&host, "office")["state"], "disabled", "{key}");
        all["office"] = sections(&host)["office"].clone();
        all["office"].as_object_mut().expect("an object").remove("disable");
        all["office"]["nodes"] = json!("pve1");
        reconcile(&host, &all).expect("back");
        assert!(host.connect("anna", PASSWORD, "office").is_ok(), "{key}: back again");
    }
}

#[test]
fn smbd_is_started_and_lost_accounts_come_back_as_they_were() {
    let (host, all) = committed();
    let before = host.snapshot();
    host.change(|w| {
        w.smbd = None;
        w.files.take("/run/samba/smbd.pid");
        w.passdb.clear();
        for (file, node) in
            ["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"].map(|f| (f, w.files.get(f).cloned().expect("there")))
        {
            let kept: Vec<String> = w
                .files
                .text(file)
                .lines()
                .filter(|l| !["smbgw", "anna", "ben"].iter().any(|n| l.starts_with(n)))
                .map(|l| format!("{l}\n"))
                .collect();
            w.files.put(file, kept.concat(), node.mode, node.uid, node.gid);
        }
    });
    assert!(host.connect("anna", PASSWORD, "office").is_err());
    reconcile(&host, &all).expect("reconciled");
    // smbd was started by us because it did not run: that is the only thing that is different.
    let left: Vec<String> = differences(&before, &host).into_iter().filter(|d| !d.contains("native@pve1.json")).collect();
    assert_eq!(left, Vec::<String>::new());
    assert!(host.connect("anna", PASSWORD, "office").is_ok());
    assert_eq!(status(&host, "office")["state"], "ready");
}

#[test]
fn an_include_line_taken_out_by_hand_is_put_back() {
    let (host, all) = committed();
    let good = host.world().files.text(SMB_CONF);
    host.change(|w| {
        let without: String = w.files.text(SMB_CONF).lines().filter(|l| !l.contains("smbgw")).map(|l| format!("{l}\n")).collect();
        w.files.put(SMB_CONF, without, 0o644, 0, 0);
    });
    reconcile(&host, &all).expect("reconciled");
    assert_eq!(host.world().files.text(SMB_CONF), good);
}

#[test]
fn a_hand_edited_own_file_is_kept_named_and_put_back_on_request() {
    let (host, all) = committed();
    let good = host.world().files.text(common::OWN_CONF);
    let edited = good.replace("browseable = yes", "browseable = no");
    assert_ne!(good, edited);
    host.change(|w| w.files.put(common::OWN_CONF, &edited, 0o644, 0, 0));
    reconcile(&host, &all).expect("reconciled");
    assert_eq!(host.world().files.text(common::OWN_CONF), edited, "kept");
    let doc = status(&host, "office");
    assert!(doc["drift"].to_string().contains("edited"), "{doc}");
    let refused = create(&host, "lab", "/srv/lab", &[]).expect_err("drift");
    assert_eq!(refused.kind(), Kind::Drift, "{refused}");
    let offer = run(&host, "share.repair", json!({}), None).expect("an offer");
    assert_eq!(offer["repaired"], false, "{offer}");
    assert!(
        offer["diff"].as_str().is_some_and(|d| d.contains("-\tbrowseable = yes") && d.contains("+\tbrowseable = no")),
        "{offer}"
    );
    assert_eq!(host.world().files.text(common::OWN_CONF), edited, "still kept");
    let done = run(&host, "share.repair", json!({"overwrite": true}), None).expect("repaired");
    assert_eq!(done["repaired"], true);
    assert_eq!(host.world().files.text(common::OWN_CONF), good);
    assert_eq!(status(&host, "office")["drift"], json!([]));
}

#[test]
fn an_unmounted_tree_is_not_served_and_comes_back() {
    let host = machine();
    host.change(|w| w.files.mount("/srv/lab", smbgw_core::host::sim::Mount::new(0x42, "ext4")));
    create(&host, "lab", "/srv/lab", &[("username", "anna")]).expect("created");
    let all = sections(&host);
    reconcile(&host, &all).expect("noted");
    let gone = host.change(|w| w.files.detach("/srv/lab")).expect("it was mounted");
    assert!(!usage(&host, "lab").active, "another file system is there now, seen without any worker");
    reconcile(&host, &all).expect("reconciled");
    assert!(host.connect("anna", PASSWORD, "lab").is_err(), "the empty directory below is never served");
    let doc = status(&host, "lab");
    assert_eq!((doc["state"].as_str(), doc["active"].as_bool()), (Some("offline"), Some(false)), "{doc}");
    assert_eq!(common::names(&host.world(), "/srv/lab"), Vec::<String>::new(), "nothing was written below the mount point");
    host.change(|w| w.files.attach(gone));
    reconcile(&host, &all).expect("reconciled");
    assert!(host.connect("anna", PASSWORD, "lab").is_ok());
    assert_eq!(status(&host, "lab")["state"], "ready");
    assert!(usage(&host, "lab").active);
}

#[test]
fn an_interrupted_create_is_finished_or_taken_back_by_its_section() {
    for with_section in [true, false] {
        let host = machine();
        let before = host.snapshot();
        host.arm_append(30, smbgw_core::host::sim::Fault::DiesAfter(Death::Kill));
        assert!(create(&host, "office", "/srv/office", &[("username", "anna")]).is_err());
        host.reboot();
        let mut s = section("/srv/office", &[("username", "anna"), ("nodes", "pve1")]);
        s["type"] = json!("smbgateway");
        let all = if with_section { json!({"office": s}) } else { json!({}) };
        // If the password was not set yet, nobody can say it again: that create is taken back, and the share is built without.
        for _ in 0..2 {
            reconcile(&host, &all).expect("reconciled");
        }
        if with_section {
            assert_eq!(status(&host, "office")["state"], "ready");
            run(&host, "user.password", json!({"name": "anna"}), Some(PASSWORD)).expect("given again");
            assert!(host.connect("anna", PASSWORD, "office").is_ok());
        } else {
            forget_empty_record(&before, &host);
            assert_eq!(differences(&before, &host), Vec::<String>::new());
        }
    }
}

#[test]
fn a_run_that_was_interrupted_in_a_living_process_is_found_as_well() {
    let host = machine();
    let before = host.snapshot();
    let mut run =
        context(&host).begin("share.create", &json!({"id": "office", "section": section("/srv/office", &[])})).expect("begun");
    for _ in 0..40 {
        run.step().expect("a step");
    }
    run.interrupt().expect("interrupted");
    assert_eq!(status_of_open(&host), "building");
    let doc = context(&host).query("status", &json!({"id": "office"})).expect("without a snapshot");
    assert_eq!((doc["state"].as_str(), doc["operation"]["op"].as_str()), (Some("building"), Some("share.create")), "{doc}");
    reconcile(&host, &json!({})).expect("reconciled");
    forget_empty_record(&before, &host);
    assert_eq!(differences(&before, &host), Vec::<String>::new());
}

/// Also between the password of the probe account and the credentials of its client, which need the same one.
#[test]
fn a_change_that_was_killed_is_finished_wherever_that_was() {
    for n in 1.. {
        let (host, all) = committed();
        let changed = section("/srv/office", &[("smbgw-access", "ro:anna"), ("nodes", "pve1")]);
        host.arm_append(n, smbgw_core::host::sim::Fault::DiesAfter(Death::Kill));
        match run(&host, "share.update", json!({"id": "office", "section": changed}), None) {
            Ok(_) => return assert!(n > 20, "it writes {n} times"),
            Err(e) => assert!(is_death(&e), "at {n}: {e}"),
        }
        host.reboot();
        let result = reconcile(&host, &all).unwrap_or_else(|e| panic!("killed at {n}: {:#?}", e.to_doc()));
        let failed = result["shares"].as_array().is_some_and(|l| l.iter().any(|s| s["error"].is_object()));
        assert!(!failed, "killed at {n}: {result}");
        assert_eq!(open_marks(&host), Vec::<String>::new(), "killed at {n}");
    }
}

#[test]
fn a_snapshot_from_before_an_operation_hides_none() {
    let (host, all) = committed();
    let changed = section("/srv/office", &[("smbgw-access", "ro:anna"), ("nodes", "pve1")]);
    let mut run = context(&host).begin("share.update", &json!({"id": "office", "section": changed})).expect("begun");
    for _ in 0..5 {
        run.step().expect("a step");
    }
    run.interrupt().expect("interrupted");
    let look = || context(&host).query("status", &json!({"id": "office"})).expect("status");
    let doc = look();
    assert_eq!((doc["state"].as_str(), doc["operation"]["op"].as_str()), (Some("ready"), Some("share.update")), "{doc}");
    assert!(doc["operation"]["step"].is_string(), "{doc}");
    reconcile(&host, &all).expect("reconciled");
    assert!(look()["operation"].is_null());
}

fn status_of_open(host: &SimHost) -> String {
    status(host, "office")["state"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_hot_path_tells_age_and_identity() {
    let (host, _) = committed();
    let now = usage(&host, "office");
    assert!(now.active && now.total > now.avail && now.avail > 0, "{now:?}");
    host.pass(Duration::from_secs(61));
    let later = usage(&host, "office");
    assert!(!later.active && later.age_ms > 60_000, "{later:?}");
    let doc = context(&host).query("status", &json!({"id": "office"})).expect("status");
    assert_eq!(doc["active"], false);
    assert!(warnings(&doc).contains("pve-smbgateway-agent"), "{doc}");
    assert_eq!(usage(&host, "nobody"), Usage { age_ms: -1, ..Usage::default() });
}

fn turn(host: &SimHost, gateway: &str, all: &Value) -> Value {
    run(host, "reconcile", json!({"gateway": gateway, "sections": all}), None).expect("reconciled")
}

fn refresh(host: &SimHost, mark: &Value) -> bool {
    let said = run(host, "refresh", json!({"gateway": "native", "mark": mark}), None).expect("refreshed");
    said["changed"].as_bool().expect("said")
}

#[test]
fn where_nothing_changed_snapshots_are_kept_fresh_without_a_closer_look() {
    let (host, all) = committed();
    assert_eq!(context(&host).query("turns", &json!({"sections": all})).expect("turns")["gateways"], json!(["native"]));
    let mark = turn(&host, "native", &all)["mark"].clone();
    assert!(mark.is_string(), "nothing was to do");
    host.pass(Duration::from_secs(50));
    let before = host.snapshot();
    assert!(!refresh(&host, &mark));
    assert_eq!(differences(&before, &host), Vec::<String>::new());
    host.pass(Duration::from_secs(50));
    let now = usage(&host, "office");
    assert!(now.active, "fresh: {now:?}");
    assert!(!refresh(&host, &mark), "and so on");

    type Change = fn(&mut smbgw_core::host::sim::World);
    let changes: [(&str, Change); 4] = [
        ("smbd is gone", |w| {
            w.smbd = None;
            w.files.take("/run/samba/smbd.pid");
        }),
        ("the include line is gone", |w| w.files.put(SMB_CONF, "[global]\n", 0o644, 0, 0)),
        ("an account is gone", |w| {
            let kept: String =
                w.files.text("/etc/passwd").lines().filter(|l| !l.starts_with("anna:")).map(|l| format!("{l}\n")).collect();
            w.files.put("/etc/passwd", kept, 0o644, 0, 0);
        }),
        ("our file is gone", |w| w.files.take(common::OWN_CONF)),
    ];
    for (what, change) in changes {
        let host = host.snapshot();
        host.change(change);
        assert!(refresh(&host, &mark), "{what}");
        let said = turn(&host, "native", &all);
        let after = turn(&host, "native", &all);
        assert!(after["mark"].is_string(), "{what}: {said} {after}");
        assert!(!refresh(&host, &after["mark"]), "{what}: and it is quiet again");
    }
}

/// One share, on a file system of this type.
fn mounted(kind: &str) -> (SimHost, Value) {
    let host = machine();
    host.change(|w| w.files.mount("/srv/lab", smbgw_core::host::sim::Mount::new(0x42, kind)));
    create(&host, "lab", "/srv/lab", &[("username", "anna")]).expect("created");
    let all = sections(&host);
    reconcile(&host, &all).expect("noted");
    (host, all)
}

fn fill(host: &SimHost) {
    host.change(|w| w.files.mount_mut("/srv/lab").expect("mounted").space.avail = 12_345_678);
}

#[test]
fn that_snapshots_hold_is_noted_once_and_not_of_what_is_not_in_order() {
    let (host, all) = mounted("ext4");
    let mark = turn(&host, "native", &all)["mark"].clone();
    let snapshot = |host: &SimHost| host.world().files.text("/run/smbgw/status/lab.json");
    let written = snapshot(&host);
    for _ in 0..5 {
        host.pass(Duration::from_secs(20));
        assert!(!refresh(&host, &mark));
    }
    host.pass(Duration::from_secs(7));
    fill(&host);
    let doc = context(&host).query("status", &json!({"id": "lab"})).expect("status");
    assert!((7_000..8_000).contains(&doc["age-ms"].as_i64().expect("an age")) && doc["active"] == true, "{doc}");
    assert_eq!(doc["space"]["avail"], 12_345_678, "what changes by use is asked for: {doc}");
    assert_eq!(snapshot(&host), written, "none is written for it");

    // A look at everything that finds the same writes none either, and what it found holds from then on.
    host.pass(Duration::from_secs(300));
    assert!(turn(&host, "native", &all)["mark"] == mark && snapshot(&host) == written);
    assert!(usage(&host, "lab").active);

    // An edit is found by somebody else than the agent, and gone again before the agent looks.
    let text = host.world().files.text(common::OWN_CONF);
    let put = |text: &str| host.change(|w| w.files.put(common::OWN_CONF, text, 0o644, 0, 0));
    put(&text.replace("browseable = yes", "browseable = no"));
    reconcile(&host, &all).expect("reconciled");
    put(&text);
    assert_eq!(status(&host, "lab")["drift"], json!([]), "it is well");
    assert!(refresh(&host, &mark), "its snapshot tells of an edit: nobody says that it holds");
    let after = turn(&host, "native", &all);
    assert!(!refresh(&host, &after["mark"]));
}

#[test]
fn snapshots_that_are_lost_or_of_a_clock_that_was_ahead_are_written_anew() {
    let (host, all) = mounted("ext4");
    let mark = turn(&host, "native", &all)["mark"].clone();
    let taken = host.change(|w| w.files.text("/run/smbgw/status/lab.json"));
    host.change(|w| w.files.take("/run/smbgw/status/lab.json"));
    assert!(refresh(&host, &mark), "it is missing");
    turn(&host, "native", &all);
    assert!(usage(&host, "lab").active);

    let at = |host: &SimHost| {
        let text = host.world().files.text("/run/smbgw/status/lab.json");
        serde_json::from_str::<Value>(&text).expect("a document")["at"].as_i64().expect("a time")
    };
    let now = smbgw_core::host::Host::now_ms(&host);
    host.change(|w| w.files.put("/run/smbgw/status/lab.json", taken, 0o600, 0, 0));
    host.set_clock(now - 7_200_000);
    turn(&host, "native", &all);
    assert!(at(&host) < now - 7_000_000, "{}", at(&host));
}

#[test]
fn where_a_file_system_may_not_answer_its_space_is_asked_for_by_the_agent_alone() {
    let (host, all) = mounted("nfs4");
    let mark = turn(&host, "native", &all)["mark"].clone();
    assert!(!refresh(&host, &mark), "{mark}");
    let avail = |host: &SimHost| {
        let doc = context(host).query("status", &json!({"id": "lab"})).expect("status");
        (doc["space"]["avail"].clone(), usage(host, "lab").avail)
    };
    let before = avail(&host);
    fill(&host);
    assert_eq!(avail(&host), before, "readers do not ask");
    assert!(!refresh(&host, &mark));
    assert_eq!(avail(&host), (json!(12_345_678), 12_345_678));
}

#[test]
fn what_waits_for_something_is_never_quiet() {
    // A share whose section was not seen yet, and an edited file, which is told until it is put right.
    let host = machine();
    furnished(&host);
    assert_eq!(turn(&host, "native", &json!({})).get("mark"), None);
    let (host, all) = committed();
    let text = host.world().files.text(common::OWN_CONF).replace("browseable = yes", "browseable = no");
    host.change(|w| w.files.put(common::OWN_CONF, &text, 0o644, 0, 0));
    assert_eq!(turn(&host, "native", &all).get("mark"), None);
}

#[test]
fn a_turn_of_one_gateway_leaves_the_others_alone_and_says_when_it_is_busy() {
    let (host, all) = committed();
    host.change(|w| {
        w.smbd = None;
        w.files.take("/run/samba/smbd.pid");
    });
    turn(&host, "other", &all);
    assert!(host.connect("anna", PASSWORD, "office").is_err(), "not its gateway");
    turn(&host, "native", &all);
    assert!(host.connect("anna", PASSWORD, "office").is_ok());
    let refused =
        run(&host, "reconcile", json!({"gateway": "native", "ids": ["office"], "sections": all}), None).expect_err("both");
    assert!(refused.problems().iter().any(|p| p.property == "gateway"), "{refused:?}");
}

#[test]
fn the_status_says_when_the_agent_does_not_run() {
    let (host, _) = committed();
    let said = |host: &SimHost| {
        (
            status(host, "office")["warnings"].to_string(),
            context(host).query("list", &json!({})).expect("list")["warnings"].to_string(),
        )
    };
    let clean = |(a, b): (String, String)| !a.contains("agent") && !b.contains("agent");
    assert!(clean(said(&host)), "without systemd nobody but the administrator knows who runs the worker");
    let me = smbgw_core::host::Host::own_process(&host);
    let beat = |host: &SimHost, pid: i32| {
        let at = smbgw_core::host::Host::now_ms(host);
        let text = json!({"pid": pid, "ticks": me.start, "at": at}).to_string();
        host.change(|w| w.files.put("/run/smbgw/agent.json", text, 0o600, 0, 0));
    };
    beat(&host, me.pid);
    assert!(clean(said(&host)), "{:?}", said(&host));
    beat(&host, me.pid + 77_777);
    let (a, b) = said(&host);
    assert!(a.contains("does not run") && b.contains("systemctl restart pve-smbgateway-agent"), "{a} {b}");
    beat(&host, me.pid);
    host.pass(Duration::from_secs(61));
    assert!(said(&host).1.contains("no sign of life for 61 s"), "{:?}", said(&host));
    host.change(|w| {
        w.systemd = true;
        w.files.take("/run/smbgw/agent.json");
    });
    assert!(said(&host).1.contains("does not run"), "{:?}", said(&host));
}
