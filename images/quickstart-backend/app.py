"""The back-end of the quickstart lab: counts visits in Redis. `start.py` runs it."""

import os

import redis
from flask import Flask, jsonify
from opentelemetry import trace

SOCKET = os.environ.get("REDIS_SOCKET", "/var/lib/quickstart/redis.sock")

app = Flask(__name__)
store = redis.Redis(unix_socket_path=SOCKET, socket_timeout=5)


def trace_id():
    """The id of the trace this request belongs to: the caller's, when that is traced."""
    return format(trace.get_current_span().get_span_context().trace_id, "032x")


@app.post("/visits")
def visit():
    return jsonify(visits=store.incr("visits"), trace=trace_id())


@app.get("/visits")
def visits():
    return jsonify(visits=int(store.get("visits") or 0), trace=trace_id())


@app.get("/healthz")
def healthz():
    try:
        store.ping()
    except redis.RedisError as error:
        return jsonify(status="down", redis=str(error)), 503
    return jsonify(status="ok")
