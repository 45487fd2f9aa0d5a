"Packaging: every fact is read from settings.ini; edit there, not here."

import re
from configparser import ConfigParser
from pathlib import Path

import setuptools

config = ConfigParser(delimiters=['='])
config.read('settings.ini', encoding='utf-8')
cfg = config['DEFAULT']

STATUSES = [
    '0 - Pre-Planning',
    '1 - Planning',
    '2 - Pre-Alpha',
    '3 - Alpha',
    '4 - Beta',
    '5 - Production/Stable',
    '6 - Mature',
    '7 - Inactive',
]
PYTHONS = '3.11 3.12 3.13 3.14'.split()  # those of .github/workflows/test.yml
SYSTEMS = ['POSIX :: Linux', 'MacOS', 'Microsoft :: Windows']
EXTRAS = 'metrics dicom xlsx dalle lab dev'.split()

extras = {name: cfg[f'{name}_requirements'].split() for name in EXTRAS}
extras['all'] = sorted(
    {r for name in ('metrics', 'dicom', 'xlsx', 'dalle', 'lab') for r in extras[name]}
)
extras['dev'] = list(
    dict.fromkeys(extras['dev'] + extras['all'])
)  # first mention wins: the dev pins come first


def absolute_links(text):
    "README.md with links that also lead somewhere outside the repository, as on a package index."
    folder = f"{cfg['git_url']}/%s/{cfg['branch']}/"
    raw = folder.replace('//github.com', '//raw.githubusercontent.com').replace('/%s/', '/')

    def absolute(found):
        sign, label, target = found.groups()
        path = target.partition('#')[0]
        if not path or re.match(r'[a-z]+:', path):
            return found[0]  # within the page, or absolute already
        if sign:
            return f'![{label}]({raw}{target})'
        kind = 'tree' if Path(path).is_dir() else 'blob'
        return f'[{label}]({folder % kind}{target})'

    parts = re.split(r'(^```.*?^```)', text, flags=re.M | re.S)  # code stays as it is
    link = r'(!?)\[([^\]]*)\]\(([^)\s]+)\)'
    return ''.join(
        part if part.startswith('```') else re.sub(link, absolute, part) for part in parts
    )


setuptools.setup(
    name=cfg['lib_name'],
    version=cfg['version'],
    description=cfg['description'],
    keywords=cfg['keywords'],
    author=cfg['author'],
    author_email=cfg['author_email'],
    license_expression='Apache-2.0',
    classifiers=[
        'Development Status :: ' + STATUSES[int(cfg['status'])],
        'Intended Audience :: ' + cfg['audience'].title(),
        'Natural Language :: ' + cfg['language'].title(),
    ]
    + ['Operating System :: ' + system for system in SYSTEMS]
    + ['Programming Language :: Python :: ' + v for v in PYTHONS]
    + ['Typing :: Typed'],
    url=cfg['git_url'],
    project_urls={
        'Documentation': cfg['doc_host'] + cfg['doc_baseurl'],
        'Changes': f"{cfg['git_url']}/blob/{cfg['branch']}/CHANGELOG.md",
        'Issues': cfg['git_url'] + '/issues',
    },
    packages=setuptools.find_namespace_packages(
        include=['uar_nb', 'uar_nb.*'], exclude=['*.__pycache__', '*.__pycache__.*']
    ),
    package_data={'uar_nb': ['py.typed', 'assets/*', 'assets/**/*']},
    include_package_data=True,
    install_requires=cfg['requirements'].split(),
    extras_require=extras,
    python_requires='>=' + cfg['min_python'],
    long_description=absolute_links(Path('README.md').read_text(encoding='utf-8')),
    long_description_content_type='text/markdown',
    zip_safe=False,
    entry_points={
        'console_scripts': cfg['console_scripts'].split(),
        'nbdev': [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"],
    },
)
