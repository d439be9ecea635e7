//! Parses the attribute and the function.
use super::model::{Coroutine, Output};
use crate::{attr, diag::Diag, paths::Root, signature::Function};
use proc_macro2::TokenStream;
use syn::ReturnType;

/// Returns `None`, after reporting it, if the item is not a function.
pub(super) fn parse(options: TokenStream, item: TokenStream, diag: &Diag) -> Option<Coroutine> {
    let mut root = Root(None);
    for option in attr::options(options, diag) {
        if option.name == "crate" {
            root.0 = option.path("crate = ::path::to::twistor", diag);
        } else {
            option.unknown("`#[inline_callbacks]`", &["crate"], diag);
        }
    }
    let function = diag.parsed(syn::parse2::<Function>(item))?;
    let output = match &function.sig.output {
        ReturnType::Default => Output::Missing,
        ReturnType::Type(_, ty) if function.sig.asyncness.is_some() => {
            Output::Result((**ty).clone())
        }
        ReturnType::Type(_, ty) => Output::Deferred((**ty).clone()),
    };
    Some(Coroutine { root, function, output })
}
