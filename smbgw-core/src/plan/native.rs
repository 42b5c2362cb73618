// SPDX-License-Identifier: MIT OR Apache-2.0
//! The native mode: phases of each intent on the node's own Samba. It alone knows that smb.conf is foreign and that our part is a file
//! of our own behind one include line; it must not know how steps are carried out.

use serde_json::{Value, json};

use super::Intent;
use super::accounts::{self, GATEWAY_GID, GATEWAY_GROUP, PROBE_COMMENT, PROBE_UID, PROBE_USER, USER_COMMENT};
use super::samba::{self, MARKER};
use super::step::{Candidate, Effect, Seen, Step, Undo, Watch};
use crate::effect::{Cmd, FileSpec, Program};
use crate::error::{Error, Kind, Problem, Result};
use crate::facts::{Facts, TreeFact, UnixGroup, UnixUser};
use crate::format::smb_conf::{IncludeState, add_include, find_include, remove_include};
use crate::spec::access::{Level, Who};
use crate::spec::record::{GroupEntry, Key, Record, ShareEntry, ShareState, TreeId, UserEntry};
use crate::spec::section::{NATIVE, Section};
use crate::spec::{Security, ShareSpec};
use crate::types::{GroupName, UserName, sha256_hex};

/// Name of the file that the proof writes into the share.
pub const PROBE_FILE: &str = ".smbgw-probe";
/// Name of the secret that holds the probe account's password.
pub const PROBE_SECRET: &str = "probe";
/// Name of the secret that holds a user's password.
pub const PASSWORD: &str = "password";

type Steps = Result<(Vec<Step>, Vec<String>)>;

/// Plans one phase of an intent.
pub fn phase(name: &str, intent: &Intent, facts: &Facts) -> Steps {
    match (name, intent) {
        ("files", Intent::Create { spec, section, .. } | Intent::Update { spec, section, .. }) => {
            files(spec, section, facts, matches!(intent, Intent::Create { .. }))
        }
        ("identity", Intent::Create { spec, password, .. } | Intent::Update { spec, password, .. }) => {
            first_user(spec, *password, facts)
        }
        ("samba", _) => go_live(intent, facts),
        ("proof", Intent::Create { spec, .. } | Intent::Update { spec, .. }) => proof(spec, facts),
        ("intent", Intent::Delete { id, actor }) => delete_intent(id, actor, facts),
        ("identity", Intent::Delete { id, .. }) => drop_accounts(id, facts),
        ("files", Intent::Delete { id, .. }) => drop_files(id, facts),
        ("identity", Intent::Repair { .. }) => restore_accounts(facts),
        ("identity", Intent::UserCreate(name)) => create_user(name, facts),
        ("identity", Intent::UserPassword(name)) => user_password(name, facts),
        ("identity", Intent::UserDisable(name, off)) => user_disable(name, *off, facts),
        ("intent", Intent::UserRemove(name)) => forget_membership(name, facts),
        ("identity", Intent::UserRemove(name)) => remove_user(name, facts),
        ("identity", Intent::GroupCreate(name)) => create_group(name, facts),
        ("intent", Intent::GroupRemove(name)) => group_unused(name, facts),
        ("identity", Intent::GroupRemove(name)) => remove_group(name, facts),
        ("identity", Intent::GroupAdd(group, user)) => change_group(group, user, true, facts),
        ("identity", Intent::GroupDrop(group, user)) => change_group(group, user, false, facts),
        (phase, _) => Err(Error::new(Kind::Internal, format!("there is no phase {phase} for this intent"))),
    }
}

fn record(facts: &Facts) -> Result<&Record> {
    facts.record.as_ref().ok_or_else(|| {
        Error::new(Kind::NotFound, format!("the gateway native does not exist on node {}", facts.node))
            .remedy("create a share first")
    })
}

fn entry<'a>(facts: &'a Facts, id: &str) -> Result<&'a ShareEntry> {
    facts
        .record
        .as_ref()
        .and_then(|r| r.shares.get(id))
        .ok_or_else(|| Error::new(Kind::NotFound, format!("there is no share {id} on node {}", facts.node)))
}

fn user<'a>(facts: &'a Facts, name: &UserName) -> Result<&'a UserEntry> {
    record(facts)?.users.get(name.as_str()).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("the gateway has no user {name}")).remedy(format!("pve-smbgateway user create {name}"))
    })
}

fn group<'a>(facts: &'a Facts, name: &GroupName) -> Result<&'a GroupEntry> {
    record(facts)?.groups.get(name.as_str()).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("the gateway has no group {name}"))
            .remedy(format!("pve-smbgateway group create {name}"))
    })
}

/// The record as it is, or a new one whose uuid is not drawn yet; its numbers are those that will be given.
fn record_or_new(facts: &Facts) -> Record {
    facts.record.clone().unwrap_or_else(|| Record::new(NATIVE, &facts.node, "new"))
}

fn make_record(facts: &Facts, steps: &mut Vec<Step>) {
    if facts.record.is_none() {
        let effect = Effect::NewRecord;
        steps.push(
            Step::new("files/record", "make the gateway record", Watch::Record(Key::Gateway), effect)
                .before(Seen::Absent)
                .undo(Undo::Restore),
        );
    }
}

fn must_have(facts: &Facts, programs: &[Program]) -> Result<()> {
    for p in programs {
        if let Some(remedy) = facts.missing.get(p.name()) {
            return Err(Error::new(Kind::Unsupported, format!("{} is not installed", p.name())).remedy(remedy.clone()));
        }
    }
    Ok(())
}

// ---- create and update -------------------------------------------------------------------------------------------------

fn files(spec: &ShareSpec, section: &Section, facts: &Facts, create: bool) -> Steps {
    use Program::{Groupadd, Pdbedit, Smbclient, Smbcontrol, Smbd, Testparm, Useradd};
    must_have(facts, &[Smbd, Testparm, Pdbedit, Smbcontrol, Smbclient, Useradd, Groupadd])?;
    let id = spec.id.as_str();
    let (mut steps, mut warnings) = (Vec::new(), Vec::new());
    let old = facts.record.as_ref().and_then(|r| r.shares.get(id));
    match (create, old) {
        // One that nobody committed is what a killed create left behind: it is built anew, with the same numbers.
        (true, Some(e)) if e.state == ShareState::Ready && e.committed => {
            return Err(Error::new(Kind::Conflict, format!("share {id} exists already on node {}", facts.node))
                .remedy(format!("change it with: pve-smbgateway set {id} …")));
        }
        (true, Some(e)) if e.state == ShareState::Deleting => {
            return Err(Error::new(Kind::Conflict, format!("share {id} is being removed on node {}", facts.node))
                .remedy("wait for the removal, or finish it: pve-smbgateway reconcile"));
        }
        (false, None) => return Err(Error::new(Kind::NotFound, format!("there is no share {id} on node {}", facts.node))),
        _ => {}
    }
    for (who, _) in spec.access.entries() {
        refuse_system_account(who, facts)?;
    }
    let tree = usable_tree(spec, facts, old, &mut warnings)?;
    for (other_id, other) in facts.record.iter().flat_map(|r| &r.shares).filter(|(o, _)| *o != id) {
        if samba::spec_of(other_id, other, &facts.node).is_ok_and(|o| o.share.folded() == spec.share.folded()) {
            return Err(Error::property(
                "share",
                format!("share {other_id} of this gateway has the name {} already", spec.share),
            ));
        }
    }
    let foreign = samba::foreign_shares(facts);
    samba::refuse_taken_name(spec, &foreign)?;
    refuse_weak_globals(spec.security, facts, &foreign)?;

    make_record(facts, &mut steps);
    let mut numbers = record_or_new(facts);
    let gid = numbers.number(&format!("share/{id}"), |n| facts.number_taken(n))?;
    let unix_group = old.map_or_else(|| accounts::unix_group("s", id, gid), |e| e.unix_group.clone());
    let tree_id = TreeId { path: spec.path.clone(), ino: tree.ino, fsid: tree.fsid, fs_type: tree.fs_type.clone() };
    let new = ShareEntry {
        section: section.clone(),
        state: old.map_or(ShareState::Building, |e| e.state),
        committed: old.is_some_and(|e| e.committed),
        since_ms: old.map_or(facts.now_ms, |e| e.since_ms),
        unix_group: unix_group.clone(),
        gid,
        tree: tree_id,
        tree_before: old.map_or(tree.owner, |e| e.tree_before),
        delete_intent: None,
    };
    if old != Some(&new) {
        steps.push(accounts::record(
            "files/share",
            format!("record share {id}"),
            Key::Share(id.into()),
            serde_json::to_value(&new).ok(),
        ));
    }
    if facts.record.as_ref().is_some_and(|r| r.removed.contains_key(id)) {
        steps.push(accounts::record("files/removed", format!("share {id} is wanted again"), Key::Removed(id.into()), None));
    }
    steps.extend(accounts::add_group(
        facts,
        "files/gateway-group",
        "make the gateway's Unix group".into(),
        GATEWAY_GROUP,
        GATEWAY_GID,
    )?);
    steps.extend(accounts::add_group(facts, "files/group", format!("make the Unix group of share {id}"), &unix_group, gid)?);
    let mode = tree.owner.mode | 0o2770;
    if tree.owner.gid != gid || tree.owner.mode != mode {
        let (dev, ino, uid) = (tree.dev, tree.ino, tree.owner.uid);
        let effect = Effect::SetTree { path: spec.path.clone(), dev, ino, uid, gid, mode };
        steps.push(
            Step::new(
                "files/tree",
                format!("give {} to the share's group", spec.path.display()),
                Watch::Tree(spec.path.clone()),
                effect,
            )
            .want(Seen::Tree { dev, ino, uid, gid, mode })
            .undo(Undo::Restore),
        );
        if tree.populated && create {
            warnings.push(format!(
                "{} is not empty: what is in it keeps its owners and modes, so users may be unable to change it (chgrp -R {unix_group} and chmod -R g+rwX give it to them)",
                spec.path.display()
            ));
        }
    }
    Ok((steps, warnings))
}

fn refuse_system_account(who: &Who, facts: &Facts) -> Result<()> {
    let Who::User(name) = who else { return Ok(()) };
    match facts.users.get(name.as_str()) {
        Some(u) if !u.comment.starts_with("smbgw ") => {
            let e = accounts::foreign_account(name.as_str(), u.uid);
            let problem = Problem::new("smbgw-access", e.to_string());
            Err(e.with_problems(vec![problem]).as_kind(Kind::Conflict))
        }
        _ => Ok(()),
    }
}

fn usable_tree<'a>(
    spec: &ShareSpec,
    facts: &'a Facts,
    old: Option<&ShareEntry>,
    warnings: &mut Vec<String>,
) -> Result<&'a TreeFact> {
    let wrong = |why: String| Error::property("path", why);
    let tree = facts.tree(&spec.path).map_err(wrong)?;
    if tree.read_only {
        return Err(wrong(format!("{} is on a file system that is mounted read-only", spec.path.display())));
    }
    samba::mount_holds(spec, &tree.mount_point).map_err(wrong)?;
    if let Some(e) = old {
        samba::tree_holds(spec, &e.tree, facts).map_err(wrong)?;
    }
    const NO_FILES: &[&str] = &["proc", "sysfs", "devpts", "cgroup", "cgroup2", "securityfs", "debugfs", "tracefs", "fuse.lxcfs"];
    if NO_FILES.contains(&tree.fs_type.as_str()) || tree.mount_point == std::path::Path::new("/etc/pve") {
        return Err(wrong(format!("{} is on a {} file system, which holds no user data", spec.path.display(), tree.fs_type)));
    }
    if !tree.mounts_inside.is_empty() {
        let list: Vec<String> = tree.mounts_inside.iter().map(|p| p.display().to_string()).collect();
        warnings.push(format!("other file systems are mounted inside the tree and are served with it: {}", list.join(", ")));
    }
    Ok(tree)
}

/// Beside foreign shares we set no globals, so those in effect must satisfy the profile.
fn refuse_weak_globals(security: Security, facts: &Facts, foreign: &[String]) -> Result<()> {
    if foreign.is_empty() || facts.own.as_ref().is_some_and(|f| samba::own_sets_globals(&f.text)) {
        return Ok(());
    }
    let weak = samba::unsatisfied(security, &facts.effective);
    if weak.is_empty() {
        return Ok(());
    }
    let e = Error::new(
        Kind::Unsafe,
        format!(
            "the node's Samba serves other shares ({}), so its [global] settings stay as they are, and they do not satisfy profile {}: {}",
            foreign.join(", "),
            security.as_str(),
            weak.join("; ")
        ),
    );
    Err(e.remedy(format!(
        "set these in [global] of {} yourself, or serve the share from a container with --smbgw-mode lxc (once this build has it)",
        facts.paths.smb_conf.display()
    )))
}

fn first_user(spec: &ShareSpec, password: bool, facts: &Facts) -> Steps {
    let (mut steps, mut warnings) = (Vec::new(), Vec::new());
    if let Some(name) = &spec.first_user {
        let known = record(facts)?.users.contains_key(name.as_str());
        if password && known && facts.passdb.contains_key(name.as_str()) {
            steps = user_password(name, facts)?.0;
        } else if password {
            steps = create_user(name, facts)?.0;
        } else if !known {
            warnings.push(format!("user {name} has no password yet and cannot log in: pve-smbgateway user create {name}"));
        }
    }
    for (who, _) in spec.access.entries() {
        let r = record(facts)?;
        match who {
            Who::User(u) if Some(u) != spec.first_user.as_ref() && !r.users.contains_key(u.as_str()) => {
                warnings.push(format!("there is no user {u} yet: pve-smbgateway user create {u}"));
            }
            Who::Group(g) if !r.groups.contains_key(g.as_str()) => {
                warnings.push(format!("there is no group {g} yet: pve-smbgateway group create {g}"));
            }
            _ => {}
        }
    }
    Ok((steps, warnings))
}

// ---- going live --------------------------------------------------------------------------------------------------------

fn systemctl(verb: &str) -> Cmd {
    Cmd::new(Program::Systemctl, [verb, "smbd.service"]).within_ms(30_000)
}

fn start_smbd(facts: &Facts, restart: bool) -> Effect {
    let start = if facts.systemd { systemctl("start") } else { accounts::samba(facts, Program::Smbd, &["-D"]).daemon() };
    Effect::StartSmbd { pid_file: facts.smbd_pid_file(), start, restart: restart.then(|| stop_cmd(facts)) }
}

fn stop_cmd(facts: &Facts) -> Cmd {
    if facts.systemd { systemctl("stop") } else { accounts::samba(facts, Program::Smbcontrol, &["smbd", "shutdown"]) }
}

fn smbcontrol(facts: &Facts, args: &[&str]) -> Effect {
    Effect::Run(accounts::samba(facts, Program::Smbcontrol, args))
}

fn reload(facts: &Facts) -> Effect {
    smbcontrol(facts, &["all", "reload-config"])
}

/// Our file or smb.conf, kept with its owner and mode if it is there.
fn file_to_be(path: &std::path::Path, now: Option<&crate::facts::ConfFile>, content: String) -> FileSpec {
    let (mode, uid, gid) = now.map_or((0o644, 0, 0), |f| (f.mode, f.uid, f.gid));
    FileSpec { path: path.to_owned(), content, mode, uid, gid }
}

fn seen_file(f: &FileSpec) -> Seen {
    Seen::File { sha256: sha256_hex(f.content.as_bytes()), mode: f.mode, uid: f.uid, gid: f.gid, content: None }
}

fn seen_now(now: Option<&crate::facts::ConfFile>) -> Seen {
    now.map_or(Seen::Absent, |f| Seen::File { sha256: f.sha256.clone(), mode: f.mode, uid: f.uid, gid: f.gid, content: None })
}

/// Sessions that must end because of a change, by share name.
#[derive(Default)]
struct Revoked {
    close: Vec<String>,
    denied: Vec<String>,
}

/// What the change of one share takes away from clients that are connected now. Both texts are of our own file.
fn revoked(before: &str, after: &str) -> Revoked {
    use crate::format::smb_conf::SmbConf;
    let (old, new) = (SmbConf::parse(before), SmbConf::parse(after));
    let mut r = Revoked::default();
    for s in old.sections().iter().filter(|s| !s.is_global()) {
        let Some(n) = new.sections().iter().find(|n| !n.is_global() && n.name == s.name) else {
            r.close.push(s.name.clone());
            continue;
        };
        let differs = |p: &str| s.get(p) != n.get(p);
        if differs("path") || differs("server smb encrypt") {
            r.close.push(s.name.clone());
        } else if differs("valid users") || differs("write list") || differs("read list") || differs("dos filemode") {
            r.denied.push(s.name.clone());
        }
    }
    r
}

/// Refuses to overwrite a managed file that somebody edited.
pub fn hand_edited(facts: &Facts) -> Option<String> {
    let record = facts.record.as_ref()?;
    match (&facts.own, record.conf_sha256.as_str()) {
        (Some(f), sha) if !sha.is_empty() && f.sha256 != sha => {
            Some(format!("{} was edited since smbgw wrote it", facts.paths.own_conf.display()))
        }
        _ => None,
    }
}

fn go_live(intent: &Intent, facts: &Facts) -> Steps {
    let Some(record) = facts.record.as_ref() else { return Ok((Vec::new(), Vec::new())) };
    let (shares, warnings) = samba::serving(record, facts)?;
    let overwrite = matches!(intent, Intent::Repair { overwrite: true });
    if let (Some(why), false) = (hand_edited(facts), overwrite) {
        return Err(Error::new(Kind::Drift, why).remedy("look at the difference with: pve-smbgateway repair native; put the file back with: pve-smbgateway repair native --overwrite"));
    }
    let main = facts.main.as_ref().ok_or_else(|| {
        Error::new(Kind::Unsupported, format!("{} does not exist", facts.paths.smb_conf.display()))
            .remedy("apt install --reinstall -o Dpkg::Options::=--force-confmiss samba-common")
    })?;
    let own_path = facts.paths.own_conf.display().to_string();
    let now_own = facts.own.as_ref().map(|f| f.text.as_str()).unwrap_or_default();
    let foreign = samba::foreign_shares(facts);
    let mut steps = Vec::new();

    if shares.is_empty() {
        take_down(facts, record, main, &own_path, now_own, &foreign, &mut steps)?;
        return Ok((steps, warnings));
    }

    let security = shares.iter().map(|(s, _)| s.security).max_by_key(|s| *s == Security::High).unwrap_or(Security::Standard);
    let with_globals = foreign.is_empty() || samba::own_sets_globals(now_own);
    let text = samba::own_conf(record, &shares, with_globals.then_some(security))?;
    let own = file_to_be(&facts.paths.own_conf, facts.own.as_ref(), text);
    let main_text = match find_include(&main.text, MARKER, &own_path) {
        IncludeState::Present { last_global: true, .. } => main.text.clone(),
        IncludeState::Absent => add_include(&main.text, MARKER, &own_path)?,
        IncludeState::Present { .. } => {
            let without = remove_include(&main.text, MARKER, &own_path)?.unwrap_or_else(|| main.text.clone());
            add_include(&without, MARKER, &own_path)?
        }
        IncludeState::Damaged(why) => {
            return Err(Error::new(
                Kind::Drift,
                format!("our include line in {} is damaged: {why}", facts.paths.smb_conf.display()),
            )
            .remedy("take the two lines out with an editor, then: pve-smbgateway repair native"));
        }
    };
    let new_main = file_to_be(&facts.paths.smb_conf, Some(main), main_text);
    let own_changes = facts.own.as_ref().is_none_or(|f| f.text != own.content);
    let main_changes = main.text != new_main.content;
    let mut revoked = revoked(now_own, &own.content);

    // A listening port and NetBIOS are read once, at the start.
    let restart = with_globals
        && facts.smbd_running
        && (!crate::format::smb_params::same_value(
            "smb ports",
            "445",
            facts.effective.global.get("smb ports").map_or("", String::as_str),
        ));
    let after_undo =
        if facts.smbd_running { vec![if restart { start_smbd(facts, true) } else { reload(facts) }] } else { Vec::new() };

    if own_changes || main_changes {
        let ours: Vec<String> = samba::own_sections(&own.content).into_iter().chain(samba::own_sections(now_own)).collect();
        let candidate = Candidate {
            live: facts.paths.smb_conf.clone(),
            own: facts.paths.own_conf.clone(),
            main_text: new_main.content.clone(),
            own_text: own.content.clone(),
            scratch: facts.paths.run_dir.join("check"),
            ours,
            keep_globals: !with_globals,
        };
        steps.push(Step::new(
            "samba/candidate",
            "check the complete candidate configuration",
            Watch::Nothing,
            Effect::Candidate(candidate),
        ));
    }
    // Of shares that are no longer served under that name; while they are still in the configuration, or sharesec would not know them.
    for (n, (name, old)) in
        facts.acls.iter().filter(|(name, _)| !shares.iter().any(|(s, _)| s.share.as_str() == name.as_str())).enumerate()
    {
        steps.push(remove_acl(facts, &format!("gone.{n}"), name, old));
    }
    if own_changes {
        let sha = sha256_hex(own.content.as_bytes());
        steps.push(accounts::record(
            "samba/mark",
            "record what our configuration file will be",
            Key::ConfSha256,
            Some(Value::String(sha)),
        ));
        steps.push(
            Step::new(
                "samba/own-file",
                format!("write {own_path}"),
                Watch::File(facts.paths.own_conf.clone()),
                Effect::Write(own.clone()),
            )
            .before(seen_now(facts.own.as_ref()))
            .want(seen_file(&own))
            .undo(Undo::RestoreThen(after_undo.clone())),
        );
    }
    if main_changes {
        let title = format!("include it at the end of [global] in {}", facts.paths.smb_conf.display());
        steps.push(
            Step::new("samba/include", title, Watch::File(facts.paths.smb_conf.clone()), Effect::Write(new_main.clone()))
                .before(seen_now(Some(main)))
                .want(seen_file(&new_main))
                .undo(Undo::Restore),
        );
    }
    if !facts.smbd_running {
        if !record.started_smbd && facts.own.is_none() {
            steps.push(accounts::record(
                "samba/started",
                "record that smbd did not run",
                Key::StartedSmbd,
                Some(Value::Bool(true)),
            ));
        }
        let undo = Undo::Do(vec![Effect::StopSmbd { pid_file: facts.smbd_pid_file(), stop: stop_cmd(facts) }]);
        steps.push(Step::new("samba/start", "start smbd", Watch::Smbd, start_smbd(facts, false)).want(Seen::Running).undo(undo));
    } else if restart {
        steps.push(Step::new(
            "samba/restart",
            "restart smbd once: ports and NetBIOS change",
            Watch::Nothing,
            start_smbd(facts, true),
        ));
    } else if own_changes || main_changes {
        steps.push(Step::new("samba/reload", "make smbd read its configuration", Watch::Nothing, reload(facts)));
    }
    for name in share_acls(facts, record, &shares, &mut steps)? {
        if !revoked.close.contains(&name) && !revoked.denied.contains(&name) {
            revoked.denied.push(name);
        }
    }
    if facts.smbd_running && !restart {
        revoke(facts, &revoked, &mut steps);
    }
    let settings = samba::settings(record, &shares, security, with_globals)?;
    steps.push(Step::new(
        "samba/effective",
        "read the effective configuration back",
        Watch::Nothing,
        Effect::Effective(settings),
    ));
    Ok((steps, warnings))
}

fn revoke(facts: &Facts, revoked: &Revoked, steps: &mut Vec<Step>) {
    for (n, name) in revoked.close.iter().enumerate() {
        let effect = smbcontrol(facts, &["smbd", "close-share", name]);
        steps.push(Step::new(format!("samba/close.{n}"), format!("end sessions of [{name}]"), Watch::Nothing, effect));
    }
    for (n, name) in revoked.denied.iter().enumerate() {
        let effect = smbcontrol(facts, &["smbd", "close-denied-share", name]);
        steps.push(Step::new(
            format!("samba/denied.{n}"),
            format!("end sessions of [{name}] that are no longer allowed"),
            Watch::Nothing,
            effect,
        ));
    }
}

/// Share ACLs as they must be; those that are no longer needed are removed. Gives the shares whose ACL changes.
fn share_acls(facts: &Facts, record: &Record, shares: &[samba::Served], steps: &mut Vec<Step>) -> Result<Vec<String>> {
    let before = steps.len();
    let mut changed = Vec::new();
    for (spec, _) in shares {
        let name = spec.share.as_str();
        let wanted = samba::share_acl(spec, record)?;
        if wanted.is_some() {
            refuse_other_state_directory(facts)?;
        }
        let now = facts.acls.get(name);
        match (&wanted, now) {
            (Some(w), n) if n != Some(w) => {
                let undo = match n {
                    Some(old) => accounts::sharesec(facts, &[name, "--replace", &old.join(",")]),
                    None => drop_acl(facts, name),
                };
                let cmd = accounts::sharesec(facts, &[name, "--replace", &w.join(",")]);
                steps.push(
                    Step::new(
                        format!("samba/acl.{}", spec.id),
                        format!("set the share ACL of [{name}]"),
                        Watch::ShareAcl(name.into()),
                        Effect::Run(cmd),
                    )
                    .want(Seen::ShareAcl(w.clone()))
                    .undo(Undo::Do(vec![Effect::Run(undo)])),
                );
            }
            (None, Some(old)) => steps.push(remove_acl(facts, spec.id.as_str(), name, old)),
            _ => {}
        }
        if steps.len() > before + changed.len() {
            changed.push(name.to_owned());
        }
    }
    Ok(changed)
}

/// The share ACL lies in the default state directory; where smbd uses another one it would hold nobody down.
fn refuse_other_state_directory(facts: &Facts) -> Result<()> {
    match facts.effective.global.get("state directory").map(String::as_str) {
        None | Some("/var/lib/samba") => Ok(()),
        Some(other) => {
            Err(Error::property("smbgw-access", format!("full needs Samba's default state directory, and smb.conf sets {other}")))
        }
    }
}

fn drop_acl(facts: &Facts, name: &str) -> Cmd {
    // 255: there is none.
    accounts::sharesec(facts, &[name, "--delete"]).also_ok(&[255])
}

fn remove_acl(facts: &Facts, id: &str, name: &str, old: &[String]) -> Step {
    let undo = accounts::sharesec(facts, &[name, "--replace", &old.join(",")]);
    Step::new(
        format!("samba/acl.{id}"),
        format!("remove the share ACL of [{name}]"),
        Watch::ShareAcl(name.into()),
        Effect::Run(drop_acl(facts, name)),
    )
    .want(Seen::Absent)
    .undo(Undo::Do(vec![Effect::Run(undo)]))
}

/// Nothing of ours is served any more: line first, then file.
fn take_down(
    facts: &Facts,
    record: &Record,
    main: &crate::facts::ConfFile,
    own_path: &str,
    now_own: &str,
    foreign: &[String],
    steps: &mut Vec<Step>,
) -> Result<()> {
    let restart = facts.smbd_running && !record.started_smbd && foreign.is_empty() && samba::own_sets_globals(now_own);
    let stop = facts.smbd_running && record.started_smbd && foreign.is_empty();
    let back = if facts.smbd_running { vec![if restart { start_smbd(facts, true) } else { reload(facts) }] } else { Vec::new() };
    let names = samba::own_sections(now_own);
    // While the share is still in the configuration, or sharesec would not know it.
    for name in &names {
        if let Some(old) = facts.acls.get(name) {
            steps.push(remove_acl(facts, name, name, old));
        }
    }
    if let Some(text) = remove_include(&main.text, MARKER, own_path)? {
        let file = file_to_be(&facts.paths.smb_conf, Some(main), text);
        let title = format!("take the include line out of {}", facts.paths.smb_conf.display());
        steps.push(
            Step::new("samba/include", title, Watch::File(facts.paths.smb_conf.clone()), Effect::Write(file.clone()))
                .before(seen_now(Some(main)))
                .want(seen_file(&file))
                .undo(Undo::RestoreThen(back.clone())),
        );
    }
    if let Some(f) = &facts.own {
        steps.push(
            Step::new(
                "samba/own-file",
                format!("remove {own_path}"),
                Watch::File(facts.paths.own_conf.clone()),
                Effect::Remove(facts.paths.own_conf.clone()),
            )
            .before(seen_now(Some(f)))
            .want(Seen::Absent)
            .undo(Undo::RestoreThen(back)),
        );
    }
    if !record.conf_sha256.is_empty() {
        steps.push(accounts::record("samba/mark", "forget our configuration file", Key::ConfSha256, None));
    }
    if facts.smbd_running && !names.is_empty() {
        steps.push(Step::new("samba/reload", "make smbd read its configuration", Watch::Nothing, reload(facts)));
        revoke(facts, &Revoked { close: names, denied: Vec::new() }, steps);
    }
    if stop {
        let undo = Undo::Do(vec![start_smbd(facts, false)]);
        let effect = Effect::StopSmbd { pid_file: facts.smbd_pid_file(), stop: stop_cmd(facts) };
        steps.push(
            Step::new("samba/stop", "stop smbd: it did not run before us", Watch::Smbd, effect).want(Seen::Absent).undo(undo),
        );
    } else if restart {
        steps.push(Step::new(
            "samba/restart",
            "restart smbd once: its own ports come back",
            Watch::Nothing,
            start_smbd(facts, true),
        ));
    }
    if record.started_smbd {
        steps.push(accounts::record("samba/started", "forget that smbd did not run", Key::StartedSmbd, None));
    }
    Ok(())
}

// ---- proof -------------------------------------------------------------------------------------------------------------

/// A throw-away account logs in over loopback, writes, reads back, removes, and is removed.
fn proof(spec: &ShareSpec, facts: &Facts) -> Steps {
    let id = spec.id.as_str();
    let mut entry = entry(facts, id)?.clone();
    let mut steps = Vec::new();
    // A share that left this node is not served here: there is nothing to prove.
    let served = !spec.disabled && spec.node.as_str() == facts.node && samba::tree_holds(spec, &entry.tree, facts).is_ok();
    if served {
        let dir = facts.paths.run_dir.join("probe");
        let (auth, source, copy) = (dir.join("auth"), dir.join("source"), dir.join("copy"));
        steps.extend(accounts::add_user(
            facts,
            "proof/account",
            "make the probe account".into(),
            PROBE_USER,
            PROBE_UID,
            entry.gid,
            PROBE_COMMENT,
        )?);
        if !facts.passdb.contains_key(PROBE_USER) {
            steps.push(accounts::add_samba_user(
                facts,
                "proof/password",
                "give it a random password".into(),
                PROBE_USER,
                PROBE_UID,
                PROBE_SECRET,
            ));
        }
        let credentials = Effect::WriteCredentials { path: auth.clone(), user: PROBE_USER.into(), secret: PROBE_SECRET.into() };
        steps.push(
            Step::new("proof/credentials", "write its credentials for the client", Watch::File(auth.clone()), credentials)
                .undo(Undo::Do(vec![Effect::Remove(auth.clone())])),
        );
        let port =
            facts.effective.global.get("smb ports").and_then(|p| p.split([' ', ',']).find(|w| !w.is_empty())).unwrap_or("445");
        let commands =
            format!("put \"{}\" {PROBE_FILE}; get {PROBE_FILE} \"{}\"; del {PROBE_FILE}", source.display(), copy.display());
        let unc = format!("//127.0.0.1/{}", spec.share);
        let client = accounts::samba(
            facts,
            Program::Smbclient,
            &[&unc, "-A", &auth.display().to_string(), "-m", "SMB3_11", "-p", port, "-t", "10", "-c", &commands],
        )
        .within_ms(15_000)
        // 1: a refusal, which the check words better.
        .also_ok(&[1]);
        let source = FileSpec { path: source, content: format!("smbgw proof of share {id}\n"), mode: 0o600, uid: 0, gid: 0 };
        steps.push(
            Step::new(
                "proof/round-trip",
                format!("log in to [{}], write, read back, remove", spec.share),
                Watch::InTree(spec.path.clone(), PROBE_FILE.into()),
                Effect::RoundTrip { client, source, copy },
            )
            .undo(Undo::Restore),
        );
        steps.push(
            Step::new("proof/forget", "remove the credentials", Watch::File(auth.clone()), Effect::Remove(auth))
                .want(Seen::Absent)
                .undo(Undo::None("the credentials are of no use".into())),
        );
        // The account is there by now, whatever the facts of this phase's begin say.
        let mut later = facts.clone();
        later.users.insert(PROBE_USER.into(), UnixUser { uid: PROBE_UID, gid: entry.gid, comment: PROBE_COMMENT.into() });
        later.passdb.insert(PROBE_USER.into(), crate::facts::PassdbUser { disabled: false, changed: String::new() });
        let gone = Undo::None("the probe account is not wanted back".into());
        steps.extend(
            accounts::remove_samba_user(&later, "proof/password-gone", "remove the probe account from passdb".into(), PROBE_USER)
                .map(|s| s.undo(gone.clone())),
        );
        steps.extend(
            accounts::remove_user(&later, "proof/account-gone", "remove the probe account".into(), PROBE_USER, PROBE_UID)
                .map(|s| s.undo(gone)),
        );
    }
    entry.state = ShareState::Ready;
    steps.push(accounts::record(
        "proof/ready",
        format!("record that share {id} is ready"),
        Key::Share(id.into()),
        serde_json::to_value(&entry).ok(),
    ));
    Ok((steps, Vec::new()))
}

// ---- removal of a share ------------------------------------------------------------------------------------------------

fn delete_intent(id: &str, actor: &str, facts: &Facts) -> Steps {
    let mut e = entry(facts, id)?.clone();
    if e.state != ShareState::Deleting {
        e.state = ShareState::Deleting;
        e.delete_intent = Some(actor.to_owned());
        let step = accounts::record(
            "intent/share",
            format!("record that share {id} is to go"),
            Key::Share(id.into()),
            serde_json::to_value(&e).ok(),
        );
        return Ok((vec![step], Vec::new()));
    }
    Ok((Vec::new(), Vec::new()))
}

fn is_last(id: &str, record: &Record) -> bool {
    record.shares.keys().all(|k| k == id)
}

fn drop_accounts(id: &str, facts: &Facts) -> Steps {
    let r = record(facts)?;
    let (mut steps, mut warnings) = (Vec::new(), Vec::new());
    if is_last(id, r) {
        let mut later = facts.clone();
        for (name, u) in &r.users {
            let before = steps.len();
            drop_user(name, u, facts, &mut steps, &mut warnings)?;
            // A user that goes leaves its groups: the undo of the user brings that back, not the undo of the group, which comes first.
            if steps[before..].iter().any(|s| s.watch == Watch::UnixUser(name.clone())) {
                later.groups.values_mut().for_each(|g| g.members.retain(|m| m != name));
            }
        }
        for (name, g) in &r.groups {
            steps.extend(accounts::remove_group(
                &later,
                &format!("identity/group.{name}"),
                format!("remove group {name}"),
                &g.unix,
                g.gid,
            ));
            steps.push(accounts::record(
                format!("identity/forget-group.{name}"),
                format!("forget group {name}"),
                Key::Group(name.clone()),
                None,
            ));
        }
    }
    Ok((steps, warnings))
}

/// Takes a user out: sessions, passdb, Unix account (unless it owns files), record.
fn drop_user(name: &str, entry: &UserEntry, facts: &Facts, steps: &mut Vec<Step>, warnings: &mut Vec<String>) -> Result<()> {
    if facts.smbd_running && facts.passdb.contains_key(name) {
        let effect = Effect::EndSessions(name.to_owned());
        steps.push(Step::new(format!("identity/sessions.{name}"), format!("end the sessions of {name}"), Watch::Nothing, effect));
    }
    steps.extend(accounts::remove_samba_user(
        facts,
        &format!("identity/passdb.{name}"),
        format!("remove {name} from passdb"),
        name,
    ));
    let owned = facts.owned.as_ref().ok_or_else(|| Error::new(Kind::Internal, "nobody looked whom the files belong to"))?;
    let files = owned.by_uid.get(&entry.uid).copied().unwrap_or(0);
    if files > 0 {
        warnings
            .push(format!("the account {name} (uid {}) stays, unable to log in: it owns {files} files in the tree", entry.uid));
    } else if !owned.complete {
        warnings.push(format!(
            "the account {name} (uid {}) stays, unable to log in: the tree is too large to tell quickly whether it owns files",
            entry.uid
        ));
    } else {
        steps.extend(accounts::remove_user(
            facts,
            &format!("identity/unix.{name}"),
            format!("remove the Unix account {name}"),
            name,
            entry.uid,
        ));
    }
    steps.push(accounts::record(
        format!("identity/forget.{name}"),
        format!("forget user {name}"),
        Key::User(name.to_owned()),
        None,
    ));
    Ok(())
}

fn drop_files(id: &str, facts: &Facts) -> Steps {
    let r = record(facts)?;
    let e = entry(facts, id)?;
    let (mut steps, mut warnings) = (Vec::new(), Vec::new());
    let path = &e.tree.path;
    match facts.tree(path) {
        Ok(t) if t.ino == e.tree.ino => {
            let (before, ours) = (e.tree_before, e.tree_before.mode | 0o2770);
            if t.owner.gid == e.gid && t.owner.mode == ours {
                let effect = Effect::SetTree {
                    path: path.clone(),
                    dev: t.dev,
                    ino: t.ino,
                    uid: t.owner.uid,
                    gid: before.gid,
                    mode: before.mode,
                };
                steps.push(
                    Step::new(
                        "files/tree",
                        format!("give {} back its group and mode", path.display()),
                        Watch::Tree(path.clone()),
                        effect,
                    )
                    .want(Seen::Tree { dev: t.dev, ino: t.ino, uid: t.owner.uid, gid: before.gid, mode: before.mode })
                    .undo(Undo::Restore),
                );
            } else if t.owner != before {
                warnings.push(format!("owner or mode of {} was changed by somebody else and is left as it is", path.display()));
            }
        }
        Ok(_) => warnings.push(format!("{} is not the tree that was recorded; it is left alone", path.display())),
        Err(why) => warnings.push(format!("{} is left alone: {why}", path.display())),
    }
    steps.extend(accounts::remove_group(
        facts,
        "files/group",
        format!("remove the Unix group of share {id}"),
        &e.unix_group,
        e.gid,
    ));
    if is_last(id, r) {
        let kept = facts.users.values().any(|u| u.gid == GATEWAY_GID);
        if !kept {
            let title = "remove the gateway's Unix group".into();
            steps.extend(accounts::remove_group(facts, "files/gateway-group", title, GATEWAY_GROUP, GATEWAY_GID));
        }
    }
    let at = Some(Value::from(facts.now_ms));
    steps.push(accounts::record("files/removed", format!("record that share {id} was removed"), Key::Removed(id.into()), at));
    steps.push(accounts::record("files/forget", format!("forget share {id}"), Key::Share(id.into()), None));
    Ok((steps, warnings))
}

// ---- users and groups --------------------------------------------------------------------------------------------------

fn create_user(name: &UserName, facts: &Facts) -> Steps {
    must_have(facts, &[Program::Pdbedit, Program::Useradd, Program::Groupadd])?;
    if let Some(u) = facts.users.get(name.as_str()) {
        if !u.comment.starts_with("smbgw ") {
            return Err(accounts::foreign_account(name.as_str(), u.uid));
        }
    }
    if facts.record.as_ref().is_some_and(|r| r.users.contains_key(name.as_str())) && facts.passdb.contains_key(name.as_str()) {
        return Err(Error::new(Kind::Conflict, format!("the gateway has a user {name} already"))
            .remedy(format!("give it another password with: pve-smbgateway user password {name}")));
    }
    let mut steps = Vec::new();
    make_record(facts, &mut steps);
    let mut numbers = record_or_new(facts);
    let uid = numbers.number(&format!("user/{name}"), |n| facts.number_taken(n))?;
    steps.extend(accounts::add_group(
        facts,
        "identity/gateway-group",
        "make the gateway's Unix group".into(),
        GATEWAY_GROUP,
        GATEWAY_GID,
    )?);
    let entry = UserEntry { uid, rid: accounts::rid(uid), disabled: false };
    let key = Key::User(name.to_string());
    if numbers.users.get(name.as_str()) != Some(&entry) {
        steps.push(accounts::record("identity/record", format!("record user {name}"), key, serde_json::to_value(&entry).ok()));
    }
    let title = format!("make the Unix account {name}, without shell, home and password");
    steps.extend(accounts::add_user(facts, "identity/unix", title, name.as_str(), uid, GATEWAY_GID, USER_COMMENT)?);
    steps.push(accounts::add_samba_user(
        facts,
        "identity/passdb",
        format!("give {name} its password"),
        name.as_str(),
        uid,
        PASSWORD,
    ));
    steps.push(keep_hash(name));
    Ok((steps, Vec::new()))
}

fn keep_hash(name: &UserName) -> Step {
    let watch = Watch::SameHash(name.to_string());
    Step::new("identity/hash", format!("keep the NT hash of {name} in the record"), watch, Effect::KeepHash(name.to_string()))
        .undo(Undo::Do(vec![Effect::TakeHashBack(name.to_string())]))
}

fn user_password(name: &UserName, facts: &Facts) -> Steps {
    user(facts, name)?;
    if !facts.passdb.contains_key(name.as_str()) {
        return Err(Error::new(Kind::Drift, format!("user {name} is in the gateway record but not in passdb"))
            .remedy("pve-smbgateway repair native"));
    }
    let cmd = accounts::samba(facts, Program::Smbpasswd, &["-s", name.as_str()]).secret(PASSWORD, 2).within_ms(20_000);
    let undo = Effect::ImportHash { user: name.to_string(), scratch: facts.paths.run_dir.join("import") };
    // When the password is undone, the record has its former hash again.
    let by = Step::new(
        "identity/former",
        format!("put the former NT hash of {name} by"),
        Watch::Nothing,
        Effect::PutHashBy(name.to_string()),
    );
    let steps = vec![
        by.undo(Undo::None("it is dropped when the operation is over".into())),
        Step::new(
            "identity/passdb",
            format!("give {name} another password"),
            Watch::SambaUser(name.to_string()),
            Effect::Run(cmd),
        )
        .undo(Undo::Do(vec![undo])),
        keep_hash(name),
    ];
    Ok((steps, Vec::new()))
}

fn user_disable(name: &UserName, off: bool, facts: &Facts) -> Steps {
    let mut entry = user(facts, name)?.clone();
    let mut steps = Vec::new();
    let word = if off { "disable" } else { "enable" };
    if entry.disabled != off {
        entry.disabled = off;
        steps.push(accounts::record(
            "identity/record",
            format!("record: {word} {name}"),
            Key::User(name.to_string()),
            serde_json::to_value(&entry).ok(),
        ));
    }
    steps.extend(accounts::switch_samba_user(facts, "identity/passdb", format!("{word} {name}"), name, off));
    if off && facts.smbd_running {
        let effect = Effect::EndSessions(name.to_string());
        steps.push(Step::new("identity/sessions", format!("end the sessions of {name}"), Watch::Nothing, effect));
    }
    Ok((steps, Vec::new()))
}

/// First the lists: groups lose the member, so that our file names it no more when it goes live.
fn forget_membership(name: &UserName, facts: &Facts) -> Steps {
    user(facts, name)?;
    let mut steps = Vec::new();
    for (g, e) in &record(facts)?.groups {
        if e.members.iter().any(|m| m == name.as_str()) {
            let mut e = e.clone();
            e.members.retain(|m| m != name.as_str());
            steps.push(accounts::record(
                format!("intent/group.{g}"),
                format!("take {name} out of group {g}"),
                Key::Group(g.clone()),
                serde_json::to_value(&e).ok(),
            ));
            steps.extend(accounts::membership(
                facts,
                &format!("intent/member.{g}"),
                format!("take {name} out of {}", e.unix),
                &e.unix,
                name.as_str(),
                false,
            ));
        }
    }
    Ok((steps, Vec::new()))
}

fn remove_user(name: &UserName, facts: &Facts) -> Steps {
    let (mut steps, mut warnings) = (Vec::new(), Vec::new());
    let entry = user(facts, name)?.clone();
    drop_user(name.as_str(), &entry, facts, &mut steps, &mut warnings)?;
    Ok((steps, warnings))
}

fn create_group(name: &GroupName, facts: &Facts) -> Steps {
    must_have(facts, &[Program::Groupadd])?;
    if facts.record.as_ref().is_some_and(|r| r.groups.contains_key(name.as_str())) {
        return Err(Error::new(Kind::Conflict, format!("the gateway has a group {name} already")));
    }
    let mut steps = Vec::new();
    make_record(facts, &mut steps);
    let gid = record_or_new(facts).number(&format!("group/{name}"), |n| facts.number_taken(n))?;
    let unix = accounts::unix_group("g", name.as_str(), gid);
    let entry = GroupEntry { unix: unix.clone(), gid, members: Vec::new() };
    steps.push(accounts::record(
        "identity/record",
        format!("record group {name}"),
        Key::Group(name.to_string()),
        serde_json::to_value(&entry).ok(),
    ));
    steps.extend(accounts::add_group(facts, "identity/unix", format!("make the Unix group {unix}"), &unix, gid)?);
    Ok((steps, Vec::new()))
}

fn group_unused(name: &GroupName, facts: &Facts) -> Steps {
    group(facts, name)?;
    for (id, e) in &record(facts)?.shares {
        let spec = samba::spec_of(id, e, &facts.node)?;
        if spec.access.entries().any(|(w, _)| *w == Who::Group(name.clone())) {
            return Err(Error::new(Kind::Conflict, format!("group {name} is named in smbgw-access of share {id}"))
                .remedy(format!("take it out there first: pve-smbgateway set {id} --smbgw-access …")));
        }
    }
    Ok((Vec::new(), Vec::new()))
}

fn remove_group(name: &GroupName, facts: &Facts) -> Steps {
    let e = group(facts, name)?;
    let mut steps = Vec::new();
    steps.extend(accounts::remove_group(facts, "identity/unix", format!("remove the Unix group {}", e.unix), &e.unix, e.gid));
    steps.push(accounts::record("identity/forget", format!("forget group {name}"), Key::Group(name.to_string()), None));
    Ok((steps, Vec::new()))
}

fn change_group(name: &GroupName, member: &UserName, add: bool, facts: &Facts) -> Steps {
    user(facts, member)?;
    let mut e = group(facts, name)?.clone();
    let there = e.members.iter().any(|m| m == member.as_str());
    let mut steps = Vec::new();
    if there != add {
        e.members.retain(|m| m != member.as_str());
        if add {
            e.members.push(member.to_string());
            e.members.sort();
        }
        let title = format!("record: {member} {} group {name}", if add { "joins" } else { "leaves" });
        steps.push(accounts::record("identity/record", title, Key::Group(name.to_string()), serde_json::to_value(&e).ok()));
    }
    let title = format!("{} {member} {} {}", if add { "put" } else { "take" }, if add { "into" } else { "out of" }, e.unix);
    steps.extend(accounts::membership(facts, "identity/unix", title, &e.unix, member.as_str(), add));
    // A running session keeps the groups it logged in with.
    if facts.smbd_running && there != add {
        let effect = Effect::EndSessions(member.to_string());
        steps.push(Step::new("identity/sessions", format!("end the sessions of {member}"), Watch::Nothing, effect));
    }
    Ok((steps, Vec::new()))
}

/// Accounts that the record knows and the machine lost come back with their numbers, RIDs and hashes.
fn restore_accounts(facts: &Facts) -> Steps {
    let Some(r) = facts.record.as_ref() else { return Ok((Vec::new(), Vec::new())) };
    let (mut steps, mut warnings) = (Vec::new(), Vec::new());
    if !r.shares.is_empty() || !r.users.is_empty() {
        steps.extend(accounts::add_group(
            facts,
            "identity/gateway-group",
            "make the gateway's Unix group".into(),
            GATEWAY_GROUP,
            GATEWAY_GID,
        )?);
    }
    for (id, e) in &r.shares {
        steps.extend(accounts::add_group(
            facts,
            &format!("identity/share.{id}"),
            format!("make the Unix group of share {id}"),
            &e.unix_group,
            e.gid,
        )?);
    }
    for (name, g) in &r.groups {
        steps.extend(accounts::add_group(
            facts,
            &format!("identity/group.{name}"),
            format!("make the Unix group {}", g.unix),
            &g.unix,
            g.gid,
        )?);
    }
    for (name, u) in &r.users {
        let title = format!("make the Unix account {name}");
        steps.extend(accounts::add_user(facts, &format!("identity/unix.{name}"), title, name, u.uid, GATEWAY_GID, USER_COMMENT)?);
        if facts.passdb.contains_key(name) {
            continue;
        }
        if r.hashes.contains_key(name) {
            let effect = Effect::ImportHash { user: name.clone(), scratch: facts.paths.run_dir.join("import") };
            let title = format!("bring {name} back into passdb");
            let undo = accounts::samba(facts, Program::Pdbedit, &["-x", "-u", name]).also_ok(&[255]);
            steps.push(
                Step::new(format!("identity/passdb.{name}"), title, Watch::SambaUser(name.clone()), effect)
                    .undo(Undo::Do(vec![Effect::Run(undo)])),
            );
        } else {
            warnings.push(format!("user {name} has no password: pve-smbgateway user password {name}"));
        }
    }
    for (name, g) in &r.groups {
        for m in &g.members {
            // The group may be made by a step above: then its members are not known yet, and it has none.
            let mut later = facts.clone();
            later.groups.entry(g.unix.clone()).or_insert(UnixGroup { gid: g.gid, members: Vec::new() });
            let title = format!("put {m} into {}", g.unix);
            steps.extend(accounts::membership(&later, &format!("identity/member.{name}.{m}"), title, &g.unix, m, true).map(
                |mut s| {
                    // Several members join one after the other.
                    s.want = None;
                    s
                },
            ));
        }
    }
    Ok((steps, warnings))
}

// ---- looking ahead -----------------------------------------------------------------------------------------------------

/// Changes facts as if a step had been done, so that the next phase can be planned without doing it.
pub fn assume(facts: &mut Facts, step: &Step) -> Result<()> {
    match &step.effect {
        Effect::NewRecord => facts.record = Some(record_or_new(facts)),
        Effect::Record(key, value) => {
            if let Some(r) = facts.record.as_mut() {
                r.set_part(key, value.as_ref())?;
            }
        }
        Effect::Write(file) => {
            let conf = crate::facts::ConfFile {
                text: file.content.clone(),
                sha256: sha256_hex(file.content.as_bytes()),
                mode: file.mode,
                uid: file.uid,
                gid: file.gid,
            };
            if file.path == facts.paths.own_conf {
                facts.own = Some(conf);
            } else if file.path == facts.paths.smb_conf {
                facts.main = Some(conf);
            }
        }
        Effect::Remove(path) if *path == facts.paths.own_conf => facts.own = None,
        Effect::StartSmbd { .. } => facts.smbd_running = true,
        Effect::StopSmbd { .. } => facts.smbd_running = false,
        Effect::SetTree { path, uid, gid, mode, .. } => {
            if let Some(Ok(t)) = facts.trees.get_mut(path) {
                t.owner = crate::spec::record::TreeOwner { uid: *uid, gid: *gid, mode: *mode };
            }
        }
        _ => assume_account(facts, step),
    }
    Ok(())
}

fn assume_account(facts: &mut Facts, step: &Step) {
    match (&step.watch, &step.want) {
        (Watch::UnixUser(n), Some(Seen::UnixUser { uid, gid, comment })) => {
            facts.users.insert(n.clone(), UnixUser { uid: *uid, gid: *gid, comment: comment.clone() });
        }
        (Watch::UnixUser(n), Some(Seen::Absent)) => drop(facts.users.remove(n)),
        (Watch::UnixGroup(n), Some(Seen::UnixGroup { gid, members })) => {
            facts.groups.insert(n.clone(), UnixGroup { gid: *gid, members: members.clone() });
        }
        (Watch::UnixGroup(n), Some(Seen::Absent)) => drop(facts.groups.remove(n)),
        (Watch::SambaUser(n), Some(Seen::Absent)) => drop(facts.passdb.remove(n)),
        (Watch::SambaUser(n), None) => {
            facts.passdb.insert(n.clone(), crate::facts::PassdbUser { disabled: false, changed: String::new() });
        }
        (Watch::ShareAcl(n), Some(Seen::ShareAcl(list))) => drop(facts.acls.insert(n.clone(), list.clone())),
        (Watch::ShareAcl(n), Some(Seen::Absent)) => drop(facts.acls.remove(n)),
        _ => {}
    }
}

/// The level names for documents.
pub fn access_list(spec: &ShareSpec) -> Vec<Value> {
    spec.access.entries().map(|(w, l): (&Who, Level)| json!({"who": w.to_string(), "level": l.as_str()})).collect()
}
