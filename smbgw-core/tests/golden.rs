// SPDX-License-Identifier: MIT OR Apache-2.0
//! One case is one directory of `tests/golden`: `request.json` (operation, parameters, and the machine the facts came from) and `facts.json` go
//! in; the plan, our configuration file with the changes of smb.conf, the status document afterwards and the problems come out. What is not
//! there is empty. `SMBGW_BLESS=1` rewrites what is expected, and makes the facts of a new case on the simulated machine; the difference is
//! then reviewed by eye.
#![allow(clippy::disallowed_methods)]

mod common;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use common::{create, furnished, furnished_lxc, machine, proxmox, run};
use serde_json::{Value, json};
use smbgw_core::effect::HAND_VERSION;
use smbgw_core::error::{Error, Result};
use smbgw_core::facts::{Facts, Paths};
use smbgw_core::host::Machines;
use smbgw_core::host::Space;
use smbgw_core::host::sim::{Mount, SimHost};
use smbgw_core::observe::{self, Need};
use smbgw_core::plan::step::Effect;
use smbgw_core::plan::{self, Intent, assume};
use smbgw_core::spec::section::{self, Mode, Surroundings};
use smbgw_core::status::{self, Look};
use smbgw_core::types::{GatewayId, NodeName};

fn smb_conf(host: &SimHost, edit: impl Fn(&str) -> String) {
    host.change(|w| {
        let text = edit(&w.files.text(common::SMB_CONF));
        w.files.put(common::SMB_CONF, text, 0o644, 0, 0);
    });
    host.change(|w| {
        w.smbd = None;
        w.files.take("/run/samba/smbd.pid");
    });
    host.start_smbd();
}

const FOREIGN: &str = "\n[media]\n   path = /srv/third\n   read only = no\n";
const STRICT: &str = "[global]\n   server min protocol = SMB3_11\n   server signing = mandatory\n   server smb encrypt = desired\n   map to guest = Never\n   restrict anonymous = 2\n   ntlm auth = ntlmv2-only\n   lanman auth = no\n   raw NTLMv2 auth = no\n   allow insecure wide links = no\n   workgroup = WORKGROUP\n";

/// What stands in facts for the version of the hand.
const HAND: &str = "THE VERSION OF THE HAND";

/// Machines by name, for the facts of new cases.
fn scene(name: &str) -> SimHost {
    if let Some(what) = name.strip_prefix("proxmox") {
        let host = proxmox();
        match what.trim() {
            "" => {}
            "furnished" => furnished_lxc(&host),
            "newer template" => {
                furnished_lxc(&host);
                run(&host, "template.build", json!({"name": "second"}), None).expect("a second template");
            }
            other => panic!("there is no node called {other}"),
        }
        return host;
    }
    let host = machine();
    match name {
        "stock" => {}
        "domain" => common::domain(&host),
        "foreign" => smb_conf(&host, |t| format!("{t}{FOREIGN}")),
        "strict foreign" => smb_conf(&host, |_| format!("{STRICT}{FOREIGN}")),
        "furnished" => furnished(&host),
        "two" => {
            furnished(&host);
            create(&host, "lab", "/srv/lab", &[("smbgw-access", "ro:ben,full:anna")]).expect("lab");
        }
        "hand-edited" => {
            furnished(&host);
            host.change(|w| {
                let text = w.files.text(common::OWN_CONF).replace("read only = yes", "read only = no");
                w.files.put(common::OWN_CONF, text, 0o644, 0, 0);
            });
        }
        "child mounts" => host.change(|w| w.files.mount("/srv/lab/archive", Mount::new(0x51, "xfs"))),
        "read-only" => host.change(|w| {
            let mount = Mount { read_only: true, ..Mount::new(0x52, "ext4") };
            w.files.mount("/srv/lab", mount);
        }),
        "smbd stopped" => host.change(|w| {
            w.smbd = None;
            w.files.take("/run/samba/smbd.pid");
        }),
        other => panic!("there is no machine called {other}"),
    }
    host
}

fn make_facts(request: &Value) -> Facts {
    let host = scene(request["machine"].as_str().expect("the name of a machine"));
    // A gateway that is named is a container.
    let gateway = request["gateway"].as_str();
    let paths = Paths {
        smb_conf: common::SMB_CONF.into(),
        own_conf: common::OWN_CONF.into(),
        run_dir: "/run/smbgw".into(),
        lock_dir: "/run/smbgw/lock".into(),
        state_dir: "/var/lib/smbgw".into(),
        record_file: gateway.map_or(common::RECORD.into(), |g| format!("{}/{g}.json", common::RECORDS).into()),
        gateway: GatewayId::new(gateway.unwrap_or("native")).expect("a name"),
        mode: if gateway.is_some() { Mode::Lxc } else { Mode::Native },
    };
    let tree = request["params"]["section"]["path"].as_str().map(PathBuf::from);
    let need = Need { trees: tree.into_iter().collect(), owned: true, ..Need::default() };
    observe::facts(&Machines::new(Rc::new(host)), "pve1", &paths, &need).expect("facts")
}

fn intent(request: &Value, facts: &Facts) -> Result<(Intent, Vec<String>)> {
    let params = &request["params"];
    let id = params["id"].as_str().unwrap_or_default().to_owned();
    let op = request["op"].as_str().unwrap_or_default();
    if op == "share.delete" {
        return Ok((Intent::Delete { id, actor: "root@pam".into() }, Vec::new()));
    }
    if op == "gateway.upgrade" {
        return Ok((Intent::GatewayUpgrade(None), Vec::new()));
    }
    let wanted = section::section_from_json(&params["section"])?;
    let mut sections = section::sections_from_json(params.get("sections").unwrap_or(&json!({})))?;
    for (id, e) in facts.record.iter().flat_map(|r| &r.shares) {
        let mut known = e.section.clone();
        known.insert("type".into(), "smbgateway".into());
        sections.entry(id.clone()).or_insert(known);
    }
    let checked = section::check(&id, &wanted, &Surroundings { sections, ..Surroundings::alone(NodeName::new(&facts.node)?) })?;
    let mut section = wanted;
    section.extend(checked.effective.clone());
    section.remove("password");
    let password = checked.spec.first_user.is_some() || checked.spec.join.is_some();
    section.retain(|k, _| k != "username" || checked.spec.join.is_none());
    let spec = Box::new(checked.spec);
    let later = params["reload"] == "later";
    let intent = if op == "share.create" {
        Intent::Create { spec, section, password, later }
    } else {
        Intent::Update { spec, section, password, later }
    };
    Ok((intent, checked.warnings))
}

fn problems(e: &Error) -> String {
    let doc = e.to_doc();
    let mut text = format!("{:?}: {}\n", doc.kind, doc.message);
    for p in &doc.problems {
        text.push_str(&format!("  {}: {}\n", p.property, p.message));
    }
    for r in doc.remedy.iter() {
        text.push_str(&format!("remedy: {r}\n"));
    }
    text
}

/// File name and content of everything that comes out.
fn outputs(request: &Value, facts: &Facts) -> Vec<(&'static str, String)> {
    let planned = intent(request, facts).and_then(|(i, warnings)| {
        let mut plan = plan::ahead(&i, facts)?;
        plan.warnings.splice(0..0, warnings);
        Ok(plan)
    });
    let plan = match planned {
        Ok(p) => p,
        Err(e) => return vec![("problems.expect", problems(&e))],
    };
    let (mut later, mut conf) = (facts.clone(), String::new());
    for step in plan.phases.iter().flat_map(|p| &p.steps) {
        if let Effect::Write(file) = &step.effect {
            let old = if file.path == facts.paths.smb_conf { facts.main.as_ref().map_or("", |f| f.text.as_str()) } else { "" };
            let diff = similar::TextDiff::from_lines(old, &file.content).unified_diff().context_radius(1).to_string();
            let body = if old.is_empty() { file.content.clone() } else { diff };
            conf.push_str(&format!("==> {} {:04o} {}:{}\n{body}", file.path.display(), file.mode, file.uid, file.gid));
        }
        assume::assume(&mut later, step).expect("a step of our own");
    }
    let id = request["params"]["id"].as_str().unwrap_or_default();
    let status = later.record.as_ref().and_then(|r| r.shares.get(id)).map(|entry| {
        let space = Some(Space { total: 1000, avail: 600, used: 400, fsid: entry.tree.fsid });
        let ours = plan::samba::own_sections(later.own.as_ref().map_or("", |f| f.text.as_str()));
        let look = Look {
            facts: &later,
            ours: &ours,
            open: &[],
            damaged: &[],
            space,
            figures: None,
            in_config: Some(true),
            drift: &[],
            health: &Default::default(),
        };
        format!("{:#}\n", status::document(id, entry, &look))
    });
    vec![("plan.expect", plan.text()), ("smb.conf.expect", conf), ("status.expect.json", status.unwrap_or_default())]
}

const ALL: [&str; 4] = ["plan.expect", "smb.conf.expect", "status.expect.json", "problems.expect"];

fn one(dir: &Path, bless: bool) -> Vec<String> {
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
    let request: Value =
        serde_json::from_str(&read("request.json")).unwrap_or_else(|e| panic!("{}: request.json: {e}", dir.display()));
    if bless && read("facts.json").is_empty() {
        // The version of the hand changes with every source.
        let text = serde_json::to_string_pretty(&make_facts(&request)).expect("plain data").replace(HAND_VERSION, HAND);
        std::fs::write(dir.join("facts.json"), text + "\n").expect("facts.json");
    }
    let facts: Facts = serde_json::from_str(&read("facts.json").replace(HAND, HAND_VERSION))
        .unwrap_or_else(|e| panic!("{}: facts.json: {e}", dir.display()));
    let out = outputs(&request, &facts);
    assert_eq!(out, outputs(&request, &facts), "the same input gives the same output");
    let mut wrong = Vec::new();
    for name in ALL {
        let now = out.iter().find(|(n, _)| *n == name).map_or("", |(_, t)| t.as_str());
        let expected = read(name);
        if now == expected {
            continue;
        }
        if bless && now.is_empty() {
            std::fs::remove_file(dir.join(name)).expect("removed");
        } else if bless {
            std::fs::write(dir.join(name), now).expect("written");
        } else {
            let diff = similar::TextDiff::from_lines(expected.as_str(), now).unified_diff().context_radius(2).to_string();
            wrong.push(format!("{}/{name}:\n{diff}", dir.display()));
        }
    }
    wrong
}

#[test]
fn every_case_comes_out_as_expected() {
    let bless = std::env::var_os("SMBGW_BLESS").is_some();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(&root).expect("tests/golden").map(|e| e.expect("an entry").path()).filter(|p| p.is_dir()).collect();
    cases.sort();
    assert!(cases.len() >= 15, "{} cases", cases.len());
    let wrong: Vec<String> = cases.iter().flat_map(|dir| one(dir, bless)).collect();
    assert!(wrong.is_empty(), "{}\nIf that is meant: SMBGW_BLESS=1, and look at the difference.", wrong.join("\n"));
}

#[test]
fn facts_survive_being_written_down() {
    let host = scene("two");
    let facts = make_facts(&json!({"machine": "two", "params": {}}));
    let back: Facts = serde_json::from_str(&serde_json::to_string(&facts).expect("plain data")).expect("own output");
    assert_eq!(facts, back);
    drop(host);
}
