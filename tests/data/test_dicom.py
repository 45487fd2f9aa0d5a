"DICOM: every file ends in an image or a UARError, and nothing of a patient's header gets out."

import importlib.util
import io
import logging
import os
import pickle
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pydicom = pytest.importorskip('pydicom')
from pages import ROOT
from uar_nb.core import UARError
from uar_nb.data.dicom import apply_table, dicom_info, read_dicom, stretch, window_level
from uar_nb.data.image import image_info, read_image

SECRET = 'Zyxwv^Patient'
TEST_FILES = sorted(
    p
    for p in (Path(pydicom.__file__).parent / 'data').rglob('*')
    if p.is_file() and '__pycache__' not in p.parts
)


def chest(height=200, width=160):
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return (300 + 3000 * np.abs(np.sin(7 * x) * np.cos(5 * y))).astype(np.uint16)


def dicom(path, stored=None, syntax='1.2.840.10008.1.2.1', **elements):
    """An uncompressed DICOM file whose header names the patient in six places, one of which
    breaks the standard."""
    stored = chest() if stored is None else stored
    ds = pydicom.Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID = (
        pydicom.uid.DigitalXRayImageStorageForPresentation,
        '1.2.3',
        '1.2.12345',
    )
    for name in (
        'PatientName',
        'PatientID',
        'PatientComments',
        'ReferringPhysicianName',
        'StudyDescription',
    ):
        setattr(ds, name, SECRET)
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = (
        *stored.shape,
        1,
        'MONOCHROME2',
    )
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.PixelData = (
        16,
        12,
        11,
        0,
        stored.tobytes(),
    )
    ds['PixelData'].VR = 'OW'
    for name, value in elements.items():
        setattr(ds, name, value)
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path, enforce_file_format=True)
    Path(path).write_bytes(Path(path).read_bytes().replace(b'1.2.12345', b'1.2.Zyxwv'))
    return Path(path)


def transcode(path, code, out):
    gdcm = pytest.importorskip('gdcm')
    reader, change, writer = (
        gdcm.ImageReader(),
        gdcm.ImageChangeTransferSyntax(),
        gdcm.ImageWriter(),
    )
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, code)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(out))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    return out


def outcome(function, path):
    """'read', or the error; anything else fails the test. No error may carry the name, a cause
    or a context."""
    try:
        function(path)
    except UARError as e:
        assert (
            e.remedy and e.__cause__ is None and (e.__context__ is None or e.__suppress_context__)
        )
        assert 'Zyxwv' not in str(e) + repr(e) + str(e.__dict__) + str(
            pickle.loads(pickle.dumps(e))
        )
        return e
    return 'read'


# %% pydicom's own files


def test_the_collection_is_there():
    "The files that come with the package; `get_testdata_files` would fetch more from the network."
    assert len(TEST_FILES) > 190 and sum('test_files' in p.parts for p in TEST_FILES) > 150


@pytest.mark.parametrize('path', TEST_FILES, ids=lambda p: p.name)
def test_each_of_pydicoms_files_is_read_or_refused(path):
    for function in (read_dicom, dicom_info, read_image, image_info):
        outcome(function, path)
    got = outcome(read_dicom, path)
    if got == 'read':
        image = read_dicom(path)
        assert (
            image.dtype == np.float32
            and image.ndim == 2
            and 0 <= image.min()
            and image.max() <= 255
        )
        assert image.shape == dicom_info(path)[1::-1]
    else:
        assert got.file == str(path)


# %% Against arithmetic


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(-70_000, 140_000), min_size=1, max_size=20),
    st.integers(-32768, 65535),
    st.lists(st.integers(0, 65535), min_size=1, max_size=50),
)
def test_tables(values, first, entries):
    expected = [
        entries[0]
        if v < first
        else entries[-1]
        if v >= first + len(entries)
        else entries[v - first]
        for v in values
    ]
    assert apply_table(values, first, entries).tolist() == expected


@settings(deadline=None, max_examples=60)
@given(
    st.floats(-2000, 6000),
    st.floats(2, 8000),
    st.sampled_from(['LINEAR', 'LINEAR_EXACT', 'SIGMOID']),
)
def test_windows_in_float64(center, width, function):
    x = np.linspace(-3000, 7000, 501)
    by_case = {
        'LINEAR': lambda v: (
            0
            if v <= center - 0.5 - (width - 1) / 2
            else 1
            if v > center - 0.5 + (width - 1) / 2
            else (v - (center - 0.5)) / (width - 1) + 0.5
        ),
        'LINEAR_EXACT': lambda v: (
            0
            if v <= center - width / 2
            else 1
            if v > center + width / 2
            else (v - center) / width + 0.5
        ),
        'SIGMOID': lambda v: 1 / (1 + np.exp(np.clip(-4 * (v - center) / width, -80, 80))),
    }[function]
    assert np.abs(window_level(x, center, width, function) - [by_case(v) for v in x]).max() < 2e-3


@pytest.mark.parametrize(
    'code',
    [
        'RLELossless',
        'JPEGLosslessProcess14',
        'JPEGLosslessProcess14_1',
        'JPEGLSLossless',
        'JPEG2000Lossless',
    ],
)
@pytest.mark.parametrize('bits', [10, 12, 16])
def test_compressed_equals_plain(tmp_path, code, bits):
    stored = (chest().astype(int) * (2**bits - 1) // 4095).astype(np.uint16)
    plain = dicom(
        tmp_path / 'plain.dcm',
        stored,
        BitsStored=bits,
        HighBit=bits - 1,
        PhotometricInterpretation='MONOCHROME1',
        WindowCenter=2 ** (bits - 1),
        WindowWidth=2**bits,
    )
    packed = transcode(plain, code, tmp_path / 'packed.dcm')
    assert packed.stat().st_size < plain.stat().st_size
    np.testing.assert_array_equal(read_dicom(packed), read_dicom(plain))
    by_hand = 255 * (1 - np.clip((stored - (2 ** (bits - 1) - 0.5)) / (2**bits - 1) + 0.5, 0, 1))
    assert np.abs(read_dicom(plain) - by_hand).max() < 0.02


def test_a_file_without_preamble(tmp_path):
    "As written before 1993: the data set alone, implicit little endian."
    ds = pydicom.dcmread(dicom(tmp_path / 'new.dcm'))
    del ds.file_meta.TransferSyntaxUID
    with open(tmp_path / 'old.dcm', 'wb') as f:
        pydicom.dcmwrite(f, pydicom.Dataset(ds), implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(read_dicom(tmp_path / 'old.dcm'), stretch(chest()))


# %% Damage


def test_damaged_files_end_well(tmp_path):
    """Bytes changed and files cut, 60 times each for six compressions: an image or a UARError,
    in a process of its own in case a decoder dies."""
    plain = dicom(tmp_path / 'plain.dcm', chest(60, 50))
    dicom(tmp_path / 'deflated.dcm', chest(60, 50), '1.2.840.10008.1.2.1.99')
    for code in ('RLELossless', 'JPEGLosslessProcess14_1', 'JPEGLSLossless', 'JPEG2000Lossless'):
        transcode(plain, code, tmp_path / f'{code}.dcm')
    (tmp_path / 'spoilt').mkdir()
    program = f'''
import sys; sys.path[:0] = [{str(ROOT / 'tests' / 'data')!r}, {str(ROOT / 'tools')!r}]
import numpy as np
from pathlib import Path
from test_dicom import outcome, read_dicom, dicom_info
rng, folder = np.random.default_rng(0), Path({str(tmp_path)!r})
for path in sorted(folder.glob('*.dcm')):
    data, target, refused = path.read_bytes(), folder/'spoilt'/path.name, 0
    for i in range(120):
        spoilt = bytearray(data)
        if i % 2: spoilt = spoilt[:rng.integers(1, len(data))]
        else:
            for at in rng.integers(128, min(len(data), 2000 if i % 4 else 10**9), rng.integers(1, 4)): spoilt[at] = rng.integers(256)
        target.write_bytes(bytes(spoilt))
        outcome(dicom_info, target); refused += outcome(read_dicom, target) != 'read'
    print(path.stem, refused)'''  # noqa: E501
    done = subprocess.run(
        [sys.executable, '-c', program],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    refused = dict(line.split() for line in done.stdout.splitlines())
    assert len(refused) == 6 and all(int(n) >= 50 for n in refused.values()), (
        refused
    )  # all that were cut, but for cuts in the padding at the end


def test_a_deflated_bomb_is_counted_not_unpacked(tmp_path, monkeypatch):
    import tracemalloc

    monkeypatch.setattr('uar_nb.data.dicom.MAX_PIXELS', 8_000_000)
    path = dicom(tmp_path / 'bomb.dcm', syntax='1.2.840.10008.1.2.1.99')
    head = path.read_bytes()
    start = 144 + pydicom.filereader.read_file_meta_info(path).FileMetaInformationGroupLength
    z = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = (
        z.compress(zlib.decompress(head[start:], -15))
        + b''.join(z.compress(bytes(1 << 24)) for _ in range(5))
        + z.flush()
    )
    path.write_bytes(head[:start] + body)
    tracemalloc.start()
    error = outcome(read_dicom, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (
        'unpacks to more than 64,000,000 bytes' in error.what and len(body) < 200_000 and peak < 2e7
    )


# %% Decoders that are not there

MISSING = '''
import sys
for name in {hidden!r}: sys.modules[name] = None
from uar_nb.core import UARError
from uar_nb.data.dicom import dicom_decoders, read_dicom
for path in sys.argv[1:]:
    try: read_dicom(path); print('read')
    except UARError as e: print(e.what, '|', e.remedy)
'''


def without(hidden, *paths):
    done = subprocess.run(
        [sys.executable, '-c', MISSING.format(hidden=hidden), *map(str, paths)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


ALL_DECODERS = ['gdcm', 'pylibjpeg', 'libjpeg', 'openjpeg', 'rle', 'jpeg_ls']


def test_missing_decoders_are_named(tmp_path):
    plain = dicom(tmp_path / 'plain.dcm')
    codes = {
        'JPEGLosslessProcess14': 'JPEG lossless',
        'JPEGLosslessProcess14_1': 'JPEG lossless, predictor 1',
        'JPEGLSLossless': 'JPEG-LS lossless',
        'RLELossless': None,
    }
    said = without(
        ALL_DECODERS, *(transcode(plain, code, tmp_path / f'{code}.dcm') for code in codes), plain
    )
    for line, name in zip(said, [*codes.values(), None], strict=True):
        assert line == (
            'read'
            if name is None
            else f"DICOM pixels are compressed as {name}, for which no decoder is installed | pip install 'uar_nb[dicom]'"  # noqa: E501
        )


def test_lossy_jpeg_of_12_bits_names_the_package_that_has_it():
    got = outcome(read_dicom, pydicom.data.get_testdata_file('JPGExtended.dcm'))
    if importlib.util.find_spec('libjpeg'):
        assert got == 'read'
    else:
        assert '12 bits need another decoder' in got.what and 'pylibjpeg-libjpeg' in got.remedy


def test_no_pydicom_at_all(tmp_path):
    (line,) = without(['pydicom'], dicom(tmp_path / 'a.dcm'))
    assert "pip install 'uar_nb[dicom]'" in line and 'pydicom' in line


# %% Nothing of the patient


def products(folder):
    "Bytes of every file below a folder, and its names."
    return b'\n'.join(
        str(p.relative_to(folder)).encode() + b'\n' + (p.read_bytes() if p.is_file() else b'')
        for p in sorted(folder.rglob('*'))
    )


def test_no_header_in_stores_and_data_sets(tmp_path):
    from uar_nb.data.batch import PixelStore
    from uar_nb.data.load import load_studies, save_studies
    from uar_nb.data.study import Study, View

    (tmp_path / 'in').mkdir()
    studies = [
        Study(
            f's{i}',
            (View('frontal', dicom(tmp_path / f'in/{i}.dcm', np.roll(chest(), 9 * i))),),
            'No effusion.',
            'train',
        )
        for i in range(2)
    ]
    assert SECRET.encode() in products(tmp_path / 'in')
    PixelStore.build(studies, tmp_path / 'out/pixels')
    for layout in ('r2gen', 'phantom', 'folder'):
        save_studies(studies, tmp_path / 'out' / layout, layout)
    assert len(load_studies(tmp_path / 'in')) == 2
    assert b'Zyxwv' not in products(tmp_path / 'out') and len(products(tmp_path / 'out')) > 10_000


def test_no_header_in_warnings_logs_and_faults(tmp_path, capfd):
    from uar_nb.data.load import load_studies
    from uar_nb.data.study import DataSetError

    good, bad = dicom(tmp_path / 'good.dcm'), dicom(tmp_path / 'bad.dcm', NumberOfFrames=3)
    (tmp_path / 'cut.dcm').write_bytes(good.read_bytes()[:300])
    log, handler = io.StringIO(), None
    handler = logging.StreamHandler(log)
    levels = [(n, logging.getLogger(n).level) for n in ('pydicom', 'PIL')]
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            str(pydicom.dcmread(good))
            assert 'Zyxwv' in log.getvalue()  # the file does make pydicom talk
            heard = len(caught), log.getvalue()
            for path in (good, bad, tmp_path / 'cut.dcm'):
                outcome(read_image, path), outcome(image_info, path)
            with pytest.raises(DataSetError) as faults:
                load_studies(tmp_path)
            assert (len(caught), log.getvalue()) == heard
    finally:
        logging.getLogger().removeHandler(handler)
    assert 'Zyxwv' not in str(faults.value) and len(faults.value.faults) == 2
    assert levels == [(n, logging.getLogger(n).level) for n in ('pydicom', 'PIL')]
    assert 'Zyxwv' not in ''.join(capfd.readouterr())


def test_no_frame_of_the_inside_in_a_traceback(tmp_path):
    "A crash reporter that stores local variables must find no data set."
    try:
        read_dicom(dicom(tmp_path / 'a.dcm', RescaleSlope='9e9999'))
    except UARError as e:
        error = e
    frame, held = error.__traceback__, []
    while frame:
        held += [v for v in frame.tb_frame.f_locals.values() if isinstance(v, pydicom.Dataset)]
        frame = frame.tb_next
    assert not held and error.field == 'RescaleSlope'


def test_threads(tmp_path):
    paths = [dicom(tmp_path / f'{i}.dcm', np.roll(chest(), i)) for i in range(4)]
    expected, wrong = [read_dicom(p) for p in paths], []

    def work():
        for p, e in zip(paths * 3, expected * 3, strict=True):
            wrong.extend([p] * (not np.array_equal(read_dicom(p), e)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
