"""Each exercise keeps what it promises: the starter and whatever raises fail, the solution passes,
typical mistakes are named, and nothing but the right numbers helps."""

import ast
import copy
import subprocess
import sys

import numpy as np
import pytest
import torch

import pages
from pages import ROOT
from uar_nb.check import BANK, CHAPTERS, check, exercises
from uar_nb.core import UARError
from uar_nb.exercises.exercise import function_of, judge, judge_source, prove, written_slip

IDS = list(BANK)
FILES = [
    p for p in sorted((ROOT / 'uar_nb/exercises').glob('*.py')) if 'EXERCISES = (' in p.read_text()
]


def with_body(exercise, body):
    "An answer with another body"
    return exercise.split()[0] + f'\n    {body}\n'


@pytest.mark.parametrize('id', IDS)
def test_the_solution_passes_and_mistakes_are_named(id):
    prove(BANK[id], seeds=range(8))


@pytest.mark.parametrize('id', IDS)
@pytest.mark.parametrize(
    'body',
    [
        'raise NotImplementedError',
        'raise ValueError("no")',
        'raise SystemExit(0)',
        'assert False',
        'pass',
        'return True',
        'return 1 / 0',
    ],
)
def test_what_is_no_answer_fails(id, body):
    verdict = judge_source(BANK[id], with_body(BANK[id], body))
    assert not verdict and verdict.message.startswith(f'{id}: not yet.')


@pytest.mark.parametrize('id', IDS)
def test_answers_of_earlier_inputs_do_not_pass(id):
    "Whoever has seen the right numbers of one call has nothing for the next one."
    exercise = BANK[id]
    right = function_of(exercise, exercise.solution)
    seen = [right(*args) for args in exercise.cases(np.random.default_rng(0))]

    def learned():
        answers = iter(copy.deepcopy(seen))
        return lambda *args: next(answers, None)

    first = judge(exercise, learned(), seed=0)  # right until it is asked once more
    assert not first
    assert not any(judge(exercise, learned(), seed=seed) for seed in range(1, 20))
    assert not any(judge(exercise, learned()) for _ in range(5))


@pytest.mark.parametrize('id', IDS)
def test_an_answer_that_changes_its_inputs_is_told_so(id):
    exercise = BANK[id]
    right = function_of(exercise, exercise.solution)

    def careless(*args):
        answer = copy.deepcopy(right(*args))
        for value in args:
            if isinstance(value, torch.Tensor):
                value.fill_(0)
            if isinstance(value, (list, dict)):
                value.clear()
        return answer

    args = next(iter(exercise.cases(np.random.default_rng(0))))
    verdict = judge(exercise, careless)
    if any(isinstance(value, (torch.Tensor, list, dict)) for value in args):
        assert not verdict and 'in place' in verdict.message
    else:
        assert verdict


@pytest.mark.parametrize('id', IDS)
def test_an_answer_may_print_warn_and_draw(id, capfd):
    exercise = BANK[id]
    right = function_of(exercise, exercise.solution)

    def loud(*args):
        import warnings

        print('loud', flush=True)
        print('loud', file=sys.stderr)
        warnings.warn('loud', stacklevel=1)
        torch.manual_seed(3)
        np.random.seed(3)
        return right(*args)

    state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    assert judge(exercise, loud)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()
    assert capfd.readouterr() == ('', '')


@pytest.mark.parametrize('id', [id for id in IDS if BANK[id].gradient is not None])
def test_an_answer_without_gradient_is_told_so(id):
    exercise = BANK[id]
    right = function_of(exercise, exercise.solution)

    def cut(*args):
        answer = right(*args)
        return tuple(a.detach() for a in answer) if isinstance(answer, tuple) else answer.detach()

    assert 'no gradient' in judge(exercise, cut).message


@pytest.mark.parametrize('id', IDS)
def test_an_answer_of_the_wrong_kind_is_told_so(id):
    exercise = BANK[id]
    right = function_of(exercise, exercise.solution)

    def silent(*args):
        right(*args)

    assert 'return is missing' in judge(exercise, silent).message
    assert 'The answer is' in judge(exercise, lambda *args: object()).message
    assert 'TypeError' in judge(exercise, lambda: None).message


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_no_check_imports_a_solution(file):
    """The bank computes the right answers itself: it imports PyTorch, NumPy and what an exercise
    is, no part of the package that could be the answer, and runs no text."""
    tree = ast.parse(file.read_text(encoding='utf-8'))
    modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    plain = {
        a.name.split('.')[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names
    }
    library = set(sys.stdlib_module_names) | {'numpy', 'torch'}
    assert plain <= library and {m for m in modules if m.split('.')[0] not in library} == {
        'exercise'
    }
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    names |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
    forbidden = 'exec eval compile solution function_of judge import_module __import__ globals'
    assert not names & set(forbidden.split())


def test_the_search_for_imports_finds_one():
    "The test above would see a truth that runs the solution."
    planted = 'from .exercise import function_of\ndef _truth(x): return exec(FUSE.solution)'
    names = {n.id for n in ast.walk(ast.parse(planted)) if isinstance(n, ast.Name)}
    assert 'exec' in names


def test_every_chapter_has_its_exercises():
    assert list(dict.fromkeys(e.chapter for e in exercises())) == [
        chapter for chapter in CHAPTERS if exercises(chapter)
    ]
    for chapter in CHAPTERS:
        found = [e.id for e in exercises(chapter)]
        assert found == [f'{chapter}.{i}' for i in range(1, len(found) + 1)]
        assert len(found) >= 5 or not found


@pytest.mark.parametrize('id', IDS)
def test_an_exercise_is_complete(id):
    exercise = BANK[id]
    assert 1 <= exercise.difficulty <= 3 and 1 <= exercise.minutes <= 45
    assert len(exercise.hints) >= 2 and len(exercise.slips) >= 2
    assert len({slip.says for slip in exercise.slips}) == len(exercise.slips)
    assert f'{exercise.lesson}' in [*pages.page_ids(), '00_the_task']
    assert exercise.text.strip() and exercise.function.body[0].value.value  # a docstring
    assert exercise.solution.count('\ndef ') == 1  # nothing but imports stands above it
    answers = {written_slip(exercise, slip) for slip in exercise.slips}
    assert len(answers) == len(exercise.slips) and exercise.solution not in answers


def test_solutions_and_starters_are_formatted(tmp_path):
    for id, exercise in BANK.items():
        solution = exercise.solution.strip('\n') + '\n'
        (tmp_path / f'{id}.py').write_text(solution)
        (tmp_path / f'{id}.starter.py').write_text(exercise.starter)
    config = ['--config', str(ROOT / 'pyproject.toml')]
    done = subprocess.run(
        [sys.executable, '-m', 'ruff', 'format', '--check', '--diff', *config, str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_unknown_id_is_an_error():
    for ask in (check.hint, check.solution, check.statement):
        with pytest.raises(UARError, match='no exercise'):
            ask('nothing.1')
    for wrong in (lambda: check('nothing.1', len), lambda: check.grade('nothing.1', '')):
        with pytest.raises(UARError, match='no exercise'):
            wrong()
