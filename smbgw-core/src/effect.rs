// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be done to a machine, as data: places, programs, commands, files. It knows how each is written down; it must
//! not know how any of it is carried out ([`crate::host`]) nor why ([`crate::plan`]).

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::types::VmId;

/// Where a step acts. The same step serves every place: what it runs, reads and writes is found there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// The node the library runs on.
    #[default]
    Node,
    /// Inside a container of this node.
    Ct(VmId),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Node => f.write_str("node"),
            Place::Ct(vmid) => write!(f, "ct {vmid}"),
        }
    }
}

/// `smbgw-guest`, the product's hand inside a guest, as the package installs it on a node.
pub const HAND: &str = "/usr/lib/smbgw/smbgw-guest";
/// Where it lies inside a guest.
pub const HAND_INSIDE: &str = "/usr/local/lib/smbgw/smbgw-guest";

/// `smbgw-dfree`, which tells Samba the free space of a limited tree: the same program under another name, on the node and inside a guest.
pub const DISK_FREE: &str = "/usr/lib/smbgw/smbgw-dfree";
/// Where it lies inside a guest.
pub const DISK_FREE_INSIDE: &str = "/usr/local/lib/smbgw/smbgw-dfree";

/// What it has to be of to be understood: number of its lines, version of the product, the sources of both ends.
pub const HAND_VERSION: &str = concat!("1 ", env!("CARGO_PKG_VERSION"), " ", env!("SMBGW_SOURCES"));

/// The programs a step may run: nothing else is ever started. Paths and packages are in [`crate::host::programs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Program {
    /// `groupadd(8)`
    Groupadd,
    /// `groupdel(8)`
    Groupdel,
    /// `gpasswd(1)`
    Gpasswd,
    /// `useradd(8)`
    Useradd,
    /// `userdel(8)`
    Userdel,
    /// `usermod(8)`
    Usermod,
    /// `smbpasswd(8)`
    Smbpasswd,
    /// `pdbedit(8)`
    Pdbedit,
    /// `testparm(1)`
    Testparm,
    /// `smbcontrol(1)`
    Smbcontrol,
    /// `smbstatus(1)`
    Smbstatus,
    /// `smbclient(1)`
    Smbclient,
    /// `sharesec(1)`
    Sharesec,
    /// `net(8)`
    Net,
    /// `smbd(8)`, started directly where there is no systemd
    Smbd,
    /// `winbindd(8)`, likewise
    Winbindd,
    /// `wbinfo(1)`
    Wbinfo,
    /// `systemctl(1)`
    Systemctl,
    /// `pct(1)` of Proxmox VE: containers
    Pct,
    /// `lxc-info(1)`: whether a container runs, and its first process
    #[serde(rename = "lxc-info")]
    LxcInfo,
    /// `ha-manager(1)` of Proxmox VE
    #[serde(rename = "ha-manager")]
    HaManager,
    /// `debootstrap(8)`: a Debian system into a directory
    Debootstrap,
    /// `tar(1)`
    Tar,
    /// `zstd(1)`, which `tar` starts
    Zstd,
    /// `install(1)`: copies a program
    Install,
    /// `rm(1)`, for directories in which we built something
    Rm,
    /// `sha256sum(1)`
    Sha256sum,
    /// `zfs(8)`
    Zfs,
}

impl Program {
    /// All of them, in the order of the enum.
    pub const ALL: [Program; 28] = [
        Program::Groupadd,
        Program::Groupdel,
        Program::Gpasswd,
        Program::Useradd,
        Program::Userdel,
        Program::Usermod,
        Program::Smbpasswd,
        Program::Pdbedit,
        Program::Testparm,
        Program::Smbcontrol,
        Program::Smbstatus,
        Program::Smbclient,
        Program::Sharesec,
        Program::Net,
        Program::Smbd,
        Program::Winbindd,
        Program::Wbinfo,
        Program::Systemctl,
        Program::Pct,
        Program::LxcInfo,
        Program::HaManager,
        Program::Debootstrap,
        Program::Tar,
        Program::Zstd,
        Program::Install,
        Program::Rm,
        Program::Sha256sum,
        Program::Zfs,
    ];

    /// The file name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Program::Groupadd => "groupadd",
            Program::Groupdel => "groupdel",
            Program::Gpasswd => "gpasswd",
            Program::Useradd => "useradd",
            Program::Userdel => "userdel",
            Program::Usermod => "usermod",
            Program::Smbpasswd => "smbpasswd",
            Program::Pdbedit => "pdbedit",
            Program::Testparm => "testparm",
            Program::Smbcontrol => "smbcontrol",
            Program::Smbstatus => "smbstatus",
            Program::Smbclient => "smbclient",
            Program::Sharesec => "sharesec",
            Program::Net => "net",
            Program::Smbd => "smbd",
            Program::Winbindd => "winbindd",
            Program::Wbinfo => "wbinfo",
            Program::Systemctl => "systemctl",
            Program::Pct => "pct",
            Program::LxcInfo => "lxc-info",
            Program::HaManager => "ha-manager",
            Program::Debootstrap => "debootstrap",
            Program::Tar => "tar",
            Program::Zstd => "zstd",
            Program::Install => "install",
            Program::Rm => "rm",
            Program::Sha256sum => "sha256sum",
            Program::Zfs => "zfs",
        }
    }
}

/// The daemons of Samba that we start and stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Daemon {
    /// The file server.
    Smbd,
    /// It talks with domain controllers.
    Winbindd,
}

impl Daemon {
    /// Its name, which is that of its program, its pid file and, to `smbcontrol`, its own.
    pub fn name(self) -> &'static str {
        self.program().name()
    }

    /// Its program.
    pub fn program(self) -> Program {
        match self {
            Daemon::Smbd => Program::Smbd,
            Daemon::Winbindd => Program::Winbindd,
        }
    }

    /// Its unit in Debian.
    pub fn unit(self) -> &'static str {
        match self {
            Daemon::Smbd => "smbd.service",
            Daemon::Winbindd => "winbind.service",
        }
    }
}

/// What a command reads on its standard input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stdin {
    /// `/dev/null`
    #[default]
    Null,
    /// A secret, each time followed by a line feed. Only its name is data; the value is substituted at execution.
    Secret {
        /// The name under which the run holds the secret.
        name: String,
        /// How often it is written (`smbpasswd -s` reads it twice). 0: once, byte for byte, without a line feed: what is a file and no password.
        times: u8,
    },
    /// A text of a few lines, which is there anew each time the program opens `/dev/stdin`.
    Text(String),
}

/// One command: data, printable, without a secret in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cmd {
    /// What runs.
    pub program: Program,
    /// Its arguments, literally.
    pub args: Vec<String>,
    /// What it reads.
    #[serde(default, skip_serializing_if = "is_null")]
    pub stdin: Stdin,
    /// When it is ended, in milliseconds from its start.
    pub timeout_ms: u64,
    /// Exit codes that mean success.
    #[serde(default = "zero", skip_serializing_if = "is_zero")]
    pub ok: Vec<i32>,
    /// It becomes a daemon that outlives us: own session, no parent-death signal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub daemon: bool,
    /// `KRB5_CONFIG`: which Kerberos configuration it reads instead of the machine's. The rest of the environment is the same for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub krb5_config: Option<PathBuf>,
    /// `KRB5CCNAME`: a file with tickets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub krb5_ccache: Option<PathBuf>,
}

fn is_null(s: &Stdin) -> bool {
    *s == Stdin::Null
}
fn zero() -> Vec<i32> {
    vec![0]
}
fn is_zero(v: &[i32]) -> bool {
    v == [0]
}

impl Cmd {
    /// A command with 10 seconds to live.
    pub fn new<S: Into<String>>(program: Program, args: impl IntoIterator<Item = S>) -> Self {
        Self {
            program,
            args: args.into_iter().map(Into::into).collect(),
            stdin: Stdin::Null,
            timeout_ms: 10_000,
            ok: vec![0],
            daemon: false,
            krb5_config: None,
            krb5_ccache: None,
        }
    }

    /// Feeds the secret `name`, `times` times, each followed by a line feed.
    #[must_use]
    pub fn secret(mut self, name: &str, times: u8) -> Self {
        self.stdin = Stdin::Secret { name: name.to_owned(), times };
        self
    }

    /// Reads that text.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.stdin = Stdin::Text(text.into());
        self
    }

    /// That it does not end in time is an answer, too.
    #[must_use]
    pub fn may_be_silent(self) -> Self {
        self.also_ok(&[-libc::SIGKILL])
    }

    /// Further exit codes that mean success.
    #[must_use]
    pub fn also_ok(mut self, codes: &[i32]) -> Self {
        self.ok.extend_from_slice(codes);
        self
    }

    /// Another deadline.
    #[must_use]
    pub fn within_ms(mut self, ms: u64) -> Self {
        self.timeout_ms = ms;
        self
    }

    /// Uses that credentials cache.
    #[must_use]
    pub fn krb5_ccache(mut self, path: impl Into<PathBuf>) -> Self {
        self.krb5_ccache = Some(path.into());
        self
    }

    /// Reads that Kerberos configuration.
    #[must_use]
    pub fn krb5_config(mut self, path: impl Into<PathBuf>) -> Self {
        self.krb5_config = Some(path.into());
        self
    }

    /// Marks a program that turns itself into a daemon.
    #[must_use]
    pub fn daemon(mut self) -> Self {
        self.daemon = true;
        self
    }
}

/// As an administrator would type it, quoted where a shell would need it.
/// Where a text is put by who types a command that reads one.
const BY_HAND: &str = "/root/smbgw-input";

impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Stdin::Text(text) = &self.stdin {
            // As a shell reads it: whoever has to do it by hand copies it. By way of a file, because a pipe can be read only once.
            let text = text.replace('\\', r"\\").replace('\n', r"\n").replace('\'', r"'\''");
            write!(f, "printf '%b' '{text}' > {BY_HAND}; ")?;
        }
        if let Some(path) = &self.krb5_config {
            write!(f, "KRB5_CONFIG={} ", path.display())?;
        }
        if let Some(path) = &self.krb5_ccache {
            write!(f, "KRB5CCNAME=FILE:{} ", path.display())?;
        }
        f.write_str(self.program.name())?;
        for a in &self.args {
            let plain = !a.is_empty() && a.chars().all(|c| c.is_alphanumeric() || "-_./=:+@,".contains(c));
            if plain {
                write!(f, " {a}")?;
            } else {
                write!(f, " '{}'", a.replace('\'', r"'\''"))?;
            }
        }
        match &self.stdin {
            Stdin::Null => Ok(()),
            Stdin::Secret { name, .. } => write!(f, " < (secret {name})"),
            Stdin::Text(_) => write!(f, " < {BY_HAND}"),
        }
    }
}

/// A file as it shall be: whole content, mode, owner. Written beside its target, synced, and renamed over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FileSpec {
    /// Where it lives; absolute.
    pub path: PathBuf,
    /// All of it.
    pub content: String,
    /// Permission bits, for example 0o644.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_commands_can_be_pasted_and_hold_no_secret() {
        let c = Cmd::new(Program::Smbpasswd, ["-s", "-a", "o'neil"]).secret("password", 2);
        assert_eq!(c.to_string(), r"smbpasswd -s -a 'o'\''neil' < (secret password)");
        let c = Cmd::new(Program::Sharesec, ["--configfile=/dev/stdin", "Anna's %d", "--view"]).text("[Anna's %d]\npath = /\n");
        let put = r"printf '%b' '[Anna'\''s %d]\npath = /\n' > /root/smbgw-input; ";
        let read = r"sharesec --configfile=/dev/stdin 'Anna'\''s %d' --view < /root/smbgw-input";
        assert_eq!(c.to_string(), format!("{put}{read}"));
    }
}
