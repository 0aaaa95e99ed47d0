"""Keep EXIF and XMP true to the pixels: orientation, sizes, thumbnails, what they point at."""

from __future__ import annotations

from dataclasses import replace

from amsnet_cli.photos import exif, xmp
from amsnet_cli.photos.photo import Photo

_VIDEO = (
    *("MotionPhoto", "MotionPhotoVersion", "MotionPhotoPresentationTimestampUs", "MicroVideo"),
    *("MicroVideoVersion", "MicroVideoOffset", "MicroVideoPresentationTimestampUs"),
)
_ATTACHMENTS = (xmp.CONTAINER, xmp.GAIN_MAP, xmp.APPLE_GAIN_MAP, xmp.DEPTH, xmp.IMAGE, xmp.AUDIO)
_SIZES = (("ImageWidth", "ImageLength"), ("PixelXDimension", "PixelYDimension"))


def marked_upright(photo: Photo) -> Photo:
    """Make the metadata of pixels that their decoder has turned upright say so.

    A thumbnail that would lie on its side is removed.
    """
    block, packet = photo.exif, photo.xmp
    if block is not None:
        if exif.orientation_of(block) != 1:
            block = exif.without_thumbnail(block)
        block = exif.with_orientation(block, 1)
    if packet is not None:
        packet = xmp.with_number(packet, xmp.TIFF, "Orientation", 1)
    return replace(photo, exif=block, xmp=packet, orientation=1)


def with_true_sizes(photo: Photo) -> Photo:
    """Set the sizes and the orientation that EXIF and XMP state to those of the photo.

    A panorama's position and size, and the thumbnail, are removed if the size has changed.
    """
    height, width = photo.pixels.shape[:2]
    block, packet = photo.exif, photo.xmp
    if block is not None:
        stated = exif.size_of(block)
        if stated not in (None, (width, height)):
            block = exif.with_size(exif.without_thumbnail(block), (width, height))
    if packet is not None:
        for namespace, names in zip((xmp.TIFF, xmp.EXIF), _SIZES, strict=True):
            for name, size in zip(names, (width, height), strict=True):
                packet = xmp.with_number(packet, namespace, name, size)
        packet = xmp.with_number(packet, xmp.TIFF, "Orientation", photo.orientation)
        if xmp.number(packet, xmp.PANORAMA, "CroppedAreaImageWidthPixels") not in (None, width):
            packet = xmp.without(packet, xmp.PANORAMA)
    return replace(photo, exif=block, xmp=packet)


def without_whole_picture(photo: Photo) -> Photo:
    """Remove what shows or describes more than a part that was cut out: thumbnail and panorama."""
    block = photo.exif and exif.without_thumbnail(photo.exif)
    packet = photo.xmp
    if packet is not None:
        packet = xmp.without(xmp.without(packet, xmp.PANORAMA), xmp.THUMBNAILS, "Thumbnails")
    return replace(photo, exif=block, xmp=packet)


def without_attachments(photo: Photo) -> Photo:
    """Remove from XMP what points at videos, gain maps, depth maps and further XMP."""
    packet = photo.xmp
    if packet is None:
        return photo
    packet = xmp.without(packet, xmp.CAMERA, *_VIDEO)
    for namespace in _ATTACHMENTS:
        packet = xmp.without(packet, namespace)
    return replace(photo, xmp=xmp.without(packet, xmp.EXTENDED, "HasExtendedXMP"))
