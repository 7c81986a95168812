"""The page of the quickstart lab: asks the back-end for the next number and shows it.

Nothing here knows of tracing but the trace id it shows: the image starts this file with `opentelemetry-instrument`, which
wraps Flask and requests.
"""

import os
import signal
import sys

import requests
from flask import Flask, jsonify, render_template_string
from opentelemetry import trace
from waitress import serve

BACKEND = os.environ.get("BACKEND_URL", "http://backend:8081")
# Seconds to connect and to wait for an answer.
PATIENCE = (2, 5)

PAGE = """<!doctype html>
<html lang="en">
<title>quickstart</title>
<style>body { font: 1.2rem/1.5 sans-serif; margin: 3rem auto; max-width: 40rem } b { font-size: 4rem }</style>
<h1>Visits</h1>
{% if visits is none %}<p>The back-end does not answer: {{ why }}</p>
{% else %}<p><b>{{ visits }}</b></p>
<p>Trace <code>{{ here }}</code>, in the back-end <code>{{ there }}</code></p>{% endif %}
</html>
"""

app = Flask(__name__)


def trace_id():
    """The id of the trace this request belongs to, as traces are searched by."""
    return format(trace.get_current_span().get_span_context().trace_id, "032x")


@app.get("/")
def page():
    try:
        answer = requests.post(f"{BACKEND}/visits", timeout=PATIENCE)
        answer.raise_for_status()
        said = answer.json()
    except (requests.RequestException, ValueError) as error:
        app.logger.warning("back-end: %s", error)
        return render_template_string(PAGE, visits=None, why=type(error).__name__), 502
    return render_template_string(PAGE, visits=said["visits"], there=said["trace"], here=trace_id())


@app.get("/healthz")
def healthz():
    return jsonify(status="ok")


def stop(*_):
    sys.exit(0)


if __name__ == "__main__":
    # As the first process of a container it has no default for this signal.
    signal.signal(signal.SIGTERM, stop)
    serve(app, host="0.0.0.0", port=int(os.environ.get("PORT", "8080")), threads=4, ident=None)
