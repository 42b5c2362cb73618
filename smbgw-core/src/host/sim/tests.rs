// SPDX-License-Identifier: MIT OR Apache-2.0
//! The fake against what the real programs were seen to do (Debian 12: shadow 4.13, Samba 4.17.12).

use super::*;
use crate::effect::FileSpec;

fn secrets() -> Secrets {
    let mut s = Secrets::default();
    s.put("password", b"pass word".to_vec());
    s
}

/// Runs a command: status, stdout, stderr.
fn run(sim: &SimHost, program: Program, args: &[&str]) -> (i32, String, String) {
    run_cmd(sim, &Cmd::new(program, args.iter().copied()))
}

fn run_cmd(sim: &SimHost, cmd: &Cmd) -> (i32, String, String) {
    let host: &dyn Host = sim;
    let out = host.run(cmd, &secrets()).expect("the command starts");
    (out.status, out.out(), out.err())
}

fn ok(sim: &SimHost, program: Program, args: &[&str]) -> String {
    let (status, out, err) = run(sim, program, args);
    assert_eq!(status, 0, "{} {args:?}: {out}{err}", program.name());
    out
}

fn useradd(sim: &SimHost, name: &str, uid: &str, gid: &str) -> (i32, String, String) {
    let args = ["--system", "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", "--uid", uid];
    run(sim, Program::Useradd, &[&args[..], &["--gid", gid, "--comment", "a person", name]].concat())
}

/// A machine with a share `data` and the user `anna`, who has a password, and smbd running.
fn served(options: &str) -> SimHost {
    let sim = SimHost::debian();
    sim.change(|w| {
        let conf = format!("[global]\nmap to guest = never\n[data]\npath = /srv/data\nread only = no\n{options}");
        w.files.put(SMB_CONF, conf, 0o644, 0, 0);
        w.files.put_dir("/srv/data", 0o777, 0, 0);
    });
    ok(&sim, Program::Groupadd, &["--gid", "2001", "staff"]);
    for (name, uid) in [("anna", "3001"), ("ben", "3002")] {
        assert_eq!(useradd(&sim, name, uid, "100").0, 0);
        let cmd = Cmd::new(Program::Smbpasswd, ["-s", "-a", name]).secret("password", 2);
        assert_eq!(run_cmd(&sim, &cmd), (0, format!("Added user {name}.\n"), String::new()));
        sim.change(|w| w.files.put(format!("/root/{name}"), format!("username = {name}\npassword = pass word\n"), 0o600, 0, 0));
    }
    sim.change(|w| w.files.put("/root/local", "hello\n", 0o600, 0, 0));
    sim.start_smbd();
    sim
}

fn client(sim: &SimHost, who: &str, commands: &str) -> (i32, String) {
    let (status, out, err) = run(sim, Program::Smbclient, &["//127.0.0.1/data", "-A", &format!("/root/{who}"), "-c", commands]);
    (status, out + &err)
}

#[test]
fn accounts_are_made_and_removed_without_a_trace() {
    let sim = SimHost::debian();
    let before = sim.world();
    ok(&sim, Program::Groupadd, &["--gid", "2001", "staff"]);
    let (status, _, warning) = useradd(&sim, "anna", "2001", "2001");
    assert_eq!((status, warning.as_str()), (0, "useradd warning: anna's uid 2001 is greater than SYS_UID_MAX 999\n"));
    let after = sim.world();
    assert!(after.files.text("/etc/passwd").ends_with("\nanna:x:2001:2001:a person:/nonexistent:/usr/sbin/nologin\n"));
    assert!(after.files.text("/etc/shadow").ends_with("\nanna:!:20454::::::\n"));
    assert!(after.files.text("/etc/gshadow").ends_with("\nstaff:!::\n"));
    assert_eq!(
        before.differences(&after),
        [
            "/etc/group: + staff:x:2001:",
            "/etc/gshadow: + staff:!::",
            "/etc/passwd: + anna:x:2001:2001:a person:/nonexistent:/usr/sbin/nologin",
            "/etc/shadow: + anna:!:20454::::::",
        ]
    );
    assert_eq!(run(&sim, Program::Groupdel, &["staff"]).0, 8);
    ok(&sim, Program::Groupadd, &["--gid", "2002", "more"]);
    assert_eq!(ok(&sim, Program::Gpasswd, &["--add", "anna", "more"]), "Adding user anna to group more\n");
    assert!(is_member(&sim.world().files, &user(&sim.world().files, "anna").unwrap(), "more"));
    assert!(sim.world().files.text("/etc/gshadow").ends_with("more:!::anna\n"));
    ok(&sim, Program::Userdel, &["anna"]);
    assert!(sim.world().files.text("/etc/group").ends_with("more:x:2002:\n"));
    ok(&sim, Program::Groupdel, &["staff"]);
    ok(&sim, Program::Groupdel, &["more"]);
    assert_eq!(before.differences(&sim.world()), Vec::<String>::new());
    assert_eq!(before, sim.world());
}

#[test]
fn account_tools_refuse_as_the_real_ones() {
    let sim = SimHost::debian();
    ok(&sim, Program::Groupadd, &["--gid", "2001", "staff"]);
    useradd(&sim, "anna", "2001", "2001");
    let cases: [(Program, &[&str], i32, &str); 13] = [
        (Program::Groupadd, &["--gid", "2002", "staff"], 9, "groupadd: group 'staff' already exists\n"),
        (Program::Groupadd, &["--gid", "2001", "other"], 4, "groupadd: GID '2001' already exists\n"),
        (Program::Groupadd, &["--gid", "2003", "bad name"], 3, "groupadd: 'bad name' is not a valid group name\n"),
        (Program::Groupdel, &["nobodies"], 6, "groupdel: group 'nobodies' does not exist\n"),
        (Program::Gpasswd, &["--add", "ghost", "staff"], 3, "gpasswd: user 'ghost' does not exist\n"),
        (Program::Gpasswd, &["--add", "anna", "ghosts"], 3, "gpasswd: group 'ghosts' does not exist in /etc/group\n"),
        (Program::Gpasswd, &["--delete", "anna", "staff"], 3, "gpasswd: user 'anna' is not a member of 'staff'\n"),
        (Program::Useradd, &["--uid", "2005", "--gid", "2001", "anna"], 9, "useradd: user 'anna' already exists\n"),
        (Program::Useradd, &["--uid", "2001", "--gid", "2001", "ben"], 4, "useradd: UID 2001 is not unique\n"),
        (Program::Useradd, &["--uid", "2005", "--gid", "2099", "ben"], 6, "useradd: group '2099' does not exist\n"),
        (Program::Useradd, &["--uid", "2005", "--comment", "a:b", "ben"], 3, "useradd: invalid comment 'a:b'\n"),
        (Program::Userdel, &["ghost"], 6, "userdel: user 'ghost' does not exist\n"),
        (Program::Usermod, &["--append", "--groups", "nog", "anna"], 6, "usermod: group 'nog' does not exist\n"),
    ];
    let before = sim.world();
    for (program, args, status, text) in cases {
        let (got, _, err) = run(&sim, program, args);
        assert_eq!((got, err.as_str()), (status, text), "{} {args:?}", program.name());
    }
    assert_eq!(before, sim.world());
    ok(&sim, Program::Usermod, &["--lock", "--expiredate", "1", "anna"]);
    assert!(sim.world().files.text("/etc/shadow").ends_with("anna:!:20454:::::1:\n"));
    ok(&sim, Program::Usermod, &["--expiredate", "1970-01-02", "--comment", "x y", "anna"]);
    assert!(sim.world().files.text("/etc/shadow").ends_with(":1:\n"));
    assert!(sim.world().files.text("/etc/passwd").contains(":x y:"));
    ok(&sim, Program::Usermod, &["--expiredate", "", "anna"]);
    assert!(sim.world().files.text("/etc/shadow").ends_with("anna:!:20454::::::\n"));
}

#[test]
fn account_tools_wait_for_their_lock_and_give_up() {
    let sim = SimHost::debian();
    sim.hold_lock("/etc/.pwd.lock", "another useradd");
    let cmd = Cmd::new(Program::Userdel, ["nobody"]).within_ms(20_000);
    assert_eq!(run_cmd(&sim, &cmd).2, "userdel: cannot lock /etc/passwd; try again later.\n");
    let short: &dyn Host = &sim;
    assert!(short.run(&Cmd::new(Program::Userdel, ["nobody"]), &secrets()).unwrap().timed_out);
    sim.release_lock("/etc/.pwd.lock");
    ok(&sim, Program::Userdel, &["nobody"]);
}

#[test]
fn passdb_keeps_passwords_and_flags() {
    let sim = served("");
    let line = |flags: &str| format!("anna:3001:{}:{}:[{flags:<11}]:LCT-", "X".repeat(32), nt_hash("pass word"));
    assert!(ok(&sim, Program::Pdbedit, &["-L", "-w", "-u", "anna"]).starts_with(&line("U")));
    assert_eq!(ok(&sim, Program::Smbpasswd, &["-d", "anna"]), "Disabled user anna.\n");
    assert!(ok(&sim, Program::Pdbedit, &["-Lw"]).starts_with(&line("DU")));
    assert_eq!(client(&sim, "anna", "ls"), (1, "session setup failed: NT_STATUS_ACCOUNT_DISABLED\n".into()));
    assert_eq!(ok(&sim, Program::Smbpasswd, &["-e", "anna"]), "Enabled user anna.\n");
    assert!(
        ok(&sim, Program::Pdbedit, &["-L", "-v", "-u", "anna"])
            .contains("\nUser SID:             S-1-5-21-1000000001-2000000002-3000000003-1000\n")
    );
    for (args, text) in [
        (["-x", "ghost"], "Failed to find entry for user ghost.\n"),
        (["-d", "ghost"], "Failed to find entry for user ghost.\n"),
        (["-e", "ghost"], "Failed to find user ghost in passdb backend.\n"),
    ] {
        assert_eq!(run(&sim, Program::Smbpasswd, &args), (1, String::new(), text.into()));
    }
    let add = Cmd::new(Program::Smbpasswd, ["-s", "-a", "ghost"]).secret("password", 2);
    assert_eq!(run_cmd(&sim, &add).2, "Failed to add entry for user ghost.\n");
    assert_eq!(run(&sim, Program::Smbpasswd, &["-s", "-a", "anna"]).2, "Unable to get new password.\n");
    assert_eq!(run(&sim, Program::Pdbedit, &["-L", "-w", "-u", "ghost"]), (255, String::new(), "Username not found!\n".into()));
    let gone = "user ghost does not exist in the passdb\n";
    assert_eq!(run(&sim, Program::Pdbedit, &["-x", "-u", "ghost"]), (255, String::new(), gone.into()));
    assert_eq!(ok(&sim, Program::Smbpasswd, &["-x", "anna"]), "Deleted user anna.\n");
    assert!(!sim.world().passdb.contains_key("anna"));
}

#[test]
fn an_account_comes_back_with_its_hash_and_rid() {
    let sim = served("");
    let kept = ok(&sim, Program::Pdbedit, &["-L", "-w", "-u", "anna"]);
    ok(&sim, Program::Pdbedit, &["-x", "-u", "anna"]);
    sim.change(|w| w.files.put("/run/kept", &kept, 0o600, 0, 0));
    assert_eq!(ok(&sim, Program::Pdbedit, &["-i", "smbpasswd:/run/kept"]), "Importing account for anna...ok\n");
    assert_eq!(ok(&sim, Program::Pdbedit, &["-L", "-w", "-u", "anna"]), kept);
    assert_eq!(sim.world().passdb["anna"].rid, 2 * 3001 + 1000);
    ok(&sim, Program::Pdbedit, &["-r", "-u", "anna", "-U", "1000"]);
    assert_eq!(sim.world().passdb["anna"].rid, 1000);
    let taken = Cmd::new(Program::Pdbedit, ["-r", "-u", "ben", "-U", "1000"]);
    assert_eq!(run_cmd(&sim, &taken).0, 255);
    let new = Cmd::new(Program::Pdbedit, ["-a", "-t", "-u", "nobody", "-U", "7002"]).secret("password", 2);
    assert_eq!(run_cmd(&sim, &new).0, 0);
    assert_eq!(sim.world().passdb["nobody"].rid, 7002);
    // The Unix account is gone: smbpasswd cannot remove the entry any more, pdbedit can.
    ok(&sim, Program::Userdel, &["anna"]);
    assert!(ok(&sim, Program::Pdbedit, &["-L"]).contains("anna:4294967295:\n"));
    assert_eq!(run(&sim, Program::Smbpasswd, &["-x", "anna"]).0, 1);
    assert_eq!(
        run(&sim, Program::Pdbedit, &["-x", "-u", "anna"]),
        (0, String::new(), "Failed to find a Unix account for anna\n".into())
    );
    assert_eq!(run(&sim, Program::Pdbedit, &["-i", "smbpasswd:/run/kept"]).0, 0);
    assert!(!sim.world().passdb.contains_key("anna"), "without a Unix account nothing is imported, and rc is 0 all the same");
}

/// testparm of a text: status, stdout, stderr without its first line.
fn testparm(text: &str) -> (i32, String, String) {
    let sim = SimHost::debian();
    sim.change(|w| {
        w.files.put("/t.conf", text, 0o644, 0, 0);
        w.files.put("/inc.conf", "[Data x]\n path = /srv/data\n writeable = yes\n valid users = +g1, u2\n nonsense = 1\n[global]\n server min protocol = SMB3_11\n", 0o644, 0, 0);
        w.files.put("/broken.conf", "[o]\npath=/o\n[broken\n", 0o644, 0, 0);
        w.files.put("/share.conf", "[o]\npath=/o\n", 0o644, 0, 0);
    });
    let (status, out, err) = run(&sim, Program::Testparm, &["-s", "/t.conf"]);
    (status, out, err.strip_prefix("Load smb config files from /t.conf\n").expect("its first line").to_owned())
}

const LOADED: &str = "Loaded services file OK.\nWeak crypto is allowed by GnuTLS (e.g. NTLM as a compatibility fallback)\n\nServer role: ROLE_STANDALONE\n\n";

#[test]
fn testparm_prints_what_is_in_effect() {
    let text = "[global]\n workgroup = WORKGROUP\ninclude = /inc.conf\nmap to guest = never\n[a]\n path=/srv\n writable = true\n create mode = 0660\n vfs object = acl_xattr\n comment = hi there\n";
    let (status, out, err) = testparm(text);
    assert_eq!(status, 0);
    assert_eq!(
        out,
        "# Global parameters\n[global]\n\tserver min protocol = SMB3\n\tidmap config * : backend = tdb\n\tinclude = /inc.conf\n\n\n\
         [Data x]\n\tpath = /srv/data\n\tread only = No\n\tvalid users = +g1 u2\n\n\n\
         [a]\n\tcomment = hi there\n\tcreate mask = 0660\n\tpath = /srv\n\tread only = No\n\tvfs objects = acl_xattr\n"
    );
    assert_eq!(err, format!("Unknown parameter encountered: \"nonsense\"\nIgnoring unknown parameter \"nonsense\"\n{LOADED}"));
}

#[test]
fn a_share_takes_the_defaults_of_its_moment() {
    let text = "[a]\npath=/srv\nserver min protocol = SMB3\nread only = yes\n[global]\nread only = no\ninherit owner = yes\nserver signing = mandatory\n[b]\npath=/srv\n[A]\ncomment = again\n[c]\npath=/srv\nread only = yes\n";
    let (status, out, err) = testparm(text);
    assert_eq!(status, 0);
    assert_eq!(
        out,
        "# Global parameters\n[global]\n\tserver signing = required\n\tidmap config * : backend = tdb\n\tinherit owner = windows and unix\n\tread only = No\n\n\n\
         [a]\n\tcomment = again\n\tinherit owner = no\n\tpath = /srv\n\tread only = Yes\n\n\n[b]\n\tpath = /srv\n\n\n[c]\n\tpath = /srv\n\tread only = Yes\n"
    );
    assert!(err.starts_with("Global parameter server min protocol found in service section!\n"), "{err}");
}

#[test]
fn values_are_spelled_as_testparm_spells_them() {
    let text = "[global]\nserver smb encrypt = required\nserver signing=auto\nntlm auth = no\nserver min protocol=SMB3_00\nmap to guest=bad user\nvfs objects = fruit,streams_xattr  acl_xattr\nfoo:bar = 3\n[b]\npath=/srv\nfoo:baz = 4\n valid users = \"a b\", c\nread list = @g \"x y\"\nserver smb encrypt = off\nveto files = /a/b/\ncreate mask=770\nforce create mode=0660\nmax connections=0x10\ninherit owner = unix only\nhosts allow = 10. 127.\n hide dot files=no\n force group = +g1\n";
    let (status, out, err) = testparm(text);
    assert_eq!((status, err.as_str()), (0, LOADED));
    let share = "\n\n[b]\n\tcreate mask = 0770\n\tforce create mode = 0660\n\tforce group = +g1\n\thide dot files = No\n\thosts allow = 10. 127.\n\tinherit owner = unix only\n\tmax connections = 16\n\tpath = /srv\n\tread list = @g \"x y\"\n\tserver smb encrypt = No\n\tvalid users = \"a b\" c\n\tveto files = /a/b/\n\tvfs objects = \n\tfoo:baz = 4\n";
    // The share inherits `vfs objects` of [global], as it was set before.
    let share = share.replace("\tvfs objects = \n", "");
    assert_eq!(
        out,
        format!(
            "# Global parameters\n[global]\n\tmap to guest = Bad User\n\tserver min protocol = SMB3_00\n\tserver signing = if_required\n\tfoo:bar = 3\n\tidmap config * : backend = tdb\n\tserver smb encrypt = required\n\tvfs objects = fruit streams_xattr acl_xattr\n{share}"
        )
    );
}

#[test]
fn testparm_is_silent_where_the_real_one_is() {
    let (status, out, err) =
        testparm("workgroup = Y\nnovalue\ninclude=/nonexist.conf\n[x]\npath = /a\\\n b\n; c\n# d\nguest ok = 1\n");
    assert_eq!((status, err.as_str()), (0, LOADED));
    assert!(out.contains("\tworkgroup = Y\n") && out.contains("[x]\n\tguest ok = Yes\n\tpath = /a b\n"), "{out}");
    let (status, out, err) = testparm("[data]\nread only = no\n");
    assert_eq!((status, out.contains("[data]\n\tavailable = No\n\tread only = No\n")), (0, true));
    assert!(
        err.starts_with(
            "WARNING: No path in service data - making it unavailable!\nNOTE: Service data is flagged unavailable.\n"
        )
    );
    for (text, said) in [
        ("[global\n  workgroup = X\n", ""),
        ("[global]\ninclude = /broken.conf\n", ""),
        ("[global]\n=x\n", ""),
        ("[x]\nread only=maybe\n", "set_variable_helper(maybe): value is not boolean!\n"),
        (
            "[global]\nserver min protocol = SMB9\n",
            "WARNING: Ignoring invalid value 'SMB9' for parameter 'server min protocol'\n",
        ),
        ("[]\n", "The following message indicates an internal error:\nNo service name in service entry.\n"),
    ] {
        assert_eq!(testparm(text), (1, String::new(), format!("{said}Error loading services.\n")), "{text:?}");
    }
    // An included file that ends in a share leaves us in it.
    let (_, _, err) = testparm("[global]\ninclude = /share.conf\nworkgroup = W\n");
    assert!(err.starts_with("Global parameter workgroup found in service section!\n"), "{err}");
    let sim = served("");
    assert_eq!(ok(&sim, Program::Testparm, &["-s", "--parameter-name=server min protocol"]), "SMB2_02\n");
    assert_eq!(ok(&sim, Program::Testparm, &["-s", SMB_CONF, "--section-name=data", "--parameter-name=path"]), "/srv/data\n");
    assert!(run(&sim, Program::Testparm, &["-s", "--section-name=nope"]).2.ends_with("Unknown section nope\n"));
    assert!(ok(&sim, Program::Testparm, &["-s", "-v"]).contains("\tmap to guest = Never\n"));
}

#[test]
fn a_client_reads_and_writes_what_it_may() {
    let sim =
        served("write list = anna\nread list = +staff\ninherit owner = unix only\nforce group = staff\ndirectory mask = 0775\n");
    let (status, text) = client(&sim, "anna", "put /root/local \"a file\"; ls; get \"a file\" /root/back");
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("  a file   ") && text.contains("putting file /root/local as \\a file "), "{text}");
    let world = sim.world();
    let node = world.files.get("/srv/data/a file").unwrap();
    assert_eq!((node.uid, node.gid), (0, 2001));
    assert_eq!(world.files.text("/root/back"), "hello\n");
    let before = sim.world();
    ok(&sim, Program::Gpasswd, &["-a", "ben", "staff"]);
    assert_eq!(client(&sim, "ben", "put /root/local x"), (1, "NT_STATUS_ACCESS_DENIED opening remote file \\x\n".into()));
    assert_eq!(
        client(&sim, "ben", "get nofile /x"),
        (1, "NT_STATUS_OBJECT_NAME_NOT_FOUND opening remote file \\nofile\n".into())
    );
    assert_eq!(client(&sim, "ben", "put /root/local x; ls").0, 0, "only the last command counts");
    assert_eq!(client(&sim, "anna", "put /nolocal x"), (1, "/nolocal does not exist\n".into()));
    ok(&sim, Program::Gpasswd, &["-d", "ben", "staff"]);
    assert_eq!(before, sim.world());
    assert_eq!(client(&sim, "anna", "del \"a file\""), (0, String::new()));
    assert_eq!(client(&sim, "anna", "del \"a file\""), (1, "NT_STATUS_NO_SUCH_FILE listing \\a file\n".into()));
    assert_eq!(
        client(&sim, "anna", "mkdir d; put /root/local d/f; del d\\f; rmdir d"),
        (0, "putting file /root/local as \\d\\f (1.0 kb/s) (average 1.0 kb/s)\n".into())
    );
}

#[test]
fn clients_are_refused_with_the_real_words() {
    let sim = served("valid users = +staff\n");
    assert_eq!(client(&sim, "anna", "ls"), (1, "tree connect failed: NT_STATUS_ACCESS_DENIED\n".into()));
    ok(&sim, Program::Gpasswd, &["-a", "anna", "staff"]);
    assert_eq!(client(&sim, "anna", "ls").0, 0);
    sim.change(|w| w.files.put("/root/wrong", "username=anna\npassword=x\n", 0o600, 0, 0));
    assert_eq!(client(&sim, "wrong", "ls"), (1, "session setup failed: NT_STATUS_LOGON_FAILURE\n".into()));
    assert_eq!(
        client(&sim, "nofile", "ls").1,
        "ERROR: Unable to open credentials file!\nFailed to set parse authentication file!\n"
    );
    let args = ["//127.0.0.1/none", "-A", "/root/anna", "-c", "ls"];
    assert_eq!(run(&sim, Program::Smbclient, &args).1, "tree connect failed: NT_STATUS_BAD_NETWORK_NAME\n");
    let args = ["//127.0.0.1/data", "-A", "/root/anna", "-m", "NT1", "-c", "ls"];
    assert_eq!(run(&sim, Program::Smbclient, &args).1, "protocol negotiation failed: NT_STATUS_INVALID_NETWORK_RESPONSE\n");
    // The kernel's rights count too, and so does the share ACL.
    sim.change(|w| {
        w.files.take("/srv/data");
        w.files.put_dir("/srv/data", 0o755, 0, 0);
    });
    assert_eq!(client(&sim, "anna", "put /root/local x").1, "NT_STATUS_ACCESS_DENIED opening remote file \\x\n");
    ok(&sim, Program::Sharesec, &["data", "--replace=S-1-5-32-544:ALLOWED/0x0/FULL"]);
    assert_eq!(client(&sim, "anna", "ls").1, "tree connect failed: NT_STATUS_ACCESS_DENIED\n");
    ok(&sim, Program::Smbcontrol, &["smbd", "shutdown"]);
    assert_eq!(client(&sim, "anna", "ls").1, "do_connect: Connection to 127.0.0.1 failed (Error NT_STATUS_CONNECTION_REFUSED)\n");
}

#[test]
fn share_acls_are_seen_replaced_and_deleted() {
    let sim = served("");
    let acl = |sid: &str, rights: &str| format!("REVISION:1\nCONTROL:SR|DP\nOWNER:\nGROUP:\nACL:{sid}:ALLOWED/0x0/{rights}\n");
    assert_eq!(ok(&sim, Program::Sharesec, &["data", "--view"]), acl("S-1-1-0", "FULL"));
    ok(&sim, Program::Sharesec, &["DATA", "-R", "S-1-22-1-3001:ALLOWED/0x0/READ"]);
    assert_eq!(ok(&sim, Program::Sharesec, &["data", "-v"]), acl("S-1-22-1-3001", "READ"));
    assert_eq!((sim.access("anna", "data"), sim.access("ben", "data")), (Some(Access::Read), None));
    assert_eq!(run(&sim, Program::Sharesec, &["data", "-R", "bogus"]).1, "ACE 'bogus': missing ':'.\n");
    ok(&sim, Program::Sharesec, &["data", "--delete"]);
    let (status, _, err) = run(&sim, Program::Sharesec, &["data", "-D"]);
    assert!(
        status == 255 && err.starts_with("delete_share_security: Failed to delete entry for share data: NT_STATUS_NOT_FOUND\n")
    );
    assert_eq!(run(&sim, Program::Sharesec, &["no", "-v"]), (255, String::new(), "Invalid sharename: no\n".into()));
}

#[test]
fn sessions_end_when_told_and_only_those() {
    let sim = served("");
    let anna = sim.connect("anna", "pass word", "data").unwrap();
    let ben = sim.connect("ben", "pass word", "DATA").unwrap();
    let doc = |args: &[&str]| serde_json::from_str::<serde_json::Value>(&ok(&sim, Program::Smbstatus, args)).unwrap();
    assert_eq!(doc(&["-p", "-j"])["sessions"].as_object().unwrap().len(), 2);
    assert!(doc(&["-p", "-j"])["tcons"].is_null());
    let tcons = || {
        doc(&["-S", "-j"])["tcons"]
            .as_object()
            .unwrap()
            .values()
            .map(|t| t["server_id"]["pid"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(tcons(), [anna.to_string(), ben.to_string()]);
    assert_eq!(run(&sim, Program::Userdel, &["anna"]).2, format!("userdel: user anna is currently used by process {anna}\n"));
    // A changed file alone ends nothing; close-denied-share ends those who are out.
    let conf = sim.world().files.text(SMB_CONF);
    sim.change(|w| w.files.put(SMB_CONF, conf.clone() + "valid users = ben\n", 0o644, 0, 0));
    ok(&sim, Program::Smbcontrol, &["smbd", "reload-config"]);
    assert_eq!(tcons().len(), 2);
    ok(&sim, Program::Smbcontrol, &["smbd", "close-denied-share", "data"]);
    assert_eq!(tcons(), [ben.to_string()]);
    // What is not available any more, close-denied-share leaves alone.
    sim.change(|w| w.files.put(SMB_CONF, conf.clone() + "available = no\n", 0o644, 0, 0));
    ok(&sim, Program::Smbcontrol, &["smbd", "reload-config"]);
    ok(&sim, Program::Smbcontrol, &["smbd", "close-denied-share", "data"]);
    assert_eq!(tcons(), [ben.to_string()]);
    // Fewer rights in the share are enough to be closed.
    sim.change(|w| w.files.put(SMB_CONF, conf.clone() + "read list = ben\n", 0o644, 0, 0));
    ok(&sim, Program::Smbcontrol, &["smbd", "close-denied-share", "data"]);
    assert_eq!(tcons(), [ben.to_string()], "not before the reload");
    ok(&sim, Program::Smbcontrol, &["smbd", "reload-config"]);
    ok(&sim, Program::Smbcontrol, &["smbd", "close-denied-share", "data"]);
    assert!(tcons().is_empty());
    sim.change(|w| w.files.put(SMB_CONF, conf.clone(), 0o644, 0, 0));
    let anna_again = sim.connect("anna", "pass word", "data").unwrap();
    assert_eq!(tcons(), [anna_again.to_string()]);
    ok(&sim, Program::Smbcontrol, &["smbd", "close-share", "DATA"]);
    assert!(tcons().is_empty());
    assert_eq!(doc(&["-p", "-j"])["sessions"].as_object().unwrap().len(), 3, "the sessions stay");
    assert!(sim.process(anna, "smbd").expect("known").is_some() && sim.process(anna, "sshd").expect("known").is_none());
    ok(&sim, Program::Smbcontrol, &[&anna.to_string(), "shutdown"]);
    assert_eq!(doc(&["-p", "-j"])["sessions"].as_object().unwrap().len(), 2);
    assert_eq!(run(&sim, Program::Smbcontrol, &["4711", "shutdown"]), (1, String::new(), String::new()));
}

#[test]
fn smbd_starts_stops_and_keeps_its_configuration() {
    let sim = served("");
    let pid = sim.world().smbd.unwrap().pid;
    assert_eq!(sim.world().files.text(PID_FILE), format!("{pid}\n"));
    ok(&sim, Program::Smbd, &["-D"]);
    assert_eq!(sim.world().smbd.unwrap().pid, pid, "a second one goes away");
    // A broken file: the reload says nothing and the old configuration stays.
    sim.change(|w| w.files.put(SMB_CONF, "[global\n", 0o644, 0, 0));
    assert_eq!(run(&sim, Program::Smbcontrol, &["smbd", "reload-config"]), (0, String::new(), String::new()));
    assert_eq!(client(&sim, "anna", "ls").0, 0);
    ok(&sim, Program::Smbcontrol, &["smbd", "shutdown"]);
    assert!(sim.world().files.get(PID_FILE).is_none());
    assert_eq!(run(&sim, Program::Smbd, &["--daemon"]).0, 1);
    let (status, _, err) = run(&sim, Program::Smbcontrol, &["smbd", "ping"]);
    assert_eq!(
        (status, err.as_str()),
        (1, "Can't load /etc/samba/smb.conf - run testparm to debug it\nCan't find pid for destination 'smbd'\n")
    );
    assert!(run(&sim, Program::Systemctl, &["start", "smbd.service"]).2.starts_with("System has not been booted with systemd"));
    sim.change(|w| {
        w.systemd = true;
        w.files.put(SMB_CONF, STOCK_SMB_CONF, 0o644, 0, 0);
    });
    assert_eq!(run(&sim, Program::Systemctl, &["is-active", "smbd.service"]), (3, "inactive\n".into(), String::new()));
    ok(&sim, Program::Systemctl, &["start", "smbd.service"]);
    assert_eq!(ok(&sim, Program::Systemctl, &["is-active", "smbd.service"]), "active\n");
    assert_eq!(run(&sim, Program::Systemctl, &["start", "nosuch.service"]).0, 5);
    ok(&sim, Program::Systemctl, &["stop", "smbd.service"]);
    assert!(sim.world().smbd.is_none());
    assert_eq!(ok(&sim, Program::Net, &["getlocalsid"]), "SID for domain NODE is: S-1-5-21-1000000001-2000000002-3000000003\n");
}

fn spec(path: &str, content: &str) -> FileSpec {
    FileSpec { path: path.into(), content: content.into(), mode: 0o644, uid: 0, gid: 0 }
}

#[test]
fn a_power_cut_takes_what_was_not_synced_and_a_kill_does_not() {
    let sim = SimHost::debian();
    sim.make_dir(Path::new("/var/lib/x/ops"), 0o700).unwrap();
    sim.append(Path::new("/var/lib/x/ops/1"), b"one\n").unwrap();
    sim.append_lazily(Path::new("/var/lib/x/ops/1"), b"two\n").unwrap();
    sim.append_lazily(Path::new("/var/lib/x/ops/2"), b"lazy\n").unwrap();
    sim.write(&spec("/run/x", "volatile")).unwrap();
    let alive = sim.world();
    let killed = sim.snapshot();
    killed.die(Death::Kill);
    assert_eq!(killed.read(Path::new("/run/x"), 9).unwrap_err().kind(), Kind::Interrupted);
    killed.reboot();
    assert_eq!(killed.world(), alive);
    sim.die(Death::PowerCut);
    sim.reboot();
    let lost = alive.differences(&sim.world());
    assert_eq!(sim.world().files.text("/var/lib/x/ops/1"), "one\n");
    assert!(lost.iter().any(|l| l.starts_with("/var/lib/x/ops/2: gone")), "{lost:?}");
    assert!(lost.iter().any(|l| l.starts_with("/run/x: gone")), "{lost:?}");
    // A later sync of the same file saves what was lazy before.
    sim.append_lazily(Path::new("/var/lib/x/ops/1"), b"two\n").unwrap();
    sim.append(Path::new("/var/lib/x/ops/1"), b"three\n").unwrap();
    sim.reboot();
    assert_eq!(sim.world().files.text("/var/lib/x/ops/1"), "one\ntwo\nthree\n");
}

#[test]
fn after_a_power_cut_only_systemd_brings_smbd_back() {
    let sim = served("");
    sim.connect("anna", "pass word", "data").unwrap();
    client(&sim, "anna", "put /root/local x");
    let with_systemd = sim.snapshot();
    sim.reboot();
    assert!(sim.world().smbd.is_none() && sim.world().files.get(PID_FILE).is_none());
    assert!(sim.world().files.get("/srv/data/x").is_none(), "a client's data was not synced");
    with_systemd.change(|w| (w.systemd, w.smbd_enabled) = (true, true));
    with_systemd.reboot();
    assert!(with_systemd.world().smbd.is_some_and(|s| s.sessions.is_empty()));
}

#[test]
fn a_fault_hits_once_and_does_what_it_says() {
    let path = Path::new("/etc/x");
    let sim = SimHost::debian();
    let before = sim.world();
    sim.fail_call(2);
    sim.write(&spec("/etc/y", "")).unwrap();
    assert_eq!(sim.write(&spec("/etc/x", "1")).unwrap_err().kind(), Kind::Io);
    assert!(sim.world().files.get(path).is_none());
    assert_eq!(sim.armed(), 0);
    sim.write(&spec("/etc/x", "1")).unwrap();
    sim.fail_after(1);
    assert!(sim.remove(path).is_err());
    assert!(sim.world().files.get(path).is_none());
    assert_eq!(sim.calls(), 4);
    sim.remove(Path::new("/etc/y")).unwrap();
    assert_eq!(sim.world(), before);

    sim.fail_after(1);
    assert_eq!(run(&sim, Program::Groupadd, &["--gid", "2001", "staff"]).0, -libc::SIGKILL);
    assert!(sim.world().files.text("/etc/group").contains("staff"));
    sim.arm_command(Program::Groupdel, "staff", 2, Trouble::Exits(10, "cannot lock\n".into()));
    run(&sim, Program::Groupdel, &["other"]);
    assert_eq!(run(&sim, Program::Groupdel, &["staff"]).0, 0);
    assert_eq!(run(&sim, Program::Groupdel, &["staff"]), (10, String::new(), "cannot lock\n".into()));
    assert_eq!(run(&sim, Program::Groupdel, &["staff"]).0, 6);
}

#[test]
fn death_stops_everything_until_the_reboot() {
    let sim = SimHost::debian();
    let before = sim.world();
    let held = sim.lock(Path::new("/run/lock"), "pid 1", Duration::ZERO).unwrap();
    sim.die_at(1, Death::Kill);
    assert_eq!(sim.write(&spec("/etc/x", "1")).unwrap_err().kind(), Kind::Interrupted);
    assert!(sim.is_dead() && !sim.alive(sim.own_process()).expect("known"));
    let host: &dyn Host = &sim;
    assert_eq!(host.run(&Cmd::new(Program::Net, ["getlocalsid"]), &secrets()).unwrap_err().kind(), Kind::Interrupted);
    sim.reboot();
    let again = sim.lock(Path::new("/run/lock"), "pid 2", Duration::ZERO).unwrap();
    drop(held);
    assert!(sim.lock(Path::new("/run/lock"), "pid 3", Duration::ZERO).is_err(), "the old guard must not free the new lock");
    drop(again);
    assert_eq!(sim.world().without(&["/run/lock"]), before);

    sim.arm_append(1, Fault::DiesTorn(Death::PowerCut, 3));
    assert!(sim.append(Path::new("/var/lib/journal"), b"a line\n").is_err());
    sim.reboot();
    assert_eq!(sim.world().files.text("/var/lib/journal"), "a l");
    assert_eq!(sim.journal_writes(), 1);
    sim.arm_call(1, Fault::DiesAfter(Death::Kill));
    assert!(host.run(&Cmd::new(Program::Groupadd, ["--gid", "2001", "staff"]), &secrets()).is_err());
    sim.reboot();
    assert!(sim.world().files.text("/etc/group").contains("staff"));
}

#[test]
fn a_hanging_program_is_ended_at_its_deadline() {
    let sim = SimHost::debian();
    sim.hang(Program::Net);
    let started = sim.monotonic_ms();
    let mut job = sim.start(&Cmd::new(Program::Net, ["getlocalsid"]).within_ms(3000), &secrets()).unwrap();
    assert_eq!(job.poll(Duration::from_secs(1)).unwrap(), None);
    assert!(sim.alive(job.process()).expect("known") && sim.process(job.process().pid, "net").expect("known").is_some());
    let out = loop {
        if let Some(out) = job.poll(Duration::from_secs(1)).unwrap() {
            break out;
        }
    };
    assert!(out.timed_out && !sim.alive(job.process()).expect("known"));
    assert!((3000..3100).contains(&(sim.monotonic_ms() - started)));
}

#[test]
fn a_lock_names_its_holder() {
    let sim = SimHost::debian();
    let path = Path::new("/run/lock");
    sim.hold_lock(path, "pid 77, share.create of office");
    let before = sim.monotonic_ms();
    let busy = sim.lock(path, "me", Duration::from_secs(10)).err().unwrap();
    assert_eq!(busy.kind(), Kind::Busy);
    assert!(busy.to_string().contains("pid 77, share.create of office"));
    assert!(sim.monotonic_ms() - before >= 10_000);
    sim.release_lock(path);
    drop(sim.lock(path, "me", Duration::ZERO).unwrap());
    drop(sim.lock(path, "me", Duration::ZERO).unwrap());
}

#[test]
fn trees_are_what_they_were() {
    let sim = SimHost::debian();
    let path = Path::new("/srv/office");
    let seen = sim.tree(path).unwrap();
    assert_eq!((seen.fs_type.as_str(), seen.is_mount), ("ext4", false));
    sim.set_tree(path, seen.fsid, seen.ino, 0, 2001, 0o2770).unwrap();
    assert_eq!(sim.tree(path).unwrap().mode, 0o2770);
    sim.change(|w| {
        w.files.put("/srv/office/a", "", 0o660, 3001, 2001);
        w.files.put_link("/srv/link", "/srv/office");
        w.files.mount("/srv/office/sub", Mount::new(7, "xfs"));
        w.files.put("/srv/office/sub/b", "", 0o660, 3001, 2001);
    });
    let survey = sim.survey(path, &[3001], &[2001], Duration::from_secs(1)).unwrap();
    assert_eq!((survey.by_uid[&3001], survey.by_gid[&2001], survey.complete), (1, 2, true));
    assert_eq!(sim.tree(path).unwrap().mounts_inside, [PathBuf::from("/srv/office/sub")]);
    let err = sim.tree(Path::new("/srv/link/sub")).unwrap_err();
    assert!(err.kind() == Kind::Invalid && err.to_string().contains("/srv/link"));
    assert_eq!(sim.tree(Path::new("/srv/none")).unwrap_err().kind(), Kind::NotFound);
    sim.remove_in_tree(path, "a").unwrap();
    assert!(sim.remove_in_tree(path, "../x").is_err());
    // Another directory under the same name is not ours to change.
    sim.change(|w| {
        w.files.take("/srv/office");
        w.files.put_dir("/srv/office", 0o755, 0, 0);
    });
    assert_eq!(sim.set_tree(path, seen.fsid, seen.ino, 0, 0, 0o755).unwrap_err().kind(), Kind::Drift);
    // A file system that goes and comes back is the same one.
    sim.change(|w| {
        w.files.mount("/srv/disk", Mount::new(8, "ext4"));
        w.files.put("/srv/disk/data", "x", 0o644, 0, 0);
    });
    let (mounted, before) = (sim.tree(Path::new("/srv/disk")).unwrap(), sim.world());
    let gone = sim.change(|w| w.files.detach("/srv/disk")).unwrap();
    assert!(!sim.tree(Path::new("/srv/disk")).unwrap().is_mount && sim.list(Path::new("/srv/disk")).unwrap().is_empty());
    assert_ne!(sim.world(), before);
    sim.change(|w| w.files.attach(gone));
    assert_eq!((sim.tree(Path::new("/srv/disk")).unwrap(), sim.world()), (mounted, before));
}

#[test]
fn files_keep_links_owners_and_rules() {
    let sim = SimHost::debian();
    sim.change(|w| {
        w.files.put("/etc/real.conf", "old", 0o644, 0, 0);
        w.files.put_link("/etc/link.conf", "real.conf");
    });
    sim.write(&spec("/etc/link.conf", "new")).unwrap();
    assert_eq!(sim.world().files.text("/etc/real.conf"), "new");
    assert!(matches!(sim.world().files.get("/etc/link.conf").unwrap().thing, Thing::Link(_)));
    assert_eq!(sim.read(Path::new("/etc/link.conf"), 100).unwrap().unwrap().content, b"new");
    assert!(sim.read(Path::new("/etc/link.conf"), 2).is_err() && sim.read(Path::new("/etc"), 2).is_err());
    assert_eq!(sim.read(Path::new("/no/such"), 2).unwrap(), None);
    assert!(sim.write(&spec("/no/such", "")).is_err() && sim.append(Path::new("/no/such"), b"").is_err());
    sim.make_dir(Path::new("/a/b"), 0o700).unwrap();
    assert!(!sim.remove_dir(Path::new("/a")).unwrap());
    assert!(sim.remove_dir(Path::new("/a/b")).unwrap() && sim.remove_dir(Path::new("/a")).unwrap());
    sim.rename(Path::new("/etc/real.conf"), Path::new("/etc/other.conf")).unwrap();
    assert!(sim.exists(Path::new("/etc/link.conf")).unwrap() && sim.read(Path::new("/etc/link.conf"), 9).unwrap().is_none());
    assert!(sim.rename(Path::new("/etc/other.conf"), Path::new("/srv/x")).is_err());
    sim.remove(Path::new("/etc/link.conf")).unwrap();
    sim.remove(Path::new("/etc/link.conf")).unwrap();
    sim.change(|w| w.files.mount_mut("/").unwrap().read_only = true);
    assert!(sim.write(&spec("/etc/x", "")).is_err());
}

#[test]
fn what_is_missing_is_said_with_its_package() {
    let sim = SimHost::debian();
    sim.change(|w| w.installed.remove(&Program::Smbd));
    assert!(!sim.installed(Program::Smbd).expect("known"));
    let err = sim.start(&Cmd::new(Program::Smbd, ["-D"]), &secrets()).err().unwrap();
    assert_eq!((err.kind(), err.remedy_text()), (Kind::Unsupported, Some("apt install samba")));
}

#[test]
fn random_and_clock_are_the_same_each_time() {
    let bytes = |sim: &SimHost| {
        let mut b = [0; 16];
        sim.random(&mut b).unwrap();
        b
    };
    let (a, b) = (SimHost::debian(), SimHost::debian());
    let first = bytes(&a);
    assert_eq!(first, bytes(&b));
    assert_ne!(first, bytes(&a));
    let before = a.now_ms();
    a.list(Path::new("/")).unwrap();
    assert_eq!(a.now_ms(), before + 1);
    assert_eq!(samba::timestamp(1_767_225_600_123), "2026-01-01T00:00:00.123000+0000");
}

// ---- Proxmox VE (pve-container 6.1.6) ----------------------------------------------------------------------------------

const ARCHIVE: &str = "/var/lib/vz/template/cache/debian.tar.zst";
const VOLUME: &str = "local:vztmpl/debian.tar.zst";

/// A node with an archive of a small Debian that has Samba, whose smb.conf serves what is mounted at /data.
fn node() -> SimHost {
    let sim = SimHost::proxmox();
    let include = "--include=systemd-sysv,ifupdown,samba,samba-vfs-modules,smbclient";
    ok(&sim, Program::Debootstrap, &["--variant=minbase", "--arch=amd64", include, "trixie", "/var/tmp/root"]);
    let conf = "[global]\nmap to guest = never\n[data]\npath = /data\nread only = no\n";
    sim.change(|w| {
        w.files.put("/var/tmp/root/etc/samba/smb.conf", conf, 0o644, 0, 0);
        w.files.put("/var/tmp/root/etc/systemd/system-preset/a.preset", "enable smbd.service\ndisable *\n", 0o644, 0, 0);
        w.files.put_dir("/srv/data", 0o2770, 0, 2001);
    });
    ok(&sim, Program::Systemctl, &["--root=/var/tmp/root", "preset-all"]);
    ok(
        &sim,
        Program::Tar,
        &["--zstd", "--exclude=./run/*", "--exclude=./var/cache/apt/*", "-cf", ARCHIVE, "-C", "/var/tmp/root", "."],
    );
    sim
}

fn pct(sim: &SimHost, words: &[&str]) -> String {
    ok(sim, Program::Pct, words)
}

fn refused(sim: &SimHost, words: &[&str]) -> String {
    let (before, (status, out, err)) = (sim.world(), run(sim, Program::Pct, words));
    assert_eq!((status, before.differences(&sim.world())), (255, Vec::new()), "{words:?}: {out}{err}");
    err
}

const CREATE: &[&str] = &[
    "create",
    "100",
    VOLUME,
    "--hostname",
    "files",
    "--ostype",
    "debian",
    "--arch",
    "amd64",
    "--unprivileged",
    "1",
    "--memory",
    "256",
    "--swap",
    "128",
    "--cores",
    "2",
    "--rootfs",
    "local-lvm:2",
    "--net0",
    "name=eth0,bridge=vmbr0,ip=dhcp",
    "--tags",
    "b;A",
];

fn made() -> SimHost {
    let sim = node();
    pct(&sim, CREATE);
    sim
}

fn config(sim: &SimHost) -> String {
    sim.world().files.text("/etc/pve/lxc/100.conf")
}

#[test]
fn a_configuration_is_written_as_proxmox_does() {
    let sim = made();
    let text = config(&sim);
    let hwaddr = text.split("hwaddr=").nth(1).and_then(|t| t.get(..17)).expect("one was chosen").to_owned();
    assert_eq!(
        text,
        format!(
            "arch: amd64\ncores: 2\nhostname: files\nmemory: 256\nnet0: name=eth0,bridge=vmbr0,hwaddr={hwaddr},ip=dhcp,type=veth\nostype: debian\n\
             rootfs: local-lvm:vm-100-disk-0,size=2G\nswap: 128\ntags: a;b\nunprivileged: 1\n"
        )
    );
    pct(&sim, &["set", "100", "--mp0", "mp=/data,mountoptions=nosuid,/srv/data,backup=0"]);
    assert!(config(&sim).contains("mp0: /srv/data,mp=/data,backup=0,mountoptions=nosuid\n"));
}

#[test]
fn pct_is_strict_about_its_words() {
    let sim = made();
    for (words, says) in [
        (&["set", "100", "--memry", "512"][..], "Unknown option: memry"),
        (&["set", "100", "--memory", "8"], "memory: value must have a minimum value of 16"),
        (&["set", "100", "--memory", "x"], "type check ('integer') failed"),
        (&["set", "100", "--mp0", "/srv/data"], "mp0.mp: property is missing"),
        (&["set", "100", "--mp0", "/srv/data,mp=/data,user=1"], "mp0.user: property is not defined in schema"),
        (&["set", "100", "--mp0", "/srv/data,mp=/data,mountoptions=nodev,nosuid"], "mp0"),
        (&["set", "100", "--mp256", "/srv/data,mp=/data"], "Unknown option: mp256"),
        (&["set", "100", "--net0", "bridge=vmbr0"], "net0.name: property is missing"),
        (&["set", "100", "--delete", "mp99999"], "unknown option 'mp99999'"),
        (&["set", "100", "--delete", "memory"], "unable to delete required option"),
        (&["set", "100", "--unprivileged", "0"], "read-only option"),
        (&["set", "100"], "no options specified"),
        (&["set", "99", "--memory", "512"], "does not look like a valid VM ID"),
        (&["start", "100", "--force"], "Unknown option: force"),
        (&["start", "100", "101"], "too many arguments"),
        (&["start", "101"], "Configuration file 'nodes/pve1/lxc/101.conf' does not exist"),
        (&["shutdown", "100"], "CT 100 not running"),
        (&["push", "100", "/etc/hostname", "/root/x"], "can only push files to a running CT"),
        (&["frobnicate", "100"], "unknown command"),
    ] {
        let said = refused(&sim, words);
        assert!(said.contains(says), "{words:?}: {said}");
    }
}

#[test]
fn a_number_is_taken_by_any_guest_of_the_cluster() {
    let sim = node();
    for (file, says) in [
        ("/etc/pve/nodes/pve1/lxc/100.conf", "CT 100 already exists on node 'pve1'"),
        ("/etc/pve/nodes/pve7/lxc/100.conf", "CT 100 already exists on node 'pve7'"),
        ("/etc/pve/nodes/pve7/qemu-server/100.conf", "VM 100 already exists on node 'pve7'"),
    ] {
        let sim = sim.snapshot();
        sim.change(|w| w.files.put(file, "memory: 512\n", 0o640, 0, 33));
        assert!(refused(&sim, CREATE).contains(says));
    }
    let mut elsewhere = CREATE.to_vec();
    elsewhere[2] = "local:vztmpl/none.tar.zst";
    assert!(refused(&sim, &elsewhere).contains("does not exist"));
    sim.change(|w| w.files.put(ARCHIVE, "something else", 0o644, 0, 0));
    assert!(refused(&sim, CREATE).contains("tar"));
}

#[test]
fn a_container_that_runs_shows_in_the_kernels_files_and_ends_without_a_trace() {
    let sim = made();
    sim.change(|w| {
        let text = w.files.text("/etc/pve/lxc/100.conf") + "lxc.cgroup2.pids.max: 500\n";
        w.files.put("/etc/pve/nodes/pve1/lxc/100.conf", text, 0o640, 0, 33);
    });
    let before = sim.world();
    assert_eq!(run(&sim, Program::LxcInfo, &["-n", "100", "-p", "-H"]), (0, String::new(), String::new()));
    assert_eq!(run(&sim, Program::LxcInfo, &["-n", "101", "-p", "-H"]).0, 1);
    pct(&sim, &["start", "100"]);
    let pid = ok(&sim, Program::LxcInfo, &["-n", "100", "-p", "-H"]).trim().to_owned();
    let file = |name: &str| sim.world().files.text(name).trim().to_owned();
    assert_eq!(file(&format!("/proc/{pid}/cgroup")), "0::/lxc/100/ns");
    assert_eq!(file(&format!("/proc/{pid}/uid_map")).split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    assert_eq!(file(&format!("/proc/{pid}/attr/current")), "lxc-100_</var/lib/lxc> (enforce)");
    let group = |name: &str| file(&format!("/sys/fs/cgroup/lxc/100/{name}"));
    assert_eq!((group("memory.max"), group("memory.swap.max")), ("268435456".into(), "134217728".into()));
    assert_eq!((group("pids.max"), group("cpuset.cpus.effective")), ("500".into(), "0-1".into()));
    pct(&sim, &["set", "100", "--memory", "512", "--cores", "1"]);
    assert_eq!(
        (group("memory.max"), group("pids.max"), group("cpuset.cpus.effective")),
        ("536870912".into(), "500".into(), "0".into())
    );
    pct(&sim, &["set", "100", "--memory", "256", "--cores", "2"]);
    assert!(refused(&sim, &["start", "100"]).contains("already running"));
    assert!(refused(&sim, &["destroy", "100"]).contains("is running"));
    pct(&sim, &["shutdown", "100", "--timeout", "60", "--forceStop", "1"]);
    // But for what its smbd makes when it starts for the first time.
    let left = before.differences(&sim.world());
    assert!(matches!(&left[..], [d] if d.contains("/secrets.tdb: new file")), "{left:?}");
    pct(&sim, &["destroy", "100", "--purge", "1"]);
    assert!(sim.world().guests.is_empty() && config(&sim).is_empty());
}

#[test]
fn mounts_come_at_once_and_go_with_the_next_start() {
    let sim = made();
    pct(&sim, &["start", "100"]);
    let mounts = |sim: &SimHost| sim.world().guests[&100].mounts.keys().cloned().collect::<Vec<_>>();
    pct(&sim, &["set", "100", "--mp0", "/srv/data,mp=/data"]);
    assert_eq!(mounts(&sim), ["mp0"]);
    pct(&sim, &["set", "100", "--delete", "mp0"]);
    assert!(config(&sim).ends_with("\n[pve:pending]\ndelete: mp0\n"), "{}", config(&sim));
    assert_eq!(mounts(&sim), ["mp0"]);
    pct(&sim, &["set", "100", "--mp0", "/srv/data,mp=/data"]);
    assert!(!config(&sim).contains("pending"), "set again, it waits for nothing");
    sim.change(|w| w.files.put("/srv/other/file", "x", 0o644, 0, 0));
    pct(&sim, &["set", "100", "--mp1", "/srv/other,mp=/data"]);
    let list = |p: &str| (&sim.within(100) as &dyn Host).list(Path::new(p)).expect("a directory");
    assert_eq!(list("/data"), ["file"], "the later one lies above");
    assert!(sim.world().files.get("/srv/data").is_some() && sim.world().files.get("/srv/other/file").is_some());
    pct(&sim, &["set", "100", "--delete", "mp1"]);
    pct(&sim, &["set", "100", "--mp0", "/srv/data,mp=/other"]);
    assert!(config(&sim).ends_with("\n[pve:pending]\ndelete: mp1\nmp0: /srv/data,mp=/other\n"));
    pct(&sim, &["stop", "100"]);
    pct(&sim, &["start", "100"]);
    assert!(config(&sim).contains("mp0: /srv/data,mp=/other\n") && !config(&sim).contains("pending"));
    pct(&sim, &["stop", "100"]);
    sim.change(|w| w.files.take("/srv/data"));
    assert!(run(&sim, Program::Pct, &["start", "100"]).2.contains("directory '/srv/data' does not exist"));
}

#[test]
fn a_tree_is_the_same_inside_with_mapped_or_shifted_numbers() {
    for (idmap, disk, strange) in [(",idmap=passthrough", 2001, 70_000), ("", 102_001, 2001)] {
        let sim = made();
        sim.change(|w| {
            w.files.put("/srv/data/file", "text", 0o644, disk, disk);
            w.files.put("/srv/data/strange", "text", 0o644, strange, strange);
            w.files.mount("/srv/data/hidden", Mount::new(0x77, "xfs"));
            w.files.put("/srv/data/hidden/below", "text", 0o644, 0, 0);
        });
        pct(&sim, &["set", "100", "--mp0", &format!("/srv/data,mp=/data{idmap}")]);
        pct(&sim, &["start", "100"]);
        let before = sim.world();
        let guest = sim.within(100);
        let host: &dyn Host = &guest;
        let seen = |name: &str| host.read(Path::new(name), 99).expect("readable").map(|f| (f.uid, f.gid));
        assert_eq!((seen("/data/file"), seen("/data/strange")), (Some((2001, 2001)), Some((65_534, 65_534))), "{idmap}");
        assert_eq!(host.list(Path::new("/data/hidden")).expect("a directory"), Vec::<String>::new(), "{idmap}");
        assert_eq!(before.differences(&sim.world()), Vec::<String>::new(), "looking changes nothing");
        let node: &dyn Host = &sim;
        let root = |h: &dyn Host, p: &str| h.tree(Path::new(p)).map(|t| (t.dev, t.ino)).expect("a tree");
        assert_eq!(root(host, "/data"), root(node, "/srv/data"), "one directory, one inode");
        host.write(&FileSpec { path: "/data/new".into(), content: "x".into(), mode: 0o600, uid: 2001, gid: 7 }).expect("written");
        host.remove(Path::new("/data/file")).expect("removed");
        let files = sim.world().files;
        let new = files.get("/srv/data/new").expect("it is on the node");
        assert_eq!((new.uid, new.gid), (disk, disk - 2001 + 7), "{idmap}");
        assert!(files.get("/srv/data/file").is_none());
        assert_eq!(files.get("/srv/data/strange").map(|n| n.uid), Some(strange), "who has no number inside keeps his own");
        assert_eq!(files.text("/srv/data/hidden/below"), "text");
        pct(&sim, &["stop", "100"]);
        assert!(host.read(Path::new("/etc/hostname"), 99).is_err(), "nobody is there");
        assert!(sim.world().guests[&100].world.files.get("/data/new").is_none(), "what is mounted is not part of it");
    }
}

#[test]
fn a_guest_has_services_accounts_and_locks_of_its_own() {
    let sim = made();
    pct(&sim, &["set", "100", "--mp0", "/srv/data,mp=/data,idmap=passthrough"]);
    pct(&sim, &["start", "100"]);
    let guest = sim.within(100);
    assert!(sim.world().smbd.is_none() && sim.world().guests[&100].world.smbd.is_some());
    sim.hold_lock("/etc/.pwd.lock", "somebody on the node");
    ok(&guest, Program::Groupadd, &["--gid", "2001", "staff"]);
    assert_eq!(useradd(&guest, "anna", "3001", "2001").0, 0);
    assert_eq!(run_cmd(&guest, &Cmd::new(Program::Smbpasswd, ["-s", "-a", "anna"]).secret("password", 2)).0, 0);
    assert!(guest.connect("anna", "pass word", "data").is_ok());
    assert!(!sim.world().files.text("/etc/passwd").contains("anna"));
    let sid = "S-1-5-21-1-2-3";
    ok(&guest, Program::Net, &["setlocalsid", sid]);
    assert!(ok(&guest, Program::Net, &["getlocalsid"]).contains(sid));
    assert_eq!(run(&guest, Program::Net, &["setlocalsid", "nonsense"]).0, 1);
    sim.die(Death::PowerCut);
    sim.reboot();
    assert!(!sim.world().guests[&100].running());
    pct(&sim, &["start", "100"]);
    assert!(guest.connect("anna", "pass word", "data").is_ok(), "smbd is enabled");
}

#[test]
fn a_conversation_ends_with_the_container() {
    let sim = made();
    let hand = crate::effect::HAND_INSIDE;
    let cmd = crate::host::guest::Guest::command(crate::types::VmId::new(100).expect("a number"));
    let host: &dyn Host = &sim;
    assert!(host.converse(&cmd).is_err_and(|e| e.to_string().contains("not running")));
    pct(&sim, &["start", "100"]);
    assert!(host.converse(&cmd).is_err_and(|e| e.to_string().contains("No such file")));
    assert!(
        run(&sim, Program::Pct, &["push", "100", crate::effect::HAND, hand]).2.contains("No such file or directory"),
        "no directory for it"
    );
    sim.change(|w| w.guests.get_mut(&100).expect("made").world.files.put_dir("/usr/local/lib/smbgw", 0o755, 0, 0));
    pct(&sim, &["push", "100", crate::effect::HAND, hand, "--perms", "0755", "--user", "0", "--group", "0"]);
    let mut talk = host.converse(&cmd).expect("a conversation");
    let second = Duration::from_secs(1);
    assert!(talk.ask(b"\"hello\"", second).is_ok());
    pct(&sim, &["stop", "100"]);
    pct(&sim, &["start", "100"]);
    assert!(talk.ask(b"\"hello\"", second).is_err(), "that was the one before");
}

#[test]
fn the_ha_manager_brings_about_what_it_is_asked_when_it_looks() {
    let sim = made();
    assert!(run(&sim, Program::HaManager, &["set", "ct:100", "--state", "started"]).2.contains("no such resource"));
    ok(&sim, Program::HaManager, &["add", "ct:100"]);
    sim.pass(Duration::from_secs(11));
    let runs = || !ok(&sim, Program::LxcInfo, &["-n", "100", "-p", "-H"]).is_empty();
    assert!(runs());
    assert!(pct(&sim, &["shutdown", "100"]).contains("Requesting HA stop"));
    sim.pass(Duration::from_secs(11));
    assert!(!runs());
    assert!(refused(&sim, &["destroy", "100"]).contains("used in HA resources"));
    ok(&sim, Program::HaManager, &["set", "ct:100", "--state", "started"]);
    sim.pass(Duration::from_secs(11));
    sim.die(Death::PowerCut);
    sim.reboot();
    sim.pass(Duration::from_secs(11));
    assert!(runs(), "it is started again, whatever ended it");
    assert_eq!(run(&sim, Program::HaManager, &["set", "ct:100", "--state", "off"]).0, 255);
}

#[test]
fn the_kernel_and_pct_are_as_old_as_the_node_says() {
    let sim = made();
    assert!(pct(&sim, &["help", "set", "--verbose", "1"]).contains("idmap="));
    sim.change(|w| {
        w.files.put("/proc/cmdline", "swapaccount=0\n", 0o444, 0, 0);
        w.files.put("/sys/module/apparmor/parameters/enabled", "N\n", 0o444, 0, 0);
        let status = w.files.text("/var/lib/dpkg/status").replace("6.1.6", "6.1.5");
        w.files.put("/var/lib/dpkg/status", status, 0o644, 0, 0);
    });
    assert!(!pct(&sim, &["help", "set", "--verbose", "1"]).contains("idmap="));
    assert!(
        refused(&sim, &["set", "100", "--mp0", "/srv/data,mp=/data,idmap=passthrough"])
            .contains("mp0.idmap: property is not defined")
    );
    pct(&sim, &["start", "100"]);
    let w = sim.world();
    assert!(
        w.files.get("/sys/fs/cgroup/lxc/100/memory.swap.max").is_none()
            && w.files.get("/sys/fs/cgroup/lxc/100/memory.max").is_some()
    );
    let pid = w.guests[&100].init.expect("it runs");
    assert_eq!(w.files.text(format!("/proc/{pid}/attr/current")), "unconfined\n");
}

#[test]
fn archives_hold_what_was_packed_and_only_that() {
    let sim = made();
    let files = sim.world().guests[&100].world.files.clone();
    assert!(files.get("/var/cache/apt/archives").is_none() && files.get("/var/cache/apt").is_some());
    assert!(files.get("/etc/systemd/system/multi-user.target.wants/smbd.service").is_some());
    assert!(files.get("/etc/systemd/system/multi-user.target.wants/nmbd.service").is_none(), "the presets say so");
    let sum = ok(&sim, Program::Sha256sum, &["--binary", "--", ARCHIVE]);
    assert!(sum.ends_with(&format!(" *{ARCHIVE}\n")) && sum.len() == 64 + 3 + ARCHIVE.len(), "{sum}");
    ok(&sim, Program::Install, &["-D", "-m", "0755", "/etc/hostname", "/var/tmp/root/opt/x/y"]);
    sim.change(|w| w.files.mount("/var/tmp/root/proc", Mount::new(0x78, "proc")));
    let (status, _, err) = run(&sim, Program::Rm, &["--recursive", "--force", "--one-file-system", "--", "/var/tmp/root"]);
    assert!(status == 1 && err.contains("different device"), "{err}");
    assert!(sim.world().files.get("/var/tmp/root/proc").is_some() && sim.world().files.get("/var/tmp/root/etc").is_none());
    assert_eq!(run(&sim, Program::Debootstrap, &["--variant=minbase", "--arch=amd64", "sid", "/var/tmp/x"]).0, 1);
}

#[test]
fn names_and_ports_are_those_of_the_network() {
    use crate::net::{DnsAsk, DnsKind, DnsSaid, Reach};
    let sim = SimHost::debian();
    let ip = |s: &str| s.parse::<std::net::IpAddr>().expect("an address");
    let (dc, old, within) = (ip("10.99.1.10"), ip("10.99.1.9"), Duration::from_secs(4));
    let ldap = DnsAsk::new("_LDAP._tcp.Example.test.", DnsKind::Srv);
    let ask = |ask: &DnsAsk| sim.dns(ask, within).expect("an answer");
    let reach = |port: u16| sim.reach((dc, port).into(), within).expect("known");
    let no_way = || "Network is unreachable".to_owned();
    assert_eq!(ask(&ldap).said, DnsSaid::NoServer);
    assert_eq!(ask(&ldap.clone().to(dc)).said, DnsSaid::Unreachable(no_way()));
    assert_eq!(reach(445), Reach::Unreachable(no_way()));
    sim.change(|w| {
        w.files.put("/etc/resolv.conf", "nameserver 10.99.1.9\nnameserver 10.99.1.10\n", 0o644, 0, 0);
        w.net.server(old).mood = Mood::Silent;
        let zone = w.net.server(dc).zone("example.test", "dc1.example.test");
        zone.srv("_ldap._tcp.example.test", 10, 0, 389, "dc2.example.test").address("dc1.example.test", dc);
        zone.srv("_ldap._tcp.example.test", 0, 100, 389, "DC1.example.test.").name(dc, "dc1.example.test");
        w.net.open(dc, &[389, 445]);
        w.net.set(dc, &[88], &Reach::Silent);
    });
    let a = ask(&ldap);
    assert_eq!((a.said, a.server, a.srv[0].target.as_str(), a.srv.len()), (DnsSaid::Answer, Some(dc), "dc1.example.test", 2));
    assert_eq!(a.ms, 2000, "half of the time for the silent one");
    let named = |name: &str, kind| ask(&DnsAsk::new(name, kind).to(dc));
    assert_eq!(named("dc1.example.test", DnsKind::A).addresses, [dc]);
    assert_eq!(named("dc1.example.test", DnsKind::Aaaa).said, DnsSaid::NoData);
    assert_eq!(named("_tcp.example.test", DnsKind::A).said, DnsSaid::NoData, "there are names below");
    assert_eq!(named("dc3.example.test", DnsKind::A).said, DnsSaid::NoName);
    assert_eq!(named(&crate::net::reverse_name(dc), DnsKind::Ptr).names, ["dc1.example.test"]);
    assert_eq!(named("example.test", DnsKind::Soa).names, ["dc1.example.test"]);
    assert_eq!(sim.dns(&DnsAsk::new("a b", DnsKind::A), within).expect_err("no name").kind(), Kind::Invalid);
    assert_eq!((reach(389), reach(22)), (Reach::Open, Reach::Refused));
    let before = sim.monotonic_ms();
    assert_eq!(reach(88), Reach::Silent);
    assert_eq!(sim.monotonic_ms() - before, 4001);
    for (mood, said) in [
        (Mood::Refuses, DnsSaid::Refused),
        (Mood::Fails, DnsSaid::ServFail),
        (Mood::Closed, DnsSaid::Unreachable("Connection refused".into())),
        (Mood::Silent, DnsSaid::Silent),
    ] {
        sim.change(|w| w.net.server(dc).mood = mood);
        assert_eq!(named("dc1.example.test", DnsKind::A).said, said);
    }
    sim.change(|w| {
        w.net.server(dc).mood = Mood::Answers;
        w.net.server(dc).forget("dc1.example.test");
    });
    assert_eq!(named("dc1.example.test", DnsKind::A).said, DnsSaid::NoName);
    assert_eq!(sim.calls(), 0, "looks, no acts");
    sim.die(Death::Kill);
    assert!(sim.dns(&ldap, within).is_err() && sim.reach((dc, 389).into(), within).is_err());
}

#[test]
fn a_container_is_in_the_network_of_its_node() {
    use crate::net::{DnsAsk, DnsKind, DnsSaid, Reach};
    let sim = made();
    let dc: std::net::IpAddr = "10.99.1.10".parse().expect("an address");
    let within = Duration::from_secs(1);
    sim.change(|w| {
        w.files.put("/etc/resolv.conf", "nameserver 10.99.1.10\n", 0o644, 0, 0);
        w.net.server(dc).address("dc1.example.test", dc);
        w.net.open(dc, &[389]);
    });
    let ask = DnsAsk::new("dc1.example.test", DnsKind::A);
    let inside = sim.within(100);
    assert!(inside.dns(&ask, within).is_err() && inside.reach((dc, 389).into(), within).is_err(), "it does not run");
    pct(&sim, &["start", "100"]);
    let hand = crate::effect::HAND_INSIDE;
    sim.change(|w| w.guests.get_mut(&100).expect("made").world.files.put_dir("/usr/local/lib/smbgw", 0o755, 0, 0));
    pct(&sim, &["push", "100", crate::effect::HAND, hand, "--perms", "0755", "--user", "0", "--group", "0"]);
    let guest = crate::host::guest::Guest::new(Rc::new(sim.clone()), crate::types::VmId::new(100).expect("a number"));
    let a = guest.dns(&ask, within).expect("an answer");
    assert_eq!((a.said, a.server, a.addresses), (DnsSaid::Answer, Some(dc), vec![dc]));
    assert_eq!(guest.reach((dc, 389).into(), within).expect("known"), Reach::Open);
    assert_eq!(guest.reach((dc, 22).into(), within).expect("known"), Reach::Refused);
    assert_eq!(guest.dns(&DnsAsk::new("a b", DnsKind::A), within).expect_err("no name").kind(), Kind::Invalid);
    // With a file of its own it goes its own way.
    sim.change(|w| w.guests.get_mut(&100).expect("made").world.files.put("/etc/resolv.conf", "search x\n", 0o644, 0, 0));
    assert_eq!(guest.dns(&ask, within).expect("an answer").said, DnsSaid::NoServer);
}
