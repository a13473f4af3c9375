//! The snapshot in, the page in Prometheus text format 0.0.4 out.

use crate::correlate::Snapshot;
use crate::correlate::window::Histogram;
use crate::export::catalog::Kind;
use crate::export::catalog::Label;
use crate::export::collect::Family;
use crate::export::collect::Sample;
use crate::export::collect::Value;
use crate::export::collect::collect;
use prometheus::TextEncoder;
use prometheus::proto;

/// The `Content-Type` of [`render`]'s answer.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Renders the page.
///
/// # Errors
///
/// What the encoder says of a family that it cannot write: one without a name or a sample, which
/// [`collect`] does not make.
pub fn render(snapshot: &Snapshot) -> Result<String, prometheus::Error> {
    let families: Vec<proto::MetricFamily> = collect(snapshot).into_iter().map(family).collect();
    TextEncoder::new().encode_to_string(&families)
}

fn family(family: Family<'_>) -> proto::MetricFamily {
    let metric = family.metric;
    let mut out = proto::MetricFamily::default();
    out.set_name(metric.name.to_owned());
    out.set_help(metric.help.to_owned());
    out.set_field_type(match metric.kind {
        Kind::Counter => proto::MetricType::COUNTER,
        Kind::Gauge => proto::MetricType::GAUGE,
        Kind::Histogram => proto::MetricType::HISTOGRAM,
    });
    out.set_metric(family.samples.into_iter().map(|sample| sample_of(metric.kind, metric.labels, sample)).collect());
    out
}

fn sample_of(kind: Kind, labels: &[Label], sample: Sample<'_>) -> proto::Metric {
    let pairs = labels.iter().zip(sample.labels).map(|(label, value)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name(label.name.to_owned());
        pair.set_value(value.into_owned());
        pair
    });
    let mut out = proto::Metric::from_label(pairs.collect());
    let number = match sample.value {
        Value::Whole(value) => value as f64,
        Value::Real(value) => value,
        Value::Histogram(histogram) => {
            out.set_histogram(buckets(histogram));
            return out;
        }
    };
    if kind == Kind::Counter {
        let mut counter = proto::Counter::default();
        counter.set_value(number);
        out.set_counter(counter);
    } else {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(number);
        out.set_gauge(gauge);
    }
    out
}

fn buckets(histogram: &Histogram) -> proto::Histogram {
    let mut cumulative = 0;
    let buckets = histogram.bounds().iter().zip(histogram.counts()).map(|(bound, count)| {
        cumulative += count;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    let mut out = proto::Histogram::default();
    out.set_bucket(buckets.collect());
    out.set_sample_sum(histogram.sum());
    out.set_sample_count(histogram.count());
    out
}

#[cfg(test)]
mod tests {
    use crate::clock::Anchor;
    use crate::clock::MonoNs;
    use crate::correlate::golden;
    use crate::correlate::sample::busy;

    #[test]
    fn a_page_of_everything() {
        let snapshot = busy().snapshot(Anchor { mono: MonoNs(1), unix_ns: 2 });
        golden::check("metrics.txt", &super::render(&snapshot).unwrap());
    }
}
