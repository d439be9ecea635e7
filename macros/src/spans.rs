//! Whose token is it? Tokens that stand for user code carry the user's span, everything else one of
//! ours at the user's place.
use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};

/// A span of ours that points at the user's `at`: rustc and clippy see that a macro wrote it.
pub(crate) fn ours(at: Span) -> Span {
    Span::call_site().located_at(at)
}

/// A local of ours: it cannot be seen from user code.
pub(crate) fn local(name: &str, at: Span) -> Ident {
    Ident::new(name, Span::mixed_site().located_at(at))
}

/// The same tokens with spans of ours.
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
