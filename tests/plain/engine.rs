//! Recorded `/metrics` pages of real servers, read as a scrape reads them.

use std::fs;
use std::path::Path;
use tachograph::clock::MonoNs;
use tachograph::engine::Sample;
use tachograph::engine::Sums;
use tachograph::engine::Unknown;
use tachograph::engine::collect::Collector;
use tachograph::engine::facts;
use tachograph::engine::text::Format;
use tachograph::engine::text::Parser;
use tachograph::ident::EngineId;
use tachograph::ident::Pid;
use tachograph::ident::ProcessId;

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/engine_metrics")
}

fn fixture(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap()
}

/// Every recorded page.
fn pages() -> Vec<(String, String)> {
    let files = fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = files.filter(|name| name.contains(".prom") || name.contains(".openmetrics")).collect();
    names.sort();
    names.into_iter().map(|name| (fixture(&name), name)).map(|(page, name)| (name, page)).collect()
}

/// The sample and the number of bad lines.
fn read(page: &str, format: Format) -> (Option<Sample>, u64) {
    let engine = EngineId(ProcessId { pid: Pid(1), start_ticks: 1 });
    let mut parser = Parser::new(format);
    let mut collector = Collector::default();
    page.split_inclusive('\n').filter_map(|line| parser.line(line)).for_each(|point| collector.take(&point));
    (collector.finish(engine, MonoNs(1), MonoNs(2)), parser.bad_lines())
}

fn sample(page: &str) -> Sample {
    let (sample, bad_lines) = read(page, Format::of(None, page));
    assert_eq!(bad_lines, 0);
    sample.unwrap()
}

/// KV usage, tokens made, and seconds to first tokens, queued, prefilled and decoded.
type Expected = (&'static str, f64, f64, [f64; 4]);

const EXPECTED: [Expected; 6] = [
    (
        "vllm-0.13.0-python.prom",
        0.000_488_340_861_921_621_2,
        27.0,
        [22.978_696_823_120_117, 0.000_017_775_999_367_586_337, 17.868_906_190_000_416, 0.106_499_237_999_742_04],
    ),
    (
        "vllm-0.16.0-python.prom",
        0.000_488_340_861_921_621_2,
        51.0,
        [27.803_212_881_088_257, 0.000_018_416_998_500_470_072, 22.900_206_085_001_628, 0.025_592_285_999_664_455],
    ),
    (
        "vllm-0.20.0-python.prom",
        0.000_488_340_861_921_621_2,
        85.0,
        [2.310_999_393_463_134_8, 0.000_027_751_000_743_592_158, 2.108_586_296_999_419_6, 0.029_460_780_000_590_603],
    ),
    (
        "vllm-0.24.0-python.prom",
        0.000_488_340_861_921_621_2,
        77.0,
        [2.282_032_012_939_453, 0.000_021_923_000_531_387_515, 2.166_357_978_998_348_7, 0.025_179_284_000_842_017],
    ),
    (
        "vllm-0.32.0-python.prom",
        0.000_488_340_861_921_621_2,
        68.0,
        [0.147_058_010_101_318_36, 0.000_031_937_001_040_205_36, 0.015_652_468_999_178_38, 0.025_538_207_000_863_622],
    ),
    (
        "vllm-0.32.0-rust.openmetrics",
        0.000_488_340_861_921_621_2,
        41.0,
        [0.151_655_912_399_292, 0.000_044_665_999_666_904_1, 0.010_846_825_000_044_191, 0.029_354_377_000_345_266],
    ),
];

#[test]
fn every_version_and_front_end_tells_its_numbers() {
    let pages = pages();
    assert_eq!(pages.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), EXPECTED.map(|(name, ..)| name));
    for ((name, page), (_, kv_usage, made, seconds)) in pages.iter().zip(EXPECTED) {
        let sample = sample(page);
        assert_eq!((sample.dialect, sample.models.as_slice()), ("vllm", &["tiny".to_owned()][..]), "{name}");
        assert_eq!((sample.running, sample.waiting, sample.kv_usage), (Some(4.0), Some(2.0), Some(kv_usage)), "{name}");
        // Five prompts of four tokens were prefilled, and one request had ended.
        assert_eq!((sample.prompt_tokens, sample.generation_tokens), (Some(20.0), Some(made)), "{name}");
        let prefix = (sample.prefix_queries, sample.prefix_hits, sample.preemptions);
        assert_eq!(prefix, (Some(20.0), Some(0.0), Some(0.0)), "{name}");
        assert_eq!(sample.finished.get("length"), Some(&1.0), "{name}");
        let counts = [5.0, 1.0, 1.0, 1.0];
        let sums = [sample.ttft, sample.queue, sample.prefill, sample.decode];
        for ((sums, seconds), count) in sums.into_iter().zip(seconds).zip(counts) {
            assert_eq!(sums, Some(Sums { seconds, count: Some(count) }), "{name}");
        }
        assert_eq!((sample.ranks.len(), sample.ranks["0"].running), (1, Some(4.0)), "{name}");
        // The Rust front end does not tell how the cache is set.
        let blocks = sample.cache.get("num_gpu_blocks").map(String::as_str);
        assert_eq!(blocks, name.contains("python").then_some("8192"), "{name}");
        assert_eq!(sample.unknown, Unknown::default(), "{name}");
    }
}

#[test]
fn every_version_tells_its_model_and_itself() {
    for (name, _) in pages().iter().filter(|(name, _)| name.ends_with("python.prom")) {
        let stem = name.trim_end_matches("python.prom");
        let models = facts::models(fixture(&format!("{stem}models.json")).as_bytes()).unwrap();
        let model = models.first().map(|model| (model.id.as_str(), model.root.as_deref(), model.max_model_len));
        assert_eq!((models.len(), model), (1, Some(("tiny", Some("/models/tiny-model"), Some(1_024)))), "{name}");
        let version = facts::version(fixture(&format!("{stem}version.json")).as_bytes());
        assert_eq!(version.as_deref(), stem.split('-').nth(1), "{name}");
    }
}

/// A page that stops anywhere never gives another number than the whole one; of one rank nothing is a sum.
#[test]
fn a_cut_page_gives_the_same_numbers_or_none() {
    for (name, page) in pages() {
        let format = Format::of(None, &page);
        let numbers = |sample: &Sample| {
            [
                sample.running,
                sample.waiting,
                sample.kv_usage,
                sample.prompt_tokens,
                sample.generation_tokens,
                sample.prefix_queries,
                sample.preemptions,
                sample.ttft.map(|sums| sums.seconds),
                sample.finished.get("length").copied(),
            ]
        };
        let whole = numbers(&sample(&page));
        let mut end = 0;
        for line in page.split_inclusive('\n') {
            // A line that is cut within is no line, so a page that is cut there is one that ends before it.
            let mut parser = Parser::new(format);
            let parts = (1..line.len()).filter_map(|cut| line.get(..cut));
            assert!(parts.map(|part| parser.line(part)).all(|point| point.is_none()), "{name}: {line}");
            if let Some(sample) = page.get(..end).and_then(|page| read(page, format).0) {
                for (part, whole) in numbers(&sample).into_iter().zip(whole) {
                    assert!(part.is_none() || part == whole, "{name} cut before {line}");
                }
            }
            end += line.len();
        }
    }
}

/// The same page twice over, as an exporter with a fault might write it, is one engine still.
#[test]
fn a_page_that_comes_twice_counts_once() {
    for (name, page) in pages() {
        let twice = page.replace("# EOF\n", "").repeat(2) + if page.ends_with("# EOF\n") { "# EOF\n" } else { "" };
        assert_eq!(sample(&twice), sample(&page), "{name}");
    }
}

/// A name of tomorrow is news, and nothing else changes.
#[test]
fn a_new_name_on_a_real_page_is_reported() {
    for (name, page) in pages() {
        let new = page.replace("vllm:num_preemptions", "vllm:num_evictions");
        let expected = Sample {
            preemptions: None,
            unknown: Unknown { count: 1, names: vec!["vllm:num_evictions".to_owned()] },
            ..sample(&page)
        };
        assert_eq!(sample(&new), expected, "{name}");
    }
}
