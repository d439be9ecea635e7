//! Expands the guide's chapters for the documentation tests of `lib.rs`.
//!
//! A chapter shows a part of a listing with mdbook's `{{#include ../listings/NAME.rs:REGION}}`, or
//! all of it without a region. A region lies between `// ANCHOR: REGION` and `// ANCHOR_END:
//! REGION`.
use std::{env, fmt::Write as _, fs, path::Path};

fn main() {
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let guide = Path::new(&here).join("../guide/src");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    println!("cargo::rerun-if-changed=../guide");
    let mut chapters: Vec<_> = fs::read_dir(&guide)
        .expect("the guide is beside the tests")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| {
            path.extension().is_some_and(|ext| ext == "md")
                && path.file_stem().is_some_and(|stem| stem != "SUMMARY")
        })
        .collect();
    chapters.sort();
    let mut modules = String::new();
    for chapter in chapters {
        let name = chapter
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("a chapter's name is text")
            .replace('-', "_");
        let text = expand(&fs::read_to_string(&chapter).expect("a chapter is text"), &guide);
        writeln!(modules, "#[doc = {text:?}]\npub mod {name} {{}}").expect("a string takes all");
    }
    fs::write(Path::new(&out).join("guide.rs"), modules).expect("OUT_DIR is writable");
}

fn expand(text: &str, guide: &Path) -> String {
    let mut out = String::new();
    for line in text.lines() {
        if let Some(include) =
            line.trim().strip_prefix("{{#include ").and_then(|rest| rest.strip_suffix("}}"))
        {
            out.push_str(&included(include, guide));
        } else {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

fn included(include: &str, guide: &Path) -> String {
    let (file, region) = match include.split_once(':') {
        Some((file, region)) => (file, Some(region)),
        None => (include, None),
    };
    let text =
        fs::read_to_string(guide.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut out = String::new();
    let mut inside = region.is_none();
    for line in text.lines() {
        let mark = line.trim();
        if let Some(name) = mark.strip_prefix("// ANCHOR: ") {
            inside |= Some(name) == region;
        } else if let Some(name) = mark.strip_prefix("// ANCHOR_END: ") {
            inside &= Some(name) != region;
        } else if inside {
            out.push_str(line);
            out.push('\n');
        }
    }
    assert!(!out.is_empty(), "{file} has no region {region:?}");
    out
}
