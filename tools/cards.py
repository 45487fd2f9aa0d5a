"""Model cards of the checkpoints that ship with the package.

python tools/cards.py     writes README.md of each, from its config.json and card.json
"""

import json

from huggingface_hub import EvalResult

from pages import ROOT
from uar_nb.checkpoint import model_card
from uar_nb.core import atomic_write, load_tensors

ASSETS = ROOT / 'uar_nb' / 'assets'
# of card.json → what they are called
METRICS = {'F1': 'F1 of findings (kind, side, zone)', 'CIDEr': 'CIDEr'}


def shipped():
    "The folders of the shipped checkpoints."
    return sorted(path.parent for path in ASSETS.glob('*/card.json'))


def card_text(folder):
    "README.md of a shipped checkpoint."
    config = json.loads((folder / 'config.json').read_text(encoding='utf-8'))
    kept = json.loads((folder / 'card.json').read_text(encoding='utf-8'))
    plan, scores = kept['plan'], kept.get('scores', {})
    results = [
        EvalResult(
            task_type='image-to-text',
            task_name='Reports of chest X-rays',
            dataset_type='uar_nb-phantoms',
            dataset_name=f'{plan["test"]} phantoms',
            metric_type=called,
            metric_value=scores[name],
        )
        for name, called in METRICS.items()
        if name in scores
    ]
    tensors, _ = load_tensors(folder / 'model.safetensors')
    weights = sum(tensor.numel() for tensor in tensors.values())
    trained_on = (
        f'It was trained on {plan["train"]:,} *phantoms*, chest X-rays that a program has drawn,'
        ' and has never seen a patient.'
    )
    if 'tokenizer_of' in kept:
        trained_on += (
            f" It reads the tokens of {kept['tokenizer_of']}'s tokenizer: give `tokenizer=`."
        )
    about = dict(license='apache-2.0', results=results, trained_on=trained_on)
    return model_card(folder.name, config, weights, **about)


if __name__ == '__main__':
    for folder in shipped():
        print(atomic_write(folder / 'README.md', card_text(folder)).relative_to(ROOT))
