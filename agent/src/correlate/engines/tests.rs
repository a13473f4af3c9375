//! Laws: what agrees is counted as that, what moves is not compared, what disagrees or stands still is found.

use super::*;
use crate::correlate::sample::ENGINE;
use crate::correlate::sample::outcome;
use crate::correlate::sample::streamed;
use crate::engine::scrape::Error;
use crate::ident::Pid;
use crate::request::Incomplete;
use crate::request::Steps;
use crate::stream::Load;

/// Tenths of a second on the tests' clock.
fn at(tenths: u64) -> MonoNs {
    MonoNs(tenths * 100_000_000)
}

/// One engine of one core, seen from both sides.
struct Stage {
    engines: Engines,
    core: CoreView,
    now: u64,
    losses: u64,
}

impl Stage {
    fn new() -> Self {
        let load = Load { running: Some(0), waiting: Some(0), kv_usage: Some(0.0) };
        let core = CoreView {
            pid: Pid(42),
            engine: ENGINE,
            at: at(10),
            load,
            queued_tokens: 0,
            live: 0,
            steps: Steps::default(),
            wedged: None,
        };
        Self { engines: Engines::default(), core, now: 1_000, losses: 0 }
    }

    fn word(&self) -> Word {
        Word::of(&[&self.core], 0).unwrap()
    }

    /// The scheduler says this.
    fn speaks(&mut self, running: u32) {
        self.core.load.running = Some(running);
        self.core.at = at(self.now);
        self.core.live = running;
    }

    /// So many tenths of a second pass.
    fn passes(&mut self, ticks: usize) {
        for _ in 0..ticks {
            self.now += 1;
            self.engines.ticked(ENGINE, &self.word(), at(self.now), self.losses);
        }
    }

    /// The engine's own metrics say this: running, prompt tokens and tokens made.
    fn scraped(&mut self, running: f64, tokens: [f64; 2]) {
        let [prompt_tokens, generation_tokens] = tokens.map(Some);
        let sample = Sample {
            running: Some(running),
            waiting: Some(0.0),
            kv_usage: Some(0.0),
            prompt_tokens,
            generation_tokens,
            ..Sample::new(ENGINE, at(self.now), at(self.now))
        };
        let word = self.word();
        assert!(self.engines.asked(Outcome { scraped: Ok(sample), ..outcome() }, Some(&word), self.losses));
    }

    fn tally(&self, what: &str) -> (u64, u64) {
        let tallies = &self.engines.get(ENGINE).unwrap().checks.tallies;
        tallies.get(what).map_or((0, 0), |tally| (tally.agreed, tally.disagreed))
    }

    fn stale(&self) -> Vec<&'static str> {
        self.engines.get(ENGINE).unwrap().checks.stale.clone()
    }

    /// A request that takes 120 prompt tokens and makes 5 begins and ends now.
    fn serves(&mut self, change: impl FnOnce(&mut Request)) {
        let mut request = streamed(1);
        request.incomplete = Vec::new();
        request.accepted = Some(at(self.now));
        self.passes(1);
        request.finished = at(self.now);
        change(&mut request);
        self.engines.ended(&request);
    }
}

/// Prompt tokens and tokens of the request that [`Stage::serves`].
fn taken() -> [f64; 2] {
    let engine = &streamed(1).engine_requests[0];
    [engine.prompt_tokens.unwrap() as f64, engine.output_tokens as f64]
}

#[test]
fn where_nothing_moved_the_two_are_compared() {
    for (scraped, expected) in [(0.0, (1, 0)), (3.0, (0, 1))] {
        let mut stage = Stage::new();
        stage.scraped(scraped, [0.0; 2]);
        assert_eq!(stage.tally("running"), (0, 0), "what was said before may still come");
        stage.passes(5);
        assert_eq!(stage.tally("running"), expected);
        assert_eq!((stage.tally("waiting"), stage.tally("kv_usage")), ((1, 0), (1, 0)));
    }
}

#[test]
fn where_something_moved_they_are_not() {
    let mut stage = Stage::new();
    stage.speaks(2);
    stage.passes(3);
    stage.scraped(7.0, [0.0; 2]);
    stage.passes(5);
    assert_eq!(stage.tally("running"), (0, 0), "the front end may not have read that word");
    stage.passes(20);
    stage.scraped(7.5, [0.0; 2]);
    stage.passes(1);
    stage.speaks(2);
    stage.passes(5);
    assert_eq!(stage.tally("running"), (0, 0), "it spoke again");
}

#[test]
fn a_gauge_that_stands_still_while_the_engine_does_not_is_stale_until_it_moves() {
    let mut stage = Stage::new();
    for step in 0..3 {
        stage.scraped(9.0, [0.0; 2]);
        for running in [1, 2, 3].repeat(10) {
            stage.passes(1);
            stage.speaks(running);
        }
        assert_eq!(stage.stale().is_empty(), step == 0, "one reading is no standing still");
    }
    assert_eq!(stage.tally("running"), (0, 2));
    let last = stage.engines.get(ENGINE).unwrap().checks.last.unwrap();
    assert_eq!((last.what, last.messages, last.scraped), ("running", 3.0, 9.0));
    stage.scraped(2.0, [0.0; 2]);
    assert_eq!(stage.stale(), [""; 0]);
}

/// The same value twice is no standing still where the engine came by it.
#[test]
fn a_gauge_that_says_what_the_engine_said_is_not_stale() {
    let mut stage = Stage::new();
    for _ in 0..3 {
        stage.scraped(2.0, [0.0; 2]);
        for running in [1, 2, 3].repeat(10) {
            stage.passes(1);
            stage.speaks(running);
        }
        assert_eq!(stage.stale(), [""; 0]);
    }
}

/// A stage whose first quiet instant is behind it, with counters at 1000 and 500.
fn begun() -> Stage {
    let mut stage = Stage::new();
    stage.scraped(0.0, [1_000.0, 500.0]);
    stage.passes(50);
    stage
}

/// What two numbers of tokens, beyond what one request took and made, come to.
fn tokens(stage: &mut Stage, beyond: [f64; 2]) -> [(u64, u64); 2] {
    let [prompt, made] = taken();
    stage.passes(10);
    stage.scraped(0.0, [1_000.0 + prompt + beyond[0], 500.0 + made + beyond[1]]);
    stage.passes(50);
    [stage.tally("prompt_tokens"), stage.tally("generation_tokens")]
}

#[test]
fn counters_rise_by_what_the_records_say() {
    for (beyond, expected) in
        [([0.0, 0.0], [(1, 0), (1, 0)]), ([1.0, 0.0], [(0, 1), (1, 0)]), ([0.0, -1.0], [(1, 0), (0, 1)])]
    {
        let mut stage = begun();
        stage.serves(|_| ());
        assert_eq!(tokens(&mut stage, beyond), expected);
    }
}

#[test]
fn a_record_that_comes_late_counts_where_it_ended() {
    let mut stage = begun();
    let ended = at(stage.now);
    stage.passes(10);
    let [prompt, made] = taken();
    stage.scraped(0.0, [1_000.0 + prompt, 500.0 + made]);
    stage.passes(20);
    let mut late = Request { accepted: Some(ended), finished: ended, ..streamed(1) };
    late.incomplete = Vec::new();
    stage.engines.ended(&late);
    stage.passes(30);
    assert_eq!((stage.tally("prompt_tokens"), stage.tally("generation_tokens")), ((1, 0), (1, 0)));
}

#[test]
fn what_was_aborted_may_count_or_not() {
    for (beyond, agrees) in [([0.0, 0.0], true), ([-taken()[0], -taken()[1]], true), ([1.0, 1.0], false)] {
        let mut stage = begun();
        stage.serves(|request| request.engine_requests[0].aborted = Some(MonoNs(1)));
        let made = streamed(1).engine_requests[0].engine_tokens as f64 - taken()[1];
        let beyond = if agrees { beyond } else { [1.0, made + 1.0] };
        let expected = if agrees { (1, 0) } else { (0, 1) };
        assert_eq!(tokens(&mut stage, beyond), [expected; 2], "{beyond:?}");
    }
}

/// Each of these makes the two sides incomparable, however far they are apart.
#[test]
fn where_something_is_missing_nothing_is_compared() {
    let spoils: [fn(&mut Stage); 4] = [
        |stage| stage.serves(|request| request.incomplete = vec![Incomplete::RecordsLost]),
        |stage| stage.serves(|request| request.engine_requests[0].prompt_tokens = None),
        |stage| stage.losses += 1,
        |stage| stage.core.live = 1,
    ];
    for spoil in spoils {
        let mut stage = begun();
        spoil(&mut stage);
        assert_eq!(tokens(&mut stage, [5_000.0; 2]), [(0, 0); 2]);
    }
}

#[test]
fn an_engine_that_began_again_is_not_compared_with_itself() {
    let mut stage = begun();
    stage.scraped(0.0, [3.0, 1.0]);
    stage.passes(50);
    assert_eq!((stage.tally("prompt_tokens"), stage.tally("generation_tokens")), ((0, 0), (0, 0)));
}

#[test]
fn numbers_go_away_with_the_page_that_told_them() {
    let mut stage = begun();
    stage.engines.asked(Outcome { scraped: Err(Error::Closed), ..outcome() }, None, 0);
    let view = stage.engines.get(ENGINE).unwrap();
    assert_eq!(
        (view.sample.as_ref(), view.closed.as_deref()),
        (None, Some("it has no metrics page here (status 404)"))
    );
    assert_eq!(view.facts.version.as_deref(), Some("0.32.0"));
    stage.scraped(0.0, [0.0; 2]);
    let view = stage.engines.get(ENGINE).unwrap();
    assert!(view.sample.is_some() && view.closed.is_none());
}
