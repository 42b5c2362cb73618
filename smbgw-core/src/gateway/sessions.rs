// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is connected and what is open: questions to the Samba of a gateway, wherever it runs. It knows which sessions are a gateway's and
//! which are those of foreign shares beside it; how a session is ended is in [`crate::run`].
//!
//! Sessions and tree connects are asked for each by itself, without the files: `smbstatus` grows with their number (a quarter of a second at
//! 2000 sessions). Open files are asked for as text, which grows with their number (a tenth of a second at 10,000; as JSON it is the square, ten
//! seconds), on demand only.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::params::{number, text};
use super::{Asked, Context, no_gateway};
use crate::effect::{self, Cmd, Program};
use crate::error::{Error, Kind, Result};
use crate::facts::Paths;
use crate::format::smbstatus::{self, Degree, Protection, Session, Tcon};
use crate::host::{Machines, Secrets, programs};
use crate::observe;
use crate::plan::{Intent, accounts, samba};
use crate::spec::record::{Member, Record};
use crate::spec::section::Mode;
use crate::types::{GatewayId, shorten};

/// How many open files are listed unless asked.
const LIMIT: usize = 200;
/// How long Samba may take to tell.
pub(super) const SESSIONS_MS: u64 = 10_000;
/// The same for open files.
const FILES_MS: u64 = 20_000;

/// What `session.close` is about: one id or one user.
pub(super) fn which(params: &Value) -> Result<(Option<String>, Option<String>)> {
    let (id, user) = (text(params, "id")?, text(params, "user")?);
    match (&id, &user) {
        (Some(_), Some(_)) => Err(Error::property("user", "name a session or a user, not both")),
        (None, None) => Err(Error::property("id", "is needed: a session, or a user").remedy("pve-smbgateway session list")),
        (Some(i), None) if i.is_empty() || i.len() > 20 || !i.bytes().all(|b| b.is_ascii_digit()) => {
            Err(Error::property("id", format!("{} is no session: it is a number", shorten(i)))
                .remedy("pve-smbgateway session list"))
        }
        _ => Ok((id, user)),
    }
}

/// One gateway whose Samba is asked.
struct Place {
    paths: Paths,
    record: Record,
    sessions: Vec<Session>,
    tcons: Vec<Tcon>,
}

impl Place {
    /// The id of a share of ours, by its name in SMB, which has no case.
    fn share(&self, service: &str) -> Option<&str> {
        let named = |id: &str, e: &crate::spec::record::ShareEntry| {
            e.section.get("share").map_or(id, String::as_str).to_lowercase() == service.to_lowercase()
        };
        self.record.shares.iter().find(|(id, e)| named(id, e)).map(|(id, _)| id.as_str())
    }

    fn tcons_of<'a>(&'a self, s: &'a Session) -> impl Iterator<Item = &'a Tcon> {
        self.tcons.iter().filter(move |t| t.session_id == s.id && t.pid == s.pid)
    }

    /// Whether a session is the gateway's: of a share or a user of its own, or of nothing else. The node's Samba may have other shares, which
    /// are no business of ours.
    fn is_ours(&self, s: &Session) -> bool {
        let services: Vec<&str> =
            self.tcons_of(s).map(|t| t.service.as_str()).filter(|n| !n.eq_ignore_ascii_case("IPC$")).collect();
        self.paths.mode == Mode::Lxc
            || services.is_empty()
            || services.iter().any(|n| self.share(n).is_some())
            || self.record.users.contains_key(&s.username.to_lowercase())
    }

    fn document(&self, s: &Session) -> Value {
        let mut tcons: Vec<&Tcon> = self.tcons_of(s).collect();
        tcons.sort_by(|a, b| (&a.connected_at, &a.service).cmp(&(&b.connected_at, &b.service)));
        let (domain, account) = match s.username.split_once('\\') {
            Some((d, a)) => (Some(d), a),
            None => (None, s.username.as_str()),
        };
        // `ipv4:ADDR:PORT`, `ipv6:ADDR:PORT`
        let peer = s.hostname.split_once(':').map_or(s.hostname.as_str(), |(_, p)| p);
        let (address, port) = peer.rsplit_once(':').unwrap_or((peer, ""));
        let shares: Vec<Value> = tcons
            .iter()
            .map(|t| {
                json!({
                    "share": t.service, "id": self.share(&t.service), "since": t.connected_at, "encryption": protection(&t.encryption),
                    "signing": protection(&t.signing),
                })
            })
            .collect();
        json!({
            "gateway": self.paths.gateway, "id": s.id, "pid": s.pid, "user": s.username, "uid": s.uid, "domain": domain, "account": account,
            "machine": s.remote_machine, "address": address, "port": port.parse::<u16>().ok(), "dialect": s.dialect,
            "encryption": protection(&s.encryption), "signing": protection(&s.signing), "since": tcons.first().map(|t| &t.connected_at),
            "shares": shares,
        })
    }
}

fn protection(p: &Protection) -> Value {
    let degree = match p.degree {
        Degree::None => "none",
        Degree::Partial => "partial",
        Degree::Full => "full",
    };
    json!({"cipher": Some(&p.cipher).filter(|c| !c.is_empty() && *c != "-"), "degree": degree})
}

impl Context {
    pub(super) fn smbstatus(machines: &Machines, paths: &Paths, at: effect::Place, args: &[&str], ms: u64) -> Result<String> {
        let cmd: Cmd = accounts::samba_at(paths, Program::Smbstatus, args).within_ms(ms);
        let out = machines.at(at).run(&cmd, &Secrets::default())?;
        if out.timed_out {
            return Err(Error::new(Kind::Timeout, format!("Samba did not tell within {} s", ms / 1000))
                .remedy("try again when there is less load; for files, name a share or a user"));
        }
        if out.status != 0 {
            let why = programs::complaint(Program::Smbstatus, &out);
            return Err(Error::new(Kind::Service, format!("{cmd} failed: {why}")));
        }
        Ok(out.out())
    }

    /// Asks one gateway; `None` where its Samba does not run, which smbstatus would not tell.
    fn ask_sessions(&self, machines: &Machines, paths: &Paths) -> Result<Option<Place>> {
        let Some((record, at)) = self.serving(machines, paths)? else { return Ok(None) };
        Self::sessions_at(machines, paths, record, at).map(Some)
    }

    /// The record of a gateway whose Samba runs, and where that is.
    fn serving(&self, machines: &Machines, paths: &Paths) -> Result<Option<(Record, effect::Place)>> {
        let facts = observe::quick(machines, &self.node, paths)?;
        let record = facts.record.clone().ok_or_else(|| no_gateway(paths.gateway.as_str()))?;
        Ok((facts.reachable && facts.smbd_running).then_some((record, facts.place)))
    }

    fn sessions_at(machines: &Machines, paths: &Paths, record: Record, at: effect::Place) -> Result<Place> {
        let sessions = smbstatus::parse_sessions(&Self::smbstatus(machines, paths, at, &["-p", "-j"], SESSIONS_MS)?)?;
        let tcons = smbstatus::parse_tcons(&Self::smbstatus(machines, paths, at, &["-S", "-j"], SESSIONS_MS)?)?;
        Ok(Place { paths: paths.clone(), record, sessions, tcons })
    }

    /// The gateways that a question is about: the one named, that of a share, or all of this node.
    fn asked_gateways(&self, params: &Value) -> Result<Vec<Paths>> {
        if let Some(id) = text(params, "id")? {
            let found = self.gateway_of(&id)?.filter(|(_, r)| r.node == self.node);
            let (paths, _) = found.ok_or_else(|| {
                Error::new(Kind::NotFound, format!("there is no share {} on node {}", shorten(&id), self.node))
                    .remedy("pve-smbgateway list")
            })?;
            if let Some(g) = text(params, "gateway")?.filter(|g| g != paths.gateway.as_str()) {
                return Err(Error::property(
                    "gateway",
                    format!("share {} is of gateway {}, not {}", id, paths.gateway, shorten(&g)),
                ));
            }
            return Ok(vec![paths]);
        }
        if text(params, "gateway")?.is_some() {
            return Ok(vec![self.here(self.named(params)?)?]);
        }
        Ok(self.gateways()?.into_iter().filter(|(_, r)| r.node == self.node).map(|(p, _)| p).collect())
    }

    /// `sessions`: who is connected.
    pub(super) fn sessions(&self, params: &Value) -> Result<Value> {
        let (only, user) = (text(params, "id")?, text(params, "user")?);
        let machines = self.machines();
        let (mut list, mut silent, mut foreign) = (Vec::new(), Vec::new(), 0_usize);
        for paths in self.asked_gateways(params)? {
            let Some(place) = self.ask_sessions(&machines, &paths)? else {
                silent.push(paths.gateway);
                continue;
            };
            for s in &place.sessions {
                if !place.is_ours(s) {
                    foreign += 1;
                    continue;
                }
                let here = only.as_deref().is_none_or(|id| place.tcons_of(s).any(|t| place.share(&t.service) == Some(id)));
                if here && user.as_deref().is_none_or(|u| is_user(s, u)) {
                    list.push(place.document(s));
                }
            }
        }
        list.sort_by_cached_key(|d| {
            (d["gateway"].to_string(), d["user"].to_string(), d["since"].to_string(), d["id"].to_string())
        });
        Ok(json!({"node": self.node, "sessions": list, "foreign": foreign, "not-running": silent}))
    }

    /// `files`: what is open.
    pub(super) fn files(&self, params: &Value) -> Result<Value> {
        let (only, user) = (text(params, "id")?, text(params, "user")?);
        let limit = number(params, "limit")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(LIMIT).max(1);
        let machines = self.machines();
        let (mut list, mut silent, mut total) = (Vec::new(), Vec::<GatewayId>::new(), 0_usize);
        for paths in self.asked_gateways(params)? {
            let Some((record, at)) = self.serving(&machines, &paths)? else {
                silent.push(paths.gateway);
                continue;
            };
            // Before the sessions: a session is there before what it opens, so that each file finds whose it is.
            let opens = Self::smbstatus(&machines, &paths, at, &["-L", "-n"], FILES_MS)?;
            let place = Self::sessions_at(&machines, &paths, record, at)?;
            // Trees as Samba has them: in a container they are mounted elsewhere.
            let trees: BTreeMap<String, &str> = place
                .record
                .shares
                .iter()
                .filter_map(|(id, e)| {
                    let spec = samba::spec_of(id, e, &place.record).ok()?;
                    Some((samba::served_path(&spec).display().to_string(), id.as_str()))
                })
                .collect();
            let names: Vec<&str> = trees.keys().map(String::as_str).collect();
            for o in smbstatus::parse_opens(&opens, &names) {
                let Some(id) = trees.get(&o.tree).copied() else { continue };
                let by: Vec<&Session> = place.sessions.iter().filter(|s| s.pid == o.pid && s.node == o.node).collect();
                let of_user: Vec<&&Session> = by.iter().filter(|s| s.uid == Some(o.uid)).collect();
                let session = of_user.first().copied().or(by.first());
                let name = session.filter(|s| s.uid == Some(o.uid)).map(|s| s.username.clone());
                let wanted = user.as_deref().is_none_or(|u| session.is_some_and(|s| is_user(s, u)));
                if !wanted || only.as_deref().is_some_and(|w| w != id) {
                    continue;
                }
                total += 1;
                if list.len() < limit {
                    let ids: BTreeSet<&str> = if of_user.is_empty() {
                        by.iter().map(|s| s.id.as_str()).collect()
                    } else {
                        of_user.iter().map(|s| s.id.as_str()).collect()
                    };
                    list.push(json!({
                        "gateway": place.paths.gateway, "id": id, "path": o.name, "tree": o.tree, "user": name, "uid": o.uid, "pid": o.pid,
                        "sessions": ids, "machine": session.map(|s| &s.remote_machine), "access": o.mode, "access-mask": format!("0x{:08x}", o.access),
                        "share-mode": o.deny, "caching": o.caching, "since": o.opened,
                    }));
                }
            }
        }
        Ok(json!({"node": self.node, "files": list, "total": total, "more": total > limit, "not-running": silent}))
    }

    /// A user as Samba names him: on a member `alice` is the domain's, unless the gateway has a local user of that name.
    pub(super) fn session_user(&self, paths: &Paths, user: String) -> Result<String> {
        if user.is_empty() || user.len() > 256 || user.chars().any(char::is_control) {
            return Err(Error::property("user", format!("{} is no user", shorten(&user))));
        }
        let record = observe::record(&*self.host, paths)?.ok_or_else(|| no_gateway(paths.gateway.as_str()))?;
        let local = user.contains('\\') || record.users.contains_key(&user.to_lowercase());
        Ok(match record.member.as_ref().filter(|m| m.is_joined() && !local) {
            Some(Member { workgroup, .. }) => format!("{workgroup}\\{user}"),
            None => user,
        })
    }

    /// Before sessions are ended: which there are, what else goes with them, and whether they are ours to end.
    pub(super) fn look_at_sessions(&self, asked: &mut Asked) -> Result<()> {
        let Intent::SessionClose { user, id, ends } = &mut asked.intent else { return Ok(()) };
        let gateway = &asked.paths.gateway;
        let none = |what: String| Error::new(Kind::NotFound, what).remedy(format!("pve-smbgateway session list {gateway}"));
        let Some(place) = self.ask_sessions(&self.machines(), &asked.paths)? else {
            return Err(Error::new(Kind::Service, format!("the Samba of gateway {gateway} does not run: nobody is connected"))
                .remedy(format!("pve-smbgateway repair {gateway}")));
        };
        let wanted = |s: &&Session| match (&*id, &*user) {
            (Some(i), _) => s.id == *i,
            (_, Some(u)) => s.username.eq_ignore_ascii_case(u),
            _ => false,
        };
        let (ours, foreign): (Vec<&Session>, Vec<&Session>) =
            place.sessions.iter().filter(wanted).partition(|s| place.is_ours(s));
        if let Some(s) = foreign.first() {
            let why = format!("session {} of {} is that of a foreign share, and not the gateway's to end", s.id, s.username);
            return Err(Error::new(Kind::Conflict, why).remedy(format!("smbcontrol {} shutdown", s.pid)));
        }
        if ours.is_empty() {
            let what = id.as_ref().map_or_else(|| user.clone().unwrap_or_default(), |i| format!("session {i}"));
            return Err(none(match id {
                Some(_) => format!("gateway {gateway} has no {what}"),
                None => format!("{what} has no session at gateway {gateway}"),
            }));
        }
        let pids: BTreeSet<u32> = ours.iter().map(|s| s.pid).collect();
        for other in place.sessions.iter().filter(|s| pids.contains(&s.pid) && !ours.iter().any(|o| o.id == s.id)) {
            asked.warnings.push(format!("session {} of {} ends too: it came by the same connection", other.id, other.username));
        }
        *ends = ours.iter().map(|s| place.document(s)).collect();
        Ok(())
    }
}

/// Whether a session is of a user that somebody named, with the domain or without.
fn is_user(s: &Session, named: &str) -> bool {
    let account = s.username.split_once('\\').map_or(s.username.as_str(), |(_, a)| a);
    s.username.eq_ignore_ascii_case(named) || account.eq_ignore_ascii_case(named)
}
