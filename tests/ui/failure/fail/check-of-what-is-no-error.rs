use std::io;
use twistor::{
    error::{ConnectionDone, ConnectionLost},
    failure::Failure,
};

fn main() {
    let failure = Failure::message("lost");
    failure.check::<(ConnectionDone, ConnectionLost)>();
    failure.check::<io::ErrorKind>();
    failure.check::<Failure>();
    let _ = failure.trap::<(ConnectionDone, ConnectionLost)>();
}
