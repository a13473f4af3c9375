//! Who a GPU is, in words. Scenario names: `name`, `uuid`, `serial`, `vbios`, `pci_info`.

use crate::abi;
use crate::abi::Return;
use crate::device;
use crate::device::Device;
use crate::scenario::Gpu;
use crate::scenario::Instance;
use crate::session;
use std::ffi::c_char;
use std::ffi::c_uint;

macro_rules! texts {
    ($($function:ident $call:literal = $of_gpu:expr, $of_part:expr;)*) => {$(
        #[doc = concat!("`", stringify!($function), "`")]
        ///
        /// # Safety
        /// As in `nvml.h`: `text` points to `length` writable bytes.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $function(device: Device, text: *mut c_char, length: c_uint) -> Return {
            let (of_gpu, of_part): (fn(Gpu) -> String, fn(Instance) -> String) = ($of_gpu, $of_part);
            let answer = session::gpu(device, $call).map(|mut gpu| match device::place(device) {
                None => Some(of_gpu(gpu)),
                Some(place) if place < gpu.instance.len() => Some(of_part(gpu.instance.swap_remove(place))),
                Some(_) => None,
            });
            match answer {
                // SAFETY: passed on.
                Ok(Some(answer)) => unsafe { abi::put_text(text, length, &answer) },
                Ok(None) => abi::INVALID_ARGUMENT,
                Err(code) => code,
            }
        }
    )*};
}

texts! {
    nvmlDeviceGetName "name" = |gpu| gpu.name, |part| part.name;
    nvmlDeviceGetUUID "uuid" = |gpu| gpu.uuid, |part| part.uuid;
    nvmlDeviceGetSerial "serial" = |gpu| gpu.serial, |_| String::new();
    nvmlDeviceGetVbiosVersion "vbios" = |gpu| gpu.vbios, |_| String::new();
}

/// `nvmlPciInfo_t`
#[repr(C)]
struct PciInfo {
    bus_id_legacy: [c_char; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    device_id: c_uint,
    subsystem_id: c_uint,
    bus_id: [c_char; 32],
}

/// `nvmlDeviceGetPciInfo_v3`
///
/// # Safety
/// As in `nvml.h`: `pci` points to one writable structure.
#[unsafe(no_mangle)]
unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(device: Device, pci: *mut PciInfo) -> Return {
    match session::gpu(device, "pci_info") {
        Ok(gpu) => {
            let id = &gpu.pci_bus_id;
            let mut hex = id.split([':', '.']).map(|part| c_uint::from_str_radix(part, 16).unwrap_or(0));
            let mut next = || hex.next().unwrap_or(0);
            let info = PciInfo {
                bus_id_legacy: characters(id.get(4..).unwrap_or_default()),
                domain: next(),
                bus: next(),
                device: next(),
                device_id: 0x2330_10de,
                subsystem_id: 0,
                bus_id: characters(id),
            };
            // SAFETY: passed on.
            unsafe { abi::put(pci, info) }
        }
        Err(code) => code,
    }
}

/// Text in a field of fixed length, cut so that its NUL fits.
fn characters<const N: usize>(text: &str) -> [c_char; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().take(N.saturating_sub(1)).zip(text.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    out
}
