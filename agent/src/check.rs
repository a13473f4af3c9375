//! Prerequisites in, one line each out.

use std::fmt;

/// How a prerequisite stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It is there.
    Ok,
    /// Something works less well without it.
    Degraded,
    /// The agent cannot record without it.
    Missing,
}

impl State {
    /// The word at the beginning of a line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
        }
    }
}

/// One prerequisite as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is: one or two words.
    pub name: &'static str,
    /// How it stands.
    pub state: State,
    /// What was found: one sentence.
    pub what: String,
    /// What to do about it: one sentence.
    pub remedy: Option<String>,
}

/// All findings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report(pub Vec<Finding>);

impl Report {
    /// How the worst of them stands.
    pub fn state(&self) -> State {
        self.0.iter().map(|finding| finding.state).max().unwrap_or(State::Ok)
    }
}

/// A line for each finding, and one more for its remedy.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
        for Finding { name, state, what, remedy } in &self.0 {
            writeln!(f, "{:<8}  {name:<width$}  {what}", state.word())?;
            if let Some(remedy) = remedy {
                writeln!(f, "{:<8}  {:<width$}  → {remedy}", "", "")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_lines_in_columns_and_as_bad_as_its_worst() {
        let finding = |name, state, remedy: Option<&str>| Finding {
            name,
            state,
            what: format!("about {name}"),
            remedy: remedy.map(str::to_owned),
        };
        let report = Report(vec![
            finding("kernel", State::Ok, None),
            finding("btf", State::Missing, Some("install it")),
            finding("nvml", State::Degraded, None),
        ]);
        let text = "ok        kernel  about kernel\nmissing   btf     about btf\n                  → install it\n\
                    degraded  nvml    about nvml\n";
        assert_eq!(report.to_string(), text);
        assert_eq!((report.state(), Report::default().state()), (State::Missing, State::Ok));
    }
}
