// Tells the page around the frame how high this page is. Only the origins that the portal names hear it.
const origins = document.querySelector('meta[name=frames]').content.split(' ');

// heard are the origins that may be around the frame. A browser drops messages to others, and some browsers name the right one.
const around = location.ancestorOrigins;
const heard = around ? origins.filter((origin) => origin === around[0]) : origins;

// height has room for the page, and for a dialog or a sheet that lies above it.
function height() {
  const above = [...document.querySelectorAll('dialog[open], #sheet:not([hidden])')].map((box) => box.scrollHeight + 48);
  return Math.ceil(Math.max(document.body.getBoundingClientRect().bottom + scrollY, ...above));
}

let last = 0;
function tell() {
  const now = height();
  if (now === last) return;
  last = now;
  for (const origin of heard) parent.postMessage({ type: 'postback-portal', height: now }, origin);
}

if (parent !== window) {
  document.documentElement.classList.add('framed');
  new ResizeObserver(tell).observe(document.body);
  for (const box of document.querySelectorAll('dialog, #sheet')) new MutationObserver(tell).observe(box, { attributes: true, childList: true });
  tell();
}
