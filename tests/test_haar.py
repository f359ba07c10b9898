import pytest
import torch

from fsl_utils.generator import haar


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_transform_is_orthonormal_and_goes_back(levels):
    matrix = haar.matrix(levels)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(4**levels))
    # The coarsest band is 2^levels times the block's mean.
    torch.testing.assert_close(matrix[0], torch.full((4**levels,), 0.5**levels))
    pixels = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    bands = haar.bands(pixels, levels)
    assert bands.shape == (3, 4**levels, 32 // 2**levels, 32 // 2**levels)
    torch.testing.assert_close(haar.pixels(bands, levels), pixels)


def test_a_constant_image_lies_in_the_coarsest_band_alone():
    bands = haar.bands(torch.full((1, 1, 16, 16), 0.3), 3)
    torch.testing.assert_close(bands[:, 0], torch.full((1, 2, 2), 0.3 * 8))
    assert bands[:, 1:].abs().max() < 1e-6
