"""OpenAI's released package with random weights goes the whole way: a pickle as PyTorch saves it,
the list of allowed classes, safetensors, tokens of a data set.

The package brings no weights. Where it is not installed these tests are skipped; install it with
`pip install --no-deps DALL-E`, for what its metadata asks for breaks a CPU build of PyTorch.
"""

import io
import json

import pytest
import torch

pytest.importorskip('dall_e', reason='pip install --no-deps DALL-E')
import dall_e

from uar_nb.apps.pipeline import tokenize_data_set
from uar_nb.core import UARError, torch_rng
from uar_nb.data.image import resize_image
from uar_nb.phantom.generator import make_studies, write_studies
from uar_nb.tokenizer.dalle import convert_pickle, load_dalle, read_pickle

TINY = dict(n_hid=64, n_blk_per_group=1, vocab_size=512)
BYTES = {'Encoder': 215_189_573, 'Decoder': 175_364_351}  # of the table in the lesson


def released(kind, **sizes):
    "An encoder or decoder of the released package, its weights drawn at random."
    with torch_rng('released', kind):
        return getattr(dall_e, kind)(**sizes)


def pickled(network, new_format=True):
    "What `torch.save` writes: today's zip, or pickles one after the other as until PyTorch 1.5."
    with io.BytesIO() as out:
        torch.save(network, out, _use_new_zipfile_serialization=new_format)
        return out.getvalue()


def theirs(encoder, images):
    "Tokens as the package's own example makes them: map the pixels, encode, take the best word."
    with torch.no_grad():
        scores = encoder(dall_e.map_pixels(images.repeat(1, 3, 1, 1)))
    return torch.argmax(scores, dim=1).flatten(1)


def whole_way(encoder, folder):
    "Pickle → safetensors → tokenizer; its tokens are those of the package."
    (folder / 'encoder.pkl').write_bytes(pickled(encoder))
    converted = convert_pickle(folder / 'encoder.pkl', folder / 'dalle')
    assert sorted(path.name for path in converted.iterdir()) == ['config.json', 'model.safetensors']
    dvae = load_dalle(converted)
    images = torch.rand(2, 1, 112, 112, generator=torch.Generator().manual_seed(3))
    ids = dvae.encode(images)
    assert torch.equal(ids, theirs(encoder.eval(), images)) and ids.shape == (2, 196)
    assert len(ids.unique()) > 1
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, dvae.encoder.state_dict()[name]), name
    return converted


def test_a_pickled_encoder_becomes_a_tokenizer(tmp_path):
    whole_way(released('Encoder', **TINY), tmp_path)


def test_a_network_in_the_format_before_pytorch_1_6_is_refused_by_its_name(tmp_path):
    "Its arrays alone are read; for a whole network the error says what to do."
    encoder = released('Encoder', **TINY)
    arrays = read_pickle(pickled(encoder.state_dict(), new_format=False))
    assert all(torch.equal(arrays[name], t) for name, t in encoder.state_dict().items())
    with pytest.raises(UARError, match='before 1.6.*save its state_dict'):
        read_pickle(pickled(encoder, new_format=False))


def test_a_data_set_gets_its_tokens(tmp_path):
    "As `uar tokenize` makes them; those of a whole image are what the package makes of it."
    encoder = released('Encoder', **TINY)
    folder = whole_way(encoder, tmp_path)
    studies = make_studies(3, seed=1)
    data = write_studies(studies, tmp_path / 'set')
    store = tokenize_data_set(data, folder, tmp_path / 'tokens', crops=1)
    assert store.ids.shape[0] == 6 and store.ids.shape[2] == 196
    image = torch.from_numpy(studies[0].views[0].pixels)[None, None].float()
    resized = resize_image(image) / 255  # slot 0 of the store: the whole image at 112 pixels
    kept = torch.from_numpy(store.ids[0, 0].astype('int64'))
    assert torch.equal(kept, theirs(encoder.eval(), resized)[0])


# 0.5 min: 54 million weights through a pickle of 215 MB
@pytest.mark.slow
def test_at_its_full_size(tmp_path):
    encoder = released('Encoder')
    folder = whole_way(encoder, tmp_path)
    assert abs((tmp_path / 'encoder.pkl').stat().st_size - BYTES['Encoder']) < 100_000
    about = json.loads((folder / 'config.json').read_text(encoding='utf-8'))
    assert about['codebook_size'] == 8192
    decoder = released('Decoder')
    (tmp_path / 'decoder.pkl').write_bytes(pickled(decoder))
    assert abs((tmp_path / 'decoder.pkl').stat().st_size - BYTES['Decoder']) < 100_000
    both = convert_pickle(tmp_path / 'encoder.pkl', tmp_path / 'both', tmp_path / 'decoder.pkl')
    dvae = load_dalle(both)
    image = dvae.decode(dvae.encode(torch.rand(1, 1, 112, 112)))
    assert image.shape == (1, 1, 112, 112) and 0 <= image.min() <= image.max() <= 1
