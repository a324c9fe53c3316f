//! XDP programs as arrays of BPF instructions: needs no compiler and no object file.

use crate::sys::bpf::Instruction;

/// Verdict: the packet goes to the network stack.
const XDP_PASS: i32 = 2;

/// Numbers of helper functions.
const BPF_REDIRECT: i32 = 23;
const BPF_REDIRECT_MAP: i32 = 51;

/// Offset of the queue's number in `struct xdp_md`.
const RX_QUEUE_INDEX: i16 = 16;

/// Passes each packet to the socket that `map` has for its queue; a packet without a socket goes to the
/// network stack.
///
/// ```text
/// r2 = ctx->rx_queue_index
/// r1 = map
/// r3 = XDP_PASS
/// call bpf_redirect_map
/// exit
/// ```
pub(crate) fn to_sockets(map: i32) -> [Instruction; 6] {
    /// `BPF_PSEUDO_MAP_FD`: the number is that of a descriptor.
    const MAP_FD: u8 = 1;

    [
        load_word(2, 1, RX_QUEUE_INDEX),
        // A 64-bit number takes two instructions.
        Instruction { code: 0x18, registers: 1 | MAP_FD << 4, offset: 0, immediate: map },
        Instruction { code: 0, registers: 0, offset: 0, immediate: 0 },
        set(3, XDP_PASS),
        call(BPF_REDIRECT_MAP),
        EXIT,
    ]
}

/// Sends each packet out of the interface with number `interface`.
pub(crate) fn to_interface(interface: u32) -> [Instruction; 4] {
    [set(1, interface.cast_signed()), set(2, 0), call(BPF_REDIRECT), EXIT]
}

/// `r[to] = *(u32 *)(r[from] + offset)`
const fn load_word(to: u8, from: u8, offset: i16) -> Instruction {
    Instruction { code: 0x61, registers: to | from << 4, offset, immediate: 0 }
}

/// `r[to] = value`
const fn set(to: u8, value: i32) -> Instruction {
    Instruction { code: 0xb7, registers: to, offset: 0, immediate: value }
}

const fn call(helper: i32) -> Instruction {
    Instruction { code: 0x85, registers: 0, offset: 0, immediate: helper }
}

const EXIT: Instruction = Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 };
