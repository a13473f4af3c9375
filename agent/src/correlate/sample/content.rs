//! Captured content for tests, redacted by the built-in rules.

use crate::correlate::content::Content;
use crate::correlate::redact::Rules;
use crate::stream::content::Both;
use crate::stream::content::Capture;
use crate::stream::content::Kind;
use crate::stream::content::LONGEST;

fn of(both: &Both) -> Content {
    Content::of(both, &Rules::new(true, &[]).unwrap())
}

/// Two messages and instructions asked, two choices answered, with all kinds of parts.
pub(crate) fn conversation(max_bytes: usize) -> Content {
    let capture = Capture::new(max_bytes);
    let [mut asked, mut answered] = [capture.side(), capture.side()];
    asked.role(1, "user");
    asked.add(1, Kind::Text, 1, "look, a@b.org", 0);
    asked.leave_out(1, 2, "image_url");
    asked.add(2, Kind::Text, 0, "a prompt", 0);
    asked.role(3, "system");
    asked.set_apart(3);
    asked.add(3, Kind::Text, 0, "be kind", 0);
    answered.add(1, Kind::Text, 0, "second", 0);
    answered.add(0, Kind::Reasoning, 0, "hm", 0);
    answered.add(0, Kind::Text, 0, "first", 0);
    answered.name(0, 0, "f");
    answered.add(0, Kind::Call, 0, "{}", 0);
    of(&Both { asked: Some(Box::new(asked)), answered: Some(Box::new(answered)) })
}

/// The longest content there can be, on both sides, of nothing but this.
pub(crate) fn repeated(text: &str) -> Content {
    let mut side = Capture::new(LONGEST).side();
    side.add(0, Kind::Text, 0, &text.repeat(200_000), 0);
    let side = Some(Box::new(side));
    of(&Both { asked: side.clone(), answered: side })
}
