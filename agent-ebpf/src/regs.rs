//! Registers of the two architectures: the only file that names them.
//!
//! x86-64 has run; aarch64 is compiled only.

use aya_ebpf::programs::ProbeContext;

/// First to fourth argument, of a function at its entry and of a system call after `syscall`.
pub(crate) struct Args {
    pub(crate) a: u64,
    pub(crate) b: u64,
    pub(crate) c: u64,
    pub(crate) d: u64,
}

/// The result in the return register.
#[inline(always)]
pub(crate) fn result(ctx: &ProbeContext) -> i64 {
    // SAFETY: the kernel hands over a valid register set.
    let regs = unsafe { &*ctx.regs };
    #[cfg(bpf_target_arch = "aarch64")]
    return regs.regs[0].cast_signed();
    #[cfg(not(bpf_target_arch = "aarch64"))]
    return regs.rax.cast_signed();
}

/// Arguments of a function at its entry.
#[inline(always)]
pub(crate) fn args(ctx: &ProbeContext) -> Args {
    // SAFETY: the kernel hands over a valid register set.
    let regs = unsafe { &*ctx.regs };
    #[cfg(bpf_target_arch = "aarch64")]
    return Args { a: regs.regs[0], b: regs.regs[1], c: regs.regs[2], d: regs.regs[3] };
    #[cfg(not(bpf_target_arch = "aarch64"))]
    return Args { a: regs.rdi, b: regs.rsi, c: regs.rdx, d: regs.rcx };
}

/// Arguments of a system call after its `syscall` instruction, which keeps all but rcx and r11.
#[inline(always)]
pub(crate) fn syscall_args(ctx: &ProbeContext) -> Args {
    // SAFETY: the kernel hands over a valid register set.
    let regs = unsafe { &*ctx.regs };
    #[cfg(bpf_target_arch = "aarch64")]
    return Args { a: regs.regs[0], b: regs.regs[1], c: regs.regs[2], d: regs.regs[3] };
    #[cfg(not(bpf_target_arch = "aarch64"))]
    return Args { a: regs.rdi, b: regs.rsi, c: regs.rdx, d: regs.r10 };
}
