// SPDX-License-Identifier: MIT OR Apache-2.0
//! An Active Directory domain around the simulated machine, and the programs that a member has for it: `net ads`, `wbinfo`, winbindd. What they
//! say is as measured with Samba 4.17. It knows accounts, rights, secrets and clocks; DNS and ports are in `net.rs`, a client's log-in is in
//! `client.rs`. LDAP is as small as a search by attributes.
//!
//! ```
//! use smbgw_core::effect::{Cmd, Program};
//! use smbgw_core::host::{Host, Secrets, sim::{SimDomain, SimHost}};
//!
//! let sim = SimHost::debian();
//! sim.change(|w| w.enter(SimDomain::example()));
//! let host: &dyn Host = &sim;
//! let out = host.run(&Cmd::new(Program::Net, ["ads", "lookup", "--server=dc1.example.test"]), &Secrets::default()).unwrap();
//! assert!(out.out().contains("Pre-Win2k Domain: EXAMPLE\n"));
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use super::accounts::User;
use super::config::{self, Config};
use super::files::Files;
use super::net::{Mood, nameservers};
use super::samba::{self, SMB_CONF};
use super::{Machine, Said, World, args};
use crate::effect::Program;
use crate::net::{DnsKind, Reach};

/// Samba's secrets.
pub const SECRETS: &str = "/var/lib/samba/private/secrets.tdb";
/// Where winbindd writes its pid.
pub const WINBINDD_PID: &str = "/run/samba/winbindd.pid";
/// What a fresh database of secrets holds here; a member's has a line more.
const NO_SECRETS: &str = "secrets.tdb\n";
/// The link by which systemd starts winbindd.
const AT_BOOT: &str = "/etc/systemd/system/multi-user.target.wants/winbind.service";
/// What Kerberos lets clocks differ, in seconds.
const SKEW_S: i64 = 300;
/// What Samba prints for a time that never was.
const NEVER: &str = "Thu, 01 Jan 1970 00:00:00 UTC";
const BAD_LOGON: &str = "The attempted logon is invalid. This is either due to a bad username or authentication information.";

/// Where an account may make computers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Rights {
    /// Nowhere.
    #[default]
    None,
    /// Everywhere: an administrator.
    Everywhere,
    /// In these organizational units.
    In(BTreeSet<String>),
}

/// What an account is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A person.
    User(Rights),
    /// A group with its members by name; `false`: one for mail only.
    Group(BTreeSet<String>, bool),
    /// A machine.
    Computer {
        /// Its full name.
        dns_name: String,
        /// Its names to Kerberos.
        spns: Vec<String>,
        /// The organizational unit that it is in.
        unit: Option<String>,
    },
}

/// An account of the domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimAccount {
    /// sAMAccountName.
    pub name: String,
    /// Its SID.
    pub sid: String,
    /// Its password; of a computer whatever it last set.
    pub password: String,
    /// It may not log in.
    pub disabled: bool,
    /// When the password was set, milliseconds since 1970.
    pub changed_ms: i64,
    /// What it is.
    pub kind: Kind,
}

/// A domain with one controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimDomain {
    /// In capitals.
    pub realm: String,
    /// Its NetBIOS name.
    pub workgroup: String,
    /// Its SID.
    pub sid: String,
    /// The controller's full name.
    pub controller: String,
    /// The controller's address, which is its name server too.
    pub address: IpAddr,
    /// The controller runs.
    pub up: bool,
    /// How far its clock is ahead of ours, in seconds.
    pub offset_s: i64,
    /// Accounts by name in lower case.
    pub accounts: BTreeMap<String, SimAccount>,
    /// Organizational units by path from the top.
    pub units: BTreeSet<String>,
    /// The last part of the next SID; none is ever given twice.
    pub next_rid: u32,
}

impl SimDomain {
    /// EXAMPLE.TEST with dc1 at 10.99.1.10: `joiner` may join anywhere, `clerk` in `Servers/Files`, `alice` and `bob` nowhere; `staff` has
    /// alice and the group `crew`, which has bob; `news` is a group for mail. Every password is `secret`.
    pub fn example() -> Self {
        let mut d = Self {
            realm: "EXAMPLE.TEST".into(),
            workgroup: "EXAMPLE".into(),
            sid: "S-1-5-21-4000000004-500000005-600000006".into(),
            controller: "dc1.example.test".into(),
            address: IpAddr::from([10, 99, 1, 10]),
            up: true,
            offset_s: 0,
            accounts: BTreeMap::new(),
            units: ["Servers", "Servers/Files"].map(str::to_owned).into(),
            next_rid: 1103,
        };
        let files = BTreeSet::from(["Servers/Files".to_owned()]);
        for (name, rights) in
            [("joiner", Rights::Everywhere), ("clerk", Rights::In(files)), ("alice", Rights::None), ("bob", Rights::None)]
        {
            d.add(name, Kind::User(rights));
        }
        for (name, members, security) in [("crew", &["bob"][..], true), ("staff", &["alice", "crew"], true), ("news", &[], false)]
        {
            d.add(name, Kind::Group(members.iter().map(|m| (*m).to_owned()).collect(), security));
        }
        d
    }

    /// One account more; its SID.
    pub fn add(&mut self, name: &str, kind: Kind) -> String {
        let sid = format!("{}-{}", self.sid, self.next_rid);
        self.next_rid += 1;
        let account = SimAccount {
            name: name.to_owned(),
            sid: sid.clone(),
            password: "secret".into(),
            disabled: false,
            changed_ms: 0,
            kind,
        };
        self.accounts.insert(name.to_lowercase(), account);
        sid
    }

    /// An account by name.
    pub fn account(&self, name: &str) -> Option<&SimAccount> {
        self.accounts.get(&name.to_lowercase())
    }

    /// An account by name, to be changed.
    pub fn account_mut(&mut self, name: &str) -> Option<&mut SimAccount> {
        self.accounts.get_mut(&name.to_lowercase())
    }

    /// SID of an account; empty if there is none.
    pub fn sid_of(&self, name: &str) -> String {
        self.account(name).map(|a| a.sid.clone()).unwrap_or_default()
    }

    /// Names of its computers, without the dollar.
    pub fn computers(&self) -> Vec<String> {
        let names = self.accounts.values().filter(|a| matches!(a.kind, Kind::Computer { .. }));
        names.map(|a| a.name.trim_end_matches('$').to_owned()).collect()
    }

    /// SIDs of an account and of all security groups that it is in, directly or not.
    pub fn token(&self, account: &SimAccount) -> Vec<String> {
        let primary = if matches!(account.kind, Kind::Computer { .. }) { 515 } else { 513 };
        let mut sids = vec![account.sid.clone(), format!("{}-{primary}", self.sid)];
        let mut names = vec![account.name.to_lowercase()];
        while let Some(name) = names.pop() {
            for group in self.accounts.values() {
                let Kind::Group(members, true) = &group.kind else { continue };
                if members.iter().any(|m| m.to_lowercase() == name) && !sids.contains(&group.sid) {
                    sids.push(group.sid.clone());
                    names.push(group.name.to_lowercase());
                }
            }
        }
        sids
    }

    fn base(&self) -> String {
        self.realm.split('.').map(|l| format!("DC={}", l.to_lowercase())).collect::<Vec<_>>().join(",")
    }

    fn unit_dn(&self, path: &str) -> String {
        path.split('/').rev().map(|u| format!("OU={u},")).collect::<String>() + &self.base()
    }

    fn dn(&self, a: &SimAccount) -> String {
        let name = a.name.trim_end_matches('$');
        match &a.kind {
            Kind::Computer { unit: Some(unit), .. } => format!("CN={name},{}", self.unit_dn(unit)),
            Kind::Computer { unit: None, .. } => format!("CN={name},CN=Computers,{}", self.base()),
            _ => format!("CN={name},CN=Users,{}", self.base()),
        }
    }

    /// Values of an attribute.
    fn attribute(&self, a: &SimAccount, name: &str) -> Vec<String> {
        let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let disabled = u32::from(a.disabled) * 2;
        match (name.to_lowercase().as_str(), &a.kind) {
            ("samaccountname", _) => vec![a.name.clone()],
            ("objectsid", _) => vec![a.sid.clone()],
            ("distinguishedname", _) => vec![self.dn(a)],
            ("objectclass", Kind::Group(..)) => list(&["top", "group"]),
            ("objectclass", Kind::User(_)) => list(&["top", "person", "organizationalPerson", "user"]),
            ("objectclass", Kind::Computer { .. }) => list(&["top", "person", "organizationalPerson", "user", "computer"]),
            ("grouptype", Kind::Group(_, security)) => list(&[if *security { "-2147483646" } else { "2" }]),
            ("samaccounttype", Kind::Group(_, security)) => list(&[if *security { "268435456" } else { "268435457" }]),
            ("samaccounttype", Kind::User(_)) => list(&["805306368"]),
            ("samaccounttype", Kind::Computer { .. }) => list(&["805306369"]),
            ("useraccountcontrol", Kind::User(_)) => vec![(512 + disabled).to_string()],
            ("useraccountcontrol", Kind::Computer { .. }) => vec![(4096 + disabled).to_string()],
            ("pwdlastset", Kind::User(_) | Kind::Computer { .. }) => {
                vec![((a.changed_ms + 11_644_473_600_000) * 10_000).to_string()]
            }
            ("dnshostname", Kind::Computer { dns_name, .. }) if !dns_name.is_empty() => vec![dns_name.clone()],
            ("serviceprincipalname", Kind::Computer { spns, .. }) => spns.clone(),
            _ => Vec::new(),
        }
    }

    /// Whether somebody may make a computer, or take one over or away.
    fn may_join(&self, who: &SimAccount, unit: Option<&str>) -> bool {
        match &who.kind {
            Kind::User(Rights::Everywhere) => true,
            Kind::User(Rights::In(units)) => unit.is_some_and(|u| units.contains(u)),
            _ => false,
        }
    }
}

impl World {
    /// Puts the machine into the network of a domain: its controller's ports and name server, and a resolver that asks it.
    pub fn enter(&mut self, domain: SimDomain) {
        let (at, controller, zone) = (domain.address, domain.controller.clone(), domain.realm.to_lowercase());
        self.files.put("/etc/resolv.conf", format!("search {zone}\nnameserver {at}\n"), 0o644, 0, 0);
        self.net.server(at).address(&controller, at).name(at, &controller).zone(&zone, &controller);
        for (service, port) in
            [("_ldap._tcp.dc._msdcs", 389), ("_ldap._tcp", 389), ("_kerberos._tcp", 88), ("_kerberos._udp", 88)]
        {
            self.net.server(at).srv(&format!("{service}.{zone}"), 0, 100, port, &controller);
        }
        self.net.open(at, &[53, 88, 389, 445]);
        self.domain = Some(domain);
    }

    /// The domain, to be changed. Panics if there is none: that is a mistake in the test.
    pub fn domain_mut(&mut self) -> &mut SimDomain {
        match self.domain.as_mut() {
            Some(d) => d,
            None => panic!("the machine is in no domain's network"),
        }
    }

    /// The domain's controller goes, or comes back.
    pub fn set_domain_up(&mut self, up: bool) {
        let d = self.domain_mut();
        d.up = up;
        let at = d.address;
        self.net.set(at, &[53, 88, 389, 445], if up { &Reach::Open } else { &Reach::Silent });
        self.net.server(at).mood = if up { Mood::Answers } else { Mood::Silent };
    }
}

/// A running winbindd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Winbindd {
    /// The daemon.
    pub pid: i32,
    /// What it was told of its domain when it started; a reload does not change that.
    pub told: String,
}

/// What the secrets say: the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Membership {
    workgroup: String,
    account: String,
    sid: String,
    password: String,
}

fn membership(files: &Files) -> Option<Membership> {
    let text = files.text(SECRETS);
    let words: Vec<&str> = text.lines().find_map(|l| l.strip_prefix("member "))?.split(' ').collect();
    let [workgroup, account, sid, password] = words[..] else { return None };
    let own = str::to_owned;
    Some(Membership { workgroup: own(workgroup), account: own(account), sid: own(sid), password: own(password) })
}

fn keep(files: &mut Files, member: Option<&Membership>) {
    let line = member.map(|m| format!("member {} {} {} {}\n", m.workgroup, m.account, m.sid, m.password));
    files.put(SECRETS, NO_SECRETS.to_owned() + &line.unwrap_or_default(), 0o600, 0, 0);
}

/// Samba makes its database of secrets when it starts first.
pub(super) fn first_secrets(files: &mut Files) {
    if files.bytes(SECRETS).is_none() && files.get("/var/lib/samba/private").is_some() {
        keep(files, None);
    }
}

/// Why the domain cannot be used from here, as `net` would not tell; `None` if it can.
fn finds<'a>(world: &'a World, realm: &str, server: Option<&str>) -> Option<&'a SimDomain> {
    let d = world.domain.as_ref().filter(|d| d.up && d.realm.eq_ignore_ascii_case(realm))?;
    let port = world.net.ports.get(&(d.address, 389)) == Some(&Reach::Open);
    let named = server.is_some_and(|s| s.eq_ignore_ascii_case(&d.controller) || s == d.address.to_string());
    let service = (format!("_ldap._tcp.dc._msdcs.{}", d.realm.to_lowercase()), DnsKind::Srv);
    let knows =
        |s: &IpAddr| world.net.servers.get(s).is_some_and(|s| s.mood == Mood::Answers && s.records.contains_key(&service));
    // A container that says nothing of its own has what its node has.
    let asked = nameservers(&world.files).unwrap_or_else(|| vec![d.address]);
    (port && (named || asked.iter().any(knows))).then_some(d)
}

/// The machine's own account in the domain, if the domain takes its secret.
fn own_account<'a>(world: &World, d: &'a SimDomain) -> Result<&'a SimAccount, String> {
    let m = membership(&world.files).ok_or("Failed to fetch machine account password: are we joined?")?;
    let failed = |why: &str| format!("kerberos_kinit_password {}@{} failed: {why}", m.account, d.realm);
    let account = d.account(&m.account).ok_or_else(|| failed("Client not found in Kerberos database"))?;
    if account.disabled {
        return Err(failed("Clients credentials have been revoked"));
    }
    if account.password != m.password || !m.workgroup.eq_ignore_ascii_case(&d.workgroup) {
        return Err(failed("Preauthentication failed"));
    }
    Ok(account)
}

/// What winbindd is told of its domain.
fn told(config: &Config) -> String {
    config::print(config, false)
        .lines()
        .map(str::trim)
        .filter(|l| {
            ["security", "realm", "workgroup", "netbios name", "idmap config", "winbind"].iter().any(|p| l.starts_with(p))
        })
        .map(|l| format!("{l}\n"))
        .collect()
}

/// Starts winbindd; `false` if it ends at once. One that runs already goes on.
pub(super) fn start_winbindd(m: &mut Machine) -> bool {
    let Some(config) = samba::load(&m.world.files).config else { return false };
    first_secrets(&mut m.world.files);
    // "Could not fetch our SID - did we join?"
    if config.global("security") == "ADS" && membership(&m.world.files).is_none() {
        return false;
    }
    if m.world.winbindd.is_none() {
        let pid = m.new_pid();
        m.world.winbindd = Some(Winbindd { pid, told: told(&config) });
        m.world.files.put(WINBINDD_PID, format!("{pid}\n"), 0o644, 0, 0);
    }
    true
}

pub(super) fn stop_winbindd(world: &mut World) {
    world.winbindd = None;
    world.files.take(WINBINDD_PID);
}

/// What starts with the machine.
pub(super) fn boot(m: &mut Machine) {
    if m.world.systemd && m.world.installed.contains(&Program::Winbindd) && m.world.files.exists(Path::new(AT_BOOT)) {
        start_winbindd(m);
    }
}

/// `systemctl VERB winbind.service`.
pub(super) fn unit(m: &mut Machine, verb: &str) -> Said {
    const UNIT: &str = "winbind.service";
    let running = m.world.winbindd.is_some();
    let start = |m: &mut Machine| {
        if start_winbindd(m) {
            return Said::ok("");
        }
        Said::err(1, format!("Job for {UNIT} failed because the control process exited with error code.\n"))
    };
    match verb {
        "is-active" if running => Said::ok("active\n"),
        "is-active" => Said::both(3, "inactive\n", ""),
        "is-enabled" if m.world.files.exists(Path::new(AT_BOOT)) => Said::ok("enabled\n"),
        "is-enabled" => Said::both(1, "disabled\n", ""),
        "start" => start(m),
        "stop" => {
            stop_winbindd(&mut m.world);
            Said::ok("")
        }
        "restart" => {
            stop_winbindd(&mut m.world);
            start(m)
        }
        "enable" => {
            m.world.files.put_link(AT_BOOT, format!("/lib/systemd/system/{UNIT}"));
            Said::err(0, format!("Created symlink {AT_BOOT} → /lib/systemd/system/{UNIT}.\n"))
        }
        "disable" => {
            m.world.files.take(AT_BOOT);
            Said::err(0, format!("Removed \"{AT_BOOT}\".\n"))
        }
        _ => Said::err(1, format!("Unknown command verb {verb}.\n")),
    }
}

/// `smbcontrol winbindd MESSAGE`.
pub(super) fn control(m: &mut Machine, message: &str) -> Said {
    let Some(w) = &m.world.winbindd else { return Said::err(1, "Can't find pid for destination 'winbindd'\n") };
    match message {
        "ping" => Said::ok(format!("PONG from pid {}\n", w.pid)),
        "shutdown" => {
            stop_winbindd(&mut m.world);
            Said::ok("")
        }
        "reload-config" => Said::ok(""),
        _ => Said::err(1, format!("smbcontrol: unknown command '{message}'\n")),
    }
}

/// `winbindd -D`: whether it came up shows later.
pub(super) fn winbindd(m: &mut Machine, words: &[String]) -> Said {
    match args::parse(words, &[("daemon", 'D', false), ("configfile", 's', true), ("debuglevel", 'd', true)]) {
        Ok(given) if given.has("daemon") => {
            let loads = samba::load(&m.world.files).config.is_some();
            start_winbindd(m);
            Said::err(i32::from(!loads), "")
        }
        _ => Said::err(1, "\nUsage: winbindd\n"),
    }
}

// ---- wbinfo ------------------------------------------------------------------------------------------------------------

pub(super) fn wbinfo(m: &mut Machine, words: &[String]) -> Said {
    let known = [
        ("configfile", 's', true),
        ("ping", 'p', false),
        ("ping-dc", 'P', false),
        ("check-secret", 't', false),
        ("change-secret", 'c', false),
        ("user-sids", '\0', true),
    ];
    let given = match args::parse(words, &known) {
        Ok(given) => given,
        Err(option) => return Said::err(1, format!("\nInvalid option {option}: unknown option\n\n")),
    };
    let down = m.world.winbindd.is_none();
    if given.has("ping") {
        return if down {
            Said::both(1, "Ping to winbindd failed\n", "could not ping winbindd!\n")
        } else {
            Said::ok("Ping to winbindd succeeded\n")
        };
    }
    if down {
        let out = "checking the trust secret for domain (null) via RPC calls failed\n";
        let err =
            "could not obtain winbind interface details: WBC_ERR_WINBIND_NOT_AVAILABLE\ncould not obtain winbind domain name!\n";
        return Said::both(1, if given.has("check-secret") { out } else { "" }, err);
    }
    let workgroup = samba::load(&m.world.files).config.map(|c| c.global("workgroup")).unwrap_or_default();
    let realm = samba::load(&m.world.files).config.map(|c| c.global("realm")).unwrap_or_default();
    let good = match finds(&m.world, &realm, None) {
        None => Err("NT_STATUS_NO_LOGON_SERVERS (0xc000005e)"),
        Some(d) => own_account(&m.world, d).map(|_| d.controller.clone()).map_err(|_| "NT_STATUS_LOGON_FAILURE (0xc000006d)"),
    };
    if given.has("ping-dc") {
        return match good {
            Ok(dc) => Said::ok(format!("checking the NETLOGON for domain[{workgroup}] dc connection to \"{dc}\" succeeded\n")),
            Err(_) => Said::both(
                1,
                format!("checking the NETLOGON for domain[{workgroup}] dc connection to \"\" failed\n"),
                "failed to call wbcPingDc: WBC_ERR_DOMAIN_NOT_FOUND\n",
            ),
        };
    }
    let changes = given.has("change-secret");
    if changes || given.has("check-secret") {
        let did = if changes { "changing" } else { "checking" };
        if let Err(why) = good {
            return Said::both(
                1,
                format!("{did} the trust secret for domain {workgroup} via RPC calls failed\n"),
                format!(
                    "wbcCheckTrustCredentials({workgroup}): error code was {why}\nfailed to call wbcCheckTrustCredentials: \
                     WBC_ERR_AUTH_ERROR\nCould not check secret\n"
                ),
            );
        }
        if changes {
            change_secret(m);
        }
        return Said::ok(format!("{did} the trust secret for domain {workgroup} via RPC calls succeeded\n"));
    }
    if let Some(sid) = given.value("user-sids") {
        let account = m.world.domain.as_ref().filter(|_| good.is_ok()).and_then(|d| {
            let account = d.accounts.values().find(|a| a.sid == sid && !matches!(a.kind, Kind::Group(..)))?;
            Some(d.token(account).join("\n") + "\n")
        });
        return match account {
            Some(list) => Said::ok(list),
            None => Said::err(
                1,
                format!(
                    "failed to call wbcLookupUserSids: WBC_ERR_DOMAIN_NOT_FOUND\nCould not get user SIDs for user SID {sid}\n"
                ),
            ),
        };
    }
    Said::err(1, "Usage: wbinfo [OPTION...]\n")
}

fn change_secret(m: &mut Machine) {
    let password = secret(m);
    let Some(mut own) = membership(&m.world.files) else { return };
    let now = m.clock_ms;
    if let Some(a) = m.world.domain.as_mut().and_then(|d| d.account_mut(&own.account)) {
        (a.password, a.changed_ms) = (password.clone(), now);
    }
    own.password = password;
    keep(&mut m.world.files, Some(&own));
}

/// A password that nobody has had before.
fn secret(m: &mut Machine) -> String {
    m.random = m.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    format!("sim-secret-{:016x}", m.random)
}

// ---- net ---------------------------------------------------------------------------------------------------------------

/// `net` with what it was told.
struct Asked {
    config: Config,
    server: Option<String>,
    account: Option<String>,
    password: String,
    machine: bool,
    keep: bool,
    options: Vec<String>,
}

impl Asked {
    fn domain<'a>(&self, world: &'a World) -> Option<&'a SimDomain> {
        finds(world, &self.config.global("realm"), self.server.as_deref())
    }

    /// Who logs in to LDAP, or what is said instead.
    fn who(&self, world: &World, d: &SimDomain) -> Result<SimAccount, String> {
        if self.machine {
            return own_account(world, d).cloned();
        }
        let Some(name) = self.account.as_deref() else { return Err("ads_connect: Invalid credentials".into()) };
        let plain = name.split('@').next().unwrap_or(name);
        let failed = |why: &str| format!("kerberos_kinit_password {plain}@{} failed: {why}", d.realm);
        let account = d.account(plain).ok_or_else(|| failed("Client not found in Kerberos database"))?;
        match account {
            a if a.password != self.password => Err(failed("Preauthentication failed")),
            a if a.disabled => Err(failed("Clients credentials have been revoked")),
            a => Ok(a.clone()),
        }
    }
}

/// `net ads`, `net primarytrust` and `net cache`; the others are in `samba.rs`.
pub(super) fn net(m: &mut Machine, words: &[String], stdin: &[u8]) -> Said {
    let known = [
        ("user", 'U', true),
        ("configfile", 's', true),
        ("server", 'S', true),
        ("machine-pass", 'P', false),
        ("option", '\0', true),
        ("keep-account", '\0', false),
        ("no-dns-updates", '\0', false),
        ("workgroup", 'W', true),
    ];
    let given = match args::parse(words, &known) {
        Ok(given) => given,
        Err(option) => return Said::err(1, format!("\nInvalid option {option}: unknown option\n\n")),
    };
    let file = given.value("configfile").unwrap_or(SMB_CONF);
    let config = config::load(&m.world.files, Path::new(file)).config.unwrap_or_default();
    let asked = Asked {
        config,
        server: given.value("server").map(str::to_owned),
        account: given.value("user").map(str::to_owned),
        password: String::from_utf8_lossy(stdin).lines().next().unwrap_or_default().to_owned(),
        machine: given.has("machine-pass"),
        keep: given.has("keep-account"),
        options: words.iter().filter_map(|w| w.strip_prefix("--option=")).map(str::to_owned).collect(),
    };
    match (given.word(0), given.word(1)) {
        ("cache", "flush") => Said::ok(""),
        ("primarytrust", "dumpinfo") => trust(&m.world, given.value("workgroup").unwrap_or(&asked.config.global("workgroup"))),
        // Records of members are not kept here.
        ("ads", "dns") => Said::ok(""),
        ("ads", "lookup") => lookup(&m.world, &asked),
        ("ads", "info") => info(m, &asked),
        ("ads", "search") => search(&m.world, &asked, given.word(2), given.words.get(3..).unwrap_or_default()),
        ("ads", "dn") => dn(&m.world, &asked, given.word(2)),
        ("ads", "join") => join(m, &asked, given.words.get(2..).unwrap_or_default()),
        ("ads", "leave") => leave(m, &asked),
        ("ads", "testjoin") => testjoin(&m.world, &asked),
        ("ads", "keytab") if given.word(2) == "create" => make_keytab(m, &asked),
        ("ads", "keytab") if given.word(2) == "list" => list_keytab(&m.world, given.word(3)),
        _ => Said::err(255, format!("Invalid command: net {}\n", given.words.join(" "))),
    }
}

fn trust(world: &World, workgroup: &str) -> Said {
    match membership(&world.files).filter(|m| m.workgroup.eq_ignore_ascii_case(workgroup)) {
        Some(m) => Said::ok(format!(
            "    pdb_secret: struct secrets_domain_info1\n        domain_info: struct lsa_DnsDomainInfo\n            \
             name: 'lsa_StringLarge'\n                sid                      : {}\n        account_name             : '{}'\n",
            m.sid, m.account
        )),
        None => Said::err(1, format!("Unable to fetch the information for domain[{workgroup}] in the secrets database.\n")),
    }
}

fn lookup(world: &World, asked: &Asked) -> Said {
    // It goes to the server that is named, whatever the configuration says.
    let realm = world.domain.as_ref().map(|d| d.realm.clone()).filter(|_| asked.server.is_some());
    let realm = realm.unwrap_or_else(|| asked.config.global("realm"));
    let Some(d) = finds(world, &realm, asked.server.as_deref()) else {
        return Said::err(255, "Didn't find the cldap server!\n");
    };
    let (zone, host) = (d.realm.to_lowercase(), d.controller.split('.').next().unwrap_or_default().to_uppercase());
    Said::ok(format!(
        "Information for Domain Controller: {}\n\nResponse Type: LOGON_SAM_LOGON_RESPONSE_EX\n\
         GUID: dac60e60-1ea0-4f1c-a741-d541fdb298b6\nFlags:\n\tIs a PDC:                                   yes\n\
         \tIs an LDAP server:                          yes\n\tIs running a KDC:                           yes\n\
         \tIs writable:                                yes\nForest: {zone}\nDomain: {zone}\nDomain Controller: {}\n\
         Pre-Win2k Domain: {}\nPre-Win2k Hostname: {host}\nServer Site Name: Default-First-Site-Name\n\
         Client Site Name: Default-First-Site-Name\nNT Version: 5\nLMNT Token: ffff\nLM20 Token: ffff\n",
        d.address, d.controller, d.workgroup
    ))
}

fn info(m: &Machine, asked: &Asked) -> Said {
    let Some(d) = asked.domain(&m.world) else {
        return Said::err(
            255,
            "ads_connect: No logon servers are currently available to service the logon request.\nDidn't find the ldap server!\n",
        );
    };
    let time = |ms: i64| samba::timestamp(ms).replace('T', " ");
    let changed = membership(&m.world.files).and_then(|own| d.account(&own.account).map(|a| time(a.changed_ms)));
    let base = d.realm.split('.').map(|l| format!("dc={l}")).collect::<Vec<_>>().join(",");
    Said::ok(format!(
        "LDAP server: {0}\nLDAP server name: {1}\nRealm: {2}\nBind Path: {base}\nLDAP port: 389\nServer time: {3}\nKDC server: {0}\n\
         Server time offset: {4}\nLast machine account password change: {5}\n",
        d.address,
        d.controller,
        d.realm,
        time(m.clock_ms + d.offset_s * 1000),
        d.offset_s,
        changed.unwrap_or_else(|| NEVER.into())
    ))
}

/// One condition or several in an LDAP filter; `None` if it cannot be read.
fn fits(d: &SimDomain, a: &SimAccount, filter: &str) -> Option<bool> {
    let inner = filter.strip_prefix('(')?.strip_suffix(')')?;
    if let Some(rest) = inner.strip_prefix(['&', '|']) {
        let (mut depth, mut from, mut all) = (0_i32, 0, Vec::new());
        for (at, c) in rest.char_indices() {
            depth += i32::from(c == '(') - i32::from(c == ')');
            if depth == 0 && c == ')' {
                all.push(fits(d, a, &rest[from..=at])?);
                from = at + 1;
            }
        }
        return Some(if inner.starts_with('&') { all.iter().all(|b| *b) } else { all.iter().any(|b| *b) });
    }
    let (name, value) = inner.split_once('=')?;
    if let Some(name) = name.strip_suffix(":1.2.840.113556.1.4.803:") {
        let bits: i64 = value.parse().ok()?;
        return Some(d.attribute(a, name).iter().any(|v| v.parse::<i64>().is_ok_and(|n| n & 0xffff_ffff & bits == bits)));
    }
    Some(d.attribute(a, name).iter().any(|v| matches(&value.to_lowercase(), &v.to_lowercase())))
}

/// A value with `*` and escapes against another.
fn matches(pattern: &str, text: &str) -> bool {
    let parts: Vec<String> = pattern.split('*').map(unescape).collect();
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return false };
    if parts.len() == 1 {
        return first == text;
    }
    let Some(mut rest) = text.strip_prefix(first.as_str()).and_then(|t| t.strip_suffix(last.as_str())) else { return false };
    for part in &parts[1..parts.len() - 1] {
        match rest.split_once(part.as_str()) {
            Some((_, tail)) => rest = tail,
            None => return false,
        }
    }
    true
}

fn unescape(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((head, tail)) = rest.split_once('\\') {
        out.push_str(head);
        let code = tail.get(..2).and_then(|h| u32::from_str_radix(h, 16).ok()).and_then(char::from_u32);
        out.extend(code);
        rest = tail.get(2..).unwrap_or_default();
    }
    out + rest
}

fn search(world: &World, asked: &Asked, filter: &str, attributes: &[String]) -> Said {
    let Some(d) = asked.domain(world) else {
        return Said::err(255, "ads_connect: No logon servers are currently available to service the logon request.\n");
    };
    if let Err(why) = asked.who(world, d) {
        return Said::err(255, why + "\n");
    }
    let mut found = Vec::new();
    for a in d.accounts.values() {
        match fits(d, a, filter) {
            Some(true) => found.push(a),
            Some(false) => {}
            None => return Said::out(255, "search failed: Bad search filter\n"),
        }
    }
    let mut out = format!("Got {} replies\n\n", found.len());
    for a in found {
        for name in attributes {
            for value in d.attribute(a, name) {
                let _ = writeln!(out, "{name}: {value}");
            }
        }
        out.push('\n');
    }
    Said::ok(out)
}

fn dn(world: &World, asked: &Asked, name: &str) -> Said {
    let Some(d) = asked.domain(world) else {
        return Said::err(255, "ads_connect: No logon servers are currently available to service the logon request.\n");
    };
    if let Err(why) = asked.who(world, d) {
        return Said::err(255, why + "\n");
    }
    let unit = d.units.iter().map(|u| d.unit_dn(u)).find(|u| u.eq_ignore_ascii_case(name));
    match unit.or_else(|| d.accounts.values().map(|a| d.dn(a)).find(|n| n.eq_ignore_ascii_case(name))) {
        Some(dn) => Said::ok(format!("Got 1 replies\n\ndistinguishedName: {dn}\n\n")),
        None => Said::out(255, "search failed: No such object\n"),
    }
}

fn join(m: &mut Machine, asked: &Asked, words: &[String]) -> Said {
    let failed = |why: String| Said::out(255, format!("Failed to join domain: {why}\n"));
    let (config, now) = (&asked.config, m.clock_ms);
    let (realm, workgroup, name) =
        (config.global("realm"), config.global("workgroup"), config.global("netbios name").to_uppercase());
    let Some(d) = asked.domain(&m.world) else {
        return failed(format!("failed to find DC for domain {workgroup} - The request is not supported."));
    };
    let over_rpc = |why: &str| failed(format!("failed to lookup DC info for domain '{realm}' over rpc: {why}"));
    if m.world.net.ports.get(&(d.address, 445)) != Some(&Reach::Open) {
        return over_rpc("The transport-connection attempt was refused by the remote system.");
    }
    let who = match asked.who(&m.world, d) {
        Ok(a) => a,
        Err(why) if why.contains("revoked") => {
            return over_rpc("The referenced account is currently disabled and cannot be logged on to.");
        }
        Err(_) => return over_rpc(BAD_LOGON),
    };
    if !workgroup.eq_ignore_ascii_case(&d.workgroup) {
        return failed(format!(
            "Invalid configuration (\"workgroup\" set to '{workgroup}', should be '{}') and configuration modification was not requested",
            d.workgroup
        ));
    }
    let unit = words.iter().find_map(|w| w.strip_prefix("createcomputer=")).map(str::to_owned);
    if let Some(unit) = unit.as_ref().filter(|u| !d.units.contains(*u)) {
        let dn = unit.split('/').rev().map(|u| format!("ou={u},")).collect::<String>();
        return failed(format!("failed to precreate account in ou {dn}{}: No such object", d.base()));
    }
    let account = format!("{name}$");
    let there = d.account(&account).map(|a| match &a.kind {
        Kind::Computer { unit, .. } => unit.clone(),
        _ => None,
    });
    if !d.may_join(&who, there.as_ref().unwrap_or(&unit).as_deref()) {
        return Said::both(
            255,
            "Failed to join domain: User specified does not have administrator privileges\n",
            "ads_print_error: AD LDAP ERROR: 50 (Insufficient access): acl: no right to create a computer\n",
        );
    }
    let (sid, workgroup, offset) = (d.sid.clone(), d.workgroup.clone(), d.offset_s);
    let password = secret(m);
    let zone = realm.to_lowercase();
    let dns_name = format!("{}.{zone}", name.to_lowercase());
    let spns: Vec<String> =
        ["HOST", "RestrictedKrbHost"].iter().flat_map(|s| [format!("{s}/{name}"), format!("{s}/{dns_name}")]).collect();
    let Some(d) = m.world.domain.as_mut() else { return failed(BAD_LOGON.into()) };
    if there.is_none() {
        d.add(&account, Kind::Computer { dns_name: String::new(), spns: Vec::new(), unit });
    }
    if let Some(a) = d.account_mut(&account) {
        (a.password, a.changed_ms, a.disabled) = (password.clone(), now, false);
        if let Kind::Computer { dns_name: n, spns: s, .. } = &mut a.kind {
            (*n, *s) = (dns_name, spns);
        }
    }
    keep(&mut m.world.files, Some(&Membership { workgroup: workgroup.clone(), account, sid, password }));
    let noise = if offset.abs() > SKEW_S {
        "gse_get_client_auth_token: gss_init_sec_context failed with [ Miscellaneous failure (see text): FAST fast response is missing FX-FAST]\n"
    } else {
        ""
    };
    Said::both(0, format!("Using short domain name -- {workgroup}\nJoined '{name}' to dns domain '{zone}'\n"), noise)
}

fn leave(m: &mut Machine, asked: &Asked) -> Said {
    let failed = |why: &str| Said::out(255, format!("Failed to leave domain: {why}\n"));
    let Some(own) = membership(&m.world.files) else { return failed("Unable to fetch domain sid: are we joined?") };
    let Some(d) = asked.domain(&m.world) else {
        return failed("failed to find DC for domain - The request is not supported.");
    };
    let who = match asked.who(&m.world, d) {
        Ok(a) => a,
        Err(why) => return Said::both(255, "Failed to leave domain: failed to connect to AD: Invalid credentials\n", why + "\n"),
    };
    let Some(account) = d.account(&own.account) else {
        return failed("failed to disable machine account via rpc: The specified account does not exist.");
    };
    let unit = match &account.kind {
        Kind::Computer { unit, .. } => unit.clone(),
        _ => None,
    };
    if !d.may_join(&who, unit.as_deref()) {
        return failed(
            "failed to disable machine account via rpc: {Access Denied} A process has requested access to an object but has not been granted those access rights.",
        );
    }
    let (realm, name) = (d.realm.clone(), own.account.trim_end_matches('$').to_owned());
    if let Some(d) = m.world.domain.as_mut() {
        if !asked.keep {
            d.accounts.remove(&own.account.to_lowercase());
        } else if let Some(a) = d.account_mut(&own.account) {
            a.disabled = true;
        }
    }
    keep(&mut m.world.files, None);
    let did = if asked.keep { "Disabled" } else { "Deleted" };
    Said::ok(format!("{did} account for '{name}' in realm '{realm}'\n"))
}

fn testjoin(world: &World, asked: &Asked) -> Said {
    if membership(&world.files).is_none() {
        return Said::err(255, "Join to domain is not valid: NT code 0xfffffff6\n");
    }
    match asked.domain(world).map(|d| own_account(world, d)) {
        None => Said::err(
            255,
            "ads_connect: No logon servers are currently available to service the logon request.\n\
             Join to domain is not valid: No logon servers are currently available to service the logon request.\n",
        ),
        Some(Err(why)) => Said::err(255, format!("{why}\nJoin to domain is not valid: LDAP_INVALID_CREDENTIALS\n")),
        Some(Ok(_)) => Said::ok("Join is OK\n"),
    }
}

fn make_keytab(m: &mut Machine, asked: &Asked) -> Said {
    let Some(d) = asked.domain(&m.world) else {
        return Said::err(255, "ads_connect: No logon servers are currently available to service the logon request.\n");
    };
    let account = match own_account(&m.world, d) {
        Ok(a) => a,
        Err(why) => return Said::err(255, why + "\n"),
    };
    let option = |name: &str| asked.options.iter().find_map(|o| o.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned);
    let file = option("dedicated keytab file").unwrap_or_else(|| asked.config.global("dedicated keytab file"));
    if file.is_empty() || option("kerberos method").is_none_or(|v| v != "dedicated keytab") {
        return Said::err(255, "Invalid kerberos method set\n");
    }
    let spns = d.attribute(account, "servicePrincipalName");
    let names: String = spns.iter().chain([&account.name]).map(|n| format!("{n}@{}\n", d.realm)).collect();
    m.world.files.put(file, names, 0o600, 0, 0);
    Said::ok("")
}

fn list_keytab(world: &World, file: &str) -> Said {
    let path = file.strip_prefix("FILE:").unwrap_or(file);
    if world.files.bytes(path).is_none() {
        return Said::err(255, format!("ads_keytab_list: krb5_kt_start_seq_get failed (Key table file '{path}' not found)\n"));
    }
    let mut out = String::from("Vno  Type                                        Principal\n");
    for name in world.files.text(path).lines() {
        let _ = writeln!(out, "  1  AES-256 CTS mode with 96-bit SHA-1 HMAC     {name}");
    }
    Said::ok(out)
}

// ---- log-ins -----------------------------------------------------------------------------------------------------------

/// Who an account of the domain is to smbd.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    /// As the kernel knows it.
    pub user: User,
    /// Its groups, as the kernel knows them.
    pub gids: Vec<u32>,
    /// SIDs in its token.
    pub sids: Vec<String>,
}

/// The number of a SID of the domain (`idmap_rid`).
fn number(config: &Config, workgroup: &str, sid: &str) -> Option<u32> {
    let range = config.global(&format!("idmap config {workgroup} : range"));
    let (first, last) = range.split_once('-')?;
    let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let rid: u32 = sid.rsplit('-').next()?.parse().ok()?;
    first.checked_add(rid).filter(|n| *n <= last)
}

/// An account of the domain as smbd sees it: winbindd and the machine's list of name sources have to know it. `name`: `DOMAIN\account`.
pub(super) fn visitor(world: &World, config: &Config, name: &str) -> Option<Visitor> {
    let (workgroup, plain) = name.split_once('\\')?;
    let d = world.domain.as_ref().filter(|d| d.workgroup.eq_ignore_ascii_case(workgroup))?;
    let account = d.account(plain).filter(|a| !a.disabled && !matches!(a.kind, Kind::Group(..)))?;
    let sources = world.files.text("/etc/nsswitch.conf");
    let knows = sources.lines().any(|l| l.strip_prefix("passwd:").is_some_and(|s| s.split_whitespace().any(|w| w == "winbind")));
    if world.winbindd.is_none() || !knows || config.global("security") != "ADS" {
        return None;
    }
    let sids = d.token(account);
    let uid = number(config, &d.workgroup, &account.sid)?;
    let gids: Vec<u32> = sids[1..].iter().filter_map(|s| number(config, &d.workgroup, s)).collect();
    let gid = *gids.first()?;
    Some(Visitor {
        user: User { name: format!("{}\\{}", d.workgroup, account.name), uid, gid, gecos: String::new() },
        gids,
        sids,
    })
}

/// A log-in with a password that the domain is asked about.
pub(super) fn log_in(world: &World, config: &Config, name: &str, password: &str) -> Result<Visitor, &'static str> {
    let d = finds(world, &config.global("realm"), None).ok_or("NT_STATUS_NO_LOGON_SERVERS")?;
    own_account(world, d).map_err(|_| "NT_STATUS_TRUSTED_RELATIONSHIP_FAILURE")?;
    let plain = name.split_once('\\').map_or(name, |(_, n)| n);
    match d.account(plain) {
        Some(a) if a.password == password && !a.disabled => {}
        _ => return Err("NT_STATUS_LOGON_FAILURE"),
    }
    visitor(world, config, name).ok_or("NT_STATUS_LOGON_FAILURE")
}

/// A log-in of the machine itself with a ticket; `host` is the name that the ticket is for.
pub(super) fn by_ticket(world: &World, config: &Config, host: &str) -> Result<Visitor, &'static str> {
    let d = finds(world, &config.global("realm"), None).ok_or("NT_STATUS_NO_LOGON_SERVERS")?;
    let own = own_account(world, d).map_err(|_| "NT_STATUS_LOGON_FAILURE")?;
    if d.offset_s.abs() > SKEW_S {
        return Err("NT_STATUS_TIME_DIFFERENCE_AT_DC");
    }
    let service = format!("HOST/{host}");
    let issued =
        d.accounts.values().any(|a| d.attribute(a, "servicePrincipalName").iter().any(|s| s.eq_ignore_ascii_case(&service)));
    if !issued {
        return Err("NT_STATUS_INVALID_PARAMETER");
    }
    visitor(world, config, &format!("{}\\{}", d.workgroup, own.name)).ok_or("NT_STATUS_LOGON_FAILURE")
}
