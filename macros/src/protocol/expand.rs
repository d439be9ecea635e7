//! Generates the code of the impl half.
use super::{
    check::handling,
    handlers::{Event, Family},
    model::{Given, Handlers, Item, Method},
};
use crate::spans::{local, ours};
use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

/// ```text
/// Input:   impl Chat { fn line_received(&mut self, line: &[u8]) { .. }  fn greet(&self) { .. } }
/// Output:  impl Chat { fn line_received(&mut self, line: &[u8]) { .. }  fn greet(&self) { .. } }
///          impl Protocol for Chat {
///              type Framing = <Self as Declared>::Framing;
///              fn message_received(&mut self, this: &Handle<Self>, message: Message<'_, Self>) {
///                  match line::<..>(message) { .. }
///              }
///          }
/// ```
/// After an error (`healthy` is false) unhandled messages are not reported.
pub(super) fn expand(input: &Handlers, healthy: bool) -> TokenStream {
    let (attrs, generics, self_ty) = (&input.attrs, &input.generics, &input.self_ty);
    let (params, _, clause) = generics.split_for_impl();
    let items = input.items.iter().map(item);
    let at = self_ty.span();
    let private = input.root.private(at);
    let methods = methods(input, healthy);
    let protocol = quote_spanned! {ours(at)=>
        #[automatically_derived]
        impl #params #private::Protocol for #self_ty #clause {
            type Framing = <Self as #private::Declared>::Framing;
            fn framing(&self) -> <Self as #private::Declared>::Framing {
                #private::Declared::framing(self)
            }
            fn attach(&mut self, transport: &#private::Transport) {
                #private::Declared::attach(self, transport);
            }
            #methods
        }
    };
    quote! {
        #(#attrs)*
        impl #params #self_ty #clause { #(#items)* }
        #protocol
    }
}

/// Emits an item of the user's block. The user cannot choose a handler's signature, so lints about
/// it are allowed.
fn item(item: &Item) -> TokenStream {
    let method = match item {
        Item::Other(tokens) => return tokens.clone(),
        Item::Function(method) => method,
    };
    let function = &method.function;
    let (attrs, vis, sig, body) = (&function.attrs, &function.vis, &function.sig, &function.body);
    let span = ours(sig.ident.span());
    let allows = method.handler.map(|_| {
        quote_spanned!(span=>
            #[allow(
                clippy::needless_pass_by_ref_mut,
                clippy::unused_self,
                clippy::unnecessary_wraps,
                clippy::needless_pass_by_value,
                clippy::missing_const_for_fn,
                reason = "a handler's signature is the framework's",
            )]
        )
    });
    let end = body.is_none().then(|| quote!(;));
    let unused = method.broken.then(|| {
        quote_spanned!(span=> #[allow(unused, reason = "the errors \
        beside it say what is wrong")])
    });
    quote!(#(#attrs)* #unused #allows #vis #sig #body #end)
}

/// The names of the arguments in generated code.
struct Names {
    this: Ident,
    message: Ident,
    reason: Ident,
}

impl Names {
    fn at(at: Span) -> Self {
        Self {
            this: local("__this", at),
            message: local("__message", at),
            reason: local("__reason", at),
        }
    }
}

fn methods(input: &Handlers, healthy: bool) -> TokenStream {
    let mut out = TokenStream::new();
    let mut half_closeable = false;
    let mut lost = None;
    for method in handling(input).filter(|method| !method.broken) {
        let Some(handler) = method.handler else { continue };
        match handler.event {
            Event::ConnectionLost => lost = Some(method),
            Event::ConnectionMade => out.extend(notified(input, method, handler.name, false)),
            Event::ReadConnectionLost | Event::WriteConnectionLost => {
                half_closeable = true;
                out.extend(notified(input, method, handler.name, false));
            }
            Event::FileDescriptorReceived => {
                out.extend(notified(input, method, handler.name, true));
                let span = ours(input.self_ty.span());
                out.extend(quote_spanned!(span=> const TAKES_DESCRIPTORS: bool = true;));
            }
            // `message_received`, below, handles all messages
            Event::DataReceived
            | Event::LineReceived
            | Event::LineLengthExceeded
            | Event::RawDataReceived
            | Event::MessageReceived => {}
        }
    }
    if half_closeable {
        out.extend(quote_spanned!(ours(input.self_ty.span())=> const HALF_CLOSEABLE: bool = true;));
    }
    out.extend(connection_lost(input, lost));
    out.extend(message_received(input, healthy));
    out
}

/// Generates a handler without messages or reasons: `connection_made`, `read_connection_lost` and
/// `write_connection_lost`, and with `descriptor` the handler of a descriptor.
fn notified(input: &Handlers, method: &Method, name: &str, descriptor: bool) -> TokenStream {
    let at = method.function.sig.ident.span();
    let names = Names::at(at);
    let (private, this, message) = (input.root.private(at), &names.this, &names.message);
    let call = call(input, method, &names, message);
    let given = descriptor.then(|| quote_spanned!(ours(at)=> , #message: ::std::os::fd::OwnedFd));
    if method.is_coroutine() {
        let free = Ident::new(&format!("__{name}"), ours(at));
        quote_spanned!(ours(at)=> fn #free(#this: &#private::Handle<Self> #given) { #call })
    } else {
        let name = Ident::new(name, ours(at));
        quote_spanned! {ours(at)=>
            fn #name(&mut self, #this: &#private::Handle<Self> #given) { #call }
        }
    }
}

/// Generates `connection_lost`. The reason is created only for a handler that takes it.
fn connection_lost(input: &Handlers, method: Option<&Method>) -> TokenStream {
    let at = method.map_or_else(|| input.self_ty.span(), |method| method.function.sig.ident.span());
    let names = Names::at(at);
    let (private, this, reason) = (input.root.private(at), &names.this, &names.reason);
    let Some(method) = method else {
        return quote_spanned!(ours(at)=> fn __connection_lost(_: &#private::Handle<Self>) {});
    };
    let asks = method.given.contains(&Given::Reason);
    if asks && !method.is_coroutine() {
        let call = call(input, method, &names, &names.message);
        return quote_spanned! {ours(at)=>
            fn connection_lost(
                &mut self,
                #this: &#private::Handle<Self>,
                #reason: &#private::Failure,
            ) {
                #call
            }
        };
    }
    let made = asks.then(|| quote_spanned!(ours(at)=> let #reason = &#private::loss(#this);));
    let call = arm(input, method, &names, &names.message, true);
    quote_spanned!(ours(at)=> fn __connection_lost(#this: &#private::Handle<Self>) { #made #call })
}

/// Generates the one method for messages: a conversion bounded by the framing of the handlers, and
/// a call for each handler.
///
/// If one of the handlers is a coroutine, the method starts without borrowing the protocol, and the
/// plain handlers borrow it inside.
fn message_received(input: &Handlers, healthy: bool) -> TokenStream {
    let handlers: Vec<&Method> = handling(input)
        .filter(|method| family(method) != Family::Connection && !method.broken)
        .collect();
    let Some(first) = handlers.first() else {
        return if healthy { ignored(input) } else { TokenStream::new() };
    };
    let at = first.function.sig.ident.span();
    let names = Names::at(at);
    let (private, this, message) = (input.root.private(at), &names.this, &names.message);
    let free = handlers.iter().any(|method| method.is_coroutine());
    let body = match family(first) {
        Family::Lines => lines(input, &handlers, &names, free),
        family => {
            let value = local("__value", at);
            let convert = if family == Family::Data {
                quote_spanned! {ours(at)=>
                    #private::data::<<Self as #private::Protocol>::Framing>(#message)
                }
            } else {
                quote!(#message)
            };
            let call = arm(input, first, &names, &value, free);
            quote_spanned!(ours(at)=> let #value = #convert; #call)
        }
    };
    let ty = quote_spanned!(ours(at)=> #private::Message<'_, Self>);
    if free {
        quote_spanned! {ours(at)=>
            fn __message_received(#this: &#private::Handle<Self>, #message: #ty) { #body }
        }
    } else {
        quote_spanned! {ours(at)=>
            fn message_received(&mut self, #this: &#private::Handle<Self>, #message: #ty) {
                #body
            }
        }
    }
}

fn family(method: &Method) -> Family {
    method.handler.map_or(Family::Connection, |handler| handler.family)
}

/// Generates the method of a protocol without message handlers: valid without a framing, and
/// otherwise an error at the type.
fn ignored(input: &Handlers) -> TokenStream {
    let at = input.self_ty.span();
    let private = input.root.private(at);
    quote_spanned! {ours(at)=>
        fn message_received(&mut self, _: &#private::Handle<Self>, _: #private::Message<'_, Self>) {
            #private::ignore::<<Self as #private::Declared>::Framing>();
        }
    }
}

/// ```text
/// match line::<Self::Framing>(message) {
///     Line::Line(line) => .., Line::TooLong { data, max_length } => ..,
///     Line::Raw(data) => .., _ => {}
/// }
/// ```
fn lines(input: &Handlers, handlers: &[&Method], names: &Names, free: bool) -> TokenStream {
    let first =
        handlers.first().map_or_else(Span::call_site, |method| method.function.sig.ident.span());
    let (private, this, message) = (input.root.private(first), &names.this, &names.message);
    let data = local("__data", first);
    let limit = local("__max_length", first);
    let of = |event: Event, otherwise: TokenStream| {
        let method = handlers.iter().find(|method| method.event() == Some(event));
        method.map_or(otherwise, |method| arm(input, method, names, &data, free))
    };
    let line = of(Event::LineReceived, TokenStream::new());
    let too_long = of(
        Event::LineLengthExceeded,
        quote_spanned!(ours(first)=> #private::line_too_long(#this, #data, #limit);),
    );
    let raw = of(
        Event::RawDataReceived,
        quote_spanned!(ours(first)=> #private::no_raw_handler(#this, #data);),
    );
    quote_spanned! {ours(first)=>
        match #private::line::<<Self as #private::Protocol>::Framing>(#message) {
            #private::Line::Line(#data) => { #line }
            #private::Line::TooLong { data: #data, max_length: #limit } => {
                let _ = #limit;
                #too_long
            }
            #private::Line::Raw(#data) => { #raw }
            _ => {}
        }
    }
}

/// Generates the call of a message handler, which borrows the protocol if the method around it has
/// not.
fn arm(input: &Handlers, method: &Method, names: &Names, value: &Ident, free: bool) -> TokenStream {
    let call = call(input, method, names, value);
    if !free || method.is_coroutine() {
        return call;
    }
    let at = method.function.sig.ident.span();
    let (private, this, protocol) = (input.root.private(at), &names.this, local("__protocol", at));
    let call = call_on(input, method, names, value, &quote!(#protocol));
    quote_spanned!(ours(at)=> #private::enter(#this, |#protocol| { #call });)
}

fn call(input: &Handlers, method: &Method, names: &Names, value: &Ident) -> TokenStream {
    let at = method.function.sig.ident.span();
    call_on(input, method, names, value, &quote_spanned!(ours(at)=> self))
}

/// ```text
/// handled(Self::line_received(self, line, this.transport()), this, "path::line_received of Chat");
/// let deferred = Self::line_received(Clone::clone(this), Into::into(line));
/// begun::<Self, true, false>(deferred, this, "..");
/// ```
fn call_on(
    input: &Handlers,
    method: &Method,
    names: &Names,
    value: &Ident,
    receiver: &TokenStream,
) -> TokenStream {
    let name = &method.function.sig.ident;
    let at = name.span();
    let span = ours(at);
    let (private, this, reason) = (input.root.private(at), &names.this, &names.reason);
    let owned = method.is_coroutine();
    let arguments = method.given.iter().map(|given| match (given, owned) {
        (Given::This, false) => quote!(#this),
        (Given::This, true) => quote_spanned!(span=> ::core::clone::Clone::clone(#this)),
        (Given::Transport, false) => quote_spanned!(span=> #private::Handle::transport(#this)),
        (Given::Transport, true) => {
            quote_spanned!(span=> ::core::clone::Clone::clone(#private::Handle::transport(#this)))
        }
        (Given::Message, false) | (Given::Descriptor, _) => quote!(#value),
        (Given::Message, true) => quote_spanned!(span=> ::core::convert::Into::into(#value)),
        (Given::Reason, false) => quote!(#reason),
        (Given::Reason, true) => quote_spanned!(span=> ::core::clone::Clone::clone(#reason)),
    });
    let self_ty = &input.self_ty;
    let unused = (!method.given.contains(&Given::Message) && family(method) != Family::Connection)
        .then(|| quote_spanned!(span=> let _ = #value;));
    let what = format!("{} of {}", name, quote!(#self_ty));
    let unused_this = quote_spanned!(span=> let _ = #this;);
    let run = if owned {
        let begin = quote_spanned!(span=> Self::#name(#(#arguments),*));
        let (hold, cancel) = (holds(method), method.marks.cancel_on_loss);
        if method.event() == Some(Event::ConnectionLost) {
            quote_spanned!(span=> #private::lingering(#begin, #this, #what);)
        } else {
            quote_spanned!(span=> #private::begun::<Self, #hold, #cancel>(#begin, #this, #what);)
        }
    } else {
        quote_spanned! {span=>
            #private::handled(
                Self::#name(#receiver, #(#arguments),*),
                #private::Handle::transport(#this),
                #what,
            );
        }
    };
    quote!(#unused #unused_this #run)
}

/// Returns whether a coroutine suspends delivery: one for messages does, unless it is concurrent.
fn holds(method: &Method) -> bool {
    family(method) != Family::Connection && !method.marks.concurrent
}
