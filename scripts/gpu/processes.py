"""Runs commands within a time limit, and observes the processes that they start: names and memory. Linux only."""

import dataclasses
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

TICK_S = 0.1


@dataclasses.dataclass
class Outcome:
    """End of a command: exit code (None if it exceeded its limit), output and duration."""

    code: int | None
    output: str
    seconds: float


def run(command, env, folder, scratch, limit_s, watch=None):
    """Runs a command in a folder within a time limit. `watch` is called with its process id as it runs."""
    begun, code = time.monotonic(), None
    with tempfile.TemporaryFile("w+", errors="replace", dir=scratch) as said:
        streams = {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": subprocess.STDOUT}
        try:
            process = subprocess.Popen(command, env=env, cwd=folder, start_new_session=True, **streams)
        except OSError as error:
            return Outcome(127, f"{error}\n", 0.0)
        try:
            while (code := process.poll()) is None and time.monotonic() - begun < limit_s:
                if watch:
                    watch(process.pid)
                time.sleep(TICK_S)
        finally:
            if code is None:
                end([*descendants(process.pid), process.pid])
                process.wait()
        seconds = time.monotonic() - begun
        said.seek(0)
        return Outcome(code, said.read(), seconds)


def end(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def descendants(pid):
    """Returns the ids of the processes that a process has started, and that those have."""
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                # The name, in brackets, may hold anything; the parent is the second field after it.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, open_ = [], [pid]
    while open_:
        own = children.get(open_.pop(), [])
        found += own
        open_ += own
    return found


def workers(pid):
    """Returns the worker processes of a program by id, as `worker cuda:0` or `encoder cpu:0`."""
    found = {}
    for child in descendants(pid):
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if len(words) > 2 and words[1] == "worker-process":
            found[child] = words[2]
    return found


def resident_mb(pid):
    """Returns the memory of a process that is in the machine's, or None if the process has ended."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return None


def gpu_memory():
    """Returns the GPU's memory in use, in MB, by process id as far as the driver tells it; under "all" the total."""
    found = {}
    query = ["nvidia-smi", "--format=csv,noheader,nounits"]
    for what in ("--query-compute-apps=pid,used_memory", "--query-gpu=memory.used"):
        try:
            lines = subprocess.run([*query, what], capture_output=True, text=True, timeout=5).stdout.splitlines()
        except (OSError, subprocess.TimeoutExpired):
            return found
        for fields in (line.split(",") for line in lines):
            try:
                process = int(fields[0]) if len(fields) == 2 else "all"
                # MiB, as the driver has it.
                found[process] = found.get(process, 0) + float(fields[-1]) * 1.048576
            except ValueError:
                continue  # "[N/A]": in some containers.
    return found


class Memory:
    """Samples of the memory of the program and its worker processes. A watch for `run`."""

    EVERY_S = 0.3

    def __init__(self, on_gpu):
        self.samples = {}
        self.names = {}
        self.next = 0.0
        self.thread = threading.Thread(target=self._follow_gpu, daemon=True) if on_gpu else None
        self.stopped = threading.Event()
        if self.thread:
            self.thread.start()

    def __call__(self, pid):
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + self.EVERY_S
        self.names[pid] = "program"
        self.names.update(workers(pid))
        for process in list(self.names):
            if (resident := resident_mb(process)) is not None:
                self.samples.setdefault(("resident", process), []).append(resident)

    def _follow_gpu(self):
        # In a thread of its own: the driver's tool takes from 0.05 to 1 s to answer.
        while not self.stopped.wait(self.EVERY_S):
            for process, used in gpu_memory().items():
                if self.names and (process == "all" or process in self.names):
                    self.samples.setdefault(("gpu", process), []).append(used)

    def stop(self):
        self.stopped.set()
        if self.thread:
            self.thread.join()

    def quarters(self):
        """Returns for each process and kind the medians of the first and the last quarter, and the greatest, in MB."""
        rows = []
        for (kind, process), samples in sorted(self.samples.items(), key=str):
            # What loading and the first jobs allocate is not growth.
            steady = samples[len(samples) // 10 :]
            quarter = max(1, len(steady) // 4)
            row = {"kind": kind, "process": self.names.get(process, "all"), "samples": len(samples)}
            medians = {"first_mb": median(steady[:quarter]), "last_mb": median(steady[-quarter:])}
            rows.append({**row, **medians, "greatest_mb": max(samples)})
        return rows


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
