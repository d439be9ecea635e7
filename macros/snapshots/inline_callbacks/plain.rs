// You write: #[..()]
// pub fn sum((a, b): (u32, u32), mut n: Deferred<u32>) -> Deferred<u32> {
//     n = n.map(|n| n);
//     return_value!(yield_!(n)? + a + b)
// }

// The macro writes:

#[allow(
    unreachable_code,
    clippy::diverging_sub_expression,
    clippy::manual_async_fn,
    clippy::needless_return,
    clippy::unused_async,
    clippy::let_unit_value,
    clippy::needless_pass_by_value,
    clippy::redundant_locals,
    reason = "set off by what the macro writes",
)]
pub fn sum(__arg0: (u32, u32), n: Deferred<u32>) -> Deferred<u32> {
    ::twistor::__private::run::<
        Deferred<u32>,
        _,
    >(
        ::core::concat!(::core::module_path!(), "::sum"),
        async move {
            if false {
                return ::twistor::__private::never::<Deferred<u32>>();
            }
            let (a, b) = __arg0;
            let mut n = n;
            n = n.map(|n| n);
            return ::twistor::__private::done((n).await? + a + b);
        },
    )
}
