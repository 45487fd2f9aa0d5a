"""Two tiers of tests: what is left to the second one says how many minutes it takes, and both
tiers run what they should."""

import re
import subprocess
import sys

import pages
from pages import ROOT

MINUTES = re.compile(r'#.*?\b\d+(\.\d+)? min')


def unmeasured(text):
    "Marks of the second tier in a test file without minutes on their line or the line before."
    lines = text.splitlines()
    marks = [i for i, line in enumerate(lines) if 'pytest.mark.slow' in line]
    return [i + 1 for i in marks if not MINUTES.search('\n'.join(lines[max(0, i - 1) : i + 1]))]


def test_each_slow_test_names_its_minutes():
    files = [path for path in (ROOT / 'tests').rglob('test_*.py') if path.name != 'test_tiers.py']
    assert len(files) >= 20
    wrong = {path.name: unmeasured(path.read_text(encoding='utf-8')) for path in files}
    assert not {name: lines for name, lines in wrong.items() if lines}


def test_a_mark_without_minutes_is_seen():
    good = '@pytest.mark.slow  # 2.5 min\ndef test_a(): pass\n\n# 3 min on two cores\n@pytest.mark.slow\n'  # noqa: E501
    assert unmeasured(good) == []
    assert unmeasured('@pytest.mark.slow\ndef test_a(): pass\n# 3 min\n') == [1]
    assert unmeasured('@pytest.mark.slow  # takes long\n') == [1]


def test_each_slow_cell_names_its_minutes():
    for path in pages.all_pages():
        for cell in pages.cells_of(path):
            source = ''.join(cell['source'])
            if cell['cell_type'] == 'code' and re.search(r'^#\| *slow', source, re.M):
                assert MINUTES.search(source), f'{pages.page_id(path)}: {source[:80]!r}'


def test_pytest_leaves_the_second_tier_out_unless_asked(tmp_path):
    (tmp_path / 'pyproject.toml').write_text((ROOT / 'pyproject.toml').read_text())
    (tmp_path / 'tests').mkdir()
    (tmp_path / 'tests/test_toy.py').write_text(
        'import pytest\ndef test_a(): pass\n@pytest.mark.slow\ndef test_b(): pass\n'
    )

    def collected(*options):
        command = [sys.executable, '-m', 'pytest', 'tests', '--collect-only', '-q', *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        return re.findall(r'::(test_\w)', done.stdout)

    assert collected() == ['test_a']
    make = (ROOT / 'Makefile').read_text(encoding='utf-8')
    [every] = re.findall(r'pytest tests (-m ".*?")', make)
    assert collected('-m', every[4:-1]) == ['test_a', 'test_b']


def test_make_runs_slow_cells_in_the_second_tier_alone():
    make = (ROOT / 'Makefile').read_text(encoding='utf-8')
    short, long = re.findall(r'^\t.*nbdev_test.*$', make, re.M)
    assert '--flags' not in short and long.endswith('--flags slow')
    settings = (ROOT / 'settings.ini').read_text(encoding='utf-8')
    [flags] = re.findall(r'^tst_flags *= *(.*)$', settings, re.M)
    assert 'slow' in flags.split()
    assert 'make test ' in (ROOT / '.ci/run').read_text(encoding='utf-8')
