"""Where the pixels of an augmented batch are read: crop, flips, rotation, zoom and deformation.

The image is deformed, zoomed and turned about its centre, then cropped, then flipped; all in one
resampling of image and mask alike. Points are (x, y) in [-1, 1] over the image, y downwards.
"""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from busi_tune.config import AugmentConfig
from busi_tune.data.augment.draws import CELLS, POINTS, control_points, pick


def resample(
    images: Tensor, masks: Tensor, parameters: Tensor, config: AugmentConfig
) -> tuple[Tensor, Tensor]:
    """Move the pixels of images and masks (B, 1, S, S), bilinear and nearest.

    What lies outside the image is black and no lesion. Where images are cropped and flipped only,
    nothing does: between the outermost pixel centres and the edge the edge's pixel goes on.

    Args:
        images, masks: the batch.
        parameters: rows of `draw_parameters` for these images.
        config: which changes there are at all, after `apply_strength`.
    """
    size = images.shape[-1]
    deformed = bool(config.rotation or config.scale or config.elastic)
    padding = "zeros" if deformed else "border"
    left, top, width, height = pick(parameters, "left", "top", "width", "height")
    if config.lesion_crop:
        seen = masks
        if deformed:
            whole = (2 * _centres(size, masks.device) - 1).expand(len(masks), size)
            grid = _deform(whole, whole, parameters, config)
            seen = grid_sample(masks, grid, "nearest", padding, align_corners=False)
        left, top = _place_on_lesions(seen, parameters)
    flip_x, flip_y = pick(parameters, "flip_horizontal", "flip_vertical")
    x, y = _crop(left, width, flip_x, size), _crop(top, height, flip_y, size)
    grid = _deform(x, y, parameters, config) if deformed else _spread(x, y)
    return (
        grid_sample(images, grid, "bilinear", padding, align_corners=False),
        grid_sample(masks, grid, "nearest", padding, align_corners=False),
    )


def _crop(start: Tensor, side: Tensor, flip: Tensor, size: int) -> Tensor:
    """Return the coordinates (B, S) of a crop's columns or rows, reversed where flipped."""
    centres = _centres(size, start.device)
    start, side, flip = (values[:, None] for values in (start, side, flip))
    return 2 * (start + side * torch.where(flip > 0, 1 - centres, centres)) - 1


def _centres(size: int, device: torch.device) -> Tensor:
    return (torch.arange(size, device=device) + 0.5) / size


def _spread(x: Tensor, y: Tensor) -> Tensor:
    """Make a grid (B, S, S, 2) of the coordinates of its columns and rows, (B, S) each."""
    shape = (len(x), y.shape[1], x.shape[1])
    return torch.stack([x[:, None, :].expand(shape), y[:, :, None].expand(shape)], dim=-1)


def _deform(x: Tensor, y: Tensor, parameters: Tensor, config: AugmentConfig) -> Tensor:
    """Return where the points of a grid of columns and rows lie in the image that was there first.

    Rotation is counter-clockwise by the drawn angle, in the pixels of the square.
    """
    across, down = _spread(x, y).unbind(-1)
    if config.elastic:
        shifts = torch.einsum(
            "bcij,byi,bxj->cbyx", 2 * control_points(parameters), _splines(y), _splines(x)
        )
        across, down = across + shifts[0], down + shifts[1]
    degrees, zoom = (values[:, None, None] for values in pick(parameters, "rotation", "zoom"))
    angle = torch.deg2rad(degrees)
    cosine, sine = angle.cos() / zoom, angle.sin() / zoom
    return torch.stack([cosine * across - sine * down, sine * across + cosine * down], dim=-1)


def _splines(coordinates: Tensor) -> Tensor:
    """Evaluate the cubic B-splines of the control points at coordinates (B, S); (B, S, 7).

    Weights are positive and sum to 1, so no displacement exceeds the largest of the control points
    (free-form deformation, Rueckert et al. 1999). Up to 0.12 of the side, 0.48 of a cell, nothing
    folds (Choi and Lee 2000).
    """
    knots = torch.arange(POINTS, device=coordinates.device) - 1
    distances = (CELLS * (coordinates[..., None] + 1) / 2 - knots).abs()
    near = 2 / 3 - distances**2 + distances**3 / 2
    far = (2 - distances).clamp(min=0) ** 3 / 6
    return torch.where(distances < 1, near, far)


def _place_on_lesions(masks: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Return the corners (B,), left and top, of crops within the image that hold a lesion's pixel.

    Crops that are not to be moved, or find no lesion, stay where they were drawn.
    """
    size = masks.shape[-1]
    on_lesion, share = pick(parameters, "on_lesion", "pixel")
    found = masks.flatten(1).long().cumsum(dim=1)
    total = found[:, -1]
    number = torch.minimum((share * total).long(), total - 1)
    pixel = torch.searchsorted(found, number[:, None], right=True)[:, 0]
    moved = (on_lesion > 0) & (total > 0)
    corners = []
    sides = (("left", "width", "across", pixel % size), ("top", "height", "down", pixel // size))
    for start, side, place, position in sides:
        drawn, length, within = pick(parameters, start, side, place)
        centre = (position + 0.5) / size
        low = (centre - length).clamp(min=0)
        high = torch.minimum(centre, 1 - length)
        corners.append(torch.where(moved, low + within * (high - low), drawn))
    return corners[0], corners[1]
