// Forms that ask before something is done, and what comes of them.
import { part, toast } from './page.js';
import { ended, explain, request } from './session.js';

const dialog = () => document.getElementById('dialog');

let asking = '';

// ask shows the form of an action. A second click while it is on its way, or while another form is open, asks for nothing.
export async function ask(href) {
  if (asking || dialog().open && !dialog().querySelector(`[data-dialog][href="${CSS.escape(href)}"]`)) return;
  asking = href;
  const html = await part(href, 'dialog', { failed: () => { asking = ''; } });
  asking = '';
  show(html);
}

function show(html) {
  const box = dialog();
  box.innerHTML = html;
  document.dispatchEvent(new CustomEvent('swapped'));
  if (!box.open) box.showModal();
  box.scrollTop = 0;
  const first = box.querySelector('[aria-invalid=true]') ?? box.querySelector('[role=alert], .yaml pre') ?? box.querySelector('input:not([type=hidden]), select, textarea, .dialog-end .primary:not(:disabled)');
  first?.focus();
  if (first?.matches('[aria-invalid], .note, pre')) first.scrollIntoView({ block: 'nearest' });
}

// close takes the form away, and whatever secret it shows. A form that is a page of its own leads back.
export function close() {
  const box = dialog();
  if (box.open) box.close();
  else if (document.querySelector('.dialog-alone')) location.assign('/');
  box.textContent = '';
}

// send does what a form asks for. The answer is the form again, or that it is done.
export async function send(form, button) {
  const data = new URLSearchParams(new FormData(form, button));
  const buttons = form.querySelectorAll('button:not(:disabled):not([data-cancel])');
  for (const b of buttons) b.disabled = true;
  // Without a dialog, the form is a page of its own, or a button.
  const inDialog = dialog().contains(form);
  try {
    const response = await request(form.getAttribute('action'), { method: 'POST', body: data, headers: { 'X-Fragment': 'dialog' } });
    if (ended(response)) {
      await explain(response, form);
      return;
    }
    if (response.status === 503 && inDialog) {
      // A replica that just got the session reads the objects first. The form stays for another try.
      toast('The server is not ready. Send it again in a moment');
      return;
    }
    if (inDialog && !form.isConnected) {
      toast(response.headers.get('X-Done') || 'The form was closed before its answer came');
      return;
    }
    if (response.status !== 204) {
      show(await response.text());
      return;
    }
    const to = response.headers.get('X-Go');
    if (to) {
      location.assign(to);
      return;
    }
    close();
    clear();
    toast(response.headers.get('X-Done') || 'Done');
  } catch {
    toast('The console does not answer');
  } finally {
    for (const b of buttons) b.disabled = false;
  }
}

// count says how many events are chosen.
export function count() {
  const bar = document.getElementById('chosen');
  if (!bar) return;
  const n = document.querySelectorAll('#rows input:checked').length;
  bar.hidden = n === 0;
  bar.querySelector('span').textContent = n === 1 ? '1 event chosen' : n + ' events chosen';
}

// clear chooses none.
export function clear() {
  for (const box of document.querySelectorAll('#rows input:checked')) box.checked = false;
  count();
}

export function start() {
  const box = dialog();
  box?.addEventListener('close', () => { box.textContent = ''; });
}
