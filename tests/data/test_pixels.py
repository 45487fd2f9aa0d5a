"Depth, frames, windows, markers: what is in the pixels is read as the standard says, or refused."

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_dicom import chest, dicom, outcome

from uar_nb.core import UARError
from uar_nb.data.dicom import dicom_info, read_dicom, real_range, stretch, value_counts
from uar_nb.data.image import image_info, read_image
from uar_nb.data.quality import check_view
from uar_nb.data.study import View

pydicom = pytest.importorskip('pydicom')
get_testdata_file = pytest.importorskip('pydicom.data').get_testdata_file

COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # of a PNG, by its number of channels


# %% PNG of 16 bits


def filtered(lines, filters, width):
    "Lines of bytes [n, m] as PNG stores them, by a filter each; `width` bytes a pixel."
    above = np.zeros(lines.shape[1], int)
    stored = []
    for line, kind in zip(lines.astype(int), filters, strict=True):
        left = np.concatenate([np.zeros(width, int), line[:-width]])
        corner = np.concatenate([np.zeros(width, int), above[:-width]])
        guess = left + above - corner
        far = [np.abs(guess - value) for value in (left, above, corner)]
        of_up_or_corner = np.where(far[1] <= far[2], above, corner)
        paeth = np.where((far[0] <= far[1]) & (far[0] <= far[2]), left, of_up_or_corner)
        predicted = (np.zeros_like(line), left, above, (left + above) // 2, paeth)[kind]
        stored.append(bytes([kind]) + ((line - predicted) % 256).astype(np.uint8).tobytes())
        above = line
    return b''.join(stored)


def png(path, channels, chunks=(), interlaced=False, pieces=1):
    "A PNG of 16 bits from [H, W, C], written by hand with every filter in turn."
    height, width, count = channels.shape
    grids = [(0, 0, 1, 1)]
    if interlaced:  # the seven passes of Adam7
        grids = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)]
        grids += [(2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    data = b''
    for top, left, down, right in grids:
        part = channels[top::down, left::right]
        lines = part.astype('>u2').reshape(len(part), -1).view(np.uint8)
        data += filtered(lines, np.arange(len(lines)) % 5, 2 * count) if part.size else b''
    packed = zlib.compress(data)
    cuts = np.linspace(0, len(packed), pieces + 1).astype(int)
    head = struct.pack('>IIBBBBB', width, height, 16, COLOUR_TYPES[count], 0, 0, interlaced)
    idat = [(b'IDAT', packed[a:b]) for a, b in zip(cuts, cuts[1:], strict=False)]
    content = b'\x89PNG\r\n\x1a\n'
    for name, body in [(b'IHDR', head), *chunks, *idat, (b'IEND', b'')]:
        content += struct.pack('>I', len(body)) + name + body
        content += struct.pack('>I', zlib.crc32(name + body))
    Path(path).write_bytes(content)
    return Path(path)


OPAQUE = 65535


def with_channels(grey, count):
    "Grey as [H, W, count]: grey, with alpha, as colours, as colours with alpha."
    alpha = np.full_like(grey, OPAQUE)
    return np.stack(
        {1: [grey], 2: [grey, alpha], 3: [grey] * 3, 4: [grey] * 3 + [alpha]}[count], -1
    )


@pytest.mark.parametrize('count', [1, 2, 3, 4])
@pytest.mark.parametrize('interlaced', [False, True])
@pytest.mark.parametrize('bits', [10, 12, 14, 16])
def test_deep_png_keeps_its_depth(tmp_path, count, interlaced, bits):
    grey = (chest(61, 53).astype(int) * (2**bits - 1) // 4095).astype(np.uint16)
    file = png(tmp_path / 'a.png', with_channels(grey, count), interlaced=interlaced, pieces=3)
    by_hand = Image.fromarray(stretch(grey)).resize((128, 128), Image.Resampling.BILINEAR)
    assert np.abs(read_image(file) - np.asarray(by_hand)).max() <= 0.51
    assert image_info(file) == ('PNG', 53, 61)


def test_deep_colours_have_the_brightness_of_shallow_ones(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (40, 30, 3))
    colours[0, 0], colours[0, 1] = 0, 255
    Image.fromarray(colours.astype(np.uint8)).save(tmp_path / '8.png')
    deep = png(tmp_path / '16.png', (colours * 257).astype(np.uint16))
    assert np.abs(read_image(deep).astype(int) - read_image(tmp_path / '8.png')).max() <= 1


def test_alpha_is_laid_on_black_and_what_is_invisible_does_not_count(tmp_path):
    grey = chest(60, 60)
    alpha = np.full_like(grey, OPAQUE)
    alpha[:20] = 0
    alpha[20:40] = OPAQUE // 2
    hidden = np.where(alpha == 0, OPAQUE, grey)  # white where nobody sees it
    image = read_image(png(tmp_path / 'a.png', np.stack([hidden, alpha], -1)), size=60)
    ends = grey[20:].min(), grey[20:].max()
    expected = stretch(grey, tuple(map(float, ends))) * (alpha / OPAQUE)
    assert np.abs(image - expected).max() <= 0.51
    assert image[:20].max() == 0


@pytest.mark.parametrize('count', [1, 3])
def test_a_value_that_is_declared_transparent_is_invisible(tmp_path, count):
    grey = chest(60, 60)
    grey[:20] = 60_000
    declared = (b'tRNS', struct.pack('>H', 60_000) * count)
    image = read_image(png(tmp_path / 'a.png', with_channels(grey, count), [declared]), size=60)
    assert image[:20].max() == 0 and image[20:].max() == 255


@pytest.mark.parametrize('deep', [False, True])
def test_what_is_transparent_everywhere_is_refused(tmp_path, deep):
    if deep:
        png(tmp_path / 'a.png', np.stack([chest(), np.zeros_like(chest())], -1))
    else:
        Image.merge('LA', [Image.new('L', (9, 9), 200), Image.new('L', (9, 9))]).save(
            tmp_path / 'a.png'
        )
    assert outcome(read_image, tmp_path / 'a.png').what == 'image is transparent everywhere'


def test_deep_colours_are_turned_as_exif_says(tmp_path):
    grey = chest(60, 40)
    exif = Image.Exif()
    exif[274] = 6
    turned = with_channels(np.rot90(grey), 3)
    file = png(tmp_path / 'a.png', turned, [(b'eXIf', exif.tobytes()[6:])])
    assert np.array_equal(read_image(file), read_image(png(tmp_path / 'b.png', grey[..., None])))


def test_damaged_deep_png_is_refused(tmp_path):
    file = png(tmp_path / 'a.png', with_channels(chest(), 4))
    file.write_bytes(file.read_bytes()[:-2000])
    assert 'truncated or damaged' in outcome(read_image, file).what


def test_several_frames_in_a_png(tmp_path):
    frames = [Image.fromarray((chest() >> shift).astype(np.uint8)) for shift in (4, 5)]
    frames[0].save(tmp_path / 'a.png', save_all=True, append_images=frames[1:])
    for function in (read_image, image_info):
        assert (
            outcome(function, tmp_path / 'a.png').what == 'PNG file holds 2 frames, not one image'
        )


def test_jpeg_of_12_bits_is_named(tmp_path):
    Image.fromarray((chest() >> 4).astype(np.uint8)).save(tmp_path / 'a.jpg')
    data = (tmp_path / 'a.jpg').read_bytes()
    at = data.index(b'\xff\xc0\x00\x0b')
    (tmp_path / 'a.jpg').write_bytes(data[: at + 4] + b'\x0c' + data[at + 5 :])
    error = outcome(read_image, tmp_path / 'a.jpg')
    assert '12 bits' in error.what and 'PNG' in error.remedy


# %% Frames


def fragments(*streams, offsets=()):
    "Compressed images as the value of PixelData, with the table of offsets that is told."
    table = struct.pack(f'<{len(offsets)}I', *offsets)
    return (
        struct.pack('<HHI', 0xFFFE, 0xE000, len(table))
        + table
        + b''.join(struct.pack('<HHI', 0xFFFE, 0xE000, len(s)) + s for s in streams)
    )


def compressed(path, pixel_data, syntax, **elements):
    "A DICOM file with compressed 8-bit pixels."
    small = (chest() >> 4).astype(np.uint8)
    ds = pydicom.dcmread(dicom(path, **elements))
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.Rows, ds.Columns = small.shape
    ds.PixelData = pixel_data
    ds['PixelData'].VR = 'OB'
    ds['PixelData'].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path)
    return path


def jpeg():
    out = BytesIO()
    Image.fromarray((chest() >> 4).astype(np.uint8)).save(out, 'JPEG')
    return out.getvalue() + b'\0' * (out.tell() % 2)


def refused_frames(path):
    "How many frames the errors of header and pixels name; both must name them."
    said = {outcome(function, path).what for function in (read_dicom, dicom_info, read_image)}
    (what,) = said
    assert what.startswith('DICOM file holds ') and what.endswith(' frames, not one image')
    return int(what.split()[3])


TWICE = np.concatenate([chest(), chest()]).tobytes()


@pytest.mark.parametrize(
    'syntax', ['1.2.840.10008.1.2', '1.2.840.10008.1.2.1', '1.2.840.10008.1.2.1.99']
)
@pytest.mark.parametrize('told', [{}, {'NumberOfFrames': 1}, {'NumberOfFrames': None}])
def test_more_frames_than_the_header_says(tmp_path, syntax, told):
    assert refused_frames(dicom(tmp_path / 'a.dcm', syntax=syntax, PixelData=TWICE, **told)) == 2


def test_more_frames_than_the_header_says_compressed(tmp_path):
    stream = jpeg()
    baseline, rle = '1.2.840.10008.1.2.4.50', '1.2.840.10008.1.2.5'
    for name, data, syntax, frames in (
        ('no offsets', fragments(stream, stream, stream), baseline, 3),
        ('offsets', fragments(stream, stream, offsets=(0, len(stream) + 8)), baseline, 2),
        ('rle', fragments(bytes(64), bytes(64)), rle, 2),
    ):
        assert refused_frames(compressed(tmp_path / f'{name}.dcm', data, syntax)) == frames
    whole = read_dicom(compressed(tmp_path / 'one.dcm', fragments(stream), baseline))
    parts = [stream[i : i + 200] for i in range(0, len(stream), 200)]
    pieces = compressed(tmp_path / 'pieces.dcm', fragments(*parts, offsets=(0,)), baseline)
    np.testing.assert_array_equal(read_dicom(pieces), whole)


def test_a_stream_without_its_end_is_refused_by_the_header(tmp_path):
    path = compressed(tmp_path / 'a.dcm', fragments(jpeg()), '1.2.840.10008.1.2.4.50')
    path.write_bytes(path.read_bytes()[:-8])
    for function in (read_dicom, dicom_info):
        assert outcome(function, path).what == 'DICOM file ends before its pixels'


@pytest.mark.parametrize('added', [0, 1, 2, 100])
def test_bytes_behind_one_frame_are_no_frame(tmp_path, added):
    path = dicom(tmp_path / 'a.dcm', PixelData=chest().tobytes() + bytes(added))
    np.testing.assert_array_equal(read_dicom(path), stretch(chest()))


def test_a_frame_of_one_byte(tmp_path):
    one = dict(Rows=1, Columns=1, BitsAllocated=8, BitsStored=8, HighBit=7)
    path = dicom(tmp_path / 'a.dcm', PixelData=b'\7\0', **one)
    assert dicom_info(path).width == 1 and read_dicom(path).shape == (1, 1)


def test_cut_pixels_are_refused_by_the_header(tmp_path):
    path = dicom(tmp_path / 'a.dcm')
    path.write_bytes(path.read_bytes()[:-1000])
    for function in (read_dicom, dicom_info):
        assert 'truncated or damaged' in outcome(function, path).what
    short = dicom(tmp_path / 'b.dcm', PixelData=chest().tobytes()[:-1000])
    assert 'truncated or damaged' in outcome(dicom_info, short).what


# %% HighBit


@pytest.mark.parametrize('signed', [False, True])
@pytest.mark.parametrize(('stored', 'high'), [(12, 15), (12, 13), (10, 15), (14, 15)])
def test_bits_at_the_high_end(tmp_path, signed, stored, high):
    values = (chest().astype(int) >> max(0, 12 - stored)) - signed * 2 ** (stored - 1)
    words = (values << (high + 1 - stored)).astype(np.int16 if signed else np.uint16)
    junk = np.random.default_rng(0).integers(0, 2 ** (high + 1 - stored), words.shape)
    words |= junk.astype(words.dtype)  # what lies below the stored bits is not the image
    told = dict(BitsStored=stored, HighBit=high, PixelRepresentation=int(signed))
    expected = stretch(values)
    path = dicom(tmp_path / 'a.dcm', words, **told)
    np.testing.assert_allclose(read_dicom(path), expected, atol=1e-3)
    ds = pydicom.dcmread(path)
    ds.compress(pydicom.uid.RLELossless)
    ds.HighBit = high
    ds.save_as(tmp_path / 'rle.dcm')
    np.testing.assert_allclose(read_dicom(tmp_path / 'rle.dcm'), expected, atol=1e-3)


def test_bits_at_the_high_end_of_jpeg_2000(tmp_path):
    "Where the stream has 16 bits they are shifted; where it has the 12 stored ones they are not."
    pytest.importorskip('openjpeg')
    for shift in (4, 0):
        out = BytesIO()
        Image.fromarray(chest() << shift).save(out, 'JPEG2000', no_jp2=True, irreversible=False)
        ds = pydicom.dcmread(dicom(tmp_path / 'a.dcm', HighBit=15))
        ds.PixelData = pydicom.encaps.encapsulate([out.getvalue()])
        ds['PixelData'].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
        ds.save_as(tmp_path / 'b.dcm')
        if shift:
            expected = stretch(chest())
            np.testing.assert_allclose(read_dicom(tmp_path / 'b.dcm'), expected, atol=1e-3)


@pytest.mark.parametrize('high', [None, 0, 7, 16, 31, 255])
def test_a_highbit_that_cannot_be_is_no_statement(tmp_path, high):
    path = dicom(tmp_path / 'a.dcm', HighBit=high)
    np.testing.assert_array_equal(read_dicom(path), stretch(chest()))


# %% Tables, windows and slopes


def table(bits, entries, first=0):
    item = pydicom.Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item['LUTDescriptor'].VR = 'US'
    item.LUTData = [int(entry) for entry in entries]
    item['LUTData'].VR = 'US'
    return item


@pytest.mark.parametrize(
    ('bits', 'largest', 'white'),
    [
        (8, 120, 255),
        (8, 255, 255),
        (10, 600, 1023),
        (12, 2000, 4095),
        (12, 2047, 4095),
        (12, 4095, 4095),
        (14, 2000, 16383),
        (16, 30_000, 65535),
        (16, 65_535, 65535),
        (16, 4095, 4095),  # 16 declared for 12: how they are stored
        (8, 1000, 1023),  # fewer declared than used
    ],
)
def test_white_of_a_voi_table(tmp_path, bits, largest, white):
    entries = np.linspace(0, largest, 4096).round()
    path = dicom(tmp_path / 'a.dcm', VOILUTSequence=[table(bits, entries)])
    expected = entries[chest()] * 255 / white
    np.testing.assert_allclose(read_dicom(path), expected, atol=0.01)
    mended = dicom_info(path).white
    assert mended == ('' if white == 2**bits - 1 else f'{white:,}, not {2**bits - 1:,}')


def test_a_white_that_is_mended_is_told(tmp_path):
    "By a folder, a table, an audit without headers, and a report."
    from uar_nb.apps.audit import audit
    from uar_nb.apps.reporter import notes_on_views, read_study
    from uar_nb.data.load import load_studies

    entries = np.linspace(0, 4095, 4096).round()
    (tmp_path / 'set').mkdir()
    dicom(tmp_path / 'set' / 'odd.dcm', VOILUTSequence=[table(16, entries)])
    dicom(tmp_path / 'set' / 'fine.dcm', VOILUTSequence=[table(12, entries)])
    said = '1 images have a DICOM table that cannot mean its own white: odd.dcm (4,095, not 65,535)'
    assert load_studies(tmp_path / 'set').facts.texts('turned') == (said,)
    (tmp_path / 'set' / 'reports.csv').write_text('id,image\n1,odd.dcm\n2,fine.dcm\n')
    assert audit(tmp_path / 'set').notes.count(said) == 1
    notes = [
        notes_on_views(read_study([tmp_path / 'set' / name])) for name in ('odd.dcm', 'fine.dcm')
    ]
    assert any('cannot mean its white: 4,095, not 65,535' in note for note in notes[0])
    assert not any('white' in note for note in notes[1])


def groups(**macros):
    "A functional group with these macros."
    group = pydicom.Dataset()
    for name, elements in macros.items():
        item = pydicom.Dataset()
        for keyword, value in elements.items():
            setattr(item, keyword, value)
        setattr(group, name, [item])
    return group


WINDOW = dict(WindowCenter=1500, WindowWidth=1001)
SLOPE = dict(RescaleSlope=-2, RescaleIntercept=5000)


@pytest.mark.parametrize(
    'place', ['SharedFunctionalGroupsSequence', 'PerFrameFunctionalGroupsSequence']
)
def test_window_and_slope_of_functional_groups(tmp_path, place):
    group = groups(FrameVOILUTSequence=WINDOW, PixelValueTransformationSequence=SLOPE)
    plain = dicom(tmp_path / 'plain.dcm', **WINDOW, **SLOPE)
    enhanced = dicom(tmp_path / 'enhanced.dcm', NumberOfFrames=1, **{place: [group]})
    np.testing.assert_array_equal(read_dicom(enhanced), read_dicom(plain))
    assert not np.array_equal(read_dicom(plain), stretch(chest()))


def test_the_frames_own_window_wins_and_the_shared_slope_stays(tmp_path):
    other = dict(WindowCenter=2500, WindowWidth=501, VOILUTFunction='SIGMOID')
    shared = groups(FrameVOILUTSequence=WINDOW, PixelValueTransformationSequence=SLOPE)
    own = groups(FrameVOILUTSequence=other)
    told = dict(SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=[own])
    enhanced = dicom(tmp_path / 'enhanced.dcm', **told)
    plain = dicom(tmp_path / 'plain.dcm', **other, **SLOPE)
    np.testing.assert_array_equal(read_dicom(enhanced), read_dicom(plain))


def test_a_table_of_a_functional_group(tmp_path):
    entries = np.linspace(0, 4095, 4096).round() ** 2 // 4095
    group = groups(FrameVOILUTSequence=dict(VOILUTSequence=[table(12, entries)]))
    enhanced = dicom(tmp_path / 'a.dcm', PerFrameFunctionalGroupsSequence=[group])
    np.testing.assert_allclose(read_dicom(enhanced), entries[chest()] * 255 / 4095, atol=0.01)


def test_groups_without_a_window_change_nothing(tmp_path):
    group = groups(PixelMeasuresSequence=dict(SliceThickness=1))
    path = dicom(tmp_path / 'a.dcm', SharedFunctionalGroupsSequence=[group], **WINDOW)
    np.testing.assert_array_equal(read_dicom(path), read_dicom(dicom(tmp_path / 'b.dcm', **WINDOW)))


def test_a_slope_of_nothing_is_named(tmp_path):
    error = outcome(read_dicom, dicom(tmp_path / 'a.dcm', RescaleSlope=0, RescaleIntercept=1))
    assert error.field == 'RescaleSlope'


# %% Missing elements


NEEDED = (
    'SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored '
    'PixelRepresentation'
).split()


@pytest.mark.parametrize('empty', [False, True])
@pytest.mark.parametrize('name', NEEDED)
def test_a_missing_element_is_named(tmp_path, name, empty):
    path = dicom(tmp_path / 'a.dcm')
    ds = pydicom.dcmread(path)
    if empty:
        setattr(ds, name, None)
    else:
        delattr(ds, name)
    ds.save_as(path)
    for function in (read_dicom, dicom_info, read_image, image_info):
        assert outcome(function, path).what == f'DICOM header lacks {name}'


def test_all_missing_elements_are_named_at_once(tmp_path):
    path = dicom(tmp_path / 'a.dcm', BitsStored=None, SamplesPerPixel=None)
    assert outcome(dicom_info, path).what == 'DICOM header lacks SamplesPerPixel and BitsStored'


@pytest.mark.parametrize('name', ['LUTDescriptor', 'LUTData'])
def test_a_missing_part_of_a_table_is_named(tmp_path, name):
    item = table(12, np.arange(4096))
    delattr(item, name)
    path = dicom(tmp_path / 'a.dcm', VOILUTSequence=[item])
    assert outcome(read_dicom, path).what == f'DICOM header lacks {name}'


def test_a_palette_without_its_tables_is_named(tmp_path):
    path = dicom(tmp_path / 'a.dcm', PhotometricInterpretation='PALETTE COLOR')
    assert 'PaletteColorLookupTableDescriptor' in outcome(read_dicom, path).what


@pytest.mark.parametrize(('allocated', 'stored'), [(8, 12), (16, 17), (12, 12), (16, 0)])
def test_bits_that_do_not_fit_are_named(tmp_path, allocated, stored):
    path = dicom(tmp_path / 'a.dcm', BitsAllocated=allocated, BitsStored=stored)
    for function in (read_dicom, dicom_info):
        what = outcome(function, path).what
        assert f'BitsStored {stored}' in what and f'BitsAllocated {allocated}' in what


# %% Markers


def letter(image, value, soft=False):
    "The image with an L in a corner; soft: with edges of all shades."
    marked = image.copy()
    marked[10:50, 10:16] = value
    marked[44:50, 10:30] = value
    if soft:
        shades = np.linspace(0, 1, 40)
        marked[10:50, 16] = (1 - shades) * marked[10:50, 16] + shades * value
    return marked


def body(bits):
    "A smooth chest-like image of so many bits with noise, 200×200, not filling its range."
    y, x = np.mgrid[-1:1:200j, -1:1:200j]
    shape = 0.2 + 0.6 * np.exp(-(x**2) * 3) + 0.1 * np.cos(9 * y)
    noise = np.random.default_rng(bits).normal(0, 0.02, shape.shape)
    return (np.clip(shape + noise, 0.02, 1) * (2**bits - 1)).astype(np.uint16)


@pytest.mark.parametrize('bits', [8, 10, 12, 13, 14, 15])
@pytest.mark.parametrize('soft', [False, True])
def test_a_letter_at_full_scale_in_16_bits(tmp_path, bits, soft):
    image = body(bits)
    marked = letter(image, OPAQUE, soft)
    told = dict(BitsStored=16, HighBit=15)
    for suffix in ('png', 'dcm'):
        means = []
        for name, values in (('without', image), ('with', marked)):
            path = tmp_path / f'{name}.{suffix}'
            if suffix == 'png':
                Image.fromarray(values).save(path)
            else:
                dicom(path, values, **told)
            means.append(read_image(path)[40:].mean())  # below the letter
        assert abs(means[1] - means[0]) < 5, means
        assert check_view(View('frontal', path)).state == 'ok'


@pytest.mark.parametrize(
    'told',
    [
        dict(PhotometricInterpretation='MONOCHROME1'),
        dict(RescaleSlope=0.5, RescaleIntercept=-1000),
        dict(RescaleSlope=-1, RescaleIntercept=0),
        dict(PixelPaddingValue=0),
    ],
    ids=lambda told: next(iter(told)),
)
@pytest.mark.parametrize('value', [OPAQUE, 0])
def test_letters_in_dicom_of_every_kind(tmp_path, told, value):
    image = body(12) + np.uint16(20_000 if value == 0 else 0)
    told = dict(told, BitsStored=16, HighBit=15)
    one = read_image(dicom(tmp_path / 'a.dcm', image, **told)).mean()
    two = read_image(dicom(tmp_path / 'b.dcm', letter(image, value), **told)).mean()
    assert abs(two - one) < 5


def test_one_hot_pixel(tmp_path):
    image = body(12)
    image[3, 3] = OPAQUE
    assert abs(stretch(image).mean() - stretch(body(12)).mean()) < 1


@pytest.mark.parametrize('side', [1, -1])
def test_a_window_says_what_is_white_and_not_a_letter(tmp_path, side):
    told = dict(WindowCenter=2048, WindowWidth=4096, BitsStored=16, HighBit=15)
    path = dicom(tmp_path / 'a.dcm', letter(body(12), OPAQUE), **told)
    plain = dicom(tmp_path / 'b.dcm', body(12), **told)
    assert np.abs(read_dicom(path)[60:] - read_dicom(plain)[60:]).max() == 0


def by_extremes(values):
    "The range from the smallest to the largest value."
    return float(values.min()), float(values.max())


@pytest.mark.parametrize('bits', [8, 10, 12, 14, 16])
def test_ordinary_images_keep_their_range(bits):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:1:200j, 0:1:150j]
    ordinary = dict(
        body=body(bits) if bits < 16 else body(15) * 2,
        ramp=x * (2**bits - 1),
        noise=rng.normal(0.5, 0.1, x.shape) * (2**bits - 1),
        skewed=rng.gamma(2, 0.05, x.shape) * (2**bits - 1),
        saturated=np.clip(1.3 * x + 0 * y, 0, 1) * (2**bits - 1),
        halves=(x > 0.5) * (2**bits - 1),
        frame=np.where((x > 0.1) & (x < 0.9), 0.3 + 0.3 * y, 1) * (2**bits - 1),
        text_on_black=letter(np.zeros((200, 200)), 2**bits - 1),
    )
    for name, values in ordinary.items():
        assert real_range(*value_counts(values.astype(int))) == by_extremes(values.astype(int)), (
            name
        )


def test_images_of_pydicom_keep_their_range():
    seen = 0
    for name in ('CT_small.dcm', 'JPEG2000.dcm', 'image_dfl.dcm', 'rtdose_1frame.dcm'):
        values = pydicom.dcmread(get_testdata_file(name)).pixel_array
        assert real_range(*value_counts(values)) == by_extremes(values), name
        seen += 1
    assert seen == 4


# %% What the audit says


def test_constant_and_blank_are_judged_at_full_depth(tmp_path):
    noise = np.random.default_rng(0).integers(0, 4, (300, 300)).astype(np.uint16)
    dot = np.zeros((300, 300), np.uint16)
    dot[0, 0] = 1000
    cases = {
        'noise of a few steps': (noise + 30_000, 'constant'),
        'every pixel the same': (noise * 0 + 30_000, 'blank'),
        'one pixel': (dot, 'constant'),
        'twelve bits with a letter': (letter(body(12), OPAQUE), 'ok'),
        'eight bits in sixteen': (body(8), 'ok'),
    }
    for name, (values, state) in cases.items():
        Image.fromarray(values).save(tmp_path / 'a.png')
        deep = png(tmp_path / 'b.png', with_channels(values, 3))
        plain = dicom(tmp_path / 'c.dcm', values, BitsStored=16, HighBit=15)
        for path in (tmp_path / 'a.png', deep, plain):
            found = check_view(View('frontal', path)).state
            assert found in (state, 'inverted' if state == 'ok' else state), (name, path.suffix)


def test_pixels_without_a_file_are_judged_as_before():
    blank = View('frontal', pixels=np.zeros((128, 128), np.uint8))
    assert check_view(blank).state == 'blank'


def test_an_error_is_one_sentence(tmp_path):
    path = dicom(tmp_path / 'a.dcm', BitsStored=None)
    with pytest.raises(UARError) as error:
        read_image(path)
    assert str(error.value).count('—') == 1 and '\n' not in str(error.value)
