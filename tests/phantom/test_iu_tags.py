"Phantom images for real reports, on an archive made up here: no download is needed."

import io
import tarfile

import numpy as np
import pytest

from uar_nb.core import UARError
from uar_nb.data.batch import PixelStore
from uar_nb.data.iu_xray import r2gen_split
from uar_nb.data.load import load_studies, save_studies
from uar_nb.data.study import FINDING_KINDS, describe_studies
from uar_nb.phantom.iu_tags import (
    PHANTOM_LABEL,
    coverage,
    iu_phantom,
    read_kinds,
    tag_findings,
    tag_rule,
    tag_table,
)

TAGS = (
    ['normal'],
    ['Pleural Effusion/left/small', 'Lung/hypoinflation'],
    ['No Indexing'],
    ['Cardiomegaly', 'Fractures, Bone/ribs'],
)
TEXTS = (
    'Lungs are clear.',
    'Small left effusion.',
    'Heart is enlarged. No effusion.',
    'Cardiomegaly & more.',
)


@pytest.fixture
def archive(tmp_path):
    "Two training and two validation reports of R2Gen's split, and one that is in no split"
    numbers = [
        n
        for split in ('train', 'val')
        for n in [n for n, (_, s) in r2gen_split().items() if s == split][:2]
    ]
    outside = next(n for n in range(1, 4000) if n not in r2gen_split())
    with tarfile.open(tmp_path / 'NLMCXR_reports.tgz', 'w:gz') as tar:
        for number, text, tags in [
            *zip(numbers, TEXTS, TAGS, strict=True),
            (outside, 'Not of the protocol.', ['normal']),
        ]:
            tags = ''.join(f'<major>{t}</major>' for t in tags)
            data = f'<eCitation><uId id="CXR{number}"/><AbstractText Label="FINDINGS">{text.replace("&", "&amp;")}</AbstractText><MeSH>{tags}</MeSH></eCitation>'.encode()  # noqa: E501
            member = tarfile.TarInfo(f'ecgen-radiology/{number}.xml')
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return tmp_path / 'NLMCXR_reports.tgz'


def by_text(studies):
    return {s.report: s for s in studies}


def test_text_split_id_and_findings(archive):
    studies = iu_phantom(archive)
    found, official = by_text(studies), {name: split for name, split in r2gen_split().values()}
    assert set(found) == set(TEXTS) and all(official[s.id] == s.split for s in studies)
    assert [
        None if found[t].findings is None else [f.key for f in found[t].findings] for t in TEXTS
    ] == [[], [('effusion', 'left', '')], None, [('cardiomegaly', '', '')]]
    assert any(
        PHANTOM_LABEL in note.text for note in studies.notes
    ) and PHANTOM_LABEL in describe_studies(studies)


def test_workers_seeds_and_limits_change_nothing_else(archive):
    one, two, other = (
        by_text(iu_phantom(archive)),
        by_text(iu_phantom(archive, workers=2)),
        by_text(iu_phantom(archive, seed=1)),
    )
    some = by_text(iu_phantom(archive, splits=['val'], limit=1))
    assert len(some) == 1
    for text, s in one.items():
        for a, b, c in zip(s.views, two[text].views, other[text].views, strict=True):
            assert np.array_equal(a.pixels, b.pixels) and not np.array_equal(a.pixels, c.pixels)
        if text in some:
            assert np.array_equal(s.views[0].pixels, some[text].views[0].pixels)


def test_goes_on_like_any_list_of_studies(archive, tmp_path):
    studies = iu_phantom(archive)
    assert len(PixelStore.build(studies)) == 8
    save_studies(studies, tmp_path / 'set', 'phantom')
    back = by_text(load_studies(tmp_path / 'set'))
    for text, s in by_text(studies).items():
        assert back[text].findings == s.findings and np.array_equal(
            back[text].views[1].image(), s.views[1].pixels
        )


def test_a_image_shows_what_the_tags_say():
    """Within one body, an effusion of the left side whitens the patient's left lower corner and
    no other"""
    from uar_nb.phantom.generator import draw_study

    with_it, (finding,) = draw_study(tag_findings(['Pleural Effusion/left/large'], 0), 'a', 1)
    without, _ = draw_study((), 'a', 1)
    x0, y0, x1, y1 = finding.boxes['frontal'][0]
    change = with_it[0].pixels.astype(int) - without[0].pixels
    assert change[y0:y1, x0:x1].mean() > 10 > abs(change[:60, :60].mean()) and (x0 + x1) / 2 > 64


def test_every_kind_can_come_from_tags_and_from_text():
    assert {k for r in tag_table()['findings'] for k in r['kinds']} == set(FINDING_KINDS)
    said = (
        'The heart is enlarged. Small effusion. Focal consolidation. A nodule. Small pneumothorax. Atelectasis. Calcified granuloma. Hyperinflation. Interstitial edema. PICC in place. '  # noqa: E501
        'Pacemaker. Sternotomy wires. Osteophytes. Scoliosis.'
    )
    assert [f.kind for f in read_kinds(said)] == list(FINDING_KINDS)
    denied = said.replace('The heart is enlarged', 'The heart is not enlarged')
    denied = '. '.join(
        'No ' + s[0].lower() + s[1:] if s and not s.startswith('The') else s
        for s in denied.split('. ')
    )
    assert read_kinds(denied) == ()


def test_the_denominator_counts_what_is_not_drawn():
    class R:
        mesh = ('Fractures, Bone/ribs', 'Made up by nobody', 'normal', 'Opacity/lung')

    assert coverage([R])['thoracic'] == 3 and coverage([R])['counts']['not covered'] == 2
    assert tag_rule('Made up by nobody') == ('not covered', None)


def test_wrong_input_is_named(archive, tmp_path):
    for call, word in (
        (lambda: iu_phantom(tmp_path / 'absent.tgz'), 'IU-Xray'),
        (lambda: iu_phantom(archive, splits=['dev']), 'train, val, test'),
    ):
        with pytest.raises(UARError, match=word):
            call()
