//! Examples of the documentation, executed: what is said of a job file, and what a Compose file becomes.

use std::collections::BTreeMap;

use lith_core::job::JobSpec;
use lith_core::job::file::FileSource;
use lith_spec::{
    Binds, Colour, ComposeOptions, ComposeReading, Files, Named, PathKind, Reading, Variables, check_compose,
    check_job, is_compose, to_yaml_with,
};

/// Folders that stand beside each example.
const FOLDERS: [&str; 1] = ["site"];

/// What stands beside an example: files of the page, and folders.
#[derive(Default)]
pub(crate) struct Beside(pub(crate) BTreeMap<String, String>);

impl Files for Beside {
    fn kind(&self, path: &str) -> PathKind {
        let path = path.trim_start_matches("./");
        match () {
            () if self.0.contains_key(path) => PathKind::File,
            () if FOLDERS.contains(&path) => PathKind::Folder,
            () => PathKind::Absent,
        }
    }

    fn read(&self, path: &str, _bytes_max: usize) -> Result<Vec<u8>, String> {
        let found = self.0.get(path.trim_start_matches("./"));
        found.map(|text| text.clone().into_bytes()).ok_or_else(|| String::from("there is no such file"))
    }
}

/// A machine on which every file and folder that an example names is there.
struct Everything;

impl Files for Everything {
    fn kind(&self, path: &str) -> PathKind {
        if path == ".env" { PathKind::Absent } else { PathKind::File }
    }

    fn read(&self, _path: &str, _bytes_max: usize) -> Result<Vec<u8>, String> {
        Ok(b"NAME=value\n".to_vec())
    }
}

/// What is said about lines of a task, or a whole job file.
pub(crate) fn told_of_job(block: &str) -> String {
    let named = Named { path: String::from("hello.yaml"), bytes: whole(block).into_bytes() };
    assert!(!is_compose(&named), "this is taken for a Compose file:\n{block}");
    check_job(&[named], &Variables::default(), &Everything).diagnostics.render(Colour::None)
}

/// A whole file, from lines of a task.
fn whole(block: &str) -> String {
    if block.lines().any(|line| line.starts_with("job:")) {
        return block.to_owned();
    }
    let image = if block.starts_with("image:") { "" } else { "    image: nginx\n" };
    let lines: String = block.lines().map(|line| format!("    {line}\n")).collect();
    format!("job: hello\ntasks:\n  web:\n{image}{lines}")
}

/// A Compose file with what stands beside it, and the options of the command.
#[derive(Default)]
pub(crate) struct Project {
    pub(crate) compose: String,
    pub(crate) overlay: Option<String>,
    pub(crate) beside: Beside,
    options: ComposeOptions,
    variables: Variables,
}

impl Project {
    /// The options are those of the command line.
    pub(crate) fn new(compose: &str, options: &[&str], beside: Beside) -> Self {
        let mut project = Self { compose: compose.to_owned(), beside, ..Self::default() };
        project.options.folder = String::from("/srv/notes");
        project.options.timezone = Some(String::from("Europe/Berlin"));
        for option in options {
            match option.split_once('=').unwrap_or((option, "")) {
                ("--narrow", "") => project.options.narrow = true,
                ("--create-missing-volumes", "") => project.options.create_missing_volumes = true,
                ("--binds", "host") => project.options.binds = Binds::Host,
                ("--profile", name) => project.options.profiles.push(name.to_owned()),
                ("--set", pair) => {
                    let (name, value) = pair.split_once('=').expect("a variable has a value");
                    project.variables.set.insert(name.to_owned(), value.to_owned());
                }
                (other, _) => panic!("an option that this test does not know: {other}"),
            }
        }
        project
    }

    fn read(&self) -> ComposeReading {
        let named =
            |path: &str, text: &String| Named { path: path.to_owned(), bytes: text.clone().into_bytes() };
        let mut files = vec![named("compose.yaml", &self.compose)];
        files.extend(self.overlay.iter().map(|text| named("compose.override.yaml", text)));
        assert!(is_compose(&files[0]), "this is taken for a job file:\n{}", self.compose);
        check_compose(&files, &self.options, &self.variables, &self.beside)
    }

    /// What is said when it is refused.
    pub(crate) fn refused(&self) -> String {
        let reading = self.read();
        assert!(reading.job.is_none(), "this is accepted:\n{}", self.compose);
        reading.diagnostics.render(Colour::None)
    }

    /// What is said, and the job file that it becomes.
    pub(crate) fn converted(&self) -> (String, String) {
        let reading = self.read();
        let report = reading.diagnostics.render(Colour::None);
        let job = reading.job.unwrap_or_else(|| panic!("this is refused:\n{}\n{report}", self.compose));
        let text = to_yaml_with(&job, &reading.comments);
        self.means_the_same(&job, &text);
        (report, text)
    }

    /// The job file is accepted without a word, and is the same job.
    fn means_the_same(&self, job: &JobSpec, text: &str) {
        let sources = job.secrets.values().chain(job.configs.values());
        let given = sources.filter_map(|source| match source {
            FileSource::Variable { name, content } => {
                Some((name.clone(), String::from_utf8_lossy(&content.0).into_owned()))
            }
            FileSource::Store | FileSource::File { .. } | FileSource::Inline(_) => None,
        });
        let variables = Variables { set: given.collect(), ..Variables::default() };
        let named = Named { path: String::from("job.yaml"), bytes: text.as_bytes().to_vec() };
        let Reading { job: read, diagnostics } = check_job(&[named], &variables, &self.beside);
        assert_eq!(read.as_ref(), Some(job), "{text}{diagnostics}");
        assert!(diagnostics.list.is_empty(), "{text}{diagnostics}");
    }
}
