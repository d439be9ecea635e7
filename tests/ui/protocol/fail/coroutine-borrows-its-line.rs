use twistor::prelude::*;

#[protocol(lines)]
struct Echo;

#[protocol]
impl Echo {
    #[inline_callbacks]
    fn line_received(this: Handle<Self>, line: &[u8]) -> Deferred<()> {
        this.send_line(line);
        return_value!(())
    }
}

fn main() {}
