#![allow(dead_code, reason = "the names are only there to be in the way")]
mod core {}
mod std {}
struct Result;
struct Option;
struct Rc;
struct Some;
struct Default;
struct Clone;
struct Address;

#[twistor::protocol(lines)]
struct Echo {
    #[transport]
    transport: twistor::protocol::Transport,
}

#[twistor::protocol]
impl Echo {
    fn line_received(&mut self, line: &[u8]) {
        self.transport.send_line(line);
    }
}

#[derive(twistor::Factory)]
#[factory(protocol = Member)]
struct Room;

#[twistor::protocol]
struct Member {
    #[factory]
    room: ::std::rc::Rc<Room>,
}

#[twistor::protocol]
impl Member {}

fn main() {}
