//! The handle that brings the machine to a [`NetworkState`]. At first, and whenever somebody else may have changed something,
//! it looks at what is there and replaces the rules whole, so that a crash at any point is repaired by the next call. In
//! between it changes only what the new state changes.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lith_core::chain::chain;
use lith_core::slot::Slot;
use tracing::{debug, warn};

use crate::address::GuestNetwork;
use crate::command::run;
use crate::conntrack::{self, Circumstances};
use crate::error::NetworkError;
use crate::firewalls;
use crate::forwarding::{self, Claim, Means};
use crate::interface::{self, Tap};
use crate::opened::{self, Opened};
use crate::own::{self, Own};
use crate::ruleset::{self, Model, Surroundings};
use crate::stamp;
use crate::state::{Guest, NetworkState};
use crate::tap::{self, TapError};

/// The guest network of one network namespace. Only one may exist per namespace at a time. All calls block for some
/// milliseconds, more with hundreds of guests.
#[derive(Debug)]
pub struct Network {
    /// Remembers the host's settings from before.
    state_file: PathBuf,
    /// Whose network it is; written into the rules.
    owner: String,
    /// How IPv6 is made to be forwarded; what the kernel can do when `None`.
    means: Option<Means>,
    /// Held during each change, so that changes do not mix.
    inner: Mutex<Inner>,
}

/// What this handle knows.
#[derive(Debug, Default)]
struct Inner {
    /// The state last put in force.
    applied: Option<NetworkState>,
    /// The rules in force, as long as nobody else and no failure may have changed rules, TAPs, addresses or routes.
    model: Option<Model>,
    /// That there are no rules, until somebody tries to put some in force.
    is_bare: bool,
}

/// What a call has to do with TAPs.
#[derive(Debug)]
struct Devices {
    surplus: BTreeSet<Slot>,
    fresh: BTreeSet<Slot>,
    /// Those to be brought up when the rules are in force.
    unsettled: BTreeMap<Slot, Tap>,
}

impl Network {
    /// A handle. Touches nothing. `state_file` lies in a folder that exists and survives until
    /// [`remove_all`](Self::remove_all). `owner` is what tells this network from that of another lith on the same
    /// machine: the path of its data folder.
    #[must_use]
    pub fn new(state_file: PathBuf, owner: &str) -> Self {
        Self { state_file, owner: ruleset::comment(owner), means: None, inner: Mutex::default() }
    }

    /// The same handle, which makes IPv6 be forwarded as on kernels before 6.17 whatever this one can do. For tests.
    #[doc(hidden)]
    #[must_use]
    pub fn on_older_kernel(self) -> Self {
        Self { means: Some(Means::Machine), ..self }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses to touch what another lith left whose guests still run; what it left without guests is taken over.
    fn refuse_foreign(&self) -> Result<(), NetworkError> {
        // That there is no such table is what nft calls a failure.
        let listing = run("nft", &["-t", "list", "table", "inet", "lith"], "").unwrap_or_default();
        let Some(owner) = ruleset::owner(&listing).filter(|owner| *owner != self.owner) else {
            return Ok(());
        };
        if interface::taps()?.values().any(|tap| tap.is_held) {
            return Err(NetworkError::Foreign { owner: owner.to_owned() });
        }
        Ok(())
    }

    /// Says that somebody may have changed what is in force: the next [`apply`](Self::apply) looks at everything, and replaces
    /// the rules whole. To be called after each [`Disturbance`](crate::watch::Disturbance), and now and then without one.
    pub fn distrust(&self) {
        self.inner().model = None;
    }

    /// Makes TAPs, rules, addresses and routes exactly what `state` says. Flows that `state` still allows go on
    /// undisturbed; all others end. `still_open` says what names have opened to guests and is still open; it is asked where
    /// the rules are replaced whole, twice, so that nothing is lost that is opened meanwhile.
    ///
    /// # Errors
    /// The state is impossible (nothing was changed then), or a step failed; calling again goes on from there.
    pub fn apply(
        &self,
        state: &NetworkState,
        still_open: &dyn Fn() -> Vec<Opened>,
    ) -> Result<(), NetworkError> {
        state.validate().map_err(NetworkError::State)?;
        let mut inner = self.inner();
        if inner.applied.is_none() {
            inner.is_bare = is_bare()?;
            if !inner.is_bare {
                self.refuse_foreign()?;
            }
        }
        let was_known = inner.model.is_some();
        match self.step(&mut inner, state, still_open) {
            Err(error) if was_known => {
                // Something is not as it was thought to be.
                warn!(error = %chain(&error), "the network is looked at again");
                self.step(&mut inner, state, still_open)
            }
            result => result,
        }
    }

    fn step(
        &self,
        inner: &mut Inner,
        state: &NetworkState,
        still_open: &dyn Fn() -> Vec<Opened>,
    ) -> Result<(), NetworkError> {
        // Until all is done, nothing is certain.
        let before = inner.model.take();
        let devices = match (&before, &inner.applied) {
            (Some(_), Some(applied)) => known_devices(&applied.slots(), &state.slots()),
            _ => look_at_devices(&state.slots())?,
        };
        prepare(&devices)?;

        let own = own::addresses().map_err(NetworkError::Addresses)?;
        let claim = if state.guests.is_empty() {
            Claim::default()
        } else {
            forwarding::claim(&self.state_file, &own, self.means.unwrap_or_else(Means::of_kernel))?
        };
        let surroundings = Surroundings {
            switched: claim.switched.clone(),
            switched_6: claim.switched_6.clone(),
            attached: own::attached(&own),
        };
        let model = Model::new(state, &self.owner, &surroundings).map_err(NetworkError::State)?;
        put_in_force(before.as_ref(), &model, mem::take(&mut inner.is_bare), still_open)?;
        if state.guests.is_empty() {
            forwarding::release(&self.state_file)?;
        } else {
            forwarding::enable(&claim)?;
        }
        if before.is_none() && !state.guests.is_empty() {
            pass_others();
        }
        // Now, and not earlier: no frame of a guest passes before the rules are in force.
        interface::bring_up(&devices.unsettled, state.network)?;

        // Where somebody took rules away, connections may have come about that they would not have let.
        let is_doubtful = before.is_none() && inner.applied.is_some();
        let is_same = inner.applied.as_ref() == Some(state);
        if is_doubtful || !is_same || !devices.fresh.is_empty() || !devices.surplus.is_empty() {
            let mut circumstances = circumstances(inner.applied.as_ref(), state, devices.fresh.clone(), own);
            if is_doubtful {
                circumstances.regulated = state.slots();
                circumstances.opened = still_open().iter().map(|open| (open.slot, open.address)).collect();
            }
            let forgotten = conntrack::forget_unexplained(state, &circumstances)?;
            debug!(
                guests = state.guests.len(),
                created = devices.fresh.len(),
                removed = devices.surplus.len(),
                forgotten,
                "network applied"
            );
        }
        inner.applied = Some(state.clone());
        inner.model = Some(model);
        Ok(())
    }

    /// Looks at the firewalls of others again, which may have changed, and lets guests pass where they drop by default.
    pub fn pass_firewalls(&self) {
        let inner = self.inner();
        if inner.applied.as_ref().is_some_and(|state| !state.guests.is_empty()) {
            pass_others();
        }
    }

    /// Opens the TAP of a guest for its VMM; see [`tap::open`].
    ///
    /// # Errors
    /// The TAP does not exist, or another process holds it.
    pub fn open_tap(&self, slot: Slot) -> Result<OwnedFd, TapError> {
        tap::open(slot)
    }

    /// Removes every TAP, both tables and the flows of guests, and puts the host's settings back. `network` is the
    /// range the guests were in. Good to call when there is nothing.
    ///
    /// # Errors
    /// A step failed; calling again goes on from there.
    pub fn remove_all(&self, network: GuestNetwork) -> Result<(), NetworkError> {
        let mut inner = self.inner();
        if inner.applied.is_none() {
            self.refuse_foreign()?;
        }
        *inner = Inner::default();
        // TAPs first: without rules nothing protects the host from a guest that still runs.
        interface::delete(&interface::taps()?.into_keys().collect())?;
        forwarding::release(&self.state_file)?;
        firewalls::close()?;
        run_nft("remove the packet filter", &ruleset::removal_script())?;
        let nobody = NetworkState { network, ..NetworkState::default() };
        conntrack::forget_unexplained(&nobody, &Circumstances::default())?;
        Ok(())
    }
}

/// Whether neither table is there.
fn is_bare() -> Result<bool, NetworkError> {
    let listed = run("nft", &["list", "tables"], "")
        .map_err(|source| NetworkError::Command { purpose: "look for the packet filter", source })?;
    Ok(!ruleset::is_listed(&listed))
}

/// That another firewall cannot be passed keeps nobody from running; the doctor tells what to do about it.
fn pass_others() {
    if let Err(error) = firewalls::open() {
        warn!(error = %chain(&error), "another firewall may drop what guests send and get");
    }
}

/// What to do where the TAPs are those that were made.
fn known_devices(present: &BTreeSet<Slot>, wanted: &BTreeSet<Slot>) -> Devices {
    let fresh: BTreeSet<Slot> = wanted.difference(present).copied().collect();
    let unsettled = fresh.iter().map(|slot| (*slot, Tap::default())).collect();
    Devices { surplus: present.difference(wanted).copied().collect(), fresh, unsettled }
}

/// What to do where anything may be there.
fn look_at_devices(wanted: &BTreeSet<Slot>) -> Result<Devices, NetworkError> {
    let present = interface::taps()?;
    let of = |slot: &Slot| (*slot, present.get(slot).cloned().unwrap_or_default());
    Ok(Devices {
        surplus: present.keys().copied().filter(|slot| !wanted.contains(slot)).collect(),
        fresh: wanted.iter().copied().filter(|slot| !present.contains_key(slot)).collect(),
        unsettled: wanted.iter().map(of).collect(),
    })
}

/// Everything about TAPs that comes before the rules. A new one is down.
fn prepare(devices: &Devices) -> Result<(), NetworkError> {
    interface::delete(&devices.surplus)?;
    devices.fresh.iter().try_for_each(|slot| tap::create(*slot)).map_err(NetworkError::Tap)
}

/// The difference to what is in force, if that is known; else everything.
fn put_in_force(
    before: Option<&Model>,
    model: &Model,
    is_bare: bool,
    still_open: &dyn Fn() -> Vec<Opened>,
) -> Result<(), NetworkError> {
    if let Some(difference) = before.and_then(|before| before.difference(model)) {
        return if difference.is_empty() {
            Ok(())
        } else {
            run_nft("change the packet filter", &(difference + &stamp::commands()))
        };
    }
    let mut script = if is_bare { model.first() } else { model.whole() };
    script.push_str(&opened::script(&still_open(), |set| model.has_set(set)));
    script.push_str(&stamp::commands());
    run_nft("replace the packet filter", &script)?;
    let mut opened = still_open();
    opened.retain(|entry| model.has_names(entry.slot));
    if let Err(error) = opened::open(&opened) {
        // They are in force from a moment ago, but perhaps for one that came in between; asking again opens that too.
        warn!(%error, "addresses of names may not be open");
    }
    Ok(())
}

fn circumstances(
    before: Option<&NetworkState>,
    state: &NetworkState,
    fresh: BTreeSet<Slot>,
    own: Vec<Own>,
) -> Circumstances {
    let former: BTreeMap<Slot, _> =
        before.into_iter().flat_map(|state| &state.guests).map(|guest| (guest.slot, &guest.egress)).collect();
    // What was only added to ends no flow.
    let has_lost = |guest: &Guest| {
        let former = former.get(&guest.slot);
        former.is_some_and(|former| former.iter().any(|entry| !guest.egress.contains(entry)))
    };
    let regulated = state.guests.iter().filter(|guest| has_lost(guest));
    Circumstances {
        fresh,
        regulated: regulated.map(|guest| guest.slot).collect(),
        attached: own::attached(&own),
        opened: BTreeSet::new(),
        local: own.into_iter().map(|own| own.address).collect(),
    }
}

fn run_nft(purpose: &'static str, script: &str) -> Result<(), NetworkError> {
    run("nft", &["-f", "-"], script).map(drop).map_err(|source| NetworkError::Command { purpose, source })
}
