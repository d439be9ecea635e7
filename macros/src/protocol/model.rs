//! The parsed input of `#[protocol]`.
use super::handlers::{Event, Handler};
use crate::{paths::Root, signature::Function};
use proc_macro2::TokenStream;
use syn::{Attribute, Expr, Generics, ItemStruct, Path, Type};

/// The struct half.
pub(crate) struct Declaration {
    pub(crate) root: Root,
    pub(crate) framing: Framing,
    /// The struct without the attributes of this macro.
    pub(crate) item: ItemStruct,
    pub(crate) fields: Vec<Field>,
}

/// The framing of the struct.
pub(crate) enum Framing {
    Raw,
    Lines { delimiter: Option<Box<Expr>>, max_length: Option<Box<Expr>> },
    Own(Path),
}

/// The source of a field's initial value.
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
    /// The field's name, or its number in a tuple struct.
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

/// An item of the impl block.
pub(crate) enum Item {
    Function(Box<Method>),
    /// A constant, a type or a macro, which is emitted unchanged.
    Other(TokenStream),
}

/// A function in the impl block.
pub(crate) struct Method {
    pub(crate) function: Function,
    /// The handler that it implements, unless it is a helper.
    pub(crate) handler: Option<&'static Handler>,
    pub(crate) marks: Marks,
    /// Whether an error was reported for it. Nothing calls it then, so that no further error
    /// follows.
    pub(crate) broken: bool,
    /// The kinds of its arguments, in order; known after the check.
    pub(crate) given: Vec<Given>,
}

/// The attributes of this macro on a function.
#[derive(Default)]
pub(crate) struct Marks {
    pub(crate) helper: bool,
    pub(crate) concurrent: bool,
    pub(crate) cancel_on_loss: bool,
}

/// The kind of a handler's argument.
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
    /// Returns the event that it handles, unless it is a helper.
    pub(crate) fn event(&self) -> Option<Event> {
        self.handler.map(|handler| handler.event)
    }

    /// Returns whether it takes `this: Handle<Self>` instead of `self`.
    pub(crate) fn is_coroutine(&self) -> bool {
        self.function.sig.receiver().is_none()
    }
}
