//! Sources of other libraries: anything that mio can poll.
use super::{
    Core, Reactor,
    source::{Readiness, Source},
};
use crate::{
    error::ReactorClosed,
    failure::{Failure, Frame},
    report::{drop_guarded, guarded, report},
};
use std::{
    any::type_name,
    cell::{Cell, RefCell},
    fmt,
    panic::Location,
    rc::{Rc, Weak},
};

/// What a source is ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ready {
    /// There is something to read, or the end of file.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// The peer has sent an end of file, or there is an error.
    pub closed: bool,
}

type Handler<S> = Box<dyn FnMut(&mut S, Ready)>;

/// A source that was added to a reactor. Cloning it is cheap, and dropping it changes nothing.
#[doc(alias = "IReadDescriptor")]
pub struct UserSource<S: 'static>(Rc<UserSourceState<S>>);

struct UserSourceState<S> {
    /// `None` while its handler runs, and after it was removed.
    entry: RefCell<Option<(S, Handler<S>)>>,
    removed: Cell<bool>,
    core: Weak<Core>,
    slot: Cell<usize>,
    created_at: &'static Location<'static>,
}

impl Reactor {
    /// Adds a source of another library: any type that implements mio's `Source`. `ready` is called
    /// with it in each turn in which it has become ready. The poller reports changes only, so read
    /// or write until the system returns `WouldBlock`.
    ///
    /// A panic in `ready` is reported and removes the source. Closing the reactor drops the source.
    ///
    /// ```no_run
    /// use std::io::Read;
    /// use twistor::reactor::{Reactor, mio::{Interest, unix::pipe}};
    ///
    /// let reactor = Reactor::new()?;
    /// let (_writer, reader) = pipe::new()?;
    /// let added = reactor.add_source(reader, Interest::READABLE, |reader, _| {
    ///     let mut line = [0; 80];
    ///     while let Ok(count @ 1..) = reader.read(&mut line) {
    ///         println!("{count} bytes");
    ///     }
    /// })?;
    /// added.remove();
    /// # Ok::<(), twistor::failure::Failure>(())
    /// ```
    ///
    /// # Errors
    /// Fails with the operating-system error, for example for a plain file, which cannot be polled
    /// because it is always ready. A [`MemoryReactor`](crate::testing::MemoryReactor) rejects all
    /// sources.
    #[doc(alias = "addReader")]
    #[doc(alias = "addWriter")]
    #[track_caller]
    pub fn add_source<S: mio::event::Source + 'static>(
        &self,
        mut source: S,
        interest: mio::Interest,
        ready: impl FnMut(&mut S, Ready) + 'static,
    ) -> Result<UserSource<S>, Failure> {
        let core = &self.0;
        if core.is_closed() {
            return Err(ReactorClosed::new().into());
        }
        let added = Rc::new(UserSourceState {
            entry: RefCell::new(None),
            removed: Cell::new(false),
            core: Rc::downgrade(core),
            slot: Cell::new(0),
            created_at: Location::caller(),
        });
        let slot = core.sources.borrow_mut().insert(added.clone());
        if let Err(error) = core.backend.watch(&mut source, slot, Some(interest)) {
            core.remove(slot);
            return Err(error.into());
        }
        added.slot.set(slot);
        added.entry.replace(Some((source, Box::new(ready))));
        Ok(UserSource(added))
    }
}

impl<S: mio::event::Source + 'static> UserSource<S> {
    /// Removes the source and returns it; its handler is not called again, even if it is ready.
    /// Returns `None` if it was removed before, and inside its own handler, after which it is
    /// dropped.
    #[doc(alias = "removeReader")]
    #[doc(alias = "removeWriter")]
    pub fn remove(&self) -> Option<S> {
        if self.0.removed.replace(true) {
            return None;
        }
        self.0.take_out()
    }
}

impl<S: mio::event::Source + 'static> UserSourceState<S> {
    fn take_out(&self) -> Option<S> {
        let (mut source, handler) = self.entry.take()?;
        if let Some(core) = self.core.upgrade() {
            // the system may have removed a closed source already
            let _ = core.backend.watch(&mut source, self.slot.get(), None);
            core.remove(self.slot.get());
        }
        // user code: the drop of a handler
        drop_guarded(handler);
        Some(source)
    }
}

impl<S: mio::event::Source + 'static> Source for UserSourceState<S> {
    fn ready(self: Rc<Self>, readiness: Readiness, _buffer: &mut [u8]) {
        let Some((mut source, mut handler)) = self.entry.take() else { return };
        let ready = Ready {
            readable: readiness.is_readable(),
            writable: readiness.is_writable(),
            closed: readiness.is_closed(),
        };
        // user code
        let ran =
            guarded(|| Frame::new("add_source", self.created_at), || handler(&mut source, ready));
        self.entry.replace(Some((source, handler)));
        if let Err(failure) = ran {
            report(failure, format!("the handler of a source added at {}", self.created_at));
            self.removed.set(true);
        }
        if self.removed.get() {
            let removed = self.take_out();
            drop_guarded(removed);
        }
    }

    fn describe(&self) -> Option<String> {
        Some(format!("a {} added at {}", type_name::<S>(), self.created_at))
    }

    fn closed(self: Rc<Self>) {
        self.removed.set(true);
        let removed = self.take_out();
        drop_guarded(removed);
    }
}

impl<S> Clone for UserSource<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> fmt::Debug for UserSource<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.0.removed.get() { ", removed" } else { "" };
        write!(f, "<UserSource of a {} at {}{state}>", type_name::<S>(), self.0.created_at)
    }
}
