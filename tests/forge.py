"""Runs `uar` in real processes that start quickly: a server imports the package once and forks a
process for each command.

    with Forge() as forge: done = forge.run(['train', ...], kill=[...])     # done.status,
    done.out, done.err

A command may come with a plan of faults, which is put into effect in its own process alone, at
the calls of the operating system
that every write goes through: `os.fsync` (the file is on the disk) and `os.replace` (it gets its
name).
"""

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import namedtuple
from pathlib import Path

Done = namedtuple(
    'Done', 'status out err seconds'
)  # status is negative for a signal, as in subprocess
POSIX = hasattr(os, 'fork')
TINY_MODEL = {  # the smallest model that has every part
    'model.d': 16,
    'model.heads': 2,
    'model.cra_heads': 2,
    'model.d_ff': 16,
    'model.basis_size': 16,
}
TINY = [  # settings of a training that takes seconds, for --set
    *(f'{name}={value}' for name, value in TINY_MODEL.items()),
    'data.max_words=12',
    'data.crops=1',
    'train.stages.0.steps=4',
    'train.stages.0.warmup=1',
    'train.stages.1.steps=2',
    'train.stages.1.warmup=1',
    'train.eval_every=2',
    'train.beam=1',
]


class Forge:
    "The server and the way to it; one per test module is enough."

    def __enter__(self):
        env = {
            **os.environ,
            'OMP_NUM_THREADS': '1',
            'PYTHONPATH': str(Path(__file__).parent.parent),
            'COLUMNS': '120',
            'NO_COLOR': '1',
        }
        self.home = tempfile.TemporaryDirectory()
        self.server = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        if self.server.stdout.readline() != 'ready\n':
            raise RuntimeError('the server did not start')
        return self

    def __exit__(self, *_):
        self.server.stdin.close()
        self.server.wait()
        self.home.cleanup()

    def start(self, argv, cwd='.', env=None, **plan):
        "Begin a command; `finish` waits for it."
        order = dict(
            argv=[str(a) for a in argv],
            cwd=str(cwd),
            env=env or {},
            plan=plan,
            home=tempfile.mkdtemp(dir=self.home.name),
        )
        self.server.stdin.write(json.dumps(order) + '\n')
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())['pid'], Path(order['home']), time.time()

    def finish(self, started, timeout=300):
        "The end of a command that `start` began."
        pid, home, begin = started
        while not (home / 'status').exists():
            if time.time() > begin + timeout:
                os.kill(pid, signal.SIGKILL)
                raise TimeoutError((home / 'err').read_text(encoding='utf-8'))
            time.sleep(0.01)
        return Done(
            int((home / 'status').read_text()),
            (home / 'out').read_text(encoding='utf-8', errors='replace'),
            (home / 'err').read_text(encoding='utf-8', errors='replace'),
            time.time() - begin,
        )

    def run(self, argv, **kwargs):
        return self.finish(self.start(argv, **kwargs))


def wait_for(path, ended, seconds=300):
    """Wait for a file that a command writes. `ended` says whether the command is over: what it
    has not written then it never will."""
    until = time.time() + seconds
    while not path.exists():
        if ended() and not path.exists():
            raise RuntimeError(f'the command ended without {path.name}')
        if time.time() > until:
            raise TimeoutError(f'no {path.name} after {seconds} s')
        time.sleep(0.01)


def has_ended(started):
    "Whether a command that `Forge.start` began is over."
    return (started[1] / 'status').exists()


def written_path(handle):
    "The path of an open file."
    return os.readlink(f'/proc/self/fd/{handle}') if os.path.exists('/proc/self/fd') else ''


def take_away(name):
    "Make a package one that is not installed."
    for known in [m for m in sys.modules if m == name or m.startswith(name + '.')]:
        del sys.modules[known]
    sys.modules[name] = None


def take_locks_away(number):
    "Make `flock` fail with an error number, as on a disk without locks."
    import fcntl

    def flock(*_):
        raise OSError(number, os.strerror(number))

    fcntl.flock = flock


def ask_again(number):
    "Send this process a signal once its command has told what ended it."
    import uar_nb.apps.cli as cli

    tell = cli.tell

    def hooked_tell(error):
        status = tell(error)
        os.kill(os.getpid(), number)
        return status

    cli.tell = hooked_tell


def set_the_scene(plan):
    "What of a plan is there from the beginning."
    for name in plan.get('missing', ()):
        take_away(name)
    for name in plan.get('ignored', ()):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    if plan.get('no_locks'):
        take_locks_away(plan['no_locks'])
    if plan.get('again'):
        ask_again(getattr(signal, plan['again']))
    if plan.get('lease'):
        from uar_nb.experiment.run_folder import run_lock

        run_lock.__wrapped__.__defaults__ = tuple(plan['lease'])


def plant(text):
    "Whoever reads a data set, or writes phantoms, meets this error."
    import torch

    import uar_nb.apps.audit
    import uar_nb.apps.pipeline

    known = {'torch': torch, 'errno': errno, 'OutOfMemoryError': torch.OutOfMemoryError}

    def fails(*_, **__):
        raise eval(text, known)

    uar_nb.apps.audit.load_studies = uar_nb.apps.pipeline.load_studies = fails


def put_into_effect(plan):
    """Faults of one process. `kill`: {'step': s, 'event': 'step' | 'fsync' | 'replace' |
    'reports', 'n': n, 'path': part of a path, 'signal': name} ends it by SIGKILL, or sends another
    signal, at the n-th such event once s training steps are done in all ('reports': an evaluation
    writes those of its next batch); a file that is being written is cut in half by SIGKILL.
    `again`: name of a signal that comes once the command has told what ended it.
    `full`/`refuse`: a text; writes to paths that hold it fail,
    `full` once `after` steps are done. `missing`: packages that are not installed. `no_locks`:
    `flock` answers this error number. `lease`: (seconds between signs of life, seconds to wait for
    one). `ignored`: signals that the caller had told the process to ignore, as `nohup` does.
    `raises`: an error in Python, e.g. "MemoryError()", which reading a data set raises."""
    set_the_scene(plan)
    seen, fsync, replace = {'step': 0, 'n': 0}, os.fsync, os.replace
    kill, full, refuse, watch = (plan.get(k) for k in ('kill', 'full', 'refuse', 'watch'))

    def event(kind, path='', handle=None):
        if watch:
            with open(watch, 'a', encoding='utf-8') as f:
                f.write(json.dumps([seen['step'], kind, str(path)]) + '\n')
        if (
            not kill
            or kind != kill['event']
            or seen['step'] < kill.get('step', 0)
            or kill.get('path', '') not in str(path)
        ):
            return
        seen['n'] += 1
        if seen['n'] < kill.get('n', 1):
            return
        name = kill.get('signal', 'SIGKILL')
        if handle is not None and name == 'SIGKILL':
            os.ftruncate(handle, os.fstat(handle).st_size // 2)
        os.kill(os.getpid(), getattr(signal, name))

    def hooked_fsync(handle):
        path = written_path(handle)
        event('fsync', path, handle)
        if full and full in path and seen['step'] >= plan.get('after', 0):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return fsync(handle)

    def hooked_replace(source, target, **kwargs):
        event('replace', target)
        if refuse and refuse in str(target):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(target))
        return replace(source, target, **kwargs)

    os.fsync, os.replace = hooked_fsync, hooked_replace
    from uar_nb.training import Trainer

    step = Trainer.train_step

    def hooked_step(self, *args):
        seen['step'] = self.at.total
        event('step')
        done = step(self, *args)
        seen['step'] += 1
        return done

    Trainer.train_step = hooked_step
    import uar_nb.scoring.evaluate as scoring

    write = scoring.generate

    def hooked_generate(*args, **kwargs):
        event('reports')
        return write(*args, **kwargs)

    scoring.generate = hooked_generate


def write_to(wanted, usual, number):
    "Let a file number of this process lead to a file, or into a pipe that nobody reads."
    usual.touch()
    if wanted == 'gone':
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open(wanted or usual, os.O_WRONLY)
    os.dup2(writing, number)
    os.close(writing)


def child(order):
    """In the forked process: the command with its own files for output, and the end that `main`
    gives it. `streams` of a plan: the `encoding` of its output, the file (`out`, `err`) that it
    goes to, or `gone` for a pipe that nobody reads."""
    home, status = Path(order['home']), 1
    streams = order['plan'].get('streams', {})
    write_to(streams.get('out'), home / 'out', 1)
    write_to(streams.get('err'), home / 'err', 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    encoding = streams.get('encoding', 'utf-8')
    sys.stdout = open(1, 'w', buffering=1, encoding=encoding, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, 'w', buffering=1, encoding=encoding, closefd=False)  # noqa: SIM115
    os.chdir(order['cwd'])
    os.environ.update(order['env'])
    put_into_effect(order['plan'])
    if order['plan'].get('raises'):
        plant(order['plan']['raises'])
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job ignores it, and its children with it
    from uar_nb.apps.cli import main

    try:
        main(order['argv'])
        status = 0
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def serve():
    "Import once, then a process for each line of standard input."
    import uar_nb.apps.audit
    import uar_nb.apps.cli
    import uar_nb.apps.tables  # noqa: F401 (with it the demo, the pipeline and the model)

    homes = {}

    def bury(*_):
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in homes:
                tell(homes.pop(pid), status)
            else:
                early[pid] = status

    def tell(home, status):
        new = Path(home) / 'status.new'
        new.write_text(str(os.waitstatus_to_exitcode(status)))
        os.replace(new, Path(home) / 'status')

    early = {}
    signal.signal(signal.SIGCHLD, bury)
    print('ready', flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            child(order)
        homes[pid] = order['home']
        if pid in early:
            tell(homes.pop(pid), early.pop(pid))
        print(json.dumps({'pid': pid}), flush=True)


if __name__ == '__main__':
    serve()
