// SPDX-License-Identifier: MIT OR Apache-2.0
//! smbclient: a log-in to the simulated smbd and a few commands, with Samba's and the kernel's access checks. It knows what
//! a client of a share sees; it must not know how the share came about.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::accounts::{self, User};
use super::config::Share;
use super::files::{Files, Node, Thing};
use super::samba::{self, Access};
use super::{Machine, Said, World, args, domain};

/// The dialects smbclient can be held to, oldest first.
const DIALECTS: [&str; 6] = ["NT1", "SMB2_02", "SMB2_10", "SMB3_00", "SMB3_02", "SMB3_11"];

fn rank(dialect: &str) -> usize {
    // SMB3 and SMB2 mean the newest of their kind.
    let dialect = match dialect {
        "SMB3" | "default" => "SMB3_11",
        "SMB2" => "SMB2_10",
        other => other,
    };
    DIALECTS.iter().position(|d| *d == dialect).unwrap_or(0)
}

/// Where the client is: who, in which share, with which rights.
struct Seat<'a> {
    user: User,
    gids: Vec<u32>,
    share: &'a Share,
    root: PathBuf,
    access: Access,
}

pub(super) fn run(m: &mut Machine, words: &[String]) -> Said {
    let known = [
        ("authentication-file", 'A', true),
        ("command", 'c', true),
        ("max-protocol", 'm', true),
        ("port", 'p', true),
        ("timeout", 't', true),
        ("debuglevel", 'd', true),
        ("configfile", 's', true),
        ("no-pass", 'N', false),
        ("machine-pass", 'P', false),
        ("user", 'U', true),
        ("client-protection", '\0', true),
        ("option", '\0', true),
        ("use-kerberos", '\0', true),
        ("grepable", 'g', false),
        ("quiet", 'q', false),
        ("workgroup", 'W', true),
        ("ip-address", 'I', true),
        ("socket-options", 'O', true),
    ];
    let given = match args::parse(words, &known) {
        Ok(given) => given,
        Err(option) => return Said::err(1, format!("\nInvalid option {option}: unknown option\n\n")),
    };
    let target = given.word(0).trim_start_matches(['/', '\\']).to_owned();
    let Some((address, service)) = target.split_once(['/', '\\']) else {
        return Said::err(1, format!("\n{}: Not enough '\\' characters in service\n", given.word(0)));
    };
    let (mut name, mut password, anonymous) = (String::new(), String::new(), given.has("no-pass"));
    if let Some(file) = given.value("authentication-file") {
        let Some(bytes) = m.world.files.bytes(file) else {
            return Said::both(1, "ERROR: Unable to open credentials file!\n", "Failed to set parse authentication file!\n");
        };
        for line in String::from_utf8_lossy(bytes).lines() {
            // A leading blank of a password is lost, a trailing one is not.
            match line.split_once('=').map(|(k, v)| (k.trim().to_lowercase(), v.trim_start())) {
                Some((key, value)) if key == "username" => name = value.to_owned(),
                Some((key, value)) if key == "password" => password = value.to_owned(),
                _ => {}
            }
        }
    }
    let Some(smbd) = &m.world.smbd else {
        return Said::err(1, format!("do_connect: Connection to {address} failed (Error NT_STATUS_CONNECTION_REFUSED)\n"));
    };
    // The child that serves us reads the file anew, if it can.
    let config = samba::load(&m.world.files).config.unwrap_or_else(|| smbd.config.clone());
    let spoken = rank(given.value("max-protocol").unwrap_or("SMB3"));
    if spoken < rank(&config.global("server min protocol")) {
        let why = if spoken == 0 { "NT_STATUS_INVALID_NETWORK_RESPONSE" } else { "NT_STATUS_NOT_SUPPORTED" };
        return Said::out(1, format!("protocol negotiation failed: {why}\n"));
    }
    if anonymous {
        return Said::out(1, "Anonymous login successful\ntree connect failed: NT_STATUS_ACCESS_DENIED\n");
    }
    let visitor = if given.has("machine-pass") {
        Some(domain::by_ticket(&m.world, &config, address))
    } else {
        name.contains('\\').then(|| domain::log_in(&m.world, &config, &name, &password))
    };
    let who = match visitor {
        Some(v) => v.map(|v| (v.user, v.gids)),
        None => log_in(&m.world, &name, &password).map(|u| (u.clone(), accounts::gids(&m.world.files, &u))),
    };
    let (user, mut gids) = match who {
        Ok(who) => who,
        Err(why) => return Said::out(1, format!("session setup failed: {why}\n")),
    };
    let refused = |why: &str| Said::out(1, format!("tree connect failed: {why}\n"));
    let Some(share) = config.share(service).filter(|s| s.is("available")) else {
        return refused("NT_STATUS_BAD_NETWORK_NAME");
    };
    let Some(access) = samba::access(&m.world, share, &user.name) else { return refused("NT_STATUS_ACCESS_DENIED") };
    let root = PathBuf::from(share.value("path").trim_matches('"').replace("%U", &user.name).replace("%u", &user.name));
    if !matches!(m.world.files.get(&root), Some(Node { thing: Thing::Dir, .. })) {
        return refused("NT_STATUS_BAD_NETWORK_NAME");
    }
    gids.extend(forced_group(&m.world.files, share, &user));
    let seat = Seat { user, gids, share, root, access };
    let mut said = Said::ok("");
    for command in commands(given.value("command").unwrap_or_default()) {
        let (status, out, err) = one(&mut m.world.files, &seat, &command);
        // smbclient ends with the result of its last command: earlier failures show in the text only.
        said.status = status;
        said.out.push_str(&out);
        said.err.push_str(&err);
        if matches!(command[0].as_str(), "quit" | "exit" | "q") {
            break;
        }
    }
    said
}

/// Who logs in, or why not. An unknown user and a wrong password look the same.
pub(super) fn log_in(world: &World, name: &str, password: &str) -> Result<User, &'static str> {
    let known = world.passdb.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
    let Some((name, account)) = known.filter(|(_, a)| a.nt_hash == samba::nt_hash(password)) else {
        return Err("NT_STATUS_LOGON_FAILURE");
    };
    if account.disabled() {
        return Err("NT_STATUS_ACCOUNT_DISABLED");
    }
    accounts::user(&world.files, name).ok_or("NT_STATUS_LOGON_FAILURE")
}

/// `force group`: for everybody, or with `+` only for its members.
fn forced_group(files: &Files, share: &Share, user: &User) -> Option<u32> {
    let wanted = share.value("force group");
    let (name, members_only) = wanted.strip_prefix('+').map_or((wanted.as_str(), false), |n| (n, true));
    let group = accounts::groups(files).into_iter().find(|g| g.name == name)?;
    (!members_only || accounts::is_member(files, user, name)).then_some(group.gid)
}

/// `-c` text: commands between semicolons, words between blanks, quotes keep both.
fn commands(text: &str) -> Vec<Vec<String>> {
    let (mut all, mut words, mut word, mut quote) = (Vec::new(), Vec::new(), String::new(), false);
    for c in text.chars().chain([';']) {
        match c {
            '"' => quote = !quote,
            ';' | ' ' if !quote => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                if c == ';' && !words.is_empty() {
                    all.push(std::mem::take(&mut words));
                }
            }
            c => word.push(c),
        }
    }
    all
}

/// The kernel's check for one class of rights (4 read, 2 write, 1 enter).
fn may(seat: &Seat<'_>, node: &Node, bit: u32) -> bool {
    let shift = if node.uid == seat.user.uid {
        6
    } else if seat.gids.contains(&node.gid) {
        3
    } else {
        0
    };
    node.mode >> shift & bit == bit
}

fn one(files: &mut Files, seat: &Seat<'_>, words: &[String]) -> (i32, String, String) {
    let word = |n: usize| words.get(n).cloned().unwrap_or_default();
    let inside = |name: &str| {
        let name = name.replace('\\', "/");
        let clean: PathBuf = Path::new(&name).components().filter(|c| matches!(c, std::path::Component::Normal(_))).collect();
        (seat.root.join(&clean), clean.display().to_string().replace('/', "\\"))
    };
    let fail = |text: String| (1, text + "\n", String::new());
    let parent_may =
        |files: &Files, path: &Path, bit: u32| path.parent().and_then(|p| files.get(p)).is_some_and(|dir| may(seat, dir, bit));
    match words[0].as_str() {
        "put" => {
            let local = word(1);
            let (path, shown) = inside(&if words.len() > 2 { word(2) } else { local.clone() });
            let Some(content) = files.bytes(&local).map(<[u8]>::to_vec) else { return fail(format!("{local} does not exist")) };
            let Some(parent) = path.parent().and_then(|p| files.get(p)).cloned() else {
                return fail(format!("NT_STATUS_OBJECT_PATH_NOT_FOUND opening remote file \\{shown}"));
            };
            let there = files.get(&path).cloned();
            let allowed = match &there {
                Some(node) => may(seat, node, 2),
                None => may(seat, &parent, 3),
            };
            if seat.access < Access::Write || !allowed {
                return fail(format!("NT_STATUS_ACCESS_DENIED opening remote file \\{shown}"));
            }
            let (mode, uid, gid) = there.map_or_else(|| created(seat, &parent, files), |n| (n.mode, n.uid, n.gid));
            if files.is_full(&path, content.len() as u64, uid) {
                return fail(format!("NT_STATUS_DISK_FULL opening remote file \\{shown}"));
            }
            files.put(&path, &content, mode, uid, gid);
            files.unsync(&path);
            (0, String::new(), format!("putting file {local} as \\{shown} (1.0 kb/s) (average 1.0 kb/s)\n"))
        }
        "get" => {
            let (path, shown) = inside(&word(1));
            let node = files.get(&path).cloned();
            let Some(Node { thing: Thing::File { content, .. }, .. }) = &node else {
                return fail(format!("NT_STATUS_OBJECT_NAME_NOT_FOUND opening remote file \\{shown}"));
            };
            if !node.as_ref().is_some_and(|n| may(seat, n, 4)) || !parent_may(files, &path, 1) {
                return fail(format!("NT_STATUS_ACCESS_DENIED opening remote file \\{shown}"));
            }
            let local = if words.len() > 2 { word(2) } else { word(1) };
            files.put(&local, content, 0o644, 0, 0);
            files.unsync(Path::new(&local));
            let size = content.len();
            let err =
                format!("getting file \\{shown} of size {size} as {local} (1.0 KiloBytes/sec) (average 1.0 KiloBytes/sec)\n");
            (0, String::new(), err)
        }
        "del" | "rm" => {
            let (path, shown) = inside(&word(1));
            if !matches!(files.get(&path), Some(Node { thing: Thing::File { .. }, .. })) {
                return fail(format!("NT_STATUS_NO_SUCH_FILE listing \\{shown}"));
            }
            if seat.access < Access::Write || !parent_may(files, &path, 3) {
                return fail(format!("NT_STATUS_ACCESS_DENIED deleting remote file \\{shown}"));
            }
            files.take(&path);
            (0, String::new(), String::new())
        }
        "mkdir" | "md" => {
            let (path, shown) = inside(&word(1));
            if files.exists(&path) {
                return fail(format!("NT_STATUS_OBJECT_NAME_COLLISION making remote directory \\{shown}"));
            }
            if seat.access < Access::Write || !parent_may(files, &path, 3) {
                return fail(format!("NT_STATUS_ACCESS_DENIED making remote directory \\{shown}"));
            }
            let parent = path.parent().and_then(|p| files.get(p)).cloned();
            let (mut mode, mut uid, mut gid) = (0o755, seat.user.uid, seat.user.gid);
            if let Some(parent) = parent {
                (_, uid, gid) = created(seat, &parent, files);
                let (mask, force) = (octal(seat.share, "directory mask"), octal(seat.share, "force directory mode"));
                mode = (0o777 & mask) | force | (parent.mode & 0o2000);
            }
            files.put_dir(&path, mode, uid, gid);
            (0, String::new(), String::new())
        }
        "rmdir" | "rd" => {
            let (path, shown) = inside(&word(1));
            if seat.access < Access::Write || !parent_may(files, &path, 3) {
                return fail(format!("NT_STATUS_ACCESS_DENIED removing remote directory file \\{shown}"));
            }
            match files.remove_dir(&path) {
                Ok(true) => (0, String::new(), String::new()),
                _ => fail(format!("NT_STATUS_DIRECTORY_NOT_EMPTY removing remote directory file \\{shown}")),
            }
        }
        "ls" | "dir" => list(files, seat, &inside(&word(1)), words.len() > 1),
        "quit" | "exit" | "q" => (0, String::new(), String::new()),
        other => (1, format!("{other}: command not found\n"), String::new()),
    }
}

fn list(files: &Files, seat: &Seat<'_>, (path, shown): &(PathBuf, String), named: bool) -> (i32, String, String) {
    let mut out = String::new();
    let line = |out: &mut String, name: &str, node: &Node| {
        let (letter, size) = match &node.thing {
            Thing::File { content, .. } => ('A', content.len()),
            _ => ('D', 0),
        };
        let _ = writeln!(out, "  {name:<36}{letter}{size:>9}  Thu Jan  1 00:00:00 2026");
    };
    if named {
        match files.get(path) {
            Some(node) => line(&mut out, shown, node),
            None => return (1, format!("NT_STATUS_NO_SUCH_FILE listing \\{shown}\n"), String::new()),
        }
    } else {
        let Some(dir) = files.get(path).filter(|d| may(seat, d, 4)) else {
            return (1, "NT_STATUS_ACCESS_DENIED listing \\*\n".into(), String::new());
        };
        line(&mut out, ".", dir);
        line(&mut out, "..", dir);
        for name in files.list(path).unwrap_or_default() {
            if let Some(node) = files.get(path.join(&name)) {
                line(&mut out, &name, node);
            }
        }
    }
    out.push_str("\n\t\t104857600 blocks of size 1024. 62914560 blocks available\n");
    (0, out, String::new())
}

fn octal(share: &Share, name: &str) -> u32 {
    u32::from_str_radix(&share.value(name), 8).unwrap_or(0)
}

/// Mode, owner and group of a file that a client makes in a directory.
fn created(seat: &Seat<'_>, parent: &Node, files: &Files) -> (u32, u32, u32) {
    let inherits = matches!(seat.share.value("inherit owner").as_str(), "windows and unix" | "unix only");
    let uid = if inherits { parent.uid } else { seat.user.uid };
    let gid =
        if parent.mode & 0o2000 != 0 { parent.gid } else { forced_group(files, seat.share, &seat.user).unwrap_or(seat.user.gid) };
    // A file is made with all rights but execution (the archive bit is kept elsewhere), then masked and forced.
    let mode = (0o666 & octal(seat.share, "create mask")) | octal(seat.share, "force create mode");
    (mode, uid, gid)
}
