//! What a task's machine is made of: VMM, kernel, disks, and what the guest is told.

use std::io;
use std::path::{Path, PathBuf};

use lith_api::agent::Alloc;
use lith_core::job::TaskSpec;
use lith_core::name::TaskId;
use lith_core::slot::Slot;
use lith_guest::messages::settings::Settings;
use lith_guest::messages::{BootConfig, Mac, Network, Network6, Seed, UnixTime};
use lith_guest::process::{Environment, ImageConfig, Overrides};
use lith_net::GuestNetwork;
use lith_net::address;
use lith_vmm::jail;
use lith_vmm::kernel::{self, BootFiles};
use lith_vmm::machine::Vmm;
use lith_vmm::machine::accelerator::{self, Verdict};
use lith_vmm::machine::qemu::Qemu;
use lith_vmm::scratch::{self, Purpose};
use lith_vmm::shim::ShimConfig;

use super::disks::Disks;
use super::{health, settings};
use crate::images::Stored;
use crate::layout::Layout;
use lith_core::chain::chain;

/// Size of the scratch disk. Sparse: it takes what is written. Large, for people unpack archives in containers.
const SCRATCH_BYTES: u64 = 64 << 30;
/// How long a guest may take to start its process. Under emulation on a busy machine of two cores, several guests that
/// boot at once need tens of seconds.
const BOOT_DEADLINE_MS: u64 = 120_000;
/// What a task with volumes may take on top: the first start copies what the image has there, which for the largest images
/// is a gigabyte and more.
const COPY_DEADLINE_MS: u64 = 600_000;
/// Slowest copy of what was sent for a volume that is waited for, bytes in a millisecond: far below what any disk does.
const COPY_BYTES_PER_MS: u64 = 2_000;
/// Serial numbers by which the guest finds its disks.
const ROOT_SERIAL: &str = "root";
const SCRATCH_SERIAL: &str = "scratch";

/// What all machines of this node share.
#[derive(Debug, Clone)]
struct Common {
    vmm: Vmm,
    boot: BootFiles,
    verdict: Verdict,
}

/// Makes machines' configurations, and removes what they leave.
#[derive(Debug)]
pub(crate) struct Machines {
    layout: Layout,
    kernels: Vec<PathBuf>,
    common: Option<Common>,
}

/// How long a guest may take to start its process.
fn boot_deadline_ms(spec: &TaskSpec, content_bytes: u64) -> u64 {
    if spec.volumes.is_empty() {
        return BOOT_DEADLINE_MS;
    }
    BOOT_DEADLINE_MS + COPY_DEADLINE_MS + content_bytes / COPY_BYTES_PER_MS
}

impl Machines {
    /// Nothing is looked for yet. `kernels` are the folders that may hold a kernel, in order.
    pub(crate) fn new(layout: Layout, kernels: Vec<PathBuf>) -> Self {
        Self { layout, kernels, common: None }
    }

    /// The configuration of a task's supervisor, with its scratch disk made.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub(crate) fn config(
        &mut self,
        id: &TaskId,
        slot: Slot,
        (alloc, spec): (&Alloc, &TaskSpec),
        image: &Stored,
        network: GuestNetwork,
        disks: Disks,
    ) -> Result<ShimConfig, String> {
        let task_dir = self.layout.task(id);
        let scratch_path = task_dir.join("scratch.img");
        std::fs::create_dir_all(&task_dir)
            .map_err(|error| format!("its folder {} cannot be made: {error}", task_dir.display()))?;
        scratch::create(&scratch_path, Purpose::Scratch, SCRATCH_BYTES)
            .map_err(|error| with_hint(chain(&error), error.hint()))?;
        let health = health::check(image.config.healthcheck.as_ref(), spec.health.as_ref());
        let settings = Settings { health, ..settings::of(spec, alloc, disks.mounts)? };
        let Common { vmm, boot, verdict } = self.common()?;
        let memory_mib = u32::try_from(spec.memory.mebibytes()).map_err(|_| "its memory is too large")?;
        let vcpus = spec.cpus.virtual_cpus().min(host_cpus());
        Ok(ShimConfig {
            name: name(&self.layout, id),
            slot: slot.number(),
            task_dir,
            run_dir: self.layout.running(slot),
            vmm,
            kernel_version: boot.version,
            kernel: boot.kernel,
            initramfs: boot.initramfs,
            accelerator: verdict.accelerator,
            tsc_khz: verdict.tsc_khz,
            vcpus: u8::try_from(vcpus).unwrap_or(u8::MAX),
            cpu_millis: spec.cpus.0,
            memory_mib,
            root_image: image.path.clone(),
            scratch: scratch_path,
            volumes: disks.volumes,
            disks_sockets: disks.control.into_iter().collect(),
            boot: BootConfig { settings, ..boot_config(id, slot, spec, image, network) },
            tap: Some(address::tap_name(slot)),
            boot_deadline_ms: boot_deadline_ms(spec, disks.content_bytes),
            stop_grace_ms: u64::try_from(spec.stop_grace.as_millis()).unwrap_or(u64::MAX),
            log: settings::rotation(&spec.logging),
        })
    }

    /// VMM, kernel and verdict: found once, and looked for again after each failure.
    fn common(&mut self) -> Result<Common, String> {
        if let Some(common) = &self.common {
            return Ok(common.clone());
        }
        let common = prepare(&self.layout, &self.kernels)?;
        tracing::info!(
            vmm = %common.vmm,
            kernel = %common.boot.version,
            accelerator = %common.verdict.accelerator,
            why = %common.verdict.reason,
            "machines are ready"
        );
        self.common = Some(common.clone());
        Ok(common)
    }

    /// Removes all that a task had on this node's disk.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub(crate) fn remove(&self, id: &TaskId, slot: Slot) -> io::Result<()> {
        jail::cgroup::remove(&name(&self.layout, id)).map_err(|error| io::Error::other(chain(&error)))?;
        remove_folder(&self.layout.running(slot))?;
        remove_folder(&self.layout.task(id))
    }
}

/// The name of a task's machine and control group, unique on the machine.
pub(crate) fn name(layout: &Layout, id: &TaskId) -> String {
    format!("{id}{}", layout.instance())
}

/// A sentence about a failure with what to do about it.
pub(crate) fn with_hint(error: String, hint: Option<String>) -> String {
    match hint {
        Some(hint) => format!("{error} ({hint})"),
        None => error,
    }
}

fn prepare(layout: &Layout, kernels: &[PathBuf]) -> Result<Common, String> {
    let qemu = Qemu::find().map_err(|error| with_hint(chain(&error), error.hint()))?;
    let kernel = kernel::find(kernels).map_err(|error| with_hint(chain(&error), error.hint()))?;
    let boot =
        kernel::prepare(&kernel, &layout.boot()).map_err(|error| with_hint(chain(&error), error.hint()))?;
    let verdict = accelerator::choose(&qemu, &boot, &layout.boot())
        .map_err(|error| with_hint(chain(&error), error.hint()))?;
    kernel::sweep(&boot, &layout.boot());
    Ok(Common { vmm: Vmm::Qemu(qemu), boot, verdict })
}

fn remove_folder(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn host_cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}

/// What the guest is told, but for the settings. Its time and its seed are filled in by the supervisor, at the last
/// moment.
fn boot_config(
    id: &TaskId,
    slot: Slot,
    spec: &TaskSpec,
    image: &Stored,
    network: GuestNetwork,
) -> BootConfig {
    let variables = spec.env.iter().map(|(name, value)| format!("{name}={value}"));
    let variables = settings::timezone_variable(spec).into_iter().chain(variables);
    BootConfig {
        hostname: spec.hostname.clone().unwrap_or_else(|| id.task.to_string()),
        network: Some(Network {
            address: network.guest_address(slot),
            prefix: 32,
            gateway: address::GATEWAY,
            gateway_mac: Mac(address::host_mac(slot).0),
            mac: Mac(address::guest_mac(slot).0),
            ipv6: Some(Network6 { address: network.guest_address_6(slot), gateway: address::GATEWAY_LINK_6 }),
        }),
        resolvers: vec![address::GATEWAY],
        search_domains: vec![lith_core::resolve::search_domain(&id.alloc.job)],
        extra_hosts: vec![],
        time: UnixTime { seconds: 0, nanoseconds: 0 },
        seed: Seed(vec![]),
        image: ImageConfig {
            entrypoint: image.config.entrypoint.clone(),
            cmd: image.config.cmd.clone(),
            env: Environment(image.config.env.clone()),
            user: image.config.user.clone(),
            working_dir: image.config.working_dir.clone(),
            volumes: image.config.volumes.clone(),
            stop_signal: Some(image.config.stop_signal.clone()).filter(|signal| !signal.is_empty()),
        },
        overrides: Overrides {
            entrypoint: spec.entrypoint.clone(),
            cmd: spec.command.clone(),
            env: Environment(variables.collect()),
            user: spec.user.clone(),
            working_dir: spec.working_dir.clone(),
            stop_signal: spec.stop_signal.clone(),
        },
        root_serial: ROOT_SERIAL.to_owned(),
        scratch_serial: SCRATCH_SERIAL.to_owned(),
        settings: Settings::default(),
    }
}
