//! `#[twistor::test]`: a test with a reactor, a time limit, and a check of what it leaves behind.
use crate::{
    attr::{self, Written},
    diag::Diag,
    inline_callbacks,
    paths::Root,
    signature::{Function, type_name},
    spans::{local, ours},
};
use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::{Expr, ExprLit, FnArg, Lit, ReturnType};

/// The default time limit, in milliseconds.
const DEFAULT_LIMIT: u64 = 30_000;

pub(crate) fn expand(options: TokenStream, item: TokenStream) -> TokenStream {
    let diag = Diag::new();
    let (mut root, mut limit, mut passed_on) = (Root(None), DEFAULT_LIMIT, TokenStream::new());
    for option in attr::options(options, &diag) {
        match option.name.to_string().as_str() {
            "crate" => {
                root.0 = option.path("crate = ::path::to::twistor", &diag);
                passed_on = option.to_token_stream();
            }
            "timeout" => limit = milliseconds(&option, &diag).unwrap_or(limit),
            _ => option.unknown("`#[twistor::test]`", &["timeout", "crate"], &diag),
        }
    }
    let Some(function) = diag.parsed(syn::parse2::<Function>(item)) else { return diag.finish() };
    check(&function, &diag);
    if diag.is_empty() {
        return test(function, &root, limit, passed_on);
    }
    let (mut tokens, name) = (diag.finish(), &function.sig.ident);
    tokens.extend(quote!(#[allow(dead_code, reason = "the item is only here so that nothing else \
        is missed")] fn #name() {}));
    tokens
}

/// Converts `"500ms"`, `"5s"` or `"2m"` to milliseconds; reports anything else.
fn milliseconds(option: &Written, diag: &Diag) -> Option<u64> {
    let example = "timeout = \"5s\"";
    let Some(Expr::Lit(ExprLit { lit: Lit::Str(text), .. })) = option.expression(example, diag)
    else {
        return if diag.is_empty() { option.wrong(example, diag) } else { None };
    };
    let value = text.value();
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => 0,
    };
    let limit = number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .filter(|limit| *limit > 0);
    if limit.is_none() {
        diag.at(&text, "a time limit is a number with a unit: \"500ms\", \"5s\" or \"2m\"");
    }
    limit
}

fn check(function: &Function, diag: &Diag) {
    let sig = &function.sig;
    let mut arguments = sig.inputs.iter();
    if let Some(argument) = arguments.next()
        && !is_reactor(argument)
    {
        diag.at(argument, "a test takes `reactor: Reactor`, or no argument");
    }
    if let Some(argument) = arguments.next() {
        diag.at(argument, "a test takes `reactor: Reactor` and no further argument");
    }
    if !sig.generics.params.is_empty() {
        diag.at(&sig.generics, "a test has no generic parameters");
    }
    if let Some(attr) = function.attrs.iter().find(|attr| attr.path().is_ident("test")) {
        diag.at(attr, "`#[twistor::test]` already makes it a test: remove `#[test]`");
    }
}

fn is_reactor(argument: &FnArg) -> bool {
    let FnArg::Typed(typed) = argument else { return false };
    type_name(&typed.ty).is_some_and(|name| name == "Reactor")
}

/// ```text
/// Input:   fn round_trip(reactor: Reactor) -> Deferred<()> { .. }
/// Output:  #[test]
///          fn round_trip() {
///              fn round_trip(reactor: Reactor) -> Deferred<()> { .. the coroutine .. }
///              test(30000, |reactor| round_trip(reactor))
///          }
/// ```
fn test(mut function: Function, root: &Root, limit: u64, passed_on: TokenStream) -> TokenStream {
    let attrs = std::mem::take(&mut function.attrs);
    let (name, at) = (function.sig.ident.clone(), function.sig.ident.span());
    let returns_deferred = match &function.sig.output {
        ReturnType::Type(_, ty) => type_name(ty).is_some_and(|name| name == "Deferred"),
        ReturnType::Default => false,
    };
    let is_coroutine = function.sig.asyncness.is_some() || returns_deferred;
    let reactor = local("__reactor", at);
    let argument = function.sig.inputs.first().map(|_| reactor.clone());
    let (sig, body) = (&function.sig, &function.body);
    let plain = quote!(#sig #body);
    let inner = if is_coroutine { inline_callbacks::expand(passed_on, plain) } else { plain };
    let private = root.private(at);
    let span = ours(at);
    quote_spanned! {span=>
        #(#attrs)*
        #[::core::prelude::v1::test]
        fn #name() {
            #inner
            #private::test(#limit, |#reactor| { let _ = &#reactor; #name(#argument) })
        }
    }
}
