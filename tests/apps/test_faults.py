"""Every fault that a user can meet: what happens, which file and field the message names, and
the remedy that it offers.

Each row runs the real command in a process of its own: exit status 2, one message, no traceback,
and nothing half-written.
"""

import contextlib
import importlib.util
import io
import json
import shutil
import struct
import sys
import tarfile
import zlib
from collections import namedtuple
from pathlib import Path

import pytest

from forge import POSIX, TINY
from pages import ROOT

pytestmark = pytest.mark.skipif(not POSIX, reason='needs fork')
Fault = namedtuple('Fault', 'name harm argv file field remedy plan', defaults=({},))
SMALL = [x for s in (*TINY, 'train.batch_size=4') for x in ('--set', s)]
TRAIN = ['train', 'set', '--preset', 'phantom', '--dvae', 'dvae', '--out', 'run', *SMALL]
GENERATE = [
    'generate',
    'set/images/train-0-000000/0.png',
    '--checkpoint',
    'run/checkpoint',
    '--beams',
    1,
]
EVALUATE = [
    'evaluate',
    'set',
    '--checkpoint',
    'run/checkpoint',
    '--split',
    'val',
    '--beams',
    1,
    '-q',
]
FIRST = 'set/images/train-0-000000/0.png'


def huge_png(width):
    "The beginning of a PNG of width x width pixels: a bomb for whoever decodes before looking."

    def chunk(kind, data):
        return (
            struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        )

    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', struct.pack('>IIBBBBB', width, width, 8, 0, 0, 0, 0))
        + chunk(b'IDAT', zlib.compress(b'\0' * 1000))
        + chunk(b'IEND', b'')
    )


def write(path, data):
    def harm(home):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_bytes(data if isinstance(data, bytes) else data.encode())

    return harm


def cut(path):
    def harm(home):
        (home / path).write_bytes((home / path).read_bytes()[:-200])

    return harm


def drop(path):
    def harm(home):
        shutil.rmtree(home / path) if (home / path).is_dir() else (home / path).unlink()

    return harm


def edit(path, change):
    "Change the JSON in a file."

    def harm(home):
        values = json.loads((home / path).read_text())
        change(values)
        (home / path).write_text(json.dumps(values))

    return harm


def poison(path, number):
    "One weight becomes something that is no number."

    def harm(home):
        import safetensors.torch

        tensors = safetensors.torch.load_file(home / path)
        first = next(iter(tensors.values()))
        first.view(-1)[0] = float(number)
        safetensors.torch.save_file(tensors, home / path, metadata={'format': 'pt'})

    return harm


def state(path):
    return lambda home: cut(next((home / 'run' / 'state').iterdir()) / path)(home)


@contextlib.contextmanager
def held(home):
    "A training of this very process in the folder."
    sys.path.insert(0, str(ROOT))
    from uar_nb.experiment.run_folder import run_lock

    with run_lock(home / 'run'):
        yield


def several(home):
    write(FIRST, 'no image')(home)
    drop('set/images/train-0-000001/1.png')(home)
    edit('set/annotation.json', lambda a: a['train'][2].update(report=' '))(home)


def kaggle(home):
    write(
        'kaggle/indiana_reports.csv',
        'uid,MeSH,Problems,image,indication,comparison,findings,impression\n1,,,,,,Clear.,\n',
    )(home)
    write(
        'kaggle/indiana_projections.csv',
        'uid,filename,projection\n1,1_IM-0001-3001.dcm.png,Oblique\n',
    )(home)


def set_first(**fields):
    return edit('set/annotation.json', lambda a: a['train'][0].update(fields))


def tar_of(name):
    "A .tgz with one small file."
    with io.BytesIO() as out:
        with tarfile.open(fileobj=out, mode='w:gz') as tar:
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b'<x/>'))
        return out.getvalue()


def NOTHING(home):
    return None


DOWNLOAD = ['download', 'iu-xray', 'iu', '--reports-only', '--tries', 1]
NO_PROXY = {'NO_PROXY': '127.0.0.1'}
NO_JAVA = {'PATH': '/nowhere'}  # METEOR's Java would take longer than all the rest
GONE = ['train', 'elsewhere', *TRAIN[2:]]
FAULTS = [
    # a data set
    Fault('data set is not there', NOTHING, GONE, 'elsewhere', '', 'check the path'),
    Fault('image is missing', drop(FIRST), TRAIN, FIRST, 'train[0].image_path', 'check the path'),
    Fault(
        'image is truncated',
        cut(FIRST),
        TRAIN,
        FIRST,
        'train-0-000000',
        'fetch or export the image again',
    ),
    Fault(
        'image of 60,000 x 60,000',
        write(FIRST, huge_png(60_000)),
        TRAIN,
        FIRST,
        'train[0].image_path',
        'make it smaller',
    ),
    Fault(
        'no image',
        write(FIRST, 'hello'),
        TRAIN,
        FIRST,
        'train[0].image_path',
        'convert it to PNG',
    ),
    Fault(
        'empty file',
        write(FIRST, b''),
        TRAIN,
        FIRST,
        'train[0].image_path',
        'fetch the image again',
    ),
    Fault(
        'annotation is not JSON',
        write('set/annotation.json', '{"train": ['),
        TRAIN,
        'annotation.json',
        '',
        'mend or fetch',
    ),
    Fault(
        'annotation without the field',
        edit('set/annotation.json', lambda a: a['train'][0].pop('image_path')),
        TRAIN,
        'annotation.json',
        'train[0].image_path',
        'list the images',
    ),
    Fault(
        'report is empty',
        set_first(report='  '),
        TRAIN,
        'annotation.json',
        'train[0].report',
        'write the report',
    ),
    Fault(
        'two studies of one id',
        set_first(id='train-0-000001'),
        TRAIN,
        'annotation.json',
        '.id',
        'id',
    ),
    Fault(
        'unknown split',
        set_first(split='dev'),
        TRAIN,
        'annotation.json',
        'split',
        'train, val, test',
    ),
    Fault(
        'no training study',
        edit('set/annotation.json', lambda a: a.update(train=[])),
        [*TRAIN[:6], '--out', 'new', *SMALL],
        '',
        'split',
        "split 'train'",
    ),
    Fault(
        'images without reports',
        drop('set/annotation.json'),
        TRAIN,
        'set',
        'report',
        'write the reports',
    ),
    Fault(
        'report in XML is damaged',
        write('openi/1.xml', '<eCitation>'),
        ['train', 'openi', *TRAIN[2:]],
        '1.xml',
        'file',
        'fetch it again',
    ),
    Fault(
        'archive of reports is none',
        write('openi/NLMCXR_reports.tgz', 'hello'),
        ['train', 'openi', *TRAIN[2:]],
        'NLMCXR_reports.tgz',
        'file',
        'fetch it again',
    ),
    Fault(
        'view in Kaggle\'s table is unknown',
        kaggle,
        ['train', 'kaggle', *TRAIN[2:]],
        'indiana_projections.csv',
        'line 2, projection',
        'Frontal, Lateral',
    ),
    Fault(
        'line is not JSON',
        write('own/reports.jsonl', '{"id": 1'),
        ['train', 'own', *TRAIN[2:]],
        'reports.jsonl',
        'line 1',
        'one object per line',
    ),
    Fault(
        'row without an image',
        write('own/reports.csv', 'id,image,report\nA,,Clear.\n'),
        ['train', 'own', *TRAIN[2:]],
        'reports.csv',
        'line 2, image',
        'name at least one',
    ),
    Fault(
        'many faults, told together',
        several,
        TRAIN,
        FIRST,
        'train[2].report',
        'mend what is listed',
    ),
    # settings
    Fault(
        'unknown run preset',
        NOTHING,
        ['train', 'set', '--preset', 'mimic', '--out', 'new'],
        '',
        'preset',
        'mimic_cxr',
    ),
    Fault(
        'unknown model preset',
        NOTHING,
        ['train', 'set', '--model', 'g', '--out', 'new'],
        '',
        'model',
        'uar',
    ),
    Fault(
        'unknown field',
        NOTHING,
        [*TRAIN, '--set', 'model.depth=3'],
        '',
        'model.depth',
        'decoder_layers',
    ),
    Fault(
        'value of a wrong type', NOTHING, [*TRAIN, '--set', 'model.d=many'], '', 'model.d', 'int'
    ),
    Fault(
        'value that is not allowed',
        NOTHING,
        [*TRAIN, '--set', 'model.visual=vit'],
        '',
        'model.visual',
        'resnet101',
    ),
    Fault('no setting', NOTHING, [*TRAIN, '--set', 'model.d'], '', '--set', 'field=value'),
    Fault(
        'settings file is missing',
        NOTHING,
        [*TRAIN, '--config', 'mine.json'],
        'mine.json',
        '',
        'check the path',
    ),
    Fault(
        'settings file is not JSON',
        write('mine.json', 'd = 3'),
        [*TRAIN, '--config', 'mine.json'],
        'mine.json',
        '',
        'mend',
    ),
    Fault(
        'settings file, unknown field',
        write('mine.json', '{"model": {"pooing": 3}}'),
        [*TRAIN, '--config', 'mine.json'],
        '',
        'model.pooing',
        'pooling',
    ),
    Fault('no such device', NOTHING, [*TRAIN, '--set', 'train.device=tpu'], '', 'device', "'cpu'"),
    Fault(
        'half precision on a CPU',
        NOTHING,
        [*TRAIN, '--set', 'train.device=cpu', '--set', 'train.precision=fp16'],
        '',
        'precision',
        "'no'",
    ),
    Fault(
        'loss is no number',
        drop('run'),
        [*TRAIN, '--set', 'train.stages.0.lr=1e30', '--set', 'train.clip=0'],
        'run',
        'lr',
        'lower the learning rate',
    ),
    # a run folder
    Fault(
        'another config in the folder',
        NOTHING,
        [*TRAIN, '--set', 'train.seed=9'],
        'run/config.json',
        'train.seed',
        'choose another folder',
    ),
    Fault(
        'other data in the folder',
        edit('set/annotation.json', lambda a: a['train'].pop()),
        TRAIN,
        'run',
        '',
        'choose another folder',
    ),
    Fault(
        'damaged weights of a state',
        state('model.safetensors'),
        TRAIN,
        'model.safetensors',
        '',
        'copy or download it again',
    ),
    Fault(
        'damaged moments of a state',
        state('optimizer.safetensors'),
        TRAIN,
        'optimizer.safetensors',
        '',
        'copy or download it again',
    ),
    Fault('damaged position of a state', state('position.json'), TRAIN, 'position.json', '', ''),
    Fault(
        'damaged pointer to the state',
        write('run/latest.json', '[]'),
        TRAIN,
        'run/latest.json',
        'state',
        'begin anew',
    ),
    Fault(
        'run folder holds a checkpoint of another training',
        write('other/checkpoint/config.json', '{}'),
        [*TRAIN[:6], '--out', 'other', *SMALL],
        'other/checkpoint',
        '',
        'choose another folder',
    ),
    Fault('two trainings in one folder', held, TRAIN, 'run', 'lock', 'choose another folder'),
    # a tokenizer
    Fault(
        'dVAE is not there',
        NOTHING,
        ['train', 'set', '--dvae', 'none', '--out', 'new'],
        'none',
        'dvae',
        'uar dvae',
    ),
    Fault(
        'dVAE is damaged',
        cut('dvae/model.safetensors'),
        [*TRAIN[: -len(SMALL) - 2], '--out', 'new', *SMALL],
        'dvae/model.safetensors',
        '',
        'again',
    ),
    Fault(
        'dVAE of another kind',
        edit('dvae/config.json', lambda c: c.update(kind='vqgan')),
        ['tokenize', 'set', '--dvae', 'dvae', '--out', 'new'],
        'dvae/config.json',
        'kind',
        '',
    ),
    Fault(
        'dVAE would replace a folder',
        NOTHING,
        ['dvae', 'set', '--out', 'set', '--steps', 1],
        'set',
        '',
        'choose another folder',
    ),
    # a checkpoint
    Fault(
        'checkpoint is not there',
        NOTHING,
        [*GENERATE[:2], '--checkpoint', './none'],
        'none',
        '',
        'give a folder',
    ),
    Fault(
        'checkpoint is a file',
        NOTHING,
        [*GENERATE[:2], '--checkpoint', 'dvae.json'],
        'dvae.json',
        '',
        'config.json',
    ),
    Fault(
        'checkpoint of another version',
        edit('run/checkpoint/config.json', lambda c: c.update(format=99)),
        GENERATE,
        'checkpoint/config.json',
        'format',
        'version',
    ),
    Fault(
        'checkpoint with an unknown field',
        edit('run/checkpoint/config.json', lambda c: c['model'].update(depth=3)),
        GENERATE,
        'checkpoint/config.json',
        'depth',
        'Known fields',
    ),
    Fault(
        'checkpoint of another config',
        edit('run/checkpoint/config.json', lambda c: c['model'].update(d=32)),
        GENERATE,
        'checkpoint/model.safetensors',
        '',
        'one checkpoint',
    ),
    Fault(
        'damaged safetensors',
        cut('run/checkpoint/model.safetensors'),
        GENERATE,
        'checkpoint/model.safetensors',
        '',
        'copy or download it again',
    ),
    Fault(
        'NaN in a checkpoint, generate',
        poison('run/checkpoint/model.safetensors', 'nan'),
        GENERATE,
        'checkpoint/model.safetensors',
        'center.image_mean',
        'copy or download it again',
    ),
    Fault(
        'infinity in a checkpoint, evaluate',
        poison('run/checkpoint/model.safetensors', 'inf'),
        EVALUATE,
        'checkpoint/model.safetensors',
        'center.image_mean',
        'copy or download it again',
    ),
    Fault(
        'NaN in a dVAE',
        poison('dvae/model.safetensors', 'nan'),
        [*TRAIN[: -len(SMALL) - 2], '--out', 'new', *SMALL],
        'dvae/model.safetensors',
        'holds NaN',
        'again',
    ),
    Fault(
        'another vocabulary',
        edit('run/checkpoint/vocabulary.json', lambda v: v['words'].reverse() or v['words'].sort()),
        GENERATE,
        'vocabulary.json',
        '',
        '',
    ),
    Fault(
        'checkpoint without its dVAE',
        drop('run/checkpoint/tokenizer'),
        GENERATE,
        'run/checkpoint',
        'tokenizer',
        'tokenizer',
    ),
    Fault(
        'no network',
        NOTHING,
        [*GENERATE[:2], '--checkpoint', 'somebody/something'],
        'somebody/something',
        '',
        'give a folder',
        dict(
            env={
                'HTTPS_PROXY': 'http://127.0.0.1:9',
                'HTTP_PROXY': 'http://127.0.0.1:9',
                'https_proxy': 'http://127.0.0.1:9',
                'HF_HUB_DISABLE_TELEMETRY': '1',
            }
        ),
    ),
    # images to write about
    Fault(
        'image to write about is missing',
        NOTHING,
        ['generate', 'x.png', *GENERATE[2:]],
        'x.png',
        '',
        'check the path',
    ),
    Fault(
        'image to write about is a bomb',
        write('x.png', huge_png(60_000)),
        ['generate', 'x.png', *GENERATE[2:]],
        'x.png',
        '',
        'make it smaller',
    ),
    Fault(
        'DICOM that is none',
        write('x.dcm', b'\0' * 128 + b'DICM' + b'\1' * 64),
        ['generate', 'x.dcm', *GENERATE[2:]],
        'x.dcm',
        '',
        '',
    ),
    Fault(
        'three views for a model of two',
        NOTHING,
        ['generate', FIRST, FIRST, FIRST, *GENERATE[2:]],
        '',
        'files',
        'at most 2',
    ),
    Fault(
        'maps would replace a folder',
        NOTHING,
        [*GENERATE, '--attention', 'set'],
        'set',
        '',
        'choose another folder',
    ),
    Fault(
        'no study in the split',
        NOTHING,
        [*EVALUATE[:4], '--split', 'test'],
        'set',
        'split',
        'another split',
    ),
    Fault(
        'scores of another checkpoint',
        write('scores/predictions.jsonl', 'mine'),
        [*EVALUATE, '--out', 'scores'],
        'scores',
        'scores.json',
        '--overwrite',
    ),
    Fault(
        'unknown split to score',
        NOTHING,
        [*EVALUATE[:4], '--split', 'dev'],
        '',
        'split',
        'train, val, test',
    ),
    Fault(
        'phantoms would replace a folder',
        NOTHING,
        ['phantom', 3, 'set'],
        'set',
        '',
        'choose another folder',
    ),
    Fault(
        'unknown style', NOTHING, ['phantom', 3, 'new', '--style', 'free'], '', 'style', 'single'
    ),
    Fault(
        'unknown layout', NOTHING, ['phantom', 3, 'new', '--layout', 'coco'], '', 'layout', 'r2gen'
    ),
    # downloads
    Fault(
        'no server to download from',
        NOTHING,
        [*DOWNLOAD, '--url', 'http://127.0.0.1:9/'],
        '127.0.0.1:9/NLMCXR_reports.tgz',
        '',
        'check the network',
        dict(env=NO_PROXY),
    ),
    Fault(
        'no address',
        NOTHING,
        [*DOWNLOAD, '--url', 'openi'],
        'openi/NLMCXR_reports.tgz',
        'url',
        'https://',
    ),
    Fault(
        'download into a file',
        NOTHING,
        ['download', 'iu-xray', 'dvae.json'],
        'dvae.json',
        '',
        'name a folder',
    ),
    Fault(
        'archive is a web page',
        write('iu/NLMCXR_reports.tgz', '<html>Moved'),
        DOWNLOAD,
        'NLMCXR_reports.tgz',
        '',
        'delete it to fetch it again',
    ),
    Fault(
        'archive leads outside',
        write('iu/NLMCXR_reports.tgz', tar_of('../outside')),
        DOWNLOAD,
        'NLMCXR_reports.tgz',
        '',
        'delete it to fetch it again',
    ),
    Fault(
        'archive holds other numbers',
        write('iu/NLMCXR_reports.tgz', tar_of('ecgen-radiology/1.xml')),
        DOWNLOAD,
        'NLMCXR_reports.tgz',
        'count',
        '--any-count',
    ),
    Fault(
        'dVAE would be downloaded over a folder',
        NOTHING,
        ['download', 'dalle-dvae', 'set'],
        'set',
        '',
        'choose another folder',
    ),
    *(
        [
            Fault(
                'no server to download the dVAE from',
                NOTHING,
                ['download', 'dalle-dvae', 'dalle', '--url', 'http://127.0.0.1:9/', '--tries', 1],
                '127.0.0.1:9/encoder.pkl',
                '',
                'check the network',
                dict(env=NO_PROXY),
            )
        ]
        if importlib.util.find_spec('dall_e')
        else []
    ),  # without the package that is said first
    Fault(
        'disk full while unpacking',
        write('iu/NLMCXR_reports.tgz', tar_of('ecgen-radiology/1.xml')),
        [*DOWNLOAD, '--any-count'],
        'ecgen-radiology',
        '',
        'free space',
        dict(full='ecgen-radiology'),
    ),
    # the audit and the ablation
    Fault('nothing to audit', NOTHING, ['audit', 'elsewhere'], 'elsewhere', '', 'check the path'),
    Fault(
        'unknown rules of cleaning',
        NOTHING,
        ['audit', 'set', '--rules', 'free'],
        '',
        'rules',
        'corrected',
    ),
    Fault(
        'unknown plan', NOTHING, ['ablation', '--plan', 'huge', '--out', 'new'], '', 'plan', 'quick'
    ),
    Fault('unknown row', NOTHING, ['ablation', '--row', 'z', '--out', 'new'], '', 'model', 'uar'),
    # packages that are not there
    Fault(
        'no metrics package',
        NOTHING,
        EVALUATE,
        '',
        '',
        "uar_nb[metrics]",
        dict(missing=['pycocoevalcap']),
    ),
    Fault(
        'no package for DICOM',
        write('x.dcm', b'\0' * 128 + b'DICM' + b'\1' * 64),
        ['generate', 'x.dcm', *GENERATE[2:]],
        '',
        '',
        "uar_nb[dicom]",
        dict(missing=['pydicom']),
    ),
    Fault(
        'no package for OpenAI\'s dVAE',
        edit('dvae/config.json', lambda c: c.update(kind='uar_nb.openai-dalle')),
        ['tokenize', 'set', '--dvae', 'dvae', '--out', 'new'],
        '',
        'dall_e',
        'uar_nb[dalle]',
        dict(missing=['dall_e']),
    ),
    # disks
    Fault(
        'disk full in a checkpoint',
        drop('run'),
        TRAIN,
        'run/checkpoint_stage1',
        '',
        'free space',
        dict(full='/checkpoint'),
    ),
    Fault(
        'disk full in a state',
        drop('run'),
        TRAIN,
        'optimizer.safetensors',
        '',
        'free space',
        dict(full='optimizer.safetensors'),
    ),
    Fault(
        'disk full in a data set',
        NOTHING,
        ['phantom', 3, 'new', '-q'],
        'annotation.json',
        '',
        'free space',
        dict(full='annotation.json'),
    ),
    Fault(
        'disk full in predictions',
        NOTHING,
        [*EVALUATE, '--out', 'new'],
        'predictions.jsonl',
        '',
        'free space',
        dict(full='predictions.jsonl', env=NO_JAVA),
    ),
    Fault(
        'disk full in attention maps',
        NOTHING,
        [*GENERATE, '--attention', 'new'],
        'new',
        '',
        'free space',
        dict(full='.png'),
    ),
    Fault(
        'disk full in a dVAE',
        NOTHING,
        ['dvae', 'set', '--out', 'new', '--steps', 1, '-q'],
        'new',
        '',
        'free space',
        dict(full='/new.tmp-'),
    ),
    Fault(
        'run folder refuses writes',
        drop('run'),
        TRAIN,
        'run/data.json',
        '',
        'choose another folder',
        dict(refuse='data.json'),
    ),
    Fault(
        'pointer cannot be written',
        drop('run'),
        TRAIN,
        'run/latest.json',
        '',
        'choose another folder',
        dict(refuse='latest.json'),
    ),
    Fault(
        'checkpoint cannot take its place',
        drop('run'),
        TRAIN,
        'run/checkpoint_stage1',
        '',
        'choose another folder',
        dict(refuse='checkpoint_stage1'),
    ),
    Fault(
        'predictions are refused',
        NOTHING,
        [*EVALUATE, '--out', 'new'],
        'predictions.jsonl',
        '',
        'choose another folder',
        dict(refuse='predictions.jsonl', env=NO_JAVA),
    ),
]


@pytest.fixture(scope='module')
def good(forge, tmp_path_factory):
    "A data set, a dVAE and a finished training, without fault."
    home = tmp_path_factory.mktemp('faults') / 'home'
    home.mkdir()
    for argv in (
        ['phantom', 5, 'set', '--val', 2, '-q'],
        ['dvae', 'set', '--out', 'dvae', '--steps', 2, '--codebook', 16, '-q'],
        [*TRAIN, '-q'],
    ):
        done = forge.run(argv, cwd=home)
        assert done.status == 0, done.err
    kept = home.with_name('good')
    home.rename(kept)
    return kept


@pytest.fixture
def home(good):
    """A copy of it to harm, always under the same name, so that what was read before is known as
    the same."""
    home = good.with_name('home')
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(good, home)
    return home


def snapshot(home):
    return {
        str(p.relative_to(home)): p.read_bytes() for p in sorted(home.rglob('*')) if p.is_file()
    }


def whole(home):
    "No file that was begun and not finished."
    for p in home.rglob('*'):
        assert '.tmp-' not in p.name and not p.name.endswith('.old'), p


def harmed(home, fault):
    "Put the fault in; gives what a fault holds on to while the command runs."
    found = fault.harm(home)
    return found if hasattr(found, '__enter__') else contextlib.nullcontext()


@pytest.mark.parametrize('fault', FAULTS, ids=[f.name for f in FAULTS])
def test_fault(fault, forge, home):
    with harmed(home, fault):
        before = snapshot(home)
        plan = dict(fault.plan)
        done = forge.run(fault.argv, cwd=home, env=plan.pop('env', None), **plan)
    assert done.status == 2, f'status {done.status}\n{done.out}\n{done.err}'
    message = done.err[done.err.rindex('error: ') :]
    assert 'Traceback' not in done.err and done.err.count('error: ') == 1, done.err
    for part in (fault.file, fault.field, fault.remedy):
        assert part.lower() in message.lower(), f'{part!r} is not in {message!r}'
    whole(home)
    after = snapshot(home)
    changed = [
        p
        for p in before
        if after.get(p) != before[p] and Path(p).name not in ('log.jsonl', 'lock', 'lock.json')
    ]
    assert changed == [], 'what was there before was touched'
    if not plan.get('full') and not plan.get('refuse'):
        assert not (home / 'new').exists(), 'something was written before the fault was found'


def test_many_faults_are_told_together(forge, home):
    "Three faults, three lines, and no run folder: the data set is judged before anything starts."
    several(home)
    done = forge.run([*TRAIN[:6], '--out', 'new', *SMALL], cwd=home)
    assert done.status == 2 and '3 faults' in done.err
    for part in (FIRST, 'train-0-000001/1.png', 'train[2].report'):
        assert part in done.err
    assert not (home / 'new').exists()


def test_truncated_images_are_told_together(forge, home):
    "What only decoding shows is found in all images before training, too."
    for i in (0, 3):
        cut(f'set/images/train-0-00000{i}/0.png')(home)
    done = forge.run([*TRAIN[:6], '--out', 'new', *SMALL], cwd=home)
    assert done.status == 2 and '2 faults' in done.err and 'train-0-000003/0.png' in done.err
    assert not (home / 'new' / 'log.jsonl').exists() and not (home / 'new' / 'pixels').exists()


def test_full_disk_keeps_the_earlier_state(forge, home, good):
    """The disk fills up in the second checkpoint; the first is whole, and with free space the
    same command goes on to the same end."""
    shutil.rmtree(home / 'run')
    done = forge.run(TRAIN, cwd=home, full='/checkpoint', after=4)
    assert (
        done.status == 2 and 'No space left' in done.err and (home / 'run' / 'latest.json').exists()
    )
    done = forge.run(TRAIN, cwd=home)
    assert done.status == 0, done.err

    def same(part):
        return snapshot(home / 'run' / part) == snapshot(good / 'run' / part)

    assert same('checkpoint') and same('state')


def test_scores_are_replaced_where_the_user_says_so(forge, good, tmp_path):
    "The remedy of the refusal; and the same command again needs no leave."
    out = tmp_path / 'scores'
    out.mkdir()
    (out / 'predictions.jsonl').write_text('mine')
    command = [*EVALUATE, '--metric', 'BLEU', '--out', out]
    assert forge.run(command, cwd=good).status == 2
    done = forge.run([*command, '--overwrite'], cwd=good)
    assert done.status == 0, done.err
    before = snapshot(out)
    assert forge.run(command, cwd=good).status == 0 and snapshot(out) == before
    assert len(before['predictions.jsonl'].splitlines()) == 2


def test_without_java(forge, good, tmp_path):
    "METEOR is left out, said so once, and the rest goes on."
    tools = tmp_path / 'bin'
    tools.mkdir()
    done = forge.run([*EVALUATE, '--out', tmp_path / 'scores'], cwd=good, env={'PATH': str(tools)})
    assert done.status == 0, done.err
    assert done.err.count('METEOR is left out') == 1 and 'Java' in done.err
    values = json.loads((tmp_path / 'scores' / 'scores.json').read_text())['values']
    assert values['METEOR'] is None and values['BLEU_4'] is not None


def test_training_without_the_metrics_package(forge, home):
    "The checkpoint is chosen by validation loss, and the log says why."
    shutil.rmtree(home / 'run')
    done = forge.run(TRAIN, cwd=home, missing=['pycocoevalcap'])
    assert done.status == 0, done.err
    rows = [json.loads(line) for line in (home / 'run' / 'log.jsonl').read_text().splitlines()]
    assert rows[0]['monitor'] == 'loss' and 'uar_nb[metrics]' in rows[0]['notes'][0]


@pytest.mark.parametrize(
    'argv, part',
    [
        (['trian'], 'trian'),
        (['train'], 'data'),
        (['generate', 'a.png', '--checkpoint', 'x', '--beams', '0'], 'beams'),
        (['phantom', 'many', 'x'], 'number'),
    ],
)
def test_usage(argv, part, forge, tmp_path):
    "A command line that cannot be understood."
    done = forge.run(argv, cwd=tmp_path)
    assert done.status == 2 and part in done.err and 'Traceback' not in done.err
