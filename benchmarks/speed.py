"""UAR beside a plain Transformer of the same size, on CPU: time of a training step and of
writing 16 reports by beam search.

    python benchmarks/speed.py [--threads 2] [--repeats 5] [--clock wall] [--out
    data/results/speed.json]

Both have d = 512, 3+3 layers, 8 heads, feed-forward 2,048, 392 visual tokens of 8,192 codes, 60
words of a vocabulary of 1,000, batch 16, and dropout on what each part adds to
the residual stream (never on attention weights, which would take the fast attention of CPUs from
both); a second pair of rows is without any dropout. The plain one
is made of torch's own `nn.TransformerEncoderLayer` and of decoder layers on
`F.scaled_dot_product_attention` with a key/value cache: token embeddings and positions go
straight in, there is no CRA, no global loss and no mask. UAR has its basis of 2,048 vectors,
both gates, the triplet loss and a predicted mask. The two take turns, so that
a slow minute of the machine hits both; medians and their ratio are kept.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from uar_nb.config import model_preset
from uar_nb.core import atomic_write, torch_rng
from uar_nb.data.batch import Batch
from uar_nb.generation import generate
from uar_nb.model import UAR

D, HEADS, FF, LAYERS, CODES, WORDS, PLACES, LENGTH, B, BEAMS = (
    512,
    8,
    2048,
    3,
    8192,
    1000,
    392,
    60,
    16,
    3,
)


class PlainDecoderLayer(nn.Module):
    "Pre-LN decoder layer on scaled-dot-product attention; with a cache it takes one word per row."

    def __init__(self):
        super().__init__()
        self.own, self.cross_q, self.cross_kv = (
            nn.Linear(D, 3 * D),
            nn.Linear(D, D),
            nn.Linear(D, 2 * D),
        )
        self.own_out, self.cross_out = nn.Linear(D, D), nn.Linear(D, D)
        self.ff = nn.Sequential(nn.Linear(D, FF), nn.ReLU(), nn.Linear(FF, D))
        self.norms, self.drop = nn.ModuleList(nn.LayerNorm(D) for _ in range(3)), nn.Dropout(0.1)

    def split(self, x):
        return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)

    def memory(self, x):
        return [self.split(t) for t in self.cross_kv(x).chunk(2, -1)]

    def forward(self, x, memory, past=None):
        q, k, v = (self.split(t) for t in self.own(self.norms[0](x)).chunk(3, -1))
        if past is not None:
            if past:
                k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
            past[:] = [k, v]
        a = F.scaled_dot_product_attention(q, k, v, is_causal=past is None)
        x = x + self.drop(self.own_out(a.transpose(1, 2).flatten(2)))
        q, rows = self.split(self.cross_q(self.norms[1](x))), memory[0].shape[0]
        if q.shape[0] != rows:  # beams of a study share its image keys
            q = q.view(rows, -1, HEADS, D // HEADS).transpose(1, 2)
            a = F.scaled_dot_product_attention(q, *memory).transpose(1, 2).reshape(x.shape)
        else:
            a = F.scaled_dot_product_attention(q, *memory).transpose(1, 2).flatten(2)
        x = x + self.drop(self.cross_out(a))
        return x + self.drop(self.ff(self.norms[2](x)))


class Plain(nn.Module):
    "Embeddings, torch's own encoder, the decoder above, a head."

    def __init__(self):
        super().__init__()
        self.codes, self.words = nn.Embedding(CODES, D), nn.Embedding(WORDS, D)
        self.places, self.steps = (
            nn.Parameter(torch.randn(PLACES, D) * 0.02),
            nn.Parameter(torch.randn(LENGTH, D) * 0.02),
        )
        layer = nn.TransformerEncoderLayer(D, HEADS, FF, 0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(
            layer, LAYERS, nn.LayerNorm(D), enable_nested_tensor=False
        )
        for layer in self.encoder.layers:
            layer.self_attn.dropout, layer.dropout.p = (
                0.0,
                0.0,
            )  # attention weights, inside the feed-forward part
        self.decoder, self.norm, self.head = (
            nn.ModuleList(PlainDecoderLayer() for _ in range(LAYERS)),
            nn.LayerNorm(D),
            nn.Linear(D, WORDS),
        )

    def memory(self, ids):
        x = self.encoder(self.codes(ids) + self.places)
        return [layer.memory(x) for layer in self.decoder]

    def forward(self, ids, text):
        x, memory = self.words(text[:, :-1]) + self.steps[: text.shape[1] - 1], self.memory(ids)
        for layer, m in zip(self.decoder, memory, strict=True):
            x = layer(x, m)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), text[:, 1:].flatten())

    @torch.no_grad()
    def beam(self, ids):
        """All 60 words of 16 reports: keys and values are cached, a top-k a step, the cache
        follows the beams."""
        memory, past = self.memory(ids), [[] for _ in self.decoder]
        last, sums = torch.ones(B * BEAMS, dtype=torch.long), torch.full((B, BEAMS), -1e9)
        sums[:, 0], words = 0.0, torch.zeros(B * BEAMS, 0, dtype=torch.long)
        for t in range(LENGTH):
            x = self.words(last[:, None]) + self.steps[t]
            for layer, m, p in zip(self.decoder, memory, past, strict=True):
                x = layer(x, m, p)
            total, at = (
                (
                    sums[:, :, None]
                    + self.head(self.norm(x))[:, 0].log_softmax(-1).view(B, BEAMS, -1)
                )
                .flatten(1)
                .topk(BEAMS)
            )
            rows = (torch.arange(B)[:, None] * BEAMS + at // WORDS).flatten()
            sums, last, words = (
                total,
                (at % WORDS).flatten(),
                torch.cat([words[rows], (at % WORDS).view(-1, 1)], 1),
            )
            past = [[k[rows], v[rows]] for k, v in past]
        return words


def make_batch():
    """Random tokens and words; every report has all its words, so both models write and read the
    same number."""
    with torch_rng('speed'):
        reports = torch.randint(4, WORDS, (B, LENGTH + 1))
        ids = torch.randint(CODES, (B, 2, PLACES // 2))
    return Batch(
        [str(i) for i in range(B)],
        ids,
        None,
        torch.tensor([[0, 1]] * B),
        torch.ones(B, 2, dtype=torch.bool),
        reports,
        torch.arange(B),
    )


def drop(plain, uar, p):
    "Set the dropout of both."
    inner = [layer.dropout for layer in plain.encoder.layers]
    for part in plain.modules():
        if isinstance(part, nn.Dropout) and not any(part is i for i in inner):
            part.p = p
    for layer in (*uar.encoder.layers, *uar.decoder.layers):
        layer.dropout = p
    uar.config = uar.config.override({'dropout': p, 'image_dropout': p})


def step(model, optimizer, loss):
    "One training step."
    optimizer.zero_grad(set_to_none=True)
    loss().backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def measure(uar, plain, batch, repeats, clock):
    "Seconds of each kind of work, taking turns; the first turn warms up and is dropped."

    def timed(work):
        begin = clock()
        work()
        return clock() - begin

    ids = batch.image_ids.flatten(1)
    ours, theirs = (
        torch.optim.AdamW(uar.parameters(), 1e-4),
        torch.optim.AdamW(plain.parameters(), 1e-4),
    )
    rows = (
        'train_plain',
        'train_uar',
        'train_plain_no_dropout',
        'train_uar_no_dropout',
        'write_plain',
        'write_uar',
        'write_uar_first',
    )
    times = {name: [] for name in rows}
    for _ in range(repeats + 1):
        plain.train(), uar.train()
        for p, kind in ((0.1, ''), (0.0, '_no_dropout')):
            drop(plain, uar, p)
            times['train_plain' + kind].append(
                timed(lambda: step(plain, theirs, lambda: plain(ids, batch.report_ids)))
            )
            times['train_uar' + kind].append(
                timed(lambda: step(uar, ours, lambda: uar(batch).total))
            )
    uar.head_bias.data[2] = -1e4  # never <eos>: both write 60 words
    for _ in range(repeats + 1):
        plain.eval(), uar.eval()
        times['write_plain'].append(timed(lambda: plain.beam(ids)))
        uar.train()  # forgets the table of 9,192 features, so that it is made anew
        times['write_uar_first'].append(timed(lambda: generate(uar.eval(), batch, BEAMS)))
        times['write_uar'].append(timed(lambda: generate(uar, batch, BEAMS)))
    return {name: t[1:] for name, t in times.items()}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument('--threads', type=int, default=2)
    arguments.add_argument('--repeats', type=int, default=5)
    arguments.add_argument(
        '--clock',
        choices=('wall', 'cpu'),
        default='wall',
        help='cpu: seconds of processor time, for a machine that others use too',
    )
    arguments.add_argument('--out', default='data/results/speed.json')
    a = arguments.parse_args()
    torch.set_num_threads(a.threads)
    with torch_rng('speed', 'weights'):
        uar, plain = UAR(model_preset('uar', text_vocab=WORDS)), Plain()
    times = measure(
        uar,
        plain,
        make_batch(),
        a.repeats,
        time.perf_counter if a.clock == 'wall' else time.process_time,
    )
    median = {name: round(statistics.median(t), 3) for name, t in times.items()}
    ratios = {
        'training step': round(median['train_uar'] / median['train_plain'], 3),
        'training step, no dropout': round(
            median['train_uar_no_dropout'] / median['train_plain_no_dropout'], 3
        ),
        'writing': round(median['write_uar'] / median['write_plain'], 3),
        'writing, first batch': round(median['write_uar_first'] / median['write_plain'], 3),
    }
    result = dict(
        ratios=ratios,
        median_seconds=median,
        seconds={k: [round(x, 3) for x in t] for k, t in times.items()},
        threads=a.threads,
        repeats=a.repeats,
        clock=a.clock,
        parameters=dict(
            uar=sum(p.numel() for p in uar.parameters()),
            plain=sum(p.numel() for p in plain.parameters()),
        ),
        torch=torch.__version__,
        machine=platform.machine(),
        size=dict(
            d=D,
            layers=LAYERS,
            heads=HEADS,
            d_ff=FF,
            codes=CODES,
            words=WORDS,
            places=PLACES,
            length=LENGTH,
            batch=B,
            beams=BEAMS,
        ),
    )
    print(json.dumps(dict(ratios=ratios, median_seconds=median), indent=1))
    atomic_write(Path(a.out), result)


if __name__ == '__main__':
    main()
