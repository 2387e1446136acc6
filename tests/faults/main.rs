//! Faults through real processes: `kill -9`, signals, frozen processes, full and read-only disks, damaged
//! files, backups. What was accepted has to be there afterwards, once, and in one order.
//!
//! The defaults are short; `KILLS=20` is the full count of `kill -9`. What was measured is printed
//! (`cargo test --test faults -- --nocapture`).

#![allow(clippy::unwrap_used, reason = "a panic is a test's way to fail, in what tests share too")]
#![allow(clippy::expect_used, clippy::print_stdout, reason = "the same; and what was measured is printed")]

#[path = "../support/mod.rs"]
mod support;

mod beside;
mod damage;
mod disk;
mod freeze;
#[allow(dead_code, reason = "the cluster tests use more of it")]
mod history;
mod judge;
mod kill;
#[allow(dead_code, reason = "the same")]
mod load;
mod mail;
#[allow(dead_code, reason = "the same")]
mod mail_server;
mod person;
mod process;
mod start;
mod stop;
mod verify;
