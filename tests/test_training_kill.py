"""A training that is killed at twenty moments ends with the same weights, bit for bit, as one
that was not."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from forge import POSIX, Forge

pytestmark = pytest.mark.skipif(not POSIX, reason='needs fork and SIGKILL')
STAGES = (16, 10)
SETTINGS = dict(
    [
        ('model.d', 32),
        ('model.heads', 2),
        ('model.cra_heads', 2),
        ('model.d_ff', 32),
        ('model.basis_size', 32),
        ('data.max_words', 16),
        ('data.crops', 2),
        ('train.stages.0.steps', STAGES[0]),
        ('train.stages.0.warmup', 3),
        ('train.stages.1.steps', STAGES[1]),
        ('train.stages.1.warmup', 2),
        ('train.batch_size', 2),
        ('train.accumulate', 3),
        ('train.eval_every', 4),
        ('train.save_every', 2),
        ('train.log_every', 1),
        ('train.beam', 1),
        ('train.eval_studies', 2),
        ('model.dropout', 0.1),
        ('model.image_dropout', 0.1),
        ('train.monitor', 'findings_f1'),
    ]
)


def moments(seed):
    """Twenty of them, in the order in which a training comes to them: (steps done, kind of
    event, n-th of these, part of the path)."""
    rng, end = np.random.default_rng(seed), sum(STAGES)
    drawn = [
        (int(s), 'step', 1, '') for s in rng.choice(np.arange(1, end), 6, replace=False)
    ]  # between two steps
    drawn += [
        (int(s), 'fsync', int(n), '/state/')
        for s, n in zip(
            rng.choice(np.arange(1, end), 4, replace=False), rng.integers(1, 4, 4), strict=True
        )
    ]  # inside a state
    drawn += [
        (int(4 * s), 'fsync', int(n), '/checkpoint')
        for s, n in zip(
            rng.choice(np.arange(1, 4), 3, replace=False), rng.integers(1, 6, 3), strict=True
        )
    ]  # inside a checkpoint
    drawn += [
        (int(s), 'replace', 1, 'latest.json')
        for s in rng.choice(np.arange(1, end), 2, replace=False)
    ]  # between state and pointer
    drawn += [
        (int(s), 'replace', int(n), '/state/')
        for s, n in zip(
            rng.choice(np.arange(1, end), 2, replace=False), rng.integers(1, 4, 2), strict=True
        )
    ]
    turn = STAGES[0]
    drawn += [
        (turn, 'fsync', 2, '/state/'),
        (turn, 'replace', 1, 'latest.json'),
        (turn, 'step', 1, ''),
    ]  # the change of stage: before, within, after
    return sorted(drawn, key=lambda m: m[0])


@pytest.fixture(scope='module')
def forge():
    with Forge() as f:
        yield f


@pytest.fixture(scope='module')
def data(forge, tmp_path_factory):
    home = tmp_path_factory.mktemp('kill')
    assert forge.run(['phantom', 9, 'set', '--val', 3, '-q'], cwd=home).status == 0
    assert (
        forge.run(
            ['dvae', 'set', '--out', 'dvae', '--steps', 4, '--codebook', 16, '-q'], cwd=home
        ).status
        == 0
    )
    return home


def command(out):
    settings = [x for k, v in SETTINGS.items() for x in ('--set', f'{k}={v}')]
    return ['train', 'set', '--preset', 'phantom', '--dvae', 'dvae', '--out', out, '-q', *settings]


def content(run):
    "Every file that a finished run should agree on."
    files = [
        p
        for folder in ('checkpoint', 'checkpoint_stage1', 'state')
        for p in sorted((run / folder).rglob('*'))
        if p.is_file()
    ]
    rows = [json.loads(line) for line in (run / 'log.jsonl').read_text().splitlines()]
    rows = [
        {k: v for k, v in r.items() if k not in ('seconds', 'memory')}
        for r in rows
        if r['kind'] in ('train', 'val')
    ]
    return {str(p.relative_to(run)): p.read_bytes() for p in files}, rows


@pytest.fixture(scope='module')
def whole(forge, data):
    "What a training that nobody disturbed leaves behind."
    done = forge.run(command('whole'), cwd=data)
    assert done.status == 0, done.err
    return content(data / 'whole')


def test_twenty_kills(forge, data, whole):
    plan, hits = moments(seed=2023), 0
    assert len(plan) == 20
    for step, event, n, path in plan:
        done = forge.run(
            command('killed'), cwd=data, kill=dict(step=step, event=event, n=n, path=path)
        )
        assert done.status in (0, -signal.SIGKILL), done.err
        hits += done.status == -signal.SIGKILL
    assert forge.run(command('killed'), cwd=data).status == 0
    assert hits == 20, f'only {hits} of 20 kills hit'
    files, rows = whole
    again, rows_again = content(data / 'killed')
    assert sorted(files) == sorted(again)
    assert [name for name in files if files[name] != again[name]] == []
    assert rows == rows_again
    left = [p for p in (data / 'killed').rglob('*') if '.tmp-' in p.name or p.name.endswith('.old')]
    assert left == []


def test_kills_by_the_clock(forge, data, whole):
    "From outside, at moments that nobody chose."
    rng, kills = np.random.default_rng(7), 0
    for _ in range(4):
        started = forge.start(command('clock'), cwd=data)
        time.sleep(float(rng.uniform(0.3, 1.5)))
        with contextlib.suppress(ProcessLookupError):
            os.kill(started[0], signal.SIGKILL)
        kills += forge.finish(started).status == -signal.SIGKILL
    assert forge.run(command('clock'), cwd=data).status == 0
    assert kills and content(data / 'clock') == whole


def test_gentle_stop(forge, data, whole):
    "SIGINT: status 130, a hint, no traceback, and the same end."
    started = forge.start(command('gentle'), cwd=data)
    while not (data / 'gentle' / 'latest.json').exists():
        time.sleep(0.01)
    os.kill(started[0], signal.SIGINT)
    done = forge.finish(started)
    assert (
        done.status == 130
        and 'the same command goes on' in done.err
        and 'Traceback' not in done.err
    )
    assert forge.run(command('gentle'), cwd=data).status == 0
    assert content(data / 'gentle') == whole


def test_two_in_one_folder(forge, data, whole):
    "The second training is refused by name of the first; the first goes on."
    first = forge.start(command('two'), cwd=data)
    while not (data / 'two' / 'log.jsonl').exists():
        time.sleep(0.01)
    second = forge.run(command('two'), cwd=data)
    assert (
        second.status == 2
        and f'process {first[0]}' in second.err
        and str(Path('two')) in second.err
    )
    assert forge.finish(first).status == 0
    assert content(data / 'two') == whole
