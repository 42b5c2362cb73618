// SPDX-License-Identifier: MIT OR Apache-2.0
//! include/smbgw.h is what the sources say. `make header` (SMBGW_BLESS=1) rewrites it; the difference is then reviewed by eye.
#![allow(clippy::disallowed_methods)]

use std::fmt::Write as _;
use std::path::Path;

/// In the order of the manual.
const SOURCES: [&str; 7] = ["version", "error", "buffer", "context", "query", "usage", "run"];

fn generate(root: &Path) -> String {
    let mut config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    config.after_includes = Some(format!(
        "\n#include <stddef.h>\n#include <stdint.h>\n\n\
         /**\n * The version of this header. smbgw_version() tells the library's.\n */\n\
         #define SMBGW_VERSION \"{}\"\n#define SMBGW_VERSION_MAJOR {}\n#define SMBGW_VERSION_MINOR {}\n#define SMBGW_VERSION_PATCH {}\n\n\
         /**\n * A smbgw_usage ready for smbgw_usage_read().\n */\n\
         #define SMBGW_USAGE_INIT {{ sizeof(smbgw_usage), 0, 0, 0, 0, 0, 0, 0, 0 }}",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_VERSION_MAJOR"),
        env!("CARGO_PKG_VERSION_MINOR"),
        env!("CARGO_PKG_VERSION_PATCH"),
    ));
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(root.join("src").join(format!("{source}.rs")));
    }
    let mut bytes = Vec::new();
    builder.generate().expect("cbindgen understands the sources").write(&mut bytes);
    for_c(&String::from_utf8(bytes).expect("text"))
}

/// What is for Rust readers only does not go into the C manual: `# Safety` sections and backticks.
fn for_c(header: &str) -> String {
    let mut out = String::new();
    let mut skipping = false;
    for line in header.lines() {
        let text = line.trim_start();
        if text == "* # Safety" {
            skipping = true;
            while out.ends_with(" *\n") {
                out.truncate(out.len() - " *\n".len());
            }
        }
        if text.starts_with("*/") {
            skipping = false;
        }
        if !skipping {
            let line = if text.starts_with('*') { line.replace('`', "").replace('\u{2026}', "...") } else { line.to_owned() };
            writeln!(out, "{}", line.trim_end()).expect("memory");
        }
    }
    out
}

#[test]
fn the_header_is_what_the_sources_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("../include/smbgw.h");
    let made = generate(root);
    if std::env::var_os("SMBGW_BLESS").is_some_and(|v| v == "1") {
        std::fs::write(&path, &made).expect("the header can be written");
    }
    let kept = std::fs::read_to_string(&path).expect("include/smbgw.h is there; `make header` makes it");
    for (n, (kept, made)) in kept.lines().zip(made.lines()).enumerate() {
        assert_eq!(kept, made, "include/smbgw.h differs from the sources in line {}; run `make header` and review", n + 1);
    }
    assert_eq!(kept.len(), made.len(), "include/smbgw.h has another end than the sources say; run `make header` and review");
}
