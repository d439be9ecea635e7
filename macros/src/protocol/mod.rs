//! `#[protocol]`: framing and fields on the struct, handlers on the impl.
mod check;
mod declare;
mod expand;
mod handlers;
mod model;
mod parse;

use crate::diag::Diag;
use proc_macro2::TokenStream;

/// Parses, checks and expands. After an error the valid parts are emitted all the same, so that one
/// mistake causes one message.
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
