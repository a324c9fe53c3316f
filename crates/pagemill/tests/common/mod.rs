//! What the tests share: a naive model of the allocator, and a player that compares the two.

pub(crate) mod naive;
pub(crate) mod player;
