"""The boundary loss: what is predicted costs by its distance to the true outline.

Kervadec et al., "Boundary loss for highly unbalanced segmentation", MIDL 2019.
"""

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def boundary(logits: Tensor, masks: Tensor) -> Tensor:
    """Compute the boundary loss of each image (B,): the mean of p times the signed distance.

    Distances are found on the host, for which a GPU has to wait. Alone the loss says little of the
    lesion's inside; the authors sum it with another.

    Args:
        logits: (B, 1, H, W).
        masks: (B, 1, H, W) of 0 and 1.
    """
    lesions = masks.detach()[:, 0].cpu().numpy() > 0
    distances = np.stack([signed_distances(lesion) for lesion in lesions])[:, None]
    weights = torch.from_numpy(distances).to(logits.device)
    return (logits.float().sigmoid() * weights).flatten(1).mean(1)


def signed_distances(lesion: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Measure each pixel's distance to the outline, below 0 inside, in diagonals of the image.

    The outline runs between pixels, half a pixel from its nearest ones. Where there is none, it is
    a diagonal away: 1 in an image without lesion, -1 in one that is all lesion.

    Args:
        lesion: (H, W).
    """
    if lesion.all() or not lesion.any():
        return np.full(lesion.shape, -1 if lesion.any() else 1, dtype=np.float32)
    outside, inside = (_distance_from(part) for part in (lesion, ~lesion))
    distances = np.where(lesion, 0.5 - inside, outside - 0.5) / np.hypot(*lesion.shape)
    return np.asarray(distances, dtype=np.float32)


def _distance_from(part: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    elsewhere = (~part).view(np.uint8)
    distances = cv2.distanceTransform(elsewhere, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distances, dtype=np.float32)
