"""Feeds damaged files to every reader of the package and watches what happens.

    python tools/fuzz.py --cases 20000 --out data/results/fuzz.json
    python tools/fuzz.py --cases 500 --seed 3 --only png --only "annotation"

Each case damages one good file by a few seeded changes and reads it in a child process that is
watched from outside. A reader may give a result that is whole, or one `UARError`. Anything else
is a finding: another exception, a child that died, a reading of more than 2 seconds (tried twice)
or more than 1 GB in all processes together. `--case READER SEED` repeats one case in this
process, with its trace.
"""

import argparse
import ast
import csv
import gzip
import importlib
import inspect
import io
import json
import multiprocessing
import os
import shutil
import struct
import sys
import tempfile
import textwrap
import threading
import time
import traceback
import zipfile
import zlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

SECONDS = 2.0  # of one reading
HANGS = 20.0  # seconds after which a child is ended
MEGABYTES = 1024  # of the child and all that it started
ODD_TEXTS = (
    '',
    ' ',
    'nan',
    'NULL',
    '-1',
    '1e999',
    '0x10',
    '9' * 400,
    'a' * 20_000,
    '\x00',
    '\ufeff',
    '../../up.png',
    '/etc/hostname',
    'C:\\x.png',
    'A\u0301',
    '\ud7ff\u202e',
    ',,,;;"',
    "'; --",
    '<!ENTITY x "y">',
    '\n\r\n',
)
ODD_VALUES = (None, True, -1, 0, 0.5, 1e308, float('nan'), 10**30, [], {}, [[]], {'': {}})


# -- damage --------------------------------------------------------------------------------------
def _place(rng, size, head=2048):
    "A position, more often near the beginning, where headers are."
    near = min(size, head) if rng.random() < 0.6 else size
    return int(rng.integers(max(1, near)))


def change_bytes(content, rng):
    "One change of a few bytes: flipped, set, inserted, cut, doubled, or the end cut off."
    content = bytearray(content)
    at = _place(rng, len(content))
    length = int(rng.choice([1, 2, 4, 8, 64, 1024]))
    kind = rng.choice(['flip', 'set', 'insert', 'cut', 'double', 'end'])
    if kind == 'flip' and content:
        content[at] ^= 1 << int(rng.integers(8))
    elif kind == 'set':
        odd = rng.choice([0x00, 0xFF, 0x7F, 0x80, 0x01])
        content[at : at + length] = bytes([odd]) * min(length, max(0, len(content) - at))
    elif kind == 'insert':
        content[at:at] = rng.bytes(length)
    elif kind == 'cut':
        del content[at : at + length]
    elif kind == 'double':
        content[at:at] = content[at : at + length]
    elif rng.random() < 0.3:
        del content[at:]
    return bytes(content)


def change_text(content, rng):
    "One piece of a text between separators becomes an odd one, or its neighbour."
    text = content.decode('utf-8', 'surrogateescape')
    ends = [i for i, letter in enumerate(text) if letter in ',;\t\n"<>=[]{}:']
    if len(ends) < 2:
        return change_bytes(content, rng)
    i = int(rng.integers(len(ends) - 1))
    first, last = ends[i] + 1, ends[i + 1]
    odd = str(rng.choice(ODD_TEXTS))
    if rng.random() < 0.3:
        j = int(rng.integers(len(ends) - 1))
        odd = text[ends[j] + 1 : ends[j + 1]]
    if rng.random() < 0.1:
        odd = '[' * 100_000
    return (text[:first] + odd + text[last:]).encode('utf-8', 'surrogateescape')


def _parts_of(value, found):
    "All (holder, key) of a JSON value."
    keys = value if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        found.append((value, key))
        if isinstance(value[key], (dict, list)):
            _parts_of(value[key], found)
    return found


def change_json(content, rng):
    "One part of a JSON text becomes an odd value, goes, or gets another name."
    try:
        value = json.loads(content)
        parts = _parts_of(value, [])
    except (ValueError, TypeError):
        return change_text(content, rng)
    if not parts:
        return change_text(content, rng)
    holder, key = parts[int(rng.integers(len(parts)))]
    kind = rng.choice(['value', 'text', 'gone', 'name', 'swap'])
    if kind == 'value':
        holder[key] = ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]
    elif kind == 'text':
        holder[key] = str(rng.choice(ODD_TEXTS))
    elif kind == 'gone':
        del holder[key]
    elif kind == 'name' and isinstance(holder, dict):
        holder[str(rng.choice(ODD_TEXTS))] = holder.pop(key)
    else:
        other, name = parts[int(rng.integers(len(parts)))]
        with suppress(KeyError, IndexError):
            holder[key] = json.loads(json.dumps(other[name]))
    return json.dumps(value).encode()


def change_json_or_text(content, rng):
    "Structure in two of three cases, letters in the third."
    return change_json(content, rng) if rng.random() < 0.67 else change_text(content, rng)


def change_text_or_bytes(content, rng):
    "Pieces of text in three of four cases, bytes in the fourth."
    return change_text(content, rng) if rng.random() < 0.75 else change_bytes(content, rng)


def change_json_line(content, rng):
    "One line of a file of JSON lines."
    lines = content.split(b'\n')
    i = int(rng.integers(len(lines)))
    lines[i] = change_json_or_text(lines[i], rng)
    return b'\n'.join(lines)


def change_png(content, rng):
    "Bytes, and in two of three cases sums that fit them again, so that decoders are reached."
    content = change_bytes(content, rng)
    if rng.random() < 0.33:
        return content
    mended, at = bytearray(content), 8
    while at + 12 <= len(mended):
        (length,) = struct.unpack('>I', mended[at : at + 4])
        end = at + 8 + length
        if end + 4 > len(mended):
            break
        mended[end : end + 4] = struct.pack('>I', zlib.crc32(mended[at + 4 : end]))
        at = end + 4
    return bytes(mended)


def change_safetensors(content, rng):
    "The header as JSON, with its length, or bytes."
    (length,) = struct.unpack('<Q', content[:8])
    header, tensors = content[8 : 8 + length], content[8 + length :]
    if rng.random() < 0.3:
        return change_bytes(content, rng)
    header = change_json(header, rng)
    return struct.pack('<Q', len(header)) + header + tensors


def change_gzip(content, rng):
    "The text inside, or in one of five cases the packed bytes."
    if rng.random() < 0.2:
        return change_bytes(content, rng)
    return gzip.compress(change_text(gzip.decompress(content), rng), mtime=0)


def change_zip(content, rng):
    "One file inside, or in one of three cases the packed bytes."
    if rng.random() < 0.33:
        return change_bytes(content, rng)
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, 'w') as new:
        names = old.namelist()
        chosen = names[int(rng.integers(len(names)))]
        for name in names:
            inside = old.read(name)
            new.writestr(name, change_text(inside, rng) if name == chosen else inside)
    return made.getvalue()


def damage(content, change, seed):
    "A file's content after one to four seeded changes; never the content itself."
    rng = np.random.default_rng(seed)
    damaged = content
    for _ in range(int(rng.integers(1, 5))):
        with suppress(Exception):  # what is damaged already may not take another change
            damaged = change(damaged, rng)
    return damaged if damaged != content else content[:-1]


# -- readers -------------------------------------------------------------------------------------
@dataclass
class Reader:
    "One way in: good files, how they are damaged, and the function that reads them."

    name: str
    files: list  # paths of good files; a case takes one
    change: object  # function of (content, generator)
    read: object  # function of the path; raises `UARError` or gives something whole


def _read_an_image(path):
    from uar_nb.data.image import image_info, read_image
    from uar_nb.data.quality import check_view
    from uar_nb.data.study import View

    check_view(View('frontal', path))  # reports faults, never raises
    image_info(path)
    image = read_image(path)
    assert image.shape == (128, 128), image.shape
    assert image.dtype == np.uint8, image.dtype


def _read_a_set(path):
    from uar_nb.data.load import load_studies
    from uar_nb.data.study import SPLITS, VIEWS, describe_studies

    studies = load_studies(path, check='exists')
    assert len({study.id for study in studies}) == len(studies), 'ids'
    for study in studies:
        assert isinstance(study.report, str), study.report
        assert isinstance(study.id, str), study.id
        assert study.split in SPLITS, study.split
        assert study.views, study.id
        assert all(view.name in VIEWS for view in study.views), study.views
    describe_studies(studies)


def _read_a_checkpoint(path):
    from uar_nb.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    weights = checkpoint.model.parameters()
    assert all(weight.isfinite().all() for weight in weights), 'weights'
    if checkpoint.statistics is not None:
        found = checkpoint.statistics.judge([0] * checkpoint.tokenizer.grid**2, quantile=0.1)
        assert found.value is None or found.value >= 0, found


def _read_a_tokenizer(path):
    from uar_nb.tokenizer.choose import load_tokenizer

    tokenizer = load_tokenizer(path)
    assert tokenizer.codebook_size > 0, tokenizer.codebook_size


def _read_a_config(path):
    from uar_nb.config import RunConfig
    from uar_nb.core import read_json

    RunConfig.from_dict(read_json(path))


def _read_a_run(path):
    from uar_nb.experiment.run_folder import find_state, read_log, read_position

    state = find_state(path)
    if state is not None:
        read_position(state / 'position.json')
    for row in read_log(path):
        assert isinstance(row, dict), row


def _read_a_store(path):
    from uar_nb.data.store import open_store

    opened = open_store(path, 'numbers.npy', {})
    assert opened is None or opened[0].shape == (40, 3), opened


def _raster_files(folder):
    "PNG and JPEG of every kind of pixel that the package reads."
    from PIL import Image

    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(90), np.arange(110)) + rng.integers(0, 40, (90, 110))
    grey = ramp.astype(np.uint8)
    color = np.stack([grey, grey // 2, 255 - grey], -1)
    kinds = {
        'grey.png': Image.fromarray(grey),
        'deep.png': Image.fromarray((ramp * 200).astype(np.uint16)),
        'color.png': Image.fromarray(color),
        'alpha.png': Image.fromarray(np.dstack([color, grey])),
        'palette.png': Image.fromarray(color).convert('P'),
        'bits.png': Image.fromarray(grey).convert('1'),
        'grey.jpg': Image.fromarray(grey),
        'color.jpg': Image.fromarray(color),
    }
    for name, image in kinds.items():
        image.save(folder / name)
    Image.fromarray(grey).save(folder / 'progressive.jpg', progressive=True)
    return sorted(folder.glob('*.png')), sorted(folder.glob('*.jpg'))


def _dicom_files(folder):
    "(plain, compressed) of pydicom's own small files that the package reads."
    import pydicom
    from pydicom.data import get_testdata_file

    from uar_nb.core import UARError
    from uar_nb.data.dicom import read_dicom

    home = Path(get_testdata_file('CT_small.dcm')).parent
    plain, packed = [], []
    for file in sorted(home.glob('*.dcm')):
        if file.stat().st_size > 200_000:
            continue
        try:
            read_dicom(file)
        except UARError:
            continue
        kind = pydicom.dcmread(file, stop_before_pixels=True).file_meta.TransferSyntaxUID
        target = folder / file.name
        shutil.copyfile(file, target)
        (packed if kind.is_compressed else plain).append(target)
    return plain, packed


def _tiny_checkpoint(folder, studies):
    "A checkpoint of an untrained model with a tokenizer, as small as they can be."
    from uar_nb.checkpoint import save_checkpoint
    from uar_nb.config import run_preset
    from uar_nb.experiment.prepare import prepare
    from uar_nb.tokenizer.dvae import DVAE, DVAEConfig
    from uar_nb.tokenizer.surprise import TokenStatistics

    tokenizer = DVAE(DVAEConfig(codebook_size=16, width=4, stem=4))
    settings = {
        'model.d': 8,
        'model.heads': 2,
        'model.cra_heads': 2,
        'model.d_ff': 8,
        'model.basis_size': 8,
        'data.crops': 1,
    }
    config = run_preset('phantom').override(settings)
    prepared = prepare(config, studies, tokenizer)
    words = prepared.data['train'].vocabulary
    statistics = TokenStatistics.from_data(prepared.data['train'])
    data = prepared.config.data
    save_checkpoint(folder, prepared.model, words, data, tokenizer, statistics)


def _workbook(table):
    "The same table as a sheet of Excel, beside it."
    import openpyxl

    book = openpyxl.Workbook()
    with open(table, encoding='utf-8', newline='') as rows:
        for row in csv.reader(rows):
            book.active.append(row)
    file = table.with_suffix('.xlsx')
    book.save(file)
    return file


def _run_folder(folder):
    "A run folder with a state, a log and a configuration."
    import torch

    from uar_nb.config import RunConfig
    from uar_nb.core import atomic_write
    from uar_nb.experiment.run_folder import Position, append_row, save_state

    model = torch.nn.Linear(3, 2)
    named = list(model.named_parameters())
    group = dict(params=[value for _, value in named], names=[name for name, _ in named])
    optimizer = torch.optim.AdamW([group])
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    save_state(folder, model, optimizer, Position(step=1, total=1))
    for step in range(3):
        append_row(folder / 'log.jsonl', dict(kind='train', total=step, loss=1.0))
    atomic_write(folder / 'config.json', RunConfig().to_dict())


def make_readers(home):
    "Every reader with its good files, written below a folder."
    from uar_nb.core import atomic_write
    from uar_nb.data.load import save_studies
    from uar_nb.data.store import write_store
    from uar_nb.phantom.generator import make_studies

    home = Path(home)
    for name in ('raster', 'dicom'):
        (home / name).mkdir(parents=True)
    png, jpeg = _raster_files(home / 'raster')
    plain, packed = _dicom_files(home / 'dicom')
    readers = [
        Reader('png', png, change_png, _read_an_image),
        Reader('jpeg', jpeg, change_bytes, _read_an_image),
        Reader('dicom', plain, change_bytes, _read_an_image),
        Reader('compressed dicom', packed, change_bytes, _read_an_image),
    ]
    studies = make_studies(4, seed=1) + make_studies(2, seed=2, split='val')
    sets = [
        ('annotation', 'phantom', ['annotation.json'], change_json_or_text),
        ('lines', 'jsonl', ['reports.jsonl'], change_json_line),
        ('table', 'folder', ['reports.csv'], change_text_or_bytes),
        ('kaggle tables', 'kaggle', ['*.csv'], change_text_or_bytes),
        ('open-i xml', 'openi', ['ecgen-radiology/*.xml'], change_text_or_bytes),
        ('mimic tables', 'mimic', ['*.csv.gz'], change_gzip),
        ('mimic reports', 'mimic', ['*.zip'], change_zip),
    ]
    for name, layout, patterns, change in sets:
        folder = home / name.replace(' ', '-')
        save_studies(studies, folder, layout)
        files = sorted(file for pattern in patterns for file in folder.glob(pattern))
        readers.append(Reader(name, files, change, _of_set(folder, name)))
    file = _workbook(home / 'table' / 'reports.csv')
    readers.append(Reader('workbook', [file], change_zip, _of_set(file.parent, 'workbook')))

    checkpoint = home / 'checkpoint'
    _tiny_checkpoint(checkpoint, studies)
    tensors = sorted(checkpoint.rglob('*.safetensors'))
    cards = sorted(checkpoint.rglob('*.json'))
    load = _of_folder(checkpoint, _read_a_checkpoint)
    readers.append(Reader('checkpoint weights', tensors, change_safetensors, load))
    readers.append(Reader('checkpoint json', cards, change_json_or_text, load))
    tokenizer = next(checkpoint.rglob('tokenizer'), checkpoint)
    cards = sorted(tokenizer.glob('*.json'))
    load = _of_folder(tokenizer, _read_a_tokenizer)
    readers.append(Reader('tokenizer json', cards, change_json_or_text, load))

    run = home / 'run'
    run.mkdir()
    _run_folder(run)
    readers.append(Reader('run config', [run / 'config.json'], change_json_or_text, _read_a_config))
    kept = [file for file in sorted(run.rglob('*.json')) if file.name != 'config.json']
    load = _of_folder(run, _read_a_run)
    readers.append(Reader('run state', kept, change_json_or_text, load))
    readers.append(Reader('run log', [run / 'log.jsonl'], change_json_line, load))

    store = home / 'store'

    def fill(array, kept):
        array[:] = 1

    write_store(
        store, 'numbers.npy', (40, 3), np.uint8, fill, 'key', lambda content: dict(content=content)
    )
    atomic_write(store / 'checked.json', {})
    files = sorted(file for file in store.iterdir() if file.is_file())
    readers.append(Reader('store', files, change_bytes, _of_folder(store, _read_a_store)))
    return readers


def _of_folder(folder, read):
    "A reader of the folder in which a damaged file lies."

    def read_folder(path):
        read(folder)

    return read_folder


def _of_set(folder, name):
    "A reader of a data set: by its one file, or by its folder."
    by_file = name in ('annotation', 'lines', 'table', 'workbook')

    def read_set(path):
        _read_a_set(path if by_file else folder)

    return read_set


# -- bugs to be found ----------------------------------------------------------------------------
GUARDS = {  # reader → a function that catches what damaged files make libraries raise
    'png': 'uar_nb.data.image:_load',
    'jpeg': 'uar_nb.data.image:_load',
    'dicom': 'uar_nb.data.dicom:_safely',
    'compressed dicom': 'uar_nb.data.dicom:_safely',
    'annotation': 'uar_nb.data.own_formats:_read_finding',
    'lines': 'uar_nb.data.own_formats:_read_lines',
    'table': 'uar_nb.data.table:_begin',
    'workbook': 'uar_nb.data.table:_begin',
    'kaggle tables': 'uar_nb.data.table:_begin',
    'open-i xml': 'uar_nb.data.iu_xray:_parse_report',
    'mimic tables': 'uar_nb.data.table:_until_damage',
    'mimic reports': 'uar_nb.data.mimic:ReportFiles.read',
    'checkpoint weights': 'uar_nb.core:load_tensors',
    'checkpoint json': 'uar_nb.core:read_json',
    'tokenizer json': 'uar_nb.core:read_json',
    'run config': 'uar_nb.config:RunConfig.from_dict',
    'run state': 'uar_nb.core:read_json',
    'run log': 'uar_nb.experiment.run_folder:read_log',
    'store': 'uar_nb.data.store:open_store',
}


class _Unguarded(ast.NodeTransformer):
    "Code without its `except` clauses."

    def visit_Try(self, node):  # noqa: N802 (the name that ast asks for)
        self.generic_visit(node)
        return [*node.body, *node.orelse, *node.finalbody]


def forget_guard(path):
    "Plant a bug: a function, by 'module:name', no longer catches anything."
    module, names = path.split(':')
    found = importlib.import_module(module)
    for name in names.split('.'):
        found = getattr(found, name)
    function = getattr(found, '__func__', found)
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    tree.body[0].decorator_list = []
    changed = _Unguarded().visit(tree)
    assert ast.dump(changed) != ast.dump(ast.parse(textwrap.dedent(inspect.getsource(function))))
    made = {}
    exec(compile(ast.fix_missing_locations(changed), path, 'exec'), function.__globals__, made)
    function.__code__ = made[function.__name__].__code__


def _abort():
    os.abort()


def _sleep():
    time.sleep(1.2 * SECONDS)


def _grow():
    held = np.ones(int(1.3 * MEGABYTES) * 2**17)
    time.sleep(0.3)
    del held


ACCIDENTS = {'abort': _abort, 'sleep': _sleep, 'grow': _grow}  # what else a reader may do


# -- one case in a child, watched ----------------------------------------------------------------
@dataclass
class Outcome:
    "What became of one case."

    kind: str  # 'read', 'refused', or a finding: 'escaped', 'died', 'slow', 'large'
    text: str = ''
    seconds: float = 0.0


def damage_one(reader, seed):
    "Damage one of a reader's good files in its place: (file, what it held)."
    rng = np.random.default_rng([seed, 1])
    file = reader.files[int(rng.integers(len(reader.files)))]
    good = file.read_bytes()
    file.write_bytes(damage(good, reader.change, [seed, 2]))
    return file, good


def try_case(reader, seed, accident=None):
    "Read one damaged file; the good one is put back. An accident happens on the way."
    from uar_nb.core import UARError

    file, good = damage_one(reader, seed)
    start = time.perf_counter()
    try:
        if accident is not None:
            accident()
        reader.read(file)
        outcome = Outcome('read')
    except UARError as error:
        outcome = Outcome('refused', str(error)[:300])
    except BaseException as error:  # noqa: BLE001 (finding such exceptions is what this is for)
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f'{Path(last.filename).name}:{last.lineno}'
        outcome = Outcome('escaped', f'{type(error).__name__} at {place}: {error}'[:300])
    outcome.seconds = time.perf_counter() - start
    file.write_bytes(good)
    return outcome


def _serve(home, names, bug, channel):
    "A child: makes its own good files, then reads one damaged file for each order."
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)  # native libraries print there
    os.dup2(quiet, 2)
    import torch

    torch.set_num_threads(1)
    readers = {reader.name: reader for reader in make_readers(home)}
    if bug == 'guards':
        for path in sorted(set(GUARDS.values())):
            forget_guard(path)
    channel.send([name for name in readers if not names or name in names])
    while True:
        name, seed = channel.recv()
        if name is None:
            return
        accident = ACCIDENTS.get(bug) if seed % 10 == 7 else None
        channel.send(try_case(readers[name], seed, accident))


class Child:
    "A process that reads, and what is known of it from outside."

    def __init__(self, names, bug=None):
        self.names = names
        self.bug = bug  # None, 'guards' or a key of `ACCIDENTS`: planted there
        self.begin()

    def begin(self):
        "A new process with new good files."
        self.home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        spawn = multiprocessing.get_context('spawn')
        self.channel, other = spawn.Pipe()
        work = Path(self.home.name) / 'files'
        self.process = spawn.Process(target=_serve, args=(work, self.names, self.bug, other))
        self.process.start()
        other.close()
        self.readers = self.channel.recv()

    def memory(self):
        "Megabytes of the child and of all that it started."
        total = 0
        with suppress(psutil.Error):
            top = psutil.Process(self.process.pid)
            for process in (top, *top.children(recursive=True)):
                with suppress(psutil.Error):
                    total += process.memory_info().rss
        return total / 2**20

    def read(self, name, seed):
        "One case: (outcome, most megabytes that were seen)."
        self.channel.send((name, seed))
        start, most, pause = time.perf_counter(), 0.0, 0.002
        while True:
            try:
                if self.channel.poll(pause):
                    return self.channel.recv(), most
            except (EOFError, ConnectionError):
                self.process.join()
                outcome = Outcome('died', f'exit status {self.process.exitcode}')
                self.end()
                self.begin()
                return outcome, most
            pause = min(0.05, pause * 2)
            most = max(most, self.memory())
            if time.perf_counter() - start > HANGS:
                self.end()
                self.begin()
                return Outcome('slow', f'not done after {HANGS:.0f} s', HANGS), most

    def end(self):
        "The process and its files go."
        with suppress(OSError, ValueError):
            self.channel.send((None, 0))
        self.process.join(2)
        if self.process.is_alive():
            with suppress(psutil.Error):
                for process in psutil.Process(self.process.pid).children(recursive=True):
                    process.kill()
            self.process.kill()
            self.process.join()
        self.channel.close()
        self.home.cleanup()


def judge(child, name, seed):
    "One case with its limits; what was slow is tried again, for the machine may have been busy."
    outcome, most = child.read(name, seed)
    if outcome.kind in ('read', 'refused') and outcome.seconds > SECONDS:
        again, _ = child.read(name, seed)
        outcome = again
        if again.seconds > SECONDS:
            outcome = Outcome('slow', f'{again.seconds:.1f} s', again.seconds)
    if outcome.kind in ('read', 'refused') and most > MEGABYTES:
        outcome = Outcome('large', f'{most:.0f} MB', outcome.seconds)
    return outcome, most


# -- the whole -----------------------------------------------------------------------------------
@dataclass
class Row:
    "What is known of one reader."

    cases: int = 0
    kinds: Counter = field(default_factory=Counter)
    slowest: float = 0.0
    largest_mb: float = 0.0
    findings: list = field(default_factory=list)  # {seed, kind, text}

    def add(self, seed, outcome, megabytes):
        "One more case."
        self.cases += 1
        self.kinds[outcome.kind] += 1
        self.slowest = max(self.slowest, outcome.seconds)
        self.largest_mb = max(self.largest_mb, megabytes)
        if outcome.kind not in ('read', 'refused'):
            self.findings.append(dict(seed=seed, kind=outcome.kind, text=outcome.text))

    def to_dict(self):
        "As JSON has it."
        return dict(
            cases=self.cases,
            read=self.kinds['read'],
            refused=self.kinds['refused'],
            slowest_s=round(self.slowest, 2),
            largest_mb=round(self.largest_mb),
            findings=self.findings,
        )


def fuzz(cases, seed=0, only=(), children=2, progress=False, bug=None):
    "Share out cases among all readers and a few child processes: {reader: `Row`}."
    rows, lock = {}, threading.Lock()
    numbers = iter(range(cases))

    def work():
        child = Child(tuple(only), bug)
        try:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                name = child.readers[number % len(child.readers)]
                case = seed * 1_000_000 + number
                outcome, megabytes = judge(child, name, case)
                with lock:
                    rows.setdefault(name, Row()).add(case, outcome, megabytes)
                    if progress and number % 500 == 499:
                        print(f'{number + 1:,} cases', flush=True)
        finally:
            child.end()

    workers = [threading.Thread(target=work) for _ in range(children)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return rows


def repeat_case(name, seed):
    "One case in this process, with its trace."
    with tempfile.TemporaryDirectory() as home:
        readers = {reader.name: reader for reader in make_readers(Path(home) / 'files')}
        reader = readers[name]
        file, _ = damage_one(reader, seed)
        print(file, flush=True)
        reader.read(file)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--cases', type=int, default=20_000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', action='append', default=[], help='a reader; may be repeated')
    parser.add_argument('--children', type=int, default=2)
    parser.add_argument('--out', type=Path, help='JSON with all figures')
    parser.add_argument('--case', nargs=2, metavar=('READER', 'SEED'))
    args = parser.parse_args()
    if args.case:
        repeat_case(args.case[0], int(args.case[1]))
        return
    start = time.perf_counter()
    rows = fuzz(args.cases, args.seed, args.only, args.children, progress=True)
    for name, row in sorted(rows.items()):
        numbers = row.to_dict()
        found = numbers.pop('findings')
        print(f'{name:20}', *(f'{key} {value}' for key, value in numbers.items()))
        for finding in found[:10]:
            print('    ', finding['seed'], finding['kind'], finding['text'])
    if args.out:
        kept = dict(
            cases=args.cases,
            seed=args.seed,
            seconds=round(time.perf_counter() - start),
            readers={name: row.to_dict() for name, row in sorted(rows.items())},
        )
        args.out.write_text(json.dumps(kept, indent=1) + '\n', encoding='utf-8')
    sys.exit(any(row.findings for row in rows.values()))


if __name__ == '__main__':
    main()
