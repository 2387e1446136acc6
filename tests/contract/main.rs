//! The suites of the ports: written once, run on each adapter.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a panic is the way of a test to fail

#[path = "../support/stack.rs"]
mod stack;

mod event_log;
mod event_log_embedded;
mod event_log_kafka;
mod event_log_kafka_security;
mod fanout;
mod fanout_faults;
mod nodes_support;
mod postgres_proxy;
mod postgres_schema;
mod presence;
mod redis_sentinel;
mod storage_catchup;
mod storage_changes;
mod storage_events;
mod storage_ledger;
mod storage_lists;
mod storage_load;
mod storage_mails;
mod storage_notifications;
mod storage_postgres;
mod storage_receipts;
mod storage_sightings;
mod storage_support;
mod storage_together;
mod storage_transfer;
mod storage_upgrade;
mod storage_users;
mod tickets;
