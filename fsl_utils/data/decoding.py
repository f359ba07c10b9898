"""One image file to one picture: fixed formats, one frame, upright, on one ground, 8 bits.

Whoever reads an image file opens it here. Pillow may not guess among all its formats, since some
of its readers start other programs (an EPS starts Ghostscript).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from fsl_utils import StudyError, files

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "DIB", "GIF", "WEBP", "JPEG2000", "PPM", "AVIF")
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".gif", ".webp"),
    *(".jp2", ".j2k", ".pgm", ".ppm", ".pbm", ".pnm", ".avif"),
)
GROUND = "white"  # seen through transparent pixels, as on a page

_STRIP = 256  # rows of a 16-bit image that are scaled at once
_PHOTOMETRIC, _SUBFILE = 262, 254  # TIFF tags
_PREVIEW = 0b101  # bits of _SUBFILE: a reduced copy, a transparency mask


class OtherFormat(StudyError):
    """The file holds an image of a format that is not read: `format`."""

    def __init__(self, path: Path, format: str):
        super().__init__(f"{path}: {format}, which is not read; save it as PNG")
        self.format = format


class Levels(NamedTuple):
    """Grey levels of 16-bit files that become 0 and 255."""

    black: int = 0
    white: int = 65535


class Picture(NamedTuple):
    """A file's picture before its grey levels become 8 bits.

    image: of an 8-bit mode, or I;16 or I (signed) for 16-bit grey. deep: the file holds 16 bits a
    channel (in colour Pillow keeps the upper 8 alone). inverted: 0 is white; Pillow mends this
    where there are 8 bits. turned: EXIF said so. see_through: some pixel is.
    """

    image: Image.Image
    deep: bool
    inverted: bool
    turned: bool
    see_through: bool

    @property
    def grey16(self) -> bool:
        """Whether its levels are to be scaled."""
        return self.image.mode in ("I;16", "I")


def decode(path: Path, channels: int, levels: Levels | None = None) -> Image.Image:
    """Read one image as 8-bit grey (channels=1) or RGB (channels=3), upright, on a white ground.

    16-bit images are scaled by `levels` (their full range), never by their own contrast, so that
    two images stay comparable. Raises StudyError naming the file where it is empty, truncated, not
    an image, holds several pages or frames, 32 bits a pixel, or more pixels than PIL's bomb limit.
    """
    found = picture(path)
    image = _eight_bits(found, levels or Levels()) if found.grey16 else found.image
    return image.convert("L" if channels == 1 else "RGB")


def picture(path: Path) -> Picture:
    """The picture in a file, upright, on the ground, at its own depth. Errors: as of `decode`."""
    with opened(path) as image:
        deep = ";16" in str(getattr(image, "tile", "")) or image.mode.startswith("I;16")
        inverted = deep and image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0
        # Of a TIFF the tag is there until Pillow has loaded and turned it.
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
        image.load()
        if image.mode.startswith("I;16"):
            image = image.convert("I;16")  # one order of bytes
        elif image.mode == "F" or (image.mode == "I" and not deep and image.format != "PPM"):
            raise StudyError(
                f"{path}: 32 bits a pixel, of unknown range; save it with 8 or 16 bits"
            )
        if turned:
            image = ImageOps.exif_transpose(image)
        see_through, image = _on_ground(image)
        return Picture(image, deep, inverted, turned, see_through)


def size(path: Path) -> tuple[int, int]:
    """Width and height of an image as it is seen, from its header."""
    with opened(path) as image:
        exif = Image.Image.getexif(image)  # PNG's own would decode the image
        on_its_side = exif.get(ExifTags.Base.Orientation, 1) in range(5, 9)
        # A TIFF says at once how large it is when turned.
        return image.size[::-1] if on_its_side and image.format != "TIFF" else image.size


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image file, opened as one of FORMATS at its only frame; any fault is a StudyError."""
    try:
        # As a file: of a path, Pillow maps uncompressed TIFFs and scrambles those that are turned.
        with files.plain(path) as file, Image.open(file, formats=FORMATS) as image:
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError(f"{image.width}x{image.height}")
            _one_frame(image, path)
            yield image
    except (StudyError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise StudyError(f"{path}: no such image") from error
    except PermissionError as error:
        raise StudyError(f"{path}: no permission to read it; change its mode or owner") from error
    except Image.DecompressionBombError as error:
        raise StudyError(f"{path}: too many pixels ({error}); scale it down") from error
    except UnidentifiedImageError as error:
        if other := _other_format(path):
            raise OtherFormat(path, other) from error
        raise StudyError(f"{path}: not a readable image; replace or remove it") from error
    except Exception as error:  # decoders raise nearly anything when a file is damaged
        raise StudyError(f"{path}: not a readable image ({error}); replace or remove it") from error


def _one_frame(image: Image.Image, path: Path) -> None:
    """Stand at the only full frame. Raises StudyError where there are several."""
    frames = getattr(image, "n_frames", 1)
    if frames == 1 or image.format == "MPO":  # whose first is the photo, by its standard
        return
    full = list(range(frames))
    if image.format == "TIFF":
        full = []
        for frame in range(frames):
            image.seek(frame)
            if not int(image.tag_v2.get(_SUBFILE, 0)) & _PREVIEW:
                full.append(frame)
    if len(full) != 1:
        raise StudyError(
            f"{path}: {frames} pages or frames, and which is the image cannot be known; "
            "save the right one as a file of its own"
        )
    image.seek(full[0])


def _other_format(path: Path) -> str:
    """Name of a format that Pillow knows and this module does not read, by its first bytes."""
    Image.init()
    with files.plain(path) as file:
        prefix = file.read(16)
    if len(prefix) < 16:
        return ""
    known = (name for name, (_, accept) in Image.OPEN.items() if accept and name not in FORMATS)
    return next((name for name in known if Image.OPEN[name][1](prefix) is True), "")


def _on_ground(image: Image.Image) -> tuple[bool, Image.Image]:
    """Whether any pixel is see-through, and the image without."""
    if not image.has_transparency_data:
        return False, image
    if image.mode == "I;16":  # `_eight_bits` paints its one transparent level
        return True, image
    layered = image.convert("RGBA")
    if layered.getchannel("A").getextrema()[0] == 255:
        return False, layered.convert("RGB")
    ground = Image.new("RGBA", image.size, GROUND)
    return True, Image.alpha_composite(ground, layered).convert("RGB")


def _eight_bits(found: Picture, levels: Levels) -> Image.Image:
    """16-bit grey -> mode L: levels.black becomes 0 and levels.white 255."""
    image, step = found.image, (levels.white - levels.black) / 255
    out = np.empty(image.size[::-1], np.uint8)
    for top, strip in strips(image):
        grey = np.rint((strip - float(levels.black)) / step).clip(0, 255)
        grey = 255 - grey if found.inverted else grey
        if found.see_through:
            grey[strip == image.info["transparency"]] = 255
        out[top : top + len(strip)] = grey
    return Image.fromarray(out)


def strips(image: Image.Image) -> Iterator[tuple[int, np.ndarray]]:
    """First row and array of every 256 rows: 80 megapixels must not become gigabytes."""
    for top in range(0, image.height, _STRIP):
        box = (0, top, image.width, min(top + _STRIP, image.height))
        yield top, np.asarray(image.crop(box))
