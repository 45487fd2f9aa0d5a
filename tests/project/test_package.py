"""What is released: both files that are built, what stands in them, and a user who installs them
by name in an empty folder."""

import configparser
import email
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from installed import ENV, build, environment, run, see_packages_of_this_python
from pages import ROOT

SETTINGS = configparser.ConfigParser(delimiters=['='], interpolation=None)
SETTINGS.read(ROOT / 'settings.ini', encoding='utf-8')
SETTINGS = SETTINGS['DEFAULT']
VERSION = SETTINGS['version']


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "(sdist, wheel) of the repository."
    return build(tmp_path_factory.mktemp('dist'))


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
    index, empty = index_of(tmp_path / 'index', *built), tmp_path / 'empty'
    empty.mkdir()
    python = environment(tmp_path / 'env')
    pip = [python, '-m', 'pip']
    run(*pip, 'install', '--quiet', '--no-deps', '--index-url', index, 'uar_nb', cwd=empty)
    # now and not before: where the package itself is among them, pip would find it installed
    see_packages_of_this_python(tmp_path / 'env')
    shown = run(python, ROOT / 'tests' / 'wheel_user.py', empty, cwd=empty)
    assert str(tmp_path / 'env') in shown.splitlines()[0], shown
    told = run(*pip, 'show', '--files', 'uar_nb', cwd=empty)
    assert f'Version: {VERSION}' in told and 'py.typed' in told


def unpacked(sdist, folder):
    "The folder of an unpacked sdist."
    with tarfile.open(sdist) as tar:
        tar.extraction_filter = getattr(tarfile, 'data_filter', None)
        tar.extractall(folder)
    [made] = folder.iterdir()
    return made


# Of what others rely on: the package, its pages, the imports and the release itself
OF_THE_SDIST = """
    tests/test_core.py tests/test_face.py tests/test_weights.py tests/data/test_text.py
    tests/phantom tests/exercises/test_grading.py tests/project/test_imports.py
    tests/project/test_bounds.py tests/project/test_workflows.py tests/project/test_tiers.py
""".split()


# 4 min: what was released is unpacked and tested where no clone is
@pytest.mark.slow
def test_the_sdist_passes_its_own_tests(built, tmp_path):
    folder = unpacked(built[0], tmp_path / 'sdist')
    where = ENV | {'PYTHONPATH': str(folder)}
    pytest_run = [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider']
    every = subprocess.run(
        [*pytest_run, '--collect-only', 'tests'],
        cwd=folder,
        env=where,
        capture_output=True,
        text=True,
    )
    assert every.returncode == 0 and 'error' not in every.stdout.lower()[-300:], every.stdout[
        -3000:
    ]
    done = subprocess.run(
        [*pytest_run, *OF_THE_SDIST], cwd=folder, env=where, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
    test_a_page = Path(sys.executable).with_name('nbdev_test')
    done = subprocess.run(
        [test_a_page, '--path', 'nbs/04_cra.ipynb', '--n_workers', '0'],
        cwd=folder,
        env=where,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and 'Success' in done.stdout, done.stdout[-2000:] + done.stderr
    assert 'make test' in run('make', cwd=folder)
