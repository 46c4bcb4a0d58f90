import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as oracle

from busi_tune.config import AugmentConfig
from busi_tune.data.augment.draws import POINTS, draw_parameters
from busi_tune.data.augment.space import resample
from tests.data.augment.examples import NOTHING, SIZE, column, make_batch, parameters

ROTATED, ZOOMED, DEFORMED = (
    AugmentConfig(rotation=180), AugmentConfig(scale=1), AugmentConfig(elastic=0.5),
)  # fmt: skip


def make_ramps(num_images: int, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """Images whose grey level is the pixel's x, and those whose is its y, shares of the side."""
    centres = (torch.arange(size) + 0.5) / size
    across = centres.expand(num_images, 1, size, size)
    return across, across.transpose(2, 3)


def read_places(rows: Tensor, config: AugmentConfig, size: int = SIZE) -> Tensor:
    """Where the pixels of (B, S, S) were read, x and y; (2, B, S, S)."""
    empty = torch.zeros(len(rows), 1, size, size)
    places = [resample(ramp, empty, rows, config)[0] for ramp in make_ramps(len(rows), size)]
    return torch.stack(places)[:, :, 0]


@pytest.mark.parametrize(("top", "left", "height", "width"), [(3, 8, 13, 19), (0, 11, 31, 21)])
def test_crop_is_that_of_torchvision(top: int, left: int, height: int, width: int) -> None:
    images, masks = make_batch()
    shares = {"top": top, "left": left, "height": height, "width": width}
    rows = parameters(**{name: value / SIZE for name, value in shares.items()})
    cropped, cropped_masks = resample(images, masks, rows, NOTHING)
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
    flipped, flipped_masks = resample(images, masks, parameters(**flips), NOTHING)
    assert torch.equal(flipped, images.flip(dimensions))
    assert torch.equal(flipped_masks, masks.flip(dimensions))


@pytest.mark.parametrize("quarters", [-1, 0, 1, 2])
def test_quarter_turns_move_pixels_counter_clockwise(quarters: int) -> None:
    images, masks = make_batch()
    turned, turned_masks = resample(images, masks, parameters(rotation=90.0 * quarters), ROTATED)
    torch.testing.assert_close(turned, images.rot90(quarters, (2, 3)), rtol=0, atol=1e-4)
    assert torch.equal(turned_masks, masks.rot90(quarters, (2, 3)))


def test_zoom_keeps_the_centre() -> None:
    images, masks = make_batch()
    half = {"left": 0.25, "top": 0.25, "width": 0.5, "height": 0.5}
    zoomed, zoomed_masks = resample(images, masks, parameters(zoom=2.0), ZOOMED)
    cropped, cropped_masks = resample(images, masks, parameters(**half), NOTHING)
    torch.testing.assert_close(zoomed, cropped, rtol=0, atol=1e-5)
    assert torch.equal(zoomed_masks, cropped_masks)


@pytest.mark.parametrize(
    ("config", "change"),
    [(ZOOMED, {"zoom": 0.5}), (ROTATED, {"rotation": 45.0}), (ZOOMED, {"zoom": 0.7})],
)
def test_outside_the_image_is_black_and_no_lesion(
    config: AugmentConfig, change: dict[str, float]
) -> None:
    white = torch.ones(4, 1, SIZE, SIZE)
    images, masks = resample(white, white, parameters(**change), config)
    assert (masks[..., 0, 0] == 0).all() and (images[..., 0, 0] == 0).all()
    assert (masks[..., SIZE // 2, SIZE // 2] == 1).all()
    # Of the outermost half pixel the image is dark and the mask decided.
    assert ((images > 0.5) == (masks > 0)).float().mean() > 0.97


def test_equal_control_points_shift_the_image() -> None:
    rows = parameters(1)
    shift = torch.cat([torch.full((POINTS**2,), 3 / SIZE), torch.full((POINTS**2,), -2 / SIZE)])
    images, masks = make_batch(1)
    moved, moved_masks = resample(images, masks, torch.cat([rows, shift[None]], dim=1), DEFORMED)
    torch.testing.assert_close(moved[..., 2:, :-3], images[..., :-2, 3:], rtol=0, atol=1e-4)
    assert torch.equal(moved_masks[..., 2:, :-3], masks[..., :-2, 3:])
    assert not moved_masks[..., :2, :].any() and not moved_masks[..., -3:].any()


def test_deformations_stay_below_their_limit_and_do_not_fold() -> None:
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(2, (200, 2 * POINTS**2), generator=generator) * 2.0 - 1
    rows = torch.cat([parameters(200), 0.12 * signs], dim=1)
    x, y = read_places(rows, DEFORMED)
    inside = (slice(None), slice(6, -6), slice(6, -6))
    shifts = torch.stack([x, y]) - torch.stack([ramp[:, 0] for ramp in make_ramps(200)])
    largest = shifts[:, *inside].abs().max()
    assert 0.08 < largest <= 0.12 + 1e-5
    (x_down, x_across), (y_down, y_across) = (
        torch.gradient(place[inside], dim=(1, 2)) for place in (x, y)
    )
    assert (x_across * y_down - x_down * y_across).min() > 0


def test_image_and_mask_stay_aligned_under_every_change() -> None:
    config = AugmentConfig(lesion_crop=0.5, rotation=30, scale=0.3, elastic=0.08)
    _, masks = make_batch(64)
    images, changed = resample(masks, masks, draw_parameters(64, 0, 1, config), config)
    assert set(changed.unique().tolist()) == {0.0, 1.0}
    assert ((images > 0.5) == (changed > 0)).float().mean() > 0.99


def test_a_crop_holds_the_lesion_that_it_is_placed_on() -> None:
    config = AugmentConfig(crop_scale=0.05, lesion_crop=1)
    rows = draw_parameters(300, 0, 1, config)
    masks = torch.zeros(300, 1, SIZE, SIZE)
    pixels = torch.randint(SIZE, (300, 2), generator=torch.Generator().manual_seed(0))
    masks[torch.arange(300), 0, pixels[:, 0], pixels[:, 1]] = 1
    images = torch.rand(300, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    _, changed = resample(images, masks, rows, config)
    assert changed.flatten(1).any(dim=1).all()
    _, anywhere = resample(images, masks, rows, AugmentConfig(crop_scale=0.05))
    assert not anywhere.flatten(1).any(dim=1).all()


def test_a_crop_that_is_placed_stays_within_the_image_and_keeps_its_size() -> None:
    config = AugmentConfig(lesion_crop=1, horizontal_flip=0, vertical_flip=0)
    rows = draw_parameters(300, 0, 1, config)
    masks = torch.zeros(300, 1, SIZE, SIZE)
    masks[:150, :, 0, 0] = masks[150:, :, -1, -1] = 1
    for ramp, side, axis in zip(make_ramps(300), ("width", "height"), (3, 2), strict=True):
        steps = resample(ramp, masks, rows, config)[0].diff(dim=axis)
        # Beyond the edge, and on its outer half pixel alone, a ramp would stay constant.
        inner = steps.narrow(axis, 4, SIZE - 9)
        expected = column(rows, side)[:, None, None, None] / SIZE
        torch.testing.assert_close(inner, expected.expand_as(inner), rtol=0, atol=1e-5)


def test_lesion_crops_see_the_lesion_where_the_deformation_has_taken_it() -> None:
    config = AugmentConfig(crop_scale=0.05, lesion_crop=1, rotation=180, scale=0.2, elastic=0.05)
    _, masks = make_batch(300)
    masks[:, :, :, : SIZE // 2] = 0
    _, changed = resample(masks, masks, draw_parameters(300, 0, 1, config), config)
    assert changed.flatten(1).any(dim=1).float().mean() > 0.98


def test_the_pixel_is_drawn_from_all_of_the_lesion() -> None:
    masks = torch.zeros(2, 1, SIZE, SIZE)
    masks[:, :, 4, 4] = masks[:, :, 28, 20] = 1
    rows = torch.stack([
        parameters(1, width=0.1, height=0.1, on_lesion=1.0, across=0.5, down=0.5, pixel=pixel)[0]
        for pixel in (0.3, 0.7)
    ])  # fmt: skip
    config = AugmentConfig(lesion_crop=1)
    x, y = (ramp.mean(dim=(1, 2, 3)) for ramp in (
        resample(ramp, masks, rows, config)[0] for ramp in make_ramps(2)
    ))  # fmt: skip
    torch.testing.assert_close(SIZE * x, torch.tensor([4.5, 20.5]))
    torch.testing.assert_close(SIZE * y, torch.tensor([4.5, 28.5]))


def test_images_without_a_lesion_are_cropped_where_they_were_drawn() -> None:
    images, masks = make_batch()
    rows = draw_parameters(4, 0, 1, AugmentConfig(lesion_crop=1))
    placed, _ = resample(images, 0 * masks, rows, AugmentConfig(lesion_crop=1))
    drawn, _ = resample(images, 0 * masks, rows, AugmentConfig())
    assert torch.equal(placed, drawn)
