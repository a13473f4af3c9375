//! A captured text in, the same without secrets out, cut to what may be shown.
//!
//! Rules see more of a text than may be shown, so that a secret which lies across its end goes whole; what lies
//! behind the end goes in any case.

use crate::stream::content::Text;
use regex::Regex;
use std::ops::Range;

/// Stands for what was taken out.
pub const REDACTED: &str = "[redacted]";

/// E-mail addresses, tokens behind `Bearer`, and keys that say by their beginning whose they are.
const BUILT_IN: [&str; 3] = [
    r"[\p{L}\p{N}._%+'-]+@[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)+",
    r"(?i)\bbearer\s+[A-Za-z0-9._~+/=-]{8,}",
    r"\b(?:sk-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|xox[abeoprs]-[A-Za-z0-9-]{10,}|AIza[A-Za-z0-9_-]{30,}|(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}|eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+)",
];

/// Digits, in groups or not, of which a payment card's number may be a part.
const DIGITS: &str = r"[0-9](?:[ -]?[0-9]){12,}";
/// A card's number has so many.
const CARD: std::ops::RangeInclusive<usize> = 13..=19;
/// Its groups, where it has some.
const GROUP: std::ops::RangeInclusive<usize> = 2..=7;

/// A rule that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule {number} (`{rule}`) is no regular expression: {what}")]
pub struct Bad {
    /// Which, from 1.
    pub number: usize,
    /// As it was written.
    pub rule: String,
    /// What is wrong with it.
    pub what: String,
}

/// What is taken out of texts.
#[derive(Debug, Clone)]
pub struct Rules {
    patterns: Vec<Regex>,
    digits: Option<Regex>,
}

impl Rules {
    /// The built-in rules, if wanted, and others.
    pub fn new(built_in: bool, others: &[String]) -> Result<Self, Bad> {
        let built_in = BUILT_IN.iter().filter(|_| built_in).map(|rule| (0, *rule));
        let others = others.iter().enumerate().map(|(at, rule)| (at + 1, rule.as_str()));
        let compiled = |(number, rule): (usize, &str)| {
            let bad = |error: regex::Error| {
                let text = error.to_string();
                let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
                Bad { number, rule: rule.to_owned(), what: last.trim_start_matches("error: ").to_owned() }
            };
            Regex::new(rule).map_err(bad)
        };
        let digits = if built_in.clone().next().is_some() { Some(compiled((0, DIGITS))?) } else { None };
        Ok(Self { patterns: built_in.chain(others).map(compiled).collect::<Result<_, _>>()?, digits })
    }

    /// What may be shown of a text, and how many pieces were taken out of that.
    pub fn apply(&self, text: &Text) -> (String, u64) {
        let kept = text.kept.as_str();
        let (mut out, mut at, mut count) = (String::new(), 0, 0);
        for secret in self.secrets(kept) {
            if secret.start >= text.shown {
                break;
            }
            out.push_str(kept.get(at..secret.start).unwrap_or_default());
            out.push_str(REDACTED);
            at = secret.end;
            count += 1;
        }
        out.push_str(kept.get(at..text.shown).unwrap_or_default());
        (out, count)
    }

    /// Where secrets are, in order, none touching another.
    fn secrets(&self, text: &str) -> Vec<Range<usize>> {
        let found = self.patterns.iter().flat_map(|pattern| pattern.find_iter(text)).map(|found| found.range());
        let digits = self.digits.iter().flat_map(|digits| digits.find_iter(text));
        let mut all: Vec<Range<usize>> = found.filter(|range| !range.is_empty()).collect();
        for run in digits {
            all.extend(cards(run.as_str()).into_iter().map(|card| run.start() + card.start..run.start() + card.end));
        }
        all.sort_by_key(|range| (range.start, range.end));
        let mut apart: Vec<Range<usize>> = Vec::new();
        for range in all {
            match apart.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => apart.push(range),
            }
        }
        apart
    }
}

/// The numbers of cards in a run of digits: some of its groups, as many digits as a card has, that sum up as a card's
/// do.
fn cards(run: &str) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for group in run.split([' ', '-']) {
        let start = groups.last().map_or(0, |last| last.end + 1);
        groups.push(start..start + group.len());
    }
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(first) = groups.get(from) {
        let card = groups.iter().enumerate().skip(from).take(8).find(|(at, last)| {
            let own = groups.get(from..=*at).unwrap_or_default();
            let in_groups = own.len() == 1 || own.iter().all(|group| GROUP.contains(&group.len()));
            in_groups && run.get(first.start..last.end).is_some_and(is_card)
        });
        from = card.as_ref().map_or(from, |(at, _)| *at) + 1;
        found.extend(card.map(|(_, last)| first.start..last.end));
    }
    found
}

/// Whether these digits are those of a card: issued by a bank, and with the right check digit (Luhn's).
fn is_card(digits: &str) -> bool {
    let digits: Vec<u32> = digits.chars().filter_map(|digit| digit.to_digit(10)).collect();
    let by_a_bank = matches!(digits.first(), Some(2..=6 | 8 | 9));
    let doubled = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let sum: u32 =
        digits.iter().rev().enumerate().map(|(at, digit)| if at % 2 == 1 { doubled(*digit) } else { *digit }).sum();
    by_a_bank && CARD.contains(&digits.len()) && sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_what_only_looks_like_one_stays() {
        let rules = Rules::new(true, &["ticket-[0-9]+".to_owned(), "Q*".to_owned()]).unwrap();
        for (text, expected) in [
            ("ask ada@example.org, or bob.b+x@mail.example.co.uk.", "ask [redacted], or [redacted]."),
            ("jürgen@müller.de @handle a@b", "[redacted] @handle a@b"),
            ("Authorization: bEarer abc.def-123_~, x", "Authorization: [redacted], x"),
            ("the bearer of news", "the bearer of news"),
            ("k=sk-proj-abcDEF0123456789_x!", "k=[redacted]!"),
            ("task-abcdefghijklmnopqrstuvw sk-short", "task-abcdefghijklmnopqrstuvw sk-short"),
            ("hf_abcdefghijklmnopqr ghp_0123456789abcdefghijABCDEFGHIJ", "[redacted] [redacted]"),
            ("AKIAIOSFODNN7EXAMPLE,ASIAIOSFODNN7EXAMPLE AKIA", "[redacted],[redacted] AKIA"),
            ("eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.c2lnbmF0dXJl", "[redacted]"),
            ("pay 4111 1111 1111 1111 now", "pay [redacted] now"),
            ("4111-1111-1111-1111 3782 822463 10005 5555555555554444", "[redacted] [redacted] [redacted]"),
            ("2 4111 1111 1111 1111 3", "2 [redacted] 3"),
            ("4222222222222, 6304000000000000000", "[redacted], [redacted]"),
            ("4111 1111 1111 1112", "4111 1111 1111 1112"),
            ("1700000000000 at 0000000000000000", "1700000000000 at 0000000000000000"),
            ("41111111111111111111 411111111111", "41111111111111111111 411111111111"),
            ("ticket-17, ticket-x", "[redacted], ticket-x"),
            ("", ""),
        ] {
            assert_eq!(rules.apply(&Text::whole(text)).0, expected, "{text}");
        }
    }

    #[test]
    fn each_secret_counts_once() {
        let rules = Rules::new(true, &["example".to_owned(), "a@".to_owned()]).unwrap();
        assert_eq!(rules.apply(&Text::whole("aa@example.org example")), ("[redacted] [redacted]".to_owned(), 2));
    }

    #[test]
    fn a_secret_across_the_end_goes_whole_and_nothing_behind_the_end_shows() {
        let rules = Rules::new(true, &[]).unwrap();
        let text = "key sk-0123456789abcdefghij and more ada@example.org";
        for shown in 0..=text.len() {
            let (out, count) = rules.apply(&Text { shown, ..Text::whole(text) });
            let expected = match shown {
                0..=4 => text.get(..shown).unwrap().to_owned(),
                5..=27 => "key [redacted]".to_owned(),
                28..=37 => format!("key [redacted]{}", text.get(27..shown).unwrap()),
                _ => "key [redacted] and more [redacted]".to_owned(),
            };
            assert_eq!((out, count), (expected, u64::from(shown > 4) + u64::from(shown > 37)), "{shown}");
        }
    }

    #[test]
    fn without_rules_nothing_goes_and_a_bad_rule_is_named() {
        let none = Rules::new(false, &[]).unwrap();
        assert_eq!(none.apply(&Text::whole("ada@example.org 4111111111111111")).1, 0);
        let bad = Rules::new(true, &["a".to_owned(), "(b".to_owned()]).unwrap_err();
        assert_eq!((bad.number, bad.rule.as_str(), bad.what.as_str()), (2, "(b", "unclosed group"));
    }
}
