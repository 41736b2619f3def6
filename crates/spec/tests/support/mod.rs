//! What the tests of words share.

use lith_spec::{Colour, check};

/// What a terminal without colours shows for this file.
pub(crate) fn shown(text: &str) -> String {
    let reading = check("job.yaml", text);
    assert_eq!(reading.job.is_some(), !reading.diagnostics.has_errors(), "{text}");
    reading.diagnostics.render(Colour::None)
}
