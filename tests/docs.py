"""Docs without Quarto: the pages as nbdev prepares them, the README, and plain HTML.

    python tests/docs.py process FOLDER   nbdev's own processing of every page (directives, links, API pages)
    python tests/docs.py html FOLDER      the same, then every page as HTML
    python tests/docs.py readme           README.md from nbs/index.ipynb
"""
import json, re, shutil, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORKER = '''
from nbdev.quarto import refresh_quarto_yml, nbdev_sidebar
from nbdev.serve import proc_nbs
import nbdev.doclinks
if __name__ == '__main__':
    refresh_quarto_yml(); nbdev.doclinks._build_modidx(); nbdev_sidebar.__wrapped__(); proc_nbs(n_workers=2)
'''


def process(folder):
    "Copy what the docs need into `folder`, let nbdev process it, and return the folder of prepared pages."
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ('nbs', 'uar_nb', 'settings.ini', '_quarto.yml', 'README.md'):
        source = ROOT/name
        if source.is_dir(): shutil.copytree(source, folder/name, dirs_exist_ok=True, ignore=shutil.ignore_patterns('.ipynb_checkpoints', '__pycache__'))
        else: shutil.copy(source, folder/name)
    (folder/'worker.py').write_text(WORKER)
    done = subprocess.run([sys.executable, 'worker.py'], cwd=folder, capture_output=True, text=True)
    if done.returncode: raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])
    return folder/'_proc'


def convert(pages, to, out):
    "nbconvert every prepared page."
    done = subprocess.run([sys.executable, '-m', 'nbconvert', '--to', to, '--output-dir', str(out), *map(str, pages)], capture_output=True, text=True)
    if done.returncode: raise SystemExit(done.stderr[-3000:])


def html(out):
    out = Path(out).resolve()
    with tempfile.TemporaryDirectory() as tmp:
        pages = sorted(process(tmp).rglob('*.ipynb'))
        convert(pages, 'html', out)
    print(f'{len(pages)} pages in {out.name}/')
    return out


def readme_text():
    "README.md as nbs/index.ipynb says it."
    with tempfile.TemporaryDirectory() as tmp:
        page = process(tmp)/'index.ipynb'
        convert([page], 'markdown', tmp)
        text = (Path(tmp)/'index.md').read_text(encoding='utf-8')
    text = re.sub(r'^---\n.*?\n---\n', '', text.lstrip(), flags=re.S)
    text = re.sub(r'<!-- WARNING.*?-->\n*', '', text, flags=re.S)
    title = ''.join(json.loads((ROOT/'nbs'/'index.ipynb').read_text(encoding='utf-8'))['cells'][0]['source'])  # nbdev moves it into the front matter
    return '<!-- Made from nbs/index.ipynb by `make readme`; edit that notebook -->\n\n' + title.strip() + '\n\n' + re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'


if __name__ == '__main__':
    command, *rest = sys.argv[1:] or ['']
    if command == 'process': print(len(list(process(*rest).rglob('*.ipynb'))), 'pages')
    elif command == 'html': html(*rest)
    elif command == 'readme': (ROOT/'README.md').write_text(readme_text(), encoding='utf-8')
    else: raise SystemExit(__doc__)
