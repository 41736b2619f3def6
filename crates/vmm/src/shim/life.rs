//! The life of one boot, as a pure machine: events in, actions out. Owns every decision of the supervisor about the
//! task; it does no I/O and reads no clock, time is an argument.
//!
//! ```text
//!            Started                Stop                    the VMM has ended
//!  booting ──────────▶ running ──────────────▶ stopping ─────────────────────▶ exited
//!     │                   │                        │                              ▲
//!     │ Failed, deadline  │ Exited, broken channel │ deadline                     │
//!     └───────────────────┴────────────────────────┴──▶ (ending known, VMM killed or powering off) ──┘
//! ```
//! Whatever happens, the machine is over only when the VMM process has ended: its disks are free only then. The first
//! ending that becomes known is the one recorded.

use jiff::Timestamp;
use lith_guest::messages::health::Report;
use lith_guest::messages::{BootStep, Exit, GuestMessage};
use lith_guest::signal::Signal;
use std::time::Duration;

/// Time beyond a stop's grace for the guest to kill, sync and power off: a slow disk's sync is what takes long.
const STOP_MARGIN: Duration = Duration::from_secs(15);
/// Time between the word that the process has ended and the end of the VMM.
const POWER_OFF_DEADLINE: Duration = Duration::from_secs(15);
/// Between two words about a task's health to those who watch: a guest may say as many as it likes.
const HEALTH_INTERVAL: Duration = Duration::from_millis(250);

/// What is known of a task's boot, as told to those who watch.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// The machine boots; the process does not run yet.
    Booting,
    /// The process runs.
    Running {
        /// Its process ID in the guest.
        pid: u32,
        /// When it was started.
        since: Timestamp,
        /// What its guest tells of its health; none without a check.
        #[serde(default)]
        health: Option<Report>,
    },
    /// The process was asked to stop.
    Stopping,
    /// The machine is gone.
    Exited {
        /// How it ended.
        ending: Ending,
        /// Whether the guest ran out of memory before.
        oom_killed: bool,
    },
}

/// How a boot ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The process ended by itself.
    Code {
        /// Its exit code.
        code: u8,
    },
    /// The process was ended by a signal, or the machine was killed on request.
    Signal {
        /// The signal.
        signal: Signal,
    },
    /// The machine came to an end by itself, or had to be ended. The disks are as after a power cut.
    VmmDied {
        /// What is known, a sentence.
        message: String,
    },
    /// The process never ran.
    BootFailed {
        /// Why, a sentence.
        message: String,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// The guest said something.
    Guest(GuestMessage),
    /// The channel cannot be used any more; the sentence says why.
    ChannelBroken(String),
    /// The process that serves its disks has ended.
    DisksGone,
    /// The VMM has ended; the sentence says what is known.
    VmmEnded(String),
    /// Somebody asked to stop.
    Stop { signal: Option<Signal>, grace: Duration },
    /// The host goes down and asks its processes to end.
    HostStops { grace: Duration },
    /// Somebody asked to end the machine at once.
    Kill,
    /// A deadline may have passed.
    Tick,
}

/// How long a guest's kernel may take until `lith-init` speaks, whatever comes afterwards. Under emulation it takes two
/// seconds, and on a busy machine, with others that boot at once, tens of them.
const HELLO_WITHIN: Duration = Duration::from_secs(90);

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Tell the guest what to run.
    SendBoot,
    /// Ask the guest to stop.
    SendStop { signal: Option<Signal>, grace: Duration },
    /// End the VMM now.
    KillVmm,
    /// Tell those who watch.
    Publish(TaskState),
}

/// The state of one boot. Durations are since the supervisor's start.
#[derive(Debug)]
pub(super) struct Life {
    /// When the supervisor started, for those who are told a time of day.
    started_at: Timestamp,
    state: TaskState,
    running_since: Option<Timestamp>,
    said_hello: bool,
    /// The guest told how its process ended, or why there is none.
    said_end: bool,
    ending: Option<Ending>,
    oom_killed: bool,
    deadline: Option<Duration>,
    boot_deadline: Duration,
    /// The last word about its health that nobody was told yet.
    health_untold: Option<Report>,
    /// When the next one may be told.
    health_due: Duration,
    vmm_killed: bool,
    went_down_with_host: bool,
}

impl Life {
    pub(super) fn new(boot_deadline: Duration, started_at: Timestamp) -> Life {
        Life {
            started_at,
            state: TaskState::Booting,
            running_since: None,
            said_hello: false,
            said_end: false,
            ending: None,
            oom_killed: false,
            deadline: Some(boot_deadline.min(HELLO_WITHIN)),
            boot_deadline,
            health_untold: None,
            health_due: Duration::ZERO,
            vmm_killed: false,
            went_down_with_host: false,
        }
    }

    pub(super) fn state(&self) -> &TaskState {
        &self.state
    }

    /// When the process was started, if it ever was.
    pub(super) fn running_since(&self) -> Option<Timestamp> {
        self.running_since
    }

    /// Whether it ends because the host goes down, and for no reason of its own.
    pub(super) fn went_down_with_host(&self) -> bool {
        self.went_down_with_host
    }

    /// When to come back with [`Event::Tick`], at the latest.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let health = self.health_untold.as_ref().map(|_| self.health_due);
        [self.deadline, health].into_iter().flatten().min()
    }

    /// Whether the guest can be asked for something.
    pub(super) fn is_up(&self) -> bool {
        self.ending.is_none() && matches!(self.state, TaskState::Running { .. } | TaskState::Stopping)
    }

    pub(super) fn apply(&mut self, event: Event, now: Duration) -> Vec<Action> {
        if matches!(self.state, TaskState::Exited { .. }) {
            return Vec::new();
        }
        match event {
            Event::Guest(message) => self.guest(message, now),
            Event::ChannelBroken(why) => {
                self.end(Ending::VmmDied { message: why });
                self.kill()
            }
            Event::DisksGone => {
                self.end(Ending::VmmDied {
                    message: "the process that serves its volumes has ended".to_owned(),
                });
                self.kill()
            }
            Event::VmmEnded(why) => self.vmm_ended(why),
            Event::Stop { signal, grace } => self.stop(signal, grace, now),
            Event::HostStops { grace } => {
                let runs = matches!(self.state, TaskState::Booting | TaskState::Running { .. });
                self.went_down_with_host |= runs && self.ending.is_none();
                self.stop(None, grace, now)
            }
            Event::Kill => {
                self.end(Ending::Signal { signal: Signal::KILL });
                self.kill()
            }
            Event::Tick => self.tick(now),
        }
    }

    fn guest(&mut self, message: GuestMessage, now: Duration) -> Vec<Action> {
        match message {
            GuestMessage::Hello { version } if version != lith_guest::messages::VERSION => {
                let message = format!("the guest speaks version {version} of the protocol");
                self.end(Ending::BootFailed { message });
                self.kill()
            }
            GuestMessage::Hello { .. } if self.said_hello => self.misbehaved("said hello twice"),
            GuestMessage::Hello { .. } => {
                self.said_hello = true;
                // Unless it is being stopped, it has the time that it needs for its volumes.
                if self.ending.is_none() && matches!(self.state, TaskState::Booting) {
                    self.deadline = Some(self.boot_deadline);
                }
                vec![Action::SendBoot]
            }
            GuestMessage::Started { pid } => match self.state {
                TaskState::Booting if self.said_hello && self.ending.is_none() => {
                    self.deadline = None;
                    // A clock at the end of time is a broken one: any moment is as good.
                    let since = self.started_at.saturating_add(now).unwrap_or(self.started_at);
                    self.running_since = Some(since);
                    self.publish(TaskState::Running { pid, since, health: None })
                }
                // The word crossed a stop on its way.
                TaskState::Stopping if self.said_hello => Vec::new(),
                TaskState::Booting
                | TaskState::Running { .. }
                | TaskState::Stopping
                | TaskState::Exited { .. } => self.misbehaved("said that it started a process out of turn"),
            },
            GuestMessage::Exited { .. } | GuestMessage::Failed { .. } if self.said_end => {
                // Each would put the end off once more.
                self.misbehaved("told of the end of its process twice")
            }
            GuestMessage::Exited { exit, oom_killed } => {
                self.said_end = true;
                self.oom_killed |= oom_killed;
                match checked(exit) {
                    Some(ending) => self.end(ending),
                    None => return self.misbehaved("said that its process ended with an unknown signal"),
                }
                self.await_power_off(now);
                Vec::new()
            }
            GuestMessage::Failed { step, message } => {
                self.said_end = true;
                self.end(Ending::BootFailed { message: failure(step, &message) });
                self.await_power_off(now);
                Vec::new()
            }
            GuestMessage::Health(report) => {
                if self.ending.is_none() && matches!(self.state, TaskState::Running { .. }) {
                    self.health_untold = Some(report);
                }
                self.tell_health(now)
            }
            // The supervisor routes figures to whoever asked.
            GuestMessage::Stats(_) => Vec::new(),
            GuestMessage::PowerOff => {
                self.end(Ending::VmmDied {
                    message: "the guest powered off without ending its process".to_owned(),
                });
                self.kill()
            }
        }
    }

    fn stop(&mut self, signal: Option<Signal>, grace: Duration, now: Duration) -> Vec<Action> {
        if self.ending.is_some() {
            return Vec::new();
        }
        if matches!(self.state, TaskState::Booting) {
            // Nothing runs that could be asked.
            self.end(Ending::Signal { signal: Signal::KILL });
            return self.kill();
        }
        // A second stop may shorten the grace, never lengthen it: an impatient person has the last word.
        let deadline = now.saturating_add(grace).saturating_add(STOP_MARGIN);
        self.deadline = Some(self.deadline.map_or(deadline, |earlier| earlier.min(deadline)));
        let mut actions = vec![Action::SendStop { signal, grace }];
        if self.state != TaskState::Stopping {
            actions.extend(self.publish(TaskState::Stopping));
        }
        actions
    }

    /// Tells the last word about the task's health, when there is one and its time has come.
    fn tell_health(&mut self, now: Duration) -> Vec<Action> {
        let TaskState::Running { pid, since, .. } = self.state else {
            self.health_untold = None;
            return Vec::new();
        };
        match self.health_untold.take_if(|_| now >= self.health_due) {
            Some(report) => {
                self.health_due = now + HEALTH_INTERVAL;
                self.publish(TaskState::Running { pid, since, health: Some(report) })
            }
            None => Vec::new(),
        }
    }

    fn tick(&mut self, now: Duration) -> Vec<Action> {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return self.tell_health(now);
        }
        self.overdue()
    }

    /// A deadline has passed.
    fn overdue(&mut self) -> Vec<Action> {
        match self.state {
            TaskState::Booting => {
                let (step, within) = match self.said_hello {
                    true => ("did not start its process", self.boot_deadline),
                    false => ("did not boot", self.boot_deadline.min(HELLO_WITHIN)),
                };
                let seconds = within.as_secs();
                self.end(Ending::BootFailed { message: format!("the machine {step} within {seconds} s") });
            }
            TaskState::Running { .. } | TaskState::Stopping => {
                self.end(Ending::Signal { signal: Signal::KILL })
            }
            TaskState::Exited { .. } => {}
        }
        self.kill()
    }

    fn vmm_ended(&mut self, why: String) -> Vec<Action> {
        let unexplained = match self.state {
            TaskState::Booting => Ending::BootFailed { message: why },
            TaskState::Running { .. } | TaskState::Stopping | TaskState::Exited { .. } => {
                Ending::VmmDied { message: why }
            }
        };
        let ending = self.ending.take().unwrap_or(unexplained);
        self.deadline = None;
        self.publish(TaskState::Exited { ending, oom_killed: self.oom_killed })
    }

    fn await_power_off(&mut self, now: Duration) {
        // After the kill there is nothing left to do at a deadline.
        self.deadline = (!self.vmm_killed).then(|| now + POWER_OFF_DEADLINE);
    }

    fn misbehaved(&mut self, what: &str) -> Vec<Action> {
        self.end(Ending::VmmDied { message: format!("the guest broke its protocol: it {what}") });
        self.kill()
    }

    fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
    }

    fn kill(&mut self) -> Vec<Action> {
        self.deadline = None;
        self.health_untold = None;
        if std::mem::replace(&mut self.vmm_killed, true) { Vec::new() } else { vec![Action::KillVmm] }
    }

    fn publish(&mut self, state: TaskState) -> Vec<Action> {
        if !matches!(state, TaskState::Running { .. }) {
            self.health_untold = None;
        }
        self.state = state.clone();
        vec![Action::Publish(state)]
    }
}

fn checked(exit: Exit) -> Option<Ending> {
    match exit {
        Exit::Code(code) => Some(Ending::Code { code }),
        Exit::Signal(signal) => signal.checked().map(|signal| Ending::Signal { signal }),
    }
}

/// "cannot find the user: no user is called app".
fn failure(step: BootStep, message: &str) -> String {
    format!("cannot {step}: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lith_guest::messages::VERSION;
    use lith_guest::messages::health::HealthState;
    use proptest::collection::vec;
    use proptest::prelude::{Just, Strategy, any, prop_assert, prop_oneof, proptest};

    const GRACE: Duration = Duration::from_secs(10);

    fn hello() -> Event {
        Event::Guest(GuestMessage::Hello { version: VERSION })
    }

    fn started() -> Event {
        Event::Guest(GuestMessage::Started { pid: 7 })
    }

    fn exited(code: u8) -> Event {
        Event::Guest(GuestMessage::Exited { exit: Exit::Code(code), oom_killed: false })
    }

    fn gone() -> Event {
        Event::VmmEnded("the VMM ended".to_owned())
    }

    fn stop() -> Event {
        Event::Stop { signal: None, grace: GRACE }
    }

    fn died(message: &str) -> Ending {
        Ending::VmmDied { message: message.to_owned() }
    }

    /// Runs the events, each at its second, and compares the state and whether the VMM was killed.
    fn check(events: Vec<(u64, Event)>, expect: &TaskState, killed: bool) {
        let mut life = Life::new(Duration::from_secs(60), Timestamp::UNIX_EPOCH);
        let mut actions = Vec::new();
        for (second, event) in events.clone() {
            actions.extend(life.apply(event, Duration::from_secs(second)));
        }
        assert_eq!(life.state(), expect, "{events:?}");
        assert_eq!(actions.contains(&Action::KillVmm), killed, "{events:?}");
    }

    fn check_ending(events: Vec<Event>, ending: Ending, killed: bool) {
        let events = events.into_iter().map(|event| (0, event)).collect();
        check(events, &TaskState::Exited { ending, oom_killed: false }, killed);
    }

    #[test]
    fn the_usual_life() {
        check_ending(vec![hello(), started(), exited(3), gone()], Ending::Code { code: 3 }, false);
        let power_off = Event::Guest(GuestMessage::PowerOff);
        check_ending(vec![hello(), started(), exited(0), power_off, gone()], Ending::Code { code: 0 }, true);
        check_ending(vec![hello(), started(), stop(), exited(0), gone()], Ending::Code { code: 0 }, false);
    }

    #[test]
    fn a_kernel_that_hangs_is_not_given_the_time_that_volumes_need() {
        let with_volumes = || Life::new(Duration::from_secs(700), Timestamp::UNIX_EPOCH);
        let mut hangs = with_volumes();
        assert_eq!(hangs.deadline(), Some(HELLO_WITHIN));
        assert!(hangs.apply(Event::Tick, HELLO_WITHIN).contains(&Action::KillVmm));
        let _ = hangs.apply(gone(), HELLO_WITHIN);
        let ending = Ending::BootFailed { message: "the machine did not boot within 90 s".to_owned() };
        assert_eq!(*hangs.state(), TaskState::Exited { ending, oom_killed: false });
        let mut boots = with_volumes();
        let _ = boots.apply(hello(), Duration::from_secs(80));
        assert_eq!(boots.apply(Event::Tick, HELLO_WITHIN), []);
        assert_eq!(boots.deadline(), Some(Duration::from_secs(700)));
    }

    #[test]
    fn the_first_ending_counts() {
        check_ending(
            vec![hello(), started(), exited(3), Event::Kill, gone()],
            Ending::Code { code: 3 },
            true,
        );
        let broken = Event::ChannelBroken("garbage".to_owned());
        check_ending(vec![hello(), started(), broken, exited(0), gone()], died("garbage"), true);
    }

    #[test]
    fn an_end_that_nobody_announced() {
        check_ending(vec![hello(), started(), gone()], died("the VMM ended"), false);
        let failed = Ending::BootFailed { message: "the VMM ended".to_owned() };
        check_ending(vec![gone()], failed.clone(), false);
        check_ending(vec![hello(), gone()], failed, false);
    }

    #[test]
    fn stopping_before_it_runs_and_stopping_twice() {
        check_ending(vec![hello(), stop(), gone()], Ending::Signal { signal: Signal::KILL }, true);
        let mut life = Life::new(GRACE, Timestamp::UNIX_EPOCH);
        for event in [hello(), started(), stop()] {
            life.apply(event, Duration::ZERO);
        }
        let first = life.deadline().unwrap();
        let actions = life.apply(Event::Stop { signal: None, grace: Duration::ZERO }, Duration::ZERO);
        assert!(life.deadline().unwrap() < first);
        assert_eq!(actions, [Action::SendStop { signal: None, grace: Duration::ZERO }]);
    }

    #[test]
    fn only_what_would_have_run_on_ends_with_the_host() {
        let check = |events: Vec<Event>, expect: bool| {
            let mut life = Life::new(GRACE, Timestamp::UNIX_EPOCH);
            for event in events.clone() {
                life.apply(event, Duration::ZERO);
            }
            assert_eq!(life.went_down_with_host(), expect, "{events:?}");
        };
        let down = || Event::HostStops { grace: GRACE };
        check(vec![hello(), started(), down(), exited(0), gone()], true);
        check(vec![hello(), down(), gone()], true);
        check(vec![hello(), started(), exited(1), down(), gone()], false);
        check(vec![hello(), started(), stop(), down(), exited(0), gone()], false);
    }

    #[test]
    fn deadlines() {
        let tick = |second| (second, Event::Tick);
        check(vec![tick(59)], &TaskState::Booting, false);
        check(vec![tick(60)], &TaskState::Booting, true);
        let end = |message: &str| TaskState::Exited {
            ending: Ending::BootFailed { message: message.to_owned() },
            oom_killed: false,
        };
        check(vec![tick(60), (60, gone())], &end("the machine did not boot within 60 s"), true);
        check(
            vec![(1, hello()), tick(60), (60, gone())],
            &end("the machine did not start its process within 60 s"),
            true,
        );
        let running = TaskState::Running { pid: 7, since: Timestamp::from_second(2).unwrap(), health: None };
        check(vec![(1, hello()), (2, started()), tick(1000)], &running, false);
        check(vec![(1, hello()), (2, started()), (3, stop()), tick(20)], &TaskState::Stopping, false);
        check(vec![(1, hello()), (2, started()), (3, stop()), tick(28)], &TaskState::Stopping, true);
        check(vec![(1, hello()), (2, started()), (3, exited(0)), tick(18)], &running, true);
    }

    #[test]
    fn a_guest_that_chatters_about_its_health_is_told_of_seldom() {
        let mut life = Life::new(GRACE, Timestamp::UNIX_EPOCH);
        for event in [hello(), started()] {
            life.apply(event, Duration::ZERO);
        }
        let report = |number: u64| Report { state: HealthState::Starting, output: Some(number.to_string()) };
        let mut told = 0;
        for millis in 0..1000 {
            let event = Event::Guest(GuestMessage::Health(report(millis)));
            told += life.apply(event, Duration::from_millis(millis)).len();
        }
        assert_eq!(told, 4);
        // The last word is told at last.
        let deadline = life.deadline().unwrap();
        assert_eq!(life.apply(Event::Tick, deadline).len(), 1);
        let TaskState::Running { health, .. } = life.state() else { panic!("{:?}", life.state()) };
        assert_eq!(health.as_ref().unwrap(), &report(999));
        assert_eq!(life.deadline(), None);
        life.apply(stop(), deadline);
        let late = Event::Guest(GuestMessage::Health(report(1)));
        assert_eq!(life.apply(late, deadline), []);
        assert_eq!(life.state(), &TaskState::Stopping);
    }

    #[test]
    fn a_guest_out_of_turn_is_ended() {
        for events in [
            vec![started()],
            vec![hello(), hello()],
            vec![hello(), started(), started()],
            vec![hello(), started(), exited(0), exited(0)],
        ] {
            let killed = {
                let mut life = Life::new(GRACE, Timestamp::UNIX_EPOCH);
                let actions: Vec<_> =
                    events.iter().flat_map(|e| life.apply(e.clone(), Duration::ZERO)).collect();
                actions.contains(&Action::KillVmm)
            };
            assert!(killed, "{events:?}");
        }
        let bad = Event::Guest(GuestMessage::Exited { exit: Exit::Signal(Signal(999)), oom_killed: false });
        check_ending(
            vec![hello(), started(), bad, gone()],
            died("the guest broke its protocol: it said that its process ended with an unknown signal"),
            true,
        );
    }

    fn any_message() -> impl Strategy<Value = GuestMessage> {
        let exit =
            prop_oneof![any::<u8>().prop_map(Exit::Code), any::<i32>().prop_map(|n| Exit::Signal(Signal(n)))];
        prop_oneof![
            prop_oneof![Just(VERSION), any::<u32>()].prop_map(|version| GuestMessage::Hello { version }),
            any::<u32>().prop_map(|pid| GuestMessage::Started { pid }),
            (exit, any::<bool>()).prop_map(|(exit, oom_killed)| GuestMessage::Exited { exit, oom_killed }),
            Just(GuestMessage::Failed { step: BootStep::Start, message: String::new() }),
            Just(GuestMessage::Stats(lith_guest::messages::Stats::default())),
            Just(GuestMessage::Health(Report { state: HealthState::Unhealthy, output: None })),
            Just(GuestMessage::PowerOff),
        ]
    }

    proptest! {
        /// Whatever a guest says, and however often: a stop ends its machine in a bounded time.
        #[test]
        fn a_stop_is_the_end(
            before in vec(any_message(), 0..6),
            after in vec((any_message(), 0u64..20), 0..60),
            greets in any::<bool>(),
        ) {
            let mut life = Life::new(Duration::from_secs(60), Timestamp::UNIX_EPOCH);
            let usual = if greets { vec![hello(), started()] } else { Vec::new() };
            let mut actions = Vec::new();
            for event in usual.into_iter().chain(before.into_iter().map(Event::Guest)) {
                actions.extend(life.apply(event, Duration::ZERO));
            }
            actions.extend(life.apply(stop(), Duration::ZERO));
            let bound = GRACE + STOP_MARGIN + POWER_OFF_DEADLINE;
            let mut now = Duration::ZERO;
            for (message, seconds) in after {
                // The supervisor comes back at each deadline, and with each word of the guest.
                let next = now + Duration::from_secs(seconds);
                while let Some(deadline) = life.deadline().filter(|deadline| *deadline <= next) {
                    actions.extend(life.apply(Event::Tick, deadline));
                }
                now = next;
                if now < bound {
                    actions.extend(life.apply(Event::Guest(message), now));
                }
            }
            actions.extend(life.apply(Event::Tick, bound));
            prop_assert!(actions.contains(&Action::KillVmm));
            prop_assert!(life.deadline().is_none());
            life.apply(gone(), bound);
            let is_over = matches!(life.state(), TaskState::Exited { .. });
            prop_assert!(is_over);
        }
    }

    #[test]
    fn a_failed_step_is_a_sentence() {
        let failed =
            Event::Guest(GuestMessage::Failed { step: BootStep::User, message: "no user app".to_owned() });
        let message = "cannot find the user: no user app".to_owned();
        check_ending(vec![hello(), failed, gone()], Ending::BootFailed { message }, false);
    }
}
