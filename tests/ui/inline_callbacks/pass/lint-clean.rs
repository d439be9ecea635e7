#![deny(warnings, clippy::all, clippy::pedantic, clippy::nursery, missing_docs)]
//! Nothing that the macro writes sets off a lint.
use twistor::prelude::*;

/// Documented.
#[inline_callbacks]
pub fn documented((a, b): (u32, u32), mut n: u32, _ignored: String, _: Vec<u8>) -> Deferred<u32> {
    n += yield_!(Deferred::succeed(a + b))?;
    return_value!(n)
}

/// Generic, with a where clause and an early end.
#[inline_callbacks]
#[must_use = "it is worth something"]
pub fn generic<T, const N: usize>(value: T, again: impl Fn(&T) -> T + 'static) -> Deferred<[T; N]>
where
    T: Clone + 'static,
{
    if N == 0 {
        return Err(Failure::message("nothing"));
    }
    yield_!(Deferred::succeed(()))?;
    Ok(std::array::from_fn(|_| again(&value)))
}

/// An `async fn` with an error of its own.
#[inline_callbacks]
pub async fn parse(text: String) -> Result<u32, std::num::ParseIntError> {
    text.parse()
}

/// An alias of `Deferred` and an alias of `Result`.
pub type Answer = Deferred<u32>;

/// See [`Answer`].
#[inline_callbacks]
pub fn aliased(#[cfg(all())] n: u32) -> Answer {
    return_value!(n)
}

fn main() {
    documented((1, 2), 3, String::new(), Vec::new()).detach();
    generic::<_, 2>("a", |text| *text).detach();
    parse("5".into()).detach();
    aliased(1).detach();
}
