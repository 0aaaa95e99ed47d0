"""The image header of a JPEG XL codestream (ISO 18181-1): sizes, depth, channels and colours."""

from __future__ import annotations

from dataclasses import dataclass

from amsnet_cli.photos.colour import BT709, P3_D65, REC2020, SRGB_CURVE, Chromaticities
from amsnet_cli.photos.colour_model import ColourModel

SIGNATURE = b"\xff\x0a"
_ALPHA = 0
_RGB, _GREY = 0, 1
_CUSTOM = 2
_WHITES: dict[int, tuple[float, ...]] = {1: BT709[:2], 10: (1 / 3, 1 / 3), 11: (0.314, 0.351)}
_PRIMARIES: dict[int, tuple[float, ...]] = {1: BT709[2:], 9: REC2020[2:], 11: P3_D65[2:]}
_BT709_CURVE = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
_CURVES: dict[int, tuple[float, ...]] = {
    1: _BT709_CURVE, 8: (1.0,), 13: SRGB_CURVE, 17: (2.6,)
}  # fmt: skip
_NAMES = {2: "unknown curve", 16: "PQ", 18: "HLG"}
_RELATIVE = 1
_GAMMA_UNIT, _XY_UNIT = 10_000_000, 1_000_000
_NUMBER = ((0, 0), (0, 1), (4, 2), (6, 18))
"""U32 of an enumeration: bits and offset of each of its four forms."""
_XY = ((19, 0), (19, 1 << 19), (20, 1 << 20), (21, 1 << 21))


@dataclass(frozen=True, kw_only=True)
class JxlHeader:
    """What the header says.

    Attributes:
        size: width and height as stored.
        bits: a sample.
        is_float: whether samples are floating point.
        alphas: for each channel behind the colours, "transparency", "associated" or its number.
        animated: whether there are several frames.
        xyb: whether colours are coded in XYB, with loss.
        colours: primaries and curve; None where an ICC profile is coded in their place.
        hdr: the curve's name where `colours` cannot hold it.
        colour_bits: first and last bit, exclusive, of the colours in the codestream.
        end: bits of the whole header, before it is padded; None where it goes on with what this
            program does not write.
    """

    size: tuple[int, int]
    bits: int
    is_float: bool
    alphas: tuple[str, ...]
    animated: bool
    xyb: bool
    colours: ColourModel | None
    hdr: str
    colour_bits: tuple[int, int]
    end: int | None


class _Bits:
    """Bits of a codestream, the lowest of each byte first."""

    def __init__(self, content: bytes) -> None:
        self.value, self.length, self.at = int.from_bytes(content, "little"), 8 * len(content), 0

    def take(self, count: int) -> int:
        if self.at + count > self.length:
            raise ValueError("the header is cut short")
        found = self.value >> self.at & (1 << count) - 1
        self.at += count
        return found

    def number(self, *forms: tuple[int, int]) -> int:
        """Read U32: two bits choose among four forms, each of so many bits and an offset."""
        count, offset = forms[self.take(2)]
        return offset + self.take(count)


def read_header(codestream: bytes) -> JxlHeader:
    """Read the header.

    Args:
        codestream: begins with its signature.

    Raises:
        ValueError: it is malformed or cut short.
    """
    if codestream[:2] != SIGNATURE:
        raise ValueError("no codestream")
    bits = _Bits(codestream[:4096])
    bits.take(16)
    size = _size(bits)
    if bits.take(1):  # all of the metadata are the defaults: 8 bits in XYB, sRGB
        at = bits.at
        return JxlHeader(
            size=size, bits=8, is_float=False, alphas=(), animated=False, xyb=True,
            colours=ColourModel(chromaticities=BT709, curve=SRGB_CURVE), hdr="",
            colour_bits=(at, at), end=None,
        )  # fmt: skip
    animated = False
    extra_fields = bool(bits.take(1))
    if extra_fields:
        bits.take(3)  # orientation, which the decoder applies
        if bits.take(1):
            _size(bits)
        if bits.take(1):
            raise ValueError("a preview")
        animated = bool(bits.take(1))
        if animated:
            bits.number((0, 100), (0, 1000), (10, 1), (30, 1))
            bits.number((0, 1), (0, 1001), (8, 1), (10, 1))
            bits.number((0, 0), (3, 0), (16, 0), (32, 0))
            bits.take(1)
    depth, is_float = _depth(bits)
    bits.take(1)
    alphas = tuple(
        _extra_channel(bits) for _ in range(bits.number((0, 0), (0, 1), (4, 2), (12, 1)))
    )
    xyb = bool(bits.take(1))
    start = bits.at
    colours, hdr = _colours(bits)
    colour_end = bits.at
    plain = not extra_fields or bits.take(1)  # default tone mapping
    end = bits.at + 3 if plain and colours and bits.take(2) == 0 and bits.take(1) else None
    return JxlHeader(
        size=size, bits=depth, is_float=is_float, alphas=alphas, animated=animated, xyb=xyb,
        colours=colours, hdr=hdr, colour_bits=(start, colour_end),
        end=None if end is None else bits.at,
    )  # fmt: skip


def with_colours(codestream: bytes, colours: ColourModel) -> bytes:
    """Replace the colours that a codestream states; its samples stay.

    Args:
        codestream: not in XYB, where samples depend on them.
        colours: primaries for RGB, none for grey.

    Raises:
        ValueError: a header of another kind, or the curve is none that JPEG XL has.
    """
    header = read_header(codestream)
    if header.xyb or header.end is None:
        raise ValueError("colours cannot be replaced in this codestream")
    first, last = header.colour_bits
    value = int.from_bytes(codestream[: -(-header.end // 8)], "little")
    fields = [
        (value & (1 << first) - 1, first),
        *_colour_fields(colours),
        (value >> last & (1 << header.end - last) - 1, header.end - last),
    ]
    joined = length = 0
    for field, count in fields:
        joined |= field << length
        length += count
    return joined.to_bytes(-(-length // 8), "little") + codestream[-(-header.end // 8) :]


def has_curve(curve: tuple[float, ...]) -> bool:
    """Return whether JPEG XL can state a curve."""
    return curve in _CURVES.values() or (len(curve) == 1 and curve[0] >= 1)


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.take(1)

    def side() -> int:
        if small:
            return 8 * (1 + bits.take(5))
        return 1 + bits.number((9, 0), (13, 0), (18, 0), (30, 0))

    height, ratio = side(), bits.take(3)
    if ratio == 0:
        return side(), height
    ratios = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
    over, under = ratios[ratio - 1]
    return height * over // under, height


def _depth(bits: _Bits) -> tuple[int, bool]:
    is_float = bool(bits.take(1))
    if is_float:
        depth = bits.number((0, 32), (0, 16), (0, 24), (6, 1))
        bits.take(4)
        return depth, True
    return bits.number((0, 8), (0, 10), (0, 12), (6, 1)), False


def _extra_channel(bits: _Bits) -> str:
    if bits.take(1):
        return "transparency"
    kind = bits.number(*_NUMBER)
    _depth(bits)
    bits.number((0, 0), (0, 3), (0, 4), (3, 1))
    for _ in range(bits.number((0, 0), (4, 0), (5, 16), (10, 48))):
        bits.take(8)
    if kind != _ALPHA:
        return str(kind)
    return "associated" if bits.take(1) else "transparency"


def _colours(bits: _Bits) -> tuple[ColourModel | None, str]:
    if bits.take(1):
        return ColourModel(chromaticities=BT709, curve=SRGB_CURVE), ""
    has_profile = bits.take(1)
    space = bits.number(*_NUMBER)
    if has_profile:
        return None, ""
    if space not in (_RGB, _GREY):
        raise ValueError(f"colour space {space}")
    white_point = bits.number(*_NUMBER)
    white = _xy(bits) if white_point == _CUSTOM else _WHITES[white_point]
    chromaticities: Chromaticities | None = None
    if space == _RGB:
        kind = bits.number(*_NUMBER)
        others = _xy(bits) + _xy(bits) + _xy(bits) if kind == _CUSTOM else _PRIMARIES[kind]
        whole = tuple(float(value) for value in (*white, *others))
        chromaticities = whole  # type: ignore[assignment]  # eight of them
    if bits.take(1):
        gamma, kind = bits.take(24), -1
        if not gamma:
            raise ValueError("gamma of 0")
        curve: tuple[float, ...] = (_GAMMA_UNIT / gamma,)
    else:
        kind = bits.number(*_NUMBER)
        curve = _CURVES.get(kind, SRGB_CURVE)
    bits.number(*_NUMBER)
    hdr = "" if kind in _CURVES or kind == -1 else _NAMES.get(kind, f"curve {kind}")
    return ColourModel(chromaticities=chromaticities, curve=curve), hdr


def _xy(bits: _Bits) -> tuple[float, ...]:
    packed = (bits.number(*_XY), bits.number(*_XY))
    return tuple((-(p // 2) - 1 if p % 2 else p // 2) / _XY_UNIT for p in packed)


def _colour_fields(colours: ColourModel) -> list[tuple[int, int]]:
    """Return the bits of the colours, as numbers and their lengths."""
    fields = [(0, 2)]  # not the defaults, no ICC profile
    chromaticities = colours.chromaticities
    fields += _number(_GREY if chromaticities is None else _RGB)
    white = BT709[:2] if chromaticities is None else chromaticities[:2]
    fields += _named(white, _WHITES)
    if chromaticities is not None:
        fields += _named(chromaticities[2:], _PRIMARIES)
    name = next((key for key, curve in _CURVES.items() if curve == colours.curve), None)
    if name is not None:
        fields += [(0, 1), *_number(name)]
    elif has_curve(colours.curve):
        fields += [(1, 1), (round(_GAMMA_UNIT / colours.curve[0]), 24)]
    else:
        raise ValueError("JPEG XL has no such tone curve")
    return fields + _number(_RELATIVE)


def _named(values: tuple[float, ...], names: dict[int, tuple[float, ...]]) -> list[tuple[int, int]]:
    name = next((key for key, known in names.items() if known == tuple(values)), None)
    if name is not None:
        return _number(name)
    fields = _number(_CUSTOM)
    for value in values:
        signed = round(value * _XY_UNIT)
        packed = 2 * signed if signed >= 0 else -2 * signed - 1
        fields += _number(packed, _XY)
    return fields


def _number(value: int, forms: tuple[tuple[int, int], ...] = _NUMBER) -> list[tuple[int, int]]:
    for form, (count, offset) in enumerate(forms):
        if 0 <= value - offset < 1 << count:
            return [(form, 2), (value - offset, count)]
    raise ValueError(f"{value} is out of range")
