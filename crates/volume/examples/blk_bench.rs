//! Measures a block device over vhost-user from the side of the guest, whoever serves it:
//!
//! ```text
//! blk_bench serve SOCKET FILE                     serves a plain file with this crate, until it is killed
//! blk_bench measure SOCKET [SECONDS] [WORKLOAD]   measures each workload for so long
//! blk_bench disks LITH FOLDER SOCKET              serves a volume as lith does, with checkpoints, until it is killed
//! blk_bench status SOCKET                         prints what such a process says of itself, as JSON
//! ```
//!
//! The file should be 1 GiB and have been written once. Reads find it in the page cache if it was read before.

#![allow(clippy::print_stdout, reason = "it is a program")]

#[path = "../tests/front/mod.rs"]
mod front;

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lith_volume::blk::file::FileDisk;
use lith_volume::blk::{Device, Settings};
use lith_volume::service::{Access, Client, Config, DESCRIPTOR_FIRST, Served};

use crate::front::{EventIndex, Front, Operation};

const SECONDS: u64 = 5;
const DEPTH_MAX: usize = 32;
const BYTES_MAX: usize = 1 << 20;

/// What is asked for, and how much of it at once.
struct Workload {
    name: &'static str,
    depth: usize,
    bytes: usize,
    pattern: Pattern,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pattern {
    /// Write anywhere, then flush, counted as one.
    WriteAndFlush,
    WriteAnywhere,
    WriteOneAfterTheOther,
    ReadAnywhere,
}

const WORKLOADS: &[Workload] = &[
    Workload { name: "commit-8k", depth: 1, bytes: 8 << 10, pattern: Pattern::WriteAndFlush },
    Workload { name: "write-4k-q32", depth: 32, bytes: 4 << 10, pattern: Pattern::WriteAnywhere },
    Workload { name: "write-1m-q4", depth: 4, bytes: 1 << 20, pattern: Pattern::WriteOneAfterTheOther },
    Workload { name: "read-4k-q32", depth: 32, bytes: 4 << 10, pattern: Pattern::ReadAnywhere },
];

impl Workload {
    fn operation(&self, offset: u64, at: usize) -> Operation {
        let bytes = self.bytes;
        match self.pattern {
            Pattern::ReadAnywhere => Operation::Read { offset, at, bytes },
            Pattern::WriteAndFlush | Pattern::WriteAnywhere | Pattern::WriteOneAfterTheOther => {
                Operation::Write { offset, at, bytes }
            }
        }
    }
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", socket, file] => serve(Path::new(socket), Path::new(file)),
        ["disks", program, folder, socket] => disks(program, Path::new(folder), Path::new(socket)),
        ["status", socket] => status(Path::new(socket)),
        ["measure", socket] => measure(Path::new(socket), SECONDS, ""),
        ["measure", socket, seconds] => measure(Path::new(socket), number(seconds)?, ""),
        ["measure", socket, seconds, name] => measure(Path::new(socket), number(seconds)?, name),
        _ => Err(io::Error::other("see the head of this program's source")),
    }
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(io::Error::other)
}

fn serve(socket: &Path, file: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(file)?;
    let device =
        Device::new(Arc::new(FileDisk::new(file)?), Settings::default()).map_err(io::Error::other)?;
    let listener = UnixListener::bind(socket)?;
    loop {
        let (stream, _) = listener.accept()?;
        device.connect(stream).and_then(|connection| connection.serve()).map_err(io::Error::other)?;
    }
}

/// Becomes the process of lith that serves volumes. Its control socket is beside the device's.
fn disks(program: &str, folder: &Path, socket: &Path) -> io::Result<()> {
    let control = UnixListener::bind(control_of(socket))?;
    let device = UnixListener::bind(socket)?;
    for (listener, number) in [&control, &device].into_iter().zip(DESCRIPTOR_FIRST..) {
        // A program that has opened nothing else yet gets them in this order.
        assert_eq!(listener.as_raw_fd(), number, "descriptors come in order");
        rustix::io::fcntl_setfd(listener, rustix::io::FdFlags::empty())?;
    }
    let volume = Served {
        id: "bench.data.0".to_owned(),
        folder: folder.to_owned(),
        serial: "bench".to_owned(),
        reserve_bytes: 1 << 30,
        window_s: 24 * 3600,
        history_bytes_max: u64::MAX,
        queues: 1,
        uuid: "00".repeat(16),
    };
    let config = Config {
        holder: "bench".to_owned(),
        access: Access::ReadWrite,
        interval_ms: 1000,
        volumes: vec![volume],
    };
    let path = socket.with_extension("json");
    std::fs::write(&path, serde_json::to_vec(&config)?)?;
    Err(std::process::Command::new(program).arg("disks").arg(path).arg(folder).exec())
}

fn control_of(socket: &Path) -> PathBuf {
    socket.with_extension("control")
}

fn status(socket: &Path) -> io::Result<()> {
    let status = Client::new(&control_of(socket)).status().map_err(io::Error::other)?;
    println!("{}", serde_json::to_string(&status)?);
    Ok(())
}

fn measure(socket: &Path, seconds: u64, name: &str) -> io::Result<()> {
    let mut front = Front::connect(socket, EventIndex::With, 1, DEPTH_MAX * BYTES_MAX)?;
    // Zeroes would be all one page to a clever file system.
    front.memory().bytes(0, DEPTH_MAX * BYTES_MAX).iter_mut().zip(1_usize..).for_each(|(byte, at)| {
        *byte = (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0];
    });
    for workload in WORKLOADS.iter().filter(|workload| workload.name.starts_with(name)) {
        run(&mut front, workload, Duration::from_secs(seconds))?;
    }
    Ok(())
}

/// A xorshift generator: both sides get the same offsets.
struct Offsets {
    state: u64,
    next: u64,
    blocks: u64,
}

impl Offsets {
    fn next(&mut self, workload: &Workload) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.next += 1;
        let block = match workload.pattern {
            Pattern::WriteOneAfterTheOther => self.next,
            Pattern::WriteAndFlush | Pattern::WriteAnywhere | Pattern::ReadAnywhere => self.state >> 11,
        };
        block % self.blocks * workload.bytes as u64
    }
}

fn run(front: &mut Front, workload: &Workload, time: Duration) -> io::Result<()> {
    let blocks = front.disk_bytes()? / workload.bytes as u64;
    let mut offsets = Offsets { state: 0x9e37_79b9_7f4a_7c15, next: 0, blocks };
    let mut started = vec![Instant::now(); workload.depth];
    let mut latencies_ns: Vec<u64> = Vec::with_capacity(1 << 22);
    let mut answers = Vec::new();
    let start = Instant::now();
    let mut free: Vec<usize> = (0..workload.depth).collect();
    let mut is_over = false;
    // When the time is over, what is in flight is answered and counted.
    while !is_over || free.len() < workload.depth {
        if !is_over {
            for slot in free.drain(..) {
                started[slot] = Instant::now();
                let operation = workload.operation(offsets.next(workload), slot * BYTES_MAX);
                front.submit(0, operation, slot as u64)?;
            }
            front.kick(0)?;
        }
        answers.clear();
        front.answers(0, &mut answers)?;
        is_over = start.elapsed() >= time;
        for (slot, error) in &answers {
            let flush_error = match workload.pattern {
                Pattern::WriteAndFlush => front.run(0, Operation::Flush)?,
                Pattern::WriteAnywhere | Pattern::WriteOneAfterTheOther | Pattern::ReadAnywhere => 0,
            };
            if *error != 0 || flush_error != 0 {
                return Err(io::Error::other("a request failed"));
            }
            let slot = usize::try_from(*slot).map_err(io::Error::other)?;
            latencies_ns.push(u64::try_from(started[slot].elapsed().as_nanos()).unwrap_or(u64::MAX));
            free.push(slot);
        }
    }
    report(workload, &mut latencies_ns, start.elapsed().as_secs_f64());
    Ok(())
}

fn report(workload: &Workload, latencies_ns: &mut [u64], seconds: f64) {
    latencies_ns.sort_unstable();
    let count = latencies_ns.len();
    let at = |share: usize| latencies_ns.get(count * share / 100).copied().unwrap_or(0) / 1000;
    let rate = count as f64 / seconds;
    let megabytes = rate * workload.bytes as f64 / 1e6;
    println!(
        "{:14} {rate:10.0} IOPS {megabytes:9.1} MB/s  p50 {:6} us  p99 {:6} us",
        workload.name,
        at(50),
        at(99),
    );
}
