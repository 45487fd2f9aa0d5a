"""A training that is killed at twenty moments ends with the same weights, bit for bit, as one
that was not."""

import contextlib
import errno
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from forge import POSIX, has_ended, wait_for
from pages import ROOT

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


# all twenty take 1 min; each change is tried with every fourth
@pytest.mark.parametrize('every', [4, pytest.param(1, marks=pytest.mark.slow)])  # 1 min
def test_twenty_kills(every, forge, data, whole):
    plan, hits, run = moments(seed=2023), 0, f'killed {every}'
    assert len(plan) == 20
    plan = plan[::every]
    for step, event, n, path in plan:
        done = forge.run(command(run), cwd=data, kill=dict(step=step, event=event, n=n, path=path))
        assert done.status in (0, -signal.SIGKILL), done.err
        hits += done.status == -signal.SIGKILL
    assert forge.run(command(run), cwd=data).status == 0
    assert hits == len(plan), f'only {hits} of {len(plan)} kills hit'
    files, rows = whole
    again, rows_again = content(data / run)
    assert sorted(files) == sorted(again)
    assert [name for name in files if files[name] != again[name]] == []
    assert rows == rows_again
    left = [p for p in (data / run).rglob('*') if '.tmp-' in p.name or p.name.endswith('.old')]
    assert left == []


def test_another_system_is_killed_between_two_steps(forge, data):
    "R2Gen, whose memory and dropout draw too: one kill, and the same bits as a run in one go."
    drawn = {'model.d': 32, 'model.heads': 2, 'model.d_ff': 32, 'model.layers': 1}
    drawn |= {'model.visual': 'tokens', 'model.dropout': 0.1}
    kept = {k: v for k, v in SETTINGS.items() if not k.startswith(('model.', 'train.stages.1'))}
    kept |= {'train.stages.0.steps': 6, 'train.stages.0.warmup': 2, 'train.accumulate': 1}
    settings = [x for k, v in (kept | drawn).items() for x in ('--set', f'{k}={v}')]

    def argv(out):
        line = ['train', 'set', '--preset', 'phantom', '--model', 'r2gen', '--dvae', 'dvae']
        return [*line, '--out', out, '-q', *settings]

    done = forge.run(argv('r2gen whole'), cwd=data)
    assert done.status == 0, done.err
    killed = forge.run(argv('r2gen killed'), cwd=data, kill=dict(step=5, event='step'))
    assert killed.status == -signal.SIGKILL, killed.err
    assert forge.run(argv('r2gen killed'), cwd=data).status == 0
    files, rows = content(data / 'r2gen whole')
    again, rows_again = content(data / 'r2gen killed')
    assert len(files) > 3 and any(row['kind'] == 'val' for row in rows)
    assert files == again and rows == rows_again


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


def until(path, started):
    "Wait for a file of a command."
    wait_for(path, lambda: has_ended(started))


def test_gentle_stop(forge, data, whole):
    "SIGINT: status 130, a hint, no traceback, and the same end."
    started = forge.start(command('gentle'), cwd=data)
    until(data / 'gentle' / 'latest.json', started)
    os.kill(started[0], signal.SIGINT)
    done = forge.finish(started)
    assert (
        done.status == 130
        and 'the same command goes on' in done.err
        and 'Traceback' not in done.err
    )
    assert forge.run(command('gentle'), cwd=data).status == 0
    assert content(data / 'gentle') == whole


GENTLE = ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGXCPU']


@pytest.mark.parametrize('name', GENTLE)
def test_a_schedulers_signal(name, forge, data, whole):
    """SLURM, Grid Engine, a lost terminal, a limit on CPU seconds: the step ends, the state is
    written, the status is 128 and the number of the signal, and the same command goes on."""
    run = data / name
    started = forge.start(command(name), cwd=data)
    until(run / 'latest.json', started)
    os.kill(started[0], getattr(signal, name))
    done = forge.finish(started)
    assert done.status == 128 + getattr(signal, name), done.err
    assert f'the same command goes on from {name}' in done.err and 'Traceback' not in done.err
    assert not list(run.glob('lock*'))
    assert forge.run(command(name), cwd=data).status == 0
    assert content(run) == whole


def test_a_warning_and_then_the_limit(forge, data, whole):
    "SIGUSR1 before the limit, SIGTERM at it: the second does not cut the state off."
    started = forge.start(command('limit'), cwd=data)
    until(data / 'limit' / 'latest.json', started)
    for name in ('SIGUSR1', 'SIGTERM', 'SIGTERM'):
        os.kill(started[0], getattr(signal, name))
        time.sleep(0.01)  # signals that wait are not counted
    done = forge.finish(started)
    assert done.status == 128 + signal.SIGUSR1, done.err
    assert forge.run(command('limit'), cwd=data).status == 0
    assert content(data / 'limit') == whole


def test_ctrl_c_twice(forge, data, whole):
    "The second stops at once, in the middle of a step; nothing is half-written."
    started = forge.start(command('twice'), cwd=data)
    until(data / 'twice' / 'latest.json', started)
    for _ in range(2):
        os.kill(started[0], signal.SIGINT)
        time.sleep(0.01)
    done = forge.finish(started)
    assert done.status == 130 and 'Traceback' not in done.err, done.err
    assert not list((data / 'twice').glob('lock*'))
    assert forge.run(command('twice'), cwd=data).status == 0
    assert content(data / 'twice') == whole


def test_nohup(forge, data, whole):
    "A signal that the caller told the program to ignore stays ignored."
    started = forge.start(command('nohup'), cwd=data, ignored=['SIGHUP'])
    until(data / 'nohup' / 'latest.json', started)
    os.kill(started[0], signal.SIGHUP)
    assert forge.finish(started).status == 0
    assert content(data / 'nohup') == whole


def test_a_signal_before_the_first_step(forge, data):
    "While the dVAE is trained there is nothing to save: the program ends, tidily."
    argv = ['train', 'set', '--preset', 'phantom', '--dvae-steps', 10000, '--out', 'early', '-q']
    started = forge.start(argv, cwd=data)
    until(data / 'early' / 'lock.json', started)
    os.kill(started[0], signal.SIGUSR1)
    done = forge.finish(started)
    assert done.status == 128 + signal.SIGUSR1 and done.err == 'stopped by SIGUSR1\n'
    assert not (data / 'early').exists()


def elsewhere(run, **changes):
    "The lock.json that a training on another machine has left."
    card = dict(pid=41, host='node7', machine='another kernel') | changes
    (run / 'lock.json').write_text(json.dumps(card))


def test_requeued_on_another_node(forge, data, whole):
    """Killed on one machine, gone on with on another: in a folder that was copied, or on a disk
    that both see; the path has spaces and letters of another alphabet."""
    name = 'Läufe 1/胸片'
    first = dict(step=9, event='step')
    assert forge.run(command(name), cwd=data, kill=first).status == -signal.SIGKILL
    elsewhere(data / name)
    done = forge.run(command(name), cwd=data, lease=[0.1, 0.4])
    assert done.status == 0 and 'process 41 on node7 had this folder' in done.err, done.err
    assert content(data / name) == whole


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_disk_without_locks(number, forge, data, whole):
    "It trains as on any other; a second training is refused; a killed one is taken over."
    name = f'no locks {number}'
    how = dict(no_locks=number, lease=[0.1, 2.0])
    first = forge.start(command(name), cwd=data, **how)
    until(data / name / 'latest.json', first)
    second = forge.run(command(name), cwd=data, **how)
    assert second.status == 2 and f'process {first[0]}' in second.err, second.err
    os.kill(first[0], signal.SIGKILL)
    forge.finish(first)
    assert forge.run(command(name), cwd=data, no_locks=number, lease=[0.1, 0.4]).status == 0
    assert content(data / name) == whole
    assert not list((data / name).glob('lock*'))


def test_suspended_and_taken_for_dead(forge, data, whole):
    "A training that wakes up in a folder that another has taken stops before it writes."
    how = dict(no_locks=errno.ENOLCK, lease=[0.1, 0.4])
    first = forge.start(command('suspended'), cwd=data, **how)
    until(data / 'suspended' / 'latest.json', first)
    os.kill(first[0], signal.SIGSTOP)
    assert forge.run(command('suspended'), cwd=data, **how).status == 0
    os.kill(first[0], signal.SIGCONT)
    done = forge.finish(first)
    assert done.status == 2 and 'lock.json is gone' in done.err, done.err
    files, _ = content(data / 'suspended')
    assert files == whole[0]


def test_a_lost_terminal(data, whole):
    "The terminal closes: SIGHUP, and writing to it is an error; the state is written all the same."
    import pty  # Windows has none

    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(data)
        os.environ.update(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
        argv = [x for x in command('terminal') if x != '-q']
        os.execv(sys.executable, [sys.executable, '-m', 'uar_nb', *map(str, argv)])
    said = b''
    while not (data / 'terminal' / 'latest.json').exists():
        if select.select([terminal], [], [], 0.01)[0]:
            try:
                said += os.read(terminal, 1 << 16)
            except OSError:  # the command has ended, and with it its terminal
                pytest.fail(said.decode())
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    assert not list((data / 'terminal').glob('lock*'))
    done = subprocess.run(
        [sys.executable, '-m', 'uar_nb', *map(str, command('terminal'))],
        cwd=data,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
    )
    assert done.returncode == 0 and content(data / 'terminal') == whole


def test_the_reader_of_the_output_ends(data, whole):
    "`uar train … | head -1`: the training goes on, even where nobody reads its first line."
    argv = [x for x in command('pipe') if x != '-q']
    started = subprocess.Popen(
        [sys.executable, '-m', 'uar_nb', *map(str, argv)],
        cwd=data,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    started.stdout.close()  # before the first line
    assert started.wait() in (0, 141)  # 141: its last line met the closed pipe
    assert started.stderr.read().decode() == ''
    assert content(data / 'pipe') == whole


def test_two_in_one_folder(forge, data, whole):
    "The second training is refused by name of the first; the first goes on."
    first = forge.start(command('two'), cwd=data)
    until(data / 'two' / 'log.jsonl', first)
    second = forge.run(command('two'), cwd=data)
    assert (
        second.status == 2
        and f'process {first[0]}' in second.err
        and str(Path('two')) in second.err
    )
    assert forge.finish(first).status == 0
    assert content(data / 'two') == whole
