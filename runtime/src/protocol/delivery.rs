//! Delivery of input to a protocol: the one loop for every framing.
//!
//! The loop takes one message, borrows the protocol for its handler, ends the borrow, and runs the
//! calls that were queued. It then checks whether the delivery is paused or suspended, or the
//! connection closing or lost. So every division of the input into reads causes the same events.
use super::{
    handle::Handle,
    protocol::{Message, Protocol},
};
use crate::{
    error::MessageError,
    failure::{Failure, Frame},
    report::panicked,
    stream::{Framing, Input, Receiver},
};
use std::{
    any::Any,
    os::fd::OwnedFd,
    panic::{AssertUnwindSafe, Location, catch_unwind},
};

impl<P: Protocol> Receiver for Handle<P> {
    /// Delivers input to the protocol: unchanged without a framing, and message by message with
    /// one.
    #[expect(clippy::inline_always, reason = "the path of every byte: 10 of 250 instructions")]
    #[inline(always)]
    fn data(&self, data: &[u8]) {
        if P::Framing::BUFFERS {
            return self.frame(data);
        }
        match self.decode(Input::new(data, false)) {
            Ok(Some((message, _))) => {
                self.message(message);
                self.flush_corked();
            }
            Ok(None) => {}
            Err(failure) => self.framing_failed(failure),
        }
    }

    fn deliver_unparsed(&self) {
        if P::Framing::BUFFERS {
            self.parse();
        }
    }

    fn is_half_closeable(&self) -> bool {
        P::HALF_CLOSEABLE
    }

    fn descriptor(&self, descriptor: OwnedFd) {
        // user code
        self.guarded("file_descriptor_received", || {
            P::__file_descriptor_received(self, descriptor);
        });
        self.after_user_code();
    }

    fn read_connection_lost(&self) {
        // user code
        self.guarded("read_connection_lost", || P::__read_connection_lost(self));
        self.after_user_code();
    }

    fn write_connection_lost(&self) {
        if P::HALF_CLOSEABLE {
            // user code
            self.guarded("write_connection_lost", || P::__write_connection_lost(self));
            self.after_user_code();
        }
    }

    fn has_cancel_on_loss(&self) -> bool {
        self.has_pending_cancel_on_loss()
    }
}

impl<P: Protocol> Handle<P> {
    /// Delivers one message.
    #[inline]
    fn message(&self, message: Message<'_, P>) {
        // user code
        self.guarded("message_received", || P::__message_received(self, message));
        self.after_user_code();
    }

    /// Sends corked output after the delivery of a read.
    #[inline]
    fn flush_corked(&self) {
        if let Some(stream) = &self.0.transport.0
            && stream.is_corked()
        {
            stream.flush();
        }
    }

    /// Tells the stream that more messages follow, so that the output of their handlers is corked.
    fn expect_output(&self) {
        if let Some(stream) = &self.0.transport.0 {
            stream.expect_output();
        }
    }

    /// Delivers input to a framed protocol.
    ///
    /// Most reads hold one message and nothing else, which is passed to the handler from the read
    /// buffer. If bytes follow the message, they are copied before its handler runs, because the
    /// handler may look at them.
    fn frame(&self, data: &[u8]) {
        let Some(state) = self.0.transport.0.as_ref().and_then(|stream| stream.framing()) else {
            return;
        };
        if !state.is_empty() {
            state.append(data);
            return self.parse();
        }
        // one panic guard for the framing, which may be a user's own, and the handler of its
        // message
        let mut decoding = true;
        let guard = AssertUnwindSafe(|| {
            // user code
            let decoded = self.0.framing.borrow_mut().decode(Input::new(data, state.is_raw()));
            match checked::<P>(decoded, data.len()) {
                Ok(Some((message, used))) => {
                    let rest = data.get(used..).unwrap_or_default();
                    if !rest.is_empty() {
                        state.append(rest);
                        self.expect_output();
                    }
                    state.set_busy(true);
                    decoding = false;
                    // user code
                    P::__message_received(self, message);
                }
                Ok(None) => {
                    state.append(data);
                    state.set_seen(data.len());
                    self.set_unparsed(true);
                }
                Err(failure) => self.framing_failed(failure),
            }
        });
        if let Err(payload) = catch_unwind(guard) {
            self.frame_panicked(decoding, payload);
        }
        if decoding {
            return;
        }
        self.after_user_code();
        state.set_busy(false);
        if state.is_empty() {
            self.flush_corked();
        } else {
            self.parse();
        }
    }

    #[cold]
    fn frame_panicked(&self, decoding: bool, payload: Box<dyn Any + Send>) {
        if decoding {
            let frame = Frame::new("decode", Location::caller());
            self.framing_failed(panicked(payload, frame));
        } else {
            self.panicked("message_received", payload);
        }
    }

    /// Decodes the next message with the framing, which may be a user's own.
    #[inline]
    fn decode<'a>(&self, input: Input<'a>) -> Decoded<'a, P> {
        // user code
        let decoded = catch_unwind(AssertUnwindSafe(|| self.0.framing.borrow_mut().decode(input)));
        let decoded = decoded.unwrap_or_else(|payload| {
            Err(panicked(payload, Frame::new("decode", Location::caller())))
        });
        checked::<P>(decoded, input.data.len())
    }

    /// Delivers buffered messages.
    pub(super) fn parse(&self) {
        let Some(stream) = &self.0.transport.0 else { return };
        let Some(state) = stream.framing() else { return };
        if state.set_busy(true) {
            return;
        }
        while stream.is_reading() {
            let (bytes, start) = state.bytes();
            let Some(data) = bytes.get(start..).filter(|data| !data.is_empty()) else { break };
            let input = Input { seen: state.seen(), ..Input::new(data, state.is_raw()) };
            match self.decode(input) {
                Ok(Some((message, used))) => {
                    state.advance(used);
                    if start + used < bytes.len() {
                        stream.expect_output();
                    }
                    self.message(message);
                }
                Ok(None) => {
                    state.set_seen(data.len());
                    break;
                }
                Err(failure) => {
                    self.framing_failed(failure);
                    break;
                }
            }
        }
        state.set_busy(false);
        stream.flush();
        state.release();
        self.set_unparsed(!state.is_empty());
    }
}

/// The result of decoding: a message and its length.
type Decoded<'a, P> = Result<Option<(Message<'a, P>, usize)>, Failure>;

/// Rejects a message length with which decoding could not continue.
#[inline]
fn checked<P: Protocol>(decoded: Decoded<'_, P>, available: usize) -> Decoded<'_, P> {
    match decoded {
        Ok(Some((_, used))) if used == 0 || used > available => {
            Err(wrong_length(P::Framing::NAME, used, available))
        }
        decoded => decoded,
    }
}

/// Creates the failure of a framing that used no bytes for a message, which would repeat it for
/// ever, or more bytes than there are.
#[cold]
fn wrong_length(framing: &str, used: usize, available: usize) -> Failure {
    let text = format!("{framing} used {used} of {available} bytes for a message");
    MessageError::new(text).into()
}
