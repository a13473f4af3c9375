//! Flags, environment and file in, one validated [`Config`] out.
/// All settings.
#[derive(Debug, Clone)]
pub struct Config {}
