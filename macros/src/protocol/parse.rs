//! Parses either half. The bodies of functions stay tokens.
use super::{
    handlers::named,
    model::{Declaration, Field, Framing, Handlers, Item, Marks, Method, Role},
};
use crate::{
    attr::{self, Value, Written},
    diag::Diag,
    names,
    paths::Root,
    signature::Function,
};
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{
    Attribute, Expr, Generics, ImplItem, ItemStruct, Member, Token, Type,
    parse::{Parse, ParseStream, Parser},
};

pub(crate) enum Half {
    Struct(Box<Declaration>),
    Impl(Box<Handlers>),
}

/// Returns `None`, after reporting it, if the item is neither half.
pub(crate) fn parse(options: TokenStream, item: TokenStream, diag: &Diag) -> Option<Half> {
    let options = attr::options(options, diag);
    match keyword(&item).as_deref() {
        Some("struct") => {
            declaration(&options, item, diag).map(|half| Half::Struct(Box::new(half)))
        }
        Some("impl") => handlers(&options, item, diag).map(|half| Half::Impl(Box::new(half))),
        Some(word @ ("enum" | "union")) => {
            let text = format!(
                "a protocol is a struct, and not an `{word}`: put the `{word}` into a field of one"
            );
            diag.at(first_of(&item, word), text);
            None
        }
        _ => {
            diag.at(item, "`#[protocol]` goes on a struct, and on its `impl` block");
            None
        }
    }
}

/// Returns the keyword that says what kind of item it is.
fn keyword(item: &TokenStream) -> Option<String> {
    item.clone().into_iter().find_map(|token| match token {
        TokenTree::Ident(word) => {
            let word = word.to_string();
            ["struct", "impl", "enum", "union", "fn", "trait", "mod"]
                .contains(&word.as_str())
                .then_some(word)
        }
        _ => None,
    })
}

fn first_of(item: &TokenStream, word: &str) -> TokenStream {
    let found = item
        .clone()
        .into_iter()
        .find(|token| matches!(token, TokenTree::Ident(ident) if ident == word));
    found.map(Into::into).unwrap_or_default()
}

const FRAMINGS: [&str; 3] = ["lines", "framing", "crate"];

fn declaration(options: &[Written], item: TokenStream, diag: &Diag) -> Option<Declaration> {
    let (mut root, mut framing) = (Root(None), None);
    for option in options {
        let chosen = match option.name.to_string().as_str() {
            "crate" => {
                root.0 = option.path("crate = ::path::to::twistor", diag);
                continue;
            }
            "lines" => lines(option, diag),
            "framing" => option.path("framing = YourFraming", diag).map(Framing::Own),
            name => {
                let hint = match names::meant(name, &FRAMINGS) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => {
                        "expected `lines`, or `framing = YourFraming` for a framing of your own"
                            .to_owned()
                    }
                };
                diag.at(&option.name, format!("unknown framing `{name}`; {hint}"));
                None
            }
        };
        if let Some(chosen) = chosen {
            if framing.is_some() {
                diag.at(option, "a protocol has one framing");
            }
            framing = Some(chosen);
        }
    }
    let mut item = diag.parsed(syn::parse2::<ItemStruct>(item))?;
    let fields = item
        .fields
        .iter_mut()
        .enumerate()
        .map(|(index, field)| field_of(index, field, diag))
        .collect();
    Some(Declaration { root, framing: framing.unwrap_or(Framing::Raw), item, fields })
}

fn lines(option: &Written, diag: &Diag) -> Option<Framing> {
    let (mut delimiter, mut max_length) = (None, None);
    match &option.value {
        Value::Nothing => {}
        Value::List(tokens) => {
            for option in attr::options(tokens.clone(), diag) {
                match option.name.to_string().as_str() {
                    "delimiter" => {
                        delimiter = option.expression("delimiter = b\"\\n\"", diag).map(Box::new);
                    }
                    "max_length" => {
                        max_length = option.expression("max_length = 1024", diag).map(Box::new);
                    }
                    _ => option.unknown("`lines`", &["delimiter", "max_length"], diag),
                }
            }
        }
        Value::Is(_) => {
            return option.wrong("lines(delimiter = b\"\\n\", max_length = 1024)", diag);
        }
    }
    Some(Framing::Lines { delimiter, max_length })
}

/// Removes the attributes of this macro from a field.
fn field_of(index: usize, field: &mut syn::Field, diag: &Diag) -> Field {
    let mut role = Role::Default;
    let mut first: Option<Attribute> = None;
    field.attrs.retain(|attr| {
        let chosen = if attr.path().is_ident("transport") {
            Some(Role::Transport)
        } else if attr.path().is_ident("factory") {
            Some(Role::Factory)
        } else if attr.path().is_ident("init") {
            if let Ok(value) = attr.parse_args::<Expr>() {
                Some(Role::Init(value))
            } else {
                diag.at(attr, "write `#[init(the field's first value)]`");
                Some(Role::Default)
            }
        } else {
            None
        };
        let Some(chosen) = chosen else { return true };
        if first.is_some() {
            diag.at(attr, "a field has one of `#[transport]`, `#[factory]` and `#[init(..)]`");
        } else {
            role = chosen;
            first = Some(attr.clone());
        }
        false
    });
    let member = field.ident.clone().map_or_else(|| Member::from(index), Member::Named);
    Field { role, ty: field.ty.clone(), member }
}

fn handlers(options: &[Written], item: TokenStream, diag: &Diag) -> Option<Handlers> {
    let mut root = Root(None);
    for option in options {
        if option.name == "crate" {
            root.0 = option.path("crate = ::path::to::twistor", diag);
        } else {
            let text = format!(
                "`{}` goes on the struct's `#[protocol(..)]`; the `impl` block takes `crate` alone",
                option.name
            );
            diag.at(option, text);
        }
    }
    let parser = |input: ParseStream<'_>| block(input, root, diag);
    diag.parsed(parser.parse2(item))
}

fn block(input: ParseStream<'_>, root: Root, diag: &Diag) -> syn::Result<Handlers> {
    let attrs = input.call(Attribute::parse_outer)?;
    input.parse::<Token![impl]>()?;
    let mut generics: Generics = input.parse()?;
    let self_ty: Type = input.parse()?;
    if input.peek(Token![for]) {
        return Err(input.error(
            "`#[protocol]` goes on the plain `impl` block of the struct, and \
            not on the impl of a trait",
        ));
    }
    generics.where_clause = input.parse()?;
    let content;
    syn::braced!(content in input);
    let mut items = Vec::new();
    while !content.is_empty() {
        items.push(self::item(&content, diag)?);
    }
    Ok(Handlers { root, attrs, generics, self_ty, items })
}

fn item(input: ParseStream<'_>, diag: &Diag) -> syn::Result<Item> {
    let ahead = input.fork();
    if Function::parse(&ahead).is_ok() {
        let mut function = Function::parse(input)?;
        let marks = marks(&mut function.attrs, diag);
        let handler = if marks.helper { None } else { named(&function.sig.ident.to_string()) };
        return Ok(Item::Function(Box::new(Method {
            function,
            handler,
            marks,
            broken: false,
            given: Vec::new(),
        })));
    }
    Ok(Item::Other(ImplItem::parse(input)?.to_token_stream()))
}

fn marks(attrs: &mut Vec<Attribute>, diag: &Diag) -> Marks {
    let mut marks = Marks::default();
    attrs.retain(|attr| {
        let mark = [
            ("helper", &mut marks.helper),
            ("concurrent", &mut marks.concurrent),
            ("cancel_on_loss", &mut marks.cancel_on_loss),
        ]
        .into_iter()
        .find(|(name, _)| attr.path().is_ident(name));
        let Some((name, mark)) = mark else { return true };
        if attr.meta.require_path_only().is_err() {
            diag.at(attr, format!("`#[{name}]` takes nothing"));
        }
        *mark = true;
        false
    });
    marks
}
