//! Accounts: limits on the pages that a user may hold, and the charges against them.

pub(crate) mod table;
