"""The business logic of the kind-e2e lab: a fast answer, and one whose three seconds are to be found in a trace."""

import os
import signal
import sys
import time

from flask import Flask, jsonify
from opentelemetry import trace
from waitress import serve

# Seconds.
SLOW = float(os.environ.get("SLOW_SECONDS", "3"))

app = Flask(__name__)
tracer = trace.get_tracer("business-logic")


def load(rows):
    with tracer.start_as_current_span("load_data") as span:
        span.set_attribute("rows", rows)
        return list(range(rows))


def transform(rows, seconds):
    """What a trace shows to be slow."""
    with tracer.start_as_current_span("data_transformation") as span:
        span.set_attribute("rows", len(rows))
        time.sleep(seconds)
        return sum(rows)


@app.get("/fast")
def fast():
    return jsonify(message=f"This was a fast request: {sum(load(10))}")


@app.get("/slow")
def slow():
    return jsonify(message=f"This was a slow request: {transform(load(1000), SLOW)}")


@app.get("/healthz")
def healthz():
    return jsonify(status="ok")


def stop(*_):
    sys.exit(0)


if __name__ == "__main__":
    # As the first process of a container it has no default for this signal.
    signal.signal(signal.SIGTERM, stop)
    serve(app, host="0.0.0.0", port=int(os.environ.get("PORT", "8000")), threads=8, ident=None)
