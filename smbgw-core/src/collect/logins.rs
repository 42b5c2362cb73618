// SPDX-License-Identifier: MIT OR Apache-2.0
//! Refused log-ins, from the file that Samba writes a line of JSON into for each (`log level = … auth_json_audit:2@FILE`). It knows rotation and
//! the form of a line; it must not know what many of them mean.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Look, Memory, as_f64};
use crate::error::{Error, Kind, Result};

/// Where our configuration tells Samba to write them.
pub const FILE: &str = "/var/log/samba/smbgw-auth.json";
/// Read at most so much in one look; the rest is for the next.
const AT_ONCE: u64 = 1 << 20;
/// Of a file that Samba has renamed (max log size, 5 MB unless set) all is read, so many times that.
const MOST_OF_OLD: usize = 8;

/// What is remembered of the log.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Logins {
    /// File and place up to which it was read.
    at: Option<(u64, u64)>,
    refused: u64,
}

/// How many lines up to the last line feed are of a refused log-in, and where that is.
fn count(content: &[u8]) -> (u64, u64) {
    let end = content.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    let refused = |line: &&[u8]| {
        let doc: Value = serde_json::from_slice(line).unwrap_or_default();
        let a = &doc["Authentication"];
        // On a member winbindd writes of what it asked a domain controller, and smbd of the log-in.
        let by_smbd = !a["serviceDescription"].as_str().is_some_and(|s| s.starts_with("winbind"));
        doc["type"] == "Authentication" && by_smbd && a["status"].as_str().is_some_and(|s| s != "NT_STATUS_OK")
    };
    // A line that is longer than all that is read at once is none of Samba's.
    let read = if end == 0 && content.len() as u64 == AT_ONCE { content.len() } else { end };
    (content[..end].split(|b| *b == b'\n').filter(refused).count() as u64, read as u64)
}

/// The look.
pub(super) fn look(l: &mut Look<'_>, memory: &mut Memory) -> Result<()> {
    let logins = &mut memory.logins;
    let from = logins.at.map_or(u64::MAX, |(_, at)| at);
    match l.host.tail(Path::new(FILE), from, AT_ONCE)? {
        Some(seen) => match logins.at {
            // What was refused before anybody looked is not counted.
            None => logins.at = Some((seen.ino, seen.size)),
            Some((ino, at)) if ino == seen.ino && at <= seen.size => {
                let (refused, read) = count(&seen.content);
                logins.refused += refused;
                logins.at = Some((ino, at.saturating_add(read)));
            }
            Some((ino, at)) => {
                // Samba has renamed it, and begun another one.
                let mut at = at;
                for _ in 0..MOST_OF_OLD {
                    let old = l.host.tail(&PathBuf::from(format!("{FILE}.old")), at, AT_ONCE)?;
                    let Some(old) = old.filter(|o| o.ino == ino && !o.content.is_empty()) else { break };
                    let (refused, read) = count(&old.content);
                    logins.refused += refused;
                    at = at.saturating_add(read);
                    if read == 0 {
                        break;
                    }
                }
                let new = l.host.tail(Path::new(FILE), 0, AT_ONCE)?;
                let (refused, read) = new.as_ref().map_or((0, 0), |n| count(&n.content));
                logins.refused += refused;
                logins.at = Some((new.map_or(seen.ino, |n| n.ino), read));
            }
        },
        // It is made with the first line, if Samba was told to.
        None => {
            let conf = l.host.read_text(&l.target.paths.own_conf)?.unwrap_or_default();
            // Ours is in our own file or, in a container, in the template's smb.conf; where an administrator's line stands, in neither.
            let main = l.host.read_text(&l.target.paths.smb_conf)?.unwrap_or_default();
            if !conf.contains(FILE) && !main.contains(FILE) {
                return Err(Error::new(Kind::Unsupported, "Samba does not log refused log-ins")
                    .remedy(format!("set in smb.conf: log level = 1 auth_json_audit:2@{FILE}")));
            }
            logins.at = Some((0, 0));
        }
    }
    let refused = as_f64(logins.refused);
    l.gateway("failed_logins", refused);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_lines_are_counted_up_to_the_last_line_feed() {
        let line = |status: &str| {
            format!(
                "  {{\"timestamp\": \"t\", \"type\": \"Authentication\", \"Authentication\": {{\"status\": \"{status}\"}}}}\n"
            )
        };
        let text = format!(
            "{}{}noise\n{}{{\"type\": \"Auth",
            line("NT_STATUS_WRONG_PASSWORD"),
            line("NT_STATUS_OK"),
            line("NT_STATUS_NO_SUCH_USER")
        );
        let (n, end) = count(text.as_bytes());
        assert_eq!(n, 2);
        assert!(text[usize::try_from(end).expect("small")..].starts_with("{\"type\": \"Auth"));
        assert_eq!(count(b"no line feed"), (0, 0));
    }
}
