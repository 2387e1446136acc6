//! The WebSocket (RFC 6455): upgrade, guard, session.
