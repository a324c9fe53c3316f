//! pagemill in a Linux process.
