//! Spans of generated tokens: a token that stands for user code has the user's span, and every
//! other one a generated span at the user's position.
use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};

/// Returns a generated span that points at the user's `at`: rustc and clippy see that a macro wrote
/// it.
pub(crate) fn ours(at: Span) -> Span {
    Span::call_site().located_at(at)
}

/// Returns the name of a generated local variable, which user code cannot see.
pub(crate) fn local(name: &str, at: Span) -> Ident {
    Ident::new(name, Span::mixed_site().located_at(at))
}

/// Gives the tokens generated spans.
pub(crate) fn respan(tokens: TokenStream) -> TokenStream {
    tokens
        .into_iter()
        .map(|token| match token {
            TokenTree::Group(group) => {
                let mut inner = Group::new(group.delimiter(), respan(group.stream()));
                inner.set_span(ours(group.span()));
                TokenTree::Group(inner)
            }
            mut other => {
                other.set_span(ours(other.span()));
                other
            }
        })
        .collect()
}
