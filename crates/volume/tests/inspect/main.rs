//! Looking inside real ext4 images, made with the tools of e2fsprogs. Nothing is mounted.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod hostile;
mod image;
mod journal;
mod trees;
