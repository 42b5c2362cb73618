// SPDX-License-Identifier: MIT OR Apache-2.0
//! Carries out one effect. Every effect is a chain of commands and small acts between them, so that the caller gets control back at
//! least once a second whatever a command does. It knows how each effect is done; it must not know why, nor what is journalled.

mod directory;
mod guests;
mod template;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use crate::directory::{Inquiry, Next as Asked, Notes};
use crate::effect::{Cmd, Daemon, FileSpec, Place, Program};
use crate::error::{Error, Kind, Result};
use crate::facts::{Effective, Paths};
use crate::format::smb_conf::{add_include, remove_include};
use crate::format::{smbpasswd, smbstatus};
use crate::host::{Host, Job, Machines, Output, ProcessId, Secrets, Walk, programs};
use crate::observe;
use crate::plan::accounts;
use crate::plan::proof::PROBE_FILE;
use crate::plan::quota;
use crate::plan::samba::{self, MARKER};
use crate::plan::step::{Candidate, Effect};
use crate::quota::{Means, UserMeans};
use crate::spec::record::{Key, NtHash, Record};
use crate::spec::section::Mode;

/// What an act works with.
pub struct Tools<'a> {
    /// All machines of the operation.
    pub machines: &'a Machines,
    /// The one that the step acts on.
    pub host: Rc<dyn Host>,
    /// This node.
    pub node: &'a str,
    /// Where things lie.
    pub paths: &'a Paths,
    /// Secrets of the run.
    pub secrets: &'a Secrets,
}

impl Tools<'_> {
    /// The node: where the record is, and containers are looked at from outside.
    fn on_node(&self) -> &dyn Host {
        self.machines.node()
    }
}

type Then = Box<dyn FnOnce(&Tools<'_>, Output) -> Result<Flow>>;
type Check = Box<dyn Fn(&Tools<'_>) -> Result<bool>>;
type Next = Box<dyn FnOnce(&Tools<'_>) -> Result<Flow>>;
type Learnt = Box<dyn FnOnce(&Tools<'_>, Notes) -> Result<Flow>>;

/// What comes next in an act.
enum Flow {
    /// Nothing: done.
    Finished,
    /// A command, then something with its output.
    Run(Cmd, Then),
    /// A walk through a tree.
    Walk(Box<dyn Walk>),
    /// Questions, then something with what was learnt.
    Inquire(Inquiry, Learnt),
    /// A command of such questions, whatever its exit status.
    Question(Cmd, Inquiry, Learnt),
    /// Until something holds or the time is up, then go on; `what` names it if it never does.
    Wait { what: String, limit_ms: u64, check: Check, next: Next },
}

/// An act that is going on.
pub struct Acting {
    flow: Flow,
    job: Option<Box<dyn Job>>,
    waiting_since: Option<u64>,
}

/// How far an act is.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Still going on.
    Working,
    /// A process was started; worth a note in the journal.
    Started(ProcessId),
    /// Still going through a tree: so many entries were looked at.
    Walked(u64),
    /// Done.
    Finished,
}

impl Acting {
    /// Begins an effect. Quick effects are done when this returns.
    pub fn begin(tools: &Tools<'_>, effect: &Effect) -> Result<Self> {
        Ok(Self { flow: begin(tools, effect)?, job: None, waiting_since: None })
    }

    /// Goes on for at most about a second.
    pub fn poll(&mut self, tools: &Tools<'_>) -> Result<Step> {
        match std::mem::replace(&mut self.flow, Flow::Finished) {
            Flow::Finished => Ok(Step::Finished),
            Flow::Run(cmd, then) => self.poll_command(tools, cmd, then),
            Flow::Inquire(mut inquiry, learnt) => {
                self.flow = match inquiry.next(&*tools.host)? {
                    Asked::Done => learnt(tools, inquiry.notes)?,
                    Asked::Again => Flow::Inquire(inquiry, learnt),
                    Asked::Run(cmd) => Flow::Question(cmd, inquiry, learnt),
                };
                Ok(Step::Working)
            }
            Flow::Question(cmd, mut inquiry, learnt) => {
                let Some(job) = self.job.as_mut() else {
                    let job = tools.host.start(&cmd, tools.secrets)?;
                    let process = job.process();
                    self.job = Some(job);
                    self.flow = Flow::Question(cmd, inquiry, learnt);
                    return Ok(Step::Started(process));
                };
                self.flow = match job.poll(Duration::from_secs(1))? {
                    None => Flow::Question(cmd, inquiry, learnt),
                    Some(output) => {
                        self.job = None;
                        inquiry.heard(&*tools.host, &output)?;
                        Flow::Inquire(inquiry, learnt)
                    }
                };
                Ok(Step::Working)
            }
            Flow::Walk(mut walk) => Ok(match walk.go(Duration::from_millis(900))? {
                None => {
                    let looked = walk.looked();
                    self.flow = Flow::Walk(walk);
                    Step::Walked(looked)
                }
                Some(_) => Step::Working,
            }),
            Flow::Wait { what, limit_ms, check, next } => {
                let since = *self.waiting_since.get_or_insert_with(|| tools.host.monotonic_ms());
                if check(tools)? {
                    self.waiting_since = None;
                    self.flow = next(tools)?;
                } else if tools.host.monotonic_ms().saturating_sub(since) >= limit_ms {
                    return Err(Error::new(Kind::Timeout, format!("{what} did not happen within {} s", limit_ms / 1000)));
                } else {
                    tools.host.pause(Duration::from_millis(20));
                    self.flow = Flow::Wait { what, limit_ms, check, next };
                }
                Ok(Step::Working)
            }
        }
    }

    fn poll_command(&mut self, tools: &Tools<'_>, cmd: Cmd, then: Then) -> Result<Step> {
        let Some(job) = self.job.as_mut() else {
            let job = tools.host.start(&cmd, tools.secrets)?;
            let process = job.process();
            self.job = Some(job);
            self.flow = Flow::Run(cmd, then);
            return Ok(Step::Started(process));
        };
        match job.poll(Duration::from_secs(1))? {
            None => self.flow = Flow::Run(cmd, then),
            Some(output) => {
                self.job = None;
                judge(&cmd, &output)?;
                self.flow = then(tools, output)?;
            }
        }
        Ok(Step::Working)
    }

    /// Ends what is running.
    pub fn kill(&mut self) {
        if let Some(mut job) = self.job.take() {
            job.kill();
        }
    }
}

/// Whether a command succeeded; the error tells its whole story.
fn judge(cmd: &Cmd, output: &Output) -> Result<()> {
    // Who expects a silent server takes the signal for an answer.
    if cmd.ok.contains(&output.status) && (!output.timed_out || output.status == -libc::SIGKILL) {
        return Ok(());
    }
    let exit = if output.status < 0 { format!("signal {}", -output.status) } else { output.status.to_string() };
    let said = programs::complaint(cmd.program, output);
    let last = said.lines().last().unwrap_or_default().to_owned();
    let e = if output.timed_out {
        Error::new(Kind::Timeout, format!("{} did not end within {} s and was killed", cmd.program.name(), cmd.timeout_ms / 1000))
    } else if last.is_empty() {
        Error::new(Kind::Service, format!("{} failed with exit status {exit}", cmd.program.name()))
    } else {
        Error::new(Kind::Service, format!("{} failed with exit status {exit}: {last}", cmd.program.name()))
    };
    Err(e.story(|s| {
        s.command = Some(cmd.to_string());
        s.exit = Some(exit);
        s.stderr = Some(said);
    }))
}

fn run(cmd: Cmd) -> Flow {
    Flow::Run(cmd, Box::new(|_, _| Ok(Flow::Finished)))
}

fn private_parent(tools: &Tools<'_>, path: &Path) -> Result<()> {
    match path.parent() {
        Some(dir) if dir.starts_with(&tools.paths.run_dir) => tools.host.make_dir(dir, 0o700),
        _ => Ok(()),
    }
}

fn begin(tools: &Tools<'_>, effect: &Effect) -> Result<Flow> {
    let host = &*tools.host;
    match effect {
        Effect::Run(cmd) => return Ok(run(cmd.clone())),
        Effect::Write(file) => host.write(file)?,
        Effect::WriteCredentials { path, user, secret } => {
            let value = tools.secrets.get(secret).ok_or_else(|| no_secret(secret))?;
            let value =
                std::str::from_utf8(value).map_err(|_| Error::new(Kind::Invalid, format!("secret {secret} is not UTF-8")))?;
            private_parent(tools, path)?;
            let content = format!("username = {user}\npassword = {value}\n");
            host.write(&FileSpec { path: path.clone(), content, mode: 0o600, uid: 0, gid: 0 })?;
        }
        Effect::Remove(path) => host.remove(path)?,
        Effect::Rename(from, to) => host.rename(from, to)?,
        Effect::RemoveInTree(path, name) => host.remove_in_tree(path, name)?,
        Effect::SetTree { path, fsid, ino, uid, gid, mode } => host.set_tree(path, *fsid, *ino, *uid, *gid, *mode)?,
        Effect::NewRecord => {
            let uuid = new_uuid(host)?;
            if observe::record(tools.on_node(), tools.paths)?.is_none() {
                if let Some(dir) = tools.paths.record_file.parent() {
                    tools.on_node().make_dir(dir, 0o700)?;
                }
                save(tools, &Record::new(tools.paths.gateway.as_str(), tools.node, tools.paths.mode, &uuid))?;
            }
        }
        Effect::Record(Key::Gateway, None) => tools.on_node().remove(&tools.paths.record_file)?,
        Effect::Record(key, value) => change_record(tools, |r| r.set_part(key, value.as_ref()))?,
        Effect::KeepHash(user) => return Ok(keep_hash(tools, user.clone())),
        Effect::PutHashBy(user) => change_record(tools, |r| {
            if let Some(h) = r.hashes.get(user) {
                r.former.insert(user.clone(), h.clone());
            }
            Ok(())
        })?,
        Effect::TakeHashBack(user) => change_record(tools, |r| {
            if let Some(h) = r.former.get(user) {
                r.hashes.insert(user.clone(), h.clone());
            }
            Ok(())
        })?,
        Effect::ImportHash { user, scratch } => return import_hash(tools, user, scratch),
        Effect::StopDaemon { daemon, pid_file, stop } => {
            return Ok(stop_daemon(*daemon, pid_file.clone(), stop.clone(), Box::new(|_| Ok(Flow::Finished))));
        }
        Effect::StartDaemon { daemon, pid_file, start, restart } => {
            let (daemon, pid_file, start) = (*daemon, pid_file.clone(), start.clone());
            return Ok(match restart {
                None => start_daemon(daemon, pid_file, start),
                Some(stop) => {
                    let again = pid_file.clone();
                    stop_daemon(daemon, pid_file, stop.clone(), Box::new(move |_| Ok(start_daemon(daemon, again, start))))
                }
            });
        }
        Effect::FindDomain(j) => return Ok(directory::find(j)),
        Effect::Join(j) => return directory::join(tools, j),
        Effect::Unjoin { by, account, secrets } => return directory::unjoin(tools, by, *account, secrets.clone()),
        Effect::KnowAccounts(list) => return directory::know(tools, list),
        Effect::LogIn(cmd) => return Ok(directory::log_in(cmd)),
        Effect::MakeKeytab => return directory::keytab(tools),
        Effect::ProveMember => return directory::prove(tools, 1),
        Effect::EndSessions(user) => {
            let user = user.clone();
            return Ok(end_sessions(tools, Box::new(move |s| s.username.eq_ignore_ascii_case(&user))));
        }
        Effect::EndSession(id) => {
            let id = id.clone();
            return Ok(end_sessions(tools, Box::new(move |s| s.id == id)));
        }
        Effect::Candidate(c) => return candidate(tools, c.clone()),
        Effect::Effective(settings) => {
            let (cmd, settings) = (observe::testparm_cmd(&tools.paths.smb_conf), settings.clone());
            let again = cmd.clone();
            return Ok(Flow::Run(
                any_exit(cmd),
                Box::new(move |_, out| {
                    let wrong = samba::compare(&settings, &observe::effective(&again, &out)?);
                    if wrong.is_empty() {
                        return Ok(Flow::Finished);
                    }
                    Err(Error::new(Kind::Unsafe, format!("settings are not in effect: {}", wrong.join("; ")))
                        .remedy("a later line in smb.conf overrides them; testparm -s shows what is in effect"))
                }),
            ));
        }
        Effect::RoundTrip { client, source, copy, may_wait } => {
            return round_trip(tools, client.clone(), source.clone(), copy.clone(), *may_wait);
        }
        Effect::CreateGuest { vmid, cmd } => {
            tools.machines.hang_up(*vmid);
            return Ok(run(cmd.clone()));
        }
        Effect::OnGuest { vmid, uuid, cmd, gone_ok } => return guests::act(tools, *vmid, uuid, cmd, *gone_ok),
        Effect::GuestLine { vmid, uuid, key, value } => guests::set_line(tools, *vmid, uuid, key, value.as_deref())?,
        Effect::GuestLimits { vmid, wanted } => return Ok(guests::compare_limits(tools, *vmid, wanted)),
        Effect::AwaitBoot => return Ok(guests::await_boot()),
        Effect::KeepSid => return Ok(keep_sid(tools)),
        Effect::Checksum { path, sha256 } => return Ok(template::checksum(path.clone(), sha256.clone())),
        Effect::MakeDir { path, mode } => host.make_dir(path, *mode)?,
        Effect::RemoveDir(path) => _ = host.remove_dir(path)?,
        Effect::RemoveBuild(path) => return template::remove_build(tools, path),
        Effect::Shift { path, up } => return Ok(Flow::Walk(tools.on_node().shift(path, *up)?)),
        Effect::SetQuota { means: Means::Dataset { name }, limit, .. } => return Ok(run(quota::set_refquota(name, *limit))),
        Effect::SetQuota { path, fsid, ino, means, limit } => tools.on_node().set_quota(path, *fsid, *ino, means, *limit)?,
        Effect::SetUserQuota { means: UserMeans::Dataset { name }, uid, limit, .. } => {
            return Ok(run(quota::set_userquota(name, *uid, *limit)));
        }
        Effect::SetUserQuota { path, fsid, ino, means: UserMeans::FileSystem, uid, limit } => {
            tools.on_node().set_user_quota(path, *fsid, *ino, *uid, *limit)?;
        }
        Effect::Tag { path, fsid, ino, tag } => return Ok(Flow::Walk(tools.on_node().tag(path, *fsid, *ino, tag)?)),
        Effect::MarkTemplate { archive, marker } => return Ok(template::mark(archive.clone(), (**marker).clone())),
    }
    Ok(Flow::Finished)
}

/// A random uuid (version 4).
pub fn new_uuid(host: &dyn Host) -> Result<String> {
    let mut bytes = [0_u8; 16];
    host.random(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

/// Removes what acts leave in the run directory when they are cut short: candidates, credentials, hashes on their way into passdb.
/// Only for whoever holds the gateway's lock, and when no operation needs them any more.
pub fn sweep(machines: &Machines, paths: &Paths) {
    let places = match paths.mode {
        Mode::Native => vec![Place::Node],
        // One that nobody talked to has nothing to sweep, or nobody to do it.
        Mode::Lxc => machines.talking(),
    };
    for host in places.into_iter().map(|p| machines.at(p)) {
        for dir in ["check", "probe", "import", "domain"].map(|d| paths.run_dir.join(d)) {
            let swept = host.list(&dir).and_then(|names| names.iter().try_for_each(|n| host.remove(&dir.join(n))));
            if let Err(e) = swept {
                tracing::warn!(dir = %dir.display(), error = %crate::error::chain(&e), "scratch files stay until the next operation");
            }
        }
    }
}

fn no_secret(name: &str) -> Error {
    Error::new(Kind::Invalid, format!("the {name} is needed and was not given"))
        .remedy("give it on standard input: --password-stdin")
        .with_problems(vec![crate::error::Problem::new(name, "is needed and was not given")])
}

/// `testparm` says no by its exit status; the reader of its output words that better.
fn any_exit(cmd: Cmd) -> Cmd {
    cmd.also_ok(&[1])
}

fn save(tools: &Tools<'_>, record: &Record) -> Result<()> {
    let path = tools.paths.record_file.clone();
    tools.on_node().write(&FileSpec { path, content: record.print(), mode: 0o600, uid: 0, gid: 0 })
}

fn change_record(tools: &Tools<'_>, change: impl FnOnce(&mut Record) -> Result<()>) -> Result<()> {
    let mut record = observe::record(tools.on_node(), tools.paths)?
        .ok_or_else(|| Error::new(Kind::NotFound, format!("{} does not exist", tools.paths.record_file.display())))?;
    change(&mut record)?;
    save(tools, &record)
}

/// A Samba command that reads this context's smb.conf.
fn samba_cmd(tools: &Tools<'_>, program: Program, args: &[&str]) -> Cmd {
    accounts::samba_at(tools.paths, program, args)
}

fn keep_hash(tools: &Tools<'_>, user: String) -> Flow {
    let cmd = samba_cmd(tools, Program::Pdbedit, &["-L", "-w", "-u", &user]);
    Flow::Run(
        cmd,
        Box::new(move |tools, out| {
            let account = smbpasswd::parse(&out.out()).0.into_iter().find(|a| a.name == user);
            let hash = account
                .and_then(|a| a.nt_hash)
                .ok_or_else(|| Error::new(Kind::Service, format!("passdb has no NT hash for {user}")))?;
            change_record(tools, |r| {
                r.hashes.insert(user, NtHash(hash.expose_hex()));
                Ok(())
            })?;
            Ok(Flow::Finished)
        }),
    )
}

fn keep_sid(tools: &Tools<'_>) -> Flow {
    let cmd = samba_cmd(tools, Program::Net, &["getlocalsid"]);
    Flow::Run(
        cmd,
        Box::new(|tools, out| {
            let text = out.out();
            let sid = text.split_whitespace().find(|w| w.starts_with("S-1-5-21-"));
            let sid = sid.ok_or_else(|| Error::new(Kind::Service, "net getlocalsid tells no SID"))?.to_owned();
            change_record(tools, |r| {
                r.sid = Some(sid);
                Ok(())
            })?;
            Ok(Flow::Finished)
        }),
    )
}

fn import_hash(tools: &Tools<'_>, user: &str, scratch: &Path) -> Result<Flow> {
    let record = observe::record(tools.on_node(), tools.paths)?;
    let found = record.as_ref().and_then(|r| Some((r.users.get(user)?, r.hashes.get(user)?)));
    let Some((entry, hash)) = found else {
        return Err(Error::new(Kind::NotFound, format!("the gateway record has no password of {user}"))
            .remedy(format!("pve-smbgateway user password {user}")));
    };
    let account = smbpasswd::Account {
        name: user.to_owned(),
        uid: entry.uid,
        nt_hash: smbpasswd::NtHash::from_hex(&hash.0),
        flags: smbpasswd::Flags::NORMAL.with('D', entry.disabled),
        changed: u32::try_from(tools.host.now_ms() / 1000).unwrap_or(0),
    };
    tools.host.make_dir(scratch, 0o700)?;
    let file = scratch.join(user);
    tools.host.write(&FileSpec { path: file.clone(), content: smbpasswd::print(&account)?, mode: 0o600, uid: 0, gid: 0 })?;
    let from = format!("smbpasswd:{}", file.display());
    let cmd = samba_cmd(tools, Program::Pdbedit, &["-i", &from, "-e", "tdbsam"]);
    let (user, ok) = (user.to_owned(), cmd.ok.clone());
    // Whatever it says, the file goes first; then its answer counts: it exits 0 even when it imported nothing.
    let lenient = Cmd { ok: (0..=255).collect(), ..cmd };
    Ok(Flow::Run(
        lenient.clone(),
        Box::new(move |tools, out| {
            tools.host.remove(&file)?;
            judge(&Cmd { ok, ..lenient }, &out)?;
            if out.out().contains("...ok") || out.err().contains("...ok") {
                return Ok(Flow::Finished);
            }
            Err(Error::new(Kind::Service, format!("pdbedit did not import {user}"))
                .story(|s| s.stderr = Some(programs::complaint(Program::Pdbedit, &out))))
        }),
    ))
}

fn stop_daemon(daemon: Daemon, pid_file: PathBuf, stop: Cmd, next: Next) -> Flow {
    // 1: smbcontrol finds no daemon; waiting tells.
    Flow::Run(
        stop.also_ok(&[1]),
        Box::new(move |_, _| {
            Ok(Flow::Wait {
                what: format!("the end of {}", daemon.name()),
                limit_ms: 15_000,
                check: Box::new(move |t| Ok(!observe::runs(&*t.host, daemon, &pid_file)?)),
                next,
            })
        }),
    )
}

fn start_daemon(daemon: Daemon, pid_file: PathBuf, start: Cmd) -> Flow {
    Flow::Run(
        start,
        Box::new(move |_, _| {
            Ok(Flow::Wait {
                what: format!("the start of {0} (see log.{0})", daemon.name()),
                limit_ms: 15_000,
                check: Box::new(move |t| observe::runs(&*t.host, daemon, &pid_file)),
                next: Box::new(move |tools| Ok(ping(tools, daemon, 0))),
            })
        }),
    )
}

/// A daemon answers messages once it is ready (smbd: once it has opened its sockets); asked at most ten times.
fn ping(tools: &Tools<'_>, daemon: Daemon, asked: u32) -> Flow {
    let cmd = samba_cmd(tools, Program::Smbcontrol, &[daemon.name(), "ping"]).within_ms(5_000).also_ok(&[1, 255]);
    Flow::Run(
        cmd,
        Box::new(move |tools, out| {
            if out.status == 0 && out.out().contains("PONG") {
                return Ok(Flow::Finished);
            }
            if asked >= 10 {
                return Err(Error::new(Kind::Service, format!("{} runs but does not answer", daemon.name()))
                    .remedy(format!("look into /var/log/samba/log.{}", daemon.name())));
            }
            tools.host.pause(Duration::from_millis(50));
            Ok(ping(tools, daemon, asked + 1))
        }),
    )
}

/// Ends sessions with the processes that serve them: Samba 4.17 to 4.22 have no message that ends a session alone.
fn end_sessions(tools: &Tools<'_>, which: Box<dyn Fn(&smbstatus::Session) -> bool>) -> Flow {
    let cmd = samba_cmd(tools, Program::Smbstatus, &["-p", "-j"]);
    Flow::Run(
        cmd,
        Box::new(move |tools, out| {
            let mut pids: Vec<i32> = smbstatus::parse_sessions(&out.out())?
                .into_iter()
                .filter(|s| which(s))
                .filter_map(|s| i32::try_from(s.pid).ok())
                .collect();
            pids.sort_unstable();
            pids.dedup();
            let processes: Vec<ProcessId> =
                pids.iter().filter_map(|p| tools.host.process(*p, "smbd").transpose()).collect::<Result<_>>()?;
            Ok(shut_down(tools, processes.clone(), processes))
        }),
    )
}

fn shut_down(tools: &Tools<'_>, mut left: Vec<ProcessId>, all: Vec<ProcessId>) -> Flow {
    let Some(p) = left.pop() else {
        return Flow::Wait {
            what: "the end of the sessions".into(),
            limit_ms: 5_000,
            check: Box::new(move |t| {
                for p in &all {
                    if t.host.alive(*p)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }),
            next: Box::new(|_| Ok(Flow::Finished)),
        };
    };
    let cmd = samba_cmd(tools, Program::Smbcontrol, &[&p.pid.to_string(), "shutdown"]).also_ok(&[1]);
    Flow::Run(cmd, Box::new(move |tools, _| Ok(shut_down(tools, left, all))))
}

fn candidate(tools: &Tools<'_>, c: Candidate) -> Result<Flow> {
    let host = &*tools.host;
    let live_own = host.read_text(&c.own)?.unwrap_or_default();
    let live_main = host.read_text(&c.live)?.unwrap_or_default();
    let before = observe::silent_problems(host, &[(&c.live, &live_main), (&c.own, &live_own)])?;
    let after = observe::silent_problems(host, &[(&c.live, &c.main_text), (&c.own, &c.own_text)])?;
    let new: Vec<String> = after.iter().filter(|p| !before.contains(p)).cloned().collect();
    if !new.is_empty() {
        return Err(Error::new(Kind::Unsafe, format!("the candidate configuration is not sound: {}", new.join("; "))));
    }
    for p in &before {
        tracing::warn!(problem = %p, "smb.conf had this problem before us");
    }
    host.make_dir(&c.scratch, 0o700)?;
    let (main, own) = (c.scratch.join("smb.conf"), c.scratch.join("smbgw.conf"));
    let own_live = c.own.display().to_string();
    let elsewhere = match remove_include(&c.main_text, MARKER, &own_live)? {
        Some(without) => add_include(&without, MARKER, &own.display().to_string())?,
        None => c.main_text.clone(),
    };
    host.write(&FileSpec { path: main.clone(), content: elsewhere, mode: 0o600, uid: 0, gid: 0 })?;
    host.write(&FileSpec { path: own.clone(), content: c.own_text.clone(), mode: 0o600, uid: 0, gid: 0 })?;
    let live_cmd = observe::testparm_cmd(&c.live);
    Ok(Flow::Run(
        any_exit(live_cmd.clone()),
        Box::new(move |_, out| {
            let before = observe::effective(&live_cmd, &out)?;
            let cmd = observe::testparm_cmd(&main);
            Ok(Flow::Run(
                any_exit(cmd.clone()),
                Box::new(move |tools, out| {
                    tools.host.remove(&main)?;
                    tools.host.remove(&own)?;
                    let after = observe::effective(&cmd, &out)?;
                    judge_candidate(&c, &before, &after)?;
                    Ok(Flow::Finished)
                }),
            ))
        }),
    ))
}

fn judge_candidate(c: &Candidate, before: &Effective, after: &Effective) -> Result<()> {
    let mut wrong: Vec<String> = after.findings.iter().filter(|f| !before.findings.contains(f)).cloned().collect();
    wrong.extend(samba::foreign_changes(before, after, &c.ours, c.keep_globals));
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::Unsafe, format!("the candidate configuration would not be right: {}", wrong.join("; "))))
}

fn round_trip(tools: &Tools<'_>, client: Cmd, source: FileSpec, copy: PathBuf, may_wait: bool) -> Result<Flow> {
    private_parent(tools, &source.path)?;
    tools.host.remove(&copy)?;
    tools.host.write(&source)?;
    Ok(Flow::Run(
        client.clone(),
        Box::new(move |tools, out| {
            let back = tools.host.read(&copy, 1 << 20)?;
            tools.host.remove(&copy)?;
            tools.host.remove(&source.path)?;
            let said = programs::complaint(Program::Smbclient, &out);
            // smbclient's exit status is not dependable with -c; the text is.
            let refused = [out.out(), out.err()].iter().any(|t| t.contains("NT_STATUS_"));
            let same = back.is_some_and(|b| b.content == source.content.as_bytes());
            if out.status == 0 && same && !refused {
                return Ok(Flow::Finished);
            }
            // The client got in and was let write; that there is no room for it is no fault of the share.
            if [out.out(), out.err()].iter().any(|t| t.contains("NT_STATUS_DISK_FULL")) {
                tracing::warn!("the share is full: its proof is that a client could log in");
                return Ok(Flow::Finished);
            }
            // No domain controller gives the client its ticket: nobody can tell, and the share is as good as it was.
            if may_wait && (out.timed_out || directory::is_outage(&out)) {
                tracing::warn!("the share is not proven: no domain controller can be used");
                return Ok(Flow::Finished);
            }
            let line =
                said.lines().find(|l| l.contains("NT_STATUS_")).or(said.lines().last()).unwrap_or("no file came back").to_owned();
            Err(Error::new(Kind::Service, format!("the proof failed: a client could not log in, write {PROBE_FILE} and read it back: {line}"))
                .remedy("look into /var/log/samba; a firewall on loopback, 'hosts allow' or an interface list without 127.0.0.1 can be the cause")
                .story(|s| {
                    s.command = Some(client.to_string());
                    s.exit = Some(out.status.to_string());
                    s.stderr = Some(said);
                }))
        }),
    ))
}
