//! The start of a program: one coroutine, run by its own reactor.
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
/// assert_eq!(missing.to_string(), "missing argument 3: TARGET");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args(Vec<String>);

impl Args {
    /// Returns the arguments of this process. Bytes that are not Unicode become replacement
    /// characters.
    pub fn from_env() -> Self {
        Self(
            env::args_os()
                .skip(1)
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect(),
        )
    }

    /// Returns the argument at `index`, from 0.
    pub fn get(&self, index: usize) -> Option<&str> {
        self.0.get(index).map(String::as_str)
    }

    /// Returns the argument at `index`, or fails if it is missing.
    ///
    /// # Errors
    /// Fails with the argument's number, from 1, and `name`, its name in the program's help.
    #[track_caller]
    pub fn required(&self, index: usize, name: &str) -> Result<&str, Failure> {
        self.get(index)
            .ok_or_else(|| Failure::message(format!("missing argument {}: {name}", index + 1)))
    }

    /// Iterates over the arguments.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl<S: Into<String>, const N: usize> From<[S; N]> for Args {
    fn from(arguments: [S; N]) -> Self {
        Self(arguments.into_iter().map(Into::into).collect())
    }
}

/// Runs `main` on its own reactor until its Deferred fires, then stops.
/// [`#[twistor::main]`](macro@crate::main) generates this call.
///
/// The exit code is 0, or 1 with the traceback on standard error if `main` failed, or the code of a
/// [`SystemExit`] with which it failed. SIGINT and SIGTERM stop the reactor; a `main` that has not
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

/// Runs `main` on a given reactor and with given arguments, for tests of whole programs. The
/// reactor is closed afterwards.
///
/// # Errors
/// Fails with the failure of `main`, and with the reactor's error if it cannot run.
pub fn react_on(
    reactor: &Reactor,
    args: Args,
    main: impl FnOnce(Reactor, Args) -> Deferred<()> + 'static,
) -> Result<(), Failure> {
    let result = reactor.begin("main", move |reactor| main(reactor, args), Reactor::request_stop);
    let ran = reactor.run();
    let ended = result.take();
    reactor.close();
    // closing the reactor has failed what `main` was waiting for, which is not a failure of its own
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
