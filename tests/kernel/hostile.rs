//! Guests who speak no HTTP, bad HTTP and other protocols, at a server under load: each is counted for what it is,
//! and no record claims what was not.

mod guests;

use agent_tests::agent;
use agent_tests::agent::Agent;
use agent_tests::compare;
use agent_tests::experiment;
use agent_tests::experiment::Guests;
use agent_tests::experiment::Plan;
use agent_tests::gate;
use agent_tests::guest;
use agent_tests::guest::Manner;
use agent_tests::guest::Says;
use agent_tests::record::Record;
use agent_tests::standin::Wire;
use anyhow::Result;
use anyhow::ensure;
use guests::Counts;
use guests::Differs;
use guests::Due;
use guests::Guest;
use std::collections::BTreeMap;
use std::time::Duration;

/// Comes after each guest: once it is counted, so is all that came before it.
const NEXT: &str = "GET /health HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n";
const COUNTED: Duration = Duration::from_secs(10);

/// What each guest was answered, by its name.
type Answers = BTreeMap<&'static str, Vec<u16>>;

impl Counts {
    fn read(page: &str) -> Result<Self> {
        let count = |name: &str| agent::count(page, &format!("tachograph_agent_http_{name}_total"));
        let (plain, undecoded) = (count("plain")?, count("undecoded")?);
        Ok(Self { plain, undecoded, upgraded: count("upgraded")?, encoded: count("encoded")? })
    }

    /// With one more guest, as far as this server's go: others of the machine may have plain ones of their own.
    fn follow(self, before: Self, guest: Self) -> bool {
        let Self { plain, undecoded, upgraded, encoded } = before;
        self.plain > plain + guest.plain
            && self.undecoded == undecoded + guest.undecoded
            && self.upgraded == upgraded + guest.upgraded
            && self.encoded == encoded + guest.encoded
    }
}

/// Lets them come one after another, and sees after each what is counted.
fn receive(guests: &[Guest], port: u16, agent: &Agent) -> Result<Answers> {
    let mut before = Counts::read(&agent.metrics()?)?;
    let mut answers = Answers::new();
    for guest in guests {
        answers.insert(guest.name, guest::visit(port, &guest.says, guest.manner)?);
        guest::visit(port, &Says { first: NEXT.into(), ..Says::default() }, Manner::Listens)?;
        let fits = |now: &Counts| now.follow(before, guest.counts);
        let now = agent.metrics_when(COUNTED, |page| Counts::read(page).as_ref().is_ok_and(fits))?;
        let now = Counts::read(&now)?;
        ensure!(fits(&now), "{}: {now:?} after {before:?}", guest.name);
        before = now;
    }
    Ok(answers)
}

fn records_are_right(guest: &Guest, records: &[Record], heard: &[u16]) {
    assert_eq!(records.len(), guest.records.len(), "{}", guest.name);
    let mut answers = heard.iter().filter(|status| **status >= 200);
    for (record, due) in records.iter().zip(guest.records) {
        let status = record.status.as_u64();
        match due {
            Due::Status(due) => {
                assert_eq!(status, Some((*due).into()), "{}", guest.name);
                assert_eq!(answers.next(), Some(due), "{}: what it heard", guest.name);
            }
            Due::Unobserved => assert_eq!(record.status, "unobserved", "{}", guest.name),
            Due::AsItWas => {}
        }
    }
}

#[test]
fn guests_of_all_kinds_are_counted_and_never_misread() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let guests = guests::guests();
    let strays = guests.iter().filter(|guest| guest.differs == Some(Differs::Stray)).count();
    let mut answers = Answers::new();
    let mut outcome =
        experiment::visited(&tools, Plan { scenario: "plain", mix: "mixed", wire: Wire::Plain }, |port, agent| {
            answers = receive(&guests, port, agent)?;
            let records = guests.iter().map(|guest| guest.records.len()).sum::<usize>() + strays;
            Ok(Guests { records, truths: guests.iter().map(Guest::truths).sum() })
        })?;

    let unowned: Vec<Record> = outcome.records.extract_if(.., |record| record.join == "engine_only").collect();
    assert_eq!(unowned.len(), strays, "{unowned:?}");
    for guest in &guests {
        let (records, truths) = outcome.take(|id| id.strip_suffix(" 2").unwrap_or(id) == guest.name);
        records_are_right(guest, &records, &answers[guest.name]);
        if guest.differs.is_none() {
            compare::hold(&records, &truths).verify()?;
        }
    }
    outcome.right_but(&[], &[])?;
    let given_up = guests.iter().map(|guest| guest.counts.undecoded).sum();
    outcome.lossless_but(&[("tachograph_agent_http_undecoded_total", given_up)])
}
