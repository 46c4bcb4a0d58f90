import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from busi_tune.training.boundary import boundary, signed_distances


def draw_disc(size: int, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    return np.hypot(rows, columns) < radius


def as_mask(lesion: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(lesion).float()[None, None]


def test_distances_are_scipys_less_half_a_pixel_in_diagonals() -> None:
    lesion = np.random.default_rng(0).random((20, 31)) > 0.8
    distances = signed_distances(lesion)
    outside, inside = distance_transform_edt(~lesion), distance_transform_edt(lesion)
    expected = np.where(lesion, 0.5 - inside, outside - 0.5) / np.hypot(20, 31)
    np.testing.assert_allclose(distances, expected, rtol=1e-4)
    assert (distances[lesion] < 0).all()
    assert (distances[~lesion] > 0).all()


@pytest.mark.parametrize(("filled", "distance"), [(False, 1.0), (True, -1.0)])
def test_without_an_outline_distances_are_a_diagonal(filled: bool, distance: float) -> None:
    assert (signed_distances(np.full((6, 8), filled)) == distance).all()


def test_a_lesion_of_one_pixel_is_worth_seeing() -> None:
    lesion = np.zeros((8, 8), dtype=bool)
    lesion[3, 5] = True
    logits = torch.zeros(1, 1, 8, 8, requires_grad=True)
    boundary(logits, as_mask(lesion)).sum().backward()
    assert logits.grad is not None
    assert ((logits.grad[0, 0] < 0).numpy() == lesion).all()


def test_far_false_positives_cost_more_than_near_ones() -> None:
    mask, near, far = as_mask(draw_disc(32, 6)), *torch.full((2, 1, 1, 32, 32), -100.0)
    near[..., 8, 16], far[..., 0, 0] = 100, 100
    assert boundary(far, mask) > boundary(near, mask) > 0


def test_the_scale_does_not_depend_on_the_images_size() -> None:
    small, large = (
        boundary(torch.zeros(1, 1, size, size), as_mask(draw_disc(size, size / 4)))
        for size in (64, 256)
    )
    torch.testing.assert_close(small, large, rtol=0.02, atol=0)
