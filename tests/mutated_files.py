"""Read mutated files in this process, under limits.

    python -m tests.mutated_files FOLDER SEED COUNT

A program of its own, as a crash or a hang of the libraries beneath must be seen, not suffered.
Every file of FOLDER is mutated in turn. Prints what became of the files; a process that dies has
left the file it died of, and its name, in FOLDER/last.
"""

from __future__ import annotations

import collections
import json
import os
import random
import resource
import signal
import sys
import warnings
from pathlib import Path

import numpy as np

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.read import read_photo

MEMORY = 3 << 30
SECONDS_A_FILE = 60
"""Of waiting; the machine may be busy."""
SLOW, SLOW_A_BYTE = 5.0, 1e-6
"""Seconds of computing that no file may take, and those more for each of its bytes."""


def mutate(rng: random.Random, content: bytes) -> bytes:
    """Damage a file in one of the ways of transfers, cards and attackers."""
    out = bytearray(content)
    kind = rng.choice(
        ["head", "head", "head", "anywhere", "cut", "zeros", "twice", "numbers", "drop"]
    )
    if kind == "head":
        for _ in range(rng.randint(1, 10)):
            out[rng.randrange(min(len(out), 1500))] = rng.choice(
                [0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)]
            )
    elif kind == "anywhere":
        for _ in range(rng.randint(1, 100)):
            out[rng.randrange(len(out))] = rng.randrange(256)
    elif kind == "cut":
        del out[rng.randrange(len(out)) :]
    elif kind == "zeros":
        at = rng.randrange(len(out))
        end = min(len(out), at + rng.randrange(1, 3000))
        out[at:end] = bytes(end - at)
    elif kind == "twice":
        at = rng.randrange(len(out))
        out[at:at] = out[at : at + rng.randrange(1, 3000)]
    elif kind == "numbers":
        at = rng.randrange(max(1, min(len(out), 1500) - 4))
        out[at : at + 4] = rng.choice(
            [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"\0\0\0\0", b"\0\x01\0\0"]
        )
    else:
        at = rng.randrange(len(out))
        del out[at : at + rng.randrange(1, 200)]
    return bytes(out)


def main(folder: Path, seed: int, count: int, *, compare: bool) -> None:
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sources = sorted(p for p in folder.iterdir() if p.is_file())
    found: dict[str, int] = collections.Counter()
    if compare:
        from tests.other_decoders import verdict
    whole = {source: read_photo(source) for source in sources} if compare else {}
    last = folder / "last"
    last.mkdir(exist_ok=True)
    for number in range(seed, seed + count):
        rng = random.Random(number)
        source = sources[number % len(sources)]
        path = last / source.name
        path.write_bytes(mutate(rng, source.read_bytes()))
        (last / "number").write_text(str(number))
        started = sum(os.times()[:4])
        signal.alarm(SECONDS_A_FILE)
        try:
            photo = read_photo(path)
        except PhotoError as error:
            found["refused"] += 1
            assert str(path) in str(error) and "\n" not in str(error), str(error)
        else:
            assert photo.pixels.ndim == 3 and photo.pixels.shape[2] in (1, 3)
            assert photo.pixels.dtype in (np.uint8, np.uint16, np.float32)
            found["read"] += 1
            if compare:
                seen = verdict(path, photo)
                if seen == "refuses" and np.array_equal(photo.samples, whole[source].samples):
                    seen = "refuses the picture as it was"
                found[f"the other {seen}"] += 1
                if seen in ("differs", "refuses"):
                    print(seen, number, source.name, flush=True)
        signal.alarm(0)
        allowed = SLOW + SLOW_A_BYTE * source.stat().st_size
        assert sum(os.times()[:4]) - started < allowed, (number, source.name)
        path.unlink()
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), compare="--compare" in sys.argv)
