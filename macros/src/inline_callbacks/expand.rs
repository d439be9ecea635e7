//! Generates the code of a coroutine.
use super::model::{Coroutine, Output};
use crate::{
    rewrite,
    signature::{bind, type_arguments, type_name},
    spans::ours,
};
use proc_macro2::{Delimiter, Group, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Type, spanned::Spanned};

/// ```text
/// Input:   pub fn ask(name: String) -> Deferred<u32> {
///              let n = yield_!(find(name))?; return_value!(n)
///          }
/// Output:  pub fn ask(name: String) -> Deferred<u32> {
///              let function = concat!(module_path!(), "::ask");
///              ::twistor::__private::run::<Deferred<u32>, _>(function, async move {
///                  if false { return ::twistor::__private::never::<Deferred<u32>>(); }
///                  let name = name;
///                  { let n = (find(name)).await?; return Ok(n) }
///              })
///          }
/// ```
pub(super) fn expand(input: &Coroutine) -> TokenStream {
    let function = &input.function;
    let (attrs, vis) = (&function.attrs, &function.vis);
    let (head, body) = coroutine(input);
    let allows = allows(function.sig.ident.span());
    quote! {
        #(#attrs)*
        #allows
        #vis #head #body
    }
}

/// Generates the signature and the body of the function that replaces a coroutine.
fn coroutine(input: &Coroutine) -> (TokenStream, TokenStream) {
    let function = &input.function;
    let sig = &function.sig;
    let at = sig.ident.span();
    let arguments = bind(sig.inputs.iter());
    let (name, generics, clause) = (&sig.ident, &sig.generics, &sig.generics.where_clause);
    let (fn_token, outer) = (&sig.fn_token, &arguments.outer);
    let result = result(input);
    let head = quote!(#fn_token #name #generics(#(#outer),*) -> #result #clause);
    let private = input.root.private(at);
    let run = if let Output::Result(ty) = &input.output {
        let ty = crate::spans::respan(ty.to_token_stream());
        quote_spanned!(ours(at)=> #private::run_async::<#ty, _>)
    } else {
        let result = crate::spans::respan(result);
        quote_spanned!(ours(at)=> #private::run::<#result, _>)
    };
    let text = format!("::{name}");
    let frame = frame(input, &arguments.inner);
    let call = quote_spanned! {ours(at)=>
        #run(::core::concat!(::core::module_path!(), #text), async move #frame)
    };
    (head, braced(&call, function.body.as_ref()))
}

/// Generates the frame of the coroutine: the typed `return` that determines the type, the
/// arguments, the body.
fn frame(input: &Coroutine, arguments: &TokenStream) -> TokenStream {
    let Some(body) = &input.function.body else { return TokenStream::new() };
    let at = input.function.sig.ident.span();
    let private = input.root.private(at);
    let pin = if let Output::Result(ty) = &input.output {
        let ty = crate::spans::respan(ty.to_token_stream());
        quote_spanned!(ours(at)=> if false { return #private::never_result::<#ty>(); })
    } else {
        let result = crate::spans::respan(result(input));
        quote_spanned!(ours(at)=> if false { return #private::never::<#result>(); })
    };
    let user = rewrite::body(body.stream(), &input.root);
    let tokens = quote!(#pin #arguments #user);
    let mut group = Group::new(Delimiter::Brace, tokens);
    // rustc reports an unfinished body there, once
    group.set_span(body.span_close());
    group.into_token_stream()
}

/// Puts the user's braces around generated code: with other braces `dead_code` is not reported for
/// the function.
fn braced(tokens: &TokenStream, body: Option<&Group>) -> TokenStream {
    let mut group = Group::new(Delimiter::Brace, tokens.clone());
    if let Some(body) = body {
        group.set_span(body.span());
    }
    group.into_token_stream()
}

/// Returns the type that callers see: the declared one, or the Deferred of an `async fn`'s
/// `Result`.
fn result(input: &Coroutine) -> TokenStream {
    match &input.output {
        Output::Deferred(ty) => ty.to_token_stream(),
        Output::Result(ty) => {
            let at = ty.span();
            let root = input.root.root(at);
            let value = value_of(ty, input, at);
            quote_spanned!(ours(at)=> #root::defer::Deferred<#value>)
        }
        Output::Missing => TokenStream::new(),
    }
}

/// Returns the `T` of `Result<T, E>`, or for an alias without arguments the type through a trait.
fn value_of(ty: &Type, input: &Coroutine, at: Span) -> TokenStream {
    let is_result = type_name(ty).is_some_and(|name| name == "Result");
    match type_arguments(ty).first() {
        Some(value) if is_result => value.to_token_stream(),
        _ => {
            let private = input.root.private(at);
            quote_spanned!(ours(at)=> <#ty as #private::IsResult>::Value)
        }
    }
}

/// Allows the lints that the generated code would trigger.
fn allows(at: Span) -> TokenStream {
    quote_spanned!(ours(at)=>
        #[allow(
            unreachable_code,
            clippy::diverging_sub_expression,
            clippy::manual_async_fn,
            clippy::needless_return,
            clippy::unused_async,
            clippy::let_unit_value,
            clippy::needless_pass_by_value,
            clippy::redundant_locals,
            reason = "set off by what the macro writes",
        )]
    )
}
