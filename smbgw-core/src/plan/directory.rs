// SPDX-License-Identifier: MIT OR Apache-2.0
//! A gateway in an Active Directory domain: what must be so before it joins, the steps to a member and back, and the accounts that its
//! shares name. Written once for all places. It knows Samba 4.17 to 4.22 and Debian's units; it must not know DNS, Kerberos or LDAP, which
//! [`crate::directory`] asks.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::common::{Steps, must_have, record};
use super::samba;
use super::step::{Effect, JoinBy, Joining, Parting, Seen, Step, Undo, Watch};
use super::{Intent, accounts, live};
use crate::effect::{Cmd, Daemon, FileSpec, Program};
use crate::error::{Error, Kind, Problem, Result};
use crate::facts::{ConfFile, DirectoryFacts, Facts, Paths};
use crate::format::krb5_conf::{self, Krb5Conf};
use crate::format::nsswitch;
use crate::spec::access::Who;
use crate::spec::record::{Fallback, Key, Member, MemberState, Record, ShareState};
use crate::spec::section::JoinAccount;
use crate::spec::{DomainSpec, IdRange, Mode, ShareSpec};
use crate::types::{DomainAccount, sha256_hex};

/// Samba's secrets: the machine's SID and, in a domain, the password of its account.
pub const SECRETS: &str = "/var/lib/samba/private/secrets.tdb";
/// Where they are put by before a join.
pub const SECRETS_BEFORE: &str = "/var/lib/samba/private/smbgw-before.tdb";
/// Where names of accounts are looked for.
pub const NSSWITCH: &str = "/etc/nsswitch.conf";
/// The databases in it that must know the accounts of a domain.
const DATABASES: [&str; 2] = ["passwd", "group"];

/// Our Kerberos configuration, beside our configuration of Samba: `/etc/krb5.conf` is the machine's.
pub fn krb5_conf(paths: &Paths) -> PathBuf {
    paths.own_conf.with_file_name("smbgw-krb5.conf")
}

/// Our drop-ins for the units of the daemons.
pub fn drop_ins() -> [PathBuf; 2] {
    [Daemon::Smbd, Daemon::Winbindd].map(|d| Path::new("/etc/systemd/system").join(format!("{}.d/smbgw.conf", d.unit())))
}

/// That winbindd starts with the machine.
pub const AT_BOOT: &str = "/etc/systemd/system/multi-user.target.wants/winbind.service";

fn at_boot(verb: &str) -> Effect {
    Effect::Run(Cmd::new(Program::Systemctl, [verb, Daemon::Winbindd.unit()]).within_ms(30_000))
}

/// What `net` and others read while Samba itself is not told yet.
pub fn scratch(paths: &Paths) -> PathBuf {
    paths.run_dir.join("domain").join("smb.conf")
}

/// What is wanted of the domain, from the gateway's settings.
pub fn wanted(facts: &Facts) -> Result<Option<DomainSpec>> {
    let Some(r) = &facts.record else { return Ok(None) };
    match r.shares.iter().find(|(_, e)| e.state != ShareState::Deleting) {
        Some((id, e)) => Ok(samba::spec_of(id, e, r)?.domain),
        None => Ok(None),
    }
}

/// Writes the keytab from the machine's password and the names that the domain has for it.
pub fn make_keytab(conf: &Path, krb5: &Path) -> Cmd {
    let method = "--option=kerberos method=dedicated keytab".to_owned();
    let file = format!("--option=dedicated keytab file={}", samba::KEYTAB);
    let conf = format!("--configfile={}", conf.display());
    let words = ["ads".into(), "keytab".into(), "create".into(), "--machine-pass".into(), conf, method, file];
    Cmd::new(Program::Net, words).within_ms(20_000).krb5_config(krb5)
}

/// Lists it.
pub fn list_keytab(paths: &Paths) -> Cmd {
    let file = format!("FILE:{}", samba::KEYTAB);
    accounts::samba_at(paths, Program::Net, &["ads", "keytab", "list", &file]).krb5_config(krb5_conf(paths))
}

fn joining(
    domain: &DomainSpec,
    member: Option<&Member>,
    account: Option<String>,
    by: JoinBy,
    facts: &Facts,
) -> Result<Box<Joining>> {
    let conf = match member {
        Some(m) => samba::joining_conf(m, facts.paths.mode, &facts.effective)?,
        None => String::new(),
    };
    let (domain, workgroup) = (domain.clone(), member.map(|m| m.workgroup.clone()));
    Ok(Box::new(Joining { domain, conf, scratch: scratch(&facts.paths), account, by, krb5: krb5_conf(&facts.paths), workgroup }))
}

// ---- before ------------------------------------------------------------------------------------------------------------

/// Looks for the domain that a share's gateway shall be a member of, unless it is one.
pub fn find(spec: &ShareSpec, secret: bool, facts: &Facts) -> Steps {
    let Some(domain) = &spec.domain else { return Ok((Vec::new(), Vec::new())) };
    let member = facts.record.as_ref().and_then(|r| r.member.as_ref());
    // Who has left on purpose comes back when he is told to.
    if member.is_some_and(|m| m.is_joined() || (m.state == MemberState::Left && spec.join.is_none())) {
        return Ok((Vec::new(), Vec::new()));
    }
    find_again(domain, spec.join.as_ref(), secret.then_some(JoinBy::Password), facts)
}

/// The same whether the gateway is a member or not: a secret that was lost, an account that was deleted.
pub fn find_again(domain: &DomainSpec, join: Option<&JoinAccount>, by: Option<JoinBy>, facts: &Facts) -> Steps {
    let account = join.map(|a| a.as_str().to_owned());
    let missing = match by {
        Some(JoinBy::Offline) => None,
        _ if account.is_none() => Some("username"),
        None => Some("password"),
        Some(_) => None,
    };
    if let Some(missing) = missing {
        let why = format!("is needed to join the domain {}", domain.domain);
        return Err(Error::property(missing, why).remedy("give --username and --password of an account that may join computers"));
    }
    suitable(domain, facts)?;
    let effect = Effect::FindDomain(joining(domain, None, account, by.unwrap_or_default(), facts)?);
    let title = format!("look for the domain {}", domain.domain);
    let step = Step::new("domain/find", title, Watch::Record(Key::Member), effect).undo(Undo::Restore).long();
    Ok((vec![step], Vec::new()))
}

/// What makes a machine unfit for a domain, without asking the domain.
fn suitable(domain: &DomainSpec, facts: &Facts) -> Result<()> {
    must_have(facts, &[Program::Net, Program::Winbindd, Program::Wbinfo, Program::Smbclient])?;
    let native = facts.paths.mode == Mode::Native;
    let foreign = samba::foreign_shares(facts);
    if native && !foreign.is_empty() {
        let why =
            format!("the node's Samba serves other shares ({}), and a domain would change who may use them", foreign.join(", "));
        return Err(
            Error::property("domain", format!("{why}; serve the share from a container: --smbgw-mode lxc")).as_kind(Kind::Unsafe)
        );
    }
    let ours = facts.record.iter().flat_map(|r| r.users.keys()).collect::<Vec<_>>();
    let strangers: Vec<&String> = facts.passdb.keys().filter(|n| !ours.contains(n) && *n != accounts::PROBE_USER).collect();
    if native && !strangers.is_empty() {
        let list = strangers.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(", ");
        let why = format!("the node's Samba has users of its own ({list}), who could not log in any more");
        return Err(
            Error::property("domain", format!("{why}; serve the share from a container: --smbgw-mode lxc")).as_kind(Kind::Unsafe)
        );
    }
    let own = facts.own.as_ref().is_some_and(|f| f.text.contains("security = ADS"));
    let security = facts.effective.global.get("security").map_or("", String::as_str);
    if !own && ["ads", "domain"].contains(&security.to_ascii_lowercase().as_str()) {
        let realm = facts.effective.global.get("realm").map_or("", String::as_str);
        let why = format!("this machine is a member of a domain already ({realm}, by smb.conf), and was not made one by smbgw");
        return Err(Error::property(
            "domain",
            format!("{why}; leave the membership alone and serve the share from a container: --smbgw-mode lxc"),
        )
        .as_kind(Kind::Conflict));
    }
    clear_of_others(domain.range, "smbgw-idmap", facts)?;
    clear_of_others(IdRange::of_builtin(facts.paths.mode), "domain", facts)?;
    local_users_stay_out(domain, facts)
}

/// A range must have none of the machine's own numbers.
fn clear_of_others(range: IdRange, property: &str, facts: &Facts) -> Result<()> {
    let sub = facts
        .sub_ids
        .iter()
        .filter(|(_, n)| *n > 0)
        .find(|(first, n)| range.meets(IdRange { first: *first, last: first + (n - 1) }));
    if let Some((first, n)) = sub {
        let why = format!("{range} meets {first}-{}, which /etc/subuid or /etc/subgid give to containers", first + (n - 1));
        return Err(Error::property(property, format!("{why}; choose another range with --smbgw-idmap")));
    }
    let within = |n: u32| (range.first..=range.last).contains(&n);
    let user = facts.users.iter().find(|(_, u)| within(u.uid)).map(|(n, u)| (n, u.uid, "user"));
    let group = facts.groups.iter().find(|(_, g)| within(g.gid)).map(|(n, g)| (n, g.gid, "group"));
    match user.or(group) {
        None => Ok(()),
        Some((name, number, what)) => {
            let why = format!("{range} has the number {number} of {what} {name} of this machine in it");
            Err(Error::property(property, format!("{why}; choose another range with --smbgw-idmap")))
        }
    }
}

/// In a domain local users log in only where that is ordered, so shares that name others would be closed to them without a word.
fn local_users_stay_out(domain: &DomainSpec, facts: &Facts) -> Result<()> {
    let Some(r) = &facts.record else { return Ok(()) };
    for (id, e) in r.shares.iter().filter(|(_, e)| e.state != ShareState::Deleting) {
        for (who, _) in samba::spec_of(id, e, r)?.access.entries() {
            if let Who::User(u) = who {
                if !domain.fallback.contains(u) {
                    let why =
                        format!("share {id} of this gateway names the local user {u}, who cannot log in once it is in a domain");
                    return Err(Error::property(
                        "domain",
                        format!("{why}; take {u} out of smbgw-access, or name it in smbgw-ad-fallback"),
                    ));
                }
            }
        }
    }
    Ok(())
}

// ---- in ----------------------------------------------------------------------------------------------------------------

/// The steps to a member, or what is missing of one.
pub fn become_member(intent: &Intent, facts: &Facts) -> Steps {
    let Some(m) = facts.record.as_ref().and_then(|r| r.member.as_ref()) else { return Ok((Vec::new(), Vec::new())) };
    let seen = facts.directory.clone().unwrap_or_default();
    let (mut steps, mut warnings) = (Vec::new(), Vec::new());
    match (intent, m.state) {
        (_, MemberState::Left) => {
            let gateway = &facts.paths.gateway;
            warnings.push(format!("the gateway has left the domain; it comes back with: pve-smbgateway ad join {gateway}"));
            return Ok((steps, warnings));
        }
        (Intent::Create { .. } | Intent::Update { .. } | Intent::AdJoin { .. }, MemberState::Found) => {
            surroundings(m, &seen, facts, &mut steps)?;
            join(intent, m, &seen, facts, &mut steps)?;
        }
        (_, MemberState::Found) => return Ok((steps, warnings)),
        (_, MemberState::Joined) => {
            surroundings(m, &seen, facts, &mut steps)?;
            // It needs a domain controller; the worker has its own time for that.
            if !seen.keytab && facts.directory.is_some() && !matches!(intent, Intent::Repair { .. }) {
                let watch = Watch::Exists(samba::KEYTAB.into());
                let undo = Undo::Do(vec![Effect::Remove(samba::KEYTAB.into())]);
                steps.push(
                    Step::new("directory/keytab", "write the keytab", watch, Effect::MakeKeytab).want(Seen::Present).undo(undo),
                );
            }
        }
    }
    let unknown = unknown_accounts(record(facts)?, m)?;
    if !unknown.is_empty() {
        let title = "look up the accounts of the domain that shares name";
        steps.push(
            Step::new("directory/accounts", title, Watch::Record(Key::Accounts), Effect::KnowAccounts(unknown))
                .undo(Undo::Restore),
        );
    }
    Ok((steps, warnings))
}

/// What a member needs beside Samba's configuration: Kerberos, names of accounts, the units.
fn surroundings(m: &Member, seen: &DirectoryFacts, facts: &Facts, steps: &mut Vec<Step>) -> Result<()> {
    let path = krb5_conf(&facts.paths);
    let text = krb5_conf::print(&Krb5Conf { realm: m.domain.realm(), dns_domain: m.domain.to_string(), kdcs: Vec::new() })?;
    file("directory/krb5", "write the gateway's Kerberos configuration", path.clone(), seen.krb5.as_ref(), text, steps);
    if let Some(f) = &seen.nsswitch {
        if let Some(text) = nsswitch::add_source(&f.text, &DATABASES, "winbind") {
            if !m.added_names {
                let m = Member { added_names: true, ..m.clone() };
                steps.push(accounts::record(
                    "directory/added",
                    "record that these lines are ours",
                    Key::Member,
                    serde_json::to_value(m).ok(),
                ));
            }
            file("directory/names", "let the machine know accounts of the domain", NSSWITCH.into(), Some(f), text, steps);
        }
    }
    if !facts.systemd {
        return Ok(());
    }
    let before = steps.len();
    for (daemon, path) in [Daemon::Smbd, Daemon::Winbindd].into_iter().zip(drop_ins()) {
        let text = format!("# smbgw: managed\n[Service]\nEnvironment=KRB5_CONFIG={}\n", krb5_conf(&facts.paths).display());
        if let Some(dir) = path.parent().filter(|d| !seen.drop_in_dirs.contains(*d)) {
            let (id, title) =
                (format!("directory/unit-room.{}", daemon.name()), format!("make room for lines of {}", daemon.unit()));
            let effect = Effect::MakeDir { path: dir.to_owned(), mode: 0o755 };
            let undo = Undo::Do(vec![Effect::RemoveDir(dir.to_owned())]);
            steps.push(Step::new(id, title, Watch::Exists(dir.to_owned()), effect).want(Seen::Present).undo(undo));
        }
        let title = format!("let {} read it", daemon.name());
        let (id, now) = (format!("directory/unit.{}", daemon.name()), seen.drop_ins.get(&path));
        file(&id, &title, path, now, text, steps);
    }
    if !seen.winbindd_at_boot {
        if !m.enabled_winbindd {
            let m = Member {
                enabled_winbindd: true,
                added_names: m.added_names || steps.iter().any(|s| s.id == "directory/added"),
                ..m.clone()
            };
            let title = "record that winbindd did not start with the machine";
            steps.insert(before, accounts::record("directory/at-boot-mark", title, Key::Member, serde_json::to_value(m).ok()));
        }
        let (on, off) = (at_boot("enable"), at_boot("disable"));
        steps.push(
            Step::new("directory/at-boot", "let winbindd start with the machine", Watch::Exists(AT_BOOT.into()), on)
                .want(Seen::Present)
                .undo(Undo::Do(vec![off])),
        );
    }
    if steps.len() > before {
        let effect = Effect::Run(Cmd::new(Program::Systemctl, ["daemon-reload"]).within_ms(30_000));
        for s in steps[before..].iter_mut().filter(|s| s.undo == Undo::Restore && matches!(s.watch, Watch::File(_))) {
            s.undo = Undo::RestoreThen(vec![effect.clone()]);
        }
        steps.push(Step::new("directory/units", "make systemd read its units", Watch::Nothing, effect));
    }
    Ok(())
}

fn file(id: &str, title: &str, path: PathBuf, now: Option<&ConfFile>, content: String, steps: &mut Vec<Step>) {
    if now.is_some_and(|f| f.text == content) {
        return;
    }
    let (mode, uid, gid) = now.map_or((0o644, 0, 0), |f| (f.mode, f.uid, f.gid));
    let sha256 = sha256_hex(content.as_bytes());
    let before = now.map_or(Seen::Absent, |f| Seen::File {
        sha256: f.sha256.clone(),
        mode: f.mode,
        uid: f.uid,
        gid: f.gid,
        content: None,
    });
    let effect = Effect::Write(FileSpec { path: path.clone(), content, mode, uid, gid });
    let want = Seen::File { sha256, mode, uid, gid, content: None };
    steps.push(Step::new(id, title, Watch::File(path), effect).before(before).want(want).undo(Undo::Restore));
}

fn join(intent: &Intent, m: &Member, seen: &DirectoryFacts, facts: &Facts, steps: &mut Vec<Step>) -> Result<()> {
    let (domain, account, by) = match intent {
        Intent::Create { spec, .. } | Intent::Update { spec, .. } => (spec.domain.clone(), spec.join.as_ref(), JoinBy::Password),
        Intent::AdJoin { domain, join, by, .. } => (Some((**domain).clone()), join.as_ref(), by.unwrap_or_default()),
        _ => (None, None, JoinBy::Password),
    };
    let domain = domain.ok_or_else(|| Error::new(Kind::Internal, "a join without a domain"))?;
    let account = account.map(|a| a.as_str().to_owned());
    let by = joining(&domain, Some(m), account, by, facts)?;
    let mut secrets = None;
    if seen.secrets {
        let (from, to) = (PathBuf::from(SECRETS), PathBuf::from(SECRETS_BEFORE));
        if !seen.secrets_before {
            let words = ["--mode=0600", SECRETS, SECRETS_BEFORE];
            let title = "put Samba's secrets by, from before the join";
            steps.push(
                Step::new("directory/secrets", title, Watch::Exists(to.clone()), Effect::Run(Cmd::new(Program::Install, words)))
                    .want(Seen::Present)
                    .undo(Undo::Do(vec![Effect::Remove(to.clone())])),
            );
        }
        secrets = Some((to, from));
    }
    let parting = if m.account_before { Parting::LeaveAlone } else { Parting::Delete };
    let undo = Effect::Unjoin { by: by.clone(), account: parting, secrets };
    let title = format!("join the domain as {}", m.computer);
    steps.push(
        Step::new("directory/join", title, Watch::Member(m.workgroup.clone()), Effect::Join(by))
            // Two, so that an undo that was cut short is done again as a whole, although Samba may have left already.
            .undo(Undo::Do(vec![undo, Effect::Remove(samba::KEYTAB.into())]))
            .long(),
    );
    Ok(())
}

/// Accounts of the domain that shares name and nobody has looked up yet.
fn unknown_accounts(r: &Record, m: &Member) -> Result<Vec<(DomainAccount, bool)>> {
    let (mut unknown, mut wrong): (Vec<(DomainAccount, bool)>, Vec<Problem>) = (Vec::new(), Vec::new());
    for (id, e) in r.shares.iter().filter(|(_, e)| e.state != ShareState::Deleting) {
        for (a, group) in
            samba::spec_of(id, e, r)?.access.entries().filter_map(|(w, _)| Some((w.account()?, matches!(w, Who::DomainGroup(_)))))
        {
            if *a.domain() != m.workgroup {
                let why = format!(
                    "{a} is of another domain than the gateway's, which is {}; accounts of trusted domains have no numbers here",
                    m.workgroup
                );
                wrong.push(Problem::new("smbgw-access", why));
            } else if r.accounts.get(&a.folded()).is_none_or(|k| k.group != group) && !unknown.iter().any(|(u, _)| u == a) {
                unknown.push((a.clone(), group));
            }
        }
    }
    if wrong.is_empty() { Ok(unknown) } else { Err(Error::invalid("smbgw-access", wrong)) }
}

/// A new membership is shown to be good. How an old one is, the worker says: a share must be changeable while no domain controller answers.
pub fn prove(intent: &Intent, facts: &Facts) -> Steps {
    let new = matches!(intent, Intent::AdJoin { .. }) || intent.spec().is_some_and(|s| s.join.is_some());
    let Some(m) = facts.record.as_ref().and_then(|r| r.member.as_ref()).filter(|m| new && m.is_joined()) else {
        return Ok((Vec::new(), Vec::new()));
    };
    let title = format!("prove that the gateway is a good member of {}", m.domain);
    Ok((vec![Step::new("member/prove", title, Watch::Nothing, Effect::ProveMember)], Vec::new()))
}

/// A part of a membership that can be put right again without an account of the domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repair {
    /// Write the keytab anew.
    Keytab,
    /// Change the machine's password, and write the keytab.
    Rotate,
    /// Register the gateway's names again.
    Names,
}

impl Repair {
    /// As it is asked for.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "keytab" => Some(Repair::Keytab),
            "rotate" => Some(Repair::Rotate),
            "names" => Some(Repair::Names),
            _ => None,
        }
    }

    /// As it is asked for.
    pub fn as_str(self) -> &'static str {
        match self {
            Repair::Keytab => "keytab",
            Repair::Rotate => "rotate",
            Repair::Names => "names",
        }
    }
}

/// What clients ask tickets for: `HOST` stands for `cifs` and others in a domain (sPNMappings).
pub fn wanted_names(member: &Member) -> Vec<String> {
    vec![format!("HOST/{}", member.computer), format!("HOST/{}", member.host())]
}

fn joined(facts: &Facts) -> Result<&Member> {
    record(facts)?.member.as_ref().filter(|m| m.is_joined()).ok_or_else(|| {
        Error::new(Kind::Conflict, format!("gateway {} is in no domain", facts.paths.gateway))
            .remedy(format!("pve-smbgateway ad join {}", facts.paths.gateway))
    })
}

/// Puts a part of the membership right.
pub fn repair(what: Repair, facts: &Facts) -> Steps {
    let m = joined(facts)?;
    let mut steps = Vec::new();
    let none = || Undo::None("what it makes is right, however it came about".into());
    match what {
        Repair::Keytab => {}
        Repair::Rotate => {
            let cmd = accounts::samba(facts, Program::Wbinfo, &["--change-secret"])
                .within_ms(30_000)
                .krb5_config(krb5_conf(&facts.paths));
            let title = "change the password of the computer account";
            steps.push(Step::new("directory/rotate", title, Watch::Nothing, Effect::Run(cmd)).undo(none()));
        }
        Repair::Names => {
            for (n, name) in wanted_names(m).iter().enumerate() {
                let words = ["ads", "setspn", "add", &m.computer, name, "--machine-pass"];
                // 255: it is there already; the next look tells.
                let cmd = accounts::samba(facts, Program::Net, &words)
                    .within_ms(20_000)
                    .also_ok(&[255])
                    .krb5_config(krb5_conf(&facts.paths));
                let title = format!("register the name {name}");
                steps.push(Step::new(format!("directory/name.{n}"), title, Watch::Nothing, Effect::Run(cmd)).undo(none()));
            }
        }
    }
    steps.push(Step::new("directory/keytab", "write the keytab", Watch::Nothing, Effect::MakeKeytab).undo(none()));
    Ok((steps, Vec::new()))
}

/// Lets a user of the domain log in to shares, with a password that is given.
pub fn test_user(account: &DomainAccount, share: Option<&str>, ntlm: bool, facts: &Facts) -> Steps {
    let m = joined(facts)?;
    let r = record(facts)?;
    if *account.domain() != m.workgroup {
        return Err(Error::property(
            "name",
            format!("{account} is of another domain than the gateway's, which is {}", m.workgroup),
        ));
    }
    let auth = facts.paths.run_dir.join("probe").join("user");
    let user = format!("{}@{}", account.name(), m.domain.realm());
    let credentials = Effect::WriteCredentials { path: auth.clone(), user, secret: super::PASSWORD.into() };
    let mut steps = vec![
        Step::new("member/credentials", "write the credentials for the client", Watch::File(auth.clone()), credentials)
            .undo(Undo::Do(vec![Effect::Remove(auth.clone())])),
    ];
    let mut asked = 0;
    for (id, e) in r.shares.iter().filter(|(_, e)| e.state != ShareState::Deleting) {
        let spec = samba::spec_of(id, e, r)?;
        if share.is_some_and(|s| s != id && s != spec.share.as_str()) || spec.disabled {
            continue;
        }
        asked += 1;
        let unc = format!("//{}/{}", m.host(), spec.share);
        let kerberos = if ntlm { "--use-kerberos=off" } else { "--use-kerberos=required" };
        let words =
            [&unc, "-I", "127.0.0.1", "-A", &auth.display().to_string(), kerberos, "-m", "SMB3_11", "-t", "10", "-c", "ls"];
        let cmd = accounts::samba(facts, Program::Smbclient, &words).within_ms(20_000).krb5_config(krb5_conf(&facts.paths));
        let title = format!("log in to [{}] by {}", spec.share, if ntlm { "NTLM" } else { "Kerberos" });
        steps.push(Step::new(format!("member/log-in.{id}"), title, Watch::Nothing, Effect::LogIn(cmd)));
    }
    if asked == 0 {
        return Err(Error::property("share", "names no share of this gateway that is served"));
    }
    steps.push(
        Step::new("member/forget", "remove the credentials", Watch::File(auth.clone()), Effect::Remove(auth))
            .want(Seen::Absent)
            .undo(Undo::None("they are of no use any more".into())),
    );
    Ok((steps, Vec::new()))
}

/// Records that local users may log in, or may not any more; the phase after that does it.
pub fn fallback(on: bool, forced: bool, facts: &Facts) -> Steps {
    let m = joined(facts)?;
    let users = record(facts)?.fallback_users();
    if on && users.is_empty() {
        return Err(Error::property("smbgw-ad-fallback", "names nobody who may log in while no domain controller answers"));
    }
    let (mut m, mut warnings) = (m.clone(), Vec::new());
    m.fallback = on.then_some(Fallback { since_ms: facts.now_ms, forced });
    if on {
        warnings.push(format!(
            "local users may log in now: {}; write the gateway's name in front: {}\\{}",
            users.join(", "),
            m.computer,
            users[0]
        ));
    }
    let title = if on { "record that local users may log in" } else { "record that local users may not log in any more" };
    Ok((vec![accounts::record("intent/fallback", title, Key::Member, serde_json::to_value(m).ok())], warnings))
}

// ---- out ---------------------------------------------------------------------------------------------------------------

/// The gateway goes with its last share: what made the machine a member goes too. The computer account needs an account of the domain to be
/// deleted, and stays.
pub fn forget(id: &str, facts: &Facts) -> Steps {
    let (mut steps, mut warnings) = (Vec::new(), Vec::new());
    let Some(r) = facts.record.as_ref() else { return Ok((steps, warnings)) };
    let Some(m) = r.member.as_ref().filter(|_| super::common::is_last(id, r)) else { return Ok((steps, warnings)) };
    if m.is_joined() {
        warnings.push(format!(
            "the computer account {} stays in the domain {}: delete it there (before, pve-smbgateway ad leave would have done it)",
            m.computer, m.domain
        ));
    }
    if facts.paths.mode == Mode::Native {
        undress(m, facts, &mut steps);
    }
    steps.push(accounts::record("directory/accounts", "forget the accounts of the domain", Key::Accounts, None));
    steps.push(accounts::record("directory/forget", "forget the membership", Key::Member, None));
    Ok((steps, warnings))
}

/// Takes away what was put beside Samba's configuration for a domain, where the machine stays.
fn undress(m: &Member, facts: &Facts, steps: &mut Vec<Step>) {
    let seen = facts.directory.clone().unwrap_or_default();
    if seen.winbindd_running && m.started_winbindd {
        steps.push(
            Step::new(
                "directory/winbindd",
                "stop winbindd: it did not run before us",
                Watch::Daemon(Daemon::Winbindd),
                live::stop(facts, Daemon::Winbindd),
            )
            .want(Seen::Absent)
            .undo(Undo::Do(vec![live::start(facts, Daemon::Winbindd, false)])),
        );
    }
    if seen.winbindd_at_boot && m.enabled_winbindd && facts.systemd {
        steps.push(
            Step::new(
                "directory/at-boot",
                "winbindd starts with the machine no more",
                Watch::Exists(AT_BOOT.into()),
                at_boot("disable"),
            )
            .want(Seen::Absent)
            .undo(Undo::Do(vec![at_boot("enable")])),
        );
    }
    if seen.secrets_before {
        // Its undo would need the machine's password, which nobody keeps.
        let effect = Effect::Rename(SECRETS_BEFORE.into(), SECRETS.into());
        steps.push(
            Step::new(
                "directory/secrets",
                "bring Samba's secrets from before the join back",
                Watch::Exists(SECRETS_BEFORE.into()),
                effect,
            )
            .want(Seen::Absent)
            .undo(Undo::None("the password of the computer account is gone: pve-smbgateway ad join".into())),
        );
    }
    let gone = |id: &str, title: &str, path: PathBuf| {
        Step::new(id, title, Watch::File(path.clone()), Effect::Remove(path)).want(Seen::Absent).undo(Undo::Restore)
    };
    if seen.keytab {
        steps.push(drop_keytab());
    }
    if let (true, Some(f)) = (m.added_names, &seen.nsswitch) {
        if let Some(text) = nsswitch::remove_source(&f.text, &DATABASES, "winbind") {
            file(
                "directory/names",
                "take the domain out of where the machine looks for accounts",
                NSSWITCH.into(),
                Some(f),
                text,
                steps,
            );
        }
    }
    for path in seen.drop_ins.keys() {
        let name = path.parent().and_then(|p| p.file_name()).map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        steps.push(gone(&format!("directory/unit.{name}"), "remove our lines for the unit", path.clone()));
        if let Some(dir) = path.parent() {
            let effect = Effect::RemoveDir(dir.to_owned());
            let undo = Undo::Do(vec![Effect::MakeDir { path: dir.to_owned(), mode: 0o755 }]);
            let title = "remove their directory, if nothing else is in it";
            steps.push(Step::new(format!("directory/unit-room.{name}"), title, Watch::Exists(dir.to_owned()), effect).undo(undo));
        }
    }
    if !seen.drop_ins.is_empty() && facts.systemd {
        let effect = Effect::Run(Cmd::new(Program::Systemctl, ["daemon-reload"]).within_ms(30_000));
        steps.push(Step::new("directory/units", "make systemd read its units", Watch::Nothing, effect));
    }
    if seen.krb5.is_some() {
        steps.push(gone("directory/krb5", "remove the gateway's Kerberos configuration", krb5_conf(&facts.paths)));
    }
}

fn drop_keytab() -> Step {
    let path = PathBuf::from(samba::KEYTAB);
    Step::new("directory/keytab", "remove the keytab", Watch::Exists(path.clone()), Effect::Remove(path))
        .want(Seen::Absent)
        .undo(Undo::None("its keys are of no use any more".into()))
}

/// Takes the gateway out of its domain; its shares stay, and nobody can log in to them until it joins again.
pub fn leave(keep: bool, join: Option<&JoinAccount>, by: JoinBy, facts: &Facts) -> Steps {
    let m = record(facts)?
        .member
        .as_ref()
        .filter(|m| m.is_joined())
        .ok_or_else(|| Error::new(Kind::Conflict, format!("gateway {} is in no domain", facts.paths.gateway)))?;
    let domain = wanted(facts)?.ok_or_else(|| Error::new(Kind::Internal, "a member without a domain"))?;
    let account = join.map(|a| a.as_str().to_owned());
    let by = joining(&domain, Some(m), account, by, facts)?;
    let effect = Effect::Unjoin { by, account: if keep { Parting::Keep } else { Parting::Delete }, secrets: None };
    let title = format!("leave the domain {}", m.domain);
    let left = Member { state: MemberState::Left, sid: None, ..m.clone() };
    let steps = vec![
        Step::new("directory/leave", title, Watch::Member(m.workgroup.clone()), effect)
            .want(Seen::Absent)
            .undo(Undo::None("the account's password is gone; pve-smbgateway ad join brings the gateway back".into()))
            .long(),
        // Leaving takes it along, unless it was cut short behind Samba's part.
        drop_keytab(),
        accounts::record("directory/left", "record that the gateway has left", Key::Member, serde_json::to_value(left).ok()),
    ];
    Ok((steps, Vec::new()))
}
