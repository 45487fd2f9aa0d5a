"A name of a variant means one model and one training, wherever it is used."

import ast
from dataclasses import replace

import pytest

from pages import ROOT
from uar_nb.apps.demo import PLANS
from uar_nb.apps.tables import refine_config
from uar_nb.config import (
    LAST_STAGE,
    MODEL_PRESETS,
    SECOND_STAGES,
    TOLD_WHERE,
    VARIANTS,
    model_preset,
)


@pytest.mark.parametrize('name', SECOND_STAGES)
def test_a_second_stage_and_a_preset_of_one_name_are_one_model(name):
    """`uar refine --variant NAME` and `uar train --model NAME` end with the same model and
    weights of losses."""
    plan = PLANS['toy']
    refined = refine_config(plan, name)
    trained = replace(plan, model=name).run_config()
    assert refined.model == trained.model
    [second], last = refined.train.stages, trained.train.stages[-1]
    if len(trained.train.stages) == 2:
        assert second == last
    assert second.mask_on == (refined.model.mask != 'none')


def test_one_table_holds_every_name():
    assert {*MODEL_PRESETS, *SECOND_STAGES, *TOLD_WHERE} == set(VARIANTS)
    assert all(MODEL_PRESETS[name] is VARIANTS[name] for name in MODEL_PRESETS)
    assert set(LAST_STAGE) <= set(VARIANTS)
    assert len(VARIANTS) >= 25
    tables = []
    for path in (ROOT / 'uar_nb').rglob('*.py'):
        for node in ast.parse(path.read_text(encoding='utf-8')).body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                keys = {key.value for key in node.value.keys if isinstance(key, ast.Constant)}
                if {'uar', 'literal', 'gate'} & keys:
                    tables.append((path.stem, node.targets[0].id))
    assert sorted(tables) == [('config', 'LAST_STAGE'), ('config', 'VARIANTS')] + [
        ('tables', '_FORMER_NAMES')
    ]


def test_names_that_meant_two_models_are_apart():
    "Before the table, `literal` and `gate` were other models as presets than as second stages."
    for whole, second in (('literal', 'literal-mask'), ('gate', 'gate-init-0.02')):
        assert model_preset(whole) != model_preset(second)
        assert whole not in SECOND_STAGES and second not in MODEL_PRESETS


def test_names_can_stand_in_a_list():
    assert not [name for name in VARIANTS if ',' in name or ' ' in name]
