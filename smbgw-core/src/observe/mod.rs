// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looking: [`Host`] becomes [`Facts`], and a step's [`Watch`] becomes what is [`Seen`]. It knows which file or tool shows what; it changes
//! nothing and decides nothing.

pub mod guests;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::effect::{Cmd, Daemon, Place, Program};
use crate::error::{Error, Kind, Result};
use crate::facts::{ConfFile, DirectoryFacts, Effective, Facts, Owned, PassdbUser, Paths, TreeFact, UnixGroup, UnixUser};
use crate::format::smb_conf::SmbConf;
use crate::format::smb_params::{self, Key};
use crate::format::{net_ads, passwd, projects, sharesec, smbpasswd, testparm, zfs};
use crate::host::{Host, Machines, Output, Secrets, TreeSeen, programs};
use crate::plan::directory::{AT_BOOT, NSSWITCH, SECRETS, SECRETS_BEFORE, drop_ins, krb5_conf};
use crate::plan::samba::KEYTAB;
use crate::plan::step::{Seen, Watch};
use crate::plan::{accounts, quota};
use crate::quota::{Means, PROJECTS, QuotaSeen, Unlimited, UserMeans};
use crate::spec::record::{Record, ShareEntry, TreeOwner};
use crate::spec::section::Mode;
use crate::types::{Workgroup, sha256_hex};

/// What a look must include besides the usual.
#[derive(Debug, Clone, Default)]
pub struct Need {
    /// Trees besides those of the recorded shares.
    pub trees: Vec<PathBuf>,
    /// What limits those, or could.
    pub quota: bool,
    /// The share whose limit must be told; that of others may stay unknown.
    pub limit_of: Option<String>,
    /// Whom the files in the recorded trees belong to: slow, so only where accounts may go.
    pub owned: bool,
    /// Not passdb, which costs a process: for phases that do not touch accounts.
    pub without_passdb: bool,
    /// Only the node's part: for phases that do not look inside a guest.
    pub outside: bool,
}

/// How long the search for owners may take.
const SURVEY: Duration = Duration::from_secs(5);

/// Reads the gateway record.
pub fn record(host: &dyn Host, paths: &Paths) -> Result<Option<Record>> {
    match host.read_text(&paths.record_file)? {
        None => Ok(None),
        Some(text) => Record::parse(&text).map(Some).map_err(|e| {
            e.while_doing(format!("{}", paths.record_file.display()))
                .remedy("restore the file from a backup of the node, or move it away and create the shares again")
        }),
    }
}

/// Runs a command that only looks.
pub fn ask(host: &dyn Host, cmd: &Cmd) -> Result<Output> {
    let out = host.run(cmd, &Secrets::default())?;
    if out.timed_out {
        return Err(Error::new(
            Kind::Timeout,
            format!("{} did not answer within {} s", cmd.program.name(), cmd.timeout_ms / 1000),
        )
        .story(|s| s.command = Some(cmd.to_string())));
    }
    Ok(out)
}

/// The command that prints the configuration in effect for a main file.
pub fn testparm_cmd(main: &Path) -> Cmd {
    Cmd::new(Program::Testparm, ["-s".to_owned(), "-v".to_owned(), main.display().to_string()])
}

/// What `testparm -s -v` printed, as data. Errors: Samba refuses the file.
pub fn effective(cmd: &Cmd, out: &Output) -> Result<Effective> {
    let findings = testparm::parse_stderr(&out.err());
    let lines: Vec<String> = findings.iter().filter(|f| f.severity > testparm::Severity::Noise).map(|f| f.text.clone()).collect();
    if out.status != 0 {
        let why = if lines.is_empty() { "it cannot be loaded".to_owned() } else { lines.join("; ") };
        return Err(Error::new(Kind::Service, format!("Samba refuses the configuration: {why}"))
            .remedy("correct the file; testparm -s shows what Samba makes of it")
            .story(|s| {
                s.command = Some(cmd.to_string());
                s.exit = Some(out.status.to_string());
                s.stderr = Some(out.err());
            }));
    }
    let mut e = Effective { findings: lines, ..Effective::default() };
    for (name, params) in testparm::parse_stdout(&out.out()) {
        // Later Sambas have other main names for a few.
        let main = |n: String| match smb_params::key(&n) {
            Key { name: Cow::Borrowed(known), inverted: false } => known.to_lowercase(),
            _ => n.to_lowercase(),
        };
        let params: BTreeMap<String, String> = params.into_iter().map(|(n, v)| (main(n), v)).collect();
        if name.eq_ignore_ascii_case("global") {
            e.global.extend(params);
        } else {
            e.shares.push((name, params));
        }
    }
    Ok(e)
}

fn conf_file(host: &dyn Host, path: &Path) -> Result<Option<ConfFile>> {
    let Some(seen) = host.read(path, 16 << 20)? else { return Ok(None) };
    let sha256 = sha256_hex(&seen.content);
    let text = String::from_utf8(seen.content).map_err(|e| {
        Error::new(Kind::Unsupported, format!("{} is not UTF-8 text", path.display()))
            .remedy("convert the file to UTF-8, which Samba expects too (unix charset)")
            .caused_by(e)
    })?;
    Ok(Some(ConfFile { text, sha256, mode: seen.mode, uid: seen.uid, gid: seen.gid }))
}

fn unix_accounts(host: &dyn Host) -> Result<(BTreeMap<String, UnixUser>, BTreeMap<String, UnixGroup>)> {
    let text = |p: &str| -> Result<String> {
        Ok(host.read(Path::new(p), 16 << 20)?.map(|f| String::from_utf8_lossy(&f.content).into_owned()).unwrap_or_default())
    };
    let users = passwd::parse_passwd(&text("/etc/passwd")?).entries.into_iter();
    let users = users.map(|u| (u.name, UnixUser { uid: u.uid, gid: u.gid, comment: u.gecos })).collect();
    let groups = passwd::parse_group(&text("/etc/group")?).entries.into_iter();
    let groups = groups.map(|g| (g.name, UnixGroup { gid: g.gid, members: g.members })).collect();
    Ok((users, groups))
}

fn sub_ids(host: &dyn Host) -> Result<Vec<(u32, u32)>> {
    let mut ranges = Vec::new();
    for p in ["/etc/subuid", "/etc/subgid"] {
        if let Some(f) = host.read(Path::new(p), 1 << 20)? {
            let text = String::from_utf8_lossy(&f.content).into_owned();
            ranges.extend(passwd::parse_subids(&text).entries.into_iter().map(|s| (s.start, s.count)));
        }
    }
    Ok(ranges)
}

fn passdb(host: &dyn Host, paths: &Paths) -> Result<BTreeMap<String, PassdbUser>> {
    let cmd = accounts::samba_at(paths, Program::Pdbedit, &["-L", "-w"]);
    let out = ask(host, &cmd)?;
    if out.status != 0 {
        return Err(Error::new(Kind::Service, "Samba's account database cannot be read").story(|s| {
            s.command = Some(cmd.to_string());
            s.exit = Some(out.status.to_string());
            s.stderr = Some(programs::complaint(Program::Pdbedit, &out));
        }));
    }
    Ok(smbpasswd::parse(&out.out())
        .0
        .into_iter()
        .map(|a| (a.name, PassdbUser { disabled: a.flags.is_disabled(), changed: format!("{:08X}", a.changed) }))
        .collect())
}

/// One tree's root, with what matters for serving it.
pub fn tree(host: &dyn Host, path: &Path) -> std::result::Result<TreeFact, String> {
    tree_fact(host.tree(path))
}

fn tree_fact(seen: Result<TreeSeen>) -> std::result::Result<TreeFact, String> {
    let t = seen.map_err(|e| crate::error::chain(&e))?;
    Ok(TreeFact {
        dev: t.dev,
        ino: t.ino,
        fsid: t.fsid,
        fs_type: t.fs_type,
        mount_point: t.mount_point,
        owner: TreeOwner { uid: t.uid, gid: t.gid, mode: t.mode },
        mounts_inside: t.mounts_inside,
        read_only: t.read_only,
        populated: false,
        quota: None,
    })
}

/// Looks at what limits a tree that was found.
fn look_at_quota(host: &dyn Host, path: &Path, record: Option<&Record>, tree: &mut std::result::Result<TreeFact, String>) {
    let Ok(t) = tree else { return };
    // A tree whose limit cannot be asked for can be served all the same.
    t.quota = Some(host.quota(path).unwrap_or_else(|e| {
        let remedy = e.remedy_text().unwrap_or("see the system's log").to_owned();
        QuotaSeen::unlimited(crate::error::chain(&e), remedy)
    }));
    let Some(q) = t.quota.as_mut().filter(|q| q.users == Ok(UserMeans::FileSystem)) else { return };
    for e in record.iter().flat_map(|r| r.shares.values()).filter(|e| e.tree.path == path) {
        let shift = e.mount.map_or(0, |m| m.ids.shift());
        let known = record.iter().flat_map(|r| r.users.values()).map(|u| u.uid + shift);
        for uid in known.chain(e.user_limits.values().map(|l| l.uid)) {
            if let Ok(f) = host.user_figures(path, uid) {
                q.user_limits.insert(uid, f.limit);
            }
        }
    }
}

/// Asks `zfs` for the limit and the use of trees that are datasets, and the size of their pools: once for all.
fn datasets(host: &dyn Host, facts: &mut Facts, must: Option<&Path>) -> Result<()> {
    let pool = |name: &str| name.split('/').next().unwrap_or(name).to_owned();
    let mut names = BTreeSet::new();
    let limited = || facts.trees.values().filter_map(|t| t.as_ref().ok()?.quota.as_ref());
    for name in limited().filter_map(|q| if let Ok(Means::Dataset { name }) = &q.means { Some(name.clone()) } else { None }) {
        names.extend([pool(&name), name]);
    }
    if names.is_empty() {
        return Ok(());
    }
    let numbers = refquota(host, names);
    for (path, q) in facts.trees.iter_mut().filter_map(|(p, t)| Some((p, t.as_mut().ok()?.quota.as_mut()?))) {
        let Ok(Means::Dataset { name }) = &q.means else { continue };
        let numbers = match &numbers {
            Ok(numbers) => numbers,
            Err(e) => {
                if must == Some(path.as_path()) {
                    return numbers.map(drop);
                }
                let remedy = e.remedy_text().unwrap_or("try: zfs get refquota").to_owned();
                q.means = Err(Unlimited { why: crate::error::chain(e), remedy });
                continue;
            }
        };
        let of = |name: &str, property: &str| numbers.get(name).and_then(|n| n.get(property)).copied();
        let sum = of(&pool(name), "used").unwrap_or(0) + of(&pool(name), "available").unwrap_or(0);
        (q.limit, q.used, q.size) = (of(name, "refquota").filter(|l| *l > 0), of(name, "referenced"), sum);
    }
    Ok(())
}

/// What `zfs` says of datasets.
fn refquota(host: &dyn Host, names: BTreeSet<String>) -> Result<BTreeMap<String, BTreeMap<String, u64>>> {
    zfs_numbers(host, &quota::zfs_get("refquota,referenced,used,available", names))
}

fn zfs_numbers(host: &dyn Host, cmd: &Cmd) -> Result<BTreeMap<String, BTreeMap<String, u64>>> {
    let out = ask(host, cmd)?;
    if out.status != 0 {
        return Err(Error::new(Kind::Service, format!("zfs does not tell a quota: {}", out.err().trim())).story(|s| {
            s.command = Some(cmd.to_string());
            s.exit = Some(out.status.to_string());
            s.stderr = Some(out.err());
        }));
    }
    Ok(zfs::parse_get(&out.out()))
}

/// Project ids that the administrator has given a meaning.
fn projects(host: &dyn Host) -> Result<BTreeSet<u32>> {
    let text = |p: &str| -> Result<String> {
        Ok(host.read(Path::new(p), 1 << 20)?.map(|f| String::from_utf8_lossy(&f.content).into_owned()).unwrap_or_default())
    };
    let mut ids = projects::parse_projects(&text("/etc/projects")?);
    ids.extend(projects::parse_projid(&text("/etc/projid")?));
    ids.retain(|id| PROJECTS.contains(id));
    Ok(ids)
}

/// Whether a daemon runs, by its pid file.
pub fn runs(host: &dyn Host, daemon: Daemon, pid_file: &Path) -> Result<bool> {
    let Some(f) = host.read(pid_file, 64)? else { return Ok(false) };
    match String::from_utf8_lossy(&f.content).trim().parse::<i32>() {
        Ok(pid) => Ok(host.process(pid, daemon.name())?.is_some()),
        Err(_) => Ok(false),
    }
}

/// Shares that Samba has from elsewhere than files.
fn other_shares(host: &dyn Host, facts: &Facts) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let global = |k: &str| facts.effective.global.get(k).map_or("", String::as_str);
    if global("usershare max shares").parse::<u32>().is_ok_and(|n| n > 0) {
        let dir = global("usershare path");
        if dir.starts_with('/') {
            names.extend(host.list(Path::new(dir))?.into_iter().filter(|n| !n.starts_with([':', '.'])));
        }
    }
    let registry =
        global("registry shares").eq_ignore_ascii_case("yes") || global("config backend").eq_ignore_ascii_case("registry");
    let included = facts
        .main
        .as_ref()
        .is_some_and(|f| SmbConf::parse(&f.text).includes().iter().any(|i| i.value.eq_ignore_ascii_case("registry")));
    if registry || included {
        let cmd = accounts::samba(facts, Program::Net, &["conf", "listshares"]);
        let out = ask(host, &cmd)?;
        if out.status != 0 {
            return Err(Error::new(Kind::Service, "Samba's registry shares cannot be read").story(|s| {
                s.command = Some(cmd.to_string());
                s.exit = Some(out.status.to_string());
                s.stderr = Some(programs::complaint(Program::Net, &out));
            }));
        }
        names.extend(out.out().lines().map(str::trim).filter(|l| !l.is_empty() && *l != "global").map(str::to_owned));
    }
    Ok(names)
}

/// The share ACL, or `None` if the share has none of its own (everybody: full).
fn acl(host: &dyn Host, share: &str) -> Result<Option<Vec<String>>> {
    let cmd = accounts::sharesec(share, &["--view"]);
    let out = ask(host, &cmd)?;
    if out.status != 0 {
        let how = if out.status < 0 { format!("signal {}", -out.status) } else { format!("exit status {}", out.status) };
        return Err(Error::new(Kind::Service, format!("the share ACL of [{share}] cannot be read")).story(|s| {
            s.command = Some(cmd.to_string());
            s.exit = Some(how);
            s.stderr = Some(programs::complaint(Program::Sharesec, &out));
        }));
    }
    // Where there is none it prints what holds then.
    let (mut aces, _) = sharesec::parse_view(&out.out());
    if aces.len() == 1 && aces[0].trustee == "S-1-1-0" && aces[0].rights == "FULL" {
        return Ok(None);
    }
    aces.sort_by(|a, b| a.trustee.cmp(&b.trustee));
    let text = sharesec::print_aces(&aces)?;
    Ok(Some(text.split(',').map(str::to_owned).collect()))
}

/// Facts that need no program but those that tell about containers: enough to refuse, to show status, and to begin.
pub fn quick(m: &Machines, node: &str, paths: &Paths) -> Result<Facts> {
    let host = m.node();
    let mut facts = Facts {
        node: node.to_owned(),
        now_ms: host.now_ms(),
        paths: paths.clone(),
        place: Place::Node,
        reachable: true,
        guest: None,
        record: record(host, paths)?,
        users: BTreeMap::new(),
        groups: BTreeMap::new(),
        sub_ids: Vec::new(),
        passdb: BTreeMap::new(),
        main: None,
        own: None,
        effective: Effective::default(),
        other_shares: BTreeSet::new(),
        trees: BTreeMap::new(),
        acls: BTreeMap::new(),
        owned: None,
        smbd_running: false,
        directory: None,
        projects: BTreeSet::new(),
        missing: BTreeMap::new(),
        systemd: false,
    };
    let (paths_of, limited): (Vec<PathBuf>, Vec<bool>) =
        facts.record.iter().flat_map(|r| r.shares.values().map(|e| (e.tree.path.clone(), e.is_limited()))).unzip();
    for ((seen, p), limited) in host.trees(&paths_of).into_iter().zip(paths_of).zip(limited) {
        let mut seen = tree_fact(seen);
        if limited {
            look_at_quota(host, &p, facts.record.as_ref(), &mut seen);
        }
        facts.trees.insert(p, seen);
    }
    if paths.mode == Mode::Lxc {
        facts.guest = Some(guests::look(m, node, facts.record.as_ref())?);
        missing_programs(host, &mut facts, outside)?;
        facts.place = facts.record.as_ref().and_then(|r| r.vmid).map_or(Place::Node, Place::Ct);
        facts.reachable = facts.container().is_some_and(|(_, g)| g.running && g.hand.is_ok());
        if !facts.reachable {
            return Ok(facts);
        }
    }
    let place = m.at(facts.place);
    inside(&*place, &mut facts)?;
    Ok(facts)
}

/// What acts on a container from outside, or makes what one is made from.
fn outside(p: Program) -> bool {
    use Program::{Debootstrap, HaManager, Install, LxcInfo, Pct, Rm, Sha256sum, Tar, Zfs};
    matches!(p, Pct | LxcInfo | HaManager | Debootstrap | Tar | Install | Rm | Sha256sum | Zfs)
}

/// Which programs a machine lacks. Around a container the node needs others than the place itself.
fn missing_programs(host: &dyn Host, facts: &mut Facts, wanted: impl Fn(Program) -> bool) -> Result<()> {
    for p in Program::ALL.into_iter().filter(|p| wanted(*p)) {
        if p != Program::Systemctl && !host.installed(p)? {
            facts.missing.insert(p.name().to_owned(), programs::missing(p).remedy_text().unwrap_or_default().to_owned());
        }
    }
    Ok(())
}

/// What can be seen of the place without a program.
fn inside(place: &dyn Host, facts: &mut Facts) -> Result<()> {
    (facts.users, facts.groups) = unix_accounts(place)?;
    facts.sub_ids = sub_ids(place)?;
    facts.main = conf_file(place, &facts.paths.smb_conf)?;
    facts.own = conf_file(place, &facts.paths.own_conf)?;
    facts.systemd = place.has_systemd()?;
    let guest = facts.guest.is_some();
    missing_programs(place, facts, |p| !guest || !outside(p))?;
    facts.smbd_running = runs(place, Daemon::Smbd, &facts.effective.pid_file(Daemon::Smbd))?;
    if facts.record.as_ref().is_some_and(|r| r.member.is_some() || r.settings.contains_key("domain")) {
        facts.directory = Some(directory(place, facts)?);
    }
    Ok(())
}

/// What a member of a domain has beside smb.conf.
fn directory(place: &dyn Host, facts: &Facts) -> Result<DirectoryFacts> {
    let mut seen = DirectoryFacts {
        krb5: conf_file(place, &krb5_conf(&facts.paths))?,
        nsswitch: conf_file(place, Path::new(NSSWITCH))?,
        drop_ins: BTreeMap::new(),
        drop_in_dirs: BTreeSet::new(),
        winbindd_running: runs(place, Daemon::Winbindd, &facts.effective.pid_file(Daemon::Winbindd))?,
        winbindd_at_boot: place.exists(Path::new(AT_BOOT))?,
        secrets: place.exists(Path::new(SECRETS))?,
        secrets_before: place.exists(Path::new(SECRETS_BEFORE))?,
        keytab: place.exists(Path::new(KEYTAB))?,
        lost: match facts.record.as_ref().and_then(|r| r.member.as_ref()).filter(|m| m.is_joined()) {
            Some(m) => no_trust(&ask(place, &trust_cmd(&m.workgroup))?),
            None => false,
        },
    };
    for path in drop_ins() {
        if let Some(dir) = path.parent().filter(|d| place.exists(d).unwrap_or(false)) {
            seen.drop_in_dirs.insert(dir.to_owned());
        }
        if let Some(f) = conf_file(place, &path)? {
            seen.drop_ins.insert(path, f);
        }
    }
    Ok(seen)
}

/// All facts.
pub fn facts(m: &Machines, node: &str, paths: &Paths, need: &Need) -> Result<Facts> {
    let mut facts = quick(m, node, paths)?;
    for p in &need.trees {
        let mut seen = tree(m.node(), p);
        let shares = facts.record.iter().flat_map(|r| r.shares.values());
        if need.quota || shares.filter(|e| e.tree.path == *p).any(ShareEntry::is_limited) {
            look_at_quota(m.node(), p, facts.record.as_ref(), &mut seen);
        }
        facts.trees.insert(p.clone(), seen);
    }
    for (p, seen) in &mut facts.trees {
        if let Ok(t) = seen {
            t.populated = m.node().populated(p).unwrap_or(true);
        }
    }
    facts.projects = projects(m.node())?;
    let recorded = need.limit_of.as_ref().and_then(|id| facts.record.as_ref()?.shares.get(id));
    let must = recorded.map(|e| e.tree.path.clone()).or(need.trees.first().filter(|_| need.limit_of.is_some()).cloned());
    datasets(m.node(), &mut facts, must.as_deref())?;
    if let Some(mut guest) = facts.guest.take() {
        guests::look_closer(m.node(), node, &facts, !need.trees.is_empty(), &mut guest)?;
        facts.guest = Some(guest);
    }
    if facts.reachable && !need.outside {
        let place = m.at(facts.place);
        deeper(&*place, paths, need, &mut facts)?;
    }
    if need.owned {
        facts.owned = Some(owned(m.node(), &facts));
    }
    Ok(facts)
}

/// What only Samba's own programs can tell.
fn deeper(place: &dyn Host, paths: &Paths, need: &Need, facts: &mut Facts) -> Result<()> {
    let has = |p: Program| place.installed(p);
    if !has(Program::Testparm)? || facts.main.is_none() {
        return Ok(());
    }
    let cmd = testparm_cmd(&paths.smb_conf);
    facts.effective = effective(&cmd, &ask(place, &cmd)?)?;
    facts.other_shares = other_shares(place, facts)?;
    facts.smbd_running = runs(place, Daemon::Smbd, &facts.effective.pid_file(Daemon::Smbd))?;
    if has(Program::Pdbedit)? && !need.without_passdb {
        facts.passdb = passdb(place, paths)?;
    }
    if has(Program::Sharesec)? {
        // Only a share with `dos filemode` ever got an ACL from us; asking costs a process.
        let own = facts.own.as_ref().map(|f| f.text.clone()).unwrap_or_default();
        let with_acl: Vec<String> = SmbConf::parse(&own)
            .sections()
            .iter()
            .filter(|s| !s.is_global() && s.get("dos filemode").as_deref() == Some("yes"))
            .map(|s| s.name.clone())
            .collect();
        for share in with_acl {
            if let Some(list) = acl(place, &share)? {
                facts.acls.insert(share, list);
            }
        }
    }
    Ok(())
}

/// How many files in the recorded trees belong to our users; what cannot be looked at makes the answer incomplete.
fn owned(host: &dyn Host, facts: &Facts) -> Owned {
    let mut owned = Owned { complete: true, ..Owned::default() };
    let Some(record) = &facts.record else { return owned };
    let uids: Vec<u32> = record.users.values().map(|u| u.uid).collect();
    if uids.is_empty() {
        return owned;
    }
    let begin = host.monotonic_ms();
    for entry in record.shares.values() {
        let shift = entry.mount.map_or(0, |m| m.ids.shift());
        let uids: Vec<u32> = uids.iter().map(|u| u + shift).collect();
        let left = SURVEY.saturating_sub(Duration::from_millis(host.monotonic_ms().saturating_sub(begin)));
        match host.survey(&entry.tree.path, &uids, &[], left) {
            Ok(s) => {
                owned.complete &= s.complete;
                for (uid, n) in s.by_uid {
                    *owned.by_uid.entry(uid - shift).or_default() += n;
                }
            }
            Err(e) => {
                tracing::warn!(path = %entry.tree.path.display(), error = %crate::error::chain(&e), "cannot look whom the files belong to");
                owned.complete = false;
            }
        }
    }
    owned
}

/// What is seen of the thing a step changes, in the place where it acts. `keep` keeps a file's content, for an undo.
pub fn see(m: &Machines, place: Place, paths: &Paths, watch: &Watch, keep: bool) -> Result<Seen> {
    let node = m.node();
    let at = m.at(place);
    let host = &*at;
    Ok(match watch {
        Watch::Nothing => Seen::Nothing,
        Watch::File(p) => match host.read(p, 16 << 20)? {
            None => Seen::Absent,
            Some(f) => Seen::File {
                sha256: sha256_hex(&f.content),
                mode: f.mode,
                uid: f.uid,
                gid: f.gid,
                content: if keep { Some(String::from_utf8_lossy(&f.content).into_owned()) } else { None },
            },
        },
        Watch::Tree(p) => {
            let t = node.tree(p)?;
            Seen::Tree { fsid: t.fsid, ino: t.ino, uid: t.uid, gid: t.gid, mode: t.mode }
        }
        Watch::UnixUser(name) => match unix_accounts(host)?.0.remove(name) {
            None => Seen::Absent,
            Some(u) => Seen::UnixUser { uid: u.uid, gid: u.gid, comment: u.comment },
        },
        Watch::UnixGroup(name) => match unix_accounts(host)?.1.remove(name) {
            None => Seen::Absent,
            Some(g) => Seen::UnixGroup { gid: g.gid, members: g.members },
        },
        Watch::SambaUser(name) => match passdb(host, paths)?.remove(name) {
            None => Seen::Absent,
            Some(u) => Seen::SambaUser { disabled: u.disabled, changed: u.changed },
        },
        Watch::ShareAcl(share) => acl(host, share)?.map_or(Seen::Absent, Seen::ShareAcl),
        Watch::Daemon(daemon) => {
            if runs(host, *daemon, &pid_file(host, paths, *daemon)?)? {
                Seen::Running
            } else {
                Seen::Absent
            }
        }
        Watch::Member(workgroup) => member(host, workgroup)?,
        Watch::Record(key) => record(node, paths)?.and_then(|r| r.part(key)).map_or(Seen::Absent, Seen::Record),
        Watch::SameHash(user) => {
            let r = record(node, paths)?;
            let same = r.is_some_and(|r| r.hashes.get(user).is_some_and(|h| r.former.get(user) == Some(h)));
            if same { Seen::Present } else { Seen::Absent }
        }
        Watch::InTree(p, name) => present(host.exists(&p.join(name))?),
        Watch::Exists(p) => present(host.exists(p)?),
        Watch::Quota(p, means) => see_limit(node, p, means)?,
        Watch::UserQuota(p, means, uid) => see_user_limit(node, p, means, *uid)?,
        Watch::Project(p) => Seen::Project(node.quota(p)?.project.unwrap_or_default()),
        Watch::Guest(vmid) => guests::see(node, *vmid)?,
        Watch::GuestLine(vmid, key) => {
            guests::conf(node, *vmid)?.and_then(|c| c.coming(key).map(str::to_owned)).map_or(Seen::Absent, Seen::Line)
        }
    })
}

/// The limit of a tree, by one means, whatever else could limit it.
fn see_limit(node: &dyn Host, path: &Path, means: &Means) -> Result<Seen> {
    let t = node.tree(path)?;
    let bytes = match means {
        Means::Dataset { name } => {
            refquota(node, BTreeSet::from([name.clone()]))?.get(name).and_then(|n| n.get("refquota")).copied().unwrap_or(0)
        }
        means => node.figures(path, means)?.limit,
    };
    Ok(Seen::Limit { fsid: t.fsid, ino: t.ino, bytes: (bytes > 0).then_some(bytes) })
}

/// What limits a user in a tree.
fn see_user_limit(node: &dyn Host, path: &Path, means: &UserMeans, uid: u32) -> Result<Seen> {
    let t = node.tree(path)?;
    let bytes = match means {
        UserMeans::Dataset { name } => {
            let property = format!("userquota@{uid}");
            zfs_numbers(node, &quota::zfs_get(&property, [name.clone()]))?
                .get(name)
                .and_then(|n| n.get(&property))
                .copied()
                .unwrap_or(0)
        }
        UserMeans::FileSystem => node.user_figures(path, uid)?.limit,
    };
    Ok(Seen::Limit { fsid: t.fsid, ino: t.ino, bytes: (bytes > 0).then_some(bytes) })
}

fn present(there: bool) -> Seen {
    if there { Seen::Present } else { Seen::Absent }
}

/// Asks which computer account's secret Samba holds for a domain.
pub fn trust_cmd(workgroup: &Workgroup) -> Cmd {
    Cmd::new(Program::Net, ["primarytrust".to_owned(), "dumpinfo".to_owned(), format!("--workgroup={workgroup}")])
}

/// The computer account whose secret Samba holds for a domain. Asks no domain controller.
fn member(host: &dyn Host, workgroup: &Workgroup) -> Result<Seen> {
    let cmd = trust_cmd(workgroup);
    let out = ask(host, &cmd)?;
    match net_ads::parse_trust(&out.out()) {
        Some((account, sid)) => Ok(Seen::Member { account, sid }),
        // Only its own words say that there is none: a program that was killed says nothing.
        None if no_trust(&out) => Ok(Seen::Absent),
        None => Err(Error::new(Kind::Service, "Samba does not say whether it is a member of the domain").story(|s| {
            s.command = Some(cmd.to_string());
            s.exit = Some(out.status.to_string());
            s.stderr = Some(programs::complaint(Program::Net, &out));
        })),
    }
}

/// Samba's words for that it holds none.
pub fn no_trust(out: &Output) -> bool {
    out.status != 0 && [out.out(), out.err()].iter().any(|t| t.contains("Unable to fetch the information for domain"))
}

/// Where a daemon keeps its pid.
fn pid_file(host: &dyn Host, paths: &Paths, daemon: Daemon) -> Result<PathBuf> {
    let mut global = Effective::default();
    if host.installed(Program::Testparm)? && host.exists(&paths.smb_conf)? {
        let cmd = testparm_cmd(&paths.smb_conf);
        global = effective(&cmd, &ask(host, &cmd)?)?;
    }
    Ok(global.pid_file(daemon))
}

/// What our own checks find where `testparm` is silent: lines without `=`, includes, VFS modules and paths that are not there.
/// `texts` are the files of a configuration by their (live) path.
pub fn silent_problems(host: &dyn Host, texts: &[(&Path, &str)]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut modules = BTreeSet::new();
    let mut include_texts: Vec<(PathBuf, String)> = Vec::new();
    for (path, text) in texts {
        let conf = SmbConf::parse(text);
        found.extend(conf.findings().iter().map(|f| format!("{} line {}: {}", path.display(), f.line, f.text)));
        for i in conf.includes() {
            let target = PathBuf::from(&i.value);
            let known = texts.iter().any(|(p, _)| *p == target) || i.value.eq_ignore_ascii_case("registry");
            if i.value.contains('%') {
                found.push(format!(
                    "{} line {}: include {} depends on the client and cannot be checked",
                    path.display(),
                    i.line,
                    i.value
                ));
            } else if !known {
                match host.read_text(&target)? {
                    None => found.push(format!("{} line {}: include {} does not exist", path.display(), i.line, i.value)),
                    Some(t) => include_texts.push((target, t)),
                }
            }
        }
        for s in conf.sections() {
            modules.extend(conf.vfs_modules(&s.name).into_iter().map(|m| (s.name.clone(), m)));
            if let Some(p) = s.get("dfree command") {
                if !p.is_empty() && !host.exists(Path::new(p.as_ref()))? {
                    found.push(format!("[{}] dfree command {p} does not exist", s.name));
                }
            }
            if let Some(p) = s.get("path") {
                if !p.contains('%') && !p.is_empty() && !host.exists(Path::new(p.as_ref()))? {
                    found.push(format!("[{}] path {p} does not exist", s.name));
                }
            }
        }
    }
    for (path, text) in &include_texts {
        let conf = SmbConf::parse(text);
        found.extend(conf.findings().iter().map(|f| format!("{} line {}: {}", path.display(), f.line, f.text)));
    }
    if !modules.is_empty() {
        let dirs: Vec<PathBuf> = host
            .list(Path::new("/usr/lib"))?
            .into_iter()
            .filter(|n| n.contains("-linux-gnu"))
            .map(|n| Path::new("/usr/lib").join(n).join("samba/vfs"))
            .collect();
        for (section, module) in modules {
            let name = module.split(':').next().unwrap_or_default();
            let mut there = false;
            for d in &dirs {
                there |= host.exists(&d.join(format!("{name}.so")))?;
            }
            if !there {
                found.push(format!("[{section}] VFS module {name} is not installed"));
            }
        }
    }
    Ok(found)
}
