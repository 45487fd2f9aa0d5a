"""Terms of nbs/reference/glossary.ipynb: which first uses in the lessons are not linked yet.

python tools/glossary.py         what is missing
python tools/glossary.py link    links them, in the notebooks' markdown alone; outputs stay as
they are
"""

import functools
import json
import re
import sys

import pages

SKIP = ('start', 'reference')  # kinds of pages without links to terms

# Term as a regular expression → its heading in the glossary. Everyday words (token, view, stage,
# box, reference, seed) are linked where they stand in a technical phrase.
FORMS = {
    r'phantoms?': 'phantom',
    r'optical depths?': 'optical depth',
    r'direct resize': 'direct resize',
    r'DICOM': 'DICOM',
    r'de-identification': 'de-identification',
    r'MeSH': 'MeSH',
    r'FINDINGS section|FINDINGS': 'FINDINGS section',
    r'vocabulary': 'vocabulary',
    r'visual tokens?|image tokens?': 'visual token',
    r'dVAEs?': 'dVAE',
    r'codebooks?': 'codebook',
    r'Gumbel-softmax': 'Gumbel-softmax',
    r'perplexity': 'perplexity',
    r'PSNR': 'PSNR',
    r'SSIM': 'SSIM',
    r'tokenizers?': 'tokenizer',
    r'LSU|Latent Space Unifier': 'LSU',
    r'embeddings?': 'embedding',
    r'modality|modalities': 'modality',
    r'CRA|Cross-modal Representation Aligner': 'CRA',
    r'orthonormal': 'orthonormal',
    r'Gram matrix|Gram matrices': 'Gram matrix',
    r'gates?': 'gate',
    r'cross-attention': 'cross-attention',
    r'attention heads?': 'attention head',
    r'attention': 'attention',
    r'Transformers?': 'Transformer',
    r'causal mask': 'causal mask',
    r'key-value cache|key/value cache': 'key-value cache',
    r'logits?': 'logit',
    r'TIR|Text-to-Image Refiner': 'TIR',
    r'presets?': 'preset',
    r'ablations?': 'ablation',
    r'checkpoints?': 'checkpoint',
    r'cross-entropy': 'cross-entropy',
    r'cosine similarity|cosine similarities': 'cosine similarity',
    r'triplet loss|triplet contrastive loss': 'triplet loss',
    r'margin': 'margin',
    r'hard negatives?|hardest negatives?': 'hard negative',
    r'centring': 'centring',
    r'AdamW': 'AdamW',
    r'gradient clipping': 'gradient clipping',
    r'dropout': 'dropout',
    r'teacher[- ]forc(?:ing|ed)': 'teacher forcing',
    r'run folders?': 'run folder',
    r'greedy': 'greedy decoding',
    r'beam search': 'beam search',
    r'BLEU(?:-4)?': 'BLEU',
    r'METEOR': 'METEOR',
    r'ROUGE-L': 'ROUGE-L',
    r'CIDEr': 'CIDEr',
    r'n-grams?': 'n-gram',
    r'findings F1': 'findings F1',
    r'naive baselines?|baselines?': 'baseline',
    r'image-shuffle control': 'image-shuffle control',
    r'bootstrap': 'bootstrap',
    r'retrieval': 'retrieval',
    r'recall@k|recall@\d+': 'recall@k',
    r'median rank': 'median rank',
    r'MRR': 'MRR',
    r'alignment score': 'alignment score',
    r'ECE': 'ECE',
    r'IoU': 'IoU',
    r'PCA': 'PCA',
    r't-SNE': 't-SNE',
    r'singular values?': 'singular value',
    r'effective ranks?': 'effective rank',
    r'uniformity': 'uniformity',
    r'mixing': 'mixing',
    r"Wilson(?:'s)? intervals?": 'Wilson interval',
    r'modality gap': 'modality gap',
    r'grounding': 'grounding',
    r'pointing game': 'pointing game',
    r'chance level': 'chance level',
    r'calibration': 'calibration',
    r'annotation\.json': 'annotation.json',
    r'lateral view|frontal view': 'view',
    r'posterior': 'posterior',
    r'ELBO|evidence lower bound': 'ELBO',
    r'KL|KL divergence': 'KL divergence',
    r'straight-through': 'straight-through',
    r'Gram-Schmidt|Gram–Schmidt': 'Gram-Schmidt',
    r'receptive field': 'receptive field',
    r'residual connections?': 'residual connection',
    r'LayerNorm': 'layer normalisation',
    r'learning rates?': 'learning rate',
    r'weight decay': 'weight decay',
    r'LSTMs?': 'LSTM',
    r'ResNet(?:18|101)?': 'ResNet',
    r'REINFORCE': 'REINFORCE',
    r'Holm': 'Holm',
    r'CheXbert': 'CheXbert',
    r'RadGraph': 'RadGraph',
    r'RadCliQ': 'RadCliQ',
}
FORMS = dict(
    sorted(FORMS.items(), key=lambda kv: -len(kv[0].split('|')[0]))
)  # longer phrases first
OTHER = {
    'download': {'retrieval'},
    'dicom': {'modality'},
}  # pages, by their names without number, where the word means something else
# Code, math, links, labels, HTML: never touched
KEEP = re.compile(
    r'(\$\$.*?\$\$|\$[^$\n]+\$|``.*?``|`[^`\n]*`|!?\[[^\]\n]*\]\([^)\n]*\)|\[[^\]\n]*\]\[[^\]\n]*\]|https?://\S+|<[^>\n]+>|\{[#.][^}\n]*\}|@(?:eq|fig)-[\w-]+|\*\*[^*\n]+:\*\*)',
    re.S,
)
TERM = re.compile(
    '|'.join(f'(?P<t{i}>(?<![\\w/@.-])(?:{form})(?![\\w-]|\\.\\w))' for i, form in enumerate(FORMS))
)
HEADS = list(FORMS.values())


def anchor(head):
    import website

    return website.slug(head)


def is_prose(line):
    return not re.match(r'\s*(#|>|:::|\||<)', line)


def link_text(text, seen, to='glossary.ipynb'):
    """Markdown with links at the first use of each term that is not in `seen`, which grows; and
    the terms that were linked here. `to` is the way to the glossary."""
    new = []

    def term(m):
        head = HEADS[int(m.lastgroup[1:])]
        if head in seen:
            return m[0]
        seen.add(head)
        new.append(head)
        return f'[{m[0]}]({to}#{anchor(head)})'

    out = []
    blocks = re.split(
        r'(^[ ]*```.*?^[ ]*```[ ]*$|\$\$.*?\$\$(?:[ ]*\{#[^}]*\})?)', text, flags=re.S | re.M
    )
    for i, block in enumerate(blocks):
        if i % 2:
            out.append(block)
            continue
        lines = []
        for line in block.split('\n'):
            for found in re.findall(r'\]\((?:[\w./-]*/)?glossary\.ipynb#([\w@.-]+)\)', line):
                seen.update(h for h in HEADS if anchor(h) == found)
            if is_prose(line):
                line = ''.join(
                    part if k % 2 else TERM.sub(term, part)
                    for k, part in enumerate(KEEP.split(line))
                )
            lines.append(line)
        out.append('\n'.join(lines))
    return ''.join(out), new


def link_book(book, page, below=pages.NBS):
    """The lines that change in the notebook with this page id, as [(old, new)]; the cells are
    changed in place."""
    seen, changed = set(OTHER.get(pages.bare(page), ())), []
    to = pages.link_to(glossary_id(below), page)
    for cell in book['cells']:
        if cell['cell_type'] != 'markdown' or str(cell.get('id')).startswith('try-'):
            continue  # what tools/exercises.py makes of the bank stays as the bank has it
        old = ''.join(cell['source'])
        new, terms = link_text(old, seen, to)
        if terms:
            changed += [
                (a, b) for a, b in zip(old.split('\n'), new.split('\n'), strict=False) if a != b
            ]
            cell['source'] = (
                new.splitlines(keepends=True) if isinstance(cell['source'], list) else new
            )
    return changed


@functools.cache
def glossary_id(below=pages.NBS):
    return pages.page_id(pages.find_page('glossary', below=below), below)


def linked_pages(below=pages.NBS):
    "The notebooks whose terms are linked, by page id."
    return {
        pages.page_id(path, below): path
        for path in pages.all_pages(below)
        if pages.kind_of(pages.page_id(path, below)) not in SKIP
    }


if __name__ == '__main__':
    command, *names = sys.argv[1:] or ['']
    chosen = {pages.page_id(pages.find_page(name)) for name in names}
    for page, path in linked_pages().items():
        if chosen and page not in chosen:
            continue
        book = json.loads(path.read_text(encoding='utf-8'))
        changed = link_book(book, page)
        if changed:
            print(f'{page}: {len(changed)} lines')
        if command == 'link' and changed:
            path.write_text(
                json.dumps(book, indent=1, sort_keys=True, ensure_ascii=False) + '\n',
                encoding='utf-8',
            )
