"""Who is at fault: a file is called damaged for what it holds, and not for want of memory, for
Ctrl-C or for a slip of this package; and one rule says what a file is meant to be."""

import ast
import errno
import struct
import types
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_dicom import chest, dicom, outcome, transcode

import uar_nb.data.dicom as dicom_module
import uar_nb.data.image as image_module
import uar_nb.tokenizer.dalle as dalle
from uar_nb.core import UARError
from uar_nb.data.decoding import DecoderLost, DecoderPool, bytes_allowed, decode_stream
from uar_nb.data.dicom import dicom_info, is_dicom, read_dicom
from uar_nb.data.image import image_header, image_kind, read_image
from uar_nb.data.load import load_studies
from uar_nb.data.study import DataSetError

pydicom = pytest.importorskip('pydicom')


def raising(error):
    "A function that raises an error, whatever it is given."

    def fail(*args, **kwargs):
        raise error

    return fail


@pytest.fixture
def raster(tmp_path):
    Image.fromarray((chest(60, 50) // 16).astype(np.uint8)).save(tmp_path / 'a.png')
    return tmp_path / 'a.png'


# %% Memory, Ctrl-C and slips of our own

OTHERS_FAULT = [
    MemoryError(),
    np._core._exceptions._ArrayMemoryError((9,), np.dtype(float)),
    OSError(errno.ENOMEM, 'Cannot allocate memory'),
    KeyboardInterrupt(),
    AssertionError('a slip'),
    NameError('a slip'),
]


@pytest.mark.parametrize('error', OTHERS_FAULT, ids=repr)
@pytest.mark.parametrize('method', ['__init__', 'load'])
def test_pillow_without_memory(monkeypatch, raster, method, error):
    monkeypatch.setattr(image_module.PngImagePlugin.PngImageFile, method, raising(error))
    with pytest.raises((type(error), UARError)) as met:
        read_image(raster)
    if getattr(error, 'errno', None) == errno.ENOMEM:
        assert 'Cannot allocate memory' in str(met.value) and 'damaged' not in str(met.value)
    else:
        assert met.value is error


@pytest.mark.parametrize('error', OTHERS_FAULT, ids=repr)
@pytest.mark.parametrize('name', ['dcmread', 'pixels.pixel_array', 'pixels.apply_windowing'])
def test_pydicom_without_memory(monkeypatch, tmp_path, name, error):
    path = dicom(tmp_path / 'a.dcm', WindowCenter=2000, WindowWidth=3000)
    monkeypatch.setattr(f'pydicom.{name}', raising(error))
    with pytest.raises(type(error)) as met:
        read_dicom(path)
    assert met.value is error


def test_a_header_without_memory(monkeypatch, tmp_path):
    path = dicom(tmp_path / 'a.dcm', RescaleSlope=2)
    monkeypatch.setattr(pydicom.Dataset, 'get', raising(MemoryError()))
    with pytest.raises(MemoryError):
        dicom_info(path)


def test_the_size_of_a_stream_without_memory(monkeypatch):
    monkeypatch.setattr(
        dicom_module.Jpeg2KImagePlugin.Jpeg2KImageFile, '__init__', raising(MemoryError())
    )
    with pytest.raises(MemoryError):
        dicom_module.stream_size(b'\xff\x4f\xff\x51')


@pytest.mark.parametrize('number', [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_file_that_the_system_does_not_give(monkeypatch, raster, tmp_path, number):
    "Damaged is what it holds, not the disk."
    failing = raising(OSError(number, 'as the system says it'))
    monkeypatch.setattr(image_module.PngImagePlugin.PngImageFile, 'load', failing)
    monkeypatch.setattr(pydicom, 'dcmread', failing)
    for file in (raster, dicom(tmp_path / 'a.dcm')):
        assert 'cannot be opened' in outcome(read_image, file).what


SLIPS = {
    'TypeError': 'def _facts(header): return None + 1',
    'AttributeError': 'def _facts(header): return (1).no_such_thing',
    'KeyError': "def _facts(header): return {}['x']",
    'IndexError': 'def _facts(header): return ()[0]',
    'UnboundLocalError': 'def _facts(header):\n    x += 1',
}


@pytest.mark.parametrize('kind', SLIPS)
def test_a_slip_of_our_own_is_no_damage(monkeypatch, tmp_path, kind):
    "A line of the module does it, planted there; pydicom's own would be the content's fault."
    planted = {}
    exec(SLIPS[kind], dicom_module.__dict__ | planted, planted)
    slip = types.FunctionType(planted['_facts'].__code__, dicom_module.__dict__)
    monkeypatch.setattr(dicom_module, '_facts', slip)
    path = dicom(tmp_path / 'a.dcm')
    with pytest.raises((TypeError, AttributeError, LookupError, NameError)) as met:
        dicom_info(path)
    assert type(met.value).__name__ == kind


def of_pydicom(error):
    "A function that raises an error from a line of pydicom."
    module = types.ModuleType('pydicom.planted')
    exec('def fail(*args, **kwargs): raise error', module.__dict__)
    module.error = error
    return module.fail


@pytest.mark.parametrize('error', [TypeError(), KeyError(1), AttributeError(), IndexError()])
def test_what_pydicom_raises_is_the_contents_fault(monkeypatch, tmp_path, error):
    path = dicom(tmp_path / 'a.dcm')
    monkeypatch.setattr(pydicom, 'dcmread', of_pydicom(error))
    assert 'truncated or damaged' in outcome(read_dicom, path).what


# %% The process that decodes

OPTIONS = dict(rows=9, columns=9, samples_per_pixel=1)


def planted_pool(folder, body):
    "A pool whose processes decode by these lines."
    real = Path(dicom_module.__file__).with_name('decoding.py')
    (folder / 'planted.py').write_text(
        f'import runpy\nimport numpy as np\nmodule = runpy.run_path({str(real)!r})\n'
        f'def decode(options, stream):\n    {body}\n'
        f'def serve():\n    module["serve"](decode)\n'
    )
    return DecoderPool(most=1, program=folder / 'planted.py')


@pytest.mark.parametrize(
    'body', ['raise MemoryError', 'return np.zeros(2**50)'], ids=['plain', 'of NumPy']
)
def test_the_decoder_says_how_much_memory_it_may_have(tmp_path, body):
    pool = planted_pool(tmp_path, body)
    with pytest.raises(DecoderLost, match=f'needs more than {bytes_allowed(81):,} bytes'):
        pool.decode(OPTIONS, b'')
    pool.close()


@pytest.mark.parametrize('code', ['JPEG2000Lossless', 'RLELossless'])
def test_memory_that_pydicom_swallows_is_heard(monkeypatch, tmp_path, code):
    "It logs the error of one decoder and goes on to the next; at last it says: none could."
    path = transcode(dicom(tmp_path / 'plain.dcm'), code, tmp_path / 'a.dcm')
    ds = pydicom.dcmread(path)
    syntax = str(ds.file_meta.TransferSyntaxUID)
    decoder = pydicom.pixels.get_decoder(syntax)
    without = {name: raising(MemoryError()) for name in decoder.available_plugins}
    monkeypatch.setattr(decoder, '_available', without)
    options = pydicom.pixels.utils.as_pixel_options(ds, number_of_frames=1)
    stream = pydicom.encaps.get_frame(ds.PixelData, 0, number_of_frames=1)
    with pytest.raises(MemoryError):
        decode_stream(dict(options, syntax=syntax), stream)
    if code == 'RLELossless':  # decoded in this process
        with pytest.raises(MemoryError):
            read_dicom(path)


def test_a_slip_in_the_process_that_decodes_is_no_damage():
    pool = DecoderPool(most=1)
    with pytest.raises(RuntimeError, match='KeyError in the process that decodes'):
        pool.decode(OPTIONS, b'no syntax is named')
    pool.close()


# %% Headers that hold anything

NUMBERS = [name for name in dicom_module._ELEMENTS if not name.endswith('PixelData')]
ITEM = b'\xfe\xff\0\xe0\0\0\0\0'
VALUES = [  # of an element, as they lie in the file
    b'',
    b'\x07\0',
    b'\1\0\2\0',
    b'\1\0\2\0\3\0',
    b'\xff' * 6,
    b'1\\2 ',
    b'1e999 ',
    b'nan ',
    b'x',
    ITEM + ITEM,
]


def with_raw(path, out, name, kind, value):
    "A file with an element of these bytes, of whatever kind."
    ds = pydicom.dcmread(path)
    tag = pydicom.tag.Tag(name)
    ds[tag] = pydicom.dataelem.RawDataElement(tag, kind, len(value), value, 0, False, True)
    ds.save_as(out)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('model', ['MONOCHROME1', 'PALETTE COLOR'])
@pytest.mark.parametrize('name', NUMBERS)
def test_a_header_of_odd_values_is_read_or_refused(tmp_path, name, model):
    path = dicom(tmp_path / 'a.dcm', chest(9, 8), PhotometricInterpretation=model)
    own = pydicom.datadict.dictionary_VR(name).split(' or ')[0]
    for kind in dict.fromkeys([own, 'US', 'DS', 'LO', 'UN', 'SQ']):
        for value in VALUES:
            with_raw(path, tmp_path / 'b.dcm', name, kind, value)
            outcome(dicom_info, tmp_path / 'b.dcm')
            outcome(read_dicom, tmp_path / 'b.dcm')


INSIDE = {
    'VOILUTSequence': ('LUTDescriptor', 'LUTData'),
    'ModalityLUTSequence': ('LUTDescriptor', 'LUTData'),
    'ViewCodeSequence': ('CodeMeaning', 'CodeValue'),
    'FrameVOILUTSequence': ('WindowCenter', 'WindowWidth', 'VOILUTFunction', 'VOILUTSequence'),
    'PixelValueTransformationSequence': ('RescaleSlope', 'RescaleIntercept'),
}


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize(('name', 'inside'), [(a, b) for a, some in INSIDE.items() for b in some])
def test_an_item_of_odd_values_is_read_or_refused(tmp_path, name, inside):
    item = pydicom.Dataset()
    item.LUTDescriptor, item.LUTData = [3, 0, 12], [1, 2, 3]
    item['LUTDescriptor'].VR = item['LUTData'].VR = 'US'
    item.WindowCenter = item.WindowWidth = 999
    place, value = name, [item]
    if name not in dicom_module._ELEMENTS:  # of a functional group
        group = pydicom.Dataset()
        setattr(group, name, [item])
        place, value = 'SharedFunctionalGroupsSequence', [group]
    path = dicom(tmp_path / 'a.dcm', chest(9, 8), **{place: value})
    tag = pydicom.tag.Tag(inside)
    own = pydicom.datadict.dictionary_VR(inside).split(' or ')[0]
    for kind in dict.fromkeys([own, 'US', 'DS', 'LO', 'UN', 'SQ']):
        for raw in VALUES:
            ds = pydicom.dcmread(path)
            found = ds[place][0] if place == name else ds[place][0][name][0]
            found[tag] = pydicom.dataelem.RawDataElement(tag, kind, len(raw), raw, 0, False, True)
            ds.save_as(tmp_path / 'b.dcm')
            outcome(dicom_info, tmp_path / 'b.dcm')
            outcome(read_dicom, tmp_path / 'b.dcm')


def test_sequences_a_thousand_deep_are_damage(tmp_path):
    data = dicom(tmp_path / 'a.dcm').read_bytes()
    begin = b'\x28\0\x10\x30SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff'
    end = b'\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0'
    at = data.index(b'\xe0\x7f\x10\0')
    (tmp_path / 'b.dcm').write_bytes(data[:at] + 2000 * begin + 2000 * end + data[at:])
    assert 'truncated or damaged' in outcome(read_dicom, tmp_path / 'b.dcm').what


# %% What a file is meant to be


def old_dicom(path):
    "As written before 1993: the data set alone."
    ds = pydicom.dcmread(dicom(path))
    del ds.file_meta.TransferSyntaxUID
    with open(path, 'wb') as file:
        pydicom.dcmwrite(file, pydicom.Dataset(ds), implicit_vr=True, little_endian=True)
    return path


BEGINNINGS = {  # name → (first bytes, what they mean)
    'PNG': (b'\x89PNG\r\n\x1a\n', 'PNG'),
    'PNG sent as text': (b'\x89PNG\n\x1a\n', 'PNG'),
    'JPEG': (b'\xff\xd8\xff\xe0', 'JPEG'),
    'DICOM': (bytes(128) + b'DICM', 'DICOM'),
    'old DICOM': (b'\x08\0\x05\0\x0a\0\0\0ISO_IR 100\x08\0\x08\0', 'DICOM'),
    'old DICOM, explicit': (b'\x08\0\x05\0CS\x0a\0ISO_IR 100', 'DICOM'),
    'meta alone': (b'\x02\0\0\0UL\x04\0\xba\0\0\0', 'DICOM'),
    'numbers from 8': (np.arange(8, 40, dtype='<i4').tobytes(), None),
    'numbers from 2': (np.arange(2, 40, dtype='<i4').tobytes(), None),
    'the number 8': (np.full(40, 8, '<i2').tobytes(), None),
    'a text': (b'patient,report\n', None),
    'nothing': (b'', None),
}


@pytest.mark.parametrize('name', BEGINNINGS)
def test_one_rule_for_readers_and_for_folders(tmp_path, raster, name):
    """A file without a suffix that begins so and ends soon: where it is meant as an image it is
    damaged, named by a user or found in a folder; where not, it is passed over."""
    head, kind = BEGINNINGS[name]
    folder = tmp_path / 'set'
    folder.mkdir()
    raster.rename(folder / 'good.png')
    (folder / 'x1').write_bytes(head)
    assert image_kind(head) == kind
    what = outcome(read_image, folder / 'x1').what
    assert ('is not an image in' in what or 'is empty' in what) == (kind is None)
    if kind is None:
        assert load_studies(folder).facts.texts('images') == ('passed over: 1 other file',)
        return
    with pytest.raises(DataSetError) as met:
        load_studies(folder)
    [fault] = met.value.faults
    assert Path(fault.file).name == 'x1' and fault.what == outcome(image_header, folder / 'x1').what


@pytest.mark.filterwarnings('ignore')
def test_old_dicom_is_read_and_found_in_a_folder(tmp_path):
    folder = tmp_path / 'set'
    folder.mkdir()
    old = old_dicom(folder / '1.2.840.77')
    np.testing.assert_array_equal(read_dicom(old), read_dicom(dicom(tmp_path / 'new.dcm')))
    assert [study.id for study in load_studies(folder)] == ['1.2.840.77']
    old.write_bytes(old.read_bytes()[:400])
    with pytest.raises(DataSetError) as met:
        load_studies(folder)
    assert Path(met.value.faults[0].file).name == '1.2.840.77'


def test_every_file_of_pydicom_is_told_as_before():
    "Two bytes were the rule once; none of the collection is lost by the longer one."
    files = [
        path
        for path in (Path(pydicom.__file__).parent / 'data').rglob('*')
        if path.is_file() and '__pycache__' not in path.parts
    ]
    heads = {path: path.read_bytes()[:132] for path in files}
    short = {path for path, head in heads.items() if head[:2] in (b'\x02\0', b'\x08\0', b'\0\x08')}
    long = {path for path, head in heads.items() if is_dicom(head) and head[128:132] != b'DICM'}
    assert long == short - {path for path in short if heads[path][128:132] == b'DICM'}
    assert len(long) >= 3


# %% Notes behind the pixels of a PNG


def chunk(name, body):
    return struct.pack('>I', len(body)) + name + body + struct.pack('>I', zlib.crc32(name + body))


def with_late_chunk(path, name, body, filler=0):
    "Put a chunk behind the pixels, before the end mark; and bytes of another one before it."
    data = path.read_bytes()
    end = data.index(b'IEND') - 4
    between = chunk(b'prVt', bytes(filler)) if filler else b''
    path.write_bytes(data[:end] + between + chunk(name, body) + data[end:])


@pytest.mark.parametrize('filler', [0, 50_000, 300_000])
@pytest.mark.parametrize('number', [1, 3, 6])
def test_exif_behind_the_pixels_is_obeyed_and_told(tmp_path, number, filler):
    upright = Image.fromarray((chest(120, 80) // 16).astype(np.uint8))
    folder = tmp_path / 'set'
    folder.mkdir()
    back = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[number]
    stored = upright if back is None else upright.transpose(back)
    stored.save(folder / 'a.png')
    upright.save(tmp_path / 'b.png')
    exif = Image.Exif()
    exif[274] = number
    with_late_chunk(folder / 'a.png', b'eXIf', exif.tobytes()[6:], filler)
    np.testing.assert_array_equal(read_image(folder / 'a.png'), read_image(tmp_path / 'b.png'))
    header = image_header(folder / 'a.png')
    assert header[1:3] == (80, 120)
    assert bool(header.turned) == (number != 1)
    assert len(load_studies(folder).facts.texts('turned')) == (number != 1)


def test_other_notes_behind_the_pixels_turn_nothing(tmp_path, raster):
    before = read_image(raster)
    with_late_chunk(raster, b'tEXt', b'Comment\0orientation 6')
    np.testing.assert_array_equal(read_image(raster), before)
    assert image_header(raster).turned == ''


# %% Pickles, which may raise anything


@pytest.mark.parametrize('reader', ['get_unsafe_globals_in_checkpoint', 'load'])
@pytest.mark.parametrize('error', [MemoryError(), RecursionError(), KeyboardInterrupt()], ids=repr)
def test_a_pickle_without_memory(monkeypatch, reader, error):
    monkeypatch.setattr(dalle, '_allowed', list)  # OpenAI's package need not be there
    monkeypatch.setattr(dalle.torch.serialization, reader, raising(error))
    monkeypatch.setattr(dalle.torch, 'load', dalle.torch.serialization.load)
    with pytest.raises(type(error)) as met:
        dalle.read_pickle(b'anything')
    assert met.value is error


@pytest.mark.parametrize('error', [AssertionError(), ImportError('x'), ValueError(), EOFError()])
def test_what_unpickling_raises_is_the_files_fault(monkeypatch, error):
    monkeypatch.setattr(dalle, '_allowed', list)  # OpenAI's package need not be there
    monkeypatch.setattr(dalle.torch, 'load', raising(error))
    with pytest.raises(UARError, match=f'damaged or not a checkpoint .{type(error).__name__}'):
        dalle.read_pickle(b'anything')


# %% The rule itself

ALL_CATCHERS = {  # (module, function) that may catch every exception, and why
    ('core.py', 'find_model'): 'what the hub and the network raise',
    ('data/decoding.py', 'serve'): 'what a decoder raises, in its own process',
    ('tokenizer/dalle.py', '_of_pickle'): 'what unpickling raises, but for memory',
}


def catchers(path):
    "Functions of a module that catch `Exception` and do not raise it again."
    for function in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if not isinstance(node, ast.ExceptHandler):
                continue
            names = ['BaseException'] if node.type is None else [ast.unparse(node.type)]
            again = any(isinstance(n, ast.Raise) and n.exc is None for n in ast.walk(node))
            if names[0] in ('Exception', 'BaseException') and not again:
                yield function.name


def test_no_reader_catches_every_exception():
    package = Path(dicom_module.__file__).parent.parent
    found = {
        (path.relative_to(package).as_posix(), name)
        for path in package.rglob('*.py')
        if path.relative_to(package).parts[0] not in ('apps', 'show', 'exercises')
        for name in catchers(path)
    }
    assert found == set(ALL_CATCHERS)
