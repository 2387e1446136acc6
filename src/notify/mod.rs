//! Messages to those who are away: the port `Channel`, policy and worker. Adapters: `smtp`, `capture`.
