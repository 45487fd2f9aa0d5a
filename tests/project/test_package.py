"""What is released: both files that are built, what stands in them, and a user who installs them
by name in an empty folder."""

import configparser
import email
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from pages import ROOT

SETTINGS = configparser.ConfigParser(delimiters=['='], interpolation=None)
SETTINGS.read(ROOT / 'settings.ini', encoding='utf-8')
SETTINGS = SETTINGS['DEFAULT']
VERSION = SETTINGS['version']
ENV = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}


def run(*command, **how):
    "What a command prints; where it fails, its last words."
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=ENV, **how
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "(sdist, wheel): the wheel is built from the unpacked sdist, so that one is complete."
    out = tmp_path_factory.mktemp('dist')
    run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', out, ROOT)
    [sdist], [wheel] = out.glob('*.tar.gz'), out.glob('*.whl')
    return sdist, wheel


@pytest.fixture(scope='module')
def metadata(built):
    "The METADATA of the wheel."
    with zipfile.ZipFile(built[1]) as wheel:
        [name] = [name for name in wheel.namelist() if name.endswith('.dist-info/METADATA')]
        return email.message_from_bytes(wheel.read(name))


def targets(markdown):
    "Where the links and images of a text lead, code left out."
    text = re.sub(r'^```.*?^```', '', markdown, flags=re.M | re.S)
    return re.findall(r'\]\(([^)\s]+)\)', text)


def test_links_of_the_built_readme_lead_somewhere(metadata):
    kept = targets((ROOT / 'README.md').read_text(encoding='utf-8'))
    made = targets(metadata.get_payload(decode=True).decode('utf-8'))
    assert len(kept) == len(made) > 30
    github = SETTINGS['git_url']
    pictures = github.replace('//github.com', '//raw.githubusercontent.com')
    for before, after in zip(kept, made, strict=True):
        path = before.partition('#')[0]
        if before == after:
            assert re.match('https?:|#', after), f'{after} leads nowhere on a package index'
            continue
        assert (ROOT / path).exists(), f'README.md leads to {path}, which is not there'
        kind = 'tree' if (ROOT / path).is_dir() else 'blob'
        where = f'{pictures}/main' if path.endswith('.png') else f'{github}/{kind}/main'
        assert after == f'{where}/{before}'
    assert sum(before != after for before, after in zip(kept, made, strict=True)) > 20


def test_python_and_systems_are_those_that_are_tested(metadata):
    "README, classifiers, the Makefile and the workflow claim the same."
    classifiers = metadata.get_all('Classifier')
    pythons = [line.split(' :: ')[-1] for line in classifiers if ':: Python ::' in line]
    workflow = yaml.safe_load((ROOT / '.github/workflows/test.yml').read_text(encoding='utf-8'))
    matrix = workflow['jobs']['test']['strategy']['matrix']
    assert matrix['python'] == pythons and matrix['system'] == ['ubuntu-latest']
    others = {row['system'] for row in matrix['include']}
    assert others == {'macos-latest', 'windows-latest'}
    systems = [line.split(' :: ')[-1] for line in classifiers if 'Operating System' in line]
    assert systems == ['Linux', 'MacOS', 'Windows']
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    assert f'Python {pythons[0]} to {pythons[-1]}, on Linux, macOS or Windows' in readme
    make = (ROOT / 'Makefile').read_text(encoding='utf-8')
    assert f'uar_nb needs Python {pythons[0]} to {pythons[-1]}' in make
    assert metadata['Requires-Python'] == f'>={pythons[0]}' == f'>={SETTINGS["min_python"]}'


def test_the_wheel_has_what_the_package_needs(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
    here = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'uar_nb').rglob('*.*')}
    assert {name for name in here if '__pycache__' not in name and '.tmp-' not in name} == {
        name for name in names if name.startswith('uar_nb/')
    }
    assert 'uar_nb/py.typed' in names and any(name.endswith('/LICENSE') for name in names)


def members(sdist):
    "The files of an sdist, without its top folder."
    with tarfile.open(sdist) as tar:
        return {member.name.partition('/')[2] for member in tar if member.isfile()}


def test_the_sdist_has_every_file_of_the_repository(built):
    made = {'PKG-INFO', 'setup.cfg'}
    there = {name for name in members(built[0]) if '.egg-info/' not in name} - made
    for name in 'CITATION.cff CHANGELOG.md Makefile constraints.txt tests/wheel_user.py'.split():
        assert name in there
    if not (ROOT / '.git').exists():
        pytest.skip('no clone: nothing tells which files belong to the repository')
    tracked = run('git', 'ls-files', '--cached', '--others', '--exclude-standard', cwd=ROOT)
    assert there == set(tracked.splitlines())


def test_the_citation_is_of_this_version():
    cite = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
    assert {'cff-version', 'message', 'title', 'authors'} <= set(cite)  # required by its schema
    assert (str(cite['version']), cite['license']) == (VERSION, 'Apache-2.0')
    assert cite['repository-code'] == SETTINGS['git_url']
    paper = cite['preferred-citation']
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    [authors] = re.findall(r'author += \{(.*)\}', readme)
    names = [f'{one["family-names"]}, {one["given-names"]}' for one in paper['authors']]
    assert f'title     = {{{paper["title"]}}}' in readme and ' and '.join(names) == authors
    assert f'year      = {{{paper["year"]}}}' in readme


def test_the_changes_begin_with_this_version():
    text = (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8')
    assert re.search(r'^## (\S+)', text, re.M)[1].rstrip(',') == VERSION
    first = re.split(r'^## ', text, flags=re.M)[1]
    assert '### New' in first and '### Broken, and what to do' in first
    assert all((ROOT / path).exists() for path in targets(text))


# ---- a user installs it


def environment(folder, *installed, shared):
    "A Python of its own with some packages; with `shared` it also sees those of this one."
    venv.create(folder, with_pip=True)
    python = folder / ('Scripts' if os.name == 'nt' else 'bin') / 'python'
    run(python, '-m', 'pip', 'install', '--quiet', *installed)
    if shared:  # afterwards: where the package itself is among them, pip would find it installed
        import torch

        site = next(folder.rglob('site-packages'))
        (site / 'shared.pth').write_text(str(Path(torch.__file__).parents[1]) + '\n')
    return python


def index_of(folder, *files):
    "A package index of files: a page that lists projects, and one a project."
    project = folder / 'uar-nb'
    project.mkdir(parents=True)
    for file in files:
        (project / file.name).write_bytes(file.read_bytes())
    links = ''.join(f'<a href="{file.name}">{file.name}</a>' for file in files)
    (project / 'index.html').write_text(f'<!DOCTYPE html><html><body>{links}</body></html>')
    return folder.as_uri()


def test_installed_by_name_it_writes_a_report(built, tmp_path):
    """The wheel, installed by its name in an empty folder, without its tests or notebooks, trains
    a toy model and writes a report from an image."""
    index = index_of(tmp_path / 'index', *built)
    by_name = ['--no-deps', '--index-url', index, 'uar_nb']
    python = environment(tmp_path / 'env', *by_name, shared=True)
    empty = tmp_path / 'empty'
    empty.mkdir()
    shown = run(python, ROOT / 'tests' / 'wheel_user.py', empty, cwd=empty)
    assert str(tmp_path / 'env') in shown.splitlines()[0], shown
    assert Path(run(python, '-c', 'import uar_nb; print(uar_nb.__file__)', cwd=empty)).parts
    told = run(python, '-m', 'pip', 'show', '--files', 'uar_nb', cwd=empty)
    assert f'Version: {VERSION}' in told and 'py.typed' in told


def quick_start(readme):
    "The commands of README.md that write a report, as a list of arguments each."
    [block] = re.findall(r'## A report in a minute.*?```sh\n(.*?)```', readme, re.S)
    lines = [line.partition('#')[0].split() for line in block.splitlines()]
    return [line for line in lines if line and line[0] == 'uar']


def follow_quick_start(python, folder):
    "Run the README's commands and the demo at toy size; returns what they print."
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    commands = quick_start(readme) + [['uar', 'demo', '--plan', 'toy', '--out', 'demo', '--quiet']]
    assert [command[1] for command in commands] == ['phantom', 'generate', 'demo']
    shown = [run(python, '-m', 'uar_nb', *command[1:], cwd=folder) for command in commands]
    assert 'Not a medical device' in shown[1] and any((folder / 'maps').iterdir())
    assert (folder / 'demo' / 'index.html').is_file()
    return shown
