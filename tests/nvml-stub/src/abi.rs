//! The caller's pointers in, values written through them; NVML's return codes by name.

use std::ffi::c_char;
use std::ffi::c_uint;

/// `nvmlReturn_t`.
pub(crate) type Return = c_uint;

pub(crate) const SUCCESS: Return = 0;
pub(crate) const UNINITIALIZED: Return = 1;
pub(crate) const INVALID_ARGUMENT: Return = 2;
pub(crate) const INSUFFICIENT_SIZE: Return = 7;
pub(crate) const ARGUMENT_VERSION_MISMATCH: Return = 25;
pub(crate) const UNKNOWN: Return = 999;

/// Codes as `nvml.h` names them, in lower case, with the sentence that the real library has for each.
pub(crate) const CODES: [(Return, &str, &core::ffi::CStr); 14] = [
    (SUCCESS, "success", c"The operation was successful"),
    (UNINITIALIZED, "uninitialized", c"Uninitialized"),
    (INVALID_ARGUMENT, "invalid_argument", c"Invalid Argument"),
    (3, "not_supported", c"Not Supported"),
    (4, "no_permission", c"Insufficient Permissions"),
    (6, "not_found", c"Not Found"),
    (INSUFFICIENT_SIZE, "insufficient_size", c"Insufficient Size"),
    (9, "driver_not_loaded", c"Driver Not Loaded"),
    (10, "timeout", c"Timeout"),
    (15, "gpu_is_lost", c"GPU is lost"),
    (16, "reset_required", c"GPU requires reset"),
    (18, "lib_rm_version_mismatch", c"Driver/library version mismatch"),
    (ARGUMENT_VERSION_MISMATCH, "argument_version_mismatch", c"Argument version mismatch"),
    (UNKNOWN, "unknown", c"Unknown Error"),
];

/// The code a scenario names.
pub(crate) fn code(name: &str) -> Option<Return> {
    CODES.iter().find(|(_, known, _)| *known == name).map(|(code, ..)| *code)
}

/// Writes `value` to the caller.
///
/// # Safety
/// `out` is null, or points to writable memory for one `T`, as the header of NVML demands of its callers.
pub(crate) unsafe fn put<T>(out: *mut T, value: T) -> Return {
    if out.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: not null, and the caller of the C function vouches for the rest.
    unsafe {
        out.write(value);
    }
    SUCCESS
}

/// Writes `text` and its NUL to the caller's buffer of `length` bytes.
///
/// # Safety
/// `out` is null, or points to `length` writable bytes.
pub(crate) unsafe fn put_text(out: *mut c_char, length: c_uint, text: &str) -> Return {
    if out.is_null() {
        return INVALID_ARGUMENT;
    }
    if text.len() >= length as usize {
        return INSUFFICIENT_SIZE;
    }
    // SAFETY: text and NUL fit, and a Rust string does not overlap the caller's buffer.
    unsafe {
        out.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len());
    }
    // SAFETY: within the buffer, see above.
    let end = unsafe { out.add(text.len()) };
    // SAFETY: within the buffer, see above.
    unsafe {
        end.write(0);
    }
    SUCCESS
}
