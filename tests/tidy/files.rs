//! The shape of files, and words that no file holds.

use super::tree::Tree;

/// Longer files hold two things.
const LINES_MAX: usize = 400;
/// What is left for later; written apart, so that this file passes its own rule.
const FOR_LATER: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
/// Folders of one machine.
const MACHINE: [&str; 5] = [
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
    concat!("/tm", "p/wt"),
];
/// What other programs write.
const GENERATED: [&str; 1] = ["Cargo.lock"];

/// Rust files are short and begin with what they are.
pub fn shapes(tree: &Tree) -> Vec<String> {
    let mut violations = Vec::new();
    for (path, text) in tree.rust("") {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            violations.push(format!("{path}: {lines} lines, {LINES_MAX} at most"));
        }
        let first = text.lines().next().unwrap_or_default();
        if first.strip_prefix("//! ").is_none_or(|doc| doc.trim().is_empty()) {
            violations.push(format!("{path}:1: does not begin with `//! what it is`"));
        }
    }
    violations
}

/// Nothing is left for later, and nothing names a folder of one machine.
pub fn words(tree: &Tree) -> Vec<String> {
    let mut violations = Vec::new();
    for (path, text) in tree.0.iter().filter(|(path, _)| !GENERATED.contains(&path.as_str())) {
        for (number, line) in (1..).zip(text.lines()) {
            for word in FOR_LATER.into_iter().filter(|word| has_word(line, word)) {
                violations.push(format!("{path}:{number}: `{word}`: do it, or write an issue"));
            }
            for folder in MACHINE.into_iter().filter(|folder| has_folder(line, folder)) {
                violations.push(format!("{path}:{number}: `{folder}` is a folder of one machine"));
            }
        }
    }
    violations
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

/// The folder at the root of a file system; a folder of that name elsewhere is another.
fn has_folder(line: &str, folder: &str) -> bool {
    let before = line.match_indices(folder).map(|(at, _)| line[..at].chars().next_back());
    before.into_iter().any(|c| c.is_none_or(|c| !c.is_alphanumeric() && !"_-.~})*".contains(c)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_and_one_without_a_first_sentence_are_found() {
        let long = format!("//! Long.\n{}", "\n".repeat(LINES_MAX));
        assert_eq!(shapes(&Tree::of(&[("src/a.rs", &long)])).len(), 1);
        for text in ["", "use x;\n//! Late.", "//!\n", "/// Of the item.\n"] {
            assert_eq!(shapes(&Tree::of(&[("tests/a.rs", text)])).len(), 1, "{text}");
        }
        let just = format!("//! Just right.\n{}", "\n".repeat(LINES_MAX - 1));
        assert!(shapes(&Tree::of(&[("src/a.rs", &just), ("a.md", "")])).is_empty());
    }

    #[test]
    fn what_is_left_for_later_or_of_one_machine_is_found() {
        let later = FOR_LATER.map(|word| format!("x // {word}: later"));
        let machine = MACHINE.map(|folder| format!("see `{folder}x`"));
        for text in later.iter().chain(&machine) {
            let found = words(&Tree::of(&[("docs/a.md", text)]));
            assert_eq!(found.len(), 1, "{text}");
            assert!(found[0].starts_with("docs/a.md:1: "), "{found:?}");
        }
        let fine = format!("{}s, ~{}x, a{}x", FOR_LATER[0], MACHINE[1], MACHINE[2]);
        assert_eq!(words(&Tree::of(&[("docs/a.md", &fine)])), Vec::<String>::new());
    }
}
