//! What `#[protocol]` has read.
use super::handlers::{Event, Handler};
use crate::{paths::Root, signature::Function};
use proc_macro2::TokenStream;
use syn::{Attribute, Expr, Generics, ItemStruct, Path, Type};

/// The struct half.
pub(crate) struct Declaration {
    pub(crate) root: Root,
    pub(crate) framing: Framing,
    /// The struct without the attributes that are ours.
    pub(crate) item: ItemStruct,
    pub(crate) fields: Vec<Field>,
}

/// How the struct is framed.
pub(crate) enum Framing {
    Raw,
    Lines { delimiter: Option<Box<Expr>>, max_length: Option<Box<Expr>> },
    Own(Path),
}

/// Where a field gets its first value.
pub(crate) enum Role {
    /// `Default`
    Default,
    /// `#[init(expr)]`
    Init(Expr),
    /// `#[transport]`
    Transport,
    /// `#[factory]`
    Factory,
}

pub(crate) struct Field {
    pub(crate) role: Role,
    pub(crate) ty: Type,
    /// Its name, or its number in a tuple struct.
    pub(crate) member: syn::Member,
}

/// The impl half.
pub(crate) struct Handlers {
    pub(crate) root: Root,
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) generics: Generics,
    pub(crate) self_ty: Type,
    pub(crate) items: Vec<Item>,
}

/// Something in the impl block.
pub(crate) enum Item {
    Function(Box<Method>),
    /// A constant, a type, a macro: passed through.
    Other(TokenStream),
}

/// A function in the impl block.
pub(crate) struct Method {
    pub(crate) function: Function,
    /// What it handles, unless it is a helper.
    pub(crate) handler: Option<&'static Handler>,
    pub(crate) marks: Marks,
    /// Whether an error was told about it: then nothing calls it, so that no other error follows.
    pub(crate) broken: bool,
    /// How its arguments are given, in the order in which they are written; known after the check.
    pub(crate) given: Vec<Given>,
}

/// The attributes of ours on a function.
#[derive(Default)]
pub(crate) struct Marks {
    pub(crate) helper: bool,
    pub(crate) concurrent: bool,
    pub(crate) cancel_on_loss: bool,
}

/// What an argument of a handler is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given {
    This,
    Transport,
    Message,
    Reason,
    Descriptor,
}

impl Given {
    /// Returns the words for the argument in error messages.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::This => "its handle",
            Self::Transport => "its transport",
            Self::Message => "its message",
            Self::Reason => "its reason",
            Self::Descriptor => "its descriptor",
        }
    }
}

impl Method {
    /// What it is called for, unless it is a helper.
    pub(crate) fn event(&self) -> Option<Event> {
        self.handler.map(|handler| handler.event)
    }

    /// Whether it takes `this: Handle<Self>` instead of `self`.
    pub(crate) fn is_coroutine(&self) -> bool {
        self.function.sig.receiver().is_none()
    }
}
