"""What holds for every system of Table 1: the contract with search, training and checkpoint."""

import signal
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from system_cases import CASES, PERIOD, REPORTS, small_batch, small_config, small_model

from uar_nb.checkpoint import load_checkpoint
from uar_nb.config import DataConfig, RunConfig, SystemConfig, run_preset
from uar_nb.core import BOS_ID, EOS_ID, PAD_ID, UARError, torch_rng
from uar_nb.experiment.prepare import prepare
from uar_nb.generation import generate, score_written, word_log_probs
from uar_nb.phantom.generator import make_studies
from uar_nb.scoring.evaluate import evaluate, model_hash, write_reports
from uar_nb.systems.catalogue import SYSTEMS, make_model
from uar_nb.training import Trainer

every_system = pytest.mark.parametrize('name', CASES)


def same(a, b, eps=1e-10):
    torch.testing.assert_close(a, b, atol=eps, rtol=0)


def apart(a, b):
    "The largest difference of two tensors of logits, words that cannot come left out."
    there = a.isfinite() & b.isfinite()
    return (a[there] - b[there]).abs().max()


def test_each_system_has_a_case():
    assert {small_config(name).writer for name in CASES} == set(SYSTEMS)


def test_the_config_knows_the_systems_that_are_there():
    assert set(get_args(get_type_hints(SystemConfig)['writer'])) == set(SYSTEMS)


@every_system
def test_steps_equal_teacher_forcing(name):
    model, batch = small_model(name), small_batch()
    whole = model(batch).logits
    state = model.start(model.encode_image(batch), beams=2)
    for t in range(batch.text_in.shape[1]):
        logits = model.step(batch.text_in[:, t].repeat_interleave(2), state)
        same(logits[0::2], whole[:, t])
        same(logits[1::2], whole[:, t])


@every_system
def test_beams_go_on_from_each_other(name):
    "Two beams per study write different words, swap what they have written, and two studies leave."
    model, batch = small_model(name), small_batch()
    images = model.encode_image(batch)
    state = model.start(images, beams=2)
    first = torch.tensor([[BOS_ID, 5, 6], [BOS_ID, 7, PERIOD]])
    for t in range(3):
        model.step(first[:, t].repeat(4), state)
    studies = torch.tensor([1, 3])
    index = torch.tensor([3, 2, 6, 6])  # study 1: swapped; study 3: its first beam twice
    state.reorder(index, studies)
    logits = model.step(torch.tensor([8, 9, 10, 11]), state)
    texts = [[*first[i % 2], word] for i, word in zip(index.tolist(), (8, 9, 10, 11), strict=True)]
    for row, (text, study) in enumerate(zip(texts, (1, 1, 3, 3), strict=True)):
        alone = model.encode_image(batch.select([study]))
        same(logits[row], model.unroll(torch.tensor([text]), alone).logits[0, -1])


@every_system
def test_probabilities_sum_to_one(name):
    model, batch = small_model(name), small_batch()
    p = word_log_probs(model(batch).logits).exp()
    same(p.sum(-1), torch.ones_like(p[..., 0]))
    assert not p[..., [PAD_ID, BOS_ID]].any()


@every_system
def test_missing_views_and_padding_change_nothing(name):
    model, batch = small_model(name), small_batch()
    out = model(batch)
    other = small_batch()
    other.image_ids[1, 1] = (other.image_ids[1, 1] + 3) % 9
    same(model(other).logits[1], out.logits[1])
    other = small_batch()
    other.image_ids[1, 0] = (other.image_ids[1, 0] + 3) % 9
    assert apart(model(other).logits[1], out.logits[1]) > 1e-4  # what is there counts
    alone = small_batch().select([1])
    length = int((alone.report_ids != PAD_ID).sum())
    alone.report_ids = alone.report_ids[:, :length]
    same(model(alone).logits[0], out.logits[1, : length - 1])
    longer = small_batch()
    longer.report_ids = torch.nn.functional.pad(longer.report_ids, (0, 2))
    for loss, value in model(longer).losses.items():
        same(value, out.losses[loss])


@every_system
def test_a_study_of_one_view_needs_no_second(name):
    model, batch = small_model(name), small_batch().select([1])
    both = model(batch).logits
    batch.image_ids, batch.view_ids = batch.image_ids[:, :1], batch.view_ids[:, :1]
    batch.view_mask = batch.view_mask[:, :1]
    same(model(batch).logits, both)


@every_system
def test_the_order_of_places_says_nothing(name):
    model, batch, other = small_model(name), small_batch(), small_batch()
    other.image_ids = other.image_ids[:, :, torch.tensor([3, 1, 8, 0, 2, 4, 7, 6, 5])]
    if CASES[name].numbered:
        assert (model(other).logits - model(batch).logits).abs().max() > 1e-4
        return
    if CASES[name].same_views:
        for field in ('image_ids', 'view_ids', 'view_mask'):
            setattr(other, field, getattr(other, field).flip(1))
    same(model(other).logits, model(batch).logits)


@every_system
def test_positions_and_mixing_make_the_order_count(name):
    model = small_model(name, positions='2d', local_mixing=1)
    batch, other = small_batch(), small_batch()
    other.image_ids = other.image_ids.flip(2)
    assert apart(model(other).logits, model(batch).logits) > 1e-4


@every_system
def test_equals_numpy(name):
    "Every study's logits in float64 NumPy from the weights alone."
    model, batch = small_model(name), small_batch()
    logits = model(batch).logits.detach().numpy()
    w = {key: value.detach().numpy() for key, value in model.state_dict().items()}
    for study in range(len(batch)):
        ids = batch.image_ids[study, batch.view_mask[study]].flatten().numpy()
        words = batch.text_in[study].tolist()
        ours = CASES[name].numpy(w, w['grid.encoder.weight'][ids], words)
        np.testing.assert_allclose(logits[study], ours, atol=1e-10)


def by_heart(name, batch, until):
    "A system that has learned a batch; its words begin far apart, which makes it quick."
    with torch_rng('by heart', name):
        model = make_model(small_config(name, dropout=0.0, image_dropout=0.0))
        for key, parameter in model.named_parameters():
            if key.startswith(('words', 'head')):
                parameter.data.add_(0.6 * torch.randn_like(parameter))
        optimizer = torch.optim.Adam(model.parameters(), CASES[name].lr)
        for _ in range(400):
            loss = model(batch).total
            if loss < until:
                break
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return model.eval()


@every_system
def test_a_batch_is_learned_by_heart(name):
    batch = small_batch(seed=1)
    model = by_heart(name, batch, until=0.03)
    assert float(model(batch).losses['ce'].detach()) < 0.05
    for beams in (1, 3):
        assert generate(model, batch, beams).ids == [list(words) for words in REPORTS]


@every_system
def test_swapped_images_swap_the_reports(name):
    "Two studies with ten equal words and different images: what follows comes from the image."
    same_words = [5, 6, 7, PERIOD, 8, 9, 10, 11, 12, PERIOD]
    reports = [[*same_words, 5, PERIOD], [*same_words, 9, 6, PERIOD]]
    batch = small_batch(reports, seed=1)
    batch.image_ids = batch.image_ids % 4 + torch.tensor([0, 5])[:, None, None]
    model = by_heart(name, batch, until=0.015)
    assert generate(model, batch, 1).ids == reports
    swapped = batch.select([1, 0])
    assert generate(model, swapped, 1).ids == reports[::-1]


@every_system
def test_written_reports_are_read_back(name):
    model, batch = small_model(name), small_batch()
    images = model.encode_image(batch)
    for options in (dict(beams=1), dict(beams=3), dict(sample=True, seed=3)):
        written = generate(model, batch, **options)
        read = score_written(model, images, written)
        for ours, theirs in zip(read.logprobs, written.logprobs, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-9)
    if not CASES[name].attends:
        assert read.attention is None
        with pytest.raises(UARError, match='no attention'):
            model.cross_attention(batch)
        return
    layers, studies, heads, words, places = read.attention.shape
    assert (studies, places) == (4, 18)
    total = read.attention.sum(-1)
    assert bool((read.attention >= 0).all()) and bool((total <= 1 + 1e-9).all())
    assert float(read.attention[:, 1, :, :, 9:].sum()) == 0
    assert model.cross_attention(batch).shape[-2:] == (batch.text_in.shape[1], 18)


@every_system
def test_greedy_takes_the_likeliest_word(name):
    model, batch = small_model(name), small_batch()
    written = generate(model, batch, beams=1)
    state = model.start(model.encode_image(batch), 1)
    state.greedy = True
    last, texts = torch.full((4,), BOS_ID), [[] for _ in range(4)]
    for _ in range(model.config.max_words):
        last = word_log_probs(model.step(last, state)).argmax(-1)
        for text, word in zip(texts, last.tolist(), strict=True):
            text.append(word)
    cut = [text[: text.index(EOS_ID)] if EOS_ID in text else text for text in texts]
    assert written.ids == cut


@every_system
def test_every_parameter_has_a_gradient(name):
    model, batch = small_model(name).train(), small_batch()
    model(batch).total.backward()
    lacking = {
        key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()
    }
    assert lacking == CASES[name].without_gradient


@every_system
def test_saved_and_loaded(name, tmp_path):
    model = small_model(name).float()
    model.save_pretrained(tmp_path / 'm')
    again = type(model).from_pretrained(tmp_path / 'm')
    assert again.config == model.config and model_hash(again) == model_hash(model)
    run = RunConfig(model=model.config, data=DataConfig(max_words=model.config.max_words))
    assert RunConfig.from_dict(run.to_dict()) == run
    assert SystemConfig.from_dict(model.config.to_dict()) == model.config


@pytest.fixture(scope='module')
def studies():
    return make_studies(6, seed=3, style='single') + make_studies(
        2, seed=4, style='single', split='val'
    )


class Interrupted(Trainer):
    "Somebody presses Ctrl-C in its third step."

    def train_step(self, *args):
        if self.at.total == 2:
            signal.raise_signal(signal.SIGINT)
        return super().train_step(*args)


@every_system
def test_trained_stopped_and_resumed(name, studies, tmp_path):
    "A training of three steps; stopped and gone on with, it ends with the same bits."
    config = run_preset('phantom', name)
    small = {'model.d': 8, 'model.d_att': 8, 'model.heads': 2, 'model.d_ff': 8, 'model.layers': 1}
    small |= {'model.grid': 7, 'model.word_width': 8, 'data.max_words': 8, 'train.batch_size': 4}
    stage = dict(name='only', steps=4, lr=1e-3, trunk_lr=1e-4)
    small |= {'train.stages': [stage], 'train.beam': 1, 'train.eval_studies': 2}
    config = config.override(small | {'train.monitor': 'loss', 'train.threads': 1})

    def trainer(folder, kind=Trainer):
        made = prepare(config, studies)
        data = made.data['train'], made.data['val'], made.tokenizer
        return kind(made.config, made.model, *data, tmp_path / folder, progress=False)

    whole = trainer('whole')
    done = whole.fit()
    with pytest.raises(KeyboardInterrupt):
        trainer('again', Interrupted).fit()
    again = trainer('again')
    again.fit()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[key]), key
    checkpoint = load_checkpoint(done['checkpoint'])
    assert type(checkpoint.model) is SYSTEMS[config.model.writer]
    val = whole.validator.data
    wrote = write_reports(checkpoint.model, val, beams=2)
    scores = evaluate(checkpoint.model, val, beams=2, folder=tmp_path / 'e', metrics=('BLEU',))
    assert scores.reports == [text for text, _ in wrote]
