"""FITS: all but the pixels comes back, and fluxes can be measured in the result."""

from __future__ import annotations

import gzip
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from amsnet_cli.errors import PhotoError
from amsnet_cli.inference.denoise_counts import CountsOptions, denoise_counts
from amsnet_cli.inference.stack_noise import Detector, stack_noise
from amsnet_cli.model import load_model
from amsnet_cli.noise.counts import CountsNoise, estimate_counts_noise
from amsnet_cli.stacks.find import open_stack
from tests.star_fields import SNRS, star_field

fits = pytest.importorskip("astropy.io.fits", reason="the fits extra is not installed")

WCS = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 83.6, "CRPIX1": 20.5, "CD1_1": -1e-4}


def values(shape: tuple[int, ...] = (40, 56), dtype: str = "f4") -> np.ndarray:
    return np.random.default_rng(0).normal(100, 10, shape).astype(dtype)


def save(path: Path, *hdus: object, **options: object) -> Path:
    fits.HDUList(list(hdus)).writeto(path, **options)
    return path


def many(path: Path, checksum: bool = True) -> Path:
    """A file of all that there is: images of several types, no pictures, a table."""
    picture = values()
    picture[3:5, 6:9] = np.nan
    table = fits.BinTableHDU.from_columns([fits.Column("flux", "E", array=[1.0, 2.0])])
    return save(
        path, fits.PrimaryHDU(header=fits.Header({"OBSERVER": "me"})),
        fits.ImageHDU(picture, fits.Header(WCS), name="SCI"),
        fits.ImageHDU(values(dtype="i2"), name="DQ"),
        fits.ImageHDU(values((3, 40, 56), "u2"), name="CUBE"), table, checksum=checksum,
    )  # fmt: skip


def denoised(path: Path, add: float = 1.0, chosen: slice = slice(None)) -> Path:
    """Write a file whose pages are greater by `add`."""
    stack = open_stack(path)
    target = path.with_name("out.fits")
    pages = [stack.read(i) + np.float32(add) for i in stack.along_first_axis(chosen)]
    stack.write(target, [p.astype(stack.pages[0].dtype) if add == 0 else p for p in pages], chosen)
    return target


class TestFiles:
    def test_all_but_the_pixels_of_pictures_comes_back(self, tmp_path):
        path = many(tmp_path / "in.fits")
        target = denoised(path)
        with fits.open(path) as before, fits.open(target) as after:
            for old, new in zip(before, after, strict=True):
                changed = fits.HeaderDiff(old.header, new.header).diff_keyword_values
                assert set(changed) <= {"CHECKSUM", "DATASUM"}
                if old.name in ("SCI", "CUBE"):
                    assert np.array_equal(old.data + np.float32(1), new.data * 1.0, equal_nan=True)
                elif old.data is not None:
                    assert np.array_equal(old.data, new.data)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fits.open(target, checksum=True).close()

    def test_no_change_is_no_change(self, tmp_path):
        path = many(tmp_path / "in.fits")
        stack = open_stack(path)
        pages = (stack.read(i) for i in range(len(stack.pages)))
        stack.write(tmp_path / "out.fits", pages, slice(None))
        with fits.open(path) as before, fits.open(tmp_path / "out.fits") as after:
            # Their comments hold the time.
            ignored = {"ignore_keywords": ["CHECKSUM"], "ignore_comments": ["DATASUM"]}
            assert fits.FITSDiff(before, after, **ignored).identical

    @pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8", "u2", "u4"])
    def test_types_are_kept(self, tmp_path, dtype):
        path = save(tmp_path / "in.fits", fits.PrimaryHDU(values(dtype=dtype)))
        with fits.open(denoised(path)) as file, fits.open(path) as before:
            assert file[0].header["BITPIX"] == before[0].header["BITPIX"]
            assert np.array_equal(file[0].data, before[0].data + 1)

    def test_scaled_integers_and_blanks(self, tmp_path):
        stored = values(dtype="i2")
        stored[2, 2:6] = -32768
        hdu = fits.PrimaryHDU(stored)
        hdu.header.update({"BLANK": -32768, "BSCALE": 0.5, "BZERO": 7.0})
        path = save(tmp_path / "in.fits", hdu)
        with fits.open(path, "update", do_not_scale_image_data=True) as file:
            file[0].header.update({"BSCALE": 0.5, "BZERO": 7.0})
        page = open_stack(path).read(0)
        assert np.isnan(page[2, 2:6]).all()
        assert page[0, 0] == stored[0, 0] * 0.5 + 7
        with fits.open(denoised(path), do_not_scale_image_data=True) as file:
            expected = np.where(stored == -32768, stored, stored + 2)
            assert np.array_equal(file[0].data, expected)

    def test_some_planes_of_a_cube(self, tmp_path):
        header = fits.Header({"CRPIX3": 3.0, "CDELT3": 0.5, "CRVAL3": 10.0})
        path = save(
            tmp_path / "in.fits", fits.PrimaryHDU(values((7, 40, 56)), header),
            fits.ImageHDU(values(), name="ERR"), checksum=True,
        )  # fmt: skip
        with fits.open(denoised(path, chosen=slice(1, 6, 2)), checksum=True) as file:
            assert np.array_equal(file[0].data, values((7, 40, 56))[1:6:2] + np.float32(1))
            # The plane that was the fourth is the second.
            axis = file[0].header
            assert 10 + (2 - axis["CRPIX3"]) * axis["CDELT3"] == 10 + (4 - 3.0) * 0.5
            assert np.array_equal(file["ERR"].data, values())


class TestFaults:
    @pytest.mark.parametrize(
        ("hdus", "said"),
        [
            ([fits.PrimaryHDU()], "no image in it"),
            ([fits.PrimaryHDU(np.zeros(9, np.float32))], "no image in it"),
            ([fits.PrimaryHDU(), fits.ImageHDU(values(), name="DQ")], "no image in it"),
            ([fits.PrimaryHDU(), fits.CompImageHDU(values(dtype="i2"))], "funpack first"),
        ],
    )
    def test_files_without_a_picture_are_refused(self, tmp_path, hdus, said):
        with pytest.raises(PhotoError, match=said):
            open_stack(save(tmp_path / "in.fits", *hdus))

    def test_an_empty_cube_is_refused(self, tmp_path):
        path = save(tmp_path / "in.fits", fits.PrimaryHDU(values((2, 40, 56))))
        content = path.read_bytes()
        place = content.index(b"NAXIS3")
        path.write_bytes(content[: place + 29] + b"0" + content[place + 30 : 2880])
        with pytest.raises(PhotoError, match="no image in it"):
            open_stack(path)

    def test_cut_and_foreign_files_are_refused_in_one_line(self, tmp_path, amsnet):
        path = many(tmp_path / "in.fits")
        whole = path.read_bytes()
        for content in (whole[:9000], whole[:100], b"SIMPLE  =" + bytes(5000), b"something"):
            path.write_bytes(content)
            done = amsnet("denoise", path, "-o", tmp_path / "out.fits")
            assert done.exit_code == 1
            assert len(done.stderr.strip().splitlines()) == 1
            assert not (tmp_path / "out.fits").exists()

    def test_without_astropy_the_extra_is_named(self, tmp_path, monkeypatch):
        path = save(tmp_path / "in.fits", fits.PrimaryHDU(values()))
        monkeypatch.setitem(sys.modules, "astropy.io", None)
        with pytest.raises(PhotoError, match=r"amsnet\[fits\]"):
            open_stack(path)

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e38, -5.0])
    def test_odd_pictures_are_kept(self, tmp_path, amsnet, value):
        path = save(tmp_path / "in.fits", fits.PrimaryHDU(np.full((64, 64), value, np.float32)))
        assert amsnet("denoise", path, "-o", tmp_path / "out.fits").exit_code == 0
        with fits.open(tmp_path / "out.fits") as file:
            assert np.array_equal(file[0].data, np.full((64, 64), value, "f4"), equal_nan=True)


class TestPhotometry:
    @pytest.mark.slow
    @pytest.mark.parametrize("law", ["known", "measured"])
    @pytest.mark.parametrize("sky", [100, 1000, 10_000])
    def test_fluxes_stay_at_every_sky(self, sky, law):
        self.check(sky, law, range(5))

    def test_fluxes_stay_and_the_sky_is_quiet(self):
        self.check(1000, "measured", range(1))

    def check(self, sky: float, law: str, seeds: range) -> None:
        changes, quiet, model = [], [], load_model("photo")
        for seed in seeds:
            field = star_field(sky, seed, fwhm=2.5 + seed % 4 / 2)
            noise = CountsNoise(a=1.0, b=25.0)
            if law == "measured":
                noise = estimate_counts_noise([[torch.from_numpy(field.noisy)]])
            clean = denoise_counts(field.noisy, noise, model, CountsOptions(keep_flux=True))
            changes.append((field.fluxes(clean), field.fluxes(field.noisy), field.snrs))
            quiet.append(field.noisy[field.sky].std() / clean[field.sky].std())
        assert np.mean(quiet) > 5
        after, before, snrs = np.concatenate(changes, 1)
        assert (after / before).min() > 0.5
        for snr in set(SNRS):
            of = snrs == snr
            change = after[of].sum() / before[of].sum() - 1
            print(f"sky {sky}, {law}: signal-to-noise {snr}: {100 * change:+.1f} %")
            # One per cent, and what chance adds with so few stars: denoising takes a part of the
            # noise of an aperture away, about half of it.
            assert abs(change) < 0.01 + 2 * 0.5 / snr / np.sqrt(of.sum())

    def test_gain_of_the_header_is_believed_where_it_fits(self, tmp_path):
        field = star_field(1000, 0, side=3)
        for gain, believed in ((1.5, True), (120.0, False)):
            header = fits.Header({"GAIN": gain, "RDNOISE": 5.0})
            path = tmp_path / f"{gain}.fits"
            save(path, fits.PrimaryHDU((field.noisy / 1.5).astype("f4"), header))
            found = stack_noise(open_stack(path), [0], Detector())
            assert found.source == ("gain of the header" if believed else "measured")
            sky = float(found.law.variance(torch.tensor(1000 / 1.5)))
            assert sky == pytest.approx((1000 + 25) / 1.5**2, rel=0.1)

    def test_blank_pixels_stay_and_spread_nothing(self, tmp_path, amsnet):
        picture = star_field(1000, 0, side=3).noisy.astype("f4")
        picture[50:60, 80:99] = np.nan
        path = save(tmp_path / "in.fits", fits.PrimaryHDU(picture))
        assert amsnet("denoise", path, "-o", tmp_path / "out.fits").exit_code == 0
        with fits.open(tmp_path / "out.fits") as file:
            assert np.array_equal(np.isnan(file[0].data), np.isnan(picture))


class TestPacked:
    def test_gzip_in_and_out(self, tmp_path):
        path, packed = many(tmp_path / "in.fits", checksum=False), tmp_path / "in.fits.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        expected = denoised(path).read_bytes()
        stack = open_stack(packed)
        pages = [stack.read(i) + np.float32(1) for i in range(len(stack.pages))]
        stack.write(tmp_path / "out.fits.gz", pages, slice(None))
        content = (tmp_path / "out.fits.gz").read_bytes()
        assert gzip.decompress(content) == expected
        stack.write(tmp_path / "b.fits.gz", pages, slice(None))
        assert (tmp_path / "b.fits.gz").read_bytes() == content
        stack.write(tmp_path / "plain.fits", pages, slice(None))
        assert (tmp_path / "plain.fits").read_bytes() == expected

    def test_names_and_strength_0(self, tmp_path, amsnet):
        save(tmp_path / "stars.fits.gz", fits.PrimaryHDU(values()))
        done = amsnet("denoise", tmp_path, "-o", tmp_path / "out", "--suffix", "_clean",
                      "--strength", "0")  # fmt: skip
        assert done.exit_code == 0, done.stderr
        assert np.array_equal(fits.getdata(tmp_path / "out/stars_clean.fits.gz"), values())

    @pytest.mark.parametrize("spoil", [lambda c: c[:-20], lambda c: c[:200] + b"x" + c[201:]])
    def test_damaged_ones_are_refused(self, tmp_path, spoil):
        path = save(tmp_path / "in.fits.gz", fits.PrimaryHDU(values()))
        path.write_bytes(spoil(path.read_bytes()))
        with pytest.raises(PhotoError, match=r"in.fits.gz: damaged or cut short"):
            open_stack(path)

    def test_fpack_is_refused(self, tmp_path):
        hdu = fits.CompImageHDU(values())
        path = save(tmp_path / "in.fits.fz", fits.PrimaryHDU(), hdu)
        with pytest.raises(PhotoError, match="compressed image in it; unpack it with funpack"):
            open_stack(path)
