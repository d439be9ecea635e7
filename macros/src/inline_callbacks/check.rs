//! The rules for coroutines, one function each.
use super::model::{Coroutine, Output};
use crate::{diag::Diag, signature};
use syn::Type;

pub(super) fn check(input: &Coroutine, diag: &Diag) {
    signature::check_coroutine(&input.function, "#[inline_callbacks]", diag);
    returns_something(input, diag);
    returns_no_impl(input, diag);
    has_a_body(input, diag);
}

/// ```text
/// #[inline_callbacks] fn f() -> Deferred<()> {}
/// ```
fn has_a_body(input: &Coroutine, diag: &Diag) {
    if let (Some(body), false) = (&input.function.body, matches!(input.output, Output::Missing))
        && body.stream().is_empty()
    {
        diag.span(
            body.span(),
            "a coroutine ends with a value: write `return_value!(())`, or `Ok(())`",
        );
    }
}

/// ```text
/// #[inline_callbacks] fn f() { .. }
/// ```
fn returns_something(input: &Coroutine, diag: &Diag) {
    if matches!(input.output, Output::Missing) {
        let sig = &input.function.sig;
        let problem = if sig.asyncness.is_some() {
            "an `async` coroutine returns a Result: write `-> Result<(), Failure>`"
        } else {
            "a coroutine returns a Deferred: write `-> Deferred<()>`"
        };
        diag.at(&sig.ident, problem);
    }
}

/// ```text
/// #[inline_callbacks] fn f() -> impl IntoDeferred { .. }
/// ```
fn returns_no_impl(input: &Coroutine, diag: &Diag) {
    if let Output::Deferred(ty @ Type::ImplTrait(_)) | Output::Result(ty @ Type::ImplTrait(_)) =
        &input.output
    {
        diag.at(ty, "a coroutine declares its result type: write `Deferred<T>`");
    }
}
