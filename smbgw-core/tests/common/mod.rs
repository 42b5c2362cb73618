// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the tests on the simulated machine share: a machine with a tree, and a driver for runs.
#![allow(dead_code)] // each test binary uses its own part

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::rc::Rc;

use serde_json::{Value, json};
use smbgw_core::effect::{Cmd, Program};
use smbgw_core::error::{Error, Kind};
use smbgw_core::gateway::{Context, Options, Progress};
use smbgw_core::host::sim::{AccountKind, Limits, Mount, SECRETS, SimDomain, SimHost, WINBINDD_PID, World};
use smbgw_core::host::{Host, Secrets};

pub const PASSWORD: &str = "Correct-Horse-7 battery";

pub const RECORD: &str = "/var/lib/smbgw/gateways/native@pve1.json";
pub const OWN_CONF: &str = "/etc/samba/smbgw.conf";
pub const SMB_CONF: &str = "/etc/samba/smb.conf";
/// Where Proxmox keeps what is secret in a cluster, and so the records there.
pub const RECORDS: &str = "/etc/pve/priv/smbgw/gateways";
/// The record of the container that the cases build.
pub const OFFICE: &str = "/etc/pve/priv/smbgw/gateways/office.json";

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

/// A node of Proxmox VE with trees to share and one template, built by the product itself.
pub fn proxmox() -> SimHost {
    thread_local! {
        static MADE: SimHost = {
            let host = bare_proxmox();
            run(&host, "template.build", json!({"name": "first"}), None).unwrap_or_else(|e| panic!("a template: {:#?}", e.to_doc()));
            host.pass(std::time::Duration::from_secs(3600));
            host
        };
    }
    MADE.with(SimHost::snapshot)
}

/// The same without a template.
pub fn bare_proxmox() -> SimHost {
    let host = SimHost::proxmox();
    host.change(|w| {
        for dir in ["/srv/office", "/srv/lab", "/srv/third"] {
            w.files.put_dir(dir, 0o755, 0, 0);
        }
    });
    host
}

/// Puts a machine into the network of EXAMPLE.TEST, where `joiner` and `clerk` have our password.
pub fn domain(host: &SimHost) {
    let mut d = SimDomain::example();
    for name in ["joiner", "clerk"] {
        d.account_mut(name).expect("it is there").password = PASSWORD.into();
    }
    host.change(|w| w.enter(d));
}

/// Properties of a share of a gateway in that domain, by whose `staff` it is used.
pub const IN_DOMAIN: [(&str, &str); 3] =
    [("domain", "example.test"), ("username", "joiner"), ("smbgw-access", "rw:@EXAMPLE\\staff")];

/// The SID of an account of the domain; empty if there is none.
pub fn sid(host: &SimHost, name: &str) -> String {
    host.world().domain.map(|d| d.sid_of(name)).unwrap_or_default()
}

/// A native gateway that is a member, with one share.
pub fn member(host: &SimHost) {
    domain(host);
    create(host, "office", "/srv/office", &IN_DOMAIN).unwrap_or_else(|e| panic!("office: {:#?}", e.to_doc()));
}

/// The same in a container, gateway `office`.
pub fn member_lxc(host: &SimHost) {
    domain(host);
    create_lxc(host, "office", "/srv/office", &IN_DOMAIN).unwrap_or_else(|e| panic!("office: {:#?}", e.to_doc()));
    reconcile(host, &sections(host)).expect("reconciled");
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

/// A section of mode lxc, which is the default.
pub fn lxc(path: &str, more: &[(&str, &str)]) -> Value {
    let mut s = section(path, more);
    s.as_object_mut().expect("an object").remove("smbgw-mode");
    s
}

/// Creates a share in a container; its gateway has its name unless said otherwise.
pub fn create_lxc(host: &SimHost, id: &str, path: &str, more: &[(&str, &str)]) -> Result<Value, Error> {
    let password = more.iter().any(|(k, _)| *k == "username").then_some(PASSWORD);
    run(host, "share.create", json!({"id": id, "section": lxc(path, more)}), password)
}

/// A command of an administrator at the node's prompt.
pub fn type_in(host: &SimHost, program: Program, words: &[&str]) -> Result<String, String> {
    let host: &dyn Host = host;
    let out = host.run(&Cmd::new(program, words.iter().copied()), &Secrets::default()).expect("it starts");
    if out.status == 0 { Ok(out.out()) } else { Err(out.err()) }
}

/// Runs an operation to its end; events are collected.
pub fn run(host: &SimHost, op: &str, params: Value, password: Option<&str>) -> Result<Value, Error> {
    drive(&context(host), op, &params, password)
}

fn drive(context: &Context, op: &str, params: &Value, password: Option<&str>) -> Result<Value, Error> {
    let mut run = context.begin(op, params)?;
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

/// The same in a container, gateway `office`.
pub fn furnished_lxc(host: &SimHost) {
    create_lxc(host, "office", "/srv/office", &[("username", "anna")]).unwrap_or_else(|e| panic!("office: {:#?}", e.to_doc()));
    run(host, "user.create", json!({"name": "ben"}), Some(PASSWORD)).expect("ben");
    run(host, "group.create", json!({"name": "staff"}), None).expect("staff");
    run(host, "group.add-member", json!({"name": "staff", "user": "ben"}), None).expect("member");
    // The worker has come by.
    reconcile(host, &sections(host)).expect("reconciled");
}

/// An operation by name, as the loops over every plan kind use it.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    pub op: &'static str,
    pub params: Value,
    pub password: bool,
    /// Where it is done.
    pub on: fn() -> SimHost,
    /// What is done on the machine before.
    pub before: fn(&SimHost),
}

fn nothing(_: &SimHost) {}

fn two(host: &SimHost) {
    furnished(host);
    create(host, "lab", "/srv/lab", &[("smbgw-access", "ro:ben,full:anna")]).expect("lab");
}

/// File systems that can limit trees, mounted below /srv/fs: everything that the product knows, with something in each tree.
pub fn disks(host: &SimHost) {
    host.change(|w| {
        for (n, (name, fs_type, limits)) in [
            ("projects", "xfs", Limits::Projects(BTreeMap::new())),
            ("subvolumes", "btrfs", Limits::Subvolumes(BTreeMap::from([("/srv/fs/subvolumes/tree".into(), None)]))),
            ("ceph", "ceph", Limits::Ceph(BTreeMap::new())),
            ("device", "ext4", Limits::Device(100 << 30)),
            ("off", "ext4", Limits::None),
        ]
        .into_iter()
        .enumerate()
        {
            let at = format!("/srv/fs/{name}");
            w.files.mount(&at, Mount { limits, ..Mount::new(0x700 + n as u64, fs_type) });
            w.files.put_dir(format!("{at}/tree"), 0o755, 0, 0);
            w.files.put(format!("{at}/tree/deep/file"), vec![b'x'; 4096], 0o644, 1000, 1000);
        }
        let limits = Limits::Dataset { name: "tank/tree".into(), refquota: Some(50 << 20) };
        w.files.mount("/srv/fs/dataset", Mount { limits, users: Some(BTreeMap::new()), ..Mount::new(0x710, "zfs") });
        let limits = Limits::Device(100 << 30);
        w.files.mount("/srv/fs/users", Mount { limits, users: Some(BTreeMap::new()), ..Mount::new(0x711, "ext4") });
        w.files.put("/srv/fs/dataset/file", vec![b'x'; 4096], 0o644, 1000, 1000);
        w.installed.insert(Program::Zfs);
    });
}

fn limited(host: &SimHost, path: &str) {
    furnished(host);
    disks(host);
    create(host, "lab", path, &[("smbgw-quota", "10M"), ("username", "anna")])
        .unwrap_or_else(|e| panic!("lab: {:#?}", e.to_doc()));
}

fn limited_project(host: &SimHost) {
    limited(host, "/srv/fs/projects/tree");
}

fn limited_dataset(host: &SimHost) {
    limited(host, "/srv/fs/dataset");
}

fn limit_changed(host: &SimHost) {
    limited(host, "/srv/fs/subvolumes/tree");
    host.change(|w| {
        let mount = w.files.mount_mut("/srv/fs/subvolumes").expect("it is there");
        mount.limits = Limits::Subvolumes(BTreeMap::from([("/srv/fs/subvolumes/tree".into(), Some(1 << 30))]));
    });
}

fn stopped(host: &SimHost) {
    host.change(|w| w.smbd = None);
}

/// Every plan kind.
pub fn cases() -> Vec<Case> {
    let case = |name, op, params, password, before| Case { name, op, params, password, on: machine, before };
    let office = |more: &[(&str, &str)]| json!({"id": "office", "section": section("/srv/office", more)});
    let lab = |path: &str, more: &[(&str, &str)]| json!({"id": "lab", "section": section(path, more)});
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
        case("limit by a project", "share.create", lab("/srv/fs/projects/tree", &[("smbgw-quota", "10M")]), false, disks),
        case("limit by refquota", "share.create", lab("/srv/fs/dataset", &[("smbgw-quota", "10M")]), false, disks),
        case("limit on CephFS", "share.create", lab("/srv/fs/ceph/tree", &[("smbgw-quota", "10M")]), false, disks),
        case(
            "limits of users",
            "share.create",
            lab("/srv/fs/users", &[("smbgw-user-quota", "anna=10M,ben=20M"), ("username", "anna")]),
            true,
            disks,
        ),
        case(
            "another limit",
            "share.update",
            lab("/srv/fs/projects/tree", &[("smbgw-quota", "20M"), ("username", "anna")]),
            false,
            limited_project,
        ),
        case("no limit any more", "share.update", lab("/srv/fs/projects/tree", &[("username", "anna")]), false, limited_project),
        case("delete a share with a limit", "share.delete", json!({"id": "lab"}), false, limited_dataset),
        case("repair, limit changed", "share.repair", json!({}), false, limit_changed),
        case("domain: first share", "share.create", office(&IN_DOMAIN), true, domain),
        case("domain: first share, the computer is known", "share.create", office(&IN_DOMAIN), true, known_computer),
        case("domain: first share, winbindd runs", "share.create", office(&IN_DOMAIN), true, winbindd_runs),
        case("domain: first join", "ad.join", json!({"domain": "example.test", "username": "joiner"}), true, by_group),
        case("domain: join again", "ad.join", json!({"username": "joiner"}), true, left),
        case("domain: leave", "ad.leave", json!({"username": "joiner"}), true, member),
        case("domain: delete the last", "share.delete", json!({"id": "office"}), false, member),
    ]
}

/// Two shares, of the second of which smbd was not told.
fn untold(host: &SimHost) {
    furnished(host);
    let access = [("smbgw-access", "rw:anna,rw:carl")];
    let params = json!({"id": "lab", "section": section("/srv/lab", &access), "reload": "later"});
    run(host, "share.create", params, None).unwrap_or_else(|e| panic!("lab: {:#?}", e.to_doc()));
}

/// A share that names somebody who is not there yet.
fn expected(host: &SimHost) {
    untold(host);
    run(host, "gateway.reload", json!({"name": "native"}), None).expect("told");
}

fn untold_lxc(host: &SimHost) {
    furnished_lxc(host);
    let params = json!({"id": "lab", "section": lxc("/srv/lab", &[("smbgw-gateway", "office")]), "reload": "later"});
    run(host, "share.create", params, None).unwrap_or_else(|e| panic!("lab: {:#?}", e.to_doc()));
    reconcile(host, &sections(host)).expect("reconciled");
}

fn known_computer(host: &SimHost) {
    domain(host);
    let kind = AccountKind::Computer { dns_name: String::new(), spns: Vec::new(), unit: Some("Servers".into()) };
    host.change(|w| w.domain_mut().add("PVE1$", kind));
}

fn winbindd_runs(host: &SimHost) {
    domain(host);
    assert!(host.start_winbindd());
}

/// A share that names no local user.
fn by_group(host: &SimHost) {
    domain(host);
    create(host, "office", "/srv/office", &[("smbgw-access", "rw:@staff")]).expect("office");
}

fn left(host: &SimHost) {
    member(host);
    run(host, "ad.leave", json!({"username": "joiner"}), Some(PASSWORD)).unwrap_or_else(|e| panic!("leave: {:#?}", e.to_doc()));
}

fn left_lxc(host: &SimHost) {
    member_lxc(host);
    let params = json!({"gateway": "office", "username": "joiner"});
    run(host, "ad.leave", params, Some(PASSWORD)).unwrap_or_else(|e| panic!("leave: {:#?}", e.to_doc()));
}

fn two_lxc(host: &SimHost) {
    furnished_lxc(host);
    let more = [("smbgw-gateway", "office"), ("smbgw-access", "ro:ben,full:anna")];
    create_lxc(host, "lab", "/srv/lab", &more).unwrap_or_else(|e| panic!("lab: {:#?}", e.to_doc()));
}

fn stopped_gateway(host: &SimHost) {
    furnished_lxc(host);
    run(host, "gateway.stop", json!({"name": "office"}), None).expect("stopped");
}

fn newer_template(host: &SimHost) {
    two_lxc(host);
    run(host, "template.build", json!({"name": "second"}), None).expect("a second template");
}

fn deleted_by_hand(host: &SimHost) {
    two_lxc(host);
    type_in(host, Program::Pct, &["destroy", "100", "--force", "1", "--purge", "1"]).expect("destroyed");
}

fn populated(host: &SimHost) {
    host.change(|w| {
        for (path, owner) in [("/srv/third/a", 0), ("/srv/third/b", 1000), ("/srv/third/c", 33)] {
            w.files.put(path, "text", 0o644, owner, owner);
        }
    });
}

/// Every plan kind around a container.
pub fn lxc_cases() -> Vec<Case> {
    let case = |name, op, params, password, before| Case { name, op, params, password, on: proxmox, before };
    let office = |more: &[(&str, &str)]| json!({"id": "office", "section": lxc("/srv/office", more)});
    let lab = [("smbgw-gateway", "office"), ("smbgw-access", "rw:@staff,full:anna")];
    let gateway = json!({"name": "office"});
    let by_joiner = json!({"gateway": "office", "username": "joiner"});
    vec![
        case("lxc: first share", "share.create", office(&[("username", "anna")]), true, nothing as fn(&SimHost)),
        case("lxc: second share", "share.create", json!({"id": "lab", "section": lxc("/srv/lab", &lab)}), false, furnished_lxc),
        case(
            "lxc: change access",
            "share.update",
            office(&[("username", "anna"), ("smbgw-access", "ro:@staff,full:ben")]),
            false,
            furnished_lxc,
        ),
        case(
            "lxc: change memory",
            "share.update",
            office(&[("username", "anna"), ("smbgw-memory", "512")]),
            false,
            furnished_lxc,
        ),
        case("lxc: delete one of two", "share.delete", json!({"id": "lab"}), false, two_lxc),
        case("lxc: delete the last", "share.delete", json!({"id": "office"}), false, furnished_lxc),
        case("lxc: create user", "user.create", json!({"name": "carl"}), true, furnished_lxc),
        case("lxc: remove user", "user.remove", json!({"name": "ben"}), false, two_lxc),
        case("lxc: stop", "gateway.stop", gateway.clone(), false, two_lxc),
        case("lxc: start", "gateway.start", gateway.clone(), false, stopped_gateway),
        case("lxc: restart", "gateway.restart", gateway.clone(), false, two_lxc),
        case("lxc: upgrade", "gateway.upgrade", gateway, false, newer_template),
        case("lxc: repair, deleted by hand", "share.repair", json!({"id": "office"}), false, deleted_by_hand),
        case("lxc: build a template", "template.build", json!({"name": "second"}), false, nothing),
        case("lxc: shift a tree", "tree.shift", json!({"path": "/srv/third"}), false, populated),
        case("lxc, domain: first share", "share.create", office(&IN_DOMAIN), true, domain),
        case("lxc, domain: join again", "ad.join", by_joiner.clone(), true, left_lxc),
        case("lxc, domain: leave", "ad.leave", by_joiner, true, member_lxc),
        case("lxc, domain: delete the last", "share.delete", json!({"id": "office"}), false, member_lxc),
    ]
}

/// What leaves it to somebody else to have smbd read its configuration, and that.
pub fn waiting_cases() -> Vec<Case> {
    let case = |name, op, params, on, before| Case { name, op, params, password: op == "user.create", on, before };
    let access = ("smbgw-access", "rw:@staff,full:anna");
    let native = json!({"id": "lab", "section": section("/srv/lab", &[access]), "reload": "later"});
    let inside = json!({"id": "lab", "section": lxc("/srv/lab", &[("smbgw-gateway", "office"), access]), "reload": "later"});
    let wider = json!({"id": "office", "section": section("/srv/office", &[("username", "anna"), ("smbgw-access", "rw:anna,rw:ben")]), "reload": "later"});
    let carl = json!({"name": "carl", "reload": "later"});
    vec![
        case("second share, told later", "share.create", native, machine as fn() -> SimHost, furnished as fn(&SimHost)),
        case("more access, told later", "share.update", wider, machine, furnished),
        case("create user, told later", "user.create", carl, machine, expected),
        case("tell", "gateway.reload", json!({"name": "native"}), machine, untold),
        case("lxc: second share, told later", "share.create", inside, proxmox, furnished_lxc),
        case("lxc: tell", "gateway.reload", json!({"name": "office"}), proxmox, untold_lxc),
    ]
}

impl Case {
    /// The machine just before the operation.
    pub fn machine(&self) -> SimHost {
        thread_local! {
            static MADE: RefCell<HashMap<(usize, usize), SimHost>> = RefCell::default();
        }
        let key = (self.on as *const () as usize, self.before as *const () as usize);
        if let Some(host) = MADE.with_borrow(|made| made.get(&key).map(SimHost::snapshot)) {
            return host;
        }
        let host = (self.on)();
        (self.before)(&host);
        MADE.with_borrow_mut(|made| made.insert(key, host.snapshot()));
        host
    }

    /// It is about a container.
    pub fn is_lxc(&self) -> bool {
        std::ptr::eq(self.on as *const (), proxmox as *const ())
    }

    /// It is about the node and no gateway.
    pub fn is_of_node(&self) -> bool {
        self.op.starts_with("template.") || self.op.starts_with("tree.")
    }

    /// What a repair of this operation names.
    pub fn to_repair(&self) -> Value {
        let target = ["id", "name", "path"].iter().find_map(|k| self.params[*k].as_str());
        match (self.is_lxc(), self.is_of_node()) {
            (true, true) => json!({"id": target}),
            (true, false) => json!({"id": "office"}),
            _ => json!({}),
        }
    }

    pub fn run(&self, host: &SimHost) -> Result<Value, Error> {
        run(host, self.op, self.params.clone(), self.password.then_some(PASSWORD))
    }
}

/// The visible world, as far as it has to come back: without journals, snapshots and scratch files, which process is which, the order of
/// lines in account files, when something was removed, the clock (days and seconds of a last change), and numbers, which are never taken back.
pub fn visible(host: &SimHost) -> World {
    let mut w = host.world().without(&["/run/smbgw", "/var/lib/smbgw/ops", "/proc"]);
    plain(&mut w);
    let dirs = ["/var/lib/smbgw/gateways", RECORDS];
    for file in dirs.iter().flat_map(|d| names(&w, d).into_iter().map(move |n| format!("{d}/{n}"))).collect::<Vec<_>>() {
        let record = w.files.text(&file);
        let Ok(mut r) = serde_json::from_str::<Value>(&record) else { continue };
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
        w.files.put(&file, format!("{r:#}"), 0o600, 0, 0);
    }
    // Directories of ours may stay.
    for dir in ["/var/lib/smbgw/gateways", "/var/lib/smbgw/build", "/var/lib/smbgw", RECORDS, "/etc/pve/priv/smbgw"] {
        if names(&w, dir).is_empty() {
            w.files.take(dir);
        }
    }
    w
}

/// Takes away which template a container was made from.
pub fn without_template(w: &mut World) {
    let mut r: Value = serde_json::from_str(&w.files.text(OFFICE)).unwrap_or_default();
    if let Some(o) = r.as_object_mut() {
        o.remove("template");
        w.files.put(OFFICE, format!("{r:#}"), 0o600, 0, 0);
    }
    w.guests.values_mut().for_each(|g| g.world.files.take("/etc/smbgw-template"));
}

/// One world, and those of its containers, without what is by chance.
fn plain(w: &mut World) {
    w.files.take("/run/samba/smbd.pid");
    w.files.take(WINBINDD_PID);
    w.files.take("/run/smbgw");
    if let Some(winbindd) = &mut w.winbindd {
        winbindd.pid = 1;
    }
    // A join gives a computer another password, and its names; whether there is a secret, and for whom, stays.
    for file in [SECRETS, "/var/lib/samba/private/smbgw-before.tdb"].map(str::to_owned) {
        let Some(node) = w.files.get(&file).cloned() else { continue };
        let text = w.files.text(&file);
        let plain = |l: &str| match (l.starts_with("member "), l.rsplit_once(' ')) {
            (true, Some((rest, _))) => format!("{rest} PASSWORD\n"),
            _ => format!("{l}\n"),
        };
        w.files.put(&file, text.lines().map(plain).collect::<String>(), node.mode, node.uid, node.gid);
    }
    if let Some(domain) = &mut w.domain {
        domain.next_rid = 0;
        for a in domain.accounts.values_mut() {
            if let AccountKind::Computer { dns_name, spns, .. } = &mut a.kind {
                (a.password, a.changed_ms) = Default::default();
                (*dns_name, *spns) = Default::default();
            }
        }
    }
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
    // pct makes a directory for each mount, and leaves it.
    for id in names(w, "/srv/smbgw") {
        let dir = format!("/srv/smbgw/{id}");
        if names(w, &dir).is_empty() {
            w.files.take(&dir);
        }
    }
    for g in w.guests.values_mut() {
        g.init = g.init.map(|_| 1);
        plain(&mut g.world);
    }
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

/// The visible world after an operation that was done, whenever that was and whatever the gateway's uuid, its container's SID and hardware
/// address are.
pub fn outcome(host: &SimHost) -> World {
    let mut w = visible(host);
    let mut chance: Vec<(String, &str)> = Vec::new();
    for dir in ["/var/lib/smbgw/gateways", RECORDS] {
        for file in names(&w, dir).into_iter().map(|n| format!("{dir}/{n}")) {
            let Ok(mut r) = serde_json::from_str::<Value>(&w.files.text(&file)) else { continue };
            for (key, by) in [("uuid", "UUID"), ("sid", "SID")] {
                if let Some(v) = r[key].as_str().map(str::to_owned) {
                    r[key] = json!(by);
                    chance.push((v, by));
                }
            }
            if let Some(v) = r["member"]["sid"].as_str().map(str::to_owned) {
                r["member"]["sid"] = json!("COMPUTER");
                chance.push((v, "COMPUTER"));
            }
            if let Some(m) = r["member"].as_object_mut() {
                m.remove("joined-ms");
            }
            if let Some(o) = r.as_object_mut() {
                o.remove("conf-sha256");
                if let Some(at) = o.get_mut("reload-due") {
                    *at = json!("WHEN");
                }
                // It is made from the uuid.
                o.remove("hwaddr");
            }
            if let Some(shares) = r["shares"].as_object_mut() {
                for s in shares.values_mut().filter_map(Value::as_object_mut) {
                    s.remove("since-ms");
                    // A mount that waits for the next start keeps its slot until then.
                    if let Some(m) = s.get_mut("mount").and_then(Value::as_object_mut) {
                        m.remove("slot");
                    }
                }
            }
            w.files.put(&file, format!("{r:#}"), 0o600, 0, 0);
        }
    }
    for n in names(&w, "/var/lib/vz/template/cache").into_iter().filter(|n| n.ends_with(".json")) {
        let file = format!("/var/lib/vz/template/cache/{n}");
        let mut marker: Value = serde_json::from_str(&w.files.text(&file)).expect("a marker");
        marker["built-ms"] = json!(0);
        w.files.put(&file, marker.to_string(), 0o644, 0, 0);
    }
    for n in names(&w, "/etc/pve/nodes/pve1/lxc") {
        let text = w.files.text(format!("/etc/pve/nodes/pve1/lxc/{n}"));
        chance.extend(text.split(',').filter_map(|p| p.strip_prefix("hwaddr=")).map(|h| (h.to_owned(), "HWADDR")));
    }
    rename_chance(&mut w, &chance);
    w
}

fn rename_chance(w: &mut World, chance: &[(String, &str)]) {
    let computers: Vec<&(String, &str)> = chance.iter().filter(|(_, by)| *by == "COMPUTER").collect();
    let config = |w: &World| SimHost::new(w.clone()).config();
    // smbd has read our file, with the SID in it.
    let current = !computers.is_empty() && w.smbd.as_ref().map(|s| s.config.clone()) == config(w);
    let confs = names(w, "/etc/pve/nodes/pve1/lxc").into_iter().map(|n| format!("/etc/pve/nodes/pve1/lxc/{n}"));
    for file in confs.chain([OWN_CONF.to_owned()]).collect::<Vec<_>>() {
        let Some(node) = w.files.get(&file).cloned() else { continue };
        let mut text = chance.iter().fold(w.files.text(&file), |t, (value, by)| t.replace(value, by));
        if file.ends_with(".conf") && file != OWN_CONF {
            let slot = |l: &str| l.starts_with("mp").then(|| l.split_once(": ").map(|(_, m)| format!("mp: {m}"))).flatten();
            text = text.lines().map(|l| slot(l).unwrap_or_else(|| l.to_owned()) + "\n").collect();
        }
        w.files.put(&file, text, node.mode, node.uid, node.gid);
    }
    if let (true, Some(now)) = (current, config(w)) {
        w.smbd.iter_mut().for_each(|s| s.config = now.clone());
    }
    for (value, by) in computers {
        for ace in w.share_acls.values_mut().flatten().filter(|a| a.sid == *value) {
            ace.sid = (*by).to_owned();
        }
        for a in w.domain.iter_mut().flat_map(|d| d.accounts.values_mut()).filter(|a| a.sid == *value) {
            a.sid = (*by).to_owned();
        }
    }
    for (value, by) in chance.iter().filter(|(_, by)| *by == "SID") {
        w.local_sid = w.local_sid.replace(value, by);
    }
    for g in w.guests.values_mut() {
        g.mounts = std::mem::take(&mut g.mounts).into_values().map(|b| (b.target.display().to_string(), b)).collect();
        rename_chance(&mut g.world, chance);
    }
}

/// Nothing of a proof or an import may be left anywhere: accounts, credentials, scratch files.
pub fn scratch_left(host: &SimHost) -> Vec<String> {
    let w = host.world();
    let mut left = scratch_in(&w);
    for (vmid, g) in &w.guests {
        left.extend(scratch_in(&g.world).into_iter().map(|l| format!("container {vmid}: {l}")));
    }
    left.extend(names(&w, "/var/lib/smbgw/build").into_iter().map(|n| format!("/var/lib/smbgw/build/{n}")));
    left.extend(names(&w, "/var/lib/vz/template/cache").into_iter().filter(|n| n.ends_with(".part")));
    left
}

fn scratch_in(w: &World) -> Vec<String> {
    let mut left: Vec<String> = Vec::new();
    for dir in ["/run/smbgw/probe", "/run/smbgw/import", "/run/smbgw/check", "/run/smbgw/domain", "/run/smbgw/carried"] {
        // What is known of the health of memberships is no scratch.
        left.extend(names(w, dir).into_iter().filter(|n| !n.ends_with(".json")).map(|n| format!("{dir}/{n}")));
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
        left.extend(names(w, dir).into_iter().filter(|n| n.starts_with(".smbgw")).map(|n| format!("{dir}/{n}")));
    }
    left
}

/// Takes records of gateways without shares, users, groups and container away, where there was none before.
pub fn forget_empty_record(start: &SimHost, host: &SimHost) {
    for dir in ["/var/lib/smbgw/gateways", RECORDS] {
        for file in names(&host.world(), dir).into_iter().map(|n| format!("{dir}/{n}")) {
            let record: Value = serde_json::from_str(&host.world().files.text(&file)).unwrap_or_default();
            let empty = ["shares", "users", "groups"].iter().all(|k| record[k].as_object().is_none_or(|m| m.is_empty()));
            if start.world().files.text(&file).is_empty() && empty && record["vmid"].is_null() {
                host.change(|w| w.files.take(&file));
            }
        }
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

/// The same machine seen from another node of the cluster (the record directory is shared there).
pub fn from_node(host: &SimHost, node: &str) -> Context {
    let options = Options { node: Some(node.into()), ..Options::default() };
    Context::with_host(options, std::rc::Rc::new(host.clone())).expect("a context")
}

pub fn on_node(host: &SimHost, node: &str, op: &str, params: Value) -> Result<Value, Error> {
    drive(&from_node(host, node), op, &params, None)
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

/// Which of `1..=n` to try: all of a short list, or a seeded sample of about `k`, always with the first and the last. `SMBGW_SEED` makes it
/// another one.
pub fn sample(n: u64, k: u64, seed: u64) -> Vec<u64> {
    if exhaustive() || n <= k {
        return (1..=n).collect();
    }
    let mut picked: Vec<u64> = vec![1, n];
    let other: u64 = std::env::var("SMBGW_SEED").map_or(0, |s| s.parse().expect("SMBGW_SEED is a number"));
    let mut x = (seed ^ other << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
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
