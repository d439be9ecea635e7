//! The path of the runtime crate, which is spelt here only.
use crate::spans::ours;
use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote_spanned};

/// The path of the `twistor` crate: `::twistor`, or the value of `crate = path`.
#[derive(Clone)]
pub(crate) struct Root(pub(crate) Option<syn::Path>);

impl Root {
    /// Returns `::twistor::__private`, with generated spans at `at`.
    pub(crate) fn private(&self, at: Span) -> TokenStream {
        let root = self.root(at);
        quote_spanned!(ours(at)=> #root::__private)
    }

    /// Returns `::twistor`, with generated spans at `at`.
    pub(crate) fn root(&self, at: Span) -> TokenStream {
        if let Some(path) = &self.0 {
            path.to_token_stream()
        } else {
            quote_spanned!(ours(at)=> ::twistor)
        }
    }
}
