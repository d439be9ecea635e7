//! Every row of the tables is accounted for: tested, excluded by type, a departure, or pending.
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The maximum share of a table's core and ext rows that are excluded by type or departures, in
/// hundredths.
fn allowed_share(table: &str) -> usize {
    if matches!(table, "deferred" | "failure") { 40 } else { 25 }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

/// Returns the ids at the start of the rows of a table or a list, with the rows.
fn rows(file: &Path) -> BTreeMap<String, String> {
    let text =
        fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.lines()
        .filter_map(|line| {
            let id = line.strip_prefix("| ")?.split(' ').next()?;
            let bytes = id.as_bytes();
            let is_id = bytes.len() == 5
                && bytes[0].is_ascii_uppercase()
                && bytes[1] == b'-'
                && bytes[2..].iter().all(u8::is_ascii_digit);
            is_id.then(|| (id.to_owned(), line.to_owned()))
        })
        .collect()
}

/// Returns the ids at the start of a test's name: `d_035_d_036_returned…` has D-035 and D-036.
fn ids(name: &str) -> Vec<String> {
    let last = name.rsplit("::").next().unwrap_or(name);
    let mut parts = last.split('_');
    let mut found = Vec::new();
    while let (Some(letter), Some(number)) = (parts.next(), parts.next()) {
        if letter.len() != 1 || number.len() != 3 || !number.bytes().all(|b| b.is_ascii_digit()) {
            break;
        }
        found.push(format!("{}-{number}", letter.to_uppercase()));
    }
    found
}

/// Returns the names that a test binary lists; an ignored test fails this one.
fn listed(binary: &Path) -> Vec<String> {
    let names = |extra: &[&str]| {
        let output = Command::new(binary).arg("--list").args(extra).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .filter_map(|line| line.strip_suffix(": test").map(str::to_owned))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&["--ignored"]), [""; 0], "no test is ignored");
    names(&[])
}

/// Returns the newest test binary `name` beside this one.
fn sibling(name: &str) -> PathBuf {
    let me = env::current_exe().unwrap();
    let prefix = format!("{name}-");
    fs::read_dir(me.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension().is_none()
                && path.file_name().unwrap().to_str().unwrap().starts_with(&prefix)
        })
        .max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap())
        .unwrap_or_else(|| {
            panic!("the test binary `{name}` has not been built: run `cargo test -p twistor-tests`")
        })
}

#[test]
fn every_row_is_accounted_for() {
    let mut tested = BTreeSet::new();
    for name in listed(&env::current_exe().unwrap()).into_iter().chain(listed(&sibling("process")))
    {
        let found = ids(&name);
        assert!(found.len() <= 3, "{name} carries more than three ids");
        tested.extend(found);
    }
    let list = |name: &str| rows(&folder().join(name)).into_keys().collect::<BTreeSet<_>>();
    let (by_type, departures, pending) =
        (list("by_type.md"), list("departures.md"), list("pending.md"));
    let mut wrong = Vec::new();
    let mut known = BTreeSet::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let table = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if ["by_type", "departures", "pending"].contains(&table.as_str()) {
            continue;
        }
        let (mut counted, mut excused) = (0, 0);
        for (id, row) in rows(&path) {
            known.insert(id.clone());
            if row.contains("| na (") {
                continue;
            }
            counted += 1;
            let left_out = by_type.contains(&id) || departures.contains(&id);
            excused += usize::from(left_out);
            let places = [tested.contains(&id), left_out, pending.contains(&id)];
            match (places.iter().filter(|found| **found).count(), places) {
                (0, _) => wrong.push(format!("{id} of {table} is nowhere")),
                (_, [true, _, true]) => wrong.push(format!("{id} is tested and still pending")),
                (_, [_, true, true]) => wrong.push(format!("{id} is left out and pending")),
                _ => {}
            }
        }
        if excused * 100 > counted * allowed_share(&table) {
            wrong.push(format!(
                "{table}: {excused} of {counted} rows are left out by type or \
                depart, more than its share"
            ));
        }
    }
    for id in tested.iter().chain(&by_type).chain(&departures).chain(&pending) {
        if !known.contains(id) {
            wrong.push(format!("{id} is in no table"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
