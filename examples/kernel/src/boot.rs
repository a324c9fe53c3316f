//! The way from the loader to [`kernel_main`](crate::kernel_main), and from reset to [`smp`].

use core::arch::global_asm;

use crate::{kernel_main, smp};

global_asm!(
    include_str!("boot.s"),
    trampoline = const smp::TRAMPOLINE,
    kernel_main = sym kernel_main,
    cpu_main = sym smp::cpu_main,
    arrived_cpus = sym smp::ARRIVED,
    expected_cpus = sym smp::EXPECTED,
    cpu_stacks = sym smp::STACKS,
    options(att_syntax)
);
