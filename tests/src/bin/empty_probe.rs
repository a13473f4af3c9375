//! A pid in; an empty uprobe on every way in which that process sends, until standard input ends, out.

use anyhow::Context as _;
use anyhow::Result;
use anyhow::bail;
use std::io::Read as _;
use std::path::PathBuf;
use tachograph::attach::Kernel as _;
use tachograph::attach::object;
use tachograph::attach::object::Way;
use tachograph::attach::plan;
use tachograph::attach::plan::Probe;
use tachograph::discover::FileId;
use tachograph::discover::Object;
use tachograph::discover::ObjectKind;
use tachograph::ident::Role;

const RING_BYTES: u32 = 65_536;

fn main() -> Result<()> {
    let pid: u32 = std::env::args().nth(1).context("usage: empty_probe PID")?.parse()?;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let libc = maps.lines().filter_map(|line| line.split_whitespace().last()).find(|path| path.contains("/libc.so"));
    let name = libc.context("a process without libc")?.to_owned();
    let path = PathBuf::from(format!("/proc/{pid}/root{name}"));
    let (probes, _) =
        plan::plan(&Object { kind: ObjectKind::Libc, path, name, file: FileId::default() }, Role::Frontend, false)?;
    let config = object::Config { ring_bytes: RING_BYTES, keep_losses: false, way: Way::offered() };
    let object::Loaded { mut object, .. } = object::Object::load(config)?;
    let sends = probes.into_iter().filter(|probe| ["write", "send"].contains(&probe.function));
    let probes: Vec<Probe> = sends.map(|probe| Probe { program: "empty", ..probe }).collect();
    let attached = object.attach(pid, &probes);
    if let Some((_, why)) = attached.refused.first() {
        bail!("{why}");
    }
    #[expect(clippy::print_stdout, reason = "whoever started this waits for it")]
    {
        println!("attached {}", probes.len());
    }
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
