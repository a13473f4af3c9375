//! Boards of panels in, Grafana's JSON for each out.
//!
//! The classic model, which every Grafana from 10 on imports and provisions. A board is rows, a row is panels from left
//! to right; where they stand follows from their sizes.

use crate::kit::Error;
use crate::kit::File;
use crate::kit::Kit;
use crate::kit::slo::Slo;
use panel::Panel;
use serde_json::Value;
use serde_json::json;

mod health;
mod node;
mod overview;
mod panel;
mod requests;
mod slo;
mod slow;

/// Columns of Grafana's grid.
const COLUMNS: u32 = 24;
/// The newest of the classic model.
const SCHEMA: u32 = 42;
/// By which the boards link to each other.
const TAG: &str = "tachograph";

/// Selects by the variables of the board: of requests.
const REQUESTS: &str = r#"node=~"$node",gen_ai_request_model=~"$model""#;
/// Of engines.
const ENGINES: &str = r#"node=~"$node",engine=~"$engine""#;
/// Of nodes.
const NODES: &str = r#"node=~"$node""#;

/// One board.
struct Board {
    /// Of its address, and its file.
    name: &'static str,
    title: &'static str,
    description: &'static str,
    /// Whether it asks for logs and traces too.
    records: bool,
    rows: Vec<Row>,
}

/// Panels from left to right, then on the next line.
struct Row {
    title: &'static str,
    panels: Vec<Panel>,
}

fn row(title: &'static str, panels: impl IntoIterator<Item = Panel>) -> Row {
    Row { title, panels: panels.into_iter().collect() }
}

/// The files.
///
/// # Errors
///
/// None that JSON could have.
pub fn files(kit: &Kit, slos: &[Slo]) -> Result<Vec<File>, Error> {
    let boards =
        [overview::board(kit, slos), slow::board(), node::board(kit), requests::board(), slo::board(), health::board()];
    boards.into_iter().map(file).collect()
}

fn file(board: Board) -> Result<File, Error> {
    let path = format!("dashboards/{}.json", board.name);
    let text = serde_json::to_string_pretty(&json(board))
        .map_err(|what| Error::Yaml { path: path.clone(), what: what.to_string() })?;
    Ok(File::new(path, text + "\n"))
}

fn json(board: Board) -> Value {
    let mut panels = Vec::new();
    let (mut id, mut y) = (0, 0);
    for Row { title, panels: of_row } in board.rows {
        id += 1;
        panels.push(json!({
            "id": id, "type": "row", "title": title, "collapsed": false, "panels": [],
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
        }));
        y += 1;
        let (mut x, mut height) = (0, 0);
        for panel in of_row {
            if x + panel.width > COLUMNS {
                (x, y, height) = (0, y + height, 0);
            }
            id += 1;
            let place = json!({"x": x, "y": y, "w": panel.width, "h": panel.height});
            (x, height) = (x + panel.width, height.max(panel.height));
            panels.push(panel.json(id, &place));
        }
        y += height;
    }
    json!({
        "uid": format!("tachograph-{}", board.name),
        "title": board.title,
        "description": board.description,
        "tags": [TAG, "llm"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": false,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [{
            "type": "dashboards", "tags": [TAG], "title": "Tachograph", "asDropdown": true, "includeVars": true,
            "keepTime": true, "tooltip": "", "targetBlank": false, "icon": "external link",
        }],
        "annotations": {"list": [{
            "name": "Alerts", "enable": true, "iconColor": "red",
            "datasource": panel::METRICS.reference(),
            "expr": "ALERTS{alertstate=\"firing\",severity=~\"critical|warning\"}",
            "titleFormat": "{{alertname}}", "textFormat": "{{node}} {{gen_ai_request_model}}",
        }]},
        "templating": {"list": variables(board.records)},
        "panels": panels,
    })
}

fn variables(records: bool) -> Vec<Value> {
    let source = |name: &str, label: &str, kind: &str| json!({"name": name, "label": label, "type": "datasource", "query": kind, "refresh": 1});
    let label = |name: &str, label: &str, query: &str| {
        json!({
            "name": name, "label": label, "type": "query", "datasource": panel::METRICS.reference(),
            "query": query, "definition": query, "refresh": 2, "sort": 1,
            "multi": true, "includeAll": true, "allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]},
        })
    };
    let mut list = vec![source("datasource", "Data source", "prometheus")];
    if records {
        list.extend([source("loki", "Logs", "loki"), source("tempo", "Traces", "tempo")]);
    }
    list.extend([
        label("node", "Node", "label_values(tachograph_build_info, node)"),
        label("model", "Model", "label_values(tachograph_requests_total{node=~\"$node\"}, gen_ai_request_model)"),
        label("engine", "Engine", "label_values(tachograph_engine_wedged{node=~\"$node\"}, engine)"),
    ]);
    list
}

/// `sum by (…) (rate(METRIC{…}[…]))`; a metric may bring matchers of its own, without the closing brace.
fn rate(by: &str, metric: &str, matchers: &str) -> String {
    let by = if by.is_empty() { String::new() } else { format!(" by ({by}) ") };
    let open = if metric.contains('{') { "," } else { "{" };
    format!("sum{by}(rate({metric}{open}{matchers}}}[$__rate_interval]))")
}

/// A quantile of a histogram, by these labels.
fn quantile(quantile: &str, by: &str, histogram: &str, matchers: &str) -> String {
    let by = if by.is_empty() { "le".to_owned() } else { format!("{by}, le") };
    format!("histogram_quantile({quantile}, {})", rate(&by, &format!("{histogram}_bucket"), matchers))
}
