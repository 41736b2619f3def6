//! The pages of the error codes, inside the program: an explanation must not need a network.

use lith_api::error::Code;

use crate::context::Context;
use crate::error::Error;
use crate::exit;

/// Prints the page of a code.
pub(crate) fn explain(context: &Context, code: &str) -> Result<u8, Error> {
    let is_meant = |known: &&Code| known.as_str().eq_ignore_ascii_case(code);
    let Some(code) = Code::ALL.iter().find(is_meant) else {
        let known: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        return Err(Error::usage(
            format!("`{code}` is not an error code"),
            format!("the codes are {}", known.join(", ")),
        ));
    };
    if context.json {
        context.print_json(&serde_json::json!({ "code": code.as_str(), "page": page(*code) }))?;
    } else {
        context.print(page(*code))?;
    }
    Ok(exit::DONE)
}

/// The page of a code, as Markdown.
pub(crate) fn page(code: Code) -> &'static str {
    match code {
        Code::Invalid => include_str!("../../../docs/errors/E0001.md"),
        Code::NotFound => include_str!("../../../docs/errors/E0002.md"),
        Code::Conflict => include_str!("../../../docs/errors/E0003.md"),
        Code::Image => include_str!("../../../docs/errors/E0004.md"),
        Code::NotRunning => include_str!("../../../docs/errors/E0005.md"),
        Code::Unreachable => include_str!("../../../docs/errors/E0006.md"),
        Code::Machine => include_str!("../../../docs/errors/E0007.md"),
        Code::NotReady => include_str!("../../../docs/errors/E0008.md"),
        Code::Internal => include_str!("../../../docs/errors/E0009.md"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_page_that_says_what_to_do() {
        for code in Code::ALL {
            assert!(page(code).starts_with(&format!("# {code}: ")), "{code}");
            for section in ["\n## What it means\n", "\n## Typical causes\n", "\n## What to do\n"] {
                assert!(page(code).contains(section), "{code} lacks {section}");
            }
        }
    }
}
