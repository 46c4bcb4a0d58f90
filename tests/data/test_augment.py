import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as oracle

from busi_tune.config import AugmentConfig
from busi_tune.data.augment import COLUMNS, augment, draw_parameters, jitter

SIZE = 32
IDENTITY = {"brightness": 1.0, "contrast": 1.0, "width": 1.0, "height": 1.0}
NOTHING = AugmentConfig(
    brightness=0, contrast=0, crop_scale=1, crop_ratio=1, horizontal_flip=0, vertical_flip=0
)


def make_batch(num_images: int = 4, size: int = SIZE) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((num_images, 1, size, size), generator=generator)
    masks = torch.zeros_like(images)
    masks[:, :, size // 4 : size // 2, size // 3 :] = 1
    return images, masks


def parameters(num_images: int = 4, **columns: float) -> Tensor:
    row = [(IDENTITY | columns).get(name, 0.0) for name in COLUMNS]
    return torch.tensor([row]).repeat(num_images, 1)


def column(values: Tensor, name: str) -> Tensor:
    return values[:, COLUMNS.index(name)]


def test_draws_depend_on_seed_and_epoch_alone() -> None:
    first = draw_parameters(20, 3, 5, AugmentConfig())
    torch.manual_seed(1)
    assert torch.equal(first, draw_parameters(20, 3, 5, AugmentConfig()))
    assert not torch.equal(first, draw_parameters(20, 3, 6, AugmentConfig()))
    assert not torch.equal(first, draw_parameters(20, 4, 5, AugmentConfig()))


def test_draws_stay_within_the_configured_ranges() -> None:
    config = AugmentConfig(brightness=0.3, contrast=0.1, horizontal_flip=0.8, vertical_flip=0)
    values = draw_parameters(4000, 0, 1, config)
    assert column(values, "brightness").min() >= 0.7
    assert column(values, "brightness").max() <= 1.3
    assert column(values, "contrast").sub(1).abs().max() <= 0.1001
    assert column(values, "contrast_first").mean() == pytest.approx(0.5, abs=0.05)
    assert column(values, "flip_horizontal").mean() == pytest.approx(0.8, abs=0.05)
    assert column(values, "flip_vertical").sum() == 0
    for corner, side in (("left", "width"), ("top", "height")):
        assert column(values, corner).min() >= 0
        assert (column(values, corner) + column(values, side)).max() <= 1 + 1e-6


def test_crops_are_distributed_as_those_of_torchvision() -> None:
    size, image = 1000, torch.empty(1, 1000, 1000)
    torch.manual_seed(0)
    draws = [RandomResizedCrop.get_params(image, [0.08, 1], [3 / 4, 4 / 3]) for _ in range(1500)]
    expected = torch.tensor(draws) / size
    values = draw_parameters(1500, 0, 1, AugmentConfig())
    for position, name in enumerate(("top", "left", "height", "width")):
        assert ks_2samp(expected[:, position], column(values, name)).pvalue > 0.001, name


def test_crop_that_never_fits_keeps_the_whole_image() -> None:
    config = AugmentConfig(crop_scale=0.999, crop_ratio=0.5)
    values = draw_parameters(200, 0, 1, config)
    whole = column(values, "width") == 1
    assert whole.float().mean() > 0.9
    assert (column(values, "height")[whole] == 1).all()
    assert (column(values, "left")[whole] == 0).all()


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


@pytest.mark.parametrize(("top", "left", "height", "width"), [(3, 8, 13, 19), (0, 11, 31, 21)])
def test_crop_is_that_of_torchvision(top: int, left: int, height: int, width: int) -> None:
    images, masks = make_batch()
    shares = {"top": top, "left": left, "height": height, "width": width}
    rows = parameters(**{name: value / SIZE for name, value in shares.items()})
    cropped, cropped_masks = augment(images, masks, rows)
    box = (top, left, height, width, [SIZE, SIZE])
    expected = oracle.resized_crop(images, *box, antialias=False)
    # At its border torchvision repeats the crop's last pixel; here the image's next one is read.
    torch.testing.assert_close(
        cropped[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], rtol=0, atol=1e-5
    )
    nearest = InterpolationMode.NEAREST_EXACT
    assert torch.equal(cropped_masks, oracle.resized_crop(masks, *box, interpolation=nearest))


@pytest.mark.parametrize(
    ("flips", "dimensions"),
    [
        ({}, []),
        ({"flip_horizontal": 1.0}, [3]),
        ({"flip_vertical": 1.0}, [2]),
        ({"flip_horizontal": 1.0, "flip_vertical": 1.0}, [2, 3]),
    ],
)
def test_flips_move_pixels_exactly(flips: dict[str, float], dimensions: list[int]) -> None:
    images, masks = make_batch()
    flipped, flipped_masks = augment(images, masks, parameters(**flips))
    assert torch.equal(flipped, images.flip(dimensions))
    assert torch.equal(flipped_masks, masks.flip(dimensions))


@pytest.mark.parametrize("size", [24, 56, 100])
def test_parameters_that_change_nothing_give_the_image_at_any_size(size: int) -> None:
    images, masks = make_batch(size=size)
    rows = draw_parameters(4, 0, 1, NOTHING)
    same, same_masks = augment(images, masks, rows)
    torch.testing.assert_close(same, images, rtol=0, atol=1e-4)
    assert torch.equal(same_masks, masks)


def test_image_and_mask_stay_aligned_and_in_their_ranges() -> None:
    _, masks = make_batch(64)
    rows = draw_parameters(64, 0, 1, AugmentConfig(brightness=0, contrast=0))
    images, changed = augment(masks, masks, rows)
    assert set(changed.unique().tolist()) <= {0.0, 1.0}
    assert images.min() >= 0
    assert images.max() <= 1 + 1e-6
    assert ((images > 0.5) == (changed > 0)).float().mean() > 0.99
    assert not torch.equal(changed, masks)


def test_an_image_is_changed_alike_in_any_batch() -> None:
    images, masks = make_batch()
    rows = draw_parameters(4, 0, 1, AugmentConfig())
    together, _ = augment(images, masks, rows)
    for index in range(4):
        alone, _ = augment(images[[index]], masks[[index]], rows[[index]])
        torch.testing.assert_close(alone, together[[index]])
