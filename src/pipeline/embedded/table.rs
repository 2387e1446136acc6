//! The two tables of the file, and the statements on them.

use diesel::connection::DefaultLoadingMode;
use diesel::dsl::{max, min};
use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;

use crate::domain::{Offset, Partition, Timestamp};
use crate::pipeline::{Bounds, LogRecord};

/// The tables of a new file. `meta` has one row; `records` is clustered by its key, so that a range of a
/// partition is read in one sweep. One row a record: a row a commit and partition was no cheaper when measured
/// at batches of ten.
pub(super) const SCHEMA: &str = "
    CREATE TABLE meta (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        format INTEGER NOT NULL,
        log_id TEXT NOT NULL,
        partitions INTEGER NOT NULL,
        opened_at INTEGER NOT NULL
    );
    CREATE TABLE records (
        partition INTEGER NOT NULL,
        log_offset INTEGER NOT NULL,
        value BLOB NOT NULL,
        appended_at INTEGER NOT NULL,
        PRIMARY KEY (partition, log_offset)
    ) WITHOUT ROWID;
";

diesel::table! {
    meta (only) {
        only -> Integer,
        format -> Integer,
        log_id -> Text,
        partitions -> Integer,
        opened_at -> BigInt,
    }
}

diesel::table! {
    records (partition, log_offset) {
        partition -> Integer,
        log_offset -> BigInt,
        value -> Binary,
        appended_at -> BigInt,
    }
}

/// A record with its place, to be written.
pub(super) struct Placed<'a> {
    pub(super) partition: Partition,
    pub(super) offset: Offset,
    pub(super) value: &'a [u8],
}

/// Writes records in one transaction; when this returns, they are on the disk.
pub(super) fn insert<'a>(
    connection: &mut SqliteConnection,
    placed: impl Iterator<Item = Placed<'a>>,
    now: Timestamp,
) -> QueryResult<()> {
    connection.immediate_transaction(|connection| {
        for Placed { partition, offset, value } in placed {
            diesel::insert_into(records::table)
                .values((
                    records::partition.eq(key(partition)),
                    records::log_offset.eq(offset),
                    records::value.eq(value),
                    records::appended_at.eq(now.0),
                ))
                .execute(connection)?;
        }
        Ok(())
    })
}

/// What each partition holds, by the file.
pub(super) fn bounds(connection: &mut SqliteConnection, partitions: Partition) -> QueryResult<Vec<Bounds>> {
    (0..partitions)
        .map(|partition| {
            let of = records::table.filter(records::partition.eq(key(partition)));
            let first: Option<Offset> = of.select(min(records::log_offset)).first(connection)?;
            let last: Option<Offset> = of.select(max(records::log_offset)).first(connection)?;
            Ok(Bounds { start: first.unwrap_or(0), end: last.map_or(0, |last| last + 1) })
        })
        .collect()
}

/// Which records to read from the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) partition: Partition,
    pub(super) from: Offset,
    /// Exclusive.
    pub(super) to: Offset,
    pub(super) records_max: usize,
    /// Of the values; the first record is read even when it is larger.
    pub(super) bytes_max: usize,
}

/// The records of a range that the file holds, in order.
pub(super) fn read(connection: &mut SqliteConnection, range: Range) -> QueryResult<Vec<LogRecord>> {
    let rows = records::table
        .filter(records::partition.eq(key(range.partition)))
        .filter(records::log_offset.ge(range.from))
        .filter(records::log_offset.lt(range.to))
        .order(records::log_offset)
        .limit(i64::try_from(range.records_max).unwrap_or(i64::MAX))
        .select((records::log_offset, records::value))
        .load_iter::<(Offset, Vec<u8>), DefaultLoadingMode>(connection)?;
    let (mut found, mut bytes) = (Vec::new(), 0);
    for row in rows {
        let (offset, value) = row?;
        bytes += value.len();
        if bytes > range.bytes_max && !found.is_empty() {
            break;
        }
        found.push(LogRecord { offset, value: value.into() });
    }
    Ok(found)
}

/// What may go from a partition: the records below an offset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trim {
    pub(super) partition: Partition,
    pub(super) below: Offset,
}

/// Drops what each of `trims` names if the last record of it was appended before `before`; says which were
/// dropped. Times of append grow with the offsets but for steps of the clock, so one look at the last is enough.
pub(super) fn trim(
    connection: &mut SqliteConnection,
    trims: &[Trim],
    before: Timestamp,
) -> QueryResult<Vec<Trim>> {
    connection.immediate_transaction(|connection| {
        let mut dropped = Vec::new();
        for trim in trims {
            let of = records::table.filter(records::partition.eq(key(trim.partition)));
            let last: Option<i64> = of
                .filter(records::log_offset.eq(trim.below - 1))
                .select(records::appended_at)
                .first(connection)
                .optional()?;
            if last.is_some_and(|appended_at| appended_at < before.0) {
                diesel::delete(of.filter(records::log_offset.lt(trim.below))).execute(connection)?;
                dropped.push(*trim);
            }
        }
        Ok(dropped)
    })
}

/// A partition as the tables spell it; there are at most [`super::settings::PARTITIONS_MAX`].
fn key(partition: Partition) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}
