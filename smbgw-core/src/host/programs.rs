// SPDX-License-Identifier: MIT OR Apache-2.0
//! The only table of programs: where Debian 12 and 13 install each one, which package ships it, and which of its streams
//! says why it failed. It knows file names; it must not know what the programs are used for. No `PATH` is ever searched.

use crate::effect::Program;
use crate::error::{Error, Kind};
use crate::host::Output;

/// How much of a failed program's output goes into a message.
const TAIL: usize = 2048;

/// Where a program explains why it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Complains {
    /// On standard error, like it should.
    Stderr,
    /// On either: `smbclient` and `net` print `NT_STATUS_…` of a failed command on standard output.
    Both,
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Which program.
    pub program: Program,
    /// Absolute paths, the usual one first.
    pub paths: &'static [&'static str],
    /// The Debian package that ships it.
    pub package: &'static str,
    /// Where it explains itself.
    pub complains: Complains,
}

const fn entry(program: Program, paths: &'static [&'static str], package: &'static str, complains: Complains) -> Entry {
    Entry { program, paths, package, complains }
}

/// The line of a program. A `match`, so that a program cannot be without one.
pub fn entry_of(program: Program) -> Entry {
    use Complains::{Both, Stderr};
    match program {
        Program::Groupadd => entry(program, &["/usr/sbin/groupadd", "/sbin/groupadd"], "passwd", Stderr),
        Program::Groupdel => entry(program, &["/usr/sbin/groupdel", "/sbin/groupdel"], "passwd", Stderr),
        Program::Gpasswd => entry(program, &["/usr/bin/gpasswd", "/bin/gpasswd"], "passwd", Stderr),
        Program::Useradd => entry(program, &["/usr/sbin/useradd", "/sbin/useradd"], "passwd", Stderr),
        Program::Userdel => entry(program, &["/usr/sbin/userdel", "/sbin/userdel"], "passwd", Stderr),
        Program::Usermod => entry(program, &["/usr/sbin/usermod", "/sbin/usermod"], "passwd", Stderr),
        Program::Smbpasswd => entry(program, &["/usr/bin/smbpasswd", "/bin/smbpasswd"], "samba-common-bin", Stderr),
        Program::Pdbedit => entry(program, &["/usr/bin/pdbedit", "/bin/pdbedit"], "samba", Both),
        Program::Testparm => entry(program, &["/usr/bin/testparm", "/bin/testparm"], "samba-common-bin", Stderr),
        Program::Smbcontrol => entry(program, &["/usr/bin/smbcontrol", "/bin/smbcontrol"], "samba", Both),
        Program::Smbstatus => entry(program, &["/usr/bin/smbstatus", "/bin/smbstatus"], "samba", Stderr),
        Program::Smbclient => entry(program, &["/usr/bin/smbclient", "/bin/smbclient"], "smbclient", Both),
        Program::Sharesec => entry(program, &["/usr/bin/sharesec", "/bin/sharesec"], "samba", Both),
        Program::Net => entry(program, &["/usr/bin/net", "/bin/net"], "samba-common-bin", Both),
        Program::Smbd => entry(program, &["/usr/sbin/smbd", "/sbin/smbd"], "samba", Both),
        Program::Winbindd => entry(program, &["/usr/sbin/winbindd", "/sbin/winbindd"], "winbind", Both),
        Program::Wbinfo => entry(program, &["/usr/bin/wbinfo", "/bin/wbinfo"], "winbind", Both),
        Program::Systemctl => entry(program, &["/usr/bin/systemctl", "/bin/systemctl"], "systemd", Stderr),
        Program::Pct => entry(program, &["/usr/sbin/pct"], "pve-container", Both),
        Program::LxcInfo => entry(program, &["/usr/bin/lxc-info"], "lxc", Both),
        Program::HaManager => entry(program, &["/usr/sbin/ha-manager"], "pve-ha-manager", Both),
        Program::Debootstrap => entry(program, &["/usr/sbin/debootstrap"], "debootstrap", Both),
        Program::Tar => entry(program, &["/usr/bin/tar", "/bin/tar"], "tar", Stderr),
        Program::Zstd => entry(program, &["/usr/bin/zstd"], "zstd", Stderr),
        Program::Install => entry(program, &["/usr/bin/install", "/bin/install"], "coreutils", Stderr),
        Program::Rm => entry(program, &["/usr/bin/rm", "/bin/rm"], "coreutils", Stderr),
        Program::Sha256sum => entry(program, &["/usr/bin/sha256sum", "/bin/sha256sum"], "coreutils", Stderr),
        Program::Zfs => entry(program, &["/usr/sbin/zfs", "/sbin/zfs"], "zfsutils-linux", Stderr),
    }
}

/// The error for a program that is not installed: names the package that has it.
pub fn missing(program: Program) -> Error {
    let e = entry_of(program);
    Error::new(Kind::Unsupported, format!("{} is not installed (looked for {})", program.name(), e.paths.join(", ")))
        .remedy(format!("apt install {}", e.package))
}

/// The end of what a program said about its failure, trimmed, at most 2 KiB; empty if it said nothing.
pub fn complaint(program: Program, output: &Output) -> String {
    let err = output.err();
    let out = if entry_of(program).complains == Complains::Both || err.trim().is_empty() { output.out() } else { String::new() };
    let text = match (err.trim(), out.trim()) {
        (e, "") => e.to_owned(),
        ("", o) => o.to_owned(),
        (e, o) => format!("{o}\n{e}"),
    };
    let mut from = text.len().saturating_sub(TAIL);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..].to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_program_has_absolute_candidates_that_end_in_its_name() {
        for program in Program::ALL {
            let e = entry_of(program);
            assert_eq!(e.program, program);
            assert!(!e.package.is_empty());
            for p in e.paths {
                let p = Path::new(p);
                assert!(p.is_absolute(), "{p:?}");
                assert_eq!(p.file_name().and_then(|n| n.to_str()), Some(program.name()));
            }
        }
    }

    #[test]
    fn a_complaint_is_the_end_of_what_explains_it() {
        let output = |out: &str, err: &str| Output { status: 1, stdout: out.into(), stderr: err.into(), timed_out: false };
        assert_eq!(complaint(Program::Useradd, &output("noise\n", "useradd: no\n")), "useradd: no");
        assert_eq!(complaint(Program::Testparm, &output("only here\n", " \n")), "only here");
        assert_eq!(complaint(Program::Smbclient, &output("NT_STATUS_X\n", "warning\n")), "NT_STATUS_X\nwarning");
        let long = format!("{}é", "é".repeat(4000));
        let said = complaint(Program::Useradd, &output("", &long));
        assert!(said.len() <= TAIL && said.ends_with('é'), "{}", said.len());
    }
}
