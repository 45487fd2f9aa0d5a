"A decoder that dies, loops or eats memory ends nobody's run: the file is named, the next is read."

import importlib.util
import multiprocessing
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from test_dicom import outcome

from pages import ROOT
from uar_nb.data.batch import PixelStore
from uar_nb.data.decoding import DecoderLost, DecoderPool, Undecodable, decoder_pool
from uar_nb.data.dicom import read_dicom
from uar_nb.data.image import read_image
from uar_nb.data.quality import check_images
from uar_nb.data.study import DataSetError, Study, View

pytest.importorskip('gdcm')
get_testdata_file = pytest.importorskip('pydicom.data').get_testdata_file
posix = pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')

GOOD = 'SC_rgb_jpeg_dcmtk.dcm'
PLANTED = '''
import ctypes, os, runpy, time
import numpy as np
module = runpy.run_path({program!r})


def decode(options, stream):
    what = bytes(stream).decode()
    if what == 'abort':
        os.abort()
    if what == 'segmentation fault':
        ctypes.string_at(0)
    if what == 'exit':
        os._exit(0)
    if what == 'endless loop':
        while True:
            pass
    if what == 'waits for ever':
        time.sleep(999)
    if what == 'memory bomb':
        return [bytearray(2**24) for _ in range(1000)]
    if what == 'memory bomb in C':
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        while libc.malloc(ctypes.c_size_t(2**24)):
            pass
        os.abort()
    if what == 'nonsense':
        for handle in range(3, 9):
            try:
                os.write(handle, bytes(range(100, 200)))
            except OSError:
                pass
        time.sleep(999)
    if what == 'chatter':
        os.write(1, b'warning ' * 99)
        print('warning')
    if what == 'refuses':
        raise RuntimeError('no decoder could do it')
    if what == 'pid':
        return np.array([[os.getpid()]])
    return np.full((options['rows'], options['columns']), 7, np.uint8)


def serve():
    module['serve'](decode)
'''
OPTIONS = dict(rows=9, columns=9, samples_per_pixel=1)


@pytest.fixture(scope='module')
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp('planted') / 'planted.py'
    real = importlib.util.find_spec('uar_nb.data.decoding').origin
    path.write_text(PLANTED.format(program=real))
    return path


@pytest.fixture
def pool(program):
    pool = DecoderPool(most=2, program=program, patience=0)
    yield pool
    pool.close()


def hostile(path, grown=True):
    """A file of pydicom's that makes gdcm abort: one byte of the stream becomes four; then either
    the stream is longer, or it lacks its last bytes."""
    data = bytearray(Path(get_testdata_file(GOOD)).read_bytes())
    data[375] = 0xC9
    assert data[1926] == 0x15
    data[1926:1927] = bytes.fromhex('74727565')
    data = bytes(data)
    piece = data.index(b'\xe0\x7f\x10\x00') + 24
    _, length = struct.unpack('<II', data[piece : piece + 8])
    end = piece + 8 + length + 3
    if grown:
        told = struct.pack('<I', length + 4)
        data = data[: piece + 4] + told + data[piece + 8 : end] + b'\0' + data[end:]
    else:
        data = data[: piece + 8 + length] + data[end:]
    Path(path).write_bytes(data)
    return Path(path)


def children():
    return psutil.Process().children(recursive=True)


# %% Decoders that misbehave


@pytest.mark.parametrize('grown', [True, False])
def test_the_abort_of_gdcm_is_one_sentence(tmp_path, grown):
    error = outcome(read_image, hostile(tmp_path / 'a.dcm', grown))
    assert (
        error.what
        == 'DICOM pixels (JPEG baseline) cannot be decoded: the decoder died on this file'
    )
    assert error.remedy == 'fetch the image again, or export it uncompressed'
    assert error.file == str(tmp_path / 'a.dcm')
    assert read_dicom(get_testdata_file(GOOD)).shape == (100, 100)


def test_the_first_form_of_that_file_is_refused_undecoded(tmp_path):
    "As a fuzzer made it, with pieces that do not fit their lengths."
    data = bytearray(Path(get_testdata_file(GOOD)).read_bytes())
    data[375] = 0xC9
    data[1926:1927] = bytes.fromhex('74727565')
    (tmp_path / 'a.dcm').write_bytes(data)
    assert 'truncated or damaged' in outcome(read_image, tmp_path / 'a.dcm').what


@pytest.mark.parametrize(
    ('what', 'says'),
    [
        ('abort', 'died'),
        ('segmentation fault', 'died'),
        ('exit', 'died'),
        ('endless loop', 'more than 1 s'),
        ('waits for ever', 'more than 1 s'),
        ('memory bomb', 'memory'),
        ('memory bomb in C', 'died'),
        ('nonsense', 'died'),
    ],
)
def test_what_a_decoder_can_do(pool, what, says):
    began = time.monotonic()
    with pytest.raises(DecoderLost, match=says) as error:
        pool.decode(OPTIONS, what.encode())
    assert error.value.remedy and time.monotonic() - began < 30
    assert pool.decode(OPTIONS, b'chatter').tolist() == [[7] * 9] * 9


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='memory is limited on Linux')
def test_a_memory_bomb_stays_small(pool):
    pool.decode(OPTIONS, b'fine')
    largest = [0]
    done = threading.Event()

    def watch():
        while not done.wait(0.005):
            for child in children():
                with suppress(psutil.Error):
                    largest[0] = max(largest[0], child.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    with pytest.raises(DecoderLost):
        pool.decode(OPTIONS, b'memory bomb')
    done.set()
    thread.join()
    assert largest[0] < 500e6


def test_a_refusal_is_no_death(pool):
    first = pool.decode(OPTIONS, b'pid')
    for _ in range(3):
        with pytest.raises(Undecodable) as error:
            pool.decode(OPTIONS, b'refuses')
        assert error.value.kind == 'RuntimeError'
    assert pool.decode(OPTIONS, b'pid') == first and len(pool.workers) == 1


def test_a_file_is_judged_by_a_fresh_process_only(pool):
    "A process that died of what an earlier file had done to it costs the next file nothing."
    pool.decode(OPTIONS, b'fine')
    (worker,) = pool.workers
    worker.process.send_signal(signal.SIGSTOP)  # it dies while it is asked, not before
    threading.Timer(0.3, worker.process.kill).start()
    assert pool.decode(OPTIONS, b'fine').shape == (9, 9)


def test_a_process_that_died_without_work_is_replaced(pool):
    first = int(pool.decode(OPTIONS, b'pid')[0, 0])
    os.kill(first, signal.SIGKILL)
    time.sleep(0.05)
    assert int(pool.decode(OPTIONS, b'pid')[0, 0]) != first


def test_a_process_that_cannot_be_started_is_one_sentence(monkeypatch, program):
    import uar_nb.data.decoding as decoding

    monkeypatch.setattr(decoding, 'get_executable', lambda: '/nowhere/python')
    with pytest.raises(DecoderLost, match='could not be started') as error:
        DecoderPool(program=program).decode(OPTIONS, b'fine')
    assert error.value.remedy


def test_many_hostile_files_among_good_ones(tmp_path):
    "30 files, every tenth of them hostile: all others are read, all hostile ones are named."
    studies = []
    for number in range(30):
        path = tmp_path / f'{number:03}.dcm'
        hostile(path) if number % 10 == 7 else shutil.copy(get_testdata_file(GOOD), path)
        studies.append(Study(f's{number}', (View('frontal', path),)))
    facts = check_images(studies, workers=4)
    bad = [fact for fact in facts if fact.state == 'unreadable']
    assert [fact.study for fact in bad] == [f's{n}' for n in range(30) if n % 10 == 7]
    assert all('the decoder died on this file' in fact.what for fact in bad)
    with pytest.raises(DataSetError) as error:
        PixelStore.build(studies, workers=2)
    assert len(error.value.faults) == 3


# %% Threads, forks and ends


def test_threads_do_not_mix_their_images(pool):
    shapes = [(rows, columns) for rows in range(1, 7) for columns in range(1, 7)] * 4
    with ThreadPoolExecutor(6) as threads:
        images = list(
            threads.map(
                lambda shape: pool.decode(
                    dict(rows=shape[0], columns=shape[1], samples_per_pixel=1), b'fine'
                ),
                shapes,
            )
        )
    assert [image.shape for image in images] == shapes and len(pool.workers) <= 2


FORKED = []  # a pool that a fork takes along


def pid_of_decoder(_):
    return int(FORKED[0].decode(OPTIONS, b'pid')[0, 0])


@posix
def test_a_forked_process_has_its_own(pool):
    FORKED[:] = [pool]
    mine = pid_of_decoder(0)
    with multiprocessing.get_context('fork').Pool(2) as forked:
        theirs = forked.map(pid_of_decoder, range(4))
    assert mine not in theirs and pid_of_decoder(0) == mine
    assert all(gone(pid) for pid in theirs)


@pytest.mark.parametrize('method', multiprocessing.get_all_start_methods())
def test_images_are_read_in_processes_of_every_kind(method):
    read_image(get_testdata_file(GOOD))
    with multiprocessing.get_context(method).Pool(1) as workers:
        image = workers.apply(read_image, (get_testdata_file(GOOD),))
    np.testing.assert_array_equal(image, read_image(get_testdata_file(GOOD)))


def run_program(text, **kwargs):
    return subprocess.Popen(
        [sys.executable, '-c', text],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        **kwargs,
    )


@pytest.fixture
def read_one(program):
    "The text of a program that decodes an image and prints the number of the other process."
    return f'''
from uar_nb.data.decoding import DecoderPool
pool = DecoderPool(program={str(program)!r})
options = dict(rows=9, columns=9, samples_per_pixel=1)
print(pool.decode(options, b'pid')[0, 0], flush=True)
'''


def gone(pid, seconds=10):
    "Whether a process ends soon, and leaves no zombie."
    for _ in range(int(seconds * 20)):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    'end', ['', 'raise SystemExit(0)', 'import os; os._exit(0)', 'os = 1 / 0'], ids=repr
)
def test_nothing_is_left_when_a_program_ends(read_one, end):
    program = run_program(read_one + end)
    said, complained = program.communicate(timeout=60)
    assert gone(int(said))
    assert program.returncode == (1 if '/' in end else 0)
    assert complained == '' or 'ZeroDivisionError' in complained.splitlines()[-1]


@posix
def test_nothing_is_left_when_a_program_is_killed(read_one):
    program = run_program(read_one + 'import time; time.sleep(60)')
    pid = int(program.stdout.readline())
    program.kill()
    program.communicate()
    assert gone(pid)


@posix
def test_ctrl_c_ends_a_program_at_once(read_one):
    text = (
        read_one
        + '''
import os, signal, threading
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    pool.decode(options, b'waits for ever')
except KeyboardInterrupt:
    print(len(pool.workers), pool.decode(options, b'fine').shape)
'''
    )
    began = time.monotonic()
    said, complained = run_program(text).communicate(timeout=60)
    assert said.splitlines()[1:] == ['0 (9, 9)'] and complained == ''
    assert time.monotonic() - began < 30


def test_a_process_without_work_ends_by_itself(program):
    pool = DecoderPool(program=program, linger=0.2)
    pid = int(pool.decode(OPTIONS, b'pid')[0, 0])
    assert gone(pid, 30) and not psutil.pid_exists(pid)
    assert pool.workers == [] and pool.decode(OPTIONS, b'fine').shape == (9, 9)
    pool.close()


def test_torch_is_not_in_the_other_process():
    read_image(get_testdata_file(GOOD))
    worker = decoder_pool().workers[0]
    if hasattr(psutil.Process, 'memory_maps'):
        maps = psutil.Process(worker.process.pid).memory_maps()
        assert not [m.path for m in maps if 'torch' in m.path]
    assert psutil.Process(worker.process.pid).memory_info().rss < 150e6


def test_what_is_not_compressed_begins_no_process(tmp_path):
    from test_dicom import dicom

    text = f'''
from uar_nb.data.image import read_image
from uar_nb.data.decoding import decoder_pool
read_image({str(dicom(tmp_path / 'a.dcm'))!r})
read_image({get_testdata_file('MR_small_RLE.dcm')!r})
print(len(decoder_pool().workers))
'''
    said, complained = run_program(text).communicate(timeout=60)
    assert (said, complained) == ('0\n', '')
