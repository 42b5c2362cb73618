// SPDX-License-Identifier: MIT OR Apache-2.0
//! Before a gateway joins: is the domain there, do its controllers answer, do the clocks agree, is the account good, is the name free. It
//! changes nothing. `net ads join` merges most of these, and reports success with a clock that Kerberos refuses (measured, Samba 4.17).

use std::net::SocketAddr;
use std::time::Duration;

use super::{Computer, Controller, Inquiry, Question, Reason, evidence, judge, said};
use crate::effect::{Cmd, FileSpec, Program};
use crate::error::Result;
use crate::format::net_ads;
use crate::host::Host;
use crate::net::{DnsAsk, DnsKind, DnsSaid, Reach, SrvRecord};
use crate::plan::step::{JoinBy, Joining};
use crate::types::DnsDomain;

/// How long one question on the network may take; a run has to come back to its caller every second.
const ONE: Duration = Duration::from_millis(900);
/// How often a silent server is asked again: packets get lost.
const TRIES: u32 = 3;
/// Most domain controllers that are looked at: a large domain has hundreds, and the nearest are what counts.
const CONTROLLERS: usize = 6;
/// What a member needs of a domain controller: Kerberos, LDAP, SMB.
const PORTS: [(u16, &str); 3] = [(88, "Kerberos"), (389, "LDAP"), (445, "SMB")];
/// What Kerberos lets clocks differ, in seconds (RFC 4120, 1.6; the default of Active Directory).
pub const SKEW_S: i64 = 300;

/// The questions before a join. With an account, its rights to be asked are tried too.
pub fn before_join(j: &Joining) -> Inquiry {
    let mut inquiry = controllers(&j.domain.domain);
    let asker = Asker::new(j);
    let conf = asker.conf();
    inquiry.then(move |_, host| host.write_private(&conf).map(|()| None));
    asker.clone().look_up(&mut inquiry);
    asker.clone().clock(&mut inquiry);
    if j.account.is_some() {
        if let Some(cmd) = j.bring_secret() {
            inquiry.then(move |_, _| Ok(Some((cmd, Box::new(|_, _, _| Ok(()))))));
        }
        asker.clone().computer(&mut inquiry, j);
        if let Some(ou) = &j.domain.ou {
            asker.unit(&mut inquiry, j, ou);
        }
    }
    inquiry
}

/// The questions about name service and ports alone.
pub fn controllers(domain: &DnsDomain) -> Inquiry {
    let mut inquiry = Inquiry::default();
    let name = format!("_ldap._tcp.dc._msdcs.{domain}");
    inquiry.then(move |inquiry, host| service(inquiry, host, &name, 1));
    inquiry
}

/// Which hosts offer the domain.
fn service(inquiry: &mut Inquiry, host: &dyn Host, name: &str, tried: u32) -> Result<Option<(Cmd, super::Hear)>> {
    let answer = host.dns(&DnsAsk::new(name, DnsKind::Srv), ONE)?;
    let asked =
        answer.server.map_or_else(|| "the name servers of /etc/resolv.conf".to_owned(), |s| format!("the name server {s}"));
    let did = format!("asked {asked} for SRV {name}");
    let reason = match &answer.said {
        DnsSaid::Answer if !answer.srv.is_empty() => None,
        DnsSaid::Answer | DnsSaid::NoName | DnsSaid::NoData => Some(Reason::SrvMissing),
        DnsSaid::Silent if tried < TRIES => {
            let name = name.to_owned();
            inquiry.first(vec![Box::new(move |i, h| service(i, h, &name, tried + 1))]);
            return Ok(None);
        }
        DnsSaid::Silent => Some(Reason::DnsSilent),
        DnsSaid::Refused | DnsSaid::Unreachable(_) => Some(Reason::DnsRefused),
        DnsSaid::NoServer => Some(Reason::DnsNoServer),
        DnsSaid::ServFail | DnsSaid::Garbled => Some(Reason::DnsFailed),
    };
    if let Some(reason) = reason {
        inquiry.note("dns-srv", did, format!("{:?}", answer.said), Some(reason));
        inquiry.enough();
        return Ok(None);
    }
    let names: Vec<String> = answer.srv.iter().map(|s| format!("{}:{}", s.target, s.port)).collect();
    inquiry.note("dns-srv", did, names.join(", "), None);
    let mut more: Vec<Question> = Vec::new();
    for record in answer.srv.into_iter().take(CONTROLLERS) {
        more.push(Box::new(move |i, h| address(i, h, &record)));
    }
    more.push(Box::new(|i, _| {
        at_least_one(i);
        Ok(None)
    }));
    inquiry.first(more);
    Ok(None)
}

fn address(inquiry: &mut Inquiry, host: &dyn Host, record: &SrvRecord) -> Result<Option<(Cmd, super::Hear)>> {
    let mut found = host.dns(&DnsAsk::new(&record.target, DnsKind::A), ONE)?;
    if found.addresses.is_empty() {
        found = host.dns(&DnsAsk::new(&record.target, DnsKind::Aaaa), ONE)?;
    }
    let did = format!("asked DNS for the address of {}", record.target);
    let Some(address) = found.addresses.first().copied() else {
        inquiry.notes.controllers.push(Controller { name: record.target.clone(), address: None, good: false });
        inquiry.note("dns-address", did, format!("{:?}", found.said), Some(Reason::ControllerUnresolved));
        return Ok(None);
    };
    inquiry.note("dns-address", did, address.to_string(), None);
    inquiry.notes.controllers.push(Controller { name: record.target.clone(), address: Some(address), good: true });
    let at = inquiry.notes.controllers.len() - 1;
    let ports = PORTS.map(|(port, service)| -> Question {
        Box::new(move |i: &mut Inquiry, h: &dyn Host| port_answers(i, h, at, SocketAddr::new(address, port), service, 1))
    });
    inquiry.first(ports.into());
    Ok(None)
}

fn port_answers(
    inquiry: &mut Inquiry,
    host: &dyn Host,
    at: usize,
    to: SocketAddr,
    service: &'static str,
    tried: u32,
) -> Result<Option<(Cmd, super::Hear)>> {
    let reach = host.reach(to, ONE)?;
    let reason = match &reach {
        Reach::Open => None,
        Reach::Silent if tried < 2 => {
            inquiry.first(vec![Box::new(move |i, h| port_answers(i, h, at, to, service, tried + 1))]);
            return Ok(None);
        }
        Reach::Refused => Some(Reason::PortRefused),
        Reach::Silent => Some(Reason::PortSilent),
        Reach::Unreachable(_) => Some(Reason::Unreachable),
    };
    let name = inquiry.notes.controllers.get(at).map(|c| c.name.clone()).unwrap_or_default();
    if let (Some(_), Some(c)) = (reason, inquiry.notes.controllers.get_mut(at)) {
        c.good = false;
    }
    inquiry.note("port", format!("connected to {service} of {name} ({to})"), format!("{reach:?}"), reason);
    Ok(None)
}

/// One domain controller that answers everywhere is enough; what others lack is worth a word then.
fn at_least_one(inquiry: &mut Inquiry) {
    if inquiry.notes.controller().is_none() {
        inquiry.enough();
        return;
    }
    for f in inquiry.notes.findings.iter_mut().filter(|f| f.reason.is_some()) {
        f.harmless = true;
    }
}

/// Asks the first good domain controller through `net`, with a configuration of its own.
#[derive(Clone)]
struct Asker {
    scratch: std::path::PathBuf,
    krb5: std::path::PathBuf,
    text: String,
}

impl Asker {
    fn new(j: &Joining) -> Self {
        let realm = j.domain.domain.realm();
        let text = if j.conf.is_empty() {
            // The NetBIOS name is what is to be found out; any other is refused only by a join.
            format!(
                "[global]\n\tsecurity = ADS\n\trealm = {realm}\n\tworkgroup = {}\n\tnetbios name = {}\n",
                first_label(&realm),
                j.domain.computer
            )
        } else {
            j.conf.clone()
        };
        Self { scratch: j.scratch.clone(), krb5: j.krb5.clone(), text }
    }

    fn conf(&self) -> FileSpec {
        FileSpec { path: self.scratch.clone(), content: self.text.clone(), mode: 0o600, uid: 0, gid: 0 }
    }

    fn net(&self, inquiry: &Inquiry, words: &[&str]) -> Option<Cmd> {
        let controller = inquiry.notes.controller()?;
        let mut args: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        args.extend([format!("--server={}", controller.name), format!("--configfile={}", self.scratch.display())]);
        Some(Cmd::new(Program::Net, args).within_ms(20_000).krb5_config(&self.krb5))
    }

    fn by_account(&self, inquiry: &Inquiry, j: &Joining, words: &[&str]) -> Option<Cmd> {
        let server = format!("--server={}", inquiry.notes.controller()?.name);
        j.net(&[words, &[server.as_str()]].concat()).map(|c| c.within_ms(20_000))
    }

    fn look_up(self, inquiry: &mut Inquiry) {
        inquiry.then(move |inquiry, _| {
            let Some(cmd) = self.net(inquiry, &["ads", "lookup"]) else { return Ok(None) };
            let asked = cmd.clone();
            Ok(Some((
                cmd,
                Box::new(move |inquiry, _, out| {
                    let seen = net_ads::parse_lookup(&out.out());
                    let reason = judge(&asked, out).or(seen.workgroup.is_none().then_some(Reason::Unclear));
                    let saw = match (&reason, &seen.workgroup) {
                        (None, Some(w)) => format!("NetBIOS name {w}, site {}", seen.client_site.as_deref().unwrap_or("none")),
                        _ => evidence(&asked, out),
                    };
                    inquiry.note("domain", asked.to_string(), saw, reason);
                    (inquiry.notes.workgroup, inquiry.notes.site) = (seen.workgroup, seen.client_site);
                    Ok(())
                }),
            )))
        });
    }

    fn clock(self, inquiry: &mut Inquiry) {
        inquiry.then(move |inquiry, _| {
            let Some(cmd) = self.net(inquiry, &["ads", "info"]) else { return Ok(None) };
            let asked = cmd.clone();
            Ok(Some((
                cmd,
                Box::new(move |inquiry, _, out| {
                    let offset = net_ads::parse_info(&out.out()).offset_s;
                    let reason = match offset {
                        Some(o) if o.abs() > SKEW_S => Some(Reason::ClockSkew),
                        Some(_) => None,
                        None => judge(&asked, out).or(Some(Reason::Unclear)),
                    };
                    let saw =
                        offset.map_or_else(|| evidence(&asked, out), |o| format!("the domain controller's clock is {o} s ahead"));
                    inquiry.note("clock", asked.to_string(), saw, reason);
                    inquiry.notes.offset_s = offset;
                    Ok(())
                }),
            )))
        });
    }

    /// Whether the domain takes the account, and whether it has a computer of our name.
    fn computer(self, inquiry: &mut Inquiry, j: &Joining) {
        let (j, computer, named) = (j.clone(), j.domain.computer.clone(), j.domain.host());
        inquiry.then(move |inquiry, _| {
            // What was found so far would only be found again, and a wrong clock looks like a wrong password.
            if inquiry.notes.trouble().is_some() {
                inquiry.enough();
                return Ok(None);
            }
            let filter = format!("(sAMAccountName={computer}$)");
            let words = ["ads", "search", &filter, "distinguishedName", "objectSid", "dNSHostName"];
            let Some(cmd) = self.by_account(inquiry, &j, &words) else { return Ok(None) };
            let asked = cmd.clone();
            Ok(Some((
                cmd,
                Box::new(move |inquiry, _, out| {
                    if let Some(reason) = judge(&asked, out) {
                        inquiry.note("account", asked.to_string(), evidence(&asked, out), Some(reason));
                        let untold = matches!(reason, Reason::AccountRevoked | Reason::Unclear);
                        match self.by_smb(inquiry, &j).filter(|_| untold) {
                            Some(cmd) => what_exactly(inquiry, cmd),
                            None => inquiry.enough(),
                        }
                        return Ok(());
                    }
                    let entry = net_ads::parse_search(&out.out()).into_iter().find(|e| e.contains_key("distinguishedName"));
                    let value = |name: &str| entry.as_ref().and_then(|e| e.get(name)?.first().cloned());
                    let dn = value("distinguishedName");
                    let other = value("dNSHostName").filter(|n| !n.eq_ignore_ascii_case(&named));
                    let saw = match (&dn, &other) {
                        (None, _) => format!("the account is good, and there is no computer {computer} yet"),
                        (Some(dn), None) => format!("the account is good; {dn} is there already"),
                        (Some(dn), Some(other)) => format!("{dn} is the computer {other}"),
                    };
                    inquiry.note("account", asked.to_string(), saw, other.as_ref().map(|_| Reason::NameTaken));
                    inquiry.notes.computer = dn.map(|dn| Computer { dn, sid: value("objectSid"), dns_name: other });
                    Ok(())
                }),
            )))
        });
    }

    /// A log-in of the account by SMB and NTLM.
    fn by_smb(&self, inquiry: &Inquiry, j: &Joining) -> Option<Cmd> {
        let (account, controller) = (j.account.clone().filter(|_| j.by == JoinBy::Password)?, inquiry.notes.controller()?);
        let account = match &inquiry.notes.workgroup {
            Some(w) if !account.contains('@') => format!("{w}/{account}"),
            _ => account,
        };
        let mut words = vec![format!("//{}/IPC$", controller.name), "-U".to_owned(), account];
        words.extend(["--use-kerberos=off", "-m", "SMB3_11", "-t", "10", "-c", "exit"].map(str::to_owned));
        words.push(format!("--configfile={}", self.scratch.display()));
        Some(Cmd::new(Program::Smbclient, words).secret(j.by.secret(), 1).within_ms(20_000).krb5_config(&self.krb5))
    }

    /// Whether the organizational unit is there.
    fn unit(self, inquiry: &mut Inquiry, j: &Joining, ou: &str) {
        let (j, domain) = (j.clone(), &j.domain.domain);
        let units = ou.split('/').rev().map(|u| format!("OU={u}"));
        let dn = units.chain(domain.as_str().split('.').map(|l| format!("DC={l}"))).collect::<Vec<_>>().join(",");
        inquiry.then(move |inquiry, _| {
            let Some(cmd) = self.by_account(inquiry, &j, &["ads", "dn", &dn, "distinguishedName"]) else { return Ok(None) };
            let asked = cmd.clone();
            Ok(Some((
                cmd,
                Box::new(move |inquiry, _, out| {
                    let there = out.out().contains("distinguishedName:");
                    let gone = said(out).contains("No such object");
                    let reason = if there {
                        None
                    } else if gone || out.status == 0 {
                        Some(Reason::OuMissing)
                    } else {
                        judge(&asked, out)
                    };
                    let saw = if there { format!("{dn} is there") } else { evidence(&asked, out) };
                    inquiry.note("ou", asked.to_string(), saw, reason);
                    Ok(())
                }),
            )))
        });
    }
}

/// Kerberos does not say what is wrong with an account (RFC 4120: `KDC_ERR_CLIENT_REVOKED` is for all of it), and SMB does.
fn what_exactly(inquiry: &mut Inquiry, cmd: Cmd) {
    let asked = cmd.clone();
    let question: Question = Box::new(move |_, _| {
        Ok(Some((
            cmd,
            Box::new(move |inquiry, _, out| {
                use Reason::{AccountDisabled, AccountExpired, AccountLocked, AccountRestricted, PasswordMustChange};
                let told = crate::format::ad_error::reason(&said(out)).map(|w| Reason::of(&w, asked.program)).filter(|r| {
                    matches!(r, AccountDisabled | AccountExpired | AccountLocked | AccountRestricted | PasswordMustChange)
                });
                if let (Some(reason), Some(at)) = (told, inquiry.notes.findings.iter().rposition(|f| f.check == "account")) {
                    inquiry.notes.findings.remove(at);
                    inquiry.note("account", asked.to_string(), evidence(&asked, out), Some(reason));
                }
                inquiry.enough();
                Ok(())
            }),
        )))
    });
    inquiry.first(vec![question]);
}

fn first_label(realm: &str) -> String {
    realm.split('.').next().unwrap_or(realm).chars().take(15).collect()
}
