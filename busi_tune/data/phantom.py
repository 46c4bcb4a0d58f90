"""Synthetic breast ultrasound in BUSI's layout, the data set of the demo and the tests.

Lesions are dark. Benign ones are smooth and wide, some of them cysts with enhancement behind;
malignant ones are irregular with spicules and a shadow behind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from busi_tune.data.busi import CLASSES, NORMAL
from busi_tune.data.parallel import map_threads
from busi_tune.data.scanner import draw_tissue, scan, smooth_noise

SHARES = {"benign": 0.56, "malignant": 0.27, "normal": 0.17}
TWIN_EVERY = 9
TWO_LESIONS_EVERY = 10


@dataclass(frozen=True)
class Lesion:
    """One lesion: where it is and how it changes the scan."""

    inside: np.ndarray
    """bool (H, W), the mask."""
    level: float
    """Echo strength of the inside."""
    texture: float
    """Standard deviation of the inside's level."""
    blur: float
    """Width of the margin in pixels."""
    rim: float
    """Level of the tissue around the margin above its surroundings."""
    gain: float
    """What a beam gains (enhancement) or loses (shadow) over a path of the image's height."""


def write_phantom(folder: Path, num_images: int = 120, seed: int = 0) -> None:
    """Write the phantom set; the same files for the same arguments.

    Every ninth image of a class is a near-duplicate of the one before it: the same scan cropped,
    brighter or darker, annotated anew. Every tenth image has two lesions, each with its own mask.

    Args:
        folder: Where the class folders are made; must not exist or be empty.
        num_images: Images in all, shared among the classes as in BUSI.
        seed: Seed of everything.

    Raises:
        ValueError: There are fewer images than classes, or files in the way.
    """
    if num_images < len(CLASSES):
        raise ValueError(f"num_images must be at least {len(CLASSES)}, got {num_images}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"the phantom set needs a new or empty folder, got {folder}")
    jobs = []
    for label, count in count_classes(num_images).items():
        (folder / label).mkdir(parents=True)
        jobs += [(label, number) for number in range(1, count + 1)]
    list(map_threads(lambda job: _write_image(folder, seed, *job), jobs))


def _write_image(folder: Path, seed: int, label: str, number: int) -> None:
    twin = number % TWIN_EVERY == 0
    original = number - 1 if twin else number
    rng = np.random.default_rng((seed, CLASSES.index(label), original))
    image, masks = render(rng, label, 2 if original % TWO_LESIONS_EVERY == 4 else 1)
    if twin:
        image, masks = rescan(rng, image, masks)
    save(folder / label / f"{label} ({number}).png", image, masks)


def count_classes(num_images: int) -> dict[str, int]:
    """Share images among the classes as in BUSI, at least one each."""
    counts = {label: max(1, int(num_images * SHARES[label])) for label in CLASSES}
    counts["benign"] += num_images - sum(counts.values())
    return counts


def save(path: Path, image: np.ndarray, masks: Sequence[np.ndarray]) -> None:
    """Write an image and its masks as BUSI has them: 1-bit, those without lesion RGB."""
    Image.fromarray(image).save(path)
    for index, mask in enumerate(masks):
        picture = Image.fromarray(mask)
        ending = f"_mask_{index}" if index else "_mask"
        stored = picture if mask.any() else picture.convert("RGB")
        stored.save(path.with_name(f"{path.stem}{ending}.png"))


def render(
    rng: np.random.Generator, label: str, num_lesions: int = 1
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Make one scan.

    Returns:
        The image, uint8 (H, W) with sides of 140 to 220 pixels, and its masks, bool (H, W): one per
        lesion, or one that is all zero for class normal.
    """
    shape = (int(rng.integers(140, 191)), int(rng.integers(160, 221)))
    level, gain = draw_tissue(rng, shape)
    lesions: list[Lesion] = []
    if label != NORMAL:
        spread = 1.0 if num_lesions == 1 else 0.55
        for index in range(num_lesions):
            side = 0.5 if num_lesions == 1 else 0.27 + 0.46 * index
            lesions.append(draw_lesion(rng, shape, label, side, spread))
    for lesion in lesions:
        level, change = insert_lesion(rng, level, lesion)
        gain = gain + change
    masks = [lesion.inside for lesion in lesions] or [np.zeros(shape, dtype=bool)]
    return scan(rng, level, gain), masks


def draw_lesion(
    rng: np.random.Generator, shape: tuple[int, int], label: str, side: float, spread: float
) -> Lesion:
    """Draw a lesion: benign ones smooth and wide, malignant ones irregular and spiculated.

    Args:
        rng: Source of all that is random.
        shape: The image's.
        label: benign or malignant.
        side: Middle of the range of its centre, as a share of the width.
        spread: Size factor.
    """
    height, width = shape
    benign = label == "benign"
    across = spread * width * rng.uniform(0.09, 0.2)
    along = across * (rng.uniform(0.5, 0.8) if benign else rng.uniform(0.75, 1.15))
    along = min(along, 0.26 * height)
    centre = (height * rng.uniform(0.3, 0.55), width * (side + rng.uniform(-0.2, 0.2) * spread))
    rows, columns = np.indices(shape)
    tilt = rng.uniform(-0.35, 0.35)
    down, right = (rows - centre[0]), (columns - centre[1])
    u = (right * np.cos(tilt) + down * np.sin(tilt)) / across
    v = (down * np.cos(tilt) - right * np.sin(tilt)) / along
    angle = np.arctan2(v, u)
    inside = np.hypot(u, v) < draw_outline(rng, angle, benign)
    if benign and rng.random() < 0.35:
        return Lesion(inside, -70, 0, 0.8, 3, rng.uniform(35, 60))
    if benign:
        return Lesion(inside, rng.uniform(-38, -31), 2, 1.0, 4, rng.uniform(-5, 25))
    return Lesion(inside, rng.uniform(-42, -34), 3, 2.2, 3, rng.uniform(-75, -25))


def draw_outline(rng: np.random.Generator, angle: np.ndarray, benign: bool) -> np.ndarray:
    """Draw the radius of a lesion at every angle, 1 on average without spicules."""
    radius = np.ones_like(angle)
    for order in range(2, 4 if benign else 8):
        size = (0.05 if benign else 0.1) * rng.standard_normal() * 2 / order
        radius += size * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    for _ in range(0 if benign else int(rng.integers(3, 8))):
        away = np.angle(np.exp(1j * (angle - rng.uniform(-np.pi, np.pi))))
        radius += rng.uniform(0.1, 0.4) * np.exp(-((away / rng.uniform(0.1, 0.2)) ** 2))
    return radius


def insert_lesion(
    rng: np.random.Generator, level: np.ndarray, lesion: Lesion
) -> tuple[np.ndarray, np.ndarray]:
    """Put a lesion into the tissue; the new level and the change of gain below it."""
    share = ndimage.gaussian_filter(lesion.inside.astype(float), lesion.blur)
    rim = ndimage.gaussian_filter(lesion.inside.astype(float), 3 * lesion.blur) * (1 - share)
    content = lesion.level + lesion.texture * smooth_noise(rng, level.shape, 2, 4)
    change = lesion.gain * np.cumsum(share, axis=0) / level.shape[0]
    depth = np.linspace(0, 1, level.shape[0])[:, None]
    sharp, soft = (ndimage.gaussian_filter1d(change, sigma, axis=1) for sigma in (2, 9))
    spread = sharp * (1 - depth) + soft * depth
    return level * (1 - share) + content * share + 4 * lesion.rim * rim * (1 - rim), spread


def rescan(
    rng: np.random.Generator, image: np.ndarray, masks: Sequence[np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Make a near-duplicate: cropped, with another gain, its masks drawn a little differently."""
    height, width = image.shape
    top, left = (int(rng.integers(2, side // 16)) for side in (height, width))
    window = np.s_[top : height - int(rng.integers(2, 9)), left : width - int(rng.integers(2, 9))]
    changed = np.clip(image[window] * rng.uniform(0.8, 1.2) + rng.normal(0, 3), 0, 255)
    drawn = [ndimage.binary_dilation(mask[window]) for mask in masks]
    return changed.astype(np.uint8), drawn
