// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tells the crate which sources it is built from: the library and `smbgw-guest` inside a container must be of the same ones, and find
//! out by this whether they are.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::path::{Path, PathBuf};

use sha2::Digest;

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn main() {
    println!("cargo::rerun-if-changed=src");
    let mut files = Vec::new();
    sources(Path::new("src"), &mut files);
    files.sort();
    let mut sum = sha2::Sha256::new();
    for file in files {
        sum.update(file.to_string_lossy().as_bytes());
        sum.update(fs::read(&file).unwrap_or_default());
    }
    let text: String = sum.finalize().iter().take(6).map(|b| format!("{b:02x}")).collect();
    println!("cargo::rustc-env=SMBGW_SOURCES={text}");
}
