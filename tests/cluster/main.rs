//! Many processes on shared services: `chatd serve` twice and `chatd consume` twice, on a PostgreSQL, a Redis
//! and a Kafka of their own, while each of them is killed, frozen, silenced or restarted under load.
//!
//! What was accepted has to be in history once, in one order, on every device, and mailed as promised. The
//! defaults are short; `CLUSTER_ROUNDS` multiplies what is repeated and `CLUSTER_LONG=1` lasts as long as an
//! outage does; `MOVE_EVENTS` says how long the history is that moves. What was measured is printed
//! (`cargo test --test cluster -- --nocapture`).

#![allow(clippy::unwrap_used, reason = "a panic is a test's way to fail, in what tests share too")]
#![allow(clippy::expect_used, clippy::print_stdout, reason = "the same; and what was measured is printed")]

#[path = "../support/mod.rs"]
mod support;

#[path = "../faults/history.rs"]
#[allow(dead_code, reason = "the fault tests of one process use more of it")]
mod history;
#[path = "../faults/judge.rs"]
#[allow(dead_code, reason = "the same")]
mod judge;
#[path = "../faults/load.rs"]
#[allow(dead_code, reason = "the same")]
mod load;
#[path = "../faults/mail_server.rs"]
#[allow(dead_code, reason = "the same")]
mod mail_server;
#[path = "../faults/person.rs"]
mod person;

mod absent;
mod answers;
mod archive;
mod books;
mod broker;
mod chaos;
mod cluster;
mod database;
mod doctor;
mod kill;
mod log;
mod moving;
mod node;
mod postgres;
mod presence;
mod proxy;
mod proxy_tests;
mod recovery;
mod redis;
mod rolling;
mod scene;
mod seeded;
mod services;
mod smoke;
mod smtp;
mod zombie;
