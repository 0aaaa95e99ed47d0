"""libvips without its chatter.

What it warns of would reach the terminal, in lines of its own making; and pyvips stumbles over
messages that are no UTF-8, as damaged files provoke them.
"""

from __future__ import annotations

import atexit

import pyvips

_LEVELS = pyvips.GLogLevelFlags
_silent = pyvips.ffi.callback("GLogFunc", lambda domain, level, message, data: None)
_handler = pyvips.glib_lib.g_log_set_handler(
    b"VIPS",
    _LEVELS.LEVEL_DEBUG | _LEVELS.LEVEL_INFO | _LEVELS.LEVEL_MESSAGE | _LEVELS.LEVEL_WARNING,
    _silent,
    pyvips.ffi.NULL,
)
atexit.register(pyvips.glib_lib.g_log_remove_handler, b"VIPS", _handler)

__all__ = ["pyvips"]
