//! The stub NVML itself, read by NVIDIA's own binding and by nvitop: its structures, versions and codes are the real ones.

use agent_tests::gate;
use agent_tests::scratch::Scratch;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use nvml_stub::scenario::Scenario;
use serde_json::Value;
use serde_json::json;
use std::path::Path;
use std::process::Command;

/// Cargo leaves the stub beside this test, since the package depends on it.
const STUB: &str = "libnvml_stub.so";

#[test]
fn others_read_from_the_stub_what_the_scenario_says() -> Result<()> {
    let Some(python) = gate::nvml()? else { return Ok(()) };
    let scratch = Scratch::new("nvml-abi")?;
    let library = scratch.file("libnvidia-ml.so.1");
    std::fs::copy(std::env::current_exe()?.with_file_name(STUB), &library)?;
    let own = std::process::id();
    let text = include_str!("../plain/gpu/full.toml").replace("ANSWERS", "").replace("OWN", &own.to_string());
    let text = text.replace("4294967290", "2000000000");
    std::fs::write(scratch.file("libnvidia-ml.so.1.toml"), &text)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("nvml-stub/abi.py");
    let folder = library.parent().context("no folder")?;
    let out = Command::new(python).arg(script).env("LD_LIBRARY_PATH", folder).output()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let read: Value = serde_json::from_slice(&out.stdout)?;
    assert_eq!(read, expected(&toml::from_str(&text)?).context("no two GPUs")?);
    Ok(())
}

/// The scenario in the script's words.
fn expected(scenario: &Scenario) -> Option<Value> {
    let [gpu, divided] = scenario.gpu.as_slice() else { return None };
    let process = gpu.process.first()?;
    let [_, sm_percent, _, _, dram_percent] = gpu.activity_percent?;
    let parts = divided.instance.iter().map(|part| json!([part.id, part.uuid, part.memory_bytes.first()]));
    let mut pids: Vec<u32> = gpu.process.iter().map(|process| process.pid).collect();
    pids.sort_unstable();
    let [_, sm_clock, _, _] = gpu.clocks_megahertz;
    Some(json!({
        "driver": scenario.driver,
        "binding": {
            "uuid": gpu.uuid,
            "name": gpu.name,
            "pci_bus_id": gpu.pci_bus_id,
            "serial": gpu.serial,
            "vbios": gpu.vbios,
            "memory": [gpu.memory_total_bytes, gpu.memory_used_bytes, gpu.memory_reserved_bytes],
            "utilization": [gpu.utilization_percent, gpu.memory_utilization_percent],
            "power": [gpu.power_milliwatts, gpu.power_milliwatts, gpu.power_average_milliwatts],
            "energy": [gpu.energy_millijoules, gpu.energy_millijoules],
            "limit": gpu.power_limits_milliwatts.first(),
            "temperature": [gpu.temperature_celsius, gpu.memory_temperature_celsius],
            "clocks": gpu.clocks_megahertz,
            "reasons": gpu.clock_event_reasons,
            "held_down": gpu.clock_event_ns,
            "nvlink": gpu.nvlink_kibibytes,
            "ecc": gpu.ecc_errors,
            "process": [process.pid, process.memory_bytes],
            "process_percent": process.percent,
            "activity": [sm_percent, dram_percent],
            "xid": gpu.xids.first(),
        },
        "parts": parts.collect::<Vec<_>>(),
        "nvitop": { "memory": gpu.memory_total_bytes, "power": gpu.power_milliwatts, "sm_clock": sm_clock, "pids": pids },
    }))
}
