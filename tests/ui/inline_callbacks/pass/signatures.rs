#![deny(warnings, clippy::all, clippy::pedantic, clippy::nursery)]
//! Every form of a signature.
use std::{fmt::Display, rc::Rc};
use twistor::prelude::*;

mod inner {
    use twistor::prelude::*;

    #[inline_callbacks]
    pub(crate) fn visible(n: u32) -> Deferred<u32> {
        return_value!(n)
    }

    #[inline_callbacks]
    pub(in crate::inner) fn within(n: u32) -> Deferred<u32> {
        return_value!(yield_!(visible(n))? + 1)
    }

    #[inline_callbacks]
    pub fn outer(n: u32) -> Deferred<u32> {
        yield_!(within(n))
    }
}

#[inline_callbacks]
fn higher_ranked<F>(text: String, shorten: F) -> Deferred<usize>
where
    F: for<'a> Fn(&'a str) -> &'a str + 'static,
{
    yield_!(Deferred::succeed(()))?;
    return_value!(shorten(&text).len())
}

#[inline_callbacks]
fn with_attributes(
    #[cfg(any())] missing: Missing,
    #[cfg(all())] n: u32,
    #[expect(unused_variables)] unused: u32,
) -> Deferred<u32> {
    return_value!(n)
}

#[inline_callbacks]
fn trait_objects(
    all: Vec<Rc<dyn Display>>,
    one: &'static str,
    call: fn(&str) -> usize,
) -> Deferred<usize> {
    let mut length = call(one);
    for each in all {
        length += yield_!(Deferred::succeed(each.to_string()))?.len();
    }
    return_value!(length)
}

trait Named {
    fn name(self: Rc<Self>) -> Deferred<String>;

    #[inline_callbacks]
    fn greeting(self: Rc<Self>) -> Deferred<String>
    where
        Self: 'static,
    {
        return_value!(format!("hello {}", yield_!(self.name())?))
    }
}

struct Person<T>(T);

impl<T: Display + 'static> Named for Person<T> {
    #[inline_callbacks]
    fn name(self: Rc<Self>) -> Deferred<String> {
        yield_!(Deferred::succeed(()))?;
        return_value!(self.0.to_string())
    }
}

impl<T: 'static> Person<T> {
    #[inline_callbacks]
    async fn into_inner(self) -> Result<T, Failure> {
        Deferred::succeed(()).await?;
        Ok(self.0)
    }

    #[inline_callbacks]
    fn boxed(self: Box<Self>) -> Deferred<T> {
        return_value!(yield_!(self.into_inner())?)
    }
}

#[inline_callbacks]
fn even(n: u32) -> Deferred<bool> {
    if n == 0 { Ok(true) } else { yield_!(odd(n - 1)) }
}

#[inline_callbacks]
fn odd(n: u32) -> Deferred<bool> {
    if n == 0 { Ok(false) } else { yield_!(even(n - 1)) }
}

#[inline_callbacks]
fn borrows_across(text: String) -> Deferred<usize> {
    let words: Vec<&str> = text.split(' ').collect();
    yield_!(Deferred::succeed(()))?;
    return_value!(words.len())
}

fn main() {
    assert_eq!(inner::outer(1).take_result().unwrap().unwrap(), 2);
    assert_eq!(higher_ranked("abc".into(), |text| &text[1..]).take_result().unwrap().unwrap(), 2);
    assert_eq!(with_attributes(3, 4).take_result().unwrap().unwrap(), 3);
    let total = trait_objects(vec![Rc::new(12), Rc::new("x")], "ab", str::len);
    assert_eq!(total.take_result().unwrap().unwrap(), 5);
    assert_eq!(Rc::new(Person("ada")).greeting().take_result().unwrap().unwrap(), "hello ada");
    assert_eq!(Person(5).into_inner().take_result().unwrap().unwrap(), 5);
    assert_eq!(Box::new(Person(6)).boxed().take_result().unwrap().unwrap(), 6);
    assert!(even(10).take_result().unwrap().unwrap());
    assert_eq!(borrows_across("a b c".into()).take_result().unwrap().unwrap(), 3);
}
