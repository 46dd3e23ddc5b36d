"""Finds what the acceptance needs: the program, ONNX Runtime and NVIDIA's libraries. Describes the machine."""

import csv
import json
import os
import platform
import re
import site
import subprocess
import sys
from pathlib import Path

DRIVER = "libcuda.so.1"
# What ONNX Runtime's CUDA provider opens, of CUDA 13 and cuDNN 9.
LIBRARIES = (
    "libcudart.so.13",
    "libcublasLt.so.13",
    "libcublas.so.13",
    "libcurand.so.10",
    "libcufft.so.12",
    "libnvrtc.so.13",
    "libcudnn.so.9",
    DRIVER,
)
# In place of a folder.
SYSTEM = "the system"
QUERY = "index,name,driver_version,compute_cap,memory.total,memory.used"


class Missing(Exception):
    """Something is missing without which nothing can be checked. The text says the way out."""


def read(path):
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def output_of(command):
    """Returns the standard output of a command, empty if it fails or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def bundle_of(root):
    """Returns what scripts/gpu_bundle wrote of a bundle, or None in a repository."""
    text = read(root / "bundle.json")
    return json.loads(text) if text else None


def find_program(root, named):
    """Returns the program: the one that is named, the bundle's, or the one that cargo has built."""
    built = Path(os.environ.get("CARGO_TARGET_DIR") or root / "target") / "release/modm"
    program = named or (root / "bin/modm" if bundle_of(root) else built)
    if not program.is_file():
        raise Missing(
            f"{program} is not there: cargo build --release --features live builds it, --program names another"
        )
    help_text = output_of([str(program), "--help"])
    if not help_text:
        raise Missing(
            f"{program} does not start here: run it by hand to see why (it needs x86-64 Linux and its C library)"
        )
    if not re.search(r"^ +parity ", help_text, re.MULTILINE):
        raise Missing(f"{program} has no live mode: cargo build --release --features live builds one that has")
    return program


def find_runtime(root, cuda):
    """Returns the library of ONNX Runtime: ORT_DYLIB_PATH, the bundle's, or that of scripts/install_onnxruntime."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    installed = root / "onnxruntime" if bundle_of(root) else Path(data) / "modm/onnxruntime"
    place = Path(os.environ.get("ORT_DYLIB_PATH") or installed).resolve()
    way_out = f"scripts/install_onnxruntime{' --gpu' if cuda else ''} installs it, ORT_DYLIB_PATH names another"
    library = place if place.is_file() else max(place.glob("libonnxruntime.so*"), default=None)
    if library is None:
        raise Missing(f"no ONNX Runtime in {place}: {way_out}")
    if cuda and not (library.parent / "libonnxruntime_providers_cuda.so").is_file():
        raise Missing(f"ONNX Runtime in {library.parent} is without CUDA: {way_out}")
    return library


def library_folders(runtime, named):
    """Yields the folders where NVIDIA's libraries may be, best first: PyTorch's wheels have them in nvidia/*/lib."""
    yield from named
    yield from (Path(folder) for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder)
    yield from sorted(runtime.parent.glob("nvidia/*/lib"))
    packages = [*site.getsitepackages(), site.getusersitepackages(), *sys.path]
    # The Python that a shell finds may be another one than this, such as that of PyTorch's environment.
    packages += output_of(["python3", "-c", "import sys; print(*sys.path, sep='\\n')"]).splitlines()
    packages += [
        *Path("/opt").glob("*/lib/python3*/site-packages"),
        *Path("/opt").glob("*/*/lib/python3*/site-packages"),
    ]
    for folder in filter(None, packages):
        yield from sorted(Path(folder).glob("nvidia/*/lib"))
    for folder in sorted(Path("/usr/local").glob("cuda*"), reverse=True):
        yield from (folder / "lib64", folder / "targets/x86_64-linux/lib")
    yield from (Path(folder) for folder in ("/usr/local/nvidia/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib64"))


def find_libraries(runtime, named):
    """Returns the folder of each of NVIDIA's libraries by name: SYSTEM if the loader finds it by itself, else None."""
    folders = list(dict.fromkeys(library_folders(runtime, named)))
    cached = set(re.findall(r"^\s+(\S+) \(.*x86-64", output_of(["ldconfig", "-p"]), re.MULTILINE))
    found = {}
    for name in LIBRARIES:
        # The driver's library is the one that the system has chosen; the others come in sets that fit together.
        if name == DRIVER and name in cached:
            found[name] = SYSTEM
            continue
        folder = next((folder for folder in folders if (folder / name).exists()), None)
        found[name] = str(folder) if folder else SYSTEM if name in cached else None
    return found


def packages_of(libraries):
    """Returns names and versions of the wheels that the libraries are of, where they are of wheels."""
    folders = {Path(folder) for folder in libraries.values() if folder not in (None, SYSTEM)}
    wheels = {wheel.stem for folder in folders for wheel in folder.parent.parent.parent.glob("nvidia_*.dist-info")}
    return sorted(wheels)


def environment(runtime, libraries):
    """Returns the environment for the program: this one, with ONNX Runtime named and the libraries' folders first."""
    folders = [folder for folder in dict.fromkeys(libraries.values()) if folder not in (None, SYSTEM)]
    folders += [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    joined = {"LD_LIBRARY_PATH": ":".join(dict.fromkeys(folders))} if folders else {}
    return {**os.environ, **joined, "ORT_DYLIB_PATH": str(runtime), "NO_COLOR": "1"}


def gpus():
    """Returns what NVIDIA's driver says of each GPU; nothing without a driver."""
    keys = QUERY.split(",")
    text = output_of(["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"])
    rows = csv.reader(text.splitlines(), skipinitialspace=True)
    return [dict(zip(keys, row, strict=True)) for row in rows if len(row) == len(keys)]


def describe(root, program, runtime):
    """Describes the machine and what runs on it, for the report."""
    processor = re.search(r"^model name\s*: (.*)$", read("/proc/cpuinfo"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+)", read("/proc/meminfo"), re.MULTILINE)
    system = re.search(r'^PRETTY_NAME="?([^"\n]*)', read("/etc/os-release"), re.MULTILINE)
    version = re.search(r"\.so\.(.+)$", runtime.name)
    return {
        "program": output_of([str(program), "--version"]).strip(),
        "bundle": bundle_of(root),
        "onnxruntime": version[1] if version else str(runtime),
        "gpus": gpus(),
        "processor": processor[1] if processor else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(int(memory[1]) * 1024 / 1e9, 1) if memory else None,
        "system": f"{system[1] if system else platform.system()}, kernel {platform.release()}",
        "python": platform.python_version(),
    }
