// SPDX-License-Identifier: MIT OR Apache-2.0
//! How Samba 4.17 reads smb.conf and how testparm prints it, from measurements. It is deliberately not the product's own
//! parser ([`crate::format`]): a mistake there must not be repeated here, or no test would show it.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::files::Files;

/// Name, type, default and spelling of every parameter.
const TABLE: &str = include_str!("parameters.txt");

#[derive(Debug, Clone, Copy)]
struct Parameter {
    local: bool,
    name: &'static str,
    kind: &'static str,
    default: &'static str,
    values: &'static str,
}

fn parameter(line: &'static str) -> Parameter {
    let mut f = line.split('\t');
    let mut next = || f.next().unwrap_or_default();
    Parameter { local: next() == "local", name: next(), kind: next(), default: next(), values: next() }
}

/// The table, read once: it is a constant in a handier form, no state.
fn parameters() -> &'static [Parameter] {
    static ALL: OnceLock<Vec<Parameter>> = OnceLock::new();
    ALL.get_or_init(|| TABLE.lines().filter(|l| !l.starts_with('#')).map(parameter).collect())
}

/// Names are compared without case and blanks.
fn key(name: &str) -> String {
    name.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect()
}

/// A parameter by any of its names, and whether the name means the opposite.
fn find(name: &str) -> Option<(Parameter, bool)> {
    static BY_NAME: OnceLock<HashMap<String, Parameter>> = OnceLock::new();
    let by_name = BY_NAME.get_or_init(|| parameters().iter().map(|p| (key(p.name), *p)).collect());
    let found = *by_name.get(&key(name))?;
    match found.kind {
        "synonym" => Some((find(found.default)?.0, false)),
        "inverse" => Some((find(found.default)?.0, true)),
        _ => Some((found, false)),
    }
}

/// What was set: parameters of the table by name, and parametric options in the order they were first set.
#[derive(Debug, Clone, Default, PartialEq)]
struct Values {
    set: BTreeMap<&'static str, String>,
    options: Vec<(String, String)>,
}

impl Values {
    fn option(&mut self, name: String, value: String) {
        match self.options.iter_mut().find(|(n, _)| *n == name) {
            Some(known) => known.1 = value,
            None => self.options.push((name, value)),
        }
    }
}

/// A share as Samba has it after reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// Its name as first written.
    pub name: String,
    values: Values,
}

/// A configuration as Samba has it after reading; equal if the effect is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    globals: Values,
    /// In the order of their first appearance.
    pub shares: Vec<Share>,
}

impl Share {
    /// The effective value of a share parameter, spelled as testparm does.
    pub fn value(&self, name: &str) -> String {
        value(&self.values, name)
    }

    /// A list parameter, word by word.
    pub fn list(&self, name: &str) -> Vec<String> {
        words(&self.value(name))
    }

    /// A boolean parameter.
    pub fn is(&self, name: &str) -> bool {
        self.value(name) == "Yes"
    }
}

fn value(values: &Values, name: &str) -> String {
    if name.contains(':') {
        let name = option_name(name);
        return values.options.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone()).unwrap_or_default();
    }
    let Some((p, _)) = find(name) else { return String::new() };
    values.set.get(p.name).cloned().unwrap_or_else(|| p.default.to_owned())
}

impl Config {
    /// The effective value of a global parameter, or of the default for shares.
    pub fn global(&self, name: &str) -> String {
        value(&self.globals, name)
    }

    /// A share by name, whatever the case.
    pub fn share(&self, name: &str) -> Option<&Share> {
        self.shares.iter().find(|s| same(&s.name, name))
    }
}

/// Names of shares are compared without case.
pub(super) fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

/// What reading gave: the configuration, unless it could not be loaded, and what was said on standard error.
pub struct Loaded {
    /// The effective configuration.
    pub config: Option<Config>,
    /// Complaints, line by line.
    pub said: String,
}

/// Reads a configuration with its includes.
pub fn load(files: &Files, path: &Path) -> Loaded {
    let mut reader = Reader { files, config: Config::default(), at: None, said: String::new() };
    // Before the first section everything is global.
    if files.bytes(path).is_none() || reader.file(path, 0).is_err() {
        return Loaded { config: None, said: reader.said };
    }
    let Reader { mut config, mut said, .. } = reader;
    for share in &mut config.shares {
        let special = ["homes", "printers", "ipc$"].iter().any(|s| same(s, &share.name));
        if share.value("path").is_empty() && !special && value(&share.values, "printable") != "Yes" {
            let name = &share.name;
            let _ = writeln!(said, "WARNING: No path in service {name} - making it unavailable!");
            let _ = writeln!(said, "NOTE: Service {name} is flagged unavailable.");
            share.values.set.insert("available", "No".into());
        }
    }
    Loaded { config: Some(config), said }
}

struct Reader<'a> {
    files: &'a Files,
    config: Config,
    /// The share being read, if any; an included file goes on with it, and leaves its last one behind.
    at: Option<usize>,
    said: String,
}

/// The whole configuration is refused.
struct Refused;

impl Reader<'_> {
    fn file(&mut self, path: &Path, depth: usize) -> Result<(), Refused> {
        let Some(bytes) = self.files.bytes(path) else { return Ok(()) };
        let text = String::from_utf8_lossy(bytes).into_owned();
        let mut lines = text.lines();
        while let Some(first) = lines.next() {
            let mut line = first.trim().to_owned();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            while let Some(head) = line.strip_suffix('\\') {
                line = head.to_owned() + lines.next().unwrap_or_default();
                line.truncate(line.trim_end().len());
            }
            if let Some(rest) = line.strip_prefix('[') {
                self.section(rest)?;
            } else if let Some((name, value)) = line.split_once('=') {
                self.assign(name.trim(), value.trim(), depth)?;
            }
            // A line that is neither says nothing, and nothing is said about it.
        }
        Ok(())
    }

    fn section(&mut self, rest: &str) -> Result<(), Refused> {
        let Some((name, _)) = rest.split_once(']') else { return Err(Refused) };
        let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
        if name.is_empty() {
            self.said.push_str("The following message indicates an internal error:\nNo service name in service entry.\n");
            return Err(Refused);
        }
        if same(&name, "global") || same(&name, "globals") {
            self.at = None;
        } else if let Some(at) = self.config.shares.iter().position(|s| same(&s.name, &name)) {
            self.at = Some(at);
        } else {
            // A share begins with what [global] says about shares at this moment; later lines there do not reach it.
            let set = self.config.globals.set.iter().filter(|(n, _)| find(n).is_some_and(|(p, _)| p.local));
            let set = set.map(|(n, v)| (*n, v.clone())).collect();
            self.at = Some(self.config.shares.len());
            self.config.shares.push(Share { name, values: Values { set, options: Vec::new() } });
        }
        Ok(())
    }

    fn values(&mut self) -> &mut Values {
        match self.at {
            Some(at) => &mut self.config.shares[at].values,
            None => &mut self.config.globals,
        }
    }

    fn assign(&mut self, name: &str, text: &str, depth: usize) -> Result<(), Refused> {
        if name.is_empty() {
            return Err(Refused);
        }
        if name.contains(':') {
            self.values().option(option_name(name), text.to_owned());
            return Ok(());
        }
        let Some((p, inverse)) = find(name) else {
            let _ = writeln!(self.said, "Unknown parameter encountered: \"{name}\"\nIgnoring unknown parameter \"{name}\"");
            return Ok(());
        };
        if self.at.is_some() && !p.local {
            let _ = writeln!(self.said, "Global parameter {name} found in service section!");
            return Ok(());
        }
        let mut value = self.normal(p, text)?;
        if inverse {
            value = if value == "Yes" { "No".into() } else { "Yes".into() };
        }
        if p.name == "include" {
            value = substitute(&value);
        }
        if p.name == "copy" {
            let from = self.config.share(&value).map(|s| s.values.clone());
            if let (Some(from), Some(_)) = (from, self.at) {
                self.values().set.extend(from.set);
            }
        }
        self.values().set.insert(p.name, value.clone());
        if p.name == "include" && depth < 16 {
            return self.file(&PathBuf::from("/").join(value), depth + 1);
        }
        Ok(())
    }

    /// A value as testparm would spell it.
    fn normal(&mut self, p: Parameter, text: &str) -> Result<String, Refused> {
        Ok(match p.kind {
            "bool" => match text.to_lowercase().as_str() {
                "yes" | "true" | "on" | "1" => "Yes".into(),
                "no" | "false" | "off" | "0" => "No".into(),
                _ => {
                    let _ = writeln!(self.said, "set_variable_helper({text}): value is not boolean!");
                    return Err(Refused);
                }
            },
            "enum" => {
                let spelled = p.values.split('|').map(|v| v.split_once('>').unwrap_or((v, v)));
                match spelled.into_iter().find(|(written, _)| written.eq_ignore_ascii_case(text)) {
                    Some((_, printed)) => printed.into(),
                    None => {
                        let _ = writeln!(self.said, "WARNING: Ignoring invalid value '{text}' for parameter '{}'", p.name);
                        return Err(Refused);
                    }
                }
            }
            "integer" | "bytes" => number(text).to_string(),
            "octal" => format!("0{:03o}", u32::from_str_radix(text.trim_start_matches("0o"), 8).unwrap_or(0)),
            "cmdlist" => quoted(&words(text), " "),
            "list" => quoted(&words(text), ", "),
            "ustring" => text.to_uppercase(),
            _ => text.to_owned(),
        })
    }
}

/// The name of a parametric option as it is kept: blanks around the colon stay, an idmap domain is lower case.
fn option_name(name: &str) -> String {
    if name.to_lowercase().starts_with("idmap config") { name.to_lowercase() } else { name.to_owned() }
}

/// As `strtol` with base 0: what is no number is 0.
fn number(text: &str) -> i64 {
    match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).unwrap_or(0),
        None => text.parse().unwrap_or(0),
    }
}

/// Outside a session the `%` variables are empty.
fn substitute(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '%' {
            chars.next();
        } else {
            out.push(c);
        }
    }
    out
}

/// A list: words between blanks or commas, where quotes keep blanks.
pub(super) fn words(text: &str) -> Vec<String> {
    let (mut all, mut word, mut quote) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            '"' => quote = !quote,
            c if !quote && (c.is_whitespace() || c == ',') => {
                if !word.is_empty() {
                    all.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        all.push(word);
    }
    all
}

fn quoted(words: &[String], between: &str) -> String {
    let quote = |w: &String| if w.contains(char::is_whitespace) { format!("\"{w}\"") } else { w.clone() };
    words.iter().map(quote).collect::<Vec<_>>().join(between)
}

/// testparm's dump: of the whole configuration, with all defaults if `verbose`.
pub fn print(config: &Config, verbose: bool) -> String {
    let mut out = String::from("# Global parameters\n[global]\n");
    let shown = |p: &&Parameter| !matches!(p.kind, "synonym" | "inverse");
    for local in [false, true] {
        for p in parameters().iter().filter(|p| p.local == local).filter(shown) {
            let value = config.globals.set.get(p.name).map_or(p.default, String::as_str);
            if verbose || value != p.default {
                let _ = writeln!(out, "\t{} = {value}", p.name);
            }
        }
        if !local {
            for (name, value) in config.globals.options.iter().rev() {
                let _ = writeln!(out, "\t{name} = {value}");
            }
            if !config.globals.options.iter().any(|(n, _)| n == "idmap config * : backend") {
                out.push_str("\tidmap config * : backend = tdb\n");
            }
        }
    }
    for share in &config.shares {
        out.push_str(&print_share(config, share));
    }
    out
}

/// testparm's dump of one share: what differs from [global].
pub fn print_share(config: &Config, share: &Share) -> String {
    let mut out = format!("\n\n[{}]\n", share.name);
    for p in parameters().iter().filter(|p| p.local && !matches!(p.kind, "synonym" | "inverse")) {
        let own = share.values.set.get(p.name).map_or(p.default, String::as_str);
        let all = config.globals.set.get(p.name).map_or(p.default, String::as_str);
        if own != all {
            let _ = writeln!(out, "\t{} = {own}", p.name);
        }
    }
    for (name, value) in share.values.options.iter().rev() {
        let _ = writeln!(out, "\t{name} = {value}");
    }
    out
}
