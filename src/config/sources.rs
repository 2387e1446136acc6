//! What settings are read from. The one place that looks at the process's environment.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::layers;

/// The most that a configuration, `.env` or secret file may hold, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// As errors name it.
    pub name: String,
    /// Its TOML.
    pub text: String,
}

/// Everything that loading depends on; the same sources give the same settings.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The data folder (`--data`).
    pub data: PathBuf,
    /// The configuration file, where there is one.
    pub file: Option<SourceFile>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The text of `.env`, where there is one.
    pub dot_env: Option<String>,
    /// Reads the file that a `…_FILE` setting names.
    pub read: fn(&Path) -> io::Result<String>,
}

impl Sources {
    /// No file and no variables: everything is at its default.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into(), file: None, env: BTreeMap::new(), dot_env: None, read: read_bounded }
    }

    /// The same with a variable more.
    #[must_use]
    pub fn with(mut self, variable: &str, value: &str) -> Self {
        self.env.insert(variable.to_owned(), value.to_owned());
        self
    }

    /// The same with a configuration file.
    #[must_use]
    pub fn with_file(mut self, text: &str) -> Self {
        self.file = Some(SourceFile { name: "chatd.toml".to_owned(), text: text.to_owned() });
        self
    }

    /// Of this process: `--config`, else `CHATD_CONFIG`, else `./chatd.toml` where present; `./.env`.
    ///
    /// # Errors
    /// A file that is named or present but cannot be read, a variable of ours that is not UTF-8.
    pub fn of_process(data: &Path, config: Option<&Path>) -> Result<Self, ConfigError> {
        let mut sources = Self::new(data);
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| layers::is_ours(name)) else { continue };
            let value = value
                .into_string()
                .map_err(|_| ConfigError::Refused(format!("{name}: the value is not UTF-8; set it anew")))?;
            sources.env.insert(name.to_owned(), value);
        }
        let named = sources.env.get("CHATD_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
        sources.file = match config.map(Path::to_path_buf).or(named) {
            Some(path) => Some(source_file(&path, read_bounded(&path))?),
            None => present(Path::new("chatd.toml"))?,
        };
        sources.dot_env = present(Path::new(".env"))?.map(|file| file.text);
        Ok(sources)
    }
}

fn source_file(path: &Path, text: io::Result<String>) -> Result<SourceFile, ConfigError> {
    let text = text.map_err(|source| ConfigError::Unreadable { path: path.to_path_buf(), source })?;
    Ok(SourceFile { name: path.display().to_string(), text })
}

fn present(path: &Path) -> Result<Option<SourceFile>, ConfigError> {
    match read_bounded(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => source_file(path, text).map(Some),
    }
}

/// Reads a text file of at most 1 MiB.
pub(super) fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
    }
    Ok(text)
}
