//! Zones: free frames as bitmaps, in shards with a lock each; watermarks.

pub(crate) mod block_state;
pub(crate) mod buddy;
pub(crate) mod check;
pub(crate) mod contig;
pub(crate) mod frame_set;
pub(crate) mod frame_words;
pub(crate) mod located;
pub(crate) mod pageblock;
pub(crate) mod parts;
pub(crate) mod runs;
pub(crate) mod shard;
pub(crate) mod shard_map;
pub(crate) mod span;
pub(crate) mod watermark;
pub(crate) mod zone;
pub(crate) mod zonelist;
