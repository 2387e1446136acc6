//! The files of the repository, read into memory; rules are functions of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What holds no files of the repository: what is built, kept, downloaded, or belongs to an editor.
const SKIPPED: [&str; 6] = ["target", "data", ".git", ".stack", ".idea", ".vscode"];

/// Text files by their path from the root.
#[derive(Debug, Default)]
pub struct Tree(pub BTreeMap<String, String>);

impl Tree {
    /// The repository that this test was compiled from.
    pub fn of_this_repository() -> Self {
        let mut tree = Self::default();
        tree.read(Path::new(env!("CARGO_MANIFEST_DIR")), "");
        assert!(tree.0.contains_key("src/lib.rs"), "the repository is not where it was compiled");
        tree
    }

    /// A tree of these files, for tests of a rule.
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    /// The Rust files below a folder such as `src/`.
    pub fn rust(&self, below: &str) -> impl Iterator<Item = (&str, &str)> {
        let rust = self.0.iter().filter(move |(path, _)| path.starts_with(below) && path.ends_with(".rs"));
        rust.map(|(path, text)| (path.as_str(), text.as_str()))
    }

    fn read(&mut self, folder: &Path, prefix: &str) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if SKIPPED.contains(&name.as_str()) {
                continue;
            }
            let path = format!("{prefix}{name}");
            if entry.file_type().unwrap().is_dir() {
                self.read(&entry.path(), &format!("{path}/"));
            } else if let Ok(text) = fs::read_to_string(entry.path()) {
                // What is not UTF-8 is a picture or a key, and none of the rules' business.
                self.0.insert(path, text);
            }
        }
    }
}
