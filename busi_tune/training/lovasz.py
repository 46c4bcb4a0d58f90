"""The Lovasz hinge: a convex surrogate of the Jaccard loss of each image.

Berman, Rannen Triki, Blaschko, "The Lovasz-Softmax loss: a tractable surrogate for the optimization
of the intersection-over-union measure in neural networks", CVPR 2018.
"""

import torch
from torch import Tensor
from torch.nn import functional


def lovasz(logits: Tensor, masks: Tensor) -> Tensor:
    """Compute the Lovasz hinge of each image (B,), in float32.

    Pixels are sorted by how wrong they are; each weighs by how much the Jaccard loss grows when it
    joins those that are wrong. In an image without lesion the worst pixel alone counts.

    Args:
        logits: (B, 1, H, W).
        masks: (B, 1, H, W) of 0 and 1.
    """
    lesion = masks.float().flatten(1)
    errors = 1 - logits.float().flatten(1) * (2 * lesion - 1)
    errors, order = errors.sort(1, descending=True)
    lesion = lesion.gather(1, order)
    area = lesion.sum(1, keepdim=True)
    overlap, union = area - lesion.cumsum(1), area + (1 - lesion).cumsum(1)
    growth = torch.diff(1 - overlap / union, dim=1, prepend=torch.zeros_like(area))
    return (functional.relu(errors) * growth).sum(1)
