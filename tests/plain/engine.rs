//! Recorded `/metrics` pages of real servers, read as a scrape reads them.

use std::fs;
use std::path::Path;
use tachograph::engine::names::Collector;
use tachograph::engine::names::Gauges;
use tachograph::engine::text::Format;
use tachograph::engine::text::Parser;

fn page(name: &str) -> String {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/engine_metrics");
    fs::read_to_string(pages.join(name)).unwrap()
}

/// The gauges and the number of bad lines.
fn read(page: &str, format: Format) -> (Option<Gauges>, u64) {
    let mut parser = Parser::new(format);
    let mut collector = Collector::default();
    page.split_inclusive('\n').filter_map(|line| parser.line(line)).for_each(|point| collector.take(&point));
    (collector.finish(), parser.bad_lines())
}

#[test]
fn both_front_ends_of_vllm_are_read_without_a_bad_line() {
    for (name, format, kv_usage) in [
        ("vllm-0.32.0-python.prom", Format::Prometheus, 0.000_610_426_077_402_026_5),
        ("vllm-0.32.0-rust.openmetrics", Format::OpenMetrics, 0.000_366_255_646_441_215_9),
    ] {
        let page = page(name);
        assert_eq!(Format::of(None, &page), format, "{name}");
        let gauges = Gauges {
            engine: "vllm",
            running: Some(2.0),
            waiting: Some(4.0),
            kv_usage: Some(kv_usage),
            models: vec!["tiny".to_owned()],
        };
        assert_eq!(read(&page, format), (Some(gauges), 0), "{name}");
    }
}

/// A page that stops anywhere in its gauges never gives another number than the whole one.
#[test]
fn a_cut_page_gives_the_same_gauges_or_none() {
    for (name, format) in
        [("vllm-0.32.0-python.prom", Format::Prometheus), ("vllm-0.32.0-rust.openmetrics", Format::OpenMetrics)]
    {
        let page = page(name);
        let whole = read(&page, format).0.unwrap();
        let gauges_end = page.rfind("\nvllm:kv_cache_usage_perc{").unwrap() + 120;
        for (cut, left) in (0..gauges_end).filter_map(|cut| Some((cut, page.get(..cut)?))) {
            let Some(gauges) = read(left, format).0 else { continue };
            for (part, whole) in
                [(gauges.running, whole.running), (gauges.waiting, whole.waiting), (gauges.kv_usage, whole.kv_usage)]
            {
                assert!(part.is_none() || part == whole, "{name} cut at {cut}");
            }
        }
    }
}
