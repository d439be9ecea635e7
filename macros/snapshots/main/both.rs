// You write: #[..()]
// fn main(args: Args, reactor: Reactor) -> Deferred<()> {
//     yield_!(reactor.when_stopped())
// }

// The macro writes:

fn main() -> ::std::process::ExitCode {
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
    fn main(args: Args, reactor: Reactor) -> Deferred<()> {
        ::twistor::__private::run::<
            Deferred<()>,
            _,
        >(
            ::core::concat!(::core::module_path!(), "::main"),
            async move {
                if false {
                    return ::twistor::__private::never::<Deferred<()>>();
                }
                let args = args;
                let reactor = reactor;
                (reactor.when_stopped()).await
            },
        )
    }
    ::twistor::__private::react(|__reactor, __args| {
        let _ = (&__reactor, &__args);
        main(__args, __reactor)
    })
}
