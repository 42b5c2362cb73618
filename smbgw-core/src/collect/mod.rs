// SPDX-License-Identifier: MIT OR Apache-2.0
//! One look at the Samba of one gateway, wherever it runs: figures of the shares and of the gateway, and how each source did. It knows
//! where figures are and what asking costs; it must not know how they are kept or shown, nor other gateways.
//!
//! - Nothing here is asked for at any price: each source has a deadline, and the next look at a costly one waits for twenty times as long as the
//!   last one took, so that it takes at most a twentieth of one processor. Meanwhile its last figures stand.
//! - A source that fails costs its own figures only. A figure that is not known is absent.
//! - What was seen last is in [`Memory`], which the caller keeps: rates need two looks.

mod counted;
mod logins;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::effect::{Cmd, Place, Program};
use crate::error::{Error, Kind, Result, chain};
use crate::facts::Paths;
use crate::format::smbstatus;
use crate::host::{Host, Machines, Secrets, programs};
use crate::metrics::{Key, Sample, Scope, Source, SourceState, by_name};
use crate::plan::accounts;
use crate::types::VmId;

pub use counted::Counted;
pub use logins::Logins;

/// `lock directory` of Debian's Samba: sessions, and files that are open.
const SESSIONS: &str = "/run/samba/smbXsrv_session_global.tdb";
const OPENS: &str = "/run/samba/smbXsrv_open_global.tdb";
/// How long Samba may take to tell of sessions or files.
const ASK_MS: u64 = 3_000;
/// Open files are looked at so often.
const FILES_EVERY_MS: i64 = 60_000;
/// Where sessions and open files together take longer than this, they have their turns one after the other.
const BOTH_MS: u64 = 250;
/// So long what was told of sessions stands for that.
const STANDS_MS: i64 = 20_000;
/// The next look waits for so many times what the last one took.
const PATIENCE: i64 = 20;
/// What is kept of an answer; see [`crate::host::Output`]. One that is as long was cut off.
const STDOUT_LIMIT: usize = 4 << 20;
/// After so long nothing more is asked of a gateway in one look.
const BUDGET_MS: u64 = 6_000;
/// A reason is a line, whatever a container says.
const REASON: usize = 400;

/// What is remembered of a gateway from one look to the next.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    counted: Counted,
    logins: Logins,
    sessions: Kept,
    files: Kept,
    /// By pid the shares it has tree connects to, and which others (under `None`).
    tcons: BTreeMap<u32, BTreeSet<Option<String>>>,
    /// Processor time of the container when it was last seen, and what was counted.
    guest_cpu: Option<(u64, u64)>,
    /// When each source last answered.
    answered: BTreeMap<Source, i64>,
}

/// Figures of a costly source, and when it is asked again.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    at: i64,
    took_ms: u64,
    next: i64,
    samples: Vec<Sample>,
    /// Why there are none.
    why: Option<String>,
}

impl Kept {
    /// A clock that went back does not keep it from being asked.
    fn is_due(&self, now: i64) -> bool {
        now >= self.next || now < self.at
    }

    /// Whether what was told a moment ago may stand once more, because another source that is due now takes its time as well.
    fn makes_way(&self, other: &Kept, now: i64) -> bool {
        let fresh = self.why.is_none() && (0..=STANDS_MS).contains(&(now - self.at));
        fresh && other.is_due(now) && self.took_ms + other.took_ms > BOTH_MS
    }
}

/// The gateway that is looked at.
pub struct Target<'a> {
    /// Where its things lie.
    pub paths: &'a Paths,
    /// Where its Samba is.
    pub place: Place,
    /// Its shares: storage id by the name in SMB in small letters, and where Samba has the tree.
    pub shares: &'a BTreeMap<String, (String, PathBuf)>,
    /// Its Samba serves nothing else.
    pub alone: bool,
    /// It is in a domain.
    pub member: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Figures, unsorted.
    pub samples: Vec<Sample>,
    /// How the sources did.
    pub sources: Vec<SourceState>,
    /// Something did not answer in its time.
    pub timed_out: bool,
}

struct Look<'a> {
    target: &'a Target<'a>,
    host: &'a dyn Host,
    now: i64,
    began: u64,
    found: Found,
}

impl Look<'_> {
    fn put(&mut self, scope: Scope, name: &str, object: &str, value: f64) {
        if let (Some(m), true) = (by_name(scope, name), value.is_finite()) {
            self.found.samples.push(Sample { key: Key::new(m, object), value });
        }
    }

    fn gateway(&mut self, name: &str, value: f64) {
        let object = self.target.paths.gateway.to_string();
        self.put(Scope::Gateway, name, &object, value);
    }

    /// Asks a source, and notes how it did.
    fn ask(&mut self, memory: &mut Memory, source: Source, how: impl FnOnce(&mut Self, &mut Memory) -> Result<()>) {
        let (began, before) = (self.host.monotonic_ms(), self.found.samples.len());
        let late = began - self.began > BUDGET_MS;
        let done = if late { Err(Error::new(Kind::Timeout, "the gateway takes too long to answer")) } else { how(self, memory) };
        self.found.timed_out |= done.as_ref().is_err_and(|e| e.kind() == Kind::Timeout);
        let why = done.err().map(|e| chain(&e).chars().take(REASON).collect());
        match &why {
            None => drop(memory.answered.insert(source, self.now)),
            // Half an answer is none.
            Some(_) => self.found.samples.truncate(before),
        }
        self.found.sources.push(SourceState {
            source,
            gateway: Some(self.target.paths.gateway.to_string()),
            at: memory.answered.get(&source).copied(),
            took_ms: self.host.monotonic_ms() - began,
            why,
        });
    }

    fn smbstatus(&self, args: &[&str]) -> Result<String> {
        let cmd: Cmd = accounts::samba_at(self.target.paths, Program::Smbstatus, args).within_ms(ASK_MS);
        let out = self.host.run(&cmd, &Secrets::default())?;
        if out.timed_out {
            return Err(Error::new(Kind::Timeout, format!("{cmd} did not answer within {} s", ASK_MS / 1000)));
        }
        if out.stdout.len() >= STDOUT_LIMIT {
            return Err(Error::new(Kind::Unsupported, format!("{cmd} answers with more than {} MiB", STDOUT_LIMIT >> 20)));
        }
        if out.status != 0 {
            return Err(Error::new(Kind::Service, format!("{cmd} failed: {}", programs::complaint(Program::Smbstatus, &out))));
        }
        Ok(out.out())
    }

    /// Asks a costly source if it is due; its figures stand until the next time.
    fn paced(&mut self, kept: &mut Kept, every: i64, how: impl FnOnce(&mut Self) -> Result<Vec<Sample>>) -> Result<()> {
        if kept.is_due(self.now) {
            let began = self.host.monotonic_ms();
            let fresh = how(self);
            kept.took_ms = self.host.monotonic_ms() - began;
            let pause = every.max(PATIENCE * i64::try_from(kept.took_ms).unwrap_or(0));
            (kept.at, kept.next) = (self.now, self.now + pause);
            (kept.samples, kept.why) = match fresh {
                Ok(samples) => (samples, None),
                Err(e) => {
                    let late = e.kind() == Kind::Timeout;
                    self.found.timed_out |= late;
                    (Vec::new(), Some(chain(&e)))
                }
            };
        }
        if let Some(why) = &kept.why {
            return Err(Error::new(Kind::Service, why.clone()));
        }
        self.found.samples.extend(kept.samples.iter().cloned());
        Ok(())
    }
}

/// Looks.
pub fn gateway(machines: &Machines, target: &Target<'_>, memory: &mut Memory, now: i64) -> Found {
    let host = machines.at(target.place);
    let mut look = Look { target, host: &*host, now, began: machines.node().monotonic_ms(), found: Found::default() };
    let mut runs = false;
    look.ask(memory, Source::Service, |l, _| {
        runs = l.runs("smbd")?;
        l.gateway("up", f64::from(u8::from(runs)));
        if l.target.member {
            let winbind = l.runs("winbindd")?;
            l.gateway("winbind_up", f64::from(u8::from(winbind)));
        }
        Ok(())
    });
    let reached = look.found.sources.iter().all(|s| s.why.is_none());
    if reached && runs {
        look.ask(memory, Source::Sessions, Look::sessions);
        look.ask(memory, Source::Files, Look::files);
        look.ask(memory, Source::Profile, counted::look);
    } else {
        let why = if reached { "smbd does not run" } else { "the gateway cannot be looked into" };
        for source in [Source::Sessions, Source::Files, Source::Profile] {
            look.ask(memory, source, |_, _| Err(Error::new(Kind::Service, why)));
        }
        // What was running counts anew when it comes back.
        memory.tcons.clear();
    }
    if reached {
        look.ask(memory, Source::Logins, logins::look);
    }
    if let Place::Ct(vmid) = target.place {
        look.ask(memory, Source::Guest, |l, m| l.guest(m, machines.node(), vmid));
    }
    look.found
}

impl Look<'_> {
    /// Whether a daemon runs, by its pid file: `smbstatus` prints empty lists for one that does not.
    fn runs(&self, daemon: &str) -> Result<bool> {
        let file = self.host.read(Path::new(&format!("/run/samba/{daemon}.pid")), 64)?;
        let pid = file.and_then(|f| String::from_utf8_lossy(&f.content).trim().parse().ok());
        Ok(match pid {
            Some(pid) => self.host.process(pid, daemon)?.is_some(),
            None => false,
        })
    }

    /// Whether one of Samba's databases has no record: then there is nothing that a program would have to be started for.
    fn is_empty(&self, database: &str) -> bool {
        self.host.records(Path::new(database)).is_ok_and(|n| n == Some(0))
    }

    fn share(&self, service: &str) -> Option<&str> {
        self.target.shares.get(&service.to_lowercase()).map(|(id, _)| id.as_str())
    }

    fn sessions(&mut self, memory: &mut Memory) -> Result<()> {
        let mut kept = std::mem::take(&mut memory.sessions);
        if kept.makes_way(&memory.files, self.now) {
            kept.next = kept.next.max(self.now + 1);
        }
        let told = self.paced(&mut kept, 0, |l| {
            // Numbers, not names: Samba would look two of them up for each session.
            // Two calls: with -p it ends after the sessions, whatever else it was asked for. Who comes or goes between counts where he was seen.
            let (p, s) =
                if l.is_empty(SESSIONS) { Default::default() } else { (l.smbstatus(&["-p", "-n"])?, l.smbstatus(&["-S"])?) };
            let (sessions, tcons) = (smbstatus::session_lines(&p), smbstatus::tcon_lines(&s));
            memory.tcons.clear();
            let mut by_share: BTreeMap<&str, BTreeMap<u32, u64>> = BTreeMap::new();
            for (service, pid) in tcons.iter().filter(|(service, _)| *service != "IPC$") {
                let id = l.share(service);
                memory.tcons.entry(*pid).or_default().insert(id.map(str::to_owned));
                if let Some((id, _)) = id.and_then(|_| l.target.shares.get(&service.to_lowercase())) {
                    *by_share.entry(id).or_default().entry(*pid).or_default() += 1;
                }
            }
            let mut of_pid: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
            for s in &sessions {
                of_pid.entry(s.pid).or_default().push(account(s.who));
            }
            let number = |n: usize| u32::try_from(n).map_or(f64::MAX, f64::from);
            let mut all = Vec::new();
            let mut put = |scope: Scope, name: &str, object: &str, value: f64| {
                all.extend(by_name(scope, name).map(|m| Sample { key: Key::new(m, object), value }));
            };
            for (id, _) in l.target.shares.values() {
                let none = BTreeMap::new();
                let pids = by_share.get(id.as_str()).unwrap_or(&none);
                let tcons: u64 = pids.values().sum();
                let sessions: usize = pids
                    .iter()
                    .map(|(pid, tcons)| of_pid.get(pid).map_or(0, |s| s.len().min(usize::try_from(*tcons).unwrap_or(0))))
                    .sum();
                let users: BTreeSet<&str> = pids.keys().filter_map(|pid| of_pid.get(pid)).flatten().copied().collect();
                put(Scope::Share, "sessions", id, number(sessions));
                put(Scope::Share, "tree_connects", id, number(usize::try_from(tcons).unwrap_or(0)));
                put(Scope::Share, "users", id, number(users.len()));
            }
            let gateway = l.target.paths.gateway.to_string();
            let mut of_gateway = |name: &str, n: usize| put(Scope::Gateway, name, &gateway, number(n));
            let count = |is: &dyn Fn(&smbstatus::SessionLine<'_>) -> bool| sessions.iter().filter(|s| is(s)).count();
            of_gateway("sessions", sessions.len());
            of_gateway("tree_connects", tcons.iter().filter(|(s, _)| *s != "IPC$").count());
            of_gateway("users", sessions.iter().map(|s| account(s.who)).collect::<BTreeSet<_>>().len());
            of_gateway("encrypted_sessions", count(&|s| s.encrypted));
            of_gateway("signed_sessions", count(&|s| s.signed || s.encrypted));
            of_gateway("legacy_sessions", count(&|s| s.dialect != "SMB3_11"));
            Ok(all)
        });
        if kept.why.is_some() {
            // What nobody knows any more gives nothing to a share.
            memory.tcons.clear();
        }
        memory.sessions = kept;
        told
    }

    fn files(&mut self, memory: &mut Memory) -> Result<()> {
        let mut kept = std::mem::take(&mut memory.files);
        let told = self.paced(&mut kept, FILES_EVERY_MS, |l| {
            let text = if l.is_empty(OPENS) { String::new() } else { l.smbstatus(&["-L", "-B", "-n"])? };
            let shares: Vec<(&str, String)> =
                l.target.shares.values().map(|(id, path)| (id.as_str(), path.display().to_string())).collect();
            let trees: Vec<&str> = shares.iter().map(|(_, t)| t.as_str()).collect();
            let opens = smbstatus::parse_opens(&text, &trees);
            let mut by_tree: BTreeMap<&str, u32> = BTreeMap::new();
            for o in &opens {
                *by_tree.entry(o.tree.as_str()).or_default() += 1;
            }
            let open: BTreeSet<u32> = opens.iter().map(|o| o.pid).collect();
            let (locks, all_locks) = smbstatus::count_locks(&text, &trees, |pid| open.contains(&pid));
            let number = |n: u64| u32::try_from(n).map_or(f64::MAX, f64::from);
            let mut all = Vec::new();
            let mut put = |scope: Scope, name: &str, object: &str, value: f64| {
                all.extend(by_name(scope, name).map(|m| Sample { key: Key::new(m, object), value }));
            };
            for (i, (id, tree)) in shares.iter().enumerate() {
                put(Scope::Share, "open_files", id, f64::from(by_tree.get(tree.as_str()).copied().unwrap_or(0)));
                put(Scope::Share, "locks", id, number(locks.get(i).copied().unwrap_or(0)));
            }
            let gateway = l.target.paths.gateway.to_string();
            put(Scope::Gateway, "open_files", &gateway, number(opens.len() as u64));
            put(Scope::Gateway, "locks", &gateway, number(all_locks));
            Ok(all)
        });
        memory.files = kept;
        told
    }

    /// What the control groups of a container say; the newer hierarchy first.
    fn guest(&mut self, memory: &mut Memory, node: &dyn Host, vmid: VmId) -> Result<()> {
        let cpu = group_file(node, vmid, &["", "unified", "cpu,cpuacct", "cpuacct"], &["cpu.stat", "cpuacct.usage"])?;
        let used = group_file(node, vmid, &["", "unified", "memory"], &["memory.current", "memory.usage_in_bytes"])?;
        let limit = group_file(node, vmid, &["", "unified", "memory"], &["memory.max", "memory.limit_in_bytes"])?;
        let (Some(cpu), Some(used)) = (cpu, used) else {
            return Err(Error::new(Kind::NotFound, format!("container {vmid} has no control group: it does not run")));
        };
        let micros = match cpu.lines().find_map(|l| l.strip_prefix("usage_usec ")) {
            Some(n) => n.trim().parse().unwrap_or(0),
            None => cpu.trim().parse::<u64>().unwrap_or(0) / 1000,
        };
        let (before, sum) = memory.guest_cpu.unwrap_or((micros, 0));
        // A container that was started anew begins at nothing.
        let sum = sum + if micros >= before { micros - before } else { micros };
        memory.guest_cpu = Some((micros, sum));
        self.gateway("guest_cpu", seconds(sum));
        let bytes = |t: &str| t.trim().parse::<u64>().ok().filter(|b| *b < 1 << 60).map(as_f64);
        if let Some(b) = bytes(&used) {
            self.gateway("guest_memory_bytes", b);
        }
        if let Some(b) = limit.as_deref().and_then(bytes) {
            self.gateway("guest_memory_limit_bytes", b);
        }
        Ok(())
    }
}

/// A file of a container's own control group, wherever the machine has it.
fn group_file(node: &dyn Host, vmid: VmId, bases: &[&str], names: &[&str]) -> Result<Option<String>> {
    for base in bases {
        for dir in [format!("lxc/{vmid}"), format!("lxc.payload.{vmid}")] {
            for name in names {
                let path = Path::new("/sys/fs/cgroup").join(base).join(&dir).join(name);
                if let Some(f) = node.read(&path, 1 << 16)? {
                    return Ok(Some(String::from_utf8_lossy(&f.content).into_owned()));
                }
            }
        }
    }
    Ok(None)
}

/// User and group of a session line; the machine, which differs between sessions of one user, stands behind two blanks or more.
fn account(who: &str) -> &str {
    who.rsplit_once("  ").map_or(who, |(a, _)| a.trim_end())
}

/// Microseconds as seconds.
fn seconds(micros: u64) -> f64 {
    as_f64(micros) / 1e6
}

/// Exact up to 2⁵³, which is eight thousand terabytes.
#[allow(clippy::cast_precision_loss)]
fn as_f64(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_stand_once_where_open_files_are_due_and_both_take_long() {
        let kept = |at: i64, took_ms: u64, next: i64| Kept { at, took_ms, next, ..Kept::default() };
        let now = 1_000_000;
        let (sessions, files) = (kept(now - 10_000, 160, now - 7_000), kept(now - 60_000, 230, now));
        assert!(sessions.makes_way(&files, now));
        assert!(!sessions.makes_way(&kept(now - 50_000, 230, now + 10_000), now), "open files are not due");
        assert!(!kept(now - 10_000, 20, now - 9_000).makes_way(&files, now), "both together are quick enough");
        assert!(!kept(now - 30_000, 160, now - 20_000).makes_way(&files, now), "what was told is old");
        assert!(!kept(now + 10_000, 160, now + 20_000).makes_way(&files, now), "the clock went back");
        let failed = Kept { why: Some("no answer".into()), ..kept(now - 10_000, 160, now - 7_000) };
        assert!(!failed.makes_way(&files, now), "there is nothing that could stand");
    }
}
