// You write: #[..()]
// #[factory(protocol = Person)]
// struct Room;

// The macro writes:

#[automatically_derived]
impl ::twistor::__private::Factory for Room {
    type Protocol = Person;
    fn build_protocol(
        self: &::std::rc::Rc<Self>,
        _: &::twistor::__private::Address,
    ) -> ::core::option::Option<Person> {
        ::core::option::Option::Some(
            <Person as ::twistor::__private::BuildFrom<
                ::std::rc::Rc<Self>,
            >>::build_from(::std::rc::Rc::clone(self)),
        )
    }
}
