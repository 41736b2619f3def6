//! The resolver with both its halves, as root in a network namespace: real questions from guests' addresses, a resolver of
//! the node that remembers what it was asked, and a note of what is opened in the place of the packet filter.

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod life;
#[cfg(test)]
mod names;
#[cfg(test)]
mod world;
