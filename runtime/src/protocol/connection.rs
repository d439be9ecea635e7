//! A connection as the reactor's slot owns it: the protocol's cell, its framing, the calls that
//! wait for it, its end.
use super::{handle::Handle, protocol::Protocol};
use crate::{
    address::Address,
    defer::{CancelHandle, Ends, Resolver, with_loss},
    error::{ConnectionAborted, ConnectionDone},
    failure::{Failure, Frame, current_function},
    free_list::Spare,
    reactor::source::{Readiness, Source},
    report::{drop_guarded, guarded, panicked, report},
    stream::{Framing, Look, Transport},
};
use std::{
    any::type_name,
    cell::{Cell, RefCell},
    collections::VecDeque,
    mem::{needs_drop, take},
    panic::{AssertUnwindSafe, Location, catch_unwind},
    rc::Rc,
};

/// How large a connection's memory is, with its protocol in it, that is kept for the next one.
const LARGEST_SPARE: usize = 4096;

/// What the slot owns; a [`Handle`] is a pointer to it.
pub(crate) struct Connection<P: Protocol> {
    pub(super) life: RefCell<Life<P>>,
    /// What most connections never need.
    rare: RefCell<Option<Box<Rare>>>,
    /// Whether calls are queued, for a quick look after each handler.
    pub(super) queued: Cell<bool>,
    pub(super) draining: Cell<bool>,
    pub(super) framing: RefCell<P::Framing>,
    pub(super) transport: Transport,
    /// Whether something has arrived and is not parsed: it may be delivered without new input.
    pub(super) leftover: Cell<bool>,
    /// Whether `connection_lost` has been called.
    ending: Cell<bool>,
    /// Whether `connection_lost` is a coroutine that has not finished.
    lingering: Cell<bool>,
    /// Whether the protocol is to be dropped as soon as the call that has it is done.
    doomed: Cell<bool>,
    /// Where its memory goes.
    spare: Option<Rc<Spare<Self>>>,
}

#[derive(Default)]
struct Rare {
    /// The calls that found the protocol busy, in order. Each is let in by firing its gate.
    queue: VecDeque<Resolver<()>>,
    /// What is cancelled when the connection is lost.
    on_loss: Vec<CancelHandle>,
    hooks: Hooks,
}

/// What is called at the end, with the reason: the factory's side of it.
pub(crate) type Hooks = Option<Box<dyn FnOnce(&Failure)>>;

/// The protocol, or that it is gone.
pub(super) enum Life<P> {
    Live(P),
    Lost,
}

/// A connection that has been built and not been told so.
pub(crate) trait Live: Source {
    /// Calls `connection_made`.
    fn made(self: Rc<Self>);
}

impl<P: Protocol> Connection<P> {
    /// Puts `protocol` on `transport`, in the memory of a connection that is over if there is some.
    pub(crate) fn new(
        mut protocol: P,
        framing: P::Framing,
        transport: Transport,
        hooks: Hooks,
        spare: Option<&Rc<Spare<Self>>>,
    ) -> Rc<Self> {
        protocol.attach(&transport);
        let fresh = Self {
            life: RefCell::new(Life::Live(protocol)),
            rare: RefCell::new(
                hooks.map(|hooks| Box::new(Rare { hooks: Some(hooks), ..Rare::default() })),
            ),
            queued: Cell::new(false),
            draining: Cell::new(false),
            framing: RefCell::new(framing),
            transport,
            leftover: Cell::new(false),
            ending: Cell::new(false),
            lingering: Cell::new(false),
            doomed: Cell::new(false),
            spare: spare.cloned(),
        };
        if let Some(mut kept) = spare.and_then(|spare| spare.take())
            && let Some(place) = Rc::get_mut(&mut kept)
        {
            *place = fresh;
            return kept;
        }
        Rc::new(fresh)
    }

    /// It is over: its memory is for the next connection, unless somebody still has a handle or the
    /// transport, it is large, or its framing has something to drop.
    fn retire(mut self: Rc<Self>) {
        let Some(over) = Rc::get_mut(&mut self) else { return };
        let spare = over.spare.take();
        if let Some(stream) = over.transport.0.take() {
            stream.retire();
        }
        match spare {
            Some(spare)
                if size_of::<Self>() <= LARGEST_SPARE
                    && !needs_drop::<P::Framing>()
                    && matches!(over.life.get_mut(), Life::Lost)
                    && over.rare.get_mut().is_none() =>
            {
                spare.keep(self);
            }
            // user code: the framing's drop
            _ => drop_guarded(self),
        }
    }
}

impl<P: Protocol> Live for Connection<P> {
    fn made(self: Rc<Self>) {
        let this = Handle(self);
        // user code
        this.guarded("connection_made", || P::__connection_made(&this));
        this.drain();
    }
}

impl<P: Protocol> Source for Connection<P> {
    fn describe(&self) -> Option<String> {
        Some(format!(
            "a connection with {}, of {}",
            self.transport.peer(),
            std::any::type_name::<P>()
        ))
    }

    fn ready(self: Rc<Self>, readiness: Readiness, buffer: &mut [u8]) {
        let this = Handle(self);
        let Some(stream) = &this.0.transport.0 else { return };
        if P::Framing::BUFFERS && (this.0.leftover.get() || readiness.is_to_the_end()) {
            // what was left when a handler paused or held
            this.parse();
        }
        match stream.look(readiness, buffer, &this) {
            // a short read leaves nothing behind, and the end can only come from a later look
            Look::Read(Ok(read)) if read > 0 && read < buffer.len() => {
                this.deliver(buffer.get(..read).unwrap_or_default());
            }
            Look::Done => {}
            Look::Over => {
                this.end();
                this.0.retire();
            }
            first => {
                this.read_on(first, readiness, buffer);
                if this.0.ending.get() {
                    this.0.retire();
                }
            }
        }
    }

    fn closed(self: Rc<Self>) {
        let this = Handle(self);
        // no handler is called, also where one of them has closed the reactor
        this.0.ending.set(true);
        let reason: Failure = ConnectionAborted::with_text("the reactor was closed").into();
        if let Some(stream) = &this.0.transport.0 {
            stream.die(Some(reason));
        }
        this.bury();
    }
}

impl<P: Protocol> Handle<P> {
    /// Runs a handler; a panic in it costs the connection.
    #[inline]
    pub(super) fn guarded(&self, handler: &'static str, run: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(run)) {
            self.panicked(handler, payload);
        }
    }

    #[cold]
    fn panicked(&self, handler: &'static str, payload: Box<dyn std::any::Any + Send>) {
        let frame = Frame::new(current_function(), Location::caller());
        failed(
            &self.0.transport,
            panicked(payload, frame),
            &format!("{handler} of {}", type_name::<P>()),
        );
    }

    /// The input broke the rules of the framing.
    #[cold]
    pub(super) fn broken(&self, failure: Failure) {
        failed(&self.0.transport, failure, &format!("the framing of {}", type_name::<P>()));
    }

    /// The protocol, for one handler. Nothing happens if it is gone.
    #[inline]
    pub(crate) fn enter(&self, run: impl FnOnce(&mut P)) {
        if let Ok(mut life) = self.0.life.try_borrow_mut()
            && let Life::Live(protocol) = &mut *life
        {
            run(protocol);
        }
    }

    /// Lets the queued calls in, in order.
    #[inline]
    pub(super) fn drain(&self) {
        if self.0.queued.get() {
            self.drain_all();
        }
        if P::Framing::BUFFERS && self.0.leftover.get() {
            // what was just done may have resumed the delivery
            self.parse();
        }
    }

    #[inline(never)]
    fn drain_all(&self) {
        if self.0.draining.replace(true) {
            return;
        }
        loop {
            let gate = self.rare(|rare| rare.queue.pop_front());
            let Some(gate) = gate else {
                self.0.queued.set(false);
                break;
            };
            // user code
            gate.callback_now(());
        }
        self.0.draining.set(false);
        if self.0.doomed.replace(false) {
            self.bury();
        }
    }

    /// The end, in its order: the transport is dead and its socket closed; `connection_lost`; the
    /// queued calls; the factory; the protocol is dropped, whoever holds a handle.
    pub(super) fn end(&self) {
        if self.0.ending.replace(true) {
            return;
        }
        if let Some(stream) = &self.0.transport.0 {
            stream.die(None);
        }
        // user code; what it says about the connection comes too late to change it
        let frame = || Frame::new("", Location::caller());
        if let Err(failure) = guarded(frame, || P::__connection_lost(self)) {
            report(failure, format!("connection_lost of {}", type_name::<P>()));
        }
        self.drain();
        self.cancel_on_loss_now();
        if !self.0.lingering.get() {
            self.bury();
        }
    }

    /// Cancels `handler` when the connection is lost.
    pub(super) fn cancel_on_loss(&self, handler: CancelHandle) {
        self.rare(|rare| {
            // those that have ended go, before the list would grow for ever
            if rare.on_loss.len() == rare.on_loss.capacity() {
                rare.on_loss.retain(|handler| !handler.is_dead());
            }
            rare.on_loss.push(handler);
        });
    }

    /// Queues a call: `gate` lets it in.
    pub(super) fn enqueue(&self, gate: Resolver<()>) {
        self.rare(|rare| rare.queue.push_back(gate));
        self.0.queued.set(true);
    }

    fn rare<R>(&self, work: impl FnOnce(&mut Rare) -> R) -> R {
        work(self.0.rare.borrow_mut().get_or_insert_default())
    }

    /// Keeps the protocol until the coroutine of `connection_lost` has finished.
    pub(super) fn linger(&self) {
        self.0.lingering.set(true);
    }

    pub(super) fn lingered(&self) {
        if self.0.lingering.replace(false) {
            self.drain();
            self.bury();
        }
    }

    /// Whether the connection is over, and why.
    pub(super) fn reason(&self) -> Option<Failure> {
        self.0.transport.0.as_ref().and_then(|stream| stream.reason())
    }

    /// The same once it is known to be over.
    pub(crate) fn loss(&self) -> Failure {
        self.reason().unwrap_or_else(|| ConnectionDone::new().into())
    }

    fn bury(&self) {
        if self.0.life.try_borrow_mut().is_err() {
            // a handler or a call has it: `drain` comes after that
            self.0.doomed.set(true);
            return self.0.queued.set(true);
        }
        let mut rare = self.0.rare.take();
        if let Some(hooks) = rare.as_mut().and_then(|rare| rare.hooks.take()) {
            let reason = self.loss();
            // user code
            if let Err(failure) = guarded(|| Frame::new("", Location::caller()), || hooks(&reason))
            {
                report(failure, format!("the factory of {}", type_name::<P>()));
            }
        }
        let gone = match self.0.life.try_borrow_mut() {
            Ok(mut life) => std::mem::replace(&mut *life, Life::Lost),
            Err(_) => return,
        };
        if needs_drop::<P>() {
            let stream = self.0.transport.0.clone();
            // user code: the drop of the protocol
            with_loss(stream.map(|stream| stream as Rc<dyn Ends>), || drop_guarded(gone));
        }
        if let Some(rare) = rare {
            for gate in rare.queue {
                gate.errback(self.loss());
            }
        }
    }

    /// Cancels the coroutines that asked for it.
    #[inline]
    pub(super) fn cancel_on_loss_now(&self) {
        if self.0.rare.borrow().is_some() {
            self.cancel_all();
        }
    }

    #[inline(never)]
    fn cancel_all(&self) {
        let on_loss = self.rare(|rare| take(&mut rare.on_loss));
        for handler in on_loss {
            // user code
            handler.cancel();
        }
    }
}

/// A handler or a framing failed: the failure is reported, and the connection closed with it as its
/// reason.
pub(super) fn failed(transport: &Transport, failure: Failure, what: &str) {
    report(failure.clone(), format!("{what}, {}", named(transport)));
    if let Some(stream) = &transport.0 {
        stream.close(Some(failure));
    }
}

/// A connection in a report: by its peer, or by its own address if that has no name.
fn named(transport: &Transport) -> String {
    match transport.peer() {
        Address::Unix(None) => format!("connection on {}", transport.host()),
        peer => format!("connection with {peer}"),
    }
}
