//! Factory: builds a protocol for each connection.
use super::{
    connection::{Connection, ErasedConnection, OnClosed},
    fresh::Fresh,
    handle::Handle,
    protocol::Protocol,
};
use crate::{
    address::Address,
    error::NoProtocol,
    failure::{Failure, Frame},
    free_list::FreeList,
    report::{drop_guarded, guarded, report},
    stream::{Framing, FramingState, Stream, Transport},
};
use std::{any::type_name, cell::RefCell, collections::HashMap, panic::Location, rc::Rc};

/// Builds a protocol for each connection, and holds what the connections share.
///
/// `#[derive(Factory)]` implements it for a struct, and every closure `Fn(&Address) -> P`
/// implements it.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use twistor::{address::Address, protocol::{Factory, Protocol, Raw}};
///
/// struct Session { shared: Rc<Server> }
/// impl Protocol for Session { type Framing = Raw; }
///
/// #[derive(Default)]
/// struct Server { sessions: Cell<u32> }
///
/// impl Factory for Server {
///     type Protocol = Session;
///
///     fn build_protocol(self: &Rc<Self>, _peer: &Address) -> Option<Session> {
///         self.sessions.set(self.sessions.get() + 1);
///         (self.sessions.get() <= 1000).then(|| Session { shared: self.clone() })
///     }
/// }
/// ```
#[doc(alias = "IProtocolFactory")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a factory",
    label = "not a factory",
    note = "for a protocol `P` use `P::factory()`; for your own struct `#[derive(Factory)]`"
)]
pub trait Factory: Sized + 'static {
    /// The type of the protocols that it builds.
    type Protocol: Protocol;

    /// Builds a protocol for the connection with `peer`. `None` refuses the connection, which is
    /// then closed.
    #[doc(alias = "buildProtocol")]
    fn build_protocol(self: &Rc<Self>, peer: &Address) -> Option<Self::Protocol>;

    /// Called when the first port or connection begins to use this factory.
    #[doc(alias = "startFactory")]
    fn start_factory(&self) {}

    /// Called when the last port or connection has stopped using this factory.
    #[doc(alias = "stopFactory")]
    fn stop_factory(&self) {}
}

#[diagnostic::do_not_recommend]
impl<P: Protocol, F: Fn(&Address) -> P + 'static> Factory for F {
    type Protocol = P;

    fn build_protocol(self: &Rc<Self>, peer: &Address) -> Option<P> {
        Some(self(peer))
    }
}

/// A factory, or an `Rc` of one: the argument of `listen` and `connect`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a factory",
    label = "expected a factory",
    note = "pass a factory, or an `Rc` of one: for a protocol `YourProtocol::factory()`, for a \
        struct of your own `#[derive(Factory)]`"
)]
pub trait IntoFactory {
    /// The type of the factory.
    type Factory: Factory;

    /// Converts into the `Rc` that the connections share.
    fn into_factory(self) -> Rc<Self::Factory>;
}

#[diagnostic::do_not_recommend]
impl<F: Factory> IntoFactory for F {
    type Factory = F;

    fn into_factory(self) -> Rc<F> {
        Rc::new(self)
    }
}

#[diagnostic::do_not_recommend]
impl<F: Factory> IntoFactory for Rc<F> {
    type Factory = F;

    fn into_factory(self) -> Self {
        self
    }
}

impl<P: Protocol> Factory for Fresh<P> {
    type Protocol = P;

    fn build_protocol(self: &Rc<Self>, _peer: &Address) -> Option<P> {
        Some(self.build())
    }
}

thread_local! {
    /// The number of ports and connections that use the factory at each address. Each of them holds
    /// the factory, so an address cannot be reused meanwhile.
    static USERS: RefCell<HashMap<*const (), usize>> = RefCell::default();
}

/// A factory without its type, for ports and attempts to connect.
pub(crate) trait ErasedFactory {
    /// Counts one more port or connection that uses it.
    fn start(&self);
    /// Counts one port or connection less.
    fn stop(&self) -> Result<(), Failure>;
    /// Returns its name for the log: the factory's type, or the protocol's where that says more.
    fn name(&self) -> &'static str;
    /// Builds a protocol on `stream`, or fails with the reason why there is none.
    fn accept(
        &self,
        stream: Rc<Stream>,
        peer: &Address,
        on_closed: OnClosed,
    ) -> Result<Rc<dyn ErasedConnection>, Failure>;
}

/// Unused allocations of connections.
type FreeConnections<P> = FreeList<Rc<Connection<P>>>;

/// Adapts a factory to [`ErasedFactory`]; `take` receives each handle.
pub(crate) struct FactoryAdapter<F: Factory, K> {
    pub(crate) factory: Rc<F>,
    pub(crate) keep: K,
    /// Unused allocations, for a factory that builds many connections.
    pub(crate) free_list: Option<Rc<FreeConnections<F::Protocol>>>,
}

/// The number of unused allocations that a port keeps.
const FREE_CONNECTIONS: usize = 64;

impl<F: Factory, K> FactoryAdapter<F, K> {
    /// Adapts a factory for one connection, whose handle is passed to `keep`.
    pub(crate) fn once(factory: Rc<F>, keep: K) -> Self {
        Self { factory, keep, free_list: None }
    }
}

impl<F: Factory> FactoryAdapter<F, fn(&Handle<F::Protocol>)> {
    /// Adapts a factory for any number of connections, whose handles are dropped.
    pub(crate) fn many(factory: Rc<F>) -> Self {
        Self { factory, keep: |_| (), free_list: Some(Rc::new(FreeList::new(FREE_CONNECTIONS))) }
    }
}

impl<F: Factory, K: Fn(&Handle<F::Protocol>)> ErasedFactory for FactoryAdapter<F, K> {
    fn start(&self) {
        let key = Rc::as_ptr(&self.factory).cast();
        let first = USERS.try_with(|users| {
            let mut users = users.borrow_mut();
            let count = users.entry(key).or_insert(0);
            *count += 1;
            *count == 1
        });
        if first == Ok(true) {
            tracing::info!("Starting factory {}", type_name::<F>());
            // user code
            if let Err(failure) = guarded(
                || Frame::new("start_factory", Location::caller()),
                || self.factory.start_factory(),
            ) {
                report(failure, format!("start_factory of {}", type_name::<F>()));
            }
        }
    }

    fn stop(&self) -> Result<(), Failure> {
        let key: *const () = Rc::as_ptr(&self.factory).cast();
        // while the thread's storage is being torn down the counts are lost
        let last = USERS.try_with(|users| {
            let mut users = users.borrow_mut();
            match users.get_mut(&key) {
                Some(1) => users.remove(&key).is_some(),
                Some(count) => {
                    *count -= 1;
                    false
                }
                None => false,
            }
        });
        if last != Ok(true) {
            return Ok(());
        }
        tracing::info!("Stopping factory {}", type_name::<F>());
        // user code
        guarded(|| Frame::new("stop_factory", Location::caller()), || self.factory.stop_factory())
    }

    fn name(&self) -> &'static str {
        let name = type_name::<F>();
        if name.contains("{{") || name.contains('<') {
            last_name(type_name::<F::Protocol>())
        } else {
            last_name(name)
        }
    }

    fn accept(
        &self,
        stream: Rc<Stream>,
        peer: &Address,
        on_closed: OnClosed,
    ) -> Result<Rc<dyn ErasedConnection>, Failure> {
        let transport = Transport(Some(stream));
        let (mut built, mut framing) = (None, None);
        let frame = || Frame::new("build_protocol", Location::caller());
        // user code: building, the user's framing, attaching
        let prepared = guarded(frame, || {
            built = self.factory.build_protocol(peer);
            if let Some(protocol) = &mut built {
                protocol.attach(&transport);
                let framing = framing.insert(protocol.framing());
                set_framing::<F::Protocol>(&transport, framing);
            }
        });
        let (protocol, framing) = match (prepared, built, framing) {
            (Ok(()), Some(protocol), Some(framing)) => (protocol, framing),
            (prepared, built, framing) => {
                drop_guarded(built);
                drop_guarded(framing);
                return Err(prepared.err().unwrap_or_else(|| NoProtocol::new().into()));
            }
        };
        let free_list = self.free_list.as_ref();
        let connection = Connection::new(protocol, framing, transport, on_closed, free_list);
        let handle = Handle(connection);
        (self.keep)(&handle);
        Ok(handle.0)
    }
}

/// Configures the transport for the protocol's framing and handlers.
fn set_framing<P: Protocol>(transport: &Transport, framing: &P::Framing) {
    if let Some(stream) = &transport.0 {
        if P::Framing::BUFFERS {
            stream.set_framing(FramingState::new(framing.encoder()));
        }
        if P::TAKES_DESCRIPTORS {
            stream.accept_descriptors();
        }
    }
}

/// Returns a type's name without its path.
pub(crate) fn last_name(name: &'static str) -> &'static str {
    let path = name.split('<').next().unwrap_or(name);
    path.rsplit("::").next().unwrap_or(path)
}
