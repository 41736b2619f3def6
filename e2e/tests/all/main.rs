//! One program for all end-to-end tests, for linking costs. Each test has its own world.

#[cfg(test)]
mod client;
#[cfg(test)]
mod compose;
#[cfg(test)]
mod connects;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod databases;
#[cfg(test)]
mod disks;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod down;
#[cfg(test)]
mod escape;
#[cfg(test)]
mod files;
#[cfg(test)]
mod guide;
#[cfg(test)]
mod health;
#[cfg(test)]
mod hello;
#[cfg(test)]
mod hide;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod load;
#[cfg(test)]
mod order;
#[cfg(test)]
mod packaging;
#[cfg(test)]
mod peers;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod pools;
#[cfg(test)]
mod readers;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod resilience;
#[cfg(test)]
mod restores;
#[cfg(test)]
mod servers;
#[cfg(test)]
mod steady;
#[cfg(test)]
mod volumes;
#[cfg(test)]
mod words;
