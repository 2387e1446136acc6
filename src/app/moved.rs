//! The mark in a data folder whose history was moved elsewhere: nobody starts a server on it again by mistake, and
//! so makes a second history under the same name.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::backends::OpenError;
use crate::config::{Config, StorageBackend};
use crate::domain::Timestamp;

const FILE: &str = "moved";
/// The mark is one line.
const BYTES_MAX: u64 = 4_096;

/// Refuses embedded storage whose history lives elsewhere by now.
///
/// # Errors
/// It was moved, or the mark cannot be read.
pub fn refuse(config: &Config) -> Result<(), OpenError> {
    if matches!(config.database.backend, StorageBackend::Postgres { .. }) {
        return Ok(());
    }
    let path = path(config);
    match read(&path) {
        Ok(what) => Err(OpenError::Moved { what, path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // The folder itself is a file: whoever opens it says so.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(()),
        Err(source) => Err(OpenError::Data { path: path.display().to_string(), source }),
    }
}

/// Sets the mark: the history lives in `database` (a name without credentials) from now on.
///
/// # Errors
/// The file cannot be written.
pub fn mark(config: &Config, database: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path(config))?;
    writeln!(file, "moved to {database} at {}", Timestamp::now())?;
    file.sync_all()?;
    File::open(&config.data)?.sync_all()
}

fn path(config: &Config) -> PathBuf {
    config.data.join(FILE)
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(BYTES_MAX).read_to_string(&mut text)?;
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    #[test]
    fn a_folder_that_was_moved_is_for_nobody_until_the_mark_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::load(&Sources::new(folder.path())).unwrap();
        refuse(&config).unwrap();
        mark(&config, "db:5432/chat").unwrap();
        let sentence = refuse(&config).unwrap_err().to_string();
        assert!(sentence.contains("moved to db:5432/chat at 20"), "{sentence}");
        let elsewhere = Sources::new(folder.path()).with("DATABASE_URL", "postgres://u:p@db/chat");
        refuse(&Config::load(&elsewhere).unwrap()).unwrap();
        std::fs::remove_file(folder.path().join("moved")).unwrap();
        refuse(&config).unwrap();
    }
}
