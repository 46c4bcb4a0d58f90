"""A synthetic ultrasound scanner: layered tissue and the image that a scan of it gives.

An image is made as a scanner makes one: a map of scatterer strength times complex Gaussian noise,
blurred by a point spread that widens with depth, envelope, a few looks averaged (compounding),
gain along the beam, logarithm. The model of speckle is that of Burckhardt, "Speckle in ultrasound
B-mode scans", IEEE Trans. Sonics Ultrason. 25 (1978). Levels and gains are in decibel.
"""

import numpy as np
from scipy import ndimage

DYNAMIC_RANGE = 54.0
LOOKS = 3


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], *sigma: float) -> np.ndarray:
    """Gaussian noise of mean 0 and variance 1, correlated over `sigma` pixels along each axis."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="reflect")
    return np.asarray((noise - noise.mean()) / noise.std())


def draw_tissue(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draw the layers from skin to muscle; echo level and beam gain, both (H, W) in dB."""
    height, width = shape
    depth = np.linspace(0, 1, height)[:, None]
    bend = smooth_noise(rng, (width,), width / 4)
    skin = rng.uniform(0.03, 0.055) + 0.002 * smooth_noise(rng, (width,), width / 12)
    fat = skin + rng.uniform(0.08, 0.26) + 0.02 * smooth_noise(rng, (width,), width / 14)
    gland = fat + rng.uniform(0.25, 0.42) + 0.03 * bend
    lobules = smooth_noise(rng, shape, 4, 9)
    layers = [
        -6 + 5 * np.cos(np.pi * depth / skin),
        -27 + 1.5 * lobules + 18 * draw_fibres(rng, shape, 7, 1.2, 18),
        rng.uniform(-22, -16)
        + rng.uniform(1.5, 4) * lobules
        + 2.5 * smooth_noise(rng, shape, 1.2, 8)
        + 11 * draw_fibres(rng, shape, 16, 1.8, 9),
        -28 + 2 * smooth_noise(rng, shape, 2, 20) + 11 * draw_fibres(rng, shape, 22, 1.2, 16),
    ]
    level = np.broadcast_to(layers[0], shape)
    for bound, layer, edge in zip([skin, fat, gland], layers[1:], [3, 9, 9], strict=True):
        below = (depth - bound) * height
        share = 1 / (1 + np.exp(-below))
        bright = np.clip(1 + smooth_noise(rng, (width,), width / 12), 0, 2)
        level = level * (1 - share) + layer * share + edge * bright * np.exp(-(below**2))
    rows, columns = np.indices(shape)
    slope = rng.uniform(-0.08, 0.08) * (columns - width / 2)
    shift = np.minimum(1, depth / 0.25) * (0.03 * height * bend + slope)
    level = ndimage.map_coordinates(level, [rows + shift, columns], order=1, mode="nearest")
    contact = rng.uniform(0.5, 2.5) * smooth_noise(rng, (width,), width / 14)
    loss = rng.uniform(14, 34) * np.clip(depth - rng.uniform(0.3, 0.6), 0, None) / 0.5
    gain = contact * np.sqrt(depth) - loss
    return insert_rib(rng, level, gain) if rng.random() < 0.35 else (level, gain)


def insert_rib(
    rng: np.random.Generator, level: np.ndarray, gain: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Put a rib into the lowest layer: a bright arc with a shadow; the new level and gain."""
    height, width = level.shape
    rows, columns = np.indices(level.shape)
    across = (columns - rng.uniform(0.1, 0.9) * width) / (rng.uniform(0.14, 0.24) * width)
    below = rows - height * (rng.uniform(0.8, 0.92) + 0.035 * across**2)
    within = 1 / (1 + np.exp(8 * (np.abs(across) - 1)))
    shadow = within / (1 + np.exp(3 - below))
    return level + 30 * within * np.exp(-((below / 1.5) ** 2)), gain - 15 * shadow


def draw_fibres(
    rng: np.random.Generator, shape: tuple[int, int], num: float, waviness: float, length: float
) -> np.ndarray:
    """Draw thin bright lines that run mostly sideways, broken up; 0 to about 2, (H, W).

    Args:
        rng: Source of all that is random.
        shape: The image's.
        num: Lines over the image's height.
        waviness: How far a line strays, in distances between lines.
        length: Typical length of a piece in pixels.
    """
    height, width = shape
    course = smooth_noise(rng, shape, height / 14, width / 7)
    phase = num * np.linspace(0, 1, height)[:, None] + waviness * course
    down, right = np.gradient(phase)
    steepness = np.hypot(down, right) + 0.01
    line = np.exp(-(((phase - np.round(phase)) / steepness / 0.8) ** 2))
    level_share = np.clip(down / steepness, 0, 1) ** 4
    pieces = np.clip(0.2 + smooth_noise(rng, shape, 3, length), 0, 2)
    return np.asarray(line * level_share * pieces)


def scan(rng: np.random.Generator, level: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Image a level map: speckle, envelope, attenuation, log compression; uint8 (H, W)."""
    depth = np.linspace(0, 1, level.shape[0])[:, None]
    strength = 10 ** (level / 20)
    envelope = np.zeros_like(level)
    for _ in range(LOOKS):
        power = np.zeros_like(level)
        for _quadrature in range(2):
            echo = strength * rng.standard_normal(level.shape)
            near = ndimage.gaussian_filter(echo, (0.6, 0.9)) * np.sqrt(4 * np.pi * 0.6 * 0.9)
            far = ndimage.gaussian_filter(echo, (0.8, 2.0)) * np.sqrt(4 * np.pi * 0.8 * 2.0)
            power += (near * (1 - depth) + far * depth) ** 2
        envelope += np.sqrt(power) / LOOKS
    floor = 10 ** (-66 / 20) * rng.rayleigh(1.0, level.shape)
    decibel = ndimage.gaussian_filter(20 * np.log10(envelope * 10 ** (gain / 20) + floor), 0.5)
    return np.asarray(np.clip(255 * (1 + decibel / DYNAMIC_RANGE), 0, 255), dtype=np.uint8)
