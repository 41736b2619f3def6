//! A machine that lacks something: programs and files that are there, hidden from one command and its children.

use std::process::Command;

use lith_testkit::World;

/// Puts a layer over the folder of each file and deletes it there, in a mount namespace of its own. `$1` is a folder for
/// the layers, then come the files, `--`, and the command.
const HIDE: &str = r#"
layers=$1; shift
mkdir -p "$layers"; mount -t tmpfs layers "$layers"; count=0
while [ "$1" != -- ]; do
    file=$(readlink -f "$1"); folder=${file%/*}; shift; count=$((count + 1)); layer=$layers/$count
    mkdir -p "$layer/upper" "$layer/work"
    mount -t overlay hide -o "lowerdir=$folder,upperdir=$layer/upper,workdir=$layer/work" "$folder"
    rm "$file"
done
shift
exec "$@"
"#;

/// The same command on a machine without these files.
pub(crate) fn without(world: &World, command: Command, files: &[&str]) -> Command {
    let mut hidden = Command::new("unshare");
    hidden.args(["--mount", "sh", "-ec", HIDE, "hide"]).arg(world.path("hidden")).args(files);
    hidden.arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => hidden.env(name, value),
            None => hidden.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        hidden.current_dir(folder);
    }
    hidden
}
