//! Live events to the nodes that hold sockets: the port, and this node's hub. Adapters: `memory`.
