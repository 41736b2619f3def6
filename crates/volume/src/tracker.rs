//! What has to happen before a write, and what a checkpoint still has to read: the decisions of the data path as a pure
//! machine. Blocks and claims in, chores out; it does no I/O and knows no time. Who holds it behind a lock does the chores
//! without the lock, and tells when they are done.
//!
//! ```text
//!              touch: keep what the base holds        cut: all at one instant         copied
//!   cold ───────────────────────────────────▶ dirty ───────────────────────▶ cut ─────────────▶ touched
//!     ▲                                         ▲ │                            │ write: rescue first  │
//!     │ the base moves on                       │ └────────────────────────────┘                     │
//!     └─────────────────────────────────────────┴──────────────── write ─────────────────────────────┘
//! ```
//!
//! - A block is **cold** while nothing has been written to it since the base, the oldest checkpoint: the disk itself holds
//!   what the base held. Before the first write its content is **kept** durably, so that the base can still be read.
//! - A region of the disk is **marked** durably before anything in it is written, so that after a crash only marked
//!   regions can hold what no checkpoint has.
//! - A **cut** turns all dirty blocks into those that the checkpoint reads. A write to one of them that has not been read
//!   yet **rescues** its content first. Writes that are under way at the cut belong to it: none of its blocks is read
//!   before they have ended.

use std::ops::Range;

use crate::block::BlockSet;

/// Blocks of a region of the write-intent map: 1 MiB, of which 128 TiB take one bit each in 16 MiB.
pub const REGION_BLOCKS: u64 = 256;

/// The region of a block.
#[must_use]
pub fn region_of(block: u64) -> u64 {
    block / REGION_BLOCKS
}

/// The regions that a range touches.
#[must_use]
pub fn regions_of(blocks: &Range<u64>) -> Range<u64> {
    if blocks.is_empty() { 0..0 } else { region_of(blocks.start)..region_of(blocks.end - 1) + 1 }
}

/// What must be done before a write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chores {
    /// Regions to mark durably.
    pub regions: Vec<Range<u64>>,
    /// Cold blocks whose content is to be kept durably.
    pub keep: Vec<Range<u64>>,
    /// Blocks of a cut whose content is to be handed to it.
    pub rescue: Vec<Range<u64>>,
    claims: Vec<u64>,
    /// The cut that the rescue is for.
    generation: u64,
}

/// The answer to who wants to write.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// Write, then call [`Tracker::written`].
    Go(Ticket),
    /// Do these, call [`Tracker::done`], and ask again.
    First(Chores),
    /// Somebody works on these blocks: ask again when something has changed.
    Wait,
}

/// A write that is under way.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Ticket {
    generation: u64,
}

/// The answer to who copies the blocks of a cut.
#[derive(Debug, PartialEq, Eq)]
pub enum Copy {
    /// Read these, then call [`Tracker::copied`].
    Read(Reading),
    /// Writes or rescues are under way: ask again when something has changed.
    Wait,
    /// All blocks have been read.
    Complete,
}

/// Blocks that the copier reads; nobody writes them meanwhile.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Reading {
    /// Which.
    pub blocks: Range<u64>,
    claim: u64,
}

#[derive(Debug)]
struct Cut {
    /// Not read yet.
    pending: BlockSet,
    /// All, should it fail.
    all: BlockSet,
    /// Rescues under way.
    rescues: usize,
}

#[derive(Debug)]
struct Claim {
    id: u64,
    blocks: Range<u64>,
}

/// The machine.
#[derive(Debug, Default)]
pub struct Tracker {
    touched: BlockSet,
    dirty: BlockSet,
    marked: BlockSet,
    /// Marked, and written to or looked at since regions were last unmarked.
    recent: BlockSet,
    cut: Option<Cut>,
    claims: Vec<Claim>,
    claim_last: u64,
    /// Grows with each cut.
    generation: u64,
    /// Writes under way of this generation, and of those before.
    in_flight: u64,
    in_flight_before: u64,
}

impl Tracker {
    /// The state after opening a volume: the blocks that the base's files hold, and the regions that the map marks. What
    /// was written since the last checkpoint is among the touched blocks of marked regions: all of them count as dirty.
    #[must_use]
    pub fn new(touched: BlockSet, marked: BlockSet) -> Self {
        let mut dirty = BlockSet::new();
        for regions in marked.runs() {
            let blocks = regions.start * REGION_BLOCKS..regions.end.saturating_mul(REGION_BLOCKS);
            touched.runs_in(&blocks).into_iter().for_each(|run| dirty.insert(run));
        }
        Self { touched, dirty, recent: marked.clone(), marked, ..Self::default() }
    }

    /// Whether anything has been written that no cut has.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Blocks that no cut has.
    #[must_use]
    pub fn dirty_blocks(&self) -> u64 {
        self.dirty.len()
    }

    /// Whether a cut is being copied.
    #[must_use]
    pub fn is_cutting(&self) -> bool {
        self.cut.is_some()
    }

    /// Somebody wants to write these blocks.
    pub fn admit(&mut self, blocks: &Range<u64>) -> Admission {
        if self.is_claimed(blocks) {
            return Admission::Wait;
        }
        let pending = self.cut.as_ref().map_or(vec![], |cut| cut.pending.runs_in(blocks));
        if !pending.is_empty() && self.in_flight_before > 0 {
            return Admission::Wait;
        }
        let regions = self.marked.gaps_in(&regions_of(blocks));
        let keep = self.touched.gaps_in(blocks);
        if regions.is_empty() && keep.is_empty() && pending.is_empty() {
            self.dirty.insert(blocks.clone());
            self.recent.insert(regions_of(blocks));
            self.in_flight += 1;
            return Admission::Go(Ticket { generation: self.generation });
        }
        if let Some(cut) = &mut self.cut
            && !pending.is_empty()
        {
            pending.iter().for_each(|run| cut.pending.remove(run.clone()));
            cut.rescues += 1;
        }
        let claims = keep.iter().chain(&pending).cloned().collect::<Vec<_>>();
        let claims = claims.into_iter().map(|blocks| self.claim(blocks)).collect();
        Admission::First(Chores { regions, keep, rescue: pending, claims, generation: self.generation })
    }

    /// What must be done before writes to all of these, as far as nobody works on it and a cut is not concerned.
    pub fn foresee(&mut self, ranges: &[Range<u64>]) -> Option<Chores> {
        let free: BlockSet = ranges.iter().filter(|blocks| !self.is_claimed(blocks)).cloned().collect();
        let (mut keep, mut missing) = (Vec::new(), BlockSet::new());
        for blocks in free.runs() {
            keep.extend(self.touched.gaps_in(&blocks));
            self.marked.gaps_in(&regions_of(&blocks)).into_iter().for_each(|run| missing.insert(run));
        }
        if keep.is_empty() && missing.is_empty() {
            return None;
        }
        let claims = keep.iter().map(|blocks| self.claim(blocks.clone())).collect();
        let generation = self.generation;
        Some(Chores { regions: missing.runs().collect(), keep, rescue: vec![], claims, generation })
    }

    /// The chores are done, whatever came of them: what has been kept and marked was told before.
    pub fn done(&mut self, chores: Chores) {
        self.claims.retain(|claim| !chores.claims.contains(&claim.id));
        // The cut may have failed meanwhile, and another one have begun.
        if !chores.rescue.is_empty()
            && chores.generation == self.generation
            && let Some(cut) = &mut self.cut
        {
            cut.rescues -= 1;
        }
    }

    /// These blocks are kept durably.
    pub fn kept(&mut self, blocks: Range<u64>) {
        self.touched.insert(blocks);
    }

    /// The cold ones among these blocks.
    #[must_use]
    pub fn cold_in(&self, blocks: &Range<u64>) -> Vec<Range<u64>> {
        self.touched.gaps_in(blocks)
    }

    /// These regions are marked durably.
    pub fn has_marked(&mut self, regions: Range<u64>) {
        self.recent.insert(regions.clone());
        self.marked.insert(regions);
    }

    /// A write has ended, well or not.
    pub fn written(&mut self, ticket: Ticket) {
        if ticket.generation == self.generation {
            self.in_flight -= 1;
        } else {
            self.in_flight_before -= 1;
        }
    }

    /// Cuts: all dirty blocks become those of the checkpoint.
    ///
    /// # Panics
    /// When the last cut has not ended.
    pub fn begin_cut(&mut self) {
        assert!(self.cut.is_none(), "a cut begins when the last one has ended");
        let all = std::mem::take(&mut self.dirty);
        self.cut = Some(Cut { pending: all.clone(), all, rescues: 0 });
        self.generation += 1;
        self.in_flight_before += std::mem::take(&mut self.in_flight);
    }

    /// The next blocks of the cut to read, at most `count_max`.
    pub fn next_copy(&mut self, count_max: u64) -> Copy {
        let Some(cut) = &mut self.cut else { return Copy::Complete };
        if self.in_flight_before > 0 {
            return Copy::Wait;
        }
        match cut.pending.run_from(0, count_max) {
            Some(blocks) => {
                cut.pending.remove(blocks.clone());
                let claim = self.claim(blocks.clone());
                Copy::Read(Reading { blocks, claim })
            }
            None if cut.rescues > 0 => Copy::Wait,
            None => Copy::Complete,
        }
    }

    /// Blocks of the cut have been read.
    pub fn copied(&mut self, reading: Reading) {
        self.claims.retain(|claim| claim.id != reading.claim);
    }

    /// The cut is durable.
    pub fn end_cut(&mut self) {
        self.cut = None;
    }

    /// The cut has failed: its blocks are dirty again.
    pub fn fail_cut(&mut self) {
        if let Some(cut) = self.cut.take() {
            self.dirty.extend(&cut.all);
        }
    }

    /// Regions that need not be marked any more: nothing in them is dirty, and nothing was written there since the last
    /// call. Whoever asks makes the disk durable, and then has those unmarked that are idle still.
    pub fn idle(&mut self) -> Vec<Range<u64>> {
        let mut busy = std::mem::take(&mut self.recent);
        // What is being written at this moment is dirty, or of the cut.
        for run in self.dirty.runs().chain(self.cut.iter().flat_map(|cut| cut.all.runs())) {
            busy.insert(regions_of(&run));
        }
        let marked: Vec<_> = self.marked.runs().collect();
        marked.iter().flat_map(|run| busy.gaps_in(run)).collect()
    }

    /// Unmarks those of these regions that nothing was written to since they were found idle.
    pub fn unmark(&mut self, idle: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut busy = self.recent.clone();
        for run in self.dirty.runs().chain(self.cut.iter().flat_map(|cut| cut.all.runs())) {
            busy.insert(regions_of(&run));
        }
        let still: Vec<_> = idle.iter().flat_map(|run| busy.gaps_in(run)).collect();
        still.iter().for_each(|run| self.marked.remove(run.clone()));
        still
    }

    /// The base moves on: of the touched blocks only those stay so that have changed since the new one, which are `changed`
    /// and what no checkpoint has yet. Returns those that stay.
    pub fn move_base(&mut self, changed: &BlockSet) -> BlockSet {
        let mut stays = changed.clone();
        stays.extend(&self.dirty);
        if let Some(cut) = &self.cut {
            stays.extend(&cut.all);
        }
        for claim in &self.claims {
            self.touched.runs_in(&claim.blocks).into_iter().for_each(|run| stays.insert(run));
        }
        self.touched = stays.clone();
        stays
    }

    fn claim(&mut self, blocks: Range<u64>) -> u64 {
        self.claim_last += 1;
        self.claims.push(Claim { id: self.claim_last, blocks });
        self.claim_last
    }

    fn is_claimed(&self, blocks: &Range<u64>) -> bool {
        self.claims.iter().any(|claim| claim.blocks.start < blocks.end && blocks.start < claim.blocks.end)
    }
}

#[cfg(test)]
mod tests;
