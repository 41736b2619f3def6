//! `pool …`: the folders that nodes offer for volumes.

use std::time::Duration;

use lith_api::volume::Pool;

use crate::context::Context;
use crate::error::Error;
use crate::exit;
use crate::size::size;
use crate::table::Table;
use crate::time;

/// `lith pool ls`.
pub(crate) async fn list(context: &Context) -> Result<u8, Error> {
    let pools: Vec<Pool> = context.client.get("/v1/pools").await?;
    if context.json {
        context.print_json(&pools)?;
    } else if pools.is_empty() {
        context.say("no pools");
    } else {
        context.print_table(&table(&pools))?;
    }
    Ok(exit::DONE)
}

fn table(pools: &[Pool]) -> Table {
    let mut table =
        Table::new(&["POOL", "NODE", "PATH", "SIZE", "FREE", "RESERVE", "VOLUMES", "HISTORY", "STATE"]);
    for pool in pools {
        table.row(vec![
            pool.name.clone(),
            pool.node.clone(),
            pool.path.clone(),
            size(pool.bytes),
            size(pool.free_bytes),
            size(pool.reserve_bytes),
            pool.volumes.to_string(),
            history(pool),
            pool.problem.clone().unwrap_or_else(|| "usable".to_owned()),
        ]);
    }
    table
}

/// What history takes, and may take.
fn history(pool: &Pool) -> String {
    let takes = size(pool.history_bytes);
    if pool.history_s == 0 {
        // From a server that does not say, or of a pool that is not there.
        return takes;
    }
    format!(
        "{takes} of {}, {}",
        size(pool.history_bytes_max),
        time::short(Duration::from_secs(pool.history_s))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Paint;

    #[test]
    fn pools_read_without_colour() {
        let pool = Pool {
            name: "main".to_owned(),
            node: "oak".to_owned(),
            path: "/var/lib/lith/volumes".to_owned(),
            bytes: 500 << 30,
            free_bytes: 320 << 30,
            reserve_bytes: 25 << 30,
            volumes: 3,
            history_bytes: 12 << 30,
            history_bytes_max: 100 << 30,
            history_s: 24 * 3600,
            problem: None,
        };
        let gone = Pool {
            name: "fast".to_owned(),
            path: "/srv/fast".to_owned(),
            problem: Some("nothing is mounted at /srv/fast".to_owned()),
            bytes: 0,
            free_bytes: 0,
            reserve_bytes: 0,
            volumes: 1,
            history_bytes: 0,
            history_bytes_max: 0,
            history_s: 0,
            ..pool.clone()
        };
        insta::assert_snapshot!(table(&[pool, gone]).render(None, Paint::PLAIN), @"
        POOL  NODE  PATH                   SIZE     FREE     RESERVE   VOLUMES  HISTORY                   STATE
        main  oak   /var/lib/lith/volumes  500 GiB  320 GiB  25.0 GiB  3        12.0 GiB of 100 GiB, 24h  usable
        fast  oak   /srv/fast              0 B      0 B      0 B       1        0 B                       nothing is mounted at /srv/fast
        ");
    }
}
