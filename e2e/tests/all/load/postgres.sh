# Commits numbers one after the other, and says so when each is committed. At its start it says what it found: its tables and
# their indexes are looked at by amcheck, each page by its checksum, each row by its hash.
set -eu
echo opening
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username=postgres --auth=trust --data-checksums --no-instructions
fi
pg_ctl --wait --timeout=120 start

check() {
    cat <<'SQL'
set client_min_messages = warning;
set jit = off;
create extension if not exists amcheck;
create table if not exists t (n bigint primary key, hash text not null, pad text not null);
create index if not exists t_hash on t (hash);
create table if not exists newest (n bigint not null);
insert into newest select 0 where not exists (select from newest);
select count(bt_index_parent_check(indexrelid, true, true)) as indexes from pg_index
    where indrelid in ('t'::regclass, (select reltoastrelid from pg_class where oid = 't'::regclass)) \gset
select count(*) as damaged
    from unnest(array['t', 'newest']::regclass[]) as name, lateral verify_heapam(name, check_toast => true) \gset
set enable_indexscan = off;
set enable_indexonlyscan = off;
set enable_bitmapscan = off;
select count(*) as rows, coalesce(bool_and(hash = md5(pad)), true) as whole from t \gset
set enable_indexonlyscan = on;
set enable_seqscan = off;
select count(*) as entries, coalesce(max(n), 0) as last from t where n > 0 \gset
reset all;
select 'found '
    || case
        when :indexes <> 3 then 'an-index-was-not-looked-at'
        when :damaged > 0 then 'a-table-is-damaged'
        when not :'whole' then 'a-row-is-damaged'
        when :rows <> :entries then 'index-and-table-differ'
        when n <> :last then 'half-a-transaction'
        else 'ok'
    end || ' ' || :last || ' ' || :rows from newest;
SQL
}

# What is said comes after the answer to the commit: one session does one statement after the other.
commits() {
    while :; do
        cat <<'SQL'
begin;
update newest set n = n + 1 returning n as last \gset
insert into t select :last, md5(pad), pad
    from (select string_agg(md5(random()::text), '') as pad from generate_series(1, 90)) as made;
commit;
select 'committed ' || :last;
SQL
    done
}

{ check; commits; } |
    psql --no-psqlrc --quiet --no-align --tuples-only --set ON_ERROR_STOP=1 --username postgres postgres
