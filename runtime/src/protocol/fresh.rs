//! How a protocol is made anew for each connection.
use std::{any::type_name, fmt};

/// How a protocol is made from its factory. `#[protocol]` on the struct writes it: `F` is the type
/// of the `#[factory]` field, or any.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be built from `{F}`",
    label = "its `#[factory]` field wants another factory",
    note = "a protocol with a `#[factory]` field of type `Rc<YourFactory>` is built by that \
        factory: listen with it, and not with `factory()`"
)]
pub trait BuildFrom<F>: Sized {
    /// A protocol with its fields at their first values.
    fn build_from(factory: F) -> Self;
}

/// The factory that makes a fresh protocol for each connection: what
/// [`Protocol::factory`](super::Protocol::factory) gives.
pub struct Fresh<P> {
    build: fn() -> P,
}

impl<P: BuildFrom<()>> Fresh<P> {
    pub(crate) fn new() -> Self {
        Self { build: || P::build_from(()) }
    }
}

impl<P> Fresh<P> {
    pub(super) fn build(&self) -> P {
        (self.build)()
    }
}

impl<P> fmt::Debug for Fresh<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<Factory of {}>", type_name::<P>())
    }
}
