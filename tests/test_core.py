"""The clone and its kept results are found from every folder below it, and their absence is an
error."""

import json
import re

import pytest

from pages import ROOT
from uar_nb.core import UARError, kept_result, repository_root


def make_clone(folder):
    "A folder that looks like a clone: its settings, one kept result, a nested folder of notebooks."
    (folder / 'data' / 'results').mkdir(parents=True)
    (folder / 'nbs' / 'wings' / 'data').mkdir(parents=True)
    (folder / 'settings.ini').write_text('[DEFAULT]\nlib_name = uar_nb\ndescription = 100 % here\n')
    (folder / 'data' / 'results' / 'tir.json').write_text('[]')
    return folder.resolve()


def test_root_is_found_from_nested_folders_and_files(tmp_path, monkeypatch):
    clone = make_clone(tmp_path / 'clone')
    nested = clone / 'nbs' / 'wings' / 'data'
    assert (
        repository_root(clone) == repository_root(nested) == repository_root(str(nested)) == clone
    )
    assert repository_root(clone / 'data' / 'results' / 'tir.json') == clone
    monkeypatch.chdir(nested)
    assert repository_root() == clone
    assert kept_result('tir.json') == clone / 'data' / 'results' / 'tir.json'


def test_another_projects_settings_are_passed_over(tmp_path):
    clone = make_clone(tmp_path / 'clone')
    for name, text in (
        ('other', '[DEFAULT]\nlib_name = other\n'),
        ('broken', 'no section\n'),
        ('empty', ''),
    ):
        (clone / name).mkdir()
        (clone / name / 'settings.ini').write_text(text)
        assert repository_root(clone / name) == clone
    (clone / 'bytes').mkdir()
    (clone / 'bytes' / 'settings.ini').write_bytes(b'\xff\xfe\x00')
    assert repository_root(clone / 'bytes') == clone
    (clone / 'folder' / 'settings.ini').mkdir(parents=True)
    assert repository_root(clone / 'folder') == clone


def test_outside_a_clone_the_remedy_is_named(tmp_path, monkeypatch):
    with pytest.raises(UARError, match='not inside a clone.*clone the repository'):
        repository_root(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UARError, match='not inside a clone'):
        kept_result('tir.json')


def test_a_missing_result_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(make_clone(tmp_path / 'clone'))
    with pytest.raises(
        UARError, match='ladder.json: the repository keeps no such result.*clone the repository'
    ):
        kept_result('ladder.json')


def test_this_clone_is_found():
    assert repository_root(ROOT / 'nbs') == repository_root(__file__) == ROOT


FROM_HERE = re.compile(
    r"""['"]\.\./(data|runs|uar_nb|nbs|tests|tools)\b"""  # '../data/results/...'
    r"""|Path\(\s*(['"]\.{1,2}['"])?\s*\)\.\w*(glob|iterdir)"""  # Path('.').glob(...)
    r"""|Path\(['"]\.\.['"]\)|cwd=['"]\.\."""
)


def test_the_pattern_knows_such_paths():
    for bad in (
        "Path('../data/results/tir.json')",
        "os.environ.get('UAR_RUNS', '../runs')",
        "sorted(Path('.').glob('[0-2]*.ipynb'))",
        "f'../uar_nb/{room}.py'",
        "cwd='..'",
        "cwd=Path('..').resolve()",
    ):
        assert FROM_HERE.search(bad), bad
    assert not FROM_HERE.search("'../secret.png'")  # a path that a reader must refuse


def test_no_page_finds_the_clone_by_its_own_place():
    pages = [p for p in (ROOT / 'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in p.parts]
    assert len(pages) >= 78
    wrong = []
    for page in pages:
        for cell in json.loads(page.read_text(encoding='utf-8'))['cells']:
            found = (
                FROM_HERE.search(''.join(cell['source'])) if cell['cell_type'] == 'code' else None
            )
            if found:
                wrong.append((page.name, found[0]))
    assert not wrong, f'use repository_root or kept_result: {wrong}'
