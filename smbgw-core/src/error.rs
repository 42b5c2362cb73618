// SPDX-License-Identifier: MIT OR Apache-2.0
//! The one error type of the crate. It knows what went wrong and what the administrator can do about it; it must not know
//! how errors cross the C boundary or how they are printed by a command.
//!
//! `Display` shows one level only; [`chain`] is the one place that joins the levels.

use std::error::Error as StdError;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Result of everything fallible in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure this is: stable, and what callers decide by. The number is the C code (`SMBGW_E_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(i32)]
pub enum Kind {
    /// The request is wrong: bad value, impossible mix, unknown name. See [`Error::problems`].
    Invalid = 1,
    /// The named share, user, group or operation does not exist.
    NotFound = 2,
    /// It exists already, or something that is not ours is in the way.
    Conflict = 3,
    /// Somebody else holds the lock; the message names the holder.
    Busy = 4,
    /// An earlier operation could not be undone; nothing is changed until `repair`.
    Stuck = 5,
    /// This build or this machine cannot do that.
    Unsupported = 6,
    /// A child process or the whole operation ran out of time.
    Timeout = 7,
    /// A managed thing was changed by somebody else since we wrote it.
    Drift = 8,
    /// A program of the machine said no, or a service does not answer.
    Service = 9,
    /// The operating system said no (I/O, permission, space).
    Io = 10,
    /// One of our own records cannot be read; it was set aside.
    Corrupt = 11,
    /// The run was interrupted and can be resumed.
    Interrupted = 12,
    /// A security setting could not be applied or verified; nothing is served.
    Unsafe = 13,
    /// The handle belongs to another process (used after a fork).
    Forked = 14,
    /// The caller broke the C contract: NULL, bad UTF-8, wrong size.
    Argument = 15,
    /// A bug of ours: a panic was caught, or an invariant does not hold.
    Internal = 16,
}

impl Kind {
    /// One of the four classes an administrator sorts errors by.
    pub fn class(self) -> &'static str {
        match self {
            Kind::Invalid | Kind::NotFound | Kind::Conflict | Kind::Unsupported | Kind::Argument | Kind::Unsafe => {
                "configuration"
            }
            Kind::Busy | Kind::Stuck | Kind::Drift | Kind::Interrupted => "resource",
            Kind::Service | Kind::Timeout => "service",
            Kind::Io | Kind::Corrupt | Kind::Forked | Kind::Internal => "infrastructure",
        }
    }
}

/// One complaint about one property of a section or one parameter of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The property as the administrator writes it, for example `smbgw-access`.
    pub property: String,
    /// What is wrong with it and what would be right.
    pub message: String,
}

impl Problem {
    /// A problem with `property`.
    pub fn new(property: impl Into<String>, message: impl Into<String>) -> Self {
        Self { property: property.into(), message: message.into() }
    }
}

/// The story of a failed step: enough to repeat the command by hand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// Operation, for example `share.create`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub op: Option<String>,
    /// Step id, for example `samba/include`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub step: Option<String>,
    /// The command as printed by [`crate::effect::Cmd`]; it cannot contain a secret.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub command: Option<String>,
    /// Exit status, or `signal N`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit: Option<String>,
    /// The end of the output that explains it (stderr, or stdout where the tool complains there).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stderr: Option<String>,
    /// Why, as a code that does not change, where there is a catalogue of causes (docs/AD.md).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// What was undone, what could not be, and the commands that finish the job.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub undone: Vec<String>,
}

/// The error: a kind, one line that names the object, and whatever helps.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    message: String,
    remedy: Option<String>,
    problems: Vec<Problem>,
    story: Story,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A new error; `message` is lower case, without a full stop, and names the object.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            remedy: None,
            problems: Vec::new(),
            story: Story::default(),
            source: None,
        }))
    }

    /// The request is wrong, property by property. `what` names the section.
    pub fn invalid(what: impl fmt::Display, problems: Vec<Problem>) -> Self {
        let mut e = Self::new(Kind::Invalid, format!("{what} is not valid"));
        e.0.problems = problems;
        e
    }

    /// One wrong property.
    pub fn property(property: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let mut e = Self::new(Kind::Invalid, format!("{property}: {message}"));
        e.0.problems.push(Problem::new(property, message));
        e
    }

    /// An operating system error about `what`.
    pub fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::new(Kind::Io, what).caused_by(source)
    }

    /// Adds what the administrator can do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// Adds per-property complaints.
    #[must_use]
    pub fn with_problems(mut self, problems: Vec<Problem>) -> Self {
        self.0.problems = problems;
        self
    }

    /// Adds the lower level.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Puts a level on top: what we were doing when `self` happened. Kind, remedy, problems and story stay.
    #[must_use]
    pub fn while_doing(mut self, doing: impl Into<String>) -> Self {
        let outer = Inner {
            kind: self.0.kind,
            message: doing.into(),
            remedy: self.0.remedy.take(),
            problems: std::mem::take(&mut self.0.problems),
            story: std::mem::take(&mut self.0.story),
            source: None,
        };
        let mut outer = Self(Box::new(outer));
        outer.0.source = Some(Box::new(self));
        outer
    }

    /// Changes the story in place.
    #[must_use]
    pub fn story(mut self, edit: impl FnOnce(&mut Story)) -> Self {
        edit(&mut self.0.story);
        self
    }

    /// Changes the kind, for the rare layer that knows better.
    #[must_use]
    pub fn as_kind(mut self, kind: Kind) -> Self {
        self.0.kind = kind;
        self
    }

    /// What callers decide by.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Complaints by property; empty unless the request was wrong.
    pub fn problems(&self) -> &[Problem] {
        &self.0.problems
    }

    /// What the administrator can do, if we know.
    pub fn remedy_text(&self) -> Option<&str> {
        self.0.remedy.as_deref()
    }

    /// The story of the failed step.
    pub fn story_ref(&self) -> &Story {
        &self.0.story
    }

    /// The document that crosses the boundary and is kept in the journal: kind, class, code, message, cause, remedy, problems, story.
    pub fn to_doc(&self) -> ErrorDoc {
        ErrorDoc {
            kind: self.0.kind,
            class: self.0.kind.class().to_owned(),
            code: self.0.kind as i32,
            message: chain(self),
            remedy: self.0.remedy.clone(),
            problems: self.0.problems.clone(),
            story: self.0.story.clone(),
        }
    }
}

/// An [`Error`] as data: what is journalled, shown in status and handed over the C boundary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDoc {
    /// Kind by name.
    pub kind: Kind,
    /// `configuration`, `resource`, `service` or `infrastructure`.
    pub class: String,
    /// The C code.
    pub code: i32,
    /// All levels, joined by `: `.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remedy: Option<String>,
    /// Complaints by property.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub problems: Vec<Problem>,
    /// The failed step.
    #[serde(flatten)]
    pub story: Story,
}

impl From<ErrorDoc> for Error {
    fn from(doc: ErrorDoc) -> Self {
        let mut e = Error::new(doc.kind, doc.message);
        e.0.remedy = doc.remedy;
        e.0.problems = doc.problems;
        e.0.story = doc.story;
        e
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        // The complaints are this level's own text, not a lower level; a property named by the message is not repeated.
        if self.0.problems.len() == 1 && self.0.message.contains(&self.0.problems[0].message) {
            return Ok(());
        }
        for (i, p) in self.0.problems.iter().enumerate() {
            write!(f, "{}{}: {}", if i == 0 { ": " } else { "; " }, p.property, p.message)?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|s| &**s as &(dyn StdError + 'static))
    }
}

/// All levels of an error, outermost first, joined by `: `.
pub fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(e) = next {
        text.push_str(": ");
        text.push_str(&e.to_string());
        next = e.source();
    }
    text
}

/// All levels of an error and what can be done, as one line: for warnings and drift.
pub fn chain_with_remedy(error: &Error) -> String {
    match error.remedy_text() {
        Some(remedy) => format!("{}; {remedy}", chain(error)),
        None => chain(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_level_says_itself_once() {
        let e = Error::io("cannot write /etc/samba/smb.conf", std::io::Error::from_raw_os_error(libc::ENOSPC))
            .remedy("free some space")
            .while_doing("step samba/include of share office");
        assert_eq!(e.to_string(), "step samba/include of share office");
        let all = chain(&e);
        assert_eq!(all.matches("smb.conf").count(), 1, "{all}");
        assert!(all.contains("No space left"), "{all}");
        assert_eq!(e.kind(), Kind::Io);
        assert_eq!(e.remedy_text(), Some("free some space"));
    }

    #[test]
    fn documents_round_trip() {
        let e = Error::property("path", "is a symlink").story(|s| s.step = Some("tree/owner".into()));
        let doc = e.to_doc();
        let json = serde_json::to_string(&doc).expect("plain data");
        let back: ErrorDoc = serde_json::from_str(&json).expect("own output");
        assert_eq!(doc, back);
        assert_eq!(back.problems[0].property, "path");
        assert_eq!(back.class, "configuration");
    }
}
