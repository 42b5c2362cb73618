// SPDX-License-Identifier: MIT OR Apache-2.0
//! A step as data: what it looks at, what it does, how it is taken back. It knows nothing about shares, and nothing about how
//! a step is carried out; a step carries everything it needs, so that `run` has no choice to make.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::effect::{Cmd, Daemon, FileSpec, Place, Program};
use crate::error::{Error, Kind, Result};
use crate::facts::{Limits, Template};
use crate::quota::{Means, Project, Tag, UserMeans};
use crate::spec::DomainSpec;
use crate::spec::record::Key;
use crate::types::{ByteSize, DomainAccount, VmId, Workgroup};

/// How long a step takes: `quick` ones may run inside a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Seconds at most.
    Quick,
    /// Minutes: only a worker or a task does it.
    Long,
}

/// The thing a step changes. It is looked at before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Watch {
    /// Nothing lasting (a check, a reload).
    Nothing,
    /// A file.
    File(PathBuf),
    /// The root of a tree.
    Tree(PathBuf),
    /// A Unix user.
    UnixUser(String),
    /// A Unix group and whether a user is in it.
    UnixGroup(String),
    /// A user of Samba's passdb.
    SambaUser(String),
    /// The share ACL (`sharesec`).
    ShareAcl(String),
    /// A daemon of Samba.
    Daemon(Daemon),
    /// Whether Samba holds the secret of a computer account: the domain, by its NetBIOS name.
    Member(Workgroup),
    /// A part of the gateway record.
    Record(Key),
    /// Whether the record's hash of a user is the one it had before the operation.
    SameHash(String),
    /// A file of ours directly under a tree's root.
    InTree(PathBuf, String),
    /// A container of the node: whose it is, and whether it runs.
    Guest(VmId),
    /// One line of a container's configuration, by its key.
    GuestLine(VmId, String),
    /// Whether something is at a path: a directory in which we build, or a file that is too large to be looked into.
    Exists(PathBuf),
    /// The limit of a tree.
    Quota(PathBuf, Means),
    /// The project of a tree's root.
    Project(PathBuf),
    /// The limit of what a user may own in a tree.
    UserQuota(PathBuf, UserMeans, u32),
}

/// What was seen of a [`Watch`]. It goes into the journal, so nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// Nothing to see, by nature.
    Nothing,
    /// It is not there.
    Absent,
    /// A file. The content is kept where undo may need it.
    File {
        /// SHA-256 of the content, hex.
        sha256: String,
        /// Mode bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// The content.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<String>,
    },
    /// A tree's root.
    Tree {
        /// File system.
        fsid: u64,
        /// Inode.
        ino: u64,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Mode bits.
        mode: u32,
    },
    /// A Unix user.
    UnixUser {
        /// Number.
        uid: u32,
        /// Primary group.
        gid: u32,
        /// GECOS field; our mark is in it.
        comment: String,
    },
    /// A Unix group.
    UnixGroup {
        /// Number.
        gid: u32,
        /// Members in the order of the file.
        members: Vec<String>,
    },
    /// A passdb user.
    SambaUser {
        /// May not log in.
        disabled: bool,
        /// Last change of the password, seconds since the epoch, hex as Samba prints it.
        changed: String,
    },
    /// A share ACL, one ACE per entry, as `sharesec` prints them.
    ShareAcl(Vec<String>),
    /// A daemon runs.
    Running,
    /// A computer account whose secret Samba holds.
    Member {
        /// Its name.
        account: String,
        /// The SID of its domain.
        sid: String,
    },
    /// A part of the record.
    Record(Value),
    /// Something is there.
    Present,
    /// A container: whose it is, and whether it runs.
    Guest {
        /// Marks of gateways among its tags.
        marks: Vec<String>,
        /// It runs.
        running: bool,
    },
    /// A line of a configuration.
    Line(String),
    /// The limit of a tree.
    Limit {
        /// File system.
        fsid: u64,
        /// Inode.
        ino: u64,
        /// Bytes; `None`: there is no limit.
        bytes: Option<u64>,
    },
    /// The project of a tree's root.
    Project(Project),
}

impl Seen {
    /// The same thing, whatever a kept content or a clock says: what "unchanged" means.
    pub fn same(&self, other: &Seen) -> bool {
        match (self, other) {
            (Seen::File { sha256: a, mode: m, uid: u, gid: g, .. }, Seen::File { sha256: b, mode: n, uid: v, gid: h, .. }) => {
                a == b && m == n && u == v && g == h
            }
            _ => self == other,
        }
    }
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Runs a command.
    Run(Cmd),
    /// Makes a file what it shall be.
    Write(FileSpec),
    /// Writes a credentials file for a client: `username = …`, `password = …` from a secret; 0600 in the run directory.
    WriteCredentials {
        /// Where.
        path: PathBuf,
        /// User.
        user: String,
        /// Name of the secret.
        secret: String,
    },
    /// Removes a file.
    Remove(PathBuf),
    /// Puts a file in the place of another in the same directory.
    Rename(PathBuf, PathBuf),
    /// Removes a file of ours directly under a tree's root, without following a symlink.
    RemoveInTree(PathBuf, String),
    /// Changes group and mode of a tree's root.
    SetTree {
        /// The tree.
        path: PathBuf,
        /// File system that must still be there; 0: it has no number that lasts.
        fsid: u64,
        /// Inode that must still be there.
        ino: u64,
        /// Owner to be.
        uid: u32,
        /// Group to be.
        gid: u32,
        /// Mode to be.
        mode: u32,
    },
    /// Sets a part of the record.
    Record(Key, Option<Value>),
    /// Makes the record, with a new uuid.
    NewRecord,
    /// Keeps the NT hash of a user in the record.
    KeepHash(String),
    /// Puts the record's hash of a user by, for an undo.
    PutHashBy(String),
    /// Takes the hash that was put by back into the record.
    TakeHashBack(String),
    /// Brings a user back into passdb from the record: hash, RID and flags.
    ImportHash {
        /// Who.
        user: String,
        /// A directory for the 0600 file that `pdbedit -i` reads.
        scratch: PathBuf,
    },
    /// Ends a daemon and waits until it is gone.
    StopDaemon {
        /// Which.
        daemon: Daemon,
        /// Where it writes its pid.
        pid_file: PathBuf,
        /// Ends it, directly or through systemd.
        stop: Cmd,
    },
    /// Starts a daemon and waits until it answers.
    StartDaemon {
        /// Which.
        daemon: Daemon,
        /// Where it writes its pid.
        pid_file: PathBuf,
        /// Starts it.
        start: Cmd,
        /// First ends it, for settings that a reload does not change.
        restart: Option<Cmd>,
    },
    /// Looks for a domain, its controllers and the account that is to be made, and records what it is. Nothing is changed.
    FindDomain(Box<Joining>),
    /// Makes the machine a member of a domain.
    Join(Box<Joining>),
    /// Takes back a join, or leaves. The computer account is deleted or disabled, or left alone where it was there before us.
    Unjoin {
        /// How it was joined; who may take it back.
        by: Box<Joining>,
        /// What becomes of the computer account.
        account: Parting,
        /// Samba's secrets from before the join, which come back.
        secrets: Option<(PathBuf, PathBuf)>,
    },
    /// Looks accounts of the domain up and records them; true: a group.
    KnowAccounts(Vec<(DomainAccount, bool)>),
    /// Writes the keytab anew.
    MakeKeytab,
    /// A client logs in to a share, and looks into it.
    LogIn(Cmd),
    /// Shows that the membership is good.
    ProveMember,
    /// Ends the sessions of a user.
    EndSessions(String),
    /// Ends one session, by its id, and with it the connection that it came by.
    EndSession(String),
    /// Checks a complete candidate configuration before it goes live.
    Candidate(Candidate),
    /// Reads the effective configuration back.
    Effective(Vec<Setting>),
    /// Runs a command that makes a container of the given number.
    CreateGuest {
        /// Its number.
        vmid: VmId,
        /// Makes it.
        cmd: Cmd,
    },
    /// Runs a command on a container that is ours: looks for our mark just before.
    OnGuest {
        /// Its number.
        vmid: VmId,
        /// The gateway's uuid, which is in the mark.
        uuid: String,
        /// What is done.
        cmd: Cmd,
        /// It is fine if the container is not there any more.
        gone_ok: bool,
    },
    /// Puts a raw line (`lxc.…`) into the configuration of a stopped container that is ours, or takes it out.
    GuestLine {
        /// Its number.
        vmid: VmId,
        /// The gateway's uuid.
        uuid: String,
        /// Key.
        key: String,
        /// Value; `None` takes it out.
        value: Option<String>,
    },
    /// Reads the limits of a running container back from the kernel.
    GuestLimits {
        /// Its number.
        vmid: VmId,
        /// What must be in effect.
        wanted: Limits,
    },
    /// Waits until the init system of a guest has brought it up.
    AwaitBoot,
    /// Keeps the SID of the place's Samba in the record.
    KeepSid,
    /// Compares a file with its check sum.
    Checksum {
        /// Which.
        path: PathBuf,
        /// SHA-256, hex.
        sha256: String,
    },
    /// Makes a directory.
    MakeDir {
        /// Where.
        path: PathBuf,
        /// Mode bits.
        mode: u32,
    },
    /// Removes a directory, if nothing is in it.
    RemoveDir(PathBuf),
    /// Removes a directory of ours in which something was built, with everything in it. Never a user's: it must lie below the state directory.
    RemoveBuild(PathBuf),
    /// Gives every entry of a tree other numbers; goes on where it was cut short.
    Shift {
        /// The tree.
        path: PathBuf,
        /// Up by 100000, or down again.
        up: bool,
    },
    /// Limits a tree, or lifts its limit.
    SetQuota {
        /// The tree.
        path: PathBuf,
        /// File system that must still be there; 0: it has no number that lasts.
        fsid: u64,
        /// Inode that must still be there.
        ino: u64,
        /// How.
        means: Means,
        /// Bytes.
        limit: Option<u64>,
    },
    /// Limits what a user may own in a tree, or lifts that limit.
    SetUserQuota {
        /// The tree.
        path: PathBuf,
        /// File system that must still be there; 0: it has no number that lasts.
        fsid: u64,
        /// Inode that must still be there.
        ino: u64,
        /// How.
        means: UserMeans,
        /// The user's number on the disk.
        uid: u32,
        /// Bytes.
        limit: Option<u64>,
    },
    /// Gives everything in a tree another project; goes on where it was cut short.
    Tag {
        /// The tree.
        path: PathBuf,
        /// File system that must still be there; 0: it has no number that lasts.
        fsid: u64,
        /// Inode that must still be there.
        ino: u64,
        /// From which to which.
        tag: Tag,
    },
    /// Finishes a template: its check sum, size and versions go into the marker beside it.
    MarkTemplate {
        /// The archive.
        archive: PathBuf,
        /// The marker, without what is only known now.
        marker: Box<Template>,
    },
    /// A client logs in, writes, reads back and removes a file.
    RoundTrip {
        /// The client's command.
        client: Cmd,
        /// What is written.
        source: FileSpec,
        /// Where what is read back goes.
        copy: PathBuf,
        /// That no domain controller can be used is no failure.
        #[serde(default)]
        may_wait: bool,
    },
}

/// A complete candidate: the foreign file with our include line, and our file, as both would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Candidate {
    /// The live main file.
    pub live: PathBuf,
    /// Our live file.
    pub own: PathBuf,
    /// Text of the main file to be.
    pub main_text: String,
    /// Text of our file to be.
    pub own_text: String,
    /// Directory for the two candidate files.
    pub scratch: PathBuf,
    /// Sections that are ours.
    pub ours: Vec<String>,
    /// Foreign sections must mean the same afterwards; so must `[global]` where this is set.
    pub keep_globals: bool,
}

/// How a machine comes into a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Joining {
    /// What is wanted.
    pub domain: DomainSpec,
    /// A configuration for `net` alone, while Samba itself is not told yet; empty before the domain is known.
    pub conf: String,
    /// Where it is put for the time of a command.
    pub scratch: PathBuf,
    /// The account that joins. `None`: nobody was named.
    pub account: Option<String>,
    /// By what it proves itself.
    #[serde(default)]
    pub by: JoinBy,
    /// Our own Kerberos configuration.
    pub krb5: PathBuf,
    /// The domain's NetBIOS name, once it is known.
    #[serde(default)]
    pub workgroup: Option<crate::types::Workgroup>,
}

/// What a join is done with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JoinBy {
    /// The secret `password` of an account.
    #[default]
    Password,
    /// Tickets of an account: the secret `ticket`, a credentials cache of MIT Kerberos.
    Ticket,
    /// What `net offlinejoin provision` or `djoin` wrote: the secret `offline-join`. No account is needed.
    Offline,
}

impl JoinBy {
    /// As it is asked for: by the name of its secret.
    pub fn parse(text: &str) -> Option<Self> {
        [JoinBy::Password, JoinBy::Ticket, JoinBy::Offline].into_iter().find(|b| b.secret() == text)
    }

    /// The name of the secret.
    pub fn secret(self) -> &'static str {
        match self {
            JoinBy::Password => "password",
            JoinBy::Ticket => "ticket",
            JoinBy::Offline => "offline-join",
        }
    }
}

impl Joining {
    /// Where a ticket or a blob is for the time of a command.
    pub fn secret_file(&self) -> PathBuf {
        self.scratch.with_file_name("secret")
    }

    /// Puts a ticket or a blob where the commands find it; nothing for a password, which goes to their standard input.
    pub fn bring_secret(&self) -> Option<Cmd> {
        let name = self.by.secret();
        let file = self.secret_file().display().to_string();
        (self.by != JoinBy::Password).then(|| Cmd::new(Program::Install, ["--mode=0600", "/dev/stdin", &file]).secret(name, 0))
    }

    /// A `net` command of the account that joins, which reads a configuration of its own. `None`: nobody was named.
    pub fn net(&self, words: &[&str]) -> Option<Cmd> {
        let mut args: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        args.push(format!("--configfile={}", self.scratch.display()));
        let account = self.account.clone()?;
        if self.by == JoinBy::Ticket {
            let file = self.secret_file();
            // Joining and leaving want the name of the account beside its ticket; a search says nothing and fails with it (measured, 4.17).
            if matches!(words, [_, "join" | "leave", ..]) {
                let realm = self.domain.domain.realm();
                let account = if account.contains('@') { account } else { format!("{account}@{realm}") };
                args.extend(["-N".into(), "-U".into(), account]);
            }
            // Without the variable the option is refused, without the option the variable is passed by.
            args.extend(["--use-kerberos=required".into(), format!("--use-krb5-ccache=FILE:{}", file.display())]);
            return Some(Cmd::new(Program::Net, args).within_ms(60_000).krb5_config(&self.krb5).krb5_ccache(file));
        }
        args.extend(["-U".to_owned(), account]);
        Some(Cmd::new(Program::Net, args).secret(self.by.secret(), 1).within_ms(60_000).krb5_config(&self.krb5))
    }
}

/// What becomes of a computer account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parting {
    /// It is deleted.
    Delete,
    /// It stays, disabled.
    Keep,
    /// It is not touched.
    LeaveAlone,
}

/// A setting as it must be in effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Section.
    pub section: String,
    /// Parameter.
    pub name: String,
    /// Value.
    pub value: String,
}

/// How a step is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// It changes nothing that lasts, or nothing that must be taken back; says why.
    None(String),
    /// Back to what was seen before: file, tree, record.
    Restore,
    /// Back to what was seen before, then these effects, whose failure is only noted (a reload), except for a start of smbd.
    RestoreThen(Vec<Effect>),
    /// These effects, one after the other.
    Do(Vec<Effect>),
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Step {
    /// Unique within its plan, for example `samba/include`.
    pub id: String,
    /// For people.
    pub title: String,
    /// Where it acts.
    pub place: Place,
    /// What it changes.
    pub watch: Watch,
    /// What must be seen before it acts; `None`: anything. Otherwise the plan is made anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Seen>,
    /// What is seen once it is done, where that is known; seen already, the step does nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub want: Option<Seen>,
    /// What it does.
    pub effect: Effect,
    /// How it is taken back.
    pub undo: Undo,
    /// How long it takes.
    pub class: Class,
}

impl Step {
    /// A quick step on the node that cannot be undone because nothing lasts.
    pub fn new(id: impl Into<String>, title: impl Into<String>, watch: Watch, effect: Effect) -> Self {
        Self {
            id: id.into(),
            title: title.into(),
            place: Place::Node,
            watch,
            before: None,
            want: None,
            effect,
            undo: Undo::None("nothing lasting is changed".into()),
            class: Class::Quick,
        }
    }

    /// How it is taken back.
    #[must_use]
    pub fn undo(mut self, undo: Undo) -> Self {
        self.undo = undo;
        self
    }

    /// What is seen once it is done.
    #[must_use]
    pub fn want(mut self, want: Seen) -> Self {
        self.want = Some(want);
        self
    }

    /// It acts there.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// It takes minutes rather than seconds.
    #[must_use]
    pub fn long(mut self) -> Self {
        self.class = Class::Long;
        self
    }

    /// What must be seen before it acts.
    #[must_use]
    pub fn before(mut self, before: Seen) -> Self {
        self.before = Some(before);
        self
    }

    /// The number of a container that it records.
    pub fn records_number(&self) -> Option<VmId> {
        match &self.effect {
            Effect::Record(Key::Vmid, Some(v)) => VmId::new(u32::try_from(v.as_u64()?).ok()?).ok(),
            _ => None,
        }
    }
}

impl Effect {
    /// Whether it acts on the node wherever Samba is: the record, the trees, containers from outside.
    pub fn is_of_the_node(&self) -> bool {
        matches!(
            self,
            Effect::SetTree { .. }
                | Effect::Record(..)
                | Effect::NewRecord
                | Effect::PutHashBy(_)
                | Effect::TakeHashBack(_)
                | Effect::CreateGuest { .. }
                | Effect::OnGuest { .. }
                | Effect::GuestLine { .. }
                | Effect::GuestLimits { .. }
                | Effect::Shift { .. }
                | Effect::SetQuota { .. }
                | Effect::SetUserQuota { .. }
                | Effect::Tag { .. }
        )
    }

    /// The file, put by before, that it brings back.
    pub fn undoes_with(&self) -> Option<&PathBuf> {
        match self {
            Effect::Unjoin { secrets: Some((before, _)), .. } => Some(before),
            _ => None,
        }
    }

    /// The account whose password it takes.
    pub fn account_of_undo(&self) -> Option<&str> {
        match self {
            Effect::Unjoin { by, .. } if by.by == JoinBy::Password => by.account.as_deref(),
            _ => None,
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::Run(cmd) => write!(f, "run {cmd}"),
            Effect::Write(file) => write!(
                f,
                "write {} ({} bytes, mode {:04o}, {}:{})",
                file.path.display(),
                file.content.len(),
                file.mode,
                file.uid,
                file.gid
            ),
            Effect::WriteCredentials { path, user, secret } => {
                write!(f, "write {} for user {user} < (secret {secret})", path.display())
            }
            Effect::RemoveInTree(path, name) => write!(f, "remove {}", path.join(name).display()),
            Effect::Remove(path) => write!(f, "remove {}", path.display()),
            Effect::Rename(from, to) => write!(f, "rename {} to {}", from.display(), to.display()),
            Effect::SetTree { path, uid, gid, mode, .. } => write!(f, "set {} to {uid}:{gid} {mode:04o}", path.display()),
            Effect::Record(key, Some(_)) => write!(f, "record {key}"),
            Effect::Record(key, None) => write!(f, "forget {key}"),
            Effect::NewRecord => f.write_str("make the gateway record"),
            Effect::KeepHash(user) => write!(f, "keep the NT hash of {user} in the gateway record"),
            Effect::PutHashBy(user) => write!(f, "put the former NT hash of {user} by in the gateway record"),
            Effect::TakeHashBack(user) => write!(f, "take the former NT hash of {user} back into the gateway record"),
            Effect::ImportHash { user, .. } => write!(f, "bring {user} back into passdb from the gateway record"),
            Effect::StopDaemon { daemon, stop, .. } => write!(f, "run {stop} and wait until {} is gone", daemon.name()),
            Effect::StartDaemon { daemon, start, restart: None, .. } => {
                write!(f, "run {start} and wait until {} answers", daemon.name())
            }
            Effect::StartDaemon { daemon, start, restart: Some(stop), .. } => {
                write!(f, "run {stop}, then {start}, and wait until {} answers", daemon.name())
            }
            Effect::FindDomain(j) => write!(f, "look for the domain {} and its controllers", j.domain.domain),
            Effect::Join(j) => {
                write!(f, "join {} as {}", j.domain.domain, j.domain.computer)?;
                j.domain.ou.iter().try_for_each(|ou| write!(f, " in {ou}"))?;
                j.account.iter().try_for_each(|a| write!(f, ", by {a}"))?;
                write!(f, " < (secret {})", j.by.secret())
            }
            Effect::Unjoin { by, account, secrets } => {
                let what = match account {
                    Parting::Delete => "delete the computer account",
                    Parting::Keep => "disable the computer account",
                    Parting::LeaveAlone => "leave the computer account alone",
                };
                write!(f, "leave {}: {what}", by.domain.domain)?;
                if secrets.is_some() { f.write_str(", bring Samba's former secrets back") } else { Ok(()) }
            }
            Effect::KnowAccounts(list) => {
                write!(f, "look up {}", list.iter().map(|(a, _)| a.to_string()).collect::<Vec<_>>().join(", "))
            }
            Effect::LogIn(cmd) => write!(f, "run {cmd}"),
            Effect::MakeKeytab => {
                f.write_str("write the keytab from the machine's password and the names that the domain has for it")
            }
            Effect::ProveMember => f.write_str("ask Samba and the domain whether the membership is good"),
            Effect::EndSessions(user) => write!(f, "end the sessions of {user}"),
            Effect::EndSession(id) => write!(f, "end session {id}"),
            Effect::Candidate(c) => write!(f, "check the complete candidate of {}", c.live.display()),
            Effect::Effective(list) => write!(f, "read {} settings back", list.len()),
            Effect::RoundTrip { client, .. } => write!(f, "run {client} and compare"),
            Effect::CreateGuest { cmd, .. } => write!(f, "run {cmd}"),
            Effect::OnGuest { cmd, .. } => write!(f, "run {cmd}, if the container is ours"),
            Effect::GuestLine { vmid, key, value: Some(v), .. } => {
                write!(f, "put \"{key}: {v}\" into the configuration of container {vmid}")
            }
            Effect::GuestLine { vmid, key, value: None, .. } => {
                write!(f, "take {key} out of the configuration of container {vmid}")
            }
            Effect::GuestLimits { vmid, wanted } => write!(f, "read back from container {vmid}: {wanted}"),
            Effect::AwaitBoot => f.write_str("run systemctl is-system-running until it is up"),
            Effect::KeepSid => f.write_str("keep the SID of Samba in the gateway record"),
            Effect::Checksum { path, sha256 } => {
                write!(f, "compare {} with its check sum {}…", path.display(), sha256.get(..12).unwrap_or(sha256))
            }
            Effect::MakeDir { path, mode } => write!(f, "make {} ({mode:04o})", path.display()),
            Effect::RemoveDir(path) => write!(f, "remove {} if it is empty", path.display()),
            Effect::RemoveBuild(path) => write!(f, "remove {} and what was built in it", path.display()),
            Effect::Shift { path, up } => write!(
                f,
                "{} 100000 {} the owner and group of everything in {}",
                if *up { "add" } else { "take" },
                if *up { "to" } else { "from" },
                path.display()
            ),
            Effect::SetQuota { path, means, limit: Some(bytes), .. } => {
                write!(f, "limit {} to {} ({means})", path.display(), ByteSize(*bytes))
            }
            Effect::SetQuota { path, means, limit: None, .. } => write!(f, "lift the limit of {} ({means})", path.display()),
            Effect::SetUserQuota { path, means, uid, limit: Some(bytes), .. } => {
                write!(f, "limit user {uid} in {} to {} ({means})", path.display(), ByteSize(*bytes))
            }
            Effect::SetUserQuota { path, means, uid, limit: None, .. } => {
                write!(f, "lift the limit of user {uid} in {} ({means})", path.display())
            }
            Effect::Tag { path, tag, .. } => {
                write!(f, "give everything in {} project {} instead of {}", path.display(), tag.to.id, tag.from.id)
            }
            Effect::MarkTemplate { archive, .. } => write!(f, "write the marker of {}", archive.display()),
        }
    }
}

impl fmt::Display for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Undo::None(why) => write!(f, "none: {why}"),
            Undo::Restore => f.write_str("put back what was there"),
            Undo::RestoreThen(effects) => {
                f.write_str("put back what was there")?;
                effects.iter().try_for_each(|e| write!(f, ", then {e}"))
            }
            Undo::Do(effects) => {
                effects.iter().enumerate().try_for_each(|(i, e)| write!(f, "{}{e}", if i == 0 { "" } else { ", then " }))
            }
        }
    }
}

impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Watch::Nothing => f.write_str("the machine"),
            Watch::File(p) => write!(f, "{}", p.display()),
            Watch::Tree(p) => write!(f, "the owner of {}", p.display()),
            Watch::UnixUser(n) => write!(f, "the account {n}"),
            Watch::UnixGroup(n) => write!(f, "the group {n}"),
            Watch::SambaUser(n) => write!(f, "the passdb user {n}"),
            Watch::ShareAcl(n) => write!(f, "the share ACL of [{n}]"),
            Watch::Daemon(d) => f.write_str(d.name()),
            Watch::Member(w) => write!(f, "the membership of {w}"),
            Watch::SameHash(n) => write!(f, "the gateway record's hash of {n}"),
            Watch::Record(k) => write!(f, "the gateway record ({k})"),
            Watch::InTree(p, n) => write!(f, "{}", p.join(n).display()),
            Watch::Guest(vmid) => write!(f, "container {vmid}"),
            Watch::GuestLine(vmid, key) => write!(f, "{key} of container {vmid}"),
            Watch::Exists(p) => write!(f, "{}", p.display()),
            Watch::Quota(p, _) => write!(f, "the limit of {}", p.display()),
            Watch::UserQuota(p, _, uid) => write!(f, "the limit of user {uid} in {}", p.display()),
            Watch::Project(p) => write!(f, "the project of {}", p.display()),
        }
    }
}

impl Watch {
    /// The effect that brings the thing back to what was seen.
    pub fn restore(&self, before: &Seen) -> Result<Effect> {
        Ok(match (self, before) {
            (Watch::File(p), Seen::Absent) => Effect::Remove(p.clone()),
            (Watch::File(p), Seen::File { mode, uid, gid, content: Some(content), .. }) => {
                Effect::Write(FileSpec { path: p.clone(), content: content.clone(), mode: *mode, uid: *uid, gid: *gid })
            }
            (Watch::Tree(p), Seen::Tree { fsid, ino, uid, gid, mode }) => {
                Effect::SetTree { path: p.clone(), fsid: *fsid, ino: *ino, uid: *uid, gid: *gid, mode: *mode }
            }
            (Watch::Record(k), Seen::Absent) => Effect::Record(k.clone(), None),
            (Watch::Record(k), Seen::Record(v)) => Effect::Record(k.clone(), Some(v.clone())),
            (Watch::Quota(p, means), Seen::Limit { fsid, ino, bytes }) => {
                Effect::SetQuota { path: p.clone(), fsid: *fsid, ino: *ino, means: means.clone(), limit: *bytes }
            }
            (Watch::UserQuota(p, means, uid), Seen::Limit { fsid, ino, bytes }) => {
                Effect::SetUserQuota { path: p.clone(), fsid: *fsid, ino: *ino, means: means.clone(), uid: *uid, limit: *bytes }
            }
            (Watch::InTree(p, n), Seen::Absent) => Effect::RemoveInTree(p.clone(), n.clone()),
            (w, b) => return Err(Error::new(Kind::Internal, format!("{w} cannot be brought back to {b:?}"))),
        })
    }
}
