//! The consumer group and the topic on a real Kafka: 4.3 in KRaft mode, or, with `CHATD_TEST_KAFKA=39`, 3.9 with
//! ZooKeeper. Each test has a topic and a group of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a panic is the way of a test to fail

mod brokers;
mod groups;
mod log;
mod member;
mod tools;
mod topics;

#[path = "../support/stack.rs"]
mod stack;
