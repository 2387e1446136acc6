//! The suites of the ports: written once, run on each adapter.

mod storage_catchup;
mod storage_events;
mod storage_ledger;
mod storage_notifications;
mod storage_receipts;
mod storage_support;
mod storage_users;
