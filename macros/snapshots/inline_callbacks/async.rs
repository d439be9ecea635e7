// You write: #[..(crate = crate::outer)]
// async fn parse(text: String) -> Result<u32, ParseIntError> {
//     text.parse()
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
fn parse(text: String) -> crate::outer::defer::Deferred<u32> {
    crate::outer::__private::run_async::<
        Result<u32, ParseIntError>,
        _,
    >(
        ::core::concat!(::core::module_path!(), "::parse"),
        async move {
            if false {
                return crate::outer::__private::never_result::<
                    Result<u32, ParseIntError>,
                >();
            }
            let text = text;
            text.parse()
        },
    )
}
