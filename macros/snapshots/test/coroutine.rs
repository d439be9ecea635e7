// You write: #[..(timeout = "5s")]
// #[should_panic]
// fn fails(reactor: Reactor) -> Deferred<()> {
//     yield_!(reactor.when_stopped())
// }

// The macro writes:

#[should_panic]
#[::core::prelude::v1::test]
fn fails() {
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
    fn fails(reactor: Reactor) -> Deferred<()> {
        ::twistor::__private::run::<
            Deferred<()>,
            _,
        >(
            ::core::concat!(::core::module_path!(), "::fails"),
            async move {
                if false {
                    return ::twistor::__private::never::<Deferred<()>>();
                }
                let reactor = reactor;
                (reactor.when_stopped()).await
            },
        )
    }
    ::twistor::__private::test(
        5000u64,
        |__reactor| {
            let _ = &__reactor;
            fails(__reactor)
        },
    )
}
