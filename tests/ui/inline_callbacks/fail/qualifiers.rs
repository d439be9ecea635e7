use twistor::prelude::*;

#[inline_callbacks]
const fn constant() -> Deferred<()> {
    return_value!(())
}

#[inline_callbacks]
unsafe fn dangerous() -> Deferred<()> {
    return_value!(())
}

#[inline_callbacks]
extern "C" fn exported() -> Deferred<()> {
    return_value!(())
}

trait Service {
    #[inline_callbacks]
    fn call(self) -> Deferred<()>;
}

fn main() {}
