//! Readings of one GPU in; what it did between two instants out.

use crate::clock::MonoNs;
use crate::clock::seconds;
use crate::gpu::Sample;
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;

/// Readings kept of one GPU: half an hour of ten a second.
const READINGS: usize = 18_000;

/// What one GPU did while a request was served. Means are over time; what was not read is `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct During {
    /// Position in NVML's list.
    pub index: u32,
    /// Its `hw.id`.
    pub uuid: String,
    /// Product name.
    pub name: Option<String>,
    /// How many readings lie in that time or next to it.
    pub readings: usize,
    /// Mean share of time with a kernel running.
    pub utilization: Option<f64>,
    /// Mean power, watts.
    pub power_watts: Option<f64>,
    /// Mean clock of the multiprocessors, hertz.
    pub sm_clock_hertz: Option<f64>,
    /// Most memory in use, bytes.
    pub memory_used_bytes: Option<u64>,
    /// Memory in all, bytes.
    pub memory_total_bytes: Option<u64>,
    /// Seconds for which the clocks were held down, by reason; reasons without any are left out.
    pub throttled_seconds: BTreeMap<&'static str, f64>,
}

#[derive(Debug)]
struct Reading {
    at: MonoNs,
    utilization: Option<f64>,
    power_watts: Option<f64>,
    sm_clock_hertz: Option<f64>,
    memory_used_bytes: Option<u64>,
    clock_event_seconds: BTreeMap<&'static str, f64>,
}

/// The latest readings of one GPU.
#[derive(Debug, Default)]
pub struct History {
    latest: Sample,
    readings: VecDeque<Reading>,
}

impl History {
    /// One more reading; one that is no later than the last changes nothing.
    pub fn read(&mut self, sample: &Sample) {
        if self.readings.back().is_some_and(|last| last.at >= sample.at) {
            return;
        }
        if self.readings.len() >= READINGS {
            self.readings.pop_front();
        }
        self.readings.push_back(Reading {
            at: sample.at,
            utilization: sample.utilization,
            power_watts: sample.power_watts,
            sm_clock_hertz: sample.sm_clock_hertz,
            memory_used_bytes: sample.memory_used_bytes,
            clock_event_seconds: sample.clock_event_seconds.clone(),
        });
        self.latest = sample.clone();
    }

    /// What the GPU did from one instant to another: the readings between them and the next ones outside.
    pub fn during(&self, from: MonoNs, to: MonoNs) -> During {
        let first = self.readings.partition_point(|reading| reading.at <= from).saturating_sub(1);
        let end = (self.readings.partition_point(|reading| reading.at < to) + 1).min(self.readings.len());
        let within: Vec<&Reading> = self.readings.range(first.min(end)..end).collect();
        let (first, last) = (within.first(), within.last());
        let throttled = last.into_iter().flat_map(|last| &last.clock_event_seconds).filter_map(|(reason, after)| {
            let before = first?.clock_event_seconds.get(reason)?;
            let rose = (after - before).max(0.0);
            // No more than the time itself: the readings around it reach further.
            let most = seconds(to.since(from).unwrap_or(0));
            (rose > 0.0).then_some((*reason, rose.min(most)))
        });
        During {
            index: self.latest.index,
            uuid: self.latest.uuid.clone(),
            name: self.latest.name.clone(),
            readings: within.len(),
            utilization: mean(&within, |reading| reading.utilization),
            power_watts: mean(&within, |reading| reading.power_watts),
            sm_clock_hertz: mean(&within, |reading| reading.sm_clock_hertz),
            memory_used_bytes: within.iter().filter_map(|reading| reading.memory_used_bytes).max(),
            memory_total_bytes: self.latest.memory_total_bytes,
            throttled_seconds: throttled.collect(),
        }
    }
}

/// For how long the clocks of the GPU that was hindered most were held down, nanoseconds; `None` where no GPU
/// was read. Reasons overlap, so the longest of them is taken and not their sum.
pub fn throttled_ns(gpus: &[During]) -> Option<u64> {
    let of = |gpu: &During| gpu.throttled_seconds.values().copied().fold(0.0, f64::max);
    let most = gpus.iter().filter(|gpu| gpu.readings > 0).map(of).reduce(f64::max)?;
    u64::try_from(Duration::from_secs_f64(most).as_nanos()).ok()
}

/// The mean of those that were read.
fn mean(readings: &[&Reading], value: impl Fn(&Reading) -> Option<f64>) -> Option<f64> {
    let known: Vec<f64> = readings.iter().filter_map(|reading| value(reading)).collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(at: u64) -> MonoNs {
        MonoNs(at * 1_000_000)
    }

    /// A reading each 100 ms: power rises by 10 W each, the power cap holds from 500 ms on.
    fn history() -> History {
        let mut history = History::default();
        for n in 0..20_u32 {
            history.read(&Sample {
                uuid: "GPU-1".to_owned(),
                at: ms(u64::from(n) * 100),
                power_watts: Some(f64::from(n) * 10.0),
                memory_used_bytes: Some(u64::from(n % 7)),
                clock_event_seconds: BTreeMap::from([
                    ("sw_power_cap", f64::from(n.saturating_sub(5)) / 10.0),
                    ("idle", 3.0),
                ]),
                ..Sample::default()
            });
        }
        history
    }

    #[test]
    fn means_maxima_and_differences_are_of_the_time_asked_for() {
        let during = history().during(ms(350), ms(710));
        assert_eq!((during.readings, during.power_watts, during.memory_used_bytes), (6, Some(55.0), Some(6)));
        assert_eq!(during.throttled_seconds, BTreeMap::from([("sw_power_cap", 0.3)]));
        assert_eq!((during.utilization, during.uuid.as_str()), (None, "GPU-1"));
    }

    #[test]
    fn a_moment_has_the_readings_around_it_and_no_more_throttling_than_it_lasted() {
        let during = history().during(ms(810), ms(830));
        assert_eq!((during.readings, during.power_watts), (2, Some(85.0)));
        assert_eq!(during.throttled_seconds, BTreeMap::from([("sw_power_cap", 0.02)]));
    }

    #[test]
    fn outside_of_what_was_read_the_nearest_is_all_there_is() {
        let (before, after) = (History::default().during(ms(1), ms(2)), history().during(ms(9_000), ms(9_100)));
        assert_eq!((before.readings, before.power_watts), (0, None));
        assert_eq!((after.readings, after.power_watts), (1, Some(190.0)));
    }
}
