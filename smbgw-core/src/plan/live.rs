// SPDX-License-Identifier: MIT OR Apache-2.0
//! Going live: our configuration file behind one include line, smbd's reload, the sessions that must end, and the reading back. The same in
//! every place. It knows that smb.conf may be foreign; it must not know where the place is.
use serde_json::Value;

use super::Intent;
use super::accounts;
use super::common::Steps;
use super::directory::krb5_conf;
use super::samba::{self, MARKER};
use super::step::{Candidate, Effect, Seen, Step, Undo, Watch};
use crate::effect::{Cmd, Daemon, FileSpec, Program};
use crate::error::{Error, Kind, Result};
use crate::facts::Facts;
use crate::format::smb_conf::{IncludeState, Param, add_include, find_include, remove_include};
use crate::spec::Security;
use crate::spec::record::{Key, Member, Record};
use crate::types::sha256_hex;

fn systemctl(verb: &str, daemon: Daemon) -> Cmd {
    Cmd::new(Program::Systemctl, [verb, daemon.unit()]).within_ms(30_000)
}

/// Starts a daemon, or starts it anew.
pub(super) fn start(facts: &Facts, daemon: Daemon, restart: bool) -> Effect {
    let start = if facts.systemd {
        systemctl("start", daemon)
    } else {
        let cmd = accounts::samba(facts, daemon.program(), &["-D"]).daemon();
        // With systemd a drop-in says it.
        if facts.directory.is_some() { cmd.krb5_config(krb5_conf(&facts.paths)) } else { cmd }
    };
    Effect::StartDaemon {
        daemon,
        pid_file: facts.effective.pid_file(daemon),
        start,
        restart: restart.then(|| stop_cmd(facts, daemon)),
    }
}

/// Ends a daemon.
pub(super) fn stop(facts: &Facts, daemon: Daemon) -> Effect {
    Effect::StopDaemon { daemon, pid_file: facts.effective.pid_file(daemon), stop: stop_cmd(facts, daemon) }
}

fn start_smbd(facts: &Facts, restart: bool) -> Effect {
    start(facts, Daemon::Smbd, restart)
}

fn stop_cmd(facts: &Facts, daemon: Daemon) -> Cmd {
    if facts.systemd {
        systemctl("stop", daemon)
    } else {
        accounts::samba(facts, Program::Smbcontrol, &[daemon.name(), "shutdown"])
    }
}

fn smbcontrol(facts: &Facts, args: &[&str]) -> Effect {
    Effect::Run(accounts::samba(facts, Program::Smbcontrol, args))
}

fn reload(facts: &Facts) -> Effect {
    smbcontrol(facts, &["all", "reload-config"])
}

/// smbd reads at its start whether it counts what it does; one that runs is told.
fn count(facts: &Facts) -> Step {
    let to = |level: &str| smbcontrol(facts, &["all", "profile", level]);
    Step::new("samba/counting", "make smbd count what it does", Watch::Nothing, to("on")).undo(Undo::Do(vec![to("off")]))
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
    let mut r = Revoked::default();
    if before == after {
        return r;
    }
    let (old, new) = (SmbConf::parse(before), SmbConf::parse(after));
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

/// Whether nothing is taken from anybody: what is served goes on as it was, shares come in addition, or more people may use one. Both texts are of
/// our own file.
fn only_adds(before: &str, after: &str) -> bool {
    use crate::format::smb_conf::{SectionView, SmbConf};
    use crate::format::smb_params::parse_list;
    if before == after {
        return true;
    }
    let (old, new) = (SmbConf::parse(before), SmbConf::parse(after));
    let grows = |name: &str, a: &str, b: &str| match name {
        "valid users" | "write list" => {
            let now = parse_list(b);
            parse_list(a).iter().all(|who| now.contains(who))
        }
        // Who may write may do so whatever this list says.
        "read list" => true,
        _ => false,
    };
    let stays = |o: &SectionView, n: &SectionView| {
        let same = |(a, b): (&Param, &Param)| a.name == b.name && (a.value == b.value || grows(&a.name, &a.value, &b.value));
        o.params.len() == n.params.len() && o.params.iter().zip(&n.params).all(same)
    };
    let goes_on = |o: &SectionView| match new.section(&o.name) {
        Some(n) => stays(o, n),
        None => o.params.is_empty(),
    };
    let sets = |c: &SmbConf| c.section("global").is_some_and(|g| !g.params.is_empty());
    old.sections().iter().all(goes_on) && (sets(&old) || !sets(&new))
}

/// Whether our file is included where ours win.
pub fn includes(main: &str, own: &str) -> bool {
    matches!(find_include(main, MARKER, own), IncludeState::Present { last_global: true, .. })
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

/// Brings our file to what the record says, and proves that it is in effect.
pub fn go_live(intent: &Intent, facts: &Facts) -> Steps {
    let Some(record) = facts.record.as_ref() else { return Ok((Vec::new(), Vec::new())) };
    let (shares, mut warnings) = samba::serving(record, facts)?;
    if is_lost(facts) {
        let gateway = &record.id;
        warnings.push(format!(
            "the secret of the gateway's computer account is lost; it gets another with: pve-smbgateway ad join {gateway}"
        ));
    }
    let overwrite = matches!(intent, Intent::Repair { overwrite: true });
    if let (Some(why), false) = (hand_edited(facts), overwrite) {
        return Err(Error::new(Kind::Drift, why).remedy(format!("look at the difference with: pve-smbgateway repair {0}; put the file back with: pve-smbgateway repair {0} --overwrite", record.id)));
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
    let text = samba::own_conf(record, &shares, with_globals.then_some(security), &facts.effective, &main.text)?;
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
            .remedy(format!("take the two lines out with an editor, then: pve-smbgateway repair {}", record.id)));
        }
    };
    let new_main = file_to_be(&facts.paths.smb_conf, Some(main), main_text);
    let own_changes = facts.own.as_ref().is_none_or(|f| f.text != own.content);
    let main_changes = main.text != new_main.content;
    let mut revoked = revoked(now_own, &own.content);

    // A listening port and NetBIOS are read once, at the start.
    let now = |name: &str| facts.effective.global.get(name).map_or("", String::as_str);
    let member = record.member.as_ref().filter(|m| m.is_joined() && with_globals);
    // So is whether it is a member of a domain.
    let role = with_globals && member.is_some() != now("security").eq_ignore_ascii_case("ads");
    let ports = with_globals && !crate::format::smb_params::same_value("smb ports", "445", now("smb ports"));
    let restart = facts.smbd_running && (role || ports);
    let mut after_undo =
        if facts.smbd_running { vec![if restart { start_smbd(facts, true) } else { reload(facts) }] } else { Vec::new() };
    // After a join there is another secret, too.
    let joins = matches!(intent, Intent::AdJoin { .. }) && winbindd_runs(facts);
    let anew = member.is_some_and(|m| joins || tells_anew(facts, record, m, security, now_own));
    if anew {
        after_undo.insert(0, start(facts, Daemon::Winbindd, true));
    }

    // A client that connects makes smbd read the files, so the proof needs no reload, and sessions that are open lose nothing without one.
    let waits = intent.may_wait()
        && facts.smbd_running
        && !(restart || anew || main_changes && facts.own.is_some())
        && own_changes
        && only_adds(now_own, &own.content);
    if waits {
        revoked = Revoked::default();
    }
    let due = record.reload_due.is_some();
    let reloads = ((own_changes || main_changes) && !waits) || (due && !intent.may_wait());

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
    // Of shares that are no longer served under that name.
    for (n, (name, old)) in
        facts.acls.iter().filter(|(name, _)| !shares.iter().any(|(s, _)| s.share.as_str() == name.as_str())).enumerate()
    {
        steps.push(remove_acl(&format!("gone.{n}"), name, old));
    }
    if waits {
        // First: whoever finds our file with something new in it also finds that smbd was not told.
        let title = "record that open sessions are told of it later";
        steps.push(accounts::record("samba/due", title, Key::ReloadDue, Some(Value::from(facts.now_ms))));
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
    winbindd(intent, facts, record, member, anew, &mut steps);
    if !facts.smbd_running {
        if !record.started_smbd && facts.own.is_none() {
            steps.push(accounts::record(
                "samba/started",
                "record that smbd did not run",
                Key::StartedSmbd,
                Some(Value::Bool(true)),
            ));
        }
        let undo = Undo::Do(vec![stop(facts, Daemon::Smbd)]);
        steps.push(
            Step::new("samba/start", "start smbd", Watch::Daemon(Daemon::Smbd), start_smbd(facts, false))
                .want(Seen::Running)
                .undo(undo),
        );
    } else if restart {
        steps.push(Step::new(
            "samba/restart",
            if role { "restart smbd once: its part in a domain changes" } else { "restart smbd once: ports and NetBIOS change" },
            Watch::Nothing,
            start_smbd(facts, true),
        ));
    } else if reloads {
        steps.push(Step::new("samba/reload", "make smbd read its configuration", Watch::Nothing, reload(facts)));
        let (counts, level) = samba::OBSERVED[0];
        let ours = crate::format::smb_conf::SmbConf::parse(&own.content).get("global", counts).is_some();
        if ours && !crate::format::smb_params::same_value(counts, level, now(counts)) {
            steps.push(count(facts));
        }
    }
    if due && (reloads || restart || !facts.smbd_running) {
        steps.push(told());
    }
    for name in share_acls(facts, record, &shares, &mut steps)? {
        if !revoked.close.contains(&name) && !revoked.denied.contains(&name) {
            revoked.denied.push(name);
        }
    }
    if facts.smbd_running && !restart {
        revoke(facts, &revoked, &mut steps);
    }
    let settings = samba::settings(record, &shares, security, with_globals, &facts.effective)?;
    steps.push(Step::new(
        "samba/effective",
        "read the effective configuration back",
        Watch::Nothing,
        Effect::Effective(settings),
    ));
    Ok((steps, warnings))
}

/// No session lacks anything of our file any more. Its undo has smbd told once more, which does no harm.
fn told() -> Step {
    accounts::record("samba/told", "record that smbd was told of everything", Key::ReloadDue, None)
}

/// It could not run if it were started: only joining again helps.
fn is_lost(facts: &Facts) -> bool {
    facts.directory.as_ref().is_some_and(|d| d.lost)
}

fn winbindd_runs(facts: &Facts) -> bool {
    facts.directory.as_ref().is_some_and(|d| d.winbindd_running)
}

/// Whether a running winbindd has to be told of the domain anew: it listens when it starts.
fn tells_anew(facts: &Facts, record: &Record, member: &Member, security: Security, now_own: &str) -> bool {
    let old = crate::format::smb_conf::SmbConf::parse(now_own);
    let same = |(name, value): &(String, String)| old.get("global", name).as_deref() == Some(value.as_str());
    winbindd_runs(facts) && !samba::in_domain(member, record.mode, security, &facts.effective).iter().all(same)
}

/// winbindd runs where the gateway is in a domain, before smbd asks it.
fn winbindd(intent: &Intent, facts: &Facts, record: &Record, member: Option<&Member>, anew: bool, steps: &mut Vec<Step>) {
    let runs = winbindd_runs(facts);
    let watch = Watch::Daemon(Daemon::Winbindd);
    match member {
        None if runs && record.member.as_ref().is_some_and(|m| m.started_winbindd) => {
            let title = "stop winbindd: the gateway is in no domain";
            // It does not start without the secret, which is gone when the gateway has left.
            let undo = match intent {
                Intent::AdLeave { .. } => Undo::None("it does not run without a membership: pve-smbgateway ad join".into()),
                _ => Undo::Do(vec![start(facts, Daemon::Winbindd, false)]),
            };
            steps.push(Step::new("samba/winbindd", title, watch, stop(facts, Daemon::Winbindd)).want(Seen::Absent).undo(undo));
        }
        None => {}
        Some(_) if !runs && is_lost(facts) => {}
        Some(m) if !runs => {
            if !m.started_winbindd {
                let m = Member { started_winbindd: true, ..m.clone() };
                let title = "record that winbindd did not run";
                steps.push(accounts::record("samba/started-winbindd", title, Key::Member, serde_json::to_value(m).ok()));
            }
            let undo = Undo::Do(vec![stop(facts, Daemon::Winbindd)]);
            let effect = start(facts, Daemon::Winbindd, false);
            steps.push(Step::new("samba/winbindd", "start winbindd", watch, effect).want(Seen::Running).undo(undo));
        }
        // The undo of our file starts it anew too: before that it would only be told the same again.
        Some(_) if anew => {
            let title = "restart winbindd: what it knows of the domain changes";
            steps.push(Step::new("samba/winbindd", title, Watch::Nothing, start(facts, Daemon::Winbindd, true)));
        }
        Some(_) => {}
    }
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
                    Some(old) => accounts::sharesec(name, &["--replace", &old.join(",")]),
                    None => drop_acl(name),
                };
                let cmd = accounts::sharesec(name, &["--replace", &w.join(",")]);
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
            (None, Some(old)) => steps.push(remove_acl(spec.id.as_str(), name, old)),
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

fn drop_acl(name: &str) -> Cmd {
    // 255: there is none.
    accounts::sharesec(name, &["--delete"]).also_ok(&[255])
}

fn remove_acl(id: &str, name: &str, old: &[String]) -> Step {
    let undo = accounts::sharesec(name, &["--replace", &old.join(",")]);
    Step::new(
        format!("samba/acl.{id}"),
        format!("remove the share ACL of [{name}]"),
        Watch::ShareAcl(name.into()),
        Effect::Run(drop_acl(name)),
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
    let end = facts.smbd_running && record.started_smbd && foreign.is_empty();
    let back = if facts.smbd_running { vec![if restart { start_smbd(facts, true) } else { reload(facts) }] } else { Vec::new() };
    let names = samba::own_sections(now_own);
    for name in &names {
        if let Some(old) = facts.acls.get(name) {
            steps.push(remove_acl(name, name, old));
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
    if record.reload_due.is_some() {
        steps.push(told());
    }
    if end {
        let undo = Undo::Do(vec![start_smbd(facts, false)]);
        let effect = stop(facts, Daemon::Smbd);
        steps.push(
            Step::new("samba/stop", "stop smbd: it did not run before us", Watch::Daemon(Daemon::Smbd), effect)
                .want(Seen::Absent)
                .undo(undo),
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
