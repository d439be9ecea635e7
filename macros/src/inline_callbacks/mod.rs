//! `#[inline_callbacks]`: turns a function written step by step into one that returns a Deferred.
mod check;
mod expand;
mod fallback;
mod model;
mod parse;

use crate::diag::Diag;
use proc_macro2::TokenStream;

/// Parses, checks and expands; after an error, emits a stub of the function and every error.
pub(crate) fn expand(options: TokenStream, item: TokenStream) -> TokenStream {
    let diag = Diag::new();
    let Some(input) = parse::parse(options, item.clone(), &diag) else {
        let mut tokens = diag.finish();
        tokens.extend(item);
        return tokens;
    };
    check::check(&input, &diag);
    if diag.is_empty() {
        return expand::expand(&input);
    }
    let mut tokens = diag.finish();
    tokens.extend(fallback::fallback(&input));
    tokens
}
