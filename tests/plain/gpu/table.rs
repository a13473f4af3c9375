//! The metric table: each number of the page against the scenario that the stub plays.

use crate::gpu::machine::Machine;
use crate::gpu::machine::at;
use nvml_stub::scenario::Gpu;
use nvml_stub::scenario::Scenario;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::process;
use std::sync::Arc;
use std::time::Duration;
use tachograph::clock::Anchor;
use tachograph::clock::Clock as _;
use tachograph::clock::System;
use tachograph::correlate::state::Correlator;
use tachograph::correlate::state::Settings;
use tachograph::export::prometheus;
use tachograph::gpu::State;
use tachograph::gpu::sampler::Session;
use tachograph::vitals::Vitals;

/// A machine that tells everything, with more answers of its first GPU.
pub(super) fn scenario(answers: &str) -> String {
    include_str!("full.toml").replace("ANSWERS", answers).replace("OWN", &process::id().to_string())
}

/// The functions that the stub has.
pub(super) fn symbols() -> BTreeSet<String> {
    let library = Machine::new("");
    let bytes = fs::read(library.library()).unwrap();
    let names = bytes.split(|byte| *byte == 0).filter_map(|name| str::from_utf8(name).ok());
    let function =
        |name: &&str| name.starts_with("nvml") && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let ours = |name: &&str| name.as_bytes().get(4).is_some_and(u8::is_ascii_uppercase);
    names.filter(function).filter(ours).map(str::to_owned).collect()
}

/// A page of metrics, by GPU and by name with labels.
pub(super) struct Page(String);

impl Page {
    /// The page that a state leads to.
    pub(super) fn of(state: State) -> Self {
        let anchor = Anchor { mono: at(1), unix_ns: 1_700_000_000_000_000_000 };
        let correlator = Correlator::new(&Settings::default(), Arc::new(Vitals::default()), anchor, Box::new(|_| ()));
        correlator.gpu(state, System.now());
        Self(prometheus::render(&correlator.snapshot(anchor)).unwrap())
    }

    /// The series of one GPU: `name label=value,…` without the GPU's own labels, and without what differs each time.
    pub(super) fn of_gpu(&self, uuid: &str) -> BTreeMap<String, f64> {
        let mine = |line: &&str| line.contains(&format!("{{hw_id=\"{uuid}\""));
        let lines = self.0.lines().filter(|line| !line.starts_with('#')).filter(mine);
        let kept = |name: &String| !["_age_", "_call"].iter().any(|own| name.contains(own));
        lines.filter_map(series).filter(|(name, _)| kept(name)).collect()
    }
}

fn series(line: &str) -> Option<(String, f64)> {
    let (name, rest) = line.split_once('{')?;
    let (labels, value) = rest.rsplit_once("} ")?;
    let labels: Vec<String> = labels.replace('"', "").split(',').skip(2).map(str::to_owned).collect();
    Some((format!("{name} {}", labels.join(",")).trim_end().to_owned(), value.parse().ok()?))
}

/// What the page must say of a GPU that tells everything, from the scenario's own numbers.
fn expected(gpu: &Gpu) -> BTreeMap<String, f64> {
    let mut rows: Vec<(String, f64)> = Vec::new();
    let mut row = |name: &str, value: f64| rows.push((name.to_owned(), value));
    let (used, reserved) = (gpu.memory_used_bytes, gpu.memory_reserved_bytes);
    row("hw_gpu_memory_usage_bytes", used as f64);
    row("hw_gpu_memory_limit_bytes", gpu.memory_total_bytes as f64);
    row("tachograph_gpu_memory_reserved_bytes", reserved as f64);
    row("tachograph_gpu_memory_free_bytes", (gpu.memory_total_bytes - used - reserved) as f64);
    row("hw_gpu_utilization_ratio hw_gpu_task=general", f64::from(gpu.utilization_percent) / 100.0);
    row("tachograph_gpu_memory_busy_ratio", f64::from(gpu.memory_utilization_percent) / 100.0);
    row("hw_power_watts hw_type=gpu", f64::from(gpu.power_milliwatts) / 1e3);
    row("tachograph_gpu_power_average_watts", f64::from(gpu.power_average_milliwatts) / 1e3);
    for (kind, limit) in ["enforced", "requested", "default"].iter().zip(gpu.power_limits_milliwatts) {
        row(&format!("tachograph_gpu_power_limit_watts kind={kind}"), f64::from(limit) / 1e3);
    }
    row("hw_energy_joules_total hw_type=gpu", gpu.energy_millijoules as f64 / 1e3);
    row("hw_temperature_celsius hw_type=gpu,sensor=gpu", f64::from(gpu.temperature_celsius));
    row("hw_temperature_celsius hw_type=gpu,sensor=memory", f64::from(gpu.memory_temperature_celsius));
    for (place, clock) in ["graphics", "sm", "memory", "video"].iter().enumerate() {
        row(&format!("tachograph_gpu_clock_hertz clock={clock}"), f64::from(gpu.clocks_megahertz[place]) * 1e6);
        row(&format!("tachograph_gpu_clock_max_hertz clock={clock}"), f64::from(gpu.clocks_max_megahertz[place]) * 1e6);
    }
    let reasons = [
        ("gpu_idle", 0),
        ("applications_clocks_setting", 0),
        ("sw_power_cap", 1),
        ("hw_slowdown", 0),
        ("sync_boost", 0),
        ("sw_thermal_slowdown", 0),
        ("hw_thermal_slowdown", 1),
        ("hw_power_brake_slowdown", 0),
        ("display_clock_setting", 0),
        ("other", 1),
    ];
    for (reason, active) in reasons {
        row(&format!("tachograph_gpu_clock_event_active reason={reason}"), f64::from(active));
    }
    let reasons =
        ["sw_power_cap", "sync_boost", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown"];
    for (reason, ns) in reasons.iter().zip(gpu.clock_event_ns) {
        row(&format!("tachograph_gpu_clock_event_seconds_total reason={reason}"), ns as f64 / 1e9);
    }
    for (link, unit, [sent, received]) in [("pcie", 1, gpu.pcie_bytes), ("nvlink", 1024, gpu.nvlink_kibibytes)] {
        let name = format!("hw_gpu_io_bytes_total link={link},network_io_direction=");
        row(&format!("{name}transmit"), (sent * unit) as f64);
        row(&format!("{name}receive"), (received * unit) as f64);
    }
    row("tachograph_gpu_pcie_replays_total", f64::from(gpu.pcie_replays));
    row("tachograph_gpu_pcie_link_generation", f64::from(gpu.pcie_link[0]));
    row("tachograph_gpu_pcie_link_width", f64::from(gpu.pcie_link[1]));
    for (place, kind) in ["corrected", "uncorrected"].iter().enumerate() {
        row(&format!("hw_errors_total hw_type=gpu,error_type={kind}"), gpu.ecc_errors[place] as f64);
        row(&format!("tachograph_gpu_ecc_lifetime_errors_total kind={kind}"), gpu.ecc_errors[place + 2] as f64);
        row(&format!("tachograph_gpu_rows_remapped_total kind={kind}"), f64::from(gpu.remapped_rows[place]));
    }
    row("tachograph_gpu_row_remap kind=pending", f64::from(gpu.remapped_rows[2]));
    row("tachograph_gpu_row_remap kind=failed", f64::from(gpu.remapped_rows[3]));
    row("tachograph_gpu_recovery_action", f64::from(gpu.recovery_action));
    for (state, is) in [("ok", 0.0), ("degraded", 1.0), ("failed", 0.0)] {
        row(&format!("hw_status hw_type=gpu,hw_state={state}"), is);
    }
    for (part, percent) in PARTS.iter().zip(gpu.activity_percent.unwrap()) {
        row(&format!("tachograph_gpu_activity_ratio part={part}"), percent / 100.0);
    }
    for code in &gpu.xids {
        let count = gpu.xids.iter().filter(|other| *other == code).count() as f64;
        row(&format!("hw_errors_total hw_type=gpu,error_type=xid_{code}"), count);
        row(&format!("tachograph_gpu_xid_errors_total xid={code}"), count);
    }
    let own = &gpu.process[0];
    let [sm, _, encoder, decoder] = own.percent.map(|percent| f64::from(percent) / 100.0);
    let mine = format!("pid={},engine=", own.pid);
    row(&format!("tachograph_gpu_process_memory_bytes {mine}"), own.memory_bytes.unwrap() as f64);
    row(&format!("tachograph_gpu_process_sm_ratio {mine}"), sm);
    row(&format!("tachograph_gpu_process_encoder_ratio {mine}"), encoder);
    row(&format!("tachograph_gpu_process_decoder_ratio {mine}"), decoder);
    let nobody = "pid=unattributed,engine=";
    row(&format!("tachograph_gpu_process_memory_bytes {nobody}"), (used - own.memory_bytes.unwrap()) as f64);
    row(&format!("tachograph_gpu_process_sm_ratio {nobody}"), f64::from(gpu.utilization_percent) / 100.0 - sm);
    let info = format!(
        "tachograph_gpu_info index=0,pci_bus_id={},serial_number={},driver_version=580.95.05,firmware_version={},mig=false",
        gpu.pci_bus_id, gpu.serial, gpu.vbios
    );
    row(&info, 1.0);
    rows.into_iter().collect()
}

/// A time, which no scenario says.
const LAST_SEEN: &str = "tachograph_gpu_xid_last_timestamp_seconds";
const PARTS: [&str; 5] = ["graphics", "sm", "sm_occupancy", "tensor", "dram"];

/// Reads until the last of the critical errors has come.
fn read() -> Page {
    let machine = Machine::new(&scenario(""));
    let mut session = Session::new(&machine.config);
    let deadline = System.now().plus(Duration::from_mins(1));
    (0..)
        .map(|second| Page::of(session.step(at(second))))
        .inspect(|_| std::thread::sleep(Duration::from_millis(5)))
        .skip(1)
        .find(|page| {
            page.of_gpu("GPU-full").contains_key("tachograph_gpu_xid_errors_total xid=94") || System.now() > deadline
        })
        .unwrap()
}

/// Without a tolerance: what is divided here is divided there in the same way.
fn holds(page: &BTreeMap<String, f64>, expected: &BTreeMap<String, f64>) {
    println!("\n{:>16} {:>16}  series", "scenario", "page");
    let names: BTreeSet<&String> = page.keys().chain(expected.keys()).collect();
    let mut wrong = Vec::new();
    for name in names.into_iter().filter(|name| !name.starts_with(LAST_SEEN)) {
        let text = |value: Option<&f64>| value.map_or("–".to_owned(), f64::to_string);
        let (told, scenario) = (page.get(name), expected.get(name));
        println!("{:>16} {:>16}  {name}", text(scenario), text(told));
        if told.zip(scenario).is_none_or(|(told, scenario)| (told - scenario).abs() > 1e-12 * scenario.abs()) {
            wrong.push(name);
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn every_number_is_the_scenarios_and_none_is_untested() {
    let page = read();
    let scenario: Scenario = toml::from_str(&scenario("")).unwrap();
    let page = page.of_gpu("GPU-full");
    holds(&page, &expected(&scenario.gpu[0]));
    let seen: Vec<&String> = page.keys().filter(|name| name.starts_with(LAST_SEEN)).collect();
    assert_eq!(seen, [&format!("{LAST_SEEN} xid=31"), &format!("{LAST_SEEN} xid=94")]);
}

#[test]
fn a_divided_gpu_tells_its_parts_and_nothing_that_it_does_not_know() {
    let page = read().of_gpu("GPU-parts");
    let scenario: Scenario = toml::from_str(&scenario("")).unwrap();
    let mut parts = BTreeMap::new();
    for part in &scenario.gpu[1].instance {
        let ids = format!("gi={},ci={}", part.id[0], part.id[1]);
        parts.insert(format!("tachograph_gpu_mig_memory_limit_bytes {ids}"), part.memory_bytes[0] as f64);
        parts.insert(format!("tachograph_gpu_mig_memory_usage_bytes {ids}"), part.memory_bytes[1] as f64);
        for (name, percent) in PARTS.iter().zip(part.activity_percent) {
            parts.insert(format!("tachograph_gpu_mig_activity_ratio {ids},part={name}"), percent / 100.0);
        }
    }
    let own = format!("tachograph_gpu_process_memory_bytes pid={},engine=", process::id());
    let two_parts = scenario.gpu[1].process.iter().filter_map(|process| process.memory_bytes).sum::<u64>();
    parts.insert(own.clone(), two_parts as f64);
    let of_parts = |(name, _): &(&String, &f64)| name.contains("_mig_") || **name == own;
    holds(&page.iter().filter(of_parts).map(|(name, value)| (name.clone(), *value)).collect(), &parts);
    let unknown = ["hw_gpu_utilization", "hw_power", "tachograph_gpu_activity", "tachograph_gpu_process_sm"];
    assert!(!page.keys().any(|name| unknown.iter().any(|unknown| name.starts_with(unknown))), "{page:?}");
}

/// Field numbers moved with driver 580.82; values must not.
#[test]
fn old_and_new_field_numbers_give_the_same() {
    let seconds = |driver: &str| {
        let machine = Machine::new(&scenario("").replace("580.95.05", driver));
        let page = Page::of(Session::new(&machine.config).step(at(0))).of_gpu("GPU-full");
        let only = |name: &String| name.contains("clock_event_seconds");
        page.into_iter().filter(|(name, _)| only(name)).collect::<Vec<_>>()
    };
    assert_eq!(seconds("535.54").len(), 5);
    assert_eq!(seconds("535.54"), seconds("580.82"));
    assert_eq!(seconds("580.65.06"), seconds("595.1"));
}
