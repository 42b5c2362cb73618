// SPDX-License-Identifier: MIT OR Apache-2.0
//! A guest as a [`Host`]: every call becomes one line of JSON to a small program inside, `smbgw-guest`, which does it there with the same
//! code that serves the node and answers with one line. So a step does not know whether it acts on the node or in a container, and a
//! whole operation costs one `pct exec`. It knows the lines and both ends; it must not know what the calls are for.
//!
//! The guest is less trusted than the node: its answers are bounded in size and time, read as data of a known form, and never name
//! anything that the node then does. What belongs to the node (journal, locks, clock, random numbers) is refused or answered here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{FileSeen, Host, Job, Lock, Output, ProcessId, Secrets, Space, Survey, TailSeen, Talk, TreeSeen, wipe};
use crate::effect::{Cmd, FileSpec, HAND_INSIDE, HAND_VERSION, Program, Stdin};
use crate::error::{Error, ErrorDoc, Kind, Result};
use crate::format::smb_profile::Counters;
use crate::net::{DnsAnswer, DnsAsk, Reach};
use crate::quota::{Figures, Means, QuotaSeen, Tag};
use crate::types::VmId;

/// How long a call may take that only touches files.
const FILE_CALL: Duration = Duration::from_secs(8);
/// How long the first answer may take: `pct` itself has to start.
const FIRST_CALL: Duration = Duration::from_secs(15);
/// The longest time a guest is asked to wait for the network.
const NETWORK_LIMIT: Duration = Duration::from_secs(60);
/// The longest file that is carried.
const FILE_LIMIT: u64 = 8 << 20;

/// One call.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Ask {
    Hello,
    Read(PathBuf, u64),
    Tail(PathBuf, u64, u64),
    Counters(PathBuf, Vec<usize>),
    Records(PathBuf),
    Write(FileSpec),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
    MakeDir(PathBuf, u32),
    RemoveDir(PathBuf),
    List(PathBuf),
    Exists(PathBuf),
    Tree(PathBuf),
    RemoveInTree(PathBuf, String),
    Space(PathBuf),
    Start(Cmd, Secret),
    Poll(u32, u64),
    Kill(u32),
    Alive(ProcessId),
    Process(i32, String),
    HasSystemd,
    Installed(Program),
    Dns(DnsAsk, u64),
    Reach(SocketAddr, u64),
}

/// The answer to one call.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Ok(Value),
    Err(Box<ErrorDoc>),
}

/// A secret on its way to the one command that reads it; overwritten when dropped, and never printed.
#[derive(Default, Serialize, Deserialize)]
struct Secret(#[serde(with = "hex")] Vec<u8>);

impl Drop for Secret {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Bytes as hexadecimal text.
pub mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes bytes.
    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |n: u8| char::from(DIGITS[usize::from(n & 15)]);
        let text: String = bytes.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect();
        to.serialize_str(&text)
    }

    /// Reads bytes.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let bytes = text.as_bytes();
        if bytes.len() % 2 != 0 {
            return Err(D::Error::custom("an odd number of hexadecimal digits"));
        }
        let pairs = bytes.chunks_exact(2).map(|p| Some(digit(p[0])? << 4 | digit(p[1])?));
        pairs.collect::<Option<_>>().ok_or_else(|| D::Error::custom("not hexadecimal"))
    }
}

// ---- the node's end ----------------------------------------------------------------------------------------------------

/// A container of this node.
pub struct Guest {
    node: Rc<dyn Host>,
    vmid: VmId,
    talk: Rc<RefCell<Option<Box<dyn Talk>>>>,
}

impl Guest {
    /// Starts nothing.
    pub fn new(node: Rc<dyn Host>, vmid: VmId) -> Self {
        Self { node, vmid, talk: Rc::default() }
    }

    /// Ends the conversation; the next call begins another one.
    pub fn hang_up(&self) {
        self.talk.borrow_mut().take();
    }

    /// Whether there is a conversation.
    pub fn talking(&self) -> bool {
        self.talk.borrow().is_some()
    }

    /// The command that starts the other end. Its environment is cleared: nothing of the caller's is carried into the guest.
    pub fn command(vmid: VmId) -> Cmd {
        Cmd::new(Program::Pct, ["exec", &vmid.to_string(), "--keep-env", "0", "--", HAND_INSIDE])
    }

    fn lost(&self, e: Error) -> Error {
        e.while_doing(format!("talking to container {}", self.vmid))
    }

    fn open(&self) -> Result<()> {
        if self.talking() {
            return Ok(());
        }
        let mut talk = self.node.converse(&Self::command(self.vmid))?;
        let theirs: String = exchange(&mut *talk, &Ask::Hello, FIRST_CALL)?;
        if theirs != HAND_VERSION {
            return Err(Error::new(
                Kind::Drift,
                format!("smbgw-guest in container {} is of version {theirs}, not {}", self.vmid, HAND_VERSION),
            )
            .remedy("pve-smbgateway reconcile brings the right one into the container"));
        }
        *self.talk.borrow_mut() = Some(talk);
        Ok(())
    }

    fn call<T: DeserializeOwned>(&self, ask: &Ask, wait: Duration) -> Result<T> {
        self.open().map_err(|e| self.lost(e))?;
        call(&self.talk, ask, wait).map_err(|e| if self.talking() { e } else { self.lost(e) })
    }

    fn not_here<T>(what: &str) -> Result<T> {
        Err(Error::new(Kind::Internal, format!("{what} is the node's, never a guest's")))
    }
}

/// Asks, and gives the conversation up where the other end cannot be heard any more.
fn call<T: DeserializeOwned>(talk: &RefCell<Option<Box<dyn Talk>>>, ask: &Ask, wait: Duration) -> Result<T> {
    let mut slot = talk.borrow_mut();
    let Some(open) = slot.as_mut() else {
        return Err(Error::new(Kind::Service, "the conversation with the guest has ended"));
    };
    let answer = exchange_raw(&mut **open, ask, wait).inspect_err(|_| *slot = None)?;
    read(answer)
}

fn exchange<T: DeserializeOwned>(talk: &mut dyn Talk, ask: &Ask, wait: Duration) -> Result<T> {
    read(exchange_raw(talk, ask, wait)?)
}

fn exchange_raw(talk: &mut dyn Talk, ask: &Ask, wait: Duration) -> Result<Answer> {
    let mut line =
        serde_json::to_vec(ask).map_err(|e| Error::new(Kind::Internal, "a call cannot be written down").caused_by(e))?;
    let answer = talk.ask(&line, wait);
    wipe(&mut line);
    serde_json::from_slice(&answer?).map_err(|e| Error::new(Kind::Service, "smbgw-guest answers something else").caused_by(e))
}

fn read<T: DeserializeOwned>(answer: Answer) -> Result<T> {
    match answer {
        Answer::Ok(value) => serde_json::from_value(value)
            .map_err(|e| Error::new(Kind::Service, "smbgw-guest answers in another form").caused_by(e)),
        Answer::Err(doc) => {
            let e = Error::from(*doc);
            // These speak of our own process and journal; a guest cannot know.
            Err(if matches!(e.kind(), Kind::Interrupted | Kind::Internal | Kind::Forked | Kind::Corrupt) {
                e.as_kind(Kind::Service)
            } else {
                e
            })
        }
    }
}

/// A time to wait for the network, and the same in milliseconds.
fn network_time(within: Duration) -> (Duration, u64) {
    let within = within.min(NETWORK_LIMIT);
    (within, u64::try_from(within.as_millis()).unwrap_or(0))
}

/// A command inside the guest. On this node it is the process of the conversation: with that ended, it ends too.
struct GuestJob {
    talk: Rc<RefCell<Option<Box<dyn Talk>>>>,
    number: u32,
    process: ProcessId,
    end: Option<Output>,
}

impl Job for GuestJob {
    fn process(&self) -> ProcessId {
        self.process
    }

    fn poll(&mut self, wait: Duration) -> Result<Option<Output>> {
        if self.end.is_none() {
            let wait = wait.min(Duration::from_secs(1));
            let ms = u64::try_from(wait.as_millis()).unwrap_or(1000);
            self.end = call(&self.talk, &Ask::Poll(self.number, ms), wait + FILE_CALL)?;
        }
        Ok(self.end.clone())
    }

    fn kill(&mut self) {
        if self.end.is_none() {
            let killed: Result<()> = call(&self.talk, &Ask::Kill(self.number), FILE_CALL);
            if let Err(e) = killed {
                tracing::warn!(error = %crate::error::chain(&e), "a command in a guest could not be ended; it ends with the conversation");
            }
            self.end = Some(Output { status: -libc::SIGKILL, stdout: Vec::new(), stderr: Vec::new(), timed_out: false });
        }
    }
}

impl Drop for GuestJob {
    fn drop(&mut self) {
        // With the conversation gone the other end ends it by itself.
        if self.end.is_none() && self.talk.try_borrow().is_ok_and(|t| t.is_some()) {
            self.kill();
        }
    }
}

impl Host for Guest {
    fn read(&self, path: &Path, limit: u64) -> Result<Option<FileSeen>> {
        self.call(&Ask::Read(path.to_owned(), limit.min(FILE_LIMIT)), FILE_CALL)
    }
    fn tail(&self, path: &Path, from: u64, limit: u64) -> Result<Option<TailSeen>> {
        self.call(&Ask::Tail(path.to_owned(), from, limit.min(FILE_LIMIT)), FILE_CALL)
    }
    fn records(&self, path: &Path) -> Result<Option<usize>> {
        self.call(&Ask::Records(path.to_owned()), FILE_CALL)
    }
    fn counters(&self, path: &Path, wanted: &[usize]) -> Result<Option<Counters>> {
        self.call(&Ask::Counters(path.to_owned(), wanted.to_vec()), FILE_CALL)
    }
    fn write(&self, file: &FileSpec) -> Result<()> {
        self.call(&Ask::Write(file.clone()), FILE_CALL)
    }
    fn remove(&self, path: &Path) -> Result<()> {
        self.call(&Ask::Remove(path.to_owned()), FILE_CALL)
    }
    fn append(&self, _: &Path, _: &[u8]) -> Result<()> {
        Self::not_here("a journal")
    }
    fn append_lazily(&self, _: &Path, _: &[u8]) -> Result<()> {
        Self::not_here("a journal")
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.call(&Ask::Rename(from.to_owned(), to.to_owned()), FILE_CALL)
    }
    fn make_dir(&self, path: &Path, mode: u32) -> Result<()> {
        self.call(&Ask::MakeDir(path.to_owned(), mode), FILE_CALL)
    }
    fn remove_dir(&self, path: &Path) -> Result<bool> {
        self.call(&Ask::RemoveDir(path.to_owned()), FILE_CALL)
    }
    fn list(&self, path: &Path) -> Result<Vec<String>> {
        self.call(&Ask::List(path.to_owned()), FILE_CALL)
    }
    fn exists(&self, path: &Path) -> Result<bool> {
        self.call(&Ask::Exists(path.to_owned()), FILE_CALL)
    }
    fn tree(&self, path: &Path) -> Result<TreeSeen> {
        self.call(&Ask::Tree(path.to_owned()), FILE_CALL)
    }
    fn set_tree(&self, _: &Path, _: u64, _: u64, _: u32, _: u32, _: u32) -> Result<()> {
        Self::not_here("the owner of a tree")
    }
    fn survey(&self, _: &Path, _: &[u32], _: &[u32], _: Duration) -> Result<Survey> {
        Self::not_here("a survey of a tree")
    }
    fn shift(&self, _: &Path, _: bool) -> Result<Box<dyn super::Walk>> {
        Self::not_here("the owner of a tree")
    }
    fn quota(&self, _: &Path) -> Result<QuotaSeen> {
        Self::not_here("the quota of a tree")
    }
    fn figures(&self, _: &Path, _: &Means) -> Result<Figures> {
        Self::not_here("the quota of a tree")
    }
    fn used(&self, _: &Path, _: &Means) -> Result<u64> {
        Self::not_here("the quota of a tree")
    }
    fn set_quota(&self, _: &Path, _: u64, _: u64, _: &Means, _: Option<u64>) -> Result<()> {
        Self::not_here("the quota of a tree")
    }
    fn user_figures(&self, _: &Path, _: u32) -> Result<Figures> {
        Self::not_here("the quota of a tree")
    }
    fn set_user_quota(&self, _: &Path, _: u64, _: u64, _: u32, _: Option<u64>) -> Result<()> {
        Self::not_here("the quota of a tree")
    }
    fn tag(&self, _: &Path, _: u64, _: u64, _: &Tag) -> Result<Box<dyn super::Walk>> {
        Self::not_here("the quota of a tree")
    }
    fn remove_in_tree(&self, path: &Path, name: &str) -> Result<()> {
        self.call(&Ask::RemoveInTree(path.to_owned(), name.to_owned()), FILE_CALL)
    }
    fn publish(&self, _: &Path, _: &str, _: &str) -> Result<()> {
        Self::not_here("a file for others")
    }
    fn space(&self, path: &Path) -> Result<Space> {
        self.call(&Ask::Space(path.to_owned()), FILE_CALL)
    }

    fn start(&self, cmd: &Cmd, secrets: &Secrets) -> Result<Box<dyn Job>> {
        let secret = match &cmd.stdin {
            Stdin::Null | Stdin::Text(_) => Secret::default(),
            Stdin::Secret { name, .. } => {
                let value = secrets.get(name).ok_or_else(|| {
                    Error::new(Kind::Invalid, format!("the secret {name} is needed for {} and was not given", cmd.program.name()))
                        .remedy(format!("give {name} again"))
                })?;
                Secret(value.to_vec())
            }
        };
        let number = self.call(&Ask::Start(cmd.clone(), secret), FILE_CALL)?;
        let process = self.talk.borrow().as_ref().map(|t| t.process());
        let process = process.ok_or_else(|| Error::new(Kind::Service, "the conversation with the guest has ended"))?;
        Ok(Box::new(GuestJob { talk: Rc::clone(&self.talk), number, process, end: None }))
    }

    fn converse(&self, _: &Cmd) -> Result<Box<dyn Talk>> {
        Self::not_here("a conversation")
    }
    fn alive(&self, process: ProcessId) -> Result<bool> {
        self.call(&Ask::Alive(process), FILE_CALL)
    }
    fn process(&self, pid: i32, program: &str) -> Result<Option<ProcessId>> {
        self.call(&Ask::Process(pid, program.to_owned()), FILE_CALL)
    }
    fn end(&self, _: ProcessId) -> Result<()> {
        Self::not_here("a recorded process")
    }
    fn has_systemd(&self) -> Result<bool> {
        self.call(&Ask::HasSystemd, FILE_CALL)
    }
    fn installed(&self, program: Program) -> Result<bool> {
        self.call(&Ask::Installed(program), FILE_CALL)
    }

    fn dns(&self, ask: &DnsAsk, within: Duration) -> Result<DnsAnswer> {
        let (within, ms) = network_time(within);
        self.call(&Ask::Dns(ask.clone(), ms), within + FILE_CALL)
    }
    fn reach(&self, to: SocketAddr, within: Duration) -> Result<Reach> {
        let (within, ms) = network_time(within);
        self.call(&Ask::Reach(to, ms), within + FILE_CALL)
    }

    fn lock(&self, _: &Path, _: &str, _: Duration) -> Result<Box<dyn Lock>> {
        Self::not_here("a lock")
    }
    fn now_ms(&self) -> i64 {
        self.node.now_ms()
    }
    fn monotonic_ms(&self) -> u64 {
        self.node.monotonic_ms()
    }
    fn own_cpu_us(&self) -> u64 {
        self.node.own_cpu_us()
    }
    fn pause(&self, time: Duration) {
        self.node.pause(time);
    }
    fn random(&self, bytes: &mut [u8]) -> Result<()> {
        self.node.random(bytes)
    }
    fn own_process(&self) -> ProcessId {
        self.node.own_process()
    }
    /// Files of ours inside belong to the guest's root.
    fn own_ids(&self) -> (u32, u32) {
        (0, 0)
    }
    fn node_name(&self) -> Result<String> {
        Self::not_here("the node's name")
    }
}

// ---- the guest's end ---------------------------------------------------------------------------------------------------

/// Answers calls, one line each, until the input ends; commands that still run then are ended. What `smbgw-guest` does.
pub fn serve(host: Rc<dyn Host>, input: &mut dyn BufRead, output: &mut dyn Write) -> io::Result<()> {
    let mut server = Server::new(host);
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let mut answer = server.answer(&line);
        wipe(&mut line);
        answer.push(b'\n');
        output.write_all(&answer)?;
        output.flush()?;
    }
}

/// The state of the guest's end: commands that were started and not yet heard of.
pub struct Server {
    host: Rc<dyn Host>,
    jobs: BTreeMap<u32, Box<dyn Job>>,
    next: u32,
}

impl Server {
    /// Serves a host.
    pub fn new(host: Rc<dyn Host>) -> Self {
        Self { host, jobs: BTreeMap::new(), next: 0 }
    }

    /// The answer to one line, without the line feed.
    pub fn answer(&mut self, line: &[u8]) -> Vec<u8> {
        let done = serde_json::from_slice(line)
            .map_err(|e| Error::new(Kind::Argument, "the call cannot be read").caused_by(e))
            .and_then(|ask| self.act(ask));
        let answer = match done {
            Ok(value) => Answer::Ok(value),
            Err(e) => Answer::Err(Box::new(e.to_doc())),
        };
        serde_json::to_vec(&answer).unwrap_or_default()
    }

    fn act(&mut self, ask: Ask) -> Result<Value> {
        let host = &self.host;
        match ask {
            Ask::Hello => value(HAND_VERSION),
            Ask::Read(path, limit) => value(host.read(&path, limit.min(FILE_LIMIT))?),
            Ask::Tail(path, from, limit) => value(host.tail(&path, from, limit.min(FILE_LIMIT))?),
            Ask::Records(path) => value(host.records(&path)?),
            Ask::Counters(path, wanted) => value(host.counters(&path, &wanted)?),
            Ask::Write(file) => value(host.write(&file)?),
            Ask::Remove(path) => value(host.remove(&path)?),
            Ask::Rename(from, to) => value(host.rename(&from, &to)?),
            Ask::MakeDir(path, mode) => value(host.make_dir(&path, mode)?),
            Ask::RemoveDir(path) => value(host.remove_dir(&path)?),
            Ask::List(path) => value(host.list(&path)?),
            Ask::Exists(path) => value(host.exists(&path)?),
            Ask::Tree(path) => value(host.tree(&path)?),
            Ask::RemoveInTree(path, name) => value(host.remove_in_tree(&path, &name)?),
            Ask::Space(path) => value(host.space(&path)?),
            Ask::Start(cmd, mut secret) => {
                let mut secrets = Secrets::default();
                if let Stdin::Secret { name, .. } = &cmd.stdin {
                    secrets.put(name, std::mem::take(&mut secret.0));
                }
                let job = host.start(&cmd, &secrets)?;
                self.next += 1;
                self.jobs.insert(self.next, job);
                value(self.next)
            }
            Ask::Poll(number, ms) => {
                let job = self.jobs.get_mut(&number).ok_or_else(|| Error::new(Kind::Argument, "there is no such command"))?;
                let output = job.poll(Duration::from_millis(ms.min(1000)))?;
                if output.is_some() {
                    self.jobs.remove(&number);
                }
                value(output)
            }
            Ask::Kill(number) => {
                if let Some(mut job) = self.jobs.remove(&number) {
                    job.kill();
                }
                value(())
            }
            Ask::Alive(process) => value(host.alive(process)?),
            Ask::Process(pid, program) => value(host.process(pid, &program)?),
            Ask::HasSystemd => value(host.has_systemd()?),
            Ask::Installed(program) => value(host.installed(program)?),
            Ask::Dns(ask, ms) => value(host.dns(&ask, Duration::from_millis(ms).min(NETWORK_LIMIT))?),
            Ask::Reach(to, ms) => value(host.reach(to, Duration::from_millis(ms).min(NETWORK_LIMIT))?),
        }
    }
}

fn value<T: Serialize>(of: T) -> Result<Value> {
    serde_json::to_value(of).map_err(|e| Error::new(Kind::Internal, "an answer cannot be written down").caused_by(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_in_no_printed_form_and_hex_round_trips() {
        let ask = Ask::Start(Cmd::new(Program::Smbpasswd, ["-s"]).secret("password", 2), Secret(b"hunter2".to_vec()));
        let line = serde_json::to_string(&ask).expect("plain data");
        assert!(!line.contains("hunter2"));
        let Ask::Start(cmd, secret) = serde_json::from_str(&line).expect("own output") else { panic!("another call") };
        assert_eq!((secret.0.as_slice(), cmd.args.as_slice()), (b"hunter2".as_slice(), ["-s".to_owned()].as_slice()));
    }

    #[test]
    fn nonsense_is_answered_with_an_error() {
        let sim = super::super::sim::SimHost::debian();
        let mut output = Vec::new();
        serve(Rc::new(sim), &mut &b"{}\nnonsense\n\"hello\"\n"[..], &mut output).expect("memory");
        let lines: Vec<&[u8]> = output.split(|b| *b == b'\n').collect();
        assert!(lines[0].starts_with(b"{\"err\"") && lines[1].starts_with(b"{\"err\""));
        assert_eq!(lines[2], format!("{{\"ok\":\"{HAND_VERSION}\"}}").as_bytes());
    }
}
