"""Choose the size of tiles: as large as memory allows, and smaller if it runs out."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from amsnet_cli.errors import DeviceError
from amsnet_cli.inference.memory import PeakMemory, free_memory, is_out_of_memory, release_memory
from amsnet_cli.inference.tiles import Tile, plan_tiles, run_in_bands, run_tiled

LARGEST_TILE = {"cpu": 1024, "mps": 1024, "cuda": 2048}
"""Longest side in pixels, however much memory there is."""
MEMORY_SHARE = 0.3
"""Share of the free memory that a tile's tensors may take. What operators allocate inside
themselves goes unmeasured, and the heap has gaps: where tensors take .1 GB, a tile takes .25."""
PROBE = 128
"""Side in pixels of the tile whose memory is measured."""
SMALL_IMAGE = 1024
"""Side in pixels up to which an image is one tile without a measurement."""

_MEASURED: WeakKeyDictionary[nn.Module, dict[Hashable, float]] = WeakKeyDictionary()
"""Bytes per pixel of a tile, by network; measuring takes as long as denoising a small image."""

Compute = Callable[[Tile], Tensor]


@dataclass(frozen=True, kw_only=True)
class TileNeeds:
    """How a network needs its tiles.

    Attributes:
        align: tiles begin at multiples of this.
        overlap: pixels by which neighbours overlap, a multiple of `align`.
    """

    align: int
    overlap: int


class TileRunner:
    """Computes a region of an image tile by tile.

    Args:
        network: whose memory is measured, once for each `mode` and device.
        mode: how it is run.
        size: (H, W) of the image.
        wanted: the region.
        needs: see `TileNeeds`.
        device: where it computes.
        rounds: how many times all tiles are computed, for `progress`.
        progress: called with the share done.
    """

    def __init__(
        self,
        network: nn.Module,
        mode: Hashable,
        size: tuple[int, int],
        wanted: Tile,
        needs: TileNeeds,
        *,
        device: torch.device,
        rounds: int,
        progress: Callable[[float], None],
    ) -> None:
        self.network, self.mode, self.device, self.wanted = network, mode, device, wanted
        self.align, self.overlap, self.smallest = needs.align, needs.overlap, 2 * needs.overlap
        self.rounds, self.progress, self.done = rounds, progress, 0
        self.around = Tile(
            top=max(0, wanted.top - self.overlap) // self.align * self.align,
            bottom=min(size[0], wanted.bottom + self.overlap),
            left=max(0, wanted.left - self.overlap) // self.align * self.align,
            right=min(size[1], wanted.right + self.overlap),
        )

    def plan(
        self, compute: Compute, tile: int, *, max_memory: int | None, reserve: int, afterwards: int
    ) -> None:
        """Choose the longest side of tiles.

        Args:
            compute: returns the result of a tile of the image.
            tile: the longest side in pixels; 0 chooses by the free memory.
            max_memory: memory budget of this process on the device, in bytes; None for no limit.
            reserve: bytes of the device that the caller is about to fill.
            afterwards: bytes of the device that it needs once all tiles are computed.

        Raises:
            DeviceError: `max_memory` is too little for the smallest tile, or for `afterwards`.
        """
        self.side = tile or LARGEST_TILE[self.device.type]
        if not tile and (max_memory is not None or max(self.around.size) > SMALL_IMAGE):
            self.side = self._side_by_memory(compute, max_memory, reserve, afterwards)
        self.tiles = plan_tiles(self.around.size, self.side, self.overlap, self.align)
        self.side = max(max(tile.size) for tile in self.tiles)

    def bands(self, compute: Compute) -> Iterator[tuple[int, Tensor]]:
        """Compute the wanted rows; yields the first row, from the top of `wanted`, and the rows."""
        inner = self.wanted.relative_to(self.around)
        for top, band in run_in_bands(self._counting(compute), self.tiles):
            first, end = max(top, inner.top), min(top + band.shape[-2], inner.bottom)
            if first < end:
                rows = band[..., first - top : end - top, inner.left : inner.right]
                yield first - inner.top, rows
                del rows  # with the band, before the next is computed
            del band

    def whole(self, compute: Compute) -> Tensor:
        """Compute all of `around`, (1, C, H, W)."""
        return run_tiled(self._counting(compute), self.tiles, self.around.size)

    def _counting(self, compute: Compute) -> Compute:
        def counting(part: Tile) -> Tensor:
            result = self._fitting(compute, part.within(self.around))
            self.done += 1
            self.progress(self.done / (self.rounds * len(self.tiles)))
            return result

        return counting

    def _fitting(self, compute: Compute, part: Tile) -> Tensor:
        """Compute a tile; if memory runs out, halve the size of this and of all later tiles."""
        if max(part.size) <= self.side:
            try:
                return compute(part)
            except (MemoryError, RuntimeError) as error:
                self.side = max(part.size) // 2
                if not is_out_of_memory(error) or self.side < self.smallest:
                    raise
            release_memory(self.device)
        parts = plan_tiles(part.size, self.side, self.overlap, self.align)
        return run_tiled(lambda p: self._fitting(compute, p.within(part)), parts, part.size)

    def _side_by_memory(
        self, compute: Compute, max_memory: int | None, reserve: int, afterwards: int
    ) -> int:
        """Return the largest side that the free memory allows, measured with a small tile."""
        height, width = self.around.size
        per_pixel = self._bytes_per_pixel(compute) / MEMORY_SHARE
        release_memory(self.device)
        free = free_memory(self.device, max_memory) - reserve
        per_row = 3 * 4 * width  # of a row of tiles, three float32 channels
        # per_row * self.overlap is kept from the previous row of tiles.
        room = max(0, free - per_row * self.overlap)
        # The positive root of per_pixel * side**2 + per_row * side = room.
        fitting = int((math.sqrt(per_row**2 + 4 * per_pixel * room) - per_row) / (2 * per_pixel))
        smallest = min(self.smallest, max(height, width))
        least = per_pixel * smallest**2 + per_row * (smallest + self.overlap)
        missing = max(least, afterwards) - free
        if max_memory is not None and missing > 0:
            raise DeviceError(
                f"{max_memory / 1e9:.2f} GB are too little memory for this photo",
                f"allow --max-memory {(max_memory + missing) / 1e9 + 0.01:.2f}G",
            )
        return min(LARGEST_TILE[self.device.type], max(fitting, self.smallest))

    def _bytes_per_pixel(self, compute: Compute) -> float:
        measured = _MEASURED.setdefault(self.network, {})
        if (self.mode, self.device) not in measured:
            height, width = self.around.size
            side = -(-PROBE // self.align) * self.align
            probe = Tile(top=0, bottom=min(height, side), left=0, right=min(width, side))
            with PeakMemory() as peak:
                compute(probe.within(self.around))
            measured[self.mode, self.device] = peak.bytes / (probe.bottom * probe.right)
        return measured[self.mode, self.device]
