//! A prefill in one stand-in and its decode in another in; each record names the other out, and no retry does.

use agent_tests::gate;
use agent_tests::http;
use agent_tests::stage::Player;
use agent_tests::stage::Stage;
use agent_tests::standin::Birth;
use agent_tests::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use serde_json::Value;
use serde_json::json;

/// Sends a request with this temperature and these `kv_transfer_params`; its record, once it is there.
fn sent(stage: &Stage, player: &Player, temperature: f64, transfer: &Value) -> Result<Value> {
    let body = json!({ "model": "standin", "prompt": "of two", "max_tokens": 4, "temperature": temperature,
        "kv_transfer_params": transfer });
    http::say(player.standin.port(), "/v1/completions", &body.to_string())?;
    let is_it = |record: &&Value| record.pointer("/params/temperature").is_some_and(|it| *it == temperature);
    let found = || Some(stage.agent.requests().ok()?.iter().find(is_it)?.clone());
    stage.agent.until(|_| found().is_some())?;
    found().context("a record that was there")
}

#[test]
fn the_halves_of_one_request_name_each_other() -> Result<()> {
    let Some(tools) = gate::kernel()? else { return Ok(()) };
    let mut stage = Stage::open(&tools)?;
    let prefills = stage.enter(Birth::New, "plain", Wire::Plain)?;
    let decodes = stage.enter(Birth::New, "plain", Wire::Plain)?;

    let prefill = sent(&stage, &prefills, 0.301, &json!({ "do_remote_decode": true, "do_remote_prefill": false }))?;
    let id = prefill.pointer("/engine_requests/0/id").context("a prefill without an engine request")?;
    let hand = |id: &Value| json!({ "do_remote_prefill": true, "remote_engine_id": "p", "remote_request_id": id });
    let stranger = sent(&stage, &decodes, 0.302, &hand(&json!("cmpl-of-another-node")))?;
    let retry = sent(&stage, &decodes, 0.303, &Value::Null)?;
    let decode = sent(&stage, &decodes, 0.304, &hand(id))?;
    let prefill = stage.agent.requests()?.into_iter().find(|it| it["id"] == prefill["id"]).context("it has gone")?;

    let other = |record: &Value| record["disaggregated"]["other"]["id"].clone();
    assert_eq!((other(&prefill), other(&decode)), (decode["id"].clone(), prefill["id"].clone()));
    assert_eq!((other(&stranger), &retry["disaggregated"]), (Value::Null, &Value::Null));
    let ns = |value: &Value| value.as_u64().context("no instant");
    let whole = ns(&decode["instants"]["finished"])? - ns(&prefill["instants"]["accepted"])?;
    assert_eq!(ns(&prefill["disaggregated"]["duration_ns"])?, whole);
    Ok(())
}
