"""What networks can be given at their end: dropout, and logits of coarser levels for the loss."""

from collections.abc import Iterable

from torch import Tensor, nn
from torch.nn import functional

Outputs = Tensor | tuple[Tensor, ...]
"""Logits (B, 1, H, W), in training with deep supervision followed by those of coarser levels."""


def final_logits(outputs: Outputs) -> Tensor:
    """Return the logits (B, 1, H, W) that are the network's answer."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def drop_before_last_convolution(network: nn.Module, probability: float) -> None:
    """Let a network drop whole channels before its last convolution; 0 leaves it as it is."""
    if not probability:
        return
    modules = network.named_modules()
    *_, (name, last) = [named for named in modules if isinstance(named[1], nn.Conv2d)]
    parent, _, child = name.rpartition(".")
    dropping = nn.Sequential(nn.Dropout2d(probability), last)
    setattr(network.get_submodule(parent), child, dropping)


class DeepSupervision(nn.Module):
    """A network whose coarser decoder levels are trained to give logits too.

    Lee et al., "Deeply-Supervised Nets", AISTATS 2015. A level has a 1x1 convolution of its own,
    whose logits are brought to the image's size; they exist in training mode alone.
    """

    def __init__(
        self, network: nn.Module, levels: Iterable[nn.Module], channels: Iterable[int]
    ) -> None:
        """Watch the levels of a network.

        Args:
            network: images (B, 1, H, W) to logits (B, 1, H, W).
            levels: parts of it whose output is a level's, in the order in which they run: the
                coarsest first.
            channels: of each level's output.
        """
        super().__init__()
        self.network = network
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, kernel_size=1) for width in channels)
        self._features: list[Tensor] = []
        for level in levels:
            # A bound method: a copy of this network then watches the copy's levels.
            level.register_forward_hook(self._keep)

    @property
    def encoder(self) -> nn.Module:
        """The network's encoder, where it has one."""
        return self.network.get_submodule("encoder")

    def forward(self, images: Tensor) -> Outputs:
        """Turn images into logits, in training followed by those of the levels, finest first."""
        # A pass that broke off has left its features.
        self._features = []
        logits: Tensor = self.network(images)
        features, self._features = self._features, []
        if not self.training:
            return logits
        coarser = [
            functional.interpolate(head(level), size=images.shape[-2:], mode="bilinear")
            for head, level in zip(self.heads, features, strict=True)
        ]
        return logits, *reversed(coarser)

    def _keep(self, level: nn.Module, inputs: object, features: Tensor) -> None:
        if self.training:
            self._features.append(features)
