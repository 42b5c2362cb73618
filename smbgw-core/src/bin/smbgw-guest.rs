// SPDX-License-Identifier: MIT OR Apache-2.0
//! The product's hand inside a container: does what it is told on standard input, line by line, and ends with it. Built without shared
//! libraries, because the container may be of another Debian than the node. It knows how to start and stop serving; the lines are in
//! [`smbgw_core::host::guest`]. `--version` tells the version that both ends compare.
//!
//! Under the name `smbgw-dfree`, on the node too, it is Samba's `dfree command` (smb.conf(5)): prints how large the directory that it is given is
//! for clients, and how much of that is free, in KiB.
#![allow(clippy::disallowed_methods)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use smbgw_core::effect::{DISK_FREE, HAND_VERSION};
use smbgw_core::host::guest;
use smbgw_core::host::real::{RealHost, disk_free};

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let called = args.next().map(PathBuf::from).unwrap_or_default();
    let disk_free_name = Path::new(DISK_FREE).file_name();
    if called.file_name() == disk_free_name {
        return tell_disk_free(&args.next().map_or_else(|| PathBuf::from("."), PathBuf::from));
    }
    if args.next().is_some_and(|a| a == "--version") {
        println!("{}", HAND_VERSION);
        return ExitCode::SUCCESS;
    }
    // Samba finds the other name beside this one. It is there already, or cannot be made; then its absence is seen by who needs it.
    if let (Ok(own), Some(name)) = (std::env::current_exe(), disk_free_name) {
        let _ = std::os::unix::fs::symlink(own.file_name().unwrap_or_default(), own.with_file_name(name));
    }
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    match guest::serve(Rc::new(RealHost::new()), &mut input, &mut output) {
        Ok(()) => ExitCode::SUCCESS,
        // The node hung up in the middle of a line: nobody is there to be told.
        Err(_) => ExitCode::FAILURE,
    }
}

fn tell_disk_free(directory: &Path) -> ExitCode {
    match disk_free(directory) {
        Ok((total, free)) => {
            println!("{} {} 1024", total / 1024, free / 1024);
            ExitCode::SUCCESS
        }
        // Without an answer Samba asks the file system itself.
        Err(e) => {
            eprintln!("{}: {e}", directory.display());
            ExitCode::FAILURE
        }
    }
}
