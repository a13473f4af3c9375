//! llama-server, a server that is no vLLM: recorded once each from the wire, its engine unknown and said to be so.

use crate::programs::Programs;
use agent_tests::agent::Agent;
use agent_tests::http;
use agent_tests::process::Running;
use agent_tests::scratch::Scratch;
use agent_tests::standin;
use agent_tests::standin::Seen;
use agent_tests::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use std::time::Duration;

const START: Duration = Duration::from_secs(30);
const RECORDS: Duration = Duration::from_secs(15);
const STOP: Duration = Duration::from_secs(10);
/// Of the mix; each kind must come to an answer.
const KINDS: [&str; 7] = [
    "chat_stream",
    "chat_stream_usage",
    "chat_whole",
    "completion_stream_usage",
    "completion_whole",
    "client_leaves",
    "bad_request",
];
/// What only the engine itself could tell.
const ENGINE: [&str; 8] = [
    "engine_tokens",
    "first_output_seconds",
    "preemptions",
    "phases.frontend",
    "phases.queue",
    "phases.prefill",
    "phases.decode",
    "phases.deliver",
];

fn llama_server(programs: &Programs, scratch: &Scratch) -> Result<(Running, u16)> {
    let port = http::free_port()?;
    let mut command = programs.llama_server();
    command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "-c", "4096", "-t", "1", "--no-warmup"]);
    let mut running = Running::start("llama-server", &mut command, scratch.file("llama.log"))?;
    running.until_ready(START, || http::get(port, "/health").is_ok())?;
    Ok((running, port))
}

/// One record of a request, as the client saw it.
fn is_record_of(record: &Value, seen: &Seen) -> Result<()> {
    let what = format!("{}: {record}", seen.kind);
    assert_eq!(record["provider"], "other", "{what}");
    assert_eq!(record["incomplete"], Value::Null, "{what}");
    assert_eq!(record["join"], "none", "{what}");
    assert_eq!(record["status"].as_u64(), seen.status.map(u64::from), "{what}");
    for field in ENGINE {
        assert_eq!(record.pointer(&format!("/{}", field.replace('.', "/"))), Some(&Value::Null), "{field} of {what}");
        assert_eq!(record["null_reasons"][field], "engine_kind_unsupported", "{field} of {what}");
    }
    let instant = |name: &str| record["instants"][name].as_u64();
    let order = ["accepted", "received", "first_byte", "first_content", "finished"].map(instant);
    assert!(order.iter().flatten().is_sorted(), "{what}");
    if seen.kind == "bad_request" {
        return Ok(());
    }
    let accepted = instant("accepted").context("no accepted")?;
    assert!(seen.sent.is_some_and(|(before, _)| accepted >= before), "{what}");
    let stream = !seen.kind.ends_with("whole");
    assert_eq!(record["stream"].as_bool(), Some(stream), "{what}");
    assert_eq!(record["response_id"].as_str(), seen.id.as_deref(), "{what}");
    assert_eq!(record["ttft_seconds"].is_f64(), stream && seen.content_chunks > 0, "{what}");
    for (field, tokens) in [
        ("input_tokens", seen.usage.map(|usage| usage.prompt_tokens)),
        ("output_tokens", seen.usage.map(|usage| usage.completion_tokens)),
    ] {
        assert_eq!(record[field].as_u64(), tokens, "{field} of {what}");
        assert_eq!(record["null_reasons"][field].is_string(), tokens.is_none(), "{field} of {what}");
    }
    match (seen.kind.as_str(), record["error_type"].as_str()) {
        ("client_leaves", Some("client_disconnect")) => {}
        // The C library of this server hides why a send failed: it is seen as refused, and then the server hangs up.
        ("client_leaves", Some("stream_reset")) => assert_ne!(record["blocked_seconds"], 0.0, "{what}"),
        (kind, error) => assert!(kind != "client_leaves" && error.is_none(), "{what}"),
    }
    Ok(())
}

#[test]
fn is_recorded_from_the_wire() -> Result<()> {
    let Some(programs) = Programs::find()? else { return Ok(()) };
    let scratch = Scratch::new("llama")?;
    let (server, port) = llama_server(&programs, &scratch)?;
    let pid = u64::from(server.pid());
    let agent = Agent::start(&programs.tools.agent, &scratch, &[("TACHOGRAPH_TARGET", "exe=llama-server")])?;
    let out = scratch.file("seen.jsonl");
    let mut seen = standin::send(&programs.tools.python, &scratch, (port, Wire::Plain), "llama", 0, &out)?;
    // After a stream the server hangs up, and throws away unread what it was sent meanwhile.
    seen.retain(|seen| seen.status.is_some());
    agent.records_when(&[pid], seen.len(), RECORDS)?;
    let mut records = agent.requests()?;
    records.retain(|record| record["target"]["pid"].as_u64() == Some(pid));
    agent.stop()?;
    server.stop(STOP)?;

    assert_eq!(records.len(), seen.len());
    for kind in KINDS {
        assert!(seen.iter().filter(|seen| seen.kind == kind).count() > 0, "no {kind} was answered");
    }
    let (bad, good): (Vec<&Seen>, Vec<&Seen>) = seen.iter().partition(|seen| seen.kind == "bad_request");
    for seen in good {
        let ours = |record: &&Value| record["params"]["temperature"].as_f64() == Some(seen.temperature);
        let [record] = records.iter().filter(ours).collect::<Vec<_>>()[..] else {
            anyhow::bail!("not one record of {}", seen.temperature)
        };
        is_record_of(record, seen)?;
    }
    let mut refused = records.iter().filter(|record| record["params"]["temperature"].is_null());
    for seen in bad {
        is_record_of(refused.next().context("a refused request without a record")?, seen)?;
    }
    Ok(())
}
