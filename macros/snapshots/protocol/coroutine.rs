// You write: #[..()]
// impl Finger {
//     #[inline_callbacks]
//     fn line_received(this: Handle<Self>, name: Vec<u8>) -> Deferred<()> { return_value!(()) }
// }

// The macro writes:

impl Finger {
    #[inline_callbacks]
    #[allow(
        clippy::needless_pass_by_ref_mut,
        clippy::unused_self,
        clippy::unnecessary_wraps,
        clippy::needless_pass_by_value,
        clippy::missing_const_for_fn,
        reason = "a handler's signature is the framework's",
    )]
    fn line_received(this: Handle<Self>, name: Vec<u8>) -> Deferred<()> {
        return_value!(())
    }
}
#[automatically_derived]
impl ::twistor::__private::Protocol for Finger {
    type Framing = <Self as ::twistor::__private::Declared>::Framing;
    fn framing(&self) -> <Self as ::twistor::__private::Declared>::Framing {
        ::twistor::__private::Declared::framing(self)
    }
    fn attach(&mut self, transport: &::twistor::__private::Transport) {
        ::twistor::__private::Declared::attach(self, transport);
    }
    fn __connection_lost(_: &::twistor::__private::Handle<Self>) {}
    fn __message_received(
        __this: &::twistor::__private::Handle<Self>,
        __message: ::twistor::__private::Message<'_, Self>,
    ) {
        match ::twistor::__private::line::<
            <Self as ::twistor::__private::Protocol>::Framing,
        >(__message) {
            ::twistor::__private::Line::Line(__data) => {
                let _ = __this;
                ::twistor::__private::begun::<
                    Self,
                    true,
                    false,
                >(
                    Self::line_received(
                        ::core::clone::Clone::clone(__this),
                        ::core::convert::Into::into(__data),
                    ),
                    __this,
                    "line_received of Finger",
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
