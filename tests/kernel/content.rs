//! What callers asked and got in words, as the agent's logs have it: whole, redacted, or not at all.

use agent_tests::collector::Collector;
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
use std::collections::BTreeMap;
use std::time::Duration;

const ARRIVAL: Duration = Duration::from_secs(30);
const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// What a caller sent, and the texts that it got by choice.
struct Exchange {
    user: String,
    asked: Value,
    got: BTreeMap<u64, String>,
}

/// Asks the stand-in, and reads its answer without any help of the agent's.
fn exchange(player: &Player, number: usize, path: &str, asked: Value, mut body: Value) -> Result<Exchange> {
    let user = format!("caller-{number}");
    body.as_object_mut().context("no object")?.insert("user".to_owned(), json!(user));
    let answer = http::say(player.standin.port(), path, &body.to_string())?;
    let events: Vec<&str> = answer.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let pieces = if events.is_empty() { vec![answer.as_str()] } else { events };
    let mut got = BTreeMap::new();
    for piece in pieces.into_iter().filter(|piece| *piece != "[DONE]") {
        let piece: Value = serde_json::from_str(piece)?;
        for choice in piece.get("choices").and_then(Value::as_array).into_iter().flatten() {
            let index = choice.get("index").and_then(Value::as_u64).context("a choice without a number")?;
            let texts = ["/delta/content", "/message/content", "/text"].map(|place| choice.pointer(place));
            let text: String = texts.into_iter().flatten().filter_map(Value::as_str).collect();
            got.entry(index).or_insert_with(String::new).push_str(&text);
        }
    }
    Ok(Exchange { user, asked, got })
}

fn exchanges(player: &Player) -> Result<Vec<Exchange>> {
    let text = "tell \"ada@example.org\"\n about é 😀 ticket-17";
    let clean = "tell \"[redacted]\"\n about é 😀 [redacted]";
    let chat = |stream: bool, n: u32| json!({ "messages": [{ "role": "user", "content": text }], "stream": stream, "n": n, "max_tokens": 40 });
    let asked = json!([{ "role": "user", "content": clean }]);
    let prompts = json!([{ "content": clean }, { "content": "two" }]);
    let completion = |stream: bool| json!({ "prompt": [text, "two"], "stream": stream, "max_tokens": 30 });
    let bodies = [
        (CHAT, &asked, chat(true, 1)),
        (CHAT, &asked, chat(false, 1)),
        (CHAT, &asked, chat(true, 2)),
        (CHAT, &asked, chat(false, 2)),
        (TEXT, &prompts, completion(true)),
        (TEXT, &prompts, completion(false)),
    ];
    let numbered = bodies.into_iter().enumerate();
    numbered.map(|(number, (path, asked, body))| exchange(player, number, path, asked.clone(), body)).collect()
}

/// What callers saw, the agent's logs of that, and its records.
struct Outcome {
    exchanges: Vec<Exchange>,
    logs: Vec<Value>,
    requests: Value,
}

fn run(settings: &[(&str, &str)]) -> Result<Option<Outcome>> {
    let Some(tools) = gate::kernel()? else { return Ok(None) };
    let collector = Collector::start()?;
    let url = collector.logs_url();
    let settings: Vec<(&str, &str)> =
        settings.iter().copied().chain([("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", url.as_str())]).collect();
    let mut stage = Stage::open_with(&tools, &settings)?;
    let player = stage.enter(Birth::New, "plain", Wire::Plain)?;
    let exchanges = exchanges(&player)?;
    let ours = |log: &Value| {
        exchanges.iter().any(|exchange| log.get("user_id").and_then(Value::as_str) == Some(&exchange.user))
    };
    let logs = collector.when(exchanges.len(), ARRIVAL, ours)?;
    let requests = Value::Array(stage.agent.requests()?);
    Ok(Some(Outcome { exchanges, logs, requests }))
}

#[test]
fn captured_words_are_those_that_were_said_without_secrets() -> Result<()> {
    let settings = [("TACHOGRAPH_CONTENT_CAPTURE", "true"), ("TACHOGRAPH_CONTENT_REDACT", "ticket-[0-9]+")];
    let Some(Outcome { exchanges, logs, requests }) = run(&settings)? else { return Ok(()) };
    assert_eq!(logs.len(), exchanges.len());
    for Exchange { user, asked, got } in exchanges {
        let log = logs.iter().find(|log| log["user_id"] == user.as_str()).unwrap_or(&Value::Null);
        assert_eq!(log["prompt"], asked, "{log}");
        let said: Vec<Value> = got.iter().map(|(index, text)| json!({ "index": index, "content": text })).collect();
        assert!(said.iter().all(|choice| choice["content"].as_str().is_some_and(|text| text.len() > 20)), "{said:?}");
        assert_eq!(log["completion"], json!(said), "{log}");
        let bytes: usize = got.values().map(String::len).sum();
        assert_eq!((&log["completion_bytes"], &log["completion_truncated"]), (&json!(bytes), &json!(false)));
        assert_eq!(log["redacted"], 2, "{log}");
        assert!(!requests.to_string().contains("about é"), "the API has no words");
    }
    Ok(())
}

#[test]
fn without_capture_there_is_no_word() -> Result<()> {
    let Some(Outcome { logs, requests, .. }) = run(&[])? else { return Ok(()) };
    for all in [Value::Array(logs), requests] {
        assert!(!all.to_string().contains("about é") && !all.to_string().contains("\"prompt\""));
    }
    Ok(())
}
