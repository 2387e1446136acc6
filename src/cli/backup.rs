//! `chatd backup DIR`: a consistent copy of a server's files, also of a running one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::app::open::{self, Copies};
use crate::config::{Config, secrets};

use super::{CliError, Exit, output};

/// Arguments of `chatd backup`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder for the copy; it is made, and must be empty where it exists
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// Copies the database, then the log, then the secrets. The folder is a data folder like the one that was
/// copied; where something fails it is left empty.
///
/// # Errors
/// The folder cannot be used (2), there is no database (78), a file cannot be read or written, or the copies do
/// not belong together (1).
pub async fn run(args: &Args, config: &Config) -> Result<(), CliError> {
    let dir = &args.dir;
    let made = prepare(dir).map_err(|sentence| CliError::new(Exit::Usage, sentence))?;
    let copied = open::backup(config, dir).map_err(CliError::from).and_then(|copies| {
        let secrets = copy_secrets(config, dir).map_err(|error| {
            CliError::new(Exit::Fault, format!("the secrets were not backed up: {error}"))
        })?;
        Ok((copies, secrets))
    });
    match copied {
        Ok((copies, secrets)) => output::print(&told(config, dir, &copies, secrets)),
        Err(error) => {
            discard(dir, made);
            Err(error)
        }
    }
}

/// Makes the folder for the owner alone, or finds it empty. Returns whether it was made.
fn prepare(dir: &Path) -> Result<bool, String> {
    let name = dir.display();
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(false),
            Some(_) => Err(format!("{name} is not empty: name a new folder for the backup")),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.map(|()| true).map_err(|error| format!("cannot make the folder {name}: {error}"))
        }
        Err(error) => Err(format!("{name} is no folder for a backup: {error}")),
    }
}

/// Removes what a backup that failed has left. The folder was empty before, so all in it is ours.
fn discard(dir: &Path, made: bool) {
    // The failure that led here is the one to tell.
    for name in ["chatd.db", "log.db"] {
        let _ = fs::remove_file(dir.join(name));
    }
    let _ = fs::remove_dir_all(dir.join("secrets"));
    if made {
        let _ = fs::remove_dir(dir);
    }
}

/// Copies the files of `secrets/` (0600), so that tokens and whatever else they sign stay valid. Returns
/// whether there were any.
fn copy_secrets(config: &Config, dir: &Path) -> io::Result<bool> {
    let source = secrets::own_secret_path(config);
    let Some(source) = source.parent().filter(|folder| folder.exists()) else { return Ok(false) };
    let target = dir.join("secrets");
    DirBuilder::new().mode(0o700).create(&target)?;
    for entry in fs::read_dir(source)? {
        let path = entry?.path();
        // What another process is just making has not got its name yet.
        let draft = path.extension().is_some_and(|extension| extension == "tmp");
        let (Some(name), true) = (path.file_name(), path.is_file() && !draft) else { continue };
        let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target.join(name))?;
        copy.write_all(&fs::read(&path)?)?;
        copy.sync_all()?;
    }
    File::open(&target)?.sync_all()?;
    File::open(dir)?.sync_all()?;
    Ok(true)
}

fn told(config: &Config, dir: &Path, copies: &Copies, secrets: bool) -> String {
    // Without a slash at the end, to which `.old` would be added.
    let plain = |path: &Path| path.components().as_path().display().to_string();
    let (data, dir) = (plain(&config.data), plain(dir));
    let mut out = format!("Backed up to {dir}:\n");
    let mut row = |name: &str, what: String| out.push_str(&format!("  {name:<10} {what}\n"));
    row("chatd.db", format!("users and history, of {}", copies.storage.0.display()));
    match &copies.log {
        Some((source, _)) => row("log.db", format!("the message log, of {}", source.display())),
        None => row("log.db", "is not there yet, as no server has run".to_owned()),
    }
    if secrets {
        row("secrets/", "what tokens are signed with: keep the folder to yourself".to_owned());
    }
    out.push_str(&format!(
        "\nTo restore: stop the server, move {data} away, and put a copy of this folder in its place:\n  \
         mv {data} {data}.old && cp -a {dir} {data}\nClients read their history again by themselves. \
         Captured mails, .env, chatd.toml and variables such as JWT_SECRET are not in it.\n"
    ));
    let (default, database) = (config.data.join("chatd.db"), &copies.storage.0);
    if *database != default {
        let database = database.display();
        out.push_str(&format!(
            "The database lies elsewhere (database.url): remove {database}, {database}-wal and \
             {database}-shm, and put chatd.db in the place of the first.\n"
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_a_new_or_empty_folder_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("a/b");
        assert_eq!(prepare(&new), Ok(true));
        assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(prepare(&new), Ok(false));
        fs::write(new.join("x"), "").unwrap();
        assert!(prepare(&new).unwrap_err().contains("is not empty"));
        assert!(prepare(&new.join("x")).unwrap_err().contains("no folder for a backup"));
    }

    #[test]
    fn secrets_are_copied_for_the_owner_alone_and_drafts_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::load(&Sources::new(folder.path().join("data"))).unwrap();
        let copy = folder.path().join("copy");
        fs::create_dir(&copy).unwrap();
        assert!(!copy_secrets(&config, &copy).unwrap());
        let secret = secrets::jwt_secret(&config).unwrap().unwrap();
        fs::write(folder.path().join("data/secrets/jwt.1.tmp"), "half").unwrap();
        assert!(copy_secrets(&config, &copy).unwrap());
        let file = copy.join("secrets/jwt");
        assert_eq!(fs::read_to_string(&file).unwrap().trim_end(), secret.expose());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(copy.join("secrets")).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_backup_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("copy");
        fs::create_dir_all(dir.join("secrets")).unwrap();
        fs::write(dir.join("chatd.db"), "half").unwrap();
        discard(&dir, true);
        assert!(!dir.exists());
    }
}
