//! Exposition text in, line by line; [`Point`]s out. Prometheus text 0.0.4 and OpenMetrics 1.0, read tolerantly.
//!
//! A line that is none of the format's is counted and passed over: one bad exporter must not hide the others
//! that share its page. Metadata and exemplars are recognised and dropped, for nothing here needs them.

use std::borrow::Cow;

/// Which of the two formats a page is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text exposition.
    Prometheus,
    /// OpenMetrics: ends in `# EOF`, may carry exemplars.
    OpenMetrics,
}

impl Format {
    /// By content type where it names one of the two, else by the end mark that only OpenMetrics has.
    pub fn of(content_type: Option<&str>, page: &str) -> Self {
        let media = content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
        if media.eq_ignore_ascii_case("application/openmetrics-text") {
            Self::OpenMetrics
        } else if media.eq_ignore_ascii_case("text/plain") || page.trim_end().lines().next_back() != Some("# EOF") {
            Self::Prometheus
        } else {
            Self::OpenMetrics
        }
    }
}

/// One sample of a page.
#[derive(Debug, Clone, PartialEq)]
pub struct Point<'a> {
    /// The sample's own name, suffixes such as `_total` and `_bucket` included.
    pub name: &'a str,
    /// Labels in the page's order, values unescaped.
    pub labels: Vec<(&'a str, Cow<'a, str>)>,
    /// The value; NaN and the infinities are values.
    pub value: f64,
    /// When it was so, in the unit of the page's format; most engines do not say.
    pub timestamp: Option<f64>,
}

impl Point<'_> {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_ref())
    }
}

/// A page being read.
#[derive(Debug)]
pub struct Parser {
    format: Format,
    ended: bool,
    bad_lines: u64,
}

impl Parser {
    /// At the top of a page.
    pub fn new(format: Format) -> Self {
        Self { format, ended: false, bad_lines: 0 }
    }

    /// Reads one line **with** its line feed. A sample line without one was cut, and so may its value be: it is bad.
    pub fn line<'a>(&mut self, line: &'a str) -> Option<Point<'a>> {
        let text = line.trim_matches(BLANKS);
        if text.is_empty() {
            return None;
        }
        if let Some(comment) = text.strip_prefix('#') {
            self.ended |= self.format == Format::OpenMetrics && comment == " EOF";
            return None;
        }
        let point = if self.ended || !line.ends_with('\n') { None } else { sample(self.format, text) };
        self.bad_lines += u64::from(point.is_none());
        point
    }

    /// Lines so far that should have been samples.
    pub fn bad_lines(&self) -> u64 {
        self.bad_lines
    }

    /// Whether the page is known to lack its end. Prometheus text has no end mark, so it never is.
    pub fn is_cut(&self) -> bool {
        self.format == Format::OpenMetrics && !self.ended
    }
}

const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];

/// `name{labels} value [timestamp] [# exemplar]`
fn sample(format: Format, text: &str) -> Option<Point<'_>> {
    let (name, rest) = text.split_at_checked(text.find(['{', ' ', '\t'])?)?;
    if !is_name(name) {
        return None;
    }
    let (labels, rest) = match rest.trim_start_matches(BLANKS).strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Vec::new(), rest),
    };
    let figures = match rest.split_once('#') {
        Some((figures, exemplar)) => (format == Format::OpenMetrics && is_exemplar(exemplar)).then_some(figures)?,
        None => rest,
    };
    let (value, timestamp) = value(figures)?;
    Some(Point { name, labels, value, timestamp })
}

/// A value and perhaps a timestamp.
fn value(figures: &str) -> Option<(f64, Option<f64>)> {
    let mut words = figures.split_ascii_whitespace();
    let value = words.next()?.parse().ok()?;
    let timestamp = match words.next() {
        Some(word) => Some(word.parse::<f64>().ok().filter(|at| at.is_finite())?),
        None => None,
    };
    words.next().is_none().then_some((value, timestamp))
}

fn is_exemplar(text: &str) -> bool {
    let exemplar = text.trim_start_matches(BLANKS).strip_prefix('{').and_then(labels);
    exemplar.is_some_and(|(_, figures)| value(figures).is_some())
}

/// Labels with their values unescaped.
type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// What follows `{`: the labels, and the text after `}`.
fn labels(mut rest: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches(BLANKS);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_matches(BLANKS);
        if !is_name(name) {
            return None;
        }
        let (value, after) = quoted(after.trim_start_matches(BLANKS).strip_prefix('"')?)?;
        labels.push((name, value));
        rest = after.trim_start_matches(BLANKS);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return None,
        }
    }
}

/// What follows an opening quote: the unescaped value, and the text after the closing quote.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let (plain, rest) = text.split_at_checked(text.find(['"', '\\'])?)?;
    if let Some(after) = rest.strip_prefix('"') {
        return Some((Cow::Borrowed(plain), after));
    }
    let mut value = plain.to_owned();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return Some((Cow::Owned(value), chars.as_str())),
            '\\' => match chars.next()? {
                'n' => value.push('\n'),
                escaped @ ('\\' | '"') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            plain => value.push(plain),
        }
    }
}

fn is_name(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    text.starts_with(letter) && text.chars().all(|c| letter(c) || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use Format::OpenMetrics;
    use Format::Prometheus;

    /// A line as `name|label=value;…|value`, or `bad`, or `-` for what is no sample.
    fn read(format: Format, line: &str) -> String {
        let mut parser = Parser::new(format);
        let whole = format!("{line}\n");
        match parser.line(&whole) {
            Some(point) => {
                let labels: Vec<String> = point.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("{}|{}|{}", point.name, labels.join(";"), point.value)
            }
            None if parser.bad_lines() == 1 => "bad".to_owned(),
            None => "-".to_owned(),
        }
    }

    #[test]
    fn lines_that_both_formats_share() {
        for (line, expected) in [
            ("up 1", "up||1"),
            ("up{} 1", "up||1"),
            ("vllm:num_requests_running{engine=\"0\"} 3.0", "vllm:num_requests_running|engine=0|3"),
            ("a{b=\"c\",} 1", "a|b=c|1"),
            ("a { b = \"c\" , d=\"e\" } 1", "a|b=c;d=e|1"),
            ("\ta\t1\t\r", "a||1"),
            (r#"a{b="q\"uo}te",c="back\\slash",d="\t"} 1"#, r#"a|b=q"uo}te;c=back\slash;d=\t|1"#),
            (r#"a{b="two\nlines"} 1"#, "a|b=two\nlines|1"),
            ("a{b=\"# {} = ,\"} 1", "a|b=# {} = ,|1"),
            ("a{b=\"ünïcödé\"} 1", "a|b=ünïcödé|1"),
            ("a_total 1e3", "a_total||1000"),
            ("a NaN", "a||NaN"),
            ("a +Inf", "a||inf"),
            ("a -Inf", "a||-inf"),
            ("a_bucket{le=\"+Inf\"} 7 1700000000123", "a_bucket|le=+Inf|7"),
            ("a 1 1700000000.5", "a||1"),
            ("# HELP a b", "-"),
            ("#", "-"),
            ("", "-"),
            ("   ", "-"),
            ("a", "bad"),
            ("a ", "bad"),
            ("a one", "bad"),
            ("a 1 2 3", "bad"),
            ("a 1 soon", "bad"),
            ("1a 1", "bad"),
            ("{a=\"b\"} 1", "bad"),
            ("ä 1", "bad"),
            ("a{b=c} 1", "bad"),
            ("a{b=\"c\" 1", "bad"),
            ("a{b=\"c} 1", "bad"),
            ("a{b=\"c\\", "bad"),
            ("a{b} 1", "bad"),
            ("a{1b=\"c\"} 1", "bad"),
            ("a{b=\"c\"d=\"e\"} 1", "bad"),
            ("<html><body>Not Found</body></html>", "bad"),
            ("{\"detail\": \"Not Found\"}", "bad"),
        ] {
            assert_eq!(read(Prometheus, line), expected, "{line}");
            assert_eq!(read(OpenMetrics, line), expected, "{line}");
        }
    }

    #[test]
    fn exemplars_belong_to_openmetrics() {
        for (line, expected) in [
            (r#"a_bucket{le="1"} 7 # {trace_id="ab"} 0.5 1.7e9"#, "a_bucket|le=1|7"),
            ("a_total 7 1.7e9 # {trace_id=\"ab\",x=\"#\"} 0.5", "a_total||7"),
            ("a_total 7 # {} 1", "a_total||7"),
            ("a_total 7 # {", "bad"),
            ("a_total 7 # trace", "bad"),
            ("a_total 7 # {} ", "bad"),
        ] {
            assert_eq!(read(OpenMetrics, line), expected, "{line}");
            assert_eq!(read(Prometheus, line), "bad", "{line}");
        }
    }

    #[test]
    fn the_format_is_told_by_content_type_then_by_end_mark() {
        let ended = "a 1\n# EOF\n";
        for (content_type, page, expected) in [
            (Some("application/openmetrics-text; version=1.0.0; charset=utf-8"), "a 1\n", OpenMetrics),
            (Some("text/plain; version=0.0.4; charset=utf-8"), ended, Prometheus),
            (Some("application/json"), ended, OpenMetrics),
            (Some(""), "a 1\n", Prometheus),
            (None, ended, OpenMetrics),
            (None, "# EOF", OpenMetrics),
            (None, "", Prometheus),
            (None, "# EOF\na 1\n", Prometheus),
        ] {
            assert_eq!(Format::of(content_type, page), expected, "{content_type:?} {page:?}");
        }
    }

    #[test]
    fn openmetrics_ends_at_its_mark() {
        let mut parser = Parser::new(OpenMetrics);
        assert!(parser.line("a 1\n").is_some());
        assert!(parser.is_cut());
        assert!(parser.line("# EOF\n").is_none());
        assert!(!parser.is_cut());
        assert_eq!((parser.line("b 1\n"), parser.bad_lines()), (None, 1));
    }

    /// Whatever is left of a page, what is still read from it was on the page.
    #[test]
    fn a_cut_at_any_byte_gives_a_prefix_of_the_points() {
        let page = concat!(
            "# HELP a help with \\n and ünïcödé\n# TYPE a gauge\n",
            "a{b=\"ü\\\"x\\\\\",c=\"\"} 12.5 1700000000\n",
            "a_total 34 # {trace_id=\"ab\"} 0.5 1.7e9\n",
            "b +Inf\n# EOF\n"
        );
        let points = |text: &str| -> Vec<String> {
            let mut parser = Parser::new(OpenMetrics);
            text.split_inclusive('\n').filter_map(|line| parser.line(line).map(|point| format!("{point:?}"))).collect()
        };
        let whole = points(page);
        assert_eq!(whole.len(), 3);
        for cut in 0..page.len() {
            let left = String::from_utf8_lossy(&page.as_bytes()[..cut]);
            assert!(whole.starts_with(&points(&left)), "cut at {cut}");
            let right = String::from_utf8_lossy(&page.as_bytes()[cut..]);
            assert!(points(&right).len() <= whole.len(), "cut before {cut}");
        }
    }
}
