//! The channel that writes each mail into a folder in place of sending it: for development and tests.
//!
//! A mail is one `.eml` file, the bytes that a server would get, named by its date and Message-ID, so that
//! names sort by time and a mail that is tried again replaces itself. Files are 0600 and the folder, when
//! it is made here, 0700: they hold what people wrote. The newest [`FILES_MAX`] are kept at most.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::{Channel, ChannelError, Connection, Mail, mime};

/// The most mails that a folder keeps; beyond, the oldest tenth goes. 10,000 mails of 2 KB are 20 MB, or
/// 40 MB of 4 KiB blocks.
pub const FILES_MAX: usize = 10_000;

/// Writes mails into a folder.
#[derive(Debug, Clone)]
pub struct CaptureChannel {
    folder: Arc<Folder>,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    files_max: usize,
    /// How many mails lie there; held while one is written, so that writers take turns.
    files: Mutex<usize>,
}

impl CaptureChannel {
    /// Uses the folder, which is made where it is missing.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn new(path: impl Into<PathBuf>) -> io::Result<Self> {
        Self::with_limit(path.into(), FILES_MAX)
    }

    fn with_limit(path: PathBuf, files_max: usize) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        for name in names_in(&path, ".eml.tmp")? {
            // Left by a writer that was killed.
            fs::remove_file(path.join(name))?;
        }
        let files = Mutex::new(mails_in(&path)?.len());
        Ok(Self { folder: Arc::new(Folder { path, files_max, files }) })
    }
}

#[async_trait]
impl Channel for CaptureChannel {
    fn name(&self) -> &'static str {
        "capture"
    }

    fn kept_at(&self, mail: &Mail) -> Option<PathBuf> {
        Some(self.folder.path.join(file_name(mail)))
    }

    async fn connect(&self) -> Result<Box<dyn Connection>, ChannelError> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Connection for CaptureChannel {
    async fn send(&mut self, mail: &Mail) -> Result<(), ChannelError> {
        let bytes = mime::encode(mail)?;
        let name = file_name(mail);
        let folder = Arc::clone(&self.folder);
        let written = tokio::task::spawn_blocking(move || folder.put(&name, &bytes)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(ChannelError::temporary(format!("file: {}", error.kind()))),
            Err(_) => Err(ChannelError::temporary("file: the writer was stopped")),
        }
    }
}

impl Folder {
    /// Writes a file that is there whole or not at all, and still there after a power cut.
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let target = self.path.join(name);
        let temporary = self.path.join(format!("{name}.tmp"));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let replaces = target.exists();
        let written = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temporary, &target))
            .and_then(|()| File::open(&self.path)?.sync_all());
        if let Err(error) = written {
            // Best effort: the next mail of this name truncates what is left.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        *files += usize::from(!replaces);
        if *files > self.files_max {
            *files = self.drop_oldest()?;
        }
        Ok(())
    }

    /// Removes the oldest mails until nine tenths of the limit are left; returns how many are.
    fn drop_oldest(&self) -> io::Result<usize> {
        let mut names = mails_in(&self.path)?;
        names.sort_unstable();
        let keep = self.files_max - self.files_max / 10;
        let old = names.len().saturating_sub(keep);
        for name in &names[..old] {
            fs::remove_file(self.path.join(name))?;
        }
        Ok(names.len() - old)
    }
}

fn mails_in(folder: &Path) -> io::Result<Vec<String>> {
    names_in(folder, ".eml")
}

fn names_in(folder: &Path, ending: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        if let Ok(name) = entry?.file_name().into_string()
            && name.ends_with(ending)
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// `20231114T221320.120Z-<Message-ID>.eml`, with `_` for what a file name should not hold.
fn file_name(mail: &Mail) -> String {
    let time: String = mail.date.to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '@');
    let id: String = mail.message_id.chars().map(|c| if allowed(c) { c } else { '_' }).take(150).collect();
    format!("{time}-{id}.eml")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::domain::{EmailAddress, Timestamp};

    fn mail(number: i64) -> Mail {
        Mail {
            message_id: format!("m{number}/x@chat.example.test"),
            from: EmailAddress::new("chat@example.test").unwrap().into(),
            to: EmailAddress::new("ana@example.test").unwrap().into(),
            subject: "New message from Ben".into(),
            text: "Hi Ana,\n\n.\nHello".into(),
            date: Timestamp(1_700_000_000_120 + number),
        }
    }

    #[tokio::test]
    async fn a_mail_is_a_private_file_with_the_bytes_that_a_server_gets() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data/mail");
        let channel = CaptureChannel::new(&path).unwrap();
        channel.connect().await.unwrap().send(&mail(0)).await.unwrap();

        assert_eq!(mails_in(&path).unwrap(), ["20231114T221320.120Z-m0_x@chat.example.test.eml"]);
        let file = path.join("20231114T221320.120Z-m0_x@chat.example.test.eml");
        assert_eq!(fs::read(&file).unwrap(), mime::encode(&mail(0)).unwrap());
        assert_eq!(channel.kept_at(&mail(0)), Some(file.clone()));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(&path)), (0o600, 0o700));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "no temporary file is left");
    }

    #[tokio::test]
    async fn the_same_mail_tried_again_is_still_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = CaptureChannel::new(folder.path()).unwrap().connect().await.unwrap();
        connection.send(&mail(0)).await.unwrap();
        connection.send(&mail(0)).await.unwrap();
        assert_eq!(mails_in(folder.path()).unwrap().len(), 1);
    }

    #[tokio::test]
    async fn the_oldest_mails_go_when_the_folder_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let channel = CaptureChannel::with_limit(folder.path().into(), 10).unwrap();
        let mut connection = channel.connect().await.unwrap();
        for number in 0..10 {
            connection.send(&mail(number)).await.unwrap();
        }
        assert_eq!(mails_in(folder.path()).unwrap().len(), 10);
        connection.send(&mail(10)).await.unwrap();
        let mut names = mails_in(folder.path()).unwrap();
        names.sort_unstable();
        assert_eq!(names.len(), 9);
        assert!(names[0].contains("-m2_x@") && names[8].contains("-m10_x@"), "{names:?}");
        // A folder that was filled by an earlier run counts too.
        let again = CaptureChannel::with_limit(folder.path().into(), 10).unwrap();
        assert_eq!(*again.folder.files.lock().unwrap(), 9);
    }

    #[tokio::test]
    async fn a_folder_that_went_away_is_a_temporary_fault() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("mail");
        let channel = CaptureChannel::new(&path).unwrap();
        fs::remove_dir(&path).unwrap();
        let answer = channel.connect().await.unwrap().send(&mail(0)).await;
        assert_eq!(answer, Err(ChannelError::temporary("file: entity not found")));
    }
}
