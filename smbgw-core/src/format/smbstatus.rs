// SPDX-License-Identifier: MIT OR Apache-2.0
//! `smbstatus -p -j` (sessions) and `smbstatus -S -j` (tree connects), as 4.17 prints them; later versions add keys. It must
//! not be asked whether smbd lives: smbstatus prints empty lists when it does not.
//!
//! Numbers come as strings or numbers, depending on key and version; a missing or odd value becomes the empty one, an entry
//! without session id or pid is left out.

use serde_json::Value;

use super::FormatError;

/// How much of the traffic is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Degree {
    /// Nothing, or not known.
    #[default]
    None,
    /// Some: for a session, encryption is partial when only one of its shares demands it.
    Partial,
    /// All.
    Full,
}

/// Cipher and degree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Protection {
    /// As Samba names it (`AES-128-GCM`); `-` if none.
    pub cipher: String,
    /// How much.
    pub degree: Degree,
}

/// A session: one log-in from one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Session id, decimal.
    pub id: String,
    /// The smbd process that serves it.
    pub pid: u32,
    /// CTDB node; `None` if not clustered.
    pub node: Option<u32>,
    /// Unix user name.
    pub username: String,
    /// Unix user number; `None` for a session that is not (yet) logged in.
    pub uid: Option<u32>,
    /// Address or name of the client.
    pub remote_machine: String,
    /// `ipv4:ADDR:PORT`.
    pub hostname: String,
    /// Dialect, for example `SMB3_11`.
    pub dialect: String,
    /// Encryption of the session; the truth about one share is in its [`Tcon`].
    pub encryption: Protection,
    /// Signing of the session.
    pub signing: Protection,
}

/// A tree connect: one session uses one share. IPC$ is among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tcon {
    /// Share name as Samba spells it.
    pub service: String,
    /// The smbd process that serves it.
    pub pid: u32,
    /// CTDB node; `None` if not clustered.
    pub node: Option<u32>,
    /// Tree connect id, decimal.
    pub id: String,
    /// Session id, decimal.
    pub session_id: String,
    /// Address or name of the client.
    pub machine: String,
    /// ISO 8601 as printed.
    pub connected_at: String,
    /// Encryption of this share's traffic.
    pub encryption: Protection,
    /// Signing of this share's traffic.
    pub signing: Protection,
}

const FORMAT: &str = "smbstatus";

fn document(text: &str, key: &str) -> Result<Vec<Value>, FormatError> {
    let bad = |why: String| FormatError::Json { format: FORMAT, why };
    // Warnings may come first when stderr was not kept apart.
    let start = text.find('{').ok_or_else(|| bad("there is no object".to_owned()))?;
    let mut stream = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
    let doc = stream.next().ok_or_else(|| bad("there is no object".to_owned()))?.map_err(|e| bad(e.to_string()))?;
    match doc.get(key) {
        Some(Value::Object(map)) => Ok(map.values().cloned().collect()),
        Some(Value::Array(list)) => Ok(list.clone()),
        _ => Err(bad(format!("{key:?} is missing"))),
    }
}

fn text(v: &Value, key: &str) -> String {
    match v.get(key) {
        Some(Value::String(s)) => s.clone(),
        Some(Value::Number(n)) => n.to_string(),
        _ => String::new(),
    }
}

fn number(v: &Value, key: &str) -> Option<u32> {
    text(v, key).parse().ok()
}

fn protection(v: &Value, key: &str) -> Protection {
    let Some(p) = v.get(key) else { return Protection::default() };
    let degree = match text(p, "degree").as_str() {
        "full" => Degree::Full,
        "partial" => Degree::Partial,
        _ => Degree::None,
    };
    Protection { cipher: text(p, "cipher"), degree }
}

/// Pid and CTDB node of the smbd behind an entry.
fn server(v: &Value) -> Option<(u32, Option<u32>)> {
    let id = v.get("server_id")?;
    Some((number(id, "pid")?, number(id, "vnn").filter(|n| *n != u32::MAX)))
}

/// The sessions of `smbstatus -p -j` (or of any form that has them), ordered by the text of their id.
pub fn parse_sessions(json: &str) -> Result<Vec<Session>, FormatError> {
    let read = |v: &Value| {
        let (pid, node) = server(v)?;
        Some(Session {
            id: Some(text(v, "session_id")).filter(|s| !s.is_empty())?,
            pid,
            node,
            username: text(v, "username"),
            uid: number(v, "uid").filter(|n| *n != u32::MAX),
            remote_machine: text(v, "remote_machine"),
            hostname: text(v, "hostname"),
            dialect: text(v, "session_dialect"),
            encryption: protection(v, "encryption"),
            signing: protection(v, "signing"),
        })
    };
    Ok(document(json, "sessions")?.iter().filter_map(read).collect())
}

/// The tree connects of `smbstatus -S -j` (or of any form that has them), ordered by the text of their id.
pub fn parse_tcons(json: &str) -> Result<Vec<Tcon>, FormatError> {
    let read = |v: &Value| {
        let (pid, node) = server(v)?;
        Some(Tcon {
            service: text(v, "service"),
            pid,
            node,
            id: text(v, "tcon_id"),
            session_id: Some(text(v, "session_id")).filter(|s| !s.is_empty())?,
            machine: text(v, "machine"),
            connected_at: text(v, "connected_at"),
            encryption: protection(v, "encryption"),
            signing: protection(v, "signing"),
        })
    };
    Ok(document(json, "tcons")?.iter().filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!("../../../tests/fixtures/samba-4.17/smbstatus_--json.", $name, ".json"))
        };
    }

    #[test]
    fn real_outputs() {
        let sessions = parse_sessions(fixture!("standalone")).expect("real");
        assert_eq!(sessions.len(), 4);
        let old = sessions.iter().find(|s| s.id == "1264965074").expect("there");
        assert_eq!((old.pid, old.node, old.uid, old.username.as_str()), (49, None, Some(1002), "labv"));
        assert_eq!((old.dialect.as_str(), old.encryption.degree, old.signing.degree), ("SMB2_10", Degree::None, Degree::Partial));
        let tcons = parse_tcons(fixture!("standalone")).expect("real");
        assert_eq!(tcons.len(), 4);
        let media = tcons.iter().find(|t| t.service == "media").expect("there");
        assert_eq!((media.pid, media.session_id.as_str(), media.encryption.degree), (50, "171220355", Degree::Full));
        assert_eq!(parse_sessions(fixture!("idle")).expect("real"), []);
        assert_eq!(parse_tcons(fixture!("idle")).expect("real"), []);
        let clustered = parse_sessions(fixture!("ctdb")).expect("real");
        assert!(!clustered.is_empty() && clustered.iter().all(|s| s.node.is_some_and(|n| n < 3)));
        assert!(parse_sessions(fixture!("ad-member")).expect("real").iter().all(|s| s.username.contains("alice")));
    }

    #[test]
    fn odd_documents() {
        assert!(parse_sessions("").is_err());
        assert!(parse_sessions("{}").is_err());
        assert!(parse_sessions("{\"sessions\": 1}").is_err());
        assert!(parse_sessions("{\"sessions\": {").is_err());
        let odd = "warning\n{\"sessions\": {\"1\": {}, \"2\": {\"session_id\": 2, \"server_id\": {\"pid\": 7}}, \"3\": null}}\n";
        let s = parse_sessions(odd).expect("lenient");
        assert_eq!((s.len(), s[0].pid, s[0].id.as_str(), s[0].uid), (1, 7, "2", None));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>(), cut in 0usize..2000) {
            let _ = parse_sessions(&text);
            let _ = parse_tcons(&format!("{{{text}"));
            let real = fixture!("standalone");
            let _ = parse_sessions(real.get(..cut).unwrap_or_default());
        }
    }
}
