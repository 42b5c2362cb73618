// SPDX-License-Identifier: MIT OR Apache-2.0
//! Acts on a domain: looking for it, joining, leaving, looking accounts up, proving the membership. It knows `net ads`; what each question means
//! is in [`crate::directory`].

use std::path::{Path, PathBuf};

use super::{Flow, Tools, change_record};
use crate::directory::{Reason, accounts as lookup, evidence, find as before, judge, prove as proving};
use crate::effect::{Cmd, FileSpec, Program};
use crate::error::{Error, Kind, Result};
use crate::facts::Effective;
use crate::observe;
use crate::plan::directory::{krb5_conf, make_keytab, scratch};
use crate::plan::samba;
use crate::plan::step::{JoinBy, Joining, Parting};
use crate::spec::record::{Member, MemberState};
use crate::types::{DomainAccount, Workgroup};

/// How often a membership is asked for that was made a moment ago: winbindd needs some time to find its domain controller.
const PROOFS: u32 = 6;

/// Looks for a domain, and records what it is.
pub(super) fn find(j: &Joining) -> Flow {
    let wanted = j.clone();
    Flow::Inquire(
        before::before_join(j),
        Box::new(move |tools, notes| {
            tools.host.remove(&wanted.scratch)?;
            tools.host.remove(&wanted.secret_file())?;
            notes.check()?;
            let name = notes.workgroup.as_deref().unwrap_or_default().to_uppercase();
            let workgroup = Workgroup::new(&name)?;
            change_record(tools, |r| {
                let before = r.member.take();
                let kept = |f: fn(&Member) -> bool| before.as_ref().is_some_and(f);
                r.member = Some(Member {
                    domain: wanted.domain.domain.clone(),
                    workgroup,
                    computer: wanted.domain.computer.clone(),
                    range: wanted.domain.range,
                    state: MemberState::Found,
                    // Who gives a blob has made the account.
                    account_before: notes.computer.is_some() || wanted.by == JoinBy::Offline,
                    started_winbindd: kept(|m| m.started_winbindd),
                    enabled_winbindd: kept(|m| m.enabled_winbindd),
                    added_names: kept(|m| m.added_names),
                    sid: None,
                    joined_ms: 0,
                    fallback: before.as_ref().and_then(|m| m.fallback),
                });
                Ok(())
            })?;
            Ok(Flow::Finished)
        }),
    )
}

fn put_conf(tools: &Tools<'_>, path: &Path, text: &str) -> Result<()> {
    tools.host.write_private(&FileSpec { path: path.to_owned(), content: text.to_owned(), mode: 0o600, uid: 0, gid: 0 })
}

/// A command of the account that joins or leaves.
fn net(j: &Joining, words: &[&str]) -> Result<Cmd> {
    j.net(words)
        .ok_or_else(|| Error::property("username", format!("is needed: an account of {} that may do this", j.domain.domain)))
}

/// Brings a ticket or a blob in first, where there is one.
fn with_secret(j: &Joining, then: impl FnOnce(&Tools<'_>) -> Result<Flow> + 'static, tools: &Tools<'_>) -> Result<Flow> {
    match j.bring_secret() {
        None => then(tools),
        Some(cmd) => Ok(Flow::Run(cmd, Box::new(move |tools, _| then(tools)))),
    }
}

/// An exit status that is no error by itself: what was said decides.
fn lenient(cmd: Cmd) -> Cmd {
    cmd.also_ok(&(1..=255).collect::<Vec<_>>())
}

fn failed(what: &str, cmd: &Cmd, out: &crate::host::Output, reason: Reason) -> Error {
    let saw = evidence(cmd, out);
    let message = format!("{what}: {} ({}): {saw}", reason.means(), reason.code());
    let e = match reason.property() {
        Some(p) => Error::property(p, message),
        None => Error::new(reason.kind(), message),
    };
    e.remedy(reason.remedy()).story(|s| {
        s.reason = Some(reason.code().to_owned());
        s.command = Some(cmd.to_string());
        s.exit = Some(out.status.to_string());
        s.stderr = Some(crate::host::programs::complaint(cmd.program, out));
    })
}

/// Makes the machine a member, and records it with the SID of its account.
pub(super) fn join(tools: &Tools<'_>, j: &Joining) -> Result<Flow> {
    put_conf(tools, &j.scratch, &j.conf)?;
    let ou = j.domain.ou.as_ref().map(|ou| format!("createcomputer={ou}"));
    let mut words = vec!["ads", "join"];
    words.extend((!j.domain.dns).then_some("--no-dns-updates"));
    words.extend(ou.as_deref());
    let cmd = match j.by {
        JoinBy::Offline => {
            let file = format!("loadfile={}", j.secret_file().display());
            let conf = format!("--configfile={}", j.scratch.display());
            Cmd::new(Program::Net, ["offlinejoin", "requestodj", &file, &conf]).within_ms(30_000).krb5_config(&j.krb5)
        }
        JoinBy::Password | JoinBy::Ticket => net(j, &words)?,
    };
    let by = j.clone();
    with_secret(j, move |_| Ok(joined(by, cmd)), tools)
}

/// Runs the join itself, and looks at the account that came of it.
fn joined(j: Joining, cmd: Cmd) -> Flow {
    Flow::Run(
        lenient(cmd.clone()),
        Box::new(move |_, out| {
            if let Some(reason) = judge(&cmd, &out) {
                return Err(failed(&format!("{} could not be joined", j.domain.domain), &cmd, &out, reason));
            }
            let filter = format!("(sAMAccountName={}$)", j.domain.computer);
            let asked = lookup::search(&filter, &["objectSid"], Some(&j.scratch), &j.krb5);
            Ok(Flow::Run(
                lenient(asked.clone()),
                Box::new(move |_, out| {
                    let entries = crate::format::net_ads::parse_search(&out.out());
                    let sid = entries.iter().find_map(|e| e.get("objectSid")?.first().cloned());
                    let Some(sid) = sid else {
                        let reason = judge(&asked, &out).unwrap_or(Reason::MachineAccountGone);
                        return Err(failed("the new computer account cannot be used", &asked, &out, reason));
                    };
                    let cmd = make_keytab(&j.scratch, &j.krb5);
                    Ok(Flow::Run(
                        lenient(cmd.clone()),
                        Box::new(move |tools, out| {
                            tools.host.remove(&j.scratch)?;
                            tools.host.remove(&j.secret_file())?;
                            if let Some(reason) = judge(&cmd, &out) {
                                return Err(failed("the keytab could not be written", &cmd, &out, reason));
                            }
                            let now = tools.on_node().now_ms();
                            change_record(tools, |r| {
                                if let Some(m) = r.member.as_mut() {
                                    (m.state, m.sid, m.joined_ms) = (MemberState::Joined, Some(sid), now);
                                }
                                Ok(())
                            })?;
                            Ok(Flow::Finished)
                        }),
                    ))
                }),
            ))
        }),
    )
}

/// Takes a join back, or leaves.
pub(super) fn unjoin(tools: &Tools<'_>, j: &Joining, parting: Parting, secrets: Option<(PathBuf, PathBuf)>) -> Result<Flow> {
    let words: &'static [&'static str] = match parting {
        Parting::LeaveAlone => return out(tools, secrets.as_ref()),
        Parting::Keep => &["ads", "leave", "--keep-account"],
        Parting::Delete => &["ads", "leave"],
    };
    let Some(workgroup) = &j.workgroup else { return out(tools, secrets.as_ref()) };
    let asked = lenient(observe::trust_cmd(workgroup));
    let j = j.clone();
    Ok(Flow::Run(
        asked,
        Box::new(move |tools, said| {
            // It did not come to a join, or it was left already: then nobody has to be asked for his password.
            if observe::no_trust(&said) { out(tools, secrets.as_ref()) } else { part(tools, &j, words, secrets) }
        }),
    ))
}

fn part(tools: &Tools<'_>, j: &Joining, words: &[&str], secrets: Option<(PathBuf, PathBuf)>) -> Result<Flow> {
    put_conf(tools, &j.scratch, &j.conf)?;
    let cmd = net(j, words)?;
    // Its records in DNS belong to the account: nobody else could take them away.
    let conf = format!("--configfile={}", j.scratch.display());
    let unregister = Cmd::new(Program::Net, ["ads", "dns", "unregister", &j.domain.host(), "--machine-pass", &conf]);
    let unregister = lenient(unregister.within_ms(20_000).krb5_config(&j.krb5));
    let by = j.clone();
    let then = move |_: &Tools<'_>| Ok(Flow::Run(unregister, Box::new(move |_, _| Ok(left(by, cmd, secrets)))));
    with_secret(j, then, tools)
}

/// Runs the leaving itself.
fn left(j: Joining, cmd: Cmd, secrets: Option<(PathBuf, PathBuf)>) -> Flow {
    let domain = j.domain.domain.clone();
    Flow::Run(
        lenient(cmd.clone()),
        Box::new(move |tools, said| {
            tools.host.remove(&j.scratch)?;
            tools.host.remove(&j.secret_file())?;
            match judge(&cmd, &said) {
                // Not joined: it did not come to that, or somebody was quicker.
                None | Some(Reason::NotJoined | Reason::MachineAccountGone) => out(tools, secrets.as_ref()),
                Some(reason) => Err(failed(&format!("{domain} could not be left"), &cmd, &said, reason)),
            }
        }),
    )
}

/// What of a membership is on the machine itself. The secrets from before are copied: the step that put them by takes them away, if it was
/// one of this operation.
fn out(tools: &Tools<'_>, secrets: Option<&(PathBuf, PathBuf)>) -> Result<Flow> {
    if let Some((before, live)) = secrets {
        if tools.host.exists(before)? {
            let words = ["--mode=0600".to_owned(), before.display().to_string(), live.display().to_string()];
            let back = Cmd::new(Program::Install, words);
            return Ok(Flow::Run(back, Box::new(|tools, _| without(tools))));
        }
    }
    without(tools)
}

fn without(tools: &Tools<'_>) -> Result<Flow> {
    tools.host.remove(Path::new(samba::KEYTAB))?;
    // An earlier undo may have got further than this one.
    if observe::record(tools.on_node(), tools.paths)?.is_none() {
        return Ok(Flow::Finished);
    }
    change_record(tools, |r| {
        // What an earlier state was brought back to is not for this step to say.
        if let Some(m) = r.member.as_mut().filter(|m| m.is_joined()) {
            (m.state, m.sid, m.joined_ms) = (MemberState::Found, None, 0);
        }
        Ok(())
    })?;
    Ok(Flow::Finished)
}

fn member(tools: &Tools<'_>) -> Result<Member> {
    observe::record(tools.on_node(), tools.paths)?
        .and_then(|r| r.member)
        .ok_or_else(|| Error::new(Kind::Internal, "the gateway is in no domain"))
}

/// Looks accounts up and records who they are.
pub(super) fn know(tools: &Tools<'_>, list: &[(DomainAccount, bool)]) -> Result<Flow> {
    let m = member(tools)?;
    let conf = scratch(tools.paths);
    // Samba itself may not have been told of the domain yet.
    put_conf(tools, &conf, &samba::joining_conf(&m, tools.paths.mode, &Effective::default())?)?;
    let inquiry = lookup::look_up(list, m.range, Some(&conf), &krb5_conf(tools.paths));
    Ok(Flow::Inquire(
        inquiry,
        Box::new(move |tools, notes| {
            tools.host.remove(&conf)?;
            notes.check()?;
            change_record(tools, |r| {
                r.accounts.extend(notes.accounts.into_iter().map(|a| (a.account.folded(), a)));
                Ok(())
            })?;
            Ok(Flow::Finished)
        }),
    ))
}

/// Whether a client that failed had no domain controller.
pub(super) fn is_outage(out: &crate::host::Output) -> bool {
    crate::format::ad_error::reason(&crate::directory::said(out)).is_some_and(|w| Reason::of(&w, Program::Smbclient).is_outage())
}

/// A client logs in and looks into a share.
pub(super) fn log_in(cmd: &Cmd) -> Flow {
    let cmd = cmd.clone();
    Flow::Run(
        lenient(cmd.clone()),
        Box::new(move |_, out| {
            let said = crate::directory::said(&out);
            // smbclient's exit status is not dependable with -c; the text is.
            let refused = out.status != 0 || said.contains("NT_STATUS_") || out.timed_out;
            if !refused {
                return Ok(Flow::Finished);
            }
            let reason = if said.contains("tree connect failed: NT_STATUS_ACCESS_DENIED")
                || said.contains("NT_STATUS_ACCESS_DENIED listing")
            {
                Reason::NoAccess
            } else {
                crate::format::ad_error::reason(&said).map_or(Reason::Unclear, |w| Reason::of(&w, cmd.program))
            };
            Err(failed("the log-in was refused", &cmd, &out, reason))
        }),
    )
}

/// Writes the keytab anew.
pub(super) fn keytab(tools: &Tools<'_>) -> Result<Flow> {
    let m = member(tools)?;
    let conf = scratch(tools.paths);
    put_conf(tools, &conf, &samba::joining_conf(&m, tools.paths.mode, &Effective::default())?)?;
    let cmd = make_keytab(&conf, &krb5_conf(tools.paths));
    Ok(Flow::Run(
        lenient(cmd.clone()),
        Box::new(move |tools, out| {
            tools.host.remove(&conf)?;
            match judge(&cmd, &out) {
                None => Ok(Flow::Finished),
                Some(reason) => Err(failed("the keytab could not be written", &cmd, &out, reason)),
            }
        }),
    ))
}

/// Proves the membership; a young one is asked several times.
pub(super) fn prove(tools: &Tools<'_>, asked: u32) -> Result<Flow> {
    let m = member(tools)?;
    Ok(Flow::Inquire(
        proving::all(tools.paths, &m),
        Box::new(move |tools, notes| {
            let young = |r: Reason| {
                matches!(r, Reason::WinbinddDown | Reason::ControllerNotFound | Reason::NameUnknown | Reason::Unclear)
            };
            if asked < PROOFS && notes.trouble().and_then(|f| f.reason).is_some_and(young) {
                tools.host.pause(std::time::Duration::from_millis(500));
                return prove(tools, asked + 1);
            }
            notes.check()?;
            Ok(Flow::Finished)
        }),
    ))
}
