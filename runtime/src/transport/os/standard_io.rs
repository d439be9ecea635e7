//! The standard input and output of the process as one stream.
use crate::{
    address::Address,
    reactor::backend::{Backend, Wire, WireOption},
};
use mio::{Interest, Registry, Token, unix::SourceFd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::{
    cell::RefCell,
    fs::File,
    io::{self, ErrorKind, IoSlice, Read, Write, stdin, stdout},
    os::fd::{AsFd, AsRawFd},
    rc::Rc,
};

/// Copies of descriptors 0 and 1, in non-blocking mode. Terminals and pipes are shared with other
/// processes, so their former mode is restored at the end.
pub(super) struct StandardIo {
    input: Side,
    /// `None` after the end of file was sent.
    output: RefCell<Option<Side>>,
    registry: Rc<Registry>,
}

/// One direction.
struct Side {
    file: File,
    /// The former mode; `None` if the other direction restores it.
    flags: Option<OFlags>,
    /// Whether it is registered with the poller, which rejects plain files because they are always
    /// ready.
    polled: bool,
}

impl Side {
    fn new(descriptor: impl AsFd) -> io::Result<Self> {
        let file = File::from(descriptor.as_fd().try_clone_to_owned()?);
        let flags = Some(fcntl_getfl(&file)?);
        Ok(Self { file, flags, polled: false })
    }

    fn stop_waiting(&self) -> io::Result<()> {
        Ok(fcntl_setfl(&self.file, self.flags.unwrap_or(OFlags::RDWR) | OFlags::NONBLOCK)?)
    }

    fn register(&mut self, registry: &Registry, slot: usize, interest: Interest) -> io::Result<()> {
        match registry.register(&mut SourceFd(&self.file.as_raw_fd()), Token(slot), interest) {
            Ok(()) => self.polled = true,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn leave(&self, registry: &Registry) {
        if self.polled {
            // it is being closed, so an error changes nothing
            let _ = registry.deregister(&mut SourceFd(&self.file.as_raw_fd()));
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Some(flags) = self.flags {
            let _ = fcntl_setfl(&self.file, flags);
        }
    }
}

impl StandardIo {
    pub(super) fn new(registry: Rc<Registry>) -> io::Result<Self> {
        let (input, mut output) = (Side::new(stdin())?, Side::new(stdout())?);
        input.stop_waiting()?;
        if fcntl_getfl(&output.file)?.contains(OFlags::NONBLOCK)
            && !output.flags.is_some_and(|flags| flags.contains(OFlags::NONBLOCK))
        {
            // both are one open file, such as a terminal: the mode is shared, and the input
            // restores it
            output.flags = None;
        } else {
            output.stop_waiting()?;
        }
        Ok(Self { input, output: RefCell::new(Some(output)), registry })
    }

    fn with_output<R>(&self, work: impl FnOnce(&File) -> io::Result<R>) -> io::Result<R> {
        match &*self.output.borrow() {
            Some(output) => work(&output.file),
            None => Err(ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Wire for StandardIo {
    fn register(&mut self, _backend: &dyn Backend, slot: usize) -> io::Result<()> {
        self.input.register(&self.registry, slot, Interest::READABLE)?;
        match &mut *self.output.borrow_mut() {
            Some(output) => output.register(&self.registry, slot, Interest::WRITABLE),
            None => Ok(()),
        }
    }

    fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        (&self.input.file).read(into)
    }

    fn write(&self, data: &[u8]) -> io::Result<usize> {
        self.with_output(|mut output| output.write(data))
    }

    fn write_vectored(&self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        self.with_output(|mut output| output.write_vectored(data))
    }

    fn shutdown(&self) -> io::Result<()> {
        if let Some(output) = self.output.take() {
            output.leave(&self.registry);
            drop(output);
            // the reader sees the end of file only when descriptor 1 is closed too; later prints
            // write nowhere
            rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
        }
        Ok(())
    }

    fn reset_on_drop(&self) -> io::Result<()> {
        Ok(())
    }

    fn connected(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn host(&self) -> io::Result<Address> {
        Ok(Address::Unix(None))
    }

    fn set_option(&self, _option: WireOption) -> io::Result<()> {
        Err(io::Error::new(ErrorKind::Unsupported, "standard input and output have no such option"))
    }

    fn lingers(&self) -> bool {
        false
    }
}

impl Drop for StandardIo {
    fn drop(&mut self) {
        self.input.leave(&self.registry);
        if let Some(output) = self.output.get_mut() {
            output.leave(&self.registry);
        }
    }
}
