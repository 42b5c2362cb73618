// SPDX-License-Identifier: MIT OR Apache-2.0
//! The doctor on the simulated machine: a healthy one has no findings to speak of, and each thing that is broken is named by its code.
#![allow(clippy::disallowed_methods)]

mod common;

use std::collections::BTreeSet;

use common::*;
use serde_json::{Value, json};
use smbgw_core::doctor::{CHECKS, Code, Gateway, Machine, Pmxcfs, Severity, judge};
use smbgw_core::effect::Program;
use smbgw_core::host::sim::SimHost;

fn doctor(host: &SimHost) -> Value {
    context(host).query("doctor", &json!({"sections": sections(host)})).unwrap_or_else(|e| panic!("doctor: {:#?}", e.to_doc()))
}

fn codes(doc: &Value) -> BTreeSet<String> {
    let all = doc["findings"].as_array().expect("findings").iter();
    all.map(|f| f["code"].as_str().expect("a code").to_owned()).filter(|c| c != "ok").collect()
}

/// What is true of the simulated machine as it is: it has no timesyncd, and its disk cannot limit.
const PLAIN: &[&str] = &["clock-unknown", "quota-unavailable", "dns-silent", "dns-no-server", "kernel-unknown"];

#[test]
fn a_healthy_machine() {
    let host = machine();
    furnished(&host);
    let before = host.world();
    let doc = doctor(&host);
    assert_eq!(doc["ok"], true, "{doc:#}");
    let odd: Vec<String> = codes(&doc).into_iter().filter(|c| !PLAIN.contains(&c.as_str())).collect();
    assert_eq!(odd, Vec::<String>::new(), "{doc:#}");
    let checks: BTreeSet<&str> = doc["findings"].as_array().expect("a list").iter().filter_map(|f| f["check"].as_str()).collect();
    assert_eq!(checks, CHECKS.iter().copied().collect(), "each check is told of");
    let version = doc["findings"].as_array().expect("a list").iter().find(|f| f["check"] == "version").expect("a version");
    assert!(version["saw"].as_str().is_some_and(|s| s.contains("4.17.12")), "{version}");
    assert_eq!(host.world().differences(&before), Vec::<String>::new(), "it only looks");
}

#[test]
fn a_machine_without_shares() {
    let doc = doctor(&machine());
    assert_eq!(doc["ok"], true, "{doc:#}");
}

#[test]
fn a_healthy_container() {
    let host = proxmox();
    furnished_lxc(&host);
    let doc = doctor(&host);
    // The simulated node's /etc/pve is a directory, and has no .members.
    let odd: Vec<String> =
        codes(&doc).into_iter().filter(|c| !PLAIN.contains(&c.as_str()) && !c.starts_with("pmxcfs-")).collect();
    assert_eq!(odd, Vec::<String>::new(), "{doc:#}");
}

fn put(host: &SimHost, path: &str, text: &str, mode: u32) {
    host.change(|w| w.files.put(path, text, mode, 0, 0));
}

fn edit(host: &SimHost, path: &str, from: &str, to: &str) {
    let text = host.world().files.text(path);
    assert!(text.contains(from), "{path} has no {from}: {text}");
    let mode = if path.contains("gateways") { 0o600 } else { 0o644 };
    put(host, path, &text.replace(from, to), mode);
}

type Break = fn(&SimHost);

const NATIVE: &[(&str, Break)] = &[
    ("program-missing", |h| _ = h.change(|w| w.installed.remove(&Program::Smbclient))),
    ("smbd-down", |h| h.change(|w| w.smbd = None)),
    ("include-missing", |h| edit(h, SMB_CONF, "include = /etc/samba/smbgw.conf", "")),
    ("own-conf-missing", |h| h.change(|w| w.files.take(OWN_CONF))),
    ("own-conf-edited", |h| edit(h, OWN_CONF, "[office]", "[office]\n   guest ok = yes")),
    ("smb-conf-missing", |h| h.change(|w| w.files.take(SMB_CONF))),
    ("mode-too-open", |h| h.change(|w| w.files.put(RECORD, w.files.text(RECORD), 0o644, 0, 0))),
    ("owner-wrong", |h| h.change(|w| w.files.put(RECORD, w.files.text(RECORD), 0o600, 1000, 0))),
    ("temporary-file", |h| put(h, "/var/lib/smbgw/.x.json.smbgw-abcdef", "", 0o600)),
    ("journal-damaged", |h| put(h, "/var/lib/smbgw/ops/0123.corrupt", "x", 0o600)),
    ("pending-secret-old", |h| put(h, "/run/smbgw/pending/lab", "1000\n\nsecret", 0o600)),
    ("tree-not-there", |h| h.change(|w| w.files.take("/srv/office"))),
    ("repair-due", |h| _ = h.change(|w| w.passdb.remove("anna"))),
    ("testparm-complains", |h| edit(h, SMB_CONF, "[global]", "[global]\n   no such thing = 1")),
    ("kernel-too-old", |h| put(h, "/proc/sys/kernel/osrelease", "4.19.0-1-amd64\n", 0o444)),
    ("kernel-unknown", |h| put(h, "/proc/sys/kernel/osrelease", "odd\n", 0o444)),
    ("dns-no-server", |h| put(h, "/etc/resolv.conf", "", 0o644)),
    ("share-not-ready", |h| edit(h, RECORD, "\"ready\"", "\"building\"")),
];

#[test]
fn each_thing_that_is_broken_is_named() {
    let healthy = machine();
    furnished(&healthy);
    put(&healthy, "/proc/sys/kernel/osrelease", "6.8.12-4-pve\n", 0o444);
    put(&healthy, "/etc/resolv.conf", "nameserver 192.0.2.53\n", 0o644);
    let well = codes(&doctor(&healthy));
    for (code, break_it) in NATIVE {
        assert!(!well.contains(*code), "{code} is there on a healthy machine");
        let host = healthy.snapshot();
        break_it(&host);
        let doc = doctor(&host);
        assert!(codes(&doc).contains(*code), "{code}: {doc:#}");
        let f = doc["findings"].as_array().expect("a list").iter().find(|f| f["code"] == *code).expect("it").clone();
        let all = Code::ALL.iter().find(|c| c.word() == *code).expect("in the table");
        assert_eq!((f["check"].as_str(), f["means"].as_str()), (Some(all.check()), Some(all.means())));
        assert!(!f["remedy"].as_str().unwrap_or_default().contains("{}"), "{f}");
        assert!(!f.to_string().contains("secret\""), "no secret is told");
    }
}

#[test]
fn sections_and_records_are_compared() {
    let host = machine();
    furnished(&host);
    reconcile(&host, &sections(&host)).expect("committed");
    let ask = |params| codes(&context(&host).query("doctor", &params).expect("a look"));
    assert!(ask(json!({})).contains("sections-unknown"), "unknown is said");
    assert!(ask(json!({"sections": {}})).contains("section-gone"));
    let mut more = sections(&host);
    more["third"] = section("/srv/third", &[("type", "smbgateway")]);
    assert!(ask(json!({"sections": more})).contains("section-unserved"));
    more["third"]["nodes"] = json!("pve2");
    assert!(!ask(json!({"sections": more})).contains("section-unserved"), "another node's");
}

#[test]
fn what_is_broken_around_a_container_is_named() {
    let healthy = proxmox();
    furnished_lxc(&healthy);
    let cases: &[(&str, Break)] = &[
        ("container-down", |h| _ = type_in(h, Program::Pct, &["shutdown", "100"])),
        ("container-unrecorded", |h| {
            let conf = h.world().files.text("/etc/pve/nodes/pve1/lxc/100.conf");
            put(h, "/etc/pve/nodes/pve1/lxc/555.conf", &conf, 0o640);
        }),
        ("pmxcfs-no-quorum", |h| put(h, "/etc/pve/.members", r#"{"nodename": "pve1", "cluster": {"quorate": 0}}"#, 0o640)),
        ("pmxcfs-unknown", |h| put(h, "/etc/pve/.members", "{", 0o640)),
    ];
    put(&healthy, "/etc/pve/.members", r#"{"nodename": "pve1", "version": 3, "cluster": {"quorate": 1}}"#, 0o640);
    let well = codes(&doctor(&healthy));
    for (code, break_it) in cases {
        assert!(!well.contains(*code), "{code} is there on a healthy node");
        let host = healthy.snapshot();
        break_it(&host);
        let doc = doctor(&host);
        assert!(codes(&doc).contains(*code), "{code}: {doc:#}");
    }
}

/// The table in the handbook is that of the library.
#[test]
fn the_handbook_has_every_code() {
    let words: BTreeSet<&str> = Code::ALL.iter().map(|c| c.word()).collect();
    assert_eq!(words.len(), Code::ALL.len(), "no word twice");
    let handbook = include_str!("../../docs/ADMIN.md");
    for c in Code::ALL {
        assert!(CHECKS.contains(&c.check()), "{c:?}");
        let row = format!("| `{}` | {} | {} | {} |", c.word(), c.check(), c.severity().as_str(), c.means());
        assert!(handbook.contains(&row), "docs/ADMIN.md lacks or has otherwise:\n{row}");
    }
}

/// A node on which nothing was found, and nothing is served.
fn quiet() -> Machine {
    Machine {
        kernel: Ok("6.8.12-4-pve".into()),
        name_servers: 1,
        dns: Ok(true),
        synchronised: true,
        pmxcfs: Some(Pmxcfs { mounted: true, writable: true, quorate: Ok(true) }),
        uid: 0,
        places: Vec::new(),
        unrecorded: Vec::new(),
        temporary: Vec::new(),
        damaged: Vec::new(),
        open: Vec::new(),
        pending: vec![("lab".into(), 60)],
        own_conf: false,
        sections: Some((Vec::new(), Vec::new())),
        gateways: Vec::new(),
    }
}

#[test]
fn what_is_seen_of_the_node_is_judged() {
    type Change = fn(&mut Machine);
    let cases: &[(Code, Change)] = &[
        (Code::PmxcfsUnmounted, |m| m.pmxcfs = Some(Pmxcfs { mounted: false, writable: true, quorate: Ok(true) })),
        (Code::PmxcfsReadOnly, |m| m.pmxcfs = Some(Pmxcfs { mounted: true, writable: false, quorate: Ok(true) })),
        (Code::DnsSilent, |m| m.dns = Ok(false)),
        (Code::OperationOpen, |m| m.open.push(("0f".into(), "share.update of office".into(), false))),
        (Code::OperationStuck, |m| m.open.push(("0f".into(), "share.update of office".into(), true))),
        (Code::NotLooked, |m| {
            let why = || "no such thing".to_owned();
            m.gateways.push(Gateway { name: "office".into(), facts: Err(why()), samba: Err(why()), repair: Err((why(), None)) });
        }),
        (Code::ClockUnknown, |m| m.synchronised = false),
    ];
    assert!(judge(&quiet()).iter().all(|f| f.severity == Severity::Ok), "{:#?}", judge(&quiet()));
    for (code, change) in cases {
        let mut m = quiet();
        change(&mut m);
        let found: Vec<_> = judge(&m).into_iter().filter_map(|f| f.code).collect();
        assert_eq!(found, [*code]);
    }
    let mut m = quiet();
    m.open.push(("0f".into(), "share.update of office".into(), true));
    assert!(judge(&m).iter().any(|f| f.remedy == "pve-smbgateway repair office"), "the remedy names what it is about");
}
