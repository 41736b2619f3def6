//! The QEMU driver: what a [`MachineSpec`] is on QEMU's command line, and how its process is jailed. Owns every word
//! that QEMU understands. Disks, network and channels are handed over as open descriptors, so the jail holds nothing
//! of the task but them.

use super::{Accelerator, Drive, DriveSource, Driver, Machine, MachineError, MachineSpec, Tap};
use crate::jail::{self, Jail, Program};
use rustix::fs::OFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders searched for the program; the environment's PATH is not asked, since root runs what is found.
const PROGRAM_FOLDERS: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];
/// What QEMU itself needs beside libraries, shown in the jail where it exists. `/usr/share/seabios` holds the firmware that
/// Debian's `/usr/share/qemu` links to.
const FIRMWARE: [&str; 3] = ["/usr/share/qemu", "/usr/share/seabios", "/usr/share/ipxe"];
/// Where the jail shows the boot files.
const KERNEL: &str = "/boot/kernel";
const INITRAMFS: &str = "/boot/initramfs";
/// Room for translated code under TCG, MiB. QEMU's own default grows to 1 GiB per machine, which would count against
/// the task's ceiling. Booting Debian's kernel to a shell fills 54 MiB; when it is full QEMU starts over.
const TRANSLATION_MIB: u64 = 64;
/// QEMU's own memory beside guest memory and translated code: 40 MB idle, and buffers of requests in flight.
const OVERHEAD_BYTES: u64 = 128 << 20;
/// Longest serial that virtio-blk carries.
const SERIAL_BYTES_MAX: usize = 20;
/// First inherited descriptor: standard input, output and error come before.
const DESCRIPTOR_FIRST: usize = 3;
/// The fixed part of QEMU's seccomp filter and of its device model.
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// An installed QEMU.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Qemu {
    /// The program.
    pub program: PathBuf,
    /// Its version, such as `7.2.22`.
    pub version: String,
}

/// The program for this machine's architecture.
const PROGRAM: &str =
    if cfg!(target_arch = "aarch64") { "qemu-system-aarch64" } else { "qemu-system-x86_64" };

/// The Debian package of a QEMU program.
pub(super) fn debian_package(program: &str) -> &'static str {
    if program == "qemu-system-aarch64" { "qemu-system-arm" } else { "qemu-system-x86" }
}

/// The machine type: `microvm` is small and boots fast but exists on x86-64 only.
fn machine_type() -> &'static str {
    if cfg!(target_arch = "aarch64") { "virt" } else { "microvm,acpi=on" }
}

/// The guest's name of the first serial port.
fn console_device() -> &'static str {
    if cfg!(target_arch = "aarch64") { "ttyAMA0" } else { "ttyS0" }
}

impl Qemu {
    /// Finds the installed QEMU and asks for its version.
    ///
    /// # Errors
    /// [`MachineError::NoProgram`], [`MachineError::Version`].
    pub fn find() -> Result<Qemu, MachineError> {
        let program =
            PROGRAM_FOLDERS.iter().map(|folder| Path::new(folder).join(PROGRAM)).find(|path| path.is_file());
        let program = program.ok_or(MachineError::NoProgram { program: PROGRAM })?;
        let output = Command::new(&program).arg("--version").env_clear().output();
        let output = output.map_err(|source| MachineError::Version { program: program.clone(), source })?;
        let version = parse_version(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
            MachineError::Version { program: program.clone(), source: io::ErrorKind::InvalidData.into() }
        })?;
        Ok(Qemu { program, version })
    }
}

/// `QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)` → `7.2.22`.
fn parse_version(text: &str) -> Option<String> {
    let version = text.split_once("version ")?.1.split_whitespace().next()?;
    version.starts_with(|first: char| first.is_ascii_digit()).then(|| version.to_owned())
}

impl Driver for Qemu {
    fn name(&self) -> &'static str {
        "QEMU"
    }

    fn overhead_bytes(&self) -> u64 {
        OVERHEAD_BYTES + (TRANSLATION_MIB << 20)
    }

    fn start(&self, spec: &MachineSpec, tap: Option<Tap>) -> Result<Machine, MachineError> {
        let channel_error = |source: io::Error| MachineError::Channel { name: spec.name.clone(), source };
        let (console_read, console_write) = io::pipe().map_err(channel_error)?;
        let (complaints_read, complaints_write) = io::pipe().map_err(channel_error)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (channel, vmm_channel) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
                .map_err(|error| channel_error(error.into()))?;
        let mut descriptors = vec![vmm_channel];
        let mut file_bytes_max = 0;
        for drive in &spec.drives {
            let (descriptor, bytes) = open(&drive.source)?;
            file_bytes_max = file_bytes_max.max(bytes);
            descriptors.push(descriptor);
        }
        if has_shared_memory(spec) {
            // The guest's memory is a file then, though in no file system.
            file_bytes_max = file_bytes_max.max(u64::from(spec.memory_mib) << 20);
        }
        if tap.is_some() != spec.mac.is_some() {
            let problem = "a TAP device and a hardware address belong together".to_owned();
            return Err(MachineError::Spec { name: spec.name.clone(), problem });
        }
        descriptors.extend(tap.map(|tap| tap.descriptor));
        let arguments =
            arguments(spec).map_err(|problem| MachineError::Spec { name: spec.name.clone(), problem })?;
        let program = Program {
            path: self.program.clone(),
            file: None,
            arguments,
            stdout: console_write.into(),
            stderr: complaints_write.into(),
            descriptors,
        };
        let process = jail::spawn(&self.jail(spec, file_bytes_max), program)
            .map_err(|source| MachineError::Jail { name: spec.name.clone(), source })?;
        let (console, complaints) = (OwnedFd::from(console_read), OwnedFd::from(complaints_read));
        for pipe in [&console, &complaints] {
            rustix::io::ioctl_fionbio(pipe, true).map_err(|error| channel_error(error.into()))?;
        }
        Ok(Machine { process, channel, console, complaints })
    }
}

impl Qemu {
    fn jail(&self, spec: &MachineSpec, file_bytes_max: u64) -> Jail {
        let mut read_only: Vec<PathBuf> =
            jail::LIBRARIES.iter().chain(&FIRMWARE).map(PathBuf::from).collect();
        read_only.push(self.program.clone());
        let mut devices = vec![PathBuf::from("/dev/null"), PathBuf::from("/dev/urandom")];
        if spec.accelerator == Accelerator::Kvm {
            devices.push(PathBuf::from("/dev/kvm"));
        }
        Jail {
            uid: spec.uid,
            root: spec.jail_root.clone(),
            read_only,
            files: vec![(spec.boot.kernel.clone(), KERNEL), (spec.boot.initramfs.clone(), INITRAMFS)],
            devices,
            cgroups: spec.cgroups.clone(),
            file_bytes_max,
            ..Jail::default()
        }
    }
}

/// Opens what is behind a drive; with it the largest file that may be written for it.
fn open(source: &DriveSource) -> Result<(OwnedFd, u64), MachineError> {
    match source {
        DriveSource::File { path, is_read_only } => {
            let failed = |source| MachineError::Drive { path: path.clone(), source };
            // A link is nobody's of ours, and this is opened as root.
            let mut options = OpenOptions::new();
            options.read(true).write(!is_read_only).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
            let file = options.open(path).map_err(failed)?;
            let bytes = if *is_read_only { 0 } else { file.metadata().map_err(failed)?.len() };
            Ok((file.into(), bytes))
        }
        DriveSource::Served { socket, .. } => {
            let failed = |source| MachineError::Drive { path: socket.clone(), source };
            let stream = UnixStream::connect(socket).map_err(failed)?;
            Ok((stream.into(), 0))
        }
    }
}

/// Whether another process reads and writes the guest's memory: one that serves a disk.
fn has_shared_memory(spec: &MachineSpec) -> bool {
    spec.drives.iter().any(|drive| matches!(drive.source, DriveSource::Served { .. }))
}

/// The command line. Descriptors are numbered as they are pushed in [`Driver::start`]: channel, drives, TAP.
fn arguments(spec: &MachineSpec) -> Result<Vec<String>, String> {
    if spec.name.is_empty() || !spec.name.chars().all(is_plain) {
        return Err(format!("{:?} is no name", spec.name));
    }
    let mut list = Vec::new();
    let mut add = |option: &str, value: String| list.extend([option.to_owned(), value]);
    add("-name", spec.name.clone());
    for option in ["-nodefaults", "-no-user-config", "-no-reboot"] {
        add(option, String::new());
    }
    add("-display", "none".to_owned());
    add("-sandbox", SANDBOX.to_owned());
    let memory = if has_shared_memory(spec) { ",memory-backend=memory" } else { "" };
    add("-M", format!("{}{memory}", machine_type()));
    if has_shared_memory(spec) {
        add("-object", format!("memory-backend-memfd,id=memory,share=on,size={}M", spec.memory_mib));
    }
    match spec.accelerator {
        Accelerator::Kvm => {
            add("-accel", "kvm".to_owned());
            add("-cpu", "host".to_owned());
        }
        Accelerator::Tcg => {
            add("-accel", format!("tcg,thread=multi,tb-size={TRANSLATION_MIB}"));
            add("-cpu", "max".to_owned());
        }
    }
    add("-smp", spec.vcpus.to_string());
    add("-m", format!("{}M", spec.memory_mib));
    add("-kernel", KERNEL.to_owned());
    add("-initrd", INITRAMFS.to_owned());
    add("-append", kernel_command_line(spec));
    // Modern virtio: the old register layout has no 64-bit features and is a second code path in the guest.
    add("-global", "virtio-mmio.force-legacy=false".to_owned());
    add("-chardev", "stdio,id=console,signal=off".to_owned());
    add("-serial", "chardev:console".to_owned());
    let mut descriptor = DESCRIPTOR_FIRST;
    add("-chardev", format!("socket,id=lith,fd={descriptor}"));
    add("-device", "virtio-serial-device,max_ports=2".to_owned());
    add("-device", "virtserialport,chardev=lith,name=lith".to_owned());
    for (position, drive) in spec.drives.iter().enumerate() {
        descriptor += 1;
        drive_options(&mut add, drive, (position, descriptor), spec.vcpus)?;
    }
    if let Some(mac) = spec.mac {
        descriptor += 1;
        add("-netdev", format!("tap,id=net,fd={descriptor}"));
        add("-device", format!("virtio-net-device,netdev=net,mac={}", mac_text(mac)));
    }
    // What the guest does not use goes back to the host; a guest short of memory takes it again by itself.
    add("-device", "virtio-balloon-device,deflate-on-oom=on,free-page-reporting=on".to_owned());
    add("-object", "rng-random,id=entropy,filename=/dev/urandom".to_owned());
    add("-device", "virtio-rng-device,rng=entropy".to_owned());
    list.retain(|argument| !argument.is_empty());
    Ok(list)
}

/// The words for one drive.
fn drive_options(
    add: &mut impl FnMut(&str, String),
    Drive { source, serial }: &Drive,
    (position, descriptor): (usize, usize),
    vcpus: u8,
) -> Result<(), String> {
    if serial.is_empty() || serial.len() > SERIAL_BYTES_MAX || !serial.chars().all(is_plain) {
        return Err(format!("{serial:?} is no serial of a disk"));
    }
    match source {
        DriveSource::File { is_read_only, .. } => {
            add("-add-fd", format!("fd={descriptor},set={descriptor}"));
            let access = if *is_read_only { "read-only=on" } else { "read-only=off,discard=unmap" };
            let file = format!("driver=file,node-name=disk{position},filename=/dev/fdset/{descriptor}");
            add("-blockdev", format!("{file},{access}"));
            // A full host is an error of the guest's: by itself QEMU stops the machine, and nobody would start it again.
            let errors = "werror=report,rerror=report";
            add("-device", format!("virtio-blk-device,drive=disk{position},serial={serial},{errors}"));
        }
        DriveSource::Served { queues, .. } => {
            let queues = (*queues).min(u16::from(vcpus));
            add("-chardev", format!("socket,id=disk{position},fd={descriptor}"));
            add("-device", format!("vhost-user-blk,chardev=disk{position},num-queues={queues}"));
        }
    }
    Ok(())
}

/// Whether a character means nothing in the syntax of options.
fn is_plain(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-_.".contains(character)
}

/// What else an emulated machine's kernel is told.
///
/// - `maxcpus=1`: PID 1 starts the other processors when the kernel has done the patching of its own code that belongs to
///   a boot. QEMU before 8.1 does not lock the page that it translates ("accel/tcg: Always lock pages before translation"),
///   so a processor that runs over an instruction while another one patches it may keep the breakpoint that stood there
///   meanwhile, and trap for ever: about one boot in 200 (both processors in `exc_int3`, at a static key of the
///   scheduler's clock).
/// - `initcall_blacklist=init_kprobe_trace`: see [`kernel_command_line`].
const EMULATED: &str = " maxcpus=1 initcall_blacklist=init_kprobe_trace";

/// What it is told besides, where the frequency of the host's counter is known.
///
/// - `tsc=reliable`: the counters of emulated processors agree, for all are the host's. A kernel that mistrusts them keeps
///   time by counting ticks, which a guest that gets too little of the host misses.
/// - `tsc_early_khz`: else the kernel measures its clock against another one, and may do so for ever.
const COUNTER: &str = " tsc=reliable tsc_early_khz=";

/// `panic=-1` with QEMU's `-no-reboot`: a guest kernel that panics ends the machine at once instead of hanging.
/// `cryptomgr.notests`: the kernel's tests of its own ciphers cost each boot 0.6 s under emulation (measured, of 2.2 s
/// to PID 1), and test the distribution's build, not this machine. `init_kprobe_trace` costs another 0.1 s there, for a
/// list of probe events that only somebody who debugs the kernel looks at.
fn kernel_command_line(spec: &MachineSpec) -> String {
    let mut line = format!(
        "console={} rdinit=/init quiet loglevel=4 panic=-1 reboot=t cryptomgr.notests",
        console_device()
    );
    if spec.accelerator == Accelerator::Tcg {
        line.push_str(EMULATED);
        if let Some(khz) = spec.tsc_khz {
            // Writing to a String cannot fail.
            let _ = write!(line, "{COUNTER}{khz}");
        }
    }
    line
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::BootFiles;

    fn spec() -> MachineSpec {
        let boot = BootFiles { version: "6.1".into(), kernel: "/k".into(), initramfs: "/i".into() };
        let drive = |serial: &str, is_read_only| Drive {
            source: DriveSource::File { path: "/d".into(), is_read_only },
            serial: serial.to_owned(),
        };
        MachineSpec {
            name: "web".into(),
            vcpus: 1,
            memory_mib: 128,
            boot,
            drives: vec![drive("root", true), drive("scratch", false)],
            mac: Some([2, 0x6c, 0x69, 0x74, 0, 7]),
            accelerator: Accelerator::Tcg,
            tsc_khz: Some(2_000_000),
            uid: UID,
            jail_root: "/run/jail".into(),
            cgroups: Vec::new(),
        }
    }

    const UID: u32 = crate::machine::UID_BASE + 7;

    fn check(spec: &MachineSpec, wanted: &[&str], unwanted: &[&str]) {
        let line = arguments(spec).unwrap().join(" ");
        for part in wanted {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        for part in unwanted {
            assert!(!line.contains(part), "{part} is in {line}");
        }
    }

    #[test]
    fn an_emulated_machine_is_told_the_counters_frequency() {
        check(
            &spec(),
            &["tcg,thread=multi", "-cpu max", "maxcpus=1", "tsc_early_khz=2000000", "-sandbox on,"],
            &["kvm"],
        );
        let kvm = MachineSpec { accelerator: Accelerator::Kvm, ..spec() };
        check(&kvm, &["-accel kvm", "-cpu host"], &["tcg", "tsc_early_khz", "maxcpus"]);
        let unknown = MachineSpec { tsc_khz: None, ..spec() };
        check(&unknown, &["maxcpus=1"], &["tsc"]);
    }

    #[test]
    fn descriptors_are_numbered_in_the_order_they_are_handed_over() {
        check(
            &spec(),
            &[
                "socket,id=lith,fd=3",
                "-add-fd fd=4,set=4",
                "filename=/dev/fdset/4,read-only=on",
                "filename=/dev/fdset/5,read-only=off",
                "serial=scratch",
                "tap,id=net,fd=6",
                "mac=02:6c:69:74:00:07",
            ],
            &[],
        );
        check(&MachineSpec { mac: None, ..spec() }, &[], &["virtio-net-device"]);
    }

    #[test]
    fn a_served_disk_shares_the_memory() {
        check(&spec(), &["werror=report"], &["memory-backend"]);
        let mut served = spec();
        let source = DriveSource::Served { socket: "/run/disk.sock".into(), queues: 4 };
        served.drives.push(Drive { source, serial: "volume-0".to_owned() });
        check(
            &served,
            &[
                "memory-backend=memory",
                "memory-backend-memfd,id=memory,share=on,size=128M",
                "socket,id=disk2,fd=6",
                "vhost-user-blk,chardev=disk2,num-queues=1",
                "tap,id=net,fd=7",
            ],
            &["/run/disk.sock"],
        );
    }

    #[test]
    fn nothing_slips_into_the_option_syntax() {
        let bad = |serial: &str| MachineSpec {
            drives: vec![Drive {
                source: DriveSource::File { path: "/d".into(), is_read_only: true },
                serial: serial.to_owned(),
            }],
            ..spec()
        };
        assert!(arguments(&bad("a,b=c")).is_err());
        assert!(arguments(&bad("much-longer-than-twenty")).is_err());
        assert!(arguments(&MachineSpec { name: "a,b".into(), ..spec() }).is_err());
    }

    #[test]
    fn versions() {
        let check = |text: &str, expect: Option<&str>| assert_eq!(parse_version(text).as_deref(), expect);
        check("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright", Some("7.2.22"));
        check("QEMU emulator version 10.0.2\n", Some("10.0.2"));
        check("nonsense", None);
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let error = MachineError::NoProgram { program: "qemu-system-x86_64" };
        assert_eq!(error.hint().unwrap(), "install it (Debian: apt-get install qemu-system-x86)");
    }
}
