//! What chatd does, one verb a file. Free functions, context first; knows ports, no adapter.
