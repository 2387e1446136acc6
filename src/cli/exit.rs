//! How a command ends: the exit codes of architecture.md section 1, and an error as people read it.

use std::process::ExitCode;

use crate::app::backends::OpenError;
use crate::app::open::CopyError;
use crate::config::ConfigError;
use crate::pipeline::LogError;
use crate::storage::StorageError;

/// What the process tells whoever started it; 69, 75 and 78 are those of sysexits.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All went well.
    Done = 0,
    /// A fault of chatd's, or of the machine.
    Fault = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Something that chatd needs is away, or the port is in use.
    Dependency = 69,
    /// Stopping took longer than allowed.
    DrainDeadline = 75,
    /// The configuration or the data folder cannot be used.
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed, in a sentence for stderr.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct CliError {
    /// The exit code.
    pub exit: Exit,
    /// What is wrong and what to do; holds no secret.
    pub sentence: String,
}

impl CliError {
    /// An error that ends with this code.
    pub fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self { exit, sentence: sentence.into() }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let sentence = match &error {
            ConfigError::Problems(problems) if problems.len() > 1 => {
                let lines: String = problems.iter().map(|problem| format!("\n  {problem}")).collect();
                format!("{} settings are wrong:{lines}", problems.len())
            }
            _ => error.to_string(),
        };
        Self::new(Exit::Config, sentence)
    }
}

impl From<OpenError> for CliError {
    fn from(error: OpenError) -> Self {
        let exit = if error.is_away() { Exit::Dependency } else { Exit::Config };
        Self::new(exit, error.to_string())
    }
}

impl From<CopyError> for CliError {
    fn from(error: CopyError) -> Self {
        let exit = match &error {
            CopyError::Shared | CopyError::Absent { .. } => Exit::Config,
            CopyError::Storage(_) | CopyError::Log(_) | CopyError::Inconsistent(_) => Exit::Fault,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<StorageError> for CliError {
    fn from(error: StorageError) -> Self {
        let exit = match &error {
            StorageError::Unavailable(_) => Exit::Dependency,
            StorageError::Refused(_) => Exit::Fault,
            StorageError::ForeignLog { .. } | StorageError::Superseded => Exit::Config,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<LogError> for CliError {
    fn from(error: LogError) -> Self {
        Self::new(Exit::Dependency, error.to_string())
    }
}
