import gzip

import numpy as np
import pytest

from iclkit.corpora import CorpusError, digits, problems
from iclkit.corpora import images as images_module


@pytest.fixture
def images(monkeypatch, rng):
    pixels = rng.integers(0, 17, (400, 64))
    rows = np.column_stack([pixels, np.arange(400) % 10])
    content = gzip.compress("\n".join(",".join(map(str, row)) for row in rows).encode())
    monkeypatch.setattr(images_module, "read", lambda *_: content)
    return pixels


def test_sources_are_transposed_with_noise_and_clean(images, rng):
    sources = digits(rng=rng)
    assert list(sources) == ["transposed", "clean"]
    np.testing.assert_array_equal(sources["clean"].E, images)
    np.testing.assert_allclose(sources["clean"].y[:10], np.linspace(-1, 1, 10))
    np.testing.assert_array_equal(sources["transposed"].y, sources["clean"].y)
    turned = images.reshape(-1, 8, 8).swapaxes(1, 2).reshape(-1, 64)
    noise = sources["transposed"].E - turned
    n = noise.size
    assert abs(noise.mean()) < 4.5 * 6 / np.sqrt(n)
    assert abs(noise.var() / 36 - 1) < 4.5 * np.sqrt(2 / n)


def test_without_noise_the_first_source_is_the_transpose(images, rng):
    noisy = digits(rng=rng, noise_std=0)["transposed"].E
    assert noisy[3, 8 * 2 + 5] == images[3, 8 * 5 + 2]


def test_sources_do_not_share_memory(images, rng):
    sources = digits(rng=rng)
    assert not np.shares_memory(sources["clean"].y, sources["transposed"].y)


def test_arguments_are_checked(images, rng):
    with pytest.raises(ValueError, match="noise_std must be finite and >= 0, got -1"):
        digits(rng=rng, noise_std=-1)
    with pytest.raises(TypeError, match="rng must be"):
        digits(rng=0)


ROW = ",".join(["1"] * 65)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1,2,3",
        ROW + "\n1,2",
        ROW[:-1] + "a",
        ROW[:-1] + "10",
        "17" + ROW[1:],
        "nan" + ROW[1:],
        "ä",
    ],
)
def test_content_that_is_no_table_of_digits_ends_in_one_line(text):
    with pytest.raises(CorpusError) as caught:
        images_module.parse_digits(gzip.compress(text.encode()))
    assert "\n" not in str(caught.value)
    assert "scikit-learn" in str(caught.value)


def test_content_cut_short_ends_in_one_line():
    with pytest.raises(CorpusError, match="must be rows of 64 pixels"):
        images_module.parse_digits(gzip.compress(b"1,2,3")[:-6])


def test_the_real_images_are_there(rng):
    if "digits" in problems():
        pytest.skip(problems()["digits"])
    sources = digits(rng=rng)
    assert sources["clean"].E.shape == (1797, 64)
    assert np.bincount(np.rint(4.5 * sources["clean"].y + 4.5).astype(int)).min() == 174
