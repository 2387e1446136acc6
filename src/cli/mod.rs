//! The commands of the executable.

pub mod bench;
