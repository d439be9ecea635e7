//! Function signatures: parsing, the restrictions of coroutines, and how arguments enter the frame.
use crate::{
    diag::Diag,
    spans::{local, ours},
};
use proc_macro2::{Delimiter, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::{
    Attribute, FnArg, Ident, Pat, PatIdent, Receiver, ReceiverKind, Signature, Token, Type,
    Visibility,
    parse::{Parse, ParseStream},
    spanned::Spanned,
};

/// A function whose body is not parsed.
pub(crate) struct Function {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    /// The body with its braces; `None` for `;`.
    pub(crate) body: Option<proc_macro2::Group>,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let vis = input.parse()?;
        let sig: Signature = input.parse()?;
        let body = if input.peek(Token![;]) {
            input.parse::<Token![;]>()?;
            None
        } else {
            match input.parse()? {
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group),
                other => {
                    return Err(syn::Error::new(other.span(), "expected the body of the function"));
                }
            }
        };
        Ok(Self { attrs, vis, sig, body })
    }
}

/// Returns the `&`s in a type that borrow for less than `'static`. `Fn(&T)` and `fn(&T)` borrow
/// from whoever calls them, so they are skipped.
pub(crate) fn borrows(ty: impl ToTokens) -> Vec<Span> {
    let mut found = Vec::new();
    collect_borrows(ty.to_token_stream(), &mut found);
    found
}

fn collect_borrows(tokens: TokenStream, found: &mut Vec<Span>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Punct(and)
                if and.as_char() == '&' && !starts_with_static(&tokens[at + 1..]) =>
            {
                found.push(and.span());
            }
            TokenTree::Ident(name)
                if ["Fn", "FnMut", "FnOnce", "fn"].iter().any(|word| name == word)
                    && tokens.get(at + 1).is_some_and(is_parenthesised) =>
            {
                at += 1;
            }
            TokenTree::Group(group) => collect_borrows(group.stream(), found),
            _ => {}
        }
        at += 1;
    }
}

/// Returns whether the tokens begin with `'static`.
fn starts_with_static(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [TokenTree::Punct(tick), TokenTree::Ident(name), ..]
        if tick.as_char() == '\'' && name == "static")
}

/// Returns whether a token is a group in parentheses, such as the arguments of `Fn(..)`.
fn is_parenthesised(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis)
}

/// Returns the last name of a type's path: `Handle` of `twistor::Handle<Self>`.
pub(crate) fn type_name(ty: &Type) -> Option<&Ident> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|segment| &segment.ident),
        Type::Group(group) => type_name(&group.elem),
        Type::Paren(paren) => type_name(&paren.elem),
        _ => None,
    }
}

/// Returns the generic arguments of the last name of a type's path.
pub(crate) fn type_arguments(ty: &Type) -> Vec<&Type> {
    let Type::Path(path) = ty else { return Vec::new() };
    let Some(segment) = path.path.segments.last() else { return Vec::new() };
    let syn::PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return Vec::new();
    };
    arguments
        .args
        .iter()
        .filter_map(
            |argument| if let syn::GenericArgument::Type(ty) = argument { Some(ty) } else { None },
        )
        .collect()
}

/// The arguments of a coroutine: plain names in the signature, which the frame binds, in order, to
/// the patterns as written.
pub(crate) struct Bound {
    /// The arguments of the function.
    pub(crate) outer: Vec<TokenStream>,
    /// The `let`s at the start of the frame.
    pub(crate) inner: TokenStream,
}

/// Splits arguments as an `async fn` does.
///
/// ```text
/// Input:   (a, b): (u32, u32), mut n: u32, _: Guard
/// Output:  __arg0: (u32, u32), n: u32, __arg2: Guard
///     and  let (a, b) = __arg0; let mut n = n; let __arg2 = __arg2;
/// ```
/// Each argument is moved into the frame, used or not, so that it is dropped with the frame, the
/// last one first.
pub(crate) fn bind<'a>(arguments: impl Iterator<Item = &'a FnArg>) -> Bound {
    let (mut outer, mut inner) = (Vec::new(), TokenStream::new());
    for (index, argument) in arguments.enumerate() {
        match argument {
            FnArg::Receiver(receiver) => {
                outer.push(plain_receiver(receiver));
                let this = &receiver.self_token;
                inner.extend(quote_spanned!(ours(this.span())=> let _ = &#this;));
            }
            FnArg::Typed(typed) => {
                let (attrs, pat, ty) = (&typed.attrs, &*typed.pat, &*typed.ty);
                // lint attributes about unused or mutable names concern the binding; an expectation
                // on the argument would be unfulfilled
                let is = |attr: &syn::Attribute, names: &[&str]| {
                    names.iter().any(|name| attr.path().is_ident(name))
                };
                let on_binding = attrs
                    .iter()
                    .filter(|attr| is(attr, &["cfg", "allow", "expect", "warn", "deny", "forbid"]));
                let on_argument = attrs.iter().filter(|attr| !is(attr, &["expect"]));
                let span = ours(pat.span());
                let (name, binding) = if let Pat::Ident(PatIdent {
                    by_ref: None,
                    subpat: None,
                    ident,
                    ..
                }) = pat
                {
                    let mut right = ident.clone();
                    // a generated span: clippy does not count it as a use by the user
                    right.set_span(span);
                    (ident.clone(), underscored(ident, quote_spanned!(span=> let #pat = #right;)))
                } else if let Pat::Wild(_) = pat {
                    let name = local(&format!("__arg{index}"), pat.span());
                    (name.clone(), underscored(&name, quote_spanned!(span=> let #name = #name;)))
                } else {
                    let name = local(&format!("__arg{index}"), pat.span());
                    (name.clone(), quote_spanned!(span=> let #pat = #name;))
                };
                outer.push(quote!(#(#on_argument)* #name: #ty));
                inner.extend(quote!(#(#on_binding)* #binding));
            }
        }
    }
    Bound { outer, inner }
}

/// Allows the generated code to use a binding whose name begins with `_`.
fn underscored(name: &Ident, binding: TokenStream) -> TokenStream {
    if name.to_string().starts_with('_') {
        let span = ours(name.span());
        quote_spanned!(span=>
            #[allow(
                clippy::used_underscore_binding,
                clippy::no_effect_underscore_binding,
                unused_variables,
                reason = "it is moved into the frame to be dropped with it"
            )]
            #binding
        )
    } else {
        binding
    }
}

/// Returns the receiver without `mut`, which concerns the frame only.
fn plain_receiver(receiver: &Receiver) -> TokenStream {
    let mut plain = receiver.clone();
    plain.mutability = None;
    plain.to_token_stream()
}

/// Checks the rules for every coroutine.
pub(crate) fn check_coroutine(function: &Function, attribute: &str, diag: &Diag) {
    refuse_qualifiers(function, attribute, diag);
    refuse_lifetimes(function, diag);
    for argument in &function.sig.inputs {
        match argument {
            FnArg::Receiver(receiver) => check_receiver(receiver, diag),
            FnArg::Typed(typed) => refuse_borrows(&typed.ty, diag),
        }
    }
}

/// ```text
/// const fn f() -> Deferred<()>, unsafe fn, extern "C" fn, fn f();
/// ```
fn refuse_qualifiers(function: &Function, attribute: &str, diag: &Diag) {
    let sig = &function.sig;
    if let Some(word) = &sig.constness {
        diag.at(
            word,
            format!(
                "`{attribute}` cannot make a `const fn`: it allocates the coroutine \
            when it is called"
            ),
        );
    }
    if let Some(abi) = &sig.abi {
        diag.at(
            abi,
            format!(
                "`{attribute}` cannot make an `extern` function: a Deferred means \
            nothing to another language"
            ),
        );
    }
    if let Some(variadic) = &sig.variadic {
        diag.at(variadic, "a coroutine takes a fixed list of arguments");
    }
    if let syn::Safety::Unsafe(word) = &sig.safety {
        diag.at(
            word,
            format!(
                "`{attribute}` cannot make an `unsafe fn`: its body runs later, out \
            of sight of the caller who made the promise; put the `unsafe` block inside"
            ),
        );
    }
    if function.body.is_none() {
        diag.at(
            &sig.ident,
            format!(
                "`{attribute}` needs a body: a trait can declare `fn {}(..) -> Deferred<T>`, and \
                 the impl has the attribute",
                sig.ident
            ),
        );
    }
}

/// ```text
/// fn f<'a>(name: Name<'a>) -> Deferred<()>
/// ```
fn refuse_lifetimes(function: &Function, diag: &Diag) {
    for lifetime in function.sig.generics.lifetimes() {
        diag.at(
            lifetime,
            "a Deferred is `'static`: a coroutine outlives what its caller lent it, \
            so it cannot take a lifetime; own the value or share it with `Rc`",
        );
    }
}

/// ```text
/// fn f(&self) -> Deferred<()>, fn f(self: Handle<Self>) -> Deferred<()>
/// ```
fn check_receiver(receiver: &Receiver, diag: &Diag) {
    let ways = "a coroutine outlives the call: take `self: Rc<Self>`, or `this: Handle<Self>` in a \
        protocol, or `self` by value";
    match &receiver.kind {
        ReceiverKind::Reference(..) => {
            diag.at(receiver, format!("a coroutine cannot borrow `self`: {ways}"));
        }
        ReceiverKind::Typed(_, ty) if type_name(ty).is_some_and(|name| name == "Handle") => {
            diag.at(receiver, "`Handle` cannot be the type of `self`: write `this: Handle<Self>`");
        }
        ReceiverKind::Typed(_, ty) => {
            for span in borrows(ty) {
                diag.span(span, format!("a coroutine cannot borrow `self`: {ways}"));
            }
        }
        _ => {}
    }
}

/// ```text
/// fn f(name: &str) -> Deferred<()>
/// ```
fn refuse_borrows(ty: &Type, diag: &Diag) {
    for span in borrows(ty) {
        diag.span(
            span,
            "a coroutine outlives the call, so it cannot borrow an argument: take it \
            owned (`String`, `Vec<u8>`), shared (`Rc<..>`), `&'static`, or as a `Handle`",
        );
    }
}
