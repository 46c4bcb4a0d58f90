"""The classic U-Net: double convolutions with batch norm, four poolings, from scratch.

Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
MICCAI 2015, with padded convolutions, so that logits have the image's size, and batch norm.
"""

import torch
from torch import Tensor, nn


class UNet(nn.Module):
    """U-Net of widths w, 2w, 4w, 8w, 16w; an encoder level's output joins the decoder's."""

    def __init__(self, base_width: int = 64) -> None:
        """Build the network.

        Args:
            base_width: channels w of the first level.
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
        self.head = nn.Conv2d(base_width, 1, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """Turn images (B, 1, H, W), H and W multiples of 16, into logits (B, 1, H, W)."""
        skips = [self.down[0](images)]
        for level in self.down[1:]:
            skips.append(level(self.pool(skips[-1])))
        features = skips.pop()
        for upsample, level in zip(self.upsample, self.up, strict=True):
            features = level(torch.cat([skips.pop(), upsample(features)], dim=1))
        logits: Tensor = self.head(features)
        return logits


def _double_convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
