// Keeps times current: how long ago something was, and how long until something comes.

const units = [[86400, 'd'], [3600, 'h'], [60, 'm'], [1, 's']];

function span(seconds, parts) {
  let words = [];
  for (const [size, unit] of units) {
    if (words.length === parts) break;
    const n = Math.floor(seconds / size);
    seconds -= n * size;
    if (n > 0) words.push(n + unit);
    else if (words.length > 0) break;
  }
  return words.join(' ') || '0s';
}

function say(time, text) {
  if (time.textContent !== text) time.textContent = text;
}

const clock = new Intl.DateTimeFormat(undefined, { month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'long' });

// local shows a time in the zone and the language of the browser. The server of a portal knows neither.
function local(time) {
  if (time.dataset.local) return;
  time.dataset.local = 'yes';
  const at = new Date(time.dateTime);
  time.title = full.format(at) + ' · ' + time.dateTime.slice(11, 19) + ' UTC';
  if (time.dataset.when !== undefined) say(time, clock.format(at));
}

export function tick() {
  document.querySelectorAll('time').forEach(local);
  const now = Date.now();
  for (const time of document.querySelectorAll('time[data-ago]')) {
    const seconds = Math.floor((now - Date.parse(time.dateTime)) / 1000);
    say(time, seconds < 1 ? 'now' : span(seconds, 1) + ' ago');
  }
  for (const time of document.querySelectorAll('time[data-until]')) {
    const seconds = Math.ceil((Date.parse(time.dateTime) - now) / 1000);
    say(time, seconds < 1 ? 'due' : span(seconds, 2));
  }
}

export function start() {
  tick();
  document.addEventListener('swapped', tick);
  setInterval(tick, 1000);
}
