//! Rewrites `yield_!(e)` and `return_value!(e)` in the body of a coroutine, as token trees.
//!
//! Nothing is parsed, so half-typed code expands as far as possible, and rustc's own messages stay
//! on the user's tokens.
use crate::{paths::Root, spans::ours};
use proc_macro2::{Delimiter, Group, Ident, Punct, Spacing, Span, TokenStream, TokenTree};
use quote::quote_spanned;

/// Rewrites a body.
///
/// ```text
/// Input:   let n = yield_!(d)?;  return_value!(n)
/// Output:  let n = (d).await?;   return ::twistor::__private::done(n)
/// ```
/// It enters every group, including macro arguments (`println!("{}", yield_!(d)?)`), and skips `fn`
/// and `impl` items, which contain functions of their own.
pub(crate) fn body(tokens: TokenStream, root: &Root) -> TokenStream {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut out = TokenStream::new();
    let mut at = 0;
    while at < tokens.len() {
        if let Some(end) = item_end(&tokens[at..]) {
            out.extend(tokens[at..at + end].iter().cloned());
            at += end;
        } else if let Some((name, group)) = call(&tokens[at..]) {
            out.extend(if name == "yield_" {
                awaited(&name, &group, root)
            } else {
                returned(&name, &group, root)
            });
            at += 3;
        } else {
            out.extend([inside(&tokens[at], root)]);
            at += 1;
        }
    }
    out
}

/// Rewrites the contents of a token. A group that contains none of these calls stays untouched,
/// because a rebuilt group loses the spans of its ends.
fn inside(token: &TokenTree, root: &Root) -> TokenTree {
    match token {
        TokenTree::Group(group) if has_call(group.stream()) => {
            let mut rewritten = Group::new(group.delimiter(), body(group.stream(), root));
            rewritten.set_span(group.span());
            TokenTree::Group(rewritten)
        }
        other => other.clone(),
    }
}

/// Returns whether `tokens` contains one of these calls.
pub(crate) fn has_call(tokens: TokenStream) -> bool {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    (0..tokens.len()).any(|at| {
        call(&tokens[at..]).is_some()
            || matches!(&tokens[at], TokenTree::Group(group) if has_call(group.stream()))
    })
}

/// Parses `yield_ ! (..)` or `return_value ! (..)` at the start of `tokens`, with any brackets.
fn call(tokens: &[TokenTree]) -> Option<(Ident, Group)> {
    match tokens {
        [TokenTree::Ident(name), TokenTree::Punct(bang), TokenTree::Group(group), ..]
            if bang.as_char() == '!' && (name == "yield_" || name == "return_value") =>
        {
            Some((name.clone(), group.clone()))
        }
        _ => None,
    }
}

/// Returns the length of the `fn` or `impl` item at the start of `tokens`.
fn item_end(tokens: &[TokenTree]) -> Option<usize> {
    let is_item = match tokens {
        [TokenTree::Ident(word), TokenTree::Ident(_), ..] if word == "fn" => true,
        [TokenTree::Ident(word), ..] => word == "impl",
        _ => false,
    };
    let body = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    if is_item { tokens.iter().position(body).map(|at| at + 1) } else { None }
}

/// ```text
/// Input:   yield_!(e)
/// Output:  (e).await
/// ```
/// with the user's spans, so that an error underlines the user's expression, and a traceback names
/// this line
fn awaited(name: &Ident, group: &Group, root: &Root) -> TokenStream {
    let span = name.span();
    let mut operand = Group::new(Delimiter::Parenthesis, body(group.stream(), root));
    operand.set_span(group.span());
    let mut dot = Punct::new('.', Spacing::Alone);
    dot.set_span(span);
    [TokenTree::Group(operand), TokenTree::Punct(dot), TokenTree::Ident(Ident::new("await", span))]
        .into_iter()
        .collect()
}

/// ```text
/// Input:   return_value!(e)
/// Output:  return ::twistor::__private::done(e)
/// ```
/// Calls a function of twistor instead of `Ok`, so that an error about `e` shows no source of the
/// standard library.
fn returned(name: &Ident, group: &Group, root: &Root) -> TokenStream {
    let span = ours(name.span());
    let value =
        if group.stream().is_empty() { unit(group.span()) } else { body(group.stream(), root) };
    let private = root.private(name.span());
    quote_spanned!(span=> return #private::done(#value))
}

fn unit(span: Span) -> TokenStream {
    quote_spanned!(span=> ())
}

#[cfg(test)]
mod tests {
    use super::body;
    use crate::paths::Root;

    fn rewritten(text: &str) -> String {
        body(text.parse().expect("tokens"), &Root(None)).to_string().replace(' ', "")
    }

    #[test]
    fn calls_become_awaits_at_any_depth() {
        assert_eq!(rewritten("let n = yield_!(d)?;"), "letn=(d).await?;");
        assert_eq!(
            rewritten("println!(\"{}\", yield_!(f(yield_!(d)?)));"),
            "println!(\"{}\",(f((d).await?)).await);"
        );
        assert_eq!(
            rewritten("return_value!(yield_!(d)?)"),
            "return::twistor::__private::done((d).await?)"
        );
        assert_eq!(rewritten("return_value!()"), "return::twistor::__private::done(())");
    }

    #[test]
    fn items_inside_are_left_alone_and_function_pointers_are_no_items() {
        assert_eq!(rewritten("fn f() { yield_!(d) } yield_!(e)"), "fnf(){yield_!(d)}(e).await");
        assert_eq!(rewritten("impl A { fn f() { yield_!(d) } }"), "implA{fnf(){yield_!(d)}}");
        assert_eq!(rewritten("let f: fn(u32) = g; yield_!(e)"), "letf:fn(u32)=g;(e).await");
    }
}
