//! The eBPF object in, a copy at `OUT_DIR/probes.o` out; an empty one where there is none.
//!
//! `TACHOGRAPH_BPF` names the object; without it the one that `cargo xtask bpf` left in `target` is taken.
//! With the empty one everything builds, and the agent can do whatever needs no probes.

use std::error::Error;
use std::path::Path;
use std::path::PathBuf;

/// Where `cargo xtask bpf` leaves the object, from this package's folder.
const BUILT: &str = "../target/bpf/probes.o";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=TACHOGRAPH_BPF");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("probes.o");
    let named = std::env::var_os("TACHOGRAPH_BPF").map(PathBuf::from);
    // Not `env!`: a build folder that was copied from elsewhere would bring the object of that place.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets CARGO_MANIFEST_DIR")?;
    let object = named.clone().unwrap_or_else(|| Path::new(&package).join(BUILT));
    println!("cargo::rerun-if-changed={}", object.display());
    match std::fs::read(&object) {
        Ok(bytes) => std::fs::write(out, bytes)?,
        Err(error) if named.is_some() => return Err(format!("TACHOGRAPH_BPF={}: {error}", object.display()).into()),
        Err(_) => {
            println!("cargo::warning=built without eBPF programs; `cargo xtask build` builds them too");
            std::fs::write(out, [])?;
        }
    }
    Ok(())
}
