"""Zarr folders: pixels are denoised, everything else comes back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from amsnet_cli.atomic import clear_leftovers
from amsnet_cli.batch.naming import Naming
from amsnet_cli.batch.plan import plan_jobs
from amsnet_cli.batch.shard import Shard
from amsnet_cli.batch.stack_run import StackRun
from amsnet_cli.batch.watch import Watch, WatchOptions
from amsnet_cli.errors import PhotoError, UsageError
from amsnet_cli.photos.find import find_photos
from amsnet_cli.stacks.block import Block
from amsnet_cli.stacks.find import open_stack

zarr = pytest.importorskip("zarr", reason="the zarr extra is not installed")
numcodecs = pytest.importorskip("numcodecs")

SHAPE = (2, 2, 2, 24, 40)
FORMATS = ("0.4", "0.5", "0.5, shards", "0.4, deep chunks")


def numbers(dtype: str = "uint16", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    values = np.random.default_rng(0).normal(100, 30, shape)
    return values.clip(0, 255).astype(dtype)


def smaller(values: np.ndarray, way: str = "mean") -> np.ndarray:
    """Half of y and x, by a way of its own."""
    if way == "first":
        return values[..., ::2, ::2]
    blocks = values.reshape(*values.shape[:-2], values.shape[-2] // 2, 2, -1, 2)
    return np.rint(blocks.mean((-3, -1))).astype(values.dtype)


def metadata(levels: int) -> dict:
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}, *axes]
    datasets = [
        {
            "path": str(k),
            "coordinateTransformations": [
                {"type": "scale", "scale": [2.0, 1.0, 0.3, 0.1 * 2**k, 0.1 * 2**k]}
            ],
        }
        for k in range(levels)
    ]
    omero = {"channels": [{"label": "DAPI"}, {"label": "GFP"}], "rdefs": {"defaultT": 1}}
    return {"multiscales": [{"axes": axes, "datasets": datasets}], "omero": omero}


def make(path: Path, kind: str, values: np.ndarray | None = None, way: str = "mean") -> Path:
    """Write a picture with a smaller copy, labels and a table."""
    values = numbers() if values is None else values
    new = kind.startswith("0.5")
    group = zarr.create_group(path, zarr_format=3 if new else 2)
    told = metadata(2)
    group.attrs.update({"ome": {"version": "0.5", **told}} if new else told)
    chunks = (1, 1, 2, 16, 32) if kind == "0.4, deep chunks" else (1, 1, 1, 16, 32)
    for name, level in (("0", values), ("1", smaller(values, way))):
        array = group.create_array(
            name, shape=level.shape, chunks=chunks, dtype=level.dtype, fill_value=7,
            shards=(1, 1, 2, 32, 32) if "shards" in kind else None,
            compressors=zarr.codecs.ZstdCodec(level=3) if new else numcodecs.Zlib(2),
            chunk_key_encoding={"name": "default"} if new else {"name": "v2", "separator": "/"},
        )  # fmt: skip
        array[:] = level
    labels = group.create_group("labels/cells")
    labels.attrs.update({"image-label": {}, **metadata(1)})
    labels.create_array("0", data=numbers("uint8"))
    group.create_array("table", data=np.arange(12.0))
    return path


def facts(path: Path) -> dict[str, bytes]:
    """All files but the chunks of the picture."""
    files = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()}
    kept = [*metadata_of(path, "0"), *metadata_of(path, "1")]
    return {
        name: file.read_bytes()
        for name, file in files.items()
        if name in kept or not name.startswith(("0/", "1/"))
    }


def metadata_of(path: Path, level: str) -> list[str]:
    return [
        f"{level}/{name}" for name in ("zarr.json", ".zarray") if (path / level / name).is_file()
    ]


def read(path: Path, level: str = "0") -> np.ndarray:
    return zarr.open_array(str(path / level), mode="r")[:]


class TestFolders:
    @pytest.mark.parametrize("kind", FORMATS)
    def test_pixels_and_all_else_come_back(self, tmp_path, kind):
        path = make(tmp_path / "in.ome.zarr", kind)
        stack, target = open_stack(path), tmp_path / "out.ome.zarr"
        assert stack.axes == "T 2, C 2, Z 2"
        pages = [stack.read(i) for i in range(len(stack.pages))]
        assert np.array_equal(np.reshape(pages, SHAPE), numbers())
        stack.write(target, [page + 1 for page in pages], slice(None))
        assert np.array_equal(read(target), numbers() + 1)
        assert np.array_equal(read(target, "1"), smaller(numbers() + 1))
        assert facts(target) == facts(path)
        names = [{p.relative_to(q) for p in q.rglob("*")} for q in (path, target)]
        assert names[0] == names[1]

    @pytest.mark.parametrize("kind", FORMATS)
    def test_the_same_pixels_give_the_same_bytes(self, tmp_path, kind):
        path = make(tmp_path / "in.zarr", kind)
        stack, target = open_stack(path), tmp_path / "out.zarr"
        stack.write(target, [stack.read(i) for i in range(8)], slice(None))
        for file in path.rglob("*"):
            twin = target / file.relative_to(path)
            assert file.is_dir() or twin.read_bytes() == file.read_bytes()

    @pytest.mark.parametrize("dtype", ["uint8", ">u2", "float64"])
    def test_types_are_kept(self, tmp_path, dtype):
        path = make(tmp_path / "in.zarr", "0.4", numbers(dtype))
        stack = open_stack(path)
        stack.write(tmp_path / "out.zarr", [stack.read(i) for i in range(8)], slice(None))
        found = zarr.open_array(str(tmp_path / "out.zarr/0"), mode="r")
        assert found.dtype == dtype
        assert np.array_equal(found[:], numbers(dtype))

    def test_smaller_copies_are_made_as_they_were(self, tmp_path):
        path = make(tmp_path / "in.zarr", "0.5", way="first")
        stack = open_stack(path)
        stack.write(tmp_path / "out.zarr", [stack.read(i) + 1 for i in range(8)], slice(None))
        assert np.array_equal(read(tmp_path / "out.zarr", "1"), (numbers() + 1)[..., ::2, ::2])

    @pytest.mark.parametrize(("length", "fewer"), [(41, 20), (41, 21), (40, 13), (41, 41)])
    def test_copies_of_any_factor(self, tmp_path, length, fewer):
        values = np.linspace(0, 1, length)[:, None] * np.ones((length, 40))
        group = zarr.create_group(tmp_path / "in.zarr")
        told = {"axes": [{"name": n} for n in "yx"], "datasets": [{"path": n} for n in "01"]}
        group.attrs["ome"] = {"version": "0.5", "multiscales": [told]}
        group.create_array("0", data=values, chunks=(16, 16))
        group.create_array("1", data=np.zeros((fewer, 40)), chunks=(16, 16))
        stack = open_stack(tmp_path / "in.zarr")
        stack.write(tmp_path / "out.zarr", [stack.read(0)], slice(None))
        result, expected = read(tmp_path / "out.zarr", "1"), np.linspace(0, 1, fewer)
        assert np.abs(result[:, 5] - expected).max() < 1.5 / fewer
        assert (np.diff(result[:, 5]) > 0).all()

    def test_plain_arrays_have_their_named_channels(self, tmp_path):
        values = numbers("float32", (3, 2, 24, 40))
        names = ["time", "channel", "y", "x"]
        zarr.create_array(tmp_path / "in.zarr", data=values, dimension_names=names)
        stack = open_stack(tmp_path / "in.zarr")
        assert [kind.group for kind in stack.pages] == [(0, 0), (0, 1)] * 3
        assert [kind.follows for kind in stack.pages] == [None, None, 0, 1, 2, 3]
        stack.write(tmp_path / "out.zarr", [stack.read(i) for i in range(6)], slice(None))
        assert np.array_equal(read(tmp_path / "out.zarr", "."), values)

    def test_missing_chunks_stay_missing(self, tmp_path):
        path = make(tmp_path / "in.zarr", "0.4")
        gone = path / "0/1/0/1/0/0"
        gone.unlink()
        stack = open_stack(path)
        assert stack.notes() == ["1 of 32 chunks are missing: they are empty, and stay so"]
        pages = [stack.read(i) for i in range(8)]
        assert (pages[5][:16, :32] == 7).all() and (pages[4][:16, :32] != 7).any()
        stack.write(tmp_path / "out.zarr", [page + 1 for page in pages], slice(None))
        assert not (tmp_path / "out.zarr/0/1/0/1/0/0").exists()
        assert np.array_equal(read(tmp_path / "out.zarr")[1, 0, 0], pages[4] + 1)

    def test_plates_hold_many_pictures(self, tmp_path):
        zarr.create_group(tmp_path / "in.zarr", zarr_format=2).attrs["plate"] = {"wells": []}
        for well in ("A/1", "B/2"):
            make(tmp_path / "in.zarr" / well / "0", "0.4")
        stack = open_stack(tmp_path / "in.zarr")
        assert len(stack.pages) == 16 and stack.pages[8].group == (1, 0)
        stack.write(tmp_path / "out.zarr", [stack.read(i) + 1 for i in range(16)], slice(None))
        assert np.array_equal(read(tmp_path / "out.zarr/B/2/0"), numbers() + 1)


class TestPages:
    @pytest.mark.parametrize("kind", FORMATS)
    def test_some_frames(self, tmp_path, kind):
        path = make(tmp_path / "in.zarr", kind)
        shutil.rmtree(path / "labels")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(path)
        stack, target = open_stack(path), tmp_path / "out.zarr"
        indices = stack.along_first_axis(slice(1, 2))
        assert indices == list(range(4, 8))
        stack.write(target, [stack.read(i) + 1 for i in indices], slice(1, 2))
        opened = zarr.open_group(target, mode="r")
        assert np.array_equal(opened["0"][:], numbers()[1:] + 1)
        assert np.array_equal(opened["1"][:], smaller(numbers()[1:] + 1))
        told = opened.attrs.asdict().get("ome", opened.attrs.asdict())
        assert told["omero"]["rdefs"] == {"defaultT": 0}
        assert told["omero"]["channels"] == metadata(2)["omero"]["channels"]
        for number, level in enumerate(told["multiscales"][0]["datasets"]):
            scale, shift = level["coordinateTransformations"]
            assert scale == metadata(2)["multiscales"][0]["datasets"][number][
                "coordinateTransformations"][0]  # fmt: skip
            assert shift == {"type": "translation", "translation": [2.0, 0, 0, 0, 0]}

    def test_a_single_time_is_no_axis_to_choose_from(self, tmp_path):
        path = make(tmp_path / "in.zarr", "0.5, shards", numbers(shape=(1, 2, 5, 24, 40)))
        shutil.rmtree(path / "labels")
        stack = open_stack(path)
        indices = stack.along_first_axis(slice(1, None, 2))
        assert indices == [1, 3, 6, 8]
        stack.write(tmp_path / "out.zarr", [stack.read(i) for i in indices], slice(1, None, 2))
        expected = numbers(shape=(1, 2, 5, 24, 40))[:, :, 1::2]
        assert np.array_equal(read(tmp_path / "out.zarr"), expected)
        stored = json.loads((tmp_path / "out.zarr/zarr.json").read_text())
        level = stored["attributes"]["ome"]["multiscales"][0]["datasets"][1]
        assert level["coordinateTransformations"][0]["scale"][2] == 0.6

    def test_labels_are_not_left_behind(self, tmp_path):
        stack = open_stack(make(tmp_path / "in.zarr", "0.4"))
        with pytest.raises(UsageError, match="holds labels of all pages; leave out --pages"):
            stack.along_first_axis(slice(0, 1))


class TestFaults:
    def test_damaged_chunks_give_one_line_and_no_result(self, tmp_path, amsnet):
        path = make(tmp_path / "in.zarr", "0.5")
        chunk = path / "0/c/0/0/1/1/1"
        for content in (chunk.read_bytes()[:40], b"", b"x" * 200):
            chunk.write_bytes(content)
            with pytest.raises(PhotoError, match=r"in\.zarr/0: a chunk is damaged"):
                open_stack(path).read(1)
        done = amsnet("denoise", path, "-o", tmp_path / "out.zarr")
        assert done.exit_code == 1
        assert len(done.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "out.zarr").exists()

    @pytest.mark.parametrize("kind", ["0.4", "0.5"])
    def test_unknown_codecs_are_named(self, tmp_path, kind):
        path = make(tmp_path / "in.zarr", kind)
        file = path / metadata_of(path, "0")[0]
        text = file.read_text().replace('"zlib"', '"secret"').replace('"zstd"', '"secret"')
        file.write_text(text)
        with pytest.raises(PhotoError, match=r"in.zarr/0: cannot be decoded .*secret"):
            open_stack(path)

    @pytest.mark.parametrize(
        ("spoil", "said"),
        [
            (lambda p: (p / ".zgroup").write_text("{"), "damaged"),
            (lambda p: (p / "0/.zarray").unlink(), "its multiscales: no array 0"),
            (lambda p: (p / "0/.zarray").write_text("[]"), "no object"),
            (lambda p: (p / "zarr.json").write_text("{}"), "Zarr 2 and Zarr 3 in one"),
            (lambda p: (p / ".zattrs").unlink(), "no picture of OME-Zarr in it"),
            (lambda p: (p / ".zattrs").write_text('{"multiscales": 3}'), "its multiscales"),
            (lambda p: (p / ".zattrs").write_text('{"multiscales": ["a"]}'), "its multiscales"),
        ],
    )
    def test_damaged_metadata_are_told_in_one_line(self, tmp_path, spoil, said):
        path = make(tmp_path / "in.zarr", "0.4")
        spoil(path)
        with pytest.raises(PhotoError, match=said):
            open_stack(path)

    def test_folders_that_are_none(self, tmp_path, amsnet):
        (tmp_path / "a.zarr").mkdir()
        done = amsnet("denoise", tmp_path / "a.zarr", "-o", tmp_path / "b.zarr")
        assert "a.zarr: no Zarr metadata in it" in done.stderr
        (tmp_path / "photos").mkdir()
        assert open_stack(tmp_path / "photos") is None

    @pytest.mark.parametrize("values", [np.ones((40, 56), bool), np.ones((40, 56), np.complex64)])
    def test_pixels_that_are_no_numbers(self, tmp_path, values):
        zarr.create_array(tmp_path / "in.zarr", data=values)
        with pytest.raises(PhotoError, match="pixels of the type"):
            open_stack(tmp_path / "in.zarr")

    def test_colours_within_pages(self, tmp_path):
        zarr.create_array(tmp_path / "in.zarr", data=numbers("uint8", (40, 56, 3)))
        with pytest.raises(PhotoError, match="channels lie within its pages"):
            open_stack(tmp_path / "in.zarr")

    def test_stores_are_refused(self, tmp_path, amsnet):
        path = make(tmp_path / "in.zarr", "0.4")
        for source, target in ((f"file://{path}", tmp_path / "out.zarr"),
                               (path, f"file://{tmp_path}/out.zarr")):  # fmt: skip
            done = amsnet("denoise", source, "-o", target)
            assert "in.zarr: Zarr cannot be in a store; copy it to a disk" in done.stderr

    def test_a_result_within_the_source_is_refused(self, tmp_path, amsnet):
        path = make(tmp_path / "in.zarr", "0.4")
        done = amsnet("denoise", path, "-o", path / "out.zarr")
        assert "lie in each other" in done.stderr


class TestAround:
    def test_the_noise_of_its_channels_is_shown(self, tmp_path, amsnet):
        make(tmp_path / "in.zarr", "0.5")
        said = [json.loads(amsnet("noise", folder, "--json").stdout)
                for folder in (tmp_path / "in.zarr", tmp_path)]  # fmt: skip
        assert said[0] == said[1]
        assert [channel["pages"] for channel in said[0]["channels"]] == [4, 4]

    def test_a_fit_finds_it(self, tmp_path):
        path = make(tmp_path / "in.zarr", "0.4")
        assert find_photos(tmp_path) == find_photos(path) == [path]

    def test_names(self):
        kept = ("cells.ome.zarr", "a.zarr", "s.fits.gz", "a.b.png")
        named = [Naming(template="{stem}_x{ext}").name_of(name, Path()) for name in kept]
        assert named == ["cells_x.ome.zarr", "a_x.zarr", "s_x.fits.gz", "a.b_x.png"]

    def test_folders_of_killed_processes_are_cleared(self, tmp_path):
        for name, age in (("aaaaaaaa", 7200), ("bbbbbbbb", 60)):
            part = tmp_path / f".amsnet-{name}.part"
            make(part, "0.4")
            for path in (part, *part.rglob("*")):
                os.utime(path, (time.time() - age,) * 2)
        clear_leftovers(tmp_path)
        assert [p.name for p in tmp_path.iterdir()] == [".amsnet-bbbbbbbb.part"]

    def test_a_watched_folder_settles_when_no_chunk_changes(self, tmp_path):
        path = make(tmp_path / "in" / "a.zarr", "0.4")
        planned = plan_jobs([path.parent], tmp_path / "out")
        watch = Watch([path.parent], lambda refuse: planned, print, WatchOptions(settled_after=0.3))
        started, batches = time.monotonic(), watch.batches(lambda: False)
        (path / "0/0/0/0/0/0").write_bytes(b"growing")
        assert [job.source for job in next(batches)] == [path]
        assert time.monotonic() - started >= 0.3


class TestDenoising:
    @pytest.fixture
    def source(self, tmp_path) -> Path:
        cell = skimage.data.cell()[150:214, 150:230] / 4.0
        rng = np.random.default_rng(0)
        counts = rng.poisson([[[cell], [3 * cell[::-1]]]] * 2) * 2.0 + 100
        return make(tmp_path / "in.ome.zarr", "0.5", counts.astype(np.uint16))

    def test_a_folder_is_one_stack(self, tmp_path, amsnet, source):
        target = tmp_path / "out.ome.zarr"
        done = amsnet("denoise", source, "-o", target)
        assert done.exit_code == 0 and done.stdout == f"{target}\n"
        cell = skimage.data.cell()[150:214, 150:230] / 4.0
        light = np.stack([cell, 3 * cell[::-1]])[None, :, None] * 2 + 100
        error, before = (np.square(read(p) - light).mean((0, 2, 3, 4)) for p in (target, source))
        assert (error < before / 5).all()
        assert np.array_equal(read(target, "1"), smaller(read(target)))
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in.ome.zarr", "out.ome.zarr"]
        again = amsnet("denoise", source, "-o", target)
        assert "exists already" in again.stderr or "already exists" in again.stderr
        assert amsnet("denoise", source, "-o", target, "-f", "--strength", "0").exit_code == 0
        assert np.array_equal(read(target), read(source))

    def test_it_is_found_in_folders_of_photos(self, tmp_path, amsnet, source, noisy_png):
        folder = tmp_path / "photos"
        (folder / "deep").mkdir(parents=True)
        shutil.move(source, folder / "deep" / source.name)
        shutil.copytree(folder / "deep" / source.name, folder / "bare")
        shutil.copy(noisy_png, folder / "a.png")
        done = amsnet("denoise", "-r", folder, "-o", tmp_path / "out", "--strength", "0")
        assert done.exit_code == 0, done.stderr
        found = sorted(p.relative_to(tmp_path / "out").as_posix() for p in
                       (tmp_path / "out").rglob("*") if p.suffix in (".png", ".zarr"))  # fmt: skip
        assert found == ["a.png", "bare.zarr", "deep/in.ome.zarr"]

    def test_shards_share_it_and_give_the_same_bytes(self, tmp_path, amsnet, source):
        assert amsnet("denoise", source, "-o", tmp_path / "whole.zarr").exit_code == 0
        target = tmp_path / "out.zarr"
        first = amsnet("denoise", source, "-o", target, "--shard", "1/2", "--json")
        assert json.loads(first.stdout)["status"] == "waits"
        assert "2 of its 4 pages are done as share 1/2; the result waits for 2/2" in first.stderr
        assert not target.exists()
        other = amsnet("denoise", source, "-o", target, "--shard", "2/2", "--strength", "0.5")
        assert "shares made with other options do not count" in other.stderr
        second = amsnet("denoise", source, "-o", target, "--shard", "2/2", "--json")
        assert json.loads(second.stdout)["status"] == "done"
        assert same(target, tmp_path / "whole.zarr")
        assert not list(tmp_path.glob(".*"))

    def test_more_shards_than_pages(self, tmp_path):
        path, target = make(tmp_path / "in.zarr", "0.4"), tmp_path / "out.zarr"
        last = []
        for index in range(11):
            run = StackRun(
                stack=open_stack(path), target=target, chosen=slice(None), settings={},
                part=Shard(index, 11),
            )  # fmt: skip
            done = run.denoise(partial(Block.read, stack=run.stack), lambda share: None)
            last.append(done.is_last)
        assert last == [False] * 10 + [True]
        run.write()
        assert same(path, target)

    @pytest.mark.slow
    def test_two_processes_at_once_give_the_same_bytes(self, tmp_path, amsnet, source):
        assert amsnet("denoise", source, "-o", tmp_path / "whole.zarr").exit_code == 0
        command = [sys.executable, "-m", "amsnet_cli", "denoise", str(source), "-o",
                   str(tmp_path / "out.zarr"), "--shard"]  # fmt: skip
        running = [subprocess.Popen([*command, f"{i}/2"], stderr=-3) for i in (1, 2)]
        assert [process.wait() for process in running] == [0, 0]
        assert same(tmp_path / "out.zarr", tmp_path / "whole.zarr")
        assert not list(tmp_path.glob(".*"))

    @pytest.mark.slow
    def test_workers_of_dask_share_it(self, tmp_path, amsnet, source):
        pytest.importorskip("distributed")
        assert amsnet("denoise", source, "-o", tmp_path / "whole.zarr").exit_code == 0
        done = amsnet("denoise", source, "-o", tmp_path / "out.zarr", "--dask", "local:2", "--json")
        said = [json.loads(line)["status"] for line in done.stdout.splitlines()]
        assert sorted(said) == ["done", "waits", "waits", "waits"]
        assert same(tmp_path / "out.zarr", tmp_path / "whole.zarr")

    @pytest.mark.slow
    def test_memory_does_not_grow_with_the_folder(self, tmp_path, peak_memory):
        peaks = []
        for count in (4, 60):
            shutil.rmtree(tmp_path / "in.zarr", ignore_errors=True)
            array = zarr.create_array(
                tmp_path / "in.zarr", shape=(count, 1024, 1024), chunks=(2, 512, 512),
                dtype="uint16",
            )  # fmt: skip
            for i in range(count):
                array[i] = np.random.default_rng(i).poisson(100, (1024, 1024))
            peaks.append(
                peak_memory("denoise", "in.zarr", "-o", "out.zarr", "-f", "--strength", "0")
            )
        assert peaks[1] < peaks[0] + 50_000_000


def same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files."""
    files = [{p.relative_to(q): p for p in q.rglob("*") if p.is_file()} for q in (one, other)]
    return files[0].keys() == files[1].keys() and all(
        p.read_bytes() == files[1][name].read_bytes() for name, p in files[0].items()
    )
