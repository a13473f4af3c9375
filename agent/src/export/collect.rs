//! The snapshot in, families of samples out: what all three formats render.

use crate::clock::seconds;
use crate::correlate::Place;
use crate::correlate::Role;
use crate::correlate::Runtime;
use crate::correlate::Snapshot;
use crate::correlate::window::Histogram;
use crate::export::catalog;
use crate::export::catalog::Metric;
use crate::ident::Pid;
use std::borrow::Cow;

mod engines;
mod gpus;

/// One metric with its samples, at least one.
#[derive(Debug)]
pub struct Family<'a> {
    /// The metric.
    pub metric: &'static Metric,
    /// Its samples.
    pub samples: Vec<Sample<'a>>,
}

/// One sample.
#[derive(Debug)]
pub struct Sample<'a> {
    /// Label values in the order of [`Metric::labels`]; empty stands for none.
    pub labels: Vec<Cow<'a, str>>,
    /// The value.
    pub value: Value<'a>,
}

/// The value of a sample.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// A whole number.
    Whole(u64),
    /// A number.
    Real(f64),
    /// A histogram.
    Histogram(&'a Histogram),
}

/// Every family that has a sample; what is unknown has none.
pub fn collect(snapshot: &Snapshot) -> Vec<Family<'_>> {
    let mut page =
        Page { families: catalog::METRICS.iter().map(|metric| Family { metric, samples: Vec::new() }).collect() };
    requests(snapshot, &mut page);
    objectives(snapshot, &mut page);
    processes(snapshot, &mut page);
    places(snapshot, &mut page);
    engines::put(snapshot, &mut page);
    gpus::collect(snapshot, &mut page);
    uses(snapshot, &mut page);
    users(snapshot, &mut page);
    agent(snapshot, &mut page);
    page.families.retain(|family| !family.samples.is_empty());
    page.families
}

struct Page<'a> {
    families: Vec<Family<'a>>,
}

impl<'a> Page<'a> {
    /// Adds a sample where there is a value.
    fn put(
        &mut self,
        metric: &'static Metric,
        labels: impl IntoIterator<Item = impl Into<Cow<'a, str>>>,
        value: impl Into<Option<Value<'a>>>,
    ) {
        let Some(value) = value.into() else { return };
        let sample = Sample { labels: labels.into_iter().map(Into::into).collect(), value };
        match self.families.iter_mut().find(|family| std::ptr::eq(family.metric, metric)) {
            Some(family) => family.samples.push(sample),
            None => self.families.push(Family { metric, samples: vec![sample] }),
        }
    }
}

fn requests<'a>(snapshot: &'a Snapshot, page: &mut Page<'a>) {
    for (series, totals) in snapshot.series.iter() {
        let base = [series.operation, series.engine.name(), series.model.as_str()];
        let with = |more: &[&'a str]| base.iter().chain(more).copied().collect::<Vec<&'a str>>();
        let histogram = |histogram: &'a Histogram| (histogram.count() > 0).then_some(Value::Histogram(histogram));
        for (error_type, duration) in &totals.duration {
            page.put(&catalog::REQUEST_DURATION, with(&[error_type]), histogram(duration));
        }
        page.put(&catalog::TIME_TO_FIRST_TOKEN, base, histogram(&totals.ttft));
        page.put(&catalog::TIME_PER_OUTPUT_TOKEN, base, histogram(&totals.tpot));
        page.put(&catalog::INTER_TOKEN_LATENCY, base, histogram(&totals.itl));
        for (phase, duration) in &totals.phases {
            page.put(&catalog::PHASE_DURATION, with(&[phase]), histogram(duration));
        }
        for (outcome, count) in &totals.requests {
            page.put(&catalog::REQUESTS_TOTAL, with(&[&outcome.status, &outcome.error_type]), Value::Whole(*count));
        }
        for (kind, tokens) in [
            ("input", totals.input_tokens),
            ("cached", totals.cached_tokens),
            ("output", totals.output_tokens),
            ("engine", totals.engine_tokens),
            ("wasted", totals.wasted_tokens),
        ] {
            page.put(&catalog::TOKENS_TOTAL, with(&[kind]), tokens.map(Value::Whole));
        }
        let used = &totals.used;
        page.put(&catalog::ENGINE_SECONDS, base, (used.core_seconds > 0.0).then_some(Value::Real(used.core_seconds)));
        page.put(&catalog::REQUEST_ENERGY, base, histogram(&totals.energy));
        page.put(&catalog::REQUEST_COST, base, used.part.dollars.map(Value::Real));
        page.put(&catalog::TOKEN_COST, base, totals.token_dollars.map(Value::Real));
        page.put(&catalog::PREEMPTIONS, base, totals.preemptions.map(Value::Whole));
    }
}

fn users<'a>(snapshot: &'a Snapshot, page: &mut Page<'a>) {
    for row in &snapshot.users {
        let user = row.user.as_str();
        page.put(&catalog::USER_REQUESTS, [user], Value::Whole(row.requests));
        for (kind, tokens) in [("input", row.input_tokens), ("output", row.output_tokens)] {
            page.put(&catalog::USER_TOKENS, [user, kind], Value::Whole(tokens));
        }
        page.put(&catalog::USER_COST, [user], row.used.part.dollars.map(Value::Real));
        page.put(&catalog::USER_TOKEN_COST, [user], row.token_dollars.map(Value::Real));
    }
}

fn objectives<'a>(snapshot: &'a Snapshot, page: &mut Page<'a>) {
    for (series, counts) in snapshot.judged.iter() {
        let base = [series.operation, series.engine.name(), series.model.as_str()];
        page.put(&catalog::SLO_JUDGED, base, Value::Whole(counts.judged));
        for (cause, count) in &counts.causes {
            page.put(&catalog::SLO_MISSED, base.into_iter().chain([cause.name()]), Value::Whole(*count));
        }
    }
}

/// Where traced processes run, and those of GPUs that are not traced.
fn places<'a>(snapshot: &'a Snapshot, page: &mut Page<'a>) {
    let mut put = |pid: Pid, engine: String, role: &'static str, place: &'a Place| {
        let container = place.container.as_ref();
        let text = |text: Option<&'a str>| Cow::from(text.unwrap_or_default());
        let labels = [
            Cow::from(engine),
            pid.to_string().into(),
            role.into(),
            text(container.map(|container| container.id.as_str())),
            text(container.and_then(|container| container.runtime).map(Runtime::name)),
            text(place.pod_uid.as_deref()),
            text(place.unit.as_deref()),
        ];
        page.put(&catalog::PROCESS_INFO, labels, Value::Whole(1));
    };
    for target in &snapshot.targets {
        let role = match target.role {
            Role::Frontend => "frontend",
            Role::Core => "core",
        };
        put(target.pid, target.engine.0.pid.to_string(), role, &target.place);
    }
    let is_traced = |pid| snapshot.targets.iter().any(|target| target.pid == pid);
    for pid in snapshot.lineage.keys().filter(|pid| !is_traced(**pid)) {
        if let Some(place) = snapshot.places.get(pid) {
            put(*pid, snapshot.engine_of(*pid).unwrap_or_default(), "", place);
        }
    }
}

fn processes<'a>(snapshot: &'a Snapshot, page: &mut Page<'a>) {
    let whole = |number: u32| Value::Whole(u64::from(number));
    for target in &snapshot.targets {
        if target.role == Role::Frontend {
            let labels = [target.engine.0.pid.to_string(), target.pid.to_string()];
            page.put(&catalog::REQUESTS_IN_FLIGHT, labels, whole(target.in_flight));
        }
    }
    for core in &snapshot.cores {
        let labels = || [core.engine.0.pid.to_string(), core.pid.to_string()];
        page.put(&catalog::ENGINE_RUNNING, labels(), core.load.running.map(whole));
        page.put(&catalog::ENGINE_WAITING, labels(), core.load.waiting.map(whole));
        page.put(&catalog::ENGINE_LIVE, labels(), whole(core.live));
        page.put(&catalog::ENGINE_KV_USAGE, labels(), core.load.kv_usage.map(Value::Real));
        page.put(&catalog::ENGINE_QUEUED_TOKENS, labels(), Value::Whole(core.queued_tokens));
        page.put(&catalog::ENGINE_WEDGED, labels(), Value::Whole(u64::from(core.wedged.is_some())));
    }
}

fn uses<'a>(snapshot: &'a Snapshot, page: &mut Page<'a>) {
    for device in &snapshot.devices {
        for (name, used) in [("requests", &device.attributed), ("idle", &device.idle)] {
            let labels = [device.id.as_str(), device.name.as_deref().unwrap_or_default(), name];
            page.put(&catalog::GPU_USED_SECONDS, labels, used.device_seconds.map(Value::Real));
            page.put(&catalog::GPU_USED_ENERGY, labels, used.joules.map(Value::Real));
            page.put(&catalog::GPU_USED_COST, labels, used.dollars.map(Value::Real));
        }
    }
}

fn agent<'a>(snapshot: &'a Snapshot, page: &mut Page<'a>) {
    const NONE: [&str; 0] = [];
    page.put(&catalog::COVERAGE, NONE, snapshot.coverage().map(Value::Real));
    page.put(&catalog::SERIES_OVERFLOW, NONE, Value::Whole(snapshot.series_overflow));
    page.put(&catalog::AGENT_CPU, NONE, snapshot.own.map(|own| Value::Real(own.cpu_seconds)));
    page.put(&catalog::AGENT_MEMORY, NONE, snapshot.own.map(|own| Value::Whole(own.memory_bytes)));
    let reading = snapshot.settings;
    page.put(&catalog::CONFIG_SUCCESSFUL, NONE, reading.map(|reading| Value::Whole(u64::from(reading.successful))));
    let time = reading.map(|reading| Value::Real(seconds(reading.success_unix_ns)));
    page.put(&catalog::CONFIG_SUCCESS_TIME, NONE, time);
    page.put(&catalog::BUILD_INFO, [env!("CARGO_PKG_VERSION")], Value::Whole(1));
    for vital in catalog::VITALS {
        page.put(&vital.metric, NONE, snapshot.vitals.get(vital.field).copied().map(Value::Whole));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::sample::ANCHOR;
    use crate::correlate::sample::busy;
    use crate::correlate::sample::place;
    use std::collections::BTreeMap;

    #[test]
    fn a_process_on_a_gpu_names_its_place_though_it_is_not_traced() {
        let busy = busy();
        busy.lineage(BTreeMap::from([(Pid(77), vec![Pid(41)]), (Pid(78), vec![Pid(1)])]));
        busy.placed(Pid(77), Place { unit: Some("vllm.service".to_owned()), ..place() });
        let snapshot = busy.snapshot(ANCHOR);
        let families = collect(&snapshot);
        let info = families.iter().find(|family| family.metric.name == catalog::PROCESS_INFO.name).unwrap();
        let rows = info.samples.iter().map(|sample| (&*sample.labels[0], &*sample.labels[1], &*sample.labels[6]));
        assert_eq!(rows.collect::<Vec<_>>(), [("40", "41", ""), ("40", "42", ""), ("40", "77", "vllm.service")]);
    }
}
