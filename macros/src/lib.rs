//! The macros of twistor; use them through the `twistor` crate, where each is documented.
mod attr;
mod diag;
mod factory;
mod inline_callbacks;
mod main_fn;
mod names;
mod paths;
mod protocol;
mod rewrite;
mod signature;
#[cfg(test)]
mod snapshots;
mod spans;
mod test_fn;

use proc_macro::TokenStream;

#[expect(missing_docs, reason = "documented at the re-export, where examples can run")]
#[proc_macro_attribute]
pub fn inline_callbacks(options: TokenStream, item: TokenStream) -> TokenStream {
    inline_callbacks::expand(options.into(), item.into()).into()
}

#[expect(missing_docs, reason = "documented at the re-export, where examples can run")]
#[proc_macro_attribute]
pub fn protocol(options: TokenStream, item: TokenStream) -> TokenStream {
    protocol::expand(options.into(), item.into()).into()
}

#[expect(missing_docs, reason = "documented at the re-export, where examples can run")]
#[proc_macro_derive(Factory, attributes(factory))]
pub fn factory(item: TokenStream) -> TokenStream {
    factory::expand(item.into()).into()
}

#[expect(missing_docs, reason = "documented at the re-export, where examples can run")]
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    main_fn::expand(options.into(), item.into()).into()
}

#[expect(missing_docs, reason = "documented at the re-export, where examples can run")]
#[proc_macro_attribute]
pub fn test(options: TokenStream, item: TokenStream) -> TokenStream {
    test_fn::expand(options.into(), item.into()).into()
}
