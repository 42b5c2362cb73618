// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests on the simulated machine share: a machine with a tree, and a driver for runs.
#![allow(dead_code)] // each test binary uses its own part

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use serde_json::{Value, json};
use smbgw_core::error::{Error, Kind};
use smbgw_core::gateway::{Context, Options, Progress};
use smbgw_core::host::Host;
use smbgw_core::host::sim::{SimHost, World};

pub const PASSWORD: &str = "Correct-Horse-7 battery";

pub const RECORD: &str = "/var/lib/smbgw/gateways/native@pve1.json";
pub const OWN_CONF: &str = "/etc/samba/smbgw.conf";
pub const SMB_CONF: &str = "/etc/samba/smb.conf";

/// A Debian node with a running smbd and trees to share.
pub fn machine() -> SimHost {
    let host = SimHost::debian();
    host.change(|w| {
        for dir in ["/srv/office", "/srv/lab", "/srv/third"] {
            w.files.put_dir(dir, 0o755, 0, 0);
        }
    });
    host.start_smbd();
    host
}

pub fn context(host: &SimHost) -> Context {
    Context::with_host(Options::default(), Rc::new(host.clone())).expect("a context")
}

pub fn section(path: &str, more: &[(&str, &str)]) -> Value {
    let mut s = json!({"path": path, "smbgw-mode": "native"});
    for (k, v) in more {
        s[*k] = json!(v);
    }
    s
}

/// Runs an operation to its end; events are collected.
pub fn run(host: &SimHost, op: &str, params: Value, password: Option<&str>) -> Result<Value, Error> {
    let context = context(host);
    let mut run = context.begin(op, &params)?;
    if let Some(p) = password {
        run.secret("password", p.as_bytes())?;
    }
    for _ in 0..100_000 {
        match run.step()? {
            Progress::Working(_) => {}
            Progress::Done(v) => return Ok(v["result"].clone()),
            Progress::Failed(_, e) => return Err(e),
        }
    }
    panic!("{op} does not come to an end");
}

pub fn create(host: &SimHost, id: &str, path: &str, more: &[(&str, &str)]) -> Result<Value, Error> {
    let password = more.iter().any(|(k, _)| *k == "username").then_some(PASSWORD);
    run(host, "share.create", json!({"id": id, "section": section(path, more)}), password)
}

/// A share with everything: first user, group, second user, somebody with full control.
pub fn furnished(host: &SimHost) {
    create(host, "office", "/srv/office", &[("username", "anna")]).expect("office");
    run(host, "user.create", json!({"name": "ben"}), Some(PASSWORD)).expect("ben");
    run(host, "group.create", json!({"name": "staff"}), None).expect("staff");
    run(host, "group.add-member", json!({"name": "staff", "user": "ben"}), None).expect("member");
}

/// An operation by name, as the loops over every plan kind use it.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    pub op: &'static str,
    pub params: Value,
    pub password: bool,
    /// What is done on the machine before.
    pub before: fn(&SimHost),
}

fn nothing(_: &SimHost) {}

fn two(host: &SimHost) {
    furnished(host);
    create(host, "lab", "/srv/lab", &[("smbgw-access", "ro:ben,full:anna")]).expect("lab");
}

fn stopped(host: &SimHost) {
    host.change(|w| w.smbd = None);
}

/// Every plan kind.
pub fn cases() -> Vec<Case> {
    let case = |name, op, params, password, before| Case { name, op, params, password, before };
    let office = |more: &[(&str, &str)]| json!({"id": "office", "section": section("/srv/office", more)});
    vec![
        case("first share", "share.create", office(&[("username", "anna")]), true, nothing as fn(&SimHost)),
        case("first share, smbd stopped", "share.create", office(&[("username", "anna")]), true, stopped),
        case(
            "second share with full control",
            "share.create",
            json!({"id": "lab", "section": section("/srv/lab", &[("smbgw-access", "rw:@staff,full:anna")])}),
            false,
            furnished,
        ),
        case(
            "change access",
            "share.update",
            office(&[("username", "anna"), ("smbgw-access", "ro:@staff,full:ben")]),
            false,
            furnished,
        ),
        case("rename", "share.update", office(&[("username", "anna"), ("share", "Büro Süd")]), false, furnished),
        case("disable the only share", "share.update", office(&[("username", "anna"), ("disable", "1")]), false, furnished),
        case("disable one of two", "share.update", office(&[("username", "anna"), ("disable", "1")]), false, two),
        case("delete one of two", "share.delete", json!({"id": "lab"}), false, two),
        case("delete the last", "share.delete", json!({"id": "office"}), false, furnished),
        case("create user", "user.create", json!({"name": "carl"}), true, furnished),
        case("password", "user.password", json!({"name": "ben"}), true, furnished),
        case("disable user", "user.disable", json!({"name": "ben"}), false, furnished),
        case("remove user", "user.remove", json!({"name": "ben"}), false, two),
        case("create group", "group.create", json!({"name": "lab"}), false, furnished),
        case("join group", "group.add-member", json!({"name": "staff", "user": "anna"}), false, furnished),
        case("leave group", "group.remove-member", json!({"name": "staff", "user": "ben"}), false, furnished),
        case("remove group", "group.remove", json!({"name": "staff"}), false, furnished),
    ]
}

impl Case {
    /// The machine just before the operation.
    pub fn machine(&self) -> SimHost {
        thread_local! {
            static MADE: RefCell<HashMap<usize, SimHost>> = RefCell::default();
        }
        MADE.with_borrow_mut(|made| {
            let make = || {
                let host = machine();
                (self.before)(&host);
                host
            };
            made.entry(self.before as usize).or_insert_with(make).snapshot()
        })
    }

    pub fn run(&self, host: &SimHost) -> Result<Value, Error> {
        run(host, self.op, self.params.clone(), self.password.then_some(PASSWORD))
    }
}

/// The visible world, as far as it has to come back: without journals, snapshots and scratch files, which process smbd is, the order of
/// lines in account files, when something was removed, the clock (days and seconds of a last change), and numbers, which are never taken back.
pub fn visible(host: &SimHost) -> World {
    let mut w = host.world().without(&["/run/smbgw", "/var/lib/smbgw/ops", "/run/samba/smbd.pid"]);
    for file in ["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"] {
        let Some(node) = w.files.get(file).cloned() else { continue };
        let text = w.files.text(file);
        let mut lines: Vec<String> =
            text.lines().map(|l| if file.ends_with("/shadow") { without_day(l) } else { l.to_owned() }).collect();
        lines.sort();
        w.files.put(file, lines.join("\n"), node.mode, node.uid, node.gid);
    }
    for account in w.passdb.values_mut() {
        account.lct = 0;
    }
    if let Some(smbd) = &mut w.smbd {
        smbd.pid = 1;
    }
    let record = w.files.text(RECORD);
    if let Ok(mut r) = serde_json::from_str::<Value>(&record) {
        for gone in ["numbers", "next-id", "former", "removed"] {
            r.as_object_mut().expect("an object").remove(gone);
        }
        for s in r["shares"].as_object_mut().into_iter().flat_map(|m| m.values_mut()).filter_map(Value::as_object_mut) {
            // Noted by whoever sees storage.cfg; no change of the share.
            s.remove("committed");
            if let Some(section) = s["section"].as_object_mut() {
                section.remove("type");
            }
        }
        w.files.put(RECORD, r.to_string(), 0o600, 0, 0);
    } else {
        // Directories of ours may stay.
        w.files.take("/var/lib/smbgw/gateways");
        if names(&w, "/var/lib/smbgw").is_empty() {
            w.files.take("/var/lib/smbgw");
        }
    }
    w
}

/// Names in a directory of the simulated machine.
pub fn names(w: &World, dir: &str) -> Vec<String> {
    let host: &dyn Host = &SimHost::new(w.clone());
    host.list(Path::new(dir)).unwrap_or_default()
}

fn without_day(line: &str) -> String {
    let mut fields: Vec<&str> = line.split(':').collect();
    if fields.len() > 2 {
        fields[2] = "";
    }
    fields.join(":")
}

/// What must be as before.
pub fn differences(before: &SimHost, after: &SimHost) -> Vec<String> {
    visible(before).differences(&visible(after))
}

/// The visible world after an operation that was done, whenever that was and whatever the gateway's uuid is.
pub fn outcome(host: &SimHost) -> World {
    let mut w = visible(host);
    let record = w.files.text(RECORD);
    let Ok(mut r) = serde_json::from_str::<Value>(&record) else { return w };
    let uuid = r["uuid"].as_str().unwrap_or_default().to_owned();
    r["uuid"] = json!("UUID");
    if let Some(o) = r.as_object_mut() {
        o.remove("conf-sha256");
    }
    if let Some(shares) = r["shares"].as_object_mut() {
        for s in shares.values_mut().filter_map(Value::as_object_mut) {
            s.remove("since-ms");
        }
    }
    w.files.put(RECORD, r.to_string(), 0o600, 0, 0);
    if let Some(node) = w.files.get(OWN_CONF).cloned() {
        let text = w.files.text(OWN_CONF).replace(&uuid, "UUID");
        w.files.put(OWN_CONF, text, node.mode, node.uid, node.gid);
    }
    w
}

/// Nothing of a proof or an import may be left anywhere: accounts, credentials, scratch files.
pub fn scratch_left(host: &SimHost) -> Vec<String> {
    let w = host.world();
    let mut left: Vec<String> = Vec::new();
    for dir in ["/run/smbgw/probe", "/run/smbgw/import", "/run/smbgw/check"] {
        left.extend(names(&w, dir).into_iter().map(|n| format!("{dir}/{n}")));
    }
    for file in ["/etc/passwd", "/etc/shadow"] {
        if w.files.text(file).contains("smbgw-probe") {
            left.push(format!("smbgw-probe in {file}"));
        }
    }
    if w.passdb.contains_key("smbgw-probe") {
        left.push("smbgw-probe in passdb".into());
    }
    for dir in ["/srv/office", "/srv/lab", "/srv/third"] {
        left.extend(names(&w, dir).into_iter().filter(|n| n.starts_with(".smbgw")).map(|n| format!("{dir}/{n}")));
    }
    left
}

/// Takes the record of a gateway without shares, users and groups away, where there was none before.
pub fn forget_empty_record(start: &SimHost, host: &SimHost) {
    let record: Value = serde_json::from_str(&host.world().files.text(RECORD)).unwrap_or_default();
    let empty = ["shares", "users", "groups"].iter().all(|k| record[k].as_object().is_none_or(|m| m.is_empty()));
    if start.world().files.text(RECORD).is_empty() && empty {
        forget_record(host);
    }
}

/// Names of journals that say that an operation is open.
pub fn open_marks(host: &SimHost) -> Vec<String> {
    names(&host.world(), "/var/lib/smbgw/ops").into_iter().filter(|n| n.ends_with(".open")).collect()
}

/// All sections that the gateway keeps, as storage.cfg would have them.
pub fn sections(host: &SimHost) -> Value {
    let mut all = context(host).query("sections", &json!({})).expect("sections")["sections"].clone();
    for s in all.as_object_mut().expect("an object").values_mut() {
        s["type"] = json!("smbgateway");
    }
    all
}

pub fn reconcile(host: &SimHost, sections: &Value) -> Result<Value, Error> {
    run(host, "reconcile", json!({"sections": sections}), None)
}

pub fn status(host: &SimHost, id: &str) -> Value {
    context(host)
        .query("status", &json!({"id": id, "fresh": true}))
        .unwrap_or_else(|e| panic!("status of {id}: {:#?}", e.to_doc()))
}

/// Everything, not a sample: minutes instead of seconds.
pub fn exhaustive() -> bool {
    std::env::var_os("SMBGW_ALL").is_some()
}

/// Which of `1..=n` to try: all of a short list, or a seeded sample of about `k`, always with the first and the last.
pub fn sample(n: u64, k: u64, seed: u64) -> Vec<u64> {
    if exhaustive() || n <= k {
        return (1..=n).collect();
    }
    let mut picked: Vec<u64> = vec![1, n];
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while (picked.len() as u64) < k {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        picked.push(x % n + 1);
    }
    picked.sort_unstable();
    picked.dedup();
    picked
}

/// Takes the gateway record away, which stays for ever: numbers are never given to somebody else.
pub fn forget_record(host: &SimHost) {
    host.change(|w| {
        w.files.take("/var/lib/smbgw/gateways/native@pve1.json");
        w.files.take("/var/lib/smbgw/gateways");
    });
}

pub fn is_death(e: &Error) -> bool {
    e.kind() == Kind::Interrupted
}
