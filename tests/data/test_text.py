"Words of reports in every alphabet, line ends, lists, and the rules that a data set gets."

import json
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from uar_nb.apps.audit import audit
from uar_nb.apps.pipeline import check_reports, check_training, configure
from uar_nb.core import UARError
from uar_nb.data.load import load_studies, note_cleaning, rules_for
from uar_nb.data.study import facts_of
from uar_nb.data.text import (
    Vocabulary,
    clean_report,
    cleaning_loss,
    join_words,
    rules_of_layout,
)
from uar_nb.experiment.prepare import prepare, settle_rules
from uar_nb.phantom.generator import make_studies
from uar_nb.phantom.language import STYLES

ALPHABETS = {
    'German': ('Herzgröße normal. Kein Pleuraerguß.', 'herzgröße normal . kein pleuraerguß .'),
    'capital sharp s': ('KEIN ERGUẞ.', 'kein erguß .'),
    'Spanish': ('Corazón de tamaño normal.', 'corazón de tamaño normal .'),
    'Polish': ('Płuca bez zmian.', 'płuca bez zmian .'),
    'French': ("L’épanchement n'a pas augmenté.", "l'épanchement n'a pas augmenté ."),
    'Turkish': ('İnfiltrasyon yok. Işık.', 'i̇nfiltrasyon yok . işık .'),
    'Vietnamese': ('Tim phổi bình thường.', 'tim phổi bình thường .'),
    'Catalan': ('Col·lapse.', 'col·lapse .'),
    'Russian': ('Сердце не увеличено.', 'сердце не увеличено .'),
    'Ukrainian': ('Зв’язок; їжа.', "зв'язок їжа ."),
    'Greek': ('Η καρδιά είναι φυσιολογική.', 'η καρδιά είναι φυσιολογική .'),
    'Arabic': ('القلب طبيعي. لا انصباب؟ نعم', 'القلب طبيعي . لا انصباب . نعم .'),
    'stretched Arabic': ('القـــلب', 'القلب .'),
    'Arabic forms': ('\ufe8d\ufedf\ufed8\ufee0\ufe90', 'القلب .'),
    'Persian': ('می‌شود', 'میشود .'),
    'Hebrew': ('הלב תקין. ביה״ח', 'הלב תקין . ביה״ח .'),
    'Hindi': ('हृदय सामान्य है। फेफड़े साफ', 'हृदय सामान्य है . फेफड़े साफ .'),
    'Korean': ('심장 크기 정상.', '심장 크기 정상 .'),
    'Chinese': ('心影正常。两肺纹理清晰，CT 5mm。', '心 影 正 常 . 两 肺 纹 理 清 晰 ct 5mm .'),
    'Japanese': ('心拡大なし。レントゲン', '心 拡 大 な し . レ ン ト ゲ ン .'),
    'half-width Japanese': ('ﾚﾝﾄｹﾞﾝ', 'レ ン ト ゲ ン .'),
    'full-width': ('ＣＴ１２ｃｍ', 'ct12cm .'),
    'Thai': ('หัวใจปกติ', 'หั ว ใ จ ป ก ติ .'),
    'ligature': ('ﬁbrosis', 'fibrosis .'),
    'soft hyphen': ('cardio\u00admegaly', 'cardiomegaly .'),
    'hard blank': ('Heart normal.\u00a0Lungs clear.', 'heart normal . lungs clear .'),
    'exponent': ('5 cm² in the ½', '5 cm² in the ½ .'),
    'decimal comma': ('Rundherd 1,5 cm.', 'rundherd 1,5 cm .'),
}


@pytest.mark.parametrize('name', ALPHABETS)
def test_letters_of_every_alphabet_stay(name):
    written, cleaned = ALPHABETS[name]
    assert clean_report(written, 'corrected') == unicodedata.normalize('NFC', cleaned)


@pytest.mark.parametrize('name', ALPHABETS)
def test_composed_and_decomposed_letters_meet(name):
    written, _ = ALPHABETS[name]
    forms = {
        clean_report(unicodedata.normalize(form, written), 'corrected') for form in ('NFC', 'NFD')
    }
    assert len(forms) == 1


@pytest.mark.parametrize('name', ALPHABETS)
def test_cleaned_once_is_cleaned(name):
    written, _ = ALPHABETS[name]
    cleaned = clean_report(written, 'corrected')
    assert clean_report(cleaned, 'corrected') == cleaned
    assert Vocabulary.build([cleaned], 1).unknown_rate([cleaned]) == 0


LINES = {
    'heading, sentences with stops': (
        'FINDINGS:\nHeart size normal.\nLungs are clear.',
        'findings . heart size normal . lungs are clear .',
    ),
    'no stops at all': ('Heart normal\nLungs clear', 'heart normal . lungs clear .'),
    'line ends of Windows': ('Heart normal\r\nLungs clear\r\n', 'heart normal . lungs clear .'),
    'line ends of an old Mac': ('Heart normal\rLungs clear', 'heart normal . lungs clear .'),
    'line separator': ('Heart normal\u2028Lungs clear', 'heart normal . lungs clear .'),
    'a full line': ('There is no\nevidence of it.', 'there is no evidence of it .'),
    'a full line before a comma': ('Effusion,\nLeft.', 'effusion left .'),
    'blank line': ('heart normal\n\nlungs clear', 'heart normal . lungs clear .'),
    'blank line in a text with capitals': ('Heart normal\n\nlungs', 'heart normal . lungs .'),
    'no capitals': ('heart normal\nlungs clear', 'heart normal . lungs clear .'),
    'only capitals': ('HEART NORMAL\nLUNGS CLEAR', 'heart normal . lungs clear .'),
    'Chinese lines': ('心影正常\n两肺清晰', '心 影 正 常 . 两 肺 清 晰 .'),
    'Arabic lines': ('القلب طبيعي\nالرئتان', 'القلب طبيعي . الرئتان .'),
    'bullets': ('• Heart normal\n• no effusion', 'heart normal . no effusion .'),
    'dashes': ('- Heart normal\n- no effusion', 'heart normal . no effusion .'),
    'dash without blank': ('-Heart normal\n-no effusion', 'heart normal . no effusion .'),
    'list': ('1. Heart normal\n2. Lungs clear', 'heart normal . lungs clear .'),
    'list in brackets': ('(1) Heart normal\n(2) no mass', 'heart normal . no mass .'),
    'letters': ('a) Heart normal\nb) no mass', 'heart normal . no mass .'),
    'list in a line': ('1. No mass 2. Clear lungs', 'no mass . clear lungs .'),
    'list without blanks': ('1.Heart normal 2.No mass', 'heart normal . no mass .'),
    'heading and list': (
        'IMPRESSION: 1. No mass 2. Clear lungs',
        'impression . no mass . clear lungs .',
    ),
    'a number is no item': ('Grade 2. Clear.', 'grade 2 . clear .'),
    'a number at a line end is no item': (
        '1. Stage\n2. Grade 2\n3. Clear',
        'stage . grade 2 . clear .',
    ),
    'images in brackets': ('Nodule (images 3, 4) seen.', 'nodule images 3 4 seen .'),
    'two headings in a line': (
        'FINDINGS: Heart normal. IMPRESSION: No mass.',
        'findings . heart normal . impression . no mass .',
    ),
    'all in capitals': ('HEART: NORMAL. LUNGS: CLEAR.', 'heart normal . lungs clear .'),
    'a colon within': ('Heart: normal.', 'heart normal .'),
    'HTML': ('Heart normal<br/>Lungs&nbsp;clear &lt; 5', 'heart normal . lungs clear 5 .'),
    'escaped line end': (r'Heart normal\nLungs clear', 'heart normal . lungs clear .'),
    'slip for a slash': (r'left\node', 'left node .'),
    'spreadsheet': ('Heart normal_x000D_\nLungs', 'heart normal . lungs .'),
    'tabs': ('Heart\tnormal.\tClear.', 'heart normal . clear .'),
    'ellipsis': ('Clear…No mass', 'clear . no mass .'),
    'hyphen at a line end': ('A follow-\nup.', 'a follow up .'),
    'anonymised': ('No ___ lesion\nof XXXX.', 'no lesion of xxxx .'),
    'nothing but marks': ('*** -- \n .', ''),
}


@pytest.mark.parametrize('name', LINES)
def test_line_ends_lists_and_headings(name):
    written, cleaned = LINES[name]
    assert clean_report(written, 'corrected') == cleaned


def test_no_rules_change_a_phantom():
    for style in STYLES:
        for study in make_studies(20, 3, style=style):
            words = {clean_report(study.report, rules) for rules in ('iu_xray', 'corrected')}
            assert len(words) == 1


def test_r2gen_rules_are_as_they_were():
    assert (
        clean_report('Heart normal.\nLungs clear.').split() == 'heart normal lungs clear .'.split()
    )
    assert clean_report('A 1.5 cm nodule.Left/right.') == 'a 15 cm noduleleftright .'
    assert clean_report('Größe 1,5.') == 'größe 15 .'


def write_table(folder, reports, name='reports.csv'):
    folder.mkdir(exist_ok=True)
    lines = ['id,image,report,split']
    for n, report in enumerate(reports):
        Image.effect_noise((32, 32), 60).save(folder / f'p{n}.png')
        split = 'train' if n else 'val'
        lines.append(f'{n},p{n}.png,"{report}",{split}')
    (folder / name).write_text('\n'.join(lines), encoding='utf-8')
    return folder


def write_annotation(folder, entries):
    (folder / 'images').mkdir(parents=True)
    for entry in entries:
        Image.new('L', (8, 8)).save(folder / 'images' / entry['image_path'][0])
    (folder / 'annotation.json').write_text(json.dumps({'train': entries}), encoding='utf-8')
    return folder


def cleaning_note(studies):
    [note] = facts_of(studies).texts('cleaning')
    return note


def test_own_table_gets_the_corrected_rules(tmp_path):
    studies = load_studies(write_table(tmp_path / 'own', ['Heart normal.Lungs clear.'] * 3))
    assert rules_for(studies) == 'corrected'
    assert 'cleaned by corrected (our rules)' in cleaning_note(studies)
    assert 'changed' not in cleaning_note(studies)


def test_own_lines_get_the_corrected_rules(tmp_path):
    entry = dict(id='a', image='p0.png', report='Heart normal.\nLungs clear.')
    write_table(tmp_path, ['x'])
    (tmp_path / 'reports.jsonl').write_text(json.dumps(entry), encoding='utf-8')
    assert rules_for(load_studies(tmp_path / 'reports.jsonl')) == 'corrected'


@pytest.mark.parametrize(
    'entry, rules',
    [
        (dict(id='CXR1_1_IM-0001'), 'iu_xray'),
        (dict(id='one'), 'corrected'),  # R2Gen's layout, not its data
        (dict(id='a', subject_id=10000001, study_id=50000001), 'mimic_cxr'),
    ],
)
def test_annotation_of_r2gen_gets_its_rules(tmp_path, entry, rules):
    if rules == 'iu_xray':
        from uar_nb.data.iu_xray import r2gen_split

        entry = dict(id=next(iter(dict(r2gen_split().values()))))
    entry |= dict(image_path=['p.png'], report='Heart 1.5/2.')
    studies = load_studies(write_annotation(tmp_path / 'set', [entry]))
    assert rules_for(studies) == rules
    note = cleaning_note(studies)
    assert rules in note
    if rules != 'corrected':
        assert "R2Gen's rules" in note and 'data.rules=corrected keeps them' in note


def test_r2gen_rules_that_lose_nothing_need_no_note(tmp_path):
    entry = dict(id='a', subject_id=1, image_path=['p.png'], report='The heart is normal.')
    assert not load_studies(write_annotation(tmp_path / 'set', [entry])).facts.texts('cleaning')


def test_images_alone_have_no_note(tmp_path):
    Image.new('L', (8, 8)).save(tmp_path / 'p.png')
    assert not load_studies(tmp_path).facts.texts('cleaning')


@pytest.mark.parametrize(
    'report, told',
    [
        ('心影正常', 'each character is a word, and data.max_words counts characters'),
        ('gr\ufffd\ufffde', 'could not be decoded'),
    ],
)
def test_what_a_note_says_of_own_reports(tmp_path, report, told):
    assert told in cleaning_note(load_studies(write_table(tmp_path / 'own', [report] * 3)))


def test_rules_that_are_asked_for_are_named_with_their_loss(tmp_path):
    studies = load_studies(write_table(tmp_path / 'own', ['Heart normal.Lungs clear.'] * 3))
    note = cleaning_note(note_cleaning(studies, 'iu_xray'))
    assert "iu_xray (R2Gen's rules" in note and "'normallungs'" in note
    assert 'changed 50.0 % of the words' in note and '50.0 % of the sentences' in note


def test_audit_says_the_rules_that_it_used(tmp_path):
    folder = write_table(tmp_path / 'own', ['Heart normal.Lungs clear.'] * 3)
    found = audit(folder, baselines=False, with_images=False)
    assert found.rules == 'corrected' and any('our rules' in note for note in found.notes)
    forced = audit(folder, 'iu_xray', baselines=False, with_images=False)
    assert forced.rules == 'iu_xray' and any('normallungs' in note for note in forced.notes)
    assert sum('cleaned by' in note for note in forced.notes) == 1


def r2gen_layout(folder, name):
    "An annotation.json of three studies in R2Gen's layout, with these ids."
    entry = dict(report='Heart normal.Lungs clear.', split='train', image_path=['x.png'])
    studies = [dict(entry, id=name.format(n)) for n in range(3)]
    content = dict(train=studies, val=[], test=[])
    folder.mkdir()
    (folder / 'annotation.json').write_text(json.dumps(content))
    return folder / 'annotation.json'


def test_rules_of_foreign_ids_in_r2gens_layout_are_told_by_all(tmp_path, capsys):
    """Nobody has moved R2Gen's ids: own ids get our rules, and whoever loads, audits or trains
    reads why, and how to have R2Gen's."""
    file = r2gen_layout(tmp_path / 'own', 'case {}')
    expected = (
        "reports are cleaned by corrected (our rules, as the ids are not R2Gen's; "
        "data.rules=iu_xray takes R2Gen's)"
    )
    assert load_studies(file, check=False).facts.texts('cleaning') == (expected,)
    assert expected in audit(file, baselines=False, with_images=False).notes
    config = configure(changes={'data.min_count': 1})
    check_training(file, config, tmp_path / 'run', progress=True, check=False)
    assert expected in capsys.readouterr().out


def test_reports_are_looked_at_once(tmp_path, monkeypatch):
    "The rules of the layout are those of the training: it is not counted again."
    import uar_nb.data.load as module

    calls = []

    def counted(reports, rules):
        calls.append(rules)
        return cleaning_loss(reports, rules)

    monkeypatch.setattr(module, 'cleaning_loss', counted)
    folder = write_table(tmp_path / 'own', ['Heart normal.Lungs clear.'] * 3)
    audit(folder, baselines=False, with_images=False)
    check_training(folder, configure(changes={'data.min_count': 1}), tmp_path / 'run')
    assert calls == ['corrected'] * 2
    audit(folder, 'iu_xray', baselines=False, with_images=False)
    assert calls == ['corrected'] * 3 + ['iu_xray']


PIECES = [
    '心影',
    '正常',
    '。',
    '两肺',
    ' ',
    'CT',
    '5mm',
    '1.5',
    '心',
    'หัวใจ',
    '๓',
    '５',
    'ปกติ',
    '、',
]
PIECES += [
    'Herz',
    "d'un",
    'T12-L1',
    '心臓は',
    'です',
    '심장',
    'قلب',
    '\n',
    '.',
    'ཀ',
    '1',
    'က',
    '〇',
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_words_as_a_text_are_the_same_words(pieces):
    "Whoever reads a report and cleans it gets the words that the model wrote."
    words = clean_report(''.join(pieces), 'corrected').split()
    text = join_words(words)
    assert clean_report(text, 'corrected').split() == words
    assert text.replace(' ', '') == ''.join(words) and '  ' not in text


def test_words_of_scripts_with_blanks_are_joined_by_blanks():
    for report in ('Heart normal. No effusion.', 'Сердце не увеличено', '심장 크기 정상', ''):
        words = clean_report(report, 'corrected').split()
        assert join_words(words) == ' '.join(words)
    assert (
        join_words('心 影 正 常 . 两 肺 清 晰 ct 5mm .'.split()) == '心影正常 . 两肺清晰 ct 5mm .'
    )


def test_letters_that_are_lost_are_counted():
    loss = cleaning_loss(['Größe <b>normal</b>.'], 'corrected')
    assert (loss.letters, loss.dropped, loss.changed) == (11, 0, 0)


def test_rules_are_settled_with_the_run(tmp_path):
    studies = load_studies(write_table(tmp_path / 'own', ['Heart normal.Lungs clear.'] * 4))
    small = {'model.d': 32, 'model.d_ff': 32, 'model.visual': 'small_cnn', 'data.min_count': 1}
    config = configure('iu_xray', 'a', changes=small)
    assert config.data.rules == 'auto'
    assert settle_rules(config, studies).data.rules == 'corrected'
    made = prepare(config, studies)
    assert made.config.data.rules == made.data['train'].rules == 'corrected'
    assert made.data['train'].cleaned[0] == 'heart normal . lungs clear .'
    forced = prepare(config.override({'data.rules': 'iu_xray'}), studies)
    assert forced.data['train'].cleaned[0] == 'heart normallungs clear .'


def test_unknown_rules_name_the_known_ones():
    with pytest.raises(UARError, match='iu_xray, mimic_cxr, corrected'):
        clean_report('Clear.', 'auto')
    assert rules_of_layout('in memory') == 'corrected'


@pytest.mark.parametrize('report', ['***', ' . ', '-', '…'])
def test_a_report_without_a_word_is_none(tmp_path, report):
    "It would be a target of no words, and a reference that cannot be scored."
    studies = make_studies(2, 3)
    studies = [replace(studies[0], report=report), studies[1]]
    with pytest.raises(UARError, match='1 studies have no report'):
        check_reports(studies, tmp_path)
    check_reports(studies[1:], tmp_path)


@pytest.mark.parametrize('rules, told', [('auto', 'our rules'), ('iu_xray', "'normallungs'")])
def test_training_says_the_rules_before_it_begins(tmp_path, capsys, rules, told):
    folder = write_table(tmp_path / 'own', ['Heart normal.Lungs clear.'] * 4)
    changes = {'data.rules': rules, 'model.visual': 'small_cnn', 'train.device': 'cpu'}
    check_training(folder, configure(changes=changes), tmp_path / 'run', progress=True)
    shown = capsys.readouterr().out
    assert told in shown and shown.count('cleaned by') == 1
