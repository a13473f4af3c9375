//! Each GPU: load, power, heat, what holds it down, what it did for whom.

use super::Board;
use super::NODES;
use super::panel::Kind;
use super::panel::Panel;
use super::rate;
use super::row;
use crate::kit::Kit;
use crate::kit::rules::or_none_of;

pub(super) fn board(kit: &Kit) -> Board {
    Board {
        name: "node-and-gpu",
        title: "Node and GPU",
        description: "Load, power, heat and faults of each GPU, and what it was used for.",
        records: false,
        rows: vec![row("State", state()), row("Load", load()), row("Power and heat", power()), row("Use", uses(kit))],
    }
}

const EACH: &str = "{{node}} {{hw_id}}";

fn state() -> [Panel; 4] {
    let gpus = format!("count(hw_status{{hw_state=\"ok\",{NODES}}})");
    let in_state = |state: &str| format!("sum(hw_status{{hw_state=\"{state}\",{NODES}}})");
    [
        Panel::new(Kind::Stat, "GPUs", "short", "That the agents know.").query(gpus.clone(), "GPUs"),
        Panel::new(Kind::Stat, "Degraded", "short", "They want a reset, or have rows that cannot be replaced.")
            .query(in_state("degraded"), "degraded")
            .steps([(1.0, "orange")]),
        Panel::new(Kind::Stat, "Lost", "short", "They do not answer the driver.")
            .query(in_state("failed"), "failed")
            .steps([(1.0, "red")]),
        Panel::new(Kind::Stat, "Critical errors", "short", "Xid errors since the agents were started.")
            .query(or_none_of(&format!("sum(tachograph_gpu_xid_errors_total{{{NODES}}})"), &gpus), "Xid")
            .steps([(1.0, "orange")]),
    ]
}

fn load() -> [Panel; 4] {
    [
        Panel::new(Kind::Lines, "Compute", "percentunit", "Share of time in which a kernel ran, on however few multiprocessors. On Hopper and later *Node and GPU* metrics of activity say more.")
            .query(format!("hw_gpu_utilization_ratio{{{NODES}}}"), EACH)
            .max(1.0),
        Panel::new(Kind::Lines, "Memory", "percentunit", "In use, of all.")
            .query(format!("hw_gpu_memory_usage_bytes{{{NODES}}} / hw_gpu_memory_limit_bytes{{{NODES}}}"), EACH)
            .max(1.0),
        Panel::new(Kind::Lines, "Memory traffic", "percentunit", "Share of time in which memory was read or written: decode is bound by it.")
            .query(format!("tachograph_gpu_memory_busy_ratio{{{NODES}}}"), EACH)
            .max(1.0),
        Panel::new(Kind::Stacked, "Memory by process", "bytes", "What belongs to no process that is known is unattributed, so that all sum to what is in use.")
            .query(format!("sum by (node, pid, engine) (tachograph_gpu_process_memory_bytes{{{NODES}}})"), "{{node}} {{pid}}"),
    ]
}

fn power() -> [Panel; 4] {
    [
        Panel::new(Kind::Lines, "Power", "watt", "Drawn by each GPU.").query(format!("hw_power_watts{{{NODES}}}"), EACH),
        Panel::new(Kind::Lines, "Temperature", "celsius", "Of the chip and of its memory.")
            .query(format!("hw_temperature_celsius{{{NODES}}}"), "{{node}} {{hw_id}} {{sensor}}")
            .steps([(85.0, "orange"), (95.0, "red")]),
        Panel::new(Kind::Lines, "Clocks", "hertz", "Of the multiprocessors.")
            .query(format!("tachograph_gpu_clock_hertz{{clock=\"sm\",{NODES}}}"), EACH),
        Panel::new(Kind::Lines, "Held down", "percentunit", "Share of time in which this held the clocks down: heat and the board's power supply are faults, a power cap under load is not.")
            .query(rate("node, hw_id, reason", "tachograph_gpu_clock_event_seconds_total", NODES), "{{hw_id}} {{reason}}"),
    ]
}

fn uses(kit: &Kit) -> Vec<Panel> {
    let output = rate("", "tachograph_tokens_total{type=\"output\"", NODES);
    let mut panels = vec![
        Panel::new(
            Kind::Stacked,
            "Energy by use",
            "watt",
            "Power that went to requests, and that was spent idle; they sum to what was drawn.",
        )
        .query(rate("use", "tachograph_gpu_used_energy_joules_total", NODES), "{{use}}"),
        Panel::new(Kind::Stacked, "Time by use", "short", "GPUs at work for requests, and idle.")
            .query(rate("use", "tachograph_gpu_used_seconds_total", NODES), "{{use}}"),
        Panel::new(
            Kind::Lines,
            "Energy of a token",
            "joule",
            "All energy that the GPUs used, idle or not, by the tokens that were delivered.",
        )
        .query(format!("{} / ({output} > 0)", rate("", "hw_energy_joules_total", NODES)), "joules"),
    ];
    if !kit.prices.gpu_hour.is_empty() {
        let spent = rate("use", "tachograph_gpu_used_cost_dollars_total", NODES);
        panels.push(
            Panel::new(
                Kind::Stacked,
                "Cost by use",
                "currencyUSD",
                "An hour: for requests, and idle; they sum to price times time.",
            )
            .query(format!("3600 * {spent}"), "{{use}}"),
        );
    }
    panels
}
