"""The architectures with an encoder, by name alone: the libraries take seconds to import."""

# `unet` is the classic one.
DECODERS = {
    "smp_unet": "Unet",
    "unetplusplus": "UnetPlusPlus",
    "fpn": "FPN",
    "linknet": "Linknet",
    "manet": "MAnet",
    "pan": "PAN",
    "pspnet": "PSPNet",
    "deeplabv3": "DeepLabV3",
    "deeplabv3plus": "DeepLabV3Plus",
    "upernet": "UPerNet",
    "segformer": "Segformer",
    "dpt": "DPT",
    "fcn": "FCN",
}
"""What segmentation-models-pytorch calls each; `fcn` is torchvision's."""
