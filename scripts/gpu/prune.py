"""Keeps of the CUDA code in a shared library what one architecture needs, and zeroes the rest, so that it packs well.

Usage: prune.py IN.so OUT.so ARCHITECTURE     90 for sm_90; 75, 80, 86, 89 and 120 likewise

Two kinds of code are zeroed: what does not run on the architecture, and kernels that no model of modm calls (UNUSED).
The file keeps its size and layout. Headers of code for other architectures stay as they are. Headers of unused kernels
get another architecture, so that the driver reports "no kernel image is available" if one is called after all. Needs
the program zstd, to read the names of kernels.
"""

import collections
import re
import struct
import subprocess
import sys

# A container has a header (magic, version, length of the header, length of the rest), then an entry for each
# architecture: a header (kind, version, length of the header, length of the code, the fields at the offsets below) and
# the code.
CONTAINER = struct.Struct("<IHHQ")
ENTRY = struct.Struct("<HHIQ")
MAGIC = 0xBA55ED50
PACKED_LENGTH, ARCHITECTURE, LENGTH = 16, 28, 56
MACHINE_CODE = 2
ZSTD = b"\x28\xb5\x2f\xfd"

# Mixtures of experts and products with quantised weights, which are operators of language models: 50 of 77 MB of the
# code for sm_90 in onnxruntime-gpu 1.31.1. Exports of diffusion models have none of them.
UNUSED = re.compile(rb"N11onnxruntime3llm|MoeFCGemm|GroupProblemShape|DqMmaMultistage|DqMmaPipelined|9deep_gemm")

Code = collections.namedtuple("Code", "header kind architecture begin length packed unpacked")


def section(data, name):
    """Returns offset and length of a section of a 64-bit ELF file."""
    if data[:6] != b"\x7fELF\x02\x01":
        sys.exit("error: the library is no 64-bit ELF file")
    (table,) = struct.unpack_from("<Q", data, 40)
    width, count, names = struct.unpack_from("<HHH", data, 58)
    headers = [struct.unpack_from("<IIQQQQ", data, table + i * width) for i in range(count)]
    strings = headers[names][4]
    for header in headers:
        begin = strings + header[0]
        if data[begin : data.index(b"\0", begin)] == name:
            return header[4], header[5]
    sys.exit(f"error: the library has no section {name.decode()}, so it has no CUDA code")


def containers(data):
    """Yields the entries of each container of CUDA code."""
    at, size = section(data, b".nv_fatbin")
    end = at + size
    while at + CONTAINER.size <= end:
        magic, _, header, body = CONTAINER.unpack_from(data, at)
        if magic != MAGIC:
            at += 8
            continue
        entry, stop, found = at + header, at + header + body, []
        while entry < stop:
            kind, _, width, length = ENTRY.unpack_from(data, entry)
            (packed,) = struct.unpack_from("<I", data, entry + PACKED_LENGTH)
            (architecture,) = struct.unpack_from("<I", data, entry + ARCHITECTURE)
            (unpacked,) = struct.unpack_from("<Q", data, entry + LENGTH) if width >= LENGTH + 8 else (0,)
            found.append(Code(entry, kind, architecture, entry + width, length, packed, unpacked))
            entry += width + length
        yield found
        at = stop


def kernels(data, codes):
    """Yields the names of the kernels of each piece of code. They are unpacked in one go, one after the other."""
    packed = [code for code in codes if data[code.begin : code.begin + 4] == ZSTD]
    frames = b"".join(data[code.begin : code.begin + code.packed] for code in packed)
    run = subprocess.run(["zstd", "-dcq"], input=frames, capture_output=True, check=True)
    if len(run.stdout) != sum(code.unpacked for code in packed):
        sys.exit("error: the code unpacks to another length than its headers say: the format has changed")
    at = 0
    for code in codes:
        raw = b""
        if data[code.begin : code.begin + 4] == ZSTD:
            raw = run.stdout[at : at + code.unpacked]
            at += code.unpacked
        yield set(re.findall(rb"\.text\.(\w+)", raw))


def is_unused(names):
    """Returns whether all kernels of a piece of code are unused.

    One other is enough to keep it: a template of CUB or CUTLASS is in many pieces, and whose copy runs is not known.
    """
    return bool(names) and all(UNUSED.search(name) for name in names)


def chosen(codes, architecture):
    """Returns the pieces of a container that the driver chooses from: code for the architecture, or else older code of
    the same generation, or else the newest intermediate code that it can translate. Returns nothing if none of it runs.
    """

    def rank(code):
        if code.kind == MACHINE_CODE and code.architecture // 10 != architecture // 10:
            return None
        return (code.kind == MACHINE_CODE, code.architecture) if code.architecture <= architecture else None

    ranks = {rank(code) for code in codes} - {None}
    return [code for code in codes if ranks and rank(code) == max(ranks)]


def prune(data, architecture):
    """Zeroes what is not needed. Returns the bytes found by architecture, those that run, and of these the unused."""
    found, runs, unused = collections.Counter(), 0, 0
    boxes = list(containers(data))
    for code in (code for codes in boxes for code in codes):
        found[code.architecture] += code.length
    if architecture not in found:
        has = ", ".join(f"sm_{each}" for each in sorted(found))
        sys.exit(f"error: the library has no code for sm_{architecture}; it has {has}")
    kept = [chosen(codes, architecture) for codes in boxes]
    names = kernels(data, [code for codes in kept for code in codes])
    # An architecture whose code the GPU cannot run.
    foreign = 120 if architecture < 120 else 75
    for codes, own in zip(boxes, kept, strict=True):
        idle = [is_unused(next(names)) for _ in own]
        runs += sum(code.length for code in own)
        if idle and all(idle):
            unused += sum(code.length for code in own)
            own = []
            for code in codes:
                struct.pack_into("<I", data, code.header + ARCHITECTURE, foreign)
        for code in codes:
            if code not in own:
                data[code.begin : code.begin + code.length] = bytes(code.length)
    return found, runs, unused


def main():
    if len(sys.argv) != 4 or not sys.argv[3].isdecimal():
        sys.exit(__doc__.split("\n\n")[1])
    source, target, architecture = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with open(source, "rb") as file:
        data = bytearray(file.read())
    found, runs, unused = prune(data, architecture)
    with open(target, "wb") as file:
        file.write(data)
    print(", ".join(f"sm_{each} {size / 1e6:.1f} MB" for each, size in sorted(found.items())))
    print(f"{runs / 1e6:.1f} MB run on sm_{architecture}, {unused / 1e6:.1f} MB of them are unused")


if __name__ == "__main__":
    main()
