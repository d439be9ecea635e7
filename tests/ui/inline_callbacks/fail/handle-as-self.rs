use twistor::prelude::*;

struct Handle<T>(T);

struct Bank;

impl Bank {
    #[inline_callbacks]
    fn balance(self: Handle<Self>) -> Deferred<u32> {
        return_value!(1)
    }
}

fn main() {
    let _ = Handle(Bank).0;
}
