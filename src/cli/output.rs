//! What commands print: to stdout, and not a fault when nobody reads on.

use std::io::{self, Write};

use super::{CliError, Exit};

/// Prints text as it is; a reader that has left (`chatd config show | head`) is no error.
///
/// # Errors
/// Stdout cannot be written, as on a full disk.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::new(Exit::Fault, format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}
