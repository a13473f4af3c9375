//! Targets in, attached probes out; dropping an attachment detaches it. No return probes, ever: from
//! kernel 6.11 on they can kill a process under a seccomp filter.

use crate::discover::Change;
use crate::discover::Closes;
use crate::discover::FileId;
use crate::discover::Object as File;
use crate::discover::ObjectKind;
use crate::discover::Target;
use crate::ident::EngineId;
use crate::ident::EngineKind;
use crate::ident::Pid;
use crate::ident::ProcessId;
use crate::ident::Role;
use crate::vitals::Vitals;
use agent_ebpf::map::TargetState;
use plan::Probe;
use plan::Skip;
use release::Release;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::thread;

pub mod code;
pub mod elf;
mod group;
mod multi;
pub mod object;
pub mod plan;
pub mod release;
#[cfg(test)]
mod tests;

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

/// What attaching some probes gave.
pub struct Outcome<'a, L> {
    /// What holds those that are attached.
    pub links: Vec<L>,
    /// Those that are not, and what the kernel said.
    pub refused: Vec<(&'a Probe, String)>,
}

/// What attaching asks of the kernel side.
pub trait Kernel {
    /// One attached probe or several, let go of when dropped.
    type Link: Send + 'static;

    /// From now on the kernel side copies what this process moves.
    ///
    /// # Errors
    ///
    /// The table is full; the text says so.
    fn follow(&mut self, pid: u32, state: TargetState) -> Result<(), String>;

    /// From now on the kernel side copies nothing of this process, and begins to keep nothing.
    fn unfollow(&mut self, pid: u32);

    /// Frees what the kernel side kept of a process that is not followed.
    fn free(&mut self, pid: u32);

    /// Attaches probes to one process. Never a return probe.
    fn attach<'a>(&mut self, pid: u32, probes: &'a [Probe]) -> Outcome<'a, Self::Link>;
}

/// What becomes of a process that is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing of it runs any more.
    Gone,
    /// It lives on.
    Lives,
}

/// What is attached to one target.
pub struct Attachment<L = object::Link> {
    /// The target as it was when last planned.
    pub target: Target,
    /// What is attached, a line each: object, function, program.
    pub attached: BTreeSet<String>,
    /// What is not, and why.
    pub skipped: Vec<Skip>,
    /// Files that were looked at, by what they are and as what: one that is renamed is not probed again.
    done: BTreeSet<(ObjectKind, FileId)>,
    probes: usize,
    links: Vec<L>,
}

/// All attachments of this node.
pub struct Attach<K: Kernel = object::Object> {
    kernel: K,
    copies: TargetState,
    attachments: BTreeMap<Pid, Attachment<K::Link>>,
    release: Release<K::Link>,
}

impl<K: Kernel> Attach<K> {
    /// Nothing attached yet; `copies` is how much of each message is copied.
    pub fn new(kernel: K, copies: TargetState) -> Self {
        Self { kernel, copies, attachments: BTreeMap::new(), release: Release::start() }
    }

    /// What is attached where.
    pub fn attachments(&self) -> impl Iterator<Item = &Attachment<K::Link>> {
        self.attachments.values()
    }

    /// Follows one change; each probe that cannot be attached is a [`Skip`] and not a failure of the rest.
    ///
    /// `announce` hears of a new target before anything of it is copied.
    pub fn apply(&mut self, change: Change, vitals: &Vitals, announce: &mut dyn FnMut(Attached)) {
        match change {
            Change::Gone(pid) => self.leave(pid, Fate::Gone, announce),
            Change::Dropped(pid) => self.leave(pid, Fate::Lives, announce),
            Change::Appeared(target) => self.follow(target, vitals, announce),
        }
    }

    /// Where the process lives on, its probes fire until the last is let go of: what they kept is freed after that.
    /// It is freed after the announcement, too, since what a followed process has lost is found by it.
    fn leave(&mut self, pid: Pid, fate: Fate, announce: &mut dyn FnMut(Attached)) {
        let Some(attachment) = self.attachments.remove(&pid) else { return };
        let probes = attachment.probes;
        self.kernel.unfollow(pid.0);
        match fate {
            Fate::Gone => self.release.take(attachment.links),
            Fate::Lives => detach(attachment.links),
        }
        announce(Attached::Left(pid));
        self.kernel.free(pid.0);
        tracing::info!(pid = pid.0, probes, ?fate, "left");
    }

    fn follow(&mut self, target: Target, vitals: &Vitals, announce: &mut dyn FnMut(Attached)) {
        let pid = target.process.pid;
        // A pid that was used again, or a child that has become something else, starts from nothing.
        match self.attachments.get(&pid).map(|known| &known.target) {
            Some(known) if known.process != target.process => self.leave(pid, Fate::Gone, announce),
            Some(known) if known.role != target.role => self.leave(pid, Fate::Lives, announce),
            Some(_) | None => {}
        }
        let known = self.attachments.remove(&pid);
        let new = known.is_none();
        let mut attachment = known.unwrap_or_else(|| Attachment {
            target: target.clone(),
            attached: BTreeSet::new(),
            skipped: Vec::new(),
            done: BTreeSet::new(),
            probes: 0,
            links: Vec::new(),
        });
        self.release.hold(true);
        let known = attachment.done.clone();
        for file in target.objects.iter().filter(|file| !known.contains(&(file.kind, file.file))) {
            self.attach_file(&target, file, &mut attachment, vitals);
        }
        self.release.hold(false);
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
        if let Err(why) = self.kernel.follow(pid.0, self.copies) {
            attachment.skipped.push(Skip { what: format!("process {pid}"), why });
        }
        let probes = attachment.probes;
        if new {
            tracing::info!(pid = pid.0, role = ?target.role, late = target.late, probes, "attached");
        }
        attachment.target = target;
        self.attachments.insert(pid, attachment);
    }

    fn attach_file(&mut self, target: &Target, file: &File, attachment: &mut Attachment<K::Link>, vitals: &Vitals) {
        attachment.done.insert((file.kind, file.file));
        let (probes, mut skips) = match plan::plan(file, target.role, target.closes == Closes::BySyscall) {
            Ok(planned) => planned,
            Err(error) => (Vec::new(), vec![Skip { what: file.name.clone(), why: error.to_string() }]),
        };
        let Outcome { links, refused } = self.kernel.attach(target.process.pid.0, &probes);
        for probe in probes.iter().filter(|probe| !refused.iter().any(|(other, _)| other == probe)) {
            attachment.probes += 1;
            attachment.attached.insert(format!("{} {} → {}", probe.object, probe.function, probe.program));
        }
        attachment.links.extend(links);
        let skip = |(probe, why): (&Probe, String)| Skip { what: format!("{} {}", probe.object, probe.function), why };
        skips.extend(refused.into_iter().map(skip));
        for skip in &skips {
            vitals.probes_skipped.one();
            tracing::warn!(pid = target.process.pid.0, what = %skip.what, why = %skip.why, "probe not attached");
        }
        attachment.skipped.extend(skips);
    }
}

impl<K: Kernel> Drop for Attach<K> {
    fn drop(&mut self) {
        let attachments = std::mem::take(&mut self.attachments);
        detach(attachments.into_values().flat_map(|attachment| attachment.links).collect());
    }
}

/// Detaches side by side: for each link the kernel waits until no CPU can be inside its probe any more.
fn detach<L: Send>(links: Vec<L>) {
    let mut lots: Vec<Vec<L>> = Vec::new();
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
