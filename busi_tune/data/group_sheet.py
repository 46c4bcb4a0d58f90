"""A contact sheet of near-duplicates: every group in a frame, with its masks' outlines."""

import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from busi_tune.data.busi import Sample
from busi_tune.data.duplicates import Pair, list_members
from busi_tune.data.pixels import read_image, read_mask
from busi_tune.run_directory import write_atomic

TILE = (150, 130)
COLUMNS = 12
LABEL_PX = 14
COLOURS = {"outline": (255, 190, 0), "identical": (70, 160, 90), "neighbour": (70, 110, 190)}
GREYS = 128
"""A palette of greys and the few colours: small files, drawn without a search for colours."""
INDEX = {name: GREYS + position for position, name in enumerate(COLOURS)}


def draw_groups(
    path: Path, samples: Sequence[Sample], groups: Mapping[str, str], pairs: Collection[Pair]
) -> None:
    """Write a PNG with every group in a frame, the most doubtful first, and outlined masks.

    The frame is green where every member has an identical scan in the group, else blue.
    """
    scores: dict[str, float] = {}
    twins: set[str] = set()
    for pair in pairs:
        group = groups[pair.first]
        scores[group] = min(pair.score, scores.get(group, 1.0))
        twins |= {pair.first, pair.second} if pair.level == "identical" else set()
    members = list_members(groups)
    rows = _fill_rows(sorted(members.values(), key=lambda names: scores[groups[names[0]]]))
    by_name = {sample.name: sample for sample in samples}
    width, height = TILE
    sheet = Image.new("P", (COLUMNS * width, max(1, len(rows)) * (height + LABEL_PX)))
    greys = [[round(255 * index / (GREYS - 1))] * 3 for index in range(GREYS)]
    sheet.putpalette([value for colour in [*greys, *COLOURS.values()] for value in colour])
    for row, blocks in enumerate(rows):
        left, top = 0, row * (height + LABEL_PX)
        for names in blocks:
            for index, name in enumerate(names):
                _draw_tile(sheet, (left + index * width, top), by_name[name])
            frame = INDEX["identical" if twins.issuperset(names) else "neighbour"]
            box = (left, top, left + len(names) * width - 3, top + height + LABEL_PX - 3)
            ImageDraw.Draw(sheet).rectangle(box, outline=frame, width=2)
            left += len(names) * width
    encoded = io.BytesIO()
    sheet.save(encoded, "PNG")
    write_atomic(path, encoded.getvalue())


def _fill_rows(groups: Sequence[list[str]]) -> list[list[list[str]]]:
    """Share groups among rows of at most COLUMNS tiles; a longer group goes on in the next."""
    blocks = [group[i : i + COLUMNS] for group in groups for i in range(0, len(group), COLUMNS)]
    rows: list[list[list[str]]] = []
    free = 0
    for block in blocks:
        if len(block) > free:
            rows.append([])
            free = COLUMNS
        rows[-1].append(block)
        free -= len(block)
    return rows


def _draw_tile(sheet: Image.Image, corner: tuple[int, int], sample: Sample) -> None:
    image = Image.fromarray(read_image(sample.image_path))
    image.thumbnail((TILE[0] - 8, TILE[1] - 6))
    pixels = np.asarray(image) // 2
    if sample.mask_paths:
        mask = Image.fromarray(read_mask(sample.mask_paths)).convert("L").resize(image.size)
        inside = np.asarray(mask) > 127
        edge = ndimage.binary_dilation(inside) & ~inside
        pixels = np.where(edge, INDEX["outline"], pixels).astype(np.uint8)
    left, top = corner
    pen = ImageDraw.Draw(sheet)
    pen.fontmode = "1"  # between two indices of a palette there is no grey
    pen.text((left + 4, top + 2), sample.name, fill=GREYS - 1)
    sheet.paste(Image.fromarray(pixels), (left + 4, top + LABEL_PX + 2))
