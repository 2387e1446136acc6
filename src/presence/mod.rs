//! Who is connected, and where: the port. Adapters: `memory`.
