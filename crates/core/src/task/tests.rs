//! Tests of a task's life: tables, and a simulated node that crashes anywhere.

use proptest::prelude::*;

use super::*;

const NOW: Time = Time(1_000_000);

fn wanted(incarnation: u64) -> Wanted {
    Wanted {
        incarnation: Incarnation(incarnation),
        run: true,
        restart: RestartPolicy::Always,
        stop_grace: Duration::from_secs(10),
        obstacle: None,
    }
}

fn exited(boot: u64, exit: Exit) -> Process {
    let ran = Duration::from_secs(1);
    Process::Exited(ExitReport { boot, incarnation: Incarnation(1), ran, exit })
}

fn running(incarnation: u64) -> Process {
    Process::Running { incarnation: Incarnation(incarnation), since: NOW, health: None }
}

/// History after one boot of incarnation 1 was begun.
fn begun() -> History {
    History { incarnation: Some(Incarnation(1)), boot: 1, ..History::default() }
}

#[test]
fn fetches_then_starts_then_leaves_alone() {
    let history = History::default();
    let first = step(&history, Some(&wanted(1)), &Image::Missing, &Process::Absent, NOW);
    assert_eq!((first.phase, first.actions), (Phase::Fetching, vec![Action::Fetch]));
    let second = step(&first.history, Some(&wanted(1)), &Image::Fetching, &Process::Absent, NOW);
    assert_eq!((second.phase, second.actions), (Phase::Fetching, vec![]));
    let third = step(&second.history, Some(&wanted(1)), &Image::Present, &Process::Absent, NOW);
    assert_eq!(third.actions, vec![Action::Start { incarnation: Incarnation(1), boot: 1 }]);
    let fourth = step(&third.history, Some(&wanted(1)), &Image::Present, &running(1), NOW);
    assert_eq!((fourth.phase, fourth.actions), (Phase::Running, vec![]));
}

#[test]
fn policies() {
    let with = |restart| Wanted { restart, ..wanted(1) };
    let on_failure = |retries_max| with(RestartPolicy::OnFailure { retries_max });
    let cases = [
        (with(RestartPolicy::Always), Exit::Code(0), false),
        (with(RestartPolicy::Never), Exit::Code(1), true),
        (with(RestartPolicy::Never), Exit::NodeRestarted, false),
        (on_failure(None), Exit::Code(0), true),
        (on_failure(None), Exit::Code(1), false),
        (on_failure(None), Exit::Signal(9), false),
        (on_failure(Some(0)), Exit::Code(1), true),
        (on_failure(Some(1)), Exit::Code(1), false),
        (on_failure(Some(1)), Exit::Code(0), true),
        (on_failure(Some(0)), Exit::NodeRestarted, false),
        // A port that is taken is not the app's doing: the node goes on trying.
        (with(RestartPolicy::Never), Exit::NotStarted("taken".to_owned()), false),
        (on_failure(Some(0)), Exit::NotStarted("taken".to_owned()), false),
    ];
    for (wanted, exit, is_finished) in cases {
        let next = step(&begun(), Some(&wanted), &Image::Present, &exited(1, exit.clone()), NOW);
        assert_eq!(next.history.is_finished, is_finished, "{wanted:?} {exit:?}");
        assert_eq!(next.actions, vec![Action::ForgetExit]);
    }
}

#[test]
fn what_the_node_could_not_begin_is_no_restart_and_no_failure_of_the_app() {
    let once = Wanted { restart: RestartPolicy::OnFailure { retries_max: Some(1) }, ..wanted(1) };
    let ended = |history: &History, boot, exit| {
        step(history, Some(&once), &Image::Present, &exited(boot, exit), NOW).history
    };
    let mut history = begun();
    for boot in 1..5 {
        history = ended(&History { boot, ..history }, boot, Exit::NotStarted("taken".to_owned()));
    }
    assert_eq!((history.restarts, history.failures, history.is_finished), (0, 4, false));
    let failed = ended(&History { boot: 5, ..history }, 5, Exit::Code(1));
    assert_eq!((failed.restarts, failed.failures, failed.is_finished), (1, 1, false));
}

#[test]
fn what_is_in_the_way_costs_nothing() {
    let waits = Wanted { obstacle: Some("waits for db to start".to_owned()), ..wanted(1) };
    let first = step(&History::default(), Some(&waits), &Image::Missing, &Process::Absent, NOW);
    assert_eq!((first.phase, first.actions), (Phase::Fetching, vec![Action::Fetch]));
    let second = step(&first.history, Some(&waits), &Image::Present, &Process::Absent, NOW);
    assert_eq!((second.phase, &second.actions, second.wake_at), (Phase::Waiting, &vec![], None));
    assert_eq!(second.why.as_deref(), Some("waits for db to start"));
    assert_eq!((second.history.restarts, second.history.failures, second.history.boot), (0, 0, 0));
    let third = step(&second.history, Some(&wanted(1)), &Image::Present, &Process::Absent, NOW);
    assert_eq!(third.actions, vec![Action::Start { incarnation: Incarnation(1), boot: 1 }]);
    // What runs already goes on.
    let running = step(&third.history, Some(&waits), &Image::Present, &running(1), NOW);
    assert_eq!((running.phase, running.actions), (Phase::Running, vec![]));
}

#[test]
fn an_exit_counts_once_though_it_is_seen_twice() {
    let report = exited(1, Exit::Code(1));
    let once = step(&begun(), Some(&wanted(1)), &Image::Present, &report, NOW);
    let twice = step(&once.history, Some(&wanted(1)), &Image::Present, &report, NOW);
    assert_eq!(once.history, twice.history);
    assert_eq!(twice.actions, vec![Action::ForgetExit]);
}

#[test]
fn delays_grow_and_a_healthy_run_resets_them() {
    let delays: Vec<u64> = (0..12).map(|failures| backoff(failures).as_secs()).collect();
    assert_eq!(delays, [1, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    let history = History { failures: 7, ..begun() };
    let Process::Exited(report) = exited(1, Exit::Code(1)) else { unreachable!() };
    let healthy = Process::Exited(ExitReport { ran: HEALTHY_AFTER, ..report });
    let next = step(&history, Some(&wanted(1)), &Image::Present, &healthy, NOW);
    assert_eq!((next.history.failures, next.history.not_before), (0, Some(NOW.after(BACKOFF_FIRST))));
}

#[test]
fn waits_for_its_delay_but_not_for_a_clock_that_was_set_back() {
    let due = NOW.after(Duration::from_secs(5));
    let history = History { not_before: Some(due), ..begun() };
    let next = step(&history, Some(&wanted(1)), &Image::Present, &Process::Absent, NOW);
    assert_eq!((next.phase, next.wake_at, next.actions), (Phase::Waiting, Some(due), vec![]));
    let history = History { not_before: Some(NOW.after(BACKOFF_MAX * 2)), ..begun() };
    let next = step(&history, Some(&wanted(1)), &Image::Present, &Process::Absent, NOW);
    assert_eq!(next.phase, Phase::Starting);
}

#[test]
fn a_change_stops_then_starts_without_delay() {
    let next = step(&begun(), Some(&wanted(2)), &Image::Present, &running(1), NOW);
    assert_eq!((next.phase, next.actions), (Phase::Stopping, vec![Action::Stop]));
    let next = step(&next.history, Some(&wanted(2)), &Image::Present, &exited(1, Exit::Signal(15)), NOW);
    let next = step(&next.history, Some(&wanted(2)), &Image::Present, &Process::Absent, NOW);
    assert_eq!(next.actions, vec![Action::Start { incarnation: Incarnation(2), boot: 2 }]);
}

#[test]
fn a_former_version_runs_until_the_image_of_the_next_is_here() {
    let look = |history: &History, image: &Image| step(history, Some(&wanted(2)), image, &running(1), NOW);
    let first = look(&begun(), &Image::Missing);
    assert_eq!((first.phase, first.actions), (Phase::Fetching, vec![Action::Fetch]));
    let second = look(&first.history, &Image::Fetching);
    assert_eq!((second.phase, second.actions), (Phase::Fetching, vec![]));
    let third = look(&second.history, &Image::Failed("no such tag".to_owned()));
    assert_eq!((third.phase, third.actions), (Phase::Waiting, vec![Action::ForgetFetch]));
    assert_eq!(third.why.unwrap(), "still runs its former version: no such tag");
    let fourth = look(&third.history, &Image::Missing);
    assert_eq!((fourth.phase, fourth.actions, fourth.wake_at), (Phase::Waiting, vec![], third.wake_at));
    // Taken back: nothing has happened.
    let back = step(&fourth.history, Some(&wanted(1)), &Image::Missing, &running(1), NOW);
    assert_eq!((back.phase, back.actions), (Phase::Running, vec![]));
    let fifth = look(&fourth.history, &Image::Present);
    assert_eq!(fifth.actions, vec![Action::Stop]);
    // What is not to run at all needs no image.
    let stop = Wanted { run: false, ..wanted(2) };
    assert_eq!(step(&begun(), Some(&stop), &Image::Missing, &running(1), NOW).actions, vec![Action::Stop]);
}

#[test]
fn what_does_not_stop_is_ended_by_force() {
    let history = begun();
    let first = step(&history, None, &Image::Present, &running(1), NOW);
    assert_eq!(first.actions, vec![Action::Stop]);
    let deadline = first.wake_at.unwrap();
    let later = step(&first.history, None, &Image::Present, &Process::Stopping, deadline);
    assert_eq!(later.actions, vec![Action::Kill]);
}

#[test]
fn stopped_keeps_and_removed_forgets() {
    let stopped = Wanted { run: false, ..wanted(1) };
    let next = step(&begun(), Some(&stopped), &Image::Present, &Process::Absent, NOW);
    assert_eq!((next.phase, next.actions), (Phase::Stopped, vec![]));
    let next = step(&begun(), None, &Image::Present, &Process::Absent, NOW);
    assert_eq!((next.phase, next.actions), (Phase::Gone, vec![Action::Remove]));
}

#[test]
fn a_failed_fetch_is_told_and_tried_again() {
    let failed = Image::Failed("the registry does not answer".to_owned());
    let next = step(&History::default(), Some(&wanted(1)), &failed, &Process::Absent, NOW);
    assert_eq!(next.why.as_deref(), Some("could not start: the registry does not answer"));
    assert_eq!(next.actions, vec![Action::ForgetFetch]);
    let due = next.wake_at.unwrap();
    let next = step(&next.history, Some(&wanted(1)), &Image::Missing, &Process::Absent, due);
    assert_eq!(next.actions, vec![Action::Fetch]);
}

/// A node as the step sees it: durable history, and the world that actions change.
#[derive(Debug)]
struct Node {
    history: History,
    image: Image,
    process: Process,
    is_gone: bool,
    now: Time,
}

impl Node {
    fn new() -> Self {
        Self {
            history: History::default(),
            image: Image::Missing,
            process: Process::Absent,
            is_gone: false,
            now: NOW,
        }
    }

    /// One step; a crash may cut it after the history is written and `done` actions are carried out.
    fn round(&mut self, wanted: Option<&Wanted>, done: usize) -> Step {
        let next = step(&self.history, wanted, &self.image, &self.process, self.now);
        self.history = next.history.clone();
        for action in next.actions.iter().take(done) {
            self.act(action);
        }
        next
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Fetch => self.image = Image::Fetching,
            Action::ForgetFetch => self.image = Image::Missing,
            Action::Start { incarnation, .. } => {
                assert_eq!(self.process, Process::Absent, "never two machines of one task");
                self.process = Process::Booting { incarnation: *incarnation };
            }
            Action::Stop => self.process = Process::Stopping,
            Action::Kill => self.exit(Exit::SupervisorDied(None)),
            Action::ForgetExit => self.process = Process::Absent,
            Action::Remove => self.is_gone = true,
        }
    }

    fn exit(&mut self, exit: Exit) {
        let incarnation = self.history.incarnation.unwrap_or(Incarnation(0));
        let ran = Duration::from_secs(3);
        self.process = Process::Exited(ExitReport { boot: self.history.boot, incarnation, ran, exit });
    }

    /// What the world does by itself.
    fn happen(&mut self, event: u8) {
        self.now = self.now.after(Duration::from_secs(u64::from(event)));
        match (&self.process, event % 5) {
            (Process::Booting { incarnation }, 0) => {
                self.process = Process::Running { incarnation: *incarnation, since: self.now, health: None };
            }
            (Process::Absent | Process::Exited(_), _) => {}
            (_, 1) => self.exit(Exit::Code(i32::from(event) % 3)),
            (_, 2) => self.exit(Exit::NodeRestarted),
            _ => {}
        }
        if self.image == Image::Fetching {
            self.image =
                if event.is_multiple_of(2) { Image::Present } else { Image::Failed("no".to_owned()) };
        }
    }

    /// Time passes and nothing bad happens any more, until nothing is left to do.
    fn settle(&mut self, wanted: Option<&Wanted>) -> Phase {
        for _ in 0..50 {
            let next = self.round(wanted, usize::MAX);
            match &self.process {
                Process::Booting { incarnation } => {
                    self.process =
                        Process::Running { incarnation: *incarnation, since: self.now, health: None };
                }
                Process::Stopping => self.exit(Exit::Code(0)),
                _ if self.image == Image::Fetching => self.image = Image::Present,
                _ if next.actions.is_empty() && next.wake_at.is_none() => return next.phase,
                _ => {}
            }
            if self.is_gone {
                return Phase::Gone;
            }
            self.now = next.wake_at.unwrap_or(self.now).max(self.now);
        }
        panic!("does not settle: {self:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever happens, and wherever the agent crashes, a task that should run runs again, one that should not does
    /// not, and a converged task plans nothing.
    #[test]
    fn settles_after_any_story(
        story in proptest::collection::vec((0u8..20, 0usize..3, 0u64..4, any::<bool>()), 0..60),
        end in 0u64..4,
    ) {
        let mut node = Node::new();
        let mut latest = 1;
        for (event, done, change, run) in story {
            latest += u64::from(change == 3);
            let wanted = Wanted { run, ..wanted(latest) };
            node.round((change != 0).then_some(&wanted), done);
            node.is_gone = false;
            node.happen(event);
        }
        let last = Wanted { run: end != 1, ..wanted(latest) };
        let phase = node.settle((end != 0).then_some(&last));
        let expected = match end { 0 => Phase::Gone, 1 => Phase::Stopped, _ => Phase::Running };
        prop_assert_eq!(phase, expected);
        let again = step(&node.history, (end != 0).then_some(&last), &node.image, &node.process, node.now);
        if end != 0 {
            prop_assert_eq!(again.actions, vec![]);
            prop_assert_eq!(again.history, node.history);
        }
    }
}
