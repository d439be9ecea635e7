//! A port forwarder with back-pressure in both directions: a slow reader slows its writer, and
//! memory use stays constant.
//!
//!     cargo run --example port_forward -- tcp:8000 tcp:example.com:80
use std::rc::Rc;
use twistor::prelude::*;

#[derive(Factory)]
#[factory(protocol = Inbound)]
struct Forwarder {
    target: ClientEndpoint,
}

#[protocol]
struct Inbound {
    #[factory]
    forwarder: Rc<Forwarder>,
    #[transport]
    transport: Transport,
}

#[protocol]
impl Inbound {
    #[inline_callbacks]
    fn connection_made(this: Handle<Self>) -> Deferred<()> {
        let (inbound, target) =
            yield_!(this.with(|this| (this.transport.clone(), this.forwarder.target.clone())))?;
        inbound.pause_producing();
        // a failure here closes the inbound side
        let outbound = yield_!(target.connect(Outbound::factory()))?;
        // bytes, back-pressure and half-closes, in both directions
        twistor::protocol::pipe(&inbound, outbound.transport());
        inbound.resume_producing();
        return_value!(())
    }
}

/// The far side: `pipe` forwards its bytes, so it needs no handler.
#[protocol]
struct Outbound;

#[protocol]
impl Outbound {}

#[twistor::main]
fn main(reactor: Reactor, args: Args) -> Deferred<()> {
    let target = client_from_string(&reactor, args.required(1, "TARGET")?)?;
    let port = yield_!(
        server_from_string(&reactor, args.required(0, "LISTEN")?)?.listen(Forwarder { target })
    )?;
    println!("forwarding from {}", port.host());
    yield_!(reactor.when_stopped())
}
