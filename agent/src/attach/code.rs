//! Machine code of one function in, the places where its result can be seen out.
//!
//! x86-64 only: on aarch64 the first argument and the result share a register, so its `svc` sites
//! cannot show both; there the entry and the `ret` instructions are used.

/// A place in a function, bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Just after a `syscall` instruction.
    AfterSyscall(u64),
    /// A `ret` instruction.
    Return(u64),
    /// A jump out of the function.
    TailJump {
        /// The jump.
        at: u64,
        /// Where it goes, from the function's start too; what lies before that wraps around.
        to: u64,
    },
}

/// Every such place of a function, in order.
#[cfg(target_arch = "x86_64")]
pub fn places(code: &[u8]) -> Vec<Place> {
    use iced_x86::Decoder;
    use iced_x86::DecoderOptions;
    use iced_x86::Mnemonic;
    use iced_x86::OpKind;

    let end = code.len() as u64;
    let mut found = Vec::new();
    for instruction in &mut Decoder::with_ip(64, code, 0, DecoderOptions::NONE) {
        if instruction.is_invalid() {
            break;
        }
        if instruction.mnemonic() == Mnemonic::Syscall && instruction.next_ip() < end {
            found.push(Place::AfterSyscall(instruction.next_ip()));
        } else if instruction.mnemonic() == Mnemonic::Ret {
            found.push(Place::Return(instruction.ip()));
        } else if instruction.mnemonic() == Mnemonic::Jmp
            && instruction.op0_kind() == OpKind::NearBranch64
            && instruction.near_branch_target() >= end
        {
            found.push(Place::TailJump { at: instruction.ip(), to: instruction.near_branch_target() });
        }
    }
    found
}

/// Every such place of a function, in order.
#[cfg(target_arch = "aarch64")]
pub fn places(code: &[u8]) -> Vec<Place> {
    const RET: u32 = 0xd65f_03c0;
    let words = code.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    (0_u64..).zip(words).filter(|(_, word)| *word == RET).map(|(at, _)| Place::Return(at * 4)).collect()
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_end_is_found_where_it_is() {
        let table: [(&str, &[u8], &[Place]); 5] = [
            (
                "mov eax,1; syscall; ret",
                &[0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0xc3],
                &[Place::AfterSyscall(7), Place::Return(7)],
            ),
            ("xor eax,eax; ret; nop; ret", &[0x31, 0xc0, 0xc3, 0x90, 0xc3], &[Place::Return(2), Place::Return(4)]),
            ("jmp far beyond", &[0xe9, 0x00, 0x10, 0, 0], &[Place::TailJump { at: 0, to: 0x1005 }]),
            ("jmp to itself", &[0xeb, 0xfe], &[]),
            ("cut in the middle of an instruction", &[0xb8, 1, 0], &[]),
        ];
        for (name, code, expected) in table {
            assert_eq!(places(code), expected, "{name}");
        }
    }
}
