//! The GPUs of a snapshot in; their families out. What is unknown has no sample, what is lost has none but its state.

use super::Page;
use super::Value;
use crate::clock::MonoNs;
use crate::clock::seconds;
use crate::correlate::Gpus;
use crate::correlate::Snapshot;
use crate::export::catalog;
use crate::export::catalog::Metric;
use std::borrow::Cow;

/// The row of what belongs to no process that is known.
const UNATTRIBUTED: &str = "unattributed";

/// The value of `hw.type`.
const TYPE: &str = "gpu";

pub(super) fn collect<'a>(snapshot: &'a Snapshot, page: &mut Page<'a>) {
    const NONE: [&str; 0] = [];
    let Gpus::Present { driver, gpus, lost } = &snapshot.gpus else {
        page.put(&catalog::GPU_UP, NONE, Value::Whole(0));
        return;
    };
    page.put(&catalog::GPU_UP, NONE, Value::Whole(1));
    for sample in gpus {
        let name = sample.name.as_deref().unwrap_or_default();
        let mut gpu = Rows { page, snapshot, id: Cow::from(&sample.uuid), name };
        gpu.load(sample);
        gpu.power(sample);
        gpu.clocks(sample);
        gpu.links(sample);
        gpu.health(sample, driver.as_deref());
        gpu.xids(&sample.more.xids);
        gpu.processes(sample);
        gpu.parts(sample);
        gpu.own(sample);
    }
    for lost in lost {
        // One that never told its name is still one and not another.
        let id = lost.uuid.as_deref().map_or_else(|| format!("index-{}", lost.index).into(), Cow::from);
        let name = lost.name.as_deref().unwrap_or_default();
        let mut gpu = Rows { page, snapshot, id, name };
        gpu.status("failed");
        gpu.xids(&lost.xids);
    }
}

/// Rows of one GPU.
struct Rows<'a, 'page> {
    page: &'page mut Page<'a>,
    snapshot: &'a Snapshot,
    id: Cow<'a, str>,
    name: &'a str,
}

type Gpu = crate::correlate::Gpu;
type Xids = std::collections::BTreeMap<u64, crate::correlate::Xid>;

impl<'a> Rows<'a, '_> {
    fn put(&mut self, metric: &'static Metric, value: Option<Value<'a>>) {
        self.with(metric, [""; 0], value);
    }

    fn with(
        &mut self,
        metric: &'static Metric,
        more: impl IntoIterator<Item = impl Into<Cow<'a, str>>>,
        value: Option<Value<'a>>,
    ) {
        let labels = [self.id.clone(), Cow::from(self.name)];
        self.page.put(metric, labels.into_iter().chain(more.into_iter().map(Into::into)), value);
    }

    fn load(&mut self, gpu: &'a Gpu) {
        let now = &gpu.more.now;
        self.put(&catalog::GPU_MEMORY_USAGE, gpu.memory_used_bytes.map(Value::Whole));
        self.put(&catalog::GPU_MEMORY_LIMIT, gpu.memory_total_bytes.map(Value::Whole));
        self.put(&catalog::GPU_MEMORY_FREE, now.memory_free_bytes.map(Value::Whole));
        self.put(&catalog::GPU_MEMORY_RESERVED, now.memory_reserved_bytes.map(Value::Whole));
        self.with(&catalog::GPU_UTILIZATION, ["general"], gpu.utilization.map(Value::Real));
        self.put(&catalog::GPU_MEMORY_BUSY, gpu.memory_utilization.map(Value::Real));
        for (part, share) in activity(&now.activity) {
            self.with(&catalog::GPU_ACTIVITY, [part], share.map(Value::Real));
        }
    }

    fn power(&mut self, gpu: &'a Gpu) {
        let more = &gpu.more;
        self.with(&catalog::GPU_POWER, [TYPE], gpu.power_watts.map(Value::Real));
        self.put(&catalog::GPU_POWER_AVERAGE, more.power_average_watts.map(Value::Real));
        self.put(&catalog::GPU_POWER_MODULE, more.power_module_watts.map(Value::Real));
        for (kind, watts) in &more.health.power_limit_watts {
            self.with(&catalog::GPU_POWER_LIMIT, [*kind], Some(Value::Real(*watts)));
        }
        self.with(&catalog::GPU_ENERGY, [TYPE], gpu.energy_joules.map(Value::Real));
        for (sensor, celsius) in [("gpu", more.now.temperature_celsius), ("memory", more.memory_temperature_celsius)] {
            self.with(&catalog::GPU_TEMPERATURE, [TYPE, sensor], celsius.map(Value::Real));
        }
    }

    fn clocks(&mut self, gpu: &'a Gpu) {
        for (clock, hertz) in &gpu.more.now.clocks_hertz {
            self.with(&catalog::GPU_CLOCK_NOW, [*clock], Some(Value::Real(*hertz)));
        }
        for (clock, hertz) in &gpu.more.health.clocks_max_hertz {
            self.with(&catalog::GPU_CLOCK_MAX, [*clock], Some(Value::Real(*hertz)));
        }
        for (reason, active) in &gpu.more.now.clock_events {
            self.with(&catalog::GPU_CLOCK_EVENT, [*reason], Some(whether(*active)));
        }
        for (reason, time) in &gpu.clock_event_seconds {
            self.with(&catalog::GPU_CLOCK_EVENT_SECONDS, [*reason], Some(Value::Real(*time)));
        }
    }

    fn links(&mut self, gpu: &'a Gpu) {
        for (link, traffic) in [("pcie", &gpu.more.pcie), ("nvlink", &gpu.more.nvlink)] {
            for (direction, bytes) in [("receive", traffic.received_bytes), ("transmit", traffic.sent_bytes)] {
                self.with(&catalog::GPU_IO, [link, direction], bytes.map(Value::Whole));
            }
        }
        let health = &gpu.more.health;
        let whole = |number: Option<u32>| number.map(|number| Value::Whole(u64::from(number)));
        self.put(&catalog::GPU_PCIE_REPLAYS, health.pcie_replays.map(Value::Whole));
        self.put(&catalog::GPU_PCIE_GENERATION, whole(health.pcie_generation));
        self.put(&catalog::GPU_PCIE_WIDTH, whole(health.pcie_width));
    }

    fn health(&mut self, gpu: &'a Gpu, driver: Option<&'a str>) {
        let health = &gpu.more.health;
        for (kind, errors) in [("corrected", health.ecc.corrected), ("uncorrected", health.ecc.uncorrected)] {
            self.with(&catalog::GPU_ERRORS, [TYPE, kind], errors.map(Value::Whole));
        }
        for (kind, errors) in
            [("corrected", health.ecc.corrected_lifetime), ("uncorrected", health.ecc.uncorrected_lifetime)]
        {
            self.with(&catalog::GPU_ECC_LIFETIME, [kind], errors.map(Value::Whole));
        }
        let remaps = &health.remaps;
        for (kind, rows) in [("corrected", remaps.corrected), ("uncorrected", remaps.uncorrected)] {
            self.with(&catalog::GPU_ROWS_REMAPPED, [kind], rows.map(Value::Whole));
        }
        for (kind, is) in [("pending", remaps.pending), ("failed", remaps.failed)] {
            self.with(&catalog::GPU_ROW_REMAP, [kind], is.map(whether));
        }
        self.put(&catalog::GPU_RECOVERY, health.recovery_action.map(Value::Whole));
        let ill = health.recovery_action.is_some_and(|action| action > 0)
            || remaps.failed == Some(true)
            || remaps.pending == Some(true);
        self.status(if ill { "degraded" } else { "ok" });
        let text = |text: Option<&'a str>| Cow::from(text.unwrap_or_default());
        let info = [
            Cow::from(gpu.index.to_string()),
            text(health.pci_bus_id.as_deref()),
            text(health.serial.as_deref()),
            text(driver),
            text(health.vbios.as_deref()),
            text(health.mig.map(|divided| if divided { "true" } else { "false" })),
        ];
        self.with(&catalog::GPU_INFO, info, Some(Value::Whole(1)));
    }

    fn status(&mut self, is: &'static str) {
        for state in ["ok", "degraded", "failed"] {
            self.with(&catalog::GPU_STATUS, [TYPE, state], Some(whether(state == is)));
        }
    }

    fn xids(&mut self, xids: &'a Xids) {
        for (code, xid) in xids {
            self.with(&catalog::GPU_ERRORS, [TYPE.to_owned(), format!("xid_{code}")], Some(Value::Whole(xid.count)));
            self.with(&catalog::GPU_XIDS, [code.to_string()], Some(Value::Whole(xid.count)));
            // By one tie between the clocks for good, so that the same event has the same time on every page.
            let last = seconds(self.snapshot.started.unix_ns(xid.last));
            self.with(&catalog::GPU_XID_LAST, [code.to_string()], Some(Value::Real(last)));
        }
    }

    /// What no process answers for is a row of its own, so that rows sum to the GPU.
    fn processes(&mut self, gpu: &'a Gpu) {
        for process in &gpu.processes {
            let labels = || [process.pid.to_string(), self.snapshot.engine_of(process.pid).unwrap_or_default()];
            let (memory, sm) = (labels(), labels());
            self.with(&catalog::GPU_PROCESS_MEMORY, memory, process.memory_bytes.map(Value::Whole));
            self.with(&catalog::GPU_PROCESS_SM, sm, process.sm_utilization.map(Value::Real));
        }
        for more in &gpu.more.now.processes {
            let labels = || [more.pid.to_string(), self.snapshot.engine_of(more.pid).unwrap_or_default()];
            let (encoder, decoder) = (labels(), labels());
            self.with(&catalog::GPU_PROCESS_ENCODER, encoder, more.encoder_utilization.map(Value::Real));
            self.with(&catalog::GPU_PROCESS_DECODER, decoder, more.decoder_utilization.map(Value::Real));
        }
        let (memory, sm) = (gpu.unattributed_bytes(), gpu.unattributed_utilization());
        self.with(&catalog::GPU_PROCESS_MEMORY, [UNATTRIBUTED, ""], memory.map(Value::Whole));
        self.with(&catalog::GPU_PROCESS_SM, [UNATTRIBUTED, ""], sm.map(Value::Real));
    }

    fn parts(&mut self, gpu: &'a Gpu) {
        for part in &gpu.more.now.instances {
            let labels = || [part.gi.to_string(), part.ci.to_string()];
            self.with(&catalog::GPU_MIG_MEMORY_USAGE, labels(), part.memory_used_bytes.map(Value::Whole));
            self.with(&catalog::GPU_MIG_MEMORY_LIMIT, labels(), part.memory_total_bytes.map(Value::Whole));
            for (name, share) in activity(&part.activity) {
                let labels = labels().into_iter().chain([name.to_owned()]);
                self.with(&catalog::GPU_MIG_ACTIVITY, labels, share.map(Value::Real));
            }
        }
    }

    /// What looking at the GPU costs, and how old the looks are.
    fn own(&mut self, gpu: &'a Gpu) {
        let now = self.snapshot.at;
        let age = |at: Option<MonoNs>| at.map(|at| Value::Real(seconds(now.since(at).unwrap_or(0))));
        for (tier, at) in [("counters", Some(gpu.at)), ("now", gpu.more.now.at), ("health", gpu.more.health.at)] {
            self.with(&catalog::GPU_AGE, [tier], age(at));
        }
        for (call, calls) in gpu.more.calls.iter() {
            // The fields of a batch fail one by one and cost together.
            let made = calls.count > 0;
            self.with(&catalog::GPU_CALLS, [*call], made.then_some(Value::Whole(calls.count)));
            self.with(&catalog::GPU_CALL_SECONDS, [*call], made.then_some(Value::Real(seconds(calls.total_ns))));
            self.with(&catalog::GPU_CALL_ERRORS, [*call], (calls.errors > 0).then_some(Value::Whole(calls.errors)));
        }
    }
}

fn activity(activity: &crate::correlate::Activity) -> [(&'static str, Option<f64>); 5] {
    [
        ("graphics", activity.graphics),
        ("sm", activity.sm),
        ("sm_occupancy", activity.sm_occupancy),
        ("tensor", activity.tensor),
        ("dram", activity.dram),
    ]
}

fn whether<'a>(is: bool) -> Value<'a> {
    Value::Whole(u64::from(is))
}
