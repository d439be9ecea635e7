use twistor::prelude::*;

struct Bank;

impl Bank {
    #[inline_callbacks]
    fn balance(&self) -> Deferred<u32> {
        return_value!(1)
    }

    #[inline_callbacks]
    fn close(self: &std::rc::Rc<Self>) -> Deferred<()> {
        return_value!(())
    }
}

fn main() {
    let _ = Bank.balance();
}
