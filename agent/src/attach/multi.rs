//! The object and its maps in, programs that one link attaches in many places of a file (uprobe_multi, kernel 6.6) out.
//! They need no CAP_SYS_ADMIN, and one close detaches them all. aya 0.14 loads none: this asks its own reader of
//! objects, and the kernel through `sys`.

use super::object::chain;
use super::object::verdict;
use super::plan::Probe;
use super::plan::Skip;
use crate::sys::bpf;
use aya_obj::Function;
use aya_obj::Object;
use aya_obj::generated::bpf_insn;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::ffi::CStr;
use std::ffi::CString;
use std::io;
use std::os::fd::AsFd as _;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt as _;

/// Of what the verifier says, the end.
const LOG_BYTES: usize = 64 * 1024;
/// `r0 = 0`, `exit`.
const NOTHING: [bpf::Instruction; 2] = [[0xb7, 0, 0, 0, 0, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
const GPL: &CStr = c"GPL";
/// A path that is no file, and what the kernel says of it.
const FOLDER: &CStr = c"/";
const NOT_A_FILE: i32 = 9;
const INVALID: i32 = 22;
/// More than any process: refused as such since processes, and not threads, are what such links are for.
const NO_PROCESS: u32 = u32::MAX;

/// The programs that the kernel took.
pub(super) struct Programs(BTreeMap<&'static str, OwnedFd>);

/// Whether this kernel attaches so. One that would watch a single thread, as the first that could did, does not.
///
/// # Errors
///
/// This process may not ask.
pub(super) fn offered() -> io::Result<bool> {
    let nothing =
        bpf::Program { name: "nothing", code: &NOTHING, license: GPL, types: None, functions: &[], function_bytes: 0 };
    let program = match bpf::load_program(&nothing, &mut []) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
        Err(_) => return Ok(false),
        Ok(program) => program,
    };
    let said = |pid| bpf::attach(program.as_fd(), FOLDER, &[0], &[0], pid).err().and_then(|error| error.raw_os_error());
    Ok(said(0) == Some(NOT_A_FILE) && said(NO_PROCESS) == Some(INVALID))
}

impl Programs {
    /// Loads these programs of an object, with maps that are there already; what the kernel refuses is a [`Skip`].
    ///
    /// # Errors
    ///
    /// The object cannot be used at all.
    pub(super) fn load(
        object: &[u8],
        maps: &HashMap<String, RawFd>,
        names: &[&'static str],
    ) -> Result<(Self, Vec<Skip>), String> {
        let whole = Object::parse(object).map_err(|error| chain(&error))?;
        let (object, types) = linked(whole, maps)?;
        let types = bpf::load_types(&types).map_err(|error| format!("the kernel refused its types: {error}"))?;
        let mut loaded = BTreeMap::new();
        let mut skips = Vec::new();
        for name in names {
            match load(&object, name, &types) {
                Ok(program) => drop(loaded.insert(*name, program)),
                Err(why) => skips.push(Skip { what: format!("program {name}"), why }),
            }
        }
        Ok((Self(loaded), skips))
    }

    /// Attaches probes of one program and one file to one process.
    ///
    /// # Errors
    ///
    /// What the kernel said; then none of them is attached.
    pub(super) fn attach(&self, pid: u32, probes: &[&Probe]) -> Result<OwnedFd, String> {
        let first = probes.first().ok_or("no probes")?;
        let program = self.0.get(first.program).ok_or("its program is not loaded")?;
        let path = CString::new(first.path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        let (offsets, cookies): (Vec<u64>, Vec<u64>) =
            probes.iter().map(|probe| (probe.file_offset, probe.cookie)).unzip();
        bpf::attach(program.as_fd(), &path, &offsets, &cookies, pid)
            .map_err(|error| format!("uprobe_multi of {}: {error}", first.path.display()))
    }
}

/// The object with the maps' descriptors and all calls in its code, and its types.
fn linked(mut object: Object, maps: &HashMap<String, RawFd>) -> Result<(Object, Vec<u8>), String> {
    let features = aya::features().btf().ok_or("the kernel takes no types")?;
    let types = object.fixup_and_sanitize_btf(features).map_err(|error| chain(&error))?;
    let types = types.ok_or("the object has no types")?.to_bytes();
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let known = std::mem::take(&mut object.maps);
    let known = known.iter().filter_map(|(name, map)| Some((name.as_str(), *maps.get(name)?, map)));
    object.relocate_maps(known, &text).map_err(|error| chain(&error))?;
    object.relocate_calls(&text).map_err(|error| chain(&error))?;
    Ok((object, types))
}

fn load(object: &Object, name: &str, types: &OwnedFd) -> Result<OwnedFd, String> {
    let program = object.programs.get(name).ok_or("it is not in the object")?;
    let function: &Function = object.functions.get(&program.function_key()).ok_or("its code is not in the object")?;
    let code: Vec<bpf::Instruction> = function.instructions.iter().copied().map(instruction).collect();
    let attr = bpf::Program {
        name,
        code: &code,
        license: &program.license,
        types: Some(types.as_fd()),
        functions: &function.func_info.func_info_bytes(),
        function_bytes: u32::try_from(function.func_info_rec_size).map_err(|error| error.to_string())?,
    };
    // Only what was refused is worth a log, for which everything is verified once more.
    bpf::load_program(&attr, &mut []).map_err(|error| {
        let mut log = vec![0; LOG_BYTES];
        let again = bpf::load_program(&attr, &mut log);
        drop(again);
        let text = CStr::from_bytes_until_nul(&log).unwrap_or_default().to_string_lossy();
        verdict(&format!("{error}\n{text}"))
    })
}

fn instruction(of: bpf_insn) -> bpf::Instruction {
    let [off_0, off_1] = of.off.to_ne_bytes();
    let [imm_0, imm_1, imm_2, imm_3] = of.imm.to_ne_bytes();
    [of.code, of.dst_reg() | (of.src_reg() << 4), off_0, off_1, imm_0, imm_1, imm_2, imm_3]
}
