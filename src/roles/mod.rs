//! Workers and who runs which: `serve`, `consume`, `all`.
