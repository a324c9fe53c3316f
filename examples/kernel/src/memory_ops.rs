//! What the compiler may call for copies and comparisons on any target.

use core::arch::global_asm;

global_asm!(include_str!("memory_ops.s"), options(att_syntax));
