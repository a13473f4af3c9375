//! Laws of the ledger: parts sum to the whole, and each part is what the scenario says by itself.

use super::*;

const GPU: &str = "GPU-1";
const CORE: Pid = Pid(42);
/// Dollars an hour: a dollar in a thousand seconds.
const PRICE: Price = Some(3.6);

fn ms(at: u64) -> MonoNs {
    MonoNs(at * 1_000_000)
}

/// A slot in which these requests had these milliseconds.
fn slot(number: u64, shares: &[(u64, f64)]) -> Slot {
    Slot { number, shares: shares.iter().map(|(key, ms)| (*key, ms * 1e6)).collect() }
}

/// A device that draws `watts(slot)`, read every 70 ms until `end_ms`, and serves these cores.
fn meter(ledger: &mut Ledger, id: &str, watts: impl Fn(u64) -> f64, end_ms: u64, cores: &[Pid]) {
    let mut joules = 1_000.0;
    for at in 0..=end_ms {
        if at % 70 == 0 || at == end_ms {
            ledger.read(id, Some("Stub"), ms(at), Some(joules), PRICE, cores.to_vec());
        }
        joules += watts(at / 100) / 1_000.0;
    }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-6 * b.abs().max(1.0)
}

#[test]
fn each_request_has_its_part_and_the_rest_is_idle() {
    let mut ledger = Ledger::default();
    ledger.worked(CORE, ms(400), vec![slot(1, &[(7, 60.0), (8, 20.0)]), slot(2, &[(8, 100.0)])]);
    meter(&mut ledger, GPU, |_| 200.0, 400, &[CORE]);
    let (seven, eight) = (ledger.claim(7).unwrap(), ledger.claim(8).unwrap());
    assert!(close(seven.part.joules.unwrap(), 12.0) && close(eight.part.joules.unwrap(), 24.0), "{seven:?} {eight:?}");
    assert!(
        close(seven.uncertain_joules.unwrap(), 12.0) && close(eight.uncertain_joules.unwrap(), 24.0),
        "they lie in edges whole"
    );
    assert!(close(seven.part.device_seconds.unwrap(), 0.06) && close(seven.part.dollars.unwrap(), 0.06 * 0.001));
    assert!(close(eight.core_seconds, 0.12));
    let idle = ledger.devices().next().unwrap().idle;
    assert!(close(idle.joules.unwrap(), 80.0 - 36.0) && close(idle.device_seconds.unwrap(), 0.4 - 0.18));
    assert_eq!(ledger.claim(7), None);
}

#[test]
fn a_device_waits_for_its_cores_and_a_request_for_its_devices() {
    let mut ledger = Ledger::default();
    meter(&mut ledger, GPU, |_| 100.0, 300, &[CORE]);
    ledger.worked(CORE, ms(100), vec![slot(0, &[(7, 50.0)])]);
    assert!(ledger.is_decided(CORE, ms(50)) && !ledger.is_decided(CORE, ms(150)));
    ledger.worked(CORE, ms(600), vec![slot(4, &[(7, 50.0)])]);
    assert!(ledger.is_decided(CORE, ms(250)) && !ledger.is_decided(CORE, ms(450)), "no reading since 300 ms");
    ledger.gone(CORE);
    assert!(ledger.is_decided(CORE, ms(450)), "nothing more comes of it");
}

#[test]
fn a_device_without_a_counter_has_time_and_no_energy() {
    let mut ledger = Ledger::default();
    ledger.worked(CORE, ms(200), vec![slot(0, &[(7, 50.0)])]);
    for at in [0, 100, 200] {
        ledger.read(GPU, None, ms(at), None, None, vec![CORE]);
    }
    let used = ledger.claim(7).unwrap();
    assert!(close(used.part.device_seconds.unwrap(), 0.05));
    assert_eq!((used.part.joules, used.part.dollars), (None, None));
}

#[test]
fn cores_that_share_a_device_share_what_it_has() {
    let mut ledger = Ledger::default();
    let other = Pid(43);
    ledger.worked(CORE, ms(100), vec![slot(0, &[(1, 100.0)])]);
    ledger.worked(other, ms(100), vec![slot(0, &[(2, 60.0)])]);
    meter(&mut ledger, GPU, |_| 160.0, 100, &[CORE, other]);
    let joules = |ledger: &mut Ledger, key| ledger.claim(key).and_then(|used| used.part.joules).unwrap();
    assert!(close(joules(&mut ledger, 1), 10.0) && close(joules(&mut ledger, 2), 6.0));
}

/// Random load on several devices: every slot's shares, powers that change, cores that share devices.
#[test]
fn requests_and_idle_sum_to_the_devices() {
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let slots = 600;
    let mut ledger = Ledger::default();
    let watts = |device: u64, slot: u64| 60.0 + ((slot * 7 + device * 13) % 11) as f64 * 60.0;
    // What the scenario computes by itself.
    let (mut of_each, mut idle) = (BTreeMap::<u64, f64>::new(), 0.0);
    for number in 0..slots {
        let shares: Vec<(u64, f64)> =
            (0..random(6)).map(|k| (number / 20 * 10 + k, random(160) as f64 / 10.0)).collect();
        let busy: f64 = shares.iter().map(|(_, ms)| ms).sum();
        for device in 0..2 {
            let joules = watts(device, number) * 0.1;
            for (key, ms) in &shares {
                *of_each.entry(*key).or_default() += joules * ms / 100.0;
            }
            idle += joules * (100.0 - busy) / 100.0;
        }
        ledger.worked(CORE, ms((number + 1) * 100), vec![slot(number, &shares)]);
    }
    let mut joules = [0.0; 2];
    for at in 0..=slots {
        for (device, joules) in (0..).zip(&mut joules) {
            ledger.read(&device.to_string(), None, ms(at * 100), Some(*joules), PRICE, vec![CORE]);
            *joules += watts(device, at) * 0.1;
        }
    }
    let devices: Vec<DeviceAccount> = ledger.devices().cloned().collect();
    let sum = |part: fn(&DeviceAccount) -> Option<f64>| devices.iter().filter_map(part).sum::<f64>();
    let (attributed, left) = (sum(|it| it.attributed.joules), sum(|it| it.idle.joules));
    let whole: f64 = (0..slots).map(|slot| (watts(0, slot) + watts(1, slot)) * 0.1).sum();
    assert!(close(attributed + left, whole), "energy");
    assert!(close(left, idle), "idle energy is what the scenario says");
    let dollars = sum(|it| it.attributed.dollars) + sum(|it| it.idle.dollars);
    assert!(close(dollars, 2.0 * 60.0 * 0.001), "cost is price times time");
    for (key, joules) in of_each {
        let used = ledger.claim(key).and_then(|used| used.part.joules).unwrap_or(0.0);
        assert!(close(used, joules), "{key}: {used} {joules}");
    }
    assert_eq!(ledger.unclaimed().part.joules, None);
}
