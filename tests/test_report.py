from __future__ import annotations

import html
import io
import json
import re
import shutil
from base64 import b64decode
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from amsnet_cli.errors import OutputError, PhotoError
from amsnet_cli.inference.denoise import DenoiseOptions
from amsnet_cli.inference.noise_estimate import photo_noise_level
from amsnet_cli.photos.colour import srgb_profile
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.write import write_photo
from amsnet_cli.postprocess.config import PostprocessConfig
from amsnet_cli.report.comparison import (
    CROP_SIDE,
    OVERVIEW_SIDE,
    Comparison,
    compare,
    most_different,
)
from amsnet_cli.report.curve import CurvePoint
from amsnet_cli.report.fit_page import Difference, write_fit_page
from amsnet_cli.report.html import check_report
from amsnet_cli.report.settings import settings_section

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def pair(sigma: float = 20, orientation: int = 1, dtype=np.uint8) -> tuple[Photo, Photo]:
    """A CC0 picture with noise, as it lies in a file, and the same without, upright."""
    clean = skimage.data.astronaut()
    noise = np.random.default_rng(0).normal(0, sigma, clean.shape)
    noisy = (clean + noise).round().clip(0, 255).astype(np.uint8)
    scale = 257 if dtype == np.uint16 else 1
    stored = {1: noisy, 3: noisy[::-1, ::-1], 6: np.rot90(noisy), 8: np.rot90(noisy, -1)}
    pixels = np.ascontiguousarray(stored[orientation]).astype(dtype) * dtype(scale)
    return Photo(pixels=pixels, orientation=orientation), Photo(pixels=clean, icc=srgb_profile())


def opened(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)


class TestComparison:
    @pytest.mark.parametrize(
        ("orientation", "dtype"), [(1, np.uint8), (3, np.uint8), (6, np.uint16), (8, np.uint8)]
    )
    def test_shows_the_upright_pixels_of_both(self, orientation, dtype):
        noisy, clean = pair(orientation=orientation, dtype=dtype)
        comparison = compare(noisy, clean)
        assert comparison.size == (512, 512)
        assert np.abs(opened(comparison.denoised) - clean.pixels).mean() < 3
        upright, _ = pair()
        assert np.abs(opened(comparison.noisy) - upright.pixels).mean() < 9
        assert len(comparison.crops) == 3
        for crop in comparison.crops:
            area = np.s_[crop.top : crop.top + CROP_SIDE, crop.left : crop.left + CROP_SIDE]
            assert np.abs(opened(crop.noisy) - upright.pixels[area]).mean() < 6
            difference = upright.pixels[area].astype(int) - clean.pixels[area]
            shown = (opened(crop.residual) - 128) / comparison.amplification
            assert np.abs(shown - difference).mean() < 6
            assert np.corrcoef(shown.ravel(), difference.ravel())[0, 1] > 0.9

    def test_noise_before_and_after(self):
        noisy, clean = pair(20)
        before, after = compare(noisy, clean).noise
        assert before == pytest.approx(20, rel=0.15) and after < 3

    def test_keeps_the_profile_but_no_grey_one(self):
        noisy, clean = pair()
        comparison = compare(noisy, clean)
        assert Image.open(io.BytesIO(comparison.denoised)).info["icc_profile"] == clean.icc
        grey = Photo(pixels=clean.pixels[..., :1], icc=b"a grey profile")
        assert "icc_profile" not in Image.open(io.BytesIO(compare(grey, grey).noisy)).info

    @pytest.mark.parametrize("size", [(1, 1), (5, 3000), (300, 287)])
    def test_any_size(self, size):
        photo = Photo(pixels=np.full((*size, 3), 200, np.uint8))
        comparison = compare(photo, photo)
        assert opened(comparison.noisy).max() == opened(comparison.noisy).min() == 200
        assert max(opened(comparison.noisy).shape) <= OVERVIEW_SIDE
        assert all((opened(crop.residual) == 128).all() for crop in comparison.crops)

    def test_nothing_else_than_the_same_size(self):
        noisy, clean = pair()
        with pytest.raises(PhotoError, match="512x512 and 512x500"):
            compare(noisy, Photo(pixels=clean.pixels[:500]))

    def test_known_noise_levels_are_not_measured_again(self):
        noisy, clean = pair()
        assert compare(noisy, clean, noise=(7.0, 1.0), pictures=False).noise == (7.0, 1.0)

    def test_float_photos_are_measured_in_their_range(self):
        noisy, _ = pair(20)
        bright = Photo(pixels=noisy.pixels.astype(np.float32) / 255 * 4)
        assert photo_noise_level(bright) == pytest.approx(photo_noise_level(noisy), rel=0.05)


@pytest.fixture
def page(amsnet, tmp_path) -> Path:
    """A page of a photo whose name is a trap."""
    noisy, clean = pair()
    name = '"><script>document.title="taken"</script>&amp;.png'.replace("/", "∕")
    for folder, photo in (("noisy", noisy), ("clean", clean)):
        (tmp_path / folder).mkdir()
        write_photo(photo, tmp_path / folder / name)
    page = tmp_path / "page.html"
    done = amsnet("compare", tmp_path / "noisy" / name, tmp_path / "clean" / name, "-o", page)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{page}\n"
    assert "before" in done.stderr
    return page


class TestPage:
    def test_is_one_file_and_not_large(self, page):
        text = page.read_text()
        sources = re.findall(r'(?:src|href)="([^"]*)"', text)
        assert all(s.startswith(("data:image/jpeg;base64,", "#")) for s in sources)
        assert not re.search(r"https?://|url\(|@import|<link", text)
        assert len(text) < 1_500_000
        images = [s for s in sources if s.startswith("data:")]
        assert len(images) == 2 + 3 * 3
        for image in images:
            Image.open(io.BytesIO(b64decode(image.partition(",")[2]))).verify()

    def test_escapes_what_others_wrote(self, page):
        assert "<script>document" not in page.read_text()
        assert "&lt;script&gt;document" in page.read_text()

    def test_every_picture_and_the_slider_have_a_text(self, page):
        text = page.read_text()
        for tag in re.findall(r"<img[^>]*>", text):
            assert re.search(r'alt="[^"]+"', tag)
        for tag in re.findall(r"<input[^>]*>", text):
            assert re.search(r'aria-label="[^"]+"', tag)

    def test_an_earlier_page_may_be_replaced_and_nothing_else(self, amsnet, page, tmp_path):
        photo = next((tmp_path / "noisy").iterdir())
        assert amsnet("compare", photo, photo, "-o", page).exit_code == 0
        page.write_text("my diary")
        refused = amsnet("compare", photo, photo, "-o", page)
        assert refused.exit_code == 1 and "--force" in refused.stderr
        assert page.read_text() == "my diary"
        assert amsnet("compare", photo, photo, "-o", page, "--force").exit_code == 0

    def test_folders_are_matched_by_name(self, amsnet, page, tmp_path):
        other = tmp_path / "other.html"
        result = amsnet("compare", tmp_path / "noisy", tmp_path / "clean", "-o", other)
        assert result.exit_code == 0, result.stderr
        mixed = amsnet("compare", tmp_path / "noisy", page, "-o", other)
        assert mixed.exit_code == 2

    def test_of_a_batch_tells_what_failed(self, amsnet, tmp_path, tiny_model):
        noisy, _ = pair()
        write_photo(noisy, tmp_path / "a.png")
        (tmp_path / "b.png").write_text("no picture")
        page = tmp_path / "page.html"
        result = amsnet(
            "denoise", tmp_path / "a.png", tmp_path / "b.png", "-o", tmp_path / "out",
            "--report", page, "-w", tiny_model, "--crop", "100,50,300,200",
        )  # fmt: skip
        assert result.exit_code == 3, result.stderr
        text = page.read_text()
        assert text.count("<section") == 1 and "300×200" in text
        assert "not a picture" in text
        assert "<td>[100, 50, 300, 200]</td>" in text, "the crop, in the table of settings"
        kept = json.loads(html.unescape(re.findall("<pre>(.*?)</pre>", text, re.DOTALL)[0]))
        assert kept["weights"] == str(tiny_model)
        assert kept["postprocess"] == json.loads(json.dumps(asdict(PostprocessConfig())))


def test_a_page_keeps_every_setting_and_names_those_that_differ():
    config = PostprocessConfig(limit_sharpness=False, certainty=3.5)
    section = settings_section("a<b", DenoiseOptions(strength=0.5, seed=7, postprocess=config))
    table, whole = section.split("<details>")
    rows = re.findall("<tr><th[^>]*>(.*?)</th><td>(.*?)</td></tr>", table)
    assert rows == [
        ("weights", "a&lt;b"),
        ("strength", "0.5"),
        ("seed", "7"),
        ("postprocess.limit_sharpness", "false"),
        ("postprocess.certainty", "3.5"),
    ]
    kept = json.loads(html.unescape(re.findall("<pre>(.*?)</pre>", whole, re.DOTALL)[0]))
    assert kept["postprocess"] == json.loads(json.dumps(asdict(config)))
    assert kept["n_masks"] is None and kept["strength"] == 0.5


def points(*gains: float, error: float = 0.01) -> list[CurvePoint]:
    return [
        CurvePoint(step=50 * i, loss=0.1, improvement=g, standard_error=error)
        for i, g in enumerate(gains)
    ]


@pytest.fixture(scope="module")
def comparisons() -> tuple[Comparison, Comparison]:
    """One with pictures and one without."""
    return compare(*pair()), compare(*pair(), pictures=False)


@pytest.fixture
def fit_page(tmp_path, comparisons):
    """Write the page of a fit whose every text is a trap."""
    path, trap = tmp_path / "fit.html", '"><script>document.title="taken"</script>&amp;$body'

    def write(curve: list[CurvePoint]) -> str:
        write_fit_page(
            path, title=f"my {trap}", about=[f"first {trap}", "second"],
            settings=[(f"stride {trap}", f"5 {trap}")], curve=curve,
            comparisons=[(f"a {trap}", comparisons[0]), ("b", comparisons[1])],
        )  # fmt: skip
        return path.read_text("utf-8")

    return write


def plotted(page: str, kind: str = "") -> np.ndarray:
    """Read the places of a line or a band in the figure, in percent from the top left."""
    path = re.search(rf'<path{kind} d="M([^"Z]*)', page)[1]
    return np.array([[float(n) for n in place.split()] for place in path.split(" L")])


class TestFitPage:
    def test_the_curve_is_true_to_scale(self, fit_page):
        gains = np.array([0, -0.02, 0.03, 0.1, 0.09])
        page = fit_page(points(*gains))
        levels = re.findall(r'<text x="-8" y="([-.\d]+)%"[^>]*>([-+.\d]+) %</text>', page)
        (y0, g0), (y1, g1) = (map(float, levels[i]) for i in (0, -1))
        assert (y0, y1) == (100, 0) and g0 <= -4 and g1 >= 12

        def gain_at(y: np.ndarray) -> np.ndarray:
            return (g1 + (g0 - g1) * y / 100) / 100

        assert plotted(page)[:, 0] == pytest.approx([0, 25, 50, 75, 100])
        assert gain_at(plotted(page)[:, 1]) == pytest.approx(gains, abs=1e-4)
        band = plotted(page, ' class="band"')
        assert gain_at(band[:5, 1]) == pytest.approx(gains + 0.02, abs=1e-4)
        assert gain_at(band[5:, 1]) == pytest.approx(gains[::-1] - 0.02, abs=1e-4)
        zero = re.search(r'class="zero"[^>]* y1="([-.\d]+)%"', page)[1]
        assert gain_at(float(zero)) == pytest.approx(0, abs=1e-4)
        assert "+9 % at step 200, with a standard error of 1 %" in page

    def test_what_more_steps_would_bring_is_dashed(self, tmp_path):
        curve = points(0, 0.02, 0.03)
        expected = CurvePoint(step=200, loss=0.1, improvement=0.04, standard_error=0.01)
        path = tmp_path / "fit.html"
        write_fit_page(
            path, title="", about=[], settings=[], curve=curve, comparisons=[], expected=expected
        )
        page = path.read_text("utf-8")
        (x0, y0), (x1, y1) = plotted(page, ' class="expected"')
        assert (x0, x1) == (50, 100) and y1 < y0
        assert [x0, y0] == plotted(page)[-1].tolist() and "again, +4 %" in page

    def test_crops_where_the_fitted_model_differs_most_from_its_start(self, tmp_path):
        start = pair()[1]
        fitted = start.pixels.copy()
        fitted[-40:, -40:] //= 2
        factor, crop = most_different(start, replace(start, pixels=fitted))
        assert crop.top <= len(fitted) - 40 < crop.top + CROP_SIDE
        differences = [
            Difference(photo="a<b", noise=(9.0, 2.0, 1.5), amplification=factor, crop=crop)
        ]
        path = tmp_path / "fit.html"
        write_fit_page(
            path, title="", about=[], settings=[], curve=[], comparisons=[], start="photo<",
            differences=differences,
        )  # fmt: skip
        page = path.read_text("utf-8")
        assert "<td>9.0</td><td>2.0</td><td>1.5</td>" in page and "a&lt;b" in page
        assert "difference: photo&lt; minus fitted" in page
        assert page.count("data:image/jpeg;base64,") == 3

    NAN, INF = float("nan"), float("inf")

    @pytest.mark.parametrize(
        "curve",
        [
            [], points(0.0), points(0.05), points(0.0, 0.0, 0.0, error=0.0), points(NAN),
            points(0.0, NAN, 0.1), points(INF, -INF, 0.1), points(0.0, 0.1, error=NAN),
            points(0.0, 0.1, error=INF), points(0.0, -1e300, 1.0), points(0.0, 1e-300, error=0.0),
            points(NAN, NAN, 0.1), points(-0.0, error=0.0),
        ],
    )  # fmt: skip
    def test_any_curve(self, fit_page, curve):
        page = fit_page(curve)
        figure = page[page.index("</p>") : page.index("Settings")]
        assert not re.search(r"nan|inf", figure)
        assert ("<svg" in page) == any(np.isfinite(point.improvement) for point in curve)
        places = [float(n) for n in re.findall(r'(?:x\d?|y\d?|cx|cy)="([-.\d]+)%"', figure)]
        if "<svg" in page:
            places += [*plotted(page).ravel(), *plotted(page, ' class="band"').ravel()]
        assert all(0 <= place <= 100 for place in places)

    def test_is_one_file_that_only_shows(self, fit_page):
        page = fit_page(points(0, 0.1))
        assert "default-src 'none'" in page
        assert "<script>document" not in page and page.count("&lt;script&gt;document") > 5
        assert "$body&lt;" not in page and page.count("<script>") == 1
        assert not re.search(r"https?://|url\(|@import|<link", page)
        assert page.count('class="slider"') == 1 and page.count("<section") == 2
        assert page.count("data:image/jpeg;base64,") == 2 + 3 * 3

    def test_whole_or_not_at_all(self, fit_page, tmp_path):
        fit_page(points(0, 0.1))
        check_report(tmp_path / "fit.html", force=False)
        before = sorted(tmp_path.iterdir())
        nowhere = tmp_path / "none" / "x.html"
        with pytest.raises(OutputError, match="cannot be written"):
            write_fit_page(nowhere, title="", about=[], settings=[], curve=[], comparisons=[])
        assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
class TestInTheBrowser:
    @pytest.fixture
    def tab(self, page):
        sync_api = pytest.importorskip("playwright.sync_api", reason="no Playwright is installed")
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
            tab = browser.new_page(viewport={"width": 1000, "height": 900})
            tab.complaints = []
            tab.on("console", lambda message: tab.complaints.append(message.text))
            tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
            tab.on("request", lambda r: r.url[:5] in ("file:", "data:") or tab.complaints.append(r))
            tab.goto(page.as_uri())
            yield tab
            assert tab.complaints == []
            browser.close()

    def test_the_page_is_whole(self, tab):
        assert tab.title() == "Before and after", "no script of a name has run"
        broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
        tab.evaluate(
            "document.images.forEach ? 0 : [...document.images].map(i => i.loading='eager')"
        )
        tab.wait_for_function(f"({broken}) === 0")
        wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not tab.evaluate(wide)
        tab.set_viewport_size({"width": 360, "height": 640})
        assert not tab.evaluate(wide), "a telephone shows it without scrolling sideways"

    def test_a_fit_s_page_fits_a_telephone(self, tab, fit_page, tmp_path):
        fit_page(points(0, 0.05, 0.07))
        tab.set_viewport_size({"width": 360, "height": 640})
        tab.goto((tmp_path / "fit.html").as_uri())
        assert tab.title().startswith('my "><script>'), "no script of a text has run"
        root = "document.documentElement"
        assert tab.evaluate(f"{root}.scrollWidth <= {root}.clientWidth")
        size = "getComputedStyle(document.querySelector('.curve text')).fontSize"
        assert float(tab.evaluate(size).removesuffix("px")) >= 12
        plot = tab.locator(".curve div > svg").bounding_box()
        assert plot["width"] > 220 and plot["height"] > 200

    def test_the_slider_follows_keys_and_mouse(self, tab):
        def seen() -> str:
            return tab.evaluate("document.querySelector('.slider').style.getPropertyValue('--cut')")

        slider = tab.locator(".slider input")
        assert seen() == "50%"
        slider.focus()
        tab.keyboard.press("ArrowRight")
        assert seen() == "50.5%"
        tab.keyboard.press("Home")
        assert seen() == "0%"
        tab.keyboard.press("End")
        assert seen() == "100%"
        box = slider.bounding_box()
        y = box["y"] + box["height"] / 2
        tab.mouse.move(box["x"] + 0.9 * box["width"], y)
        tab.mouse.down()
        tab.mouse.move(box["x"] + 0.25 * box["width"], y, steps=5)
        tab.mouse.up()
        assert float(seen().strip("%")) == pytest.approx(25, abs=3)

    def test_what_is_seen_changes_with_the_slider(self, tab):
        slider = tab.locator(".slider")
        tab.locator(".slider input").focus()
        shots = []
        for key in ("Home", "End"):
            tab.keyboard.press(key)
            shots.append(np.asarray(Image.open(io.BytesIO(slider.screenshot())).convert("RGB")))
        clean, noisy = (np.abs(np.diff(s[20:500, 20:500].astype(int), axis=1)) for s in shots)
        assert noisy.mean() > 2 * clean.mean()
