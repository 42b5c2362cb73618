// SPDX-License-Identifier: MIT OR Apache-2.0
//! smb.conf(5) as Samba's own reader takes it (its rules were read in lib/util/tini.c and the two loadparm.c of 4.17 to 4.22
//! and tried on testparm 4.17.12). Keeps every byte of what it reads; prints only what survives being read again; adds and
//! removes one managed include. It must not know where files are or which settings are good.
//!
//! The rules that surprise:
//! - A comment (`#`, `;`) ends with its line; a backslash there continues nothing. A comment sign after a value is value.
//! - A line that ends in `\` (also `\` and blanks) goes on in the next one, even if that starts with `#` or `[`. The test is
//!   repeated at each line end: `a\\`, an empty line and `b` make `ab`.
//! - Blanks (also tab, CR) are folded to the first of their row, everywhere, also inside quotes.
//! - A line without `=` is dropped without a word. `= x` or `[open` ends the load of the whole file.
//! - Section names are compared without case; blanks count (`[ b ]` is not `[b]`), except for `[global]` and `[globals]`.
//! - Text before the first header belongs to `[global]`.
//! - A section that appears again goes on where it was, except that a share then loses its parametric options
//!   (`fruit:model`) of before.
//! - A share copies the defaults of `[global]` when its header is first met; `[global]` lines after it do not reach it.
//!   Parametric options are looked up in `[global]` when needed, so there the last line counts for all shares.
//! - The value of a line is cut at a NUL.

use std::borrow::Cow;
use std::fmt;

pub use super::smb_params::{Class, Key, Type, bool_value, key, parse_list, same_value, text_value};
use super::smb_params::{fits, is_parametric, is_space, is_unknown, lookup, same_word};
use super::{FormatError, show};

/// How deep Samba follows includes.
const MAX_INCLUDE_DEPTH: usize = 100;

/// A whole file, every byte of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmbConf {
    items: Vec<Item>,
    sections: Vec<SectionView>,
    findings: Vec<Finding>,
    /// The last line is continued, but there is no next one.
    open_end: bool,
}

/// One logical line with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    /// The text, with the line ends.
    raw: String,
    /// Its first line, from 1.
    line: usize,
    kind: ItemKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ItemKind {
    Blank,
    Comment,
    Header(String),
    Param {
        name: String,
        value: String,
    },
    /// Samba skips it.
    Ignored,
    /// Samba stops here and fails.
    Fatal,
}

/// A parameter line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// Line in the file, from 1.
    pub line: usize,
    /// The name as written, blanks folded.
    pub name: String,
    /// The value as Samba gets it: blanks folded, ends trimmed, continuation joined.
    pub value: String,
    /// The name as Samba compares it.
    pub key: Key,
}

/// All parts of one section together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionView {
    /// The name as first written; `global` for `[global]`, `[globals]` and what stands before the first header.
    pub name: String,
    /// The lines of its headers; empty if there is only text before the first header.
    pub header_lines: Vec<usize>,
    /// Its parameters in order; a later one overrides an earlier one with the same key.
    pub params: Vec<Param>,
}

impl SectionView {
    /// Whether this is `[global]`.
    pub fn is_global(&self) -> bool {
        is_global(&self.name)
    }

    /// The value in force within this section: the last one, turned round for inverted names (`writeable = yes` is `No` for
    /// `read only`). Defaults from `[global]` are not looked at.
    pub fn get(&self, param: &str) -> Option<Cow<'_, str>> {
        let wanted = key(param);
        let found = self.params.iter().rev().find(|p| p.key.name == wanted.name)?;
        // A share's second header makes Samba forget the parametric options it has read for it.
        let forgotten = !self.is_global() && is_parametric(param) && self.header_lines.last().is_some_and(|h| found.line < *h);
        if forgotten {
            return None;
        }
        Some(polarity(&found.value, found.key.inverted != wanted.inverted))
    }
}

fn polarity(value: &str, turn: bool) -> Cow<'_, str> {
    match (turn, bool_value(value)) {
        (true, Some(true)) => Cow::Borrowed("No"),
        (true, Some(false)) => Cow::Borrowed("Yes"),
        _ => Cow::Borrowed(value),
    }
}

/// What an `include`-like parameter pulls in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IncludeKind {
    /// `include = FILE`: read in place; a missing file is skipped without a word.
    File,
    /// `include = registry`.
    Registry,
    /// `config file = FILE`: replaces the whole configuration.
    ConfigFile,
    /// `copy = SECTION`.
    Copy,
}

/// One `include`-like line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Include {
    /// Line in the file, from 1.
    pub line: usize,
    /// The section it stands in.
    pub section: String,
    /// What follows the `=`.
    pub value: String,
    /// What kind of line it is.
    pub kind: IncludeKind,
    /// Whether the value has a `%`, so that the file depends on the client or the host.
    pub has_macro: bool,
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FindingKind {
    /// `[name` without `]`: Samba refuses the whole file.
    OpenHeader,
    /// `[]`: Samba refuses the whole file.
    EmptySection,
    /// `= value`: Samba refuses the whole file at the start of a line, and drops the line after a continuation.
    EmptyName,
    /// No `=`: Samba drops the line without a word.
    NoEquals,
    /// Text after `]`, also a continued line: Samba drops it without a word.
    AfterHeader,
    /// A NUL byte: Samba cuts the line there.
    Nul,
    /// A backslash at the end of the last line: whatever is appended becomes a part of that line.
    OpenEnd,
    /// A name that Samba (as far as we know) has not; it warns and drops the line.
    Unknown,
    /// A parameter of `[global]` in another section; Samba warns and drops the line.
    Misplaced,
    /// No boolean, octal number or size where one must be: Samba refuses the whole file. (Words of a fixed set are left to
    /// testparm: newer versions know more of them.)
    BadValue,
}

/// A problem of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Line, from 1.
    pub line: usize,
    /// What it is.
    pub kind: FindingKind,
    /// Whether Samba refuses the whole file because of it.
    pub fatal: bool,
    /// One sentence for the administrator.
    pub text: String,
}

/// Whether a section name means `[global]` (as for Samba: `globals` too, blanks anywhere and case do not count).
pub fn is_global(name: &str) -> bool {
    same_word(name, "global") || same_word(name, "globals")
}

/// The form by which section names are compared.
pub fn section_key(name: &str) -> String {
    if is_global(name) { "global".to_owned() } else { name.to_lowercase() }
}

/// One logical line out of the raw text: its end, its joined content, and whether the text ended inside a continuation.
struct Logical {
    end: usize,
    content: Vec<u8>,
    open_end: bool,
}

fn is_space_byte(b: u8) -> bool {
    is_space(b as char)
}

/// Reads from `at` (the first byte that is not blank) to the end of the logical line.
fn logical_line(text: &[u8], at: usize) -> Logical {
    let mut content: Vec<u8> = Vec::new();
    let mut pos = at;
    while pos < text.len() {
        let c = text[pos];
        pos += 1;
        let last = content.last().copied();
        if c == b'\n' {
            let n = content.len();
            if last == Some(b'\\') {
                content.truncate(n - 1);
                if pos == text.len() {
                    return Logical { end: pos, content, open_end: true };
                }
                continue;
            }
            if n > 1 && content[n - 2] == b'\\' && last.is_some_and(is_space_byte) {
                content.truncate(n - 2);
                if pos == text.len() {
                    return Logical { end: pos, content, open_end: true };
                }
                continue;
            }
            return Logical { end: pos, content, open_end: false };
        }
        if is_space_byte(c) && last.is_some_and(is_space_byte) {
            continue;
        }
        content.push(c);
    }
    let n = content.len();
    let open_end = content.last() == Some(&b'\\') || (n > 1 && content[n - 2] == b'\\' && is_space_byte(content[n - 1]));
    Logical { end: pos, content, open_end }
}

fn trim_one(text: &str) -> &str {
    let text = text.strip_prefix(is_space).unwrap_or(text);
    text.strip_suffix(is_space).unwrap_or(text)
}

impl SmbConf {
    /// Reads any text. Never fails: [`SmbConf::findings`] lists what is wrong. After a line at which Samba would stop, reading
    /// goes on all the same.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::read(text);
        conf.collect();
        conf
    }

    /// The lines, without what takes to know the section.
    fn read(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut conf = Self { items: Vec::new(), sections: Vec::new(), findings: Vec::new(), open_end: false };
        let mut at = 0;
        let mut line = 1;
        while at < bytes.len() {
            let mut first = at;
            while first < bytes.len() && bytes[first] != b'\n' && is_space_byte(bytes[first]) {
                first += 1;
            }
            let (end, kind) = match bytes.get(first) {
                None => (first, ItemKind::Blank),
                Some(b'\n') => (first + 1, ItemKind::Blank),
                Some(b'#' | b';') => {
                    let end = bytes[first..].iter().position(|b| *b == b'\n').map_or(bytes.len(), |n| first + n + 1);
                    (end, ItemKind::Comment)
                }
                Some(_) => {
                    let logical = logical_line(bytes, first);
                    let mut content = String::from_utf8_lossy(&logical.content).into_owned();
                    if let Some(nul) = content.find('\0') {
                        conf.finding(line, FindingKind::Nul, false, "a NUL byte: Samba cuts the line there".to_owned());
                        content.truncate(nul);
                    }
                    if logical.open_end {
                        conf.open_end = true;
                        let text = "a backslash ends the last line: whatever is appended to the file becomes a part of it";
                        conf.finding(line, FindingKind::OpenEnd, false, text.to_owned());
                    }
                    (logical.end, conf.line_kind(line, &content))
                }
            };
            let raw = text[at..end].to_owned();
            let lines = raw.matches('\n').count();
            conf.items.push(Item { raw, line, kind });
            line += lines;
            at = end;
        }
        conf
    }

    fn finding(&mut self, line: usize, kind: FindingKind, fatal: bool, text: String) {
        self.findings.push(Finding { line, kind, fatal, text });
    }

    fn line_kind(&mut self, line: usize, content: &str) -> ItemKind {
        if content.is_empty() {
            return ItemKind::Ignored;
        }
        if let Some(rest) = content.strip_prefix('[') {
            let Some((name, after)) = rest.split_once(']') else {
                let text = format!("section header {} has no ']': Samba refuses the file", show(content));
                self.finding(line, FindingKind::OpenHeader, true, text);
                return ItemKind::Fatal;
            };
            if name.is_empty() {
                self.finding(
                    line,
                    FindingKind::EmptySection,
                    true,
                    "a section without a name: Samba refuses the file".to_owned(),
                );
            }
            if !trim_one(after).is_empty() {
                let text = format!("{} after the section header is dropped by Samba", show(trim_one(after)));
                self.finding(line, FindingKind::AfterHeader, false, text);
            }
            return ItemKind::Header(name.to_owned());
        }
        let Some((name, value)) = content.split_once('=') else {
            let text = format!("{} has no '=': Samba drops the line without a word", show(trim_one(content)));
            self.finding(line, FindingKind::NoEquals, false, text);
            return ItemKind::Ignored;
        };
        if name.is_empty() {
            let text = "a line starts with '=': Samba refuses the file".to_owned();
            self.finding(line, FindingKind::EmptyName, true, text);
            return ItemKind::Fatal;
        }
        let (name, value) = (trim_one(name), trim_one(value));
        if name.is_empty() {
            self.finding(line, FindingKind::EmptyName, false, "a value without a name: Samba drops the line".to_owned());
            return ItemKind::Ignored;
        }
        ItemKind::Param { name: name.to_owned(), value: value.to_owned() }
    }

    /// Fills the merged view of the sections and finds what needs to know the section.
    fn collect(&mut self) {
        let mut sections: Vec<SectionView> = Vec::new();
        let mut index = std::collections::HashMap::new();
        let mut current: Option<usize> = None;
        let mut found = Vec::new();
        // The same few names stand in hundreds of sections.
        let mut known = std::collections::HashMap::new();
        for item in &self.items {
            match &item.kind {
                ItemKind::Header(name) => {
                    let at = *index.entry(section_key(name)).or_insert_with(|| {
                        let name = if is_global(name) { "global".to_owned() } else { name.clone() };
                        sections.push(SectionView { name, header_lines: Vec::new(), params: Vec::new() });
                        sections.len() - 1
                    });
                    sections[at].header_lines.push(item.line);
                    current = Some(at);
                }
                ItemKind::Param { name, value } => {
                    let at = *current.get_or_insert_with(|| {
                        *index.entry("global".to_owned()).or_insert_with(|| {
                            sections.push(SectionView {
                                name: "global".to_owned(),
                                header_lines: Vec::new(),
                                params: Vec::new(),
                            });
                            sections.len() - 1
                        })
                    });
                    let section = &mut sections[at];
                    let (key, means) = known.entry(name.as_str()).or_insert_with(|| (key(name), lookup(name)));
                    let (key, line) = (key.clone(), item.line);
                    match *means {
                        None if is_unknown(name) => {
                            let text = format!("{} is no parameter that Samba knows: it drops the line", show(name));
                            found.push(Finding { line, kind: FindingKind::Unknown, fatal: false, text });
                        }
                        Some((Class::Global, _)) if !section.is_global() => {
                            let text =
                                format!("{} belongs to [global]: Samba drops the line in {}", show(name), show(&section.name));
                            found.push(Finding { line, kind: FindingKind::Misplaced, fatal: false, text });
                        }
                        Some((_, kind)) if !fits(kind, value) => {
                            let text = format!("{} is no value for {}: Samba refuses the file", show(value), show(name));
                            found.push(Finding { line, kind: FindingKind::BadValue, fatal: true, text });
                        }
                        _ => {}
                    }
                    section.params.push(Param { line, name: name.clone(), value: value.clone(), key });
                }
                _ => {}
            }
        }
        self.sections = sections;
        self.findings.extend(found);
        self.findings.sort_by_key(|f| f.line);
    }

    /// What is wrong with the text, by line.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The first problem because of which Samba would refuse the whole file.
    pub fn fatal(&self) -> Option<&Finding> {
        self.findings.iter().find(|f| f.fatal)
    }

    /// The sections in the order of their first appearance; repeated ones are merged.
    pub fn sections(&self) -> &[SectionView] {
        &self.sections
    }

    /// One section, compared as Samba does.
    pub fn section(&self, name: &str) -> Option<&SectionView> {
        let wanted = section_key(name);
        self.sections.iter().find(|s| section_key(&s.name) == wanted)
    }

    /// The value in force within a section of this text alone (no includes, no defaults); see [`SectionView::get`].
    pub fn get(&self, section: &str, param: &str) -> Option<Cow<'_, str>> {
        self.section(section)?.get(param)
    }

    /// The VFS modules of a section, without their `:parameter`; those of `[global]` if it names none.
    pub fn vfs_modules(&self, section: &str) -> Vec<String> {
        let value = self.get(section, "vfs objects").or_else(|| self.get("global", "vfs objects"));
        parse_list(&value.unwrap_or_default())
            .into_iter()
            .map(|m| m.split(':').next().unwrap_or_default().to_owned())
            .filter(|m| !m.is_empty())
            .collect()
    }

    /// Every line that pulls in something else, in order.
    pub fn includes(&self) -> Vec<Include> {
        let mut out = Vec::new();
        for section in &self.sections {
            for p in &section.params {
                let kind = match &*p.key.name {
                    "include" if same_word(&p.value, "registry") => IncludeKind::Registry,
                    "include" => IncludeKind::File,
                    "config file" => IncludeKind::ConfigFile,
                    "copy" => IncludeKind::Copy,
                    _ => continue,
                };
                // Quotes are no quotes here: Samba takes them as a part of the file name.
                let value = p.value.clone();
                let has_macro = value.contains('%');
                out.push(Include { line: p.line, section: section.name.clone(), value, kind, has_macro });
            }
        }
        out.sort_by_key(|i| i.line);
        out
    }

    /// The sections as they stand, one per header, repeated ones not merged: what [`print()`] was given. Parameters before the
    /// first header are not among them.
    pub fn blocks(&self) -> Vec<Section> {
        let mut out: Vec<Section> = Vec::new();
        for item in &self.items {
            match (&item.kind, out.last_mut()) {
                (ItemKind::Header(name), _) => out.push(Section { name: name.clone(), params: Vec::new() }),
                (ItemKind::Param { name, value }, Some(s)) => s.params.push((name.clone(), value.clone())),
                _ => {}
            }
        }
        out
    }
}

impl fmt::Display for SmbConf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.items.iter().try_for_each(|i| f.write_str(&i.raw))
    }
}

/// A section to be printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Section {
    /// The name between the brackets.
    pub name: String,
    /// Names and values, in order.
    pub params: Vec<(String, String)>,
}

impl Section {
    /// An empty section.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), params: Vec::new() }
    }

    /// Adds a parameter.
    pub fn set(&mut self, param: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.params.push((param.into(), value.into()));
        self
    }
}

/// Why a text cannot stand in a line; `None` if nothing general is wrong with it.
fn unfit(text: &str) -> Option<&'static str> {
    if text.contains(['\n', '\r']) {
        Some("it has a line end")
    } else if text.contains('\0') {
        Some("it has a NUL byte")
    } else if text.starts_with(is_space) || text.ends_with(is_space) {
        Some("it starts or ends with a blank, which Samba removes")
    } else if text.as_bytes().windows(2).any(|w| is_space_byte(w[0]) && is_space_byte(w[1])) {
        Some("it has several blanks in a row, which Samba folds to one")
    } else {
        None
    }
}

/// Prints sections so that Samba reads exactly these names and values; a `%` is the caller's business (Samba expands it).
///
/// Refused: line ends, NUL, blanks at an end or several in a row (folded even inside quotes), a backslash at the end
/// (continues the line), `]` in a section name, `=` in a parameter name, a parameter name that starts like a comment or a
/// header, text values with quotes around them (Samba removes them; lists are printed by [`print_list`]), and values that
/// are no boolean where Samba needs one.
pub fn print(sections: &[Section]) -> Result<String, FormatError> {
    let mut out = String::new();
    for section in sections {
        let what = || format!("section name {}", show(&section.name));
        if let Some(why) = unfit(&section.name) {
            return Err(FormatError::unprintable(what(), why));
        }
        if section.name.is_empty() || section.name.contains(']') {
            return Err(FormatError::unprintable(what(), "it is empty or has a ']'"));
        }
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&format!("[{}]\n", section.name));
        for (name, value) in &section.params {
            out.push_str(&print_param(&section.name, name, value)?);
        }
    }
    Ok(out)
}

fn print_param(section: &str, name: &str, value: &str) -> Result<String, FormatError> {
    let name_error = |why| Err(FormatError::unprintable(format!("parameter name {} in {}", show(name), show(section)), why));
    let value_error = |why| Err(FormatError::unprintable(format!("value of {} in {}", show(name), show(section)), why));
    if let Some(why) = unfit(name) {
        return name_error(why);
    }
    if name.is_empty() || name.contains('=') || name.starts_with(['#', ';', '[']) {
        return name_error("it is empty, has a '=', or starts with '#', ';' or '['");
    }
    if let Some(why) = unfit(value) {
        return value_error(why);
    }
    if value.ends_with('\\') {
        return value_error("it ends in a backslash, which continues the line");
    }
    match lookup(name) {
        Some((_, kind)) if !fits(kind, value) => return value_error("it is no value of the kind Samba needs there"),
        Some((_, Type::Text | Type::Upper)) | None if text_value(value) != value => {
            return value_error("it has quotes around it, which Samba removes");
        }
        _ => {}
    }
    let line = if value.is_empty() { format!("\t{name} =\n") } else { format!("\t{name} = {value}\n") };
    // The reader has the last word.
    let read = SmbConf::read(&line);
    match &read.items[..] {
        [Item { kind: ItemKind::Param { name: n, value: v }, .. }] if n == name && v == value && !read.open_end => Ok(line),
        _ => value_error("Samba would read something else"),
    }
}

/// Prints a list value: names separated by a comma and a blank, in quotes where a separator is part of the name.
pub fn print_list<S: AsRef<str>>(names: &[S]) -> Result<String, FormatError> {
    let mut out = String::new();
    for name in names {
        let name = name.as_ref();
        let what = || format!("name {} in a list", show(name));
        if let Some(why) = unfit(name) {
            return Err(FormatError::unprintable(what(), why));
        }
        if name.is_empty() || name.contains('"') {
            return Err(FormatError::unprintable(what(), "it is empty or has a quote"));
        }
        if !out.is_empty() {
            out.push_str(", ");
        }
        if name.contains([' ', '\t', ',', ';']) {
            out.push_str(&format!("\"{name}\""));
        } else {
            out.push_str(name);
        }
    }
    Ok(out)
}

/// What is there of our managed include.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IncludeState {
    /// Neither the marker nor the include.
    Absent,
    /// Both lines are there, one after the other.
    Present {
        /// Line of the marker, from 1.
        line: usize,
        /// Whether they stand in `[global]`.
        in_global: bool,
        /// Whether no parameter of `[global]` and no further `[global]` header follows, so that what we include has the last word.
        last_global: bool,
    },
    /// Something else; the text says what.
    Damaged(String),
}

/// The items of our include: index of the marker; the include is the next one.
fn locate(conf: &SmbConf, marker: &str, path: &str) -> Result<Option<usize>, String> {
    let is_include = |item: &Item| match &item.kind {
        ItemKind::Param { name, value } => key(name).name == "include" && value == path,
        _ => false,
    };
    let positions = |test: &dyn Fn(&Item) -> bool| -> Vec<usize> {
        conf.items.iter().enumerate().filter(|(_, i)| test(i)).map(|(n, _)| n).collect()
    };
    let markers = positions(&|i| i.kind == ItemKind::Comment && i.raw.trim_matches(is_space) == marker);
    let includes = positions(&is_include);
    let line = |n: usize| conf.items[n].line;
    match (&markers[..], &includes[..]) {
        ([], []) => Ok(None),
        ([m], [i]) if m + 1 == *i => Ok(Some(*m)),
        ([], [i, ..]) => Err(format!("line {} includes {} without our marker line above it", line(*i), show(path))),
        ([m], []) => Err(format!("the marker on line {} is not followed by the include of {}", line(*m), show(path))),
        ([m], [i]) => Err(format!("the marker on line {} and the include on line {} are apart", line(*m), line(*i))),
        ([_, m, ..], _) => Err(format!("the marker stands a second time on line {}", line(*m))),
        ([_], [_, i, ..]) => Err(format!("line {} includes {} a second time", line(*i), show(path))),
    }
}

/// Index of the item after which a line is the last of the last `[global]`; `None` means the top of the file.
fn last_global_item(conf: &SmbConf) -> Option<usize> {
    let header = conf.items.iter().rposition(|i| matches!(&i.kind, ItemKind::Header(n) if is_global(n)));
    let start = header.map_or(0, |h| h + 1);
    let mut last = header;
    for (n, item) in conf.items.iter().enumerate().skip(start) {
        match item.kind {
            ItemKind::Header(_) => break,
            ItemKind::Param { .. } => last = Some(n),
            _ => {}
        }
    }
    last
}

/// Looks for our two lines: `marker` (a whole comment line) and the include of `path` under it.
pub fn find_include(text: &str, marker: &str, path: &str) -> IncludeState {
    let conf = SmbConf::parse(text);
    match locate(&conf, marker, path) {
        Ok(None) => IncludeState::Absent,
        Err(why) => IncludeState::Damaged(why),
        Ok(Some(at)) => {
            let in_global = conf.items[..at]
                .iter()
                .rev()
                .find_map(|i| if let ItemKind::Header(n) = &i.kind { Some(is_global(n)) } else { None })
                .unwrap_or(true);
            let last_global = in_global && last_global_item(&conf) == Some(at + 1);
            IncludeState::Present { line: conf.items[at].line, in_global, last_global }
        }
    }
}

/// Adds our two lines as the last of the last `[global]` section: after its last parameter, or after its header if it has
/// none; without any `[global]` after the last parameter before the first header, or at the top. What stands elsewhere keeps
/// its bytes and its meaning; [`remove_include`] restores the bytes.
///
/// The text comes back unchanged if the lines are there and in place. Errors: the lines are there but damaged or elsewhere
/// (remove them first); Samba would refuse the file as it is; the line we would follow is continued into nothing; `marker`
/// is no comment line or `path` cannot be written.
pub fn add_include(text: &str, marker: &str, path: &str) -> Result<String, FormatError> {
    if !marker.starts_with(['#', ';']) || marker.contains(['\n', '\r', '\0']) || marker.trim_matches(is_space) != marker {
        return Err(FormatError::unprintable(format!("marker {}", show(marker)), "it is no single comment line"));
    }
    print_param("global", "include", path)?;
    match find_include(text, marker, path) {
        IncludeState::Absent => {}
        IncludeState::Present { last_global: true, .. } => return Ok(text.to_owned()),
        IncludeState::Present { line, .. } => {
            let why = format!("it stands on line {line}, which is not the end of the last [global] section");
            return Err(FormatError::Damaged(why));
        }
        IncludeState::Damaged(why) => return Err(FormatError::Damaged(why)),
    }
    let conf = SmbConf::parse(text);
    if let Some(f) = conf.fatal() {
        return Err(FormatError::Unreadable { format: "smb.conf", line: f.line, why: f.text.clone() });
    }
    let newline = match text.find('\n') {
        Some(at) if text[..at].ends_with('\r') => "\r\n",
        _ => "\n",
    };
    let block = format!("{marker}{newline}   include = {path}");
    let Some(anchor) = last_global_item(&conf) else {
        return Ok(format!("{block}{newline}{text}"));
    };
    if conf.open_end && anchor + 1 == conf.items.len() {
        let why = "it ends in a backslash with no line after it; remove the backslash".to_owned();
        return Err(FormatError::Unreadable { format: "smb.conf", line: conf.items[anchor].line, why });
    }
    let mut out = String::with_capacity(text.len() + block.len() + 4);
    for (n, item) in conf.items.iter().enumerate() {
        out.push_str(&item.raw);
        if n == anchor {
            // A file without final line end stays one, so that removal knows whose line end it was.
            if item.raw.ends_with('\n') {
                out.push_str(&block);
                out.push_str(newline);
            } else {
                out.push_str(newline);
                out.push_str(&block);
            }
        }
    }
    Ok(out)
}

/// Takes our two lines out again, wherever they stand; `None` if they are not there. Works on files that Samba refuses, too.
pub fn remove_include(text: &str, marker: &str, path: &str) -> Result<Option<String>, FormatError> {
    let conf = SmbConf::parse(text);
    let Some(at) = locate(&conf, marker, path).map_err(FormatError::Damaged)? else {
        return Ok(None);
    };
    let mut out: String = conf.items[..at].iter().map(|i| &*i.raw).collect();
    if !conf.items[at + 1].raw.ends_with('\n') {
        // The file had no final line end when we came: the one before the marker is ours, and of the marker's kind.
        let newline = if conf.items[at].raw.ends_with("\r\n") { "\r\n" } else { "\n" };
        if let Some(stripped) = out.strip_suffix(newline) {
            out.truncate(stripped.len());
        }
    }
    conf.items[at + 2..].iter().for_each(|i| out.push_str(&i.raw));
    Ok(Some(out))
}

/// The outcome of loading a file with its includes, as Samba does it: what each share ends up with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effective {
    /// Parameters of `[global]` by canonical name.
    pub global: Values,
    /// Shares in the order in which Samba meets them.
    pub shares: Vec<EffectiveShare>,
    /// Values of `include` (as written), in order, that the resolver had nothing for, or that go too deep.
    pub missing: Vec<String>,
}

/// Values by canonical parameter name, booleans of inverted names turned round.
pub type Values = std::collections::BTreeMap<String, String>;

/// One share of [`Effective`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveShare {
    /// The name as first written.
    pub name: String,
    /// What its own lines say.
    pub own: Values,
    /// The defaults `[global]` had given when the share was first met (later lines of `[global]` do not reach it), and its
    /// parametric options.
    pub defaults: Values,
}

impl EffectiveShare {
    /// The value in force: own, else the default from `[global]`; `None` means Samba's built-in default.
    pub fn get(&self, param: &str) -> Option<Cow<'_, str>> {
        let wanted = key(param);
        let value = self.own.get(&*wanted.name).or_else(|| self.defaults.get(&*wanted.name))?;
        Some(polarity(value, wanted.inverted))
    }
}

/// Where a load is: the share whose lines are read (`None` in `[global]`), and the shares by their folded name.
#[derive(Default)]
struct Position {
    share: Option<usize>,
    index: std::collections::HashMap<String, usize>,
}

impl Effective {
    /// Loads `text`; `include` gives the text of an included file by its value as written, or `None` if there is none.
    ///
    /// Not modelled: macros, `config file`, `include = registry`, `copy`, `+`/`-` in lists, and settings that imply others.
    pub fn load(text: &str, include: &mut dyn FnMut(&str) -> Option<String>) -> Self {
        let mut out = Self::default();
        out.run(text, &mut Position::default(), include, 0);
        for (name, value) in out.global.iter().filter(|(n, _)| is_parametric(n)) {
            for share in &mut out.shares {
                share.defaults.insert(name.clone(), value.clone());
            }
        }
        out
    }

    /// One share, compared as Samba does.
    pub fn share(&self, name: &str) -> Option<&EffectiveShare> {
        let wanted = section_key(name);
        self.shares.iter().find(|s| section_key(&s.name) == wanted)
    }

    fn run(&mut self, text: &str, position: &mut Position, include: &mut dyn FnMut(&str) -> Option<String>, depth: usize) {
        for item in SmbConf::parse(text).items {
            match item.kind {
                ItemKind::Fatal => return,
                ItemKind::Header(name) if is_global(&name) => position.share = None,
                ItemKind::Header(name) => {
                    let at = *position.index.entry(section_key(&name)).or_insert_with(|| {
                        let shared = |name: &str| matches!(lookup(name), Some((Class::Share, _)));
                        let defaults = self.global.iter().filter(|(n, _)| shared(n)).map(|(n, v)| (n.clone(), v.clone()));
                        let defaults = defaults.collect();
                        self.shares.push(EffectiveShare { name, own: Values::new(), defaults });
                        self.shares.len() - 1
                    });
                    self.shares[at].own.retain(|n, _| !is_parametric(n));
                    position.share = Some(at);
                }
                ItemKind::Param { name, value } => {
                    let key = key(&name);
                    if key.name == "include" {
                        match if depth < MAX_INCLUDE_DEPTH { include(&value) } else { None } {
                            Some(text) => self.run(&text, position, include, depth + 1),
                            None => self.missing.push(value),
                        }
                        continue;
                    }
                    let value = polarity(&value, key.inverted).into_owned();
                    match position.share {
                        _ if is_unknown(&name) => {}
                        None => {
                            self.global.insert(key.name.into_owned(), value);
                        }
                        Some(_) if matches!(lookup(&name), Some((Class::Global, _))) => {}
                        Some(at) => {
                            self.shares[at].own.insert(key.name.into_owned(), value);
                        }
                    }
                }
                ItemKind::Blank | ItemKind::Comment | ItemKind::Ignored => {}
            }
        }
    }
}

#[cfg(test)]
#[path = "smb_conf_tests.rs"]
mod tests;
