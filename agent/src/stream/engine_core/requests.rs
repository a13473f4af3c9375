//! A payload that an engine core received in, an [`Added`] or the ids of an abort out.
//!
//! Seen in the versions that [`outputs`](super::outputs) names, from both front ends: an ADD begins
//! with id and prompt; the sampling parameters are the only map before the arrival time; the arrival
//! time is the first float (position 5 or 6), the data-parallel rank the third field after it, and
//! the client index the first integer after that (position 10 or 11).

use super::walk::Cursor;
use super::walk::Key;
use super::walk::Value;
use crate::stream::Added;
use crate::stream::Params;

/// Fields from the arrival time to the data-parallel rank.
pub(super) const RANK_AFTER_ARRIVAL: u32 = 3;

/// Fields from the client index to the external id, in every version that has one.
pub(super) const EXTERNAL_AFTER_CLIENT: u32 = 5;

/// Ids of one ABORT at most.
const IDS: u32 = 1 << 16;

/// The calls after which an engine takes no step until it is told to, and those that tell it to.
pub(super) const SLEEPS: [(&str, bool); 4] =
    [("sleep", true), ("pause_scheduler", true), ("wake_up", false), ("resume_scheduler", false)];

/// What could be read of an ADD.
#[derive(Debug)]
pub(super) enum Asked {
    /// All of it.
    Whole {
        /// The request.
        added: Added,
        /// Seconds of the Unix clock, as the front end wrote them: never twice the same for one id.
        arrival: Option<f64>,
    },
    /// Id and prompt length at least; the rest broke off.
    Head(Added),
    /// Nothing.
    Broken,
}

/// Whether a utility call (client, call id, method, arguments) puts the engine to sleep, or wakes it.
pub(super) fn sleep(bytes: &[u8]) -> Option<bool> {
    let mut method = None;
    let mut cursor = Cursor::new(bytes);
    cursor.fields(|key, cursor| {
        match key {
            Key::At(2) => method = cursor.one()?.text(),
            Key::At(_) | Key::Named(_) => cursor.skip()?,
        }
        Some(())
    })?;
    SLEEPS.iter().find(|(name, _)| Some(*name) == method).map(|(_, asleep)| *asleep)
}

/// Reads an ADD, whole or broken off anywhere.
pub(super) fn add(bytes: &[u8]) -> Asked {
    let mut added = Added::default();
    let mut places = Places::default();
    let mut cursor = Cursor::new(bytes);
    let walked = cursor.fields(|key, cursor| {
        match key {
            Key::At(0) | Key::Named("request_id") => {
                cursor.read()?.text()?.clone_into(&mut added.id);
                places.id = true;
            }
            Key::At(1) | Key::Named("prompt_token_ids") => {
                added.prompt_tokens = cursor.tokens();
                places.prompt = added.prompt_tokens.is_some();
                cursor.skip()?;
                places.prompt = true;
            }
            Key::Named("sampling_params") => params(cursor, &mut added)?,
            Key::Named("arrival_time") => places.arrival = cursor.one()?.float().map(|seconds| (0, seconds)),
            Key::Named("client_index") => added.client_index = cursor.one()?.count(),
            Key::Named("external_req_id") => added.external_id = cursor.one()?.text().map(str::to_owned),
            Key::Named(_) => cursor.skip()?,
            Key::At(at) => by_shape(at, cursor, &mut added, &mut places)?,
        }
        Some(())
    });
    match (walked, places.id, places.prompt) {
        (Some(()), true, true) if cursor.is_at_end() => {
            Asked::Whole { added, arrival: places.arrival.map(|(_, seconds)| seconds) }
        }
        (None, true, true) => Asked::Head(added),
        _ => Asked::Broken,
    }
}

/// Where the fields that move between versions were found.
#[derive(Debug, Default)]
struct Places {
    id: bool,
    prompt: bool,
    params: bool,
    arrival: Option<(u32, f64)>,
    client: Option<u32>,
}

fn by_shape(at: u32, cursor: &mut Cursor<'_>, added: &mut Added, places: &mut Places) -> Option<()> {
    match (cursor.peek()?, places.arrival, places.client) {
        (Value::Map(_), None, _) if !places.params => {
            places.params = true;
            return params(cursor, added);
        }
        (Value::Float(seconds), None, _) => places.arrival = Some((at, seconds)),
        (Value::Int(index), Some((arrival, _)), None) if at > arrival + RANK_AFTER_ARRIVAL => {
            places.client = Some(at);
            added.client_index = index.and_then(|index| u32::try_from(index).ok());
        }
        (Value::Str(text), _, Some(client)) if added.external_id.is_none() => {
            let belongs = !text.is_empty() && added.id.contains(text);
            if belongs || at == client + EXTERNAL_AFTER_CLIENT {
                added.external_id = Some(text.to_owned());
            }
        }
        _ => {}
    }
    cursor.skip()
}

fn params(cursor: &mut Cursor<'_>, added: &mut Added) -> Option<()> {
    if !matches!(cursor.peek()?, Value::Map(_)) {
        return cursor.skip();
    }
    let mut params = Params::default();
    let mut output_kind = None;
    cursor.fields(|key, cursor| {
        match key {
            Key::Named("temperature") => params.temperature = cursor.one()?.float(),
            Key::Named("top_p") => params.top_p = cursor.one()?.float(),
            Key::Named("top_k") => params.top_k = cursor.one()?.int(),
            Key::Named("seed") => params.seed = cursor.one()?.int(),
            Key::Named("max_tokens") => params.max_tokens = cursor.one()?.int().and_then(|n| u64::try_from(n).ok()),
            Key::Named("presence_penalty") => params.presence_penalty = cursor.one()?.float(),
            Key::Named("frequency_penalty") => params.frequency_penalty = cursor.one()?.float(),
            Key::Named("repetition_penalty") => params.repetition_penalty = cursor.one()?.float(),
            Key::Named("output_kind") => output_kind = cursor.one()?.count(),
            Key::At(_) | Key::Named(_) => cursor.skip()?,
        }
        Some(())
    })?;
    added.params = params;
    added.output_kind = output_kind;
    Some(())
}

/// Reads the ids of an ABORT.
pub(super) fn abort(bytes: &[u8]) -> Option<Vec<String>> {
    let mut cursor = Cursor::new(bytes);
    let mut ids = Vec::new();
    for _ in 0..cursor.list(IDS)? {
        ids.push(cursor.read()?.text()?.to_owned());
    }
    cursor.is_at_end().then_some(ids)
}
