"""UAR's own rows of Table 1 (`base`, `uar`, and UAR as printed) look at the image: two studies with
ten equal words are learned by heart, and swapped images swap the reports."""

import pytest
import torch
from system_cases import PERIOD, small_batch

from uar_nb.apps.table_rows import RECIPES, find_table, row_config
from uar_nb.core import torch_rng
from uar_nb.generation import generate
from uar_nb.systems.catalogue import make_model

ROWS = ['base', 'uar', 'uar-literal']
SMALL = dict(
    text_vocab=13,
    image_vocab=9,
    grid=3,
    views=2,
    max_words=16,
    period_id=PERIOD,
    d=32,
    heads=2,
    cra_heads=2,
    d_ff=48,
    basis_size=32,
    dropout=0.0,
    image_dropout=0.0,
)
SAME_WORDS = [5, 6, 7, PERIOD, 8, 9, 10, 11, 12, PERIOD]
REPORTS = [[*SAME_WORDS, 5, PERIOD], [*SAME_WORDS, 9, 6, PERIOD]]


def row_model(name):
    "The model of a row of Table 1, with the row's own settings, small; and its stages."
    table = find_table('1')
    [row] = [row for row in table.rows if row.name == name]
    config = row_config(table, row, RECIPES['phantom'], (1e-3, 0.0))
    return make_model(config.model.override(SMALL)), config.train.stages


def two_studies():
    "Images of different tokens, reports of ten equal words and others after them."
    batch = small_batch(REPORTS, seed=1)
    batch.image_ids = batch.image_ids % 4 + torch.tensor([0, 5])[:, None, None]
    return batch


@pytest.mark.parametrize('name', ROWS)
def test_swapped_images_swap_the_reports(name):
    "By the row's own losses, in each stage: without the mask, then with it where the row has one."
    batch = two_studies()
    with torch_rng('by heart', name):
        model, stages = row_model(name)
        assert model.config.visual == 'tokens'
        optimizer = torch.optim.Adam(model.parameters(), 5e-3)
        for stage in stages:
            model.enable_mask(stage.mask_on)
            model.train()
            for step in range(400):
                out = model(batch)
                if step >= 20 and out.losses['ce'] < 0.015:
                    break
                optimizer.zero_grad()
                out.total.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            model.eval()
            assert float(out.losses['ce'].detach()) < 0.015
            assert generate(model, batch, 1).ids == REPORTS
            assert generate(model, batch.select([1, 0]), 1).ids == REPORTS[::-1]
