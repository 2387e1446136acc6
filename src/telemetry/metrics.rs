//! Metrics as Prometheus text. Names are `chatd_…_total`, `_seconds` or `_bytes`; no label holds an id.

use std::sync::OnceLock;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of durations, in seconds: from a fast commit to a mail server's patience.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];
/// Upper bounds of batch sizes, in records.
const RECORDS: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0];

static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// The metrics of this process; the first call begins to count. `None` when another recorder is installed.
pub fn handle() -> Option<&'static PrometheusHandle> {
    HANDLE.get_or_init(install).as_ref()
}

fn install() -> Option<PrometheusHandle> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_records".into()), &RECORDS));
    let installed = builder.and_then(PrometheusBuilder::install_recorder);
    match installed {
        Ok(handle) => {
            describe();
            Some(handle)
        }
        Err(error) => {
            tracing::error!(%error, "metrics are not recorded");
            None
        }
    }
}

fn describe() {
    describe_gauge!("chatd_sockets", "Open WebSockets of this node");
    describe_counter!("chatd_sockets_closed_total", "Sockets that ended, by close code");
    describe_counter!("chatd_accepted_total", "Messages that became durable in the log");
    describe_counter!("chatd_stored_total", "Records that became history");
    describe_counter!("chatd_duplicates_total", "Records that were retries of stored ones");
    describe_counter!("chatd_rejected_total", "Records that the log's order made impossible");
    describe_counter!("chatd_dead_letters_total", "Values of the log that are no records");
    describe_gauge!("chatd_lag_records", "Records durable in the log and not yet applied");
    describe_gauge!("chatd_alarms", "Alarms that stand; the log names them");
    describe_counter!("chatd_mails_total", "Mails by outcome");
    describe_histogram!("chatd_mail_seconds", Unit::Seconds, "From handing a mail over to its answer");
    describe_histogram!("chatd_accept_seconds", Unit::Seconds, "From a message's arrival to its durability");
    describe_histogram!("chatd_apply_seconds", Unit::Seconds, "One transaction that applies records");
    describe_histogram!("chatd_http_request_seconds", Unit::Seconds, "Requests by route, method and status");
    describe_histogram!("chatd_apply_records", "Records applied in one transaction");
    describe_histogram!(
        "chatd_delivery_seconds",
        Unit::Seconds,
        "From a message's acceptance to its recipient's mailbox"
    );
}
