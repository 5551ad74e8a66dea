import hashlib
import json
from importlib.metadata import version

import pytest
import torch
from pydantic import ValidationError

from mechconn.core import Picture, hash_settings, read_environment


def test_picture_keeps_every_pixel():
    pixels = torch.arange(2 * 3 * 3, dtype=torch.uint8).view(2, 3, 3)
    picture = Picture.of(pixels)
    assert (picture.height, picture.width) == (2, 3)
    assert (torch.from_numpy(picture.pixels().copy()) == pixels).all()
    assert Picture.model_validate_json(picture.model_dump_json()) == picture


def test_picture_of_a_transposed_tensor_is_row_by_row():
    pixels = torch.arange(12, dtype=torch.uint8).view(3, 2, 2).permute(1, 2, 0)
    assert (torch.from_numpy(Picture.of(pixels).pixels().copy()) == pixels).all()


def test_settings_hash_depends_on_values_and_not_on_their_order():
    assert hash_settings({"a": 1, "b": [2.0]}) == hash_settings({"b": [2.0], "a": 1})
    assert hash_settings({"a": 1}) != hash_settings({"a": 2})
    # Users' stores name runs by it.
    text = '{"a": "\\u00fc", "b": [1, 2.5]}'
    settings = {"b": [1, 2.5], "a": "\N{LATIN SMALL LETTER U WITH DIAERESIS}"}
    assert hash_settings(settings) == hashlib.sha256(text.encode()).hexdigest()


def test_environment_names_versions_and_is_json():
    here = read_environment("cpu")
    assert json.loads(here.model_dump_json())["versions"]["torch"] == version("torch")
    assert here.device == "cpu"
    assert here.cores >= 1


def test_records_refuse_unknown_fields():
    with pytest.raises(ValidationError, match="extra"):
        Picture.model_validate({"height": 1, "width": 1, "data": "", "colour": "red"})
