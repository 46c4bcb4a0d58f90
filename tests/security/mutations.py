"""Damaged and hostile files under an image's name, each drawn from a seed of its own."""

import io
import random
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
Chunks = list[tuple[bytes, bytes]]


def _save(picture: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    picture.save(content, format=kind, **options)
    return content.getvalue()


def _draw(mode: str, height: int = 31, width: int = 43) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 4), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


PNGS = {
    **{mode: _save(_draw(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")},
    "transparent palette": _save(_draw("P"), "PNG", transparency=3),
    "16 bit": _save(Image.new("I;16", (43, 31), 40_000), "PNG"),
    "animated": _save(_draw("L"), "PNG", save_all=True, append_images=[_draw("L").rotate(180)]),
    "with texts": _save(_draw("L"), "PNG", dpi=(72, 72), icc_profile=bytes(300)),
}
JPEGS = {
    **{mode: _save(_draw(mode), "JPEG") for mode in ("L", "RGB", "CMYK")},
    "progressive": _save(_draw("RGB"), "JPEG", progressive=True, quality=60),
    "with exif": _save(_draw("L"), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0", comment=b"a"),
}
OTHERS = {
    "gif": _save(_draw("P"), "GIF"),
    "animated gif": _save(_draw("P"), "GIF", save_all=True, append_images=[_draw("L")]),
    "tiff": _save(_draw("RGB"), "TIFF"),
    "bmp": _save(_draw("RGB"), "BMP"),
    "webp": _save(_draw("RGB"), "WEBP"),
    "ppm": _save(_draw("RGB"), "PPM"),
    "ico": _save(_draw("RGBA"), "ICO"),
    "eps": _save(_draw("RGB"), "EPS"),
    "pdf": _save(_draw("RGB"), "PDF"),
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "page": b"<!doctype html><img src=x onerror=alert(1)>",
    "zip": b"PK\x03\x04" + bytes(60),
    "nothing": b"",
    "zeros": bytes(5000),
}


def split_chunks(content: bytes) -> Chunks:
    """Take a PNG file apart: type and data of each chunk."""
    chunks, start = [], len(SIGNATURE)
    while start < len(content):
        length = int.from_bytes(content[start : start + 4])
        chunks.append((content[start + 4 : start + 8], content[start + 8 : start + 8 + length]))
        start += length + 12
    return chunks


def join_chunks(chunks: Chunks) -> bytes:
    """Put a PNG file together, with checksums that fit."""
    return SIGNATURE + b"".join(
        len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)
        for kind, data in chunks
    )


def mutate(seed: int) -> tuple[str, bytes]:
    """Return the ending of a file's name and its content."""
    draw = random.Random(seed)
    if draw.random() < 0.05:
        return draw.choice((".png", ".jpg")), draw.choice(list(OTHERS.values()))
    jpeg = draw.random() < 0.4
    content = draw.choice(list((JPEGS if jpeg else PNGS).values()))
    ways = _OF_JPEG if jpeg else _OF_PNG
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        content = draw.choice(ways)(content, draw)
    # Now and then the ending says the other format.
    return (".jpg" if jpeg != (draw.random() < 0.03) else ".png"), content


def _replace_bytes(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.randint(1, 8) if changed else 0):
        changed[draw.randrange(len(changed))] = draw.choice((0, 255, draw.randrange(256)))
    return bytes(changed)


def _truncate(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _cut_out(content: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(content) + 1)
    return content[:start] + content[start + draw.randint(1, 64) :]


def _put_in(content: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(content) + 1)
    return content[:start] + draw.randbytes(draw.randint(1, 64)) + content[start:]


def _reorder(content: bytes, draw: random.Random) -> bytes:
    chunks = split_chunks(content)
    if draw.random() < 0.5 or not chunks:
        draw.shuffle(chunks)
    else:
        chunks.insert(draw.randrange(len(chunks)), draw.choice(chunks))
    return join_chunks(chunks)


def _drop_chunk(content: bytes, draw: random.Random) -> bytes:
    chunks = split_chunks(content)
    if chunks:
        chunks.pop(draw.randrange(len(chunks)))
    return join_chunks(chunks)


def _damage_within(content: bytes, draw: random.Random) -> bytes:
    """Damage a chunk and mend its checksum, so that the decoder itself meets it."""
    chunks = split_chunks(content)
    if not chunks:
        return content
    place = draw.randrange(len(chunks))
    kind, data = chunks[place]
    chunks[place] = kind, draw.choice((_replace_bytes, _truncate, _put_in))(data, draw)
    return join_chunks(chunks)


def _change_header(content: bytes, draw: random.Random) -> bytes:
    chunks = split_chunks(content)
    sides = (draw.choice((0, 1, 43, 5000, 60_000, 2**31, 2**32 - 1)) for _ in range(2))
    rest = bytes([draw.choice((1, 2, 4, 8, 16)), draw.choice((0, 2, 3, 4, 6)), 0, 0])
    header = b"".join(side.to_bytes(4) for side in sides) + rest + bytes([draw.randrange(2)])
    return join_chunks([(b"IHDR", header), *chunks[1:]])


def _change_size(content: bytes, draw: random.Random) -> bytes:
    """Write another height and width into the frame header of a JPEG."""
    start = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    if start < 0:
        return content
    sides = b"".join(draw.choice((0, 1, 43, 5000, 65_535)).to_bytes(2) for _ in range(2))
    return content[: start + 5] + sides + content[start + 9 :]


_ANY: list[Callable[[bytes, random.Random], bytes]] = [_replace_bytes, _truncate, _cut_out, _put_in]
_OF_JPEG = [*_ANY, _replace_bytes, _change_size]
_OF_PNG = [*_ANY, _reorder, _drop_chunk, _damage_within, _damage_within, _change_header]
