#![deny(warnings, clippy::all, clippy::pedantic, clippy::nursery)]
use twistor::prelude::*;

mod one {
    use twistor::prelude::*;

    #[twistor::main]
    fn main() -> Deferred<()> {
        return_value!(())
    }

    pub(super) fn run() -> std::process::ExitCode {
        main()
    }
}

#[twistor::main]
async fn main(args: Args, _reactor: Reactor) -> Result<(), Failure> {
    assert_eq!(format!("{:?}", one::run()), format!("{:?}", std::process::ExitCode::SUCCESS));
    assert_eq!(args.get(0), None);
    Ok(())
}
