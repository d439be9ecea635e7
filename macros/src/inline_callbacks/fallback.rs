//! The function that is emitted beside errors, so that callers still find it with its declared
//! type.
use super::model::Coroutine;
use proc_macro2::TokenStream;
use quote::quote;
use syn::{FnArg, ReceiverKind, punctuated::Punctuated};

/// ```text
/// Input:   fn f(&self, name: &str) -> Deferred<()> { .. }
/// Output:  fn f(&self, name: &str) -> Deferred<()> { loop {} }
/// ```
/// Generates the function, without what would cause a second error, such as `self: Handle<Self>`.
pub(super) fn fallback(input: &Coroutine) -> TokenStream {
    let function = &input.function;
    let mut sig = function.sig.clone();
    sig.inputs = sig
        .inputs
        .into_iter()
        .filter(|argument| !is_odd_receiver(argument))
        .collect::<Punctuated<_, _>>();
    sig.constness = None;
    sig.variadic = None;
    let (attrs, vis) = (&function.attrs, &function.vis);
    // a declaration stays a declaration
    let body = function.body.as_ref().map_or_else(|| quote!(;), |_| quote!({ loop {} }));
    quote! {
        #(#attrs)*
        #[allow(unused, clippy::all, clippy::pedantic, clippy::nursery, reason = "the errors \
            beside it say what is wrong")]
        #vis #sig #body
    }
}

fn is_odd_receiver(argument: &FnArg) -> bool {
    let FnArg::Receiver(receiver) = argument else { return false };
    match &receiver.kind {
        ReceiverKind::Typed(_, ty) => {
            crate::signature::type_name(ty).is_some_and(|name| name == "Handle")
        }
        _ => false,
    }
}
