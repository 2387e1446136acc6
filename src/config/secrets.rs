//! The secret that signs tokens: the one that was set, else one that chatd makes for this machine alone.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::domain::Secret;

use super::error::ConfigError;
use super::{Config, sources};

/// Random bytes of a secret of our own, twice as many characters in hex: HS512 would use 64, HS256 32.
const SECRET_BYTES: usize = 32;

/// The secret for HS256/384/512: `JWT_SECRET`, else `secrets/jwt` under the data folder, which is made
/// once (0600) where only this machine can reach the server. `None` where other keys verify the tokens
/// (`auth.jwt_public_key_file`, `auth.jwks_url`), so that nobody needs one.
///
/// # Errors
/// [`check`]'s; the file cannot be read or made, or holds less than a secret.
pub fn jwt_secret(config: &Config) -> Result<Option<Secret<String>>, ConfigError> {
    check(config)?;
    if let Some(secret) = &config.auth.jwt_secret {
        return Ok(Some(secret.clone()));
    }
    if config.auth.has_public_keys() {
        return Ok(None);
    }
    let path = own_secret_path(config);
    let wrong = |source| ConfigError::SecretFile { path: path.clone(), source };
    let secret = match sources::read_bounded(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(&path),
        read => read,
    };
    let secret = secret.map_err(wrong)?.trim_end().to_owned();
    if secret.len() < SECRET_BYTES {
        let sentence = "holds less than 32 bytes; remove it, and a new one is made (older tokens then fail)";
        return Err(wrong(io::Error::new(io::ErrorKind::InvalidData, sentence)));
    }
    Ok(Some(Secret::new(secret)))
}

/// Whether [`jwt_secret`] may go on, without making anything.
///
/// # Errors
/// Neither a secret nor another key is set, and others can reach the server.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    let has_key = config.auth.jwt_secret.is_some() || config.auth.has_public_keys();
    if has_key || config.http.is_loopback() {
        return Ok(());
    }
    Err(ConfigError::Refused(
        "JWT_SECRET is not set, and HOST lets others reach this server: set JWT_SECRET (make one with \
         `openssl rand -hex 32`), or auth.jwt_public_key_file, or listen on 127.0.0.1"
            .to_owned(),
    ))
}

/// Where chatd keeps a secret of its own.
pub fn own_secret_path(config: &Config) -> PathBuf {
    config.data.join("secrets").join("jwt")
}

/// Makes the secret, whole or not at all; of two processes that try at once both get the same one.
fn make(path: &Path) -> io::Result<String> {
    let folder = path.parent().unwrap_or(Path::new("."));
    if let Some(data) = folder.parent() {
        fs::create_dir_all(data)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let bytes: [u8; SECRET_BYTES] = rand::random();
    let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let unique: u64 = rand::random();
    let draft = folder.join(format!("jwt.{unique:016x}.tmp"));
    let written = write_new(&draft, &secret).and_then(|()| publish(&draft, path));
    // The draft may be gone already (renamed), or never have been made.
    fs::remove_file(&draft).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    written?;
    fs::File::open(folder)?.sync_all()?;
    sources::read_bounded(path)
}

fn write_new(draft: &Path, secret: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    writeln!(file, "{secret}")?;
    file.sync_all()
}

/// Gives the draft its name unless somebody was first. A link does that in one step; a file system without
/// links gets a rename.
fn publish(draft: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(draft, path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(_) => fs::rename(draft, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use std::os::unix::fs::PermissionsExt;

    fn secret(sources: &Sources) -> Result<Option<Secret<String>>, ConfigError> {
        jwt_secret(&Config::load(sources).unwrap())
    }

    #[test]
    fn a_loopback_server_makes_its_own_secret_once() {
        let folder = tempfile::tempdir().unwrap();
        let sources = Sources::new(folder.path().join("data"));
        let first = secret(&sources).unwrap().unwrap();
        assert_eq!(first.expose().len(), 2 * SECRET_BYTES);
        assert_eq!(secret(&sources).unwrap().unwrap(), first);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let path = folder.path().join("data/secrets/jwt");
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(secret(&Sources::new(other.path())).unwrap().unwrap(), first);
    }

    #[test]
    fn processes_that_start_at_once_agree() {
        let folder = tempfile::tempdir().unwrap();
        let sources = Sources::new(folder.path());
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let sources = sources.clone();
                std::thread::spawn(move || secret(&sources).unwrap().unwrap())
            })
            .collect();
        let made: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(made.iter().all(|secret| *secret == made[0]));
    }

    #[test]
    fn a_server_that_others_reach_needs_a_secret_that_was_set() {
        let folder = tempfile::tempdir().unwrap();
        let open = Sources::new(folder.path()).with("HOST", "0.0.0.0");
        assert!(secret(&open).unwrap_err().to_string().contains("set JWT_SECRET"));
        assert!(!folder.path().join("secrets").exists());
        let set = secret(&open.clone().with("JWT_SECRET", "s")).unwrap();
        assert_eq!(set.unwrap().expose(), "s");
        let pem = open.with("CHATD_AUTH__JWT_PUBLIC_KEY_FILE", "jwt.pem");
        assert_eq!(secret(&pem).unwrap(), None);
    }

    #[test]
    fn a_damaged_secret_is_told_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets/jwt");
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, "\n").unwrap();
        let error = secret(&Sources::new(folder.path())).unwrap_err().to_string();
        assert!(error.contains("secrets/jwt") && error.contains("less than 32 bytes"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "\n");
    }
}
