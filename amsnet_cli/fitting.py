"""Fit a model to a folder of noisy photos by the paper's scheme; no clean pictures needed.

The loop reads from top to bottom in `fit`. A fixed 2 % of every photo's pixels is *held out*:
always hidden, and never part of the training loss. How well they are predicted decides which
state is kept.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from amsnet_cli.core.downsampling import pd_up
from amsnet_cli.core.inference import multi_mask_pass
from amsnet_cli.core.masks import Fill, partition_masks
from amsnet_cli.core.networks import CompactUNetConfig, PaperNetwork
from amsnet_cli.core.objective import masked_l1, prior_smoothing
from amsnet_cli.device import fast_precision, memory_errors
from amsnet_cli.errors import OutputError, TrainingError, UsageError
from amsnet_cli.model import Inference, Model, ModelConfig, build_network, save_model
from amsnet_cli.parallel import Crew
from amsnet_cli.patches import Patches

HELD_OUT_PATCHES = 24
PAPER_STEPS = 25_000
SCRATCH = "scratch"
CHECKS = 20
"""How often in a run the held-out loss is measured."""
RESUME_EVERY = 60.0
"""Seconds between two saved states, for `resume`."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a fit takes from where it comes from, and its user leaves alone.

    Attributes:
        fill: what a fresh network finds in hidden pixels.
        mask_channel: whether a fresh network is given the mask.
        quarter_turns: whether patches are turned as well as mirrored.
        warm_up: steps in which the rate rises.
        gradient_norm: what gradients are clipped to.
        ema_decay: of the average of the weights that is kept; 0 keeps the weights themselves.
        keep: the state of the lowest held-out loss, or the last.
    """

    fill: Fill
    mask_channel: bool
    quarter_turns: bool
    warm_up: int
    gradient_norm: float
    ema_decay: float
    keep: Literal["best", "last"]


RecipeName = Literal["default", "paper"]
RECIPES: dict[RecipeName, Recipe] = {
    "default": Recipe(
        fill="mean", mask_channel=True, quarter_turns=True, warm_up=100, gradient_norm=1.0,
        ema_decay=0.998, keep="best",
    ),
    "paper": Recipe(
        fill="zeros", mask_channel=False, quarter_turns=False, warm_up=1, gradient_norm=math.inf,
        ema_decay=0.0, keep="last",
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How to fit.

    Attributes:
        recipe: "paper" trains as the paper does: zeros in hidden pixels, the network not told
            of them, AdamW at a rate that falls from 1e-4 by a cosine, the last weights kept.
        network: which network starts fresh; those of the paper need its recipe.
        match: pattern of the names of the photos to learn from, such as "*NOISY*".
        smooth: fine-tune with prior smoothing (variant P) instead of hiding pixels; needs a model
            to start from.
        minutes: stop after this long, or None.
        steps: stop after this many optimiser steps, or None. With steps alone, the same seed
            gives the same bytes on the same machine; minutes depend on its speed.
        stride: of the pixel-shuffle downsampling of patches; 5 in the paper.
        infer_stride: the same for the fitted model at work; None for at most 2, as in the paper,
            or 1 if it starts from a model by the default recipe.
        hidden_share: how much of a sub-image is hidden; half in the paper.
        patch: side of a training patch in pixels, a multiple of stride; None chooses about 160.
        batch: patches a step, of all processes together; None for 4, or 2 for Restormer by the
            paper's recipe.
        rate: peak learning rate, None for 1e-4 by the paper's recipe, else 1e-3 from scratch and
            2e-4 from a model.
        refine: share of random replacement refinement of the fitted model at work (variant E).
        precision: "float32" never lets convolutions run in bfloat16.
        seed: of everything random.
    """

    recipe: RecipeName = "default"
    network: Literal["compact"] | PaperNetwork = "compact"
    match: str = "*"
    smooth: bool = False
    minutes: float | None = 10.0
    steps: int | None = None
    stride: int = 5
    infer_stride: int | None = None
    hidden_share: float = 0.5
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
        loss: masked L1 on recent training patches, in [0, 1] units.
        held_out: the latest held-out loss, same units.
        best: of the state that would be kept now: the lowest so far, or by the paper's recipe the
            latest.
        steps_per_second: over the whole run.
        seconds_left: estimate.
    """

    step: int
    share: float
    loss: float
    held_out: float
    best: float
    steps_per_second: float
    seconds_left: float


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What a fit has made.

    Attributes:
        model: the fitted model's file.
        steps: optimiser steps done.
        photos: how many photos it saw.
        skipped: what could not be read, with the reason.
        first_held_out: held-out loss before the first step.
        best_held_out: of the state that was kept.
        interrupted: whether it was stopped before its budget was used; `resume` goes on.
    """

    model: Path
    steps: int
    photos: int
    skipped: tuple[str, ...]
    first_held_out: float
    best_held_out: float
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
    progress: Callable[[FitProgress], None] = lambda p: None,
    notice: Callable[[str], None] = lambda line: None,
    stopped: Callable[[], bool] = lambda: False,
) -> FitResult:
    """Train a network on the noisy photos of a folder alone (AMSNet, the single mask scheme).

    Args:
        folder: searched for photos recursively; they are only read.
        output: the model file to write. While fitting, `output` + ".resume" holds the state.
        options: see `FitOptions`.
        start: the model to start from; None for a fresh network.
        resume: go on from the state beside `output`, with the same photos and options.
        device: where to compute.
        crew: the processes that share the fit, all called alike; the first one writes, and
            its clock and `stopped` count.
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
    options = _check(options, start)
    assert options.patch is not None and options.batch is not None
    if options.batch % crew.size:
        raise UsageError(
            f"{crew.size} processes cannot share a batch of {options.batch}",
            f"give --batch {crew.size}, or a multiple of it",
        )
    patches = Patches(
        folder, match=options.match, side=options.patch, stride=options.stride,
        hidden_share=options.hidden_share, seed=options.seed,
        quarter_turns=RECIPES[options.recipe].quarter_turns, notice=notice,
    )  # fmt: skip
    state_path = resume_path(output)
    with memory_errors(device):
        run = _Run(patches, options, start, device, crew)
        if resume:
            run.restore(state_path)
        saved = time.monotonic()
        while True:
            share = run.share()
            share = crew.from_first(math.inf if share < 1 and stopped() else share)
            if share >= 1:
                break
            run.train_step(share)
            if crew.first:
                run.check_held_out()
                progress(run.progress())
                if time.monotonic() - saved > RESUME_EVERY:
                    run.save(state_path)
                    saved = time.monotonic()
        interrupted = math.isinf(share)
        if crew.first:
            if interrupted:  # Before the last check, which an uninterrupted fit would not make.
                run.save(state_path)
            run.check_held_out(final=True)
            progress(run.progress())
    if crew.first:
        save_model(output, run.best, _describe(run, folder, options))
        if not interrupted:
            state_path.unlink(missing_ok=True)
    return FitResult(
        model=output, steps=run.step, photos=patches.photos,
        skipped=tuple(patches.skipped),
        first_held_out=run.first_held_out, best_held_out=run.best_held_out,
        interrupted=interrupted,
    )  # fmt: skip


def resume_path(output: Path) -> Path:
    """Where the state of an interrupted fit to `output` lies."""
    return output.with_name(output.name + ".resume")


class _Run:
    """One fit's state: everything that a step changes, and that `resume` brings back."""

    def __init__(
        self,
        patches: Patches,
        options: FitOptions,
        start: Model | None,
        device: torch.device,
        crew: Crew,
    ) -> None:
        self.patches, self.options, self.device, self.crew = patches, options, device, crew
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
        self.optimiser = torch.optim.AdamW(self.student.parameters(), options.rate, weight_decay=0)
        self.step = 0
        self.spent = 0.0
        self.loss = math.nan
        self.checks = 0
        self.started = time.monotonic()
        self.held_out = self.first_held_out = self.best_held_out = self._held_out_loss()

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

    def train_step(self, share: float) -> None:
        """Hide, predict, compare what was hidden, improve."""
        options, recipe = self.options, self.recipe
        assert options.rate is not None
        warm = min(1.0, (self.step + 1) / recipe.warm_up)
        for group in self.optimiser.param_groups:
            group["lr"] = options.rate * warm * 0.5 * (1 + math.cos(math.pi * share))
        loss = self._smoothing_loss() if options.smooth else self._masked_loss()
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

    def _masked_loss(self) -> Tensor:
        """The single mask scheme, on this process's part of the batch."""
        assert self.options.batch is not None
        draw = self._draw(self.options.batch, ("train", self.step))
        noisy, hidden, held_out = (self.crew.share_of(x) for x in draw)
        with fast_precision(self.device, self.fast):
            prediction = self.together(noisy, hidden | held_out)
        counts = hidden & ~held_out
        loss = masked_l1(prediction, noisy, counts)
        if self.crew.size > 1:  # Parts hide more or less; the mean counts each pixel alike.
            whole = (draw[1] & ~draw[2]).sum()
            loss = loss * (counts.sum() * self.crew.size / whole)
        return loss

    def _smoothing_loss(self) -> Tensor:
        """Prior smoothing of the multi-mask pass's output, joined (variant P)."""
        options = self.options
        assert options.batch is not None and options.patch is not None
        draw = self._draw(options.batch, ("train", self.step))
        noisy, _, held_out = (self.crew.share_of(x) for x in draw)
        generator = torch.Generator().manual_seed(((options.seed << 32) + self.step) % 2**63)
        n_masks, size = _n_masks(options), (len(draw[0]), noisy.shape[-2], noisy.shape[-1])
        index = self.crew.share_of(partition_masks(n_masks, size, generator)).to(self.device)
        with fast_precision(self.device, self.fast):
            denoised = multi_mask_pass(
                lambda x, hidden: self.together(x, hidden | held_out), noisy, index, n_masks
            )
        side = (options.patch, options.patch)
        # What is held out stays so: there the output is its own target.
        target = torch.where(held_out, denoised.detach(), noisy)
        return prior_smoothing(
            pd_up(denoised, options.stride, side), pd_up(target, options.stride, side)
        )

    def check_held_out(self, *, final: bool = False) -> None:
        """Measure the average's held-out loss now and then; keep the best."""
        due = int(self.share() * CHECKS)
        if due <= self.checks and not final:
            return
        self.checks = due
        self.held_out = self._held_out_loss()
        if self.held_out < self.best_held_out or self.recipe.keep == "last":
            self.best_held_out = self.held_out
            self.best.load_state_dict(self.average.state_dict())

    def progress(self) -> FitProgress:
        elapsed, share = self.elapsed(), self.share()
        return FitProgress(
            step=self.step, share=share, loss=self.loss, held_out=self.held_out,
            best=self.best_held_out, steps_per_second=self.step / elapsed,
            seconds_left=elapsed * (1 - share) / share if share else math.inf,
        )  # fmt: skip

    def _held_out_loss(self) -> float:
        """Masked L1 on held-out pixels of a fixed set of patches under fixed masks."""
        total = 0.0
        with (
            torch.inference_mode(),
            fast_precision(self.device, self.fast),
        ):
            for i in range(HELD_OUT_PATCHES):
                noisy, hidden, held_out = self._draw(1, ("held out", i))
                prediction = self.average(noisy, hidden | held_out)
                total += masked_l1(prediction, noisy, held_out).item()
        return total / HELD_OUT_PATCHES

    def _draw(self, count: int, key: tuple[str, int]) -> list[Tensor]:
        return [x.to(self.device) for x in self.patches.draw(count, key)]

    def save(self, path: Path) -> None:
        """Write the whole state, for `resume`."""
        state: dict[str, Any] = {
            "options": dataclasses.asdict(self.options),
            "started_from": self.started_from,
            "photos": self.patches.fingerprint(),
            "numbers": {k: getattr(self, k) for k in _NUMBERS},
            "spent": self.elapsed(),
            "optimiser": self.optimiser.state_dict(),
        }
        for name in _NETWORKS:
            state[name] = getattr(self, name).state_dict()
        part = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                torch.save(state, part)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
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
        if state["photos"] != self.patches.fingerprint():
            raise TrainingError(
                "the folder's photos have changed since the fit was interrupted",
                "start it without --resume",
            )
        for name in _NETWORKS:
            getattr(self, name).load_state_dict(state[name])
        self.optimiser.load_state_dict(state["optimiser"])
        for name, value in state["numbers"].items():
            setattr(self, name, value)
        self.spent, self.started = state["spent"], time.monotonic()


_NETWORKS = ("student", "average", "best")
_NUMBERS = ("step", "loss", "checks", "held_out", "first_held_out", "best_held_out")


def _check(options: FitOptions, start: Model | None) -> FitOptions:
    """Settle what was left open; raise a `UsageError` for what cannot be."""
    if options.minutes is None and options.steps is None:
        raise UsageError("a fit needs an end", "give --minutes or --steps")
    paper = options.recipe == "paper"
    network = start.config.network if start else options.network
    batch = 2 if paper and network == "restormer" else 4
    batch = batch if options.batch is None else options.batch
    if min(n for n in (options.stride, options.infer_stride, batch) if n is not None) < 1:
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
    if not 0 < options.hidden_share < 1:
        raise UsageError("the hidden share lies between 0 and 1")
    patch = options.patch or round(160 / options.stride) * options.stride
    if patch < options.stride or patch % options.stride:
        raise UsageError(f"the patch is a multiple of the stride {options.stride}")
    rate = options.rate or (1e-4 if paper else 2e-4 if start else 1e-3)
    return dataclasses.replace(options, patch=patch, batch=batch, rate=rate)


def _fresh(options: FitOptions) -> ModelConfig:
    recipe = RECIPES[options.recipe]
    shape = CompactUNetConfig(in_channels=3 + recipe.mask_channel)
    return ModelConfig(
        network=shape if options.network == "compact" else options.network,
        fill=recipe.fill,
        mask_channel=recipe.mask_channel,
    )


def _n_masks(options: FitOptions) -> int:
    """How many complementary masks hide about as much each as one does in training."""
    return max(2, round(1 / options.hidden_share))


def _describe(run: _Run, folder: Path, options: FitOptions) -> ModelConfig:
    paper = options.recipe == "paper"
    # A smaller stride than in training keeps detail, as in the paper. What has learned correlated
    # noise before needs none at all, and keeps more.
    stride = min(options.stride, 2) if paper or run.started_from == SCRATCH else 1
    variant: dict[str, Any] = {"recipe": options.recipe} if paper else {}
    if options.smooth:
        variant["smoothed"] = True
    return dataclasses.replace(
        run.config,
        inference=Inference(
            passes="multi",
            n_masks=_n_masks(options),
            stride=options.infer_stride or stride,
            repeats=1 if paper else 4,
            refine=options.refine,
        ),
        provenance={
            **variant,
            "fitted_on": folder.resolve().name,
            "photos": run.patches.photos,
            "started_from": run.started_from,
            "steps": run.step,
            "stride": options.stride,
            "hidden_share": options.hidden_share,
            "seed": options.seed,
            "held_out_loss": round(run.best_held_out, 6),
        },
    )
