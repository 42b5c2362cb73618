// SPDX-License-Identifier: MIT OR Apache-2.0
//! The life of shares and users on the simulated machine: what each operation leaves behind, as behaviour.
#![allow(clippy::disallowed_methods)]

mod common;

use common::{Case, PASSWORD, cases, context, create, differences, furnished, lxc_cases, machine, run, section, waiting_cases};
use serde_json::{Value, json};
use smbgw_core::error::Kind;

#[test]
fn every_operation_succeeds() {
    for case in cases().into_iter().chain(lxc_cases()).chain(waiting_cases()) {
        let Case { name, .. } = case;
        let host = case.machine();
        case.run(&host).unwrap_or_else(|e| panic!("{name}: {:#?}", e.to_doc()));
    }
}

#[test]
fn a_share_is_usable_and_leaves_nothing() {
    let host = machine();
    let before = host.snapshot();
    let result = create(&host, "office", "/srv/office", &[("username", "anna")]).expect("created");
    assert_eq!(result["section"]["nodes"], "pve1");
    assert!(host.connect("anna", PASSWORD, "office").is_ok());
    assert!(host.connect("anna", "wrong", "office").is_err());
    assert!(host.connect("smbgw-probe", PASSWORD, "office").is_err());
    let status = context(&host).query("status", &json!({"id": "office"})).expect("status");
    assert_eq!((status["state"].as_str(), status["active"].as_bool()), (Some("ready"), Some(true)), "{status}");
    run(&host, "share.delete", json!({"id": "office"}), None).expect("deleted");
    let after = host.snapshot();
    common::forget_record(&after);
    assert_eq!(differences(&before, &after), Vec::<String>::new());
}

#[test]
fn refusals_name_the_object() {
    let host = machine();
    furnished(&host);
    let taken = create(&host, "other", "/srv/lab", &[("share", "OFFICE")]).expect_err("name is taken");
    assert!(taken.to_string().contains("share"), "{taken}");
    let inside = create(&host, "inner", "/srv/office/sub", &[]).expect_err("inside a share");
    assert!(inside.to_string().contains("'office'"), "{inside}");
    let again = create(&host, "office", "/srv/third", &[]).expect_err("exists");
    assert!(matches!(again.kind(), Kind::Conflict | Kind::Invalid), "{again}");
    let system = create(&host, "lab", "/srv/lab", &[("smbgw-access", "rw:root")]).expect_err("system account");
    assert!(system.to_string().contains("root"), "{system}");
    let missing =
        run(&host, "share.update", json!({"id": "lab", "section": section("/srv/nowhere", &[])}), None).expect_err("no tree");
    assert!(missing.to_string().contains("/srv/nowhere"), "{missing}");
}

#[test]
fn a_check_of_a_good_section_finds_nothing() {
    let host = machine();
    let ask = |section: Value| {
        context(&host).query("check", &json!({"id": "office", "section": section, "create": true})).expect("an answer")
    };
    assert_eq!(ask(section("/srv/office", &[]))["problems"], json!([]));
    let bad = ask(section("/srv/nowhere", &[]));
    assert_eq!(bad["problems"][0]["property"], "path", "{bad:#}");
}
