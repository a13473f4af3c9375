//! The snapshot in, OTLP metrics out, with exemplars.

use crate::correlate::Snapshot;
use crate::correlate::window;
use crate::export::catalog::Kind;
use crate::export::catalog::Metric as Declared;
use crate::export::collect::Family;
use crate::export::collect::Sample;
use crate::export::collect::Value;
use crate::export::collect::collect;
use crate::export::otlp::attribute::pair;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality;
use opentelemetry_proto::tonic::metrics::v1::Exemplar;
use opentelemetry_proto::tonic::metrics::v1::Gauge;
use opentelemetry_proto::tonic::metrics::v1::Histogram;
use opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;
use opentelemetry_proto::tonic::metrics::v1::Sum;
use opentelemetry_proto::tonic::metrics::v1::exemplar;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;

const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

/// Every metric that has a value.
pub fn metrics(snapshot: &Snapshot) -> Vec<Metric> {
    collect(snapshot).iter().map(|family| metric(snapshot, family)).collect()
}

fn metric(snapshot: &Snapshot, family: &Family<'_>) -> Metric {
    let declared = family.metric;
    let numbers = || family.samples.iter().filter_map(|sample| number(snapshot, declared, sample)).collect();
    let histograms = || family.samples.iter().filter_map(|sample| histogram(snapshot, declared, sample)).collect();
    Metric {
        name: declared.otlp.to_owned(),
        description: declared.help.to_owned(),
        unit: declared.unit.ucum.to_owned(),
        data: Some(match declared.kind {
            Kind::Counter => {
                Data::Sum(Sum { data_points: numbers(), aggregation_temporality: CUMULATIVE, is_monotonic: true })
            }
            Kind::Gauge => Data::Gauge(Gauge { data_points: numbers() }),
            Kind::Histogram => {
                Data::Histogram(Histogram { data_points: histograms(), aggregation_temporality: CUMULATIVE })
            }
        }),
        ..Metric::default()
    }
}

fn attributes(declared: &Declared, sample: &Sample<'_>) -> Vec<KeyValue> {
    let labels = declared.labels.iter().zip(&sample.labels);
    labels.filter(|(_, value)| !value.is_empty()).map(|(label, value)| pair(label.otlp, value.as_ref())).collect()
}

fn number(snapshot: &Snapshot, declared: &Declared, sample: &Sample<'_>) -> Option<NumberDataPoint> {
    let value = match sample.value {
        Value::Whole(value) => number_data_point::Value::AsInt(i64::try_from(value).unwrap_or(i64::MAX)),
        Value::Real(value) => number_data_point::Value::AsDouble(value),
        Value::Histogram(_) => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(declared, sample),
        start_time_unix_nano: if declared.kind == Kind::Counter { snapshot.started.unix_ns } else { 0 },
        time_unix_nano: snapshot.anchor.unix_ns,
        value: Some(value),
        ..NumberDataPoint::default()
    })
}

fn histogram(snapshot: &Snapshot, declared: &Declared, sample: &Sample<'_>) -> Option<HistogramDataPoint> {
    let Value::Histogram(histogram) = sample.value else { return None };
    Some(HistogramDataPoint {
        attributes: attributes(declared, sample),
        start_time_unix_nano: snapshot.histograms_since.unix_ns,
        time_unix_nano: snapshot.anchor.unix_ns,
        count: histogram.count(),
        sum: Some(histogram.sum()),
        bucket_counts: histogram.counts().to_vec(),
        explicit_bounds: histogram.bounds().to_vec(),
        exemplars: histogram.exemplars().map(example).collect(),
        ..HistogramDataPoint::default()
    })
}

fn example(exemplar: &window::Exemplar) -> Exemplar {
    Exemplar {
        time_unix_nano: exemplar.unix_ns,
        span_id: exemplar.span_id.to_vec(),
        trace_id: exemplar.trace_id.to_vec(),
        value: Some(exemplar::Value::AsDouble(exemplar.value)),
        ..Exemplar::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Anchor;
    use crate::clock::MonoNs;
    use crate::correlate::sample::ANCHOR;
    use crate::correlate::sample::busy;

    fn rendered() -> Vec<Metric> {
        metrics(&busy().snapshot(Anchor { mono: MonoNs(20), unix_ns: ANCHOR.unix_ns + 9 }))
    }

    #[test]
    fn a_histogram_is_cumulative_and_points_to_its_traces() {
        let all = rendered();
        let ttft = all.iter().find(|metric| metric.name == "gen_ai.server.time_to_first_token").unwrap();
        let Some(Data::Histogram(Histogram { data_points, aggregation_temporality: 2 })) = &ttft.data else {
            panic!("{ttft:?}")
        };
        let [point] = data_points.as_slice() else { panic!("one series, and none without a stream") };
        assert_eq!((ttft.unit.as_str(), point.count, point.sum), ("s", 1, Some(0.15)));
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (ANCHOR.unix_ns, ANCHOR.unix_ns + 9));
        assert_eq!(point.exemplars[0].value, Some(exemplar::Value::AsDouble(0.15)));
        assert_eq!(point.exemplars[0].trace_id[..2], [0x0a, 0xf7]);
    }

    #[test]
    fn counters_rise_and_empty_labels_are_left_out() {
        let all = rendered();
        let requests = all.iter().find(|metric| metric.name == "tachograph.requests").unwrap();
        let Some(Data::Sum(Sum { data_points, is_monotonic: true, .. })) = &requests.data else {
            panic!("{requests:?}")
        };
        let keys: Vec<usize> = data_points.iter().map(|point| point.attributes.len()).collect();
        assert_eq!(keys, [4, 5], "a success has no error type");
        assert_eq!(data_points[0].value, Some(number_data_point::Value::AsInt(1)));
    }
}
