//! `#[twistor::main]`: a coroutine as the program's `main`.
use crate::{
    attr,
    diag::Diag,
    inline_callbacks,
    paths::Root,
    signature::{Function, type_name},
    spans::{local, ours},
};
use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{FnArg, ReturnType};

pub(crate) fn expand(options: TokenStream, item: TokenStream) -> TokenStream {
    let diag = Diag::new();
    let mut root = Root(None);
    for option in attr::options(options.clone(), &diag) {
        if option.name == "crate" {
            root.0 = option.path("crate = ::path::to::twistor", &diag);
        } else {
            option.unknown("`#[twistor::main]`", &["crate"], &diag);
        }
    }
    let Some(function) = diag.parsed(syn::parse2::<Function>(item.clone())) else {
        return diag.finish();
    };
    check(&function, &diag);
    if diag.is_empty() {
        return main(&function, &root, &inline_callbacks::expand(options, item));
    }
    // the name is still defined, so that no further error follows
    let (mut tokens, name) = (diag.finish(), &function.sig.ident);
    tokens.extend(quote!(#[allow(dead_code, reason = "the item is only here so that nothing else \
        is missed")] fn #name() {}));
    tokens
}

fn check(function: &Function, diag: &Diag) {
    let sig = &function.sig;
    if sig.ident != "main" {
        diag.at(&sig.ident, "`#[twistor::main]` goes on `fn main`");
    }
    if let ReturnType::Default = sig.output {
        diag.at(&sig.ident, "`main` is a coroutine: write `-> Deferred<()>`");
    }
    for argument in &sig.inputs {
        if given(argument).is_none() {
            diag.at(argument, "`main` may take `reactor: Reactor` and `args: Args`");
        }
    }
}

/// Returns which of the two arguments this is.
fn given(argument: &FnArg) -> Option<&'static str> {
    let FnArg::Typed(typed) = argument else { return None };
    let name = type_name(&typed.ty)?;
    ["Reactor", "Args"].into_iter().find(|known| name == known)
}

/// ```text
/// Input:   fn main(reactor: Reactor) -> Deferred<()> { .. }
/// Output:  fn main() -> ExitCode {
///              fn main(reactor: Reactor) -> Deferred<()> { .. the coroutine .. }
///              react(|reactor, args| main(reactor))
///          }
/// ```
fn main(function: &Function, root: &Root, coroutine: &TokenStream) -> TokenStream {
    let name = &function.sig.ident;
    let at = name.span();
    let private = root.private(at);
    let (reactor, args) = (local("__reactor", at), local("__args", at));
    let arguments = function
        .sig
        .inputs
        .iter()
        .map(|argument| if given(argument) == Some("Reactor") { &reactor } else { &args });
    let span = ours(at);
    quote_spanned! {span=>
        fn #name() -> ::std::process::ExitCode {
            #coroutine
            #private::react(|#reactor, #args| {
                let _ = (&#reactor, &#args);
                #name(#(#arguments),*)
            })
        }
    }
}
