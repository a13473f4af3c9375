//! The rows.

use super::Alert;
use super::Page;
use super::Trial;

/// Each alert that needs no objective.
pub static ALERTS: &[Alert] = &[
    Alert {
        name: "TachographAgentDown",
        expr: r#"max by (node) (up{job="tachograph"}) == 0"#,
        hold: "3m",
        severity: "warning",
        summary: "{{ $labels.node }}: the agent does not answer",
        description: "Requests there are not recorded, and no other alert can speak of this node.",
        page: Page {
            means: "Prometheus cannot scrape the agent of this node. The engines may be well.",
            look: "`systemctl status tachograph` or its pod; `tachograph check` on the node; the network between.",
            act: "Start it again. It never harms an engine: it can be started and stopped at any time.",
        },
        trials: &[
            Trial { series: &[(r#"up{job="tachograph",node="a"}"#, "1x5 0x20")], at: "12m", fires: 1 },
            Trial { series: &[(r#"up{job="tachograph",node="a"}"#, "1x5 0x2 1x20")], at: "12m", fires: 0 },
        ],
    },
    Alert {
        name: "TachographAgentsAbsent",
        expr: r#"absent(up{job="tachograph"})"#,
        hold: "5m",
        severity: "critical",
        summary: "No agent is scraped at all",
        description: "Prometheus knows no target of the job tachograph, so nothing here can alert.",
        page: Page {
            means: "Discovery finds no agent: all rules are blind, which is not the same as all being well.",
            look: "Prometheus' page of targets; the labels that its discovery asks for; `targets/tachograph.yml`.",
            act: "Correct the scrape settings, or start the agents.",
        },
        trials: &[
            Trial { series: &[(r#"up{job="other"}"#, "1x20")], at: "10m", fires: 1 },
            Trial { series: &[(r#"up{job="tachograph",node="a"}"#, "0x20")], at: "10m", fires: 0 },
        ],
    },
    Alert {
        name: "LLMEngineGone",
        expr: "node:tachograph_engines:count < max_over_time(node:tachograph_engines:count[1h])",
        hold: "3m",
        severity: "critical",
        summary: "{{ $labels.node }}: an engine is gone",
        description: "There are {{ $value }} engine cores, fewer than within the last hour.",
        page: Page {
            means: "A core that the agent traced within the last hour has ended. After an hour the alert ends by itself.",
            look: "The engine's own log, the kernel's (`dmesg`, for the OOM killer), critical errors of the GPUs.",
            act: "Start it again, or silence the alert where it was taken away on purpose.",
        },
        trials: &[
            Trial {
                series: &[
                    (r#"up{job="tachograph",node="a"}"#, "1x60"),
                    (r#"tachograph_engine_wedged{node="a",engine="1",pid="2"}"#, "0x20 stale"),
                ],
                at: "30m",
                fires: 1,
            },
            Trial {
                series: &[
                    (r#"up{job="tachograph",node="a"}"#, "1x20 0x40"),
                    (r#"tachograph_engine_wedged{node="a",engine="1",pid="2"}"#, "0x20 stale"),
                ],
                at: "30m",
                fires: 0,
            },
        ],
    },
    Alert {
        name: "LLMEngineWedged",
        expr: "tachograph_engine_wedged == 1",
        hold: "30s",
        severity: "critical",
        summary: "{{ $labels.node }}: engine {{ $labels.engine }} has requests and takes no step",
        description: "Its core (pid {{ $labels.pid }}) has taken none for ten usual steps, and ten seconds at least.",
        page: Page {
            means: "The engine hangs: its callers wait, and nothing will come.",
            look: "`/api/v1/snapshot` of the agent: the run state of the core and of its workers. A stopped process, a \
                   worker that waits for a GPU, or a collective operation that one worker does not join.",
            act: "Take a stack of the core (`py-spy dump --pid`), then restart the engine.",
        },
        trials: &[
            Trial {
                series: &[(r#"tachograph_engine_wedged{node="a",engine="1",pid="2"}"#, "0x5 1x20")],
                at: "10m",
                fires: 1,
            },
            Trial {
                series: &[(r#"tachograph_engine_wedged{node="a",engine="1",pid="2"}"#, "0x30")],
                at: "10m",
                fires: 0,
            },
        ],
    },
    Alert {
        name: "LLMKVCacheHigh",
        expr: "tachograph_engine_kv_usage_ratio > 0.85",
        hold: "30m",
        severity: "info",
        summary: "{{ $labels.node }}: KV cache of engine {{ $labels.engine }} above 85 %",
        description: "It is at {{ $value | humanizePercentage }}. Up to 95 % is a healthy, well used cache.",
        page: Page {
            means: "The cache is well used. It is shown on boards and sent to nobody.",
            look: "Whether preemptions have begun.",
            act: "Nothing; plan for more memory where it stays.",
        },
        trials: &[
            Trial {
                series: &[(r#"tachograph_engine_kv_usage_ratio{node="a",engine="1",pid="2"}"#, "0.9x60")],
                at: "40m",
                fires: 1,
            },
            Trial {
                series: &[(r#"tachograph_engine_kv_usage_ratio{node="a",engine="1",pid="2"}"#, "0.85x60")],
                at: "40m",
                fires: 0,
            },
        ],
    },
    Alert {
        name: "LLMKVCachePressure",
        expr: "tachograph_engine_kv_usage_ratio > 0.95",
        hold: "10m",
        severity: "warning",
        summary: "{{ $labels.node }}: KV cache of engine {{ $labels.engine }} above 95 %",
        description: "It is at {{ $value | humanizePercentage }}: requests will soon wait for it or be preempted.",
        page: Page {
            means: "Little is left for new requests and for those that grow.",
            look: "*Why slow*: preemptions and the queue. *LLM overview*: the length of prompts.",
            act: "More replicas, a smaller `--max-num-seqs`, shorter contexts, or a KV cache of 8 bits.",
        },
        trials: &[
            Trial {
                series: &[(r#"tachograph_engine_kv_usage_ratio{node="a",engine="1",pid="2"}"#, "0.96x60")],
                at: "15m",
                fires: 1,
            },
            Trial {
                series: &[(r#"tachograph_engine_kv_usage_ratio{node="a",engine="1",pid="2"}"#, "0.94x60")],
                at: "15m",
                fires: 0,
            },
        ],
    },
    Alert {
        name: "LLMKVCacheFull",
        expr: "tachograph_engine_kv_usage_ratio > 0.98",
        hold: "5m",
        severity: "critical",
        summary: "{{ $labels.node }}: KV cache of engine {{ $labels.engine }} is full",
        description: "It is at {{ $value | humanizePercentage }}: requests are preempted and computed again.",
        page: Page {
            means: "The engine throws requests out of the cache to make room, and computes them again later.",
            look: "*Why slow*: preemptions. Whether one caller sends very long prompts (`/api/v1/snapshot`, by user).",
            act: "Shed load at once: route callers elsewhere. Then as for LLMKVCachePressure.",
        },
        trials: &[
            Trial {
                series: &[(r#"tachograph_engine_kv_usage_ratio{node="a",engine="1",pid="2"}"#, "0.99x60")],
                at: "10m",
                fires: 1,
            },
            Trial {
                series: &[(r#"tachograph_engine_kv_usage_ratio{node="a",engine="1",pid="2"}"#, "0.98x60")],
                at: "10m",
                fires: 0,
            },
        ],
    },
    Alert {
        name: "LLMQueueGrowing",
        expr: "min_over_time(tachograph_engine_requests_waiting[10m]) > 0\n\
               and deriv(tachograph_engine_requests_waiting[10m]) > 0",
        hold: "5m",
        severity: "warning",
        summary: "{{ $labels.node }}: the queue of engine {{ $labels.engine }} grows",
        description: "For ten minutes it was never empty, and it is longer than before: more comes than is served.",
        page: Page {
            means: "Requests arrive faster than they are served, and wait longer each minute.",
            look: "*LLM overview*: whether traffic rose or prompts grew. *Why slow*: whether steps became slower.",
            act: "Scale out (the example for KEDA scales on this very number), or refuse earlier with 429.",
        },
        trials: &[
            Trial {
                series: &[(r#"tachograph_engine_requests_waiting{node="a",engine="1",pid="2"}"#, "1+1x60")],
                at: "25m",
                fires: 1,
            },
            Trial {
                series: &[(r#"tachograph_engine_requests_waiting{node="a",engine="1",pid="2"}"#, "5x60")],
                at: "25m",
                fires: 0,
            },
        ],
    },
    Alert {
        name: "LLMRejections",
        expr: "model:tachograph_rejections:rate5m / (model:tachograph_requests:rate5m > 0) > 0.1",
        hold: "10m",
        severity: "warning",
        summary: "{{ $labels.gen_ai_request_model }}: more than a tenth of the requests is refused with 429",
        description: "{{ $value | humanizePercentage }} of the last five minutes' requests were refused.",
        page: Page {
            means: "Load shedding works, and it works hard: callers are turned away.",
            look: "Who sends (*Requests*, by user), and how long the queue is.",
            act: "Scale out, raise the limits that refuse, or route some callers to another model.",
        },
        trials: &[
            Trial {
                series: &[
                    (r#"tachograph_requests_total{gen_ai_request_model="m",status="200"}"#, "0+60x60"),
                    (r#"tachograph_requests_total{gen_ai_request_model="m",status="429"}"#, "0+20x60"),
                ],
                at: "30m",
                fires: 1,
            },
            Trial {
                series: &[
                    (r#"tachograph_requests_total{gen_ai_request_model="m",status="200"}"#, "0+60x60"),
                    (r#"tachograph_requests_total{gen_ai_request_model="m",status="429"}"#, "0+2x60"),
                ],
                at: "30m",
                fires: 0,
            },
        ],
    },
    Alert {
        name: "GPULost",
        expr: r#"hw_status{hw_state="failed"} == 1"#,
        hold: "1m",
        severity: "critical",
        summary: "{{ $labels.node }}: GPU {{ $labels.hw_id }} does not answer",
        description: "{{ $labels.hw_name }} does not answer the driver any more.",
        page: Page {
            means: "The GPU fell off the bus, or its driver gave it up. Engines on it are dead or will be.",
            look: "`dmesg` for NVRM and Xid lines; LLMEngineGone and GPUXid beside this alert.",
            act: "Drain the node; reset the GPU or reboot; after a second time have it replaced.",
        },
        trials: &[
            Trial {
                series: &[(r#"hw_status{node="a",hw_id="G",hw_state="failed"}"#, "0x5 1x20")],
                at: "10m",
                fires: 1,
            },
            Trial { series: &[(r#"hw_status{node="a",hw_id="G",hw_state="failed"}"#, "0x20")], at: "10m", fires: 0 },
        ],
    },
    Alert {
        name: "GPUDegraded",
        expr: r#"hw_status{hw_state="degraded"} == 1"#,
        hold: "5m",
        severity: "warning",
        summary: "{{ $labels.node }}: GPU {{ $labels.hw_id }} wants a reset",
        description: "{{ $labels.hw_name }} has memory rows to be replaced, or rows that cannot be.",
        page: Page {
            means: "The GPU works, and it has asked for a reset, or ran out of spare rows.",
            look: "`tachograph_gpu_recovery_action` and `tachograph_gpu_row_remap` on *Node and GPU*.",
            act: "Drain it at a quiet hour and reset it. Where a replacement of rows has failed: have it replaced.",
        },
        trials: &[
            Trial { series: &[(r#"hw_status{node="a",hw_id="G",hw_state="degraded"}"#, "1x20")], at: "10m", fires: 1 },
            Trial { series: &[(r#"hw_status{node="a",hw_id="G",hw_state="degraded"}"#, "0x20")], at: "10m", fires: 0 },
        ],
    },
    Alert {
        name: "GPUXid",
        expr: "time() - tachograph_gpu_xid_last_timestamp_seconds < 600",
        hold: "0s",
        severity: "warning",
        summary: "{{ $labels.node }}: Xid {{ $labels.xid }} on GPU {{ $labels.hw_id }}",
        description: "The driver reported this critical error within the last ten minutes.",
        page: Page {
            means: "31, 13 and 43 are mostly the application's fault; 48, 63, 64, 74, 79, 92, 94, 95, 119 and 120 the \
                    hardware's.",
            look: "The agent's log, which names it; the engine that had the GPU, on *Node and GPU*.",
            act: "For those of the hardware drain the node, and reset the GPU. For the others look at the engine.",
        },
        trials: &[
            Trial {
                series: &[(r#"tachograph_gpu_xid_last_timestamp_seconds{node="a",hw_id="G",xid="79"}"#, "_x5 300x30")],
                at: "8m",
                fires: 1,
            },
            Trial {
                series: &[(r#"tachograph_gpu_xid_last_timestamp_seconds{node="a",hw_id="G",xid="79"}"#, "_x5 300x30")],
                at: "20m",
                fires: 0,
            },
        ],
    },
    Alert {
        name: "GPUThrottled",
        expr: "sum by (node, hw_id, hw_name) (rate(tachograph_gpu_clock_event_seconds_total\
               {reason=~\"hw_thermal_slowdown|sw_thermal_slowdown|hw_power_brake_slowdown|hw_slowdown\"}[5m])) > 0.1",
        hold: "5m",
        severity: "warning",
        summary: "{{ $labels.node }}: heat or power holds GPU {{ $labels.hw_id }} down",
        description: "Its clocks were held down for {{ $value | humanizePercentage }} of the time.",
        page: Page {
            means: "The GPU protects itself from heat, or the board's power supply does. A plain power cap is no cause.",
            look: "*Node and GPU*: temperatures, power against its limit, the neighbours in the rack.",
            act: "Airflow, fans, inlet temperature; a lower power limit gives steadier latency than throttling.",
        },
        trials: &[
            Trial {
                series: &[(
                    r#"tachograph_gpu_clock_event_seconds_total{node="a",hw_id="G",hw_name="H",reason="hw_thermal_slowdown"}"#,
                    "0+30x60",
                )],
                at: "20m",
                fires: 1,
            },
            Trial {
                series: &[(
                    r#"tachograph_gpu_clock_event_seconds_total{node="a",hw_id="G",hw_name="H",reason="sw_power_cap"}"#,
                    "0+60x60",
                )],
                at: "20m",
                fires: 0,
            },
        ],
    },
    Alert {
        name: "TachographRequestsIncomplete",
        expr: "tachograph_agent_coverage_ratio < 0.99",
        hold: "15m",
        severity: "warning",
        summary: "{{ $labels.node }}: requests are recorded incompletely",
        description: "{{ $value | humanizePercentage }} of the requests are recorded and complete.",
        page: Page {
            means: "Something was lost on the way; each damaged request says so itself.",
            look: "*Agent health*: records lost in the ring, messages that were not decoded, updates dropped.",
            act: "A larger `ring_bytes` for losses in the ring. For what is not decoded: a version that knows the engine.",
        },
        trials: &[
            Trial { series: &[(r#"tachograph_agent_coverage_ratio{node="a"}"#, "0.9x30")], at: "20m", fires: 1 },
            Trial { series: &[(r#"tachograph_agent_coverage_ratio{node="a"}"#, "1x30")], at: "20m", fires: 0 },
        ],
    },
    Alert {
        name: "TachographExportFails",
        expr: "rate(tachograph_agent_export_failures_total[5m]) > 0\n\
               or rate(tachograph_agent_spans_dropped_total[5m]) > 0\n\
               or rate(tachograph_agent_logs_dropped_total[5m]) > 0",
        hold: "10m",
        severity: "warning",
        summary: "{{ $labels.node }}: the agent cannot deliver to its collector",
        description: "Spans, and what else goes by OTLP, are late or lost.",
        page: Page {
            means: "The collector refuses, or cannot be reached. Metrics that are scraped are not touched.",
            look: "The agent's log; the collector's own metrics at port 8888.",
            act: "Start the collector again, or correct `otlp.endpoint`.",
        },
        trials: &[
            Trial { series: &[(r#"tachograph_agent_export_failures_total{node="a"}"#, "0+1x60")], at: "20m", fires: 1 },
            Trial { series: &[(r#"tachograph_agent_export_failures_total{node="a"}"#, "7x60")], at: "20m", fires: 0 },
        ],
    },
    Alert {
        name: "LLMTPOTRises",
        expr: "avg_over_time(model:tachograph_tpot_seconds:mean1h[1d])\n\
               / avg_over_time(model:tachograph_tpot_seconds:mean1h[1d] offset 7d) > 1.2",
        hold: "6h",
        severity: "warning",
        summary: "{{ $labels.gen_ai_request_model }}: tokens come more slowly than a week ago",
        description: "The time per output token of the last day is {{ $value | humanize }} times that of a week before.",
        page: Page {
            means: "A slow rise that no alert of the moment sees: a fuller cache, longer contexts, a busier GPU.",
            look: "*LLM overview*: KV use and requests at a time, week over week; *Node and GPU*: clocks and throttling.",
            act: "More replicas; or the change of a week ago that caused it.",
        },
        trials: &[
            Trial {
                series: &[
                    (
                        r#"gen_ai_server_time_per_output_token_seconds_sum{gen_ai_request_model="m"}"#,
                        "0+36x240 8649+54x400",
                    ),
                    (r#"gen_ai_server_time_per_output_token_seconds_count{gen_ai_request_model="m"}"#, "0+1800x800"),
                ],
                at: "10d",
                fires: 1,
            },
            Trial {
                series: &[
                    (r#"gen_ai_server_time_per_output_token_seconds_sum{gen_ai_request_model="m"}"#, "0+36x800"),
                    (r#"gen_ai_server_time_per_output_token_seconds_count{gen_ai_request_model="m"}"#, "0+1800x800"),
                ],
                at: "10d",
                fires: 0,
            },
        ],
    },
    Alert {
        name: "LLMCostPerRequestRises",
        expr: "avg_over_time(model:tachograph_cost_dollars_per_1k_requests:ratio1h[1d])\n\
               / avg_over_time(model:tachograph_cost_dollars_per_1k_requests:ratio1h[1d] offset 7d) > 1.2\n\
               unless avg_over_time(model:tachograph_requests:rate1h[1d])\n\
               / avg_over_time(model:tachograph_requests:rate1h[1d] offset 7d) > 1.2",
        hold: "6h",
        severity: "warning",
        summary: "{{ $labels.gen_ai_request_model }}: a request costs more than a week ago",
        description: "1,000 requests of the last day cost {{ $value | humanize }} times what they cost a week before, \
                      and there are not more of them.",
        page: Page {
            means: "Something about the prompts has changed: longer ones, longer answers, fewer cached tokens.",
            look: "*LLM overview*: tokens in and out for each request, the hit rate of the prefix cache; who sends them.",
            act: "Find the caller whose requests grew (`/api/v1/snapshot`, by user), and talk.",
        },
        trials: &[
            Trial {
                series: &[
                    (r#"tachograph_request_cost_dollars_total{gen_ai_request_model="m"}"#, "0+1x240 240+2x400"),
                    (r#"tachograph_requests_total{gen_ai_request_model="m",status="200"}"#, "0+1800x800"),
                ],
                at: "10d",
                fires: 1,
            },
            Trial {
                series: &[
                    (r#"tachograph_request_cost_dollars_total{gen_ai_request_model="m"}"#, "0+1x800"),
                    (r#"tachograph_requests_total{gen_ai_request_model="m",status="200"}"#, "0+1800x800"),
                ],
                at: "10d",
                fires: 0,
            },
        ],
    },
];
