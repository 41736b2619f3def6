//! The schema and its migrations. A migration that was released is never edited: a new one is appended.

use rusqlite_migration::{M, Migrations};

/// Every migration, in order.
pub(crate) fn migrations() -> Migrations<'static> {
    Migrations::new(vec![M::up(INITIAL), M::up(SERVICES)])
}

/// The first schema.
const INITIAL: &str = "create table cluster (
     id integer primary key check (id = 1),
     version integer not null,
     name text not null
 ) strict;
 insert into cluster (id, version, name) values (1, 0, lower(hex(randomblob(16))));
 create table job (
     name text primary key,
     version integer not null,
     form integer not null,
     body text not null,
     created_ms integer not null,
     updated_ms integer not null
 ) strict;
 create table alloc (
     id text primary key,
     node text not null,
     born integer not null
 ) strict;
 create table event (
     id integer primary key autoincrement,
     time_ms integer not null,
     job text,
     task text,
     kind text not null,
     message text not null
 ) strict;";

/// The numbers of tasks, from which their virtual addresses follow. They go with their job; the last one that was given
/// out is remembered so that it is not given out again soon.
const SERVICES: &str = "create table service (
     job text not null,
     task text not null,
     number integer not null unique,
     primary key (job, task)
 ) strict;
 alter table cluster add column last_service integer not null default 0;";

#[cfg(test)]
mod tests {
    #[test]
    fn migrations_are_valid() {
        super::migrations().validate().unwrap();
    }
}
