//! The handle that brings the machine to a [`NetworkState`], level-triggered: it looks at what is there each time and
//! changes what differs, so a crash at any point is repaired by the next call.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use lith_core::slot::Slot;
use tracing::{debug, warn};

use crate::address::GuestNetwork;
use crate::command::run;
use crate::error::NetworkError;
use crate::ruleset;
use crate::state::NetworkState;
use crate::tap::{self, TapError};
use crate::{conntrack, firewalls, forwarding, interface};

/// The guest network of one network namespace. Only one may exist per namespace at a time. All calls block for some
/// milliseconds, more with hundreds of guests.
#[derive(Debug)]
pub struct Network {
    /// Remembers the host's settings from before.
    state_file: PathBuf,
    /// Whose network it is; written into the rules.
    owner: String,
    /// The state last put in force by this handle. Held during each change, so that changes do not mix.
    applied: Mutex<Option<NetworkState>>,
}

impl Network {
    /// A handle. Touches nothing. `state_file` lies in a folder that exists and survives until
    /// [`remove_all`](Self::remove_all). `owner` is what tells this network from that of another lith on the same
    /// machine: the path of its data folder.
    #[must_use]
    pub fn new(state_file: PathBuf, owner: &str) -> Self {
        Self { state_file, owner: ruleset::comment(owner), applied: Mutex::new(None) }
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

    /// Makes TAPs, rules, addresses and routes exactly what `state` says. Flows that `state` still allows go on
    /// undisturbed; all others end.
    ///
    /// # Errors
    /// The state is impossible (nothing was changed then), or a step failed; calling again goes on from there.
    pub fn apply(&self, state: &NetworkState) -> Result<(), NetworkError> {
        state.validate().map_err(NetworkError::State)?;
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        if applied.is_none() {
            self.refuse_foreign()?;
        }
        let wanted = state.slots();
        let present = interface::taps()?;

        let surplus: BTreeSet<Slot> = present.keys().copied().filter(|slot| !wanted.contains(slot)).collect();
        interface::delete(&surplus)?;
        let fresh: BTreeSet<Slot> =
            wanted.iter().copied().filter(|slot| !present.contains_key(slot)).collect();
        for slot in &fresh {
            tap::create(*slot).map_err(NetworkError::Tap)?;
        }
        let nameless: BTreeSet<Slot> = wanted
            .iter()
            .copied()
            .filter(|slot| present.get(slot).is_none_or(|tap| !tap.is_identified))
            .collect();
        interface::identify(&nameless)?;

        let switched = if wanted.is_empty() { BTreeSet::new() } else { forwarding::claim(&self.state_file)? };
        let script = ruleset::script(state, &self.owner, &switched).map_err(NetworkError::State)?;
        run_nft("replace the packet filter", &script)?;
        if wanted.is_empty() {
            forwarding::release(&self.state_file)?;
        } else {
            forwarding::enable(&switched)?;
        }
        if !wanted.is_empty() {
            pass_others();
        }
        // Now, and not earlier: no frame of a guest passes before the rules are in force.
        let mut taps = interface::taps()?;
        taps.retain(|slot, _| wanted.contains(slot));
        interface::bring_up(&taps, state.network)?;

        if applied.as_ref() != Some(state) || !fresh.is_empty() || !surplus.is_empty() {
            let forgotten = conntrack::forget_unexplained(state, &fresh)?;
            debug!(
                guests = wanted.len(),
                created = fresh.len(),
                removed = surplus.len(),
                forgotten,
                "network applied"
            );
        }
        *applied = Some(state.clone());
        Ok(())
    }

    /// Opens the TAP of a guest for its VMM; see [`tap::open`].
    ///
    /// # Errors
    /// The TAP does not exist, or another process holds it.
    pub fn open_tap(&self, slot: Slot) -> Result<OwnedFd, TapError> {
        tap::open(slot)
    }

    /// Removes every TAP, both tables and the flows to guests, and puts the host's settings back. `network` is the
    /// range the guests were in. Good to call when there is nothing.
    ///
    /// # Errors
    /// A step failed; calling again goes on from there.
    pub fn remove_all(&self, network: GuestNetwork) -> Result<(), NetworkError> {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        if applied.is_none() {
            self.refuse_foreign()?;
        }
        *applied = None;
        // TAPs first: without rules nothing protects the host from a guest that still runs.
        interface::delete(&interface::taps()?.into_keys().collect())?;
        forwarding::release(&self.state_file)?;
        firewalls::close()?;
        run_nft("remove the packet filter", &ruleset::removal_script())?;
        conntrack::forget_unexplained(
            &NetworkState { network, ..NetworkState::default() },
            &BTreeSet::new(),
        )?;
        Ok(())
    }
}

/// That another firewall cannot be passed keeps nobody from running; the doctor tells what to do about it.
fn pass_others() {
    if let Err(error) = firewalls::open() {
        let error = lith_core::chain::chain(&error);
        warn!(error, "another firewall may drop what guests send and get");
    }
}

fn run_nft(purpose: &'static str, script: &str) -> Result<(), NetworkError> {
    run("nft", &["-f", "-"], script).map(drop).map_err(|source| NetworkError::Command { purpose, source })
}
