//! Table of accounts: limits and charges.

pub(crate) mod table;
