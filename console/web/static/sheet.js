// The sheet of one event, beside the log.
import { part } from './page.js';

const box = () => document.getElementById('sheet');
export const isOpen = () => box() !== null && !box().hidden;
const inner = () => box()?.querySelector('.sheet-in');

// mark shows which row of the log the sheet is about.
export function mark() {
  const key = isOpen() ? inner()?.dataset.key : '';
  for (const row of document.querySelectorAll('.row')) {
    const chosen = key !== '' && row.id === 'd-' + key;
    row.classList.toggle('chosen', chosen);
    row.querySelector('a').toggleAttribute('aria-current', chosen);
  }
}

let turn = 0;

async function fill(href) {
  const mine = ++turn;
  const html = await part(href, 'sheet');
  if (mine !== turn) return false;
  box().innerHTML = html;
  document.dispatchEvent(new CustomEvent('swapped'));
  return true;
}

export async function open(href, { push = true } = {}) {
  if (!await fill(href)) return;
  box().hidden = false;
  box().scrollTop = 0;
  if (push) history.pushState(null, '', href);
  mark();
  document.querySelector('.row.chosen')?.scrollIntoView({ block: 'nearest' });
  document.getElementById('sheet-title')?.focus({ preventScroll: true });
}

export function close({ push = true, focus = true } = {}) {
  if (!isOpen()) return;
  turn++;
  const href = box().querySelector('[data-close]')?.getAttribute('href') ?? box().dataset.close;
  const row = document.querySelector('.row.chosen a');
  box().hidden = true;
  box().textContent = '';
  mark();
  if (push) history.pushState(null, '', href);
  if (focus) (row ?? document.getElementById('main')).focus({ preventScroll: true });
}

// changed reads the sheet anew if it is about a delivery that changed, and leaves open and where it is what is being read.
export async function changed(key) {
  if (!isOpen() || inner()?.dataset.key !== key || !location.pathname.endsWith('/d/' + key)) return;
  // A new attempt comes on top of those that somebody reads.
  const read = [...box().querySelectorAll('details[data-attempt]')].find((d) => d.getBoundingClientRect().bottom > 60);
  const place = () => box().querySelector(`[data-attempt="${read?.dataset.attempt}"]`)?.getBoundingClientRect().top ?? 0;
  const scroll = box().scrollTop, before = place();
  const focused = box().contains(document.activeElement) ? document.activeElement : null;
  const selector = focused?.id ? '#' + focused.id : focused?.getAttribute('aria-label') ? `[aria-label="${CSS.escape(focused.getAttribute('aria-label'))}"]` : '';
  const unfolded = [...box().querySelectorAll('details[open]')].map((d) => d.dataset.attempt);
  if (!await fill(location.href)) return;
  for (const details of box().querySelectorAll('details')) details.open ||= unfolded.includes(details.dataset.attempt);
  box().scrollTop = scroll;
  if (scroll > 0) box().scrollTop += place() - before;
  if (selector) box().querySelector(selector)?.focus({ preventScroll: true });
}

// move goes to the event beside this one.
export function move(where) {
  const link = box()?.querySelector(`a[data-${where}]`);
  if (link) open(link.getAttribute('href'));
}
