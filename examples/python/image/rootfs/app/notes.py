"""A notebook in SQLite, the size of many apps that people host for themselves."""

import os
import sqlite3

from flask import Flask, jsonify, request

app = Flask(__name__)
PATH = os.environ.get("NOTES_PATH", "/app/state/notes.sqlite")


def connect():
    connection = sqlite3.connect(PATH)
    connection.execute("create table if not exists notes (id integer primary key, text text not null)")
    return connection


@app.get("/")
def index():
    return "notes: GET /notes, POST /notes\n"


@app.get("/notes")
def list_notes():
    with connect() as connection:
        rows = connection.execute("select id, text from notes order by id").fetchall()
    return jsonify([{"id": row[0], "text": row[1]} for row in rows])


@app.post("/notes")
def add_note():
    with connect() as connection:
        cursor = connection.execute("insert into notes (text) values (?)", (request.get_data(as_text=True),))
    return jsonify({"id": cursor.lastrowid}), 201


@app.get("/whoami")
def whoami():
    return jsonify({"uid": os.getuid(), "gid": os.getgid(), "cwd": os.getcwd()})
