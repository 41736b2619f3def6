//! The server's SQLite database: schema, transactions, and "load the world".
//!
//! This crate owns the stored forms and their versions. It never decides: what to write was planned by core, and one
//! [`Write`] is one transaction. Calls block; the caller gives them a thread.

mod form;
mod schema;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lith_api::event::Event;
use lith_core::deploy::Job;
use lith_core::name::{AllocId, JobName, NodeName};
use lith_core::place::Placement;
use lith_core::service::{ServiceKey, ServiceNumber};
use lith_core::time::Time;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

pub use form::FormError;

/// Events kept: some weeks of a home server's changes, a few megabytes.
const EVENTS_MAX: u64 = 20_000;
/// Largest number of events handed out at once.
pub const EVENTS_BATCH_MAX: u32 = 1000;

/// Why the database cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error("cannot open the database {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// Its schema cannot be brought to this version.
    #[error("cannot migrate the database {path}")]
    Migrate {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite_migration::Error,
    },
    /// A statement failed.
    #[error("cannot {operation}")]
    Statement {
        /// What was being done.
        operation: &'static str,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A stored row cannot be understood.
    #[error("cannot read {what} from the database")]
    Row {
        /// Which.
        what: String,
        /// Why.
        #[source]
        source: FormError,
    },
}

impl StoreError {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        use rusqlite_migration::{Error, MigrationDefinitionError};
        match self {
            Self::Migrate {
                source: Error::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead),
                ..
            } => "a newer lith has changed it: start that version again",
            Self::Open { .. } | Self::Migrate { .. } | Self::Statement { .. } | Self::Row { .. } => {
                "restore the file from a backup, then start lith again"
            }
        }
    }
}

/// A job with the times of its changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredJob {
    /// The job.
    pub job: Job,
    /// First deployed.
    pub created: Time,
    /// Last changed.
    pub updated: Time,
}

/// Everything that decisions are made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// Deployed jobs.
    pub jobs: BTreeMap<JobName, StoredJob>,
    /// Where each alloc is.
    pub allocs: BTreeMap<AllocId, NodeName>,
    /// The version that each alloc was placed in: what tells it from a former one of the same name.
    pub births: BTreeMap<AllocId, u64>,
    /// The number of each task that was ever part of a job that is there.
    pub services: BTreeMap<ServiceKey, ServiceNumber>,
    /// The number that was given out last.
    pub last_service: Option<ServiceNumber>,
    /// Grows with every write that changes what nodes should have.
    pub version: u64,
    /// Random, from the creation of the database: tells this cluster from every other.
    pub cluster: String,
}

/// One transaction's worth of changes.
#[derive(Debug, Clone, Default)]
pub struct Write {
    /// Jobs to store, new or changed.
    pub put: Vec<Job>,
    /// Numbers of tasks that had none.
    pub services: Vec<(ServiceKey, ServiceNumber)>,
    /// Jobs to delete, with the numbers of their tasks.
    pub delete: Vec<JobName>,
    /// Decisions of the scheduler.
    pub placements: Vec<Placement>,
    /// Events that tell of it; their ids and times are given by the database and the call.
    pub events: Vec<Event>,
}

impl Write {
    /// Whether it changes what nodes should have.
    fn changes_nodes(&self) -> bool {
        let Self { put, services, delete, placements, events: _ } = self;
        !(put.is_empty() && services.is_empty() && delete.is_empty() && placements.is_empty())
    }
}

/// The open database.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
}

impl Store {
    /// Opens the database at `path`, creating or migrating it.
    ///
    /// # Errors
    /// When the file cannot be opened, or was written by a newer lith.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open { path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(open)?;
        // FULL, for a deployment that was acknowledged must survive a power cut; WAL, for readers do not wait.
        connection.pragma_update(None, "journal_mode", "wal").map_err(open)?;
        connection.pragma_update(None, "synchronous", "full").map_err(open)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(open)?;
        schema::migrations()
            .to_latest(&mut connection)
            .map_err(|source| StoreError::Migrate { path: path.to_owned(), source })?;
        Ok(Self { connection })
    }

    /// Loads everything that decisions are made from.
    ///
    /// # Errors
    /// When the database fails or holds a row that cannot be understood.
    pub fn world(&mut self) -> Result<World, StoreError> {
        let transaction = self.connection.transaction().map_err(failed("begin to read"))?;
        let (version, cluster) = (read_version(&transaction)?, read_cluster(&transaction)?);
        let mut world = World { version, cluster, ..World::default() };
        load_jobs(&transaction, &mut world)?;
        load_allocs(&transaction, &mut world)?;
        load_services(&transaction, &mut world)?;
        Ok(world)
    }

    /// Writes one transaction; returns the new version and the events as stored.
    ///
    /// # Errors
    /// When the database fails; nothing of it is written then.
    pub fn write(&mut self, write: &Write, now: Time) -> Result<(u64, Vec<Event>), StoreError> {
        let transaction = self.connection.transaction().map_err(failed("begin to write"))?;
        for job in &write.put {
            put_job(&transaction, job, now)?;
        }
        for name in &write.delete {
            transaction
                .execute("delete from job where name = ?1", [name.as_str()])
                .map_err(failed("delete a job"))?;
            transaction
                .execute("delete from service where job = ?1", [name.as_str()])
                .map_err(failed("delete the numbers of a job"))?;
        }
        for service in &write.services {
            write_service(&transaction, service)?;
        }
        for placement in &write.placements {
            write_placement(&transaction, placement)?;
        }
        if write.changes_nodes() {
            transaction
                .execute("update cluster set version = version + 1", [])
                .map_err(failed("count the change"))?;
        }
        let events = write_events(&transaction, &write.events, now)?;
        let version = read_version(&transaction)?;
        transaction.commit().map_err(failed("commit"))?;
        Ok((version, events))
    }

    /// Makes the version greater than `version`, so that what follows is newer than what a node remembers.
    ///
    /// # Errors
    /// When the database fails.
    pub fn raise_version(&mut self, version: u64) -> Result<(), StoreError> {
        self.connection
            .execute("update cluster set version = max(version, ?1) + 1", [to_sql(version)])
            .map(|_| ())
            .map_err(failed("raise the version"))
    }

    /// The id of the last event that was ever stored; 0 when there was none.
    ///
    /// # Errors
    /// When the database fails.
    pub fn last_event(&mut self) -> Result<u64, StoreError> {
        self.event_id("select coalesce(max(id), 0) from event", [])
    }

    /// The id of the last event before the first one at or after a time; that of the last one when none is.
    ///
    /// # Errors
    /// When the database fails.
    pub fn last_event_before(&mut self, time: Time) -> Result<u64, StoreError> {
        let query =
            "select coalesce((select min(id) - 1 from event where time_ms >= ?1), max(id), 0) from event";
        self.event_id(query, [to_sql(time.0)])
    }

    fn event_id(&mut self, query: &str, parameters: impl rusqlite::Params) -> Result<u64, StoreError> {
        self.connection
            .query_row(query, parameters, |row| row.get::<_, i64>(0))
            .map(i64::cast_unsigned)
            .map_err(failed("read the events' ids"))
    }

    /// The events after `id`, oldest first, at most [`EVENTS_BATCH_MAX`].
    ///
    /// # Errors
    /// When the database fails.
    pub fn events_after(&mut self, id: u64) -> Result<Vec<Event>, StoreError> {
        let operation = failed("read events");
        let mut statement = self
            .connection
            .prepare_cached(
                "select id, time_ms, job, task, kind, message from event where id > ?1 order by id limit ?2",
            )
            .map_err(&operation)?;
        let rows = statement
            .query_map(params![to_sql(id), EVENTS_BATCH_MAX], |row| {
                Ok(Event {
                    id: row.get::<_, i64>(0)?.cast_unsigned(),
                    time_ms: row.get::<_, i64>(1)?.cast_unsigned(),
                    job: row.get(2)?,
                    task: row.get(3)?,
                    kind: row.get(4)?,
                    message: row.get(5)?,
                })
            })
            .map_err(&operation)?;
        rows.collect::<Result<_, _>>().map_err(operation)
    }
}

fn failed(operation: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Statement { operation, source }
}

/// SQLite knows signed numbers only; the bits are kept.
fn to_sql(number: u64) -> i64 {
    number.cast_signed()
}

fn read_version(transaction: &Transaction<'_>) -> Result<u64, StoreError> {
    transaction
        .query_row("select version from cluster", [], |row| row.get::<_, i64>(0))
        .optional()
        .map(|version| version.unwrap_or(0).cast_unsigned())
        .map_err(failed("read the version"))
}

fn read_cluster(transaction: &Transaction<'_>) -> Result<String, StoreError> {
    transaction
        .query_row("select name from cluster", [], |row| row.get(0))
        .map_err(failed("read the cluster's name"))
}

fn load_jobs(transaction: &Transaction<'_>, world: &mut World) -> Result<(), StoreError> {
    let operation = failed("read the jobs");
    let mut statement = transaction
        .prepare_cached("select name, version, form, body, created_ms, updated_ms from job")
        .map_err(&operation)?;
    let mut rows = statement.query([]).map_err(&operation)?;
    while let Some(row) = rows.next().map_err(&operation)? {
        let name: String = row.get(0).map_err(&operation)?;
        let version = row.get::<_, i64>(1).map_err(&operation)?.cast_unsigned();
        let (form, body): (u32, String) = (row.get(2).map_err(&operation)?, row.get(3).map_err(&operation)?);
        let time = |index| row.get::<_, i64>(index).map(|ms| Time(ms.cast_unsigned())).map_err(&operation);
        let job = form::decode(form, &body, version)
            .map_err(|source| StoreError::Row { what: format!("job \"{name}\""), source })?;
        let stored = StoredJob { job, created: time(4)?, updated: time(5)? };
        world.jobs.insert(stored.job.spec.name.clone(), stored);
    }
    Ok(())
}

fn load_allocs(transaction: &Transaction<'_>, world: &mut World) -> Result<(), StoreError> {
    let operation = failed("read the allocs");
    let mut statement = transaction.prepare_cached("select id, node, born from alloc").map_err(&operation)?;
    let mut rows = statement.query([]).map_err(&operation)?;
    while let Some(row) = rows.next().map_err(&operation)? {
        let (id, node): (String, String) = (row.get(0).map_err(&operation)?, row.get(1).map_err(&operation)?);
        let bad =
            |source| StoreError::Row { what: format!("alloc \"{id}\""), source: FormError::Name(source) };
        let alloc: AllocId = id.parse().map_err(bad)?;
        let born = row.get::<_, i64>(2).map_err(&operation)?.cast_unsigned();
        world.births.insert(alloc.clone(), born);
        world.allocs.insert(alloc, node.parse().map_err(bad)?);
    }
    Ok(())
}

fn load_services(transaction: &Transaction<'_>, world: &mut World) -> Result<(), StoreError> {
    let operation = failed("read the tasks' numbers");
    let last: u16 = transaction
        .query_row("select last_service from cluster", [], |row| row.get(0))
        .map_err(&operation)?;
    // 0 as long as none was given out.
    world.last_service = ServiceNumber::new(last);
    let mut statement =
        transaction.prepare_cached("select job, task, number from service").map_err(&operation)?;
    let mut rows = statement.query([]).map_err(&operation)?;
    while let Some(row) = rows.next().map_err(&operation)? {
        let (job, task): (String, String) =
            (row.get(0).map_err(&operation)?, row.get(1).map_err(&operation)?);
        let number: u16 = row.get(2).map_err(&operation)?;
        let bad = |source| StoreError::Row { what: format!("the number of task \"{job}/{task}\""), source };
        let number = ServiceNumber::new(number).ok_or_else(|| bad(FormError::Number { number }))?;
        let name = |source| bad(FormError::Name(source));
        world.services.insert((job.parse().map_err(name)?, task.parse().map_err(name)?), number);
    }
    Ok(())
}

fn write_service(
    transaction: &Transaction<'_>,
    ((job, task), number): &(ServiceKey, ServiceNumber),
) -> Result<(), StoreError> {
    let operation = failed("store the number of a task");
    transaction
        .execute(
            "insert into service (job, task, number) values (?1, ?2, ?3)",
            params![job.as_str(), task.as_str(), number.number()],
        )
        .map_err(&operation)?;
    transaction
        .execute("update cluster set last_service = ?1", [number.number()])
        .map(|_| ())
        .map_err(operation)
}

fn put_job(transaction: &Transaction<'_>, job: &Job, now: Time) -> Result<(), StoreError> {
    let (form, body) = form::encode(job);
    transaction
        .execute(
            "insert into job (name, version, form, body, created_ms, updated_ms) values (?1, ?2, ?3, ?4, ?5, ?5)
             on conflict (name) do update set version = ?2, form = ?3, body = ?4, updated_ms = ?5",
            params![job.spec.name.as_str(), to_sql(job.version), form, body, to_sql(now.0)],
        )
        .map(|_| ())
        .map_err(failed("store a job"))
}

fn write_placement(transaction: &Transaction<'_>, placement: &Placement) -> Result<(), StoreError> {
    let result = match placement {
        Placement::Place(alloc, node) => transaction.execute(
            "insert or replace into alloc (id, node, born)
             values (?1, ?2, (select version + 1 from cluster))",
            params![alloc.to_string(), node.as_str()],
        ),
        Placement::Remove(alloc) => {
            transaction.execute("delete from alloc where id = ?1", [alloc.to_string()])
        }
        Placement::Unplaced(_) => Ok(0),
    };
    result.map(|_| ()).map_err(failed("store a placement"))
}

fn write_events(
    transaction: &Transaction<'_>,
    events: &[Event],
    now: Time,
) -> Result<Vec<Event>, StoreError> {
    let operation = failed("store an event");
    let mut stored = Vec::new();
    for event in events {
        transaction
            .execute(
                "insert into event (time_ms, job, task, kind, message) values (?1, ?2, ?3, ?4, ?5)",
                params![to_sql(now.0), event.job, event.task, event.kind, event.message],
            )
            .map_err(&operation)?;
        let id = transaction.last_insert_rowid().cast_unsigned();
        stored.push(Event { id, time_ms: now.0, ..event.clone() });
    }
    if let Some(last) = stored.last() {
        transaction
            .execute("delete from event where id <= ?1", [to_sql(last.id.saturating_sub(EVENTS_MAX))])
            .map_err(&operation)?;
    }
    Ok(stored)
}

#[cfg(test)]
mod tests;
