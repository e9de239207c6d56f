// What happens at clicks and keys.
import * as dialog from './dialog.js';
import { part, toast } from './page.js';
import * as tip from './tip.js';
import * as live from './live.js';
import * as session from './session.js';
import * as sheet from './sheet.js';
import * as time from './time.js';

function plain(e) { return e.button === 0 && !e.metaKey && !e.ctrlKey && !e.shiftKey && !e.altKey; }

async function copy(button) {
  const text = button.dataset.copy ?? await part(button.dataset.copyFrom, 'text');
  try {
    await navigator.clipboard.writeText(text);
    toast('Copied');
  } catch {
    toast('The browser did not allow copying');
  }
}

document.addEventListener('click', (e) => {
  const target = e.target.closest('a, button');
  for (const menu of document.querySelectorAll('details.menu[open]')) {
    if (!menu.contains(e.target) || target?.closest('.menu-list')) menu.open = false;
  }
  if (!target || !plain(e)) return;
  const href = target.getAttribute('href');
  let handled = true;
  if (target.dataset.copy !== undefined || target.dataset.copyFrom) copy(target);
  else if (target.dataset.sheet !== undefined) sheet.open(href);
  else if (target.dataset.close !== undefined) sheet.close();
  else if (target.dataset.dialog !== undefined) dialog.ask(href);
  else if (target.dataset.cancel !== undefined) dialog.close();
  else if (target.dataset.clear !== undefined) dialog.clear();
  else if (target.id === 'pill') live.show(href, { top: true });
  else if (target.closest('#phases, #tallies')) live.show(href);
  else if (target.closest('#paging')) live.show(href, { top: true });
  else handled = false;
  if (handled) e.preventDefault();
});

// address returns where a form of filters leads.
function address(form) {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    if (value.trim() !== '') query.set(name, value.trim());
  }
  // A filter beside the form is part of the address alone.
  const kept = form.dataset.kept && new URLSearchParams(location.search).get(form.dataset.kept);
  if (kept) query.set(form.dataset.kept, kept);
  const text = query.toString();
  return form.getAttribute('action') + (text ? '?' + text : '');
}

let typing;
document.addEventListener('input', (e) => {
  const form = e.target.closest('[data-filters], form[role=search]');
  if (!form) return;
  clearTimeout(typing);
  typing = setTimeout(() => live.show(address(form), { push: false }), e.target.type === 'search' ? 200 : 0);
});
document.addEventListener('change', (e) => { if (e.target.closest('#rows')) dialog.count(); });
document.addEventListener('submit', (e) => {
  if (e.target.matches('[data-do]')) {
    e.preventDefault();
    dialog.send(e.target, e.submitter);
    return;
  }
  const form = e.target.closest('[data-filters], form[role=search]');
  if (!form) return;
  e.preventDefault();
  clearTimeout(typing);
  live.show(address(form), { push: false });
});

// moveInRows moves in the log or the list: from the row in focus, or else to the first one that can be seen.
function moveInRows(e) {
  const row = e.target.closest('.row, .card');
  let next;
  if (row) next = e.key === 'ArrowDown' ? row.nextElementSibling : row.previousElementSibling;
  else next = [...document.querySelectorAll('.row, .card')].find((r) => r.getBoundingClientRect().bottom > 60);
  if (!next) return;
  e.preventDefault();
  next.querySelector('a').focus();
}

document.addEventListener('keydown', (e) => {
  if (e.metaKey || e.ctrlKey || e.altKey || document.querySelector('dialog[open]')) return;
  const typed = e.target.closest('input:not([type=checkbox]), textarea, select');
  if (e.key === 'Escape') {
    const menu = document.querySelector('details.menu[open]');
    if (menu) {
      menu.open = false;
      menu.querySelector('summary').focus();
    } else if (typed) typed.blur();
    else sheet.close();
  } else if (typed) return;
  else if (e.key === '/') {
    e.preventDefault();
    document.getElementById('search')?.focus();
  } else if (sheet.isOpen() && (e.key === 'ArrowLeft' || e.key === 'ArrowRight')) {
    e.preventDefault();
    sheet.move(e.key === 'ArrowLeft' ? 'newer' : 'older');
  } else if ((e.key === 'ArrowDown' || e.key === 'ArrowUp') && !e.target.closest('#sheet, details')) moveInRows(e);
});

addEventListener('popstate', () => {
  const log = document.getElementById('log');
  if (!log) location.reload();
  else if (location.pathname.includes('/d/')) sheet.open(location.href, { push: false });
  else if (sheet.isOpen()) sheet.close({ push: false });
  else live.show(location.href, { push: false });
});

time.start();
session.start();
live.start();
dialog.start();
tip.start();
sheet.mark();
