//! The ports of a running chatd, put together.
