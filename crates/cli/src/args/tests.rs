//! Command lines in, invocations out.

use std::path::Path;

use crate::spinner::Talk;

use super::{Command, Invocation, Manner, PoolCommand, VolumeCommand, command, parse_from};
use crate::size::Growth;
use crate::time::When;

fn client(line: &str) -> Command {
    let words = std::iter::once("lith").chain(line.split_whitespace());
    match parse_from(words).unwrap() {
        Invocation::Client(client) => client.command,
        other => panic!("{other:?}"),
    }
}

fn refused(line: &str) -> String {
    let words = std::iter::once("lith").chain(line.split_whitespace());
    let error = parse_from(words).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    error.to_string()
}

#[test]
fn the_grammar_is_sound() {
    command().debug_assert();
}

#[test]
fn the_run_folder_reaches_every_command() {
    let line = ["lith", "up", "--run-dir", "/tmp/a", "--data-dir", "/tmp/b", "-d"];
    let Invocation::Up(up) = parse_from(line).unwrap() else { panic!() };
    assert_eq!((up.run_dir.as_path(), up.data_dir.as_path()), (Path::new("/tmp/a"), Path::new("/tmp/b")));
    assert!(up.detach);
    assert_eq!(up.guest_network.to_string(), "10.83.0.0");
    let Invocation::Down(down) =
        parse_from(["lith", "--run-dir", "/tmp/a", "down", "--purge", "-y"]).unwrap()
    else {
        panic!()
    };
    assert_eq!(down.run_dir, Path::new("/tmp/a"));
    assert!(down.purge && down.yes);
    let Invocation::Client(client) = parse_from(["lith", "ps", "--run-dir", "/tmp/a"]).unwrap() else {
        panic!()
    };
    assert_eq!(client.globals.socket(), Path::new("/tmp/a/lith.sock"));
    let line = ["lith", "doctor", "--json", "--data-dir", "/tmp/b", "--run-dir", "/tmp/a"];
    let Invocation::Doctor(doctor) = parse_from(line).unwrap() else { panic!() };
    assert!(doctor.json);
    assert_eq!(
        (doctor.run_dir.as_path(), doctor.data_dir.as_path()),
        (Path::new("/tmp/a"), Path::new("/tmp/b"))
    );
}

#[test]
fn quiet_and_colours_reach_every_command() {
    let manner = Manner { no_color: true, talk: Talk::Quiet };
    let Invocation::Up(up) = parse_from(["lith", "up", "-q", "--no-color"]).unwrap() else { panic!() };
    let Invocation::Down(down) = parse_from(["lith", "-q", "--no-color", "down"]).unwrap() else { panic!() };
    let Invocation::Doctor(doctor) = parse_from(["lith", "doctor", "--no-color", "--json"]).unwrap() else {
        panic!()
    };
    assert_eq!([up.manner, down.manner, doctor.manner], [manner; 3]);
}

#[test]
fn words_that_are_no_text_are_a_usage_error() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let strange = OsString::from_vec(vec![b'a', 0xff]);
    for line in [vec!["lith".into(), strange.clone()], vec!["lith".into(), "logs".into(), strange.clone()]] {
        assert_eq!(parse_from(line).unwrap_err().exit_code(), 2);
    }
    let Command::Deploy(deploy) =
        (match parse_from(["lith".into(), "deploy".into(), strange.clone()]).unwrap() {
            Invocation::Client(client) => client.command,
            other => panic!("{other:?}"),
        })
    else {
        panic!()
    };
    assert_eq!(deploy.file.named(), [std::path::PathBuf::from(strange)], "a path may be anything");
}

#[test]
fn what_follows_the_task_belongs_to_the_command() {
    for line in ["exec -it shop/web -- ls -la --json", "exec -it shop/web ls -la --json"] {
        let Command::Exec(exec) = client(line) else { panic!() };
        assert_eq!(exec.command, ["ls", "-la", "--json"]);
        assert!(exec.interactive && exec.tty);
    }
    assert!(refused("exec shop/web").contains("required"));
    assert!(refused("exec -e =x shop ls").contains("NAME=VALUE"));
}

#[test]
fn guest_networks() {
    for good in ["10.83.0.0", "10.1.0.0/16", "172.16.0.0", "192.168.0.0"] {
        assert!(super::guest_network(good).is_ok(), "{good}");
    }
    for bad in ["10.83.1.0", "8.8.0.0", "10.83.0.0/24", "x", "127.0.0.0", "100.64.0.0"] {
        assert!(super::guest_network(bad).is_err(), "{bad}");
    }
}

fn volume(line: &str) -> VolumeCommand {
    match client(&format!("volume {line}")) {
        Command::Volume(command) => command,
        other => panic!("{other:?}"),
    }
}

#[test]
fn volumes_are_chosen_by_name_or_job() {
    let VolumeCommand::Snapshot(snapshot) = volume("snapshot shop.data uploads --name v1") else { panic!() };
    assert_eq!((snapshot.chosen.volumes.len(), snapshot.name.as_str()), (2, "v1"));
    let VolumeCommand::Restore(restore) = volume("restore --job shop --index 1 --snapshot v1 -y") else {
        panic!()
    };
    assert_eq!((restore.chosen.job.as_deref(), restore.chosen.index), (Some("shop"), Some(1)));
    assert!(restore.yes && restore.point.snapshot.as_deref() == Some("v1"));
    for line in [
        "snapshot --name v1",
        "snapshot shop.data",
        "snapshot shop.data --job shop --name v1",
        "restore shop.data --index 1 --checkpoint 1",
        "restore --checkpoint 1",
        "restore shop.data --checkpoint 1 --at 10m",
        "restore shop.data --at whenever",
        "restore shop.data --checkpoint x",
        "ls -l",
        "ls --removed shop.data",
        "grow shop.data",
        "grow shop.data lots",
        "cp shop.data:/x",
        "rm",
    ] {
        refused(&format!("volume {line}"));
    }
}

#[test]
fn points_and_sizes_are_read() {
    let VolumeCommand::Ls(ls) = volume("ls -lR shop.data:/pg --at 03:00") else { panic!() };
    assert!(ls.long && ls.recursive && matches!(ls.point.at, Some(When::Clock(_))));
    let VolumeCommand::Ls(ls) = volume("ls") else { panic!() };
    assert_eq!(ls.place, None);
    let VolumeCommand::Grow { size, .. } = volume("grow shop.data +5G") else { panic!() };
    assert_eq!(size, Growth::By(5 << 30));
    let VolumeCommand::Export { file, point, .. } = volume("export shop.data --checkpoint 3") else {
        panic!()
    };
    assert_eq!((file.as_path(), point.checkpoint), (Path::new("-"), Some(3)));
    let VolumeCommand::Clone(clone) = volume("clone shop.data test.data --at 2026-01-31T12:00:00Z") else {
        panic!()
    };
    assert!(matches!(clone.point.at, Some(When::At(_))));
    assert!(matches!(client("pool ls"), Command::Pool(PoolCommand::Ls)));
}

#[test]
fn mistakes_are_usage_errors() {
    assert!(refused("logs").contains("JOB[/TASK]"));
    assert!(refused("logs shop --since whenever").contains("10m"));
    assert!(refused("deploi x").contains("deploy"));
}
