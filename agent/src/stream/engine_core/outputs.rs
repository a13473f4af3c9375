//! A message that an engine core sent in, a [`Step`] out, or what else the message is.
//!
//! Seen in vLLM 0.11.2, 0.16.0, 0.18.0, 0.20.0, 0.24.0 and 0.32.0 (`vllm/v1/engine/__init__.py`): the
//! positions 0 to 3 of `EngineCoreOutputs` and 0 to 7 of `EngineCoreOutput` are the same in all;
//! what follows is told by shape and key.

use super::walk::Cursor;
use super::walk::Key;
use super::walk::Value;
use crate::clock::MonoNs;
use crate::stream::Finish;
use crate::stream::Load;
use crate::stream::Mark;
use crate::stream::Output;
use crate::stream::Step;
use crate::vitals::Vitals;

/// What the engine core's last words are.
pub(super) const DEAD: &[u8] = b"ENGINE_CORE_DEAD";

/// Outputs of one message at most: as many requests run in no engine.
const OUTPUTS: u32 = 1 << 16;

/// Marks of one output at most.
const MARKS: u32 = 1 << 12;

/// What a frame that was sent is.
#[derive(Debug)]
pub(super) enum Sent {
    /// Outputs, or the scheduler's state.
    Step(Step),
    /// The engine died.
    Dead,
    /// Nothing of interest: utility answers, waves, handshakes, KV events.
    Other,
    /// It has the shape of outputs and cannot be read as such.
    Broken,
}

/// Reads a whole frame; `at` is its probe.
pub(super) fn read(bytes: &[u8], at: MonoNs, vitals: &Vitals) -> Sent {
    if bytes == DEAD {
        return Sent::Dead;
    }
    if !is_shaped(bytes) {
        return Sent::Other;
    }
    let mut cursor = Cursor::new(bytes);
    let Some(mut step) = step(&mut cursor).filter(|_| cursor.is_at_end()) else { return Sent::Broken };
    if step.outputs.is_empty() && step.load.is_none() {
        return Sent::Other;
    }
    if step.outputs.is_empty() {
        step.load = step.load.map(without_defaults);
    }
    distrust(&mut step, at, vitals);
    Sent::Step(step)
}

/// Whether these first bytes are those of `EngineCoreOutputs`: an index, then a list of outputs.
pub(super) fn is_shaped(bytes: &[u8]) -> bool {
    let mut cursor = Cursor::new(bytes);
    match cursor.peek() {
        Some(Value::Array(2..)) => {
            let (_, index, outputs) = (cursor.read(), cursor.read(), cursor.read());
            matches!((index, outputs), (Some(Value::Int(_)), Some(Value::Array(_))))
        }
        Some(Value::Map(_)) => {
            let mut found = false;
            // A map that breaks off is judged by the names before the break.
            let _walked: Option<()> = cursor.fields(|key, cursor| {
                found |= key == Key::Named("outputs") && matches!(cursor.peek(), Some(Value::Array(_)));
                cursor.skip()
            });
            found
        }
        _ => false,
    }
}

fn step(cursor: &mut Cursor<'_>) -> Option<Step> {
    let mut step = Step::default();
    cursor.fields(|key, cursor| {
        match key {
            Key::At(0) | Key::Named("engine_index") => step.index = cursor.one()?.count().unwrap_or_default(),
            Key::At(1) | Key::Named("outputs") => {
                for _ in 0..cursor.list(OUTPUTS)? {
                    step.outputs.push(output(cursor)?);
                }
            }
            Key::At(2) | Key::Named("scheduler_stats") => load(cursor, &mut step)?,
            Key::At(3) | Key::Named("timestamp") => {
                step.timestamp = cursor.one()?.float().and_then(MonoNs::from_secs_f64);
            }
            Key::At(_) | Key::Named(_) => cursor.skip()?,
        }
        Some(())
    })?;
    Some(step)
}

fn output(cursor: &mut Cursor<'_>) -> Option<Output> {
    let mut output = Output::default();
    let mut named = false;
    cursor.fields(|key, cursor| {
        match key {
            Key::At(0) | Key::Named("request_id") => {
                cursor.read()?.text()?.clone_into(&mut output.id);
                named = true;
            }
            Key::At(1) | Key::Named("new_token_ids") => {
                output.tokens = if cursor.peek()? == Value::Nil { 0 } else { cursor.tokens()? };
                cursor.skip()?;
            }
            Key::At(5) | Key::Named("finish_reason") => output.finish = finish(cursor.one()?),
            Key::At(7) | Key::Named("events") => output.marks = marks(cursor)?,
            Key::At(10) | Key::Named("num_cached_tokens") if matches!(cursor.peek()?, Value::Int(_)) => {
                output.cached_tokens = cursor.one()?.count();
            }
            Key::At(8..) | Key::Named("prefill_stats") => prefill(cursor, &mut output)?,
            Key::At(_) | Key::Named(_) => cursor.skip()?,
        }
        Some(())
    })?;
    named.then_some(output)
}

fn finish(value: Value<'_>) -> Option<Finish> {
    match value {
        Value::Nil => None,
        Value::Int(Some(0)) | Value::Str("stop") => Some(Finish::Stop),
        Value::Int(Some(1)) | Value::Str("length") => Some(Finish::Length),
        Value::Int(Some(2)) | Value::Str("abort") => Some(Finish::Abort),
        Value::Int(Some(3)) | Value::Str("error") => Some(Finish::Error),
        Value::Int(Some(4)) | Value::Str("repetition") => Some(Finish::Repetition),
        _ => Some(Finish::Unknown),
    }
}

fn marks(cursor: &mut Cursor<'_>) -> Option<Vec<(Mark, MonoNs)>> {
    let mut marks = Vec::new();
    if !matches!(cursor.peek()?, Value::Array(_)) {
        cursor.skip()?;
        return Some(marks);
    }
    for _ in 0..cursor.list(MARKS)? {
        let (mut kind, mut at) = (None, None);
        cursor.fields(|key, cursor| {
            match key {
                Key::At(0) | Key::Named("type") => kind = mark(cursor.one()?),
                Key::At(1) | Key::Named("timestamp") => at = cursor.one()?.float().and_then(MonoNs::from_secs_f64),
                Key::At(_) | Key::Named(_) => cursor.skip()?,
            }
            Some(())
        })?;
        marks.extend(kind.zip(at));
    }
    Some(marks)
}

fn mark(value: Value<'_>) -> Option<Mark> {
    match value {
        Value::Int(Some(1)) | Value::Str("QUEUED") => Some(Mark::Queued),
        Value::Int(Some(2)) | Value::Str("SCHEDULED") => Some(Mark::Scheduled),
        Value::Int(Some(3)) | Value::Str("PREEMPTED") => Some(Mark::Preempted),
        _ => None,
    }
}

/// Takes one value; prompt and cached tokens count where it is the map that has both.
fn prefill(cursor: &mut Cursor<'_>, output: &mut Output) -> Option<()> {
    if !matches!(cursor.peek()?, Value::Map(_)) {
        return cursor.skip();
    }
    let (mut prompt, mut cached) = (None, None);
    cursor.fields(|key, cursor| {
        match key {
            Key::Named("num_prompt_tokens") => prompt = cursor.one()?.count(),
            Key::Named("num_cached_tokens") => cached = cursor.one()?.count(),
            Key::At(_) | Key::Named(_) => cursor.skip()?,
        }
        Some(())
    })?;
    if prompt.is_some() && cached.is_some() {
        output.prompt_tokens = prompt;
        output.cached_tokens = cached;
    }
    Some(())
}

fn load(cursor: &mut Cursor<'_>, step: &mut Step) -> Option<()> {
    if !matches!(cursor.peek()?, Value::Map(_)) {
        return cursor.skip();
    }
    let mut load = Load::default();
    let mut deferred = None;
    cursor.fields(|key, cursor| {
        match key {
            Key::Named("num_running_reqs") => load.running = cursor.one()?.count(),
            Key::Named("num_waiting_reqs") => load.waiting = cursor.one()?.count(),
            Key::Named("num_skipped_waiting_reqs") => deferred = cursor.one()?.count(),
            Key::Named("kv_cache_usage" | "gpu_cache_usage") => load.kv_usage = cursor.one()?.float(),
            Key::At(_) | Key::Named(_) => cursor.skip()?,
        }
        Some(())
    })?;
    // vLLM's own `num_requests_waiting` is this sum.
    load.waiting = load.waiting.map(|waiting| waiting.saturating_add(deferred.unwrap_or_default()));
    step.load = Some(load);
    Some(())
}

/// Notices to the data-parallel coordinator carry counts alone up to 0.24, with the default 0 for the
/// KV usage; what runs uses some.
fn without_defaults(load: Load) -> Load {
    let counts_alone = load.kv_usage == Some(0.0) && load.running.is_some_and(|running| running > 0);
    Load { kv_usage: load.kv_usage.filter(|_| !counts_alone), ..load }
}

/// Drops instants that cannot be: a step made after it was sent, and marks after their step.
fn distrust(step: &mut Step, sent: MonoNs, vitals: &Vitals) {
    let latest = match step.timestamp {
        Some(made) if made > sent => {
            step.timestamp = None;
            vitals.clock_untrusted.one();
            // The marks come from the same clock.
            None
        }
        made => Some(made.unwrap_or(sent)),
    };
    for output in &mut step.outputs {
        output.marks.retain(|(_, at)| {
            let trusted = latest.is_some_and(|latest| *at <= latest);
            if !trusted {
                vitals.clock_untrusted.one();
            }
            trusted
        });
    }
}
