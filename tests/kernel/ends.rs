//! How requests end: each way has its own record, and none is lost.

use crate::verified;
use agent_tests::standin::Wire;
use anyhow::Result;

#[test]
fn every_end_is_told_apart() -> Result<()> {
    let Some(outcome) = verified("plain", "mixed", Wire::Plain)? else { return Ok(()) };
    let ends = [
        ("client_leaves", Some(200)),
        ("client_resets", Some(200)),
        ("bad_request", Some(400)),
        ("no_such_model", Some(404)),
        ("too_many", Some(429)),
        ("server_error", Some(500)),
        ("engine_error_stream", Some(200)),
        ("engine_error_whole", Some(500)),
        ("server_breaks", Some(200)),
    ];
    for (kind, status) in ends {
        let mut count = 0;
        for (record, _) in outcome.of(kind) {
            assert_eq!(record.status.as_u64(), status, "{kind}");
            assert!(record.error_type.is_some(), "{kind}");
            count += 1;
        }
        assert_eq!(count, 20, "{kind}");
    }
    for kind in ["n2_stream", "n2_whole"] {
        assert!(outcome.of(kind).all(|(record, _)| record.engine_requests.len() == 2), "{kind}");
    }
    Ok(())
}
