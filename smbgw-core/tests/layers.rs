// SPDX-License-Identifier: MIT OR Apache-2.0
//! Dependencies point downwards: reads every source file of the crate with a real parser, collects which modules of the crate
//! each one names, and compares with the table at the head of `lib.rs` (which is the table here; a module that is missing in
//! it is an error). `unsafe` outside of `host/sys.rs` and `host/sys/quota.rs` is found the same way.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// Modules by layer, as the table in `lib.rs` prints them; `(module, layer, looks at the machine)`.
fn table() -> BTreeMap<String, u32> {
    let text = fs::read_to_string(source().join("lib.rs")).expect("lib.rs");
    let mut layers = BTreeMap::new();
    for row in text.lines().filter_map(|l| l.strip_prefix("//! | L")) {
        let layer = row.chars().next().and_then(|c| c.to_digit(10)).expect("a layer number");
        let modules = row.split('|').nth(1).expect("a second column");
        for name in modules.split('[').skip(1).filter_map(|m| m.split(']').next()) {
            layers.insert(name.trim_matches('`').to_owned(), layer);
        }
    }
    assert!(layers.len() >= 10, "the table at the head of lib.rs: {layers:?}");
    layers
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        // A program of its own, which uses the crate as others do.
        if path.ends_with("src/bin") {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// `src/host/real.rs` is `["host", "real"]`; `mod.rs` stands for its directory.
fn module_of(file: &Path) -> Vec<String> {
    let relative = file.strip_prefix(source()).expect("below src").with_extension("");
    let mut parts: Vec<String> = relative.iter().map(|p| p.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|p| p == "mod" || p == "lib") {
        parts.pop();
    }
    parts
}

/// Whether an item is only there for tests.
fn for_tests(attrs: &[syn::Attribute]) -> bool {
    attrs.iter().any(|a| a.path().is_ident("cfg") && a.parse_args::<syn::Ident>().is_ok_and(|i| i == "test"))
}

/// What one file names and does.
struct Names {
    /// The module that we are in, from the crate's root.
    here: Vec<String>,
    /// Top-level modules of the crate that are named, with the whole path for the message.
    named: BTreeMap<String, String>,
    unsafe_code: bool,
}

impl Names {
    /// Resolves a path that starts at `crate`, `self` or `super`.
    fn path(&mut self, segments: &[String]) {
        let Some((first, rest)) = segments.split_first() else { return };
        let mut at = match first.as_str() {
            "crate" => Vec::new(),
            "self" => self.here.clone(),
            "super" => self.here[..self.here.len().saturating_sub(1)].to_vec(),
            _ => return,
        };
        for s in rest {
            if s == "super" {
                at.pop();
            } else {
                at.push(s.clone());
            }
        }
        if let Some(top) = at.first() {
            self.named.entry(top.clone()).or_insert_with(|| segments.join("::"));
        }
    }

    fn use_tree(&mut self, prefix: &mut Vec<String>, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(p) => {
                prefix.push(p.ident.to_string());
                self.use_tree(prefix, &p.tree);
                prefix.pop();
            }
            syn::UseTree::Group(g) => g.items.iter().for_each(|t| self.use_tree(prefix, t)),
            syn::UseTree::Name(n) => self.leaf(prefix, n.ident.to_string()),
            syn::UseTree::Rename(r) => self.leaf(prefix, r.ident.to_string()),
            syn::UseTree::Glob(_) => self.path(&prefix.clone()),
        }
    }

    fn leaf(&mut self, prefix: &[String], name: String) {
        let mut all = prefix.to_vec();
        all.push(name);
        self.path(&all);
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_mod(&mut self, m: &'ast syn::ItemMod) {
        // Tests may look at everything; the product may not.
        if for_tests(&m.attrs) {
            return;
        }
        self.here.push(m.ident.to_string());
        visit::visit_item_mod(self, m);
        self.here.pop();
    }

    fn visit_item_use(&mut self, u: &'ast syn::ItemUse) {
        if !for_tests(&u.attrs) {
            self.use_tree(&mut Vec::new(), &u.tree);
        }
    }

    fn visit_item_fn(&mut self, f: &'ast syn::ItemFn) {
        if !for_tests(&f.attrs) {
            self.unsafe_code |= f.sig.unsafety.is_some();
            visit::visit_item_fn(self, f);
        }
    }

    fn visit_impl_item_fn(&mut self, f: &'ast syn::ImplItemFn) {
        self.unsafe_code |= f.sig.unsafety.is_some();
        visit::visit_impl_item_fn(self, f);
    }

    fn visit_item_impl(&mut self, i: &'ast syn::ItemImpl) {
        if !for_tests(&i.attrs) {
            self.unsafe_code |= i.unsafety.is_some();
            visit::visit_item_impl(self, i);
        }
    }

    fn visit_expr_unsafe(&mut self, e: &'ast syn::ExprUnsafe) {
        self.unsafe_code = true;
        visit::visit_expr_unsafe(self, e);
    }

    fn visit_path(&mut self, p: &'ast syn::Path) {
        let segments: Vec<String> = p.segments.iter().map(|s| s.ident.to_string()).collect();
        if segments.len() > 1 {
            self.path(&segments);
        }
        visit::visit_path(self, p);
    }

    /// The arguments of macros (`format!`, `matches!` …) are not parsed as expressions: look for paths in their tokens.
    fn visit_macro(&mut self, m: &'ast syn::Macro) {
        self.visit_path(&m.path);
        let mut tokens = Vec::new();
        flatten(m.tokens.clone(), &mut tokens);
        for (i, t) in tokens.iter().enumerate() {
            if matches!(t.as_str(), "crate" | "super" | "self") {
                let mut segments = vec![t.clone()];
                let mut rest = &tokens[i + 1..];
                while let [a, b, name, tail @ ..] = rest {
                    if a != ":" || b != ":" {
                        break;
                    }
                    segments.push(name.clone());
                    rest = tail;
                }
                if segments.len() > 1 {
                    self.path(&segments);
                }
            }
            self.unsafe_code |= t == "unsafe";
        }
    }
}

fn flatten(stream: proc_macro2::TokenStream, out: &mut Vec<String>) {
    for t in stream {
        match t {
            proc_macro2::TokenTree::Group(g) => {
                out.push("(".to_owned());
                flatten(g.stream(), out);
                out.push(")".to_owned());
            }
            other => out.push(other.to_string()),
        }
    }
}

fn names_in(here: Vec<String>, text: &str) -> Names {
    let file = syn::parse_file(text).expect("compiles, so it parses");
    let mut names = Names { here, named: BTreeMap::new(), unsafe_code: false };
    if !for_tests(&file.attrs) {
        names.visit_file(&file);
    }
    names
}

/// All product files: not those that `#[cfg(test)] mod tests;` brings in.
fn product() -> Vec<(PathBuf, Names)> {
    let mut found = Vec::new();
    files(&source(), &mut found);
    found.sort();
    let is_test = |f: &PathBuf| f.file_stem().is_some_and(|s| s == "tests");
    let read = |f: PathBuf| {
        let names = names_in(module_of(&f), &fs::read_to_string(&f).expect("readable"));
        (f, names)
    };
    found.into_iter().filter(|f| !is_test(f)).map(read).collect()
}

#[test]
fn every_module_names_only_what_is_below_it() {
    let layers = table();
    let mut wrong = Vec::new();
    let mut beside: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (file, names) in product() {
        let Some(top) = names.here.first().cloned() else { continue };
        let Some(layer) = layers.get(&top) else {
            wrong.push(format!("{}: module {top} is not in the table at the head of lib.rs", file.display()));
            continue;
        };
        for (other, path) in names.named.iter().filter(|(other, _)| **other != top) {
            match layers.get(other) {
                Some(l) if l > layer => wrong.push(format!("{}: L{layer} names {path} of L{l}", file.display())),
                Some(l) if l == layer => drop(beside.entry(top.clone()).or_default().insert(other.clone())),
                // Lower: fine. Not a module: an item or macro of the crate's root.
                _ => {}
            }
        }
    }
    // Within a layer modules may build on each other, but not in a circle.
    for start in beside.keys() {
        let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
        while let Some(m) = next.pop() {
            for to in beside.get(m).into_iter().flatten() {
                if to == start {
                    wrong.push(format!("modules of one layer name each other in a circle: {start} … {m} → {start}"));
                } else if seen.insert(to) {
                    next.push(to);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_modules_never_name_the_host() {
    for (file, names) in product() {
        let pure = ["error", "types", "format", "net", "spec", "effect", "facts", "metrics", "plan", "status"];
        if names.here.first().is_some_and(|top| pure.contains(&top.as_str())) {
            assert_eq!(names.named.get("host"), None, "{}", file.display());
        }
    }
}

#[test]
fn system_calls_are_in_one_file() {
    let with_unsafe: Vec<_> =
        product().into_iter().filter(|(_, n)| n.unsafe_code).map(|(f, _)| module_of(&f).join("::")).collect();
    assert_eq!(with_unsafe, ["host::sys::quota", "host::sys"]);
}

#[test]
fn the_reader_of_names_sees_them_all() {
    let seen = |text: &str| names_in(vec!["plan".into(), "samba".into()], text).named.into_keys().collect::<Vec<_>>();
    assert_eq!(seen("use crate::{error::Result, host::{self, Host as H}};"), ["error", "host"]);
    assert_eq!(seen("use super::super::host::Host;"), ["host"]);
    assert_eq!(
        seen("fn f() { let x: Vec<crate::host::Space> = crate::run::go(|| super::native::y()); }"),
        ["host", "plan", "run"]
    );
    assert_eq!(seen("fn f() { assert!(matches!(x, [crate::host::Kind::A])) }"), ["host"]);
    assert_eq!(seen("mod inner { use super::super::super::journal::*; }"), ["journal"]);
    assert_eq!(seen("pub use crate::host::real as other;"), ["host"]);
    assert_eq!(seen("#[cfg(test)] mod tests { use crate::host::sim; }"), [] as [&str; 0]);
    let risky = |text: &str| names_in(Vec::new(), text).unsafe_code;
    assert!(risky("fn f() { unsafe { g() } }") && risky("unsafe impl Send for X {}") && risky("unsafe fn f() {}"));
    assert!(risky("fn f() { vec![unsafe { g() }]; }"));
    assert!(!risky("fn f() { let s = \"unsafe\"; } // unsafe"));
}
