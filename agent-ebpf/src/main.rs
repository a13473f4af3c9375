//! The programs: hits in traced processes in, ring records out.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "helpers, maps and user memory are raw here; the verifier checks what Rust cannot")]
#![expect(clippy::inline_always, reason = "what the verifier must follow has to stand in one program")]
#![expect(clippy::cast_possible_truncation, reason = "registers are 64 bits wide whatever they hold")]
#![expect(clippy::cast_sign_loss, reason = "results are looked at as lengths once they are known to be above 0")]
#![expect(clippy::needless_pass_by_value, reason = "the macros of the programs hand their context over")]
#![expect(clippy::multiple_unsafe_ops_per_block, reason = "a place in a raw structure and its use are one step")]
#![expect(clippy::semicolon_inside_block, reason = "one-line blocks read better with it outside")]
#![expect(clippy::needless_borrows_for_generic_args, reason = "later versions of aya take references only")]

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
