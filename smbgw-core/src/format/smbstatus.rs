// SPDX-License-Identifier: MIT OR Apache-2.0
//! `smbstatus -p -j` (sessions) and `smbstatus -S -j` (tree connects), as 4.17 prints them; later versions add keys. Open files
//! are read from the text of `smbstatus -L -n`: their JSON costs the square of their number. So are the figures of every few seconds, from the
//! text of `-p` and `-S`, which costs a third of the JSON, and where names need not be told apart from what stands beside them. It must not be asked whether smbd lives:
//! smbstatus prints empty lists when it does not.
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

/// One open of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenFile {
    /// The smbd process that has it open.
    pub pid: u32,
    /// CTDB node; `None` if not clustered.
    pub node: Option<u32>,
    /// Unix user number.
    pub uid: u32,
    /// What others may not do meanwhile, from the share mode: `DENY_NONE`, `DENY_WRITE`, …
    pub deny: String,
    /// What the client may do with it, as Windows' access mask.
    pub access: u32,
    /// The same for people: `RDONLY`, `WRONLY`, `RDWR`.
    pub mode: String,
    /// Oplock or lease: `NONE`, `BATCH`, `LEASE(RWH)`, …
    pub caching: String,
    /// Directory of the share.
    pub tree: String,
    /// Path below it.
    pub name: String,
    /// When it was opened, by the clock and in the zone of the machine: `2026-11-22T19:07:44`.
    pub opened: String,
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

/// The version of Samba, from any form of `smbstatus -j`.
pub fn parse_version(json: &str) -> Option<String> {
    let doc: Value = serde_json::Deserializer::from_str(json.get(json.find('{')?..)?).into_iter().next()?.ok()?;
    Some(text(&doc, "version")).filter(|v| !v.is_empty())
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

/// The open files of `smbstatus -L -n`, in its order. `trees` are directories of shares: between directory and name there are only blanks, and
/// both may have some. A last line that was cut off is left out.
pub fn parse_opens(text: &str, trees: &[&str]) -> Vec<OpenFile> {
    let mut found = Vec::new();
    let mut lines = text.lines().skip_while(|l| !l.starts_with("-----")).skip(1);
    while let Some(first) = lines.next() {
        let Some((open, rest)) = columns(first) else { continue };
        // A name can have a line feed in it: not one that a client gave, but one of the node.
        let mut rest = rest.to_owned();
        while time(&rest).is_none() {
            let Some(more) = lines.next() else { break };
            rest.push('\n');
            rest.push_str(more);
        }
        let Some((where_, opened)) = time(&rest) else { break };
        let known = trees.iter().filter(|t| where_.strip_prefix(**t).is_some_and(|r| r.starts_with(GAP))).max_by_key(|t| t.len());
        let split = match known {
            Some(t) => Some((*t, &where_[t.len() + GAP.len()..])),
            None => where_.split_once(GAP),
        };
        if let Some((tree, name)) = split {
            found.push(OpenFile { tree: tree.to_owned(), name: name.to_owned(), opened, ..open });
        }
    }
    found
}

/// What stands between the last columns.
const GAP: &str = "   ";

/// The columns that have no blanks in them, and what follows.
fn columns(line: &str) -> Option<(OpenFile, &str)> {
    let mut rest = line;
    let mut word = || {
        rest = rest.trim_start_matches(' ');
        let (word, after) = rest.split_once(' ')?;
        rest = after;
        Some(word)
    };
    let server = word()?;
    let (node, pid) = match server.split_once(':') {
        Some((node, pid)) => (Some(node.parse().ok()?), pid),
        None => (None, server),
    };
    let open = OpenFile {
        pid: pid.parse().ok()?,
        node,
        uid: word()?.parse().ok()?,
        deny: word()?.to_owned(),
        access: u32::from_str_radix(word()?.strip_prefix("0x")?, 16).ok()?,
        mode: word()?.to_owned(),
        caching: word()?.to_owned(),
        tree: String::new(),
        name: String::new(),
        opened: String::new(),
    };
    Some((open, rest.trim_start_matches(' ')))
}

/// A session, as far as a figure needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionLine<'a> {
    /// The smbd process that serves it.
    pub pid: u32,
    /// User, group and machine as printed; the same for the same user.
    pub who: &'a str,
    /// Dialect, for example `SMB3_11`.
    pub dialect: &'a str,
    /// Something of it is encrypted.
    pub encrypted: bool,
    /// Something of it is signed.
    pub signed: bool,
}

/// The lines below the rule of dashes, and without what follows an empty one.
fn table(text: &str) -> impl Iterator<Item = &str> {
    text.lines().skip_while(|l| !l.starts_with("-----")).skip(1).take_while(|l| !l.trim().is_empty())
}

/// The last `N` words of a line, the last one first, and what stands before them.
fn from_the_end<const N: usize>(line: &str) -> Option<(&str, [&str; N])> {
    let mut rest = line.trim_end();
    let mut words = [""; N];
    for w in &mut words {
        let at = rest.rfind(' ').map_or(0, |i| i + 1);
        (*w, rest) = (&rest[at..], rest[..at].trim_end());
        if w.is_empty() {
            return None;
        }
    }
    Some((rest, words))
}

/// The pid of `PID` or, in a cluster, `NODE:PID`.
fn pid(word: &str) -> Option<u32> {
    word.rsplit(':').next()?.parse().ok()
}

/// The sessions of the text of `smbstatus -p`.
pub fn session_lines(text: &str) -> Vec<SessionLine<'_>> {
    let line = |l| {
        // ... name-or-address (ipv4:ADDRESS:PORT) DIALECT ENCRYPTION SIGNING
        let (rest, [signing, encryption, dialect, _, _]) = from_the_end::<5>(l)?;
        let (server, who) = rest.split_once(' ')?;
        let some = |w: &str| w.starts_with("partial(") || w.starts_with("full(") || (w != "-" && w.contains("AES"));
        Some(SessionLine { pid: pid(server)?, who: who.trim(), dialect, encrypted: some(encryption), signed: signing != "-" })
    };
    table(text).filter_map(line).collect()
}

/// The tree connects of the text of `smbstatus -S`: service and pid.
pub fn tcon_lines(text: &str) -> Vec<(&str, u32)> {
    let line = |l| {
        // SERVICE PID MACHINE Sat Nov 28 04:45:46 2026 UTC ENCRYPTION SIGNING; a service can have blanks in it
        let (service, words) = from_the_end::<10>(l)?;
        Some((Some(service).filter(|s| !s.is_empty())?, pid(words[9])?))
    };
    table(text).filter_map(line).collect()
}

/// How many byte-range locks the text of `smbstatus -L -B -n` has in each tree, in the order of `trees`, and in all. Those of an smbd that was
/// killed stay in Samba's database: `holds` says who has a file open.
pub fn count_locks(text: &str, trees: &[&str], holds: impl Fn(u32) -> bool) -> (Vec<u64>, u64) {
    let (mut counts, mut all) = (vec![0; trees.len()], 0);
    let part = text.find("Byte range locks:").map_or("", |at| &text[at..]);
    for line in table(part) {
        // PID DEV:INODE:EXTID R|W START SIZE TREE NAME
        let mut rest = line;
        let mut word = || {
            let trimmed = rest.trim_start_matches(' ');
            let (w, after) = trimmed.split_once(' ')?;
            rest = after;
            Some(w)
        };
        let head = (|| Some((pid(word()?)?, word()?, word()?, word()?.parse::<i128>().ok()?, word()?.parse::<i128>().ok()?)))();
        if !head.is_some_and(|(pid, ..)| holds(pid)) {
            continue;
        }
        all += 1;
        let rest = rest.trim_start_matches(' ');
        let inside = |t: &&str| rest.strip_prefix(*t).is_some_and(|r| r.is_empty() || r.starts_with(' '));
        let tree = trees.iter().enumerate().filter(|(_, t)| inside(t)).max_by_key(|(_, t)| t.len());
        if let Some((i, _)) = tree {
            counts[i] += 1;
        }
    }
    (counts, all)
}

/// Takes the time off its end: `   Sun Nov 22 19:07:44 2026`.
fn time(rest: &str) -> Option<(&str, String)> {
    let at = rest.len().checked_sub(GAP.len() + 24)?;
    let (before, stamp) = (rest.get(..at)?, rest.get(at..)?.strip_prefix(GAP)?);
    let mut words = stamp.split_ascii_whitespace();
    let (_, month, day, clock, year) = (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|m| *m == month)? + 1;
    let (day, year): (u32, u32) = (day.parse().ok()?, year.parse().ok()?);
    let clock = Some(clock).filter(|c| c.len() == 8 && c.bytes().all(|b| b.is_ascii_digit() || b == b':'))?;
    Some((before, format!("{year:04}-{month:02}-{day:02}T{clock}")))
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
    fn open_files() {
        let text = include_str!("../../../tests/fixtures/samba-4.17/smbstatus.standalone.txt");
        let opens = parse_opens(text.split_once("Locked files").expect("real").1, &["/srv/data", "/srv/media"]);
        assert_eq!(
            opens.iter().map(|o| (o.pid, o.uid, o.tree.as_str())).collect::<Vec<_>>(),
            [(47, 1001, "/srv/data"), (45, 1001, "/srv/data"), (50, 1002, "/srv/media")]
        );
        let o = &parse_opens(include_str!("../../../tests/fixtures/samba-4.17/smbstatus_-L.ad-member.txt"), &[])[1];
        assert_eq!((o.pid, o.uid, o.access, o.deny.as_str(), o.mode.as_str()), (123, 101103, 0x10003, "DENY_NONE", "RDWR"));
        assert_eq!((o.caching.as_str(), o.tree.as_str(), o.name.as_str()), ("NONE", "/srv/data", "f1.dat"));
        assert_eq!((o.node, o.opened.as_str()), (None, "2026-11-22T19:07:44"));
        assert_eq!(parse_opens("\nNo locked files\n", &[]), []);
        let odd = "Locked files:\nPid\n------\n2:7  5  DENY_ALL  0x1  RDONLY  LEASE(RWH)  /srv/a   b   Sun Nov  1 00:00:00 2026   c   \
                   Mon Nov  2 01:02:03 2026\n8  5  DENY_NONE  0x1  RDONLY  NONE  /srv/x   a\nb   Mon Nov  2 01:02:04 2026\n9  5  DENY_NONE  0x1";
        let odd = parse_opens(odd, &["/srv/a   b", "/srv/a"]);
        assert_eq!((odd[0].tree.as_str(), odd[0].name.as_str()), ("/srv/a   b", "Sun Nov  1 00:00:00 2026   c"));
        assert_eq!(
            (odd[0].node, odd[0].caching.as_str(), odd[0].opened.as_str()),
            (Some(2), "LEASE(RWH)", "2026-11-02T01:02:03")
        );
        assert_eq!((odd[1].name.as_str(), odd.len()), ("a\nb", 2));
    }

    #[test]
    fn lines_of_the_text() {
        let text = include_str!("../../../tests/fixtures/samba-4.17/smbstatus.standalone.txt");
        let sessions = session_lines(text);
        let seen: Vec<_> = sessions.iter().map(|s| (s.pid, s.dialect, s.encrypted, s.signed)).collect();
        assert_eq!(
            seen,
            [(50, "SMB3_11", true, true), (47, "SMB3_11", true, true), (45, "SMB3_11", true, true), (49, "SMB2_10", false, true)]
        );
        assert!(sessions[0].who.starts_with("labv "));
        let shares = &text[text.find("Service ").expect("real")..];
        assert_eq!(tcon_lines(shares), [("data", 45), ("data", 47), ("data", 49), ("media", 50)]);
        assert_eq!(session_lines("no rule"), []);
        let odd = "-----\nLab S\u{fc}d 2  1:77  fe80::1  Sun Nov  1 00:00:00 2026 UTC  -  -\n7 x Sun Nov 1 0 2026 UTC - -\n\nafter 1 m a b c d e f g h";
        assert_eq!(tcon_lines(odd), [("Lab S\u{fc}d 2", 77)]);
        let member = "-----\n12   EX\\domain x  EX\\domain users  10.0.0.1 (ipv4:10.0.0.1:1)   SMB3_02  -  -\n";
        let s = &session_lines(member)[0];
        assert_eq!((s.pid, s.dialect, s.encrypted, s.signed), (12, "SMB3_02", false, false));
    }

    #[test]
    fn locks_of_the_text() {
        let text = "\nLocked files:\nPid          User(ID)   DenyMode\n----------\n\
            27           0          DENY_NONE  0x19b       RDWR       NONE             /srv/a   f1   Sat Nov 28 04:52:38 2026\n\
            26           0          DENY_NONE  0x19b       RDWR       NONE             /srv/a b   f 2   Sat Nov 28 04:52:38 2026\n\n\
            Byte range locks:\nPid        dev:inode       R/W  start     size      SharePath               Name\n----------\n\
            27         41:1208071:0    W    0         10        /srv/a                   f1                      \n\
            27         41:1208071:0    W    2147483392 5         /srv/a                   f1                      \n\
            26         41:1208072:0    R    7         1         /srv/a b                 f 2                     \n\n";
        let trees = ["/srv/a", "/srv/a b"];
        assert_eq!(count_locks(text, &trees, |_| true), (vec![2, 1], 3));
        assert_eq!(count_locks(text, &trees, |pid| pid == 26), (vec![0, 1], 1), "one that was killed holds nothing");
        assert_eq!(count_locks("No locked files\n", &trees, |_| true), (vec![0, 0], 0));
        let real = include_str!("../../../tests/fixtures/samba-4.17/smbstatus_-L_-B_-n.txt");
        assert_eq!((parse_opens(real, &["/srv/office"]).len(), count_locks(real, &["/srv/office"], |_| true)), (4, (vec![4], 4)));
        assert_eq!(parse_opens(text, &trees).len(), 2, "locks are no open files");
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
            let _ = parse_opens(&format!("----\n{text}"), &["/srv", ""]);
            let _ = parse_opens(&format!("----\n1 2 D 0x1 R N {text}   Mon Nov  2 01:02:04 2026"), &[]);
            let _ = (session_lines(&format!("----\n{text}")), tcon_lines(&format!("-----\n{text}")));
            let _ = count_locks(&format!("Byte range locks:\n-----\n{text}"), &["/srv", ""], |_| true);
            let _ = parse_tcons(&format!("{{{text}"));
            let real = fixture!("standalone");
            let _ = parse_sessions(real.get(..cut).unwrap_or_default());
        }
    }
}
