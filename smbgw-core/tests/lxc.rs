// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shares in containers on a simulated node of Proxmox VE: whose a container is, what survives it, what is left to the worker, and what a guest
//! that lies can do. Shown as behaviour.
#![allow(clippy::disallowed_methods)]

mod common;

use std::time::Duration;

use common::{
    OFFICE, PASSWORD, bare_proxmox, context, create_lxc, differences, forget_empty_record, furnished_lxc, lxc, names, on_node,
    proxmox, reconcile, run, sections, status, type_in,
};
use serde_json::{Value, json};
use smbgw_core::effect::Program;
use smbgw_core::error::Kind;
use smbgw_core::gateway::Progress;
use smbgw_core::host::sim::{Death, Fault, SimHost, Trouble};

const TEMPLATE: &str = "local:vztmpl/smbgw-gateway-trixie_first_amd64.tar.zst";

fn conf(vmid: u32) -> String {
    format!("/etc/pve/nodes/pve1/lxc/{vmid}.conf")
}

fn furnished() -> SimHost {
    let host = proxmox();
    furnished_lxc(&host);
    host
}

fn record(host: &SimHost) -> Value {
    serde_json::from_str(&host.world().files.text(OFFICE)).expect("a record")
}

fn pct(host: &SimHost, words: &[&str]) -> String {
    type_in(host, Program::Pct, words).unwrap_or_else(|e| panic!("pct {words:?}: {e}"))
}

/// Somebody else's container, running.
fn foreign(host: &SimHost, vmid: &str, more: &[&str]) {
    pct(
        host,
        &[&["create", vmid, TEMPLATE, "--rootfs", "local-lvm:2", "--net0", "name=eth0,bridge=vmbr0,ip=dhcp"], more].concat(),
    );
    pct(host, &["start", vmid]);
}

fn destroy(host: &SimHost, vmid: &str) {
    pct(host, &["destroy", vmid, "--force", "1", "--purge", "1"]);
}

/// Everything of a container that its owner can see.
fn untouched(before: &SimHost, after: &SimHost, vmid: u32) {
    let (a, b) = (before.world(), after.world());
    assert_eq!(a.files.text(conf(vmid)), b.files.text(conf(vmid)));
    assert_eq!(a.guests.get(&vmid), b.guests.get(&vmid), "container {vmid}");
}

fn can(host: &SimHost, vmid: u32, user: &str, share: &str) -> bool {
    host.within(vmid).connect(user, PASSWORD, share).is_ok()
}

// ---- whose a container is ----------------------------------------------------------------------------------------------

#[test]
fn a_foreign_container_of_the_same_name_is_left_alone_through_the_whole_life_of_ours() {
    let host = proxmox();
    foreign(&host, "100", &["--hostname", "office", "--tags", "smbgw"]);
    let before = host.snapshot();
    furnished_lxc(&host);
    assert_eq!(record(&host)["vmid"], 101);
    assert!(can(&host, 101, "anna", "office"));
    for op in ["gateway.stop", "gateway.start", "gateway.restart"] {
        run(&host, op, json!({"name": "office"}), None).expect(op);
    }
    run(&host, "share.delete", json!({"id": "office"}), None).expect("deleted");
    untouched(&before, &host, 100);
    assert!(!host.world().guests.contains_key(&101));
}

#[test]
fn a_foreign_container_that_got_our_number_is_left_alone_and_ours_is_built_under_another() {
    let host = furnished();
    destroy(&host, "100");
    foreign(&host, "100", &["--hostname", "mail"]);
    let before = host.snapshot();
    reconcile(&host, &sections(&host)).expect("reconciled");
    untouched(&before, &host, 100);
    assert_eq!(record(&host)["vmid"], 101);
    assert!(can(&host, 101, "anna", "office"));
    run(&host, "share.delete", json!({"id": "office"}), None).expect("deleted");
    untouched(&before, &host, 100);
}

#[test]
fn without_a_shares_section_nothing_of_a_number_that_is_somebody_elses_by_now_is_removed() {
    let host = furnished();
    destroy(&host, "100");
    foreign(&host, "100", &["--hostname", "mail"]);
    let before = host.snapshot();
    run(&host, "share.delete", json!({"id": "office"}), None).expect("deleted");
    untouched(&before, &host, 100);
}

#[test]
fn a_copy_with_our_tag_is_left_alone_while_ours_lives() {
    let host = furnished();
    let uuid = record(&host)["uuid"].as_str().expect("a uuid").to_owned();
    foreign(&host, "205", &["--tags", &format!("smbgw;smbgw-{uuid}")]);
    let before = host.snapshot();
    reconcile(&host, &sections(&host)).expect("reconciled");
    run(&host, "gateway.restart", json!({"name": "office"}), None).expect("restarted");
    run(&host, "share.delete", json!({"id": "office"}), None).expect("deleted");
    untouched(&before, &host, 205);
    assert!(!host.world().guests.contains_key(&100));
}

#[test]
fn a_renumbered_container_is_reported_not_duplicated_and_can_be_adopted() {
    let host = furnished();
    pct(&host, &["stop", "100"]);
    host.change(|w| {
        let (text, guest) = (w.files.text(conf(100)), w.guests.remove(&100).expect("ours"));
        w.files.take(conf(100));
        w.files.put(conf(150), text, 0o640, 0, 33);
        w.guests.insert(150, guest);
    });
    let all = sections(&host);
    let said = reconcile(&host, &all).expect("reconciled");
    assert!(said["warnings"].to_string().contains("container 150 on node pve1 carries its mark"), "{said}");
    assert!(said["warnings"].to_string().contains("gateway adopt office 150"), "{said}");
    let e = run(&host, "share.repair", json!({"id": "office"}), None).expect_err("a human has to tell which it is");
    assert_eq!(e.kind(), Kind::Drift, "{e}");
    assert_eq!(host.world().guests.keys().copied().collect::<Vec<_>>(), [150], "no second one");
    let wrong = run(&host, "gateway.adopt", json!({"name": "office", "vmid": 151}), None).expect_err("no such container");
    assert_eq!(wrong.kind(), Kind::Conflict, "{wrong}");
    run(&host, "gateway.adopt", json!({"name": "office", "vmid": 150}), None).expect("adopted");
    reconcile(&host, &all).expect("reconciled");
    assert_eq!(record(&host)["vmid"], 150);
    assert!(can(&host, 150, "anna", "office"));
}

#[test]
fn a_container_without_our_tag_cannot_be_adopted() {
    let host = furnished();
    destroy(&host, "100");
    foreign(&host, "150", &[]);
    let before = host.snapshot();
    let e = run(&host, "gateway.adopt", json!({"name": "office", "vmid": 150}), None).expect_err("not ours");
    assert!(e.to_string().contains("150 does not carry the mark"), "{e}");
    untouched(&before, &host, 150);
}

#[test]
fn a_container_that_was_moved_to_another_node_is_reported_and_not_built_again() {
    let host = furnished();
    host.change(|w| {
        let text = w.files.text(conf(100));
        w.files.take(conf(100));
        w.files.put("/etc/pve/nodes/pve2/lxc/100.conf", text, 0o640, 0, 33);
        w.guests.remove(&100);
    });
    let said = reconcile(&host, &sections(&host)).expect("reconciled");
    assert!(said["warnings"].to_string().contains("moved to node pve2"), "{said}");
    assert!(host.world().guests.is_empty());
    assert!(status(&host, "office")["warnings"].to_string().contains("100"), "{}", status(&host, "office"));
}

/// The owner's container is destroyed, and the other node is asked for everything that could build another.
#[test]
fn a_node_that_does_not_own_a_gateway_never_builds_it() {
    let host = proxmox();
    let all = its_section(&deferred(&host));
    let nothing_here = |when: &str| {
        assert!(host.world().guests.is_empty(), "{when}");
        assert_eq!(record(&host)["node"], "pve1", "{when}");
        assert_eq!(record(&host)["vmid"], Value::Null, "{when}");
    };
    for params in [json!({"sections": all}), json!({"sections": all, "ids": ["office"]})] {
        on_node(&host, "pve2", "reconcile", params).expect("reconciled");
        nothing_here("a reconcile");
    }
    for (op, params) in [
        ("share.repair", json!({"id": "office"})),
        ("gateway.start", json!({"name": "office"})),
        ("user.create", json!({"name": "carl", "gateway": "office"})),
    ] {
        let e = on_node(&host, "pve2", op, params).expect_err(op);
        assert!(e.kind() == Kind::Conflict && e.to_string().contains("pve1"), "{op}: {e}");
        nothing_here(op);
    }
    reconcile(&host, &all).expect("its owner builds it");
    assert!(can(&host, 100, "anna", "office"));
}

#[test]
fn a_container_that_was_moved_to_a_node_its_shares_name_is_that_nodes_from_then_on() {
    for (nodes, owner) in [("pve1,pve2", "pve2"), ("pve1", "pve1")] {
        for ids in [json!(null), json!(["office"])] {
            let host = furnished();
            let mut r = record(&host);
            for e in r["shares"].as_object_mut().expect("shares").values_mut() {
                e["section"]["nodes"] = json!(nodes);
            }
            host.change(|w| {
                let text = w.files.text(conf(100));
                w.files.take(conf(100));
                w.files.put("/etc/pve/nodes/pve2/lxc/100.conf", text, 0o640, 0, 33);
                w.files.put_link("/etc/pve/lxc", "nodes/pve2/lxc");
                w.files.put(OFFICE, r.to_string(), 0o600, 0, 0);
            });
            // What it finds in there is not the question: the machine under the test is pve1.
            let _ = on_node(&host, "pve2", "reconcile", json!({"sections": sections(&host), "ids": ids}));
            assert_eq!(record(&host)["node"], owner, "{nodes} {ids}");
        }
    }
}

/// `pct destroy` takes all volumes of a container along, whoever made them.
#[test]
fn a_container_with_somebody_elses_volume_or_protection_is_not_destroyed() {
    for (key, value) in
        [("mp7", "local-lvm:vm-100-disk-1,mp=/mnt/mine,size=1G"), ("unused0", "local-lvm:vm-100-disk-1"), ("protection", "1")]
    {
        let host = furnished();
        run(&host, "template.build", json!({"name": "second"}), None).expect("built");
        host.change(|w| {
            let text = w.files.text(conf(100));
            w.files.put(conf(100), format!("{text}{key}: {value}\n"), 0o640, 0, 33);
        });
        for (op, params) in [("gateway.upgrade", json!({"name": "office"})), ("share.delete", json!({"id": "office"}))] {
            let before = host.snapshot();
            let e = run(&host, op, params, None).expect_err(op);
            assert!(
                e.kind() == Kind::Conflict && serde_json::to_string(&e.to_doc()).expect("JSON").contains("pct "),
                "{op} {key}: {e}"
            );
            untouched(&before, &host, 100);
            assert!(can(&host, 100, "anna", "office"), "{op} {key}");
        }
    }
}

// ---- making one --------------------------------------------------------------------------------------------------------

#[test]
fn two_gateways_have_nothing_in_common() {
    let host = furnished();
    create_lxc(&host, "lab", "/srv/lab", &[("username", "anna")]).expect("lab");
    let w = host.world();
    assert_eq!(w.guests.keys().copied().collect::<Vec<_>>(), [100, 101]);
    assert_ne!(w.guests[&100].world.local_sid, w.guests[&101].world.local_sid);
    run(&host, "user.remove", json!({"name": "anna", "gateway": "lab"}), None).expect("removed there");
    assert!(can(&host, 100, "anna", "office") && !can(&host, 101, "anna", "lab"));
    run(&host, "gateway.stop", json!({"name": "lab"}), None).expect("stopped");
    assert!(can(&host, 100, "anna", "office"));
    run(&host, "share.delete", json!({"id": "lab"}), None).expect("deleted");
    assert_eq!(host.world().guests.keys().copied().collect::<Vec<_>>(), [100]);
}

#[test]
fn settings_that_contradict_another_section_are_refused_and_both_are_named() {
    let host = proxmox();
    create_lxc(&host, "office", "/srv/office", &[("username", "anna"), ("smbgw-memory", "512")]).expect("office");
    let before = host.snapshot();
    let e =
        create_lxc(&host, "lab", "/srv/lab", &[("smbgw-gateway", "office"), ("smbgw-memory", "256")]).expect_err("they differ");
    let p = e.problems().iter().find(|p| p.property == "smbgw-memory").expect("named");
    assert!(p.message.contains("'lab' says 256") && p.message.contains("'office' says 512"), "{}", p.message);
    assert_eq!(differences(&before, &host), Vec::<String>::new());
}

#[test]
fn without_a_template_nothing_is_made() {
    let host = bare_proxmox();
    let before = host.snapshot();
    let e = create_lxc(&host, "office", "/srv/office", &[("username", "anna")]).expect_err("no template");
    assert!(e.remedy_text().is_some_and(|r| r.contains("template build")), "{e}");
    assert!(host.commands().iter().all(|c| !c.contains("pct create")));
    assert_eq!(differences(&before, &host), Vec::<String>::new());
}

#[test]
fn pruning_keeps_what_is_used_and_the_newest_that_is_there() {
    let cache = |host: &SimHost| names(&host.world(), "/var/lib/vz/template/cache");
    let host = furnished();
    for name in ["second", "third", "fourth"] {
        host.pass(Duration::from_secs(60));
        run(&host, "template.build", json!({"name": name}), None).expect("built");
    }
    let gone = cache(&host).into_iter().find(|f| f.contains("fourth") && f.ends_with(".zst")).expect("its archive");
    host.change(|w| w.files.take(format!("/var/lib/vz/template/cache/{gone}")));
    run(&host, "template.prune", json!({"keep": 1}), None).expect("pruned");
    let left: Vec<String> = cache(&host);
    for (name, stays) in [("first", true), ("second", false), ("third", true), ("fourth", false)] {
        assert_eq!(left.iter().any(|f| f.contains(name)), stays, "{name}: {left:?}");
    }
}

#[test]
fn an_archive_that_is_not_what_its_marker_says_makes_no_container() {
    let host = proxmox();
    let archive = "/var/lib/vz/template/cache/smbgw-gateway-trixie_first_amd64.tar.zst";
    host.change(|w| w.files.put(archive, w.files.text(archive) + "[\"evil\",\"f\",\"\",493,0,0]\n", 0o644, 0, 0));
    let before = host.snapshot();
    let e = create_lxc(&host, "office", "/srv/office", &[("username", "anna")]).expect_err("changed");
    assert!(e.to_string().contains("SHA-256"), "{e}");
    assert!(host.commands().iter().all(|c| !c.contains("pct create")));
    assert_eq!(differences(&before, &host), Vec::<String>::new());
}

#[test]
fn a_number_is_in_the_record_before_the_first_command_that_uses_it() {
    let host = proxmox();
    host.arm_command(Program::Pct, "create", 1, Trouble::Hangs);
    let mut run =
        context(&host).begin("share.create", &json!({"id": "office", "section": lxc("/srv/office", &[])})).expect("begun");
    while !host.commands().iter().any(|c| c.starts_with("pct create")) {
        run.step().expect("a step");
    }
    let used = host.commands().iter().find_map(|c| c.strip_prefix("pct create ")?.split(' ').next().map(str::to_owned));
    assert_eq!(record(&host)["vmid"].to_string(), used.expect("a number"));
    assert!(host.world().guests.is_empty());
}

/// Runs an operation, and all of another gateway's creation at the moment that `until` names.
fn second_one_between(host: &SimHost, op: &str, params: &Value, password: Option<&str>, until: fn(&Value) -> bool) -> Vec<Value> {
    let mut run = context(host).begin(op, params).expect("begun");
    if let Some(p) = password {
        run.secret("password", p.as_bytes()).expect("taken");
    }
    let mut events = Vec::new();
    let mut other = false;
    loop {
        let v = match run.step().expect("a step") {
            Progress::Working(v) | Progress::Done(v) => v,
            Progress::Failed(_, e) => panic!("{op}: {:#?}", e.to_doc()),
        };
        let done = v.get("result").is_some();
        events.extend(v["events"].as_array().cloned().unwrap_or_default());
        if !other && events.iter().any(until) {
            other = true;
            create_lxc(host, "lab", "/srv/lab", &[("username", "bert"), ("smbgw-access", "rw:bert")]).expect("created");
        }
        if done {
            assert!(other, "{events:#?}");
            return events;
        }
    }
}

#[test]
fn of_two_creates_that_chose_the_same_number_the_later_one_takes_another() {
    let host = proxmox();
    let params = json!({"id": "office", "section": lxc("/srv/office", &[("username", "anna"), ("smbgw-access", "rw:anna")])});
    let planned = |e: &Value| e["event"] == "planned" && e["phase"] == "guest";
    let events = second_one_between(&host, "share.create", &params, Some(PASSWORD), planned);
    let again: Vec<_> = events.iter().filter(|e| e["event"] == "replanned").map(|e| &e["because"]).collect();
    assert_eq!(again, ["guest/claim"]);
    assert_eq!(record(&host)["vmid"], 101);
    assert!(can(&host, 100, "bert", "lab") && can(&host, 101, "anna", "office"));
}

#[test]
fn whoever_comes_while_a_number_is_being_taken_waits_for_it() {
    let host = proxmox();
    let lock = std::path::Path::new("/run/smbgw/lock/@numbers");
    let taken = || (&host as &dyn smbgw_core::host::Host).lock(lock, "somebody else", Duration::ZERO).expect("free");
    let params = json!({"id": "office", "section": lxc("/srv/office", &[])});
    let go = |run: &mut smbgw_core::gateway::Run, while_held: bool| -> Result<Value, smbgw_core::error::Error> {
        for n in 0.. {
            match run.step().expect("a step") {
                Progress::Working(_) if while_held && n > 40 => return Ok(Value::Null),
                Progress::Working(_) => {}
                Progress::Done(v) => return Ok(v["result"].clone()),
                Progress::Failed(_, e) => return Err(e),
            }
        }
        unreachable!()
    };
    let held = taken();
    let mut run = context(&host).begin("share.create", &params).expect("begun");
    assert_eq!(go(&mut run, true).expect("it waits"), Value::Null);
    assert_eq!(record(&host)["vmid"], Value::Null, "it has no number yet");
    drop(held);
    assert_eq!(go(&mut run, false).expect("made")["state"], "ready");
    assert!(host.world().guests.contains_key(&100));
    drop(taken());

    let _held = taken();
    let params = json!({"id": "lab", "section": lxc("/srv/lab", &[])});
    let e = go(&mut context(&host).begin("share.create", &params).expect("begun"), false).expect_err("not for ever");
    assert_eq!(e.kind(), Kind::Busy);
    assert!(!host.world().guests.contains_key(&101));
}

#[test]
fn an_upgrade_whose_number_was_taken_meanwhile_takes_another() {
    let host = furnished();
    run(&host, "template.build", json!({"name": "second"}), None).expect("built");
    let uuid = record(&host)["uuid"].clone();
    let retired = |e: &Value| e["event"] == "done" && e["step"] == "guest/retire";
    let events = second_one_between(&host, "gateway.upgrade", &json!({"name": "office"}), None, retired);
    assert!(events.iter().any(|e| e["event"] == "replanned" && e["because"] == "guest/claim"), "{events:#?}");
    let r = record(&host);
    assert_eq!((&r["vmid"], &r["retired"], &r["uuid"]), (&json!(102), &Value::Null, &uuid));
    assert_eq!(host.world().guests.keys().copied().collect::<Vec<_>>(), [101, 102]);
}

#[test]
fn limits_that_do_not_take_effect_fail_the_create_and_leave_nothing() {
    let cases: [(&str, &str, &str, Kind); 3] = [
        ("/proc/cmdline", "root=/dev/sda1 swapaccount=0\n", "swap", Kind::Unsafe),
        ("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory\n", "processes", Kind::Unsafe),
        // Known before anything is made.
        ("/sys/module/apparmor/parameters/enabled", "N\n", "AppArmor", Kind::Unsupported),
    ];
    for (file, text, name, kind) in cases {
        let host = proxmox();
        host.change(|w| w.files.put(file, text, 0o444, 0, 0));
        let before = host.snapshot();
        let e = create_lxc(&host, "office", "/srv/office", &[("username", "anna")]).expect_err(name);
        assert_eq!(e.kind(), kind, "{name}: {e}");
        assert!(smbgw_core::error::chain(&e).contains(name), "{name}: {e}");
        assert_eq!(differences(&before, &host), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_container_that_is_not_confined_any_more_is_not_started_in_earnest() {
    let host = furnished();
    run(&host, "gateway.stop", json!({"name": "office"}), None).expect("stopped");
    host.change(|w| {
        let text = w.files.text(conf(100));
        w.files.put(conf(100), format!("{text}lxc.apparmor.profile: unconfined\n"), 0o640, 0, 33);
    });
    let e = run(&host, "gateway.start", json!({"name": "office"}), None).expect_err("unconfined");
    assert_eq!(e.kind(), Kind::Unsafe, "{e}");
    assert!(smbgw_core::error::chain(&e).contains("AppArmor"), "{e}");
    assert!(!host.world().guests[&100].running());
}

#[test]
fn what_is_asked_for_is_in_the_container_and_in_force() {
    let host = proxmox();
    host.change(|w| w.files.put("/sys/class/net/vmbr1/bridge/stp_state", "0\n", 0o444, 0, 0));
    let asked = [
        ("nodes", "pve1,pve2"),
        ("shared", "1"),
        ("smbgw-vmid", "150"),
        ("smbgw-memory", "300"),
        ("smbgw-swap", "64"),
        ("smbgw-cores", "2"),
        ("smbgw-processes", "400"),
        ("smbgw-rootfs", "local-lvm:3"),
        ("smbgw-net", "bridge=vmbr1,ip=192.0.2.10/24,gw=192.0.2.1,ip6=none,tag=7,mtu=1400,firewall=1"),
    ];
    let said = create_lxc(&host, "office", "/srv/office", &asked).expect("created");
    assert!(!said["warnings"].to_string().contains("not marked shared"), "{said}");
    let text = host.world().files.text(conf(150));
    for line in ["memory: 300", "swap: 64", "cores: 2", "lxc.cgroup2.pids.max: 400", "onboot: 0", "unprivileged: 1"] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }
    let value = |key: &str| text.lines().find(|l| l.starts_with(key)).unwrap_or_default().to_owned();
    for part in ["bridge=vmbr1", "ip=192.0.2.10/24", "gw=192.0.2.1", "tag=7", "mtu=1400", "firewall=1"] {
        assert!(value("net0:").split([',', ' ']).any(|p| p == part), "{part}: {text}");
    }
    assert!(value("rootfs:").contains("size=3G"), "{text}");
    assert!(value("mp0:").split(',').any(|p| p == "shared=1"), "so that it can be migrated: {text}");
}

#[test]
fn a_tree_on_several_nodes_that_is_not_shared_is_warned_about() {
    let host = proxmox();
    let said = create_lxc(&host, "office", "/srv/office", &[("nodes", "pve1,pve2")]).expect("created");
    assert!(said["warnings"].to_string().contains("cannot be migrated"), "{said}");
    assert!(!host.world().files.text(conf(100)).contains("shared=1"));
}

#[test]
fn a_number_that_another_guest_has_is_refused() {
    let host = proxmox();
    foreign(&host, "150", &[]);
    let before = host.snapshot();
    let e = create_lxc(&host, "office", "/srv/office", &[("smbgw-vmid", "150")]).expect_err("taken");
    assert!(e.to_string().contains("150"), "{e}");
    assert_eq!(differences(&before, &host), Vec::<String>::new());
}

#[test]
fn a_number_that_another_gateway_comes_back_to_is_refused() {
    let host = furnished();
    destroy(&host, "100");
    let e = create_lxc(&host, "lab", "/srv/lab", &[("smbgw-vmid", "100")]).expect_err("taken");
    assert!(e.to_string().contains("100 is the number of another gateway's container"), "{e}");
    create_lxc(&host, "lab", "/srv/lab", &[]).expect("another number is free");
    reconcile(&host, &sections(&host)).expect("reconciled");
    assert_eq!(host.world().guests.keys().copied().collect::<Vec<_>>(), [100, 101]);
}

fn older_pct(host: &SimHost) {
    host.change(|w| {
        let status = w.files.text("/var/lib/dpkg/status").replace("6.1.6", "5.2.4");
        w.files.put("/var/lib/dpkg/status", status, 0o644, 0, 0);
        w.files.put("/srv/office/2025/report", "text", 0o640, 1000, 33);
    });
}

#[test]
fn a_populated_tree_without_mapped_numbers_is_refused_and_a_shift_makes_it_possible() {
    let host = proxmox();
    older_pct(&host);
    let before = host.snapshot();
    let e = create_lxc(&host, "office", "/srv/office", &[("username", "anna")]).expect_err("populated");
    assert!(e.problems()[0].message.contains("pve-smbgateway shift /srv/office "), "{e}");
    assert_eq!(differences(&before, &host), Vec::<String>::new());

    run(&host, "tree.shift", json!({"path": "/srv/office"}), None).expect("shifted");
    let owner = |host: &SimHost| host.world().files.get("/srv/office/2025/report").map(|n| (n.uid, n.gid));
    assert_eq!(owner(&host), Some((101_000, 100_033)));
    create_lxc(&host, "office", "/srv/office", &[("username", "anna")]).expect("created");
    assert!(can(&host, 100, "anna", "office"));
    let served = run(&host, "tree.shift", json!({"path": "/srv/office", "back": true}), None).expect_err("it is served");
    assert_eq!(served.kind(), Kind::Conflict);
    run(&host, "share.delete", json!({"id": "office"}), None).expect("deleted");
    run(&host, "tree.shift", json!({"path": "/srv/office", "back": true}), None).expect("back");
    forget_empty_record(&before, &host);
    assert_eq!(differences(&before, &host), Vec::<String>::new());
}

#[test]
fn a_shift_that_was_cut_short_goes_on() {
    let host = proxmox();
    older_pct(&host);
    // One half is done, as after a death in the middle of the walk.
    host.change(|w| w.files.put("/srv/office/2025/other", "text", 0o640, 101_000, 100_033));
    host.arm_append(4, Fault::DiesAfter(Death::PowerCut));
    run(&host, "tree.shift", json!({"path": "/srv/office"}), None).expect_err("dead");
    host.reboot();
    reconcile(&host, &json!({})).expect("reconciled");
    for file in ["report", "other"] {
        let node = host.world().files.get(format!("/srv/office/2025/{file}")).cloned().expect("kept");
        assert_eq!((node.uid, node.gid), (101_000, 100_033), "{file}");
    }
}

#[test]
fn a_new_tree_without_mapped_numbers_is_served_with_shifted_ones() {
    let host = proxmox();
    older_pct(&host);
    create_lxc(&host, "lab", "/srv/lab", &[("username", "anna")]).expect("created");
    assert!(host.world().files.text(conf(100)).lines().any(|l| l.starts_with("mp0: /srv/lab,") && !l.contains("idmap")));
    host.within(100).connect("anna", PASSWORD, "lab").expect("it works");
    let root = host.world().files.get("/srv/lab").cloned().expect("there");
    assert_eq!((root.uid, root.gid), (100_000, 108_002));
    run(&host, "share.delete", json!({"id": "lab"}), None).expect("deleted");
    let root = host.world().files.get("/srv/lab").cloned().expect("there");
    assert_eq!((root.uid, root.gid, root.mode), (0, 0, 0o755));
}

// ---- keeping it --------------------------------------------------------------------------------------------------------

#[test]
fn a_container_that_was_deleted_by_hand_is_built_again_with_the_same_users_numbers_sid_and_passwords() {
    let host = furnished();
    let old = host.world().guests[&100].world.clone();
    let mac = record(&host)["hwaddr"].clone();
    destroy(&host, "100");
    reconcile(&host, &sections(&host)).expect("reconciled");
    let new = host.world().guests[&100].world.clone();
    assert_eq!(old.local_sid, new.local_sid);
    let accounts = |w: &smbgw_core::host::sim::World| -> Vec<(String, u32, String)> {
        w.passdb.iter().map(|(n, a)| (n.clone(), a.rid, a.nt_hash.clone())).collect()
    };
    assert_eq!(accounts(&old), accounts(&new));
    let sorted = |w: &smbgw_core::host::sim::World| {
        let mut lines: Vec<String> = w.files.text("/etc/passwd").lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&old), sorted(&new));
    assert!(can(&host, 100, "anna", "office"));
    assert!(host.world().files.text(conf(100)).contains(mac.as_str().expect("an address")));
}

#[test]
fn what_was_stopped_on_purpose_is_not_started_by_the_worker() {
    let host = furnished();
    let all = sections(&host);
    run(&host, "gateway.stop", json!({"name": "office"}), None).expect("stopped");
    for _ in 0..2 {
        host.pass(Duration::from_secs(60));
        reconcile(&host, &all).expect("reconciled");
    }
    assert!(!host.world().guests[&100].running());
    let doc = status(&host, "office");
    assert!(doc["warnings"].to_string().contains("gateway start office"), "{doc}");
    run(&host, "gateway.start", json!({"name": "office"}), None).expect("started");
    assert!(can(&host, 100, "anna", "office"));
    pct(&host, &["stop", "100"]);
    reconcile(&host, &all).expect("reconciled");
    assert!(host.world().guests[&100].running(), "one that merely ended is started");
}

#[test]
fn the_mount_of_a_removed_share_stays_until_the_next_start_and_says_so() {
    let host = furnished();
    create_lxc(&host, "lab", "/srv/lab", &[("smbgw-gateway", "office"), ("smbgw-access", "rw:anna")]).expect("lab");
    let result = run(&host, "share.delete", json!({"id": "lab"}), None).expect("deleted");
    assert!(result["warnings"].to_string().contains("gateway restart office"), "{result}");
    assert!(!can(&host, 100, "anna", "lab"), "but nobody is let in");
    assert!(host.world().guests[&100].mounts.contains_key("mp1"));
    assert!(status(&host, "office")["warnings"].to_string().contains("next start"), "{}", status(&host, "office"));
    run(&host, "gateway.restart", json!({"name": "office"}), None).expect("restarted");
    assert!(!host.world().guests[&100].mounts.contains_key("mp1"));
    assert!(!host.world().files.text(conf(100)).contains("/srv/lab"));
    assert_eq!(status(&host, "office")["container"]["pending"], json!([]));
}

#[test]
fn a_power_cut_ends_containers_and_the_worker_starts_ours() {
    let host = furnished();
    host.die(Death::PowerCut);
    host.reboot();
    assert!(!host.world().guests[&100].running());
    reconcile(&host, &sections(&host)).expect("reconciled");
    assert!(can(&host, 100, "anna", "office"));
}

#[test]
fn a_container_under_the_ha_manager_is_started_and_stopped_by_it_alone() {
    let host = furnished();
    type_in(&host, Program::HaManager, &["add", "ct:100"]).expect("added");
    let from = host.commands().len();
    for op in ["gateway.stop", "gateway.start", "gateway.restart"] {
        run(&host, op, json!({"name": "office"}), None).unwrap_or_else(|e| panic!("{op}: {:#?}", e.to_doc()));
        host.pass(Duration::from_secs(30));
        assert_eq!(host.world().guests[&100].running(), op != "gateway.stop", "{op}");
    }
    let typed = host.commands()[from..].to_vec();
    assert!(typed.iter().any(|c| c == "ha-manager set ct:100 --state stopped"), "{typed:?}");
    assert!(!typed.iter().any(|c| ["pct start", "pct shutdown", "pct stop"].iter().any(|p| c.starts_with(p))), "{typed:?}");
    let e = run(&host, "gateway.upgrade", json!({"name": "office"}), None).expect_err("it would start the old one again");
    assert_eq!(e.kind(), Kind::Conflict);
}

#[test]
fn an_upgrade_keeps_users_sid_address_and_data() {
    let host = furnished();
    host.change(|w| w.files.put("/srv/office/report", "text", 0o660, 0, 8002));
    let (sid, mac) = (host.world().guests[&100].world.local_sid.clone(), record(&host)["hwaddr"].clone());
    run(&host, "template.build", json!({"name": "second"}), None).expect("built");
    run(&host, "gateway.upgrade", json!({"name": "office"}), None).unwrap_or_else(|e| panic!("{:#?}", e.to_doc()));
    let w = host.world();
    assert_eq!(w.guests.keys().copied().collect::<Vec<_>>(), [101]);
    assert_eq!(w.guests[&101].world.local_sid, sid);
    assert!(w.files.text(conf(101)).contains(mac.as_str().expect("an address")));
    assert_eq!(w.guests[&101].world.files.text("/etc/smbgw-template"), "second\n");
    assert!(can(&host, 101, "anna", "office"));
    assert_eq!(w.guests[&101].world.passdb.keys().collect::<Vec<_>>(), ["anna", "ben"]);
    assert_eq!(w.files.text("/srv/office/report"), "text");
    assert_eq!(record(&host)["retired"], Value::Null);
}

#[test]
fn an_upgrade_of_a_stopped_gateway_starts_it_for_good() {
    let host = furnished();
    run(&host, "gateway.stop", json!({"name": "office"}), None).expect("stopped");
    run(&host, "template.build", json!({"name": "second"}), None).expect("built");
    run(&host, "gateway.upgrade", json!({"name": "office"}), None).expect("upgraded");
    assert!(can(&host, 101, "anna", "office"));
    pct(&host, &["stop", "101"]);
    reconcile(&host, &sections(&host)).expect("reconciled");
    assert!(host.world().guests[&101].running(), "after a reboot it runs as well");
}

#[test]
fn an_upgrade_makes_no_container_that_nothing_confines() {
    let host = furnished();
    run(&host, "template.build", json!({"name": "second"}), None).expect("built");
    host.change(|w| w.files.put("/sys/module/apparmor/parameters/enabled", "N\n", 0o444, 0, 0));
    let before = host.snapshot();
    let e = run(&host, "gateway.upgrade", json!({"name": "office"}), None).expect_err("AppArmor is off");
    assert_eq!(e.kind(), Kind::Unsupported);
    assert_eq!(differences(&before, &host), Vec::<String>::new());
    assert!(can(&host, 100, "anna", "office"));
}

#[test]
fn an_upgrade_whose_proof_fails_goes_back_to_the_old_container() {
    let host = furnished();
    run(&host, "template.build", json!({"name": "second"}), None).expect("built");
    let before = host.snapshot();
    host.arm_command(Program::Smbclient, "", 1, Trouble::Exits(1, "NT_STATUS_CONNECTION_REFUSED".into()));
    let e = run(&host, "gateway.upgrade", json!({"name": "office"}), None).expect_err("the proof fails");
    assert_ne!(e.kind(), Kind::Stuck, "{:#?}", e.to_doc());
    assert_eq!(differences(&before, &host), Vec::<String>::new());
    assert!(can(&host, 100, "anna", "office"));
}

// ---- left to the worker ------------------------------------------------------------------------------------------------

fn deferred(host: &SimHost) -> Value {
    let params = json!({"id": "office", "section": lxc("/srv/office", &[("username", "anna")]), "defer": true});
    run(host, "share.create", params, Some(PASSWORD)).unwrap_or_else(|e| panic!("{:#?}", e.to_doc()))
}

fn its_section(result: &Value) -> Value {
    let mut s = result["section"].clone();
    s["type"] = json!("smbgateway");
    json!({"office": s})
}

#[test]
fn a_deferred_create_is_built_by_the_worker_once_its_section_is_there() {
    let host = proxmox();
    let result = deferred(&host);
    assert_eq!(result["state"], "provisioning");
    assert!(host.world().guests.is_empty(), "nothing is made in a hook");
    assert_eq!(record(&host)["node"], "pve1");
    let pending = host.world().files.get("/run/smbgw/pending/office").cloned().expect("the password waits");
    assert_eq!((pending.mode, pending.uid), (0o600, 0));
    let doc = status(&host, "office");
    assert_eq!((doc["state"].as_str(), doc["active"].as_bool()), (Some("provisioning"), Some(true)), "{doc}");
    reconcile(&host, &json!({})).expect("too early");
    assert!(host.world().guests.is_empty());
    assert_eq!(status(&host, "office")["state"], "provisioning", "it is still expected");
    reconcile(&host, &its_section(&result)).expect("reconciled");
    assert!(can(&host, 100, "anna", "office"));
    assert_eq!(names(&host.world(), "/run/smbgw/pending"), Vec::<String>::new());
    let files = host.world().files;
    for dir in ["/var/lib/smbgw/ops", "/run/smbgw/status"] {
        for name in names(&host.world(), dir) {
            assert!(!files.text(format!("{dir}/{name}")).contains(PASSWORD), "{dir}/{name}");
        }
    }
}

/// The worker has not yet seen that the section was gone when it is there again.
#[test]
fn a_share_that_is_added_again_right_after_its_removal_is_built() {
    let host = proxmox();
    let all = its_section(&deferred(&host));
    reconcile(&host, &all).expect("reconciled");
    run(&host, "share.delete", json!({"id": "office"}), None).expect("removed");
    assert!(host.world().guests.is_empty());
    reconcile(&host, &all).expect("the section is still there");
    assert!(host.world().guests.is_empty(), "nothing is built from what was removed");
    let all = its_section(&deferred(&host));
    reconcile(&host, &all).expect("reconciled");
    assert_eq!(status(&host, "office")["state"], "ready");
    assert_eq!(host.world().guests.len(), 1);
}

/// Its removal is only recorded yet.
#[test]
fn a_share_whose_removal_waits_for_the_worker_can_be_added_again_only_after_it() {
    let host = proxmox();
    let all = its_section(&deferred(&host));
    reconcile(&host, &all).expect("reconciled");
    run(&host, "share.delete", json!({"id": "office", "defer": true}), None).expect("recorded");
    assert_eq!(status(&host, "office")["state"], "deleting");
    let params = json!({"id": "office", "section": lxc("/srv/office", &[("username", "anna")]), "defer": true});
    let e = run(&host, "share.create", params, Some(PASSWORD)).expect_err("it is still there");
    assert_eq!(e.kind(), Kind::Conflict, "{e}");
    reconcile(&host, &json!({})).expect("the worker removes it");
    assert!(host.world().guests.is_empty());
    let all = its_section(&deferred(&host));
    reconcile(&host, &all).expect("reconciled");
    assert_eq!(status(&host, "office")["state"], "ready");
}

#[test]
fn a_deferred_create_that_fails_is_told_and_tried_again_ever_more_rarely() {
    let host = proxmox();
    let result = deferred(&host);
    let all = its_section(&result);
    let archive = "/var/lib/vz/template/cache/smbgw-gateway-trixie_first_amd64.tar.zst";
    let kept = host.world().files.text(archive);
    host.change(|w| w.files.take(archive));
    let attempts = |host: &SimHost| {
        context(host).query("audit", &json!({"id": "office"})).expect("audit")["entries"].as_array().map_or(0, Vec::len)
    };
    let _ = reconcile(&host, &all);
    let doc = status(&host, "office");
    assert_eq!(doc["state"], "failed", "{doc}");
    assert!(doc["warnings"].to_string().contains("template"), "{doc}");
    let first = attempts(&host);
    host.pass(Duration::from_secs(30));
    let _ = reconcile(&host, &all);
    assert_eq!(attempts(&host), first, "not so soon");
    host.pass(Duration::from_secs(40));
    let _ = reconcile(&host, &all);
    assert!(attempts(&host) > first);
    let second = attempts(&host);
    host.pass(Duration::from_secs(70));
    let _ = reconcile(&host, &all);
    assert_eq!(attempts(&host), second, "twice as long this time");
    host.change(|w| w.files.put(archive, kept, 0o644, 0, 0));
    host.pass(Duration::from_secs(120));
    reconcile(&host, &all).expect("reconciled");
    assert!(can(&host, 100, "anna", "office"), "{}", status(&host, "office"));
}

#[test]
fn a_share_that_waits_to_be_built_can_be_removed() {
    let host = proxmox();
    let before = host.snapshot();
    deferred(&host);
    run(&host, "share.delete", json!({"id": "office", "defer": true}), None).expect("deleted");
    assert_eq!(names(&host.world(), "/run/smbgw/pending"), Vec::<String>::new());
    for _ in 0..2 {
        reconcile(&host, &json!({})).expect("reconciled");
        host.pass(Duration::from_secs(300));
    }
    assert!(host.world().guests.is_empty());
    assert_eq!(context(&host).query("status", &json!({"id": "office"})).expect_err("gone").kind(), Kind::NotFound);
    forget_empty_record(&before, &host);
    assert_eq!(differences(&before, &host), Vec::<String>::new());
}

#[test]
fn a_password_that_nobody_fetched_is_gone_after_an_hour() {
    let host = proxmox();
    deferred(&host);
    host.pass(Duration::from_secs(3700));
    reconcile(&host, &json!({})).expect("reconciled");
    assert_eq!(names(&host.world(), "/run/smbgw/pending"), Vec::<String>::new());
}

// ---- a guest that lies -------------------------------------------------------------------------------------------------

#[test]
fn a_guest_that_answers_nonsense_causes_errors_and_nothing_else() {
    let lies: [&[u8]; 8] = [
        b"",
        b"nonsense",
        b"{\"ok\":[[[[[[[[",
        b"{\"ok\":{\"content\":\"zz\",\"mode\":1,\"uid\":0,\"gid\":0}}",
        b"{\"ok\":-1}",
        b"{\"err\":{\"kind\":\"interrupted\",\"message\":\"the machine is dead\"}}",
        b"\xff\xfe\x00",
        b"{\"ok\":\"../../etc/shadow\"}",
    ];
    let huge = vec![b'a'; (32 << 20) + 1];
    let start = furnished();
    let mut told = 0;
    for lie in lies.into_iter().chain([huge.as_slice()]) {
        for n in [1, 2, 5, 9, 14, 20, 33] {
            let host = start.snapshot();
            host.lie(100, n, lie);
            let what = format!("{:?}… to question {n}", String::from_utf8_lossy(&lie[..lie.len().min(40)]));
            let node = host.world();
            match run(&host, "user.create", json!({"name": "carl"}), Some(PASSWORD)) {
                // Done all the same: the answer was not needed, or the question was never put. Then it is really done.
                Ok(_) => assert!(host.world().guests[&100].world.passdb.contains_key("carl"), "{what}"),
                Err(e) => {
                    assert!(!matches!(e.kind(), Kind::Internal | Kind::Corrupt | Kind::Interrupted), "{what}: {:#?}", e.to_doc())
                }
            }
            told += usize::from(host.armed() == 0);
            // The node itself is as it was but for our own directories and the record.
            let own = ["/run/smbgw", "/var/lib/smbgw", common::RECORDS];
            let (mut a, mut b) = (node.without(&own), host.world().without(&own));
            (a.guests, b.guests) = Default::default();
            assert_eq!(a.differences(&b), Vec::<String>::new(), "{what}");
            // And it is of use again as soon as it answers.
            reconcile(&host, &sections(&host)).unwrap_or_else(|e| panic!("{what}: {:#?}", e.to_doc()));
            run(&host, "share.repair", json!({"id": "office"}), None).unwrap_or_else(|e| panic!("{what}: {:#?}", e.to_doc()));
            assert!(can(&host, 100, "anna", "office"), "{what}");
        }
    }
    assert!(told >= 9 * 5, "only {told} lies were told");
}

/// What cannot be heard is not told as a fact: neither that smbd does not run, nor that a session is over.
#[test]
fn a_guest_that_falls_silent_never_makes_a_session_count_as_ended() {
    let start = furnished();
    start.within(100).connect("anna", PASSWORD, "office").expect("may");
    let open = |host: &SimHost| {
        let smbd = host.world().guests[&100].world.smbd.clone();
        smbd.is_some_and(|s| s.sessions.iter().any(|x| x.user == "anna"))
    };
    assert!(open(&start));
    let (mut n, mut refused) = (0, 0);
    loop {
        n += 1;
        let host = start.snapshot();
        host.lie(100, n, b"");
        match run(&host, "user.disable", json!({"name": "anna"}), None) {
            Ok(_) => assert!(!open(&host), "silent at question {n}: said to be disabled, and works on"),
            Err(e) => {
                refused += 1;
                assert!(!matches!(e.kind(), Kind::Internal | Kind::Corrupt), "silent at question {n}: {e}");
            }
        }
        if host.armed() > 0 {
            break;
        }
    }
    assert!(refused > 10, "{refused} of {n}");
}

#[test]
fn a_guest_cannot_name_files_of_the_node() {
    let host = furnished();
    // A link in the container to a path that is there on the node only.
    host.change(|w| {
        w.files.put("/etc/secret", "of the node", 0o600, 0, 0);
        let files = &mut w.guests.get_mut(&100).expect("ours").world.files;
        files.take("/etc/samba/smbgw.conf");
        files.put_link("/etc/samba/smbgw.conf", "/etc/secret");
    });
    let _ = reconcile(&host, &sections(&host));
    run(&host, "share.repair", json!({"id": "office", "overwrite": true}), None).expect("repaired");
    assert_eq!(host.world().files.text("/etc/secret"), "of the node");
    let inside = host.world().guests[&100].world.files.clone();
    assert!(inside.text("/etc/samba/smbgw.conf").contains("[office]"), "written, in the container");
}

#[test]
fn a_hand_of_another_version_is_replaced_by_the_worker() {
    let host = furnished();
    let inside = smbgw_core::effect::HAND_INSIDE;
    host.change(|w| w.guests.get_mut(&100).expect("ours").world.files.put(inside, "1 0.0.1 old\n", 0o755, 0, 0));
    let e = run(&host, "user.create", json!({"name": "carl"}), Some(PASSWORD)).expect_err("it is not understood");
    assert!(e.to_string().contains("0.0.1"), "{e}");
    reconcile(&host, &sections(&host)).expect("reconciled");
    run(&host, "user.create", json!({"name": "carl"}), Some(PASSWORD)).expect("now it is");
}

#[test]
fn a_run_that_is_given_up_while_the_container_is_made_leaves_nothing() {
    let host = proxmox();
    let before = host.snapshot();
    let mut run =
        context(&host).begin("share.create", &json!({"id": "office", "section": lxc("/srv/office", &[])})).expect("begun");
    while host.world().guests.is_empty() {
        run.step().expect("a step");
    }
    run.unwind().expect("given up");
    let end = loop {
        match run.step().expect("a step") {
            Progress::Working(_) => {}
            end => break end,
        }
    };
    assert!(matches!(end, Progress::Failed(..)), "{end:?}");
    drop(run);
    assert_eq!(differences(&before, &host), Vec::<String>::new());
}
