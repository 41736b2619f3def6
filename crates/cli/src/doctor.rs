//! The findings of `lith doctor` in words.

use std::process::ExitCode;

use lith_api::node::{Check, Verdict};

use crate::args::Manner;
use crate::context::{say, write_out};
use crate::exit;
use crate::terminal::{Paint, Terminal, printable};

/// How findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people, with colours where the terminal has them.
    Text,
    /// For programs.
    Json,
}

/// Prints checks, and returns what `lith doctor` exits with: 1 when a check has failed.
pub fn print_checks(checks: &[Check], format: Format, manner: Manner) -> ExitCode {
    let terminal = Terminal::ask(manner.no_color);
    let printed = match format {
        Format::Json => {
            let text = serde_json::to_string_pretty(checks).expect("wire types always encode");
            write_out(format!("{text}\n").as_bytes())
        }
        Format::Text => write_out(text(checks, terminal.stdout).as_bytes()),
    };
    if let Err(error) = printed {
        say(error.text(terminal.stderr).trim_end());
        return ExitCode::from(error.exit_code());
    }
    let has_failed = checks.iter().any(|check| check.verdict == Verdict::Failed);
    ExitCode::from(if has_failed { exit::FAILED } else { exit::DONE })
}

fn text(checks: &[Check], paint: Paint) -> String {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let word = match check.verdict {
            Verdict::Ok => paint.green("ok     "),
            Verdict::Warning => paint.yellow("warning"),
            Verdict::Failed => paint.red("failed "),
        };
        text.push_str(&format!("{word}  {:width$}  {}\n", check.name, printable(&check.found)));
        if let Some(hint) = &check.hint {
            text.push_str(&format!("{:9}{} {hint}\n", "", paint.cyan("hint:")));
        }
    }
    let count = |verdict| checks.iter().filter(|check| check.verdict == verdict).count();
    text.push_str(match (count(Verdict::Failed), count(Verdict::Warning)) {
        (0, 0) => "everything is as it should be\n",
        (0, _) => "lith works here, but not as well as it could\n",
        _ => "lith cannot run tasks here until what failed is repaired\n",
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_read_without_colour() {
        let check = |name: &str, verdict, found: &str, hint: Option<&str>| Check {
            name: name.to_owned(),
            verdict,
            found: found.to_owned(),
            hint: hint.map(str::to_owned),
        };
        let checks = [
            check("kernel", Verdict::Ok, "6.1.0", None),
            check(
                "kvm",
                Verdict::Warning,
                "no /dev/kvm: machines are emulated",
                Some("switch it on in the BIOS"),
            ),
            check("nft", Verdict::Failed, "not found", Some("apt install nftables")),
        ];
        insta::assert_snapshot!(text(&checks, Paint::PLAIN), @r"
        ok       kernel  6.1.0
        warning  kvm     no /dev/kvm: machines are emulated
                 hint: switch it on in the BIOS
        failed   nft     not found
                 hint: apt install nftables
        lith cannot run tasks here until what failed is repaired
        ");
        assert!(text(&checks[..2], Paint::PLAIN).ends_with("not as well as it could\n"));
        assert!(text(&checks[..1], Paint::PLAIN).ends_with("as it should be\n"));
    }
}
