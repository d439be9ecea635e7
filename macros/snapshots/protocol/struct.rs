// You write: #[..(lines(max_length = 80))]
// struct Person {
//     #[factory]
//     room: Rc<Room>,
//     #[transport]
//     transport: Transport,
//     #[init(3)]
//     lives: u32,
//     name: Option<String>,
// }

// The macro writes:

struct Person {
    room: Rc<Room>,
    transport: Transport,
    lives: u32,
    name: Option<String>,
}
#[automatically_derived]
impl ::twistor::__private::Declared for Person {
    type Framing = ::twistor::__private::Lines;
    fn framing(&self) -> ::twistor::__private::Lines {
        <::twistor::__private::Lines as ::core::default::Default>::default()
            .max_length(80)
    }
    fn attach(&mut self, __transport: &::twistor::__private::Transport) {
        self.transport = ::core::clone::Clone::clone(__transport);
    }
}
#[automatically_derived]
impl ::twistor::__private::BuildFrom<Rc<Room>> for Person
where
    for<'__a> Option<String>: ::core::default::Default,
{
    fn build_from(__factory: Rc<Room>) -> Self {
        Self {
            room: __factory,
            transport: ::core::default::Default::default(),
            lives: 3,
            name: ::core::default::Default::default(),
        }
    }
}
const _: () = ::twistor::__private::is_protocol::<Person>();
