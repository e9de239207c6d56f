// The session of a portal's visitor: it is renewed before it ends, and a page whose session ended keeps what was typed.

// fresh reports whether the session needs no renewal. The server's cookie lasts until it does.
const fresh = () => document.cookie.includes('__Host-postback-fresh=');

// renew renews the session, once for all tabs of the browser. needed is asked when the other tabs are done.
export function renew(needed = () => true) {
  const once = async () => (needed() ? fetch('/signin/renew', { method: 'POST', headers: { 'X-Fragment': 'note' } }) : new Response(null, { status: 204 }));
  return navigator.locks ? navigator.locks.request('postback-renew', once) : once();
}

// request is fetch with the session of this page's namespace. If the session has to be renewed, the request is sent again.
export async function request(href, options = {}) {
  const headers = { ...options.headers };
  if (document.body.dataset.namespace) headers['X-Namespace'] = document.body.dataset.namespace;
  const send = () => fetch(href, { ...options, headers });
  const response = await send();
  if (response.headers.get('X-Session') !== 'renew') return response;
  const renewed = await renew();
  if (renewed.ok) return send();
  return renewed.headers.has('X-Session') ? renewed : response;
}

// ended reports whether a response says that there is no session any more.
export const ended = (response) => response.headers.has('X-Session');

// explain shows the note of such a response in the form that somebody fills in. Without one, the page may go.
export async function explain(response, form = document.querySelector('#dialog[open] form, .dialog-alone form')) {
  if (!form) {
    location.reload();
    return;
  }
  const template = document.createElement('template');
  template.innerHTML = (await response.text()).trim();
  const note = template.content.firstElementChild;
  form.querySelector('[data-ended]')?.remove();
  const title = form.querySelector('h2');
  if (title) title.after(note);
  else form.prepend(note);
  note.scrollIntoView({ block: 'nearest' });
}

let over = false;

async function check() {
  if (document.hidden || over || fresh()) return;
  try {
    const response = await renew(() => !fresh());
    over = response.status === 401;
  } catch {
    // The next check tries again, and so does every request.
  }
}

export function start() {
  if (!('renew' in document.body.dataset)) return;
  setInterval(check, 15000);
  document.addEventListener('visibilitychange', check);
  check();
}
