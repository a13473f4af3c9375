//! Settings from three sources, and what is said of wrong ones.

use crate::config::Args;
use crate::config::Around;
use crate::config::Command;
use crate::config::Config;
use crate::config::EXIT_USAGE;
use crate::config::FILE;
use crate::config::exit_code;
use crate::config::value::Level;
use crate::correlate::slo::Objective;
use crate::discover::Select;
use crate::ident::EngineKind;
use crate::ident::Pid;
use crate::kit::Layout;
use crate::kit::What;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// Loads from `flags` after `run`, variables, and the text of the default file; or says what is wrong.
fn load(flags: &[&str], env: &[(&str, &str)], file: Option<&str>) -> Result<Config, String> {
    let line = ["tachograph", "run"].iter().chain(flags);
    let args = Args::read(line).map_err(|error| error.to_string())?;
    let around = Around {
        env: &|name| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
        read: &|path| match file {
            Some(text) if path == Path::new(FILE) => Ok(text.to_owned()),
            _ => Err(ErrorKind::NotFound.into()),
        },
        host: "box".to_owned(),
    };
    Config::load(args.flags(), &around).map_err(|error| error.to_string())
}

#[test]
fn without_anything_the_defaults_stand() {
    let config = load(&[], &[], None).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:9478");
    assert_eq!((config.correlate.requests_kept, config.correlate.series_cap), (1_000, 1_000));
    assert_eq!((config.ring_bytes, config.body_cap_bytes, config.level), (16 << 20, 16 << 20, Level::Full));
    assert_eq!((config.otlp.queue_bytes, config.otlp.interval), (16 << 20, Duration::from_secs(15)));
    assert!(config.otlp.traces.is_none() && config.otlp.metrics.is_none());
    assert!(config.nvml.enabled && config.scrape.enabled && config.targets.is_empty());
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    const FLAG: &[&str] = &["--requests-kept", "1"];
    const ENV: &[(&str, &str)] = &[("TACHOGRAPH_REQUESTS_KEPT", "2")];
    const TEXT: Option<&str> = Some("requests_kept = 3");
    let kept = |flags, env, file| load(flags, env, file).unwrap().correlate.requests_kept;
    assert_eq!(kept(FLAG, ENV, TEXT), 1);
    assert_eq!(kept(&[], ENV, TEXT), 2);
    assert_eq!(kept(&[], &[], TEXT), 3);
    assert_eq!(kept(&[], &[("TACHOGRAPH_REQUESTS_KEPT", "")], TEXT), 3, "an empty variable is none");
}

#[test]
fn standard_variables_stand_between_ours_and_the_file() {
    const FILE: Option<&str> = Some("[otlp]\nendpoint = 'http://file'");
    const OTEL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel");
    const OURS: (&str, &str) = ("TACHOGRAPH_OTLP_ENDPOINT", "http://ours");
    let url = |env: &[(&str, &str)]| load(&[], env, FILE).unwrap().otlp.traces.unwrap().url;
    assert_eq!(url(&[]), "http://file/v1/traces");
    assert_eq!(url(&[OTEL]), "http://otel/v1/traces");
    assert_eq!(url(&[OTEL, OURS]), "http://ours/v1/traces");
}

/// Every setting of the file, and what it becomes.
const WHOLE: &str = r#"
listen = "[::1]:80"
requests_kept = 5
series_cap = 6
ring_bytes = 65536
body_cap_bytes = 7
level = "no_tokens"
log = "debug"
[slo]
ttft_seconds = 0.2
tpot_seconds = 0.1
duration_seconds = 30
errors = false
objective = 0.9
availability = 0.99
[[slo.models]]
model = "big"
ttft_seconds = 2
errors = true
objective = 0.97
[[targets]]
exe = "llama-server"
name = "llama"
[[targets]]
port = 30000
engine = "vllm"
[otlp]
endpoint = "http://c:4317"
protocol = "grpc"
headers = "a=b"
compression = "gzip"
timeout_seconds = 0.5
interval_seconds = 60
queue_bytes = 1000
[nvml]
enabled = false
library = "/lib/nvml.so"
interval_seconds = 0.5
[scrape]
enabled = false
interval_seconds = 1
timeout_seconds = 2
api_key_file = "/etc/tachograph/tachograph.toml"
[discover]
interval_seconds = 3
[kubernetes]
enabled = true
node = "gpu-1"
cluster = "prod"
labels = ["model", "team/*"]
kubeconfig = "/etc/kubernetes/kubelet.conf"
[content]
capture = false
max_bytes = 1
redact = ["a+", '\bb']
redact_defaults = false
"#;

#[test]
fn the_file_sets_everything() {
    let config = load(&[], &[], Some(WHOLE)).unwrap();
    assert_eq!(
        (config.listen.to_string().as_str(), config.ring_bytes, config.level),
        ("[::1]:80", 65_536, Level::NoTokens)
    );
    let limits = |model| {
        let Objective { ttft_seconds, tpot_seconds, duration_seconds, errors } = config.correlate.objectives.of(model);
        ([ttft_seconds, tpot_seconds, duration_seconds].map(Option::unwrap), errors)
    };
    assert_eq!(limits("small"), ([0.2, 0.1, 30.0], Some(false)));
    assert_eq!(limits("big"), ([2.0, 0.1, 30.0], Some(true)));
    let goals = |model| (config.goals.of(model).latency(), config.goals.of(model).availability());
    assert_eq!((goals("small"), goals("big")), ((0.9, 0.99), (0.97, 0.99)));
    assert_eq!(config.targets[0].select, Select::Exe("llama-server".to_owned()));
    assert_eq!((config.targets[0].kind, config.targets[0].name.as_deref()), (EngineKind::Other, Some("llama")));
    assert_eq!((&config.targets[1].select, config.targets[1].kind), (&Select::Port(30_000), EngineKind::Vllm));
    let traces = config.otlp.traces.unwrap();
    assert_eq!((traces.url.as_str(), traces.timeout), ("http://c:4317", Duration::from_millis(500)));
    assert_eq!((config.otlp.interval, config.otlp.queue_bytes), (Duration::from_mins(1), 1_000));
    assert_eq!(config.nvml.library.as_deref(), Some(Path::new("/lib/nvml.so")));
    assert_eq!(config.nvml.interval, Duration::from_millis(500));
    assert_eq!((config.scrape.enabled, config.scrape.timeout), (false, Duration::from_secs(2)));
    assert!(config.scrape.api_key.is_some());
    assert_eq!((config.discover_interval, config.log.as_str()), (Duration::from_secs(3), "debug"));
    let kubernetes = config.kubernetes.unwrap();
    assert_eq!(
        (kubernetes.node.as_str(), kubernetes.labels.0),
        ("gpu-1", vec!["model".to_owned(), "team/*".to_owned()])
    );
    assert_eq!(kubernetes.kubeconfig.as_deref(), Some(Path::new("/etc/kubernetes/kubelet.conf")));
}

#[test]
fn the_cluster_is_asked_where_there_is_a_way_to_ask() {
    const SERVER: (&str, &str) = ("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    let asked = |flags: &[&str], env: &[(&str, &str)], token: bool| {
        let line = ["tachograph", "run"].iter().chain(flags);
        let args = Args::read(line).unwrap();
        let around = Around {
            env: &|name| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()),
            read: &|path| {
                let is_token = path.ends_with("serviceaccount/token");
                if token && is_token { Ok("t".to_owned()) } else { Err(ErrorKind::NotFound.into()) }
            },
            host: "Box".to_owned(),
        };
        let config = Config::load(args.flags(), &around).unwrap();
        let named = config.otlp.resource.iter().any(|(key, value)| key == "k8s.node.name" && value == "box");
        let asked = config.kubernetes.is_ok_and(|kubernetes| kubernetes.node == "box");
        assert_eq!(named, asked, "the resource names the node of a cluster only");
        asked
    };
    for (flags, env, token, expected) in [
        (&[][..], &[][..], false, false),
        (&[], &[SERVER], false, false),
        (&[], &[], true, false),
        (&[], &[SERVER], true, true),
        (&["--kubernetes-enabled=false"], &[SERVER], true, false),
        (&["--kubernetes-enabled=true"], &[], false, true),
        (&["--kubernetes-kubeconfig=/k"], &[], false, true),
        (&["--kubernetes-enabled=auto", "--kubernetes-kubeconfig=/k"], &[], false, true),
    ] {
        assert_eq!(asked(flags, env, token), expected, "{flags:?} {env:?} {token}");
    }
}

#[test]
fn settings_of_the_cluster_that_cannot_be_used_are_named() {
    for (file, says) in [
        ("[kubernetes]\nenabled = true\nnode = 'a,b=c'", "kubernetes.node: `a,b=c` is no name of a node"),
        ("[kubernetes]\nenabled = 'yes'", "neither auto, true nor false"),
        ("[kubernetes]\nlabel = []", "unknown field `label`"),
    ] {
        let error = load(&[], &[], Some(file)).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn variables_and_flags_take_lists() {
    let env = [
        ("TACHOGRAPH_TARGET", "exe=a,name=b;pid=7"),
        ("TACHOGRAPH_SLO_MODELS", "model=a,ttft_seconds=2,objective=0.9;model=b,errors=false"),
    ];
    let config = load(&["--slo-duration-seconds", "8", "--nvml-enabled=false"], &env, None).unwrap();
    assert_eq!(config.targets.len(), 2);
    assert_eq!(config.targets[1].select, Select::Pid(Pid(7)));
    let of = |model| config.correlate.objectives.of(model);
    let (a, b) = (of("a"), of("b"));
    assert_eq!((a.ttft_seconds, a.duration_seconds, a.errors), (Some(2.0), Some(8.0), None));
    assert_eq!((b.ttft_seconds, b.duration_seconds, b.errors), (None, Some(8.0), Some(false)));
    assert_eq!((config.goals.of("a").latency(), config.goals.of("b").latency()), (0.9, 0.95));
    assert!(!config.nvml.enabled);
}

#[test]
fn a_bad_file_is_named_with_key_and_line() {
    for (file, says) in [
        ("listen = '127.0.0.1:1'\nlisten_on = 1", ["line 2", "`listen_on`"]),
        ("\n[otlp]\nurl = 'x'", ["line 3", "`url`"]),
        ("\n\nring_bytes = 65537", ["line 3", "not a power of two"]),
        ("ring_bytes = 32768", ["line 1", "not a power of two"]),
        ("level = 'all'", ["line 1", "`no_tokens`"]),
        ("listen = 'here'", ["line 1", "listen"]),
        ("[scrape]\ninterval_seconds = 0", ["line 2", "above 0"]),
        ("[slo]\nttft_seconds = -1", ["line 2", "above 0"]),
        ("[slo]\nobjective = 95", ["line 2", "below 1"]),
        ("[[slo.models]]\nmodel = 'a'\navailability = 1", ["line 3", "below 1"]),
        ("[[slo.models]]\nerrors = true", ["line 1", "which model"]),
        ("[[targets]]\nexe = 'a'\npid = 1", ["line 1", "exactly one of"]),
        ("[[targets]]\npid = 1\nengine = 'tgi'", ["line 1", "`tgi`"]),
        ("[[targets]]\npids = 1", ["line 2", "`pids`"]),
        ("requests_kept = -1", ["line 1", "requests_kept"]),
        ("[content]\nmax_bytes = 65537", ["max_bytes", "from 1 to 65536"]),
        ("[content]\nmax_bytes = 0", ["line 2", "from 1 to 65536"]),
        ("[content]\nmask = true", ["line 2", "`mask`"]),
        ("listen_on = 1", ["line 1: `listen_on`: ", "expected one of `listen`"]),
        ("requests_kept = 'many'", ["line 1: `requests_kept`: ", "invalid type: string"]),
        ("\nrequests_kept = 1\nrequests_kept = 2", ["line 3: `requests_kept`: ", "duplicate key"]),
        ("[slo]\nttft_seconds = 1\n[slo]", ["line 3: `[slo]`: ", "duplicate key"]),
        ("listen = 'x", ["line 1: `listen`: ", "invalid literal string"]),
        ("log = 'debug'\nlisten", ["line 2: ", "`=`"]),
        ("[logs]\nok = 1.5", ["line 2: `ok`: ", "from 0 to 1"]),
        ("level = 'all'", ["line 1: `level`: ", "expected one of `full`, `no_tokens`, `head`"]),
        ("[otlp]\nllm_calls = 'x'", ["line 2: `llm_calls`: ", "expected one of `roots`, `all`, `none`"]),
        ("[otlp]\nendpoint = 'http://c'\nprotocol = 'ftp'", ["line 3: otlp.protocol: ", "neither grpc nor"]),
        ("[otlp]\nendpoint = 'c'", ["line 2: otlp.endpoint: ", "does not begin with http"]),
        ("level = 'head'\n[content]\ncapture = true", ["line 3: content.capture: ", "needs level `full`"]),
        ("content.redact = ['[']", ["line 1: content.redact: rule 1", "unclosed"]),
        ("[serve]\ntls_cert_file = 'a'", ["line 2: serve.tls_cert_file: ", "needs serve.tls_key_file"]),
        ("log = 'tachograph=loud'", ["line 1: log: ", "is no filter such as"]),
    ] {
        let error = load(&[], &[], Some(file)).unwrap_err();
        assert!(error.starts_with(FILE), "{error}");
        for word in says {
            assert!(error.contains(word), "{word}: {error}");
        }
    }
}

#[test]
fn a_bad_variable_or_flag_is_named() {
    for (variable, value, says) in [
        ("TACHOGRAPH_RING_BYTES", "1000", "not a power of two"),
        ("TACHOGRAPH_OTLP_INTERVAL_SECONDS", "often", "not a number of seconds"),
        ("TACHOGRAPH_TARGET", "exec=a", "`exec` is none of"),
        ("TACHOGRAPH_SLO_MODELS", "model=a,itl=1", "`itl` is none of"),
        ("TACHOGRAPH_SLO_AVAILABILITY", "99.5", "not a share"),
        ("TACHOGRAPH_SLO_MODELS", "model=a,objective=2", "not a share"),
        ("TACHOGRAPH_LEVEL", "all", "invalid value 'all'"),
        ("TACHOGRAPH_OTLP_PROTOCOL", "ftp", "neither grpc nor"),
    ] {
        let error = load(&["--otlp-endpoint", "http://c"], &[(variable, value)], None).unwrap_err();
        let named = error.starts_with(variable) || error.starts_with("otlp.protocol");
        assert!(named && error.contains(says), "{error}");
        assert!(!error.contains('\n'), "one sentence: {error}");
    }
    assert!(load(&["--ring-bytes", "7"], &[], None).unwrap_err().contains("--ring-bytes"));
    assert!(load(&[], &[("TACHOGRAPH_SERVICE_HOST", "10.0.0.1")], None).is_ok(), "not ours");
}

#[test]
fn the_key_for_engines_comes_from_a_file_or_a_variable_and_is_shown_nowhere() {
    let key = |flags: &[&str], env: &[(&str, &str)], file| {
        let scrape = load(flags, env, file).unwrap().scrape;
        assert!(!format!("{scrape:?}").contains("k3y"));
        scrape.api_key.map(|key| key.0)
    };
    let variable = ("TACHOGRAPH_SCRAPE_API_KEY", " k3y\n");
    assert_eq!(key(&[], &[variable], None).as_deref(), Some("k3y"));
    assert_eq!(key(&["--scrape-api-key-file", FILE], &[variable], Some("log = 'x'")).as_deref(), Some("log = 'x'"));
    assert_eq!(key(&[], &[("TACHOGRAPH_SCRAPE_API_KEY", "")], None), None);
    assert!(load(&["--scrape-api-key-file", "/no"], &[], None).unwrap_err().starts_with("/no: "));
    assert!(load(&["--scrape-api-key", "k3y"], &[], None).is_err(), "a command line is public");
}

#[test]
fn content_is_captured_only_where_that_is_wanted() {
    let bytes = |file| load(&[], &[], file).unwrap().content.map(|capture| capture.max_bytes());
    assert_eq!(bytes(None), None);
    assert_eq!(bytes(Some("[content]\nmax_bytes = 5\nredact = ['a']")), None);
    assert_eq!(bytes(Some("[content]\ncapture = true")), Some(16_384));
    assert_eq!(bytes(Some("[content]\ncapture = true\nmax_bytes = 65536")), Some(65_536));
    let rules = load(&["--content-capture=true"], &[("TACHOGRAPH_CONTENT_REDACT", "a+\nb,c")], None).unwrap();
    assert!(rules.correlate.redact.is_some(), "what is captured is redacted");
}

#[test]
fn content_settings_that_cannot_be_used_are_named() {
    for (flags, says) in [
        (["--content-capture=true", "--level=no_tokens"], ["content.capture: ", "level `full`"]),
        (["--content-capture=true", "--level=head"], ["content.capture: ", "level `full`"]),
        (["--content-redact=a", "--content-redact=(b"], ["content.redact: rule 2 (`(b`)", "unclosed group"]),
        (["--content-capture=false", "--content-redact=["], ["content.redact: rule 1 (`[`)", "unclosed"]),
        (["--content-capture=true", "--content-max-bytes=65537"], ["--content-max-bytes", "from 1 to 65536"]),
    ] {
        let error = load(&flags, &[], None).unwrap_err();
        assert!(says.iter().all(|word| error.contains(word)), "{error}");
    }
}

#[test]
fn a_file_is_not_blamed_for_what_stands_elsewhere_and_no_value_is_shown() {
    const ENDPOINT: &str = "[otlp]\nendpoint = 'http://c'\nprotocol = 'grpc'";
    assert!(load(&["--otlp-protocol=ftp"], &[], Some(ENDPOINT)).unwrap_err().starts_with("otlp.protocol: "));
    let bad = [("OTEL_EXPORTER_OTLP_PROTOCOL", "ftp")];
    assert!(load(&[], &bad, Some(ENDPOINT)).unwrap_err().starts_with("OTEL_EXPORTER_OTLP_PROTOCOL: "));
    for file in ["[otlp]\nheaders = ['s3cret']", "[otlp]\nheaders = 's3cret"] {
        let error = load(&[], &[], Some(file)).unwrap_err();
        assert!(error.contains("line 2: `headers`: ") && !error.contains("s3cret"), "{error}");
    }
}

#[test]
fn a_named_file_must_be_there() {
    assert!(load(&["--config", "/else.toml"], &[], None).unwrap_err().starts_with("/else.toml: "));
    assert!(load(&[], &[("TACHOGRAPH_CONFIG", "/other.toml")], None).unwrap_err().starts_with("/other.toml: "));
}

#[test]
fn commands_are_read() {
    let read = |line: &[&str]| Args::read(std::iter::once(&"tachograph").chain(line));
    let record = read(&["record", "--out", "a", "--seconds", "3", "--with-content", "--level", "head"]).unwrap();
    assert!(matches!(record.command, Command::Record { seconds: Some(3), with_content: true, .. }));
    assert_eq!(record.flags().settings.level, Some(Level::Head));
    assert!(matches!(read(&["replay", "tape"]).unwrap().command, Command::Replay { .. }));
    assert!(matches!(read(&["check"]).unwrap().command, Command::Check { .. }));
    let generate = read(&["generate", "alerts", "--out", "a", "--layout", "cluster"]).unwrap();
    assert!(matches!(generate.command, Command::Generate { what: What::Alerts, layout: Layout::Cluster, .. }));
    assert_eq!(exit_code(&read(&["run", "--nonsense"]).unwrap_err()), EXIT_USAGE);
    assert_eq!(exit_code(&read(&["--help"]).unwrap_err()), 0);
    assert_eq!(exit_code(&read(&[]).unwrap_err()), EXIT_USAGE);
}
