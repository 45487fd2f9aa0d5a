// The menu of small screens, and a search that loads its index at the first use. The folder of this script stands in the root of the site.
(() => {
  const root = new URL('..', document.currentScript.src).href;
  const menu = document.getElementById('menu'), box = document.getElementById('search'), found = document.getElementById('found'), side = document.getElementById('side');
  menu.onclick = () => menu.setAttribute('aria-expanded', document.body.classList.toggle('menu'));
  document.getElementById('theme').onclick = () => {
    const root = document.documentElement.dataset;
    localStorage.theme = root.theme = root.theme === 'dark' ? 'light' : 'dark';
  };
  const here = side.querySelector('.here');
  if (here && here.offsetTop > side.clientHeight) side.scrollTop = here.offsetTop - side.clientHeight / 2;
  let loading = null;
  const load = () => loading ||= new Promise((done, fail) => {
    const script = document.createElement('script');
    script.src = root + 'site/search.js'; script.onload = done; script.onerror = fail;
    document.head.append(script);
  });
  const escape = text => text.replace(/[&<>"]/g, c => ({'&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;'})[c]);
  const snippet = (text, word) => {
    const at = Math.max(0, text.toLowerCase().indexOf(word)), start = Math.max(0, at - 50);
    const cut = text.slice(start, at + word.length + 90);
    return (start ? '…' : '') + escape(cut).replaceAll(new RegExp(word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), 'gi'), '<mark>$&</mark>') + '…';
  };
  const search = async () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(w => w.length > 1);
    if (!words.length) { found.hidden = true; return; }
    await load();
    const scored = [];
    for (const [url, page, title, text] of window.SEARCH) {
      const heads = [page.toLowerCase(), title.toLowerCase()], low = text.toLowerCase();
      let score = 0;
      for (const word of words) {
        const times = low.split(word).length - 1, head = 30 * (heads[1] === word) + 12 * heads[1].includes(word) + 6 * heads[0].includes(word);
        if (!times && !head) { score = 0; break; }
        score += head + Math.min(times, 5);
      }
      if (/(solutions|exercises)\//.test(url)) score /= 4;  // answers come last
      if (score) scored.push([score, url, page, title, text]);
    }
    scored.sort((a, b) => b[0] - a[0]);
    found.innerHTML = scored.slice(0, 20).map(([, url, page, title, text]) => `<li><a href="${root}${url}"><b>${escape(page)}${title ? ' › ' + escape(title) : ''}</b><span>${snippet(text, words[0])}</span></a></li>`).join('') || '<li class="none">nothing found</li>';
    found.hidden = false;
  };
  box.onfocus = load; box.oninput = search;
  document.addEventListener('keydown', e => {
    if (e.key === '/' && document.activeElement !== box) { e.preventDefault(); box.focus(); }
    if (e.key === 'Escape') { found.hidden = true; box.blur(); }
    if (e.key === 'Enter' && document.activeElement === box) found.querySelector('a')?.click();
  });
  document.addEventListener('click', e => { if (!e.target.closest('header')) found.hidden = true; });
})();
