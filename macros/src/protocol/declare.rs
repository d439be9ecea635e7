//! Generates the code of the struct half.
use super::model::{Declaration, Field, Framing, Role};
use crate::{
    signature::type_name,
    spans::{local, ours},
};
use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

/// ```text
/// Input:   struct Person {
///              #[factory] room: Rc<Room>, #[transport] transport: Transport, name: Option<String>,
///          }
/// Output:  struct Person { room: Rc<Room>, transport: Transport, name: Option<String> }
///          impl Declared for Person {
///              type Framing = Lines;
///              fn framing(&self) -> Lines { .. }
///              fn attach(..) { self.transport = .. }
///          }
///          impl BuildFrom<Rc<Room>> for Person where for<'a> Option<String>: Default {
///              fn build_from(room: Rc<Room>) -> Self { .. }
///          }
/// ```
pub(super) fn expand(input: &Declaration) -> TokenStream {
    let item = &input.item;
    let (declared, build, probe) = (declared(input), build_from(input), probe(input));
    quote!(#item #declared #build #probe)
}

/// Generates the framing, and the function that stores the transport.
fn declared(input: &Declaration) -> TokenStream {
    let name = &input.item.ident;
    let at = name.span();
    let span = ours(at);
    let private = input.root.private(at);
    let (generics, arguments, clause) = input.item.generics.split_for_impl();
    let (framing, value) = framing(input, at);
    let transport = local("__transport", at);
    let is_transport = |field: &&Field| {
        matches!(field.role, Role::Transport)
            && type_name(&field.ty).is_some_and(|name| name == "Transport")
    };
    let keep = input.fields.iter().filter(is_transport).map(|field| {
        let member = &field.member;
        quote_spanned! {ours(field.ty.span())=>
            self.#member = ::core::clone::Clone::clone(#transport);
        }
    });
    let keep: TokenStream = keep.collect();
    let unused = keep.is_empty().then(|| quote_spanned!(span=> let _ = #transport;));
    quote_spanned! {span=>
        #[automatically_derived]
        impl #generics #private::Declared for #name #arguments #clause {
            type Framing = #framing;
            fn framing(&self) -> #framing { #value }
            fn attach(&mut self, #transport: &#private::Transport) { #keep #unused }
        }
    }
}

/// Returns the framing's type, and an expression for its value.
fn framing(input: &Declaration, at: Span) -> (TokenStream, TokenStream) {
    let span = ours(at);
    let private = input.root.private(at);
    match &input.framing {
        Framing::Raw => {
            (quote_spanned!(span=> #private::Raw), quote_spanned!(span=> #private::Raw))
        }
        Framing::Lines { delimiter, max_length } => {
            let delimiter = delimiter
                .as_ref()
                .map(|value| quote_spanned!(ours(value.span())=> .delimiter(#value)));
            let max_length = max_length
                .as_ref()
                .map(|value| quote_spanned!(ours(value.span())=> .max_length(#value)));
            let lines = quote_spanned!(span=> #private::Lines);
            (
                lines.clone(),
                quote_spanned! {span=>
                    <#lines as ::core::default::Default>::default() #delimiter #max_length
                },
            )
        }
        Framing::Own(path) => (
            quote!(#path),
            quote_spanned!(ours(path.span())=> <#path as ::core::default::Default>::default()),
        ),
    }
}

/// Generates how the protocol is built from its factory. The bounds contain `for<'a>`, so that an
/// unsatisfied one is an error only where the protocol is built in this way.
fn build_from(input: &Declaration) -> TokenStream {
    let name = &input.item.ident;
    let at = name.span();
    let span = ours(at);
    let private = input.root.private(at);
    let factory = local("__factory", at);
    let (_, arguments, _) = input.item.generics.split_for_impl();
    let mut generics = input.item.generics.clone();
    let from = if let Some(field) =
        input.fields.iter().find(|field| matches!(field.role, Role::Factory))
    {
        let ty = &field.ty;
        quote!(#ty)
    } else {
        let any = local("__F", at);
        generics.params.push(syn::parse_quote!(#any));
        quote!(#any)
    };
    let defaults: Vec<_> = input
        .fields
        .iter()
        .filter(|field| matches!(field.role, Role::Default))
        .map(|field| &field.ty)
        .collect();
    let clause = generics.make_where_clause();
    for ty in defaults {
        let span = ours(ty.span());
        let bound = quote_spanned!(span=> for<'__a> #ty: ::core::default::Default);
        if let Ok(bound) = syn::parse2(bound) {
            clause.predicates.push(bound);
        }
    }
    let (generics, _, clause) = generics.split_for_impl();
    let fields = input.fields.iter().map(|field| {
        let (member, value) = (&field.member, first_value(field, &factory));
        quote_spanned!(ours(field.ty.span())=> #member: #value,)
    });
    let unused = (!input.fields.iter().any(|field| matches!(field.role, Role::Factory)))
        .then(|| quote_spanned!(span=> let _ = #factory;));
    quote_spanned! {span=>
        #[automatically_derived]
        impl #generics #private::BuildFrom<#from> for #name #arguments #clause {
            fn build_from(#factory: #from) -> Self {
                #unused
                Self { #(#fields)* }
            }
        }
    }
}

fn first_value(field: &Field, factory: &syn::Ident) -> TokenStream {
    let span = ours(field.ty.span());
    match &field.role {
        Role::Default | Role::Transport => {
            quote_spanned!(span=> ::core::default::Default::default())
        }
        Role::Init(value) => quote!(#value),
        Role::Factory => quote!(#factory),
    }
}

/// Generates the check that reports a missing impl half at the struct's name. (A generic struct has
/// no single type to check.)
fn probe(input: &Declaration) -> TokenStream {
    if !input.item.generics.params.is_empty() {
        return TokenStream::new();
    }
    let name = &input.item.ident;
    let private = input.root.private(name.span());
    quote_spanned!(ours(name.span())=> const _: () = #private::is_protocol::<#name>();)
}
