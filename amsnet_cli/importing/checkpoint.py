"""Check a PyTorch checkpoint without running anything in it.

A checkpoint is a pickle together with raw tensor data. A pickle is a program for a small stack
machine, which may call any function it can import. `read_checkpoint` simulates the machine and
accepts only programs that build dictionaries of tensors.

`torch.load(weights_only=True)`, which loads the returned content, is a second barrier against code.
It is not enough: it hashes any key and allocates any storage, so a small file could take unbounded
time or memory.
"""

from __future__ import annotations

import io
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from amsnet_cli.errors import WeightsError

SIZE_LIMIT = 1 << 30
"""Largest file in bytes that is read; the largest known checkpoint has 117 million."""
PICKLE_LIMIT = 16 << 20
"""Largest pickle in bytes; those of known checkpoints have less than a million."""

_ORDERED_DICT = "collections.OrderedDict"
_REBUILD = "torch._utils._rebuild_tensor_v2"
_ITEM_SIZE = {
    "torch.DoubleStorage": 8, "torch.FloatStorage": 4, "torch.HalfStorage": 2,
    "torch.BFloat16Storage": 2, "torch.LongStorage": 8, "torch.IntStorage": 4,
    "torch.ShortStorage": 2, "torch.CharStorage": 1, "torch.ByteStorage": 1,
    "torch.BoolStorage": 1,
}  # fmt: skip
_GLOBALS = {_ORDERED_DICT, _REBUILD, *_ITEM_SIZE}

# The records of torch.save, all in one folder.
_RECORD = re.compile(
    r"(?P<folder>[^/\\]+)/(data\.pkl|data/\d+|version|byteorder"
    r"|\.format_version|\.storage_alignment|\.data/serialization_id)"
)
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""First bytes of files by torch before 1.6, which are five pickles and then the storages."""


class _Global(NamedTuple):
    name: str


class _Storage(NamedTuple):
    key: str


class _Tensor:
    """Placeholder for a tensor."""


def read_checkpoint(path: Path) -> io.BytesIO:
    """Read a checkpoint that contains only dictionaries and lists of tensors, numbers and text.

    Args:
        path: written by `torch.save`, as a zip archive or in the format before torch 1.6.

    Returns:
        The checked content, for `torch.load`. An archive is packed anew from the checked records:
        torch's zip reader may understand a crafted file differently than Python's.

    Raises:
        WeightsError: it is not a checkpoint, is damaged, or would run code.
    """
    if not path.is_file():
        what = "not a regular file" if path.exists() else "no such file"
        raise WeightsError(f"{path}: {what}", "name a checkpoint")
    try:
        if path.stat().st_size > SIZE_LIMIT:
            raise _RefusedError(
                f"more than {SIZE_LIMIT >> 20} MB, larger than any known checkpoint"
            )
        content = path.read_bytes()
        if content.startswith(b"PK\x03\x04"):
            return _repack(content)
        if content.startswith(_LEGACY):
            stream = io.BytesIO(content)
            for _ in range(5):
                _check_pickle(stream, len(content))
            stream.seek(0)
            return stream
        raise _RefusedError(f"not a checkpoint: it begins with {content[:8]!r}")
    except _RefusedError as error:
        raise WeightsError(f"{path}: refused: {error}", "nothing in it was run") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error


class _RefusedError(Exception):
    """The file is refused; the message says why."""


def _repack(content: bytes) -> io.BytesIO:
    packed = io.BytesIO()
    try:
        with (
            zipfile.ZipFile(io.BytesIO(content)) as archive,
            zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as again,
        ):
            records = archive.infolist()
            _check_records(records, len(content))
            for record in records:
                data = archive.read(record)  # and compare the CRC
                if record.filename.endswith("/data.pkl"):
                    stream = io.BytesIO(data)
                    _check_pickle(stream, len(content))
                    if stream.read(1):
                        raise _RefusedError("bytes after the end of its pickle")
                again.writestr(zipfile.ZipInfo(record.filename), data)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        raise _RefusedError(f"a damaged archive ({error})") from error
    packed.seek(0)
    return packed


def _check_records(records: list[zipfile.ZipInfo], size: int) -> None:
    names = [record.filename for record in records]
    folders = set()
    for record in records:
        match = _RECORD.fullmatch(record.filename)
        if not match:
            raise _RefusedError(f"its record {record.filename!r} does not belong in a checkpoint")
        folders.add(match["folder"])
        if record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size:
            raise _RefusedError(
                f"its record {record.filename!r} is compressed; torch.save never compresses"
            )
        if record.filename.endswith("/data.pkl") and record.file_size > PICKLE_LIMIT:
            raise _RefusedError(f"its pickle has {record.file_size} bytes, more than any known one")
    if len(folders) > 1 or len(set(names)) < len(names):
        raise _RefusedError("several records of one name, or several folders")
    if not any(name.endswith("/data.pkl") for name in names):
        raise _RefusedError("an archive without a pickle, not a checkpoint")
    if sum(record.file_size for record in records) > size:
        raise _RefusedError("its records overlap")


def _check_pickle(stream: io.BytesIO, size: int) -> None:
    """Simulate one pickle; leaves the stream at its end.

    Args:
        stream: at the start of a pickle.
        size: of the whole file in bytes; its storages cannot have more.

    Raises:
        _RefusedError: it does anything else than build dictionaries of tensors.
    """
    machine = _Machine(size)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # invalid escapes
            for op, argument, _ in pickletools.genops(stream):
                machine.step(op.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, RecursionError) as error:
        raise _RefusedError(f"its pickle is damaged ({type(error).__name__}: {error})") from error


class _Machine:
    """The pickle machine, restricted to the opcodes of `torch.save`; nothing is called."""

    def __init__(self, size: int) -> None:
        self._free = size  # bytes of the file that no storage has claimed yet
        self._storages: set[str] = set()
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:  # noqa: PLR0912  one case for each kind of opcode
        """Execute one opcode."""
        stack = self._stack
        match name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                stack.pop()
                if stack or self._marks:
                    raise ValueError("ends too early")
            case "NONE" | "BINFLOAT" | "BINUNICODE" | "SHORT_BINSTRING" | "BINSTRING":
                stack.append(argument)
            case "BININT" | "BININT1" | "BININT2" | "LONG1":
                stack.append(argument)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(name == "NEWTRUE")
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "MARK":
                self._marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(self._to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(self._pop_tuple(int(name[-1])))
            case "APPEND":
                self._put([stack.pop()], list)
            case "APPENDS":
                self._put(self._to_mark(), list)
            case "SETITEM":
                self._put(list(self._pop_tuple(2)), dict)
            case "SETITEMS":
                self._put(self._to_mark(), dict)
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "GLOBAL":
                stack.append(_global(argument))
            case "REDUCE":
                stack.append(_call(*self._pop_tuple(2)))
            case "BUILD":
                state = stack.pop()
                _check_state(stack[-1], state)
            case "BINPERSID":
                stack.append(self._storage(stack.pop()))
            case _:
                raise _RefusedError(f"its pickle uses {name}, which no checkpoint needs")

    def _to_mark(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _pop_tuple(self, count: int) -> tuple[Any, ...]:
        items = tuple(self._stack[-count:])
        if len(items) < count:
            raise ValueError("empty stack")
        del self._stack[-count:]
        return items

    def _put(self, items: list[Any], into: type) -> None:
        """Add items to the list or dictionary at the top of the stack."""
        owner = self._stack[-1]
        if into is list and isinstance(owner, list):
            owner.extend(items)
            return
        if not (into is dict and isinstance(owner, dict)) or len(items) % 2:
            raise ValueError("adds items to something else than a list or dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing a nested tuple can take exponential time.
            if not isinstance(key, str | int):
                raise _RefusedError("it has a dictionary key that is neither text nor a number")
            owner[key] = value

    def _storage(self, reference: Any) -> _Storage:
        match reference:
            case ("storage", _Global(kind), str(key), str(), int(count), *rest) if (
                kind in _ITEM_SIZE and key.isdigit() and rest in ([], [None])
            ):
                needed = 0 if key in self._storages else count * _ITEM_SIZE[kind]
                if not 0 <= needed <= self._free:
                    raise _RefusedError(f"a storage of {count} numbers, more than the file has")
                self._storages.add(key)
                self._free -= needed
                return _Storage(key)
        raise _RefusedError("it refers to something other than a tensor's storage")


def _global(argument: str) -> _Global:
    name = ".".join(argument.split(" "))
    if name not in _GLOBALS:
        raise _RefusedError(f"its pickle imports {name}, which no known checkpoint needs")
    return _Global(name)


def _call(function: Any, arguments: Any) -> _Tensor | dict[Any, Any]:
    match function, arguments:
        case _Global(name), () if name == _ORDERED_DICT:
            return {}
        case _Global(name), (_Storage(), *_) if name == _REBUILD:
            return _Tensor()
    raise _RefusedError("its pickle makes a call that no checkpoint needs")


def _check_state(owner: Any, state: Any) -> None:
    # torch stores the versions of modules in an attribute of the state dict.
    if not isinstance(owner, dict) or not isinstance(state, dict) or set(state) - {"_metadata"}:
        raise _RefusedError("its pickle sets the state of an object, which no checkpoint needs")
