import pytest
import torch
from scipy.stats import kstest, norm
from torch import Tensor
from torchvision.transforms import functional as oracle

from busi_tune.data.augment.draws import COLUMNS
from busi_tune.data.augment.grey import add_speckle, blur, change_gamma, cut_out, jitter
from tests.data.augment.examples import SIZE, make_batch, parameters


def rows_of(name: str, values: list[float], **columns: float) -> Tensor:
    """A row per value of one column."""
    return torch.cat([parameters(1, **columns, **{name: value}) for value in values])


@pytest.mark.parametrize("contrast_first", [0, 1])
def test_jitter_is_that_of_torchvision(contrast_first: int) -> None:
    images, _ = make_batch()
    factors = [(0.8, 1.2), (1.2, 0.8), (1.15, 1.2), (0.95, 0.85)]
    rows = torch.cat(
        [parameters(1, brightness=b, contrast=c, contrast_first=contrast_first) for b, c in factors]
    )
    for image, changed, (brightness, contrast) in zip(
        images, jitter(images, rows), factors, strict=True
    ):
        if contrast_first:
            image = oracle.adjust_contrast(image, contrast)
        image = oracle.adjust_brightness(image, brightness)
        if not contrast_first:
            image = oracle.adjust_contrast(image, contrast)
        torch.testing.assert_close(changed, image)


def test_gamma_is_that_of_torchvision_for_each_image() -> None:
    images, _ = make_batch()
    exponents = [0.5, 1.0, 1.7, 3.0]
    for image, changed, exponent in zip(
        images, change_gamma(images, rows_of("gamma", exponents)), exponents, strict=True
    ):
        torch.testing.assert_close(changed, oracle.adjust_gamma(image, exponent))


def test_blur_is_that_of_torchvision_for_each_image() -> None:
    images, _ = make_batch()
    deviations = [0.3, 0.9, 1.4, 2.0]
    blurred = blur(images, rows_of("blur", deviations), largest=2.0)
    for image, changed, deviation in zip(images, blurred, deviations, strict=True):
        expected = oracle.gaussian_blur(image, [13, 13], [deviation, deviation])
        # Beyond the edge torchvision mirrors the image.
        inside = (slice(None), slice(6, -6), slice(6, -6))
        torch.testing.assert_close(changed[inside], expected[inside], rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [8, SIZE])
def test_blur_of_nothing_and_of_a_constant_changes_nothing_at_any_size(size: int) -> None:
    images, _ = make_batch(size=size)
    assert torch.equal(blur(images, parameters(), largest=4.0), images)
    grey = torch.full_like(images, 0.4)
    torch.testing.assert_close(blur(grey, parameters(blur=4.0), largest=4.0), grey)


def test_speckle_is_multiplicative_normal_noise() -> None:
    images = torch.full((2, 1, 256, 256), 0.5)
    deviations = [0.1, 0.2]
    noisy = add_speckle(images, rows_of("speckle", deviations, noise=12345.0))
    for image, deviation in zip(noisy, deviations, strict=True):
        noise = (image / 0.5 - 1).flatten()
        assert noise.std().item() == pytest.approx(deviation, rel=0.01)
        assert kstest(noise / deviation, norm.cdf).pvalue > 0.001
    assert not add_speckle(0 * images, parameters(2, speckle=0.5)).any()


def test_noise_of_neighbours_of_images_and_of_seeds_is_unrelated() -> None:
    images = torch.full((40, 1, 64, 64), 0.5)
    rows = rows_of("noise", [float(seed) for seed in range(40)], speckle=0.1)
    noise = (add_speckle(images, rows) / 0.5 - 1)[:, 0] / 0.1
    correlations = noise.flatten(1).corrcoef() - torch.eye(40)
    assert correlations.abs().max() < 6 / 64
    for first, second in (
        (noise[:, 1:], noise[:, :-1]), (noise[..., 1:], noise[..., :-1]), (noise[1:], noise[:-1])
    ):  # fmt: skip
        assert (first * second).mean().abs() < 0.02


def test_speckle_of_an_image_depends_on_its_own_seed_alone() -> None:
    images, _ = make_batch()
    rows = rows_of("noise", [3.0, 9.0, 3.0, 2.0**24 - 1], speckle=0.2)
    images = images[:1].repeat(4, 1, 1, 1)
    noisy = add_speckle(images, rows)
    assert torch.equal(noisy[0], noisy[2])
    assert not torch.equal(noisy[0], noisy[1])
    for index in range(4):
        assert torch.equal(add_speckle(images[[index]], rows[[index]])[0], noisy[index])


def test_a_square_is_cut_out() -> None:
    images = torch.full((2, 1, SIZE, SIZE), 0.5)
    rows = torch.cat([
        parameters(1, hole_side=0.25, hole_left=0.5, hole_top=0.125),
        parameters(1, hole_side=0.5, hole_left=0.0, hole_top=0.5),
    ])  # fmt: skip
    expected = images.clone()
    expected[0, :, 4:12, 16:24] = 0
    expected[1, :, 16:, :16] = 0
    assert torch.equal(cut_out(images, rows), expected)
    assert torch.equal(cut_out(images, parameters(2)), images)


def test_every_change_stays_within_the_range_of_grey_levels() -> None:
    images, _ = make_batch()
    rows = parameters(gamma=0.3, speckle=2.0, blur=1.0, noise=5.0)
    assert rows.shape[1] == len(COLUMNS)
    for changed in (
        change_gamma(images, rows), add_speckle(images, rows), blur(images, rows, 1.0)
    ):  # fmt: skip
        assert changed.min() >= 0
        assert changed.max() <= 1
