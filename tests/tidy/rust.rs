//! Rust's text as the rules need it: comments, texts and test code blanked out, line by line as before.

use std::collections::BTreeSet;

use super::tree::Tree;

/// The code of a file: every comment, string and character is blank, line ends stay.
pub fn code(text: &str) -> String {
    let source: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < source.len() {
        let end = end_of_opaque(&source, at);
        match end {
            Some(end) => {
                out.extend(source[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
                at = end;
            }
            None => {
                out.push(source[at]);
                at += 1;
            }
        }
    }
    out
}

/// Where the comment, string or character that begins at `at` ends; none where none begins.
fn end_of_opaque(source: &[char], at: usize) -> Option<usize> {
    let next = |n: usize| source.get(at + n).copied().unwrap_or(' ');
    let within_word = at > 0 && (source[at - 1].is_alphanumeric() || source[at - 1] == '_');
    match source[at] {
        '/' if next(1) == '/' => {
            Some(source[at..].iter().position(|&c| c == '\n').map_or(source.len(), |n| at + n))
        }
        '/' if next(1) == '*' => Some(end_of_block_comment(source, at)),
        '"' => Some(end_of_string(source, at + 1)),
        'b' | 'c' | 'r' if !within_word => {
            let prefix = source[at..].iter().take_while(|c| "bcr".contains(**c)).count();
            let hashes = source[at + prefix..].iter().take_while(|c| **c == '#').count();
            let raw = source[at..at + prefix].contains(&'r');
            (prefix <= 2 && next(prefix + hashes) == '"' && (raw || hashes == 0)).then(|| {
                let start = at + prefix + hashes + 1;
                if raw { end_of_raw_string(source, start, hashes) } else { end_of_string(source, start) }
            })
        }
        // `'a'` and `'\n'` are characters, `'a` is a lifetime.
        '\'' if next(1) == '\\' => source[at + 3..].iter().position(|&c| c == '\'').map(|n| at + 3 + n + 1),
        '\'' if next(2) == '\'' => Some(at + 3),
        _ => None,
    }
}

fn end_of_block_comment(source: &[char], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < source.len() {
        match (source[at], source.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => {
                (depth, at) = (depth - 1, at + 2);
                if depth == 0 {
                    break;
                }
            }
            _ => at += 1,
        }
    }
    at.min(source.len())
}

fn end_of_string(source: &[char], start: usize) -> usize {
    let mut at = start;
    while at < source.len() && source[at] != '"' {
        at += if source[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(source.len())
}

fn end_of_raw_string(source: &[char], start: usize, hashes: usize) -> usize {
    let closes = |at: usize| {
        source[at] == '"' && source.get(at + 1..=at + hashes).is_some_and(|c| c.iter().all(|c| *c == '#'))
    };
    (start..source.len()).find(|at| closes(*at)).map_or(source.len(), |at| at + 1 + hashes)
}

/// A word, `::`, or a single other character, with its line from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The text.
    pub text: String,
    /// The line.
    pub line: usize,
}

/// The tokens of what [`code`] returned.
pub fn tokens(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (line, text) in (1..).zip(code.lines()) {
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let length = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                word => word,
            };
            if !first.is_whitespace() {
                tokens.push(Token { text: rest[..length].to_owned(), line });
            }
            rest = &rest[length..];
        }
    }
    tokens
}

/// The tokens outside `#[cfg(test)]` items, and the names of the test modules that lie in files of their own.
pub fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut modules, mut at) = (Vec::new(), Vec::new(), 0);
    while at < tokens.len() {
        let marked = tokens[at..].iter().map(|token| token.text.as_str()).take(MARK.len()).eq(MARK);
        if !marked {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let end = end_of_item(tokens, at + MARK.len());
        let item: Vec<_> = tokens[at..end].iter().map(|token| token.text.as_str()).collect();
        if let [.., "mod", name, ";"] = item[..] {
            modules.push(name.to_owned());
        }
        at = end;
    }
    (kept, modules)
}

/// The end of an item: its `;` or closing brace, whichever comes first outside of other brackets.
fn end_of_item(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            // `use a::{b, c};` ends behind its braces.
            "}" if depth <= 1 => {
                let semicolon = tokens.get(at + 1).is_some_and(|token| token.text == ";");
                return at + 1 + usize::from(semicolon);
            }
            "}" => depth -= 1,
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// A file of `src` as it is built into the executable.
#[derive(Debug)]
pub struct Shipped {
    /// Its path, such as `src/storage/mod.rs`.
    pub path: String,
    /// Its module, such as `["storage"]`.
    pub module: Vec<String>,
    /// Its tokens without tests.
    pub tokens: Vec<Token>,
}

/// All of `src` without tests.
pub fn shipped(tree: &Tree) -> Vec<Shipped> {
    let mut tests: BTreeSet<Vec<String>> = BTreeSet::new();
    let mut files = Vec::new();
    for (path, text) in tree.rust("src/") {
        let module = module_of(path);
        let (tokens, modules) = without_tests(&tokens(&code(text)));
        tests.extend(modules.into_iter().map(|name| [module.clone(), vec![name]].concat()));
        // `#[path]` may give a file another name; then the name says that it holds tests.
        if !path.ends_with("_tests.rs") {
            files.push(Shipped { path: path.to_owned(), module, tokens });
        }
    }
    files.retain(|file| (1..=file.module.len()).all(|n| !tests.contains(&file.module[..n])));
    files
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are the module `a::b`.
fn module_of(path: &str) -> Vec<String> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs");
    let mut module: Vec<String> = path.split('/').map(str::to_owned).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        tokens(&code(text)).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_texts_and_characters_are_blank_and_lifetimes_are_not() {
        for text in [
            "a /* x /* y */ z */ b",
            "a // x\nb",
            "a \"x \\\" y // z\" b",
            "a r#\"x \" y\"# b",
            "a br\"x\\\" b",
            "a b\"x\" b",
            "a 'x' b",
            "a '\\'' b",
            "a '\"' b",
            "a '\\u{7f}' b",
        ] {
            assert_eq!(words(text), ["a", "b"], "{text}");
        }
        assert_eq!(words("&'a str"), ["&", "'", "a", "str"]);
        assert_eq!(words("bar(\"x\")"), ["bar", "(", ")"]);
        assert_eq!(words("r#type"), ["r", "#", "type"]);
    }

    #[test]
    fn lines_stay_where_they_are() {
        let found = tokens(&code("\"x\ny\"\n/*\n*/ a::b"));
        assert_eq!(found[0], Token { text: "a".into(), line: 4 });
        assert_eq!(found[1].text, "::");
    }

    #[test]
    fn tests_are_left_out_in_place_and_in_files_of_their_own() {
        let tree = Tree::of(&[
            (
                "src/a/mod.rs",
                "one #[cfg(test)] mod tests { fn f() { two } } three #[cfg(test)] use x::{y, z}; four
                 #[cfg(test)] #[path = \"p\"] pub(crate) mod cases;",
            ),
            ("src/a/cases.rs", "five"),
            ("src/a/cases/deep.rs", "six"),
            ("src/a/real.rs", "seven"),
        ]);
        let files = shipped(&tree);
        let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["src/a/mod.rs", "src/a/real.rs"]);
        let kept: Vec<_> = files[0].tokens.iter().map(|token| token.text.as_str()).collect();
        assert_eq!(kept, ["one", "three", "four"]);
        assert_eq!(files[1].module, ["a", "real"]);
    }
}
