//! A line of nvidia-smi's CSV and the agent's JSON of the same GPU before and after it in; a verdict on each value out.

use serde_json::Value;
use std::collections::BTreeMap;

/// What is compared: nvidia-smi's name, where the agent's JSON has it, what one of the agent's units is in nvidia-smi's,
/// and how far they may be apart in nvidia-smi's unit beside what changed meanwhile.
pub(super) struct Field {
    pub(super) name: &'static str,
    pointer: &'static str,
    unit: f64,
    apart: f64,
}

const fn field(name: &'static str, pointer: &'static str, unit: f64, apart: f64) -> Field {
    Field { name, pointer, unit, apart }
}

const MIB: f64 = 1.0 / 1_048_576.0;
const MHZ: f64 = 1e-6;
const MICROSECONDS: f64 = 1e6;

pub(super) const FIELDS: [Field; 40] = [
    field("name", "/name", 1.0, 0.0),
    field("serial", "/health/serial", 1.0, 0.0),
    field("vbios_version", "/health/vbios", 1.0, 0.0),
    field("pci.bus_id", "/health/pci_bus_id", 1.0, 0.0),
    field("memory.total", "/memory_total_bytes", MIB, 1.0),
    field("memory.used", "/memory_used_bytes", MIB, 2.0),
    field("memory.free", "/now/memory_free_bytes", MIB, 2.0),
    field("memory.reserved", "/now/memory_reserved_bytes", MIB, 1.0),
    field("utilization.gpu", "/utilization", 100.0, 10.0),
    field("utilization.memory", "/memory_utilization", 100.0, 10.0),
    field("power.draw.instant", "/power_watts", 1.0, 20.0),
    field("power.draw.average", "/power_average_watts", 1.0, 10.0),
    field("enforced.power.limit", "/health/power_limit_watts/enforced", 1.0, 0.01),
    field("power.limit", "/health/power_limit_watts/requested", 1.0, 0.01),
    field("power.default_limit", "/health/power_limit_watts/default", 1.0, 0.01),
    field("temperature.gpu", "/now/temperature_celsius", 1.0, 1.0),
    field("temperature.memory", "/memory_temperature_celsius", 1.0, 1.0),
    field("clocks.gr", "/now/clocks_hertz/graphics", MHZ, 30.0),
    field("clocks.sm", "/now/clocks_hertz/sm", MHZ, 30.0),
    field("clocks.mem", "/now/clocks_hertz/memory", MHZ, 0.5),
    field("clocks.video", "/now/clocks_hertz/video", MHZ, 30.0),
    field("clocks.max.gr", "/health/clocks_max_hertz/graphics", MHZ, 0.5),
    field("clocks.max.sm", "/health/clocks_max_hertz/sm", MHZ, 0.5),
    field("clocks.max.mem", "/health/clocks_max_hertz/memory", MHZ, 0.5),
    field("clocks_event_reasons_counters.sw_power_cap", "/clock_event_seconds/sw_power_cap", MICROSECONDS, 1.0),
    field("clocks_event_reasons_counters.sync_boost", "/clock_event_seconds/sync_boost", MICROSECONDS, 1.0),
    field(
        "clocks_event_reasons_counters.sw_thermal_slowdown",
        "/clock_event_seconds/sw_thermal_slowdown",
        MICROSECONDS,
        1.0,
    ),
    field(
        "clocks_event_reasons_counters.hw_thermal_slowdown",
        "/clock_event_seconds/hw_thermal_slowdown",
        MICROSECONDS,
        1.0,
    ),
    field(
        "clocks_event_reasons_counters.hw_power_brake_slowdown",
        "/clock_event_seconds/hw_power_brake_slowdown",
        MICROSECONDS,
        1.0,
    ),
    field("clocks_event_reasons.sw_power_cap", "/now/clock_events/sw_power_cap", 1.0, 0.0),
    field("clocks_event_reasons.hw_thermal_slowdown", "/now/clock_events/hw_thermal_slowdown", 1.0, 0.0),
    field("pcie.link.gen.current", "/health/pcie_generation", 1.0, 0.0),
    field("pcie.link.width.current", "/health/pcie_width", 1.0, 0.0),
    field("mig.mode.current", "/health/mig", 1.0, 0.0),
    field("ecc.errors.corrected.volatile.total", "/health/ecc/corrected", 1.0, 0.0),
    field("ecc.errors.uncorrected.volatile.total", "/health/ecc/uncorrected", 1.0, 0.0),
    field("ecc.errors.corrected.aggregate.total", "/health/ecc/corrected_lifetime", 1.0, 0.0),
    field("ecc.errors.uncorrected.aggregate.total", "/health/ecc/uncorrected_lifetime", 1.0, 0.0),
    field("remapped_rows.pending", "/health/remaps/pending", 1.0, 0.0),
    field("remapped_rows.failure", "/health/remaps/failed", 1.0, 0.0),
];

/// One value.
#[derive(Debug, PartialEq)]
pub(super) struct Line {
    pub(super) name: &'static str,
    /// As nvidia-smi writes it.
    pub(super) theirs: String,
    /// As the agent has it, in nvidia-smi's unit.
    pub(super) ours: String,
    pub(super) agrees: bool,
}

/// The lines of `--format=csv,nounits`: each by the names that were asked for.
pub(super) fn rows<'a>(names: &[&'a str], csv: &str) -> Vec<BTreeMap<&'a str, String>> {
    let lines = csv.lines().skip(1).filter(|line| !line.trim().is_empty());
    let row = |line: &str| names.iter().copied().zip(line.split(',').map(|value| value.trim().to_owned())).collect();
    lines.map(row).collect()
}

/// The fields among ours that this nvidia-smi has, by its `--help-query-gpu`.
pub(super) fn known(help: &str) -> Vec<&'static str> {
    FIELDS.iter().map(|field| field.name).filter(|name| help.contains(&format!("\"{name}\""))).collect()
}

/// Each value that nvidia-smi was asked for.
pub(super) fn compare(row: &BTreeMap<&str, String>, before: &Value, after: &Value) -> Vec<Line> {
    let line = |field: &Field| {
        let theirs = row.get(field.name)?.clone();
        let (before, after) = (before.pointer(field.pointer), after.pointer(field.pointer));
        let (ours, agrees) = judge(field, &theirs, before, after);
        Some(Line { name: field.name, theirs, ours, agrees })
    };
    FIELDS.iter().filter_map(line).collect()
}

fn judge(field: &Field, theirs: &str, before: Option<&Value>, after: Option<&Value>) -> (String, bool) {
    match (before, after) {
        (Some(Value::String(_)), Some(Value::String(ours))) => (ours.clone(), ours.eq_ignore_ascii_case(theirs)),
        (Some(Value::Bool(before)), Some(Value::Bool(after))) => {
            let is = ["Yes", "Active", "Enabled"].contains(&theirs);
            (after.to_string(), is == *before || is == *after)
        }
        (Some(Value::Number(before)), Some(Value::Number(after))) => {
            let [before, after] = [before, after].map(|value| value.as_f64().unwrap_or(f64::NAN) * field.unit);
            let (low, high) = (before.min(after) - field.apart, before.max(after) + field.apart);
            let agrees = theirs.parse::<f64>().is_ok_and(|theirs| (low..=high).contains(&theirs));
            (format!("{after:.2}"), agrees)
        }
        _ => ("unknown".to_owned(), theirs.contains("N/A") || theirs.contains("Not Supported")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::root;
    use serde_json::json;

    /// The agent's own JSON of a GPU: its golden file's, with the values of [`said`] where it has a place for each.
    fn gpu() -> Value {
        let golden = std::fs::read_to_string(root().join("tests/golden/snapshot.json")).unwrap();
        let mut gpu = serde_json::from_str::<Value>(&golden).unwrap().pointer("/gpus/gpus/0").unwrap().clone();
        for (name, _, ours) in said() {
            let field = FIELDS.iter().find(|field| field.name == name).unwrap();
            *gpu.pointer_mut(field.pointer).unwrap_or_else(|| panic!("no {}", field.pointer)) = ours;
        }
        gpu
    }

    /// What nvidia-smi says, and what that is in the agent's units.
    fn said() -> [(&'static str, &'static str, Value); 12] {
        [
            ("name", "Stub 80GB", json!("Stub 80GB")),
            ("pci.bus_id", "00000000:18:00.0", json!("00000000:18:00.0")),
            ("memory.total", "81559", json!(85_520_809_984_u64)),
            ("utilization.gpu", "75", json!(0.75)),
            ("power.draw.instant", "312.50", json!(312.5)),
            ("enforced.power.limit", "700.00", json!(700.0)),
            ("temperature.memory", "61", json!(61.0)),
            ("clocks.sm", "1500", json!(1.5e9)),
            ("clocks_event_reasons_counters.sw_power_cap", "1500000", json!(1.5)),
            ("clocks_event_reasons.sw_power_cap", "Active", json!(true)),
            ("ecc.errors.corrected.volatile.total", "3", json!(3)),
            ("remapped_rows.pending", "Yes", json!(true)),
        ]
    }

    fn compared(said: &[(&'static str, &str)]) -> Vec<Line> {
        let names: Vec<&str> = said.iter().map(|(name, _)| *name).collect();
        let values: Vec<&str> = said.iter().map(|(_, value)| *value).collect();
        let csv = format!("{}\n{}\n", names.join(", "), values.join(", "));
        compare(&rows(&names, &csv)[0], &gpu(), &gpu())
    }

    #[test]
    fn what_is_the_same_agrees_in_nvidia_smis_own_units() {
        let said = said().map(|(name, said, _)| (name, said));
        let lines = compared(&said);
        assert_eq!(lines.len(), said.len());
        let wrong: Vec<&Line> = lines.iter().filter(|line| !line.agrees).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn each_other_value_is_found() {
        let other = |said: &str| match said {
            "Active" | "Yes" => "No".to_owned(),
            said => said.parse::<f64>().map_or("[N/A]".to_owned(), |number| (number * 1.2 + 100.0).to_string()),
        };
        for (name, said, _) in said() {
            let said = other(said);
            assert!(!compared(&[(name, &said)])[0].agrees, "{name} {said}");
        }
    }

    #[test]
    fn unknown_agrees_with_not_available_only() {
        assert!(compared(&[("clocks.video", "[N/A]")])[0].agrees);
        assert!(!compared(&[("clocks.video", "1500")])[0].agrees);
    }

    #[test]
    fn a_value_may_have_moved_between_the_two_looks() {
        let row = BTreeMap::from([("power.draw.instant", "500.0".to_owned())]);
        let at = |watts: f64| json!({ "power_watts": watts });
        assert!(compare(&row, &at(300.0), &at(600.0))[0].agrees);
        assert!(!compare(&row, &at(300.0), &at(310.0))[0].agrees);
    }

    /// Every place that is compared is one that the agent's JSON has, or its golden GPU leaves open.
    #[test]
    fn only_what_the_golden_gpu_leaves_open_is_unknown() {
        let gpu = gpu();
        let open = ["clocks", "power.limit", "power.default", "clocks_event_reasons"];
        for field in &FIELDS {
            let there = gpu.pointer(field.pointer).is_some();
            assert!(there || open.iter().any(|name| field.name.starts_with(name)), "{}", field.name);
        }
    }

    #[test]
    fn an_older_nvidia_smi_is_asked_for_what_it_has() {
        assert_eq!(known("\"clocks.sm\" or …\n\"name\" or \"gpu_name\"\n"), ["name", "clocks.sm"]);
    }
}
