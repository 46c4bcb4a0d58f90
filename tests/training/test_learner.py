import copy

import torch
from torch import nn

from busi_tune.training.learner import update_average


def test_average_moves_weights_and_running_statistics_by_the_decay() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    average = copy.deepcopy(model)
    before = {name: value.clone() for name, value in average.state_dict().items()}
    with torch.no_grad():
        for weight in model.parameters():
            weight += 1
        model[1].running_mean += 10
    update_average(average, model, decay=0.75)
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            expected = 0.75 * before[name] + 0.25 * model.state_dict()[name]
            torch.testing.assert_close(value, expected)
