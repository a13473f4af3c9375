//! The book's two sides in, finished records out: when a request ends, and with which engine requests.

use crate::clock::MonoNs;
use crate::ident::EngineKind;
use crate::request::Incomplete;
use crate::request::Join;
use crate::request::Request;
use crate::request::Update;
use crate::request::book::Book;
use crate::request::engine::Life;
use crate::request::evidence::Habits;
use crate::request::evidence::SETTLE;
use crate::request::evidence::possible;
use crate::request::finish;
use crate::request::http::Http;
use crate::request::http::Tap;
use crate::request::join::Group;
use crate::request::join::forced;
use crate::request::names::Grade;
use crate::request::names::Reading;
use crate::request::names::Scheme;
use crate::request::sides;
use crate::stream::Operation;
use crate::vitals::Vitals;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

/// Pairs looked at for one elimination; beyond, what is left is ambiguous.
const PAIRS: usize = 250_000;

/// How long before its engine request an exchange may have been lost: what the front end takes, and more.
const LOSS_SHOWS: Duration = Duration::from_secs(1);

/// Whether to wait for what may still come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// Up to the grace.
    Grace,
    /// The record is made now.
    Spent,
}

/// Engine requests by what they share but for the child's number.
type Families<'a> = BTreeMap<&'a str, Vec<(u64, &'a Life)>>;

/// What is known about an exchange's engine side.
#[derive(Debug)]
enum Verdict {
    /// More may come.
    Wait,
    /// These engine requests are its own.
    Claim(Vec<u64>, Join),
    /// One of these may be, or none.
    Unclaimed(Vec<u64>),
}

impl Book {
    /// Everything that time alone decides.
    pub(super) fn settle(&mut self, now: MonoNs, vitals: &Vitals, out: &mut Vec<Update>) {
        for key in self.waiting.iter().copied().collect::<Vec<u64>>() {
            self.consider(key, now, vitals, out);
        }
        for key in self.ended.iter().copied().collect::<Vec<u64>>() {
            let Some(life) = self.lives.get(&key) else { continue };
            let over = life.end.is_some_and(|(at, _)| now >= at.plus(self.config.grace));
            if over && !self.wanted(life, now) {
                self.without_http(key, now, vitals, out);
            }
        }
    }

    /// Every exchange ends now.
    pub(super) fn settle_all(&mut self, now: MonoNs, vitals: &Vitals, out: &mut Vec<Update>) {
        for key in self.waiting.iter().copied().collect::<Vec<u64>>() {
            self.conclude(key, now, vitals, out);
        }
    }

    /// Makes the record of an exchange whose HTTP side ended, if nothing more is to come.
    pub(super) fn consider(&mut self, key: u64, now: MonoNs, vitals: &Vitals, out: &mut Vec<Update>) {
        let verdict = self.verdict(key, now, Patience::Grace);
        self.act(key, verdict, now, vitals, out);
    }

    /// Makes the record of an exchange with what is known now.
    pub(super) fn conclude(&mut self, key: u64, now: MonoNs, vitals: &Vitals, out: &mut Vec<Update>) {
        let verdict = self.verdict(key, now, Patience::Spent);
        self.act(key, verdict, now, vitals, out);
    }

    fn act(&mut self, key: u64, verdict: Verdict, now: MonoNs, vitals: &Vitals, out: &mut Vec<Update>) {
        let (claimed, join) = match verdict {
            Verdict::Wait => return,
            Verdict::Claim(lives, join) => (lives, join),
            Verdict::Unclaimed(candidates) => {
                for life in &candidates {
                    if let Some(life) = self.lives.get_mut(life) {
                        life.disputed = true;
                    }
                }
                (Vec::new(), if candidates.is_empty() { Join::None } else { Join::Ambiguous })
            }
        };
        let Some(http) = self.take_exchange(key) else { return };
        let lives: Vec<Life> = claimed.into_iter().filter_map(|life| self.take(life)).collect();
        if join == Join::Id {
            let habits = self.habits.entry(http.engine).or_default();
            for life in &lives {
                habits.learn(&http, life, now);
            }
        }
        if join == Join::Ambiguous {
            vitals.joins_ambiguous.one();
        }
        let unjoined = unjoined(&http, &lives, join);
        self.serial += 1;
        record(finish::exchange(&http, &lives, join, unjoined, self.serial), vitals, out);
    }

    /// The end of an engine request that no exchange was found for. One that an exchange may have asked
    /// for is not counted as a request a second time.
    pub(super) fn without_http(&mut self, key: u64, now: MonoNs, vitals: &Vitals, out: &mut Vec<Update>) {
        let Some(mut life) = self.take(key) else { return };
        vitals.engine_unmatched.one();
        if self.before_our_time(&life) {
            life.flags.insert(Incomplete::AttachedLate);
        }
        if self.among_the_lost(&life) {
            life.flags.insert(Incomplete::RecordsLost);
        }
        if !life.disputed {
            self.serial += 1;
            record(finish::engine_only(&life, self.kind_of(life.core), now, self.serial), vitals, out);
        }
    }

    fn verdict(&self, key: u64, now: MonoNs, patience: Patience) -> Verdict {
        let Some(http) = self.exchanges.get(&key) else { return Verdict::Wait };
        let Some((end, _)) = http.end else { return Verdict::Wait };
        let late = patience == Patience::Spent || now >= end.plus(self.config.grace);
        let unsent = http.received.is_none() && http.flags.is_empty();
        if http.kind == EngineKind::Other || http.refused() || unsent {
            return Verdict::Unclaimed(Vec::new());
        }
        let named = self.named(key, http);
        if named.is_empty() {
            return self.unnamed(key, http, now, late);
        }
        let by = if http.id.is_some() { Join::Id } else { Join::XRequestId };
        let rivals = self.rivals(key, http, &named);
        let disputed = named.iter().any(|(_, life, _)| life.disputed);
        let own = if rivals.is_empty() && !disputed && distinct(&named) {
            named.iter().map(|(life, ..)| *life).collect()
        } else if !late && now < end.plus(SETTLE) {
            return Verdict::Wait;
        } else {
            match self.contend(key, http, &named, &rivals, now) {
                Ok(own) => own,
                Err(candidates) if late => return Verdict::Unclaimed(candidates),
                Err(_) => return Verdict::Wait,
            }
        };
        if own.is_empty() {
            return if late { Verdict::Unclaimed(Vec::new()) } else { Verdict::Wait };
        }
        let settled = own.iter().filter_map(|life| self.lives.get(life)).all(|life| life.settled(now, SETTLE));
        let all = http.expected().is_none_or(|expected| own.len() >= expected);
        if late || (settled && all) { Verdict::Claim(own, by) } else { Verdict::Wait }
    }

    /// The engine requests that carry the exchange's name, by the surest reading that any carries it by.
    fn named(&self, key: u64, http: &Http) -> Vec<(u64, &Life, &Reading)> {
        let mut found: Vec<(u64, &Life, &Reading)> = Vec::new();
        for name in &http.filed {
            for life_key in self.named.get(name).into_iter().flatten() {
                let Some(life) = self.lives.get(life_key) else { continue };
                let Some(reading) = life.names.reading(name) else { continue };
                // A caller's own id may end in what looks like a prompt's number. The Rust front end appends
                // none: there the response's own id, once it is known, is the engine's to the letter.
                let allowed = reading.grade != Grade::Bare || http.head.x_request_id.is_none() || http.id.is_some();
                let surer = life.names.readings.iter().take_while(|other| other.grade < reading.grade);
                let another = surer.filter_map(|other| self.callers.get(&other.base)).flatten().any(|k| *k != key);
                let fits = life.engine == http.engine && in_range(http, life, reading) && possible(http, life);
                if allowed && !another && fits {
                    found.push((*life_key, life, reading));
                }
            }
        }
        let surest = found.iter().map(|(_, _, reading)| reading.grade).min();
        found.retain(|(_, _, reading)| Some(reading.grade) == surest);
        found.sort_by_key(|(life, ..)| *life);
        found
    }

    /// Other exchanges of the same name that may have asked for one of these.
    fn rivals(&self, key: u64, http: &Http, named: &[(u64, &Life, &Reading)]) -> Vec<(u64, &Http)> {
        let names: BTreeSet<&str> = named.iter().map(|(_, _, reading)| reading.base.as_str()).collect();
        let callers: BTreeSet<u64> =
            names.iter().filter_map(|name| self.callers.get(*name)).flatten().copied().filter(|k| *k != key).collect();
        let rivals = callers.into_iter().filter_map(|rival| Some((rival, self.exchanges.get(&rival)?)));
        rivals
            .filter(|(_, rival)| rival.engine == http.engine)
            .filter(|(_, rival)| named.iter().any(|(_, life, _)| possible(rival, life)))
            .collect()
    }

    /// Which of the engine requests of one name are the exchange's, where that is forced; else those that
    /// may be.
    fn contend(
        &self,
        key: u64,
        http: &Http,
        named: &[(u64, &Life, &Reading)],
        rivals: &[(u64, &Http)],
        now: MonoNs,
    ) -> Result<Vec<u64>, Vec<u64>> {
        let takers: Vec<(u64, &Http)> = rivals.iter().copied().chain([(key, http)]).collect();
        let served = served(&takers);
        let mut prompts: BTreeMap<Option<u32>, Families<'_>> = BTreeMap::new();
        for (life_key, life, reading) in named {
            let families = prompts.entry(reading.prompt).or_default();
            families.entry(life.names.family.as_str()).or_default().push((*life_key, life));
        }
        let (mut own, mut open) = (Vec::new(), Vec::new());
        for families in prompts.into_values() {
            let groups: Vec<Group> = families.into_values().map(|lives| self.group(&lives, &takers, now)).collect();
            let taken = forced(&groups, &served);
            match taken.iter().find(|(_, taker)| **taker == key).and_then(|(place, _)| groups.get(*place)) {
                Some(group) => own.extend(&group.lives),
                None => open.extend(left(&groups, &taken, key)),
            }
        }
        if open.is_empty() { Ok(own) } else { Err(open) }
    }

    fn group(&self, lives: &[(u64, &Life)], takers: &[(u64, &Http)], now: MonoNs) -> Group {
        let can = |http: &Http| {
            lives.iter().all(|(_, life)| {
                let habits = self.habits.get(&life.engine);
                possible(http, life) && !habits.is_some_and(|habits| habits.speak_against(http, life, now))
            })
        };
        Group {
            lives: lives.iter().map(|(key, _)| *key).collect(),
            takers: takers.iter().filter(|(_, http)| can(http)).map(|(key, _)| *key).collect(),
            disputed: lives
                .iter()
                .any(|(_, life)| life.disputed || self.before_our_time(life) || self.among_the_lost(life)),
        }
    }

    /// Whether an exchange that was never seen may have asked for it.
    fn before_our_time(&self, life: &Life) -> bool {
        self.habits.get(&life.engine).is_some_and(|habits| life.added.unwrap_or(life.seen) < habits.settled)
    }

    /// Whether records were lost that may have been of its exchange.
    fn among_the_lost(&self, life: &Life) -> bool {
        self.exchanges_lost.is_some_and(|lost| lost.plus(LOSS_SHOWS) >= life.added.unwrap_or(life.seen))
    }

    /// An exchange whose name no engine request carries.
    fn unnamed(&self, key: u64, http: &Http, now: MonoNs, late: bool) -> Verdict {
        if http.tap == Tap::Off {
            return Verdict::Unclaimed(Vec::new());
        }
        if !late {
            let failed = http.status().is_some_and(|status| status >= 400) && !http.answered_early();
            if failed && !eliminable(http) {
                return Verdict::Unclaimed(Vec::new());
            }
            let candidate = |life: &Life| life.engine == http.engine && possible(http, life) && !self.is_named(life);
            let hopeless = failed && !self.lives.values().any(candidate);
            return if hopeless { Verdict::Unclaimed(Vec::new()) } else { Verdict::Wait };
        }
        if !eliminable(http) {
            return Verdict::Unclaimed(Vec::new());
        }
        let takers: Vec<(u64, &Http)> = self
            .exchanges
            .iter()
            .filter(|(_, other)| other.engine == http.engine && eliminable(other))
            .filter(|(other_key, other)| **other_key == key || self.named(**other_key, other).is_empty())
            .map(|(other_key, other)| (*other_key, other))
            .collect();
        let mut bases: BTreeMap<&str, Vec<(u64, &Life)>> = BTreeMap::new();
        for (life_key, life) in &self.lives {
            if life.engine == http.engine && life.added.is_some() && life.names.scheme.is_some() && !self.is_named(life)
            {
                bases.entry(life.names.base()).or_default().push((*life_key, life));
            }
        }
        if takers.len().saturating_mul(bases.len()) > PAIRS {
            let open = bases.into_values().flatten().filter(|(_, life)| possible(http, life));
            return Verdict::Unclaimed(open.map(|(life_key, _)| life_key).collect());
        }
        let groups: Vec<Group> =
            bases.into_values().flat_map(apart).map(|lives| self.group_by_kind(&lives, &takers, now)).collect();
        let taken = forced(&groups, &served(&takers));
        match taken.iter().find(|(_, taker)| **taker == key).and_then(|(place, _)| groups.get(*place)) {
            Some(group) => Verdict::Claim(group.lives.clone(), Join::Elimination),
            None => Verdict::Unclaimed(left(&groups, &taken, key)),
        }
    }

    fn group_by_kind(&self, lives: &[(u64, &Life)], takers: &[(u64, &Http)], now: MonoNs) -> Group {
        let fits = |http: &Http| {
            lives.iter().all(|(_, life)| {
                let scheme = life.names.scheme.is_some_and(|scheme| scheme.fits(http.head.operation));
                scheme && life.names.readings.iter().any(|reading| in_range(http, life, reading))
            })
        };
        let takers: Vec<(u64, &Http)> = takers.iter().copied().filter(|(_, http)| fits(http)).collect();
        self.group(lives, &takers, now)
    }

    /// Whether an exchange that is here carries the engine request's name.
    fn is_named(&self, life: &Life) -> bool {
        let surest = life.names.readings.iter().filter(|reading| reading.grade != Grade::Bare);
        surest.filter_map(|reading| self.callers.get(&reading.base)).flatten().any(|caller| {
            self.exchanges.get(caller).is_some_and(|http| http.engine == life.engine && possible(http, life))
        })
    }

    /// Whether an exchange that is here may still claim the engine request.
    fn wanted(&self, life: &Life, now: MonoNs) -> bool {
        let habits = self.habits.get(&life.engine);
        self.is_named(life)
            || self.exchanges.values().any(|http| {
                http.engine == life.engine
                    && eliminable(http)
                    && life.names.scheme.is_some_and(|scheme| scheme.fits(http.head.operation))
                    && possible(http, life)
                    && !habits.is_some_and(|habits: &Habits| habits.speak_against(http, life, now))
            })
    }
}

/// Whether the exchange may have engine requests that do not carry its name.
fn eliminable(http: &Http) -> bool {
    let named = http.id.as_ref().is_some_and(|id| Scheme::of(id).is_some());
    http.kind == EngineKind::Vllm && http.tap == Tap::On && http.received.is_some() && !named && !http.client_error()
}

/// Engine requests that the exchange may have asked for, of groups that nobody else is known to have.
fn left(groups: &[Group], taken: &BTreeMap<usize, u64>, key: u64) -> Vec<u64> {
    let open = groups.iter().enumerate().filter(|(place, _)| !taken.contains_key(place));
    open.filter(|(_, group)| group.takers.contains(&key)).flat_map(|(_, group)| group.lives.clone()).collect()
}

/// Whether the exchange asked for so many prompts.
fn in_range(http: &Http, life: &Life, reading: &Reading) -> bool {
    let completion = http.head.operation == Operation::TextCompletion && life.names.scheme == Some(Scheme::Text);
    reading.prompt.zip(http.prompts()).is_none_or(|(prompt, prompts)| !completion || prompt < prompts)
}

/// Exchanges that must have been served, as far as the engine's messages are whole.
fn served(takers: &[(u64, &Http)]) -> BTreeSet<u64> {
    takers.iter().filter(|(_, http)| http.served() && !http.engine_lost).map(|(key, _)| *key).collect()
}

/// Whether no two of these are the same child of the same prompt.
fn distinct(named: &[(u64, &Life, &Reading)]) -> bool {
    let mut seen = BTreeSet::new();
    let numbered = named
        .iter()
        .filter(|(_, life, reading)| reading.prompt.is_some() || life.names.scheme != Some(Scheme::Pooling));
    numbered.map(|(_, life, reading)| (reading.prompt, life.names.child)).all(|slot| seen.insert(slot))
}

/// The engine requests of one response, or those of several responses of one name by family.
fn apart(lives: Vec<(u64, &Life)>) -> Vec<Vec<(u64, &Life)>> {
    let mut seen = BTreeSet::new();
    let first = |life: &Life| life.names.readings.first().and_then(|reading| reading.prompt);
    if lives.iter().all(|(_, life)| seen.insert((first(life), life.names.child))) {
        return vec![lives];
    }
    let mut families: BTreeMap<String, Vec<(u64, &Life)>> = BTreeMap::new();
    for (key, life) in lives {
        families.entry(life.names.family.clone()).or_default().push((key, life));
    }
    families.into_values().collect()
}

fn unjoined(http: &Http, lives: &[Life], join: Join) -> &'static str {
    let fewer = lives.len() < http.expected().unwrap_or(1).max(1);
    if http.kind == EngineKind::Other {
        "engine_kind_unsupported"
    } else if http.refused() || (http.received.is_none() && http.flags.is_empty()) {
        sides::NOT_REACHED
    } else if http.engine_lost && fewer {
        sides::MESSAGES_LOST
    } else if join == Join::Ambiguous {
        "ambiguous"
    } else if http.tap == Tap::Off {
        "engine_not_tapped"
    } else if lives.is_empty() && !http.served() {
        sides::NOT_REACHED
    } else {
        "engine_request_not_seen"
    }
}

fn record(request: Request, vitals: &Vitals, out: &mut Vec<Update>) {
    vitals.requests_recorded.one();
    if !request.incomplete.is_empty() {
        vitals.requests_incomplete.one();
    }
    if request.said.as_ref().is_some_and(|said| said.is_starved()) {
        vitals.content_cut.one();
    }
    out.push(Update::Ended(Box::new(request)));
}
