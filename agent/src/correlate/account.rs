//! Shares of cores' time and readings of devices in; who used which energy and which time of each device, out.
//!
//! The rule: of each slot of 100 ms, a device's energy and time go to the engine requests that had the time
//! of the cores it serves, in proportion; what nobody had is idle. Two cores that share a device and together
//! had more than the slot share it in proportion. So parts sum to the whole, slot by slot.

use crate::clock::MonoNs;
use crate::clock::seconds;
use crate::ident::Pid;
use crate::request::SLOT_NS;
use crate::request::Slot;
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;

/// Readings of one device kept: more than a slot waits for.
const READINGS: usize = 2_048;
/// Slots of one core kept until its devices are accounted.
const SLOTS: usize = 600;
/// Engine requests whose use nobody has asked for yet.
const OPEN: usize = 65_536;
/// A core that says nothing for so long is waited for no more.
const SILENT: Duration = Duration::from_secs(40);

/// A part of what devices have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Part {
    /// Their time, seconds; `None` without any device.
    pub device_seconds: Option<f64>,
    /// Energy, of those that tell theirs; `None` where none does.
    pub joules: Option<f64>,
    /// Price of their time; `None` where none has a price.
    pub dollars: Option<f64>,
}

impl Part {
    fn add(&mut self, other: &Self) {
        add(&mut self.device_seconds, other.device_seconds);
        add(&mut self.joules, other.joules);
        add(&mut self.dollars, other.dollars);
    }
}

fn add(sum: &mut Option<f64>, known: Option<f64>) {
    if let Some(known) = known {
        *sum = Some(sum.unwrap_or(0.0) + known);
    }
}

/// What was used, by one engine request or by several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Used {
    /// Seconds of engine cores.
    pub core_seconds: f64,
    /// Of devices.
    #[serde(flatten)]
    pub part: Part,
    /// Of the energy, what fell into first and last slots, where use and reading may be apart by a reading.
    pub uncertain_joules: Option<f64>,
}

impl Used {
    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.core_seconds += other.core_seconds;
        self.part.add(&other.part);
        add(&mut self.uncertain_joules, other.uncertain_joules);
    }
}

/// One device's account: attributed and idle sum to the device.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DeviceAccount {
    /// Its `hw.id`.
    pub id: String,
    /// Its product name.
    pub name: Option<String>,
    /// What requests used.
    pub attributed: Part,
    /// What nobody used.
    pub idle: Part,
}

#[derive(Debug, Default)]
struct Core {
    /// All before is shared out.
    upto: MonoNs,
    slots: BTreeMap<u64, BTreeMap<u64, f64>>,
    gone: bool,
}

#[derive(Debug, Default)]
struct Device {
    account: DeviceAccount,
    dollars_a_second: Option<f64>,
    readings: VecDeque<(MonoNs, Option<f64>)>,
    cores: Vec<Pid>,
    /// The slot that is accounted next.
    next: Option<u64>,
}

#[derive(Debug, Default)]
struct Open {
    used: Used,
    edge: Option<(u64, f64, f64)>,
}

/// The books of all cores and devices.
#[derive(Debug, Default)]
pub struct Ledger {
    cores: BTreeMap<Pid, Core>,
    devices: BTreeMap<String, Device>,
    open: BTreeMap<u64, Open>,
    /// What was used by requests whose record nobody asked for, or had been made.
    unclaimed: Used,
}

impl Ledger {
    /// What the book says of a core's time.
    pub fn worked(&mut self, core: Pid, upto: MonoNs, slots: Vec<Slot>) {
        let book = self.cores.entry(core).or_default();
        book.upto = book.upto.max(upto);
        for Slot { number, shares } in slots {
            for (key, ns) in &shares {
                self.open.entry(*key).or_default().used.core_seconds += ns / 1e9;
            }
            book.slots.insert(number, shares);
        }
        while book.slots.len() > SLOTS {
            book.slots.pop_first();
        }
        self.account();
    }

    /// A core process left; nothing more comes of it.
    pub fn gone(&mut self, core: Pid) {
        if let Some(book) = self.cores.get_mut(&core) {
            book.gone = true;
        }
        self.account();
    }

    /// A reading of a device: its energy counter where it tells it, its price, and the cores it serves.
    pub fn read(
        &mut self,
        id: &str,
        name: Option<&str>,
        at: MonoNs,
        joules: Option<f64>,
        price: Price,
        cores: Vec<Pid>,
    ) {
        let device = self.devices.entry(id.to_owned()).or_default();
        if device.readings.back().is_some_and(|(last, _)| *last >= at) {
            return;
        }
        id.clone_into(&mut device.account.id);
        device.account.name = name.map(str::to_owned);
        device.dollars_a_second = price.map(|hour| hour / 3_600.0);
        device.cores = cores;
        device.next.get_or_insert(at.0.div_ceil(SLOT_NS));
        device.readings.push_back((at, joules));
        self.account();
    }

    /// Devices that are not kept serve nobody: they are no longer read.
    pub fn keep(&mut self, here: impl Fn(&str) -> bool) {
        for (id, device) in &mut self.devices {
            if !here(id) {
                device.cores.clear();
            }
        }
    }

    /// Whether all is known of what this core did until then.
    pub fn is_decided(&self, core: Pid, until: MonoNs) -> bool {
        let Some(book) = self.cores.get(&core).filter(|book| !book.gone) else { return true };
        let serving = self.devices.values().filter(|device| device.cores.contains(&core));
        book.upto > until && serving.filter_map(|device| device.next).all(|next| next * SLOT_NS > until.0)
    }

    /// Takes out what an engine request has used; `None` where nothing is known of it.
    pub fn claim(&mut self, key: u64) -> Option<Used> {
        let Open { used, edge } = self.open.remove(&key)?;
        let uncertain = edge.map(|(_, first, last)| first + last).filter(|_| used.part.joules.is_some());
        Some(Used { uncertain_joules: uncertain, ..used })
    }

    /// The accounts of all devices.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceAccount> {
        self.devices.values().map(|device| &device.account)
    }

    /// What is in no record: of requests under way, and of those whose record came without it.
    pub fn unclaimed(&self) -> Used {
        let mut sum = self.unclaimed;
        self.open.values().for_each(|open| sum.add(&open.used));
        sum
    }

    fn account(&mut self) {
        let Self { cores, devices, open, unclaimed } = self;
        for device in devices.values_mut() {
            while let Some(number) = device.next {
                let (from, to) = (MonoNs(number * SLOT_NS), MonoNs((number + 1) * SLOT_NS));
                let Some((newest, _)) = device.readings.back().copied() else { break };
                let ready = |core: &Pid| cores.get(core).is_some_and(|book| book.gone || book.upto >= to);
                if newest < to || !(device.cores.iter().all(ready) || newest > to.plus(SILENT)) {
                    break;
                }
                let joules = device.energy(to).zip(device.energy(from)).map(|(to, from)| (to - from).max(0.0));
                let shares: Vec<(u64, f64)> = device
                    .cores
                    .iter()
                    .filter_map(|core| cores.get(core)?.slots.get(&number))
                    .flat_map(|shares| shares.iter().map(|(key, ns)| (*key, *ns)))
                    .collect();
                let had: f64 = shares.iter().map(|(_, ns)| ns).sum();
                let whole = had.max(SLOT_NS as f64);
                for (key, ns) in shares {
                    let part = device.part(ns / whole, joules);
                    device.account.attributed.add(&part);
                    open.entry(key).or_default().take(number, &part);
                }
                let idle = device.part(1.0 - had / whole, joules);
                device.account.idle.add(&idle);
                device.next = Some(number + 1);
                while device.readings.len() > READINGS
                    || device.readings.get(1).is_some_and(|(second, _)| *second <= to)
                {
                    device.readings.pop_front();
                }
            }
        }
        if let Some(next) = devices.values().filter_map(|device| device.next).min() {
            for book in cores.values_mut() {
                book.slots = book.slots.split_off(&next);
            }
        }
        let unread = devices.is_empty();
        cores.retain(|_, book| !book.gone || !(unread || book.slots.is_empty()));
        while open.len() > OPEN {
            if let Some((_, oldest)) = open.pop_first() {
                unclaimed.add(&oldest.used);
            }
        }
    }
}

/// Dollars an hour, where a price is set.
pub type Price = Option<f64>;

impl Device {
    /// Its energy counter at an instant, between two readings in proportion.
    fn energy(&self, at: MonoNs) -> Option<f64> {
        let after = self.readings.partition_point(|(read, _)| *read < at);
        let (right, after_joules) = *self.readings.get(after)?;
        let Some((left, before_joules)) = after.checked_sub(1).and_then(|before| self.readings.get(before)).copied()
        else {
            return (right == at).then_some(after_joules).flatten();
        };
        let (before, after) = (before_joules?, after_joules?);
        let share = at.since(left)? as f64 / right.since(left)?.max(1) as f64;
        Some(before + (after - before) * share)
    }

    /// A share of one slot.
    fn part(&self, share: f64, joules: Option<f64>) -> Part {
        let device_seconds = share * seconds(SLOT_NS);
        Part {
            device_seconds: Some(device_seconds),
            joules: joules.map(|joules| joules * share),
            dollars: self.dollars_a_second.map(|dollars| dollars * device_seconds),
        }
    }
}

impl Open {
    fn take(&mut self, slot: u64, part: &Part) {
        self.used.part.add(part);
        let joules = part.joules.unwrap_or(0.0);
        self.edge = Some(match self.edge {
            None => (slot, joules, 0.0),
            Some((last, first, edge)) if last == slot => (slot, first, edge + joules),
            Some((_, first, _)) => (slot, first, joules),
        });
    }
}

#[cfg(test)]
mod tests;
