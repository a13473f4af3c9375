//! A finished request in; how it ended for its caller, in one word, out.

use crate::correlate::totals::CALLER_LEFT;
use crate::request::Request;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// As its caller wanted.
    Ok,
    /// Turned away for what its caller sent, or sent too often.
    Refused,
    /// Its caller left before the end.
    Left,
    /// The server failed it.
    Failed,
}

impl Fate {
    /// Of a request.
    pub fn of(request: &Request) -> Self {
        match (request.status, request.error_type.as_deref()) {
            (Some(400..500), _) => Self::Refused,
            (_, None) => Self::Ok,
            (_, Some(CALLER_LEFT)) => Self::Left,
            (_, Some(_)) => Self::Failed,
        }
    }

    /// Its name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Left => "cancelled",
            Self::Failed => "error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::sample::streamed;

    #[test]
    fn only_the_server_can_fail() {
        for (status, error_type, fate) in [
            (Some(200), None, Fate::Ok),
            (Some(404), Some("404"), Fate::Refused),
            (Some(429), Some("429"), Fate::Refused),
            (Some(500), Some("500"), Fate::Failed),
            (Some(200), Some("stream_reset"), Fate::Failed),
            (Some(200), Some("client_disconnect"), Fate::Left),
            (None, Some("client_disconnect"), Fate::Left),
            (None, Some("engine_dead"), Fate::Failed),
        ] {
            let request = Request { status, error_type: error_type.map(str::to_owned), ..streamed(1) };
            assert_eq!(Fate::of(&request), fate, "{status:?} {error_type:?}");
        }
    }
}
