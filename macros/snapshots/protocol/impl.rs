// You write: #[..()]
// impl Person {
//     fn connection_made(&mut self) {}
//     fn line_received(&mut self, line: &[u8], this: &Handle<Self>) {}
// }

// The macro writes:

impl Person {
    #[allow(
        clippy::needless_pass_by_ref_mut,
        clippy::unused_self,
        clippy::unnecessary_wraps,
        clippy::needless_pass_by_value,
        clippy::missing_const_for_fn,
        reason = "a handler's signature is the framework's",
    )]
    fn connection_made(&mut self) {}
    #[allow(
        clippy::needless_pass_by_ref_mut,
        clippy::unused_self,
        clippy::unnecessary_wraps,
        clippy::needless_pass_by_value,
        clippy::missing_const_for_fn,
        reason = "a handler's signature is the framework's",
    )]
    fn line_received(&mut self, line: &[u8], this: &Handle<Self>) {}
}
#[automatically_derived]
impl ::twistor::__private::Protocol for Person {
    type Framing = <Self as ::twistor::__private::Declared>::Framing;
    fn framing(&self) -> <Self as ::twistor::__private::Declared>::Framing {
        ::twistor::__private::Declared::framing(self)
    }
    fn attach(&mut self, transport: &::twistor::__private::Transport) {
        ::twistor::__private::Declared::attach(self, transport);
    }
    fn connection_made(&mut self, __this: &::twistor::__private::Handle<Self>) {
        let _ = __this;
        ::twistor::__private::handled(
            Self::connection_made(self),
            ::twistor::__private::Handle::transport(__this),
            "connection_made of Person",
        );
    }
    fn __connection_lost(_: &::twistor::__private::Handle<Self>) {}
    fn message_received(
        &mut self,
        __this: &::twistor::__private::Handle<Self>,
        __message: ::twistor::__private::Message<'_, Self>,
    ) {
        match ::twistor::__private::line::<
            <Self as ::twistor::__private::Protocol>::Framing,
        >(__message) {
            ::twistor::__private::Line::Line(__data) => {
                let _ = __this;
                ::twistor::__private::handled(
                    Self::line_received(self, __data, __this),
                    ::twistor::__private::Handle::transport(__this),
                    "line_received of Person",
                );
            }
            ::twistor::__private::Line::TooLong {
                data: __data,
                max_length: __max_length,
            } => {
                let _ = __max_length;
                ::twistor::__private::line_too_long(__this, __data, __max_length);
            }
            ::twistor::__private::Line::Raw(__data) => {
                ::twistor::__private::no_raw_handler(__this, __data);
            }
            _ => {}
        }
    }
}
