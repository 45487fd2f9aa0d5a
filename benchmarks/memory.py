"""What one training step of UAR at the paper's size keeps and computes, counted on a CPU at
small batches; nothing here is measured on a GPU.

    python benchmarks/memory.py [--out data/results/memory.json]

For the presets `iu_xray` (two views, 60 words) and `mimic_cxr` (one view, 100 words), stage 2,
vocabulary of 1,000 words, 8,192 codes:

- parameters, and the bytes of weights, gradients and AdamW's two moments: 4 × 4 bytes a parameter;
- kept: bytes of all distinct tensors that the forward pass keeps for the backward pass, weights
  not counted, in 32 bits. The line through batches 2 and 4 is
  kept(n) = fixed + n × each; batch 8 says how far off the line is. Distinct visual tokens share
  their features, so the truth bends below the line;
- flops: floating-point operations of the matrix products of a step, forward and backward, as
  torch counts them; the same line.
"""

import argparse
import json
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from uar_nb.config import run_preset
from uar_nb.core import atomic_write, torch_rng
from uar_nb.data.batch import Batch
from uar_nb.model import UAR

WORDS = 1000


def make_batch(config, n):
    "Random tokens and full reports, the worst case of each preset."
    with torch_rng('memory', n):
        reports = torch.randint(4, WORDS, (n, config.max_words + 1))
        ids = torch.randint(config.image_vocab, (n, config.views, config.grid**2))
    return Batch(
        [str(i) for i in range(n)],
        ids,
        None,
        torch.tensor([list(range(config.views))] * n),
        torch.ones(n, config.views, dtype=torch.bool),
        reports,
        torch.arange(n),
    )


def count(config, n):
    "Bytes kept for the backward pass, and operations of a whole step, at batch n."
    with torch_rng('memory', 'weights'):
        model = UAR(config).train()
    model.enable_mask(True)
    batch, weights, kept = (
        make_batch(config, n),
        {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())},
        {},
    )

    def keep(t):
        s = t.untyped_storage()
        if s.data_ptr() not in weights:
            kept[s.data_ptr()] = s.nbytes()
        return t

    with FlopCounterMode(display=False) as flops:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            total = model(batch).total
        total.backward()
    return sum(kept.values()), flops.get_total_flops(), sum(p.numel() for p in model.parameters())


def line(two, four):
    return dict(fixed=two - (four - two), each=(four - two) / 2)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument('--out', default='data/results/memory.json')
    found = {}
    for preset in ('iu_xray', 'mimic_cxr'):
        config = run_preset(preset).model.override({'text_vocab': WORDS, 'period_id': 4})
        counts = {n: count(config, n) for n in (2, 4, 8)}
        kept, flops = (line(counts[2][i], counts[4][i]) for i in (0, 1))
        found[preset] = dict(
            parameters=counts[2][2],
            views=config.views,
            words=config.max_words,
            kept={n: c[0] for n, c in counts.items()},
            flops={n: c[1] for n, c in counts.items()},
            kept_line=kept,
            flops_line=flops,
            kept_8_over_line=round(counts[8][0] / (kept['fixed'] + 8 * kept['each']), 3),
            flops_8_over_line=round(counts[8][1] / (flops['fixed'] + 8 * flops['each']), 3),
        )
    result = dict(
        presets=found,
        vocabulary=WORDS,
        bytes_a_number=4,
        torch=torch.__version__,
        measured_on_gpu=False,
    )
    print(json.dumps(result, indent=1))
    atomic_write(Path(arguments.parse_args().out), result)


if __name__ == '__main__':
    main()
