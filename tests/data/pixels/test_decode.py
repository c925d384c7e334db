import io
import os
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from dpl.data.pixels.decode import FORMATS, read_image, unreadable
from dpl.data.task import Encoded
from dpl.utils.errors import DplError

RAMP = np.tile(np.arange(0, 256, 5, dtype=np.uint8), (40, 1))  # (40, 52): grey, dark to light
COLOUR = np.stack([RAMP, RAMP[:, ::-1], np.full_like(RAMP, 90)], axis=-1)


def pixels(path, shortest=None) -> np.ndarray:
    image = read_image(path, shortest)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def far(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference, in grey levels."""
    return np.abs(one - other.astype(int)).max()


@pytest.mark.parametrize("ending", ["png", "bmp", "ppm", "tif", "tga", "webp", "gif", "jpg", "jp2", "avif"])
def test_formats_give_the_picture(tmp_path, ending):
    path = tmp_path / f"picture.{ending}"
    Image.fromarray(COLOUR).save(path)
    difference = np.abs(pixels(path) - COLOUR)
    assert difference.max() == 0 if ending in ("png", "bmp", "ppm", "tif", "tga") else difference.mean() < 12


@pytest.mark.parametrize("ending, dtype", [("png", np.uint16), ("tif", np.uint16), ("tif", ">u2"), ("tif", np.int32)])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path, ending, dtype):
    path = tmp_path / f"grey.{ending}"
    Image.fromarray(RAMP.astype(dtype) * 257).save(path)
    assert far(pixels(path), RAMP[..., None].repeat(3, -1)) == 0


def test_16_bit_pgm_is_scaled(tmp_path):
    path = tmp_path / "grey.pgm"
    path.write_bytes(b"P5 52 40 65535\n" + (RAMP.astype(">u2") * 257).tobytes())
    assert far(pixels(path), RAMP[..., None].repeat(3, -1)) == 0


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0, 1e9])
def test_float_grey_is_scaled_to_its_range(tmp_path, white):
    path = tmp_path / "grey.tif"
    Image.fromarray((RAMP / 255 * white).astype(np.float32)).save(path)
    assert far(pixels(path), RAMP[..., None].repeat(3, -1)) <= 1


def test_float_grey_with_no_number_in_it_is_black_there(tmp_path):
    values = np.full((4, 4), 0.5, np.float32)
    values[0, 0], values[1, 1], values[2, 2] = np.nan, np.inf, -np.inf
    Image.fromarray(values).save(tmp_path / "grey.tif")
    grey = pixels(tmp_path / "grey.tif")[..., 0]
    assert grey[0, 0] == grey[1, 1] == grey[2, 2] == 0 and grey[3, 3] == 128


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_what_is_transparent_becomes_white(tmp_path, mode):
    path = tmp_path / "clear.png"
    image = Image.new("RGBA", (6, 4), (10, 10, 10, 255))
    image.paste((0, 0, 0, 0), (0, 0, 3, 4))
    if mode in ("RGB", "L"):
        image = image.convert(mode)
        image.save(path, transparency=(0, 0, 0) if mode == "RGB" else 0)
    else:
        image.convert(mode).save(path)
    found = pixels(path)
    assert (found[:, :3] == 255).all() and far(found[:, 3:], np.full(3, 10)) <= 1


def test_half_transparent_is_half_white(tmp_path):
    Image.new("RGBA", (4, 4), (0, 100, 0, 128)).save(tmp_path / "half.png")
    assert far(pixels(tmp_path / "half.png"), np.array([127, 177, 127])) <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_other_modes_become_rgb(tmp_path, mode):
    path = tmp_path / ("picture.jpg" if mode in ("CMYK", "YCbCr") else "picture.png")
    Image.new("RGB", (16, 16), (255, 255, 255)).convert(mode).save(path)
    assert pixels(path).min() >= 250


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_the_exif_orientation_is_applied(tmp_path, orientation, ending):
    path = tmp_path / f"turned.{ending}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOUR).save(path, exif=exif)
    plain = Image.fromarray(COLOUR)
    plain.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(plain))
    found = pixels(path)
    assert found.shape == expected.shape and np.abs(found - expected).mean() < 6


def test_broken_exif_leaves_a_sound_picture(tmp_path):
    path = tmp_path / "exif.jpg"
    Image.fromarray(COLOUR).save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert pixels(path).shape == COLOUR.shape


@pytest.mark.parametrize("ending", ["gif", "png", "webp"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path, ending):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"two.{ending}", save_all=True, append_images=frames[1:])
    assert far(pixels(tmp_path / f"two.{ending}"), np.array([255, 0, 0])) <= 6


@pytest.mark.parametrize("ending", ["jpg", "png"])
@pytest.mark.parametrize("size, smaller", [((400, 300), (133, 100)), ((300, 900), (100, 300)), ((90, 70), (90, 70))])
def test_a_large_picture_is_scaled_down_on_request(draw, tmp_path, ending, size, smaller):
    path = draw(tmp_path / f"large.{ending}", size=size)
    image = read_image(path, shortest=100)
    assert image.size == smaller
    expected = read_image(path).resize(smaller, Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(image).astype(int) - np.asarray(expected)).mean() < 2


def jpeg(**options) -> bytes:
    data = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(data, "JPEG", **options)
    return data.getvalue()


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.2, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_truncated_jpeg_is_found(tmp_path, kept, options):
    whole, path = jpeg(**options), tmp_path / "part.jpg"
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert list(unreadable([path])) == [path]
    with pytest.raises(DplError, match=r"cannot read .*part\.jpg"):
        read_image(path)


@pytest.mark.parametrize("ending", ["png", "bmp", "gif", "webp", "tif", "ppm"])
def test_other_truncated_files_are_found(draw, tmp_path, ending):
    path = draw(tmp_path / f"part.{ending}", size=(64, 64))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert list(unreadable([path])) == [path]


DAMAGES = st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=9)))  # where (part of the file), and what is written


@given(st.sampled_from(["jpg", "png", "gif", "webp", "bmp"]), DAMAGES)
def test_damage_is_told_alike_by_the_check_and_by_the_reader(tmp_path_factory, ending, damages):
    path = tmp_path_factory.getbasetemp() / f"damaged.{ending}"
    Image.fromarray(COLOUR).save(path)
    data = bytearray(path.read_bytes())
    for place, patch in damages:
        start = int(place * len(data))
        data[start : start + len(patch)] = patch
    path.write_bytes(data)
    if unreadable([path]):
        with pytest.raises(DplError, match="damaged"):
            read_image(path)
    else:
        assert read_image(path).mode == "RGB" == read_image(path, shortest=20).mode


def encoded(form: str, mode: str, **options) -> bytes:
    data = io.BytesIO()
    Image.fromarray(COLOUR).convert(mode).save(data, form, **options)
    return data.getvalue()


KINDS = {
    f"{form} {mode}": encoded(form, mode)
    for form, modes in {
        "JPEG": "L RGB CMYK", "MPO": "RGB", "PNG": "1 L LA P RGB RGBA I;16", "BMP": "1 L P RGB", "DIB": "RGB", "GIF": "P L",
        "WEBP": "RGB RGBA", "TIFF": "1 L P RGB RGBA CMYK LAB I;16 F", "PPM": "1 L RGB I", "TGA": "L P RGB RGBA", "AVIF": "RGB",
        "JPEG2000": "L RGB RGBA",
    }.items()
    for mode in modes.split()
}  # fmt: skip
KINDS["JPEG progressive"] = encoded("JPEG", "RGB", progressive=True)
KINDS["TIFF packed"] = encoded("TIFF", "RGB", compression="tiff_lzw")
KINDS["GIF animated"] = encoded("GIF", "P", save_all=True, append_images=[Image.new("P", (52, 40), 7)])
KINDS["PNG animated"] = encoded("PNG", "RGB", save_all=True, append_images=[Image.new("RGB", (52, 40), "red")])


def test_every_format_is_among_the_kinds():
    assert {kind.split()[0] for kind in KINDS} == set(FORMATS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_from_a_file_and_from_bytes(tmp_path, kind):
    path = tmp_path / "picture"
    path.write_bytes(KINDS[kind])
    whole = Encoded("row 3", lambda: KINDS[kind])
    assert unreadable([path]) == {} == unreadable([whole])
    for shortest in (None, 10):
        one, other = read_image(path, shortest), read_image(whole, shortest)
        assert one.mode == other.mode == "RGB" and one.tobytes() == other.tobytes()


@given(st.sampled_from(list(KINDS)), st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=6), st.floats(0, 1))
def test_flipped_bytes_and_cut_ends_never_do_more_than_make_a_picture_unreadable(kind, flips, kept):
    data = bytearray(KINDS[kind])
    for place, mask in flips:
        data[int(place * (len(data) - 1))] ^= mask
    source = Encoded("row 3", lambda: bytes(data[: int(len(data) * (1 if kept > 0.3 else kept))]))
    reasons = unreadable([source])
    for shortest in (None, 10):
        try:
            image = read_image(source, shortest)
        except DplError as error:
            assert "row 3" in str(error) and "\n" not in str(error)
            assert reasons and "\n" not in reasons[source]
        else:
            assert image.mode == "RGB" and min(image.size) > 0 and not reasons


def test_bytes_that_cannot_be_had_are_named():
    def gone() -> bytes:
        raise OSError("the row has no image")

    for fetch, reason in ((gone, "the row has no image"), (bytes, "the file is empty"), (lambda: b"text", "not an image")):
        source = Encoded("data train/7", fetch)
        with pytest.raises(DplError, match=f"cannot read data train/7 as an image: {reason}"):
            read_image(source)
        assert reason in unreadable([source])[source]


def test_a_bomb_in_bytes_is_an_error(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "more than 1000 pixels" in unreadable([source := Encoded("x", lambda: KINDS["PNG RGB"])])[source]


@pytest.mark.parametrize("size", ["0 0", "0 5", "5 0"])
def test_a_picture_without_pixels_is_unreadable(tmp_path, size):
    path = tmp_path / "none.ppm"
    path.write_bytes(f"P6 {size} 255\n".encode())
    assert list(unreadable([path])) == [path]
    with pytest.raises(DplError, match="none.ppm"):
        read_image(path)


def test_what_is_no_picture_has_a_reason_in_one_line(draw, tmp_path):
    good = draw(tmp_path / "good.png")
    texts = {"empty.jpg": b"", "text.jpg": b"hello\n", "page.png": b"<html>", "eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n"}
    for name, data in texts.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    bad = [tmp_path / name for name in (*texts, "broken.jpg", "folder.jpg", "pipe.jpg")]
    found = unreadable([good, *bad])
    assert list(found) == bad and all(reason and "\n" not in reason for reason in found.values())
    assert found[bad[0]] == "the file is empty"
    for path in bad:
        with pytest.raises(DplError, match=path.name):
            read_image(path)


@pytest.mark.parametrize("limit", [200, 100], ids=["PIL would warn", "PIL would raise"])
def test_a_decompression_bomb_is_an_error(draw, tmp_path, monkeypatch, limit):
    path = draw(tmp_path / "bomb.png", size=(20, 16))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert str(limit) in unreadable([path])[path]
    with pytest.raises(DplError, match=rf"bomb\.png.*{limit}"):
        read_image(path)


def test_warnings_of_the_decoder_are_kept_quiet_and_filters_restored(tmp_path):
    path = tmp_path / "palette.png"  # PIL warns when it makes this one RGB
    image = Image.new("P", (4, 4))
    image.putpalette([1, 2, 3, 4, 5, 6])
    image.save(path, transparency=b"\x00\xff")
    before = list(warnings.filters)
    assert unreadable([path] * 20) == {} and pixels(path).shape == (4, 4, 3)
    assert warnings.filters == before
