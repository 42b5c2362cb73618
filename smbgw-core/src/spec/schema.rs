// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one table of properties of a section. Checks, the Perl schema, the command's options and the reference page are made
//! from it. A property is in it when it works. It knows how properties are written; it must not know what they cause.

use serde_json::{Value, json};

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Any text without a line feed.
    Text,
    /// An absolute path.
    Path,
    /// `1`/`0`, `true`/`false`, `yes`/`no`, `on`/`off`.
    Bool,
    /// One of these words.
    Enum(&'static [&'static str]),
    /// Node names, separated by commas, blanks or semicolons.
    Nodes,
    /// Content types, separated by commas.
    Content,
    /// `type=subdirectory`, separated by commas.
    ContentDirs,
    /// A share name.
    Share,
    /// A gateway name.
    Gateway,
    /// A local user name.
    User,
    /// An access list.
    Access,
    /// A boolean or an absolute path (`is_mountpoint`).
    BoolOrPath,
    /// A whole number.
    Number,
    /// The network of a guest: `bridge=…,ip=…`.
    Net,
    /// `STORAGE` or `STORAGE:GIB`.
    RootFs,
    /// The name of a template.
    Template,
    /// A number of bytes: `500G`.
    Size,
    /// `user=size`, separated by commas.
    UserSizes,
    /// `alert=thresholds`, separated by commas.
    Alerts,
}

/// One property.
#[derive(Debug, Clone, Copy)]
pub struct Property {
    /// Its name in storage.cfg.
    pub name: &'static str,
    /// How a value is written.
    pub form: Form,
    /// What holds if it is absent, as text.
    pub default: Option<&'static str>,
    /// For people.
    pub text: &'static str,
    /// Proxmox's own plugins declare it; we only use it.
    pub core: bool,
    /// Must be given at create.
    pub required: bool,
    /// Cannot be changed after create.
    pub fixed: bool,
    /// Never stored in storage.cfg.
    pub sensitive: bool,
    /// The modes in which it has a meaning.
    pub modes: &'static [&'static str],
}

const ALL: &[&str] = &["native", "lxc"];
const GUEST: &[&str] = &["lxc"];

const fn core(name: &'static str, form: Form, text: &'static str) -> Property {
    Property { name, form, default: None, text, core: true, required: false, fixed: false, sensitive: false, modes: ALL }
}

const fn ours(name: &'static str, form: Form, default: Option<&'static str>, text: &'static str) -> Property {
    Property { name, form, default, text, core: false, required: false, fixed: false, sensitive: false, modes: ALL }
}

/// The container of a gateway: belongs to the gateway, and may be stated in any of its sections.
const fn guest(name: &'static str, form: Form, default: Option<&'static str>, text: &'static str) -> Property {
    Property { modes: GUEST, ..ours(name, form, default, text) }
}

/// The words of `smbgw-mode`. `vm` is a known name that this build answers with a refusal.
pub const MODES: &[&str] = &["native", "lxc", "vm"];

/// All properties, in the order in which people want to read them.
pub const PROPERTIES: &[Property] = &[
    Property { required: true, fixed: true, ..core("path", Form::Path, "Tree to export: an absolute path without symlinks.") },
    core("share", Form::Share, "Share name that clients see; default: the storage id."),
    core(
        "nodes",
        Form::Nodes,
        "The node that serves the share; default: the node it was created on. In mode lxc also further nodes to which its container may move.",
    ),
    core("disable", Form::Bool, "Stop serving; data and users stay."),
    core("shared", Form::Bool, "The tree has the same content on all listed nodes."),
    core(
        "is_mountpoint",
        Form::BoolOrPath,
        "The tree (or the given path above it) must be a mount point; otherwise it is not served.",
    ),
    Property {
        default: Some("none"),
        ..core("content", Form::Content, "Proxmox content kept in the tree: none, or iso and backup in explicit content-dirs.")
    },
    core("content-dirs", Form::ContentDirs, "Subdirectories of Proxmox content, as type=subdirectory."),
    core("domain", Form::Text, "Active Directory domain of the gateway, by its DNS name: it joins and its users log in."),
    core(
        "username",
        Form::User,
        "First user of the share, with write access. With a domain: the account that joins the gateway, used once and not kept.",
    ),
    Property { sensitive: true, ..core("password", Form::Text, "Password of that user or account; used once and not kept.") },
    Property {
        fixed: true,
        ..ours(
            "smbgw-mode",
            Form::Enum(MODES),
            Some("lxc"),
            "Where Samba runs: native (the node), lxc (a container), vm (a virtual machine).",
        )
    },
    Property {
        fixed: true,
        ..ours(
            "smbgw-gateway",
            Form::Gateway,
            None,
            "Gateway that serves the share; in native mode always 'native', in mode lxc by default the storage id. Shares of one gateway live in one container.",
        )
    },
    ours(
        "smbgw-quota",
        Form::Size,
        None,
        "Most that the share may hold: a number and K, M, G, T or P (1024 each), for example 500G. Needs a file system that can limit the tree.",
    ),
    ours(
        "smbgw-user-quota",
        Form::UserSizes,
        None,
        "Most that single users may own in the share: anna=10G,ben=5G. Files belong to who makes them then. Needs a ZFS dataset, or an ext4 or XFS of its own with usrquota.",
    ),
    ours(
        "smbgw-access",
        Form::Access,
        None,
        "Who may do what: rw:@group,ro:user,full:user; accounts of the domain as rw:@DOMAIN\\Domain Users. 'full' may change permissions.",
    ),
    ours(
        "smbgw-ad-ou",
        Form::Text,
        None,
        "Where the gateway's computer account is made: names of organizational units from the top, as Servers/Files.",
    ),
    ours(
        "smbgw-ad-fallback",
        Form::Text,
        None,
        "Local users who may log in while no domain controller answers, as anna,ben; default: none.",
    ),
    ours("smbgw-ad-dns", Form::Bool, Some("1"), "Whether the gateway registers its addresses in the domain's DNS when it joins."),
    ours(
        "smbgw-idmap",
        Form::Text,
        None,
        "Numbers of the domain's accounts, as FIRST-LAST; default: 10000-65533 in a container, 1000000-1999999 on a node. Must be the same wherever the files are used.",
    ),
    ours(
        "smbgw-security",
        Form::Enum(&["standard", "high"]),
        Some("standard"),
        "standard: SMB 3.1.1 with signing; high: encryption required as well.",
    ),
    ours("smbgw-profile", Form::Enum(&["office"]), Some("office"), "Option set: office (people share files)."),
    ours(
        "smbgw-alerts",
        Form::Alerts,
        None,
        "Thresholds of the share's alerts: usage=85/92/97,sessions=200,latency=off; what it does not name is as the rules of the node say.",
    ),
    guest(
        "smbgw-net",
        Form::Net,
        Some("bridge=vmbr0,ip=dhcp,ip6=auto"),
        "Network of the gateway's container: bridge=BRIDGE,ip=CIDR|dhcp|none,gw=IP,ip6=CIDR|auto|dhcp|none,gw6=IP,dns=IP;IP,tag=VLAN,mtu=BYTES,firewall=0|1.",
    ),
    guest("smbgw-memory", Form::Number, Some("256"), "Memory of the gateway's container in MiB, from 128."),
    guest("smbgw-swap", Form::Number, Some("256"), "Swap of the gateway's container in MiB."),
    guest("smbgw-cores", Form::Number, Some("1"), "Processors of the gateway's container."),
    guest("smbgw-processes", Form::Number, Some("1000"), "Most processes in the gateway's container; each client is one."),
    guest(
        "smbgw-rootfs",
        Form::RootFs,
        None,
        "Storage and size in GiB of the container's own disk, as STORAGE or STORAGE:GIB; default: 2 GiB on local-zfs, local-lvm, local-btrfs, local or the first storage that takes containers.",
    ),
    guest("smbgw-template", Form::Template, None, "Template of the container by its name; default: the newest one."),
    guest("smbgw-vmid", Form::Number, None, "Number of the container; default: the next free one."),
];

/// Looks a property up.
pub fn property(name: &str) -> Option<&'static Property> {
    PROPERTIES.iter().find(|p| p.name == name)
}

impl Form {
    fn describe(self) -> (&'static str, &'static str) {
        match self {
            Form::Text => ("string", "text"),
            Form::Path => ("string", "path"),
            Form::Bool => ("boolean", "boolean"),
            Form::Enum(_) => ("string", "enum"),
            Form::Nodes => ("string", "node-list"),
            Form::Content => ("string", "content-list"),
            Form::ContentDirs => ("string", "content-dirs"),
            Form::Share => ("string", "share-name"),
            Form::Gateway => ("string", "gateway"),
            Form::User => ("string", "user"),
            Form::Access => ("string", "access-list"),
            Form::BoolOrPath => ("string", "boolean-or-path"),
            Form::Number => ("integer", "number"),
            Form::Net => ("string", "net"),
            Form::RootFs => ("string", "rootfs"),
            Form::Template => ("string", "template"),
            Form::Size => ("string", "size"),
            Form::UserSizes => ("string", "user-sizes"),
            Form::Alerts => ("string", "alert-rules"),
        }
    }
}

/// The table as a document: `[{name, type, format, enum?, default?, description, core, required, fixed, sensitive, modes}]`.
pub fn document() -> Value {
    let list = PROPERTIES.iter().map(|p| {
        let (kind, format) = p.form.describe();
        let mut doc = json!({
            "name": p.name, "type": kind, "format": format, "description": p.text, "core": p.core,
            "required": p.required, "fixed": p.fixed, "sensitive": p.sensitive, "modes": p.modes,
        });
        if let Form::Enum(words) = p.form {
            doc["enum"] = json!(words);
        }
        if let Some(d) = p.default {
            doc["default"] = json!(d);
        }
        doc
    });
    Value::Array(list.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that Proxmox's core plugins declare in 8.4 and 9.x; declaring one again stops every daemon.
    const DECLARED: &[&str] = &[
        "path",
        "share",
        "nodes",
        "disable",
        "shared",
        "is_mountpoint",
        "content",
        "content-dirs",
        "username",
        "password",
        "domain",
    ];

    #[test]
    fn only_prefixed_names_are_ours() {
        for p in PROPERTIES {
            assert_eq!(!p.core, p.name.starts_with("smbgw-"), "{}", p.name);
            assert!(!p.core || DECLARED.contains(&p.name), "{}", p.name);
        }
    }

    #[test]
    fn names_are_unique_and_described() {
        for (i, p) in PROPERTIES.iter().enumerate() {
            assert!(PROPERTIES[i + 1..].iter().all(|q| q.name != p.name), "{}", p.name);
            assert!(p.text.ends_with('.'), "{}", p.name);
        }
    }
}
