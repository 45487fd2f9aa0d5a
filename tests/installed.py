"What tests of an installed package share: building it, a Python of its own, and the quick start."

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

from pages import ROOT

ENV = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
# Prints the help of every command, a line with its words before each
HELPS = """
from contextlib import suppress
from uar_nb.apps.cli import app, run_command
def names(group, above=()):
    yield above
    for info in group.registered_commands:
        yield (*above, info.name or info.callback.__name__.replace('_', '-'))
    for info in group.registered_groups:
        yield from names(info.typer_instance, (*above, info.name))
for words in names(app):
    print('##', *words)
    with suppress(SystemExit):
        run_command([*words, '--help'])
"""


def run(*command, **how):
    "What a command prints; where it fails, its last words."
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=ENV, **how
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def build(out):
    "(sdist, wheel): the wheel is built from the unpacked sdist, so that one is complete."
    run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', out, ROOT)
    [sdist], [wheel] = out.glob('*.tar.gz'), out.glob('*.whl')
    return sdist, wheel


def python_of(folder):
    "The interpreter of a virtual environment."
    return folder / ('Scripts' if os.name == 'nt' else 'bin') / 'python'


def see_packages_of_this_python(folder):
    "A virtual environment also sees what is installed here, behind what it has itself."
    import torch

    site = next(folder.rglob('site-packages'))
    (site / 'shared.pth').write_text(str(Path(torch.__file__).parents[1]) + '\n')


def environment(folder, python=None):
    "A new virtual environment of this Python or another one."
    if python is None:
        venv.create(folder, with_pip=True)
    else:
        run(python, '-m', 'venv', folder)
    return python_of(folder)


def quick_start(readme):
    "The commands of README.md that write a report, as a list of arguments each."
    [block] = re.findall(r'## A report in a minute.*?```sh\n(.*?)```', readme, re.S)
    lines = [line.partition('#')[0].split() for line in block.splitlines()]
    return [line for line in lines if line and line[0] == 'uar']


def follow_quick_start(python, folder):
    "Run the README's commands and the demo at toy size, and look at what they leave."
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    commands = quick_start(readme) + [['uar', 'demo', '--plan', 'toy', '--out', 'demo', '--quiet']]
    assert [command[1] for command in commands] == ['phantom', 'generate', 'demo']
    shown = [run(python, '-m', 'uar_nb', *command[1:], cwd=folder) for command in commands]
    assert 'Not a medical device' in shown[1] and any((folder / 'maps').iterdir())
    assert (folder / 'demo' / 'index.html').is_file()
