# Commits numbers one after the other, and says so when each is committed. At its start it says what it found.
import sqlite3

print('opening', flush=True)
db = sqlite3.connect('/data/db.sqlite', isolation_level=None)
db.execute('pragma journal_mode = wal')
db.execute('pragma synchronous = full')
check = db.execute('pragma integrity_check').fetchone()[0]
db.execute('create table if not exists t (n integer primary key, pad blob)')
last, count = db.execute('select coalesce(max(n), 0), count(*) from t').fetchone()
print('found', check.replace(' ', '-'), last, count, flush=True)
while True:
    last += 1
    db.execute('insert into t values (?, randomblob(3000))', (last,))
    print('committed', last, flush=True)
