//! The string form of endpoints: `type:argument:name=value`.
//!
//! A backslash before a colon, an equals sign or a backslash makes it an ordinary character. Only
//! the first equals sign of an argument separates name and value.
use super::{
    endpoint::{ClientEndpoint, ServerEndpoint},
    tcp::{Tcp4ClientEndpoint, Tcp4ServerEndpoint},
};
use crate::{failure::Failure, reactor::Reactor};
use std::{
    error::Error,
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

/// The endpoint description is invalid; the error says where, and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidEndpointError {
    description: String,
    position: usize,
    problem: String,
}

impl InvalidEndpointError {
    /// Returns the description.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Returns where the problem begins, in bytes from 0.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl fmt::Display for InvalidEndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let column = self
            .description
            .get(..self.position)
            .map_or(self.position, |before| before.chars().count());
        write!(
            f,
            "malformed endpoint description, at position {}: {}\n    {}\n    {}^",
            self.position,
            self.problem,
            self.description,
            // a width in the format string must not exceed 65535
            " ".repeat(column)
        )
    }
}

impl Error for InvalidEndpointError {}

/// Parses a server endpoint description: `tcp:PORT[:interface=ADDRESS][:backlog=NUMBER]`.
///
/// # Errors
/// Fails with [`InvalidEndpointError`], which says where the problem is and what was expected
/// there.
#[doc(alias = "serverFromString")]
pub fn server_from_string(reactor: &Reactor, description: &str) -> Result<ServerEndpoint, Failure> {
    let mut words = Description::parse(description)?;
    words.expect_type(&["tcp"])?;
    words.names(&["port", "interface", "backlog"], 3)?;
    let port = words.required("port")?.number("a port number, 0 to 65535")?;
    let mut endpoint = Tcp4ServerEndpoint::new(reactor, port);
    if let Some(interface) = words.optional("interface").filter(|word| !word.value.is_empty()) {
        endpoint =
            endpoint.interface(interface.number::<IpAddr>("a numeric address to listen on")?);
    }
    if let Some(backlog) = words.optional("backlog") {
        endpoint = endpoint.backlog(backlog.number("the number of connections that may wait")?);
    }
    Ok(endpoint.endpoint())
}

/// Parses a client endpoint description: `tcp:HOST:PORT[:timeout=SECONDS][:bindAddress=ADDRESS]`.
///
/// Either or both of host and port may be given by name.
///
/// # Errors
/// Fails with [`InvalidEndpointError`], which says where the problem is and what was expected
/// there.
#[doc(alias = "clientFromString")]
pub fn client_from_string(reactor: &Reactor, description: &str) -> Result<ClientEndpoint, Failure> {
    let mut words = Description::parse(description)?;
    words.expect_type(&["tcp"])?;
    // if the host is named, a single positional argument is the port
    let order: &[&'static str] = if words.is_named("host") {
        &["port", "host", "timeout", "bindAddress"]
    } else {
        &["host", "port", "timeout", "bindAddress"]
    };
    words.names(order, 2)?;
    let host = words.required("host")?;
    if host.value.is_empty() {
        return Err(host.problem("a host name or address").into());
    }
    let port = words.required("port")?.number("a port number, 0 to 65535")?;
    let mut endpoint = Tcp4ClientEndpoint::new(reactor, host.value, port);
    if let Some(timeout) = words.optional("timeout") {
        endpoint =
            endpoint.timeout(Duration::from_secs(timeout.number("a time limit in seconds")?));
    }
    if let Some(from) = words.optional("bindAddress") {
        let ip: IpAddr = from.number("a numeric address to connect from")?;
        endpoint = endpoint.bind_address(SocketAddr::new(ip, 0));
    }
    Ok(endpoint.endpoint())
}

/// Escapes each colon and backslash with a backslash, so that `text` can be one argument of a
/// description.
///
/// ```
/// use twistor::endpoints::quote_string_argument;
/// assert_eq!(quote_string_argument(r"x : y\z"), r"x \: y\\z");
/// ```
#[doc(alias = "quoteStringArgument")]
pub fn quote_string_argument(text: &str) -> String {
    text.replace('\\', r"\\").replace(':', r"\:")
}

/// A parsed description: its type and its arguments.
struct Description<'a> {
    text: &'a str,
    kind: Word<'a>,
    words: Vec<Word<'a>>,
}

/// One argument, without its backslashes.
#[derive(Debug, Clone)]
struct Word<'a> {
    text: &'a str,
    /// Where the argument begins, and where its value begins.
    at: usize,
    value_at: usize,
    name: Option<String>,
    value: String,
}

impl<'a> Description<'a> {
    fn parse(text: &'a str) -> Result<Self, Failure> {
        let mut words = Vec::new();
        let mut word = Word { text, at: 0, value_at: 0, name: None, value: String::new() };
        let mut letters = text.char_indices();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => match letters.next() {
                    Some((_, escaped)) => word.value.push(escaped),
                    None => {
                        return Err(
                            invalid(text, at, "expected a character after the backslash").into()
                        );
                    }
                },
                ':' => {
                    let next = Word {
                        text,
                        at: at + 1,
                        value_at: at + 1,
                        name: None,
                        value: String::new(),
                    };
                    words.push(std::mem::replace(&mut word, next));
                }
                '=' if word.name.is_none() && !words.is_empty() => {
                    word.name = Some(std::mem::take(&mut word.value));
                    word.value_at = at + 1;
                }
                other => word.value.push(other),
            }
        }
        words.push(word);
        let kind = words.remove(0);
        Ok(Self { text, kind, words })
    }

    fn expect_type(&self, known: &[&str]) -> Result<(), Failure> {
        if known.contains(&self.kind.value.as_str()) {
            return Ok(());
        }
        let known: Vec<_> = known.iter().map(|name| format!("`{name}:`")).collect();
        let problem =
            format!("unknown endpoint type `{}`; expected {}", self.kind.value, known.join(", "));
        Err(invalid(self.text, 0, problem).into())
    }

    fn is_named(&self, name: &str) -> bool {
        self.words.iter().any(|word| word.name.as_deref() == Some(name))
    }

    /// Names the positional arguments in the order of `known`, whose first `positional` names may
    /// be left out. Reports unknown, repeated and surplus arguments.
    fn names(&mut self, known: &[&'static str], positional: usize) -> Result<(), Failure> {
        let mut next = 0;
        let mut seen: Vec<String> = Vec::new();
        for word in &mut self.words {
            let name = match &word.name {
                Some(name) if known.contains(&name.as_str()) => name.clone(),
                Some(name) => {
                    let problem = format!("unknown argument `{name}`; expected {}", listed(known));
                    return Err(invalid(self.text, word.at, problem).into());
                }
                None if next < positional => {
                    next += 1;
                    known.get(next - 1).map(ToString::to_string).unwrap_or_default()
                }
                None => {
                    let problem = format!(
                        "expected `name=value` with one of {}, and found `{}`",
                        listed(known),
                        word.value
                    );
                    return Err(invalid(self.text, word.at, problem).into());
                }
            };
            if seen.contains(&name) {
                return Err(invalid(
                    self.text,
                    word.at,
                    format!("`{name}` is given twice (a `:` inside a value is written `\\:`)"),
                )
                .into());
            }
            seen.push(name.clone());
            word.name = Some(name);
        }
        Ok(())
    }

    fn optional(&mut self, name: &str) -> Option<Word<'a>> {
        let at = self.words.iter().position(|word| word.name.as_deref() == Some(name))?;
        Some(self.words.remove(at))
    }

    fn required(&mut self, name: &str) -> Result<Word<'a>, Failure> {
        let end = self.text.len();
        self.optional(name)
            .ok_or_else(|| invalid(self.text, end, format!("`{name}` is missing")).into())
    }
}

impl Word<'_> {
    /// Parses the value as a number or an address.
    fn number<T: FromStr>(&self, expected: &str) -> Result<T, Failure> {
        self.value.parse().map_err(|_| self.problem(expected).into())
    }

    fn problem(&self, expected: &str) -> InvalidEndpointError {
        invalid(
            self.text,
            self.value_at,
            format!("expected {expected}, and found `{}`", self.value),
        )
    }
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn invalid(description: &str, position: usize, problem: impl Into<String>) -> InvalidEndpointError {
    InvalidEndpointError { description: description.to_owned(), position, problem: problem.into() }
}
