// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests on the simulated machine share: a machine with a tree, and a driver for runs.
#![allow(dead_code)] // each test binary uses its own part

use std::rc::Rc;

use serde_json::{Value, json};
use smbgw_core::error::{Error, Kind};
use smbgw_core::gateway::{Context, Options, Progress};
use smbgw_core::host::sim::SimHost;

pub const PASSWORD: &str = "Correct-Horse-7 battery";

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
        let host = machine();
        (self.before)(&host);
        host
    }

    pub fn run(&self, host: &SimHost) -> Result<Value, Error> {
        run(host, self.op, self.params.clone(), self.password.then_some(PASSWORD))
    }
}

/// What must be as before: everything but journals, snapshots, scratch files, and which process smbd is (it may have been restarted).
pub fn differences(before: &SimHost, after: &SimHost) -> Vec<String> {
    let ours = &["/run/smbgw", "/var/lib/smbgw/ops"];
    let all = before.world().without(ours).differences(&after.world().without(ours));
    let noise = |d: &String| {
        d.starts_with("/run/samba/smbd.pid:") || d.starts_with("smbd: pid") || d.starts_with("/var/lib/smbgw: new directory")
    };
    all.into_iter().filter(|d| !noise(d)).collect()
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
