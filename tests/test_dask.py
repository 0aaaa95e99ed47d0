"""Photos on the workers of a Dask cluster: real schedulers and workers, some of them killed."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from amsnet_cli.batch.dask_batch import chunk_from
from amsnet_cli.batch.job import Job
from amsnet_cli.errors import AmsnetError, BugError, OutputError
from amsnet_cli.inference.mosaic_noise import UnknownNoiseError
from amsnet_cli.model import load_model, save_model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo

pytest.importorskip("distributed", reason="needs pip install 'amsnet[cluster]'")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")

REPOSITORY = Path(__file__).parents[1]
PART = re.compile(r"\.amsnet-[0-9a-f]{8}\.part")


class Cluster:
    """A scheduler and workers, each started by its own command."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder, self.file = folder, folder / "scheduler.json"
        self.processes: list[subprocess.Popen] = []
        here = ("--port", "0", "--no-dashboard", "--host", "127.0.0.1")
        self.start("scheduler", *here, **environment)
        deadline = time.monotonic() + 180
        self.address = ""
        while not self.address and time.monotonic() < deadline:
            time.sleep(0.05)
            with suppress(OSError, ValueError):  # Not there yet, or not whole.
                self.address = json.loads(self.file.read_text())["address"]

    def start(self, kind: str, *arguments: str, **environment: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "dask", kind, "--scheduler-file", str(self.file)]
        with (self.folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                [*command, *arguments], stdout=log, stderr=log, cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1",
                     **environment},
            )  # fmt: skip
        self.processes.append(process)
        return process

    def add_worker(self, *arguments: str, nanny: bool = False, **environment: str):
        options = ["--nthreads", "1", "--memory-limit", "0", "--no-dashboard"]
        return self.start(
            "worker", *options, "--nanny" if nanny else "--no-nanny", *arguments, **environment
        )

    def worker_processes(self) -> list[psutil.Process]:
        """Those that run photos: the children of nannies."""
        found = []
        for process in self.processes[1:]:
            with suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children(recursive=True):
                    if "multiprocessing.spawn" in " ".join(child.cmdline()):
                        found.append(child)
        return found

    def close(self) -> None:
        for process in reversed(self.processes):
            with suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
            process.kill()
            process.wait()


@contextmanager
def cluster_in(folder: Path, **environment: str) -> Iterator[Cluster]:
    cluster = Cluster(folder, **environment)
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory) -> Iterator[Cluster]:
    home = str(tmp_path_factory.mktemp("home_of_workers"))
    with cluster_in(tmp_path_factory.mktemp("cluster")) as cluster:
        for _ in range(2):
            cluster.add_worker(AMSNET_HOME=home)
        yield cluster


@pytest.fixture
def card(tmp_path, noisy_crop) -> Path:
    for i in range(6):
        path = tmp_path / "card" / f"{i % 2}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True, parents=True)
        write_photo(Photo(pixels=np.ascontiguousarray(noisy_crop[: 60 + i])), path)
    (tmp_path / "card" / "0" / "3.jpg").write_bytes(b"junk")
    return tmp_path / "card"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_as_on_one_machine(amsnet, card, tiny_model, two_workers):
    call = ["denoise", "-r", card, "-w", tiny_model, "--json", "--report", card.parent / "p.html"]
    here = amsnet(*call, "-o", card.parent / "here")
    there = amsnet(*call, "-o", card.parent / "there", "--dask", two_workers.address)
    assert here.exit_code == there.exit_code == 3, there.stderr
    assert contents(card.parent / "here") == contents(card.parent / "there")

    def facts(stdout: str) -> list[dict[str, object]]:
        rows = [json.loads(line) for line in stdout.replace("/here/", "/there/").splitlines()]
        return [{key: row[key] for key in row if key != "seconds"} for row in rows]

    assert facts(here.stdout) == facts(there.stdout)
    assert "6 of 7 photos denoised, 1 failed" in there.stderr
    assert (card.parent / "p.html").read_text().count('class="slider"') == 6
    again = amsnet(*call, "-o", card.parent / "there", "--dask", two_workers.address)
    assert again.exit_code == 1 and "already exists" in again.stderr
    (card.parent / "there" / "1" / "1.png").unlink()
    resumed = amsnet(
        *call, "-o", card.parent / "there", "--dask", two_workers.address, "--skip-existing"
    )
    assert resumed.exit_code == 3
    statuses = [json.loads(line)["status"] for line in resumed.stdout.splitlines()]
    assert sorted(statuses) == ["done", "failed", *["skipped"] * 5]
    assert contents(card.parent / "here") == contents(card.parent / "there")


def test_workers_with_other_weights_are_refused(amsnet, card, tiny_model, two_workers, home):
    (home / "models").mkdir()
    (home / "models" / "mine.safetensors").write_bytes(tiny_model.read_bytes())
    call = ["denoise", "-r", card, "-o", card.parent / "out", "--dask", two_workers.address]
    missing = amsnet(*call, "-w", "mine")
    assert missing.exit_code == 4, missing.stderr
    assert re.match(
        r"error: worker tcp://\S+: no weights or fitted model named mine", missing.stderr
    )
    assert len(missing.stderr.splitlines()) == 1 and not contents(card.parent / "out")


@pytest.fixture(scope="module")
def no_workers(tmp_path_factory) -> Iterator[Cluster]:
    """A scheduler without workers, for tests that start their own."""
    with cluster_in(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@contextmanager
def worker_of(cluster: Cluster, *arguments: str, **environment: str):
    process = cluster.add_worker(*arguments, **environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("other", ["amsnet", "torch", "weights mine"])
def test_workers_with_another_version_or_other_weights_are_refused(
    amsnet, card, tiny_model, no_workers, home, tmp_path, other
):
    (home / "models").mkdir()
    (home / "models" / "mine.safetensors").write_bytes(tiny_model.read_bytes())
    there = tmp_path / "home_of_the_worker"
    shutil.copytree(home, there)
    environment, arguments = {"AMSNET_HOME": str(there)}, []
    if other == "amsnet":
        environment["PYTHONPATH"] = str(another_version(tmp_path / "installed"))
    elif other == "torch":
        (tmp_path / "old.py").write_text("import torch\ntorch.__version__ = '2.0'\n")
        arguments = ["--preload", str(tmp_path / "old.py")]
    else:
        model = load_model(tiny_model)
        config = replace(model.config, inference=replace(model.config.inference, n_masks=3))
        save_model(there / "models" / "mine.safetensors", model.network, config)
    with worker_of(no_workers, *arguments, **environment):
        result = amsnet(
            "denoise", "-r", card, "-o", tmp_path / "out", "-w", "mine",
            "--dask", no_workers.address,
        )  # fmt: skip
    assert result.exit_code == 5, result.stderr
    line = rf"error: worker tcp://\S+: {other} is \S+ there and \S+ here; make them the same\n"
    assert re.fullmatch(line, result.stderr)
    assert not contents(tmp_path / "out")


def another_version(folder: Path) -> Path:
    """Install amsnet in a folder as version 0.0.1; its other files are links."""
    package = folder / "amsnet_cli"
    package.mkdir(parents=True)
    (folder / "weights_manifest.json").symlink_to(REPOSITORY / "weights_manifest.json")
    for file in (REPOSITORY / "amsnet_cli").iterdir():
        (package / file.name).symlink_to(file)
    text = (package / "__init__.py").read_text()
    (package / "__init__.py").unlink()
    changed = re.sub('__version__ = ".+"', '__version__ = "0.0.1"', text)
    assert changed != text
    (package / "__init__.py").write_text(changed)
    return folder


WITNESS = """
import os
from amsnet_cli.cli import photo_steps
from amsnet_cli.photos.read import read_mosaic_or_photo as read
def read_and_say(path, *args):
    open(os.path.join(os.environ["SEEN"], path.name), "w").close()
    return read(path, *args)
photo_steps.read_mosaic_or_photo = read_and_say
"""


@pytest.mark.slow
def test_photos_go_where_there_is_a_gpu(card, tiny_model, no_workers, tmp_path):
    """To the workers with that resource, if there is one; if it dies, not to others."""
    (tmp_path / "witness.py").write_text(WITNESS)
    witness = "--preload", str(tmp_path / "witness.py")
    for kind in ("gpu", "none"):
        (tmp_path / kind).mkdir()
    with (
        worker_of(no_workers, *witness, SEEN=str(tmp_path / "none")),
        worker_of(no_workers, *witness, "--resources", "GPU=1", SEEN=str(tmp_path / "gpu")) as gpu,
    ):
        wait_for_workers(no_workers, 2)
        call = ["-r", card, "-w", tiny_model, "--dask", no_workers.address]
        run = start(*call, "-o", tmp_path / "out")
        _, said = run.communicate(timeout=600)
        assert "6 of 7 photos denoised" in said, said
        assert len(contents(tmp_path / "gpu")) == 7 and not contents(tmp_path / "none")

        run = start(*call, "-o", tmp_path / "again", "--repeats", "200")
        while not list((tmp_path / "again").rglob("*.png")):
            assert run.poll() is None, run.stderr.read()
            time.sleep(0.1)
        gpu.kill()
        _, said = run.communicate(timeout=600)
    assert run.returncode == 5, said
    assert "error: all Dask workers with the resource GPU are gone" in said
    assert not contents(tmp_path / "none")


def wait_for_workers(cluster: Cluster, count: int) -> None:
    from distributed import Client

    with Client(cluster.address) as client:
        client.wait_for_workers(count, timeout=300)


def test_small_photos_go_together(tmp_path):
    def job(name: str, size: int, *, skip: bool = False) -> Job:
        (tmp_path / name).write_bytes(bytes(size))
        return Job(source=tmp_path / name, target=tmp_path / "out" / name, skip=skip)

    small = [job(f"{i}.png", 300, skip=i == 2) for i in range(6)]
    jobs = [*small, job("large.png", 5000), job("last.png", 300)]
    assert chunk_from(jobs, 0, 10, 1000) == [0, 1, 3]
    assert chunk_from(jobs, 0, 2, 1000) == [0, 1]
    assert chunk_from(jobs, 4, 10, 1000) == [4, 5], "a large one does not fit behind them"
    assert chunk_from(jobs, 6, 10, 1000) == [6]
    assert chunk_from(jobs, 7, 10, 1000) == [7]
    (tmp_path / "stack.zarr").mkdir()
    stack = Job(source=tmp_path / "stack.zarr", target=tmp_path / "out" / "stack.zarr")
    assert chunk_from([stack, *small], 0, 10, 1000) == [0]
    assert chunk_from([small[0], stack], 0, 10, 1000) == [0]


@pytest.mark.slow
def test_thumbnails_share_tasks(amsnet, tmp_path, tiny_model, two_workers, noisy_crop):
    from distributed import Client

    (tmp_path / "in").mkdir()
    for i in range(100):
        write_photo(
            Photo(pixels=noisy_crop[:16, : 16 + i % 5].copy()), tmp_path / "in" / f"{i}.png"
        )
    (tmp_path / "in" / "50.png").write_bytes(b"junk")
    call = ["denoise", tmp_path / "in", "-w", tiny_model, "--json"]
    here = amsnet(*call, "-o", tmp_path / "here")
    with Client(two_workers.address) as client:
        client.get_task_stream()
        there = amsnet(*call, "-o", tmp_path / "there", "--dask", two_workers.address)
        tasks = [task for task in client.get_task_stream() if task["key"].startswith("amsnet")]
    assert here.exit_code == there.exit_code == 3, there.stderr
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
    names = [
        [json.loads(line)["input"] for line in run.stdout.splitlines()] for run in (here, there)
    ]
    assert names[0] == names[1] and len(names[0]) == 100
    assert len(tasks) < 40

    failing = amsnet(
        *call, "-o", tmp_path / "stopped", "--dask", two_workers.address, "--fail-fast"
    )
    statuses = [json.loads(line)["status"] for line in failing.stdout.splitlines()]
    assert failing.exit_code == 3 and statuses.count("failed") == 1
    assert len(contents(tmp_path / "stopped")) == statuses.count("done") < 99
    assert statuses.count("not_run") == 99 - statuses.count("done")


@pytest.mark.parametrize(
    ("address", "code", "says"),
    [
        pytest.param("tcp://127.0.0.1:9", 5, "no scheduler answers", marks=pytest.mark.slow),
        ("foo://x", 2, "not an address"),
        ("", 2, "not an address"),
        ("local:0", 2, "not a number of processes"),
        ("local:x", 2, "not a number of processes"),
    ],
)
def test_where_no_cluster_is_one_line_says_so(amsnet, card, tiny_model, address, code, says):
    result = amsnet(
        "denoise", "-r", card, "-o", card.parent / "out", "-w", tiny_model, "--dask", address
    )
    assert result.exit_code == code, result.stderr
    assert says in result.stderr and len(result.stderr.splitlines()) == 1


def test_pipes_go_to_no_worker(amsnet, card):
    result = amsnet("denoise", card / "0" / "0.png", "-o", "-", "--dask", "local:1")
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1


def test_errors_stay_themselves_on_the_way():
    cause = OSError(28, "No space left on device", "x.png")
    full = OutputError("x.png: cannot be written", "choose another")
    full.__cause__ = cause
    bug = BugError(Path("x.png"), ZeroDivisionError("by\nzero"))
    for error in (full, bug, UnknownNoiseError("x: noise unknown", "hint")):
        received = pickle.loads(pickle.dumps(error))
        assert type(received) is type(error) and str(received) == str(error)
        assert isinstance(received, AmsnetError) and received.hint == error.hint
    assert pickle.loads(pickle.dumps(full)).__cause__.errno == 28


KILLER = """
import os
from amsnet_cli.cli import photo_steps
from amsnet_cli.photos.read import read_mosaic_or_photo as read
def read_or_die(path, *args):
    if path.name in ("4.png", "5.png"):
        with open(os.environ["DEATHS"], "a") as file:
            file.write(path.stem)
        os._exit(1)
    return read(path, *args)
photo_steps.read_mosaic_or_photo = read_or_die
"""


@pytest.mark.slow
def test_a_photo_that_kills_three_workers_is_passed_over(amsnet, tmp_path, tiny_model, noisy_crop):
    """It alone: of those that travel with it, none is denoised again or passed over."""
    (tmp_path / "killer.py").write_text(KILLER)
    (tmp_path / "in").mkdir()
    for i in range(24):
        write_photo(Photo(pixels=noisy_crop[:16, :17].copy()), tmp_path / "in" / f"{i}.png")
    with cluster_in(tmp_path) as cluster:
        for _ in range(2):
            cluster.add_worker(
                "--preload", str(tmp_path / "killer.py"), "--nthreads", "2", nanny=True,
                DEATHS=str(tmp_path / "deaths"),
            )  # fmt: skip
        result = amsnet(
            "denoise", tmp_path / "in", "-o", tmp_path / "out", "-w", tiny_model,
            "--dask", cluster.address,
        )  # fmt: skip
    assert result.exit_code == 3, result.stderr
    for name in ("4.png", "5.png"):
        assert f"{name}: passed over, as each worker that had it died" in result.stderr
    assert "22 of 24 photos denoised, 2 failed" in result.stderr
    assert sorted((tmp_path / "deaths").read_text()) == ["4"] * 3 + ["5"] * 3
    names = {name for name in contents(tmp_path / "out") if not PART.search(name)}
    assert names == {f"{i}.png" for i in range(24) if i not in (4, 5)}


@pytest.mark.slow
def test_a_scheduler_that_goes_is_one_line(card, tiny_model, tmp_path):
    with cluster_in(tmp_path) as cluster:
        cluster.add_worker()
        run = start(
            "-r", card, "-o", tmp_path / "out", "-w", tiny_model, "--dask", cluster.address,
            "--repeats", "200",
        )  # fmt: skip
        while not list((tmp_path / "out").rglob("*.png")):
            time.sleep(0.1)
        cluster.processes[0].kill()
        _, said = run.communicate(timeout=300)
    assert run.returncode == 5, said
    assert "Traceback" not in said and "error: the Dask scheduler is gone" in said


def start(*arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "amsnet_cli", "denoise", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_cluster_of_processes_leaves_none(card, tiny_model, tmp_path, number):
    run = start(
        "-r", card, "-o", tmp_path / "out", "-w", tiny_model, "--dask", "local:2",
        "--repeats", "100",
    )  # fmt: skip
    while not list((tmp_path / "out").rglob("*.png")):
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.05)
    children = psutil.Process(run.pid).children(recursive=True)
    os.killpg(run.pid, number)
    _, said = run.communicate(timeout=300)
    assert run.returncode == 128 + number, said
    assert "resume with --skip-existing" in said and "Traceback" not in said
    assert not psutil.wait_procs(children, timeout=60)[1]
    assert not [name for name in contents(tmp_path / "out") if PART.search(name)]


@pytest.mark.slow
def test_workers_killed_at_random_moments(amsnet, tmp_path, tiny_model, noisy_crop):
    """50 kills: no half file, none missing, none done wrongly."""
    rng, kills, photos = np.random.default_rng(0), 50, 40
    for i in range(photos):
        path = tmp_path / "in" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        write_photo(Photo(pixels=np.ascontiguousarray(noisy_crop[: 100 + i])), path)
    call = ["-r", tmp_path / "in", "-w", tiny_model, "--repeats", "10"]
    assert amsnet("denoise", *call, "-o", tmp_path / "right").exit_code == 0
    right, killed, runs = contents(tmp_path / "right"), 0, 0
    with cluster_in(tmp_path, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="1000") as cluster:
        for _ in range(3):
            cluster.add_worker(nanny=True)
        while killed < kills:
            runs += 1
            out = tmp_path / f"out{runs}"
            run = start(*call, "-o", out, "--dask", cluster.address)
            while run.poll() is None:
                time.sleep(rng.uniform(0.2, 2))
                workers = cluster.worker_processes()
                if killed < kills and len(workers) > 1 and list(out.glob("*.png")):
                    with suppress(psutil.NoSuchProcess):
                        workers[rng.integers(len(workers))].kill()
                        killed += 1
            _, said = run.communicate()
            assert run.returncode == 0 and "Traceback" not in said, said
            found = contents(out)
            assert {n: b for n, b in found.items() if not PART.fullmatch(Path(n).name)} == right
    print(f"{killed} kills in {runs} runs")
