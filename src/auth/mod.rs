//! Who is calling: ports. Adapters: `jwt`, `tickets`.
