//! Completions: a script for the shell, made from the grammar, and the names that only the server knows.
//!
//! The scripts of `clap_complete` know words alone. Its engine that asks the program itself is marked unstable, and a
//! script that was written to a file would break with the next version; so the scripts ask one hidden command.

use clap_complete::Shell;
use lith_api::image::Image;
use lith_api::task::{JobSummary, TaskStatus};
use lith_api::volume::Volume;

use crate::args::NameKind;
use crate::context::{Context, write_out};
use crate::error::Error;
use crate::exit;
use crate::name::label;

/// Appended to the script for bash. A name stands where the command's words so far are not more than its name, or where
/// it takes several.
const BASH_NAMES: &str = r#"
_lith_names() {
    local current="${COMP_WORDS[COMP_CWORD]}" word kind=""
    local -a words=()
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        [[ ${word} == -* ]] || words+=("${word}")
    done
    case "${#words[@]} ${words[0]} ${words[1]}" in
        "1 ps "*|"1 events "*|*" rm "*|"2 job show"|"2 job blocked"|"2 job learn") kind=jobs ;;
        "1 logs "*|"1 exec "*|"1 stats "*|*" stop "*|*" start "*|*" restart "*) kind=tasks ;;
        *" volume rm"|*" volume snapshot"|*" volume restore") kind=volumes ;;
        "2 volume ls"|"2 volume checkpoints"|"2 volume snapshots"|"2 volume snapshot-rm") kind=volumes ;;
        "2 volume clone"|"2 volume grow"|"2 volume cat"|"2 volume cp"|"2 volume export") kind=volumes ;;
        "2 volume import"|"2 volume check"|"2 volume forget-history") kind=volumes ;;
        *" image rm"|*" image verify"|"2 image inspect") kind=images ;;
    esac
    # `image rm` and `volume rm` are other commands than `rm`.
    [[ ${words[0]} == image || ${words[0]} == volume ]] && [[ ${kind} == jobs ]] && kind=""
    if [[ -z ${kind} || ${current} == -* ]]; then
        _lith "$@"
        return
    fi
    COMPREPLY=( $(compgen -W "$("${COMP_WORDS[0]}" __names "${kind}" 2>/dev/null)" -- "${current}") )
    # Bash takes what stands before a colon for a word of its own.
    if declare -F __ltrim_colon_completions >/dev/null; then
        __ltrim_colon_completions "${current}"
    fi
}
complete -F _lith_names -o nosort -o bashdefault -o default lith
"#;

/// Appended to the script for fish.
const FISH_NAMES: &str = r#"
complete -c lith -n "__fish_seen_subcommand_from ps rm events; and not __fish_seen_subcommand_from image volume" -f -a "(lith __names jobs 2>/dev/null)"
complete -c lith -n "__fish_seen_subcommand_from job; and __fish_seen_subcommand_from show blocked learn" -f -a "(lith __names jobs 2>/dev/null)"
complete -c lith -n "__fish_seen_subcommand_from logs exec stats stop start restart" -f -a "(lith __names tasks 2>/dev/null)"
complete -c lith -n "__fish_seen_subcommand_from image; and __fish_seen_subcommand_from rm verify inspect" -f -a "(lith __names images 2>/dev/null)"
complete -c lith -n "__fish_seen_subcommand_from volume; and __fish_seen_subcommand_from ls checkpoints snapshot snapshots snapshot-rm restore clone grow rm cat cp export import check forget-history" -f -a "(lith __names volumes 2>/dev/null)"
"#;

/// Prints the script for a shell.
pub(crate) fn script(shell: Shell) -> Result<u8, Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown(), "lith", &mut script);
    if shell == Shell::Bash {
        script.extend_from_slice(BASH_NAMES.as_bytes());
    } else if shell == Shell::Fish {
        script.extend_from_slice(FISH_NAMES.as_bytes());
    }
    write_out(&script)?;
    Ok(exit::DONE)
}

/// The grammar without what is hidden, which scripts would offer.
fn shown() -> clap::Command {
    let whole = crate::args::command();
    let commands = whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    clap::Command::new("lith").args(whole.get_arguments().cloned()).subcommands(commands)
}

/// Prints names, a line each.
pub(crate) async fn names(context: &Context, kind: NameKind) -> Result<u8, Error> {
    let mut names: Vec<String> = match kind {
        NameKind::Jobs => {
            let jobs: Vec<JobSummary> = context.client.get("/v1/jobs").await?;
            jobs.into_iter().map(|job| job.name).collect()
        }
        NameKind::Tasks => {
            let tasks: Vec<TaskStatus> = context.client.get("/v1/tasks").await?;
            let labels = tasks.iter().map(|status| label(status, &tasks));
            labels.chain(tasks.iter().map(|status| status.job.clone())).collect()
        }
        NameKind::Images => {
            let images: Vec<Image> = context.client.get("/v1/images").await?;
            images.into_iter().flat_map(|image| image.names).collect()
        }
        NameKind::Volumes => {
            let volumes: Vec<Volume> = context.client.get("/v1/volumes").await?;
            volumes.into_iter().map(|volume| volume.id).collect()
        }
    };
    names.sort_unstable();
    names.dedup();
    context.print(&names.iter().map(|name| format!("{name}\n")).collect::<String>())?;
    Ok(exit::DONE)
}
