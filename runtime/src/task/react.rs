//! How a program starts: one coroutine, run by a reactor of its own.
use crate::{
    defer::Deferred,
    error::{AbandonedError, SystemExit},
    failure::Failure,
    reactor::Reactor,
};
use std::{env, fmt, process::ExitCode};

/// The arguments of the program, without its name.
///
/// ```
/// use twistor::task::Args;
///
/// let args = Args::from(["tcp:8007", "-v"]);
/// assert_eq!(args.get(0), Some("tcp:8007"));
/// let missing = args.required(2, "TARGET").unwrap_err();
/// assert_eq!(missing.to_string(), "Error: missing argument 3: TARGET.");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args(Vec<String>);

impl Args {
    /// Those of this process. What is not Unicode is shown with replacement characters.
    pub fn from_env() -> Self {
        Self(
            env::args_os()
                .skip(1)
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect(),
        )
    }

    /// The argument at `index`, from 0.
    pub fn get(&self, index: usize) -> Option<&str> {
        self.0.get(index).map(String::as_str)
    }

    /// The argument at `index`, which has to be there.
    ///
    /// # Errors
    /// Its number, from 1, and `name`, what the program's help calls it.
    #[track_caller]
    pub fn required(&self, index: usize, name: &str) -> Result<&str, Failure> {
        self.get(index)
            .ok_or_else(|| Failure::message(format!("missing argument {}: {name}", index + 1)))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl<S: Into<String>, const N: usize> From<[S; N]> for Args {
    fn from(arguments: [S; N]) -> Self {
        Self(arguments.into_iter().map(Into::into).collect())
    }
}

/// Runs `main` on a reactor of its own until its Deferred fires, then stops.
/// [`#[twistor::main]`](macro@crate::main) writes this call.
///
/// The exit code is 0, or 1 with the traceback on standard error if `main` failed, or the one of a
/// [`SystemExit`] that it failed with. SIGINT and SIGTERM stop the reactor; a `main` that has not
/// finished by then ends with it, and the exit code is 0.
#[doc(alias = "twisted.internet.task.react")]
pub fn react(main: impl FnOnce(Reactor, Args) -> Deferred<()> + 'static) -> ExitCode {
    let result = Reactor::new().and_then(|reactor| react_on(&reactor, Args::from_env(), main));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(exit) = failure.downcast_ref::<SystemExit>() {
                return ExitCode::from(exit.code());
            }
            failure.print_traceback();
            ExitCode::FAILURE
        }
    }
}

/// [`react`] on a given reactor, which is closed afterwards, and with given arguments: for tests of
/// whole programs.
///
/// # Errors
/// What `main` failed with, or what the reactor says if it cannot run.
pub fn react_on(
    reactor: &Reactor,
    args: Args,
    main: impl FnOnce(Reactor, Args) -> Deferred<()> + 'static,
) -> Result<(), Failure> {
    let result = reactor.begin("main", move |reactor| main(reactor, args), Reactor::request_stop);
    let ran = reactor.run();
    let ended = result.take();
    reactor.close();
    // a main that waited for something of the reactor's has been woken by the close: that is no
    // failure of its own
    let late = result.take().filter(|ended| {
        ended.as_ref().err().is_none_or(|failure| !failure.check::<AbandonedError>())
    });
    ran?;
    ended.or(late).unwrap_or(Ok(()))
}

impl fmt::Display for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}
