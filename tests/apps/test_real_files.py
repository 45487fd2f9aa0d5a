"""Real files through `uar audit`, `uar tokenize` and `uar generate`: a sample of the benchmark
that gives them all, and what it has kept."""

import importlib.util
import json
import os
import sys
import warnings
from pathlib import Path

import pytest

from pages import ROOT

DATA = Path(os.environ.get('UAR_DATA', 'UAR_DATA is not set'))
KEPT = ROOT / 'data' / 'results' / 'real_files.json'
pytest.importorskip('pydicom')


@pytest.fixture(scope='module')
def benchmark():
    spec = importlib.util.spec_from_file_location('real_files', ROOT / 'benchmarks/real_files.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules['real_files'] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def no_warning():
    "A warning of Python is one that a user sees: it fails the test."
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        yield


def nothing_is_lost(found):
    "Every file has a report or a reason; what an audit passes over is no image to `generate`."
    generate, audit = found['generate'], found['audit']
    refused = sum(generate['refused'].values())
    assert generate['reports'] + refused == found['files']
    assert all(' — ' in why for why in generate['refused'])  # each with a remedy
    assert found['tokens']['images'] == generate['reports']
    assert all('is not an image in' in why for why in audit['passed_over_as'])
    assert set(audit['faults_of_what_generate_reads']) <= {'image is constant but for a few pixels'}
    assert (audit['passed_over'] > 0) == ('passed over' in audit['notes'])


def views_are_right(found):
    "Every one of them is a frontal image, whether a table, its name or its place says so."
    files = found['files']
    all_frontal = dict(frontal=files, lateral=0, unknown=0)
    for audit in (found['audit'], found['audit_without_table']):
        assert audit['views'] == all_frontal and audit['faults'] == 0
        assert audit['studies'] == files and f'views of {files} images' in audit['notes']
    assert found['generate']['views'] == dict(frontal=files)
    assert found['generate']['refused'] == {}
    assert found['tokens']['images'] == files


def test_a_sample_of_pydicoms_files(benchmark, tmp_path):
    found = benchmark.try_pydicom(tmp_path, limit=12)
    assert found['files'] == 12
    nothing_is_lost(found)


@pytest.mark.skipif(not (DATA / 'frontal').is_dir(), reason='UAR_DATA names no folder frontal/')
def test_a_sample_of_real_frontals(benchmark, tmp_path):
    found = benchmark.try_frontals(DATA / 'frontal', tmp_path, limit=12)
    assert found['files'] == 12
    views_are_right(found)
    assert found['generate']['unlike'] >= 11  # the model was trained on phantoms, and says so


def test_what_was_kept_of_all_of_them():
    kept = json.loads(KEPT.read_text())
    assert kept['pydicom']['files'] > 150 and kept['frontals']['files'] == 360
    nothing_is_lost(kept['pydicom'])
    views_are_right(kept['frontals'])
