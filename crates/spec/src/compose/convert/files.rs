//! Small files that travel with the job: secrets, configs, and files beside the Compose file that a service mounts.
//!
//! Owns their names in the job and their place in the task.

use lith_core::job::file::{
    CONTENT_BYTES_MAX, CONTENTS_BYTES_MAX, Content, FILE_MODE_DEFAULT, FileMount, FileSource, SECRETS_FOLDER,
};
use lith_core::job::{MEMBERS_MAX, TaskSpec};
use lith_core::name::{FileName, NAME_BYTES_MAX, TaskName};
use lith_core::value::{self as shared, quoted};

use super::Work;
use super::names::unique;
use super::refusal::refuse;
use crate::compose::project::{At, FileObject, FileObjectSource, FileUse, Service};
use crate::diagnostic::Code;
use crate::document::Span;
use crate::read;

/// Permissions of a script: it is mounted to be run.
const SCRIPT_MODE: u32 = 0o555;
/// Permissions of a file that the task may change, by its owner.
const WRITABLE_MODE: u32 = 0o644;
/// Both.
const WRITABLE_SCRIPT_MODE: u32 = 0o755;

/// Which of the two lists of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Noun {
    Secret,
    Config,
}

impl Noun {
    fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }
}

/// Reads `secrets` and `configs` of a service.
pub(super) fn files(service: &Service, task: &mut TaskSpec, work: &mut Work<'_>) {
    let project = work.project;
    for wanted in &service.secrets {
        let mount = mount(Noun::Secret, wanted, project.secrets.get(&wanted.value.source), work);
        task.secrets.extend(mount);
    }
    for wanted in &service.configs {
        let mount = mount(Noun::Config, wanted, project.configs.get(&wanted.value.source), work);
        task.configs.extend(mount);
    }
    task.secrets.sort_by(|a, b| a.target.cmp(&b.target));
    task.configs.sort_by(|a, b| a.target.cmp(&b.target));
}

fn mount(
    noun: Noun,
    wanted: &At<FileUse>,
    object: Option<&FileObject>,
    work: &mut Work<'_>,
) -> Option<FileMount> {
    let FileUse { source, target, uid, gid, mode } = &wanted.value;
    let object = object.expect("loading refuses a name that nothing declares");
    let name = declare(noun, source, object, wanted.span, work)?;
    let target = target.as_deref().filter(|target| !target.is_empty()).unwrap_or(source);
    let target = match noun {
        _ if target.starts_with('/') => target.to_owned(),
        Noun::Secret => format!("{SECRETS_FOLDER}/{target}"),
        Noun::Config => format!("/{target}"),
    };
    let target = work.accept(Code::BadPath, wanted.span, shared::mount::place(&target))?;
    let uid = owner(uid.as_deref(), wanted.span, work);
    let gid = owner(gid.as_deref(), wanted.span, work);
    Some(FileMount {
        source: name,
        target,
        uid,
        gid,
        mode: mode.filter(|mode| *mode != FILE_MODE_DEFAULT),
        is_writable: false,
    })
}

/// The number of a user or group; names are in the image, where nobody looks before it runs.
fn owner(text: Option<&str>, span: Span, work: &mut Work<'_>) -> Option<u32> {
    let text = text.filter(|text| !text.is_empty())?;
    let number = text.parse().ok();
    if number.is_none() {
        let message = format!("{} is not the number of a user or group", quoted(text));
        work.reporter.error(Code::BadUser, span, message, "write its number, such as `1000`");
    }
    number
}

/// The secret or config in the job, declared when it is met first.
fn declare(
    noun: Noun,
    source: &str,
    object: &FileObject,
    span: Span,
    work: &mut Work<'_>,
) -> Option<FileName> {
    // The cluster's store knows a secret by the name that it has outside.
    let outside = match &object.source {
        FileObjectSource::External { name } => name.as_deref(),
        FileObjectSource::File { .. }
        | FileObjectSource::Environment { .. }
        | FileObjectSource::Inline(_) => None,
    };
    let text = outside.unwrap_or(source);
    if text != source && work.project.secrets.contains_key(text) {
        let message = format!("{} is also the name of another secret", quoted(text));
        work.reporter.error(Code::Repeated, object.span, message, "give the other one another name");
        return None;
    }
    let name: FileName = read::name(text, span, work.reporter)?;
    let declared = match noun {
        Noun::Secret => &work.secrets,
        Noun::Config => &work.configs,
    };
    if declared.contains_key(&name) {
        return Some(name);
    }
    // One more than there may be is enough for the refusal.
    if declared.len() > MEMBERS_MAX {
        return None;
    }
    let file = content(noun, source, object, work)?;
    match noun {
        Noun::Secret => work.secrets.insert(name.clone(), file),
        Noun::Config => work.configs.insert(name.clone(), file),
    };
    check_contents(object.span, work);
    Some(name)
}

fn content(noun: Noun, source: &str, object: &FileObject, work: &mut Work<'_>) -> Option<FileSource> {
    let word = noun.as_str();
    let file = match &object.source {
        FileObjectSource::File { path, content: Ok(content) } => {
            FileSource::File { path: path.clone(), content: content.clone() }
        }
        FileObjectSource::File { path, content: Err(why) } => {
            let message =
                format!("the {word} {} cannot be read from {}: {why}", quoted(source), quoted(path));
            let hint = "put the file beside the Compose file, correct its path, or mount the folder that holds large ones";
            work.reporter.error(Code::BadFile, object.span, message, hint);
            return None;
        }
        FileObjectSource::Environment { name, content: Some(content) } => {
            FileSource::Variable { name: name.clone(), content: content.clone() }
        }
        FileObjectSource::Environment { name, content: None } => {
            let message = format!("the {word} {} needs the variable {}", quoted(source), quoted(name));
            let hint = format!("pass `--set {name}=…` or `--env-file FILE`");
            work.reporter.error(Code::MissingVariable, object.span, message, hint);
            return None;
        }
        FileObjectSource::Inline(content) => FileSource::Inline(content.clone()),
        FileObjectSource::External { name } => match noun {
            Noun::Secret => {
                let shown = quoted(name.as_deref().unwrap_or(source));
                let message = format!("the secret {shown} is taken from the cluster's store");
                work.reporter.remark(Code::Decided, object.span, message, None);
                return Some(FileSource::Store);
            }
            Noun::Config => {
                refuse(Code::ExternalConfig, object.span, format!("the config {}", quoted(source)), work);
                return None;
            }
        },
    };
    let bytes = file.content().map_or(0, |Content(bytes)| bytes.len());
    if bytes > CONTENT_BYTES_MAX {
        let message =
            format!("the {word} {} holds {bytes} bytes; the limit is {CONTENT_BYTES_MAX}", quoted(source));
        work.reporter.error(Code::BadFile, object.span, message, "put large files into a volume");
        return None;
    }
    Some(file)
}

/// A file beside the Compose file that a service mounts.
pub(super) struct Bound<'a> {
    /// Its path, cleaned.
    pub(super) path: &'a str,
    pub(super) target: &'a str,
    pub(super) is_writable: bool,
}

/// Turns a mounted file into a config.
pub(super) fn bound(file: &Bound<'_>, span: Span, name: &TaskName, task: &mut TaskSpec, work: &mut Work<'_>) {
    let path =
        if file.path.starts_with(['.', '~']) { file.path.to_owned() } else { format!("./{}", file.path) };
    let same = |source: &FileSource| matches!(source, FileSource::File { path: known, .. } if *known == path);
    let known = work.configs.iter().find(|(_, source)| same(source));
    let (config, content) = match known {
        Some((config, source)) => (config.clone(), source.content().cloned()),
        None => {
            let Some(content) = content_at(file.path, &path, span, work) else { return };
            let config = file_name(&path, work);
            let source = FileSource::File { path: path.clone(), content: content.clone() };
            work.configs.insert(config.clone(), source);
            check_contents(span, work);
            (config, Some(content))
        }
    };
    let is_script = content.is_some_and(|content| content.0.starts_with(b"#!"));
    let mode = match (file.is_writable, is_script) {
        (false, false) => None,
        (false, true) => Some(SCRIPT_MODE),
        (true, false) => Some(WRITABLE_MODE),
        (true, true) => Some(WRITABLE_SCRIPT_MODE),
    };
    if file.is_writable {
        work.decide(name, "configs", format!("{path}: what the task changes is gone with its next start"));
    }
    task.configs.push(FileMount {
        source: config,
        target: file.target.to_owned(),
        uid: None,
        gid: None,
        mode,
        is_writable: file.is_writable,
    });
}

/// The content of a file beside the Compose file, `shown` as a person writes it.
fn content_at(path: &str, shown: &str, span: Span, work: &mut Work<'_>) -> Option<Content> {
    // Nothing more is read once there is too much: a file of many mounts must not make for much memory.
    if contents_bytes(work) > CONTENTS_BYTES_MAX || work.configs.len() > MEMBERS_MAX {
        return None;
    }
    let (why, hint) = match work.files.read(path, CONTENT_BYTES_MAX) {
        Ok(bytes) if bytes.len() <= CONTENT_BYTES_MAX => return Some(Content(bytes.into())),
        Ok(bytes) => (
            format!("{} holds {} bytes; the limit is {CONTENT_BYTES_MAX}", quoted(shown), bytes.len()),
            "mount the folder that holds it: it becomes a disk",
        ),
        Err(why) => (
            format!("{} cannot be read: {why}", quoted(shown)),
            "correct it, or mount the folder that holds it: it becomes a disk",
        ),
    };
    work.reporter.error(Code::BadFile, span, why, hint);
    None
}

/// A free name for a file: the last part of its path.
fn file_name(path: &str, work: &Work<'_>) -> FileName {
    let last = path.rsplit('/').next().unwrap_or(path);
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let mapped: String =
        last.chars().map(|c| if is_word(c) { c } else { '-' }).take(NAME_BYTES_MAX).collect();
    let text = mapped.trim_start_matches(['.', '-']);
    let text = if text.is_empty() { "file" } else { text };
    let is_taken = |text: &str| {
        let declared = work.project.configs.contains_key(text);
        declared || work.configs.keys().any(|name| name.as_str() == text)
    };
    unique(text, is_taken).parse().expect("only what a name may hold is left")
}

fn contents_bytes(work: &Work<'_>) -> usize {
    let files = work.secrets.values().chain(work.configs.values());
    files.filter_map(FileSource::content).map(|Content(bytes)| bytes.len()).sum()
}

/// What a job brings along is bounded as a whole, too.
fn check_contents(span: Span, work: &mut Work<'_>) {
    let bytes = contents_bytes(work);
    if bytes > CONTENTS_BYTES_MAX {
        let message = format!("secrets and configs hold {bytes} bytes; the limit is {CONTENTS_BYTES_MAX}");
        work.reporter.error(Code::BadFile, span, message, "put large files into a volume");
    }
    for (word, count) in [("secrets", work.secrets.len()), ("configs", work.configs.len())] {
        if count > MEMBERS_MAX {
            let message = format!("there are more than {MEMBERS_MAX} {word}");
            work.reporter.error(Code::TooMany, span, message, "mount the folder that holds them");
        }
    }
}
