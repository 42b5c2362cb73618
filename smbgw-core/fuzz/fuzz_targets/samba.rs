// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Samba, or whoever is in its container, writes: databases, lists, configuration. Of any bytes it makes something, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use smbgw_core::format::smb_conf::{self, SmbConf};
use smbgw_core::format::smb_profile::{self, Layout};
use smbgw_core::format::{smbstatus, tdb, testparm};

fuzz_target!(|bytes: &[u8]| {
    let _ = tdb::records(bytes);
    let sums = smb_profile::parse_file(bytes, &[]);
    let _ = smb_profile::parse_file(bytes, &[0, 3, usize::MAX]);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let counters = smb_profile::parse_text(text);
    if let Ok(sums) = sums {
        let _ = Layout::learn(&sums, &counters, &sums);
    }
    let trees = ["/srv/a", "/srv"];
    let _ = smbstatus::parse_opens(text, &trees);
    let _ = (smbstatus::session_lines(text), smbstatus::tcon_lines(text), smbstatus::count_locks(text, &trees, |pid| pid % 2 == 0));
    let _ = (smbstatus::parse_sessions(text), smbstatus::parse_tcons(text), smbstatus::parse_version(text));
    let _ = (testparm::parse_stderr(text), testparm::parse_stdout(text));

    // Our include line comes in and goes out again, and nothing else changes for Samba.
    let conf = SmbConf::parse(text);
    let (marker, path) = ("# smbgw: managed", "/etc/samba/smbgw.conf");
    let absent = matches!(smb_conf::find_include(text, marker, path), smb_conf::IncludeState::Absent);
    if let (true, Ok(with)) = (absent, smb_conf::add_include(text, marker, path)) {
        assert!(matches!(smb_conf::find_include(&with, marker, path), smb_conf::IncludeState::Present { last_global: true, .. }));
        assert_eq!(smb_conf::remove_include(&with, marker, path).expect("it is there").as_deref(), Some(text));
    }
    let _ = conf.findings();
});
