//! A connection: the protocol, its framing, queued calls, and how it closes. A slot of the reactor
//! owns it.
use super::{handle::Handle, protocol::Protocol};
use crate::{
    address::Address,
    defer::{AbandonCause, CancelHandle, Ticket, with_abandon_cause},
    error::{ConnectionAborted, ConnectionDone},
    failure::{Failure, Frame, current_function},
    free_list::FreeList,
    reactor::source::{Readiness, Source},
    report::{drop_guarded, guarded, panicked, report},
    stream::{Framing, Transport},
};
use std::{
    any::type_name,
    cell::{Cell, RefCell},
    collections::VecDeque,
    mem::{needs_drop, take},
    panic::{AssertUnwindSafe, Location, catch_unwind},
    rc::Rc,
};

/// The largest connection that is recycled, in bytes and with its protocol.
const LARGEST_RECYCLED: usize = 4096;

/// The data in the slot; a [`Handle`] is a pointer to it.
pub(crate) struct Connection<P: Protocol> {
    /// `None` once the connection has dropped it.
    pub(super) protocol: RefCell<Option<P>>,
    /// State that most connections never need.
    cold: RefCell<Option<Box<ColdState>>>,
    /// What has to be done after a handler or a call. It is derived from other state, so that one
    /// check is enough.
    attention: Cell<u8>,
    /// Whether queued calls are being run.
    pub(super) draining: Cell<bool>,
    closing: Cell<Closing>,
    pub(super) framing: RefCell<P::Framing>,
    pub(super) transport: Transport,
    /// The list to which the allocation returns.
    free_list: Option<Rc<FreeList<Rc<Self>>>>,
}

/// Calls are queued, or the protocol must be dropped when the present call returns.
const CALLS: u8 = 1;
/// Buffered input may be delivered without new input.
const UNPARSED: u8 = 1 << 1;

/// The progress of closing a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// The connection is open.
    No,
    /// `connection_lost` is being called.
    Notifying,
    /// `connection_lost` is a coroutine that has not finished.
    WaitingForHandler,
    /// A handler or a call is using the protocol, which is dropped when that returns.
    WaitingForCall,
    /// The protocol has been dropped.
    Done,
}

#[derive(Default)]
struct ColdState {
    /// The calls that found the protocol in use, in order.
    queue: VecDeque<Ticket>,
    /// The handlers to cancel when the connection is lost.
    on_loss: Vec<CancelHandle>,
    on_closed: OnClosed,
}

/// The factory's function to call, with the reason, when the connection has closed.
pub(crate) type OnClosed = Option<Box<dyn FnOnce(&Failure)>>;

/// A connection, without its protocol's type.
pub(crate) trait ErasedConnection: Source {
    /// Calls `connection_made`.
    fn on_connected(self: Rc<Self>);
}

impl<P: Protocol> Connection<P> {
    /// Creates the connection of `protocol` and `transport`, in a recycled allocation if there is
    /// one.
    pub(crate) fn new(
        protocol: P,
        framing: P::Framing,
        transport: Transport,
        on_closed: OnClosed,
        free_list: Option<&Rc<FreeList<Rc<Self>>>>,
    ) -> Rc<Self> {
        let cold = on_closed.map(|on_closed| {
            Box::new(ColdState { on_closed: Some(on_closed), ..ColdState::default() })
        });
        let fresh = Self {
            protocol: RefCell::new(Some(protocol)),
            cold: RefCell::new(cold),
            attention: Cell::new(0),
            draining: Cell::new(false),
            closing: Cell::new(Closing::No),
            framing: RefCell::new(framing),
            transport,
            free_list: free_list.cloned(),
        };
        if let Some(mut free) = free_list.and_then(|list| list.take())
            && let Some(place) = Rc::get_mut(&mut free)
        {
            *place = fresh;
            return free;
        }
        Rc::new(fresh)
    }

    /// Recycles the allocation, unless a handle or a transport refers to it, it is large, or its
    /// framing has something to drop.
    fn recycle(mut self: Rc<Self>) {
        let Some(closed) = Rc::get_mut(&mut self) else { return };
        let free_list = closed.free_list.take();
        if let Some(stream) = closed.transport.0.take() {
            stream.recycle();
        }
        match free_list {
            Some(list)
                if size_of::<Self>() <= LARGEST_RECYCLED
                    && !needs_drop::<P::Framing>()
                    && closed.protocol.get_mut().is_none()
                    && closed.cold.get_mut().is_none() =>
            {
                list.put(self);
            }
            // user code: the framing's drop
            _ => drop_guarded(self),
        }
    }
}

impl<P: Protocol> ErasedConnection for Connection<P> {
    fn on_connected(self: Rc<Self>) {
        let this = Handle(self);
        // user code
        this.guarded("connection_made", || P::__connection_made(&this));
        this.0.flush_output();
        this.after_user_code();
    }
}

impl<P: Protocol> Source for Connection<P> {
    fn describe(&self) -> Option<String> {
        Some(format!("a connection with {}, of {}", self.transport.peer(), type_name::<P>()))
    }

    fn ready(self: Rc<Self>, readiness: Readiness, buffer: &mut [u8]) {
        let this = Handle(self);
        let Some(stream) = &this.0.transport.0 else { return };
        if stream.on_event(readiness, buffer, &this) {
            this.end();
        }
    }

    fn flush_output(&self) {
        if let Some(stream) = &self.transport.0 {
            stream.flush_output();
        }
    }

    fn closed(self: Rc<Self>) {
        let this = Handle(self);
        // no further handler is called, even if one of them has closed the reactor
        this.0.closing.set(Closing::Notifying);
        let reason: Failure = ConnectionAborted::with_text("the reactor was closed").into();
        if let Some(stream) = &this.0.transport.0 {
            stream.close_socket(Some(reason));
        }
        this.drop_protocol();
    }
}

impl<P: Protocol> Handle<P> {
    /// Runs a handler. A panic in it closes this connection.
    #[expect(clippy::inline_always, reason = "the path of every byte")]
    #[inline(always)]
    pub(super) fn guarded(&self, handler: &'static str, run: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(run)) {
            self.panicked(handler, payload);
        }
    }

    #[cold]
    pub(super) fn panicked(&self, handler: &'static str, payload: Box<dyn std::any::Any + Send>) {
        let failure = panicked(payload, Frame::new(current_function(), Location::caller()));
        fail_connection(&self.0.transport, failure, &format!("{handler} of {}", type_name::<P>()));
    }

    /// Closes the connection because the input is invalid for the framing.
    #[cold]
    pub(super) fn framing_failed(&self, failure: Failure) {
        let what = format!("the framing of {}", type_name::<P>());
        fail_connection(&self.0.transport, failure, &what);
    }

    /// Calls one handler with the protocol. Does nothing if the protocol has been dropped.
    #[inline]
    pub(crate) fn enter(&self, run: impl FnOnce(&mut P)) {
        if let Ok(mut protocol) = self.0.protocol.try_borrow_mut()
            && let Some(protocol) = &mut *protocol
        {
            run(protocol);
        }
    }

    /// Completes a handler or a call: runs queued calls in order, then delivers input that was left
    /// unparsed.
    #[inline]
    pub(super) fn after_user_code(&self) {
        if self.0.attention.get() != 0 {
            self.attend();
        }
    }

    #[inline(never)]
    fn attend(&self) {
        if self.has_attention(CALLS) {
            self.run_calls();
        }
        if P::Framing::BUFFERS && self.has_attention(UNPARSED) {
            self.parse();
        }
    }

    fn has_attention(&self, flag: u8) -> bool {
        self.0.attention.get() & flag != 0
    }

    fn set_attention(&self, flag: u8, on: bool) {
        let attention = self.0.attention.get();
        self.0.attention.set(if on { attention | flag } else { attention & !flag });
    }

    /// Records whether buffered input may be delivered without new input.
    pub(super) fn set_unparsed(&self, unparsed: bool) {
        self.set_attention(UNPARSED, unparsed);
    }

    fn run_calls(&self) {
        if self.0.draining.replace(true) {
            return;
        }
        loop {
            let call = self.cold(|cold| cold.queue.pop_front());
            let Some(call) = call else {
                self.set_attention(CALLS, false);
                break;
            };
            // output and close requests of the previous user code come first
            self.0.flush_output();
            // user code
            call.open();
        }
        self.0.draining.set(false);
        if self.0.closing.get() == Closing::WaitingForCall {
            self.drop_protocol();
        }
    }

    /// Closes the connection after its stream has closed, and recycles the allocations.
    #[cold]
    #[inline(never)]
    fn end(self) {
        self.connection_lost();
        self.0.recycle();
    }

    /// Runs the closing sequence. The socket is closed already; `connection_lost`, the queued calls
    /// and the factory follow in this order. Then the protocol is dropped, whoever holds a handle.
    fn connection_lost(&self) {
        if self.0.closing.get() != Closing::No {
            return;
        }
        self.0.closing.set(Closing::Notifying);
        if let Some(stream) = &self.0.transport.0 {
            stream.close_socket(None);
        }
        // user code; nothing that it does can change the connection any more
        let frame = || Frame::new("", Location::caller());
        if let Err(failure) = guarded(frame, || P::__connection_lost(self)) {
            report(failure, format!("connection_lost of {}", type_name::<P>()));
        }
        self.after_user_code();
        self.cancel_on_loss_now();
        if self.0.closing.get() == Closing::Notifying {
            self.drop_protocol();
        }
    }

    /// Registers `handler` to be cancelled when the connection is lost.
    pub(super) fn cancel_on_loss(&self, handler: CancelHandle) {
        self.cold(|cold| {
            // handlers that have finished are removed before the list grows, so that it stays
            // bounded
            if cold.on_loss.len() == cold.on_loss.capacity() {
                cold.on_loss.retain(|handler| !handler.is_dead());
            }
            cold.on_loss.push(handler);
        });
    }

    /// Returns whether a handler that is cancelled by the loss is pending.
    pub(super) fn has_pending_cancel_on_loss(&self) -> bool {
        let cold = self.0.cold.borrow();
        cold.as_ref().is_some_and(|cold| cold.on_loss.iter().any(|handler| !handler.is_dead()))
    }

    /// Returns whether a call would run at once.
    pub(super) fn is_free(&self) -> bool {
        !self.0.draining.get()
            && !self.has_attention(CALLS)
            && self.0.protocol.try_borrow_mut().is_ok()
    }

    /// Queues a call.
    pub(super) fn enqueue(&self, call: Ticket) {
        self.cold(|cold| cold.queue.push_back(call));
        self.set_attention(CALLS, true);
    }

    fn cold<R>(&self, work: impl FnOnce(&mut ColdState) -> R) -> R {
        work(self.0.cold.borrow_mut().get_or_insert_default())
    }

    /// Keeps the protocol until the coroutine of `connection_lost` has finished.
    pub(super) fn wait_for_connection_lost(&self) {
        if self.0.closing.get() == Closing::Notifying {
            self.0.closing.set(Closing::WaitingForHandler);
        }
    }

    /// Drops the protocol after the coroutine of `connection_lost` has finished.
    pub(super) fn connection_lost_finished(&self) {
        if self.0.closing.get() == Closing::WaitingForHandler {
            self.after_user_code();
            self.drop_protocol();
        }
    }

    /// Returns the reason of the loss, once there is one.
    pub(super) fn reason(&self) -> Option<Failure> {
        self.0.transport.0.as_ref().and_then(|stream| stream.reason())
    }

    /// Returns the reason of a loss that has happened.
    pub(crate) fn loss(&self) -> Failure {
        self.reason().unwrap_or_else(|| ConnectionDone::new().into())
    }

    /// Calls the factory's function and drops the protocol; queued calls fail.
    fn drop_protocol(&self) {
        if self.0.protocol.try_borrow_mut().is_err() {
            // a handler or a call is using it: `run_calls` drops it afterwards
            self.0.closing.set(Closing::WaitingForCall);
            return self.set_attention(CALLS, true);
        }
        self.0.closing.set(Closing::Done);
        let mut cold = self.0.cold.take();
        if let Some(on_closed) = cold.as_mut().and_then(|cold| cold.on_closed.take()) {
            let reason = self.loss();
            let frame = || Frame::new("", Location::caller());
            // user code
            if let Err(failure) = guarded(frame, || on_closed(&reason)) {
                report(failure, format!("the factory of {}", type_name::<P>()));
            }
        }
        let protocol = match self.0.protocol.try_borrow_mut() {
            Ok(mut protocol) => protocol.take(),
            Err(_) => return,
        };
        if needs_drop::<P>() {
            let cause = self.0.transport.0.clone().map(|stream| stream as Rc<dyn AbandonCause>);
            // user code: the drop of the protocol
            with_abandon_cause(cause, || drop_guarded(protocol));
        }
        if let Some(cold) = cold {
            for call in cold.queue {
                call.refuse(self.loss());
            }
        }
    }

    /// Cancels the registered handlers.
    #[inline]
    pub(super) fn cancel_on_loss_now(&self) {
        if self.0.cold.borrow().is_some() {
            self.cancel_all();
        }
    }

    #[inline(never)]
    fn cancel_all(&self) {
        let on_loss = self.cold(|cold| take(&mut cold.on_loss));
        for handler in on_loss {
            // user code
            handler.cancel();
        }
    }
}

/// Reports the failure of a handler or a framing, and closes the connection with that reason.
pub(super) fn fail_connection(transport: &Transport, failure: Failure, what: &str) {
    report(failure.clone(), format!("{what}, {}", named(transport)));
    if let Some(stream) = &transport.0 {
        stream.lose_connection(Some(failure));
    }
}

/// Names a connection in a report: by its peer, or by its own address if the peer has none.
fn named(transport: &Transport) -> String {
    match transport.peer() {
        Address::Unix(None) => format!("connection on {}", transport.host()),
        peer => format!("connection with {peer}"),
    }
}
