//! What is read of an engine core's messages, as tables: the shape of each, and where the rest is hidden.
//!
//! They say of [`outputs`](crate::stream::engine_core::outputs) and
//! [`requests`](crate::stream::engine_core::requests) what those read; tests hold one against the other.

/// What of a value stays. Of anything that is not of this shape nothing does.
#[derive(Debug)]
pub(super) enum Shape {
    Nothing,
    Number,
    /// A string.
    Text,
    /// A number, or one of these strings.
    Word(&'static [&'static str]),
    /// Token ids: how many there are, also where they are an array of numpy.
    Tokens,
    /// This of each item of a list.
    Each(&'static Self),
    /// Fields of a structure.
    Fields(&'static [Field]),
    /// A number, or fields of a structure.
    NumberOrFields(&'static [Field]),
    /// Fields of a structure that begins with a number and a list.
    Outputs(&'static [Field]),
    /// Fields of a structure in which others are found by what they are.
    Add(&'static [Field]),
}

/// A field of a structure, which is an array or a map.
#[derive(Debug)]
pub(super) struct Field {
    /// Its places in an array, from and to.
    places: (u32, u32),
    pub(super) name: &'static str,
    pub(super) shape: Shape,
}

impl Field {
    const fn at(place: u32, name: &'static str, shape: Shape) -> Self {
        Self { places: (place, place), name, shape }
    }

    const fn from(place: u32, name: &'static str, shape: Shape) -> Self {
        Self { places: (place, u32::MAX), name, shape }
    }

    const fn named(name: &'static str, shape: Shape) -> Self {
        Self { places: (1, 0), name, shape }
    }

    pub(super) fn is_at(&self, place: u32) -> bool {
        (self.places.0..=self.places.1).contains(&place)
    }
}

pub(super) static NOTHING: Shape = Shape::Nothing;
pub(super) static NUMBER: Shape = Shape::Number;
pub(super) static TEXT: Shape = Shape::Text;
pub(super) static NUMBERS: Shape = Shape::Each(&NUMBER);
pub(super) static ABORT: Shape = Shape::Each(&TEXT);

/// Client, call id, method, arguments.
pub(super) static UTILITY: Shape =
    Shape::Fields(&[Field::at(2, "method", Shape::Word(&["sleep", "wake_up", "pause_scheduler", "resume_scheduler"]))]);

pub(super) static ADD: Shape = Shape::Add(&[
    Field::at(0, "request_id", Shape::Text),
    Field::at(1, "prompt_token_ids", Shape::Tokens),
    Field::named("sampling_params", Shape::Fields(SAMPLING)),
    Field::named("arrival_time", Shape::Number),
    Field::named("client_index", Shape::Number),
    Field::named("external_req_id", Shape::Text),
]);

const SAMPLING: &[Field] = &[
    Field::named("temperature", Shape::Number),
    Field::named("top_p", Shape::Number),
    Field::named("top_k", Shape::Number),
    Field::named("seed", Shape::Number),
    Field::named("max_tokens", Shape::Number),
    Field::named("presence_penalty", Shape::Number),
    Field::named("frequency_penalty", Shape::Number),
    Field::named("repetition_penalty", Shape::Number),
    Field::named("output_kind", Shape::Number),
];

/// The sampling parameters of an ADD that is an array.
pub(super) static PARAMS: Shape = Shape::Fields(SAMPLING);

pub(super) static OUTPUTS: Shape = Shape::Outputs(&[
    Field::at(0, "engine_index", Shape::Number),
    Field::at(1, "outputs", Shape::Each(&OUTPUT)),
    Field::at(2, "scheduler_stats", Shape::Fields(LOAD)),
    Field::at(3, "timestamp", Shape::Number),
]);

static OUTPUT: Shape = Shape::Fields(&[
    Field::at(0, "request_id", Shape::Text),
    Field::at(1, "new_token_ids", Shape::Tokens),
    Field::at(5, "finish_reason", Shape::Word(&["stop", "length", "abort", "error", "repetition"])),
    Field::at(7, "events", Shape::Each(&EVENT)),
    Field::at(10, "num_cached_tokens", Shape::NumberOrFields(PREFILL)),
    Field::from(8, "prefill_stats", Shape::Fields(PREFILL)),
]);

static EVENT: Shape = Shape::Fields(&[
    Field::at(0, "type", Shape::Word(&["QUEUED", "SCHEDULED", "PREEMPTED"])),
    Field::at(1, "timestamp", Shape::Number),
]);

const PREFILL: &[Field] =
    &[Field::named("num_prompt_tokens", Shape::Number), Field::named("num_cached_tokens", Shape::Number)];

const LOAD: &[Field] = &[
    Field::named("num_running_reqs", Shape::Number),
    Field::named("num_waiting_reqs", Shape::Number),
    Field::named("num_skipped_waiting_reqs", Shape::Number),
    Field::named("kv_cache_usage", Shape::Number),
    Field::named("gpu_cache_usage", Shape::Number),
];
