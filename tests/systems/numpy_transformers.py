"""R2Gen's Base, R2Gen and R2GenCMN in float64 NumPy, from their weights alone."""

import numpy as np

HEADS, TOPK = 2, 3  # as in the small configs of the tests


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def linear(w, name, x):
    return x @ w[f'{name}.weight'].T + w[f'{name}.bias']


def numpy_norm(w, name, x, gain=0, bias=0):
    "A LayerNorm; `gain` and `bias` are what a memory adds."
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
    return (w[f'{name}.weight'] + gain) * x + w[f'{name}.bias'] + bias


def numpy_attention(w, name, x, y, allowed=None, topk=None):
    "Attention of x [T, d] to y [L, d] in HEADS heads; of which only the best few answer."
    q, k, v = (linear(w, f'{name}.{n}', z) for n, z in (('q', x), ('k', y), ('v', y)))
    answers = np.zeros_like(x)
    for cut in np.split(np.arange(x.shape[1]), HEADS):
        scores = q[:, cut] @ k[:, cut].T / len(cut) ** 0.5
        if allowed is not None:
            scores = np.where(allowed, scores, -np.inf)
        if topk:
            scores = np.where(scores >= np.sort(scores)[:, -topk, None], scores, -np.inf)
        weights = np.exp(scores - scores.max(1, keepdims=True))
        answers[:, cut] = weights / weights.sum(1, keepdims=True) @ v[:, cut]
    return linear(w, f'{name}.out', answers)


def numpy_mlp(w, name, x, first=0, second=2):
    return linear(w, f'{name}.{second}', np.maximum(linear(w, f'{name}.{first}', x), 0))


def numpy_sines(T, d):
    places = np.arange(T)[:, None] / 10_000 ** (np.arange(0, d, 2) / d)
    return np.stack([np.sin(places), np.cos(places)], -1).reshape(T, -1)[:, :d]


def numpy_relational(w, y):
    "R2Gen's memory after each of the words [T, d]: [T, slots * d]."
    M, seen = np.eye(3, y.shape[1]), []
    for word in y:
        A = M + numpy_attention(w, 'memory.attention', M, np.vstack([M, word]))
        proposal = A + np.maximum(numpy_mlp(w, 'memory.mlp', A), 0)
        gates = linear(w, 'memory.word_gates', word)
        i, f = np.split(gates + linear(w, 'memory.memory_gates', np.tanh(M)), 2, 1)
        M = sigmoid(i) * np.tanh(proposal) + sigmoid(f) * M
        seen.append(M.ravel())
    return np.stack(seen)


def numpy_decoder_layer(w, name, x, image, memory):
    "A decoder layer; where there is a memory, it shifts the three norms."

    def norm(number, x):
        path = f'{name}.norm{number}'
        shifts = [] if memory is None else ['gain_mlp', 'bias_mlp']
        return numpy_norm(w, path, x, *(numpy_mlp(w, f'{path}.{s}', memory) for s in shifts))

    h = norm(1, x)
    x = x + numpy_attention(w, f'{name}.attention', h, h, np.tri(len(x), dtype=bool))
    x = x + numpy_attention(w, f'{name}.cross', norm(2, x), image)
    return x + numpy_mlp(w, f'{name}.feed_forward', norm(3, x), 'inner', 'outer')


def numpy_transformer(memory='none', sines=False, batch_norm=False):
    "What gives the logits [T, V] of R2Gen's Base, of R2Gen or of R2GenCMN."

    def ask(w, norm, x, there):
        "R2GenCMN: what asks, normalised where it is there, and the answer of its memory."
        if memory != 'cmn':
            return x
        if batch_norm:
            normal = (x - w[f'{norm}.running_mean']) / np.sqrt(w[f'{norm}.running_var'] + 1e-5)
            normal = normal * w[f'{norm}.weight'] + w[f'{norm}.bias']
            x = np.where(there[:, None], normal, x)
        rows, topk = w['memory.B'], TOPK
        return x + numpy_attention(w, 'memory.attention', x, rows, topk=topk)

    def logits(w, places, words):
        x = np.maximum(linear(w, 'embed_places.linear', places), 0)
        x = ask(w, 'place_norm', x, np.ones(len(x), bool))
        if sines:
            x = x + numpy_sines(*x.shape)
        h = numpy_norm(w, 'encoder.layers.0.norm1', x)
        x = x + numpy_attention(w, 'encoder.layers.0.attention', h, h)
        h = numpy_norm(w, 'encoder.layers.0.norm2', x)
        x = x + numpy_mlp(w, 'encoder.layers.0.feed_forward', h, 'inner', 'outer')
        image = numpy_norm(w, 'encoder.norm', x)

        y = w['words.weight'][words] * w['words.weight'].shape[1] ** 0.5
        y = ask(w, 'word_norm', y + numpy_sines(*y.shape), np.array(words) != 0)
        slots = numpy_relational(w, y) if memory == 'slots' else None
        y = numpy_decoder_layer(w, 'decoder.layers.0', y, image, slots)
        return linear(w, 'head', numpy_norm(w, 'decoder.norm', y))

    return logits
