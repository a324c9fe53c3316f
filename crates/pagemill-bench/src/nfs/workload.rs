//! The loads that a server is put under.

use super::proto::Procedure;

/// What the calls do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Nothing: the cost of a call.
    Null,
    /// Ask for the attributes of a file.
    Getattr,
    /// Read a block.
    Read,
    /// Write a block, unstable.
    Write,
}

/// In which order blocks are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One after the other, again and again.
    Sequential,
    /// Any.
    Random,
}

/// A load: who asks for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// What the calls do.
    pub operation: Operation,
    /// Where in the file.
    pub order: Order,
    /// Bytes that one call reads or writes; 0 for others.
    pub block: usize,
    /// Connections, each with a file of its own.
    pub connections: usize,
    /// Calls that each has under way.
    pub depth: usize,
}

/// Bytes of a large call.
const LARGE: usize = 1 << 20;
/// Bytes of a small one.
const SMALL: usize = 4096;

impl Operation {
    /// Returns what is called.
    pub fn procedure(self) -> Procedure {
        match self {
            Self::Null => Procedure::Null,
            Self::Getattr => Procedure::Getattr,
            Self::Read => Procedure::Read,
            Self::Write => Procedure::Write,
        }
    }
}

impl Workload {
    /// The bytes of the largest call.
    pub const LARGEST_BLOCK: usize = LARGE;

    /// Calls of 1 MiB, one block after the other.
    pub const fn stream(operation: Operation, connections: usize, depth: usize) -> Self {
        Self { operation, order: Order::Sequential, block: LARGE, connections, depth }
    }

    /// Calls of 4 KiB anywhere.
    pub const fn random(operation: Operation, connections: usize, depth: usize) -> Self {
        Self { operation, order: Order::Random, block: SMALL, connections, depth }
    }

    /// Calls that move no data.
    pub const fn calls(operation: Operation, connections: usize, depth: usize) -> Self {
        Self { operation, order: Order::Sequential, block: 0, connections, depth }
    }

    /// Tells whether throughput is what counts, rather than the number of calls.
    pub fn is_stream(&self) -> bool {
        self.block >= LARGE
    }

    /// Returns a name of a few characters, such as `read 1M 1x4`.
    pub fn name(&self) -> String {
        let what = match self.operation {
            Operation::Null => "null",
            Operation::Getattr => "getattr",
            Operation::Read => "read",
            Operation::Write => "write",
        };
        let size = match self.block {
            0 => "",
            LARGE => " 1M",
            _ => " 4K",
        };
        format!("{what}{size} {}x{}", self.connections, self.depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_done_and_by_how_many() {
        assert_eq!(Workload::stream(Operation::Read, 1, 4).name(), "read 1M 1x4");
        assert_eq!(Workload::random(Operation::Write, 4, 8).name(), "write 4K 4x8");
        assert_eq!(Workload::calls(Operation::Getattr, 4, 8).name(), "getattr 4x8");
    }
}
