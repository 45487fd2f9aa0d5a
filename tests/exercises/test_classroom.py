"""Both versions of every chapter: the students' has no points, the teacher's all; nothing but the
marked parts differs, and nbgrader, where it is installed, takes them."""

import copy
import re

import pytest

from uar_nb.check import exercises
from uar_nb.exercises.classroom import chapters, class_notebook, score_notebook

CHAPTERS = chapters()


def source(cell):
    return ''.join(cell['source'])


@pytest.fixture(params=CHAPTERS, scope='module')
def both(request):
    "Chapter, teacher's version, students' version"
    chapter = request.param
    return chapter, class_notebook(chapter, teacher=True), class_notebook(chapter, teacher=False)


def test_every_chapter_of_the_course_is_there():
    assert CHAPTERS == list(dict.fromkeys(e.chapter for e in exercises()))
    assert len(CHAPTERS) == 8


def test_the_starter_has_no_points_and_the_solution_all(both):
    chapter, teacher, student = both
    points, most = score_notebook(teacher)
    assert points == most == sum(e.difficulty for e in exercises(chapter)) > 0
    assert score_notebook(student) == (0, most)


def test_one_right_answer_has_its_points_and_no_others(both):
    chapter, _, student = both
    for exercise in exercises(chapter)[:2]:
        book = copy.deepcopy(student)
        name = exercise.id.replace('.', '-')
        [cell] = [one for one in book['cells'] if one['id'] == name]
        cell['source'] = exercise.solution
        assert score_notebook(book)[0] == exercise.difficulty


def test_an_empty_notebook_has_no_points(both):
    "Neither deleted answers nor a `check` of the student's own gives any."
    _, _, student = both
    empty = copy.deepcopy(student)
    cheat = copy.deepcopy(student)
    for one, other in zip(empty['cells'], cheat['cells'], strict=True):
        if one['metadata']['nbgrader']['solution']:
            one['source'] = ''
            other['source'] = source(other) + '\ncheck = lambda *answer: True\n'
    assert score_notebook(empty)[0] == score_notebook(cheat)[0] == 0


def test_only_the_marked_parts_differ(both):
    _, teacher, student = both
    assert len(teacher['cells']) == len(student['cells'])
    for one, other in zip(teacher['cells'], student['cells'], strict=True):
        assert one['metadata'] == other['metadata'] and one['id'] == other['id']
        cut = re.sub(
            r'    ### BEGIN SOLUTION\n.*?    ### END SOLUTION',
            "    raise NotImplementedError('your code here')",
            source(one),
            flags=re.S,
        )
        assert cut == source(other)
        marked = one['metadata']['nbgrader']['solution']
        assert marked == (source(one) != source(other)) == ('BEGIN SOLUTION' in source(one))


def test_metadata_is_what_nbgrader_asks_for(both):
    _, teacher, _ = both
    ids = [cell['metadata']['nbgrader']['grade_id'] for cell in teacher['cells']]
    assert len(ids) == len(set(ids)) and all(re.fullmatch(r'[\w-]+', one) for one in ids)
    for cell in teacher['cells']:
        about = cell['metadata']['nbgrader']
        assert about['schema_version'] == 3 and about['task'] is False
        assert about['grade'] == ('points' in about) and about['locked'] != about['solution']
        assert not (about['grade'] and about['solution'])


def test_nbgrader_takes_them(both):
    pytest.importorskip('nbgrader')
    import nbformat
    from nbgrader.nbgraderformat import ValidationError
    from nbgrader.nbgraderformat.v3 import MetadataValidatorV3

    _, teacher, student = both
    for book in (teacher, student):
        MetadataValidatorV3().validate_nb(nbformat.from_dict(book))
    broken = copy.deepcopy(student)
    del broken['cells'][-1]['metadata']['nbgrader']['grade_id']
    with pytest.raises(ValidationError):
        MetadataValidatorV3().validate_nb(nbformat.from_dict(broken))
