//! Dependencies: each says why it is here, and is used.

use super::rust::{code, shipped, tokens};
use super::tree::Tree;

/// Crates that are here for their features alone; no code names them.
const FOR_FEATURES: [&str; 1] = ["libsqlite3-sys"];

/// A line of a table of dependencies.
struct Dependency<'a> {
    name: &'a str,
    line: usize,
    has_reason: bool,
    for_tests: bool,
}

/// Every dependency has a reason at the end of its line, and its name stands in the code.
pub fn dependencies(tree: &Tree) -> Vec<String> {
    let manifest = tree.0.get("Cargo.toml").map_or("", String::as_str);
    let mut violations = Vec::new();
    let shipped: Vec<_> = shipped(tree).into_iter().flat_map(|file| file.tokens).collect();
    let all: Vec<_> = tree.rust("").flat_map(|(_, text)| tokens(&code(text))).collect();
    for Dependency { name, line, has_reason, for_tests } in listed(manifest) {
        if !has_reason {
            violations.push(format!("Cargo.toml:{line}: `{name}` has no `# reason` at its end"));
        }
        let word = name.replace('-', "_");
        let tokens = if for_tests { &all } else { &shipped };
        if !FOR_FEATURES.contains(&name) && !tokens.iter().any(|token| token.text == word) {
            violations.push(format!("Cargo.toml:{line}: `{name}` is not used"));
        }
    }
    violations
}

fn listed(manifest: &str) -> Vec<Dependency<'_>> {
    let mut section = "";
    let mut listed = Vec::new();
    for (line, text) in (1..).zip(manifest.lines()) {
        if text.starts_with('[') {
            section = text;
        } else if let Some((name, rest)) = text.split_once('=')
            && section.contains("dependencies")
            && !text.starts_with('#')
        {
            // A `#` in a value would stand in quotes, and no version or feature holds one.
            let has_reason = rest.rsplit_once('#').is_some_and(|(_, reason)| !reason.trim().is_empty());
            let for_tests = section.contains("dev-");
            listed.push(Dependency { name: name.trim(), line, has_reason, for_tests });
        }
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(manifest: &str, code: &str) -> Vec<String> {
        dependencies(&Tree::of(&[
            ("Cargo.toml", manifest),
            ("src/lib.rs", code),
            ("tests/t.rs", "use in_test::X;"),
        ]))
    }

    #[test]
    fn a_dependency_without_a_reason_or_a_use_is_found() {
        let manifest = "[dependencies]\nwith-dash = \"1\" # it does this\nbare = \"1\"\n";
        let lines = found(manifest, "use with_dash::A; fn f() { bare::b() }");
        assert_eq!(lines, ["Cargo.toml:3: `bare` has no `# reason` at its end"]);
        let unused =
            found("[dependencies]\nserde = \"1\" # data formats\n", "//! serde\nconst S: &str = \"serde\";");
        assert_eq!(unused, ["Cargo.toml:2: `serde` is not used"]);
    }

    #[test]
    fn a_dependency_that_only_tests_use_belongs_to_the_tests() {
        let line = "in-test = \"1\" # it does this\n";
        assert_eq!(found(&format!("[dependencies]\n{line}"), "").len(), 1);
        assert!(found(&format!("[dev-dependencies]\n{line}"), "").is_empty());
        assert_eq!(found("[dev-dependencies]\nother = \"1\" # it does this\n", "").len(), 1);
    }
}
