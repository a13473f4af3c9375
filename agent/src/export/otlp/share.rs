//! A finished request in; whether it is one of the share of its kind that has a log, out.

use crate::correlate::Finished;
use crate::correlate::fate::Fate;

/// Which share of requests has a log, 0 to 1, by how they ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    /// Ended well and missed no objective.
    pub ok: f64,
    /// Ended well and missed one.
    pub slow: f64,
    /// Refused.
    pub refused: f64,
    /// Their caller left.
    pub cancelled: f64,
    /// The server failed them.
    pub error: f64,
}

impl Default for Shares {
    fn default() -> Self {
        Self { ok: 1.0, slow: 1.0, refused: 1.0, cancelled: 1.0, error: 1.0 }
    }
}

impl Shares {
    /// Whether this request has one. The trace decides, so that all requests of a trace that ended alike have one or
    /// none has.
    pub fn keep(&self, finished: &Finished) -> bool {
        let share = match Fate::of(&finished.request) {
            Fate::Ok if finished.missed() => self.slow,
            Fate::Ok => self.ok,
            Fate::Refused => self.refused,
            Fate::Left => self.cancelled,
            Fate::Failed => self.error,
        };
        let [.., a, b, c, d] = finished.trace.trace_id;
        f64::from(u32::from_be_bytes([a, b, c, d])) < share * 2_f64.powi(32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::Request;
    use crate::correlate::Trace;
    use crate::correlate::Update;
    use crate::correlate::sample::ANCHOR;
    use crate::correlate::sample::busy;
    use crate::correlate::sample::streamed;

    fn finished(request: Request, low: u32) -> Finished {
        let finished = busy().update(Update::Ended(Box::new(request)), ANCHOR).remove(0);
        let mut trace_id = [9; 16];
        trace_id[12..].copy_from_slice(&low.to_be_bytes());
        Finished { trace: Trace { trace_id, ..finished.trace.clone() }, ..Finished::clone(&finished) }
    }

    #[test]
    fn each_end_has_its_share_and_the_trace_decides() {
        let shares = Shares { ok: 0.5, slow: 1.0, refused: 0.0, cancelled: 0.25, error: 1.0 };
        let ended = |status, error: Option<&str>| Request {
            status: Some(status),
            error_type: error.map(str::to_owned),
            ..streamed(1)
        };
        for (status, error, low, keep) in [
            (200, None, u32::MAX, true),
            (429, Some("429"), 0, false),
            (200, Some("client_disconnect"), (1 << 30) - 1, true),
            (200, Some("client_disconnect"), 1 << 30, false),
            (500, Some("500"), u32::MAX, true),
        ] {
            assert_eq!(shares.keep(&finished(ended(status, error), low)), keep, "{status} {error:?} {low}");
        }
        let mut well = finished(ended(200, None), 1 << 31);
        well.verdict = None;
        assert!(!shares.keep(&well));
        well.trace.trace_id[12..].copy_from_slice(&u32::MAX.wrapping_shr(1).to_be_bytes());
        assert!(shares.keep(&well));
    }
}
