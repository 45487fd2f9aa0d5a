"Answers as text, each in a process of its own that may not run for ever or fill the memory."

import psutil
import pytest

from uar_nb.check import BANK, check, grade

SOURCE = 'def negatives(keys):\n    return keys[:, None] != keys[None, :]\n'


def test_a_right_text_and_a_wrong_one():
    assert grade('cra.7', SOURCE) == (True, 'cra.7: right, in 2 drawn cases.')
    ok, message = check.grade('cra.7', SOURCE.replace('!=', '=='), seed=3)
    assert not ok and 'wrong way round' in message and 'seed=3' in message


@pytest.mark.slow  # 0.5 min: seven processes
@pytest.mark.parametrize(
    'source, seconds, memory_mb, word',
    [
        ('while True: pass', 10, 4096, 'after 10 seconds'),
        ('def negatives(keys):\n    while True: pass', 10, 4096, 'after 10 seconds'),
        ('x = bytearray(3 * 10**9)\nwhile True: pass', 60, 1500, '1500 MB'),
        ('import os\nos._exit(0)', 60, 4096, 'ended without an answer'),
        ('import sys\nsys.exit(0)', 60, 4096, 'SystemExit'),
        ('def negatives(keys):\n    raise SystemExit(0)', 60, 4096, 'SystemExit'),
        (BANK['cra.7'].starter, 60, 4096, 'still the starter'),
    ],
)
def test_what_ends_in_no_answer_is_told(source, seconds, memory_mb, word):
    before = set(psutil.Process().children(recursive=True))
    ok, message = grade('cra.7', source, seconds, memory_mb)
    assert not ok and word in message
    assert set(psutil.Process().children(recursive=True)) <= before  # nothing is left running


@pytest.mark.slow  # 4 min: two processes for each exercise
@pytest.mark.parametrize('id', BANK)
def test_every_solution_passes_as_text_and_its_starter_fails(id):
    assert grade(id, BANK[id].solution)[0]
    ok, message = grade(id, BANK[id].starter)
    assert not ok and 'still the starter' in message
