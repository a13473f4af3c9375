//! Volume and cost, latency, errors, GPUs: a quadrant each.

use super::Board;
use super::ENGINES;
use super::NODES;
use super::REQUESTS;
use super::panel::Kind;
use super::panel::Panel;
use super::quantile;
use super::rate;
use super::row;
use crate::kit::Kit;
use crate::kit::rules::or_none_of;
use crate::kit::slo;
use crate::kit::slo::Slo;

const TOKENS: &str = "suffix: tok";

pub(super) fn board(kit: &Kit, slos: &[Slo]) -> Board {
    let [tokens, requests, cost, per_request] = volume(kit);
    let [ttft, tpot, end, parallel] = latency(slos);
    let [codes, refused, broken, late] = errors();
    let [gpu, gap, kv, hits] = hardware();
    Board {
        name: "overview",
        title: "LLM overview",
        description: "What is served, at what cost, how fast, what fails, and how full the hardware is.",
        records: false,
        rows: vec![
            row("Volume and cost · latency", [tokens, cost, ttft, tpot, requests, per_request, end, parallel]),
            row("Errors · GPUs", [codes, refused, gpu, kv, broken, late, gap, hits]),
        ],
    }
}

/// Where no price of a GPU is set, only what an API would take is known, and the other way round.
fn dollars(kit: &Kit) -> Vec<(&'static str, &'static str)> {
    let gpu = (!kit.prices.gpu_hour.is_empty()).then_some(("tachograph_request_cost_dollars_total", "GPU time"));
    let api = (!kit.prices.tokens.is_empty()).then_some(("tachograph_request_token_dollars_total", "at API prices"));
    gpu.into_iter().chain(api).collect()
}

fn volume(kit: &Kit) -> [Panel; 4] {
    let tokens =
        |kind: &str| format!("3600 * {}", rate("", &format!("tachograph_tokens_total{{type=\"{kind}\""), REQUESTS));
    let requests = rate("", "tachograph_requests_total", REQUESTS);
    let mut cost = Panel::new(
        Kind::Lines,
        "Cost an hour",
        "currencyUSD",
        "Price of the GPU time that finished requests used, and what an API would take for their tokens, at the prices \
         in the agent's settings.",
    );
    let mut per_request = Panel::new(
        Kind::Lines,
        "Cost of 1,000 requests",
        "currencyUSD",
        "When it climbs over weeks and traffic does not, something about the prompts has changed.",
    );
    for (metric, legend) in dollars(kit) {
        let spent = rate("", metric, REQUESTS);
        cost = cost.query(format!("3600 * {spent}"), legend);
        per_request = per_request.query(format!("1000 * {spent} / ({requests} > 0)"), legend);
    }
    if dollars(kit).is_empty() {
        // Without a price there is still what a price would be of.
        let seconds = rate("", "tachograph_request_engine_seconds_total", REQUESTS);
        cost = Panel::new(
            Kind::Lines,
            "Engine time an hour",
            "s",
            "Seconds of engines that finished requests had. With `[prices]` set, this panel shows dollars.",
        )
        .query(format!("3600 * {seconds}"), "engine time");
        per_request = Panel::new(
            Kind::Lines,
            "Engine time of 1,000 requests",
            "s",
            "With `[prices]` set, this panel shows dollars.",
        )
        .query(format!("1000 * {seconds} / ({requests} > 0)"), "engine time");
    }
    [
        Panel::new(
            Kind::Lines,
            "Tokens an hour",
            TOKENS,
            "Tokens of finished requests: in the prompt, found in the prefix cache, and delivered.",
        )
        .query(tokens("input"), "prompt")
        .query(tokens("cached"), "of these cached")
        .query(tokens("output"), "completion"),
        Panel::new(Kind::Lines, "Requests", "reqps", "Finished requests a second, by model.")
            .query(rate("gen_ai_request_model", "tachograph_requests_total", REQUESTS), "{{gen_ai_request_model}}"),
        cost,
        per_request,
    ]
}

fn latency(slos: &[Slo]) -> [Panel; 4] {
    let threshold = |kind: slo::Kind| {
        let of = |slo: &&Slo| slo.kind == kind && matches!(slo.models, slo::Models::AllBut(_));
        slos.iter().find(of).and_then(|slo| slo.threshold).map(|seconds| (seconds, "red"))
    };
    let percentiles = |panel: Panel, histogram: &str| {
        panel
            .query(quantile("0.50", "", histogram, REQUESTS), "p50")
            .query(quantile("0.95", "", histogram, REQUESTS), "p95")
            .query(quantile("0.99", "", histogram, REQUESTS), "p99")
            .exemplars()
    };
    let ttft = Panel::new(
        Kind::Lines,
        "Time to first token",
        "s",
        "From the first byte of a streamed request to the first text, reasoning or tool call. A p99 above 2 s is mostly \
         a queue or long prompts: see *Why slow*. The dashed line is the objective.",
    );
    let tpot = Panel::new(
        Kind::Lines,
        "Time per output token",
        "s",
        "Mean time for each token after the first, of each request. When it climbs, the GPU or its cache gets full.",
    );
    let end = Panel::new(Kind::Lines, "Duration", "s", "From the first byte of a request to the last of its response.");
    [
        percentiles(ttft, "gen_ai_server_time_to_first_token_seconds").steps(threshold(slo::Kind::Ttft)),
        percentiles(tpot, "gen_ai_server_time_per_output_token_seconds").steps(threshold(slo::Kind::Tpot)),
        percentiles(end, "gen_ai_server_request_duration_seconds").steps(threshold(slo::Kind::Duration)),
        Panel::new(
            Kind::Lines,
            "In flight",
            "short",
            "HTTP requests in flight, and of the engine's those that run and that wait for a seat.",
        )
        .query(format!("sum(tachograph_requests_in_flight{{{ENGINES}}})"), "in flight")
        .query(format!("sum(tachograph_engine_requests_running{{{ENGINES}}})"), "running")
        .query(format!("sum(tachograph_engine_requests_waiting{{{ENGINES}}})"), "waiting"),
    ]
}

fn errors() -> [Panel; 4] {
    let all = rate("", "tachograph_requests_total", REQUESTS);
    let share = |matchers: &str| {
        let some = or_none_of(&rate("", &format!("tachograph_requests_total{{{matchers}"), REQUESTS), &all);
        format!("({some}) / ({all} > 0)")
    };
    [
        Panel::new(Kind::Stacked, "Responses by code", "reqps", "Every status code by itself; `unobserved` came another way than HTTP.")
            .query(rate("status", "tachograph_requests_total", REQUESTS), "{{status}}"),
        Panel::new(Kind::Lines, "Refused with 429", "percentunit", "Load shedding at work. When it spikes, batch better or route some callers elsewhere.")
            .query(share("status=\"429\""), "429")
            .steps([(0.1, "red")]),
        Panel::new(Kind::Lines, "Broken connections", "percentunit", "Callers who left before the end, and responses that broke: the server hung up, its process or its engine went.")
            .query(share("error_type=\"client_disconnect\""), "caller left")
            .query(share("error_type=~\"stream_reset|process_gone|engine_dead\""), "server broke"),
        Panel::new(Kind::Lines, "Timeouts and server errors", "percentunit", "408 and 504 by their codes, and all other 5xx. A caller who gives up by itself shows as one who left.")
            .query(share("status=~\"408|504\""), "timeouts")
            .query(share("status=~\"5..\",status!=\"504\""), "5xx"),
    ]
}

fn hardware() -> [Panel; 4] {
    let memory = format!("sum(hw_gpu_memory_usage_bytes{{{NODES}}}) / sum(hw_gpu_memory_limit_bytes{{{NODES}}})");
    let compute = format!("avg(hw_gpu_utilization_ratio{{{NODES}}})");
    let cached = rate("", "tachograph_tokens_total{type=\"cached\"", REQUESTS);
    let input = rate("", "tachograph_tokens_total{type=\"input\"", REQUESTS);
    [
        Panel::new(Kind::Lines, "GPU memory and compute", "percentunit", "Memory in use, and the share of time in which a kernel ran, on however few multiprocessors.")
            .query(memory.clone(), "memory")
            .query(compute.clone(), "compute")
            .max(1.0),
        Panel::new(Kind::Lines, "Memory against throughput", "percentunit", "Memory that is held while few tokens come is capacity that nobody uses; tokens that stagnate at full compute are a GPU with too much to do.")
            .query(memory, "memory")
            .query(compute, "compute")
            .query(rate("", "tachograph_tokens_total{type=\"output\"", REQUESTS), "output tokens a second")
            .right("output tokens a second", "suffix: tok/s"),
        Panel::new(Kind::Lines, "KV cache", "percentunit", "By engine. 85 to 95 % is a healthy, well used cache; above 98 % requests are preempted.")
            .query(format!("max by (node, engine) (tachograph_engine_kv_usage_ratio{{{ENGINES}}})"), "{{node}} {{engine}}")
            .steps([(0.85, "yellow"), (0.95, "orange"), (0.98, "red")])
            .max(1.0),
        Panel::new(Kind::Lines, "Prefix cache hits", "percentunit", "Prompt tokens that were found in the prefix cache, of all. A low share means that the same text is computed again and again.")
            .query(format!("{cached} / ({input} > 0)"), "hit rate")
            .max(1.0),
    ]
}
