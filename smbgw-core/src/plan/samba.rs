// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Samba is told: security profiles, stanzas, our configuration file, and whose the other shares are. Written once for all places.
//! It knows Samba's parameters (4.17 to 4.24); it must not know phases, nor how a file goes live.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::effect::{DISK_FREE, DISK_FREE_INSIDE};
use crate::error::{Error, Kind, Result};
use crate::facts::{Effective, Facts, TreeFact};
use crate::format::sharesec::{Ace, print_aces};
use crate::format::smb_conf::{self, Section as Stanza, SmbConf};
use crate::format::smb_params::same_value;
use crate::spec::access::{Level, Who};
use crate::spec::domain::IdRange;
use crate::spec::record::{Member, Record, ShareEntry, ShareState, TreeId};
use crate::spec::section::{self, Known, Mode, Surroundings};
use crate::spec::{Security, ShareSpec};
use crate::types::NodeName;

use super::accounts::PROBE_USER;
use super::step::Setting;

/// Where the trees are inside a guest, by storage id.
pub const TREES: &str = "/srv/smbgw";

/// The comment above our include line in smb.conf.
pub const MARKER: &str = "# smbgw: managed, do not edit this line and the next";

/// Settings of `[global]` that a profile demands, with the values as an administrator would write them.
///
/// `server min protocol`: `SMB3` means 3.1.1 since 4.17 prints it so; NetBIOS and printing are off, guests impossible.
pub fn globals(security: Security) -> Vec<(&'static str, &'static str)> {
    vec![
        ("server min protocol", "SMB3_11"),
        ("server signing", "mandatory"),
        ("server smb encrypt", encryption(security)),
        ("map to guest", "Never"),
        ("restrict anonymous", "2"),
        ("ntlm auth", "ntlmv2-only"),
        ("disable netbios", "yes"),
        ("smb ports", "445"),
        ("load printers", "no"),
        ("disable spoolss", "yes"),
        ("printcap name", "/dev/null"),
        ("allow insecure wide links", "no"),
    ]
}

/// Settings of `[global]` that figures come from. They are not demanded: where smb.conf says something itself, that stands, and those figures
/// are absent, and say so.
pub const OBSERVED: &[(&str, &str)] = &[
    // Counters of each smbd, with times.
    ("smbd profiling level", "on"),
    // Refused log-ins (level 2 is those alone), a line of JSON for each, in a file that Samba itself keeps small (max log size).
    ("log level", "1 auth_json_audit:2@/var/log/samba/smbgw-auth.json"),
];

/// Has each smbd count by share, from Samba 4.23 on.
const BY_SHARE: &str = "smbd profiling share";

/// Those of them of which smb.conf itself says nothing: our file comes behind it, and would win.
fn observed(main: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let main = SmbConf::parse(main);
    let says = move |name: &str| main.get("global", name).is_some();
    OBSERVED.iter().copied().filter(move |(name, _)| !(says(name) || *name == "log level" && says("debuglevel")))
}

fn encryption(security: Security) -> &'static str {
    match security {
        Security::Standard => "desired",
        Security::High => "required",
    }
}

/// The gateway's keytab, beside Samba's own secrets: `/etc/krb5.keytab` is the machine's.
pub const KEYTAB: &str = "/var/lib/samba/private/smbgw.keytab";

/// Who says which keytabs Samba keeps, from 4.21 on.
const SYNC: &str = "sync machine password to keytab";

/// Settings of `[global]` that make Samba a member of a domain. `known`: what the Samba in question has as parameters.
pub fn in_domain(m: &Member, mode: Mode, security: Security, known: &Effective) -> Vec<(String, String)> {
    let workgroup = m.workgroup.as_str();
    let builtin = IdRange::of_builtin(mode);
    let mut all: Vec<(String, String)> = [
        ("server role", "member server"),
        ("security", "ADS"),
        ("workgroup", workgroup),
        ("netbios name", m.computer.as_str()),
        // Tickets are opened with the password in secrets.tdb, which is right whatever became of a keytab. Ours is for others, and kept by
        // the worker up to 4.20 ("secrets and keytab" would write into the machine's own), by Samba from 4.21 on.
        ("kerberos method", "secrets only"),
        ("winbind use default domain", "no"),
        ("winbind enum users", "no"),
        ("winbind enum groups", "no"),
        ("winbind refresh tickets", "yes"),
        ("winbind offline logon", "no"),
        ("template shell", "/usr/sbin/nologin"),
        ("template homedir", "/nonexistent"),
        // A week, Samba's default: written, so that no other line can switch it off.
        ("machine password timeout", "604800"),
        ("idmap config * : backend", "tdb"),
    ]
    .into_iter()
    .map(|(n, v)| (n.to_owned(), v.to_owned()))
    .collect();
    all.push(("realm".into(), m.domain.realm()));
    all.push(("idmap config * : range".into(), builtin.to_string()));
    all.push((format!("idmap config {workgroup} : backend"), "rid".into()));
    all.push((format!("idmap config {workgroup} : range"), m.range.to_string()));
    if known.global.contains_key(SYNC) {
        all.push((SYNC.into(), format!("{KEYTAB}:account_name:sync_spns:spn_prefixes=host:sync_kvno:machine_password")));
    }
    if security == Security::High {
        // Of local accounts; whether those of the domain may use NTLM is the domain controllers' policy.
        all.push(("ntlm auth".into(), "disabled".into()));
    }
    all
}

/// What `net` is given while Samba itself is not told yet.
pub fn joining_conf(m: &Member, mode: Mode, known: &Effective) -> Result<String> {
    let mut g = Stanza::new("global");
    for (name, value) in in_domain(m, mode, Security::Standard, known) {
        g.set(&name, value);
    }
    Ok(format!("# smbgw: for the time of one command.\n{}", smb_conf::print(&[g])?))
}

/// Weak methods whose parameters are deprecated: setting them, even to `no`, is a warning of `testparm`, and a later Samba may not
/// know them any more. They are never set, but where Samba knows them they must be off.
const OFF: &[(&str, &str)] = &[("lanman auth", "no"), ("raw NTLMv2 auth", "no")];

/// Which of them a foreign configuration must already satisfy. Ports and printing do not weaken the share beside it.
const DEMANDED: &[&str] = &[
    "server min protocol",
    "server signing",
    "server smb encrypt",
    "map to guest",
    "restrict anonymous",
    "ntlm auth",
    "allow insecure wide links",
];

/// Whether an effective value is at least as strict as the demanded one.
fn satisfies(name: &str, demanded: &str, actual: &str) -> bool {
    if same_value(name, demanded, actual) {
        return true;
    }
    match name {
        "server smb encrypt" => demanded == "desired" && same_value(name, actual, "required"),
        "ntlm auth" => same_value(name, actual, "disabled"),
        _ => false,
    }
}

fn is_off(name: &str) -> bool {
    OFF.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
}

/// The demanded settings that the globals in effect do not satisfy, as `name = value (is: actual)`.
pub fn unsatisfied(security: Security, effective: &Effective) -> Vec<String> {
    globals(security)
        .into_iter()
        .filter(|(name, _)| DEMANDED.contains(name))
        .chain(OFF.iter().copied())
        .filter_map(|(name, value)| {
            let actual = effective.global.get(&name.to_lowercase());
            let fine = actual.map_or_else(|| is_off(name), |a| satisfies(name, value, a));
            (!fine).then(|| format!("{name} = {value} (is: {})", actual.map_or("", String::as_str)))
        })
        .collect()
}

/// Debian's unmodified stock stanzas, by the parameters that `testparm` prints for them.
fn is_stock(name: &str, params: &std::collections::BTreeMap<String, String>) -> bool {
    let stock: &[(&str, &str)] = match name.to_lowercase().as_str() {
        "homes" => &[
            ("comment", "Home Directories"),
            ("browseable", "no"),
            ("read only", "yes"),
            ("create mask", "0700"),
            ("directory mask", "0700"),
            ("valid users", "%S"),
        ],
        "printers" => &[
            ("comment", "All Printers"),
            ("browseable", "no"),
            ("path", "/var/tmp"),
            ("path", "/var/spool/samba"),
            ("printable", "yes"),
            ("guest ok", "no"),
            ("read only", "yes"),
            ("create mask", "0700"),
        ],
        "print$" => &[
            ("comment", "Printer Drivers"),
            ("path", "/var/lib/samba/printers"),
            ("browseable", "yes"),
            ("read only", "yes"),
            ("guest ok", "no"),
        ],
        _ => return false,
    };
    params.iter().all(|(k, v)| stock.iter().any(|(name, value)| name == k && same_value(k, value, v)))
}

/// Sections of our own file, by name.
pub fn own_sections(own_text: &str) -> Vec<String> {
    SmbConf::parse(own_text).sections().iter().filter(|s| !s.is_global()).map(|s| s.name.clone()).collect()
}

/// Shares that are not ours and not stock: files, registry, usershares.
pub fn foreign_shares(facts: &Facts) -> Vec<String> {
    let ours: Vec<String> =
        facts.own.as_ref().map(|f| own_sections(&f.text)).unwrap_or_default().iter().map(|n| n.to_lowercase()).collect();
    let mut all: Vec<String> = facts
        .effective
        .shares
        .iter()
        .filter(|(name, params)| !ours.contains(&name.to_lowercase()) && !is_stock(name, params))
        .map(|(name, _)| name.clone())
        .collect();
    all.extend(facts.other_shares.iter().cloned());
    all
}

/// Whether our file sets globals now.
pub fn own_sets_globals(own_text: &str) -> bool {
    SmbConf::parse(own_text).get("global", "server min protocol").is_some()
}

/// The typed form of a section that was accepted before.
pub fn spec_of(id: &str, entry: &ShareEntry, record: &Record) -> Result<ShareSpec> {
    let mut around = Surroundings::alone(NodeName::new(&record.node)?);
    let known = Known { node: record.node.clone(), settings: record.settings.clone(), ..Known::default() };
    around.gateways.insert(record.id.clone(), known);
    section::check(id, &entry.section, &around)
        .map(|c| c.spec)
        .map_err(|e| e.while_doing(format!("recorded section of share {id}")))
}

/// Whether a tree is the recorded one.
pub fn same_tree(now: &TreeFact, tree: &TreeId) -> bool {
    // 0: the file system has no number that outlives a boot.
    now.fs_type == tree.fs_type && now.ino == tree.ino && (tree.fsid == 0 || now.fsid == tree.fsid)
}

/// Whether the tree is the recorded one, mounted as it must be. `Err` says what is wrong.
pub fn tree_holds(spec: &ShareSpec, tree: &TreeId, facts: &Facts) -> std::result::Result<(), String> {
    let now = facts.tree(&spec.path)?;
    if !same_tree(now, tree) {
        return Err(format!(
            "{} is not the tree that was recorded ({} on {}); is its file system mounted?",
            spec.path.display(),
            tree.fs_type,
            now.mount_point.display()
        ));
    }
    mount_holds(spec, &now.mount_point)
}

/// Whether what `is_mountpoint` asks for is mounted.
pub fn mount_holds(spec: &ShareSpec, mount_point: &Path) -> std::result::Result<(), String> {
    use crate::spec::section::MountRule;
    let wanted = match &spec.mount {
        MountRule::Any => return Ok(()),
        MountRule::Tree => &spec.path,
        MountRule::At(p) => p,
    };
    if mount_point == wanted { Ok(()) } else { Err(format!("{} is not mounted (is_mountpoint)", wanted.display())) }
}

/// A share with its entry in the record.
pub type Served = (ShareSpec, ShareEntry);

/// The shares to serve now, in order of their ids: built or ready, enabled, with their tree in place.
pub fn serving(record: &Record, facts: &Facts) -> Result<(Vec<Served>, Vec<String>)> {
    let (mut list, mut warnings) = (Vec::new(), Vec::new());
    for (id, entry) in &record.shares {
        if entry.state == ShareState::Deleting {
            continue;
        }
        let spec = spec_of(id, entry, record)?;
        if spec.disabled || spec.node.as_str() != facts.node {
            continue;
        }
        match tree_holds(&spec, &entry.tree, facts) {
            Ok(()) => list.push((spec, entry.clone())),
            Err(why) => warnings.push(format!("share {id} is not served: {why}")),
        }
    }
    Ok((list, warnings))
}

/// Names for `valid users` and the like: users by name, groups by the Unix group behind them. Who does not exist (yet) is left out, so
/// that a later account of the system cannot slip in.
fn names(spec: &ShareSpec, record: &Record, wanted: impl Fn(Level) -> bool) -> Vec<String> {
    spec.access
        .entries()
        .filter(|(_, level)| wanted(*level))
        .filter_map(|(who, _)| match who {
            Who::User(u) => record.users.get(u.as_str()).map(|_| u.to_string()),
            Who::Group(g) => record.groups.get(g.as_str()).map(|e| format!("+{}", e.unix)),
            // By SID: a name can be given to somebody else, and looking one up needs a domain controller.
            Who::DomainUser(a) | Who::DomainGroup(a) => record.sid_of(a).map(str::to_owned),
        })
        .collect()
}

/// The SID of the gateway's own computer account, which proves its shares where it is in a domain.
fn prover(record: &Record) -> Option<String> {
    record.member.as_ref().filter(|m| m.is_joined()).and_then(|m| m.sid.clone())
}

/// Where a share's tree is to the Samba that serves it.
pub fn served_path(spec: &ShareSpec) -> PathBuf {
    match spec.mode {
        Mode::Native => spec.path.clone(),
        Mode::Lxc => Path::new(TREES).join(spec.id.as_str()),
    }
}

/// One stanza. Everything that a foreign `[global]` could have set as a default for shares and that would weaken or break
/// ours is set here too.
/// `known`: what the Samba in question has as parameters.
pub fn stanza(spec: &ShareSpec, entry: &ShareEntry, record: &Record, known: &Effective) -> Result<Stanza> {
    // Who proves the share. The probe account exists only while a proof runs (an unknown name in a list is skipped); naming it also keeps the lists from
    // being empty, which Samba would read as "everybody". The share's own group must never be named: `force group` puts it into the token
    // of every connection, and then a revocation would find everybody still allowed.
    let list = |mut names: Vec<String>, probe: bool| {
        if probe {
            names.push(prover(record).unwrap_or_else(|| PROBE_USER.to_owned()));
        }
        smb_conf::print_list(&names).map_err(Error::from)
    };
    let mut s = Stanza::new(spec.share.as_str());
    s.set("path", served_path(spec).display().to_string());
    s.set("available", "yes");
    s.set("browseable", "yes");
    s.set("read only", "yes");
    s.set("valid users", list(names(spec, record, |_| true), true)?);
    s.set("read list", list(names(spec, record, |l| l == Level::Ro), false)?);
    s.set("write list", list(names(spec, record, |l| l != Level::Ro), true)?);
    s.set("admin users", "");
    s.set("guest ok", "no");
    s.set("guest only", "no");
    s.set("force user", "");
    s.set("force group", &entry.unix_group);
    // Files belong to the owner of the tree, whoever makes them: accounts can go, files stay. What users own can only be limited if they own it.
    s.set("inherit owner", if spec.user_quotas.is_empty() { "unix only" } else { "no" });
    s.set("inherit permissions", "no");
    s.set("inherit acls", "no");
    s.set("create mask", "0660");
    s.set("force create mode", "0660");
    s.set("directory mask", "2770");
    s.set("force directory mode", "2770");
    s.set("dos filemode", if spec.access.has_full() { "yes" } else { "no" });
    s.set("access based share enum", "yes");
    s.set("wide links", "no");
    // In a container Windows ACLs are kept as they are, in an attribute that an unprivileged container may write. On the node `full` means
    // permissions of Unix, as everything else there does.
    if spec.mode == Mode::Lxc && spec.access.has_full() {
        s.set("vfs objects", "acl_xattr");
        s.set("acl_xattr:security_acl_name", "user.NTACL");
    } else {
        s.set("vfs objects", "");
    }
    for program in ["root preexec", "preexec", "root postexec", "postexec", "magic script"] {
        s.set(program, "");
    }
    // What `statfs` tells of a tree on btrfs or CephFS is the whole file system, and clients would be shown that.
    if entry.quota.as_ref().is_some_and(|q| !q.means.shows_in_statfs()) {
        s.set("dfree command", if spec.mode == Mode::Native { DISK_FREE } else { DISK_FREE_INSIDE });
        s.set("dfree cache time", "5");
    } else {
        s.set("dfree command", "");
    }
    s.set("printable", "no");
    s.set("server smb encrypt", encryption(spec.security));
    if known.global.contains_key(BY_SHARE) {
        s.set(BY_SHARE, "yes");
    }
    Ok(s)
}

/// Our whole file, for an smb.conf that is `main`. It ends by opening `[global]` again: what follows the include line in smb.conf is meant for `[global]`.
pub fn own_conf(record: &Record, shares: &[Served], security: Option<Security>, known: &Effective, main: &str) -> Result<String> {
    let mut text = format!(
        "# smbgw: managed file of gateway {} ({}). Edits are detected and kept, but the\n# source is storage.cfg: change it with pvesm or pve-smbgateway.\n",
        record.id, record.uuid
    );
    let mut all = Vec::new();
    if let Some(security) = security {
        let mut g = Stanza::new("global");
        for (name, value) in globals(security).into_iter().chain(observed(main)) {
            g.set(name, value);
        }
        for (name, value) in
            record.member.iter().filter(|m| m.is_joined()).flat_map(|m| in_domain(m, record.mode, security, known))
        {
            g.set(&name, value);
        }
        all.push(g);
    }
    for (spec, entry) in shares {
        all.push(stanza(spec, entry, record, known)?);
    }
    all.push(Stanza::new("global"));
    text.push_str(&smb_conf::print(&all)?);
    Ok(text)
}

/// What must be in effect once our file is live.
pub fn settings(
    record: &Record,
    shares: &[Served],
    security: Security,
    with_globals: bool,
    known: &Effective,
) -> Result<Vec<Setting>> {
    let mut all = Vec::new();
    let domain: Vec<(String, String)> = record
        .member
        .iter()
        .filter(|m| with_globals && m.is_joined())
        .flat_map(|m| in_domain(m, record.mode, security, known))
        .collect();
    for (name, value) in globals(security) {
        if (with_globals || DEMANDED.contains(&name)) && !domain.iter().any(|(n, _)| n == name) {
            all.push(Setting { section: "global".into(), name: name.to_lowercase(), value: value.to_owned() });
        }
    }
    all.extend(domain.into_iter().map(|(name, value)| Setting { section: "global".into(), name: name.to_lowercase(), value }));
    all.extend(OFF.iter().map(|(n, v)| Setting { section: "global".into(), name: n.to_lowercase(), value: (*v).to_owned() }));
    for (spec, entry) in shares {
        for (name, value) in stanza(spec, entry, record, known)?.params {
            all.push(Setting { section: spec.share.to_string(), name: name.to_lowercase(), value });
        }
    }
    Ok(all)
}

/// Complaints about settings that are not in effect as demanded.
pub fn compare(settings: &[Setting], effective: &Effective) -> Vec<String> {
    // Settings of one section follow one another, and there may be hundreds of sections.
    let mut found = ("", None);
    settings
        .iter()
        .filter_map(|s| {
            if found.0 != s.section {
                found = (&s.section, effective.share(&s.section));
            }
            let actual = effective.value_in(&s.section, found.1, &s.name);
            let fine = match actual {
                None => is_off(&s.name),
                Some(a) => satisfies(&s.name, &s.value, a) || same_value(&s.name, &s.value, a),
            };
            (!fine).then(|| match actual {
                None => format!("[{}] {} is not there", s.section, s.name),
                Some(a) => format!("[{}] {} = {:?} instead of {:?}", s.section, s.name, a, s.value),
            })
        })
        .collect()
}

/// What differs in the meaning of foreign sections (and of `[global]` if asked) between two effective configurations.
pub fn foreign_changes(before: &Effective, after: &Effective, ours: &[String], globals: bool) -> Vec<String> {
    let ours: Vec<String> = ours.iter().map(|n| n.to_lowercase()).collect();
    let mut changes = Vec::new();
    let foreign = |e: &Effective| e.shares.iter().filter(|(n, _)| !ours.contains(&n.to_lowercase())).cloned().collect::<Vec<_>>();
    let (a, b) = (foreign(before), foreign(after));
    for (name, params) in &a {
        match b.iter().find(|(n, _)| n == name) {
            None => changes.push(format!("share [{name}] would be gone")),
            Some((_, p)) if p != params => changes.push(format!("share [{name}] would change")),
            Some(_) => {}
        }
    }
    for (name, _) in b.iter().filter(|(n, _)| !a.iter().any(|(m, _)| m == n)) {
        changes.push(format!("share [{name}] would appear"));
    }
    if globals {
        for (k, v) in &before.global {
            // The list of included files is not a setting.
            if k != "include" && after.global.get(k) != Some(v) {
                changes.push(format!("[global] {k} would become {:?}", after.global.get(k).map_or("", String::as_str)));
            }
        }
    }
    changes
}

/// The share ACL that holds `rw` down to "change" where somebody has `full`: the argument of `sharesec --replace`, by Unix SIDs
/// (`S-1-22-1-uid`, `S-1-22-2-gid`), which every token of that user or group member holds.
pub fn share_acl(spec: &ShareSpec, record: &Record) -> Result<Option<Vec<String>>> {
    if !spec.access.has_full() {
        return Ok(None);
    }
    let mut aces = vec![ace(prover(record).unwrap_or_else(|| format!("S-1-22-1-{}", record.probe_uid())), "CHANGE")];
    for (who, level) in spec.access.entries() {
        let sid = match who {
            Who::User(u) => record.users.get(u.as_str()).map(|e| format!("S-1-22-1-{}", e.uid)),
            Who::Group(g) => record.groups.get(g.as_str()).map(|e| format!("S-1-22-2-{}", e.gid)),
            Who::DomainUser(a) | Who::DomainGroup(a) => record.sid_of(a).map(str::to_owned),
        };
        let rights = match level {
            Level::Ro => "READ",
            Level::Rw => "CHANGE",
            Level::Full => "FULL",
        };
        aces.extend(sid.map(|s| ace(s, rights)));
    }
    aces.sort_by(|a, b| a.trustee.cmp(&b.trustee));
    let text = print_aces(&aces)?;
    Ok(Some(text.split(',').map(str::to_owned).collect()))
}

fn ace(trustee: String, rights: &str) -> Ace {
    Ace { trustee, allow: true, flags: 0, rights: rights.to_owned() }
}

/// Refuses a share name that a foreign share has.
pub fn refuse_taken_name(spec: &ShareSpec, foreign: &[String]) -> Result<()> {
    match foreign.iter().find(|f| f.to_lowercase() == spec.share.folded()) {
        None => Ok(()),
        Some(name) => {
            Err(Error::new(Kind::Conflict, format!("share: the node's Samba already has a share [{name}] that is not ours"))
                .remedy("choose another name with --share, or rename the other one"))
        }
    }
}

/// The access list of a share for documents.
pub fn access_list(spec: &ShareSpec) -> Vec<Value> {
    spec.access.entries().map(|(w, l): (&Who, Level)| json!({"who": w.to_string(), "level": l.as_str()})).collect()
}
