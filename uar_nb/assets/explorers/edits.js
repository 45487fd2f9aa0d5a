
// ---- words and what they cost

const LOW = Math.log(0.1); // a word below this log-probability is marked

function nats(number) {
  return number.toFixed(2).replace('-', '−');
}

function mean(numbers) {
  return numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
}

async function editExplorer({ studies }, box) {
  const state = { study: 0, seen: 'own', change: null, place: 0 };
  const images = await Promise.all(studies.map(({ xrays }) => Promise.all(xrays.map(loadImage))));
  const canvas = newCanvas('the X-ray that the model sees');
  const caption = make('figcaption');
  const report = make('div', { class: 'report costed', role: 'group', 'aria-label': 'words of the report and their probabilities' });
  const said = make('p', { class: 'say', 'aria-live': 'polite' });
  const panel = make('div', { class: 'panel' });
  const seenBox = make('div');
  let buttons = [];

  function present() {
    const study = studies[state.study];
    const base = { words: study.words, costs: study[state.seen] };
    if (!state.change) return base;
    const { place, words } = state.change;
    return {
      words: [...study.words.slice(0, place), ...words],
      costs: [...study[state.seen].slice(0, place), ...state.change[state.seen]],
    };
  }

  function inPlace(place, kind) {
    return studies[state.study].changes.filter((change) => change.kind === kind && change.place === place);
  }

  function wordButton(word, place, cost) {
    const changed = state.change && state.change.kind !== 'leave out' && place >= state.change.place
      && (state.change.kind === 'add' || place === state.change.place);
    const bar = make('i', { style: `width:${Math.max(2, 100 * Math.exp(cost))}%` });
    const classes = ['word', cost < LOW && 'low', changed && 'changed'].filter(Boolean).join(' ');
    const label = `${word}, probability ${percent(Math.exp(cost))}`;
    return make('button', { class: classes, type: 'button', 'aria-label': label, click: () => choosePlace(place) }, [
      document.createTextNode(word), make('span', {}, [bar]),
    ]);
  }

  function choosePlace(place) {
    state.place = place;
    show();
    buttons[state.place]?.focus({ preventScroll: true });
  }

  function change(found) {
    state.change = found;
    if (found?.kind === 'add' || found?.kind === 'leave out') state.place = Math.min(found.place, present().words.length - 1);
    show();
  }

  function option(word, cost, isHere, click) {
    const inside = [
      document.createTextNode(word),
      make('span', {}, [make('i', { style: `width:${Math.max(1, 100 * Math.exp(cost))}%` })]),
      make('em', { text: percent(Math.exp(cost)) }),
    ];
    if (!click) return make('div', { class: `option${isHere ? ' is' : ''}` }, inside);
    return make('button', { class: 'option', type: 'button', 'aria-pressed': String(isHere), click }, inside);
  }

  // What can be done at the chosen place of the true report
  function showPanel() {
    const study = studies[state.study];
    const other = state.change && state.change.kind !== 'word';
    const place = Math.min(state.place, study.words.length - 1);
    const word = study.words[place];
    const parts = [];
    if (!other) {
      const rows = [[word, study[state.seen][place], null], ...inPlace(place, 'word').map((c) => [c.words[0], c[state.seen][0], c])];
      rows.sort((a, b) => b[1] - a[1]);
      parts.push(make('h2', { text: `In the place of “${word}”` }));
      parts.push(make('div', { class: 'options' }, rows.map(([name, cost, found]) => option(
        name, cost, found === state.change || (!found && state.change?.place !== place), () => change(found),
      ))));
    }
    const start = study.words.slice(0, place).lastIndexOf('.') + 1;
    const [left] = inPlace(start, 'leave out');
    const more = make('div', { class: 'chips' });
    if (state.change) more.append(make('button', { type: 'button', text: '↺ the true report again', click: () => change(null) }));
    if (left && !other) more.append(make('button', { type: 'button', text: 'leave this sentence out', click: () => change(left) }));
    parts.push(more);
    panel.replaceChildren(...parts);
  }

  function sentence() {
    const study = studies[state.study];
    const { words, costs } = present();
    const whole = mean(costs);
    const before = mean(study[state.seen]);
    const parts = ['Geometric mean of the probabilities: ', make('b', { text: percent(Math.exp(whole)) })];
    parts.push(` (mean log-probability ${nats(whole)} nats)`);
    parts.push(state.change ? `; the true report has ${percent(Math.exp(before))} (${nats(before)}). ` : '. ');
    const lowest = costs.indexOf(Math.min(...costs));
    const name = lowest < words.length ? `“${words[lowest]}”` : 'the end of the report';
    parts.push(`Least expected: ${name}, ${percent(Math.exp(costs[lowest]))}.`);
    return parts;
  }

  function show() {
    const study = studies[state.study];
    const { words, costs } = present();
    buttons = writeReport(report, words, (word, place) => wordButton(word, place, costs[place]));
    buttons.forEach((button, place) => button.setAttribute('aria-pressed', String(place === state.place)));
    drawXray(canvas, images[state.study][state.seen === 'own' ? 0 : 1]);
    const findings = (state.seen === 'own' ? study.findings : study.strange_findings).join(', ') || 'no finding';
    caption.textContent = `what the model sees: ${findings}`;
    said.replaceChildren(...sentence());
    showPanel();
  }

  function newStudy(number) {
    const study = studies[number];
    const named = new Set(study.findings.flatMap((name) => name.split(' ')));
    Object.assign(state, { study: number, change: null });
    state.place = Math.max(0, study.words.findIndex((word) => named.has(word)));
    show();
  }

  const labels = studies.map(({ findings }, i) => [findings.join(', ') || 'no finding', i]);
  const added = studies[0].changes.filter(({ kind }) => kind === 'add').map(({ words }, i) => [words.slice(0, -1).join(' '), i]);
  seenBox.append(choice('the model sees', [['its own X-ray', 'own'], ['another patient’s', 'strange']], 'own', (seen) => { state.seen = seen; show(); }));
  const adding = make('fieldset', { class: 'choice' }, [
    make('legend', { text: 'add a sentence that may be false' }),
    make('div', { class: 'chips' }, added.map(([text, i]) => make('button', {
      type: 'button', text, click: () => change(studies[state.study].changes.filter(({ kind }) => kind === 'add')[i]),
    }))),
  ]);
  box.replaceChildren(
    choice('a study, by its true findings', labels, 0, newStudy),
    make('div', { class: 'two' }, [
      make('div', {}, [report, said]),
      make('div', { class: 'tall' }, [panel, seenBox, make('figure', { class: 'narrow' }, [canvas, caption])]),
      make('div', { class: 'later' }, [adding]),
    ]),
  );
  newStudy(0);
  report.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    choosePlace((state.place + step + buttons.length) % buttons.length);
  });
}

start(editExplorer);
