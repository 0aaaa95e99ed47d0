"""Which GPUs of this machine share a batch of `amsnet denoise`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from amsnet_cli.batch.url import is_url
from amsnet_cli.cli.console import say
from amsnet_cli.cli.pipes import PIPE
from amsnet_cli.errors import UsageError


def several_gpus(device: str, places: Sequence[str | None], *, many: bool) -> list[str]:
    """Return the GPUs that share a batch, each with a process of its own; none if one is enough.

    Args:
        device: as asked for.
        places: inputs and output of the command.
        many: whether there are several photos.

    Raises:
        DeviceError: there are no such GPUs.
        UsageError: several are named, and photos cannot be sent to processes, or Dask is missing.
    """
    named = "," in device
    if not named and (not many or device not in ("auto", "cuda")):
        return []
    from amsnet_cli.device import choose_devices

    devices = choose_devices(device)
    if len(devices) < 2:
        return []
    for place in places:
        if place is not None and (place == PIPE or is_url(place)):
            if named:
                raise UsageError(f"--device {device}: several GPUs need files, not {place}",
                                 "name files, or one GPU")  # fmt: skip
            return []
    if find_spec("distributed") is None:
        install = "pip install 'amsnet[cluster]'"
        if named:
            raise UsageError(f"--device {device}: Dask is not installed", f"run: {install}")
        say(f"one of {len(devices)} GPUs is used; for all: {install}")
        return []
    return devices
