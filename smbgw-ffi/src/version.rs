// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which library is this, and does it fit the header a program was built with?

use std::ffi::c_char;

/// The number of the binary interface this header describes. A program compares it with smbgw_abi_version().
pub const SMBGW_ABI_VERSION: u32 = 1;

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");

/// The version of the loaded library, for example "0.1.0". The text is static: never free it.
#[unsafe(no_mangle)]
pub extern "C" fn smbgw_version() -> *const c_char {
    VERSION.as_ptr().cast()
}

/// The number of the binary interface of the loaded library. If it differs from SMBGW_ABI_VERSION, use nothing else of it.
#[unsafe(no_mangle)]
pub extern "C" fn smbgw_abi_version() -> u32 {
    SMBGW_ABI_VERSION
}
