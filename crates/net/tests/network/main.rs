//! The guest network in force, in network namespaces: what must work, what must not, and what must be left behind.

#[cfg(test)]
mod blocked;
#[cfg(test)]
mod chaos;
#[cfg(test)]
mod connects;
#[cfg(test)]
mod firewalls;
#[cfg(test)]
mod flows;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod generate;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod outside;
#[cfg(test)]
mod reach;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod services;
#[cfg(test)]
mod world;
