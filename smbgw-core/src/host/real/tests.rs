// SPDX-License-Identifier: MIT OR Apache-2.0
//! Children of [`RealHost`](super::RealHost). The product starts programs of its table only; these tests start others, which
//! needs the private `spawn`, so they live beside it.

use std::process::Command;

use super::*;

fn sh(script: &str) -> RealJob {
    sh_with(script, None, Duration::from_secs(20))
}

fn sh_with(script: &str, input: Option<&[u8]>, timeout: Duration) -> RealJob {
    let args = ["-c".to_owned(), script.to_owned()];
    spawn(&Start {
        path: Path::new("/bin/sh"),
        args: &args,
        input,
        rereads: false,
        timeout,
        daemon: false,
        krb5: [("", None); 2],
    })
    .expect("sh starts")
}

fn end(job: &mut RealJob) -> Output {
    loop {
        if let Some(output) = job.poll(Duration::from_millis(500)).expect("can be waited for") {
            return output;
        }
    }
}

/// The `sleep` that a shell started in the background: at first it is still the shell.
fn sleeper(pid: i32) -> ProcessId {
    let look = |_| {
        std::thread::sleep(Duration::from_millis(5));
        RealHost.process(pid, "sleep").expect("known")
    };
    (0..2000).find_map(look).expect("still runs")
}

/// Runs one test of this binary again in a process of its own, through `env`, which can ignore signals for it.
fn again(test: &str, env_options: &[&str]) -> std::process::Output {
    Command::new("/usr/bin/env")
        .args(env_options)
        .arg("SMBGW_TEST_INNER=1")
        .arg(std::env::current_exe().expect("own path"))
        .args(["--exact", &format!("host::real::tests::{test}"), "--nocapture", "--test-threads=1"])
        .output()
        .expect("test binary runs")
}

fn inner() -> bool {
    std::env::var_os("SMBGW_TEST_INNER").is_some()
}

fn assert_again(test: &str, env_options: &[&str]) {
    let o = again(test, env_options);
    let text = String::from_utf8_lossy(&o.stdout);
    assert!(o.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&o.stderr));
}

#[test]
fn status_output_and_repetition() {
    let mut job = sh("echo out; echo err >&2; exit 3");
    let output = end(&mut job);
    assert_eq!((output.status, output.timed_out), (3, false));
    assert_eq!((output.out().as_str(), output.err().as_str()), ("out\n", "err\n"));
    assert_eq!(end(&mut job), output, "asked again, it says the same");
    assert_eq!(end(&mut sh("kill -TERM $$")).status, -libc::SIGTERM);
}

#[test]
fn a_poll_returns_when_its_wait_is_over() {
    let mut job = sh("exec sleep 1000");
    assert_eq!(job.poll(Duration::from_millis(10)).expect("works"), None);
    assert_eq!(job.poll(Duration::ZERO).expect("works"), None);
    let process = job.process();
    assert!(RealHost.alive(process).expect("known"));
    job.kill();
    assert!(!RealHost.alive(process).expect("known"));
    assert_eq!(end(&mut job).status, -libc::SIGKILL);
    assert!(!end(&mut job).timed_out);
}

#[test]
fn the_deadline_ends_a_child_that_ignores_term() {
    let mut job = sh_with("trap '' TERM INT HUP; echo started; while :; do sleep 1; done", None, Duration::from_millis(300));
    let output = end(&mut job);
    assert!(output.timed_out);
    assert_eq!(output.status, -libc::SIGKILL);
    assert_eq!(output.out(), "started\n");
    assert!(!RealHost.alive(job.process()).expect("known"));
}

#[test]
fn a_grandchild_that_keeps_the_output_open_is_not_waited_for() {
    let mut job = sh("sleep 1000 & echo $!");
    let output = end(&mut job);
    assert_eq!((output.status, output.timed_out), (0, false));
    let pid: i32 = output.out().trim().parse().expect("a pid");
    let grandchild = sleeper(pid);
    RealHost.end(grandchild).expect("ends");
    assert!(!RealHost.alive(grandchild).expect("known"));
}

#[test]
fn output_is_limited_and_never_blocks_the_child() {
    let output =
        end(&mut sh("head -c 5242880 /dev/zero; printf end; head -c 300000 /dev/zero | tr '\\0' x >&2; printf last >&2"));
    assert_eq!(output.status, 0);
    assert_eq!(output.stdout.len(), STDOUT_LIMIT, "the beginning");
    assert_eq!(output.stderr.len(), STDERR_LIMIT, "the end");
    assert!(output.stderr.ends_with(b"xlast"));
}

#[test]
fn an_endless_writer_does_not_hold_us_beyond_the_deadline() {
    let output = end(&mut sh_with("exec cat /dev/zero", None, Duration::from_millis(200)));
    assert!(output.timed_out);
    assert_eq!(output.stdout.len(), STDOUT_LIMIT);
}

#[test]
fn input_is_read_once_and_then_ends() {
    let output = end(&mut sh_with("cat; cat; cat /dev/stdin", Some(b"secret\nsecret\n"), Duration::from_secs(20)));
    assert_eq!(output.out(), "secret\nsecret\n");
    let output = end(&mut sh_with("cat /dev/stdin", Some(b"opened by name\n"), Duration::from_secs(20)));
    assert_eq!(output.out(), "opened by name\n");
    assert_eq!(end(&mut sh("cat")).out(), "", "without input there is nothing to read");
}

#[test]
fn a_child_that_closes_its_input_early_harms_nobody() {
    // With SIGPIPE at its default a write to a closed pipe would kill this process: the test runner ignores it, so the
    // scenario runs in a process that does not.
    if !inner() {
        return assert_again("a_child_that_closes_its_input_early_harms_nobody", &["--default-signal=PIPE"]);
    }
    let big = vec![b'x'; STDIN_LIMIT];
    for script in ["exec <&-; sleep 0.1; exit 5", "exit 5"] {
        assert_eq!(end(&mut sh_with(script, Some(&big), Duration::from_secs(20))).status, 5);
    }
}

#[test]
fn secrets_are_written_as_often_as_wanted_and_cannot_forge_lines() {
    let cmd = Cmd::new(Program::Smbpasswd, ["-s"]).secret("password", 2);
    let with = |value: &[u8]| {
        let mut secrets = Secrets::default();
        secrets.put("password", value.to_vec());
        stdin_of(&cmd, &secrets)
    };
    assert_eq!(with(b"pa ss\xff").expect("fits").as_deref(), Some(&b"pa ss\xff\npa ss\xff\n"[..]));
    assert_eq!(with(b"a\nb").expect_err("line feed").kind(), Kind::Invalid);
    assert_eq!(with(b"a\0b").expect_err("NUL").kind(), Kind::Invalid);
    assert_eq!(with(&[b'x'; STDIN_LIMIT]).expect_err("too long").kind(), Kind::Invalid);
    let e = stdin_of(&cmd, &Secrets::default()).expect_err("absent");
    assert_eq!(e.kind(), Kind::Invalid);
    assert!(e.to_string().contains("password"), "{e}");
}

#[test]
fn the_child_has_a_clean_environment_directory_and_signals() {
    let output = end(&mut sh_with("tr '\\0' '\\n' </proc/$$/environ", None, Duration::from_secs(20)));
    assert_eq!(output.out(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nLC_ALL=C.UTF-8\nHOME=/\n");
    assert_eq!(end(&mut sh("pwd; umask")).out(), "/\n0022\n");
    // This process ignores SIGPIPE (the Rust runtime does), and blocks a signal in this thread.
    let mut blocked = nix::sys::signal::SigSet::empty();
    blocked.add(nix::sys::signal::Signal::SIGUSR1);
    blocked.thread_block().expect("can block");
    let status = end(&mut sh("exec cat /proc/self/status")).out();
    blocked.thread_unblock().expect("can unblock");
    let field = |name: &str| {
        let value = status.lines().find_map(|l| l.strip_prefix(name)).expect("there").trim().to_owned();
        // Signals 32 and 33 belong to the C library, which lets nobody change them.
        u64::from_str_radix(&value, 16).expect("hexadecimal") & !(0b11 << 31)
    };
    assert_eq!((field("SigBlk:"), field("SigIgn:"), field("SigCgt:")), (0, 0, 0), "{status}");
}

#[test]
fn descriptors_do_not_leak_into_the_child() {
    let dir = tempfile::tempdir().expect("temp dir");
    let leak = File::create(dir.path().join("leaky")).expect("makes a file");
    fcntl(&leak, FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).expect("inheritable");
    let job = spawn(&Start {
        path: Path::new("/bin/ls"),
        args: &["-l".to_owned(), "/proc/self/fd".to_owned()],
        input: Some(b"x"),
        rereads: false,
        timeout: Duration::from_secs(20),
        daemon: false,
        krb5: [("", None); 2],
    });
    let text = end(&mut job.expect("ls starts")).out();
    assert!(!text.contains("leaky"), "{text}");
    // 0, 1, 2 and the directory that ls reads.
    assert_eq!(text.matches(" -> ").count(), 4, "{text}");
    assert!(leak.metadata().is_ok(), "ours is still open");
}

#[test]
fn a_caller_without_standard_descriptors_is_served_too() {
    if !inner() {
        let o = again("a_caller_without_standard_descriptors_is_served_too", &[]);
        return assert!(o.status.success(), "inner run failed: {:?}", o.status);
    }
    for fd in 0..3 {
        nix::unistd::close(fd).expect("was open");
    }
    let output = end(&mut sh_with("cat; echo err >&2", Some(b"in\n"), Duration::from_secs(20)));
    assert_eq!((output.status, output.out().as_str(), output.err().as_str()), (0, "in\n", "err\n"));
}

#[test]
fn an_ignored_sigchld_is_survived_and_nothing_is_guessed() {
    if !inner() {
        return assert_again("an_ignored_sigchld_is_survived_and_nothing_is_guessed", &["--ignore-signal=CHLD"]);
    }
    let mut job = sh("echo said; exit 3");
    let result = loop {
        match job.poll(Duration::from_millis(500)) {
            Ok(None) => {}
            other => break other,
        }
    };
    // Linux 6.15 keeps the status for holders of a pidfd; older ones lose it, and then it is an error.
    match result {
        Ok(output) => assert_eq!(output.map(|o| (o.status, o.out())), Some((3, "said\n".to_owned()))),
        Err(e) => {
            assert_eq!(e.kind(), Kind::Service);
            assert!(e.remedy_text().is_some_and(|r| r.contains("SIGCHLD")), "{e}");
        }
    }
    // The child reports a missing program although it cannot be waited for.
    let missing = Start {
        path: Path::new("/nonexistent"),
        args: &[],
        input: None,
        rereads: false,
        timeout: Duration::from_secs(5),
        daemon: false,
        krb5: [("", None); 2],
    };
    assert_eq!(spawn(&missing).map(drop).expect_err("not there").kind(), Kind::Io);
    let mut stuck = sh_with("exec sleep 1000", None, Duration::from_millis(100));
    assert!(end(&mut stuck).timed_out);
    assert!(!RealHost.alive(stuck.process()).expect("known"));
}

#[test]
fn a_text_can_be_read_as_often_as_the_program_opens_it() {
    let args = ["-c".to_owned(), "cat /dev/stdin /dev/stdin; cat <&0".to_owned()];
    let input = Some(&b"a text\n"[..]);
    let mut job = spawn(&Start {
        path: Path::new("/bin/sh"),
        args: &args,
        input,
        rereads: true,
        timeout: Duration::from_secs(20),
        daemon: false,
        krb5: [("", None); 2],
    })
    .expect("sh starts");
    assert_eq!(end(&mut job).out(), "a text\na text\na text\n");
}

#[test]
fn several_trees_are_seen_as_each_of_them_is() {
    let dir = tempfile::tempdir().expect("temp dir");
    let dir = dir.path().canonicalize().expect("a path");
    for name in ["empty", "new/lost+found", "full"] {
        fs::create_dir_all(dir.join(name)).expect("made");
    }
    fs::write(dir.join("full/report"), "text").expect("written");
    let paths: Vec<_> = ["empty", "none", "new", "full"].iter().map(|n| dir.join(n)).chain(["/proc".into()]).collect();
    for (seen, path) in RealHost.trees(&paths).into_iter().zip(&paths) {
        let text = |t: Result<super::TreeSeen>| t.map(|t| format!("{t:?}")).map_err(|e| e.to_string());
        assert_eq!(text(seen), text(RealHost.tree(path)), "{}", path.display());
    }
    let populated: Vec<bool> = paths.iter().map(|p| RealHost.populated(p).expect("known")).collect();
    assert_eq!(populated, [false, false, false, true, true]);
}

#[test]
fn locks_of_a_killed_program_are_swept_and_no_others() {
    let dir = tempfile::tempdir().expect("temp dir");
    let dir = dir.path();
    let put = |name: &str, text: &str| fs::write(dir.join(name), text).expect("written");
    put("group", "root:x:0:");
    put("group.4242", "4242\0");
    put("group.lock", "4242\0");
    put("passwd.lock", "4243\0");
    put("passwd.424", "424\0");
    sweep_locks(dir, 4242);
    let mut left: Vec<_> = fs::read_dir(dir).expect("read").map(|e| e.expect("an entry").file_name()).collect();
    left.sort();
    assert_eq!(left, ["group", "passwd.424", "passwd.lock"]);
}

#[test]
fn the_status_is_not_lost_to_somebody_who_waits_for_our_child() {
    let mut job = sh("exit 7");
    // What a careless SIGCHLD handler does.
    let pid = nix::unistd::Pid::from_raw(job.process().pid);
    nix::sys::wait::waitpid(pid, None).expect("our child");
    match job.poll(Duration::from_secs(5)) {
        Ok(output) => assert_eq!(output.map(|o| o.status), Some(7)),
        Err(e) => assert_eq!((e.kind(), job.poll(Duration::ZERO).is_err()), (Kind::Service, true)),
    }
}

#[test]
fn the_child_dies_with_us_and_a_daemon_does_not() {
    if inner() {
        let child = sh("exec sleep 1000");
        let mut daemon = spawn(&Start {
            path: Path::new("/bin/sh"),
            args: &["-c".to_owned(), "sleep 1000 >/dev/null 2>&1 & echo $!".to_owned()],
            input: None,
            rereads: false,
            timeout: Duration::from_secs(20),
            daemon: true,
            krb5: [("", None); 2],
        })
        .expect("sh starts");
        let daemon_pid: i32 = end(&mut daemon).out().trim().parse().expect("a pid");
        let daemon = sleeper(daemon_pid);
        println!("PIDS {} {} {} {}", child.process().pid, child.process().start, daemon.pid, daemon.start);
        std::io::stdout().flush().expect("pipe");
        nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL).expect("to ourselves");
    }
    let o = again("the_child_dies_with_us_and_a_daemon_does_not", &[]);
    let text = String::from_utf8_lossy(&o.stdout).into_owned();
    let line = text.lines().find_map(|l| l.split_once("PIDS ")).expect("pids").1.to_owned();
    let n: Vec<u64> = line.split(' ').map(|n| n.parse().expect("a number")).collect();
    let child = ProcessId { pid: n[0] as i32, start: n[1] };
    let daemon = ProcessId { pid: n[2] as i32, start: n[3] };
    for _ in 0..200 {
        if !RealHost.alive(child).expect("known") {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!RealHost.alive(child).expect("known"));
    assert!(RealHost.alive(daemon).expect("known"));
    RealHost.end(daemon).expect("ends");
}

#[test]
fn a_program_that_cannot_run_says_why() {
    let dir = tempfile::tempdir().expect("temp dir");
    let file = dir.path().join("not-a-program");
    fs::write(&file, "no magic").expect("writes");
    for path in [Path::new("/nonexistent"), &file, dir.path()] {
        let start = Start {
            path,
            args: &[],
            input: None,
            rereads: false,
            timeout: Duration::from_secs(5),
            daemon: false,
            krb5: [("", None); 2],
        };
        let e = spawn(&start).map(drop).expect_err("cannot run");
        assert_eq!(e.kind(), Kind::Io);
        assert!(e.to_string().contains(&path.display().to_string()), "{e}");
    }
    let args = ["a\0b".to_owned()];
    let start = Start {
        path: Path::new("/bin/true"),
        args: &args,
        input: None,
        rereads: false,
        timeout: Duration::from_secs(5),
        daemon: false,
        krb5: [("", None); 2],
    };
    assert!(spawn(&start).is_err());
}

#[test]
fn arguments_arrive_literally() {
    let args: Vec<String> = ["%s|", "a b", "", "$(id)", "'\"\\", "\n", "ü🦀", "--"].map(str::to_owned).to_vec();
    let start = Start {
        path: Path::new("/usr/bin/printf"),
        args: &args,
        input: None,
        rereads: false,
        timeout: Duration::from_secs(5),
        daemon: false,
        krb5: [("", None); 2],
    };
    let output = end(&mut spawn(&start).expect("starts"));
    assert_eq!(output.out(), "a b||$(id)|'\"\\|\n|ü🦀|--|");
}

#[test]
fn a_dropped_job_ends_its_child_but_a_forked_copy_does_not() {
    let job = sh("exec sleep 1000");
    let process = job.process();
    drop(job);
    assert!(!RealHost.alive(process).expect("known"));

    let mut copy = sh("exec sleep 1000");
    let process = copy.process();
    // What the embedding process's fork sees: a job of another pid.
    copy.owner = 1;
    assert_eq!(copy.poll(Duration::ZERO).expect_err("not ours").kind(), Kind::Forked);
    copy.kill();
    drop(copy);
    assert!(RealHost.alive(process).expect("known"));
    RealHost.end(process).expect("ends");
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(process.pid), None).expect("reaped");
}

#[test]
fn where_the_kernel_gives_no_pidfd_the_rest_still_holds() {
    let without = |mut job: RealJob| {
        job.child.pidfd = None;
        job
    };
    let mut job = without(sh("sleep 0.05; echo out; exit 3"));
    assert_eq!((end(&mut job).status, end(&mut job).out()), (3, "out\n".to_owned()));
    let mut job = without(sh_with("exec sleep 1000", None, Duration::from_millis(50)));
    assert!(end(&mut job).timed_out);
    assert!(!RealHost.alive(job.process()).expect("known"));
    let job = without(sh("exec sleep 1000"));
    let process = job.process();
    drop(job);
    assert!(!RealHost.alive(process).expect("known"));
}

#[test]
fn a_daemon_that_does_not_get_ready_in_time_is_ended_with_its_children() {
    let args = ["-c".to_owned(), "sleep 1000 & echo $!; wait".to_owned()];
    let timeout = Duration::from_millis(300);
    let start = Start {
        path: Path::new("/bin/sh"),
        args: &args,
        input: None,
        rereads: false,
        timeout,
        daemon: true,
        krb5: [("", None); 2],
    };
    let output = end(&mut spawn(&start).expect("sh starts"));
    assert!(output.timed_out);
    let child: i32 = output.out().trim().parse().expect("a pid");
    // Killed with the group; whoever adopted it may take a moment to reap it.
    let gone = |_| {
        std::thread::sleep(Duration::from_millis(5));
        RealHost.process(child, "sleep").expect("known").is_none().then_some(())
    };
    (0..2000).find_map(gone).expect("ended too");
}
