// Keeps a page current by what the server sends as it happens.
import { count } from './dialog.js';
import { make, part, swap } from './page.js';
import { ended, request } from './session.js';
import * as sheet from './sheet.js';

const most = 50;
let source;
let revision = 0;
const held = new Set();

function state(name, text, why = '') {
  const live = document.getElementById('live');
  live.dataset.state = name;
  live.title = why;
  live.querySelector('b').textContent = text;
}

// connect opens the stream of the page. A hidden page has none: browsers allow six connections to one host.
export function connect() {
  source?.close();
  const on = document.querySelector('[data-live]');
  document.getElementById('live').hidden = !on;
  if (!on || document.hidden) return;
  const url = new URL(on.dataset.live, location.href);
  if (on.dataset.revision) revision = Math.max(revision, Number(on.dataset.revision));
  if (revision) url.searchParams.set('revision', revision);
  source = new EventSource(url);
  const mine = source;
  source.onopen = () => { if (mine === source) judge(); };
  source.onerror = () => {
    if (mine !== source) return;
    state('lost', 'Console not reached');
    // The stream was refused: the console was started again and knows this page no more, or there are too many pages.
    if (source.readyState === EventSource.CLOSED) setTimeout(retry, 1000);
  };
  source.addEventListener('patch', (e) => JSON.parse(e.data).forEach(patch));
  source.addEventListener('rows', (e) => {
    revision = Number(e.lastEventId) || revision;
    JSON.parse(e.data).forEach(row);
    settle();
  });
  source.addEventListener('reload', (e) => reload(JSON.parse(e.data)));
}

// refused says in the corner why the page is not current, and connects again when the server wants it.
async function refused(response) {
  const page = new DOMParser().parseFromString(await response.text(), 'text/html');
  state('lost', 'Not live', page.querySelector('main p')?.textContent);
  setTimeout(connect, 1000 * (Number(response.headers.get('Retry-After')) || 60));
}

async function retry() {
  try {
    const mine = source;
    // The server says why it refused the stream. If it does not any more, the answer is aborted.
    const ask = new AbortController();
    const response = await request(source.url, { signal: ask.signal });
    if (mine !== source) ask.abort();
    else if (response.status === 503 || response.status === 429) await refused(response);
    else if (response.headers.get('X-Session') === 'renew') setTimeout(retry, 5000);
    else {
      ask.abort();
      judgeEnd(response);
    }
  } catch {
    if (source.readyState === EventSource.CLOSED) setTimeout(retry, 1000);
  }
}

// judgeEnd connects again, unless the session has ended.
function judgeEnd(response) {
  if (response.status === 401 || ended(response)) state('lost', document.querySelector('form[action="/signout"]') ? 'Session ended' : 'Console ended');
  else if (source.readyState === EventSource.CLOSED) connect();
}

// judge says in the corner whether what is shown is current.
function judge() {
  const problem = document.querySelector('#problem .problem');
  if (problem) state('lost', problem.dataset.short);
  else state('live', 'Live');
}

function patch({ id, html }) {
  const old = document.getElementById(id);
  if (old && html && !old.querySelector('details.menu[open]')) swap(old, html);
  else if (old && !html) old.remove();
  if (id === 'problem') judge();
}

async function reload(what) {
  if (what === 'page') {
    location.reload();
    return;
  }
  const href = location.href;
  const html = await part(href, 'main');
  const main = document.getElementById('main');
  // The reader has gone on meanwhile: what came is of the page before.
  if (href !== location.href) reload(what);
  else if (main) {
    swap(main, html);
    sheet.mark();
  }
}

// before reports whether a row stands above another in the log.
function before(a, b) {
  const [createdA, eventA] = a.split('_').map(Number);
  const [createdB, eventB] = b.split('_').map(Number);
  return createdA - createdB || eventA - eventB || (a < b ? 1 : -1);
}

function row(told) {
  sheet.changed(told.key);
  const old = document.getElementById(told.id);
  if (old) {
    const chosen = old.querySelector('input')?.checked;
    if (!told.html) old.remove();
    else if (chosen) swap(old, told.html).querySelector('input').checked = true;
    else swap(old, told.html);
    return;
  }
  const rows = document.getElementById('rows');
  if (!rows || !told.html) return;
  const next = [...rows.children].find((r) => before(told.cursor, r.dataset.cursor) > 0);
  const onTop = next ? next === rows.firstElementChild : rows.children.length === 0;
  if (onTop && reading(rows)) held.add(told.key);
  else if (next || rows.children.length < most) {
    const fresh = make(told.html);
    fresh.classList.add('new');
    rows.insertBefore(fresh, next ?? null);
    if (rows.children.length > most) rows.lastElementChild.remove();
  }
}

// reading returns true if a new row on top would move a row that somebody reads or points at, or belongs to another page. The first
// row of an empty log moves none.
function reading(rows) {
  const log = document.getElementById('log');
  if (log.dataset.first !== 'yes') return true;
  return rows.children.length > 0 && (log.getBoundingClientRect().top < 0 || sheet.isOpen() ||
    log.querySelector('#rows:hover, #rows :focus, #rows input:checked') !== null);
}

// settle puts the log in order after rows have come or gone.
function settle() {
  const rows = document.getElementById('rows');
  if (!rows) return;
  while (rows.children.length > most) rows.lastElementChild.remove();
  document.getElementById('no-rows').hidden = rows.children.length > 0;
  count();
  const pill = document.getElementById('pill');
  pill.hidden = held.size === 0;
  pill.querySelector('span').textContent = held.size + ' new';
  sheet.mark();
  document.dispatchEvent(new CustomEvent('swapped'));
}

// show replaces the log by that of another address.
export async function show(href, { push = true, top = false } = {}) {
  // The sheet has an address of its own, and the filters of before.
  sheet.close({ push: false, focus: false });
  const { id } = document.getElementById('log') ?? document.getElementById('cards');
  const html = await part(href, id);
  held.clear();
  // By now it may be another element than it was.
  const log = swap(document.getElementById(id), html);
  if (push) history.pushState(null, '', href);
  else history.replaceState(null, '', href);
  if (top) log.scrollIntoView({ block: 'start' });
  sheet.mark();
  connect();
}

export function start() {
  connect();
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) source?.close();
    else connect();
  });
  addEventListener('pagehide', () => source?.close());
  addEventListener('pageshow', (e) => { if (e.persisted) connect(); });
}
