//! NFS workloads: operation, order, block size, connections and depth.

use super::proto::Procedure;

/// The operation of the calls.
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

/// The order of reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Sequentially, repeated.
    Sequential,
    /// At random offsets.
    Random,
}

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The operation.
    pub operation: Operation,
    /// The order of offsets in the file.
    pub order: Order,
    /// Bytes per read or write; 0 for other operations.
    pub block: usize,
    /// Number of connections, each with its own file.
    pub connections: usize,
    /// Number of outstanding calls per connection.
    pub depth: usize,
}

/// Bytes of a large read or write.
const LARGE: usize = 1 << 20;
/// Bytes of a small one.
const SMALL: usize = 4096;

impl Operation {
    /// Returns the procedure of the operation.
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
    /// Bytes of the largest block.
    pub const LARGEST_BLOCK: usize = LARGE;

    /// A load of sequential 1 MiB calls.
    pub const fn stream(operation: Operation, connections: usize, depth: usize) -> Self {
        Self { operation, order: Order::Sequential, block: LARGE, connections, depth }
    }

    /// A load of 4 KiB calls at random offsets.
    pub const fn random(operation: Operation, connections: usize, depth: usize) -> Self {
        Self { operation, order: Order::Random, block: SMALL, connections, depth }
    }

    /// A load of calls that move no data.
    pub const fn calls(operation: Operation, connections: usize, depth: usize) -> Self {
        Self { operation, order: Order::Sequential, block: 0, connections, depth }
    }

    /// Returns whether throughput matters, rather than the number of calls.
    pub fn is_stream(&self) -> bool {
        self.block >= LARGE
    }

    /// Returns a short name, such as `read 1M 1x4`.
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
