//! Figures of the image store: a real image to EROFS, against umoci and mkfs.erofs in the same run. Each measured
//! program is a process of its own, so that its peak memory is its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::{Figure, Outcome, build_release, image_archive, median, sys};
use crate::images::{self, Large};
use crate::{process, target_dir};

/// Odd, so that there is a middle one.
const RUNS: usize = 5;
const MEGABYTE: f64 = 1_000_000.0;

/// Builds the measured program and the images.
pub(super) fn prepare(root: &Path) -> Result<()> {
    build_release(root, &["--package", "lith-image", "--example", "ingest"])?;
    image_archive(root, "nginx")?;
    images::large(root, Large::Bytes)?;
    images::large(root, Large::Files).map(drop)
}

pub(super) fn measure(root: &Path) -> Result<Outcome> {
    for peer in ["umoci", "mkfs.erofs"] {
        if process::find(peer).is_none() {
            return Ok(Outcome::Skipped(format!("{peer} is not installed: apt install umoci erofs-utils")));
        }
    }
    let ingest = target_dir(root).join("release/examples/ingest");
    let scratch = Scratch::create(&target_dir(root).join("bench-image"))?;
    let nginx = image_archive(root, "nginx")?;
    let nginx_mb = size_mb(&nginx)?;
    let layout = scratch.unpack("nginx", &nginx)?;
    let (mut ours, mut theirs, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..RUNS {
        // Alternating, so that a machine that gets slower does so for both.
        let (seconds, peak) = run_ingest(&ingest, &layout, &scratch.fresh("store")?)?;
        ours.push(seconds);
        peaks.push(peak);
        theirs.push(run_umoci(&layout, "nginx:1", &scratch.fresh("bundle")?)?);
        println!("run {}: lith {:.2} s, umoci and mkfs.erofs {:.2} s", run + 1, ours[run], theirs[run]);
    }
    let peak = median(peaks);
    println!("{nginx_mb:.0} MB: {:.2} s, {peak:.1} MB of memory", median(ours.clone()));
    let large = measure_large(root, &ingest, &scratch, Large::Bytes)?;
    let many = measure_large(root, &ingest, &scratch, Large::Files)?;
    Ok(Outcome::Measured(vec![
        Figure { name: "image.load_s", value: median(ours.clone()) },
        Figure { name: "image.ratio_umoci", value: median(theirs) / median(ours) },
        Figure { name: "image.size_mb", value: nginx_mb },
        Figure { name: "image.peak_rss_mb", value: peak },
        Figure { name: "image.large_size_mb", value: large.size_mb },
        Figure { name: "image.large_peak_rss_mb", value: large.peak_mb },
        Figure { name: "image.large_rss_ratio", value: large.peak_mb / peak },
        Figure { name: "image.many_size_mb", value: many.size_mb },
        Figure { name: "image.many_peak_rss_mb", value: many.peak_mb },
    ]))
}

struct Measured {
    size_mb: f64,
    peak_mb: f64,
}

fn measure_large(root: &Path, ingest: &Path, scratch: &Scratch, kind: Large) -> Result<Measured> {
    let archive = images::large(root, kind)?;
    let size_mb = size_mb(&archive)?;
    let layout = scratch.unpack("large", &archive)?;
    let (seconds, peak_mb) = run_ingest(ingest, &layout, &scratch.fresh("store")?)?;
    println!("{size_mb:.0} MB, ten times the {kind:?}: {seconds:.2} s, {peak_mb:.1} MB of memory");
    Ok(Measured { size_mb, peak_mb })
}

fn size_mb(path: &Path) -> Result<f64> {
    let metadata = path.metadata().with_context(|| format!("cannot look at {}", path.display()))?;
    Ok(metadata.len() as f64 / MEGABYTE)
}

/// A folder that goes away with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn create(path: &Path) -> Result<Self> {
        images::remove_tree(path)?;
        std::fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self(path.to_path_buf()))
    }

    fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        images::remove_tree(&path)?;
        std::fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    fn unpack(&self, name: &str, archive: &Path) -> Result<PathBuf> {
        let layout = self.fresh(&format!("{name}-layout"))?;
        process::output(
            Command::new("tar").arg("--extract").arg("--file").arg(archive).arg("-C").arg(&layout),
        )?;
        Ok(layout)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing to do about a failure, and the next run starts by removing it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Seconds and peak memory in megabytes.
fn run_ingest(program: &Path, layout: &Path, store: &Path) -> Result<(f64, f64)> {
    settle()?;
    let start = Instant::now();
    let child = Command::new(program).arg(layout).arg(store).stdout(Stdio::null()).spawn();
    let child = child.with_context(|| format!("cannot start {}", program.display()))?;
    let (status, peak_bytes) = sys::wait_with_peak_rss(&child).context("cannot wait for ingest")?;
    if !status.success() {
        bail!("{} failed with {status}", program.display());
    }
    Ok((start.elapsed().as_secs_f64(), peak_bytes as f64 / MEGABYTE))
}

/// Waits until the disk has what the run before has written: that must not count as ours, who sync, nor as the peer's.
fn settle() -> Result<()> {
    process::output(&mut Command::new("sync")).map(drop)
}

fn run_umoci(layout: &Path, tag: &str, folder: &Path) -> Result<f64> {
    let bundle = folder.join("bundle");
    settle()?;
    let start = Instant::now();
    process::output(
        Command::new("umoci")
            .args(["unpack", "--image"])
            .arg(format!("{}:{tag}", layout.display()))
            .arg(&bundle),
    )?;
    process::output(Command::new("mkfs.erofs").arg(folder.join("root.erofs")).arg(bundle.join("rootfs")))?;
    Ok(start.elapsed().as_secs_f64())
}
