// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tests of smb_conf.rs: Samba's rules by example, and the promises (no byte lost, what is printed is read, the include
//! comes and goes without a trace) on generated and arbitrary text.

use super::*;
use proptest::prelude::*;

const MARKER: &str = "# smbgw: managed, do not edit this line and the next";
const PATH: &str = "/etc/samba/smbgw.conf";

fn add(text: &str) -> String {
    add_include(text, MARKER, PATH).expect("a good file")
}

fn one(text: &str) -> (String, String) {
    let conf = SmbConf::parse(text);
    assert_eq!(conf.to_string(), text);
    let p = &conf.sections()[0].params[0];
    (p.name.clone(), p.value.clone())
}

fn kinds(text: &str) -> Vec<(usize, FindingKind)> {
    SmbConf::parse(text).findings().iter().map(|f| (f.line, f.kind)).collect()
}

#[test]
fn lines_are_read_as_samba_reads_them() {
    let is = |text: &str, name: &str, value: &str| assert_eq!(one(text), (name.to_owned(), value.to_owned()), "{text:?}");
    is("comment = a  b\t c # d ; e", "comment", "a b\tc # d ; e");
    is("  guest   ok\t= yes \r\n", "guest ok", "yes");
    is("path=/a=b", "path", "/a=b");
    is("workgroup = BE\\\nEF\n", "workgroup", "BEEF");
    is("workgroup = BE\\ \t\nEF\n", "workgroup", "BEEF");
    is("workgroup = BE\\\r\nEF\r\n", "workgroup", "BEEF");
    is("workgroup = BE\\\\\n\nEF\n", "workgroup", "BEEF");
    is("path = /a \\\n   # no comment\n", "path", "/a # no comment");
    is("path = /a \\\n\n[x]\n", "path", "/a");
    is("# c \\\npath = /a", "path", "/a");
    is("path =\n", "path", "");
    is("path = \"/a b\"\n", "path", "\"/a b\"");
    is("path = /a\0b\nx", "path", "/a");
}

#[test]
fn sections_are_found_and_merged() {
    let conf = SmbConf::parse(
        "guest ok = yes\n[GLOBALS]\nworkgroup=X\n[ b ]\npath=/b\n[B]\npath=/bb\n[ Glo bal ]\nrealm=R\n[b] junk\nwriteable=yes\n\\\n [no]\n",
    );
    let names: Vec<_> = conf.sections().iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["global", " b ", "B"]);
    assert_eq!(conf.sections()[0].params.len(), 3);
    assert_eq!(conf.sections()[0].header_lines, [2, 8]);
    assert_eq!(conf.get("b", "Path").as_deref(), Some("/bb"));
    assert_eq!(conf.get("b", "read only").as_deref(), Some("No"));
    assert_eq!(conf.get("b", "write ok").as_deref(), Some("yes"));
    assert_eq!(conf.get("global", "public").as_deref(), Some("yes"));
    assert_eq!(conf.get("b", "comment"), None);
}

#[test]
fn a_second_header_forgets_parametric_options() {
    let text = "[a]\nfruit:x = 1\ncomment = c\n[A]\nfruit:y = 2\n[global]\nfruit:z = 3\n";
    let conf = SmbConf::parse(text);
    assert_eq!((conf.get("a", "fruit:x"), conf.get("a", "fruit : Y").as_deref()), (None, Some("2")));
    assert_eq!(conf.get("a", "comment").as_deref(), Some("c"));
    let e = Effective::load(text, &mut |_| None);
    let a = e.share("a").expect("there");
    assert_eq!((a.get("fruit:x"), a.get("fruit:y").as_deref(), a.get("fruit:z").as_deref()), (None, Some("2"), Some("3")));
}

#[test]
fn problems_are_named_with_their_line() {
    use FindingKind::*;
    assert_eq!(kinds("[global\nx"), [(1, OpenHeader), (2, NoEquals)]);
    assert_eq!(kinds("\n[a]\n= x\n"), [(3, EmptyName)]);
    assert_eq!(kinds("[]\n"), [(1, EmptySection)]);
    assert_eq!(
        kinds("[a]\npath /srv\nworkgroup = X\nwurk=1\nread only = perhaps\nfruit:x=1"),
        [(2, NoEquals), (3, Misplaced), (4, Unknown), (5, BadValue)]
    );
    assert_eq!(kinds("[a] \\\n path = /srv\n"), [(1, AfterHeader)]);
    assert_eq!(kinds("[a]\npath = /a\\"), [(2, OpenEnd)]);
    assert_eq!(kinds("[a]\npath = /a\\\n"), [(2, OpenEnd)]);
    assert_eq!(kinds("a\0b = 1\n"), [(1, Nul), (1, NoEquals)]);
    assert!(SmbConf::parse("[global\n").fatal().is_some());
    assert!(SmbConf::parse("[global]\nfoo = 1\nbar\n").fatal().is_none());
    assert_eq!(kinds("# all\n; is\n[global]\n\n workgroup = X\n[homes]\n browseable = no\n"), []);
}

#[test]
fn what_is_pulled_in_is_listed() {
    let conf =
        SmbConf::parse("include = /a\n[x]\ninclude=/etc/%m.conf\ncopy = y\n[global]\ninclude = registry\nconfig file=/o\n");
    let all: Vec<_> = conf.includes().into_iter().map(|i| (i.line, i.section, i.kind, i.has_macro)).collect();
    assert_eq!(
        all,
        [
            (1, "global".to_owned(), IncludeKind::File, false),
            (3, "x".to_owned(), IncludeKind::File, true),
            (4, "x".to_owned(), IncludeKind::Copy, false),
            (6, "global".to_owned(), IncludeKind::Registry, false),
            (7, "global".to_owned(), IncludeKind::ConfigFile, false),
        ]
    );
}

#[test]
fn vfs_modules_of_a_section_or_by_default() {
    let conf = SmbConf::parse(
        "[global]\nvfs object = acl_xattr\n[a]\n[b]\nvfs objects = catia, fruit:x streams_xattr\n[c]\nvfs objects=\n",
    );
    assert_eq!(conf.vfs_modules("a"), ["acl_xattr"]);
    assert_eq!(conf.vfs_modules("b"), ["catia", "fruit", "streams_xattr"]);
    assert_eq!(conf.vfs_modules("c"), Vec::<String>::new());
}

#[test]
fn print_refuses_what_would_not_survive() {
    let with = |n: &str, p: &str, v: &str| print(&[Section { name: n.into(), params: vec![(p.into(), v.into())] }]);
    assert_eq!(with("a b", "path", "/srv/a b").expect("fine"), "[a b]\n\tpath = /srv/a b\n");
    assert_eq!(with("a", "comment", "").expect("fine"), "[a]\n\tcomment =\n");
    assert!(with("a", "valid users", "\"@a b\"").is_ok());
    for bad in ["", "a]", "a\nb", " a", "a ", "a  b", "a\0"] {
        assert!(with(bad, "path", "/x").is_err(), "{bad:?}");
    }
    for bad in ["", "a=b", "#a", ";a", "[a", " a", "a\n"] {
        assert!(with("a", bad, "x").is_err(), "{bad:?}");
    }
    for bad in ["/x\n[y]", "/x\r", "/x\\", " /x", "/x ", "/x  y", "/x\0", "\"/x\"", "/x\t\ty"] {
        let e = with("a", "path", bad).expect_err(bad);
        assert!(!e.to_string().contains('\n'));
    }
    assert!(with("a", "read only", "perhaps").is_err());
    assert_eq!(crate::error::Error::from(with("a", "path", " ").expect_err("blank")).kind(), crate::error::Kind::Invalid);
}

#[test]
fn lists_are_printed_with_quotes_where_needed() {
    assert_eq!(print_list(&["anna", "@EX\\Domain Users", "b,c"]).expect("fine"), "anna, \"@EX\\Domain Users\", \"b,c\"");
    for bad in ["", "a\"b", "a\n", " a", "a  b"] {
        assert!(print_list(&[bad]).is_err(), "{bad:?}");
    }
}

#[test]
fn the_include_goes_to_the_end_of_the_last_global_section() {
    let block = format!("{MARKER}\n   include = {PATH}\n");
    for (before, after) in [
        // Debian's stock file in small: comments of the next section stay with it.
        ("[global]\n  a:b = 1\n\n# next\n[homes]\n  x:y = 1\n", "[global]\n  a:b = 1\n@\n# next\n[homes]\n  x:y = 1\n"),
        ("# top\n[global]\n# c\n\n[a]\n", "# top\n[global]\n@# c\n\n[a]\n"),
        ("[global]\n x:x=1\n[a]\n[global]\n y:y=\\\n  2\n\n[b]\n", "[global]\n x:x=1\n[a]\n[global]\n y:y=\\\n  2\n@\n[b]\n"),
        ("x:x=1\n# c\n[a]\n", "x:x=1\n@# c\n[a]\n"),
        ("# c\n[a]\n", "@# c\n[a]\n"),
        ("", "@"),
        ("[a]\n[globals]\n", "[a]\n[globals]\n@"),
    ] {
        let want = after.replace('@', &block);
        assert_eq!(add(before), want, "{before:?}");
        assert_eq!(add(&want), want, "a second time");
        assert!(matches!(find_include(&want, MARKER, PATH), IncludeState::Present { in_global: true, last_global: true, .. }));
        assert_eq!(remove_include(&want, MARKER, PATH).expect("whole").as_deref(), Some(before));
    }
    assert_eq!(remove_include("[global]\n", MARKER, PATH).expect("absent"), None);
}

#[test]
fn line_ends_are_kept() {
    let added = add("[global]\r\nx:x = 1");
    assert_eq!(added, format!("[global]\r\nx:x = 1\r\n{MARKER}\r\n   include = {PATH}"));
    assert_eq!(SmbConf::parse(&added).includes()[0].value, PATH);
    assert_eq!(remove_include(&added, MARKER, PATH).expect("whole").as_deref(), Some("[global]\r\nx:x = 1"));
    let lone_cr = "[global]\nx:x = 1\r";
    assert_eq!(remove_include(&add(lone_cr), MARKER, PATH).expect("whole").as_deref(), Some(lone_cr));
}

#[test]
fn an_open_or_broken_file_is_not_touched() {
    for text in ["[global]\nx:x = 1\\", "[global]\nx:x = 1 \\\n", "[global]\nx:x = 1 \\ \t", "[global\n", "[global]\n=1\n"] {
        assert!(matches!(add_include(text, MARKER, PATH), Err(FormatError::Unreadable { .. })), "{text:?}");
    }
    // The open line is not the one we follow.
    assert!(add_include("[global]\n[a]\nx:x = 1\\", MARKER, PATH).is_ok());
    assert!(add_include("", "no comment", PATH).is_err());
    assert!(add_include("", "# a\n[b]", PATH).is_err());
    assert!(add_include("", MARKER, "/a\n[b]").is_err());
}

#[test]
fn damage_is_named() {
    let good = add("[global]\n[a]\n");
    let damaged = |text: &str| match find_include(text, MARKER, PATH) {
        IncludeState::Damaged(why) => {
            assert!(remove_include(text, MARKER, PATH).is_err());
            assert!(add_include(text, MARKER, PATH).is_err());
            why
        }
        other => panic!("{other:?} for {text:?}"),
    };
    assert!(damaged(&good.replace(MARKER, "# gone")).contains("without our marker"));
    assert!(damaged(&good.replace(PATH, "/else")).contains("not followed"));
    assert!(damaged(&good.replace("   include", "\n   include")).contains("apart"));
    assert!(damaged(&format!("{good}{good}")).contains("second time"));
    assert!(damaged(&format!("{good}include={PATH}\n")).contains("second time"));
    assert!(damaged(&format!("[global]\nx:x=1\\\n{MARKER}\n   include = {PATH}\n")).contains("without our marker"));
    // Lines added behind ours: still ours, but no longer last.
    let later = good.replace("[a]\n", "log level = 3\n[a]\n");
    let state = find_include(&later, MARKER, PATH);
    assert_eq!(state, IncludeState::Present { line: 2, in_global: true, last_global: false });
    assert!(add_include(&later, MARKER, PATH).is_err());
    let moved = format!("[global]\n[a]\n{MARKER}\ninclude={PATH}\n");
    assert_eq!(find_include(&moved, MARKER, PATH), IncludeState::Present { line: 3, in_global: false, last_global: false });
    assert_eq!(remove_include(&moved, MARKER, PATH).expect("whole").as_deref(), Some("[global]\n[a]\n"));
}

#[test]
fn loading_follows_includes_and_defaults() {
    let text = "[global]\nguest ok = yes\n[a]\npath=/a\n[global]\nguest ok = no\ninclude = /x\nread only=no\n[b]\ninclude=/none\n[A]\ncomment=c\n";
    let e = Effective::load(text, &mut |p| (p == "/x").then(|| "[x]\npath=/x\nworkgroup=W\n[global]\n".to_owned()));
    let get = |s: &str, p: &str| e.share(s).and_then(|s| s.get(p).map(|v| v.into_owned()));
    assert_eq!(get("a", "public").as_deref(), Some("yes"));
    assert_eq!(get("a", "comment").as_deref(), Some("c"));
    assert_eq!(get("a", "read only"), None);
    assert_eq!(get("x", "guest ok").as_deref(), Some("no"));
    assert_eq!(get("x", "workgroup"), None);
    assert_eq!(get("b", "writeable").as_deref(), Some("Yes"));
    assert_eq!(e.global.get("read only").map(String::as_str), Some("no"), "the include came back to [global]");
    assert_eq!(e.missing, ["/none"]);
    let deep = Effective::load("include = /me\n", &mut |_| Some("include = /me\n".to_owned()));
    assert_eq!(deep.missing, ["/me"]);
}

/// Lines of every sort, good and bad.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "(guest ok|read only|public|writeable) ?= ?(yes|no|1|off)",
        4 => "[ \t]{0,2}(path|comment|workgroup|fruit:model|create mask)[ \t]{0,2}=[ \t]{0,2}[a-z0-9/ \"\\\\%=]{0,12}",
        3 => "\\[(global|GLOBALS| g l o b a l|a|B|a b|homes)\\]( x|\\\\)?",
        2 => "[#;][a-z \\\\]{0,10}",
        2 => "[ \t]{0,3}",
        1 => "[a-z ]{0,8}\\\\ ?",
        1 => "include = (/foreign|/none)",
        1 => Just(MARKER.to_owned()),
        1 => Just(format!("   include = {PATH}")),
        1 => "[^\n]{0,12}",
    ]
}

fn ends() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => Just("\n"), 1 => Just("\r\n"), 1 => Just("\r"), 1 => Just("\0\n")]
}

fn config() -> impl Strategy<Value = String> {
    (proptest::collection::vec((line(), ends()), 0..14), any::<bool>()).prop_map(|(lines, closed)| {
        let mut text: String = lines.iter().map(|(l, e)| format!("{l}{e}")).collect();
        if !closed {
            while text.ends_with(['\n', '\r']) {
                text.pop();
            }
        }
        text
    })
}

/// Configurations without the lines that make us refuse.
fn good_config() -> impl Strategy<Value = String> {
    config().prop_filter("refused on purpose", |t| add_include(t, MARKER, PATH).is_ok() && !t.contains(PATH))
}

fn check_round_trip(text: &str) -> Result<(), TestCaseError> {
    let conf = SmbConf::parse(text);
    prop_assert_eq!(conf.to_string(), text);
    prop_assert!(conf.findings().iter().all(|f| f.line >= 1 && f.line <= text.matches('\n').count() + 1));
    let _ = conf.includes();
    if find_include(text, MARKER, PATH) == IncludeState::Absent {
        prop_assert_eq!(remove_include(text, MARKER, PATH).expect("absent"), None);
        if let Ok(added) = add_include(text, MARKER, PATH) {
            let state = find_include(&added, MARKER, PATH);
            let in_place = matches!(state, IncludeState::Present { in_global: true, last_global: true, .. });
            prop_assert!(in_place, "{:?} in {:?}", state, added);
            prop_assert_eq!(add_include(&added, MARKER, PATH).expect("there"), added.clone());
            prop_assert_eq!(remove_include(&added, MARKER, PATH).expect("whole"), Some(text.to_owned()));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn arbitrary_text_keeps_every_byte(text in any::<String>()) {
        check_round_trip(&text)?;
    }

    #[test]
    fn arbitrary_lines_keep_every_byte(text in "([\\[\\]=#;\\\\ \t\r\n\0\"a-c]|global){0,60}") {
        check_round_trip(&text)?;
    }

    #[test]
    fn generated_configs_keep_every_byte(text in config()) {
        check_round_trip(&text)?;
    }

    #[test]
    fn our_include_changes_no_other_setting(text in good_config()) {
        // What we include: shares of our own, then back to [global], as promised.
        let ours = "[smbgw one]\n\tpath = /ours\n\tguest ok = no\n[global]\n";
        let foreign = |p: &str| (p == "/foreign").then(|| "[f]\ncomment = f\n[global]\npublic = yes\n".to_owned());
        let before = Effective::load(&text, &mut |p| foreign(p));
        let after = Effective::load(&add(&text), &mut |p| if p == PATH { Some(ours.to_owned()) } else { foreign(p) });
        prop_assert_eq!(&before.global, &after.global);
        prop_assert_eq!(&before.missing, &after.missing);
        let rest: Vec<_> = after.shares.iter().filter(|s| s.name != "smbgw one").cloned().collect();
        prop_assert_eq!(&before.shares, &rest);
        prop_assert_eq!(after.share("smbgw one").expect("served").own.len(), 2);
        // And ours have the last word in [global], unless a file that a later section includes opens it again.
        let ours = "[smbgw one]\n[global]\nguest ok = no\nworkgroup = OURS\n";
        let after = Effective::load(&add(&text), &mut |p| (p == PATH).then(|| ours.to_owned()));
        prop_assert_eq!(after.global.get("workgroup").map(String::as_str), Some("OURS"));
        prop_assert_eq!(after.global.get("guest ok").map(String::as_str), Some("no"));
    }

    #[test]
    fn what_is_printed_is_read_again(
        sections in proptest::collection::vec(("\\PC{0,12}|[a-z \\]\\[\n]{0,8}", proptest::collection::vec(
            ("[a-z :#;=\\[]{0,8}|path|read only|valid users", "\\PC{0,12}|[a-z \t\\\\\"\n\r\0]{0,8}|yes"), 0..4)), 0..4)
    ) {
        // One by one, so that one refused value does not hide the others.
        let mut kept: Vec<Section> = Vec::new();
        for (name, params) in sections {
            let mut s = Section::new(name);
            if print(std::slice::from_ref(&s)).is_err() {
                continue;
            }
            for p in params {
                s.params.push(p);
                if print(std::slice::from_ref(&s)).is_err() {
                    s.params.pop();
                }
            }
            kept.push(s);
        }
        let text = print(&kept).expect("each was fine");
        let conf = SmbConf::parse(&text);
        prop_assert_eq!(conf.blocks(), kept);
        prop_assert_eq!(conf.to_string(), text);
        prop_assert!(conf.fatal().is_none());
        let structure = [FindingKind::NoEquals, FindingKind::AfterHeader, FindingKind::OpenEnd, FindingKind::Nul];
        prop_assert!(conf.findings().iter().all(|f| !structure.contains(&f.kind)));
    }

    #[test]
    fn lists_are_read_again(names in proptest::collection::vec("[a-z@\\\\ ,;\"\t']{0,6}|\\PC{0,6}", 0..5)) {
        let fit: Vec<String> = names.into_iter().filter(|n| print_list(&[n]).is_ok()).collect();
        let text = print_list(&fit).expect("each was fine");
        prop_assert_eq!(parse_list(&text), fit);
    }
}
