// SPDX-License-Identifier: MIT OR Apache-2.0
//! Command lines of the emulated programs, read as `getopt_long(3)` and popt do. It knows options; it must not know programs.

/// An option: long name, short name (NUL if it has none), whether a value follows.
pub(super) type Opt = (&'static str, char, bool);

/// What was given: options by long name in their order, and the other words.
pub(super) struct Given {
    options: Vec<(&'static str, String)>,
    /// Words that are no options.
    pub words: Vec<String>,
}

impl Given {
    /// Whether the option was given.
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(n, _)| *n == name)
    }

    /// The value of an option; of the last one if it was repeated.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    /// The n-th word, or an empty one.
    pub fn word(&self, n: usize) -> &str {
        self.words.get(n).map_or("", String::as_str)
    }
}

/// Reads a command line; the error is the option that is not known or lacks its value.
pub(super) fn parse(args: &[String], known: &[Opt]) -> Result<Given, String> {
    let mut given = Given { options: Vec::new(), words: Vec::new() };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            given.words.extend(rest.cloned());
            break;
        } else if let Some(long) = arg.strip_prefix("--") {
            let (name, inline) = match long.split_once('=') {
                Some((n, v)) => (n, Some(v.to_owned())),
                None => (long, None),
            };
            let &(name, _, takes) = known.iter().find(|(l, _, _)| *l == name).ok_or_else(|| arg.clone())?;
            let value = match (takes, inline) {
                (true, Some(v)) => v,
                (true, None) => rest.next().cloned().ok_or_else(|| arg.clone())?,
                (false, None) => String::new(),
                (false, Some(_)) => return Err(arg.clone()),
            };
            given.options.push((name, value));
        } else if arg.len() > 1 && arg.starts_with('-') {
            for (at, letter) in arg[1..].char_indices() {
                let &(name, _, takes) =
                    known.iter().find(|(_, s, _)| *s == letter && letter != '\0').ok_or_else(|| format!("-{letter}"))?;
                if takes {
                    let tail = &arg[1 + at + letter.len_utf8()..];
                    let value =
                        if tail.is_empty() { rest.next().cloned().ok_or_else(|| format!("-{letter}"))? } else { tail.to_owned() };
                    given.options.push((name, value));
                    break;
                }
                given.options.push((name, String::new()));
            }
        } else {
            given.words.push(arg.clone());
        }
    }
    Ok(given)
}
