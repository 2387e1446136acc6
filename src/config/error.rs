//! What can be wrong with the settings, each with its place and a sentence that says what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nothing sets it.
    Default,
    /// The configuration file; line and column count from 1.
    File {
        /// The file as it was named.
        name: String,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// A variable of the environment.
    Variable(String),
    /// A variable in `.env`.
    DotEnv {
        /// The variable.
        variable: String,
        /// Line in `.env`, from 1.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Self::Variable(name) => f.write_str(name),
            Self::DotEnv { variable, line } => write!(f, ".env:{line}: {variable}"),
        }
    }
}

/// One thing that is wrong: `chatd.toml:3:1: unknown key …, did you mean `…`?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its place; `Default` where it is about something that is missing.
    pub origin: Origin,
    /// What is wrong and what to set; never holds a secret.
    pub sentence: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Default => f.write_str(&self.sentence),
            origin => write!(f, "{origin}: {}", self.sentence),
        }
    }
}

/// Why there is no usable configuration; the process exits 78.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The named file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Everything that is wrong, not only the first.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
    /// The settings are well-formed, but not enough for what was asked; the sentence says what to set.
    #[error("{0}")]
    Refused(String),
    /// The secret that chatd made for itself cannot be kept or read.
    #[error("cannot use the token secret in {}: {source}; or set JWT_SECRET", path.display())]
    SecretFile {
        /// The file under the data folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}
