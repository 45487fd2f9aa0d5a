
// ---- attention of a word

const GRID = 14;

function layAttention(pen, canvas, weights) {
  const small = make('canvas', { width: GRID, height: GRID });
  const colours = small.getContext('2d').createImageData(GRID, GRID);
  weights.forEach((weight, at) => {
    const strength = weight / 255;
    colours.data.set([255, weight, 0, 255 * 0.85 * Math.sqrt(strength)], 4 * at);
  });
  small.getContext('2d').putImageData(colours, 0, 0);
  pen.imageSmoothingEnabled = true;
  pen.drawImage(small, 0, 0, canvas.width, canvas.height);
}

function whereItPeaks(weights, names) {
  const at = weights.indexOf(255);
  const view = Math.floor(at / (GRID * GRID));
  const row = Math.floor((at % (GRID * GRID)) / GRID);
  const column = at % GRID;
  const height = row < 5 ? 'upper' : row < 9 ? 'middle' : 'lower';
  const side = column < 5 ? 'left' : column < 9 ? 'middle' : 'right';
  const place = height === side ? 'the middle' : `the ${height} ${side}`;
  const patient = { left: ', the patient’s right', right: ', the patient’s left' }[side];
  return `${place} of the ${names[view]} image${(names[view] === 'frontal' && patient) || ''}`;
}

async function wordExplorer({ studies }, box) {
  const state = { study: 0, word: 0, layer: studies[0].attention.length - 1, head: 0, boxes: false };
  const images = await Promise.all(studies.map(({ views }) => Promise.all(Object.values(views).map(loadImage))));
  const names = Object.keys(studies[0].views);
  const canvases = names.map((name) => newCanvas(`${name} X-ray with attention`));
  const captions = names.map(() => make('figcaption'));
  const pictures = make('div', { class: 'pictures' }, names.map((_, i) => make('figure', {}, [canvases[i], captions[i]])));
  const report = make('div', { class: 'report', role: 'group', 'aria-label': 'words of the report' });
  const said = make('p', { class: 'say', 'aria-live': 'polite' });
  let words = [];

  function show() {
    const study = studies[state.study];
    const found = study.attention[state.layer][state.head][state.word];
    const weights = bytesOf(found.map);
    names.forEach((name, i) => {
      const pen = drawXray(canvases[i], images[state.study][i]);
      layAttention(pen, canvases[i], weights.slice(i * GRID * GRID, (i + 1) * GRID * GRID));
      if (state.boxes) drawBoxes(pen, study.findings, name);
      captions[i].replaceChildren(`${name}: `, make('b', { text: percent(found.shares[i]) }), ' of the attention');
    });
    const even = 100 / weights.length;
    said.replaceChildren(
      make('b', { text: `“${study.words[state.word]}”` }),
      ` looks most at ${whereItPeaks(weights, names)}. The strongest of the ${weights.length} tokens gets `,
      make('b', { text: `${(100 * found.peak).toFixed(1)} %` }),
      `; spread evenly, each would get ${even.toFixed(2)} %.`,
    );
    words.forEach((button, place) => button.setAttribute('aria-pressed', String(place === state.word)));
  }

  function newStudy(number) {
    const study = studies[number];
    const named = new Set(study.findings.flatMap(({ name }) => name.split(' ').slice(-1)));
    state.study = number;
    state.word = Math.max(0, study.words.findIndex((word) => named.has(word)));
    words = writeReport(report, study.words, (word, place) => make('button', {
      class: 'word', type: 'button', text: word, click: () => { state.word = place; show(); },
    }));
    show();
  }

  const labels = studies.map(({ findings }, i) => [findings.map(({ name }) => name).join(', ') || 'no finding', i]);
  const layers = studies[0].attention.map((_, i) => [`layer ${i}`, i]);
  const heads = studies[0].attention[0].map((_, i) => [i ? `head ${i - 1}` : 'mean of all', i]);
  box.replaceChildren(
    choice('a study, by its true findings', labels, 0, newStudy),
    make('div', { class: 'two' }, [
      make('div', { class: 'stay' }, [
        pictures,
        make('p', { class: 'scale' }, [make('span', { text: 'little' }), make('i'), make('span', { text: 'most' })]),
      ]),
      make('div', { class: 'tall' }, [report, said]),
      make('div', {}, [
        make('div', { class: 'rowed' }, [
          choice('layer of the decoder', layers, state.layer, (layer) => { state.layer = layer; show(); }),
          choice('attention head', heads, 0, (head) => { state.head = head; show(); }),
        ]),
        checkBox('show where the findings are', false, (on) => { state.boxes = on; show(); }),
      ]),
    ]),
  );
  newStudy(0);
  report.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    state.word = (state.word + step + words.length) % words.length;
    words[state.word].focus();
    show();
  });
}

start(wordExplorer);
