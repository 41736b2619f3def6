"""A notebook, the size of many apps that people host for themselves.

It keeps its notes in SQLite, or in PostgreSQL when DATABASE_URL says where; it counts its visitors in Redis when REDIS_URL
does. A password may come from a file, as secrets do.
"""

import os
import sqlite3
from urllib.parse import urlsplit

from flask import Flask, jsonify, request

app = Flask(__name__)
PATH = os.environ.get("NOTES_PATH", "/app/state/notes.sqlite")
DATABASE_URL = os.environ.get("DATABASE_URL")
REDIS_URL = os.environ.get("REDIS_URL")


def secret(name):
    """The value of NAME, or of the file that NAME_FILE names."""
    path = os.environ.get(name + "_FILE")
    if path:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    return os.environ.get(name)


def connect():
    if DATABASE_URL:
        import psycopg2

        address = urlsplit(DATABASE_URL)
        connection = psycopg2.connect(
            host=address.hostname,
            port=address.port or 5432,
            user=address.username,
            password=address.password or secret("DATABASE_PASSWORD"),
            dbname=address.path.lstrip("/"),
            connect_timeout=10,
        )
        kind = "serial"
    else:
        connection = sqlite3.connect(PATH)
        kind = "integer"
    if os.environ.get("NOTES_MAKE_TABLE", "yes") == "yes":
        run(connection, f"create table if not exists notes (id {kind} primary key, text text not null)")
    return connection


def run(connection, statement, *values):
    cursor = connection.cursor()
    cursor.execute(statement.replace("?", "%s") if DATABASE_URL else statement, values)
    connection.commit()
    return cursor


@app.get("/")
def index():
    return os.environ.get("NOTES_TITLE", "notes") + ": GET /notes, POST /notes\n"


@app.get("/healthz")
def healthz():
    connect().close()
    return "well\n"


@app.get("/notes")
def list_notes():
    rows = run(connect(), "select id, text from notes order by id").fetchall()
    return jsonify([{"id": row[0], "text": row[1]} for row in rows])


@app.post("/notes")
def add_note():
    text = request.get_data(as_text=True)
    wanted = " returning id" if DATABASE_URL else ""
    cursor = run(connect(), "insert into notes (text) values (?)" + wanted, text)
    return jsonify({"id": cursor.fetchone()[0] if DATABASE_URL else cursor.lastrowid}), 201


@app.get("/visits")
def visits():
    import redis

    return jsonify({"visits": redis.Redis.from_url(REDIS_URL).incr("visits")})


@app.get("/whoami")
def whoami():
    return jsonify({"uid": os.getuid(), "gid": os.getgid(), "cwd": os.getcwd()})
