// SPDX-License-Identifier: MIT OR Apache-2.0
//! The shadow suite (4.13): groupadd, groupdel, gpasswd, useradd, userdel, usermod. They edit the four account files as the
//! real ones do: a new line at the end, a removed line leaves no trace. The backups (`/etc/passwd-` and so on) are not kept.
//! It knows these files; it must not know Samba.

use crate::effect::Program;

use super::args::{self, Given};
use super::files::Files;
use super::{Machine, Said};

const PASSWD: &str = "/etc/passwd";
const SHADOW: &str = "/etc/shadow";
const GROUP: &str = "/etc/group";
const GSHADOW: &str = "/etc/gshadow";
/// Every tool that changes accounts takes this lock, and gives up after 15 s.
pub(super) const LOCK: &str = "/etc/.pwd.lock";

/// A line of passwd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Comment.
    pub gecos: String,
}

/// A line of group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Name.
    pub name: String,
    /// Group id.
    pub gid: u32,
    /// Members by name, without those that have it as primary group.
    pub members: Vec<String>,
}

/// All users of a machine.
pub fn users(files: &Files) -> Vec<User> {
    rows(files, PASSWD)
        .iter()
        .filter_map(|r| match r.as_slice() {
            [name, _, uid, gid, gecos, ..] => {
                Some(User { name: name.clone(), uid: uid.parse().ok()?, gid: gid.parse().ok()?, gecos: gecos.clone() })
            }
            _ => None,
        })
        .collect()
}

/// All groups of a machine.
pub fn groups(files: &Files) -> Vec<Group> {
    rows(files, GROUP)
        .iter()
        .filter_map(|r| match r.as_slice() {
            [name, _, gid, members] => Some(Group { name: name.clone(), gid: gid.parse().ok()?, members: names(members) }),
            _ => None,
        })
        .collect()
}

/// One user by name.
pub fn user(files: &Files, name: &str) -> Option<User> {
    users(files).into_iter().find(|u| u.name == name)
}

/// Whether a user is in a group, primary or not.
pub fn is_member(files: &Files, user: &User, group: &str) -> bool {
    groups(files).iter().any(|g| g.name == group && (g.gid == user.gid || g.members.contains(&user.name)))
}

/// The numbers of all groups of a user.
pub fn gids(files: &Files, user: &User) -> Vec<u32> {
    let more = groups(files).into_iter().filter(|g| g.members.contains(&user.name)).map(|g| g.gid);
    std::iter::once(user.gid).chain(more).collect()
}

fn names(list: &str) -> Vec<String> {
    list.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect()
}

type Row = Vec<String>;

fn rows(files: &Files, path: &str) -> Vec<Row> {
    files.text(path).lines().map(|l| l.split(':').map(str::to_owned).collect()).collect()
}

/// Runs `change` on the rows of a file and writes it back, synced, if that made a difference.
fn edit<T>(files: &mut Files, path: &str, change: impl FnOnce(&mut Vec<Row>) -> T) -> T {
    let before = rows(files, path);
    let mut after = before.clone();
    let result = change(&mut after);
    if before != after {
        let text: String = after.iter().map(|r| r.join(":") + "\n").collect();
        let (mode, gid) = files.get(path).map_or((0o644, 0), |n| (n.mode, n.gid));
        files.put(path, text, mode, 0, gid);
    }
    result
}

fn append(files: &mut Files, path: &str, row: &[&str]) {
    edit(files, path, |rows| rows.push(row.iter().map(|s| (*s).to_owned()).collect()));
}

fn delete(files: &mut Files, path: &str, name: &str) {
    edit(files, path, |rows| rows.retain(|r| r[0] != name));
}

/// Changes the member lists of one group, or of all.
fn members(files: &mut Files, group: Option<&str>, change: impl Fn(&mut Vec<String>)) {
    for path in [GROUP, GSHADOW] {
        edit(files, path, |rows| {
            for row in rows.iter_mut().filter(|r| group.is_none_or(|g| r[0] == g) && r.len() == 4) {
                let mut list = names(&row[3]);
                change(&mut list);
                row[3] = list.join(",");
            }
        });
    }
}

/// What useradd and groupadd accept as a name (Debian's rule: nearly everything), at most 32 bytes.
fn good_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 32
        && !name.starts_with(['-', '+', '~'])
        && name != "."
        && name != ".."
        && !name.chars().any(|c| c.is_whitespace() || c.is_control() || ":,/\\".contains(c))
}

/// Runs one of the suite.
pub(super) fn run(m: &mut Machine, program: Program, words: &[String]) -> Said {
    let tool = program.name();
    let known: &[args::Opt] = match program {
        Program::Groupadd => &[("gid", 'g', true), ("system", 'r', false), ("force", 'f', false)],
        Program::Groupdel => &[],
        Program::Gpasswd => &[("add", 'a', true), ("delete", 'd', true)],
        Program::Useradd => &[
            ("system", 'r', false),
            ("no-create-home", 'M', false),
            ("no-user-group", 'N', false),
            ("no-log-init", 'l', false),
            ("home-dir", 'd', true),
            ("shell", 's', true),
            ("uid", 'u', true),
            ("gid", 'g', true),
            ("groups", 'G', true),
            ("comment", 'c', true),
        ],
        Program::Userdel => &[("force", 'f', false)],
        _ => &[
            ("lock", 'L', false),
            ("unlock", 'U', false),
            ("expiredate", 'e', true),
            ("append", 'a', false),
            ("remove", 'r', false),
            ("groups", 'G', true),
            ("comment", 'c', true),
            ("shell", 's', true),
        ],
    };
    let given = match args::parse(words, known) {
        Ok(given) if given.words.len() == 1 => given,
        Ok(_) => return Said::err(2, format!("Usage: {tool} [options] NAME\n")),
        Err(option) => return Said::err(2, format!("{tool}: unrecognized option '{option}'\n")),
    };
    if m.held_by_other(LOCK.as_ref()) {
        m.wait(15_000);
        let (file, code) = if matches!(program, Program::Groupadd | Program::Groupdel) { (GROUP, 10) } else { (PASSWD, 1) };
        return Said::err(code, format!("{tool}: cannot lock {file}; try again later.\n"));
    }
    match program {
        Program::Groupadd => groupadd(m, &given),
        Program::Groupdel => groupdel(m, given.word(0)),
        Program::Gpasswd => gpasswd(m, &given),
        Program::Useradd => useradd(m, &given),
        Program::Userdel => userdel(m, &given),
        _ => usermod(m, &given),
    }
}

fn groupadd(m: &mut Machine, given: &Given) -> Said {
    let (files, name) = (&mut m.world.files, given.word(0));
    if !good_name(name) {
        return Said::err(3, format!("groupadd: '{name}' is not a valid group name\n"));
    }
    let all = groups(files);
    if all.iter().any(|g| g.name == name) {
        return Said::err(9, format!("groupadd: group '{name}' already exists\n"));
    }
    let gid = match given.value("gid") {
        Some(text) => match text.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => return Said::err(3, format!("groupadd: invalid group ID '{text}'\n")),
        },
        None => free(1000, |n| all.iter().any(|g| g.gid == n)),
    };
    if all.iter().any(|g| g.gid == gid) {
        return Said::err(4, format!("groupadd: GID '{gid}' already exists\n"));
    }
    append(files, GROUP, &[name, "x", &gid.to_string(), ""]);
    append(files, GSHADOW, &[name, "!", "", ""]);
    Said::ok("")
}

fn free(from: u32, taken: impl Fn(u32) -> bool) -> u32 {
    (from..).find(|n| !taken(*n)).unwrap_or(from)
}

fn groupdel(m: &mut Machine, name: &str) -> Said {
    let files = &mut m.world.files;
    let Some(group) = groups(files).into_iter().find(|g| g.name == name) else {
        return Said::err(6, format!("groupdel: group '{name}' does not exist\n"));
    };
    if let Some(user) = users(files).into_iter().find(|u| u.gid == group.gid) {
        return Said::err(8, format!("groupdel: cannot remove the primary group of user '{}'\n", user.name));
    }
    delete(files, GROUP, name);
    delete(files, GSHADOW, name);
    Said::ok("")
}

fn gpasswd(m: &mut Machine, given: &Given) -> Said {
    let (files, name) = (&mut m.world.files, given.word(0));
    let Some(group) = groups(files).into_iter().find(|g| g.name == name) else {
        return Said::err(3, format!("gpasswd: group '{name}' does not exist in /etc/group\n"));
    };
    match (given.value("add"), given.value("delete")) {
        (Some(who), None) => {
            if user(files, who).is_none() {
                return Said::err(3, format!("gpasswd: user '{who}' does not exist\n"));
            }
            members(files, Some(name), |list| {
                if !list.iter().any(|m| m == who) {
                    list.push(who.to_owned());
                }
            });
            Said::ok(format!("Adding user {who} to group {name}\n"))
        }
        (None, Some(who)) => {
            let out = format!("Removing user {who} from group {name}\n");
            if !group.members.iter().any(|m| m == who) {
                return Said::both(3, out, format!("gpasswd: user '{who}' is not a member of '{name}'\n"));
            }
            members(files, Some(name), |list| list.retain(|m| m != who));
            Said::ok(out)
        }
        _ => Said::err(2, "Usage: gpasswd [option] GROUP\n"),
    }
}

/// Looks groups up by name or number; the error is the one that is not there.
fn find_groups(files: &Files, list: &str) -> Result<Vec<Group>, String> {
    let all = groups(files);
    let by = |g: &Group, n: &str| g.name == n || n.parse() == Ok(g.gid);
    list.split(',').map(|n| all.iter().find(|g| by(g, n)).cloned().ok_or_else(|| n.to_owned())).collect()
}

fn useradd(m: &mut Machine, given: &Given) -> Said {
    let today = (m.clock_ms / 86_400_000).to_string();
    let (files, name) = (&mut m.world.files, given.word(0));
    if !good_name(name) {
        return Said::err(3, format!("useradd: invalid user name '{name}': use --badname to ignore\n"));
    }
    let comment = given.value("comment").unwrap_or_default();
    if comment.contains([':', '\n']) {
        return Said::err(3, format!("useradd: invalid comment '{comment}'\n"));
    }
    let all = users(files);
    if all.iter().any(|u| u.name == name) {
        return Said::err(9, format!("useradd: user '{name}' already exists\n"));
    }
    let mut also = Vec::new();
    if let Some(list) = given.value("groups") {
        match find_groups(files, list) {
            Ok(found) => also = found,
            Err(missing) => return Said::err(6, format!("useradd: group '{missing}' does not exist\n")),
        }
    }
    let uid = match given.value("uid").map(str::parse::<u32>) {
        Some(Ok(uid)) => uid,
        Some(Err(_)) => return Said::err(3, "useradd: invalid user ID\n"),
        None => free(1000, |n| all.iter().any(|u| u.uid == n)),
    };
    let gid = match given.value("gid") {
        Some(wanted) => match find_groups(files, wanted) {
            Ok(found) => found[0].gid,
            Err(missing) => return Said::err(6, format!("useradd: group '{missing}' does not exist\n")),
        },
        None => 100,
    };
    if all.iter().any(|u| u.uid == uid) {
        return Said::err(4, format!("useradd: UID {uid} is not unique\n"));
    }
    let home = given.value("home-dir").map_or_else(|| format!("/home/{name}"), str::to_owned);
    let shell = given.value("shell").unwrap_or("/bin/sh");
    append(files, PASSWD, &[name, "x", &uid.to_string(), &gid.to_string(), comment, &home, shell]);
    append(files, SHADOW, &[name, "!", &today, "", "", "", "", "", ""]);
    for group in also {
        members(files, Some(&group.name), |list| list.push(name.to_owned()));
    }
    let warning = match given.has("system") && uid > 999 {
        true => format!("useradd warning: {name}'s uid {uid} is greater than SYS_UID_MAX 999\n"),
        false => String::new(),
    };
    Said::both(0, "", warning)
}

fn userdel(m: &mut Machine, given: &Given) -> Said {
    let name = given.word(0);
    let Some(who) = user(&m.world.files, name) else {
        return Said::err(6, format!("userdel: user '{name}' does not exist\n"));
    };
    if let Some(pid) = m.world.smbd.as_ref().and_then(|s| s.sessions.iter().find(|s| s.user == name)).map(|s| s.pid) {
        let text = format!("userdel: user {name} is currently used by process {pid}\n");
        if !given.has("force") {
            return Said::err(8, text);
        }
    }
    let files = &mut m.world.files;
    delete(files, PASSWD, name);
    delete(files, SHADOW, name);
    members(files, None, |list| list.retain(|m| m != name));
    let own = groups(files).into_iter().find(|g| g.name == name);
    let Some(own) = own.filter(|g| g.gid == who.gid || g.members.is_empty()) else { return Said::ok("") };
    if users(files).iter().any(|u| u.gid == own.gid) {
        let text = format!("userdel: group {name} is the primary group of another user and is not removed.\n");
        return Said::both(0, "", text);
    }
    delete(files, GROUP, name);
    delete(files, GSHADOW, name);
    Said::ok("")
}

/// Days since 1970 of an ISO date.
fn days(date: &str) -> Option<i64> {
    let mut parts = date.splitn(3, '-').map(str::parse::<i64>);
    let (Some(Ok(y)), Some(Ok(m)), Some(Ok(d))) = (parts.next(), parts.next(), parts.next()) else { return None };
    // Days before a civil date, with years that begin in March.
    let (y, m) = if m <= 2 { (y - 1, m + 9) } else { (y, m - 3) };
    Some(365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + d - 1 - 719_468)
}

fn usermod(m: &mut Machine, given: &Given) -> Said {
    let (files, name) = (&mut m.world.files, given.word(0));
    let Some(who) = user(files, name) else {
        return Said::err(6, format!("usermod: user '{name}' does not exist\n"));
    };
    let expire = match given.value("expiredate") {
        None => None,
        Some("" | "-1") => Some(String::new()),
        Some(date) => match date.parse().ok().or_else(|| days(date)) {
            Some(day) => Some(day.to_string()),
            None => return Said::err(3, format!("usermod: invalid date '{date}'\n")),
        },
    };
    let lists = match given.value("groups").map(|l| find_groups(files, l)) {
        None => Vec::new(),
        Some(Ok(found)) => found,
        Some(Err(missing)) => return Said::err(6, format!("usermod: group '{missing}' does not exist\n")),
    };
    if given.value("comment").is_some_and(|c| c.contains([':', '\n'])) {
        return Said::err(3, "usermod: invalid field\n");
    }
    edit(files, PASSWD, |rows| {
        for row in rows.iter_mut().filter(|r| r[0] == name && r.len() == 7) {
            if let Some(comment) = given.value("comment") {
                row[4] = comment.to_owned();
            }
            if let Some(shell) = given.value("shell") {
                row[6] = shell.to_owned();
            }
        }
    });
    let mut warning = "";
    edit(files, SHADOW, |rows| {
        for row in rows.iter_mut().filter(|r| r[0] == name && r.len() == 9) {
            if given.has("lock") && !row[1].starts_with('!') {
                row[1].insert(0, '!');
            }
            if given.has("unlock") {
                if row[1] == "!" {
                    warning = "usermod: unlocking the user's password would result in a passwordless account.\n\
                               You should set a password with usermod -p to unlock this user's password.\n";
                } else if let Some(rest) = row[1].strip_prefix('!') {
                    row[1] = rest.to_owned();
                }
            }
            if let Some(day) = &expire {
                row[7].clone_from(day);
            }
        }
    });
    if given.value("groups").is_some() {
        let listed = |g: &Group| lists.iter().any(|l| l.name == g.name);
        for group in groups(files) {
            let (inside, named) = (group.members.contains(&who.name), listed(&group));
            if named && !given.has("remove") && !inside {
                members(files, Some(&group.name), |list| list.push(name.to_owned()));
            } else if inside && ((given.has("remove") && named) || (!given.has("append") && !given.has("remove") && !named)) {
                members(files, Some(&group.name), |list| list.retain(|m| m != name));
            }
        }
    }
    Said::both(0, "", warning)
}
