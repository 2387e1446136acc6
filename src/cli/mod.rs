//! The commands of the executable.
