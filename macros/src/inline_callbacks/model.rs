//! The parsed input of `#[inline_callbacks]`.
use crate::{paths::Root, signature::Function};
use syn::Type;

/// A function to turn into a coroutine.
pub(crate) struct Coroutine {
    pub(crate) root: Root,
    pub(crate) function: Function,
    pub(crate) output: Output,
}

/// The declared return type.
pub(crate) enum Output {
    /// The Deferred that a plain `fn` returns.
    Deferred(Type),
    /// The `Result` of an `async fn`, which becomes a Deferred.
    Result(Type),
    /// No return type.
    Missing,
}
