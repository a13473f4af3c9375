//! The programs: hits in traced processes in, ring records out.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "helpers, maps and user memory are raw here; the verifier checks what Rust cannot")]

mod emit;
mod maps;
mod probes;
mod regs;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
