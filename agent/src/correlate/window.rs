//! Observations in, counts by bucket out, with a trace to look at for each bucket: the one histogram type.

use std::sync::Arc;

/// A pointer from one bucket of a histogram to the trace of a request that fell into it.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// The observed value, in the histogram's unit.
    pub value: f64,
    /// When it was observed, Unix nanoseconds.
    pub unix_ns: u64,
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span.
    pub span_id: [u8; 8],
}

/// Counts by upper bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    bounds: Arc<[f64]>,
    counts: Vec<u64>,
    exemplars: Vec<Option<Exemplar>>,
    sum: f64,
    count: u64,
}

impl Histogram {
    /// An empty histogram over rising upper bounds; a last bucket takes what lies beyond.
    pub fn new(bounds: &Arc<[f64]>) -> Self {
        Self {
            bounds: Arc::clone(bounds),
            counts: vec![0; bounds.len() + 1],
            exemplars: Vec::new(),
            sum: 0.0,
            count: 0,
        }
    }

    /// One observation; a value that equals a bound falls into that bound's bucket.
    pub fn observe(&mut self, value: f64) {
        if let Some(count) = self.counts.get_mut(bucket(&self.bounds, value)) {
            *count += 1;
            self.sum += value;
            self.count += 1;
        }
    }

    /// One observation that a trace explains; the bucket keeps its latest.
    pub fn observe_traced(&mut self, exemplar: Exemplar) {
        self.observe(exemplar.value);
        self.exemplars.resize(self.counts.len(), None);
        if let Some(place) = self.exemplars.get_mut(bucket(&self.bounds, exemplar.value)) {
            *place = Some(exemplar);
        }
    }

    /// Takes over observations that were already sorted into the same buckets; `sum` is theirs.
    pub fn merge(&mut self, counts: impl IntoIterator<Item = u64>, sum: f64) {
        for (mine, theirs) in self.counts.iter_mut().zip(counts) {
            *mine += theirs;
            self.count += theirs;
        }
        self.sum += sum;
    }

    /// The upper bounds.
    pub fn bounds(&self) -> &[f64] {
        &self.bounds
    }

    /// Observations by bucket, not cumulated, one more than there are bounds.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The latest traced observation of a bucket, by its position in [`Self::counts`].
    pub fn exemplar(&self, bucket: usize) -> Option<&Exemplar> {
        self.exemplars.get(bucket)?.as_ref()
    }

    /// Every bucket's latest traced observation.
    pub fn exemplars(&self) -> impl Iterator<Item = &Exemplar> {
        self.exemplars.iter().flatten()
    }

    /// The sum of all observations.
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// How many observations.
    pub fn count(&self) -> u64 {
        self.count
    }
}

fn bucket(bounds: &[f64], value: f64) -> usize {
    bounds.partition_point(|bound| *bound < value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(value: f64) -> Exemplar {
        Exemplar { value, unix_ns: 7, trace_id: [1; 16], span_id: [2; 8] }
    }

    #[test]
    fn a_value_on_a_bound_belongs_to_that_bound() {
        let mut histogram = Histogram::new(&Arc::from([0.1, 1.0]));
        for value in [0.1, 0.100_001, 1.0, 5.0] {
            histogram.observe(value);
        }
        assert_eq!(histogram.counts(), [1, 2, 1]);
        assert_eq!((histogram.count(), histogram.sum()), (4, 6.200_001));
    }

    #[test]
    fn an_exemplar_lies_in_the_bucket_that_holds_its_value() {
        let mut histogram = Histogram::new(&Arc::from([0.1, 1.0]));
        histogram.observe(0.05);
        histogram.observe_traced(exemplar(0.5));
        histogram.observe_traced(exemplar(0.7));
        histogram.observe_traced(exemplar(9.0));
        assert_eq!(histogram.exemplar(0), None);
        assert_eq!(histogram.exemplar(1), Some(&exemplar(0.7)));
        assert_eq!(histogram.exemplar(2), Some(&exemplar(9.0)));
        assert_eq!(histogram.count(), 4);
    }

    #[test]
    fn merging_keeps_every_observation() {
        let mut histogram = Histogram::new(&Arc::from([0.1, 1.0]));
        histogram.observe(0.5);
        histogram.merge([2, 0, 1], 3.5);
        assert_eq!(histogram.counts(), [2, 1, 1]);
        assert_eq!((histogram.count(), histogram.sum()), (4, 4.0));
    }
}
