//! chatd: a real-time chat and notification server. The map, in reading order:

pub mod app; // the ports together; build.rs alone names adapters
pub mod auth; // ports: who is calling │ jwt, tickets, redis
pub mod chat; // what chatd does, a verb a file: send, apply, deliver, resume, history, receipts
pub mod cli;
pub mod config; // settings, loaded once; one file a section
pub mod delivery; // port: live events to nodes; hub and mailboxes of this node │ memory, redis
pub mod domain; // what exists: ids, users, conversations, records, events, cursors; pure
pub mod http; // REST: routes, one table of errors
pub mod notify; // port: channels to those who are away; policy, worker │ smtp, capture
pub mod pipeline; // ports of the message log, and its record │ embedded
pub mod presence; // port: who is connected where │ memory, redis
pub mod redis; // the connection and the registration that the Redis adapters share
pub mod roles; // workers: serve, consume, supervised
pub mod storage; // ports of everything that is kept │ sqlite
pub mod telemetry; // logs, metrics, the story of each message
pub mod ws; // the socket: guard, session, its pure state // the commands
