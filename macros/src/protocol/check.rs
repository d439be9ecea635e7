//! The rules for protocols, one function each.
use super::{
    handlers::{Event, Family, HANDLERS, Handler, from_camel_case, named},
    model::{Declaration, Given, Handlers, Item, Method, Role},
};
use crate::{diag::Diag, names, signature::type_name};
use proc_macro2::{TokenStream, TokenTree};
use syn::{FnArg, ReceiverKind, Type, Visibility};

pub(super) fn declaration(input: &Declaration, diag: &Diag) {
    one_each(input, diag);
    no_lifetimes(input, diag);
    transports_are_filled(input, diag);
}

/// ```text
/// struct A { #[transport] one: Transport, #[transport] two: Transport }
/// ```
fn one_each(input: &Declaration, diag: &Diag) {
    for (name, is) in [
        ("transport", (|role| matches!(role, Role::Transport)) as fn(&Role) -> bool),
        ("factory", |role| matches!(role, Role::Factory)),
    ] {
        for second in input.fields.iter().filter(|field| is(&field.role)).skip(1) {
            diag.at(&second.member, format!("a protocol has one `#[{name}]` field"));
        }
    }
}

/// ```text
/// struct A<'a> { name: &'a str }
/// ```
fn no_lifetimes(input: &Declaration, diag: &Diag) {
    for lifetime in input.item.generics.lifetimes() {
        diag.at(
            lifetime,
            "a protocol lives as long as its connection, so it cannot borrow: own \
            the value, or share it with `Rc`",
        );
    }
}

/// ```text
/// struct A { transport: Transport }      #[transport] transport: u32
/// ```
fn transports_are_filled(input: &Declaration, diag: &Diag) {
    for field in &input.fields {
        let is_transport = type_name(&field.ty).is_some_and(|name| name == "Transport");
        match field.role {
            Role::Default if is_transport => {
                diag.at(
                    &field.ty,
                    "nothing initialises this field: write `#[transport]`, or \
                     `#[init(Transport::default())]` if you fill it yourself",
                );
            }
            Role::Transport if !is_transport => {
                diag.at(&field.ty, "`#[transport]` goes on a field of type `Transport`");
            }
            _ => {}
        }
    }
}

pub(super) fn handlers(input: &mut Handlers, diag: &Diag) {
    find_misspelt(input, diag);
    for item in &mut input.items {
        if let Item::Function(method) = item {
            match method.handler {
                Some(handler) => check_handler(method, handler, diag),
                None => no_handler_marks(method, diag),
            }
        }
    }
    one_family(input, diag);
    lines_need_line_received(input, diag);
}

/// ```text
/// fn line_recieved(&mut self, line: &[u8]) {}
/// ```
/// Finds misspelt handlers and treats them as the handlers that were meant. A name counts as
/// misspelt if it is a handler's name in camelCase, or if it is private, at most two edits away,
/// and not used in the impl.
fn find_misspelt(input: &mut Handlers, diag: &Diag) {
    let known: Vec<&str> = HANDLERS.iter().map(|handler| handler.name).collect();
    let used = used_names(input);
    for item in &mut input.items {
        let Item::Function(method) = item else { continue };
        let name = method.function.sig.ident.to_string();
        if method.handler.is_some() || method.marks.helper {
            continue;
        }
        let private = matches!(method.function.vis, Visibility::Inherited);
        let meant = from_camel_case(&name).map(|handler| handler.name).or_else(|| {
            let may = private && !used.contains(&name);
            if may { names::meant(&name, &known) } else { None }
        });
        if let Some(meant) = meant {
            let text = format!(
                "unknown handler `{name}`; did you mean `{meant}`? (a helper method: put it \
                 in a plain `impl`, or mark it `#[helper]`)"
            );
            diag.at(&method.function.sig.ident, text);
            method.handler = named(meant);
        }
    }
}

/// Returns the names that the bodies of the impl mention as `.name` or `::name`.
fn used_names(input: &Handlers) -> Vec<String> {
    fn collect(tokens: TokenStream, used: &mut Vec<String>) {
        let mut before = ' ';
        for token in tokens {
            match token {
                TokenTree::Group(group) => collect(group.stream(), used),
                TokenTree::Ident(name) if before == '.' || before == ':' => {
                    used.push(name.to_string());
                    before = ' ';
                }
                TokenTree::Punct(punct) => before = punct.as_char(),
                _ => before = ' ',
            }
        }
    }
    let mut used = Vec::new();
    for item in &input.items {
        if let Item::Function(method) = item
            && let Some(body) = &method.function.body
        {
            collect(body.stream(), &mut used);
        }
    }
    used
}

fn check_handler(method: &mut Method, handler: &Handler, diag: &Diag) {
    let before = diag.count();
    receiver(method, handler, diag);
    no_async(method, handler, diag);
    marks_fit(method, diag);
    arguments(method, handler, diag);
    method.broken = diag.count() > before;
}

/// ```text
/// fn line_received(self, line: &[u8]) {}
/// ```
fn receiver(method: &Method, handler: &Handler, diag: &Diag) {
    let sig = &method.function.sig;
    match sig.receiver() {
        Some(receiver) if !matches!(receiver.kind, ReceiverKind::Reference(..)) => {
            diag.at(
                receiver,
                format!("`{}` is called on a live protocol: write `&mut self`", handler.name),
            );
        }
        None if !sig.inputs.iter().any(is_owned_handle) => {
            diag.at(
                &sig.ident,
                format!(
                    "`{}` takes `&mut self`, or `this: Handle<Self>` if it is a coroutine",
                    handler.name
                ),
            );
        }
        _ => {}
    }
}

fn is_owned_handle(argument: &FnArg) -> bool {
    let FnArg::Typed(typed) = argument else { return false };
    type_name(&typed.ty).is_some_and(|name| name == "Handle")
}

/// ```text
/// async fn line_received(&mut self, line: &[u8]) {}
/// ```
fn no_async(method: &Method, handler: &Handler, diag: &Diag) {
    let is_coroutine = method.function.attrs.iter().any(|attr| {
        attr.path().segments.last().is_some_and(|last| last.ident == "inline_callbacks")
    });
    if let Some(word) = &method.function.sig.asyncness
        && !is_coroutine
    {
        let text = format!(
            "a handler that waits is a coroutine: put `#[inline_callbacks]` on it and write `fn \
             {}(this: Handle<Self>, ..) -> Deferred<()>`",
            handler.name
        );
        diag.at(word, text);
    }
}

/// ```text
/// #[concurrent] fn line_received(&mut self, line: &[u8]) {}
/// ```
fn marks_fit(method: &Method, diag: &Diag) {
    if !method.is_coroutine() && (method.marks.concurrent || method.marks.cancel_on_loss) {
        diag.at(
            &method.function.sig.ident,
            "`#[concurrent]` and `#[cancel_on_loss]` are for a coroutine handler, one that takes \
             `this: Handle<Self>`",
        );
    }
}

fn no_handler_marks(method: &Method, diag: &Diag) {
    if method.marks.concurrent || method.marks.cancel_on_loss {
        diag.at(
            &method.function.sig.ident,
            "`#[concurrent]` and `#[cancel_on_loss]` are for handlers, which this is not",
        );
    }
}

/// Determines what each argument is, by its type.
fn arguments(method: &mut Method, handler: &Handler, diag: &Diag) {
    let owned = method.is_coroutine();
    let own = match handler.event {
        Event::ConnectionMade | Event::ReadConnectionLost | Event::WriteConnectionLost => None,
        Event::ConnectionLost => Some(Given::Reason),
        Event::FileDescriptorReceived => Some(Given::Descriptor),
        Event::DataReceived
        | Event::LineReceived
        | Event::LineLengthExceeded
        | Event::RawDataReceived
        | Event::MessageReceived => Some(Given::Message),
    };
    let mut given = Vec::new();
    for argument in &method.function.sig.inputs {
        let FnArg::Typed(typed) = argument else { continue };
        let (inner, lent) = match &*typed.ty {
            Type::Reference(reference) => (&*reference.elem, true),
            other => (other, false),
        };
        let what = match type_name(inner).map(ToString::to_string).as_deref() {
            Some("Transport") => Some(Given::Transport),
            Some("Handle") => Some(Given::This),
            _ => own,
        };
        let Some(what) = what else {
            diag.at(
                &typed.ty,
                format!(
                    "`{}` takes no argument of this type: it may take `transport: &Transport` \
                    and `this: &Handle<Self>`",
                    handler.name
                ),
            );
            continue;
        };
        if given.contains(&what) {
            let text = format!(
                "`{}` is given one `{}`, and `transport: &Transport` and `this: &Handle<Self>`",
                handler.name, handler.lent
            );
            diag.at(&typed.ty, text);
            continue;
        }
        by_reference_or_owned(handler, what, &typed.ty, lent, owned, diag);
        given.push(what);
    }
    method.given = given;
}

/// ```text
/// fn line_received(&mut self, line: String) {}
/// ```
fn by_reference_or_owned(
    handler: &Handler,
    what: Given,
    ty: &Type,
    by_reference: bool,
    owned: bool,
    diag: &Diag,
) {
    let name = handler.name;
    let write = match (what, owned) {
        (Given::This, false) => "this: &Handle<Self>",
        (Given::This, true) => "this: Handle<Self>",
        (Given::Transport, false) => "transport: &Transport",
        (Given::Transport, true) => "transport: Transport",
        (Given::Message | Given::Reason | Given::Descriptor, false) => handler.lent,
        (Given::Message | Given::Reason | Given::Descriptor, true) => handler.owned,
    };
    if what == Given::Descriptor {
        if by_reference || type_name(ty).is_none_or(|name| name != "OwnedFd") {
            diag.at(ty, format!("`{name}` takes the descriptor by value: write `{write}`"));
        }
        return;
    }
    if handler.family == Family::Message && what == Given::Message {
        return;
    }
    if !owned && !by_reference {
        let noun = what.noun();
        diag.at(ty, format!("`{name}` takes {noun} by reference: write `{write}`"));
    } else if !owned
        && what == Given::Reason
        && type_name(inner(ty)).is_none_or(|name| name != "Failure")
        || !owned && what == Given::Message && !matches!(inner(ty), Type::Slice(_))
    {
        let noun = what.noun();
        diag.at(ty, format!("`{name}` takes {noun} as another type: write `{write}`"));
    }
    // `#[inline_callbacks]` reports a coroutine that borrows
}

fn inner(ty: &Type) -> &Type {
    match ty {
        Type::Reference(reference) => &reference.elem,
        other => other,
    }
}

/// ```text
/// fn line_received(&mut self, ..) {}    fn data_received(&mut self, ..) {}
/// ```
fn one_family(input: &Handlers, diag: &Diag) {
    let mut first: Option<&Handler> = None;
    for method in handling(input) {
        let (Some(handler), name) = (method.handler, &method.function.sig.ident) else { continue };
        match first {
            _ if handler.family == Family::Connection => {}
            None => first = Some(handler),
            Some(other) if other.family != handler.family => {
                diag.at(
                    name,
                    format!(
                        "`{}` and `{}` are for different framings; a protocol has one",
                        other.name, handler.name
                    ),
                );
            }
            Some(_) => {}
        }
    }
}

/// ```text
/// fn raw_data_received(&mut self, data: &[u8]) {}     and no line_received
/// ```
fn lines_need_line_received(input: &Handlers, diag: &Diag) {
    let lines = || {
        handling(input)
            .filter(|method| method.handler.is_some_and(|handler| handler.family == Family::Lines))
    };
    if let Some(method) = lines().next()
        && !lines().any(|method| method.event() == Some(Event::LineReceived))
    {
        diag.at(
            &method.function.sig.ident,
            "a line protocol handles its lines: write `fn \
            line_received(&mut self, line: &[u8])` too",
        );
    }
}

/// Iterates over the functions that are handlers.
pub(super) fn handling(input: &Handlers) -> impl Iterator<Item = &Method> {
    input.items.iter().filter_map(|item| match item {
        Item::Function(method) if method.handler.is_some() => Some(&**method),
        _ => None,
    })
}
