// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who an account of the domain is: its SID, and whether it is a user or a group. Asked by LDAP with the gateway's own account, all at once,
//! and without winbindd, which need not run yet. It knows LDAP filters and `net ads search`; it must not know what access is given to.

use std::path::Path;

use super::{Inquiry, Reason, evidence, judge};
use crate::effect::{Cmd, Program};
use crate::format::net_ads;
use crate::spec::IdRange;
use crate::spec::record::KnownAccount;
use crate::types::DomainAccount;

/// Most accounts of one question.
const AT_ONCE: usize = 50;

/// A text within an LDAP filter (RFC 4515, 3).
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '*' | '(' | ')' | '\\' | '\0' => out.push_str(&format!("\\{:02x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out
}

/// The number that `idmap_rid` gives an account; `None` outside of the range.
pub fn number(sid: &str, range: IdRange) -> Option<u32> {
    let rid: u32 = sid.rsplit('-').next()?.parse().ok()?;
    range.first.checked_add(rid).filter(|n| *n <= range.last)
}

/// A search with the machine's own account.
pub fn search(filter: &str, attributes: &[&str], conf: Option<&Path>, krb5: &Path) -> Cmd {
    let mut args = vec!["ads".to_owned(), "search".to_owned(), filter.to_owned()];
    args.extend(attributes.iter().map(|a| (*a).to_owned()));
    args.push("--machine-pass".into());
    args.extend(conf.map(|c| format!("--configfile={}", c.display())));
    Cmd::new(Program::Net, args).within_ms(20_000).krb5_config(krb5)
}

/// The question who some accounts are. `group` says as what each was named.
pub fn look_up(list: &[(DomainAccount, bool)], range: IdRange, conf: Option<&Path>, krb5: &Path) -> Inquiry {
    let mut inquiry = Inquiry::default();
    for some in list.chunks(AT_ONCE) {
        let some = some.to_vec();
        let names: String = some.iter().map(|(a, _)| format!("(sAMAccountName={})", escape(a.name()))).collect();
        let attributes = ["sAMAccountName", "objectSid", "objectClass", "groupType"];
        let cmd = search(&format!("(|{names})"), &attributes, conf, krb5);
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
                    for (account, group) in &some {
                        let named = |e: &&std::collections::BTreeMap<String, Vec<String>>| {
                            e.get("sAMAccountName")
                                .is_some_and(|v| v.iter().any(|n| n.to_lowercase() == account.name().to_lowercase()))
                        };
                        judge_account(inquiry, account, *group, entries.iter().find(named), range, &asked);
                    }
                    Ok(())
                }),
            )))
        });
    }
    inquiry
}

fn judge_account(
    inquiry: &mut Inquiry,
    account: &DomainAccount,
    group: bool,
    entry: Option<&std::collections::BTreeMap<String, Vec<String>>>,
    range: IdRange,
    asked: &Cmd,
) {
    let did = asked.to_string();
    let sid = entry.and_then(|e| e.get("objectSid")?.first());
    let (Some(entry), Some(sid)) = (entry, sid) else {
        inquiry.note("accounts", did, format!("there is no {account}"), Some(Reason::NameUnknown));
        return;
    };
    let classes = entry.get("objectClass").map(Vec::as_slice).unwrap_or_default();
    let is_group = classes.iter().any(|c| c.eq_ignore_ascii_case("group"));
    // ADS_GROUP_TYPE_SECURITY_ENABLED, the sign bit ([MS-ADTS] 2.2.12).
    let for_mail = entry.get("groupType").and_then(|v| v.first()?.parse::<i64>().ok()).is_some_and(|t| t >= 0);
    let reason = if is_group != group {
        Some(Reason::NameOfOtherKind)
    } else if is_group && for_mail {
        Some(Reason::GroupNotSecurity)
    } else if number(sid, range).is_none() {
        Some(Reason::OutOfRange)
    } else {
        None
    };
    let saw = match reason {
        Some(Reason::OutOfRange) => {
            format!("{account} is {sid}, for which {range} has no number")
        }
        _ => format!("{account} is {sid}, a {}", if is_group { "group" } else { "user" }),
    };
    inquiry.note("accounts", did, saw, reason);
    if reason.is_none() {
        let name = entry.get("sAMAccountName").and_then(|v| v.first()).map_or(account.name(), String::as_str);
        let account = DomainAccount::parse(&format!("{}\\{name}", account.domain())).unwrap_or_else(|_| account.clone());
        inquiry.notes.accounts.push(KnownAccount { account, sid: sid.clone(), group: is_group });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_hold_any_name() {
        assert_eq!(escape("Büro (Süd)*\\"), "Büro \\28Süd\\29\\2a\\5c");
    }
}
