//! The caller's pointers in, values written through them; NVML's return codes by name.

use std::ffi::c_char;
use std::ffi::c_uint;

/// `nvmlReturn_t`.
pub(crate) type Return = c_uint;

pub(crate) const SUCCESS: Return = 0;
pub(crate) const UNINITIALIZED: Return = 1;
pub(crate) const INVALID_ARGUMENT: Return = 2;
pub(crate) const NOT_SUPPORTED: Return = 3;
pub(crate) const NOT_FOUND: Return = 6;
pub(crate) const INSUFFICIENT_SIZE: Return = 7;
pub(crate) const TIMEOUT: Return = 10;
pub(crate) const ARGUMENT_VERSION_MISMATCH: Return = 25;
pub(crate) const UNKNOWN: Return = 999;

/// Codes as `nvml.h` names them, in lower case, with the sentence that the real library has for each.
pub(crate) const CODES: [(Return, &str, &core::ffi::CStr); 17] = [
    (SUCCESS, "success", c"The operation was successful"),
    (UNINITIALIZED, "uninitialized", c"Uninitialized"),
    (INVALID_ARGUMENT, "invalid_argument", c"Invalid Argument"),
    (NOT_SUPPORTED, "not_supported", c"Not Supported"),
    (4, "no_permission", c"Insufficient Permissions"),
    (NOT_FOUND, "not_found", c"Not Found"),
    (INSUFFICIENT_SIZE, "insufficient_size", c"Insufficient Size"),
    (9, "driver_not_loaded", c"Driver Not Loaded"),
    (TIMEOUT, "timeout", c"Timeout"),
    (15, "gpu_is_lost", c"GPU is lost"),
    (16, "reset_required", c"GPU requires reset"),
    (18, "lib_rm_version_mismatch", c"Driver/library version mismatch"),
    (ARGUMENT_VERSION_MISMATCH, "argument_version_mismatch", c"Argument version mismatch"),
    (26, "deprecated", c"Deprecated"),
    (28, "gpu_not_found", c"GPU not found"),
    (77, "a_code_of_tomorrow", c"Unknown Error"),
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

/// Writes a list to the caller, whose `count` says how many fit and is told how many there are.
///
/// # Safety
/// `count` is null, or points to one integer; `out` is null, or to as many writable values as that says.
pub(crate) unsafe fn put_list<T: Copy>(out: *mut T, count: *mut c_uint, values: &[T]) -> Return {
    // SAFETY: null, or the caller's integer.
    let Some(room) = (unsafe { count.as_mut() }) else { return INVALID_ARGUMENT };
    let fits = *room as usize >= values.len();
    *room = c_uint::try_from(values.len()).unwrap_or(c_uint::MAX);
    if values.is_empty() {
        return SUCCESS;
    }
    if out.is_null() || !fits {
        return INSUFFICIENT_SIZE;
    }
    // SAFETY: there is room for as many, and what is the caller's does not overlap what is ours.
    unsafe {
        out.copy_from_nonoverlapping(values.as_ptr(), values.len());
    }
    SUCCESS
}
