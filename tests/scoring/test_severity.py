"Findings with their severity beside findings without it: counted by hand."

import math

import pytest

from uar_nb.core import UARError
from uar_nb.data.labels import read_findings
from uar_nb.data.study import Finding
from uar_nb.scoring.metrics import (
    OVER_STUDIES,
    findings_counts,
    findings_row,
    findings_scores,
    score_reports,
    score_table,
    severity_counts,
)

# study: what is said, what is true
SAID = [
    [Finding('effusion', 'left', '', 'mild'), Finding('nodule', 'right', 'upper', 'moderate')],
    [Finding('effusion', 'left', '', 'severe')],
    [Finding('line')],
    [],
]
TRUE = [
    [Finding('effusion', 'left', '', 'mild'), Finding('nodule', 'right', 'upper', 'severe')],
    [Finding('effusion', 'right', '', 'severe')],
    [Finding('line')],
    [],
]


def test_severity_is_a_fourth_part_of_a_finding():
    assert findings_counts(SAID, TRUE).tolist() == [[2, 0, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0]]
    graded = severity_counts(SAID, TRUE)
    assert graded.dtype.kind == 'i'
    assert graded.tolist() == [[1, 1, 1], [0, 1, 1], [1, 0, 0], [0, 0, 0]]


def test_both_scores_stand_beside_each_other():
    found = findings_scores(SAID, TRUE)
    assert (found['f1'], found['exact']) == (pytest.approx(2 * 3 / (2 * 3 + 1 + 1)), 0.75)
    assert found['f1_with_severity'] == pytest.approx(2 * 2 / (2 * 2 + 2 + 2))
    assert found['exact_with_severity'] == 0.5
    assert findings_row(found) == {
        'F1': found['f1'],
        'exact': 0.75,
        'F1_with_severity': 0.5,
        'exact_with_severity': 0.5,
    }


def test_a_wrong_degree_that_is_read_from_a_report_costs_only_the_second():
    true = [read_findings('there is a large left pleural effusion .')]
    said = [read_findings('there is a small left pleural effusion .')]
    assert true[0][0].severity != said[0][0].severity
    found = findings_scores(said, true)
    assert (found['f1'], found['exact']) == (1, 1)
    assert (found['f1_with_severity'], found['exact_with_severity']) == (0, 0)


def test_nothing_has_no_score_and_unequal_lists_are_refused():
    nobody = findings_scores([], [])
    assert math.isnan(nobody['f1_with_severity']) and math.isnan(nobody['exact_with_severity'])
    assert severity_counts([], []).shape == (0, 3)
    with pytest.raises(UARError, match='1 predicted and 2 true'):
        severity_counts([[]], [[], []])


def test_no_head_of_a_table_calls_exact_what_ignores_the_severity():
    text = str(score_table({'model': findings_row(findings_scores(SAID, TRUE))}))
    first, second, row = text.split('\n')
    assert first.split() == ['exact', '(kind,', 'F1', 'with', 'exact', 'with']
    assert second.split() == ['F1', 'side,', 'zone)', 'severity', 'severity']
    assert row.split() == ['model', '0.750', '0.750', '0.500', '0.500']


def test_a_table_with_intervals_says_what_they_leave_out():
    scores = score_reports(['a b c d'] * 3, ['a b c d', 'a b c', 'e f g h'], metrics=('BLEU',))
    assert OVER_STUDIES in str(score_table({'model': scores}, intervals=True))
    assert OVER_STUDIES not in str(score_table({'model': scores}))
    assert 'seed' in OVER_STUDIES and 'PyTorch' in OVER_STUDIES
