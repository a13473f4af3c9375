//! A process in a pid namespace of its own, told by the number that it has there.

use crate::gpu::machine::Machine;
use crate::gpu::machine::at;
use crate::gpu::machine::gpus;
use agent_tests::gate;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use tachograph::gpu::sampler::Session;

/// Ends with this value.
struct Guest {
    child: Child,
    /// Its number there.
    inner: u32,
}

impl Guest {
    /// A number that no process of the host has.
    fn start() -> Self {
        let free = (30_000..32_000).find(|number| !Path::new(&format!("/proc/{number}")).exists()).unwrap();
        let script = format!("echo {} > /proc/sys/kernel/ns_last_pid; sleep 60 & echo $!; wait", free - 1);
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", &script]);
        let mut child = unshare.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, inner: line.trim().parse().unwrap() }
    }

    /// Its number on the host: the last one of the process's own list is the inner one.
    fn host(&self) -> u32 {
        let inner = format!("\t{}", self.inner);
        let here = |pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with(&inner))
        };
        let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        pids.filter(|pid| *pid != self.inner).find(here).unwrap()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_number_of_another_namespace_becomes_the_hosts() {
    if !gate::process_ids() {
        return;
    }
    let guest = Guest::start();
    let scenario = |pid: u32| {
        let gpu = "[[gpu]]\nuuid = \"GPU-a\"\nmemory_used_bytes = 100\n";
        format!("{gpu}process = [{{ pid = {pid}, memory_bytes = 70, percent = [30, 0, 0, 0] }}]\n")
    };
    for told in [guest.inner, guest.host()] {
        let machine = Machine::new(&scenario(told));
        let gpu = gpus(Session::new(&machine.config).step(at(0))).remove(0);
        let [process] = gpu.processes.as_slice() else { panic!("{:?}", gpu.processes) };
        assert_eq!((process.pid.0, process.memory_bytes), (guest.host(), Some(70)));
        assert_eq!((process.sm_utilization, gpu.unattributed_bytes()), (Some(0.3), Some(30)));
    }
}
