//! Observations in, cumulative histogram counts out: the one histogram type.

/// Cumulative counts by upper bound.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Vec<u64>,
    sum: f64,
    count: u64,
}

impl Histogram {
    /// An empty histogram over rising upper bounds; a last bucket takes what lies beyond.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0, count: 0 }
    }

    /// One observation; a value that equals a bound falls into that bound's bucket.
    pub fn observe(&mut self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
            self.sum += value;
            self.count += 1;
        }
    }

    /// The upper bounds.
    pub fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    /// Observations by bucket, not cumulated, one more than there are bounds.
    pub fn counts(&self) -> &[u64] {
        &self.counts
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
