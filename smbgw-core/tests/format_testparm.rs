// SPDX-License-Identifier: MIT OR Apache-2.0
//! Our reader of smb.conf against Samba's own: generated files go through the installed `testparm`, and both must agree on
//! whether the file loads, which sections it has and what each setting of each share is. Reads and writes nothing but its
//! own temporary directory.
#![allow(clippy::disallowed_methods)] // a test starts the real testparm

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use smbgw_core::format::smb_conf::{Effective, FindingKind, Section, SmbConf, print, same_value, section_key};
use smbgw_core::format::smb_params::{Class, Type, lookup, parse_list};
use smbgw_core::format::testparm::{Finding, Severity, parse_stderr, worst};

/// Stdout of `testparm -sv`, or `None` if Samba refuses the file; and what it said on stderr.
fn testparm(file: &Path) -> (Option<String>, Vec<Finding>) {
    let out = Command::new("testparm")
        .args(["-s", "-v"])
        .arg(file)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .expect("testparm runs");
    let findings = parse_stderr(&String::from_utf8_lossy(&out.stderr));
    // What testparm thinks of the settings together (its exit status) is not the question here.
    let refused = String::from_utf8_lossy(&out.stderr).contains("Error loading services");
    ((!refused).then(|| String::from_utf8_lossy(&out.stdout).into_owned()), findings)
}

fn installed() -> bool {
    if Command::new("testparm").arg("--version").stdout(Stdio::null()).status().is_ok_and(|s| s.success()) {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "testparm is missing: install samba-common-bin");
    eprintln!("SKIPPED: testparm is not installed, our reader of smb.conf was not compared with Samba's");
    false
}

/// Our idea of a file against Samba's.
fn compare(dir: &Path, text: &str) -> Result<(), TestCaseError> {
    let file = dir.join("smb.conf");
    let included = dir.join("inc.conf");
    fs::write(&file, text).expect("own directory");
    let conf = SmbConf::parse(text);
    let (stdout, said) = testparm(&file);
    let severity = worst(&said);
    let Some(stdout) = stdout else {
        // Words of a fixed set are testparm's to judge, and it names the parameter.
        let word = said.iter().any(|f| f.severity == Severity::InvalidValue && f.parameter.is_some());
        prop_assert!(conf.fatal().is_some() || word, "Samba refuses it, we do not: {:?}", said);
        prop_assert!(severity >= Severity::InvalidValue, "the refusal is not seen in stderr");
        return Ok(());
    };
    prop_assert!(conf.fatal().is_none(), "we refuse it, Samba does not: {:?}", conf.fatal());
    let named = [FindingKind::Unknown, FindingKind::Misplaced];
    if conf.findings().iter().any(|f| named.contains(&f.kind)) {
        prop_assert!(severity >= Severity::UnknownParameter, "an unknown parameter is not seen in stderr");
    }
    let mut include = |p: &str| if Path::new(p) == included { fs::read_to_string(&included).ok() } else { None };
    let effective = Effective::load(text, &mut include);
    // A printed value that ends so runs into the next line: what testparm says is then not to be read.
    if stdout.lines().any(|l| l.ends_with('\\')) {
        return Ok(());
    }
    let theirs = SmbConf::parse(&stdout);
    for share in &effective.shares {
        let Some(printed) = theirs.section(&share.name) else {
            return Err(TestCaseError::fail(format!("share {:?} is not in {stdout}", share.name)));
        };
        for param in share.defaults.keys().chain(share.own.keys()) {
            let value = share.get(param).expect("just listed");
            // What a share has in common with the final [global] is printed only there, even with -v.
            let got = printed.get(param).or_else(|| theirs.get("global", param)).unwrap_or_default();
            // testparm prints the names of a list without their quotes, so a quoted comma or tab comes out as a separator.
            let bare = |v: &str| parse_list(v).join(" ").replace('"', " ");
            let as_list = matches!(lookup(param), Some((_, Type::List)))
                && value.contains('"')
                && parse_list(&bare(&value)) == parse_list(&bare(&got));
            prop_assert!(
                as_list || same_value(param, &value, &got),
                "{}/{}: {:?} is {:?} to Samba",
                share.name,
                param,
                value,
                got
            );
        }
    }
    for (param, value) in &effective.global {
        if matches!(lookup(param), Some((Class::Global, _))) {
            let got = theirs.get("global", param).unwrap_or_default();
            prop_assert!(same_value(param, value, &got), "global/{}: {:?} is {:?} to Samba", param, value, got);
        }
    }
    for section in theirs.sections() {
        let known = section.is_global() || effective.share(&section.name).is_some();
        prop_assert!(known, "{:?} is new to us", section.name);
    }
    Ok(())
}

fn line(included: String) -> impl Strategy<Value = String> {
    prop_oneof![
        5 => "(guest ok|Read Only|public|writeable|browsable|write ok|hide dot files) ?= ?(yes|no|True|0|off)",
        1 => "(guest ok|public) ?= ?(maybe|)",
        6 => "[ \t]{0,2}(comment|fruit:model|Fruit : Model|force group|workgroup|server string)[ \t]{0,2}=[ \t]{0,3}[a-z/ \t\"\\\\=#;,]{0,14}",
        3 => "(invalid users|vfs object|hosts allow) = ([a-z@+]{1,3}|\"[a-z]{1,2} [a-z]{1,2}\"|, |; | |\t|\"\"){0,6}",
        3 => "[ \t]{0,2}(path|directory) ?= ?/[a-z/ \\\\]{0,10}",
        2 => "(create mode|directory mask) = (0660|775|7|u)",
        2 => "(smb encrypt|server smb encrypt) = (auto|mandatory|REQUIRED|off|desired)",
        2 => "(server min protocol|min protocol|protocol) = (SMB3|smb2_10|SMB3_11)",
        6 => "\\[(global|GLOBALS| g l o b a l|a|A|B| b |a  b|Büro|BÜRO|[a-z ]{1,3})\\]( x|\\\\)?",
        2 => "[#;][a-z \\\\]{0,10}",
        2 => "[ \t]{0,3}",
        1 => "[a-z ]{0,8}\\\\ ?",
        1 => "(wurkgroup|foo bar) = x",
        1 => "[\\[=][a-z]{0,3}",
        2 => Just(format!("include = {included}")),
        1 => Just("include = /nonexistent/x.conf".to_owned()),
    ]
}

fn config(included: String) -> impl Strategy<Value = String> {
    let ends = prop_oneof![6 => Just("\n"), 1 => Just("\r\n"), 1 => Just("\\\n"), 1 => Just("\n\n")];
    proptest::collection::vec((line(included), ends), 0..14).prop_map(|l| l.iter().map(|(l, e)| format!("{l}{e}")).collect())
}

fn runner() -> TestRunner {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

#[test]
fn our_reader_agrees_with_samba() {
    if !installed() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let included = dir.path().join("inc.conf");
    fs::write(&included, "comment = inc\n[inc]\npath = /inc\nguest ok = yes\n").expect("own directory");
    let strategy = config(included.to_str().expect("plain").to_owned());
    runner().run(&strategy, |text| compare(dir.path(), &text)).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn what_we_print_samba_reads() {
    if !installed() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("smb.conf");
    let name = "[A-Za-zäß0-9 $&'()!.]{1,12}";
    let params = proptest::collection::vec(("comment|fruit:model|preexec", "[ -~\té]{0,16}"), 0..4);
    let strategy = proptest::collection::vec((name, params), 1..4);
    let result = runner().run(&strategy, |sections| {
        let mut kept: BTreeMap<String, Section> = BTreeMap::new();
        for (name, params) in sections {
            let mut s = Section::new(&name);
            s.set("path", "/srv/x");
            for (p, v) in params {
                let mut longer = s.clone();
                longer.set(p, v);
                if print(std::slice::from_ref(&longer)).is_ok() {
                    s = longer;
                }
            }
            let special = ["global", "globals", "homes", "printers"].contains(&&*name.to_lowercase().replace(' ', ""));
            if !special && print(std::slice::from_ref(&s)).is_ok() {
                kept.entry(section_key(&name)).or_insert(s);
            }
        }
        let kept: Vec<Section> = kept.into_values().collect();
        fs::write(&file, print(&kept).expect("each was fine")).expect("own directory");
        let (stdout, _) = testparm(&file);
        let theirs = SmbConf::parse(&stdout.expect("Samba takes it"));
        for s in &kept {
            let Some(printed) = theirs.section(&s.name) else {
                return Err(TestCaseError::fail(format!("{:?} is not there", s.name)));
            };
            prop_assert_eq!(&printed.name, &s.name);
            let last: BTreeMap<&str, &str> = s.params.iter().map(|(p, v)| (p.as_str(), v.as_str())).collect();
            for (p, v) in last {
                prop_assert_eq!(printed.get(p).unwrap_or_default(), v);
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}
