"""The convolutional network of the report: six encoder blocks, three decoder blocks, x8 upsampling.

"Breast Ultrasound Image Segmentation", SUTD 50.039 course report, 2024.
"""

from torch import nn


def build_report_cnn(dropout: float = 0.5) -> nn.Sequential:
    """Build the report's network: (B, 1, H, W) in [0, 1] to logits (B, 1, H, W), 1,534,083 weights.

    H and W are multiples of 8; other sizes come out rounded up to one.

    Args:
        dropout: probability with which a block drops a whole channel; the first block drops none.
    """
    return nn.Sequential(
        _block(1, 64, stride=2, dropout=0.0),
        _block(64, 64, stride=1, dropout=dropout),
        _block(64, 128, stride=2, dropout=dropout),
        _block(128, 128, stride=1, dropout=dropout),
        _block(128, 256, stride=2, dropout=dropout),
        _block(256, 256, stride=1, dropout=dropout),
        _block(256, 128, stride=1, dropout=dropout),
        _block(128, 64, stride=1, dropout=dropout),
        _block(64, 32, stride=1, dropout=dropout),
        nn.BatchNorm2d(32),
        nn.Conv2d(32, 1, kernel_size=3, padding=1),
        nn.Upsample(scale_factor=8, mode="bilinear", align_corners=True),
    )


def _block(in_channels: int, out_channels: int, stride: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(in_channels),
        nn.Dropout2d(dropout) if dropout else nn.Identity(),
        nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1),
        nn.ELU(),
    )
