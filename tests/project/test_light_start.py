"What a user waits for before anything happens: `import uar_nb` and the help of every command."

import os
import subprocess
import sys

import pytest

from installed import HELPS
from pages import ROOT

# Seconds of processor time, of the process as a whole; measured without torch: 0.03 and 0.3
IMPORT, HELP = 0.2, 0.6
ENV = os.environ | {'PYTHONPATH': str(ROOT), 'PYTHONDONTWRITEBYTECODE': ''}
WITHOUT_TORCH = 'import sys; sys.modules["torch"] = None\n'  # whoever imports it now fails


def run(code):
    "What Python prints when it runs some code in a new process."
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, env=ENV, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_importing_the_package_needs_no_torch():
    assert run(WITHOUT_TORCH + 'import uar_nb; print(uar_nb.__version__)').strip()
    with pytest.raises(AssertionError, match='torch'):  # the guard works
        run(WITHOUT_TORCH + 'from uar_nb import UAR')


def test_the_help_of_every_command_needs_no_torch():
    shown = run(WITHOUT_TORCH + HELPS)
    assert shown.count('Usage: uar') == shown.count('##') >= 18
    assert shown == run(HELPS)  # and says the same as with it


def processor_seconds(*command):
    "The least processor time of three runs: other programs on the machine only add to it."
    resource = pytest.importorskip('resource')
    found = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=ROOT, env=ENV, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(found)


def test_help_and_import_take_little_time():
    python = sys.executable
    assert processor_seconds(python, '-c', 'import uar_nb') < IMPORT
    assert processor_seconds(python, '-m', 'uar_nb', '--help') < HELP
