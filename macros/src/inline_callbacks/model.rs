//! What `#[inline_callbacks]` has read.
use crate::{paths::Root, signature::Function};
use syn::Type;

/// A function to be made a coroutine.
pub(crate) struct Coroutine {
    pub(crate) root: Root,
    pub(crate) function: Function,
    pub(crate) output: Output,
}

/// What the function says it returns.
pub(crate) enum Output {
    /// A plain `fn`: the Deferred itself.
    Deferred(Type),
    /// An `async fn`: a `Result`, of which the Deferred is made.
    Result(Type),
    /// Nothing at all.
    Missing,
}
