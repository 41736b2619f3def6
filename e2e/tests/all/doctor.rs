//! `lith doctor` on a machine that has everything, and on one that lacks everything.

use lith_testkit::{World, assets};
use serde_json::Value;

use crate::hide::without;

/// The lines, with one blank instead of the many that make columns.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_complete_machine() {
    let world = World::prepare();
    let mut command = world.lith_command(&["doctor"]);
    command.env("LITH_KERNEL", assets::kernel());
    let output = world.host.finish(command, b"").ok();
    let lines = lines(&output.stdout);
    for start in [
        "ok vmm QEMU ",
        "ok guest kernel ",
        "ok emulation a probe machine booted with TCG in ",
        "ok limits control groups version ",
        "ok mkfs.ext4 /",
        "ok network nftables v",
    ] {
        assert!(lines.iter().any(|line| line.starts_with(start)), "{start}\n{output}");
    }
    // Both verdicts, whichever this machine has.
    let virtualization =
        ["ok       virtualization  a probe machine booted with KVM in ", "warning  virtualization  "];
    assert!(
        output.stdout.lines().any(|line| virtualization.iter().any(|start| line.starts_with(start))),
        "{output}"
    );
    let last = output.stdout.lines().last().unwrap();
    assert!(
        last.starts_with("everything is as it should be") || last.starts_with("lith works here"),
        "{last}"
    );
}

#[test]
fn an_empty_machine() {
    let world = World::prepare();
    let hidden = ["/usr/bin/qemu-system-x86_64", "/usr/sbin/nft", "/usr/sbin/ip", "/usr/sbin/mkfs.ext4"];
    let doctor = |arguments: &[&str]| {
        let mut command = world.lith_command(arguments);
        command.env("LITH_KERNEL", world.path("no-kernel"));
        world.host.finish(without(&world, command, &hidden), b"")
    };
    let output = doctor(&["doctor"]);
    assert_eq!(output.code, 1, "{output}");
    let text = world.plain(&output.stdout);
    let lines = lines(&text);
    for (found, hint) in [
        ("vmm cannot find qemu-system-x86_64", "install it (Debian: apt-get install qemu-system-x86)"),
        (
            "guest kernel no guest kernel in WORLD/no-kernel",
            "unpack a kernel package (Debian: linux-image-cloud-amd64) into WORLD/no-kernel",
        ),
        ("mkfs.ext4 cannot find mkfs.ext4", "install it (Debian: apt-get install e2fsprogs)"),
        ("network nft does not run: ", "install it: apt-get install nftables"),
        ("network ip does not run: ", "install it: apt-get install iproute2"),
    ] {
        let mut lines = lines.iter().skip_while(|line| !line.starts_with(&format!("failed {found}")));
        assert!(lines.next().is_some(), "{found} is not in\n{text}");
        assert_eq!(lines.next(), Some(&format!("hint: {hint}")), "{text}");
    }
    assert!(text.ends_with("lith cannot run tasks here until what failed is repaired\n"), "{text}");
    let output = doctor(&["doctor", "--json"]);
    assert_eq!(output.code, 1, "{output}");
    let checks: Vec<Value> = serde_json::from_str(&output.stdout).unwrap();
    assert!(checks.iter().any(|check| check["name"] == "vmm" && check["verdict"] == "failed"), "{output}");
}
