//! The table of handlers.

/// The event for which a handler is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    ConnectionMade,
    ConnectionLost,
    ReadConnectionLost,
    WriteConnectionLost,
    FileDescriptorReceived,
    DataReceived,
    LineReceived,
    LineLengthExceeded,
    RawDataReceived,
    MessageReceived,
}

/// A handler: its event, its name, its family, and its own argument.
pub(crate) struct Handler {
    pub(crate) event: Event,
    pub(crate) name: &'static str,
    pub(crate) family: Family,
    /// The handler's own argument, by reference and owned.
    pub(crate) lent: &'static str,
    pub(crate) owned: &'static str,
}

/// The framings with which a handler can be used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Every framing: the handlers for the beginning and the end of a connection.
    Connection,
    /// No framing.
    Data,
    /// `lines`
    Lines,
    /// A framing of the user's own.
    Message,
}

const fn handler(
    event: Event,
    name: &'static str,
    family: Family,
    lent: &'static str,
    owned: &'static str,
) -> Handler {
    Handler { event, name, family, lent, owned }
}

pub(crate) static HANDLERS: [Handler; 10] = [
    handler(Event::ConnectionMade, "connection_made", Family::Connection, "", ""),
    handler(
        Event::ConnectionLost,
        "connection_lost",
        Family::Connection,
        "reason: &Failure",
        "reason: Failure",
    ),
    handler(Event::ReadConnectionLost, "read_connection_lost", Family::Connection, "", ""),
    handler(Event::WriteConnectionLost, "write_connection_lost", Family::Connection, "", ""),
    handler(
        Event::FileDescriptorReceived,
        "file_descriptor_received",
        Family::Connection,
        "descriptor: OwnedFd",
        "descriptor: OwnedFd",
    ),
    handler(Event::DataReceived, "data_received", Family::Data, "data: &[u8]", "data: Vec<u8>"),
    handler(Event::LineReceived, "line_received", Family::Lines, "line: &[u8]", "line: Vec<u8>"),
    handler(
        Event::LineLengthExceeded,
        "line_length_exceeded",
        Family::Lines,
        "line: &[u8]",
        "line: Vec<u8>",
    ),
    handler(
        Event::RawDataReceived,
        "raw_data_received",
        Family::Lines,
        "data: &[u8]",
        "data: Vec<u8>",
    ),
    handler(
        Event::MessageReceived,
        "message_received",
        Family::Message,
        "message: <YourFraming as Framing>::Message<'_>",
        "message: an owned type",
    ),
];

/// Returns the handler with this name.
pub(crate) fn named(name: &str) -> Option<&'static Handler> {
    HANDLERS.iter().find(|handler| handler.name == name)
}

/// Returns the handler with this name in camelCase.
pub(crate) fn from_camel_case(name: &str) -> Option<&'static Handler> {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    if snake == name { None } else { named(&snake) }
}
