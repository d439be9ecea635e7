//! Standard input and output as a transport.
use super::Running;
use std::{
    fs::File,
    io::Write,
    process::{Command, Stdio},
};

fn shouts() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_programs"));
    command.arg("shouts");
    command
}

#[test]
fn a_protocol_on_pipes_gets_lines_writes_answers_and_ends_with_its_output() {
    let mut program = Running::program("shouts");
    let mut input = program.0.stdin.take().expect("a pipe");
    for (line, answer) in [("hello", "HELLO"), ("over here", "OVER HERE"), ("bye", "BYE")] {
        writeln!(input, "{line}").expect("it reads");
        assert_eq!(program.line(), answer);
    }
    assert_eq!(program.line(), "", "the end: what is printed after it goes nowhere");
    let (code, error) = program.end();
    assert_eq!((code, error.as_str()), (Some(0), "Connection was closed cleanly.\n"));
    drop(input);
}

#[test]
fn the_end_of_the_input_is_the_end_of_the_connection() {
    let mut program = Running::program("shouts");
    let mut input = program.0.stdin.take().expect("a pipe");
    input.write_all(b"last words\n").expect("it reads");
    drop(input);
    assert_eq!(program.line(), "LAST WORDS");
    assert_eq!(program.end(), (Some(0), "Connection was closed cleanly.\n".to_owned()));
}

#[test]
fn plain_files_will_do_on_both_sides() {
    let folder = std::env::temp_dir().join(format!("twistor-standard-io-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder");
    let (from, to) = (folder.join("in"), folder.join("out"));
    // more than one read takes
    let lines: Vec<_> = (0..20_000).map(|number| format!("line {number}")).collect();
    std::fs::write(&from, lines.join("\n") + "\n").expect("a file");
    let status = shouts()
        .stdin(File::open(&from).expect("a file"))
        .stdout(File::create(&to).expect("a file"))
        .stderr(Stdio::null())
        .status()
        .expect("it runs");
    let shouted = std::fs::read_to_string(&to).expect("a file");
    std::fs::remove_dir_all(&folder).expect("a folder");
    assert!(status.success());
    assert!(
        shouted.starts_with(&(lines.join("\n") + "\n").to_ascii_uppercase()),
        "{} bytes",
        shouted.len()
    );
}
