// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a context's events go: a small `tracing` subscriber of its own, made per context and installed per call, never globally.
//! It knows the journal's and syslog's datagrams; it must not know what the events mean.
//!
//! Nothing is kept open: each event opens, sends without waiting, and closes. So nothing crosses a fork, a restarted journald is
//! no problem, and a log that does not answer costs a call nothing but the event.

// A log is not an act on the machine that a plan, a journal or the simulated host could know about: it goes past Host, and must go on when
// Host fails.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use smbgw_core::error::{Error, Problem, Result};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber, span};

/// The name the administrator searches for.
const TAG: &str = "pve-smbgw";
/// The journal's native socket.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// The socket of syslog(3).
const SYSLOG: &str = "/dev/log";
/// Facility `daemon`.
const FACILITY: u8 = 3;
/// One event; longer ones are cut. Below every datagram limit that is met in practice.
const LONGEST: usize = 32 * 1024;
/// What a buffer keeps at most.
const KEPT: usize = 256 * 1024;

/// A context's log. Clones share the buffer.
#[derive(Clone)]
pub(crate) struct Log {
    dispatch: Dispatch,
    buffer: Option<Arc<Mutex<String>>>,
}

impl Log {
    /// From the value of the option `log`.
    pub(crate) fn new(option: Option<Value>) -> Result<Self> {
        let (sink, level) = parse(option)?;
        let buffer = match &sink {
            Sink::Buffer(text) => Some(Arc::clone(text)),
            _ => None,
        };
        let dispatch = match sink {
            Sink::None => Dispatch::none(),
            sink => Dispatch::new(Writer { sink, level, spans: Mutex::default() }),
        };
        Ok(Self { dispatch, buffer })
    }

    /// For the calls of this context.
    pub(crate) fn dispatch(&self) -> &Dispatch {
        &self.dispatch
    }

    /// What the buffer holds, or None if the log goes elsewhere.
    pub(crate) fn take(&self) -> Option<String> {
        let buffer = self.buffer.as_ref()?;
        Some(std::mem::take(&mut *buffer.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

enum Sink {
    /// The journal, else syslog, looked for at each event: it may start later than we do.
    Auto,
    Journald(PathBuf),
    Syslog(PathBuf),
    File(PathBuf),
    Buffer(Arc<Mutex<String>>),
    None,
}

fn parse(option: Option<Value>) -> Result<(Sink, LevelFilter)> {
    let mut option = match option {
        None | Some(Value::Null) => return Ok((Sink::Auto, LevelFilter::INFO)),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(wrong(vec![Problem::new("log", "has to be an object with to, path and level")])),
    };
    let mut problems = Vec::new();
    let mut text = |key: &str| match option.remove(key) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text),
        Some(_) => {
            problems.push(Problem::new(format!("log.{key}"), "has to be text"));
            None
        }
    };
    let (to, path, level) = (text("to"), text("path").map(PathBuf::from), text("level"));
    if path.as_ref().is_some_and(|p| !p.is_absolute()) {
        problems.push(Problem::new("log.path", "has to be an absolute path"));
    }
    let level = match level.as_deref().unwrap_or("info") {
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        other => {
            problems.push(Problem::new("log.level", format!("{other:?} is none of error, warn, info, debug, trace")));
            LevelFilter::OFF
        }
    };
    let sink = match (to.as_deref().unwrap_or("auto"), path) {
        ("auto", None) => Sink::Auto,
        ("journald", path) => Sink::Journald(path.unwrap_or_else(|| JOURNAL.into())),
        ("syslog", path) => Sink::Syslog(path.unwrap_or_else(|| SYSLOG.into())),
        ("file", Some(path)) => Sink::File(path),
        ("buffer", None) => Sink::Buffer(Arc::default()),
        ("none", None) => Sink::None,
        ("file", None) => {
            problems.push(Problem::new("log.path", "is missing: a log to a file needs one"));
            Sink::None
        }
        ("auto" | "buffer" | "none", Some(_)) => {
            problems.push(Problem::new("log.path", "means nothing for this kind of log"));
            Sink::None
        }
        (other, _) => {
            let message = format!("{other:?} is none of auto, journald, syslog, file, buffer, none");
            problems.push(Problem::new("log.to", message));
            Sink::None
        }
    };
    problems.extend(option.keys().map(|key| Problem::new(format!("log.{key}"), "is not known")));
    if problems.is_empty() { Ok((sink, level)) } else { Err(wrong(problems)) }
}

fn wrong(problems: Vec<Problem>) -> Error {
    Error::invalid("the option log", problems)
}

/// The subscriber.
struct Writer {
    sink: Sink,
    level: LevelFilter,
    spans: Mutex<Spans>,
}

/// The spans that are open in the calls of this context. A context is used by one thread at a time, so one stack is enough.
#[derive(Default)]
struct Spans {
    last: u64,
    open: BTreeMap<u64, (Fields, usize)>,
    entered: Vec<u64>,
}

/// Message and named values of an event or a span.
#[derive(Default, Clone)]
struct Fields {
    message: String,
    named: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, smbgw_core::error::chain(value));
    }
}

impl Fields {
    fn put(&mut self, field: &Field, value: String) {
        if field.name() == "message" { self.message = value } else { self.named.push((field.name(), value)) }
    }

    /// Message and values in one line, without anything that could start another.
    fn line(&self) -> String {
        let mut line = one_line(&self.message);
        for (name, value) in &self.named {
            let value = one_line(value);
            let quote = value.is_empty() || value.contains([' ', '"', '=']);
            let sep = if line.is_empty() { "" } else { " " };
            // Writing to a String does not fail.
            let _ = if quote { write!(line, "{sep}{name}={value:?}") } else { write!(line, "{sep}{name}={value}") };
        }
        line
    }
}

fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

impl Subscriber for Writer {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        self.with_spans(|spans| {
            spans.last = spans.last.wrapping_add(1).max(1);
            spans.open.insert(spans.last, (fields, 1));
            span::Id::from_u64(spans.last)
        })
    }

    fn record(&self, id: &span::Id, values: &span::Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        self.with_spans(|spans| {
            if let Some((known, _)) = spans.open.get_mut(&id.into_u64()) {
                known.named.extend(fields.named);
            }
        });
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, id: &span::Id) {
        self.with_spans(|spans| spans.entered.push(id.into_u64()));
    }

    fn exit(&self, id: &span::Id) {
        self.with_spans(|spans| {
            if let Some(at) = spans.entered.iter().rposition(|entered| *entered == id.into_u64()) {
                spans.entered.remove(at);
            }
        });
    }

    fn clone_span(&self, id: &span::Id) -> span::Id {
        self.with_spans(|spans| {
            if let Some((_, uses)) = spans.open.get_mut(&id.into_u64()) {
                *uses = uses.saturating_add(1);
            }
        });
        id.clone()
    }

    fn try_close(&self, id: span::Id) -> bool {
        self.with_spans(|spans| {
            let Some((_, uses)) = spans.open.get_mut(&id.into_u64()) else { return false };
            *uses = uses.saturating_sub(1);
            let last = *uses == 0;
            if last {
                spans.open.remove(&id.into_u64());
            }
            last
        })
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.with_spans(|spans| {
            for (around, _) in spans.entered.iter().rev().filter_map(|id| spans.open.get(id)) {
                for (name, value) in &around.named {
                    if !fields.named.iter().any(|(known, _)| known == name) {
                        fields.named.push((name, value.clone()));
                    }
                }
            }
        });
        self.write(*event.metadata().level(), &fields);
    }
}

impl Writer {
    fn with_spans<T>(&self, edit: impl FnOnce(&mut Spans) -> T) -> T {
        edit(&mut self.spans.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Best effort, by design: there is nobody to tell when the log itself fails.
    fn write(&self, level: Level, fields: &Fields) {
        match &self.sink {
            Sink::None => {}
            Sink::Auto if Path::new(JOURNAL).exists() => send(Path::new(JOURNAL), &journal_datagram(level, fields)),
            Sink::Auto => send(Path::new(SYSLOG), &syslog_datagram(level, fields)),
            Sink::Journald(path) => send(path, &journal_datagram(level, fields)),
            Sink::Syslog(path) => send(path, &syslog_datagram(level, fields)),
            Sink::File(path) => append(path, level, fields),
            Sink::Buffer(kept) => {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = writeln!(kept, "{} {}", level_word(level), cut(&fields.line()));
                while kept.len() > KEPT {
                    let first = kept.find('\n').map_or(kept.len(), |at| at.saturating_add(1));
                    kept.drain(..first);
                }
            }
        }
    }
}

fn send(to: &Path, datagram: &[u8]) {
    if let Ok(socket) = UnixDatagram::unbound() {
        if socket.set_nonblocking(true).is_ok() {
            let _ = socket.send_to(datagram, to);
        }
    }
}

fn append(path: &Path, level: Level, fields: &Fields) {
    let file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    if let Ok(mut file) = file {
        let line =
            format!("{} {TAG}[{}] {} {}\n", utc(SystemTime::now()), std::process::id(), level_word(level), cut(&fields.line()));
        // One write, so that lines of several processes do not mix.
        let _ = file.write_all(line.as_bytes());
    }
}

/// The journal's native protocol: `NAME=value` lines; a value with a line break goes as name, length (64 bit, little
/// endian), value.
fn journal_datagram(level: Level, fields: &Fields) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |name: &str, value: &str| {
        if value.contains('\n') {
            out.extend_from_slice(name.as_bytes());
            out.push(b'\n');
            out.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            out.extend_from_slice(name.as_bytes());
            out.push(b'=');
        }
        out.extend_from_slice(value.as_bytes());
        out.push(b'\n');
    };
    put("MESSAGE", cut(&fields.line()));
    put("PRIORITY", &severity(level).to_string());
    put("SYSLOG_IDENTIFIER", TAG);
    put("SYSLOG_FACILITY", &FACILITY.to_string());
    put("SYSLOG_PID", &std::process::id().to_string());
    for (name, value) in &fields.named {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
        put(&format!("SMBGW_{name}"), cut(value));
    }
    out
}

fn syslog_datagram(level: Level, fields: &Fields) -> Vec<u8> {
    let priority = FACILITY * 8 + severity(level);
    format!("<{priority}>{TAG}[{}]: {}", std::process::id(), cut(&fields.line())).into_bytes()
}

/// The severity of syslog.
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// At most [`LONGEST`] bytes of it.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

/// RFC 3339 in UTC, without a time zone database.
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, in 400-year eras; the year starts in March so that the leap day is its last.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn log(option: Value) -> Log {
        Log::new(Some(option)).expect("a good option")
    }

    fn say(log: &Log) {
        tracing::dispatcher::with_default(log.dispatch(), || {
            let span = tracing::info_span!("run", op = "share.create", share = "office");
            let _in = span.enter();
            tracing::warn!(step = "samba/include", "line one\nline two");
            tracing::debug!("not shown");
        });
    }

    #[test]
    fn a_buffer_holds_one_line_per_event_with_the_values_of_its_spans() {
        let log = log(json!({"to": "buffer"}));
        say(&log);
        assert_eq!(log.take().as_deref(), Some("warn line one\\nline two step=samba/include op=share.create share=office\n"));
        assert_eq!(log.take().as_deref(), Some(""));
    }

    #[test]
    fn a_buffer_keeps_the_end_and_does_not_grow_for_ever() {
        let log = log(json!({"to": "buffer"}));
        tracing::dispatcher::with_default(log.dispatch(), || {
            for n in 0..40 {
                tracing::info!(n, "{}", "x".repeat(10_000));
            }
        });
        let text = log.take().expect("a buffer");
        assert!(text.len() <= KEPT, "{}", text.len());
        assert!(text.ends_with("n=39\n") && text.starts_with("info xxx"));
    }

    #[test]
    fn journald_gets_a_native_datagram_and_syslog_a_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("socket");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        let receive = || {
            let mut bytes = vec![0_u8; 4096];
            let length = socket.recv(&mut bytes).expect("a datagram");
            bytes.truncate(length);
            String::from_utf8(bytes).expect("text")
        };

        say(&log(json!({"to": "journald", "path": path})));
        let got = receive();
        assert!(got.starts_with("MESSAGE=line one\\nline two step=samba/include"), "{got}");
        for line in ["\nPRIORITY=4\n", "\nSYSLOG_IDENTIFIER=pve-smbgw\n", "\nSMBGW_OP=share.create\n"] {
            assert!(got.contains(line), "{got}");
        }

        say(&log(json!({"to": "syslog", "path": path})));
        let got = receive();
        assert!(got.starts_with(&format!("<28>pve-smbgw[{}]: line one\\nline two ", std::process::id())), "{got}");
    }

    #[test]
    fn a_value_with_a_line_break_goes_to_the_journal_with_its_length() {
        let fields = Fields { message: "m".into(), named: vec![("command", "a\nb".into())] };
        let bytes = journal_datagram(Level::INFO, &fields);
        let tail = b"SMBGW_COMMAND\n\x03\0\0\0\0\0\0\0a\nb\n";
        assert!(bytes.ends_with(tail), "{:?}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn a_full_or_missing_log_costs_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("socket");
        say(&log(json!({"to": "journald", "path": path})));
        let _nobody_reads = UnixDatagram::bind(&path).expect("a socket");
        let full = log(json!({"to": "syslog", "path": path}));
        for _ in 0..2000 {
            say(&full); // more than any queue holds: it has to return
        }
        say(&log(json!({"to": "file", "path": dir.path().join("no/such/directory/log")})));
    }

    #[test]
    fn a_file_is_private_and_a_symlink_is_not_followed() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let (file, link) = (dir.path().join("log"), dir.path().join("link"));
        say(&log(json!({"to": "file", "path": file})));
        say(&log(json!({"to": "file", "path": file})));
        let text = std::fs::read_to_string(&file).expect("written");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("Z pve-smbgw["), "{text}");
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o037, 0);

        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).expect("a link");
        say(&log(json!({"to": "file", "path": link})));
        assert!(!dir.path().join("elsewhere").exists());
    }

    #[test]
    fn all_that_is_wrong_with_the_option_is_said_at_once() {
        let e = Log::new(Some(json!({"to": "printer", "level": "loud", "path": "x", "colour": 1}))).err().expect("refused");
        let named: Vec<_> = e.problems().iter().map(|p| p.property.as_str()).collect();
        assert_eq!(named, ["log.path", "log.level", "log.to", "log.colour"]);
        assert!(Log::new(Some(json!("journald"))).is_err());
        assert!(Log::new(Some(json!({"to": "file"}))).is_err());
    }

    #[test]
    fn dates_are_right() {
        for (seconds, text) in
            [(0, "1970-01-01T00:00:00Z"), (951_827_696, "2000-02-29T12:34:56Z"), (4_102_444_799, "2099-12-31T23:59:59Z")]
        {
            assert_eq!(utc(UNIX_EPOCH + std::time::Duration::from_secs(seconds)), text);
        }
    }
}
