//! The lower bound for anything on mio: one loop, a slab of sockets, one shared read buffer.
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use std::io::{ErrorKind, Read, Write};
fn main() {
    let addr = std::env::args().nth(1).unwrap().parse().unwrap();
    let mut poll = Poll::new().unwrap();
    let mut ev = Events::with_capacity(1024);
    let mut l = TcpListener::bind(addr).unwrap();
    poll.registry().register(&mut l, Token(usize::MAX), Interest::READABLE).unwrap();
    println!("listening");
    let mut cs: Vec<Option<(TcpStream, Vec<u8>)>> = vec![];
    let mut free = vec![];
    let mut buf = vec![0u8; 65536];
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
                    cs[i] = Some((s, vec![]));
                }
            } else {
                let i = e.token().0;
                let mut dead = false;
                if let Some((s, out)) = &mut cs[i] {
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
                                match s.write(&buf[..k]) {
                                    Ok(w) => {
                                        if w < k {
                                            out.extend_from_slice(&buf[w..k])
                                        }
                                    }
                                    Err(x) if x.kind() == ErrorKind::WouldBlock => {
                                        out.extend_from_slice(&buf[..k])
                                    }
                                    Err(_) => {
                                        dead = true;
                                        break;
                                    }
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
