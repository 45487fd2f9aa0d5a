"What the demo says of its numbers: which stage, both stages, intervals, places, decibels."

import json
import math
from html import unescape

import numpy as np
import pytest
import torch

from uar_nb.analysis.grounding import describe_pointing, finding_maps, pointing_game
from uar_nb.apps.demo import PLANS, demo_dvae, demo_studies, describe_dvae, run_demo
from uar_nb.apps.pipeline import measure_dvae
from uar_nb.core import torch_rng
from uar_nb.data.boxes import tokens_inside
from uar_nb.data.image import resize_image, to_float
from uar_nb.data.labels import sentence_spans
from uar_nb.experiment.prepare import prepare
from uar_nb.experiment.run_folder import best_checkpoint
from uar_nb.phantom.generator import make_studies
from uar_nb.scoring.metrics import OVER_STUDIES
from uar_nb.tokenizer.dvae import DVAE, DVAEConfig

PLAN = PLANS['toy']


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    "(folder, result, page) of a toy demo."
    folder = tmp_path_factory.mktemp('demo')
    result = run_demo(folder, 'toy', device='cpu', workers=1, progress=False)
    return folder, result, unescape((folder / 'index.html').read_text(encoding='utf-8'))


@pytest.mark.slow  # .3 min for the demo of all three
def test_validation_chooses_over_all_stages_and_the_page_says_which(demo):
    folder, result, page = demo
    rows = map(json.loads, (folder / 'log.jsonl').read_text(encoding='utf-8').splitlines())
    best = {}
    for row in rows:
        if row['kind'] == 'val':
            sign = -1 if row['monitor'] == 'loss' else 1
            score = sign * row[row['monitor']]
            best[row['stage']] = max(score, best.get(row['stage'], -math.inf))
    assert {name: one['validation'] for name, one in result['stages'].items()} == best
    assert best[result['stage']] == max(best.values())
    assert f'All other numbers of this page are of {result["stage"]}' in page
    for name, one in result['stages'].items():
        assert (folder / one['folder'] / 'config.json').exists() and f'<td>{name}</td>' in page


@pytest.mark.slow  # .3 min for the demo of all three
def test_the_page_is_of_the_chosen_stage_and_both_have_all_numbers(demo):
    folder, result, _ = demo
    chosen = result['stages'][result['stage']]
    assert chosen['F1'] == result['summary']['F1'] == result['findings']['f1']
    assert chosen['pointing'] == result['grounding']['pointing']
    for one in result['stages'].values():
        assert one['F1_interval'][0] <= one['F1'] <= one['F1_interval'][1] or math.isnan(one['F1'])
        assert one['pointing_interval'][0] <= one['pointing'] <= one['pointing_interval'][1]
        assert {'CIDEr', 'F1_with_severity', 'exact', 'exact_with_severity'} <= one.keys()


@pytest.mark.slow  # .3 min for the demo of all three
def test_the_page_says_what_its_numbers_leave_out(demo):
    _, result, page = demo
    assert page.count(OVER_STUDIES) == 3  # F1, stages, pointing
    assert describe_pointing(result['grounding']) in page
    assert describe_dvae(result['dvae']) in page
    assert '<th>exact (kind, side, zone)</th>' in page and '<th>exact with severity</th>' in page
    assert '<th>exact</th>' not in page
    assert 'random: mean of 20 draws' in page


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    "(studies, dVAE, its numbers, prepared data) of the toy plan."
    studies = demo_studies(PLAN)
    dvae, quality = demo_dvae(studies, PLAN, tmp_path_factory.mktemp('dvae'))
    return studies, dvae, quality, prepare(PLAN.run_config(), studies, dvae)


def test_decibels_of_own_greys_and_of_standardised_images_by_hand(prepared):
    studies, dvae, quality, _ = prepared
    own, standardised = [], []
    for study in studies:
        for view in study.views if study.split == 'val' else ():
            x = resize_image(to_float(view.pixels[None]))
            with torch.no_grad():
                painting = dvae.decode(dvae.encode(x)).numpy().astype(float)
            x = x.numpy().astype(float)
            mean, std = x.mean(), x.std(ddof=1) + 1e-3
            target = 0.5 + 0.22 * (x - mean) / std
            again = np.clip(mean + (painting - 0.5) * std / 0.22, 0, 1)
            own.append(-10 * math.log10(((x - again) ** 2).mean()))
            standardised.append(-10 * math.log10(((target - painting) ** 2).mean()))
    assert quality['psnr_own_greys'] == pytest.approx(np.mean(own), abs=1e-3)
    assert quality['psnr'] == pytest.approx(np.mean(standardised), abs=1e-3)
    assert abs(quality['psnr'] - quality['psnr_own_greys']) > 0.1


def asked_findings(data):
    "(finding, study) of each finding with boxes that a true report states, with its largest area."
    for study, report in zip(data.studies, data.references, strict=True):
        known = {finding.key: finding for finding in study.findings}
        for _, _, stated in sentence_spans(report.split()):
            for key in dict.fromkeys(one.key for one in stated if one.key in known):
                boxes = known[key].boxes
                areas = [sum((c - a) * (d - b) for a, b, c, d in some) for some in boxes.values()]
                if max(areas, default=0) > 0:
                    yield known[key], max(areas) / 128**2


def usual_places(finding, studies, by):
    "All (view, row, column) of tokens that lie inside most such findings of other studies."
    alike = [
        other
        for study in studies
        for other in study.findings
        if all(getattr(other, name) == getattr(finding, name) for name in by)
    ]
    areas = [
        max(
            (sum((c - a) * (d - b) for a, b, c, d in some) for some in other.boxes.values()),
            default=0,
        )
        for other in alike
    ]
    small = [other for other, area in zip(alike, areas, strict=True) if 0 < area < 0.3 * 128**2]
    counts = {
        (view, row, column): sum(
            bool(tokens_inside(other.boxes.get(view, ()))[14 * row + column]) for other in small
        )
        for view in ('frontal', 'lateral')
        for row in range(14)
        for column in range(14)
    }
    return [place for place, count in counts.items() if 0 < count == max(counts.values())]


def hits(finding, place):
    "Whether the middle of a token lies in a box of the finding; None where a box has no middle."
    if place is None:
        return False
    view, row, column = place
    y, x = ((i + 0.5) * 128 / 14 for i in (row, column))
    return any(a <= x < c and b <= y < d for a, b, c, d in finding.boxes.get(view, ()))


def test_the_pointing_game_carries_fixed_places_and_what_it_leaves_out(prepared):
    _, _, _, ready = prepared
    val, test = ready.data['val'], ready.data['test']
    game = pointing_game(ready.model, val, test)
    findings = list(asked_findings(test))
    small = [finding for finding, area in findings if area < 0.3]
    assert game['left_out'] == pytest.approx(1 - len(small) / len(findings))
    assert game['count'] == len(small) and game['gain'] == game['pointing'] - game['other']
    large = [
        f
        for f in small
        if all(min(c - a, d - b) > 10 for bs in f.boxes.values() for a, b, c, d in bs)
    ]  # noqa: E501
    assert len(large) >= 3  # boxes that hold the middle of a token in each direction
    chosen = [i for i, f in enumerate(finding_maps(ready.model, test).findings) if f in large]
    assert len(chosen) == len(large)
    for by in ((), ('kind',), ('kind', 'side', 'zone')):
        # of several best places any may be taken; of a box without a middle anything may be said
        of_each = [[hits(f, place) for place in usual_places(f, val.studies, by)] for f in large]
        low = sum(min(some, default=False) for some in of_each)
        high = sum(max(some, default=False) for some in of_each) + len(small) - len(large)
        assert low - 1e-9 <= game['fixed'][', '.join(by) or 'nothing'] * len(small) <= high + 1e-9
    for kind, numbers in game['by_kind'].items():
        assert numbers['count'] == sum(finding.kind == kind for finding in small)
        assert set(numbers['fixed']) == {'nothing', 'kind', 'kind, side, zone'}
    text = describe_pointing(game)
    for words in ('true report', 'another study', 'sees no image', 'Not asked for', 'seed'):
        assert words in text


@pytest.mark.parametrize('better', ['stage1', 'stage2'])
def test_the_better_stage_is_taken_whichever_it_is(better, tmp_path):
    stages = PLAN.run_config().train.stages
    rows = [
        dict(kind='val', stage=stage.name, monitor='CIDEr', CIDEr=float(stage.name == better))
        for stage in stages
    ]
    (tmp_path / 'log.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    name, score, place = best_checkpoint(tmp_path, stages)
    folders = dict(stage1='checkpoint_stage1', stage2='checkpoint')
    assert (name, score, place) == (better, 1.0, tmp_path / folders[better])


@pytest.mark.parametrize(
    'standardise, scale', [(False, 'grey values 0 to 1'), (True, 'standardised images')]
)
def test_psnr_says_of_which_values_it_is(standardise, scale):
    "By hand: every image and its painting, on the scale that is named."
    studies = make_studies(3, seed=8)
    with torch_rng('psnr scale'):
        dvae = DVAE(DVAEConfig(codebook_size=16, standardise=standardise)).eval()
    found = measure_dvae(dvae, studies)
    pixels = np.stack([view.pixels for study in studies for view in study.views])
    images = resize_image(to_float(pixels))
    painted = dvae.decode(dvae.encode(images)).clamp(0, 1).double().numpy()
    wanted = []
    for image, painting in zip(images.double().numpy(), painted, strict=True):
        if standardise:
            image = 0.5 + 0.22 * (image - image.mean()) / (image.std(ddof=1) + 1e-3)
        wanted.append(-10 * np.log10(np.square(painting - image).mean()))
    assert found['psnr_of'] == scale and found['images'] == len(images)
    assert found['psnr'] == pytest.approx(np.mean(wanted), abs=1e-3)
