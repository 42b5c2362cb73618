// SPDX-License-Identifier: MIT OR Apache-2.0
//! `/etc/nsswitch.conf` as nsswitch.conf(5) describes it: where users and groups come from. It knows how to add a source to a database and
//! keeps every other byte; which source is wanted it must not know.
//!
//! Where a database stands twice, C libraries differ in which line counts, so all its lines are treated alike. A source behind an action such as
//! `[NOTFOUND=return]` may never be asked; that is the administrator's wish, and nothing is moved.

/// Where in a line `db: …` its sources begin, and the sources up to the comment or the end.
fn sources<'a>(line: &'a str, db: &str) -> Option<(usize, &'a str)> {
    let rest = line.trim_start_matches([' ', '\t']).strip_prefix(db)?.strip_prefix(':')?;
    Some((line.len() - rest.len(), rest.split('#').next().unwrap_or_default()))
}

/// Whether a source is among those of a line; actions in brackets are none.
fn among(mut sources: &str, source: &str) -> bool {
    loop {
        let action = sources.split_once('[').and_then(|(before, rest)| Some((before, rest.split_once(']')?.1)));
        let (plain, rest) = action.map_or((sources, None), |(before, rest)| (before, Some(rest)));
        if plain.split_ascii_whitespace().any(|s| s == source) {
            return true;
        }
        match rest {
            Some(rest) => sources = rest,
            None => return false,
        }
    }
}

/// Whether a database has a source.
pub fn has_source(text: &str, db: &str, source: &str) -> bool {
    let mut lines = text.lines().filter_map(|l| sources(l, db)).peekable();
    lines.peek().is_some() && lines.all(|(_, s)| among(s, source))
}

/// The file with a source added as the last one of each of the databases that does not have it; a database that is missing is added with
/// `files` before. `None`: nothing to do.
pub fn add_source(text: &str, databases: &[&str], source: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 64);
    for line in text.split_inclusive('\n') {
        let lacking = databases.iter().find_map(|db| sources(line, db)).filter(|(_, s)| !among(s, source));
        let Some((start, list)) = lacking else {
            out.push_str(line);
            continue;
        };
        // What comes behind the last word stays behind.
        let end = start + list.trim_ascii_end().len();
        out.push_str(&line[..end]);
        out.push(' ');
        out.push_str(source);
        out.push_str(&line[end..]);
    }
    for (i, db) in databases.iter().enumerate() {
        if databases[..i].contains(db) || text.lines().any(|l| sources(l, db).is_some()) {
            continue;
        }
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        out.push_str(&format!("{db}: files {source}\n"));
    }
    (out != text).then_some(out)
}

/// The file without a source in some databases. `None`: nothing to do. What [`add_source`] added to a line is taken away byte for byte.
pub fn remove_source(text: &str, databases: &[&str], source: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let having = databases.iter().find_map(|db| sources(line, db)).filter(|(_, s)| among(s, source));
        let Some((start, list)) = having else {
            out.push_str(line);
            continue;
        };
        out.push_str(&line[..start]);
        let (mut rest, mut depth) = (list, 0_usize);
        while !rest.is_empty() {
            // A blank with the word behind it, or the word alone at the beginning.
            let blank = rest.len() - rest.trim_ascii_start().len();
            let word = rest[blank..].find(|c: char| c.is_ascii_whitespace()).map_or(rest.len(), |n| blank + n);
            if depth > 0 || &rest[blank..word] != source {
                out.push_str(&rest[..word]);
            }
            let (open, close) = (rest[..word].matches('[').count(), rest[..word].matches(']').count());
            depth = (depth + open).saturating_sub(close);
            rest = &rest[word..];
        }
        out.push_str(&line[start + list.len()..]);
    }
    (out != text).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: [&str; 2] = ["passwd", "group"];
    const DEBIAN: &str = "# /etc/nsswitch.conf\n#\n# Example configuration of GNU Name Service Switch functionality.\n\n\
                          passwd:         files systemd\ngroup:          files systemd\nshadow:         files\ngshadow:        files\n\n\
                          hosts:          files dns\nnetworks:       files\n\nnetgroup:       nis\n";

    fn add(text: &str) -> Option<String> {
        add_source(text, &BOTH, "winbind")
    }

    #[test]
    fn a_debian_file() {
        assert!(!has_source(DEBIAN, "passwd", "winbind"));
        let new = add(DEBIAN).expect("changed");
        let expected = DEBIAN.replace("passwd:         files systemd", "passwd:         files systemd winbind");
        assert_eq!(new, expected.replace("group:          files systemd", "group:          files systemd winbind"));
        assert!(has_source(&new, "passwd", "winbind") && has_source(&new, "group", "winbind"));
        assert!(!has_source(&new, "shadow", "winbind") && has_source(&new, "netgroup", "nis"));
        assert_eq!(add(&new), None);
    }

    #[test]
    fn odd_lines() {
        let line = |text: &str| add_source(text, &["passwd"], "winbind");
        for (old, new) in [
            ("passwd: files # winbind\n", "passwd: files winbind # winbind\n"),
            ("passwd: files#x", "passwd: files winbind#x"),
            ("\tpasswd:files  \r\n", "\tpasswd:files winbind  \r\n"),
            ("passwd: files [NOTFOUND=return]\n", "passwd: files [NOTFOUND=return] winbind\n"),
            ("passwd: files [ winbind ] nis\n", "passwd: files [ winbind ] nis winbind\n"),
            ("passwd: files [winbind\n", "passwd: files [winbind winbind\n"),
            ("passwd:\n", "passwd: winbind\n"),
            ("passwd: files", "passwd: files winbind"),
            ("passwd: winbind\npasswd: files\n", "passwd: winbind\npasswd: files winbind\n"),
            ("passwd_compat: nis", "passwd_compat: nis\npasswd: files winbind\n"),
            ("#passwd: files\n", "#passwd: files\npasswd: files winbind\n"),
            ("passwd: winbinds\n", "passwd: winbinds winbind\n"),
            ("", "passwd: files winbind\n"),
        ] {
            assert_eq!(line(old).as_deref(), Some(new), "{old:?}");
        }
        for old in ["passwd: winbind files\n", "passwd: files [!UNAVAIL=return]winbind", "passwd: files\twinbind\t# x"] {
            assert_eq!(line(old), None, "{old:?}");
        }
        assert_eq!(add_source("", &["passwd", "passwd"], "winbind").as_deref(), Some("passwd: files winbind\n"));
        assert!(!has_source("passwd: winbind\npasswd: files\n", "passwd", "winbind"));
    }

    fn file() -> impl Strategy<Value = String> {
        let line =
            "(passwd|group|shadow|#passwd| passwd)[: \t]{0,3}((files|winbind|nis|ä|\\[NOTFOUND=return\\]|#|\\[)[ \t]?){0,4}\r?";
        (proptest::collection::vec(line, 0..6), any::<bool>()).prop_map(|(l, end)| l.join("\n") + if end { "\n" } else { "" })
    }

    #[test]
    fn a_source_that_was_added_goes_without_a_trace() {
        let with = add(DEBIAN).expect("it was not there");
        assert_eq!(remove_source(&with, &BOTH, "winbind").as_deref(), Some(DEBIAN));
        assert_eq!(remove_source(DEBIAN, &BOTH, "winbind"), None);
        let odd = "passwd: winbind files [winbind=continue] systemd # winbind\n";
        assert_eq!(remove_source(odd, &BOTH, "winbind").as_deref(), Some("passwd: files [winbind=continue] systemd # winbind\n"));
    }

    proptest! {
        #[test]
        fn twice_is_once_and_nothing_else_changes(text in prop_oneof![file(), any::<String>()]) {
            let new = add(&text);
            let now = new.clone().unwrap_or_else(|| text.clone());
            prop_assert_eq!(add(&now), None);
            prop_assert_eq!(new.is_none(), BOTH.iter().all(|db| has_source(&text, db, "winbind")));
            prop_assert!(BOTH.iter().all(|db| has_source(&now, db, "winbind")));
            let bare = |l: &str| l.trim_end_matches('\n').to_owned();
            let mut lines = now.split_inclusive('\n');
            for old in text.split_inclusive('\n') {
                let line = lines.next().unwrap_or_default();
                let mut less = line.match_indices(" winbind").map(|(at, w)| [&line[..at], &line[at + w.len()..]].concat());
                prop_assert!(bare(line) == bare(old) || less.any(|l| bare(&l) == bare(old)), "{:?} became {:?}", old, line);
            }
            prop_assert!(lines.all(|l| l == "passwd: files winbind\n" || l == "group: files winbind\n"));
        }
    }
}
