"""Images unlike those of the training: the formulas against a count by hand, who is flagged and
who is not, the file, and checkpoints that know nothing."""

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from uar_nb.apps.cli import app
from uar_nb.apps.demo import PLANS
from uar_nb.apps.pipeline import evaluate_checkpoint, fit
from uar_nb.apps.reporter import Reporter
from uar_nb.checkpoint import load_checkpoint, save_checkpoint
from uar_nb.core import UARError, kept_result, numpy_rng, read_json
from uar_nb.data.image import read_image, resize_image, to_float
from uar_nb.data.study import VIEWS, Study, View
from uar_nb.experiment.prepare import make_data, prepare
from uar_nb.phantom.generator import make_studies, write_studies
from uar_nb.tokenizer.surprise import (
    FILE,
    SHARES,
    Surprise,
    TokenStatistics,
    describe_unlike,
    judge_data,
    left_out_surprises,
    position_counts,
    surprise,
)


@pytest.fixture(scope='module')
def checkpoint():
    return load_checkpoint('phantom-small')


@pytest.fixture(scope='module')
def phantoms():
    return make_studies(150, 71, split='test')


def tokens_of(checkpoint, images):
    "Tokens of uint8 [n, 128, 128]."
    pixels = resize_image(to_float(np.ascontiguousarray(images)))
    return checkpoint.tokenizer.encode(pixels).numpy()


def share_unlike(checkpoint, images, view='frontal'):
    judge = checkpoint.statistics.judge
    return np.mean([judge(ids, view).unlike for ids in tokens_of(checkpoint, images)])


def views_of(phantoms, number):
    return np.stack([study.views[number].pixels for study in phantoms])


# ---- the formulas


def by_hand(image, others, words):
    "Both equations in float64, one position after the other."
    total = 0.0
    for position, word in enumerate(image):
        here = sum(int(other[position] == word) for other in others)
        anywhere = sum(int((other == word).sum()) for other in others)
        u = (anywhere + 0.5) / (len(image) * len(others) + 0.5 * words)
        total -= np.log((here + 10.0 * u) / (len(others) + 10.0))
    return total / len(image)


@pytest.mark.parametrize('words, dtype', [(7, np.uint8), (300, np.uint16), (40_000, np.uint16)])
def test_surprise_is_what_counting_by_hand_gives(words, dtype):
    rng = numpy_rng('test surprise', words)
    ids = rng.integers(0, words, (12, 9)).astype(dtype)
    counts = position_counts(ids, words)
    assert counts.shape == (9, words) and (counts.sum(1) == 12).all()
    wanted = [by_hand(image, ids, words) for image in ids]
    np.testing.assert_allclose(surprise(ids, counts), wanted, rtol=1e-13)
    new = rng.integers(0, words, 9)
    np.testing.assert_allclose(surprise(new, counts), by_hand(new, ids, words), rtol=1e-13)


def test_a_training_image_is_scored_without_its_patient():
    rng = numpy_rng('test left out')
    ids = rng.integers(0, 6, (20, 5))
    patients = [f'p{n}' for n in rng.integers(0, 8, 20)]
    wanted = []
    for image, patient in zip(ids, patients, strict=True):
        others = [x for x, other in zip(ids, patients, strict=True) if other != patient]
        wanted.append(by_hand(image, others, 6))
    np.testing.assert_allclose(left_out_surprises(ids, patients, 6), wanted, rtol=1e-13)


def test_one_patient_alone_leaves_nothing_to_compare_with():
    ids = numpy_rng('test one patient').integers(0, 6, (3, 5))
    np.testing.assert_allclose(left_out_surprises(ids, ['a'] * 3, 6), np.log(6))


def test_probabilities_of_a_position_sum_to_one():
    ids = numpy_rng('test sum').integers(0, 5, (8, 3))
    counts = position_counts(ids, 5)
    each = [np.exp(-surprise(np.array([word]), counts[:1])) for word in range(5)]
    assert sum(each) == pytest.approx(1)


def test_parts_of_many_images_are_counted_like_all_at_once():
    ids = numpy_rng('test parts').integers(0, 3, (9000, 2))
    wanted = [[(ids[:, position] == word).sum() for word in range(3)] for position in range(2)]
    assert position_counts(ids, 3).tolist() == wanted


# ---- who is flagged


def test_fresh_phantoms_are_not_flagged(checkpoint, phantoms):
    for number, view in enumerate(('frontal', 'lateral')):
        assert share_unlike(checkpoint, views_of(phantoms, number), view) <= 0.04


def drawn(name, make):
    return np.stack([make(numpy_rng('test', name, n)) for n in range(10)]).astype(np.uint8)


FOREIGN = {
    'black': np.zeros((1, 128, 128), np.uint8),
    'grey': np.full((1, 128, 128), 128, np.uint8),
    'white': np.full((1, 128, 128), 255, np.uint8),
    'uniform noise': drawn('uniform', lambda rng: rng.integers(0, 256, (128, 128))),
    'gaussian noise': drawn('gauss', lambda rng: rng.normal(128, 40, (128, 128)).clip(0, 255)),
    'faint noise': drawn('faint', lambda rng: 100 + rng.integers(0, 2, (128, 128))),
    'stripes': np.tile(np.repeat([0, 255], 8), 8)[None].repeat(128, 0)[None].astype(np.uint8),
    'a ramp': np.linspace(0, 255, 128)[None].repeat(128, 0)[None].astype(np.uint8),
}


@pytest.mark.parametrize('kind', FOREIGN)
def test_what_is_no_chest_is_flagged(checkpoint, kind):
    assert share_unlike(checkpoint, FOREIGN[kind]) == 1
    assert share_unlike(checkpoint, FOREIGN[kind], 'lateral') == 1
    assert share_unlike(checkpoint, FOREIGN[kind], 'unknown') == 1


CHANGES = {
    'inverted': lambda images: 255 - images,
    'on its side': lambda images: np.rot90(images, 1, (1, 2)),
    'upside down': lambda images: np.rot90(images, 2, (1, 2)),
    'a quarter, enlarged': lambda images: images[:, :64, :64].repeat(2, 1).repeat(2, 2),
    'half as large on black': lambda images: np.pad(
        images[:, ::2, ::2], ((0, 0), (32, 32), (32, 32))
    ),
}


@pytest.mark.parametrize('change', CHANGES)
def test_a_chest_that_is_shown_wrongly_is_flagged(checkpoint, phantoms, change):
    images = CHANGES[change](views_of(phantoms[:40], 0))
    assert share_unlike(checkpoint, images) >= 0.95


def test_what_the_tokens_do_not_show_is_not_flagged(checkpoint, phantoms):
    "The limits that the lesson tells: a change of brightness is none for this dVAE."
    images = views_of(phantoms[:40], 0)
    assert share_unlike(checkpoint, images // 4) <= 0.06
    assert share_unlike(checkpoint, images[:, :, ::-1]) <= 0.2


def test_another_view_is_named(checkpoint, phantoms):
    for given, number, other in (('frontal', 1, 'lateral'), ('lateral', 0, 'frontal')):
        ids = tokens_of(checkpoint, views_of(phantoms[:40], number))
        found = [checkpoint.statistics.judge(tokens, given) for tokens in ids]
        assert all(one.unlike for one in found)
        assert np.mean([one.looks_like == other for one in found]) >= 0.9
        assert f'looks like a {other} one' in ' '.join(map(str, found))
        unknown = [checkpoint.statistics.judge(tokens, 'unknown').unlike for tokens in ids]
        assert np.mean(unknown) <= 0.06  # like one of the views that were counted


def test_a_lower_quantile_flags_more(checkpoint, phantoms):
    statistics = checkpoint.statistics
    thresholds = [statistics.threshold('frontal', share) for share in (0.5, 0.9, 0.99, 0.999)]
    assert thresholds == sorted(thresholds)
    ids = tokens_of(checkpoint, views_of(phantoms, 0))
    flagged = np.mean([statistics.judge(tokens, quantile=0.9).unlike for tokens in ids])
    assert 0.03 <= flagged <= 0.2
    for wrong in (0, 1, -1, 2, float('nan')):
        with pytest.raises(UARError, match='not a quantile'):
            statistics.threshold('frontal', wrong)


def test_too_few_images_are_not_known(checkpoint, phantoms):
    "A quantile of 0.99 needs a hundred images; a smaller one fewer."
    data = replace(checkpoint.data, crops=0)
    few = [replace(study, split='train') for study in phantoms[:20]]
    made = make_data(few, data, checkpoint.vocabulary, checkpoint.tokenizer)['train']
    statistics = TokenStatistics.from_data(made)
    assert statistics.images('frontal') == 20 and statistics.images('unknown') == 0
    assert statistics.threshold('frontal') is None
    assert statistics.threshold('frontal', 0.95) is not None
    found = statistics.judge(tokens_of(checkpoint, FOREIGN['black'])[0])
    assert found == Surprise('frontal') and found.unlike is None and 'not known' in str(found)
    assert statistics.judge(tokens_of(checkpoint, FOREIGN['black'])[0], quantile=0.95).unlike


def test_views_are_counted_apart_and_crops_not_at_all(checkpoint, phantoms):
    studies = [replace(study, split='train') for study in phantoms[:12]]
    alone = [
        Study(f'alone {n}', (View('unknown', pixels=study.views[0].pixels),), 'clear.', patient='p')
        for n, study in enumerate(phantoms[12:15])
    ]
    counts = []
    for crops in (0, 2):
        data = replace(checkpoint.data, crops=crops)
        made = make_data([*studies, *alone], data, checkpoint.vocabulary, checkpoint.tokenizer)
        counts.append(TokenStatistics.from_data(made['train']))
    for one in counts:
        assert [one.images(view) for view in ('frontal', 'lateral', 'unknown')] == [12, 12, 3]
    assert (counts[0].counts['frontal'] == counts[1].counts['frontal']).all()
    assert (counts[0].quantiles['unknown'] == counts[1].quantiles['unknown']).all()
    shown = tokens_of(checkpoint, views_of(phantoms[:12], 1))
    assert (counts[0].counts['lateral'] == position_counts(shown, 512)).all()


def test_data_without_tokens_has_no_statistics(checkpoint, phantoms):
    studies = [replace(study, split='train') for study in phantoms[:3]]
    data = make_data(studies, checkpoint.data, checkpoint.vocabulary, None)['train']
    assert TokenStatistics.from_data(data) is None


# ---- the file


def card_of(checkpoint):
    return json.loads((checkpoint.folder / 'config.json').read_text())['tokenizer']


def test_what_is_saved_comes_back(checkpoint, tmp_path):
    statistics, card = checkpoint.statistics, card_of(checkpoint)
    statistics.save(tmp_path)
    again = TokenStatistics.load(tmp_path, card)
    for view in ('frontal', 'lateral'):
        assert again.images(view) == 15_000
        assert (again.counts[view] == statistics.counts[view]).all()
        assert (again.quantiles[view] == statistics.quantiles[view]).all()
    assert (tmp_path / FILE).read_bytes() == (checkpoint.folder / FILE).read_bytes()


def test_counts_that_need_more_bits_get_them(tmp_path):
    counts = {'frontal': np.array([[70_000, 0, 1], [1, 70_000, 0]])}
    statistics = TokenStatistics(counts, {'frontal': np.linspace(1, 2, len(SHARES))}, 'x')
    statistics.save(tmp_path)
    assert load_file(tmp_path / FILE)['frontal.counts'].dtype == torch.int32
    with pytest.raises(UARError, match='table of counts'):  # [2, 3] is no square grid of 4 ids
        TokenStatistics.load(tmp_path, dict(sha256='x', codebook_size=3, grid=2))


def edit(change, **metadata):
    "Damage of the file: a change of its tensors, or of the tokenizer that it names."

    def work(file):
        tensors = load_file(file)
        change(tensors)
        about = dict(tokenizer=SHIPPED['sha256']) | metadata
        save_file({k: v.contiguous() for k, v in tensors.items()}, file, metadata=about)

    return work


SHIPPED = card_of(load_checkpoint('phantom-small'))


def rename(tensors):
    tensors['oblique.counts'] = tensors.pop('lateral.counts')
    tensors['oblique.quantiles'] = tensors.pop('lateral.quantiles')


def one_more(tensors):
    tensors['frontal.counts'][3, 5] += 1


def below_zero(tensors):
    tensors['frontal.counts'][:, 0] = -1


def backwards(tensors):
    tensors['frontal.quantiles'] = tensors['frontal.quantiles'].flip(0)


def not_a_number(tensors):
    tensors['frontal.quantiles'][7] = float('nan')


def infinite(tensors):
    tensors['frontal.quantiles'][-1] = float('inf')


DAMAGE = {
    'cut': lambda file: file.write_bytes(file.read_bytes()[:-100]),
    'text': lambda file: file.write_text('not this'),
    'empty': lambda file: file.write_bytes(b''),
    'no tensors': edit(lambda tensors: tensors.clear()),
    'no tokenizer': lambda file: save_file(load_file(file), file),
    'other tokenizer': edit(lambda tensors: None, tokenizer='0' * 64),
    'half a view': edit(lambda tensors: tensors.pop('lateral.quantiles')),
    'other view': edit(rename),
    'sums differ': edit(one_more),
    'below zero': edit(below_zero),
    'floats': edit(lambda t: t.update({'frontal.counts': t['frontal.counts'].float()})),
    'a word less': edit(lambda t: t.update({'frontal.counts': t['frontal.counts'][:, 1:]})),
    'a quantile less': edit(lambda t: t.update({'frontal.quantiles': t['frontal.quantiles'][1:]})),
    'falling': edit(backwards),
    'not a number': edit(not_a_number),
    'infinite': edit(infinite),
}


@pytest.mark.parametrize('kind', DAMAGE)
def test_damaged_statistics_are_one_error_whose_remedy_works(checkpoint, tmp_path, kind):
    folder = tmp_path / 'copy'
    shutil.copytree(checkpoint.folder, folder)
    DAMAGE[kind](folder / FILE)
    with pytest.raises(UARError) as found:
        load_checkpoint(folder)
    assert FILE in found.value.file and found.value.remedy
    (folder / FILE).unlink()  # what the remedy says
    assert load_checkpoint(folder).statistics is None


# ---- checkpoints and reports


def test_a_checkpoint_without_statistics_works_and_says_so(checkpoint, phantoms, tmp_path):
    c = checkpoint
    save_checkpoint(tmp_path / 'old', c.model, c.vocabulary, c.data, c.tokenizer)
    assert not (tmp_path / 'old' / FILE).exists()
    studies = [[list(phantoms[0].views)], [list(phantoms[1].views)[:1]]]
    for study in studies:
        [now] = Reporter(c)(study, beams=1)
        [old] = Reporter.from_pretrained(tmp_path / 'old')(study, beams=1)
        assert (old.text, old.probabilities) == (now.text, now.probabilities)
        assert old.unlike is None and len(old.warnings) == len(old.views)
        assert 'not known' in repr(old) and old.to_dict()['unlike'] is None


def test_statistics_of_other_tokens_are_not_saved(checkpoint, tmp_path):
    c = checkpoint
    wrong = replace(c.statistics, tokenizer='0' * 64)
    with pytest.raises(UARError, match='not of the tokens'):
        save_checkpoint(tmp_path / 'new', c.model, c.vocabulary, c.data, c.tokenizer, wrong)
    assert list(tmp_path.iterdir()) == []


def test_each_image_of_a_study_is_judged_as_its_own_view(checkpoint, phantoms):
    frontal, lateral = phantoms[2].views
    noise = View('lateral', pixels=FOREIGN['uniform noise'][0])
    [good, half, turned] = Reporter(checkpoint)(
        [[frontal, lateral], [frontal, noise], [lateral, frontal]], beams=1
    )
    assert [one.view for one in half.surprises] == half.views == ['frontal', 'lateral']
    assert [one.unlike for one in half.surprises] == [False, True] and half.unlike
    assert good.unlike is False and good.warnings == [] and good.text in repr(good)
    assert turned.unlike is False  # the names say which is which, the order does not
    [wrong] = Reporter(checkpoint)([[View('frontal', pixels=lateral.pixels)]], beams=1)
    assert wrong.surprises[0].looks_like == 'lateral'
    assert wrong.to_dict()['surprises'][0]['looks_like'] == 'lateral'


def test_the_same_image_is_judged_alike_alone_and_in_a_batch(checkpoint, phantoms):
    studies = [list(study.views) for study in phantoms[:6]]
    reporter = Reporter(checkpoint)
    together = [report.surprises for report in reporter(studies, beams=1)]
    alone = [reporter([study], beams=1)[0].surprises for study in studies]
    assert together == alone


def test_training_keeps_the_statistics_of_its_images(checkpoint, phantoms, tmp_path):
    studies = [replace(study, split='train') for study in phantoms[:110]]
    changes = {'train.stages.0.steps': 2, 'train.stages.1.steps': 1}
    config = PLANS['toy'].run_config().override(changes)
    fit(prepare(config, studies, checkpoint.tokenizer), tmp_path / 'run', progress=False)
    shown = {
        view: tokens_of(checkpoint, views_of(phantoms[:110], v)) for v, view in enumerate(VIEWS[:2])
    }
    for name in ('checkpoint', 'checkpoint_stage1'):
        kept = load_checkpoint(tmp_path / 'run' / name).statistics
        assert kept.tokenizer == checkpoint.tokenizer.sha256 and set(kept.counts) == set(shown)
        for view, ids in shown.items():
            assert (kept.counts[view] == position_counts(ids, 512)).all()
            patients = [study.patient or study.id for study in studies]
            wanted = np.quantile(left_out_surprises(ids, patients, 512), SHARES)
            assert (kept.quantiles[view] == wanted).all()
            assert kept.threshold(view) is not None
    first, last = (
        (tmp_path / 'run' / n / FILE).read_bytes() for n in ('checkpoint', 'checkpoint_stage1')
    )
    assert first == last


def test_a_set_of_studies_is_judged_like_its_images(checkpoint, phantoms):
    data = replace(checkpoint.data, crops=0)
    made = make_data(phantoms[:8], data, checkpoint.vocabulary, checkpoint.tokenizer)['test']
    found = judge_data(checkpoint.statistics, made)
    reports = Reporter(checkpoint)([list(study.views) for study in phantoms[:8]], beams=1)
    assert found == [report.surprises for report in reports]
    assert describe_unlike(found).endswith('of the 16 images are unlike those of the training.')
    assert 'Whether 16 of the 16' in describe_unlike(judge_data(None, made))


def test_an_evaluation_notes_foreign_images(checkpoint, phantoms, tmp_path):
    for name, change in (('own', lambda x: x), ('inverted', lambda x: 255 - x)):
        studies = [
            replace(s, views=tuple(View(v.name, pixels=change(v.pixels)) for v in s.views))
            for s in phantoms[:8]
        ]
        write_studies(studies, tmp_path / name, 'phantom')
        scores, _ = evaluate_checkpoint(
            tmp_path / name, checkpoint, beams=1, metrics=('BLEU',), limit=4
        )
        notes = [note for note in scores.notes if 'unlike' in note]
        wanted = ['8 of the 8 images scored are unlike those of the training']
        assert notes == (wanted if name == 'inverted' else [])


# ---- the command


def generate(*arguments):
    return CliRunner().invoke(
        app, ['generate', *map(str, arguments), '--checkpoint', 'phantom-small']
    )


def write_image(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def test_the_command_says_it_on_stderr_and_in_json(phantoms, tmp_path):
    good = write_image(tmp_path / 'good.png', phantoms[2].views[0].pixels)
    noise = write_image(tmp_path / 'noise.png', FOREIGN['uniform noise'][0])
    result = generate(good, '--beams', 1)
    assert result.exit_code == 0 and 'unlike' not in result.output
    result = generate(noise, '--beams', 1)
    assert result.exit_code == 0 and result.stderr.count('warning: ') == 1
    assert 'the frontal image is unlike those of the training' in result.stderr
    assert 'unlike' not in result.stdout
    numbers = json.loads(generate(noise, '--beams', 1, '--json').stdout)
    [found] = numbers['surprises']
    assert numbers['unlike'] is True and found['surprise'] > found['threshold']
    result = generate(good, '--beams', 1, '--quantile', 0.001, '--json')
    assert json.loads(result.stdout)['unlike'] is True


def test_a_file_that_is_almost_blank_is_flagged(tmp_path):
    "One that is blank is refused when it is read; one pixel more, and it is not."
    pixels = np.zeros((256, 256), np.uint8)
    pixels[100:104, 100:104] = 255
    result = generate(write_image(tmp_path / 'dot.png', pixels), '--beams', 1)
    assert 'unlike those of the training' in result.stderr


# ---- real X-rays


@pytest.fixture(scope='module')
def real():
    if 'UAR_DATA' not in os.environ:
        pytest.skip('UAR_DATA is not set')
    folder = Path(os.environ['UAR_DATA']) / 'frontal'
    with open(folder / 'manifest.csv', newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    images = np.stack([read_image(folder / row['image']) for row in rows])
    return images, np.array([row['source'] + row['patient'] for row in rows])


def test_real_xrays_are_foreign_to_a_checkpoint_of_phantoms(checkpoint, real):
    assert share_unlike(checkpoint, real[0]) >= 0.98


def test_statistics_of_half_of_the_patients_hold_for_the_others(checkpoint, real):
    images, patients = real
    ids = tokens_of(checkpoint, images)
    names = sorted(set(patients))
    counted = np.isin(patients, names[::2])
    counts = position_counts(ids[counted], 512)
    threshold = np.quantile(left_out_surprises(ids[counted], patients[counted], 512), 0.99)
    assert np.mean(surprise(ids[~counted], counts) > threshold) <= 0.04
    inverted = tokens_of(checkpoint, 255 - images[~counted])
    assert np.mean(surprise(inverted, counts) > threshold) >= 0.95


# ---- what was measured


def test_the_kept_measurement_is_of_the_shipped_statistics(checkpoint):
    measured = read_json(kept_result('unlike.json'))
    shipped = measured['shipped']
    for view, threshold in shipped['thresholds'].items():
        assert round(checkpoint.statistics.threshold(view), 3) == threshold
        assert shipped['counted'][view] == checkpoint.statistics.images(view)
