#![deny(warnings, clippy::all, clippy::pedantic, clippy::nursery, missing_docs)]
//! Nothing that the macros write sets off a lint.
use std::{cell::Cell, rc::Rc};
use twistor::prelude::*;

/// A factory.
#[derive(Factory, Default, Debug)]
#[factory(protocol = Session)]
pub struct Server {
    sessions: Cell<u32>,
}

/// A line protocol with every kind of field.
#[protocol(lines(delimiter = b"\n", max_length = 80))]
#[derive(Debug)]
pub struct Session {
    #[factory]
    server: Rc<Server>,
    #[transport]
    transport: Transport,
    #[init(3)]
    lives: u32,
    name: Option<String>,
}

#[protocol]
impl Session {
    fn connection_made(&mut self) {
        self.server.sessions.set(self.server.sessions.get() + self.lives);
    }

    fn line_received(&mut self, line: &[u8], this: &Handle<Self>) -> Result<(), Failure> {
        self.name = Some(std::str::from_utf8(line)?.to_owned());
        this.send_line(line);
        Ok(())
    }

    fn line_length_exceeded(&mut self) {
        self.transport.lose_connection();
    }

    fn raw_data_received(&mut self, _data: &[u8]) {}

    fn connection_lost(&mut self, _reason: &Failure) {}
}

/// A tuple struct; `Default` before the attribute.
#[derive(Default)]
#[protocol]
pub struct Pair(#[transport] Transport, Vec<u8>);

#[protocol]
impl Pair {
    fn data_received(&mut self, data: &[u8]) {
        self.1.extend_from_slice(data);
        self.0.write(&self.1);
    }
}

/// A unit struct with a coroutine.
#[protocol]
#[derive(Debug)]
pub struct Unit;

#[protocol]
impl Unit {
    #[inline_callbacks]
    #[concurrent]
    fn data_received(this: Handle<Self>, data: Vec<u8>) -> Deferred<()> {
        yield_!(Deferred::succeed(()))?;
        this.write(data);
        return_value!(())
    }
}

/// A generic one.
#[protocol]
#[derive(Debug)]
pub struct Generic<T: Default + 'static>(T);

#[protocol]
impl<T: Default + 'static> Generic<T> {}

fn main() {
    let _ = (Pair::default(), Unit::factory(), Generic::<u32>::factory(), Pair::factory());
}
