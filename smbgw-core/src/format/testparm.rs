// SPDX-License-Identifier: MIT OR Apache-2.0
//! What `testparm -s` says on stderr. Its exit status alone proves little: it is 0 for a misspelt parameter and for a share
//! without a path. It knows the messages of 4.17 (fixtures) and testparm.c up to 4.22; stdout is smb.conf and read by
//! [`super::smb_conf`].
//!
//! About stdout: `-s` prints what differs from the default, `-sv` everything; booleans as `Yes`/`No`, modes with a leading
//! zero (`0660`), lists joined by blanks with `"` where needed, words of a fixed set in their first spelling (`mandatory` as
//! `required`, `SMB3` as `SMB3_11`), synonyms under their main name, always `idmap config * : backend = tdb`, and nothing at
//! all when the load failed. Compare with [`super::smb_conf::same_value`].

/// How bad a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// What it always prints, or prints for our information.
    Noise,
    /// It would work, but not as written or not well.
    Warning,
    /// A name that this Samba does not have, or that it ignores where it stands: the line has no effect.
    UnknownParameter,
    /// A value that this Samba refuses; it then loads nothing.
    InvalidValue,
    /// Samba refuses the file, or says that it will not work.
    Error,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// The parameter it names, if it does.
    pub parameter: Option<String>,
    /// The message on one line.
    pub text: String,
}

/// Reads stderr, in order. A message that goes on over several lines is one finding; text nobody knows is a warning.
pub fn parse_stderr(text: &str) -> Vec<Finding> {
    let mut out: Vec<Finding> = Vec::new();
    // Long warnings go on until an empty line.
    let mut open = false;
    for raw in text.lines() {
        let line = raw.trim();
        if line.is_empty() {
            open = false;
            continue;
        }
        let known = classify(line);
        if known.is_none() && open {
            if let Some(last) = out.last_mut() {
                last.text.push(' ');
                last.text.push_str(line);
                continue;
            }
        }
        let (severity, parameter) = known.unwrap_or((Severity::Warning, None));
        open = known_to_go_on(line);
        out.push(Finding { severity, parameter: parameter.map(str::to_owned), text: line.to_owned() });
    }
    out
}

/// The worst severity in the list; [`Severity::Noise`] if there is nothing to say.
pub fn worst(findings: &[Finding]) -> Severity {
    findings.iter().map(|f| f.severity).max().unwrap_or(Severity::Noise)
}

fn known_to_go_on(line: &str) -> bool {
    line.starts_with("WARNING: socket options")
}

/// The text between the first pair of `quote` after `before`.
fn quoted<'a>(line: &'a str, before: &str, quote: char) -> Option<&'a str> {
    let rest = &line[line.find(before)? + before.len()..];
    let rest = &rest[rest.find(quote)? + quote.len_utf8()..];
    Some(&rest[..rest.find(quote)?])
}

fn classify(line: &str) -> Option<(Severity, Option<&str>)> {
    use Severity::*;
    const NOISE: &[&str] = &[
        "Load smb config files from",
        "Loaded services file OK.",
        "Weak crypto is ",
        "Server role:",
        "Press enter to see",
        "Ignoring unknown parameter",
        "The following message indicates an internal error:",
        "rlimit_max: ",
        "Registered MSG_REQ_",
        "INFO: ",
        "doing parameter ",
        "Processing section ",
        "Allow connection from",
        "Deny connection from",
    ];
    const ERRORS: &[&str] = &[
        "ERROR:",
        "FATAL:",
        "Error loading services",
        "No service name in service entry",
        "Unknown section ",
        "Can't load ",
        "Error: Maximum include depth",
        "Failed to ",
    ];
    if line.starts_with("Unknown parameter encountered:") {
        return Some((UnknownParameter, quoted(line, "encountered:", '"')));
    }
    if let Some(rest) = line.strip_prefix("Global parameter ") {
        return Some((UnknownParameter, rest.strip_suffix(" found in service section!")));
    }
    if line.starts_with("Parameter ") && line.contains(" unknown for section ") {
        return Some((Error, line.split(' ').nth(1)));
    }
    if line.starts_with("WARNING: Ignoring invalid value") {
        return Some((InvalidValue, quoted(line, " for parameter ", '\'')));
    }
    if line.starts_with("Invalid octal number") || line.starts_with("Unsupported list syntax for:") {
        return Some((InvalidValue, None));
    }
    if line.contains("value is not boolean!") || line.contains("value is not a valid size specifier!") {
        return Some((InvalidValue, None));
    }
    if line.contains("\" option is deprecated") {
        return Some((Warning, quoted(line, "", '"')));
    }
    if NOISE.iter().any(|n| line.starts_with(n)) {
        return Some((Noise, None));
    }
    if ERRORS.iter().any(|n| line.starts_with(n)) {
        return Some((Error, None));
    }
    let warning = ["WARNING:", "Warning:", "NOTE:", "idmap range not specified", "Invalid c", "'"];
    warning.iter().any(|n| line.starts_with(n)).then_some((Warning, None))
}

/// A section with its parameters, in the order of the output.
pub type Section = (String, Vec<(String, String)>);

/// Reads what `testparm -s` prints on standard output. It is no smb.conf: a backslash at the end of a value (`winbind separator = \`) goes
/// on with no other line, and nothing is quoted.
pub fn parse_stdout(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let line = line.trim_end_matches('\r');
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            sections.push((name.to_owned(), Vec::new()));
        } else if let (Some((name, value)), Some((_, params))) = (line.split_once('='), sections.last_mut()) {
            params.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;
    use Severity::*;
    use proptest::prelude::*;

    fn serious(text: &str) -> Vec<(Severity, Option<String>)> {
        parse_stderr(text).into_iter().filter(|f| f.severity != Noise).map(|f| (f.severity, f.parameter)).collect()
    }

    macro_rules! fixture {
        ($name:literal) => {
            include_str!(concat!("../../../tests/fixtures/samba-4.17/testparm_-s.", $name, ".txt.stderr"))
        };
    }

    #[test]
    fn a_value_may_end_with_a_backslash() {
        let text = "# Global parameters\n[global]\n\twinbind separator = \\\n\twinbind use default domain = No\n\tlog file = \n\n\n[a b]\n\tpath = /x = y\n";
        let read = parse_stdout(text);
        assert_eq!(read[0].1[0], ("winbind separator".to_owned(), "\\".to_owned()));
        assert_eq!(read[0].1[1], ("winbind use default domain".to_owned(), "No".to_owned()));
        assert_eq!(read[0].1[2].1, "");
        assert_eq!(read[1], ("a b".to_owned(), vec![("path".to_owned(), "/x = y".to_owned())]));
    }

    #[test]
    fn real_outputs() {
        assert_eq!(serious(fixture!("ad-member")), []);
        assert_eq!(worst(&parse_stderr(fixture!("ad-member"))), Noise);
        let unknown = |p: &str| (UnknownParameter, Some(p.to_owned()));
        assert_eq!(serious(fixture!("unknown_param")), [unknown("wurkgroup"), unknown("foo bar")]);
        assert_eq!(serious(fixture!("bad_value")), [(InvalidValue, Some("server min protocol".to_owned())), (Error, None)]);
        assert_eq!(serious(fixture!("bad_syntax")), [(Error, None)]);
        assert_eq!(serious(fixture!("missing_path")), [(Warning, None), (Warning, None)]);
        assert_eq!(serious(fixture!("longname")), [(Warning, None)]);
        assert_eq!(serious(fixture!("dc_range")), [(Error, None)]);
        assert_eq!(serious(fixture!("ads_norealm")), [(Error, None), (Warning, None), (Error, None)]);
        assert_eq!(
            serious(fixture!("misplaced")),
            [unknown("workgroup"), unknown("printer admin"), (Warning, Some("lanman auth".to_owned())), unknown("lanman auth")]
        );
        assert_eq!(serious(fixture!("not_boolean")), [(InvalidValue, None), (Error, None)]);
    }

    #[test]
    fn a_long_warning_is_one_finding() {
        let text = "Loaded services file OK.\n\nWARNING: socket options = SO_SNDBUF=1\nThis warning is printed because\nyou set it.\n\nhello\n";
        let all = parse_stderr(text);
        assert_eq!(all.len(), 3);
        assert_eq!(all[1].text, "WARNING: socket options = SO_SNDBUF=1 This warning is printed because you set it.");
        assert_eq!((all[2].severity, all[2].text.as_str()), (Warning, "hello"));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>(), tail in "(WARNING: Ignoring invalid value|Unknown parameter encountered:|Global parameter |ERROR:)['\" a-zä]{0,20}") {
            let _ = parse_stderr(&text);
            let _ = parse_stderr(&tail);
        }
    }
}
