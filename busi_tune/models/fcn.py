"""The fully convolutional network of torchvision, called as segmentation-models-pytorch's are.

Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, on
an encoder dilated so that its last features are at an eighth of the image's size.
"""

import segmentation_models_pytorch as smp
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.segmentation import fcn_resnet50, fcn_resnet101
from torchvision.models.segmentation.fcn import FCNHead

# torchvision leaves the first block of a dilated stage as it was; the encoder library dilates it
# too. These are kept as torchvision has them.
TORCHVISION = {"resnet50": fcn_resnet50, "resnet101": fcn_resnet101}


class FCN(nn.Module):
    """torchvision's network of one class, or its head on another encoder."""

    def __init__(self, encoder_name: str, encoder_weights: str | None, in_channels: int) -> None:
        """Build the network.

        Args:
            encoder_name: resnet50 or resnet101 for torchvision's own, or any encoder of
                segmentation-models-pytorch or timm whose stages can be dilated.
            encoder_weights: `imagenet`, those that segmentation-models-pytorch downloads for an
                encoder of this name, or None.
            in_channels: of the images.
        """
        super().__init__()
        if encoder_name in TORCHVISION:
            network = TORCHVISION[encoder_name](weights=None, weights_backbone=None, num_classes=1)
            self.encoder, self.classifier = network.backbone, network.classifier
            self._adapt(encoder_name, encoder_weights, in_channels)
        else:
            self.encoder = smp.encoders.get_encoder(
                encoder_name, in_channels=in_channels, weights=encoder_weights, output_stride=8
            )
            self.classifier = FCNHead(self.encoder.out_channels[-1], channels=1)

    def _adapt(self, encoder_name: str, encoder_weights: str | None, in_channels: int) -> None:
        if in_channels != 3:
            first = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
            self.encoder["conv1"] = first
        if encoder_weights is not None:
            pretrained = smp.encoders.get_encoder(encoder_name, weights=encoder_weights)
            self.encoder.load_state_dict(pretrained.state_dict())

    def forward(self, images: Tensor) -> Tensor:
        """Turn images (B, C, H, W) into logits (B, 1, H, W)."""
        features = self.encoder(images)
        last = features["out"] if isinstance(features, dict) else features[-1]
        logits = self.classifier(last)
        return functional.interpolate(logits, size=images.shape[-2:], mode="bilinear")
