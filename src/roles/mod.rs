//! Workers and who runs which: `all` runs those of `serve` and `consume` in one process.

pub mod all;
pub mod consume;
pub mod listen;
pub mod serve;
pub mod supervisor;
