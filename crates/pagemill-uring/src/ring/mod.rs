//! The receive ring: its connections, its events, and the engine that moves pages between them.

pub(crate) mod connections;
pub(crate) mod engine;
pub(crate) mod event;
pub(crate) mod receive_ring;
