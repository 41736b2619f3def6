//! `volume …`, and what becomes of the volumes of a removed job.

use lith_api::client::escape;
use lith_api::volume::Volume;

use crate::args::VolumeCommand;
use crate::context::Context;
use crate::error::Error;
use crate::exit;
use crate::size::size;
use crate::table::Table;

/// `lith volume …`.
pub(crate) async fn volume(context: &Context, command: &VolumeCommand) -> Result<u8, Error> {
    match command {
        VolumeCommand::Ls => list(context).await,
        VolumeCommand::Rm { volumes } => remove(context, volumes).await,
    }
}

async fn list(context: &Context) -> Result<u8, Error> {
    let volumes: Vec<Volume> = context.client.get("/v1/volumes").await?;
    if context.json {
        context.print_json(&volumes)?;
    } else if volumes.is_empty() {
        context.say("no volumes; a job declares them under `volumes:`");
    } else {
        context.print_table(&table(&volumes))?;
    }
    Ok(exit::DONE)
}

async fn remove(context: &Context, ids: &[String]) -> Result<u8, Error> {
    let mut removed: Vec<Volume> = Vec::new();
    // One that cannot be removed is no reason to keep the others.
    let mut code = exit::DONE;
    for id in ids {
        match context.client.delete(&format!("/v1/volumes/{}", escape(id))).await {
            Ok(volume) => {
                if !context.json {
                    context.say(&format!("volume {id} is removed"));
                }
                removed.push(volume);
            }
            Err(failure) => code = code.max(context.report(&failure.into())),
        }
    }
    if context.json {
        context.print_json(&removed)?;
    }
    Ok(code)
}

/// Removes the volumes of a job that is gone, or says that they are kept.
pub(crate) async fn of_removed_job(context: &Context, job: &str, is_removed: bool) -> Result<u8, Error> {
    let volumes: Vec<Volume> = context.client.get("/v1/volumes").await?;
    let ids: Vec<String> =
        volumes.into_iter().filter(|volume| volume.job == job).map(|volume| volume.id).collect();
    let mut code = exit::DONE;
    if is_removed {
        for id in &ids {
            let deleted = context.client.delete::<Volume>(&format!("/v1/volumes/{}", escape(id))).await;
            match deleted {
                Ok(_) if context.json => {}
                Ok(_) => context.say(&format!("volume {id} is removed")),
                Err(failure) => code = code.max(context.report(&failure.into())),
            }
        }
    } else if !ids.is_empty() && !context.json {
        context.say(&kept(&ids));
    }
    Ok(code)
}

fn kept(ids: &[String]) -> String {
    let list = ids.join(" ");
    if ids.len() == 1 {
        return format!("volume {list} is kept; `lith volume rm {list}` deletes it with what it holds");
    }
    format!("volumes {list} are kept; `lith volume rm {list}` deletes them with what they hold")
}

fn table(volumes: &[Volume]) -> Table {
    let mut table = Table::new(&["VOLUME", "SIZE", "USED", "NODE", "STATE"]);
    for volume in volumes {
        table.row(vec![
            volume.id.clone(),
            if volume.has_disk { size(volume.size_bytes) } else { "-".to_owned() },
            size(volume.used_bytes),
            volume.node.clone(),
            state(volume).to_owned(),
        ]);
    }
    table
}

fn state(volume: &Volume) -> &'static str {
    match (volume.has_disk, volume.is_declared) {
        (true, true) => "declared",
        (true, false) => "kept",
        // Its task has not started yet, or its job was never deployed.
        (false, _) => "waits for its task",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Paint;

    fn volume(id: &str, is_declared: bool) -> Volume {
        let parts: Vec<&str> = id.split('.').collect();
        Volume {
            id: id.to_owned(),
            job: parts[0].to_owned(),
            volume: parts[1].to_owned(),
            index: 0,
            node: "oak".to_owned(),
            size_bytes: 64 << 30,
            used_bytes: 5 << 20,
            has_disk: true,
            is_declared,
        }
    }

    #[test]
    fn volumes_read_without_colour() {
        let new = Volume { has_disk: false, size_bytes: 0, ..volume("shop.site.0", true) };
        let volumes = [volume("shop.data.0", true), volume("old.files.0", false), new];
        insta::assert_snapshot!(table(&volumes).render(None, Paint::PLAIN), @r"
        VOLUME       SIZE      USED     NODE  STATE
        shop.data.0  64.0 GiB  5.0 MiB  oak   declared
        old.files.0  64.0 GiB  5.0 MiB  oak   kept
        shop.site.0  -         5.0 MiB  oak   waits for its task
        ");
    }

    #[test]
    fn what_is_kept_is_said() {
        insta::assert_snapshot!(kept(&["shop.data.0".to_owned()]), @"volume shop.data.0 is kept; `lith volume rm shop.data.0` deletes it with what it holds");
        let two = ["shop.a.0".to_owned(), "shop.b.0".to_owned()];
        insta::assert_snapshot!(kept(&two), @"volumes shop.a.0 shop.b.0 are kept; `lith volume rm shop.a.0 shop.b.0` deletes them with what they hold");
    }
}
