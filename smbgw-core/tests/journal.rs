// SPDX-License-Identifier: MIT OR Apache-2.0
//! The journal as others see it: damage is named and set aside, never guessed at; the audit trail tells who did what; what is stuck says so
//! and is settled by a repair; no secret is ever in it.
#![allow(clippy::disallowed_methods)]

mod common;

use common::{PASSWORD, context, create, differences, furnished, machine, names, reconcile, run, section, sections, status};
use serde_json::{Value, json};
use smbgw_core::effect::Program;
use smbgw_core::error::Kind;
use smbgw_core::host::sim::{Death, Fault, SimHost, Trouble, nt_hash};
use smbgw_core::journal::store::Store;

const OPS: &str = "/var/lib/smbgw/ops";

fn ops(host: &SimHost, end: &str) -> Vec<String> {
    names(&host.world(), OPS).into_iter().filter(|n| n.ends_with(end)).collect()
}

/// A machine on which the creation of `lab` beside `office` was killed at a journal write, and the journal of it.
fn killed(write: u64) -> (SimHost, String) {
    let host = machine();
    furnished(&host);
    host.arm_append(write, Fault::DiesAfter(Death::Kill));
    create(&host, "lab", "/srv/lab", &[("smbgw-access", "rw:ben")]).expect_err("killed");
    host.reboot();
    let open = ops(&host, ".open");
    assert_eq!(open.len(), 1);
    (host, format!("{OPS}/{}", open[0].replace(".open", ".jsonl")))
}

fn with_journal(host: &SimHost, path: &str, bytes: &[u8]) -> SimHost {
    let copy = host.snapshot();
    copy.change(|w| w.files.put(path, bytes, 0o600, 0, 0));
    copy
}

fn office_is_well(host: &SimHost) {
    assert!(host.connect("anna", PASSWORD, "office").is_ok());
}

#[test]
fn a_torn_last_line_is_cut_off_wherever_it_is_torn() {
    let reference = machine();
    furnished(&reference);
    // The act behind the last line was done or not: both happen.
    for write in [9, 20] {
        let (host, path) = killed(write);
        let bytes = host.world().files.bytes(&path).expect("a journal").to_vec();
        let last = bytes[..bytes.len() - 1].iter().rposition(|b| *b == b'\n').expect("several lines") + 1;
        let step = if common::exhaustive() { 1 } else { 7 };
        for cut in (last..bytes.len()).step_by(step) {
            let host = with_journal(&host, &path, &bytes[..cut]);
            reconcile(&host, &sections(&reference)).unwrap_or_else(|e| panic!("cut at {cut}: {:#?}", e.to_doc()));
            assert_eq!(differences(&reference, &host), Vec::<String>::new(), "cut at {cut} of {}", bytes.len());
            assert_eq!(ops(&host, ".corrupt"), Vec::<String>::new(), "cut at {cut}: a torn end is no damage");
            assert_eq!(ops(&host, ".open"), Vec::<String>::new());
        }
    }
}

/// What must hold when a journal cannot be trusted.
fn is_set_aside(host: &SimHost, path: &str, what: &str) {
    let before = host.snapshot();
    // Who only looks changes nothing, and sees it already.
    let list = context(host).query("list", &json!({})).expect("a list");
    assert!(list["damaged"].to_string().contains(path), "{what}: {list}");
    assert_eq!(before.world().differences(&host.world()), Vec::<String>::new(), "{what}: a look changed something");
    let world = host.world();
    run(host, "group.create", json!({"name": "other"}), None).unwrap_or_else(|e| panic!("{what}: {:#?}", e.to_doc()));
    let aside = path.replace(".jsonl", ".corrupt");
    assert_eq!(host.world().files.bytes(&aside), world.files.bytes(path), "{what}: kept as it was");
    assert!(host.world().files.bytes(path).is_none(), "{what}: set aside");
    for _ in 0..2 {
        let list = context(host).query("list", &json!({})).expect("a list");
        assert!(list["damaged"].to_string().contains(&aside), "{what}: {list}");
        let doc = status(host, "office");
        assert!(doc["warnings"].to_string().contains(&aside), "{what}: {doc}");
        reconcile(host, &sections(host)).expect("the rest goes on");
    }
    office_is_well(host);
}

#[test]
fn a_damaged_line_in_the_middle_is_never_guessed_at() {
    let (host, path) = killed(20);
    let bytes = host.world().files.bytes(&path).expect("a journal").to_vec();
    let lines: Vec<usize> = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i).collect();
    for at in [3, lines[0] + 12, lines[2] + 40, lines[3] - 1, lines[lines.len() - 2] + 3] {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        is_set_aside(&with_journal(&host, &path, &bad), &path, &format!("byte {at}"));
    }
}

#[test]
fn an_order_that_cannot_have_happened_is_corrupt() {
    let (host, path) = killed(20);
    let text = host.world().files.text(&path);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let event =
        |n: usize| serde_json::from_str::<Value>(&lines[n][9..]).expect("JSON")["event"].as_str().unwrap_or_default().to_owned();
    let n = (2..lines.len()).find(|n| event(*n) == "begun" && event(n + 1) == "done").expect("a whole step");
    let mut swapped = lines.clone();
    swapped.swap(n, n + 1);
    let mut twice = lines.clone();
    twice.insert(n + 2, lines[n + 1]);
    let mut opened_twice = lines.clone();
    opened_twice.insert(3, lines[0]);
    let headless = lines[1..].to_vec();
    let unplanned: Vec<&str> = lines.iter().enumerate().filter(|(i, _)| event(*i) != "planned").map(|(_, l)| *l).collect();
    for (what, wrong) in [
        ("swapped", swapped),
        ("done twice", twice),
        ("opened twice", opened_twice),
        ("headless", headless),
        ("unplanned", unplanned),
    ] {
        is_set_aside(&with_journal(&host, &path, wrong.concat().as_bytes()), &path, what);
    }
}

#[test]
fn finished_operations_are_kept_for_their_time_and_open_ones_for_ever() {
    let (host, path) = killed(20);
    let finished = ops(&host, ".jsonl").len() - 1;
    assert!(finished >= 4);
    let day = 86_400_000;
    host.set_clock(1_767_225_600_000 + 399 * day);
    let store = Store::new(std::path::Path::new("/var/lib/smbgw"));
    assert_eq!(store.retire(&host).expect("fine"), 0);
    host.set_clock(1_767_225_600_000 + 402 * day);
    assert_eq!(store.retire(&host).expect("fine"), finished);
    assert_eq!(ops(&host, ".jsonl").len(), 1, "the open one stays");
    assert!(host.world().files.bytes(&path).is_some());
}

fn audit(host: &SimHost, id: &str) -> Vec<Value> {
    context(host).query("audit", &json!({"id": id})).expect("audit")["entries"].as_array().expect("a list").clone()
}

#[test]
fn the_audit_trail_tells_who_when_what_and_each_undo() {
    let host = machine();
    let begin = smbgw_core::host::Host::now_ms(&host);
    let params = json!({"id": "office", "section": section("/srv/office", &[("username", "anna")]), "actor": "petra@pve"});
    host.arm_command(Program::Smbclient, "", 1, Trouble::Exits(1, "session setup failed: NT_STATUS_LOGON_FAILURE\n".into()));
    run(&host, "share.create", params.clone(), Some(PASSWORD)).expect_err("the proof fails");
    run(&host, "share.create", params, Some(PASSWORD)).expect("the second time it works");
    let entries = audit(&host, "office");
    let seen: Vec<_> = entries.iter().map(|e| (e["op"].as_str(), e["actor"].as_str(), e["result"].as_str())).collect();
    assert_eq!(
        seen,
        [(Some("share.create"), Some("petra@pve"), Some("done")), (Some("share.create"), Some("petra@pve"), Some("undone"))]
    );
    let failed = &entries[1];
    assert!(failed["error"].as_str().is_some_and(|e| e.contains("NT_STATUS_LOGON_FAILURE")), "{failed}");
    assert!(failed["at"].as_i64() >= Some(begin) && failed["until"].as_i64() > failed["at"].as_i64(), "{failed}");
    let undo = failed["undo"].as_array().expect("a list");
    let steps: Vec<&str> = undo.iter().filter_map(|u| u["step"].as_str()).collect();
    let at = |step: &str| steps.iter().position(|s| *s == step).unwrap_or_else(|| panic!("{step} is not in {steps:?}"));
    assert!(
        at("samba/include") < at("samba/own-file")
            && at("samba/own-file") < at("identity/unix")
            && at("identity/unix") < at("files/tree"),
        "{steps:?}"
    );
    let times: Vec<i64> = undo.iter().filter_map(|u| u["at"].as_i64()).collect();
    assert!(times.len() == undo.len() && times.is_sorted());
    assert!(undo.iter().all(|u| u["result"].is_string()));
    assert_eq!(
        context(&host).query("audit", &json!({"since": smbgw_core::host::Host::now_ms(&host) + 1})).expect("audit")["entries"],
        json!([])
    );
}

/// Creating `lab` failed, and so did the undo of one of its steps.
fn stuck() -> SimHost {
    let host = machine();
    furnished(&host);
    host.arm_command(Program::Smbclient, "", 1, Trouble::Exits(1, "tree connect failed: NT_STATUS_BAD_NETWORK_NAME\n".into()));
    host.arm_command(
        Program::Groupdel,
        "smbgw-s-lab",
        1,
        Trouble::Exits(10, "groupdel: cannot lock /etc/group; try again later.\n".into()),
    );
    let e = create(&host, "lab", "/srv/lab", &[("smbgw-access", "rw:ben")]).expect_err("both fail");
    assert_eq!(e.kind(), Kind::Stuck, "{:#?}", e.to_doc());
    assert!(
        e.remedy_text().is_some_and(|r| r.contains("pve-smbgateway repair lab") && r.contains("groupdel smbgw-s-lab")),
        "{:#?}",
        e.to_doc()
    );
    host
}

#[test]
fn what_is_stuck_says_so_refuses_and_is_finished_by_repair() {
    let before = machine();
    furnished(&before);
    let host = stuck();
    let list = context(&host).query("list", &json!({})).expect("a list");
    let doc = list["shares"].as_array().expect("a list").iter().find(|s| s["id"] == "lab").expect("it is named").clone();
    assert_eq!(doc["state"], "stuck");
    assert!(doc["stuck"]["error"]["message"].as_str().is_some_and(|m| m.contains("NT_STATUS_BAD_NETWORK_NAME")), "{doc}");
    assert!(doc["stuck"]["undo-errors"][0]["message"].as_str().is_some_and(|m| m.contains("cannot lock /etc/group")), "{doc}");
    assert_eq!(doc["stuck"]["commands"], json!(["groupdel smbgw-s-lab"]));
    assert_eq!(doc["stuck"]["remedy"], "pve-smbgateway repair lab");
    for (op, params) in [
        ("share.create", json!({"id": "lab", "section": section("/srv/lab", &[])})),
        ("share.update", json!({"id": "lab", "section": section("/srv/lab", &[])})),
        ("share.delete", json!({"id": "lab"})),
    ] {
        let e = run(&host, op, params, None).expect_err("stuck");
        assert_eq!((e.kind(), e.remedy_text()), (Kind::Stuck, Some("pve-smbgateway repair lab")), "{op}");
    }
    let e = run(&host, "user.create", json!({"name": "lab"}), Some(PASSWORD));
    assert!(e.is_ok(), "a user of that name is another thing: {e:?}");
    run(&host, "user.remove", json!({"name": "lab"}), None).expect("removed");
    let update = json!({"id": "office", "section": section("/srv/office", &[("username", "anna"), ("smbgw-access", "ro:ben")])});
    run(&host, "share.update", update, None).expect("other shares go on");
    reconcile(&host, &sections(&host)).expect("so does the worker");
    assert_eq!(context(&host).query("list", &json!({})).expect("a list")["shares"][1]["state"], "stuck", "and does not touch it");
    let back = json!({"id": "office", "section": section("/srv/office", &[("username", "anna")])});
    run(&host, "share.update", back, None).expect("as before");
    run(&host, "share.repair", json!({"id": "lab"}), None).expect("repaired");
    assert_eq!(differences(&before, &host), Vec::<String>::new());
    assert_eq!(
        audit(&host, "lab").iter().filter(|e| e["op"] == "share.create").map(|e| e["result"].clone()).collect::<Vec<_>>(),
        ["undone"]
    );
    create(&host, "lab", "/srv/lab", &[]).expect("and now it works");
}

#[test]
fn a_repair_that_fails_again_says_so() {
    let host = stuck();
    host.arm_command(
        Program::Groupdel,
        "smbgw-s-lab",
        1,
        Trouble::Exits(10, "groupdel: cannot lock /etc/group; try again later.\n".into()),
    );
    let e = run(&host, "share.repair", json!({"id": "lab"}), None).expect_err("still stuck");
    assert_eq!(e.kind(), Kind::Stuck, "{e}");
    run(&host, "share.repair", json!({"id": "lab"}), None).expect("the second repair");
}

#[test]
fn what_somebody_else_changed_since_is_not_undone_unless_settled() {
    let host = machine();
    furnished(&host);
    host.arm_append(28, Fault::DiesAfter(Death::Kill));
    create(&host, "lab", "/srv/lab", &[]).expect_err("killed");
    host.reboot();
    // Meanwhile an administrator gives the tree to somebody.
    host.change(|w| {
        w.files.take("/srv/lab");
        w.files.put_dir("/srv/lab", 0o700, 33, 33);
    });
    let tree = |h: &SimHost| h.world().files.get("/srv/lab").map(|n| (n.mode, n.uid, n.gid));
    let e = run(&host, "share.repair", json!({"id": "lab"}), None).expect_err("it is not ours to decide");
    assert_eq!(e.kind(), Kind::Stuck, "{e}");
    let doc = context(&host).query("list", &json!({})).expect("a list");
    assert!(doc.to_string().contains("/srv/lab was changed by somebody else"), "{doc}");
    run(&host, "share.repair", json!({"id": "lab"}), None).expect_err("nor the second time");
    assert_eq!(tree(&host), Some((0o700, 33, 33)));
    run(&host, "share.repair", json!({"id": "lab", "overwrite": true}), None).expect("settled");
    assert_eq!(tree(&host), Some((0o700, 33, 33)), "theirs stays");
    assert_eq!(ops(&host, ".open"), Vec::<String>::new());
}

#[test]
fn no_secret_is_written_anywhere_but_the_hash_in_the_record() {
    const CANARY: &str = "Canary-41-sings ünder=glass";
    let mut told = String::new();
    let mut drive = |host: &SimHost, op: &str, params: Value| {
        let mut run = context(host).begin(op, &params).expect("begun");
        run.secret("password", CANARY.as_bytes()).expect("taken");
        loop {
            match run.step().expect("a step") {
                smbgw_core::gateway::Progress::Working(v) => told.push_str(&v.to_string()),
                smbgw_core::gateway::Progress::Done(v) => break told.push_str(&v.to_string()),
                smbgw_core::gateway::Progress::Failed(v, e) => break told.push_str(&format!("{v} {e:?} {:?}", e.to_doc())),
            }
        }
    };
    let host = machine();
    let params = json!({"id": "office", "section": section("/srv/office", &[("username", "anna"), ("password", CANARY)])});
    host.arm_command(Program::Pdbedit, "-a -u anna", 1, Trouble::ExitsAfter(255, "pdbedit: no\n".into()));
    drive(&host, "share.create", params.clone());
    drive(&host, "share.create", params);
    drive(&host, "user.create", json!({"name": "ben"}));
    host.arm_command(Program::Pdbedit, "-L -w -u ben", 1, Trouble::Exits(1, "no\n".into()));
    drive(&host, "user.password", json!({"name": "ben"}));
    drive(&host, "user.password", json!({"name": "ben"}));
    host.arm_command(Program::Userdel, "ben", 1, Trouble::Exits(8, "user ben is currently used\n".into()));
    drive(&host, "user.remove", json!({"name": "ben"}));
    reconcile(&host, &sections(&host)).expect("reconciled");
    for query in ["list", "users", "groups", "audit", "sections"] {
        told.push_str(&context(&host).query(query, &json!({})).expect(query).to_string());
    }
    told.push_str(&host.commands().join("\n"));
    let hash = nt_hash(CANARY);
    let found = |text: &str| text.contains(CANARY) || text.to_uppercase().contains(&hash) || text.contains("Canary-41");
    assert!(!found(&told), "told");
    let w = host.world();
    let mut record = 0;
    walk(&host, "/", &mut |path, text| {
        assert!(!text.contains(CANARY), "the password is in {path}");
        if found(text) {
            assert_eq!(path, common::RECORD);
            record += 1;
        }
    });
    assert_eq!(record, 1, "the record is the one place");
    assert_eq!(w.files.get(common::RECORD).map(|n| n.mode), Some(0o600));
}

fn walk(host: &SimHost, dir: &str, see: &mut dyn FnMut(&str, &str)) {
    let w = host.world();
    for name in names(&w, dir) {
        let path = format!("{}/{name}", dir.trim_end_matches('/'));
        match w.files.bytes(&path) {
            Some(b) => see(&path, &String::from_utf8_lossy(b)),
            None => walk(host, &path, see),
        }
    }
}
