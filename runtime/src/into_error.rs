//! Failures as boxed errors, for functions that return those.
use crate::failure::Failure;
use std::{error::Error, fmt};

/// The error of a [`Failure`] that is used where an error is expected.
struct Reported(Failure);

impl fmt::Debug for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Error for Reported {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.value().source()
    }
}

/// Keeps the traceback: the `Debug` text of the error is that of the Failure.
impl From<Failure> for Box<dyn Error + Send + Sync> {
    fn from(failure: Failure) -> Self {
        Box::new(Reported(failure))
    }
}

impl From<Failure> for Box<dyn Error> {
    fn from(failure: Failure) -> Self {
        Box::new(Reported(failure))
    }
}
