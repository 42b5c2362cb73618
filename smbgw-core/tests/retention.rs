// SPDX-License-Identifier: MIT OR Apache-2.0
//! For how long figures are kept, as administrators set it, on the simulated machine: who says so, what is refused, and that nothing is removed
//! where nobody knows; and the file for node_exporter, where it is written and where not. The store itself is on real files: see `series.rs`.
#![allow(clippy::disallowed_methods)]

mod common;

use std::path::Path;
use std::rc::Rc;

use common::*;
use serde_json::{Value, json};
use smbgw_core::error::{Error, Kind};
use smbgw_core::gateway::{Context, Options};
use smbgw_core::host::Host;
use smbgw_core::host::sim::SimHost;

const NODE: &str = "/etc/pve/priv/smbgw/retention@pve1.json";
const ALL: &str = "/etc/pve/priv/smbgw/retention.json";

/// The store is looked for at a path that no real machine has.
fn node(host: &SimHost) -> Context {
    let options = Options { state_dir: "/nowhere/of/smbgw".into(), ..Options::default() };
    Context::with_host(options, Rc::new(host.clone())).expect("a context")
}

fn ask(host: &SimHost, op: &str, params: Value) -> Value {
    node(host).query(op, &params).unwrap_or_else(|e| panic!("{op}: {:#?}", e.to_doc()))
}

fn refused(host: &SimHost, op: &str, params: Value) -> Error {
    node(host).query(op, &params).expect_err("is refused")
}

/// The lengths and who said them.
fn kept(doc: &Value) -> [&str; 4] {
    ["raw", "minutes", "hours", "from"].map(|k| doc[k].as_str().unwrap_or_default())
}

fn warnings(doc: &Value) -> Vec<&str> {
    doc["warnings"].as_array().expect("a list").iter().filter_map(Value::as_str).collect()
}

#[test]
fn a_node_has_its_own_or_that_of_all_nodes_or_the_default() {
    let host = bare_proxmox();
    let doc = ask(&host, "retention", json!({}));
    assert_eq!(kept(&doc), ["7d", "30d", "2y", "default"]);
    assert!(doc["file"].is_null() && warnings(&doc).is_empty(), "{doc}");

    let doc = ask(&host, "retention.set", json!({"raw": "2w", "hours": "5y", "all-nodes": true}));
    assert_eq!(kept(&doc), ["14d", "30d", "5y", "all-nodes"]);
    assert_eq!(doc["file"], ALL);
    let world = host.world();
    assert_eq!(
        serde_json::from_str::<Value>(&world.files.text(ALL)).expect("JSON"),
        json!({"version": 1, "raw": "14d", "minutes": "30d", "hours": "5y"})
    );
    assert_eq!(world.files.get(ALL).expect("there").mode, 0o600);

    // What is not said is as it was on this node; then it is the node's own, whole.
    let doc = ask(&host, "retention.set", json!({"minutes": "60d", "actor": "joe@pve"}));
    assert_eq!(kept(&doc), ["14d", "60d", "5y", "node"]);
    let doc = ask(&host, "retention.set", json!({"raw": "1d", "minutes": "1d", "all-nodes": "1"}));
    assert_eq!(kept(&doc), ["14d", "60d", "5y", "node"], "another word for all does not reach it");
    assert_eq!(warnings(&doc).len(), 1, "and it is said so: {doc}");

    // What goes is said.
    let doc = ask(&host, "retention.set", json!({"raw": "6h", "hours": "60d"}));
    assert_eq!(kept(&doc), ["6h", "60d", "60d", "node"]);
    let said = warnings(&doc);
    assert!(
        said.len() == 2 && said[0].starts_with("raw: what is older than 6h goes") && said[1].starts_with("hours: "),
        "{said:?}"
    );
    let doc = ask(&host, "retention.set", json!({"minutes": "3d", "hours": "3d"}));
    assert!(warnings(&doc)[0].contains("how shares grow is not known below 7d"), "{doc}");

    let doc = ask(&host, "retention.reset", json!({}));
    assert_eq!(kept(&doc), ["1d", "1d", "5y", "all-nodes"]);
    let doc = ask(&host, "retention.reset", json!({"all-nodes": true}));
    assert_eq!(kept(&doc), ["7d", "30d", "2y", "default"]);
    assert_eq!(kept(&ask(&host, "retention.reset", json!({}))), ["7d", "30d", "2y", "default"], "once more is no error");
}

#[test]
fn without_proxmox_it_lies_beside_the_rules() {
    let host = machine();
    let doc = ask(&host, "retention.set", json!({"raw": "1d"}));
    assert_eq!(doc["file"], "/etc/smbgw/retention@pve1.json");
    assert_eq!(kept(&ask(&host, "retention", json!({}))), ["1d", "30d", "2y", "node"]);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let host = bare_proxmox();
    ask(&host, "retention.set", json!({"raw": "3d"}));
    let before = host.world().files.text(NODE);
    for (params, property) in [
        (json!({"raw": "soon"}), "raw"),
        (json!({"raw": "59m"}), "raw"),
        (json!({"raw": "11y", "minutes": "11y", "hours": "11y"}), "raw"),
        (json!({"minutes": "2d"}), "minutes"),
        (json!({"hours": "29d"}), "hours"),
        (json!({}), "raw"),
        (json!({"days": "3"}), "days"),
    ] {
        let e = refused(&host, "retention.set", params.clone());
        assert_eq!((e.kind(), e.problems()[0].property.as_str()), (Kind::Invalid, property), "{params}");
        assert!(property == "days" || e.remedy_text().is_some(), "{params}");
    }
    assert_eq!(host.world().files.text(NODE), before);
}

#[test]
fn where_nobody_knows_nothing_is_removed_and_it_is_said() {
    let host = bare_proxmox();
    for text in ["{", "{\"raw\": \"1m\"}", "{\"keep\": \"7d\"}"] {
        host.change(|w| w.files.put(NODE, text, 0o600, 0, 0));
        let doc = ask(&host, "retention", json!({}));
        assert!(doc["raw"].is_null() && doc["from"].is_null(), "{doc}");
        let said = warnings(&doc)[0].to_owned();
        assert!(
            said.starts_with("no figures are removed: ") && said.contains(NODE) && said.contains("retention reset"),
            "{said}"
        );
        let look = ask(&host, "scrape", json!({}));
        assert!(look["notes"].as_array().expect("a list").contains(&json!(said)), "the log has it: {look}");
        // Half of an answer needs the other half.
        assert!(refused(&host, "retention.set", json!({"raw": "2d"})).remedy_text().is_some_and(|r| r.contains("all three")));
        let doc = ask(&host, "retention.set", json!({"raw": "2d", "minutes": "10d", "hours": "90d"}));
        assert_eq!(kept(&doc), ["2d", "10d", "90d", "node"]);
    }
    host.change(|w| w.files.put(NODE, "{", 0o600, 0, 0));
    assert_eq!(kept(&ask(&host, "retention.reset", json!({}))), ["7d", "30d", "2y", "default"]);
    // The cluster file system is away: what it says is not known, and not the default.
    let context = node(&host);
    host.change(|w| {
        w.files.take("/etc/pve");
        w.files.put_dir("/etc/pve", 0o755, 0, 0);
    });
    let doc = context.query("retention", &json!({})).expect("an answer");
    assert!(doc["raw"].is_null() && warnings(&doc)[0].contains("/etc/pve is empty"), "{doc}");
    // What is said then would be lost, or lie below the mount: it is refused, whether the process knew the cluster or not.
    let whole = json!({"raw": "2d", "minutes": "10d", "hours": "90d"});
    for (op, params) in
        [("retention.set", whole.clone()), ("retention.reset", json!({})), ("alert.rules", json!({"rules": "{\"version\": 1}"}))]
    {
        for e in [context.query(op, &params).expect_err("is refused"), refused(&host, op, params.clone())] {
            assert!(e.kind() == Kind::Service && e.remedy_text().is_some_and(|r| r.contains("pve-cluster")), "{op}: {e:?}");
        }
    }
    let new = node(&host);
    assert!(host.list(Path::new("/etc/pve")).expect("there").is_empty() && !host.exists(Path::new("/etc/smbgw")).expect("seen"));
    // And the process that did not know it does not write beside it once it is back.
    host.change(|w| w.files.put_dir("/etc/pve/priv", 0o700, 0, 0));
    assert_eq!(new.query("retention.set", &whole).expect_err("is refused").kind(), Kind::Service);
    assert_eq!(kept(&ask(&host, "retention.set", whole)), ["2d", "10d", "90d", "node"]);
}

#[test]
fn who_mends_the_word_for_all_nodes_is_told_how() {
    let host = bare_proxmox();
    host.change(|w| w.files.put(ALL, "{", 0o600, 0, 0));
    let said = warnings(&ask(&host, "retention", json!({})))[0].to_owned();
    assert!(said.contains(ALL) && said.contains("retention reset --all-nodes"), "{said}");
    let remedy = refused(&host, "retention.set", json!({"raw": "2d", "all-nodes": true})).remedy_text().map(str::to_owned);
    assert!(remedy.is_some_and(|r| r.contains("retention reset --all-nodes")));
    assert_eq!(kept(&ask(&host, "retention.reset", json!({"all-nodes": true}))), ["7d", "30d", "2y", "default"]);
}

#[test]
fn the_file_for_node_exporter_is_written_where_nobody_else_can() {
    const DIR: &str = "/var/lib/prometheus/node-exporter";
    let file = Path::new(DIR).join("smbgw.prom");
    let host = bare_proxmox();
    let look = |host: &SimHost| -> Vec<String> {
        let notes = ask(host, "scrape", json!({}))["notes"].clone();
        let all: Vec<String> = serde_json::from_value(notes).expect("lines");
        all.into_iter().filter(|n| n.contains("node_exporter")).collect()
    };
    assert_eq!(look(&host), [""; 0], "without the directory nothing is said");
    assert!(host.world().files.get(&file).is_none());
    // As Debian's package makes it: the one above is its user's.
    host.change(|w| {
        w.files.put_dir("/var/lib/prometheus", 0o755, 110, 118);
        w.files.put_dir(DIR, 0o755, 0, 0);
    });
    assert_eq!(look(&host), [""; 0]);
    let world = host.world();
    let seen = world.files.get(&file).expect("written");
    assert_eq!((seen.mode, seen.uid, seen.gid), (0o644, 0, 0));
    let text = world.files.text(&file);
    assert!(text.lines().any(|l| l.starts_with("smbgw_up{")) && !text.contains("# EOF"), "{text}");

    for (uid, mode, link) in [(110, 0o755, false), (0, 0o775, false), (0, 0o1777, false), (0, 0o755, true)] {
        host.change(|w| {
            w.files.take("/var/lib/prometheus");
            w.files.put_dir("/srv/elsewhere", 0o755, 0, 0);
            if link { w.files.put_link(DIR, "/srv/elsewhere") } else { w.files.put_dir(DIR, mode, uid, 0) }
        });
        let notes = look(&host);
        assert!(notes.len() == 1 && notes[0].contains(DIR), "{uid} {mode:o} {link}: {notes:?}");
        assert!(link || notes[0].contains("chown root"), "{notes:?}");
        assert!(host.world().files.get(&file).is_none() && host.world().files.get("/srv/elsewhere/smbgw.prom").is_none());
    }
}
