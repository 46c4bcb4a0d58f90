import copy

import pytest
import torch
from torch import nn

from busi_tune.training import learner
from busi_tune.training.learner import build_learner, update_average
from tests.training.small_training import CPU, make_config


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


def test_early_steps_of_the_average_forget_the_initial_weights(networks: None) -> None:
    built = build_learner(make_config(training__ema_decay=0.999), CPU, steps_per_epoch=4)
    assert built.average is not None
    with torch.no_grad():
        built.model[0].bias.fill_(7)
        built.average[0].bias.fill_(0)
    built.step()
    # After one step the decay is 2 / 11 and not yet 0.999.
    torch.testing.assert_close(built.average[0].bias, torch.full((4,), 7 * 9 / 11))


def test_gradients_are_clipped_to_a_norm(networks: None) -> None:
    distances = []
    for clip_norm in (0.0, 20.0, 0.5):
        config = make_config(optimizer__name="sgd", training__clip_norm=clip_norm)
        built = build_learner(config, CPU, steps_per_epoch=4)
        before = [weights.detach().clone() for weights in built.model.parameters()]
        for weights in built.model.parameters():
            weights.grad = torch.zeros_like(weights)
        built.model[0].weight.grad[0, 0, 0, :2] = torch.tensor([6.0, 8.0])
        built.step()
        moved = [
            (now - old).detach() for now, old in zip(built.model.parameters(), before, strict=True)
        ]
        distances.append(float(torch.cat([each.flatten() for each in moved]).norm()))
    whole, loose, clipped = distances
    assert whole > 0 and loose == whole
    assert clipped == pytest.approx(whole * 0.5 / 10, rel=1e-3)


def test_batch_norm_is_synchronised_on_gpus_only(
    networks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(training__sync_batchnorm=True)
    build_learner(config, CPU, steps_per_epoch=4)
    monkeypatch.setattr(learner, "num_ranks", lambda: 2)
    with pytest.raises(ValueError, match="sync_batchnorm works on GPUs only"):
        build_learner(config, CPU, steps_per_epoch=4)
    monkeypatch.setattr(learner, "build_model", lambda _: nn.Sequential(nn.BatchNorm2d(1)))
    monkeypatch.setattr(nn.Module, "to", lambda module, *_, **__: module)  # there is no GPU
    built = build_learner(config, torch.device("cuda"), steps_per_epoch=4)
    assert isinstance(built.model[0], nn.SyncBatchNorm)
