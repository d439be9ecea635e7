//! `#[derive(Factory)]`: a struct that builds a protocol for each connection.
use crate::{attr, diag::Diag, paths::Root, spans::ours};
use proc_macro2::TokenStream;
use quote::quote_spanned;
use syn::{DeriveInput, Path, spanned::Spanned};

pub(crate) fn expand(item: TokenStream) -> TokenStream {
    let diag = Diag::new();
    let tokens = diag.parsed(syn::parse2::<DeriveInput>(item)).and_then(|input| {
        let (root, protocol) = options(&input, &diag);
        protocol.map(|protocol| factory(&input, &root, &protocol))
    });
    let mut errors = diag.finish();
    errors.extend(tokens.unwrap_or_default());
    errors
}

/// ```text
/// #[factory(protocol = Person)]
/// ```
fn options(input: &DeriveInput, diag: &Diag) -> (Root, Option<Path>) {
    let (mut root, mut protocol) = (Root(None), None);
    let mut reported = false;
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("factory")) {
        let tokens = match attribute.meta.require_list() {
            Ok(list) => list.tokens.clone(),
            Err(_) => TokenStream::new(),
        };
        for option in attr::options(tokens, diag) {
            match option.name.to_string().as_str() {
                "protocol" => {
                    protocol = option.path("protocol = YourProtocol", diag);
                    reported = protocol.is_none();
                }
                "crate" => root.0 = option.path("crate = ::path::to::twistor", diag),
                _ => {
                    option.unknown("`#[factory]`", &["protocol", "crate"], diag);
                    reported = true;
                }
            }
        }
    }
    if protocol.is_none() && !reported {
        diag.at(&input.ident, "missing protocol: write `#[factory(protocol = YourProtocol)]`");
    }
    (root, protocol)
}

/// ```text
/// Input:   #[derive(Factory)] #[factory(protocol = Person)] struct Room { .. }
/// Output:  impl Factory for Room {
///              type Protocol = Person;
///              fn build_protocol(self: &Rc<Self>, _: &Address) -> Option<Person> {
///                  Some(build_from(Rc::clone(self)))
///              }
///          }
/// ```
fn factory(input: &DeriveInput, root: &Root, protocol: &Path) -> TokenStream {
    let name = &input.ident;
    let at = protocol.span();
    let private = root.private(at);
    let (generics, arguments, clause) = input.generics.split_for_impl();
    quote_spanned! {ours(at)=>
        #[automatically_derived]
        impl #generics #private::Factory for #name #arguments #clause {
            type Protocol = #protocol;
            fn build_protocol(
                self: &::std::rc::Rc<Self>,
                _: &#private::Address,
            ) -> ::core::option::Option<#protocol> {
                ::core::option::Option::Some(
                    <#protocol as #private::BuildFrom<::std::rc::Rc<Self>>>::build_from(
                        ::std::rc::Rc::clone(self),
                    ),
                )
            }
        }
    }
}
