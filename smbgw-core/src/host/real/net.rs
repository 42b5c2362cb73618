// SPDX-License-Identifier: MIT OR Apache-2.0
//! Questions to the network: a name server, a port. It knows sockets, times and errors of the system; what a message says is in `format/dns.rs`,
//! and why anybody asks it must not know. Names are never resolved here: the C library would do that in its own time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::{RealHost, sys};
use crate::error::{Error, Kind, Result};
use crate::format::dns::{self, Reply};
use crate::format::resolv_conf;
use crate::host::Host;
use crate::net::{DnsAnswer, DnsAsk, DnsSaid, Reach};

#[cfg(test)]
mod tests;

/// Where name servers listen.
pub(super) const DNS_PORT: u16 = 53;
/// Nobody waits longer; it also keeps times from overflowing.
const LONGEST: Duration = Duration::from_secs(3600);
/// Larger than any answer over UDP to a question without EDNS.
const DATAGRAM: usize = 4096;

/// The name servers of this machine.
pub(super) fn nameservers(host: &RealHost) -> Result<Vec<IpAddr>> {
    let file = host.read(Path::new("/etc/resolv.conf"), 64 << 10)?;
    Ok(file.map(|f| resolv_conf::parse(&String::from_utf8_lossy(&f.content)).nameservers).unwrap_or_default())
}

/// What is left until then.
fn left(until: Instant) -> Option<Duration> {
    Some(until.saturating_duration_since(Instant::now())).filter(|d| !d.is_zero())
}

/// The system's words for an error.
fn words(e: &io::Error) -> String {
    e.raw_os_error().map_or_else(|| e.to_string(), |code| Errno::from_raw(code).desc().to_owned())
}

/// This machine lacks what one needs to ask: no answer.
fn lacking(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// What an error says about the server, or that it says nothing.
fn said(server: SocketAddr, e: io::Error) -> Result<DnsSaid> {
    match e.kind() {
        _ if lacking(&e) => Err(Error::io(format!("cannot ask the name server {}", server.ip()), e)),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Ok(DnsSaid::Silent),
        // It hung up in the middle.
        ErrorKind::UnexpectedEof => Ok(DnsSaid::Garbled),
        _ => Ok(DnsSaid::Unreachable(words(&e))),
    }
}

/// Asks servers one after the other until one knows; each gets its part of the time that is left.
pub(super) fn dns(servers: &[SocketAddr], ask: &DnsAsk, within: Duration) -> Result<DnsAnswer> {
    let started = Instant::now();
    let until = started + within.min(LONGEST);
    let mut best: Option<DnsAnswer> = None;
    for (at, server) in servers.iter().enumerate() {
        let part = left(until).unwrap_or_default() / u32::try_from(servers.len() - at).unwrap_or(1);
        let answer = one(*server, ask, Instant::now() + part)?;
        let better = match best {
            Some(b) => b.or_better(answer),
            None => answer,
        };
        let decided = better.said.decides();
        best = Some(better);
        if decided || left(until).is_none() {
            break;
        }
    }
    let mut answer = best.unwrap_or_else(|| DnsAnswer::empty(None, DnsSaid::NoServer));
    answer.ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(answer)
}

fn one(server: SocketAddr, ask: &DnsAsk, until: Instant) -> Result<DnsAnswer> {
    let mut id = [0; 2];
    sys::getrandom(&mut id).map_err(|e| Error::io("cannot get random numbers", e))?;
    let id = u16::from_ne_bytes(id);
    let question = dns::print(ask, id).map_err(|e| Error::new(Kind::Invalid, e))?;
    let failed = |said| Ok(DnsAnswer::empty(Some(server.ip()), said));
    let mut garbled = false;
    let mut read = |bytes: &[u8]| {
        let reply = dns::parse(bytes, id, ask);
        garbled |= reply.is_err();
        reply.ok()
    };
    let mut answer = match by_udp(server, &question, until, &mut read) {
        Ok(Reply { answer, truncated: false }) => answer,
        Ok(Reply { answer, truncated: true }) => match by_tcp(server, &question, until) {
            Ok(bytes) => match read(&bytes) {
                Some(reply) => reply.answer,
                None => return failed(DnsSaid::Garbled),
            },
            // A part is better than nothing.
            Err(e) => match said(server, e)? {
                _ if answer.said == DnsSaid::Answer => answer,
                said => return failed(said),
            },
        },
        Err(e) => match said(server, e)? {
            DnsSaid::Silent if garbled => return failed(DnsSaid::Garbled),
            said => return failed(said),
        },
    };
    answer.server = Some(server.ip());
    Ok(answer)
}

/// The first datagram that is an answer. Others may come from somebody who guesses, or be late: they are passed over. The question is asked a
/// second time at half time.
fn by_udp(
    server: SocketAddr,
    question: &[u8],
    until: Instant,
    read: &mut dyn FnMut(&[u8]) -> Option<Reply>,
) -> io::Result<Reply> {
    let ours: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((ours, 0))?;
    // Connected, it hears nobody else, and hears that nobody listens.
    socket.connect(server)?;
    let mut buffer = [0; DATAGRAM];
    let half = Instant::now() + left(until).unwrap_or_default() / 2;
    for end in [half, until] {
        while let Err(e) = socket.send(question) {
            if e.kind() != ErrorKind::Interrupted {
                return Err(e);
            }
        }
        while let Some(wait) = left(end) {
            socket.set_read_timeout(Some(wait))?;
            match socket.recv(&mut buffer) {
                Ok(n) => {
                    if let Some(reply) = read(&buffer[..n]) {
                        return Ok(reply);
                    }
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Err(ErrorKind::TimedOut.into())
}

/// The one message that a server answers over TCP.
fn by_tcp(server: SocketAddr, question: &[u8], until: Instant) -> io::Result<Vec<u8>> {
    let wait = || left(until).ok_or_else(|| io::Error::from(ErrorKind::TimedOut));
    let mut stream = TcpStream::connect_timeout(&server, wait()?)?;
    stream.set_write_timeout(Some(wait()?))?;
    let length = u16::try_from(question.len()).map_err(|_| ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut fill = |buffer: &mut [u8]| {
        let mut at = 0;
        while at < buffer.len() {
            stream.set_read_timeout(Some(wait()?))?;
            match stream.read(&mut buffer[at..]) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof)),
                Ok(n) => at += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    };
    let mut length = [0; 2];
    fill(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    fill(&mut answer)?;
    Ok(answer)
}

/// Connects and hangs up.
pub(super) fn reach(to: SocketAddr, within: Duration) -> Result<Reach> {
    // No time at all would be an error of the call.
    match TcpStream::connect_timeout(&to, within.clamp(Duration::from_millis(1), LONGEST)) {
        Ok(_) => Ok(Reach::Open),
        Err(e) if lacking(&e) => Err(Error::io(format!("cannot connect to {to}"), e)),
        Err(e) => Ok(match e.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Reach::Refused,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Reach::Silent,
            _ => Reach::Unreachable(words(&e)),
        }),
    }
}
