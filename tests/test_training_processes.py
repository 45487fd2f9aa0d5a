"Two processes train together (Accelerate, gloo on CPUs); the same command works with one GPU each."

import json
import os
import signal
import subprocess
import sys

import pytest

from forge import POSIX, TINY, wait_for
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


def test_one_of_two_processes_is_asked_to_stop(tmp_path):
    "Both end after the same step, the state is written, and the same command goes on."
    run(tmp_path, '-m', 'uar_nb', 'phantom', 8, 'set', '--val', 2, '-q')
    train = ['-m', 'uar_nb', 'train', 'set', '--preset', 'phantom', '--dvae-steps', 2]
    settings = [*SETTINGS, 'train.stages.0.steps=400', 'train.save_every=1']
    train += ['--codebook', 16, '--out', 'run', '-q', *(x for s in settings for x in ('--set', s))]
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'MASTER_PORT': '29517'}
    env |= {'MASTER_ADDR': '127.0.0.1', 'WORLD_SIZE': '2'}  # as `srun` begins them
    processes = [
        subprocess.Popen(
            [sys.executable, *map(str, train)],
            cwd=tmp_path,
            env={**env, 'RANK': str(rank), 'LOCAL_RANK': str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]

    def over():
        return any(process.poll() is not None for process in processes)

    wait_for(tmp_path / 'run' / 'latest.json', over)
    processes[1].send_signal(signal.SIGUSR1)
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [128 + signal.SIGUSR1] * 2, said
    assert 'the same command goes on from run' in said[0] and 'Traceback' not in ''.join(said)
    assert not list((tmp_path / 'run').glob('lock*'))


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
