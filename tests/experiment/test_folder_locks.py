"""Who holds a run folder: on disks with locks and without, on this machine and on others. Signs of
life are a tenth of a second apart here and not ten seconds."""

import errno
import os
import subprocess
import sys
import threading
import time

import pytest

from pages import ROOT
from uar_nb.core import UARError, atomic_folder, atomic_write, lock_open_file, read_json
from uar_nb.experiment import run_folder
from uar_nb.experiment.run_folder import check_hold, check_run, run_lock

fcntl = pytest.importorskip('fcntl')
ELSEWHERE = dict(pid=41, host='node7', machine='another kernel')
NO_LOCKS = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, 524]


@pytest.fixture(params=NO_LOCKS)
def no_locks(request, monkeypatch):
    "A disk whose file system knows no locks."

    def flock(*_):
        raise OSError(request.param, 'no locks here')

    monkeypatch.setattr(fcntl, 'flock', flock)


def lock(folder, patience=0.3):
    return run_lock(folder, beat=0.02, patience=patience)


def left_by(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / 'lock.json', ELSEWHERE | changes)


def entered(folder, **kwargs):
    "Seconds that it took to get the folder."
    begin = time.monotonic()
    with lock(folder, **kwargs):
        assert read_json(folder / 'lock.json')['pid'] == os.getpid()
        check_hold(folder)
        took = time.monotonic() - begin
    assert not list(folder.glob('lock*'))
    return took


def test_no_locks_nobody_there(no_locks, tmp_path):
    assert entered(tmp_path / 'run') < 0.2
    assert not (tmp_path / 'run').exists()  # nothing was there before, nothing is left


def test_no_locks_somebody_there(no_locks, tmp_path, capsys):
    "The second is refused as soon as the first shows that it lives; the first keeps its folder."
    with lock(tmp_path / 'run'):
        with (
            pytest.raises(UARError, match=f'runs in this folder already: process {os.getpid()}'),
            lock(tmp_path / 'run', patience=5.0),
        ):
            pass
        check_hold(tmp_path / 'run')
    assert f'process {os.getpid()}' in capsys.readouterr().err


@pytest.mark.parametrize('pid', [2**22 + 1, os.getppid()], ids=['dead', 'its number used again'])
def test_no_locks_somebody_died(no_locks, pid, tmp_path, capsys):
    "No process number is judged: who is silent is gone."
    ours = run_folder._this_process()
    left_by(tmp_path / 'run', **dict(ours, pid=pid))
    assert 0.3 <= entered(tmp_path / 'run') < 5
    assert 'shows no sign of life for 0 seconds' in capsys.readouterr().err


def test_a_free_lock_of_this_machine_needs_no_waiting(tmp_path, capsys):
    "A container that was started again has another host name, and the same kernel."
    left_by(tmp_path / 'run', machine=run_folder._this_process()['machine'], host='3f2a9c1b7d4e')
    assert entered(tmp_path / 'run', patience=60.0) < 1
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize('text', [None, '', '[]', '{"pid": 41, "host": "3f2a9c1b7d4e"}'])
def test_a_silent_lock_of_elsewhere_is_taken_over(text, tmp_path):
    "Of a job on another node; or lock.json is damaged; or an earlier version wrote it."
    left_by(tmp_path / 'run')
    if text is not None:
        (tmp_path / 'run' / 'lock.json').write_text(text)
    assert 0.3 <= entered(tmp_path / 'run') < 5


def test_a_lock_file_of_an_earlier_version_is_no_hold(tmp_path):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'lock').write_text('{"pid": 41, "host": "3f2a9c1b7d4e"}')
    assert entered(tmp_path / 'run', patience=60.0) < 1


def test_a_live_lock_of_elsewhere_is_respected(tmp_path):
    "Its clock may be wrong by hours: only a change counts."
    left_by(tmp_path / 'run')
    card = tmp_path / 'run' / 'lock.json'
    long_ago = time.time() - 7200
    touch = threading.Timer(0.1, os.utime, [card, (long_ago, long_ago)])
    touch.start()
    with pytest.raises(UARError, match='process 41 on node7'), lock(tmp_path / 'run', 5.0):
        pass
    assert read_json(card) == ELSEWHERE


def test_a_lock_of_elsewhere_that_goes_away_is_waited_for(tmp_path):
    left_by(tmp_path / 'run')
    threading.Timer(0.1, (tmp_path / 'run' / 'lock.json').unlink).start()
    assert entered(tmp_path / 'run', patience=20.0) < 5


def test_the_remedy_of_a_refusal_works(tmp_path):
    "Another folder; or waiting until the other has ended."
    with (
        lock(tmp_path / 'a'),
        pytest.raises(UARError, match='choose another folder, or wait'),
        lock(tmp_path / 'a'),
    ):
        pass
    with lock(tmp_path / 'a'):
        entered(tmp_path / 'b')
    entered(tmp_path / 'a')


def test_taken_over_meanwhile(tmp_path):
    with lock(tmp_path / 'run'):
        left_by(tmp_path / 'run')
        with pytest.raises(UARError, match='taken this folder over: process 41 on node7'):
            check_hold(tmp_path / 'run')
    assert read_json(tmp_path / 'run' / 'lock.json') == ELSEWHERE  # theirs stays


@pytest.mark.parametrize('number', [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_folder_that_refuses_writes(number, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, 'open', refuse)
    with pytest.raises(UARError, match='cannot be written .*choose another folder'), lock(tmp_path):
        pass


def test_an_error_of_locking_that_is_none_of_these(tmp_path, monkeypatch):
    "A disk that fails is not a disk without locks."

    def flock(*_):
        raise OSError(errno.EIO, 'Input/output error')

    monkeypatch.setattr(fcntl, 'flock', flock)
    with open(tmp_path / 'x', 'w') as file, pytest.raises(OSError, match='Input/output'):
        lock_open_file(file.fileno())
    with pytest.raises(UARError, match='Input/output error'), lock(tmp_path):
        pass


def test_two_that_begin_together(tmp_path):
    "One trains, the other is refused, with real processes."
    code = (
        'import sys, time\nfrom uar_nb.experiment.run_folder import run_lock\n'
        'with run_lock(sys.argv[1]): print("in", flush=True); sys.stdin.read()'
    )
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', code, str(tmp_path / 'run')],
            env={**os.environ, 'PYTHONPATH': str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    while all(process.poll() is None for process in processes):
        time.sleep(0.01)
    ended, holds = sorted(processes, key=lambda process: process.poll() is None)
    _, err = ended.communicate()
    assert f'already: process {holds.pid}' in err
    out, err = holds.communicate('')
    assert (out, err, holds.returncode) == ('in\n', '', 0)
    assert not (tmp_path / 'run').exists()


def test_what_another_host_is_writing_is_not_tidied(tmp_path, monkeypatch):
    "Two hosts write into one folder; the process number of one means nothing at the other."
    monkeypatch.setattr('socket.gethostname', lambda: 'node7')
    with atomic_folder(tmp_path / 'store') as theirs:
        atomic_write(theirs / 'a', 'theirs')
        monkeypatch.setattr('socket.gethostname', lambda: 'node8')
        monkeypatch.setattr('uar_nb.core._alive', lambda pid: False)
        with atomic_folder(tmp_path / 'store') as ours:
            atomic_write(ours / 'a', 'ours')
        assert (theirs / 'a').read_text() == 'theirs'
    assert [p.name for p in tmp_path.iterdir()] == ['store']


@pytest.mark.parametrize('name', ['data.json', 'log.jsonl', 'latest.json', 'state', 'checkpoint'])
def test_what_is_not_of_a_run_is_not_replaced(name, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(UARError, match='not of a run.*choose another folder, or move it away'):
        check_run(tmp_path, None)
    (tmp_path / name).rename(tmp_path / 'mine')
    check_run(tmp_path, None)
