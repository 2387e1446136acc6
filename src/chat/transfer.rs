//! A whole history into another database, and the proof that it arrived: per table the count and a SHA-256 of
//! every value, of the rows that were read there and of the rows that can be read here. Knows both databases by
//! their ports.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::storage::StorageError;
use crate::storage::transfer::{Export, FIRST, Import, Occupied, Rows, Table};

/// Rows of a page: with contents of 64 KiB, which is the most there can be, some 35 MiB.
const PAGE_ROWS: u32 = 500;

/// What became of a table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Copied {
    /// Its name.
    pub table: &'static str,
    /// How many rows it has, on both sides.
    pub rows: u64,
    /// Of their values in the order of their keys, on both sides, in hexadecimal digits.
    pub sha256: String,
}

/// What is being done, for those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// With this table.
    pub table: &'static str,
    /// So many rows of it so far.
    pub rows: u64,
    /// They are read back, and not copied.
    pub is_proof: bool,
}

/// Why a history was not copied. Nothing of it is in the other database then.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The history has something else where it was to go.
    #[error("there are rows in {} already", .0.table)]
    Occupied(Occupied),
    /// It cannot be read.
    #[error("{table} cannot be read: {source}")]
    Source {
        /// The table.
        table: &'static str,
        /// Why.
        source: StorageError,
    },
    /// It cannot be written, or read back.
    #[error("{table} cannot be written: {source}")]
    Target {
        /// The table.
        table: &'static str,
        /// Why.
        source: StorageError,
    },
    /// The other database cannot begin to take it.
    #[error("the database cannot take it: {0}")]
    Begin(StorageError),
    /// What was written is not what was read.
    #[error(
        "{table} is not the same after it was copied: {here} rows and {there} there, or another value in one \
         of them; a rule or a trigger of that database changes what is written"
    )]
    Differs {
        /// The table.
        table: &'static str,
        /// Rows that were read.
        here: u64,
        /// Rows that can be read back.
        there: u64,
    },
}

/// Copies everything, and compares. The caller finishes the import, which makes it seen.
///
/// # Errors
/// The target is not empty, a side failed, or the two differ; the import is then to be dropped.
pub async fn transfer(
    source: &mut dyn Export,
    target: &mut dyn Import,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Vec<Copied>, TransferError> {
    if let Some(occupied) = target.begin().await.map_err(TransferError::Begin)? {
        return Err(TransferError::Occupied(occupied));
    }
    let mut sums = Vec::with_capacity(Table::ALL.len());
    for &table in Table::ALL {
        sums.push((table, copy(source, target, table, tell).await?));
    }
    let mut copied = Vec::with_capacity(sums.len());
    for (table, sum) in sums {
        copied.push(compare(target, table, sum, tell).await?);
    }
    Ok(copied)
}

async fn copy(
    source: &mut dyn Export,
    target: &mut dyn Import,
    table: Table,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Sum, TransferError> {
    let (mut sum, mut after) = (Sum::default(), FIRST);
    let unread = |source| TransferError::Source { table: table.name(), source };
    let unwritten = |source| TransferError::Target { table: table.name(), source };
    loop {
        let rows = source.rows(table, after, PAGE_ROWS).await.map_err(unread)?;
        let Some(last) = rows.last() else { return Ok(sum) };
        sum.add(&rows);
        target.write(rows).await.map_err(unwritten)?;
        tell(Progress { table: table.name(), rows: sum.rows, is_proof: false });
        after = last;
    }
}

async fn compare(
    target: &mut dyn Import,
    table: Table,
    expected: Sum,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Copied, TransferError> {
    let (mut sum, mut after) = (Sum::default(), FIRST);
    loop {
        let rows = target.rows(table, after, PAGE_ROWS).await;
        let rows = rows.map_err(|source| TransferError::Target { table: table.name(), source })?;
        let Some(last) = rows.last() else { break };
        sum.add(&rows);
        tell(Progress { table: table.name(), rows: sum.rows, is_proof: true });
        after = last;
    }
    let (here, there) = (expected.rows, sum.rows);
    let (expected, found) = (expected.digits(), sum.digits());
    if expected != found || here != there {
        return Err(TransferError::Differs { table: table.name(), here, there });
    }
    Ok(Copied { table: table.name(), rows: here, sha256: found })
}

/// Count and digest of a table so far.
#[derive(Default)]
struct Sum {
    rows: u64,
    hash: Sha256,
}

impl Sum {
    fn add(&mut self, rows: &Rows) {
        self.rows += rows.len() as u64;
        rows.digest(&mut self.hash);
    }

    fn digits(self) -> String {
        self.hash.finalize().iter().fold(String::new(), |mut digits, byte| {
            // Writing to a String cannot fail.
            let _ = write!(digits, "{byte:02x}");
            digits
        })
    }
}
