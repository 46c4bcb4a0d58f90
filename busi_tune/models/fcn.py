"""The fully convolutional network of torchvision, called as segmentation-models-pytorch's are.

Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, on
a dilated ResNet whose features are at an eighth of the image's size.
"""

import segmentation_models_pytorch as smp
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.segmentation import fcn_resnet50, fcn_resnet101

BACKBONES = {"resnet50": fcn_resnet50, "resnet101": fcn_resnet101}


class FCN(nn.Module):
    """torchvision's network of one class; its backbone is the encoder."""

    def __init__(self, encoder_name: str, encoder_weights: str | None, in_channels: int) -> None:
        """Build the network.

        Args:
            encoder_name: resnet50 or resnet101.
            encoder_weights: `imagenet`, those that segmentation-models-pytorch downloads for an
                encoder of this name, or None.
            in_channels: of the images.

        Raises:
            ValueError: it has no such backbone.
        """
        super().__init__()
        if encoder_name not in BACKBONES:
            raise ValueError(f"its backbone is {' or '.join(BACKBONES)}, got {encoder_name}")
        network = BACKBONES[encoder_name](weights=None, weights_backbone=None, num_classes=1)
        self.encoder = network.backbone
        if in_channels != 3:
            first = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
            self.encoder["conv1"] = first
        if encoder_weights is not None:
            pretrained = smp.encoders.get_encoder(encoder_name, weights=encoder_weights)
            self.encoder.load_state_dict(pretrained.state_dict())
        self.classifier = network.classifier

    def forward(self, images: Tensor) -> Tensor:
        """Turn images (B, C, H, W) into logits (B, 1, H, W)."""
        logits = self.classifier(self.encoder(images)["out"])
        return functional.interpolate(logits, size=images.shape[-2:], mode="bilinear")
