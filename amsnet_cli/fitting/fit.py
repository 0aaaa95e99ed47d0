"""Fit a model to a folder of noisy photos; no clean pictures needed.

The loop reads from top to bottom in `fit`; how to learn from noise alone is in `schemes`. What is
*held out* of training decides which state is kept, and whether any is.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from amsnet_cli.atomic import clear_leftovers, whole_file
from amsnet_cli.core.masks import Fill
from amsnet_cli.core.networks import LIGHT, PaperNetwork
from amsnet_cli.device import fast_precision, memory_errors, reuse_memory
from amsnet_cli.errors import OutputError, TrainingError, UsageError
from amsnet_cli.fitting.distributed import Crew
from amsnet_cli.fitting.images import MOST_BYTES, MOST_PHOTOS, WINDOW, Shots, read_shots
from amsnet_cli.fitting.noise_profile import Look, Survey, look_at, mostly_white, survey
from amsnet_cli.fitting.objectives import Hiding, Renoising, Scheme, Smoothing
from amsnet_cli.fitting.patches import Cutter, Patches
from amsnet_cli.model import Inference, Model, ModelConfig, build_network, load_model, save_model
from amsnet_cli.photos.photo import Photo
from amsnet_cli.report.curve import CurvePoint
from amsnet_cli.weights.store import find_weights

PAPER_STEPS = 25_000
MASKED_MINUTES = 10.0
PIXELS = 300_000_000
"""Kept of the photos: .9 GB of 8 bits."""
SCRATCH = "scratch"
RESUME_EVERY = 15.0
"""Seconds between two saved states, for `resume`, unless saving takes long."""
SURVEYED = 24
"""Windows that are looked at where the survey is all they are needed for."""
SAMPLES = 4
"""Photos shown at the end."""
CONFIDENCE = 2.0
"""Standard errors by which the held-out loss must have fallen for a model to be kept."""
JUDGED = 4
"""Times as many patches tell whether it has as are looked at on the way."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a fit takes from where it comes from, and its user leaves alone.

    Attributes:
        pixels: that are kept of the photos.
        photos: that are read at most.
        file_bytes: of all of them, at most.
        fill: what a fresh network finds in hidden pixels.
        mask_channel: whether a fresh network is given the mask.
        quarter_turns: whether patches are turned as well as mirrored.
        warm_up: steps in which the rate rises.
        second_moment: decay of AdamW's average of squared gradients.
        gradient_norm: what gradients are clipped to.
        ema_decay: of the average of the weights that is kept; 0 keeps the weights themselves.
        checks: how often the held-out loss is measured.
        keep: the state of the lowest held-out loss, or the last.
    """

    pixels: int = PIXELS
    photos: int = MOST_PHOTOS
    file_bytes: float = MOST_BYTES
    fill: Fill = "mean"
    mask_channel: bool = True
    quarter_turns: bool = True
    warm_up: int = 100
    second_moment: float = 0.999
    gradient_norm: float = 1.0
    ema_decay: float = 0.998
    checks: int = 20
    keep: Literal["best", "last"] = "best"


RecipeName = Literal["adapt", "masked", "paper"]
RECIPES: dict[RecipeName, Recipe] = {
    "adapt": Recipe(
        pixels=96 * WINDOW**2, warm_up=20, second_moment=0.99, gradient_norm=0.2, ema_decay=0.98,
        checks=10,
    ),
    "masked": Recipe(),
    "paper": Recipe(
        photos=PIXELS // WINDOW**2, file_bytes=math.inf, fill="zeros", mask_channel=False,
        quarter_turns=False, warm_up=1, gradient_norm=math.inf, ema_decay=0.0, keep="last",
    ),
}  # fmt: skip
ADAPT_STEPS, ADAPT_BATCH = 1000, 8
"""Of "adapt": small batches, as many steps teach more than many patches in the same time."""


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How to fit.

    Attributes:
        recipe: "adapt" teaches a model the noise of these photos, in its single pass; "masked"
            hides pixels and predicts them, for several masks at work; "paper" does so as the
            paper does: zeros in hidden pixels, the network not told of them, AdamW at a rate that
            falls from 1e-4 by a cosine, the last weights kept. None is "adapt" from a model of a
            single pass, else "masked".
        network: which network starts fresh; those of the paper need its recipe.
        match: pattern of the names of the photos to learn from, such as "*NOISY*".
        smooth: fine-tune with prior smoothing (variant P) instead of hiding pixels; needs a model
            to start from.
        minutes: stop after this long, or None.
        steps: stop after this many optimiser steps; None for 1000 of "adapt". Of neither, "masked"
            takes 10 minutes and "paper" 25,000 steps. With steps alone, the same seed gives the
            same bytes on the same machine; minutes depend on its speed.
        stride: of the pixel-shuffle downsampling of patches; None for 5, as in the paper.
        infer_stride: the same for the fitted model at work; None for at most 2, as in the paper,
            or 1 if it starts from a model by "masked".
        hidden_share: how much of a sub-image is hidden; None for half, as in the paper.
        patch: side of a training patch in pixels, a multiple of stride, or of 16 for "adapt";
            None chooses about 160, or 96.
        batch: patches a step, of all processes together; None for 4, or 8 for "adapt", or 2 for
            Restormer by the paper's recipe.
        rate: peak learning rate, None for 1e-4 by the paper's recipe, 4e-4 of "adapt", else 1e-3
            from scratch and 2e-4 from a model.
        refine: share of random replacement refinement of the fitted model at work (variant E).
        precision: "float32" never lets convolutions run in bfloat16.
        seed: of everything random.
    """

    recipe: RecipeName | None = None
    network: Literal["compact"] | PaperNetwork = "compact"
    match: str = "*"
    smooth: bool = False
    minutes: float | None = None
    steps: int | None = None
    stride: int | None = None
    infer_stride: int | None = None
    hidden_share: float | None = None
    patch: int | None = None
    batch: int | None = None
    rate: float | None = None
    refine: float = 0.0
    precision: Literal["auto", "float32"] = "auto"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class FitProgress:
    """Where a fit stands.

    Attributes:
        step: optimiser steps done.
        share: of the budget used, in [0, 1].
        loss: on recent training patches, as the scheme counts it.
        held_out: the latest held-out loss, as the scheme counts it.
        best: of the state that would be kept now: the lowest so far, or by the paper's recipe the
            latest.
        curve: all held-out losses so far.
        steps_per_second: over the whole run.
        seconds_left: estimate.
    """

    step: int
    share: float
    loss: float
    held_out: float
    best: float
    curve: tuple[CurvePoint, ...]
    steps_per_second: float
    seconds_left: float


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What a fit has made.

    Attributes:
        model: the fitted model's file; None where the photos gave it nothing that its start has
            not got, so that there is no file.
        why_not: why there is none.
        steps: optimiser steps done.
        photos: how many photos it saw.
        skipped: what could not be read, with the reason.
        seconds: of training, and of judging what came of it.
        curve: held-out losses from the start to the end; empty if there was none.
        kept: that of the state that was kept; its gain over a model to start from is told by
            more patches at the end.
        options: as they were settled.
        survey: what the folder holds; None by the paper's recipe.
        samples: some of the photos, or windows of them.
        interrupted: whether it was stopped before its budget was used; `resume` goes on.
    """

    model: Path | None
    why_not: str
    steps: int
    photos: int
    skipped: tuple[str, ...]
    seconds: float
    curve: tuple[CurvePoint, ...]
    kept: CurvePoint | None
    options: FitOptions
    survey: Survey | None
    samples: tuple[tuple[Path, Photo], ...]
    interrupted: bool


def fit(
    folder: Path,
    output: Path,
    options: FitOptions = FitOptions(),
    *,
    start: Model | None = None,
    resume: bool = False,
    device: torch.device = torch.device("cpu"),
    crew: Crew = Crew(),
    reading: Callable[[str, int, int], None] = lambda what, done, of: None,
    surveyed: Callable[[Survey], None] = lambda survey: None,
    progress: Callable[[FitProgress], None] = lambda p: None,
    notice: Callable[[str], None] = lambda line: None,
    stopped: Callable[[], bool] = lambda: False,
) -> FitResult:
    """Fit a network to the noisy photos of a folder alone.

    Args:
        folder: searched for photos recursively; each is read at most once.
        output: the model file to write. While fitting, `output` + ".resume" holds the state.
        options: see `FitOptions`.
        start: the model to start from; None for a fresh network. To adapt to photos whose noise is
            mostly white it is the one that takes over there, if there is one.
        resume: go on from the state beside `output`, with the same photos and options.
        device: where to compute.
        crew: the processes that share the fit, all called alike; the first one writes, and
            its clock and `stopped` count.
        reading: called while photos are read, and then looked at: what, how many, of how many.
        surveyed: called with what the folder holds, once that is known.
        progress: called after each step.
        notice: called with lines for the user, such as photos that are skipped.
        stopped: asked before each step; when true, what there is is saved.

    Returns:
        See `FitResult`.

    Raises:
        UsageError: options out of range, or a state of other options.
        PhotoError: no readable photo.
        TrainingError: nothing to resume, or the loss is no longer finite.
        OutputError: the model cannot be written.
        DeviceError: out of memory.
    """
    options = _settle(options, start)
    assert options.recipe is not None and options.batch is not None
    if options.batch % crew.size:
        raise UsageError(
            f"{crew.size} processes cannot share a batch of {options.batch}",
            f"give --batch {crew.size}, or a multiple of it",
        )
    recipe = RECIPES[options.recipe]
    shots = read_shots(
        folder, match=options.match, pixels=recipe.pixels, seed=options.seed,
        most_photos=recipe.photos, most_bytes=recipe.file_bytes,
        progress=partial(reading, "reading photos"), notice=notice,
    )  # fmt: skip
    reuse_memory()
    if start and start.white and options.recipe == "adapt" and mostly_white(shots):
        start = start.white
    with memory_errors(device):
        looks = _first_look(shots, options, start, device, partial(reading, "measuring noise"))
        found = survey(shots, looks) if looks else None
        if found:
            surveyed(found)
        if why_not := _nothing_to_learn(found, options, start):
            return FitResult(
                model=None, why_not=why_not, steps=0, photos=len(shots.paths),
                skipped=shots.skipped, seconds=0.0, curve=(), kept=None, options=options,
                survey=found, samples=(), interrupted=False,
            )  # fmt: skip
        scheme = _scheme(shots, looks, options, crew, device)
        run = _Run(scheme, shots.fingerprint(), options, start, device, crew)
        state_path = resume_path(output)
        if crew.first:
            clear_leftovers(output.parent)
        if resume:
            run.restore(state_path)
        interrupted = _train(run, state_path, progress, stopped)
        if start and run.recipe.keep == "best" and not interrupted and crew.first:
            run.judge(start, partial(reading, f"comparing with {start.name}"))
            if run.kept.gain <= CONFIDENCE * run.kept.error:
                why_not = f"they gain nothing over {start.name} that is beyond doubt"
    if crew.first:
        if not why_not:
            save_model(output, run.best, _describe(run, shots, found, folder))
        if not interrupted:
            state_path.unlink(missing_ok=True)
    return FitResult(
        model=None if why_not else output, why_not=why_not,
        steps=run.step, photos=len(shots.paths), skipped=shots.skipped, seconds=run.elapsed(),
        curve=tuple(run.curve), kept=run.kept, options=options, survey=found,
        samples=_samples(shots), interrupted=interrupted,
    )  # fmt: skip


def _train(
    run: _Run,
    state_path: Path,
    progress: Callable[[FitProgress], None],
    stopped: Callable[[], bool],
) -> bool:
    """Train until the budget is used; returns whether it was interrupted before."""
    saved, took = time.monotonic(), 0.0
    while (share := run.share_unless(stopped)) < 1:
        run.train_step(share)
        if run.crew.first:
            run.check_held_out()
            progress(run.progress())
            if time.monotonic() - saved > max(RESUME_EVERY, 30 * took):
                before = time.monotonic()
                run.save(state_path)
                saved = time.monotonic()
                took = saved - before
    interrupted = math.isinf(share)
    if run.crew.first:
        # Before the last check, which an uninterrupted fit would not make; and what comes after it,
        # judging among it, may be interrupted as well.
        run.save(state_path)
        run.check_held_out(final=True)
        progress(run.progress())
    return interrupted


def resume_path(output: Path) -> Path:
    """Where the state of an interrupted fit to `output` lies."""
    return output.with_name(output.name + ".resume")


class _Run:
    """One fit's state: everything that a step changes, and that `resume` brings back."""

    def __init__(
        self,
        scheme: Scheme,
        photos: str,
        options: FitOptions,
        start: Model | None,
        device: torch.device,
        crew: Crew,
    ) -> None:
        self.scheme, self.options, self.device, self.crew = scheme, options, device, crew
        assert options.recipe is not None
        self.photos = photos
        self.recipe = RECIPES[options.recipe]
        torch.manual_seed(options.seed)
        self.started_from = start.name if start else SCRATCH
        self.config = start.config if start else _fresh(options)
        fresh = copy.deepcopy(start.network) if start else build_network(self.config)
        self.student = fresh.to(device).train()
        self.average = copy.deepcopy(self.student).eval()
        self.best = copy.deepcopy(self.average)
        self.together = crew.together(self.student)
        self.fast = self.student.network.runs_in_bfloat16 and options.precision == "auto"
        assert options.rate is not None
        self.optimiser = torch.optim.AdamW(
            self.student.parameters(), options.rate,
            betas=(0.9, self.recipe.second_moment), weight_decay=0,
        )  # fmt: skip
        self.step = 0
        self.spent = 0.0
        self.loss = math.nan
        self.checks = 0
        self.started = time.monotonic()
        self.first = self._held_out_losses(self.average)
        self.kept = CurvePoint(step=0, loss=float(self.first.mean()), gain=0.0, error=0.0)
        self.curve = [self.kept]

    def elapsed(self) -> float:
        return self.spent + time.monotonic() - self.started

    def share(self) -> float:
        """Share of the budget that is used."""
        shares = [0.0]
        if self.options.steps is not None:
            shares.append(self.step / self.options.steps)
        if self.options.minutes is not None:
            shares.append(self.elapsed() / (60 * self.options.minutes))
        return min(1.0, max(shares))

    def share_unless(self, stopped: Callable[[], bool]) -> float:
        """Share of the budget that is used, infinite where it is to stop; alike in a crew."""
        share = self.share()
        return self.crew.from_first(math.inf if share < 1 and stopped() else share)

    def train_step(self, share: float) -> None:
        """Hide, predict, compare what was hidden, improve."""
        options, recipe = self.options, self.recipe
        assert options.rate is not None
        warm = min(1.0, (self.step + 1) / recipe.warm_up)
        for group in self.optimiser.param_groups:
            group["lr"] = options.rate * warm * 0.5 * (1 + math.cos(math.pi * share))
        with fast_precision(self.device, self.fast):
            loss = self.scheme.loss(self.together, self.step)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), recipe.gradient_norm)
        self.optimiser.step()
        self.step += 1
        value = self.crew.mean(loss.item())
        if not math.isfinite(value):
            raise TrainingError("the loss is no longer a number", "try a lower --rate")
        self.loss = value if math.isnan(self.loss) else 0.95 * self.loss + 0.05 * value
        decay = min(recipe.ema_decay, (self.step + 1) / (self.step + 20))
        with torch.no_grad():
            for ours, theirs in zip(
                self.average.parameters(), self.student.parameters(), strict=True
            ):
                ours.lerp_(theirs, 1 - decay)
            for mine, fresh in zip(self.average.buffers(), self.student.buffers(), strict=True):
                mine.copy_(fresh)

    def check_held_out(self, *, final: bool = False) -> None:
        """Measure the average's held-out loss now and then; keep the best."""
        due = int(self.share() * self.recipe.checks)
        if due <= self.checks and not final:
            return
        self.checks = due
        now = self._held_out_losses(self.average)
        gain, error = _fall(self.first, now)
        point = CurvePoint(step=self.step, loss=float(now.mean()), gain=gain, error=error)
        self.curve.append(point)
        if point.loss < self.kept.loss or self.recipe.keep == "last":
            self.kept = point
            self.best.load_state_dict(self.average.state_dict())

    def judge(self, start: Model, progress: Callable[[int, int], None]) -> None:
        """Compare what is kept with the start once more, by more patches than on the way."""
        losses = []
        for i, network in enumerate((copy.deepcopy(start.network).to(self.device), self.best)):
            progress(i, 2)
            losses.append(self._held_out_losses(network, JUDGED))
        gain, error = _fall(*losses)
        self.kept = dataclasses.replace(self.kept, gain=gain, error=error)

    def progress(self) -> FitProgress:
        elapsed, share = self.elapsed(), self.share()
        return FitProgress(
            step=self.step, share=share, loss=self.loss, held_out=self.curve[-1].loss,
            best=self.kept.loss, curve=tuple(self.curve), steps_per_second=self.step / elapsed,
            seconds_left=elapsed * (1 - share) / share if share else math.inf,
        )  # fmt: skip

    def _held_out_losses(self, network: nn.Module, times: int = 1) -> Tensor:
        with torch.inference_mode(), fast_precision(self.device, self.fast):
            return self.scheme.held_out(network, times).double()

    def save(self, path: Path) -> None:
        """Write the whole state, for `resume`."""
        state: dict[str, Any] = {
            "options": dataclasses.asdict(self.options),
            "started_from": self.started_from,
            "photos": self.photos,
            "numbers": {k: getattr(self, k) for k in _NUMBERS},
            "curve": [dataclasses.astuple(point) for point in self.curve],
            "kept": dataclasses.astuple(self.kept),
            "spent": self.elapsed(),
            "optimiser": self.optimiser.state_dict(),
        }
        for name in _NETWORKS:
            state[name] = getattr(self, name).state_dict()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as file:
                torch.save(state, file)
        except (OSError, RuntimeError) as error:  # torch turns some of the former into the latter
            raise OutputError(
                f"{path}: cannot be written ({error})", "choose another place with -o"
            ) from error

    def restore(self, path: Path) -> None:
        """Read the state back.

        Raises:
            TrainingError: there is none, or it is of other photos.
            UsageError: it is of other options.
        """
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except FileNotFoundError as error:
            raise TrainingError(
                f"{path}: no interrupted fit to resume", "start it without --resume"
            ) from error
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise TrainingError(
                f"{path}: the interrupted fit is damaged", "start over with --force"
            ) from error
        if state["started_from"] != self.started_from:
            raise UsageError(
                f"the interrupted fit started from {state['started_from']}", "give the same start"
            )
        ours = dataclasses.asdict(self.options)
        budget = {"minutes", "steps"}
        theirs = dataclasses.asdict(FitOptions()) | state["options"]
        changed = [k for k in ours if k not in budget and ours[k] != theirs[k]]
        if changed:
            raise UsageError(
                f"the interrupted fit had another {', '.join(changed)}", "give the same options"
            )
        if state["photos"] != self.photos:
            raise TrainingError(
                "the folder's photos have changed since the fit was interrupted",
                "start it without --resume",
            )
        for name in _NETWORKS:
            getattr(self, name).load_state_dict(state[name])
        self.optimiser.load_state_dict(state["optimiser"])
        for name, value in state["numbers"].items():
            setattr(self, name, value)
        names = [field.name for field in dataclasses.fields(CurvePoint)]
        self.curve = [CurvePoint(**dict(zip(names, p, strict=True))) for p in state["curve"]]
        self.kept = CurvePoint(**dict(zip(names, state["kept"], strict=True)))
        self.spent, self.started = state["spent"], time.monotonic()


def _fall(before: Tensor, after: Tensor) -> tuple[float, float]:
    """By which share losses have fallen, and the standard error of that, patch by patch."""
    fall = (before - after) / before.mean()
    return float(fall.mean()), float(fall.std()) / len(fall) ** 0.5


_NETWORKS = ("student", "average", "best")
_NUMBERS = ("step", "loss", "checks")


def _settle(options: FitOptions, start: Model | None) -> FitOptions:
    """Settle what was left open; raise a `UsageError` for what cannot be."""
    single = start is not None and start.config.inference.passes == "single"
    recipe: RecipeName = options.recipe or ("adapt" if single and not options.smooth else "masked")
    options = dataclasses.replace(options, recipe=recipe)
    if recipe == "adapt":
        return _settle_adapting(options, single=single)
    paper = recipe == "paper"
    if options.minutes is None and options.steps is None:
        end = {"steps": PAPER_STEPS} if paper else {"minutes": MASKED_MINUTES}
        options = dataclasses.replace(options, **end)
    network = start.config.network if start else options.network
    batch = 2 if paper and network == "restormer" else 4
    batch = batch if options.batch is None else options.batch
    stride = 5 if options.stride is None else options.stride
    share = 0.5 if options.hidden_share is None else options.hidden_share
    if min(n for n in (stride, options.infer_stride, batch) if n is not None) < 1:
        raise UsageError("strides and batch begin at 1")
    if options.network != "compact" and (start or not paper):
        raise UsageError(
            f"{options.network} starts fresh by the paper's recipe alone",
            "give --recipe paper, and no --weights",
        )
    if options.smooth and not start:
        raise UsageError(
            "smoothing is the second half of a fit", "fit without it first, then give --weights"
        )
    if not 0 < share < 1:
        raise UsageError("the hidden share lies between 0 and 1")
    patch = options.patch or round(160 / stride) * stride
    if patch < stride or patch % stride:
        raise UsageError(f"the patch is a multiple of the stride {stride}")
    rate = options.rate or (1e-4 if paper else 2e-4 if start else 1e-3)
    return dataclasses.replace(
        options, stride=stride, hidden_share=share, patch=patch, batch=batch, rate=rate
    )


def _settle_adapting(options: FitOptions, *, single: bool) -> FitOptions:
    if not single:
        raise UsageError(
            "only a model that denoises in a single pass can be adapted", "give --recipe masked"
        )
    hides = {
        "--stride": options.stride, "--infer-stride": options.infer_stride,
        "--hidden-share": options.hidden_share, "--smooth": options.smooth or None,
        "--refine": options.refine or None,
    }  # fmt: skip
    given = [name for name, value in hides.items() if value is not None]
    if given:
        raise UsageError(
            f"{given[0]}: adapting hides no pixels", "leave it out, or give --recipe masked"
        )
    patch = 96 if options.patch is None else options.patch
    batch = ADAPT_BATCH if options.batch is None else options.batch
    if batch < 1:
        raise UsageError("strides and batch begin at 1")
    if patch < 1 or patch % 16:
        raise UsageError("the patch of adapting is a multiple of 16")
    return dataclasses.replace(
        options, patch=patch, batch=batch, rate=options.rate or 4e-4,
        steps=options.steps or ADAPT_STEPS,
    )  # fmt: skip


def _scheme(
    shots: Shots, looks: list[Look], options: FitOptions, crew: Crew, device: torch.device
) -> Scheme:
    assert options.recipe is not None and options.patch is not None and options.batch is not None
    if options.recipe == "adapt":
        return Renoising(shots, looks, options.patch, options.batch, options.seed, crew, device)
    assert options.stride is not None and options.hidden_share is not None
    turns = RECIPES[options.recipe].quarter_turns
    patches = Patches(
        shots, Cutter(shots, options.patch, options.seed, quarter_turns=turns),
        stride=options.stride, hidden_share=options.hidden_share,
    )  # fmt: skip
    if options.smooth:
        n_masks = _n_masks(options.hidden_share)
        return Smoothing(patches, options.batch, n_masks, options.seed, crew, device)
    return Hiding(patches, options.batch, crew, device)


def _first_look(
    shots: Shots,
    options: FitOptions,
    start: Model | None,
    device: torch.device,
    progress: Callable[[int, int], None],
) -> list[Look]:
    """Denoise windows with the model to adapt, or some of them with the default."""
    if options.recipe == "paper":
        return []
    adapted = start if options.recipe == "adapt" else None
    model = adapted or load_model(find_weights(None))
    most = None if adapted else SURVEYED
    return look_at(shots, model, most=most, device=device, progress=progress)


def _nothing_to_learn(found: Survey | None, options: FitOptions, start: Model | None) -> str:
    """Tell why a folder needs no fit, or nothing."""
    if found and start and found.clean:
        return "they hold hardly any noise that can be told from texture"
    if found and options.recipe == "adapt" and not found.levels:
        return "they are too small, or too full of texture, to measure their noise"
    return ""


def _samples(shots: Shots) -> tuple[tuple[Path, Photo], ...]:
    """Take a window of each of some photos, evenly spread."""
    first = {window.photo: window for window in reversed(shots.windows)}
    count = min(SAMPLES, len(first))
    chosen = [first[i * len(first) // count] for i in range(count)]
    return tuple((shots.paths[w.photo], Photo(pixels=w.pixels)) for w in chosen)


def _fresh(options: FitOptions) -> ModelConfig:
    recipe = RECIPES[options.recipe or "masked"]
    shape = dataclasses.replace(LIGHT, in_channels=3 + recipe.mask_channel)
    return ModelConfig(
        network=shape if options.network == "compact" else options.network,
        fill=recipe.fill,
        mask_channel=recipe.mask_channel,
    )


def _n_masks(hidden_share: float) -> int:
    """How many complementary masks hide about as much each as one does in training."""
    return max(2, round(1 / hidden_share))


def _describe(run: _Run, shots: Shots, found: Survey | None, folder: Path) -> ModelConfig:
    options = run.options
    inference, settings = run.config.inference, {}
    if options.recipe != "adapt":
        assert options.stride is not None and options.hidden_share is not None
        paper = options.recipe == "paper"
        # A smaller stride than in training keeps detail, as in the paper. What has learned
        # correlated noise before needs none at all, and keeps more.
        stride = min(options.stride, 2) if paper or run.started_from == SCRATCH else 1
        inference = Inference(
            passes="multi",
            n_masks=_n_masks(options.hidden_share),
            stride=options.infer_stride or stride,
            repeats=1 if paper else 4,
            refine=options.refine,
        )
        settings = {"stride": options.stride, "hidden_share": options.hidden_share}
        settings |= {"smoothed": True} if options.smooth else {}
    return dataclasses.replace(
        run.config,
        inference=inference,
        white="",
        cameras=found.cameras if found else {},
        provenance={
            "recipe": options.recipe,
            "fitted_on": folder.resolve().name,
            "photos": len(shots.paths),
            "started_from": run.started_from,
            "steps": run.step,
            **settings,
            "seed": options.seed,
            "held_out_loss": round(run.kept.loss, 6),
        },
    )
