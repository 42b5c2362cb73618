// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions about a gateway's domain: is it there, is the membership good, who is somebody and what may he do. It knows which gateway is
//! meant and where it is; what is asked, and what answers mean, is in [`crate::directory`].

use std::path::PathBuf;
use std::rc::Rc;

use serde_json::{Value, json};

use super::params::{number, required, text};
use super::{Context, no_gateway};
use crate::directory::health::Health;
use crate::directory::{self, Inquiry, Reason, accounts, find, prove};
use crate::effect::FileSpec;
use crate::error::{Error, Kind, Result};
use crate::facts::{Facts, Paths};
use crate::format::{net_ads, wbinfo};
use crate::host::{Host, Secrets};
use crate::observe;
use crate::plan::directory::{krb5_conf, scratch};
use crate::plan::samba;
use crate::plan::step::{JoinBy, Joining};
use crate::spec::guest;
use crate::spec::record::{Member, Record, ShareState};
use crate::spec::{DomainSpec, Mode};
use crate::types::{DomainAccount, GatewayId, NodeName};

/// How many accounts are listed unless asked.
const LIMIT: usize = 200;

/// A gateway, and the machine on which its Samba is.
struct Asked {
    paths: Paths,
    record: Record,
    host: Rc<dyn Host>,
}

impl Asked {
    fn member(&self) -> Result<&Member> {
        self.record.member.as_ref().filter(|m| m.is_joined()).ok_or_else(|| {
            Error::new(Kind::Conflict, format!("gateway {} is in no domain", self.paths.gateway))
                .remedy(format!("pve-smbgateway ad join {}", self.paths.gateway))
        })
    }

    fn run(&self, inquiry: Inquiry) -> Result<directory::Notes> {
        inquiry.finish(&*self.host, &Secrets::default())
    }

    /// Entries of the domain, asked for with the gateway's own account.
    fn search(&self, filter: &str, attributes: &[&str]) -> Result<Vec<std::collections::BTreeMap<String, Vec<String>>>> {
        let own = (self.paths.smb_conf != std::path::Path::new("/etc/samba/smb.conf")).then(|| self.paths.smb_conf.clone());
        let cmd = accounts::search(filter, attributes, own.as_deref(), &krb5_conf(&self.paths));
        let out = self.host.run(&cmd, &Secrets::default())?;
        match directory::judge(&cmd, &out) {
            None => Ok(net_ads::parse_search(&out.out())),
            Some(reason) => {
                let mut inquiry = Inquiry::default();
                inquiry.note("search", cmd.to_string(), directory::evidence(&cmd, &out), Some(reason));
                inquiry.notes.check().map(|()| Vec::new())
            }
        }
    }
}

impl Context {
    fn about(&self, params: &Value) -> Result<Asked> {
        let paths = self.here(self.named(params)?)?;
        let machines = self.machines();
        let facts: Facts = observe::quick(&machines, &self.node, &paths)?;
        let record = facts.record.clone().ok_or_else(|| no_gateway(paths.gateway.as_str()))?;
        if !facts.reachable {
            return Err(Error::new(Kind::Service, format!("the container of gateway {} cannot be looked into", paths.gateway))
                .remedy(format!("pve-smbgateway gateway start {}", paths.gateway)));
        }
        Ok(Asked { host: machines.at(facts.place), paths, record })
    }

    /// `ad.check`: look by look. Of a member, whether it is a good one; otherwise whether the domain can be joined.
    pub(super) fn ad_check(&self, params: &Value) -> Result<Value> {
        let what = text(params, "what")?.unwrap_or_else(|| "check".into());
        let asked = self.about(params)?;
        let domain = text(params, "domain")?;
        let member = asked.record.member.as_ref().filter(|m| m.is_joined());
        let member = member.filter(|m| domain.as_ref().is_none_or(|d| d.eq_ignore_ascii_case(m.domain.as_str())));
        let notes = match (what.as_str(), member) {
            ("check", Some(m)) => asked.run(prove::whole(&asked.paths, m, &asked.record.accounts, true))?,
            ("dns", Some(m)) => asked.run(find::controllers(&m.domain))?,
            ("kerberos", _) => asked.run(prove::kerberos(&asked.paths, asked.member()?))?,
            ("time", Some(_)) => asked.run(prove::time(&asked.paths))?,
            ("check" | "dns" | "time", None) => {
                let j = self.joining(&asked, domain)?;
                match what.as_str() {
                    "dns" => asked.run(find::controllers(&j.domain.domain))?,
                    _ => {
                        let notes = asked.run(find::before_join(&j));
                        asked.host.remove(&j.scratch)?;
                        notes?
                    }
                }
            }
            _ => return Err(Error::property("what", "is none of check, dns, kerberos, time")),
        };
        let mut doc = notes.document();
        doc["gateway"] = json!(asked.paths.gateway);
        doc["member"] = json!(asked.record.member);
        Ok(doc)
    }

    fn health_file(&self, gateway: &GatewayId) -> PathBuf {
        self.native.run_dir.join("membership").join(format!("{gateway}.json"))
    }

    /// What is known of a gateway's membership since the node started.
    pub(super) fn membership_health(&self, gateway: &GatewayId) -> Health {
        let text = self.host.read_text(&self.health_file(gateway)).ok().flatten().unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Keeps it.
    pub(super) fn keep_health(&self, gateway: &GatewayId, health: &Health) -> Result<()> {
        let (uid, gid) = self.host.own_ids();
        let content = serde_json::to_string(health).unwrap_or_default();
        self.host.write_private(&FileSpec { path: self.health_file(gateway), content, mode: 0o600, uid, gid })
    }

    /// Forgets it, with the membership.
    pub(super) fn forget_health(&self, gateway: &GatewayId) -> Result<()> {
        self.host.remove(&self.health_file(gateway))
    }

    fn joining(&self, asked: &Asked, domain: Option<String>) -> Result<Joining> {
        let mut settings = asked.record.settings.clone();
        if let Some(d) = domain {
            settings.insert("domain".into(), d);
        }
        let host = match asked.paths.mode {
            Mode::Native => NodeName::new(&self.node)?,
            Mode::Lxc => NodeName::new(&guest::hostname(&asked.paths.gateway))?,
        };
        let (domain, problems) = DomainSpec::read(&host, asked.paths.mode, &settings);
        if !problems.is_empty() {
            return Err(Error::invalid(format!("gateway {}", asked.paths.gateway), problems));
        }
        let domain = domain.ok_or_else(|| Error::property("domain", "no section of the gateway names one; give --domain"))?;
        let scratch: PathBuf = scratch(&asked.paths).with_file_name("check.conf");
        Ok(Joining {
            domain,
            conf: String::new(),
            scratch,
            account: None,
            by: JoinBy::Password,
            krb5: krb5_conf(&asked.paths),
            workgroup: None,
        })
    }

    /// `ad.users`, `ad.groups`: accounts of the domain by name.
    pub(super) fn ad_accounts(&self, params: &Value, groups: bool) -> Result<Value> {
        let asked = self.about(params)?;
        let m = asked.member()?;
        let limit = number(params, "limit")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(LIMIT).max(1);
        let wanted = text(params, "match")?.unwrap_or_default();
        let wanted = if wanted.contains('*') { wanted } else { format!("*{wanted}*") };
        let pattern = wanted.split('*').map(accounts::escape).collect::<Vec<_>>().join("*");
        let pattern = if pattern.bytes().all(|b| b == b'*') { "*".to_owned() } else { pattern };
        // Normal users; security groups (LDAP_MATCHING_RULE_BIT_AND).
        let kind = if groups {
            "(objectClass=group)(groupType:1.2.840.113556.1.4.803:=2147483648)"
        } else {
            "(sAMAccountType=805306368)"
        };
        let entries = asked.search(&format!("(&{kind}(sAMAccountName={pattern}))"), &["sAMAccountName", "objectSid"])?;
        let mut list: Vec<Value> = entries
            .iter()
            .filter_map(|e| Some((e.get("sAMAccountName")?.first()?, e.get("objectSid")?.first()?)))
            .map(|(name, sid)| json!({"name": format!("{}\\{name}", m.workgroup), "sid": sid, "number": accounts::number(sid, m.range)}))
            .collect();
        list.sort_by_key(|a| a["name"].as_str().unwrap_or_default().to_lowercase());
        let more = list.len() > limit;
        list.truncate(limit);
        Ok(json!({"gateway": asked.paths.gateway, "domain": m.domain, "accounts": list, "more": more}))
    }

    /// `ad.whoami`: who an account is, and why it may use which shares.
    pub(super) fn ad_whoami(&self, params: &Value) -> Result<Value> {
        let name = required(params, "name")?;
        let asked = self.about(params)?;
        let m = asked.member()?;
        let full = if name.contains('\\') { name } else { format!("{}\\{name}", m.workgroup) };
        let account = DomainAccount::parse(&full).map_err(|e| Error::property("name", e.to_string()))?;
        if *account.domain() != m.workgroup {
            return Err(Error::property(
                "name",
                format!("{account} is of another domain than the gateway's, which is {}", m.workgroup),
            ));
        }
        let filter = format!("(sAMAccountName={})", accounts::escape(account.name()));
        let entries = asked.search(&filter, &["sAMAccountName", "objectSid", "objectClass", "userAccountControl"])?;
        let entry = entries.iter().find(|e| e.contains_key("objectSid"));
        let Some((entry, sid)) = entry.and_then(|e| Some((e, e.get("objectSid")?.first()?))) else {
            return Err(Error::new(Kind::NotFound, format!("the domain has no {account}"))
                .story(|s| s.reason = Some(Reason::NameUnknown.code().into())));
        };
        let group = entry.get("objectClass").is_some_and(|c| c.iter().any(|c| c.eq_ignore_ascii_case("group")));
        let control: u64 = entry.get("userAccountControl").and_then(|v| v.first()?.parse().ok()).unwrap_or(0);
        // ADS_UF_ACCOUNTDISABLE
        let disabled = control & 2 != 0;
        let token = if group { vec![sid.clone()] } else { self.token(&asked, sid)? };
        let names = self.names(&asked, &token)?;
        let mut shares = Vec::new();
        for (id, e) in asked.record.shares.iter().filter(|(_, e)| e.state != ShareState::Deleting) {
            let spec = samba::spec_of(id, e, &asked.record)?;
            let mut by = Vec::new();
            let mut level = None;
            for (who, l) in spec.access.entries() {
                if who.account().and_then(|a| asked.record.sid_of(a)).is_some_and(|s| token.iter().any(|t| t == s)) {
                    by.push(format!("{who} ({})", l.as_str()));
                    level = level.max(Some(l));
                }
            }
            let level = level.filter(|_| !disabled);
            shares.push(json!({"id": id, "share": spec.share, "level": level, "by": by}));
        }
        let groups: Vec<Value> = token.iter().filter(|t| *t != sid).map(|t| json!({"sid": t, "name": names.get(t)})).collect();
        Ok(json!({
            "gateway": asked.paths.gateway, "name": names.get(sid).cloned().unwrap_or_else(|| account.to_string()), "sid": sid,
            "kind": if group { "group" } else { "user" }, "disabled": disabled, "number": accounts::number(sid, m.range), "groups": groups,
            "shares": shares,
        }))
    }

    /// `ad.report`: membership, health, accounts that shares name, numbers, and what a look at everything finds now.
    pub(super) fn ad_report(&self, params: &Value) -> Result<Value> {
        let mut doc = self.ad_check(params)?;
        let asked = self.about(params)?;
        let health = self.membership_health(&asked.paths.gateway);
        let m = asked.member()?;
        doc["directory"] = crate::status::membership_document(m, &health);
        doc["accounts"] = json!(
            asked
                .record
                .accounts
                .values()
                .map(|a| json!({"name": a.account, "sid": a.sid, "group": a.group, "number": accounts::number(&a.sid, m.range)}))
                .collect::<Vec<_>>()
        );
        doc["numbers"] =
            json!({"domain": m.range.to_string(), "builtin": crate::spec::IdRange::of_builtin(asked.paths.mode).to_string()});
        doc["shares"] = json!(
            asked
                .record
                .shares
                .iter()
                .map(|(id, e)| json!({"id": id, "access": e.section.get("smbgw-access")}))
                .collect::<Vec<_>>()
        );
        doc["fallback-users"] = json!(asked.record.fallback_users());
        Ok(doc)
    }

    /// SIDs of a user and of all groups that count when he logs in.
    fn token(&self, asked: &Asked, sid: &str) -> Result<Vec<String>> {
        let cmd = prove::wbinfo(&asked.paths, &["--user-sids", sid]);
        let out = asked.host.run(&cmd, &Secrets::default())?;
        if let Some(reason) = directory::judge(&cmd, &out) {
            let mut inquiry = Inquiry::default();
            inquiry.note("token", cmd.to_string(), directory::evidence(&cmd, &out), Some(reason));
            inquiry.notes.check()?;
        }
        Ok(wbinfo::parse_lines(&out.out()).into_iter().filter(|l| wbinfo::is_sid(l)).collect())
    }

    /// Names of SIDs of the domain.
    fn names(&self, asked: &Asked, sids: &[String]) -> Result<std::collections::BTreeMap<String, String>> {
        let m = asked.member()?;
        let wanted: String = sids.iter().filter(|s| s.starts_with("S-1-5-21-")).map(|s| format!("(objectSid={s})")).collect();
        if wanted.is_empty() {
            return Ok(Default::default());
        }
        let entries = asked.search(&format!("(|{wanted})"), &["sAMAccountName", "objectSid"])?;
        Ok(entries
            .iter()
            .filter_map(|e| {
                Some((e.get("objectSid")?.first()?.clone(), format!("{}\\{}", m.workgroup, e.get("sAMAccountName")?.first()?)))
            })
            .collect())
    }
}
