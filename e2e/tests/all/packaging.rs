//! The unit that starts lith at boot: as systemd itself reads it.

use std::path::Path;

use lith_testkit::{World, assets};

#[test]
fn systemd_understands_the_unit() {
    let world = World::prepare();
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/lith.service");
    let text = std::fs::read_to_string(unit).unwrap();
    let start = "ExecStart=/usr/local/bin/lith up\n";
    assert!(text.contains(start));
    // Without these, a restart of the daemon would end every task, or take its socket away.
    assert!(text.contains("\nKillMode=process\n") && !text.contains("\nRuntimeDirectory"));
    let path = world.path("lith.service");
    std::fs::write(&path, text.replace(start, &format!("ExecStart={} up\n", assets::lith().display())))
        .unwrap();
    let output = world.host.command("systemd-analyze", &["verify", &path.to_string_lossy()]).ok();
    // A key that it does not know is only told.
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
}
