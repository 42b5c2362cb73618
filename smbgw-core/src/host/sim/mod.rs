// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small machine in memory: a Debian node with Samba, or a node of Proxmox VE with containers, that behaves. Programs do what the real ones do, files keep what was
//! synced, and any call can fail or be the last. It is a fake and no mock: a test says what is so, not which calls came.
//!
//! It knows the machine; it must not know the product: nothing here may depend on what a share of ours looks like.
//!
//! ```
//! use smbgw_core::effect::{Cmd, Program};
//! use smbgw_core::host::{Host, Secrets, sim::SimHost};
//!
//! let sim = SimHost::debian();
//! let before = sim.world();
//! let host: &dyn Host = &sim;
//! let out = host.run(&Cmd::new(Program::Groupadd, ["--gid", "2001", "staff"]), &Secrets::default()).unwrap();
//! assert_eq!(out.status, 0);
//! assert_eq!(before.differences(&sim.world())[0], "/etc/group: + staff:x:2001:");
//! ```
//!
//! [`SimHost`] is a handle: clones are the same machine, [`SimHost::snapshot`] is another one in the same state. What an
//! administrator can see of it is the [`World`]; clock, random numbers, process numbers, locks and armed faults are not part of it.

mod accounts;
mod args;
mod client;
mod config;
mod domain;
mod faults;
mod files;
mod guests;
mod images;
mod net;
mod pct;
mod quotas;
mod samba;
#[cfg(test)]
mod tests;
mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::effect::{Cmd, FileSpec, Program, Stdin};
use crate::error::{Error, Kind, Result};
use crate::format::smb_profile::{self, Counters};
use crate::format::tdb;
use crate::host::guest::Server;
use crate::host::programs;
use crate::host::{FileSeen, Host, Job, Lock, Output, ProcessId, Secrets, Space, Survey, TailSeen, Talk, TreeSeen, Walk};
use crate::net::{DnsAnswer, DnsAsk, Reach};
use crate::quota::{Figures, Means, QuotaSeen, Tag};

pub use accounts::{Group, User, gids, groups, is_member, user, users};
pub use config::{Config, Share};
pub use domain::{Kind as AccountKind, Rights, SECRETS, SimAccount, SimDomain, WINBINDD_PID, Winbindd};
pub use faults::{Death, Fault, Trouble};
pub use files::{Detached, Files, Mount, Node, Thing};
pub use guests::{Bind, Guest, Numbers};
pub use net::{Mood, SimDns, SimNet, SimRecord};
pub use quotas::Limits;
pub use samba::{Access, Account, Ace, PID_FILE, SMB_CONF, Session, Smbd, nt_hash};
pub use world::{STOCK_SMB_CONF, World};

use faults::Faults;

/// The longest answer in a conversation.
const ANSWER_LIMIT: usize = 32 << 20;

/// What a program said and how it ended.
#[derive(Debug, Clone, Default)]
struct Said {
    status: i32,
    out: String,
    err: String,
}

impl Said {
    fn both(status: i32, out: impl Into<String>, err: impl Into<String>) -> Self {
        Self { status, out: out.into(), err: err.into() }
    }
    fn ok(out: impl Into<String>) -> Self {
        Self::both(0, out, "")
    }
    fn out(status: i32, out: impl Into<String>) -> Self {
        Self::both(status, out, "")
    }
    fn err(status: i32, err: impl Into<String>) -> Self {
        Self::both(status, "", err)
    }
}

/// A process that runs longer than a call.
#[derive(Debug, Clone)]
struct Process {
    start: u64,
    program: Program,
    /// The container at whose other end it is: it ends with that.
    guest: Option<u32>,
}

/// Who holds a lock.
#[derive(Debug, Clone)]
struct Holder {
    note: String,
    /// Which guard; `None` is another process.
    guard: Option<u64>,
}

/// The world and what makes it tick.
#[derive(Debug, Clone)]
struct Machine {
    world: World,
    clock_ms: i64,
    uptime_ms: u64,
    random: u64,
    next_pid: i32,
    /// Samba's counter in passdb.tdb; it only ever grows.
    next_rid: u32,
    /// The same counter of each container's Samba.
    guest_rids: BTreeMap<u32, u32>,
    /// When the HA manager looks at its resources next, by uptime.
    next_look: u64,
    own: ProcessId,
    processes: BTreeMap<i32, Process>,
    locks: BTreeMap<PathBuf, Holder>,
    next_guard: u64,
    faults: Faults,
    calls: u64,
    appends: u64,
    dead: Option<Death>,
    commands: Vec<String>,
}

fn dead() -> Error {
    Error::new(Kind::Interrupted, "the machine is dead")
}

fn injected(what: &str) -> Error {
    Error::io(format!("cannot {what}"), io::Error::other("injected failure"))
}

impl Machine {
    fn wait(&mut self, ms: u64) {
        self.clock_ms += i64::try_from(ms).unwrap_or(0);
        self.uptime_ms += ms;
    }

    /// What others do in the meantime.
    fn meanwhile(&mut self) {
        if self.uptime_ms >= self.next_look && self.dead != Some(Death::PowerCut) {
            self.next_look = self.uptime_ms + pct::LOOK_MS;
            pct::look_after(self);
        }
    }

    /// Each call takes a millisecond, and none answers after death.
    fn tick(&mut self) -> Result<()> {
        if self.dead.is_some() {
            return Err(dead());
        }
        self.wait(1);
        self.meanwhile();
        Ok(())
    }

    fn seconds(&self) -> u32 {
        u32::try_from(self.clock_ms / 1000).unwrap_or(u32::MAX)
    }

    fn new_pid(&mut self) -> i32 {
        self.next_pid += 1;
        self.next_pid
    }

    fn held_by_other(&self, path: &Path) -> bool {
        self.locks.contains_key(path)
    }

    fn fault(&mut self, append: bool) -> Option<Fault> {
        self.calls += 1;
        self.appends += u64::from(append);
        self.faults.due(self.calls, append.then_some(self.appends))
    }

    fn die(&mut self, death: Death) -> Error {
        self.dead = Some(death);
        dead()
    }

    /// Where pids of smbd and winbindd live.
    fn start_of(&self, pid: i32) -> Option<(u64, Program)> {
        if let Some(p) = self.processes.get(&pid) {
            return Some((p.start, p.program));
        }
        if self.world.winbindd.as_ref().is_some_and(|w| w.pid == pid) {
            return Some((u64::from(pid.unsigned_abs()) * 7, Program::Winbindd));
        }
        let smbd = self.world.smbd.as_ref()?;
        let runs = smbd.pid == pid || smbd.sessions.iter().any(|s| s.pid == pid);
        runs.then(|| (u64::from(pid.unsigned_abs()) * 7, Program::Smbd))
    }

    fn run(&mut self, cmd: &Cmd, stdin: &[u8]) -> Said {
        match cmd.program {
            Program::Groupadd | Program::Groupdel | Program::Gpasswd | Program::Useradd | Program::Userdel | Program::Usermod => {
                accounts::run(self, cmd.program, &cmd.args)
            }
            Program::Smbclient => client::run(self, &cmd.args),
            Program::Pct | Program::LxcInfo | Program::HaManager => pct::run(self, cmd.program, &cmd.args),
            Program::Debootstrap | Program::Tar | Program::Zstd | Program::Install | Program::Rm | Program::Sha256sum => {
                images::run(self, cmd.program, &cmd.args)
            }
            Program::Zfs => quotas::zfs(self, &cmd.args),
            program => samba::run(self, program, &cmd.args, stdin),
        }
    }
}

/// The simulated machine. See the head of this module.
#[derive(Clone)]
pub struct SimHost(Rc<RefCell<Machine>>, Option<u32>);

impl Default for SimHost {
    fn default() -> Self {
        Self::debian()
    }
}

impl SimHost {
    /// A machine with [`World::debian`].
    pub fn debian() -> Self {
        Self::new(World::debian())
    }

    /// A machine with [`World::proxmox`].
    pub fn proxmox() -> Self {
        Self::new(World::proxmox())
    }

    /// A machine with that world. Its clock stands at 2026-01-01 00:00 UTC.
    pub fn new(world: World) -> Self {
        Self(
            Rc::new(RefCell::new(Machine {
                world,
                clock_ms: 1_767_225_600_000,
                uptime_ms: 60_000,
                random: 0x5eed,
                next_pid: 1000,
                next_rid: 1000,
                guest_rids: BTreeMap::new(),
                next_look: 0,
                own: ProcessId { pid: 1000, start: 5000 },
                processes: BTreeMap::new(),
                locks: BTreeMap::new(),
                next_guard: 0,
                faults: Faults::default(),
                calls: 0,
                appends: 0,
                dead: None,
                commands: Vec::new(),
            })),
            None,
        )
    }

    /// Another machine in the same state; what happens to one does not touch the other.
    pub fn snapshot(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())), self.1)
    }

    /// The world as it is, to keep and compare.
    pub fn world(&self) -> World {
        self.0.borrow().world.clone()
    }

    /// Changes the world from outside, as an administrator would.
    pub fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        change(&mut self.0.borrow_mut().world)
    }

    /// Starts smbd as at boot. Panics if its configuration is broken: that is a mistake in the test.
    pub fn start_smbd(&self) {
        assert!(samba::start_smbd(&mut self.0.borrow_mut()), "smb.conf cannot be loaded");
    }

    /// The smbd of each container looks at its files, as it does by itself before the next client.
    pub fn reload_guests(&self) {
        for guest in self.0.borrow_mut().world.guests.values_mut() {
            samba::reload(&mut guest.world);
        }
    }

    /// Starts winbindd as at boot; whether it came up.
    pub fn start_winbindd(&self) -> bool {
        guests::inside(&mut self.0.borrow_mut(), self.1, |m| Ok(domain::start_winbindd(m))).unwrap_or(false)
    }

    /// A client connects and stays; `user` may be `DOMAIN\\account`. The pid of its smbd child, or the status it is refused with.
    pub fn connect(&self, user: &str, password: &str, share: &str) -> Result<i32, &'static str> {
        let mut m = self.0.borrow_mut();
        let done = guests::inside(&mut m, self.1, |m| Ok(Self::log_in(m, user, password, share)));
        done.unwrap_or(Err("NT_STATUS_HOST_UNREACHABLE"))
    }

    fn log_in(m: &mut Machine, user: &str, password: &str, share: &str) -> Result<i32, &'static str> {
        let current = samba::load(&m.world.files).config;
        let Some(smbd) = &m.world.smbd else { return Err("NT_STATUS_CONNECTION_REFUSED") };
        let config = current.unwrap_or_else(|| smbd.config.clone());
        let user = match user.contains('\\') {
            true => domain::log_in(&m.world, &config, user, password)?.user,
            false => client::log_in(&m.world, user, password)?,
        };
        let share = config.share(share).filter(|s| s.is("available")).ok_or("NT_STATUS_BAD_NETWORK_NAME")?;
        let access = samba::access(&m.world, share, &user.name).ok_or("NT_STATUS_ACCESS_DENIED")?;
        let session =
            Session { pid: m.new_pid(), user: user.name, shares: vec![(share.name.clone(), access)], files: Vec::new() };
        let pid = session.pid;
        if let Some(smbd) = &mut m.world.smbd {
            smbd.sessions.push(session);
        }
        Ok(pid)
    }

    /// What a user may do in a share now, by configuration and share ACL; `None` if refused or absent.
    pub fn access(&self, user: &str, share: &str) -> Option<Access> {
        let look = |m: &mut Machine| {
            let config = samba::load(&m.world.files).config;
            Ok(config.and_then(|c| samba::access(&m.world, c.share(share)?, user)))
        };
        guests::inside(&mut self.0.borrow_mut(), self.1, look).ok().flatten()
    }

    /// What smb.conf means to Samba now; `None` if it cannot be loaded.
    pub fn config(&self) -> Option<Config> {
        guests::inside(&mut self.0.borrow_mut(), self.1, |m| Ok(samba::load(&m.world.files).config)).ok().flatten()
    }

    /// Sets the wall clock, in milliseconds since 1970.
    pub fn set_clock(&self, ms: i64) {
        self.0.borrow_mut().clock_ms = ms;
    }

    /// Lets time pass on both clocks.
    pub fn pass(&self, time: Duration) {
        self.0.borrow_mut().wait(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }

    /// Another process takes a lock and keeps it. `/etc/.pwd.lock` makes the account tools wait.
    pub fn hold_lock(&self, path: impl AsRef<Path>, note: &str) {
        let holder = Holder { note: note.to_owned(), guard: None };
        self.0.borrow_mut().locks.insert(path.as_ref().to_owned(), holder);
    }

    /// That process lets go.
    pub fn release_lock(&self, path: impl AsRef<Path>) {
        self.0.borrow_mut().locks.remove(path.as_ref());
    }

    // ---- faults ----

    /// Calls so far that act on the machine: writes, removals, locks, and every command.
    pub fn calls(&self) -> u64 {
        self.0.borrow().calls
    }

    /// Appends so far, which is what a journal does.
    pub fn journal_writes(&self) -> u64 {
        self.0.borrow().appends
    }

    /// Every command that was started, as printed.
    pub fn commands(&self) -> Vec<String> {
        self.0.borrow().commands.clone()
    }

    /// Arms a fault for the n-th acting call from now (1 is the next).
    pub fn arm_call(&self, n: u64, fault: Fault) {
        let mut m = self.0.borrow_mut();
        let at = m.calls + n;
        m.faults.at_call(at, fault);
    }

    /// Arms a fault for the n-th append from now.
    pub fn arm_append(&self, n: u64, fault: Fault) {
        let mut m = self.0.borrow_mut();
        let at = m.appends + n;
        m.faults.at_append(at, fault);
    }

    /// Arms trouble for the n-th command from now of a program whose printed form contains `text`.
    pub fn arm_command(&self, program: Program, text: &str, n: u64, trouble: Trouble) {
        self.0.borrow_mut().faults.at_command(program, text, n, trouble);
    }

    /// The n-th acting call from now fails and does nothing.
    pub fn fail_call(&self, n: u64) {
        self.arm_call(n, Fault::Fails);
    }

    /// The n-th acting call from now does its work and fails.
    pub fn fail_after(&self, n: u64) {
        self.arm_call(n, Fault::FailsAfter);
    }

    /// The n-th acting call from now does nothing, and neither does any other until [`SimHost::reboot`].
    pub fn die_at(&self, n: u64, death: Death) {
        self.arm_call(n, Fault::Dies(death));
    }

    /// A container that somebody has broken into: to the n-th question from now it answers this line, whatever the question is.
    pub fn lie(&self, vmid: u32, n: u64, line: impl Into<Vec<u8>>) {
        self.0.borrow_mut().faults.lie(vmid, n, line.into());
    }

    /// A program never ends by itself from now on.
    pub fn hang(&self, program: Program) {
        self.0.borrow_mut().faults.hanging.push(program);
    }

    /// How many armed faults have not hit yet.
    pub fn armed(&self) -> usize {
        self.0.borrow().faults.armed()
    }

    /// Whether the machine, or our process, died.
    pub fn is_dead(&self) -> bool {
        self.0.borrow().dead.is_some()
    }

    /// Ends it now.
    pub fn die(&self, death: Death) {
        self.0.borrow_mut().die(death);
    }

    /// Brings it back after its death (a power cut if it did not die): locks are free, children gone, faults disarmed. After a
    /// power cut unsynced bytes and /run are lost, and smbd runs only if systemd starts it.
    pub fn reboot(&self) {
        let mut m = self.0.borrow_mut();
        let death = m.dead.take().unwrap_or(Death::PowerCut);
        m.locks.clear();
        m.processes.clear();
        m.faults = Faults::default();
        m.next_pid += 1;
        m.own = ProcessId { pid: m.next_pid, start: m.uptime_ms / 10 };
        m.wait(1000);
        if death == Death::PowerCut {
            m.wait(60_000);
            samba::stop_smbd(&mut m.world);
            domain::stop_winbindd(&mut m.world);
            for vmid in m.world.guests.keys().copied().collect::<Vec<_>>() {
                guests::halt(&mut m, vmid);
            }
            m.world.files.power_cut();
            m.world.guests.values_mut().for_each(|g| g.world.files.power_cut());
            if m.world.installed.contains(&Program::Smbd) {
                m.world.files.put_dir("/run/samba", 0o755, 0, 0);
            }
            if m.world.systemd && m.world.smbd_enabled {
                samba::start_smbd(&mut m);
            }
            domain::boot(&mut m);
            pct::node_booted(&mut m);
        }
    }

    /// An acting call, with whatever fault is due.
    fn act<T>(&self, what: &str, work: impl FnOnce(&mut Machine) -> Result<T>) -> Result<T> {
        let mut m = self.0.borrow_mut();
        m.tick()?;
        let fault = m.fault(false);
        let work = |m: &mut Machine| guests::inside(m, self.1, work);
        match fault {
            None => work(&mut m),
            Some(Fault::Fails) => Err(injected(what)),
            Some(Fault::FailsAfter) => work(&mut m).and(Err(injected(what))),
            Some(Fault::Dies(death) | Fault::DiesTorn(death, _)) => Err(m.die(death)),
            Some(Fault::DiesAfter(death)) => {
                // Whether it worked, nobody will ever hear.
                let _ = work(&mut m);
                Err(m.die(death))
            }
        }
    }

    fn look<T>(&self, look: impl FnOnce(&mut Machine) -> Result<T>) -> Result<T> {
        let mut m = self.0.borrow_mut();
        m.tick()?;
        guests::inside(&mut m, self.1, look)
    }

    /// The same machine seen from inside a container of it.
    pub fn within(&self, vmid: u32) -> Self {
        Self(Rc::clone(&self.0), Some(vmid))
    }

    fn append_somehow(&self, path: &Path, bytes: &[u8], lazily: bool) -> Result<()> {
        let mut m = self.0.borrow_mut();
        m.tick()?;
        let fault = m.fault(true);
        let files = &mut m.world.files;
        match fault {
            None => files.append(path, bytes, lazily),
            Some(Fault::Fails) => Err(injected(&format!("append to {}", path.display()))),
            Some(Fault::FailsAfter) => {
                files.append(path, bytes, lazily).and(Err(injected(&format!("append to {}", path.display()))))
            }
            Some(Fault::Dies(death)) => Err(m.die(death)),
            Some(Fault::DiesAfter(death)) => {
                let _ = files.append(path, bytes, lazily);
                Err(m.die(death))
            }
            Some(Fault::DiesTorn(death, kept)) => {
                // The torn part is on the disk: that is what makes it torn.
                let _ = files.append(path, &bytes[..kept.min(bytes.len())], false);
                Err(m.die(death))
            }
        }
    }
}

/// A command that was started. What it does it has done by then; only its end may be missing.
struct SimJob {
    machine: Rc<RefCell<Machine>>,
    process: ProcessId,
    /// Its result; `None` if it hangs.
    output: Option<Output>,
    deadline: u64,
}

impl SimJob {
    fn ended(status: i32, timed_out: bool) -> Output {
        Output { status, stdout: Vec::new(), stderr: Vec::new(), timed_out }
    }
}

impl Job for SimJob {
    fn process(&self) -> ProcessId {
        self.process
    }

    fn poll(&mut self, wait: Duration) -> Result<Option<Output>> {
        let mut m = self.machine.borrow_mut();
        m.tick()?;
        if self.output.is_none() {
            let left = self.deadline.saturating_sub(m.uptime_ms);
            m.wait(left.min(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
            if m.uptime_ms >= self.deadline {
                self.output = Some(Self::ended(-libc::SIGKILL, true));
            }
        }
        if self.output.is_some() {
            m.processes.remove(&self.process.pid);
        }
        Ok(self.output.clone())
    }

    fn kill(&mut self) {
        if let Ok(mut m) = self.machine.try_borrow_mut() {
            m.processes.remove(&self.process.pid);
        }
        if self.output.is_none() {
            self.output = Some(Self::ended(-libc::SIGKILL, false));
        }
    }
}

impl Drop for SimJob {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A walk that was over when it began.
struct SimWalk(u64);

impl Walk for SimWalk {
    fn go(&mut self, _: Duration) -> Result<Option<u64>> {
        Ok(Some(self.0))
    }

    fn looked(&self) -> u64 {
        self.0
    }
}

/// A walk that gives a project to one entry after the other, each a call of its own.
struct SimTag {
    host: SimHost,
    path: PathBuf,
    tag: Tag,
    at: usize,
    changed: u64,
}

impl Walk for SimTag {
    fn go(&mut self, _: Duration) -> Result<Option<u64>> {
        let (path, tag, at) = (self.path.clone(), self.tag, self.at);
        let what = format!("give a project to what is in {}", path.display());
        match self.host.act(&what, |m| m.world.files.tag_one(&path, &tag, at))? {
            None => Ok(Some(self.changed)),
            Some(changed) => {
                self.changed += u64::from(changed);
                self.at += 1;
                Ok(None)
            }
        }
    }

    fn looked(&self) -> u64 {
        self.at as u64
    }
}

/// A conversation with the product's hand in a container; it ends when the container stops.
struct SimTalk {
    machine: Rc<RefCell<Machine>>,
    process: ProcessId,
    vmid: u32,
    server: Server,
}

impl Talk for SimTalk {
    fn process(&self) -> ProcessId {
        self.process
    }

    fn ask(&mut self, line: &[u8], _: Duration) -> Result<Vec<u8>> {
        {
            let mut m = self.machine.borrow_mut();
            m.tick()?;
            // Whoever started the guest anew ended this process.
            if !m.processes.contains_key(&self.process.pid) {
                return Err(Error::new(Kind::Service, "pct has ended"));
            }
            if let Some(line) = m.faults.lie_due(self.vmid) {
                if line.len() > ANSWER_LIMIT {
                    return Err(Error::new(Kind::Service, "pct answers more than it may"));
                }
                return Ok(line);
            }
            if let Some(other) = guests::other_version(&m.world, self.vmid) {
                return serde_json::to_vec(&serde_json::json!({"ok": other}))
                    .map_err(|e| Error::new(Kind::Internal, e.to_string()));
            }
        }
        let answer = self.server.answer(line);
        // Death inside is death of the one machine there is.
        if self.machine.borrow().dead.is_some() { Err(dead()) } else { Ok(answer) }
    }
}

impl Drop for SimTalk {
    fn drop(&mut self) {
        if let Ok(mut m) = self.machine.try_borrow_mut() {
            m.processes.remove(&self.process.pid);
        }
    }
}

struct SimLock {
    machine: Rc<RefCell<Machine>>,
    path: PathBuf,
    guard: u64,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        // A lock of a process that died may be somebody else's by now.
        if let Ok(mut m) = self.machine.try_borrow_mut() {
            if m.locks.get(&self.path).is_some_and(|h| h.guard == Some(self.guard)) {
                m.locks.remove(&self.path);
                if m.dead.is_none() {
                    m.world.files.put(&self.path, "", 0o600, 0, 0);
                }
            }
        }
    }
}

impl Host for SimHost {
    fn read(&self, path: &Path, limit: u64) -> Result<Option<FileSeen>> {
        self.look(|m| m.world.files.read(path, limit))
    }

    fn write(&self, file: &FileSpec) -> Result<()> {
        self.act(&format!("write {}", file.path.display()), |m| m.world.files.write(file))
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.act(&format!("remove {}", path.display()), |m| m.world.files.remove(path))
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.append_somehow(path, bytes, false)
    }

    fn append_lazily(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        self.append_somehow(path, bytes, true)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.act(&format!("rename {}", from.display()), |m| m.world.files.rename(from, to))
    }

    fn make_dir(&self, path: &Path, mode: u32) -> Result<()> {
        self.act(&format!("make {}", path.display()), |m| m.world.files.make_dir(path, mode))
    }

    fn remove_dir(&self, path: &Path) -> Result<bool> {
        self.act(&format!("remove {}", path.display()), |m| m.world.files.remove_dir(path))
    }

    fn list(&self, path: &Path) -> Result<Vec<String>> {
        self.look(|m| m.world.files.list(path))
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.look(|m| Ok(m.world.files.exists(path)))
    }

    fn tree(&self, path: &Path) -> Result<TreeSeen> {
        self.look(|m| m.world.files.tree(path))
    }

    fn set_tree(&self, path: &Path, fsid: u64, ino: u64, uid: u32, gid: u32, mode: u32) -> Result<()> {
        let what = format!("change the owner of {}", path.display());
        self.act(&what, |m| m.world.files.set_tree(path, fsid, ino, uid, gid, mode))
    }

    fn survey(&self, path: &Path, uids: &[u32], gids: &[u32], _budget: Duration) -> Result<Survey> {
        self.look(|m| m.world.files.survey(path, uids, gids))
    }

    fn shift(&self, path: &Path, up: bool) -> Result<Box<dyn Walk>> {
        let changed = self.act(&format!("shift {}", path.display()), |m| m.world.files.shift(path, up))?;
        Ok(Box::new(SimWalk(changed)))
    }

    fn quota(&self, path: &Path) -> Result<QuotaSeen> {
        self.look(|m| m.world.files.quota(path))
    }

    fn figures(&self, path: &Path, means: &Means) -> Result<Figures> {
        self.look(|m| m.world.files.figures(path, means))
    }

    fn used(&self, path: &Path, means: &Means) -> Result<u64> {
        self.look(|m| m.world.files.figures(path, means).map(|f| f.used))
    }

    fn set_quota(&self, path: &Path, fsid: u64, ino: u64, means: &Means, limit: Option<u64>) -> Result<()> {
        let what = format!("set the quota of {}", path.display());
        self.act(&what, |m| m.world.files.set_quota(path, (fsid, ino), means, limit))
    }

    fn user_figures(&self, path: &Path, uid: u32) -> Result<Figures> {
        self.look(|m| m.world.files.user_figures(path, uid))
    }

    fn set_user_quota(&self, path: &Path, fsid: u64, ino: u64, uid: u32, limit: Option<u64>) -> Result<()> {
        let what = format!("set a user's quota on {}", path.display());
        self.act(&what, |m| m.world.files.set_user_quota(path, (fsid, ino), uid, limit))
    }

    fn tag(&self, path: &Path, fsid: u64, ino: u64, tag: &Tag) -> Result<Box<dyn Walk>> {
        let what = format!("give a project to {}", path.display());
        self.act(&what, |m| m.world.files.begin_tag(path, (fsid, ino), tag))?;
        Ok(Box::new(SimTag { host: self.clone(), path: path.to_owned(), tag: *tag, at: 0, changed: 0 }))
    }

    fn remove_in_tree(&self, path: &Path, name: &str) -> Result<()> {
        self.act(&format!("remove {name} in {}", path.display()), |m| m.world.files.remove_in_tree(path, name))
    }

    fn publish(&self, dir: &Path, name: &str, content: &str) -> Result<()> {
        self.act(&format!("publish {}", dir.join(name).display()), |m| m.world.files.publish(dir, name, content))
    }
    fn space(&self, path: &Path) -> Result<Space> {
        self.look(|m| m.world.files.space(path))
    }

    fn start(&self, cmd: &Cmd, secrets: &Secrets) -> Result<Box<dyn Job>> {
        let mut m = self.0.borrow_mut();
        m.tick()?;
        let installed = guests::inside(&mut m, self.1, |m| Ok(m.world.installed.contains(&cmd.program)))?;
        if !installed {
            return Err(programs::missing(cmd.program));
        }
        let mut stdin = Vec::new();
        if let Stdin::Text(text) = &cmd.stdin {
            stdin.extend_from_slice(text.as_bytes());
        }
        if let Stdin::Secret { name, times } = &cmd.stdin {
            let missing = || {
                let what = format!("the secret {name} is needed for {} and was not given", cmd.program.name());
                Error::new(Kind::Invalid, what).remedy(format!("give {name} again"))
            };
            let secret = secrets.get(name).ok_or_else(missing)?;
            for _ in 0..*times {
                stdin.extend_from_slice(secret);
                stdin.push(b'\n');
            }
        }
        m.commands.push(cmd.to_string());
        let pid = m.new_pid();
        let process = ProcessId { pid, start: m.uptime_ms / 10 };
        m.processes.insert(pid, Process { start: process.start, program: cmd.program, guest: self.1 });
        let trouble = match m.fault(false) {
            None => m.faults.command(cmd),
            Some(Fault::Fails) => Some(Trouble::Exits(-libc::SIGKILL, String::new())),
            Some(Fault::FailsAfter) => Some(Trouble::ExitsAfter(-libc::SIGKILL, String::new())),
            Some(Fault::Dies(death) | Fault::DiesTorn(death, _)) => return Err(m.die(death)),
            Some(Fault::DiesAfter(death)) => {
                let said = guests::inside(&mut m, self.1, |m| Ok(m.run(cmd, &stdin)));
                drop(said);
                return Err(m.die(death));
            }
        };
        let run = |m: &mut Machine, stdin: &[u8]| {
            guests::inside(m, self.1, |m| Ok(m.run(cmd, stdin))).unwrap_or_else(|e| Said::err(1, crate::error::chain(&e)))
        };
        let started = m.uptime_ms;
        let deadline = started + cmd.timeout_ms;
        let said = match trouble {
            Some(Trouble::Exits(status, err)) => Some(Said::err(status, err)),
            Some(Trouble::ExitsAfter(status, err)) => {
                run(&mut m, &stdin);
                Some(Said::err(status, err))
            }
            Some(Trouble::Hangs) => None,
            Some(Trouble::HangsAfter) => {
                run(&mut m, &stdin);
                None
            }
            None => Some(run(&mut m, &stdin)),
        };
        let mut output = said.map(|s| Output { status: s.status, stdout: s.out.into(), stderr: s.err.into(), timed_out: false });
        if output.is_some() && m.uptime_ms > deadline {
            // It waited for something longer than it was given.
            output = Some(SimJob::ended(-libc::SIGKILL, true));
        }
        Ok(Box::new(SimJob { machine: Rc::clone(&self.0), process, output, deadline }))
    }

    fn converse(&self, cmd: &Cmd) -> Result<Box<dyn Talk>> {
        let vmid = self.act(&cmd.to_string(), |m| {
            m.commands.push(cmd.to_string());
            guests::entrance(&m.world, cmd)
        })?;
        let mut m = self.0.borrow_mut();
        guests::begin(&mut m.world, vmid);
        let pid = m.new_pid();
        let process = ProcessId { pid, start: m.uptime_ms / 10 };
        m.processes.insert(pid, Process { start: process.start, program: cmd.program, guest: Some(vmid) });
        let server = Server::new(Rc::new(self.within(vmid)));
        Ok(Box::new(SimTalk { machine: Rc::clone(&self.0), process, vmid, server }))
    }

    fn alive(&self, process: ProcessId) -> Result<bool> {
        let mut m = self.0.borrow_mut();
        if self.1.is_some() {
            return guests::inside(&mut m, self.1, |m| Ok(m.start_of(process.pid).is_some_and(|(s, _)| s == process.start)));
        }
        let same = process == m.own || m.start_of(process.pid).is_some_and(|(start, _)| start == process.start);
        Ok(m.dead.is_none() && same)
    }

    fn process(&self, pid: i32, program: &str) -> Result<Option<ProcessId>> {
        let mut m = self.0.borrow_mut();
        let dead = m.dead.is_some();
        let found = guests::inside(&mut m, self.1, |m| Ok(m.start_of(pid)))?;
        Ok(found.filter(|(_, p)| !dead && p.name() == program).map(|(start, _)| ProcessId { pid, start }))
    }

    fn end(&self, process: ProcessId) -> Result<()> {
        self.act(&format!("end process {}", process.pid), |m| {
            if m.processes.get(&process.pid).is_some_and(|p| p.start == process.start) {
                m.processes.remove(&process.pid);
            }
            Ok(())
        })
    }

    fn has_systemd(&self) -> Result<bool> {
        guests::inside(&mut self.0.borrow_mut(), self.1, |m| Ok(m.world.systemd))
    }

    fn installed(&self, program: Program) -> Result<bool> {
        guests::inside(&mut self.0.borrow_mut(), self.1, |m| Ok(m.world.installed.contains(&program)))
    }

    fn dns(&self, ask: &DnsAsk, within: Duration) -> Result<DnsAnswer> {
        let own = self.look(|m| Ok(net::nameservers(&m.world.files)))?;
        let mut m = self.0.borrow_mut();
        net::dns(&mut m, own, ask, within)
    }

    fn reach(&self, to: SocketAddr, within: Duration) -> Result<Reach> {
        self.look(|_| Ok(()))?;
        Ok(net::reach(&mut self.0.borrow_mut(), to, within))
    }

    fn lock(&self, path: &Path, note: &str, wait: Duration) -> Result<Box<dyn Lock>> {
        let guard = self.act(&format!("lock {}", path.display()), |m| {
            if let Some(holder) = m.locks.get(path).map(|h| h.note.clone()) {
                m.wait(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
                return Err(Error::new(Kind::Busy, format!("{} is held by {holder}", path.display()))
                    .remedy("try again when that has finished"));
            }
            // /run is empty after a reboot.
            m.world.files.make_dir(path.parent().unwrap_or(Path::new("/")), 0o700)?;
            m.world.files.put(path, note, 0o600, 0, 0);
            m.next_guard += 1;
            let guard = m.next_guard;
            m.locks.insert(path.to_owned(), Holder { note: note.to_owned(), guard: Some(guard) });
            Ok(guard)
        })?;
        Ok(Box::new(SimLock { machine: Rc::clone(&self.0), path: path.to_owned(), guard }))
    }

    fn tail(&self, path: &Path, from: u64, limit: u64) -> Result<Option<TailSeen>> {
        let Some(seen) = self.read(path, u64::MAX)? else { return Ok(None) };
        let size = seen.content.len() as u64;
        let at = usize::try_from(from.min(size)).unwrap_or(0);
        let content = seen.content[at..].iter().copied().take(usize::try_from(limit).unwrap_or(usize::MAX)).collect();
        Ok(Some(TailSeen { ino: 1, size, content }))
    }

    fn records(&self, path: &Path) -> Result<Option<usize>> {
        let Some(seen) = self.read(path, u64::MAX)? else { return Ok(None) };
        Ok(Some(tdb::records(&seen.content)?.len()))
    }

    fn counters(&self, path: &Path, wanted: &[usize]) -> Result<Option<Counters>> {
        let Some(seen) = self.read(path, u64::MAX)? else { return Ok(None) };
        Ok(Some(smb_profile::parse_file(&seen.content, wanted)?))
    }

    fn own_cpu_us(&self) -> u64 {
        self.0.borrow().uptime_ms * 10
    }

    fn now_ms(&self) -> i64 {
        self.0.borrow().clock_ms
    }

    fn monotonic_ms(&self) -> u64 {
        self.0.borrow().uptime_ms
    }

    fn own_ids(&self) -> (u32, u32) {
        (0, 0)
    }

    fn node_name(&self) -> Result<String> {
        Ok("pve1".to_owned())
    }

    fn pause(&self, time: Duration) {
        let mut m = self.0.borrow_mut();
        let ms = u64::try_from(time.as_millis()).unwrap_or(1000);
        m.wait(ms);
        m.meanwhile();
    }

    fn random(&self, bytes: &mut [u8]) -> Result<()> {
        self.look(|m| {
            for byte in bytes.iter_mut() {
                // splitmix64: deterministic, and good enough to look unpredictable.
                m.random = m.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = m.random;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                *byte = (z >> 56) as u8;
            }
            Ok(())
        })
    }

    fn own_process(&self) -> ProcessId {
        self.0.borrow().own
    }
}
