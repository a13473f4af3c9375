//! bpf(2) where the loader library has no call for it: programs that one link attaches in many places in,
//! descriptors out. Layouts and numbers are those of the kernel's uapi/linux/bpf.h.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd as _;
use std::os::fd::OwnedFd;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_BTF_LOAD: libc::c_int = 18;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_KPROBE: u32 = 2;
const BPF_TRACE_UPROBE_MULTI: u32 = 48;
/// Each instruction with its registers, and the verdict.
const BPF_LOG_LEVEL1: u32 = 1;
const NAME_BYTES: usize = 16;

/// One instruction, as the kernel reads it.
pub type Instruction = [u8; 8];

/// A program as it is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// What the kernel shows; longer ones are cut.
    pub name: &'a str,
    /// The code, with all that it calls and with the descriptors of its maps.
    pub code: &'a [Instruction],
    /// Its licence, which says what it may call.
    pub license: &'a CStr,
    /// The object's types.
    pub types: Option<BorrowedFd<'a>>,
    /// Which type each function has: records of the size that follows.
    pub functions: &'a [u8],
    /// Bytes of one such record.
    pub function_bytes: u32,
}

/// The attr of BPF_PROG_LOAD, up to the number of line records.
#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME_BYTES],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}

/// The attr of BPF_BTF_LOAD.
#[repr(C)]
#[derive(Default)]
struct BtfLoad {
    btf: u64,
    btf_log_buf: u64,
    btf_size: u32,
    btf_log_size: u32,
    btf_log_level: u32,
    btf_log_true_size: u32,
}

/// The attr of BPF_LINK_CREATE for such links.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    ref_ctr_offsets: u64,
    cookies: u64,
    cnt: u32,
    /// The only one there is would make them return probes.
    uprobe_flags: u32,
    pid: u32,
    padding: u32,
}

/// Gives the kernel an object's types.
///
/// # Errors
///
/// What the kernel says.
pub fn load_types(types: &[u8]) -> io::Result<OwnedFd> {
    let attr = BtfLoad { btf: address(types), btf_size: count(types)?, ..BtfLoad::default() };
    // SAFETY: the attr is of this command; what it points to is borrowed for the whole call.
    unsafe { descriptor(BPF_BTF_LOAD, &attr) }
}

/// Loads a program for links of many places; what the verifier says goes into `log` where that has room.
///
/// # Errors
///
/// What the kernel says.
pub fn load_program(program: &Program<'_>, log: &mut [u8]) -> io::Result<OwnedFd> {
    let mut attr = ProgLoad {
        prog_type: BPF_PROG_TYPE_KPROBE,
        insn_cnt: count(program.code)?,
        insns: address(program.code),
        license: program.license.as_ptr().expose_provenance() as u64,
        expected_attach_type: BPF_TRACE_UPROBE_MULTI,
        ..ProgLoad::default()
    };
    for (to, from) in attr.prog_name.iter_mut().take(NAME_BYTES - 1).zip(program.name.bytes()) {
        *to = from;
    }
    if let Some(types) = program.types {
        attr.prog_btf_fd = raw(types);
        attr.func_info_rec_size = program.function_bytes;
        attr.func_info = address(program.functions);
        attr.func_info_cnt = count(program.functions)?.checked_div(program.function_bytes).unwrap_or(0);
    }
    if !log.is_empty() {
        attr.log_level = BPF_LOG_LEVEL1;
        attr.log_size = count(log)?;
        attr.log_buf = log.as_mut_ptr().expose_provenance() as u64;
    }
    // SAFETY: the attr is of this command; what it points to is borrowed for the whole call, the log mutably.
    unsafe { descriptor(BPF_PROG_LOAD, &attr) }
}

/// Attaches a program to one process, at these offsets of a file, each with its cookie; closing the link detaches.
/// Never at a return.
///
/// # Errors
///
/// What the kernel says; then it is attached nowhere.
pub fn attach(program: BorrowedFd<'_>, path: &CStr, offsets: &[u64], cookies: &[u64], pid: u32) -> io::Result<OwnedFd> {
    if offsets.len() != cookies.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let attr = LinkCreate {
        prog_fd: raw(program),
        attach_type: BPF_TRACE_UPROBE_MULTI,
        path: path.as_ptr().expose_provenance() as u64,
        offsets: address(offsets),
        cookies: address(cookies),
        cnt: count(offsets)?,
        pid,
        ..LinkCreate::default()
    };
    // SAFETY: the attr is of this command; what it points to is borrowed for the whole call, of one length.
    unsafe { descriptor(BPF_LINK_CREATE, &attr) }
}

fn address<T>(of: &[T]) -> u64 {
    of.as_ptr().expose_provenance() as u64
}

fn count<T>(of: &[T]) -> io::Result<u32> {
    u32::try_from(of.len()).map_err(io::Error::other)
}

fn raw(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().cast_unsigned()
}

/// A command that gives a new descriptor.
///
/// # Safety
///
/// `T` is the layout that the kernel has for the command, and what it points to is there for the whole call.
unsafe fn descriptor<T>(command: libc::c_int, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's word; the attr itself is borrowed, and no longer than said.
    let made = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    match i32::try_from(made) {
        // SAFETY: the kernel has just made it, and nobody else knows it.
        Ok(made) if made >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(made) }),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}
