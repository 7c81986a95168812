"""The application of the k3s-vagrant lab: routes that are quick, slow, and wrong in ways a trace shows.

The image starts this file with `opentelemetry-instrument`, which wraps Flask, requests and redis; what is measured inside a
request is measured here.
"""

import os
import random
import signal
import sys
import time

import redis
import requests
from flask import Flask, jsonify
from opentelemetry import trace
from waitress import serve

# What /beta asks: a page that answers with JSON. The workshop asked a search engine, which no lab without a network can.
UPSTREAM = os.environ.get("UPSTREAM_URL", "http://jaeger.observability:16686/api/services")
# Seconds that the last of the steps of /alpha takes.
SLOW = float(os.environ.get("SLOW_SECONDS", "3"))
STEPS = 100
# Seconds to connect and to wait for an answer.
PATIENCE = (2, 10)

app = Flask(__name__)
tracer = trace.get_tracer("test-service")
store = redis.Redis(
    host=os.environ.get("REDIS_HOST", "redis"),
    port=int(os.environ.get("REDIS_STORE_PORT", "6379")),
    socket_timeout=5,
    socket_connect_timeout=2,
)


@app.get("/")
def home():
    return "Hello World!\n"


@app.get("/alpha")
def alpha():
    """A hundred steps, one of them slow: which, is for the attendee to find."""
    with tracer.start_as_current_span("alpha-endpoint") as span:
        span.set_attribute("steps", STEPS)
        for number in range(STEPS):
            with tracer.start_as_current_span(f"iter_{number}") as step:
                step.set_attribute("number", number)
                if number == STEPS - 1:
                    time.sleep(SLOW)
                elif number % 10 == 0:
                    time.sleep(random.uniform(0.001, 0.005))
    return "This is the Alpha Endpoint!\n"


def names():
    answer = requests.get(UPSTREAM, timeout=PATIENCE)
    answer.raise_for_status()
    return answer.json()["data"] or []


@app.get("/beta")
def beta():
    with tracer.start_as_current_span("get-services") as span:
        found = names()
        span.set_attribute("services", len(found))
    said = []
    for name in found:
        with tracer.start_as_current_span("read-service") as span:
            span.set_attribute("name", name)
            said.append(name.upper())
    return jsonify(services=said)


@app.get("/writeredis")
def write():
    with tracer.start_as_current_span("write-redis"):
        values = {f"service:{number}": name for number, name in enumerate(names())}
        # redis-py takes text, bytes and numbers; the workshop's first version gave it a date and died of it.
        values["last_access"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        store.mset(values)
        return jsonify(written=len(values), last_access=store.get("last_access").decode())


@app.get("/healthz")
def healthz():
    return jsonify(status="ok")


def stop(*_):
    sys.exit(0)


if __name__ == "__main__":
    # As the first process of a container it has no default for this signal.
    signal.signal(signal.SIGTERM, stop)
    with tracer.start_as_current_span("first-span"):
        app.logger.info("test-service starts")
    serve(app, host="0.0.0.0", port=int(os.environ.get("HTTP_PORT", "8080")), threads=8, ident=None)
