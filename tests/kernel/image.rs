//! The image as helm/Containerfile makes it, run by crun with what the chart grants: it records like the bare binary.
//!
//! Its base is a root with this system's glibc, in the place of the one that only a registry of images has.

use agent_tests::gate;
use agent_tests::gate::Tools;
use agent_tests::scratch::Scratch;
use agent_tests::stage::Stage;
use agent_tests::standin::Birth;
use agent_tests::standin::Wire;
use anyhow::Context as _;
use anyhow::Result;
use anyhow::ensure;
use serde_json::Value;
use serde_json::json;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

const BASE: &str = "localhost/base:test";
const IMAGE: &str = "localhost/tachograph:test";
/// The chart with no value at all, as it is stored.
const CHART: &str = include_str!("../golden/chart/defaults.yaml");

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn ran(command: &mut Command) -> Result<String> {
    let out = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8(out.stdout)?.trim().to_owned())
}

/// The items of a list in the stored chart.
fn listed(key: &str) -> Vec<&'static str> {
    let after = CHART.lines().skip_while(|line| line.trim() != key).skip(1).map(str::trim);
    after.filter(|line| !line.starts_with('#')).map_while(|line| line.strip_prefix("- ")).collect()
}

/// The agent's file in the stored chart.
fn settings() -> String {
    let after = CHART.lines().skip_while(|line| !line.ends_with("tachograph.toml: |")).skip(1);
    after.map_while(|line| line.strip_prefix("    ")).flat_map(|line| [line, "\n"]).collect()
}

/// A built image, mounted.
struct Image {
    scratch: Scratch,
    root: PathBuf,
    settings: Value,
}

impl Image {
    fn build(tools: &Tools) -> Result<Self> {
        let scratch = Scratch::new("image")?;
        let (base, context) = (scratch.file("base"), scratch.file("context"));
        std::fs::create_dir_all(&context)?;
        ran(Command::new("strip").arg("-o").arg(context.join("tachograph")).arg(&tools.agent))?;
        // All that the binary links: what is left of a base for programs in C.
        for word in ran(Command::new("ldd").arg(&tools.agent))?.split_whitespace().filter(|it| it.starts_with('/')) {
            let to = base.join(word.trim_start_matches('/'));
            std::fs::create_dir_all(to.parent().context("no folder")?)?;
            std::fs::copy(word, to)?;
        }
        let file = scratch.file("Basefile");
        std::fs::write(&file, "FROM scratch\nCOPY . /\n")?;
        let mut image = Self { root: PathBuf::new(), settings: Value::Null, scratch };
        ran(image.buildah("build").arg("--file").arg(&file).args(["--tag", BASE]).arg(&base))?;
        let build = &mut image.buildah("build");
        build.args(["--pull-never", "--build-arg", &format!("BASE={BASE}"), "--build-arg", "VERSION=1.2.3"]);
        ran(build.arg("--file").arg(here("../helm/Containerfile")).args(["--tag", IMAGE]).arg(&context))?;
        let said = ran(image.buildah("inspect").args(["--type", "image", IMAGE]))?;
        let said: Value = serde_json::from_str(&said)?;
        image.settings = said.pointer("/OCIv1/config").context("no settings of the image")?.clone();
        let container = ran(image.buildah("from").args(["--pull-never", IMAGE]))?;
        image.root = ran(image.buildah("mount").arg(container))?.into();
        Ok(image)
    }

    fn buildah(&self, order: &str) -> Command {
        let mut command = Command::new("buildah");
        command.args(["--storage-driver", "vfs", "--root"]).arg(self.scratch.file("storage"));
        command.arg("--runroot").arg(self.scratch.file("run")).arg(order);
        if order == "build" {
            command.args(["--isolation", "chroot"]);
        }
        command
    }

    /// What the runtime is told, with these capabilities.
    fn told(&self, capabilities: &str, bpf: &str) -> Result<Vec<(&'static str, String)>> {
        let bundle = self.scratch.file(&format!("bundle-{bpf}-{}", capabilities.len()));
        std::fs::create_dir_all(bundle.join("settings"))?;
        std::fs::write(bundle.join("settings/tachograph.toml"), settings())?;
        Ok(vec![
            ("IMAGE_ROOT", self.root.display().to_string()),
            ("IMAGE_BUNDLE", bundle.display().to_string()),
            ("IMAGE_CAPABILITIES", capabilities.to_owned()),
            ("IMAGE_BPF", bpf.to_owned()),
        ])
    }

    /// The agent's own word of what it needs and has there.
    fn check(&self, capabilities: &str, bpf: &str) -> Result<Output> {
        let mut command = Command::new(here("kernel/image/runtime.py"));
        Ok(command.args(["check", "--nvml-enabled=false"]).envs(self.told(capabilities, bpf)?).output()?)
    }
}

#[test]
fn it_holds_the_binary_and_starts_as_the_chart_says() -> Result<()> {
    let Some(tools) = gate::image()? else { return Ok(()) };
    let image = Image::build(&tools)?;
    let Value::Object(settings) = &image.settings else { anyhow::bail!("no settings of the image") };
    assert_eq!(settings["User"], "0:0");
    assert_eq!(settings["Entrypoint"], json!(["/usr/bin/tachograph"]));
    assert_eq!(settings["Cmd"], json!([listed("args:").first()]));
    assert_eq!(settings["Labels"]["org.opencontainers.image.version"], "1.2.3");
    let inside = ran(Command::new("find").arg(&image.root).args(["-type", "f", "-not", "-name", "*.so*"]))?;
    assert_eq!(Path::new(&inside), image.root.join("usr/bin/tachograph"));
    Ok(())
}

#[test]
fn it_records_with_what_the_chart_grants() -> Result<()> {
    let Some(tools) = gate::image()? else { return Ok(()) };
    let image = Image::build(&tools)?;
    let told = image.told(&listed("add:").join(" "), "yes")?;
    let told: Vec<(&str, &str)> = told.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let contained = Tools { agent: here("kernel/image/runtime.py"), ..tools };
    let mut stage = Stage::open_with(&contained, &told)?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", stage.agent.pid()))?;
    for line in ["Name:\ttachograph", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.lines().any(|it| it == line), "not `{line}` but\n{status}");
    }
    let mut player = stage.enter(Birth::New, "plain", Wire::Plain)?;
    let seen = player.load("calm")?;
    stage.leave(player, seen)?.verify().map(drop)
}

/// What the runtime keeps from it is really kept, and the agent says what it is.
#[test]
fn it_says_what_a_node_withholds() -> Result<()> {
    let Some(tools) = gate::image()? else { return Ok(()) };
    let image = Image::build(&tools)?;
    let granted = listed("add:").join(" ");
    for (capabilities, bpf, said) in [
        (granted.as_str(), "yes", ""),
        (granted.as_str(), "no", "programs"),
        ("PERFMON SYS_PTRACE", "yes", "CAP_BPF"),
        ("BPF PERFMON", "yes", "CAP_SYS_PTRACE"),
    ] {
        let out = image.check(capabilities, bpf)?;
        let words = [out.stdout, out.stderr].concat();
        let words = String::from_utf8_lossy(&words);
        assert_eq!(out.status.success(), said.is_empty(), "{capabilities}: {words}");
        let missing = words.lines().any(|line| line.starts_with("missing") && line.contains(said));
        assert!(said.is_empty() || missing, "{capabilities}: no `{said}` is missing in\n{words}");
    }
    Ok(())
}
