"""How commands end, whatever is wrong: one line, a status that says whose fault it is, and never
a trace of calls that nobody asked for."""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from forge import POSIX
from pages import ROOT
from uar_nb.apps import cli
from uar_nb.core import Stopped, UARError, on_stop_signal
from uar_nb.show import terminal

sys.path.insert(0, str(ROOT))
needs_fork = pytest.mark.skipif(not POSIX, reason='needs fork')
NAME = 'Zoë σ 肺'
AUDIT = ['audit', 'set', '--no-images', '--no-baselines', '--out', 'OUT']


@pytest.fixture(scope='module')
def home(forge, tmp_path_factory):
    "A folder with a small data set (without validation studies) and a file that is none."
    home = tmp_path_factory.mktemp('commands')
    done = forge.run(['phantom', 3, 'set', '--test', 2, '-q'], cwd=home)
    assert done.status == 0, done.err
    (home / 'file').write_text('hello', encoding='utf-8')
    return home


@pytest.fixture(scope='module')
def foreign(forge, tmp_path_factory):
    "A data set whose name and audit need more than ASCII: a report stands in two splits."
    home = tmp_path_factory.mktemp('foreign')
    assert forge.run(['phantom', 3, NAME, '--test', 2, '-q'], cwd=home).status == 0
    file = home / NAME / 'annotation.json'
    studies = json.loads(file.read_text(encoding='utf-8'))
    for split in ('train', 'test'):
        studies[split][0].update(report='Heart size is normal . Ω → – ½')
    file.write_text(json.dumps(studies, ensure_ascii=False), encoding='utf-8')
    return home


numbers = iter(range(10_000))


def with_folder(argv):
    "OUT becomes a folder that is not there yet."
    return [f'out{next(numbers)}' if part == 'OUT' else part for part in argv]


# ---- any error

PLANTED = [  # an error in Python, the status, what the line says
    ('MemoryError()', 71, "the machine's memory is used up"),
    ('RuntimeError("DefaultCPUAllocator: can\'t allocate memory: you tried")', 71, 'smaller batch'),
    ('OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")', 71, "the GPU's memory"),
    ('RuntimeError("MPS backend out of memory (MPS allocated 9 GB)")', 71, "the GPU's memory"),
    ('RuntimeError("CUDA error: an illegal memory access was encountered")', 71, 'the GPU failed'),
    ('RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")', 71, 'the GPU failed'),
    ('RecursionError("maximum recursion depth exceeded")', 70, 'nested a thousand levels'),
    ('KeyError("image_path")', 70, "KeyError: 'image_path'"),
    ('ValueError("several\\nlines\\n" + "x" * 9999)', 70, 'several lines'),
    ('TypeError("unsupported operand type(s)")', 70, 'report this line'),
    ('AssertionError()', 70, 'AssertionError'),
    ('EOFError()', 70, 'EOFError'),
    ('StopIteration()', 70, 'StopIteration'),
    ('UnicodeDecodeError("utf-8", b"\\xf6", 0, 1, "invalid start byte")', 70, 'save it as UTF-8'),
    ('UnicodeEncodeError("ascii", "\\udcf6", 0, 1, "no")', 70, 'PYTHONUTF8=1'),
    ('OSError(errno.ENOSPC, "No space left on device", "runs/x")', 74, 'runs/x: No space left'),
    ('OSError(errno.EDQUOT, "Disk quota exceeded", "runs/x")', 74, 'free space'),
    ('PermissionError(errno.EACCES, "Permission denied", "a.png")', 74, 'who may read and write'),
    ('OSError(errno.EROFS, "Read-only file system", "a.png")', 74, 'can be written'),
    ('OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300)', 74, 'a shorter name'),
    ('OSError(errno.EMFILE, "Too many open files", "a.png")', 74, 'ulimit -n'),
    ('FileNotFoundError(errno.ENOENT, "No such file or directory", "a.png")', 74, 'check the path'),
    ('OSError(errno.EIO, "Input/output error", "a.png")', 74, 'check the disk'),
    ('OSError(errno.ESTALE, "Stale file handle", b"a.png")', 74, 'a.png: Stale file handle'),
    ('ConnectionResetError("the other end is gone")', 74, 'the network'),
    ('OSError(errno.ENOMEM, "Cannot allocate memory")', 71, "the machine's memory"),
    ('BrokenPipeError(errno.EPIPE, "Broken pipe")', 74, 'ended early'),  # another program's pipe
    ('ModuleNotFoundError("no", name="pydicom.pixels")', 2, "pip install 'uar_nb[dicom]'"),
    ('ModuleNotFoundError("no", name="pycocoevalcap")', 2, "pip install 'uar_nb[metrics]'"),
    ('ImportError("libgomp.so: cannot open", name="scipy")', 2, 'install it again'),
    ('ImportError("cannot import name", name="uar_nb.data")', 70, 'report this line'),
    ('KeyboardInterrupt()', 130, 'stopped'),
]


@needs_fork
@pytest.mark.parametrize('error, status, words', PLANTED)
def test_any_error_is_one_line_with_a_status(error, status, words, forge, home):
    done = forge.run(with_folder(AUDIT), cwd=home, raises=error)
    assert (done.status, done.out) == (status, ''), done.err
    assert done.err.count('\n') == 1 and words in done.err and len(done.err) < 900, done.err
    assert 'Traceback' not in done.err and status in terminal.STATUSES
    if status != 130:
        assert done.err.startswith('error: ') and 'shows the trace' in done.err
        assert 'uar_nb.apps.audit, line ' in done.err


@needs_fork
@pytest.mark.parametrize(
    'argv, env',
    [
        (['--debug', *AUDIT], {}),
        ([*AUDIT, '--debug'], {}),
        (['audit', '--debug', *AUDIT[1:]], {}),
        (AUDIT, {'UAR_DEBUG': '1'}),
    ],
)
def test_the_trace_is_shown_where_it_is_asked_for(argv, env, forge, home):
    done = forge.run(with_folder(argv), cwd=home, env=env, raises='KeyError("x")')
    assert done.status == 70 and done.err.startswith('Traceback')
    assert done.err.splitlines()[-1].startswith('error: a fault of uar_nb')
    quiet = forge.run(with_folder(AUDIT), cwd=home, env={'UAR_DEBUG': '0'}, raises='KeyError("x")')
    assert 'Traceback' not in quiet.err


@needs_fork
def test_an_error_of_the_user_keeps_its_line_and_shows_its_trace(forge, home):
    plain = forge.run(['audit', 'nowhere'], cwd=home)
    assert (plain.status, plain.err) == (2, 'error: nowhere: data set not found — check the path\n')
    traced = forge.run(['audit', 'nowhere', '--debug'], cwd=home)
    assert traced.status == 2 and traced.err.startswith('Traceback')
    assert traced.err.endswith(plain.err)


def test_the_place_for_reports_is_that_of_the_project():
    settings = (ROOT / 'settings.ini').read_text(encoding='utf-8')
    assert f'git_url = {terminal.REPORTS.removesuffix("/issues")}\n' in settings
    assert 'console_scripts = uar=uar_nb.__main__:main\n' in settings


def test_every_extra_is_known():
    "A package of each extra that does not load is said with that extra."
    setup = (ROOT / 'setup.py').read_text(encoding='utf-8')
    extras = re.search(r"EXTRAS = '(.*)'", setup)[1].split()
    known = {package: extra for extra, some in terminal._EXTRAS.items() for package in some}
    assert set(extras) - {'dev'} == set(known.values())
    for package, extra in known.items():
        ending = terminal.explain(ModuleNotFoundError('no', name=f'{package}.part'))
        assert ending.status == 2 and f'uar_nb[{extra}]' in ending.message


# ---- the endings


class StoppedLock:
    "A lock; the signal to stop comes just after its first release."

    def __init__(self):
        self.lock = threading.Lock()
        self.acquire = self.lock.acquire

    def release(self):
        self.lock.release()
        os.kill(os.getpid(), signal.SIGTERM)

    def __enter__(self):
        self.lock.acquire()

    def __exit__(self, *_):
        self.lock.release()


@needs_fork
def test_a_stop_that_leaves_a_lock_behind_is_a_stop():
    """`Condition.wait` releases its lock before it can promise to take it again; a signal in
    between lets the end of the block release it a second time, and that error covers the stop."""
    condition = threading.Condition(StoppedLock())
    with pytest.raises(RuntimeError) as met, on_stop_signal(cli._stop_once()), condition:
        condition.wait()
    assert terminal.explain(met.value) == (128 + signal.SIGTERM, 'stopped by SIGTERM')


STOPPED_POOL = """
import os, signal, time
from concurrent.futures import Future, ThreadPoolExecutor
from uar_nb.apps import cli
from uar_nb.core import gather, on_stop_signal
from uar_nb.show.terminal import end_process

done = Future.done

def stopped_inside(future):
    future._condition.acquire()
    os.kill(os.getpid(), signal.SIGTERM)
    future._condition.release()
    return done(future)

def run():
    Future.done = stopped_inside
    with on_stop_signal(cli._stop_once()), ThreadPoolExecutor(2) as pool:
        gather(pool, time.sleep, [0.05] * 100)

end_process(run)
"""


@needs_fork
def test_a_stop_while_a_lock_of_a_pool_is_held():
    "An error from there would leave it locked: the workers, and so the program, would never end."
    done = subprocess.run(
        [sys.executable, '-c', STOPPED_POOL],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        timeout=60,
        text=True,
    )
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, 'stopped by SIGTERM\n')


@needs_fork
def test_a_user_who_asks_again_means_it(monkeypatch):
    "A second signal within a second belongs to the first; a later one stops what hangs."
    now = iter([100, 100.9, 101.5, 103])
    monkeypatch.setattr(cli.time, 'monotonic', lambda: next(now))
    with on_stop_signal(cli._stop_once()):
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGINT)


@needs_fork
def test_a_signal_before_the_command_begins(monkeypatch):
    "While typer reads the arguments: it ends with 130 and no word, whichever signal it was."
    monkeypatch.setattr(
        'typer.core.TyperGroup.make_context', lambda *_, **__: signal.raise_signal(signal.SIGTERM)
    )
    with pytest.raises(Stopped) as met:
        cli.run_command(['audit', 'set'])
    assert terminal.explain(met.value) == (128 + signal.SIGTERM, 'stopped by SIGTERM')


def test_what_is_told_after_a_stop():
    "A file that could not be written is told also then; a fault without a stop stays a fault."
    for error, status in [
        (RuntimeError('cannot release un-acquired lock'), 130),
        (ImportError('numpy._core failed to import'), 130),
        (OSError(28, 'No space left on device', 'model.safetensors'), 74),
        (MemoryError(), 71),
        (UARError('the picture is cut short'), 2),
    ]:
        assert terminal.explain(error).status != 130
        error.__context__ = KeyboardInterrupt()
        assert terminal.explain(error).status == status


# ---- the streams


@needs_fork
@pytest.mark.parametrize('encoding', ['cp1252', 'ascii', 'latin-1', 'cp437', 'gbk', 'utf-8'])
def test_output_never_fails_on_a_character(encoding, forge, foreign):
    argv = with_folder([part.replace('set', NAME) for part in AUDIT])
    done = forge.run(argv, cwd=foreign, streams={'encoding': encoding})
    assert done.status == 0, done.err
    assert ('→' if encoding == 'utf-8' else '->') in done.out or encoding == 'gbk', done.out
    [page] = [line for line in done.out.splitlines() if line.startswith('page: ')]
    report = json.loads((foreign / page[6:]).with_name('audit.json').read_text(encoding='utf-8'))
    assert report['source'] == NAME  # files are UTF-8 all the same
    done = forge.run(['audit', 'Zoë → 肺', '-q'], cwd=foreign, streams={'encoding': encoding})
    assert done.status == 2 and done.err.count('\n') == 1 and 'check the path' in done.err


@needs_fork
@pytest.mark.parametrize('encoding', ['cp1252', 'ascii', 'utf-8'])
def test_printed_json_is_the_same_in_every_terminal(encoding, forge, foreign):
    argv = with_folder([part.replace('set', NAME) for part in [*AUDIT, '--json']])
    done = forge.run(argv, cwd=foreign, streams={'encoding': encoding})
    assert done.status == 0 and done.out.isascii()
    assert json.loads(done.out)['source'] == NAME


def test_every_sign_that_the_package_prints_has_a_spelling():
    "Whatever stands in a text of the package is told by signs or letters, not by its number."
    signs = set()
    for path in (ROOT / 'uar_nb').rglob('*.py'):
        if path.parent.name in ('data', 'phantom'):
            continue  # their tables of letters and signs are read, not printed
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                is_prose = re.search('[a-z] |^.$', node.value) and '[' not in node.value
                signs |= {sign for sign in node.value if is_prose and not sign.isascii()}
    signs = {sign for sign in signs if not '\ud800' <= sign <= '\udfff'}
    assert len(signs) > 10
    assert {sign for sign in signs if '\\' in terminal.spell(sign)} == set()


@needs_fork
@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs /dev/full')
@pytest.mark.parametrize('argv', [AUDIT, ['--help'], ['--version'], ['audit', '--help']])
def test_output_to_a_full_disk(argv, forge, home):
    done = forge.run(with_folder(argv), cwd=home, streams={'out': '/dev/full'})
    assert done.status == 74 and done.err.count('\n') == 1, done.err
    assert 'No space left' in done.err and 'free space' in done.err


@needs_fork
@pytest.mark.parametrize('argv', [AUDIT, [*AUDIT, '--json'], ['--help'], ['audit', '--help']])
def test_the_reader_of_a_pipe_goes_away(argv, forge, home):
    done = forge.run(with_folder(argv), cwd=home, streams={'out': 'gone'})
    assert (done.status, done.err) == (141, '')
    both = forge.run(with_folder(argv), cwd=home, streams={'out': 'gone', 'err': 'gone'})
    assert both.status == 141


@needs_fork
@pytest.mark.parametrize('wrong', ['gone', '/dev/full'])
def test_a_line_that_cannot_be_told_changes_no_status(wrong, forge, home):
    done = forge.run(['audit', 'nowhere'], cwd=home, streams={'err': wrong})
    assert done.status == 2


@pytest.mark.skipif(os.name == 'nt', reason='closes files by their number')
@pytest.mark.parametrize('closed', ['>&-', '2>&-', '>&- 2>&-', '<&-'])
def test_without_standard_output_or_error(closed, home):
    command = f'{sys.executable} -m uar_nb audit set --out "$OUT" {closed} --no-images'
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OUT': with_folder(['OUT'])[0]}
    done = subprocess.run(
        ['sh', '-c', f'{command} --no-baselines'], cwd=home, env=env, capture_output=True
    )
    assert done.returncode == 0 and b'Traceback' not in done.stderr
    assert (home / env['OUT'] / 'index.html').is_file()


@pytest.mark.skipif(os.name == 'nt', reason='sends a signal')
@pytest.mark.parametrize('library', ['_pydantic_core', 'libtorch'])
def test_ctrl_c_while_the_program_is_still_loading(library, home):
    "A second or two pass before a command does anything: first the commands load, then torch."
    program = subprocess.Popen(
        [sys.executable, '-m', 'uar_nb', 'audit', 'set'],
        cwd=home,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        encoding='utf-8',
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    modules = Path(f'/proc/{program.pid}/maps')
    until = time.time() + 30  # a module is on its way once its libraries are mapped
    while modules.exists() and library not in modules.read_text('utf-8') and time.time() < until:
        time.sleep(0.005)
    program.send_signal(signal.SIGINT)
    _, said = program.communicate(timeout=60)
    # a command that runs names the signal; nobody knows it yet while the commands themselves load
    assert program.returncode == 130 and said in ('stopped\n', 'stopped by SIGINT\n')


@pytest.mark.skipif(os.name == 'nt', reason='sends a signal to a group')
@pytest.mark.parametrize('begun', [False, True], ids=['while they load', 'while they draw'])
def test_ctrl_c_reaches_workers_too_and_is_told_once(begun, tmp_path):
    "A terminal sends it to every process; the workers leave the answer to the first."
    program = subprocess.Popen(
        [sys.executable, '-m', 'uar_nb', 'demo', '--plan', 'quick', '--out', 'out'],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    said, far_enough = b'', rb'[ |][1-9]\d*/5000' if begun else rb'0/5000'
    while not re.search(far_enough, said):
        more = os.read(program.stderr.fileno(), 4096)  # the bar says how far they are
        assert more, said.decode()  # the program has ended
        said += more
    time.sleep(0 if begun else 0.5)
    os.killpg(program.pid, signal.SIGINT)
    said += program.communicate(timeout=120)[1]
    assert program.returncode == 130 and b'Traceback' not in said, said[-2000:]
    assert said.endswith(b'stopped by SIGINT\n')
    assert not (tmp_path / 'out' / 'checkpoint').exists()


# ---- files


@needs_fork
def test_a_file_name_that_is_no_utf_8(forge, home, tmp_path):
    "As old Linux disks have them: it is read, listed, and written into every file."
    import shutil

    name = os.fsdecode(b'r\xf6ntgen.png')
    (tmp_path / 'mine').mkdir()
    shutil.copy(next((home / 'set' / 'images').rglob('0.png')), tmp_path / 'mine' / name)
    done = forge.run(['audit', 'mine', '--out', 'audit'], cwd=tmp_path)
    assert done.status == 0, done.err
    assert json.loads((tmp_path / 'audit' / 'audit.json').read_text(encoding='utf-8'))
    (tmp_path / 'mine' / name).write_bytes(b'no image')
    done = forge.run(['audit', 'mine', '--out', 'again', '--strict'], cwd=tmp_path)
    assert done.status in (1, 2) and 'r\\xf6ntgen.png' in done.out + done.err, done.err


def opened_without_encoding(text):
    "Lines of Python that open a text without saying its encoding."
    lines = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, 'id', getattr(node.func, 'attr', ''))
        value = getattr(node.func, 'value', None)
        owner = getattr(value, 'id', '')
        of_super = getattr(getattr(value, 'func', None), 'id', '') == 'super'
        if owner == 'self' or of_super:  # a method of that name
            continue
        given = [keyword.arg for keyword in node.keywords]
        texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
        if name in ('read_text', 'write_text'):
            found = len(node.args) <= (name == 'write_text')
        elif name in ('open', 'fdopen') and owner not in (
            'Image',
            'os',
            'tarfile',
            'gzip',
            'zipfile',
        ):
            has_mode = [t for t in texts if isinstance(t, str) and re.fullmatch('[rwax+bt]+', t)]
            found = not any('b' in mode for mode in has_mode)
        elif name in ('run', 'Popen', 'check_output') and owner == 'subprocess':
            found = {'text', 'universal_newlines'} & set(given)
        else:
            found = False
        if found and 'encoding' not in given:
            lines.append(node.lineno)
    return lines


def test_every_text_of_the_package_is_utf_8():
    "Whoever opens a text says so; Windows would take its own encoding otherwise."
    planted = "open('a')\nopen('a', 'rb')\np.read_text()\np.read_text('utf-8')\np.open('w')\n"
    assert opened_without_encoding(planted) == [1, 3, 5]
    allowed = {'apps/download.py', 'data/iu_xray.py', 'apps/explorers.py'}  # archives, a widget
    for path in sorted((ROOT / 'uar_nb').rglob('*.py')):
        found = opened_without_encoding(path.read_text(encoding='utf-8'))
        name = path.relative_to(ROOT / 'uar_nb').as_posix()
        assert not found or name in allowed, (name, found)


# ---- what a user may type

BASE = {  # arguments with which each command comes as far as reading what it was given, and ends
    'phantom': ['1', 'OUT', '-q'],
    'iu-phantom': ['file', 'OUT'],
    'real-text': ['file', '--plan', 'toy', '--out', 'OUT'],
    'download iu-xray': ['OUT', '--url', 'http://127.0.0.1:9/', '--tries', '1'],
    'download dalle-dvae': ['OUT', '--url', 'http://127.0.0.1:9/', '--tries', '1'],
    'audit': AUDIT[1:],
    'dvae': ['nowhere', '--out', 'OUT'],
    'tokenize': ['set', '--dvae', 'nowhere', '--out', 'OUT'],
    'train': ['set', '--preset', 'phantom', '--dvae', 'nowhere', '--out', 'OUT'],
    'generate': ['nowhere.png', '--checkpoint', 'phantom-small'],
    'evaluate': ['set', '--checkpoint', 'phantom-small', '--split', 'val'],
    'looks': ['phantom-small', 'set', '--split', 'val'],
    'export': ['nowhere', '--for', 'radeval', '--out', 'OUT'],
    'compare': ['nowhere', 'file', '--draws', '100'],
    'course': ['cra', '--out', 'OUT'],
    'table': ['1', '--on', 'nowhere', '--out', 'OUT'],
    'demo': ['--plan', 'nowhere', '--out', 'OUT'],
    'ablation': ['--plan', 'nowhere', '--out', 'OUT'],
    'refine': ['set', '--plan', 'nowhere', '--out', 'OUT'],
}
LONG_NAME = 'a.png,' * 50  # longer than a name of a file may be
NONSENSE = {
    'integer': ['many', '-1', '1e400'],
    'float': ['many', '-1', 'nan'],
    'path': ['file/x', LONG_NAME, os.fsdecode(b'r\xf6ntgen')],
    'text': ['nonsense', 'Zoë → 肺\n'],
}


def all_commands(group, above=''):
    for name, command in group.commands.items():
        if hasattr(command, 'commands'):
            yield from all_commands(command, f'{above}{name} ')
        else:
            yield f'{above}{name}', command


def kind_of(parameter):
    return {int: 'integer', float: 'float', Path: 'path'}.get(parameter.bare_type(), 'text')


def commands():
    import typer

    from uar_nb.apps.cli import app

    return dict(all_commands(typer.main.get_command(app)))


def wrong_lines(name, command):
    "Command lines with one thing wrong, or strange, each."
    base = BASE[name]
    for parameter in command.params:
        values = NONSENSE.get(kind_of(parameter), NONSENSE['text'])
        if parameter.param_type_name == 'argument':
            place = [p for p in command.params if p.param_type_name == 'argument'].index(parameter)
            for value in ['', *values]:
                yield [*base[:place], value, *base[place + 1 :]]
            continue
        option = parameter.opts[0]
        if option in ('--help', '--quiet'):
            continue
        if parameter.is_flag:
            yield [*base, option, option]
            yield [*base, f'{option}=perhaps']
            continue
        yield [*base, option]  # without its value
        yield [*base, option, '']
        yield [*base, f'{option}=']
        for value in values:
            yield [*base, option, value]
        yield [*base, option, values[0], option, values[1]]
    yield [*base, 'surplus', 'surplus']
    yield [*base, '--nonsense']
    if any(parameter.required for parameter in command.params):
        yield []  # the others would begin


def run_all(forge, lines, home, **kwargs):
    "Several commands, a few at a time: (command line, how it ended) each."
    for start in range(0, len(lines), 4):
        some = [with_folder(line) for line in lines[start : start + 4]]
        begun = [forge.start(line, cwd=home, **kwargs) for line in some]
        yield from [
            (line, forge.finish(one, timeout=60)) for line, one in zip(some, begun, strict=True)
        ]


@needs_fork
@pytest.mark.parametrize('name', BASE)
def test_no_command_line_ends_in_a_trace(name, forge, home, tmp_path):
    "Each parameter of each command: missing, empty, twice, of a wrong kind, no file, no UTF-8."
    for path in ('set', 'file'):  # a folder of its own: what one command writes is another's data
        (tmp_path / path).symlink_to(home / path)
    env = {'HF_HUB_OFFLINE': '1', 'NO_PROXY': '127.0.0.1', 'PATH': '/nowhere'}
    lines = [[*name.split(), *line] for line in wrong_lines(name, commands()[name])]
    assert len(lines) > 10
    for line, done in run_all(forge, lines, tmp_path, env=env):
        assert done.status in (0, 2, 74), (line, done.err)
        assert 'Traceback' not in done.err and done.err.count('error: ') <= 1, (line, done.err)
        if any(not part.strip() or part.endswith('=') for part in line):
            assert done.status == 2, (line, done.err)


def test_every_command_is_tried():
    assert set(BASE) == set(commands())


LOADED = ('audit', 'tokenize', 'train', 'evaluate', 'looks')


def test_the_commands_that_take_loading_options():
    found = [n for n, c in commands().items() if any(p.name == 'load' for p in c.params)]
    assert sorted(found) == sorted(LOADED)


@needs_fork
@pytest.mark.parametrize('name', LOADED)
def test_every_loading_option_of_every_command(name, forge, home):
    "Values that fit, and values that do not: what the reader says, never a TypeError."
    from uar_nb.apps.cli import LOADING_OPTIONS

    values = ['nonsense', '7', '-1', 'True', 'exists']
    lines = [[*BASE[name], '--load', f'{option}={v}'] for option in LOADING_OPTIONS for v in values]
    lines += [[*BASE[name], '--load', wrong] for wrong in ('', '=', 'split', '=7', 'colour=red')]
    lines.append([*BASE[name], '--load', 'split=7', '--load', 'split=8'])
    ended = run_all(forge, [[name, *line] for line in lines], home)
    for line, done in ended:
        assert done.status in (0, 2) and 'Traceback' not in done.err, (line, done.err)
        assert done.err.count('error: ') == (done.status == 2), (line, done.err)


@needs_fork
@pytest.mark.parametrize('images', [True, False])
@pytest.mark.parametrize('check, found', [('False', 0), ('exists', 1), ('True', 1)])
def test_audit_checks_as_it_is_told(check, found, images, forge, home, tmp_path):
    "`--load check=exists` finds missing images where they are not examined; each is told once."
    import shutil

    shutil.copytree(home / 'set', tmp_path / 'set')
    next((tmp_path / 'set' / 'images').rglob('1.png')).unlink()
    argv = ['audit', 'set', '--no-baselines', '--json', '--load', f'check={check}']
    done = forge.run([*argv, *([] if images else ['--no-images'])], cwd=tmp_path)
    assert done.status == 0, done.err
    assert json.loads(done.out)['faults']['count'] == max(found, images)


@needs_fork
def test_an_unset_variable_of_the_shell_is_no_folder(forge, home):
    "An empty argument means neither to examine the current folder nor to write into it."
    before = sorted(home.iterdir())
    for line in (['audit', ''], ['train', 'set', '--out', ''], ['phantom', '1', ' ']):
        done = forge.run(line, cwd=home)
        assert done.status == 2 and 'variable of the shell' in done.err
    assert sorted(home.iterdir()) == before


@needs_fork
@pytest.mark.parametrize('out', ['.', '..', 'set/..'])
def test_the_folder_where_one_stands_is_not_replaced(out, forge, home):
    before = sorted(home.rglob('*'))
    done = forge.run(['phantom', 1, out, '-q'], cwd=home)
    assert done.status == 2 and sorted(home.rglob('*')) == before
