//! Series and what alerts they lead to in; unit tests of rules in promtool's format out.

use crate::kit::Error;
use crate::kit::File;
use crate::kit::yaml;
use serde_json::Value;
use serde_json::json;

/// Between two samples of every series.
const EVERY: &str = "1m";

/// One test.
#[derive(Debug)]
pub(super) struct Case {
    /// What it is about.
    pub(super) name: String,
    /// Series and their values, in promtool's notation.
    pub(super) series: Vec<(String, String)>,
    /// When it is looked.
    pub(super) at: String,
    /// Which alerts are counted.
    pub(super) alerts: String,
    /// How many there must be.
    pub(super) fires: u32,
}

impl Case {
    fn value(&self, every: &str) -> Value {
        let series: Vec<Value> =
            self.series.iter().map(|(series, values)| json!({"series": series, "values": values})).collect();
        let samples = if self.fires == 0 { json!([]) } else { json!([{"labels": "{}", "value": self.fires}]) };
        json!({
            "name": self.name,
            "interval": every,
            "input_series": series,
            "promql_expr_test": [{
                "expr": format!("count({})", self.alerts),
                "eval_time": self.at,
                "exp_samples": samples,
            }],
        })
    }
}

/// A file of tests of the named files of rules.
pub(super) fn file(path: &str, rules: &[&str], every: Option<&str>, cases: &[Case]) -> Result<File, Error> {
    let every = every.unwrap_or(EVERY);
    let about = "Unit tests of the alerts: `promtool test rules` beside this file.\n\
                 Written by `tachograph generate alerts`.";
    let tests: Vec<Value> = cases.iter().map(|case| case.value(every)).collect();
    yaml::file(path, about, &json!({"rule_files": rules, "evaluation_interval": every, "tests": tests}))
}
