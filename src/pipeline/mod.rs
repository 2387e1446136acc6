//! The message log: ports and the versioned record. Adapters: `embedded`.
