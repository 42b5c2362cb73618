// SPDX-License-Identifier: MIT OR Apache-2.0
//! Limits of shares on a simulated machine that has every kind of file system: what is refused and with which words, what is set and put
//! back. What the mechanisms really do is in `tests/quota` and the lab.

#![allow(clippy::disallowed_methods)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use common::{context, create, disks, machine, run, section, visible};
use serde_json::{Value, json};
use smbgw_core::effect::Program;
use smbgw_core::error::{Error, Kind};
use smbgw_core::host::sim::{Death, Fault, Limits, Mount, SimHost};
use smbgw_core::quota::{PROJECTS, Project};

const MIB: u64 = 1 << 20;

fn node() -> SimHost {
    let host = machine();
    disks(&host);
    host
}

fn limits(host: &SimHost, at: &str) -> Limits {
    host.change(|w| w.files.mount_mut(at).expect("a mount").limits.clone())
}

/// The only project that is limited.
fn project(host: &SimHost) -> (u32, u64) {
    let Limits::Projects(all) = limits(host, "/srv/fs/projects") else { panic!("no projects") };
    assert_eq!(all.len(), 1, "{all:?}");
    all.into_iter().next().expect("one")
}

fn project_of(host: &SimHost, path: &str) -> Project {
    host.world().files.get(path).unwrap_or_else(|| panic!("{path}")).project
}

fn limited(host: &SimHost, path: &str, size: &str) -> Result<Value, Error> {
    create(host, "lab", path, &[("smbgw-quota", size)])
}

fn set(host: &SimHost, path: &str, size: Option<&str>) -> Result<Value, Error> {
    let more: Vec<(&str, &str)> = size.map(|s| ("smbgw-quota", s)).into_iter().collect();
    run(host, "share.update", json!({"id": "lab", "section": section(path, &more)}), None)
}

fn says(e: &Error, words: &[&str]) {
    let said =
        e.problems().iter().map(|p| format!("{}: {}", p.property, p.message)).collect::<Vec<_>>().join("\n") + &e.to_string();
    for w in words {
        assert!(said.contains(w), "{w:?} is not in: {said}");
    }
}

fn warnings(result: &Value) -> String {
    result["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
}

#[test]
fn each_mechanism_is_set_changed_and_lifted() {
    for (at, path) in [
        ("/srv/fs/projects", "/srv/fs/projects/tree"),
        ("/srv/fs/subvolumes", "/srv/fs/subvolumes/tree"),
        ("/srv/fs/ceph", "/srv/fs/ceph/tree"),
        ("/srv/fs/dataset", "/srv/fs/dataset"),
    ] {
        let host = node();
        let before = limits(&host, at);
        let now = |host: &SimHost| match limits(host, at) {
            Limits::Projects(p) => p.values().next().copied(),
            Limits::Subvolumes(s) => s[Path::new(path)],
            Limits::Ceph(c) => c.get(Path::new(path)).copied(),
            Limits::Dataset { refquota, .. } => refquota,
            other => panic!("{other:?}"),
        };
        limited(&host, path, "10M").unwrap_or_else(|e| panic!("{path}: {:#?}", e.to_doc()));
        assert_eq!(now(&host), Some(10 * MIB), "{path}");
        set(&host, path, Some("20M")).expect("changed");
        assert_eq!(now(&host), Some(20 * MIB), "{path}");
        set(&host, path, None).expect("lifted");
        assert_eq!(limits(&host, at), before, "{path}: as it was");
        limited_again(&host, path);
        run(&host, "share.delete", json!({"id": "lab"}), None).expect("removed");
        assert_eq!(limits(&host, at), before, "{path}: as it was, with the share gone");
        assert_eq!(project_of(&host, path), Project::NONE, "{path}");
    }
}

fn limited_again(host: &SimHost, path: &str) {
    set(host, path, Some("1G")).expect("limited again");
}

#[test]
fn a_tree_gets_a_project_of_its_own_and_keeps_it() {
    let host = node();
    let taken = {
        // The number that it would get.
        let other = host.snapshot();
        limited(&other, "/srv/fs/projects/tree", "10M").expect("limited");
        project(&other).0
    };
    assert!(PROJECTS.contains(&taken));
    host.change(|w| {
        w.files.put("/etc/projects", format!("{taken}:/somewhere\n"), 0o644, 0, 0);
        w.files.put("/etc/projid", format!("theirs:{}\n", taken + 1), 0o644, 0, 0);
        let mount = w.files.mount_mut("/srv/fs/projects").expect("a mount");
        mount.limits = Limits::Projects(BTreeMap::from([(taken + 2, MIB)]));
    });
    limited(&host, "/srv/fs/projects/tree", "10M").expect("limited");
    let Limits::Projects(all) = limits(&host, "/srv/fs/projects") else { panic!("no projects") };
    assert_eq!(all, BTreeMap::from([(taken + 2, MIB), (taken + 3, 10 * MIB)]), "the next that nobody has");
    for path in ["tree", "tree/deep"] {
        assert_eq!(project_of(&host, &format!("/srv/fs/projects/{path}")), Project::of(taken + 3));
    }
    assert_eq!(project_of(&host, "/srv/fs/projects/tree/deep/file").id, taken + 3);
    assert_eq!(project_of(&host, "/srv/fs/projects"), Project::NONE);
    set(&host, "/srv/fs/projects/tree", Some("30M")).expect("changed");
    assert_eq!(project_of(&host, "/srv/fs/projects/tree/deep").id, taken + 3, "the same");
}

#[test]
fn a_project_that_was_there_before_us_comes_back_and_one_inside_is_refused() {
    let host = node();
    let theirs = Project { id: 42, inherit: true };
    host.change(|w| {
        for path in ["/srv/fs/projects/tree", "/srv/fs/projects/tree/deep", "/srv/fs/projects/tree/deep/file"] {
            w.files.put_project(path, Project { inherit: !path.ends_with("file"), ..theirs });
        }
        w.files.mount_mut("/srv/fs/projects").expect("a mount").limits = Limits::Projects(BTreeMap::from([(42, 5 * MIB)]));
    });
    let (before, start) = (visible(&host), host.snapshot());
    limited(&host, "/srv/fs/projects/tree", "10M").expect("limited");
    assert_ne!(project_of(&host, "/srv/fs/projects/tree").id, 42);
    run(&host, "share.delete", json!({"id": "lab"}), None).expect("removed");
    common::forget_empty_record(&start, &host);
    assert_eq!(before.differences(&visible(&host)), Vec::<String>::new());

    host.change(|w| w.files.put_project("/srv/fs/projects/tree/deep", Project { id: 7, inherit: true }));
    let before = visible(&host);
    let e = limited(&host, "/srv/fs/projects/tree", "10M").expect_err("somebody's");
    says(&e, &["belongs to project 7"]);
    assert_eq!(e.kind(), Kind::Conflict);
    assert_eq!(before.differences(&visible(&host)), Vec::<String>::new(), "undone");
}

#[test]
fn what_cannot_be_limited_is_refused_with_the_remedy() {
    let host = node();
    host.change(|w| {
        w.files.put_dir("/srv/fs/subvolumes/plain", 0o755, 0, 0);
        w.files.put_dir("/srv/fs/dataset/inner", 0o755, 0, 0);
        w.files.mount("/srv/fs/ceph/tree/inner", Mount::new(0x720, "ext4"));
    });
    for (path, size, words) in [
        ("/srv/fs/off/tree", "10M", &["smbgw-quota", "without project quota", "prjquota"][..]),
        ("/srv/fs/subvolumes/plain", "10M", &["no subvolume", "btrfs subvolume create"]),
        ("/srv/fs/dataset/inner", "10M", &["directory of the dataset tank/tree", "zfs create"]),
        ("/srv/fs/projects/tree", "200G", &["200 GiB is more than the file system", "100 GiB"]),
        ("/srv/fs/device", "10M", &["block device of its own", "100 GiB", "10 MiB is less"]),
        ("/srv/fs/device", "200G", &["more than the device", "resize2fs"]),
        ("/srv/fs/device/tree", "10M", &["without project quota"]),
        ("/srv/fs/ceph/tree", "10M", &["/srv/fs/ceph/tree/inner", "share of its own"]),
        ("/srv/fs/projects/tree", "0", &["leave the property out"]),
        ("/srv/fs/projects/tree", "10", &["unit forgotten"]),
        ("/srv/fs/projects/tree", "10MB", &["write 10M"]),
        ("/srv/fs/projects/tree", "-10M", &["negative"]),
        ("/srv/fs/projects/tree", "ten", &["for example 500G"]),
    ] {
        let before = visible(&host);
        let e = limited(&host, path, size).expect_err(path);
        says(&e, words);
        assert_eq!(e.problems()[0].property, "smbgw-quota", "{path} {size}");
        assert_eq!(before.differences(&visible(&host)), Vec::<String>::new(), "{path} {size}: nothing was done");
        let checked = context(&host)
            .query("check", &json!({"id": "lab", "section": section(path, &[("smbgw-quota", size)]), "create": true}))
            .expect("checked");
        assert_eq!(checked["problems"][0]["property"], "smbgw-quota", "{path} {size}: {checked}");
    }
    limited(&host, "/srv/fs/device", "100G").expect("as large as the file system");
    assert_eq!(context(&host).query("quota", &json!({"id": "lab"})).expect("told")["shares"][0]["means"], "volume");
}

#[test]
fn less_than_is_used_is_told_and_by_zfs_refused() {
    let host = node();
    host.change(|w| {
        for tree in ["projects/tree", "subvolumes/tree", "dataset"] {
            w.files.put(format!("/srv/fs/{tree}/large"), vec![0; 3 << 20], 0o644, 1000, 1000);
        }
    });
    let result = limited(&host, "/srv/fs/subvolumes/tree", "2M").expect("taken");
    assert!(warnings(&result).contains("uses 3 MiB already, and the limit is 2 MiB"), "{result}");
    let status = context(&host).query("status", &json!({"id": "lab"})).expect("status");
    assert!(warnings(&status).contains("the share is full: it uses 3 MiB of 2 MiB"), "{status}");
    run(&host, "share.delete", json!({"id": "lab"}), None).expect("removed");
    let e = limited(&host, "/srv/fs/dataset", "2M").expect_err("refused");
    says(&e, &["uses 3 MiB already", "ZFS refuses"]);
    // Seen by nobody before, as when somebody writes meanwhile.
    limited(&host, "/srv/fs/projects/tree", "10M").expect("limited");
    let result = set(&host, "/srv/fs/projects/tree", Some("2M")).expect("taken");
    assert!(warnings(&result).contains("nobody can write"), "{result}");
}

#[test]
fn a_full_share_can_be_changed() {
    for (path, file) in
        [("/srv/fs/dataset", "/srv/fs/dataset/large"), ("/srv/fs/subvolumes/tree", "/srv/fs/subvolumes/tree/large")]
    {
        let host = node();
        limited(&host, path, "10M").expect("limited");
        // ZFS, too, may end a little above its limit.
        host.change(|w| w.files.put(file, vec![0; 11 << 20], 0o644, 1000, 1000));
        let more = [("smbgw-quota", "10M"), ("smbgw-access", "ro:anna")];
        let result = run(&host, "share.update", json!({"id": "lab", "section": section(path, &more)}), None);
        result.unwrap_or_else(|e| panic!("{path}: {:#?}", e.to_doc()));
    }
}

#[test]
fn a_share_is_served_although_its_limit_cannot_be_asked_for() {
    let host = node();
    limited(&host, "/srv/fs/dataset", "10M").expect("limited");
    host.change(|w| w.installed.remove(&Program::Zfs));
    let result =
        run(&host, "share.update", json!({"id": "lab", "section": section("/srv/fs/dataset", &[("share", "Lab")])}), None);
    assert!(warnings(&result.expect("the limit is left as it is")).contains("zfs set refquota=none tank/tree"), "told how");
    assert!(host.world().files.text(common::OWN_CONF).contains("[Lab]"));
}

#[test]
fn documents_tell_the_limit_as_the_size() {
    for (path, means, lag) in [
        ("/srv/fs/projects/tree", "project", 0),
        ("/srv/fs/subvolumes/tree", "qgroup", 30_000),
        ("/srv/fs/ceph/tree", "cephfs", 10_000),
        ("/srv/fs/dataset", "refquota", 5_000),
    ] {
        let host = node();
        limited(&host, path, "12M").expect("limited");
        let c = context(&host);
        let status = c.query("status", &json!({"id": "lab", "fresh": true})).expect("status");
        assert_eq!(status["space"]["total"], 12 * MIB, "{path}");
        assert_eq!((status["quota"]["limit"].as_u64(), status["quota"]["means"].as_str()), (Some(12 * MIB), Some(means)));
        assert_eq!(status["drift"], json!([]), "{path}");
        let used = status["quota"]["used"].as_u64().expect("used");
        assert!((4096..8192).contains(&used), "{path}: {used}");
        assert_eq!(status["space"]["avail"].as_u64(), Some(12 * MIB - used), "{path}");
        let usage = c.usage("lab").expect("usage");
        assert_eq!((usage.limit, usage.lag_ms), (12 * MIB, lag), "{path}");
        if means != "project" {
            assert_eq!((usage.total, usage.used, usage.avail), (12 * MIB, used, 12 * MIB - used), "{path}");
        }
        let report = c.query("quota", &json!({})).expect("report");
        let row = &report["shares"][0];
        assert_eq!((row["id"].as_str(), row["limit"].as_u64(), row["used"].as_u64()), (Some("lab"), Some(12 * MIB), Some(used)));
        assert_eq!((row["lag-ms"].as_u64(), row["reachable"].as_bool()), (Some(lag), Some(true)));
        let own = host.world().files.text(common::OWN_CONF);
        assert_eq!(own.contains("dfree command = /usr/lib/smbgw/smbgw-dfree"), matches!(means, "qgroup" | "cephfs"), "{path}");
    }
}

#[test]
fn a_share_without_a_limit_and_one_that_is_gone_are_in_the_report() {
    let host = node();
    create(&host, "office", "/srv/office", &[]).expect("office");
    limited(&host, "/srv/fs/subvolumes/tree", "10M").expect("lab");
    let away = host.change(|w| w.files.detach("/srv/fs/subvolumes")).expect("it was mounted");
    let report = context(&host).query("quota", &json!({})).expect("report");
    let by = |id: &str| report["shares"].as_array().expect("a list").iter().find(|s| s["id"] == id).expect(id).clone();
    assert_eq!((by("office")["limit"].clone(), by("office")["reachable"].clone()), (Value::Null, json!(true)));
    assert!(by("office")["used"].is_u64());
    assert_eq!((by("lab")["limit"].as_u64(), by("lab")["used"].clone()), (Some(10 * MIB), Value::Null));
    assert_eq!(by("lab")["reachable"], false);
    host.change(|w| w.files.attach(away));
    let e = context(&host).query("quota", &json!({"id": "nobody"})).expect_err("none");
    assert_eq!(e.kind(), Kind::NotFound);
}

#[test]
fn a_limit_that_somebody_changed_is_drift_and_set_again() {
    for (at, path) in [("/srv/fs/projects", "/srv/fs/projects/tree"), ("/srv/fs/dataset", "/srv/fs/dataset")] {
        let host = node();
        limited(&host, path, "10M").expect("limited");
        let right = limits(&host, at);
        host.change(|w| match &mut w.files.mount_mut(at).expect("a mount").limits {
            Limits::Projects(p) => p.values_mut().for_each(|l| *l = 1 << 40),
            Limits::Dataset { refquota, .. } => *refquota = None,
            other => panic!("{other:?}"),
        });
        if at.ends_with("projects") {
            let status = context(&host).query("status", &json!({"id": "lab", "fresh": true})).expect("status");
            assert!(status["drift"].to_string().contains("limit is 1 TiB instead of 10 MiB"), "{status}");
        }
        reconcile(&host, path);
        assert_eq!(limits(&host, at), right, "{path}");
    }
}

fn reconcile(host: &SimHost, path: &str) {
    host.pass(Duration::from_secs(30));
    let mut s = section(path, &[("smbgw-quota", "10M"), ("nodes", "pve1"), ("share", "lab"), ("smbgw-gateway", "native")]);
    s["type"] = json!("smbgateway");
    run(host, "reconcile", json!({"sections": {"lab": s}}), None).expect("reconciled");
}

#[test]
fn another_file_system_at_the_same_path_is_not_limited_by_mistake() {
    let host = node();
    limited(&host, "/srv/fs/projects/tree", "10M").expect("limited");
    host.change(|w| {
        let mount = w.files.mount_mut("/srv/fs/projects").expect("a mount");
        (mount.fs_type, mount.limits) = ("ext4".into(), Limits::None);
    });
    let e = set(&host, "/srv/fs/projects/tree", Some("20M")).expect_err("another one");
    says(&e, &["is not the tree that was recorded"]);
    // The same file system, mounted without quota: said, and nothing is done.
    host.change(|w| w.files.mount_mut("/srv/fs/projects").expect("a mount").fs_type = "xfs".into());
    let e = set(&host, "/srv/fs/projects/tree", Some("20M")).expect_err("switched off");
    says(&e, &["without project quota"]);
    reconcile(&host, "/srv/fs/projects/tree");
    let status = context(&host).query("status", &json!({"id": "lab", "fresh": true})).expect("status");
    assert!(status["drift"].to_string().contains("nothing limits the share as far as can be seen"), "{status}");
    let result = run(&host, "share.delete", json!({"id": "lab"}), None).expect("it can be removed all the same");
    assert!(warnings(&result).contains("chattr -R -p 0 -P /srv/fs/projects/tree"), "{result}");
    // Made anew, it does not take its own leftover for somebody's.
    host.change(|w| w.files.mount_mut("/srv/fs/projects").expect("a mount").limits = Limits::Projects(BTreeMap::new()));
    limited(&host, "/srv/fs/projects/tree", "10M").expect("limited");
    run(&host, "share.delete", json!({"id": "lab"}), None).expect("removed");
    assert_eq!(project_of(&host, "/srv/fs/projects/tree"), Project::NONE);
    assert_eq!(project_of(&host, "/srv/fs/projects/tree/deep/file"), Project::NONE);
}

#[test]
fn a_populated_tree_is_walked_through_by_the_worker_not_by_a_hook() {
    let host = node();
    let params = json!({"id": "lab", "section": section("/srv/fs/projects/tree", &[("smbgw-quota", "10M")]), "defer": true});
    let result = run(&host, "share.create", params, None).expect("accepted");
    assert_eq!(result["state"], "provisioning");
    assert_eq!(project_of(&host, "/srv/fs/projects/tree"), Project::NONE, "nothing is done yet");
    reconcile(&host, "/srv/fs/projects/tree");
    let status = context(&host).query("status", &json!({"id": "lab"})).expect("status");
    assert_eq!(status["state"], "ready", "{status}");
    assert_eq!(project(&host).1, 10 * MIB);
    // An empty tree, and a change of the limit alone, are moments.
    host.change(|w| w.files.put_dir("/srv/fs/projects/empty", 0o755, 0, 0));
    let params = json!({"id": "empty", "section": section("/srv/fs/projects/empty", &[("smbgw-quota", "10M")]), "defer": true});
    assert_eq!(run(&host, "share.create", params, None).expect("made")["state"], "ready");
}

fn users(host: &SimHost, at: &str) -> BTreeMap<u32, u64> {
    host.change(|w| w.files.mount_mut(at).expect("a mount").users.clone()).expect("user quota")
}

#[test]
fn single_users_are_limited_where_that_is_about_the_share_alone() {
    for at in ["/srv/fs/users", "/srv/fs/dataset"] {
        let host = node();
        let more = [("username", "anna"), ("smbgw-user-quota", "anna=1M,ben=20M")];
        let result = create(&host, "lab", at, &more).unwrap_or_else(|e| panic!("{at}: {:#?}", e.to_doc()));
        assert!(warnings(&result).contains("there is no user ben yet, so nothing limits it"), "{result}");
        let record: Value = serde_json::from_str(&host.world().files.text(common::RECORD)).expect("a record");
        let anna = u32::try_from(record["users"]["anna"]["uid"].as_u64().expect("a number")).expect("small");
        assert_eq!(users(&host, at), BTreeMap::from([(anna, MIB)]), "{at}");
        assert!(host.world().files.text(common::OWN_CONF).contains("inherit owner = no"), "files belong to who makes them");
        // The worker limits who came later.
        run(&host, "user.create", json!({"name": "ben"}), Some(common::PASSWORD)).expect("ben");
        host.pass(Duration::from_secs(30));
        let mut s = section(at, &more);
        for (k, v) in [("type", "smbgateway"), ("nodes", "pve1"), ("share", "lab"), ("smbgw-gateway", "native")] {
            s[k] = json!(v);
        }
        run(&host, "reconcile", json!({"sections": {"lab": s}}), None).expect("reconciled");
        assert_eq!(users(&host, at).values().copied().collect::<Vec<_>>(), [MIB, 20 * MIB], "{at}");
        let report = context(&host).query("quota", &json!({"id": "lab"})).expect("report");
        let of = |n: usize| report["shares"][0]["users"][n].clone();
        assert_eq!((of(0)["name"].as_str(), of(0)["limit"].as_u64()), (Some("anna"), Some(MIB)), "{report}");
        // One that leaves the list, another limit.
        let more = [("username", "anna"), ("smbgw-user-quota", "ben=30M")];
        run(&host, "share.update", json!({"id": "lab", "section": section(at, &more)}), None).expect("changed");
        assert_eq!(users(&host, at).values().copied().collect::<Vec<_>>(), [30 * MIB], "{at}");
        run(&host, "share.delete", json!({"id": "lab"}), None).expect("removed");
        assert_eq!(users(&host, at), BTreeMap::new(), "{at}");
    }
}

#[test]
fn limits_of_users_that_would_limit_others_are_refused() {
    let host = node();
    for (path, words) in [
        ("/srv/fs/subvolumes/tree", &["cannot limit single users", "ZFS dataset"][..]),
        ("/srv/fs/projects/tree", &["cannot limit single users"]),
        ("/srv/fs/ceph/tree", &["cannot limit single users"]),
    ] {
        let before = visible(&host);
        let e = create(&host, "lab", path, &[("username", "anna"), ("smbgw-user-quota", "anna=1M")]).expect_err(path);
        says(&e, words);
        assert_eq!(e.problems()[0].property, "smbgw-user-quota");
        assert_eq!(before.differences(&visible(&host)), Vec::<String>::new(), "{path}");
    }
    for (list, why) in
        [("anna", "user=size"), ("anna=1", "unit forgotten"), ("anna=1M,anna=2M", "named twice"), ("Anna=1M", "no user name")]
    {
        let e = create(&host, "lab", "/srv/fs/users", &[("smbgw-user-quota", list)]).expect_err(list);
        says(&e, &["smbgw-user-quota", why]);
    }
}

/// What the worker says and does in one round.
fn worker(host: &SimHost, s: &Value) -> Value {
    host.pass(Duration::from_secs(30));
    let mut s = s.clone();
    for (k, v) in [("type", "smbgateway"), ("nodes", "pve1"), ("share", "lab"), ("smbgw-gateway", "native")] {
        s[k] = json!(v);
    }
    run(host, "reconcile", json!({"sections": {"lab": s}}), None).expect("reconciled")
}

#[test]
fn a_walk_back_that_fails_half_way_is_undone() {
    let host = node();
    host.change(|w| {
        for n in 0..8 {
            w.files.put(format!("/srv/fs/projects/tree/deep/f{n}"), "x", 0o644, 1000, 1000);
        }
    });
    limited(&host, "/srv/fs/projects/tree", "10M").expect("limited");
    let (id, _) = project(&host);
    let before = visible(&host);
    // Wherever in the walk it is.
    for n in 1..400 {
        let host = host.snapshot();
        host.fail_call(n);
        if run(&host, "share.delete", json!({"id": "lab"}), None).is_ok() {
            continue;
        }
        if before.differences(&visible(&host)).is_empty() {
            continue;
        }
        // What an undo could not do either, a repair does.
        let _ = run(&host, "share.repair", json!({}), None);
        let left: Vec<String> = before.differences(&visible(&host));
        let gone = !host.world().files.text(common::RECORD).contains("\"lab\"");
        let all = |wanted: u32| {
            let w = host.world();
            (0..8).all(|n| w.files.get(format!("/srv/fs/projects/tree/deep/f{n}")).expect("a file").project.id == wanted)
        };
        assert!(if gone { all(0) } else { all(id) }, "call {n}: half of it is left: {left:?}");
    }
}

#[test]
fn a_project_that_somebody_took_away_is_put_back_and_a_foreign_one_keeps_nothing_else_from_it() {
    let host = node();
    host.change(|w| w.files.put_dir("/srv/fs/projects/tree/inner", 0o755, 0, 0));
    limited(&host, "/srv/fs/projects/tree", "10M").expect("limited");
    let (id, _) = project(&host);
    host.change(|w| {
        w.files.put_project("/srv/fs/projects/tree", Project::NONE);
        w.files.put_project("/srv/fs/projects/tree/inner", Project { id: 7, inherit: true });
        w.files.take(common::OWN_CONF);
    });
    let s = section("/srv/fs/projects/tree", &[("smbgw-quota", "10M")]);
    worker(&host, &s);
    assert!(host.world().files.text(common::OWN_CONF).contains("[lab]"), "what else drifted is put right");
    assert_eq!(project_of(&host, "/srv/fs/projects/tree/deep/file").id, id, "what was ours stays ours");
    let status = context(&host).query("status", &json!({"id": "lab", "fresh": true})).expect("status");
    assert!(warnings(&status).contains("belongs to project 7"), "and the failure is told: {status}");
    host.change(|w| w.files.put_project("/srv/fs/projects/tree/inner", Project::NONE));
    host.pass(Duration::from_secs(3600));
    worker(&host, &s);
    assert_eq!(project_of(&host, "/srv/fs/projects/tree"), Project::of(id));
    assert_eq!(project_of(&host, "/srv/fs/projects/tree/inner"), Project::of(id));
    let status = context(&host).query("status", &json!({"id": "lab", "fresh": true})).expect("status");
    assert!(!warnings(&status).contains("belongs to project 7"), "over: {status}");
}

#[test]
fn a_limit_below_what_is_used_by_now_is_not_tried_on_zfs() {
    let host = node();
    limited(&host, "/srv/fs/dataset", "10M").expect("limited");
    host.change(|w| {
        w.files.put("/srv/fs/dataset/large", vec![0; 20 << 20], 0o644, 1000, 1000);
        let mount = w.files.mount_mut("/srv/fs/dataset").expect("a mount");
        mount.limits = Limits::Dataset { name: "tank/tree".into(), refquota: Some(100 << 20) };
        w.files.take(common::OWN_CONF);
    });
    let result = worker(&host, &section("/srv/fs/dataset", &[("smbgw-quota", "10M")]));
    assert!(host.world().files.text(common::OWN_CONF).contains("[lab]"), "{result}");
    assert!(!result.to_string().contains("less than current used"), "{result}");
}

#[test]
fn another_device_number_after_a_boot_means_nothing() {
    for (at, path) in [
        ("/srv/fs/projects", "/srv/fs/projects/tree"),
        ("/srv/fs/subvolumes", "/srv/fs/subvolumes/tree"),
        ("/srv/fs/ceph", "/srv/fs/ceph/tree"),
    ] {
        let count = {
            let host = node();
            let before = host.journal_writes();
            limited(&host, path, "10M").expect("limited");
            host.journal_writes() - before
        };
        for n in 1..=count {
            let host = node();
            host.arm_append(n, Fault::Dies(Death::PowerCut));
            let _ = limited(&host, path, "10M");
            host.reboot();
            host.start_smbd();
            host.change(|w| w.files.mount_mut(at).expect("a mount").dev += 0x1000);
            let mut result = worker(&host, &section(path, &[("smbgw-quota", "10M")]));
            if result.to_string().contains("the proof failed") {
                // The password of its account went with the power: taken back, and built anew.
                host.pass(Duration::from_secs(3600));
                result = worker(&host, &section(path, &[("smbgw-quota", "10M")]));
            }
            let status =
                context(&host).query("status", &json!({"id": "lab"})).unwrap_or_else(|e| panic!("{path}, {n}: {e} {result}"));
            assert_eq!(status["state"], "ready", "{path}, write {n}: {result} {status}");
        }
    }
}

#[test]
fn a_deferred_change_that_fails_is_told_and_not_tried_all_the_time() {
    let host = node();
    create(&host, "lab", "/srv/fs/projects/tree", &[]).expect("lab");
    host.change(|w| w.files.put_project("/srv/fs/projects/tree/deep", Project { id: 7, inherit: true }));
    let wanted = section("/srv/fs/projects/tree", &[("smbgw-quota", "10M"), ("smbgw-access", "ro:anna")]);
    let params = json!({"id": "lab", "section": wanted, "defer": true});
    assert_eq!(run(&host, "share.update", params, None).expect("accepted")["state"], "recorded");
    worker(&host, &wanted);
    let status = context(&host).query("status", &json!({"id": "lab"})).expect("status");
    assert!(warnings(&status).contains("could not be carried out"), "{status}");
    let walks = |host: &SimHost| host.world().files.text(common::RECORD).len();
    let before = walks(&host);
    worker(&host, &wanted);
    assert_eq!(walks(&host), before);
    host.change(|w| w.files.put_project("/srv/fs/projects/tree/deep", Project::NONE));
    host.pass(Duration::from_secs(3600));
    worker(&host, &wanted);
    let status = context(&host).query("status", &json!({"id": "lab"})).expect("status");
    assert!(!warnings(&status).contains("could not be carried out"), "{status}");
    assert_eq!(project(&host).1, 10 * MIB);
}

#[test]
fn limits_of_users_drift_come_back_and_are_never_recorded_unset() {
    let host = node();
    let more = [("username", "anna"), ("smbgw-user-quota", "anna=1M,ben=20M")];
    let wanted = section("/srv/fs/users", &more);
    create(&host, "lab", "/srv/fs/users", &more).expect("lab");
    let anna = *users(&host, "/srv/fs/users").keys().next().expect("anna");
    // An administrator changes one: said, and put back.
    let change = |host: &SimHost, limits: Option<BTreeMap<u32, u64>>| {
        host.change(|w| w.files.mount_mut("/srv/fs/users").expect("a mount").users = limits);
    };
    change(&host, Some(BTreeMap::from([(anna, 5 * MIB)])));
    let status = context(&host).query("status", &json!({"id": "lab", "fresh": true})).expect("status");
    assert!(status["drift"].to_string().contains("the limit of user anna is 5 MiB instead of 1 MiB"), "{status}");
    worker(&host, &wanted);
    assert_eq!(users(&host, "/srv/fs/users"), BTreeMap::from([(anna, MIB)]));
    // Switched off while ben comes: nothing is recorded that was not set.
    change(&host, None);
    run(&host, "user.create", json!({"name": "ben"}), Some(common::PASSWORD)).expect("ben");
    worker(&host, &wanted);
    let status = context(&host).query("status", &json!({"id": "lab", "fresh": true})).expect("status");
    assert!(status["drift"].to_string().contains("user anna is not limited"), "{status}");
    change(&host, Some(BTreeMap::new()));
    host.pass(Duration::from_secs(3600));
    worker(&host, &wanted);
    assert_eq!(users(&host, "/srv/fs/users").values().copied().collect::<Vec<_>>(), [MIB, 20 * MIB]);
}

#[test]
fn a_limit_of_a_user_from_before_us_comes_back() {
    let host = node();
    create(&host, "office", "/srv/office", &[("username", "anna")]).expect("office");
    let record: Value = serde_json::from_str(&host.world().files.text(common::RECORD)).expect("a record");
    let anna = u32::try_from(record["users"]["anna"]["uid"].as_u64().expect("a number")).expect("small");
    let before = Some(BTreeMap::from([(anna, 7 * MIB)]));
    host.change(|w| w.files.mount_mut("/srv/fs/users").expect("a mount").users = before.clone());
    create(&host, "lab", "/srv/fs/users", &[("smbgw-access", "rw:anna"), ("smbgw-user-quota", "anna=1M")]).expect("lab");
    assert_eq!(users(&host, "/srv/fs/users"), BTreeMap::from([(anna, MIB)]));
    run(&host, "share.delete", json!({"id": "lab"}), None).expect("removed");
    assert_eq!(Some(users(&host, "/srv/fs/users")), before);
}

#[test]
fn without_zfs_nothing_is_guessed() {
    let host = node();
    host.change(|w| w.installed.remove(&Program::Zfs));
    let e = limited(&host, "/srv/fs/dataset", "10M").expect_err("no zfs");
    assert!(e.remedy_text().is_some_and(|r| r.contains("zfsutils-linux")), "{:?}", e.to_doc());
}
