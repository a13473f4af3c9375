//! The words of one setting in, its checked value out; flags and file share these, so both name what is wrong.

use crate::correlate::slo::Objective;
use crate::discover::Select;
use crate::export::otlp::llm::Calls;
use crate::ident::EngineKind;
use crate::ident::Pid;
use crate::kit::slo::Goal;
use crate::stream::content::LONGEST;
use serde::Deserialize;
use std::str::FromStr;
use std::time::Duration;

/// The smallest ring: a multiple of every page size in use.
pub const RING_MIN: u32 = 65_536;

/// The largest ring.
pub const RING_MAX: u32 = 1 << 30;

/// How much is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Level {
    /// Everything.
    Full,
    /// No detail for each token.
    NoTokens,
    /// Heads of requests and responses only.
    Head,
}

/// Bytes of content that are shown of each side of a request: from 1 to [`LONGEST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("minimum" = 1, "maximum" = LONGEST)))]
#[serde(try_from = "u64")]
pub struct ContentBytes(pub usize);

const CONTENT_BYTES: &str = "not a number of bytes from 1 to 65536 (Loki refuses a line above 256 KB)";

impl TryFrom<u64> for ContentBytes {
    type Error = &'static str;

    fn try_from(bytes: u64) -> Result<Self, Self::Error> {
        match usize::try_from(bytes) {
            Ok(bytes @ 1..=LONGEST) => Ok(Self(bytes)),
            _ => Err(CONTENT_BYTES),
        }
    }
}

impl FromStr for ContentBytes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<u64>().map_err(|_bad| CONTENT_BYTES)?.try_into()
    }
}

/// A number of seconds above 0.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("exclusiveMinimum" = 0)))]
#[serde(try_from = "f64")]
pub struct Seconds(f64);

impl TryFrom<f64> for Seconds {
    type Error = &'static str;

    fn try_from(seconds: f64) -> Result<Self, Self::Error> {
        let possible = seconds > 0.0 && seconds < 1e9;
        if possible { Ok(Self(seconds)) } else { Err("not a number of seconds above 0") }
    }
}

impl FromStr for Seconds {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<f64>().map_err(|_bad| "not a number of seconds above 0")?.try_into()
    }
}

/// As a duration, or the default.
pub fn duration(seconds: Option<Seconds>, default: Duration) -> Duration {
    seconds.map_or(default, |Seconds(seconds)| Duration::from_secs_f64(seconds))
}

impl Seconds {
    /// As a plain number.
    pub fn number(self) -> f64 {
        self.0
    }
}

/// A share of requests, above 0 and below 1.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1)))]
#[serde(try_from = "f64")]
pub struct Share(f64);

impl TryFrom<f64> for Share {
    type Error = &'static str;

    fn try_from(share: f64) -> Result<Self, Self::Error> {
        if share > 0.0 && share < 1.0 { Ok(Self(share)) } else { Err("not a share above 0 and below 1") }
    }
}

impl FromStr for Share {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<f64>().map_err(|_bad| "not a share above 0 and below 1")?.try_into()
    }
}

impl Share {
    /// As a plain number.
    pub fn number(self) -> f64 {
        self.0
    }
}

/// A part of all, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("minimum" = 0, "maximum" = 1)))]
#[serde(try_from = "f64")]
pub struct Portion(f64);

impl TryFrom<f64> for Portion {
    type Error = &'static str;

    fn try_from(portion: f64) -> Result<Self, Self::Error> {
        if (0.0..=1.0).contains(&portion) { Ok(Self(portion)) } else { Err("not a share from 0 to 1") }
    }
}

impl FromStr for Portion {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<f64>().map_err(|_bad| "not a share from 0 to 1")?.try_into()
    }
}

impl Portion {
    /// As a plain number.
    pub fn number(self) -> f64 {
        self.0
    }
}

/// Which spans viewers of LLM calls shall take for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum LlmCalls {
    /// Of requests that name no caller's span.
    Roots,
    /// All.
    All,
    /// None.
    None,
}

impl LlmCalls {
    /// As the export takes it.
    pub const fn calls(self) -> Calls {
        match self {
            Self::Roots => Calls::Roots,
            Self::All => Calls::All,
            Self::None => Calls::None,
        }
    }
}

/// On, off, or as it turns out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(try_from = "WrittenSwitch")]
pub enum Switch {
    /// Where it can be.
    Auto,
    /// On.
    True,
    /// Off.
    False,
}

/// As the file has it: a word or a truth value.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("enum" = ["auto", true, false])))]
#[serde(untagged)]
pub(super) enum WrittenSwitch {
    Bool(bool),
    Word(String),
}

impl TryFrom<WrittenSwitch> for Switch {
    type Error = &'static str;

    fn try_from(written: WrittenSwitch) -> Result<Self, Self::Error> {
        match written {
            WrittenSwitch::Bool(true) => Ok(Self::True),
            WrittenSwitch::Bool(false) => Ok(Self::False),
            WrittenSwitch::Word(word) if word == "auto" => Ok(Self::Auto),
            WrittenSwitch::Word(_) => Err("neither auto, true nor false"),
        }
    }
}

/// What the requests of one model may take.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "WrittenSlo")]
pub struct ModelSlo {
    /// The name that the engine serves.
    pub model: String,
    /// What is set for it.
    pub objective: Objective,
    /// Which share must keep it.
    pub goal: Goal,
}

/// As the file has it.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenSlo {
    model: Option<String>,
    ttft_seconds: Option<Seconds>,
    tpot_seconds: Option<Seconds>,
    duration_seconds: Option<Seconds>,
    errors: Option<bool>,
    objective: Option<Share>,
    availability: Option<Share>,
}

impl TryFrom<WrittenSlo> for ModelSlo {
    type Error = &'static str;

    fn try_from(written: WrittenSlo) -> Result<Self, Self::Error> {
        let objective = Objective {
            ttft_seconds: written.ttft_seconds.map(Seconds::number),
            tpot_seconds: written.tpot_seconds.map(Seconds::number),
            duration_seconds: written.duration_seconds.map(Seconds::number),
            errors: written.errors,
        };
        let goal = Goal {
            latency: written.objective.map(Share::number),
            availability: written.availability.map(Share::number),
        };
        let model = written.model.filter(|model| !model.is_empty()).ok_or("which model is not said")?;
        Ok(Self { model, objective, goal })
    }
}

/// `model=llama,ttft_seconds=2`, the keys being those of the file.
impl FromStr for ModelSlo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut written = WrittenSlo::default();
        for item in text.split(',') {
            let (key, value) = item.split_once('=').ok_or_else(|| format!("`{item}` is not key=value"))?;
            let seconds = || value.parse().map(Some).map_err(|bad| format!("{key} `{value}` is {bad}"));
            let share = || value.parse().map(Some).map_err(|bad| format!("{key} `{value}` is {bad}"));
            match key {
                "model" => written.model = Some(value.to_owned()),
                "ttft_seconds" => written.ttft_seconds = seconds()?,
                "tpot_seconds" => written.tpot_seconds = seconds()?,
                "duration_seconds" => written.duration_seconds = seconds()?,
                "objective" => written.objective = share()?,
                "availability" => written.availability = share()?,
                "errors" => {
                    let errors = value.parse().map_err(|_bad| format!("errors `{value}` is no bool"))?;
                    written.errors = Some(errors);
                }
                _ => {
                    return Err(format!(
                        "`{key}` is none of model, ttft_seconds, tpot_seconds, duration_seconds, errors, objective, \
                         availability"
                    ));
                }
            }
        }
        Ok(written.try_into()?)
    }
}

/// The size of a ring: a power of two from [`RING_MIN`] to [`RING_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(extend("minimum" = RING_MIN, "maximum" = RING_MAX)))]
#[serde(try_from = "u64")]
pub struct RingBytes(pub u32);

impl TryFrom<u64> for RingBytes {
    type Error = &'static str;

    fn try_from(bytes: u64) -> Result<Self, Self::Error> {
        match u32::try_from(bytes) {
            Ok(bytes) if bytes.is_power_of_two() && (RING_MIN..=RING_MAX).contains(&bytes) => Ok(Self(bytes)),
            _ => Err("not a power of two from 65536 to 1073741824"),
        }
    }
}

impl FromStr for RingBytes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<u64>().map_err(|_bad| "not a power of two from 65536 to 1073741824")?.try_into()
    }
}

/// A server to trace.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct TargetRule {
    /// How it is found.
    pub select: Select,
    /// What it is.
    pub kind: EngineKind,
    /// What to call it.
    pub name: Option<String>,
}

/// As the file has it.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub(super) struct Written {
    exe: Option<String>,
    port: Option<u16>,
    pid: Option<u32>,
    engine: Option<String>,
    name: Option<String>,
}

impl TryFrom<Written> for TargetRule {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let select = match (written.exe, written.port, written.pid) {
            (Some(exe), None, None) => Select::Exe(exe),
            (None, Some(port), None) => Select::Port(port),
            (None, None, Some(pid)) => Select::Pid(Pid(pid)),
            _ => return Err("a target has exactly one of exe, port and pid".to_owned()),
        };
        let kind = match written.engine.as_deref() {
            None | Some("other") => EngineKind::Other,
            Some("vllm") => EngineKind::Vllm,
            Some(engine) => return Err(format!("engine `{engine}` is neither vllm nor other")),
        };
        Ok(Self { select, kind, name: written.name })
    }
}

/// `exe=llama-server,name=llama`, the keys being those of the file.
impl FromStr for TargetRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut written = Written::default();
        for item in text.split(',') {
            let (key, value) = item.split_once('=').ok_or_else(|| format!("`{item}` is not key=value"))?;
            let number = || format!("{key} `{value}` is not a number in range");
            match key {
                "exe" => written.exe = Some(value.to_owned()),
                "port" => written.port = Some(value.parse().map_err(|_bad| number())?),
                "pid" => written.pid = Some(value.parse().map_err(|_bad| number())?),
                "engine" => written.engine = Some(value.to_owned()),
                "name" => written.name = Some(value.to_owned()),
                _ => return Err(format!("`{key}` is none of exe, port, pid, engine, name")),
            }
        }
        written.try_into()
    }
}
