"""The fuzzer finds what is planted, and a short run of it finds nothing in the package itself."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent
pytest.importorskip('pydicom')


@pytest.fixture(scope='module')
def fuzz():
    spec = importlib.util.spec_from_file_location('fuzz', ROOT / 'tools/fuzz.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules['fuzz'] = module  # its child processes look for it under this name
    sys.path.insert(0, str(ROOT / 'tools'))
    spec.loader.exec_module(module)
    return module


def test_damage_is_repeatable_and_never_the_file_itself(fuzz):
    content = b'{"a": [1, 2, {"b": "text"}], "c": null}'
    for change in (fuzz.change_bytes, fuzz.change_text, fuzz.change_json, fuzz.change_json_line):
        made = [fuzz.damage(content, change, seed) for seed in range(200)]
        assert made == [fuzz.damage(content, change, seed) for seed in range(200)]
        assert content not in made
        assert len(set(made)) > 100


def test_sums_of_damaged_png_fit_again(fuzz):
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.fromarray(np.arange(2500, dtype=np.uint8).reshape(50, 50)).save(file, 'PNG')
    read = 0
    for seed in range(200):
        try:
            Image.open(BytesIO(fuzz.damage(file.getvalue(), fuzz.change_png, seed))).load()
            read += 1
        except Exception:
            pass
    assert read > 10  # with sums that do not fit hardly any would be


def test_a_short_run_finds_nothing(fuzz):
    rows = fuzz.fuzz(500, seed=11, children=1)
    assert len(rows) == len(fuzz.GUARDS)
    assert sum(row.cases for row in rows.values()) == 500
    found = {name: row.findings for name, row in rows.items() if row.findings}
    assert found == {}
    assert all(row.kinds['refused'] or name in ('run log', 'store') for name, row in rows.items())


def test_a_forgotten_guard_is_found_in_every_reader(fuzz):
    rows = fuzz.fuzz(1500, seed=3, children=1, bug='guards')
    blind = [name for name in fuzz.GUARDS if not rows[name].findings]
    assert blind == []
    assert {finding['kind'] for row in rows.values() for finding in row.findings} == {'escaped'}


@pytest.mark.parametrize(('bug', 'kind'), [('abort', 'died'), ('sleep', 'slow'), ('grow', 'large')])
def test_other_accidents_are_found_and_the_rest_goes_on(fuzz, bug, kind):
    rows = fuzz.fuzz(12, seed=0, only=['jpeg'], children=1, bug=bug)
    assert rows['jpeg'].cases == 12
    assert [finding['kind'] for finding in rows['jpeg'].findings] == [kind]
    assert rows['jpeg'].findings[0]['seed'] == 7
