"""Whether a model looks: counts against loops, two writers with known answers, what is shown."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from system_cases import CASES, small_batch, small_config, small_model

from uar_nb.analysis import looks
from uar_nb.config import UARConfig
from uar_nb.core import UARError, numpy_rng, torch_rng
from uar_nb.data.batch import PixelStore, StudyData
from uar_nb.data.labels import read_findings
from uar_nb.data.load import load_studies
from uar_nb.data.study import Finding, View
from uar_nb.data.text import Vocabulary, clean_report
from uar_nb.model import UAR
from uar_nb.phantom.findings import KINDS
from uar_nb.phantom.generator import draw_study, make_studies, phantom_seed, write_studies
from uar_nb.phantom.language import write_report
from uar_nb.systems.catalogue import make_model

N = 24


@pytest.fixture(scope='module')
def studies():
    return make_studies(N, seed=3, style='single', split='test')


@pytest.fixture(scope='module')
def vocabulary():
    "The words of the one wording of every finding."
    findings = [
        Finding(name, side, zone, severity)
        for name, kind in KINDS.items()
        for side in kind.sides
        for zone in kind.zones
        for severity in kind.severities
    ]
    texts = [write_report(some, 'single') for some in [(), *([one] for one in findings)]]
    return Vocabulary.build(map(clean_report, texts), min_count=1)


@pytest.fixture(scope='module')
def data(studies, vocabulary):
    return StudyData(studies, PixelStore.build(studies), None, vocabulary)


@pytest.fixture(scope='module')
def showing(studies):
    return looks.shown_images(studies)


@pytest.fixture(scope='module')
def shown(showing):
    return showing.images


class Forgetful(looks.DescriptionWriter):
    "It sees what is there, but never a nodule, and calls every left side right."

    def report_of(self, image):
        report = super().report_of(image).lower()
        sentences = [s for s in report.split('. ') if 'nodule' not in s]
        return '. '.join(sentences).replace('left', 'right')


@pytest.fixture(scope='module')
def forgetful(data, showing, vocabulary):
    return looks.examine(Forgetful(showing.images, vocabulary), data, showing=showing)


def slow_sums(found, name, kind=None):
    "The counts of a condition, from the texts alone: finding by finding, image by image."
    truth = {study: row['findings'] for study, row in own_rows(found).items()}
    said = {study: read_findings(row['report']) for study, row in own_rows(found).items()}
    total = dict.fromkeys(
        ('stated', 'changed', 'expected', 'right', 'opposite', 'outside', 'collateral'), 0
    )
    for row in found.images():
        if row['condition'] != name:
            continue
        now = {f.key for f in read_findings(row['report'])}
        before = {f.key for f in said[row['study']]}
        was = set(map(tuple, truth[row['study']]))
        there = was if row['findings'] is None else set(map(tuple, row['findings']))
        for key in now | before | was | there:
            if kind is not None and key[0] != kind:
                continue
            changes, moves = (key in now) != (key in before), (key in was) != (key in there)
            total['stated'] += key in now or key in before
            total['changed'] += changes
            if moves:
                total['expected'] += 1
                total['right'] += changes and (key in before) == (key in was)
                total['opposite'] += changes and (key in before) != (key in was)
            else:
                total['outside'] += key in now or key in before
                total['collateral'] += changes
    return total


def own_rows(found):
    return {row['study']: row for row in found.images() if row['condition'] == 'own'}


def test_every_count_is_that_of_a_loop_over_the_texts(forgetful):
    tested = 0
    for name, numbers in forgetful.conditions.items():
        kinds = forgetful.by_kind[name]
        for kind, found in [(None, numbers), *kinds.items()]:
            slow = slow_sums(forgetful, name, kind)
            assert {key: found['counts'][key] for key in slow} == slow, (name, kind)
            if slow['expected']:
                assert found['right'][0] == slow['right'] / slow['expected']
                net = (slow['right'] - slow['opposite']) / slow['expected']
                assert found['net'][0] == pytest.approx(net)
            if slow['stated']:
                assert found['change'][0] == slow['changed'] / slow['stated']
            tested += slow['changed']
    assert tested > 100


def test_a_blind_spot_and_a_wrong_side_are_seen_as_such(forgetful):
    "It never names nodules; what it says of the left side goes against what is there."
    nodules = forgetful.by_kind['without']['nodule']
    assert nodules['counts']['expected'] > 0 and nodules['counts']['right'] == 0
    moved = forgetful.conditions['elsewhere']['counts']
    assert 0 < moved['right'] < moved['expected']
    assert forgetful.by_kind['without']['sternotomy']['right'][0] == 1


def test_the_interval_draws_patients(forgetful):
    "Against drawing patients one by one; all of one patient's studies stand or fall together."
    rows = [row for row in forgetful.rows if row.shown.condition == 'without']
    again = [row for row in forgetful.rows if row.shown.condition == 'redrawn']
    rows = [replace(row, patient=f'p{row.shown.study // 2}') for row in rows]
    found = looks.condition_numbers(rows, again)
    patients = sorted({row.patient for row in rows})
    assert found['counts']['patients'] == len(patients)
    sums = {p: np.zeros(2) for p in patients}
    for row in rows:
        counts = looks.count_statements(row.own, row.new, row.true_own, row.true_new)
        sums[row.patient] += counts['right'], counts['expected']
    rng, drawn = numpy_rng('slow looks'), []
    for _ in range(4000):
        chosen = [patients[i] for i in rng.integers(len(patients), size=len(patients))]
        right, expected = sum(sums[p] for p in chosen)
        drawn.append(right / expected)
    assert found['right'][1:] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.03)
    alone = looks.condition_numbers(rows[:1], again)
    assert math.isnan(alone['right'][1])


# ---- the two controls


def test_a_constant_writer_does_not_look(data, studies, vocabulary, showing):
    texts = [write_report((), 'single'), next(s.report for s in studies if s.findings)]
    for report in texts:  # also one that calls every chest normal
        found = looks.examine(looks.ConstantWriter(report, vocabulary), data, showing=showing)
        assert found.verdict == 'does not look'
        assert set(found.verdicts.values()) <= {'does not look', 'not told apart'}
        for name, numbers in found.conditions.items():
            assert numbers['counts']['changed'] == 0 and numbers['loss'][0] == 0, name


def test_a_writer_that_reads_the_description_looks(data, showing, vocabulary, studies):
    writer = looks.DescriptionWriter(showing.images, vocabulary)
    found = looks.examine(writer, data, showing=showing)
    assert found.verdict == 'looks'
    assert found.verdicts['without'] == 'looks'
    for name, numbers in found.conditions.items():
        counts = numbers['counts']
        assert counts['right'] == counts['expected'] and counts['opposite'] == 0, name
        assert counts['collateral'] == 0, name
        if counts['expected']:
            assert numbers['loss'][1] > 0, name  # the true report becomes less likely
    own = found.conditions['own']
    assert own['logp'][0] > -0.02 and own['loss'][0] == 0
    assert {row.report for row in found.rows if row.shown.condition == 'own'} == {
        ' '.join(clean_report(study.report).split()) for study in studies
    }


class Random(looks.Reciter):
    "It changes its report with every pixel, and never because of a finding."

    def __init__(self, reports, vocabulary):
        super().__init__(vocabulary)
        self.reports = reports

    def report_of(self, image):
        seed = int.from_bytes(image.numpy().tobytes()[:4000:7], 'little')
        return self.reports[np.random.default_rng(seed).integers(len(self.reports))]


def test_a_writer_of_random_reports_is_not_said_to_look(data, studies, vocabulary, showing):
    writer = Random([s.report for s in studies], vocabulary)
    found = looks.examine(writer, data, showing=showing)
    assert found.conditions['other findings']['change'][0] > 0.8
    assert found.verdict != 'looks'
    low, high = found.conditions['other findings']['beyond'][1:]
    assert low < 0 < high  # another draw of noise changes as much


# ---- what is shown


def test_partners_are_other_patients_of_the_right_kind(studies):
    for how in ('same findings', 'other findings'):
        for seed in (0, 1):
            found = looks.partners(studies, studies, how, seed)
            for study, other in zip(studies, found, strict=True):
                own = {f.key for f in study.findings}
                fits = [
                    s
                    for s in studies
                    if s.id != study.id
                    and ({f.key for f in s.findings} == own) == (how == 'same findings')
                    and (how == 'same findings' or not own & {f.key for f in s.findings})
                ]
                assert (other in fits) if fits else other is None
    in_pairs = [replace(s, patient=str(n // 2)) for n, s in enumerate(studies)]
    for n, other in enumerate(looks.partners(in_pairs, in_pairs, 'other findings')):
        assert other.patient != str(n // 2)
    backwards = looks.partners(studies, studies[::-1], 'other findings')
    assert all(other is not study for study, other in zip(studies, backwards, strict=True))


def pixels_of(some):
    return [[view.image().tobytes() for view in one.views] for one in some]


def test_what_is_shown_follows_from_the_seed(studies, shown):
    again = looks.shown_images(studies[:8], studies)[0]
    shown = [one for one in shown if one.study < 8]
    assert sorted(pixels_of(again)) == sorted(pixels_of(shown))
    other = looks.shown_images(studies[:6], studies, seed=1)[0]
    first = looks.shown_images(studies[:6], studies, seed=0)[0]
    changed = {
        a.condition
        for a in first
        for b in other
        if (a.condition, a.study, a.about) == (b.condition, b.study, b.about)
        and pixels_of([a]) != pixels_of([b])
    }
    assert {'redrawn', 'noise', 'other findings'} <= changed
    assert not changed & {'own', 'without', 'filled', 'blank'}


def test_the_body_stays_and_the_finding_goes(studies, shown):
    for one in shown:
        study = studies[one.study]
        own = {f.key for f in study.findings}
        now = None if one.findings is None else {f.key for f in one.findings}
        if one.condition in ('without', 'filled'):
            assert now == own - {one.about.key}
        elif one.condition == 'elsewhere':
            [moved] = now - own
            assert own - now == {one.about.key} and moved[0] == one.about.kind
        elif one.condition in ('own', 'redrawn', 'same findings'):
            assert now == own
        elif one.condition == 'other findings':
            assert now != own and not now & own and one.source != study.id
        if one.condition == 'without':
            rest = [f for f in study.findings if f.key != one.about.key]
            views, _ = draw_study(rest, *phantom_seed(study))
            assert pixels_of([one]) == [[view.pixels.tobytes() for view in views]]
        if one.condition == 'redrawn':
            change = one.views[0].pixels.astype(int) - study.views[0].pixels
            assert 0.5 < change.std() < 10 and abs(change.mean()) < 1
    assert {one.condition for one in shown} == set(looks.CONDITIONS)


def test_filled_boxes_take_the_grey_around_them():
    image = np.full((128, 128), 90, np.uint8)
    image[40:50, 60:80] = 200
    image[0:10, 0:10] = 7
    views = (View('frontal', pixels=image), View('lateral', pixels=image))
    frontal, lateral = looks.filled_views(views, {'frontal': [(60, 40, 80, 50)]})
    expected = image.copy()
    expected[40:50, 60:80] = 90
    assert (frontal.pixels == expected).all() and (lateral.pixels == image).all()
    assert image[45, 70] == 200  # the given view is not changed
    everything = looks.filled_views(views[:1], {'frontal': [(0, 0, 128, 128)]})
    assert len(np.unique(everything[0].pixels)) == 1


def test_a_set_that_was_written_is_drawn_again(studies, tmp_path):
    read = load_studies(write_studies(studies[:6], tmp_path / 'set', 'phantom'))
    before = looks.shown_images(studies[:6])
    after = looks.shown_images(list(read))
    assert pixels_of(after[0]) == pixels_of(before[0]) and after[1:] == before[1:]


def test_other_data_sets_get_what_is_possible(studies, vocabulary):
    "Without boxes and known findings, as real data are; images that cannot be drawn again."
    bare = [replace(s, id=f'CXR{n}', findings=None) for n, s in enumerate(studies)]
    data = StudyData(bare, PixelStore.build(bare), None, vocabulary)
    found = looks.examine(looks.ConstantWriter(studies[0].report, vocabulary), data)
    assert {'without', 'elsewhere', 'filled'} <= set(found.left_out)
    assert 'drawn again' in found.left_out['without'] and 'box' in found.left_out['filled']
    assert 'noise of 3 grey values added' in found.about['baseline']
    assert any('their reports state' in note for note in found.about['notes'])
    assert {'own', 'redrawn', 'other findings', 'blank', 'noise'} <= set(found.conditions)
    assert found.verdict == 'does not look'
    text = repr(found)
    assert all(f'left out: {name}' in text for name in found.left_out)
    row = next(row for row in found.rows if row.shown.condition == 'redrawn')
    change = row.shown.views[0].pixels.astype(int) - studies[row.shown.study].views[0].pixels
    assert 1.5 < change.std() < 3.5
    with pytest.raises(UARError, match='unknown condition'):
        looks.examine(None, data, conditions=['upside down'])


def test_everything_is_written_and_can_be_recounted(forgetful, tmp_path):
    looks.save_looks(forgetful, tmp_path / 'new')
    kept = json.loads((tmp_path / 'new' / 'looks.json').read_text())
    lines = (tmp_path / 'new' / 'images.jsonl').read_text().splitlines()
    images = [json.loads(line) for line in lines]
    assert (tmp_path / 'new' / 'looks.png').stat().st_size > 1000
    for name, numbers in kept['conditions'].items():
        of_it = [image for image in images if image['condition'] == name]
        assert numbers['counts']['images'] == len(of_it)
        logp = sum(image['logp'] for image in of_it) / sum(image['words'] for image in of_it)
        assert numbers['logp'][0] == pytest.approx(logp)
    assert kept['conditions']['own']['right'] == [None] * 3
    assert kept['verdict'] == forgetful.verdict


# ---- likelihood and pooled tokens, of real models


def small_uar(**changes):
    with torch_rng('looks'):
        sizes = dict(text_vocab=13, image_vocab=9, grid=4, d=16, heads=2, cra_heads=2, d_ff=24)
        config = UARConfig(
            **sizes, basis_size=16, encoder_layers=1, decoder_layers=1, max_words=16, **changes
        )
        return UAR(config).double().eval()


def grid_batch(side):
    batch = small_batch()
    ids = torch.from_numpy(numpy_rng('grid', side).integers(0, 9, (4, 2, side**2)))
    return replace(batch, image_ids=ids)


def slow_means(features, groups):
    "The mean of each group, by loops [B, V, L, c]."
    out = torch.zeros_like(features)
    for place, group in enumerate(groups):
        members = [q for q, other in enumerate(groups) if other == group]
        out[:, :, place] = sum(features[:, :, q] for q in members) / len(members)
    return out


GROUPS = {  # of four by four places
    1: [0] * 16,
    4: [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4,
}


@pytest.mark.parametrize('basis', ['orthogonal', 'none'])
@pytest.mark.parametrize('count', GROUPS)
def test_uar_reads_the_mean_of_each_group(basis, count):
    model, batch = small_uar(basis=basis), grid_batch(4)
    with torch.no_grad():
        F_I = model.represent_image(batch).unflatten(1, (2, 16))
        slow = slow_means(F_I, GROUPS[count]).flatten(1, 2)
        expected = model.encode_image(batch, slow)
        found = looks.pooled_memory(model, batch, count)
        whole = model.encode_image(batch)
    torch.testing.assert_close(found.features, expected.features, atol=1e-12, rtol=0)
    assert (found.features - whole.features).abs().max() > 1e-4


def enlarged(model, name, features):
    "The same system with a table of tokens whose rows are given features."
    rows = features.flatten(0, 2)
    other = make_model(small_config(name, image_vocab=len(rows))).double().eval()
    weights = dict(model.state_dict())
    weights['grid.encoder.weight'] = rows
    other.load_state_dict(weights)
    return other


@pytest.mark.parametrize('name', CASES)
def test_every_system_reads_the_mean_of_each_group(name):
    "As a system whose table of tokens holds the means would read them."
    model, batch = small_model(name), small_batch()
    groups = {1: [0] * 9, 3: [0, 0, 0, 1, 1, 1, 2, 2, 2]}
    with torch.no_grad():
        before = model.encode_image(batch).features
        features = model.grid.encoder(batch.image_ids)
        for count, of_place in groups.items():
            other = enlarged(model, name, slow_means(features, of_place))
            ids = torch.arange(features[..., 0].numel()).view(batch.image_ids.shape)
            expected = other.encode_image(replace(batch, image_ids=ids)).features
            found = looks.pooled_memory(model, batch, count).features
            torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
        with pytest.raises(UARError, match='9 places cannot be averaged to 14'):
            looks.pooled_memory(model, batch, 14)
        again = model.encode_image(batch).features
    torch.testing.assert_close(again, before, atol=0, rtol=0)  # the hook is gone


class Tokens:
    name, sha256, codebook_size, grid = 'grey', 'none', 9, 14

    def encode(self, x):
        return (torch.nn.functional.avg_pool2d(x, 8).flatten(1) * 8.99).long()


def test_likelihood_is_that_of_the_true_report(studies, vocabulary):
    "Word by word through `step`, in float64."
    few = studies[:3]
    data = StudyData(few, PixelStore.build(few), None, vocabulary)
    with torch_rng('looks'):
        sizes = dict(d=16, heads=2, cra_heads=2, d_ff=24, basis_size=16)
        model = UAR(UARConfig(text_vocab=len(vocabulary), image_vocab=9, **sizes)).eval()
    shown = [one for one in looks.shown_images(few)[0] if one.condition == 'blank']
    given = looks.answers(model, data, shown, Tokens(), batch_size=2)
    for n, answer in enumerate(given):
        batch = looks.image_batch([shown[n].views], Tokens(), 2)
        ids = vocabulary.encode(clean_report(few[n].report), 60)
        state = model.start(model.encode_image(batch))
        slow = []
        for word, following in zip(ids[:-1], ids[1:], strict=True):
            logits = model.step(torch.tensor([word]), state)[0].double()
            logits[:2] = -math.inf  # <pad> and <bos> cannot come
            slow.append(logits.log_softmax(0)[following].item())
        assert answer.logprobs == pytest.approx(slow, abs=1e-4)


def test_a_run_is_repeated_by_its_seed_and_limits_are_told(studies, vocabulary):
    few = studies[:3]
    data = StudyData(few, PixelStore.build(few), None, vocabulary, max_words=12)
    with torch_rng('looks'):
        sizes = dict(d=16, heads=2, cra_heads=2, d_ff=24, basis_size=16, max_words=12)
        model = UAR(UARConfig(text_vocab=len(vocabulary), image_vocab=9, **sizes)).eval()
    chosen = ['pooled 1', 'pooled 49', 'noise']
    ask = dict(conditions=chosen, batch_size=4)
    first, again = (looks.examine(model, data, Tokens(), seed=5, **ask) for _ in range(2))
    assert first.to_dict() == again.to_dict()
    assert list(first.conditions) == ['own', 'redrawn', 'noise', 'pooled 1', 'pooled 49']
    with pytest.raises(UARError, match='has no places that could be averaged'):
        looks.examine(looks.ConstantWriter('', vocabulary), data, conditions=['pooled 1'])


def test_what_a_system_cannot_write_does_not_count(studies, vocabulary):
    "A report that was cut within a sentence has no end that a system of two levels could write."
    few = studies[:2]
    data = StudyData(few, PixelStore.build(few), None, vocabulary, max_words=12)
    cut = [reference.split()[-1] != '.' for reference in data.references]
    assert any(cut)
    sizes = dict(text_vocab=len(vocabulary), period_id=vocabulary.ids['.'], max_words=12)
    model = make_model(small_config('hlstm', grid=14, **sizes)).eval()
    found = looks.examine(model, data, Tokens(), conditions=['blank', 'pooled 49'])
    for row in found.rows:
        assert np.isnan(row.logprobs).tolist() == [False] * 11 + [cut[row.shown.study]]
        assert not np.isinf(row.logprobs).any()
    assert math.isfinite(found.conditions['pooled 49']['loss'][0])
