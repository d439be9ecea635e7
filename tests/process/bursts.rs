//! Bursts of every length against a server that pauses in between: each byte and each end of file
//! arrives, however turns, reads and pauses fall.
use std::{
    cell::{Cell, RefCell},
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    rc::Rc,
    thread,
    time::Duration,
};
use twistor::{
    address::Address,
    failure::Failure,
    protocol::{Handle, Protocol, Raw},
    reactor::Reactor,
    transport::ListenTcpOptions,
};

const CLIENTS: usize = 4;
const EACH: usize = 100;

/// Counts what it receives, and pauses now and then, for a moment or not at all.
struct Pausing {
    step: usize,
    bytes: usize,
    ends: Rc<RefCell<Vec<(usize, String)>>>,
    reactor: Reactor,
}

impl Protocol for Pausing {
    type Framing = Raw;

    fn message_received(&mut self, this: &Handle<Self>, data: &[u8]) {
        self.bytes += data.len();
        self.step += 5;
        match self.step % 12 {
            0 => {
                this.pause_producing();
                let resumed = this.clone();
                self.reactor
                    .call_later(Duration::from_micros(200), move || resumed.resume_producing());
            }
            1 => {
                this.pause_producing();
                this.resume_producing();
            }
            2 => this.write("x"),
            _ => {}
        }
    }

    fn connection_lost(&mut self, _this: &Handle<Self>, reason: &Failure) {
        self.ends.borrow_mut().push((self.bytes, reason.to_string()));
    }
}

/// Sends bursts, one connection after the other, waits for each end of file, and returns the number
/// of bytes.
fn send(at: SocketAddr, client: usize) -> usize {
    let chunk = vec![b'x'; 2_000_000];
    let mut sent = 0;
    for round in 0..EACH {
        let mut peer = TcpStream::connect(at).expect("it listens");
        for piece in 0..round % 6 {
            let length = (client * 1_000_003 + round * 7_919 + piece * 104_729)
                % if piece % 3 == 0 { chunk.len() } else { 100_000 };
            peer.write_all(&chunk[..length]).expect("it reads");
            sent += length;
        }
        peer.shutdown(Shutdown::Write).expect("it is open");
        peer.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        peer.read_to_end(&mut Vec::new()).expect("the end comes");
    }
    sent
}

#[test]
fn bursts_and_ends_all_arrive_whatever_pauses_between() {
    let reactor = Reactor::new().expect("a reactor");
    let ends: Rc<RefCell<Vec<_>>> = Rc::default();
    let (told, inside, made) = (ends.clone(), reactor.clone(), Cell::new(0));
    let build = move |_: &Address| {
        made.set(made.get() + 1);
        Pausing { step: made.get(), bytes: 0, ends: told.clone(), reactor: inside.clone() }
    };
    let port = reactor
        .listen_tcp((Ipv4Addr::LOCALHOST, 0), build, &ListenTcpOptions::default())
        .expect("a port");
    let at = port.host().socket_addr().expect("an address");
    let stop = reactor.remote();
    let clients = thread::spawn(move || {
        let clients: Vec<_> =
            (0..CLIENTS).map(|client| thread::spawn(move || send(at, client))).collect();
        let sent: Vec<_> = clients.into_iter().map(thread::JoinHandle::join).collect();
        stop.call_from_thread(|| Reactor::current().expect("it runs").stop().expect("it runs"));
        sent
    });
    reactor.run().expect("it can wait");
    let sent: usize =
        clients.join().expect("the clients").into_iter().map(|sent| sent.expect("a client")).sum();
    let ends = ends.borrow();
    assert_eq!(ends.len(), CLIENTS * EACH);
    assert_eq!(ends.iter().map(|(bytes, _)| bytes).sum::<usize>(), sent);
    assert!(ends.iter().all(|(_, reason)| reason == "Connection was closed cleanly."), "{ends:?}");
    reactor.close();
}
