//! What the tests share: a machine made of numbers, worlds that check that nothing leaks, and a
//! naive model of the allocator with a player that compares the two.

pub(crate) mod machine;
pub(crate) mod naive;
pub(crate) mod player;
pub(crate) mod rng;
pub(crate) mod world;
