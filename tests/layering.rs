//! The layers of `ARCHITECTURE.md`, compared with the `crate::` and `super::` paths of the code.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A file's position: its layer, its row in the table, and the files it may import inside its
/// layer, where the table names them.
#[derive(Debug, Clone)]
struct Place {
    layer: u32,
    row: usize,
    only: Option<Vec<String>>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// `defer/{chain,list}.rs` names two files.
fn expand(pattern: &str) -> Vec<String> {
    match (pattern.find('{'), pattern.find('}')) {
        (Some(open), Some(close)) => pattern[open + 1..close]
            .split(',')
            .map(|name| format!("{}{name}{}", &pattern[..open], &pattern[close + 1..]))
            .collect(),
        _ => vec![pattern.to_owned()],
    }
}

fn table() -> BTreeMap<String, Place> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let block = text
        .split("```text\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("the table of layers");
    let mut places = BTreeMap::new();
    for (row, line) in block.lines().enumerate() {
        let (layer, rest) = line.split_once(' ').expect("a layer and its files");
        let only = rest
            .split_once('<')
            .map(|(_, names)| names.split(',').map(|name| name.trim().to_owned()).collect());
        let place = Place { layer: layer.parse().expect("the number of a layer"), row, only };
        for file in expand(rest.split_whitespace().next().expect("a file")) {
            places.insert(file, place.clone());
        }
    }
    places
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Returns the `crate::..` and `super::..` paths in a file, with braces expanded:
/// `crate::defer::{Slot, run}` gives two. A module of tests, which ends a file, does not count.
fn paths(text: &str) -> Vec<String> {
    let code: String = text
        .lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            // `$crate::` and `pub(crate)` are not imports; `self::super::` does not occur
            if !code[..at].ends_with(['$', ':', '_']) {
                read(&code[at..], "", &mut found);
            }
        }
    }
    found
}

/// Parses one path, or a tree of them, and returns its length.
fn read(code: &str, prefix: &str, found: &mut Vec<String>) -> usize {
    let word = code
        .find(|letter: char| !(letter.is_alphanumeric() || letter == '_' || letter == ':'))
        .unwrap_or(code.len());
    let path = format!("{prefix}{}", &code[..word]);
    if !path.ends_with("::") || !code[word..].starts_with('{') {
        found.push(path);
        return word;
    }
    let mut at = word + 1;
    while !code[at..].starts_with('}') {
        let skipped = code[at..]
            .find(|letter: char| !letter.is_whitespace() && letter != ',')
            .expect("a closed brace");
        at += skipped;
        if code[at..].starts_with('}') {
            break;
        }
        at += read(&code[at..], &path, found).max(1);
    }
    at + 1
}

/// Returns the file that a path leads to; `None` for names that only a `mod.rs` defines.
fn file_of(
    path: &str,
    from: &str,
    places: &BTreeMap<String, Place>,
    reexports: &BTreeMap<String, String>,
) -> Option<String> {
    let mut parts: Vec<&str> = path.split("::").filter(|part| !part.is_empty()).collect();
    let folder = from.rsplit_once('/').map(|(folder, _)| folder);
    if parts.first() == Some(&"super") {
        parts[0] = "crate";
        if let Some(folder) = folder {
            parts.insert(1, folder);
        }
    }
    let file = |parts: &[&str]| {
        Some(format!("{}.rs", parts.join("/"))).filter(|file| places.contains_key(file))
    };
    let named = parts.get(1..3).and_then(file).or_else(|| parts.get(1..2).and_then(file));
    named.or_else(|| reexports.get(&parts.get(1..3)?.join("::")).cloned())
}

/// Returns what each `mod.rs` re-exports, and from where: `defer::Slot` is in `defer/chain.rs`.
fn reexports(source: &Path) -> BTreeMap<String, String> {
    let mut known = BTreeMap::new();
    for entry in fs::read_dir(source).expect("the sources") {
        let folder = entry.expect("an entry").path();
        let Ok(text) = fs::read_to_string(folder.join("mod.rs")) else { continue };
        let name = folder.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        for statement in text.split(';').filter_map(|part| part.split(" use ").nth(1)) {
            let mut found = Vec::new();
            read(statement.trim(), "", &mut found);
            for path in found {
                if let [module, item] = path.split("::").collect::<Vec<_>>()[..] {
                    known.insert(format!("{name}::{item}"), format!("{name}/{module}.rs"));
                }
            }
        }
    }
    known
}

/// Returns the imports between files: the graph that must have no cycles.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let (source, places) = (root().join("runtime/src"), table());
    let reexports = reexports(&source);
    let mut all = Vec::new();
    files(&source, &mut all);
    let mut graph = BTreeMap::new();
    for path in all {
        let file = path.strip_prefix(&source).expect("below").to_str().expect("a name").to_owned();
        if file.ends_with("mod.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source");
        let to = paths(&text)
            .iter()
            .filter_map(|import| file_of(import, &file, &places, &reexports))
            .filter(|to| *to != file && places.contains_key(to))
            .collect();
        graph.insert(file, to);
    }
    graph
}

/// Returns all files that can be reached from `from` along imports.
fn reached(graph: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut next = vec![from.to_owned()];
    while let Some(file) = next.pop() {
        for to in graph.get(&file).into_iter().flatten() {
            if found.insert(to.clone()) {
                next.push(to.clone());
            }
        }
    }
    found
}

#[test]
fn the_one_cycle_of_imports_is_the_one_that_architecture_md_gives_a_reason_for() {
    let graph = imports();
    let in_a_cycle: Vec<_> =
        graph.keys().filter(|file| reached(&graph, file).contains(*file)).cloned().collect();
    let wanted = ["protocol/connection.rs", "protocol/handle.rs", "protocol/protocol.rs"];
    assert_eq!(in_a_cycle, wanted);
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let reason = text.lines().find(|line| line.contains("`protocol` ⇄ `handle` ⇄ `connection`"));
    assert!(reason.is_some(), "ARCHITECTURE.md does not name it");
}

/// Returns the block after `title` in ARCHITECTURE.md.
fn section(title: &str) -> String {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let rest = text.split(title).nth(1).unwrap_or_else(|| panic!("no section {title}"));
    rest.split("\n## ").next().expect("its text").to_owned()
}

#[test]
fn the_four_paths_name_files_that_exist_and_lib_rs_has_the_same() {
    let section = section("## The four paths");
    let paths = section.split("```text\n").nth(1).and_then(|rest| rest.split("```").next());
    let paths: Vec<_> = paths.expect("the paths").lines().collect();
    assert_eq!(paths.len(), 4);
    let lib = fs::read_to_string(root().join("runtime/src/lib.rs")).expect("lib.rs");
    let places = table();
    for path in paths {
        assert!(lib.contains(&format!("//! {path}\n")), "lib.rs lacks: {path}");
        let files = path.split_whitespace().filter(|word| word.contains('/'));
        for file in files.map(|word| word.trim_matches(|c| c == '(' || c == ')')) {
            assert!(places.contains_key(&format!("{file}.rs")), "{file} of `{path}` is no file");
        }
    }
}

#[test]
fn the_places_where_user_code_is_entered_are_the_ones_that_are_marked() {
    let source = root().join("runtime/src");
    let mut all = Vec::new();
    files(&source, &mut all);
    let marked: BTreeSet<_> = all
        .into_iter()
        .filter(|path| fs::read_to_string(path).expect("a source").contains("// user code"))
        .map(|path| path.strip_prefix(&source).expect("below").to_str().expect("a name").to_owned())
        .collect();
    let section = section("## Where user code is entered");
    let listed: BTreeSet<_> = section
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "rs"))
        .flat_map(expand)
        .collect();
    assert_eq!(listed, marked);
}

#[test]
fn every_file_imports_downwards_and_has_its_row() {
    let (source, places) = (root().join("runtime/src"), table());
    let reexports = reexports(&source);
    let mut all = Vec::new();
    files(&source, &mut all);
    let mut wrong = Vec::new();
    let mut checked = 0;
    for path in all {
        let file = path
            .strip_prefix(&source)
            .expect("below the sources")
            .to_str()
            .expect("a name")
            .to_owned();
        if file.ends_with("mod.rs") {
            continue;
        }
        let Some(place) = places.get(&file) else {
            wrong.push(format!("{file} has no row in ARCHITECTURE.md"));
            continue;
        };
        for import in paths(&fs::read_to_string(&path).expect("a source")) {
            let Some(to) = file_of(&import, &file, &places, &reexports) else { continue };
            let Some(other) = places.get(&to) else { continue };
            checked += 1;
            let inside = other.layer == place.layer;
            let stem = to.rsplit('/').next().unwrap_or(&to).trim_end_matches(".rs").to_owned();
            let allowed = other.layer < place.layer
                || inside
                    && other.row <= place.row
                    && place.only.as_ref().is_none_or(|only| to == file || only.contains(&stem));
            if !allowed {
                wrong.push(format!(
                    "{file} (layer {}) imports {to} (layer {}) as `{import}`",
                    place.layer, other.layer
                ));
            }
        }
    }
    assert!(checked > 100, "the paths are found: {checked}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_row_has_its_file() {
    let source = root().join("runtime/src");
    let gone: Vec<_> = table().into_keys().filter(|file| !source.join(file).exists()).collect();
    assert_eq!(gone, [""; 0]);
}

#[test]
fn unsafe_code_stands_in_one_file() {
    let source = root().join("runtime/src");
    let mut all = Vec::new();
    files(&source, &mut all);
    let with: Vec<_> = all
        .into_iter()
        .filter(|path| fs::read_to_string(path).expect("a source").contains("unsafe {"))
        .map(|path| path.strip_prefix(&source).expect("below").to_str().expect("a name").to_owned())
        .collect();
    assert_eq!(with, ["coroutine/cell.rs"]);
}
