"""Tables 2 to 4 and Figures 3, 4 and 6 of the paper: what each compares or measures, against a
computation that is not ours."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from uar_nb.analysis.grounding import word_attention
from uar_nb.analysis.retrieval import alignment_curve, alignment_score, retrieve
from uar_nb.config import model_preset, run_preset
from uar_nb.cra import CRA, make_basis
from uar_nb.data.batch import Batch
from uar_nb.data.boxes import tokens_inside
from uar_nb.model import UAR
from uar_nb.tir import TIR

# LSU, CRA, global loss, TIR, two stages: the ticks of Table 2
TICKS = {
    'base': '-----',
    'a': '+----',
    'b': '-+---',
    'c': '--+--',
    'd': '-++--',
    'e': '+++--',
    'f': '++++-',
    'uar': '+++++',
}
SMALL = dict(
    text_vocab=30,
    period_id=4,
    image_vocab=16,
    d=16,
    heads=2,
    cra_heads=2,
    d_ff=16,
    encoder_layers=1,
    decoder_layers=2,
    basis_size=16,
    max_words=8,
    dropout=0.0,
    image_dropout=0.0,
)


def tiny(name='uar', **changes):
    "A small model of a row, and a batch of tokens, images and reports."
    config = model_preset(name, **{**SMALL, **changes})
    if config.visual == 'resnet101':
        config = config.override({'visual': 'small_cnn'})
    torch.manual_seed(0)
    reports = torch.tensor(
        [[1, 5, 6, 4, 7, 8, 4, 2], [1, 9, 4, 10, 11, 12, 4, 2], [1, 13, 14, 4, 15, 4, 2, 0]]
    )
    ids, images = torch.randint(16, (3, 2, 196)), torch.rand(3, 2, 1, 112, 112)
    return UAR(config), Batch(
        list('abc'),
        ids,
        images,
        torch.tensor([[0, 1]] * 3),
        torch.ones(3, 2, dtype=torch.bool),
        reports,
        torch.arange(3),
    )


@pytest.mark.parametrize('row', TICKS)
def test_table_2_each_row_has_the_parts_that_its_ticks_name(row):
    model, batch = tiny(row)
    out = model(batch)
    stages = run_preset('iu_xray', row).train.stages
    has = (
        model.lsu.image_table is not None,
        model.cra is not None,
        'global' in out.losses,
        any(isinstance(m, TIR) for m in model.modules()),
        len(stages) == 2,
    )
    assert ''.join('-+'[h] for h in has) == TICKS[row]
    assert torch.isfinite(out.total) and ('mask' in out.losses) == (TICKS[row][3] == '+')


def test_table_3_kinds_of_basis():
    """Orthogonal: NumPy's own QR spans the same, each group is orthonormal; uniform and normal:
    the moments of their distributions, of equal variance."""
    d, n = 64, 256
    basis = {
        kind: make_basis(kind, n, d).double().numpy()
        for kind in ('orthogonal', 'uniform', 'normal')
    }
    for group in np.split(basis['orthogonal'], n // d):
        np.testing.assert_allclose(np.linalg.inv(group), group.T, atol=1e-5)
    np.testing.assert_allclose(
        np.linalg.svd(basis['orthogonal'], compute_uv=False), np.sqrt(n / d), rtol=1e-5
    )
    for kind, fourth in (('uniform', 9 / 5), ('normal', 3)):
        x = basis[kind].ravel() * np.sqrt(d)
        assert (
            abs(x.mean()) < 0.03 and abs(x.var() - 1) < 0.05 and abs((x**4).mean() - fourth) < 0.15
        )
        assert np.ptp(np.linalg.svd(basis[kind], compute_uv=False)) > 0.5
    assert np.abs(basis['uniform']).max() <= np.sqrt(3 / d)


@pytest.mark.parametrize('fusion', ['none', 'addition', 'dual_gate'])
def test_table_4_fusions_of_torchs_attention(fusion):
    "F~ by torch's own attention layer with the same weights, then each formula of Table 4 by hand."
    torch.manual_seed(1)
    cra, peer = (
        CRA(16, 2, 24, fusion=fusion).eval(),
        nn.MultiheadAttention(16, 2, batch_first=True).eval(),
    )
    ours = cra.attention
    with torch.no_grad():
        peer.in_proj_weight.copy_(torch.cat([ours.q.weight, ours.k.weight, ours.v.weight]))
        peer.in_proj_bias.copy_(torch.cat([ours.q.bias, ours.k.bias, ours.v.bias]))
        peer.out_proj.load_state_dict(ours.out.state_dict())
        E = torch.randn(2, 5, 16)
        basis = cra.adjusted()[None].expand(2, -1, -1)
        A = peer(E, basis, basis, need_weights=False)[0]
        gate = (
            (E @ cra.gate_e.weight.T + F.linear(A, cra.gate_f.weight, cra.gate_f.bias)).sigmoid()
            if fusion == 'dual_gate'
            else None
        )
        wanted = {
            'none': lambda: A,
            'addition': lambda: E + A,
            'dual_gate': lambda: gate[..., :16] * torch.tanh(E + A) + gate[..., 16:] * E + A,
        }[fusion]()
        got = cra(E)
    torch.testing.assert_close(
        got[0] if isinstance(got, tuple) else got, wanted, atol=1e-5, rtol=1e-4
    )


def test_figure_3_retrieval_is_scikit_learns_top_k():
    metrics = pytest.importorskip('sklearn.metrics')
    rng = np.random.default_rng(0)
    image = rng.normal(size=(40, 8))
    text = image + 1.5 * rng.normal(size=(40, 8))
    cosine = metrics.pairwise.cosine_similarity(image, text)
    found = retrieve(image, text).summary()
    for way, s in (('image_to_text', cosine), ('text_to_image', cosine.T)):
        for k in (1, 5, 10):
            assert found[way][f'recall@{k}'] == pytest.approx(
                metrics.top_k_accuracy_score(np.arange(40), s, k=k)
            )
        assert found[way]['mrr'] == pytest.approx(
            metrics.label_ranking_average_precision_score(np.eye(40), s)
        )


def test_figure_4_alignment_score_is_that_of_scikit_learns_scaler():
    scale = pytest.importorskip('sklearn.preprocessing').minmax_scale
    s = np.random.default_rng(1).normal(size=(30, 30)) + np.eye(30)
    for reading, z in (('global', scale(s.ravel()).reshape(s.shape)), ('row', scale(s, axis=1))):
        at, shares, area = alignment_curve(s, reading)
        assert (
            alignment_score(s, reading)
            == pytest.approx(np.mean([z[i, i] > 0.5 for i in range(30)]))
            == pytest.approx(shares[list(at.round(2)).index(0.5)])
        )
        assert area == pytest.approx(
            np.mean([(np.diag(z) > t).mean() for t in np.linspace(0, 1, 20001)]), abs=1e-3
        )


def test_figure_6_attention_is_that_of_torchs_own_layer():
    """What goes into each layer's projections, given to torch's attention layer with the same
    weights; a box of the whole image holds all of the attention."""
    model, batch = tiny(mask='none')
    model.eval()
    went_in = {}
    for i, layer in enumerate(model.decoder.layers):
        for name in ('q', 'k'):
            getattr(layer.cross, name).register_forward_hook(
                lambda m, given, out, key=(i, name): went_in.__setitem__(key, given[0].detach())
            )
    weights = word_attention(model, batch)
    assert weights.shape == (2, 3, 7, 392)
    for i, layer in enumerate(model.decoder.layers):
        ours, peer = layer.cross, nn.MultiheadAttention(16, 2, batch_first=True).eval()
        with torch.no_grad():
            peer.in_proj_weight.copy_(torch.cat([ours.q.weight, ours.k.weight, ours.v.weight]))
            peer.in_proj_bias.copy_(torch.cat([ours.q.bias, ours.k.bias, ours.v.bias]))
            wanted = peer(went_in[i, 'q'], went_in[i, 'k'], went_in[i, 'k'])[1]  # heads averaged
        np.testing.assert_allclose(weights[i], wanted.numpy(), atol=1e-5)
    inside, left = (
        tokens_inside([(0, 0, 128, 128)]),
        tokens_inside([(0, 0, 64, 128)]).reshape(14, 14),
    )
    np.testing.assert_allclose((weights * np.tile(inside, 2)).sum(-1), 1, atol=1e-5)
    assert left[:, :7].all() and not left[:, 7:].any()
