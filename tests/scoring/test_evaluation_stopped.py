"""`uar evaluate` that is asked to stop: one line, the status of the signal, and a folder that
holds both files of one evaluation, or what it held before."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from forge import POSIX, TINY
from pages import ROOT
from uar_nb.scoring import evaluate as module

pytestmark = pytest.mark.skipif(not POSIX, reason='needs fork')
SIGNALS = ['SIGINT', 'SIGHUP', 'SIGUSR1', 'SIGXCPU']
MOMENTS = {  # where in the evaluation the signal comes
    'reports': dict(event='reports', n=2),
    'first file': dict(event='fsync', path='scores.json'),
    'between': dict(event='fsync', path='predictions.jsonl'),
    'last name': dict(event='replace', path='predictions.jsonl'),
}


@pytest.fixture(scope='module')
def home(forge, tmp_path_factory):
    "A data set of 20 test studies and a checkpoint that nobody has trained for long."
    home = tmp_path_factory.mktemp('stopped')
    settings = [part for each in TINY for part in ('--set', each)]
    for argv in (
        ['phantom', 4, 'set', '--val', 2, '--test', 20, '-q'],
        ['dvae', 'set', '--out', 'dvae', '--steps', 2, '--codebook', 16, '-q'],
        ['train', 'set', '--preset', 'phantom', '--dvae', 'dvae', '--out', 'run', '-q', *settings],
    ):
        done = forge.run(argv, cwd=home)
        assert done.status == 0, done.err
    return home


def command(out, *more):
    argv = ['evaluate', 'set', '--checkpoint', 'run/checkpoint', '--out', out, '--beams', 1]
    return [*argv, '--metric', 'BLEU', '-q', *more]


def content(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob('*'))}


@pytest.fixture(scope='module')
def whole(forge, home):
    done = forge.run(command('whole'), cwd=home)
    assert done.status == 0, done.err
    return content(home / 'whole')


def belongs_together(files):
    "Whether the predictions are those that the scores were computed from."
    scores = json.loads(files['scores.json'])
    return scores['predictions'] == module._hash_of_text(files['predictions.jsonl'].decode())


def ends_tidily(done, name):
    number = getattr(signal, name)
    assert done.status == 128 + number, done.err
    assert done.err == f'stopped by {name}\n'


CASES = [('SIGTERM', moment) for moment in MOMENTS] + [(name, 'between') for name in SIGNALS]


@pytest.mark.parametrize(('name', 'moment'), CASES)
def test_asked_to_stop(forge, home, whole, name, moment):
    "Before the files are begun there is no folder; once they are, both are written first."
    out = f'{name} {moment}'
    done = forge.run(command(out), cwd=home, kill=dict(MOMENTS[moment], signal=name))
    ends_tidily(done, name)
    files = content(home / out)
    if moment == 'reports':
        assert files == {}
    else:
        assert sorted(files) == ['predictions.jsonl', 'scores.json'] and belongs_together(files)
    assert forge.run(command(out), cwd=home).status == 0
    assert content(home / out).keys() == whole.keys() and belongs_together(content(home / out))


@pytest.mark.parametrize('moment', MOMENTS)
def test_what_was_there_stays_whole(forge, home, whole, moment):
    "The scores of another evaluation, which are being replaced."
    out = f'other {moment}'
    first = forge.run(command(out, '--limit', 3), cwd=home)
    assert first.status == 0, first.err
    before = content(home / out)
    how = dict(MOMENTS[moment], signal='SIGTERM')
    ends_tidily(forge.run(command(out, '--overwrite'), cwd=home, kill=how), 'SIGTERM')
    after = content(home / out)
    assert belongs_together(after)
    assert (after == before) == (moment == 'reports')


@pytest.mark.parametrize('moment', MOMENTS)
def test_asked_twice(forge, home, moment):
    "A scheduler that asks again, while the command ends already."
    how = dict(MOMENTS[moment], signal='SIGUSR1')
    out = f'twice {moment}'
    ends_tidily(forge.run(command(out), cwd=home, kill=how, again='SIGTERM'), 'SIGUSR1')
    assert moment == 'reports' or belongs_together(content(home / out))


def test_killed_between_the_two_files(forge, home):
    "SIGKILL asks nobody: the same command writes the folder again, and leaves no part behind."
    for moment in ('between', 'last name'):
        done = forge.run(command('killed'), cwd=home, kill=MOMENTS[moment])
        assert done.status == -signal.SIGKILL
        assert forge.run(command('killed'), cwd=home).status == 0
        files = {name: data for name, data in content(home / 'killed').items() if 'tmp' not in name}
        assert belongs_together(files)


def test_a_signal_while_java_scores(home):
    "METEOR is a process of its own, which does not outlive the command."
    psutil = pytest.importorskip('psutil')
    argv = [str(part) if part != 'BLEU' else 'METEOR' for part in command('java')]
    started = subprocess.Popen(
        [sys.executable, '-m', 'uar_nb', *argv],
        cwd=home,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    java = []
    while not java:
        assert started.poll() is None, started.stderr.read()
        java = psutil.Process(started.pid).children(recursive=True)
        time.sleep(0.005)
    started.send_signal(signal.SIGTERM)
    _, said = started.communicate(timeout=60)
    assert (started.returncode, said) == (128 + signal.SIGTERM, 'stopped by SIGTERM\n')
    assert not any(child.is_running() for child in java)
    assert content(home / 'java') == {}
