// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the doctor says: from what was seen of a node and its gateways to findings with a code, what it means and what helps. A pure function;
//! it must not know how anything is looked at, and what nobody could see is said to be unknown, never to be well.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::effect::Program;
use crate::facts::Facts;
use crate::plan::{live, quota};
use crate::spec::record::{Member, ShareState};
use crate::spec::section::Mode;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It is as it must be.
    Ok,
    /// Worth knowing, or unknown; nothing has to be done.
    Note,
    /// Something will go wrong, or does not work as ordered.
    Warning,
    /// Shares are not served, or not safely.
    Error,
}

impl Severity {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// What is looked at, in the order in which it is told.
pub const CHECKS: &[&str] =
    &["version", "programs", "kernel", "quota", "samba", "dns", "time", "pmxcfs", "permissions", "leftovers", "drift"];

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $word:literal $check:literal $severity:ident $means:literal $remedy:literal;)*) => {
        /// What can be found.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $(#[doc = $means] $name,)* }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];
            /// The word, which does not change.
            pub fn word(self) -> &'static str { match self { $(Code::$name => $word,)* } }
            /// To which check it belongs.
            pub fn check(self) -> &'static str { match self { $(Code::$name => $check,)* } }
            /// How bad it is, if the circumstances say nothing else.
            pub fn severity(self) -> Severity { match self { $(Code::$name => Severity::$severity,)* } }
            /// What it means.
            pub fn means(self) -> &'static str { match self { $(Code::$name => $means,)* } }
            /// What helps; `{}` stands for what the finding is about.
            pub fn remedy(self) -> &'static str { match self { $(Code::$name => $remedy,)* } }
        }
    };
}

codes! {
    SambaUnknown "samba-unknown" "version" Note "nobody could tell which version of Samba is there" "smbd --version";
    SambaOld "samba-too-old" "version" Error "this version of Samba is older than 4.17 and lacks what is relied on" "upgrade to Debian 12 or newer; in a container: pve-smbgateway gateway upgrade {}";
    SambaNew "samba-untested" "version" Note "this version of Samba is newer than those smbgw was tested with (4.17 to 4.24)" "nothing, unless something does not work";
    GuestDiffers "guest-differs" "version" Warning "the program inside the container does not answer, or is of another version" "pve-smbgateway repair {}";
    ProgramMissing "program-missing" "programs" Error "a program that shares of this node need is not installed" "apt install {}";
    KernelUnknown "kernel-unknown" "kernel" Note "nobody could tell which kernel runs" "uname -r";
    KernelOld "kernel-too-old" "kernel" Error "the kernel has no openat2 (5.6): trees cannot be opened without following symlinks" "run a newer kernel";
    IdmapMissing "idmap-missing" "kernel" Note "trees cannot be mounted into containers with mapped ids, so a tree has shifted numbers on the disk" "upgrade Proxmox VE to 8.4 or newer, with a kernel from 5.12 on";
    ApparmorMissing "apparmor-missing" "kernel" Warning "AppArmor does not confine the container" "enable AppArmor on the node and restart it";
    QuotaOff "quota-unavailable" "quota" Note "the file system of this share cannot limit it (it has no limit now)" "only if you want a limit: see the limits in ADMIN.md";
    QuotaLost "quota-not-kept" "quota" Warning "the limit of a share is not in effect as it was set" "pve-smbgateway repair {}";
    SmbdDown "smbd-down" "samba" Error "smbd does not run, so nothing is served" "pve-smbgateway repair {}";
    WinbinddDown "winbindd-down" "samba" Error "winbindd does not run, so no account of the domain can log in" "pve-smbgateway repair {}; pve-smbgateway ad check {}";
    ContainerDown "container-down" "samba" Warning "the container does not run or cannot be looked into, so its shares are not served" "pve-smbgateway gateway start {}";
    SmbConfMissing "smb-conf-missing" "samba" Error "smb.conf is not there" "apt install --reinstall -o Dpkg::Options::=--force-confmiss samba-common";
    IncludeMissing "include-missing" "samba" Error "smb.conf does not include the managed file, so the next reload ends all shares" "pve-smbgateway repair {}";
    OwnConfMissing "own-conf-missing" "samba" Error "the managed file is not there, so the next reload ends all shares" "pve-smbgateway repair {}";
    OwnConfEdited "own-conf-edited" "samba" Warning "somebody changed the managed file; no share can be changed until that is settled" "pve-smbgateway repair {}, and with --overwrite to put it back";
    Testparm "testparm-complains" "samba" Warning "testparm or our own checks have something against smb.conf" "testparm -s";
    DnsNone "dns-no-server" "dns" Note "the machine has no name server" "name one in /etc/resolv.conf";
    DnsSilent "dns-silent" "dns" Note "no name server of /etc/resolv.conf answers" "look at /etc/resolv.conf and the network";
    AskAdCheck "domain-not-looked-at" "dns" Note "name service, clock and trust of a member are another command's to look at" "pve-smbgateway ad check {}";
    ClockUnknown "clock-unknown" "time" Note "nothing here says whether the clock is synchronised (only systemd-timesyncd leaves a mark)" "timedatectl, or chronyc tracking";
    PmxcfsUnmounted "pmxcfs-not-mounted" "pmxcfs" Error "/etc/pve is there and no pmxcfs is mounted on it: what is written there is not in the cluster" "systemctl status pve-cluster";
    PmxcfsReadOnly "pmxcfs-read-only" "pmxcfs" Error "nobody can write in /etc/pve, so no share can be changed" "pvecm status; systemctl status pve-cluster";
    PmxcfsNoQuorum "pmxcfs-no-quorum" "pmxcfs" Error "the cluster has no quorum, so no share can be changed" "pvecm status";
    PmxcfsUnknown "pmxcfs-unknown" "pmxcfs" Note "nobody could tell whether the cluster has quorum" "pvecm status";
    ModeOpen "mode-too-open" "permissions" Error "others than root can read secrets, or change what root acts by" "chmod go= {}";
    OwnerWrong "owner-wrong" "permissions" Error "what root acts by belongs to somebody else" "chown root: {}";
    ContainerUnrecorded "container-unrecorded" "leftovers" Warning "a container carries the mark of a gateway that no record of this node names" "look into it; remove it with pct destroy {}, or take the tag off";
    TemporaryFile "temporary-file" "leftovers" Note "a file was left half written, by a machine that stopped in between" "rm {}";
    JournalDamaged "journal-damaged" "leftovers" Warning "the journal of an operation cannot be read; what it did is not known" "look into it, then move it away: {}";
    OperationOpen "operation-open" "leftovers" Warning "an operation was begun and not finished, and nobody is at it" "pve-smbgateway resume {}";
    OperationStuck "operation-stuck" "leftovers" Error "an operation could neither be finished nor undone" "pve-smbgateway repair {}";
    SecretOld "pending-secret-old" "leftovers" Warning "a password has waited longer than an hour for its share to be built" "pve-smbgateway reconcile {}";
    OwnConfLeft "own-conf-left" "leftovers" Warning "the managed file is there, and there is no share" "pve-smbgateway repair {}";
    NotLooked "not-looked-at" "drift" Warning "a gateway could not be looked at as a whole: what is said of it is not complete" "pve-smbgateway status";
    TreeGone "tree-not-there" "drift" Error "the tree of a share is not there, or another one is in its place; it is not served" "mount it, or bring it back";
    ShareUnready "share-not-ready" "drift" Warning "a share is recorded and not finished" "pve-smbgateway repair {}";
    Drift "repair-due" "drift" Warning "the machine is not as the record says; a repair would change something" "pve-smbgateway repair {}";
    RepairRefused "repair-refused" "drift" Error "a repair would be refused" "pve-smbgateway repair {}";
    SectionGone "section-gone" "drift" Warning "a share is served and has no section in the storage configuration" "pve-smbgateway repair {} --restore, or pve-smbgateway delete {}";
    SectionUnserved "section-unserved" "drift" Warning "a section names this node, and no record has a share for it" "pve-smbgateway reconcile {}";
    SectionsUnknown "sections-unknown" "drift" Note "the storage configuration was not at hand" "pve-smbgateway doctor";
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// What was found; `None`: all is well.
    pub code: Option<Code>,
    /// How bad it is.
    pub severity: Severity,
    /// What was seen.
    pub saw: String,
    /// What helps.
    pub remedy: String,
}

impl Finding {
    /// For documents.
    pub fn document(&self) -> Value {
        json!({
            "check": self.check, "code": self.code.map_or("ok", Code::word), "severity": self.severity.as_str(), "saw": self.saw,
            "means": self.code.map_or("it is as it must be", Code::means), "remedy": Some(&self.remedy).filter(|r| !r.is_empty()),
        })
    }
}

/// A file or directory that root acts by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where.
    pub path: PathBuf,
    /// Mode bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Bits that it must not have.
    pub never: u32,
}

/// What was seen of the cluster's file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pmxcfs {
    /// Something is mounted on `/etc/pve`.
    pub mounted: bool,
    /// Its root may be written in.
    pub writable: bool,
    /// Whether there is quorum, or why nobody knows.
    pub quorate: Result<bool, String>,
}

/// What was seen of one gateway.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Its name.
    pub name: String,
    /// Everything a plan is made from, or why that could not be seen.
    pub facts: Result<Box<Facts>, String>,
    /// The version of its Samba.
    pub samba: Result<String, String>,
    /// What a repair would change, or why it would be refused and what helps then.
    pub repair: Result<Vec<String>, (String, Option<String>)>,
}

/// What was seen of the node.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Release of the kernel.
    pub kernel: Result<String, String>,
    /// Name servers it has.
    pub name_servers: usize,
    /// Whether one of them answers, or why nobody could ask.
    pub dns: Result<bool, String>,
    /// The clock is known to be synchronised.
    pub synchronised: bool,
    /// The cluster's file system; `None` without Proxmox VE.
    pub pmxcfs: Option<Pmxcfs>,
    /// Our own user number.
    pub uid: u32,
    /// What root acts by.
    pub places: Vec<Place>,
    /// Containers of this node with a mark that no record explains.
    pub unrecorded: Vec<String>,
    /// Files that were left half written.
    pub temporary: Vec<String>,
    /// Journals that cannot be read.
    pub damaged: Vec<String>,
    /// Operations nobody is at: id, what it does, whether it is stuck.
    pub open: Vec<(String, String, bool)>,
    /// Passwords that wait: id of the share, for how many seconds.
    pub pending: Vec<(String, i64)>,
    /// The managed file of the node's Samba is there.
    pub own_conf: bool,
    /// Shares without section and sections without share, if the sections are known.
    pub sections: Option<(Vec<String>, Vec<String>)>,
    /// The gateways of this node that were asked for.
    pub gateways: Vec<Gateway>,
}

/// A pending password older than that is removed by the worker, if there is one.
const PENDING_S: i64 = 3600;

#[derive(Default)]
struct Findings {
    list: Vec<Finding>,
    well: BTreeMap<&'static str, Vec<String>>,
}

impl Findings {
    fn say(&mut self, code: Code, about: &str, saw: impl Into<String>) -> &mut Finding {
        let remedy = code.remedy().replace("{}", about);
        let at = self.list.len();
        self.list.push(Finding { check: code.check(), code: Some(code), severity: code.severity(), saw: saw.into(), remedy });
        &mut self.list[at]
    }

    fn well(&mut self, check: &'static str, saw: impl Into<String>) {
        self.well.entry(check).or_default().push(saw.into());
    }
}

/// Judges.
pub fn judge(m: &Machine) -> Vec<Finding> {
    let mut f = Findings::default();
    kernel(m, &mut f);
    around(m, &mut f);
    left(m, &mut f);
    for g in &m.gateways {
        gateway(g, &mut f);
    }
    if m.gateways.is_empty() {
        ["version", "programs", "quota", "samba"].into_iter().for_each(|c| f.well(c, "no gateway needs anything"));
    }
    let mut all = Vec::new();
    for check in CHECKS {
        let mut of: Vec<Finding> = f.list.iter().filter(|x| x.check == *check).cloned().collect();
        of.sort_by_key(|x| std::cmp::Reverse(x.severity));
        if of.is_empty() {
            let saw = f.well.get(check).map(|l| l.join("; ")).unwrap_or_else(|| "nothing is wrong".into());
            of.push(Finding { check, code: None, severity: Severity::Ok, saw, remedy: String::new() });
        }
        all.extend(of);
    }
    all
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn kernel(m: &Machine, f: &mut Findings) {
    match m.kernel.as_ref().map(|k| (k, numbers(k))) {
        Ok((k, Some(v))) if v < (5, 6) => _ = f.say(Code::KernelOld, "", k.clone()),
        Ok((k, Some(_))) => f.well("kernel", format!("kernel {k}")),
        Ok((k, None)) => _ = f.say(Code::KernelUnknown, "", format!("{k:?} is no release")),
        Err(why) => _ = f.say(Code::KernelUnknown, "", why.clone()),
    }
}

fn around(m: &Machine, f: &mut Findings) {
    let member = |g: &Gateway| {
        let record = g.facts.as_ref().ok().and_then(|x| x.record.as_ref());
        record.and_then(|r| r.member.as_ref()).is_some_and(Member::is_joined)
    };
    let any = m.gateways.iter().any(member);
    // Only what is in a domain lives by it.
    let worse = if any { Severity::Warning } else { Severity::Note };
    if m.name_servers == 0 {
        f.say(Code::DnsNone, "", "no nameserver in /etc/resolv.conf").severity = worse;
    } else {
        match &m.dns {
            Ok(true) => f.well("dns", "a name server answers"),
            Ok(false) => f.say(Code::DnsSilent, "", "no answer within 2 s").severity = worse,
            Err(why) => f.say(Code::DnsSilent, "", format!("unknown: {why}")).severity = worse,
        }
    }
    for g in m.gateways.iter().filter(|g| member(g)) {
        f.say(Code::AskAdCheck, &g.name, format!("gateway {} is a member of a domain", g.name));
    }
    if m.synchronised {
        f.well("time", "systemd-timesyncd has synchronised the clock");
    } else {
        f.say(Code::ClockUnknown, "", "unknown: there is no /run/systemd/timesync/synchronized");
    }
    match &m.pmxcfs {
        None => f.well("pmxcfs", "not a node of Proxmox VE"),
        Some(p) => {
            if !p.mounted {
                f.say(Code::PmxcfsUnmounted, "", "/etc/pve is a directory like others");
            } else if !p.writable {
                f.say(Code::PmxcfsReadOnly, "", "/etc/pve has no write permission");
            }
            match &p.quorate {
                Ok(true) => f.well("pmxcfs", "mounted, writable, quorate"),
                Ok(false) => _ = f.say(Code::PmxcfsNoQuorum, "", "/etc/pve/.members: quorate 0"),
                Err(why) => _ = f.say(Code::PmxcfsUnknown, "", format!("unknown: {why}")),
            }
        }
    }
    for p in &m.places {
        let path = p.path.display().to_string();
        if p.mode & p.never != 0 {
            f.say(Code::ModeOpen, &path, format!("{path} has mode {:04o}", p.mode));
        }
        if p.uid != m.uid {
            f.say(Code::OwnerWrong, &path, format!("{path} belongs to user {}", p.uid));
        }
    }
    f.well("permissions", format!("{} files and directories", m.places.len()));
}

fn left(m: &Machine, f: &mut Findings) {
    for c in &m.unrecorded {
        let vmid = c.split(' ').next().unwrap_or_default();
        f.say(Code::ContainerUnrecorded, vmid, format!("container {c}"));
    }
    for t in &m.temporary {
        f.say(Code::TemporaryFile, t, t.clone());
    }
    for d in &m.damaged {
        f.say(Code::JournalDamaged, d, d.clone());
    }
    for (opid, what, stuck) in &m.open {
        let (code, about) = if *stuck {
            (Code::OperationStuck, what.split(' ').next_back().unwrap_or_default())
        } else {
            (Code::OperationOpen, opid.as_str())
        };
        f.say(code, about, format!("{what}, operation {opid}"));
    }
    for (id, age) in m.pending.iter().filter(|(_, age)| *age > PENDING_S) {
        f.say(Code::SecretOld, id, format!("the password for {id} waits since {age} s"));
    }
    let native = m.gateways.iter().filter_map(|g| g.facts.as_ref().ok()).find(|x| x.paths.mode == Mode::Native);
    let served = native.and_then(|x| x.record.as_ref()).is_some_and(|r| !r.shares.is_empty());
    if m.own_conf && native.is_some() && !served {
        f.say(Code::OwnConfLeft, "native", "the managed file of the node's Samba");
    }
    match &m.sections {
        None => _ = f.say(Code::SectionsUnknown, "", "unknown: no sections were given"),
        Some((gone, unserved)) => {
            for id in gone {
                f.say(Code::SectionGone, id, format!("share {id}"));
            }
            for id in unserved {
                f.say(Code::SectionUnserved, id, format!("section {id}"));
            }
        }
    }
}

/// Which programs a gateway lives by.
fn needed(facts: &Facts) -> Vec<Program> {
    use Program::{
        Groupadd, Groupdel, LxcInfo, Net, Pct, Pdbedit, Sharesec, Smbclient, Smbcontrol, Smbd, Smbpasswd, Smbstatus, Testparm,
        Useradd, Userdel, Usermod, Wbinfo, Winbindd, Zfs,
    };
    let mut all = Vec::new();
    if facts.paths.mode == Mode::Lxc {
        all.extend([Pct, LxcInfo]);
    }
    if facts.paths.mode == Mode::Native || facts.reachable {
        all.extend([
            Smbd, Testparm, Pdbedit, Smbpasswd, Smbcontrol, Smbstatus, Smbclient, Sharesec, Net, Useradd, Userdel, Usermod,
            Groupadd, Groupdel,
        ]);
    }
    let record = facts.record.as_ref();
    if facts.reachable && record.and_then(|r| r.member.as_ref()).is_some_and(Member::is_joined) {
        all.extend([Winbindd, Wbinfo]);
    }
    if record.is_some_and(|r| r.shares.values().any(|e| e.tree.fs_type == "zfs")) {
        all.push(Zfs);
    }
    all
}

fn gateway(g: &Gateway, f: &mut Findings) {
    let name = &g.name;
    let facts = match &g.facts {
        Ok(x) => x,
        Err(why) => {
            f.say(Code::NotLooked, name, format!("gateway {name}: {why}"));
            return;
        }
    };
    let Some(record) = &facts.record else { return };
    if record.shares.is_empty() {
        return;
    }
    let mut installed = true;
    for p in needed(facts) {
        if let Some(remedy) = facts.missing.get(p.name()) {
            installed = false;
            f.say(Code::ProgramMissing, "", format!("gateway {name}: {} is not installed", p.name())).remedy.clone_from(remedy);
        }
    }
    if installed {
        f.well("programs", format!("gateway {name} has all it needs"));
    }
    if let Some(guest) = &facts.guest {
        let seen = record.vmid.and_then(|v| guest.here.get(&v));
        if let Some(Err(why)) = seen.filter(|s| s.running).map(|s| &s.hand) {
            f.say(Code::GuestDiffers, name, format!("gateway {name}: {why}"));
        }
        if !guest.idmap {
            f.say(Code::IdmapMissing, name, "pct knows no idmap for mount points");
        }
        if !guest.apparmor {
            f.say(Code::ApparmorMissing, name, "the kernel has no AppArmor");
        }
    }
    if facts.reachable && installed {
        match g.samba.as_ref().map(|v| (v, numbers(v))) {
            Ok((v, Some(n))) if n < (4, 17) => _ = f.say(Code::SambaOld, name, format!("gateway {name}: Samba {v}")),
            Ok((v, Some(n))) if n > (4, 24) => _ = f.say(Code::SambaNew, name, format!("gateway {name}: Samba {v}")),
            Ok((v, Some(_))) => f.well("version", format!("gateway {name}: Samba {v}")),
            Ok((v, None)) => _ = f.say(Code::SambaUnknown, name, format!("gateway {name}: {v:?} is no version")),
            Err(why) => _ = f.say(Code::SambaUnknown, name, format!("gateway {name}: unknown: {why}")),
        }
    }
    samba(name, facts, installed, f);
    for (id, e) in &record.shares {
        let tree = match facts.tree(&e.tree.path) {
            Ok(t) if t.ino == e.tree.ino && t.fs_type == e.tree.fs_type && (e.tree.fsid == 0 || t.fsid == e.tree.fsid) => t,
            Ok(_) => {
                f.say(Code::TreeGone, id, format!("share {id}: another directory lies at {}", e.tree.path.display()));
                continue;
            }
            Err(why) => {
                f.say(Code::TreeGone, id, format!("share {id}: {why}"));
                continue;
            }
        };
        let wrong = if e.is_limited() { quota::drift(e, facts) } else { Vec::new() };
        for w in wrong {
            f.say(Code::QuotaLost, id, format!("share {id}: {w}"));
        }
        match tree.quota.as_ref().map(|q| &q.means) {
            Some(Err(no)) if !e.is_limited() => {
                f.say(Code::QuotaOff, id, format!("share {id}: {}", no.why)).remedy.clone_from(&no.remedy);
            }
            Some(Ok(means)) => f.well("quota", format!("share {id}: {means}")),
            _ => {}
        }
        if e.state != ShareState::Ready {
            f.say(Code::ShareUnready, id, format!("share {id} is {:?}", e.state).to_lowercase());
        }
    }
    match &g.repair {
        Ok(steps) if steps.is_empty() => f.well("drift", format!("gateway {name} is as recorded")),
        Ok(steps) => _ = f.say(Code::Drift, name, format!("gateway {name}: {}", steps.join("; "))),
        Err((why, remedy)) => {
            let finding = f.say(Code::RepairRefused, name, format!("gateway {name}: {why}"));
            finding.remedy = remedy.clone().unwrap_or_else(|| finding.remedy.clone());
        }
    }
}

fn samba(name: &str, facts: &Facts, installed: bool, f: &mut Findings) {
    if !facts.reachable {
        f.say(Code::ContainerDown, name, format!("gateway {name}"));
        return;
    }
    let own = facts.paths.own_conf.display().to_string();
    let served = facts.record.iter().flat_map(|r| r.shares.values()).any(|e| e.section.get("disable").is_none_or(|d| d == "0"));
    if !served {
        return;
    }
    if installed && !facts.smbd_running {
        f.say(Code::SmbdDown, name, format!("gateway {name}: no process has smbd's pid file"));
    }
    if facts.directory.as_ref().is_some_and(|d| !d.winbindd_running)
        && facts.record.as_ref().and_then(|r| r.member.as_ref()).is_some_and(Member::is_joined)
    {
        f.say(Code::WinbinddDown, name, format!("gateway {name}"));
    }
    match &facts.main {
        None => _ = f.say(Code::SmbConfMissing, name, facts.paths.smb_conf.display().to_string()),
        Some(main) if !live::includes(&main.text, &own) => {
            f.say(Code::IncludeMissing, name, format!("{} does not include {own}", facts.paths.smb_conf.display()));
        }
        Some(_) => {}
    }
    if facts.own.is_none() {
        f.say(Code::OwnConfMissing, name, own);
    } else if let Some(why) = live::hand_edited(facts) {
        f.say(Code::OwnConfEdited, name, why);
    }
    for complaint in &facts.effective.findings {
        f.say(Code::Testparm, name, format!("gateway {name}: {complaint}"));
    }
    f.well("samba", format!("gateway {name}: smbd runs, testparm has nothing to say"));
}
