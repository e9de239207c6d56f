// What the other scripts share: parts of pages from the server, put into place without losing the reader's.
import { ended, explain, request } from './session.js';

// part fetches a part of a page. The server says where to go instead if there is no such part any more.
export async function part(href, name, options = {}) {
  let response;
  try {
    response = await request(href, { ...options, headers: { 'X-Fragment': name } });
  } catch {
    toast('The console does not answer');
    options.failed?.();
    return new Promise(() => {});
  }
  const go = response.headers.get('X-Go');
  if (go) {
    location.assign(go);
    return new Promise(() => {});
  }
  if (ended(response)) {
    options.failed?.();
    explain(response);
    return new Promise(() => {});
  }
  if (response.status === 401) {
    location.reload();
    return new Promise(() => {});
  }
  return response.text();
}

function element(html) {
  const template = document.createElement('template');
  template.innerHTML = html.trim();
  return template.content.firstElementChild;
}

// swap replaces an element, and gives the focus and the text that is being typed to what takes the place.
export function swap(old, html) {
  const fresh = element(html);
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  let selector = '';
  if (focused?.id) selector = '#' + CSS.escape(focused.id);
  else if (focused?.getAttribute('href')) selector = `[href="${CSS.escape(focused.getAttribute('href'))}"]`;
  const typed = focused instanceof HTMLInputElement && focused.type === 'search' ? [focused.value, focused.selectionStart] : null;
  old.replaceWith(fresh);
  const again = selector && (fresh.matches(selector) ? fresh : fresh.querySelector(selector));
  if (again) {
    again.focus({ preventScroll: true });
    if (typed) {
      again.value = typed[0];
      again.setSelectionRange(typed[1], typed[1]);
    }
  }
  document.dispatchEvent(new CustomEvent('swapped'));
  return fresh;
}

export function make(html) { return element(html); }

let hide;
// toast says something in passing.
export function toast(text) {
  const box = document.getElementById('toast');
  box.textContent = text;
  box.hidden = false;
  clearTimeout(hide);
  hide = setTimeout(() => { box.hidden = true; }, 2400);
}
