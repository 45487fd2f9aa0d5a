"""What is made of the bank stands in the pages as it stands in the bank; questions have answers
whose code runs."""

import doctest
import json
import math
import re

import numpy as np
import pytest
import torch

import exercises as tool
from pages import NBS, cells_of, page_ids
from uar_nb.check import BANK
from uar_nb.exercises.exercise import Verdict

LESSONS = tool.lesson_pages()
ASKING = [
    page
    for page in page_ids()
    if any(tool.source(cell).startswith(tool.QUESTIONS) for cell in cells_of(NBS / f'{page}.ipynb'))
]


def test_every_exercise_stands_in_its_lesson():
    "The bank names only pages that there are, and each lesson of the chapters has some."
    assert {exercise.lesson for exercise in BANK.values()} == set(LESSONS)
    assert len(LESSONS) == 14


@pytest.mark.parametrize('page', LESSONS)
def test_the_exercises_of_a_lesson_are_those_of_the_bank(page):
    "If this fails: python tools/exercises.py lessons"
    cells = cells_of(NBS / f'{page}.ipynb')
    assert tool.with_exercises(page, cells) == cells
    headings = [i for i, cell in enumerate(cells) if tool.source(cell).startswith('## Try')]
    assert len(headings) == 1
    later = [tool.source(cell) for cell in cells[headings[0] + 1 :]]
    assert not any(re.match(r'## ', text) for text in later)  # it is the last section


@pytest.mark.parametrize('page', LESSONS)
def test_a_starter_cell_says_that_it_waits(page):
    "Run as a learner runs it, unfilled: an answer, no error; nbdev leaves it out."
    cells = [c for c in cells_of(NBS / f'{page}.ipynb') if c['cell_type'] == 'code']
    waiting = [c for c in cells if c['id'].startswith('try-') and c['id'] != 'try-table']
    assert waiting
    for cell in waiting:
        text = tool.source(cell)
        assert text.startswith('#| eval: false\n') and not cell['outputs']
        shown = []
        body, call = text.rsplit('\n', 1)
        names = {'show': shown.append}
        exec(f'from uar_nb.check import check\n{body}\nshow({call})', names)
        assert isinstance(shown[0], Verdict) and 'still the starter' in shown[0].message


@pytest.mark.parametrize('chapter', tool.SOLUTIONS)
def test_a_page_of_solutions_is_that_of_the_bank(chapter):
    "If this fails: python tools/exercises.py solutions, then tools/lessons.py for the page"
    cells = cells_of(NBS / tool.FOLDER / f'{tool.SOLUTIONS[chapter]}.ipynb')
    wanted = tool.solution_cells(chapter)
    assert [(c['id'], tool.source(c)) for c in cells] == [(c['id'], tool.source(c)) for c in wanted]
    checked = [c for c in cells if c['id'].endswith('-check')]
    assert len(checked) >= 5
    assert all(': right, in' in json.dumps(c['outputs']) for c in checked)


# ---- questions


def answers(page):
    "The answers of a page's questions, in order."
    [cell] = [
        cell
        for cell in cells_of(NBS / f'{page}.ipynb')
        if tool.source(cell).startswith(tool.QUESTIONS)
    ]
    text = tool.source(cell)
    found = re.findall(
        r'<details><summary>Answer</summary>\n\n(.*?)\n\n</details>', text, flags=re.S
    )
    assert len(found) == len(re.findall(r'^\d+\. ', text, re.M)) >= 2
    return found


def test_pages_with_exercises_have_questions_with_answers():
    assert set(LESSONS) <= set(ASKING)


@pytest.mark.parametrize('page', ASKING)
def test_an_answer_has_code_that_runs_or_names_a_page(page):
    for text in answers(page):
        assert '>>> ' in text or re.search(r'\]\([^)\s]+\.ipynb', text), text


@pytest.mark.parametrize('page', ASKING)
def test_the_code_of_the_answers_runs(page):
    ran = 0
    for number, text in enumerate(answers(page), 1):
        blocks = re.findall(r'^```python\n(.*?)^```', text, flags=re.S | re.M)
        names = dict(torch=torch, np=np, math=math)
        test = doctest.DocTestParser().get_doctest(
            '\n'.join(blocks), names, f'{page}, answer {number}', None, None
        )
        told = []
        with torch.random.fork_rng():
            failed, tried = doctest.DocTestRunner().run(test, out=told.append)
        assert not failed, ''.join(told)
        ran += tried
    assert ran


def test_a_wrong_answer_would_be_seen():
    test = doctest.DocTestParser().get_doctest('>>> 2 + 2\n5\n', {}, 'planted', None, None)
    assert doctest.DocTestRunner().run(test, out=lambda text: None).failed == 1
