// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gateways in an Active Directory domain, on the simulated machine: joining, what is refused before, what is recorded, leaving.
#![allow(clippy::disallowed_methods)]

mod common;

use common::{IN_DOMAIN, OFFICE, OWN_CONF, PASSWORD, RECORD, create, create_lxc, domain, machine, proxmox, run, sid};
use serde_json::{Value, json};
use smbgw_core::host::sim::{Access, SimHost};

fn record(host: &SimHost, path: &str) -> Value {
    serde_json::from_str(&host.world().files.text(path)).expect("a record")
}

#[test]
fn native_first() {
    let host = machine();
    domain(&host);
    let done =
        create(&host, "office", "/srv/office", &IN_DOMAIN).unwrap_or_else(|e| panic!("{:#?} {:#?}", e.to_doc(), host.commands()));
    println!("{done:#}");
    println!("{:#}", record(&host, RECORD));
    println!("{}", host.world().files.text(OWN_CONF));
    println!("{:#?}", host.commands());
    assert_eq!(host.access("EXAMPLE\\alice", "office"), Some(Access::Write));
    assert_eq!(host.access("EXAMPLE\\bob", "office"), Some(Access::Write));
    assert_eq!(host.access("EXAMPLE\\clerk", "office"), None);
    let _ = (PASSWORD, sid(&host, "alice"));
}

#[test]
fn lxc_first() {
    let host = proxmox();
    domain(&host);
    let done = create_lxc(&host, "office", "/srv/office", &IN_DOMAIN)
        .unwrap_or_else(|e| panic!("{:#?} {:#?}", e.to_doc(), host.commands()));
    println!("{done:#}");
    println!("{:#}", record(&host, OFFICE));
    println!("{:#?}", host.commands());
    assert_eq!(host.within(100).access("EXAMPLE\\alice", "office"), Some(Access::Write));
    let _ = run;
}
