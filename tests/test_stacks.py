"""Stacks: what is read is what tifffile reads, and all but the pixels comes back."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import tifffile
import torch

from amsnet_cli.api import denoise
from amsnet_cli.batch.stack_run import StackRun
from amsnet_cli.cli.stack_options import parse_pages
from amsnet_cli.errors import OutputError, PhotoError, UsageError
from amsnet_cli.fitting.distributed import DistributedContext
from amsnet_cli.fitting.images import load_images, read_developed
from amsnet_cli.fitting.noise_adaptation import NoiseAdaptation
from amsnet_cli.fitting.noise_profile import profile_crops
from amsnet_cli.fitting.stack_views import is_still
from amsnet_cli.inference.stack_noise import Detector
from amsnet_cli.model import load_model
from amsnet_cli.noise.counts import CountsNoise
from amsnet_cli.stacks.block import Block
from amsnet_cli.stacks.find import open_stack

SHAPE = (2, 3, 2, 40, 56)
IMAGEJ = {
    "axes": "TZCYX", "spacing": 0.3, "unit": "um", "finterval": 2.0, "Ranges": (0.0, 900.0) * 2,
    "Labels": [f"page {i}" for i in range(12)],
}  # fmt: skip
OME = {
    "axes": "TZCYX", "PhysicalSizeX": 0.1, "PhysicalSizeXUnit": "µm", "TimeIncrement": 2.0,
    "Channel": {"Name": ["DAPI", "GFP"]}, "Plane": {"ExposureTime": [0.5] * 12},
}  # fmt: skip


def numbers(dtype: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    values = np.random.default_rng(0).normal(100, 30, shape)
    return values.clip(0, 255).astype(dtype)


def make(path: Path, kind: str, dtype: str = "uint16") -> Path:
    values = numbers(dtype)
    plain = values.reshape(-1, *SHAPE[-2:])
    if kind == "imagej":
        tifffile.imwrite(path, values, imagej=True, resolution=(10, 10), metadata=IMAGEJ)
    elif kind == "ome":
        tifffile.imwrite(path, values, ome=True, metadata=OME)
    elif kind == "ome, deflate, tiles":
        tifffile.imwrite(
            path, values, ome=True, metadata=OME, compression="adobe_deflate", tile=(16, 32)
        )
    elif kind == "bigtiff":
        tifffile.imwrite(path, plain, bigtiff=True, metadata=None, resolution=(300, 300))
    elif kind == "big-endian":
        tifffile.imwrite(path, plain, byteorder=">")
    elif kind == "ImageJ's of one directory":
        tifffile.imwrite(path, values, imagej=True, metadata=IMAGEJ, truncate=True)
    elif kind == "loose pages":
        with tifffile.TiffWriter(path) as writer:
            for i, page in enumerate(plain):
                writer.write(
                    page, contiguous=False, metadata=None, description=f"page {i}",
                    compression="adobe_deflate",
                )  # fmt: skip
    elif kind == "RGB":
        tifffile.imwrite(path, numbers(dtype, (3, 40, 56, 3)), photometric="rgb")
    return path


KINDS = (
    *("imagej", "ome", "ome, deflate, tiles", "bigtiff", "big-endian"),
    *("ImageJ's of one directory", "loose pages", "RGB"),
)


def told(path: Path) -> dict:
    """All that tifffile tells of a file but for its pixels."""
    with tifffile.TiffFile(path) as file:
        return {
            "axes": file.series[0].axes, "shape": file.series[0].shape, "ome": file.ome_metadata,
            "imagej": file.imagej_metadata, "big": file.is_bigtiff, "order": file.byteorder,
            "tags": [
                {t.name: t.value for t in page.aspage().tags if not 270 < t.code < 282
                 and t.code not in (254, 258, 259, 266, 317, 322, 323, 324, 325)}
                for page in file.pages
            ],
        }  # fmt: skip


class TestFiles:
    @pytest.mark.parametrize("kind", KINDS)
    def test_pages_and_metadata_come_back(self, tmp_path, kind):
        path = make(tmp_path / "in.tif", kind, "uint8" if kind == "RGB" else "uint16")
        stack = open_stack(path)
        pages = [stack.read(i) for i in range(len(stack.pages))]
        expected = tifffile.imread(path)
        assert np.array_equal(np.reshape(pages, expected.shape), expected)
        stack.write(tmp_path / "out.tif", [page + 1 for page in pages], slice(None))
        assert np.array_equal(tifffile.imread(tmp_path / "out.tif"), expected + 1)
        assert told(tmp_path / "out.tif") == told(path)

    @pytest.mark.parametrize("kind", ["imagej", "ome", "bigtiff", "ImageJ's of one directory"])
    def test_what_is_stored_plainly_is_copied_byte_for_byte(self, tmp_path, kind):
        path = make(tmp_path / "in.tif", kind)
        stack = open_stack(path)
        pages = (stack.read(i) for i in range(len(stack.pages)))
        stack.write(tmp_path / "out.tif", pages, slice(None))
        assert (tmp_path / "out.tif").read_bytes() == path.read_bytes()

    @pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "uint32", "float32", "float64"])
    def test_types_are_kept(self, tmp_path, dtype):
        path = make(tmp_path / "in.tif", "bigtiff", dtype)
        stack = open_stack(path)
        assert stack.read(3).dtype == dtype
        stack.write(tmp_path / "out.tif", [stack.read(i) for i in range(12)], slice(None))
        assert tifffile.imread(tmp_path / "out.tif").dtype == dtype

    @pytest.mark.parametrize("kind", ["imagej", "ome", "ome, deflate, tiles"])
    @pytest.mark.parametrize("chosen", ["1", "0:2", "::2"])
    def test_some_pages_are_those_of_the_first_axis(self, tmp_path, kind, chosen):
        path = make(tmp_path / "in.tif", kind)
        stack, places = open_stack(path), parse_pages(chosen)
        indices = stack.along_first_axis(places)
        stack.write(tmp_path / "out.tif", [stack.read(i) for i in indices], places)
        result, expected = tifffile.imread(tmp_path / "out.tif"), numbers("uint16")[places]
        assert np.array_equal(result, np.squeeze(expected))
        before, after = told(path), told(tmp_path / "out.tif")
        assert after["tags"][0]["ImageWidth"] == before["tags"][0]["ImageWidth"]
        if kind == "imagej":
            labels = [IMAGEJ["Labels"][i] for i in indices]
            assert after["imagej"]["Labels"] == labels
            assert after["imagej"].get("frames", 1) == len(expected)
            assert after["imagej"]["finterval"] == 2.0 * (places.step or 1)
            assert after["imagej"]["slices"] == 3
        else:
            assert f'SizeT="{len(expected)}"' in after["ome"]
            assert 'Name="GFP"' in after["ome"]
            assert after["ome"].count("<Plane ") == len(indices)

    def test_frames_of_one_scene_are_told_from_channels(self, tmp_path):
        stack = open_stack(make(tmp_path / "in.tif", "imagej"))
        assert stack.axes == "T 2, Z 3, C 2"
        assert [kind.group for kind in stack.pages[:3]] == [(0, 0), (0, 1), (0, 0)]
        assert [kind.follows for kind in stack.pages] == [None] * 6 + list(range(6))


class TestNotStacks:
    def test_pages_of_other_sizes_stay_photos(self, tmp_path, amsnet):
        path = tmp_path / "in.tif"
        with tifffile.TiffWriter(path) as writer:
            writer.write(numbers("uint8", (40, 56)), metadata=None)
            writer.write(numbers("uint8", (20, 28)), metadata=None)
        assert open_stack(path) is None
        done = amsnet("denoise", path, "-o", tmp_path / "out.tif")
        assert "2 pages or frames; save the one you want" in done.stderr

    def test_a_thumbnail_makes_no_stack(self, tmp_path):
        path = tmp_path / "in.tif"
        with tifffile.TiffWriter(path) as writer:
            writer.write(numbers("uint8", (40, 56)), metadata=None)
            writer.write(numbers("uint8", (40, 56)), metadata=None, subfiletype=1)
        assert open_stack(path) is None

    def test_one_grey_page_is_one_if_imagej_wrote_it_or_it_is_asked_for(self, tmp_path):
        path, page = tmp_path / "in.tif", numbers("uint8", (40, 56))
        tifffile.imwrite(path, page, metadata=None)
        assert open_stack(path) is None
        assert open_stack(path, counts=True) is not None
        tifffile.imwrite(path, page, imagej=True)
        assert open_stack(path) is not None

    def test_colour_pages_of_imagej_stay_photos(self, tmp_path):
        path = tmp_path / "in.tif"
        tifffile.imwrite(path, numbers("uint8", (40, 56, 3)), imagej=True)
        assert open_stack(path) is None


class TestFaults:
    @pytest.mark.parametrize("kind", KINDS)
    def test_cut_files_are_refused(self, tmp_path, kind):
        path = make(tmp_path / "in.tif", kind, "uint8" if kind == "RGB" else "uint16")
        content = path.read_bytes()
        for share in (0.95, 0.5, 0.05):
            path.write_bytes(content[: int(share * len(content))])
            with pytest.raises(PhotoError, match=r"in\.tif: (cut short|damaged|page)"):
                open_stack(path)

    def test_a_cut_file_gives_one_line_and_no_result(self, tmp_path, amsnet):
        path = make(tmp_path / "in.tif", "imagej")
        path.write_bytes(path.read_bytes()[:20_000])
        done = amsnet("denoise", path, "-o", tmp_path / "out.tif")
        assert done.exit_code == 1
        assert len(done.stderr.strip().splitlines()) == 1
        assert [p.name for p in tmp_path.iterdir()] == ["in.tif"]

    def test_palettes_and_pyramids_are_refused(self, tmp_path):
        path = tmp_path / "in.tif"
        colours = np.zeros((3, 256), np.uint16)
        tifffile.imwrite(path, numbers("uint8", (2, 40, 56)), photometric="palette",
                         colormap=colours)  # fmt: skip
        with pytest.raises(PhotoError, match=r"in.tif: pages with palette colours; convert"):
            open_stack(path)
        with tifffile.TiffWriter(path, ome=True) as writer:
            writer.write(numbers("uint8", (2, 64, 64)), subifds=1, metadata={"axes": "ZYX"})
            writer.write(numbers("uint8", (2, 32, 32)), subfiletype=1)
        with pytest.raises(PhotoError, match="a pyramid of 2 resolutions"):
            open_stack(path)

    def test_pages_in_other_files_are_refused(self, tmp_path):
        paths = [tmp_path / "a.ome.tif", tmp_path / "b.ome.tif"]
        tifffile.imwrite(paths[0], numbers("uint8", (2, 40, 56)), metadata={"axes": "ZYX"})
        with tifffile.TiffFile(paths[0]) as file:
            text = file.ome_metadata
        tifffile.imwrite(paths[1], numbers("uint8", (40, 56)), metadata=None, description=text)
        with pytest.raises(PhotoError, match=r"b.ome.tif: "):
            open_stack(paths[1])

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--pages", "9:"), "takes none of the 2 pages"),
            (("--pages", "a:b"), "not a range"),
            (("--luma", "0.5"), "do not work on stacks"),
            (("--depth", "8"), "keep their type"),
            (("--gain", "0"), "not above 0"),
            (("--read-noise", "3"), "give --gain as well"),
            (("--dark", "missing.tif"), "missing.tif: no such file"),
        ],
    )
    def test_wrong_options_are_told_in_one_line(self, tmp_path, amsnet, options, said):
        path = make(tmp_path / "in.tif", "imagej")
        done = amsnet("denoise", path, "-o", tmp_path / "out.tif", *options)
        assert done.exit_code
        assert said in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1

    def test_options_for_stacks_are_refused_for_photos(self, tmp_path, amsnet, noisy_png):
        done = amsnet("denoise", noisy_png, "-o", tmp_path / "out.png", "--pages", "0:3")
        assert "noisy.png: no stack and no grey TIFF" in done.stderr

    def test_a_stack_keeps_its_format(self, tmp_path, amsnet):
        path = make(tmp_path / "in.tif", "imagej")
        done = amsnet("denoise", path, "-o", tmp_path / "out.png")
        assert "out.png: a stack keeps its format; name a .tif file" in done.stderr


class TestDenoising:
    @pytest.fixture
    def frames(self) -> tuple[np.ndarray, np.ndarray]:
        """Light of two channels, (2, 160, 192), and two noisy frames of it, (2, 2, 160, 192)."""
        cell = skimage.data.cell()[150:310, 150:342] / 4.0
        light = np.stack([cell, 3 * cell[::-1]])
        rng = np.random.default_rng(0)
        counts = rng.poisson(np.broadcast_to(light, (2, *light.shape))) * 2.0
        counts += rng.normal(100, 3, counts.shape)
        return light * 2 + 100, np.rint(counts).clip(0).astype(np.uint16)

    def test_each_channel_gains(self, tmp_path, amsnet, frames):
        light, noisy = frames
        path = tmp_path / "in.tif"
        tifffile.imwrite(path, noisy, imagej=True, metadata={"axes": "TCYX"})
        done = amsnet("denoise", path, "-o", tmp_path / "out.tif")
        assert done.exit_code == 0
        assert "channel 2: variance" in done.stderr
        clean = tifffile.imread(tmp_path / "out.tif")
        error, before = (np.square(x - light).mean((0, 2, 3)) for x in (clean, noisy * 1.0))
        assert (error < before / 8).all()
        assert np.abs((clean - light).mean((0, 2, 3))).max() < 0.5

    def test_colours_are_denoised_as_photos(self, tmp_path, amsnet, noisy_crop, clean_crop):
        path = tmp_path / "in.tif"
        tifffile.imwrite(path, np.stack([noisy_crop] * 2), photometric="rgb")
        assert amsnet("denoise", path, "-o", tmp_path / "out.tif").exit_code == 0
        clean = tifffile.imread(tmp_path / "out.tif")
        error = np.square(clean.astype(float) - clean_crop).mean()
        assert error < np.square(noisy_crop.astype(float) - clean_crop).mean() / 4

    def test_strength_0_keeps_the_file(self, tmp_path, amsnet):
        path = make(tmp_path / "in.tif", "imagej")
        done = amsnet("denoise", path, "-o", tmp_path / "out.tif", "--strength", "0", "--json")
        assert json.loads(done.stdout)["status"] == "done"
        assert (tmp_path / "out.tif").read_bytes() == path.read_bytes()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in.tif", "out.tif"]

    def test_pages_without_noise_are_kept(self, tmp_path, amsnet):
        path = tmp_path / "in.tif"
        tifffile.imwrite(path, np.full((5, 64, 64), 7, np.uint16))
        done = amsnet("denoise", path, "-o", tmp_path / "out.tif")
        assert "its noise cannot be measured: left as it is" in done.stderr
        assert (tmp_path / "out.tif").read_bytes() == path.read_bytes()

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_values_that_are_no_numbers_stay(self, tmp_path, amsnet, frames, value):
        pages = frames[1][0].astype(np.float32)
        pages[:, 20:30, 50:70] = value
        path = tmp_path / "in.tif"
        tifffile.imwrite(path, pages, imagej=True, metadata={"axes": "CYX"})
        assert amsnet("denoise", path, "-o", tmp_path / "out.tif").exit_code == 0
        clean = tifffile.imread(tmp_path / "out.tif")
        assert np.array_equal(np.isfinite(clean), np.isfinite(pages))
        assert (np.isnan(clean) == np.isnan(pages)).all()

    def test_units_do_not_matter(self, tmp_path, amsnet, frames):
        page = frames[1][0].astype(np.float64)
        results = []
        for scale in (1, 1e-9, 1e9, -1):
            tifffile.imwrite(tmp_path / "in.tif", page[:1] * scale)
            done = amsnet(
                "denoise", tmp_path / "in.tif", "-o", tmp_path / "out.tif", "-f", "--no-keep-flux"
            )
            assert done.exit_code == 0
            results.append(tifffile.imread(tmp_path / "out.tif") / scale)
        noise = (page[0] - results[0]).std()
        for other in results[1:3]:
            assert np.abs(other - results[0]).max() < 0.1 * noise
        assert (results[3] - results[0]).std() < 0.5 * noise


class TestResuming:
    def run(self, path: Path, target: Path, **settings: object) -> StackRun:
        return StackRun(
            stack=open_stack(path), target=target, chosen=slice(None), settings=settings
        )

    def test_only_missing_pages_are_denoised(self, tmp_path):
        path, target = make(tmp_path / "in.tif", "imagej"), tmp_path / "out.tif"
        first = self.run(path, target)

        def interrupted(block: Block) -> np.ndarray:
            if block.page == 5:
                raise KeyboardInterrupt
            return block.read(first.stack)

        with pytest.raises(KeyboardInterrupt):
            first.denoise(interrupted, lambda share: None)
        assert not target.exists()
        [pages] = target.with_name(".out.tif.amsnet-pages").glob("*.growing")
        with pages.open("ab") as file:
            file.write(b"half a page")
        seen: list[int] = []
        second = self.run(path, target)

        def page(block: Block) -> np.ndarray:
            seen.append(block.page)
            return block.read(second.stack)

        assert second.denoise(page, lambda share: None).resumed == 5
        assert seen == list(range(5, 12))
        second.write()
        assert target.read_bytes() == path.read_bytes()
        assert not pages.parent.exists()

    def test_pages_of_other_settings_are_not_taken(self, tmp_path):
        path, target = make(tmp_path / "in.tif", "imagej"), tmp_path / "out.tif"
        first, second = self.run(path, target, strength=1), self.run(path, target, strength=0.5)
        first.denoise(lambda block: block.read(first.stack), lambda share: None)
        done = second.denoise(lambda block: block.read(second.stack), lambda share: None)
        assert done.resumed == 0

    def test_two_processes_do_not_write_one_result(self, tmp_path):
        path, target = make(tmp_path / "in.tif", "imagej"), tmp_path / "out.tif"
        run = self.run(path, target)

        def page(block: Block) -> np.ndarray:
            with pytest.raises(OutputError, match="another process"):
                self.run(path, target).denoise(page, lambda share: None)
            return block.read(run.stack)

        run.denoise(page, lambda share: None)

    @pytest.mark.slow
    def test_a_killed_run_resumes(self, tmp_path, amsnet):
        path = tmp_path / "in.tif"
        tifffile.imwrite(path, numbers("uint16", (5, 64, 64)), imagej=True)
        code = (
            "import os, sys; from amsnet_cli.batch import stack_denoiser as s\n"
            "of = s.denoise_counts; left = [3]\n"
            "def page(*args, **options):\n"
            "    left[0] -= 1\n"
            "    return of(*args, **options) if left[0] else os.kill(os.getpid(), 9)\n"
            "s.denoise_counts = page\n"
            "from amsnet_cli.__main__ import main; main()"
        )
        arguments = ["denoise", str(path), "-o", str(tmp_path / "out.tif")]
        command = [sys.executable, "-c", code, *arguments]
        assert subprocess.run(command, capture_output=True, check=False).returncode == -9
        done = amsnet(*arguments)
        assert "2 of 5 pages taken from an interrupted run" in done.stderr
        amsnet(*arguments[:-1], tmp_path / "again.tif")
        assert (tmp_path / "out.tif").read_bytes() == (tmp_path / "again.tif").read_bytes()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", slice(3, 4)),
        ("-1", slice(-1, None)),
        ("0:100:2", slice(0, 100, 2)),
        (None, slice(None)),
    ],
)
def test_pages_are_chosen_as_in_python(text, expected):
    assert parse_pages(text) == expected


@pytest.mark.parametrize("text", ["", "a", "1:2:3:4", "0:9:0", "9:0:-1"])
def test_other_choices_are_refused(text):
    with pytest.raises(UsageError, match="not a range"):
        parse_pages(text)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_stack(tmp_path, peak_memory):
    peaks = []
    for count in (10, 500):
        pages = (numbers("uint16", (512, 512)) for _ in range(count))
        tifffile.imwrite(
            tmp_path / "in.tif", pages, shape=(count, 512, 512), dtype="uint16", bigtiff=True,
            metadata=None, photometric="minisblack",
        )  # fmt: skip
        peaks.append(peak_memory("denoise", "in.tif", "-o", "out.tif", "-f", "--strength", "0"))
    assert peaks[1] < peaks[0] + 50_000_000


def test_a_fit_sees_pages_as_denoising_does(tmp_path):
    light = skimage.data.cell()[150:310, 150:342] / 2.0
    rng = np.random.default_rng(0)
    path = tmp_path / "in.tif"
    tifffile.imwrite(path, rng.poisson([light] * 5).astype(np.uint16), imagej=True)
    crops = read_developed(path, 2 * light.size, (0,)).crops
    assert [crop.pixels.shape for crop in crops] == [(*light.shape, 3)] * 2
    levels = []
    for crop in crops:
        assert 0 <= crop.pixels.min() < crop.pixels.max() <= 1
        # Even noise: as strong in the dark as in the light.
        halves = crop.pixels[:80, :, 0], crop.pixels[80:, :, 0]
        levels += [np.abs(np.diff(half, 2, axis=1)).mean() for half in halves]
    assert max(levels) < 1.2 * min(levels)


class TestPython:
    def test_a_stack_is_that_of_the_command(self, tmp_path, amsnet):
        path, by_command, by_python = (tmp_path / f"{name}.tif" for name in ("in", "a", "b"))
        tifffile.imwrite(path, numbers("uint16", (4, 32, 48)), imagej=True)
        assert (
            amsnet("denoise", path, "-o", by_command, "--pages", "1:", "--gain", "0.5").exit_code
            == 0
        )
        denoised = denoise(
            str(path), by_python, pages=slice(1, None), detector=Detector(gain=0.5)
        )  # fmt: skip
        assert by_python.read_bytes() == by_command.read_bytes()
        assert np.array_equal(denoised.photo.stack.read(2), tifffile.imread(by_python)[2])
        assert denoised.model.name == "photo"
        assert np.isnan([denoised.noise_before, denoised.noise_after]).all()
        with pytest.raises(OutputError, match="exists already"):
            denoise(path, by_python)

    def test_it_needs_an_output(self, tmp_path):
        path = make(tmp_path / "in.tif", "imagej")
        with pytest.raises(UsageError, match="denoised into a file; name the output"):
            denoise(path)


class TestNoise:
    @pytest.fixture
    def stack(self, tmp_path) -> Path:
        light = skimage.data.cell()[150:310, 150:342] / 4.0
        counts = np.random.default_rng(0).poisson([[light, 2 * light[::-1]]] * 3)
        values = counts * np.array([2.0, 5.0])[:, None, None] + 100
        tifffile.imwrite(
            tmp_path / "in.tif", values.astype(np.uint16), imagej=True, metadata={"axes": "TCYX"}
        )  # fmt: skip
        return tmp_path / "in.tif"

    def test_the_law_of_each_channel(self, stack, amsnet):
        said = json.loads(amsnet("noise", stack, "--json").stdout)
        assert said["kind"] == "stack" and said["axes"] == "T 3, C 2"
        for number, (channel, a) in enumerate(zip(said["channels"], (2, 5), strict=True), 1):
            assert (channel["channel"], channel["pages"]) == (number, 3)
            assert channel["source"] == "measured"
            assert abs(channel["a"] / a - 1) < 0.2
            assert abs(channel["b"] + 100 * a) < 30 * a

    def test_lines_and_a_plot(self, stack, amsnet):
        shown = amsnet("noise", stack, "--plot").stdout
        assert "stack of T 3, C 2" in shown
        assert re.search(r"channel 2: variance \S+ x - \d+ \(measured\); 0\.\d+ electrons", shown)
        assert shown.count("brightness") == 2 and shown.count("#") > 60


class TestViews:
    @staticmethod
    def frames(*lights: np.ndarray) -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        return [rng.poisson(light) * 2.0 + 100 for light in lights]

    def test_movement_and_changing_light_are_told_from_noise(self):
        coins, law = skimage.data.coins()[:160, :192] / 4.0, CountsNoise(a=2.0, b=-200.0)
        moved = coins.copy()
        moved[40:104, 60:92] = coins[40:104, 64:96]
        assert is_still(self.frames(*[coins] * 5), law)
        assert is_still(self.frames(*[0 * coins + 3] * 5), law)
        for other in (np.roll(coins, 2, 0), moved, 0.9 * coins):
            assert not is_still(self.frames(coins, coins, other), law)

    @pytest.mark.parametrize("moves", [False, True])
    def test_frames_of_a_still_scene_are_compared_with_each_other(self, tmp_path, moves):
        coins = skimage.data.coins()[:160, :192] / 4.0
        lights = [np.roll(coins, 3 * i * moves, 1) for i in range(4)]
        frames = np.asarray(self.frames(*lights), np.uint16)
        tifffile.imwrite(tmp_path / "in.tif", frames, imagej=True, metadata={"axes": "TYX"})
        [crop] = read_developed(tmp_path / "in.tif", 1, (0,)).crops
        assert crop.moves is moves
        assert (crop.views is None) is moves
        if crop.views is not None:
            # The mean of three others has a third of the variance.
            noise = [np.abs(np.diff(x[..., 0], 2, 1)).mean() for x in (crop.pixels, crop.views)]
            assert 1.5 < noise[0] / noise[1] < 1.9
            assert abs(float((crop.pixels - crop.views).mean())) < 2e-3

    def test_few_counts_are_not_taken_for_movement(self, tmp_path):
        """Their noise has heavier tails than normal noise, in the scale of even noise too."""
        light, rng = skimage.data.cell()[202:458, 147:403] / 255 * 60, np.random.default_rng(0)
        frames = 2 * rng.poisson([light] * 12) + rng.normal(100, 3, (12, *light.shape))
        frames = frames.round().astype(np.uint16)
        tifffile.imwrite(tmp_path / "in.tif", frames, imagej=True, metadata={"axes": "TYX"})
        crops = read_developed(tmp_path / "in.tif", 10**6, (0,)).crops
        assert len(crops) == 12 and not any(crop.moves for crop in crops)
        frames[5, 100:112, 100:112] += 60  # A bead of a few pixels, in one of them.
        tifffile.imwrite(tmp_path / "in.tif", frames, imagej=True, metadata={"axes": "TYX"})
        assert any(crop.moves for crop in read_developed(tmp_path / "in.tif", 10**6, (0,)).crops)

    def test_a_fit_is_validated_against_the_other_views(self, tmp_path):
        """A perfect network differs from the mean of three others by its noise alone."""
        coins = skimage.data.coins()[:160, :192] / 4.0
        frames = np.asarray(self.frames(*[coins] * 4), np.uint16)
        tifffile.imwrite(tmp_path / "in.tif", frames, imagej=True, metadata={"axes": "TYX"})
        images = load_images(tmp_path, read_developed, max_pixels=10**6, seed=0)
        start, cpu = load_model("photo"), torch.device("cpu")
        objective = NoiseAdaptation(
            images, profile_crops(images, start, device=cpu), patch_size=64, batch=2, seed=0,
            distributed=DistributedContext(), device=cpu, validation_patches=8,
        )  # fmt: skip
        for losses in (objective.validation_losses, objective.own_noise_losses):
            with torch.inference_mode():
                loss = float(losses(start.network.eval())[0].mean())
            assert 3**-0.5 < loss < 0.75
