//! Loads one OCI layout or archive into a store: `ingest <layout> <store folder>`, then prints seconds and peak memory.
//!
//! A process of its own, so that a benchmark sees its own peak. Must not be used for anything else.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::Instant;

use lith_image::{ImageStore, NoProgress, Reference};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [layout, store] = arguments.as_slice() else {
        return Err("usage: ingest <layout> <store folder>".into());
    };
    let store = ImageStore::open(store)?;
    let name: Reference = "bench.example/image:1".parse()?;
    let start = Instant::now();
    let images = store.load_blocking(Path::new(layout), Some(&name), &NoProgress)?;
    let seconds = start.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("?").trim();
    let size = images.first().map_or(0, |i| i.size_bytes);
    println!("{{\"seconds\": {seconds:.3}, \"peak_rss_kb\": \"{peak}\", \"size_bytes\": {size}}}");
    Ok(())
}
