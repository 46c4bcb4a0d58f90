"""A model that ONNX Runtime runs: the average of networks as one graph, held to torch's output."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from busi_tune.prediction.networks import Networks

TOLERANCE = 1e-3
"""Largest difference of a probability to torch's."""
INPUT, OUTPUT = "images", "probabilities"


class ExportError(RuntimeError):
    """The exported model does not do what the networks do."""


class Average(nn.Module):
    """The mean of the networks' probabilities."""

    def __init__(self, networks: Networks) -> None:
        """Take the networks, in evaluation mode."""
        super().__init__()
        self.members = nn.ModuleList(member.model for member in networks.members.values())

    def forward(self, images: Tensor) -> Tensor:
        """Turn images (N, 1, S, S) in [0, 1] into probabilities of the same shape."""
        return torch.stack([torch.sigmoid(member(images)) for member in self.members]).mean(dim=0)


def check_onnx() -> None:
    """Refuse early where the packages are missing.

    Raises:
        ValueError: they are; says how to install them.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(f'--export onnx needs {error.name}: pip install ".[onnx]"') from error


def write_onnx(path: Path, networks: Networks) -> float:
    """Write the average of the networks, and run it.

    Args:
        path: the file.
        networks: on the CPU.

    Returns:
        The largest difference to torch over random images, in batches of one and of three.

    Raises:
        ExportError: it is above `TOLERANCE`, or torch cannot write the networks so.
    """
    average = Average(networks).eval()
    size = networks.config.data.image_size
    example = torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    try:
        program = torch.onnx.export(
            average, (example,), dynamo=True, verbose=False, external_data=False,
            input_names=[INPUT], output_names=[OUTPUT],
            dynamic_shapes={"images": {0: torch.export.Dim("N", min=1)}},
        )  # fmt: skip
    # The exporter raises errors of many kinds for what it does not know.
    except Exception as error:
        raise ExportError(
            f"torch could not write this network as ONNX ({str(error).splitlines()[0]}): nothing "
            "was exported; leave onnx out (--export safetensors)"
        ) from error
    assert program is not None
    program.save(str(path), external_data=False)
    difference = measure_difference(path, average, size)
    if difference > TOLERANCE:
        raise ExportError(
            f"probabilities of model.onnx differ from torch's by {difference:.1e}, more than "
            f"{TOLERANCE:g}: nothing was exported; leave onnx out (--export safetensors)"
        )
    return difference


def measure_difference(path: Path, average: nn.Module, size: int) -> float:
    """Return the largest difference between a file and the module that it was made of."""
    import onnxruntime

    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    generator, differences = torch.Generator().manual_seed(1), []
    for number in (1, 3):
        images = torch.rand(number, 1, size, size, generator=generator)
        with torch.inference_mode():
            expected = average(images)
        (found,) = session.run([OUTPUT], {INPUT: images.numpy()})
        differences.append(float((torch.from_numpy(found) - expected).abs().max()))
    return max(differences)
