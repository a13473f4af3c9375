//! A caller that is instrumented itself: its span is the parent of ours, and tokens stand in one of the two only.

use crate::otlp::Rotel;
use crate::otlp::Span;
use crate::otlp::at;
use crate::otlp::is_server_of;
use crate::otlp::spans;
use crate::programs::Programs;
use crate::programs::output;
use agent_tests::agent::Agent;
use agent_tests::scratch::Scratch;
use agent_tests::standin::Standin;
use agent_tests::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use std::collections::BTreeMap;
use std::time::Duration;

const ARRIVAL: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(10);
/// As `caller.py` has it.
const CALLS: usize = 10;

#[test]
fn an_instrumented_callers_span_is_the_parent() -> Result<()> {
    let Some(programs) = Programs::find()? else { return Ok(()) };
    let scratch = Scratch::new("caller")?;
    let mut rotel = Rotel::start(&programs, &scratch)?;
    let standin = Standin::start(&programs.tools.python, &scratch, "plain", Wire::Plain)?;
    let url = format!("http://127.0.0.1:{}", rotel.http);
    let settings = [("TACHOGRAPH_OTLP_ENDPOINT", url.as_str()), ("TACHOGRAPH_OTLP_PROTOCOL", "http/protobuf")];
    let agent = Agent::start(&programs.tools.agent, &scratch, &settings)?;
    output(programs.script("caller.py").args([rotel.grpc.to_string(), standin.port().to_string()]))?;
    let pid = standin.pid();
    let servers = |words: &str| spans(words).into_iter().filter(|span| is_server_of(span, pid)).collect::<Vec<_>>();
    rotel.running.words_when(ARRIVAL, |words| servers(words).len() >= CALLS)?;
    agent.stop()?;
    standin.stop(&scratch, 0)?;
    let words = rotel.running.stop(STOP)?;

    let is_caller = |span: &Span| span.contains_key("openinference.span.kind") && !span.contains_key("process.pid");
    let callers: BTreeMap<String, Span> =
        spans(&words).into_iter().filter(is_caller).map(|span| (span["ID"].clone(), span)).collect();
    assert_eq!(callers.len(), CALLS);
    for server in servers(&words) {
        let caller = callers.get(&server["Parent ID"]).with_context(|| format!("no caller of {server:?}"))?;
        assert_eq!(server["Trace ID"], caller["Trace ID"]);
        assert!(at(caller, "Start time")? <= at(&server, "Start time")?, "{caller:?} {server:?}");
        assert!(at(&server, "End time")? <= at(caller, "End time")?, "{caller:?} {server:?}");
        assert!(
            !server.keys().any(|key| key.starts_with("gen_ai.usage.")
                || key.starts_with("llm.")
                || key.starts_with("openinference.")),
            "{server:?}"
        );
        assert!(server.contains_key("tachograph.usage.output_tokens"), "{server:?}");
        assert_eq!(server.get("user.id").map(String::as_str), Some("Str(ada)"));
    }
    Ok(())
}
