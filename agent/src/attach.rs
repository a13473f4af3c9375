//! Targets in, attached probes out; dropping an attachment detaches it. No return probes, ever: from
//! kernel 6.11 on they can kill a process under a seccomp filter.

use crate::discover::Change;
use crate::discover::Closes;
use crate::discover::Object as File;
use crate::discover::Target;
use crate::ident::EngineId;
use crate::ident::EngineKind;
use crate::ident::Pid;
use crate::ident::ProcessId;
use crate::ident::Role;
use crate::vitals::Vitals;
use agent_ebpf::map::TargetState;
use aya::programs::uprobe::UProbeLink;
use plan::Skip;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::thread;

pub mod code;
pub mod elf;
pub mod object;
pub mod plan;

/// Threads that detach at a time.
const DETACHERS: usize = 32;

/// A process that is traced from now on, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// Traced from now on.
    Follows {
        /// The process.
        process: ProcessId,
        /// Its engine.
        engine: EngineId,
        /// Its engine's kind.
        kind: EngineKind,
        /// What it does there.
        role: Role,
        /// Whether it ran before.
        late: bool,
    },
    /// Traced no longer.
    Left(Pid),
}

/// What is attached to one target.
pub struct Attachment {
    /// The target as it was when last planned.
    pub target: Target,
    /// What is attached, a line each: object, function, program.
    pub attached: BTreeSet<String>,
    /// What is not, and why.
    pub skipped: Vec<Skip>,
    done: BTreeSet<File>,
    links: Vec<UProbeLink>,
}

/// All attachments of this node.
pub struct Attach {
    object: object::Object,
    copies: TargetState,
    attachments: BTreeMap<Pid, Attachment>,
}

impl Attach {
    /// Nothing attached yet; `copies` is how much of each message is copied.
    pub fn new(object: object::Object, copies: TargetState) -> Self {
        Self { object, copies, attachments: BTreeMap::new() }
    }

    /// What is attached where.
    pub fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        self.attachments.values()
    }

    /// Programs that the kernel refused as a whole.
    pub fn refused(&self) -> &[Skip] {
        self.object.skips()
    }

    /// Follows one change; each probe that cannot be attached is a [`Skip`] and not a failure of the rest.
    ///
    /// `announce` hears of a new target before anything of it is copied.
    pub fn apply(&mut self, change: Change, vitals: &Vitals, announce: &mut dyn FnMut(Attached)) {
        match change {
            Change::Gone(pid) => self.leave(pid, announce),
            Change::Appeared(target) => self.follow(target, vitals, announce),
        }
    }

    fn leave(&mut self, pid: Pid, announce: &mut dyn FnMut(Attached)) {
        let Some(attachment) = self.attachments.remove(&pid) else { return };
        self.object.forget(pid.0);
        announce(Attached::Left(pid));
        let probes = attachment.links.len();
        detach(attachment.links);
        tracing::info!(pid = pid.0, probes, "detached");
    }

    fn follow(&mut self, target: Target, vitals: &Vitals, announce: &mut dyn FnMut(Attached)) {
        let pid = target.process.pid;
        let known = self.attachments.get(&pid);
        // A pid that was used again, or a child that has become something else, starts from nothing.
        if known.is_some_and(|known| known.target.process != target.process || known.target.role != target.role) {
            self.leave(pid, announce);
        }
        let new = !self.attachments.contains_key(&pid);
        let mut attachment = self.attachments.remove(&pid).unwrap_or_else(|| Attachment {
            target: target.clone(),
            attached: BTreeSet::new(),
            skipped: Vec::new(),
            done: BTreeSet::new(),
            links: Vec::new(),
        });
        for file in target.objects.difference(&attachment.done.clone()) {
            self.attach_file(&target, file, &mut attachment, vitals);
        }
        // Only now, so that of what began before nothing is seen by some probes and missed by others.
        if new {
            announce(Attached::Follows {
                process: target.process,
                engine: target.engine,
                kind: target.kind,
                role: target.role,
                late: target.late,
            });
        }
        if let Err(why) = self.object.follow(pid.0, self.copies) {
            attachment.skipped.push(Skip { what: format!("process {pid}"), why });
        }
        let probes = attachment.links.len();
        if new {
            tracing::info!(pid = pid.0, role = ?target.role, late = target.late, probes, "attached");
        }
        attachment.target = target;
        self.attachments.insert(pid, attachment);
    }

    fn attach_file(&mut self, target: &Target, file: &File, attachment: &mut Attachment, vitals: &Vitals) {
        attachment.done.insert(file.clone());
        let (probes, mut skips) = match plan::plan(file, target.role, target.closes == Closes::BySyscall) {
            Ok(planned) => planned,
            Err(error) => (Vec::new(), vec![Skip { what: file.name.clone(), why: error.to_string() }]),
        };
        for probe in &probes {
            match self.object.attach(target.process.pid.0, probe) {
                Ok(link) => {
                    attachment.links.push(link);
                    attachment.attached.insert(format!("{} {} → {}", probe.object, probe.function, probe.program));
                }
                Err(why) => skips.push(Skip { what: format!("{} {}", probe.object, probe.function), why }),
            }
        }
        for skip in &skips {
            vitals.probes_skipped.one();
            tracing::warn!(pid = target.process.pid.0, what = %skip.what, why = %skip.why, "probe not attached");
        }
        attachment.skipped.extend(skips);
    }
}

impl Drop for Attach {
    fn drop(&mut self) {
        let attachments = std::mem::take(&mut self.attachments);
        detach(attachments.into_values().flat_map(|attachment| attachment.links).collect());
    }
}

/// Detaches side by side: for each link the kernel waits until no CPU can be inside its probe any more.
fn detach(links: Vec<UProbeLink>) {
    let mut lots: Vec<Vec<UProbeLink>> = Vec::new();
    lots.resize_with(DETACHERS.min(links.len()), Vec::new);
    for (at, link) in links.into_iter().enumerate() {
        if let Some(lot) = lots.get_mut(at % DETACHERS) {
            lot.push(link);
        }
    }
    thread::scope(|scope| {
        for lot in lots {
            scope.spawn(move || drop(lot));
        }
    });
}
