// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions to name servers and ports on the loopback interface. The product asks port 53; these servers have others, so the tests live beside the
//! private functions. A server is a thread that answers a number of questions and ends.

use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::{self, JoinHandle};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::SRV;
use hickory_proto::rr::{Name, RData, Record};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, socket};

use super::*;
use crate::net::DnsKind;

const LDAP: &str = "_ldap._tcp.example.test";

fn ask() -> DnsAsk {
    DnsAsk::new(LDAP, DnsKind::Srv)
}

fn local() -> (IpAddr, u16) {
    (Ipv4Addr::LOCALHOST.into(), 0)
}

/// An answer to a question: so many hosts, and what else a test wants.
fn answer(question: &[u8], hosts: u16, edit: impl Fn(&mut Message)) -> Vec<u8> {
    let mut m = Message::from_vec(question).expect("a question");
    m.set_message_type(MessageType::Response);
    let owner = m.queries()[0].name().clone();
    for i in 0..hosts {
        let target = Name::from_ascii(format!("dc{i}.example.test.")).expect("a name");
        m.add_answer(Record::from_rdata(owner.clone(), 60, RData::SRV(SRV::new(i, 100, 389, target))));
    }
    edit(&mut m);
    m.to_vec().expect("can be written")
}

/// Answers that many datagrams; each to as many messages as `reply` gives.
fn udp(questions: usize, reply: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let socket = UdpSocket::bind(local()).expect("binds");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("can wait");
    let at = socket.local_addr().expect("bound");
    let thread = thread::spawn(move || {
        let mut buffer = [0; 512];
        for _ in 0..questions {
            let (n, from) = socket.recv_from(&mut buffer).expect("a question");
            for m in reply(&buffer[..n]) {
                socket.send_to(&m, from).expect("sent");
            }
        }
    });
    (at, thread)
}

/// A port where nobody hears us: it is taken by a socket that listens to somebody else only.
fn closed() -> (SocketAddr, UdpSocket) {
    let socket = UdpSocket::bind(local()).expect("binds");
    socket.connect((Ipv4Addr::LOCALHOST, 9)).expect("connects");
    (socket.local_addr().expect("bound"), socket)
}

/// A TCP port that is taken, where nobody listens.
fn taken() -> (SocketAddr, OwnedFd) {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    bind(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).expect("binds");
    let name: SockaddrIn = getsockname(fd.as_raw_fd()).expect("bound");
    (SocketAddr::new(name.ip().into(), name.port()), fd)
}

fn asked(servers: &[SocketAddr], ms: u64) -> DnsAnswer {
    let started = Instant::now();
    let answer = dns(servers, &ask(), Duration::from_millis(ms)).expect("an answer");
    let took = started.elapsed();
    assert!(took < Duration::from_millis(ms + 1000), "{took:?}");
    answer
}

#[test]
fn a_server_answers() {
    let (at, thread) = udp(1, |q| vec![answer(q, 2, |_| {})]);
    let a = asked(&[at], 10_000);
    thread.join().expect("served");
    assert_eq!((a.said, a.server), (DnsSaid::Answer, Some(at.ip())));
    assert_eq!(a.srv.iter().map(|s| s.target.as_str()).collect::<Vec<_>>(), ["dc0.example.test", "dc1.example.test"]);
    assert!(a.ms < 5000);
}

#[test]
fn what_a_server_says_no_with() {
    for (code, said) in [
        (ResponseCode::NXDomain, DnsSaid::NoName),
        (ResponseCode::NoError, DnsSaid::NoData),
        (ResponseCode::Refused, DnsSaid::Refused),
        (ResponseCode::ServFail, DnsSaid::ServFail),
    ] {
        let (at, thread) = udp(1, move |q| vec![answer(q, 0, |m| _ = m.set_response_code(code))]);
        assert_eq!(asked(&[at], 10_000).said, said);
        thread.join().expect("served");
    }
}

#[test]
fn silence_takes_its_time_and_no_longer_and_the_question_is_repeated() {
    let quiet = UdpSocket::bind(local()).expect("binds");
    let at = quiet.local_addr().expect("bound");
    let a = asked(&[at], 200);
    assert_eq!((a.said, a.server), (DnsSaid::Silent, Some(at.ip())));
    assert!(a.ms >= 199, "{}", a.ms);
    quiet.set_nonblocking(true).expect("can");
    let questions = std::iter::from_fn(|| quiet.recv(&mut [0; 512]).ok()).count();
    assert_eq!(questions, 2);
    assert_eq!(asked(&[at], 0).said, DnsSaid::Silent, "no time at all");
}

#[test]
fn a_lost_question_is_asked_again() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let (at, thread) = udp(2, move |q| {
        let lost = first.swap(false, std::sync::atomic::Ordering::SeqCst);
        if lost { Vec::new() } else { vec![answer(q, 1, |_| {})] }
    });
    assert_eq!(asked(&[at], 1000).said, DnsSaid::Answer);
    thread.join().expect("served");
}

#[test]
fn nobody_listens_and_nobody_is_named() {
    let (at, _held) = closed();
    let a = asked(&[at], 10_000);
    assert_eq!(a.said, DnsSaid::Unreachable("Connection refused".into()));
    assert!(a.ms < 5000);
    let a = asked(&[], 10_000);
    assert_eq!((a.said, a.server, a.ms), (DnsSaid::NoServer, None, 0));
}

#[test]
fn answers_of_others_are_passed_over() {
    let (at, thread) = udp(1, |q| {
        let mut wrong = answer(q, 1, |_| {});
        wrong[0] ^= 1;
        let other = answer(q, 0, |m| m.queries_mut()[0] = hickory_proto::op::Query::new());
        vec![b"nonsense".to_vec(), Vec::new(), wrong, other, answer(q, 1, |_| {})]
    });
    assert_eq!(asked(&[at], 10_000).said, DnsSaid::Answer);
    thread.join().expect("served");
    let (at, thread) = udp(2, |_| vec![b"nonsense".to_vec()]);
    assert_eq!(asked(&[at], 200).said, DnsSaid::Garbled);
    thread.join().expect("served");
}

#[test]
fn the_next_server_is_asked_and_who_knows_decides() {
    let quiet = UdpSocket::bind(local()).expect("binds");
    let silent = quiet.local_addr().expect("bound");
    let (at, thread) = udp(1, |q| vec![answer(q, 1, |_| {})]);
    let (deaf, _held) = closed();
    let a = asked(&[deaf, silent, at], 600);
    assert_eq!((a.said, a.srv.len()), (DnsSaid::Answer, 1));
    assert!(a.ms >= 290, "the silent one had half of the time: {}", a.ms);
    thread.join().expect("served");
    // That there is no such name is knowledge: the second one, which knows it, is not asked.
    let (first, one) = udp(1, |q| vec![answer(q, 0, |m| _ = m.set_response_code(ResponseCode::NXDomain))]);
    assert_eq!(asked(&[first, silent], 10_000).said, DnsSaid::NoName);
    one.join().expect("served");
    // Of failures the one that was said counts.
    let (refusing, one) = udp(1, |q| vec![answer(q, 0, |m| _ = m.set_response_code(ResponseCode::Refused))]);
    assert_eq!(asked(&[silent, refusing], 300).said, DnsSaid::Refused);
    one.join().expect("served");
    assert_eq!(asked(&[silent, deaf], 300).said, DnsSaid::Silent);
}

/// A server whose datagrams hold `few` hosts and the sign that there are more, with what it does at the TCP port of the same number;
/// nobody listens there if it does nothing.
fn truncating(few: u16, tcp: Option<fn(TcpListener)>) -> (SocketAddr, JoinHandle<()>) {
    let both = |_| {
        let (at, fd) = taken();
        Some((at, fd, UdpSocket::bind(at).ok()?))
    };
    let (at, fd, socket) = (0..100).find_map(both).expect("a port that is free for both");
    let thread = thread::spawn(move || {
        let mut buffer = [0; 512];
        let (n, from) = socket.recv_from(&mut buffer).expect("a question");
        let part = answer(&buffer[..n], few, |m| _ = m.set_truncated(true));
        match tcp {
            None => _ = socket.send_to(&part, from).expect("sent"),
            Some(tcp) => {
                listen(&fd, Backlog::new(8).expect("few")).expect("listens");
                socket.send_to(&part, from).expect("sent");
                tcp(TcpListener::from(fd));
            }
        }
    });
    (at, thread)
}

fn question(listener: &TcpListener) -> (TcpStream, Vec<u8>) {
    let (mut stream, _) = listener.accept().expect("a connection");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("a length");
    let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut question).expect("a question");
    (stream, question)
}

#[test]
fn what_does_not_fit_is_asked_for_over_tcp() {
    let (at, thread) = truncating(
        1,
        Some(|listener| {
            let (mut stream, q) = question(&listener);
            let all = answer(&q, 400, |_| {});
            let message = [&u16::try_from(all.len()).expect("fits").to_be_bytes()[..], &all].concat();
            // In pieces.
            for piece in message.chunks(5000) {
                stream.write_all(piece).expect("sent");
                thread::sleep(Duration::from_millis(2));
            }
        }),
    );
    let a = asked(&[at], 10_000);
    thread.join().expect("served");
    assert_eq!((a.said, a.srv.len()), (DnsSaid::Answer, 400));
}

#[test]
fn without_tcp_a_part_is_taken_if_there_is_one() {
    for (few, said) in [(3, DnsSaid::Answer), (0, DnsSaid::Unreachable("Connection refused".into()))] {
        let (at, thread) = truncating(few, None);
        let a = asked(&[at], 10_000);
        thread.join().expect("served");
        assert_eq!((a.said, a.srv.len()), (said, usize::from(few)));
    }
    let (at, thread) = truncating(
        0,
        Some(|listener| {
            let (mut stream, _) = question(&listener);
            stream.write_all(&[0, 9, 1]).expect("sent");
        }),
    );
    assert_eq!(asked(&[at], 10_000).said, DnsSaid::Garbled, "hung up in the middle");
    thread.join().expect("served");
    let (at, thread) = truncating(
        0,
        Some(|listener| {
            let kept = question(&listener);
            thread::sleep(Duration::from_millis(700));
            drop(kept);
        }),
    );
    assert_eq!(asked(&[at], 300).said, DnsSaid::Silent, "within the same time");
    thread.join().expect("served");
}

#[test]
fn a_name_that_cannot_be_asked_for_is_our_mistake() {
    let e = dns(&[closed().0], &DnsAsk::new("a b", DnsKind::A), Duration::from_secs(1)).expect_err("no question");
    assert_eq!(e.kind(), Kind::Invalid);
}

#[test]
fn the_host_asks_who_it_is_told() {
    // Port 53 of this address of the loopback network is nobody's.
    let nobody = "127.53.53.1".parse().expect("an address");
    let a = RealHost.dns(&ask().to(nobody), Duration::from_secs(5)).expect("an answer");
    assert_eq!((a.said, a.server), (DnsSaid::Unreachable("Connection refused".into()), Some(nobody)));
}

#[test]
fn ports() {
    let listener = TcpListener::bind(local()).expect("binds");
    let at = listener.local_addr().expect("bound");
    let second = Duration::from_secs(5);
    assert_eq!(RealHost.reach(at, second).expect("known"), Reach::Open);
    // Hung up at once.
    let (mut stream, _) = listener.accept().expect("a connection");
    assert_eq!(stream.read(&mut [0]).expect("the end"), 0);
    let (at, _held) = taken();
    assert_eq!(RealHost.reach(at, second).expect("known"), Reach::Refused);
    // Broadcasts are for nobody to connect to.
    let nowhere = SocketAddr::new(Ipv4Addr::BROADCAST.into(), 1);
    assert!(
        matches!(RealHost.reach(nowhere, second).expect("known"), Reach::Unreachable(why) if why == "Network is unreachable")
    );
}

/// A listener whose queue is full does not answer any more: Linux drops the packets that ask for a connection.
#[test]
fn a_port_that_does_not_answer() {
    let (at, fd) = taken();
    listen(&fd, Backlog::new(0).expect("none")).expect("listens");
    let (wait, mut seen) = (Duration::from_millis(150), Vec::new());
    while seen.len() < 4 && seen.last() != Some(&Reach::Silent) {
        let started = Instant::now();
        seen.push(RealHost.reach(at, wait).expect("known"));
        assert!(started.elapsed() < wait + Duration::from_secs(1));
    }
    assert_eq!((seen.first(), seen.last()), (Some(&Reach::Open), Some(&Reach::Silent)), "{seen:?}");
}

#[test]
fn no_descriptors_left_is_no_answer() {
    let e = io::Error::from_raw_os_error(libc::EMFILE);
    assert_eq!(said(closed().0, e).expect_err("no answer").kind(), Kind::Io);
}
