//! NVML's bits for what holds the clocks down in; names out.

/// Bits of `nvmlDeviceGetCurrentClocksEventReasons`, as nvml.h names them.
const REASONS: [(u64, &str); 9] = [
    (0x1, "gpu_idle"),
    (0x2, "applications_clocks_setting"),
    (0x4, "sw_power_cap"),
    (0x8, "hw_slowdown"),
    (0x10, "sync_boost"),
    (0x20, "sw_thermal_slowdown"),
    (0x40, "hw_thermal_slowdown"),
    (0x80, "hw_power_brake_slowdown"),
    (0x100, "display_clock_setting"),
];

/// Each reason, and whether it holds; bits that have no name here are one reason together.
pub fn active(bits: u64) -> impl Iterator<Item = (&'static str, bool)> {
    let known = REASONS.iter().fold(0, |all, (bit, _)| all | bit);
    REASONS.iter().map(move |(bit, name)| (*name, bits & bit != 0)).chain([("other", bits & !known != 0)])
}

#[cfg(test)]
mod tests {
    use super::active;

    #[test]
    fn a_bit_without_a_name_is_no_loss_of_the_others() {
        let names = |bits| active(bits).filter(|(_, on)| *on).map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(0), [""; 0]);
        assert_eq!(names(0x4 | 0x40), ["sw_power_cap", "hw_thermal_slowdown"]);
        assert_eq!(names(0x8000_0000_0000_0001), ["gpu_idle", "other"]);
    }
}
