// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether a membership is good: exit status 0 of a join is not health. Asked after a join, by `ad check`, and by the worker. It changes
//! nothing but what Samba remembers of an outage.

use std::collections::BTreeMap;
use std::path::Path;

use super::find::{self, SKEW_S};
use super::{Finding, Inquiry, Reason, evidence, judge};
use crate::effect::{Cmd, Program};
use crate::error::Result;
use crate::facts::Paths;
use crate::format::net_ads;
use crate::host::{Host, Output};
use crate::plan::accounts::samba_at;
use crate::plan::directory::{krb5_conf, list_keytab, wanted_names};
use crate::spec::record::{KnownAccount, Member};

/// How long a computer's password may stay: winbindd changes it every week.
pub const ROTATION_MS: i64 = 15 * 86_400_000;

fn cmd(paths: &Paths, program: Program, words: &[&str]) -> Cmd {
    samba_at(paths, program, words).within_ms(20_000).krb5_config(krb5_conf(paths))
}

/// A question that is answered by a command's exit status and, where that is not enough, by what it says.
fn ask(inquiry: &mut Inquiry, check: &'static str, cmd: Cmd, look: impl Fn(&Output) -> Option<String> + 'static) {
    inquiry.then(move |_, _| {
        let asked = cmd.clone();
        Ok(Some((
            cmd,
            Box::new(move |inquiry: &mut Inquiry, _, out: &Output| -> Result<()> {
                let good = judge(&asked, out).is_none().then(|| look(out)).flatten();
                let reason = match &good {
                    Some(_) => None,
                    None => judge(&asked, out).or(Some(Reason::Unclear)),
                };
                let saw = good.unwrap_or_else(|| evidence(&asked, out));
                inquiry.note(check, asked.to_string(), saw, reason);
                Ok(())
            }),
        )))
    });
}

/// The one question that is cheap enough for every minute: does winbindd reach a domain controller, and with a secret that counts.
pub fn quick(paths: &Paths) -> Inquiry {
    let mut inquiry = Inquiry::default();
    ask(&mut inquiry, "winbindd", cmd(paths, Program::Wbinfo, &["--ping"]), |out| Some(out.out().trim().to_owned()));
    ask(&mut inquiry, "controller", cmd(paths, Program::Wbinfo, &["--ping-dc"]), |out| Some(out.out().trim().to_owned()));
    inquiry
}

/// A question to winbindd.
pub fn wbinfo(paths: &Paths, words: &[&str]) -> Cmd {
    cmd(paths, Program::Wbinfo, words)
}

/// Everything about a membership: the domain, what a good member has, and the names of accounts. `afresh`: not by what Samba
/// remembers of an outage.
pub fn whole(paths: &Paths, member: &Member, accounts: &BTreeMap<String, KnownAccount>, afresh: bool) -> Inquiry {
    let mut inquiry = find::controllers(&member.domain);
    if afresh {
        forget(&mut inquiry, paths);
    }
    inquiry.and(all(paths, member));
    inquiry.and(names_of(accounts, paths));
    inquiry
}

/// Samba remembers for a minute which domain controllers did not answer (`NEG_CONN_CACHE` in gencache.tdb), and would say so of one that is
/// back. There is nothing in that cache that it does not find out again.
fn forget(inquiry: &mut Inquiry, paths: &Paths) {
    let cmd = cmd(paths, Program::Net, &["cache", "flush"]);
    inquiry.then(move |inquiry, _| {
        let back = inquiry.notes.trouble().is_none();
        Ok(back.then_some((cmd, Box::new(|_: &mut Inquiry, _: &dyn Host, _: &Output| Ok(())) as super::Hear)))
    });
}

/// Everything that a good member has.
pub fn all(paths: &Paths, member: &Member) -> Inquiry {
    let mut inquiry = quick(paths);
    inquiry.and(time(paths));
    inquiry.and(kerberos(paths, member));
    inquiry
}

/// The clocks.
pub fn time(paths: &Paths) -> Inquiry {
    let mut inquiry = Inquiry::default();
    clock(&mut inquiry, paths);
    inquiry
}

/// What Kerberos and the secure channel need: the secret, the names, the keys.
pub fn kerberos(paths: &Paths, member: &Member) -> Inquiry {
    let mut inquiry = Inquiry::default();
    ask(&mut inquiry, "join", cmd(paths, Program::Net, &["ads", "testjoin"]), |out| {
        net_ads::parse_testjoin(&out.out()).then(|| "Join is OK".to_owned())
    });
    ask(&mut inquiry, "secret", cmd(paths, Program::Wbinfo, &["--check-secret"]), |out| Some(out.out().trim().to_owned()));
    names(&mut inquiry, paths, member);
    keytab(&mut inquiry, paths, member);
    inquiry
}

/// Clocks, and when the computer's password was changed last.
fn clock(inquiry: &mut Inquiry, paths: &Paths) {
    let cmd = cmd(paths, Program::Net, &["ads", "info"]);
    inquiry.then(move |_, _| {
        let asked = cmd.clone();
        Ok(Some((
            cmd,
            Box::new(move |inquiry, _, out| {
                let info = net_ads::parse_info(&out.out());
                let reason = match info.offset_s {
                    Some(o) if o.abs() > SKEW_S => Some(Reason::ClockSkew),
                    Some(_) => None,
                    None => judge(&asked, out).or(Some(Reason::ControllerNotFound)),
                };
                let saw = info
                    .offset_s
                    .map_or_else(|| evidence(&asked, out), |o| format!("the domain controller's clock is {o} s ahead"));
                inquiry.note("clock", asked.to_string(), saw, reason);
                inquiry.notes.offset_s = info.offset_s;
                Ok(())
            }),
        )))
    });
}

/// The names under which Kerberos knows the gateway, as the domain has them.
fn names(inquiry: &mut Inquiry, paths: &Paths, member: &Member) {
    let filter = format!("(sAMAccountName={}$)", member.computer);
    let attributes = ["servicePrincipalName", "objectSid", "pwdLastSet"];
    let conf = (paths.smb_conf != Path::new("/etc/samba/smb.conf")).then(|| paths.smb_conf.clone());
    let cmd = super::accounts::search(&filter, &attributes, conf.as_deref(), &krb5_conf(paths));
    let member = member.clone();
    inquiry.then(move |_, host| {
        let (asked, now) = (cmd.clone(), host.now_ms());
        Ok(Some((
            cmd,
            Box::new(move |inquiry, _, out| {
                if let Some(reason) = judge(&asked, out) {
                    inquiry.note("names", asked.to_string(), evidence(&asked, out), Some(reason));
                    return Ok(());
                }
                let entries = net_ads::parse_search(&out.out());
                let Some(entry) = entries.iter().find(|e| e.contains_key("objectSid")) else {
                    inquiry.note("names", asked.to_string(), "the domain has no such computer", Some(Reason::MachineAccountGone));
                    return Ok(());
                };
                let has = entry.get("servicePrincipalName").map(Vec::as_slice).unwrap_or_default();
                let lacking: Vec<String> =
                    wanted_names(&member).into_iter().filter(|w| !has.iter().any(|h| h.eq_ignore_ascii_case(w))).collect();
                let reason = (!lacking.is_empty()).then_some(Reason::SpnLost);
                let saw = if lacking.is_empty() { has.join(", ") } else { format!("missing: {}", lacking.join(", ")) };
                inquiry.note("names", asked.to_string(), saw, reason);
                // Tenths of microseconds since 1601 ([MS-DTYP] 2.3.3).
                if let Some(set) = entry.get("pwdLastSet").and_then(|v| v.first()?.parse::<i64>().ok()).filter(|t| *t > 0) {
                    let age = now - (set / 10_000 - 11_644_473_600_000);
                    let days = age / 86_400_000;
                    let reason = (age > ROTATION_MS).then_some(Reason::RotationOverdue);
                    inquiry.note("rotation", asked.to_string(), format!("the password was changed {days} days ago"), reason);
                }
                Ok(())
            }),
        )))
    });
}

/// Whether the accounts that shares name still have their names. Access goes by SID, so it stays either way.
pub fn names_of(known: &BTreeMap<String, KnownAccount>, paths: &Paths) -> Inquiry {
    let mut inquiry = Inquiry::default();
    let known: Vec<KnownAccount> = known.values().cloned().collect();
    for some in known.chunks(50) {
        let some = some.to_vec();
        let filter: String = some.iter().map(|a| format!("(objectSid={})", a.sid)).collect();
        let conf = (paths.smb_conf != Path::new("/etc/samba/smb.conf")).then(|| paths.smb_conf.clone());
        let attributes = ["sAMAccountName", "objectSid"];
        let cmd = super::accounts::search(&format!("(|{filter})"), &attributes, conf.as_deref(), &krb5_conf(paths));
        inquiry.then(move |_, _| {
            let asked = cmd.clone();
            Ok(Some((
                cmd,
                Box::new(move |inquiry, _, out| {
                    if let Some(reason) = judge(&asked, out) {
                        inquiry.note("accounts", asked.to_string(), evidence(&asked, out), Some(reason));
                        return Ok(());
                    }
                    let entries = net_ads::parse_search(&out.out());
                    for a in some {
                        let entry = entries.iter().find(|e| e.get("objectSid").is_some_and(|s| s.contains(&a.sid)));
                        let now = entry.and_then(|e| e.get("sAMAccountName")?.first());
                        let (saw, reason) = match now {
                            None => (format!("{} ({}) is gone", a.account, a.sid), Some(Reason::NameUnknown)),
                            Some(n) if n.to_lowercase() != a.account.name().to_lowercase() => {
                                (format!("{} is called {n} now", a.account), Some(Reason::Renamed))
                            }
                            Some(_) => (a.account.to_string(), None),
                        };
                        let did = asked.to_string();
                        inquiry.notes.findings.push(Finding { check: "accounts", did, saw, reason, harmless: true });
                    }
                    Ok(())
                }),
            )))
        });
    }
    inquiry
}

/// The keys for others, which the gateway keeps of itself. Whatever is wrong with them, they can be made anew.
fn keytab(inquiry: &mut Inquiry, paths: &Paths, member: &Member) {
    let (cmd, principal) = (list_keytab(paths).within_ms(20_000), member.principal().to_lowercase());
    inquiry.then(move |_, _| {
        let asked = cmd.clone();
        Ok(Some((
            cmd,
            Box::new(move |inquiry, _, out| {
                let keys = out.out().lines().filter(|l| l.to_lowercase().contains(&principal)).count();
                let reason = (out.status != 0 || keys == 0).then_some(Reason::KeytabMissing);
                let saw = if reason.is_none() { format!("{keys} keys of the computer") } else { evidence(&asked, out) };
                inquiry.note("keytab", asked.to_string(), saw, reason);
                Ok(())
            }),
        )))
    });
}
