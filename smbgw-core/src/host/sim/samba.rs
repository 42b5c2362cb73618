// SPDX-License-Identifier: MIT OR Apache-2.0
//! Samba's administration programs (4.17.12 as Debian 12 has it) and systemctl: what they do to the simulated machine and
//! what they say, as measured. It knows accounts, share ACLs and the running smbd; what a client does is in `client.rs`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::effect::Program;

use super::accounts::{self, User};
use super::config::{self, Config, Loaded, Share};
use super::files::Files;
use super::{Machine, Said, World, args, domain, images};

/// Where Samba looks for its configuration.
pub const SMB_CONF: &str = "/etc/samba/smb.conf";
/// Where smbd writes its pid.
pub const PID_FILE: &str = "/run/samba/smbd.pid";
const BROKEN: &str = "Can't load /etc/samba/smb.conf - run testparm to debug it\n";
const NO_SMBD: &str = "Can't find pid for destination 'smbd'\n";
/// The NetBIOS name: the host name in capitals.
const NAME: &str = "NODE";

/// An entry of passdb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The last part of its SID.
    pub rid: u32,
    /// 32 hexadecimal digits.
    pub nt_hash: String,
    /// `D` for disabled, then `U`.
    pub flags: String,
    /// When the password was last changed, in seconds since 1970.
    pub lct: u32,
}

impl Account {
    /// Whether it may not log in.
    pub fn disabled(&self) -> bool {
        self.flags.contains('D')
    }
}

/// The simulated NT hash of a password: deterministic, one-way, of the right shape, and not the real one.
pub fn nt_hash(password: &str) -> String {
    Sha256::digest(["nt hash ", password].concat())[..16].iter().map(|b| format!("{b:02X}")).collect()
}

/// A client that is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The smbd child that serves it.
    pub pid: i32,
    /// Who logged in.
    pub user: String,
    /// Shares it is connected to, and what it may do there: that is settled when it connects.
    pub shares: Vec<(String, Access)>,
    /// Files that it has open: directory of the share, name.
    pub files: Vec<(String, String)>,
}

/// A running smbd.
#[derive(Debug, Clone, PartialEq)]
pub struct Smbd {
    /// The daemon.
    pub pid: i32,
    /// The configuration it last read without a mistake.
    pub config: Config,
    /// Who is connected.
    pub sessions: Vec<Session>,
}

/// What smb.conf says now.
pub(super) fn load(files: &Files) -> Loaded {
    config::load(files, Path::new(SMB_CONF))
}

/// Starts smbd; `false` if its configuration cannot be loaded. One that runs already goes on.
pub(super) fn start_smbd(m: &mut Machine) -> bool {
    let Some(config) = load(&m.world.files).config else { return false };
    domain::first_secrets(&mut m.world.files);
    if m.world.smbd.is_none() {
        let pid = m.new_pid();
        m.world.smbd = Some(Smbd { pid, config, sessions: Vec::new() });
        m.world.files.put(PID_FILE, format!("{pid}\n"), 0o644, 0, 0);
    }
    true
}

pub(super) fn stop_smbd(world: &mut World) {
    world.smbd = None;
    world.files.take(PID_FILE);
}

pub(super) fn reload(world: &mut World) {
    if let (Some(smbd), Some(config)) = (&mut world.smbd, load(&world.files).config) {
        smbd.config = config;
    }
}

/// Runs one of Samba's programs, or systemctl.
pub(super) fn run(m: &mut Machine, program: Program, words: &[String], stdin: &[u8]) -> Said {
    match program {
        Program::Smbpasswd => smbpasswd(m, words, stdin),
        Program::Pdbedit => pdbedit(m, words, stdin),
        Program::Testparm => testparm(&m.world, words),
        Program::Smbcontrol => smbcontrol(m, words),
        Program::Smbstatus => smbstatus(m, words),
        Program::Sharesec => sharesec(&mut m.world, words, stdin),
        Program::Net if matches!(words.first().map(String::as_str), Some("ads" | "primarytrust" | "cache")) => {
            domain::net(m, words, stdin)
        }
        Program::Net => net(&mut m.world, words),
        Program::Winbindd => domain::winbindd(m, words),
        Program::Wbinfo => domain::wbinfo(m, words),
        Program::Smbd => smbd(m, words),
        _ => systemctl(m, words),
    }
}

fn usage(program: Program, option: &str) -> Said {
    Said::err(1, format!("\nInvalid option {option}: unknown option\n\nUsage: {}\n", program.name()))
}

/// The two lines that smbpasswd and pdbedit read.
fn twice(stdin: &[u8]) -> Option<Result<String, ()>> {
    let text = String::from_utf8_lossy(stdin).into_owned();
    let mut lines = text.split_inclusive('\n').map(|l| l.trim_end_matches('\n').to_owned());
    let (first, second) = (lines.next()?, lines.next()?);
    Some(if first == second { Ok(first) } else { Err(()) })
}

fn no_unix(name: &str, times: usize) -> String {
    format!("Failed to find a Unix account for {name}\n").repeat(times)
}

fn smbpasswd(m: &mut Machine, words: &[String], stdin: &[u8]) -> Said {
    let known = [("stdin", 's', false), ("add", 'a', false), ("delete", 'x', false), ("off", 'd', false), ("on", 'e', false)];
    let given = match args::parse(words, &known) {
        Ok(given) if given.words.len() <= 1 => given,
        Ok(_) => return usage(Program::Smbpasswd, ""),
        Err(option) => return usage(Program::Smbpasswd, &option),
    };
    if load(&m.world.files).config.is_none() {
        return Said::err(1, BROKEN);
    }
    let (name, now) = (given.word(0).to_owned(), m.seconds());
    let has_unix = accounts::user(&m.world.files, &name).is_some();
    let missing = || Said::err(1, format!("Failed to find entry for user {name}.\n"));
    if given.has("delete") {
        return match (m.world.passdb.contains_key(&name), has_unix) {
            (false, _) => missing(),
            (true, false) => Said::err(1, no_unix(&name, 1) + &format!("Failed to delete entry for user {name}.\n")),
            (true, true) => {
                m.world.passdb.remove(&name);
                Said::ok(format!("Deleted user {name}.\n"))
            }
        };
    }
    if given.has("off") || given.has("on") {
        let on = given.has("on");
        let Some(account) = m.world.passdb.get_mut(&name) else {
            return if on { Said::err(1, format!("Failed to find user {name} in passdb backend.\n")) } else { missing() };
        };
        account.flags = if on { account.flags.replace('D', "") } else { "DU".into() };
        let noise = if has_unix { String::new() } else { no_unix(&name, 2 + usize::from(on)) };
        return Said::both(0, format!("{} user {name}.\n", if on { "Enabled" } else { "Disabled" }), noise);
    }
    if !given.has("stdin") {
        return Said::err(1, "Unable to get new password.\n");
    }
    let password = match twice(stdin) {
        Some(Ok(password)) => password,
        Some(Err(())) => return Said::err(1, "Mismatch - password unchanged.\nUnable to get new password.\n"),
        None => return Said::err(1, "Unable to get new password.\n"),
    };
    if let Some(account) = m.world.passdb.get_mut(&name) {
        (account.nt_hash, account.lct) = (nt_hash(&password), now);
        return Said::ok("");
    }
    if !given.has("add") {
        return missing();
    }
    match add_account(m, &name, nt_hash(&password)) {
        Ok(()) => Said::ok(format!("Added user {name}.\n")),
        Err(why) => Said::err(1, why),
    }
}

/// A new account with the next RID. Samba never uses one again, and the attempt that met a taken one counts too.
fn add_account(m: &mut Machine, name: &str, nt_hash: String) -> Result<(), String> {
    let failed = format!("Failed to add entry for user {name}.\n");
    if accounts::user(&m.world.files, name).is_none() {
        return Err(failed);
    }
    let rid = m.next_rid;
    m.next_rid += 1;
    if m.world.passdb.values().any(|a| a.rid == rid) {
        return Err(format!("Unable to modify TDB passwd: NT_STATUS_OBJECT_NAME_COLLISION!\n{failed}"));
    }
    let lct = m.seconds();
    m.world.passdb.insert(name.to_owned(), Account { rid, nt_hash, flags: "U".into(), lct });
    Ok(())
}

fn smbpasswd_line(user: Option<&User>, name: &str, a: &Account) -> String {
    let uid = user.map_or(u32::MAX, |u| u.uid);
    format!("{name}:{uid}:{}:{}:[{:<11}]:LCT-{:08X}:\n", "X".repeat(32), a.nt_hash, a.flags, a.lct)
}

fn verbose(world: &World, name: &str, a: &Account) -> String {
    let user = accounts::user(&world.files, name);
    let group = if user.is_some() { format!("{}-513", world.local_sid) } else { "(NULL SID)".into() };
    let full = user.map(|u| u.gecos).unwrap_or_default();
    let lines = [
        ("Unix username", name.to_owned()),
        ("NT username", String::new()),
        ("Account Flags", format!("[{:<11}]", a.flags)),
        ("User SID", format!("{}-{}", world.local_sid, a.rid)),
        ("Primary Group SID", group),
        ("Full Name", full),
        ("Home Directory", format!("\\\\{NAME}\\{name}")),
        ("HomeDir Drive", String::new()),
        ("Logon Script", String::new()),
        ("Profile Path", format!("\\\\{NAME}\\{name}\\profile")),
        ("Domain", NAME.to_owned()),
    ];
    let mut out = String::new();
    for (label, value) in lines {
        let _ = writeln!(out, "{:<22}{value}", format!("{label}:"));
    }
    out
}

fn pdbedit(m: &mut Machine, words: &[String], stdin: &[u8]) -> Said {
    let known = [
        ("list", 'L', false),
        ("verbose", 'v', false),
        ("smbpasswd-style", 'w', false),
        ("user", 'u', true),
        ("delete", 'x', false),
        ("import", 'i', true),
        ("export", 'e', true),
        ("create", 'a', false),
        ("modify", 'r', false),
        ("user SID", 'U', true),
        ("password-from-stdin", 't', false),
    ];
    let given = match args::parse(words, &known) {
        Ok(given) => given,
        Err(option) => return usage(Program::Pdbedit, &option),
    };
    let noise = if load(&m.world.files).config.is_none() { BROKEN } else { "" };
    let name = given.value("user").unwrap_or(given.word(0)).to_owned();
    // Either the RID alone or the whole SID.
    let rid = given.value("user SID").and_then(|s| s.rsplit('-').next()?.parse::<u32>().ok());
    if let Some(from) = given.value("import") {
        return import(m, from);
    }
    if given.has("list") {
        let chosen: Vec<_> = m.world.passdb.iter().filter(|(n, _)| name.is_empty() || **n == name).collect();
        if chosen.is_empty() && !name.is_empty() {
            return Said::err(255, "Username not found!\n");
        }
        let (mut out, mut err) = (String::new(), noise.to_owned());
        for (n, account) in chosen {
            let user = accounts::user(&m.world.files, n);
            if given.has("verbose") {
                if name.is_empty() {
                    out.push_str("---------------\n");
                }
                out.push_str(&verbose(&m.world, n, account));
            } else if given.has("smbpasswd-style") {
                out.push_str(&smbpasswd_line(user.as_ref(), n, account));
            } else {
                let _ = match &user {
                    Some(u) => writeln!(out, "{n}:{}:{}", u.uid, u.gecos),
                    None => writeln!(out, "{n}:{}:", u32::MAX),
                };
            }
            if user.is_none() && (given.has("verbose") || !name.is_empty()) {
                err.push_str(&no_unix(n, 1));
            }
        }
        return Said::both(0, out, err);
    }
    if given.has("delete") {
        let has_unix = accounts::user(&m.world.files, &name).is_some();
        return match m.world.passdb.remove(&name) {
            Some(_) => Said::both(0, "", if has_unix { String::new() } else { no_unix(&name, 1) }),
            None => Said::err(255, format!("user {name} does not exist in the passdb\n")),
        };
    }
    if given.has("create") {
        let password = match twice(stdin) {
            Some(Ok(password)) if given.has("password-from-stdin") => password,
            Some(Err(())) => return Said::err(255, "Passwords do not match!\n"),
            _ => return Said::both(255, "new password:", "Failed to read passwords.\n"),
        };
        let now = m.seconds();
        if let Some(account) = m.world.passdb.get_mut(&name) {
            (account.nt_hash, account.lct) = (nt_hash(&password), now);
        } else if let Err(why) = add_account(m, &name, nt_hash(&password)) {
            return Said::err(255, why);
        }
        // The account comes first with a RID of its own; whether the wanted one is free shows only now.
        return modify(m, &name, rid, &format!("Failed to modify entry for user {name}.!\n"));
    }
    if given.has("modify") {
        if !m.world.passdb.contains_key(&name) {
            return Said::err(255, "Username not found!\n");
        }
        return modify(m, &name, rid, "Unable to modify entry!\n");
    }
    usage(Program::Pdbedit, "")
}

fn modify(m: &mut Machine, name: &str, rid: Option<u32>, failed: &str) -> Said {
    if let Some(rid) = rid {
        if m.world.passdb.iter().any(|(n, a)| a.rid == rid && n != name) {
            return Said::err(255, format!("Unable to modify TDB passwd: NT_STATUS_OBJECT_NAME_COLLISION!\n{failed}"));
        }
        if let Some(account) = m.world.passdb.get_mut(name) {
            account.rid = rid;
        }
    }
    Said::ok(m.world.passdb.get(name).map(|a| verbose(&m.world, name, a)).unwrap_or_default())
}

/// `-i smbpasswd:FILE`: the hash, flags and time of each line; the RID becomes the algorithmic one, 2 * uid + 1000.
fn import(m: &mut Machine, from: &str) -> Said {
    let Some(path) = from.strip_prefix("smbpasswd:") else {
        return Said::err(1, format!("No builtin backend found, trying to load plugin {from}\n"));
    };
    if m.world.files.bytes(path).is_none() {
        m.world.files.put(path, "", 0o600, 0, 0);
        return Said::err(0, format!("startsmbfilepwent_internal: file {path} did not exist. File successfully created.\n"));
    }
    let (mut out, mut err) = (String::new(), String::new());
    for line in m.world.files.text(path).lines() {
        let f: Vec<&str> = line.split(':').collect();
        let [name, uid, _, hash, flags, lct, ..] = f[..] else { continue };
        let Some(user) = accounts::user(&m.world.files, name) else {
            let _ = writeln!(
                err,
                "build_sam_account: smbpasswd database is corrupt!  username {name} with uid {uid} is not in unix passwd database!"
            );
            break;
        };
        let account = Account {
            rid: 2 * user.uid + 1000,
            nt_hash: hash.to_owned(),
            flags: flags.trim_matches(['[', ']', ' ']).to_owned(),
            lct: lct.strip_prefix("LCT-").and_then(|t| u32::from_str_radix(t, 16).ok()).unwrap_or(0),
        };
        m.world.passdb.insert(name.to_owned(), account);
        let _ = writeln!(out, "Importing account for {name}...ok");
    }
    Said::both(0, out, err)
}

fn testparm(world: &World, words: &[String]) -> Said {
    let known =
        [("suppress-prompt", 's', false), ("verbose", 'v', false), ("section-name", '\0', true), ("parameter-name", '\0', true)];
    let given = match args::parse(words, &known) {
        Ok(given) => given,
        Err(option) => return usage(Program::Testparm, &option),
    };
    let file = if given.words.is_empty() { SMB_CONF } else { given.word(0) };
    let loaded = config::load(&world.files, Path::new(file));
    let mut err = format!("Load smb config files from {file}\n{}", loaded.said);
    let Some(config) = loaded.config else { return Said::err(1, err + "Error loading services.\n") };
    err.push_str("Loaded services file OK.\nWeak crypto is allowed by GnuTLS (e.g. NTLM as a compatibility fallback)\n\n");
    let section = given.value("section-name").filter(|s| !s.eq_ignore_ascii_case("global"));
    let share = match section.map(|s| config.share(s).ok_or(s)) {
        Some(Err(nope)) => return Said::err(1, format!("{err}Unknown section {nope}\n")),
        Some(Ok(share)) => Some(share),
        None => None,
    };
    if let Some(name) = given.value("parameter-name") {
        let value = share.map_or_else(|| config.global(name), |s| s.value(name));
        return Said::both(0, value + "\n", err);
    }
    if let Some(share) = share {
        return Said::both(0, config::print_share(&config, share).trim_start().to_owned(), err);
    }
    let (complaints, wrong) = global_checks(&config);
    err.push_str(&complaints);
    let member = config.global("security") == "ADS";
    let _ = write!(err, "Server role: {}\n\n", if member { "ROLE_DOMAIN_MEMBER" } else { "ROLE_STANDALONE" });
    Said::both(i32::from(wrong), config::print(&config, given.has("verbose")), err)
}

/// What testparm says about the globals, and whether that is an error.
fn global_checks(config: &Config) -> (String, bool) {
    let (mut text, mut wrong) = (String::new(), false);
    if config.global("security") == "ADS" && config.global("realm").is_empty() {
        text.push_str("ERROR: The 'security=ADS' mode requires 'realm' parameter to be set!\n\n");
        wrong = true;
    }
    if config.global("netbios name").len() > 15 {
        text.push_str("WARNING: The 'netbios name' is too long (max. 15 chars).\n\n");
    }
    if config.global("netbios name") == config.global("workgroup") {
        text.push_str("WARNING: 'workgroup' and 'netbios name' must differ.\n\n");
    }
    (text, wrong)
}

fn smbcontrol(m: &mut Machine, words: &[String]) -> Said {
    let given = match args::parse(words, &[("timeout", 't', true), ("configfile", 's', true)]) {
        Ok(given) if given.words.len() >= 2 => given,
        Ok(_) => return Said::err(1, "Usage: smbcontrol [OPTION...] <destination> <message-type> <parameters>\n"),
        Err(option) => return usage(Program::Smbcontrol, &option),
    };
    let (to, message, name) = (given.word(0), given.word(1), given.word(2));
    if let Ok(pid) = to.parse::<i32>() {
        let world = &mut m.world;
        let Some(smbd) = &mut world.smbd else { return Said::err(1, "") };
        if message == "shutdown" && smbd.pid == pid {
            stop_smbd(world);
            return Said::ok("");
        }
        if !smbd.sessions.iter().any(|s| s.pid == pid) && smbd.pid != pid {
            return Said::err(1, "");
        }
        match message {
            "shutdown" => smbd.sessions.retain(|s| s.pid != pid),
            "ping" => return Said::ok(format!("PONG from pid {pid}\n")),
            _ => {}
        }
        return Said::ok("");
    }
    if to == "winbindd" {
        return domain::control(m, message);
    }
    let Some(smbd) = &mut m.world.smbd else {
        let broken = if load(&m.world.files).config.is_none() { BROKEN } else { "" };
        return Said::err(1, format!("{broken}{NO_SMBD}"));
    };
    match message {
        "reload-config" => reload(&mut m.world),
        // Nothing of the simulated smbd depends on it.
        "profile" if matches!(name, "on" | "off") => {}
        "ping" => return Said::ok(format!("PONG from pid {}\n", smbd.pid)),
        "num-children" => return Said::ok(format!("{}\n", smbd.sessions.len())),
        "shutdown" => stop_smbd(&mut m.world),
        "close-share" | "close-denied-share" if name.is_empty() => {
            return Said::err(1, format!("Usage: smbcontrol <dest> {message} <sharename>\n"));
        }
        "close-share" => {
            for session in &mut smbd.sessions {
                session.shares.retain(|(s, _)| !config::same(s, name));
            }
        }
        "close-denied-share" => close_denied(&mut m.world, name),
        _ => return Said::err(1, format!("smbcontrol: unknown command '{message}'\n")),
    }
    Said::ok("")
}

/// Ends the connections to a share of those whose rights there changed, by the configuration as last loaded. A share that
/// is gone or not available is left alone: only close-share ends that.
fn close_denied(world: &mut World, name: &str) {
    let Some(mut smbd) = world.smbd.take() else { return };
    if let Some(share) = smbd.config.share(name).filter(|s| s.is("available")) {
        for session in &mut smbd.sessions {
            let now = access(world, share, &session.user);
            session.shares.retain(|(s, then)| !config::same(s, name) || now == Some(*then));
        }
    }
    world.smbd = Some(smbd);
}

/// What somebody may do in a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Look.
    Read,
    /// Change.
    Write,
}

/// Whether a list of names (`name`, `+group`, `@group`, `&group`, a SID) contains a user; names that mean nobody are skipped.
fn listed(files: &Files, list: &[String], user: &User, sids: &[String]) -> bool {
    list.iter().any(|entry| match entry.strip_prefix(['+', '@', '&']) {
        Some(group) => accounts::is_member(files, user, group),
        None if entry.starts_with("S-1-") => sids.contains(entry),
        None => entry.eq_ignore_ascii_case(&user.name),
    })
}

/// What the configuration and the share ACL let a user do; `None` is a refused connection.
pub(super) fn access(world: &World, share: &Share, name: &str) -> Option<Access> {
    let files = &world.files;
    let (user, sids) = match name.contains('\\') {
        true => domain::visitor(world, &load(files).config?, name).map(|v| (v.user, v.sids))?,
        false => (accounts::user(files, name)?, Vec::new()),
    };
    let listed = |list: &[String]| listed(files, list, &user, &sids);
    let valid = share.list("valid users");
    if listed(&share.list("invalid users")) || !(valid.is_empty() || listed(&valid)) {
        return None;
    }
    // The write list beats the read list.
    let configured = if listed(&share.list("write list")) {
        Access::Write
    } else if share.is("read only") || listed(&share.list("read list")) {
        Access::Read
    } else {
        Access::Write
    };
    Some(configured.min(acl_access(world, &share.name, &user, sids)?))
}

fn acl_access(world: &World, share: &str, user: &User, sids: Vec<String>) -> Option<Access> {
    let Some(acl) = world.share_acls.get(&share.to_lowercase()) else { return Some(Access::Write) };
    let mut mine = vec!["S-1-1-0".to_owned(), format!("S-1-22-1-{}", user.uid)];
    mine.extend(sids);
    mine.extend(accounts::gids(&world.files, user).into_iter().map(|gid| format!("S-1-22-2-{gid}")));
    mine.extend(world.passdb.get(&user.name).map(|a| format!("{}-{}", world.local_sid, a.rid)));
    let allowed = acl.iter().filter(|ace| ace.allowed && mine.contains(&ace.sid));
    allowed.map(|ace| if ace.rights == "READ" { Access::Read } else { Access::Write }).max()
}

/// One entry of a share ACL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ace {
    /// Whom it is about.
    pub sid: String,
    /// ALLOWED, else DENIED.
    pub allowed: bool,
    /// READ, CHANGE, FULL or a number.
    pub rights: String,
}

fn parse_acl(text: &str) -> Result<Vec<Ace>, String> {
    text.split(',')
        .map(|ace| {
            let bad = |why: String| format!("ACE '{ace}': {why}\n");
            let (sid, rest) = ace.split_once(':').ok_or_else(|| bad("missing ':'.".into()))?;
            if !sid.starts_with("S-1-") {
                return Err(bad(format!("failed to convert '{sid}' to SID")));
            }
            let f: Vec<&str> = rest.split('/').collect();
            let [kind @ ("ALLOWED" | "DENIED"), _, rights] = f[..] else { return Err(bad("bad access mask".into())) };
            let rights = match rights.to_lowercase().as_str() {
                "0x001f01ff" | "0x1f01ff" | "full" => "FULL",
                "0x001301bf" | "0x1301bf" | "change" => "CHANGE",
                "0x001200a9" | "0x1200a9" | "read" => "READ",
                _ => rights,
            };
            Ok(Ace { sid: sid.into(), allowed: kind == "ALLOWED", rights: rights.into() })
        })
        .collect()
}

fn print_acl(acl: &[Ace]) -> String {
    let mut out = String::from("REVISION:1\nCONTROL:SR|DP\nOWNER:\nGROUP:\n");
    for ace in acl {
        let _ = writeln!(out, "ACL:{}:{}/0x0/{}", ace.sid, if ace.allowed { "ALLOWED" } else { "DENIED" }, ace.rights);
    }
    out
}

fn sharesec(world: &mut World, words: &[String], stdin: &[u8]) -> Said {
    let known = [
        ("view", 'v', false),
        ("replace", 'R', true),
        ("delete", 'D', false),
        ("add", 'a', true),
        ("view-all", '\0', false),
        ("configfile", 's', true),
    ];
    let given = match args::parse(words, &known) {
        Ok(given) => given,
        Err(option) => return usage(Program::Sharesec, &option),
    };
    let everyone = || vec![Ace { sid: "S-1-1-0".into(), allowed: true, rights: "FULL".into() }];
    let file = given.value("configfile").unwrap_or(SMB_CONF);
    let config = match file {
        "/dev/stdin" => {
            let mut files = world.files.clone();
            files.put(file, stdin, 0o600, 0, 0);
            config::load(&files, Path::new(file)).config.unwrap_or_default()
        }
        _ => config::load(&world.files, Path::new(file)).config.unwrap_or_default(),
    };
    if given.has("view-all") {
        let one = |s: &Share| {
            let acl = world.share_acls.get(&s.name.to_lowercase()).cloned().unwrap_or_else(everyone);
            format!("[{}]\n{}\n", s.name, print_acl(&acl))
        };
        return Said::ok(config.shares.iter().map(one).collect::<String>());
    }
    let name = given.word(0);
    if config.share(name).is_none() {
        return Said::err(255, format!("Invalid sharename: {name}\n"));
    }
    let key = name.to_lowercase();
    if given.has("delete") {
        return match world.share_acls.remove(&key) {
            Some(_) => Said::ok(""),
            None => Said::err(
                255,
                format!(
                    "delete_share_security: Failed to delete entry for share {name}: NT_STATUS_NOT_FOUND\n\
                     Failed to delete security descriptor for share [{name}]\n"
                ),
            ),
        };
    }
    if let Some(text) = given.value("replace").or(given.value("add")) {
        let new = match parse_acl(text) {
            Ok(new) => new,
            Err(why) => return Said::both(255, why, "Failed to parse acl\n"),
        };
        let mut acl = if given.has("add") { world.share_acls.get(&key).cloned().unwrap_or_else(everyone) } else { Vec::new() };
        acl.extend(new);
        world.share_acls.insert(key, acl);
        return Said::ok("");
    }
    Said::ok(print_acl(&world.share_acls.get(&key).cloned().unwrap_or_else(everyone)))
}

fn net(world: &mut World, words: &[String]) -> Said {
    let noise = if load(&world.files).config.is_none() { BROKEN } else { "" };
    match words.first().map(String::as_str) {
        Some("getlocalsid") => Said::both(0, format!("SID for domain {NAME} is: {}\n", world.local_sid), noise),
        Some("setlocalsid") => {
            let sid = words.get(1).filter(|s| {
                s.strip_prefix("S-1-5-21-")
                    .is_some_and(|r| r.split('-').count() == 3 && r.split('-').all(|n| n.parse::<u32>().is_ok()))
            });
            match sid {
                Some(sid) => {
                    world.local_sid.clone_from(sid);
                    Said::both(0, "", noise)
                }
                None => Said::err(1, "usage: net setlocalsid S-1-5-21-x-y-z\n"),
            }
        }
        _ => Said::err(255, "Invalid command: net\n"),
    }
}

fn smbd(m: &mut Machine, words: &[String]) -> Said {
    match args::parse(words, &[("daemon", 'D', false), ("configfile", 's', true), ("debuglevel", 'd', true)]) {
        Ok(given) if given.has("daemon") => Said { status: i32::from(!start_smbd(m)), ..Said::ok("") },
        Ok(_) => usage(Program::Smbd, ""),
        Err(option) => usage(Program::Smbd, &option),
    }
}

fn smbstatus(m: &Machine, words: &[String]) -> Said {
    let known = [
        ("processes", 'p', false),
        ("shares", 'S', false),
        ("brief", 'b', false),
        ("json", 'j', false),
        ("locks", 'L', false),
        ("numeric", 'n', false),
    ];
    let given = match args::parse(words, &known) {
        Ok(given) if given.has("json") => given,
        Ok(given) if given.has("locks") && given.has("numeric") => return Said::ok(opens(&m.world)),
        Ok(_) => return Said::ok("\nSamba version 4.17.12-Debian\n"),
        Err(option) => return usage(Program::Smbstatus, &option),
    };
    let one_kind = given.has("processes") || given.has("shares") || given.has("brief") || given.has("locks");
    let (sessions, tcons) = connections(&m.world);
    let mut doc = BTreeMap::from([
        ("timestamp", json!(timestamp(m.clock_ms))),
        ("version", json!("4.17.12-Debian")),
        ("smb_conf", json!(SMB_CONF)),
    ]);
    if !one_kind || given.has("processes") || given.has("brief") {
        doc.insert("sessions", sessions);
    }
    if !one_kind || given.has("shares") {
        doc.insert("tcons", tcons);
    }
    if !one_kind || given.has("locks") {
        doc.insert("open_files", json!({}));
    }
    let noise = if load(&m.world.files).config.is_none() { BROKEN } else { "" };
    Said::both(0, serde_json::to_string(&doc).unwrap_or_default() + "\n", noise)
}

fn opens(world: &World) -> String {
    let mut lines = String::new();
    for s in world.smbd.iter().flat_map(|s| &s.sessions) {
        let uid = accounts::user(&world.files, &s.user).map_or(u32::MAX, |u| u.uid);
        for (tree, name) in &s.files {
            let _ = writeln!(
                lines,
                "{:<11}  {uid:<9}  {:<10} 0x{:<8x}  {:<10} {:<14}   {tree}   {name}   Thu Jan  1 00:00:00 2026",
                s.pid, "DENY_WRITE", 0x12_0089, "RDONLY", "LEASE(RH)"
            );
        }
    }
    if lines.is_empty() {
        return "\nNo locked files\n".into();
    }
    format!(
        "\nLocked files:\nPid          User(ID)   DenyMode   Access      R/W        Oplock           SharePath   Name   Time\n{}\n{lines}",
        "-".repeat(98)
    )
}

fn connections(world: &World) -> (Value, Value) {
    let (mut sessions, mut tcons) = (serde_json::Map::new(), serde_json::Map::new());
    let none = json!({"cipher": "-", "degree": "none"});
    let mut served = BTreeMap::<i32, i32>::new();
    for session in world.smbd.iter().flat_map(|s| &s.sessions) {
        // One process serves all sessions that came by its connection.
        let nth = served.entry(session.pid).or_default();
        let user = accounts::user(&world.files, &session.user);
        let gid = user.as_ref().map_or(u32::MAX, |u| u.gid);
        let group = accounts::groups(&world.files).into_iter().find(|g| g.gid == gid).map(|g| g.name).unwrap_or_default();
        let server = json!({"pid": session.pid.to_string(), "task_id": "0", "vnn": "4294967295", "unique_id": format!("{}", 1_000_000 + session.pid)});
        let id = (2_000_000 + session.pid + *nth * 10_000_000).to_string();
        let document = json!({
            "session_id": id, "server_id": server, "uid": user.map_or(u32::MAX, |u| u.uid), "gid": gid,
            "username": session.user, "groupname": group, "remote_machine": "127.0.0.1",
            "hostname": format!("ipv4:127.0.0.1:{}", 40_000 + session.pid % 20_000), "session_dialect": "SMB3_11",
            "encryption": none, "signing": {"cipher": "AES-128-GMAC", "degree": "partial"},
        });
        for (n, (share, _)) in session.shares.iter().enumerate() {
            let tcon = (3_000_000 + session.pid * 100 + *nth * 50 + i32::try_from(n).unwrap_or(0)).to_string();
            let document = json!({
                "service": share, "server_id": server, "tcon_id": tcon, "session_id": id, "machine": "127.0.0.1",
                "connected_at": "2026-01-01T00:00:00.000000+00:00", "encryption": none, "signing": none,
            });
            tcons.insert(tcon, document);
        }
        sessions.insert(id, document);
        *nth += 1;
    }
    (Value::Object(sessions), Value::Object(tcons))
}

/// As smbstatus prints it, in UTC.
pub(super) fn timestamp(ms: i64) -> String {
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // The civil date of a day number, with years that begin in March.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (s, milli) = (rest / 1000, rest % 1000);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{milli:03}000+0000", s / 3600, s / 60 % 60, s % 60)
}

fn systemctl(m: &mut Machine, words: &[String]) -> Said {
    let known = [("quiet", 'q', false), ("no-block", '\0', false), ("no-pager", '\0', false), ("root", '\0', true)];
    let given = match args::parse(words, &known) {
        Ok(given) => given,
        Err(option) => return Said::err(1, format!("systemctl: unrecognized option '{option}'\n")),
    };
    if let Some(root) = given.value("root") {
        return images::units(&mut m.world, root, given.word(0), given.words.get(1..).unwrap_or_default());
    }
    if !m.world.systemd {
        let text = "System has not been booted with systemd as init system (PID 1). Can't operate.\n\
                    Failed to connect to bus: Host is down\n";
        return Said::err(1, text);
    }
    let (verb, unit) = (given.word(0), given.word(1));
    if verb == "daemon-reload" {
        return Said::ok("");
    }
    if unit.trim_end_matches(".service") == "winbind" && m.world.installed.contains(&Program::Winbindd) {
        return domain::unit(m, verb);
    }
    let known = unit.trim_end_matches(".service") == "smbd" && m.world.installed.contains(&Program::Smbd);
    let running = m.world.smbd.is_some();
    let failed = || {
        Said::err(
            1,
            format!(
                "Job for {unit} failed because the control process exited with error code.\n\
                 See \"systemctl status {unit}\" and \"journalctl -xeu {unit}\" for details.\n"
            ),
        )
    };
    match verb {
        "is-system-running" => Said::ok("running\n"),
        "is-active" if known && running => Said::ok("active\n"),
        "is-active" => Said::both(if known { 3 } else { 4 }, "inactive\n", ""),
        "is-enabled" if known && m.world.smbd_enabled => Said::ok("enabled\n"),
        "is-enabled" if known => Said::both(1, "disabled\n", ""),
        _ if !known => Said::err(5, format!("Failed to {verb} {unit}: Unit {unit} not found.\n")),
        "start" => {
            if start_smbd(m) {
                Said::ok("")
            } else {
                failed()
            }
        }
        "stop" => {
            stop_smbd(&mut m.world);
            Said::ok("")
        }
        "restart" => {
            stop_smbd(&mut m.world);
            if start_smbd(m) { Said::ok("") } else { failed() }
        }
        "reload" if !running => Said::err(1, format!("{unit} is not active, cannot reload.\n")),
        "reload" => {
            reload(&mut m.world);
            Said::ok("")
        }
        "enable" | "disable" => {
            m.world.smbd_enabled = verb == "enable";
            Said::ok("")
        }
        _ => Said::err(1, format!("Unknown command verb {verb}.\n")),
    }
}
