// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is connected and what is open, on the simulated machine: whose sessions are shown, which end, and what is refused.
#![allow(clippy::disallowed_methods)]

mod common;

use common::*;
use serde_json::{Value, json};
use smbgw_core::error::Kind;
use smbgw_core::host::sim::SimHost;

fn ask(host: &SimHost, op: &str, params: Value) -> Value {
    context(host).query(op, &params).unwrap_or_else(|e| panic!("{op}: {:#?}", e.to_doc()))
}

fn users(doc: &Value) -> Vec<String> {
    let mut all: Vec<String> =
        doc["sessions"].as_array().expect("a list").iter().map(|s| s["user"].as_str().unwrap_or_default().to_owned()).collect();
    all.sort();
    all
}

fn pids(host: &SimHost) -> Vec<i32> {
    host.world().smbd.iter().flat_map(|s| &s.sessions).map(|s| s.pid).collect()
}

fn id_of(pid: i32) -> String {
    (2_000_000 + pid).to_string()
}

/// Two shares, two users, who are connected to one each, and have a file open there.
fn busy() -> (SimHost, i32, i32) {
    let host = machine();
    furnished(&host);
    create(&host, "lab", "/srv/lab", &[("share", "Lab Süd"), ("smbgw-access", "rw:ben")]).expect("lab");
    let anna = host.connect("anna", PASSWORD, "office").expect("anna");
    let ben = host.connect("ben", PASSWORD, "Lab Süd").expect("ben");
    host.change(|w| {
        for s in &mut w.smbd.as_mut().expect("it runs").sessions {
            let (tree, name) = if s.pid == anna { ("/srv/office", "plan   a.txt") } else { ("/srv/lab", "results/today.csv") };
            s.files.push((tree.into(), name.into()));
        }
    });
    (host, anna, ben)
}

#[test]
fn sessions_are_listed_with_the_shares_they_use() {
    let (host, anna, _) = busy();
    let doc = ask(&host, "sessions", json!({}));
    assert_eq!(users(&doc), ["anna", "ben"]);
    let a = doc["sessions"].as_array().expect("a list").iter().find(|s| s["user"] == "anna").expect("anna").clone();
    assert_eq!((&a["id"], &a["pid"], &a["gateway"]), (&json!(id_of(anna)), &json!(anna), &json!("native")));
    assert_eq!(
        (&a["address"], &a["domain"], &a["account"], &a["dialect"]),
        (&json!("127.0.0.1"), &json!(null), &json!("anna"), &json!("SMB3_11"))
    );
    assert_eq!(a["signing"], json!({"cipher": "AES-128-GMAC", "degree": "partial"}));
    assert_eq!(a["encryption"], json!({"cipher": null, "degree": "none"}));
    assert_eq!((&a["shares"][0]["share"], &a["shares"][0]["id"]), (&json!("office"), &json!("office")));
    assert_eq!(a["since"], a["shares"][0]["since"]);
    assert_eq!(users(&ask(&host, "sessions", json!({"id": "lab"}))), ["ben"], "by share");
    assert_eq!(users(&ask(&host, "sessions", json!({"user": "ANNA"}))), ["anna"], "by user");
    assert_eq!(users(&ask(&host, "sessions", json!({"gateway": "native", "user": "nobody"}))), Vec::<String>::new());
    // Never the form that goes through the open files.
    let asked: Vec<String> = host.commands().into_iter().filter(|c| c.starts_with("smbstatus")).collect();
    assert!(asked.iter().all(|c| c.contains("-p -j") || c.contains("-S -j")), "{asked:?}");
    let e = context(&host).query("sessions", &json!({"id": "nosuch"})).expect_err("no such share");
    assert_eq!(e.kind(), Kind::NotFound);
}

#[test]
fn sessions_of_foreign_shares_are_counted_and_left_alone() {
    let (host, anna, _) = busy();
    let foreign = host.change(|w| {
        let smbd = w.smbd.as_mut().expect("it runs");
        let mut s = smbd.sessions.iter().find(|s| s.pid == anna).expect("anna").clone();
        (s.pid, s.user) = (anna + 1000, "fred".into());
        s.shares[0].0 = "Old Stuff".into();
        s.files = vec![("/srv/old".into(), "theirs".into())];
        smbd.sessions.push(s);
        anna + 1000
    });
    let doc = ask(&host, "sessions", json!({}));
    assert_eq!((users(&doc), &doc["foreign"]), (vec!["anna".into(), "ben".into()], &json!(1)));
    assert_eq!(ask(&host, "files", json!({}))["total"], 2, "nor their files");
    for params in [json!({"id": id_of(foreign)}), json!({"user": "fred"})] {
        let e = run(&host, "session.close", params, None).expect_err("not ours");
        assert_eq!(e.kind(), Kind::Conflict, "{e}");
    }
    assert!(pids(&host).contains(&foreign), "it lives");
}

#[test]
fn files_are_listed_with_who_has_them_open() {
    let (host, anna, _) = busy();
    let doc = ask(&host, "files", json!({}));
    assert_eq!((&doc["total"], &doc["more"]), (&json!(2), &json!(false)));
    let f = doc["files"].as_array().expect("a list").iter().find(|f| f["id"] == "office").expect("anna's").clone();
    assert_eq!(
        (&f["path"], &f["user"], &f["pid"], &f["sessions"]),
        (&json!("plan   a.txt"), &json!("anna"), &json!(anna), &json!([id_of(anna)]))
    );
    assert_eq!(
        (&f["access"], &f["access-mask"], &f["share-mode"]),
        (&json!("RDONLY"), &json!("0x00120089"), &json!("DENY_WRITE"))
    );
    assert_eq!((&f["caching"], &f["since"]), (&json!("LEASE(RH)"), &json!("2026-01-01T00:00:00")));
    assert_eq!(ask(&host, "files", json!({"id": "lab"}))["files"][0]["path"], "results/today.csv");
    assert_eq!(ask(&host, "files", json!({"user": "ben"}))["total"], 1);
    // A file that is opened while Samba is asked has a session all the same: sessions are asked for last.
    let asked: Vec<String> = host.commands().into_iter().filter(|c| c.starts_with("smbstatus")).collect();
    let last = |form: &str| asked.iter().rposition(|c| c.contains(form)).expect("asked");
    assert!(last("-L -n") < last("-p -j"), "{asked:?}");
    let doc = ask(&host, "files", json!({"limit": 1}));
    assert_eq!((doc["files"].as_array().map(Vec::len), &doc["total"], &doc["more"]), (Some(1), &json!(2), &json!(true)));
}

#[test]
fn one_session_ends_and_the_other_goes_on() {
    let (host, anna, ben) = busy();
    let plan = context(&host).query("plan", &json!({"op": "session.close", "params": {"id": id_of(anna)}})).expect("planned");
    assert!(
        plan["text"].as_str().is_some_and(|t| t.contains("end session") && t.contains("undo: none: a client connects again")),
        "{plan:#}"
    );
    assert_eq!(pids(&host), [anna, ben], "a plan ends nothing");
    let done = run(&host, "session.close", json!({"id": id_of(anna), "actor": "root@pam"}), None).expect("ended");
    assert_eq!((&done["ended"][0]["user"], done["ended"].as_array().map(Vec::len)), (&json!("anna"), Some(1)));
    assert_eq!(pids(&host), [ben]);
    let audit = ask(&host, "audit", json!({"id": id_of(anna)}));
    assert_eq!(
        (&audit["entries"][0]["op"], &audit["entries"][0]["actor"]),
        (&json!("session.close"), &json!("root@pam")),
        "{audit:#}"
    );
    let e = run(&host, "session.close", json!({"id": id_of(anna)}), None).expect_err("it is gone");
    assert_eq!(e.kind(), Kind::NotFound);
}

#[test]
fn all_sessions_of_a_user_end() {
    let (host, _, ben) = busy();
    host.connect("anna", PASSWORD, "office").expect("once more");
    let done = run(&host, "session.close", json!({"user": "Anna"}), None).expect("ended");
    assert_eq!(done["ended"].as_array().map(Vec::len), Some(2));
    assert_eq!(pids(&host), [ben]);
    assert_eq!(run(&host, "session.close", json!({"user": "anna"}), None).expect_err("none left").kind(), Kind::NotFound);
    host.connect("anna", PASSWORD, "office").expect("whoever may can come again");
}

#[test]
fn what_goes_with_a_session_is_said() {
    let (host, anna, ben) = busy();
    // A terminal server: two users by one connection, so by one process.
    host.change(|w| {
        let smbd = w.smbd.as_mut().expect("it runs");
        smbd.sessions.iter_mut().filter(|s| s.pid == ben).for_each(|s| s.pid = anna);
    });
    let done = run(&host, "session.close", json!({"user": "anna"}), None).expect("ended");
    assert_eq!(done["ended"].as_array().map(Vec::len), Some(1));
    let warnings = done["warnings"].to_string();
    assert!(warnings.contains("of ben ends too"), "{warnings}");
    assert_eq!(pids(&host), Vec::<i32>::new());
}

#[test]
fn wrong_requests() {
    let (host, ..) = busy();
    for params in
        [json!({}), json!({"id": "1", "user": "anna"}), json!({"id": "-1"}), json!({"id": "1; rm"}), json!({"user": "a\nb"})]
    {
        let e = run(&host, "session.close", params.clone(), None).expect_err("refused");
        assert_eq!(e.kind(), Kind::Invalid, "{params}: {e}");
    }
}

#[test]
fn an_smbd_that_does_not_run_is_said() {
    let (host, ..) = busy();
    host.change(|w| w.smbd = None);
    assert_eq!(ask(&host, "sessions", json!({}))["not-running"], json!(["native"]));
    assert_eq!(ask(&host, "files", json!({}))["not-running"], json!(["native"]));
}

#[test]
fn a_container_is_asked_inside() {
    let host = proxmox();
    furnished_lxc(&host);
    let inside = host.within(100);
    let anna = inside.connect("anna", PASSWORD, "office").expect("anna");
    host.change(|w| {
        let smbd = w.guests.get_mut(&100).and_then(|g| g.world.smbd.as_mut());
        smbd.expect("it runs inside").sessions[0].files.push(("/srv/smbgw/office".into(), "inside.txt".into()));
    });
    let doc = ask(&host, "sessions", json!({}));
    assert_eq!((users(&doc), &doc["sessions"][0]["gateway"]), (vec!["anna".into()], &json!("office")));
    let doc = ask(&host, "files", json!({"gateway": "office"}));
    assert_eq!((&doc["files"][0]["path"], &doc["files"][0]["id"]), (&json!("inside.txt"), &json!("office")));
    run(&host, "session.close", json!({"id": id_of(anna)}), None).expect("ended");
    assert_eq!(users(&ask(&host, "sessions", json!({}))), Vec::<String>::new());
}
