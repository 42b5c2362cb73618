// SPDX-License-Identifier: MIT OR Apache-2.0
//! The built shared library exports exactly abi/symbols.txt, and has the SONAME that packages rely on.
#![allow(clippy::disallowed_methods)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Cargo builds the shared library for this test, beside it.
fn library() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let deps = test.parent().expect("a directory");
    let library = deps.join("libsmbgw.so");
    assert!(library.exists(), "{} was not built", library.display());
    library
}

fn tool(program: &str, args: &[&str], file: &Path) -> String {
    let out = Command::new(program).args(args).arg(file).output().unwrap_or_else(|e| panic!("{program} (binutils): {e}"));
    assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

#[test]
fn exported_symbols_are_the_listed_ones() {
    let text = tool("nm", &["-D", "--defined-only"], &library());
    let mut exported: Vec<_> = text.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    exported.sort_unstable();
    let listed = include_str!("../abi/symbols.txt");
    let listed: Vec<_> = listed.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert_eq!(exported, listed, "left: exported, right: abi/symbols.txt");
}

#[test]
fn the_package_names_the_same() {
    let listed = include_str!("../abi/symbols.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let packaged = include_str!("../../debian/libsmbgw0.symbols");
    let packaged = packaged.lines().filter_map(|line| line.strip_prefix(' ')?.split('@').next());
    let (mut listed, mut packaged): (Vec<_>, Vec<_>) = (listed.collect(), packaged.collect());
    listed.sort_unstable();
    packaged.sort_unstable();
    assert_eq!(listed, packaged, "left: abi/symbols.txt, right: debian/libsmbgw0.symbols; `make symbols` adds what is new");
}

#[test]
fn the_soname_is_the_packages() {
    let dynamic = tool("readelf", &["-d", "-W"], &library());
    assert!(dynamic.contains("Library soname: [libsmbgw.so.0]"), "{dynamic}");
    assert!(dynamic.contains("NOW"), "{dynamic}");
    assert!(!dynamic.contains("RUNPATH") && !dynamic.contains("RPATH"), "{dynamic}");
}
