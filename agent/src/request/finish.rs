//! Both sides of a request in, its [`Request`] out: tokens, instants, reasons, and why something is missing.

use crate::clock::MonoNs;
use crate::clock::seconds;
use crate::ident::EngineKind;
use crate::request::EngineRequest;
use crate::request::Incomplete;
use crate::request::Join;
use crate::request::Phases;
use crate::request::Request;
use crate::request::engine::Life;
use crate::request::engine::Share;
use crate::request::engine::Stop;
use crate::request::http::Close;
use crate::request::http::Http;
use crate::request::phases::Chain;
use crate::request::sides::MESSAGES_LOST;
use crate::request::sides::NOT_REACHED;
use crate::request::sides::Sides;
use crate::request::sides::Tokens;
use crate::request::sides::UNOBSERVED;
use crate::stream::Break;
use crate::stream::Finish;
use crate::stream::Operation;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

type Reasons = BTreeMap<&'static str, &'static str>;

/// The record of an exchange. `lives` are its engine requests in the order in which they were added;
/// `unjoined` says why there are none.
pub(super) fn exchange(http: &Http, lives: &[Life], join: Join, unjoined: &'static str, serial: u64) -> Request {
    let finished = http.finished().unwrap_or(http.accepted);
    let whole = whole(http);
    let shares: Vec<Share> = lives.iter().map(|life| share(http, life, lives.len())).collect();
    let engine_requests: Vec<EngineRequest> =
        lives.iter().zip(&shares).map(|(life, share)| life.record(*share, finished)).collect();
    let mut reasons = Reasons::new();
    let streamed = http.streamed();
    let is_stream = streamed == Some(true);
    let sides = Sides { lives, engine_requests: &engine_requests, unjoined };
    let first_output = sides.earliest(|request| request.first_output);
    let last_output = sides.latest(|request| request.last_output);

    let chain = Chain {
        instants: [
            Ok(http.accepted),
            http.received.ok_or("not_received"),
            sides.entered(),
            sides.earliest(|request| request.scheduled).ok_or(sides.no_scheduled()),
            first_output.ok_or(sides.no_output()),
            last_output.ok_or(sides.no_output()),
            Ok(finished),
        ],
        cut: http.received.is_none() || unjoined == NOT_REACHED || (!whole && sides.clear()),
    };
    let phases = chain.phases(&mut reasons);

    let tokens = Tokens::of(http, &sides, whole);
    let output_tokens = tokens.output.ok();
    let output_tokens_estimated =
        output_tokens.is_some() && !tokens.told && shares.iter().any(|share| matches!(share, Share::Until(_)));
    let tpot =
        sides.tpot().or_else(|why| if lives.is_empty() { tpot_of_writes(http, output_tokens, why) } else { Err(why) });
    let first_content = http.first_content.filter(|_| is_stream);
    let itl = Some(http.itl.clone()).filter(|itl| is_stream && itl.count > 0);
    let no_stream = if is_stream { "no_content" } else { "not_streamed" };
    let preemptions = (!lives.is_empty()).then(|| engine_requests.iter().map(|request| request.preemptions).sum());
    let engine_at = sides.engine_at();

    let mut incomplete = http.flags.clone();
    incomplete.extend(lives.iter().flat_map(|life| life.flags.iter().copied()));
    if unjoined == MESSAGES_LOST {
        incomplete.insert(Incomplete::EngineMessagesLost);
    }

    let mut because = |missing: bool, name: &'static str, why: &'static str| {
        if missing {
            reasons.insert(name, why);
        }
    };
    let not_sent = if http.received.is_none() { "not_received" } else { http.body.unread.unwrap_or("not_sent") };
    because(http.status().is_none(), "status", "unobserved");
    because(http.reply.is_none(), "first_byte_seconds", "unobserved");
    because(http.id.is_none(), "response_id", "not_said");
    because(http.model.is_none(), "response_model", "not_said");
    because(http.head.x_request_id.is_none(), "x_request_id", "not_sent");
    because(http.head.traceparent.is_none(), "parent_span_id", "not_sent");
    because(http.body.model.is_none(), "model", not_sent);
    because(http.body.user.is_none(), "user", not_sent);
    because(http.body.session.is_none() && http.head.session.is_none(), "session", not_sent);
    because(streamed.is_none(), "stream", not_sent);
    because(lives.is_empty(), "engine_requests", unjoined);
    because(first_output.is_none(), "first_output_seconds", sides.no_output());
    because(first_content.is_none(), "ttft_seconds", no_stream);
    because(itl.is_none(), "itl", if http.first_content.is_some() && is_stream { "one_write" } else { no_stream });
    because(preemptions.is_none(), "preemptions", unjoined);
    because(engine_at.queued.is_none(), "engine_at.queued", sides.no_load());
    because(engine_at.first_token.is_none(), "engine_at.first_token", sides.no_load());
    because(engine_at.finish.is_none(), "engine_at.finish", sides.no_load());
    for (name, known) in [
        ("input_tokens", tokens.input),
        ("cached_tokens", tokens.cached),
        ("output_tokens", tokens.output),
        ("reasoning_tokens", tokens.reasoning),
        ("engine_tokens", tokens.engine),
    ] {
        because(known.is_err(), name, known.err().unwrap_or_default());
    }
    because(tpot.is_err(), "tpot_seconds", tpot.err().unwrap_or_default());

    Request {
        serial,
        pid: http.exchange.conn.pid,
        exchange: Some(http.exchange),
        engine: http.engine,
        kind: http.kind,
        join,
        incomplete: incomplete.into_iter().collect(),
        method: Some(http.head.method.clone()),
        path: Some(http.head.path.clone()),
        operation: Some(http.head.operation),
        x_request_id: http.head.x_request_id.clone(),
        traceparent: http.head.traceparent.clone(),
        user: http.body.user.clone(),
        session: http.head.session.clone().or_else(|| http.body.session.clone()),
        model: http.body.model.clone(),
        response_model: http.model.clone(),
        response_id: http.id.clone(),
        status: http.status(),
        error_type: error_type(http),
        finish_reasons: finish_reasons(http, lives),
        stream: streamed,
        params: http.body.params.clone(),
        transfer: http.body.transfer.clone(),
        input_tokens: tokens.input.ok(),
        cached_tokens: tokens.cached.ok(),
        output_tokens,
        output_tokens_estimated,
        reasoning_tokens: tokens.reasoning.ok(),
        engine_tokens: tokens.engine.ok(),
        accepted: Some(http.accepted),
        received: http.received,
        first_byte: http.reply.as_ref().map(|(at, _)| *at),
        first_output,
        first_content,
        last_output,
        finished,
        phases,
        tpot_seconds: tpot.ok(),
        itl,
        blocked_ns: http.blocked_ns,
        preemptions,
        engine_at,
        engine_requests,
        null_reasons: reasons,
        said: http.said(),
    }
}

/// The record of an engine request that no exchange was found for.
pub(super) fn engine_only(life: &Life, kind: EngineKind, now: MonoNs, serial: u64) -> Request {
    let ended = life.end.map_or(now, |(at, _)| at);
    let request = life.record(if life.finish.is_some() { Share::All } else { Share::Until(ended) }, ended);
    let engine_requests = vec![request.clone()];
    let lives = std::slice::from_ref(life);
    let sides = Sides { lives, engine_requests: &engine_requests, unjoined: UNOBSERVED };
    let finished = request.last_output.filter(|_| life.finish.is_some()).unwrap_or(ended);
    let mut reasons: Reasons = [
        "connection",
        "status",
        "operation",
        "path",
        "method",
        "model",
        "response_id",
        "response_model",
        "x_request_id",
        "parent_span_id",
        "user",
        "session",
        "stream",
        "duration_seconds",
        "first_byte_seconds",
        "first_output_seconds",
        "ttft_seconds",
        "itl",
        "reasoning_tokens",
    ]
    .map(|name| (name, UNOBSERVED))
    .into();
    let chain = Chain {
        instants: [
            Err(UNOBSERVED),
            Err(UNOBSERVED),
            sides.entered(),
            request.scheduled.ok_or(sides.no_scheduled()),
            request.first_output.ok_or(sides.no_output()),
            request.last_output.ok_or(sides.no_output()),
            Err(UNOBSERVED),
        ],
        cut: false,
    };
    let phases = Phases { deliver: None, ..chain.phases(&mut reasons) };
    let tpot = sides.tpot();
    let engine_at = sides.engine_at();
    let mut incomplete: BTreeSet<Incomplete> = life.flags.clone();
    if life.end.is_none_or(|(_, why)| why == Stop::Gone) {
        incomplete.insert(Incomplete::Unfinished);
    }
    for (name, missing, why) in [
        ("input_tokens", request.prompt_tokens.is_none(), sides.no_added()),
        ("cached_tokens", request.cached_tokens.is_none(), sides.no_output()),
        ("tpot_seconds", tpot.is_err(), tpot.err().unwrap_or_default()),
        ("engine_at.queued", engine_at.queued.is_none(), sides.no_load()),
        ("engine_at.first_token", engine_at.first_token.is_none(), sides.no_load()),
        ("engine_at.finish", engine_at.finish.is_none(), sides.no_load()),
    ] {
        if missing {
            reasons.insert(name, why);
        }
    }
    Request {
        serial,
        pid: life.core,
        exchange: None,
        engine: life.engine,
        kind,
        join: Join::EngineOnly,
        incomplete: incomplete.into_iter().collect(),
        method: None,
        path: None,
        operation: None,
        x_request_id: None,
        traceparent: None,
        user: None,
        session: None,
        model: None,
        response_model: None,
        response_id: None,
        status: None,
        error_type: None,
        finish_reasons: life.finish.map(|finish| finish_name(finish).to_owned()).into_iter().collect(),
        stream: None,
        params: life.params.clone(),
        transfer: None,
        input_tokens: request.prompt_tokens,
        cached_tokens: request.cached_tokens,
        output_tokens: Some(request.output_tokens),
        output_tokens_estimated: life.finish.is_none(),
        reasoning_tokens: None,
        engine_tokens: Some(request.engine_tokens),
        accepted: None,
        received: None,
        first_byte: None,
        first_output: request.first_output,
        first_content: None,
        last_output: request.last_output,
        finished,
        phases,
        tpot_seconds: tpot.ok(),
        itl: None,
        blocked_ns: 0,
        preemptions: Some(request.preemptions),
        engine_at,
        engine_requests,
        null_reasons: reasons,
        said: None,
    }
}

/// Whether the response came whole and said nothing of a failure.
fn whole(http: &Http) -> bool {
    http.complete() && http.error.is_none() && http.status().is_none_or(|status| status < 400)
}

/// What of an engine request its caller got.
fn share(http: &Http, life: &Life, siblings: usize) -> Share {
    if !whole(http) {
        return http.last_content.map_or(Share::Nothing, Share::Until);
    }
    if let (Some(output), 1) = (http.usage.and_then(|usage| usage.output), siblings) {
        return Share::Tokens(output);
    }
    // The text stopped first, and the engine ran on to its limit.
    let stopped = !http.finish.is_empty() && http.finish.values().all(|why| why == "stop");
    let ran_on = http.body.stop && life.finish == Some(Finish::Length) && stopped;
    if life.finish.is_some() && !ran_on {
        return Share::All;
    }
    let said = http.last_content.filter(|_| ran_on).or(http.finished());
    said.map_or(Share::All, Share::Until)
}

fn tpot_of_writes(http: &Http, tokens: Option<u64>, why: &'static str) -> Result<f64, &'static str> {
    let gaps = tokens.and_then(|tokens| tokens.checked_sub(1)).filter(|gaps| *gaps > 0);
    let span = http.last_content.zip(http.first_content).and_then(|(last, first)| last.since(first));
    match (gaps, span) {
        (Some(gaps), Some(span)) if http.children() == Some(1) && http.itl.count > 0 => Ok(seconds(span) / gaps as f64),
        _ => Err(why),
    }
}

fn error_type(http: &Http) -> Option<String> {
    if let Some(status) = http.status().filter(|status| *status >= 400) {
        return Some(status.to_string());
    }
    if http.error.is_some() {
        return http.error.clone();
    }
    let (_, how) = http.end?;
    let named = if http.complete() {
        let ended = http.last.is_some() || !http.finish.is_empty() || http.streamed() != Some(true);
        (http.engine_dead && !ended).then_some("engine_dead")
    } else {
        match how {
            Close::Broken(Break::ClientGone) => Some("client_disconnect"),
            Close::Broken(Break::ProcessGone) => Some("process_gone"),
            Close::Broken(Break::ServerClosed | Break::Protocol) if http.engine_dead => Some("engine_dead"),
            Close::Broken(Break::ServerClosed | Break::Protocol) => Some("stream_reset"),
            Close::Broken(Break::Evicted) | Close::Ended | Close::Unseen => None,
        }
    };
    named.map(str::to_owned)
}

/// As the response says, else as the engine does; what makes no tokens has none to stop.
fn finish_reasons(http: &Http, lives: &[Life]) -> Vec<String> {
    if matches!(http.head.operation, Operation::Embeddings | Operation::Pooling) {
        return Vec::new();
    }
    if http.finish.is_empty() {
        return lives.iter().filter_map(|life| life.finish).map(|finish| finish_name(finish).to_owned()).collect();
    }
    http.finish.values().cloned().collect()
}

fn finish_name(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Abort => "abort",
        Finish::Error => "error",
        Finish::Repetition => "repetition",
        Finish::Unknown => "unknown",
    }
}
