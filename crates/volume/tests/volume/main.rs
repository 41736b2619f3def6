//! Volumes in folders of this machine, where a test needs one certain thing to go wrong.

#![allow(missing_docs)]

#[cfg(test)]
mod clock;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod fold;
#[cfg(test)]
mod gate;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod restore;
#[cfg(test)]
mod stress;
