"""The front-end of the kind-e2e lab: pages that ask business-logic for what they show.

Nothing here knows of tracing but the trace id it shows: the image starts this file with `opentelemetry-instrument`, which
wraps Flask and requests, and passes the caller's trace on.
"""

import os
import signal
import sys

import requests
from flask import Flask, jsonify, render_template_string
from opentelemetry import trace
from waitress import serve

BUSINESS_LOGIC = os.environ.get("BL_HOST", "http://business-logic:8000")
VERSION = os.environ.get("VERSION", "v1")
# Seconds to connect and to wait for an answer: the slow page takes three.
PATIENCE = (2, 15)

# Links without a leading slash: behind the gateway all this stands below /demo-app/.
PAGE = """<!doctype html>
<html lang="en">
<title>demo-app</title>
<style>body { font: 1.2rem/1.5 sans-serif; margin: 3rem auto; max-width: 40rem }</style>
<h1>demo-app {{ version }}</h1>
{% if said %}<p>{{ said }}</p>{% endif %}
<p><a href="fast-page">a fast page</a>, <a href="slow-page">a slow page</a></p>
<p>Trace <code>{{ here }}</code></p>
</html>
"""

app = Flask(__name__)


def page(said=None, status=200):
    here = format(trace.get_current_span().get_span_context().trace_id, "032x")
    return render_template_string(PAGE, said=said, version=VERSION, here=here), status


def ask(path):
    try:
        answer = requests.get(f"{BUSINESS_LOGIC}/{path}", timeout=PATIENCE)
        answer.raise_for_status()
        return page(answer.json()["message"])
    except (requests.RequestException, ValueError, KeyError) as error:
        app.logger.warning("business-logic: %s", error)
        return page(f"business-logic does not answer: {type(error).__name__}", 502)


@app.get("/")
def home():
    return page()


@app.get("/fast-page")
def fast():
    return ask("fast")


@app.get("/slow-page")
def slow():
    return ask("slow")


@app.get("/version")
def version():
    return jsonify(version=VERSION)


@app.get("/healthz")
def healthz():
    return jsonify(status="ok")


def stop(*_):
    sys.exit(0)


if __name__ == "__main__":
    # As the first process of a container it has no default for this signal.
    signal.signal(signal.SIGTERM, stop)
    serve(app, host="0.0.0.0", port=int(os.environ.get("PORT", "8080")), threads=8, ident=None)
