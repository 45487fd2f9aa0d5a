"""The checkpoints that ship with the package: small enough, whole, of one training, made by
today's code, and as good as their cards say."""

import json
import sys
from dataclasses import replace

import pytest
import torch
import yaml
from huggingface_hub import ModelCard, ModelCardData

import cards
from pages import ROOT

sys.path.insert(0, str(ROOT / 'benchmarks'))
from uar_nb.apps.demo import PLANS, DemoPlan, demo_studies
from uar_nb.checkpoint import load_checkpoint
from uar_nb.config import config_difference
from uar_nb.core import UARError, sha256_of
from uar_nb.training import mask_parameters

ASSETS = ROOT / 'uar_nb' / 'assets'
HOMES = ['phantom-small', 'phantom-small-stage1']
CARDS = {
    name: json.loads((ASSETS / name / 'card.json').read_text(encoding='utf-8')) for name in HOMES
}


def loaded(name):
    "A shipped checkpoint; the first stage has no dVAE of its own."
    whole = load_checkpoint('phantom-small')
    return whole if name == 'phantom-small' else load_checkpoint(name, tokenizer=whole.tokenizer)


@pytest.mark.parametrize('name', HOMES)
def test_it_is_whole(name):
    home = ASSETS / name
    assert {
        p.relative_to(home).as_posix(): sha256_of(p.read_bytes())
        for p in home.rglob('*')
        if p.is_file() and p.name not in ('card.json', 'README.md')
    } == CARDS[name]['files']


@pytest.mark.parametrize('name', HOMES)
def test_its_model_card_is_read_by_the_hub(name):
    "Its metadata as huggingface_hub reads them, and its numbers as the files have them."
    text = (ASSETS / name / 'README.md').read_text(encoding='utf-8')
    assert text == cards.card_text(ASSETS / name), 'run python tools/cards.py'
    card, scores = ModelCard(text), CARDS[name].get('scores', {})
    data = card.data
    assert (data.license, data.library_name, data.language) == ('apache-2.0', 'uar_nb', 'en')
    assert data.pipeline_tag == 'image-to-text' and 'not-for-diagnosis' in data.tags
    read = {one.metric_type: one.metric_value for one in data.eval_results or ()}
    assert read == {cards.METRICS[key]: scores[key] for key in cards.METRICS if key in scores}
    weights = sum(tensor.numel() for tensor in loaded(name).model.state_dict().values())
    assert f'| {weights:,} |' in card.text and f'{CARDS[name]["plan"]["train"]:,}' in card.text
    assert 'never for diagnosis' in card.text
    again = ModelCardData(**yaml.safe_load(data.to_yaml()), ignore_metadata_errors=True)
    assert again.to_yaml() == data.to_yaml()


def test_all_are_small():
    assert (
        sum(p.stat().st_size for name in HOMES for p in (ASSETS / name).rglob('*') if p.is_file())
        <= 8e6
    )


@pytest.mark.parametrize('name', HOMES)
def test_it_is_what_its_plan_makes_today(name):
    card = CARDS[name]
    plan = DemoPlan(**{**card['plan'], 'changes': tuple(map(tuple, card['plan']['changes']))})
    assert plan == PLANS[card['plan_name']], (
        'the plan has changed: python benchmarks/phantom_small.py'
    )
    checkpoint, config = loaded(name), plan.run_config()
    from_data = {'text_vocab', 'period_id', 'image_vocab'}
    assert set(config_difference(checkpoint.model.config, config.model)) <= from_data
    assert config_difference(checkpoint.data, config.data) == {}


def test_the_second_stage_began_from_the_first():
    """One vocabulary, one dVAE, the mask alone differs in the settings, and 300 steps move the
    other weights little."""
    first, last = (loaded(name) for name in reversed(HOMES))
    assert (
        first.vocabulary.words == last.vocabulary.words
        and first.tokenizer.sha256 == last.tokenizer.sha256
    )
    assert config_difference(first.model.config, last.model.config) == {}
    assert last.model.mask_enabled and not first.model.mask_enabled
    a, b, mask = first.model.state_dict(), last.model.state_dict(), set(mask_parameters(last.model))
    moved = [
        float((b[k] - a[k]).norm() / a[k].norm()) for k in a if k not in mask and a[k].dim() > 1
    ]
    assert all(v.dtype == torch.float32 for v in a.values()), 'half precision on the disk alone'
    assert sorted(moved)[len(moved) // 2] < 0.02 and all(
        torch.isfinite(v).all() for v in a.values()
    )


def test_the_first_stage_says_what_it_lacks(monkeypatch):
    monkeypatch.delenv('UAR_DALLE', raising=False)
    with pytest.raises(UARError, match='needs the tokenizer'):
        load_checkpoint('phantom-small-stage1')


@pytest.mark.parametrize('name', HOMES)
def test_it_scores_as_its_card_says(name):
    from phantom_small import scores_of

    card = CARDS[name]
    plan = PLANS[card['plan_name']]
    tests = [
        s
        for s in demo_studies(replace(plan, train=0, val=0, test=card['first']))
        if s.split == 'test'
    ]
    f1 = scores_of(loaded(name), plan, tests)
    assert abs(f1 - card['f1_of_first']) < 0.03, (
        f'{f1:.3f}, not {card["f1_of_first"]}'
    )  # another processor may choose another word now and then
    if 'scores' in card:
        assert card['scores']['F1'] > card['scores']['nearest_F1'] + 0.1


def says_whose_choices(book):
    "Whether a page that reads the shipped model says that it is not the paper's."
    cells = [''.join(cell['source']) for cell in book['cells']]
    reads = any("'phantom-small'" in text for text in cells)
    return not reads or any("not the paper's" in text for text in cells)


def test_lessons_and_analyses_say_that_the_shipped_model_is_not_the_papers():
    config = loaded('phantom-small').model.config
    ours = ('all', True, 'encoder', 0, 'predicted')
    fields = ('negatives', 'center', 'aligned', 'encoder_layers', 'mask')
    assert tuple(getattr(config, field) for field in fields) == ours
    pages = [*(ROOT / 'nbs').glob('0*.ipynb'), *(ROOT / 'nbs' / 'results').glob('*.ipynb')]
    books = {p.name: json.loads(p.read_text(encoding='utf-8')) for p in pages}
    assert len(books) >= 20
    assert [name for name, book in books.items() if not says_whose_choices(book)] == []
    silent = dict(cells=[dict(source=["load_checkpoint('phantom-small')"])])
    assert not says_whose_choices(silent)
    # the lessons list the choices once, and lead there
    heading = '## How the shipped models differ from the paper'
    texts = {name: [''.join(c['source']) for c in book['cells']] for name, book in books.items()}
    listing = [n for n, cells in texts.items() if any(t.startswith(heading) for t in cells)]
    assert listing == ['06_losses.ipynb']
    [listed] = [t for t in texts['06_losses.ipynb'] if t.startswith(heading)]
    for setting in ("negatives='all'", 'center=True', "aligned='encoder'", "mask='predicted'"):
        assert f'`{setting}`' in listed
    anchor = '06_losses.ipynb' + heading.lower().replace('## ', '#').replace(' ', '-')
    for name in ('02_lsu', '03_attention', '05_tir', '08_generation', '09_training'):
        assert any(anchor in text for text in texts[f'{name}.ipynb']), name
