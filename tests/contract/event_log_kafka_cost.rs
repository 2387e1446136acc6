//! What the Kafka log costs: CPU a record and delays, at growing rates. Not run by default:
//! `cargo test --release --test contract cost -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chatd::pipeline::kafka::KafkaLog;
use chatd::pipeline::{EventLog, EventSource, FetchLimits};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::event_log::entry;
use crate::event_log_kafka::KafkaRig;

const SECONDS: u64 = 8;
const RECORD_BYTES: usize = 350;
/// Storing and publishing a batch takes about so long.
const APPLYING: Duration = Duration::from_millis(3);

/// CPU of this process, in microseconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks * 10_000.0
}

fn quantiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize].as_secs_f64() * 1000.0;
    format!("{:.1}/{:.1} ms", at(0.5), at(0.99))
}

/// Appends at this rate and answers how long each took.
async fn append(log: Arc<KafkaLog>, rate: u64, begun: Instant) -> Vec<Duration> {
    let mut ticks = interval(Duration::from_millis(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut sent, mut times, mut waiting) = (0u64, Vec::new(), FuturesUnordered::new());
    let total = rate * SECONDS;
    while sent < total || !waiting.is_empty() {
        tokio::select! {
            _ = ticks.tick(), if sent < total => {
                let due = (begun.elapsed().as_micros() as u64 * rate / 1_000_000).min(total);
                for n in sent..due {
                    let at = Instant::now();
                    let mut value = vec![b'x'; RECORD_BYTES];
                    value[..8].copy_from_slice(&(begun.elapsed().as_micros() as u64).to_be_bytes());
                    let appending = log.append(entry((n * 7 % 6) as u32, value), log.generation());
                    waiting.push(async move { (appending.await.unwrap(), at.elapsed()) });
                }
                sent = due;
            }
            Some((_, took)) = waiting.next() => times.push(took),
        }
    }
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn cost_of_a_record() {
    for rate in [100, 800, 2_000, 4_000, 8_000, 20_000] {
        let rig = KafkaRig::new();
        let log = KafkaLog::connect(rig.settings.clone()).await.unwrap();
        log.append(entry(0, "warm"), log.generation()).await.unwrap();
        let mut next = [1, 0, 0, 0, 0, 0];
        sleep(Duration::from_millis(500)).await;
        let (begun, before) = (Instant::now(), cpu());
        let appending = tokio::spawn(append(log.clone(), rate, begun));
        let (mut delays, mut fetches) = (Vec::new(), 0);
        while (delays.len() as u64) < rate * SECONDS {
            let from: Vec<_> = (0..).zip(next).collect();
            let limits =
                FetchLimits { records_max: 2000, bytes_max: 4 << 20, patience: Duration::from_secs(1) };
            let fetched = log.fetch(&from, limits).await.unwrap();
            fetches += 1;
            for part in fetched {
                for record in part.records {
                    let sent = u64::from_be_bytes(record.value[..8].try_into().unwrap());
                    delays.push(begun.elapsed().saturating_sub(Duration::from_micros(sent)));
                    next[part.partition as usize] = record.offset + 1;
                }
            }
            sleep(APPLYING).await;
        }
        let times = appending.await.unwrap();
        let cost = (cpu() - before) / (rate * SECONDS) as f64;
        println!(
            "{rate:>6}/s: {cost:>5.1} us of CPU a record, answered {}, read {}, {:.0} fetches/s",
            quantiles(times),
            quantiles(delays),
            fetches as f64 / SECONDS as f64,
        );
    }
}
