//! A task's own world: folders, a root image with busybox, a supervisor process. Their removal is the testkit's.

use lith_guest::messages::settings::Settings;
use lith_guest::messages::{BootConfig, Seed, UnixTime};
use lith_guest::process::{ImageConfig, Overrides};
use lith_testkit::{Folder, assets};
use lith_vmm::log::{Query, Reader, Rotation};
use lith_vmm::machine::qemu::Qemu;
use lith_vmm::machine::{Accelerator, Vmm};
use lith_vmm::shim::{self, Client, Ending, Found, ShimConfig, TaskState, Watch};
use lith_vmm::{kernel, scratch};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Generous: machines under emulation share few processors with other tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);

static NEXT_SLOT: AtomicU16 = AtomicU16::new(1);

pub(crate) struct World {
    pub(crate) config: ShimConfig,
    pub(crate) shim: Child,
    /// Removed with the world, and with it what may run there.
    _folder: Folder,
}

/// A task that runs a shell script.
pub(crate) fn script(text: &str) -> ImageConfig {
    ImageConfig { cmd: ["/bin/sh", "-c", text].map(str::to_owned).to_vec(), ..ImageConfig::default() }
}

impl World {
    pub(crate) fn start(image: ImageConfig) -> World {
        World::start_with(image, |_| ())
    }

    pub(crate) fn start_with(image: ImageConfig, change: impl FnOnce(&mut ShimConfig)) -> World {
        let folder = Folder::new();
        let mut config = config(&folder, image);
        scratch::create(&config.scratch, scratch::Purpose::Scratch, 64 << 20).unwrap();
        change(&mut config);
        let shim = launch(&config);
        World { config, shim, _folder: folder }
    }

    /// A fresh supervisor for the same task, as after a restart.
    pub(crate) fn restart(&mut self) {
        self.shim = launch(&self.config);
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.config.socket())
    }

    /// Watches, as soon as the supervisor listens.
    pub(crate) async fn watch(&mut self) -> Watch {
        let started = Instant::now();
        loop {
            match self.client().watch().await {
                Ok(watch) => return watch,
                Err(error) => {
                    let gone = self.shim.try_wait().unwrap().is_some();
                    assert!(!gone && started.elapsed() < DEADLINE, "{error}: {}", self.complaints());
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn running(&mut self) -> Watch {
        let mut watch = self.watch().await;
        let state = until(&mut watch, |state| *state != TaskState::Booting).await;
        assert!(matches!(state, TaskState::Running { .. }), "{state:?}\n{}", self.console());
        watch
    }

    /// Waits for the end, and checks that what watchers were told is what the record holds.
    pub(crate) async fn ending(&mut self, watch: &mut Watch) -> Ending {
        let state = until(watch, |state| matches!(state, TaskState::Exited { .. })).await;
        let TaskState::Exited { ending, .. } = state else { unreachable!() };
        self.shim.wait().unwrap();
        match shim::find(&self.config.task_dir, &self.config.run_dir).unwrap() {
            Found::Exited(record) => assert_eq!(record.ending, ending),
            other => panic!("{other:?}"),
        }
        assert!(!self.config.socket().exists());
        ending
    }

    pub(crate) async fn run_to_end(&mut self) -> Ending {
        let started = Instant::now();
        while !self.shim.try_wait().unwrap().is_some_and(|status| status.success()) {
            assert!(started.elapsed() < DEADLINE, "{}", self.console());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        match shim::find(&self.config.task_dir, &self.config.run_dir).unwrap() {
            Found::Exited(record) => record.ending,
            other => panic!("{other:?} {}", self.complaints()),
        }
    }

    pub(crate) fn log(&self) -> Vec<(String, String)> {
        let mut reader = Reader::open(&self.config.task_dir, Query::default()).unwrap();
        std::iter::from_fn(|| reader.next_entry().unwrap())
            .map(|entry| {
                (
                    format!("{:?}", entry.stream).to_lowercase(),
                    String::from_utf8_lossy(&entry.text).into_owned(),
                )
            })
            .collect()
    }

    pub(crate) async fn logged(&self, line: &str) {
        let started = Instant::now();
        while !self.log().iter().any(|(_, text)| text == line) {
            assert!(started.elapsed() < DEADLINE, "{:?}\n{}", self.log(), self.console());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn console(&self) -> String {
        std::fs::read_to_string(self.config.task_dir.join("console.log")).unwrap_or_default()
    }

    fn complaints(&self) -> String {
        std::fs::read_to_string(self.config.task_dir.join("shim.log")).unwrap_or_default()
    }

    pub(crate) fn supervisor_resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.shim.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// The process ID of the VMM: the supervisor's only child.
    pub(crate) fn vmm(&self) -> i32 {
        let parent = self.shim.id().to_string();
        std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().into_string().ok()?.parse().ok())
            .find(|pid: &i32| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                // After the name, which may hold anything: state, then the parent.
                stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)) == Some(&parent)
            })
            .expect("the supervisor has a child")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Both fail only when it has ended and was waited for.
        let _ = self.shim.kill();
        let _ = self.shim.wait();
    }
}

pub(crate) async fn until(watch: &mut Watch, wanted: impl Fn(&TaskState) -> bool) -> TaskState {
    let find = async {
        loop {
            let state = watch.next().await.unwrap().expect("the state comes before the end");
            if wanted(&state) {
                return state;
            }
        }
    };
    tokio::time::timeout(DEADLINE, find).await.expect("in time")
}

pub(crate) fn gone(pid: i32) {
    let started = Instant::now();
    while Path::new(&format!("/proc/{pid}")).exists() {
        assert!(started.elapsed() < DEADLINE, "process {pid} lives");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn signal(pid: i32, signal: i32) {
    assert!(Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status().unwrap().success());
}

fn launch(config: &ShimConfig) -> Child {
    shim::launch(Path::new(env!("CARGO_BIN_EXE_lith-shim")), &[], config, None).unwrap()
}

fn config(folder: &Folder, image: ImageConfig) -> ShimConfig {
    let slot = NEXT_SLOT.fetch_add(1, Ordering::Relaxed);
    let qemu = Qemu::find().unwrap();
    let kernel = kernel::find(&[assets::kernel()]).unwrap();

    let boot = kernel::prepare(&kernel, &Path::new(env!("CARGO_TARGET_TMPDIR")).join("boot")).unwrap();
    ShimConfig {
        name: folder.group_name("task"),
        slot,
        task_dir: folder.path().join("task"),
        run_dir: folder.path().join("run"),
        vmm: Vmm::Qemu(qemu),
        kernel_version: boot.version,
        kernel: boot.kernel,
        initramfs: boot.initramfs,
        accelerator: Accelerator::Tcg,
        tsc_khz: lith_vmm::machine::tsc_khz(),
        vcpus: 1,
        cpu_millis: 1000,
        memory_mib: 128,
        root_image: root_image(folder.path()),
        scratch: folder.path().join("scratch.ext4"),
        volumes: Vec::new(),
        disks_sockets: Vec::new(),
        boot: BootConfig {
            hostname: "test".to_owned(),
            network: None,
            resolvers: Vec::new(),
            search_domains: Vec::new(),
            extra_hosts: Vec::new(),
            time: UnixTime { seconds: 0, nanoseconds: 0 },
            seed: Seed(Vec::new()),
            image,
            overrides: Overrides::default(),
            root_serial: "root".to_owned(),
            scratch_serial: "scratch".to_owned(),
            settings: Settings::default(),
        },
        tap: None,
        boot_deadline_ms: u64::try_from(DEADLINE.as_millis()).unwrap(),
        stop_grace_ms: 30_000,
        log: Rotation::default(),
    }
}

/// An image of one static program under many names.
fn root_image(folder: &Path) -> PathBuf {
    let image = folder.join("root.erofs");
    let mut command = Command::new("mkfs.erofs");
    let output = command.arg("--quiet").arg(&image).arg(assets::busybox_tree()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    image
}
