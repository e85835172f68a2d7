//! Tests that the modules of engine-core are floors: each uses only modules of lower floors. The test reads the sources.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The top modules, from the lowest floor to the highest. A module may use only those before it in this list.
const FLOORS: &[&[&str]] = &[
    // 0: vocabulary.
    &[
        "error", "limits", "outcome", "logs", "cancel", "per_cpu", "budget", "priority", "threads",
    ],
    // 1: what sandboxes are made of.
    &["calls", "contract", "memory", "start"],
    // 2: what a guest can reach, and what a module is.
    &["sandbox", "wasm"],
    // 3: the traits of engines, and what is known of Go programs.
    &["go", "backend"],
    // 4: from bytes to a module that is ready.
    &["artifacts", "module"],
    // 5: how sandboxes start elsewhere than at the beginning.
    &["snapshot"],
    // 6: the facade.
    &["engine"],
];

/// Modules of tests, which may use everything.
const OF_TESTS: &[&str] = &["fake"];

#[test]
fn every_arrow_points_down() {
    let order: Vec<&str> = FLOORS
        .iter()
        .flat_map(|floor| floor.iter().copied())
        .collect();
    let mut upward = BTreeMap::new();
    for (module, file, text) in sources() {
        if OF_TESTS.contains(&module.as_str()) || module == "lib" {
            continue;
        }
        let Some(at) = order.iter().position(|name| *name == module) else {
            panic!("{module} is on no floor; add it to FLOORS, above everything that it uses");
        };
        for (line, used) in used(&text) {
            let below = order.iter().position(|name| *name == used);
            if used != module && below.is_none_or(|below| below > at) {
                upward.insert(
                    format!("{}:{line}", file.display()),
                    format!("{module} uses {used}"),
                );
            }
        }
    }
    assert!(
        upward.is_empty(),
        "these modules use modules above them; move the used code down, or the code that uses it up:\n{upward:#?}"
    );
}

#[test]
fn the_list_names_every_module() {
    let mut found: Vec<_> = sources().into_iter().map(|(module, _, _)| module).collect();
    found.sort();
    found.dedup();
    let listed = FLOORS.iter().flat_map(|floor| floor.iter()).chain(OF_TESTS);
    for name in listed {
        assert!(
            found.iter().any(|module| module == name),
            "there is no module {name}"
        );
    }
}

#[test]
fn a_use_is_found_wherever_it_is_written() {
    let text = "use crate::wasm::{Form, Wasm};\n// crate::engine is a comment\nlet x = crate::memory::PAGE;\n\
                use crate::{limits, Error};\n#[cfg(test)]\nmod tests {\n    use crate::engine::Engine;\n}\n";
    let found: Vec<_> = used(text).into_iter().collect();
    assert_eq!(
        found,
        [
            (1, "wasm".to_owned()),
            (3, "memory".to_owned()),
            (4, "limits".to_owned()),
            (4, "error".to_owned())
        ]
    );
}

/// The top modules that a file uses, with the lines: `crate::name` outside of comments and of tests.
fn used(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("#[cfg(test)]") && text_is_test_module(text, index) {
            break;
        }
        let code = line.split("//").next().unwrap_or_default();
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            let names: Vec<&str> = match rest.strip_prefix('{') {
                Some(list) => list
                    .split(['}', ';'])
                    .next()
                    .unwrap_or_default()
                    .split(',')
                    .collect(),
                None => vec![rest],
            };
            for name in names {
                let name: String = name
                    .trim()
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                if !name.is_empty() {
                    found.push((index + 1, home(&name)));
                }
            }
        }
    }
    found
}

/// Whether the attribute in this line begins the tests at the end of a file.
fn text_is_test_module(text: &str, line: usize) -> bool {
    text.lines()
        .nth(line + 1)
        .is_some_and(|next| next.starts_with("mod tests"))
}

/// The module of a name that the crate's root re-exports.
fn home(name: &str) -> String {
    match name {
        "Error" | "ErrorKind" | "Result" => "error",
        "SandboxLimits" | "PAGE" => "limits",
        "Call" | "Interrupt" | "Interruption" | "Permit" => "calls",
        "HostState" | "Stop" | "Program" | "for_each_hostcall" => "sandbox",
        "CodeSource" | "Split" => "module",
        "GuestExit" | "Outcome" | "Trap" | "TrapCode" => "outcome",
        other => other,
    }
    .to_owned()
}

/// Every source file except those of tests: its top module, its path and its text.
fn sources() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut directories = vec![src.clone()];
    let mut found = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of sources") {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                if name != "tests" {
                    directories.push(path);
                }
                continue;
            }
            if !name.ends_with(".rs")
                || matches!(name.as_str(), "tests.rs" | "testing.rs" | "differential.rs")
            {
                continue;
            }
            let relative = path.strip_prefix(&src).expect("a path below src");
            let top = relative
                .components()
                .next()
                .expect("a name")
                .as_os_str()
                .to_string_lossy();
            let module = top.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).expect("a source file");
            found.push((module, path, text));
        }
    }
    found
}
