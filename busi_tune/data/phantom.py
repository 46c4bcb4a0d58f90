"""Synthetic breast ultrasound in BUSI's layout, the data set of the demo and the tests.

An image is made as a scanner makes one: a map of scatterer strength (skin, fat with septa,
glandular tissue, muscle, lesions) times complex Gaussian noise, blurred by a point spread that widens with
depth, envelope, attenuation along the beam, logarithm. The model of speckle is that of Burckhardt,
"Speckle in ultrasound B-mode scans", IEEE Trans. Sonics Ultrason. 25 (1978). Levels are in decibel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from busi_tune.data.busi import CLASSES, NORMAL

SHARES = {"benign": 0.56, "malignant": 0.27, "normal": 0.17}
DYNAMIC_RANGE = 56.0


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

    Every ninth image of a class is a near-duplicate of the one before it: the scan cropped,
    brighter or darker, annotated anew.

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
    for number_of_class, (label, count) in enumerate(count_classes(num_images).items()):
        (folder / label).mkdir(parents=True)
        for number in range(1, count + 1):
            twin = number % 9 == 0
            rng = np.random.default_rng((seed, number_of_class, number - twin))
            image, masks = render(rng, label, num_lesions=2 if number % 10 == 4 else 1)
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


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], *sigma: float) -> np.ndarray:
    """Gaussian noise of unit variance, correlated over `sigma` pixels along each axis."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="reflect")
    return np.asarray(noise / noise.std())


def draw_tissue(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw the layers from skin to muscle; echo level and beam gain, both (H, W) in dB."""
    height, width = shape
    depth = np.arange(height)[:, None] / height
    ends = rng.uniform(0.035, 0.06) + np.cumsum(
        [0.0, rng.uniform(0.12, 0.26), rng.uniform(0.28, 0.42)]
    )
    waves = [0.004, 0.022, 0.03]
    bounds = [
        end + wave * smooth_noise(rng, (width,), width / 7)
        for end, wave in zip(ends, waves, strict=True)
    ]
    streaks = smooth_noise(rng, shape, 0.8, 14)
    septa = smooth_noise(rng, shape, 5, 16)
    ridge = np.exp(-((septa / 0.10) ** 2))
    lobules = smooth_noise(rng, shape, 3, 8)
    layers = [
        -9 + 2 * streaks,
        -25 + 1.5 * smooth_noise(rng, shape, 2, 5) + 15 * ridge,
        -15 + 3.5 * lobules + 2 * streaks,
        -27 + 2 * lobules + 6 * np.clip(streaks, -1, 2.5),
    ]
    level = layers[0]
    for bound, layer in zip(bounds, layers[1:], strict=True):
        share = 1 / (1 + np.exp(-(depth - bound) * height / 1.2))
        level = level * (1 - share) + layer * share
        level = level + rng.uniform(3, 9) * np.exp(-(((depth - bound) * height / 1.1) ** 2))
    bend = 0.03 * height * smooth_noise(rng, (width,), width / 6)
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    warped = ndimage.map_coordinates(
        level, [rows + bend * np.minimum(1, depth / 0.3), columns], order=1, mode="nearest"
    )
    contact = 2.5 * smooth_noise(rng, (width,), width / 12)
    gain = contact - rng.uniform(10, 26) * np.clip(depth - rng.uniform(0.45, 0.65), 0, 1) / 0.4
    return warped, np.broadcast_to(gain, shape)


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
    return Lesion(inside, rng.uniform(-42, -34), 4, 2.0, 3, rng.uniform(-75, -30))


def draw_outline(rng: np.random.Generator, angle: np.ndarray, benign: bool) -> np.ndarray:
    """Draw the radius of a lesion at every angle, 1 on average without spicules."""
    radius = np.ones_like(angle)
    for order in range(2, 4 if benign else 8):
        size = (0.05 if benign else 0.13) * rng.standard_normal() * 2 / order
        radius += size * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    for _ in range(0 if benign else int(rng.integers(4, 9))):
        away = np.angle(np.exp(1j * (angle - rng.uniform(-np.pi, np.pi))))
        radius += rng.uniform(0.15, 0.5) * np.exp(-((away / rng.uniform(0.08, 0.16)) ** 2))
    return radius


def insert_lesion(
    rng: np.random.Generator, level: np.ndarray, lesion: Lesion
) -> tuple[np.ndarray, np.ndarray]:
    """Put a lesion into the tissue; the new level and the change of gain below it."""
    share = ndimage.gaussian_filter(lesion.inside.astype(float), lesion.blur)
    rim = ndimage.gaussian_filter(lesion.inside.astype(float), 3 * lesion.blur) * (1 - share)
    content = lesion.level + lesion.texture * smooth_noise(rng, level.shape, 3, 3)
    change = lesion.gain * np.cumsum(share, axis=0) / level.shape[0]
    spread = ndimage.gaussian_filter1d(change, 2.5, axis=1)
    return level * (1 - share) + content * share + 4 * lesion.rim * rim * (1 - rim), spread


def scan(rng: np.random.Generator, level: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Image a level map: speckle, envelope, attenuation, log compression; uint8 (H, W)."""
    depth = np.linspace(0, 1, level.shape[0])[:, None]
    strength = 10 ** (level / 20)
    power = np.zeros_like(level)
    looks = 2
    for _ in range(looks):
        for _component in range(2):
            echo = strength * rng.standard_normal(level.shape)
            near = ndimage.gaussian_filter(echo, (0.55, 0.8))
            far = ndimage.gaussian_filter(echo, (0.7, 1.7))
            near, far = near / 0.33, far / 0.235
            power += (near * (1 - depth) + far * depth) ** 2 / looks
    floor = 10 ** (-62 / 10) * rng.exponential(1.0, level.shape)
    decibel = 10 * np.log10(power * 10 ** (gain / 10) + floor)
    return np.clip(255 * (1 + (decibel - 2) / DYNAMIC_RANGE), 0, 255).astype(np.uint8)


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
