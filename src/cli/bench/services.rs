//! Counters of the services behind a server, asked over connections that last for the question only.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::error::BenchError;
use crate::domain::Secret;

/// An answer takes milliseconds.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// `INFO` is some kilobytes.
const INFO_BYTES_MAX: u64 = 1 << 20;

/// Totals of this database, without the statements that only begin and end transactions.
const CALLS: &str = "SELECT replace(query, E'\\n', ' '), sum(calls) FROM pg_stat_statements s \
    JOIN pg_database d ON d.oid = s.dbid WHERE d.datname = current_database() \
    AND query !~* '^\\s*(begin|commit|rollback|start transaction)' AND query NOT LIKE '%pg_stat_%' GROUP BY 1";
const WAL_BYTES: &str = "SELECT wal_bytes FROM pg_stat_wal";

/// What PostgreSQL did so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Statements {
    /// How often, by the text of the statement.
    pub calls: BTreeMap<String, u64>,
    /// Bytes of log.
    pub wal_bytes: u64,
}

/// Counters of Redis: `commands`, `bytes_in`, `bytes_out`, and the calls of each command.
pub(super) async fn redis(address: &str) -> Result<BTreeMap<String, u64>, BenchError> {
    let answer =
        timeout(ANSWER_MAX, info(address)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    answer
        .map(|text| counters(&text))
        .map_err(|error| BenchError::Service { name: "Redis", reason: error.to_string() })
}

async fn info(address: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"INFO stats\r\nINFO commandstats\r\nQUIT\r\n").await?;
    let mut answer = Vec::new();
    stream.take(INFO_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn counters(info: &str) -> BTreeMap<String, u64> {
    let names = [
        ("total_commands_processed", "commands"),
        ("total_net_input_bytes", "bytes_in"),
        ("total_net_output_bytes", "bytes_out"),
    ];
    let counter = |line: &str| {
        let (key, value) = line.trim_end().split_once(':')?;
        if let Some((_, name)) = names.iter().find(|(theirs, _)| *theirs == key) {
            return Some(((*name).to_owned(), value.parse().ok()?));
        }
        let command = key.strip_prefix("cmdstat_")?;
        let calls = value.strip_prefix("calls=")?.split(',').next()?.parse().ok()?;
        Some((command.to_owned(), calls))
    };
    info.lines().filter_map(counter).collect()
}

/// Statements of the database that `url` names.
pub(super) async fn postgres(url: &Secret<String>) -> Result<Statements, BenchError> {
    let answer = timeout(ANSWER_MAX, statements(url.expose())).await;
    let answer = answer.unwrap_or_else(|_| Err("no answer".to_owned()));
    answer.map_err(|reason| BenchError::Service { name: "PostgreSQL", reason })
}

async fn statements(url: &str) -> Result<Statements, String> {
    let words = |error: tokio_postgres::Error| {
        error.as_db_error().map_or_else(|| error.to_string(), |e| e.message().to_owned())
    };
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(words)?;
    let ask = async {
        let calls = client.simple_query(CALLS).await.map_err(words)?;
        let wal = client.simple_query(WAL_BYTES).await.map_err(words)?;
        Ok(Statements { calls: pairs(&calls), wal_bytes: first_number(&wal).unwrap_or(0) })
    };
    tokio::select! {
        answer = ask => answer,
        _ = connection => Err("the connection ended".to_owned()),
    }
}

fn pairs(messages: &[SimpleQueryMessage]) -> BTreeMap<String, u64> {
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => Some((row.get(0)?.to_owned(), row.get(1)?.parse().ok()?)),
        _ => None,
    };
    messages.iter().filter_map(row).collect()
}

fn first_number(messages: &[SimpleQueryMessage]) -> Option<u64> {
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_redis_are_found_among_the_others() {
        let info = "$9\r\n# Stats\r\ntotal_commands_processed:7\r\ntotal_net_input_bytes:90\r\nx:1\r\n\
                    cmdstat_publish:calls=3,usec=9,usec_per_call=3.00\r\ncmdstat_config|get:calls=1,usec=2\r\n";
        let counters = counters(info);
        let expected = [("bytes_in", 90), ("commands", 7), ("config|get", 1), ("publish", 3)];
        assert_eq!(counters, expected.map(|(name, n)| (name.to_owned(), n)).into());
    }

    #[tokio::test]
    async fn a_service_that_is_not_there_is_named() {
        let error = redis("127.0.0.1:1").await.unwrap_err().to_string();
        assert!(error.contains("Redis"), "{error}");
        let url = Secret::new("postgres://u:hidden@127.0.0.1:1/d".to_owned());
        let error = postgres(&url).await.unwrap_err().to_string();
        assert!(error.contains("PostgreSQL") && !error.contains("hidden"), "{error}");
    }
}
