"""The classic U-Net: double convolutions with batch norm, four poolings, from scratch.

Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
MICCAI 2015, with padded convolutions, so that logits have the image's size, and batch norm; on
demand with the attention gates of Oktay et al., "Attention U-Net: Learning Where to Look for the
Pancreas", MIDL 2018.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from busi_tune.config import ModelConfig
from busi_tune.models.heads import DeepSupervision, drop_before_last_convolution


def build_unet(config: ModelConfig, attention: bool = False) -> nn.Module:
    """Build the classic U-Net, or with attention gates the Attention U-Net."""
    network = UNet(config.base_width, attention)
    drop_before_last_convolution(network, config.decoder_dropout)
    if not config.deep_supervision:
        return network
    coarser = network.up[:-1]
    widths = [config.base_width * 2**level for level in range(len(coarser), 0, -1)]
    return DeepSupervision(network, coarser, widths)


class UNet(nn.Module):
    """U-Net of widths w, 2w, 4w, 8w, 16w; an encoder level's output joins the decoder's."""

    def __init__(self, base_width: int = 64, attention: bool = False) -> None:
        """Build the network.

        Args:
            base_width: channels w of the first level.
            attention: whether a gate weighs each skip but the first level's, which the paper
                leaves alone because it does not represent the image in enough dimensions.
        """
        super().__init__()
        widths = [base_width * 2**level for level in range(5)]
        self.down = nn.ModuleList(
            _double_convolution(narrow, wide)
            for narrow, wide in zip([1, *widths], widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        decoder = list(zip(widths[-2::-1], widths[:0:-1], strict=True))
        self.upsample = nn.ModuleList(
            nn.ConvTranspose2d(wide, narrow, kernel_size=2, stride=2) for narrow, wide in decoder
        )
        self.up = nn.ModuleList(_double_convolution(wide, narrow) for narrow, wide in decoder)
        gated = widths[-2:0:-1] if attention else []
        self.gates = nn.ModuleList(AttentionGate(width) for width in gated)
        self.head = nn.Conv2d(base_width, 1, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """Turn images (B, 1, H, W), H and W multiples of 16, into logits (B, 1, H, W)."""
        skips = [self.down[0](images)]
        for level in self.down[1:]:
            skips.append(level(self.pool(skips[-1])))
        features = skips.pop()
        for step, (upsample, level) in enumerate(zip(self.upsample, self.up, strict=True)):
            skip = skips.pop()
            if step < len(self.gates):
                skip = self.gates[step](skip, features)
            features = level(torch.cat([skip, upsample(features)], dim=1))
        logits: Tensor = self.head(features)
        return logits


class AttentionGate(nn.Module):
    """Additive attention: where a skip is worth passing on, as the level below sees it.

    The paper's equations: a 1x1 convolution of the sum of both, through ReLU and a sigmoid, at
    the resolution of the level below, then bilinear to the skip's. The skip is brought down by
    its own convolution, of stride 2.
    """

    def __init__(self, channels: int) -> None:
        """Build a gate for a skip of these channels; the level below has twice as many."""
        super().__init__()
        inner = max(channels // 2, 1)
        self.skip = nn.Conv2d(channels, inner, kernel_size=2, stride=2, bias=False)
        self.below = nn.Conv2d(2 * channels, inner, kernel_size=1)
        self.score = nn.Conv2d(inner, 1, kernel_size=1)

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """Weigh the pixels of a skip (B, C, H, W) by 0 to 1; below is (B, 2C, H/2, W/2)."""
        scores = self.score(functional.relu(self.skip(skip) + self.below(below)))
        attention = functional.interpolate(scores.sigmoid(), scale_factor=2, mode="bilinear")
        return skip * attention


def _double_convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
