// SPDX-License-Identifier: MIT OR Apache-2.0
//! The product's hand inside a container: does what it is told on standard input, line by line, and ends with it. Built without shared
//! libraries, because the container may be of another Debian than the node. It knows how to start and stop serving; the lines are in
//! [`smbgw_core::host::guest`]. `--version` tells the version that both ends compare.

use std::process::ExitCode;
use std::rc::Rc;

use smbgw_core::effect::HAND_VERSION;
use smbgw_core::host::guest;
use smbgw_core::host::real::RealHost;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|a| a == "--version") {
        println!("{}", HAND_VERSION);
        return ExitCode::SUCCESS;
    }
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    match guest::serve(Rc::new(RealHost::new()), &mut input, &mut output) {
        Ok(()) => ExitCode::SUCCESS,
        // The node hung up in the middle of a line: nobody is there to be told.
        Err(_) => ExitCode::FAILURE,
    }
}
