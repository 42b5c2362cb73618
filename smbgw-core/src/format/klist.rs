// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `klist -k` of MIT Kerberos prints of a keytab, with `-e` (encryption types) and `-t` (times) or without. It knows which keys are there,
//! not the keys. Heimdal's `klist` prints something else.

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its version; it grows with each change of the password.
    pub kvno: u32,
    /// Whose: `M1$@EXAMPLE.TEST`.
    pub principal: String,
    /// Kind of key, if `-e` was given, as printed: `aes256-cts-hmac-sha1-96`, `DEPRECATED:arcfour-hmac`.
    pub enctype: Option<String>,
}

/// Reads the list, in order; lines that are no keys are passed over.
pub fn parse_keytab(text: &str) -> Vec<Entry> {
    let mut out = Vec::new();
    // The line of dashes tells whether there is a column of times, and how wide it is.
    let mut time: Option<Option<usize>> = None;
    for line in text.lines() {
        let line = line.trim_end();
        if !line.is_empty() && line.bytes().all(|b| b == b'-' || b == b' ') {
            let columns: Vec<&str> = line.split(' ').collect();
            time = match columns[..] {
                [_, _] => Some(None),
                [_, t, _] => Some(Some(t.len())),
                _ => None,
            };
            continue;
        }
        out.extend(time.and_then(|t| entry(line, t)));
    }
    out
}

fn entry(line: &str, time: Option<usize>) -> Option<Entry> {
    let (kvno, rest) = line.trim_start().split_once(' ')?;
    let kvno = kvno.parse().ok()?;
    let rest = match time {
        None => rest,
        Some(width) => rest.get(width..)?.strip_prefix(' ')?,
    };
    let (principal, enctype) = match rest.strip_suffix(')').and_then(|r| r.rsplit_once(" (")) {
        Some((p, e)) => (p, Some(e.to_owned())),
        None => (rest, None),
    };
    // A key in hexadecimal (`-K`) would stand behind it; nobody asks for that.
    (principal.contains('@')).then(|| Entry { kvno, principal: principal.to_owned(), enctype })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WITH_TYPES: &str = include_str!("../../../tests/fixtures/krb5-1.20/klist_-k_-e.txt");
    const WITH_TIMES: &str = include_str!("../../../tests/fixtures/krb5-1.20/klist_-ket.txt");
    const BARE: &str = include_str!("../../../tests/fixtures/krb5-1.20/klist_-k.txt");

    #[test]
    fn real_outputs() {
        let all = parse_keytab(WITH_TYPES);
        let shown: Vec<_> = all.iter().map(|e| (e.kvno, e.principal.as_str(), e.enctype.as_deref().unwrap_or("-"))).collect();
        assert_eq!(
            shown,
            [
                (2, "M1$@EXAMPLE.TEST", "aes256-cts-hmac-sha1-96"),
                (2, "M1$@EXAMPLE.TEST", "aes128-cts-hmac-sha1-96"),
                (2, "M1$@EXAMPLE.TEST", "DEPRECATED:arcfour-hmac"),
                (2, "cifs/m1.example.test@EXAMPLE.TEST", "aes256-cts-hmac-sha1-96"),
                (12, "host/M1@EXAMPLE.TEST", "aes256-cts-hmac-sha1-96"),
            ]
        );
        assert_eq!(parse_keytab(WITH_TIMES), all);
        let bare: Vec<Entry> = all.into_iter().map(|e| Entry { enctype: None, ..e }).collect();
        assert_eq!(parse_keytab(BARE), bare);
    }

    #[test]
    fn odd_lists() {
        assert_eq!(parse_keytab(""), []);
        assert_eq!(parse_keytab("   2 a@B\n"), [], "before the line of dashes");
        let text = "KVNO Principal\n---- -----\n12345 a b@B (x)\n   x a@B\n   3 nothing\n   4\n";
        let e = Entry { kvno: 12345, principal: "a b@B".into(), enctype: Some("x".into()) };
        assert_eq!(parse_keytab(text), [e]);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>(), lines in "---- (-{0,3} )?-{1,3}\\n([ 0-9a@ä(): ]{0,12}\\n){0,5}", cut in 0usize..500) {
            let _ = parse_keytab(&text);
            let _ = parse_keytab(&lines);
            let _ = parse_keytab(WITH_TIMES.get(..cut).unwrap_or_default());
        }
    }
}
