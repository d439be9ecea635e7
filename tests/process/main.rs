//! Process-wide behaviour: exit codes, signals, limits. Each test runs a program and observes it
//! from outside.
mod bursts;
mod debugging;
mod standard_io;
mod stress;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// An example, built by the same `cargo test` that built this test, or now.
fn example(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("a test binary");
    let folder =
        here.parent().and_then(|deps| deps.parent()).expect("the target folder").to_owned();
    let program = folder.join("examples").join(name);
    if !program.exists() {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "-p", "twistor-examples", "--example", name])
            .status()
            .expect("cargo");
        assert!(status.success());
    }
    program
}

/// A running program, which is killed at the end of the test.
struct Running(Child);

impl Running {
    fn start(name: &str, args: &[&str]) -> Self {
        Self::start_with(name, args, &[])
    }

    /// A program of `programs.rs`.
    fn program(name: &str) -> Self {
        Self::command(Command::new(env!("CARGO_BIN_EXE_programs")).arg(name))
    }

    fn start_with(name: &str, args: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::command(Command::new(example(name)).args(args).envs(environment.iter().copied()))
    }

    fn command(command: &mut Command) -> Self {
        let child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Self(child.expect("the example starts"))
    }

    /// Returns the next line of its standard output.
    fn line(&mut self) -> String {
        Self::line_of(self.0.stdout.as_mut().expect("a pipe"))
    }

    /// Returns the next line of its standard error.
    fn error_line(&mut self) -> String {
        Self::line_of(self.0.stderr.as_mut().expect("a pipe"))
    }

    fn line_of(out: &mut impl Read) -> String {
        let mut line = String::new();
        // byte by byte, so that nothing is read ahead
        let mut byte = [0];
        while out.read(&mut byte).expect("a readable pipe") == 1 && byte != *b"\n" {
            line.push(byte[0] as char);
        }
        line
    }

    fn signal(&self, signal: &str) {
        let status =
            Command::new("kill").args([signal, &self.0.id().to_string()]).status().expect("kill");
        assert!(status.success());
    }

    /// Returns its exit code and what it wrote to standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().expect("a child") {
                let mut text = String::new();
                self.0.stderr.take().expect("a pipe").read_to_string(&mut text).expect("text");
                return (status.code(), text);
            }
            assert!(start.elapsed() < Duration::from_secs(10), "it does not end");
            std::thread::yield_now();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn quickstart_prints_each_step_and_exits_0() {
    // built before the clock starts
    let program = example("quickstart");
    let start = Instant::now();
    let output = Command::new(program).output().expect("it runs");
    assert!(output.status.success());
    assert!(start.elapsed() < Duration::from_secs(10), "it waits for something");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("listening on 127.0.0.1:"));
    assert_eq!(lines[1], r#"answers: [["derrefed", "rotcaer"], ["locotorp", "yrotcaf"]]"#);
    let (before, limit) = lines[2].split_once(" has no result within 50ms, ").expect(lines[2]);
    assert!(before.starts_with("no answer to `sleep`: the Deferred made at "), "{before}");
    assert!(limit.starts_with("the limit set at "), "{limit}");
}

#[test]
fn echo_serves_and_stops_on_either_signal_with_exit_code_0() {
    for signal in ["-TERM", "-INT"] {
        let mut echo = Running::start("echo", &["tcp:0:interface=127.0.0.1"]);
        let line = echo.line();
        let address = line.strip_prefix("listening on ").expect(&line);
        let mut peer = TcpStream::connect(address).expect("it listens");
        peer.write_all(b"hello").expect("a connection");
        let mut answer = [0; 5];
        peer.read_exact(&mut answer).expect("an echo");
        assert_eq!(&answer, b"hello");
        echo.signal(signal);
        let (code, error) = echo.end();
        assert_eq!((code, error.as_str()), (Some(0), ""));
    }
}

#[test]
fn port_forward_carries_bytes_and_the_end_of_each_direction() {
    let mut echo = Running::start("echo", &["tcp:0:interface=127.0.0.1"]);
    let line = echo.line();
    let target = format!("tcp:{}", line.strip_prefix("listening on ").expect(&line));
    let mut forward = Running::start("port_forward", &["tcp:0:interface=127.0.0.1", &target]);
    let line = forward.line();
    let mut peer = TcpStream::connect(line.strip_prefix("forwarding from ").expect(&line))
        .expect("it listens");
    peer.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
    let sent: Vec<u8> = (0..1_000_000u32).map(|number| number.to_le_bytes()[0]).collect();
    let mut writer = peer.try_clone().expect("a socket");
    let all = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&all).expect("a connection");
        writer.shutdown(std::net::Shutdown::Write).expect("a socket");
    });
    let mut back = Vec::new();
    peer.read_to_end(&mut back).expect("an end");
    writing.join().expect("the writer");
    assert!(back == sent, "{} bytes of {}", back.len(), sent.len());
    for program in [echo, forward] {
        program.signal("-TERM");
        assert_eq!(program.end().0, Some(0));
    }
}

#[test]
fn with_debugging_sigusr1_shows_what_is_pending_and_the_program_continues() {
    let mut echo =
        Running::start_with("echo", &["tcp:0:interface=127.0.0.1"], &[("TWISTOR_DEBUG", "1")]);
    assert!(echo.line().starts_with("listening on "));
    for _ in 0..2 {
        echo.signal("-USR1");
        let line = echo.error_line();
        let count: usize = line.strip_suffix(" wait:").expect(&line).parse().expect(&line);
        let lines: Vec<_> = (0..count).map(|_| echo.error_line()).collect();
        assert!(
            lines
                .iter()
                .any(|line| line.contains(" coroutine echo::main, made at examples/echo.rs:")),
            "{lines:#?}"
        );
    }
    echo.signal("-TERM");
    assert_eq!(echo.end(), (Some(0), String::new()));
}

#[test]
fn a_malformed_description_is_exit_code_1_with_the_position_on_standard_error() {
    let echo = Running::start("echo", &["tcp:80a"]);
    let (code, error) = echo.end();
    assert_eq!(code, Some(1));
    assert!(error.starts_with("Traceback (most recent call last):\n"), "{error}");
    assert!(
        error.contains("at position 4: expected a port number")
            && error.contains("\n    tcp:80a\n        ^"),
        "{error}"
    );
}

#[test]
fn a_port_in_use_is_exit_code_1_with_the_address() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let echo = Running::start("echo", &[&format!("tcp:{}:interface=127.0.0.1", address.port())]);
    let (code, error) = echo.end();
    assert_eq!(code, Some(1));
    assert!(error.contains(&format!("Couldn't listen on {address}")), "{error}");
}

/// Returns the exit code of a program of `programs.rs`, and the number of tracebacks that it
/// printed.
fn program(name: &str) -> (Option<i32>, usize) {
    let output = Command::new(env!("CARGO_BIN_EXE_programs")).arg(name).output().expect("it runs");
    let text = String::from_utf8(output.stderr).expect("text");
    (output.status.code(), text.matches("Traceback").count())
}

#[test]
fn k_044_k_045_a_main_that_fails_is_logged_once_and_is_exit_code_1() {
    assert_eq!(program("fails"), (Some(1), 1));
    assert_eq!(program("fails_later"), (Some(1), 1));
}

#[test]
fn k_049_an_exit_request_is_the_exit_code_and_is_not_logged() {
    assert_eq!(program("exits"), (Some(23), 0));
    assert_eq!(program("exits_later"), (Some(23), 0));
}

#[test]
fn r_076_the_reactor_remembers_which_signal_has_stopped_it() {
    assert_eq!(program("stops").0, Some(0));
    for (signal, number) in [("-INT", 2), ("-TERM", 15)] {
        let mut program = Running::program("waits");
        assert_eq!(program.line(), "running");
        program.signal(signal);
        assert_eq!(program.end().0, Some(number));
    }
}

#[test]
fn a_second_signal_ends_a_shutdown_that_waits_for_ever() {
    let mut program = Running::program("stuck");
    assert_eq!(program.line(), "running");
    program.signal("-TERM");
    assert_eq!(program.line(), "stopping");
    program.signal("-INT");
    assert_eq!(program.end().0, Some(2));
}

#[test]
fn a_signal_during_a_long_callback_is_not_lost() {
    let mut program = Running::program("hangs_up");
    assert_eq!(program.line(), "running");
    program.signal("-HUP");
    program.0.stdin.as_mut().expect("a pipe").write_all(b"go on\n").expect("it reads");
    assert_eq!(program.line(), "back");
    assert_eq!(program.line(), "hung up");
    program.signal("-TERM");
    assert_eq!(program.end().0, Some(15));
}

#[test]
fn chat_tells_the_others_what_one_says() {
    let mut chat = Running::start("chat", &["tcp:0:interface=127.0.0.1"]);
    let line = chat.line();
    let address = line.strip_prefix("chat on ").expect(&line).to_owned();
    let join = |name: &str| {
        let mut person = BufReader::new(TcpStream::connect(&address).expect("it listens"));
        assert_eq!(read(&mut person), "What is your name?");
        person.get_mut().write_all(format!("{name}\r\n").as_bytes()).expect("a connection");
        person
    };
    let mut ada = join("ada");
    let mut bob = join("bob");
    assert_eq!(read(&mut ada), "<bob> joined");
    bob.get_mut().write_all(b"hel").expect("a connection");
    bob.get_mut().write_all(b"lo\r\n").expect("a connection");
    assert_eq!(read(&mut ada), "<bob> hello");
    // a taken name is asked for again, and a line over the limit closes its own connection only
    let mut other = join("ada");
    assert_eq!(read(&mut other), "Taken. Another?");
    other.get_mut().write_all(&[b'x'; 2000]).expect("a connection");
    assert_eq!(read(&mut other), "");
    drop(bob);
    assert_eq!(read(&mut ada), "<bob> left");
    chat.signal("-TERM");
    assert_eq!(chat.end().0, Some(0));
}

fn read(person: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    // the connection that broke a rule may close with a reset
    let _ = person.read_line(&mut line);
    line.trim_end().to_owned()
}

#[cfg(target_os = "linux")]
#[test]
fn r_014_signal_handlers_are_installed_between_the_first_triggers_and_the_last() {
    let mut program = Running::program("handlers");
    assert_eq!(program.line(), "before false");
    assert!(program.line().starts_with("during"));
    assert_eq!(program.line(), "after true");
    assert_eq!(program.end().0, Some(0));
}

/// A server that has run out of descriptors backs off, does not spin, and serves again when there
/// are some.
#[test]
fn running_out_of_descriptors_neither_stops_nor_spins_the_listener() {
    let program = example("echo");
    let script = format!("ulimit -n 24; exec {} tcp:0:interface=127.0.0.1", program.display());
    let child = Command::new("sh")
        .args(["-c", &script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut echo = Running(child.expect("a shell"));
    let line = echo.line();
    let address = line.strip_prefix("listening on ").expect(&line).to_owned();
    let connect = || TcpStream::connect(&address).expect("the kernel accepts");
    let mut many: Vec<_> = (0..40).map(|_| connect()).collect();
    // the first connections are served, the last ones wait
    let mut answer = [0; 4];
    many[0].write_all(b"ping").expect("a connection");
    many[0].read_exact(&mut answer).expect("an echo");
    let last = many.pop().expect("a connection");
    last.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket");
    (&last).write_all(b"late").expect("a connection");
    assert!((&last).read(&mut [0; 4]).is_err(), "there is no descriptor for it yet");
    assert!(cpu_ticks(echo.0.id()) < 20, "it does not spin while it waits");
    drop(many);
    last.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket");
    (&last).read_exact(&mut answer).expect("it is served after all");
    assert_eq!(&answer, b"late");
    echo.signal("-TERM");
    assert_eq!(echo.end().0, Some(0));
}

// Kind: what a reactor changes in its process it puts back.
#[test]
fn after_a_run_the_signals_have_their_former_action_again() {
    for (signal, number) in [("-TERM", 15), ("-INT", 2), ("-HUP", 1)] {
        let mut program = Running::program("ends");
        assert_eq!(program.line(), "ended");
        program.signal(signal);
        let status = program.0.wait().expect("it ends");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(number));
    }
}

#[test]
fn a_signal_that_was_ignored_before_a_run_is_ignored_after_it() {
    let script = format!("trap '' TERM; exec {} ends", env!("CARGO_BIN_EXE_programs"));
    let mut program = Running::command(Command::new("sh").args(["-c", &script]));
    assert_eq!(program.line(), "ended");
    program.signal("-TERM");
    program.0.stdin.as_mut().expect("a pipe").write_all(b"\n").expect("it reads");
    assert_eq!(program.line(), "still alive");
}

#[test]
fn a_second_signal_ends_a_stop_that_waits_for_a_blocked_thread_which_is_named_before() {
    let mut program = Running::program("blocked");
    let mut lines = [program.line(), program.line()];
    lines.sort();
    assert_eq!(lines, ["blocked", "running"]);
    program.signal("-TERM");
    let told = program.error_line();
    assert!(told.contains("stopping waits for the pool `twistor`: 1 pieces of work"), "{told}");
    program.signal("-TERM");
    assert_eq!(program.end().0, Some(15));
}

// Kind: what the system could not deliver is an error of its connection, never silence.
#[test]
fn descriptors_that_are_lost_on_arrival_end_the_connection_with_a_reason() {
    let script = format!("ulimit -n 64; exec {} crowded", env!("CARGO_BIN_EXE_programs"));
    let output = Command::new("sh").args(["-c", &script]).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("descriptors were lost on arrival"), "{text}");
    assert!(!text.contains("data"), "{text}");
    assert_eq!(output.status.code(), Some(0));
}

/// Returns the processor time that a process has used, in hundredths of a second.
fn cpu_ticks(id: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("a process");
    let fields: Vec<_> = text.rsplit(") ").next().expect("fields").split(' ').collect();
    fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number")
}
