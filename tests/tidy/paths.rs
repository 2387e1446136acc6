//! The paths that a file names, from the root of the crate on.

use super::rust::{Shipped, Token};

/// A path with its line: `["storage", "sqlite", "SqliteStore"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The names.
    pub path: Vec<String>,
    /// The line, from 1.
    pub line: usize,
}

impl Named {
    /// Whether it leads to this module or something in it.
    pub fn within(&self, module: &[&str]) -> bool {
        self.path.len() >= module.len() && self.path.iter().zip(module).all(|(a, b)| a == b)
    }
}

/// Every path that begins with `crate`, `self`, `super` or, in the executable, `chatd`; and those of `use`
/// without such a beginning, as if they began with `self`. Braces become a path for each of their names.
pub fn named(file: &Shipped) -> Vec<Named> {
    let tokens = &file.tokens;
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut module = file.module.clone();
    // Modules written in place, each with the depth of braces that it ends at.
    let (mut depth, mut inner) = (0, Vec::new());
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let previous = if at == 0 { "" } else { text(at - 1) };
        let root = match text(at) {
            "{" => {
                depth += 1;
                if at >= 2 && text(at - 2) == "mod" {
                    inner.push(depth);
                    module.push(previous.to_owned());
                }
                continue;
            }
            "}" => {
                if inner.last() == Some(&depth) {
                    inner.pop();
                    module.pop();
                }
                depth -= 1;
                continue;
            }
            "crate" if previous != "::" => Vec::new(),
            "chatd" if previous != "::" && file.path == "src/main.rs" => Vec::new(),
            "self" if previous != "::" => module.clone(),
            "super" if previous != "::" => module[..module.len().saturating_sub(1)].to_vec(),
            _ if previous == "use" => {
                collect(tokens, at, &module, &mut found);
                continue;
            }
            _ => continue,
        };
        if text(at + 1) == "::" {
            collect(tokens, at + 2, &root, &mut found);
        }
    }
    found
}

/// Reads one path at `at`, with `root` before it; returns where it ends.
fn collect(tokens: &[Token], mut at: usize, root: &[String], found: &mut Vec<Named>) -> usize {
    let mut path = root.to_vec();
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let line = tokens.get(at).map_or(0, |token| token.line);
    loop {
        match text(at) {
            "{" => {
                at += 1;
                while !matches!(text(at), "}" | "") {
                    at = collect(tokens, at, &path, found);
                    // `as name` and the comma.
                    while !matches!(text(at), "," | "}" | "") {
                        at += 1;
                    }
                    at += usize::from(text(at) == ",");
                }
                return at + 1;
            }
            "super" => drop(path.pop()),
            "crate" | "self" => {}
            name if name.starts_with(|c: char| c.is_alphanumeric() || c == '_') => path.push(name.to_owned()),
            _ => break,
        }
        at += 1;
        if text(at) != "::" {
            break;
        }
        at += 1;
    }
    found.push(Named { path, line });
    at
}

#[cfg(test)]
mod tests {
    use super::super::rust::shipped;
    use super::super::tree::Tree;
    use super::*;

    fn paths(path: &str, text: &str) -> Vec<String> {
        let files = shipped(&Tree::of(&[(path, text)]));
        named(&files[0]).into_iter().map(|named| named.path.join("::")).collect()
    }

    #[test]
    fn braces_and_relative_paths_are_followed() {
        let text = "use crate::{a::{self, B as C}, d::*}; fn f() { crate::g::h::<crate::i::J>(); }";
        assert_eq!(paths("src/x/y.rs", text), ["a", "a::B", "d", "g::h", "i::J"]);
        assert_eq!(paths("src/x/y.rs", "use super::super::z::Q;"), ["z::Q"]);
        assert_eq!(
            paths("src/x/mod.rs", "use super::z::Q; use self::a::B; use a::C;"),
            ["z::Q", "x::a::B", "x::a::C"]
        );
        assert_eq!(paths("src/x/y.rs", "pub(crate) fn f(self) { $crate::a::b!() }"), ["a::b"]);
        assert_eq!(paths("src/main.rs", "chatd::cli::main()"), ["cli::main"]);
        assert_eq!(paths("src/x/mod.rs", "mod y { use super::super::z; } use super::w;"), ["z", "w"]);
    }
}
