// SPDX-License-Identifier: MIT OR Apache-2.0
//! The gateway record: what has to survive a lost section, a reinstalled node or a rebuilt guest. It knows its own form and
//! the rule that a number is never given to somebody else; it must not know where the file lies or what the numbers do.
//!
//! The NT hashes lie in a map of their own, so that everything else can be journalled and shown.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::domain::IdRange;
use super::section::{Mode, Section};
use crate::error::{Error, Kind, Result};
use crate::quota::{Means, Project};
use crate::types::{DnsDomain, DomainAccount, VmId, Workgroup};

/// The version of the form.
pub const SCHEMA: u32 = 1;

/// The numbers of a gateway's users and groups: first, and one past the last.
///
/// On a node they are above `UID_MAX` (60000) and systemd's ranges and below the first subordinate id (100000); Debian policy 9.2 leaves
/// 65536 and up to the administrator, and no tool of Debian allocates from there by itself. An unprivileged container knows the
/// numbers below 65536 only; there they are beside those that a domain needs (10000 and up, `idmap config`), and nobody else makes
/// accounts in it.
pub const fn numbers_of(mode: Mode) -> (u32, u32) {
    match mode {
        Mode::Native => (70_000, 80_000),
        Mode::Lxc => (8_000, 10_000),
    }
}

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// Version of the form.
    pub schema: u32,
    /// Name; that of the node's own Samba is `native` on every node.
    pub id: String,
    /// Random and unique: the mark of what is ours.
    pub uuid: String,
    /// Owner node.
    pub node: String,
    /// Where its Samba runs.
    #[serde(default)]
    pub mode: Mode,
    /// Its container: recorded before the first command that uses the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vmid: Option<VmId>,
    /// The container that an upgrade replaces, until it is destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<VmId>,
    /// Settings of the gateway by property, as its sections stated them last: its container, its domain.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: Section,
    /// The template that its container was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Hardware address of its interface: an upgraded container keeps it, and so what DHCP gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hwaddr: Option<String>,
    /// The SID of its Samba: a container that is built anew gets it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// An administrator stopped it: the worker does not start it.
    #[serde(default)]
    pub stopped: bool,
    /// It as a member of a domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Member>,
    /// Accounts of the domain that its shares name, by [`DomainAccount::folded`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accounts: BTreeMap<String, KnownAccount>,
    /// Next number to give.
    pub next_id: u32,
    /// smbd did not run before us: we end it with the last share.
    #[serde(default)]
    pub started_smbd: bool,
    /// SHA-256 of our configuration file as last written by us; empty if there is none.
    #[serde(default)]
    pub conf_sha256: String,
    /// Since when there is something new in our file that sessions which were open before do not know: smbd was not told to read it. In
    /// milliseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload_due: Option<i64>,
    /// Shares by storage id.
    #[serde(default)]
    pub shares: BTreeMap<String, ShareEntry>,
    /// Users by name.
    #[serde(default)]
    pub users: BTreeMap<String, UserEntry>,
    /// Groups by name.
    #[serde(default)]
    pub groups: BTreeMap<String, GroupEntry>,
    /// Numbers once given, by `user/NAME`, `group/NAME`, `share/ID`: the same name gets the same number again.
    #[serde(default)]
    pub numbers: BTreeMap<String, u32>,
    /// When a share was removed, by storage id, for as long as storage.cfg still has its section: it must not be built again.
    #[serde(default)]
    pub removed: BTreeMap<String, i64>,
    /// NT hashes by user. Secret.
    #[serde(default)]
    pub hashes: BTreeMap<String, NtHash>,
    /// NT hashes that an operation replaced or dropped, so that its undo can bring them back; gone when it is over. Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub former: BTreeMap<String, NtHash>,
}

/// How far a membership is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// The domain was found and looked at.
    Found,
    /// The computer account is ours, and its secret is with Samba.
    Joined,
    /// An administrator took the gateway out.
    Left,
}

/// A gateway as a member of a domain: what was found out once and must stay the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Member {
    /// The domain.
    pub domain: DnsDomain,
    /// Its NetBIOS name.
    pub workgroup: Workgroup,
    /// The gateway's name in it.
    pub computer: String,
    /// Numbers of its accounts.
    pub range: IdRange,
    /// How far it is.
    pub state: MemberState,
    /// The computer account was there before we joined: it is never deleted by an undo.
    #[serde(default)]
    pub account_before: bool,
    /// winbindd did not run before us.
    #[serde(default)]
    pub started_winbindd: bool,
    /// winbindd did not start with the machine before us.
    #[serde(default)]
    pub enabled_winbindd: bool,
    /// `/etc/nsswitch.conf` did not name winbind before us.
    #[serde(default)]
    pub added_names: bool,
    /// SID of the computer account: its ticket proves shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// When it joined, milliseconds since the epoch.
    #[serde(default)]
    pub joined_ms: i64,
    /// Local users are let in, because no domain controller answers: since when, and whether an administrator ordered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
}

impl Member {
    /// It can be asked about accounts.
    pub fn is_joined(&self) -> bool {
        self.state == MemberState::Joined
    }

    /// The name of its account to Kerberos.
    pub fn principal(&self) -> String {
        format!("{}$@{}", self.computer, self.domain.realm())
    }

    /// Its full name in DNS.
    pub fn host(&self) -> String {
        format!("{}.{}", self.computer.to_ascii_lowercase(), self.domain)
    }
}

/// Local users may log in for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Fallback {
    /// Since when, milliseconds since the epoch.
    pub since_ms: i64,
    /// An administrator ordered it, and ends it.
    pub forced: bool,
}

/// An account of the domain, as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownAccount {
    /// Its name as the domain writes it.
    pub account: DomainAccount,
    /// Its SID: what access is given to, so that another account of that name gets none.
    pub sid: String,
    /// It is a group.
    pub group: bool,
}

/// An NT hash: as good as a password, so it does not show itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NtHash(pub String);

impl std::fmt::Debug for NtHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NtHash(…)")
    }
}

/// How far a share is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShareState {
    /// Being built; not proven yet.
    Building,
    /// Proven by a login.
    Ready,
    /// Its removal was asked for.
    Deleting,
}

/// One share in the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ShareEntry {
    /// The section as last accepted: what `repair --restore` puts back.
    pub section: Section,
    /// How far it is.
    pub state: ShareState,
    /// storage.cfg was seen with the section in it.
    #[serde(default)]
    pub committed: bool,
    /// When it was accepted, or its removal was recorded for the worker, in milliseconds since the epoch.
    pub since_ms: i64,
    /// The share's own Unix group.
    pub unix_group: String,
    /// Its number.
    pub gid: u32,
    /// Which tree it is.
    pub tree: TreeId,
    /// Group and mode of the root before us.
    pub tree_before: TreeOwner,
    /// How the tree gets into the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<Mount>,
    /// What limits the tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<QuotaEntry>,
    /// What limits single users in it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub user_limits: BTreeMap<String, UserLimit>,
    /// Who asked for the removal and when, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_intent: Option<String>,
}

/// The limit of what a user may own in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserLimit {
    /// The user's number on the disk.
    pub uid: u32,
    /// Bytes.
    pub limit: u64,
    /// What it was before us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

/// The limit of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct QuotaEntry {
    /// Bytes.
    pub limit: u64,
    /// How it is enforced.
    pub means: Means,
    /// The limit of the same thing before us, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_before: Option<u64>,
    /// The project of the tree before us.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_before: Option<Project>,
    /// A walk that puts the project back was begun and has not come to its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unfinished: bool,
}

impl ShareEntry {
    /// Whether something limits the tree, or users in it.
    pub fn is_limited(&self) -> bool {
        self.quota.is_some() || !self.user_limits.is_empty() || self.section.contains_key("smbgw-user-quota")
    }
}

/// Which tree: the identity that must still hold whenever the share is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TreeId {
    /// The path.
    pub path: PathBuf,
    /// Inode of the root.
    pub ino: u64,
    /// `statfs.f_fsid`; 0 where the file system has none.
    pub fsid: u64,
    /// File system type.
    pub fs_type: String,
}

/// A tree as a mount point of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Mount {
    /// Which `mpN` of the container.
    pub slot: u8,
    /// What the numbers of users become on the disk.
    pub ids: Ids,
}

/// How the numbers inside a container appear on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ids {
    /// Unchanged: the mount is id-mapped (`idmap=passthrough`).
    Same,
    /// 100000 higher, as the container's processes have them on the node.
    Shifted,
}

impl Ids {
    /// What is added to a number inside.
    pub fn shift(self) -> u32 {
        match self {
            Ids::Same => 0,
            Ids::Shifted => 100_000,
        }
    }
}

/// Owner and mode of a tree's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeOwner {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Mode bits.
    pub mode: u32,
}

/// One local user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct UserEntry {
    /// Number.
    pub uid: u32,
    /// Relative id in the machine SID; 0 until known.
    #[serde(default)]
    pub rid: u32,
    /// May not log in.
    #[serde(default)]
    pub disabled: bool,
}

/// One local group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct GroupEntry {
    /// The Unix group behind it.
    pub unix: String,
    /// Its number.
    pub gid: u32,
    /// Members, sorted.
    #[serde(default)]
    pub members: Vec<String>,
}

/// A part of the record that a step changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Key {
    /// Everything of the gateway itself: the record exists.
    Gateway,
    /// `started-smbd`.
    StartedSmbd,
    /// `conf-sha256`.
    ConfSha256,
    /// `reload-due`.
    ReloadDue,
    /// A share.
    Share(String),
    /// A user.
    User(String),
    /// A group.
    Group(String),
    /// When a share was removed.
    Removed(String),
    /// The container's number.
    Vmid,
    /// The container that an upgrade replaces.
    Retired,
    /// The gateway's settings.
    Settings,
    /// The template it was made from.
    Template,
    /// The container's hardware address.
    Hwaddr,
    /// The SID of its Samba.
    Sid,
    /// An administrator stopped it.
    Stopped,
    /// Its membership of a domain.
    Member,
    /// Accounts of the domain.
    Accounts,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Gateway => f.write_str("gateway"),
            Key::StartedSmbd => f.write_str("started-smbd"),
            Key::ConfSha256 => f.write_str("conf-sha256"),
            Key::ReloadDue => f.write_str("reload-due"),
            Key::Share(id) => write!(f, "share {id}"),
            Key::User(n) => write!(f, "user {n}"),
            Key::Group(n) => write!(f, "group {n}"),
            Key::Removed(id) => write!(f, "removal of {id}"),
            Key::Vmid => f.write_str("container"),
            Key::Retired => f.write_str("replaced container"),
            Key::Settings => f.write_str("settings"),
            Key::Template => f.write_str("template"),
            Key::Hwaddr => f.write_str("hardware address"),
            Key::Sid => f.write_str("SID"),
            Key::Stopped => f.write_str("stopped"),
            Key::Member => f.write_str("membership of the domain"),
            Key::Accounts => f.write_str("accounts of the domain"),
        }
    }
}

impl Record {
    /// A new record.
    pub fn new(id: &str, node: &str, mode: Mode, uuid: &str) -> Self {
        Self {
            schema: SCHEMA,
            id: id.to_owned(),
            uuid: uuid.to_owned(),
            node: node.to_owned(),
            mode,
            vmid: None,
            retired: None,
            settings: Section::new(),
            template: None,
            hwaddr: None,
            sid: None,
            stopped: false,
            member: None,
            accounts: BTreeMap::new(),
            // The first two are the gateway's own group and the probe account.
            next_id: numbers_of(mode).0 + 2,
            started_smbd: false,
            conf_sha256: String::new(),
            reload_due: None,
            shares: BTreeMap::new(),
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
            numbers: BTreeMap::new(),
            removed: BTreeMap::new(),
            hashes: BTreeMap::new(),
            former: BTreeMap::new(),
        }
    }

    /// Reads a record; `Corrupt` if it is none, `Unsupported` if a newer build wrote it.
    pub fn parse(text: &str) -> Result<Self> {
        let record: Self = serde_json::from_str(text)
            .map_err(|e| Error::new(Kind::Corrupt, "the gateway record cannot be read").caused_by(e))?;
        if record.schema != SCHEMA {
            let why = format!("the gateway record has form {}, this build reads form {SCHEMA}", record.schema);
            return Err(Error::new(Kind::Unsupported, why).remedy("install the version of smbgw that wrote it, or a newer one"));
        }
        Ok(record)
    }

    /// The text of the file.
    pub fn print(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The number for `what`: the one it had before, else the next. `taken` tells numbers that somebody else uses.
    pub fn number(&mut self, what: &str, taken: impl Fn(u32) -> bool) -> Result<u32> {
        if let Some(n) = self.numbers.get(what) {
            return Ok(*n);
        }
        while taken(self.next_id) {
            self.next_id += 1;
        }
        let end = numbers_of(self.mode).1;
        if self.next_id >= end {
            return Err(Error::new(Kind::Unsupported, format!("the gateway has no number left below {end} for {what}")));
        }
        let n = self.next_id;
        self.next_id += 1;
        self.numbers.insert(what.to_owned(), n);
        Ok(n)
    }

    /// A part as data, without secrets; `None` if it is not there.
    pub fn part(&self, key: &Key) -> Option<Value> {
        match key {
            Key::Gateway => Some(serde_json::json!({"id": self.id, "uuid": self.uuid, "node": self.node})),
            Key::StartedSmbd => self.started_smbd.then_some(Value::Bool(true)),
            Key::ConfSha256 => (!self.conf_sha256.is_empty()).then(|| Value::String(self.conf_sha256.clone())),
            Key::ReloadDue => self.reload_due.map(Value::from),
            Key::Share(id) => self.shares.get(id).and_then(|e| serde_json::to_value(e).ok()),
            Key::User(name) => self.users.get(name).and_then(|e| serde_json::to_value(e).ok()),
            Key::Group(name) => self.groups.get(name).and_then(|e| serde_json::to_value(e).ok()),
            Key::Removed(id) => self.removed.get(id).map(|at| Value::from(*at)),
            Key::Vmid => self.vmid.map(|v| Value::from(v.number())),
            Key::Retired => self.retired.map(|v| Value::from(v.number())),
            Key::Settings => (!self.settings.is_empty()).then(|| serde_json::json!(self.settings)),
            Key::Template => self.template.clone().map(Value::String),
            Key::Hwaddr => self.hwaddr.clone().map(Value::String),
            Key::Sid => self.sid.clone().map(Value::String),
            Key::Stopped => self.stopped.then_some(Value::Bool(true)),
            Key::Member => self.member.as_ref().and_then(|m| serde_json::to_value(m).ok()),
            Key::Accounts => (!self.accounts.is_empty()).then(|| serde_json::json!(self.accounts)),
        }
    }

    /// Puts a part in, or takes it out. Numbers given on the way are remembered for ever. The gateway itself has no parts to set.
    pub fn set_part(&mut self, key: &Key, value: Option<&Value>) -> Result<()> {
        fn typed<T: serde::de::DeserializeOwned>(key: &Key, value: &Value) -> Result<T> {
            serde_json::from_value(value.clone())
                .map_err(|e| Error::new(Kind::Internal, format!("record part {key} has the wrong form")).caused_by(e))
        }
        fn maybe<T: serde::de::DeserializeOwned>(key: &Key, value: Option<&Value>) -> Result<Option<T>> {
            value.map(|v| typed(key, v)).transpose()
        }
        match (key, value) {
            (Key::Gateway, _) => {}
            (Key::Vmid, v) => self.vmid = maybe(key, v)?,
            (Key::Retired, v) => self.retired = maybe(key, v)?,
            (Key::Settings, v) => self.settings = maybe(key, v)?.unwrap_or_default(),
            (Key::Template, v) => self.template = maybe(key, v)?,
            (Key::Hwaddr, v) => self.hwaddr = maybe(key, v)?,
            (Key::Sid, v) => self.sid = maybe(key, v)?,
            (Key::Stopped, v) => self.stopped = v.is_some(),
            (Key::Member, v) => self.member = maybe(key, v)?,
            (Key::Accounts, v) => self.accounts = maybe(key, v)?.unwrap_or_default(),
            (Key::StartedSmbd, v) => self.started_smbd = v.is_some(),
            (Key::ConfSha256, v) => self.conf_sha256 = v.and_then(Value::as_str).unwrap_or_default().to_owned(),
            (Key::ReloadDue, v) => self.reload_due = maybe(key, v)?,
            (Key::Share(id), Some(v)) => {
                let entry: ShareEntry = typed(key, v)?;
                self.remember(format!("share/{id}"), entry.gid);
                self.shares.insert(id.clone(), entry);
            }
            (Key::Share(id), None) => drop(self.shares.remove(id)),
            (Key::User(name), Some(v)) => {
                let entry: UserEntry = typed(key, v)?;
                self.remember(format!("user/{name}"), entry.uid);
                self.users.insert(name.clone(), entry);
                if let (false, Some(h)) = (self.hashes.contains_key(name), self.former.remove(name)) {
                    self.hashes.insert(name.clone(), h);
                }
            }
            (Key::User(name), None) => {
                self.users.remove(name);
                if let Some(h) = self.hashes.remove(name) {
                    self.former.insert(name.clone(), h);
                }
            }
            (Key::Group(name), Some(v)) => {
                let entry: GroupEntry = typed(key, v)?;
                self.remember(format!("group/{name}"), entry.gid);
                self.groups.insert(name.clone(), entry);
            }
            (Key::Group(name), None) => drop(self.groups.remove(name)),
            (Key::Removed(id), v) => match v.and_then(Value::as_i64) {
                Some(at) => _ = self.removed.insert(id.clone(), at),
                None => _ = self.removed.remove(id),
            },
        }
        Ok(())
    }

    /// The gateway's own group.
    pub fn gateway_gid(&self) -> u32 {
        numbers_of(self.mode).0
    }

    /// The probe account.
    pub fn probe_uid(&self) -> u32 {
        numbers_of(self.mode).0 + 1
    }

    /// Local users who may log in while no domain controller answers.
    pub fn fallback_users(&self) -> Vec<&str> {
        let list = self.settings.get("smbgw-ad-fallback").map_or("", String::as_str);
        list.split([',', ' ', ';']).filter(|n| !n.is_empty()).collect()
    }

    /// Whether a local user must not be able to log in: an administrator said so, or the gateway is in a domain, where only those who are
    /// named for it may, and only while no domain controller answers.
    pub fn is_shut_out(&self, user: &str) -> bool {
        let open = |m: &Member| m.fallback.is_some() && self.fallback_users().contains(&user);
        // One that has left its domain, or is about to join, is no gateway of local users either.
        let domain = self.member.as_ref().is_some_and(|m| m.state != MemberState::Found && !open(m));
        domain || self.users.get(user).is_some_and(|u| u.disabled)
    }

    /// The SID of an account that was looked up.
    pub fn sid_of(&self, account: &DomainAccount) -> Option<&str> {
        self.accounts.get(&account.folded()).map(|a| a.sid.as_str())
    }

    fn remember(&mut self, what: String, number: u32) {
        self.numbers.insert(what, number);
        self.next_id = self.next_id.max(number + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_never_given_twice_and_come_back() {
        let mut r = Record::new("native", "pve1", Mode::Native, "u");
        let a = r.number("user/anna", |_| false).expect("room");
        let b = r.number("user/ben", |n| n == a + 1).expect("room");
        assert_eq!(b, a + 2);
        r.set_part(&Key::User("anna".into()), None).expect("fine");
        assert_eq!(r.number("user/anna", |_| false).expect("room"), a);
        assert_ne!(r.number("user/carl", |_| false).expect("room"), a);
    }

    #[test]
    fn parts_hold_no_hash_and_print_round_trips() {
        let mut r = Record::new("native", "pve1", Mode::Native, "u");
        r.set_part(&Key::User("anna".into()), Some(&serde_json::json!({"uid": 70002}))).expect("fine");
        r.hashes.insert("anna".into(), NtHash("C0FFEE".into()));
        assert!(!format!("{:?}{:?}", r.part(&Key::User("anna".into())), r.hashes).contains("C0FFEE"));
        assert_eq!(Record::parse(&r.print()).expect("own output"), r);
        assert_eq!(Record::parse("{").expect_err("torn").kind(), Kind::Corrupt);
    }
}
