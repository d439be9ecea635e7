//! Options in attributes: `name`, `name = value`, `name(..)`. The errors for duplicate, unknown and
//! malformed options are worded here.
use crate::{diag::Diag, names};
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    Expr, Ident, Path, Token,
    parse::{Parse, ParseStream, Parser},
    punctuated::Punctuated,
};

/// One option, as written.
pub(crate) struct Written {
    pub(crate) name: Ident,
    pub(crate) value: Value,
    tokens: TokenStream,
}

/// The part of an option after its name.
pub(crate) enum Value {
    Nothing,
    /// `= value`
    Is(TokenStream),
    /// `(..)`
    List(TokenStream),
}

impl ToTokens for Written {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.extend(self.tokens.clone());
    }
}

impl Parse for Written {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        use syn::ext::IdentExt;
        let name = Ident::parse_any(input)?;
        let mut tokens = name.to_token_stream();
        let value = if input.peek(Token![=]) {
            tokens.extend(input.parse::<Token![=]>()?.into_token_stream());
            let mut value = TokenStream::new();
            while !input.is_empty() && !input.peek(Token![,]) {
                value.extend([input.parse::<TokenTree>()?]);
            }
            if value.is_empty() {
                return Err(input.error(format!("a value is missing after `{name} =`")));
            }
            tokens.extend(value.clone());
            Value::Is(value)
        } else if input.peek(syn::token::Paren) {
            let group: proc_macro2::Group = input.parse()?;
            tokens.extend(group.to_token_stream());
            Value::List(group.stream())
        } else {
            Value::Nothing
        };
        Ok(Self { name, value, tokens })
    }
}

/// Parses the options in `tokens`, in order, and reports malformed and repeated ones.
pub(crate) fn options(tokens: TokenStream, diag: &Diag) -> Vec<Written> {
    let parser = Punctuated::<Written, Token![,]>::parse_terminated;
    let written: Vec<Written> = diag.parsed(parser.parse2(tokens)).into_iter().flatten().collect();
    let mut seen: Vec<String> = Vec::new();
    written
        .into_iter()
        .filter(|option| {
            let name = option.name.to_string();
            let first = !seen.contains(&name);
            if first {
                seen.push(name);
            } else {
                diag.at(option, format!("`{}` is given twice", option.name));
            }
            first
        })
        .collect()
}

impl Written {
    /// Reports an unknown option, and names the known ones.
    pub(crate) fn unknown(&self, what: &str, known: &[&str], diag: &Diag) {
        let name = self.name.to_string();
        let hint = match names::meant(&name, known) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if known.is_empty() => "it takes no options".to_owned(),
            None => format!("expected {}", names::list(known)),
        };
        diag.at(&self.name, format!("{what} has no option `{name}`; {hint}"));
    }

    /// Returns the value of `name = value` as an expression; reports anything else, with `example`.
    pub(crate) fn expression(&self, example: &str, diag: &Diag) -> Option<Expr> {
        match &self.value {
            Value::Is(value) => diag.parsed(syn::parse2(value.clone())),
            _ => self.wrong(example, diag),
        }
    }

    /// Returns the value of `name = path`; reports anything else, with `example`.
    pub(crate) fn path(&self, example: &str, diag: &Diag) -> Option<Path> {
        match &self.value {
            Value::Is(value) => match Path::parse_mod_style.parse2(value.clone()) {
                Ok(path) => Some(path),
                Err(_) => self.wrong(example, diag),
            },
            _ => self.wrong(example, diag),
        }
    }

    /// Reports an option that is written in a wrong form.
    pub(crate) fn wrong<T>(&self, example: &str, diag: &Diag) -> Option<T> {
        diag.at(self, format!("write `{example}`"));
        None
    }
}
