//! Kafka under the suite of the port. Each case has a topic of its own.

use std::process::Command;
use std::sync::Arc;

use chatd::pipeline::kafka::{KafkaLog, KafkaSettings, ensure_topic};
use tokio::task::block_in_place;
use uuid::Uuid;

use crate::event_log::{Handle, Rig, contract};
use crate::stack::{Exports, stack};

pub struct KafkaRig {
    pub exports: Exports,
    pub settings: KafkaSettings,
}

impl KafkaRig {
    pub fn new() -> Self {
        let exports = block_in_place(|| stack(&["kafka"]));
        let own = Uuid::new_v4().simple().to_string();
        let settings = KafkaSettings {
            brokers: exports.get("KAFKA_BROKERS").split(',').map(str::to_owned).collect(),
            topic: format!("{own}.chat.messages"),
            group: format!("{own}.chatd"),
            ..KafkaSettings::default()
        };
        wait(ensure_topic(&settings, false)).unwrap();
        Self { exports, settings }
    }

    /// Changes how large a record of the topic may be.
    fn limit(&self, change: [&str; 2]) {
        let status = Command::new("java")
            .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(format!("{}/*", self.exports.get("KAFKA_LIBS")))
            .args(["kafka.admin.ConfigCommand", "--bootstrap-server", &self.settings.brokers[0]])
            .args(["--alter", "--entity-type", "topics", "--entity-name", &self.settings.topic])
            .args(change)
            .output()
            .unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    }
}

/// The suite opens logs outside of async code.
fn wait<T>(future: impl Future<Output = T>) -> T {
    block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

impl Rig for KafkaRig {
    fn open(&self) -> Handle {
        let log: Arc<KafkaLog> = wait(KafkaLog::connect(self.settings.clone())).unwrap();
        Handle { log: log.clone(), source: log }
    }

    fn break_writes(&self) {
        block_in_place(|| self.limit(["--add-config", "max.message.bytes=1"]));
    }

    fn mend_writes(&self) {
        block_in_place(|| self.limit(["--add-config", "max.message.bytes=1048588"]));
    }
}

contract!(KafkaRig::new() =>
    appends_keep_the_order_of_the_calls,
    concurrent_appenders_keep_their_own_order_without_gaps,
    what_is_answered_survives_a_restart_and_offsets_continue,
    all_partitions_are_assigned_and_empty_at_first,
    a_fetch_waits_for_a_record_and_wakes_at_once,
    a_fetch_that_is_given_up_loses_nothing,
    an_append_that_is_given_up_is_stored,
    a_fetch_keeps_to_its_limits_and_starves_no_partition,
    a_huge_record_is_stored_and_read_whole,
    offsets_out_of_range_are_told_apart_from_the_end,
    forgetting_keeps_the_record_below_and_whatever_was_not_forgotten,
    offsets_continue_after_everything_was_forgotten,
    a_failed_append_stops_its_generation_and_the_next_one_works,
    an_old_generation_stays_behind,
);
