//! REST: routes, extractors, one table of errors.
