//! The errors of one expansion, each with its token, emitted together.
use proc_macro2::{Span, TokenStream};
use quote::ToTokens;
use std::cell::RefCell;

/// Collects errors. It must be [finished](Self::finish): dropping it with errors inside would lose
/// them.
pub(crate) struct Diag {
    errors: RefCell<Option<Vec<syn::Error>>>,
}

impl Diag {
    pub(crate) fn new() -> Self {
        Self { errors: RefCell::new(Some(Vec::new())) }
    }

    /// Adds an error that underlines `at`.
    pub(crate) fn at(&self, at: impl ToTokens, message: impl std::fmt::Display) {
        self.push(syn::Error::new_spanned(at, message));
    }

    /// Adds an error at one span.
    pub(crate) fn span(&self, at: Span, message: impl std::fmt::Display) {
        self.push(syn::Error::new(at, message));
    }

    pub(crate) fn push(&self, error: syn::Error) {
        if let Some(errors) = &mut *self.errors.borrow_mut() {
            errors.push(error);
        }
    }

    /// Returns the parsed value, or adds the error.
    pub(crate) fn parsed<T>(&self, result: syn::Result<T>) -> Option<T> {
        result.map_err(|error| self.push(error)).ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Returns the number of errors so far.
    pub(crate) fn count(&self) -> usize {
        self.errors.borrow().as_ref().map_or(0, Vec::len)
    }

    /// Returns the errors as tokens, to be emitted beside the item.
    pub(crate) fn finish(self) -> TokenStream {
        self.errors.take().into_iter().flatten().map(syn::Error::into_compile_error).collect()
    }
}

impl Drop for Diag {
    fn drop(&mut self) {
        let emitted = self.errors.get_mut().as_ref().is_none_or(Vec::is_empty);
        assert!(emitted || std::thread::panicking(), "collected errors were not emitted");
    }
}
