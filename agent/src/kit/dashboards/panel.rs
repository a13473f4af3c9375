//! What a panel shows and how in, its JSON out.

use serde_json::Value;
use serde_json::json;

/// A data source by the variable that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    kind: &'static str,
    variable: &'static str,
}

/// Prometheus.
pub(super) const METRICS: Source = Source { kind: "prometheus", variable: "${datasource}" };
/// Loki.
pub(super) const LOGS: Source = Source { kind: "loki", variable: "${loki}" };
/// Tempo.
pub(super) const TRACES: Source = Source { kind: "tempo", variable: "${tempo}" };

impl Source {
    /// As JSON refers to it.
    pub(super) fn reference(self) -> Value {
        json!({"type": self.kind, "uid": self.variable})
    }
}

/// How it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Lines over time.
    Lines,
    /// Areas on top of each other, over time.
    Stacked,
    /// The latest value.
    Stat,
    /// A histogram's buckets over time.
    Heatmap,
    /// Lines of a log.
    Logs,
    /// A list of traces.
    Traces,
}

/// One query.
#[derive(Debug)]
struct Query {
    expr: String,
    legend: &'static str,
}

/// One panel.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) width: u32,
    pub(super) height: u32,
    kind: Kind,
    source: Source,
    title: &'static str,
    description: String,
    unit: &'static str,
    queries: Vec<Query>,
    /// From which value on which colour; below the first it is green.
    steps: Vec<(f64, &'static str)>,
    max: Option<f64>,
    exemplars: bool,
    /// Series on the right axis, with their unit.
    right: Option<(&'static str, &'static str)>,
}

impl Panel {
    /// A panel of a quarter's width.
    pub(super) fn new(kind: Kind, title: &'static str, unit: &'static str, description: impl Into<String>) -> Self {
        let source = match kind {
            Kind::Logs => LOGS,
            Kind::Traces => TRACES,
            _ => METRICS,
        };
        Self {
            width: 6,
            height: if kind == Kind::Stat { 4 } else { 8 },
            kind,
            source,
            title,
            description: description.into(),
            unit,
            queries: Vec::new(),
            steps: Vec::new(),
            max: None,
            exemplars: false,
            right: None,
        }
    }

    /// One query more.
    pub(super) fn query(mut self, expr: impl Into<String>, legend: &'static str) -> Self {
        self.queries.push(Query { expr: expr.into(), legend });
        self
    }

    /// Another width.
    pub(super) fn wide(mut self, width: u32) -> Self {
        self.width = width;
        self
    }

    /// From these values on, these colours.
    pub(super) fn steps(mut self, steps: impl IntoIterator<Item = (f64, &'static str)>) -> Self {
        self.steps.extend(steps);
        self
    }

    /// The highest value there can be.
    pub(super) fn max(mut self, max: f64) -> Self {
        self.max = Some(max);
        self
    }

    /// With points that lead to traces.
    pub(super) fn exemplars(mut self) -> Self {
        self.exemplars = true;
        self
    }

    /// The series of this name on the right axis, in this unit.
    pub(super) fn right(mut self, legend: &'static str, unit: &'static str) -> Self {
        self.right = Some((legend, unit));
        self
    }

    /// As Grafana reads it.
    pub(super) fn json(self, id: u32, place: &Value) -> Value {
        let targets: Vec<Value> =
            self.queries.iter().zip('A'..).map(|(query, letter)| self.target(query, letter)).collect();
        let drawn = match self.kind {
            Kind::Lines | Kind::Stacked => "timeseries",
            Kind::Stat => "stat",
            Kind::Heatmap => "heatmap",
            Kind::Traces => "table",
            Kind::Logs => "logs",
        };
        json!({
            "id": id,
            "type": drawn,
            "title": self.title,
            "description": self.description,
            "datasource": self.source.reference(),
            "gridPos": place,
            "fieldConfig": {"defaults": self.defaults(), "overrides": self.overrides()},
            "options": self.options(),
            "targets": targets,
        })
    }

    fn target(&self, query: &Query, letter: char) -> Value {
        let (source, letter) = (self.source.reference(), letter.to_string());
        match self.kind {
            Kind::Logs => json!({"refId": letter, "datasource": source, "expr": query.expr, "queryType": "range"}),
            Kind::Traces => json!({
                "refId": letter, "datasource": source, "query": query.expr, "queryType": "traceql", "limit": 50,
                "tableType": "traces",
            }),
            Kind::Heatmap => json!({
                "refId": letter, "datasource": source, "expr": query.expr, "legendFormat": query.legend,
                "range": true, "format": "heatmap", "exemplar": self.exemplars, "editorMode": "code",
            }),
            Kind::Lines | Kind::Stacked | Kind::Stat => json!({
                "refId": letter, "datasource": source, "expr": query.expr, "legendFormat": query.legend,
                "range": true, "exemplar": self.exemplars, "editorMode": "code",
            }),
        }
    }

    fn defaults(&self) -> Value {
        let first = json!({"color": "green", "value": null});
        let steps: Vec<Value> = std::iter::once(first)
            .chain(self.steps.iter().map(|(from, color)| json!({"color": color, "value": from})))
            .collect();
        let by = match self.kind {
            Kind::Stat => "thresholds",
            _ => "palette-classic",
        };
        let mut defaults = json!({
            "unit": self.unit,
            "min": 0,
            "color": {"mode": by},
            "thresholds": {"mode": "absolute", "steps": steps},
        });
        if let (Some(max), Some(defaults)) = (self.max, defaults.as_object_mut()) {
            defaults.insert("max".to_owned(), json!(max));
        }
        if let (Kind::Lines | Kind::Stacked, Some(defaults)) = (self.kind, defaults.as_object_mut()) {
            let (fill, stacking) = if self.kind == Kind::Stacked { (60, "normal") } else { (8, "none") };
            let lines = if self.steps.is_empty() { "off" } else { "dashed" };
            defaults.insert(
                "custom".to_owned(),
                json!({
                    "drawStyle": "line", "lineWidth": 1, "fillOpacity": fill, "showPoints": "auto",
                    "stacking": {"mode": stacking, "group": "A"}, "thresholdsStyle": {"mode": lines},
                }),
            );
        }
        defaults
    }

    fn overrides(&self) -> Value {
        let Some((legend, unit)) = self.right else { return json!([]) };
        json!([{
            "matcher": {"id": "byName", "options": legend},
            "properties": [
                {"id": "unit", "value": unit},
                {"id": "custom.axisPlacement", "value": "right"},
                {"id": "max", "value": null},
            ],
        }])
    }

    fn options(&self) -> Value {
        let latest = json!({"calcs": ["lastNotNull"], "fields": "", "values": false});
        match self.kind {
            Kind::Lines | Kind::Stacked => json!({
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }),
            Kind::Stat => json!({
                "reduceOptions": latest, "colorMode": "value", "graphMode": "area", "textMode": "auto",
                "justifyMode": "auto", "orientation": "auto", "wideLayout": true, "showPercentChange": false,
                "percentChangeColorMode": "standard",
            }),
            Kind::Heatmap => json!({
                "calculate": false, "cellGap": 1, "showValue": "auto",
                "color": {
                    "mode": "scheme", "scheme": "Oranges", "steps": 64, "fill": "dark-orange", "exponent": 0.5,
                    "reverse": false,
                },
                "exemplars": {"color": "rgba(31,96,196,0.9)"}, "yAxis": {"unit": self.unit},
                "tooltip": {"mode": "single", "yHistogram": true}, "legend": {"show": true},
            }),
            Kind::Traces => json!({"showHeader": true, "cellHeight": "sm", "frameIndex": 0}),
            Kind::Logs => json!({
                "showTime": true, "sortOrder": "Descending", "wrapLogMessage": true, "prettifyLogMessage": false,
                "enableLogDetails": true, "dedupStrategy": "none", "showLabels": false, "showCommonLabels": false,
                "showLogContextToggle": true,
            }),
        }
    }
}
