//! `Fresh`: the factory that builds protocols from their initial values.
use std::{any::type_name, fmt};

/// A protocol that can be built from its factory. `#[protocol]` on the struct implements it: `F` is
/// the type of the `#[factory]` field, or any type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be built from `{F}`",
    label = "its `#[factory]` field needs another factory",
    note = "a protocol with a `#[factory]` field of type `Rc<YourFactory>` is built by that \
        factory: listen with it, and not with `factory()`"
)]
pub trait BuildFrom<F>: Sized {
    /// Builds a protocol whose fields have their initial values.
    fn build_from(factory: F) -> Self;
}

/// The factory that builds a new protocol for each connection, made by
/// [`Protocol::factory`](super::Protocol::factory).
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
