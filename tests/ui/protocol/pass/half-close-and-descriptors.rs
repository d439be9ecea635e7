use std::os::fd::OwnedFd;
use twistor::{prelude::*, protocol::Protocol};

#[protocol]
struct Plain;

#[protocol]
impl Plain {
    fn read_connection_lost(&mut self, transport: &Transport) {
        transport.lose_write_connection();
    }

    fn write_connection_lost(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn file_descriptor_received(&mut self, this: &Handle<Self>, descriptor: OwnedFd) {
        this.send_file_descriptor(descriptor);
    }
}

#[protocol]
struct Coroutines;

#[protocol]
impl Coroutines {
    #[inline_callbacks]
    fn read_connection_lost(this: Handle<Self>) -> Deferred<()> {
        yield_!(this.drained())?;
        return_value!(())
    }

    #[inline_callbacks]
    fn file_descriptor_received(this: Handle<Self>, descriptor: OwnedFd) -> Deferred<()> {
        yield_!(this.drained())?;
        drop(descriptor);
        return_value!(())
    }
}

#[protocol]
struct Neither;

#[protocol]
impl Neither {}

fn main() {
    let half = [Plain::HALF_CLOSEABLE, Coroutines::HALF_CLOSEABLE, Neither::HALF_CLOSEABLE];
    assert_eq!(half, [true, true, false]);
    let takes =
        [Plain::TAKES_DESCRIPTORS, Coroutines::TAKES_DESCRIPTORS, Neither::TAKES_DESCRIPTORS];
    assert_eq!(takes, [true, true, false]);
}
