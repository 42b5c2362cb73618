// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random operations over several shares, users and groups with random failures and deaths: what is not touched stays byte for byte, and
//! after each operation record, files and accounts tell the same story. Several callers at once wait for each other by name.
#![allow(clippy::disallowed_methods)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{PASSWORD, context, furnished, machine, names, run, scratch_left, section};
use proptest::prelude::*;
use serde_json::{Value, json};
use smbgw_core::error::Kind;
use smbgw_core::format::smb_conf::SmbConf;
use smbgw_core::gateway::Progress;
use smbgw_core::host::sim::{Death, Fault, SimHost};
use smbgw_core::types::sha256_hex;

const SHARES: [&str; 3] = ["office", "lab", "third"];
const USERS: [&str; 3] = ["anna", "ben", "carl"];
const ACCESS: [&str; 5] = ["", "rw:anna", "ro:@staff,rw:ben", "full:anna,ro:carl", "rw:@staff"];

#[derive(Debug, Clone)]
enum Op {
    Create(usize, usize),
    Update(usize, usize, bool),
    Delete(usize),
    UserCreate(usize),
    UserPassword(usize),
    UserDisable(usize, bool),
    UserRemove(usize),
    Member(usize, bool),
    Reconcile,
    Repair,
}

impl Op {
    fn request(&self) -> (&'static str, Value, bool) {
        let share = |s: usize, access: usize, disable: bool| {
            let mut more = Vec::new();
            if !ACCESS[access].is_empty() {
                more.push(("smbgw-access", ACCESS[access]));
            }
            if disable {
                more.push(("disable", "1"));
            }
            json!({"id": SHARES[s], "section": section(&format!("/srv/{}", SHARES[s]), &more)})
        };
        match *self {
            Op::Create(s, a) => ("share.create", share(s, a, false), false),
            Op::Update(s, a, d) => ("share.update", share(s, a, d), false),
            Op::Delete(s) => ("share.delete", json!({"id": SHARES[s]}), false),
            Op::UserCreate(u) => ("user.create", json!({"name": USERS[u]}), true),
            Op::UserPassword(u) => ("user.password", json!({"name": USERS[u]}), true),
            Op::UserDisable(u, off) => (if off { "user.disable" } else { "user.enable" }, json!({"name": USERS[u]}), false),
            Op::UserRemove(u) => ("user.remove", json!({"name": USERS[u]}), false),
            Op::Member(u, add) => {
                (if add { "group.add-member" } else { "group.remove-member" }, json!({"name": "staff", "user": USERS[u]}), false)
            }
            Op::Reconcile => ("reconcile", json!({"sections": {}}), false),
            Op::Repair => ("share.repair", json!({}), false),
        }
    }

    /// The share whose stanza and tree it may change; a user or group operation may change who is named in any.
    fn touches(&self, share: &str) -> bool {
        match self {
            Op::Create(s, _) | Op::Update(s, ..) | Op::Delete(s) => SHARES[*s] == share,
            _ => true,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Hit {
    Nothing,
    Call(u64, Fault),
    Append(u64, Fault),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..3_usize, 0..5_usize).prop_map(|(s, a)| Op::Create(s, a)),
        3 => (0..3_usize, 0..5_usize, prop::bool::weighted(0.2)).prop_map(|(s, a, d)| Op::Update(s, a, d)),
        2 => (0..3_usize).prop_map(Op::Delete),
        2 => (0..3_usize).prop_map(Op::UserCreate),
        1 => (0..3_usize).prop_map(Op::UserPassword),
        1 => (0..3_usize, any::<bool>()).prop_map(|(u, off)| Op::UserDisable(u, off)),
        1 => (0..3_usize).prop_map(Op::UserRemove),
        1 => (0..3_usize, any::<bool>()).prop_map(|(u, add)| Op::Member(u, add)),
        1 => Just(Op::Reconcile),
        1 => Just(Op::Repair),
    ]
}

fn hit() -> impl Strategy<Value = Hit> {
    let fault = prop_oneof![Just(Fault::Fails), Just(Fault::FailsAfter)];
    let death = prop_oneof![
        Just(Fault::Dies(Death::Kill)),
        Just(Fault::DiesAfter(Death::Kill)),
        Just(Fault::Dies(Death::PowerCut)),
        Just(Fault::DiesAfter(Death::PowerCut)),
        (1..60_usize).prop_map(|n| Fault::DiesTorn(Death::PowerCut, n)),
    ];
    prop_oneof![3 => Just(Hit::Nothing), 2 => (3..120_u64, fault).prop_map(|(n, f)| Hit::Call(n, f)), 2 => (1..60_u64, death).prop_map(|(n, f)| Hit::Append(n, f))]
}

fn record(host: &SimHost) -> Value {
    serde_json::from_str(&host.world().files.text(common::RECORD)).unwrap_or_default()
}

/// The stanza and the tree of a share, byte for byte.
fn outside(host: &SimHost, share: &str) -> String {
    let w = host.world();
    let text = w.files.text(common::OWN_CONF);
    let stanza = text.split("\n[").find(|part| part.starts_with(&format!("{share}]"))).unwrap_or_default().to_owned();
    let tree = format!("/srv/{share}");
    let files: Vec<String> = names(&w, &tree).iter().map(|n| format!("{n} {:?}", w.files.get(format!("{tree}/{n}")))).collect();
    format!("{stanza}\n{:?}\n{files:?}", w.files.get(&tree))
}

fn accounts(host: &SimHost, file: &str) -> BTreeMap<String, u32> {
    let text = host.world().files.text(file);
    let entries = text.lines().filter_map(|l| Some((l.split(':').next()?.to_owned(), l.split(':').nth(2)?.parse().ok()?)));
    entries.filter(|(_, n)| (70_000..80_000).contains(n)).collect()
}

/// What must hold whenever nothing is half done.
fn consistent(host: &SimHost, numbers: &mut BTreeMap<u32, String>) -> Result<(), String> {
    let (w, r) = (host.world(), record(host));
    let map = |k: &str| r[k].as_object().cloned().unwrap_or_default();
    let check = |ok: bool, what: String| if ok { Ok(()) } else { Err(what) };
    let own = w.files.bytes(common::OWN_CONF).map(sha256_hex).unwrap_or_default();
    check(own == r["conf-sha256"].as_str().unwrap_or_default(), "our file is not the recorded one".into())?;
    let served: Vec<String> =
        map("shares").iter().filter(|(_, s)| s["section"]["disable"] != "1").map(|(id, _)| id.clone()).collect();
    let conf = w.files.text(common::OWN_CONF);
    let stanzas: Vec<String> =
        SmbConf::parse(&conf).sections().iter().filter(|s| !s.is_global()).map(|s| s.name.clone()).collect();
    check(stanzas == served, format!("served {stanzas:?}, wanted {served:?}"))?;
    let includes = w.files.text(common::SMB_CONF).matches("include = /etc/samba/smbgw.conf").count();
    check(includes == usize::from(!served.is_empty()), format!("{includes} include lines for {served:?}"))?;
    let users = accounts(host, "/etc/passwd");
    for (name, u) in map("users") {
        check(users.get(&name).copied() == u["uid"].as_u64().map(|n| n as u32), format!("account {name}: {users:?}"))?;
        let Some(a) = w.passdb.get(&name) else { return Err(format!("{name} is not in passdb")) };
        check(u64::from(a.rid) == u["rid"].as_u64().unwrap_or(0), format!("RID of {name}"))?;
        check(Some(a.disabled()) == u["disabled"].as_bool(), format!("{name}: disabled"))?;
        check(r["hashes"][&name] == json!(a.nt_hash), format!("{name}: the hash in the record is not the one in passdb"))?;
    }
    check(w.passdb.keys().all(|n| map("users").contains_key(n)), format!("passdb has more: {:?}", w.passdb.keys()))?;
    check(users.keys().all(|n| map("users").contains_key(n)), format!("passwd has more: {users:?}"))?;
    let groups = accounts(host, "/etc/group");
    let mut wanted: Vec<String> = map("shares")
        .values()
        .map(|s| s["unix-group"].clone())
        .chain(map("groups").values().map(|g| g["unix"].clone()))
        .filter_map(|g| g.as_str().map(str::to_owned))
        .collect();
    wanted.push("smbgw".into());
    check(groups.keys().all(|g| wanted.contains(g)), format!("/etc/group has more: {groups:?}"))?;
    for (what, n) in map("numbers") {
        let n = n.as_u64().unwrap_or(0) as u32;
        let owner = numbers.entry(n).or_insert_with(|| what.clone());
        check(*owner == what, format!("number {n} was {owner}'s and is {what}'s"))?;
    }
    check(!r.as_object().is_some_and(|o| o.contains_key("former")), "a former hash is kept".into())?;
    let left = scratch_left(host);
    check(left.is_empty(), format!("left behind: {left:?}"))
}

fn power_on(host: &SimHost) {
    host.reboot();
    if host.world().smbd.is_none() {
        host.start_smbd();
    }
}

fn play(steps: &[(Op, Hit)]) -> Result<(), String> {
    let host = machine();
    furnished(&host);
    for (n, share) in SHARES.iter().enumerate() {
        host.change(|w| w.files.put(format!("/srv/{share}/data"), format!("data {n}"), 0o660, 33, 33));
    }
    let mut numbers = BTreeMap::new();
    consistent(&host, &mut numbers).map_err(|e| format!("at the start: {e}"))?;
    for (n, (op, hit)) in steps.iter().enumerate() {
        let before: Vec<String> = SHARES.iter().map(|s| outside(&host, s)).collect();
        match *hit {
            Hit::Nothing => {}
            Hit::Call(n, f) => host.arm_call(n, f),
            Hit::Append(n, f) => host.arm_append(n, f),
        }
        let (name, params, password) = op.request();
        let result = run(&host, name, params, password.then_some(PASSWORD));
        let what = |e: String| {
            format!("step {n}: {op:?} with {hit:?} ({}): {e}", result.as_ref().map_or_else(|e| e.to_string(), |_| "done".into()))
        };
        if host.is_dead() {
            power_on(&host);
        }
        disarm(&host);
        // A lock that was got in a call that failed goes with its descriptor.
        host.release_lock("/run/smbgw/lock/native");
        host.release_lock("/run/smbgw/lock/node");
        run(&host, "share.repair", json!({}), None).map_err(|e| what(format!("repair: {:?}", e.to_doc())))?;
        for (share, was) in SHARES.iter().zip(&before).filter(|(s, _)| !op.touches(s)) {
            let now = outside(&host, share);
            if now != *was {
                return Err(what(format!("{share} was not touched and is different:\n{was}\n{now}")));
            }
        }
        consistent(&host, &mut numbers).map_err(what)?;
    }
    Ok(())
}

/// Lets every armed fault hit something harmless.
fn disarm(host: &SimHost) {
    use smbgw_core::host::Host;
    let mut tries = 0;
    while host.armed() > 0 && tries < 400 {
        tries += 1;
        let _ = host.make_dir(std::path::Path::new("/run"), 0o755);
        let _ = host.append(std::path::Path::new("/tmp/noise"), b"");
        if host.is_dead() {
            power_on(host);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if common::exhaustive() { 400 } else { 24 }, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn others_are_untouched_and_everything_tells_the_same_story(steps in prop::collection::vec((op(), hit()), 1..9)) {
        if let Err(why) = play(&steps) {
            return Err(TestCaseError::fail(why));
        }
    }
}

#[test]
fn callers_wait_for_each_other_and_name_the_holder() {
    let host = machine();
    let (a, b) = (context(&host), context(&host));
    let mut first = a
        .begin("share.create", &json!({"id": "office", "section": section("/srv/office", &[]), "actor": "petra@pve"}))
        .expect("begun");
    first.step().expect("a step");
    let busy = b
        .begin("share.create", &json!({"id": "lab", "section": section("/srv/lab", &[]), "lock-wait-ms": 0}))
        .err()
        .expect("busy");
    assert_eq!(busy.kind(), Kind::Busy);
    assert!(busy.to_string().contains("petra@pve") && busy.to_string().contains("share.create"), "{busy}");
    // Whoever only looks is never in the way, nor waits.
    for query in ["list", "users", "audit"] {
        b.query(query, &json!({})).unwrap_or_else(|e| panic!("{query}: {e}"));
    }
    while matches!(first.step().expect("a step"), Progress::Working(_)) {}
    run(&host, "share.create", json!({"id": "lab", "section": section("/srv/lab", &[])}), None).expect("now it is free");
    host.pass(Duration::from_secs(1));
    consistent(&host, &mut BTreeMap::new()).expect("consistent");
}
