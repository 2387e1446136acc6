//! Workers and who runs which: `all` runs those of `serve` and `consume` in one process.

pub mod consume;
pub mod listen;
mod presence;
pub mod run;
pub mod serve;
mod story;
pub mod supervisor;
mod typing;
mod watch;
