"""What is stored beside the sources equals what they make."""

from tools import headline


def test_headline_picture_is_current():
    assert headline.PICTURE.read_text(encoding="utf-8") == headline.headline()
