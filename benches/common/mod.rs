// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the benchmarks plan and print: a node with so many shares, as facts. The first share is made for real on the simulated
//! machine, so the facts have the form that observation gives them; the others are copies with names, numbers and trees of their own.
#![allow(dead_code)] // each benchmark uses its own part

use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde_json::json;
use smbgw_core::facts::{Facts, Paths, UnixGroup};
use smbgw_core::gateway::{Context, Options, Progress};
use smbgw_core::host::Machines;
use smbgw_core::host::sim::SimHost;
use smbgw_core::observe::{self, Need};
use smbgw_core::plan::samba::{Served, own_conf, serving};
use smbgw_core::plan::{Intent, accounts};
use smbgw_core::spec::Security;
use smbgw_core::spec::record::Record;
use smbgw_core::spec::section::{self, Mode, Section, Sections, Surroundings};
use smbgw_core::types::{GatewayId, NodeName, sha256_hex};

const NODE: &str = "pve1";
/// The tree of the share that is to be created beside the others.
const NEW_TREE: &str = "/srv/shares/new";

fn tree(n: u32) -> PathBuf {
    PathBuf::from(format!("/srv/shares/s{n:04}"))
}

/// A node with one share, made by the product.
fn one_share() -> Facts {
    let host = SimHost::debian();
    host.change(|w| {
        w.files.put_dir("/srv/shares", 0o755, 0, 0);
        w.files.put_dir(tree(0), 0o755, 0, 0);
        w.files.put_dir(NEW_TREE, 0o755, 0, 0);
    });
    host.start_smbd();
    let context = Context::with_host(Options::default(), Rc::new(host.clone())).expect("a context");
    let section = json!({"path": tree(0), "smbgw-mode": "native", "username": "anna"});
    let mut run = context.begin("share.create", &json!({"id": "s0000", "section": section})).expect("begun");
    run.secret("password", b"Correct-Horse-7 battery").expect("a password");
    loop {
        match run.step().expect("a step") {
            Progress::Working(_) => {}
            Progress::Done(_) => break,
            Progress::Failed(_, e) => panic!("the first share cannot be made: {e}"),
        }
    }
    let paths = Paths {
        smb_conf: "/etc/samba/smb.conf".into(),
        own_conf: "/etc/samba/smbgw.conf".into(),
        run_dir: "/run/smbgw".into(),
        lock_dir: "/run/smbgw/lock".into(),
        state_dir: "/var/lib/smbgw".into(),
        record_file: format!("/var/lib/smbgw/gateways/native@{NODE}.json").into(),
        gateway: GatewayId::new("native").expect("a name"),
        mode: Mode::Native,
    };
    let need = Need { trees: vec![NEW_TREE.into()], owned: true, ..Need::default() };
    observe::facts(&Machines::new(Rc::new(host)), NODE, &paths, &need).expect("facts")
}

/// A node with `count` shares that are served.
pub fn node_with(count: u32) -> Facts {
    let mut facts = one_share();
    let mut record: Record = facts.record.clone().expect("a record");
    let first = record.shares["s0000"].clone();
    let first_tree = facts.tree(&tree(0)).expect("a tree").clone();
    let first_share = facts.effective.share("s0000").expect("it is served").clone();
    for n in 1..count {
        let id = format!("s{n:04}");
        let gid = record.number(&format!("share/{id}"), |n| facts.number_taken(n)).expect("a number");
        let group = accounts::unix_group("s", &id, gid);
        let (mut entry, mut seen, mut share) = (first.clone(), first_tree.clone(), first_share.clone());
        entry.section.insert("path".into(), tree(n).display().to_string());
        entry.section.insert("share".into(), id.clone());
        (entry.gid, entry.unix_group) = (gid, group.clone());
        seen.ino = first_tree.ino + 10_000 + u64::from(n);
        seen.owner.gid = gid;
        (entry.tree.path, entry.tree.ino) = (tree(n), seen.ino);
        share.insert("path".into(), tree(n).display().to_string());
        share.insert("force group".into(), group.clone());
        facts.groups.insert(group, UnixGroup { gid, members: Vec::new() });
        facts.trees.insert(tree(n), Ok(seen));
        facts.effective.shares.push((id.clone(), share));
        record.shares.insert(id, entry);
    }
    let text = own_conf(&record, &served(&record, &facts), Some(Security::Standard), &facts.effective, "").expect("our file");
    let own = facts.own.as_mut().expect("our file is there");
    own.sha256 = sha256_hex(text.as_bytes());
    own.text = text;
    record.conf_sha256 = own.sha256.clone();
    facts.record = Some(record);
    facts
}

fn served(record: &Record, facts: &Facts) -> Vec<Served> {
    let (list, warnings) = serving(record, facts).expect("shares");
    assert_eq!(warnings, Vec::<String>::new(), "every share is served");
    list
}

/// The text of our configuration file on that node.
pub fn own_text(facts: &Facts) -> &str {
    &facts.own.as_ref().expect("our file is there").text
}

/// What creates one more share.
pub fn create_one_more(facts: &Facts) -> Intent {
    let section: Section = [("path", NEW_TREE), ("smbgw-mode", "native"), ("smbgw-access", "rw:anna"), ("share", "one more")]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
    let recorded = facts.record.iter().flat_map(|r| &r.shares);
    let sections: Sections = recorded.map(|(id, e)| (id.clone(), e.section.clone())).collect();
    let around = Surroundings { sections, ..Surroundings::alone(NodeName::new(NODE).expect("a name")) };
    let checked = section::check("new", &section, &around).expect("a valid section");
    assert!(facts.tree(Path::new(NEW_TREE)).is_ok(), "the tree is there");
    let mut effective = section;
    effective.extend(checked.effective);
    Intent::Create { spec: Box::new(checked.spec), section: effective, password: false, later: false }
}
