"""`modm serve` as a process, for the clients here that measure it."""

import os
import subprocess
import threading


def start(modm, scenario, data, flags):
    """Starts a server on a free port. Returns its process and its address, http://HOST:PORT. What it logs after that is read
    and dropped, so that a full pipe does not hold it up; RUST_LOG says how much it logs, warnings unless it is set."""
    command = [modm, "serve", str(scenario), "--data", str(data), "--listen", "127.0.0.1:0", *flags]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={"RUST_LOG": "warn", **os.environ})
    said = []
    for line in server.stderr:
        if line.startswith("listening on "):
            threading.Thread(target=lambda: [None for _ in server.stderr], daemon=True).start()
            return server, line.split()[-1]
        said.append(line)
    raise SystemExit("error: the server ended before it listened:\n" + "".join(said))
