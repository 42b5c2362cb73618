// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gateways in an Active Directory domain, on the simulated machine: joining, what is refused before, what is recorded, who may then do what,
//! leaving.
#![allow(clippy::disallowed_methods)]

mod common;

use common::{
    IN_DOMAIN, OFFICE, OWN_CONF, PASSWORD, RECORD, context, create, create_lxc, domain, furnished, lxc, machine, member,
    member_lxc, names, proxmox, reconcile, run, section, sections, sid,
};
use serde_json::{Value, json};
use smbgw_core::effect::Program;
use smbgw_core::error::{Error, Kind};
use smbgw_core::gateway::Progress;
use smbgw_core::host::Host;
use smbgw_core::host::sim::{Access, AccountKind, Death, Fault, SECRETS, SimHost};

const STRICT: &str = "[global]\n   server min protocol = SMB3_11\n   server signing = mandatory\n   server smb encrypt = desired\n   \
                      map to guest = Never\n   restrict anonymous = 2\n   ntlm auth = ntlmv2-only\n   workgroup = WORKGROUP\n";

fn record(host: &SimHost, path: &str) -> Value {
    serde_json::from_str(&host.world().files.text(path)).expect("a record")
}

fn doc(e: &Error) -> Value {
    json!(e.to_doc())
}

/// The properties that an error complains about, and all its words.
fn complaint(e: &Error) -> (Vec<String>, String) {
    let d = e.to_doc();
    (d.problems.iter().map(|p| p.property.clone()).collect(), doc(e).to_string())
}

fn is_member(host: &SimHost) -> bool {
    host.world().files.text(SECRETS).contains("\nmember EXAMPLE ")
}

fn computers(host: &SimHost) -> Vec<String> {
    host.world().domain.expect("a domain").computers()
}

/// A share with other properties than the usual ones.
fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let mut all: Vec<_> = IN_DOMAIN.into_iter().filter(|(k, _)| !more.iter().any(|(m, _)| m == k)).collect();
    all.extend(more.iter().copied().filter(|(_, v)| !v.is_empty()));
    all
}

fn refused(host: &SimHost, more: &[(&'static str, &'static str)]) -> Error {
    let before = host.world().without(&["/run/smbgw", "/var/lib/smbgw"]);
    let e = create(host, "office", "/srv/office", &with(more)).expect_err("it is refused");
    let now = host.world().without(&["/run/smbgw", "/var/lib/smbgw"]);
    assert_eq!(before.differences(&now), [] as [&str; 0], "{:#}", doc(&e));
    e
}

#[test]
fn a_native_gateway_joins_with_its_first_share() {
    let host = machine();
    domain(&host);
    let done = create(&host, "office", "/srv/office", &IN_DOMAIN).unwrap_or_else(|e| panic!("{:#}", doc(&e)));
    assert_eq!(done["state"], "ready");
    assert_eq!(done["section"].get("username"), None, "{done:#}");
    let r = record(&host, RECORD);
    let m = &r["member"];
    assert_eq!((&m["state"], &m["workgroup"], &m["computer"]), (&json!("joined"), &json!("EXAMPLE"), &json!("PVE1")));
    assert_eq!((&m["account-before"], &m["started-winbindd"], &m["added-names"]), (&json!(false), &json!(true), &json!(true)));
    assert_eq!(m["sid"], json!(sid(&host, "PVE1$")));
    assert_eq!(r["accounts"]["example\\staff"], json!({"account": "EXAMPLE\\staff", "sid": sid(&host, "staff"), "group": true}));
    assert!(!r.to_string().contains("joiner"), "{r:#}");
    assert!(is_member(&host) && host.world().winbindd.is_some());

    // By SID: those of the group, also of a group in it, and the computer itself.
    let config = host.config().expect("a configuration");
    let wanted = [sid(&host, "staff"), sid(&host, "PVE1$")];
    for list in ["valid users", "write list"] {
        assert_eq!(config.share("office").expect("a share").list(list), wanted, "{list}");
    }
    assert_eq!(config.global("security"), "ADS");
    for (who, may) in [("alice", Some(Access::Write)), ("bob", Some(Access::Write)), ("clerk", None)] {
        assert_eq!(host.access(&format!("EXAMPLE\\{who}"), "office"), may, "{who}");
    }
    assert!(host.connect("EXAMPLE\\alice", "secret", "office").is_ok());
    assert_eq!(host.connect("EXAMPLE\\alice", "wrong", "office"), Err("NT_STATUS_LOGON_FAILURE"));
    assert_eq!(host.connect("EXAMPLE\\clerk", PASSWORD, "office"), Err("NT_STATUS_ACCESS_DENIED"));
    // The proof made no account.
    assert!(!host.commands().iter().any(|c| c.contains("useradd") || c.contains("smbpasswd")), "{:#?}", host.commands());
}

#[test]
fn a_container_joins_with_its_first_share() {
    let host = proxmox();
    domain(&host);
    let before = host.world();
    create_lxc(&host, "office", "/srv/office", &IN_DOMAIN).unwrap_or_else(|e| panic!("{:#}", doc(&e)));
    let r = record(&host, OFFICE);
    assert_eq!((&r["member"]["computer"], &r["member"]["state"]), (&json!("OFFICE"), &json!("joined")));
    assert_eq!(computers(&host), ["OFFICE"]);
    let inside = host.within(100);
    assert_eq!(inside.access("EXAMPLE\\bob", "office"), Some(Access::Write));
    assert!(inside.connect("EXAMPLE\\alice", "secret", "office").is_ok());
    let w = &host.world().guests[&100].world;
    assert!(w.winbindd.is_some() && w.files.get("/etc/systemd/system/winbind.service.d/smbgw.conf").is_some());
    // Nothing of a domain is on the node.
    let node =
        |w: &smbgw_core::host::sim::World| (w.files.text(SECRETS), w.files.text("/etc/nsswitch.conf"), w.winbindd.is_some());
    assert_eq!(node(&before), node(&host.world()));
}

#[test]
fn a_second_share_needs_no_account_and_looks_its_own_accounts_up() {
    for lxc in [false, true] {
        let host = if lxc { proxmox() } else { machine() };
        if lxc {
            member_lxc(&host)
        } else {
            member(&host)
        }
        let calls = host.commands().len();
        let more = [("smbgw-access", "ro:EXAMPLE\\alice,full:@EXAMPLE\\crew"), ("smbgw-gateway", "office")];
        let made = if lxc { create_lxc(&host, "lab", "/srv/lab", &more) } else { create(&host, "lab", "/srv/lab", &more[..1]) };
        made.unwrap_or_else(|e| panic!("{:#}", doc(&e)));
        assert!(!host.commands()[calls..].iter().any(|c| c.contains("ads join")), "lxc: {lxc}");
        let r = record(&host, if lxc { OFFICE } else { RECORD });
        assert_eq!(r["accounts"].as_object().expect("accounts").len(), 3, "{r:#}");
        let there = if lxc { host.within(100) } else { host.clone() };
        assert_eq!(there.access("EXAMPLE\\alice", "lab"), Some(Access::Read));
        assert_eq!(there.access("EXAMPLE\\bob", "lab"), Some(Access::Write));
        // Full control for some holds the others down by the share ACL, by SID too.
        let world = host.world();
        let acl = if lxc { &world.guests[&100].world.share_acls["lab"] } else { &world.share_acls["lab"] };
        let computer = sid(&host, if lxc { "OFFICE$" } else { "PVE1$" });
        let mut rights: Vec<(&str, &str)> = acl.iter().map(|a| (a.sid.as_str(), a.rights.as_str())).collect();
        rights.sort_unstable();
        let (alice, crew) = (sid(&host, "alice"), sid(&host, "crew"));
        let mut wanted = vec![(alice.as_str(), "READ"), (crew.as_str(), "FULL"), (computer.as_str(), "CHANGE")];
        wanted.sort_unstable();
        assert_eq!(rights, wanted);
    }
}

#[test]
fn the_plan_has_its_phases_and_steps_in_order() {
    let host = machine();
    domain(&host);
    // As they were written down.
    create(&host, "office", "/srv/office", &IN_DOMAIN).unwrap_or_else(|e| panic!("{:#}", doc(&e)));
    let world = host.world();
    let journal = names(&world, "/var/lib/smbgw/ops").into_iter().find(|n| n.ends_with(".jsonl")).expect("a journal");
    let text = world.files.text(format!("/var/lib/smbgw/ops/{journal}"));
    let mut ids: Vec<String> = Vec::new();
    for line in text.lines() {
        collect(&serde_json::from_str(line.trim_start_matches(|c| c != '{')).unwrap_or_default(), &mut ids);
    }
    let at = |id: &str| ids.iter().position(|i| i == id).unwrap_or_else(|| panic!("{id} is not among {ids:?}"));
    let order = [
        "files/share",
        "domain/find",
        "directory/krb5",
        "directory/names",
        "directory/secrets",
        "directory/join",
        "directory/accounts",
        "identity/group",
        "samba/own-file",
        "samba/winbindd",
        "samba/restart",
        "member/prove",
        "proof/round-trip",
        "proof/ready",
    ];
    assert!(order.windows(2).all(|w| at(w[0]) < at(w[1])), "{ids:?}");
    assert!(!ids.iter().any(|i| i.starts_with("proof/account")), "{ids:?}");
    assert!(!text.contains(PASSWORD) && !text.contains("sim-secret-"), "a secret in the journal");
}

/// Every step id in a document.
fn collect(v: &Value, ids: &mut Vec<String>) {
    match v {
        Value::Object(o) => {
            if let (Some(id), true) = (o.get("id").and_then(Value::as_str), o.contains_key("effect")) {
                ids.push(id.to_owned());
            }
            o.values().for_each(|v| collect(v, ids));
        }
        Value::Array(a) => a.iter().for_each(|v| collect(v, ids)),
        _ => {}
    }
}

#[test]
fn nothing_secret_is_left_anywhere() {
    for lxc in [false, true] {
        let host = if lxc { proxmox() } else { machine() };
        if lxc {
            member_lxc(&host)
        } else {
            member(&host)
        }
        let w = host.world();
        let all = std::iter::once(&w).chain(w.guests.values().map(|g| &*g.world));
        for w in all {
            for dir in ["/run/smbgw", "/run/smbgw/pending", "/run/smbgw/domain", "/run/smbgw/status", "/var/lib/smbgw/ops"] {
                for file in names(w, dir).into_iter().map(|n| format!("{dir}/{n}")) {
                    let text = w.files.text(&file);
                    assert!(!text.contains(PASSWORD) && !text.contains("sim-secret-"), "{file}: {text}");
                }
            }
        }
        assert!(!host.commands().iter().any(|c| c.contains(PASSWORD)));
        assert!(!record(&host, if lxc { OFFICE } else { RECORD }).to_string().contains("joiner"));
    }
}

#[test]
fn a_node_with_other_users_of_samba_is_not_taken_over() {
    let host = machine();
    domain(&host);
    host.change(|w| {
        // What it has in [global] would be strict enough.
        let text = STRICT.to_owned() + "\n[media]\n   path = /srv/third\n   read only = no\n";
        w.files.put("/etc/samba/smb.conf", text, 0o644, 0, 0);
    });
    let e = refused(&host, &[]);
    assert_eq!((e.kind(), complaint(&e).0), (Kind::Unsafe, vec!["domain".to_owned()]), "{:#}", doc(&e));
    assert!(complaint(&e).1.contains("media"));

    let host = machine();
    domain(&host);
    common::type_in(&host, Program::Useradd, &["--uid", "1500", "old"]).expect("a user");
    host.change(|w| {
        let account = smbgw_core::host::sim::Account { rid: 1000, nt_hash: "0".repeat(32), flags: "U".into(), lct: 0 };
        w.passdb.insert("old".into(), account);
    });
    let e = refused(&host, &[]);
    assert_eq!((e.kind(), complaint(&e).0), (Kind::Unsafe, vec!["domain".to_owned()]), "{:#}", doc(&e));

    let host = machine();
    domain(&host);
    host.change(|w| {
        let text =
            w.files.text("/etc/samba/smb.conf").replace("[global]", "[global]\n   security = ADS\n   realm = OTHER.TEST\n");
        w.files.put("/etc/samba/smb.conf", text.replace("   server role = standalone server\n", ""), 0o644, 0, 0);
    });
    let e = refused(&host, &[]);
    assert_eq!(e.kind(), Kind::Conflict, "{:#}", doc(&e));
    assert!(complaint(&e).1.contains("OTHER.TEST"));
}

#[test]
fn numbers_that_somebody_has_are_not_given_to_a_domain() {
    let host = machine();
    domain(&host);
    host.change(|w| w.files.put("/etc/subuid", "root:100000:65536\nanna:1000000:65536\n", 0o644, 0, 0));
    let e = refused(&host, &[]);
    assert_eq!(complaint(&e).0, ["smbgw-idmap"], "{:#}", doc(&e));
    assert!(complaint(&e).1.contains("/etc/subuid"));
    create(&host, "office", "/srv/office", &with(&[("smbgw-idmap", "2000000-2999999")]))
        .unwrap_or_else(|e| panic!("{:#}", doc(&e)));

    let host = machine();
    domain(&host);
    common::type_in(&host, Program::Groupadd, &["--gid", "1000500", "big"]).expect("a group");
    assert_eq!(complaint(&refused(&host, &[])).0, ["smbgw-idmap"]);
}

#[test]
fn local_users_are_told_before_they_are_locked_out() {
    let host = machine();
    domain(&host);
    let e = refused(&host, &[("smbgw-access", "rw:anna")]);
    assert_eq!(complaint(&e).0, ["smbgw-access"], "{:#}", doc(&e));
    // Those of other shares of the same gateway.
    furnished(&host);
    let params = json!({"domain": "example.test", "username": "joiner"});
    let e = run(&host, "ad.join", params, Some(PASSWORD)).expect_err("anna could not log in");
    assert!(complaint(&e).1.contains("anna"), "{:#}", doc(&e));
    assert_eq!(computers(&host), [] as [&str; 0]);
}

#[test]
fn what_is_missing_or_wrong_about_the_account() {
    let host = machine();
    domain(&host);
    let e = refused(&host, &[("username", "")]);
    assert_eq!(complaint(&e).0, ["username"], "{:#}", doc(&e));
    let params = json!({"id": "office", "section": section("/srv/office", &IN_DOMAIN)});
    let e = run(&host, "share.create", params, None).expect_err("no password");
    assert_eq!(complaint(&e).0, ["password"], "{:#}", doc(&e));
    for (name, reason) in [("nobody", "bad-credential"), ("alice", "bad-credential")] {
        let e = refused(&host, &[("username", name)]);
        assert_eq!(e.to_doc().story.reason.as_deref(), Some(reason), "{name}: {:#}", doc(&e));
    }
    host.change(|w| w.domain_mut().account_mut("alice").expect("alice").password = PASSWORD.into());
    let e = refused(&host, &[("username", "alice")]);
    assert_eq!(e.to_doc().story.reason.as_deref(), Some("no-rights"), "{:#}", doc(&e));
    // A clerk may join into one unit.
    let e = refused(&host, &[("username", "clerk"), ("smbgw-ad-ou", "Servers/Nope")]);
    assert_eq!(complaint(&e).0, ["smbgw-ad-ou"], "{:#}", doc(&e));
    create(&host, "office", "/srv/office", &with(&[("username", "clerk"), ("smbgw-ad-ou", "Servers/Files")]))
        .unwrap_or_else(|e| panic!("{:#}", doc(&e)));
    assert_eq!(computers(&host), ["PVE1"]);
}

#[test]
fn accounts_that_give_no_access_are_refused() {
    for (access, reason) in [
        ("rw:EXAMPLE\\nobody", "name-unknown"),
        ("rw:EXAMPLE\\staff", "name-of-other-kind"),
        ("rw:@EXAMPLE\\alice", "name-of-other-kind"),
        ("rw:@EXAMPLE\\news", "group-not-security"),
    ] {
        let host = machine();
        domain(&host);
        let e = create(&host, "office", "/srv/office", &with(&[("smbgw-access", access)])).expect_err(access);
        assert_eq!(e.to_doc().story.reason.as_deref(), Some(reason), "{access}: {:#}", doc(&e));
        assert_eq!(complaint(&e).0, ["smbgw-access"], "{access}");
        // The join was taken back.
        assert_eq!((computers(&host), is_member(&host)), (Vec::<String>::new(), false), "{access}");
    }
    let host = machine();
    domain(&host);
    let e = create(&host, "office", "/srv/office", &with(&[("smbgw-access", "rw:OTHER\\alice")])).expect_err("another domain");
    assert_eq!(complaint(&e).0, ["smbgw-access"], "{:#}", doc(&e));
    assert_eq!((computers(&host), is_member(&host)), (Vec::<String>::new(), false));
}

#[test]
fn a_domain_that_is_not_well_is_not_joined() {
    type Change = fn(&SimHost);
    let cases: [(&str, Change, &str); 5] = [
        ("clock", |h| h.change(|w| w.domain_mut().offset_s = -600), "clock-skew"),
        ("down", |h| h.change(|w| w.set_domain_up(false)), "dns-silent"),
        ("no server", |h| h.change(|w| w.files.take("/etc/resolv.conf")), "dns-no-server"),
        ("disabled", |h| h.change(|w| w.domain_mut().account_mut("joiner").expect("joiner").disabled = true), "account-revoked"),
        (
            "taken",
            |h| {
                let spns = Vec::new();
                let kind = AccountKind::Computer { dns_name: "pve1.elsewhere.test".into(), spns, unit: None };
                h.change(|w| _ = w.domain_mut().add("PVE1$", kind));
            },
            "name-taken",
        ),
    ];
    for (what, change, reason) in cases {
        let host = machine();
        domain(&host);
        change(&host);
        let e = refused(&host, &[]);
        assert_eq!(e.to_doc().story.reason.as_deref(), Some(reason), "{what}: {:#}", doc(&e));
    }
}

#[test]
fn a_computer_that_was_made_before_is_used_and_stays() {
    let host = machine();
    domain(&host);
    let kind = AccountKind::Computer { dns_name: String::new(), spns: Vec::new(), unit: Some("Servers/Files".into()) };
    let made = host.change(|w| w.domain_mut().add("PVE1$", kind));
    create(&host, "office", "/srv/office", &with(&[("username", "clerk")])).unwrap_or_else(|e| panic!("{:#}", doc(&e)));
    let m = record(&host, RECORD)["member"].clone();
    assert_eq!((&m["account-before"], &m["sid"]), (&json!(true), &json!(made)));
}

#[test]
fn what_cannot_be_changed_in_a_domain() {
    let host = machine();
    member(&host);
    for (name, value) in [("domain", "other.test"), ("smbgw-idmap", "3000000-3999999"), ("smbgw-ad-ou", "Servers")] {
        let section = section("/srv/office", &with(&[("username", ""), (name, value)]));
        let e = run(&host, "share.update", json!({"id": "office", "section": section}), None).expect_err(name);
        assert!(complaint(&e).0.contains(&name.to_owned()), "{name}: {:#}", doc(&e));
    }
    assert!(is_member(&host));
}

#[test]
fn a_hook_leaves_the_account_to_the_worker() {
    let host = proxmox();
    domain(&host);
    let wanted = lxc("/srv/office", &IN_DOMAIN);
    let params = json!({"id": "office", "section": wanted, "defer": true});
    let done = run(&host, "share.create", params, Some(PASSWORD)).unwrap_or_else(|e| panic!("{:#}", doc(&e)));
    assert_eq!(done["state"], "provisioning");
    let mut kept = done["section"].clone();
    assert_eq!(kept.get("username"), None, "{done:#}");
    let waiting = host.world().files.text("/run/smbgw/pending/office");
    assert!(waiting.contains("joiner") && waiting.contains(PASSWORD));
    assert_eq!(host.world().files.get("/run/smbgw/pending/office").map(|n| n.mode), Some(0o600));
    // As storage.cfg then has it.
    kept["type"] = json!("smbgateway");
    reconcile(&host, &json!({"office": kept})).unwrap_or_else(|e| panic!("{:#}", doc(&e)));
    assert_eq!(host.world().files.text("/run/smbgw/pending/office"), "");
    assert_eq!(computers(&host), ["OFFICE"]);
    let r = record(&host, OFFICE);
    assert_eq!((&r["member"]["state"], &r["shares"]["office"]["state"]), (&json!("joined"), &json!("ready")));
    assert!(!r.to_string().contains("joiner"));
}

#[test]
fn the_last_share_takes_the_membership_along() {
    let host = machine();
    domain(&host);
    let before = host.world();
    create(&host, "office", "/srv/office", &IN_DOMAIN).unwrap_or_else(|e| panic!("{:#}", doc(&e)));
    let done = run(&host, "share.delete", json!({"id": "office"}), None).unwrap_or_else(|e| panic!("{:#}", doc(&e)));
    assert!(done["warnings"].to_string().contains("PVE1"), "{done:#}");
    let w = host.world();
    assert_eq!(computers(&host), ["PVE1"], "nobody was there who could delete it");
    for file in [SECRETS, "/etc/nsswitch.conf", "/etc/samba/smb.conf"] {
        assert_eq!(w.files.text(file), before.files.text(file), "{file}");
    }
    for file in
        ["/etc/samba/smbgw-krb5.conf", OWN_CONF, "/var/lib/samba/private/smbgw-before.tdb", "/var/lib/samba/private/smbgw.keytab"]
    {
        assert!(w.files.get(file).is_none(), "{file}");
    }
    assert!(w.winbindd.is_none() && w.smbd.is_some());
    let r = record(&host, RECORD);
    assert_eq!((r.get("member"), r.get("accounts")), (None, None), "{r:#}");
    // And once more, over the account that was left.
    create(&host, "office", "/srv/office", &IN_DOMAIN).unwrap_or_else(|e| panic!("{:#}", doc(&e)));
    assert_eq!(record(&host, RECORD)["member"]["account-before"], true);
}

#[test]
fn a_gateway_leaves_and_comes_back() {
    for (is_lxc, keep) in [(false, false), (false, true), (true, false), (true, true)] {
        let host = if is_lxc { proxmox() } else { machine() };
        if is_lxc {
            member_lxc(&host)
        } else {
            member(&host)
        }
        let (gateway, computer, path) = if is_lxc { ("office", "OFFICE$", OFFICE) } else { ("native", "PVE1$", RECORD) };
        let there = || if is_lxc { host.within(100) } else { host.clone() };
        let params = json!({"gateway": gateway, "username": "joiner", "keep-account": keep});
        let e = run(&host, "ad.leave", params.clone(), Some("wrong")).expect_err("a wrong password");
        assert_eq!(e.to_doc().story.reason.as_deref(), Some("bad-credential"), "{:#}", doc(&e));
        assert_eq!(there().access("EXAMPLE\\alice", "office"), Some(Access::Write));
        run(&host, "ad.leave", params, Some(PASSWORD)).unwrap_or_else(|e| panic!("{:#}", doc(&e)));
        let left = host.world().domain.and_then(|d| d.account(computer).map(|a| a.disabled));
        assert_eq!(left, keep.then_some(true), "lxc {is_lxc}, keep {keep}");
        assert_eq!(record(&host, path)["member"]["state"], "left");
        assert_eq!(there().access("EXAMPLE\\alice", "office"), None);
        assert_eq!(there().config().expect("a configuration").global("security"), "AUTO");
        // Nobody joins again without being told to.
        reconcile(&host, &common::sections(&host)).unwrap_or_else(|e| panic!("{:#}", doc(&e)));
        assert_eq!(record(&host, path)["member"]["state"], "left");
        let params = json!({"gateway": gateway, "username": "joiner"});
        run(&host, "ad.join", params, Some(PASSWORD)).unwrap_or_else(|e| panic!("{:#}", doc(&e)));
        assert_eq!(there().access("EXAMPLE\\alice", "office"), Some(Access::Write), "lxc {is_lxc}, keep {keep}");
        let sid = sid(&host, computer);
        assert!(there().config().expect("one").share("office").expect("a share").list("valid users").contains(&sid));
    }
}

#[test]
fn the_domain_can_be_asked() {
    let host = machine();
    member(&host);
    let ask = |op: &str, params: Value| context(&host).query(op, &params).unwrap_or_else(|e| panic!("{op}: {:#}", doc(&e)));
    assert_eq!(ask("ad.check", json!({}))["ok"], true, "{:#}", ask("ad.check", json!({})));
    let names = |v: &Value| v["accounts"].as_array().expect("a list").iter().map(|a| a["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&ask("ad.groups", json!({}))), ["EXAMPLE\\crew", "EXAMPLE\\staff"], "none for mail");
    assert_eq!(names(&ask("ad.users", json!({"match": "AL"}))), ["EXAMPLE\\alice"]);
    let bob = ask("ad.whoami", json!({"name": "bob"}));
    assert_eq!((&bob["kind"], &bob["shares"][0]["level"]), (&json!("user"), &json!("rw")), "{bob:#}");
    host.change(|w| w.domain_mut().accounts.remove("pve1$"));
    let check = ask("ad.check", json!({}));
    assert_eq!(check["ok"], false);
    assert!(check.to_string().contains("machine-account-gone"), "{check:#}");
}

/// The machine's part of a domain where systemd runs.
#[test]
fn systemd_starts_winbindd_with_our_kerberos_configuration() {
    let host = machine();
    domain(&host);
    host.change(|w| w.systemd = true);
    create(&host, "office", "/srv/office", &IN_DOMAIN).unwrap_or_else(|e| panic!("{:#}", doc(&e)));
    for unit in ["smbd.service", "winbind.service"] {
        let text = host.world().files.text(format!("/etc/systemd/system/{unit}.d/smbgw.conf"));
        assert!(text.contains("KRB5_CONFIG=/etc/samba/smbgw-krb5.conf"), "{unit}: {text}");
    }
    assert!(host.commands().iter().any(|c| c == "systemctl start winbind.service"));
    assert!(host.commands().iter().any(|c| c == "systemctl enable winbind.service"));
    host.change(|w| w.smbd_enabled = true);
    host.reboot();
    assert!(host.world().winbindd.is_some(), "it starts with the machine");
    run(&host, "share.delete", json!({"id": "office"}), None).unwrap_or_else(|e| panic!("{:#}", doc(&e)));
    let w = host.world();
    assert!(w.winbindd.is_none());
    assert!(w.files.get("/etc/systemd/system/multi-user.target.wants/winbind.service").is_none());
}

/// What a destroyed container held cannot be brought back without somebody of the domain; the rest of the gateway can.
#[test]
fn a_container_that_was_destroyed_comes_back_without_its_membership() {
    let host = proxmox();
    member_lxc(&host);
    common::type_in(&host, Program::Pct, &["destroy", "100", "--force", "1", "--purge", "1"]).expect("destroyed");
    let done = reconcile(&host, &common::sections(&host)).unwrap_or_else(|e| panic!("{:#}", doc(&e)));
    assert!(host.world().guests.contains_key(&100), "{done:#}");
    run(&host, "ad.join", json!({"gateway": "office", "username": "joiner"}), Some(PASSWORD))
        .unwrap_or_else(|e| panic!("{:#}", doc(&e)));
    assert_eq!(host.within(100).access("EXAMPLE\\alice", "office"), Some(Access::Write));
}

#[test]
fn a_look_at_the_domain_keeps_nobody_waiting() {
    let host = machine();
    member(&host);
    host.change(|w| w.set_domain_up(false));
    let wanted = sections(&host);
    let other = || {
        let section = section("/srv/office", &with(&[("username", ""), ("smbgw-access", "ro:@EXAMPLE\\staff")]));
        json!({"id": "office", "section": section, "lock-wait-ms": 0})
    };
    let worker = context(&host);
    let mut run_of_worker = worker.begin("reconcile", &json!({"sections": wanted})).expect("begun");
    let (mut busy, mut changed) = (0, false);
    let mut progress = run_of_worker.step().expect("a step");
    while matches!(progress, Progress::Working(_)) {
        match run(&host, "share.update", other(), None) {
            Ok(_) => changed = true,
            Err(e) if e.kind() == Kind::Busy && !changed => busy += 1,
            Err(e) if e.kind() == Kind::Busy => {}
            Err(e) => panic!("{:#}", doc(&e)),
        }
        progress = run_of_worker.step().expect("a step");
    }
    assert!(busy > 0, "what the worker changes, nobody else does");
    assert!(changed, "while it asks the domain, others may");
    assert!(matches!(progress, Progress::Done(_)));
    assert_eq!(host.access("EXAMPLE\\alice", "office"), Some(Access::Read));
}

#[test]
fn a_removal_of_a_members_last_share_that_is_cut_short_is_finished_as_a_whole() {
    let start = machine();
    member(&start);
    let delete = |host: &SimHost| run(host, "share.delete", json!({"id": "office"}), None);
    let done = start.snapshot();
    delete(&done).expect("deleted");
    let writes = done.journal_writes() - start.journal_writes();
    let mut finished = 0;
    for n in 1..=writes {
        let host = start.snapshot();
        host.arm_append(n, Fault::Dies(Death::Kill));
        delete(&host).expect_err("it died");
        host.reboot();
        run(&host, "share.repair", json!({}), None).unwrap_or_else(|e| panic!("write {n}: {:#?}", e.to_doc()));
        let record: Value = serde_json::from_str(&host.world().files.text(RECORD)).expect("a record");
        match record["shares"]["office"]["state"].as_str() {
            // Too early to be known of.
            Some("ready") => assert!(n < 3, "write {n} of {writes}: {record:#}"),
            None => {
                let at = |h: &SimHost| {
                    (h as &dyn Host).tree(std::path::Path::new("/srv/office")).map(|t| (t.uid, t.gid, t.mode)).expect("a tree")
                };
                assert_eq!(at(&host), at(&done), "write {n} of {writes}");
                finished += 1;
            }
            other => panic!("write {n} of {writes}: {other:?}"),
        }
    }
    assert!(finished > 20, "{finished} of {writes}");
}
