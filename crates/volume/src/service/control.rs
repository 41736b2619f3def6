//! Answers on the control socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::cutter;
use super::protocol::{Answer, CutPoint, Failure, Request, SnapshotMade, Status, VolumeStatus};
use super::run::{ServedVolume, Service};
use crate::block::BLOCK_BYTES;
use crate::error::VolumeError;
use crate::manifest::Point;

/// Longest question.
const REQUEST_BYTES_MAX: u64 = 64 << 10;

/// Answers one connection until it closes.
pub(super) fn serve(service: &Arc<Service>, stream: UnixStream) {
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::with_capacity(1024, stream);
    loop {
        let mut line = String::new();
        match reader.by_ref().take(REQUEST_BYTES_MAX).read_line(&mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let answer = match serde_json::from_str(&line) {
            Ok(request) => answer(service, request),
            Err(error) => {
                Answer::Failed(Failure { message: format!("unknown request: {error}"), hint: None })
            }
        };
        let mut bytes = serde_json::to_vec(&answer).expect("answers always encode");
        bytes.push(b'\n');
        if writer.write_all(&bytes).is_err() {
            return;
        }
        if matches!(answer, Answer::Done) && service.is_ending() {
            return;
        }
    }
}

fn answer(service: &Arc<Service>, request: Request) -> Answer {
    let result = match request {
        Request::Status => Ok(Answer::Status(status(service))),
        Request::Snapshot { volumes, name } => snapshot(service, &volumes, &name).map(Answer::Snapshots),
        Request::ForgetSnapshot { volume, name } => find(service, &volume).and_then(|served| {
            served.volume.forget_snapshot(&name).map(|_| Answer::Done).map_err(|error| failure(&error))
        }),
        Request::Grow { volume, bytes } => find(service, &volume).and_then(|served| {
            served.volume.grow(bytes).map_err(|error| failure(&error))?;
            served.port.announce_size();
            Ok(Answer::Done)
        }),
        Request::End => {
            service.wait_for_guests();
            service.end().map(|()| Answer::Done)
        }
    };
    result.unwrap_or_else(Answer::Failed)
}

fn find<'service>(service: &'service Service, id: &str) -> Result<&'service ServedVolume, Failure> {
    let missing = || Failure { message: format!("volume {id} is not served here"), hint: None };
    service.volumes.iter().find(|served| served.id == id).ok_or_else(missing)
}

fn snapshot(service: &Arc<Service>, ids: &[String], name: &str) -> Result<Vec<SnapshotMade>, Failure> {
    let volumes = ids.iter().map(|id| find(service, id)).collect::<Result<Vec<_>, _>>()?;
    // No other cut comes between: the newest checkpoints of all are of one instant.
    let _turn = service.cutting.lock();
    cutter::cut_in_turn(service, false).map_err(|error| failure(&error))?;
    let mut made: Vec<SnapshotMade> = Vec::new();
    for served in volumes {
        match served.volume.snapshot(name) {
            Ok(snapshot) => made.push(SnapshotMade {
                volume: served.id.clone(),
                name: name.to_owned(),
                seq: snapshot.seq,
                time_ns: snapshot.time_ns,
            }),
            Err(error) => {
                // All or none: a name that only some have would be taken for one that all have.
                for done in &made {
                    let served = find(service, &done.volume)?;
                    let _ = served.volume.forget_snapshot(name);
                }
                return Err(failure(&error));
            }
        }
    }
    Ok(made)
}

/// The words for somebody who does not see this process.
pub(super) fn failure(error: &VolumeError) -> Failure {
    Failure { message: lith_core::chain::chain(error), hint: error.hint().map(str::to_owned) }
}

fn status(service: &Service) -> Status {
    Status { volumes: service.volumes.iter().map(volume_status).collect() }
}

fn volume_status(served: &ServedVolume) -> VolumeStatus {
    let status = served.volume.status();
    let figures = served.volume.figures();
    let load = |figure: &std::sync::atomic::AtomicU64| figure.load(Ordering::Relaxed);
    let problem = if status.has_failed {
        Some("its disk cannot be written; the task must be started again".to_owned())
    } else {
        served.problem()
    };
    VolumeStatus {
        id: served.id.clone(),
        bytes: status.bytes,
        dirty_bytes: status.dirty_blocks * BLOCK_BYTES,
        tip: point(&served.id, &status.tip),
        base: point(&served.id, &status.base),
        history_bytes: status.history_bytes,
        is_attached: served.port.is_attached(),
        problem,
        kept_blocks: load(&figures.kept_blocks),
        rescued_blocks: load(&figures.rescued_blocks),
        waits: load(&figures.waits),
        segment_bytes: load(&figures.segment_bytes),
        cut_pause_us_max: load(&figures.cut_pause_ns_max) / 1000,
    }
}

fn point(volume: &str, point: &Point) -> CutPoint {
    CutPoint { volume: volume.to_owned(), epoch: point.id.epoch, seq: point.id.seq, time_ns: point.time_ns }
}
