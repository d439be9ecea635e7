use twistor::prelude::*;

#[protocol]
struct Echo;

#[protocol]
impl Echo {}

fn serve(endpoint: ServerEndpoint) {
    endpoint.listen(Echo).detach();
}

fn main() {}
