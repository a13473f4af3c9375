//! The snapshot in, the page in OpenMetrics 1.0 text out, with a trace behind each bucket.
//!
//! The encoder of `prometheus-client` has exemplars but lets nobody outside it make one, hence this writer.

use crate::correlate::Snapshot;
use crate::correlate::window::Exemplar;
use crate::correlate::window::Histogram;
use crate::export::catalog::Kind;
use crate::export::catalog::Metric;
use crate::export::collect::Sample;
use crate::export::collect::Value;
use crate::export::collect::collect;
use std::fmt;
use std::fmt::Write as _;

/// The `Content-Type` of [`Page`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether an `Accept` header asks for OpenMetrics at least as much as for plain text.
pub fn wanted(accept: &str) -> bool {
    let quality = |kind: &str| {
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            parts.next().filter(|name| name.eq_ignore_ascii_case(kind))?;
            let quality = parts.find_map(|part| part.strip_prefix("q="));
            Some(quality.map_or(1.0, |quality| quality.parse::<f64>().unwrap_or(0.0)))
        });
        ranges.fold(0.0, f64::max)
    };
    let ours = quality("application/openmetrics-text");
    ours > 0.0 && ours >= quality("text/plain")
}

/// The whole page, rendered by its `Display`.
#[derive(Debug)]
pub struct Page<'a>(pub &'a Snapshot);

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for family in collect(self.0) {
            let name = family.metric.family();
            writeln!(f, "# TYPE {name} {}", family.metric.kind.name())?;
            if !family.metric.unit.word.is_empty() {
                writeln!(f, "# UNIT {name} {}", family.metric.unit.word)?;
            }
            writeln!(f, "# HELP {name} {}", family.metric.help)?;
            for sample in &family.samples {
                write_sample(f, family.metric, sample)?;
            }
        }
        f.write_str("# EOF\n")
    }
}

fn write_sample(f: &mut fmt::Formatter<'_>, metric: &Metric, sample: &Sample<'_>) -> fmt::Result {
    let name = metric.family();
    let suffix = if metric.kind == Kind::Counter { "_total" } else { "" };
    let labels = |le| Labels { metric, sample, le };
    match sample.value {
        Value::Whole(value) => writeln!(f, "{name}{suffix}{} {value}", labels(None)),
        Value::Real(value) => writeln!(f, "{name}{suffix}{} {}", labels(None), Number(value)),
        Value::Histogram(histogram) => {
            let bounds = histogram.bounds().iter().copied().chain([f64::INFINITY]);
            let mut cumulative = 0;
            for (bucket, (bound, count)) in bounds.zip(histogram.counts()).enumerate() {
                cumulative += count;
                write!(f, "{name}_bucket{} {cumulative}", labels(Some(bound)))?;
                write_exemplar(f, histogram, bucket)?;
                f.write_char('\n')?;
            }
            writeln!(f, "{name}_count{} {}", labels(None), histogram.count())?;
            writeln!(f, "{name}_sum{} {}", labels(None), Number(histogram.sum()))
        }
    }
}

fn write_exemplar(f: &mut fmt::Formatter<'_>, histogram: &Histogram, bucket: usize) -> fmt::Result {
    let Some(Exemplar { value, unix_ns, trace_id, span_id }) = histogram.exemplar(bucket) else { return Ok(()) };
    let (trace_id, span_id) = (u128::from_be_bytes(*trace_id), u64::from_be_bytes(*span_id));
    let (seconds, rest) = (unix_ns / 1_000_000_000, unix_ns % 1_000_000_000);
    write!(f, " # {{trace_id=\"{trace_id:032x}\",span_id=\"{span_id:016x}\"}} {} {seconds}.{rest:09}", Number(*value))
}

/// A label set; `le` comes last.
struct Labels<'a> {
    metric: &'a Metric,
    sample: &'a Sample<'a>,
    le: Option<f64>,
}

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = '{';
        for (label, value) in self.metric.labels.iter().zip(&self.sample.labels) {
            write!(f, "{before}{}=\"", label.name)?;
            for character in value.chars() {
                match character {
                    '\\' => f.write_str("\\\\")?,
                    '"' => f.write_str("\\\"")?,
                    '\n' => f.write_str("\\n")?,
                    other => f.write_char(other)?,
                }
            }
            f.write_char('"')?;
            before = ',';
        }
        if let Some(bound) = self.le {
            write!(f, "{before}le=\"{}\"", Number(bound))?;
            before = ',';
        }
        if before == ',' { f.write_char('}') } else { Ok(()) }
    }
}

/// A number as OpenMetrics writes it: a bound of one is `1.0`.
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            infinite if infinite == f64::INFINITY => f.write_str("+Inf"),
            infinite if infinite == f64::NEG_INFINITY => f.write_str("-Inf"),
            number if number.is_nan() => f.write_str("NaN"),
            number if number.fract() == 0.0 => write!(f, "{number:.1}"),
            number => write!(f, "{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Anchor;
    use crate::clock::MonoNs;
    use crate::correlate::Request;
    use crate::correlate::Update;
    use crate::correlate::golden;
    use crate::correlate::sample::ANCHOR;
    use crate::correlate::sample::busy;
    use crate::correlate::sample::streamed;

    #[test]
    fn a_page_of_everything() {
        let snapshot = busy().snapshot(Anchor { mono: MonoNs(1), unix_ns: 2 });
        golden::check("openmetrics.txt", &Page(&snapshot).to_string());
    }

    #[test]
    fn label_values_are_escaped() {
        let busy = busy();
        let model = Some("a\\b\"c\nd".to_owned());
        busy.update(Update::Ended(Box::new(Request { model, ..streamed(3) })), ANCHOR);
        let page = Page(&busy.snapshot(Anchor { mono: MonoNs(1), unix_ns: 2 })).to_string();
        assert!(page.contains(r#"gen_ai_request_model="a\\b\"c\nd""#));
    }

    #[test]
    fn the_format_follows_the_accept_header() {
        for (accept, openmetrics) in [
            ("application/openmetrics-text", true),
            ("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.2", true),
            ("text/plain;version=0.0.4;q=0.6, Application/OpenMetrics-Text; version=1.0.0; q=0.5", false),
            ("application/openmetrics-text;q=0", false),
            ("text/plain", false),
            ("*/*", false),
            ("", false),
            (";;,,q=;=", false),
        ] {
            assert_eq!(wanted(accept), openmetrics, "{accept}");
        }
    }
}
