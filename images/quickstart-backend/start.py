"""Runs Redis and the application as one: both start, both stop, and neither outlives the other.

Redis listens on a socket file only. Its data is in DATA_DIR, written on each change.
"""

import os
import signal
import subprocess
import sys
import threading
import time

import redis
from waitress import serve

from app import SOCKET, app, store

DATA = os.environ.get("DATA_DIR", "/var/lib/quickstart")
# Seconds Redis may take to start, and to write its data and end.
PATIENCE = 10


def start_redis():
    command = ["redis-server", "--port", "0", "--unixsocket", SOCKET, "--unixsocketperm", "700"]
    command += ["--dir", DATA, "--appendonly", "yes", "--save", "", "--loglevel", "warning"]
    # A session of its own: Ctrl-C in a terminal is for this process, which stops Redis when it is done with it.
    return subprocess.Popen(command, start_new_session=True)


def wait_for(process):
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        try:
            store.ping()
            return
        except redis.RedisError:
            time.sleep(0.05)
    sys.exit(f"redis does not answer on {SOCKET}")


def stop_with(process):
    """Ends this process when Redis ends by itself."""

    def wait():
        process.wait()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def stop(*_):
    sys.exit(0)


def main():
    signal.signal(signal.SIGTERM, stop)
    process = start_redis()
    try:
        wait_for(process)
        stop_with(process)
        serve(app, host="0.0.0.0", port=int(os.environ.get("PORT", "8081")), threads=4, ident=None)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        died = process.poll()
        process.terminate()
        process.wait(PATIENCE)
    if died is not None:
        sys.exit(f"redis ended with {died}")


if __name__ == "__main__":
    main()
