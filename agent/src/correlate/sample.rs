//! Example requests for the tests of this room and of those right of it.

use crate::clock::Anchor;
use crate::clock::MonoNs;
use crate::correlate::TargetView;
use crate::correlate::prices::Prices;
use crate::correlate::slo::Objective;
use crate::correlate::slo::Objectives;
use crate::correlate::state::Correlator;
use crate::correlate::state::Settings;
use crate::discover::cgroup::Container;
use crate::discover::cgroup::Place;
use crate::discover::cgroup::Runtime;
use crate::engine::Facts;
use crate::engine::Lora;
use crate::engine::Rank;
use crate::engine::Sample;
use crate::engine::Sums;
use crate::engine::Unknown;
use crate::engine::facts::Model;
use crate::engine::scrape::Outcome;
use crate::ident::Conn;
use crate::ident::EngineId;
use crate::ident::EngineKind;
use crate::ident::Pid;
use crate::ident::ProcessId;
use crate::ident::Role;
use crate::request::EngineAt;
use crate::request::EngineRequest;
use crate::request::ITL_BOUNDS_NS;
use crate::request::Incomplete;
use crate::request::Itl;
use crate::request::Join;
use crate::request::Phases;
use crate::request::Request;
use crate::request::Slot;
use crate::request::Steps;
use crate::request::Update;
use crate::stream::Exchange;
use crate::stream::Finish;
use crate::stream::Load;
use crate::stream::Operation;
use crate::stream::Params;
use crate::vitals::Vitals;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) mod content;
mod gpus;

/// Monotonic 10 s is this Unix second.
pub(crate) const ANCHOR: Anchor = Anchor { mono: MonoNs(10_000_000_000), unix_ns: 1_700_000_000_000_000_000 };

pub(crate) const ENGINE: EngineId = EngineId(ProcessId { pid: Pid(40), start_ticks: 7 });

pub(crate) fn ms(at: u64) -> MonoNs {
    MonoNs(20_000_000_000 + at * 1_000_000)
}

/// A streamed chat request that began at 0 ms, made 5 tokens and ended at 400 ms.
pub(crate) fn streamed(serial: u64) -> Request {
    let load = |running| Some(Load { running: Some(running), waiting: Some(1), kv_usage: Some(0.25) });
    Request {
        serial,
        pid: Pid(41),
        exchange: Some(Exchange { conn: Conn { pid: Pid(41), fd: 9, opened_ns: 500_000 }, number: 2 }),
        engine: Some(ENGINE),
        kind: EngineKind::Vllm,
        engine_requests: vec![EngineRequest {
            key: 1,
            id: "chatcmpl-1-abcdef12".to_owned(),
            external_id: Some("chatcmpl-1".to_owned()),
            client_index: Some(0),
            engine: Pid(42),
            added: Some(ms(14)),
            queued: Some(ms(15)),
            scheduled: Some(ms(45)),
            first_output: Some(ms(145)),
            last_output: Some(ms(345)),
            aborted: None,
            preemptions: 1,
            preempted_ns: 2_000_000,
            kv_usage_waiting: Some(0.25),
            running_max: Some(2),
            prompt_tokens: Some(12),
            cached_tokens: Some(4),
            output_tokens: 5,
            engine_tokens: 5,
            overrun_tokens: 0,
            finish: Some(Finish::Length),
        }],
        join: Join::Id,
        incomplete: Vec::new(),
        method: Some("POST".to_owned()),
        path: Some("/v1/chat/completions".to_owned()),
        operation: Some(Operation::Chat),
        x_request_id: Some("rq \"1\"".to_owned()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        user: Some("ada".to_owned()),
        session: None,
        model: Some("tiny".to_owned()),
        response_model: Some("tiny".to_owned()),
        response_id: Some("chatcmpl-1".to_owned()),
        status: Some(200),
        error_type: None,
        finish_reasons: vec!["length".to_owned()],
        stream: Some(true),
        params: Params { temperature: Some(0.5), max_tokens: Some(5), ..Params::default() },
        transfer: None,
        input_tokens: Some(12),
        cached_tokens: Some(4),
        output_tokens: Some(5),
        output_tokens_estimated: false,
        reasoning_tokens: None,
        engine_tokens: Some(5),
        accepted: Some(ms(0)),
        received: Some(ms(5)),
        first_byte: Some(ms(6)),
        first_output: Some(ms(145)),
        first_content: Some(ms(150)),
        last_output: Some(ms(345)),
        finished: ms(400),
        phases: Phases {
            receive: Some(5_000_000),
            frontend: Some(10_000_000),
            queue: Some(30_000_000),
            prefill: Some(100_000_000),
            decode: Some(200_000_000),
            deliver: Some(55_000_000),
        },
        tpot_seconds: Some(0.05),
        itl: Some(Itl { count: 4, sum_ns: 200_000_000, max_ns: 60_000_000, buckets: itl_buckets(&[(6, 3), (7, 1)]) }),
        blocked_ns: 3_000_000,
        preemptions: Some(1),
        engine_at: EngineAt { queued: load(1), first_token: load(2), finish: load(0) },
        null_reasons: BTreeMap::from([("reasoning_tokens", "usage_without_it"), ("session", "not_sent")]),
        said: None,
    }
}

/// A request that another server refused: no engine side, no stream, no tokens.
pub(crate) fn refused(serial: u64) -> Request {
    Request {
        serial,
        kind: EngineKind::Other,
        engine: None,
        engine_requests: Vec::new(),
        join: Join::None,
        incomplete: vec![Incomplete::RecordsLost],
        traceparent: None,
        x_request_id: None,
        model: Some("invented".to_owned()),
        response_model: None,
        response_id: None,
        status: Some(429),
        error_type: Some("429".to_owned()),
        finish_reasons: Vec::new(),
        stream: Some(false),
        input_tokens: None,
        cached_tokens: None,
        output_tokens: None,
        engine_tokens: None,
        first_output: None,
        first_content: None,
        last_output: None,
        finished: ms(20),
        phases: Phases { receive: Some(5_000_000), ..Phases::default() },
        tpot_seconds: None,
        itl: None,
        blocked_ns: 0,
        preemptions: None,
        engine_at: EngineAt::default(),
        null_reasons: BTreeMap::from([("output_tokens", "refused")]),
        ..streamed(serial)
    }
}

fn itl_buckets(filled: &[(usize, u64)]) -> Vec<u64> {
    let mut buckets = vec![0; ITL_BOUNDS_NS.len() + 1];
    for (bucket, count) in filled {
        buckets[*bucket] = *count;
    }
    buckets
}

pub(crate) fn target() -> TargetView {
    TargetView {
        pid: Pid(41),
        engine: ENGINE,
        kind: EngineKind::Vllm,
        role: Role::Frontend,
        attached: vec!["libc.so.6: read, write".to_owned()],
        skipped: vec!["libssl: not loaded".to_owned()],
        in_flight: 0,
        place: place(),
    }
}

/// A container of a pod.
pub(crate) fn place() -> Place {
    let container = Container { id: "c0ffee00".repeat(8), runtime: Some(Runtime::Containerd) };
    Place { container: Some(container), pod_uid: Some("2f9a3c51-7d1e-4b0a-9c55-0a1b2c3d4e5f".to_owned()), unit: None }
}

/// Ids that count up from 1, the same in every run.
pub(crate) fn correlator(settings: &Settings) -> Correlator {
    let mut next = 0_u8;
    let random = move |bytes: &mut [u8]| {
        next = next.wrapping_add(1);
        bytes.fill(next);
    };
    Correlator::new(settings, Arc::new(Vitals::default()), ANCHOR, Box::new(random))
}

/// What asking the engine gave.
pub(crate) fn outcome() -> Outcome {
    let sample = Sample {
        dialect: "vllm",
        running: Some(2.0),
        kv_usage: Some(0.5),
        ranks: [("0".to_owned(), Rank { running: Some(2.0), waiting: None, kv_usage: Some(0.5) })].into(),
        prefix_queries: Some(100.0),
        prefix_hits: Some(25.0),
        preemptions: Some(0.0),
        prompt_tokens: Some(120.0),
        generation_tokens: Some(50.0),
        finished: [("stop".to_owned(), 3.0)].into(),
        ttft: Some(Sums { seconds: 1.5, count: Some(3.0) }),
        lora: Some(Lora { max: Some(1), running: vec!["poet".to_owned()], waiting: Vec::new() }),
        cache: [("num_gpu_blocks", "8192".to_owned()), ("block_size", "128".to_owned())].into(),
        models: vec!["tiny".to_owned()],
        unknown: Unknown { count: 1, names: vec!["vllm:brand_new".to_owned()] },
        ..Sample::new(ENGINE, ms(79), ms(80))
    };
    let model = |id: &str, parent: Option<&str>| Model {
        id: id.to_owned(),
        root: Some(format!("/models/{id}")),
        parent: parent.map(str::to_owned),
        max_model_len: Some(1_024),
    };
    let words = "vllm serve /models/tiny --dtype bfloat16 --tensor-parallel-size 2 --max-num-seqs 4".split(' ');
    let facts = Facts {
        version: Some("0.32.0".to_owned()),
        models: vec![model("tiny", None), model("poet", Some("tiny"))],
        ..Facts::of_command_line(&words.map(str::to_owned).collect::<Vec<_>>())
    };
    let url = Some("http://127.0.0.1:8000/metrics".to_owned());
    Outcome { engine: ENGINE, url, scraped: Ok(sample), facts: Arc::new(facts) }
}

/// A correlator that knows a bit of everything.
pub(crate) fn busy() -> Correlator {
    let all = Objective { ttft_seconds: Some(0.1), ..Objective::default() };
    let objectives = Objectives { all, ..Objectives::default() };
    let prices = Prices { gpu_hour: vec!["3.60".parse().unwrap()], tokens: vec!["0.10/0.40".parse().unwrap()] };
    let busy = correlator(&Settings { objectives, prices, ..Settings::default() });
    for pid in [41, 42] {
        busy.placed(Pid(pid), place());
    }
    busy.targets(vec![target(), TargetView { pid: Pid(42), role: Role::Core, ..target() }]);
    busy.update(Update::InFlight { pid: Pid(41), requests: 3 }, ANCHOR);
    busy.update(
        Update::Engine {
            core: Pid(42),
            engine: ENGINE,
            at: ms(100),
            load: Load { running: Some(2), waiting: Some(0), kv_usage: Some(0.5) },
            steps: Steps {
                last: Some(ms(100)),
                usual_ns: Some(20_000_000),
                work_since: Some(ms(14)),
                longest_prompt: 12,
                asleep_since: None,
            },
            queued_tokens: 12,
            live: 2,
        },
        ANCHOR,
    );
    for (at, joules) in [(0, 1_000.0), (200, 1_060.0), (500, 1_150.0)] {
        busy.gpu(gpus::present(ms(at), joules), ms(at));
    }
    // The first request had half of the engine's time from 100 to 300 ms.
    let slots = [201, 202].map(|number| Slot { number, shares: BTreeMap::from([(1, 5e7)]) });
    busy.update(Update::Worked { core: Pid(42), upto: ms(500), slots: slots.to_vec() }, ANCHOR);
    busy.engine(outcome());
    busy.own(crate::correlate::Own { cpu_seconds: 1.5, memory_bytes: 4_096 });
    for request in [streamed(1), refused(2)] {
        busy.update(Update::Ended(Box::new(request)), ANCHOR);
    }
    busy
}
