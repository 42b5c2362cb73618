// SPDX-License-Identifier: MIT OR Apache-2.0
//! A storage.cfg section becomes a [`ShareSpec`]. It knows every rule that can be checked without looking at the machine, and
//! reports all complaints at once, keyed by property. What needs a look (symlinks, accounts, Samba) is in `observe` and `plan`.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::access::{Access, Level, Who};
use super::domain::DomainSpec;
use super::guest::{self, GuestSpec};
use super::{schema, settings};
use crate::error::{Error, Kind, Problem, Result};
use crate::metrics::alert;
use crate::types::{ByteSize, GatewayId, NodeName, ShareName, StoreId, UserName, shorten};

/// The name of the one native gateway of a node.
pub const NATIVE: &str = "native";

/// A name that is no gateway's: what is about a node and no gateway has its lock and its journals under it.
pub const NODE_WORK: &str = "node.work";

/// A section as storage.cfg has it: strings by property, `type` included where the caller knows it.
pub type Section = BTreeMap<String, String>;

/// All sections of storage.cfg by id, of every type.
pub type Sections = BTreeMap<String, Section>;

/// Reads a section from JSON. Perl does not tell `1`, `"1"` and `true` apart, so numbers and booleans count as strings;
/// `null` counts as absent; Proxmox hands some lists over as objects (`{"pve1": 1}`) and those become comma lists.
pub fn section_from_json(value: &Value) -> Result<Section> {
    let map = value.as_object().ok_or_else(|| Error::property("section", "is no object"))?;
    let mut section = Section::new();
    for (k, v) in map {
        let text = match v {
            Value::Null => continue,
            Value::String(s) => s.clone(),
            Value::Bool(b) => String::from(if *b { "1" } else { "0" }),
            Value::Number(n) => n.to_string(),
            Value::Object(o) => match k.as_str() {
                "content-dirs" => {
                    o.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect::<Vec<_>>().join(",")
                }
                _ => o.keys().cloned().collect::<Vec<_>>().join(","),
            },
            Value::Array(a) => a.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        };
        section.insert(k.clone(), text);
    }
    Ok(section)
}

/// Reads all sections from JSON.
pub fn sections_from_json(value: &Value) -> Result<Sections> {
    let map = value.as_object().ok_or_else(|| Error::property("sections", "is no object"))?;
    map.iter().map(|(id, s)| Ok((id.clone(), section_from_json(s)?))).collect()
}

/// Reads a boolean as Proxmox and people write it.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" | "" => Some(false),
        _ => None,
    }
}

/// Where Samba runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The node's own Samba.
    #[default]
    Native,
    /// A container.
    Lxc,
}

impl Mode {
    /// As written in the property.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Native => "native",
            Mode::Lxc => "lxc",
        }
    }
}

/// Security profile of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// SMB 3.1.1, signing mandatory, encryption offered.
    Standard,
    /// Encryption required as well.
    High,
}

impl Security {
    /// As written in the property.
    pub fn as_str(self) -> &'static str {
        match self {
            Security::Standard => "standard",
            Security::High => "high",
        }
    }
}

/// Options that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// People share files: everybody who may write can work with everybody's files.
    Office,
}

/// `is_mountpoint`: what must be mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountRule {
    /// Nothing in particular (the recorded file-system identity still counts).
    Any,
    /// The tree itself.
    Tree,
    /// This path.
    At(PathBuf),
}

/// One share as it shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareSpec {
    /// Storage id.
    pub id: StoreId,
    /// Name that clients see.
    pub share: ShareName,
    /// The tree: absolute, without `.`, `..` and doubled slashes.
    pub path: PathBuf,
    /// Where Samba runs.
    pub mode: Mode,
    /// Which gateway.
    pub gateway: GatewayId,
    /// The node that serves it: the gateway's owner.
    pub node: NodeName,
    /// Where it may be served: with a container, also nodes to which that may move.
    pub nodes: Vec<NodeName>,
    /// The tree has the same content on all of them.
    pub shared: bool,
    /// The container, in mode lxc.
    pub guest: Option<GuestSpec>,
    /// Not served for now.
    pub disabled: bool,
    /// Who may do what; the first user is in it.
    pub access: Access,
    /// First user.
    pub first_user: Option<UserName>,
    /// The domain of its gateway.
    pub domain: Option<DomainSpec>,
    /// The account that joins the domain, where the section still has it: it is used once and not kept.
    pub join: Option<JoinAccount>,
    /// Security profile.
    pub security: Security,
    /// Option set.
    pub profile: Profile,
    /// What must be mounted.
    pub mount: MountRule,
    /// The most that the tree may hold, in bytes.
    pub quota: Option<ByteSize>,
    /// The most that single users may own in it.
    pub user_quotas: BTreeMap<UserName, ByteSize>,
}

impl ShareSpec {
    /// Whether something shall limit the tree, or users in it.
    pub fn is_limited(&self) -> bool {
        self.quota.is_some() || !self.user_quotas.is_empty()
    }
}

/// The account that joins a gateway to its domain: `name`, or `name@REALM` where that is another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JoinAccount(String);

impl JoinAccount {
    /// Checks a name; the domain's own prefix is no part of it.
    pub fn new(text: &str) -> Result<Self> {
        let wrong = |why: &str| Err(Error::new(Kind::Invalid, format!("{:?} cannot join a domain: {why}", shorten(text))));
        let (name, realm) = text.split_once('@').map_or((text, None), |(n, r)| (n, Some(r)));
        if name.is_empty() || name.chars().count() > 256 || name.trim() != name || name.starts_with('-') {
            return wrong("an account has 1 to 256 characters, no blank at its ends and no '-' in front");
        }
        if name.chars().any(|ch| "\"/\\[]:;|=,+*?<>%".contains(ch) || ch.is_control()) {
            return wrong("write the name of the account alone, or name@REALM");
        }
        if realm.is_some_and(|r| crate::types::DnsDomain::typed(r).is_err()) {
            return wrong("what follows the @ is no domain");
        }
        Ok(Self(text.to_owned()))
    }

    /// As it was given. `net` says of a wrong password with a realm behind the name that an object was not found (measured, 4.17).
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A checked section.
#[derive(Debug, Clone)]
pub struct Checked {
    /// What is wanted.
    pub spec: ShareSpec,
    /// Properties to write back into the section: what was decided for the administrator.
    pub effective: Section,
    /// What is allowed but worth a word.
    pub warnings: Vec<String>,
}

/// What a section is checked against.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The node the check runs on.
    pub node: NodeName,
    /// All sections, this one's older version included (it is skipped by id).
    pub sections: Sections,
    /// The gateways that exist already.
    pub gateways: BTreeMap<String, Known>,
}

impl Surroundings {
    /// A node without any other section.
    pub fn alone(node: NodeName) -> Self {
        Self { node, sections: Sections::new(), gateways: BTreeMap::new() }
    }
}

/// A gateway that exists, as far as a check of sections needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Its owner node.
    pub node: String,
    /// Its settings, also those whose section is gone.
    pub settings: Section,
    /// Its container exists.
    pub built: bool,
    /// It is a member of the domain that its settings name.
    pub joined: bool,
}

/// Trees that belong to the system; neither they nor, unless marked, anything below is exported.
/// `(path, below too)`.
const SYSTEM_TREES: &[(&str, bool)] = &[
    ("/", false),
    ("/bin", true),
    ("/boot", true),
    ("/dev", true),
    ("/etc", true),
    ("/home", false),
    ("/lib", true),
    ("/lib32", true),
    ("/lib64", true),
    ("/libx32", true),
    ("/lost+found", true),
    ("/media", false),
    ("/mnt", false),
    ("/mnt/pve", false),
    ("/opt", false),
    ("/proc", true),
    ("/root", true),
    ("/rpool", false),
    ("/rpool/ROOT", true),
    ("/run", true),
    ("/sbin", true),
    ("/srv", false),
    ("/sys", true),
    ("/tmp", true),
    ("/usr", true),
    ("/var", false),
    ("/var/backups", true),
    ("/var/cache", true),
    ("/var/lib", false),
    ("/var/lib/ceph", true),
    ("/var/lib/dpkg", true),
    ("/var/lib/lxc", true),
    ("/var/lib/lxcfs", true),
    ("/var/lib/pve", true),
    ("/var/lib/pve-cluster", true),
    ("/var/lib/pve-manager", true),
    ("/var/lib/samba", true),
    ("/var/lib/smbgw", true),
    ("/var/lib/systemd", true),
    ("/var/lib/vz", false),
    ("/var/log", true),
    ("/var/mail", true),
    ("/var/run", true),
    ("/var/spool", true),
    ("/var/tmp", true),
];

/// Normalises a path: absolute, no `.`/`..`, no doubled or trailing slash, only characters that smb.conf can hold.
pub fn clean_path(text: &str) -> std::result::Result<PathBuf, String> {
    if !text.starts_with('/') {
        return Err("must be an absolute path".into());
    }
    if text.len() > 1024 {
        return Err("is longer than 1024 bytes".into());
    }
    if text.chars().any(char::is_control) {
        return Err("contains a control character".into());
    }
    if let Some(c) = text.chars().find(|c| "%\"\\".contains(*c)) {
        return Err(format!("contains {c:?}, which smb.conf cannot hold in a path"));
    }
    if text.trim_end() != text {
        return Err("ends with a blank, which smb.conf cannot hold".into());
    }
    if text.contains("  ") {
        return Err("contains several blanks in a row, which smb.conf cannot hold".into());
    }
    let mut clean = PathBuf::from("/");
    for part in Path::new(text).components() {
        match part {
            Component::RootDir => {}
            Component::Normal(p) => clean.push(p),
            _ => return Err("must not contain '.' or '..'".into()),
        }
    }
    if text.split('/').any(|p| p == "." || p == "..") {
        return Err("must not contain '.' or '..'".into());
    }
    Ok(clean)
}

/// Why a path is the system's, if it is.
pub fn system_tree(path: &Path) -> Option<String> {
    for (tree, below) in SYSTEM_TREES {
        if path == Path::new(tree) || (*below && path.starts_with(tree)) {
            return Some(format!("{} belongs to the system and is never exported", tree));
        }
    }
    None
}

/// Whether `path` may be exported beside what the other sections use.
fn overlaps(path: &Path, own_id: &str, sections: &Sections) -> Vec<String> {
    let mut wrong = Vec::new();
    for (id, other) in sections.iter().filter(|(id, _)| *id != own_id) {
        let ours = other.get("type").is_some_and(|t| t == "smbgateway");
        let Some(theirs) =
            other.get("path").map(|p| clean_path(p).unwrap_or_else(|_| PathBuf::from(p))).or_else(|| implied_path(id, other))
        else {
            continue;
        };
        let kind = if ours { "share" } else { "storage" };
        if path == theirs {
            wrong.push(format!("is the tree of {kind} '{id}'"));
        } else if theirs.starts_with(path) {
            wrong.push(format!("lies around the tree of {kind} '{id}' ({})", theirs.display()));
        } else if let Ok(inner) = path.strip_prefix(&theirs) {
            if ours {
                wrong.push(format!("lies inside the tree of share '{id}' ({})", theirs.display()));
            } else if let Some(dir) =
                content_directories(other).into_iter().find(|d| inner.starts_with(d) || d.starts_with(inner))
            {
                wrong.push(format!("lies in the content directory {} of storage '{id}'", theirs.join(dir).display()));
            } else if other.get("type").is_some_and(|t| t == "zfspool") && is_guest_dataset(inner) {
                wrong.push(format!("is a guest's dataset on storage '{id}'"));
            }
        }
    }
    wrong
}

/// Network file systems are mounted by Proxmox under `/mnt/pve/ID` even where the section has no path.
fn implied_path(id: &str, section: &Section) -> Option<PathBuf> {
    match section.get("type").map(String::as_str) {
        Some("nfs" | "cifs" | "cephfs" | "glusterfs") => Some(Path::new("/mnt/pve").join(id)),
        Some("zfspool") => {
            section.get("mountpoint").map(PathBuf::from).or_else(|| section.get("pool").map(|p| Path::new("/").join(p)))
        }
        _ => None,
    }
}

/// The directories below a storage's path that hold Proxmox content (Plugin.pm's defaults, and `content-dirs`).
fn content_directories(section: &Section) -> Vec<PathBuf> {
    if section.get("type").is_some_and(|t| t == "zfspool") {
        return Vec::new();
    }
    let mut dirs: BTreeMap<&str, PathBuf> = [
        ("images", "images"),
        ("rootdir", "private"),
        ("vztmpl", "template/cache"),
        ("iso", "template/iso"),
        ("backup", "dump"),
        ("snippets", "snippets"),
        ("import", "import"),
    ]
    .into_iter()
    .map(|(k, v)| (k, PathBuf::from(v)))
    .collect();
    for pair in section.get("content-dirs").map(String::as_str).unwrap_or_default().split(',') {
        if let Some((kind, dir)) = pair.split_once('=') {
            dirs.insert(kind.trim(), PathBuf::from(dir.trim().trim_matches('/')));
        }
    }
    dirs.into_values().collect()
}

/// Names that ZFSPoolPlugin gives to guests' datasets.
fn is_guest_dataset(inner: &Path) -> bool {
    let first = inner.components().next().map(|c| c.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
    ["subvol-", "basevol-", "vm-", "base-"].iter().any(|p| first.starts_with(p))
}

/// Splits a list as Proxmox does: commas, semicolons, blanks, NUL.
fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ';', ' ', '\t', '\0']).filter(|s| !s.is_empty())
}

/// Collects complaints while the typed value is built.
struct Checker<'a> {
    section: &'a Section,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl<'a> Checker<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.section.get(name).map(String::as_str).filter(|s| !s.is_empty())
    }

    fn complain(&mut self, property: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(property, message));
    }

    fn typed<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T>) -> Option<T> {
        match parse(self.get(name)?) {
            Ok(v) => Some(v),
            Err(e) => {
                self.complain(name, e.to_string());
                None
            }
        }
    }

    fn flag(&mut self, name: &str) -> bool {
        match self.get(name).map(|t| (t, parse_bool(t))) {
            None => false,
            Some((_, Some(b))) => b,
            Some((t, None)) => {
                self.complain(name, format!("{:?} is neither yes nor no", shorten(t)));
                false
            }
        }
    }

    fn word(&mut self, name: &str) -> Option<&'a str> {
        let property = schema::property(name)?;
        let schema::Form::Enum(words) = property.form else { return None };
        match self.get(name) {
            None => property.default,
            Some(t) if words.contains(&t) => Some(t),
            Some(t) => {
                self.complain(name, format!("{:?} is none of {}", shorten(t), words.join(", ")));
                None
            }
        }
    }
}

/// Checks a section against every rule that needs no look at the machine.
pub fn check(id: &str, section: &Section, around: &Surroundings) -> std::result::Result<Checked, Error> {
    let mut c = Checker { section, problems: Vec::new(), warnings: Vec::new() };

    let store = StoreId::new(id);
    if let Err(e) = &store {
        c.complain("storage", e.to_string());
    }
    for (name, value) in section {
        if schema::property(name).is_none() && name.starts_with("smbgw-") {
            c.complain(name, "this build does not know the property");
        }
        if value.contains(['\n', '\r', '\0']) {
            c.complain(name, "contains a line feed or NUL");
        }
    }
    let mode = match c.word("smbgw-mode") {
        Some("native") => Mode::Native,
        Some("lxc") | None => Mode::Lxc,
        Some(other) => {
            c.complain("smbgw-mode", format!("this build cannot do mode {other}; use lxc or native"));
            Mode::Lxc
        }
    };
    let gateway = gateway_of(&mut c, id, mode);

    let path = match c.get("path") {
        None => {
            c.complain("path", "is missing");
            None
        }
        Some(text) => match clean_path(text) {
            Err(why) => {
                c.complain("path", why);
                None
            }
            Ok(p) => {
                if let Some(why) = system_tree(&p) {
                    c.complain("path", why);
                } else {
                    for why in overlaps(&p, id, &around.sections) {
                        c.complain("path", why);
                    }
                }
                if mode == Mode::Lxc && text.contains([',', '=']) {
                    c.complain("path", "contains ',' or '=', which a mount point of a container cannot hold");
                }
                Some(p)
            }
        },
    };

    let share = match c.get("share") {
        Some(_) => c.typed("share", ShareName::new),
        None => match ShareName::new(id) {
            Ok(s) => Some(s),
            Err(e) => {
                c.complain("share", format!("the storage id cannot be the share name ({e}); give --share"));
                None
            }
        },
    };

    let siblings = siblings(id, mode, gateway.as_ref(), around);
    let nodes = nodes_of(&mut c, mode, &siblings, around);
    let owner = gateway.as_ref().and_then(|g| around.gateways.get(g.as_str())).and_then(|k| NodeName::new(&k.node).ok());
    let node = match (mode, owner) {
        (Mode::Lxc, Some(owner)) => Some(owner),
        // The node of the request if it is in the list, else the first.
        _ => nodes.iter().find(|n| **n == around.node).or(nodes.first()).cloned(),
    };
    for name in guest::PROPERTIES.iter().filter(|n| mode == Mode::Native && section.contains_key(**n)) {
        c.complain(name, "has a meaning in mode lxc only");
    }
    let settings = gateway.as_ref().map(|g| settings_of(&mut c, id, g, node.as_ref(), &siblings, around)).unwrap_or_default();
    let guest = gateway.as_ref().filter(|_| mode == Mode::Lxc).map(|g| {
        let (spec, problems) = GuestSpec::read(g, &settings);
        c.problems.extend(problems);
        spec
    });
    let host = match mode {
        Mode::Native => node.clone(),
        Mode::Lxc => gateway.as_ref().and_then(|g| NodeName::new(&guest::hostname(g)).ok()),
    };
    let domain = host.and_then(|host| {
        let (spec, problems) = DomainSpec::read(&host, mode, &settings);
        c.problems.extend(problems);
        spec
    });

    let mut access = match c.get("smbgw-access").map(Access::parse) {
        None => Access::default(),
        Some(Ok(a)) => a,
        Some(Err(list)) => {
            for why in list {
                c.complain("smbgw-access", why);
            }
            Access::default()
        }
    };
    let in_domain = settings.contains_key("domain");
    let first_user = if in_domain { None } else { c.typed("username", UserName::new) };
    let join = if in_domain { c.typed("username", JoinAccount::new) } else { None };
    if let Some(user) = &first_user {
        access.grant(Who::User(user.clone()), Level::Rw);
    }
    check_who(&mut c, &access, domain.as_ref(), in_domain);
    if access.is_empty() {
        let how = if in_domain { "--smbgw-access 'rw:@DOMAIN\\group'" } else { "--username with a password, or --smbgw-access" };
        c.warnings.push(format!("nobody may use the share yet: give {how}"));
    }

    let disabled = c.flag("disable");
    let shared = c.flag("shared");
    let mount = match c.get("is_mountpoint") {
        None => MountRule::Any,
        Some(text) => match parse_bool(text) {
            Some(true) => MountRule::Tree,
            Some(false) => MountRule::Any,
            None => match (clean_path(text), &path) {
                (Ok(p), Some(tree)) if tree.starts_with(&p) => MountRule::At(p),
                (Ok(_), Some(_)) => {
                    c.complain("is_mountpoint", "must be yes, no, or the tree or a path above it");
                    MountRule::Any
                }
                (Ok(_), None) => MountRule::Any,
                (Err(why), _) => {
                    c.complain("is_mountpoint", why);
                    MountRule::Any
                }
            },
        },
    };
    check_content(&mut c);

    let quota = c.typed("smbgw-quota", quota_of);
    let user_quotas = user_quotas(&mut c);

    let security = match c.word("smbgw-security") {
        Some("high") => Security::High,
        _ => Security::Standard,
    };
    c.word("smbgw-profile");
    // Nothing is planned from it: who judges figures reads the recorded section.
    for why in c.get(alert::config::PROPERTY).and_then(|t| alert::config::short(t).err()).into_iter().flatten() {
        c.complain(alert::config::PROPERTY, why);
    }
    if security == Security::High && domain.as_ref().is_some_and(|d| !d.fallback.is_empty()) {
        c.complain("smbgw-ad-fallback", "local users log in by NTLM, which smbgw-security high forbids");
    }
    check_siblings(&mut c, id, share.as_ref(), node.as_ref(), security, &siblings);

    let (Ok(store), Some(path), Some(share), Some(node), Some(gateway), true) =
        (store, path, share, node, gateway, c.problems.is_empty())
    else {
        return Err(Error::invalid(format!("section '{}'", shorten(id)), c.problems));
    };
    let list: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
    let effective = Section::from([
        ("smbgw-mode".to_owned(), mode.as_str().to_owned()),
        ("smbgw-gateway".to_owned(), gateway.to_string()),
        ("nodes".to_owned(), list.join(",")),
        ("share".to_owned(), share.to_string()),
    ]);
    let spec = ShareSpec {
        id: store,
        share,
        path,
        mode,
        gateway,
        node,
        nodes,
        shared,
        guest,
        disabled,
        access,
        first_user,
        domain,
        join,
        security,
        profile: Profile::Office,
        mount,
        quota,
        user_quotas,
    };
    Ok(Checked { spec, effective, warnings: c.warnings })
}

/// `smbgw-quota`. What is less than a MiB is a unit that was forgotten.
fn quota_of(text: &str) -> Result<ByteSize> {
    let size = ByteSize::parse(text)?;
    let wrong = |why: String| Err(Error::new(Kind::Invalid, why));
    match size.0 {
        0 => {
            wrong("0 would let nobody write; for no limit leave the property out (pvesm set STORAGE --delete smbgw-quota)".into())
        }
        n if n < 1 << 20 => wrong(format!("{} is less than 1M; was a unit forgotten ({0}G)?", shorten(text))),
        _ => Ok(size),
    }
}

/// `smbgw-user-quota`: `anna=10G,ben=5G`.
fn user_quotas(c: &mut Checker<'_>) -> BTreeMap<UserName, ByteSize> {
    const NAME: &str = "smbgw-user-quota";
    let mut all = BTreeMap::new();
    for pair in c.get(NAME).unwrap_or_default().split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let Some((user, size)) = pair.split_once('=') else {
            c.complain(NAME, format!("{:?} is not of the form user=size", shorten(pair)));
            continue;
        };
        match (UserName::new(user.trim()), quota_of(size.trim())) {
            (Ok(user), Ok(size)) => {
                if all.insert(user.clone(), size).is_some() {
                    c.complain(NAME, format!("{user} is named twice"));
                }
            }
            (user, size) => {
                for e in [user.err(), size.err()].into_iter().flatten() {
                    c.complain(NAME, e.to_string());
                }
            }
        }
    }
    all
}

/// The gateway of a section.
fn gateway_of(c: &mut Checker<'_>, id: &str, mode: Mode) -> Option<GatewayId> {
    let stated = c.typed("smbgw-gateway", GatewayId::new);
    match mode {
        Mode::Native => {
            if stated.is_some_and(|g| g.as_str() != NATIVE) {
                c.complain("smbgw-gateway", "in native mode a node has one gateway, named 'native'");
            }
            GatewayId::new(NATIVE).ok()
        }
        Mode::Lxc => {
            let gateway = if c.get("smbgw-gateway").is_some() { stated } else { GatewayId::new(id).ok() };
            if gateway.as_ref().is_some_and(|g| g.as_str() == NATIVE) {
                c.complain(
                    "smbgw-gateway",
                    "'native' is the name of the node's own gateway; choose another, or --smbgw-mode native",
                );
            } else if let Some(g) = gateway.as_ref().filter(|g| ["node", NODE_WORK].contains(&g.as_str())) {
                c.complain("smbgw-gateway", format!("'{g}' is a name of smbgw's own; choose another"));
            } else if gateway.as_ref().is_some_and(|g| guest::hostname(g).is_empty()) {
                c.complain("smbgw-gateway", "gives no host name: it needs a letter or digit among its first 15 characters");
            }
            gateway
        }
    }
}

/// The other sections of the same gateway; with native mode, those of the same node.
fn siblings(id: &str, mode: Mode, gateway: Option<&GatewayId>, around: &Surroundings) -> Sections {
    let same = |other: &str, s: &Section| {
        let theirs = s.get("smbgw-mode").map_or("lxc", String::as_str);
        let named = s.get("smbgw-gateway").map_or(if theirs == "native" { NATIVE } else { other }, String::as_str);
        other != id
            && s.get("type").is_none_or(|t| t == "smbgateway")
            && theirs == mode.as_str()
            && gateway.is_some_and(|g| g.as_str() == named)
    };
    around.sections.iter().filter(|(o, s)| same(o, s)).map(|(o, s)| (o.clone(), s.clone())).collect()
}

/// The nodes of a section. Shares of one container are where that is.
fn nodes_of(c: &mut Checker<'_>, mode: Mode, siblings: &Sections, around: &Surroundings) -> Vec<NodeName> {
    let sorted = |text: &str| {
        let mut names: Vec<String> = list(text).map(str::to_owned).collect();
        names.sort();
        names
    };
    let elsewhere = match mode {
        Mode::Native => None,
        Mode::Lxc => siblings.iter().find_map(|(o, s)| s.get("nodes").filter(|n| !n.is_empty()).map(|n| (o, n.as_str()))),
    };
    let text = match (c.get("nodes"), elsewhere) {
        (None, None) => return vec![around.node.clone()],
        (None, Some((_, theirs))) => theirs.to_owned(),
        (Some(mine), other) => {
            if let Some((other, theirs)) = other.filter(|(_, theirs)| sorted(theirs) != sorted(mine)) {
                c.complain(
                    "nodes",
                    format!("is {} but that of '{other}' is {theirs}; shares of one gateway must agree", shorten(mine)),
                );
            }
            mine.to_owned()
        }
    };
    let mut nodes = Vec::new();
    for n in list(&text) {
        match NodeName::new(n) {
            Ok(n) => nodes.push(n),
            Err(e) => c.complain("nodes", e.to_string()),
        }
    }
    if mode == Mode::Native && nodes.len() > 1 {
        c.complain("nodes", "a native share without CTDB is served by exactly one node; name one");
    }
    nodes
}

/// The settings of a section's gateway: what was recorded, what its other sections state, what this one states.
fn settings_of(
    c: &mut Checker<'_>,
    id: &str,
    gateway: &GatewayId,
    node: Option<&NodeName>,
    siblings: &Sections,
    around: &Surroundings,
) -> Section {
    let native = gateway.as_str() == NATIVE;
    // What is known of `native` is about the one of this node.
    let known = around.gateways.get(gateway.as_str()).filter(|_| !native || node == Some(&around.node));
    let mut all = known.map(|k| k.settings.clone()).unwrap_or_default();
    // Each node has a native gateway of its own.
    let same = |s: &&Section| !native || node.is_none_or(|n| s.get("nodes").is_none_or(|theirs| theirs == n.as_str()));
    let siblings: Sections = siblings.iter().filter(|(_, s)| same(s)).map(|(o, s)| (o.clone(), s.clone())).collect();
    siblings.values().for_each(|s| all.extend(settings::stated(s)));
    let stated = settings::stated(c.section);
    if let Some(known) = known {
        c.problems.extend(settings::frozen(&stated, known));
    }
    all.extend(stated);
    c.problems.extend(settings::disagreements(id, c.section, &siblings));
    all
}

/// Who is named must be somebody whom the gateway can know.
fn check_who(c: &mut Checker<'_>, access: &Access, domain: Option<&DomainSpec>, in_domain: bool) {
    for (who, _) in access.entries() {
        match who {
            Who::DomainUser(_) | Who::DomainGroup(_) if !in_domain => {
                c.complain("smbgw-access", format!("{who} is an account of a domain, and the gateway is in none; give --domain"));
            }
            Who::User(u) if domain.is_some_and(|d| !d.fallback.contains(u)) => {
                c.complain(
                    "smbgw-access",
                    format!("{u} is a local user, and those cannot log in to a gateway of a domain; write DOMAIN\\{u}, or name it in smbgw-ad-fallback too"),
                );
            }
            _ => {}
        }
    }
}

/// `content`: nothing by default; what root executes or boots from is refused on a tree that share users can write.
fn check_content(c: &mut Checker<'_>) {
    let mut dirs: BTreeMap<&str, &str> = BTreeMap::new();
    for pair in c.get("content-dirs").unwrap_or_default().split(',').filter(|p| !p.trim().is_empty()) {
        match pair.split_once('=') {
            Some((kind, dir)) => {
                let dir = dir.trim().trim_matches('/');
                if dir.is_empty() || dir.split('/').any(|p| p.is_empty() || p == "." || p == "..") {
                    c.complain("content-dirs", format!("{:?} is no subdirectory", shorten(pair)));
                }
                dirs.insert(kind.trim(), dir);
            }
            None => c.complain("content-dirs", format!("{:?} is not of the form type=subdirectory", shorten(pair))),
        }
    }
    for kind in list(c.get("content").unwrap_or("none")) {
        match kind {
            "none" => {}
            "iso" | "backup" => {
                if dirs.contains_key(kind) {
                    c.warnings.push(format!("users who may write to the share can replace {kind} files in {}", dirs[kind]));
                } else {
                    c.complain("content", format!("{kind} needs a directory of its own: --content-dirs {kind}=some/directory"));
                }
            }
            "images" | "rootdir" | "snippets" | "vztmpl" | "import" => {
                c.complain(
                    "content",
                    format!("{kind} is refused on an exported tree: share users could replace what the node runs"),
                );
            }
            other => c.complain("content", format!("{:?} is no content type", shorten(other))),
        }
    }
}

/// What must agree with, or differ from, the other shares of the same gateway.
fn check_siblings(
    c: &mut Checker<'_>,
    id: &str,
    share: Option<&ShareName>,
    node: Option<&NodeName>,
    security: Security,
    siblings: &Sections,
) {
    for (other_id, other) in siblings {
        // Each node has a native gateway of its own.
        let native = other.get("smbgw-mode").is_some_and(|m| m == "native");
        let their_node = other.get("nodes").map(String::as_str).unwrap_or_default();
        if native && node.is_none_or(|n| n.as_str() != their_node) {
            continue;
        }
        let their_share = other.get("share").unwrap_or(other_id).to_lowercase();
        if share.is_some_and(|s| s.folded() == their_share) {
            c.complain("share", format!("storage '{other_id}' has that share name already"));
        }
        let theirs = other.get("smbgw-security").map_or("standard", String::as_str);
        if theirs != security.as_str() {
            let why =
                format!("'{id}' wants {} but '{other_id}' has {theirs}; shares of one gateway must agree", security.as_str());
            c.complain("smbgw-security", why);
        }
    }
}

/// The directory of a storage that holds container templates, and the storages that have one here: id and directory, `local` first.
pub fn template_directories(sections: &Sections, node: &str) -> Vec<(String, PathBuf)> {
    let mut found: Vec<(String, PathBuf)> = sections
        .iter()
        .filter(|(_, s)| usable(s, node) && contents(s).contains(&"vztmpl"))
        .filter_map(|(id, s)| {
            let root = s.get("path").map(PathBuf::from).or_else(|| implied_path(id, s))?;
            let own = s.get("content-dirs").map(String::as_str).unwrap_or_default().split(',');
            let own = own.filter_map(|p| p.split_once('=')).find(|(k, _)| k.trim() == "vztmpl");
            Some((id.clone(), root.join(own.map_or("template/cache", |(_, d)| d.trim().trim_matches('/')))))
        })
        .collect();
    found.sort_by_key(|(id, _)| (id != "local", id.clone()));
    found
}

/// Storages on which a container's disk can be made, the usual ones first.
pub fn container_storages(sections: &Sections, node: &str) -> Vec<String> {
    let mut found: Vec<String> =
        sections.iter().filter(|(_, s)| usable(s, node) && contents(s).contains(&"rootdir")).map(|(id, _)| id.clone()).collect();
    let rank = |id: &str| ["local-zfs", "local-lvm", "local-btrfs", "local"].iter().position(|n| *n == id).unwrap_or(9);
    found.sort_by_key(|id| (rank(id), id.clone()));
    found
}

fn usable(s: &Section, node: &str) -> bool {
    let off = s.get("disable").is_some_and(|d| parse_bool(d) != Some(false));
    !off && s.get("nodes").is_none_or(|n| list(n).any(|n| n == node))
}

/// Content types of a storage; where none are stated, the defaults of pve-storage.
fn contents(s: &Section) -> Vec<&str> {
    match (s.get("content"), s.get("type").map(String::as_str)) {
        (Some(c), _) => list(c).collect(),
        (None, Some("lvmthin" | "zfspool" | "lvm" | "btrfs")) => vec!["images", "rootdir"],
        (None, _) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use proptest::prelude::*;

    fn around(sections: &[(&str, &[(&str, &str)])]) -> Surroundings {
        let to = |s: &[(&str, &str)]| s.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Section>();
        Surroundings {
            node: NodeName::new("pve1").expect("valid"),
            sections: sections.iter().map(|(id, s)| ((*id).to_owned(), to(s))).collect(),
            gateways: BTreeMap::new(),
        }
    }

    fn section(pairs: &[(&str, &str)]) -> Section {
        let mut s = Section::from([("path".into(), "/tank/office".into()), ("smbgw-mode".into(), "native".into())]);
        s.extend(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        s
    }

    fn complaints(pairs: &[(&str, &str)], around: &Surroundings) -> Vec<(String, String)> {
        match check("office", &section(pairs), around) {
            Ok(_) => Vec::new(),
            Err(e) => e.problems().iter().map(|p| (p.property.clone(), p.message.clone())).collect(),
        }
    }

    #[test]
    fn a_plain_section_is_frozen_to_its_node() {
        let got = check("office", &section(&[("username", "anna")]), &around(&[])).expect("valid");
        assert_eq!(got.effective["nodes"], "pve1");
        assert_eq!(got.effective["share"], "office");
        assert_eq!(got.spec.access.to_string(), "rw:anna");
    }

    #[test]
    fn all_problems_come_back_at_once() {
        let mut s = section(&[
            ("share", "a]b"),
            ("smbgw-access", "anna,rw:X"),
            ("nodes", "a_b"),
            ("smbgw-quota", "1GB"),
            ("content", "snippets"),
            ("smbgw-alerts", "usage=90/80,nonsense=1"),
        ]);
        s.insert("path".into(), "relative".into());
        s.insert("smbgw-mode".into(), "vm".into());
        let e = check("office", &s, &around(&[])).expect_err("all wrong");
        let keys: Vec<_> = e.problems().iter().map(|p| p.property.as_str()).collect();
        for want in ["path", "share", "smbgw-access", "nodes", "smbgw-quota", "content", "smbgw-mode", "smbgw-alerts"] {
            assert!(keys.contains(&want), "{want} missing in {keys:?}");
        }
        assert_eq!(e.kind(), Kind::Invalid);
    }

    fn lxc(pairs: &[(&str, &str)], around: &Surroundings) -> Result<Checked> {
        let mut s = section(pairs);
        s.remove("smbgw-mode");
        check("office", &s, around)
    }

    #[test]
    fn lxc_is_the_default_and_its_gateway_has_the_name_of_the_storage() {
        let got = lxc(&[("nodes", "pve2,pve1"), ("smbgw-memory", "512")], &around(&[])).expect("valid");
        let wanted = [("smbgw-mode", "lxc"), ("smbgw-gateway", "office"), ("nodes", "pve2,pve1"), ("share", "office")];
        assert!(wanted.iter().all(|(k, v)| got.effective[*k] == *v), "{:?}", got.effective);
        assert_eq!(got.spec.node.as_str(), "pve1", "the node of the request owns it if it is in the list");
        assert_eq!(got.spec.guest.expect("a container").memory, 512);
        let got = lxc(&[("nodes", "pve3,pve2")], &around(&[])).expect("valid");
        assert_eq!(got.spec.node.as_str(), "pve3", "else the first");
        for (pair, property) in [
            (("smbgw-gateway", "native"), "smbgw-gateway"),
            (("smbgw-memory", "12"), "smbgw-memory"),
            (("smbgw-net", "ip=1"), "smbgw-net"),
            (("path", "/tank/a,b"), "path"),
        ] {
            let e = lxc(&[pair], &around(&[])).expect_err(property);
            assert_eq!(e.problems()[0].property, property);
        }
        let e = check("office", &section(&[("smbgw-cores", "2")]), &around(&[])).expect_err("native has no container");
        assert_eq!(e.problems()[0].property, "smbgw-cores");
    }

    #[test]
    fn shares_of_one_container_agree_and_both_are_named() {
        let files: &[(&str, &str)] = &[
            ("type", "smbgateway"),
            ("path", "/tank/b"),
            ("smbgw-gateway", "files"),
            ("nodes", "pve2,pve1"),
            ("smbgw-memory", "512"),
        ];
        let mut a = around(&[("b", files), ("files2", &[("type", "smbgateway"), ("path", "/tank/c"), ("nodes", "pve1")])]);
        let got = lxc(&[("smbgw-gateway", "files")], &a).expect("what is not said is inherited");
        assert_eq!((got.effective["nodes"].as_str(), got.spec.guest.expect("a container").memory), ("pve2,pve1", 512));
        let e = lxc(&[("smbgw-gateway", "files"), ("smbgw-memory", "256"), ("nodes", "pve1"), ("share", "B")], &a)
            .expect_err("three");
        for property in ["smbgw-memory", "nodes", "share"] {
            assert!(e.problems().iter().any(|p| p.property == property && p.message.contains("'b'")), "{property}: {e}");
        }
        // The owner is the one that the gateway has, and what it was built with stays.
        let known = Known {
            node: "pve2".into(),
            settings: Section::from([("smbgw-swap".into(), "64".into())]),
            built: true,
            joined: false,
        };
        a.gateways.insert("files".into(), known);
        let got = lxc(&[("smbgw-gateway", "files")], &a).expect("valid");
        assert_eq!((got.spec.node.as_str(), got.spec.guest.expect("a container").swap), ("pve2", 64));
        let e = lxc(&[("smbgw-gateway", "files"), ("smbgw-vmid", "200")], &a).expect_err("it has a number");
        assert_eq!(e.problems()[0].property, "smbgw-vmid");
    }

    #[test]
    fn storages_for_containers() {
        let to = |p: &[(&str, &str)]| p.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Section>();
        let all = Sections::from([
            ("local".to_owned(), to(&[("type", "dir"), ("path", "/var/lib/vz"), ("content", "iso,vztmpl,backup")])),
            ("local-lvm".to_owned(), to(&[("type", "lvmthin")])),
            ("a".to_owned(), to(&[("type", "nfs"), ("content", "vztmpl rootdir"), ("content-dirs", "vztmpl=t")])),
            ("b".to_owned(), to(&[("type", "dir"), ("path", "/b"), ("content", "vztmpl"), ("nodes", "pve9")])),
            ("c".to_owned(), to(&[("type", "dir"), ("path", "/c"), ("content", "rootdir"), ("disable", "1")])),
        ]);
        assert_eq!(
            template_directories(&all, "pve1"),
            [("local".to_owned(), "/var/lib/vz/template/cache".into()), ("a".to_owned(), PathBuf::from("/mnt/pve/a/t"))]
        );
        assert_eq!(container_storages(&all, "pve1"), ["local-lvm", "a"]);
    }

    #[test]
    fn system_trees_are_refused() {
        for bad in [
            "/",
            "/etc",
            "/etc/pve",
            "/etc/pve/priv",
            "//etc",
            "/usr/share",
            "/var",
            "/home",
            "/var/lib/samba/private",
            "/root/x",
            "/proc/1",
            "/tmp/x",
            "/mnt/pve",
        ] {
            assert!(!complaints(&[("path", bad)], &around(&[])).is_empty(), "{bad}");
        }
        for good in ["/srv/office", "/home/shares", "/mnt/data", "/var/lib/vz/office", "/tank", "/opt/data"] {
            assert!(complaints(&[("path", good)], &around(&[])).is_empty(), "{good}");
        }
    }

    #[test]
    fn hostile_paths_are_refused() {
        let long = format!("/{}", "a".repeat(4096));
        for bad in ["", "x", "/a/../etc", "/a/./b", "/a\nb", "/a\0b", "/a%U", "/a\"b", "/a\\b", "/a ", &long] {
            assert!(!complaints(&[("path", bad)], &around(&[])).is_empty(), "{bad:?}");
        }
    }

    #[test]
    fn overlaps_are_refused_by_name() {
        let a = around(&[
            ("local", &[("type", "dir"), ("path", "/var/lib/vz")]),
            ("other", &[("type", "smbgateway"), ("path", "/tank/other"), ("smbgw-mode", "native"), ("nodes", "pve1")]),
            ("nas", &[("type", "nfs"), ("export", "/x"), ("server", "h")]),
            ("tank", &[("type", "zfspool"), ("pool", "tank")]),
        ]);
        for (bad, who) in [
            ("/tank/other", "other"),
            ("/tank/other/in", "other"),
            ("/var/lib/vz/images/x", "local"),
            ("/var/lib/vz/template", "local"),
            ("/mnt/pve/nas", "nas"),
            ("/mnt/pve/nas/dump", "nas"),
            ("/tank", "tank"),
            ("/tank/subvol-100-disk-0", "tank"),
        ] {
            let got = complaints(&[("path", bad)], &a);
            assert!(got.iter().any(|(p, m)| p == "path" && m.contains(who)), "{bad}: {got:?}");
        }
        for good in ["/mnt/pve/nas/office", "/tank/office", "/var/lib/vz/office"] {
            assert!(complaints(&[("path", good)], &a).is_empty(), "{good}: {:?}", complaints(&[("path", good)], &a));
        }
    }

    #[test]
    fn siblings_must_agree_and_differ() {
        let other: &[(&str, &str)] = &[
            ("type", "smbgateway"),
            ("path", "/tank/b"),
            ("smbgw-mode", "native"),
            ("nodes", "pve1"),
            ("share", "Büro"),
            ("smbgw-security", "high"),
        ];
        let got = complaints(&[("share", "BÜRO")], &around(&[("b", other)]));
        assert!(got.iter().any(|(p, m)| p == "share" && m.contains("'b'")), "{got:?}");
        assert!(got.iter().any(|(p, m)| p == "smbgw-security" && m.contains("'b'") && m.contains("'office'")), "{got:?}");
    }

    #[test]
    fn perl_values_are_read() {
        let v = serde_json::json!({"path": "/tank/a", "disable": true, "shared": 1, "nodes": {"pve1": 1}, "content": {"none": 1}, "x": null});
        let s = section_from_json(&v).expect("an object");
        assert_eq!((s["disable"].as_str(), s["shared"].as_str(), s["nodes"].as_str()), ("1", "1", "pve1"));
        assert!(!s.contains_key("x"));
    }

    proptest! {
        #[test]
        fn nothing_panics_and_bad_bytes_never_pass(path in "\\PC{0,60}", share in "\\PC{0,60}", acc in "\\PC{0,60}") {
            let s = section(&[("path", &path), ("share", &share), ("smbgw-access", &acc)]);
            if let Ok(c) = check("office", &s, &around(&[])) {
                prop_assert!(!c.spec.path.to_str().expect("from str").contains(['\n', '%', '"', '\\']));
            }
        }
    }
}
