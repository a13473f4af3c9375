//! NVML in, samples out.
