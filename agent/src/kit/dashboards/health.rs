//! The agents themselves: whether they see everything, what that costs, and whether it arrives.

use super::Board;
use super::NODES;
use super::panel::Kind;
use super::panel::Panel;
use super::rate;
use super::row;

const EACH: &str = "{{node}}";

pub(super) fn board() -> Board {
    Board {
        name: "agent-health",
        title: "Agent health",
        description: "Whether the agents see everything, what that costs, and whether it arrives.",
        records: false,
        rows: vec![row("Whole", whole()), row("Losses", losses()), row("Cost", cost())],
    }
}

fn counted(counters: &[(&str, &'static str)], panel: Panel) -> Panel {
    counters.iter().fold(panel, |panel, (counter, legend)| {
        panel.query(rate("", &format!("tachograph_agent_{counter}_total"), NODES), legend)
    })
}

fn whole() -> [Panel; 4] {
    [
        Panel::new(Kind::Stat, "Agents up", "short", "That Prometheus can scrape.")
            .query(format!("sum(up{{job=\"tachograph\",{NODES}}})"), "up"),
        Panel::new(
            Kind::Stat,
            "Coverage",
            "percentunit",
            "Requests recorded and complete, of those whose record is due; the worst node.",
        )
        .query(format!("min(tachograph_agent_coverage_ratio{{{NODES}}})"), "coverage")
        .max(1.0),
        Panel::new(Kind::Stat, "Engines traced", "short", "Engine cores.")
            .query(format!("count(tachograph_engine_wedged{{{NODES}}})"), "engines"),
        Panel::new(Kind::Stat, "Wedged", "short", "Engines that have requests and take no step.")
            .query(format!("sum(tachograph_engine_wedged{{{NODES}}})"), "wedged")
            .steps([(1.0, "red")]),
    ]
}

fn losses() -> [Panel; 4] {
    [
        counted(
            &[("requests_seen", "begun"), ("requests_recorded", "recorded"), ("requests_incomplete", "incomplete")],
            Panel::new(Kind::Lines, "Requests", "reqps", "Begun, ended in a record, and of these marked incomplete."),
        ),
        counted(
            &[
                ("records_lost", "lost in the ring"),
                ("engine_undecoded", "engine messages not decoded"),
                ("http_undecoded", "connections not decoded"),
                ("updates_dropped", "updates dropped"),
                ("evicted", "evicted"),
            ],
            Panel::new(Kind::Lines, "Losses", "cps", "Each kind by itself; all are 0 on a healthy node."),
        ),
        counted(
            &[("engine_unmatched", "engine requests of nobody"), ("joins_ambiguous", "ambiguous")],
            Panel::new(
                Kind::Lines,
                "Joins that failed",
                "reqps",
                "Engine requests without an HTTP request, and HTTP requests that could not be told apart.",
            ),
        ),
        counted(
            &[
                ("spans_sent", "spans sent"),
                ("spans_dropped", "spans lost"),
                ("logs_sent", "logs sent"),
                ("logs_dropped", "logs lost"),
                ("export_failures", "failed attempts"),
            ],
            Panel::new(
                Kind::Lines,
                "Delivery",
                "cps",
                "Spans and logs that the collector took, those that are lost, and attempts that failed.",
            ),
        ),
    ]
}

fn cost() -> [Panel; 4] {
    [
        Panel::new(Kind::Lines, "Processor time", "percentunit", "Of one core.")
            .query(rate("node", "tachograph_agent_cpu_seconds_total", NODES), EACH),
        Panel::new(Kind::Lines, "Memory", "bytes", "Resident; the pages of the rings count twice.")
            .query(format!("tachograph_agent_memory_bytes{{{NODES}}}"), EACH),
        counted(
            &[("probe_hits_wire", "sockets and TLS"), ("probe_hits_engine", "engine messages")],
            Panel::new(Kind::Lines, "Probe hits", "cps", "Each costs the engine some microseconds."),
        ),
        Panel::new(Kind::Lines, "Series", "short", "Samples in a scrape of each agent.")
            .query(format!("scrape_samples_scraped{{job=\"tachograph\",{NODES}}}"), EACH),
    ]
}
