"""The lowest versions that settings.ini allows, and the newest there are: with both the package
installs by its name, shows the help of every command and follows the README's quick start."""

import configparser
import json
import re
import shutil
import sys

import pytest

import bounds
from installed import HELPS, build, environment, follow_quick_start, run
from pages import ROOT

EXTRAS = ('metrics', 'dicom', 'xlsx', 'dalle', 'lab')
IMPORTS = 'import pycocoevalcap, pydicom, gdcm, openjpeg, openpyxl, attr, jupyterlab, sklearn'


def test_every_requirement_has_a_lower_bound_that_is_a_version():
    found = bounds.lowest()
    assert set(found) >= {'torch', 'numpy', 'typer', 'pydicom', 'attrs'} and len(found) > 20
    assert bounds.as_numbers(found['typer']) >= [0, 15, 4]  # before, --help failed with click 8.2
    assert bounds.EXTRAS == EXTRAS


def test_of_two_bounds_the_higher_one_holds(tmp_path):
    settings = '[DEFAULT]\nrequirements = a>=1.9 b>=2\nx_requirements = a>=1.10 c>=3.0.1\n'
    (tmp_path / 'settings.ini').write_text(settings)
    assert bounds.lowest(['x'], tmp_path) == {'a': '1.10', 'b': '2', 'c': '3.0.1'}
    (tmp_path / 'settings.ini').write_text(settings.replace('b>=2', 'b'))
    with pytest.raises(SystemExit, match='b has no lower bound'):
        bounds.lowest(['x'], tmp_path)


def test_the_tested_versions_lie_within_the_bounds():
    text = (ROOT / 'constraints.txt').read_text(encoding='utf-8')
    tested = dict(re.findall(r'^([\w.-]+)==([\w.]+)$', text, re.M))
    for package, version in bounds.lowest().items():
        if package != 'torch':  # whoever installs it chooses the build
            assert bounds.as_numbers(tested[package]) >= bounds.as_numbers(version), package


def oldest_python():
    "An interpreter of the oldest Python that settings.ini allows: old packages have no builds for others."  # noqa: E501
    settings = configparser.ConfigParser(delimiters=['='], interpolation=None)
    settings.read(ROOT / 'settings.ini', encoding='utf-8')
    oldest = settings['DEFAULT']['min_python']
    if sys.version_info[:2] == tuple(bounds.as_numbers(oldest)):
        return sys.executable
    found = shutil.which(f'python{oldest}')
    return found or pytest.skip(f'no python{oldest} is installed, for which old packages are built')


def check_installed(folder, python, *constraints):
    "Install by name in an empty folder, with all extras of users, and use it."
    dist, empty = folder / 'dist', folder / 'empty'
    dist.mkdir()
    empty.mkdir()
    build(dist)
    python = environment(folder / 'env', python)
    name = f'uar_nb[{",".join(EXTRAS)}]'
    install = [python, '-m', 'pip', 'install', '--quiet', '--find-links', dist, *constraints, name]
    run(*install, cwd=empty)
    run(python, '-m', 'pip', 'check', cwd=empty)
    run(python, '-c', IMPORTS, cwd=empty)
    helps = run(python, '-c', HELPS, cwd=empty)
    assert helps.count('Usage: uar') == helps.count('##') >= 18
    follow_quick_start(python, empty)
    listed = json.loads(run(python, '-m', 'pip', 'list', '--format', 'json', cwd=empty))
    return {one['name'].lower().replace('_', '-'): one['version'] for one in listed}


# 15 min with a fast network: PyTorch is large, twice as large with CUDA
@pytest.mark.slow
def test_the_lowest_versions_follow_the_quick_start(tmp_path):
    wanted = bounds.lowest(EXTRAS)
    lines = ''.join(f'{package}=={version}\n' for package, version in wanted.items())
    (tmp_path / 'lowest.txt').write_text(lines)
    found = check_installed(tmp_path, oldest_python(), '--constraint', tmp_path / 'lowest.txt')
    for package, version in wanted.items():
        numbers = bounds.as_numbers(re.match(r'[\d.]*\d', found[package.replace('_', '-')])[0])
        bound = bounds.as_numbers(version)
        assert numbers[: len(bound)] == bound and not any(numbers[len(bound) :]), package


# 15 min with a fast network
@pytest.mark.slow
def test_the_newest_versions_follow_the_quick_start(tmp_path):
    found = check_installed(tmp_path, None)
    for package, version in bounds.lowest(EXTRAS).items():
        numbers = bounds.as_numbers(re.match(r'[\d.]*\d', found[package.replace('_', '-')])[0])
        assert numbers >= bounds.as_numbers(version), package
