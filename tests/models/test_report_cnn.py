import pytest
import torch
from torch import nn

from busi_tune.models import num_parameters
from busi_tune.models.report_cnn import build_report_cnn


def test_has_the_reports_number_of_weights() -> None:
    assert num_parameters(build_report_cnn()) == 1_534_083


@pytest.mark.parametrize(("height", "width"), [(32, 32), (40, 64)])
def test_logits_have_the_images_size(height: int, width: int) -> None:
    images = torch.rand(2, 1, height, width)
    assert build_report_cnn()(images).shape == images.shape


def test_every_block_but_the_first_drops_channels() -> None:
    network = build_report_cnn(dropout=0.3)
    drops = [module.p for module in network.modules() if isinstance(module, nn.Dropout2d)]
    assert drops == [0.3] * 8
    assert not any(isinstance(module, nn.Dropout2d) for module in network[0].modules())


def test_blocks_run_batch_norm_dropout_convolution_elu() -> None:
    kinds = [type(module) for module in build_report_cnn()[1]]
    assert kinds == [nn.BatchNorm2d, nn.Dropout2d, nn.Conv2d, nn.ELU]


def test_without_dropout_training_is_deterministic() -> None:
    network, images = build_report_cnn(dropout=0.0), torch.rand(2, 1, 16, 16)
    assert torch.equal(network(images), network(images))
