// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions to a name server and its answers as they are on the wire (RFC 1035, 2782), by hickory-proto. It knows one message at a time; who
//! is asked, and how long one waits, it must not know. Plain DNS without EDNS: every server understands that, and what does not fit
//! into 512 bytes is asked for again over TCP.
//!
//! What comes from the network is hostile. A name in an answer may end up in an argument of a program, so only letters, digits,
//! `-`, `_` and dots get through.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};

use super::show;
use crate::net::{DnsAnswer, DnsAsk, DnsKind, DnsSaid, SrvRecord};

/// CNAMEs that are followed within one answer.
const ALIASES: usize = 16;

/// What one message said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The records, in order; server and time are not set. [`DnsSaid::Answer`], `NoName`, `NoData`, `ServFail` or `Refused`.
    pub answer: DnsAnswer,
    /// There is more than fitted into the message: to be asked again over TCP.
    pub truncated: bool,
}

fn kind(of: DnsKind) -> RecordType {
    match of {
        DnsKind::Srv => RecordType::SRV,
        DnsKind::A => RecordType::A,
        DnsKind::Aaaa => RecordType::AAAA,
        DnsKind::Ptr => RecordType::PTR,
        DnsKind::Soa => RecordType::SOA,
    }
}

/// Letters, digits, `-`, `_` and dots; the first is neither `-` nor a dot.
fn harmless(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.bytes().next().is_some_and(letter) && name.bytes().all(|b| letter(b) || b == b'-' || b == b'.')
}

fn name_of(ask: &DnsAsk) -> Result<Name, String> {
    let text = ask.name.strip_suffix('.').unwrap_or(&ask.name);
    if !harmless(text) {
        return Err(format!("{} is no name that can be asked for", show(&ask.name)));
    }
    let mut name = Name::from_ascii(text).map_err(|e| format!("{} is no name that can be asked for: {e}", show(&ask.name)))?;
    name.set_fqdn(true);
    Ok(name)
}

/// The message that asks, with recursion wanted.
pub fn print(ask: &DnsAsk, id: u16) -> Result<Vec<u8>, String> {
    let mut message = Message::new();
    message.set_id(id).set_message_type(MessageType::Query).set_op_code(OpCode::Query).set_recursion_desired(true);
    message.add_query(Query::query(name_of(ask)?, kind(ask.kind)));
    message.to_vec().map_err(|e| format!("the question for {} cannot be written: {e}", show(&ask.name)))
}

/// A name from the wire as we show it; `None` for the root and for names that no host has.
fn host(name: &Name) -> Option<String> {
    let text = name.to_ascii().to_ascii_lowercase();
    let text = text.strip_suffix('.').unwrap_or(&text);
    harmless(text).then(|| text.to_owned())
}

/// Reads the answer to [`print`] with the same id and question; the text says why it is none.
pub fn parse(bytes: &[u8], id: u16, ask: &DnsAsk) -> Result<Reply, String> {
    let wanted = name_of(ask)?;
    let message = Message::from_vec(bytes).map_err(|e| format!("it is no DNS message: {e}"))?;
    if message.id() != id {
        return Err("it answers another question (id)".to_owned());
    }
    if message.message_type() != MessageType::Response || message.op_code() != OpCode::Query {
        return Err("it is no answer".to_owned());
    }
    let code = message.response_code();
    match message.queries() {
        [q] if *q.name() == wanted && q.query_type() == kind(ask.kind) && q.query_class() == DNSClass::IN => {}
        // A server that could not read the question need not repeat it.
        [] if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) => {}
        _ => return Err("it answers another question".to_owned()),
    }
    let failed = |said: DnsSaid| Ok(Reply { answer: DnsAnswer::empty(None, said), truncated: false });
    match code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => return failed(DnsSaid::NoName),
        ResponseCode::Refused => return failed(DnsSaid::Refused),
        _ => return failed(DnsSaid::ServFail),
    }
    // The names that the question goes on to. Records may come in any order.
    let mut names = BTreeSet::from([wanted]);
    for _ in 0..ALIASES {
        let before = names.len();
        for r in message.answers().iter().filter(|r| r.dns_class() == DNSClass::IN) {
            if let RData::CNAME(to) = r.data() {
                if names.len() <= ALIASES && names.contains(r.name()) {
                    names.insert(to.0.clone());
                }
            }
        }
        if names.len() == before {
            break;
        }
    }
    let mut answer = DnsAnswer::empty(None, DnsSaid::NoData);
    for r in message.answers().iter().filter(|r| r.dns_class() == DNSClass::IN && names.contains(r.name())) {
        match (ask.kind, r.data()) {
            (DnsKind::Srv, RData::SRV(s)) => {
                // A target of `.` says that there is no such service.
                let record = host(s.target()).map(|target| SrvRecord {
                    priority: s.priority(),
                    weight: s.weight(),
                    port: s.port(),
                    target,
                });
                answer.srv.extend(record);
            }
            (DnsKind::A, RData::A(a)) => answer.addresses.push(IpAddr::V4(a.0)),
            (DnsKind::Aaaa, RData::AAAA(a)) => answer.addresses.push(IpAddr::V6(a.0)),
            (DnsKind::Ptr, RData::PTR(p)) => answer.names.extend(host(&p.0)),
            (DnsKind::Soa, RData::SOA(s)) => answer.names.extend(host(s.mname())),
            _ => {}
        }
    }
    if !(answer.srv.is_empty() && answer.addresses.is_empty() && answer.names.is_empty()) {
        answer.said = DnsSaid::Answer;
    }
    answer.sort();
    Ok(Reply { answer, truncated: message.truncated() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV};
    use proptest::prelude::*;

    fn n(name: &str) -> Name {
        Name::from_ascii(name).expect("a name")
    }

    fn reply(ask: &DnsAsk, id: u16, edit: impl FnOnce(&mut Message)) -> Vec<u8> {
        let mut m = Message::from_vec(&print(ask, id).expect("a name")).expect("own output");
        m.set_message_type(MessageType::Response).set_recursion_available(true);
        edit(&mut m);
        m.to_vec().expect("can be written")
    }

    fn srv(owner: &str, priority: u16, weight: u16, target: &str) -> Record {
        Record::from_rdata(n(owner), 60, RData::SRV(SRV::new(priority, weight, 389, n(target))))
    }

    const LDAP: &str = "_ldap._tcp.dc._msdcs.example.test";

    #[test]
    fn services_in_order() {
        let ask = DnsAsk::new(LDAP, DnsKind::Srv);
        let bytes = reply(&ask, 7, |m| {
            m.add_answer(srv("_LDAP._tcp.dc._msdcs.Example.test.", 10, 100, "DC3.example.test."));
            m.add_answer(srv(&format!("{LDAP}."), 0, 1, "dc2.example.test."));
            m.add_answer(srv(&format!("{LDAP}."), 0, 100, "DC1.Example.Test."));
            m.add_answer(srv("_ldap._tcp.other.test.", 0, 100, "stray.example.test."));
            for label in [&b"-e sh"[..], b"-e", b"a\nb", b"a.b", b"\xc3\xa4"] {
                let target = Name::from_labels([label, b"test"]).expect("labels");
                m.add_answer(Record::from_rdata(n(&format!("{LDAP}.")), 60, RData::SRV(SRV::new(0, 100, 389, target))));
            }
            m.add_answer(srv(&format!("{LDAP}."), 0, 100, "."));
        });
        let r = parse(&bytes, 7, &ask).expect("an answer");
        assert!(!r.truncated);
        assert_eq!((r.answer.said.clone(), r.answer.server), (DnsSaid::Answer, None));
        let seen: Vec<_> = r.answer.srv.iter().map(|s| (s.priority, s.weight, s.port, s.target.as_str())).collect();
        assert_eq!(
            seen,
            [(0, 100, 389, "dc1.example.test"), (0, 1, 389, "dc2.example.test"), (10, 100, 389, "dc3.example.test")]
        );
    }

    #[test]
    fn aliases_are_followed_in_any_order_and_never_for_ever() {
        let ask = DnsAsk::new("files.example.test.", DnsKind::A);
        let alias = |from: &str, to: &str| Record::from_rdata(n(from), 60, RData::CNAME(CNAME(n(to))));
        let bytes = reply(&ask, 1, |m| {
            m.add_answer(Record::from_rdata(n("m1.example.test."), 60, RData::A(A::new(10, 0, 0, 1))));
            m.add_answer(Record::from_rdata(n("m9.example.test."), 60, RData::A(A::new(10, 0, 0, 9))));
            m.add_answer(alias("b.example.test.", "m1.example.test."));
            m.add_answer(alias("files.example.test.", "b.example.test."));
        });
        assert_eq!(parse(&bytes, 1, &ask).expect("an answer").answer.addresses, ["10.0.0.1".parse::<IpAddr>().expect("one")]);
        let circle = reply(&ask, 1, |m| {
            m.add_answer(alias("files.example.test.", "b.example.test."));
            m.add_answer(alias("b.example.test.", "files.example.test."));
            for i in 0..60 {
                m.add_answer(alias(&format!("b{i}.test."), &format!("b{}.test.", i + 1)));
                m.add_answer(alias("b.example.test.", &format!("b{i}.test.")));
            }
        });
        assert_eq!(parse(&circle, 1, &ask).expect("an answer").answer.said, DnsSaid::NoData);
    }

    #[test]
    fn other_kinds() {
        let six: IpAddr = "2001:db8::10".parse().expect("an address");
        let ask = DnsAsk::new("dc1.example.test", DnsKind::Aaaa);
        let bytes = reply(&ask, 2, |m| {
            m.add_answer(Record::from_rdata(
                n("dc1.example.test."),
                60,
                RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10)),
            ));
            m.add_answer(Record::from_rdata(n("dc1.example.test."), 60, RData::A(A::new(10, 0, 0, 1))));
        });
        assert_eq!(parse(&bytes, 2, &ask).expect("an answer").answer.addresses, [six]);
        let ask = DnsAsk::new(crate::net::reverse_name("10.0.0.1".parse().expect("an address")), DnsKind::Ptr);
        let bytes = reply(&ask, 2, |m| {
            m.add_answer(Record::from_rdata(n("1.0.0.10.in-addr.arpa."), 60, RData::PTR(PTR(n("M1.example.test.")))));
        });
        assert_eq!(parse(&bytes, 2, &ask).expect("an answer").answer.names, ["m1.example.test"]);
        let ask = DnsAsk::new("example.test", DnsKind::Soa);
        let soa = RData::SOA(SOA::new(n("dc1.example.test."), n("hostmaster.example.test."), 1, 900, 600, 86400, 3600));
        let bytes = reply(&ask, 2, |m| {
            m.add_answer(Record::from_rdata(n("example.test."), 60, soa.clone()));
        });
        assert_eq!(parse(&bytes, 2, &ask).expect("an answer").answer.names, ["dc1.example.test"]);
        // In the authority section it says why there is nothing.
        let bytes = reply(&ask, 2, |m| {
            m.add_name_server(Record::from_rdata(n("example.test."), 60, soa));
        });
        assert_eq!(parse(&bytes, 2, &ask).expect("an answer").answer.said, DnsSaid::NoData);
    }

    #[test]
    fn codes_and_the_sign_of_more() {
        let ask = DnsAsk::new(LDAP, DnsKind::Srv);
        for (code, said) in [
            (ResponseCode::NXDomain, DnsSaid::NoName),
            (ResponseCode::NoError, DnsSaid::NoData),
            (ResponseCode::ServFail, DnsSaid::ServFail),
            (ResponseCode::NotImp, DnsSaid::ServFail),
            (ResponseCode::FormErr, DnsSaid::ServFail),
            (ResponseCode::Refused, DnsSaid::Refused),
        ] {
            let r = parse(&reply(&ask, 3, |m| _ = m.set_response_code(code)), 3, &ask).expect("an answer");
            assert_eq!((r.answer.said, r.truncated), (said, false), "{code}");
        }
        assert!(parse(&reply(&ask, 3, |m| _ = m.set_truncated(true)), 3, &ask).expect("an answer").truncated);
        let without_question = reply(&ask, 3, |m| {
            m.take_queries();
            m.set_response_code(ResponseCode::FormErr);
        });
        assert_eq!(parse(&without_question, 3, &ask).expect("an answer").answer.said, DnsSaid::ServFail);
    }

    #[test]
    fn answers_to_something_else() {
        let ask = DnsAsk::new(LDAP, DnsKind::Srv);
        assert!(parse(&reply(&ask, 4, |_| {}), 5, &ask).is_err(), "id");
        assert!(parse(&print(&ask, 4).expect("a name"), 4, &ask).is_err(), "a question");
        let other = DnsAsk::new(LDAP, DnsKind::A);
        assert!(parse(&reply(&other, 4, |_| {}), 4, &ask).is_err(), "kind");
        let other = DnsAsk::new("example.test", DnsKind::Srv);
        assert!(parse(&reply(&other, 4, |_| {}), 4, &ask).is_err(), "name");
        assert!(parse(&reply(&ask, 4, |m| drop(m.take_queries())), 4, &ask).is_err(), "no question");
        assert!(parse(&[], 0, &ask).is_err());
        // Upper and lower case are the same name.
        assert!(parse(&reply(&DnsAsk::new(LDAP.to_uppercase(), DnsKind::Srv), 4, |_| {}), 4, &ask).is_ok());
    }

    #[test]
    fn names_that_cannot_be_asked_for() {
        let long = format!("{}.test", "a".repeat(64));
        let longer = ["a"; 140].join(".");
        for name in ["", ".", "..", "a..b", "a b", "ä.test", "-x.test", "a\\032b", "a\0b", &long, &longer] {
            assert!(print(&DnsAsk::new(name, DnsKind::A), 1).is_err(), "{name}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn nothing_panics(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            name in any::<String>(),
            changes in proptest::collection::vec((0usize..300, any::<u8>()), 0..8),
            cut in 0usize..400,
        ) {
            let ask = DnsAsk::new(LDAP, DnsKind::Srv);
            let _ = parse(&bytes, 7, &ask);
            let _ = print(&DnsAsk::new(name, DnsKind::Ptr), 7);
            let mut real = reply(&ask, 7, |m| {
                m.add_answer(srv(&format!("{LDAP}."), 0, 1, "dc2.example.test."));
                m.add_answer(srv(&format!("{LDAP}."), 0, 100, "dc1.example.test."));
            });
            for (at, byte) in changes {
                if let Some(b) = real.get_mut(at) {
                    *b = byte;
                }
            }
            real.truncate(cut);
            if let Ok(r) = parse(&real, 7, &ask) {
                prop_assert!(r.answer.srv.iter().all(|s| harmless(&s.target)));
            }
        }
    }
}
