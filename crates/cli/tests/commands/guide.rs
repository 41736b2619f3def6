//! `lith check` prints what the guide for Compose files says that it prints, of the file that the guide shows.

use std::path::Path;
use std::process::Command;

/// Set to write what is printed into the guide instead of comparing it, as for the other examples.
const WRITE: &str = "LITH_WRITE_EXAMPLES";
/// What stands above the output.
const COMMAND: &str = "```console\n# lith check\n";

pub(crate) fn check_is_as_told() {
    // Where cargo runs the test, not where it was compiled: the checkout may have been moved.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let path = Path::new(&package).join("../../docs/guide/from-compose.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(COMMAND).expect("the guide shows the command");
    let (told, after) = rest.split_once("```").expect("each block is closed");

    let world = tempfile::tempdir().unwrap();
    let folder = world.path().join("notes");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join(".env"), block(&page, "text .env")).unwrap();
    std::fs::write(folder.join("compose.yaml"), block(&page, "yaml compose")).unwrap();
    let printed = check(&folder, &world.path().join("printed"));
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, format!("{before}{COMMAND}{printed}```{after}")).unwrap();
        return;
    }
    assert_eq!(told, printed, "`{WRITE}=1 cargo test -p lith-cli --test commands` writes it");
}

/// The first block of a page with this mark.
fn block<'a>(page: &'a str, mark: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("\n```{mark}\n")).expect("the guide has such a block");
    rest.split_once("```").expect("each block is closed").0
}

/// What `lith check` prints in a folder: both streams, in the order in which a person sees them.
fn check(folder: &Path, printed: &Path) -> String {
    let file = std::fs::File::create(printed).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["lith", "check"]).current_dir(folder).env_remove("LITH_RUN_DIR");
    let status = command.stdout(file.try_clone().unwrap()).stderr(file).status().unwrap();
    let printed = std::fs::read_to_string(printed).unwrap();
    assert!(status.success(), "{printed}");
    printed
}
