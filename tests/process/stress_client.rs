//! The peers of the stress tests: many connections from one process.
use std::{
    cell::{Cell, RefCell},
    io::Read,
    net::SocketAddr,
    process::ExitCode,
    rc::Rc,
};
use twistor::{address::Address, prelude::*, protocol::Protocol, transport::ConnectTcpOptions};

/// The number of attempts at a time, which is less than a listener's backlog.
const AT_ONCE: usize = 500;

/// The state that the connections share.
struct Crowd {
    wanted: usize,
    begun: Cell<usize>,
    answered: Cell<usize>,
    lost: Cell<usize>,
    held: RefCell<Vec<Handle<One>>>,
    reactor: Reactor,
    to: SocketAddr,
}

/// One peer: it sends its own text and expects it back.
struct One {
    crowd: Rc<Crowd>,
    sent: String,
    got: String,
}

impl Protocol for One {
    type Framing = twistor::protocol::Raw;

    fn connection_made(&mut self, this: &Handle<Self>) {
        this.write(&self.sent);
        self.crowd.held.borrow_mut().push(this.clone());
    }

    fn message_received(&mut self, _this: &Handle<Self>, data: &[u8]) {
        self.got.push_str(&String::from_utf8_lossy(data));
        if self.got == self.sent {
            self.crowd.answered.set(self.crowd.answered.get() + 1);
            begin(&self.crowd);
            if self.crowd.answered.get() == self.crowd.wanted {
                println!("answered {} lost {}", self.crowd.answered.get(), self.crowd.lost.get());
            }
        }
    }

    fn connection_lost(&mut self, _this: &Handle<Self>, _reason: &Failure) {
        self.crowd.lost.set(self.crowd.lost.get() + 1);
    }
}

fn begin(crowd: &Rc<Crowd>) {
    let number = crowd.begun.get();
    if number == crowd.wanted {
        return;
    }
    crowd.begun.set(number + 1);
    let shared = crowd.clone();
    let factory = move |_: &Address| One {
        crowd: shared.clone(),
        sent: format!("I am number {number}"),
        got: String::new(),
    };
    crowd.reactor.connect_tcp(crowd.to, factory, &ConnectTcpOptions::default()).detach();
}

/// `stress ADDRESS COUNT`: makes COUNT connections, has everything echoed, reports that, and waits
/// for the end of its input.
pub(crate) fn main() -> ExitCode {
    let mut args = std::env::args().skip(2);
    let to: SocketAddr = args.next().expect("an address").parse().expect("an address");
    let wanted = args.next().expect("a number").parse().expect("a number");
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, all).expect("a limit");
    let reactor = Reactor::new().expect("a reactor");
    let crowd = Rc::new(Crowd {
        wanted,
        begun: Cell::new(0),
        answered: Cell::new(0),
        lost: Cell::new(0),
        held: RefCell::default(),
        reactor: reactor.clone(),
        to,
    });
    for _ in 0..AT_ONCE {
        begin(&crowd);
    }
    let remote = reactor.remote();
    std::thread::spawn(move || {
        // the test closes it
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        remote.call_from_thread(|| Reactor::current().expect("it runs").stop().expect("it runs"));
    });
    reactor.run().expect("it can wait");
    ExitCode::SUCCESS
}
