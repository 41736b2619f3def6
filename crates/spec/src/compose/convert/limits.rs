//! What a task's machine has, and what its process may: memory, processors, devices, limits, kernel settings, rights.
//!
//! Owns the bounds that Compose does not have: a limit below what a guest needs is raised, and said.

use lith_core::job::process::{Device, Gpu, Ulimit};
use lith_core::job::{Bytes, CPUS_MAX, CPUS_MIN, CpuMillis, MEMORY_MAX, MEMORY_MIN, SHM_SIZE_MAX, TaskSpec};
use lith_core::name::TaskName;
use lith_core::value::{self as shared, process, quoted};

use super::Work;
use crate::compose::project::{At, Service};
use crate::diagnostic::Code;

/// Kinds of graphics processors among the names that are no paths (CDI).
const GPU_KINDS: [&str; 2] = ["nvidia.com/gpu=", "amd.com/gpu="];
/// Most graphics processors of a task, as the job file has it.
const GPUS_MAX: u32 = 16;

/// Reads everything that limits or extends the machine.
pub(super) fn limits(service: &Service, name: &TaskName, task: &mut TaskSpec, work: &mut Work<'_>) {
    if let Some(memory) = service.deploy.memory_limit.as_ref().or(service.mem_limit.as_ref()) {
        self::memory(memory, name, task, work);
    }
    if let Some(memory) = &service.mem_reservation {
        work.notes.without_effect.add("mem_reservation", memory.span);
    }
    if let Some(cpus) = service.deploy.cpu_limit.as_ref().or(service.cpus.as_ref()) {
        self::cpus(cpus, name, task, work);
    }
    if let Some(size) = &service.shm_size
        && size.value > Bytes(0)
    {
        if size.value > SHM_SIZE_MAX {
            let message = format!("{} of shared memory are more than {SHM_SIZE_MAX}", size.value);
            work.reporter.error(Code::OutOfRange, size.span, message, None);
        }
        task.shm_size = Some(size.value);
    }
    gpu(service, task, work);
    devices(service, task, work);
    rights(service, work);
    ulimits(service, task, work);
    for (key, setting) in &service.sysctls {
        let checked = process::sysctl(key).and_then(|()| shared::env::value(key, &setting.value));
        if let Some(setting) = work.accept(Code::BadLimit, setting.span, checked) {
            task.sysctls.insert(key.clone(), setting);
        }
    }
    task.is_read_only = service.read_only.as_ref().is_some_and(|read_only| read_only.value);
}

/// Zero is no limit, as Docker has it.
fn memory(memory: &At<Bytes>, name: &TaskName, task: &mut TaskSpec, work: &mut Work<'_>) {
    let wanted = memory.value;
    if wanted == Bytes(0) {
        return;
    }
    if wanted > MEMORY_MAX {
        let message = format!("{wanted} of memory are more than {MEMORY_MAX}");
        work.reporter.error(Code::OutOfRange, memory.span, message, None);
        return;
    }
    if wanted < MEMORY_MIN {
        let message =
            format!("{wanted} of memory are less than a machine of its own needs: it gets {MEMORY_MIN}");
        work.reporter.remark(Code::Decided, memory.span, message, None);
        work.decide(name, "memory", format!("{wanted} in Compose; a guest needs {MEMORY_MIN}"));
    }
    task.memory = wanted.max(MEMORY_MIN);
}

fn cpus(cpus: &At<CpuMillis>, name: &TaskName, task: &mut TaskSpec, work: &mut Work<'_>) {
    let wanted = cpus.value;
    if wanted == CpuMillis(0) {
        return;
    }
    task.cpus = wanted.clamp(CPUS_MIN, CPUS_MAX);
    if task.cpus != wanted {
        let message =
            format!("{wanted} processors are not between {CPUS_MIN} and {CPUS_MAX}: it gets {}", task.cpus);
        work.reporter.remark(Code::Decided, cpus.span, message, None);
        work.decide(name, "cpus", format!("{wanted} in Compose"));
    }
}

fn gpu(service: &Service, task: &mut TaskSpec, work: &mut Work<'_>) {
    let Some(gpus) = &service.gpus else { return };
    task.gpu = match gpus.value {
        None => Some(Gpu::All),
        Some(0) => None,
        Some(count) if count <= GPUS_MAX => Some(Gpu::Count(count)),
        Some(count) => {
            let message = format!("{count} graphics processors are more than {GPUS_MAX}");
            work.reporter.error(Code::OutOfRange, gpus.span, message, "leave the number out for all of them");
            None
        }
    };
}

/// Devices that the guest's kernel makes are granted; those of the node belong to its owner.
fn devices(service: &Service, task: &mut TaskSpec, work: &mut Work<'_>) {
    for device in &service.devices {
        if GPU_KINDS.iter().any(|kind| device.value.starts_with(kind)) {
            task.gpu = task.gpu.or(Some(Gpu::All));
            continue;
        }
        let Some(parsed) = work.accept(Code::BadPath, device.span, shared::mount::device(&device.value))
        else {
            continue;
        };
        if Device::OF_THE_GUEST.contains(&parsed.host.as_str()) {
            work.notes.granted.add(parsed.host.clone(), device.span);
            task.devices.push(parsed);
        } else {
            super::refusal::device(&parsed.host, device.span, work);
        }
    }
    task.devices.sort();
    task.devices.dedup();
}

/// Rights are harmless in a machine of one's own.
fn rights(service: &Service, work: &mut Work<'_>) {
    if let Some(privileged) = service.privileged.as_ref().filter(|privileged| privileged.value) {
        work.notes.granted.add("privileged", privileged.span);
    }
    for capability in &service.cap_add {
        work.notes.granted.add(format!("cap_add {}", capability.value), capability.span);
    }
}

fn ulimits(service: &Service, task: &mut TaskSpec, work: &mut Work<'_>) {
    for (name, limit) in &service.ulimits {
        if !process::ULIMITS.contains(&name.as_str()) {
            let message = format!("{} is not a limit of a process", quoted(name));
            let hint = format!("the limits are {}", process::ULIMITS.join(", "));
            work.reporter.error(Code::BadLimit, limit.span, message, hint);
            continue;
        }
        let (soft, hard) = limit.value;
        let bound = |limit: i64| match limit {
            -1 => Some(None),
            _ => u64::try_from(limit).ok().map(Some),
        };
        let (Some(soft), Some(hard)) = (bound(soft), bound(hard)) else {
            let message = format!("a limit of {} is below zero", quoted(name));
            work.reporter.error(Code::BadLimit, limit.span, message, "write -1 for no limit");
            continue;
        };
        let is_above = match (soft, hard) {
            (Some(soft), Some(hard)) => soft > hard,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if is_above {
            let message = format!("the soft limit of {} is above the hard one", quoted(name));
            work.reporter.error(Code::BadLimit, limit.span, message, None);
            continue;
        }
        task.ulimits.insert(name.clone(), Ulimit { soft, hard });
    }
}
