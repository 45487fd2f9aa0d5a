"Two processes train together (Accelerate, gloo on CPUs); the same command works with one GPU each."

import json
import os
import subprocess
import sys

import pytest

from forge import POSIX, TINY
from pages import ROOT

pytestmark = pytest.mark.skipif(not POSIX, reason='gloo between forked processes')
SETTINGS = [
    *TINY,
    'train.batch_size=2',
    'train.accumulate=2',
    'train.log_every=1',
    'train.device=cpu',
    'train.monitor=loss',
]


def run(home, *argv):
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(
        [sys.executable, *map(str, argv)],
        cwd=home,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes(tmp_path):
    """One log, one checkpoint, each study once an epoch; the run can be continued, and its dVAE
    is made once."""
    run(tmp_path, '-m', 'uar_nb', 'phantom', 8, 'set', '--val', 2, '-q')
    train = [
        '-m',
        'uar_nb',
        'train',
        'set',
        '--preset',
        'phantom',
        '--dvae-steps',
        2,
        '--codebook',
        16,
        '--out',
        'run',
        '-q',
        *(x for s in SETTINGS for x in ('--set', s)),
    ]
    said = run(
        tmp_path, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', 2, *train
    )
    assert said.count('checkpoint:') == 1
    rows = [json.loads(line) for line in (tmp_path / 'run' / 'log.jsonl').read_text().splitlines()]
    assert rows[0]['processes'] == 2
    assert [r['total'] for r in rows if r['kind'] == 'train'] == [1, 2, 3, 4, 5, 6]
    assert [r['epoch'] for r in rows if r['kind'] == 'train'] == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]  # 8 studies = 2 processes x 2 batches x 2
    sys.path.insert(0, str(ROOT))
    from uar_nb.checkpoint import load_checkpoint

    assert load_checkpoint(tmp_path / 'run' / 'checkpoint').model.config.d == 16
    run(
        tmp_path, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', 2, *train
    )  # finished already
