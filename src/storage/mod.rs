//! Everything that is kept: ports. Adapters: `sqlite`.
