//! Pages of each engine, made up from the table and from what is known of their pages.

use super::*;
use crate::engine::text::Format;
use crate::engine::text::Parser;
use crate::ident::Pid;
use crate::ident::ProcessId;

const ENGINE: EngineId = EngineId(ProcessId { pid: Pid(1), start_ticks: 1 });

fn sample(page: &str) -> Option<Sample> {
    let mut parser = Parser::new(Format::of(None, page));
    let mut collector = Collector::default();
    page.split_inclusive('\n').filter_map(|line| parser.line(line)).for_each(|point| collector.take(&point));
    assert_eq!(parser.bad_lines(), 0, "{page}");
    collector.finish(ENGINE, MonoNs(1), MonoNs(2))
}

/// Engine, running, waiting and KV usage of a page.
fn read(page: &str) -> Option<(&'static str, [Option<f64>; 3])> {
    sample(page).map(|sample| (sample.dialect, [sample.running, sample.waiting, sample.kv_usage]))
}

/// What a sample says of a quantity.
fn told(sample: &Sample, quantity: Quantity) -> Option<f64> {
    match quantity {
        Quantity::Running => sample.running,
        Quantity::Waiting => sample.waiting,
        Quantity::KvUsage => sample.kv_usage,
        Quantity::PrefixQueries => sample.prefix_queries,
        Quantity::PrefixHits => sample.prefix_hits,
        Quantity::Preemptions => sample.preemptions,
        Quantity::PromptTokens => sample.prompt_tokens,
        Quantity::GenerationTokens => sample.generation_tokens,
        Quantity::Finished => sample.finished.values().copied().reduce(|sum, value| sum + value),
        Quantity::Ttft => sample.ttft.map(|sums| sums.seconds),
        Quantity::Queue => sample.queue.map(|sums| sums.seconds),
        Quantity::Prefill => sample.prefill.map(|sums| sums.seconds),
        Quantity::Decode => sample.decode.map(|sums| sums.seconds),
        Quantity::Lora => sample.lora.as_ref().map(|_| 0.5),
        Quantity::Cache => (!sample.cache.is_empty()).then_some(0.5),
        Quantity::KvUsed | Quantity::KvSize => None,
    }
}

/// Each name of the table, alone on a page, is read as what it means, and as nothing else.
#[test]
fn every_name_tells_its_quantity_and_no_other() {
    for engine in &ENGINES {
        for (quantity, row) in engine.rows.iter().filter(|(it, _)| !matches!(it, Q::KvUsed | Q::KvSize)) {
            for series in *row {
                let suffixes: &[&str] = match series.form {
                    Form::Plain => &[""],
                    Form::Counter => &["", "_total"],
                    Form::Sums => &["_sum"],
                };
                for suffix in suffixes {
                    let label =
                        series.only.map_or("page_size=\"16\"".to_owned(), |(key, value)| format!("{key}={value:?}"));
                    let page = format!("{}{suffix}{{{label}}} 0.5\n", series.name);
                    let sample = sample(&page).unwrap_or_else(|| panic!("{page}"));
                    assert_eq!((sample.dialect, told(&sample, *quantity)), (engine.name, Some(0.5)), "{page}");
                    let others = engine.rows.iter().map(|(it, _)| *it).filter(|it| it != quantity);
                    assert!(others.map(|it| told(&sample, it)).all(|it| it.is_none()), "{page}");
                    assert_eq!(sample.unknown, Unknown::default(), "{page}");
                }
            }
        }
    }
}

use Quantity as Q;

#[test]
fn the_newest_name_wins_wherever_it_stands() {
    for engine in &ENGINES {
        for (quantity, row) in engine.rows {
            let [newest, older] = row else { continue };
            let line = |series: &Series, value| {
                let suffix = if series.form == Form::Sums { "_sum" } else { "" };
                let label = series.only.map_or(String::new(), |(key, value)| format!("{key}={value:?}"));
                format!("{}{suffix}{{{label}}} {value}\n", series.name)
            };
            let (new, old) = (line(newest, 0.25), line(older, 0.75));
            for page in [format!("{old}{new}"), format!("{new}{old}")] {
                assert_eq!(told(&sample(&page).unwrap(), *quantity), Some(0.25), "{page}");
            }
        }
    }
}

#[test]
fn an_engines_own_names_win_over_bare_ones() {
    let page = "num_requests_running 9\nnum_requests_waiting 9\nvllm:num_requests_running 1\n";
    assert_eq!(read(page), Some(("vllm", [Some(1.0), None, None])));
}

#[test]
fn counts_are_summed_over_data_parallel_ranks_and_kv_usage_is_the_fullest() {
    let page = concat!(
        "vllm:num_requests_running{engine=\"0\",model_name=\"b\"} 3\n",
        "vllm:num_requests_running{engine=\"1\",model_name=\"a\"} 4\n",
        "vllm:num_requests_waiting{engine=\"0\",model_name=\"b\"} 0\n",
        "vllm:num_requests_waiting{engine=\"1\",model_name=\"a\"} 0\n",
        "vllm:num_requests_waiting_by_reason{engine=\"0\",model_name=\"b\",reason=\"capacity\"} 8\n",
        "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"b\"} 0.5\n",
        "vllm:kv_cache_usage_perc{engine=\"1\",model_name=\"a\"} 0.75\n",
    );
    assert_eq!(read(page), Some(("vllm", [Some(7.0), Some(0.0), Some(0.75)])));
    let sample = sample(page).unwrap();
    assert_eq!(sample.models, ["a", "b"]);
    let rank = |running, kv_usage| Rank { running: Some(running), waiting: Some(0.0), kv_usage: Some(kv_usage) };
    let ranks = [("0".to_owned(), rank(3.0, 0.5)), ("1".to_owned(), rank(4.0, 0.75))];
    assert_eq!(sample.ranks, ranks.into());
}

#[test]
fn ranks_in_lockstep_count_once() {
    let page = concat!(
        "sglang:num_running_reqs{dp_rank=\"0\",tp_rank=\"0\"} 3\n",
        "sglang:num_running_reqs{tp_rank=\"1\",dp_rank=\"0\"} 3\n",
        "sglang:num_running_reqs{dp_rank=\"1\",tp_rank=\"0\"} 4\n",
    );
    assert_eq!(read(page), Some(("sglang", [Some(7.0), None, None])));
}

/// Processes of one engine tell of the same thing; which word is the newest, timestamps say, else pids.
#[test]
fn of_several_processes_of_one_engine_the_newest_counts() {
    let series = |pid, rest| format!("sglang:num_running_reqs{{dp_rank=\"0\",pid=\"{pid}\"}} {rest}\n");
    for (first, second, expected) in [
        (series(20, "3"), series(100, "5"), 5.0),
        (series(100, "3"), series(20, "5"), 3.0),
        (series(100, "3 1000"), series(20, "5 2000"), 5.0),
        (series(20, "3 2000"), series(100, "5 1000"), 3.0),
        (series(20, "3"), series(20, "5"), 5.0),
    ] {
        assert_eq!(read(&(first + &second)).unwrap().1[0], Some(expected));
    }
}

#[test]
fn adapters_are_those_of_the_newest_series() {
    let info = |running, at| {
        format!(
            "vllm:lora_requests_info{{max_lora=\"2\",running_lora_adapters=\"{running}\",waiting_lora_adapters=\"\"}} {at}\n"
        )
    };
    let page = info("a,b", "1.7e9") + &info("", "1.8e9") + &info("c", "1.6e9");
    let none = Lora { max: Some(2), ..Lora::default() };
    assert_eq!(sample(&page).unwrap().lora, Some(none.clone()));
    let page = info("", "1.7e9") + &info("a, b", "1.8e9");
    assert_eq!(sample(&page).unwrap().lora, Some(Lora { running: vec!["a".to_owned(), "b".to_owned()], ..none }));
}

#[test]
fn ends_are_told_apart_by_reason_where_the_engine_does() {
    let page = concat!(
        "vllm:request_success_total{engine=\"0\",finished_reason=\"stop\"} 3\n",
        "vllm:request_success_total{engine=\"1\",finished_reason=\"stop\"} 4\n",
        "vllm:request_success_total{engine=\"0\",finished_reason=\"abort\"} 0\n",
    );
    let finished = sample(page).unwrap().finished;
    assert_eq!(finished, [("abort".to_owned(), 0.0), ("stop".to_owned(), 7.0)].into());
    assert_eq!(sample("tgi_request_success 9\n").unwrap().finished, [(ANY.to_owned(), 9.0)].into());
}

/// Triton's page as its own documentation prints it, from before there was a fraction.
#[test]
fn kv_usage_is_computed_where_the_engine_tells_its_parts() {
    let blocks = |kind, value| {
        format!("nv_trt_llm_kv_cache_block_metrics{{kv_cache_block_type=\"{kind}\",model=\"m\"}} {value}\n")
    };
    let page = blocks("tokens_per", 64) + &blocks("used", 1) + &blocks("free", 3) + &blocks("max", 4);
    assert_eq!(read(&page), Some(("triton", [None, None, Some(0.25)])));
    assert_eq!(read(&(page + &blocks("fraction", 1))).unwrap().1[2], Some(1.0), "its own word wins");
    assert_eq!(read(&(blocks("used", 0) + &blocks("max", 0))).unwrap().1[2], None, "of nothing there is no share");
}

#[test]
fn what_cannot_be_a_reading_is_unknown() {
    for value in ["NaN", "-1", "+Inf", "-Inf"] {
        assert_eq!(read(&format!("vllm:num_requests_running {value}\n")), None);
        let page = format!("vllm:kv_cache_usage_perc {value}\nvllm:num_requests_running 0\n");
        assert_eq!(read(&page), Some(("vllm", [Some(0.0), None, None])));
    }
    assert_eq!(read("vllm:kv_cache_usage_perc 42\n"), None, "a percentage is no share");
    assert_eq!(read("up 1\nprocess_cpu_seconds_total 3\n"), None);
}

#[test]
fn names_that_nobody_knows_are_reported_and_bounded() {
    let page = concat!(
        "vllm:num_requests_running 1\n",
        "vllm:e2e_request_latency_seconds_sum 1\n",
        "vllm:e2e_request_latency_seconds_bucket{le=\"1\"} 1\n",
        "vllm:iteration_tokens_total_count 1\n",
        "vllm:time_to_first_token_seconds_created 1\n",
        "http_requests_total 1\n",
        "vllm:brand_new_total 1\nvllm:brand_new_created 1\n",
        "vllm:also_new_seconds_sum 1\nvllm:also_new_seconds_count 1\nvllm:also_new_seconds_bucket{le=\"1\"} 1\n",
        "sidecar_up 1\n",
    );
    let names = ["sidecar_up", "vllm:also_new_seconds", "vllm:brand_new"].map(str::to_owned).to_vec();
    assert_eq!(sample(page).unwrap().unknown, Unknown { count: 3, names });
    let line = |n| format!("vllm:new_{n} 1\n");
    let many: String = (0..100).map(line).collect();
    let unknown = sample(&format!("vllm:num_requests_running 1\n{many}")).unwrap().unknown;
    assert_eq!((unknown.count, unknown.names.len()), (100, UNKNOWN));
}

#[test]
fn model_names_are_bounded() {
    let line = |n| format!("vllm:num_requests_running{{model_name=\"{n}\"}} 1\n");
    let page: String = (0..100).map(line).collect();
    assert_eq!(sample(&page).unwrap().models.len(), NAMES);
}
