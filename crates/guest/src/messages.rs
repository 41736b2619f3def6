//! What host and guest say to each other: values, and their JSON form.
//!
//! Owns the meaning of control, open and close payloads. Version [`VERSION`] is said in the guest's first message; both
//! ends come from one build, so a difference is an error rather than something to adapt to. Unknown fields are
//! ignored. Must not do anything about a message.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::process::{Environment, ImageConfig, Overrides};
use crate::signal::Signal;
use settings::Settings;

pub mod health;
pub mod settings;

/// Version of these messages and of the frames that carry them.
pub const VERSION: u32 = 1;

/// Fewest bytes of entropy that a guest accepts: what the kernel's pool needs to count as seeded.
pub const SEED_BYTES_MIN: usize = 32;

/// Most characters of a sentence that came from a guest: enough for a path and a reason.
pub const SENTENCE_CHARS_MAX: usize = 1024;

/// Host to guest, on channel 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostMessage {
    /// Everything the guest must know; sent exactly once, after [`GuestMessage::Hello`].
    Boot(Box<BootConfig>),
    /// Ask the main process to stop, kill it after the grace period, then power off.
    Stop {
        /// The signal; none means the one that the image or the job declares.
        signal: Option<Signal>,
        /// Time before SIGKILL, milliseconds.
        grace_ms: u64,
    },
    /// Send a signal to the main process.
    Signal {
        /// The signal.
        signal: Signal,
    },
    /// Set the clock: after the host slept or was restored.
    Clock(UnixTime),
    /// Ask for figures; answered by [`GuestMessage::Stats`], in order.
    Stats,
}

/// Guest to host, on channel 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestMessage {
    /// The first message: the guest is up and waits for its boot message.
    Hello {
        /// Its [`VERSION`].
        version: u32,
    },
    /// The main process runs.
    Started {
        /// Its process ID in the guest.
        pid: u32,
    },
    /// The main process has ended. Its last output was sent before.
    Exited {
        /// How.
        exit: Exit,
        /// Whether the guest's kernel killed it, or one of its children, for want of memory.
        oom_killed: bool,
    },
    /// The main process could not be started. The machine powers off.
    Failed {
        /// What the guest was doing.
        step: BootStep,
        /// A sentence for the person who wrote the job.
        #[serde(deserialize_with = "printable")]
        message: String,
    },
    /// What is known of the task's health: first when its process runs, then whenever it changes.
    Health(health::Report),
    /// Answer to [`HostMessage::Stats`].
    Stats(Stats),
    /// Disks are synced and read-only. The machine stops now; if it does not, end it.
    PowerOff,
}

/// What the guest was doing when it failed to start the main process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootStep {
    /// Loading a kernel module.
    Modules,
    /// Finding and mounting the root file system.
    Root,
    /// Mounting the kernel's file systems and making devices.
    Mounts,
    /// Configuring the network.
    Network,
    /// Writing `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`.
    Files,
    /// Setting the clock or seeding the random pool.
    Clock,
    /// Setting what the job asks of the kernel: its settings, devices and limits.
    Settings,
    /// Mounting volumes and file systems in memory.
    Volumes,
    /// Putting secrets and configs in place.
    SmallFiles,
    /// Working out the process from the image's configuration.
    Process,
    /// Finding the user or the group.
    User,
    /// Making or entering the working directory, or a declared volume.
    WorkingDir,
    /// Finding or starting the executable.
    Start,
}

impl fmt::Display for BootStep {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            BootStep::Modules => "load kernel modules",
            BootStep::Root => "mount the root file system",
            BootStep::Mounts => "mount the system's file systems",
            BootStep::Network => "configure the network",
            BootStep::Files => "write the files in /etc",
            BootStep::Clock => "set the clock",
            BootStep::Settings => "apply the job's settings",
            BootStep::Volumes => "mount the task's volumes",
            BootStep::SmallFiles => "put secrets and configs in place",
            BootStep::Process => "read the image's configuration",
            BootStep::User => "find the user",
            BootStep::WorkingDir => "enter the working directory",
            BootStep::Start => "start the process",
        })
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By itself, with this code.
    Code(u8),
    /// By this signal.
    Signal(Signal),
}

impl Exit {
    /// The code as a shell shows it: 128 plus the signal's number for a signal.
    pub fn shell_code(self) -> i32 {
        match self {
            Exit::Code(code) => i32::from(code),
            Exit::Signal(signal) => 128i32.saturating_add(signal.0),
        }
    }
}

/// Seconds and nanoseconds since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixTime {
    /// Whole seconds.
    pub seconds: i64,
    /// Below one second; above it is refused.
    pub nanoseconds: u32,
}

/// Everything a guest must know to run its task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BootConfig {
    /// Name of the machine, in `/etc/hostname` and the variable HOSTNAME.
    pub hostname: String,
    /// The network interface; none for a machine without one.
    pub network: Option<Network>,
    /// Name servers for `/etc/resolv.conf`.
    #[serde(default)]
    pub resolvers: Vec<Ipv4Addr>,
    /// Domains in which names are looked for that are not found as they are, for `/etc/resolv.conf`.
    #[serde(default)]
    pub search_domains: Vec<String>,
    /// Further lines of `/etc/hosts`.
    #[serde(default)]
    pub extra_hosts: Vec<HostEntry>,
    /// The time now.
    pub time: UnixTime,
    /// For the random pool, at least [`SEED_BYTES_MIN`] bytes.
    pub seed: Seed,
    /// What the image's configuration says.
    pub image: ImageConfig,
    /// What the job says instead.
    #[serde(default)]
    pub overrides: Overrides,
    /// Serial of the disk that holds the image, EROFS, read-only.
    pub root_serial: String,
    /// Serial of the scratch disk, ext4.
    pub scratch_serial: String,
    /// The machine around the process.
    #[serde(default)]
    pub settings: Settings,
}

/// The one network interface of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The guest's address.
    pub address: Ipv4Addr,
    /// Length of its prefix, in bits; lith gives 32.
    pub prefix: u8,
    /// Next hop of the default route, on the link whatever the prefix says.
    pub gateway: Ipv4Addr,
    /// Hardware address of the gateway: a permanent neighbour, for nothing answers ARP.
    pub gateway_mac: Mac,
    /// Hardware address of the guest's interface, by which it is found.
    pub mac: Mac,
    /// The same over IPv6; switched off on the interface when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Network6>,
}

/// What the interface has of IPv6. Nothing on the link answers solicitations or advertises anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network6 {
    /// The guest's address, alone in its prefix.
    pub address: Ipv6Addr,
    /// Next hop of the default route, with the same hardware address as that of IPv4.
    pub gateway: Ipv6Addr,
}

/// A line of `/etc/hosts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// The name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

/// A hardware address, written `02:6c:69:74:00:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = BadMac;

    fn try_from(text: String) -> Result<Mac, BadMac> {
        let parse = || {
            let mut bytes = [0; 6];
            let mut parts = text.split(':');
            for byte in &mut bytes {
                let part = parts.next().filter(|part| part.len() == 2)?;
                *byte = u8::from_str_radix(part, 16).ok()?;
            }
            parts.next().is_none().then_some(Mac(bytes))
        };
        parse().ok_or_else(|| BadMac { text: text.clone() })
    }
}

/// A text that is no hardware address.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text:?} is no hardware address")]
pub struct BadMac {
    /// What was given.
    pub text: String,
}

/// Entropy. Not shown by `Debug`: who knows it knows the guest's random numbers.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub Vec<u8>);

impl fmt::Debug for Seed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Seed({} bytes)", self.0.len())
    }
}

/// Figures of a guest. Whatever a guest says here may be a lie: show it, never build on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Memory the guest's kernel manages, bytes.
    pub memory_total_bytes: u64,
    /// Memory that processes could still get, bytes.
    pub memory_available_bytes: u64,
    /// Page cache, bytes.
    pub memory_cache_bytes: u64,
    /// Memory charged to the task's own processes, page cache excluded, bytes.
    pub memory_task_bytes: u64,
    /// CPU time of all CPUs since boot, idle excluded, microseconds.
    pub cpu_us: u64,
    /// CPU time of the task's own processes, microseconds.
    pub cpu_task_us: u64,
    /// Size of the scratch disk's file system, bytes.
    pub disk_total_bytes: u64,
    /// Bytes of it in use.
    pub disk_used_bytes: u64,
    /// Load average of 1, 5 and 15 minutes, in hundredths.
    pub load_hundredths: [u32; 3],
    /// Processes of the task.
    pub processes: u32,
    /// Time since the guest's kernel started, milliseconds.
    pub uptime_ms: u64,
}

/// Opens a channel, host to guest. The guest answers with one [`Outcome`], at last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Run a command beside the main process. Ends with [`Outcome::Exited`].
    Exec(Exec),
    /// Send `path` as a tar archive on [`crate::wire::Stream::Out`]; its first entry is named as the last part of the
    /// path. Ends with [`Outcome::Done`].
    CopyOut {
        /// Absolute, or relative to the root.
        path: String,
    },
    /// Unpack a tar archive from [`crate::wire::Stream::In`]. Into `path` when that is a directory; otherwise the
    /// archive's one top entry becomes `path`, whose parent must exist. Ends with [`Outcome::Done`].
    CopyIn {
        /// Absolute, or relative to the root.
        path: String,
    },
}

/// A command to run beside the main process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Program and arguments; the program is looked up in PATH.
    pub argv: Vec<String>,
    /// Variables on top of those of the main process.
    #[serde(default)]
    pub env: Environment,
    /// User, or `user:group`; none means that of the main process.
    #[serde(default)]
    pub user: Option<String>,
    /// Working directory; none means that of the main process.
    #[serde(default)]
    pub working_dir: Option<String>,
    /// A terminal; none means pipes.
    #[serde(default)]
    pub tty: Option<Tty>,
}

/// A terminal for a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tty {
    /// Its size.
    pub size: TtySize,
    /// The variable TERM.
    pub term: String,
}

/// Size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TtySize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub cols: u16,
}

/// Host to guest, on the channel of an [`Exec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecControl {
    /// The terminal's size has changed.
    Resize(TtySize),
}

/// How a channel ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A copy is complete.
    Done,
    /// A command ran and ended.
    Exited(Exit),
    /// The request could not be carried out.
    Failed {
        /// The code a shell would give: 127 for a command not found, 126 for one that cannot run, else 1.
        code: u8,
        /// A sentence for the person who asked.
        #[serde(deserialize_with = "printable")]
        message: String,
    },
    /// The host gave up (host to guest, and the guest's answer to it).
    Cancelled,
}

/// Reads the JSON form of a message.
///
/// # Errors
/// [`BadMessage`] when it is not one.
pub fn from_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, BadMessage> {
    serde_json::from_slice(json).map_err(|source| BadMessage { source })
}

/// A payload that is no message of the kind expected.
#[derive(Debug, thiserror::Error)]
#[error("cannot read a message of the guest channel")]
pub struct BadMessage {
    /// Why not.
    #[source]
    pub source: serde_json::Error,
}

/// What may be shown of a text from a guest: no control characters (a terminal would obey them), bounded length.
pub fn clean(text: &str) -> String {
    let shown = |character: char| if character.is_control() { '\u{fffd}' } else { character };
    text.chars().take(SENTENCE_CHARS_MAX).map(shown).collect()
}

fn printable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(clean(&String::deserialize(deserializer)?))
}

#[cfg(test)]
mod tests {
    use super::{BootStep, Exit, GuestMessage, Mac, Outcome, SENTENCE_CHARS_MAX, Seed, from_json};
    use crate::signal::Signal;

    #[test]
    fn a_hostile_sentence_is_cleaned() {
        let message = format!("\u{1b}[2Jhello\n{}", "x".repeat(5000));
        let json = serde_json::to_vec(&Outcome::Failed { code: 1, message }).unwrap();
        let Outcome::Failed { message, .. } = from_json(&json).unwrap() else { panic!("not failed") };
        assert!(message.starts_with("\u{fffd}[2Jhello\u{fffd}xxx"), "{message}");
        assert_eq!(message.chars().count(), SENTENCE_CHARS_MAX);
    }

    #[test]
    fn forms_are_stable() {
        let check = |message: GuestMessage, json: &str| {
            assert_eq!(serde_json::to_string(&message).unwrap(), json);
            assert_eq!(from_json::<GuestMessage>(json.as_bytes()).unwrap(), message);
        };
        check(GuestMessage::Hello { version: 1 }, r#"{"hello":{"version":1}}"#);
        check(GuestMessage::PowerOff, r#""power_off""#);
        check(
            GuestMessage::Exited { exit: Exit::Signal(Signal(9)), oom_killed: true },
            r#"{"exited":{"exit":{"signal":9},"oom_killed":true}}"#,
        );
        check(
            GuestMessage::Failed { step: BootStep::User, message: "no".into() },
            r#"{"failed":{"step":"user","message":"no"}}"#,
        );
    }

    #[test]
    fn unknown_fields_are_ignored_and_unknown_messages_refused() {
        assert!(from_json::<GuestMessage>(br#"{"hello":{"version":1,"later":true}}"#).is_ok());
        assert!(from_json::<GuestMessage>(br#"{"goodbye":{}}"#).is_err());
    }

    #[test]
    fn hardware_addresses() {
        let check = |text: &str, expect: Option<[u8; 6]>| {
            assert_eq!(Mac::try_from(text.to_owned()).ok().map(|mac| mac.0), expect, "{text}");
        };
        check("02:6c:69:74:0f:a0", Some([2, 0x6c, 0x69, 0x74, 0x0f, 0xa0]));
        check("02:6c:69:74:0f", None);
        check("02:6c:69:74:0f:a0:00", None);
        check("2:6c:69:74:0f:a0", None);
        check("02:6c:69:74:0f:g0", None);
        assert_eq!(Mac([2, 0x6c, 0x69, 0x74, 0, 1]).to_string(), "02:6c:69:74:00:01");
    }

    #[test]
    fn entropy_is_not_shown() {
        assert_eq!(format!("{:?}", Seed(vec![7; 32])), "Seed(32 bytes)");
    }
}
