//! Restartable sequences (rseq): read the CPU number and claim per-CPU lists without atomic
//! instructions.
//!
//! The kernel and the C library keep an area for each thread. It holds the number of the CPU, so that a
//! single load reads it; calling the kernel through the vDSO takes tens of instructions. It also lets a
//! thread run a few instructions that end in one store as if no other thread ran on its CPU: if the
//! kernel preempts the thread during the sequence, the thread resumes at an abort label, and the store
//! is not made. So a word that belongs to a CPU is set without an atomic instruction.
//!
//! `rseq-sequence`: a restartable sequence reaches from its start label to the instruction after
//! its store. The kernel resumes a thread that was preempted within it at the abort label, which
//! follows the signature that the C library registered. The area names the last sequence until the
//! kernel next checks it, finds the thread outside the sequence, and clears the field; clearing it
//! at the end of each sequence would cost one more store. So the kernel may read a sequence's
//! descriptor at any later time, and the descriptor must stay mapped: `code-resident`.
//!
//! `claim-switch` ([`switch`]): how the claim of a CPU changes from plain stores to exchanges.
//!
//! # Source
//! `linux-6.12` `include/uapi/linux/rseq.h`, `kernel/rseq.c`, `include/uapi/linux/membarrier.h`;
//! `glibc` `manual/threads.texi` "Restartable Sequences", `sysdeps/unix/sysv/linux/x86/bits/rseq.h`
//! `RSEQ_SIG`.

use std::sync::Once;

use pagemill::machine::Claim;
use pagemill::units::CpuId;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tracing::warn;

use crate::cpu::resident;

#[cfg(all(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_pointer_width = "64",
    not(miri)
))]
pub(crate) use area::Area;
#[cfg(not(all(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_pointer_width = "64",
    not(miri)
)))]
pub(crate) use no_area::Area;

/// The area, on targets whose thread pointer is known here.
#[cfg(all(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_pointer_width = "64",
    not(miri)
))]
mod area {
    use core::arch::asm;
    use core::ffi::{CStr, c_uint};
    use core::num::NonZeroIsize;
    use core::ptr::NonNull;

    use pagemill::machine::{Claim, Claimed};
    use pagemill::units::CpuId;

    /// Offset of the field `cpu_id` in `struct rseq`, after the 32 bits of `cpu_id_start`.
    const CPU_ID: isize = 4;
    /// The part of `struct rseq` that must exist: the fields up to `flags`.
    const SIZE_NEEDED: c_uint = 20;

    /// Location of each thread's area: the distance from the thread pointer to `cpu_id`.
    ///
    /// Upholds `rseq-registered`. It is never zero: the C library keeps data that the ABI requires at
    /// the thread pointer itself. So `Option<Area>` costs one test and no memory.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Area(NonZeroIsize);

    impl Area {
        /// Finds the area, if the C library keeps one.
        pub(crate) fn find() -> Option<Self> {
            let size = symbol(c"__rseq_size")?.cast::<c_uint>();
            let offset = symbol(c"__rseq_offset")?.cast::<isize>();
            // SAFETY:
            // 1. glibc declares `const unsigned int __rseq_size`; no other C library has this
            //    symbol.
            // 2. The C library writes it before any code of the program runs, and never again.
            let size = unsafe { size.read() };
            if size < SIZE_NEEDED {
                // The kernel has no restartable sequences, or the user turned them off.
                return None;
            }
            // SAFETY:
            // 1. glibc declares `const ptrdiff_t __rseq_offset`; no other C library has this
            //    symbol.
            // 2. The C library writes it before any code of the program runs, and never again.
            let offset = unsafe { offset.read() };
            let area = Self(NonZeroIsize::new(offset.checked_add(CPU_ID)?)?);
            area.cpu().map(|_| area)
        }

        /// Returns the CPU that runs the caller; `None` for a thread whose area is not registered.
        #[inline]
        pub(crate) fn cpu(self) -> Option<CpuId> {
            // SAFETY: 1. `cpu_id` is in the area (`rseq-registered`).
            let cpu_id = unsafe { self.read_u32::<0>() };
            // Negative in a thread whose registration failed, or that unregistered.
            (cpu_id.cast_signed() >= 0).then_some(CpuId::new(cpu_id))
        }

        /// Returns the CPU that runs the caller, as a first guess for a sequence that compares it.
        ///
        /// It is some CPU's number even in a thread whose area is not registered.
        #[inline]
        pub(crate) fn cpu_start(self) -> CpuId {
            /// From `cpu_id` to `cpu_id_start`.
            const START: i32 = -4;
            // SAFETY: 1. `cpu_id_start` is in the area, before `cpu_id` (`rseq-registered`).
            CpuId::new(unsafe { self.read_u32::<START>() })
        }

        /// Sets the second word of `claim` if it is zero and the first one names the CPU that runs
        /// the caller.
        ///
        /// Also returns `None` if the caller was preempted during the sequence.
        ///
        /// # Safety
        /// - The process is registered for fences of sequences. Visitors take the claim after such
        ///   a [`fence`](super::fence), or by an exchange once it is shared as `claim-switch`
        ///   states.
        /// - This code is never unmapped (`code-resident`).
        #[cfg(target_arch = "x86_64")]
        #[inline]
        pub(crate) unsafe fn try_claim(self, claim: &Claim) -> Option<Claimed<'_>> {
            /// From `cpu_id` to `rseq_cs`, which names the sequence that the thread is in.
            const SEQUENCE: i32 = 4;
            // SAFETY:
            // 1. The area is the thread's own, aligned and mapped (`rseq-registered`); `rseq_cs` is
            //    for the thread to write.
            // 2. It is set to the address of a descriptor in the kernel's format (`rseq-sequence`):
            //    version 0, no flags, start, length, abort address. Descriptor and code stay mapped
            //    while the field names them: `code-resident`.
            // 3. The claim's words are valid, aligned, and accessed only atomically by other code.
            //    The sequence loads both and stores the second; on x86 all loads are Acquire and
            //    all stores Release.
            // 4. The code uses no stack. It changes flags and memory, which the default options
            //    allow.
            unsafe {
                asm!(
                    "lea rcx, [rip + 22f]",
                    "mov qword ptr fs:[{area} + {SEQUENCE}], rcx",
                    "33:",
                    "mov ecx, dword ptr fs:[{area}]",
                    "cmp ecx, dword ptr [{claim}]",
                    "jne {in_use}",
                    "cmp dword ptr [{claim} + 4], 0",
                    "jne {in_use}",
                    "mov dword ptr [{claim} + 4], 1",
                    "44:",
                    ".pushsection __rseq_cs, \"aw\"",
                    ".balign 32",
                    "22:",
                    ".long 0, 0",
                    ".quad 33b, 44b - 33b, 66f",
                    ".popsection",
                    ".pushsection .text.unlikely, \"ax\"",
                    // An undefined instruction whose last four bytes are the signature.
                    ".byte 0x0f, 0xb9, 0x3d",
                    ".long 0x53053053",
                    "66:",
                    "jmp {in_use}",
                    ".popsection",
                    area = in(reg) self.0.get(),
                    claim = in(reg) claim.as_ptr(),
                    out("rcx") _,
                    in_use = label { return None },
                    SEQUENCE = const SEQUENCE,
                    options(nostack),
                );
            }
            // SAFETY:
            // 1. The sequence set the second word from zero to one while the first named its CPU.
            // 2. All threads on this CPU use such sequences, and visitors fence them or follow
            //    `claim-switch`: guaranteed by the caller.
            Some(unsafe { claim.assume_taken() })
        }

        /// Reads 32 bits of the calling thread's area, `FIELD` bytes after `cpu_id`.
        ///
        /// # Safety
        /// The area has this field, and only the kernel writes to it.
        #[inline]
        unsafe fn read_u32<const FIELD: i32>(self) -> u32 {
            let value: u32;
            // `readonly` without `pure`: the value changes between two reads, so none may be elided.
            // SAFETY:
            // 1. The area is part of the thread's control block, mapped while the thread runs, and
            //    aligned to 32 bytes (`rseq-registered`).
            // 2. Only the kernel writes CPU numbers, and only while this thread does not run.
            // 3. The instructions touch neither the stack nor flags.
            #[cfg(target_arch = "x86_64")]
            unsafe {
                asm!(
                    "mov {value:e}, dword ptr fs:[{area} + {FIELD}]",
                    area = in(reg) self.0.get(),
                    FIELD = const FIELD,
                    value = lateout(reg) value,
                    options(nostack, preserves_flags, readonly),
                );
            }
            // SAFETY: the same facts as on x86-64; every process may read TPIDR_EL0, its thread
            // pointer.
            #[cfg(target_arch = "aarch64")]
            unsafe {
                asm!(
                    "mrs {thread}, tpidr_el0",
                    "add {thread}, {thread}, {area}",
                    "ldur {value:w}, [{thread}, #{FIELD}]",
                    area = in(reg) self.0.get(),
                    FIELD = const FIELD,
                    thread = out(reg) _,
                    value = lateout(reg) value,
                    options(nostack, preserves_flags, readonly),
                );
            }
            value
        }

        /// Whether [`try_claim`](Self::try_claim) supports the machine.
        // Not under ThreadSanitizer, for which lists are claimed by an exchange: it does not see that
        // a sequence and a fence exclude each other.
        pub(crate) const CAN_CLAIM: bool = cfg!(all(target_arch = "x86_64", not(pagemill_tsan)));

        /// Cannot be called.
        ///
        /// # Safety
        /// [`CAN_CLAIM`](Self::CAN_CLAIM) is false.
        #[cfg(not(target_arch = "x86_64"))]
        pub(crate) unsafe fn try_claim(self, _: &Claim) -> Option<Claimed<'_>> {
            unreachable!("not called: CAN_CLAIM is false")
        }
    }

    /// Returns the address of a symbol that may not exist.
    fn symbol(name: &CStr) -> Option<NonNull<u8>> {
        // Not `extern`: the program must also start with a C library that lacks these symbols.
        // SAFETY:
        // 1. The name is a C string, and `RTLD_DEFAULT` is a handle that needs no `dlopen`.
        let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
        NonNull::new(address.cast())
    }
}

/// The same interface on targets where the area cannot be read.
#[cfg(not(all(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    target_pointer_width = "64",
    not(miri)
)))]
mod no_area {
    use pagemill::machine::{Claim, Claimed};
    use pagemill::units::CpuId;

    /// An area that is never found.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Area {}

    impl Area {
        /// Claims are never taken by sequences.
        pub(crate) const CAN_CLAIM: bool = false;

        /// Always returns `None`.
        pub(crate) fn find() -> Option<Self> {
            None
        }

        /// Cannot be called.
        pub(crate) fn cpu(self) -> Option<CpuId> {
            match self {}
        }

        /// Cannot be called.
        pub(crate) fn cpu_start(self) -> CpuId {
            match self {}
        }

        /// Cannot be called.
        ///
        /// # Safety
        /// The type has no value, so no caller exists.
        pub(crate) unsafe fn try_claim(self, _: &Claim) -> Option<Claimed<'_>> {
            match self {}
        }
    }
}

/// Registers the process for [`fence`] and keeps this code mapped. Returns the area if sequences can
/// take claims.
pub(crate) fn claims() -> Option<Area> {
    const REGISTER: i32 = libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ;
    let is_resident = resident::keep();
    let area = Area::find().filter(|_| Area::CAN_CLAIM)?;
    (is_resident && membarrier(REGISTER, 0, 0)).then_some(area)
}

/// Aborts the restartable sequence that a thread of this process may be in on `cpu`, and orders what
/// the CPU did before it; returns false if the kernel cannot do that.
pub(crate) fn fence(cpu: CpuId) -> bool {
    /// `MEMBARRIER_CMD_FLAG_CPU`, which the crate libc lacks.
    const ON_ONE_CPU: i32 = 1;
    let command = libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ;
    i32::try_from(cpu.value()).is_ok_and(|cpu| membarrier(command, ON_ONE_CPU, cpu))
}

/// Makes a claim be taken by exchanges from now on, because a [`fence`] was refused, and logs that
/// once.
///
/// A program may forbid itself system calls at any time (seccomp), so `membarrier` may fail although it
/// worked when the host was made.
///
/// `claim-switch`: closing the claim stops new sequences on its CPU, but a sequence that began
/// earlier may still end in its store. The kernel aborts a sequence when it preempts it, so every
/// such sequence has ended or was aborted once another thread has run on that CPU outside a
/// sequence. Therefore only a thread that closed the claim, or saw it closed, and ran on the CPU
/// after that shares the claim. The closing thread moves to that CPU for a moment, if it may. If it
/// may not, the next thread that tries to take the lists there shares the claim
/// ([`share_if_here`]).
#[cold]
pub(crate) fn switch(area: Area, claim: &Claim) {
    static LOGGED: Once = Once::new();
    claim.close();
    if !claim.is_closed() {
        return;
    }
    let cpu = claim.cpu();
    if area.cpu() == Some(cpu) || visit(cpu) {
        claim.share();
    }
    LOGGED.call_once(|| {
        warn!(
            cpu = cpu.value(),
            is_shared = !claim.is_closed(),
            "membarrier is refused, as by a seccomp filter that was installed late: per-CPU lists are \
             claimed by atomic exchanges from now on; allow membarrier to avoid their cost"
        );
    });
}

/// Completes a [`switch`] if the caller runs on the claim's CPU: see `claim-switch`.
pub(crate) fn share_if_here(area: Area, claim: &Claim) {
    // In this order: first that the claim is closed, then where the caller runs.
    if claim.is_closed() && area.cpu() == Some(claim.cpu()) {
        claim.share();
    }
}

/// Runs on `cpu` for a moment, outside of any sequence; returns false if the thread may not.
fn visit(cpu: CpuId) -> bool {
    let index = cpu.value() as usize;
    if index >= CpuSet::MAX_CPU {
        return false;
    }
    let Ok(before) = sched_getaffinity(None) else { return false };
    let mut there = CpuSet::new();
    there.set(index);
    // The kernel has moved the thread before the call returns.
    let was_there = sched_setaffinity(None, &there).is_ok();
    if was_there && sched_setaffinity(None, &before).is_err() {
        warn!(
            cpu = cpu.value(),
            "this thread stays bound to the CPU: its affinity was not restored"
        );
    }
    was_there
}

fn membarrier(command: i32, flags: i32, cpu: i32) -> bool {
    // SAFETY:
    // 1. The call takes three numbers and accesses no memory of the process.
    unsafe { libc::syscall(libc::SYS_membarrier, command, flags, cpu) == 0 }
}
