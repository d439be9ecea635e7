//! `#[protocol]`: on the struct, what a connection is made of; on the impl, what it calls.
mod check;
mod declare;
mod expand;
mod handlers;
mod model;
mod parse;

use crate::diag::Diag;
use proc_macro2::TokenStream;

/// Parse, check, expand. After an error the healthy parts are emitted all the same, so that one
/// mistake gives one message.
pub(crate) fn expand(options: TokenStream, item: TokenStream) -> TokenStream {
    let diag = Diag::new();
    let mut tokens = match parse::parse(options, item.clone(), &diag) {
        Some(parse::Half::Struct(declaration)) => {
            check::declaration(&declaration, &diag);
            declare::expand(&declaration)
        }
        Some(parse::Half::Impl(mut handlers)) => {
            check::handlers(&mut handlers, &diag);
            expand::expand(&handlers, diag.is_empty())
        }
        None => item,
    };
    tokens.extend(diag.finish());
    tokens
}
