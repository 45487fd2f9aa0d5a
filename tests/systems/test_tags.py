"""Tags against counts by hand, the twenty findings against the authors' own counts, the graph."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from uar_nb.core import UARError
from uar_nb.data.iu_xray import OpeniReport, r2gen_split, read_openi
from uar_nb.data.study import FINDING_KINDS, Finding, Study
from uar_nb.phantom.generator import make_studies
from uar_nb.systems.tags import (
    ZHANG20,
    TagSet,
    build_tags,
    chest_graph,
    chest_nodes,
    node_labels,
    positive_weights,
    tag_loss,
    tag_matrix,
)

DATA = Path(os.environ.get('UAR_DATA', 'UAR_DATA is not set')) / 'iu_xray'
# studies of R2Gen's training split with each of the twenty findings, in the authors' labels
COUNTS = [725, 180, 325, 60, 67, 27, 10, 22, 161, 59, 61, 22, 176, 113, 245, 67, 66, 298, 142, 230]


def study(name, *findings, **more):
    return Study(name, (), '', findings=findings, **more)


OPACITY = Finding('opacity', 'left', 'lower')
EFFUSION = Finding('effusion', 'bilateral')


@pytest.mark.skipif(not DATA.is_dir(), reason='UAR_DATA names no folder with iu_xray/')
def test_the_twenty_findings_have_the_authors_counts():
    split = r2gen_split()
    reports = [r for r in read_openi(DATA) if split.get(r.number, ('', ''))[1] == 'train']
    assert len(reports) == 2069
    assert node_labels(reports).sum(0).tolist() == COUNTS


def test_tags_of_known_findings():
    studies = [study('a', OPACITY, EFFUSION), study('b', OPACITY), study('c'), study('d')]
    tags = build_tags(studies, min_count=2)
    assert tags.names == ('normal', 'opacity', 'opacity@left', 'opacity@lower')
    wanted = [[0, 1, 1, 1], [0, 1, 1, 1], [1, 0, 0, 0], [1, 0, 0, 0]]
    assert tag_matrix(studies, tags).tolist() == wanted
    assert len(build_tags(studies, min_count=1)) == 6


def test_a_tag_set_comes_from_training_studies_alone():
    train = make_studies(12, seed=3, style='single')
    held_out = make_studies(3, seed=4, style='single', split='val')
    with pytest.raises(UARError, match='training split'):
        build_tags(train + held_out)
    tags = build_tags(train, min_count=1)
    unseen = [study('x', Finding('scoliosis', 'left'), split='val')]
    known = TagSet(tuple(t for t in tags.names if not t.startswith('scoliosis')), tags.source)
    assert tag_matrix(unseen, known).sum() == 0  # a tag that training does not know is left out


def test_the_key_of_a_tag_set_changes_with_what_it_holds():
    sets = [TagSet(('a', 'b'), 'mesh'), TagSet(('b', 'a'), 'mesh'), TagSet(('a', 'b'), 'findings')]
    assert len({tags.key for tags in sets}) == 3
    assert TagSet(('a', 'b'), 'mesh').key == sets[0].key


@pytest.mark.parametrize('kind', ['zhang20', 'kinds'])
def test_each_kind_of_finding_has_its_node(kind):
    nodes = [node.name for node in chest_nodes(kind)]
    for name in FINDING_KINDS:
        row = node_labels([study('a', Finding(name))], kind)[0]
        assert row.sum() == 1 and nodes[row.argmax()] not in ('normal', 'other')
    assert node_labels([study('a')], kind)[0].tolist() == [1] + [0] * (len(nodes) - 1)


def test_labels_come_from_tags_then_findings_then_the_report():
    told = Study('a', (), 'Left pleural effusion.', findings=(OPACITY,))
    read = Study('b', (), 'Left pleural effusion.')
    tagged = OpeniReport(1, 'c', findings='Left effusion.', mesh=('Pneumothorax/left',))
    silent = Study('d', ())
    names = [
        [ZHANG20[k] for k in row.nonzero()[0]] for row in node_labels([told, read, tagged, silent])
    ]
    assert names == [['opacity'], ['effusion'], ['pneumothorax'], ['normal']]


@pytest.mark.parametrize('kind', ['zhang20', 'kinds'])
def test_the_graph_joins_organs_and_nothing_speaks_to_the_image(kind):
    names, A = chest_graph(kind)
    nodes = chest_nodes(kind)
    assert names == ('whole image', *(node.name for node in nodes))
    assert A[0].tolist() == [0] + [1] * len(nodes) and not A[:, 0].any() and not A.diagonal().any()
    inner = A[1:, 1:]
    assert torch.equal(inner, inner.T)
    for i, node in enumerate(nodes):
        same = [other.organ == node.organ != '' and other is not node for other in nodes]
        assert inner[i].bool().tolist() == same


def test_positive_weights_balance_yes_and_no():
    rng = np.random.default_rng(0)
    labels = (rng.random((50, 4)) < [0.5, 0.1, 0.02, 0]).astype(np.uint8)
    labels[0, 2] = 1
    weights = positive_weights(labels)
    positive = labels.sum(0)
    np.testing.assert_allclose((weights * positive)[:3], (50 - positive)[:3], rtol=1e-6)
    assert weights[3] == 1
    far = torch.full((50, 4), 100.0)
    loss = [
        tag_loss(z, torch.from_numpy(labels), positive=torch.tensor(weights)) for z in (far, -far)
    ]
    yes, no = (float(x) - 100 * 50 / 200 * s for x, s in zip(loss, (1, 0), strict=True))
    assert abs(yes - no) < 1e-3  # but for the tag that nobody has


def test_a_study_without_tags_costs_nothing():
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 0, 1], [0, 0, 0]])
    alone = tag_loss(logits[:1], labels[:1], 'softmax')
    torch.testing.assert_close(tag_loss(logits, labels, 'softmax'), alone / 2)
    with pytest.raises(UARError, match='tag_loss'):
        tag_loss(logits, labels, 'mse')
