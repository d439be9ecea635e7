//! Snapshots of generated code, as formatted Rust in `macros/snapshots/<macro>/<case>.rs`.
//!
//! `TWISTOR_SNAPSHOTS=overwrite cargo test -p twistor-macros` refreshes the files; read the
//! difference before you commit it.
use proc_macro2::TokenStream;
use std::{env, fs, path::Path};

fn shown(tokens: &TokenStream) -> String {
    let file = syn::parse2(tokens.clone()).unwrap_or_else(|error| panic!("{error}: {tokens}"));
    prettyplease::unparse(&file)
}

fn check(
    case: &str,
    given: &str,
    expand: fn(TokenStream, TokenStream) -> TokenStream,
    options: &str,
) {
    let tokens = expand(options.parse().expect("options"), given.parse().expect("an item"));
    let text = format!(
        "// You write: #[..({options})]\n{}\n// The macro writes:\n\n{}",
        commented(given),
        shown(&tokens)
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots").join(case);
    if env::var_os("TWISTOR_SNAPSHOTS").is_some_and(|value| value == "overwrite") {
        fs::write(&path, &text).expect("a writable folder");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{} differs; `make stderr` refreshes it", path.display());
}

fn commented(text: &str) -> String {
    text.lines().map(|line| format!("// {line}").trim_end().to_owned() + "\n").collect()
}

#[test]
fn inline_callbacks() {
    let plain = r"pub fn sum((a, b): (u32, u32), mut n: Deferred<u32>) -> Deferred<u32> {
    n = n.map(|n| n);
    return_value!(yield_!(n)? + a + b)
}";
    check("inline_callbacks/plain.rs", plain, crate::inline_callbacks::expand, "");
    let asynchronous =
        "async fn parse(text: String) -> Result<u32, ParseIntError> {\n    text.parse()\n}";
    check(
        "inline_callbacks/async.rs",
        asynchronous,
        crate::inline_callbacks::expand,
        "crate = crate::outer",
    );
}

#[test]
fn protocol() {
    let declaration = r"struct Person {
    #[factory]
    room: Rc<Room>,
    #[transport]
    transport: Transport,
    #[init(3)]
    lives: u32,
    name: Option<String>,
}";
    check("protocol/struct.rs", declaration, crate::protocol::expand, "lines(max_length = 80)");
    let handlers = r"impl Person {
    fn connection_made(&mut self) {}
    fn line_received(&mut self, line: &[u8], this: &Handle<Self>) {}
}";
    check("protocol/impl.rs", handlers, crate::protocol::expand, "");
    let coroutine = r"impl Finger {
    #[inline_callbacks]
    fn line_received(this: Handle<Self>, name: Vec<u8>) -> Deferred<()> { return_value!(()) }
}";
    check("protocol/coroutine.rs", coroutine, crate::protocol::expand, "");
}

#[test]
fn factory() {
    fn derive(_options: TokenStream, item: TokenStream) -> TokenStream {
        crate::factory::expand(item)
    }
    check("factory/derive.rs", "#[factory(protocol = Person)]\nstruct Room;", derive, "");
}

#[test]
fn test() {
    check(
        "test/coroutine.rs",
        r"#[should_panic]
fn fails(reactor: Reactor) -> Deferred<()> {
    yield_!(reactor.when_stopped())
}",
        crate::test_fn::expand,
        "timeout = \"5s\"",
    );
}

#[test]
fn main() {
    check(
        "main/both.rs",
        r"fn main(args: Args, reactor: Reactor) -> Deferred<()> {
    yield_!(reactor.when_stopped())
}",
        crate::main_fn::expand,
        "",
    );
}
