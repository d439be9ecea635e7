//! Lines on bare mio with memchr, written by hand. Each line is written as soon as it is found,
//! with one write; an incomplete line is kept for its connection.
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use std::io::{ErrorKind, Read, Write};
/// A socket, its output, and an incomplete line.
type Connection = (TcpStream, Vec<u8>, Vec<u8>);

fn main() {
    let addr = std::env::args().nth(1).unwrap().parse().unwrap();
    let mut poll = Poll::new().unwrap();
    let mut ev = Events::with_capacity(1024);
    let mut l = TcpListener::bind(addr).unwrap();
    poll.registry().register(&mut l, Token(usize::MAX), Interest::READABLE).unwrap();
    let mut cs: Vec<Option<Connection>> = vec![];
    let mut free = vec![];
    let mut buf = vec![0u8; 65536];
    let mut line_buf = Vec::with_capacity(65536);
    loop {
        if let Err(e) = poll.poll(&mut ev, None) {
            if e.kind() == ErrorKind::Interrupted {
                continue;
            }
            panic!()
        }
        for e in ev.iter() {
            if e.token().0 == usize::MAX {
                while let Ok((mut s, _)) = l.accept() {
                    s.set_nodelay(true).ok();
                    let i = free.pop().unwrap_or_else(|| {
                        cs.push(None);
                        cs.len() - 1
                    });
                    poll.registry()
                        .register(&mut s, Token(i), Interest::READABLE | Interest::WRITABLE)
                        .unwrap();
                    cs[i] = Some((s, vec![], vec![]));
                }
            } else {
                let i = e.token().0;
                let mut dead = false;
                if let Some((s, out, rest)) = &mut cs[i] {
                    loop {
                        while !out.is_empty() {
                            match s.write(out) {
                                Ok(k) => {
                                    out.drain(..k);
                                }
                                Err(x) if x.kind() == ErrorKind::WouldBlock => break,
                                Err(_) => {
                                    dead = true;
                                    break;
                                }
                            }
                        }
                        if !out.is_empty() || dead {
                            break;
                        }
                        match s.read(&mut buf) {
                            Ok(0) => {
                                dead = true;
                                break;
                            }
                            Ok(k) => {
                                let mut data = &buf[..k];
                                let joined;
                                if !rest.is_empty() {
                                    rest.extend_from_slice(data);
                                    joined = std::mem::take(rest);
                                    data = &joined;
                                }
                                while let Some(at) = memchr::memchr(b'\n', data) {
                                    let line = &data[..at];
                                    let line = line.strip_suffix(b"\r").unwrap_or(line);
                                    line_buf.clear();
                                    line_buf.extend_from_slice(line);
                                    line_buf.extend_from_slice(b"\r\n");
                                    data = &data[at + 1..];
                                    if out.is_empty() {
                                        match s.write(&line_buf) {
                                            Ok(w) => {
                                                if w < line_buf.len() {
                                                    out.extend_from_slice(&line_buf[w..])
                                                }
                                            }
                                            Err(x) if x.kind() == ErrorKind::WouldBlock => {
                                                out.extend_from_slice(&line_buf)
                                            }
                                            Err(_) => {
                                                dead = true;
                                                break;
                                            }
                                        }
                                    } else {
                                        out.extend_from_slice(&line_buf)
                                    }
                                }
                                if !data.is_empty() {
                                    rest.extend_from_slice(data)
                                }
                                if k < buf.len() && out.is_empty() {
                                    break;
                                }
                            }
                            Err(x) if x.kind() == ErrorKind::WouldBlock => break,
                            Err(_) => {
                                dead = true;
                                break;
                            }
                        }
                    }
                }
                if dead {
                    cs[i] = None;
                    free.push(i)
                }
            }
        }
    }
}
