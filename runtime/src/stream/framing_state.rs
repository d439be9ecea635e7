//! The parse state of a framed connection between reads, shared by the delivery loop and the
//! transport.
use super::framing::Encoder;
use crate::{failure::Failure, free_list::FreeList};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

/// The unparsed bytes, the mode, and the encoder.
///
/// A message borrows from the bytes while its handler runs, and the handler may look at the bytes
/// behind it or replace them. So the bytes are shared: the loop holds one reference, and a change
/// creates new ones.
pub(crate) struct FramingState {
    bytes: RefCell<Rc<Vec<u8>>>,
    /// Where the unparsed part begins.
    start: Cell<usize>,
    /// Whether any byte is unparsed. It is asked several times for each message, so it is stored.
    unparsed: Cell<bool>,
    raw: Cell<bool>,
    /// Whether messages are being delivered, so that bytes put back need no rescheduling.
    busy: Cell<bool>,
    encoder: Option<Box<dyn Encoder>>,
    /// The number of unparsed bytes in which the framing has found no message.
    seen: Cell<usize>,
    /// The bytes behind each message, if the encoder adds nothing else.
    trailer: Option<Box<[u8]>>,
    /// The address of the name to which [`is_called`](Self::is_called) last answered yes.
    called: Cell<*const u8>,
}

thread_local! {
    /// Unused buffers: an idle connection holds none.
    static FREE: FreeList<Rc<Vec<u8>>> = const { FreeList::new(FREE_BUFFERS) };
    /// The empty buffer, shared by all idle connections.
    static NOTHING: Rc<Vec<u8>> = Rc::new(Vec::new());
    /// A buffer in which a message is framed before it is written.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The number of unused buffers that a thread keeps, and the largest one that it keeps.
const FREE_BUFFERS: usize = 16;
const LARGEST_FREE: usize = 64 * 1024;

fn nothing() -> Rc<Vec<u8>> {
    NOTHING.try_with(Rc::clone).unwrap_or_default()
}

impl FramingState {
    pub(crate) fn new(encoder: Option<Box<dyn Encoder>>) -> Self {
        Self {
            bytes: RefCell::new(nothing()),
            start: Cell::new(0),
            unparsed: Cell::new(false),
            raw: Cell::new(false),
            busy: Cell::new(false),
            seen: Cell::new(0),
            trailer: encoder.as_ref().and_then(|encoder| encoder.trailer()).map(Box::from),
            encoder,
            called: Cell::new(std::ptr::null()),
        }
    }

    /// Appends input.
    pub(crate) fn append(&self, data: &[u8]) {
        let mut slot = self.bytes.borrow_mut();
        self.unparsed.set(true);
        if let Some(bytes) = Rc::get_mut(&mut slot).filter(|bytes| bytes.capacity() > 0) {
            bytes.drain(..self.start.replace(0));
            bytes.extend_from_slice(data);
            return;
        }
        let mut fresh = FREE.try_with(FreeList::take).ok().flatten().unwrap_or_default();
        let rest = slot.get(self.start.replace(0)..).unwrap_or_default();
        // nobody else holds a buffer of the free list
        if let Some(bytes) = Rc::get_mut(&mut fresh) {
            bytes.clear();
            bytes.extend_from_slice(rest);
            bytes.extend_from_slice(data);
        }
        *slot = fresh;
    }

    /// Returns the bytes, and where the unparsed part of them begins.
    pub(crate) fn bytes(&self) -> (Rc<Vec<u8>>, usize) {
        (self.bytes.borrow().clone(), self.start.get())
    }

    /// Marks `used` bytes as parsed.
    pub(crate) fn advance(&self, used: usize) {
        self.start.set(self.start.get() + used);
        self.seen.set(0);
        self.unparsed.set(self.start.get() < self.bytes.borrow().len());
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        !self.unparsed.get()
    }

    /// Returns the buffer to the free list if all of it is parsed.
    pub(crate) fn release(&self) {
        if self.is_empty() {
            let mut bytes = self.bytes.replace(nothing());
            self.start.set(0);
            if Rc::get_mut(&mut bytes)
                .is_some_and(|bytes| (1..=LARGEST_FREE).contains(&bytes.capacity()))
            {
                let _ = FREE.try_with(|free| free.put(bytes));
            }
        }
    }

    /// Records that delivery begins or ends, and returns whether it was under way.
    pub(crate) fn set_busy(&self, busy: bool) -> bool {
        self.busy.replace(busy)
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.get()
    }

    pub(crate) fn is_raw(&self) -> bool {
        self.raw.get()
    }

    pub(crate) fn set_raw(&self, raw: bool) {
        self.raw.set(raw);
        self.seen.set(0);
    }

    /// Records that the framing has found no message in the first `seen` unparsed bytes.
    pub(crate) fn set_seen(&self, seen: usize) {
        self.seen.set(seen);
    }

    pub(crate) fn seen(&self) -> usize {
        self.seen.get()
    }

    /// Returns a copy of the unparsed bytes.
    pub(crate) fn unparsed(&self) -> Vec<u8> {
        self.bytes.borrow().get(self.start.get()..).unwrap_or_default().to_vec()
    }

    /// Replaces the unparsed bytes with `rest`.
    pub(crate) fn replace_unparsed(&self, rest: Vec<u8>) {
        self.unparsed.set(!rest.is_empty());
        let old = self.bytes.replace(Rc::new(rest));
        self.start.set(0);
        self.seen.set(0);
        drop(old);
    }

    /// Inserts `data` before the unparsed bytes.
    pub(crate) fn push_front(&self, data: &[u8]) {
        if !data.is_empty() {
            let rest = [data, &self.unparsed()].concat();
            self.replace_unparsed(rest);
        }
    }

    /// Returns the bytes behind each message, if the framing adds nothing else.
    #[inline]
    pub(crate) fn trailer(&self) -> Option<&[u8]> {
        self.trailer.as_deref()
    }

    /// Frames `message` and passes the bytes to `write`.
    pub(crate) fn encode(&self, message: &[u8], write: impl FnOnce(&[u8])) -> Result<(), Failure> {
        let Some(encoder) = &self.encoder else {
            write(message);
            return Ok(());
        };
        let mut framed = SCRATCH.take();
        framed.clear();
        let result = encoder.encode(message, &mut framed);
        if result.is_ok() {
            write(&framed);
        }
        if framed.capacity() <= LARGEST_FREE {
            SCRATCH.set(framed);
        }
        result
    }

    /// Returns the name of the framing.
    pub(crate) fn name(&self) -> &'static str {
        self.encoder.as_ref().map_or("Raw", |encoder| encoder.name())
    }

    /// Returns whether the framing has the name `name`. It is asked for each line sent, so the last
    /// answer is stored.
    #[inline]
    pub(crate) fn is_called(&self, name: &'static str) -> bool {
        if self.called.get() == name.as_ptr() {
            return true;
        }
        let is = self.name() == name;
        if is {
            self.called.set(name.as_ptr());
        }
        is
    }
}
