//! Documents: each is found from the README on, and no link leads nowhere.

use std::collections::{BTreeSet, VecDeque};

use super::tree::Tree;

/// Every file in `docs/` is reached from the README; relative links, with their headings, resolve.
pub fn links(tree: &Tree) -> Vec<String> {
    let mut violations = Vec::new();
    let documents = tree.0.iter().filter(|(path, _)| path.ends_with(".md"));
    for (path, text) in documents {
        for Link { target, line } in links_of(text) {
            if let Err(what) = follow(tree, path, target) {
                violations.push(format!("{path}:{line}: {what}"));
            }
        }
    }
    let reached = reached(tree);
    let lost = tree.0.keys().filter(|path| path.starts_with("docs/") && !reached.contains(*path));
    violations.extend(lost.map(|path| format!("{path}: no document links to it, from README.md on")));
    violations
}

struct Link<'a> {
    target: &'a str,
    line: usize,
}

/// `[text](target)` outside of code.
fn links_of(text: &str) -> Vec<Link<'_>> {
    let mut links = Vec::new();
    let mut fenced = false;
    for (line, text) in (1..).zip(text.lines()) {
        fenced ^= text.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        // A link within backquotes is code; one whose text is code is a link.
        for (at, _) in text.match_indices("](") {
            let target = &text[at + 2..];
            let opening = text[..at].rfind('[').unwrap_or(0);
            if text[..opening].matches('`').count() % 2 == 0 {
                links.push(Link { target: &target[..target.find([')', ' ']).unwrap_or(target.len())], line });
            }
        }
    }
    links
}

/// Where a link leads: a path from the root, or none for the web.
fn resolve(from: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let file = target.split('#').next().unwrap_or_default();
    if file.is_empty() {
        return Some(from.to_owned());
    }
    let mut path: Vec<&str> = from.split('/').collect();
    path.pop();
    for part in file.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(path.pop()),
            part => path.push(part),
        }
    }
    Some(path.join("/"))
}

fn follow(tree: &Tree, from: &str, target: &str) -> Result<(), String> {
    let Some(path) = resolve(from, target) else { return Ok(()) };
    let folder = format!("{path}/");
    let Some(text) = tree.0.get(&path) else {
        let is_folder = path.is_empty() || tree.0.keys().any(|file| file.starts_with(&folder));
        return if is_folder { Ok(()) } else { Err(format!("`{target}` leads nowhere")) };
    };
    match target.split_once('#') {
        Some((_, heading)) if path.ends_with(".md") && !headings(text).contains(heading) => {
            Err(format!("`{target}`: {path} has no such heading"))
        }
        _ => Ok(()),
    }
}

/// Headings as links name them: in lower case, spaces as hyphens, without other signs.
fn headings(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| line.starts_with('#'));
    let slug = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        title.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
    };
    lines.map(slug).collect()
}

fn reached(tree: &Tree) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut next = VecDeque::from(["README.md".to_owned()]);
    while let Some(path) = next.pop_front() {
        let Some(text) = tree.0.get(&path) else { continue };
        if reached.insert(path.clone()) && path.ends_with(".md") {
            next.extend(links_of(text).into_iter().filter_map(|link| resolve(&path, link.target)));
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        links(&Tree::of(files))
    }

    #[test]
    fn a_document_that_nobody_links_to_is_found() {
        let files = [("README.md", "[a](docs/a.md)"), ("docs/a.md", "[b](b.md)"), ("docs/b.md", "")];
        assert!(found(&files).is_empty());
        assert_eq!(found(&files[..2]), ["docs/a.md:1: `b.md` leads nowhere"]);
        let lost = [("README.md", ""), ("docs/a.md", "[a](a.md)")];
        assert_eq!(found(&lost), ["docs/a.md: no document links to it, from README.md on"]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found_with_its_line() {
        let read_me = "# The *Map* of `it`\n\n[x](docs/x.md#other) and [`y`](none.md)\n\
                       [here](#the-map-of-it) [web](https://example.com/x) [up](docs/../README.md) [src](src/)";
        let files = [("README.md", read_me), ("docs/x.md", "## One"), ("src/a.rs", "")];
        assert_eq!(
            found(&files),
            [
                "README.md:3: `docs/x.md#other`: docs/x.md has no such heading",
                "README.md:3: `none.md` leads nowhere"
            ]
        );
        let code = [("README.md", "`[x](none.md)`\n```\n[x](none.md)\n```\n")];
        assert!(found(&code).is_empty());
    }
}
