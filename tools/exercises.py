"""Writes what is made of the bank of exercises, so that it cannot differ from it.

python tools/exercises.py lessons     the exercises at the end of each lesson, below "## Try"
python tools/exercises.py solutions   the notebooks nbs/reference/solutions/
python tools/exercises.py             both

Outputs of cells that stay as they are stay too. Afterwards: python tools/lessons.py PAGE ...
"""

import json
import re
import sys
from pathlib import Path

from pages import NBS, ROOT, link_to

SOLUTIONS = {
    'task': '1_the_task',
    'words': '2_words_and_patches',
    'lsu': '3_unify',
    'attention': '4_attention',
    'cra': '5_align',
    'tir': '6_refine',
    'model': '7_train_and_write',
    'scores': '8_does_it_work',
}
FOLDER = 'reference/solutions'
METADATA = dict(kernelspec=dict(display_name='python3', language='python', name='python3'))
# What comes after a lesson; the course is the paper's road, then how its models are judged
ROAD = [
    '00_the_task',
    '01_one_evening',
    '02_lsu',
    '03_attention',
    '04_cra',
    '05_tir',
    '06_losses',
    '07_model',
    '08_generation',
    '09_training',
    'wings/scoring/01_metrics',
    'wings/scoring/02_naive_baselines',
    'results/17_explore',
]
ASIDE = {  # lessons beside the road, and where they lead back
    'wings/data/01_text': '02_lsu',
    'wings/tokenizer/01_dvae': '03_attention',
    'wings/variants/01_cnn': '04_cra',
}
NEXT = dict(zip(ROAD, ROAD[1:], strict=False)) | ASIDE
FIRST = {  # lessons beside the road that one may read before going on
    '02_lsu': ('wings/tokenizer/01_dvae', 'how the image tokens are made'),
    '03_attention': ('wings/variants/01_cnn', 'what the paper compares the image tokens with'),
}
MINUTES = re.compile(r'(?<=, exercises )\d+(?= minutes)')  # in the line that begins "Study time:"
MADE = 'try-'  # cells of a lesson whose id begins like this are made here
QUESTIONS = '### Questions'  # this cell below "## Try" is written by hand


def cell(kind, name, text):
    "A notebook cell with an id that says what it is."
    made = dict(cell_type=kind, id=name, metadata={}, source=text.strip('\n').splitlines(True))
    return made | (dict(execution_count=None, outputs=[]) if kind == 'code' else {})


def source(one):
    return ''.join(one['source'])


def dashed(exercise):
    "The id of an exercise as it may stand in the id of a cell."
    return exercise.id.replace('.', '-')


def heading(exercise, level='###'):
    "Title, minutes, difficulty and text of an exercise."
    from uar_nb.check import DIFFICULTIES

    about = f'*{exercise.minutes} minutes, {DIFFICULTIES[exercise.difficulty]}*'
    return f'{level} {exercise.id} {exercise.title}\n\n{about}\n\n{exercise.text.strip()}'


# ---- solutions


def solution_cells(chapter):
    "The cells of the notebook with the solutions of a chapter."
    from uar_nb.check import CHAPTERS, exercises

    found = exercises(chapter)
    page = f'{FOLDER}/{SOLUTIONS[chapter]}'
    lessons = list(dict.fromkeys(exercise.lesson for exercise in found))
    links = ', '.join(f'[`{one.rpartition("/")[2]}`]({link_to(one, page)})' for one in lessons)
    about = (
        f'# Solutions: {CHAPTERS[chapter]}\n'
        f'> One way to write each exercise of chapter {SOLUTIONS[chapter][0]}, and what goes wrong'
    )
    intro = (
        f'The exercises stand at the end of {links}. Try first: `hint` gives less away than this '
        'page. Below each solution are the mistakes that its check knows by name. The page is made '
        'of the same bank as the checks.'
    )
    cells = [
        cell('markdown', 'title', about),
        cell('markdown', 'intro', intro),
        cell('code', 'imports', 'from uar_nb.check import check'),
    ]
    for exercise in found:
        name = dashed(exercise)
        known = '\n'.join(f'- {slip.says}' for slip in exercise.slips)
        cells += [
            cell('markdown', f'{name}-text', heading(exercise, '##')),
            cell('code', name, exercise.solution),
            cell('code', f'{name}-check', f"check('{exercise.id}', {exercise.name})"),
            cell('markdown', f'{name}-slips', f'Mistakes that the check names:\n\n{known}'),
        ]
    return cells


# ---- lessons


def shown_table(page):
    "What the cell with the table of a lesson's exercises shows."
    from uar_nb.check import exercises

    found = exercises(lesson=page)
    texts = {'text/markdown': found._repr_markdown_(), 'text/plain': repr(found)}
    data = {kind: text.splitlines(True) for kind, text in texts.items()}
    return dict(data=data, execution_count=None, metadata={}, output_type='execute_result')


def page_title(page):
    "The heading of a page."
    cells = json.loads((NBS / f'{page}.ipynb').read_text(encoding='utf-8'))['cells']
    texts = [source(one) for one in cells if one['cell_type'] == 'markdown']
    return next(found[1] for text in texts if (found := re.search(r'^# (.+)$', text, re.M)))


def linked(page, here):
    "A link to a page, by its heading."
    return f'[{page_title(page)}]({link_to(page, here)})'


def listed(words):
    "Words as a list in a sentence."
    *most, last = words
    return f'{", ".join(most)} and {last}' if most else last


def elsewhere(page):
    "Where the other exercises of a lesson's chapters stand, in a sentence; '' if there are none."
    from uar_nb.check import BANK

    chapters = {exercise.chapter for exercise in BANK.values() if exercise.lesson == page}
    others = {}
    for exercise in BANK.values():
        if exercise.chapter in chapters and exercise.lesson != page:
            others.setdefault(exercise.lesson, []).append(exercise.id)
    told = [f'{listed(ids)} in {linked(lesson, page)}' for lesson, ids in others.items()]
    return f'Numbers that are missing here stand on other pages: {"; ".join(told)}.' if told else ''


def next_cell(page):
    "The last line of a lesson: what to read now."
    text = f'**Next:** {linked(NEXT[page], page)}.'
    if page in FIRST:
        aside, shows = FIRST[page]
        text += f' Before it, if you like: {linked(aside, page)} ({shows}).'
    return cell('markdown', f'{MADE}next', text)


def with_minutes(page, one):
    "A cell whose line of study time has the minutes of the page's exercises."
    from uar_nb.check import BANK

    if one['cell_type'] != 'markdown' or 'Study time: ' not in source(one):
        return one
    minutes = sum(exercise.minutes for exercise in BANK.values() if exercise.lesson == page)
    told = [MINUTES.sub(str(minutes), line) for line in one['source']]
    return one | dict(source=told)


def try_cells(page):
    "The cells below the heading Try of a lesson that are made of the bank."
    from uar_nb.check import BANK

    found = [exercise for exercise in BANK.values() if exercise.lesson == page]
    first = found[0]
    solutions = dict.fromkeys(SOLUTIONS[exercise.chapter] for exercise in found)
    links = ', '.join(f'[{one}]({link_to(f"{FOLDER}/{one}", page)})' for one in solutions)
    intro = (
        '## Try\n\n'
        'Write each of these yourself, in the cell that stands below it, and run the cell: '
        '`check` runs your function on inputs that it draws, compares the answer with an '
        'independent computation, and says what differs. '
        f"`check.hint('{first.id}')` helps, `check.hint('{first.id}', 2)` helps more, "
        f"`check.solution('{first.id}')` shows one way. All solutions: {links}."
    )
    if others := elsewhere(page):
        intro += f'\n\n{others}'
    table = f"from uar_nb.check import check, exercises\n\nexercises(lesson='{page}')"
    cells = [
        cell('markdown', f'{MADE}head', intro),
        cell('code', f'{MADE}table', table) | dict(outputs=[shown_table(page)]),
    ]
    for exercise in found:
        name = dashed(exercise)
        call = f"check('{exercise.id}', {exercise.name})"
        cells += [
            cell('markdown', f'{MADE}{name}-text', heading(exercise)),
            cell('code', f'{MADE}{name}', f'#| eval: false\n{exercise.bare_starter}\n\n{call}'),
        ]
    return cells


def with_exercises(page, cells):
    "The cells of a lesson with the exercises of the bank in place of those that it has."
    kept = [one for one in cells if not str(one.get('id')).startswith(MADE)]
    made = try_cells(page)
    last = [i for i, one in enumerate(kept) if source(one).startswith(QUESTIONS)]
    place = last[0] if last else len(kept) - ('nbdev_export' in source(kept[-1]))
    kept = [with_minutes(page, one) for one in kept]
    after = place + bool(last)
    return kept[:place] + made + kept[place:after] + [next_cell(page)] + kept[after:]


def lesson_pages():
    "The lessons that have exercises, and are there."
    from uar_nb.check import BANK

    found = dict.fromkeys(exercise.lesson for exercise in BANK.values())
    return [page for page in found if (NBS / f'{page}.ipynb').exists()]


# ---- files


def write(path, cells, book=None):
    "Write a notebook as nbdev leaves it."
    book = dict(cells=cells, metadata=METADATA, nbformat=4, nbformat_minor=5) | (
        dict(metadata=book['metadata']) if book else {}
    )
    text = json.dumps(book, indent=1, sort_keys=True, ensure_ascii=False) + '\n'
    if not path.exists() or path.read_text(encoding='utf-8') != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')
        print(path.relative_to(ROOT))


def write_lessons():
    for page in lesson_pages():
        path = NBS / f'{page}.ipynb'
        book = json.loads(path.read_text(encoding='utf-8'))
        write(path, with_exercises(page, book['cells']), book)


def write_solutions():
    for chapter, name in SOLUTIONS.items():
        path = NBS / FOLDER / f'{name}.ipynb'
        cells = solution_cells(chapter)
        if path.exists():
            old = json.loads(path.read_text(encoding='utf-8'))['cells']
            known = {(one.get('id'), source(one)): one for one in old}
            cells = [known.get((one['id'], source(one)), one) for one in cells]
        write(path, cells)


if __name__ == '__main__':
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    wanted = sys.argv[1:] or ['lessons', 'solutions']
    if not set(wanted) <= {'lessons', 'solutions'}:
        raise SystemExit(__doc__)
    if 'lessons' in wanted:
        write_lessons()
    if 'solutions' in wanted:
        write_solutions()
