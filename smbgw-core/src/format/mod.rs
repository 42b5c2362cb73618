// SPDX-License-Identifier: MIT OR Apache-2.0
//! Foreign formats, one per file: text in, values out, and back where we write it. Nothing here knows a path to open, a
//! program to run or what the values are good for. No parser panics or gives up on hostile input.

pub mod ad_error;
pub mod dns;
pub mod guest_conf;
pub mod krb5_conf;
pub mod mountinfo;
pub mod net_ads;
pub mod nsswitch;
pub mod passwd;
pub mod projects;
pub mod resolv_conf;
pub mod sharesec;
pub mod smb_conf;
pub mod smb_params;
pub mod smb_profile;
pub mod smbpasswd;
pub mod smbstatus;
pub mod storage_cfg;
pub mod tdb;
pub mod testparm;
pub mod wbinfo;
pub mod zfs;

use crate::error::{Error, Kind};
use crate::types::shorten;

/// What can go wrong with a foreign format.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// A value cannot be written so that the reader gets the same value back.
    #[error("{what} cannot be written: {why}")]
    Unprintable {
        /// The thing, shortened: `value of "path" in [office]`.
        what: String,
        /// Which rule of the format it breaks.
        why: &'static str,
    },
    /// Text that another program (or somebody) made does not have the form it should have.
    #[error("{format}, line {line}: {why}")]
    Unreadable {
        /// The format, for example `smb.conf`.
        format: &'static str,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Our managed lines are no longer as we wrote them.
    #[error("the managed include in smb.conf is damaged: {0}")]
    Damaged(String),
    /// JSON of a tool that is no JSON or has another shape.
    #[error("{format} is not the JSON we know: {why}")]
    Json {
        /// The tool.
        format: &'static str,
        /// What was expected.
        why: String,
    },
}

impl FormatError {
    fn unprintable(what: impl Into<String>, why: &'static str) -> Self {
        Self::Unprintable { what: what.into(), why }
    }
}

impl From<FormatError> for Error {
    fn from(e: FormatError) -> Self {
        let kind = match &e {
            FormatError::Unprintable { .. } => Kind::Invalid,
            FormatError::Unreadable { .. } => Kind::Conflict,
            FormatError::Damaged(_) => Kind::Drift,
            FormatError::Json { .. } => Kind::Service,
        };
        Error::new(kind, e.to_string())
    }
}

/// A hostile text for a message: quoted, escaped, at most 64 characters.
fn show(text: &str) -> String {
    format!("{:?}", shorten(text))
}
