"""State that the checks of the acceptance share: the program, its devices, the time left, the log and the results."""

import dataclasses
import json
import threading
import time
import tomllib
import traceback
from pathlib import Path

import processes

# Least time that a command is begun with.
LEAST_S = 5


class Failed(Exception):
    """Failure of a check: why, and the figures that there are."""

    def __init__(self, why, **figures):
        super().__init__(why)
        self.figures = figures


class Skipped(Exception):
    """Reason why a check was not made: too little time is left, or an earlier check came to nothing."""


@dataclasses.dataclass
class Told:
    """Result of a check that measured something and judged nothing."""

    summary: str
    figures: dict


def as_sets(keys):
    """Returns the arguments that set these keys of a scenario."""
    return [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]


@dataclasses.dataclass
class Acceptance:
    """Acceptance: where everything is, and what was found so far."""

    root: Path
    program: Path
    env: dict
    machine: dict
    libraries: dict
    scenario: Path
    is_default: bool
    devices: list
    out: Path
    scratch: Path
    deadline: float
    profile: dict | None = None
    commands: list = dataclasses.field(default_factory=list)

    def __post_init__(self):
        self.device = self.devices[0]
        self.kind = self.device.split(":")[0]
        self.on_gpu = self.kind == "cuda"
        self.cases = self.root / "tests/parity"
        models = tomllib.loads(self.scenario.read_text()).get("models", {})
        self.large, self.steps = models.get("large", "sd3.5-large"), models.get("steps", 50)
        self.log = open(self.out / "log.txt", "w")
        self.lock = threading.Lock()

    def sets(self, devices, profiled=True):
        """Returns the arguments that put the scenario on these devices, with the measured profile if there is one."""
        measured = profiled and self.profile is not None
        # The profile of scenarios/live-shapes.toml calls its GPU cpu.
        kind = self.kind if measured or not profiled else "cpu"
        quoted = ",".join(f'"{device}"' for device in devices)
        keys = {"cluster.gpus": f'[{{type="{kind}",count={len(devices)}}}]', "live.devices": f"[{quoted}]"}
        keys |= {"allocation.initial_large": len(devices)}
        if measured:
            keys["models.profile"] = f'"{self.out / "profile.toml"}"'
        return as_sets(keys)

    def modm(self, *arguments, limit_s, watch=None):
        return self.run([str(self.program), *map(str, arguments)], limit_s, watch)

    def run(self, command, limit_s, watch=None):
        """Runs a command within its limit and the time that is left for all, and appends it to the log."""
        limit_s = min(limit_s, self.deadline - time.monotonic())
        if limit_s < LEAST_S:
            raise Skipped("no time was left for it")
        self.commands.append(" ".join(command))
        outcome = processes.run(command, self.env, self.root, self.scratch, limit_s, watch)
        end = "ended at its limit" if outcome.code is None else f"exit code {outcome.code}"
        with self.lock:
            self.log.write(f"$ {' '.join(command)}\n{outcome.output}({end}, {outcome.seconds:.1f} s)\n\n")
            self.log.flush()
        return outcome

    def expect(self, outcome):
        """Raises Failed with the last words of a command that did not end well."""
        if outcome.code != 0:
            raise Failed(self.last_words(outcome))

    def last_words(self, outcome):
        if outcome.code is None:
            return f"took longer than {outcome.seconds:.0f} s and was ended"
        lines = [line.strip() for line in outcome.output.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("error", "missing"))]
        return f"exit code {outcome.code}: {(errors or lines or ['it said nothing'])[-1][:400]}"

    def check(self, name, function):
        """Makes a check, whatever becomes of it, and returns its result."""
        self.commands, begun = [], time.monotonic()
        try:
            made = function(self)
            status, made = ("told", made) if isinstance(made, Told) else ("passed", Told(*made))
        except Failed as failure:
            status, made = "failed", Told(str(failure), failure.figures)
        except Skipped as reason:
            status, made = "skipped", Told(str(reason), {})
        except Exception as error:  # A mistake in a check must not cost those that follow.
            self.log.write(traceback.format_exc())
            status, made = "failed", Told(f"the check itself failed: {error!r}", {})
        result = {"name": name, "status": status, "seconds": round(time.monotonic() - begun, 1)}
        return result | {"summary": made.summary, "commands": self.commands, "figures": made.figures}

    def commit(self):
        """Returns the commit that the program was built from, once a live run has written it."""
        for file in sorted(self.scratch.glob("*/run.json")):
            return json.loads(file.read_text()).get("commit")
        return None
