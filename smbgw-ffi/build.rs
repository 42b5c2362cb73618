// SPDX-License-Identifier: MIT OR Apache-2.0
//! Gives the shared library its SONAME. The number changes only when a function goes or changes its meaning; see abi/symbols.txt.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libsmbgw.so.0");
    // Everything the library needs is bound when it is loaded: what is missing is then an error of dlopen, not the end of a daemon later.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,now");
}
