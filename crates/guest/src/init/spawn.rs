//! From what is wanted to what can be started: user, home, working directory, executable, limits.
//!
//! Looks at the task's files, so [`resolve`] runs in the task's view. Owns the sentences that a person gets when an
//! image does not have what it was told to run.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lith_guest::accounts::{self, Identity};
use lith_guest::messages::BootStep;
use lith_guest::process::{DEFAULT_PATH, Environment};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{Gid, Uid};

use crate::failure::{CODE_NOT_FOUND, During, Failure, reason};
use crate::root::TASK_CGROUP;
use crate::sys::{Launch, Place, Strings};

/// What is to run.
pub(crate) struct Wanted<'a> {
    /// Program and arguments, at least the program.
    pub(crate) argv: &'a [String],
    /// Variables.
    pub(crate) env: Environment,
    /// User, as in an image's configuration.
    pub(crate) user: &'a str,
    /// Further groups.
    pub(crate) groups: &'a [String],
    /// Absolute path.
    pub(crate) working_dir: &'a str,
}

/// The same with everything found.
pub(crate) struct Resolved {
    program: String,
    argv: Vec<String>,
    env: Environment,
    working_dir: String,
    /// Who it runs as.
    pub(crate) identity: Identity,
}

/// Finds user and executable. To be run in the task's view.
pub(crate) fn resolve(wanted: Wanted<'_>) -> Result<Resolved, Failure> {
    let file = |path: &str| fs::read(path).unwrap_or_default();
    let groups = file("/etc/group");
    let identity = accounts::resolve(wanted.user, &file("/etc/passwd"), &groups)
        .and_then(|identity| accounts::with_groups(identity, wanted.groups, &groups))
        .map_err(|error| Failure::new(BootStep::User, error))?;
    let mut env = wanted.env;
    if env.get("HOME").is_none_or(str::is_empty) {
        let home = Environment(vec![format!("HOME={}", identity.home)]);
        env = env.with(&home);
    }
    let name = wanted.argv.first().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| Failure::new(BootStep::Start, "the command is empty"))?;
    let path = env.get("PATH").unwrap_or(DEFAULT_PATH).to_owned();
    let program = find_executable(name, &path, wanted.working_dir)?;
    let (argv, working_dir) = (wanted.argv.to_vec(), wanted.working_dir.to_owned());
    Ok(Resolved { program, argv, env, working_dir, identity })
}

fn find_executable(name: &str, path: &str, working_dir: &str) -> Result<String, Failure> {
    let fail = |sentence: String| Failure::new(BootStep::Start, sentence);
    if name.contains('/') {
        return match look_at(&Path::new(working_dir).join(name)) {
            Found::Executable => Ok(name.to_owned()),
            Found::Directory => Err(fail(format!("cannot start {name:?}: it is a folder"))),
            Found::NotExecutable => Err(fail(format!("cannot start {name:?}: it is not executable"))),
            Found::Nothing => {
                Err(fail(format!("cannot start {name:?}: no such file in the image"))
                    .with_code(CODE_NOT_FOUND))
            }
        };
    }
    let mut is_there = false;
    for folder in path.split(':').filter(|folder| folder.starts_with('/')) {
        let candidate = format!("{}/{name}", folder.trim_end_matches('/'));
        match look_at(Path::new(&candidate)) {
            Found::Executable => return Ok(candidate),
            Found::NotExecutable => is_there = true,
            Found::Directory | Found::Nothing => {}
        }
    }
    if is_there {
        return Err(fail(format!("cannot start {name:?}: it is in $PATH, but not executable")));
    }
    Err(fail(format!("cannot find executable {name:?} in $PATH ({path})")).with_code(CODE_NOT_FOUND))
}

enum Found {
    Executable,
    NotExecutable,
    Directory,
    Nothing,
}

fn look_at(path: &Path) -> Found {
    match fs::metadata(path) {
        Err(_) => Found::Nothing,
        Ok(file) if file.is_dir() => Found::Directory,
        Ok(file) if file.permissions().mode() & 0o111 == 0 => Found::NotExecutable,
        Ok(_) => Found::Executable,
    }
}

/// Everything a start needs.
pub(crate) fn launch(
    resolved: &Resolved,
    limits: Vec<(Resource, Rlimit)>,
    place: Place,
    has_terminal: bool,
) -> Result<Launch, Failure> {
    let step = BootStep::Start;
    let text = |text: &str| CString::new(text).during(step, format_args!("pass on {text:?}"));
    let strings = |strings: &[String]| Strings::new(strings.iter().map(String::as_str));
    let cgroup_procs = fs::File::options().write(true).open(format!("{TASK_CGROUP}/cgroup.procs"));
    let identity = &resolved.identity;
    Ok(Launch {
        program: text(&resolved.program)?,
        argv: strings(&resolved.argv).during(step, "pass on the arguments")?,
        env: strings(&resolved.env.0).during(step, "pass on the environment")?,
        working_dir: text(&resolved.working_dir)?,
        uid: Uid::from_raw(identity.uid),
        gid: Gid::from_raw(identity.gid),
        groups: identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect(),
        limits,
        cgroup_procs: cgroup_procs.during(step, "open the task's control group")?,
        place,
        has_terminal,
    })
}

/// Why an executable that is there did not start.
pub(crate) fn explain(resolved: &Resolved, error: &io::Error) -> Failure {
    let why = match error.kind() {
        // The file was looked at before: what is missing is what it asks for.
        io::ErrorKind::NotFound => "its interpreter or loader is not in the image".to_owned(),
        io::ErrorKind::PermissionDenied => "its user may not run it, or not enter its folder".to_owned(),
        io::ErrorKind::ArgumentListTooLong => "its arguments and environment are too long".to_owned(),
        _ if error.raw_os_error() == Some(libc::ENOEXEC) => {
            "it is neither a program for this machine's processor nor a script with a \"#!\" line".to_owned()
        }
        _ => reason(error),
    };
    Failure::new(BootStep::Start, format!("cannot start {:?}: {why}", resolved.program))
}

/// Open files a process may have: enough for a server, and few enough for programs that
/// close every possible one at their start.
const OPEN_FILES_SOFT: u64 = 65_536;
/// How far it may raise that itself.
const OPEN_FILES_HARD: u64 = 1_048_576;

/// Limits of every process of the task.
pub(crate) fn limits() -> Vec<(Resource, Rlimit)> {
    vec![
        (Resource::Nofile, Rlimit { current: Some(OPEN_FILES_SOFT), maximum: Some(OPEN_FILES_HARD) }),
        // The kernel's own limit follows from the memory of the machine; containers have none.
        (Resource::Nproc, Rlimit { current: None, maximum: None }),
        // A core dump would only fill the scratch disk.
        (Resource::Core, Rlimit { current: Some(0), maximum: None }),
    ]
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::find_executable;

    #[test]
    fn executables() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        for (name, mode) in [("a/plain", 0o644), ("b/plain", 0o755), ("a/alone", 0o600), ("b/tool", 0o755)] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(folder.path().join("a/tool")).unwrap();
        let path = format!("::relative:{root}/nowhere:{root}/a/:{root}/b");
        let check = |name: &str, expect: Result<&str, (u8, &str)>| {
            let found = find_executable(name, &path, root).map_err(|failure| {
                (failure.code, failure.sentence().replace(&path, "PATH").replace(root, "ROOT"))
            });
            let found = found.map(|path| path.replace(root, "ROOT"));
            let expect = expect.map(str::to_owned).map_err(|(code, text)| (code, text.to_owned()));
            assert_eq!(found, expect, "{name}");
        };
        check("plain", Ok("ROOT/b/plain"));
        check("tool", Ok("ROOT/b/tool"));
        check("./b/tool", Ok("./b/tool"));
        check("nginx", Err((127, "cannot find executable \"nginx\" in $PATH (PATH)")));
        check("alone", Err((126, "cannot start \"alone\": it is in $PATH, but not executable")));
        check("a/alone", Err((126, "cannot start \"a/alone\": it is not executable")));
        check("./a", Err((126, "cannot start \"./a\": it is a folder")));
        check("./c", Err((127, "cannot start \"./c\": no such file in the image")));
    }
}
